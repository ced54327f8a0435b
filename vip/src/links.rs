//! The interfaces of this node and their addresses, as seen at one moment.
//!
//! `kernel::netlink` fills it, `vips` asks it where an address belongs. It decides by connected
//! subnets only: an address is announced where its neighbours are, or nowhere.

pub(crate) mod change;
pub(crate) mod loopback;
pub(crate) mod notice;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

use crate::{plan::Interfaces, problem::Problem};

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

/// How many subnets a refusal lists; a node may have hundreds.
const LISTED: usize = 8;

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// `None` on links that do not speak ARP and NDP, such as tunnels.
    pub(crate) mac: Option<Mac>,
    /// Administratively up.
    pub(crate) up: bool,
    /// There is something at the other end of the cable.
    pub(crate) carrier: bool,
    pub(crate) loopback: bool,
}

/// An address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OnLink {
    pub(crate) index: u32,
    pub(crate) ip: IpAddr,
    pub(crate) prefix: u8,
}

impl OnLink {
    /// An address by itself, without a subnet: `/32` or `/128`, as VIPs are added.
    pub(crate) fn host(index: u32, ip: IpAddr) -> Self {
        Self { index, ip, prefix: host_prefix(ip) }
    }

    /// The connected subnet; `None` for an address by itself.
    fn subnet(&self) -> Option<IpNet> {
        let subnet = IpNet::new(self.ip, self.prefix).ok()?;
        (self.prefix < host_prefix(self.ip)).then(|| subnet.trunc())
    }
}

/// Which program put an address on an interface, if the kernel tells (`IFA_PROTO`, since Linux 5.18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A program that left no mark, or a kernel without marks.
    Unknown,
    /// This program, or its predecessor that was killed.
    Ours,
    /// Another program.
    Foreign,
}

/// This node on one link: its own addresses there, no VIPs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkFacts {
    pub(crate) mac: Mac,
    pub(crate) v4: Option<Ipv4Addr>,
    /// A global one if there is one, else the link-local one.
    pub(crate) v6: Option<Ipv6Addr>,
}

/// All interfaces and addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Links {
    links: BTreeMap<u32, Link>,
    addresses: BTreeMap<OnLink, Origin>,
    /// Connected subnets by interface, not those of loopback: asked once for every address held, so
    /// kept apart from the addresses, which may be thousands.
    subnets: Vec<(u32, IpNet)>,
}

impl Links {
    pub(crate) fn new(
        links: impl IntoIterator<Item = Link>,
        addresses: impl IntoIterator<Item = (OnLink, Origin)>,
    ) -> Self {
        let links: BTreeMap<_, _> = links.into_iter().map(|link| (link.index, link)).collect();
        let addresses: BTreeMap<_, _> = addresses.into_iter().collect();
        let outside = |index| links.get(index).is_some_and(|link: &Link| !link.loopback);
        let subnets = addresses
            .keys()
            .filter(|address| outside(&address.index))
            .filter_map(|address| Some((address.index, address.subnet()?)))
            .collect();
        Self { links, addresses, subnets }
    }

