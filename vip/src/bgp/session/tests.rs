//! One session against a script: what it does, when, and what it tells the router.

use std::net::Ipv4Addr;

use super::*;
use crate::bgp::{
    capability::Capabilities,
    peer::{Families, RemoteAsn},
};

mod collision;
mod hostile;
mod simulation;

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn settings() -> Settings {
    Settings {
        local_asn: 64512,
        remote_asn: RemoteAsn::Exactly(64513),
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        hold_time: SECOND * 90,
        keepalive_time: SECOND * 30,
        connect_time: SECOND * 5,
        families: Families::BOTH,
        graceful_restart: false,
        restarted: false,
        over_v6: false,
        passive: false,
    }
}

/// The OPEN of a router that can do everything.
fn open() -> Open {
    Open {
        asn: 64513,
        hold_time: 90,
        id: Ipv4Addr::new(10, 0, 0, 2),
        capabilities: Capabilities {
            families: Some(Families::BOTH),
            route_refresh: true,
            extended_message: true,
            asn: Some(64513),
            ..Capabilities::default()
        },
    }
}

#[allow(clippy::disallowed_methods, reason = "tests need some instant to begin with")]
fn now() -> Instant {
    Instant::now()
}

/// A session with the means to play the router.
struct Script {
    session: Session,
    now: Instant,
    id: ConnectionId,
}

impl Script {
    fn new(settings: Settings) -> Self {
        Self { session: Session::new(settings, 1), now: now(), id: ConnectionId(0) }
    }

    fn does(&mut self, event: Event<'_>) -> Vec<Action> {
        self.session.handle(event, self.now)
    }

    fn says(&mut self, bytes: &[u8]) -> Vec<Action> {
        self.does(Event::Bytes(self.id, bytes))
    }

    /// Lets time pass as a caller would: not a moment later than each deadline.
    fn waits(&mut self, time: Duration) -> Vec<Action> {
        let until = self.now + time;
        let mut out = Vec::new();
        while let Some(deadline) = self.session.deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            let done = self.session.handle(Event::Tick, self.now);
            assert!(
                self.session.deadline().is_none_or(|next| next > self.now),
                "due for ever: {:?} {done:?}",
                self.session
            );
            out.extend(done);
        }
        self.now = until;
        out
    }

    fn dialled(&mut self) -> &mut Self {
        let actions = self.does(Event::Start);
        let [Action::Connect(id)] = actions[..] else { panic!("{actions:?}") };
        self.id = id;
        self
    }

    fn open_sent(&mut self) -> &mut Self {
        self.dialled();
        let actions = self.does(Event::Opened(self.id));
        assert!(matches!(&actions[..], [Action::Send(_, open)] if open[18] == 1), "{actions:?}");
        self
    }

    fn open_confirm(&mut self) -> &mut Self {
        self.open_sent();
        let actions = self.says(&open().encode());
        assert_eq!(actions, [Action::Send(self.id, header::keepalive())]);
        self
    }

    fn established(&mut self) -> &mut Self {
        self.open_confirm();
        let actions = self.says(&header::keepalive());
        assert!(matches!(actions[..], [Action::Up(id, _)] if id == self.id), "{actions:?}");
        self
    }
}

/// The session sent this NOTIFICATION, and closed the connection.
fn assert_ended(actions: &[Action], id: ConnectionId, notification: &Notification) {
    let expected = [Action::Send(id, notification.encode()), Action::Close(id)];
    assert!(actions.starts_with(&expected), "{notification}: {actions:?}");
}

#[test]
fn a_session_comes_up_and_says_what_has_been_agreed_on() {
    let mut script = Script::new(settings());
    script.open_confirm();
    assert_eq!(script.session.state(), State::OpenConfirm);
    assert_eq!(script.session.negotiated(), None);
    let actions = script.says(&header::keepalive());
    let agreed = Negotiated {
        remote_asn: 64513,
        remote_id: Ipv4Addr::new(10, 0, 0, 2),
        internal: false,
        hold_time: SECOND * 90,
        keepalive_time: SECOND * 30,
        families: Families::BOTH,
        remote_families: Families::BOTH,
        four_octet_asn: true,
        extended_next_hop: false,
        extended_message: true,
        route_refresh: true,
        graceful_restart: false,
    };
    assert_eq!(actions, [Action::Up(script.id, agreed.clone())]);
    assert_eq!(script.session.negotiated(), Some(&agreed));
    let report = script.session.report();
    assert_eq!((report.sent.open, report.sent.keepalive), (1, 1));
    assert_eq!((report.received.open, report.received.keepalive), (1, 1));
    assert_eq!((report.since, report.established), (Some(script.now), 1));
}

