//! BFD on the wire, on a thread of its own that the kernel runs before all others.
//!
//! The speaker starts one [`Bfd`] and adds a sans-IO [`Session`] for each router. The thread owns the
//! sockets (UDP 3784 of RFC 5881, 4784 of RFC 5883) and the clock: it finds the session that a packet
//! is for, tells it with what TTL the packet came, and wakes sessions at their deadlines, to well under
//! a millisecond also when all cores are busy. What a packet means is the session's business; one that
//! panics is ended, and the others do not notice.

#![expect(
    clippy::disallowed_methods,
    reason = "owns the thread and its clock, and opens the sockets of the sessions"
)]

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    net::IpAddr,
    os::fd::AsFd,
    panic::{UnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{self, TryRecvError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::kernel::{
    thread,
    wait::{EventFd, wait},
};

mod socket;

use socket::{Arrival, Port, Receiver, Sender};

/// A control packet without authentication (RFC 5880 §4.1).
pub(crate) const PACKET_LEN: usize = 24;
/// Packets of one socket that are read before sessions get the floor, so that a flood cannot keep
/// it from them. Packets that had come in time are thus read before a router is taken for dead.
const BATCH: usize = 256;
/// Shortest sleep: even a session that always claims to be due leaves the core to others.
const BREATH: Duration = Duration::from_micros(100);
/// With nothing to do.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
/// Between attempts to open a socket that could not be opened.
const OPEN_AGAIN: Duration = Duration::from_secs(1);

/// One BFD session, sans-IO (RFC 5880 §6.8).
pub(crate) trait Session: Send + UnwindSafe + 'static {
    /// What the owner hears.
    type Event;

    /// `bfd.LocalDiscr`: not zero, and no other session's.
    fn discriminator(&self) -> u32;

    /// Takes a payload of at least 24 bytes from the session's router, which came with this TTL or
    /// hop limit; `None` if it is discarded.
    fn receive(&mut self, payload: &[u8], ttl: u8, now: Instant) -> Option<Outputs<Self>>;

    /// Does what is due; called when the deadline has passed, and perhaps earlier.
    fn tick(&mut self, now: Instant) -> Outputs<Self>;

    /// When to be called next; `None` for not before a packet comes.
    fn deadline(&self) -> Option<Instant>;
}

/// What a session wants done, in order.
pub(crate) type Outputs<S> = Vec<Output<<S as Session>::Event>>;

/// One thing that a session wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output<E> {
    /// Send this to the router.
    Send([u8; PACKET_LEN]),
    /// Tell this to the owner.
    Event(E),
}

/// Between which addresses a session runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// The router.
    pub(crate) remote: IpAddr,
    /// Address of this node that packets come from; `None` for what the routing table says.
    pub(crate) local: Option<IpAddr>,
    /// Index of the interface that packets leave by and have to come in by. A link-local address
    /// needs it.
    pub(crate) interface: Option<u32>,
    /// How far away the router is.
    pub(crate) hops: Hops,
}

/// How far away a router is, which decides the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hops {
    /// On the link (RFC 5881).
    Single,
    /// Anywhere (RFC 5883).
    Multi,
}

/// What the owner hears, with the discriminator of the session. Sent from the thread: do not block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News<E> {
    /// Of the session itself.
    Session(E),
    /// The session cannot hear or speak, and why; said once, though tried again.
    Fault(String),
    /// The session has panicked, with these words, and is no more. It has said no goodbye.
    Broken(String),
}

/// Packets since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Taken by a session.
    pub(crate) received: AtomicU64,
    /// Sent.
    pub(crate) sent: AtomicU64,
    /// Not sent: the kernel refused.
    pub(crate) unsent: AtomicU64,
    /// Too short, for no session, or from where that session's router is not.
    pub(crate) strange: AtomicU64,
    /// For a session, which discarded it.
    pub(crate) discarded: AtomicU64,
}

/// The thread. Dropping it ends it; sessions say no goodbye.
pub(crate) struct Bfd<S: Session> {
    /// `None` once the thread is to end.
    commands: Option<mpsc::Sender<Command<S>>>,
    wake: Arc<EventFd>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

type Change<S> = Box<dyn FnOnce(&mut S, Instant) -> Outputs<S> + Send + UnwindSafe>;

enum Command<S: Session> {
    Add(Path, S),
    Change(u32, Change<S>),
    Remove(u32),
}

impl<S: Session> Bfd<S> {
    /// Starts the thread in the network namespace of the calling one. `name` is its name in
    /// `top -H`; the kernel keeps the first 15 bytes.
    pub(crate) fn start(
        name: &str,
        news: impl Fn(u32, News<S::Event>) + Send + 'static,
    ) -> io::Result<Self> {
        let (commands, orders) = mpsc::channel();
        let wake = Arc::new(EventFd::new()?);
        let counters = Arc::new(Counters::default());
        let driver = Driver {
            orders,
            wake: wake.clone(),
            news,
            receivers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            counters: counters.clone(),
        };
        let run = || {
            if let Err(error) = thread::before_others() {
                tracing::debug!(%error, "the BFD thread runs as others do");
            }
            driver.run();
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { commands: Some(commands), wake, counters, thread: Some(thread) })
    }

