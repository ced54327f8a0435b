//! The finite state machine of RFC 4271 §8.2.2, as one pure function: [`next`].
//!
//! [`session`](super::session) finds out what has happened and does what comes out. Nothing here
//! knows of messages, timers or connections.
//!
//! Two transitions depart from the letter of the RFC, for the same reason: a router that dials in must
//! not be refused. After a dial that failed the session goes to Active and listens, as in RFC 1771,
//! instead of to Idle, where connections are refused; and in Active, a connection that fails before it
//! is open changes nothing. A NOTIFICATION is never answered by another one.

use serde::Serialize;

/// State of a session, or of one of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum State {
    /// Connections are refused: the session has not been started, or the router broke a rule.
    Idle,
    /// Dialling; a router that dials is welcome as well.
    Connect,
    /// Waiting for the router to dial, or for the time to dial again.
    Active,
    /// OPEN is sent, the router's is awaited.
    OpenSent,
    /// Both OPENs are accepted, a KEEPALIVE is awaited.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

/// What can happen: the events of RFC 4271 §8.1 that this speaker has, with their numbers there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Event {
    ManualStart = 1,
    ManualStop = 2,
    ManualStartWithPassiveTcp = 4,
    AutomaticStop = 8,
    ConnectRetryTimerExpires = 9,
    HoldTimerExpires = 10,
    KeepaliveTimerExpires = 11,
    IdleHoldTimerExpires = 13,
    TcpCrAcked = 16,
    TcpConnectionConfirmed = 17,
    TcpConnectionFails = 18,
    BgpOpen = 19,
    BgpHeaderErr = 21,
    BgpOpenMsgErr = 22,
    OpenCollisionDump = 23,
    NotifMsgVerErr = 24,
    NotifMsg = 25,
    KeepAliveMsg = 26,
    UpdateMsg = 27,
    UpdateMsgErr = 28,
    /// RFC 9687.
    SendHoldTimerExpires = 29,
    /// RFC 2918, which gives it no number.
    RouteRefreshMsg = 100,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing.
    Stay,
    /// Dial; be in Connect.
    Dial,
    /// Wait for a connection, and to dial again; be in Active.
    Listen,
    /// Send OPEN, start the long hold timer; be in OpenSent.
    Open,
    /// Send KEEPALIVE, start the agreed timers; be in OpenConfirm.
    Confirm,
    /// Restart the hold timer; be in Established.
    Establish,
    /// Restart the hold timer.
    Heard,
    /// Send KEEPALIVE.
    Keepalive,
    /// End the connection; be in Idle.
    End(Ending),
}

/// What this end tells the router when a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nothing: the router knows, or is not there.
    Silent,
    /// The Cease that goes with the event.
    Cease,
    /// The error that the message gave rise to.
    Error,
    /// Hold timer expired.
    HoldTimer,
    /// Send hold timer expired.
    SendHoldTimer,
    /// Finite state machine error, with the subcode of RFC 6608.
    Unexpected(u8),
}

impl State {
    /// Where an outcome leads.
    pub(super) fn after(self, outcome: Outcome) -> Self {
        match outcome {
            Outcome::Stay | Outcome::Heard | Outcome::Keepalive => self,
            Outcome::Dial => Self::Connect,
            Outcome::Listen => Self::Active,
            Outcome::Open => Self::OpenSent,
            Outcome::Confirm => Self::OpenConfirm,
            Outcome::Establish => Self::Established,
            Outcome::End(_) => Self::Idle,
        }
    }
}

/// What to do when something happens in a state.
pub(super) fn next(state: State, event: Event) -> Outcome {
    match state {
        State::Idle => idle(event),
        State::Connect | State::Active => unconnected(state, event),
        State::OpenSent => open_sent(event),
        State::OpenConfirm => open_confirm(event),
        State::Established => established(event),
    }
}

fn idle(event: Event) -> Outcome {
    match event {
        Event::ManualStart | Event::IdleHoldTimerExpires => Outcome::Dial,
        Event::ManualStartWithPassiveTcp => Outcome::Listen,
        _ => Outcome::Stay,
    }
}

fn unconnected(state: State, event: Event) -> Outcome {
    match event {
        Event::ManualStart | Event::ManualStartWithPassiveTcp => Outcome::Stay,
        Event::ConnectRetryTimerExpires => Outcome::Dial,
        Event::TcpCrAcked | Event::TcpConnectionConfirmed => Outcome::Open,
        Event::TcpConnectionFails if state == State::Connect => Outcome::Listen,
        Event::TcpConnectionFails => Outcome::Stay,
        _ => Outcome::End(Ending::Silent),
    }
}

fn open_sent(event: Event) -> Outcome {
    match event {
        Event::TcpConnectionFails => Outcome::Listen,
        Event::BgpOpen => Outcome::Confirm,
        Event::BgpHeaderErr | Event::BgpOpenMsgErr => Outcome::End(Ending::Error),
        _ => connected(event, 1),
    }
}

fn open_confirm(event: Event) -> Outcome {
    match event {
        Event::KeepaliveTimerExpires => Outcome::Keepalive,
        Event::BgpHeaderErr | Event::BgpOpenMsgErr => Outcome::End(Ending::Error),
        Event::KeepAliveMsg => Outcome::Establish,
        _ => connected(event, 2),
    }
}

