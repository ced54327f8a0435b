//! Copies of requests: where they go, and of how many requests there is one.
//!
//! A copy never delays its request and never fails it. What becomes of the copy is counted, and its answer is
//! read away.

use http::HeaderValue;

use crate::{action::Forward, template::Template};

/// Where copies of requests go.
#[derive(Debug, PartialEq, Eq)]
pub struct Mirror {
    /// A Service of the cluster, or a host elsewhere.
    pub to: Forward,
    /// `Host` of a copy.
    pub host: HeaderValue,
    /// Path and query of a copy.
    pub target: MirrorTarget,
    /// Whether a copy has the body of its request.
    pub body: bool,
    /// Of how many requests there is a copy.
    pub share: Share,
}

/// What a copy asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MirrorTarget {
    /// The same path and query as its request.
    Same,
    /// This path, and the query of its request.
    Path(Template),
    /// This path and query, with what the request says filled in.
    Filled(Template),
}

/// A share of all requests: 100 % by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// So many requests…
    pub of: u32,
    /// …out of as many.
    pub out_of: u32,
}

impl Default for Share {
    fn default() -> Self {
        Self { of: 1, out_of: 1 }
    }
}

impl Share {
    /// Whether a request is one of those, by a random number below [`Self::out_of`].
    pub fn takes(self, random: impl FnOnce(u32) -> u32) -> bool {
        self.of >= self.out_of || random(self.out_of) < self.of
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_takes_as_many_of_all_random_numbers_as_it_says() {
        let taken =
            |of, out_of| (0..out_of).filter(|at| Share { of, out_of }.takes(|_| *at)).count();
        assert_eq!(
            [taken(0, 100), taken(1, 100), taken(25, 10_000), taken(100, 100)],
            [0, 1, 25, 100]
        );
        assert!(Share::default().takes(|_| unreachable!()), "all requests need no chance");
    }
}
