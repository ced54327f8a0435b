//! Whatever happens to a node of a group, in any order: what is reported is true.

use proptest::prelude::*;

use super::{super::*, node::*};
use crate::l2::claim::ClaimKind::{Claim, Probe};

#[derive(Clone, Debug)]
enum Event {
    Plan(bool),
    Claim { probe: bool, contested: bool },
    Release { drain: bool },
    Hear { probe: bool, stranger: bool },
    Carrier(bool),
    Up(bool),
    Fail(bool),
    LetGo,
    Remove,
    Pass(u16),
    Hang(u16),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        any::<bool>().prop_map(Event::Plan),
        any::<(bool, bool)>().prop_map(|(probe, contested)| Event::Claim { probe, contested }),
        any::<bool>().prop_map(|drain| Event::Release { drain }),
        any::<(bool, bool)>().prop_map(|(probe, stranger)| Event::Hear { probe, stranger }),
        any::<bool>().prop_map(Event::Carrier),
        any::<bool>().prop_map(Event::Up),
        any::<bool>().prop_map(Event::Fail),
        Just(Event::LetGo),
        Just(Event::Remove),
        (0..3000_u16).prop_map(Event::Pass),
        (0..5000_u16).prop_map(Event::Hang),
    ]
}

fn apply(node: &mut Node, event: &Event, ip: &str) {
    match *event {
        Event::Plan(planned) => {
            node.want(&if planned { anywhere(&[VIP, VIP6]) } else { VipPlan::default() });
        }
        Event::Claim { probe, contested } => {
            node.decide(ip, Decision::Claim { probe, contested, from: None });
        }
        Event::Release { drain } => node.decide(ip, release(drain.then_some("b"))),
        Event::Hear { probe, stranger } => {
            let kind = if probe { Probe } else { Claim };
            node.hear(ip, kind, (!stranger).then_some("b"));
        }
        Event::Carrier(carrier) => node.link(2, |link| link.carrier = carrier),
        Event::Up(up) => node.link(2, |link| link.up = up),
        Event::Fail(true) => drop(node.failing.insert(ip.parse().unwrap(), FailureKind::Other)),
        Event::Fail(false) => node.failing.clear(),
        Event::LetGo => {
            node.vips.let_go(ip.parse().unwrap());
            node.settle();
        }
        Event::Remove => node.lose(2, ip),
        Event::Pass(ms) => node.pass(u32::from(ms) * MS),
        Event::Hang(ms) => {
            node.hang(u32::from(ms) * MS);
            node.see();
        }
    }
}

proptest! {
    #[test]
    fn what_is_reported_is_true_and_what_is_released_goes(
        events in prop::collection::vec((event(), any::<bool>()), 1..60),
    ) {
        let mut node = Node::in_group(host());
        for (event, second) in &events {
            apply(&mut node, event, if *second { VIP6 } else { VIP });
            for text in [VIP, VIP6] {
                let ip = text.parse().unwrap();
                let there = match (node.links.has(2, ip), node.links.has(1, ip)) {
                    (true, _) => Some(Role::Active),
                    (false, true) => Some(Role::Draining),
                    (false, false) => None,
                };
                prop_assert_eq!(node.role(text), there, "{} after {:?}", text, event);
            }
        }
        node.failing.clear();
        node.want(&VipPlan::default());
        node.decide(VIP, release(None));
        node.decide(VIP6, release(None));
        node.pass(120 * SECOND);
        prop_assert_eq!(node.vips.held(), 0);
        prop_assert!(node.roles.is_empty());
        prop_assert_eq!(node.vips.deadline(), None);
        prop_assert_eq!(node.state(VIP), None);
    }

    #[test]
    fn alone_it_holds_what_is_planned_whatever_has_happened(
        events in prop::collection::vec((event(), any::<bool>()), 1..60),
    ) {
        let mut node = Node::with(host(), OPTIONS, Some(claim(true)));
        for (event, second) in &events {
            if !matches!(event, Event::Claim { .. } | Event::Release { .. }) {
                apply(&mut node, event, if *second { VIP6 } else { VIP });
            }
        }
        node.failing.clear();
        node.link(2, |link| (link.up, link.carrier) = (true, true));
        node.want(&anywhere(&[VIP, VIP6]));
        node.pass(120 * SECOND);
        prop_assert_eq!(node.roles, [VIP, VIP6].map(|ip| (ip.parse().unwrap(), Role::Active)).into());
    }
}
