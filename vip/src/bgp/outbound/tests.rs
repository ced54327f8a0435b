//! What routers read of what is sent: by our own checks, and by another implementation.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use netgauze_bgp_pkt::{
    BgpMessage,
    iana::PathAttributeType,
    path_attribute::{AsPath, MpReach, MpUnreach, PathAttributeValue},
    wire::deserializer::BgpParsingContext,
};
use netgauze_parse_utils::{reader::SliceReader, traits::ParseFromWithOneInput};
use proptest::prelude::*;

use super::super::{
    attribute::Terms,
    rib_out::{RibOut, delta, tests::ribs},
    update::check,
};
use super::*;

fn negotiated() -> Negotiated {
    Negotiated {
        remote_asn: 64513,
        remote_id: Ipv4Addr::new(10, 0, 0, 2),
        internal: false,
        hold_time: Duration::from_secs(90),
        keepalive_time: Duration::from_secs(30),
        families: Families::BOTH,
        remote_families: Families::BOTH,
        four_octet_asn: true,
        extended_next_hop: false,
        extended_message: false,
        route_refresh: true,
        graceful_restart: true,
    }
}

fn next_hops() -> NextHops {
    NextHops {
        v4: Some(Ipv4Addr::new(192, 0, 2, 1)),
        v6: Some("2001:db8::1".parse().unwrap()),
        link_local: Some("fe80::1".parse().unwrap()),
    }
}

const ASN: u32 = 4_200_000_000;

/// A route as a router has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    next_hop: IpAddr,
    link_local: Option<Ipv6Addr>,
    path: Vec<u32>,
    as4_path: Vec<u32>,
    local_pref: Option<u32>,
    communities: BTreeSet<Community>,
}

/// A router, whose reading of BGP is not ours.
#[derive(Default)]
struct Router {
    rib: BTreeMap<IpNet, Seen>,
    four_octet_asn: bool,
}

impl Router {
    fn hears(&mut self, message: &[u8]) {
        let mut context = BgpParsingContext::asn2_default();
        context.set_asn4(self.four_octet_asn);
        let parsed = BgpMessage::parse(&mut SliceReader::new(message), &mut context);
        let Ok(BgpMessage::Update(update)) = parsed else { panic!("{parsed:?}: {message:02x?}") };
        let mut seen = Seen {
            next_hop: IpAddr::from([0, 0, 0, 0]),
            link_local: None,
            path: Vec::new(),
            as4_path: Vec::new(),
            local_pref: None,
            communities: BTreeSet::new(),
        };
        let mut announced: Vec<IpNet> =
            update.nlri().iter().map(|one| one.network().address().into()).collect();
        let mut withdrawn: Vec<IpNet> =
            update.withdraw_routes().iter().map(|one| one.network().address().into()).collect();
        for (index, attribute) in update.path_attributes().iter().enumerate() {
            match attribute.value() {
                PathAttributeValue::Origin(_) => {}
                PathAttributeValue::AsPath(AsPath::As4PathSegments(segments)) => {
                    seen.path = segments.iter().flat_map(|one| one.as_numbers().to_vec()).collect();
                }
                PathAttributeValue::AsPath(AsPath::As2PathSegments(segments)) => {
                    let numbers = segments.iter().flat_map(|one| one.as_numbers().to_vec());
                    seen.path = numbers.map(u32::from).collect();
                }
                PathAttributeValue::As4Path(path) => {
                    let numbers = path.segments().iter().flat_map(|one| one.as_numbers().to_vec());
                    seen.as4_path = numbers.collect();
                }
                PathAttributeValue::NextHop(next_hop) => seen.next_hop = next_hop.next_hop().into(),
                PathAttributeValue::LocalPreference(one) => seen.local_pref = Some(one.metric()),
                PathAttributeValue::Communities(list) => {
                    seen.communities.extend(list.communities().iter().map(|one| {
                        Community::Standard(one.collection_asn(), one.collection_value())
                    }));
                }
                PathAttributeValue::LargeCommunities(list) => {
                    seen.communities.extend(list.communities().iter().map(|one| {
                        Community::Large(one.global_admin(), one.local_data1(), one.local_data2())
                    }));
                }
                PathAttributeValue::MpReach(reach) => {
                    assert_eq!(index, 0, "RFC 7606 §5.1");
                    match reach {
                        MpReach::Ipv4Unicast { next_hop, next_hop_local, nlri } => {
                            (seen.next_hop, seen.link_local) = (*next_hop, *next_hop_local);
                            announced.extend(
                                nlri.iter().map(|one| IpNet::from(one.network().address())),
                            );
                        }
                        MpReach::Ipv6Unicast { next_hop_global, next_hop_local, nlri } => {
                            seen.next_hop = (*next_hop_global).into();
                            seen.link_local = *next_hop_local;
                            announced.extend(
                                nlri.iter().map(|one| IpNet::from(one.network().address())),
                            );
                        }
                        other => panic!("{other:?}"),
                    }
                }
                PathAttributeValue::MpUnreach(MpUnreach::Ipv4Unicast { nlri }) => {
                    withdrawn.extend(nlri.iter().map(|one| IpNet::from(one.network().address())));
                }
                PathAttributeValue::MpUnreach(MpUnreach::Ipv6Unicast { nlri }) => {
                    withdrawn.extend(nlri.iter().map(|one| IpNet::from(one.network().address())));
                }
                other => panic!("{other:?}"),
            }
        }
        let kinds: Vec<_> = update
            .path_attributes()
            .iter()
            .map(|one| one.path_attribute_type().unwrap())
            .filter(|kind| *kind != PathAttributeType::MpReachNlri)
            .map(|kind| kind as u8)
            .collect();
        assert!(kinds.is_sorted(), "RFC 4271 §5: {kinds:?}");
        for prefix in withdrawn {
            assert!(self.rib.remove(&prefix).is_some(), "{prefix} was not there");
        }
        for prefix in announced {
            self.rib.insert(prefix, seen.clone());
        }
    }
}

