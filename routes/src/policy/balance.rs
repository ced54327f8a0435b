//! How one of a backend's endpoints is chosen for a request.
//!
//! The translations make it of annotations, the data path decides by it with the functions of
//! [`crate::balance`].

use std::time::Duration;

use super::hash_by::HashKey;

/// How endpoints are chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// The rule of choice.
    pub algorithm: Algorithm,
    /// For how long an endpoint that is new has less than its share, which grows from nothing; zero: it has
    /// its share at once.
    pub slow_start: Duration,
    /// Where less than this part of all endpoints (percent) is fit for requests, all of them get requests: few
    /// would only fall over. 0: as long as one is fit, it gets them all.
    pub panic_percent: u8,
}

/// A rule of choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// One after the other.
    #[default]
    RoundRobin,
    /// Of two by chance, the one with fewer requests under way.
    LeastRequest,
    /// Of two by chance, the one that would be through with its requests first, by how long it took lately.
    LeastTime,
    /// By chance.
    Random,
    /// The same one for the same key.
    Hash {
        /// What the key is.
        key: HashKey,
        /// How many endpoints share the requests of a key; not 0.
        subset: u32,
    },
}

impl Balance {
    /// Whether it is nothing but round robin.
    pub fn is_plain(&self) -> bool {
        matches!(self.algorithm, Algorithm::RoundRobin)
            && self.slow_start.is_zero()
            && self.panic_percent == 0
    }

    /// Whether it depends on what endpoints have under way.
    pub fn weighs(&self) -> bool {
        matches!(self.algorithm, Algorithm::LeastRequest | Algorithm::LeastTime)
    }

    /// What requests are hashed by.
    pub fn hash_key(&self) -> Option<&HashKey> {
        match &self.algorithm {
            Algorithm::Hash { key, .. } => Some(key),
            _ => None,
        }
    }
}
