//! Which nodes are in the group, and which of its members owns each address.
//!
//! Nodes that share a [`GroupKey`] tell each other by heartbeats, on every link that carries VIPs,
//! that they are alive, which addresses they could hold and which they do hold. From that each
//! decides by the same rule what to claim and what to let go of. The speaker owns one [`Group`]:
//! it passes in what is offered and held, what arrives and what time it is, carries the
//! [`Decision`]s to `vips`, and sends the [`Datagram`]s. Pure: no clock, no socket.
//!
//! Without a group the node is alone: what it offers it claims at once, and nothing is sent. A node of a group
//! that has no key yet claims nothing.
//!
//! Inside: [`wire`] has the datagrams, [`auth`] their seal, [`member`] says which member is alive, [`link`]
//! keeps one link, [`table`] what members say of addresses, [`election`] orders them, [`address`]
//! decides; [`routed`] is about addresses that several members have at once.

mod address;
mod auth;
mod datagram;
pub(crate) mod election;
mod link;
mod member;
mod notes;
mod routed;
mod status;
pub(crate) mod table;
pub(crate) mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use crate::links::{LinkFacts, Mac};
use address::Address;
use link::{Header, Link};
use routed::Routes;
use wire::{Message, NOT_AUTHENTIC};

pub use auth::GroupKey;
use auth::Keys;
use datagram::destinations;
pub(crate) use datagram::{Datagram, Destination};
use notes::Notes;
pub use notes::{LONGEST_NOTE, Note};
pub(crate) use routed::Forwarding;
pub use routed::Routed;
pub use status::MemberState;
#[allow(unused_imports, reason = "the speaker shows them")]
pub(crate) use status::{Counters, GroupStatus, MemberFacts, VipFacts};

/// The clockwork of a group; all members should have the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// From heartbeat to heartbeat.
    pub(crate) heartbeat: Duration,
    /// A member that is not heard for this long is dead.
    pub(crate) dead: Duration,
    /// From the start until the first claim, so that members that hold an address can be heard.
    pub(crate) listen: Duration,
    /// How long a better member must have been fit before it takes an address from a fit holder.
    pub(crate) hold_down: Duration,
    /// How old a datagram of ours may be whose echo proves that a member is there now.
    pub(crate) proof: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            heartbeat: ms(100),
            dead: ms(320),
            listen: ms(400),
            hold_down: ms(5000),
            proof: ms(1000),
        }
    }
}

/// What this node could hold now, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Index of the interface.
    pub(crate) link: u32,
    /// Sum of the preferred-node weights; the highest owns.
    pub(crate) preference: u32,
    /// Digest of the claims that are served on it ([`Vip::tenants`](crate::Vip::tenants)): all nodes should agree.
    pub(crate) tenants: u32,
    /// Only some of these claims ([`Vip::partial`](crate::Vip::partial)).
    pub(crate) partial: bool,
}

/// What is really on this node's interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// On the link, announced.
    Active,
    /// Not on the link any more, but open connections go on.
    Draining,
}

/// The member that an address comes from in a planned move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OldOwner {
    pub(crate) node: String,
    /// Index of the interface on which this node reaches it.
    pub(crate) link: u32,
    /// Its own addresses there.
    pub(crate) v4: Option<Ipv4Addr>,
    pub(crate) v6: Option<Ipv6Addr>,
}

/// What to do about an address. A later decision on the same address replaces the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Put it on the link and announce it. For an address that is there already: announce it anew.
    Claim {
        /// No member has held it lately, so ask the link first (RFC 5227, RFC 4862).
        probe: bool,
        /// The kernel of a member that died may still answer for it: announce often.
        contested: bool,
        /// Pass packets of connections that this node has not seen begin on to this member.
        from: Option<OldOwner>,
    },
    /// Let go of it; also of a claim that has not come to anything yet.
    Release {
        /// The node that holds it already: go on serving what is open.
        drain_to: Option<String>,
    },
}

