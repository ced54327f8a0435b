//! The thread that talks to the API server: one loop over the pure parts of this folder.
//!
//! [`Status`] is what the rest of the process has of it. The loop asks [`Election`] whether this process
//! leads before every single request of a leader; the moment it does not, everything under way is dropped.

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use gatehouse_routes::problem::Problem;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    Leadership, Options,
    announced::{self, Announcements, Place, Told},
    diff::Patch,
    events::{self, Answer, Journal, Regarding, Request},
    leader::{Election, Step, Term, Write, Written},
    lease::{self, LeaseApi},
    queue::{Next, Outcome, Queue},
    requests,
    standing::{self, Standing},
    takeover::{self, Realm, Taken},
};
use crate::{
    compile::GroupSecret,
    config::Settings,
    source::kube::client::{Access, Requests},
};

/// Requests in one second, of all that this folder asks for; `queue` and `events` have bounds of their own.
const RATE: u64 = 1000;

/// Requests about Events under way at one time.
const EVENTS: usize = 4;
/// Time between two attempts of a new leader to read all Services.
const TAKE_AGAIN: Duration = Duration::from_secs(2);
/// Time between two attempts to say what this node announces.
const TELL_AGAIN: Duration = Duration::from_secs(10);
/// Longest that a stop waits for requests under way.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// The thread, as the controller and `app` have it.
#[derive(Debug)]
pub(crate) struct Status {
    inputs: mpsc::UnboundedSender<Input>,
    standing: Arc<Standing>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What the thread is told.
#[derive(Debug)]
enum Input {
    /// All that differs, as the leader of a term sees it, and earlier names of our router of which nothing is left.
    Patches { term: u32, patches: Vec<Patch>, cleared: Vec<String> },
    /// The Secret of the group is to be made, as the leader of a term sees it.
    GroupKey { term: u32, secret: GroupSecret },
    /// All problems that this node speaks for.
    Problems { problems: Vec<(Problem, Regarding)>, first: bool },
    /// All that this node announces.
    Announced(Announcements),
    /// Let go of the Lease and end.
    Stop,
}

impl Status {
    /// Starts the thread. `hears` is called on it when the role changes: it must not block. Whether the API
    /// server answers is not waited for.
    ///
    /// # Errors
    /// There is no usable configuration, or no thread.
    pub(crate) fn start(
        settings: &Settings,
        access: &Access,
        requests: &Arc<Requests>,
        hears: impl Fn(Leadership) + Send + 'static,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(access.connect(requests, RATE))?;
        let options = Options::new(settings, client.default_namespace())?;
        let (inputs, received) = mpsc::unbounded_channel();
        let standing = Arc::new(Standing::default());
        let seen = Arc::clone(&standing);
        let thread = thread::Builder::new()
            .name("status".to_owned())
            .spawn(move || {
                let writer = Writer::new(options, client, seen, Box::new(hears));
                runtime.block_on(writer.run(received));
                runtime.shutdown_background();
            })
            .context("cannot start the status thread")?;
        Ok(Self { inputs, standing, thread: Some(thread) })
    }

    /// How things stand, for the admin pages.
    pub(crate) fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.standing)
    }

    /// Everything that differs from what the statuses are to be, as the leader of a term sees it. `cleared`: names that
    /// our router had before and that no Route has an entry of any more.
    pub(crate) fn patches(&self, term: u32, patches: Vec<Patch>, cleared: Vec<String>) {
        self.tell(Input::Patches { term, patches, cleared });
    }

    /// There is no Secret with the key of the group, as the leader of a term sees it.
    pub(crate) fn make_group_key(&self, term: u32, secret: GroupSecret) {
        self.tell(Input::GroupKey { term, secret });
    }

    /// Everything that is wrong, of which this node is to tell. `first`: another leader may have told of it.
    pub(crate) fn problems(&self, problems: Vec<(Problem, Regarding)>, first: bool) {
        self.tell(Input::Problems { problems, first });
    }

    /// Everything that this node announces.
    pub(crate) fn announced(&self, announced: Announcements) {
        self.tell(Input::Announced(announced));
    }

    /// Lets another node lead, as soon as what is under way has been answered.
    pub(crate) fn stop(&self) {
        self.tell(Input::Stop);
    }

    fn tell(&self, input: Input) {
        // The thread ends only when it is told to, and then nothing needs to be said.
        let _ = self.inputs.send(input);
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already, and there is nothing left to tear down.
            let _ = thread.join();
        }
    }
}

