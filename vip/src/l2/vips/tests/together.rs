//! Several nodes on one virtual link, each with `Group` and `Vips` together, as the speaker drives
//! them: whether what the one decides and what the other does fit, down to the host that answers on the link.

#![allow(clippy::disallowed_methods, reason = "tests need some instant to begin with")]

use super::{super::*, node::*};
use crate::{
    l2::{
        claim::ClaimKind,
        group::{Group, GroupKey, Timing},
    },
    links::tests::{change_link, links, with_loopback},
};

/// From sending to hearing.
const LATENCY: Duration = Duration::from_micros(200);
const LINK: u32 = 2;

/// A host: its kernel, and its speaker if that runs.
struct Host {
    name: String,
    mac: Mac,
    links: Links,
    lifetimes: BTreeMap<(u32, IpAddr), Instant>,
    speaker: Option<(Group, Vips)>,
    plugged: bool,
    frozen: bool,
    /// The turn before.
    ran: Instant,
    inbox: Vec<Arrival>,
    paths: ForwardPaths,
    log: Vec<String>,
}

#[derive(Clone)]
enum Arrival {
    Datagram(Vec<u8>, std::net::SocketAddr),
    Frame(NeighbourClaim),
}

struct Lan {
    now: Instant,
    hosts: Vec<Host>,
    vips: Vec<IpAddr>,
    flying: Vec<(Instant, usize, Arrival)>,
    /// The addresses that a host of another party has.
    strange: BTreeSet<IpAddr>,
}

impl Host {
    fn answers(&self, ip: IpAddr) -> bool {
        self.plugged && self.links.has(LINK, ip)
    }

    fn role(&self, ip: IpAddr) -> Option<Role> {
        match (self.links.has(LINK, ip), self.links.has(1, ip)) {
            (true, _) => Some(Role::Active),
            (false, true) => Some(Role::Draining),
            (false, false) => None,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let (group, vips) = self.speaker.as_ref().filter(|_| !self.frozen)?;
        [group.deadline(), vips.deadline()].into_iter().flatten().min()
    }
}

impl Lan {
    /// Nodes a, b, c …, and so many addresses.
    fn new(nodes: u8, vips: u8) -> Self {
        let now = Instant::now();
        let vips = (0..vips).map(|n| IpAddr::from([10, 0, 0, 200 + n])).collect();
        let mut lan = Self { now, hosts: vec![], vips, flying: vec![], strange: BTreeSet::new() };
        for number in 1..=nodes {
            let own = format!("10.0.0.{number}/24");
            let mut links = with_loopback(links(&[(LINK, true)], &[(LINK, &own)]));
            let mac = [2, 0, 0, 0, 1, number];
            change_link(&mut links, LINK, |link| link.mac = Some(mac));
            lan.hosts.push(Host {
                name: char::from(b'a' + number - 1).into(),
                mac,
                links,
                lifetimes: BTreeMap::new(),
                speaker: None,
                plugged: true,
                frozen: false,
                ran: now,
                inbox: vec![],
                paths: ForwardPaths::new(),
                log: vec![],
            });
            lan.start(usize::from(number) - 1);
        }
        lan
    }

    /// [`new`](Self::new), and everything has found its owner.
    fn settled(nodes: u8, vips: u8) -> Self {
        let mut lan = Self::new(nodes, vips);
        lan.pass(20 * SECOND);
        lan.assert_one_owner_each();
        lan.hosts.iter_mut().for_each(|host| host.log.clear());
        lan
    }

    fn start(&mut self, at: usize) {
        let key = GroupKey::new(b"a secret of sixteen bytes or more").unwrap();
        let host = &mut self.hosts[at];
        let mut incarnation = [0; 16];
        incarnation[0] = at as u8 + 1;
        let micros = self.now.duration_since(host.ran).as_micros() as u64;
        incarnation[8..].copy_from_slice(&micros.to_be_bytes());
        let (name, timing) = (host.name.clone(), Timing::default());
        let group = Group::new(name, Some(key), incarnation, vec![], timing, self.now);
        let mut vips = Vips::new(VipsOptions { adopt: false, ..OPTIONS });
        let texts: Vec<_> = self.vips.iter().map(ToString::to_string).collect();
        vips.want(anywhere(&texts.iter().map(String::as_str).collect::<Vec<_>>()));
        vips.see(host.links.clone(), self.now);
        (host.speaker, host.frozen, host.ran) = (Some((group, vips)), false, self.now);
        host.inbox.clear();
        self.turn(at);
    }

