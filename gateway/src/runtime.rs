//! The data threads: one per core, each with its own event loop, listeners, upstream pool and clock.
//!
//! Nothing here is shared between cores but the live snapshot and what it points to. The controller talks
//! to a core by [`Command`]s only; this is the one file that knows how threads are laid out.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
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
    config::Settings,
    http::watch::{ConnWatch, Exchange, Limits, Phase, Registered, Registry, Tick},
    listeners::{ListenerId, Opened, accept},
    metrics::CoreMetrics,
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
    /// No new connections; the open ones end with the request under way.
    Drain,
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
    draining: Cell<bool>,
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

    pub(crate) fn draining(&self) -> bool {
        self.draining.get()
    }

    /// True if one more client connection may be served.
    pub(crate) fn has_room(&self) -> bool {
        self.connections.get() < self.options.max_connections
    }

    pub(crate) fn connection_opened(&self) {
        self.connections.set(self.connections.get() + 1);
        self.metrics.connection_opened();
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.set(self.connections.get().saturating_sub(1));
        self.metrics.connection_closed();
    }

    /// A connection under the sweeper's eyes.
    pub(crate) fn watched_connection(&self, phase: Phase) -> Registered<ConnWatch> {
        let watch = Registered::new(&self.connection_watches);
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
        if let Some(log) = &self.log {
            log.borrow_mut().tick();
        }
    }

    fn tidy(&self) {
        self.pool.sweep(self.now(), self.options.limits.upstream_idle);
        drop(self.pin());
    }

    fn drain(&self) {
        self.draining.set(true);
        for watch in self.connection_watches.borrow().iter() {
            watch.wake();
        }
    }
}

/// The controller's end of a core.
pub(crate) struct CoreHandle {
    commands: UnboundedSender<Command>,
    connections: Arc<AtomicUsize>,
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
        let connections = Arc::new(AtomicUsize::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let open = Arc::clone(&connections);
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
                draining: Cell::new(false),
                connection_watches: Registry::new(),
                exchanges: Registry::new(),
            });
            LocalSet::new().block_on(&runtime, run(core, receiver, &open));
        })?;
        Ok(Self { commands, connections, thread: Some(thread) })
    }

    /// Tells the core; a core that is gone hears nothing.
    pub(crate) fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// Client connections that are open, as of the last clock tick.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
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
async fn run(core: Rc<Core>, mut commands: UnboundedReceiver<Command>, open: &AtomicUsize) {
    let mut listeners = Vec::new();
    let mut clock = tokio::time::interval(core.scaled(CLOCK).max(Duration::from_millis(5)));
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut ticks: u64 = 0;
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Listen(opened)) => {
                    let id = opened.id;
                    match accept(&core, *opened) {
                        Ok(closing) => listeners.push((id, closing)),
                        Err(error) => tracing::error!(%error, "listener lost"),
                    }
                }
                // Dropping the sender is what ends the accept loop.
                Some(Command::Unlisten(id)) => listeners.retain(|(other, _)| *other != id),
                Some(Command::Drain) => {
                    listeners.clear();
                    core.drain();
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
                open.store(core.connections.get(), Ordering::Relaxed);
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
