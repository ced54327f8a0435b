//! Connections on which one user has proved who it is: they serve the client connection that this came over, and no
//! other (P32).
//!
//! NTLM, and Negotiate where a server keeps its outcome, authenticate a connection and not a request (RFC 4559 §6): what
//! comes next over it is taken for that user's, credentials or not. So an HTTP/1.1 connection that such credentials were
//! sent over never goes to the [`pool`](super::pool). It ends with its client connection, whose requests lead to
//! its endpoint meanwhile: a handshake is three requests, and only one endpoint has the beginning of it.
//!
//! HTTP/2 has no such authentication, so its connections stay shared, and such requests go over HTTP/1.1.

use std::{cell::RefCell, net::SocketAddr};

use gatehouse_routes::{action::Forward, model::BackendSlot};

use crate::upstream::{connection::Upstream, key::UpstreamKey};

/// Most endpoints that one client connection is known to; the oldest is forgotten.
const MOST: usize = 4;

/// Where the user of one client connection is known.
#[derive(Default)]
pub(crate) struct Bound(RefCell<Vec<Place>>);

struct Place {
    slot: BackendSlot,
    key: UpstreamKey,
    /// The connection, while no request uses it.
    idle: Option<Upstream>,
}

/// An endpoint that knows the user of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownAt {
    /// Index of its backend in the rule.
    pub(crate) backend: usize,
    pub(crate) address: SocketAddr,
}

impl Bound {
    /// Requests lead to where this connection goes from now on.
    pub(crate) fn bind(&self, slot: BackendSlot, key: UpstreamKey) {
        let mut places = self.0.borrow_mut();
        let known = places.iter().position(|place| (place.slot, place.key) == (slot, key));
        let place = match known {
            Some(at) => places.remove(at),
            None => Place { slot, key, idle: None },
        };
        if places.len() >= MOST {
            places.remove(0);
        }
        places.push(place);
    }

    /// The endpoint of a rule that knew the user last.
    pub(crate) fn known_at(&self, forward: &Forward) -> Option<KnownAt> {
        self.0.borrow().iter().rev().find_map(|place| {
            let of_place = |slot| slot == place.slot;
            let backend = forward.spec.backends.iter().position(|it| of_place(it.slot))?;
            Some(KnownAt { backend, address: place.key.address })
        })
    }

    /// Whether endpoints of a backend may know the user.
    pub(crate) fn is_of(&self, slot: BackendSlot) -> bool {
        self.0.borrow().iter().any(|place| place.slot == slot)
    }

    /// The connection of this key, if it idles and is fit for a request.
    pub(crate) fn checkout(&self, key: &UpstreamKey) -> Option<Upstream> {
        let mut places = self.0.borrow_mut();
        let idle = places.iter_mut().filter(|place| place.key == *key);
        let mut upstream = idle.filter_map(|place| place.idle.take()).next()?;
        upstream.is_clean().then_some(upstream)
    }

    /// Keeps a connection for the next request, if it is fit for one.
    pub(crate) fn checkin(&self, mut upstream: Upstream) {
        if !upstream.is_clean() {
            return;
        }
        let mut places = self.0.borrow_mut();
        if let Some(place) = places.iter_mut().rev().find(|place| place.key == upstream.key()) {
            place.idle = Some(upstream);
        }
    }
}
