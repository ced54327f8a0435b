//! The ports that routers may dial: one for each family that some router is of, and one for each
//! interface whose unnumbered router has a password.
//!
//! The driver owns one [`Acceptors`]. A port that cannot be listened on is a problem of the node and is
//! tried again every few seconds; sessions that this node dials do not need it. Link-local addresses are
//! the same on every link, so only a listener bound to the interface can tell which password applies.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use tracing::warn;

use super::{peer_driver::PeerDriver, unnumbered::Unnumbered};
use crate::{
    bgp::PeerAddress,
    kernel::sockets::bgp::{Incoming, Key, ListenFailure, Listener},
    pool::ranges::Family,
    problem::Problem,
};

/// After a port could not be listened on.
const OPEN_AGAIN: Duration = Duration::from_secs(5);
/// After a connection could not be accepted: there may be no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections accepted at once, before sessions have their turn.
const AT_ONCE: usize = 16;

/// The ports that routers may dial.
pub(super) struct Acceptors {
    port: u16,
    open: BTreeMap<Place, Listener>,
    failed: BTreeMap<Place, ListenFailure>,
    /// Peers whose password the kernel does not check, and why.
    unchecked: BTreeMap<String, String>,
    again: Option<Instant>,
    paused: Option<Instant>,
}

/// What a listener is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// On all addresses of a family.
    Everywhere(Family),
    /// On the interface with this index, for IPv6.
    Interface(u32),
}

/// What peers need.
#[derive(Default)]
struct Needed {
    acceptors: BTreeMap<Place, Option<Key>>,
    keys: BTreeMap<IpAddr, Key>,
    /// The peer that an address or a listener with a key belongs to.
    names: BTreeMap<IpAddr, String>,
    names_of_interfaces: BTreeMap<Place, String>,
}

impl Needed {
    fn of<'p>(peers: impl Iterator<Item = &'p PeerDriver>, unnumbered: &Unnumbered) -> Self {
        let mut needed = Self::default();
        for peer in peers {
            match (&peer.config.peer.address, peer.key()) {
                (PeerAddress::Ip(ip), key) => {
                    needed.acceptors.insert(Place::Everywhere(Family::of(*ip)), None);
                    if let Some(key) = key {
                        needed.keys.insert(*ip, key);
                        needed.names.insert(*ip, peer.name().to_owned());
                    }
                }
                (PeerAddress::Interface(_), None) => {
                    needed.acceptors.insert(Place::Everywhere(Family::V6), None);
                }
                (PeerAddress::Interface(interface), Some(key)) => {
                    let Some(index) = unnumbered.index(interface) else { continue };
                    needed.acceptors.insert(Place::Interface(index), Some(key));
                    needed
                        .names_of_interfaces
                        .insert(Place::Interface(index), peer.name().to_owned());
                }
            }
        }
        needed
    }
}

impl Acceptors {
    /// No port is open yet.
    pub(super) fn new(port: u16) -> Self {
        Self {
            port,
            open: BTreeMap::new(),
            failed: BTreeMap::new(),
            unchecked: BTreeMap::new(),
            again: None,
            paused: None,
        }
    }

    /// Opens and closes ports as these peers need them, and knows their keys.
    pub(super) fn follow<'p>(
        &mut self,
        peers: impl Iterator<Item = &'p PeerDriver>,
        unnumbered: &Unnumbered,
        now: Instant,
    ) {
        let needed = Needed::of(peers, unnumbered);
        self.open.retain(|place, listener| {
            needed.acceptors.get(place).is_some_and(|key| listener.link_key() == key.as_ref())
        });
        self.failed.clear();
        self.unchecked.clear();
        self.again = None;
        for (place, key) in &needed.acceptors {
            if self.open.contains_key(place) {
                continue;
            }
            match self.open(*place, key.clone()) {
                Ok(listener) => drop(self.open.insert(*place, listener)),
                Err(failure) => {
                    self.again = Some(now + OPEN_AGAIN);
                    if let Some(peer) = needed.names_of_interfaces.get(place) {
                        self.unchecked.insert(peer.clone(), failure.to_string());
                    }
                    self.failed.insert(*place, failure);
                }
            }
        }
        for listener in self.open.values_mut() {
            for (peer, error) in listener.keys(&needed.keys) {
                warn!(%peer, %error, "the kernel does not take the key, so the router cannot dial in");
                if let Some(name) = needed.names.get(&peer) {
                    self.unchecked.insert(name.clone(), error.to_string());
                }
            }
        }
    }

    /// Those of IPv6 that are open share the port with another one, for the moment in which it is opened.
    fn open(&self, place: Place, key: Option<Key>) -> Result<Listener, ListenFailure> {
        let share = |with_others| {
            let others = self.open.iter().filter(|(of, _)| **of != Place::Everywhere(Family::V4));
            others
                .map(|(_, listener)| listener)
                .try_for_each(|listener| listener.share(with_others))
        };
        let interfaces = self.open.keys().any(|of| matches!(of, Place::Interface(_)));
        let failure = |error| ListenFailure::Other(self.port, error);
        let opened = match (place, key) {
            (Place::Interface(index), Some(key)) => {
                share(true).map_err(failure)?;
                Listener::open_on(index, self.port, key)
            }
            (Place::Everywhere(Family::V6), _) if interfaces => {
                share(true).map_err(failure)?;
                Listener::open_beside(Family::V6, self.port)
            }
            (Place::Everywhere(family), _) => Listener::open(family, self.port),
            // Without a key the listener of all interfaces will do.
            (Place::Interface(_), None) => return Err(failure(io::ErrorKind::InvalidInput.into())),
        };
        share(false).map_err(failure)?;
        opened
    }

    /// As [`follow`](Self::follow), if it is time to try again what has failed.
    pub(super) fn retry<'p>(
        &mut self,
        peers: impl Iterator<Item = &'p PeerDriver>,
        unnumbered: &Unnumbered,
        now: Instant,
    ) {
        self.paused.take_if(|until| *until <= now);
        if self.again.is_some_and(|again| again <= now) {
            self.follow(peers, unnumbered, now);
        }
    }

    /// Closes all ports.
    pub(super) fn close(&mut self) {
        *self = Self::new(self.port);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.again, self.paused].into_iter().flatten().min()
    }

    /// What to wait for.
    pub(super) fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let open = self.open.values().filter(|_| self.paused.is_none());
        open.map(AsFd::as_fd)
    }

    /// The connections that routers have opened.
    pub(super) fn accept(&mut self, now: Instant) -> Vec<Incoming> {
        let mut dialled = Vec::new();
        for listener in self.open.values().filter(|_| self.paused.is_none()) {
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
    pub(super) fn problems(&self) -> Vec<Problem> {
        let everywhere =
            self.failed.iter().filter(|(place, _)| !matches!(place, Place::Interface(_)));
        let problem = |(_, failure): (_, &ListenFailure)| {
            Problem::noted("BgpPort", "", failure.to_string(), "")
        };
        let mut problems: Vec<_> = everywhere.map(problem).collect();
        problems.dedup();
        problems
    }

    /// What is wrong with a peer's password.
    pub(super) fn problem(&self, peer: &str) -> Option<Problem> {
        let why = self.unchecked.get(peer)?;
        Some(Problem::noted(
            "PasswordUnchecked",
            "spec.password",
            format!("the password cannot be checked, so that the router may not dial in: {why}"),
            "the kernel needs TCP MD5 (CONFIG_TCP_MD5SIG); for spec.interface, Linux 4.13 or later",
        ))
    }
}
