//! Router advertisements and solicitations on the wire (RFC 4861 §4.1, §4.2, §6.1).
//!
//! ICMPv6 messages without the IPv6 header: the kernel checks and fills in checksums, and lets only
//! those through whose hop limit says that no router has passed them on (`kernel::sockets`). What
//! else RFC 4861 asks of a message is checked here; no router sends what is not read here.

use std::net::Ipv6Addr;

use crate::links::Mac;

/// ICMPv6 types.
pub(crate) const SOLICITATION: u8 = 133;
pub(crate) const ADVERTISEMENT: u8 = 134;
/// Type, code, checksum, and four reserved octets; or hop limit, flags, lifetimes and times.
const SOLICITATION_LEN: usize = 8;
const ADVERTISEMENT_LEN: usize = 16;
/// Option: the sender's link-layer address. FRR and GoBGP look it up rather than ask for it.
const SOURCE_LINK_LAYER: u8 = 1;

/// Which of the two messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Asks routers to advertise themselves.
    Solicitation,
    /// Says that there is a router.
    Advertisement,
}

impl Kind {
    /// The group that hears it: `ff02::2`, all routers, or `ff02::1`, all nodes.
    pub(crate) fn group(self) -> Ipv6Addr {
        let last = match self {
            Self::Solicitation => 2,
            Self::Advertisement => 1,
        };
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, last)
    }

    /// The message of a node whose interface has this link-layer address, with a checksum of zero.
    ///
    /// An advertisement names its sender and nothing else: its lifetime of zero keeps hosts from taking this
    /// node for a default router, and what is zero besides leaves their settings alone (§4.2).
    pub(crate) fn write(self, mac: Option<Mac>) -> Vec<u8> {
        let (kind, len) = match self {
            Self::Solicitation => (SOLICITATION, SOLICITATION_LEN),
            Self::Advertisement => (ADVERTISEMENT, ADVERTISEMENT_LEN),
        };
        let mut message = vec![0; len];
        message[0] = kind;
        if let Some(mac) = mac {
            message.extend([SOURCE_LINK_LAYER, 1]);
            message.extend(mac);
        }
        message
    }
}

/// What a message is that came from this address; `None` if it is to be ignored (§6.1.1, §6.1.2).
pub(crate) fn parse(from: Ipv6Addr, message: &[u8]) -> Option<Kind> {
    let [kind, code, ..] = *message else { return None };
    let (kind, options) = match kind {
        SOLICITATION => (Kind::Solicitation, message.get(SOLICITATION_LEN..)?),
        ADVERTISEMENT => (Kind::Advertisement, message.get(ADVERTISEMENT_LEN..)?),
        _ => return None,
    };
    let mut named = false;
    let mut rest = options;
    while let [option, units, ..] = *rest {
        named |= option == SOURCE_LINK_LAYER;
        // In units of eight octets. None at all would never come to an end.
        rest = rest.get(usize::from(units) * 8..).filter(|_| units > 0)?;
    }
    let sender = match kind {
        // A host without an address has nothing to go with a link-layer address.
        Kind::Solicitation if from.is_unspecified() => !named,
        Kind::Solicitation => !from.is_multicast(),
        Kind::Advertisement => from.is_unicast_link_local(),
    };
    (code == 0 && rest.is_empty() && sender).then_some(kind)
}

#[cfg(test)]
mod tests {
    use smoltcp::{
        phy::ChecksumCapabilities,
        wire::{EthernetAddress, Icmpv6Packet, Icmpv6Repr, NdiscRepr, NdiscRouterFlags},
    };

    use super::*;

    const MAC: Mac = [0x02, 0x42, 0xac, 0x11, 0x00, 0x02];

    fn router() -> Ipv6Addr {
        "fe80::1".parse().unwrap()
    }

