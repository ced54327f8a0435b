//! UPDATE messages of a router: the class of RFC 7606 that each broken attribute falls into.

use proptest::prelude::*;

use super::*;

const TERMS: Terms = Terms {
    internal: false,
    four_octet_asn: true,
    extended_next_hop: false,
    families: Families::BOTH,
};
const INTERNAL: Terms = Terms { internal: true, ..TERMS };
const TWO_OCTETS: Terms = Terms { four_octet_asn: false, ..TERMS };
const V4_ONLY: Terms = Terms { families: Families { v4: true, v6: false }, ..TERMS };
const V6_NEXT_HOPS: Terms = Terms { extended_next_hop: true, ..TERMS };

/// 198.51.100.0/24.
const PREFIX: &[u8] = &[24, 198, 51, 100];
const ORIGIN_IGP: &[u8] = &[0x40, 1, 1, 0];
const PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9];
const NEXT_HOP: &[u8] = &[0x40, 3, 4, 192, 0, 2, 1];

/// The body of an UPDATE of these lists.
fn body(withdrawn: &[u8], attributes: &[u8], announced: &[u8]) -> Vec<u8> {
    let length = |list: &[u8]| u16::try_from(list.len()).unwrap().to_be_bytes();
    [&length(withdrawn)[..], withdrawn, &length(attributes), attributes, announced].concat()
}

/// The body of an UPDATE that is all right, but for one more attribute.
fn with(attribute: &[u8]) -> Vec<u8> {
    body(&[], &[ORIGIN_IGP, PATH, NEXT_HOP, attribute].concat(), PREFIX)
}

/// The body of an UPDATE with these attributes and a prefix.
fn of(attributes: &[&[u8]]) -> Vec<u8> {
    body(&[], &attributes.concat(), PREFIX)
}

fn mp_reach(value: &[u8]) -> Vec<u8> {
    [&[0x80, 14, u8::try_from(value.len()).unwrap()], value].concat()
}

fn mp_unreach(value: &[u8]) -> Vec<u8> {
    [&[0x80, 15, u8::try_from(value.len()).unwrap()], value].concat()
}

/// MP_REACH_NLRI of 2001:db8::/32 with a global next hop.
fn v6_reach() -> Vec<u8> {
    let head = [0, 2, 1, 16];
    let next_hop = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    mp_reach(&[&head[..], &next_hop, &[0], &[32, 0x20, 1, 0xd, 0xb8]].concat())
}

#[test]
fn good_routes_are_counted() {
    let cases = [
        (with(&[]), 1, 0),
        (body(PREFIX, &[], &[]), 0, 1),
        (body(PREFIX, &[ORIGIN_IGP, PATH, NEXT_HOP].concat(), &[0, 32, 1, 2, 3, 4]), 2, 1),
        (body(&[], &[ORIGIN_IGP, PATH, &v6_reach()].concat(), &[]), 1, 0),
        (body(&[], &mp_unreach(&[0, 2, 1, 32, 0x20, 1, 0xd, 0xb8, 0]), &[]), 0, 2),
        (with(&[0xc0, 8, 4, 0xff, 0xff, 0, 1]), 1, 0),
        (with(&[0xd0, 32, 0, 12, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]), 1, 0),
        (with(&[0x80, 4, 4, 0, 0, 0, 9]), 1, 0),
        (with(&[0x40, 6, 0]), 1, 0),
        (with(&[0xc0, 7, 8, 0, 0, 0xfd, 0xe9, 10, 0, 0, 1]), 1, 0),
        (with(&[0xc0, 35, 4, 0, 0, 0xfd, 0xe9]), 1, 0),
        (of(&[ORIGIN_IGP, &[0x40, 2, 0], NEXT_HOP]), 1, 0),
        (of(&[ORIGIN_IGP, &[0x50, 2, 0, 6, 1, 1, 0, 0, 0xfd, 0xe9], NEXT_HOP]), 1, 0),
        // Nobody here has asked for these families.
        (body(&[], &[ORIGIN_IGP, PATH, &mp_reach(&[0, 1, 128, 9, 9])].concat(), &[]), 0, 0),
        (body(&[], &mp_unreach(&[0x40, 4, 71]), &[]), 0, 0),
        // Nor do these types mean anything here: PMSI, AIGP, Prefix-SID, and one from the future.
        (with(&[0xc0, 22, 1, 9]), 1, 0),
        (with(&[0x80, 26, 1, 9]), 1, 0),
        (with(&[0xc0, 40, 2, 9, 9]), 1, 0),
        (with(&[0xe0, 250, 0]), 1, 0),
    ];
    for (body, announced, withdrawn) in cases {
        let verdict = judge(&body, &TERMS).unwrap();
        assert_eq!((verdict.announced, verdict.withdrawn), (announced, withdrawn), "{body:?}");
        assert_eq!(verdict.faults, [], "{body:?}");
        assert_eq!(verdict.end_of_rib, Families::default(), "{body:?}");
    }
}