/// The thread's world.
struct Writer {
    options: Options,
    client: Client,
    standing: Arc<Standing>,
    hears: Box<dyn Fn(Leadership)>,
    election: Election,
    lease_api: LeaseApi,
    /// The Lease as last read or written.
    lease: Option<Lease>,
    /// When the term was last prolonged, by the clock on the wall: that one goes on in a machine that sleeps.
    renewed: SystemTime,
    attempt: Instant,
    asking: bool,
    leading: Option<Leading>,
    /// Requests that end with the term.
    work: JoinSet<Done>,
    /// Those that do not.
    others: JoinSet<Done>,
    journal: Journal,
    telling: usize,
    announcing: Announcing,
    /// A stop has been asked for, and this is how long it may take.
    stopping: Option<Instant>,
}

/// What a leader has to do.
struct Leading {
    term: Term,
    queue: Queue,
    /// The controller has begun to deal addresses out.
    allocating: bool,
    /// When the Services are to be read again, while it has not. `None`: that is under way.
    take: Option<Instant>,
    taken: bool,
}

/// What this node says of its own.
struct Announcing {
    place: Place,
    wanted: Announcements,
    told: Option<Told>,
    changed: bool,
    /// `None`: a request is under way.
    due: Option<Instant>,
}

enum Done {
    Lease(Box<lease::Answer>),
    Taken(u32, Result<Taken, String>),
    Patched(Box<Patch>, Outcome),
    Event(Box<Request>, Answer),
    Announced(Result<Told, String>),
    GroupKey(GroupSecret, Outcome),
}

impl Writer {
    fn new(
        options: Options,
        client: Client,
        standing: Arc<Standing>,
        hears: Box<dyn Fn(Leadership)>,
    ) -> Self {
        let now = Instant::now();
        let timing = options.timing;
        let lease_api = LeaseApi::new(&client, &options, timing.renew_deadline / 2);
        let place = Place {
            namespace: options.namespace.clone(),
            node: options.node.clone(),
            pod: options.pod.clone(),
        };
        Self {
            election: Election::new(options.identity.clone(), timing),
            journal: Journal::new(options.identity.clone(), now),
            lease_api,
            lease: None,
            renewed: SystemTime::now(),
            attempt: now,
            asking: false,
            leading: None,
            work: JoinSet::new(),
            others: JoinSet::new(),
            telling: 0,
            announcing: Announcing {
                place,
                wanted: BTreeMap::new(),
                told: None,
                changed: true,
                due: Some(now),
            },
            stopping: None,
            options,
            client,
            standing,
            hears,
        }
    }

    async fn run(mut self, mut inputs: mpsc::UnboundedReceiver<Input>) {
        loop {
            let now = Instant::now();
            self.follow_election(now);
            if self.stopping.is_some_and(|until| self.is_quiet() || now >= until) {
                self.release(now).await;
                return;
            }
            let wake = self.pump(now);
            let done = tokio::select! {
                biased;
                Some(done) = self.others.join_next() => Some(done),
                Some(done) = self.work.join_next() => Some(done),
                input = inputs.recv() => {
                    self.hear(input.unwrap_or(Input::Stop), Instant::now());
                    None
                }
                () = tokio::time::sleep_until(wake.into()) => None,
            };
            // What was aborted has no answer.
            if let Some(Ok(done)) = done {
                self.take_note(done, Instant::now());
            }
        }
    }

    /// Begins and ends to lead as the election says.
    fn follow_election(&mut self, now: Instant) {
        let deadline = self.options.timing.renew_deadline;
        if self.renewed.elapsed().is_ok_and(|it| it >= deadline) && self.leading.is_some() {
            self.election.resign();
        }
        let term = self.election.term(now);
        let leads = self.leading.as_ref().map(|leading| leading.term.number);
        if leads == term.map(|term| term.number) {
            return;
        }
        if self.leading.take().is_some() {
            tracing::warn!(
                "does not lead any more: another node allocates addresses and writes statuses"
            );
            self.work = JoinSet::new();
            self.standing.differing(std::iter::empty());
            (self.hears)(Leadership::Follow);
        }
        if let Some(term) = term.filter(|_| self.stopping.is_none()) {
            let (lease, clean) = (&self.options.lease_name, term.clean);
            tracing::info!(lease, clean, "leads: allocates addresses and writes statuses");
            let (queue, take) = (Queue::new(now), Some(now));
            self.lease_api.cleared.clear();
            self.leading = Some(Leading { term, queue, allocating: false, take, taken: false });
        }
    }

