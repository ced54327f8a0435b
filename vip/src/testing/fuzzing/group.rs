//! What must hold of a group whatever hosts with the key send, and whenever: the targets
//! `heartbeat` and `group` of [`fuzzing`](crate::testing::fuzzing).

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use crate::{
    l2::group::{
        Decision, Group, GroupKey, Offer, Role, Routed, Timing,
        wire::{Chunk, Echo, Entry, LONGEST, MOST_ECHOES, MOST_MEMBERS, Message},
    },
    links::LinkFacts,
    testing::fuzzing::Input,
};

const MS: Duration = Duration::from_millis(1);
/// Links that there may be; datagrams may also come in by the one after them.
const LINKS: u32 = 2;
/// Addresses that may be offered.
const ADDRESSES: u8 = 4;
const OWN: [u8; 16] = [0; 16];

fn key() -> GroupKey {
    match GroupKey::new(b"a secret of the fuzz targets") {
        Ok(key) => key,
        Err(error) => panic!("{error}"),
    }
}

fn sealed(bytes: &[u8], key: &GroupKey) -> Vec<u8> {
    let mut datagram = bytes.to_vec();
    key.seal(&mut datagram);
    datagram
}

/// A datagram but for its seal.
pub(crate) fn heartbeat(data: &[u8]) {
    let key = key();
    assert_eq!(Message::open(data, &key), Err("NotAuthentic"));
    let datagram = sealed(data, &key);
    if let Ok(message) = Message::open(&datagram, &key) {
        assert_eq!(message.length(), datagram.len());
        assert_eq!(message.seal(&key), datagram, "{message:?}");
        assert!(!message.node.contains(char::is_control) && !message.node.is_empty());
        assert!(message.echoes.is_none_or(|echoes| echoes.len() <= MOST_ECHOES));
    }
}

/// What the owner of a group knows.
struct Ledger {
    group: Group,
    key: GroupKey,
    now: Instant,
    /// Sequence of the last datagram sent.
    sequence: u64,
    /// Addresses that have ever been offered.
    offered: [bool; ADDRESSES as usize],
    routed: BTreeMap<IpAddr, Routed>,
}

/// A script of datagrams, times and changes on this node.
pub(crate) fn group(data: &[u8], now: Instant) {
    let key = key();
    let peers = vec![SocketAddr::from(([192, 0, 2, 9], 7471))];
    let group =
        Group::new("node-1".to_owned(), Some(key.clone()), OWN, peers, Timing::default(), now);
    let mut ledger =
        Ledger { group, key, now, sequence: 0, offered: [false; 4], routed: BTreeMap::new() };
    ledger.links(1);
    let mut input = Input::new(data);
    while !input.is_empty() {
        ledger.step(&mut input);
    }
    ledger.passes(MS * 1500);
    let alive = |ledger: &Ledger| ledger.group.alive().into_iter().flatten().any(|alive| alive);
    assert!(!alive(&ledger), "a node that is not heard is alive");
}

fn address(index: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, 200 + index % ADDRESSES).into()
}

