//! Keeps the planned addresses on the interfaces and announces them, on one thread of its own.
//!
//! The gateway starts one [`Speaker`], hands it every new plan and hears what became of it. This
//! file only drives: it waits for plans, for the kernel and for deadlines, and carries out what
//! [`Holdings`] asks for. Nothing of the data path runs here, so load cannot cost an address.

#![expect(
    clippy::disallowed_methods,
    reason = "the driver owns the thread, its clock and its sleeps"
)]

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::sleep_until;
use tracing::{debug, warn};

use crate::group::{Group, Timing};
use crate::holdings::{Action, Failure, FailureKind, Holdings, HoldingsOptions};
use crate::io::link::FrameSocket;
use crate::io::netlink::Netlink;
use crate::plan::VipPlan;
use crate::refusal::Refusal;
use crate::{arp, ndp};

mod options;
mod status;

pub use options::{DEFAULT_GROUP_PORT, GroupOptions, Health, SpeakerOptions};
pub use status::{MemberStatus, SpeakerCounters, SpeakerStatus, VipStatus};

/// Between two looks at the interfaces while they keep changing.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Between two looks while nothing seems to change: the kernel drops notices under pressure.
const LOOK_ANYWAY: Duration = Duration::from_secs(30);
/// After a look that failed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// For withdrawing everything when the speaker stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// What was refused about the address no longer holds, though it is not announced here: it may be on
    /// another node.
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
        /// `ConnectionsCut` (they cannot go on while another node has it) and, once for the whole
        /// node, `ArpNotStrict`.
        refusal: Refusal,
    },
}

/// Keeps planned addresses on the interfaces of this node and announces them by ARP and NDP.
///
/// Works in the network namespace of the thread that starts it. Dropping it is [`stop`](Self::stop).
#[derive(Debug)]
pub struct Speaker {
    wish: watch::Sender<Wish>,
    progress: Arc<Progress>,
    thread: Option<JoinHandle<()>>,
}

/// What the owner wants; only the latest counts.
#[derive(Debug, Default)]
struct Wish {
    serial: u64,
    plan: VipPlan,
    stop: bool,
}

/// How far the thread is: the last wish carried out, and the addresses on interfaces after that.
#[derive(Debug, Default)]
struct Progress {
    state: Mutex<(u64, usize)>,
    moved: Condvar,
}

