//! A hostile router: whatever it sends, it gets the answer of the RFC, and the session tries again.

use gatehouse_testbed::hostile_router::messages::{self, Stage, open_like, raw};
use proptest::prelude::*;

use super::*;

impl Script {
    /// Brings the session as far as this.
    fn reach(&mut self, stage: Stage) -> &mut Self {
        match stage {
            Stage::OpenSent => self.open_sent(),
            Stage::OpenConfirm => self.open_confirm(),
            Stage::Established => self.established(),
        }
    }
}

/// Messages that end the session, and the NOTIFICATION that answers them.
fn fatal() -> impl Iterator<Item = (&'static str, Stage, Vec<u8>, Notification)> {
    messages::fatal().into_iter().map(|(name, stage, bytes, (code, subcode, data))| {
        (name, stage, bytes, Notification { code, subcode, data })
    })
}

#[test]
fn every_malformed_message_gets_the_answer_of_the_rfc_and_the_session_tries_again() {
    assert!(messages::fatal().len() >= 55);
    for (name, stage, bytes, notification) in fatal() {
        let mut script = Script::new(settings());
        let was_up = script.reach(stage).session.state() == State::Established;
        let actions = script.says(&bytes);
        assert_ended(&actions, script.id, &notification);
        let down = actions.contains(&Action::Down(Reason::Sent(notification.clone())));
        assert_eq!(down, was_up, "{name}: {actions:?}");
        assert_eq!(script.session.report().error, Some(Reason::Sent(notification)), "{name}");
        // What still comes on the connection is ignored.
        assert_eq!(script.says(&header::keepalive()), [], "{name}");
        let again = script.waits(SECOND * 5);
        assert!(matches!(again[..], [Action::Connect(_), ..]), "{name}: {again:?}");
    }
}

#[test]
fn a_message_is_answered_the_same_in_whatever_pieces_it_comes() {
    for (name, stage, bytes, notification) in fatal().filter(|case| case.2.len() < 5000) {
        let mut script = Script::new(settings());
        script.reach(stage);
        let actions: Vec<_> = bytes.iter().flat_map(|octet| script.says(&[*octet])).collect();
        let sent = actions.iter().filter(|action| matches!(action, Action::Send(..))).count();
        assert_eq!(sent, 1, "{name}: {actions:?}");
        assert_ended(&actions, script.id, &notification);
    }
}

#[test]
fn an_identifier_of_ours_is_refused_within_one_asn() {
    let mut script = Script::new(Settings { remote_asn: RemoteAsn::Internal, ..settings() });
    script.open_sent();
    let bytes = open_like(|open| {
        (open.asn, open.asn4) = (64512, Some(64512));
        open.id = [10, 0, 0, 1];
    });
    let actions = script.says(&bytes);
    assert_ended(&actions, script.id, &Notification::with(2, 3, &[10, 0, 0, 1]));
}

#[test]
fn what_is_odd_but_allowed_does_not_end_the_session() {
    for (name, stage, bytes) in messages::harmless() {
        let mut script = Script::new(settings());
        let before = script.reach(stage).session.state();
        script.says(&bytes);
        assert!(script.session.state() >= before, "{name}: {:?}", script.session.report().error);
    }
}

#[test]
fn a_notification_is_not_answered() {
    for stage in [Stage::OpenSent, Stage::OpenConfirm, Stage::Established] {
        for (code, subcode, data) in messages::notifications() {
            let notification = Notification { code, subcode, data };
            let mut script = Script::new(settings());
            let was_up = script.reach(stage).session.state() == State::Established;
            let actions = script.says(&notification.encode());
            let mut expected = vec![Action::Close(script.id)];
            if was_up {
                expected.push(Action::Down(Reason::Received(notification.clone())));
            }
            assert_eq!(actions, expected);
            assert_eq!(script.session.report().error, Some(Reason::Received(notification)));
            assert!(matches!(script.waits(SECOND * 5)[..], [Action::Connect(_), ..]));
        }
    }
}