fn rib(routes: &[(&str, Attributes)]) -> RibOut {
    let routes = routes
        .iter()
        .map(|(prefix, attributes)| (prefix.parse().unwrap(), Arc::new(attributes.clone())))
        .collect();
    RibOut { routes }
}

/// What a router makes of a RIB sent to it as a whole.
fn heard(outbound: &Outbound, rib: &RibOut) -> BTreeMap<IpNet, Seen> {
    let mut router = Router { four_octet_asn: outbound.four_octet_asn, ..Router::default() };
    for message in outbound.encode(&delta(&RibOut::default(), rib)).messages {
        router.hears(&message);
    }
    router.rib
}

#[test]
fn a_router_of_another_asn_sees_our_asn_and_no_preference() {
    let communities = BTreeSet::from([Community::Standard(65000, 1), Community::Large(1, 2, 3)]);
    let attributes = Attributes { local_pref: Some(300), communities: communities.clone() };
    let rib = rib(&[("10.1.0.1/32", attributes.clone()), ("2001:db8:1::/64", attributes)]);
    let seen = heard(&Outbound::new(&negotiated(), ASN, next_hops()), &rib);
    let expected = Seen {
        next_hop: "192.0.2.1".parse().unwrap(),
        link_local: None,
        path: vec![ASN],
        as4_path: vec![],
        local_pref: None,
        communities,
    };
    assert_eq!(seen[&"10.1.0.1/32".parse().unwrap()], expected);
    let v6 = Seen {
        next_hop: "2001:db8::1".parse().unwrap(),
        link_local: Some("fe80::1".parse().unwrap()),
        ..expected
    };
    assert_eq!(seen[&"2001:db8:1::/64".parse().unwrap()], v6);
    assert_eq!(seen.len(), 2);
}

