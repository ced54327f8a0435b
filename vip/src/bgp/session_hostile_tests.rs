//! A hostile router: whatever it sends, it gets the answer of the RFC, and the session tries again.

use proptest::prelude::*;

use super::*;

/// A message with any length and type in its header.
fn raw(length: u16, kind: u8, body: &[u8]) -> Vec<u8> {
    [&[0xff; 16][..], &length.to_be_bytes(), &[kind], body].concat()
}

/// An OPEN with these octets instead of the right ones.
fn open_with(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut body = open().encode()[message::HEADER..].to_vec();
    change(&mut body);
    message::frame(Kind::Open, &body)
}

/// An OPEN with these optional parameters, length included.
fn open_of(parameters: &[u8]) -> Vec<u8> {
    let fixed = [4, 0xfc, 1, 0, 90, 10, 0, 0, 2];
    message::frame(Kind::Open, &[&fixed[..], parameters].concat())
}

fn open_like(change: impl FnOnce(&mut Open)) -> Vec<u8> {
    let mut open = open();
    change(&mut open);
    open.encode()
}

type Stage = fn(&mut Script) -> &mut Script;
const OPEN_SENT: Stage = Script::open_sent;
const OPEN_CONFIRM: Stage = Script::open_confirm;
const ESTABLISHED: Stage = Script::established;

