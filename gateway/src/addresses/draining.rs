//! Addresses that routers are to lead to other nodes while connections are open on them here.
//!
//! `bgp` has one [`Draining`] if the node is in a group, passes every new plan through
//! [`Draining::follow`] and tells it what the group says. An address that is planned no more stays
//! announced until the other nodes pass on to this one what is open here; then it is withdrawn, but
//! stays on the loopback interface until its connections have ended. Pure: decides and remembers only.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use gatehouse_vip::{Routed, bgp::BgpPlan};

use super::drain_timer::DrainTimer;

/// An address that returns is passed on by other nodes for so long: until routers lead here again what
/// has stayed open.
const RETURN: Duration = Duration::from_secs(3);

/// The addresses that are leaving.
#[derive(Debug)]
pub(super) struct Draining {
    limit: Duration,
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
    Draining(DrainTimer),
    /// On its way off the loopback interface.
    Over,
}

impl Draining {
    /// `limit`: for how long connections on an address that is withdrawn are served.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, stages: BTreeMap::new(), returned: BTreeMap::new(), changed: false }
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
            if plan.addresses.contains_key(ip) && matches!(stage, Stage::Draining(_)) {
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
                Stage::Draining(_) => drop_routes(&mut kept, *ip, &wanted),
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
    pub(super) fn forwarded(&mut self, ip: IpAddr, elsewhere: bool, now: Instant) -> bool {
        let Some(stage @ Stage::Announced) = self.stages.get_mut(&ip) else { return false };
        // With nobody to take clients over there is nothing to go on.
        *stage = if elsewhere { Stage::Draining(DrainTimer::since(now)) } else { Stage::Over };
        self.changed = true;
        true
    }

    /// Ends what has had its time: the draining of addresses, also when every connection has left.
    /// `left` counts connections; `None` while that is not known.
    pub(super) fn drained(&mut self, left: impl Fn(IpAddr) -> Option<usize>, now: Instant) {
        for (ip, stage) in &mut self.stages {
            let Stage::Draining(timer) = stage else { continue };
            if timer.ends(left(*ip), now) || timer.lasted(now) >= self.limit {
                *stage = Stage::Over;
                self.changed = true;
            }
        }
        self.changed |= self.returned.values().any(|until| *until <= now);
    }

    /// Whether some address waits for its connections to end.
    pub(super) fn is_draining(&self) -> bool {
        self.stages.values().any(|stage| matches!(stage, Stage::Draining(_)))
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

    const LIMIT: Duration = Duration::from_secs(30);

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
        let mut draining = Draining::new(LIMIT);
        let full = plan(&["192.0.2.1"], &["192.0.2.1/32"]);
        assert_eq!(draining.follow(full.clone(), &full, &held, Instant::now()), full);
        assert_eq!(draining.routed(&full), [(vip, Routed::Serving)].into());

        let empty = plan(&[], &[]);
        let asking = draining.follow(empty.clone(), &full, &held, Instant::now());
        assert_eq!(asking, full, "announced as before");
        assert_eq!(draining.routed(&asking), [(vip, Routed::Leaving)].into());
        assert!(draining.announced(&vip) && !draining.is_draining());

        assert!(draining.forwarded(vip, true, at(0)));
        assert!(!draining.forwarded(vip, true, at(1)), "said once");
        let drained = draining.follow(empty.clone(), &asking, &held, Instant::now());
        assert_eq!(drained, plan(&["192.0.2.1"], &[]));
        assert!(draining.is_draining() && !draining.announced(&vip));

        draining.drained(|_| Some(1), at(5000));
        assert!(!draining.changed(), "a connection is open");
        draining.drained(|_| Some(0), at(5050));
        draining.drained(|_| Some(0), at(5250));
        assert!(draining.changed());
        let over = draining.follow(empty.clone(), &drained, &held, Instant::now());
        assert_eq!(over, empty);
        assert_eq!(draining.routed(&over), [(vip, Routed::Leaving)].into(), "still on loopback");
        draining.removed(vip);
        assert_eq!(draining.routed(&over), BTreeMap::new());
    }

    #[test]
    fn connections_that_do_not_end_keep_an_address_for_the_drain_time_only() {
        let start = Instant::now();
        let (vip, held) = (ip("192.0.2.1"), [ip("192.0.2.1")].into());
        let mut draining = Draining::new(LIMIT);
        let full = plan(&["192.0.2.1"], &["192.0.2.1/32"]);
        draining.follow(plan(&[], &[]), &full, &held, Instant::now());
        draining.forwarded(vip, true, start);
        draining.drained(|_| Some(3), start + LIMIT - Duration::from_millis(1));
        assert!(draining.is_draining());
        draining.drained(|_| Some(3), start + LIMIT);
        assert!(!draining.is_draining());
    }

    #[test]
    fn an_address_that_nobody_else_serves_goes_at_once() {
        let (vip, held) = (ip("192.0.2.1"), [ip("192.0.2.1")].into());
        let mut draining = Draining::new(LIMIT);
        let (full, empty) = (plan(&["192.0.2.1"], &["192.0.2.1/32"]), plan(&[], &[]));
        draining.follow(empty.clone(), &full, &held, Instant::now());
        assert!(draining.forwarded(vip, false, Instant::now()));
        assert_eq!(draining.follow(empty.clone(), &full, &held, Instant::now()), empty);
        // It is not asked for anew while it is on its way off.
        assert_eq!(draining.follow(empty.clone(), &full, &held, Instant::now()), empty);
    }

    #[test]
    fn an_address_that_returns_is_announced_as_if_nothing_had_been() {
        let (vip, held) = (ip("192.0.2.1"), [ip("192.0.2.1")].into());
        let mut draining = Draining::new(LIMIT);
        let (full, empty) = (plan(&["192.0.2.1"], &["192.0.2.1/32"]), plan(&[], &[]));
        let start = Instant::now();
        draining.follow(empty.clone(), &full, &held, start);
        draining.forwarded(vip, true, start);
        let drained = draining.follow(empty, &full, &held, start);
        assert_eq!(draining.follow(full.clone(), &drained, &held, start), full);
        // Routers need a moment to lead here again what has stayed open.
        assert_eq!(draining.routed(&full), [(vip, Routed::Leaving)].into());
        draining.drained(|_| None, start + RETURN - Duration::from_millis(1));
        assert!(!draining.changed());
        draining.drained(|_| None, start + RETURN);
        assert!(draining.changed());
        assert_eq!(draining.follow(full.clone(), &full, &held, start + RETURN), full);
        assert_eq!(draining.routed(&full), [(vip, Routed::Serving)].into());
        assert!(!draining.changed());
    }

    #[test]
    fn an_address_that_never_reached_loopback_just_goes() {
        let mut draining = Draining::new(LIMIT);
        let (full, empty) = (plan(&["192.0.2.1"], &["192.0.2.1/32"]), plan(&[], &[]));
        assert_eq!(draining.follow(empty.clone(), &full, &BTreeSet::new(), Instant::now()), empty);
    }

    #[test]
    fn a_prefix_stays_for_the_other_addresses_in_it_and_not_for_one_whose_listener_closed() {
        let held: BTreeSet<_> = ["192.0.2.1", "192.0.2.2", "192.0.2.9"].map(ip).into();
        let mut draining = Draining::new(LIMIT);
        let routes = ["192.0.2.0/30", "192.0.2.9/32"];
        let full = plan(&["192.0.2.1", "192.0.2.2", "192.0.2.9"], &routes);
        // The routes are those of the whole plan, whatever is open.
        let open = plan(&["192.0.2.2"], &routes);
        let asking = draining.follow(open.clone(), &full, &held, Instant::now());
        draining.forwarded(ip("192.0.2.1"), true, Instant::now());
        draining.forwarded(ip("192.0.2.9"), true, Instant::now());
        let drained = draining.follow(open, &asking, &held, Instant::now());
        assert_eq!(prefixes(&drained), ["192.0.2.0/30"]);
        assert_eq!(drained.addresses.len(), 3);
    }
}
