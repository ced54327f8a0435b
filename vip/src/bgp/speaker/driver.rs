//! The BGP thread: what comes in, what follows from it, what goes out, and waiting.
//!
//! This file decides nothing about a session: its [`PeerDriver`] does. It reads the clock, keeps the
//! addresses on the loopback interface, and says which routes count now. One turn of [`Driver::run`] is
//! the whole of it.

#![expect(clippy::disallowed_methods, reason = "the driver owns the clock of the speaker")]

mod routers;
mod waiting;

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use tracing::warn;

use super::{
    BgpSpeakerOptions, Mailbox, Progress,
    acceptors::Acceptors,
    announced::{AnnouncedAddresses, Outcome},
    bfd_client::{BfdClient, Liveness},
    next_hop,
    peer_driver::{Context, PeerDriver},
    status::BgpStatus,
    unnumbered::Unnumbered,
};
use crate::{
    bgp::{BgpPlan, Cease, PeerAddress, PeerConfig, RibOut, Settings},
    event::BgpEvent,
    kernel::{
        link_watch::LinkWatch,
        sockets::{bfd::News, bgp::connection::Closing},
        sysctl::ArpSysctls,
        turn::{HealthPoll, StatusPace},
    },
    links::{change::Change, loopback::LoopbackUse},
    plan::Interfaces,
};

/// From telling routers of addresses to telling them of more, while these arrive turn by turn.
const ADVERTISE_INTERVAL: Duration = Duration::from_millis(200);
/// Between two that show a change, and between any two.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);
const STATUS_ANYWAY: Duration = Duration::from_secs(1);
/// Between the withdrawal and the end of the sessions.
const WITHDRAWN: Duration = Duration::from_millis(100);
/// For ending the sessions, and for stopping.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// What is read at once.
const BUFFER: usize = 16 << 10;
/// For the operators of routers (RFC 9003).
const SHUTDOWN_TEXT: &str = "gatehouse is shutting down";

/// How far the node is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// Everything is marked as going away, until then.
    Marked(Instant),
    /// Everything is withdrawn, until then.
    Withdrawn(Instant),
    /// The sessions end, at the latest then.
    Closing(Instant),
    Closed,
}

/// What lives on the thread.
pub(super) struct Driver<E> {
    options: BgpSpeakerOptions,
    mailbox: Arc<Mailbox>,
    events: E,
    link_watch: LinkWatch,
    announced: AnnouncedAddresses,
    arp_sysctls: ArpSysctls,
    /// Connections on which the last word is being said.
    closing: Vec<(Instant, Closing)>,
    /// Scratch space for what is read.
    buffer: Vec<u8>,
    acceptors: Acceptors,
    unnumbered: Unnumbered,
    peers: BTreeMap<String, PeerDriver>,
    /// Different for every session.
    seed: u64,
    bfd_client: BfdClient,
    bfd_news: mpsc::Receiver<(u32, News<Liveness>)>,
    router_id: Ipv4Addr,
    /// A predecessor that was killed has left its addresses.
    restarted: bool,
    plan: Arc<BgpPlan>,
    serial: u64,
    phase: Phase,
    stop_by: Option<Instant>,
    /// A successor on this node takes over.
    abandoned: bool,
    healthy: bool,
    health: HealthPoll,
    /// Which routes count may have changed.
    stale: bool,
    /// There are addresses that routers have not heard of.
    arrived: bool,
    /// When routes were advertised last.
    advertised_at: Instant,
    pace: StatusPace,
}

impl<E: Fn(BgpEvent)> Driver<E> {
    pub(super) fn new(
        options: BgpSpeakerOptions,
        mailbox: Arc<Mailbox>,
        events: E,
    ) -> io::Result<Self> {
        let now = Instant::now();
        let mut link_watch = LinkWatch::open(options.loopback.user(LoopbackUse::Routed), now)?;
        link_watch.list(now)?;
        let links = &link_watch.links;
        let lo = links.loopback().map(|lo| lo.index);
        let restarted = links.ours().any(|(index, _)| Some(index) == lo);
        let mut chance = [0; 4];
        aws_lc_rs::rand::fill(&mut chance).map_err(io::Error::other)?;
        let chance = u32::from_ne_bytes(chance);
        let (bfd, bfd_news) = mpsc::channel();
        let bfd_client = BfdClient::new(bfd, Arc::clone(&mailbox), chance);
        Ok(Self {
            router_id: options
                .router_id
                .unwrap_or_else(|| next_hop::router_id(&options.node, links)),
            restarted,
            acceptors: Acceptors::new(options.port),
            health: HealthPoll::new(options.health.clone(), now),
            arp_sysctls: options.sysctls.user(),
            options,
            mailbox,
            events,
            link_watch,
            announced: AnnouncedAddresses::default(),
            closing: Vec::new(),
            buffer: vec![0; BUFFER],
            peers: BTreeMap::new(),
            seed: u64::from(chance) << 32,
            unnumbered: Unnumbered::new(u64::from(chance)),
            bfd_client,
            bfd_news,
            plan: Arc::default(),
            serial: 0,
            phase: Phase::Serving,
            stop_by: None,
            abandoned: false,
            healthy: true,
            stale: false,
            arrived: false,
            advertised_at: now,
            pace: StatusPace::new(STATUS_INTERVAL, Some(STATUS_ANYWAY), now),
        })
    }

