//! One serverless worker, and what it consists of. Nothing here knows a file of a user's, a socket or this host.
//!
//! ```text
//! worker . controller             no arrows among these
//! backend . metrics               no arrows among these
//! base                            units, what an invocation is, faults
//! ```

#![forbid(unsafe_code)]

pub mod backend;
pub mod base;
pub mod controller;
pub mod metrics;
pub mod worker;

pub use elapse_rt as rt;