#[test]
fn end_of_rib_is_an_update_that_says_nothing() {
    let v4 = judge(&body(&[], &[], &[]), &TERMS).unwrap();
    assert_eq!(v4.end_of_rib, Families { v4: true, v6: false });
    let v6 = judge(&body(&[], &mp_unreach(&[0, 2, 1]), &[]), &TERMS).unwrap();
    assert_eq!(v6.end_of_rib, Families { v4: false, v6: true });
    let more = judge(&body(PREFIX, &mp_unreach(&[0, 2, 1]), &[]), &TERMS).unwrap();
    assert_eq!(more.end_of_rib, Families::default());
    let foreign = judge(&body(&[], &mp_unreach(&[0, 2, 1]), &[]), &V4_ONLY).unwrap();
    assert_eq!(foreign.end_of_rib, Families::default());
}

#[test]
fn a_broken_attribute_falls_into_its_class_and_the_session_stays() {
    use Class::{Disable, Discard, TreatAsWithdraw as Withdraw};
    let long_path = [&[0x50, 2, 0, 255][..], &[2, 63], &[0; 4], &[1; 249]].concat();
    let cases: &[(&str, Vec<u8>, &Terms, u8, Class)] = &[
        // RFC 7606 §7.1
        ("ORIGIN 3", of(&[&[0x40, 1, 1, 3], PATH, NEXT_HOP]), &TERMS, 1, Withdraw),
        ("ORIGIN 255", of(&[&[0x40, 1, 1, 255], PATH, NEXT_HOP]), &TERMS, 1, Withdraw),
        ("ORIGIN empty", of(&[&[0x40, 1, 0], PATH, NEXT_HOP]), &TERMS, 1, Withdraw),
        ("ORIGIN long", of(&[&[0x40, 1, 2, 0, 0], PATH, NEXT_HOP]), &TERMS, 1, Withdraw),
        ("ORIGIN optional", of(&[&[0xc0, 1, 1, 0], PATH, NEXT_HOP]), &TERMS, 1, Withdraw),
        ("ORIGIN not transitive", of(&[&[0, 1, 1, 0], PATH, NEXT_HOP]), &TERMS, 1, Withdraw),
        // §7.2
        (
            "segment type 0",
            of(&[ORIGIN_IGP, &[0x40, 2, 6, 0, 1, 0, 0, 0, 9], NEXT_HOP]),
            &TERMS,
            2,
            Withdraw,
        ),
        (
            "segment type 3",
            of(&[ORIGIN_IGP, &[0x40, 2, 6, 3, 1, 0, 0, 0, 9], NEXT_HOP]),
            &TERMS,
            2,
            Withdraw,
        ),
        (
            "segment type 4",
            of(&[ORIGIN_IGP, &[0x40, 2, 6, 4, 1, 0, 0, 0, 9], NEXT_HOP]),
            &TERMS,
            2,
            Withdraw,
        ),
        (
            "segment type 9",
            of(&[ORIGIN_IGP, &[0x40, 2, 6, 9, 1, 0, 0, 0, 9], NEXT_HOP]),
            &TERMS,
            2,
            Withdraw,
        ),
        ("segment empty", of(&[ORIGIN_IGP, &[0x40, 2, 2, 2, 0], NEXT_HOP]), &TERMS, 2, Withdraw),
        (
            "segment overrun",
            of(&[ORIGIN_IGP, &[0x40, 2, 6, 2, 2, 0, 0, 0, 9], NEXT_HOP]),
            &TERMS,
            2,
            Withdraw,
        ),
        (
            "segment underrun",
            of(&[ORIGIN_IGP, &[0x40, 2, 7, 2, 1, 0, 0, 0, 9, 0], NEXT_HOP]),
            &TERMS,
            2,
            Withdraw,
        ),
        ("segment one octet", of(&[ORIGIN_IGP, &[0x40, 2, 1, 2], NEXT_HOP]), &TERMS, 2, Withdraw),
        (
            "two octets an ASN",
            of(&[ORIGIN_IGP, &[0x40, 2, 4, 2, 1, 0xfd, 0xe9], NEXT_HOP]),
            &TERMS,
            2,
            Withdraw,
        ),
        ("four octets an ASN", of(&[ORIGIN_IGP, PATH, NEXT_HOP]), &TWO_OCTETS, 2, Withdraw),
        ("AS 0", of(&[ORIGIN_IGP, &[0x40, 2, 6, 2, 1, 0, 0, 0, 0], NEXT_HOP]), &TERMS, 2, Withdraw),
        ("AS 0 in a long path", of(&[ORIGIN_IGP, &long_path, NEXT_HOP]), &TERMS, 2, Withdraw),
        ("AS_PATH optional", of(&[ORIGIN_IGP, &[0xc0, 2, 0], NEXT_HOP]), &TERMS, 2, Withdraw),
        // §7.3
        ("NEXT_HOP short", of(&[ORIGIN_IGP, PATH, &[0x40, 3, 3, 1, 2, 3]]), &TERMS, 3, Withdraw),
        (
            "NEXT_HOP long",
            of(&[ORIGIN_IGP, PATH, &[0x40, 3, 5, 1, 2, 3, 4, 5]]),
            &TERMS,
            3,
            Withdraw,
        ),
        ("NEXT_HOP empty", of(&[ORIGIN_IGP, PATH, &[0x40, 3, 0]]), &TERMS, 3, Withdraw),
        (
            "NEXT_HOP 0.0.0.0",
            of(&[ORIGIN_IGP, PATH, &[0x40, 3, 4, 0, 0, 0, 0]]),
            &TERMS,
            3,
            Withdraw,
        ),
        (
            "NEXT_HOP multicast",
            of(&[ORIGIN_IGP, PATH, &[0x40, 3, 4, 224, 0, 0, 1]]),
            &TERMS,
            3,
            Withdraw,
        ),
        (
            "NEXT_HOP loopback",
            of(&[ORIGIN_IGP, PATH, &[0x40, 3, 4, 127, 0, 0, 1]]),
            &TERMS,
            3,
            Withdraw,
        ),
        (
            "NEXT_HOP optional",
            of(&[ORIGIN_IGP, PATH, &[0x80, 3, 4, 1, 2, 3, 4]]),
            &TERMS,
            3,
            Withdraw,
        ),
        // §7.4, §7.5
        ("MED short", with(&[0x80, 4, 3, 0, 0, 0]), &TERMS, 4, Withdraw),
        ("MED well-known", with(&[0x40, 4, 4, 0, 0, 0, 0]), &TERMS, 4, Withdraw),
        ("LOCAL_PREF external", with(&[0x40, 5, 4, 0, 0, 0, 100]), &TERMS, 5, Discard),
        ("LOCAL_PREF short external", with(&[0x40, 5, 1, 0]), &TERMS, 5, Discard),
        ("LOCAL_PREF short", with(&[0x40, 5, 3, 0, 0, 100]), &INTERNAL, 5, Withdraw),
        // §7.6, §7.7
        ("ATOMIC_AGGREGATE full", with(&[0x40, 6, 1, 0]), &TERMS, 6, Discard),
        ("ATOMIC_AGGREGATE optional", with(&[0xc0, 6, 0]), &TERMS, 6, Withdraw),
        ("AGGREGATOR of 6", with(&[0xc0, 7, 6, 0xfd, 0xe9, 1, 2, 3, 4]), &TERMS, 7, Discard),
        ("AGGREGATOR empty", with(&[0xc0, 7, 0]), &TERMS, 7, Discard),
        (
            "AGGREGATOR not transitive",
            with(&[0x80, 7, 8, 0, 0, 0, 1, 1, 2, 3, 4]),
            &TERMS,
            7,
            Withdraw,
        ),
        // §7.8, §7.14, §7.15, RFC 8092 §5
        ("COMMUNITIES of 3", with(&[0xc0, 8, 3, 1, 2, 3]), &TERMS, 8, Withdraw),
        ("COMMUNITIES empty", with(&[0xc0, 8, 0]), &TERMS, 8, Withdraw),
        ("COMMUNITIES well-known", with(&[0x40, 8, 4, 1, 2, 3, 4]), &TERMS, 8, Withdraw),
        ("extended of 7", with(&[0xc0, 16, 7, 1, 2, 3, 4, 5, 6, 7]), &TERMS, 16, Withdraw),
        ("extended empty", with(&[0xc0, 16, 0]), &TERMS, 16, Withdraw),
        ("IPv6 extended of 8", with(&[0xc0, 25, 8, 1, 2, 3, 4, 5, 6, 7, 8]), &TERMS, 25, Withdraw),
        (
            "large of 11",
            with(&[0xc0, 32, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]),
            &TERMS,
            32,
            Withdraw,
        ),
        ("large empty", with(&[0xc0, 32, 0]), &TERMS, 32, Withdraw),
        ("large not transitive", with(&[0x80, 32, 0]), &TERMS, 32, Withdraw),
        // §7.9, §7.10
        ("ORIGINATOR_ID external", with(&[0x80, 9, 4, 1, 2, 3, 4]), &TERMS, 9, Discard),
        ("ORIGINATOR_ID of 5", with(&[0x80, 9, 5, 1, 2, 3, 4, 5]), &INTERNAL, 9, Withdraw),
        ("CLUSTER_LIST external", with(&[0x80, 10, 4, 1, 2, 3, 4]), &TERMS, 10, Discard),
        ("CLUSTER_LIST of 5", with(&[0x80, 10, 5, 1, 2, 3, 4, 5]), &INTERNAL, 10, Withdraw),
        ("CLUSTER_LIST empty", with(&[0x80, 10, 0]), &INTERNAL, 10, Withdraw),
        // RFC 6793 §6, RFC 9234 §5
        ("AS4_PATH odd", with(&[0xc0, 17, 5, 2, 1, 0, 0, 0]), &TERMS, 17, Discard),
        ("AS4_PATH empty", with(&[0xc0, 17, 0]), &TERMS, 17, Discard),
        ("AS4_AGGREGATOR of 6", with(&[0xc0, 18, 6, 1, 2, 3, 4, 5, 6]), &TERMS, 18, Discard),
        ("only to customer of 3", with(&[0xc0, 35, 3, 0, 0, 1]), &TERMS, 35, Withdraw),
        // §3 (d), (g), §4
        ("no ORIGIN", of(&[PATH, NEXT_HOP]), &TERMS, 1, Withdraw),
        ("no AS_PATH", of(&[ORIGIN_IGP, NEXT_HOP]), &TERMS, 2, Withdraw),
        ("no NEXT_HOP", of(&[ORIGIN_IGP, PATH]), &TERMS, 3, Withdraw),
        ("nothing but a prefix", of(&[]), &TERMS, 1, Withdraw),
        ("ORIGIN twice", with(ORIGIN_IGP), &TERMS, 1, Discard),
        (
            "COMMUNITIES twice",
            with(&[0xc0, 8, 4, 1, 2, 3, 4, 0xc0, 8, 3, 1, 2, 3]),
            &TERMS,
            8,
            Discard,
        ),
        ("length overruns", with(&[0xc0, 8, 9, 1, 2, 3, 4]), &TERMS, 8, Withdraw),
        ("long length overruns", with(&[0xd0, 8, 1, 0, 1, 2, 3, 4]), &TERMS, 8, Withdraw),
        ("header cut after flags", with(&[0xc0]), &TERMS, 0, Withdraw),
        ("header cut before length", with(&[0xc0, 8]), &TERMS, 8, Withdraw),
        ("header cut in length", with(&[0xd0, 8, 0]), &TERMS, 8, Withdraw),
        (
            "IPv6 without AS_PATH",
            body(&[], &[ORIGIN_IGP, &v6_reach()].concat(), &[]),
            &TERMS,
            2,
            Withdraw,
        ),
        ("MP_REACH transitive", with(&[0xc0, 14, 5, 0, 2, 1, 0, 0]), &TERMS, 14, Withdraw),
        ("MP_UNREACH well-known", with(&[0x40, 15, 3, 0, 2, 1]), &TERMS, 15, Withdraw),
        // §5.3, §7.11, §7.12
        (
            "next hop of 15",
            with(&mp_reach(&[&[0, 2, 1, 15][..], &[1; 16]].concat())),
            &TERMS,
            14,
            Disable,
        ),
        (
            "next hop overruns",
            with(&mp_reach(&[&[0, 2, 1, 16][..], &[1; 12]].concat())),
            &TERMS,
            14,
            Disable,
        ),
        (
            "no reserved octet",
            with(&mp_reach(&[&[0, 2, 1, 16][..], &[1; 16]].concat())),
            &TERMS,
            14,
            Disable,
        ),
        ("no next hop", with(&mp_reach(&[0, 2, 1])), &TERMS, 14, Disable),
        (
            "IPv6 next hop of IPv4",
            with(&mp_reach(&[&[0, 1, 1, 16][..], &[1; 16], &[0]].concat())),
            &TERMS,
            14,
            Disable,
        ),
        (
            "IPv6 prefix /129",
            with(&mp_unreach(&[&[0, 2, 1, 129][..], &[1; 17]].concat())),
            &TERMS,
            15,
            Disable,
        ),
        ("IPv6 prefix cut", with(&mp_unreach(&[0, 2, 1, 64, 1, 2, 3])), &TERMS, 15, Disable),
        ("IPv4 prefix /33", with(&mp_unreach(&[0, 1, 1, 33, 1, 2, 3, 4, 5])), &TERMS, 15, Disable),
    ];
    for (name, body, terms, kind, class) in cases {
        let verdict = judge(body, terms).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            verdict.faults.first().map(|fault| (fault.0, fault.1)),
            Some((*kind, *class)),
            "{name}"
        );
        let stands = *class == Discard;
        assert_eq!(verdict.announced > 0, stands, "{name}");
        assert_eq!(!verdict.disabled.is_empty(), *class == Disable, "{name}");
    }
}

