//! The speaker's thread: what comes in, what follows from it, what goes out, and waiting.
//!
//! This file decides nothing about addresses: [`Group`] says which node has to hold them, [`Vips`] what
//! that takes on the interfaces. It reads the clock, asks both in turn, and carries out what they
//! say; the carrying out is in `perform`. One turn of [`Driver::run`] is the whole of it.

#![expect(clippy::disallowed_methods, reason = "the driver owns the clock of the speaker")]

mod fence;
mod forward_old;
mod perform;
mod publish;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tracing::{debug, warn};

use super::{Mailbox, Members, NoteSink, Progress, RoutedAddresses, SpeakerOptions};
use crate::{
    event::SpeakerEvent,
    kernel::{
        link_watch::LinkWatch,
        nftables::forward_old::Nft,
        sockets::{
            frames::{FrameSocket, FrameWatch, Resolution},
            heartbeat::HeartbeatSockets,
        },
        sysctl::ArpSysctls,
        thread,
        turn::{HealthPoll, LEAST_WAIT},
        wait,
    },
    l2::{
        forward_old::ForwardPaths,
        group::{Destination, Forwarding, Group, Role, Timing},
        neighbour,
        vips::{Vips, VipsOptions},
    },
    links::{LinkFacts, loopback::LoopbackUse},
    plan::VipPlan,
};
use fence::Fence;
use publish::Publisher;

/// After sockets could not be opened.
const OPEN_AGAIN: Duration = Duration::from_secs(1);
/// For withdrawing everything when the speaker stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Reads that are made after this thread stood still, to have all that came in meanwhile.
const CATCH_UP: usize = 32;

/// Alone, no other node can have them, but a killed process must not leave them for ever.
const LONE_LIFETIME: Duration = Duration::from_secs(10);
const LONE_RENEWAL: Duration = Duration::from_millis(2500);

/// What lives on the speaker's thread.
pub(super) struct Driver<E> {
    link_watch: LinkWatch,
    frames: FrameSocket,
    neighbours: FrameWatch,
    /// `None`: alone.
    heartbeats: Option<HeartbeatSockets>,
    arp_sysctls: ArpSysctls,
    nft: Nft,
    /// `None`: alone.
    fence: Option<Fence>,
    /// Those that were last asked for.
    forward_paths: ForwardPaths,
    /// What the group knew then; `None`: the interfaces have changed since.
    paths_as_of: Option<u64>,
    /// Those of them that are for routed addresses.
    routed_paths: ForwardPaths,
    /// A refusal of the kernel has been reported.
    forward_refused: bool,
    group: Group,
    /// Where notes of the others go.
    notes: Option<NoteSink>,
    vips: Vips,
    timing: Timing,
    plan: Arc<VipPlan>,
    links_in_use: BTreeMap<u32, LinkFacts>,
    routed: Arc<RoutedAddresses>,
    /// Those that the group has been told.
    members: Option<Arc<Members>>,
    /// What is passed on of routed addresses.
    forwardings: Vec<Forwarding>,
    /// The interfaces, or what is passed on, have changed.
    forwardings_changed: bool,
    /// The links to listen on may be others.
    listen_anew: bool,
    publisher: Publisher,
    /// Number of the desired state that the parts have.
    serial: u64,
    draining: bool,
    withdrawing: bool,
    stop_by: Option<Instant>,
    succession: Succession,
    /// Of the last heartbeat, for the owner.
    sequence: Arc<AtomicU64>,
    health: HealthPoll,
    /// When sockets that could not be opened are tried again.
    retry_at: Option<Instant>,
    /// When this thread is to run again, at the latest.
    back_at: Instant,
    /// Nothing more is due now.
    settled: bool,
    /// This turn has done something.
    busy: bool,
    mailbox: Arc<Mailbox>,
    events: E,
}

/// How this process follows another one on this node, and another one this.
#[derive(Debug, Default)]
struct Succession {
    /// What the predecessor has is not looked at yet.
    waits_for_plan: bool,
    /// What it leaves.
    inherits: Option<BTreeSet<IpAddr>>,
    /// Everything is left to a successor.
    leaves: bool,
}

