//! Elapse on this host: the same worker as in simulation, on tokio, with real containers.
//!
//! ```text
//! here       a run on this host: its engines, its load, what it leaves; and the host cleaned
//! remote     load against a worker or a controller that runs elsewhere
//! address    where an API is, as it is written, and a client of it
//! agent      our agent, which goes into containers: beside the program, or inside it
//! backend    any engine of elapse-host, with the wire into its sandboxes, as a backend of the worker
//! calibrate  what this host takes for creations, invocations and removals, for the simulator
//! graphite   points sent to Graphite, and series fetched back
//! doctor     what this host can run, and what would spoil a run
//! threads    the threads beside the event loop, on show
//! ```

#![forbid(unsafe_code)]

mod address;
mod agent;
pub mod backend;
mod calibrate;
mod doctor;
pub mod graphite;
pub mod here;
mod remote;
pub mod threads;

pub use address::{address, peer};
pub use calibrate::{Calibrating, Stage};
pub use doctor::doctor;
pub use here::{Engines, clean, live};
pub use remote::{Target, live_at};
