//! Long lists of which each compile has one, and few entries differ from those of the compile before.

use std::sync::Arc;

/// Entries in one part.
const PART: usize = 128;

/// A list in parts. Lists of several compiles share those in which nothing differs: a list of thousands of pointers
/// is made anew without a look at what most of them point to.
#[derive(Debug)]
pub(crate) struct Parts<T> {
    /// All of the same length but the last.
    parts: Vec<Arc<[T]>>,
}

impl<T> Default for Parts<T> {
    fn default() -> Self {
        Self { parts: Vec::new() }
    }
}

impl<T> Parts<T> {
    /// The entries that `make` makes of `all`, but where `is_same` says that a whole part of `before` has them already.
    /// `is_same` is told the place of both.
    pub(crate) fn of<I>(
        mut all: impl Iterator<Item = I>,
        before: &Self,
        is_same: impl Fn(usize, &I, &T) -> bool,
        make: impl Fn(I) -> T,
    ) -> Self {
        let mut parts = Vec::with_capacity(before.parts.len());
        loop {
            let now: Vec<I> = all.by_ref().take(PART).collect();
            if now.is_empty() {
                return Self { parts };
            }
            let from = parts.len() * PART;
            let holds = |before: &&Arc<[T]>| {
                let mut both = (from..).zip(now.iter().zip(before.iter()));
                before.len() == now.len() && both.all(|(at, (now, old))| is_same(at, now, old))
            };
            parts.push(match before.parts.get(parts.len()).filter(holds) {
                Some(before) => Arc::clone(before),
                None => now.into_iter().map(&make).collect(),
            });
        }
    }

    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        self.parts.get(at / PART)?.get(at % PART)
    }

    pub(crate) fn len(&self) -> usize {
        let last = self.parts.last().map_or(0, |part| part.len());
        self.parts.len().saturating_sub(1) * PART + last
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.parts.iter().flat_map(|part| part.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_shares_the_parts_in_which_nothing_differs() {
        let of = |numbers: &[usize], before: &Parts<usize>| {
            let parts = Parts::of(numbers.iter(), before, |_, now, old| *now == old, |now| *now);
            assert_eq!(parts.iter().collect::<Vec<_>>(), numbers.iter().collect::<Vec<_>>());
            assert_eq!(parts.len(), numbers.len());
            assert!(numbers.iter().enumerate().all(|(at, number)| parts.get(at) == Some(number)));
            assert_eq!(parts.get(numbers.len()), None);
            let both = parts.parts.iter().zip(&before.parts);
            let shared = both.filter(|(now, before)| Arc::ptr_eq(now, before)).count();
            (parts, shared)
        };
        let mut numbers: Vec<usize> = (0..PART * 4 + 10).collect();
        let (first, _) = of(&numbers, &Parts::default());
        assert_eq!(of(&numbers, &first).1, 5);
        numbers[PART + 3] = 7;
        let (other, shared) = of(&numbers, &first);
        assert_eq!(shared, 4);
        numbers.push(1);
        assert_eq!(of(&numbers, &other).1, 4, "the last part is longer");
        numbers.truncate(PART * 4);
        assert_eq!(of(&numbers, &other).1, 4, "it is gone");
        numbers.remove(PART * 2);
        assert_eq!(of(&numbers, &other).1, 2, "all behind it stand elsewhere");
        assert_eq!(of(&[], &other).1, 0);
    }
}
