//! What there is to tell about a session: counters, the last error in words, since when it is up.
//!
//! [`session`](super::session) keeps it; `gatehouse status` and the metrics show it.

use std::{fmt, time::Instant};

use super::{attribute::Class, notification::Notification, update::UpdateSummary};
use crate::bgp::header::{HEADER, Kind};

/// Why a session, or an attempt at one, ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// This end told the router why.
    Sent(Notification),
    /// The router told this end why.
    Received(Notification),
    /// The router closed the connection, or it broke off.
    ConnectionLost,
    /// There was no connection to be had.
    NotConnected,
    /// Nothing came back when the router was dialled.
    NoAnswer,
    /// The router took the connection and does not say what it has to.
    Silent,
    /// The router came back with a new connection, having forgotten the old one.
    RouterRestarted,
}

/// What there is to tell about a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Messages sent, over all connections.
    pub sent: MessageCounts,
    /// Messages received, over all connections.
    pub received: MessageCounts,
    /// Prefixes that the router has announced, repetitions counted; none of them is kept.
    pub prefixes_announced: u64,
    /// Prefixes that the router has withdrawn, or was taken to withdraw.
    pub prefixes_withdrawn: u64,
    /// UPDATE messages that were treated as withdrawals (RFC 7606).
    pub treated_as_withdraw: u64,
    /// Attributes that were discarded (RFC 7606).
    pub attributes_discarded: u64,
    /// How often the session came up.
    pub established: u64,
    /// Since when it is up; `None` while it is not.
    pub since: Option<Instant>,
    /// What ended the session or an attempt at it last, or keeps the attempt under way waiting.
    pub error: Option<Reason>,
    /// The last that one end told the other about why there is no session, rather what the router said; none
    /// since the session came up.
    pub verdict: Option<Reason>,
    /// What was wrong last with an UPDATE that did not end the session.
    pub fault: Option<String>,
}

/// Messages by type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounts {
    /// OPEN.
    pub open: u64,
    /// UPDATE.
    pub update: u64,
    /// NOTIFICATION.
    pub notification: u64,
    /// KEEPALIVE.
    pub keepalive: u64,
    /// ROUTE-REFRESH.
    pub route_refresh: u64,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent(notification) => write!(f, "told the router: {notification}"),
            Self::Received(notification) => write!(f, "the router says: {notification}"),
            Self::ConnectionLost => {
                f.write_str("the router closed the connection, or it broke off")
            }
            Self::NotConnected => f.write_str("the router does not take a connection"),
            Self::NoAnswer => f.write_str("the router does not answer"),
            Self::Silent => {
                f.write_str("the router took the connection, and does not say what BGP begins with")
            }
            Self::RouterRestarted => f.write_str("the router has restarted"),
        }
    }
}

impl Report {
    pub(super) fn up(&mut self, now: Instant) {
        self.established += 1;
        self.since = Some(now);
        self.verdict = None;
    }

    /// One end told the other why. What the router says counts for more than what it was told.
    pub(super) fn judged(&mut self, reason: &Reason) {
        match (reason, &self.verdict) {
            (Reason::Sent(word) | Reason::Received(word), _) if word.is_collision() => {}
            (Reason::Received(_), _) | (Reason::Sent(_), None | Some(Reason::Sent(_))) => {
                self.verdict = Some(reason.clone());
            }
            _ => {}
        }
    }

    pub(super) fn down(&mut self) {
        self.since = None;
    }

    pub(super) fn count_update(&mut self, summary: &UpdateSummary) {
        self.prefixes_announced += u64::from(summary.announced);
        self.prefixes_withdrawn += u64::from(summary.withdrawn);
        for (_, class, _) in &summary.faults {
            self.attributes_discarded += u64::from(*class == Class::Discard);
        }
        let Some((kind, class, why)) = summary.faults.first() else { return };
        self.treated_as_withdraw += u64::from(*class >= Class::TreatAsWithdraw);
        let done = match class {
            Class::Discard => "discarded",
            Class::TreatAsWithdraw => "routes treated as withdrawn",
            Class::Disable => "family ignored from now on",
        };
        self.fault = Some(format!("path attribute {kind}: {why}; {done}"));
    }
}

impl MessageCounts {
    pub(super) fn count(&mut self, kind: Kind) {
        *match kind {
            Kind::Open => &mut self.open,
            Kind::Update => &mut self.update,
            Kind::Notification => &mut self.notification,
            Kind::Keepalive => &mut self.keepalive,
            Kind::RouteRefresh => &mut self.route_refresh,
        } += 1;
    }

    /// Counts a whole message.
    pub(super) fn count_octets(&mut self, message: &[u8]) {
        if let Some(kind) = message.get(HEADER - 1).and_then(|octet| Kind::from_octet(*octet)) {
            self.count(kind);
        }
    }
}
