//! Elapse: one serverless worker in two worlds.
pub mod backend;
pub mod base;
pub mod metrics;
pub mod report;
pub mod rt;
pub mod load;
pub mod worker;
pub mod world;