#[test]
fn a_router_of_our_asn_sees_an_empty_path_and_a_preference() {
    let negotiated = Negotiated { internal: true, ..negotiated() };
    let outbound = Outbound::new(&negotiated, ASN, next_hops());
    let preferred = Attributes { local_pref: Some(300), ..Attributes::default() };
    let rib = rib(&[("10.1.0.1/32", preferred), ("10.1.0.2/32", Attributes::default())]);
    let seen = heard(&outbound, &rib);
    let attributes: Vec<_> = seen.values().map(|one| (one.path.clone(), one.local_pref)).collect();
    assert_eq!(attributes, [(vec![], Some(300)), (vec![], Some(100))]);
}

/// RFC 6793 §4.2.2.
#[test]
fn a_router_that_knows_only_two_octets_sees_as_trans_and_the_asn_beside_it() {
    let negotiated = Negotiated { four_octet_asn: false, ..negotiated() };
    let rib = rib(&[("10.1.0.1/32", Attributes::default())]);
    let paths = |asn| {
        let seen = heard(&Outbound::new(&negotiated, asn, next_hops()), &rib);
        seen.into_values().map(|one| (one.path, one.as4_path)).collect::<Vec<_>>()
    };
    assert_eq!(paths(ASN), [(vec![23456], vec![ASN])]);
    assert_eq!(paths(64512), [(vec![64512], vec![])]);
}

#[test]
fn an_ipv4_route_has_an_ipv6_next_hop_if_the_link_has_no_other_and_both_agree() {
    let rib =
        rib(&[("10.1.0.1/32", Attributes::default()), ("2001:db8::9/128", Attributes::default())]);
    let agreed = Negotiated { extended_next_hop: true, ..negotiated() };
    let link_local = NextHops { v4: None, v6: None, ..next_hops() };
    let seen = heard(&Outbound::new(&agreed, ASN, link_local), &rib);
    assert_eq!(seen.len(), 2);
    for one in seen.values() {
        assert_eq!((one.next_hop, one.link_local), ("fe80::1".parse().unwrap(), None));
    }
    // IPv4 has a next hop of its own, which every router understands.
    let seen = heard(&Outbound::new(&agreed, ASN, next_hops()), &rib);
    assert_eq!(seen[&"10.1.0.1/32".parse().unwrap()].next_hop, IpAddr::from([192, 0, 2, 1]));
    // Neither.
    let outbound = Outbound::new(&negotiated(), ASN, link_local);
    let encoded = outbound.encode(&delta(&RibOut::default(), &rib));
    assert_eq!(encoded.unsent, ["10.1.0.1/32".parse().unwrap()]);
    assert_eq!(encoded.messages.len(), 1);
    // What was announced in MP_REACH_NLRI is withdrawn in MP_UNREACH_NLRI.
    let mut router = Router { four_octet_asn: true, ..Router::default() };
    let outbound = Outbound::new(&agreed, ASN, link_local);
    for (from, to) in [(&RibOut::default(), &rib), (&rib, &RibOut::default())] {
        for message in outbound.encode(&delta(from, to)).messages {
            router.hears(&message);
        }
    }
    assert_eq!(router.rib, BTreeMap::new());
}

#[test]
fn routes_of_a_family_that_the_router_does_not_speak_are_not_sent_nor_withdrawn() {
    let v4_only = Negotiated { families: Families { v4: true, v6: false }, ..negotiated() };
    let outbound = Outbound::new(&v4_only, ASN, next_hops());
    let rib =
        rib(&[("10.1.0.1/32", Attributes::default()), ("2001:db8::9/128", Attributes::default())]);
    let encoded = outbound.encode(&delta(&RibOut::default(), &rib));
    assert_eq!((encoded.messages.len(), encoded.unsent.len()), (1, 1));
    let gone = outbound.encode(&delta(&rib, &RibOut::default()));
    assert_eq!((gone.messages.len(), gone.unsent.len()), (1, 0));
    assert_eq!(outbound.end_of_rib().len(), 1);
}

