//! Connections to endpoints: opened, kept and reused by one worker alone.

pub(crate) mod connect;
pub(crate) mod pool;
pub(crate) mod resolve;

use crate::{
    upstream::{pool::Pool, resolve::Resolved},
    worker::clock::Tick,
};

/// What one worker knows of the endpoints that it forwards to.
#[derive(Default)]
pub(crate) struct Upstreams {
    pub(crate) pool: Pool,
    pub(crate) resolved: Resolved,
}

impl Upstreams {
    /// Lets go of connections that the endpoint closed or no request used for `ttl`.
    pub(crate) fn sweep(&self, now: Tick, ttl: Tick) {
        self.pool.sweep(now, ttl);
    }
}
