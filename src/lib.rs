//! Elapse: one serverless worker in two worlds.
#![forbid(clippy::todo)]
pub mod base;
pub mod rt;
