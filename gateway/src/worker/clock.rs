//! The coarse clock of a worker.

/// Milliseconds on the coarse clock of one worker.
pub(crate) type Tick = u64;
