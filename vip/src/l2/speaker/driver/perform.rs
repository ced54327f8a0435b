//! Carries out what [`Vips`](crate::l2::vips::Vips) asks for, and reports what came of it.
//!
//! Part of the driver. Addresses are changed some at a time: one by one would take too long, and all
//! at once as well, as the kernel may take half a millisecond for each (IPv6, when there are a
//! thousand, because it looks at all of them). In between, the other nodes are heard, and hear that
//! this one is alive.

#![expect(clippy::disallowed_methods, reason = "part of the driver, which owns the clock")]

use std::{
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use tracing::debug;

use super::Driver;
use crate::{
    event::SpeakerEvent,
    l2::{arp, ndp, vips::Action},
    links::change::{Change, Failure, FailureKind},
};

/// Changes of addresses between two looks at the heartbeats.
const AT_ONCE: usize = 32;

impl<E: Fn(SpeakerEvent)> Driver<E> {
    /// Carries actions out, in this order.
    pub(super) fn perform(&mut self, actions: &[Action]) {
        let mut rest = actions;
        while let Some(first) = rest.first() {
            let changes: Vec<_> = rest.iter().map_while(change).take(AT_ONCE).collect();
            let (now, later) = rest.split_at(changes.len().max(1));
            if !changes.is_empty() {
                self.change(now, &changes);
            } else if let Action::Renew { addresses, lifetime } = first {
                self.renew(addresses, *lifetime);
            } else {
                let outcome = self.perform_one(first);
                self.done(first, outcome);
            }
            rest = later;
        }
    }

    /// Makes the changes that belong to these actions, one each.
    fn change(&mut self, actions: &[Action], changes: &[Change]) {
        let outcomes = self.link_watch.change(changes);
        for ((action, change), outcome) in actions.iter().zip(changes).zip(outcomes) {
            match *change {
                Change::Add { index, ip, .. } if outcome.is_ok() => {
                    self.link_watch.links.added(index, ip)
                }
                Change::Delete { index, ip } if outcome.is_ok() => {
                    self.link_watch.links.deleted(index, ip)
                }
                _ => {}
            }
            self.done(action, outcome);
        }
        self.keep_in_touch();
    }

    /// What was renewed and what was not is reported one after the other.
    fn renew(&mut self, addresses: &[(u32, IpAddr)], lifetime: Duration) {
        for some in addresses.chunks(AT_ONCE) {
            let renewal = |&(index, ip)| Change::Renew { index, ip, lifetime };
            let changes: Vec<_> = some.iter().map(renewal).collect();
            let mut renewed = Vec::with_capacity(some.len());
            for (address, outcome) in some.iter().zip(self.link_watch.change(&changes)) {
                match outcome {
                    Ok(()) => renewed.push(*address),
                    failed => {
                        self.done(&Action::Renew { addresses: vec![*address], lifetime }, failed);
                    }
                }
            }
            self.done(&Action::Renew { addresses: renewed, lifetime }, Ok(()));
            self.keep_in_touch();
        }
    }

    fn perform_one(&mut self, action: &Action) -> Result<(), Failure> {
        let outcome = match action {
            Action::Announce { ip, index, mac } => match ip {
                IpAddr::V4(ip) => self.send(*index, &arp::gratuitous(*mac, *ip)),
                IpAddr::V6(ip) => self.send(*index, &[ndp::unsolicited(*mac, *ip)]),
            },
            Action::Probe { ip, index, mac } => match ip {
                IpAddr::V4(ip) => self.send(*index, &[arp::probe(*mac, *ip)]),
                IpAddr::V6(ip) => self.send(*index, &[ndp::probe(*mac, *ip)]),
            },
            Action::ArpIgnore { name, .. } => self.arp_sysctls.apply(name),
            // These are changes.
            Action::Delete { .. } | Action::Add { .. } | Action::Renew { .. } => Ok(()),
        };
        outcome.map_err(|error| Failure {
            kind: match error.kind() {
                io::ErrorKind::PermissionDenied => FailureKind::Denied,
                _ => FailureKind::Other,
            },
            message: error.to_string(),
        })
    }

    fn send(&mut self, index: u32, frames: &[Vec<u8>]) -> io::Result<()> {
        frames.iter().try_for_each(|frame| self.frames.send(index, frame))
    }

    fn done(&mut self, action: &Action, outcome: Result<(), Failure>) {
        debug!(?action, ?outcome, "done");
        self.publisher.acted(action);
        self.vips.done(action, outcome, Instant::now());
    }

    /// In the midst of something longer: hears the other nodes, and has them hear this one.
    pub(super) fn keep_in_touch(&mut self) {
        let now = Instant::now();
        self.read(now);
        self.speak();
        // Unless it stood still even so, which the next turn is to notice.
        if now <= self.back_at + self.timing.dead {
            self.back_at = now;
        }
    }
}

/// What an action changes about an address; `None` if it is of another kind.
fn change(action: &Action) -> Option<Change> {
    match *action {
        Action::Delete { ip, index } => Some(Change::Delete { index, ip }),
        Action::Add { ip, index, lifetime } => Some(Change::Add { index, ip, lifetime }),
        _ => None,
    }
}
