//! What happens in a simulated world, and what must be true all the time and in the end.
//!
//! First chaos: anything may happen to any host and to the network. Then peace, in which every
//! address has to find exactly one owner; then planned moves, in which it must never be without; then
//! nothing at all, in which nothing may move any more.

use std::{net::IpAddr, time::Instant};

use super::world::{MS, Weather, World};
use crate::l2::group::{
    election::{Priority, rank},
    wire::Merit,
};

/// How long two may hold an address though nothing has been lost between them: a heartbeat, its
/// delay, the gap before the answer, the answer's delay.
const OVERLAP: u64 = (100 + 60 + 20 + 60 + 20) * MS;
/// The same where only planned moves go on: from one host's claim to the other's hearing of it.
const PLANNED_OVERLAP: u64 = 10 * MS;
/// Until every address has an owner again: listening, doubt, probing, and the fence of a hung process.
const SETTLING: u64 = 2500 * MS;
/// How long a host runs before it is counted on.
const WARM: u64 = 2000 * MS;

/// One run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Story {
    pub(super) seed: u64,
    pub(super) hosts: usize,
    pub(super) addresses: u32,
    /// Of chaos, milliseconds.
    pub(super) chaos: u64,
    /// Planned moves after it.
    pub(super) moves: u64,
    /// Whether peace lasts until every hold-down is over, and a minute more.
    pub(super) long: bool,
    /// Whether heartbeats take the way over bytes and seals.
    pub(super) wire: bool,
    pub(super) talk: bool,
}

impl Story {
    /// Panics, with the seed, if something is not as it must be.
    pub(super) fn run(&self, base: Instant) {
        let Self { seed, hosts, addresses, .. } = *self;
        let mut world = World::new(base, seed, hosts, addresses, self.wire);
        if self.talk {
            world.talk();
        }
        self.begin(&mut world);
        self.disorder(&mut world);
        self.make_peace(&mut world);
        self.pass(&mut world, SETTLING, false);
        if self.talk {
            world.dump();
        }
        self.assert_owned(&mut world, "after the chaos");
        for _ in 0..self.moves {
            self.move_something(&mut world);
        }
        self.pass(&mut world, 1000 * MS, true);
        self.assert_owned(&mut world, "after planned moves");
        self.assert_announced(&world);
        if self.long {
            self.rest(&mut world);
        }
    }

    fn begin(&self, world: &mut World) {
        for host in 0..self.hosts {
            for ip in world.addresses.clone() {
                // Most have no preference, some nodes are not advertised at all.
                match world.rng.range(0, 12) {
                    0 => drop(world.hosts[host].plan.remove(&ip)),
                    1 => drop(world.hosts[host].plan.insert(ip, 50)),
                    _ => {}
                }
            }
            if world.rng.percent(90) {
                world.start(host);
            }
            if world.rng.percent(50) {
                let pause = world.rng.range(0, 700 * MS / self.hosts as u64);
                self.pass(world, pause, false);
            }
        }
        let pause = world.rng.range(0, 2000 * MS);
        self.pass(world, pause, false);
    }

    fn disorder(&self, world: &mut World) {
        world.weather = Weather {
            loss: [0, 2, 10, 30][world.rng.range(0, 4) as usize],
            duplication: [0, 20][world.rng.range(0, 2) as usize],
            delay: [500, 5 * MS, 60 * MS][world.rng.range(0, 3) as usize],
        };
        let weather = world.weather;
        world.note(|| format!("{weather:?}"));
        let end = world.now + self.chaos * MS;
        while world.now < end {
            let host = world.rng.range(0, self.hosts as u64) as usize;
            self.mischief(world, host);
            let most = if world.rng.percent(30) { 1500 } else { 250 };
            let pause = world.rng.range(0, most * MS);
            self.pass(world, pause, false);
        }
    }

