//! Elapse: one serverless worker in two worlds.
pub mod backend;
pub mod base;
pub mod metrics;
pub mod rt;
pub mod worker;