impl Ledger {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.octet() % 13 {
            0 | 1 => self.passes(MS * input.octet().into()),
            2 => {
                // The owner may be late.
                self.now += MS * 10 * input.octet().into();
                self.turns();
            }
            3 => {
                let from = input.octet();
                let datagram = sealed(input.piece(), &self.key);
                self.hears(&datagram, from);
            }
            4..=6 => {
                let from = input.octet();
                let message = self.message(input);
                let datagram = message.seal(&self.key);
                self.hears(&datagram, from);
            }
            7 => self.offers(input),
            8 => {
                let [which, role] = input.octets();
                let role = match role % 3 {
                    0 => None,
                    1 => Some(Role::Active),
                    _ => Some(Role::Draining),
                };
                self.group.role(address(which), role, self.now);
            }
            9 => {
                let flags = input.octet();
                self.group.drain(flags & 1 != 0, self.now);
                self.group.healthy(flags & 2 == 0, self.now);
            }
            10 => self.links(input.octet()),
            11 => self.group.resumed(self.now),
            _ => {
                let [which, leaving] = input.octets();
                let routed = (0..ADDRESSES).filter(|index| which >> index & 1 != 0).map(|index| {
                    let leaves = leaving >> index & 1 != 0;
                    (address(index), if leaves { Routed::Leaving } else { Routed::Serving })
                });
                self.routed = routed.collect();
                self.group.routed(&self.routed, self.now);
            }
        }
        self.turns();
        self.check();
    }

    /// A message of a member that hears this node, if it says so.
    fn message(&self, input: &mut Input<'_>) -> Message {
        let [life, sequence, flags, version, chunks, behind, entries] = input.octets();
        let mut incarnation = [life; 16];
        incarnation[15] = 1;
        let echo = Echo {
            prefix: [0; 7],
            sequence: self.sequence.wrapping_sub(behind.into()) as u32,
            known: version.into(),
            follows: flags & 4 != 0,
        };
        let entries = (0..entries % 8).map(|_| self.entry(input)).collect();
        Message {
            incarnation,
            sequence: sequence.into(),
            draining: flags & 1 != 0,
            serving: flags & 2 == 0,
            facts: LinkFacts {
                mac: [2, 0, 0, 0, 0, life],
                v4: (flags & 4 != 0).then_some(Ipv4Addr::new(192, 0, 2, life)),
                v6: None,
            },
            node: format!("node-{}", life % 16).into(),
            version: u32::from(version).max(1),
            chunks: chunks.into(),
            echoes: (flags & 8 == 0).then(|| vec![echo]),
            partial: flags & 16 != 0,
            chunk: (chunks > 0).then_some(Chunk { index: (flags / 16).into(), entries }),
        }
    }

    fn entry(&self, input: &mut Input<'_>) -> (IpAddr, Entry) {
        let [which, flags, terms] = input.octets();
        let entry = Entry {
            preference: (flags / 32).into(),
            tenants: 0,
            eligible: flags & 1 != 0,
            active: flags & 2 != 0,
            draining: flags & 4 != 0,
            routed: flags & 8 != 0,
            leaving: flags & 16 != 0,
            partial: flags & 32 != 0,
            terms,
        };
        (address(which), entry)
    }

    fn hears(&mut self, datagram: &[u8], from: u8) {
        let link = u32::from(from) % (LINKS + 1) + 1;
        let from = SocketAddr::from(([192, 0, 2, from], 7471));
        self.group.receive(datagram, from, link, self.now);
        // Again: a copy changes nothing.
        self.turns();
        self.group.receive(datagram, from, link, self.now);
        let decided = self.group.decisions(self.now);
        assert_eq!(decided, [], "by a copy of a datagram");
    }

    fn offers(&mut self, input: &mut Input<'_>) {
        let [which, preference, link] = input.octets();
        let mut offers = BTreeMap::new();
        for index in (0..ADDRESSES).filter(|index| which >> index & 1 != 0) {
            self.offered[usize::from(index)] = true;
            let link = u32::from(link) % LINKS + 1;
            let offer = Offer {
                link,
                preference: preference.into(),
                tenants: 0,
                partial: preference & 1 == 1,
            };
            offers.insert(address(index), offer);
        }
        self.group.offers(offers, self.now);
    }

    fn links(&mut self, which: u8) {
        let mac = [2, 0, 0, 0, 0, which / 4];
        let facts = LinkFacts { mac, v4: Some(Ipv4Addr::new(192, 0, 2, 1)), v6: None };
        let up = (1..=LINKS).filter(|link| which >> (link - 1) & 1 != 0);
        self.group.links(up.map(|link| (link, facts)).collect(), self.now);
    }

    /// Time passes with an owner that is never late.
    fn passes(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(deadline) = self.group.deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.turns();
        }
        self.now = until;
        self.turns();
    }

    /// One turn of the owner's loop.
    fn turns(&mut self) {
        for (ip, decision) in self.group.decisions(self.now) {
            let known = (0..ADDRESSES).any(|it| address(it) == ip && self.offered[usize::from(it)]);
            assert!(known, "{decision:?} of {ip}, which nobody asked for");
            if let Decision::Claim { from: Some(old_owner), .. } = decision {
                assert!((1..=LINKS).contains(&old_owner.link));
            }
        }
        if let Some(forwardings) = self.group.forwardings() {
            for forwarding in &forwardings.all {
                assert!(
                    self.routed.contains_key(&forwarding.vip),
                    "{forwarding:?}, which is not here"
                );
                assert!((1..=LINKS).contains(&forwarding.to.link));
                let leaves = self.routed.get(&forwarding.vip) == Some(&Routed::Leaving);
                assert!(
                    leaves || forwarding.from_members.is_empty(),
                    "{forwarding:?} while serving"
                );
            }
            self.group.forwardings_stand(&forwardings, self.now);
            assert_eq!(self.group.forwardings(), None, "twice the same");
        }
        for (ip, _) in self.group.departures(self.now) {
            assert_eq!(self.routed.get(&ip), Some(&Routed::Leaving), "{ip} need not go");
        }
        for datagram in self.group.transmit(self.now) {
            assert!(datagram.bytes.len() <= LONGEST, "{} octets", datagram.bytes.len());
            let message = Message::open(&datagram.bytes, &self.key);
            let Ok(message) = message else { panic!("{datagram:?}: {message:?}") };
            self.sequence = self.sequence.max(message.sequence);
        }
        let next = self.group.deadline();
        assert!(next.is_none_or(|next| next > self.now), "due for ever: {next:?}");
    }

    /// What holds at any time.
    fn check(&self) {
        for members in self.group.alive() {
            assert!(members.len() <= MOST_MEMBERS);
        }
        let status = self.group.status(self.now);
        assert!(status.vips.len() <= self.offered.len());
        assert!(self.group.departing() <= self.routed.len());
    }
}
