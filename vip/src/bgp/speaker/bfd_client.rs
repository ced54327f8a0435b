//! BFD of the sessions: which routers are watched, between which addresses, and what came of it.
//!
//! The driver owns one [`BfdClient`]. The thread of the sessions is that of `kernel::sockets::bfd`; it
//! starts with the first router that is watched. A router is watched from the moment its BGP session is
//! up for the first time, also while that session is down later. A router that is no longer watched is
//! told so, or it would take this node for dead; the same goes for a router whose BFD session has
//! panicked, until it is watched again.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::{Arc, atomic::Ordering::Relaxed, mpsc},
    time::{Duration, Instant},
};

use tracing::{error, info, warn};

use super::{
    Mailbox,
    status::{BfdPackets, BfdState, BfdStatus},
};
use crate::{
    bgp::bfd::{Action, Packet, Session, Settings, State},
    kernel::sockets::bfd::{self, Bfd, Hops, News, Output, Outputs, Path},
};

/// For how long this end tells a router that it is not watched any more; it may have missed the first word.
const GOODBYE: Duration = Duration::from_secs(1);

/// Until a session that has panicked begins anew: the first time, and at the most.
const RESTART: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A session that has lasted so long was a good one: the wait begins with the first again.
const LASTING: Duration = Duration::from_secs(600);

/// What BFD finds out about a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Liveness {
    /// It is there.
    Up,
    /// It was there, and is not any more, and why.
    Down(String),
    /// Its operator has taken BFD down; that says nothing about the router (RFC 5882 §3.2).
    Paused,
}

/// A session as the thread runs it.
#[derive(Debug)]
pub(super) struct Watched(Session);

/// A router that is watched.
#[derive(Debug)]
struct Router {
    discriminator: u32,
    path: Path,
    settings: Settings,
    status: BfdStatus,
    panics: Panics,
}

/// How often the session with a router has panicked.
#[derive(Clone, Copy, Debug, Default)]
struct Panics {
    /// One soon after the other.
    count: u32,
    last: Option<Instant>,
    /// It is held down until then.
    until: Option<Instant>,
}

/// All of them, by the name of the peer.
pub(super) struct BfdClient {
    news: mpsc::Sender<(u32, News<Liveness>)>,
    mailbox: Arc<Mailbox>,
    thread: Option<Bfd<Watched>>,
    routers: BTreeMap<String, Router>,
    /// Sessions that say goodbye, and until when.
    leaving: Vec<(Instant, u32)>,
    next: u32,
}

impl Panics {
    /// Counts one; for how long the session is to be held down.
    fn another(&mut self, now: Instant) -> Duration {
        if self.last.is_none_or(|last| last + LASTING <= now) {
            self.count = 0;
        }
        let (first, most) = RESTART;
        let wait = first.saturating_mul(1 << self.count.min(16)).min(most);
        self.count = self.count.saturating_add(1);
        (self.last, self.until) = (Some(now), Some(now + wait));
        wait
    }
}

impl Watched {
    fn new(discriminator: NonZeroU32, path: &Path, settings: Settings, now: Instant) -> Self {
        let seed = u64::from(discriminator.get());
        Self(Session::new(settings, path.hops == Hops::Multi, discriminator, seed, now))
    }

    fn outputs(&self, actions: Vec<Action>) -> Outputs<Self> {
        let paused = self.0.remote_state() == State::AdminDown;
        let output = |action| match action {
            Action::Send(packet) => Output::Send(packet),
            Action::Up => Output::Event(Liveness::Up),
            Action::Down(_) if paused => Output::Event(Liveness::Paused),
            Action::Down(why) => Output::Event(Liveness::Down(why.to_string())),
        };
        actions.into_iter().map(output).collect()
    }
}

impl bfd::Session for Watched {
    type Event = Liveness;

    fn discriminator(&self) -> u32 {
        self.0.discriminator().get()
    }

    fn receive(&mut self, payload: &[u8], ttl: u8, now: Instant) -> Option<Outputs<Self>> {
        // What makes no sense is dropped (RFC 5880 §6.8.6).
        let packet = Packet::decode(payload).ok()?;
        let actions = self.0.receive(&packet, ttl, now).ok()?;
        Some(self.outputs(actions))
    }

    fn tick(&mut self, now: Instant) -> Outputs<Self> {
        let actions = self.0.tick(now);
        self.outputs(actions)
    }

    fn deadline(&self) -> Option<Instant> {
        self.0.deadline()
    }
}

impl BfdClient {
    /// Watches no router yet. `first` should differ from start to start: routers know sessions by it.
    pub(super) fn new(
        news: mpsc::Sender<(u32, News<Liveness>)>,
        mailbox: Arc<Mailbox>,
        first: u32,
    ) -> Self {
        let (routers, leaving) = (BTreeMap::new(), Vec::new());
        Self { news, mailbox, thread: None, routers, leaving, next: first }
    }

    /// Watches a router whose BGP session runs between these addresses.
    pub(super) fn follow(
        &mut self,
        peer: &str,
        settings: Settings,
        (local, remote): (IpAddr, SocketAddr),
        multi_hop: bool,
        now: Instant,
    ) {
        let interface = match remote {
            SocketAddr::V6(remote) if remote.scope_id() != 0 => Some(remote.scope_id()),
            _ => None,
        };
        let hops = match multi_hop {
            true => Hops::Multi,
            false => Hops::Single,
        };
        let path = Path { remote: remote.ip(), local: Some(local), interface, hops };
        match self.routers.get_mut(peer) {
            Some(router) if router.path == path => {
                if router.settings != settings {
                    router.settings = settings;
                    if let Some(thread) = &self.thread {
                        thread.change(router.discriminator, move |watched, now| {
                            watched.0.reconfigure(settings, now);
                            Outputs::<Watched>::new()
                        });
                    }
                }
                return;
            }
            Some(_) => self.forget(peer, now),
            None => {}
        }
        self.add(peer, settings, path, now);
    }

