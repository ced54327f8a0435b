//! Keeps the planned addresses on the interfaces and announces them, on one thread of its own.
//!
//! The gateway starts one [`Speaker`], hands it every new plan and hears what became of it. This
//! file is what the gateway sees; the thread is `driver`'s. Nothing of the data path runs there, so
//! load cannot cost an address.

mod driver;
mod options;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::kernel::mailbox;
use crate::l2::group::Routed;
use crate::plan::VipPlan;
use crate::refusal::Refusal;
use driver::Driver;

pub use options::{DEFAULT_GROUP_PORT, GroupOptions, Health, SpeakerOptions};
pub use status::{MemberStatus, SpeakerCounters, SpeakerStatus, VipStatus};

/// What the speaker has done or could not do. Sent from its own thread: do not block, do not panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpeakerEvent {
    /// The address is on the interface and its neighbours have been told. Again after it was moved,
    /// or restored because somebody had removed it.
    Announced {
        /// The address.
        vip: IpAddr,
        /// The interface that has it.
        interface: String,
    },
    /// The address is no longer wanted, nor on any interface by our doing.
    Withdrawn {
        /// The address.
        vip: IpAddr,
    },
    /// Another node has taken the address over. It is not announced here any more, but connections
    /// that are open on it go on: end them gracefully, then say so by [`Speaker::let_go`].
    /// [`Withdrawn`](Self::Withdrawn) follows, or `Announced` if the address comes back before.
    Lingering {
        /// The address.
        vip: IpAddr,
        /// The node that has it now.
        to: String,
    },
    /// Routers may be told to lead the address, which is [`Routed::Leaving`], elsewhere: the other
    /// nodes pass on to this one what is open here, or took too long. Once for each time it leaves;
    /// alone, at once.
    Relayed {
        /// The address.
        vip: IpAddr,
        /// Another node serves it.
        elsewhere: bool,
    },
    /// What was refused about the address no longer holds, though it is not announced here: it may be
    /// on another node.
    Cleared {
        /// The address.
        vip: IpAddr,
    },
    /// The address is not announced (`severe`), or not wholly as it should be. Sent once for each
    /// reason until something changes, though it is tried again.
    Refused {
        /// The address.
        vip: IpAddr,
        /// Why: `NoInterface`, `NoCarrier`, `BroadcastAddress`, `AddressInUse` (a stranger has it),
        /// `NotPermitted`, `AddressFailed`, `WithdrawFailed`, or, not severe, `AnnouncementFailed`,
        /// `ProbeFailed`, `RenewFailed`, `AddressConflict` (a stranger uses it as well),
        /// `NodeAddress` (the node has it by itself, so that it stays when it moves), `ConnectionsCut`
        /// (they cannot go on while another node has it), `RelayFailed` (those that began on another
        /// node are not passed on to it; once for the whole node) and, once for the whole node,
        /// `ArpNotStrict`.
        refusal: Refusal,
    },
}

/// Keeps planned addresses on the interfaces of this node and announces them by ARP and NDP.
///
/// Works in the network namespace of the thread that starts it. Dropping it is [`stop`](Self::stop).
#[derive(Debug)]
pub struct Speaker(mailbox::Errand<Wish, Progress, SpeakerStatus>);

type Desk = mailbox::Desk<Wish, Progress, SpeakerStatus>;

/// What the owner wants; only the latest counts.
#[derive(Clone, Debug, Default)]
struct Wish {
    plan: Arc<VipPlan>,
    routed: Arc<RoutedAddresses>,
    drain: bool,
    /// Nothing lingers either.
    withdraw: bool,
    /// Lingering addresses without connections, since the thread last looked.
    let_go: Vec<IpAddr>,
    stop: bool,
}

impl Wish {
    fn withdraw(&mut self) {
        self.plan = Arc::default();
        self.withdraw = true;
    }
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
    to_relay: usize,
}

impl Speaker {
    /// Starts the thread; it holds nothing before the first [`apply`](Self::apply). Fails if there can
    /// be no thread, or no netlink socket; missing privileges show later, as events.
    pub fn start(
        options: SpeakerOptions,
        events: impl Fn(SpeakerEvent) + Send + 'static,
    ) -> io::Result<Self> {
        let name = options.name.clone();
        let make = move |desk| Driver::new(options, desk, events);
        mailbox::Errand::start(name, make, Driver::run).map(Self)
    }

    /// Hands over a plan and returns at once; only the latest counts, an equal one changes nothing.
    pub fn apply(&self, plan: VipPlan) {
        self.0.ask(|wish| {
            wish.plan = Arc::new(plan);
            wish.withdraw = false;
        });
    }

    /// Which addresses routers lead to this node; replaces what was said before. In a group the nodes
    /// tell each other, so that connections survive when one [leaves](Routed::Leaving).
    pub fn routed(&self, routed: RoutedAddresses) {
        self.0.ask(|wish| wish.routed = Arc::new(routed));
    }

    /// As [`routed`](Self::routed); true when routers may be told of every address that is leaving. In
    /// a group without a mute node, within milliseconds; never longer than half a second.
    pub fn routed_and_wait(&self, routed: RoutedAddresses, timeout: Duration) -> bool {
        let serial = self.0.ask(|wish| wish.routed = Arc::new(routed));
        self.0.wait_for(serial, timeout, |done| done.to_relay == 0)
    }

    /// Ends the lingering of an address: no connection is left on it. Nothing happens to an address
    /// that does not linger.
    pub fn let_go(&self, vip: IpAddr) {
        self.0.ask(|wish| wish.let_go.push(vip));
    }

    /// Hands everything that is held to other nodes, and goes on doing so until it is stopped. True
    /// when each address has been taken over, or could be by nobody, which stays held and announced;
    /// alone, at once.
    pub fn hand_over_and_wait(&self, timeout: Duration) -> bool {
        let serial = self.0.ask(|wish| wish.drain = true);
        self.0.wait_for(serial, timeout, |done| done.to_hand_over == 0)
    }

    /// Withdraws everything, at once or, where another node takes over, when it has; nothing lingers.
    /// True when no address is left on an interface in time. False as well if another plan is applied
    /// meanwhile.
    pub fn withdraw_all_and_wait(&self, timeout: Duration) -> bool {
        let serial = self.0.ask(Wish::withdraw);
        self.0.wait_for(serial, timeout, |done| done.held == 0)
    }

    /// What is known now, at most a second old; cheap.
    pub fn status(&self) -> Arc<SpeakerStatus> {
        self.0.status()
    }

    /// Withdraws everything (at most 5 s are spent on that) and ends the thread.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.0.ask(|wish| {
            wish.withdraw();
            wish.stop = true;
        });
        if !self.0.join() {
            warn!("the speaker's thread has panicked; the kernel removes its addresses in time");
        }
    }
}
