//! The passwords that one worker has seen to be right, so that it asks nobody about them again for a while.

use std::{cell::RefCell, collections::HashMap};

use foldhash::fast::RandomState;

use super::Mark;
use crate::worker::clock::Tick;

/// How long a password is remembered here, in milliseconds.
const KEEP: Tick = 60_000;
/// Passwords remembered.
const KNOWN: usize = 4_096;

/// What one worker knows.
#[derive(Debug, Default)]
pub(crate) struct LocalPasswords(RefCell<HashMap<Mark, Tick, RandomState>>);

impl LocalPasswords {
    /// Whether it was right a short while ago.
    pub(crate) fn knows(&self, mark: &Mark, now: Tick) -> bool {
        self.0.borrow().get(mark).is_some_and(|until| now < *until)
    }

    /// It is right.
    pub(crate) fn learn(&self, mark: Mark, now: Tick) {
        let mut known = self.0.borrow_mut();
        if known.len() >= KNOWN {
            known.retain(|_, until| now < *until);
        }
        if known.len() < KNOWN {
            known.insert(mark, now + KEEP);
        }
    }
}
