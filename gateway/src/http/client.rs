//! A client connection as its requests see it.

use std::{cell::RefCell, net::SocketAddr, rc::Rc, sync::Arc};

use gatehouse_routes::model::Scheme;

use crate::{
    http::{
        client_identity::ClientIdentity, headers::Forwarding, io::ConnShared, streams,
        upgrade::Tunnel,
    },
    tls::profile::CipherSet,
    upstream::{Upstreams, bound::Bound, connection::Upstream, key::UpstreamKey},
    worker::{listener::ListenerFacts, timeouts::RequestTimers},
};

/// What does not change while a client connection lives, and what its requests share.
pub(crate) struct ClientConn {
    pub(crate) shared: Rc<ConnShared>,
    pub(crate) upstreams: Rc<Upstreams>,
    pub(crate) listener: Arc<ListenerFacts>,
    pub(crate) peer: SocketAddr,
    /// Where it came in.
    pub(crate) local: SocketAddr,
    pub(crate) scheme: Scheme,
    /// Such as `TLSv1.3`; `None` on plain TCP.
    pub(crate) tls_version: Option<&'static str>,
    /// The cipher of its TLS; none on plain TCP.
    pub(crate) cipher: CipherSet,
    /// The TLS server name in canonical form.
    pub(crate) server_name: Option<Box<str>>,
    /// What the client has shown; `None`: its handshake asked for no certificate.
    pub(crate) identity: Option<Box<ClientIdentity>>,
    pub(crate) forwarding: Forwarding,
    /// Set by a request that the backend agreed to upgrade.
    pub(crate) tunnel: RefCell<Option<Tunnel>>,
    pub(crate) http2: bool,
    /// Endpoints that know its user by a connection.
    pub(crate) bound: Bound,
    /// The limits of connections that count this one.
    pub(crate) counted: RefCell<Vec<u64>>,
}

impl ClientConn {
    pub(crate) fn scheme_name(&self) -> &'static str {
        match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// A connection of this key that a request can have: that which knows its user, or one of the pool.
    pub(crate) fn checkout(&self, key: &UpstreamKey) -> Option<Upstream> {
        self.bound.checkout(key).or_else(|| self.upstreams.pool.checkout(key))
    }

    /// Keeps a connection for the next request that it may serve.
    pub(crate) fn checkin(&self, upstream: Upstream) {
        if upstream.is_bound() {
            self.bound.checkin(upstream);
        } else {
            self.upstreams.pool.checkin(upstream, self.shared.worker.now());
        }
    }

    /// The timers of a new request: those of its HTTP/2 stream, or the connection's own.
    pub(crate) fn begin_request(&self) -> Rc<RequestTimers> {
        if self.http2
            && let Some(timers) = streams::current()
        {
            return timers;
        }
        self.shared.request_timers.begin();
        self.shared.request_timers.share()
    }
}
