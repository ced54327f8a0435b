//! A thread that does what its owner wishes: how the two talk. Both speakers are made this way.
//!
//! The owner has an [`Errand`], the thread a [`Desk`]. A wish is whole and only the latest counts, so
//! nothing queues up; the thread says how far it is, and now and then what it knows. Neither waits for
//! the other, but where the owner asks for it.

#![expect(clippy::disallowed_methods, reason = "the one place where speakers get their threads")]

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::kernel::wait::Bell;

/// Counts the wishes of an owner, from 1 on; 0 is before the first.
pub(crate) type Serial = u64;

/// The owner's end.
#[derive(Debug)]
pub(crate) struct Errand<W, P, S> {
    desk: Arc<Desk<W, P, S>>,
    thread: Option<JoinHandle<()>>,
}

/// The thread's end: what is wished (`W`), how far that is (`P`), what is known (`S`).
#[derive(Debug)]
pub(crate) struct Desk<W, P, S> {
    wish: Mutex<(Serial, W)>,
    /// Rung when the wish changes.
    pub(crate) bell: Bell,
    progress: Mutex<(Serial, P)>,
    moved: Condvar,
    status: Mutex<Arc<S>>,
}

impl<W, P, S> Errand<W, P, S>
where
    W: Default + Send + 'static,
    P: Default + Send + 'static,
    S: Default + Send + Sync + 'static,
{
    /// Starts the thread of this name, where `make` makes the worker and `run` runs it. Returns when it
    /// is made; fails if it cannot be, or if there can be no thread.
    pub(crate) fn start<D>(
        name: String,
        make: impl FnOnce(Arc<Desk<W, P, S>>) -> io::Result<D> + Send + 'static,
        run: impl FnOnce(D) + Send + 'static,
    ) -> io::Result<Self> {
        let desk = Arc::new(Desk::new()?);
        let (made, outcome) = mpsc::channel();
        let theirs = Arc::clone(&desk);
        let thread = std::thread::Builder::new().name(name).spawn(move || match make(theirs) {
            Err(error) => drop(made.send(Err(error))),
            Ok(worker) => {
                drop(made.send(Ok(())));
                run(worker);
            }
        })?;
        outcome.recv().map_err(io::Error::other)??;
        Ok(Self { desk, thread: Some(thread) })
    }
}

impl<W, P, S> Errand<W, P, S> {
    /// Changes the wish.
    pub(crate) fn ask(&self, change: impl FnOnce(&mut W)) -> Serial {
        let serial = {
            let mut wish = lock(&self.desk.wish);
            change(&mut wish.1);
            wish.0 += 1;
            wish.0
        };
        self.desk.bell.ring();
        serial
    }

    /// Waits until the thread knows this wish, or a later one, and is so far. False if it is not in
    /// time.
    pub(crate) fn wait_for(
        &self,
        serial: Serial,
        timeout: Duration,
        reached: impl Fn(&P) -> bool,
    ) -> bool {
        let pending = |(known, so_far): &mut (Serial, P)| *known < serial || !reached(so_far);
        let progress = lock(&self.desk.progress);
        let waited = self.desk.moved.wait_timeout_while(progress, timeout, pending);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// What was published last; cheap.
    pub(crate) fn status(&self) -> Arc<S> {
        lock(&self.desk.status).clone()
    }

    /// Waits for the end of the thread, which has been asked for. False if it has panicked.
    pub(crate) fn join(&mut self) -> bool {
        self.thread.take().is_none_or(|thread| thread.join().is_ok())
    }
}

impl<W: Default, P: Default, S: Default> Desk<W, P, S> {
    /// Before the first wish.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            wish: Mutex::default(),
            bell: Bell::new()?,
            progress: Mutex::default(),
            moved: Condvar::new(),
            status: Mutex::default(),
        })
    }
}

impl<W, P: PartialEq, S> Desk<W, P, S> {
    /// Takes what is to be known of the wish, if it is another than the `known` one.
    pub(crate) fn take<T>(
        &self,
        known: Serial,
        take: impl FnOnce(&mut W) -> T,
    ) -> Option<(Serial, T)> {
        let mut wish = lock(&self.wish);
        (wish.0 != known).then(|| (wish.0, take(&mut wish.1)))
    }

    /// Says how far the thread is with the wish that it knows.
    pub(crate) fn report(&self, known: Serial, so_far: P) {
        let progress = (known, so_far);
        let mut before = lock(&self.progress);
        if *before != progress {
            *before = progress;
            self.moved.notify_all();
        }
    }

    /// Says what is known.
    pub(crate) fn publish(&self, status: S) {
        *lock(&self.status) = Arc::new(status);
    }
}

/// Nothing that is kept under these locks is ever half changed, so a panic spoils nothing.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
