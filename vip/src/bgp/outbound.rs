//! The UPDATE messages that this speaker sends: few, full, and in the form that the session allows.
//!
//! [`Outbound`] knows what is the same for all routes of a session: AS_PATH, next hops, families,
//! the length of a message. Routes that are said the same thing of share their messages.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{
    attribute::{
        AS_PATH, AS4_PATH, COMMUNITIES, EXTENDED_LENGTH, LARGE_COMMUNITIES, LOCAL_PREF, MP_REACH,
        MP_UNREACH, NEXT_HOP, OPTIONAL, ORIGIN, TRANSITIVE,
    },
    capability::{AFI_V4, AFI_V6, UNICAST},
    community::Community,
    open::{AS_TRANS, Negotiated},
    peer::Families,
    rib_out::{Attributes, Delta, RibOut},
};
use crate::bgp::header::{self, HEADER, Kind, LONGEST, LONGEST_EXTENDED};

/// RFC 4271 §5.1.5 leaves it to the operator; all implementations take 100.
const USUAL_LOCAL_PREF: u32 = 100;

/// Where routers send what is for the announced addresses: this node's addresses on the link to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextHops {
    /// IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Global IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// Link-local IPv6 address, if the router is on the link.
    pub link_local: Option<Ipv6Addr>,
}

/// What is the same for all routes of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    local_asn: u32,
    internal: bool,
    four_octet_asn: bool,
    families: Families,
    longest: usize,
    next_hops: NextHops,
    /// IPv4 routes go with an IPv6 next hop, in MP_REACH_NLRI.
    v4_by_v6: bool,
}

/// Messages for a router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// UPDATE messages, in the order in which they are to be sent.
    pub messages: Vec<Vec<u8>>,
    /// Routes that cannot be announced on this session: see [`Outbound::carries`], or they have more
    /// communities than a message has room for.
    pub unsent: Vec<IpNet>,
}

impl Outbound {
    /// For a session on which this has been agreed, from the ASN that this end presents.
    pub fn new(negotiated: &Negotiated, local_asn: u32, next_hops: NextHops) -> Self {
        let longest = if negotiated.extended_message { LONGEST_EXTENDED } else { LONGEST };
        let v6_next_hop = next_hops.v6.or(next_hops.link_local).is_some();
        Self {
            local_asn,
            internal: negotiated.internal,
            four_octet_asn: negotiated.four_octet_asn,
            families: negotiated.families,
            longest,
            next_hops,
            v4_by_v6: next_hops.v4.is_none() && negotiated.extended_next_hop && v6_next_hop,
        }
    }

    /// Whether routes of this family can be announced: both sides speak it, and there is a next hop.
    pub fn carries(&self, prefix: &IpNet) -> bool {
        match prefix {
            IpNet::V4(_) => self.families.v4 && (self.next_hops.v4.is_some() || self.v4_by_v6),
            IpNet::V6(_) => {
                self.families.v6 && self.next_hops.v6.or(self.next_hops.link_local).is_some()
            }
        }
    }

    /// Says a delta. What is new comes before what is gone, so that an address that only changes its
    /// prefix is reachable all the time.
    pub fn encode(&self, delta: &Delta) -> Encoded {
        let mut encoded = Encoded::default();
        for (attributes, prefixes) in &delta.announce {
            let (sent, unsent): (Vec<_>, Vec<_>) =
                prefixes.iter().copied().partition(|prefix| self.carries(prefix));
            encoded.unsent.extend(unsent);
            let (v4, v6): (Vec<_>, Vec<_>) =
                sent.into_iter().partition(|prefix| matches!(prefix, IpNet::V4(_)));
            if self.v4_by_v6 {
                self.announce_multiprotocol(AFI_V4, attributes, &v4, &mut encoded);
            } else {
                self.announce_v4(attributes, &v4, &mut encoded);
            }
            self.announce_multiprotocol(AFI_V6, attributes, &v6, &mut encoded);
        }
        let (v4, v6): (Vec<IpNet>, Vec<IpNet>) = delta
            .withdraw
            .iter()
            .filter(|prefix| self.carries(prefix))
            .partition(|prefix| matches!(prefix, IpNet::V4(_)));
        if self.v4_by_v6 {
            self.withdraw_multiprotocol(AFI_V4, &v4, &mut encoded);
        } else {
            for nlri in self.packed(&v4, 4) {
                encoded.messages.push(update(&nlri, &[], &[]));
            }
        }
        self.withdraw_multiprotocol(AFI_V6, &v6, &mut encoded);
        encoded
    }

