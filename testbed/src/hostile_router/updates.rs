//! UPDATE messages of a hostile router, attribute by attribute, and what RFC 7606 makes of each.

/// What a session has agreed on, which says how its UPDATEs are read. Always both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terms {
    /// Between two ASNs, of four octets.
    External,
    /// Within one ASN.
    Internal,
    /// Between two ASNs; the router knows those of two octets alone.
    TwoOctets,
}

/// How badly an UPDATE is broken that does not end the session (RFC 7606 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The attribute is ignored.
    Discard,
    /// The routes count as withdrawn.
    TreatAsWithdraw,
    /// The family is ignored from now on.
    Disable,
}

/// 198.51.100.0/24.
pub const PREFIX: &[u8] = &[24, 198, 51, 100];
/// ORIGIN: IGP.
pub const ORIGIN_IGP: &[u8] = &[0x40, 1, 1, 0];
/// AS_PATH: 65001, in four octets.
pub const PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9];
/// NEXT_HOP: 192.0.2.1.
pub const NEXT_HOP: &[u8] = &[0x40, 3, 4, 192, 0, 2, 1];

/// The body of an UPDATE of these lists.
pub fn body(withdrawn: &[u8], attributes: &[u8], announced: &[u8]) -> Vec<u8> {
    let length = |list: &[u8]| u16::try_from(list.len()).unwrap().to_be_bytes();
    [&length(withdrawn)[..], withdrawn, &length(attributes), attributes, announced].concat()
}

/// The body of an UPDATE that is all right, but for one more attribute.
pub fn with(attribute: &[u8]) -> Vec<u8> {
    body(&[], &[ORIGIN_IGP, PATH, NEXT_HOP, attribute].concat(), PREFIX)
}

/// The body of an UPDATE with these attributes and a prefix.
pub fn of(attributes: &[&[u8]]) -> Vec<u8> {
    body(&[], &attributes.concat(), PREFIX)
}

/// MP_REACH_NLRI with this value.
pub fn mp_reach(value: &[u8]) -> Vec<u8> {
    [&[0x80, 14, u8::try_from(value.len()).unwrap()], value].concat()
}

/// MP_UNREACH_NLRI with this value.
pub fn mp_unreach(value: &[u8]) -> Vec<u8> {
    [&[0x80, 15, u8::try_from(value.len()).unwrap()], value].concat()
}

/// MP_REACH_NLRI of 2001:db8::/32 with a global next hop.
pub fn v6_reach() -> Vec<u8> {
    let head = [0, 2, 1, 16];
    let next_hop = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    mp_reach(&[&head[..], &next_hop, &[0], &[32, 0x20, 1, 0xd, 0xb8]].concat())
}