    pub(super) fn run(mut self) {
        loop {
            let now = Instant::now();
            self.take_desired(now);
            if self.abandoned {
                return self.abandon(now);
            }
            self.ask_health(now);
            self.look(now);
            self.leave(now);
            self.keep_addresses(now);
            self.find_routers(now);
            self.tick(now);
            self.advertise_routes(now);
            self.report(now);
            if self.finished(now) {
                return self.arp_sysctls.restore();
            }
            self.wait();
            self.take_input();
        }
    }

    /// Ends as if killed. A router that watches this node by BFD is told not to, once it has noticed that its session is
    /// closed: it would take the first word of the next process for the death of this one, and end the session with that
    /// one as well. Told before, some routers (FRR) end the session themselves, and its routes with it.
    fn abandon(mut self, now: Instant) {
        self.acceptors.close();
        for peer in std::mem::take(&mut self.peers).into_values() {
            self.closing.extend(peer.hang_up(now));
        }
        while !self.closing.is_empty() {
            self.wait();
            self.take_input();
        }
        let (mailbox, serial) = (Arc::clone(&self.mailbox), self.serial);
        self.bfd_client.forget_all(Instant::now());
        drop(self);
        mailbox.report(serial, Progress { drained: true });
    }

    /// What the owner wants.
    fn take_desired(&mut self, now: Instant) {
        let Some((serial, desired)) = self.mailbox.take(self.serial, |desired| desired.clone())
        else {
            return;
        };
        self.serial = serial;
        if self.plan != desired.plan {
            self.plan = desired.plan;
            if self.phase == Phase::Serving {
                self.announced.want(&self.plan.addresses.keys().copied().collect(), now);
                let announced = &self.announced;
                self.link_watch.loopback.retain(|ip| announced.knows(*ip));
                self.follow_peers(now);
            }
            self.stale = true;
        }
        self.abandoned = desired.abandon;
        if desired.drain && self.phase == Phase::Serving {
            let somebody_hears = self.peers.values().any(PeerDriver::is_up);
            let grace = if somebody_hears { self.options.grace } else { Duration::ZERO };
            self.phase = Phase::Marked(now + grace);
            self.stale = true;
        }
        if desired.stop && self.stop_by.is_none() {
            self.stop_by = Some(now + STOP_TIMEOUT);
            self.close(now);
            self.announced.give_back(now);
        }
        self.pace.changed = true;
    }

    /// Starts, ends and changes sessions so that they are those of the plan.
    fn follow_peers(&mut self, now: Instant) {
        let plan = Arc::clone(&self.plan);
        let gone: Vec<_> =
            self.peers.keys().filter(|name| !plan.peers.contains_key(*name)).cloned().collect();
        for name in gone {
            self.bfd_client.forget(&name, now);
            self.end(&name, Cease::Deconfigured, now);
        }
        for (name, config) in &plan.peers {
            let Some(peer) = self.peers.get_mut(name) else {
                self.begin(name, config, now);
                continue;
            };
            if peer.config == *config {
                continue;
            }
            if same_session(&peer.config, config) {
                peer.config = Arc::clone(config);
            } else {
                // BFD goes on if it watches the same: a goodbye amid the first words of a new BFD session
                // would have the router end the new session as well.
                if !same_way(&peer.config, config) {
                    self.bfd_client.forget(name, now);
                }
                self.end(name, Cease::Changed, now);
                self.begin(name, config, now);
            }
        }
        let watched = |name: &str| plan.peers.get(name).is_some_and(|peer| peer.bfd.is_some());
        self.bfd_client.retain(watched, now);
        self.acceptors.follow(self.peers.values(), &self.unnumbered, now);
        self.unnumbered.look();
    }

