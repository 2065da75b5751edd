//! Words that every room shares: units, ids, what an invocation is, and how a fault is told.
//!
//! Nothing here knows a clock, a worker or a file. Siblings in the rows above never import each other; what two of
//! them share is defined here.

mod dist;
mod exchange;
mod explain;
mod fault;
mod fnv;
mod function;
pub mod interrupt;
mod invocation;
mod open_set;
mod policy;
mod sinks;
mod units;

pub use dist::{Dist, Quantity};
pub use exchange::{Exchange, Reply, Sent, Target};
pub use explain::explain;
pub use fault::{Fault, FaultKind, Result, nearest};
pub use fnv::Fnv;
pub use function::{Behaviour, Compute, FunctionId, FunctionSpec, Network, Program, Protocol, Unit};
pub use invocation::{ColdCause, Held, Invocation, Record, StartKind, Status, Waited, WorkerCounts};
pub use open_set::{Member, OpenSet};
pub use policy::PolicyConfig;
pub use sinks::{CompletionSink, InvocationSink};
pub use units::{Cpus, Mem};

pub use elapse_rt::number::{CENTURY, NumberFault, decimal, leading_decimal, time_of};
pub use elapse_rt::{Duration, Time};