/// Broken attributes that leave the session: the body, on which session, type of the attribute that
/// is to blame, and its class.
pub fn broken() -> Vec<(&'static str, Vec<u8>, Terms, u8, Class)> {
    use Class::{Disable, Discard, TreatAsWithdraw as Withdraw};
    use Terms::{External, Internal, TwoOctets};
    let long_path = [&[0x50, 2, 0, 255][..], &[2, 63], &[0; 4], &[1; 249]].concat();
    vec![
        // RFC 7606 §7.1
        ("ORIGIN 3", of(&[&[0x40, 1, 1, 3], PATH, NEXT_HOP]), External, 1, Withdraw),
        ("ORIGIN 255", of(&[&[0x40, 1, 1, 255], PATH, NEXT_HOP]), External, 1, Withdraw),
        ("ORIGIN empty", of(&[&[0x40, 1, 0], PATH, NEXT_HOP]), External, 1, Withdraw),
        ("ORIGIN long", of(&[&[0x40, 1, 2, 0, 0], PATH, NEXT_HOP]), External, 1, Withdraw),
        ("ORIGIN optional", of(&[&[0xc0, 1, 1, 0], PATH, NEXT_HOP]), External, 1, Withdraw),
        ("ORIGIN not transitive", of(&[&[0, 1, 1, 0], PATH, NEXT_HOP]), External, 1, Withdraw),
        // §7.2
        (
            "segment type 0",
            of(&[ORIGIN_IGP, &[0x40, 2, 6, 0, 1, 0, 0, 0, 9], NEXT_HOP]),
            External,
            2,
            Withdraw,
        ),
        (
            "segment type 3",
            of(&[ORIGIN_IGP, &[0x40, 2, 6, 3, 1, 0, 0, 0, 9], NEXT_HOP]),
            External,
            2,
            Withdraw,
        ),
        (
            "segment type 4",
            of(&[ORIGIN_IGP, &[0x40, 2, 6, 4, 1, 0, 0, 0, 9], NEXT_HOP]),
            External,
            2,
            Withdraw,
        ),
        (
            "segment type 9",
            of(&[ORIGIN_IGP, &[0x40, 2, 6, 9, 1, 0, 0, 0, 9], NEXT_HOP]),
            External,
            2,
            Withdraw,
        ),
        ("segment empty", of(&[ORIGIN_IGP, &[0x40, 2, 2, 2, 0], NEXT_HOP]), External, 2, Withdraw),
        (
            "segment overrun",
            of(&[ORIGIN_IGP, &[0x40, 2, 6, 2, 2, 0, 0, 0, 9], NEXT_HOP]),
            External,
            2,
            Withdraw,
        ),
        (
            "segment underrun",
            of(&[ORIGIN_IGP, &[0x40, 2, 7, 2, 1, 0, 0, 0, 9, 0], NEXT_HOP]),
            External,
            2,
            Withdraw,
        ),
        ("segment one octet", of(&[ORIGIN_IGP, &[0x40, 2, 1, 2], NEXT_HOP]), External, 2, Withdraw),
        (
            "two octets an ASN",
            of(&[ORIGIN_IGP, &[0x40, 2, 4, 2, 1, 0xfd, 0xe9], NEXT_HOP]),
            External,
            2,
            Withdraw,
        ),
        ("four octets an ASN", of(&[ORIGIN_IGP, PATH, NEXT_HOP]), TwoOctets, 2, Withdraw),
        (
            "AS 0",
            of(&[ORIGIN_IGP, &[0x40, 2, 6, 2, 1, 0, 0, 0, 0], NEXT_HOP]),
            External,
            2,
            Withdraw,
        ),
        ("AS 0 in a long path", of(&[ORIGIN_IGP, &long_path, NEXT_HOP]), External, 2, Withdraw),
        ("AS_PATH optional", of(&[ORIGIN_IGP, &[0xc0, 2, 0], NEXT_HOP]), External, 2, Withdraw),
        // §7.3
        ("NEXT_HOP short", of(&[ORIGIN_IGP, PATH, &[0x40, 3, 3, 1, 2, 3]]), External, 3, Withdraw),
        (
            "NEXT_HOP long",
            of(&[ORIGIN_IGP, PATH, &[0x40, 3, 5, 1, 2, 3, 4, 5]]),
            External,
            3,
            Withdraw,
        ),
        ("NEXT_HOP empty", of(&[ORIGIN_IGP, PATH, &[0x40, 3, 0]]), External, 3, Withdraw),
        (
            "NEXT_HOP 0.0.0.0",
            of(&[ORIGIN_IGP, PATH, &[0x40, 3, 4, 0, 0, 0, 0]]),
            External,
            3,
            Withdraw,
        ),
        (
            "NEXT_HOP multicast",
            of(&[ORIGIN_IGP, PATH, &[0x40, 3, 4, 224, 0, 0, 1]]),
            External,
            3,
            Withdraw,
        ),
        (
            "NEXT_HOP loopback",
            of(&[ORIGIN_IGP, PATH, &[0x40, 3, 4, 127, 0, 0, 1]]),
            External,
            3,
            Withdraw,
        ),
        (
            "NEXT_HOP optional",
            of(&[ORIGIN_IGP, PATH, &[0x80, 3, 4, 1, 2, 3, 4]]),
            External,
            3,
            Withdraw,
        ),
        // §7.4, §7.5
        ("MED short", with(&[0x80, 4, 3, 0, 0, 0]), External, 4, Withdraw),
        ("MED well-known", with(&[0x40, 4, 4, 0, 0, 0, 0]), External, 4, Withdraw),
        ("LOCAL_PREF external", with(&[0x40, 5, 4, 0, 0, 0, 100]), External, 5, Discard),
        ("LOCAL_PREF short external", with(&[0x40, 5, 1, 0]), External, 5, Discard),
        ("LOCAL_PREF short", with(&[0x40, 5, 3, 0, 0, 100]), Internal, 5, Withdraw),
        // §7.6, §7.7
        ("ATOMIC_AGGREGATE full", with(&[0x40, 6, 1, 0]), External, 6, Discard),
        ("ATOMIC_AGGREGATE optional", with(&[0xc0, 6, 0]), External, 6, Withdraw),
        ("AGGREGATOR of 6", with(&[0xc0, 7, 6, 0xfd, 0xe9, 1, 2, 3, 4]), External, 7, Discard),
        ("AGGREGATOR empty", with(&[0xc0, 7, 0]), External, 7, Discard),
        (
            "AGGREGATOR not transitive",
            with(&[0x80, 7, 8, 0, 0, 0, 1, 1, 2, 3, 4]),
            External,
            7,
            Withdraw,
        ),
        // §7.8, §7.14, §7.15, RFC 8092 §5
        ("COMMUNITIES of 3", with(&[0xc0, 8, 3, 1, 2, 3]), External, 8, Withdraw),
        ("COMMUNITIES empty", with(&[0xc0, 8, 0]), External, 8, Withdraw),
        ("COMMUNITIES well-known", with(&[0x40, 8, 4, 1, 2, 3, 4]), External, 8, Withdraw),
        ("extended of 7", with(&[0xc0, 16, 7, 1, 2, 3, 4, 5, 6, 7]), External, 16, Withdraw),
        ("extended empty", with(&[0xc0, 16, 0]), External, 16, Withdraw),
        (
            "IPv6 extended of 8",
            with(&[0xc0, 25, 8, 1, 2, 3, 4, 5, 6, 7, 8]),
            External,
            25,
            Withdraw,
        ),
        (
            "large of 11",
            with(&[0xc0, 32, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]),
            External,
            32,
            Withdraw,
        ),
        ("large empty", with(&[0xc0, 32, 0]), External, 32, Withdraw),
        ("large not transitive", with(&[0x80, 32, 0]), External, 32, Withdraw),
        // §7.9, §7.10
        ("ORIGINATOR_ID external", with(&[0x80, 9, 4, 1, 2, 3, 4]), External, 9, Discard),
        ("ORIGINATOR_ID of 5", with(&[0x80, 9, 5, 1, 2, 3, 4, 5]), Internal, 9, Withdraw),
        ("CLUSTER_LIST external", with(&[0x80, 10, 4, 1, 2, 3, 4]), External, 10, Discard),
        ("CLUSTER_LIST of 5", with(&[0x80, 10, 5, 1, 2, 3, 4, 5]), Internal, 10, Withdraw),
        ("CLUSTER_LIST empty", with(&[0x80, 10, 0]), Internal, 10, Withdraw),
        // RFC 6793 §6, RFC 9234 §5
        ("AS4_PATH odd", with(&[0xc0, 17, 5, 2, 1, 0, 0, 0]), External, 17, Discard),
        ("AS4_PATH empty", with(&[0xc0, 17, 0]), External, 17, Discard),
        ("AS4_AGGREGATOR of 6", with(&[0xc0, 18, 6, 1, 2, 3, 4, 5, 6]), External, 18, Discard),
        ("only to customer of 3", with(&[0xc0, 35, 3, 0, 0, 1]), External, 35, Withdraw),
        // §3 (d), (g), §4
        ("no ORIGIN", of(&[PATH, NEXT_HOP]), External, 1, Withdraw),
        ("no AS_PATH", of(&[ORIGIN_IGP, NEXT_HOP]), External, 2, Withdraw),
        ("no NEXT_HOP", of(&[ORIGIN_IGP, PATH]), External, 3, Withdraw),
        ("nothing but a prefix", of(&[]), External, 1, Withdraw),
        ("ORIGIN twice", with(ORIGIN_IGP), External, 1, Discard),
        (
            "COMMUNITIES twice",
            with(&[0xc0, 8, 4, 1, 2, 3, 4, 0xc0, 8, 3, 1, 2, 3]),
            External,
            8,
            Discard,
        ),
        ("length overruns", with(&[0xc0, 8, 9, 1, 2, 3, 4]), External, 8, Withdraw),
        ("long length overruns", with(&[0xd0, 8, 1, 0, 1, 2, 3, 4]), External, 8, Withdraw),
        ("header cut after flags", with(&[0xc0]), External, 0, Withdraw),
        ("header cut before length", with(&[0xc0, 8]), External, 8, Withdraw),
        ("header cut in length", with(&[0xd0, 8, 0]), External, 8, Withdraw),
        (
            "IPv6 without AS_PATH",
            body(&[], &[ORIGIN_IGP, &v6_reach()].concat(), &[]),
            External,
            2,
            Withdraw,
        ),
        ("MP_REACH transitive", with(&[0xc0, 14, 5, 0, 2, 1, 0, 0]), External, 14, Withdraw),
        ("MP_UNREACH well-known", with(&[0x40, 15, 3, 0, 2, 1]), External, 15, Withdraw),
        // §5.3, §7.11, §7.12
        (
            "next hop of 15",
            with(&mp_reach(&[&[0, 2, 1, 15][..], &[1; 16]].concat())),
            External,
            14,
            Disable,
        ),
        (
            "next hop overruns",
            with(&mp_reach(&[&[0, 2, 1, 16][..], &[1; 12]].concat())),
            External,
            14,
            Disable,
        ),
        (
            "no reserved octet",
            with(&mp_reach(&[&[0, 2, 1, 16][..], &[1; 16]].concat())),
            External,
            14,
            Disable,
        ),
        ("no next hop", with(&mp_reach(&[0, 2, 1])), External, 14, Disable),
        (
            "IPv6 next hop of IPv4",
            with(&mp_reach(&[&[0, 1, 1, 16][..], &[1; 16], &[0]].concat())),
            External,
            14,
            Disable,
        ),
        (
            "IPv6 prefix /129",
            with(&mp_unreach(&[&[0, 2, 1, 129][..], &[1; 17]].concat())),
            External,
            15,
            Disable,
        ),
        ("IPv6 prefix cut", with(&mp_unreach(&[0, 2, 1, 64, 1, 2, 3])), External, 15, Disable),
        (
            "IPv4 prefix /33",
            with(&mp_unreach(&[0, 1, 1, 33, 1, 2, 3, 4, 5])),
            External,
            15,
            Disable,
        ),
    ]
}

