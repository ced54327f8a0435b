//! How the owner of a thread and the thread talk: a mailbox with room for the latest value only.
//!
//! The owner has a [`ThreadHandle`], the thread a [`Mailbox`]. The owner writes what it wants as one
//! whole value; a newer value replaces the older one, so nothing queues up. The thread reports its
//! progress and publishes its status. Neither waits for the other, except in
//! [`ThreadHandle::wait_for`]. Both speakers are made this way.

#![expect(clippy::disallowed_methods, reason = "the one place where speakers get their threads")]

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use crate::kernel::wait::EventFd;

/// Numbers the values that the owner has written, from 1 on; 0 is before the first.
pub(crate) type Serial = u64;

/// The owner's end.
#[derive(Debug)]
pub(crate) struct ThreadHandle<W, P, S> {
    mailbox: Arc<Mailbox<W, P, S>>,
    thread: Option<JoinHandle<()>>,
}

/// The thread's end: the desired state (`W`), the progress towards it (`P`), the status (`S`).
#[derive(Debug)]
pub(crate) struct Mailbox<W, P, S> {
    desired: Mutex<(Serial, W)>,
    /// Notified when the desired state changes.
    pub(crate) wake: EventFd,
    progress: Mutex<(Serial, P)>,
    moved: Condvar,
    status: Mutex<Arc<S>>,
}

impl<W, P, S> ThreadHandle<W, P, S>
where
    W: Default + Send + 'static,
    P: Default + Send + 'static,
    S: Default + Send + Sync + 'static,
{
    /// Starts a thread of this name; there `make` makes the worker and `run` runs it. Returns when the
    /// worker is made. Fails if `make` fails or no thread can be started.
    pub(crate) fn start<D>(
        name: String,
        make: impl FnOnce(Arc<Mailbox<W, P, S>>) -> io::Result<D> + Send + 'static,
        run: impl FnOnce(D) + Send + 'static,
    ) -> io::Result<Self> {
        let mailbox = Arc::new(Mailbox::new()?);
        let (made, outcome) = mpsc::channel();
        let theirs = Arc::clone(&mailbox);
        let thread = std::thread::Builder::new().name(name).spawn(move || match make(theirs) {
            Err(error) => drop(made.send(Err(error))),
            Ok(worker) => {
                drop(made.send(Ok(())));
                run(worker);
            }
        })?;
        outcome.recv().map_err(io::Error::other)??;
        Ok(Self { mailbox, thread: Some(thread) })
    }
}

impl<W, P, S> ThreadHandle<W, P, S> {
    /// Changes the desired state and wakes the thread.
    pub(crate) fn ask(&self, change: impl FnOnce(&mut W)) -> Serial {
        let serial = {
            let mut desired = lock(&self.mailbox.desired);
            change(&mut desired.1);
            desired.0 += 1;
            desired.0
        };
        self.mailbox.wake.notify();
        serial
    }

    /// Waits until the thread has taken this value, or a later one, and reports progress that satisfies
    /// `reached`. False after `timeout`.
    pub(crate) fn wait_for(
        &self,
        serial: Serial,
        timeout: Duration,
        reached: impl Fn(&P) -> bool,
    ) -> bool {
        let pending = |(known, so_far): &mut (Serial, P)| *known < serial || !reached(so_far);
        let progress = lock(&self.mailbox.progress);
        let waited = self.mailbox.moved.wait_timeout_while(progress, timeout, pending);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// The status that was published last; cheap.
    pub(crate) fn status(&self) -> Arc<S> {
        lock(&self.mailbox.status).clone()
    }

    /// Waits until the thread, which has been told to stop, has ended. False if it has panicked.
    pub(crate) fn join(&mut self) -> bool {
        self.thread.take().is_none_or(|thread| thread.join().is_ok())
    }
}

impl<W: Default, P: Default, S: Default> Mailbox<W, P, S> {
    /// Empty.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            desired: Mutex::default(),
            wake: EventFd::new()?,
            progress: Mutex::default(),
            moved: Condvar::new(),
            status: Mutex::default(),
        })
    }
}

impl<W, P: PartialEq, S> Mailbox<W, P, S> {
    /// Takes the desired state by `take`, if it is not the one with the number `known`.
    pub(crate) fn take<T>(
        &self,
        known: Serial,
        take: impl FnOnce(&mut W) -> T,
    ) -> Option<(Serial, T)> {
        let mut desired = lock(&self.desired);
        (desired.0 != known).then(|| (desired.0, take(&mut desired.1)))
    }

    /// Reports the progress towards the value with the number `known`.
    pub(crate) fn report(&self, known: Serial, so_far: P) {
        let progress = (known, so_far);
        let mut before = lock(&self.progress);
        if *before != progress {
            *before = progress;
            self.moved.notify_all();
        }
    }

    /// Publishes the status.
    pub(crate) fn publish(&self, status: S) {
        *lock(&self.status) = Arc::new(status);
    }
}

/// Nothing that is kept under these locks is ever half changed, so a panic spoils nothing.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