    fn begin(&mut self, name: &str, config: &Arc<PeerConfig>, now: Instant) {
        let over_v6 = match &config.peer.address {
            PeerAddress::Ip(ip) => ip.is_ipv6(),
            PeerAddress::Interface(_) => true,
        };
        let settings = Settings::new(&config.peer, self.router_id, over_v6, self.restarted);
        self.seed += 1;
        let context = Context { links: &self.link_watch.links, unnumbered: &self.unnumbered, now };
        let config = Arc::clone(config);
        let peer = PeerDriver::start(self.seed, name, config, settings, &context);
        self.peers.insert(name.to_owned(), peer);
        self.stale = true;
    }

    fn end(&mut self, name: &str, cease: Cease, now: Instant) {
        self.with(name, now, |peer, context| peer.stop(cease, "", context));
        self.report_events();
        if let Some(mut peer) = self.peers.remove(name) {
            self.closing.append(&mut peer.closing());
        }
    }

    fn ask_health(&mut self, now: Instant) {
        if let Some(healthy) = self.health.ask(now) {
            self.stale |= healthy != self.healthy;
            self.healthy = healthy;
        }
    }

    /// What has become of the interfaces.
    fn look(&mut self, now: Instant) {
        if self.link_watch.look(now) {
            self.stale |= self.announced.look(&self.link_watch.links, now);
            self.unnumbered.look();
            for name in self.peers.keys().cloned().collect::<Vec<_>>() {
                self.with(&name, now, |peer, context| peer.follow_links(context));
            }
        }
    }

    /// The way out, step by step.
    fn leave(&mut self, now: Instant) {
        let before = self.phase;
        match self.phase {
            Phase::Marked(until) if until <= now => {
                self.phase = Phase::Withdrawn(now + WITHDRAWN);
                self.stale = true;
            }
            Phase::Withdrawn(until) if until <= now => self.close(now),
            Phase::Closing(until) if until <= now || self.closing.is_empty() => {
                self.phase = Phase::Closed;
            }
            _ => {}
        }
        self.pace.changed |= before != self.phase;
    }

    /// Ends all sessions.
    fn close(&mut self, now: Instant) {
        if self.phase >= Phase::Closing(now) {
            return;
        }
        self.bfd_client.forget_all(now);
        for name in self.peers.keys().cloned().collect::<Vec<_>>() {
            self.with(&name, now, |peer, context| {
                peer.stop(Cease::Shutdown, SHUTDOWN_TEXT, context);
            });
        }
        self.acceptors.close();
        self.phase = Phase::Closing(now + CLOSE_TIMEOUT);
    }

    /// Makes the addresses on the loopback interface those that are wanted.
    fn keep_addresses(&mut self, now: Instant) {
        let (changes, mut outcomes) = self.announced.due(&self.link_watch.links, now);
        let results = self.link_watch.change(&changes);
        for (change, result) in changes.iter().zip(results) {
            match *change {
                Change::Add { index, ip, .. } | Change::Renew { index, ip, .. }
                    if result.is_ok() =>
                {
                    self.link_watch.links.added(index, ip);
                }
                Change::Delete { index, ip } if result.is_ok() => {
                    self.link_watch.links.deleted(index, ip)
                }
                Change::Add { .. } => self.link_watch.list_soon(now),
                _ => {}
            }
            outcomes.extend(self.announced.done(change, &result, now));
        }
        for outcome in outcomes {
            self.pace.changed = true;
            let event = match outcome {
                Outcome::Added(vip) => {
                    self.arrived = true;
                    self.answer_for_own_addresses_only(vip);
                    BgpEvent::Added { vip }
                }
                // Its route went before.
                Outcome::Removed(vip) => {
                    self.link_watch.loopback.end_use(vip);
                    BgpEvent::Removed { vip }
                }
                Outcome::Refused(vip, refusal) => {
                    self.stale = true;
                    BgpEvent::Refused { vip, refusal }
                }
            };
            (self.events)(event);
        }
    }

    /// On a link whose subnet holds the address, every node that announces it would answer ARP for it.
    fn answer_for_own_addresses_only(&mut self, vip: IpAddr) {
        if let (true, Ok(link)) = (vip.is_ipv4(), self.link_watch.links.home(vip, &Interfaces::Any))
            && let Err(error) = self.arp_sysctls.apply(&link.name)
        {
            warn!(%vip, interface = link.name, %error, "ARP is answered for an announced address");
        }
    }

