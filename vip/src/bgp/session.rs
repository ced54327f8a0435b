//! The session with one router: it dials, listens, talks, gives up and tries again (RFC 4271 §8).
//!
//! The speaker owns one per peer of the node. It tells the session what happens by
//! [`Session::handle`], does what comes out, and calls again with [`Event::Tick`] no later than
//! [`Session::deadline`]. Routes go out by [`Session::send_updates`] between [`Action::Up`] and
//! [`Action::Down`]. Sans-IO: no clock, no socket, chance only from the seed.
//!
//! A session survives whatever a router sends: the worst that comes of it is a NOTIFICATION, and
//! another attempt within [`Settings::connect_time`].

use std::time::{Duration, Instant};

use super::{
    capability::UNICAST,
    connection::{Connection, ConnectionId},
    fsm::{self, Ending, Outcome, State},
    interface::{Action, Event},
    message::Message,
    notification::{Cease, Notification},
    open::{Negotiated, Open},
    refresh::Refreshes,
    report::{Reason, Report},
};
use crate::bgp::{
    header::{self, Kind},
    jitter::Jitter,
    settings::Settings,
};

mod silence;

/// The first pause after a failure; it doubles up to [`Settings::connect_time`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A session that has lasted so long was a good one: the pause begins anew.
const LASTING: Duration = Duration::from_secs(60);

/// A router that has not answered for so long is said not to.
const ANSWER: Duration = Duration::from_secs(5);

/// What is being done to get a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dial {
    /// Nothing: there is one, or the session is idle.
    Off,
    /// Dialling, until then; `unanswered`: when that is told.
    Trying { id: ConnectionId, until: Instant, unanswered: Option<Instant> },
    /// Listening, and dialling again then; `None` for a passive session.
    Waiting(Option<Instant>),
}

/// The session with one router.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    jitter: Jitter,
    started: bool,
    restarting: bool,
    /// Connections are refused until then: the router broke a rule a moment ago.
    idle_until: Option<Instant>,
    dial: Dial,
    connections: Vec<Connection>,
    next_id: u32,
    /// Failures in a row.
    failures: u32,
    refreshes: Refreshes,
    report: Report,
}