#[test]
fn what_cannot_be_read_at_all_ends_the_session_with_the_code_of_the_rfc() {
    let mp_twice = body(&[], &[v6_reach(), v6_reach()].concat(), &[]);
    let unreach_twice = with(&[mp_unreach(&[0, 2, 1]), mp_unreach(&[0, 2, 1])].concat());
    let cases: &[(&str, Vec<u8>, u8, &[u8])] = &[
        ("withdrawn too long", vec![0, 9, 0, 0], 1, &[]),
        ("attributes too long", vec![0, 0, 0, 9, 0x40, 1, 1, 0], 1, &[]),
        ("no room for a length", vec![0, 2, 8, 10, 0], 1, &[]),
        ("both too long", vec![0xff; 40], 1, &[]),
        (
            "prefix /33",
            body(&[], &[ORIGIN_IGP, PATH, NEXT_HOP].concat(), &[33, 1, 2, 3, 4, 5]),
            10,
            &[],
        ),
        ("prefix cut", body(&[], &[ORIGIN_IGP, PATH, NEXT_HOP].concat(), &[24, 1, 2]), 10, &[]),
        ("withdrawn prefix /255", body(&[255, 0, 0, 0, 0], &[], &[]), 10, &[]),
        ("withdrawn prefix cut", body(&[8], &[], &[]), 10, &[]),
        ("MP_REACH twice", mp_twice, 1, &[]),
        ("MP_UNREACH twice", unreach_twice, 1, &[]),
        ("unknown well-known", with(&[0x40, 99, 1, 7]), 2, &[0x40, 99, 1, 7]),
        ("unknown well-known, long", with(&[0x50, 99, 0, 1, 7]), 2, &[0x50, 99, 0, 1, 7]),
        ("MP_REACH without a family", with(&mp_reach(&[0, 2])), 9, &[0x80, 14, 2, 0, 2]),
        ("MP_UNREACH empty", with(&mp_unreach(&[])), 9, &[0x80, 15, 0]),
    ];
    for (name, body, subcode, data) in cases {
        let error = judge(body, &TERMS).expect_err(name);
        assert_eq!(error, Notification::with(3, *subcode, data), "{name}");
    }
}

