//! The virtual addresses of this node: the one owner of what a link has (L2) and routers hear of (BGP).
//!
//! The plan says what may be announced. [`Addresses`] holds an address back until every listener of a Service on it is
//! open (bind, then announce) and knows which ones are still on an interface, so that listeners outlive
//! them (withdraw, then unbind). Listeners of all addresses that this node could have stay open, so that an
//! address is served the moment it comes. `app` starts it, `controller` hands over every new plan, passes
//! on what the speakers say and makes connections follow the [`Changes`]. What is decided is decided in
//! `state`; here are the threads that carry it out, and how long they may take.

mod bgp;
mod drain_timer;
mod draining;
mod group;
mod heartbeats;
mod l2;
mod open;
mod problems;
mod state;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, OnceLock, Weak},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use gatehouse_routes::{
    objects::{ObjectKey, ObjectRef},
    problem::Problem,
};
use gatehouse_vip::{
    BgpEvent, BgpSpeaker, BgpSpeakerOptions, BgpStatus, GroupKey, GroupOptions, Health, Note,
    NoteSink, Predecessor, RoutedAddresses, SharedSysctls, Speaker, SpeakerEvent, SpeakerOptions,
    SpeakerStatus, VipPlan, bgp::BgpPlan,
};
use serde::Serialize;

use self::{
    group::{Asked, Following, News},
    state::{AddressState, Orders},
};
use crate::{compile::Compiled, config::Settings, listeners::Listeners};

/// Longest that a stop waits until other nodes forward what is open here.
const FORWARDED: Duration = Duration::from_secs(2);
/// Longest that a stop waits for other nodes to take the addresses over.
const HAND_OVER: Duration = Duration::from_secs(3);
/// Longest that routers are waited for when announcements are withdrawn, beside the grace period.
const ROUTERS: Duration = Duration::from_secs(3);
/// Longest that the speakers may take to leave everything to a successor.
const LEAVE: Duration = Duration::from_secs(2);
/// Longest that taking the addresses off may take before the process ends all the same.
const WITHDRAW: Duration = Duration::from_secs(5);

/// Hears the key of the group.
type Agreed = Arc<dyn Fn(&GroupKey) + Send + Sync>;

/// How this node is to have addresses.
pub(crate) struct AddressOptions {
    node: String,
    /// `None`: this node is alone.
    group: Option<GroupOptions>,
    /// What of the group follows the objects.
    following: Option<Following>,
    /// For how long connections on an address that another node has taken over are served.
    drain: Duration,
    /// How long routers have to prefer other ways before a stop.
    bgp_grace: Duration,
    /// Settings of interfaces that the speakers change.
    sysctls: SharedSysctls,
    /// What is not quite right about the settings.
    problems: Vec<Problem>,
    /// Hears the notes of the group's other nodes.
    notes: Option<NoteSink>,
    /// Hears the key of the group whenever the objects say another one.
    agreed: Option<Agreed>,
}

/// What a speaker has done or could not do.
pub(crate) enum Event {
    /// On a link.
    L2(SpeakerEvent),
    /// Towards routers.
    Bgp(BgpEvent),
}

/// What became of an address, for the connections on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is served here: they may stay.
    Active,
    /// It is served elsewhere: they are to leave.
    Draining,
    /// It is gone, and with it everything that was still open.
    Gone,
}

/// Addresses that came or went; the last word counts.
pub(crate) type Changes = BTreeMap<IpAddr, Change>;

/// One announced address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Announced {
    pub(crate) vip: IpAddr,
    pub(crate) interface: String,
}

/// The addresses of this node. Dropping them ends the speakers.
pub(crate) struct Addresses {
    state: AddressState,
    /// What of the group follows the objects.
    following: Option<Following>,
    agreed: Option<Agreed>,
    /// What the nodes of the group know of addresses that routers lead here.
    routed: RoutedAddresses,
    bgp_grace: Duration,
    starter: Starter,
    /// What the L2 speaker is to have, that routers are to hear of, and how the group is found.
    wanted: (Option<VipPlan>, Option<Arc<BgpPlan>>, Option<News>),
    status: Arc<Speakers>,
    // In the order in which they end; `None` while a predecessor on this node has the addresses.
    bgp: Option<Arc<BgpSpeaker>>,
    l2: Option<Arc<Speaker>>,
}

/// What speakers are started with.
struct Starter {
    l2: SpeakerOptions,
    bgp: BgpSpeakerOptions,
    events: Arc<dyn Fn(Event) + Send + Sync>,
}

