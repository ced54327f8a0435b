//! Addresses that routers are to lead to other nodes while connections are open on them here.
//!
//! `super` has one [`Departures`] if the node is in a group, passes every new plan through
//! [`Departures::follow`] and tells it what the group says. An address that is planned no more stays
//! announced until the other nodes pass on to this one what is open here; then it is withdrawn, but
//! stays on the loopback interface until its connections have ended. Pure: decides and remembers only.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use gatehouse_vip::{Routed, bgp::BgpPlan};

use super::l2::Lingering;

/// An address that returns is passed on by other nodes for so long: until routers lead here again what
/// has stayed open.
const RETURN: Duration = Duration::from_secs(3);

/// The addresses that are leaving.
#[derive(Debug)]
pub(super) struct Departures {
    linger: Duration,
    stages: BTreeMap<IpAddr, Stage>,
    /// Addresses that have returned, and until when that is recent.
    returned: BTreeMap<IpAddr, Instant>,
    /// What `follow` returned last is out of date.
    changed: bool,
}

/// How far an address has come.
#[derive(Debug)]
enum Stage {
    /// Announced until the other nodes pass on.
    Announced,
    /// Withdrawn, but usable here.
    Lingering(Lingering),
    /// On its way off the loopback interface.
    Over,
}

impl Departures {
    /// `linger`: for how long connections on an address that is withdrawn are served.
    pub(super) fn new(linger: Duration) -> Self {
        Self { linger, stages: BTreeMap::new(), returned: BTreeMap::new(), changed: false }
    }

    /// What the speaker is to have of a plan, of which it has `applied`. `held` are the addresses on the
    /// loopback interface.
    pub(super) fn follow(
        &mut self,
        plan: BgpPlan,
        applied: &BgpPlan,
        held: &BTreeSet<IpAddr>,
        now: Instant,
    ) -> BgpPlan {
        self.changed = false;
        for (ip, stage) in &self.stages {
            if plan.addresses.contains_key(ip) && matches!(stage, Stage::Lingering(_)) {
                self.returned.insert(*ip, now + RETURN);
            }
        }
        self.returned.retain(|ip, until| plan.addresses.contains_key(ip) && *until > now);
        self.stages.retain(|ip, _| !plan.addresses.contains_key(ip) && held.contains(ip));
        for ip in applied.addresses.keys().filter(|ip| held.contains(ip)) {
            if !plan.addresses.contains_key(ip) {
                self.stages.entry(*ip).or_insert(Stage::Announced);
            }
        }
        let mut kept = plan;
        let wanted: BTreeSet<IpAddr> = kept.addresses.keys().copied().collect();
        for (ip, stage) in &self.stages {
            let claims = applied.addresses.get(ip).cloned().unwrap_or_default();
            match stage {
                Stage::Over => continue,
                Stage::Announced => keep_routes(&mut kept, applied, *ip),
                Stage::Lingering(_) => drop_routes(&mut kept, *ip, &wanted),
            }
            kept.addresses.insert(*ip, claims);
        }
        kept
    }

    /// Whether [`follow`](Self::follow) has something else to say of the same plan.
    pub(super) fn changed(&self) -> bool {
        self.changed
    }

    /// The other nodes pass on what is open on the address, if one of them serves it. True if its routes
    /// go now.
    pub(super) fn relayed(&mut self, ip: IpAddr, elsewhere: bool, now: Instant) -> bool {
        let Some(stage @ Stage::Announced) = self.stages.get_mut(&ip) else { return false };
        // With nobody to take clients over there is nothing to go on.
        *stage = if elsewhere { Stage::Lingering(Lingering::since(now)) } else { Stage::Over };
        self.changed = true;
        true
    }

    /// Ends what has had its time: the lingering of addresses, also when every connection has left.
    /// `left` counts connections; `None` while that is not known.
    pub(super) fn let_go(&mut self, left: impl Fn(IpAddr) -> Option<usize>, now: Instant) {
        for (ip, stage) in &mut self.stages {
            let Stage::Lingering(lingering) = stage else { continue };
            if lingering.may_go(left(*ip), now) || lingering.lasted(now) >= self.linger {
                *stage = Stage::Over;
                self.changed = true;
            }
        }
        self.changed |= self.returned.values().any(|until| *until <= now);
    }