impl<E: Fn(SpeakerEvent)> Driver<E> {
    pub(super) fn new(
        options: SpeakerOptions,
        (incarnation, sequence): ([u8; 16], Arc<AtomicU64>),
        mailbox: Arc<Mailbox>,
        events: E,
    ) -> io::Result<Self> {
        let now = Instant::now();
        let loopback = options.loopback.user(LoopbackUse::Draining);
        let timing = Timing::default();
        let succeeding = options.predecessor.is_some();
        let in_group = options.group.is_some();
        let (key, peers) = options
            .group
            .as_ref()
            .map_or_else(Default::default, |group| (group.key.clone(), group.peers.clone()));
        let keyless = in_group && key.is_none();
        let mut group = Group::new(options.node.clone(), key, incarnation, peers, timing, now);
        if keyless {
            group.wait_for_key();
        }
        if succeeding {
            group.overhear();
        }
        let fence = options.group.as_ref().map(|group| Fence::new(group.port, incarnation));
        let (lifetime, renew_every) =
            if in_group { fence::UNFENCED } else { (LONE_LIFETIME, LONE_RENEWAL) };
        let (drain_time, adopt, inherit) = (options.drain_time, !in_group, succeeding);
        let vips = VipsOptions { lifetime, renew_every, drain_time, adopt, inherit };
        if let Err(error) = thread::before_others() {
            debug!(%error, "the speaker's thread is scheduled like any other");
        }
        Ok(Self {
            link_watch: LinkWatch::open(loopback, now)?,
            frames: FrameSocket::default(),
            neighbours: FrameWatch::default(),
            heartbeats: options
                .group
                .as_ref()
                .map(|group| HeartbeatSockets::new(group.port, &group.peers)),
            arp_sysctls: options.sysctls.user(),
            nft: Nft::default(),
            fence,
            forward_paths: ForwardPaths::new(),
            routed_paths: ForwardPaths::new(),
            paths_as_of: None,
            forward_refused: false,
            group,
            notes: options.notes,
            vips: Vips::new(vips),
            timing,
            plan: Arc::default(),
            links_in_use: BTreeMap::new(),
            routed: Arc::default(),
            members: None,
            forwardings: Vec::new(),
            forwardings_changed: false,
            listen_anew: false,
            publisher: Publisher::new(options.node, in_group, now),
            serial: 0,
            draining: false,
            withdrawing: false,
            stop_by: None,
            sequence,
            succession: Succession { waits_for_plan: succeeding, ..Succession::default() },
            health: HealthPoll::new(options.health, now),
            retry_at: None,
            back_at: now,
            settled: true,
            busy: false,
            mailbox,
            events,
        })
    }

    pub(super) fn run(mut self) {
        loop {
            let now = Instant::now();
            self.busy = false;
            self.read(now);
            if self.stood_still(now) {
                (0..CATCH_UP).for_each(|_| self.read(now));
                self.group.resumed(now);
            }
            self.take_desired(now);
            if self.succession.leaves {
                return self.leave();
            }
            self.ask_health(now);
            self.look(now);
            self.decide(now);
            self.act(now);
            self.speak();
            self.report(now);
            if self.finished(now) {
                self.raze();
                return self.arp_sysctls.restore();
            }
            self.wait();
        }
    }

    /// Whether this thread was not run for so long that the others must take this node for dead.
    fn stood_still(&mut self, now: Instant) -> bool {
        let still = now > self.back_at + self.timing.dead && self.heartbeats.is_some();
        if still {
            let late = now - self.back_at;
            warn!(?late, "the speaker stood still for longer than the group waits for a node");
        }
        self.back_at = now;
        still
    }

    /// What the other nodes and the neighbours say.
    fn read(&mut self, now: Instant) {
        let received = self.heartbeats.as_mut().map(HeartbeatSockets::receive);
        for datagram in received.unwrap_or_default() {
            self.group.receive(&datagram.bytes, datagram.from, datagram.link, now);
            self.busy = true;
        }
        for note in self.group.take_notes() {
            self.notes.iter().for_each(|hears| hears(note.clone()));
        }
        self.neighbours.receive(|index, frame| {
            let Some(claim) = neighbour::heard(index, frame) else { return };
            if self.plan.vips.contains_key(&claim.ip) {
                let member = self.group.member_of(claim.index, claim.mac);
                self.vips.heard(claim, member, now);
                self.busy = true;
            }
        });
    }