#[test]
fn what_both_have_said_is_agreed_on_and_no_more() {
    type Ours = fn(&mut Settings);
    type Theirs = fn(&mut Open);
    type Agreed = fn(&Negotiated) -> bool;
    let cases: &[(&str, Ours, Theirs, Agreed)] = &[
        (
            "lower hold time",
            |_| {},
            |o| o.hold_time = 9,
            |n| (n.hold_time, n.keepalive_time) == (SECOND * 9, SECOND * 3),
        ),
        (
            "our hold time",
            |s| s.hold_time = SECOND * 30,
            |_| {},
            |n| (n.hold_time, n.keepalive_time) == (SECOND * 30, SECOND * 10),
        ),
        (
            "our keepalive time",
            |s| s.keepalive_time = SECOND * 5,
            |_| {},
            |n| n.keepalive_time == SECOND * 5,
        ),
        (
            "no hold time",
            |_| {},
            |o| o.hold_time = 0,
            |n| n.hold_time.is_zero() && n.keepalive_time.is_zero(),
        ),
        (
            "one family",
            |s| s.families.v6 = false,
            |_| {},
            |n| n.families == Families { v4: true, v6: false },
        ),
        (
            "no families said",
            |_| {},
            |o| o.capabilities.families = None,
            |n| n.families == Families { v4: true, v6: false },
        ),
        ("two octets", |_| {}, |o| o.capabilities.asn = None, |n| !n.four_octet_asn),
        (
            "short messages",
            |_| {},
            |o| o.capabilities.extended_message = false,
            |n| !n.extended_message,
        ),
        (
            "IPv6 next hops",
            |s| s.over_v6 = true,
            |o| o.capabilities.extended_next_hop = true,
            |n| n.extended_next_hop,
        ),
        (
            "no IPv6 next hops over IPv4",
            |_| {},
            |o| o.capabilities.extended_next_hop = true,
            |n| !n.extended_next_hop,
        ),
        (
            "within one ASN",
            |s| s.remote_asn = RemoteAsn::Exactly(64512),
            |o| {
                (o.asn, o.capabilities.asn) = (64512, Some(64512));
            },
            |n| n.internal,
        ),
        (
            "any other ASN",
            |s| s.remote_asn = RemoteAsn::External,
            |o| {
                (o.asn, o.capabilities.asn) = (4_200_000_000, Some(4_200_000_000));
            },
            |n| n.remote_asn == 4_200_000_000,
        ),
        (
            "same identifier, other ASN",
            |_| {},
            |o| o.id = Ipv4Addr::new(10, 0, 0, 1),
            |n| n.remote_id == Ipv4Addr::new(10, 0, 0, 1),
        ),
    ];
    for (name, ours, theirs, agreed) in cases {
        let (mut settings, mut open) = (settings(), open());
        ours(&mut settings);
        theirs(&mut open);
        let mut script = Script::new(settings);
        script.open_sent();
        script.says(&open.encode());
        let actions = script.says(&header::keepalive());
        let [Action::Up(_, negotiated)] = &actions[..] else { panic!("{name}: {actions:?}") };
        assert!(agreed(negotiated), "{name}: {negotiated:?}");
    }
}

#[test]
fn keepalives_are_sent_in_time_and_a_router_that_says_nothing_is_dead_after_the_hold_time() {
    let mut script = Script::new(settings());
    script.established();
    let mut sent = 0;
    for _ in 0..10 {
        for action in script.waits(SECOND * 60) {
            assert_eq!(action, Action::Send(script.id, header::keepalive()));
            sent += 1;
        }
        script.says(&header::keepalive());
        let id = script.id;
        script.does(Event::Flushed(id));
    }
    // 600 s at 22.5 to 30 s.
    assert!((20..=27).contains(&sent), "{sent}");
    let actions = script.waits(SECOND * 90);
    let expired = Notification::hold_timer_expired();
    assert!(actions.contains(&Action::Send(script.id, expired.encode())));
    assert!(actions.contains(&Action::Down(Reason::Sent(expired))));
}

