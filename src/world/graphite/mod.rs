//! Graphite beside a run: what is sent to it, what is fetched back, and what it was seen to keep.

mod check;
mod config;
mod pull;
mod remarks;
mod station;
mod visit;

pub use check::check;
pub use config::{GraphiteConfig, Shift, Wire};
pub use pull::{Pulled, pull};
pub(super) use station::Station;
pub use visit::FromGraphite;
pub(super) use visit::{Marker, Visit};
