//! Which names are known for how long and which are being asked for: one question per name at a time.
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

/// What to do with a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked<W> {
    /// The answer is known; it goes back with the one who waits.
    Known(W, Answer),
    /// The name servers are to be asked.
    Start,
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
}

enum State<W> {
    Known { addresses: Arc<[IpAddr]>, until: Instant },
    Asked(Vec<W>),
}

impl<W> Table<W> {
    pub(super) fn new(limits: Limits) -> Self {
        Self { names: HashMap::new(), flights: 0, limits }
    }

    /// A name is asked for.
    pub(super) fn ask(&mut self, name: &Arc<str>, waiter: W, now: Instant) -> Asked<W> {
        match self.names.get_mut(name) {
            Some(State::Asked(waiters)) => {
                waiters.push(waiter);
                return Asked::Joined;
            }
            Some(State::Known { addresses, until }) if now < *until => {
                let addresses = Arc::clone(addresses);
                return Asked::Known(waiter, Answer { addresses, keep: *until - now });
            }
            _ => {}
        }
        if self.flights >= self.limits.flights {
            return Asked::Refused(waiter);
        }
        self.flights += 1;
        self.names.insert(Arc::clone(name), State::Asked(vec![waiter]));
        Asked::Start
    }

    /// The question that [`Asked::Start`] began is over. Returns those who wait for the answer.
    pub(super) fn answered(&mut self, name: &Arc<str>, answer: &Answer, now: Instant) -> Vec<W> {
        let Some(State::Asked(waiters)) = self.names.remove(name) else { return Vec::new() };
        self.flights -= 1;
        if self.names.len() >= self.limits.names {
            self.names.retain(|_, state| match state {
                State::Known { until, .. } => now < *until,
                State::Asked(_) => true,
            });
        }
        if self.names.len() < self.limits.names {
            let addresses = Arc::clone(&answer.addresses);
            let known = State::Known { addresses, until: now + answer.keep };
            self.names.insert(Arc::clone(name), known);
        }
        waiters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { names: 2, flights: 2 };

    fn name(text: &str) -> Arc<str> {
        text.into()
    }

    fn found(keep: u64) -> Answer {
        Answer { addresses: [IpAddr::from([192, 0, 2, 1])].into(), keep: Duration::from_secs(keep) }
    }

    #[test]
    fn a_name_is_asked_for_once_and_all_who_wait_hear_the_answer() {
        let (mut table, now) = (Table::new(LIMITS), Instant::now());
        assert_eq!(table.ask(&name("a"), 1, now), Asked::Start);
        assert_eq!(table.ask(&name("a"), 2, now), Asked::Joined);
        assert_eq!(table.answered(&name("a"), &found(5), now), [1, 2]);
        let later = now + Duration::from_secs(2);
        assert_eq!(table.ask(&name("a"), 3, later), Asked::Known(3, found(3)));
    }

    #[test]
    fn an_answer_is_asked_for_again_once_its_time_is_over() {
        let (mut table, now) = (Table::new(LIMITS), Instant::now());
        assert_eq!(table.ask(&name("a"), 1, now), Asked::Start);
        table.answered(&name("a"), &found(5), now);
        assert_eq!(table.ask(&name("a"), 2, now + Duration::from_secs(5)), Asked::Start);
    }

    #[test]
    fn a_failure_is_remembered_like_an_answer() {
        let (mut table, now) = (Table::new(LIMITS), Instant::now());
        let nothing = Answer { addresses: Arc::default(), keep: Duration::from_secs(5) };
        assert_eq!(table.ask(&name("a"), 1, now), Asked::Start);
        table.answered(&name("a"), &nothing, now);
        assert_eq!(table.ask(&name("a"), 2, now), Asked::Known(2, nothing));
    }

    #[test]
    fn more_names_than_allowed_at_a_time_are_refused_and_delay_nobody() {
        let (mut table, now) = (Table::new(LIMITS), Instant::now());
        assert_eq!(table.ask(&name("a"), 1, now), Asked::Start);
        assert_eq!(table.ask(&name("b"), 2, now), Asked::Start);
        assert_eq!(table.ask(&name("c"), 3, now), Asked::Refused(3));
        table.answered(&name("a"), &found(5), now);
        assert_eq!(table.ask(&name("c"), 4, now), Asked::Start);
    }

    #[test]
    fn names_over_the_limit_are_answered_but_not_remembered() {
        let (mut table, now) = (Table::new(LIMITS), Instant::now());
        for host in ["a", "b", "c"] {
            assert_eq!(table.ask(&name(host), 1, now), Asked::Start);
            assert_eq!(table.answered(&name(host), &found(5), now), [1]);
        }
        assert_eq!(table.ask(&name("c"), 1, now), Asked::Start, "a and b have the room");
        let later = now + Duration::from_secs(5);
        table.answered(&name("c"), &found(5), later);
        assert_eq!(table.ask(&name("c"), 1, later), Asked::Known(1, found(5)), "a and b expired");
    }
}