    /// What the owner wants.
    fn take_desired(&mut self, now: Instant) {
        self.mailbox.wake.clear();
        let taken = self.mailbox.take(self.serial, |desired| {
            let let_go = std::mem::take(&mut desired.let_go);
            let notes = std::mem::take(&mut desired.notes);
            super::Desired { let_go, notes, ..desired.clone() }
        });
        let Some((serial, desired)) = taken else { return };
        self.serial = serial;
        self.group.tell(desired.notes);
        if self.plan != desired.plan {
            self.vips.want(VipPlan::clone(&desired.plan));
            self.plan = desired.plan;
        }
        if self.routed != desired.routed {
            self.group.routed(&desired.routed.addresses, now);
            self.routed = desired.routed;
            (self.listen_anew, self.forwardings_changed) = (true, true);
        }
        if let Some(members) = desired.members {
            self.meet(members, now);
        }
        self.succession.waits_for_plan &= !desired.planned;
        self.succession.leaves = desired.leave;
        if let Some(sequence) = desired.succeeds {
            self.group.speak(sequence, now);
        }
        self.draining = desired.drain;
        self.group.drain(desired.drain, now);
        self.withdrawing = desired.withdraw;
        let over = if desired.withdraw { self.publisher.draining() } else { desired.let_go };
        for ip in over {
            self.vips.let_go(ip);
        }
        if desired.stop {
            self.stop_by.get_or_insert(now + STOP_TIMEOUT);
        }
        self.busy = true;
    }

    /// Who the others are, and how they are understood.
    fn meet(&mut self, members: Arc<Members>, now: Instant) {
        if self.members.as_ref().is_some_and(|known| Arc::ptr_eq(known, &members)) {
            return;
        }
        if let Some(key) = &members.key {
            self.listen_anew |= self.group.key(key.clone(), now);
        }
        self.group.peers(members.peers.clone());
        if let Some(heartbeats) = &mut self.heartbeats {
            self.listen_anew |= heartbeats.reach(&members.peers);
        }
        self.members = Some(members);
    }

    fn ask_health(&mut self, now: Instant) {
        if let Some(healthy) = self.health.ask(now) {
            self.group.healthy(healthy, now);
        }
    }

    /// What has become of the interfaces.
    fn look(&mut self, now: Instant) {
        // What a predecessor has is looked at when it is known what of it is wanted.
        if self.succession.waits_for_plan {
            return;
        }
        if self.link_watch.look(now) {
            self.vips.see(self.link_watch.links.clone(), now);
            if let Some(inherited) = self.vips.take_inherited() {
                self.group.inherit(inherited.clone());
                self.succession.inherits = Some(inherited);
            }
            (self.listen_anew, self.forwardings_changed) = (true, true);
            self.paths_as_of = None;
            self.busy = true;
        }
    }

    /// Which node has to hold which address.
    fn decide(&mut self, now: Instant) {
        self.listen(now);
        if let Some(offers) = self.vips.offers() {
            self.group.offers(offers, now);
        }
        for (ip, decision) in self.group.decisions(now) {
            debug!(%ip, ?decision, "decided");
            self.vips.decide(ip, decision, now);
            self.busy = true;
        }
        self.forward_old(now);
    }

    /// Does what is due; what follows from it is done in the next turn, at once.
    fn act(&mut self, now: Instant) {
        self.settled = false;
        let actions = self.vips.due(now);
        // An address has its fence before it is on an interface, and until it is off.
        self.enclose(&actions, now);
        self.perform(&actions);
        self.enclose(&[], now);
        let now = Instant::now();
        for (ip, role) in self.vips.roles() {
            self.publisher.holds(ip, role);
            self.group.role(ip, role, now);
            if role.is_none() {
                self.link_watch.loopback.end_use(ip);
            }
            if self.withdrawing && role == Some(Role::Draining) {
                self.vips.let_go(ip);
            }
            self.busy = true;
        }
        self.settled = actions.is_empty();
        self.busy |= !self.settled;
        for event in self.vips.events() {
            self.publisher.happened();
            (self.events)(event);
        }
    }

