//! Specs written for MetalLB, and the schemas of the CRDs.

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

/// The schemas must let through every field that the structs read, or the API server prunes it.
#[test]
fn the_crd_schemas_know_exactly_the_fields_of_the_specs() {
    let selector = vec![LabelSelector::default()];
    let peer = BgpPeerSpec {
        peer_asn: 1,
        dynamic_asn: "a".into(),
        local_asn: 1,
        peer_address: "a".into(),
        interface: "a".into(),
        source_address: "a".into(),
        peer_port: 1,
        hold_time: Some("a".into()),
        keepalive_time: Some("a".into()),
        connect_time: Some("a".into()),
        router_id: "a".into(),
        node_selectors: selector.clone(),
        password: "a".into(),
        password_secret: SecretReference { name: "a".into(), namespace: String::new() },
        bfd_profile: "a".into(),
        enable_graceful_restart: true,
        ebgp_multi_hop: true,
        vrf: "a".into(),
        disable_mp: true,
        dual_stack_address_family: true,
        my_asn: 1,
    };
    let advertisement = BgpAdvertisementSpec {
        aggregation_length: Some(1),
        aggregation_length_v6: Some(1),
        local_pref: 1,
        communities: vec!["a".into()],
        ip_address_pools: vec!["a".into()],
        ip_address_pool_selectors: selector.clone(),
        node_selectors: selector.clone(),
        peers: vec!["a".into()],
        service_selectors: selector,
    };
    let profile = BfdProfileSpec {
        receive_interval: Some(1),
        transmit_interval: Some(1),
        detect_multiplier: Some(1),
        echo_interval: Some(1),
        echo_mode: Some(true),
        passive_mode: Some(true),
        minimum_ttl: Some(1),
    };
    let written = [
        ("BGPPeer", keys(&peer)),
        ("BGPAdvertisement", keys(&advertisement)),
        ("BFDProfile", keys(&profile)),
        ("Community", keys(&CommunitySpec::default())),
    ];
    let documents = crds();
    let crds: Vec<Crd> = documents
        .split("---\n")
        .filter(|document| !document.is_empty())
        .map(|document| serde_saphyr::from_str(document).unwrap())
        .collect();
    assert_eq!(crds.len(), written.len());
    for (crd, (kind, fields)) in crds.iter().zip(written) {
        assert_eq!(crd.spec.names.kind, kind);
        assert_eq!(crd.metadata.name, format!("{}.metallb.io", crd.spec.names.plural));
        let stored = crd.spec.versions.iter().find(|version| version.storage).unwrap();
        assert_eq!(stored.fields(), fields, "{kind}");
        // Without a conversion webhook an older version must be a subset, field by field.
        for version in &crd.spec.versions {
            assert!(version.fields().iter().all(|field| fields.contains(field)), "{kind}");
        }
    }
}

/// The fields that a spec writes at its top level.
fn keys(spec: &impl Serialize) -> Vec<String> {
    let text = serde_saphyr::to_string(spec).unwrap();
    let mut keys: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with([' ', '-']))
        .filter_map(|line| line.split_once(':').map(|(key, _)| key.to_owned()))
        .collect();
    keys.sort();
    keys
}

#[derive(Deserialize)]
struct Crd {
    metadata: Named,
    spec: CrdSpec,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct CrdSpec {
    names: Names,
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Names {
    kind: String,
    plural: String,
}

#[derive(Deserialize)]
struct Version {
    storage: bool,
    schema: Schema,
}

#[derive(Deserialize)]
struct Schema {
    #[serde(rename = "openAPIV3Schema")]
    open_api_v3_schema: Properties,
}

#[derive(Deserialize)]
struct Properties {
    #[serde(default)]
    properties: BTreeMap<String, Self>,
}

impl Version {
    fn fields(&self) -> Vec<String> {
        self.schema.open_api_v3_schema.properties["spec"].properties.keys().cloned().collect()
    }
}