/// The speakers, once they have been started.
#[derive(Default)]
struct Speakers {
    l2: OnceLock<Weak<Speaker>>,
    bgp: OnceLock<Weak<BgpSpeaker>>,
}

/// What the speakers know, for the admin pages; nothing once they have ended.
pub(crate) struct AddressStatus(Arc<Speakers>);

impl AddressOptions {
    /// # Errors
    /// A group that was asked for and cannot be formed.
    pub(crate) fn new(settings: &Settings) -> anyhow::Result<Self> {
        let node = settings.node_name();
        let this = ObjectRef::new("Node", ObjectKey::new("", &*node));
        let Asked { options: group, following, problems } = group::options(settings, &this)?;
        if let Some(group) = &group {
            let peers = group.peers.len();
            tracing::info!(node, port = group.port, peers, "shares addresses with its group");
        }
        let (drain, bgp_grace) = (settings.address_drain_time(), settings.bgp_grace);
        let sysctls =
            settings.state_dir.as_deref().map(SharedSysctls::noted_in).unwrap_or_default();
        let (notes, agreed) = (None, None);
        Ok(Self { node, group, following, drain, bgp_grace, sysctls, problems, notes, agreed })
    }

    /// Names the receiver of the notes of the group's other nodes, on a thread that must not wait, and a secret that all
    /// nodes share, as soon as its key is known and with each other one. False if there is no group.
    pub(crate) fn share(
        &mut self,
        purpose: &'static str,
        agree: impl Fn(&[u8; 32]) + Send + Sync + 'static,
        hear: impl Fn(Note) + Send + Sync + 'static,
    ) -> bool {
        if let Some(secret) = self.group_secret(purpose) {
            agree(&secret);
        }
        self.notes = Some(Arc::new(hear));
        self.agreed = Some(Arc::new(move |key| agree(&key.derive(purpose))));
        self.group.is_some()
    }

    /// A secret that the nodes of the group share, where the command line has its key.
    pub(crate) fn group_secret(&self, purpose: &str) -> Option<[u8; 32]> {
        Some(self.group.as_ref()?.key.as_ref()?.derive(purpose))
    }
}

impl Addresses {
    /// Addresses whose speakers have yet to be started. A node whose `health` fails has no address. `events` is
    /// called on their threads: it must not block.
    pub(crate) fn new(
        options: AddressOptions,
        health: Health,
        events: impl Fn(Event) + Send + Sync + 'static,
    ) -> Self {
        let AddressOptions { node, group, following, drain, bgp_grace, sysctls, .. } = options;
        let (problems, agreed) = (options.problems, options.agreed);
        // Only the nodes of a group can forward connections from a router.
        let state = AddressState::new(&node, drain, group.is_some(), problems);
        let l2 = SpeakerOptions {
            node: node.clone(),
            group,
            drain_time: drain,
            health: Some(Arc::clone(&health)),
            notes: options.notes,
            sysctls: sysctls.clone(),
            ..SpeakerOptions::default()
        };
        let bgp = BgpSpeakerOptions {
            node,
            grace: bgp_grace,
            health: Some(health),
            loopback: l2.loopback.clone(),
            sysctls,
            ..BgpSpeakerOptions::default()
        };
        Self {
            state,
            following,
            agreed,
            routed: RoutedAddresses::default(),
            bgp_grace,
            starter: Starter { l2, bgp, events: Arc::new(events) },
            wanted: (None, None, None),
            status: Arc::default(),
            bgp: None,
            l2: None,
        }
    }

