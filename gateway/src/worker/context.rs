//! What every file of the data path may ask of the worker that it runs on.
//!
//! Belongs to one thread: nothing here is shared but the live snapshot and the metrics.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use gatehouse_routes::{networks::Networks, stats::EndpointStats};
use ipnet::IpNet;

use crate::{
    access_log::{AccessLogger, Entry},
    admin::metrics::{WorkerMetrics, series::SeriesRegistry},
    compile::L4Stats,
    config::Settings,
    overload::{Overload, Pressure},
    passwords::{LocalPasswords, Passwords},
    shares::Shares,
    snapshot::{Live, LocalLive, Pinned},
    spool::Spool,
    tokens::Tokens,
    verdicts::Verdicts,
    worker::{
        clock::{Clock, Tick},
        counters::Counters,
        header_case::HeaderCase,
        in_flight::{self, InFlight},
        local_address::{Closed, LocalAddress, LocalAddresses},
        rate_table::{RateTable, Rates},
        series::LocalSeries,
        timeouts::{ConnTimers, Limits, Phase, Registered, Registry, RequestTimers},
    },
};

/// What every worker is built from.
#[derive(Clone)]
pub(crate) struct WorkerOptions {
    pub(crate) limits: Limits,
    pub(crate) time_scale: f64,
    pub(crate) trusted: Arc<[IpNet]>,
    /// Those of whose clients the PROXY protocol tells, if there are any.
    pub(crate) proxied: Option<Arc<Networks>>,
    pub(crate) max_connections: usize,
    /// UDP sessions, each with a descriptor.
    pub(crate) max_udp_sessions: usize,
    /// How near to its limit the memory of the process is.
    pub(crate) overload: Overload,
    /// Where clients find TLS, if the operator says so.
    pub(crate) public_https_port: Option<u16>,
    /// Bytes of a request's target at most.
    pub(crate) max_target: usize,
    /// How names of headers are spelled.
    pub(crate) header_case: Arc<HeaderCase>,
    /// Connections to one endpoint.
    pub(crate) max_endpoint_connections: usize,
    /// Where answers are counted.
    pub(crate) series: Arc<SeriesRegistry>,
    pub(crate) live: Arc<Live>,
    /// What clients have used of their limits.
    pub(crate) rates: Rates,
    /// The same of limits that the nodes of a group share.
    pub(crate) shares: Shares,
    /// What they have under way.
    pub(crate) in_flight: InFlight,
    /// Who finds out whether passwords are right.
    pub(crate) passwords: Passwords,
    /// Where bodies wait that are read in whole.
    pub(crate) spool: Spool,
    /// What session cookies are sealed with where no object has the key of a group.
    pub(crate) session_secret: Arc<[u8; 32]>,
    /// Where the clocks of all workers begin.
    started: Instant,
}

impl WorkerOptions {
    pub(crate) fn new(
        settings: &Settings,
        live: Arc<Live>,
        series: Arc<SeriesRegistry>,
        (passwords, spool, shares): (Passwords, Spool, Shares),
        overload: Overload,
        workers: usize,
        session_secret: [u8; 32],
    ) -> Self {
        Self {
            session_secret: Arc::new(session_secret),
            limits: Limits::new(settings),
            time_scale: settings.time_scale,
            trusted: settings.trusted_proxies.clone().into(),
            proxied: match &*settings.proxy_protocol_from {
                [] => None,
                some => Some(Arc::new(some.iter().copied().collect())),
            },
            max_connections: max_connections(workers),
            max_udp_sessions: max_udp_sessions(workers),
            overload,
            public_https_port: settings.public_https_port,
            max_target: settings.max_uri.into(),
            header_case: Arc::new(HeaderCase::new(&settings.header_case)),
            max_endpoint_connections: match settings.max_endpoint_connections {
                Some(limit) => (limit.get() as usize).div_ceil(workers.max(1)),
                None => max_connections(workers) / 4 * 3,
            },
            series,
            live,
            rates: Arc::new(LazyLock::new(RateTable::default)),
            shares,
            in_flight: Arc::new(LazyLock::new(in_flight::Table::default)),
            passwords,
            spool,
            started: Instant::now(),
        }
    }
}

impl WorkerOptions {
    /// A clock that goes with those of the workers.
    pub(crate) fn clock(&self) -> Clock {
        Clock::since(self.started)
    }
}

/// A client connection and the upstream one it needs are two descriptors; some are left for the rest, and an eighth for
/// UDP sessions.
fn max_connections(workers: usize) -> usize {
    (descriptors().saturating_sub(64) / 16 * 7 / workers.max(1)).clamp(16, 1 << 20)
}