/// Messages that end the session, and what the router is told.
fn fatal() -> Vec<(&'static str, Stage, Vec<u8>, Notification)> {
    let told = Notification::with;
    let keepalive = message::keepalive;
    let update = || message::frame(Kind::Update, &[0; 4]);
    let refresh = || message::frame(Kind::RouteRefresh, &[0, 1, 0, 1]);
    let v4_vpn_only = [1, 4, 0, 1, 0, 128];
    let missing = [1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1];
    let bad_update = |body: &[u8]| message::frame(Kind::Update, body);
    let mut cases = vec![
        // RFC 4271 §6.1
        ("HTTP", OPEN_SENT, b"GET / HTTP/1.1\r\n\r\n".to_vec(), told(1, 1, &[])),
        ("marker of zeros", OPEN_SENT, vec![0; 19], told(1, 1, &[])),
        (
            "marker with one bit wrong",
            ESTABLISHED,
            [&[0xff; 15][..], &[0xfe, 0, 19, 4]].concat(),
            told(1, 1, &[]),
        ),
        ("length 0", OPEN_SENT, raw(0, 1, &[]), told(1, 2, &[0, 0])),
        ("length 18", OPEN_SENT, raw(18, 4, &[]), told(1, 2, &[0, 18])),
        ("OPEN of 28", OPEN_SENT, raw(28, 1, &[0; 9]), told(1, 2, &[0, 28])),
        ("OPEN of 4097", OPEN_SENT, raw(4097, 1, &[]), told(1, 2, &[16, 1])),
        ("long message before OPEN", OPEN_SENT, raw(65535, 2, &[]), told(1, 2, &[255, 255])),
        ("KEEPALIVE of 20", ESTABLISHED, raw(20, 4, &[0]), told(1, 2, &[0, 20])),
        ("KEEPALIVE of 65535", ESTABLISHED, raw(65535, 4, &[]), told(1, 2, &[255, 255])),
        ("UPDATE of 22", ESTABLISHED, raw(22, 2, &[0; 3]), told(1, 2, &[0, 22])),
        ("NOTIFICATION of 20", ESTABLISHED, raw(20, 3, &[6]), told(1, 2, &[0, 20])),
        ("ROUTE-REFRESH of 22", ESTABLISHED, raw(22, 5, &[0; 3]), told(1, 2, &[0, 22])),
        ("ROUTE-REFRESH of 24", ESTABLISHED, raw(24, 5, &[0; 5]), told(1, 2, &[0, 24])),
        ("type 0", OPEN_SENT, raw(19, 0, &[]), told(1, 3, &[0])),
        ("type 6 before KEEPALIVE", OPEN_CONFIRM, raw(19, 6, &[]), told(1, 3, &[6])),
        ("type 99", ESTABLISHED, raw(19, 99, &[]), told(1, 3, &[99])),
        ("type 255, long", ESTABLISHED, raw(4096, 255, &[]), told(1, 3, &[255])),
        // §6.2
        ("version 3", OPEN_SENT, open_with(|body| body[0] = 3), told(2, 1, &[0, 4])),
        ("version 5", OPEN_SENT, open_with(|body| body[0] = 5), told(2, 1, &[0, 4])),
        ("version 0", OPEN_SENT, open_with(|body| body[0] = 0), told(2, 1, &[0, 4])),
        (
            "wrong ASN",
            OPEN_SENT,
            open_like(|open| (open.asn, open.capabilities.asn) = (64514, Some(64514))),
            told(2, 2, &[0, 0, 0xfc, 2]),
        ),
        (
            "our ASN",
            OPEN_SENT,
            open_like(|open| (open.asn, open.capabilities.asn) = (64512, Some(64512))),
            told(2, 2, &[0, 0, 0xfc, 0]),
        ),
        (
            "AS 0",
            OPEN_SENT,
            open_like(|open| (open.asn, open.capabilities.asn) = (0, Some(0))),
            told(2, 2, &[0; 4]),
        ),
        (
            "AS 0 in two octets",
            OPEN_SENT,
            open_like(|open| (open.asn, open.capabilities.asn) = (0, None)),
            told(2, 2, &[0; 4]),
        ),
        ("two ASNs", OPEN_SENT, open_like(|open| open.asn = 64999), told(2, 2, &[0, 0, 0xfc, 1])),
        (
            "only AS_TRANS",
            OPEN_SENT,
            open_like(|open| (open.asn, open.capabilities.asn) = (23456, None)),
            told(2, 2, &[0, 0, 0x5b, 0xa0]),
        ),
        (
            "identifier 0",
            OPEN_SENT,
            open_like(|open| open.id = Ipv4Addr::UNSPECIFIED),
            told(2, 3, &[0; 4]),
        ),
        ("hold time 1", OPEN_SENT, open_like(|open| open.hold_time = 1), told(2, 6, &[0, 1])),
        ("hold time 2", OPEN_SENT, open_like(|open| open.hold_time = 2), told(2, 6, &[0, 2])),
        ("authentication parameter", OPEN_SENT, open_of(&[3, 1, 1, 0]), told(2, 4, &[])),
        ("unknown parameter", OPEN_SENT, open_of(&[2, 77, 0]), told(2, 4, &[])),
        ("parameters too long", OPEN_SENT, open_of(&[9, 2, 0]), told(2, 0, &[])),
        ("parameters too short", OPEN_SENT, open_of(&[0, 2, 0]), told(2, 0, &[])),
        ("parameter cut", OPEN_SENT, open_of(&[1, 2]), told(2, 0, &[])),
        ("parameter overruns", OPEN_SENT, open_of(&[2, 2, 9]), told(2, 0, &[])),
        ("longer format cut", OPEN_SENT, open_of(&[255, 255, 0, 9, 2, 0]), told(2, 0, &[])),
        (
            "longer format, parameter cut",
            OPEN_SENT,
            open_of(&[255, 255, 0, 2, 2, 0]),
            told(2, 0, &[]),
        ),
        ("capability overruns", OPEN_SENT, open_of(&[4, 2, 2, 65, 9]), told(2, 0, &[65, 9])),
        ("capability cut", OPEN_SENT, open_of(&[3, 2, 1, 65]), told(2, 0, &[65])),
        (
            "ASN of two octets",
            OPEN_SENT,
            open_of(&[6, 2, 4, 65, 2, 0xfc, 1]),
            told(2, 0, &[65, 2, 0xfc, 1]),
        ),
        (
            "family of three octets",
            OPEN_SENT,
            open_of(&[7, 2, 5, 1, 3, 0, 1, 0]),
            told(2, 0, &[1, 3, 0, 1, 0]),
        ),
        (
            "no family of ours",
            OPEN_SENT,
            open_of(&[&[8, 2, 6][..], &v4_vpn_only].concat()),
            told(2, 7, &missing),
        ),
        // §6.5, RFC 6608
        ("KEEPALIVE before OPEN", OPEN_SENT, keepalive(), told(5, 1, &[])),
        ("UPDATE before OPEN", OPEN_SENT, update(), told(5, 1, &[])),
        ("ROUTE-REFRESH before OPEN", OPEN_SENT, refresh(), told(5, 1, &[])),
        ("UPDATE before KEEPALIVE", OPEN_CONFIRM, update(), told(5, 2, &[])),
        ("broken UPDATE before KEEPALIVE", OPEN_CONFIRM, bad_update(&[0xff; 4]), told(5, 2, &[])),
        ("ROUTE-REFRESH before KEEPALIVE", OPEN_CONFIRM, refresh(), told(5, 2, &[])),
        ("second OPEN", OPEN_CONFIRM, open().encode(), told(5, 2, &[])),
        ("OPEN once established", ESTABLISHED, open().encode(), told(5, 3, &[])),
        (
            "broken OPEN once established",
            ESTABLISHED,
            open_with(|body| body[0] = 9),
            told(5, 3, &[]),
        ),
        // §6.3; the rest of it has a table of its own.
        ("UPDATE overruns", ESTABLISHED, bad_update(&[0, 9, 0, 0]), told(3, 1, &[])),
        ("prefix /33", ESTABLISHED, bad_update(&[0, 6, 33, 1, 2, 3, 4, 5, 0, 0]), told(3, 10, &[])),
        (
            "unknown well-known",
            ESTABLISHED,
            bad_update(&[0, 0, 0, 3, 0x40, 99, 0]),
            told(3, 2, &[0x40, 99, 0]),
        ),
    ];
    // Good messages before a bad one change nothing.
    let flood = [vec![keepalive(); 5000].concat(), raw(19, 7, &[])].concat();
    cases.push(("bad message after a flood", ESTABLISHED, flood, told(1, 3, &[7])));
    cases
}

