//! Probes: small programs that once found a fault, in the runtime and in the worker, and random ones that look for others.

mod keep_alive;
mod law;
mod runtime;
mod worker;
