//! Graphite beside a run: points sent to its carbon, and series read back from its web application.
//!
//! `send` keeps one connection in a thread of its own; whoever offers points never waits for it. `client` asks the web
//! application, `fetch` reads series by its render API, `name` writes their names as it reads them. `probe` finds out by
//! experiment what a Graphite keeps: its steps, how long, and how it aggregates. `session` is a run's publisher, `visit` what it
//! does when the run is over, `pull` the same for a run that was over before.

#![expect(
    clippy::disallowed_methods,
    reason = "threads beside the event loop, and what a run waits for at its end"
)]

mod check;
mod client;
mod fetch;
mod name;
mod patience;
mod probe;
mod pull;
mod remarks;
mod send;
mod session;
mod visit;

pub use check::check;
pub use client::{Client, client_of};
pub use fetch::Fetched;
pub use name::is_pattern;
pub use patience::Patience;
pub use probe::{Archive, Probe, creations, probe, step_of};
pub use pull::pull;
pub use send::{Protocol, Report, Sender};
pub use session::GraphiteSession;
pub use visit::open;
