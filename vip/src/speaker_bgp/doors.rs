//! The ports that routers may dial: one for each family that some router is of.
//!
//! The driver owns one [`Doors`]. A port that cannot be listened on is a problem of the node, tried again
//! now and then; sessions that this end dials do without.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use tracing::warn;

use super::peering::Peering;
use crate::bgp::PeerAddress;
use crate::io::bgp::{Incoming, Key, ListenFailure, Listener};
use crate::ranges::Family;
use crate::refusal::Refusal;

/// After a port could not be listened on.
const OPEN_AGAIN: Duration = Duration::from_secs(5);
/// After somebody could not be accepted: there may be no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);
/// Of those who wait to be accepted, before sessions have their turn.
const AT_ONCE: usize = 16;

/// The ports that routers may dial.
pub(super) struct Doors {
    port: u16,
    open: Vec<(Family, Listener)>,
    failed: BTreeMap<Family, ListenFailure>,
    again: Option<Instant>,
    paused: Option<Instant>,
}

impl Doors {
    /// None is open yet.
    pub(super) fn new(port: u16) -> Self {
        Self { port, open: Vec::new(), failed: BTreeMap::new(), again: None, paused: None }
    }

    /// Opens and closes ports as these peers need them, and knows their keys.
    pub(super) fn follow<'p>(&mut self, peers: impl Iterator<Item = &'p Peering>, now: Instant) {
        let mut families = Vec::new();
        let mut keys: BTreeMap<IpAddr, Key> = BTreeMap::new();
        for peer in peers {
            let family = match &peer.config.peer.address {
                PeerAddress::Ip(ip) => {
                    keys.extend(peer.key().map(|key| (*ip, key)));
                    Family::of(*ip)
                }
                PeerAddress::Interface(_) => Family::V6,
            };
            families.push(family);
        }
        self.open.retain(|(family, _)| families.contains(family));
        self.failed.clear();
        self.again = None;
        for family in [Family::V4, Family::V6] {
            let known = self.open.iter().any(|(open, _)| *open == family);
            if !families.contains(&family) || known {
                continue;
            }
            match Listener::open(family, self.port) {
                Ok(listener) => self.open.push((family, listener)),
                Err(failure) => {
                    self.failed.insert(family, failure);
                    self.again = Some(now + OPEN_AGAIN);
                }
            }
        }
        for (_, listener) in &mut self.open {
            for (peer, error) in listener.keys(&keys) {
                warn!(%peer, %error, "the kernel does not take the key, so the router cannot dial in");
            }
        }
    }

    /// As [`follow`](Self::follow), if it is time to try again what has failed.
    pub(super) fn retry<'p>(&mut self, peers: impl Iterator<Item = &'p Peering>, now: Instant) {
        self.paused.take_if(|until| *until <= now);
        if self.again.is_some_and(|again| again <= now) {
            self.follow(peers, now);
        }
    }

    /// Lets nobody in any more.
    pub(super) fn close(&mut self) {
        *self = Self::new(self.port);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.again, self.paused].into_iter().flatten().min()
    }

    /// What to wait for.
    pub(super) fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let open = self.open.iter().filter(|_| self.paused.is_none());
        open.map(|(_, listener)| listener.as_fd())
    }

    /// Who has dialled.
    pub(super) fn accept(&mut self, now: Instant) -> Vec<Incoming> {
        let mut dialled = Vec::new();
        for (_, listener) in self.open.iter().filter(|_| self.paused.is_none()) {
            for _ in 0..AT_ONCE {
                match listener.accept() {
                    Ok(Some(incoming)) => dialled.push(incoming),
                    Ok(None) => break,
                    Err(error) => {
                        warn!(%error, "routers cannot be let in for the moment");
                        self.paused = Some(now + PAUSE);
                        return dialled;
                    }
                }
            }
        }
        dialled
    }

    /// What is wrong with the ports.
    pub(super) fn problems(&self) -> Vec<Refusal> {
        let problem =
            |failure: &ListenFailure| Refusal::warning("BgpPort", "", failure.to_string(), "");
        let mut problems: Vec<_> = self.failed.values().map(problem).collect();
        problems.dedup();
        problems
    }
}
