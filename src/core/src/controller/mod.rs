//! The controller: it has several workers and gives each invocation to one of them.
//!
//! [`Fleet`] and its [`balancer`]s are the controller in both worlds. Simulated, [`Controller`] is a front for the workers
//! of a run; live, the daemon asks the same fleet and sends over HTTP.

pub mod balancer;
mod config;
mod fleet;
mod front;

pub use config::Config;
pub use fleet::{Fleet, Health, Place, Report, key_of};
pub use front::Controller;
