//! The local addresses that clients came in on, and which of them clients are asked to leave.
//!
//! An address that moves to another node stays usable here until its open connections have ended: they
//! finish what is under way and are told to come again, and then they find the new owner. Every worker has
//! its own [`LocalAddresses`]; a connection holds the [`LocalAddress`] of its listener, so that asking
//! costs it no system call. Nothing here ends a connection: `http::conn` does, and the worker wakes it.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    net::IpAddr,
    rc::Rc,
};

use crate::worker::clock::Tick;

/// One address that a worker accepts connections on (the unspecified address counts as one).
#[derive(Debug, Default)]
pub(crate) struct LocalAddress {
    connections: Cell<usize>,
    leaving: Cell<Option<Tick>>,
    /// Since when the process is short of memory, if it is.
    pressed: Cell<Option<Tick>>,
}

impl LocalAddress {
    /// Since when the connections on it are to end; `None`: they may stay.
    pub(crate) fn leaving(&self) -> Option<Tick> {
        self.leaving.get().or_else(|| self.pressed.get())
    }

    /// A connection on it begins.
    pub(crate) fn opened(&self) {
        self.connections.set(self.connections.get() + 1);
    }

    /// A connection on it has ended.
    pub(crate) fn closed(&self) {
        self.connections.set(self.connections.get().saturating_sub(1));
    }
}

/// Since when a listener is closed, if it is: as those of an address that is left, its connections end with what is under way.
pub(crate) type Closed = Cell<Option<Tick>>;

/// All addresses of one worker.
#[derive(Debug, Default)]
pub(crate) struct LocalAddresses {
    all: RefCell<BTreeMap<IpAddr, Rc<LocalAddress>>>,
    pressed: Cell<Option<Tick>>,
}

impl LocalAddresses {
    /// The address, for a listener on it.
    pub(crate) fn get(&self, ip: IpAddr) -> Rc<LocalAddress> {
        let mut all = self.all.borrow_mut();
        let address = all.entry(ip).or_default();
        address.pressed.set(self.pressed.get());
        Rc::clone(address)
    }

    /// While the process is short of memory (since when), connections end with what is under way wherever they came in:
    /// the addresses stay.
    pub(crate) fn press(&self, since: Option<Tick>) {
        self.pressed.set(since);
        for address in self.all.borrow().values() {
            address.pressed.set(since);
        }
    }

    /// From now on, connections on these addresses end with what is under way.
    pub(crate) fn leave(&self, ips: &[IpAddr], now: Tick) {
        for ip in ips {
            let address = self.get(*ip);
            address.leaving.set(address.leaving.get().or(Some(now)));
        }
    }

    /// As [`Self::leave`], for every address.
    pub(crate) fn leave_all(&self, now: Tick) {
        for address in self.all.borrow().values() {
            address.leaving.set(address.leaving.get().or(Some(now)));
        }
    }

    /// Connections on these addresses may stay again. Those that were told to leave do all the same.
    pub(crate) fn stay(&self, ips: &[IpAddr]) {
        for address in ips.iter().filter_map(|ip| self.all.borrow().get(ip).cloned()) {
            address.leaving.set(None);
        }
    }

    /// The addresses that connections are to leave, and how many have not left yet. Forgets addresses
    /// that nobody uses any more.
    pub(crate) fn left(&self) -> BTreeMap<IpAddr, usize> {
        let mut all = self.all.borrow_mut();
        all.retain(|_, address| address.leaving.get().is_some() || Rc::strong_count(address) > 1);
        let leaving = all.iter().filter(|(_, address)| address.leaving.get().is_some());
        leaving.map(|(ip, address)| (*ip, address.connections.get())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_the_address_that_moves_is_left() {
        let addresses = LocalAddresses::default();
        let (moves, stays) = (addresses.get(ip("192.0.2.1")), addresses.get(ip("192.0.2.2")));
        moves.opened();
        stays.opened();
        assert!(addresses.left().is_empty());
        addresses.leave(&[ip("192.0.2.1")], 7);
        addresses.leave(&[ip("192.0.2.1")], 9);
        assert_eq!((moves.leaving(), stays.leaving()), (Some(7), None), "the first word counts");
        assert_eq!(addresses.left(), BTreeMap::from([(ip("192.0.2.1"), 1)]));
        moves.closed();
        assert_eq!(addresses.left(), BTreeMap::from([(ip("192.0.2.1"), 0)]));
    }

    #[test]
    fn an_address_that_comes_back_is_served_as_before() {
        let addresses = LocalAddresses::default();
        let address = addresses.get(ip("2001:db8::1"));
        addresses.leave_all(1);
        assert_eq!(address.leaving(), Some(1));
        addresses.stay(&[ip("2001:db8::1"), ip("2001:db8::2")]);
        assert_eq!(address.leaving(), None);
        assert!(addresses.left().is_empty());
    }

    #[test]
    fn connections_end_while_memory_is_short_and_no_address_is_left_for_that() {
        let addresses = LocalAddresses::default();
        let (moves, stays) = (addresses.get(ip("192.0.2.1")), addresses.get(ip("192.0.2.2")));
        addresses.leave(&[ip("192.0.2.1")], 3);
        addresses.press(Some(7));
        let new = addresses.get(ip("192.0.2.3"));
        assert_eq!([&moves, &stays, &new].map(|it| it.leaving()), [Some(3), Some(7), Some(7)]);
        assert_eq!(addresses.left(), BTreeMap::from([(ip("192.0.2.1"), 0)]));
        addresses.press(None);
        assert_eq!([&moves, &stays, &new].map(|it| it.leaving()), [Some(3), None, None]);
    }

    #[test]
    fn an_address_without_a_listener_is_reported_as_left_while_it_is_to_be_left() {
        let addresses = LocalAddresses::default();
        addresses.leave(&[ip("192.0.2.3")], 1);
        assert_eq!(addresses.left(), BTreeMap::from([(ip("192.0.2.3"), 0)]));
        addresses.stay(&[ip("192.0.2.3")]);
        assert!(addresses.left().is_empty());
        assert!(addresses.all.borrow().is_empty(), "nobody uses it, so it is forgotten");
    }
}
