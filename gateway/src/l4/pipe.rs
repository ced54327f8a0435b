//! A pipe of the kernel's, through which bytes go from one socket to another without a copy here (splice(2)).

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

/// Both ends of it; empty unless its owner says otherwise.
pub(super) struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

/// Neither end waits for the other.
const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

impl Pipe {
    pub(super) fn new() -> io::Result<Self> {
        let (out, into) = pipe_with(PipeFlags::NONBLOCK.union(PipeFlags::CLOEXEC))?;
        Ok(Self { out, into })
    }

    /// Takes up to `most` bytes in; 0 at the end of the stream. An empty pipe says `WouldBlock` only where the
    /// stream has nothing.
    pub(super) fn fill(&self, from: impl AsFd, most: usize) -> io::Result<usize> {
        Ok(splice(from, None, &self.into, None, most, FLAGS)?)
    }

    /// Hands up to `most` bytes on.
    pub(super) fn drain(&self, to: impl AsFd, most: usize) -> io::Result<usize> {
        Ok(splice(&self.out, None, to, None, most, FLAGS)?)
    }
}
