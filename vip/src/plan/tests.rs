//! What is announced from where, and in which order plans change.

use super::*;
use crate::api::{IpAddressPoolSpec, LabelExpression, LabelSelector};

fn id(name: &str) -> ClaimId {
    ClaimId(format!("ns/{name}").into())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn labels(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

fn selector(of: &[(&str, &str)]) -> LabelSelector {
    LabelSelector { match_labels: labels(of), ..LabelSelector::default() }
}

fn pool() -> Pool {
    let spec =
        IpAddressPoolSpec { addresses: vec!["10.0.0.0/24".into()], ..IpAddressPoolSpec::default() };
    Pool::parse("default", &labels(&[("zone", "a")]), &spec).unwrap()
}

fn node() -> NodeFacts {
    NodeFacts {
        name: "n1".into(),
        labels: labels(&[("rack", "7"), ("zone", "a")]),
        network_unavailable: false,
    }
}

fn allocation() -> Allocation {
    allocated(&[("web", "10.0.0.1")])
}

fn allocated(of: &[(&str, &str)]) -> Allocation {
    let assigned = of.iter().map(|(name, address)| {
        (id(name), vec![Assignment { ip: ip(address), pool: "default".into() }])
    });
    Allocation { assigned: assigned.collect(), ..Allocation::default() }
}

fn claim(app: &str) -> Wanted {
    Wanted { labels: labels(&[("app", app)]), local: None }
}

fn numbered(specs: &[L2AdvertisementSpec]) -> Vec<(String, L2AdvertisementSpec)> {
    let numbered = specs.iter().enumerate();
    numbered.map(|(index, spec)| (format!("adv-{index}"), spec.clone())).collect()
}

fn planned(advertisements: &[L2AdvertisementSpec]) -> Result<Interfaces, Problem> {
    let wanted = BTreeMap::from([(id("web"), claim("web")), (id("pending"), claim("web"))]);
    let advertisements = numbered(advertisements);
    let Planned { plan, refusals, excluded } =
        plan(&allocation(), &[pool()], &advertisements, &wanted, &node());
    assert_eq!(excluded, None);
    match refusals.as_slice() {
        [] => {
            assert_eq!(plan.vips.keys().collect::<Vec<_>>(), [&ip("10.0.0.1")]);
            assert_eq!(plan.vips[&ip("10.0.0.1")].claims, [id("web")]);
            Ok(plan.vips[&ip("10.0.0.1")].interfaces.clone())
        }
        [(refused, refusal)] => {
            assert_eq!(refused, &id("web"));
            assert_eq!(plan, VipPlan::default());
            Err(refusal.clone())
        }
        more => panic!("one claim, several refusals: {more:?}"),
    }
}

fn named(names: &[&str]) -> Interfaces {
    Interfaces::Named(names.iter().map(ToString::to_string).collect())
}

fn from(interfaces: &[&str]) -> L2AdvertisementSpec {
    L2AdvertisementSpec {
        interfaces: interfaces.iter().map(ToString::to_string).collect(),
        ..L2AdvertisementSpec::default()
    }
}

#[test]
fn an_advertisement_that_names_nothing_announces_everything_everywhere() {
    assert_eq!(planned(&[L2AdvertisementSpec::default()]), Ok(Interfaces::Any));
}

#[test]
fn interfaces_of_several_advertisements_add_up() {
    assert_eq!(planned(&[from(&["eth0"]), from(&["eth1"])]), Ok(named(&["eth0", "eth1"])));
    assert_eq!(planned(&[from(&["eth0"]), from(&[])]), Ok(Interfaces::Any));
}

#[test]
fn pools_are_selected_by_name_or_label() {
    let by_name = |name: &str| L2AdvertisementSpec {
        ip_address_pools: vec![name.into()],
        ..L2AdvertisementSpec::default()
    };
    let by_label = |zone: &str| L2AdvertisementSpec {
        ip_address_pool_selectors: vec![selector(&[("zone", zone)])],
        ..L2AdvertisementSpec::default()
    };
    assert_eq!(planned(&[by_name("default")]), Ok(Interfaces::Any));
    assert_eq!(planned(&[by_label("a")]), Ok(Interfaces::Any));
    for missing in [by_name("other"), by_label("b")] {
        assert_eq!(planned(&[missing]).unwrap_err().reason, "NotAdvertised");
    }
}

#[test]
fn without_an_advertisement_the_claim_hears_what_to_create() {
    let refusal = planned(&[]).unwrap_err();
    assert_eq!(refusal.reason, "NotAdvertised");
    assert_eq!(
        refusal.message,
        "no L2Advertisement selects pool \"default\", so its addresses are not announced"
    );
    assert!(refusal.is_error());
}

#[test]
fn a_node_that_no_selector_matches_announces_nothing() {
    let at = |rack: &str| L2AdvertisementSpec {
        node_selectors: vec![selector(&[("rack", rack)])],
        ..L2AdvertisementSpec::default()
    };
    assert_eq!(planned(&[at("7")]), Ok(Interfaces::Any));
    let refusal = planned(&[at("8")]).unwrap_err();
    assert_eq!(refusal.message, "pool \"default\" is advertised (adv-0), but not from this node");
    assert_eq!(refusal.hint, "node \"n1\" matches none of their nodeSelectors");
    assert!(!refusal.is_error(), "another node may announce it");
}

fn for_services(apps: &[&str], interfaces: &[&str]) -> L2AdvertisementSpec {
    L2AdvertisementSpec {
        service_selectors: apps.iter().map(|app| selector(&[("app", app)])).collect(),
        ..from(interfaces)
    }
}

#[test]
fn service_selectors_say_which_services_an_advertisement_is_for() {
    assert_eq!(planned(&[for_services(&["mail", "web"], &[])]), Ok(Interfaces::Any));
    let refusal = planned(&[for_services(&["mail"], &[])]).unwrap_err();
    assert_eq!(refusal.reason, "NotAdvertised");
    assert_eq!(refusal.message, "pool \"default\" is advertised (adv-0), but not for this service");
    assert!(refusal.is_error());
    let both = [for_services(&["mail"], &["eth0"]), for_services(&["web"], &["eth1"])];
    assert_eq!(planned(&both), Ok(named(&["eth1"])), "what is for another service does not count");
}

#[test]
fn a_claim_of_two_families_hears_once_what_is_true_of_both() {
    let mut allocation = allocation();
    let second = Assignment { ip: ip("2001:db8::1"), pool: "default".into() };
    allocation.assigned.get_mut(&id("web")).unwrap().push(second);
    let wanted = BTreeMap::from([(id("web"), claim("web"))]);
    let planned = plan(&allocation, &[pool()], &[], &wanted, &node());
    assert_eq!(planned.refusals.len(), 1);
}

#[test]
fn services_that_share_an_address_are_announced_where_advertisements_for_any_of_them_say() {
    let allocation = allocated(&[("web", "10.0.0.1"), ("mail", "10.0.0.1"), ("ftp", "10.0.0.1")]);
    let wanted = BTreeMap::from(["web", "mail", "ftp"].map(|name| (id(name), claim(name))));
    let both = for_services(&["web", "mail"], &["eth0"]);
    let both = L2AdvertisementSpec { preferred_node_selectors: vec![preferring("7", 10)], ..both };
    let advertisements =
        numbered(&[both, for_services(&["mail"], &["eth1"]), for_services(&["x"], &[])]);
    let Planned { plan, refusals, .. } =
        plan(&allocation, &[pool()], &advertisements, &wanted, &node());
    let vip = &plan.vips[&ip("10.0.0.1")];
    assert_eq!(vip.claims, [id("mail"), id("web")]);
    assert_eq!(vip.interfaces, named(&["eth0", "eth1"]));
    assert_eq!(vip.preference, 10, "an advertisement counts once, whomever it is for");
    let reported: Vec<_> = refusals.iter().map(|(id, one)| (id.clone(), one.reason)).collect();
    assert_eq!(reported, [(id("ftp"), "NotAdvertised")]);
}

fn preferring(rack: &str, weight: i64) -> PreferredNodeSelector {
    PreferredNodeSelector { weight, preference: selector(&[("rack", rack)]) }
}

#[test]
fn weights_of_all_selectors_of_all_advertisements_that_match_the_node_add_up() {
    let with = |preferred: &[PreferredNodeSelector]| L2AdvertisementSpec {
        preferred_node_selectors: preferred.to_vec(),
        ..L2AdvertisementSpec::default()
    };
    let elsewhere = L2AdvertisementSpec {
        node_selectors: vec![selector(&[("rack", "8")])],
        ..with(&[preferring("7", 50)])
    };
    let in_zone = PreferredNodeSelector { weight: 5, preference: selector(&[("zone", "a")]) };
    let everywhere = PreferredNodeSelector { weight: 1, preference: LabelSelector::default() };
    let cases = [
        (vec![with(&[])], 0),
        (vec![with(&[preferring("8", 100)])], 0),
        (vec![with(&[preferring("7", 100)])], 100),
        (vec![with(&[preferring("7", 40), preferring("8", 7), in_zone])], 45),
        (vec![with(&[preferring("7", 40)]), with(&[everywhere])], 41),
        (vec![with(&[preferring("7", 40)]), elsewhere], 40),
        (vec![with(&[preferring("7", 0), preferring("7", 101), preferring("7", -1)])], 0),
    ];
    let wanted = BTreeMap::from([(id("web"), claim("web"))]);
    for (specs, preference) in cases {
        let planned = plan(&allocation(), &[pool()], &numbered(&specs), &wanted, &node());
        assert_eq!(planned.plan.vips[&ip("10.0.0.1")].preference, preference, "{specs:?}");
    }
}

#[test]
fn a_service_of_local_policy_is_announced_only_where_it_has_an_endpoint() {
    let all = numbered(&[L2AdvertisementSpec::default()]);
    for (local, announced) in [(None, true), (Some(true), true), (Some(false), false)] {
        let wanted = BTreeMap::from([(id("web"), Wanted { local, ..claim("web") })]);
        let planned = plan(&allocation(), &[pool()], &all, &wanted, &node());
        assert_eq!(planned.plan.vips.contains_key(&ip("10.0.0.1")), announced, "{local:?}");
        let reported: Vec<_> =
            planned.refusals.iter().map(|(_, one)| (one.reason, one.is_error())).collect();
        let expected = [("NoLocalEndpoint", false)];
        assert_eq!(reported, if announced { &expected[..0] } else { &expected[..] });
    }
}

#[test]
fn a_node_that_is_excluded_announces_nothing() {
    let all = numbered(&[L2AdvertisementSpec::default()]);
    let wanted = BTreeMap::from([(id("web"), claim("web"))]);
    let labelled = |value: &str| NodeFacts { labels: labels(&[(EXCLUDE_LABEL, value)]), ..node() };
    let cut_off = NodeFacts { network_unavailable: true, ..node() };
    for (node, expected) in [
        (labelled(""), Exclusion::Label),
        (labelled("false"), Exclusion::Label),
        (cut_off, Exclusion::NetworkUnavailable),
    ] {
        let planned = plan(&allocation(), &[pool()], &all, &wanted, &node);
        let excluded = Some(expected);
        assert_eq!(planned, Planned { excluded, ..Planned::default() });
    }
}

#[test]
fn faults_of_an_advertisement_are_named_by_field() {
    let odd = LabelSelector {
        match_expressions: vec![LabelExpression {
            key: "zone".into(),
            operator: "Equals".into(),
            values: vec!["a".into()],
        }],
        ..LabelSelector::default()
    };
    let spec = L2AdvertisementSpec {
        ip_address_pools: vec!["default".into(), "defualt".into()],
        node_selectors: vec![odd.clone()],
        service_selectors: vec![odd.clone()],
        preferred_node_selectors: vec![PreferredNodeSelector { weight: 101, preference: odd }],
        ..L2AdvertisementSpec::default()
    };
    let refusals = advertisement_refusals(&spec, &[pool()]);
    let reported: Vec<_> = refusals.iter().map(ToString::to_string).collect();
    assert_eq!(
        reported,
        [
            "spec.ipAddressPools[1]: there is no usable pool \"defualt\" [PoolNotFound]; \
             pools: default",
            "spec.nodeSelectors[0]: \"Equals\" of \"zone\" is not an operator, so the selector \
             matches nothing [InvalidSelector]; \
             use In, NotIn (both with values), Exists or DoesNotExist (both without)",
            "spec.serviceSelectors[0]: \"Equals\" of \"zone\" is not an operator, so the selector \
             matches nothing [InvalidSelector]; \
             use In, NotIn (both with values), Exists or DoesNotExist (both without)",
            "spec.preferredNodeSelectors[0].weight: the weight 101 is not from 1 to 100, so it counts \
             nothing [InvalidWeight]; write a weight from 1 to 100",
            "spec.preferredNodeSelectors[0].preference: \"Equals\" of \"zone\" is not an operator, so \
             the selector matches nothing [InvalidSelector]; \
             use In, NotIn (both with values), Exists or DoesNotExist (both without)",
        ]
    );
}

#[test]
fn claims_that_are_not_wanted_here_are_not_announced() {
    let advertisement = ("all".to_owned(), L2AdvertisementSpec::default());
    let planned = plan(&allocation(), &[pool()], &[advertisement], &BTreeMap::new(), &node());
    assert_eq!(planned, Planned::default());
}

#[test]
fn steps_are_minimal_and_withdraw_first() {
    let vip = |claim: &str, interfaces| Vip {
        claims: vec![id(claim)],
        interfaces,
        preference: 0,
        partial: false,
    };
    let plan = |of: &[(&str, Vip)]| VipPlan {
        vips: of.iter().map(|(address, vip)| (ip(address), vip.clone())).collect(),
    };
    let old = plan(&[
        ("10.0.0.1", vip("kept", Interfaces::Any)),
        ("10.0.0.2", vip("changed", Interfaces::Any)),
        ("10.0.0.9", vip("gone", Interfaces::Any)),
    ]);
    let new = plan(&[
        ("10.0.0.0", vip("new", Interfaces::Any)),
        ("10.0.0.1", vip("kept", Interfaces::Any)),
        ("10.0.0.2", vip("changed", named(&["eth0"]))),
    ]);
    assert_eq!(
        diff(&old, &new),
        [
            Step::Withdraw(ip("10.0.0.9")),
            Step::Change(ip("10.0.0.2"), vip("changed", named(&["eth0"]))),
            Step::Announce(ip("10.0.0.0"), vip("new", Interfaces::Any)),
        ]
    );
    assert_eq!(diff(&new, &new), []);
    assert_eq!(diff(&new, &VipPlan::default()).len(), 3);
}

#[test]
fn nodes_recognise_that_they_serve_the_same_services_whatever_the_order() {
    let vip = |names: &[&str]| Vip {
        claims: names.iter().map(|name| ClaimId((*name).into())).collect(),
        interfaces: Interfaces::Any,
        preference: 0,
        partial: false,
    };
    let tenants = vip(&["a/b", "c/d"]).tenants();
    assert_eq!(vip(&["c/d", "a/b"]).tenants(), tenants);
    assert_ne!(vip(&["a/b"]).tenants(), tenants);
    assert_ne!(vip(&["a/b", "c/e"]).tenants(), tenants);
}

#[test]
fn interfaces_that_cannot_exist_are_refused_and_open_nothing_else() {
    let pools = [];
    for (names, refused) in [
        (vec!["eth0"], 0),
        (vec!["eth0", "interface-with-a-long-name"], 1),
        (vec!["eth0:1"], 1),
        (vec!["", "eth*"], 2),
    ] {
        let spec = L2AdvertisementSpec {
            interfaces: names.iter().map(ToString::to_string).collect(),
            ..L2AdvertisementSpec::default()
        };
        let refusals = advertisement_refusals(&spec, &pools);
        let invalid = refusals.iter().filter(|one| one.reason == "InvalidInterface");
        assert!(invalid.clone().all(Problem::is_error));
        assert_eq!(invalid.count(), refused, "{names:?}");
        // Not one without interfaces, which would mean every one.
        assert!(!interfaces(&spec).allow("eth9"));
    }
}

#[test]
fn what_an_advertisement_lists_twice_is_said() {
    let twice = |one: &str| vec![one.to_owned(), one.to_owned()];
    let spec = L2AdvertisementSpec {
        ip_address_pools: twice("p"),
        interfaces: twice("eth0"),
        node_selectors: vec![LabelSelector::default(); 2],
        preferred_node_selectors: vec![
            PreferredNodeSelector {
                weight: 5,
                ..PreferredNodeSelector::default()
            };
            2
        ],
        ..L2AdvertisementSpec::default()
    };
    let refusals = advertisement_refusals(&spec, &[]);
    let told = refusals.iter().filter(|one| one.reason == "Duplicate");
    let told: Vec<_> = told.map(|one| one.field.as_str()).collect();
    assert_eq!(
        told,
        [
            "spec.ipAddressPools[1]",
            "spec.interfaces[1]",
            "spec.preferredNodeSelectors[1]",
            "spec.nodeSelectors[1]",
        ]
    );
}