impl Session {
    /// A session that has not been started. `seed` should differ from session to session.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            restarting: settings.restarted,
            settings,
            jitter: Jitter::new(seed),
            started: false,
            idle_until: None,
            dial: Dial::Off,
            connections: Vec::new(),
            next_id: 0,
            failures: 0,
            refreshes: Refreshes::default(),
            report: Report::default(),
        }
    }

    /// Takes notice of something and says what to do about it.
    ///
    /// What is reported of a connection that the session has closed already is ignored.
    pub fn handle(&mut self, event: Event<'_>, now: Instant) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            Event::Start => self.start(now, &mut out),
            Event::Stop(cease, text) => self.stop(&Notification::cease(cease, text), now, &mut out),
            Event::BfdDown => {
                let cease = Notification::cease(Cease::BfdDown, "");
                for id in self.ids() {
                    self.step(id, fsm::Event::AutomaticStop, Some(cease.clone()), now, &mut out);
                }
            }
            Event::Incoming => self.incoming(now, &mut out),
            Event::Opened(id) => self.opened(id, now, &mut out),
            Event::Failed(id) if self.dialled() == Some(id) => {
                self.report.error = Some(Reason::NotConnected);
                if self.connections.is_empty() {
                    self.step_unconnected(fsm::Event::TcpConnectionFails, now, &mut out);
                } else {
                    self.dial = Dial::Off;
                }
            }
            Event::Failed(id) => {
                self.step(id, fsm::Event::TcpConnectionFails, None, now, &mut out);
            }
            Event::Bytes(id, bytes) => self.bytes(id, bytes, now, &mut out),
            Event::Flushed(id) => {
                if let Some(connection) = self.connection(id) {
                    connection.flushed();
                }
            }
            Event::Tick => self.tick(now, &mut out),
        }
        out
    }

    /// Sends UPDATE messages, if the session is up.
    pub fn send_updates(&mut self, messages: Vec<Vec<u8>>, now: Instant) -> Vec<Action> {
        let mut out = Vec::new();
        let up = |connection: &&Connection| connection.state == State::Established;
        let Some(id) = self.connections.iter().find(up).map(|connection| connection.id) else {
            return out;
        };
        let some = !messages.is_empty();
        for message in messages {
            self.send(id, message, now, &mut out);
        }
        if let Some(connection) = self.connections.iter_mut().find(|one| some && one.id == id) {
            connection.spoke(&mut self.jitter, now);
        }
        out
    }

    /// When [`Event::Tick`] is due at the latest; `None`: not at all.
    pub fn deadline(&self) -> Option<Instant> {
        let dial = match self.dial {
            Dial::Off => None,
            Dial::Trying { until, unanswered, .. } => {
                Some(unanswered.map_or(until, |at| at.min(until)))
            }
            Dial::Waiting(until) => until,
        };
        let connections = self.connections.iter().filter_map(Connection::deadline);
        connections.chain(dial).chain(self.refreshes.deadline()).chain(self.idle_until).min()
    }

    /// State of the session: that of its foremost connection.
    pub fn state(&self) -> State {
        let connected = self.connections.iter().map(|connection| connection.state).max();
        connected.unwrap_or_else(|| self.unconnected())
    }

    /// What has been agreed on, while the session is up.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        let up = |connection: &&Connection| connection.state == State::Established;
        self.connections.iter().find(up)?.negotiated.as_ref()
    }

    /// What there is to tell about the session.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Octets of messages that are not complete yet.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn held(&self) -> usize {
        self.connections.iter().map(|connection| connection.framer.held()).sum()
    }

    fn start(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.started {
            return;
        }
        self.started = true;
        self.failures = 0;
        let event = if self.settings.passive {
            fsm::Event::ManualStartWithPassiveTcp
        } else {
            fsm::Event::ManualStart
        };
        self.step_unconnected(event, now, out);
    }

    fn stop(&mut self, cease: &Notification, now: Instant, out: &mut Vec<Action>) {
        self.started = false;
        for id in self.ids() {
            self.step(id, fsm::Event::ManualStop, Some(cease.clone()), now, out);
        }
        self.step_unconnected(fsm::Event::ManualStop, now, out);
        self.idle_until = None;
    }

    fn incoming(&mut self, now: Instant, out: &mut Vec<Action>) {
        let welcome = match fsm::next(self.state(), fsm::Event::TcpConnectionConfirmed) {
            Outcome::Open => true,
            // There is a connection already; which of them stays is decided once both have spoken.
            _ => !self.connections.is_empty(),
        };
        // The router's latest attempt is the one it means, until one of them has been answered.
        let attempt = |one: &&Connection| !one.dialled && one.state != State::Established;
        let older = self.connections.iter().find(attempt).map(|older| (older.id, older.state));
        match older {
            Some((id, State::OpenSent)) if welcome => {
                let cease = Notification::cease(Cease::Collision, "");
                self.remove(id);
                self.send(id, cease.encode(), now, out);
                out.push(Action::Close(id));
            }
            None if welcome => {}
            _ => {
                out.push(Action::Reject);
                return;
            }
        }
        let id = self.new_id();
        out.push(Action::Accept(id));
        self.open(id, false, now, out);
    }

    fn opened(&mut self, id: ConnectionId, now: Instant, out: &mut Vec<Action>) {
        let asked = self.dialled() == Some(id);
        if asked && fsm::next(self.unconnected(), fsm::Event::TcpCrAcked) == Outcome::Open {
            self.dial = Dial::Off;
            self.open(id, true, now, out);
        } else {
            out.push(Action::Close(id));
        }
    }

    /// Sends OPEN on a connection that is there.
    fn open(&mut self, id: ConnectionId, dialled: bool, now: Instant, out: &mut Vec<Action>) {
        if let Dial::Waiting(_) = self.dial {
            self.dial = Dial::Off;
        }
        self.connections.push(Connection::open_sent(id, dialled, now, now + ANSWER));
        let open = Open::ours(&self.settings, self.restarting).encode();
        self.send(id, open, now, out);
    }

    fn bytes(&mut self, id: ConnectionId, mut bytes: &[u8], now: Instant, out: &mut Vec<Action>) {
        // The connection may end with any message.
        while let Some(connection) = self.connection(id) {
            let mut scratch = Vec::new();
            match connection.framer.next(&mut bytes, &mut scratch) {
                Ok(None) => return,
                Ok(Some(message)) => self.message(id, &message, now, out),
                Err(error) => {
                    self.step(id, fsm::Event::BgpHeaderErr, Some(error), now, out);
                    return;
                }
            }
        }
    }

    fn message(
        &mut self,
        id: ConnectionId,
        message: &Message<'_>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        self.report.received.count(message.kind);
        let Some(state) = self.connection(id).map(|connection| connection.state) else { return };
        let (event, error) = match (message.kind, state) {
            (Kind::Open, State::OpenSent) => match self.check_open(message.body) {
                Ok((negotiated, restarting)) => {
                    if !self.collide(id, &negotiated, restarting, now, out) {
                        return;
                    }
                    if let Some(connection) = self.connection(id) {
                        connection.confirm(negotiated);
                    }
                    (fsm::Event::BgpOpen, None)
                }
                Err(error) => (fsm::Event::BgpOpenMsgErr, Some(error)),
            },
            (Kind::Open, _) => (fsm::Event::BgpOpen, None),
            (Kind::Keepalive, _) => (fsm::Event::KeepAliveMsg, None),
            (Kind::Update, State::Established) => match self.check_update(id, message.body) {
                Ok(()) => (fsm::Event::UpdateMsg, None),
                Err(error) => (fsm::Event::UpdateMsgErr, Some(error)),
            },
            (Kind::Update, _) => (fsm::Event::UpdateMsg, None),
            (Kind::Notification, _) => {
                let notification = Notification::decode(message.body);
                let version = notification.is_version_error();
                let reason = Reason::Received(notification);
                self.report.judged(&reason);
                self.report.error = Some(reason);
                (if version { fsm::Event::NotifMsgVerErr } else { fsm::Event::NotifMsg }, None)
            }
            (Kind::RouteRefresh, _) => (fsm::Event::RouteRefreshMsg, None),
        };
        self.step(id, event, error, now, out);
        if let ([high, low, 0, UNICAST], fsm::Event::RouteRefreshMsg) = (message.body, event) {
            self.refresh(u16::from_be_bytes([*high, *low]), now, out);
        }
    }

    /// What the router and this end agree on, and whether the router has just restarted.
    fn check_open(&self, body: &[u8]) -> Result<(Negotiated, bool), Notification> {
        let open = Open::decode(body)?;
        let restart = open.capabilities.graceful_restart;
        let negotiated = open.negotiate(&self.settings)?;
        Ok((negotiated, restart.is_some_and(|restart| restart.restarting)))
    }

    fn check_update(&mut self, id: ConnectionId, body: &[u8]) -> Result<(), Notification> {
        let connection = self.connections.iter_mut().find(|one| one.id == id);
        if let Some(summary) = connection.and_then(|one| one.check_update(body)) {
            self.report.count_update(&summary?);
        }
        Ok(())
    }

    /// RFC 4271 §6.8, RFC 6286 §2.3: of two connections one stays. Whether this one, on which the
    /// router's OPEN has come, does.
    fn collide(
        &mut self,
        id: ConnectionId,
        negotiated: &Negotiated,
        restarting: bool,
        now: Instant,
        out: &mut Vec<Action>,
    ) -> bool {
        let settled = |one: &&Connection| one.id != id && one.state > State::OpenSent;
        let other = self.connections.iter().find(settled);
        let other = other.map(|other| (other.id, other.state));
        let Some((other, state)) = other else { return true };
        if state == State::Established && restarting {
            // RFC 4724 §5: the router knows nothing of the old one any more.
            self.remove(other);
            out.push(Action::Close(other));
            self.down(Reason::RouterRestarted, out);
            return true;
        }
        let ours = (self.settings.router_id, self.settings.local_asn);
        let we_win = ours > (negotiated.remote_id, negotiated.remote_asn);
        let dialled = self.connection(id).is_some_and(|this| this.dialled);
        let stays = state != State::Established && dialled == we_win;
        let loser = if stays { other } else { id };
        let cease = Notification::cease(Cease::Collision, "");
        self.step(loser, fsm::Event::OpenCollisionDump, Some(cease), now, out);
        stays
    }

    fn refresh(&mut self, afi: u16, now: Instant, out: &mut Vec<Action>) {
        if let Some(families) = self.negotiated().map(|agreed| agreed.families) {
            self.refreshes.ask(afi, families);
            out.extend(self.refreshes.due(now).map(Action::Refresh));
        }
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.idle_until.is_some_and(|until| until <= now) {
            self.idle_until = None;
            self.step_unconnected(fsm::Event::IdleHoldTimerExpires, now, out);
        }
        self.notice_silence(now);
        match self.dial {
            Dial::Trying { until, .. } | Dial::Waiting(Some(until)) if until <= now => {
                self.step_unconnected(fsm::Event::ConnectRetryTimerExpires, now, out);
            }
            _ => {}
        }
        for id in self.ids() {
            type Due = fn(&Connection, Instant) -> bool;
            let timers: [(Due, fsm::Event); 3] = [
                (Connection::hold_expired, fsm::Event::HoldTimerExpires),
                (Connection::send_hold_expired, fsm::Event::SendHoldTimerExpires),
                (Connection::keepalive_due, fsm::Event::KeepaliveTimerExpires),
            ];
            for (due, event) in timers {
                if self.connection(id).is_some_and(|connection| due(connection, now)) {
                    self.step(id, event, None, now, out);
                }
            }
        }
        out.extend(self.refreshes.due(now).map(Action::Refresh));
    }

    /// Does what the state machine says of an event that belongs to no connection.
    fn step_unconnected(&mut self, event: fsm::Event, now: Instant, out: &mut Vec<Action>) {
        match fsm::next(self.unconnected(), event) {
            // There is a connection, which the dial was not needed for.
            _ if !self.connections.is_empty() => self.hang_up(out),
            // A passive session that was idle listens again.
            Outcome::Dial if self.settings.passive => self.listen(now),
            Outcome::Dial => {
                self.hang_up(out);
                let id = self.new_id();
                let time = self.jitter.percent(self.settings.connect_time, 75, 100);
                let (until, unanswered) = (now + time, Some(now + ANSWER));
                self.dial = Dial::Trying { id, until, unanswered };
                out.push(Action::Connect(id));
            }
            Outcome::Listen => self.listen(now),
            Outcome::End(_) => self.hang_up(out),
            _ => {}
        }
    }

    /// Does what the state machine says of an event on a connection. `error` is what this end
    /// tells the router if the event ends it by [`Ending::Error`] or [`Ending::Cease`].
    fn step(
        &mut self,
        id: ConnectionId,
        event: fsm::Event,
        error: Option<Notification>,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(connection) = self.connections.iter_mut().find(|one| one.id == id) else { return };
        let outcome = fsm::next(connection.state, event);
        if !matches!(outcome, Outcome::End(_) | Outcome::Listen) {
            connection.state = connection.state.after(outcome);
        }
        match outcome {
            Outcome::Confirm | Outcome::Keepalive => {
                if outcome == Outcome::Confirm {
                    connection.heard(now);
                }
                connection.spoke(&mut self.jitter, now);
                self.send(id, header::keepalive(), now, out);
            }
            Outcome::Heard => connection.heard(now),
            Outcome::Establish => {
                connection.heard(now);
                self.establish(id, now, out);
            }
            Outcome::End(ending) => {
                let notification = match ending {
                    Ending::Silent => None,
                    Ending::Cease | Ending::Error => error,
                    Ending::HoldTimer => Some(Notification::hold_timer_expired()),
                    Ending::SendHoldTimer => Some(Notification::send_hold_timer_expired()),
                    Ending::Unexpected(subcode) => Some(Notification::new(5, subcode)),
                };
                let broken = matches!(ending, Ending::Error | Ending::Unexpected(_));
                self.end(id, event, notification, broken, now, out);
            }
            Outcome::Listen => self.end(id, event, None, false, now, out),
            Outcome::Stay | Outcome::Dial | Outcome::Open => {}
        }
    }

    fn establish(&mut self, id: ConnectionId, now: Instant, out: &mut Vec<Action>) {
        // The attempts that have not got this far are not needed any more.
        self.hang_up(out);
        let cease = Notification::cease(Cease::Collision, "");
        for other in self.ids().into_iter().filter(|other| *other != id) {
            self.step(other, fsm::Event::OpenCollisionDump, Some(cease.clone()), now, out);
        }
        self.restarting = false;
        self.report.up(now);
        if let Some(negotiated) = self.negotiated().cloned() {
            out.push(Action::Up(id, negotiated));
        }
    }

    /// Ends a connection, and decides how the session goes on without it. `broken`: the router has
    /// broken a rule.
    fn end(
        &mut self,
        id: ConnectionId,
        event: fsm::Event,
        notification: Option<Notification>,
        broken: bool,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let Some(connection) = self.remove(id) else { return };
        let reason = match (notification, event) {
            (Some(notification), _) => {
                self.send(id, notification.encode(), now, out);
                let reason = Reason::Sent(notification);
                if connection.state < State::Established {
                    self.report.judged(&reason);
                }
                reason
            }
            (None, fsm::Event::NotifMsg | fsm::Event::NotifMsgVerErr) => {
                self.report.error.clone().unwrap_or(Reason::ConnectionLost)
            }
            (None, _) => Reason::ConnectionLost,
        };
        if event != fsm::Event::TcpConnectionFails {
            out.push(Action::Close(id));
        }
        let lasted = self.report.since.is_some_and(|since| since + LASTING <= now);
        if connection.state == State::Established {
            self.down(reason.clone(), out);
            if lasted {
                self.failures = 0;
            }
        }
        if event != fsm::Event::OpenCollisionDump {
            self.report.error = Some(reason);
        }
        if !self.started || !self.connections.is_empty() {
            return;
        }
        if broken {
            self.hang_up(out);
            self.idle_until = Some(now + self.pause());
        } else if self.dial == Dial::Off {
            // DampPeerOscillations is for routers that break rules. The others are let in again at
            // once (event 5, AutomaticStart_with_PassiveTcpEstablishment): most have restarted.
            self.listen(now);
        }
    }

    fn down(&mut self, reason: Reason, out: &mut Vec<Action>) {
        self.report.down();
        // The router that asked for a refresh is gone, and the next session begins with all routes anyway.
        self.refreshes = Refreshes::default();
        out.push(Action::Down(reason));
    }

    /// Waits for the router to dial, and dials again itself after a while.
    fn listen(&mut self, now: Instant) {
        let again = (!self.settings.passive).then(|| now + self.pause());
        self.dial = Dial::Waiting(again);
    }

    /// The time until the next attempt; longer from failure to failure.
    fn pause(&mut self) -> Duration {
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.jitter.percent(doubled.min(self.settings.connect_time), 75, 100)
    }

    fn hang_up(&mut self, out: &mut Vec<Action>) {
        if let Dial::Trying { id, .. } = std::mem::replace(&mut self.dial, Dial::Off) {
            out.push(Action::Close(id));
        }
    }

    fn send(&mut self, id: ConnectionId, bytes: Vec<u8>, now: Instant, out: &mut Vec<Action>) {
        self.report.sent.count_octets(&bytes);
        if let Some(connection) = self.connection(id) {
            connection.queued(now);
        }
        out.push(Action::Send(id, bytes));
    }

    /// State of the session as if there were no connection.
    fn unconnected(&self) -> State {
        match self.dial {
            Dial::Off => State::Idle,
            Dial::Trying { .. } => State::Connect,
            Dial::Waiting(_) => State::Active,
        }
    }

    fn dialled(&self) -> Option<ConnectionId> {
        match self.dial {
            Dial::Trying { id, .. } => Some(id),
            _ => None,
        }
    }

    fn ids(&self) -> Vec<ConnectionId> {
        self.connections.iter().map(|connection| connection.id).collect()
    }

    fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.id == id)
    }

    fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        let index = self.connections.iter().position(|connection| connection.id == id)?;
        Some(self.connections.remove(index))
    }

    fn new_id(&mut self) -> ConnectionId {
        self.next_id = self.next_id.wrapping_add(1);
        ConnectionId(self.next_id)
    }
}

#[cfg(test)]
mod tests;