#[test]
fn every_malformed_message_gets_the_answer_of_the_rfc_and_the_session_tries_again() {
    let cases = fatal();
    assert!(cases.len() >= 55);
    for (name, stage, bytes, told) in cases {
        let mut script = Script::new(settings());
        let was_up = stage(&mut script).session.state() == State::Established;
        let actions = script.says(&bytes);
        assert_ended(&actions, script.id, &told);
        let down = actions.contains(&Action::Down(Reason::Sent(told.clone())));
        assert_eq!(down, was_up, "{name}: {actions:?}");
        assert_eq!(script.session.report().error, Some(Reason::Sent(told)), "{name}");
        // What still comes on the connection is nobody's.
        assert_eq!(script.says(&message::keepalive()), [], "{name}");
        let again = script.waits(SECOND * 5);
        assert!(matches!(again[..], [Action::Connect(_), ..]), "{name}: {again:?}");
    }
}

#[test]
fn a_message_is_answered_the_same_in_whatever_pieces_it_comes() {
    for (name, stage, bytes, told) in fatal().into_iter().filter(|case| case.2.len() < 5000) {
        let mut script = Script::new(settings());
        stage(&mut script);
        let actions: Vec<_> = bytes.iter().flat_map(|octet| script.says(&[*octet])).collect();
        let sent = actions.iter().filter(|action| matches!(action, Action::Send(..))).count();
        assert_eq!(sent, 1, "{name}: {actions:?}");
        assert_ended(&actions, script.id, &told);
    }
}

