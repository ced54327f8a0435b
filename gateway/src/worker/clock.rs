//! The coarse clock of a worker: read by every request, moved by the worker's main task alone.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// Milliseconds on the coarse clocks of the workers.
pub(crate) type Tick = u64;

/// Period of the coarse clock.
const PERIOD: Duration = Duration::from_millis(50);

/// Milliseconds since the workers were started, the same on all of them but for up to one period that each is late. Reading it costs no system call.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    now: Cell<Tick>,
}

impl Clock {
    /// Counts from when the workers were started.
    pub(crate) fn since(started: Instant) -> Self {
        let clock = Self { started, now: Cell::new(0) };
        clock.tick();
        clock
    }

    /// The time of the last tick.
    pub(crate) fn now(&self) -> Tick {
        self.now.get()
    }

    /// Moves the clock on to the real time.
    pub(crate) fn tick(&self) {
        let elapsed = self.started.elapsed().as_millis();
        self.now.set(Tick::try_from(elapsed).unwrap_or(Tick::MAX));
    }
}

/// Period of the coarse clock under `--time-scale`.
pub(crate) fn period(time_scale: f64) -> Duration {
    PERIOD.mul_f64(time_scale).max(Duration::from_millis(5))
}
