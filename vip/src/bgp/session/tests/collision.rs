//! Connections of one session: those the router dials, and two at a time.

use super::*;
use crate::bgp::capability::GracefulRestart;

#[test]
fn a_dial_that_is_not_needed_any_more_is_given_up() {
    let mut script = Script::new(settings());
    script.dialled();
    let dialled = script.id;
    let actions = script.does(Event::Incoming);
    let [Action::Accept(id), _] = actions[..] else { panic!("{actions:?}") };
    script.id = id;
    script.says(&open().encode());
    let actions = script.says(&header::keepalive());
    assert!(matches!(actions[..], [Action::Close(old), Action::Up(..)] if old == dialled));
}

#[test]
fn a_router_that_dials_in_is_taken_while_listening_dialling_and_connected_but_not_while_idle() {
    let accepted = |actions: &[Action]| matches!(actions, [Action::Accept(_), Action::Send(..)]);
    let mut script = Script::new(settings());
    assert_eq!(script.does(Event::Incoming), [Action::Reject], "not started");
    script.dialled();
    assert!(accepted(&script.does(Event::Incoming)), "dialling");
    let mut script = Script::new(settings());
    script.dialled();
    let id = script.id;
    script.does(Event::Failed(id));
    assert!(accepted(&script.does(Event::Incoming)), "listening");
    let mut script = Script::new(settings());
    script.open_confirm();
    assert!(accepted(&script.does(Event::Incoming)), "connected");
    let mut script = Script::new(settings());
    script.established();
    script.says(b"rubbish");
    assert_eq!(script.session.state(), State::Idle);
    assert_eq!(script.does(Event::Incoming), [Action::Reject], "after an error");
}

#[test]
fn a_router_that_dials_in_again_before_it_has_spoken_means_its_latest_attempt() {
    let mut script = Script::new(settings());
    script.dialled();
    let actions = script.does(Event::Incoming);
    let [Action::Accept(old), ..] = actions[..] else { panic!("{actions:?}") };
    let actions = script.does(Event::Incoming);
    assert_ended(&actions, old, &Notification::cease(Cease::Collision, ""));
    assert!(matches!(actions[2..], [Action::Accept(new), Action::Send(..)] if new != old));
}

/// The router has restarted, and dials: it does not have to wait for a pause of this end.
#[test]
fn a_router_that_ended_the_session_without_breaking_a_rule_is_let_in_again_at_once() {
    type End = fn(&mut Script) -> Vec<Action>;
    let ends: [(&str, End); 4] = [
        ("connection lost", |script| {
            let id = script.id;
            script.does(Event::Failed(id))
        }),
        ("Cease", |script| script.says(&Notification::cease(Cease::Reset, "").encode())),
        ("BFD", |script| script.does(Event::BfdDown)),
        ("silence", |script| {
            script.now += SECOND * 90;
            script.does(Event::Tick)
        }),
    ];
    for (name, end) in ends {
        let mut script = Script::new(settings());
        let actions = end(script.established());
        assert!(matches!(actions.last(), Some(Action::Down(_))), "{name}: {actions:?}");
        assert_eq!(script.session.state(), State::Active, "{name}");
        let actions = script.does(Event::Incoming);
        assert!(matches!(actions[..], [Action::Accept(_), Action::Send(..)]), "{name}");
    }
}

/// RFC 4271 §6.8: the connection that the speaker with the higher Identifier dialled stays.
#[test]
fn of_two_connections_the_one_of_the_higher_identifier_stays() {
    let collision = Notification::cease(Cease::Collision, "");
    // Last octet of the router's identifier, whether ours stays.
    for (theirs, ours_stays) in [(2, false), (0, true)] {
        let mut open = open();
        open.id = Ipv4Addr::new(10, 0, 0, theirs);
        for ours_first in [true, false] {
            let mut script = Script::new(settings());
            script.open_sent();
            let dialled = script.id;
            let actions = script.does(Event::Incoming);
            let [Action::Accept(accepted), _] = actions[..] else { panic!("{actions:?}") };
            let (first, second) =
                if ours_first { (dialled, accepted) } else { (accepted, dialled) };
            script.does(Event::Bytes(first, &open.encode()));
            let actions = script.does(Event::Bytes(second, &open.encode()));
            let (stays, goes) = if ours_stays { (dialled, accepted) } else { (accepted, dialled) };
            assert_ended(&actions, goes, &collision);
            if stays == second {
                assert_eq!(actions[2..], [Action::Send(stays, header::keepalive())]);
            }
            let actions = script.does(Event::Bytes(stays, &header::keepalive()));
            assert!(matches!(actions[..], [Action::Up(id, _)] if id == stays), "{actions:?}");
            assert_eq!(script.session.report().error, None, "a collision is no error");
        }
    }
}

#[test]
fn a_session_that_is_up_is_not_disturbed_by_another_connection() {
    let mut script = Script::new(settings());
    script.established();
    let actions = script.does(Event::Incoming);
    let [Action::Accept(other), _] = actions[..] else { panic!("{actions:?}") };
    let actions = script.does(Event::Bytes(other, &open().encode()));
    assert_ended(&actions, other, &Notification::cease(Cease::Collision, ""));
    assert_eq!(script.session.state(), State::Established);
}

/// Or it could fill the memory of this end with connections.
#[test]
fn a_router_whose_session_is_up_has_one_more_connection_however_often_it_dials() {
    let mut script = Script::new(settings());
    script.dialled();
    let actions = script.does(Event::Incoming);
    let [Action::Accept(first), ..] = actions[..] else { panic!("{actions:?}") };
    script.does(Event::Bytes(first, &open().encode()));
    script.does(Event::Bytes(first, &header::keepalive()));
    assert_eq!(script.session.state(), State::Established);
    let actions = script.does(Event::Incoming);
    let [Action::Accept(mut attempt), _] = actions[..] else { panic!("{actions:?}") };
    for _ in 0..3 {
        let actions = script.does(Event::Incoming);
        assert_ended(&actions, attempt, &Notification::cease(Cease::Collision, ""));
        let [_, _, Action::Accept(next), _] = actions[..] else { panic!("{actions:?}") };
        attempt = next;
    }
    assert_eq!(script.session.connections.len(), 2);
    assert_eq!(script.session.state(), State::Established);
}

/// RFC 4724 §5: a router that has crashed and come back does not know of the old connection.
#[test]
fn a_router_that_says_it_has_restarted_gets_a_new_session_at_once() {
    let mut script = Script::new(settings());
    script.established();
    let old = script.id;
    let actions = script.does(Event::Incoming);
    let [Action::Accept(new), _] = actions[..] else { panic!("{actions:?}") };
    let mut open = open();
    open.capabilities.graceful_restart =
        Some(GracefulRestart { restarting: true, ..Default::default() });
    let actions = script.does(Event::Bytes(new, &open.encode()));
    let expected = [
        Action::Close(old),
        Action::Down(Reason::RouterRestarted),
        Action::Send(new, header::keepalive()),
    ];
    assert_eq!(actions, expected);
    let actions = script.does(Event::Bytes(new, &header::keepalive()));
    assert!(matches!(actions[..], [Action::Up(id, _)] if id == new));
}
