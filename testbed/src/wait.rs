//! Waiting for what should happen soon: one limit for all tests, and looks that come fast.
//!
//! A test says what it waits for; how long is decided here. The limit only ends a test whose condition
//! never comes true, so it is far beyond what the busiest machine needs, and no promise of the product
//! is measured by it. What must *not* happen within a time is watched by the test itself.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// The longest that anything is waited for.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Time from the first look to the second; each pause is twice the one before.
const SHORTEST: Duration = Duration::from_millis(2);
/// The longest time between two looks.
const LONGEST: Duration = Duration::from_millis(40);

/// Looks until there is something to see; none when there was nothing within [`LIMIT`].
pub fn look<T>(look: impl FnMut() -> Option<T>) -> Option<T> {
    look_for(LIMIT, look)
}

/// As [`look`] with a limit of the caller's, for what takes long by itself. The last look is after it.
pub fn look_for<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    let mut pause = SHORTEST;
    loop {
        let late = Instant::now() >= deadline;
        let seen = look();
        if seen.is_some() || late {
            return seen;
        }
        thread::sleep(pause);
        pause = (2 * pause).min(LONGEST);
    }
}

/// Whether something comes true within [`LIMIT`].
pub fn comes_true(mut is_so: impl FnMut() -> bool) -> bool {
    look(|| is_so().then_some(())).is_some()
}

/// Waits until something is so and returns it.
///
/// # Panics
/// With what was there instead, when it is not so within [`LIMIT`].
#[track_caller]
pub fn eventually<T>(what: &str, mut is_so: impl FnMut() -> Result<T, String>) -> T {
    let mut instead = String::new();
    let seen = look(|| is_so().map_err(|other| instead = other).ok());
    seen.unwrap_or_else(|| panic!("not within {LIMIT:?}: {what}; instead: {instead}"))
}

/// Raises a flag when it goes out of scope, by a panic too: threads that run beside a test until then end with it, and
/// the test fails instead of waiting for them.
#[must_use = "the flag is raised when this is dropped"]
pub struct Until<'f>(&'f AtomicBool);

impl<'f> Until<'f> {
    /// Will raise `flag`.
    pub fn dropped(flag: &'f AtomicBool) -> Self {
        Self(flag)
    }
}

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_beside_a_test_that_panics_end() {
        let flag = AtomicBool::new(false);
        let test = || {
            thread::scope(|scope| {
                let _until = Until::dropped(&flag);
                scope.spawn(|| {
                    while !flag.load(Ordering::Relaxed) {
                        thread::yield_now();
                    }
                });
                panic!("as a test may");
            })
        };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(test)).is_err());
    }

    #[test]
    fn it_looks_until_there_is_something_and_once_more_after_the_limit() {
        let mut looks = 0;
        let third = look(|| {
            looks += 1;
            (looks == 3).then_some("seen")
        });
        assert_eq!((third, looks), (Some("seen"), 3));
        looks = 0;
        let never: Option<()> = look_for(Duration::ZERO, || {
            looks += 1;
            None
        });
        assert_eq!((never, looks), (None, 1));
        assert!(comes_true(|| true));
        assert_eq!(eventually("a number", || Ok(7)), 7);
    }
}