impl Speaker {
    /// Starts the thread; it does nothing before the first [`apply`](Self::apply). Fails if there can
    /// be no thread, or no netlink socket; missing privileges show later, as events.
    pub fn start(
        options: SpeakerOptions,
        events: impl Fn(SpeakerEvent) + Send + 'static,
    ) -> io::Result<Self> {
        let (wish, wishes) = watch::channel(Wish::default());
        let progress = Arc::new(Progress::default());
        let (started, outcome) = mpsc::channel();
        let shared = progress.clone();
        let thread = std::thread::Builder::new().name(options.name).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            runtime.block_on(async move {
                match Netlink::open() {
                    Err(error) => drop(started.send(Err(error))),
                    Ok(netlink) => {
                        drop(started.send(Ok(())));
                        Driver::new(netlink, wishes, shared, events).run().await;
                    }
                }
            });
        })?;
        outcome.recv().map_err(io::Error::other)??;
        Ok(Self { wish, progress, thread: Some(thread) })
    }

    /// Hands over a plan and returns at once; only the latest counts, an equal one changes nothing.
    pub fn apply(&self, plan: VipPlan) {
        self.replace(plan, false);
    }

    /// Withdraws everything; true when no address is left on an interface in time. False as well if
    /// another plan is applied meanwhile.
    pub fn withdraw_all_and_wait(&self, timeout: Duration) -> bool {
        let serial = self.replace(VipPlan::default(), false);
        let settled = |&mut (done, held): &mut (u64, usize)| done < serial || held > 0;
        let waited = self.progress.moved.wait_timeout_while(self.progress.lock(), timeout, settled);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Ends the lingering of an address: no connection is left on it. Nothing happens to an address
    /// that does not linger.
    pub fn let_go(&self, _vip: IpAddr) {}

    /// Hands everything that is held to other nodes, and keeps on trying until it is stopped. True
    /// when each address has been taken over, or could be by nobody, which stays held and announced;
    /// alone, at once.
    pub fn hand_over_and_wait(&self, _timeout: Duration) -> bool {
        true
    }

    /// What is known now, at most a second old; cheap.
    pub fn status(&self) -> Arc<SpeakerStatus> {
        Arc::default()
    }

    /// Withdraws everything (at most 5 s are spent on that) and ends the thread.
    pub fn stop(self) {
        drop(self);
    }

    fn replace(&self, plan: VipPlan, stop: bool) -> u64 {
        let mut serial = 0;
        self.wish.send_modify(|wish| {
            serial = wish.serial + 1;
            *wish = Wish { serial, plan, stop };
        });
        serial
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.replace(VipPlan::default(), true);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            warn!("the speaker's thread has panicked; addresses may be left on interfaces");
        }
    }
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, (u64, usize)> {
        // Two numbers are as good after a panic as before.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What lives on the speaker's thread.
struct Driver<E> {
    netlink: Netlink,
    frames: FrameSocket,
    holdings: Holdings,
    group: Group,
    wishes: watch::Receiver<Wish>,
    /// Of the wish that the holdings have.
    serial: u64,
    progress: Arc<Progress>,
    events: E,
}

impl<E: Fn(SpeakerEvent)> Driver<E> {
    fn new(
        netlink: Netlink,
        wishes: watch::Receiver<Wish>,
        progress: Arc<Progress>,
        events: E,
    ) -> Self {
        let holdings = Holdings::new(HoldingsOptions {
            lifetime: Duration::from_secs(10),
            renew_every: Duration::from_millis(2500),
            linger: Duration::from_secs(30),
            adopt: true,
        });
        let frames = FrameSocket::default();
        let group =
            Group::new(String::new(), None, [0; 16], Vec::new(), Timing::default(), Instant::now());
        Self { netlink, frames, holdings, group, wishes, serial: 0, progress, events }
    }

    async fn run(mut self) {
        let mut look_at = Instant::now();
        let mut give_up: Option<Instant> = None;
        loop {
            if Instant::now() >= look_at {
                let seen = self.look().await;
                look_at = Instant::now() + if seen { LOOK_ANYWAY } else { LOOK_AGAIN };
            }
            let stop = self.take_wish();
            self.settle().await;
            *self.progress.lock() = (self.serial, self.holdings.held());
            self.progress.moved.notify_all();
            if stop {
                let limit = *give_up.get_or_insert_with(|| Instant::now() + STOP_TIMEOUT);
                if self.holdings.held() == 0 || Instant::now() >= limit {
                    return;
                }
            }
            let deadlines = [Some(look_at), self.holdings.deadline(), give_up];
            let wake = deadlines.into_iter().flatten().min().unwrap_or(look_at);
            tokio::select! {
                // Fails only if the owner is gone without a word, which its `drop` rules out.
                _ = self.wishes.changed() => {}
                () = self.netlink.changed() => {
                    look_at = look_at.min(Instant::now() + LOOK_INTERVAL);
                }
                () = sleep_until(wake.into()) => {}
            }
        }
    }

    /// Takes over the latest wish, if it is a new one; whether it is to stop.
    fn take_wish(&mut self) -> bool {
        let (plan, stop) = {
            let wish = self.wishes.borrow_and_update();
            let new = wish.serial != std::mem::replace(&mut self.serial, wish.serial);
            // The owner waits as long as this is borrowed, so no more than a copy is made.
            (new.then(|| wish.plan.clone()), wish.stop)
        };
        if let Some(plan) = plan {
            self.holdings.want(plan);
        }
        stop
    }

    async fn look(&mut self) -> bool {
        match self.netlink.links().await {
            Ok(links) => {
                self.holdings.see(links, Instant::now());
                true
            }
            Err(error) => {
                warn!(%error, "interfaces cannot be listed");
                false
            }
        }
    }

    /// Does everything that is due, and tells what came of it.
    async fn settle(&mut self) {
        loop {
            let now = Instant::now();
            if let Some(offers) = self.holdings.offers() {
                self.group.offers(offers, now);
            }
            for (ip, decision) in self.group.decisions(now) {
                self.holdings.decide(ip, decision, now);
            }
            let actions = self.holdings.due(now);
            if actions.is_empty() {
                break;
            }
            for action in actions {
                let outcome = self.perform(&action).await;
                debug!(?action, ?outcome, "speaker action");
                self.holdings.done(&action, outcome, Instant::now());
            }
        }
        for event in self.holdings.events() {
            (self.events)(event);
        }
    }

    async fn perform(&mut self, action: &Action) -> Result<(), Failure> {
        match *action {
            Action::Delete { ip, index } => self.netlink.delete(index, ip).await,
            Action::Add { ip, index, .. } => self.netlink.add(index, ip).await,
            Action::Announce { ip, index, mac } => match ip {
                IpAddr::V4(ip) => self.send(index, &arp::gratuitous(mac, ip)),
                IpAddr::V6(ip) => self.send(index, &[ndp::unsolicited(mac, ip)]),
            },
            Action::Probe { ip, index, mac } => match ip {
                IpAddr::V4(ip) => self.send(index, &[arp::probe(mac, ip)]),
                IpAddr::V6(ip) => self.send(index, &[ndp::probe(mac, ip)]),
            },
            // Addresses have no lifetime yet, and stay on their link.
            Action::Renew { .. } | Action::Strict { .. } => Ok(()),
        }
    }

    fn send(&mut self, index: u32, frames: &[Vec<u8>]) -> Result<(), Failure> {
        let mut sent = frames.iter().map(|frame| self.frames.send(index, frame));
        sent.try_for_each(|sent| sent).map_err(|error| Failure {
            kind: match error.kind() {
                io::ErrorKind::PermissionDenied => FailureKind::Denied,
                _ => FailureKind::Other,
            },
            message: error.to_string(),
        })
    }
}
