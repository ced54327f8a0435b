//! Whether the body of a request is read in whole before a backend gets it.

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
