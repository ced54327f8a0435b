//! Specs written for MetalLB.

use std::collections::BTreeMap;

use super::*;

#[test]
fn a_peer_written_for_metallb_is_read_with_all_its_fields() {
    let spec: BgpPeerSpec = serde_saphyr::from_str(
        "myASN: 4200000000
dynamicASN: external
localASN: 64999
interface: eth1
sourceAddress: 10.0.0.2
peerPort: 1179
holdTime: 1m30s
keepaliveTime: 30s
connectTime: 10s
routerID: 10.10.10.10
nodeSelectors: [{matchLabels: {rack: a}}]
passwordSecret: {name: bgp, namespace: metallb-system}
bfdProfile: fast
enableGracefulRestart: true
ebgpMultiHop: true
vrf: red
disableMP: true
dualStackAddressFamily: true
",
    )
    .unwrap();
    let expected = BgpPeerSpec {
        my_asn: 4_200_000_000,
        dynamic_asn: "external".into(),
        local_asn: 64999,
        interface: "eth1".into(),
        source_address: "10.0.0.2".into(),
        peer_port: 1179,
        hold_time: Some("1m30s".into()),
        keepalive_time: Some("30s".into()),
        connect_time: Some("10s".into()),
        router_id: "10.10.10.10".into(),
        node_selectors: vec![LabelSelector {
            match_labels: BTreeMap::from([("rack".into(), "a".into())]),
            ..LabelSelector::default()
        }],
        password_secret: SecretReference { name: "bgp".into(), namespace: "metallb-system".into() },
        bfd_profile: "fast".into(),
        enable_graceful_restart: true,
        ebgp_multi_hop: true,
        vrf: "red".into(),
        disable_mp: true,
        dual_stack_address_family: true,
        ..BgpPeerSpec::default()
    };
    assert_eq!(spec, expected);
}

#[test]
fn a_v1beta1_peer_does_not_turn_its_hold_timer_off_by_the_zero_that_every_client_writes() {
    let spec: BgpPeerSpec = serde_saphyr::from_str(
        "myASN: 64512\npeerASN: 64513\npeerAddress: 10.0.0.1\npeerPort: 0\nholdTime: 0s\nkeepaliveTime: 0s\n",
    )
    .unwrap();
    assert_eq!(spec.hold_time.as_deref(), Some("0s"));
    let spec = spec.from_v1beta1();
    assert_eq!((spec.hold_time, spec.keepalive_time), (None, None));
}

#[test]
fn durations_are_read_as_go_reads_them() {
    const SECOND: u64 = 1_000_000_000;
    let cases = [
        ("90s", Some(90 * SECOND)),
        ("1m30s", Some(90 * SECOND)),
        ("1h", Some(3600 * SECOND)),
        ("1.5s", Some(SECOND * 3 / 2)),
        (".5s", Some(SECOND / 2)),
        ("300ms", Some(SECOND * 3 / 10)),
        ("2us3ns", Some(2003)),
        ("+3s", Some(3 * SECOND)),
        ("0", Some(0)),
        ("0s", Some(0)),
        ("", None),
        ("+", None),
        ("90", None),
        ("s", None),
        (".s", None),
        ("-3s", None),
        ("3 s", None),
        ("3d", None),
        ("99999999999999999999s", None),
        ("9999999999h", None),
    ];
    for (text, nanos) in cases {
        assert_eq!(go_duration_nanos(text), nanos, "{text}");
    }
}