/// Whether there are others to agree with.
#[derive(Debug)]
enum Membership {
    /// There are none.
    Alone,
    /// They cannot be understood yet.
    Keyless,
    Member(Box<Keys>),
}

/// Membership and ownership as this node sees them.
#[derive(Debug)]
pub(crate) struct Group {
    header: Header,
    membership: Membership,
    peers: Vec<SocketAddr>,
    timing: Timing,
    links: BTreeMap<u32, Link>,
    addresses: BTreeMap<IpAddr, Address>,
    routes: Routes,
    /// Addresses to decide about anew.
    changed: BTreeSet<IpAddr>,
    /// Links whose table may be out of date.
    unpublished: BTreeSet<u32>,
    /// Decisions that were made outside of [`Group::decisions`].
    decided: Vec<(IpAddr, Decision)>,
    /// When some address is to be decided about though nothing changes; not later than that.
    wake: Option<Instant>,
    sequence: u64,
    /// Whether any other member has ever been alive.
    accompanied: bool,
    counters: Counters,
    notes: Notes,
    /// See [`revision`](Self::revision).
    revision: u64,
    /// Another process still speaks for this node.
    silent: bool,
    /// What that process has on interfaces, and is not offered yet.
    inherited: BTreeSet<IpAddr>,
    /// The latest instant seen.
    now: Instant,
}

impl Group {
    /// A group of one until others are heard. `incarnation` is random and tells this process from
    /// its predecessor; `peers` get by unicast what goes out by multicast. A node name of more than
    /// 253 bytes is cut.
    pub(crate) fn new(
        node: String,
        key: Option<GroupKey>,
        incarnation: [u8; 16],
        peers: Vec<SocketAddr>,
        timing: Timing,
        now: Instant,
    ) -> Self {
        let node = node[..node.floor_char_boundary(wire::LONGEST_NAME)].into();
        Self {
            header: Header { incarnation, node, draining: false, serving: true },
            membership: key
                .map_or(Membership::Alone, |key| Membership::Member(Keys::new(key).into())),
            peers,
            timing,
            links: BTreeMap::new(),
            addresses: BTreeMap::new(),
            routes: Routes::default(),
            changed: BTreeSet::new(),
            unpublished: BTreeSet::new(),
            decided: Vec::new(),
            wake: None,
            sequence: 0,
            accompanied: false,
            counters: Counters::default(),
            notes: Notes::default(),
            revision: 0,
            silent: false,
            inherited: BTreeSet::new(),
            now,
        }
    }

    /// Another process speaks for this node, with this incarnation, and will leave all that it holds to this one:
    /// until [`speak`](Self::speak), members are heard and not spoken to. To be called at the beginning.
    pub(crate) fn overhear(&mut self) {
        self.silent = true;
    }

    /// What that process has on interfaces: claimed as soon as it is offered.
    pub(crate) fn inherit(&mut self, addresses: BTreeSet<IpAddr>) {
        self.inherited = addresses;
    }

    /// Whether this process knows of the members what it has to.
    pub(crate) fn has_overheard(&self, now: Instant) -> bool {
        self.links.values().all(|link| link.has_overheard(now))
    }

    /// From now on this process speaks for the node; `sequence` is that of the last datagram of the one before.
    pub(crate) fn speak(&mut self, sequence: u64, now: Instant) {
        self.pass(now);
        if !std::mem::take(&mut self.silent) {
            return;
        }
        self.sequence = self.sequence.max(sequence);
        self.accompanied = true;
        for link in self.links.values_mut() {
            link.speak(self.sequence, &self.timing, now);
        }
        self.unpublished.extend(self.links.keys());
    }

    /// Of the last datagram.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// There are others, and [`key`](Self::key) will be told later: until then nothing is claimed.
    pub(crate) fn wait_for_key(&mut self) {
        self.membership = Membership::Keyless;
        self.links.clear();
    }

