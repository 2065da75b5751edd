//! The controller: it has several workers and gives each invocation to one of them.
//!
//! The [`protocol`] with its [`Fleet`] and [`balancer`]s is the controller in both worlds. Simulated, [`Controller`] drives it over a
//! network with delays and losses; live, the daemon drives it over HTTP.

pub mod balancer;
mod config;
mod fleet;
pub mod protocol;
mod simulated;

pub use config::{Breakage, Config, FaultConfig, OnLoss};
pub use fleet::{Fleet, Health, Place, Report, key_of};
pub use simulated::Controller;
