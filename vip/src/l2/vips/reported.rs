//! Which problems of an address the speaker's owner has heard of: each reason once, until the reason ends.
//!
//! Every `VipState` has one. Nothing is decided here; the events go out with those of the address.

use std::net::IpAddr;

use super::{placement::Placement, refusals};
use crate::{event::SpeakerEvent, problem::Problem};

/// The reasons that were reported and still hold.
#[derive(Debug, Default)]
pub(super) struct Reported(Vec<&'static str>);

impl Reported {
    /// Reports a problem, unless one of that reason was reported before.
    pub(super) fn problem(
        &mut self,
        vip: IpAddr,
        problem: Problem,
        events: &mut Vec<SpeakerEvent>,
    ) {
        if !self.0.contains(&problem.reason) {
            self.0.push(problem.reason);
            events.push(SpeakerEvent::Refused { vip, refusal: problem });
        }
    }

    /// Reports that the address is announced, and what is odd about that.
    pub(super) fn announced(
        &mut self,
        vip: IpAddr,
        placement: &Placement,
        events: &mut Vec<SpeakerEvent>,
    ) {
        events.push(SpeakerEvent::Announced { vip, interface: placement.name.clone() });
        if !placement.ours {
            self.problem(vip, refusals::node_address(vip, &placement.name), events);
        }
    }

    /// These reasons have ended; true if they were the last that held.
    pub(super) fn end(&mut self, reasons: &[&str]) -> bool {
        let before = self.0.len();
        self.0.retain(|reason| !reasons.contains(reason));
        self.0.len() < before && self.0.is_empty()
    }

    /// All reasons have ended; true if there were any.
    pub(super) fn end_all(&mut self) -> bool {
        !std::mem::take(&mut self.0).is_empty()
    }
}
