//! One data thread: its commands, its clock, and what it reports.
//!
//! The controller holds a [`WorkerHandle`] per thread; this is the one file that knows how threads are laid out.

use std::{
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
};

use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::LocalSet,
};

use crate::{
    access_log::AccessLogger,
    admin::metrics::WorkerMetrics,
    l4::udp::Udp,
    upstream::{Known, Upstreams},
    worker::{
        accept::accept,
        clock,
        context::{Worker, WorkerOptions},
        listener::{ListenerId, Opened, OpenedUdp},
    },
};

/// Every how many clock ticks timeouts are looked for.
const SWEEP_EVERY: u64 = 5;
/// Every how many clock ticks idle upstream connections and the snapshot are looked at.
const TIDY_EVERY: u64 = 20;

/// What the controller tells a worker.
pub(crate) enum Command {
    /// Accept on this socket.
    Listen(Box<Opened>),
    /// Pass on the datagrams of this socket.
    ListenUdp(Box<OpenedUdp>),
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

/// Threads of a worker that read and write the files of bodies.
const FILE_THREADS: usize = 4;

/// Where a worker stands, as of its last clock tick.
#[derive(Debug, Default)]
pub(crate) struct Report {
    connections: AtomicUsize,
    /// Clock ticks so far.
    beats: AtomicU64,
    /// Addresses that connections are to leave, and how many have not left.
    left: Mutex<BTreeMap<IpAddr, usize>>,
}

impl Report {
    /// Tells the controller where this worker stands.
    fn update(&self, worker: &Worker) {
        self.connections.store(worker.connections(), Ordering::Relaxed);
        self.beats.fetch_add(1, Ordering::Relaxed);
        let left = worker.addresses().left();
        let mut told = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != left {
            *told = left;
        }
    }

    /// Clock ticks so far: a number that stands still is a worker that hangs.
    pub(crate) fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }
}

/// The controller's end of a worker.
pub(crate) struct WorkerHandle {
    commands: UnboundedSender<Command>,
    report: Arc<Report>,
    thread: Option<thread::JoinHandle<()>>,
}

impl WorkerHandle {
    /// Starts a data thread.
    pub(crate) fn start(
        index: usize,
        options: WorkerOptions,
        known: Known,
        metrics: Arc<WorkerMetrics>,
        log: Option<AccessLogger>,
    ) -> io::Result<Self> {
        let (commands, receiver) = unbounded_channel();
        let report = Arc::new(Report::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(FILE_THREADS)
            .build()?;
        let shared = Arc::clone(&report);
        let thread = thread::Builder::new().name(format!("data-{index}")).spawn(move || {
            let worker = Rc::new(Worker::new(options, metrics, log));
            LocalSet::new()
                .block_on(&runtime, run(worker, Upstreams::new(index, known), receiver, &shared));
        })?;
        Ok(Self { commands, report, thread: Some(thread) })
    }

    /// Tells the worker; a worker that is gone hears nothing.
    pub(crate) fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// Client connections that are open, as of the last clock tick.
    pub(crate) fn connections(&self) -> usize {
        self.report.connections.load(Ordering::Relaxed)
    }

    /// Client connections that have yet to leave an address; `None` until the worker has been told.
    pub(crate) fn left(&self, ip: IpAddr) -> Option<usize> {
        self.report.left.lock().unwrap_or_else(PoisonError::into_inner).get(&ip).copied()
    }

    /// For those who watch over the worker.
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

/// The main task of a worker: its clock, and the controller's commands.
async fn run(
    worker: Rc<Worker>,
    upstreams: Upstreams,
    mut commands: UnboundedReceiver<Command>,
    report: &Report,
) {
    let upstreams = Rc::new(upstreams);
    let (relays, udp) = (Rc::default(), Udp::new(&worker));
    let mut listeners = Vec::new();
    let mut ticker = tokio::time::interval(clock::period(worker.options.time_scale));
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut ticks: u64 = 0;
    loop {
        tokio::select! {
            command = commands.recv() => { match command {
                Some(Command::Listen(opened)) => {
                    let (id, address, ends) = (opened.id, opened.facts.address, Rc::default());
                    match accept(&worker, &upstreams, &relays, *opened, &ends) {
                        Ok(closing) => listeners.push((id, address, (closing, ends))),
                        Err(error) => tracing::error!(%error, "listener lost"),
                    }
                }
                Some(Command::ListenUdp(opened)) => {
                    if let Err(error) = udp.open(*opened) {
                        tracing::error!(%error, "listener lost");
                    }
                }
                // Dropping the sender is what ends the accept loop.
                Some(Command::Unlisten(id)) => {
                    for (.., (_, ends)) in listeners.extract_if(.., |(other, ..)| *other == id) {
                        worker.closed(ends);
                    }
                    udp.close(id);
                }
                Some(Command::Leave(ips)) => {
                    worker.addresses().leave(&ips, worker.now());
                    worker.wake_leaving();
                }
                Some(Command::Stay(ips)) => worker.addresses().stay(&ips),
                Some(Command::Cut(ips)) => {
                    worker.cut(&ips);
                    udp.cut(&ips);
                }
                Some(Command::Drain(kept)) => {
                    listeners.retain(|(_, address, _)| kept.contains(&address.ip()));
                    udp.drain(&kept);
                    worker.addresses().leave_all(worker.now());
                    worker.wake_leaving();
                }
                None => break,
            }
            worker.listens(listeners.iter().map(|(_, address, _)| *address).collect()); }
            _ = ticker.tick() => {
                worker.clock().tick();
                worker.feel();
                udp.tick();
                worker.flush_counters();
                ticks += 1;
                if ticks.is_multiple_of(SWEEP_EVERY) || worker.options.time_scale < 1.0 {
                    worker.sweep();
                }
                if ticks.is_multiple_of(TIDY_EVERY) {
                    upstreams.sweep(worker.now(), worker.options.limits.upstream_idle);
                    drop(worker.pin());
                    worker.tidy();
                    worker.give_back();
                }
                report.update(&worker);
            }
        }
    }
    // Let tasks that were just woken see that the worker is going.
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
    worker.flush_counters();
    worker.flush_log();
}

#[cfg(test)]
mod tests;
