//! Routers that do not answer: said in the report long before the attempt ends by it.

use std::time::Instant;

use super::{Dial, Session};
use crate::bgp::{fsm::State, report::Reason};

impl Session {
    /// Says that a router does not answer, long before that ends the attempt.
    pub(super) fn notice_silence(&mut self, now: Instant) {
        if let Dial::Trying { until, unanswered, .. } = &mut self.dial
            && (*until <= now || unanswered.is_some_and(|at| at <= now))
        {
            *unanswered = None;
            if self.connections.is_empty() {
                self.report.error = Some(Reason::NoAnswer);
            }
        }
        let mut silent = false;
        for connection in &mut self.connections {
            silent |= connection.silent(now);
        }
        if silent && self.state() < State::Established {
            self.report.error = Some(Reason::Silent);
        }
    }
}