    /// Runs a session; one with the same discriminator is replaced.
    pub(crate) fn add(&self, path: Path, session: S) {
        self.command(Command::Add(path, session));
    }

    /// Changes a session on the thread, if it is still there.
    pub(crate) fn change(
        &self,
        discriminator: u32,
        change: impl FnOnce(&mut S, Instant) -> Outputs<S> + Send + UnwindSafe + 'static,
    ) {
        self.command(Command::Change(discriminator, Box::new(change)));
    }

    /// Ends a session without another packet.
    pub(crate) fn remove(&self, discriminator: u32) {
        self.command(Command::Remove(discriminator));
    }

    /// What has passed.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    fn command(&self, command: Command<S>) {
        // The thread ends before its owner only by a panic, which `drop` tells.
        if self.commands.as_ref().is_some_and(|commands| commands.send(command).is_ok()) {
            self.wake.notify();
        }
    }
}

impl<S: Session> Drop for Bfd<S> {
    fn drop(&mut self) {
        self.commands = None;
        self.wake.notify();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::warn!("the BFD thread has panicked; routers take this node for down");
        }
    }
}

/// What lives on the thread.
struct Driver<S: Session, N> {
    orders: mpsc::Receiver<Command<S>>,
    wake: Arc<EventFd>,
    news: N,
    receivers: BTreeMap<Port, Receiver>,
    sessions: BTreeMap<u32, Running<S>>,
    counters: Arc<Counters>,
}

/// A session and its socket.
struct Running<S> {
    path: Path,
    session: S,
    /// When it is to be called, as it said last.
    deadline: Option<Instant>,
    sender: Option<Sender>,
    /// When to open it (again).
    open_at: Option<Instant>,
    /// Why it cannot speak or hear, as last reported.
    fault: Option<String>,
}

