//! BFD of the sessions: which routers are watched, between which addresses, and what came of it.
//!
//! The driver owns one [`Watch`]; its thread is `io::bfd`'s and starts with the first router that is
//! watched. A router is watched from the first time that its BGP session is up, and on when that goes
//! down. One that is not watched any more is told so, lest it take this node for dead.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::Desk;
use super::status::{BfdPackets, BfdStatus};
use crate::bfd::{Action, Packet, Session, Settings, State};
use crate::io::bfd::{self, Bfd, Hops, News, Output, Outputs, Path};

/// For how long a router is told that it is not watched any more; it may have missed the first word.
const GOODBYE: Duration = Duration::from_secs(1);

/// What BFD finds out about a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
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
}

/// All of them, by the name of the peer.
pub(super) struct Watch {
    news: mpsc::Sender<(u32, News<Verdict>)>,
    desk: Arc<Desk>,
    thread: Option<Bfd<Watched>>,
    routers: BTreeMap<String, Router>,
    /// Sessions that say goodbye, and until when.
    leaving: Vec<(Instant, u32)>,
    next: u32,
}

impl Watched {
    fn outputs(&self, actions: Vec<Action>) -> Outputs<Self> {
        let paused = self.0.remote_state() == State::AdminDown;
        let output = |action| match action {
            Action::Send(packet) => Output::Send(packet),
            Action::Up => Output::Tell(Verdict::Up),
            Action::Down(_) if paused => Output::Tell(Verdict::Paused),
            Action::Down(why) => Output::Tell(Verdict::Down(why.to_string())),
        };
        actions.into_iter().map(output).collect()
    }
}

impl bfd::Session for Watched {
    type Event = Verdict;

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

impl Watch {
    /// Watches nobody yet. `first` should differ from start to start: routers know sessions by it.
    pub(super) fn new(
        news: mpsc::Sender<(u32, News<Verdict>)>,
        desk: Arc<Desk>,
        first: u32,
    ) -> Self {
        let (routers, leaving) = (BTreeMap::new(), Vec::new());
        Self { news, desk, thread: None, routers, leaving, next: first }
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
        self.add(peer, settings, path, multi_hop, now);
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
    pub(super) fn heard(&mut self, discriminator: u32, news: News<Verdict>) -> Option<String> {
        let found =
            self.routers.iter_mut().find(|(_, router)| router.discriminator == discriminator);
        let (peer, router) = found?;
        match news {
            News::Session(Verdict::Up) => {
                info!(peer, "BFD session up");
                router.status = BfdStatus { state: "up", error: None, ups: router.status.ups + 1 };
            }
            News::Session(Verdict::Down(why)) => {
                warn!(peer, why, "BFD session down");
                router.status.state = "down";
                router.status.error = Some(why);
                return Some(peer.clone());
            }
            News::Session(Verdict::Paused) => {
                router.status.state = "down";
                router.status.error = Some("taken down by the router's operator".to_owned());
            }
            News::Fault(why) => {
                warn!(peer, why, "BFD cannot speak or hear");
                router.status.error = Some(why);
            }
        }
        None
    }

    /// Ends the goodbyes that have lasted long enough.
    pub(super) fn expire(&mut self, now: Instant) {
        let Some(thread) = &self.thread else { return };
        self.leaving.retain(|(until, discriminator)| {
            let over = *until <= now;
            if over {
                thread.remove(*discriminator);
            }
            !over
        });
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.leaving.iter().map(|(until, _)| *until).min()
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

    fn add(&mut self, peer: &str, settings: Settings, path: Path, multi_hop: bool, now: Instant) {
        let discriminator = loop {
            self.next = self.next.wrapping_add(1);
            if let Some(discriminator) = NonZeroU32::new(self.next) {
                break discriminator;
            }
        };
        let mut status = BfdStatus { state: "down", error: None, ups: 0 };
        match self.thread() {
            Ok(thread) => {
                let seed = u64::from(discriminator.get());
                let session = Session::new(settings, multi_hop, discriminator, seed, now);
                thread.add(path.clone(), Watched(session));
            }
            Err(error) => status.error = Some(format!("there is no thread for BFD: {error}")),
        }
        let discriminator = discriminator.get();
        self.routers.insert(peer.to_owned(), Router { discriminator, path, settings, status });
    }

    fn thread(&mut self) -> io::Result<&Bfd<Watched>> {
        let thread = match self.thread.take() {
            Some(thread) => thread,
            None => {
                let (told, desk) = (self.news.clone(), Arc::clone(&self.desk));
                Bfd::start("bfd", move |discriminator, news| {
                    // Nobody listens only at the very end.
                    let _ = told.send((discriminator, news));
                    desk.bell.ring();
                })?
            }
        };
        Ok(self.thread.insert(thread))
    }
}