    /// An interface by its index.
    pub(crate) fn link(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    /// An interface by its name.
    pub(crate) fn named(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// The interface that has an address.
    pub(crate) fn with(&self, ip: IpAddr) -> Option<&Link> {
        self.links.values().find(|link| self.has(link.index, ip))
    }

    /// Addresses of this node's own, with a subnet, by interface; not those of loopback.
    pub(crate) fn own(&self) -> impl Iterator<Item = (&Link, IpAddr)> {
        self.addresses.iter().filter_map(|(on, origin)| {
            let link = self.link(on.index).filter(|link| !link.loopback)?;
            (*origin != Origin::Ours && on.subnet().is_some()).then_some((link, on.ip))
        })
    }

    /// The interfaces on which other nodes of a group, or routers, may be neighbours: with a carrier
    /// and a subnet of this node's own, link-local ones aside.
    pub(crate) fn meeting_places(&self) -> BTreeSet<u32> {
        let lasting = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => !ip.is_link_local(),
            IpAddr::V6(ip) => !ip.is_unicast_link_local(),
        };
        let places = self.own().filter(|(link, ip)| link.up && link.carrier && lasting(ip));
        places.filter(|(link, _)| link.mac.is_some()).map(|(link, _)| link.index).collect()
    }

    /// Notes a host address that has been added.
    pub(crate) fn added(&mut self, index: u32, ip: IpAddr) {
        self.addresses.insert(OnLink::host(index, ip), Origin::Ours);
    }

    /// Notes a host address that has been deleted.
    pub(crate) fn deleted(&mut self, index: u32, ip: IpAddr) {
        self.addresses.remove(&OnLink::host(index, ip));
    }

    /// The interface where an address belongs: up, allowed, with the most specific subnet that
    /// holds the address; of several, one with a carrier, lowest index first.
    pub(crate) fn home(&self, vip: IpAddr, allowed: &Interfaces) -> Result<&Link, Problem> {
        let candidates = self.usable_subnets(allowed).filter(|(_, net)| net.contains(&vip));
        let best = candidates
            .min_by_key(|(link, net)| (u8::MAX - net.prefix_len(), !link.carrier, link.index));
        match best {
            None => Err(self.no_interface(vip, allowed)),
            Some((link, net)) if is_broadcast(net, vip) => Err(Problem::refused(
                "BroadcastAddress",
                "",
                format!("{vip} is the broadcast address of {net} on {}", link.name),
                "leave it out of the pool, by a range or by avoidBuggyIPs",
            )),
            Some((link, _)) => Ok(link),
        }
    }

    /// Whether an interface still is a place for an address, be it the best one or not.
    pub(crate) fn fits(&self, index: u32, vip: IpAddr, allowed: &Interfaces) -> bool {
        self.usable_subnets(allowed).any(|(link, net)| link.index == index && net.contains(&vip))
    }

    /// Whether an interface has an address, under whichever prefix.
    pub(crate) fn has(&self, index: u32, ip: IpAddr) -> bool {
        self.on(index, ip).next().is_some()
    }

    /// The entries of an address on an interface.
    pub(crate) fn on(&self, index: u32, ip: IpAddr) -> impl Iterator<Item = (OnLink, Origin)> {
        let entries = OnLink { index, ip, prefix: 0 }..=OnLink { index, ip, prefix: u8::MAX };
        self.addresses.range(entries).map(|(entry, origin)| (*entry, *origin))
    }

    /// The loopback interface, if it is up.
    pub(crate) fn loopback(&self) -> Option<&Link> {
        self.links.values().find(|link| link.loopback && link.up)
    }

    /// The interfaces that are up and speak ARP.
    pub(crate) fn speaking_arp(&self) -> impl Iterator<Item = &Link> {
        self.links.values().filter(|link| link.up && link.mac.is_some())
    }

    /// Whether a frame from this Ethernet address is one of this node's own.
    pub(crate) fn is_own(&self, mac: Mac) -> bool {
        self.links.values().any(|link| link.mac == Some(mac))
    }

    /// Host addresses that this program, or a predecessor, has put on interfaces.
    pub(crate) fn ours(&self) -> impl Iterator<Item = (u32, IpAddr)> {
        let ours = self.addresses.iter().filter(|(_, origin)| **origin == Origin::Ours);
        ours.map(|(on, _)| *on)
            .filter(|on| *on == OnLink::host(on.index, on.ip))
            .map(|on| (on.index, on.ip))
    }

    /// By what the neighbours on a link know this node: its addresses there that are no VIPs, those
    /// with a subnet before others, and global ones before link-local ones. `None` on a link without
    /// ARP and NDP.
    pub(crate) fn facts(&self, index: u32, is_vip: impl Fn(IpAddr) -> bool) -> Option<LinkFacts> {
        let mac = self.link(index)?.mac?;
        let all = OnLink { index, ip: IpAddr::V4(0.into()), prefix: 0 }..=OnLink {
            index,
            ip: Ipv6Addr::from([0xff; 16]).into(),
            prefix: u8::MAX,
        };
        let own: Vec<_> = self
            .addresses
            .range(all)
            .filter(|(on, origin)| **origin != Origin::Ours && !is_vip(on.ip))
            .map(|(on, _)| *on)
            .collect();
        let best = |rank: fn(&OnLink) -> Option<u8>| {
            let ranked =
                own.iter().filter_map(|on| Some((rank(on)?, on.subnet().is_none(), on.ip)));
            ranked.min().map(|(.., ip)| ip)
        };
        let v4 = best(|on| on.ip.is_ipv4().then_some(0));
        let v6 = best(|on| match on.ip {
            IpAddr::V6(ip) => Some(u8::from(ip.is_unicast_link_local())),
            IpAddr::V4(_) => None,
        });
        Some(LinkFacts {
            mac,
            v4: v4.and_then(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None }),
            v6: v6.and_then(|ip| if let IpAddr::V6(ip) = ip { Some(ip) } else { None }),
        })
    }

