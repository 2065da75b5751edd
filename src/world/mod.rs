//! The world: assembles a run. The only place that knows which world it is.

mod about;
mod assemble;
mod calibrate;
mod daemon;
mod doctor;
mod drive;
mod graphite;
mod live;
mod operate;
mod plan;
mod remote;
mod run;
mod scenario;
mod threads;

pub use calibrate::{Calibrating, Stage};
pub use daemon::{Client, ControllerConfig, DaemonConfig, run as worker, run_controller as controller};
pub use doctor::doctor;
pub use graphite::{
    FromGraphite, GraphiteConfig, Pulled, Shift, Wire, check as graphite_check, pull as graphite_pull,
};
pub use live::{BACKENDS, clean};
pub use plan::{Overrides, load_controller, load_daemon, load_plan};
pub use remote::Target;
pub use run::{Finished, Progress, Run};
pub use scenario::{AtEnd, Measure, Metrics, Scenario, Start};
