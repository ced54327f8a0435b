//! How much an endpoint has to do at one time.

use std::num::NonZeroU32;

/// Requests that may wait for an endpoint, where an object does not say how many.
pub const PENDING: u32 = 1_024;

/// Bounds for each endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests under way at most, over all workers of the process: over HTTP/1.1 each has a connection. Connections, where
    /// these are passed on as they are.
    pub connections: NonZeroU32,
    /// Further ones that wait at most; requests beyond them get 503, connections are reset.
    pub pending: u32,
}
