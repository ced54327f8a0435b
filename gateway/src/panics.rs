//! Panics: faults of this program. One ends the connection or the thread in which it happens, and nothing else (P56); that it
//! has happened is said where operators look.

use std::{panic, thread};

use crate::process::ProcessProblems;

/// The reason of its problem.
const PANICKED: &str = "ThreadPanicked";

/// Raises a problem for every thread that panics, besides the lines on standard error.
pub(crate) fn watch(problems: ProcessProblems) {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        print(panic);
        let thread = thread::current();
        let name = thread.name().unwrap_or("without a name");
        let place = panic.location().map(|at| format!(" at {}:{}", at.file(), at.line()));
        problems.error(
            PANICKED,
            name,
            format!(
                "a fault of this program: a panic in thread {name}{}; what was under way there has ended, all else goes on",
                place.unwrap_or_default()
            ),
            "report it with the lines of standard error, and restart the process when it suits",
        );
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_panics_is_a_problem_with_the_place() {
        let problems = ProcessProblems::new("n");
        watch(problems.clone());
        let ended = thread::Builder::new().name("worker".to_owned()).spawn(|| panic!("a test"));
        assert!(ended.unwrap().join().is_err());
        let all = problems.all();
        let found = all.iter().find(|problem| problem.field == "worker").unwrap();
        assert_eq!(found.reason, PANICKED);
        assert!(found.message.contains("panics.rs:"), "{}", found.message);
    }
}