/// What cannot be read at all: the body, and subcode and data of the UPDATE error that ends the
/// session.
pub fn fatal() -> Vec<(&'static str, Vec<u8>, u8, Vec<u8>)> {
    let mp_twice = body(&[], &[v6_reach(), v6_reach()].concat(), &[]);
    let unreach_twice = with(&[mp_unreach(&[0, 2, 1]), mp_unreach(&[0, 2, 1])].concat());
    vec![
        ("withdrawn too long", vec![0, 9, 0, 0], 1, vec![]),
        ("attributes too long", vec![0, 0, 0, 9, 0x40, 1, 1, 0], 1, vec![]),
        ("no room for a length", vec![0, 2, 8, 10, 0], 1, vec![]),
        ("both too long", vec![0xff; 40], 1, vec![]),
        (
            "prefix /33",
            body(&[], &[ORIGIN_IGP, PATH, NEXT_HOP].concat(), &[33, 1, 2, 3, 4, 5]),
            10,
            vec![],
        ),
        ("prefix cut", body(&[], &[ORIGIN_IGP, PATH, NEXT_HOP].concat(), &[24, 1, 2]), 10, vec![]),
        ("withdrawn prefix /255", body(&[255, 0, 0, 0, 0], &[], &[]), 10, vec![]),
        ("withdrawn prefix cut", body(&[8], &[], &[]), 10, vec![]),
        ("MP_REACH twice", mp_twice, 1, vec![]),
        ("MP_UNREACH twice", unreach_twice, 1, vec![]),
        ("unknown well-known", with(&[0x40, 99, 1, 7]), 2, vec![0x40, 99, 1, 7]),
        ("unknown well-known, long", with(&[0x50, 99, 0, 1, 7]), 2, vec![0x50, 99, 0, 1, 7]),
        ("MP_REACH without a family", with(&mp_reach(&[0, 2])), 9, vec![0x80, 14, 2, 0, 2]),
        ("MP_UNREACH empty", with(&mp_unreach(&[])), 9, vec![0x80, 15, 0]),
    ]
}