    /// Lets sessions do what is due.
    fn tick(&mut self, now: Instant) {
        let due = |peer: &PeerDriver| peer.deadline().is_some_and(|deadline| deadline <= now);
        let due = self.peers.iter().filter(|(_, peer)| due(peer));
        for name in due.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.with(&name, now, |peer, context| peer.tick(context));
        }
        self.bfd_client.expire(now);
        self.acceptors.retry(self.peers.values(), &self.unnumbered, now);
    }

    /// Advertises the routes that count now.
    fn advertise_routes(&mut self, now: Instant) {
        self.report_events();
        if self.phase >= Phase::Closing(now) {
            return;
        }
        let settled = self.announced.settled();
        self.stale |= self.arrived && (settled || now >= self.advertised_at + ADVERTISE_INTERVAL);
        if std::mem::take(&mut self.stale) {
            for name in self.peers.keys().cloned().collect::<Vec<_>>() {
                let routes = self.routes(&name);
                self.with(&name, now, |peer, context| peer.advertise(routes, context));
            }
            (self.arrived, self.advertised_at, self.pace.changed) = (false, now, true);
        }
        let complete = settled && self.healthy;
        let context = Context { links: &self.link_watch.links, unnumbered: &self.unnumbered, now };
        self.peers.values_mut().for_each(|peer| peer.end_rib(complete, &context));
    }

    /// What a router is to hear of: routes that lead to an address which is there.
    fn routes(&self, peer: &str) -> Arc<RibOut> {
        let Some(planned) = self.plan.routes.get(peer) else { return Arc::default() };
        let leads = |prefix: &ipnet::IpNet| self.announced.has_within(prefix);
        match self.phase {
            _ if !self.healthy => Arc::default(),
            Phase::Serving if planned.routes.keys().all(leads) => Arc::clone(planned),
            Phase::Serving | Phase::Marked(_) => {
                let mut routes = RibOut::clone(planned);
                routes.routes.retain(|prefix, _| leads(prefix));
                match self.phase {
                    Phase::Serving => Arc::new(routes),
                    _ => Arc::new(routes.shutting_down()),
                }
            }
            _ => Arc::default(),
        }
    }

    /// Watches routers whose sessions are up, and tells the owner what has happened.
    fn report_events(&mut self) {
        let now = Instant::now();
        for (name, peer) in &mut self.peers {
            for event in peer.events() {
                self.pace.changed = true;
                if let (BgpEvent::Up { .. }, Some(settings), Some(ends)) =
                    (&event, peer.config.bfd, peer.ends())
                    && self.phase < Phase::Closing(now)
                {
                    let multi_hop = peer.config.peer.multi_hop;
                    self.bfd_client.follow(name, settings, ends, multi_hop, now);
                }
                (self.events)(event);
            }
        }
    }

    fn with(&mut self, name: &str, now: Instant, act: impl FnOnce(&mut PeerDriver, &Context<'_>)) {
        let context = Context { links: &self.link_watch.links, unnumbered: &self.unnumbered, now };
        if let Some(peer) = self.peers.get_mut(name) {
            act(peer, &context);
        }
    }

    /// Tells the owner how far this is.
    fn report(&mut self, now: Instant) {
        self.mailbox.report(self.serial, Progress { drained: self.phase == Phase::Closed });
        if !self.pace.due(now) {
            return;
        }
        let context = Context { links: &self.link_watch.links, unnumbered: &self.unnumbered, now };
        let peers = self.peers.iter().map(|(name, peer)| {
            let ambiguous = peer.interface().and_then(|on| self.unnumbered.problem(on));
            let problems = self.acceptors.problem(name).into_iter().chain(ambiguous).collect();
            (name.clone(), peer.status(self.bfd_client.status(name), problems, &context))
        });
        let status = BgpStatus {
            router_id: self.router_id.to_string(),
            draining: self.phase != Phase::Serving,
            peers: peers.collect(),
            addresses: self.announced.steady().collect(),
            bfd_packets: self.bfd_client.packets(),
            problems: self.acceptors.problems(),
        };
        self.mailbox.publish(status);
        self.pace.published(now);
    }

    fn finished(&self, now: Instant) -> bool {
        let done = self.closing.is_empty() && self.announced.ours() == 0;
        self.stop_by.is_some_and(|limit| done || now >= limit)
    }
}

/// Whether BFD would run between the same ends.
fn same_way(old: &PeerConfig, new: &PeerConfig) -> bool {
    let way = |config: &PeerConfig| {
        let peer = config.peer.clone();
        (config.bfd.is_some(), peer.address, peer.source, peer.multi_hop, peer.vrf)
    };
    way(old) == way(new)
}

/// Whether a session can go on under the new settings.
fn same_session(old: &PeerConfig, new: &PeerConfig) -> bool {
    let unwatched = |config: &PeerConfig| {
        let mut config = config.clone();
        config.bfd = None;
        config.peer.bfd_profile = None;
        config
    };
    unwatched(old) == unwatched(new)
}
