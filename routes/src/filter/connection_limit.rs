//! How many requests a client may have under way.

use crate::networks::Networks;

/// A limit for each client address, counted as [`RateLimit`](super::rate_limit::RateLimit) counts clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimit {
    /// Tells this limit from all others; the same for every version of the object that sets it.
    pub scope: u64,
    /// Requests at once.
    pub limit: u32,
    /// Who is not counted.
    pub exempt: Networks,
}