    /// Whether some address waits for its connections to end.
    pub(super) fn lingers(&self) -> bool {
        self.stages.values().any(|stage| matches!(stage, Stage::Lingering(_)))
    }

    /// Whether routers hear of an address of the applied plan.
    pub(super) fn announced(&self, ip: &IpAddr) -> bool {
        matches!(self.stages.get(ip), None | Some(Stage::Announced))
    }

    /// The address has left the loopback interface.
    pub(super) fn removed(&mut self, ip: IpAddr) {
        self.stages.remove(&ip);
    }

    /// What the group is to know of the addresses of a plan, and of those on their way off.
    pub(super) fn routed(&self, applied: &BgpPlan) -> BTreeMap<IpAddr, Routed> {
        let serving = applied.addresses.keys().map(|ip| (*ip, Routed::Serving));
        let leaving = self.stages.keys().chain(self.returned.keys());
        let leaving = leaving.map(|ip| (*ip, Routed::Leaving));
        serving.chain(leaving).collect()
    }
}

/// Adds the routes of a former plan that lead to the address.
fn keep_routes(plan: &mut BgpPlan, applied: &BgpPlan, ip: IpAddr) {
    for (peer, rib) in &applied.routes {
        let Some(routes) = plan.routes.get_mut(peer) else { continue };
        for (prefix, attributes) in rib.routes.iter().filter(|(prefix, _)| prefix.contains(&ip)) {
            if !routes.routes.contains_key(prefix) {
                Arc::make_mut(routes).routes.insert(*prefix, Arc::clone(attributes));
            }
        }
    }
}

