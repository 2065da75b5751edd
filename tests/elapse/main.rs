//! The tests of the whole, one program: what users and other components see, of the library, of the program and of its daemons.
//!
//! What needs processes, containers or a Graphite says so, and is skipped by name where that is missing (`common::has`). One file is run
//! with `cargo test --workspace --test elapse live::`.

mod azure;
mod backend_contract;
mod both_worlds;
mod cli;
mod common;
mod compare;
mod controller;
mod counts;
mod daemon;
mod distributions;
mod docs;
mod doors;
mod events;
mod fleet;
mod graphite;
mod graphite_away;
mod hostile;
mod images;
mod interrupt;
mod live;
mod losses;
mod network;
mod numbers;
mod planted;
mod policies;
mod probes;
mod protocol;
mod report;
mod security;
mod state;
mod theory;
mod traces;
mod worker;
