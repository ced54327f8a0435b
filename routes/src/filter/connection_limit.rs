//! How many requests a client may have under way.

use http::StatusCode;

use super::limit_key::LimitKey;
use crate::networks::Networks;

/// A limit for each client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimit {
    /// Tells this limit from all others; the same for every version of the object that sets it.
    pub scope: u64,
    /// What tells clients apart.
    pub by: LimitKey,
    /// Requests at once.
    pub limit: u32,
    /// Who is not counted.
    pub exempt: Networks,
    /// Status for requests that are too many.
    pub status: StatusCode,
}
