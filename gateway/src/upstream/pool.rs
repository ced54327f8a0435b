//! Idle connections of one worker, by what they may serve.
//!
//! While a connection idles here nobody polls it, so its state is looked at when it comes in, when it goes
//! out, and by the sweeper once a second.

use std::{cell::RefCell, collections::HashMap};

use crate::{
    upstream::{connection::Upstream, key::UpstreamKey},
    worker::clock::Tick,
};

/// Most idle connections kept per key and worker.
const MAX_IDLE: usize = 256;

/// The idle connections of one worker.
#[derive(Default)]
pub(crate) struct Pool {
    idle: RefCell<HashMap<UpstreamKey, Vec<Upstream>, foldhash::fast::RandomState>>,
}

impl Pool {
    /// The connection of this key that was used last, if one is still good.
    pub(crate) fn checkout(&self, key: &UpstreamKey) -> Option<Upstream> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(key)?;
        while let Some(mut upstream) = connections.pop() {
            if upstream.is_clean() {
                return Some(upstream);
            }
        }
        None
    }

    /// Keeps a connection for the next request, if it is fit for one.
    pub(crate) fn checkin(&self, mut upstream: Upstream, now: Tick) {
        if upstream.is_clean() {
            upstream.idles(now);
            let mut idle = self.idle.borrow_mut();
            let connections = idle.entry(upstream.key()).or_default();
            if connections.len() < MAX_IDLE {
                connections.push(upstream);
            }
        }
    }

    /// Lets go of connections that the endpoint closed or nobody used for `ttl`.
    pub(crate) fn sweep(&self, now: Tick, ttl: Tick) {
        self.idle.borrow_mut().retain(|_, connections| {
            connections.retain_mut(|upstream| upstream.idle_for(now) < ttl && upstream.is_clean());
            !connections.is_empty()
        });
    }
}