    /// On which links this node is heard, and listens to others.
    fn listen(&mut self, now: Instant) {
        let again = self.retry_at.is_some_and(|at| at <= now);
        match self.vips.links_in_use() {
            Some(links) => {
                self.links_in_use = links;
                self.fence.iter_mut().for_each(Fence::look);
            }
            None if !again && !self.listen_anew => return,
            None => {}
        }
        self.listen_anew = false;
        let met = self.meeting_links();
        self.group.links(met.clone(), now);
        let links = &self.links_in_use;
        let mut deaf = false;
        if let Some(heartbeats) = &mut self.heartbeats {
            let named = met.iter().filter_map(|(index, facts)| {
                Some((*index, (self.link_watch.links.link(*index)?.name.clone(), *facts)))
            });
            deaf = self.publisher.deaf(heartbeats.follow(&named.collect()));
        }
        let families = [
            (Resolution::Arp, self.plan.vips.keys().any(IpAddr::is_ipv4)),
            (Resolution::Ndp, self.plan.vips.keys().any(IpAddr::is_ipv6)),
        ];
        let used = families.into_iter().filter_map(|(by, used)| used.then_some(by));
        let places = used.flat_map(|by| links.keys().map(move |index| (*index, by)));
        let blind = self.publisher.blind(self.neighbours.follow(&places.collect()));
        self.retry_at = (deaf || blind).then_some(now + OPEN_AGAIN);
    }

    /// What the others have to hear.
    fn speak(&mut self) {
        let now = Instant::now();
        let datagrams = self.group.transmit(now);
        self.sequence.store(self.group.sequence(), Ordering::Relaxed);
        // Before the heartbeat, from which the others count.
        self.turn_key(!datagrams.is_empty(), now);
        let Some(heartbeats) = &self.heartbeats else { return };
        for datagram in datagrams {
            self.busy = true;
            if let Destination::Peer(to) = datagram.to
                && !self.link_watch.links.leads_to(datagram.link, to.ip())
            {
                continue;
            }
            if let Err(error) = heartbeats.send(&datagram) {
                debug!(%error, link = datagram.link, to = ?datagram.to, "heartbeat not sent");
            }
        }
    }

    /// Tells the owner how far this is.
    fn report(&mut self, now: Instant) {
        if !self.settled {
            // More may follow at once, also events, which come before the end of a wait.
            return;
        }
        let handing = |ip: &&IpAddr| self.group.can_hand_over(**ip);
        let progress = Progress {
            held: self.vips.held(),
            to_hand_over: if self.draining {
                self.publisher.held().filter(handing).count()
            } else {
                0
            },
            to_forward: self.group.departing(),
            prepared: self.prepared(),
            left: false,
        };
        self.mailbox.report(self.serial, progress);
        if self.publisher.due(now) {
            let anew = self.publisher.vips_changed(self.group.revision());
            let group = if anew { self.group.status(now) } else { self.group.overview(now) };
            let states = anew.then(|| self.vips.states());
            self.mailbox.publish(self.publisher.status(group, states, &self.link_watch.links, now));
        }
    }

    /// Whether what a predecessor leaves can be taken over.
    fn prepared(&self) -> bool {
        let Some(inherits) = &self.succession.inherits else { return false };
        let held: BTreeSet<&IpAddr> = self.publisher.held().collect();
        inherits.iter().all(|ip| held.contains(ip)) && self.group.has_overheard(Instant::now())
    }

    /// Ends with everything as it is, for a successor.
    fn leave(self) {
        self.mailbox.report(self.serial, Progress { left: true, ..Progress::default() });
    }

    fn finished(&self, now: Instant) -> bool {
        self.stop_by.is_some_and(|limit| self.vips.held() == 0 || now >= limit)
    }

    /// Waits for input or the next deadline.
    fn wait(&mut self) {
        let now = Instant::now();
        let deadlines = [
            self.health.deadline(),
            self.stop_by,
            self.retry_at,
            self.vips.deadline(),
            self.group.deadline(),
            self.publisher.deadline(),
            self.fence_deadline(now),
        ];
        let least = if self.busy { Duration::ZERO } else { LEAST_WAIT };
        let deadline =
            deadlines.into_iter().flatten().fold(self.link_watch.deadline(), Instant::min);
        self.back_at = deadline.max(now + least);
        let mut sources = vec![self.mailbox.wake.as_fd(), self.link_watch.source()];
        sources.extend(self.neighbours.sockets());
        sources.extend(self.heartbeats.iter().flat_map(HeartbeatSockets::sockets));
        wait::wait(sources, self.back_at - now);
    }
}
