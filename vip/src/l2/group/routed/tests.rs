use proptest::collection::vec;
use proptest::prelude::*;

use super::super::tests::lab::*;
use super::*;

/// Nodes that have all heard of each other, and to which routers lead the address.
fn routed(nodes: &[&str]) -> Lab {
    let mut lab = Lab::with(nodes);
    nodes.iter().for_each(|node| set_routed(&mut lab, node, Some(Routed::Serving)));
    lab.pass(ms(1000));
    lab
}

fn set_routed(lab: &mut Lab, node: &str, state: Option<Routed>) {
    let now = lab.now;
    let addresses = state.map(|state| (vip(), state)).into_iter().collect();
    lab.group(node).routed(&addresses, now);
}

/// To which node a node forwards what neighbours other than members hand in.
fn passes_to(lab: &Lab, node: &str) -> Option<String> {
    let forwarding =
        lab.nodes[node].forwardings.iter().find(|forwarding| forwarding.vip == vip())?;
    Some(by_hop(lab, forwarding.to))
}

fn by_hop(lab: &Lab, hop: NextHop) -> String {
    let has = |name: &&String| hop.via == IpAddr::V4(octet_facts(name).v4.unwrap());
    lab.nodes.keys().find(has).unwrap().clone()
}

fn octet_facts(name: &str) -> super::super::LinkFacts {
    facts(name.as_bytes()[name.len() - 1])
}

/// The nodes that a segment comes by of a connection that only `owner` has seen begin; ends after many.
fn walk(lab: &Lab, first: &str, owner: Option<&str>) -> Vec<String> {
    let mut path = vec![first.to_owned()];
    let mut sender = None;
    while path.len() < 20 {
        let here = path[path.len() - 1].clone();
        let forwarding =
            lab.nodes[&here].forwardings.iter().find(|forwarding| forwarding.vip == vip());
        let (Some(forwarding), true) = (forwarding, owner != Some(&here)) else { break };
        let exception = sender.and_then(|mac| forwarding.from_members.get(&mac));
        let Some(hop) = exception.copied().unwrap_or(Some(forwarding.to)) else { break };
        sender = Some(octet_facts(&here).mac);
        path.push(by_hop(lab, hop));
    }
    path
}

#[test]
fn a_member_leaves_as_soon_as_all_others_pass_on_to_it() {
    let mut lab = routed(&["node-1", "node-2", "node-3"]);
    assert_eq!(passes_to(&lab, "node-2"), None);
    set_routed(&mut lab, "node-1", Some(Routed::Leaving));
    let begun = lab.now;
    lab.node("node-3").obeys = false;
    lab.pass(ms(200));
    assert_eq!(lab.departed, [], "node-3 does not pass on yet");
    assert_eq!(passes_to(&lab, "node-2"), Some("node-1".to_owned()));
    lab.node("node-3").obeys = true;
    while lab.departed.is_empty() {
        lab.pass(ms(10));
    }
    assert!(lab.now - begun < ms(300), "{:?}", lab.now - begun);
    assert_eq!((lab.departed[0].1.as_str(), lab.departed[0].2), ("node-1", true));
    assert_eq!(passes_to(&lab, "node-3"), Some("node-1".to_owned()));
    assert_eq!(passes_to(&lab, "node-1"), None);
    // It is gone.
    set_routed(&mut lab, "node-1", None);
    lab.pass(ms(30));
    assert_eq!(passes_to(&lab, "node-2"), None);
    assert_eq!(lab.departed.len(), 1);
}

#[test]
fn an_address_that_only_routers_lead_here_is_none_of_the_link() {
    let mut lab = Lab::with(&["node-1", "node-2"]);
    let routed = BTreeMap::from([("192.0.2.7".parse().unwrap(), Routed::Serving)]);
    for node in ["node-1", "node-2"] {
        let now = lab.now;
        lab.group(node).routed(&routed, now);
    }
    lab.pass(ms(1000));
    let now = lab.now;
    let shown = lab.group("node-2").status(now).vips;
    assert!(!shown.contains_key(&"192.0.2.7".parse().unwrap()), "{shown:?}");
}

