//! The tests of the runtime: its simulated arm by itself, and what both arms promise. A program of their own, which valgrind runs too.

mod contract;
mod sim;