    fn usable_subnets(&self, allowed: &Interfaces) -> impl Iterator<Item = (&Link, IpNet)> {
        self.subnets().filter(|(link, _)| link.up && allowed.allow(&link.name))
    }

    fn subnets(&self) -> impl Iterator<Item = (&Link, IpNet)> {
        self.subnets.iter().filter_map(|(index, net)| Some((self.link(*index)?, *net)))
    }

    fn no_interface(&self, vip: IpAddr, allowed: &Interfaces) -> Problem {
        let among = match allowed {
            Interfaces::Any => "no interface".to_owned(),
            Interfaces::Named(names) => {
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                format!("none of the advertised interfaces ({})", names.join(", "))
            }
        };
        let seen: Vec<_> = self
            .subnets()
            .filter(|(_, net)| net.addr().is_ipv4() == vip.is_ipv4())
            .map(|(link, net)| {
                format!("{} {net}{}", link.name, if link.up { "" } else { " (down)" })
            })
            .collect();
        let more = seen.len().saturating_sub(LISTED);
        let mut text = seen[..seen.len() - more].join(", ");
        if seen.is_empty() {
            text.push_str("none");
        }
        if more > 0 {
            text += &format!(" and {more} more");
        }
        Problem::refused(
            "NoInterface",
            "",
            format!("{among} has a subnet that holds {vip}; subnets: {text}"),
            "use a pool within one of these subnets, or give an interface an address of the pool's",
        )
    }
}

