//! Which process deals addresses out and writes statuses: leader election by a Lease, without IO.
//!
//! [`Election`] says what to ask the API server next and hears the answer; `lease` carries it out. As in
//! client-go, clocks of other machines are never read: a lease counts from the moment at which this process
//! saw it change, and a leader counts its own from before it asked for the renewal, so that it stops
//! (`renew_deadline`) before any other process may begin (`lease`).

use std::time::{Duration, Instant};

/// The three times of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    /// How long a lease keeps others away after it was last seen to change.
    pub(crate) lease: Duration,
    /// How long a leader goes on without a renewal.
    pub(crate) renew_deadline: Duration,
    /// Time between two attempts.
    pub(crate) retry_period: Duration,
}

/// What a Lease says, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// `spec.holderIdentity`; empty: the last holder has let go of it.
    pub(crate) holder: String,
    /// `spec.leaseDurationSeconds`; zero if it says nothing.
    pub(crate) lease: Duration,
    /// `spec.leaseTransitions`: how often the holder has changed.
    pub(crate) transitions: u32,
    /// `metadata.resourceVersion`.
    pub(crate) version: String,
}

/// What to write to the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    /// The new holder; empty to let go of it.
    pub(crate) holder: String,
    /// The new `leaseTransitions`.
    pub(crate) transitions: u32,
    /// The version that it takes the place of; `None`: there is no Lease yet.
    pub(crate) over: Option<String>,
    /// The holder has just changed.
    pub(crate) begins: bool,
    clean: bool,
}

/// What became of a [`Write`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is the Lease's version now.
    Done(String),
    /// The Lease was not the one that was to be replaced.
    Conflict,
    /// Nobody knows.
    Failed,
}

/// The next thing to ask of the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Tell [`Election::found`] what the Lease says.
    Read,
    /// Write, and tell [`Election::written`] what became of it.
    Write(Write),
}

/// The time for which this process leads without interruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    /// The how many-th of this process.
    pub(crate) number: u32,
    /// The leader before has ended all that it had begun. Otherwise requests of its may still arrive.
    pub(crate) clean: bool,
    /// When it ends, if nothing prolongs it.
    pub(crate) until: Instant,
}

/// One process' part in the election.
#[derive(Debug)]
pub(crate) struct Election {
    identity: String,
    timing: Timing,
    /// The Lease as last seen to change, and when.
    seen: Option<(Record, Instant)>,
    term: Option<Term>,
    /// Terms of this process so far.
    terms: u32,
}

impl Default for Timing {
    /// Those of the controllers of Kubernetes.
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

impl Timing {
    /// Why these times make no election: each must leave room for the next.
    pub(crate) fn check(self) -> Result<(), String> {
        let Self { lease, renew_deadline, retry_period } = self;
        if lease < Duration::from_secs(1) {
            Err("--lease-duration is below 1 second, which a Lease cannot say".to_owned())
        } else if lease <= renew_deadline {
            Err("--lease-duration is not longer than --renew-deadline".to_owned())
        } else if renew_deadline <= retry_period || retry_period.is_zero() {
            Err("--renew-deadline is not longer than --retry-period, or that is 0".to_owned())
        } else {
            Ok(())
        }
    }
}

impl Election {
    /// `identity` must be another one for every process that ever takes part.
    pub(crate) fn new(identity: String, timing: Timing) -> Self {
        Self { identity, timing, seen: None, term: None, terms: 0 }
    }

    /// The term that this process leads in now.
    pub(crate) fn term(&self, now: Instant) -> Option<Term> {
        self.term.filter(|term| now < term.until)
    }

    /// What to ask first in an attempt. To be called once in a retry period.
    pub(crate) fn attempt(&mut self, now: Instant) -> Step {
        match (self.term(now), &self.seen) {
            (Some(_), Some((record, _))) => Step::Write(self.renewal(record)),
            _ => Step::Read,
        }
    }

    /// Hears what the Lease says (`None`: there is none); says what to write, if that is to be tried.
    pub(crate) fn found(&mut self, record: Option<Record>, now: Instant) -> Option<Write> {
        let Some(record) = record else {
            self.seen = None;
            self.term = None;
            return Some(self.beginning(0, None, false));
        };
        let since = match &self.seen {
            Some((known, since)) if *known == record => *since,
            _ => now,
        };
        self.seen = Some((record.clone(), since));
        let leads = self.term(now).is_some();
        if record.holder == self.identity && leads {
            return Some(self.renewal(&record));
        }
        self.term = None;
        let lasts = if record.lease.is_zero() { self.timing.lease } else { record.lease };
        let free = record.holder.is_empty();
        let may = free || record.holder == self.identity || now >= since + lasts;
        let Record { transitions, version, .. } = record;
        may.then(|| self.beginning(transitions.saturating_add(1), Some(version), free))
    }

    /// Hears what became of what was asked at `asked`. True if it is worth another attempt at once.
    pub(crate) fn written(
        &mut self,
        write: Write,
        outcome: Written,
        asked: Instant,
        now: Instant,
    ) -> bool {
        let Write { holder, transitions, begins, clean, .. } = write;
        match outcome {
            Written::Done(version) => {
                let lease = self.timing.lease;
                self.seen = Some((Record { holder, lease, transitions, version }, now));
                let until = asked + self.timing.renew_deadline;
                self.term = match self.term(now) {
                    Some(term) if !begins => Some(Term { until, ..term }),
                    _ if begins => {
                        self.terms += 1;
                        Some(Term { number: self.terms, clean, until })
                    }
                    // It came too late: the process has stopped to lead meanwhile.
                    _ => None,
                };
                false
            }
            // Another node has it, or a program wrote something of no concern into it: reading tells.
            Written::Conflict => {
                self.seen = None;
                true
            }
            Written::Failed => {
                // The Lease may have the new version already, over which nothing could be written.
                self.seen = None;
                false
            }
        }
    }

    /// Stops leading at once; says what to write so that another process need not wait. Only for a leader
    /// whose requests have all been answered.
    pub(crate) fn release(&mut self, now: Instant) -> Option<Write> {
        let leads = self.term(now).is_some();
        self.term = None;
        let (record, _) = self.seen.as_ref().filter(|_| leads)?;
        Some(Write { holder: String::new(), ..self.renewal(record) })
    }

    /// Stops leading: the clock that the term is counted by has stood still.
    pub(crate) fn resign(&mut self) {
        self.term = None;
    }

    fn renewal(&self, record: &Record) -> Write {
        Write {
            holder: self.identity.clone(),
            transitions: record.transitions,
            over: Some(record.version.clone()),
            begins: false,
            clean: false,
        }
    }

    fn beginning(&self, transitions: u32, over: Option<String>, clean: bool) -> Write {
        Write { holder: self.identity.clone(), transitions, over, begins: true, clean }
    }
}

#[cfg(test)]
mod tests;