/// An eighth of the descriptors: no more than the kernel's own table has on a host of 4 GiB.
fn max_udp_sessions(workers: usize) -> usize {
    ((descriptors().saturating_sub(64) / 8).min(1 << 18) / workers.max(1)).max(16)
}

fn descriptors() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    #[expect(unsafe_code, reason = "getrlimit writes the struct it is given")]
    // SAFETY: `limit` is a valid, exclusive `rlimit`.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    if known { usize::try_from(limit.rlim_cur).unwrap_or(1024) } else { 1024 }
}

/// One data thread's world.
pub(crate) struct Worker {
    pub(crate) options: WorkerOptions,
    live: LocalLive,
    metrics: Arc<WorkerMetrics>,
    endpoint_counters: Counters<EndpointStats>,
    l4_counters: Counters<L4Stats>,
    series: LocalSeries,
    log: Option<RefCell<AccessLogger>>,
    clock: Rc<Clock>,
    connections: Cell<usize>,
    /// As of the last tick of the clock.
    pressure: Cell<Pressure>,
    /// Where its listeners accept.
    listening: RefCell<Vec<SocketAddr>>,
    warned: Cell<Option<Tick>>,
    addresses: LocalAddresses,
    /// Listeners that are closed and still have connections.
    closed: RefCell<Vec<Rc<Closed>>>,
    passwords: LocalPasswords,
    tokens: Tokens,
    verdicts: Verdicts,
    conn_timers: Rc<RefCell<Registry<ConnTimers>>>,
    request_timers: Rc<RefCell<Registry<RequestTimers>>>,
}

impl Worker {
    pub(super) fn new(
        options: WorkerOptions,
        metrics: Arc<WorkerMetrics>,
        log: Option<AccessLogger>,
    ) -> Self {
        Self {
            live: LocalLive::new(Arc::clone(&options.live)),
            series: LocalSeries::new(Arc::clone(&options.series)),
            clock: Rc::new(Clock::since(options.started)),
            options,
            metrics,
            endpoint_counters: Counters::default(),
            l4_counters: Counters::default(),
            log: log.map(RefCell::new),
            connections: Cell::new(0),
            pressure: Cell::default(),
            listening: RefCell::default(),
            warned: Cell::new(None),
            addresses: LocalAddresses::default(),
            closed: RefCell::default(),
            passwords: LocalPasswords::default(),
            tokens: Tokens::default(),
            verdicts: Verdicts::default(),
            conn_timers: Registry::new(),
            request_timers: Registry::new(),
        }
    }

    /// Client connections that are open.
    pub(super) fn connections(&self) -> usize {
        self.connections.get()
    }

    /// The addresses that listeners of this worker accept on.
    pub(super) fn addresses(&self) -> &LocalAddresses {
        &self.addresses
    }

    /// Hands what the access log has collected to its writer.
    pub(super) fn flush_log(&self) {
        if let Some(log) = &self.log {
            log.borrow_mut().flush();
        }
    }

    /// The time on the coarse clock.
    pub(crate) fn now(&self) -> Tick {
        self.clock.now()
    }

    /// The coarse clock, for what outlives the borrow of its worker.
    pub(crate) fn clock(&self) -> &Rc<Clock> {
        &self.clock
    }

    /// The live snapshot.
    pub(crate) fn pin(&self) -> Pinned {
        self.live.pin()
    }

    /// Passwords that were right.
    pub(crate) fn passwords(&self) -> &LocalPasswords {
        &self.passwords
    }

    /// Keys of tokens, and tokens that were right.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// What authentication services have said.
    pub(crate) fn verdicts(&self) -> &Verdicts {
        &self.verdicts
    }

    pub(crate) fn metrics(&self) -> &WorkerMetrics {
        &self.metrics
    }

    /// Answers by host, object and Service.
    pub(crate) fn series(&self) -> &LocalSeries {
        &self.series
    }

    /// Requests and failures per endpoint.
    pub(crate) fn endpoint_counters(&self) -> &Counters<EndpointStats> {
        &self.endpoint_counters
    }

    /// Connections and sessions of Services that are passed on.
    pub(crate) fn l4_counters(&self) -> &Counters<L4Stats> {
        &self.l4_counters
    }

    /// Adds what was counted since the last clock tick to the totals of all workers.
    pub(super) fn flush_counters(&self) {
        self.series.flush();
        self.endpoint_counters.flush();
        self.l4_counters.flush();
    }

    /// Gives freed memory back while there is little.
    pub(super) fn give_back(&self) {
        if self.pressure.get() > Pressure::None {
            self.options.overload.give_back();
        }
    }