fn established(event: Event) -> Outcome {
    match event {
        Event::KeepaliveTimerExpires => Outcome::Keepalive,
        Event::KeepAliveMsg | Event::UpdateMsg => Outcome::Heard,
        // RFC 4271 §4.4 restarts the hold timer for those two only.
        Event::RouteRefreshMsg => Outcome::Stay,
        Event::BgpHeaderErr | Event::UpdateMsgErr => Outcome::End(Ending::Error),
        _ => connected(event, 3),
    }
}

/// What is the same in all states with a connection.
fn connected(event: Event, unexpected: u8) -> Outcome {
    match event {
        Event::ManualStart
        | Event::ManualStartWithPassiveTcp
        // Another connection: it has a state of its own.
        | Event::TcpCrAcked
        | Event::TcpConnectionConfirmed => Outcome::Stay,
        Event::ManualStop | Event::AutomaticStop | Event::OpenCollisionDump => {
            Outcome::End(Ending::Cease)
        }
        Event::HoldTimerExpires => Outcome::End(Ending::HoldTimer),
        Event::SendHoldTimerExpires => Outcome::End(Ending::SendHoldTimer),
        Event::TcpConnectionFails | Event::NotifMsgVerErr | Event::NotifMsg => {
            Outcome::End(Ending::Silent)
        }
        _ => Outcome::End(Ending::Unexpected(unexpected)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every state × every event. `-` stay, `D` dial, `L` listen, `O` open, `C` confirm,
    /// `E` establish, `h` heard, `k` keepalive; endings: `.` silent, `c` Cease, `e` error of the
    /// message, `H` hold timer, `S` send hold timer, `1`/`2`/`3` unexpected message with subcode.
    const TABLE: &[(Event, &str)] = &[
        // In:                          Idle Connect Active OpenSent OpenConfirm Established
        (Event::ManualStart, /*               */ "D - - - - -"),
        (Event::ManualStop, /*                */ "- . . c c c"),
        (Event::ManualStartWithPassiveTcp, /* */ "L - - - - -"),
        (Event::AutomaticStop, /*             */ "- . . c c c"),
        (Event::ConnectRetryTimerExpires, /*  */ "- D D 1 2 3"),
        (Event::HoldTimerExpires, /*          */ "- . . H H H"),
        (Event::KeepaliveTimerExpires, /*     */ "- . . 1 k k"),
        (Event::IdleHoldTimerExpires, /*      */ "D . . 1 2 3"),
        (Event::TcpCrAcked, /*                */ "- O O - - -"),
        (Event::TcpConnectionConfirmed, /*    */ "- O O - - -"),
        (Event::TcpConnectionFails, /*        */ "- L - L . ."),
        (Event::BgpOpen, /*                   */ "- . . C 2 3"),
        (Event::BgpHeaderErr, /*              */ "- . . e e e"),
        (Event::BgpOpenMsgErr, /*             */ "- . . e e 3"),
        (Event::OpenCollisionDump, /*         */ "- . . c c c"),
        (Event::NotifMsgVerErr, /*            */ "- . . . . ."),
        (Event::NotifMsg, /*                  */ "- . . . . ."),
        (Event::KeepAliveMsg, /*              */ "- . . 1 E h"),
        (Event::UpdateMsg, /*                 */ "- . . 1 2 h"),
        (Event::UpdateMsgErr, /*              */ "- . . 1 2 e"),
        (Event::SendHoldTimerExpires, /*      */ "- . . S S S"),
        (Event::RouteRefreshMsg, /*           */ "- . . 1 2 -"),
    ];

    const STATES: [State; 6] = [
        State::Idle,
        State::Connect,
        State::Active,
        State::OpenSent,
        State::OpenConfirm,
        State::Established,
    ];

    #[test]
    fn every_event_does_in_every_state_what_the_rfc_says() {
        for (event, row) in TABLE {
            for (state, expected) in STATES.into_iter().zip(row.split(' ')) {
                let (letter, to) = match next(state, *event) {
                    Outcome::Stay => ("-", state),
                    Outcome::Dial => ("D", State::Connect),
                    Outcome::Listen => ("L", State::Active),
                    Outcome::Open => ("O", State::OpenSent),
                    Outcome::Confirm => ("C", State::OpenConfirm),
                    Outcome::Establish => ("E", State::Established),
                    Outcome::Heard => ("h", state),
                    Outcome::Keepalive => ("k", state),
                    Outcome::End(ending) => {
                        let letter = match ending {
                            Ending::Silent => ".",
                            Ending::Cease => "c",
                            Ending::Error => "e",
                            Ending::HoldTimer => "H",
                            Ending::SendHoldTimer => "S",
                            Ending::Unexpected(1) => "1",
                            Ending::Unexpected(2) => "2",
                            Ending::Unexpected(_) => "3",
                        };
                        (letter, State::Idle)
                    }
                };
                let number = *event as u8;
                assert_eq!(letter, expected, "event {number} ({event:?}) in {state:?}");
                assert_eq!(state.after(next(state, *event)), to, "event {number} in {state:?}");
            }
            assert_eq!(row.split(' ').count(), STATES.len());
        }
    }
}
