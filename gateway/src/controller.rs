//! The compiler thread: the one owner of the cluster state and the one publisher of configuration.
//!
//! Waits for events, lets a burst settle, compiles, publishes, then makes the outside follow in the order
//! that keeps promises: bind, then announce; withdraw, then unbind. Nothing else writes configuration.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use gatehouse_routes::problem::{Problem, Severity};
use gatehouse_vip::{Quarantine, SpeakerEvent, Strangers};
use serde::Serialize;

use crate::{
    addresses::{self, Addresses, Announced, Change, Changes},
    compile::{Compiled, NodeContext, Role, compile},
    handover::{self, Door, Handed},
    l4::kernel::{KernelFact, KernelForwarding},
    listeners::Listeners,
    process::ProcessProblems,
    snapshot::{Live, Snapshot},
    source::{Event, References, kube::Wants},
    state::ClusterState,
    state_file::Recorded,
    status::Leadership,
    upstream::tls_failures::TlsFailures,
    worker::{
        clock::Clock,
        thread::{Command, WorkerHandle},
    },
};

mod compiling;
mod memory;
mod reports;
mod succession;

use compiling::guarded;
pub(crate) use memory::Memory;
pub(crate) use reports::Reports;

/// Quiet that ends a burst of events of a cluster: those that are sent together arrive together. The file source lets saves
/// settle before it sends them.
const QUIET: Duration = Duration::from_millis(2);
/// Longest that a burst is waited out.
const SETTLE: Duration = Duration::from_millis(100);
/// Period of what is tried again: listeners that could not be opened, retired snapshots in use.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// Period while connections leave an address that has moved.
const LEAVING: Duration = Duration::from_millis(50);
/// How long a configuration waits for the objects that it is the first to refer to: at the start, and
/// later, when waiting for them is waiting with everything else.
const REFERENCES: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(2));
/// Reason of a problem: the state has no configuration.
const COMPILE_FAILED: &str = "CompileFailed";
/// Reason of a refusal: a host outside has the address.
const ADDRESS_IN_USE: &str = "AddressInUse";
/// Silence of the speakers after which a stop takes their events for complete.
const LAST_WORD: Duration = Duration::from_millis(20);

/// What the controller waits for.
pub(crate) enum Signal {
    /// From a source of objects.
    Source(Event),
    /// About the addresses of this node.
    Addresses(addresses::Event),
    /// Who allocates addresses and writes statuses.
    Leadership(Leadership),
    /// From the process before this one on this node.
    Before(handover::Step),
    /// A process after this one asks for what it gets.
    HandOver(SyncSender<Option<Handed>>),
    /// Try at once whatever waits to be tried again.
    Reload,
    /// Withdraw, drain and end; the answer tells that it is done.
    Stop(SyncSender<()>),
}

/// What the admin server and the main thread may know of the controller.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    facts: Mutex<Facts>,
}

/// A consistent view of where the controller stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// The first snapshot is live.
    pub(crate) published: bool,
    /// Drain has begun.
    pub(crate) stopping: bool,
    /// Generations that some request still uses, the live one included.
    pub(crate) snapshots_alive: u64,
    /// Duration of the last compile.
    pub(crate) compile: Duration,
    /// When that was, seconds since 1970.
    pub(crate) reloaded: f64,
    /// Everything that is wrong now.
    pub(crate) problems: Vec<Problem>,
    /// Planned listeners and whether they are open.
    pub(crate) listeners: Vec<ListenerFact>,
    /// Announced addresses.
    pub(crate) announced: Vec<Announced>,
    /// What the kernel passes on.
    pub(crate) kernel: Vec<KernelFact>,
}

/// One planned listener.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ListenerFact {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: crate::compile::Protocol,
    pub(crate) open: bool,
    pub(crate) error: Option<String>,
}

