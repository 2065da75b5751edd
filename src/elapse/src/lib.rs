//! Elapse: one serverless (FaaS) worker in two worlds.
//!
//! In **simulation** a virtual clock jumps from wakeup to wakeup: eight hours of 250 Azure functions pass in about a second.
//! **Live**, the same worker code runs on tokio and starts real containers. This library is the product too: [`Run`] takes a scenario
//! and policies of yours.
//!
//! The map; each folder is a crate, and imports point down only:
//!
//! ```text
//! src/cli                    words: flags, help, exit codes, printing (the program)
//! real/daemon   real/live    API, controller and worker as daemons | engines as backends, calibration, remote load, Graphite
//! src/elapse                 this: scenarios, runs, what another world needs
//! src/plot                   pictures and the page of a run
//! src/load      src/report   traces and generators | records, figures, tables, comparisons
//! src/core                   worker, policies, controller, simulated backends, metrics, units
//! src/rt                     time, tasks and chance in two arms; knows no FaaS
//! real/host     real/agent   Linux | the server inside a container; know no FaaS
//! ```
//!
//! An invocation's way: [`load`] says when it arrives and how long it takes, a [`Run`] sends it at that instant, [`worker`] queues
//! and dispatches it, a [`backend`] creates its container and runs it, [`report`] records it.
//!
//! Nothing here knows that `real/` exists. A run in another world than the simulated one is driven by who implements [`world::World`],
//! and what happens with a run's points outside of its folder is a [`Publisher`].

#![forbid(unsafe_code)]

mod about;
mod assemble;
mod begun;
mod came_to;
mod drive;
mod facts;
mod graphite;
mod host;
mod interrupt;
pub mod keys;
mod lives;
mod means;
mod operate;
mod own;
mod plan;
mod publisher;
mod run;
mod scenario;
mod setup;
mod window;
mod with;
pub mod world;

pub use elapse_core::{backend, base, controller, metrics, worker};
pub use elapse_load as load;
pub use elapse_plot as plot;
pub use elapse_report as report;
pub use elapse_rt as rt;

pub use begun::Progress;
pub use graphite::{GraphiteConfig, Shift, Wire};
pub use host::{Host, Usage, host, usage};
pub use interrupt::Interrupt;
pub use plan::{Overrides, Plan, USUAL_TIMEOUT, function_of, load_plan, read_plan};
pub use publisher::{ClockMarker, FromGraphite, Opener, Over, Publisher, Pulled};
pub use run::{Finished, Run};
pub use scenario::{AtEnd, GiveUp, Measure, Metrics, Plots, Scenario, Start};

/// What a program needs that runs scenarios, with policies of its own or without.
pub mod prelude {
    pub use crate::base::{Duration, Fault, Mem, Result, Time};
    pub use crate::load::{Source, Workload};
    pub use crate::worker::event::{Observer, WorkerEvent};
    pub use crate::worker::eviction::Eviction;
    pub use crate::worker::keep_alive::{Keep, KeepAlive, Rested};
    pub use crate::worker::queue::QueuePolicy;
    pub use crate::{Finished, Overrides, Run, Scenario, load_plan};
}
