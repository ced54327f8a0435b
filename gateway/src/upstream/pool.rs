//! The connections of one worker to endpoints: how many are open, and the idle ones by what they may serve.
//!
//! While a connection idles here nobody polls it, so its state is looked at when it comes in, when it goes
//! out, and by the sweeper once a second.

use std::{cell::RefCell, collections::HashMap, net::SocketAddr, rc::Rc};

use crate::{
    upstream::{
        connection::Upstream,
        h2::Shared,
        key::{Transport, UpstreamKey},
        permit::{Most, Open, Permit},
    },
    worker::clock::Tick,
};

/// Most idle connections kept per key and worker.
const MAX_IDLE: usize = 256;

type ByKey<T> = HashMap<UpstreamKey, Vec<T>, foldhash::fast::RandomState>;

/// The connections of one worker.
#[derive(Default)]
pub(crate) struct Pool {
    idle: RefCell<ByKey<Upstream>>,
    /// Those that take more than one request at a time, busy or not.
    shared: RefCell<ByKey<Rc<Shared>>>,
    open: Rc<Open>,
}

impl Pool {
    /// One more connection to an address, if that is within bounds. Idle connections elsewhere give way.
    pub(crate) fn permit(&self, address: SocketAddr, most: Most) -> Option<Permit> {
        if self.open.count() >= most.all {
            self.close_idle();
        }
        self.open.permit(address, most)
    }

    /// Connections to an address that are open.
    pub(crate) fn open_to(&self, address: SocketAddr) -> usize {
        self.open.to(address)
    }

    /// Lets go of one idle connection, whichever.
    fn close_idle(&self) {
        let mut idle = self.idle.borrow_mut();
        let some = idle.values_mut().find(|connections| !connections.is_empty());
        // Dropped after the borrow: it gives its permit back.
        let closed = some.map(|connections| connections.remove(0));
        drop(idle);
        if closed.is_none() {
            self.close_shared();
        }
        drop(closed);
    }

    fn close_shared(&self) {
        let mut shared = self.shared.borrow_mut();
        let at = shared.values_mut().find_map(|connections| {
            let at = connections.iter().position(|connection| connection.is_idle())?;
            Some(connections.remove(at))
        });
        drop(shared);
        drop(at);
    }

    /// Lets other requests use a connection, too.
    pub(super) fn share(&self, connection: Rc<Shared>) {
        self.shared.borrow_mut().entry(connection.key()).or_default().push(connection);
    }

    /// A connection of this key that takes a request: one that takes many, or the one that was used last.
    pub(crate) fn checkout(&self, key: &UpstreamKey) -> Option<Upstream> {
        if key.transport != Transport::Clear
            && let Some(connections) = self.shared.borrow().get(key)
            && let Some(stream) = connections.iter().find_map(Shared::stream)
        {
            return Some(Upstream::Http2(stream));
        }
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(key)?;
        while let Some(mut upstream) = connections.pop() {
            if upstream.is_clean() {
                return Some(upstream);
            }
        }
        None
    }

    /// Keeps a connection for the next request, if it is fit for one and for anybody's.
    pub(crate) fn checkin(&self, mut upstream: Upstream, now: Tick) {
        if !upstream.is_bound() && upstream.is_clean() {
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
        self.shared.borrow_mut().retain(|_, connections| {
            connections.retain(|connection| connection.is_kept(now, ttl));
            !connections.is_empty()
        });
    }
}
