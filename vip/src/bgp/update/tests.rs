//! UPDATE messages of a router: the class of RFC 7606 that each broken attribute falls into.

use gatehouse_testbed::hostile_router::updates::{
    self, NEXT_HOP, ORIGIN_IGP, PATH, PREFIX, body, mp_reach, mp_unreach, of, v6_reach, with,
};
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
        // This end has not asked for these families.
        (body(&[], &[ORIGIN_IGP, PATH, &mp_reach(&[0, 1, 128, 9, 9])].concat(), &[]), 0, 0),
        (body(&[], &mp_unreach(&[0x40, 4, 71]), &[]), 0, 0),
        // Nor do these types mean anything here: PMSI, AIGP, Prefix-SID, and one from the future.
        (with(&[0xc0, 22, 1, 9]), 1, 0),
        (with(&[0x80, 26, 1, 9]), 1, 0),
        (with(&[0xc0, 40, 2, 9, 9]), 1, 0),
        (with(&[0xe0, 250, 0]), 1, 0),
    ];
    for (body, announced, withdrawn) in cases {
        let summary = check(&body, &TERMS).unwrap();
        assert_eq!((summary.announced, summary.withdrawn), (announced, withdrawn), "{body:?}");
        assert_eq!(summary.faults, [], "{body:?}");
        assert_eq!(summary.end_of_rib, Families::default(), "{body:?}");
    }
}

#[test]
fn end_of_rib_is_an_update_that_says_nothing() {
    let v4 = check(&body(&[], &[], &[]), &TERMS).unwrap();
    assert_eq!(v4.end_of_rib, Families { v4: true, v6: false });
    let v6 = check(&body(&[], &mp_unreach(&[0, 2, 1]), &[]), &TERMS).unwrap();
    assert_eq!(v6.end_of_rib, Families { v4: false, v6: true });
    let more = check(&body(PREFIX, &mp_unreach(&[0, 2, 1]), &[]), &TERMS).unwrap();
    assert_eq!(more.end_of_rib, Families::default());
    let foreign = check(&body(&[], &mp_unreach(&[0, 2, 1]), &[]), &V4_ONLY).unwrap();
    assert_eq!(foreign.end_of_rib, Families::default());
}

#[test]
fn a_broken_attribute_falls_into_its_class_and_the_session_stays() {
    for (name, body, terms, kind, class) in updates::broken() {
        let terms = match terms {
            updates::Terms::External => &TERMS,
            updates::Terms::Internal => &INTERNAL,
            updates::Terms::TwoOctets => &TWO_OCTETS,
        };
        let class = match class {
            updates::Class::Discard => Class::Discard,
            updates::Class::TreatAsWithdraw => Class::TreatAsWithdraw,
            updates::Class::Disable => Class::Disable,
        };
        let summary = check(&body, terms).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            summary.faults.first().map(|fault| (fault.0, fault.1)),
            Some((kind, class)),
            "{name}"
        );
        let stands = class == Class::Discard;
        assert_eq!(summary.announced > 0, stands, "{name}");
        assert_eq!(!summary.disabled.is_empty(), class == Class::Disable, "{name}");
    }
}

#[test]
fn what_cannot_be_read_at_all_ends_the_session_with_the_code_of_the_rfc() {
    for (name, body, subcode, data) in updates::fatal() {
        let error = check(&body, &TERMS).expect_err(name);
        assert_eq!(error, Notification::with(3, subcode, &data), "{name}");
    }
}

#[test]
fn an_ipv4_route_may_have_an_ipv6_next_hop_if_that_is_agreed_on() {
    let value = [&[0, 1, 1, 16][..], &[1; 16], &[0], PREFIX].concat();
    let update = body(&[], &[ORIGIN_IGP, PATH, &mp_reach(&value)].concat(), &[]);
    let summary = check(&update, &V6_NEXT_HOPS).unwrap();
    assert_eq!((summary.announced, summary.faults), (1, vec![]));
}

#[test]
fn of_several_faults_the_worst_decides() {
    let update =
        with(&[&[0x40, 6, 1, 0][..], &[0x80, 4, 1, 0], &mp_unreach(&[0, 2, 1, 64])].concat());
    let summary = check(&update, &TERMS).unwrap();
    let classes: Vec<_> = summary.faults.iter().map(|fault| fault.1).collect();
    assert_eq!(classes, [Class::Disable, Class::TreatAsWithdraw, Class::Discard]);
    assert_eq!((summary.announced, summary.withdrawn), (0, 1));
}

proptest! {
    #[test]
    fn no_octets_whatever_do_worse_than_an_error(body in proptest::collection::vec(any::<u8>(), 4..300)) {
        for terms in [TERMS, INTERNAL, TWO_OCTETS, V4_ONLY, V6_NEXT_HOPS] {
            match check(&body, &terms) {
                Ok(summary) => prop_assert!(summary.announced + summary.withdrawn <= 600),
                Err(error) => prop_assert_eq!(error.code, 3),
            }
        }
    }

    /// Mostly sound, so that the walk gets far.
    #[test]
    fn a_sound_update_with_some_octets_changed_is_checked_too(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut body = with(&[v6_reach(), vec![0xc0, 8, 4, 1, 2, 3, 4]].concat());
        for (index, octet) in changes {
            let index = index.index(body.len());
            body[index] = octet;
        }
        if let Err(error) = check(&body, &TERMS) {
            prop_assert_eq!(error.code, 3);
        }
    }
}