    /// The messages that withdraw what was said of `said` and cannot be said as `other` would.
    pub fn no_longer(&self, other: &Self, said: &RibOut) -> Vec<Vec<u8>> {
        let lost = |prefix: &&IpNet| self.carries(prefix) && !other.carries(prefix);
        let withdraw = said.routes.keys().filter(lost).copied().collect();
        self.encode(&Delta { withdraw, ..Delta::default() }).messages
    }

    /// RFC 4724 §2: everything has been said.
    pub fn end_of_rib(&self) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        if self.families.v4 {
            messages.push(update(&[], &[], &[]));
        }
        if self.families.v6 {
            messages.push(update(&[], &unreach(AFI_V6, &[]), &[]));
        }
        messages
    }

    fn announce_v4(&self, attributes: &Attributes, prefixes: &[IpNet], encoded: &mut Encoded) {
        let Some(next_hop) = self.next_hops.v4 else { return };
        let mut path = self.path_attributes(attributes);
        path.push((NEXT_HOP, TRANSITIVE, next_hop.octets().to_vec()));
        let path = written(path);
        let chunks = self.packed(prefixes, 4 + path.len());
        if chunks.is_empty() {
            encoded.unsent.extend(prefixes);
        }
        for nlri in chunks {
            encoded.messages.push(update(&[], &path, &nlri));
        }
    }

    fn announce_multiprotocol(
        &self,
        afi: u16,
        attributes: &Attributes,
        prefixes: &[IpNet],
        encoded: &mut Encoded,
    ) {
        let path = written(self.path_attributes(attributes));
        let mut head = vec![0, afi.to_be_bytes()[1], UNICAST];
        let next_hop: Vec<u8> = [self.next_hops.v6, self.next_hops.link_local]
            .iter()
            .flatten()
            .flat_map(Ipv6Addr::octets)
            .collect();
        head.push(u8::try_from(next_hop.len()).unwrap_or(0));
        head.extend_from_slice(&next_hop);
        // Reserved.
        head.push(0);
        let chunks = self.packed(prefixes, 4 + path.len() + 4 + head.len());
        if chunks.is_empty() {
            encoded.unsent.extend(prefixes);
        }
        for nlri in chunks {
            // RFC 7606 §5.1: first of all, so that it is found whatever else is broken.
            let mut all = written(vec![(MP_REACH, OPTIONAL, [&head[..], &nlri].concat())]);
            all.extend_from_slice(&path);
            encoded.messages.push(update(&[], &all, &[]));
        }
    }

    fn withdraw_multiprotocol(&self, afi: u16, prefixes: &[IpNet], encoded: &mut Encoded) {
        for nlri in self.packed(prefixes, 4 + 4 + 3) {
            encoded.messages.push(update(&[], &unreach(afi, &nlri), &[]));
        }
    }

    /// What is said of all of these routes: type, flags, value; without the next hop.
    fn path_attributes(&self, attributes: &Attributes) -> Vec<(u8, u8, Vec<u8>)> {
        const IGP: u8 = 0;
        let mut path = vec![(ORIGIN, TRANSITIVE, vec![IGP])];
        let short = u16::try_from(self.local_asn);
        let segment = |asn: &[u8]| [&[2, 1], asn].concat();
        path.push((
            AS_PATH,
            TRANSITIVE,
            match (self.internal, self.four_octet_asn) {
                (true, _) => Vec::new(),
                (false, true) => segment(&self.local_asn.to_be_bytes()),
                (false, false) => segment(&short.unwrap_or(AS_TRANS).to_be_bytes()),
            },
        ));
        if self.internal {
            let preference = attributes.local_pref.unwrap_or(USUAL_LOCAL_PREF);
            path.push((LOCAL_PREF, TRANSITIVE, preference.to_be_bytes().to_vec()));
        } else if !self.four_octet_asn && short.is_err() {
            // RFC 6793 §4.2.2.
            let value = segment(&self.local_asn.to_be_bytes());
            path.push((AS4_PATH, OPTIONAL | TRANSITIVE, value));
        }
        let mut standard = Vec::new();
        let mut large = Vec::new();
        for community in &attributes.communities {
            match *community {
                Community::Standard(high, low) => {
                    standard.extend_from_slice(&high.to_be_bytes());
                    standard.extend_from_slice(&low.to_be_bytes());
                }
                Community::Large(global, one, two) => {
                    large.extend([global, one, two].into_iter().flat_map(u32::to_be_bytes));
                }
            }
        }
        for (kind, value) in [(COMMUNITIES, standard), (LARGE_COMMUNITIES, large)] {
            if !value.is_empty() {
                path.push((kind, OPTIONAL | TRANSITIVE, value));
            }
        }
        path
    }

    /// Prefixes as they are written, as many at a time as fit next to `taken` octets of a body;
    /// nothing at all if not even one does.
    fn packed(&self, prefixes: &[IpNet], taken: usize) -> Vec<Vec<u8>> {
        let room = self.longest.saturating_sub(HEADER + taken);
        let mut chunks: Vec<Vec<u8>> = Vec::new();
        for prefix in prefixes {
            let nlri = octets(prefix);
            match chunks.last_mut() {
                Some(chunk) if chunk.len() + nlri.len() <= room => chunk.extend_from_slice(&nlri),
                _ if nlri.len() <= room => chunks.push(nlri),
                _ => return Vec::new(),
            }
        }
        chunks
    }
}

