//! The program is built with the tests, which run it: see `tests/common`.

use std::process::Command;

#[test]
fn the_program_tells_what_it_is() {
    let told = Command::new(env!("CARGO_BIN_EXE_elapse")).arg("--version").output().expect("it was started");
    let said = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.status.success() && said.starts_with("elapse "), "{said}");
}
