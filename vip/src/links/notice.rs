//! Single changes to the interfaces and addresses of this node, as the kernel tells them.
//!
//! `kernel::netlink` reads them, the driver applies them, so that a change costs what it changes and not
//! a list of everything: a node with many pods has many, and holds thousands of addresses.

use std::net::IpAddr;

use super::{Link, Links, OnLink, Origin};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The interface is new, or something about it.
    Link(Link),
    /// The interface is gone, and with it its addresses.
    LinkGone(u32),
    /// The address is new, or something about it.
    Address(OnLink, Origin),
    /// The address is gone.
    AddressGone(OnLink),
}

impl Links {
    /// Whether a change takes away an address that this process, or its predecessor, has put there.
    pub(crate) fn takes_ours(&self, notice: &Notice) -> bool {
        matches!(notice, Notice::AddressGone(address)
            if self.addresses.get(address) == Some(&Origin::Ours))
    }

    /// Whether an address is to be sought on an interface: it has the subnet, or none has.
    pub(crate) fn leads_to(&self, index: u32, ip: IpAddr) -> bool {
        let mut around = self.subnets().filter(|(_, net)| net.contains(&ip)).peekable();
        around.peek().is_none() || around.any(|(link, _)| link.index == index)
    }

    /// Takes a change over; whether it changes anything.
    pub(crate) fn apply(&mut self, notice: Notice) -> bool {
        match notice {
            Notice::Link(link) => {
                if self.links.get(&link.index) == Some(&link) {
                    return false;
                }
                self.links.insert(link.index, link);
            }
            Notice::LinkGone(index) => {
                if self.links.remove(&index).is_none() {
                    return false;
                }
                self.addresses.retain(|address, _| address.index != index);
            }
            Notice::Address(address, origin) => {
                if self.addresses.insert(address, origin) == Some(origin) {
                    return false;
                }
                if address.subnet().is_none() {
                    return true;
                }
            }
            Notice::AddressGone(address) => {
                if self.addresses.remove(&address).is_none() {
                    return false;
                }
                if address.subnet().is_none() {
                    return true;
                }
            }
        }
        // Whether a subnet counts depends on its interface as well.
        let (links, addresses) =
            (std::mem::take(&mut self.links), std::mem::take(&mut self.addresses));
        *self = Self::new(links.into_values(), addresses);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{links::tests::links, plan::Interfaces};

    fn address(index: u32, text: &str) -> OnLink {
        let net: ipnet::IpNet = text.parse().unwrap();
        OnLink { index, ip: net.addr(), prefix: net.prefix_len() }
    }

    fn home(links: &Links) -> Option<String> {
        let home = links.home("10.0.0.9".parse().unwrap(), &Interfaces::Any);
        home.ok().map(|link| link.name.clone())
    }

    #[test]
    fn changes_one_by_one_give_what_a_list_of_everything_shows() {
        let mut seen = Links::default();
        let all = links(&[(2, true), (3, true)], &[(2, "10.0.0.1/24"), (3, "10.0.0.1/16")]);
        let unknown = Origin::Unknown;
        // A notice of an address may come before that of its interface.
        assert!(seen.apply(Notice::Address(address(2, "10.0.0.1/24"), unknown)));
        for index in [2, 3] {
            assert!(seen.apply(Notice::Link(all.link(index).unwrap().clone())));
        }
        assert!(seen.apply(Notice::Address(address(3, "10.0.0.1/16"), unknown)));
        assert_eq!(seen, all);
        assert_eq!(home(&seen).as_deref(), Some("eth2"));

        assert!(seen.apply(Notice::AddressGone(address(2, "10.0.0.1/24"))));
        assert_eq!(home(&seen).as_deref(), Some("eth3"));
        assert!(seen.apply(Notice::LinkGone(3)));
        assert_eq!((home(&seen), seen), (None, links(&[(2, true)], &[])));
    }

    #[test]
    fn an_address_is_sought_where_its_subnet_is_or_everywhere() {
        let seen = links(&[(2, true), (3, true)], &[(2, "10.0.0.1/24"), (3, "10.1.0.1/24")]);
        let leads = |index, ip: &str| seen.leads_to(index, ip.parse().unwrap());
        assert_eq!([leads(2, "10.0.0.9"), leads(3, "10.0.0.9")], [true, false]);
        assert_eq!([leads(2, "10.9.0.9"), leads(3, "10.9.0.9")], [true, true]);
    }

    #[test]
    fn what_is_known_already_changes_nothing() {
        let mut seen = links(&[(2, true)], &[(2, "10.0.0.1/24"), (2, "10.0.0.9/32")]);
        let before = seen.clone();
        let known = [
            Notice::Link(seen.link(2).unwrap().clone()),
            Notice::LinkGone(7),
            Notice::Address(address(2, "10.0.0.9/32"), Origin::Unknown),
            Notice::AddressGone(address(2, "10.0.0.8/32")),
        ];
        for notice in known {
            assert!(!seen.apply(notice.clone()), "{notice:?}");
        }
        assert_eq!(seen, before);
    }
}
