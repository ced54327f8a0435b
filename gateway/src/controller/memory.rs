//! Which Service holds which address, kept in the state folder.
//!
//! A folder that cannot be written is a problem of the process, not a reason to stop: it is tried again
//! until it can be.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    process::ProcessProblems,
    state_file::{self, Recorded},
};

/// Time between two attempts to write.
const AGAIN: Duration = Duration::from_secs(5);

/// The record in the state folder, if there is one.
#[derive(Debug)]
pub(crate) struct Memory {
    folder: Option<PathBuf>,
    /// What could not be written yet.
    unsaved: Option<Recorded>,
    due: Instant,
    problems: ProcessProblems,
}

impl Memory {
    /// The record in a folder, which held this at the start. Finds out whether the folder can be written.
    pub(crate) fn new(
        folder: Option<PathBuf>,
        recorded: &Recorded,
        problems: &ProcessProblems,
    ) -> Self {
        let due = Instant::now();
        let mut memory = Self { folder, unsaved: None, due, problems: problems.clone() };
        if let Some(folder) = &memory.folder
            && let Err(error) = state_file::probe(folder)
        {
            memory.failed(&error, recorded.clone(), due);
        }
        memory
    }

    /// Writes what is to be remembered.
    pub(super) fn keep(&mut self, recorded: Recorded, now: Instant) {
        let Some(folder) = &self.folder else { return };
        match state_file::store(folder, &recorded) {
            Ok(()) => {
                self.unsaved = None;
                self.problems.clear(NOT_WRITABLE);
                self.problems.clear(state_file::IGNORED);
            }
            Err(error) => self.failed(&error, recorded, now),
        }
    }

    /// Tries again what could not be written, if it is time.
    pub(super) fn retry(&mut self, now: Instant) {
        if now >= self.due
            && let Some(recorded) = self.unsaved.take()
        {
            self.keep(recorded, now);
        }
    }

    /// Makes it time to try again.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.due = now;
    }

    fn failed(&mut self, error: &std::io::Error, recorded: Recorded, now: Instant) {
        (self.unsaved, self.due) = (Some(recorded), now + AGAIN);
        let folder = self.folder.as_deref().unwrap_or_else(|| "".as_ref()).display();
        self.problems.error(
            NOT_WRITABLE,
            "--state-dir",
            format!("{folder}: {error}; a restart will not know which Service holds which address"),
            "let the user of this process write there, or name another folder",
        );
    }
}

const NOT_WRITABLE: &str = "StateNotWritable";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Reasons of what is raised.
    fn reasons(problems: &ProcessProblems) -> Vec<&'static str> {
        problems.all().iter().map(|problem| problem.reason).collect()
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_a_problem_until_it_can() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("state");
        // Rights do not stop root; a file in the way stops everybody.
        fs::write(&folder, "in the way").unwrap();
        let problems = ProcessProblems::new("n");
        let mut memory = Memory::new(Some(folder.clone()), &Recorded::default(), &problems);
        assert_eq!(reasons(&problems), [NOT_WRITABLE], "found at the start");
        let text = problems.all()[0].to_string();
        assert!(text.contains("--state-dir") && text.contains("state:"), "{text}");
        fs::remove_file(&folder).unwrap();
        let now = Instant::now();
        memory.retry(now);
        assert_eq!(reasons(&problems), [NOT_WRITABLE], "it is not time yet");
        memory.retry(now + AGAIN);
        assert!(reasons(&problems).is_empty());
        assert!(state_file::load(&folder).1.is_none());
    }

    #[test]
    fn a_folder_that_fails_later_is_noticed_by_the_next_record() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("state");
        let problems = ProcessProblems::new("n");
        let mut memory = Memory::new(Some(folder.clone()), &Recorded::default(), &problems);
        assert!(problems.all().is_empty());
        fs::remove_dir_all(&folder).unwrap();
        fs::write(&folder, "in the way").unwrap();
        memory.keep(Recorded::default(), Instant::now());
        assert_eq!(reasons(&problems), [NOT_WRITABLE]);
        fs::remove_file(&folder).unwrap();
        memory.hurry(Instant::now());
        memory.retry(Instant::now());
        assert!(problems.all().is_empty(), "a reload does not wait");
    }

    #[test]
    fn without_a_folder_nothing_is_remembered_and_nothing_is_wrong() {
        let problems = ProcessProblems::new("n");
        let mut memory = Memory::new(None, &Recorded::default(), &problems);
        memory.keep(Recorded::default(), Instant::now());
        assert!(problems.all().is_empty());
    }
}