#[test]
fn a_router_that_hangs_after_the_connection_is_given_up_and_dialled_again() {
    for stage in [Script::open_sent, Script::open_confirm] {
        let mut script = Script::new(settings());
        stage(&mut script);
        let actions = script.waits(SECOND * 95);
        let expired = Notification::hold_timer_expired();
        assert!(actions.contains(&Action::Send(script.id, expired.encode())), "{actions:?}");
        assert!(actions.iter().any(|action| matches!(action, Action::Connect(_))));
        assert!(!actions.iter().any(|action| matches!(action, Action::Down(_))));
    }
}

#[test]
fn without_a_hold_time_nothing_is_sent_and_nothing_expires() {
    let mut script = Script::new(Settings { hold_time: Duration::ZERO, ..settings() });
    script.established();
    let id = script.id;
    script.does(Event::Flushed(id));
    assert_eq!(script.waits(SECOND * 100_000), []);
    assert_eq!(script.session.state(), State::Established);
}

#[test]
fn a_router_that_takes_nothing_any_more_is_dead_after_the_send_hold_time() {
    let mut script = Script::new(settings());
    script.established();
    let mut actions = Vec::new();
    for _ in 0..10 {
        actions.extend(script.waits(SECOND * 60));
        // It goes on talking, so that the hold timer never expires (RFC 9687 §1).
        script.says(&header::keepalive());
    }
    let expired = Notification::send_hold_timer_expired();
    assert!(actions.contains(&Action::Down(Reason::Sent(expired))), "{actions:?}");
}

#[test]
fn stopping_tells_the_router_why_and_stays_stopped() {
    let notification = Notification::cease(Cease::Shutdown, "n1 is drained");
    for stage in [Script::open_sent, Script::open_confirm, Script::established] {
        let mut script = Script::new(settings());
        stage(&mut script);
        let actions = script.does(Event::Stop(Cease::Shutdown, "n1 is drained"));
        assert_ended(&actions, script.id, &notification);
        assert_eq!(script.session.state(), State::Idle);
        assert_eq!(script.waits(SECOND * 1000), []);
        assert_eq!(script.does(Event::Incoming), [Action::Reject]);
        assert!(matches!(script.does(Event::Start)[..], [Action::Connect(_)]));
    }
    let mut dialling = Script::new(settings());
    dialling.dialled();
    let id = dialling.id;
    assert_eq!(dialling.does(Event::Stop(Cease::Deconfigured, "")), [Action::Close(id)]);
    // The connection comes after all.
    assert_eq!(dialling.does(Event::Opened(id)), [Action::Close(id)]);
}

#[test]
fn bfd_down_ends_the_session_at_once_and_it_tries_again() {
    let mut script = Script::new(settings());
    script.established();
    let actions = script.does(Event::BfdDown);
    let notification = Notification::cease(Cease::BfdDown, "");
    assert_ended(&actions, script.id, &notification);
    assert_eq!(actions[2..], [Action::Down(Reason::Sent(notification))]);
    assert!(matches!(script.waits(SECOND)[..], [Action::Connect(_)]));
    // Nothing to end.
    assert_eq!(script.does(Event::BfdDown), []);
}

#[test]
fn the_pause_between_attempts_doubles_up_to_the_connect_time_and_no_further() {
    let mut script = Script::new(settings());
    script.dialled();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let id = script.id;
        assert_eq!(script.does(Event::Failed(id)), []);
        assert_eq!(script.session.state(), State::Active);
        let since = script.now;
        let deadline = script.session.deadline().unwrap();
        pauses.push((deadline - since).as_secs_f64());
        script.now = deadline;
        let actions = script.does(Event::Tick);
        let [Action::Connect(id)] = actions[..] else { panic!("{actions:?}") };
        script.id = id;
    }
    for (pause, whole) in pauses.iter().zip([1.0, 2.0, 4.0, 5.0, 5.0, 5.0, 5.0, 5.0]) {
        assert!((whole * 0.75..=whole).contains(pause), "{pauses:?}");
    }
}

