//! Path attributes of a router, one by one: which are broken, and how badly (RFC 7606 §7).
//!
//! [`update`](super::update) walks over them and asks [`fault`]. Attributes that this speaker does
//! not know are looked at no further than their flags.

use std::net::Ipv4Addr;

use super::{notification::Notification, peer::Families};

pub(crate) const ORIGIN: u8 = 1;
pub(crate) const AS_PATH: u8 = 2;
pub(crate) const NEXT_HOP: u8 = 3;
pub(crate) const MULTI_EXIT_DISC: u8 = 4;
pub(crate) const LOCAL_PREF: u8 = 5;
pub(crate) const ATOMIC_AGGREGATE: u8 = 6;
pub(crate) const AGGREGATOR: u8 = 7;
pub(crate) const COMMUNITIES: u8 = 8;
pub(crate) const ORIGINATOR_ID: u8 = 9;
pub(crate) const CLUSTER_LIST: u8 = 10;
pub(crate) const MP_REACH: u8 = 14;
pub(crate) const MP_UNREACH: u8 = 15;
pub(crate) const EXTENDED_COMMUNITIES: u8 = 16;
pub(crate) const AS4_PATH: u8 = 17;
pub(crate) const AS4_AGGREGATOR: u8 = 18;
pub(crate) const V6_EXTENDED_COMMUNITIES: u8 = 25;
pub(crate) const LARGE_COMMUNITIES: u8 = 32;
pub(crate) const ONLY_TO_CUSTOMER: u8 = 35;

/// Flags of an attribute (RFC 4271 §4.3).
pub(crate) const OPTIONAL: u8 = 0x80;
pub(crate) const TRANSITIVE: u8 = 0x40;
pub(crate) const EXTENDED_LENGTH: u8 = 0x10;

/// How badly a message is broken that does not end the session (RFC 7606 §2), mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// The attribute is ignored.
    Discard,
    /// The routes of the message count as withdrawn.
    TreatAsWithdraw,
    /// The family is ignored from now on.
    Disable,
}

/// What a session has agreed on, as far as it says how to read an UPDATE.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Both are of one ASN.
    pub(crate) internal: bool,
    /// ASNs in AS_PATH and AGGREGATOR have four octets.
    pub(crate) four_octet_asn: bool,
    /// IPv4 routes may have an IPv6 next hop.
    pub(crate) extended_next_hop: bool,
    /// Families that are spoken and have not been disabled.
    pub(crate) families: Families,
}

/// One attribute.
pub(crate) struct Attribute<'a> {
    pub(crate) flags: u8,
    pub(crate) kind: u8,
    pub(crate) value: &'a [u8],
    /// With flags, type and length, as a NOTIFICATION quotes it.
    pub(crate) whole: &'a [u8],
}

/// The next attribute and what follows it; `None` if it is not all there.
pub(crate) fn next(bytes: &[u8]) -> Option<(Attribute<'_>, &[u8])> {
    let (&[flags, kind], rest) = bytes.split_first_chunk::<2>()?;
    let (length, header) = if flags & EXTENDED_LENGTH == 0 {
        (usize::from(*rest.first()?), 3)
    } else {
        (u16::from_be_bytes(*rest.first_chunk::<2>()?).into(), 4)
    };
    let (whole, after) = bytes.split_at_checked(header + length)?;
    Some((Attribute { flags, kind, value: &whole[header..], whole }, after))
}

