//! Whether the memory of this process nears its limit, and how much it takes on then (P24d).
//!
//! The kernel kills a container that reaches its limit, with every connection that it has. Before that the process
//! takes less on: under [`Pressure::High`] connections of clients end with what is under way, and bodies that wait go to
//! files; under [`Pressure::Critical`] no connection is accepted, and requests get 503.
//!
//! [`run`] reads what is used several times a second; each worker looks at the outcome when its clock ticks, so that no
//! request does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use tokio::time::MissedTickBehavior;

use crate::process::ProcessProblems;

mod gauge;

pub(crate) use gauge::{Gauge, Reading};

/// How often is read what is used: a limit of 256 MiB is not passed within so short a time, as what one client may
/// hold is bounded.
const LOOK: Duration = Duration::from_millis(100);
/// What is wrong while there is pressure.
const REASON: &str = "MemoryShort";

/// How near to its limit the memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pressure {
    /// Below 85 percent, or not limited.
    #[default]
    None,
    /// From 85 percent on, until it is below 80.
    High,
    /// From 95 percent on, until it is below 90.
    Critical,
}

impl Pressure {
    /// What follows a reading.
    fn after(self, Reading { used, limit }: Reading) -> Self {
        let percent = u128::from(used) * 100 / u128::from(limit.max(1));
        match percent {
            95.. => Self::Critical,
            90.. if self == Self::Critical => Self::Critical,
            85.. => Self::High,
            80.. if self >= Self::High => Self::High,
            _ => Self::None,
        }
    }
}

/// The present pressure, and what helps against it; a clone shows the same.
#[derive(Clone, Debug)]
pub(crate) struct Overload {
    pressure: Arc<AtomicU8>,
    give_back: fn(),
}

impl Overload {
    /// None yet. `give_back` has the allocator return to the kernel what the calling thread has freed.
    pub(crate) fn new(give_back: fn()) -> Self {
        Self { pressure: Arc::default(), give_back }
    }

    /// Returns freed memory of the calling thread to the kernel. Takes milliseconds.
    pub(crate) fn give_back(&self) {
        (self.give_back)();
    }

    /// As of the last reading.
    pub(crate) fn pressure(&self) -> Pressure {
        match self.pressure.load(Ordering::Relaxed) {
            0 => Pressure::None,
            1 => Pressure::High,
            _ => Pressure::Critical,
        }
    }

    fn set(&self, pressure: Pressure) {
        self.pressure.store(pressure as u8, Ordering::Relaxed);
    }
}

/// Reads for as long as the process runs. `changed` hears of each change, too.
pub(crate) async fn run(
    overload: Overload,
    gauge: Gauge,
    problems: ProcessProblems,
    changed: impl Fn(Pressure),
) {
    let mut ticker = tokio::time::interval(LOOK);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticker.tick().await;
        let before = overload.pressure();
        // A limit that is gone, or that nobody can read, is none.
        let reading = gauge.read();
        let now = reading.map_or(Pressure::None, |reading| before.after(reading));
        if now != before {
            overload.set(now);
            changed(now);
            tell(&problems, now, reading);
        }
    }
}

fn tell(problems: &ProcessProblems, pressure: Pressure, reading: Option<Reading>) {
    let Some(Reading { used, limit }) = reading.filter(|_| pressure > Pressure::None) else {
        return problems.clear(REASON);
    };
    let mib = |bytes: u64| bytes >> 20;
    let of =
        format!("{} MiB of memory are in use, of {} MiB that there may be", mib(used), mib(limit));
    let hint =
        "give the process more (resources.limits.memory, --memory-limit), or lower --body-memory";
    if pressure == Pressure::Critical {
        let so = "no connection is accepted, and requests get 503";
        problems.error(REASON, "", format!("{of}: {so}"), hint);
    } else {
        let so =
            "connections of clients end with what is under way, and bodies that wait go to files";
        problems.warning(REASON, "", format!("{of}: {so}"), hint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_begins_at_85_and_95_percent_and_ends_five_below() {
        let mut pressure = Pressure::None;
        for (used, expected) in [
            (84, Pressure::None),
            (85, Pressure::High),
            (80, Pressure::High),
            (79, Pressure::None),
            (94, Pressure::High),
            (95, Pressure::Critical),
            (90, Pressure::Critical),
            (89, Pressure::High),
            (200, Pressure::Critical),
            (84, Pressure::High),
            (0, Pressure::None),
        ] {
            pressure = pressure.after(Reading { used, limit: 100 });
            assert_eq!(pressure, expected, "{used}");
        }
        assert_eq!(pressure.after(Reading { used: u64::MAX, limit: 0 }), Pressure::Critical);
    }

    #[test]
    fn a_process_under_pressure_says_so_until_it_is_over() {
        let problems = ProcessProblems::new("n");
        let reading = Some(Reading { used: 96 << 20, limit: 100 << 20 });
        tell(&problems, Pressure::High, reading);
        tell(&problems, Pressure::Critical, reading);
        let all = problems.all();
        assert_eq!(all.len(), 1);
        assert!(all[0].message.starts_with("96 MiB of memory are in use, of 100 MiB"), "{all:?}");
        tell(&problems, Pressure::None, reading);
        assert!(problems.all().is_empty());
    }
}
