//! Tells routers by BGP which addresses this node serves, on one thread of its own.
//!
//! The gateway starts one [`BgpSpeaker`], hands it every new plan and hears what became of it. This
//! file is what the gateway sees; the thread is `driver`'s. It has the sockets and the clock; the
//! sessions themselves are [`bgp::Session`](crate::bgp::Session)s. An address is announced when it is
//! on the loopback interface, and leaves that only after it was withdrawn.

mod acceptors;
mod announced;
mod bfd_client;
mod driver;
mod next_hop;
mod peer_driver;
mod status;
mod unnumbered;

use std::{fmt, io, net::Ipv4Addr, sync::Arc, time::Duration};

use tracing::warn;

use crate::{
    bgp::BgpPlan,
    event::BgpEvent,
    kernel::{loopback::SharedLoopback, mailbox, sysctl::SharedSysctls, turn::Health},
};
use driver::Driver;

pub use status::{BfdPackets, BfdState, BfdStatus, BgpStatus, Messages, PeerStatus, Prefixes};

/// The port of BGP (RFC 4271 §2).
pub const BGP_PORT: u16 = 179;

/// How long routers have to prefer other ways before the announcements are withdrawn, if nothing else
/// is said.
const DEFAULT_GRACE: Duration = Duration::from_secs(1);

/// Settings of the [`BgpSpeaker`].
#[derive(Clone)]
pub struct BgpSpeakerOptions {
    /// Name of its thread, in `top -H` and in logs; the kernel keeps the first 15 bytes.
    pub name: String,
    /// Name of this node; a node without an IPv4 address gets its BGP Identifier from it.
    pub node: String,
    /// BGP Identifier where a peer names no other one; `None` for the node's first IPv4 address.
    pub router_id: Option<Ipv4Addr>,
    /// TCP port that routers may dial. Default 179.
    pub port: u16,
    /// How long announcements are marked as GRACEFUL_SHUTDOWN (RFC 8326) before they are withdrawn
    /// when the node stops. Default 1 s.
    pub grace: Duration,
    /// Whether the data path works; while it does not, nothing is announced. `None`: always.
    pub health: Option<Health>,
    /// The same as that of the [`Speaker`](crate::Speaker), if there is one. Default one of its own.
    pub loopback: SharedLoopback,
    /// The same as well. Default one of its own, which other processes know nothing of.
    pub sysctls: SharedSysctls,
}

/// Tells routers by BGP which addresses this node serves.
///
/// Works in the network namespace of the thread that starts it. Dropping it is [`stop`](Self::stop).
#[derive(Debug)]
pub struct BgpSpeaker(mailbox::ThreadHandle<Desired, Progress, BgpStatus>);

type Mailbox = mailbox::Mailbox<Desired, Progress, BgpStatus>;

/// What the owner wants; only the latest counts.
#[derive(Clone, Debug, Default)]
struct Desired {
    plan: Arc<BgpPlan>,
    drain: bool,
    abandon: bool,
    stop: bool,
}

/// How far the thread is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    /// Nothing is announced any more, and all routers know.
    drained: bool,
}

impl Default for BgpSpeakerOptions {
    fn default() -> Self {
        Self {
            name: "bgp".to_owned(),
            node: String::new(),
            router_id: None,
            port: BGP_PORT,
            grace: DEFAULT_GRACE,
            health: None,
            loopback: SharedLoopback::default(),
            sysctls: SharedSysctls::default(),
        }
    }
}

impl fmt::Debug for BgpSpeakerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BgpSpeakerOptions")
            .field("name", &self.name)
            .field("node", &self.node)
            .field("router_id", &self.router_id)
            .field("port", &self.port)
            .field("grace", &self.grace)
            .field("health", &self.health.is_some())
            .finish()
    }
}

impl BgpSpeaker {
    /// Starts the thread; it neither dials nor listens before the first [`apply`](Self::apply) of a plan
    /// with peers. Fails if there can be no thread, or no netlink socket; missing privileges show later,
    /// as events and in the status.
    pub fn start(
        options: BgpSpeakerOptions,
        events: impl Fn(BgpEvent) + Send + 'static,
    ) -> io::Result<Self> {
        let name = options.name.clone();
        let make = move |mailbox| Driver::new(options, mailbox, events);
        mailbox::ThreadHandle::start(name, make, Driver::run).map(Self)
    }

    /// Hands over a plan and returns at once; only the latest counts. Sessions and routes that are the
    /// same as before are not touched.
    pub fn apply(&self, plan: BgpPlan) {
        self.0.ask(|desired| desired.plan = Arc::new(plan));
    }

    /// Leaves well: marks every announcement as GRACEFUL_SHUTDOWN, withdraws it after the grace period,
    /// then ends all sessions with a Cease. The addresses stay on the loopback interface for the
    /// connections that are open on them, until [`stop`](Self::stop). True if all is done in time;
    /// nothing is announced any more after that, whatever is applied.
    pub fn drain_and_wait(&self, timeout: Duration) -> bool {
        let serial = self.0.ask(|desired| desired.drain = true);
        self.0.wait_for(serial, timeout, |done| done.drained)
    }

    /// Ends the thread as if the process had been killed: sessions end without a word, so that a router which
    /// knows graceful restart (RFC 4724) keeps its routes for a successor on this node, and the addresses stay
    /// on the loopback interface for it. True if the thread has ended in time.
    pub fn abandon_and_wait(&self, timeout: Duration) -> bool {
        let serial = self.0.ask(|desired| desired.abandon = true);
        self.0.wait_for(serial, timeout, |done| done.drained)
    }

    /// What is known now, at most a second old; cheap.
    pub fn status(&self) -> Arc<BgpStatus> {
        self.0.status()
    }

    /// Ends the sessions with a Cease, takes the addresses off (at most 3 s are spent on that) and ends
    /// the thread.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for BgpSpeaker {
    fn drop(&mut self) {
        self.0.ask(|desired| desired.stop = true);
        if !self.0.join() {
            warn!("the BGP thread has panicked; routers forget this node in time");
        }
    }
}