#[test]
fn an_identifier_of_ours_is_refused_within_one_asn() {
    let mut script = Script::new(Settings { remote_asn: RemoteAsn::Internal, ..settings() });
    script.open_sent();
    let bytes = open_like(|open| {
        (open.asn, open.capabilities.asn) = (64512, Some(64512));
        open.id = Ipv4Addr::new(10, 0, 0, 1);
    });
    let actions = script.says(&bytes);
    assert_ended(&actions, script.id, &Notification::with(2, 3, &[10, 0, 0, 1]));
}

#[test]
fn what_is_odd_but_allowed_does_not_end_the_session() {
    let update = |body: &[u8]| message::frame(Kind::Update, body);
    let cases: &[(&str, Stage, Vec<u8>)] = &[
        ("no parameters", OPEN_SENT, open_of(&[0])),
        ("longer format", OPEN_SENT, open_of(&[255, 255, 0, 9, 2, 0, 6, 65, 4, 0, 0, 0xfc, 1])),
        ("longer format without need", OPEN_SENT, open_of(&[1, 255, 0, 0])),
        ("unknown capability", OPEN_SENT, open_of(&[5, 2, 3, 250, 1, 9])),
        ("capability of nothing", OPEN_SENT, open_of(&[2, 2, 0])),
        ("family said twice", OPEN_SENT, open_of(&[14, 2, 12, 1, 4, 0, 1, 0, 1, 1, 4, 0, 1, 0, 1])),
        ("hold time 3", OPEN_SENT, open_like(|open| open.hold_time = 3)),
        ("hold time 65535", OPEN_SENT, open_like(|open| open.hold_time = 65535)),
        ("half a message", ESTABLISHED, raw(4096, 2, &[0; 99])),
        ("flood of KEEPALIVEs", ESTABLISHED, vec![message::keepalive(); 10_000].concat()),
        ("flood of End-of-RIBs", ESTABLISHED, vec![update(&[0; 4]); 10_000].concat()),
        (
            "unknown family to refresh",
            ESTABLISHED,
            message::frame(Kind::RouteRefresh, &[0x40, 4, 0, 71]),
        ),
        ("prefix without attributes", ESTABLISHED, update(&[0, 0, 0, 0, 24, 1, 2, 3])),
        ("broken COMMUNITIES", ESTABLISHED, update(&[0, 0, 0, 4, 0xc0, 8, 1, 9])),
        ("broken MP_REACH_NLRI", ESTABLISHED, update(&[0, 0, 0, 6, 0x80, 14, 3, 0, 2, 1])),
    ];
    for (name, stage, bytes) in cases {
        let mut script = Script::new(settings());
        let before = stage(&mut script).session.state();
        script.says(bytes);
        assert!(script.session.state() >= before, "{name}: {:?}", script.session.report().error);
    }
}

#[test]
fn a_notification_is_not_answered() {
    for stage in [OPEN_SENT, OPEN_CONFIRM, ESTABLISHED] {
        for told in [
            Notification::new(6, 2),
            Notification::new(2, 1),
            Notification::with(255, 255, &[0; 100]),
            Notification::with(6, 2, &[255]),
        ] {
            let mut script = Script::new(settings());
            let was_up = stage(&mut script).session.state() == State::Established;
            let actions = script.says(&told.encode());
            let mut expected = vec![Action::Close(script.id)];
            if was_up {
                expected.push(Action::Down(Reason::Received(told.clone())));
            }
            assert_eq!(actions, expected);
            assert_eq!(script.session.report().error, Some(Reason::Received(told)));
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
        script.says(&message::keepalive());
        assert_eq!(script.session.state(), State::Established);
    }
    assert_eq!(script.session.report().established, 51);
}

#[test]
fn a_disabled_family_is_not_looked_at_again_and_the_other_one_goes_on() {
    let mut script = Script::new(settings());
    script.established();
    let update = |body: &[u8]| message::frame(Kind::Update, body);
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
        1 => Just(message::keepalive()),
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