    fn kill(&mut self, at: usize) {
        self.hosts[at].speaker = None;
        self.hosts[at].paths.clear();
    }

    fn plug(&mut self, at: usize, plugged: bool) {
        self.hosts[at].plugged = plugged;
        change_link(&mut self.hosts[at].links, LINK, |link| link.carrier = plugged);
        self.turn(at);
    }

    fn thaw(&mut self, at: usize) {
        self.hosts[at].frozen = false;
        self.turn(at);
    }

    fn drain(&mut self, at: usize) {
        let (group, _) = self.hosts[at].speaker.as_mut().unwrap();
        group.drain(true, self.now);
        self.turn(at);
    }

    /// Time passes; after each moment `check` looks at the link.
    fn watch(&mut self, duration: Duration, check: impl Fn(&Self)) {
        let end = self.now + duration;
        loop {
            let arrivals = self.flying.iter().map(|(at, ..)| *at);
            let expiries = self.hosts.iter().flat_map(|host| host.lifetimes.values().copied());
            let deadlines = self.hosts.iter().filter_map(Host::deadline);
            let next = arrivals.chain(expiries).chain(deadlines).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            let now = self.now;
            let mut turns = BTreeSet::new();
            for (_, to, arrival) in self.flying.extract_if(.., |(at, ..)| *at <= now) {
                if self.hosts[to].plugged && self.hosts[to].speaker.is_some() {
                    self.hosts[to].inbox.push(arrival);
                    turns.insert(to);
                }
            }
            for (at, host) in self.hosts.iter_mut().enumerate() {
                for ((index, ip), _) in host.lifetimes.extract_if(.., |_, until| *until <= now) {
                    host.links.deleted(index, ip);
                    turns.insert(at);
                }
                turns.extend(host.deadline().filter(|deadline| *deadline <= now).map(|_| at));
            }
            for at in turns {
                self.turn(at);
            }
            check(self);
        }
        self.now = end;
    }

    fn pass(&mut self, duration: Duration) {
        self.watch(duration, |_| {});
    }

    /// One turn of the speaker's loop.
    fn turn(&mut self, at: usize) {
        let (now, mut host) = (self.now, self.hosts.swap_remove(at));
        if let Some((mut group, mut vips)) = host.speaker.take() {
            if !host.frozen {
                for arrival in std::mem::take(&mut host.inbox) {
                    match arrival {
                        Arrival::Datagram(bytes, from) => group.receive(&bytes, from, LINK, now),
                        Arrival::Frame(claim) => {
                            let member = group.member_of(claim.index, claim.mac).map(str::to_owned);
                            vips.heard(claim, member.as_deref(), now);
                        }
                    }
                }
                if now > host.ran + Timing::default().dead {
                    group.resumed(now);
                }
                host.ran = now;
                vips.see(host.links.clone(), now);
                self.settle(&mut host, &mut group, &mut vips);
                for datagram in group.transmit(now) {
                    let from = "10.0.0.1:7471".parse().unwrap();
                    self.send(&host, &Arrival::Datagram(datagram.bytes, from));
                }
                host.log.extend(vips.events().into_iter().filter_map(|event| match event {
                    SpeakerEvent::Refused { refusal, .. } => Some(refusal.reason.to_owned()),
                    SpeakerEvent::Draining { vip, to } => Some(format!("{vip} to {to}")),
                    _ => None,
                }));
            }
            host.speaker = Some((group, vips));
        }
        self.hosts.push(host);
        let last = self.hosts.len() - 1;
        self.hosts.swap(at, last);
    }