    fn mischief(&self, world: &mut World, host: usize) {
        let other = world.rng.range(0, self.hosts as u64) as usize;
        let ip = self.any_address(world);
        let (runs, frozen) = (world.hosts[host].runs(), world.hosts[host].frozen);
        match world.rng.range(0, 16) {
            0 | 1 if runs => world.stop(host),
            0..=2 if !runs && !frozen => world.start(host),
            3 | 4 if runs => world.freeze(host),
            3..=5 if frozen => world.thaw(host),
            6 => {
                let plugged = world.hosts[host].plugged;
                world.plug(host, !plugged);
            }
            7 => drop(world.cut.insert((host, other))),
            8 => {
                let side: Vec<_> = (0..self.hosts).map(|_| world.rng.percent(50)).collect();
                for from in 0..self.hosts {
                    let apart = (0..self.hosts).filter(|to| side[from] != side[*to]);
                    world.cut.extend(apart.map(|to| (from, to)));
                }
                world.note(|| format!("partition {side:?}"));
            }
            9..=11 => {
                world.cut.clear();
                world.note(|| "healed".to_owned());
            }
            12 => {
                let draining = world.hosts[host].draining;
                world.hosts[host].draining = !draining;
                world.note(|| format!("{host} draining: {}", !draining));
            }
            13 => {
                let healthy = world.hosts[host].healthy;
                world.hosts[host].healthy = !healthy;
                world.note(|| format!("{host} healthy: {}", !healthy));
            }
            14 if world.hosts[host].plan.remove(&ip).is_none() => {
                world.hosts[host].plan.insert(ip, 0);
            }
            15 => {
                let preference = world.rng.range(0, 3) as u32 * 50;
                world.hosts[host].plan.insert(ip, preference);
            }
            _ => {}
        }
        world.adjust(host);
    }

    /// The network is whole and fast, nothing hangs. Some hosts stay down, out, or draining.
    fn make_peace(&self, world: &mut World) {
        world.cut.clear();
        world.weather = Weather { loss: 0, duplication: 0, delay: 1500 };
        for host in 0..self.hosts {
            world.disturb(host);
            if world.hosts[host].frozen {
                world.thaw(host);
            } else if !world.hosts[host].runs() && world.rng.percent(70) {
                world.start(host);
            }
            if !world.hosts[host].plugged && world.rng.percent(70) {
                world.plug(host, true);
            }
        }
        world.note(|| "peace".to_owned());
    }

    /// Something that an operator does, done properly.
    fn move_something(&self, world: &mut World) {
        let host = world.rng.range(0, self.hosts as u64) as usize;
        let ip = self.any_address(world);
        if world.hosts[host].runs() {
            match world.rng.range(0, 4) {
                0 => world.hosts[host].draining ^= true,
                1 => drop(world.hosts[host].plan.remove(&ip)),
                2 => {
                    let preference = world.rng.range(0, 3) as u32 * 50;
                    world.hosts[host].plan.insert(ip, preference);
                }
                _ => {
                    world.hosts[host].draining = true;
                    world.note(|| format!("{host} is to be restarted"));
                    world.adjust(host);
                    self.pass(world, 500 * MS, true);
                    world.stop(host);
                    let pause = world.rng.range(0, 1000 * MS);
                    self.pass(world, pause, true);
                    world.start(host);
                }
            }
            let (draining, plan) = (world.hosts[host].draining, world.hosts[host].plan.clone());
            world.note(|| format!("{host} draining: {draining}, plan: {plan:?}"));
            world.adjust(host);
        }
        let pause = world.rng.range(300 * MS, 2500 * MS);
        self.pass(world, pause, true);
    }

    /// After the longest hold-down everything is where it belongs, and stays there.
    fn rest(&self, world: &mut World) {
        self.pass(world, 65_000 * MS, true);
        let before = world.changes.len();
        self.pass(world, 60_000 * MS, true);
        assert_eq!(world.changes.len(), before, "{self:?}: something moved though all was quiet");
        for &ip in &world.addresses {
            let priority = |host: usize| {
                let preference = world.hosts[host].plan.get(&ip).copied().unwrap_or(0);
                let merit = Merit { preference, partial: false };
                Priority::new(true, merit, rank(&format!("node-{host}"), ip), [0; 16])
            };
            let fit = (0..self.hosts).filter(|host| world.hosts[*host].fit(ip));
            if let Some(best) = fit.min_by_key(|host| priority(*host)) {
                assert_eq!(answering(world, ip), [best], "{self:?}: {ip} is not where it belongs");
            }
        }
    }

