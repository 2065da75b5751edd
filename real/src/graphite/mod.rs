//! Graphite: points sent to its carbon, and read back from its web application.
//!
//! `send` keeps one connection in a thread of its own; whoever offers points never waits for it. `client` asks the web
//! application, `fetch` reads series by its render API, `name` writes their names as it reads them. `probe` finds out by
//! experiment what a Graphite keeps: its steps, how long, and how it aggregates.

mod client;
mod fetch;
mod name;
mod probe;
mod send;

pub use client::Client;
pub use fetch::Fetched;
pub use name::is_pattern;
pub use probe::{Archive, Probe, creations, probe, step_of};
pub use send::{Protocol, Report, Sender};
