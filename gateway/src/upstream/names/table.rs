//! Which names are known for how long and which are being asked for: one question per name at a time.
//!
//! What a name had last is kept beyond its time while the name servers cannot tell (RFC 8767): until they answer,
//! and not for ever.
//!
//! Pure: the caller asks the name servers and brings the time.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// What is known of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Empty: the name has none, or could not be resolved.
    pub(crate) addresses: Arc<[IpAddr]>,
    /// How long this may be used from now.
    pub(crate) keep: Duration,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The name servers told it, also that there is no address.
    Told(Answer),
    /// They could not tell; for how long that counts.
    Failed(Duration),
}

/// What to do with a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked<W> {
    /// The answer is known; it goes back with the one who waits.
    Known(W, Answer),
    /// The name servers are to be asked.
    Start,
    /// The same, and [`Table::late`] is to be called if they are slow.
    StartSoon,
    /// They are to be asked, and meanwhile this holds.
    StartBehind(W, Answer),
    /// They have been asked already.
    Joined,
    /// Too many names are asked for at this moment.
    Refused(W),
}

/// Names by what is known of them; `W` is what waits for an answer.
pub(super) struct Table<W> {
    names: HashMap<Arc<str>, State<W>>,
    flights: usize,
    limits: Limits,
}

/// Bounds of a [`Table`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Most names remembered; the others are asked for each time.
    pub(super) names: usize,
    /// Most names asked for at the same time.
    pub(super) flights: usize,
    /// Longest that addresses are used beyond their time.
    pub(super) stale: Duration,
    /// How long addresses that are beyond it are used from one look to the next.
    pub(super) keep_stale: Duration,
}

enum State<W> {
    Known { addresses: Arc<[IpAddr]>, until: Instant, failed: bool, told: Instant },
    Asked { waiters: Vec<W>, last: Option<Last> },
}

/// What a name had before it was asked for again.
struct Last {
    addresses: Arc<[IpAddr]>,
    /// The end of the time that the name servers gave them.
    told: Instant,
    /// Nobody waits for the answer any more.
    late: bool,
}

impl<W> Table<W> {
    pub(super) fn new(limits: Limits) -> Self {
        Self { names: HashMap::new(), flights: 0, limits }
    }

    /// A name is asked for.
    pub(super) fn ask(&mut self, name: &Arc<str>, waiter: W, now: Instant) -> Asked<W> {
        let stale = |addresses: &Arc<[IpAddr]>| Answer {
            addresses: Arc::clone(addresses),
            keep: self.limits.keep_stale,
        };
        let last = match self.names.get_mut(name) {
            Some(State::Asked { last: Some(last), .. }) if last.late => {
                return Asked::Known(waiter, stale(&last.addresses));
            }
            Some(State::Asked { waiters, .. }) => {
                waiters.push(waiter);
                return Asked::Joined;
            }
            Some(State::Known { addresses, until, .. }) if now < *until => {
                let addresses = Arc::clone(addresses);
                return Asked::Known(waiter, Answer { addresses, keep: *until - now });
            }
            Some(State::Known { addresses, failed, told, .. })
                if !addresses.is_empty() && now < *told + self.limits.stale =>
            {
                Some(Last { addresses: Arc::clone(addresses), told: *told, late: *failed })
            }
            _ => None,
        };
        if self.flights >= self.limits.flights {
            return match last {
                Some(last) => Asked::Known(waiter, stale(&last.addresses)),
                None => Asked::Refused(waiter),
            };
        }
        self.flights += 1;
        let (waiters, asked) = match &last {
            None => (vec![waiter], Asked::Start),
            Some(last) if last.late => {
                (Vec::new(), Asked::StartBehind(waiter, stale(&last.addresses)))
            }
            Some(_) => (vec![waiter], Asked::StartSoon),
        };
        self.names.insert(Arc::clone(name), State::Asked { waiters, last });
        asked
    }

    /// The name servers are slow: what the name had last holds for now. Returns those who wait, and that.
    pub(super) fn late(&mut self, name: &Arc<str>) -> Option<(Vec<W>, Answer)> {
        let Some(State::Asked { waiters, last: Some(last) }) = self.names.get_mut(name) else {
            return None;
        };
        last.late = true;
        let addresses = Arc::clone(&last.addresses);
        Some((std::mem::take(waiters), Answer { addresses, keep: self.limits.keep_stale }))
    }

