//! One TCP connection of a session: its state, what has been read of it, and its timers.
//!
//! [`session`](super::session) owns at most two: RFC 4271 §6.8 lets both sides dial at once.

use std::time::{Duration, Instant};

use super::{
    attribute::Terms,
    fsm::State,
    message::Framer,
    notification::Notification,
    open::Negotiated,
    peer::Families,
    update::{self, UpdateSummary},
};
use crate::bgp::jitter::Jitter;

/// RFC 4271 §8.2.2 suggests 4 minutes, for which a router that hangs would hear of no address.
const OPEN_HOLD: Duration = Duration::from_secs(60);
/// RFC 9687 §3.1: at least 8 minutes.
const SEND_HOLD: Duration = Duration::from_secs(480);

/// Names a connection between the session and its owner; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(super) u32);

/// One TCP connection that is open.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    /// Whether this end dialled.
    pub(super) dialled: bool,
    /// `OpenSent`, `OpenConfirm` or `Established`.
    pub(super) state: State,
    pub(super) framer: Framer,
    /// From OpenConfirm on.
    pub(super) negotiated: Option<Negotiated>,
    /// Families of the router's that cannot be read any more.
    disabled: Families,
    /// When the router is taken for dead.
    hold: Option<Instant>,
    /// When it is told that the session has not come up.
    silent_at: Option<Instant>,
    /// When to send the next KEEPALIVE.
    keepalive: Option<Instant>,
    /// Since when something waits to be taken by the router.
    unsent_since: Option<Instant>,
}

impl Connection {
    /// `silent_at`: when it is told that the router has not gone on.
    pub(super) fn open_sent(
        id: ConnectionId,
        dialled: bool,
        now: Instant,
        silent_at: Instant,
    ) -> Self {
        Self {
            id,
            dialled,
            state: State::OpenSent,
            framer: Framer::default(),
            negotiated: None,
            disabled: Families::default(),
            hold: Some(now + OPEN_HOLD),
            silent_at: Some(silent_at),
            keepalive: None,
            unsent_since: None,
        }
    }

    /// The agreed timers instead of the long one.
    pub(super) fn confirm(&mut self, negotiated: Negotiated) {
        if negotiated.extended_message {
            self.framer.allow_extended();
        }
        self.negotiated = Some(negotiated);
    }

    /// Checks an UPDATE by what has been agreed on; `None` before that.
    pub(super) fn check_update(
        &mut self,
        body: &[u8],
    ) -> Option<Result<UpdateSummary, Notification>> {
        let agreed = self.negotiated.as_ref()?;
        let terms = Terms {
            internal: agreed.internal,
            four_octet_asn: agreed.four_octet_asn,
            extended_next_hop: agreed.extended_next_hop,
            families: Families {
                v4: agreed.families.v4 && !self.disabled.v4,
                v6: agreed.families.v6 && !self.disabled.v6,
            },
        };
        let summary = update::check(body, &terms);
        if let Ok(summary) = &summary {
            self.disabled.v4 |= summary.disabled.v4;
            self.disabled.v6 |= summary.disabled.v6;
        }
        Some(summary)
    }

    /// The router has shown that it is there.
    pub(super) fn heard(&mut self, now: Instant) {
        let time = self.negotiated.as_ref().map_or(OPEN_HOLD, |agreed| agreed.hold_time);
        self.hold = (!time.is_zero()).then(|| now + time);
    }

    /// Something has been sent that says that this end is there.
    pub(super) fn spoke(&mut self, jitter: &mut Jitter, now: Instant) {
        let time = self.negotiated.as_ref().map(|agreed| agreed.keepalive_time);
        // RFC 4271 §10.
        self.keepalive =
            time.filter(|time| !time.is_zero()).map(|time| now + jitter.percent(time, 75, 100));
    }

    /// Something has been handed over to be sent.
    pub(super) fn queued(&mut self, now: Instant) {
        self.unsent_since.get_or_insert(now);
    }

    /// Everything that was handed over has been taken by the router's end of the connection.
    pub(super) fn flushed(&mut self) {
        self.unsent_since = None;
    }

    /// True once, when the session should have come up by now.
    pub(super) fn silent(&mut self, now: Instant) -> bool {
        let due = self.silent_at.take_if(|at| *at <= now).is_some();
        due && self.state != State::Established
    }

    pub(super) fn hold_expired(&self, now: Instant) -> bool {
        self.hold.is_some_and(|deadline| deadline <= now)
    }

    pub(super) fn keepalive_due(&self, now: Instant) -> bool {
        self.keepalive.is_some_and(|deadline| deadline <= now)
    }

    pub(super) fn send_hold_expired(&self, now: Instant) -> bool {
        self.send_hold().is_some_and(|deadline| deadline <= now)
    }

    /// When one of the timers has to be looked at.
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.hold, self.keepalive, self.send_hold(), self.silent_at].into_iter().flatten().min()
    }

    fn send_hold(&self) -> Option<Instant> {
        let hold = self.negotiated.as_ref().map_or(OPEN_HOLD, |agreed| agreed.hold_time);
        self.unsent_since.map(|since| since + SEND_HOLD.max(hold * 2))
    }
}
