//! Graphite: points sent to its carbon, and read back from its web application.
//!
//! `send` keeps one connection in a thread of its own; whoever offers points never waits for it. `fetch` reads series by
//! the render API. `probe` finds out by experiment what a Graphite keeps: its steps, how long, and how it aggregates.

mod fetch;
mod probe;
mod send;

pub use fetch::{Client, Fetched};
pub use probe::{Archive, Probe, creations, probe, step_of};
pub use send::{Protocol, Report, Sender};
