//! One link: its members, and the heartbeats that go out there.
//!
//! `super` has a [`Link`] for every link that carries VIPs; tables, members and proofs of one
//! link say nothing about another, because what cuts one may leave the other whole.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Timing,
    election::Priority,
    member::{Freshness, Member},
    table::OwnTable,
    wire::{Chunk, Echo, Incarnation, LONGEST, MOST_ECHOES, MOST_MEMBERS, Message, prefix},
};
use crate::{l2::group::wire::Entry, links::LinkFacts};

/// Between two datagrams of which the second has news: what changes together goes together.
const NEWS_GAP: Duration = Duration::from_millis(5);
/// Between two datagrams of which the second only answers a newcomer.
const ANSWER_GAP: Duration = Duration::from_millis(20);
/// For this long a newcomer that has not proved anything yet may hold up a claim.
const DOUBT: Duration = Duration::from_secs(1);

/// Heartbeats until every member has been named, where one cannot name them all. As many may be lost in a row as of a
/// small group before a proof is missed ([`Timing::proof`]).
const ROUND: usize = 3;

/// What every message of this node says.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) incarnation: Incarnation,
    pub(super) node: Arc<str>,
    pub(super) draining: bool,
    pub(super) serving: bool,
}

/// A link.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) facts: LinkFacts,
    phase: Phase,
    next_phase: Instant,
    table: OwnTable,
    members: BTreeMap<Incarnation, Member>,
    /// Heartbeats so far.
    beats: u64,
    /// What was sent within [`Timing::proof`].
    sent: VecDeque<(u64, Instant)>,
    last_sent: Option<Instant>,
    /// Of the next heartbeat.
    due: Instant,
    /// Another process still speaks for this node.
    silent: bool,
}

/// How far this node has come on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Says nothing of what it could hold.
    Listening,
    /// Says it, so that nodes that start together know each other before one of them claims.
    Introduced,
    /// Claims.
    Ready,
}

/// What the members of a link say about one address.
#[derive(Debug, Default)]
pub(super) struct View<'a> {
    /// The best of the members that could hold it.
    pub(super) candidate: Option<Candidate<'a>>,
    /// The best of the members that hold it.
    pub(super) holder: Option<Candidate<'a>>,
    /// What all members say that were heard, alive or not: neighbours may still have heard a member that is
    /// gone.
    pub(super) reports: Vec<Report>,
    /// A member may hold it whose table is not complete yet.
    pub(super) doubt: bool,
}

/// What a member says about its own role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) incarnation: Incarnation,
    pub(super) alive: bool,
    pub(super) active: bool,
    /// See [`Entry::terms`].
    pub(super) terms: u8,
}

/// A live member that holds an address or could hold it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) priority: Priority,
    pub(super) incarnation: Incarnation,
    pub(super) member: &'a Member,
}

impl Link {
    pub(super) fn new(facts: LinkFacts, sequence: u64, timing: &Timing, now: Instant) -> Self {
        Self {
            facts,
            phase: Phase::Listening,
            next_phase: introduction(timing, now),
            table: OwnTable::new(sequence),
            members: BTreeMap::new(),
            beats: 0,
            sent: VecDeque::new(),
            last_sent: None,
            due: now,
            silent: false,
        }
    }

    /// Listens while the process before this one speaks for the node; what that one told is told on.
    pub(super) fn overhear(&mut self, timing: &Timing, now: Instant) {
        self.silent = true;
        self.phase = Phase::Introduced;
        self.next_phase = now + timing.heartbeat + ANSWER_GAP;
    }

    /// Whether every member that is there has been heard.
    pub(super) fn has_overheard(&self, now: Instant) -> bool {
        !self.silent || now >= self.next_phase
    }