#[test]
fn a_router_that_breaks_every_session_is_dialled_again_within_five_seconds_each_time() {
    let mut script = Script::new(settings());
    script.established();
    for round in 0..50 {
        script.says(b"rubbish");
        let since = script.now;
        script.now = script.session.deadline().unwrap();
        assert!(script.now - since <= SECOND * 5, "{round}");
        let actions = script.does(Event::Tick);
        let [Action::Connect(id)] = actions[..] else { panic!("{round}: {actions:?}") };
        script.id = id;
        script.does(Event::Opened(id));
        script.says(&open().encode());
        script.says(&header::keepalive());
        assert_eq!(script.session.state(), State::Established);
    }
    assert_eq!(script.session.report().established, 51);
}

#[test]
fn a_disabled_family_is_not_looked_at_again_and_the_other_one_goes_on() {
    let mut script = Script::new(settings());
    script.established();
    let update = |body: &[u8]| header::frame(Kind::Update, body);
    script.says(&update(&[0, 0, 0, 7, 0x80, 15, 4, 0, 2, 1, 200]));
    let report = script.session.report().clone();
    let words =
        "path attribute 15: its next hop or prefixes cannot be read; family ignored from now on";
    assert_eq!(report.fault.as_deref(), Some(words));
    script.says(&update(&[0, 0, 0, 7, 0x80, 15, 4, 0, 2, 1, 200]));
    script.says(&update(&[0, 4, 24, 1, 2, 3, 0, 0]));
    let after = script.session.report();
    assert_eq!(after.treated_as_withdraw, report.treated_as_withdraw);
    assert_eq!(after.prefixes_withdrawn, 1);
}

/// Any octets, but such that they get past the header now and then.
fn octets() -> impl Strategy<Value = Vec<u8>> {
    let message = (1..=6_u8, proptest::collection::vec(any::<u8>(), 0..60))
        .prop_map(|(kind, body)| raw(u16::try_from(19 + body.len()).unwrap(), kind, &body));
    prop_oneof![
        4 => message,
        1 => Just(header::keepalive()),
        1 => Just(open().encode()),
        1 => proptest::collection::vec(any::<u8>(), 0..60),
    ]
}

proptest! {
    /// Whatever comes, and whenever: no panic, never stuck, Up and Down take turns.
    #[test]
    fn a_session_survives_any_router(
        seed in any::<u64>(),
        script in proptest::collection::vec((0..8_u8, octets(), 0..40_u64), 1..60),
    ) {
        let mut session = Session::new(settings(), seed);
        let mut time = now();
        let mut live = Vec::new();
        let mut up = false;
        let mut actions = session.handle(Event::Start, time);
        for (what, bytes, seconds) in script {
            for action in std::mem::take(&mut actions) {
                match action {
                    Action::Connect(id) | Action::Accept(id) => live.push(id),
                    Action::Close(id) => live.retain(|one| *one != id),
                    Action::Up(..) => prop_assert!(!std::mem::replace(&mut up, true)),
                    Action::Down(_) => prop_assert!(std::mem::replace(&mut up, false)),
                    Action::Send(_, bytes) => prop_assert!(bytes.len() <= 4096),
                    Action::Reject | Action::Refresh(_) => {}
                }
            }
            prop_assert!(live.len() <= 4, "{live:?}");
            let id = live.last().copied().unwrap_or(ConnectionId(0));
            actions = match what {
                0 => session.handle(Event::Incoming, time),
                1 => session.handle(Event::Opened(id), time),
                2 => {
                    live.retain(|one| *one != id);
                    session.handle(Event::Failed(id), time)
                }
                3 => {
                    time += SECOND * u32::try_from(seconds).unwrap();
                    session.handle(Event::Tick, time)
                }
                _ => session.handle(Event::Bytes(id, &bytes), time),
            };
            let stuck = session.state() != State::Established && session.deadline().is_none();
            prop_assert!(!stuck, "nothing will ever happen: {session:?}");
        }
    }
}