    /// What a reader of another project makes of a message.
    fn second_opinion(message: &[u8]) -> NdiscRepr<'_> {
        let packet = Icmpv6Packet::new_checked(message).unwrap();
        let to = Kind::Advertisement.group();
        let unchecked = ChecksumCapabilities::ignored();
        match Icmpv6Repr::parse(&router(), &to, &packet, &unchecked).unwrap() {
            Icmpv6Repr::Ndisc(message) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_advertisement_names_its_sender_and_asks_nobody_to_route_by_it() {
        let NdiscRepr::RouterAdvert {
            hop_limit,
            flags,
            router_lifetime,
            reachable_time,
            retrans_time,
            lladdr,
            mtu,
            prefix_info,
        } = second_opinion(&Kind::Advertisement.write(Some(MAC)))
        else {
            panic!("no advertisement");
        };
        assert_eq!((hop_limit, flags), (0, NdiscRouterFlags::empty()));
        assert_eq!((router_lifetime.total_millis(), reachable_time.total_millis()), (0, 0));
        assert_eq!((retrans_time.total_millis(), mtu, prefix_info), (0, None, None));
        assert_eq!(lladdr, Some(EthernetAddress(MAC).into()));
        let lladdr = Some(EthernetAddress(MAC).into());
        let solicitation = Kind::Solicitation.write(Some(MAC));
        assert_eq!(second_opinion(&solicitation), NdiscRepr::RouterSolicit { lladdr });
        assert_eq!(Kind::Solicitation.write(None).len(), 8);
    }

    #[test]
    fn only_valid_messages_of_router_discovery_count() {
        let none = Ipv6Addr::UNSPECIFIED;
        let global: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let advert = |options: &[u8]| {
            let mut message = Kind::Advertisement.write(None);
            message.extend(options);
            message
        };
        let solicit = |options: &[u8]| {
            let mut message = Kind::Solicitation.write(None);
            message.extend(options);
            message
        };
        let lladdr = [1, 1, 2, 0, 0, 0, 0, 7];
        // A prefix of 1800 s, and an MTU of 1500.
        let mut prefix = vec![3, 4, 64, 0xc0, 0, 0, 7, 8, 0, 0, 7, 8, 0, 0, 0, 0];
        prefix.extend(global.octets());
        let both = [&lladdr[..], &prefix, &[5, 1, 0, 0, 0, 0, 5, 0xdc]].concat();
        let mut lifetime = advert(&both);
        lifetime[4..8].copy_from_slice(&[64, 0xc0, 7, 8]);
        let mut wrong_code = advert(&[]);
        wrong_code[1] = 1;
        let (asks, says) = (Some(Kind::Solicitation), Some(Kind::Advertisement));
        let cases = [
            ("bare advertisement", router(), advert(&[]), says),
            ("with an address", router(), advert(&lladdr), says),
            ("of a default router", router(), lifetime, says),
            ("unknown option", router(), advert(&[99, 1, 0, 0, 0, 0, 0, 0]), says),
            ("solicitation", router(), solicit(&lladdr), asks),
            ("solicitation of a host with a global address", global, solicit(&[]), asks),
            ("solicitation from no address", none, solicit(&[]), asks),
            ("from no address, with one", none, solicit(&lladdr), None),
            ("advertisement from afar", global, advert(&[]), None),
            ("advertisement from no address", none, advert(&[]), None),
            ("wrong code", router(), wrong_code, None),
            ("option of length 0", router(), advert(&[1, 0, 0, 0, 0, 0, 0, 0]), None),
            ("option beyond the end", router(), advert(&[1, 2, 0, 0, 0, 0, 0, 0]), None),
            ("half an option", router(), advert(&[1]), None),
            ("cut advertisement", router(), advert(&[])[..15].to_vec(), None),
            ("cut solicitation", router(), solicit(&[])[..7].to_vec(), None),
            ("neighbour advertisement", router(), vec![136; 24], None),
            ("nothing", router(), vec![], None),
            ("one octet", router(), vec![134], None),
        ];
        for (name, from, message, expected) in cases {
            assert_eq!(parse(from, &message), expected, "{name}");
        }
    }
}
