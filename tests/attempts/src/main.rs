//! What the code of a function might try in its sandbox.
//!
//! `elapse-attempts list` names the attempts; a name on the command line, or as the input, makes one. It prints `through: WHAT` where
//! the attempt came through, and `held: WHY` where it did not. Nothing here harms the host: what came through is undone, or
//! asks for nothing that matters. `status` prints what the kernel says of the process.

mod calls;
mod tries;

use std::io::Read;
use std::process::ExitCode;
use tries::ALL;

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_else(|| {
        let mut text = String::new();
        let _ = std::io::stdin().read_to_string(&mut text);
        text
    });
    let mut words = name.split_whitespace();
    let (name, given) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    match name {
        "list" => ALL.iter().for_each(|(name, _)| println!("{name}")),
        "status" => print!("{}", std::fs::read_to_string("/proc/self/status").unwrap_or_default()),
        _ => match ALL.iter().find(|(known, _)| *known == name) {
            Some((_, attempt)) => match attempt(given) {
                Ok(what) => println!("through: {what}"),
                Err(why) => println!("held: {why}"),
            },
            None => {
                println!("there is no attempt '{name}'");
                return ExitCode::FAILURE;
            }
        },
    }
    ExitCode::SUCCESS
}