impl Progress {
    /// Where the controller stands.
    pub(crate) fn facts(&self) -> Facts {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn update(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.facts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The compiler thread's world.
pub(crate) struct Controller {
    pub(crate) state: ClusterState,
    pub(crate) node: NodeContext,
    /// What this node may do about addresses.
    pub(crate) role: Role,
    pub(crate) memory: Memory,
    /// Where the process after this one is met.
    pub(crate) door: Door,
    /// To be called when this process has the addresses.
    pub(crate) meets: Box<dyn Fn() + Send>,
    pub(crate) drain_timeout: Duration,
    pub(crate) live: Arc<Live>,
    pub(crate) workers: Vec<WorkerHandle>,
    /// As the workers count time.
    pub(crate) clock: Clock,
    pub(crate) listeners: Listeners,
    pub(crate) kernel: KernelForwarding,
    pub(crate) addresses: Addresses,
    pub(crate) progress: Arc<Progress>,
    /// What is wrong in this process.
    pub(crate) problems: ProcessProblems,
    pub(crate) tls_failures: TlsFailures,
    /// The same, and what is wrong with listeners and addresses, as of the last look.
    pub(crate) node_problems: Vec<Problem>,
    pub(crate) compiled: Option<Arc<Compiled>>,
    /// Addresses that were let go a short while ago.
    pub(crate) quarantine: Quarantine,
    /// Addresses that hosts outside use.
    pub(crate) strangers: Strangers,
    pub(crate) retired: Vec<Arc<Snapshot>>,
    pub(crate) generation: u64,
    /// Where to ask for objects by name, if the source has to be asked.
    pub(crate) references: Option<Asking>,
    /// What the cluster is told, if there is one.
    pub(crate) reports: Option<Reports>,
    /// When the outside last followed the configuration.
    pub(crate) tidied: Instant,
    /// Hears at the first publication whether the plain addresses could be opened.
    pub(crate) started: Option<tokio::sync::oneshot::Sender<Result<(), String>>>,
}

/// Asks the source for the objects that others refer to.
#[derive(Debug)]
pub(crate) struct Asking {
    wants: Wants,
    wanted: Arc<References>,
    /// Since when a configuration waits for answers.
    since: Option<Instant>,
    /// The last that has been waited for in vain.
    given_up: Option<Arc<References>>,
}

impl Asking {
    /// Nothing has been asked for yet.
    pub(crate) fn new(wants: Wants) -> Self {
        Self { wants, wanted: Arc::default(), since: None, given_up: None }
    }

    /// Asks for what a configuration refers to; true if it should wait for the answers.
    fn ask(&mut self, compiled: &Compiled, state: &ClusterState, first: bool) -> bool {
        let wanted = compiled.references();
        if !self.wanted.iter().map(|(kind, key)| (*kind, key)).eq(wanted.clone()) {
            self.wanted = Arc::new(wanted.map(|(kind, key)| (kind, key.clone())).collect());
            self.since = None;
        }
        self.wants.set(&self.wanted);
        let given_up = self.given_up.as_ref().is_some_and(|vain| Arc::ptr_eq(vain, &self.wanted));
        if given_up || state.has_answers(&self.wanted) {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let patience = if first { REFERENCES.0 } else { REFERENCES.1 };
        if since.elapsed() < patience {
            return true;
        }
        tracing::warn!("objects that others refer to have not come in time; going on without them");
        self.given_up = Some(Arc::clone(&self.wanted));
        self.since = None;
        false
    }
}

impl Controller {
    /// Runs until told to stop.
    pub(crate) fn run(mut self, signals: &Receiver<Signal>) {
        let stopped = loop {
            match self.turn(signals) {
                Some(Turn::Stop(done)) => break Some(done),
                Some(Turn::Gone) => break None,
                None => (),
            }
        };
        self.stop(signals);
        if let Some(done) = stopped {
            // The main thread may have given up waiting.
            let _ = done.send(());
        }
    }

    /// One burst of signals, or one round of housekeeping.
    fn turn(&mut self, signals: &Receiver<Signal>) -> Option<Turn> {
        let mut burst = Burst::default();
        let mut wait = if self.addresses.is_draining() { LEAVING } else { HOUSEKEEPING };
        let telling = self.reports.as_ref().and_then(|reports| reports.wait(Instant::now()));
        wait = wait.min(telling.unwrap_or(wait));
        loop {
            match signals.recv_timeout(wait) {
                Ok(Signal::Stop(done)) => return Some(Turn::Stop(done)),
                Ok(Signal::Addresses(event)) => {
                    self.notice_strangers(&event);
                    burst.changes.extend(self.addresses.heard(event, Instant::now()));
                    burst.addresses = true;
                }
                Ok(Signal::Leadership(leadership)) => {
                    burst.objects |= self.reports.as_mut().is_some_and(|it| it.hear(leadership));
                    burst.since.get_or_insert_with(Instant::now);
                }
                Ok(Signal::Reload) => {
                    self.listeners.hurry(Instant::now());
                    self.memory.hurry(Instant::now());
                    burst.addresses = true;
                }
                Ok(Signal::Before(step)) => {
                    self.succeed(step);
                    burst.addresses = true;
                }
                Ok(Signal::HandOver(answer)) => {
                    // The asker may have gone.
                    let _ = answer.send(self.handed());
                }
                Ok(Signal::Source(event)) => {
                    burst.whole |= self.state.is_whole(&event);
                    burst.objects |= self.state.apply(event);
                    burst.since.get_or_insert_with(Instant::now);
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return Some(Turn::Gone),
            }
            wait = match burst.since {
                None => Duration::ZERO,
                Some(_) if burst.whole => Duration::ZERO,
                Some(since) => QUIET.min(SETTLE.saturating_sub(since.elapsed())),
            };
        }
        // A Service that waits for an address gets one when it has rested long enough.
        burst.objects |= self.quarantine.expire(Instant::now());
        // So does a Service whose address a host outside uses.
        burst.objects |= self.strangers.turn(Instant::now()) && self.role == Role::Allocate;
        // A configuration that waits for answers does not wait for ever.
        burst.objects |= self.references.as_ref().is_some_and(|asking| asking.since.is_some());
        if let Some(reports) = &mut self.reports {
            let role = reports.role(&self.state);
            burst.objects |= role != self.role;
            self.role = role;
        }
        if burst.objects && self.state.synced() {
            self.publish();
        }
        self.tell_workers(&burst.changes);
        if burst.objects || burst.addresses || self.tidied.elapsed() >= HOUSEKEEPING {
            self.tidied = Instant::now();
            self.memory.retry(self.tidied);
            let failed = !self.listeners.failed().is_empty() || self.kernel.has_work(self.tidied);
            if burst.objects || burst.addresses || failed {
                self.follow();
            }
            self.show();
        }
        let other_statuses = self.state.take_other_statuses();
        if let (Some(reports), Some(compiled)) = (&mut self.reports, &self.compiled) {
            let now = Instant::now();
            reports.compare(other_statuses);
            reports.tell(&self.state, &self.node, compiled, now);
            reports.make_group_key(&self.node, compiled, now);
        }
        self.release_drained();
        self.free_retired();
        None
    }

    /// Compiles the state and makes the result the live configuration.
    fn publish(&mut self) {
        let begun = Instant::now();
        if self.compiled.is_some() {
            self.node.quarantined.clone_from(self.quarantine.quarantined());
        }
        self.node.occupied.clone_from(self.strangers.occupied());
        let before = self.compiled.as_deref();
        let compiled =
            guarded(before, |before| compile(&self.state, &self.node, self.role, before));
        let Some(compiled) = compiled else {
            let message = "the objects cannot be compiled: a fault of this program; what was served before stays in use";
            let hint = "report it, and take back the change that was made last";
            return self.problems.error(COMPILE_FAILED, "", message.to_owned(), hint);
        };
        self.problems.clear(COMPILE_FAILED);
        let took = begun.elapsed();
        if let Some(asking) = &mut self.references
            && asking.ask(&compiled, &self.state, before.is_none())
        {
            return;
        }
        let compiled = Arc::new(compiled);
        let previous = self.compiled.take();
        self.quarantine.observe(&compiled.quarantined, Instant::now());
        self.record(&compiled, previous.as_deref());
        let before = previous.as_ref().and_then(|previous| previous.excluded);
        if let Some(why) = compiled.excluded.filter(|why| before != Some(*why)) {
            tracing::warn!("this node announces no address: {why}");
        }
        let known = previous.as_ref().map(|previous| &*previous.problems);
        report(known.unwrap_or_default(), &compiled.problems);
        self.generation += 1;
        let snapshot = Arc::new(Snapshot::new(self.generation, Arc::clone(&compiled)));
        self.retired.push(self.live.publish(snapshot));
        self.compiled = Some(compiled);
        self.reports.iter_mut().for_each(|reports| reports.published(self.role));
        // To a microsecond: more digits are noise in the log.
        let took_ms = f64::from(u32::try_from(took.as_micros()).unwrap_or(u32::MAX)) / 1000.0;
        tracing::info!(generation = self.generation, took_ms, "published");
        let reloaded = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.progress.update(|facts| {
            (facts.compile, facts.reloaded) = (took, reloaded.as_secs_f64());
        });
    }

    /// Takes note of whether a host outside has an address.
    fn notice_strangers(&mut self, event: &addresses::Event) {
        let addresses::Event::L2(event) = event else { return };
        match event {
            SpeakerEvent::Refused { vip, refusal } if refusal.reason == ADDRESS_IN_USE => {
                self.strangers.seen(*vip, Instant::now());
            }
            SpeakerEvent::Announced { vip, .. }
            | SpeakerEvent::Withdrawn { vip }
            | SpeakerEvent::Cleared { vip } => self.strangers.gone(*vip),
            _ => {}
        }
    }

    /// Remembers which Service holds which address, in memory and over a restart.
    fn record(&mut self, compiled: &Compiled, previous: Option<&Compiled>) {
        let before = previous.map_or(&self.node.quarantined, |previous| &previous.quarantined);
        let recorded =
            Recorded { addresses: compiled.recorded(), quarantined: compiled.quarantined.clone() };
        if recorded.addresses == self.node.recorded && recorded.quarantined == *before {
            return;
        }
        self.node.recorded.clone_from(&recorded.addresses);
        self.memory.keep(recorded, Instant::now());
    }

    /// Makes sockets and addresses follow the live configuration.
    fn follow(&mut self) {
        let Some(compiled) = &self.compiled else { return };
        self.listeners.open(&compiled.listeners, &self.workers, Instant::now());
        if let Some(started) = self.started.take() {
            let plain = compiled.listeners.iter().filter(|plan| !plan.vip);
            let failed = plain.filter_map(|plan| {
                let failed = self.listeners.failed().get(&plan.at())?;
                Some(format!("cannot listen on {}: {failed}", plan.address))
            });
            let failed = failed.collect::<Vec<_>>();
            // Nobody waits any more if a stop signal was faster.
            let _ = started.send(if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) });
        }
        self.kernel.apply(&compiled.kernel, Instant::now());
        let (listeners, kernel) = (&self.listeners, &self.kernel);
        let serves = |ip| kernel.serves(ip, &compiled.kernel);
        let changes = self.addresses.apply(compiled, listeners, serves);
        // An address that leaves is withdrawn before its ports close. The ports that one gives up which stays close now.
        let leaves = |ip| self.addresses.holds(ip) && !compiled.announces(ip);
        self.listeners.close(&compiled.listeners, &self.workers, |address| leaves(address.ip()));
        self.tell_workers(&changes);
    }

    /// Lets the admin server see what became of it.
    fn show(&mut self) {
        let Some(compiled) = &self.compiled else {
            let problems = self.problems.all();
            report(&self.node_problems, &problems);
            self.progress.update(|facts| facts.problems.clone_from(&problems));
            self.node_problems = problems;
            return;
        };
        let mut problems = compiled.problems.clone();
        let peers = &self.state.bgp_peers;
        let peer = |name: &str| peers.keys().find(|key| *key.name == *name).cloned();
        let mut own = self.problems.all();
        own.extend(self.listeners.problems(self.problems.node()));
        own.extend(self.addresses.problems(peer, Instant::now()));
        own.extend(self.tls_failures.problems(&self.live.current(), Instant::now()));
        report(&self.node_problems, &own);
        let announced = self.addresses.announced();
        if let Some(reports) = &mut self.reports {
            reports.problems(&self.state, &compiled.problems, &own);
            reports.announced(&self.state, compiled, &announced);
        }
        problems.extend(own.iter().cloned());
        self.node_problems = own;
        let listeners = compiled.listeners.iter().map(|plan| ListenerFact {
            address: plan.address,
            protocol: plan.protocol,
            open: self.listeners.is_open(plan),
            error: self.listeners.failed().get(&plan.at()).map(ToString::to_string),
        });
        let listeners = listeners.collect();
        let kernel = self.kernel.facts();
        self.progress.update(|facts| {
            facts.published = true;
            facts.problems = problems;
            facts.listeners = listeners;
            facts.announced = announced;
            facts.kernel = kernel;
        });
    }

    /// Drops retired snapshots that no data thread uses any more, here and nowhere else.
    fn free_retired(&mut self) {
        self.retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        let alive = self.retired.len() as u64 + 1;
        self.progress.update(|facts| facts.snapshots_alive = alive);
    }

    /// Makes the connections on addresses that came or went stay, leave or end.
    fn tell_workers(&self, changes: &Changes) {
        self.tell_those(changes, Change::Active, Command::Stay);
        self.tell_those(changes, Change::Draining, Command::Leave);
        self.tell_those(changes, Change::Gone, Command::Cut);
    }

    fn tell_those(&self, changes: &Changes, which: Change, command: fn(Arc<[IpAddr]>) -> Command) {
        let ips = changes.iter().filter(|(_, change)| **change == which).map(|(ip, _)| *ip);
        let ips: Arc<[IpAddr]> = ips.collect();
        if !ips.is_empty() {
            self.workers.iter().for_each(|worker| worker.send(command(Arc::clone(&ips))));
        }
    }

    /// Ends the draining of addresses that every connection has left.
    fn release_drained(&mut self) {
        let now = Instant::now();
        self.kernel.count_open(self.addresses.is_draining(), now);
        let (workers, kernel) = (&self.workers, &self.kernel);
        // Connections of this process, and those that the kernel passes on.
        let left = |ip| workers.iter().map(|it| it.left(ip)).chain([kernel.left(ip)]).sum();
        if self.addresses.release_drained(left, now) {
            self.follow();
        }
    }

    /// Hands the addresses to other nodes and has routers prefer other ways while everything is still
    /// served, lets the requests under way finish, then takes the addresses off: until then they carry
    /// answers.
    fn stop(mut self, signals: &Receiver<Signal>) {
        self.progress.update(|facts| facts.stopping = true);
        self.reports.iter().for_each(Reports::stop);
        if self.leave() {
            self.drain_workers(signals);
            self.workers.into_iter().for_each(WorkerHandle::stop);
            return;
        }
        let leaving = self.addresses.begin_stop();
        self.tell_workers(&leaving);
        self.addresses.hand_over();
        self.hear_addresses(signals);
        self.drain_workers(signals);
        self.addresses.withdraw();
        self.kernel.stop();
        for worker in self.workers {
            worker.stop();
        }
        // Ends the speakers.
        drop(self.addresses);
    }

    /// Lets open connections end, for as long as they may take.
    fn drain_workers(&mut self, signals: &Receiver<Signal>) {
        let draining = self.addresses.draining();
        self.listeners.let_go();
        for worker in &self.workers {
            worker.send(Command::Drain(Arc::clone(&draining)));
        }
        let deadline = Instant::now() + self.drain_timeout;
        // The workers report once per clock tick; give them two before believing a zero.
        std::thread::sleep(Duration::from_millis(120));
        while (self.open() > 0 || self.addresses.is_draining()) && Instant::now() < deadline {
            self.hear_addresses(signals);
            self.release_drained();
        }
        let left = self.open();
        if left > 0 {
            tracing::warn!(connections = left, "cut after {:?}", self.drain_timeout);
        }
    }

    /// Client connections that are open.
    fn open(&self) -> usize {
        self.workers.iter().map(WorkerHandle::connections).sum()
    }

    /// Acts upon what the speakers say until they are silent, and on nothing else: the configuration does
    /// not change any more.
    fn hear_addresses(&mut self, signals: &Receiver<Signal>) {
        let mut changes = Changes::new();
        while let Ok(signal) = signals.recv_timeout(LAST_WORD) {
            if let Signal::Addresses(event) = signal {
                changes.extend(self.addresses.heard(event, Instant::now()));
            }
        }
        self.tell_workers(&changes);
    }
}

enum Turn {
    Stop(SyncSender<()>),
    /// Everybody who could signal is gone.
    Gone,
}

#[derive(Default)]
struct Burst {
    objects: bool,
    addresses: bool,
    /// Addresses that came or went; the last word counts.
    changes: Changes,
    since: Option<Instant>,
    /// Nothing that belongs to it is waited for any more.
    whole: bool,
}

/// Logs problems that are new.
fn report(before: &[Problem], now: &[Problem]) {
    let known: std::collections::HashSet<_> =
        before.iter().map(|problem| (&problem.object, problem.reason, &problem.message)).collect();
    for problem in now {
        if !known.contains(&(&problem.object, problem.reason, &problem.message)) {
            match problem.severity {
                Severity::Error => tracing::error!("{}", line(problem)),
                Severity::Warning => tracing::warn!("{}", line(problem)),
            }
        }
    }
}

/// A problem without its severity, which is the level of the line.
fn line(problem: &Problem) -> String {
    let line = problem.to_string();
    line.split_once(": ").map(|(_, line)| line.to_owned()).unwrap_or(line)
}