    /// The key of the group from now on; the one before stays good for a while. True if it is the first one:
    /// then the [links](Self::links) are to be said again. A node that is alone stays so.
    pub(crate) fn key(&mut self, key: GroupKey, now: Instant) -> bool {
        self.pass(now);
        match &mut self.membership {
            Membership::Alone => false,
            Membership::Keyless => {
                self.membership = Membership::Member(Keys::new(key).into());
                true
            }
            Membership::Member(keys) => {
                keys.replace(key, now);
                false
            }
        }
    }

    /// These get by unicast what goes out by multicast, instead of those before.
    pub(crate) fn peers(&mut self, peers: Vec<SocketAddr>) {
        self.peers = peers;
    }

    /// The links that heartbeats go out on: up, with carrier, carrying VIPs or able to. What was held
    /// on a link that is missing here is lost. A new link is listened to before anything is claimed
    /// there.
    pub(crate) fn links(&mut self, links: BTreeMap<u32, LinkFacts>, now: Instant) {
        self.pass(now);
        if !matches!(self.membership, Membership::Member(_)) {
            return;
        }
        self.routes.touch();
        let lost: Vec<_> =
            self.links.keys().filter(|index| !links.contains_key(index)).copied().collect();
        for index in lost {
            self.links.remove(&index);
            self.reconsider(index);
        }
        for (index, facts) in links {
            match self.links.get_mut(&index) {
                Some(link) if link.facts == facts => {}
                Some(link) => {
                    link.facts = facts;
                    link.hurry(now);
                }
                None => {
                    let mut link = Link::new(facts, self.sequence, &self.timing, now);
                    if self.silent {
                        link.overhear(&self.timing, now);
                    }
                    self.links.insert(index, link);
                    self.reconsider(index);
                }
            }
        }
    }

    /// What this node could hold; replaces what was offered before.
    pub(crate) fn offers(&mut self, offers: BTreeMap<IpAddr, Offer>, now: Instant) {
        self.pass(now);
        for (ip, address) in &mut self.addresses {
            if !offers.contains_key(ip) && address.offer(None, now) {
                self.changed.insert(*ip);
                self.unpublished.insert(address.link());
            }
        }
        for (ip, offer) in offers {
            let address = self.addresses.entry(ip).or_insert_with(|| {
                self.unpublished.insert(offer.link);
                let mut address = Address::new(&self.header.node, ip, offer, now);
                if self.inherited.remove(&ip) {
                    self.decided.push((ip, address.inherit(now)));
                } else {
                    self.changed.insert(ip);
                }
                address
            });
            if address.offer(Some(offer), now) {
                self.changed.insert(ip);
                self.unpublished.insert(address.link());
            }
        }
        self.addresses.retain(|_, address| !address.forgettable(now));
        self.revision += 1;
    }

    /// What is on the interfaces now. A change is sent at once.
    pub(crate) fn role(&mut self, ip: IpAddr, role: Option<Role>, now: Instant) {
        self.pass(now);
        let Some(address) = self.addresses.get_mut(&ip) else { return };
        if address.role(role, now) {
            self.changed.insert(ip);
            self.unpublished.insert(address.link());
        }
    }

    /// Whether this node is to hand everything over.
    pub(crate) fn drain(&mut self, draining: bool, now: Instant) {
        self.pass(now);
        if std::mem::replace(&mut self.header.draining, draining) != draining {
            self.renew(now);
        }
    }

    /// Whether the data path works; if not, offers count as withdrawn.
    pub(crate) fn healthy(&mut self, healthy: bool, now: Instant) {
        self.pass(now);
        if std::mem::replace(&mut self.header.serving, healthy) != healthy {
            self.renew(now);
        }
    }

    /// Takes in a datagram that arrived on a link; drops what is not authentic, and counts why.
    pub(crate) fn receive(&mut self, datagram: &[u8], from: SocketAddr, link: u32, now: Instant) {
        let Membership::Member(keys) = &self.membership else { return };
        if Self::is_note(datagram) {
            return self.hear_note(datagram, link, now);
        }
        let mut opened = Err(NOT_AUTHENTIC);
        for key in keys.good(now) {
            opened = Message::open(datagram, key);
            if !matches!(opened, Err(NOT_AUTHENTIC)) {
                break;
            }
        }
        match opened {
            Ok(message) => self.accept(&message, from, link, now),
            Err(reason) => self.refuse(reason),
        }
    }

