//! Whether passwords are right: asked by the data threads, found out on threads of their own.
//!
//! A hash such as bcrypt is made to be slow, so a client that may try passwords may spend this host's time. Hence
//! everything here has a bound: few threads, which give way to all others; a queue of so many passwords, of each
//! client only a few among them; a time after which nobody waits any more. What was found out is remembered by a
//! keyed digest of hash and password, so that a user waits once and not with every request; neither passwords nor
//! anything that they could be guessed from is kept.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZero,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::{hmac, rand::SystemRandom};
use gatehouse_routes::filter::authentication::password::PasswordHash;
use tokio::sync::oneshot;

mod local;
mod verify;

pub(crate) use local::LocalPasswords;

/// Passwords that may wait, over all clients.
const QUEUE: usize = 256;
/// Passwords of one client that may wait or be looked at.
const EACH: usize = 4;
/// How long a password waits before it is not looked at any more.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a right password is remembered.
const KEEP_RIGHT: Duration = Duration::from_secs(600);
/// How long a wrong one.
const KEEP_WRONG: Duration = Duration::from_secs(10);
/// Passwords remembered of either sort.
const KNOWN: usize = 16_384;
/// What the threads give way by (`nice`).
const NICE: i32 = 10;

/// Stands for a password and the hash that it was tried on.
pub(crate) type Mark = [u8; 32];

/// What came of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Right,
    Wrong,
    /// There was no time to look.
    Late,
}

/// The answer to a question.
#[derive(Debug)]
pub(crate) enum Asked {
    Known(Verdict),
    Wait(oneshot::Receiver<Verdict>),
    /// The client asks too much at once.
    TooMany,
    /// All clients together do.
    Full,
}

/// The way to the threads, which are started with the first question and end with the last of the handles.
#[derive(Clone, Debug)]
pub(crate) struct Passwords(Arc<Owner>);

#[derive(Debug)]
struct Owner(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    key: hmac::Key,
    threads: usize,
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct State {
    started: bool,
    over: bool,
    queue: VecDeque<Job>,
    waiting: HashMap<Mark, Vec<oneshot::Sender<Verdict>>>,
    /// Passwords of each client that wait or are looked at.
    clients: HashMap<u64, usize>,
    right: HashMap<Mark, Instant>,
    wrong: HashMap<Mark, Instant>,
}

#[derive(Debug)]
struct Job {
    mark: Mark,
    hash: PasswordHash,
    password: Vec<u8>,
    client: u64,
    since: Instant,
}

impl Passwords {
    /// With one thread for every four cores.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(crate) fn new() -> std::io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        Self::with_threads((cores / 4).max(1))
    }

    fn with_threads(threads: usize) -> std::io::Result<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| std::io::Error::other("no random numbers"))?;
        let (state, ready) = (Mutex::default(), Condvar::new());
        Ok(Self(Arc::new(Owner(Arc::new(Shared { key, threads, state, ready })))))
    }

    /// What stands for a password and the hash that it is tried on.
    pub(crate) fn mark(&self, hash: &PasswordHash, password: &[u8]) -> Mark {
        let mut context = hmac::Context::with_key(&self.0.0.key);
        context.update(&(hash.text().len() as u64).to_be_bytes());
        context.update(hash.text().as_bytes());
        context.update(password);
        let mut mark = [0; 32];
        mark.copy_from_slice(context.sign().as_ref());
        mark
    }

    /// Whether a password is right; `mark` is its own. What nobody knows yet has to be waited for.
    pub(crate) fn ask(
        &self,
        mark: Mark,
        client: u64,
        hash: &PasswordHash,
        password: &[u8],
        now: Instant,
    ) -> Asked {
        let shared = &self.0.0;
        let mut state = shared.lock();
        if let Some(verdict) = state.known(&mark, now) {
            return Asked::Known(verdict);
        }
        let (sender, receiver) = oneshot::channel();
        if let Some(waiting) = state.waiting.get_mut(&mark) {
            waiting.push(sender);
            return Asked::Wait(receiver);
        }
        let of_client = state.clients.get(&client).copied().unwrap_or(0);
        if of_client >= EACH {
            return Asked::TooMany;
        }
        if state.queue.len() >= QUEUE || !start(shared, &mut state) {
            return Asked::Full;
        }
        state.clients.insert(client, of_client + 1);
        state.waiting.insert(mark, vec![sender]);
        let (hash, password) = (hash.clone(), password.to_vec());
        state.queue.push_back(Job { mark, hash, password, client, since: now });
        drop(state);
        shared.ready.notify_one();
        Asked::Wait(receiver)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.ready.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next password; `None` at the end.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.over {
                return None;
            }
            match state.queue.pop_front() {
                Some(job) => return Some(job),
                None => state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn done(&self, job: &Job, verdict: Verdict, now: Instant) {
        let mut state = self.lock();
        state.remember(job.mark, verdict, now);
        if let Some(count) = state.clients.get_mut(&job.client) {
            *count -= 1;
            if *count == 0 {
                state.clients.remove(&job.client);
            }
        }
        let waiting = state.waiting.remove(&job.mark).unwrap_or_default();
        drop(state);
        for sender in waiting {
            // The client may have gone.
            let _ = sender.send(verdict);
        }
    }
}

impl State {
    fn known(&self, mark: &Mark, now: Instant) -> Option<Verdict> {
        let holds =
            |known: &HashMap<Mark, Instant>| known.get(mark).is_some_and(|until| now < *until);
        match () {
            () if holds(&self.right) => Some(Verdict::Right),
            () if holds(&self.wrong) => Some(Verdict::Wrong),
            () => None,
        }
    }

    fn remember(&mut self, mark: Mark, verdict: Verdict, now: Instant) {
        let (known, keep) = match verdict {
            Verdict::Right => (&mut self.right, KEEP_RIGHT),
            Verdict::Wrong => (&mut self.wrong, KEEP_WRONG),
            Verdict::Late => return,
        };
        if known.len() >= KNOWN {
            known.retain(|_, until| now < *until);
        }
        if known.len() < KNOWN {
            known.insert(mark, now + keep);
        }
    }
}

/// Starts the threads; false if there is none.
fn start(shared: &Arc<Shared>, state: &mut State) -> bool {
    if state.started {
        return true;
    }
    for number in 0..shared.threads {
        let own = Arc::clone(shared);
        let thread = thread::Builder::new().name(format!("passwords-{number}"));
        match thread.spawn(move || work(&own)) {
            Ok(_) => state.started = true,
            Err(error) => tracing::error!(%error, "no thread for passwords"),
        }
    }
    state.started
}

fn work(shared: &Shared) {
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::debug!(%error, "passwords are looked at with the priority of all else");
    }
    while let Some(job) = shared.next() {
        let verdict = match job.since.elapsed() < PATIENCE {
            true if verify::verify(&job.hash, &job.password) => Verdict::Right,
            true => Verdict::Wrong,
            false => Verdict::Late,
        };
        shared.done(&job, verdict, Instant::now());
    }
}

#[cfg(test)]
mod tests;
