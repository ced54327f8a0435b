//! Which peers are understood, which are refused and in which words.

use super::*;
use crate::bgp::spec::SecretReference;

fn spec() -> BgpPeerSpec {
    BgpPeerSpec {
        my_asn: 64512,
        peer_asn: 64513,
        peer_address: "10.0.0.1".into(),
        ..BgpPeerSpec::default()
    }
}

fn with(change: impl FnOnce(&mut BgpPeerSpec)) -> Result<Peer, Vec<Problem>> {
    let mut spec = spec();
    change(&mut spec);
    Peer::parse("router", &spec)
}

#[test]
fn a_peer_of_three_fields_gets_the_defaults() {
    let peer = with(|_| {}).unwrap();
    assert_eq!((peer.local_asn, peer.remote_asn), (64512, RemoteAsn::Exactly(64513)));
    assert_eq!(peer.address, PeerAddress::Ip("10.0.0.1".parse().unwrap()));
    assert_eq!((peer.port, peer.source, peer.router_id), (179, None, None));
    assert_eq!(peer.hold_time, Duration::from_secs(90));
    assert_eq!(peer.keepalive_time, Duration::from_secs(30));
    assert_eq!(peer.connect_time, Duration::from_secs(5));
    assert_eq!(peer.families, Families { v4: true, v6: false });
    assert!(!peer.multi_hop && !peer.graceful_restart);
    assert_eq!((peer.password, peer.bfd_profile, peer.vrf), (None, None, None));
    assert_eq!(peer.refusals, []);
}

#[test]
fn the_family_follows_the_address_unless_both_are_asked_for() {
    let v6 = with(|spec| spec.peer_address = "2001:db8::1".into()).unwrap();
    assert_eq!(v6.families, Families { v4: false, v6: true });
    let both = with(|spec| spec.dual_stack_address_family = true).unwrap();
    assert_eq!(both.families, Families::BOTH);
    let unnumbered = with(|spec| {
        spec.peer_address.clear();
        spec.interface = "eth1".into();
    });
    assert_eq!(unnumbered.unwrap().families, Families::BOTH);
}

#[test]
fn local_asn_is_what_the_router_sees_and_decides_whether_the_session_is_internal() {
    let peer = with(|spec| spec.local_asn = 64513).unwrap();
    assert_eq!(peer.local_asn, 64513);
    assert!(peer.multi_hop, "a session within one ASN has no limit of hops");
    assert!(RemoteAsn::Internal.allows(1, 1) && !RemoteAsn::Internal.allows(2, 1));
    assert!(RemoteAsn::External.allows(2, 1) && !RemoteAsn::External.allows(1, 1));
    assert!(RemoteAsn::Exactly(3).allows(3, 1) && !RemoteAsn::Exactly(3).allows(2, 1));
}

