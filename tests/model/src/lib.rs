//! A second model of what the simulator does, slow and plain, written from the design's section on semantics alone.
//!
//! It shares no code with the simulator and has no dependency. Wherever a rule of the design is applied, a comment that
//! begins with `Law:` names it, so that a reader can hold the two beside each other; where the design is silent, a comment
//! that begins with `Assumed:` says what was taken. Everything random is handed in: when invocations arrive, how long they
//! execute, whether they fail, how much memory they use.
//!
//! | file | rules |
//! |---|---|
//! | `plan` | what is handed in |
//! | `record` | what comes out |
//! | `timers` | one instant |
//! | `world` | what happens at an event: arrival, creation, execution, return |
//! | `worker` | what a worker holds: permits, memory, containers, what it has learnt |
//! | `dispatch` | whose turn it is, and in which container |
//! | `room` | memory and GPUs for a container |
//! | `queue` | the order of the waiting |
//! | `eviction` | who makes room |
//! | `sharing` | processor sharing |
//! | `controller` | which worker an invocation goes to |

mod controller;
mod dispatch;
mod eviction;
pub mod plan;
mod queue;
pub mod record;
mod room;
mod sharing;
mod timers;
mod worker;
mod world;

pub use world::{Told, run};