/// RFC 4271 §4.3: length in bits, and as many octets as that takes.
fn octets(prefix: &IpNet) -> Vec<u8> {
    let length = prefix.prefix_len();
    let significant = usize::from(length.div_ceil(8));
    let mut out = vec![length];
    match prefix.trunc() {
        IpNet::V4(net) => out.extend_from_slice(&net.addr().octets()[..significant]),
        IpNet::V6(net) => out.extend_from_slice(&net.addr().octets()[..significant]),
    }
    out
}

/// MP_UNREACH_NLRI.
fn unreach(afi: u16, nlri: &[u8]) -> Vec<u8> {
    let value = [&[0, afi.to_be_bytes()[1], UNICAST], nlri].concat();
    written(vec![(MP_UNREACH, OPTIONAL, value)])
}

/// Path attributes as they are written, in order of type (RFC 4271 §5).
fn written(mut attributes: Vec<(u8, u8, Vec<u8>)>) -> Vec<u8> {
    attributes.sort_unstable_by_key(|(kind, ..)| *kind);
    let mut out = Vec::new();
    for (kind, flags, value) in attributes {
        match u8::try_from(value.len()) {
            Ok(length) => out.extend_from_slice(&[flags, kind, length]),
            Err(_) => {
                out.extend_from_slice(&[flags | EXTENDED_LENGTH, kind]);
                let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
                out.extend_from_slice(&length.to_be_bytes());
            }
        }
        out.extend_from_slice(&value);
    }
    out
}

fn update(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let length = |list: &[u8]| u16::try_from(list.len()).unwrap_or(u16::MAX).to_be_bytes();
    let body = [&length(withdrawn)[..], withdrawn, &length(attributes), attributes, nlri].concat();
    header::frame(Kind::Update, &body)
}

#[cfg(test)]
mod tests;
