//! Waiting for sockets, for a deadline, or for another thread.
//!
//! A thread waits with [`wait`]; another thread ends the waiting with an [`EventFd`].

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// Wakes the thread that waits for it; any thread may notify it.
#[derive(Debug)]
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    /// Not notified yet.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Ends the present wait, or the next one.
    pub(crate) fn notify(&self) {
        // Fails only when the counter is full, and then the wait ends anyway.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Takes the notification, so that the next wait waits.
    pub(crate) fn clear(&self) {
        // Fails only when it was not notified.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until one of these has something to read or to complain of, at most for `timeout`.
pub(crate) fn wait(sources: Vec<BorrowedFd<'_>>, timeout: Duration) {
    let polled = |source| PollFd::from_borrowed_fd(source, PollFlags::IN);
    poll_all(sources.into_iter().map(polled).collect(), timeout);
}

/// As [`wait`], but those that are marked can be waited for to take what is written to them too.
pub(crate) fn wait_to_write(sources: Vec<(BorrowedFd<'_>, bool)>, timeout: Duration) {
    let polled = |(source, writes)| {
        let flags = if writes { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        PollFd::from_borrowed_fd(source, flags)
    };
    poll_all(sources.into_iter().map(polled).collect(), timeout);
}

fn poll_all(mut sources: Vec<PollFd<'_>>, timeout: Duration) {
    // `EINTR` ends a wait early, which harms nothing.
    let _ = poll(&mut sources, Timespec::try_from(timeout).ok().as_ref());
}
