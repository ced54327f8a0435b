//! Bodies that wait here: that of a request before a backend gets it, that of an answer while its client is slow.

/// What of such a body may be in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffering {
    /// Bytes; the rest is in a file. Less than 64 KiB is as good as 64 KiB: on its way to a file a body takes as much.
    pub memory: u64,
}

impl Default for Buffering {
    fn default() -> Self {
        Self { memory: 64 * 1024 }
    }
}

/// How an answer is taken from its backend at the backend's speed, whatever its client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerBuffering {
    /// Whether it is, where the backend does not say otherwise (`X-Accel-Buffering`).
    pub on: bool,
    /// Bytes of it that may wait in memory; less than 64 KiB is as good as 64 KiB.
    pub memory: u64,
    /// Bytes of it that may wait in a file; what is beyond waits in the backend.
    pub file: u64,
}
