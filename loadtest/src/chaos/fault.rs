//! The ways in which backends fail, and what gatehouse must not let clients notice of each.

use clap::ValueEnum;

use super::client::Seen;

/// What is done to three of the ten backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Fault {
    /// Their processes are killed.
    Kill,
    /// Their processes are stopped (SIGSTOP): the kernel accepts connections, nobody answers.
    Hang,
    /// They accept no connections any more and end those that they have between two requests.
    Refuse,
    /// They answer late.
    Slow,
    /// They reset the connection when they have read a request.
    Reset,
    /// They end the connection in the middle of the body that they announced.
    LieShort,
    /// They send more than they announced.
    LieLong,
    /// They are killed and started again, over and over.
    Flap,
}

impl Fault {
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// For the report.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::Hang => "hung (SIGSTOP)",
            Self::Refuse => "refuse connections",
            Self::Slow => "slow (300 ms)",
            Self::Reset => "reset after the request",
            Self::LieShort => "body shorter than announced",
            Self::LieLong => "body longer than announced",
            Self::Flap => "killed and started, every 250 ms",
        }
    }

    /// Percent of the requests that may fail with gatehouse.
    pub(super) const fn may_fail(self) -> usize {
        match self {
            // The head of the answer has gone to the client when the lie comes out. Three of ten lie; a turn may be
            // one longer for them.
            Self::LieShort => 35,
            Self::Kill | Self::Hang | Self::Refuse | Self::Slow => 0,
            Self::Reset | Self::LieLong | Self::Flap => 0,
        }
    }

    /// Why what clients of gatehouse saw is not acceptable.
    pub(super) fn breach(self, seen: &Seen) -> Option<String> {
        let most = seen.all() * self.may_fail() / 100;
        if seen.wrong > 0 {
            Some(format!("{}: {} answers were taken for others", self.name(), seen.wrong))
        } else if seen.failed() > most {
            Some(format!("{}: {} failed where {most} may: {seen}", self.name(), seen.failed()))
        } else if seen.all() == 0 {
            Some(format!("{}: nothing was asked", self.name()))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_broken_by_failures_by_a_wrong_answer_and_by_silence() {
        let seen = |good: usize, broken: usize, wrong: usize| Seen {
            latencies: vec![1000; good],
            broken,
            wrong,
            ..Seen::default()
        };
        assert_eq!(Fault::Kill.breach(&seen(100, 0, 0)), None);
        assert!(Fault::Kill.breach(&seen(99, 1, 0)).is_some());
        assert_eq!(Fault::LieShort.breach(&seen(70, 30, 0)), None);
        assert!(Fault::LieShort.breach(&seen(60, 40, 0)).is_some());
        assert!(Fault::LieShort.breach(&seen(99, 0, 1)).is_some());
        assert!(Fault::Slow.breach(&seen(0, 0, 0)).is_some());
    }
}
