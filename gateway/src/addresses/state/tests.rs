//! Addresses on a link, towards routers, and both.

use std::collections::{BTreeMap, BTreeSet};

use gatehouse_routes::model::{Scope, ScopeSlot};
use gatehouse_vip::{BgpEvent, ClaimId, Interfaces, Vip};

use super::*;
use crate::{
    addresses::open::open_addresses,
    compile::{ListenerPlan, Protocol},
};

const DRAIN: Duration = Duration::from_secs(30);

fn vip() -> IpAddr {
    "192.0.2.1".parse().unwrap()
}

fn on_link() -> VipPlan {
    let claims = vec![ClaimId("a/b".into())];
    VipPlan {
        vips: BTreeMap::from([(
            vip(),
            Vip { claims, interfaces: Interfaces::Any, preference: 0, partial: false },
        )]),
    }
}

fn open() -> Open {
    Open { addresses: [vip()].into(), ..Open::default() }
}

fn routed() -> Arc<BgpPlan> {
    let addresses = [(vip(), vec![ClaimId("a/b".into())])].into();
    Arc::new(BgpPlan { addresses, ..BgpPlan::default() })
}

/// A node that was given these plans, and whose speakers have done what they say.
fn node(link: bool, routers: bool, drain: Option<Duration>, now: Instant) -> AddressState {
    let mut state = AddressState::new("n", DRAIN, drain.is_some(), Vec::new());
    let vips = if link { on_link() } else { VipPlan::default() };
    let bgp = if routers { routed() } else { Arc::default() };
    state.apply(&vips, &bgp, open(), now);
    if link {
        assert_eq!(state.heard(announced(), now), Some((vip(), Change::Active)));
    }
    if routers {
        assert_eq!(state.heard(Event::Bgp(BgpEvent::Added { vip: vip() }), now), None);
    }
    state
}

fn announced() -> Event {
    Event::L2(SpeakerEvent::Announced { vip: vip(), interface: "eth0".to_owned() })
}

fn taken_over() -> Event {
    Event::L2(SpeakerEvent::Draining { vip: vip(), to: "m".to_owned() })
}

fn withdrawn() -> Event {
    Event::L2(SpeakerEvent::Withdrawn { vip: vip() })
}

fn removed() -> Event {
    Event::Bgp(BgpEvent::Removed { vip: vip() })
}

fn forwarded(elsewhere: bool) -> Event {
    Event::L2(SpeakerEvent::Forwarded { vip: vip(), elsewhere })
}

#[test]
fn an_address_is_held_back_until_every_listener_of_its_service_is_open() {
    let (vip, plan) = (vip(), on_link());
    let listener = |port, protocol| ListenerPlan {
        address: (vip, port).into(),
        scope: Scope::Plain,
        slot: ScopeSlot::PLAIN,
        protocol,
        vip: true,
    };
    let served = |plans: &[ListenerPlan], is_open: fn(&ListenerPlan) -> bool| {
        let mut state = AddressState::new("n", DRAIN, false, Vec::new());
        let open = open_addresses(plans, &BTreeSet::new(), is_open);
        let (orders, _) = state.apply(&plan, &Arc::default(), open, Instant::now());
        orders.vips.unwrap_or_default()
    };
    let both = [listener(80, Protocol::Http), listener(443, Protocol::Https)];
    assert_eq!(served(&both, |_| true), plan);
    assert_eq!(served(&both, |plan| plan.address.port() == 80), VipPlan::default());
    assert_eq!(served(&[], |_| true), VipPlan::default());
    let forwarded = BTreeSet::from([vip]);
    assert_eq!(open_addresses(&[], &forwarded, |_| false), open());
}

