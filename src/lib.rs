//! Elapse: one serverless (FaaS) worker in two worlds.
//!
//! In **simulation** a virtual clock jumps from wakeup to wakeup: eight hours of 250 Azure functions pass in about a second.
//! **Live**, the same worker code runs on tokio. This library is the product too: [`world::Run`] takes a scenario and policies of yours.
//!
//! The map; imports point down only, and a test holds it:
//!
//! ```text
//! main . cli                      words: flags, help, exit codes, printing
//! world                           assembles a run; the only place that knows which world it is
//! worker . controller . load . report     no arrows among these
//! backend . journal . metrics     no arrows among these
//! rt -> base                      time, tasks, chance; units, what an invocation is, faults
//! real/ (own crate)               Linux; knows no FaaS
//! ```
//!
//! An invocation's way: [`load`] says when it arrives and how long it takes, [`world`] sends it at that instant,
//! [`worker`] queues and dispatches it, a [`backend`] creates its container and runs it, [`report`] records it.

pub mod backend;
pub mod base;
pub mod controller;
pub mod journal;
pub mod load;
pub mod metrics;
pub mod report;
pub mod rt;
pub mod worker;
pub mod world;
