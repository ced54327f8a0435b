use std::collections::BTreeMap;

use gatehouse_vip::{ClaimId, Interfaces, LocalState, MemberState, MemberStatus, Vip, VipStatus};

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn vip(service: &str) -> Vip {
    let mut vip =
        Vip { claims: Vec::new(), interfaces: Interfaces::Any, preference: 0, partial: false };
    vip.claims.push(ClaimId(service.into()));
    vip
}

fn known(here: LocalState, owner: &str) -> VipStatus {
    VipStatus {
        owner: Some(owner.to_owned()),
        here,
        interface: Some("eth0".to_owned()),
        eligible: vec!["b".to_owned(), "a".to_owned()],
    }
}

/// Two planned addresses, of which the speaker knows one, and one that drains after it left the plan.
fn rows() -> Vec<VipRow> {
    let plan = VipPlan {
        vips: [(ip("192.0.2.1"), vip("x/gateway")), (ip("192.0.2.2"), vip("x/other"))].into(),
    };
    let speaker = SpeakerStatus {
        vips: BTreeMap::from([
            (ip("192.0.2.1"), known(LocalState::Standby, "b")),
            (ip("192.0.2.3"), known(LocalState::Draining, "b")),
        ])
        .into(),
        ..SpeakerStatus::default()
    };
    vip_rows(&plan, &speaker)
}

#[test]
fn planned_and_draining_addresses_are_shown_with_their_services() {
    let rows = rows();
    let shown: Vec<_> = rows
        .iter()
        .map(|row| (row.address.to_string(), row.here.as_str(), row.services.join(" ")))
        .collect();
    assert_eq!(
        shown,
        [
            ("192.0.2.1".to_owned(), "standby", "x/gateway".to_owned()),
            ("192.0.2.2".to_owned(), "held back", "x/other".to_owned()),
            ("192.0.2.3".to_owned(), "lingering", String::new()),
        ]
    );
    assert_eq!((rows[0].owner.as_deref(), rows[1].owner.as_deref()), (Some("b"), None));
}

#[test]
fn the_page_is_read_back_as_it_was_written_huge_pools_included() {
    let status = NodeStatus {
        node: "a".to_owned(),
        generation: 7,
        vips: rows(),
        pools: vec![PoolRow {
            pool: "p".to_owned(),
            available_v6: u128::MAX,
            ..PoolRow::default()
        }],
        ..NodeStatus::default()
    };
    let page = serde_json::to_string_pretty(&status).unwrap();
    assert_eq!(serde_json::from_str::<NodeStatus>(&page).unwrap(), status);
    let older = serde_json::from_str::<NodeStatus>("{\"node\": \"a\", \"unheard_of\": 1}").unwrap();
    assert_eq!((older.node.as_str(), older.pools.len()), ("a", 0), "versions may differ");
}

#[test]
fn people_see_columns_and_what_is_missing_as_none() {
    let speaker = SpeakerStatus {
        members: vec![MemberStatus {
            node: "b".to_owned(),
            address: "192.0.2.12:7471".parse().unwrap(),
            interface: "eth0".to_owned(),
            draining: true,
            serving: false,
            holds: 3,
            state: MemberState::Alive,
        }],
        ..SpeakerStatus::default()
    };
    let status = NodeStatus {
        node: "a".to_owned(),
        version: "1.2.3".to_owned(),
        generation: 7,
        excluded: Some("the node has the label".to_owned()),
        vips: rows(),
        members: member_rows(&speaker),
        ejected: vec![EjectedRow {
            service: "x/app".to_owned(),
            endpoint: "10.0.0.1:8080".to_owned(),
            why: "answers".to_owned(),
        }],
        problems: vec![ProblemRow {
            object: "Service x/other".to_owned(),
            severity: "error".to_owned(),
            reason: "AddressInUse".to_owned(),
            field: String::new(),
            message: "192.0.2.2 is in use by 02:00:00:00:00:01".to_owned(),
            hint: "take it off that host".to_owned(),
        }],
        ..NodeStatus::default()
    };
    assert_eq!(
        table::render(&status),
        "\
NODE a (gatehouse 1.2.3), generation 7: ready

ANNOUNCES NOTHING: the node has the label

ADDRESSES
  ADDRESS    HERE       OWNER  INTERFACE  ELIGIBLE  SERVICES
  192.0.2.1  standby    b      eth0       b, a      x/gateway
  192.0.2.2  held back  -      -          -         x/other
  192.0.2.3  lingering  b      eth0       b, a      -

GROUP
  NODE  STATE                         HOLDS  INTERFACE  HEARD FROM
  b     alive, not serving, draining  3      eth0       192.0.2.12:7471

LISTENERS
  none

EJECTED ENDPOINTS
  ENDPOINT       SERVICE  WHY
  10.0.0.1:8080  x/app    answers

POOLS
  none

PROBLEMS
  error: Service x/other: 192.0.2.2 is in use by 02:00:00:00:00:01 [AddressInUse]; take it off that host
"
    );
}

#[test]
fn a_probe_asks_for_its_own_pod_where_it_is_known() {
    for (probe, pod, path) in [
        (Probe::Live, None, "/healthz"),
        (Probe::Live, Some("1-2"), "/healthz?pod=1-2"),
        (Probe::Ready, Some(""), "/readyz"),
        (Probe::Ready, Some("1-2"), "/readyz?pod=1-2"),
    ] {
        assert_eq!(probe_path(probe, pod), path);
    }
}