#[test]
fn a_session_that_has_lasted_is_forgiven_the_failures_before_it() {
    for (lasted, longest) in [(SECOND * 59, SECOND * 5), (SECOND * 60, SECOND)] {
        let mut script = Script::new(settings());
        script.dialled();
        for _ in 0..8 {
            let id = script.id;
            script.does(Event::Failed(id));
            script.now = script.session.deadline().unwrap();
            let actions = script.does(Event::Tick);
            let [Action::Connect(id)] = actions[..] else { panic!("{actions:?}") };
            script.id = id;
        }
        let id = script.id;
        script.does(Event::Opened(id));
        script.says(&open().encode());
        script.says(&header::keepalive());
        script.now += lasted;
        script.does(Event::Failed(id));
        let pause = script.session.deadline().unwrap() - script.now;
        assert!((longest * 3 / 4..=longest).contains(&pause), "{lasted:?}: {pause:?}");
    }
}

#[test]
fn a_dial_that_is_not_answered_is_given_up_after_the_connect_time() {
    let mut script = Script::new(settings());
    script.dialled();
    let actions = script.waits(SECOND * 5);
    assert!(matches!(actions[..], [Action::Close(old), Action::Connect(_)] if old == script.id));
}

#[test]
fn a_passive_session_never_dials() {
    let mut script = Script::new(Settings { passive: true, ..settings() });
    assert_eq!(script.does(Event::Start), []);
    assert_eq!(script.session.state(), State::Active);
    for _ in 0..3 {
        let actions = script.does(Event::Incoming);
        let [Action::Accept(id), _] = actions[..] else { panic!("{actions:?}") };
        script.id = id;
        assert!(script.says(b"rubbish").len() == 2);
        assert_eq!(script.waits(SECOND * 20), []);
    }
}

/// RFC 4724 §4.1: the restart bit is for the first session only.
#[test]
fn a_restarted_speaker_says_so_until_the_session_is_up_again() {
    let settings = Settings { graceful_restart: true, restarted: true, ..settings() };
    let mut script = Script::new(settings);
    let said = |actions: &[Action]| {
        let Some(Action::Send(_, open)) = actions.last() else { panic!("{actions:?}") };
        Open::decode(&open[header::HEADER..]).unwrap().capabilities.graceful_restart.unwrap()
    };
    script.dialled();
    let id = script.id;
    let restart = said(&script.does(Event::Opened(id)));
    assert!(restart.restarting && restart.preserved == Families::BOTH);
    assert_eq!((restart.seconds, restart.families), (120, Families::BOTH));
    script.says(&open().encode());
    script.says(&header::keepalive());
    script.does(Event::Failed(id));
    let actions = script.waits(SECOND * 5);
    let [Action::Connect(id), ..] = actions[..] else { panic!("{actions:?}") };
    let restart = said(&script.does(Event::Opened(id)));
    assert!(!restart.restarting && restart.preserved.is_empty());
}

#[test]
fn a_router_that_asks_for_all_routes_again_and_again_is_answered_once_a_second() {
    let refresh = |afi: u8| header::frame(Kind::RouteRefresh, &[0, afi, 0, 1]);
    let mut script = Script::new(settings());
    script.established();
    let v4 = Families { v4: true, v6: false };
    assert_eq!(script.says(&refresh(1)), [Action::Refresh(v4)]);
    let flood: Vec<u8> = (0..200).flat_map(|n| refresh(1 + n % 2)).collect();
    assert_eq!(script.says(&flood), []);
    assert_eq!(script.waits(SECOND), [Action::Refresh(Families::BOTH)]);
    assert_eq!(script.waits(SECOND), []);
    // RFC 2918 §4: a family that was not agreed on is ignored; so are subtypes of RFC 7313.
    let others = [[0, 3, 0, 1], [0, 1, 0, 2], [0, 1, 1, 1]];
    for body in others {
        assert_eq!(script.says(&header::frame(Kind::RouteRefresh, &body)), []);
    }
    assert_eq!(script.session.state(), State::Established);
}

