//! What a node tells its routers, from objects as they are written.

use super::*;
use crate::{
    alloc::Quarantined,
    api::IpAddressPoolSpec,
    bgp::{Attributes, Community},
    plan::EXCLUDE_LABEL,
};

/// Two services with an address each, "web" of both families and "db", and all objects as YAML.
struct Scene {
    objects: BgpObjects,
    wanted: BTreeMap<ClaimId, Wanted>,
    node: NodeFacts,
}

fn objects<S: serde::de::DeserializeOwned>(of: &[(&str, &str)]) -> Vec<(String, S)> {
    of.iter()
        .map(|(name, yaml)| ((*name).to_owned(), serde_saphyr::from_str(yaml).unwrap()))
        .collect()
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

const TOR: &str =
    "{myASN: 64512, peerASN: 64512, peerAddress: 192.0.2.1, dualStackAddressFamily: true}";
const OTHER: &str = "{myASN: 64512, peerASN: 64513, peerAddress: 192.0.2.2}";

fn scene(peers: &[(&str, &str)], advertisements: &[(&str, &str)]) -> Scene {
    let pool = IpAddressPoolSpec {
        addresses: vec!["10.1.0.0/16".into(), "2001:db8::/48".into()],
        ..IpAddressPoolSpec::default()
    };
    let wanted = |app: &str| Wanted { labels: labels(&[("app", app)]), local: None };
    Scene {
        objects: BgpObjects {
            peers: objects(peers),
            advertisements: objects(advertisements),
            pools: vec![PoolFacts::new("pool", &BTreeMap::new(), &pool)],
            ..BgpObjects::default()
        },
        wanted: [(id("web"), wanted("web")), (id("db"), wanted("db"))].into(),
        node: NodeFacts {
            name: "a".into(),
            labels: labels(&[("rack", "1")]),
            ..Default::default()
        },
    }
}

fn id(name: &str) -> ClaimId {
    ClaimId(format!("default/{name}").into())
}

impl Scene {
    fn plan(&self) -> BgpPlanned {
        let assignment = |ip: &str| Assignment { ip: ip.parse().unwrap(), pool: "pool".into() };
        let allocation = Allocation {
            assigned: [
                (id("web"), vec![assignment("10.1.0.1"), assignment("2001:db8::1")]),
                (id("db"), vec![assignment("10.1.0.2")]),
            ]
            .into(),
            refused: BTreeMap::new(),
            quarantined: Quarantined::default(),
        };
        plan(&self.objects, &allocation, &self.wanted, &self.node)
    }

    /// Routes of a peer, and what is refused, in words.
    fn of_peer(&self, peer: &str) -> (Vec<String>, Vec<String>) {
        let planned = self.plan();
        let rib = planned.plan.routes.get(peer).cloned().unwrap_or_default();
        let routes = rib.routes.iter().map(|(prefix, attributes)| {
            let of: Vec<_> = attributes.communities.iter().map(ToString::to_string).collect();
            match attributes.local_pref {
                Some(preference) => format!("{prefix} {preference} {}", of.join(" ")),
                None => format!("{prefix} {}", of.join(" ")),
            }
        });
        let refusals = planned.refusals.iter();
        let refusals =
            refusals.map(|(object, name, why)| format!("{} {name}: {}", object.kind(), why.reason));
        (routes.map(|route| route.trim_end().to_owned()).collect(), refusals.collect())
    }
}

fn addresses(planned: &BgpPlanned) -> Vec<String> {
    planned.plan.addresses.keys().map(ToString::to_string).collect()
}

#[test]
fn every_router_hears_of_what_is_advertised_to_it_and_the_addresses_are_those_that_some_router_hears_of()
 {
    let scene = scene(
        &[("tor", TOR), ("other", OTHER)],
        &[
            ("all", "{communities: ['65000:1']}"),
            (
                "db",
                "{peers: [other], serviceSelectors: [{matchLabels: {app: db}}], communities: ['65000:2']}",
            ),
        ],
    );
    let all = ["10.1.0.1/32 65000:1", "10.1.0.2/32 65000:1", "2001:db8::1/128 65000:1"];
    assert_eq!(scene.of_peer("tor"), (all.map(str::to_owned).into(), vec![]));
    assert_eq!(scene.of_peer("other").0[1], "10.1.0.2/32 65000:1 65000:2");
    assert_eq!(scene.of_peer("other").0.len(), 2, "a session carries its own family alone");
    assert_eq!(addresses(&scene.plan()), ["10.1.0.1", "10.1.0.2", "2001:db8::1"]);
}

#[test]
fn local_pref_is_for_routers_of_the_same_asn_alone() {
    let scene = scene(&[("tor", TOR), ("other", OTHER)], &[("all", "{localPref: 200}")]);
    assert_eq!(scene.of_peer("tor").0[0], "10.1.0.1/32 200");
    // A change of it is no news for the others.
    assert_eq!(scene.of_peer("other").0[0], "10.1.0.1/32");
}

#[test]
fn an_address_that_no_router_hears_of_is_not_put_on_loopback() {
    let only = "{serviceSelectors: [{matchLabels: {app: db}}]}";
    assert_eq!(addresses(&scene(&[("tor", TOR)], &[("db", only)]).plan()), ["10.1.0.2"]);
    assert!(addresses(&scene(&[("tor", TOR)], &[]).plan()).is_empty());
    assert!(addresses(&scene(&[], &[("all", "{}")]).plan()).is_empty());
    let wide = scene(&[("tor", TOR)], &[("wide", "{aggregationLength: 24}")]);
    assert_eq!(addresses(&wide.plan()), ["10.1.0.1", "10.1.0.2", "2001:db8::1"]);
    assert_eq!(wide.of_peer("tor").0, ["10.1.0.0/24", "2001:db8::1/128"]);
}

#[test]
fn a_claim_without_a_local_endpoint_and_an_excluded_node_announce_nothing_but_keep_the_session() {
    let mut scene = scene(&[("tor", TOR)], &[("all", "{}")]);
    scene.wanted.get_mut(&id("web")).unwrap().local = Some(false);
    scene.wanted.get_mut(&id("db")).unwrap().local = Some(true);
    assert_eq!(addresses(&scene.plan()), ["10.1.0.2"]);
    scene.node.labels.insert(EXCLUDE_LABEL.into(), String::new());
    let planned = scene.plan();
    assert!(planned.plan.addresses.is_empty() && planned.plan.routes["tor"].routes.is_empty());
    assert!(planned.plan.peers.contains_key("tor"));
}

#[test]
fn a_session_is_never_run_without_the_password_or_the_profile_that_it_asks_for() {
    let secret = "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.3, passwordSecret: {name: s}}";
    let watched = "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.4, bfdProfile: fast}";
    let mut scene = scene(&[("signed", secret), ("watched", watched)], &[]);
    let missing = ["BGPPeer signed: PasswordNotFound", "BGPPeer watched: ProfileNotFound"];
    assert_eq!(scene.of_peer("signed").1, missing);
    assert!(scene.plan().plan.peers.is_empty());

    let refusal = Problem::refused("PasswordInvalid", "spec.passwordSecret", "empty", "");
    scene.objects.secrets.insert("signed".into(), Err(refusal));
    scene.objects.profiles = objects(&[("fast", "{transmitInterval: 5}")]);
    let broken = [
        "BFDProfile fast: InvalidProfile",
        "BGPPeer signed: PasswordInvalid",
        "BGPPeer watched: ProfileUnusable",
    ];
    assert_eq!(scene.of_peer("signed").1, broken);
    let errors = scene.plan().refusals.into_iter().filter(|(_, _, why)| why.is_error());
    assert_eq!(errors.count(), 2, "one for the profile, one for the Secret");
    let both = "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.5, bfdProfile: none, passwordSecret: {name: s}}";
    scene.objects.peers.extend(objects(&[("both", both)]));
    let told = scene.of_peer("both").1;
    assert!(told.contains(&"BGPPeer both: PasswordNotFound".to_owned()), "{told:?}");
    assert!(told.contains(&"BGPPeer both: ProfileNotFound".to_owned()), "{told:?}");
    scene.objects.peers.pop();

    scene.objects.secrets.insert("signed".into(), Ok(Secret(b"key".to_vec())));
    scene.objects.profiles = objects(&[("fast", "{transmitInterval: 50}")]);
    let planned = scene.plan();
    assert_eq!(planned.refusals, []);
    assert_eq!(planned.plan.peers["signed"].password, Some(Secret(b"key".to_vec())));
    assert!(planned.plan.peers["watched"].bfd.is_some());
    assert!(!format!("{planned:?}").contains("107"), "no key is shown");
}

#[test]
fn a_broken_object_takes_no_other_one_along_and_a_conflict_is_told_once() {
    let scene = scene(
        &[("tor", TOR), ("other", OTHER), ("broken", "{myASN: 0}")],
        &[
            ("old", "{localPref: 100, communities: [alias]}"),
            ("new", "{localPref: 200}"),
            ("bad", "{communities: [nobody]}"),
        ],
    );
    let mut scene = scene;
    scene.objects.communities = objects(&[(
        "names",
        "{communities: [{name: alias, value: '65000:7'}, {name: x, value: y}]}",
    )]);
    let (routes, mut refusals) = scene.of_peer("tor");
    assert_eq!(routes[0], "10.1.0.1/32 100 65000:7");
    refusals.sort();
    refusals.dedup();
    assert_eq!(
        refusals,
        [
            "BGPAdvertisement bad: InvalidCommunity",
            "BGPAdvertisement new: ConflictingAdvertisements",
            "BGPPeer broken: InvalidPeer",
            "Community names: InvalidCommunity",
        ]
    );
    let conflicts = |one: &&String| one.ends_with("ConflictingAdvertisements");
    assert_eq!(scene.of_peer("tor").1.iter().filter(conflicts).count(), 1);
}

#[test]
fn routers_prefer_other_nodes_for_a_route_of_whose_addresses_every_one_is_deferred() {
    let planned = scene(&[("tor", TOR)], &[("all", "{}")]).plan();
    let deferred = |addresses: &BTreeSet<IpAddr>| {
        let plan = planned.plan.deferring(addresses);
        assert_eq!((&plan.peers, &plan.addresses), (&planned.plan.peers, &planned.plan.addresses));
        let shuts = |attributes: &Attributes| {
            attributes.communities.contains(&Community::GRACEFUL_SHUTDOWN)
        };
        let routes = plan.routes["tor"].routes.iter();
        routes.filter(|(_, of)| shuts(of)).map(|(prefix, _)| *prefix).collect::<Vec<_>>()
    };
    assert_eq!(deferred(&BTreeSet::new()), []);
    let v6: BTreeSet<IpAddr> =
        planned.plan.addresses.keys().copied().filter(IpAddr::is_ipv6).collect();
    assert!(!v6.is_empty());
    let found = deferred(&v6);
    assert!(
        !found.is_empty() && found.iter().all(|prefix| v6.iter().any(|ip| prefix.contains(ip)))
    );
    // A route to several addresses, of which some are served whole.
    let mut plan = planned.plan.clone();
    let ip: IpAddr = "192.0.2.8".parse().unwrap();
    plan.addresses = [ip, "192.0.2.9".parse().unwrap()].map(|ip| (ip, Vec::new())).into();
    let routes = [("192.0.2.0/24".parse().unwrap(), Arc::default())].into();
    plan.routes = [("tor".to_owned(), Arc::new(RibOut { routes }))].into();
    assert_eq!(plan.deferring(&BTreeSet::from([ip])), plan);
    assert_ne!(plan.deferring(&plan.addresses.keys().copied().collect()), plan);
}

#[test]
fn a_plan_held_back_to_some_addresses_keeps_its_sessions() {
    let planned = scene(&[("tor", TOR)], &[("all", "{}")]).plan();
    let some = planned.plan.only(|ip| ip.is_ipv6());
    assert_eq!(some.addresses.len(), 1);
    assert_eq!((some.peers, some.routes), (planned.plan.peers, planned.plan.routes));
}