impl<S: Session, N: Fn(u32, News<S::Event>)> Driver<S, N> {
    fn run(mut self) {
        loop {
            self.wait();
            // Before the deadlines: packets that came in time count, even if this thread is late.
            for port in Port::ALL {
                self.receive(port);
            }
            loop {
                match self.orders.try_recv() {
                    Ok(command) => self.obey(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            self.serve();
        }
    }

    /// Sleeps until a packet, a command or a deadline.
    fn wait(&self) {
        let deadline = self.sessions.values().filter_map(Running::deadline).min();
        let sleep =
            deadline.map_or(LONGEST_SLEEP, |at| at.saturating_duration_since(Instant::now()));
        let sources = self.receivers.values().map(AsFd::as_fd).chain([self.wake.as_fd()]);
        wait(sources.collect(), sleep.clamp(BREATH, LONGEST_SLEEP));
        self.wake.clear();
    }

    fn receive(&mut self, port: Port) {
        for _ in 0..BATCH {
            let Some(arrival) = self.receivers.get(&port).and_then(Receiver::receive) else {
                return;
            };
            let Some(discriminator) = self.session_of(port, &arrival) else {
                self.counters.strange.fetch_add(1, Relaxed);
                continue;
            };
            let (payload, ttl, now) = (arrival.packet(), arrival.ttl, Instant::now());
            match self.act(discriminator, |session| session.receive(payload, ttl, now)).flatten() {
                None => drop(self.counters.discarded.fetch_add(1, Relaxed)),
                Some(outputs) => {
                    self.counters.received.fetch_add(1, Relaxed);
                    self.perform(discriminator, outputs);
                }
            }
        }
    }

    /// The session that a packet is for (RFC 5880 §6.8.6): the one that it names, or, as long as the
    /// router knows no discriminator of ours, the one with that router. In both cases it has to come
    /// from there.
    fn session_of(&self, port: Port, arrival: &Arrival) -> Option<u32> {
        let named = arrival.packet().get(8..12)?.try_into().map(u32::from_be_bytes).ok()?;
        let fits = |running: &Running<S>| {
            let path = &running.path;
            Port::of(path) == port
                && path.remote == arrival.from
                && path.interface.is_none_or(|interface| interface == arrival.interface)
        };
        match named {
            _ if arrival.packet().len() < PACKET_LEN => None,
            0 => self.sessions.iter().find(|(_, running)| fits(running)).map(|(named, _)| *named),
            _ => self.sessions.get(&named).filter(|running| fits(running)).map(|_| named),
        }
    }

    /// Lets a session act; `None` if there is none, or no more. It goes in and comes back by value: what a
    /// panic has left half changed is dropped and never used again.
    fn act<R>(
        &mut self,
        discriminator: u32,
        act: impl FnOnce(&mut S) -> R + UnwindSafe,
    ) -> Option<R> {
        let running = self.sessions.remove(&discriminator)?;
        let mut session = running.session;
        let acted = catch_unwind(move || {
            let result = act(&mut session);
            (session.deadline(), session, result)
        });
        match acted {
            Ok((deadline, session, result)) => {
                self.sessions.insert(discriminator, Running { session, deadline, ..running });
                Some(result)
            }
            Err(panic) => {
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
                (self.news)(discriminator, News::Broken(text.unwrap_or_default()));
                None
            }
        }
    }

    fn obey(&mut self, command: Command<S>) {
        match command {
            Command::Add(path, session) => {
                let (discriminator, now) = (session.discriminator(), Instant::now());
                let (open_at, deadline) = (Some(now), Some(now));
                let running =
                    Running { path, session, deadline, sender: None, open_at, fault: None };
                self.sessions.insert(discriminator, running);
            }
            Command::Change(discriminator, change) => {
                let now = Instant::now();
                if let Some(outputs) = self.act(discriminator, move |session| change(session, now))
                {
                    self.perform(discriminator, outputs);
                }
            }
            Command::Remove(discriminator) => drop(self.sessions.remove(&discriminator)),
        }
        // Another program may have a port that no session needs.
        let used: Vec<_> = self.sessions.values().map(|running| Port::of(&running.path)).collect();
        self.receivers.retain(|port, _| used.contains(port));
    }

    /// Opens sockets and wakes the sessions that are due.
    fn serve(&mut self) {
        let due = |running: &Running<S>, now| running.deadline().is_some_and(|at| at <= now);
        let now = Instant::now();
        let sessions = self.sessions.iter().filter(|(_, running)| due(running, now));
        for discriminator in sessions.map(|(&discriminator, _)| discriminator).collect::<Vec<_>>() {
            self.open(discriminator, now);
            if let Some(outputs) = self.act(discriminator, move |session| session.tick(now)) {
                self.perform(discriminator, outputs);
            }
        }
    }

    /// Opens the sockets of a session, if it is time to.
    fn open(&mut self, discriminator: u32, now: Instant) {
        let Some(running) = self.sessions.get_mut(&discriminator) else { return };
        if running.open_at.take_if(|at| *at <= now).is_some() {
            let opened = running.open(discriminator, &mut self.receivers);
            running.open_at = opened.is_err().then(|| now + OPEN_AGAIN);
            if let Some(fault) = running.note(opened) {
                (self.news)(discriminator, News::Fault(fault));
            }
        }
    }

    /// Does what a session wants done.
    fn perform(&mut self, discriminator: u32, outputs: Outputs<S>) {
        for output in outputs {
            match output {
                Output::Event(event) => (self.news)(discriminator, News::Session(event)),
                Output::Send(packet) => {
                    let Some(running) = self.sessions.get_mut(&discriminator) else { return };
                    let sent = running.sender.as_ref().map(|sender| sender.send(&packet));
                    let counter = match &sent {
                        Some(Ok(())) => &self.counters.sent,
                        Some(Err(_)) | None => &self.counters.unsent,
                    };
                    counter.fetch_add(1, Relaxed);
                    if let Some(fault) = sent.and_then(|sent| running.note(sent)) {
                        (self.news)(discriminator, News::Fault(fault));
                    }
                }
            }
        }
    }
}

impl<S: Session> Running<S> {
    fn deadline(&self) -> Option<Instant> {
        [self.open_at, self.deadline].into_iter().flatten().min()
    }

    /// Notes an outcome; returns a fault that the owner has not heard of.
    fn note(&mut self, outcome: io::Result<()>) -> Option<String> {
        let fault = outcome.err().map(|error| error.to_string());
        let new = fault.clone().filter(|fault| self.fault.as_ref() != Some(fault));
        self.fault = fault;
        new
    }

    fn open(
        &mut self,
        discriminator: u32,
        receivers: &mut BTreeMap<Port, Receiver>,
    ) -> io::Result<()> {
        let port = Port::of(&self.path);
        if let Entry::Vacant(vacant) = receivers.entry(port) {
            vacant.insert(Receiver::open(port)?);
        }
        self.sender = Some(Sender::open(port, &self.path, discriminator)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