/// What is wrong with an attribute; `Err` if it ends the session.
pub(crate) fn fault(
    attribute: &Attribute,
    terms: &Terms,
) -> Result<Option<(Class, &'static str)>, Notification> {
    use Class::{Discard, TreatAsWithdraw};
    let Some(flags) = flags(attribute.kind) else {
        // RFC 4271 §6.3, which RFC 7606 leaves as it is: a well-known attribute is known to all.
        if attribute.flags & OPTIONAL == 0 {
            return Err(Notification::with(3, 2, attribute.whole));
        }
        return Ok(None);
    };
    // RFC 7606 §3 (c).
    if attribute.flags & (OPTIONAL | TRANSITIVE) != flags {
        return Ok(Some((TreatAsWithdraw, "its flags contradict its type")));
    }
    let value = attribute.value;
    let asn = if terms.four_octet_asn { 4 } else { 2 };
    let several = |size: usize| !value.is_empty() && value.len().is_multiple_of(size);
    let from_outside = "it does not belong on a session between two ASNs";
    let wrong_length = "its length cannot be";
    let (good, class, why) = match attribute.kind {
        ORIGIN => (matches!(value, [0..=2]), TreatAsWithdraw, "its value cannot be"),
        AS_PATH => (is_path(value, asn), TreatAsWithdraw, "its segments cannot be"),
        NEXT_HOP => (is_next_hop(value), TreatAsWithdraw, "it is not the address of a host"),
        LOCAL_PREF | ORIGINATOR_ID | CLUSTER_LIST if !terms.internal => {
            (false, Discard, from_outside)
        }
        MULTI_EXIT_DISC | LOCAL_PREF | ORIGINATOR_ID | ONLY_TO_CUSTOMER => {
            (value.len() == 4, TreatAsWithdraw, wrong_length)
        }
        ATOMIC_AGGREGATE => (value.is_empty(), Discard, wrong_length),
        AGGREGATOR => (value.len() == asn + 4, Discard, wrong_length),
        AS4_AGGREGATOR => (value.len() == 8, Discard, wrong_length),
        AS4_PATH => (is_path(value, 4) && !value.is_empty(), Discard, "its segments cannot be"),
        COMMUNITIES | CLUSTER_LIST => (several(4), TreatAsWithdraw, wrong_length),
        EXTENDED_COMMUNITIES => (several(8), TreatAsWithdraw, wrong_length),
        V6_EXTENDED_COMMUNITIES => (several(20), TreatAsWithdraw, wrong_length),
        LARGE_COMMUNITIES => (several(12), TreatAsWithdraw, wrong_length),
        _ => return Ok(None),
    };
    Ok((!good).then_some((class, why)))
}

/// Optional and Transitive of the types that are known here.
fn flags(kind: u8) -> Option<u8> {
    Some(match kind {
        ORIGIN | AS_PATH | NEXT_HOP | LOCAL_PREF | ATOMIC_AGGREGATE => TRANSITIVE,
        MULTI_EXIT_DISC | ORIGINATOR_ID | CLUSTER_LIST | MP_REACH | MP_UNREACH => OPTIONAL,
        AGGREGATOR
        | COMMUNITIES
        | EXTENDED_COMMUNITIES
        | AS4_PATH
        | AS4_AGGREGATOR
        | V6_EXTENDED_COMMUNITIES
        | LARGE_COMMUNITIES
        | ONLY_TO_CUSTOMER => OPTIONAL | TRANSITIVE,
        _ => return None,
    })
}

/// Whether these are segments of an AS_PATH whose ASNs have so many octets (RFC 7606 §7.2). An empty
/// path is one; AS 0 is on none (RFC 7607), nor are confederations, of which this is no member.
fn is_path(mut value: &[u8], asn: usize) -> bool {
    const AS_SET: u8 = 1;
    const AS_SEQUENCE: u8 = 2;
    while let [kind, count, rest @ ..] = value {
        let Some((asns, rest)) = rest.split_at_checked(usize::from(*count) * asn) else {
            return false;
        };
        let zero = asns.chunks_exact(asn).any(|asn| asn.iter().all(|&octet| octet == 0));
        if !matches!(*kind, AS_SET | AS_SEQUENCE) || *count == 0 || zero {
            return false;
        }
        value = rest;
    }
    value.is_empty()
}

/// RFC 4271 §6.3, RFC 7606 §7.3.
fn is_next_hop(value: &[u8]) -> bool {
    <[u8; 4]>::try_from(value).is_ok_and(|octets| {
        let ip = Ipv4Addr::from(octets);
        // 224.0.0.0/3 are multicast and reserved addresses.
        octets[0] < 224 && octets[0] != 0 && !ip.is_loopback()
    })
}
