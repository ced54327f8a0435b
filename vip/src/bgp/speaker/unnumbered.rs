//! The interfaces with unnumbered peers: which of them work, and which router is on them.
//!
//! The driver owns one [`Unnumbered`], hands in what becomes of interfaces and sessions, and lets
//! peers ask which router to dial. `bgp::unnumbered` decides what is said on a link; this file has the
//! sockets, and starts anew where an interface has gone, come back or changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    io,
    net::{IpAddr, Ipv6Addr},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use tracing::{debug, info, warn};

use crate::{
    bgp::unnumbered::{Discovery, message},
    kernel::sockets::router_discovery::DiscoverySocket,
    links::{Link, Links, Mac},
    problem::Problem,
};

/// After a socket could not be opened: mostly, the kernel still asks whether the address is in use.
const OPEN_AGAIN: Duration = Duration::from_millis(500);

/// All interfaces with unnumbered peers, by name.
pub(super) struct Unnumbered {
    links: BTreeMap<String, Watched>,
    /// The interfaces are to be looked at again.
    stale: bool,
    seed: u64,
}

/// Where the router is, and this node on the same link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// Index of the interface.
    pub(super) index: u32,
    /// This node.
    pub(super) own: Ipv6Addr,
    /// The router.
    pub(super) router: Ipv6Addr,
}

/// One interface.
struct Watched {
    /// Where this node is on it, or why it is not.
    place: Result<Place, String>,
    heard: Option<Heard>,
    /// Why routers are not heard, and when that is tried again.
    failure: Option<(String, Instant)>,
}

/// An interface that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    index: u32,
    mac: Option<Mac>,
    own: Ipv6Addr,
}

/// The routers on an interface.
struct Heard {
    socket: DiscoverySocket,
    discovery: Discovery,
}

impl Unnumbered {
    /// None yet. `seed` should differ from start to start.
    pub(super) fn new(seed: u64) -> Self {
        Self { links: BTreeMap::new(), stale: false, seed }
    }

    /// Looks at all interfaces again at the next [`follow`](Self::follow).
    pub(super) fn look(&mut self) {
        self.stale = true;
    }

    /// Speaks on these interfaces and no others; whether any of them has changed.
    pub(super) fn follow(&mut self, wanted: &BTreeSet<&str>, links: &Links, now: Instant) -> bool {
        if !std::mem::take(&mut self.stale) {
            return false;
        }
        self.links.retain(|name, _| wanted.contains(name.as_str()));
        let mut changed = false;
        for name in wanted {
            let place = place(name, links);
            if self.links.get(*name).is_some_and(|watched| watched.place == place) {
                continue;
            }
            debug!(interface = name, ?place, "an interface with an unnumbered peer");
            changed = true;
            let failure = Some((String::new(), now)).filter(|_| place.is_ok());
            self.links.insert((*name).to_owned(), Watched { place, heard: None, failure });
        }
        changed
    }

    /// Takes what was heard and says what is due. `session` tells which router the session on an interface
    /// is with. True if another router is to be dialled than before.
    pub(super) fn turn(
        &mut self,
        session: impl Fn(&str) -> Option<Ipv6Addr>,
        now: Instant,
    ) -> bool {
        let mut changed = false;
        for (name, watched) in &mut self.links {
            self.seed = self.seed.wrapping_add(1);
            watched.open(name, self.seed, now);
            let Some(heard) = &mut watched.heard else { continue };
            let before = heard.discovery.router();
            heard.discovery.set_session(session(name), now);
            if let Err(error) = heard.turn(watched.place.as_ref().ok().and_then(|at| at.mac), now) {
                warn!(interface = name, %error, "router advertisements cannot be received");
                watched.fail(&error, now);
                continue;
            }
            let after = heard.discovery.router();
            if let (Some(router), true) = (after, before != after) {
                info!(interface = name, %router, "the router of an unnumbered link");
            }
            changed |= before != after;
        }
        changed
    }

    /// The router on an interface; or else what its session waits for.
    pub(super) fn router(&self, interface: &str) -> Result<Neighbour, String> {
        let watched = self.links.get(interface);
        let watched = watched.ok_or_else(|| format!("{interface} has not been looked at yet"))?;
        let place = watched.place.as_ref().map_err(Clone::clone)?;
        if let (None, Some((failure, _))) = (&watched.heard, &watched.failure)
            && !failure.is_empty()
        {
            return Err(failure.clone());
        }
        let router = watched.heard.as_ref().and_then(|heard| heard.discovery.router());
        let router =
            router.ok_or_else(|| format!("no router advertisement heard on {interface}"))?;
        Ok(Neighbour { index: place.index, own: place.own, router })
    }

    /// The index of an interface that works.
    pub(super) fn index(&self, interface: &str) -> Option<u32> {
        self.links.get(interface)?.place.as_ref().ok().map(|place| place.index)
    }

    /// What is wrong with the routers on an interface.
    pub(super) fn problem(&self, interface: &str) -> Option<Problem> {
        let discovery = &self.links.get(interface)?.heard.as_ref()?.discovery;
        let routers: Vec<_> = discovery.routers().collect();
        let (Some(chosen), true) = (discovery.router(), routers.len() > 1) else { return None };
        let mut listed = String::new();
        for router in &routers {
            let comma = if listed.is_empty() { "" } else { ", " };
            // Cannot fail: it is a string.
            let _ = write!(listed, "{comma}{router}");
        }
        Some(Problem::noted(
            "AmbiguousNeighbor",
            "spec.interface",
            format!(
                "{} routers advertise themselves on {interface}: {listed}; the session is with \
                 {chosen}",
                routers.len()
            ),
            "an unnumbered link has one router: name routers by peerAddress, or put the others elsewhere",
        ))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let deadline = |watched: &Watched| match &watched.heard {
            Some(heard) => Some(heard.discovery.deadline()),
            None => watched.failure.as_ref().map(|(_, again)| *again),
        };
        self.links.values().filter_map(deadline).min()
    }

