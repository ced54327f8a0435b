//! Hosts and the network between them, in virtual time.
//!
//! [`super::story`] drives a [`World`]. `vips` and `speaker` are here in miniature: a claim takes
//! some milliseconds, with a probe 600; what is let go of is gone at once, or drains; addresses of a
//! process that stands still or is dead stay on the link until their kernel lifetime ends.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant},
};

use crate::{
    l2::group::{Decision, Group, GroupKey, Offer, Role, Timing, wire::Message},
    links::LinkFacts,
};

/// Milliseconds and microseconds of virtual time.
pub(super) const MS: u64 = 1000;
/// The one link.
const LINK: u32 = 2;
/// Kernel lifetime of addresses, and how often it is renewed.
const LIFETIME: u64 = 2000 * MS;
const RENEWAL: u64 = 500 * MS;
const PROBE: u64 = 600 * MS;
/// Datagrams that wait for a process that stands still.
const SOCKET_BUFFER: usize = 300;

/// SplitMix64: small, and the same everywhere.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` up to, but not including, `high`.
    pub(super) fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low).max(1)
    }

    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

/// How the network behaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// Percent.
    pub(super) loss: u64,
    pub(super) duplication: u64,
    /// Longest delay, microseconds; the shortest is 50.
    pub(super) delay: u64,
}

/// A host: the process, if it runs, and the kernel.
pub(super) struct Host {
    name: String,
    group: Option<Group>,
    lives: u8,
    pub(super) started: u64,
    /// Preference by address: what the plan of this node has.
    pub(super) plan: BTreeMap<IpAddr, u32>,
    pub(super) plugged: bool,
    pub(super) healthy: bool,
    pub(super) draining: bool,
    pub(super) frozen: bool,
    /// On the link, since when.
    pub(super) held: BTreeMap<IpAddr, u64>,
    draining_vips: BTreeSet<IpAddr>,
    /// What it was decided to hold, and when that was announced last.
    wanted: BTreeSet<IpAddr>,
    pub(super) announced: BTreeMap<IpAddr, u64>,
    /// When it let go, with its cable in.
    pub(super) let_go: BTreeMap<IpAddr, u64>,
    /// Claims on their way; the number tells a claim from an earlier one.
    claims: BTreeMap<IpAddr, u64>,
    last_turn: u64,
    wake: u64,
    inbox: Vec<(usize, Rc<Message>)>,
}

impl Host {
    pub(super) fn runs(&self) -> bool {
        self.group.is_some() && !self.frozen
    }

    /// Whether it should be able to hold an address.
    pub(super) fn fit(&self, ip: IpAddr) -> bool {
        self.runs() && self.plugged && self.healthy && !self.draining && self.plan.contains_key(&ip)
    }

    /// Whether clients on the link reach the address here.
    pub(super) fn answers(&self, ip: IpAddr) -> bool {
        self.plugged && self.held.contains_key(&ip)
    }
}

#[derive(Clone, Debug)]
enum Event {
    Deliver { to: usize, from: usize, message: Rc<Message> },
    Wake { host: usize },
    Claimed { host: usize, ip: IpAddr, claim: u64 },
    DrainEnd { host: usize, ip: IpAddr },
    Expire { host: usize, ip: IpAddr, since: u64 },
}

/// Orders events by time, then in the order in which they came up.
struct Scheduled(u64, u64, Event);

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// One change of the host that answers for an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    #[allow(dead_code, reason = "printed with the story that failed")]
    pub(super) at: u64,
    pub(super) ip: IpAddr,
    pub(super) host: usize,
    pub(super) holds: bool,
}

