//! Keeps the planned addresses on the interfaces and announces them, on one thread of its own.
//!
//! The gateway starts one [`Speaker`], hands it every new plan and hears what became of it. This
//! file is what the gateway sees; the thread is `driver`'s. Nothing of the data path runs there, so
//! load cannot cost an address.

mod driver;
mod options;
mod status;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tracing::warn;

use crate::{
    event::SpeakerEvent,
    kernel::mailbox,
    l2::group::{GroupKey, Routed},
    plan::VipPlan,
};
use driver::Driver;

pub use options::{DEFAULT_GROUP_PORT, GroupOptions, NoteSink, Predecessor, SpeakerOptions};
pub use status::{MemberStatus, SpeakerCounters, SpeakerStatus, VipStatus};

/// Keeps planned addresses on the interfaces of this node and announces them by ARP and NDP.
///
/// Works in the network namespace of the thread that starts it. Dropping it is [`stop`](Self::stop).
#[derive(Debug)]
pub struct Speaker {
    thread: mailbox::ThreadHandle<Desired, Progress, SpeakerStatus>,
    incarnation: [u8; 16],
    /// Of the last heartbeat.
    sequence: Arc<AtomicU64>,
}

type Mailbox = mailbox::Mailbox<Desired, Progress, SpeakerStatus>;

/// What the owner wants; only the latest counts.
#[derive(Clone, Debug, Default)]
struct Desired {
    plan: Arc<VipPlan>,
    /// There has been a plan.
    planned: bool,
    routed: Arc<RoutedAddresses>,
    /// `None`: as at the start.
    members: Option<Arc<Members>>,
    drain: bool,
    /// Draining addresses are withdrawn as well.
    withdraw: bool,
    /// Draining addresses without connections, since the thread last looked.
    let_go: Vec<IpAddr>,
    /// What the others are to hear, since then.
    notes: Vec<Vec<u8>>,
    /// The predecessor has left, and this was the sequence of its last datagram.
    succeeds: Option<u64>,
    /// Everything is left as it is.
    leave: bool,
    stop: bool,
}

impl Desired {
    fn withdraw(&mut self) {
        self.plan = Arc::default();
        self.withdraw = true;
    }
}

/// How this node finds and trusts the others now.
#[derive(Debug)]
struct Members {
    /// `None`: still the one before.
    key: Option<GroupKey>,
    peers: Vec<SocketAddr>,
}

/// What routers lead to this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutedAddresses {
    /// The addresses, which are on the loopback interface.
    pub addresses: BTreeMap<IpAddr, Routed>,
    /// Interfaces with routers where this node has no subnet (RFC 5549).
    pub interfaces: BTreeSet<String>,
}

/// How far the thread is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    /// Addresses on interfaces.
    held: usize,
    /// Those of them that another node could take over.
    to_hand_over: usize,
    /// Addresses that are leaving, and not all other nodes pass on yet.
    to_forward: usize,
    /// What a predecessor leaves can be taken over.
    prepared: bool,
    /// The thread has ended and left everything as it was.
    left: bool,
}

impl Speaker {
    /// Starts the thread; it holds nothing before the first [`apply`](Self::apply). Fails if there can
    /// be no thread, or no netlink socket; missing privileges show later, as events.
    pub fn start(
        options: SpeakerOptions,
        events: impl Fn(SpeakerEvent) + Send + 'static,
    ) -> io::Result<Self> {
        let name = options.name.clone();
        let mut incarnation = [0; 16];
        match &options.predecessor {
            Some(predecessor) => incarnation = predecessor.incarnation,
            None => aws_lc_rs::rand::fill(&mut incarnation).map_err(io::Error::other)?,
        }
        let sequence = Arc::new(AtomicU64::new(0));
        let theirs = Arc::clone(&sequence);
        let make = move |mailbox| Driver::new(options, (incarnation, theirs), mailbox, events);
        let thread = mailbox::ThreadHandle::start(name, make, Driver::run)?;
        Ok(Self { thread, incarnation, sequence })
    }

    /// Hands over a plan and returns at once; only the latest counts, an equal one changes nothing.
    pub fn apply(&self, plan: VipPlan) {
        self.thread.ask(|desired| {
            desired.plan = Arc::new(plan);
            (desired.planned, desired.withdraw) = (true, false);
        });
    }