#[test]
fn a_service_that_cannot_be_served_does_not_take_the_address_from_those_that_share_it() {
    let listener = |service: &str, port, protocol| ListenerPlan {
        address: (vip(), port).into(),
        scope: Scope::Gateway(ObjectKey::new("default", service)),
        slot: ScopeSlot::NONE,
        protocol,
        vip: true,
    };
    let plans = [
        listener("gateway", 80, Protocol::Http),
        listener("gateway", 443, Protocol::Https),
        listener("mail", 25, Protocol::Tcp),
        listener("mail", 587, Protocol::Tcp),
    ];
    let served = |forwarded: &BTreeSet<IpAddr>, closed: &[u16]| {
        let open = |plan: &ListenerPlan| !closed.contains(&plan.address.port());
        let open = open_addresses(&plans, forwarded, open);
        let served = open.addresses.contains(&vip());
        // Others come first if something is closed here.
        assert_eq!(open.partial.contains(&vip()), served && !closed.is_empty(), "{closed:?}");
        served
    };
    let none = BTreeSet::new();
    for (closed, announced) in [
        (&[][..], true),
        (&[25], true),
        (&[25, 587], true),
        (&[443], true),
        (&[443, 25], false),
        (&[80, 443, 25, 587], false),
    ] {
        assert_eq!(served(&none, closed), announced, "{closed:?}");
        assert!(
            served(&BTreeSet::from([vip()]), closed),
            "the cluster forwards others: {closed:?}"
        );
    }
}

#[test]
fn an_address_of_which_this_node_serves_a_part_is_left_to_nodes_that_serve_all_of_it() {
    let now = Instant::now();
    let mut state = AddressState::new("n", DRAIN, false, Vec::new());
    let net = ipnet::IpNet::from(vip());
    let rib = gatehouse_vip::bgp::RibOut { routes: [(net, Arc::default())].into() };
    let bgp =
        BgpPlan { routes: [("tor".to_owned(), Arc::new(rib))].into(), ..BgpPlan::clone(&routed()) };
    let bgp = Arc::new(bgp);
    let mut told = |open: Open| {
        let (orders, _) = state.apply(&on_link(), &bgp, open, now);
        let partial = orders.vips.map(|plan| plan.vips[&vip()].partial);
        let communities = |plan: Arc<BgpPlan>| plan.routes["tor"].routes[&net].communities.len();
        (partial, orders.bgp.map(communities))
    };
    assert_eq!(told(open()), (Some(false), Some(0)));
    let partial = Open { partial: [vip()].into(), ..open() };
    assert_eq!(told(partial.clone()), (Some(true), Some(1)));
    assert_eq!(told(partial), (None, None));
    assert_eq!(told(open()), (Some(false), Some(0)));
}

#[test]
fn a_plan_is_handed_to_the_speakers_once() {
    let now = Instant::now();
    let mut state = AddressState::new("n", DRAIN, false, Vec::new());
    let bgp = routed();
    let (orders, changes) = state.apply(&on_link(), &bgp, open(), now);
    assert_eq!((orders.vips, orders.bgp), (Some(on_link()), Some(Arc::clone(&bgp))));
    assert_eq!((orders.routed, changes), (None, [(vip(), Change::Active)].into()));
    let (orders, changes) = state.apply(&on_link(), &bgp, open(), now);
    assert_eq!((orders.vips, orders.bgp, changes), (None, None, Changes::new()));
}

#[test]
fn what_a_link_and_routers_have_stays_until_the_last_lets_go() {
    for (change, routers, link) in [
        (Change::Active, Change::Active, Some(Change::Active)),
        (Change::Draining, Change::Draining, None),
        (Change::Gone, Change::Active, None),
    ] {
        assert_eq!(seen_on_link(change, true), routers, "routers have it as well");
        assert_eq!(seen_on_link(change, false), change);
        assert_eq!(seen_by_routers(change, true), link, "a link has it as well");
        assert_eq!(seen_by_routers(change, false), Some(change));
    }
}

#[test]
fn connections_go_on_when_routers_let_go_of_an_address_that_a_link_has() {
    let now = Instant::now();
    let mut state = node(true, true, None, now);
    let (_, changes) = state.apply(&on_link(), &Arc::default(), open(), now);
    assert_eq!(changes, Changes::new(), "not asked to leave");
    assert_eq!(state.heard(removed(), now), None, "not cut");
    assert!(state.holds(vip()));
    // The last lets go.
    state.apply(&VipPlan::default(), &Arc::default(), Open::default(), now);
    assert!(state.holds(vip()), "still on the interface");
    state.heard(withdrawn(), now);
    assert!(!state.holds(vip()));
}