pub(super) struct World {
    base: Instant,
    pub(super) now: u64,
    pub(super) rng: Rng,
    pub(super) hosts: Vec<Host>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) weather: Weather,
    /// One way: from, to.
    pub(super) cut: BTreeSet<(usize, usize)>,
    /// Since when nothing has been lost between two hosts, and both have been well.
    clear: Vec<u64>,
    /// Some runs take the way over bytes and seals.
    key: GroupKey,
    wire: bool,
    queue: BinaryHeap<Reverse<Scheduled>>,
    serial: u64,
    pub(super) changes: Vec<Change>,
    /// What happened, for the reader of a failure.
    log: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(base: Instant, seed: u64, hosts: usize, addresses: u32, wire: bool) -> Self {
        let addresses: Vec<_> = (0..addresses)
            .map(|host| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0064 + host)))
            .collect();
        let host = |number| Host {
            name: format!("node-{number}"),
            group: None,
            lives: 0,
            started: 0,
            plan: addresses.iter().map(|ip| (*ip, 0)).collect(),
            plugged: true,
            healthy: true,
            draining: false,
            frozen: false,
            held: BTreeMap::new(),
            draining_vips: BTreeSet::new(),
            wanted: BTreeSet::new(),
            announced: BTreeMap::new(),
            let_go: BTreeMap::new(),
            claims: BTreeMap::new(),
            last_turn: 0,
            wake: u64::MAX,
            inbox: Vec::new(),
        };
        Self {
            base,
            now: 0,
            rng: Rng(seed),
            hosts: (0..hosts).map(host).collect(),
            addresses,
            weather: Weather { loss: 0, duplication: 0, delay: 500 },
            cut: BTreeSet::new(),
            clear: vec![0; hosts * hosts],
            key: GroupKey::new(b"the secret of the simulation").unwrap(),
            wire,
            queue: BinaryHeap::new(),
            serial: 0,
            changes: Vec::new(),
            log: None,
        }
    }

    /// Prints what happens from now on.
    pub(super) fn talk(&mut self) {
        self.log = Some(Vec::new());
    }

    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        if self.log.is_some() {
            println!("{:>12.3} ms  {}", self.now as f64 / MS as f64, text());
        }
    }

    /// What every process knows.
    pub(super) fn dump(&mut self) {
        let now = self.instant();
        for number in 0..self.hosts.len() {
            let status = self.hosts[number].group.as_ref().map(|group| group.status(now));
            self.note(|| format!("{number}: {status:#?}"));
        }
    }

    /// Since when two hosts have understood each other, as far as it depends on the world.
    pub(super) fn clear_since(&self, a: usize, b: usize) -> u64 {
        self.clear[a * self.hosts.len() + b].max(self.clear[b * self.hosts.len() + a])
    }

    /// Lets time pass up to an instant, and calls `check` after everything that happens.
    pub(super) fn run_until(&mut self, until: u64, check: &mut impl FnMut(&mut Self)) {
        while self.queue.peek().is_some_and(|Reverse(next)| next.0 <= until) {
            let Some(Reverse(Scheduled(at, _, event))) = self.queue.pop() else { break };
            self.now = at;
            let changes = self.changes.len();
            self.happen(event);
            if self.changes.len() != changes {
                check(self);
            }
        }
        self.now = until;
    }

    /// Starts the process; what a predecessor left on the interfaces goes first.
    pub(super) fn start(&mut self, number: usize) {
        self.note(|| format!("start {number}"));
        for ip in self.hosts[number].held.keys().copied().collect::<Vec<_>>() {
            self.drop_address(number, ip);
        }
        let now = self.instant();
        let at = self.now;
        let host = &mut self.hosts[number];
        host.lives += 1;
        let mut incarnation = [host.lives; 16];
        incarnation[0] = number as u8;
        host.group = Some(Group::new(
            host.name.clone(),
            Some(self.key.clone()),
            incarnation,
            Vec::new(),
            Timing::default(),
            now,
        ));
        (host.started, host.last_turn, host.frozen, host.draining) = (at, at, false, false);
        (host.healthy, host.wake) = (true, u64::MAX);
        host.inbox.clear();
        self.disturb(number);
        self.adjust(number);
    }

    /// kill -9, or the end of a process that has no more to do.
    pub(super) fn stop(&mut self, number: usize) {
        self.note(|| format!("stop {number}"));
        let host = &mut self.hosts[number];
        host.group = None;
        host.claims.clear();
        host.wanted.clear();
        host.let_go.clear(); // the process is gone
        host.draining_vips.clear();
        host.inbox.clear();
        self.disturb(number);
        self.let_expire(number);
    }

    /// SIGSTOP.
    pub(super) fn freeze(&mut self, number: usize) {
        self.note(|| format!("freeze {number}"));
        self.hosts[number].frozen = true;
        self.disturb(number);
        self.let_expire(number);
    }

    /// SIGCONT: the speaker notices how long it stood still before it does anything else.
    pub(super) fn thaw(&mut self, number: usize) {
        self.note(|| format!("thaw {number}"));
        let (now, at) = (self.instant(), self.now);
        let host = &mut self.hosts[number];
        host.frozen = false;
        let inbox = std::mem::take(&mut host.inbox);
        if let Some(group) = &mut host.group {
            if at - host.last_turn > Timing::default().dead.as_micros() as u64 {
                group.resumed(now);
            }
            for ip in &self.addresses {
                // What expired meanwhile.
                if !host.held.contains_key(ip) && !host.draining_vips.contains(ip) {
                    group.role(*ip, None, now);
                }
            }
        }
        for since in host.held.values_mut() {
            *since = at; // renewed, so the expiry of before does not count
        }
        self.disturb(number);
        self.adjust(number);
        // What it still has to hold, but the kernel has taken away, is put back.
        let host = &self.hosts[number];
        let missing = host.wanted.iter().filter(|ip| !host.held.contains_key(ip));
        for ip in missing.copied().collect::<Vec<_>>() {
            self.put(number, ip, 0);
        }
        for (from, message) in inbox {
            self.deliver(number, from, &message);
        }
    }

    /// Pulls or plugs the cable.
    pub(super) fn plug(&mut self, number: usize, plugged: bool) {
        self.note(|| format!("plug {number}: {plugged}"));
        self.hosts[number].plugged = plugged;
        if !plugged {
            self.hosts[number].let_go.clear(); // the process may never come back
        }
        let held: Vec<_> = self.hosts[number].held.keys().copied().collect();
        let at = self.now;
        self.changes.extend(held.into_iter().map(|ip| Change {
            at,
            ip,
            host: number,
            holds: plugged,
        }));
        self.disturb(number);
        self.adjust(number);
    }

    /// Tells the process what its settings and interfaces are now.
    pub(super) fn adjust(&mut self, number: usize) {
        let now = self.instant();
        let host = &mut self.hosts[number];
        if host.frozen {
            return;
        }
        let Some(group) = &mut host.group else { return };
        let octet = number as u8 + 1;
        let facts = LinkFacts {
            mac: [2, 0, 0, 0, 0, octet],
            v4: Some(Ipv4Addr::new(10, 0, 1, octet)),
            v6: None,
        };
        let offer = |(ip, preference): (&IpAddr, &u32)| {
            (*ip, Offer { link: LINK, preference: *preference, tenants: 0, partial: false })
        };
        let (links, offers) = if host.plugged {
            (BTreeMap::from([(LINK, facts)]), host.plan.iter().map(offer).collect())
        } else {
            (BTreeMap::new(), BTreeMap::new())
        };
        group.offers(offers, now);
        group.links(links, now);
        group.healthy(host.healthy, now);
        group.drain(host.draining, now);
        self.turn(number);
    }

    /// Two hosts may have misunderstood each other.
    pub(super) fn disturb(&mut self, number: usize) {
        let count = self.hosts.len();
        for other in 0..count {
            self.clear[number * count + other] = self.now;
        }
    }

    fn instant(&self) -> Instant {
        self.base + Duration::from_micros(self.now)
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.serial += 1;
        self.queue.push(Reverse(Scheduled(at, self.serial, event)));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { to, from, message } => self.deliver(to, from, &message),
            Event::Wake { host } => {
                if self.hosts[host].wake == self.now && self.hosts[host].runs() {
                    self.turn(host);
                }
            }
            Event::Claimed { host, ip, claim } => self.claimed(host, ip, claim),
            Event::DrainEnd { host, ip } => {
                if self.hosts[host].draining_vips.remove(&ip) {
                    self.set_role(host, ip, None);
                }
            }
            Event::Expire { host, ip, since } => {
                if !self.hosts[host].runs() && self.hosts[host].held.get(&ip) == Some(&since) {
                    self.drop_address(host, ip);
                }
            }
        }
    }

    /// One turn of the speaker's loop.
    fn turn(&mut self, number: usize) {
        let now = self.instant();
        let at = self.now;
        let Some(group) = &mut self.hosts[number].group else { return };
        let decisions = group.decisions(now);
        for (ip, decision) in decisions {
            self.carry_out(number, ip, decision);
        }
        let Some(group) = &mut self.hosts[number].group else { return };
        for (_, message) in group.compose(now) {
            self.broadcast(number, message);
        }
        let host = &mut self.hosts[number];
        host.last_turn = at;
        let deadline = host.group.as_ref().and_then(Group::deadline);
        // Never at once: what a turn leaves undone must not keep the loop from everything else.
        let wake = deadline.map_or(u64::MAX, |deadline| {
            let micros = deadline.saturating_duration_since(self.base).as_nanos().div_ceil(1000);
            (micros as u64).max(at + 1)
        });
        if std::mem::replace(&mut host.wake, wake) != wake && wake != u64::MAX {
            self.schedule(wake, Event::Wake { host: number });
        }
    }

    fn carry_out(&mut self, number: usize, ip: IpAddr, decision: Decision) {
        self.note(|| format!("{number} {ip}: {decision:?}"));
        match decision {
            Decision::Claim { probe, .. } => {
                self.hosts[number].wanted.insert(ip);
                self.hosts[number].announced.insert(ip, self.now);
                if !self.hosts[number].held.contains_key(&ip) {
                    self.put(number, ip, if probe { PROBE } else { 0 });
                }
            }
            Decision::Release { drain_to } => {
                self.hosts[number].wanted.remove(&ip);
                self.hosts[number].claims.remove(&ip);
                let held = self.hosts[number].held.contains_key(&ip);
                if self.hosts[number].answers(ip) {
                    self.hosts[number].let_go.insert(ip, self.now);
                }
                if held {
                    self.drop_address(number, ip);
                }
                if held && drain_to.is_some() {
                    self.hosts[number].draining_vips.insert(ip);
                    let until = self.now + self.rng.range(MS, 3000 * MS);
                    self.schedule(until, Event::DrainEnd { host: number, ip });
                    self.set_role(number, ip, Some(Role::Draining));
                } else if held {
                    self.set_role(number, ip, None);
                }
            }
        }
    }

    fn put(&mut self, number: usize, ip: IpAddr, after: u64) {
        self.serial += 1;
        let claim = self.serial;
        self.hosts[number].claims.insert(ip, claim);
        let at = self.now + after + self.rng.range(MS, 5 * MS);
        self.schedule(at, Event::Claimed { host: number, ip, claim });
    }

    fn claimed(&mut self, number: usize, ip: IpAddr, claim: u64) {
        if self.hosts[number].claims.get(&ip) != Some(&claim) {
            return;
        }
        if self.hosts[number].frozen {
            return self.schedule(self.now + 50 * MS, Event::Claimed { host: number, ip, claim });
        }
        let at = self.now;
        let host = &mut self.hosts[number];
        host.claims.remove(&ip);
        host.draining_vips.remove(&ip);
        host.held.insert(ip, at);
        host.announced.insert(ip, at);
        let holds = host.plugged;
        self.changes.push(Change { at, ip, host: number, holds });
        self.note(|| format!("{number} {ip}: on the link"));
        self.set_role(number, ip, Some(Role::Active));
    }

    fn drop_address(&mut self, number: usize, ip: IpAddr) {
        if self.hosts[number].held.remove(&ip).is_some() {
            self.note(|| format!("{number} {ip}: off the link"));
            self.changes.push(Change { at: self.now, ip, host: number, holds: false });
        }
    }

    /// Tells the process what is on its interface; it takes its turn.
    fn set_role(&mut self, number: usize, ip: IpAddr, role: Option<Role>) {
        let now = self.instant();
        if self.hosts[number].frozen {
            return;
        }
        if let Some(group) = &mut self.hosts[number].group {
            group.role(ip, role, now);
            let at = self.now;
            self.hosts[number].wake = at + 1;
            self.schedule(at + 1, Event::Wake { host: number });
        }
    }

    fn let_expire(&mut self, number: usize) {
        let held: Vec<_> = self.hosts[number].held.iter().map(|(ip, at)| (*ip, *at)).collect();
        let left = LIFETIME - self.rng.range(0, RENEWAL);
        for (ip, since) in held {
            self.schedule(self.now + left, Event::Expire { host: number, ip, since });
        }
    }

    fn broadcast(&mut self, from: usize, message: Message) {
        let message = Rc::new(message);
        for to in (0..self.hosts.len()).filter(|to| *to != from) {
            let cut = self.cut.contains(&(from, to)) || !self.hosts[from].plugged;
            if cut || self.rng.percent(self.weather.loss) {
                let count = self.hosts.len();
                self.clear[from * count + to] = self.now;
                continue;
            }
            let copies = 1 + u64::from(self.rng.percent(self.weather.duplication));
            for _ in 0..copies {
                let at = self.now + self.rng.range(50, self.weather.delay);
                let message = message.clone();
                self.schedule(at, Event::Deliver { to, from, message });
            }
        }
    }

    fn deliver(&mut self, to: usize, from: usize, message: &Rc<Message>) {
        let now = self.instant();
        let host = &mut self.hosts[to];
        if host.frozen && host.inbox.len() < SOCKET_BUFFER {
            host.inbox.push((from, message.clone()));
        }
        if !host.plugged || host.frozen {
            return;
        }
        let Some(group) = &mut host.group else { return };
        let address = SocketAddr::from(([10, 0, 1, from as u8 + 1], 7471));
        if self.wire {
            group.receive(&message.seal(&self.key), address, LINK, now);
        } else {
            group.accept(message, address, LINK, now);
        }
        self.turn(to);
    }
}