#[test]
fn ten_thousand_routes_take_as_few_messages_as_they_fit_into() {
    let routes = (0..10_000_u32)
        .map(|n| (IpNet::from(IpAddr::from(Ipv4Addr::from(0x0a01_0000 + n))), Arc::default()))
        .collect();
    let all = delta(&RibOut::default(), &RibOut { routes });
    // 5 octets a prefix; 19 + 4 + 20 octets besides. Without attributes in a withdrawal, 23.
    let gone =
        Delta { withdraw: all.announce.values().flatten().copied().collect(), ..Delta::default() };
    for (extended_message, announced, withdrawn) in [(false, 13, 13), (true, 1, 1)] {
        let negotiated = Negotiated { extended_message, ..negotiated() };
        let outbound = Outbound::new(&negotiated, ASN, next_hops());
        let mut router = Router { four_octet_asn: true, ..Router::default() };
        let messages = outbound.encode(&all).messages;
        assert_eq!(messages.len(), announced);
        messages.iter().for_each(|message| router.hears(message));
        assert_eq!(router.rib.len(), 10_000);
        let messages = outbound.encode(&gone).messages;
        assert_eq!(messages.len(), withdrawn);
        messages.iter().for_each(|message| router.hears(message));
        assert_eq!(router.rib.len(), 0);
    }
}

#[test]
fn communities_that_leave_no_room_for_a_prefix_are_reported_and_not_sent() {
    let communities = |count| Attributes {
        communities: (0..count).map(|n| Community::Standard(65000, n)).collect(),
        ..Attributes::default()
    };
    let outbound = Outbound::new(&negotiated(), ASN, next_hops());
    for (count, sent) in [(980, true), (1100, false)] {
        let rib =
            rib(&[("10.1.0.1/32", communities(count)), ("2001:db8::9/128", communities(count))]);
        let encoded = outbound.encode(&delta(&RibOut::default(), &rib));
        assert_eq!(encoded.messages.is_empty(), !sent, "{count}");
        assert_eq!(encoded.unsent.is_empty(), sent, "{count}");
        assert!(encoded.messages.iter().all(|message| message.len() <= LONGEST));
    }
}

#[test]
fn end_of_rib_is_said_for_each_family() {
    let outbound = Outbound::new(&negotiated(), ASN, next_hops());
    let marked: Vec<_> = outbound
        .end_of_rib()
        .iter()
        .map(|message| check(&message[HEADER..], &terms(&negotiated())).unwrap().end_of_rib)
        .collect();
    assert_eq!(marked, [Families { v4: true, v6: false }, Families { v4: false, v6: true }]);
}

fn terms(negotiated: &Negotiated) -> Terms {
    Terms {
        internal: negotiated.internal,
        four_octet_asn: negotiated.four_octet_asn,
        extended_next_hop: negotiated.extended_next_hop,
        families: negotiated.families,
    }
}

proptest! {
    /// Whatever changes, a router that follows the messages has what it is to have, and finds no
    /// fault with any of them.
    #[test]
    fn a_router_that_follows_the_deltas_has_the_last_rib(
        steps in proptest::collection::vec(ribs(), 1..5),
        internal in any::<bool>(),
        four_octet_asn in any::<bool>(),
        extended_message in any::<bool>(),
    ) {
        let negotiated = Negotiated { internal, four_octet_asn, extended_message, ..negotiated() };
        let outbound = Outbound::new(&negotiated, ASN, next_hops());
        let mut router = Router { four_octet_asn, ..Router::default() };
        let mut last = RibOut::default();
        for rib in steps {
            let encoded = outbound.encode(&delta(&last, &rib));
            prop_assert!(encoded.unsent.is_empty());
            for message in encoded.messages {
                let summary = check(&message[HEADER..], &terms(&negotiated)).unwrap();
                prop_assert_eq!(summary.faults, vec![]);
                router.hears(&message);
            }
            last = rib;
        }
        prop_assert_eq!(router.rib.len(), last.routes.len());
        for (prefix, attributes) in &last.routes {
            let seen = &router.rib[prefix];
            prop_assert_eq!(&seen.communities, &attributes.communities);
            let preference = internal.then_some(attributes.local_pref.unwrap_or(100));
            prop_assert_eq!(seen.local_pref, preference);
        }
    }
}