#[test]
fn connections_go_on_when_a_link_lets_go_of_an_address_that_routers_lead_here() {
    let now = Instant::now();
    let mut state = node(true, true, None, now);
    assert_eq!(state.heard(taken_over(), now), Some((vip(), Change::Draining)));
    assert_eq!(state.draining()[..], [vip()]);
    state.apply(&VipPlan::default(), &routed(), open(), now);
    assert_eq!(state.heard(withdrawn(), now), Some((vip(), Change::Active)), "not cut");
    assert!(state.holds(vip()));
    // The last lets go.
    let (_, changes) = state.apply(&VipPlan::default(), &Arc::default(), Open::default(), now);
    assert_eq!(changes, [(vip(), Change::Draining)].into());
    assert_eq!(state.heard(removed(), now), Some((vip(), Change::Gone)));
    assert!(!state.holds(vip()));
}

#[test]
fn an_address_of_one_speaker_is_gone_when_that_one_lets_go() {
    let now = Instant::now();
    let mut state = node(true, false, None, now);
    state.heard(taken_over(), now);
    state.apply(&VipPlan::default(), &Arc::default(), Open::default(), now);
    assert_eq!(state.heard(withdrawn(), now), Some((vip(), Change::Gone)));
    let mut state = node(false, true, None, now);
    assert_eq!(state.heard(removed(), now), Some((vip(), Change::Gone)));
}

#[test]
fn an_address_is_released_when_its_last_connection_has_ended() {
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let mut state = node(true, false, None, start);
    assert!(!state.is_draining());
    state.heard(taken_over(), start);
    assert!(state.is_draining());
    assert_eq!(state.release_drained(|_| Some(1), at(2_000)), (Vec::new(), false));
    assert_eq!(state.release_drained(|_| Some(0), at(2_050)), (Vec::new(), false));
    assert_eq!(state.release_drained(|_| Some(0), at(2_200)), (vec![vip()], false));
    assert!(!state.is_draining(), "the speaker knows");
}

#[test]
fn an_address_stays_when_its_last_endpoint_goes_until_its_connections_have_ended() {
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let (plan, none) = (VipPlan::default(), Arc::default());
    let without = || Open { without_endpoint: [vip()].into(), ..open() };
    let partial =
        |orders: Orders| orders.vips.map(|plan| plan.vips.get(&vip()).map(|it| it.partial));
    let go = || {
        let mut state = node(true, false, None, start);
        let (orders, changes) = state.apply(&plan, &none, without(), start);
        assert_eq!(partial(orders), Some(Some(true)), "a node with endpoints comes before");
        assert_eq!(changes, [(vip(), Change::Draining)].into());
        assert!(state.is_draining() && !state.release_drained(|_| Some(1), at(2_000)).1);
        state
    };
    // The last connection ends.
    let mut state = go();
    assert!(!state.release_drained(|_| Some(0), at(2_050)).1);
    assert!(state.release_drained(|_| Some(0), at(2_200)).1, "the plan is to be applied again");
    let (orders, changes) = state.apply(&plan, &none, without(), at(2_200));
    assert_eq!((partial(orders), changes), (Some(None), Changes::new()));
    assert!(!state.is_draining());
    assert_eq!(state.heard(withdrawn(), at(2_200)), Some((vip(), Change::Gone)));
    assert!(!state.holds(vip()));
    // The time is over: what is left is cut while its clients can be told.
    let mut state = go();
    assert!(state.release_drained(|_| Some(1), start + DRAIN).1);
    let (orders, changes) = state.apply(&plan, &none, without(), start + DRAIN);
    assert_eq!((partial(orders), changes), (None, [(vip(), Change::Gone)].into()));
    assert!(!state.release_drained(|_| None, start + DRAIN).1);
    let later = start + DRAIN + Duration::from_secs(1);
    assert!(state.release_drained(|_| None, later).1);
    let (orders, changes) = state.apply(&plan, &none, without(), later);
    assert_eq!((partial(orders), changes), (Some(None), Changes::new()));
    // An endpoint comes back.
    let mut state = go();
    let (orders, changes) = state.apply(&on_link(), &none, open(), at(2_000));
    assert_eq!(partial(orders), Some(Some(false)));
    assert_eq!(changes, [(vip(), Change::Active)].into());
    assert!(!state.is_draining());
    // Its Service goes, or has endpoints on other nodes: the address is theirs.
    let mut state = node(true, false, None, start);
    let (orders, changes) = state.apply(&plan, &none, open(), start);
    assert_eq!((partial(orders), changes), (Some(None), Changes::new()));
}