    /// Lets time pass, and looks at which host answers for what.
    fn pass(&self, world: &mut World, duration: u64, planned: bool) {
        let end = world.now + duration;
        while world.now < end {
            let until = end.min(world.now + 20 * MS);
            let mut seen = world.changes.len();
            world.run_until(until, &mut |world| {
                if planned {
                    self.assert_made_before_broken(world, seen);
                }
                seen = world.changes.len();
            });
            self.assert_single(world, if planned { PLANNED_OVERLAP } else { OVERLAP });
        }
    }

    /// Two that hear each other do not hold the same address for long.
    fn assert_single(&self, world: &World, longest: u64) {
        for &ip in &world.addresses {
            let holders = answering(world, ip);
            for (index, &a) in holders.iter().enumerate() {
                for &b in &holders[index + 1..] {
                    if !world.hosts[a].runs() || !world.hosts[b].runs() {
                        continue;
                    }
                    let held = |host: usize| world.hosts[host].held[&ip];
                    let since = world.clear_since(a, b).max(held(a)).max(held(b));
                    assert!(
                        world.now - since <= longest,
                        "{self:?}: at {} ms, {a} and {b} have both held {ip} for {} ms",
                        world.now / MS,
                        (world.now - since) / MS
                    );
                }
            }
        }
    }

    /// No address is let go of before another node holds it, while one could.
    fn assert_made_before_broken(&self, world: &World, seen: usize) {
        for change in world.changes[seen..].iter().filter(|change| !change.holds) {
            let left = answering(world, change.ip);
            let others = (0..self.hosts).filter(|host| {
                let host = &world.hosts[*host];
                host.fit(change.ip) && world.now - host.started > WARM
            });
            let others: Vec<_> = others.collect();
            assert!(
                !left.is_empty() || others.is_empty(),
                "{self:?}: at {} ms, {} let go of {} though {others:?} could hold it",
                world.now / MS,
                change.host,
                change.ip
            );
        }
    }

    /// Every address that a node can hold has one owner, and no address has two.
    fn assert_owned(&self, world: &mut World, when: &str) {
        if world.addresses.iter().any(|ip| answering(world, *ip).len() > 1) {
            // A planned move may be going on.
            self.pass(world, PLANNED_OVERLAP, false);
        }
        for &ip in &world.addresses {
            let holders = answering(world, ip);
            let warm = |host: &usize| {
                world.hosts[*host].fit(ip) && world.now - world.hosts[*host].started > WARM
            };
            let fit: Vec<_> = (0..self.hosts).filter(warm).collect();
            assert!(
                holders.len() == 1 || (holders.is_empty() && fit.is_empty()),
                "{self:?}: {when}, at {} ms, {ip} is held by {holders:?}; fit are {fit:?}",
                world.now / MS
            );
        }
    }

    /// Neighbours have heard where an address is since another host that announced it let go.
    fn assert_announced(&self, world: &World) {
        for &ip in &world.addresses {
            for owner in answering(world, ip) {
                let others = (0..self.hosts).filter(|host| *host != owner);
                let let_go = others.filter_map(|host| world.hosts[host].let_go.get(&ip)).max();
                let announced = world.hosts[owner].announced.get(&ip);
                // What is still under way counts in the next story.
                let settled = let_go.is_none_or(|at| world.now - at > PLANNED_OVERLAP);
                assert!(
                    !settled || let_go < announced,
                    "{self:?}: {owner} has not announced {ip} since others let go of it"
                );
            }
        }
    }

    fn any_address(&self, world: &mut World) -> IpAddr {
        let index = world.rng.range(0, self.addresses.into()) as usize;
        world.addresses[index]
    }
}

/// The hosts that answer for an address.
fn answering(world: &World, ip: IpAddr) -> Vec<usize> {
    (0..world.hosts.len()).filter(|host| world.hosts[*host].answers(ip)).collect()
}