    /// Watches a router no longer, and tells it so.
    pub(super) fn forget(&mut self, peer: &str, now: Instant) {
        let Some(router) = self.routers.remove(peer) else { return };
        if let Some(thread) = &self.thread {
            thread.change(router.discriminator, |watched, now| {
                let actions = watched.0.set_admin_down(true, now);
                watched.outputs(actions)
            });
            self.leaving.push((now + GOODBYE, router.discriminator));
        }
    }

    /// As [`forget`](Self::forget), for all.
    pub(super) fn forget_all(&mut self, now: Instant) {
        for peer in self.routers.keys().cloned().collect::<Vec<_>>() {
            self.forget(&peer, now);
        }
    }

    /// Watches only those for which `keep` holds.
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool, now: Instant) {
        let gone: Vec<_> = self.routers.keys().filter(|peer| !keep(peer)).cloned().collect();
        gone.iter().for_each(|peer| self.forget(peer, now));
    }

    /// Takes note of what the thread says; the peer whose router is gone, if that is what it says.
    pub(super) fn heard(
        &mut self,
        discriminator: u32,
        news: News<Liveness>,
        now: Instant,
    ) -> Option<String> {
        let found =
            self.routers.iter_mut().find(|(_, router)| router.discriminator == discriminator);
        let (peer, router) = found?;
        match news {
            News::Session(Liveness::Up) => {
                info!(peer, "BFD session up");
                router.status =
                    BfdStatus { state: BfdState::Up, error: None, ups: router.status.ups + 1 };
            }
            News::Session(Liveness::Down(why)) => {
                warn!(peer, why, "BFD session down");
                router.status.state = BfdState::Down;
                router.status.error = Some(why);
                return Some(peer.clone());
            }
            News::Session(Liveness::Paused) => {
                router.status.state = BfdState::Down;
                router.status.error = Some("taken down by the router's operator".to_owned());
            }
            News::Fault(why) => {
                warn!(peer, why, "BFD cannot speak or hear");
                router.status.error = Some(why);
            }
            News::Broken(why) => {
                let wait = router.panics.another(now);
                error!(peer, why, ?wait, "the BFD session has panicked and is started again");
                router.status.state = BfdState::Down;
                router.status.error = Some(format!(
                    "its session ended by an error of this program ({why}) and starts again after \
                     {wait:?}"
                ));
                let same = NonZeroU32::new(discriminator);
                if let (Some(thread), Some(same)) = (&self.thread, same) {
                    let session = Watched::new(same, &router.path, router.settings, now);
                    // That says nothing about the router, and the router must not take this node for dead.
                    thread.add(router.path.clone(), Watched(session.0.held_down()));
                }
            }
        }
        None
    }

    /// Ends the goodbyes that have lasted long enough, and watches the routers again that were held down for
    /// long enough.
    pub(super) fn expire(&mut self, now: Instant) {
        let Some(thread) = &self.thread else { return };
        for router in self.routers.values_mut() {
            if router.panics.until.take_if(|until| *until <= now).is_some() {
                thread.change(router.discriminator, |watched, now| {
                    let actions = watched.0.set_admin_down(false, now);
                    watched.outputs(actions)
                });
            }
        }
        self.leaving.retain(|(until, discriminator)| {
            let over = *until <= now;
            if over {
                thread.remove(*discriminator);
            }
            !over
        });
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let held_down = self.routers.values().filter_map(|router| router.panics.until);
        self.leaving.iter().map(|(until, _)| *until).chain(held_down).min()
    }

    /// What there is to tell of a peer; `None` if its router is not watched (yet).
    pub(super) fn status(&self, peer: &str) -> Option<BfdStatus> {
        self.routers.get(peer).map(|router| router.status.clone())
    }

    /// What has passed, in all.
    pub(super) fn packets(&self) -> BfdPackets {
        let Some(thread) = &self.thread else { return BfdPackets::default() };
        let counters = thread.counters();
        BfdPackets {
            sent: counters.sent.load(Relaxed),
            received: counters.received.load(Relaxed),
            unsent: counters.unsent.load(Relaxed),
            strange: counters.strange.load(Relaxed),
            discarded: counters.discarded.load(Relaxed),
        }
    }

    fn add(&mut self, peer: &str, settings: Settings, path: Path, now: Instant) {
        let discriminator = loop {
            self.next = self.next.wrapping_add(1);
            if let Some(discriminator) = NonZeroU32::new(self.next) {
                break discriminator;
            }
        };
        let mut status = BfdStatus { state: BfdState::Down, error: None, ups: 0 };
        match self.thread() {
            Ok(thread) => {
                let session = Watched::new(discriminator, &path, settings, now);
                thread.add(path.clone(), session);
            }
            Err(error) => status.error = Some(format!("there is no thread for BFD: {error}")),
        }
        let discriminator = discriminator.get();
        let panics = Panics::default();
        let router = Router { discriminator, path, settings, status, panics };
        self.routers.insert(peer.to_owned(), router);
    }

    fn thread(&mut self) -> io::Result<&Bfd<Watched>> {
        let thread = match self.thread.take() {
            Some(thread) => thread,
            None => {
                let (sender, mailbox) = (self.news.clone(), Arc::clone(&self.mailbox));
                Bfd::start("bfd", move |discriminator, news| {
                    // The driver listens until it ends.
                    let _ = sender.send((discriminator, news));
                    mailbox.wake.notify();
                })?
            }
        };
        Ok(self.thread.insert(thread))
    }
}

#[cfg(test)]
mod tests;
