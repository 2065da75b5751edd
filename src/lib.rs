//! Elapse: one serverless (FaaS) worker in two worlds.
//!
//! In **simulation** a virtual clock jumps from wakeup to wakeup: eight hours of 250 Azure functions pass in about a second.
//! **Live**, the same worker code runs on tokio. This library is the product too: [`world::Run`] takes a scenario and policies of yours.
//!
//! The map; a folder with a manifest is a crate, so that imports point down only:
//!
//! ```text
//! main . cli                words: flags, help, exit codes, printing
//! world . live . journal    assembles a run; real containers as backends; what a daemon remembers
//! src/plot                  pictures and the page of a run
//! src/load    src/report    traces and generators | records, figures, tables, comparisons
//! src/core                  worker, policies, controller, simulated backends, metrics, units
//! src/rt                    time, tasks and chance in two arms; knows no FaaS
//! real/    real/agent       Linux | the server inside a container; know no FaaS
//! ```
//!
//! An invocation's way: [`load`] says when it arrives and how long it takes, [`world`] sends it at that instant,
//! [`worker`] queues and dispatches it, a [`backend`] creates its container and runs it, [`report`] records it.

pub mod journal;
pub mod world;

mod live;

pub use elapse_core::{base, controller, metrics, worker};
pub use elapse_load as load;
pub use elapse_plot as plot;
pub use elapse_report as report;
pub use elapse_rt as rt;

/// What creates containers: modelled ones, measured ones and real ones.
pub mod backend {
    pub use crate::live::{Keeper, Live};
    pub use elapse_core::backend::*;
}
