//! What must hold of a session whatever a router sends, and whenever: the target `bgp_session` of
//! [`fuzzing`](crate::testing::fuzzing).
//!
//! The octets are a script of events. Beside the session runs a ledger of what its owner knows,
//! which notices any action that makes no sense.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::bgp::{check_notification, settings};
use crate::{
    bgp::{
        Action, Cease, ConnectionId, Event, Negotiated, Reason, Session, State,
        header::{self, HEADER, Kind, LONGEST, LONGEST_EXTENDED},
        message::Framer,
    },
    testing::fuzzing::Input,
};

const MS: Duration = Duration::from_millis(1);
/// RFC 4271 §6.8: both sides may dial at once, and a router that has restarted dials while this end
/// still believes in the old connection.
const MOST_CONNECTIONS: usize = 2;

/// What the owner of a session knows.
struct Ledger {
    session: Session,
    now: Instant,
    started: bool,
    passive: bool,
    dial: Option<ConnectionId>,
    /// Connections that are open, and whether the last word has been sent.
    open: BTreeMap<ConnectionId, Said>,
    up: Option<ConnectionId>,
    /// What it was said to be up with; one event can bring it up and down again.
    agreed: Option<Negotiated>,
    /// Ids that have been used.
    past: Vec<ConnectionId>,
}

/// What has been sent on a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Open,
    Notification,
}

/// An octet of settings and a script.
pub(crate) fn session(data: &[u8], now: Instant) {
    let mut input = Input::new(data);
    let flags = input.octet();
    let passive = flags & 8 != 0;
    let settings = crate::bgp::Settings { passive, ..settings(flags) };
    let mut ledger = Ledger {
        session: Session::new(settings, 1),
        now,
        started: false,
        passive,
        dial: None,
        open: BTreeMap::new(),
        up: None,
        agreed: None,
        past: Vec::new(),
    };
    while !input.is_empty() {
        ledger.step(&mut input);
    }
    // However it was left: it begins again.
    ledger.does(Event::Stop(Cease::Shutdown, ""));
    ledger.does(Event::Start);
    assert_eq!(ledger.dial.is_none(), passive, "it does not dial");
    ledger.passes(Duration::from_secs(30));
}