fn host_prefix(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// In subnets of two addresses there is no broadcast (RFC 3021), nor is there in IPv6.
fn is_broadcast(net: IpNet, ip: IpAddr) -> bool {
    ip.is_ipv4() && net.prefix_len() < 31 && net.broadcast() == ip
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Links named eth1, eth2, …; addresses as (index, "ip/prefix").
    pub(crate) fn links(up: &[(u32, bool)], addresses: &[(u32, &str)]) -> Links {
        let link = |index, up| Link {
            index,
            name: format!("eth{index}"),
            mac: Some([2, 0, 0, 0, 0, index as u8]),
            up,
            carrier: up,
            loopback: false,
        };
        let entry = |(index, text): &(u32, &str)| {
            let net: IpNet = text.parse().unwrap();
            let on = OnLink { index: *index, ip: net.addr(), prefix: net.prefix_len() };
            (on, Origin::Unknown)
        };
        Links::new(up.iter().map(|&(index, up)| link(index, up)), addresses.iter().map(entry))
    }

    /// The same with `lo` up, as interface 1.
    pub(crate) fn with_loopback(mut links: Links) -> Links {
        let lo = Link {
            index: 1,
            name: "lo".into(),
            mac: None,
            up: true,
            carrier: true,
            loopback: true,
        };
        links.links.insert(1, lo);
        links
    }

    /// Changes an interface.
    pub(crate) fn change_link(links: &mut Links, index: u32, change: impl Fn(&mut Link)) {
        change(links.links.get_mut(&index).unwrap());
    }

    fn home(links: &Links, vip: &str, allowed: &Interfaces) -> Result<String, String> {
        let home = links.home(vip.parse().unwrap(), allowed);
        home.map(|link| link.name.clone()).map_err(|refusal| refusal.message)
    }

    #[test]
    fn an_address_belongs_where_its_most_specific_subnet_is() {
        let links = links(
            &[(2, true), (3, true), (4, true), (5, false)],
            &[
                (2, "10.0.0.1/8"),
                (3, "10.1.0.1/16"),
                (4, "10.1.0.2/16"),
                (5, "10.1.1.1/24"),
                (4, "10.1.1.9/32"),
                (2, "2001:db8::1/64"),
            ],
        );
        let any = Interfaces::Any;
        let only = |name: &str| Interfaces::Named([name.to_owned()].into());
        let cases = [
            ("10.9.9.9", &any, Ok("eth2")),
            ("10.1.1.9", &any, Ok("eth3")),
            ("10.1.1.9", &only("eth2"), Ok("eth2")),
            ("2001:db8::200", &any, Ok("eth2")),
            (
                "192.168.1.1",
                &any,
                Err("no interface has a subnet that holds 192.168.1.1; subnets: \
                     eth2 10.0.0.0/8, eth3 10.1.0.0/16, eth4 10.1.0.0/16, eth5 10.1.1.0/24 (down)"),
            ),
            (
                "2001:db8::200",
                &only("eth3"),
                Err("none of the advertised interfaces (eth3) has a subnet that holds \
                     2001:db8::200; subnets: eth2 2001:db8::/64"),
            ),
            (
                "10.255.255.255",
                &any,
                Err("10.255.255.255 is the broadcast address of 10.0.0.0/8 on eth2"),
            ),
        ];
        for (vip, allowed, expected) in cases {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(home(&links, vip, allowed), expected);
        }
    }

    #[test]
    fn of_two_interfaces_on_a_subnet_the_one_with_a_carrier_is_home() {
        let seen = links(&[(2, true), (3, true)], &[(2, "10.0.0.1/24"), (3, "10.0.0.2/24")]);
        let unplugged = Link { carrier: false, ..seen.link(2).unwrap().clone() };
        let plugged = seen.link(3).unwrap().clone();
        let links = Links::new([unplugged, plugged], seen.addresses);
        assert_eq!(home(&links, "10.0.0.9", &Interfaces::Any), Ok("eth3".into()));
    }

    #[test]
    fn neighbours_know_a_node_by_its_own_addresses() {
        let mut seen = links(
            &[(2, true), (3, true)],
            &[
                (2, "10.0.0.2/32"),
                (2, "10.0.0.9/24"),
                (2, "10.0.0.1/24"),
                (2, "fe80::1/64"),
                (2, "2001:db8::200/128"),
                (2, "2001:db8::201/64"),
                (3, "fe80::2/64"),
            ],
        );
        seen.added(3, "192.0.2.1".parse().unwrap());
        let vips: Vec<IpAddr> = ["10.0.0.1", "2001:db8::200"].map(|ip| ip.parse().unwrap()).into();
        let facts = |index| seen.facts(index, |ip| vips.contains(&ip));
        let ip = |text: &str| Some(text.parse().unwrap());
        let two = facts(2).unwrap();
        assert_eq!((two.v4.map(IpAddr::V4), two.v6.map(IpAddr::V6)), {
            (ip("10.0.0.9"), ip("2001:db8::201"))
        });
        let three = facts(3).unwrap();
        assert_eq!((three.v4.map(IpAddr::V4), three.v6.map(IpAddr::V6)), (None, ip("fe80::2")));
        assert_eq!(facts(4), None);
        let ours: Vec<_> = seen.ours().collect();
        assert_eq!(ours, [(3, "192.0.2.1".parse().unwrap())]);
    }

    #[test]
    fn nodes_meet_where_they_have_a_subnet_and_a_carrier() {
        let mut seen = links(
            &[(2, true), (3, true), (4, true), (5, false), (6, true)],
            &[
                (2, "10.0.0.1/24"),
                (3, "fe80::3/64"),
                (4, "10.1.0.1/32"),
                (5, "10.2.0.1/24"),
                (6, "2001:db8::1/64"),
            ],
        );
        assert_eq!(seen.meeting_places(), [2, 6].into());
        change_link(&mut seen, 6, |link| link.carrier = false);
        assert_eq!(seen.meeting_places(), [2].into());
    }

    #[test]
    fn the_loopback_interface_is_no_place_for_a_vip() {
        let seen = links(&[(1, true)], &[(1, "10.0.0.1/8")]);
        let lo = Link { loopback: true, ..seen.link(1).unwrap().clone() };
        let links = Links::new([lo], seen.addresses);
        let message = home(&links, "10.0.0.9", &Interfaces::Any).unwrap_err();
        assert_eq!(message, "no interface has a subnet that holds 10.0.0.9; subnets: none");
    }

    #[test]
    fn a_refusal_lists_some_subnets_and_counts_the_others() {
        let texts: Vec<_> = (0..11).map(|net| format!("10.0.{net}.1/24")).collect();
        let addresses: Vec<_> = texts.iter().map(|text| (2, text.as_str())).collect();
        let message = home(&links(&[(2, true)], &addresses), "192.0.2.1", &Interfaces::Any);
        assert!(message.unwrap_err().ends_with("eth2 10.0.7.0/24 and 3 more"));
    }
}
