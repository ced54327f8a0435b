//! OPEN, NOTIFICATION and the rest as another implementation reads and writes them.

use std::net::Ipv4Addr;

use netgauze_bgp_pkt::{
    BgpMessage, capabilities::BgpCapability, wire::deserializer::BgpParsingContext,
};
use netgauze_parse_utils::{WritablePdu, reader::SliceReader, traits::ParseFromWithOneInput};
use proptest::prelude::*;

use super::*;
use crate::bgp::{
    Cease,
    capability::{Capabilities, GracefulRestart},
};

fn parse(bytes: &[u8]) -> BgpMessage {
    let mut context = BgpParsingContext::asn2_default();
    BgpMessage::parse(&mut SliceReader::new(bytes), &mut context).unwrap()
}

fn families() -> impl Strategy<Value = Families> {
    (any::<bool>(), any::<bool>()).prop_map(|(v4, v6)| Families { v4, v6 })
}

fn restart() -> impl Strategy<Value = GracefulRestart> {
    (any::<bool>(), 0..4096_u16, families(), families()).prop_map(
        |(restarting, seconds, families, preserved)| GracefulRestart {
            restarting,
            seconds,
            families,
            preserved: preserved.and(families),
        },
    )
}

fn open() -> impl Strategy<Value = Open> {
    let asn = prop_oneof![1..23456_u32, 23457..=u32::MAX];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let hold = prop_oneof![Just(0_u16), 3..=u16::MAX];
    // The other one refuses multicast addresses, which RFC 6286 allows.
    let id = 1..0xe000_0000_u32;
    (asn, hold, id, families(), flags, proptest::option::of(restart())).prop_map(
        |(asn, hold_time, id, families, (refresh, next_hop, message), graceful_restart)| Open {
            asn,
            hold_time,
            id: Ipv4Addr::from(id),
            capabilities: Capabilities {
                // Without any, the capability is not there at all.
                families: (!families.is_empty()).then_some(families),
                route_refresh: refresh,
                extended_next_hop: next_hop,
                extended_message: message,
                graceful_restart,
                asn: Some(asn),
            },
        },
    )
}

proptest! {
    #[test]
    fn an_open_of_ours_is_read_by_others_as_by_us(open in open()) {
        let bytes = open.encode();
        prop_assert_eq!(&Open::decode(&bytes[header::HEADER..]).unwrap(), &open);
        let BgpMessage::Open(theirs) = parse(&bytes) else { panic!("not an OPEN") };
        prop_assert_eq!((theirs.version(), theirs.my_asn4()), (4, open.asn));
        prop_assert_eq!((theirs.hold_time(), theirs.bgp_id()), (open.hold_time, open.id));
        let has = |wanted: fn(&BgpCapability) -> bool| theirs.capabilities().into_iter().any(wanted);
        let ours = &open.capabilities;
        prop_assert_eq!(has(|one| matches!(one, BgpCapability::RouteRefresh)), ours.route_refresh);
        prop_assert_eq!(has(|one| matches!(one, BgpCapability::ExtendedMessage)), ours.extended_message);
        prop_assert_eq!(has(|one| matches!(one, BgpCapability::ExtendedNextHopEncoding(_))), ours.extended_next_hop);
        for capability in theirs.capabilities() {
            if let BgpCapability::GracefulRestartCapability(restart) = capability {
                let ours = ours.graceful_restart.unwrap();
                prop_assert_eq!(restart.restart(), ours.restarting);
                prop_assert_eq!(restart.time(), ours.seconds);
                let preserved: Vec<_> = restart
                    .address_families()
                    .iter()
                    .filter(|one| one.forwarding_state())
                    .collect();
                prop_assert_eq!(preserved.len(), ours.preserved.afis().count());
            }
        }
        // What another implementation makes of it again is the same to us.
        let mut written = Vec::new();
        BgpMessage::Open(theirs).write(&mut written).unwrap();
        prop_assert_eq!(&Open::decode(&written[header::HEADER..]).unwrap(), &open);
    }

    #[test]
    fn an_open_with_some_octets_changed_is_read_or_refused_as_an_open(
        open in open(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut body = open.encode()[header::HEADER..].to_vec();
        for (index, octet) in changes {
            let index = index.index(body.len());
            body[index] = octet;
        }
        if let Err(error) = Open::decode(&body) {
            prop_assert_eq!(error.code, 2);
        }
    }
}

#[test]
fn notifications_and_keepalives_are_what_others_take_them_for() {
    assert_eq!(parse(&header::keepalive()), BgpMessage::KeepAlive);
    let cases = [
        (Notification::cease(Cease::Shutdown, "bye"), "AdministrativeShutdown"),
        (Notification::cease(Cease::Collision, ""), "ConnectionCollisionResolution"),
        (Notification::hold_timer_expired(), "HoldTimerExpired"),
        (Notification::with(1, 2, &[0, 18]), "BadMessageLength"),
        (Notification::with(2, 6, &[0, 1]), "UnacceptableHoldTime"),
        (Notification::new(3, 11), "MalformedAsPath"),
        (Notification::new(5, 3), "ReceiveUnexpectedMessageInEstablishedState"),
    ];
    for (notification, name) in cases {
        let theirs = format!("{:?}", parse(&notification.encode()));
        assert!(theirs.contains(name), "{notification}: {theirs}");
    }
}
