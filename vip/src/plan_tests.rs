//! What is announced from where, and in which order plans change.

use super::*;
use crate::alloc::Assignment;
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
    NodeFacts { name: "n1".into(), labels: labels(&[("rack", "7")]) }
}

fn allocation() -> Allocation {
    let web = Assignment { pool: "default".into(), ips: vec![ip("10.0.0.1")] };
    Allocation { assigned: BTreeMap::from([(id("web"), web)]), ..Allocation::default() }
}

fn planned(advertisements: &[L2AdvertisementSpec]) -> Result<Interfaces, Refusal> {
    let advertisements: Vec<_> = advertisements
        .iter()
        .enumerate()
        .map(|(index, spec)| (format!("adv-{index}"), spec.clone()))
        .collect();
    let wanted = BTreeSet::from([id("web"), id("pending")]);
    let (plan, refusals) = plan(&allocation(), &[pool()], &advertisements, &wanted, &node());
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
    assert!(refusal.severe);
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
}

#[test]
fn service_selectors_close_the_advertisement_instead_of_opening_it() {
    let limited = L2AdvertisementSpec {
        service_selectors: vec![selector(&[("app", "web")])],
        ..L2AdvertisementSpec::default()
    };
    assert_eq!(planned(std::slice::from_ref(&limited)).unwrap_err().reason, "NotAdvertised");
    assert_eq!(planned(&[limited.clone(), from(&["eth0"])]), Ok(named(&["eth0"])));
    assert_eq!(advertisement_refusals(&limited, &[])[0].field, "spec.serviceSelectors");
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
        node_selectors: vec![odd],
        ..L2AdvertisementSpec::default()
    };
    let refusals = advertisement_refusals(&spec, &[pool()]);
    let told: Vec<_> = refusals.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "spec.ipAddressPools[1]: there is no usable pool \"defualt\" [PoolNotFound]; \
             pools: default",
            "spec.nodeSelectors[0]: \"Equals\" of \"zone\" is not an operator, so the selector \
             matches nothing [InvalidSelector]; \
             use In, NotIn (both with values), Exists or DoesNotExist (both without)",
        ]
    );
}

#[test]
fn claims_that_are_not_wanted_here_are_not_announced() {
    let advertisement = ("all".to_owned(), L2AdvertisementSpec::default());
    let (plan, refusals) =
        plan(&allocation(), &[pool()], &[advertisement], &BTreeSet::new(), &node());
    assert_eq!((plan, refusals), (VipPlan::default(), vec![]));
}

#[test]
fn steps_are_minimal_and_withdraw_first() {
    let vip = |claim: &str, interfaces| Vip { claims: vec![id(claim)], interfaces, preference: 0 };
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