#[test]
fn hold_time_and_keepalive_time_give_each_other_three_to_one() {
    // hold time, keepalive time, both as understood in seconds
    let cases = [
        (None, None, Some((90, 30))),
        (Some("9s"), None, Some((9, 3))),
        (None, Some("1s"), Some((3, 1))),
        (Some("180s"), Some("60s"), Some((180, 60))),
        (Some("0s"), None, Some((0, 0))),
        (Some("3.9s"), None, Some((3, 1))),
        (Some("2s"), None, None),
        (Some("65536s"), None, None),
        (Some("9s"), Some("10s"), None),
        (Some("0s"), Some("1s"), None),
        (Some("9s"), Some("0s"), None),
        (Some("9s"), Some("500ms"), None),
        (Some("nine"), None, None),
        (None, Some("9999999h"), None),
    ];
    for (hold, keepalive, expected) in cases {
        let peer = with(|spec| {
            spec.hold_time = hold.map(str::to_owned);
            spec.keepalive_time = keepalive.map(str::to_owned);
        });
        let got = peer.map(|peer| (peer.hold_time.as_secs(), peer.keepalive_time.as_secs()));
        assert_eq!(got.ok(), expected, "{hold:?} {keepalive:?}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_by_field_and_value() {
    type Change = fn(&mut BgpPeerSpec);
    let cases: &[(Change, &str, &str)] = &[
        (|s| s.my_asn = 0, "myASN", "no myASN"),
        (|s| s.my_asn = 23456, "myASN", "AS_TRANS"),
        (|s| s.peer_asn = 23456, "peerASN", "AS_TRANS"),
        (|s| s.local_asn = 23456, "localASN", "AS_TRANS"),
        (|s| s.peer_asn = 0, "peerASN", "neither peerASN nor dynamicASN"),
        (|s| s.dynamic_asn = "internal".into(), "dynamicASN", "both peerASN 64513"),
        (
            |s| {
                s.peer_asn = 0;
                s.dynamic_asn = "any".into();
            },
            "dynamicASN",
            "\"any\"",
        ),
        (|s| s.peer_address.clear(), "peerAddress", "neither peerAddress nor interface"),
        (|s| s.interface = "eth0".into(), "interface", "both peerAddress and interface"),
        (|s| s.peer_address = "router".into(), "peerAddress", "\"router\""),
        (|s| s.peer_address = "10.0.0.1/24".into(), "peerAddress", "\"10.0.0.1/24\""),
        (|s| s.peer_address = "0.0.0.0".into(), "peerAddress", "not the address of a host"),
        (|s| s.peer_address = "224.0.0.5".into(), "peerAddress", "not the address of a host"),
        (|s| s.peer_address = "fe80::1".into(), "peerAddress", "link-local"),
        (|s| s.source_address = "here".into(), "sourceAddress", "\"here\""),
        (|s| s.source_address = "2001:db8::2".into(), "sourceAddress", "different families"),
        (
            |s| {
                s.peer_address.clear();
                s.interface = "eth0".into();
                s.source_address = "10.0.0.2".into();
            },
            "sourceAddress",
            "link-local",
        ),
        (|s| s.peer_port = 65536, "peerPort", "65536"),
        (|s| s.connect_time = Some("0s".into()), "connectTime", "0ns"),
        (|s| s.connect_time = Some("1500ms".into()), "connectTime", "1.5s"),
        (|s| s.connect_time = Some("65536s".into()), "connectTime", "65536s"),
        (|s| s.connect_time = Some("soon".into()), "connectTime", "\"soon\""),
        (|s| s.router_id = "one".into(), "routerID", "\"one\""),
        (|s| s.router_id = "0.0.0.0".into(), "routerID", "\"0.0.0.0\""),
        (|s| s.router_id = "2001:db8::1".into(), "routerID", "\"2001:db8::1\""),
        (|s| s.password = "x".repeat(81), "password", "81 bytes"),
        (
            |s| {
                s.password = "secret".into();
                s.password_secret.name = "bgp".into();
            },
            "passwordSecret",
            "both password and passwordSecret",
        ),
        (
            |s| {
                s.peer_asn = 64512;
                s.ebgp_multi_hop = true;
            },
            "ebgpMultiHop",
            "within one ASN",
        ),
        (
            |s| {
                s.peer_asn = 0;
                s.dynamic_asn = "internal".into();
                s.ebgp_multi_hop = true;
            },
            "ebgpMultiHop",
            "within one ASN",
        ),
    ];
    for (change, field, part) in cases {
        let faults = with(change).expect_err(part);
        assert_eq!(faults.len(), 1, "{field}: {faults:?}");
        assert_eq!(faults[0].field, format!("spec.{field}"));
        assert!(faults[0].message.contains(part), "{field}: {}", faults[0].message);
        assert!(faults[0].is_error());
    }
}

#[test]
fn a_password_is_never_shown() {
    let peer = with(|spec| spec.password = "tops3cret".into()).unwrap();
    assert!(!format!("{peer:?}").contains("tops3cret"));
    let peer = with(|spec| {
        spec.password_secret = SecretReference { name: "bgp".into(), namespace: "sys".into() };
    });
    let expected = Password::Secret { name: "bgp".into(), namespace: Some("sys".into()) };
    assert_eq!(peer.unwrap().password, Some(expected));
}

#[test]
fn a_setting_without_effect_and_a_selector_that_matches_nothing_are_told() {
    let peer = with(|spec| {
        spec.disable_mp = true;
        spec.node_selectors = serde_saphyr::from_str(
            "[{matchLabels: {rack: a}}, {matchExpressions: [{key: rack, operator: Is}]}]",
        )
        .unwrap();
    })
    .unwrap();
    let reported: Vec<_> = peer
        .refusals()
        .iter()
        .map(|refusal| (refusal.field.as_str(), refusal.is_error()))
        .collect();
    assert_eq!(reported, [("spec.disableMP", false), ("spec.nodeSelectors[1]", true)]);
    assert!(peer.on_node(&BTreeMap::from([("rack".into(), "a".into())])));
    assert!(!peer.on_node(&BTreeMap::from([("rack".into(), "b".into())])));
}

#[test]
fn a_node_peers_with_each_of_its_routers_once_and_the_older_object_has_it() {
    let peer = |name: &str, address: &str, rack: &str| {
        let mut spec = spec();
        spec.peer_address = address.into();
        if !rack.is_empty() {
            spec.node_selectors =
                serde_saphyr::from_str(&format!("[{{matchLabels: {{rack: {rack}}}}}]")).unwrap();
        }
        Peer::parse(name, &spec).unwrap()
    };
    let peers = [
        peer("a", "10.0.0.1", "a"),
        peer("b", "10.0.0.1", "b"),
        peer("all", "10.0.0.2", ""),
        peer("again", "10.0.0.2", "a"),
    ];
    let names = |rack: &str| {
        let (chosen, refusals) =
            peers_for(&BTreeMap::from([("rack".to_owned(), rack.to_owned())]), &peers);
        let chosen: Vec<_> = chosen.iter().map(|peer| peer.name.clone()).collect();
        let refused: Vec<_> = refusals.into_iter().map(|(name, _)| name).collect();
        (chosen.join(" "), refused.join(" "))
    };
    assert_eq!(names("a"), ("a all".into(), "again".into()));
    assert_eq!(names("b"), ("b all".into(), String::new()));
    assert_eq!(names("c"), ("all".into(), String::new()));
}

#[test]
fn white_space_around_a_password_does_not_count_and_is_no_password_by_itself() {
    let with = |password: &str| BgpPeerSpec {
        my_asn: 64512,
        peer_asn: 64513,
        peer_address: "192.0.2.1".into(),
        password: password.into(),
        ..BgpPeerSpec::default()
    };
    for (text, told) in
        [("hunter2", false), ("hunter2\n", true), (" hunter2 ", true), ("\thunter2", true)]
    {
        let peer = Peer::parse("r", &with(text)).unwrap();
        assert!(peer.password == Some(Password::Text("hunter2".into())), "{text:?}");
        let found = peer.refusals().iter().any(|one| one.reason == "PasswordTrimmed");
        assert_eq!(found, told, "{text:?}");
    }
    for text in [" ", "\n", " \t "] {
        assert!(Peer::parse("r", &with(text)).is_err(), "no session without a password: {text:?}");
    }
}

#[test]
fn interfaces_and_vrfs_that_cannot_exist_are_refused() {
    let on = |interface: &str, vrf: &str| BgpPeerSpec {
        my_asn: 64512,
        peer_asn: 64513,
        interface: interface.into(),
        vrf: vrf.into(),
        ..BgpPeerSpec::default()
    };
    assert!(Peer::parse("r", &on("eth0", "blue")).is_ok());
    for (interface, vrf) in
        [("eth0:1", ""), ("sixteen-bytes-xy", ""), ("eth0", "a/b"), ("eth *", "")]
    {
        assert!(Peer::parse("r", &on(interface, vrf)).is_err(), "{interface} {vrf}");
    }
}