#[test]
fn an_ipv4_route_may_have_an_ipv6_next_hop_if_that_is_agreed_on() {
    let value = [&[0, 1, 1, 16][..], &[1; 16], &[0], PREFIX].concat();
    let update = body(&[], &[ORIGIN_IGP, PATH, &mp_reach(&value)].concat(), &[]);
    let verdict = judge(&update, &V6_NEXT_HOPS).unwrap();
    assert_eq!((verdict.announced, verdict.faults), (1, vec![]));
}

#[test]
fn of_several_faults_the_worst_decides() {
    let update =
        with(&[&[0x40, 6, 1, 0][..], &[0x80, 4, 1, 0], &mp_unreach(&[0, 2, 1, 64])].concat());
    let verdict = judge(&update, &TERMS).unwrap();
    let classes: Vec<_> = verdict.faults.iter().map(|fault| fault.1).collect();
    assert_eq!(classes, [Class::Disable, Class::TreatAsWithdraw, Class::Discard]);
    assert_eq!((verdict.announced, verdict.withdrawn), (0, 1));
}

proptest! {
    #[test]
    fn no_octets_whatever_do_worse_than_an_error(body in proptest::collection::vec(any::<u8>(), 4..300)) {
        for terms in [TERMS, INTERNAL, TWO_OCTETS, V4_ONLY, V6_NEXT_HOPS] {
            match judge(&body, &terms) {
                Ok(verdict) => prop_assert!(verdict.announced + verdict.withdrawn <= 600),
                Err(error) => prop_assert_eq!(error.code, 3),
            }
        }
    }

    /// Mostly sound, so that the walk gets far.
    #[test]
    fn a_sound_update_with_some_octets_changed_is_judged_too(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut body = with(&[v6_reach(), vec![0xc0, 8, 4, 1, 2, 3, 4]].concat());
        for (index, octet) in changes {
            let index = index.index(body.len());
            body[index] = octet;
        }
        if let Err(error) = judge(&body, &TERMS) {
            prop_assert_eq!(error.code, 3);
        }
    }
}
