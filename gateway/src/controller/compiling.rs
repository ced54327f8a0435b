//! A compile that panics: a fault of this program, which any object may bring about, and which must not end what is served.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What is compiled with the last configuration, or else without it, should that be what it fails over. `None`: it cannot
/// be compiled.
pub(super) fn guarded<C>(before: Option<&C>, compile: impl Fn(Option<&C>) -> C) -> Option<C> {
    // It reads its arguments and changes none of them.
    let attempt = |before| catch_unwind(AssertUnwindSafe(|| compile(before))).ok();
    attempt(before).or_else(|| before.and_then(|_| attempt(None)))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_compile_that_panics_over_the_last_configuration_begins_anew_and_else_gives_none() {
        let tried = Cell::new(0);
        let compile = |fails: fn(Option<&u32>) -> bool| {
            let tried = &tried;
            move |before: Option<&u32>| {
                tried.set(tried.get() + 1);
                assert!(!fails(before), "a test");
                before.map_or(1, |before| before + 1)
            }
        };
        assert_eq!(guarded(Some(&7), compile(|_| false)), Some(8));
        assert_eq!(tried.replace(0), 1);
        assert_eq!(guarded(Some(&7), compile(|before| before.is_some())), Some(1));
        assert_eq!(tried.replace(0), 2);
        assert_eq!(guarded(Some(&7), compile(|_| true)), None);
        assert_eq!(tried.replace(0), 2);
        assert_eq!(guarded(None, compile(|_| true)), None);
        assert_eq!(tried.get(), 1);
    }
}
