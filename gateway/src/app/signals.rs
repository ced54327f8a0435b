//! The signals of the operating system, and what each of them asks for.
//!
//! They are caught from the first moment on: not one of them ends the process at once, with its addresses
//! left on the interface. SIGPIPE is ignored by the standard library; writing to a reader that is gone is an
//! error like any other.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Drain, hand over and end; the name of the signal.
    Stop(&'static str),
    /// Read again whatever can be read again.
    Reload,
    /// Open log files anew: log rotation has moved them away.
    ReopenLogs,
    /// Nothing.
    Nothing,
}

/// All signals that the process understands.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    /// Catches them from now on. Call within a runtime.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// What the next signal asks for.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = self.quit.recv() => Asked::Stop("SIGQUIT"),
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.user1.recv() => Asked::ReopenLogs,
            _ = self.user2.recv() => Asked::Nothing,
        }
    }

    /// Waits for a signal that asks to stop.
    pub(super) async fn stop(&mut self) {
        while !matches!(self.next().await, Asked::Stop(_)) {}
    }
}