    /// Starts both speakers.
    ///
    /// # Errors
    /// No thread, no socket.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        self.start_l2(None)?;
        self.start_bgp()
    }

    /// Gets ready to take over what a predecessor on this node has, which goes by this incarnation in its group.
    /// The speaker that is returned says when it is ready.
    ///
    /// # Errors
    /// No thread, no socket.
    pub(crate) fn prepare(&mut self, incarnation: [u8; 16]) -> anyhow::Result<Arc<Speaker>> {
        self.start_l2(Some(Predecessor { incarnation }))
    }

    /// The predecessor is gone. It has left its addresses (the sequence of its last heartbeat), or it has not:
    /// then this process begins as after a crash.
    ///
    /// # Errors
    /// No thread, no socket.
    pub(crate) fn succeed(&mut self, left: Option<u64>) -> anyhow::Result<()> {
        if self.l2.is_none() {
            self.start_l2(None)?;
        }
        if let Some(l2) = &self.l2 {
            l2.succeed(left.unwrap_or_default());
        }
        self.start_bgp()
    }

    /// How this node's group knows this process, and the sequence of its last heartbeat.
    pub(crate) fn known_as(&self) -> Option<([u8; 16], u64)> {
        self.l2.as_ref().map(|l2| (l2.incarnation(), l2.sequence()))
    }

    /// Ends both speakers and leaves every address to a successor on this node. Returns what it has to be told;
    /// `None` if they did not end in time.
    pub(crate) fn leave(&mut self) -> Option<u64> {
        if let Some(bgp) = &self.bgp
            && !bgp.abandon_and_wait(LEAVE)
        {
            return None;
        }
        self.l2.as_ref()?.leave_and_wait(LEAVE)
    }

    fn start_l2(&mut self, predecessor: Option<Predecessor>) -> anyhow::Result<Arc<Speaker>> {
        let options = SpeakerOptions { predecessor, ..self.starter.l2.clone() };
        let events = Arc::clone(&self.starter.events);
        let l2 = Speaker::start(options, move |event| events(Event::L2(event)))
            .context("cannot start the speaker")?;
        let l2 = Arc::new(l2);
        // The group before the addresses: nothing is claimed that its other nodes do not hear of.
        if let Some((key, peers)) = &self.wanted.2 {
            l2.group(key.clone(), peers.clone());
        }
        if self.routed != RoutedAddresses::default() {
            l2.routed(self.routed.clone());
        }
        if let Some(plan) = &self.wanted.0 {
            l2.apply(plan.clone());
        }
        // It is started once.
        let _ = self.status.l2.set(Arc::downgrade(&l2));
        self.l2 = Some(Arc::clone(&l2));
        Ok(l2)
    }

    fn start_bgp(&mut self) -> anyhow::Result<()> {
        let events = Arc::clone(&self.starter.events);
        let options = self.starter.bgp.clone();
        let bgp = BgpSpeaker::start(options, move |event| events(Event::Bgp(event)))
            .context("cannot start the BGP speaker")?;
        let bgp = Arc::new(bgp);
        if let Some(plan) = &self.wanted.1 {
            bgp.apply(BgpPlan::clone(plan));
        }
        // It is started once.
        let _ = self.status.bgp.set(Arc::downgrade(&bgp));
        self.bgp = Some(bgp);
        Ok(())
    }

    /// What the speakers know, as long as they run.
    pub(crate) fn status(&self) -> AddressStatus {
        AddressStatus(Arc::clone(&self.status))
    }

    /// Announces what the configuration allows and the listeners serve, and no more than that.
    /// `serves`: whether an address is served but for its listeners.
    pub(crate) fn apply(
        &mut self,
        compiled: &Compiled,
        listeners: &Listeners,
        serves: impl Fn(IpAddr) -> bool,
    ) -> Changes {
        // The group before the addresses: nothing is claimed that its other nodes do not hear of.
        let following = self.following.as_mut();
        if let Some((key, peers)) = following.and_then(|it| it.news(&compiled.group)) {
            if let (Some(agreed), Some(key)) = (&self.agreed, &key) {
                agreed(key);
            }
            self.l2.iter().for_each(|l2| l2.group(key.clone(), peers.clone()));
            self.wanted.2 = Some((key, peers));
        }
        let by_kernel = compiled.kernel.rules.ports.keys().map(|(ip, ..)| *ip);
        let without_listener = by_kernel.chain(compiled.forwarded.iter().copied()).collect();
        let mut open = open::open_addresses(&compiled.listeners, &without_listener, |plan| {
            listeners.is_open(plan)
        });
        open.addresses.retain(|ip| serves(*ip));
        open.without_endpoint = compiled.without_endpoint.clone();
        let (orders, changes) =
            self.state.apply(&compiled.vips, &compiled.bgp, open, Instant::now());
        let Orders { vips, bgp, routed } = orders;
        // The first plan is one even with nothing in it: what succeeds another process waits for it.
        let first = self.wanted.0.is_none().then(VipPlan::default);
        if let Some(plan) = vips.or(first) {
            self.l2.iter().for_each(|l2| l2.apply(plan.clone()));
            self.wanted.0 = Some(plan);
        }
        if let Some(plan) = bgp {
            self.bgp.iter().for_each(|bgp| bgp.apply(BgpPlan::clone(&plan)));
            self.wanted.1 = Some(plan);
        }
        if let Some(routed) = routed {
            self.tell_group(routed);
        }
        changes
    }

    /// Takes note of what a speaker did; says what it means for connections.
    pub(crate) fn heard(&mut self, event: Event, now: Instant) -> Option<(IpAddr, Change)> {
        self.state.heard(event, now)
    }

    /// True while the address is wanted or still on an interface.
    pub(crate) fn holds(&self, ip: IpAddr) -> bool {
        self.state.holds(ip)
    }

    /// Whether some address waits for its connections to end.
    pub(crate) fn is_draining(&self) -> bool {
        self.state.is_draining()
    }

    /// Addresses of a link that another node has taken over and that are still usable here.
    pub(crate) fn draining(&self) -> Arc<[IpAddr]> {
        self.state.draining()
    }

    /// Ends the draining of addresses that every connection has left. `left` counts them; `None` while
    /// that is not known. True if [`apply`](Self::apply) has something to do.
    pub(crate) fn release_drained(
        &mut self,
        left: impl Fn(IpAddr) -> Option<usize>,
        now: Instant,
    ) -> bool {
        let (gone, changed) = self.state.release_drained(left, now);
        if let Some(l2) = &self.l2 {
            gone.into_iter().for_each(|ip| l2.let_go(ip));
        }
        changed
    }

    /// What is wrong now, as problems of the Services, the peers and the node. `peer` finds the object
    /// behind the name of a BGPPeer.
    pub(crate) fn problems(
        &mut self,
        peer: impl Fn(&str) -> Option<ObjectKey>,
        now: Instant,
    ) -> Vec<Problem> {
        let status = self.status();
        self.state.problems(&status.l2(), &status.bgp(), peer, now)
    }

    /// Announced addresses and their interfaces.
    pub(crate) fn announced(&self) -> Vec<Announced> {
        self.state.announced()
    }

    /// The first step of a stop: has other nodes forward what is open here. Says which connections are to
    /// leave while routers still lead here.
    pub(crate) fn begin_stop(&mut self) -> Changes {
        let (leaving, changes) = self.state.begin_stop();
        if let (Some(leaving), Some(l2)) = (leaving, &self.l2)
            && !l2.routed_and_wait(leaving, FORWARDED)
        {
            tracing::warn!("other nodes may not pass on what is open here");
        }
        changes
    }

    /// The second step: other nodes take the addresses over and routers prefer other ways, then hear that
    /// there is none here any more. Every address stays on its interface for open connections.
    pub(crate) fn hand_over(&self) {
        let (Some(bgp), Some(l2)) = (&self.bgp, &self.l2) else { return };
        // Routers begin at once, and have as long as the other nodes take beside their own time.
        bgp.drain_and_wait(Duration::ZERO);
        if !l2.hand_over_and_wait(HAND_OVER) {
            tracing::warn!("addresses have not been taken over after {HAND_OVER:?}");
        }
        if !bgp.drain_and_wait(self.bgp_grace + ROUTERS) {
            tracing::warn!("not every router has been told after {ROUTERS:?} that this node stops");
        }
    }

    /// The last step: takes every address of a link off. Those of routers go when this is dropped.
    pub(crate) fn withdraw(&mut self) {
        // What is left is cut, so no node needs to forward it.
        self.tell_group(RoutedAddresses::default());
        if let Some(l2) = &self.l2
            && !l2.withdraw_all_and_wait(WITHDRAW)
        {
            tracing::warn!("addresses are still on an interface after {WITHDRAW:?}");
        }
    }

    /// Tells the nodes of the group which addresses routers lead here.
    fn tell_group(&mut self, routed: RoutedAddresses) {
        if routed != self.routed {
            self.routed = routed.clone();
            self.l2.iter().for_each(|l2| l2.routed(routed.clone()));
        }
    }
}

impl AddressStatus {
    /// What the L2 speaker knows.
    pub(crate) fn l2(&self) -> Arc<SpeakerStatus> {
        let l2 = self.0.l2.get().and_then(Weak::upgrade);
        l2.map(|speaker| speaker.status()).unwrap_or_default()
    }

    /// Tells the other nodes of the group something; nobody if there is no speaker.
    pub(crate) fn tell(&self, notes: Vec<Vec<u8>>) {
        if let Some(l2) = self.0.l2.get().and_then(Weak::upgrade) {
            l2.tell(notes);
        }
    }

    /// The same of the BGP speaker.
    pub(crate) fn bgp(&self) -> Arc<BgpStatus> {
        let bgp = self.0.bgp.get().and_then(Weak::upgrade);
        bgp.map(|speaker| speaker.status()).unwrap_or_default()
    }
}