    /// Sends all that may be sent now; says when to look again at the latest.
    fn pump(&mut self, now: Instant) -> Instant {
        let mut wake = now + Duration::from_secs(60);
        if self.stopping.is_none() {
            self.pump_election(now);
            wake = wake.min(self.pump_announced(now));
            wake = wake.min(self.pump_events(now));
        }
        if !self.asking {
            wake = wake.min(self.attempt);
        }
        if let Some(until) = self.stopping {
            return wake.min(until);
        }
        let Some(leading) = &mut self.leading else { return wake };
        // The end of the term as it is now: renewals have moved it. The clock on the wall is looked at now
        // and then as well.
        let until = self.election.term(now).map_or(now, |term| term.until);
        wake = wake.min(until).min(now + Duration::from_secs(1));
        if !leading.allocating
            && let Some(due) = leading.take
        {
            if due <= now {
                leading.take = None;
                let (client, options) = (self.client.clone(), self.options.clone());
                let (term, again) = (leading.term, leading.taken);
                self.work.spawn(async move {
                    let leader = format!("{} (term {})", options.identity, term.number);
                    let realm = Realm { scope: &options.scope, manager: &options.manager };
                    let taken = takeover::take_over(&client, realm, &leader, term, again).await;
                    Done::Taken(term.number, taken)
                });
            } else {
                wake = wake.min(due);
            }
        }
        loop {
            match leading.queue.next(now) {
                Next::Idle => return wake,
                Next::Later(at) => return wake.min(at),
                Next::Send(patch) => {
                    let (client, manager) = (self.client.clone(), self.options.manager.clone());
                    self.work.spawn(async move {
                        let outcome = requests::write(&client, &patch, &manager).await;
                        Done::Patched(patch, outcome)
                    });
                }
            }
        }
    }

    fn pump_election(&mut self, now: Instant) {
        if self.asking || now < self.attempt {
            return;
        }
        let period = self.options.timing.retry_period;
        // Those that wait for the Lease do not all ask at once.
        let jitter = if self.leading.is_some() { 0.0 } else { 0.2 * fastrand::f64() };
        self.attempt = now + period.mul_f64(1.0 + jitter);
        self.asking = true;
        let api = self.lease_api.clone();
        match self.election.attempt(now) {
            Step::Read => {
                self.others.spawn(async move { Done::Lease(Box::new(api.read().await)) });
            }
            Step::Write(write) => self.write_lease(write, now),
        }
    }

    fn write_lease(&mut self, write: Write, now: Instant) {
        self.asking = true;
        let (api, known) = (self.lease_api.clone(), self.lease.clone());
        let known = known.filter(|_| write.over.is_some());
        self.others.spawn(async move { Done::Lease(Box::new(api.write(write, known, now).await)) });
    }

    fn pump_events(&mut self, now: Instant) -> Instant {
        while self.telling < EVENTS {
            match self.journal.next(&super::micros(Timestamp::now()), now) {
                Ok(request) => {
                    self.telling += 1;
                    let (client, request) = (self.client.clone(), Box::new(request));
                    self.others.spawn(async move {
                        let answer = requests::tell(&client, &request).await;
                        Done::Event(request, answer)
                    });
                }
                Err(later) => return later.unwrap_or(now + Duration::from_secs(60)),
            }
        }
        now + Duration::from_secs(60)
    }

    fn pump_announced(&mut self, now: Instant) -> Instant {
        let Announcing { place, wanted, told, changed, due } = &mut self.announcing;
        match *due {
            Some(at) if *changed && at <= now => {
                (*changed, *due) = (false, None);
                let (client, place) = (self.client.clone(), place.clone());
                let (wanted, told) = (wanted.clone(), told.take());
                self.others.spawn(async move {
                    Done::Announced(announced::tell(&client, &place, &wanted, told).await)
                });
                now + Duration::from_secs(60)
            }
            Some(at) if *changed => at,
            _ => now + Duration::from_secs(60),
        }
    }

    fn hear(&mut self, input: Input, now: Instant) {
        match input {
            Input::Patches { term, patches, cleared } => {
                let current = self.leading.as_mut().filter(|it| it.term.number == term);
                if let Some(leading) = current {
                    leading.allocating = true;
                    self.lease_api.cleared.extend(cleared);
                    self.standing.differing(patches.iter().map(|patch| &patch.object));
                    leading.queue.submit(patches);
                }
            }
            Input::GroupKey { term, secret } => {
                if self.leading.as_ref().is_some_and(|it| it.term.number == term) {
                    let client = self.client.clone();
                    self.work.spawn(async move {
                        let outcome = requests::make_group_key(&client, &secret).await;
                        Done::GroupKey(secret, outcome)
                    });
                }
            }
            Input::Problems { problems, first } => {
                let before = self.journal.dropped();
                let problems = problems.iter().map(|(problem, of)| (problem, of.clone()));
                self.journal.problems(problems, first, now);
                let dropped = self.journal.dropped() - before;
                if dropped > 0 {
                    tracing::warn!(dropped, "too many Events at once; some problems have none");
                }
            }
            Input::Announced(announced) => {
                self.tell_of_new(&announced, now);
                self.announcing.changed |= announced != self.announcing.wanted;
                self.announcing.wanted = announced;
            }
            Input::Stop => {
                self.stopping.get_or_insert(now + LAST_ANSWERS);
            }
        }
    }