impl Ledger {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.octet() % 16 {
            0 => self.does(Event::Start),
            1 => {
                let cease = [Cease::Shutdown, Cease::Reset, Cease::Changed, Cease::Deconfigured];
                let cease = cease[usize::from(input.octet() % 4)];
                self.does(Event::Stop(cease, &String::from_utf8_lossy(input.piece())));
            }
            2 => self.does(Event::BfdDown),
            3 | 4 => self.does(Event::Incoming),
            5 | 6 => {
                if let Some(id) = self.dial.take() {
                    self.open.insert(id, Said::Nothing);
                    self.does(Event::Opened(id));
                }
            }
            7 => {
                if let Some(id) = self.dial.take() {
                    self.does(Event::Failed(id));
                }
            }
            8 => {
                if let Some(id) = self.choose(input) {
                    self.open.remove(&id);
                    self.does(Event::Failed(id));
                }
            }
            9 => {
                let piece = input.piece();
                self.hears(input, piece);
            }
            10 | 11 => {
                let kinds = [
                    Kind::Open,
                    Kind::Update,
                    Kind::Notification,
                    Kind::Keepalive,
                    Kind::RouteRefresh,
                ];
                let kind = kinds[usize::from(input.octet() % 5)];
                let body = input.piece();
                let message = header::frame(kind, &body[..body.len().min(60_000)]);
                self.hears(input, &message);
            }
            12 => {
                if let Some(id) = self.choose(input) {
                    self.does(Event::Flushed(id));
                }
            }
            13 => self.passes(MS * 100 * input.octet().into()),
            14 => {
                // The owner may be late.
                self.now += MS * 1000 * input.octet().into();
                self.ticks();
            }
            _ => self.odd(input),
        }
    }

    /// What rarely happens.
    fn odd(&mut self, input: &mut Input<'_>) {
        let which = input.octet();
        if which.is_multiple_of(2) {
            let message = header::frame(Kind::Update, &[0; 4]);
            let actions = self.session.send_updates(vec![message; 3], self.now);
            assert_eq!(actions.len(), if self.up.is_some() { 3 } else { 0 });
            assert!(actions.into_iter().all(|action| match action {
                Action::Send(id, _) => Some(id) == self.up,
                _ => false,
            }));
            return;
        }
        // News of a connection that is gone already.
        let Some(&id) = self.past.get(usize::from(which / 2) % self.past.len().max(1)) else {
            return;
        };
        if self.open.contains_key(&id) || self.dial == Some(id) {
            return;
        }
        let keepalive = header::keepalive();
        let late = [Event::Failed(id), Event::Flushed(id), Event::Bytes(id, &keepalive)];
        for event in late {
            assert_eq!(self.session.handle(event, self.now), []);
        }
        assert_eq!(self.session.handle(Event::Opened(id), self.now), [Action::Close(id)]);
        self.check();
    }

    fn choose(&self, input: &mut Input<'_>) -> Option<ConnectionId> {
        let index = usize::from(input.octet()) % self.open.len().max(1);
        self.open.keys().nth(index).copied()
    }

    fn hears(&mut self, input: &mut Input<'_>, bytes: &[u8]) {
        if let Some(id) = self.choose(input) {
            self.does(Event::Bytes(id, bytes));
        }
    }

    /// Time passes with an owner that is never late.
    fn passes(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(deadline) = self.session.deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.ticks();
        }
        self.now = until;
    }

    fn ticks(&mut self) {
        self.does(Event::Tick);
        let next = self.session.deadline();
        assert!(next.is_none_or(|next| next > self.now), "due for ever: {:?}", self.session);
    }

    fn does(&mut self, event: Event<'_>) {
        let heard = if let Event::Bytes(_, bytes) = event { bytes.len() / HEADER } else { 0 };
        let most = heard + 2 * self.open.len() + 2;
        match event {
            Event::Start => self.started = true,
            Event::Stop(..) => self.started = false,
            _ => {}
        }
        let actions = self.session.handle(event, self.now);
        let answers = actions.iter().filter(|it| matches!(it, Action::Accept(_) | Action::Reject));
        assert_eq!(answers.count(), usize::from(matches!(event, Event::Incoming)));
        let sent = actions.iter().filter(|it| matches!(it, Action::Send(..))).count();
        assert!(sent <= most, "{sent} messages for {event:?}");
        for action in actions {
            self.note(action);
        }
        self.check();
    }

    fn note(&mut self, action: Action) {
        match action {
            Action::Connect(id) => {
                assert!(self.dial.is_none(), "it dials twice");
                self.fresh(id);
                self.dial = Some(id);
            }
            Action::Accept(id) => {
                self.fresh(id);
                self.open.insert(id, Said::Nothing);
            }
            Action::Reject => {}
            Action::Send(id, bytes) => self.sent(id, &bytes),
            Action::Close(id) => {
                let dialling = self.dial.take_if(|dial| *dial == id).is_some();
                assert!(dialling || self.open.remove(&id).is_some(), "{id:?} is closed twice");
            }
            Action::Up(id, negotiated) => {
                assert_eq!(self.up, None, "two sessions with one router");
                assert!(self.open.get(&id) == Some(&Said::Open));
                self.up = Some(id);
                self.agreed = Some(negotiated);
            }
            Action::Down(reason) => {
                shown(&reason);
                assert!(self.up.take().is_some(), "down without having been up");
                self.agreed = None;
            }
            Action::Refresh(families) => {
                assert!(self.up.is_some() && !families.is_empty(), "nobody to send routes to");
            }
        }
    }

    fn fresh(&mut self, id: ConnectionId) {
        assert!(!self.past.contains(&id), "{id:?} names two connections");
        self.past.push(id);
    }

    /// One well-formed message: first an OPEN, nothing after a NOTIFICATION.
    fn sent(&mut self, id: ConnectionId, bytes: &[u8]) {
        let mut framer = Framer::default();
        let (mut rest, mut scratch) = (bytes, Vec::new());
        let message = framer.next(&mut rest, &mut scratch);
        let Ok(Some(message)) = message else { panic!("{bytes:?} is no message: {message:?}") };
        assert!(rest.is_empty() && bytes.len() <= LONGEST);
        let said = self.open.get_mut(&id);
        let Some(said) = said else { panic!("{:?} goes nowhere", message.kind) };
        *said = match (*said, message.kind) {
            (Said::Nothing, Kind::Open) => Said::Open,
            (Said::Open, Kind::Notification) => Said::Notification,
            (Said::Open, Kind::Keepalive) => Said::Open,
            (_, kind) => panic!("{kind:?} is not what comes next"),
        };
    }

    /// What holds at any time.
    fn check(&self) {
        let session = &self.session;
        assert_eq!(session.state() == State::Established, self.up.is_some());
        assert_eq!(session.negotiated(), self.agreed.as_ref());
        assert_eq!(session.report().since.is_some(), self.up.is_some());
        assert!(self.open.len() <= MOST_CONNECTIONS, "{} connections", self.open.len());
        assert!(self.open.values().all(|said| *said == Said::Open), "a connection is left behind");
        assert!(session.held() <= MOST_CONNECTIONS * LONGEST_EXTENDED);
        session.report().error.iter().for_each(shown);
        let alone = self.open.is_empty() && self.dial.is_none();
        if !self.started {
            assert!(alone && session.state() == State::Idle && session.deadline().is_none());
        } else if alone && !self.passive {
            let soon = self.now + Duration::from_secs(5);
            assert!(session.deadline().is_some_and(|next| next <= soon), "it has given up");
        }
    }
}

fn shown(reason: &Reason) {
    assert!(!reason.to_string().contains(char::is_control), "{reason:?}");
    if let Reason::Sent(notification) | Reason::Received(notification) = reason {
        check_notification(notification);
    }
}
