//! Connections to endpoints: opened, kept and reused by one worker alone.

pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod key;
pub(crate) mod names;
pub(crate) mod pool;
pub(crate) mod request_body;

use crate::{
    upstream::{
        names::{Names, resolver::Resolver},
        pool::Pool,
    },
    worker::clock::Tick,
};

/// What one worker knows of the endpoints that it forwards to.
pub(crate) struct Upstreams {
    pub(crate) pool: Pool,
    pub(crate) names: Names,
}

impl Upstreams {
    pub(crate) fn new(resolver: Resolver) -> Self {
        Self { pool: Pool::default(), names: Names::new(resolver) }
    }

    /// Lets go of connections that the endpoint closed or no request used for `ttl`.
    pub(crate) fn sweep(&self, now: Tick, ttl: Tick) {
        self.pool.sweep(now, ttl);
    }
}