    /// The key of the group (`None`: as before) and the nodes that are sent to one by one, instead of those
    /// before. No address moves for that: a key that is replaced stays good for ten minutes. Nothing happens
    /// to a node that is alone.
    pub fn group(&self, key: Option<GroupKey>, peers: Vec<SocketAddr>) {
        let members = Arc::new(Members { key, peers });
        self.thread.ask(|desired| desired.members = Some(members));
    }

    /// Which addresses routers lead to this node; replaces what was said before. In a group the nodes
    /// tell each other, so that connections survive when one [leaves](Routed::Leaving).
    pub fn routed(&self, routed: RoutedAddresses) {
        self.thread.ask(|desired| desired.routed = Arc::new(routed));
    }

    /// As [`routed`](Self::routed); true when every address that is leaving may be withdrawn from routers. In
    /// a group without a mute node, within milliseconds; never longer than half a second.
    pub fn routed_and_wait(&self, routed: RoutedAddresses, timeout: Duration) -> bool {
        let serial = self.thread.ask(|desired| desired.routed = Arc::new(routed));
        self.thread.wait_for(serial, timeout, |done| done.to_forward == 0)
    }

    /// Ends the draining of an address: no connection is left on it. Nothing happens to an address
    /// that is not draining.
    pub fn let_go(&self, vip: IpAddr) {
        self.thread.ask(|desired| desired.let_go.push(vip));
    }

    /// Tells the other nodes of the group something, at most [`LONGEST_NOTE`](crate::LONGEST_NOTE) bytes a note, which go
    /// out at once and may get lost. Alone, nobody hears them.
    pub fn tell(&self, notes: Vec<Vec<u8>>) {
        self.thread.ask(|desired| desired.notes.extend(notes));
    }

    /// Hands everything that is held to other nodes, and goes on doing so until it is stopped. True
    /// when each address has been taken over, or no other node could take it over, which stays held and
    /// announced; alone, at once.
    pub fn hand_over_and_wait(&self, timeout: Duration) -> bool {
        let serial = self.thread.ask(|desired| desired.drain = true);
        self.thread.wait_for(serial, timeout, |done| done.to_hand_over == 0)
    }

    /// Withdraws everything, at once or, where another node takes over, when it has; nothing drains.
    /// True when no address is left on an interface in time. False as well if another plan is applied
    /// meanwhile.
    pub fn withdraw_all_and_wait(&self, timeout: Duration) -> bool {
        let serial = self.thread.ask(Desired::withdraw);
        self.thread.wait_for(serial, timeout, |done| done.held == 0)
    }

    /// Tells this process from others in its group; a successor on this node goes by the same.
    pub fn incarnation(&self) -> [u8; 16] {
        self.incarnation
    }

    /// With a [predecessor](SpeakerOptions::predecessor): true when everything that it has and that is planned
    /// could be taken over at this moment.
    pub fn prepared_and_wait(&self, timeout: Duration) -> bool {
        let serial = self.thread.ask(|_| ());
        self.thread.wait_for(serial, timeout, |done| done.prepared)
    }

    /// The predecessor has left; `sequence` is what it has returned then. From now on this process speaks.
    pub fn succeed(&self, sequence: u64) {
        self.thread.ask(|desired| desired.succeeds = Some(sequence));
    }

    /// Ends the thread and leaves every address where it is, for a successor on this node. Returns what that has
    /// to know; `None` if the thread did not end in time.
    pub fn leave_and_wait(&self, timeout: Duration) -> Option<u64> {
        let serial = self.thread.ask(|desired| desired.leave = true);
        self.thread.wait_for(serial, timeout, |done| done.left).then(|| self.sequence())
    }

    /// Of the last heartbeat.
    pub fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Relaxed)
    }

    /// What is known now, at most a second old; cheap.
    pub fn status(&self) -> Arc<SpeakerStatus> {
        self.thread.status()
    }

    /// Withdraws everything (at most 5 s are spent on that) and ends the thread.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.thread.ask(|desired| {
            desired.withdraw();
            desired.stop = true;
        });
        if !self.thread.join() {
            warn!("the speaker's thread has panicked; the kernel removes its addresses in time");
        }
    }
}