    /// From now on this process speaks. Nothing that is not on an interface yet is claimed before the members
    /// have answered.
    pub(super) fn speak(&mut self, sequence: u64, timing: &Timing, now: Instant) {
        self.silent = false;
        self.next_phase = now + timing.listen;
        // Newer than any table of the process before.
        self.table = OwnTable::new(sequence);
        self.due = now;
    }

    /// Nothing is claimed yet.
    pub(super) fn listening(&self) -> bool {
        self.phase != Phase::Ready
    }

    /// The other members hear what this node could hold.
    pub(super) fn introduced(&self) -> bool {
        self.phase != Phase::Listening
    }

    /// Listens anew, as if just started.
    pub(super) fn listen(&mut self, timing: &Timing, now: Instant) {
        self.phase = Phase::Listening;
        self.next_phase = introduction(timing, now);
    }

    /// Comes from listening to claiming as time passes; true if it has come a step further.
    pub(super) fn proceed(&mut self, timing: &Timing, now: Instant) -> bool {
        if self.silent || self.phase == Phase::Ready || now < self.next_phase {
            return false;
        }
        if self.phase == Phase::Listening {
            self.phase = Phase::Introduced;
            self.next_phase += timing.heartbeat;
        } else {
            self.phase = Phase::Ready;
        }
        true
    }

    /// Sends the next heartbeat as soon as may be: there is news.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.send_within(NEWS_GAP, now);
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (&Incarnation, &Member)> {
        self.members.iter()
    }

    pub(super) fn member(&self, incarnation: &Incarnation) -> Option<&Member> {
        self.members.get(incarnation)
    }

    pub(super) fn member_mut(&mut self, incarnation: &Incarnation) -> Option<&mut Member> {
        self.members.get_mut(incarnation)
    }