    fn settle(&mut self, host: &mut Host, group: &mut Group, vips: &mut Vips) {
        let now = self.now;
        loop {
            if let Some(links) = vips.links_in_use() {
                group.links(links, now);
            }
            if let Some(offers) = vips.offers() {
                group.offers(offers, now);
            }
            for (ip, decision) in group.decisions(now) {
                vips.decide(ip, decision, now);
            }
            host.paths = vips.forward_paths(|ip| group.old_owner_serves(ip));
            let actions = vips.due(now);
            for action in &actions {
                self.perform(host, action);
                vips.done(action, Ok(()), now);
            }
            for (ip, role) in vips.roles() {
                group.role(ip, role, now);
            }
            if actions.is_empty() {
                break;
            }
        }
    }

    fn perform(&mut self, host: &mut Host, action: &Action) {
        match action {
            Action::Delete { ip, index } => {
                host.links.deleted(*index, *ip);
                host.lifetimes.remove(&(*index, *ip));
            }
            Action::Add { ip, index, lifetime } => {
                host.links.added(*index, *ip);
                host.lifetimes.insert((*index, *ip), self.now + *lifetime);
            }
            Action::Renew { addresses, lifetime } => {
                let renewed = addresses.iter().map(|entry| (*entry, self.now + *lifetime));
                host.lifetimes.extend(renewed);
            }
            Action::Announce { ip, mac, .. } => self.deliver(host, *ip, *mac, ClaimKind::Claim),
            Action::Probe { ip, mac, .. } => {
                self.deliver(host, *ip, *mac, ClaimKind::Probe);
                self.answer(host, *ip);
            }
            Action::ArpIgnore { .. } => {}
        }
    }

    fn deliver(&mut self, host: &Host, ip: IpAddr, mac: Mac, kind: ClaimKind) {
        self.send(host, &Arrival::Frame(NeighbourClaim { index: LINK, ip, mac, kind }));
    }

    /// What the kernels of the hosts that have an address answer to a probe, whether or not their processes
    /// run.
    fn answer(&mut self, host: &Host, ip: IpAddr) {
        let answering = self.hosts.iter().filter(|other| other.answers(ip)).map(|other| other.mac);
        let strange = self.strange.contains(&ip).then_some(STRANGER);
        for mac in answering.chain(strange).collect::<Vec<_>>() {
            let claim = NeighbourClaim { index: LINK, ip, mac, kind: ClaimKind::Claim };
            let to = usize::from(host.mac[5]) - 1;
            self.flying.push((self.now + 2 * LATENCY, to, Arrival::Frame(claim)));
        }
    }

    fn send(&mut self, host: &Host, arrival: &Arrival) {
        let own = usize::from(host.mac[5]) - 1;
        let others = (0..=self.hosts.len()).filter(|to| host.plugged && *to != own);
        let all: Vec<_> = others.map(|to| (self.now + LATENCY, to, arrival.clone())).collect();
        self.flying.extend(all);
    }

    fn owners(&self, ip: IpAddr) -> Vec<&str> {
        let owners = self.hosts.iter().filter(|host| host.answers(ip));
        owners.map(|host| host.name.as_str()).collect()
    }

    fn assert_one_owner_each(&self) {
        for ip in &self.vips {
            assert_eq!(self.owners(*ip).len(), 1, "{ip} is on {:?}", self.owners(*ip));
        }
    }