    /// Speaks and hears no more.
    pub(super) fn close(&mut self) {
        self.links.clear();
    }

    /// What to wait for.
    pub(super) fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.links.values().filter_map(|watched| Some(watched.heard.as_ref()?.socket.as_fd()))
    }
}

impl Watched {
    /// Opens the socket, if it is time to.
    fn open(&mut self, name: &str, seed: u64, now: Instant) {
        let (Ok(place), Some((before, again))) = (&self.place, &self.failure) else { return };
        if *again > now {
            return;
        }
        match DiscoverySocket::open(place.index, place.own) {
            Ok(socket) => {
                let discovery = Discovery::new(place.own, seed, now);
                (self.heard, self.failure) = (Some(Heard { socket, discovery }), None);
            }
            Err(error) => {
                let waits = error.kind() == io::ErrorKind::AddrNotAvailable;
                let why = match error.kind() {
                    _ if waits => format!("{name} has no link-local address that is ready for use"),
                    io::ErrorKind::PermissionDenied => {
                        format!("routers cannot be found on {name} without CAP_NET_RAW")
                    }
                    _ => format!("routers cannot be found on {name}: {error}"),
                };
                if !waits && *before != why {
                    warn!(interface = name, %error, "routers cannot be found");
                }
                self.failure = Some((why, now + OPEN_AGAIN));
            }
        }
    }

    fn fail(&mut self, error: &io::Error, now: Instant) {
        self.heard = None;
        self.failure =
            Some((format!("router advertisements cannot be received: {error}"), now + OPEN_AGAIN));
    }
}

impl Heard {
    fn turn(&mut self, mac: Option<Mac>, now: Instant) -> io::Result<()> {
        let discovery = &mut self.discovery;
        self.socket.receive(|from, message| {
            if let Some(kind) = message::parse(from, message) {
                discovery.heard(from, kind, now);
            }
        })?;
        for kind in self.discovery.tick(now) {
            if let Err(error) = self.socket.send(kind, &kind.write(mac)) {
                // It is said again soon.
                debug!(%error, ?kind, "not sent");
            }
        }
        Ok(())
    }
}

/// Where this node is on an interface.
fn place(name: &str, links: &Links) -> Result<Place, String> {
    let Some(link) = links.named(name) else { return Err(format!("there is no interface {name}")) };
    let Link { index, mac, .. } = *link;
    if !link.up {
        return Err(format!("interface {name} is down"));
    }
    if !link.carrier {
        return Err(format!("interface {name} has no carrier"));
    }
    let own = links.own().filter(|(of, _)| of.index == index).filter_map(|(_, ip)| match ip {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some(ip),
        _ => None,
    });
    // FRR makes a neighbour entry of the link-local address, by which routers with older kernels (before
    // Linux 5.2) reach IPv4 next hops: one that holds the link-layer address is the best to be known by.
    let own = own.min_by_key(|ip| (mac.map(eui64) != Some(ip.to_bits() as u64), *ip));
    match own {
        Some(own) => Ok(Place { index, mac, own }),
        None => Err(format!("interface {name} has no link-local IPv6 address")),
    }
}

/// The interface identifier that is made from a link-layer address (RFC 4291, appendix A).
fn eui64([a, b, c, d, e, f]: Mac) -> u64 {
    u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::tests::links;

    fn own(seen: &Links, name: &str) -> Result<String, String> {
        place(name, seen).map(|place| place.own.to_string())
    }

    #[test]
    fn a_node_is_on_an_unnumbered_link_by_its_link_local_address_or_says_why_it_is_not() {
        let seen = links(
            &[(2, true), (3, false), (4, true)],
            &[
                (2, "10.0.0.1/24"),
                (2, "2001:db8::1/64"),
                (2, "fe80::9/64"),
                (2, "fe80::5/64"),
                (3, "fe80::1/64"),
                (4, "2001:db8:1::1/64"),
            ],
        );
        assert_eq!(own(&seen, "eth2"), Ok("fe80::5".into()));
        assert_eq!(own(&seen, "eth3"), Err("interface eth3 is down".into()));
        assert_eq!(own(&seen, "eth4"), Err("interface eth4 has no link-local IPv6 address".into()));
        assert_eq!(own(&seen, "eth9"), Err("there is no interface eth9".into()));
        let unplugged = Link { carrier: false, ..seen.link(2).unwrap().clone() };
        let seen = Links::new([unplugged], []);
        assert_eq!(own(&seen, "eth2"), Err("interface eth2 has no carrier".into()));
    }

    #[test]
    fn of_several_link_local_addresses_the_one_that_holds_the_link_layer_address_is_used() {
        let seen = links(&[(2, true)], &[]);
        let link =
            Link { mac: Some([0x02, 0x42, 0xac, 0x11, 0, 2]), ..seen.link(2).unwrap().clone() };
        let made = "fe80::42:acff:fe11:2";
        let addresses = ["fe80::1", made, "fe80::7"].map(|ip| {
            let on = crate::links::OnLink { index: 2, ip: ip.parse().unwrap(), prefix: 64 };
            (on, crate::links::Origin::Unknown)
        });
        assert_eq!(own(&Links::new([link], addresses), "eth2"), Ok(made.into()));
    }
}