    /// Takes in a message; returns the addresses that look different now, or why it was dropped.
    pub(super) fn accept(
        &mut self,
        message: &Message,
        from: SocketAddr,
        own: &Incarnation,
        timing: &Timing,
        now: Instant,
    ) -> Result<Vec<IpAddr>, &'static str> {
        if !self.members.contains_key(&message.incarnation) {
            self.make_room()?;
        }
        let new = || Member::new(message, from, now);
        let member = self.members.entry(message.incarnation).or_insert_with(new);
        let freshness = member.freshness(message.sequence);
        match freshness {
            Freshness::Copy => return Ok(Vec::new()),
            Freshness::Replayed => return Err("Replayed"),
            Freshness::New | Freshness::Late => {}
        }
        let (node, chunk) = (member.node.clone(), message.chunk.as_ref());
        let mut changed = member.table.learn(&node, message.version, message.chunks, chunk);
        if freshness == Freshness::Late {
            return Ok(changed);
        }
        let mut differs = member.hear(message, from, now);
        let (was_alive, was_proven) = (member.alive, member.proven.is_some());
        if let Some(echoes) = &message.echoes {
            let echo = echoes.iter().find(|echo| echo.prefix == prefix(own));
            let sent = |(sequence, at): &(u64, Instant)| {
                echo.is_some_and(|echo| echo.sequence == *sequence as u32).then_some(*at)
            };
            // One that is not named may be named by another datagram; what was proved until now is good for its time.
            if echo.is_some() || !message.partial {
                member.echo(self.sent.iter().rev().find_map(sent));
                member.acknowledge(echo);
            }
        }
        differs |= member.look(now, timing);
        if differs {
            changed.extend(member.table.iter().map(|(ip, _)| ip));
        }
        let begins = !was_proven && member.proven.is_some();
        if !(was_alive && member.alive) {
            // It lacks the proof that this node hears it, or this node lacks one: do not wait for
            // the next heartbeat.
            self.send_within(ANSWER_GAP, now);
        }
        if begins {
            changed.extend(self.end_earlier_lives(&node, &message.incarnation));
        }
        Ok(changed)
    }

    /// Notices members that have died; returns the addresses that look different now.
    pub(super) fn expire(&mut self, timing: &Timing, now: Instant) -> Vec<IpAddr> {
        let mut changed = Vec::new();
        for member in self.members.values_mut().filter(|member| member.alive) {
            if member.look(now, timing) {
                changed.extend(member.table.iter().map(|(ip, _)| ip));
            }
        }
        changed
    }

    /// Replaces this node's table; a new one is sent at once.
    pub(super) fn publish(
        &mut self,
        entries: BTreeMap<IpAddr, Entry>,
        sequence: u64,
        now: Instant,
    ) {
        if self.table.update(entries, sequence) {
            self.hurry(now);
        }
    }

    /// Version of this node's table.
    pub(super) fn version(&self) -> u32 {
        self.table.version()
    }

    /// This node's forwardings follow from a version of a member's table; a member that leaves something
    /// waits to hear that.
    pub(super) fn follow(&mut self, member: &Incarnation, version: u32, now: Instant) {
        let Some(member) = self.members.get_mut(member) else { return };
        if std::mem::replace(&mut member.followed, version) != version
            && member.table.iter().any(|(_, entry)| entry.leaving)
        {
            self.hurry(now);
        }
    }

    /// What the others say about an address.
    pub(super) fn view(&self, ip: IpAddr, timing: &Timing, now: Instant) -> View<'_> {
        let mut view = View::default();
        for (incarnation, member) in &self.members {
            let entry = member.table.get(ip);
            let terms = entry.map_or(0, |(entry, _)| entry.terms);
            let active = entry.is_some_and(|(entry, _)| entry.active);
            if !member.alive && !member.heard(now, timing) {
                continue;
            }
            if active || terms > 0 {
                let (incarnation, alive) = (*incarnation, member.alive);
                view.reports.push(Report { incarnation, alive, active, terms });
            }
            if !member.alive {
                let unknown = active || member.table.version() == 0;
                view.doubt |= unknown && member.proven.is_none();
                continue;
            }
            let silent = member.table.version() == 0;
            view.doubt |= silent && member.proven.is_some_and(|since| now < since + DOUBT);
            let Some((entry, rank)) = entry else { continue };
            let fit = member.fit(ip);
            let priority = Priority::new(fit, entry.merit(), *rank, *incarnation);
            let candidate = Candidate { priority, incarnation: *incarnation, member };
            if fit {
                first(&mut view.candidate, candidate);
            }
            if active {
                first(&mut view.holder, candidate);
            }
        }
        view
    }

    /// The heartbeat, if it is due: chunks of the table that a member lacks, then members that
    /// this node hears. In this order, so that the echoes are in what is newest, whatever overtakes what.
    pub(super) fn compose(
        &mut self,
        header: &Header,
        sequence: &mut u64,
        timing: &Timing,
        now: Instant,
    ) -> Vec<Message> {
        if now < self.due {
            return Vec::new();
        }
        self.due = now + timing.heartbeat;
        if self.silent {
            return Vec::new();
        }
        self.last_sent = Some(now);
        let (mut echoes, partial) = self.echoes(timing, now);
        let message = |echoes: Option<Vec<Echo>>, chunk: Option<Chunk>| Message {
            incarnation: header.incarnation,
            sequence: 0,
            draining: header.draining,
            serving: header.serving,
            facts: self.facts,
            node: header.node.clone(),
            version: self.table.version(),
            chunks: self.table.len(),
            partial: partial && echoes.is_some(),
            echoes,
            chunk,
        };
        let heard = |member: &&Member| member.heard(now, timing);
        let lacks = |member: &Member| member.known != self.table.version();
        let lacking = self.members.values().filter(heard).any(lacks);
        let mut chunks: Vec<_> = self.table.chunks().collect();
        if !lacking && chunks.len() > 1 {
            chunks.clear();
        }
        let mut last = message(Some(echoes.pop().unwrap_or_default()), None);
        // The last chunk travels along where it fits. A table of one chunk does so every time.
        last.chunk = chunks.pop_if(|chunk| last.length() + chunk.length() <= LONGEST);
        if !lacking {
            chunks.clear();
        }
        let mut messages: Vec<_> =
            chunks.into_iter().map(|chunk| message(None, Some(chunk))).collect();
        messages.extend(echoes.into_iter().map(|echoes| message(Some(echoes), None)));
        messages.push(last);
        for message in &mut messages {
            *sequence += 1;
            message.sequence = *sequence;
        }
        while self.sent.front().is_some_and(|(_, at)| *at + timing.proof < now) {
            self.sent.pop_front();
        }
        self.sent.extend(messages.iter().map(|message| (message.sequence, now)));
        messages
    }

    /// The members that this heartbeat names, by datagram, and whether there are others. If there are, those of which
    /// there is news come first, then those that have waited longest.
    fn echoes(&mut self, timing: &Timing, now: Instant) -> (Vec<Vec<Echo>>, bool) {
        let heard = self.members.iter_mut().filter(|(_, member)| member.heard(now, timing));
        let mut heard: Vec<_> = heard.collect();
        let partial = heard.len() > MOST_ECHOES;
        if partial {
            heard.sort_by_key(|(_, member)| member.waits());
            let datagrams = heard.len().div_ceil(MOST_ECHOES).div_ceil(ROUND);
            heard.truncate(datagrams * MOST_ECHOES);
        }
        self.beats += 1;
        let beat = self.beats;
        let echoes = heard.into_iter().map(|(incarnation, member)| member.named(incarnation, beat));
        let echoes: Vec<_> = echoes.collect();
        (echoes.chunks(MOST_ECHOES).map(<[Echo]>::to_vec).collect(), partial)
    }

    /// When [`compose`](Self::compose), [`expire`](Self::expire) or
    /// [`proceed`](Self::proceed) has something to do.
    pub(super) fn deadline(&self, timing: &Timing) -> Instant {
        let deaths = self.members.values().filter_map(|member| member.deadline(timing));
        let phase = (self.listening() && !self.silent).then_some(self.next_phase);
        deaths.chain(phase).fold(self.due, Instant::min)
    }

    fn send_within(&mut self, gap: Duration, now: Instant) {
        let soonest = self.last_sent.map_or(now, |last| now.max(last + gap));
        self.due = self.due.min(soonest);
    }

    /// A process that has just started is the end of its predecessor, without waiting until that is
    /// missed. Should two nodes have one name, the other one is back with its next heartbeat.
    fn end_earlier_lives(&mut self, node: &str, now_alive: &Incarnation) -> Vec<IpAddr> {
        let mut changed = Vec::new();
        for (incarnation, member) in &mut self.members {
            if *member.node == *node && incarnation != now_alive && member.alive {
                member.end();
                changed.extend(member.table.iter().map(|(ip, _)| ip));
            }
        }
        changed
    }

    /// Forgets the member that has been silent longest if there are too many. A live member is never
    /// forgotten for one that has not proved anything yet.
    fn make_room(&mut self) -> Result<(), &'static str> {
        if self.members.len() < MOST_MEMBERS {
            return Ok(());
        }
        let idle = self.members.iter().filter(|(_, member)| !member.alive);
        let oldest = idle.min_by_key(|(_, member)| member.heard_at()).map(|(id, _)| *id);
        oldest.map(|id| drop(self.members.remove(&id))).ok_or("TooManyMembers")
    }
}

/// The last heartbeat before the end of listening says what could be held.
fn introduction(timing: &Timing, now: Instant) -> Instant {
    now + timing.listen.saturating_sub(timing.heartbeat)
}

fn first<'a>(best: &mut Option<Candidate<'a>>, candidate: Candidate<'a>) {
    if best.is_none_or(|best| candidate.priority < best.priority) {
        *best = Some(candidate);
    }
}