    fn held_by(&self, at: usize) -> Vec<IpAddr> {
        let host = &self.hosts[at];
        self.vips.iter().copied().filter(|ip| host.answers(*ip)).collect()
    }
}

#[test]
fn a_group_shares_the_addresses_and_nothing_moves_after() {
    let mut lan = Lan::settled(3, 12);
    let before: Vec<_> = (0..3).map(|at| lan.held_by(at)).collect();
    assert!(before.iter().all(|held| !held.is_empty()), "{before:?}");
    lan.watch(120 * SECOND, Lan::assert_one_owner_each);
    assert_eq!((0..3).map(|at| lan.held_by(at)).collect::<Vec<_>>(), before);
}

#[test]
fn what_a_killed_node_held_is_on_others_within_half_a_second_and_its_kernel_gives_it_up() {
    let mut lan = Lan::settled(3, 12);
    let lost = lan.held_by(0);
    lan.kill(0);
    lan.pass(500 * MS);
    for ip in &lost {
        let others = lan.owners(*ip).into_iter().filter(|name| *name != "a").count();
        assert_eq!(others, 1, "{ip} is on {:?}", lan.owners(*ip));
    }
    lan.pass(2 * SECOND);
    lan.watch(10 * SECOND, Lan::assert_one_owner_each);
    lan.start(0);
    lan.watch(30 * SECOND, |lan| {
        for ip in &lan.vips {
            assert!(!lan.owners(*ip).is_empty(), "{ip} is nowhere");
        }
    });
    assert_eq!(lan.held_by(0), lost, "they come back after the hold-down");
}

#[test]
fn a_drained_node_hands_over_without_a_gap_and_forwards_what_began_there() {
    let mut lan = Lan::settled(3, 12);
    let handed = lan.held_by(0);
    lan.drain(0);
    lan.watch(5 * SECOND, |lan| {
        for ip in &lan.vips {
            assert!(!lan.owners(*ip).is_empty(), "{ip} is nowhere");
        }
    });
    lan.assert_one_owner_each();
    assert!(lan.held_by(0).is_empty());
    let forwarded = |lan: &Lan| -> BTreeSet<IpAddr> {
        lan.hosts.iter().flat_map(|host| host.paths.values().flatten().copied()).collect()
    };
    assert_eq!(forwarded(&lan), handed.iter().copied().collect());
    assert!(handed.iter().all(|ip| lan.hosts[0].role(*ip) == Some(Role::Draining)));
    assert_eq!(lan.hosts[0].log.len(), handed.len());
    for ip in &handed {
        lan.hosts[0].speaker.as_mut().unwrap().1.let_go(*ip);
    }
    lan.turn(0);
    lan.pass(SECOND);
    assert_eq!(forwarded(&lan), BTreeSet::new());
    assert!(handed.iter().all(|ip| lan.hosts[0].role(*ip).is_none()));
}

#[test]
fn a_node_that_stood_still_has_nothing_from_its_first_turn_on_until_the_others_give_it_back() {
    for frozen in [SECOND, 4 * SECOND] {
        let mut lan = Lan::settled(3, 12);
        let lost = lan.held_by(0);
        lan.hosts[0].frozen = true;
        lan.pass(frozen);
        let others = |lan: &Lan, ip| lan.owners(ip).into_iter().filter(|name| *name != "a").count();
        assert!(lost.iter().all(|ip| others(&lan, *ip) == 1));
        lan.thaw(0);
        assert!(lan.held_by(0).is_empty());
        lan.watch(4 * SECOND, Lan::assert_one_owner_each);
        lan.pass(20 * SECOND);
        lan.assert_one_owner_each();
        assert_eq!(lan.held_by(0), lost, "after the hold-down");
    }
}

#[test]
fn a_node_that_is_unplugged_and_plugged_in_again_disturbs_nobody() {
    let mut lan = Lan::settled(3, 12);
    let lost = lan.held_by(0);
    lan.plug(0, false);
    assert!(lost.iter().all(|ip| lan.hosts[0].role(*ip).is_none()), "nobody takes it there");
    lan.pass(500 * MS);
    lan.assert_one_owner_each();
    lan.pass(10 * SECOND);
    lan.plug(0, true);
    lan.watch(4 * SECOND, Lan::assert_one_owner_each);
    lan.pass(60 * SECOND);
    lan.assert_one_owner_each();
    assert_eq!(lan.held_by(0), lost);
}

#[test]
fn an_address_that_a_stranger_has_is_left_to_it_by_all_and_claimed_by_one_when_it_goes() {
    let mut lan = Lan::new(3, 6);
    let strange = lan.vips[0];
    lan.strange.insert(strange);
    lan.watch(60 * SECOND, |lan| assert_eq!(lan.owners(strange), [""; 0]));
    for ip in &lan.vips[1..] {
        assert_eq!(lan.owners(*ip).len(), 1, "{ip} is on {:?}", lan.owners(*ip));
    }
    assert!(lan.hosts.iter().any(|host| host.log.contains(&"AddressInUse".to_owned())));
    lan.strange.clear();
    lan.pass(90 * SECOND);
    lan.assert_one_owner_each();
}