#[test]
fn an_answer_takes_no_longer_than_its_way() {
    let mut lab = routed(&["node-1", "node-2"]);
    lab.pass(ms(40));
    set_routed(&mut lab, "node-1", Some(Routed::Leaving));
    // One step to say it, one to answer, one to hear that.
    lab.pass(ms(40));
    assert_eq!(lab.departed.len(), 1);
}

#[test]
fn a_member_that_does_not_answer_is_waited_for_for_half_a_second() {
    let mut lab = routed(&["node-1", "node-2"]);
    lab.node("node-2").obeys = false;
    set_routed(&mut lab, "node-1", Some(Routed::Leaving));
    lab.pass(ms(490));
    assert_eq!(lab.departed, []);
    lab.pass(ms(20));
    assert_eq!(lab.departed.len(), 1);
    assert!(lab.departed[0].2, "it serves the address, after all");
}

#[test]
fn nobody_is_waited_for_who_does_not_serve_the_address_or_is_dead() {
    let mut lab = routed(&["node-1", "node-2"]);
    set_routed(&mut lab, "node-2", None);
    lab.pass(ms(100));
    set_routed(&mut lab, "node-1", Some(Routed::Leaving));
    lab.step();
    assert_eq!(lab.departed.pop().map(|(_, _, elsewhere)| elsewhere), Some(false));

    let mut lab = routed(&["node-1", "node-2"]);
    lab.node("node-2").runs = false;
    lab.pass(ms(400));
    set_routed(&mut lab, "node-1", Some(Routed::Leaving));
    lab.step();
    assert_eq!(lab.departed.pop().map(|(_, _, elsewhere)| elsewhere), Some(false));
}

#[test]
fn alone_nobody_is_asked() {
    let mut lab = Lab::new();
    lab.start_as("node-1", "node-1", 1, None);
    set_routed(&mut lab, "node-1", Some(Routed::Leaving));
    lab.step();
    assert_eq!(lab.departed.pop().map(|(_, _, elsewhere)| elsewhere), Some(false));
    assert!(lab.recorded.is_empty(), "nothing is sent");
}

#[test]
fn a_newcomer_does_not_take_itself_for_the_only_one() {
    let mut lab = routed(&["node-1"]);
    lab.start("node-2", 1);
    set_routed(&mut lab, "node-2", Some(Routed::Leaving));
    lab.pass(ms(10));
    assert_eq!(lab.departed, [], "it may not have heard the others yet");
    lab.pass(ms(450));
    assert_eq!(lab.departed.pop().map(|(_, _, elsewhere)| elsewhere), Some(true));
}

#[test]
fn a_member_that_returns_takes_its_own_again_and_may_leave_again() {
    let mut lab = routed(&["node-1", "node-2"]);
    for _ in 0..2 {
        set_routed(&mut lab, "node-1", Some(Routed::Leaving));
        lab.pass(ms(100));
        assert_eq!(lab.departed.len(), 1);
        assert_eq!(passes_to(&lab, "node-2"), Some("node-1".to_owned()));
        set_routed(&mut lab, "node-1", Some(Routed::Serving));
        lab.pass(ms(100));
        assert_eq!(passes_to(&lab, "node-2"), None);
        lab.departed.clear();
    }
}

#[test]
fn a_member_that_dies_while_it_leaves_is_passed_on_to_no_longer() {
    let mut lab = routed(&["node-1", "node-2", "node-3"]);
    set_routed(&mut lab, "node-1", Some(Routed::Leaving));
    set_routed(&mut lab, "node-3", Some(Routed::Leaving));
    lab.pass(ms(100));
    lab.node("node-1").runs = false;
    lab.pass(ms(200));
    assert_eq!(passes_to(&lab, "node-2"), Some("node-1".to_owned()), "not yet dead");
    lab.pass(ms(150));
    assert_eq!(passes_to(&lab, "node-2"), Some("node-3".to_owned()));
    assert_eq!(passes_to(&lab, "node-3"), None);
}

