//! The data threads: one per core, each with its own event loop, listeners, upstream pool and clock.
//!
//! Nothing here is shared between cores but the live snapshot and what it points to. The controller talks
//! to a core by [`Command`]s only; this is the one file that knows how threads are laid out.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::poll_fn,
    io,
    net::IpAddr,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use gatehouse_routes::stats::HostStats;
use ipnet::IpNet;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::LocalSet,
};

use crate::{
    access_log::{AccessLogger, Entry},
    admin::metrics::CoreMetrics,
    config::Settings,
    drain::{LocalAddress, LocalAddresses},
    http::watch::{ConnWatch, Exchange, Limits, Phase, Registered, Registry, Tick},
    listeners::{ListenerId, Opened, accept},
    snapshot::{Live, LocalLive, Pinned},
    upstream::{pool::Pool, resolve::Resolved},
};

/// Period of the coarse clock.
const CLOCK: Duration = Duration::from_millis(50);
/// Every how many clock ticks timeouts are looked for.
const SWEEP_EVERY: u64 = 5;
/// Every how many clock ticks idle upstream connections and the snapshot are looked at.
const TIDY_EVERY: u64 = 20;

/// What the controller tells a core.
pub(crate) enum Command {
    /// Accept on this socket.
    Listen(Box<Opened>),
    /// Accept what is queued, then close the socket.
    Unlisten(ListenerId),
    /// Connections that came in on these addresses end with the request under way; their listeners stay.
    Leave(Arc<[IpAddr]>),
    /// New connections on these addresses may stay again.
    Stay(Arc<[IpAddr]>),
    /// Connections that came in on these addresses end now: the addresses are gone.
    Cut(Arc<[IpAddr]>),
    /// All connections end with the request under way; only listeners on these addresses go on.
    Drain(Arc<[IpAddr]>),
}

/// What every core is built from.
#[derive(Clone)]
pub(crate) struct CoreOptions {
    pub(crate) limits: Limits,
    pub(crate) time_scale: f64,
    pub(crate) trusted: Arc<[IpNet]>,
    pub(crate) allow_loopback: bool,
    pub(crate) max_connections: usize,
    /// Counts answers to requests whose host is in no table.
    pub(crate) unrouted: Arc<HostStats>,
    pub(crate) live: Arc<Live>,
}

impl CoreOptions {
    pub(crate) fn new(settings: &Settings, live: Arc<Live>, cores: usize) -> Self {
        Self {
            limits: Limits::new(settings),
            time_scale: settings.time_scale,
            trusted: settings.trusted_proxies.clone().into(),
            allow_loopback: !settings.manifests.is_empty(),
            max_connections: max_connections(cores),
            unrouted: Arc::default(),
            live,
        }
    }
}

impl CoreOptions {
    /// Period of the coarse clock under `--time-scale`.
    pub(crate) fn clock(&self) -> Duration {
        CLOCK.mul_f64(self.time_scale).max(Duration::from_millis(5))
    }
}

/// A client connection and the upstream one it needs are two descriptors; some are left for the rest.
fn max_connections(cores: usize) -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    #[expect(unsafe_code, reason = "getrlimit writes the struct it is given")]
    // SAFETY: `limit` is a valid, exclusive `rlimit`.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    let descriptors = if known { usize::try_from(limit.rlim_cur).unwrap_or(1024) } else { 1024 };
    (descriptors.saturating_sub(64) / 2 / cores.max(1)).clamp(16, 1 << 20)
}

/// One data thread's world.
pub(crate) struct Core {
    pub(crate) options: CoreOptions,
    pub(crate) pool: Pool,
    pub(crate) resolved: Resolved,
    live: LocalLive,
    metrics: Arc<CoreMetrics>,
    log: Option<RefCell<AccessLogger>>,
    started: Instant,
    now: Cell<Tick>,
    connections: Cell<usize>,
    addresses: LocalAddresses,
    connection_watches: Rc<RefCell<Registry<ConnWatch>>>,
    exchanges: Rc<RefCell<Registry<Exchange>>>,
}