/// Removes the routes that lead to the address and to no other that is wanted.
fn drop_routes(plan: &mut BgpPlan, ip: IpAddr, wanted: &BTreeSet<IpAddr>) {
    for routes in plan.routes.values_mut() {
        let alone = |prefix: &ipnet::IpNet| {
            let mut within = wanted.range(prefix.network()..=prefix.broadcast());
            prefix.contains(&ip) && within.next().is_none()
        };
        if routes.routes.keys().any(alone) {
            Arc::make_mut(routes).routes.retain(|prefix, _| !alone(prefix));
        }
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_vip::{
        ClaimId,
        bgp::{Attributes, RibOut},
    };

    use super::*;

    const LINGER: Duration = Duration::from_secs(30);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A plan of one router.
    fn plan(addresses: &[&str], prefixes: &[&str]) -> BgpPlan {
        let claims = |text: &&str| (ip(text), vec![ClaimId("a/b".into())]);
        let route = |prefix: &&str| (prefix.parse().unwrap(), Arc::new(Attributes::default()));
        let rib = RibOut { routes: prefixes.iter().map(route).collect() };
        BgpPlan {
            peers: BTreeMap::new(),
            routes: [("tor".to_owned(), Arc::new(rib))].into(),
            addresses: addresses.iter().map(claims).collect(),
        }
    }

    fn prefixes(plan: &BgpPlan) -> Vec<String> {
        plan.routes["tor"].routes.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn an_address_is_withdrawn_when_others_pass_on_and_goes_when_its_connections_have() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let (vip, held) = (ip("192.0.2.1"), [ip("192.0.2.1")].into());
        let mut departures = Departures::new(LINGER);
        let full = plan(&["192.0.2.1"], &["192.0.2.1/32"]);
        assert_eq!(departures.follow(full.clone(), &full, &held, Instant::now()), full);
        assert_eq!(departures.routed(&full), [(vip, Routed::Serving)].into());

        let empty = plan(&[], &[]);
        let asking = departures.follow(empty.clone(), &full, &held, Instant::now());
        assert_eq!(asking, full, "announced as before");
        assert_eq!(departures.routed(&asking), [(vip, Routed::Leaving)].into());
        assert!(departures.announced(&vip) && !departures.lingers());

        assert!(departures.relayed(vip, true, at(0)));
        assert!(!departures.relayed(vip, true, at(1)), "said once");
        let lingering = departures.follow(empty.clone(), &asking, &held, Instant::now());
        assert_eq!(lingering, plan(&["192.0.2.1"], &[]));
        assert!(departures.lingers() && !departures.announced(&vip));

        departures.let_go(|_| Some(1), at(5000));
        assert!(!departures.changed(), "a connection is open");
        departures.let_go(|_| Some(0), at(5050));
        departures.let_go(|_| Some(0), at(5250));
        assert!(departures.changed());
        let over = departures.follow(empty.clone(), &lingering, &held, Instant::now());
        assert_eq!(over, empty);
        assert_eq!(departures.routed(&over), [(vip, Routed::Leaving)].into(), "still on loopback");
        departures.removed(vip);
        assert_eq!(departures.routed(&over), BTreeMap::new());
    }

    #[test]
    fn connections_that_do_not_end_keep_an_address_for_the_linger_time_only() {
        let start = Instant::now();
        let (vip, held) = (ip("192.0.2.1"), [ip("192.0.2.1")].into());
        let mut departures = Departures::new(LINGER);
        let full = plan(&["192.0.2.1"], &["192.0.2.1/32"]);
        departures.follow(plan(&[], &[]), &full, &held, Instant::now());
        departures.relayed(vip, true, start);
        departures.let_go(|_| Some(3), start + LINGER - Duration::from_millis(1));
        assert!(departures.lingers());
        departures.let_go(|_| Some(3), start + LINGER);
        assert!(!departures.lingers());
    }

    #[test]
    fn an_address_that_nobody_else_serves_goes_at_once() {
        let (vip, held) = (ip("192.0.2.1"), [ip("192.0.2.1")].into());
        let mut departures = Departures::new(LINGER);
        let (full, empty) = (plan(&["192.0.2.1"], &["192.0.2.1/32"]), plan(&[], &[]));
        departures.follow(empty.clone(), &full, &held, Instant::now());
        assert!(departures.relayed(vip, false, Instant::now()));
        assert_eq!(departures.follow(empty.clone(), &full, &held, Instant::now()), empty);
        // It is not asked for anew while it is on its way off.
        assert_eq!(departures.follow(empty.clone(), &full, &held, Instant::now()), empty);
    }

    #[test]
    fn an_address_that_returns_is_announced_as_if_nothing_had_been() {
        let (vip, held) = (ip("192.0.2.1"), [ip("192.0.2.1")].into());
        let mut departures = Departures::new(LINGER);
        let (full, empty) = (plan(&["192.0.2.1"], &["192.0.2.1/32"]), plan(&[], &[]));
        let start = Instant::now();
        departures.follow(empty.clone(), &full, &held, start);
        departures.relayed(vip, true, start);
        let lingering = departures.follow(empty, &full, &held, start);
        assert_eq!(departures.follow(full.clone(), &lingering, &held, start), full);
        // Routers need a moment to lead here again what has stayed open.
        assert_eq!(departures.routed(&full), [(vip, Routed::Leaving)].into());
        departures.let_go(|_| None, start + RETURN - Duration::from_millis(1));
        assert!(!departures.changed());
        departures.let_go(|_| None, start + RETURN);
        assert!(departures.changed());
        assert_eq!(departures.follow(full.clone(), &full, &held, start + RETURN), full);
        assert_eq!(departures.routed(&full), [(vip, Routed::Serving)].into());
        assert!(!departures.changed());
    }

    #[test]
    fn an_address_that_never_reached_loopback_just_goes() {
        let mut departures = Departures::new(LINGER);
        let (full, empty) = (plan(&["192.0.2.1"], &["192.0.2.1/32"]), plan(&[], &[]));
        assert_eq!(
            departures.follow(empty.clone(), &full, &BTreeSet::new(), Instant::now()),
            empty
        );
    }

    #[test]
    fn a_prefix_stays_for_the_other_addresses_in_it_and_not_for_one_whose_listener_closed() {
        let held: BTreeSet<_> = ["192.0.2.1", "192.0.2.2", "192.0.2.9"].map(ip).into();
        let mut departures = Departures::new(LINGER);
        let routes = ["192.0.2.0/30", "192.0.2.9/32"];
        let full = plan(&["192.0.2.1", "192.0.2.2", "192.0.2.9"], &routes);
        // The routes are those of the whole plan, whatever is open.
        let open = plan(&["192.0.2.2"], &routes);
        let asking = departures.follow(open.clone(), &full, &held, Instant::now());
        departures.relayed(ip("192.0.2.1"), true, Instant::now());
        departures.relayed(ip("192.0.2.9"), true, Instant::now());
        let lingering = departures.follow(open, &asking, &held, Instant::now());
        assert_eq!(prefixes(&lingering), ["192.0.2.0/30"]);
        assert_eq!(lingering.addresses.len(), 3);
    }
}