    /// The question that [`Asked::Start`] and its like began is over. Returns those who wait, and what they are told.
    pub(super) fn answered(
        &mut self,
        name: &Arc<str>,
        outcome: Outcome,
        now: Instant,
    ) -> (Vec<W>, Answer) {
        let asked = match self.names.remove(name) {
            Some(State::Asked { waiters, last }) => {
                self.flights -= 1;
                Some((waiters, last))
            }
            _ => None,
        };
        let (waiters, last) = asked.unwrap_or_default();
        let (answer, failed, told) = match (outcome, last) {
            (Outcome::Told(answer), _) => {
                let told = now + answer.keep;
                (answer, false, told)
            }
            (Outcome::Failed(keep), Some(last)) => {
                (Answer { addresses: last.addresses, keep }, true, last.told)
            }
            (Outcome::Failed(keep), None) => {
                (Answer { addresses: Arc::default(), keep }, true, now)
            }
        };
        if self.names.len() >= self.limits.names {
            self.names.retain(|_, state| match state {
                State::Known { until, .. } => now < *until,
                State::Asked { .. } => true,
            });
        }
        if self.names.len() < self.limits.names {
            let (addresses, until) = (Arc::clone(&answer.addresses), now + answer.keep);
            let known = State::Known { addresses, until, failed, told };
            self.names.insert(Arc::clone(name), known);
        }
        (waiters, answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        names: 2,
        flights: 2,
        stale: Duration::from_secs(100),
        keep_stale: Duration::from_secs(1),
    };

    fn name(text: &str) -> Arc<str> {
        text.into()
    }

    fn found(keep: u64) -> Answer {
        Answer { addresses: [IpAddr::from([192, 0, 2, 1])].into(), keep: Duration::from_secs(keep) }
    }

    fn told(keep: u64) -> Outcome {
        Outcome::Told(found(keep))
    }

    fn nothing(keep: u64) -> Answer {
        Answer { addresses: Arc::default(), keep: Duration::from_secs(keep) }
    }

    const FAILED: Outcome = Outcome::Failed(Duration::from_secs(5));

    #[test]
    fn a_name_is_asked_for_once_and_all_who_wait_hear_the_answer() {
        let (mut table, now) = (Table::new(LIMITS), Instant::now());
        assert_eq!(table.ask(&name("a"), 1, now), Asked::Start);
        assert_eq!(table.ask(&name("a"), 2, now), Asked::Joined);
        assert_eq!(table.answered(&name("a"), told(5), now), (vec![1, 2], found(5)));
        let later = now + Duration::from_secs(2);
        assert_eq!(table.ask(&name("a"), 3, later), Asked::Known(3, found(3)));
    }

    #[test]
    fn an_answer_is_asked_for_again_once_its_time_is_over() {
        let (mut table, now) = (Table::new(LIMITS), Instant::now());
        assert_eq!(table.ask(&name("a"), 1, now), Asked::Start);
        table.answered(&name("a"), told(5), now);
        let later = now + Duration::from_secs(5);
        assert_eq!(table.ask(&name("a"), 2, later), Asked::StartSoon);
        assert_eq!(table.ask(&name("a"), 3, later), Asked::Joined);
        assert_eq!(table.answered(&name("a"), told(7), later), (vec![2, 3], found(7)));
    }

    #[test]
    fn a_failure_is_remembered_like_an_answer() {
        for (outcome, answer) in [(FAILED, nothing(5)), (Outcome::Told(nothing(4)), nothing(4))] {
            let (mut table, now) = (Table::new(LIMITS), Instant::now());
            assert_eq!(table.ask(&name("a"), 1, now), Asked::Start);
            assert_eq!(table.answered(&name("a"), outcome, now), (vec![1], answer.clone()));
            let later = now + answer.keep;
            assert_eq!(table.ask(&name("a"), 2, now), Asked::Known(2, answer));
            assert_eq!(table.ask(&name("a"), 3, later), Asked::Start);
        }
    }

    #[test]
    fn what_a_name_had_last_holds_while_the_name_servers_cannot_tell() {
        let (mut table, now) = (Table::new(LIMITS), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        table.ask(&name("a"), 1, now);
        table.answered(&name("a"), told(10), now);

        assert_eq!(table.ask(&name("a"), 2, at(10)), Asked::StartSoon);
        assert_eq!(table.answered(&name("a"), FAILED, at(12)), (vec![2], found(5)));
        assert_eq!(table.ask(&name("a"), 3, at(13)), Asked::Known(3, found(4)));
        // Nobody waits for the next try.
        assert_eq!(table.ask(&name("a"), 4, at(17)), Asked::StartBehind(4, found(1)));
        assert_eq!(table.ask(&name("a"), 5, at(17)), Asked::Known(5, found(1)));
        assert_eq!(table.answered(&name("a"), told(10), at(18)), (vec![], found(10)));

        assert_eq!(table.ask(&name("a"), 6, at(28)), Asked::StartSoon, "the failure is forgotten");
        assert_eq!(
            table.answered(&name("a"), Outcome::Told(nothing(5)), at(28)),
            (vec![6], nothing(5))
        );
        assert_eq!(
            table.ask(&name("a"), 7, at(33)),
            Asked::Start,
            "the name is gone, not the servers"
        );
    }

    #[test]
    fn who_waits_for_slow_name_servers_gets_what_the_name_had_last() {
        let (mut table, now) = (Table::new(LIMITS), Instant::now());
        let later = now + Duration::from_secs(5);
        table.ask(&name("a"), 1, now);
        assert_eq!(table.late(&name("a")), None, "nothing is known yet");
        table.answered(&name("a"), told(5), now);
        assert_eq!(table.late(&name("a")), None, "the answer came first");
        table.ask(&name("a"), 2, later);
        table.ask(&name("a"), 3, later);
        assert_eq!(table.late(&name("a")), Some((vec![2, 3], found(1))));
        assert_eq!(table.ask(&name("a"), 4, later), Asked::Known(4, found(1)));
        assert_eq!(table.answered(&name("a"), told(9), later), (vec![], found(9)));
        assert_eq!(table.ask(&name("a"), 5, later), Asked::Known(5, found(9)));
    }

    #[test]
    fn what_a_name_had_last_does_not_hold_for_ever() {
        let (mut table, now) = (Table::new(LIMITS), Instant::now());
        table.ask(&name("a"), 1, now);
        table.answered(&name("a"), told(10), now);
        let mut later = now + Duration::from_secs(10);
        let end = later + LIMITS.stale;
        while later < end {
            table.ask(&name("a"), 2, later);
            assert_eq!(table.answered(&name("a"), FAILED, later).1, found(5));
            later += Duration::from_secs(5);
        }
        assert_eq!(table.ask(&name("a"), 3, later), Asked::Start);
        assert_eq!(table.answered(&name("a"), FAILED, later), (vec![3], nothing(5)));
    }

    #[test]
    fn more_names_than_allowed_at_a_time_are_refused_and_delay_nobody() {
        let (mut table, now) = (Table::new(LIMITS), Instant::now());
        assert_eq!(table.ask(&name("a"), 1, now), Asked::Start);
        assert_eq!(table.ask(&name("b"), 2, now), Asked::Start);
        assert_eq!(table.ask(&name("c"), 3, now), Asked::Refused(3));
        table.answered(&name("a"), told(5), now);
        assert_eq!(table.ask(&name("c"), 4, now), Asked::Start);
        let later = now + Duration::from_secs(5);
        assert_eq!(table.ask(&name("a"), 5, later), Asked::Known(5, found(1)), "as it had last");
    }

    #[test]
    fn names_over_the_limit_are_answered_but_not_remembered() {
        let (mut table, now) = (Table::new(LIMITS), Instant::now());
        for host in ["a", "b", "c"] {
            assert_eq!(table.ask(&name(host), 1, now), Asked::Start);
            assert_eq!(table.answered(&name(host), told(5), now), (vec![1], found(5)));
        }
        assert_eq!(table.ask(&name("c"), 1, now), Asked::Start, "a and b have the room");
        let later = now + Duration::from_secs(5);
        table.answered(&name("c"), told(5), later);
        assert_eq!(table.ask(&name("c"), 1, later), Asked::Known(1, found(5)), "a and b expired");
    }
}