#[test]
fn a_request_for_all_routes_is_forgotten_with_the_session_that_it_came_on() {
    let mut script = Script::new(settings());
    script.established();
    let refresh = header::frame(Kind::RouteRefresh, &[0, 1, 0, 1]);
    assert!(matches!(script.says(&refresh)[..], [Action::Refresh(_)]));
    assert_eq!(script.says(&refresh), [], "too soon");
    let id = script.id;
    script.does(Event::Failed(id));
    script.does(Event::Stop(Cease::Shutdown, ""));
    assert_eq!(script.session.deadline(), None);
    assert_eq!(script.waits(SECOND * 5), []);
}

#[test]
fn updates_go_out_while_the_session_is_up_and_count_as_keepalives() {
    let mut script = Script::new(settings());
    let update = header::frame(Kind::Update, &[0; 4]);
    script.open_confirm();
    assert_eq!(script.session.send_updates(vec![update.clone()], script.now), []);
    script.says(&header::keepalive());
    script.waits(SECOND * 20);
    let sent = script.session.send_updates(vec![update.clone(); 2], script.now);
    assert_eq!(sent, vec![Action::Send(script.id, update); 2]);
    assert_eq!(script.session.report().sent.update, 2);
    assert_eq!(script.waits(SECOND * 22), [], "RFC 4271 §4.4: not before 0.75 × 30 s");
}

#[test]
fn a_long_message_is_taken_only_if_both_allow_it() {
    let mut long = vec![0, 0, 0, 0];
    long.extend((0..2000_u32).flat_map(|n| [24, 10, n.to_be_bytes()[2], n.to_be_bytes()[3]]));
    let long = header::frame(Kind::Update, &long);
    for (allowed, state) in [(true, State::Established), (false, State::Idle)] {
        let mut open = open();
        open.capabilities.extended_message = allowed;
        let mut script = Script::new(settings());
        script.open_sent();
        script.says(&open.encode());
        script.says(&header::keepalive());
        script.says(&long);
        assert_eq!(script.session.state(), state);
    }
}

/// What the session says is wrong.
fn error(script: &Script) -> String {
    script.session.report().error.as_ref().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn a_router_that_does_not_answer_is_told_of_within_ten_seconds_whatever_the_connect_time() {
    for connect in [1, 5, 120] {
        let mut script = Script::new(Settings { connect_time: SECOND * connect, ..settings() });
        script.dialled();
        assert_eq!(error(&script), "");
        script.waits(SECOND * 5);
        assert_eq!(error(&script), "the router does not answer", "connectTime {connect}s");
    }
    // It is no news of a router that has answered in time.
    let mut script = Script::new(settings());
    script.established();
    script.waits(SECOND * 10);
    assert_eq!(script.session.report().error, None);
}

#[test]
fn a_router_that_takes_the_connection_and_says_nothing_is_told_of_long_before_the_session_gives_up()
{
    for says_open in [false, true] {
        let mut script = Script::new(settings());
        if says_open {
            script.open_confirm();
        } else {
            script.open_sent();
        }
        script.waits(SECOND * 6);
        assert!(error(&script).starts_with("the router took the connection"), "{says_open}");
        assert_ne!(script.session.state(), State::Idle, "it is waited for all the same");
    }
}

#[test]
fn what_the_router_said_stays_beside_what_came_after_it_until_the_session_is_up() {
    let mut script = Script::new(settings());
    script.open_sent();
    let bad_asn = Notification::new(2, 2);
    script.says(&bad_asn.encode());
    let said = Some(Reason::Received(bad_asn));
    assert_eq!(script.session.report().verdict, said);
    let actions = script.waits(SECOND * 2);
    let [Action::Connect(id)] = actions[..] else { panic!("{actions:?}") };
    script.does(Event::Failed(id));
    assert_eq!(script.session.report().error, Some(Reason::NotConnected));
    assert_eq!(script.session.report().verdict, said);
    let actions = script.waits(SECOND * 5);
    let [Action::Connect(id)] = actions[..] else { panic!("{actions:?}") };
    script.id = id;
    script.does(Event::Opened(id));
    // What this end says counts for less.
    script.says(&[0; 19]);
    assert!(matches!(script.session.report().error, Some(Reason::Sent(_))));
    assert_eq!(script.session.report().verdict, said);

    let mut script = Script::new(settings());
    script.established();
    assert_eq!(script.session.report().verdict, None);
}