#[test]
fn what_routers_lead_elsewhere_drains_when_the_group_forwards_it() {
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let mut state = node(false, true, Some(DRAIN), start);
    let none = Arc::default();
    let (orders, changes) = state.apply(&VipPlan::default(), &none, Open::default(), start);
    assert_eq!(changes, Changes::new(), "announced until the group forwards");
    assert_eq!(orders.routed.unwrap().addresses, [(vip(), Routed::Leaving)].into());
    let leave = Some((vip(), Change::Draining));
    assert_eq!(state.heard(forwarded(true), start), leave, "idle connections do not wait");
    assert_eq!(state.heard(forwarded(true), start), None, "said once");
    let (_, changes) = state.apply(&VipPlan::default(), &none, Open::default(), start);
    assert_eq!(changes, Changes::new());
    assert!(state.is_draining() && state.holds(vip()) && state.announced().is_empty());
    assert!(!state.release_drained(|_| Some(0), at(2_000)).1);
    assert!(state.release_drained(|_| Some(0), at(2_200)).1, "the plan is to be applied again");
    let (orders, _) = state.apply(&VipPlan::default(), &none, Open::default(), at(2_200));
    assert_eq!(orders.bgp.unwrap().addresses.len(), 0);
}

#[test]
fn what_the_group_forwards_stays_where_a_link_has_it_as_well() {
    let now = Instant::now();
    let mut state = node(true, true, Some(DRAIN), now);
    state.apply(&on_link(), &Arc::default(), open(), now);
    assert_eq!(state.heard(forwarded(true), now), None);
    assert!(state.is_draining(), "routers lead elsewhere all the same");
}

#[test]
fn an_address_that_no_other_node_serves_has_its_connections_asked_to_leave() {
    let now = Instant::now();
    let mut state = node(false, true, Some(DRAIN), now);
    state.apply(&VipPlan::default(), &Arc::default(), Open::default(), now);
    assert_eq!(state.heard(forwarded(false), now), Some((vip(), Change::Draining)));
    assert!(!state.is_draining(), "there is nobody to forward what is open");
}

#[test]
fn nothing_that_is_applied_during_a_stop_says_that_the_node_serves_an_address() {
    let start = Instant::now();
    let (none, later) = (Arc::default(), start + Duration::from_millis(2_200));
    let leaving = || Some([(vip(), Routed::Leaving)].into());
    // An address of which the drain ends during the stop makes `super` apply the plan again.
    let mut state = node(false, true, Some(DRAIN), start);
    state.begin_stop();
    let (orders, changes) = state.apply(&VipPlan::default(), &routed(), open(), later);
    assert_eq!(orders.routed.map(|routed| routed.addresses), leaving());
    assert_eq!(changes, Changes::new());
    // Neither does an address that comes back: its connections were told to leave.
    let mut state = node(false, true, Some(DRAIN), start);
    state.apply(&VipPlan::default(), &none, Open::default(), start);
    state.heard(forwarded(true), start);
    state.apply(&VipPlan::default(), &none, Open::default(), start);
    state.begin_stop();
    let (orders, changes) = state.apply(&VipPlan::default(), &routed(), open(), later);
    assert_eq!(orders.routed.map(|routed| routed.addresses), leaving());
    assert_eq!(changes, Changes::new(), "no connection is told to stay");
}

#[test]
fn a_stop_asks_what_came_by_routers_to_leave_at_once_and_lets_nothing_stay() {
    let now = Instant::now();
    let mut state = node(false, true, Some(DRAIN), now);
    let (leaving, changes) = state.begin_stop();
    assert_eq!(leaving.unwrap().addresses, [(vip(), Routed::Leaving)].into());
    assert_eq!(changes, [(vip(), Change::Draining)].into());

    let mut state = node(true, true, None, now);
    assert_eq!(state.begin_stop(), (None, Changes::new()), "the link has it as well");
    assert_eq!(state.heard(announced(), now), None, "nothing is to stay");
    assert_eq!(state.heard(taken_over(), now), Some((vip(), Change::Draining)));
    assert!(state.is_draining());
    assert_eq!(state.heard(withdrawn(), now), None, "routers still have it");
    assert!(!state.is_draining());
}

#[test]
fn an_address_that_both_have_is_announced_twice() {
    let state = node(true, true, None, Instant::now());
    let of = |interface: &str| Announced { vip: vip(), interface: interface.to_owned() };
    assert_eq!(state.announced(), [of("eth0"), of("lo")]);
}