    /// What has to change, since the last call. Notices members that have died meanwhile.
    pub(crate) fn decisions(&mut self, now: Instant) -> Vec<(IpAddr, Decision)> {
        self.pass(now);
        for (index, link) in &mut self.links {
            for ip in link.expire(&self.timing, now) {
                self.changed.insert(ip);
                self.routes.touch();
            }
            while link.proceed(&self.timing, now) {
                let here = self.addresses.iter().filter(|(_, address)| address.link() == *index);
                self.changed.extend(here.map(|(ip, _)| *ip));
                self.unpublished.insert(*index);
            }
        }
        if self.wake.is_some_and(|wake| wake <= now) {
            let due = |address: &Address| address.wake().is_some_and(|wake| wake <= now);
            let due = self.addresses.iter().filter(|(_, address)| due(address));
            self.changed.extend(due.map(|(ip, _)| *ip));
            let later = self.addresses.values().filter_map(Address::wake);
            self.wake = later.filter(|wake| *wake > now).min();
        }
        self.revision += u64::from(!self.changed.is_empty() || !self.decided.is_empty());
        for ip in std::mem::take(&mut self.changed) {
            self.decide(ip, now);
        }
        self.publish(now);
        std::mem::take(&mut self.decided)
    }

    /// The heartbeats that are due, and notes. To be called after [`decisions`](Self::decisions).
    pub(crate) fn transmit(&mut self, now: Instant) -> Vec<Datagram> {
        let messages = self.compose(now);
        let Membership::Member(keys) = &self.membership else { return Vec::new() };
        let mut datagrams = Vec::new();
        for (link, message) in messages {
            let all = destinations(&self.peers, link, &message.facts);
            for key in keys.good(now) {
                let bytes = message.seal(key);
                let sealed = |to: &Destination| Datagram { link, to: *to, bytes: bytes.clone() };
                datagrams.extend(all.iter().map(sealed));
            }
        }
        self.counters.sent += datagrams.len() as u64;
        datagrams.extend(self.notes_to_send(now));
        datagrams
    }

