//! What the program says of a command line that makes no sense.
//!
//! That there is a test of the program at all has it built with all tests, in one go: they start it as a backend.

use std::process::Command;

#[test]
fn a_scenario_that_is_unknown_is_named_beside_those_that_are_known() {
    let program = env!("CARGO_BIN_EXE_gatehouse-loadtest");
    let output = Command::new(program).args(["bench", "--only", "plian"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("`plian` is unknown; known are plain, tls,"), "{error}");
    assert!(!output.status.success() && output.stdout.is_empty());
}