    /// `nodeAssigned`, as MetalLB says it.
    fn tell_of_new(&mut self, announced: &Announcements, now: Instant) {
        for ((protocol, service), announcement) in announced {
            if self.announcing.wanted.contains_key(&(*protocol, service.clone())) {
                continue;
            }
            let (node, uid) = (&self.options.node, &announcement.uid);
            let happened = events::announced(node, protocol.name(), service, uid);
            self.journal.happened(happened, now);
        }
    }

    fn take_note(&mut self, done: Done, now: Instant) {
        match done {
            Done::Lease(answer) => self.hear_lease(*answer, now),
            Done::Event(request, answer) => {
                self.telling -= 1;
                self.journal.answered(*request, answer);
            }
            Done::Announced(result) => {
                let pause = if result.is_ok() { Duration::ZERO } else { TELL_AGAIN };
                match result {
                    Ok(told) => self.announcing.told = Some(told),
                    Err(why) => {
                        tracing::debug!(why, "what this node announces was not told");
                        self.announcing.changed = true;
                    }
                }
                self.announcing.due = Some(now + pause);
            }
            Done::Taken(term, result) => {
                let Some(leading) = &mut self.leading else { return };
                if leading.term.number != term {
                    return;
                }
                leading.take = Some(now + TAKE_AGAIN);
                match result {
                    Ok(mut taken) => {
                        leading.taken = true;
                        taken.routers_before = self.lease_api.routers_before(self.lease.as_ref());
                        (self.hears)(Leadership::Lead(taken));
                    }
                    Err(why) => tracing::warn!(why, "cannot begin to allocate addresses"),
                }
            }
            Done::Patched(patch, outcome) => self.patched(*patch, &outcome, now),
            Done::GroupKey(secret, outcome) => match outcome {
                Outcome::Done(_) => {
                    tracing::info!(secret = %secret.object, "made the key of the group")
                }
                // Another one has made it.
                Outcome::Conflict => {}
                outcome => {
                    tracing::warn!(secret = %secret.object, ?outcome, "the key of the group was not made");
                }
            },
        }
    }

    fn patched(&mut self, patch: Patch, outcome: &Outcome, now: Instant) {
        match outcome {
            Outcome::Refused(why) | Outcome::Failed(why, _) => {
                tracing::warn!(object = %patch.object, why, "the status was not written");
            }
            Outcome::Done(_) => {
                if let Some(happened) = events::assigned(&patch) {
                    self.journal.happened(happened, now);
                }
            }
            Outcome::Contested(rival) => {
                let problem = standing::contested(&patch.object, rival);
                tracing::warn!("{problem}");
                self.journal.happened(events::contested(&patch, &problem), now);
            }
            Outcome::Conflict | Outcome::Gone => {}
        }
        self.standing.written(&patch.object, outcome);
        if let Some(leading) = &mut self.leading {
            leading.queue.answered(patch, outcome, now);
        }
    }

    fn hear_lease(&mut self, answer: lease::Answer, now: Instant) {
        self.asking = false;
        match answer {
            lease::Answer::Read(Ok(found)) => {
                let record = found.as_ref().map(lease::record);
                self.lease = found;
                self.standing.lease(self.lease.as_ref(), &self.options.identity);
                if let Some(write) = self.election.found(record, now)
                    && self.stopping.is_none()
                {
                    self.write_lease(write, now);
                }
            }
            lease::Answer::Read(Err(why)) => {
                tracing::debug!(?why, "the Lease cannot be read");
                self.lease_refused(&why);
            }
            lease::Answer::Wrote(write, asked, outcome, lease) => {
                if outcome != Written::Failed {
                    self.renewed = SystemTime::now() - now.saturating_duration_since(asked);
                }
                match lease {
                    Ok(lease) => {
                        self.standing.lease(Some(&lease), &self.options.identity);
                        self.lease = Some(lease);
                    }
                    Err(why) => self.lease_refused(&why),
                }
                if self.election.written(write, outcome, asked, now) {
                    self.attempt = now;
                }
            }
        }
    }

    fn lease_refused(&self, why: &Outcome) {
        if let Outcome::Refused(why) = why {
            let Options { namespace, lease_name, .. } = &self.options;
            self.standing.lease_refused(namespace, lease_name, why);
        }
    }

    /// Whether nothing is under way that could still change an address.
    fn is_quiet(&self) -> bool {
        !self.asking && self.leading.as_ref().is_none_or(|leading| !leading.queue.is_busy())
    }

    /// Lets another process lead at once, if nothing is under way.
    async fn release(&mut self, now: Instant) {
        if !self.is_quiet() {
            return;
        }
        if let Some(write) = self.election.release(now) {
            self.lease_api.clone().write(write, self.lease.clone(), now).await;
        }
    }
}