    /// When [`decisions`](Self::decisions) or [`transmit`](Self::transmit) have something to do if
    /// nothing happens before. In the past: now.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let pending =
            !self.changed.is_empty() || !self.unpublished.is_empty() || !self.decided.is_empty();
        let links = self.links.values().map(|link| link.deadline(&self.timing));
        let others = [self.wake, self.routes.deadline(), pending.then_some(self.now)];
        links.chain(others.into_iter().flatten()).min()
    }

    /// Whether the member that an address was claimed from still serves connections on it.
    pub(crate) fn old_owner_serves(&self, ip: IpAddr) -> bool {
        let address = self.addresses.get(&ip);
        address.is_some_and(|address| {
            let link = self.links.get(&address.link());
            link.is_some_and(|link| address.old_owner_serves(link))
        })
    }

    /// The node that has an Ethernet address, alive or dead: not a stranger.
    pub(crate) fn member_of(&self, link: u32, mac: Mac) -> Option<&str> {
        let mut members = self.links.get(&link)?.members().map(|(_, member)| member);
        let member = members.find(|member| member.proven.is_some() && member.facts.mac == mac)?;
        Some(&member.node)
    }

    /// Whether another member could take an address now.
    pub(crate) fn can_hand_over(&self, ip: IpAddr) -> bool {
        let link = self.addresses.get(&ip).map(Address::link);
        let link = link.and_then(|index| self.links.get(&index));
        link.is_some_and(|link| link.members().any(|(_, member)| member.fit(ip)))
    }

    /// The caller has noticed that this process stood still for longer than [`Timing::dead`]: others
    /// have taken what it held, so it lets go of everything and listens again. One that never had
    /// company goes on.
    pub(crate) fn resumed(&mut self, now: Instant) {
        self.pass(now);
        if !self.accompanied {
            return;
        }
        for link in self.links.values_mut() {
            link.listen(&self.timing, now);
        }
        for (ip, address) in &mut self.addresses {
            let release = address.void(now);
            self.decided.extend(release.map(|release| (*ip, release)));
        }
        self.renew(now);
    }

    /// Takes in a message whose seal has been found good.
    pub(crate) fn accept(&mut self, message: &Message, from: SocketAddr, index: u32, now: Instant) {
        self.pass(now);
        let own = self.header.incarnation;
        if message.incarnation == own {
            return; // multicast comes back
        }
        let Some(link) = self.links.get_mut(&index) else { return self.refuse("UnknownLink") };
        match link.accept(message, from, &own, &self.timing, now) {
            Ok(changed) => {
                self.counters.received += 1;
                if !changed.is_empty() {
                    self.routes.touch();
                }
                self.changed.extend(changed);
                let alive = link.member(&message.incarnation).is_some_and(|it| it.alive);
                self.accompanied |= alive;
            }
            Err(reason) => self.refuse(reason),
        }
    }

    /// For each link, whether each member that is known there is alive.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn alive(&self) -> Vec<Vec<bool>> {
        let members = |link: &Link| link.members().map(|(_, member)| member.alive).collect();
        self.links.values().map(members).collect()
    }

    /// The messages that are due, by link.
    pub(crate) fn compose(&mut self, now: Instant) -> Vec<(u32, Message)> {
        self.pass(now);
        self.publish(now);
        let mut messages = Vec::new();
        for (index, link) in &mut self.links {
            let due = link.compose(&self.header, &mut self.sequence, &self.timing, now);
            messages.extend(due.into_iter().map(|message| (*index, message)));
        }
        messages
    }

    fn decide(&mut self, ip: IpAddr, now: Instant) {
        let Some(address) = self.addresses.get_mut(&ip) else { return };
        let decision = if matches!(self.membership, Membership::Alone) {
            address.decide_alone(self.header.serving, now)
        } else {
            let before = address.link();
            if address.relocate() {
                self.unpublished.extend([before, address.link()]);
            }
            let link = self.links.get(&address.link());
            address.decide(link, &self.header, &self.timing, now)
        };
        self.wake = [self.wake, address.wake()].into_iter().flatten().min();
        self.decided.extend(decision.map(|decision| (ip, decision)));
    }

    /// Brings the tables up to date.
    fn publish(&mut self, now: Instant) {
        for index in std::mem::take(&mut self.unpublished) {
            let Some(link) = self.links.get_mut(&index) else { continue };
            let introduced = link.introduced();
            let here = self.addresses.iter().filter(|(_, address)| address.link() == index);
            let entry = |address: &Address| address.entry(introduced, self.header.serving);
            let mut entries = here.filter_map(|(ip, it)| Some((*ip, entry(it)?))).collect();
            self.routes.enter(&mut entries);
            link.publish(entries, self.sequence, now);
        }
    }

    /// This node is another one now: everything is decided anew, and all members hear of it.
    fn renew(&mut self, now: Instant) {
        for address in self.addresses.values_mut() {
            address.unripe(now);
        }
        self.changed.extend(self.addresses.keys());
        self.unpublished.extend(self.links.keys());
        for link in self.links.values_mut() {
            link.hurry(now);
        }
    }

    /// Something about a link has changed that concerns all addresses there.
    fn reconsider(&mut self, link: u32) {
        let here = self.addresses.iter().filter(|(_, address)| address.link() == link);
        self.changed.extend(here.map(|(ip, _)| *ip));
        self.unpublished.insert(link);
    }

    fn refuse(&mut self, reason: &'static str) {
        *self.counters.refused.entry(reason).or_default() += 1;
    }

    fn pass(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }
}

#[cfg(test)]
mod tests;