    /// Forgets what is kept of snapshots without need: counts of hosts and endpoints that none knows any more,
    /// rules that no request uses.
    pub(super) fn tidy(&self) {
        self.series.forget();
        self.endpoint_counters.forget();
        self.l4_counters.forget();
    }

    pub(crate) fn logs_access(&self) -> bool {
        self.log.is_some()
    }

    /// Whether lines of the access log name the user of a request.
    pub(crate) fn logs_users(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.borrow().names_users())
    }

    pub(crate) fn log_access(&self, entry: &Entry<'_>) {
        if let Some(log) = &self.log {
            log.borrow_mut().write(entry);
        }
    }

    /// A protective timeout under `--time-scale`.
    pub(crate) fn scaled(&self, timeout: Duration) -> Duration {
        timeout.mul_f64(self.options.time_scale)
    }

    /// True if one more client connection may be served.
    pub(crate) fn has_room(&self) -> bool {
        self.connections.get() < self.options.max_connections && !self.is_overloaded()
    }

    /// True if the process has no memory for one more request.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.pressure.get() == Pressure::Critical
    }

    /// Looks how near to its limit the memory is.
    pub(super) fn feel(&self) {
        let (before, now) = (self.pressure.get(), self.options.overload.pressure());
        if now == before {
            return;
        }
        self.pressure.set(now);
        self.give_back();
        if now == Pressure::None {
            self.addresses.press(None);
        } else if before == Pressure::None {
            self.addresses.press(Some(self.now()));
            self.wake_leaving();
        }
    }

    /// Writes a warning that clients bring about, once a second at most.
    pub(crate) fn warn(&self, write: impl FnOnce()) {
        let now = self.now();
        if self.warned.get().is_none_or(|last| now.saturating_sub(last) >= 1_000) {
            self.warned.set(Some(now));
            write();
        }
    }

    /// Notes where the listeners accept.
    pub(super) fn listens(&self, addresses: Vec<SocketAddr>) {
        self.listening.replace(addresses);
    }

    /// Whether a connection to this address would come back to this process.
    pub(crate) fn is_own(&self, address: SocketAddr) -> bool {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        self.listening.borrow().iter().any(|own| {
            let any = own.ip().is_unspecified() && (ip.is_loopback() || ip.is_unspecified());
            own.port() == port && (own.ip() == ip || any)
        })
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

    /// The timers of a new connection.
    pub(crate) fn conn_timers(
        &self,
        phase: Phase,
        (address, listener): (&Rc<LocalAddress>, &Rc<Closed>),
    ) -> Registered<ConnTimers> {
        let timers = Registered::new(&self.conn_timers);
        timers.came_in_on(address, listener);
        timers.enter(phase, self.now());
        timers
    }

    /// The timers of a new request.
    pub(crate) fn request_timers(&self) -> Registered<RequestTimers> {
        Registered::new(&self.request_timers)
    }

    pub(super) fn sweep(&self) {
        let (now, limits) = (self.now(), &self.options.limits);
        self.conn_timers.borrow().sweep(now, limits);
        self.request_timers.borrow().sweep(now, limits);
        let mut closed = self.closed.borrow_mut();
        closed.retain(|listener| Rc::strong_count(listener) > 1);
        let pressed = self.pressure.get() > Pressure::None;
        if pressed || !closed.is_empty() || !self.addresses.left().is_empty() {
            self.wake_leaving();
        }
        if let Some(log) = &self.log {
            log.borrow_mut().tick();
        }
    }

    /// Wakes the connections that are to leave: when they hear of it, and again while they stay idle. Tunnels stay.
    pub(super) fn wake_leaving(&self) {
        let all = self.conn_timers.borrow();
        let stays = |timers: &ConnTimers| timers.phase() == Phase::Tunnel;
        let leaving = all.iter().filter(|timers| !stays(timers) && timers.leaving().is_some());
        leaving.for_each(ConnTimers::wake);
    }

    /// A listener is closed: the connections that came in by it are to leave.
    pub(super) fn closed(&self, listener: Rc<Closed>) {
        listener.set(Some(self.now()));
        self.closed.borrow_mut().push(listener);
        self.wake_leaving();
    }

    pub(super) fn cut(&self, ips: &[IpAddr]) {
        let gone: Vec<_> = ips.iter().map(|ip| self.addresses.get(*ip)).collect();
        for timers in self.conn_timers.borrow().iter() {
            if gone.iter().any(|address| timers.is_on(address)) {
                timers.expire();
            }
        }
        // Should the address come back, its next clients are welcome.
        self.addresses.stay(ips);
    }
}