impl Core {
    /// The coarse clock: milliseconds since the thread started, up to 50 ms late.
    pub(crate) fn now(&self) -> Tick {
        self.now.get()
    }

    /// The live snapshot.
    pub(crate) fn pin(&self) -> Pinned {
        self.live.pin()
    }

    pub(crate) fn metrics(&self) -> &CoreMetrics {
        &self.metrics
    }

    pub(crate) fn logs_access(&self) -> bool {
        self.log.is_some()
    }

    pub(crate) fn log_access(&self, entry: &Entry<'_>) {
        if let Some(log) = &self.log {
            log.borrow_mut().write(entry);
        }
    }

    pub(crate) fn allows_loopback(&self) -> bool {
        self.options.allow_loopback
    }

    /// A protective timeout under `--time-scale`.
    pub(crate) fn scaled(&self, timeout: Duration) -> Duration {
        timeout.mul_f64(self.options.time_scale)
    }

    /// True if one more client connection may be served.
    pub(crate) fn has_room(&self) -> bool {
        self.connections.get() < self.options.max_connections
    }

    /// The address that a listener accepts on.
    pub(crate) fn address(&self, ip: IpAddr) -> Rc<LocalAddress> {
        self.addresses.get(ip)
    }

    pub(crate) fn connection_opened(&self, address: &LocalAddress) {
        address.opened();
        self.connections.set(self.connections.get() + 1);
        self.metrics.connection_opened();
    }

    pub(crate) fn connection_closed(&self, address: &LocalAddress) {
        address.closed();
        self.connections.set(self.connections.get().saturating_sub(1));
        self.metrics.connection_closed();
    }

    /// A connection under the sweeper's eyes.
    pub(crate) fn watched_connection(
        &self,
        phase: Phase,
        address: &Rc<LocalAddress>,
    ) -> Registered<ConnWatch> {
        let watch = Registered::new(&self.connection_watches);
        watch.came_in_on(address);
        watch.enter(phase, self.now());
        watch
    }

    /// An exchange under the sweeper's eyes.
    pub(crate) fn watched_exchange(&self) -> Registered<Exchange> {
        Registered::new(&self.exchanges)
    }

    fn sweep(&self) {
        let (now, limits) = (self.now(), &self.options.limits);
        self.connection_watches.borrow().sweep(now, limits);
        self.exchanges.borrow().sweep(now, limits);
        if !self.addresses.left().is_empty() {
            self.wake_leaving();
        }
        if let Some(log) = &self.log {
            log.borrow_mut().tick();
        }
    }

    fn tidy(&self) {
        self.pool.sweep(self.now(), self.options.limits.upstream_idle);
        drop(self.pin());
    }

    /// Wakes the connections that are to leave: when they hear of it, and again while they stay idle.
    fn wake_leaving(&self) {
        for watch in
            self.connection_watches.borrow().iter().filter(|watch| watch.leaving().is_some())
        {
            watch.wake();
        }
    }

    fn cut(&self, ips: &[IpAddr]) {
        let gone: Vec<_> = ips.iter().map(|ip| self.addresses.get(*ip)).collect();
        for watch in self.connection_watches.borrow().iter() {
            if gone.iter().any(|address| watch.is_on(address)) {
                watch.expire();
            }
        }
        // Should the address come back, its next clients are welcome.
        self.addresses.stay(ips);
    }

    /// Tells the controller where this core stands.
    fn report(&self, report: &Report) {
        report.connections.store(self.connections.get(), Ordering::Relaxed);
        report.beats.fetch_add(1, Ordering::Relaxed);
        let left = self.addresses.left();
        let mut told = report.left.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != left {
            *told = left;
        }
    }
}

/// Where a core stands, as of its last clock tick.
#[derive(Debug, Default)]
pub(crate) struct Report {
    connections: AtomicUsize,
    /// Clock ticks so far.
    beats: AtomicU64,
    /// Addresses that connections are to leave, and how many have not left.
    left: Mutex<BTreeMap<IpAddr, usize>>,
}

