//! The world: assembles a run. The only place that knows which world it is.

mod about;
mod assemble;
mod calibrate;
mod daemon;
mod doctor;
mod drive;
mod facts;
mod graphite;
mod keys;
mod live;
mod means;
mod operate;
mod plan;
mod remote;
mod run;
mod scenario;
mod setup;
mod threads;
mod window;

pub use calibrate::calibrate;
pub use daemon::{Client, ControllerConfig, DaemonConfig, run as worker, run_controller as controller};
pub use doctor::doctor;
pub use graphite::{
    FromGraphite, GraphiteConfig, Pulled, Shift, Wire, check as graphite_check, pull as graphite_pull,
};
pub use keys::words_of;
pub use live::{BACKENDS, clean};
pub use plan::{Overrides, Plan, load_controller, load_daemon, load_plan};
pub use remote::Target;
pub use run::{Finished, Progress, Run};
pub use scenario::{AtEnd, GiveUp, Measure, Metrics, Plots, Scenario, Start};