#[test]
fn when_two_leave_at_once_each_segment_finds_its_connection_and_strays_stay() {
    let nodes = ["node-1", "node-2", "node-3", "node-4"];
    let mut lab = routed(&nodes);
    set_routed(&mut lab, "node-1", Some(Routed::Leaving));
    set_routed(&mut lab, "node-3", Some(Routed::Leaving));
    lab.pass(ms(100));
    assert_eq!(lab.departed.len(), 2);
    // A router that has not heard of one of them yet leads to it what the other has.
    assert_eq!(walk(&lab, "node-3", Some("node-1")), ["node-3", "node-1"]);
    assert_eq!(walk(&lab, "node-1", Some("node-3")), ["node-1", "node-3"]);
    assert_eq!(walk(&lab, "node-2", Some("node-3")), ["node-2", "node-1", "node-3"]);
    assert_eq!(walk(&lab, "node-4", None), ["node-4", "node-1", "node-3"]);
    assert_eq!(walk(&lab, "node-3", None), ["node-3", "node-1", "node-3"]);
}

#[test]
fn a_member_without_an_address_of_the_family_cannot_be_passed_on_to_but_is_not_stuck() {
    let mut lab = routed(&["node-1", "node-2"]);
    let now = lab.now;
    let facts = super::super::LinkFacts { v4: None, ..facts(b'1') };
    lab.group("node-1").links([(LINK, facts)].into(), now);
    set_routed(&mut lab, "node-1", Some(Routed::Leaving));
    lab.pass(ms(100));
    assert_eq!(lab.departed.len(), 1);
    assert_eq!(passes_to(&lab, "node-2"), None);
}

#[test]
fn segments_to_ipv6_addresses_go_by_ipv6() {
    let mut lab = routed(&["node-1", "node-2"]);
    let (vip6, now): (IpAddr, _) = ("2001:db8::8".parse().unwrap(), lab.now);
    for (node, state) in [("node-1", Routed::Leaving), ("node-2", Routed::Serving)] {
        lab.group(node).routed(&[(vip6, state)].into(), now);
    }
    lab.pass(ms(100));
    let to = NextHop { link: LINK, via: IpAddr::V6(facts(b'1').v6.unwrap()) };
    let forwarding = Forwarding { vip: vip6, to, from_members: BTreeMap::new() };
    assert_eq!(lab.nodes["node-2"].forwardings, [forwarding]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Nodes leave, return, die and start in any order, on a network that loses; when they have heard
    /// of each other again, a segment finds every leaving member from wherever it comes in, and a segment
    /// of an unknown connection comes to rest.
    #[test]
    fn every_connection_of_a_leaver_is_found_from_everywhere(
        events in vec((0..5_usize, 0..5_u8, 0..30_u64), 1..25),
        cuts in vec((0..5_usize, 0..5_usize), 0..4),
    ) {
        let names = ["node-1", "node-2", "node-3", "node-4", "node-5"];
        let mut lab = routed(&names);
        let mut states: BTreeMap<&str, Option<Routed>> =
            names.iter().map(|name| (*name, Some(Routed::Serving))).collect();
        lab.cut = cuts.iter().map(|(a, b)| (names[*a].to_owned(), names[*b].to_owned())).collect();
        for (life, (node, what, pause)) in (2..).zip(events) {
            let name = names[node];
            let state = match what {
                0 => None,
                1 => Some(Routed::Serving),
                4 => {
                    lab.start(name, life);
                    Some(Routed::Serving)
                }
                _ => Some(Routed::Leaving),
            };
            set_routed(&mut lab, name, state);
            states.insert(name, state);
            lab.pass(ms(pause * 10));
        }
        lab.cut.clear();
        lab.pass(ms(2000));
        let with = |wanted: fn(&Routed) -> bool| {
            let having = states.iter().filter(move |(_, state)| state.as_ref().is_some_and(wanted));
            having.map(|(name, _)| *name).collect::<Vec<_>>()
        };
        let (all, leavers) = (with(|_| true), with(|state| *state == Routed::Leaving));
        for first in &all {
            for owner in &leavers {
                let path = walk(&lab, first, Some(owner));
                prop_assert_eq!(path.last().map(String::as_str), Some(*owner), "{:?}", path);
            }
            let path = walk(&lab, first, None);
            prop_assert!(path.len() <= leavers.len() + 2, "{:?}", path);
        }
        prop_assert_eq!(lab.nodes.values().map(|node| node.group.departing()).sum::<usize>(), 0);
    }
}