impl Report {
    /// Clock ticks so far: a number that stands still is a core that hangs.
    pub(crate) fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }
}

/// The controller's end of a core.
pub(crate) struct CoreHandle {
    commands: UnboundedSender<Command>,
    report: Arc<Report>,
    thread: Option<thread::JoinHandle<()>>,
}

impl CoreHandle {
    /// Starts a data thread.
    pub(crate) fn start(
        index: usize,
        options: CoreOptions,
        metrics: Arc<CoreMetrics>,
        log: Option<AccessLogger>,
    ) -> io::Result<Self> {
        let (commands, receiver) = unbounded_channel();
        let report = Arc::new(Report::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::clone(&report);
        let thread = thread::Builder::new().name(format!("data-{index}")).spawn(move || {
            let core = Rc::new(Core {
                live: LocalLive::new(Arc::clone(&options.live)),
                options,
                pool: Pool::default(),
                resolved: Resolved::default(),
                metrics,
                log: log.map(RefCell::new),
                started: Instant::now(),
                now: Cell::new(0),
                connections: Cell::new(0),
                addresses: LocalAddresses::default(),
                connection_watches: Registry::new(),
                exchanges: Registry::new(),
            });
            LocalSet::new().block_on(&runtime, run(core, receiver, &shared));
        })?;
        Ok(Self { commands, report, thread: Some(thread) })
    }

    /// Tells the core; a core that is gone hears nothing.
    pub(crate) fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// Client connections that are open, as of the last clock tick.
    pub(crate) fn connections(&self) -> usize {
        self.report.connections.load(Ordering::Relaxed)
    }

    /// Client connections that have yet to leave an address; `None` until the core has been told.
    pub(crate) fn left(&self, ip: IpAddr) -> Option<usize> {
        self.report.left.lock().unwrap_or_else(PoisonError::into_inner).get(&ip).copied()
    }

    /// For those who watch over the core.
    pub(crate) fn report(&self) -> Arc<Report> {
        Arc::clone(&self.report)
    }

    /// Ends the thread; connections that are still open are cut.
    pub(crate) fn stop(mut self) {
        drop(self.commands);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The main task of a core: its clock, and the controller's commands.
async fn run(core: Rc<Core>, mut commands: UnboundedReceiver<Command>, report: &Report) {
    let mut listeners = Vec::new();
    let mut clock = tokio::time::interval(core.options.clock());
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut ticks: u64 = 0;
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Listen(opened)) => {
                    let (id, ip) = (opened.id, opened.facts.address.ip());
                    match accept(&core, *opened) {
                        Ok(closing) => listeners.push((id, ip, closing)),
                        Err(error) => tracing::error!(%error, "listener lost"),
                    }
                }
                // Dropping the sender is what ends the accept loop.
                Some(Command::Unlisten(id)) => listeners.retain(|(other, ..)| *other != id),
                Some(Command::Leave(ips)) => {
                    core.addresses.leave(&ips, core.now());
                    core.wake_leaving();
                }
                Some(Command::Stay(ips)) => core.addresses.stay(&ips),
                Some(Command::Cut(ips)) => core.cut(&ips),
                Some(Command::Drain(kept)) => {
                    listeners.retain(|(_, ip, _)| kept.contains(ip));
                    core.addresses.leave_all(core.now());
                    core.wake_leaving();
                }
                None => break,
            },
            _ = clock.tick() => {
                let elapsed = core.started.elapsed().as_millis();
                core.now.set(Tick::try_from(elapsed).unwrap_or(Tick::MAX));
                ticks += 1;
                if ticks.is_multiple_of(SWEEP_EVERY) || core.options.time_scale < 1.0 {
                    core.sweep();
                }
                if ticks.is_multiple_of(TIDY_EVERY) {
                    core.tidy();
                }
                core.report(report);
            }
        }
    }
    // Let tasks that were just woken see that the core is going.
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
    if let Some(log) = &core.log {
        log.borrow_mut().flush();
    }
}

#[cfg(test)]
mod tests;
