//! Every deadline at its tick.

use super::*;

fn limits() -> Limits {
    Limits {
        handshake: 10_000,
        first_byte: 10_000,
        head: 10_000,
        idle: 75_000,
        body_grace: 30_000,
        body_rate: 240,
        client_ended: 10_000,
        stall: 30_000,
        connect: 5_000,
        connect_slow: 250,
        connect_try: 750,
        tries: 5_000,
        upstream: 60_000,
        tunnel: 3_600_000,
        quiet: 2_000,
        upstream_idle: 60_000,
        ejection: 1_000,
    }
}

#[test]
fn each_phase_of_a_connection_has_its_own_deadline() {
    for (phase, limit) in [
        (Phase::Handshake, 10_000),
        (Phase::FirstByte, 10_000),
        (Phase::Head, 10_000),
        (Phase::Idle, 75_000),
        (Phase::Tunnel, 3_600_000),
    ] {
        let timers = ConnTimers::default();
        timers.enter(phase, 500);
        assert_eq!(timers.check(499 + limit, &limits()), None, "{phase:?}");
        assert_eq!(timers.check(500 + limit, &limits()), Some(Expiry::Silent), "{phase:?}");
    }
}

#[test]
fn a_connection_with_a_request_under_way_is_left_to_the_timers_of_the_request() {
    let timers = ConnTimers::default();
    timers.enter(Phase::FirstByte, 0);
    timers.request_begins(0);
    timers.request_begins(0);
    timers.request_ends(5);
    assert_eq!(timers.check(Tick::MAX, &limits()), None);
    timers.request_ends(1_000);
    assert_eq!(timers.check(76_000, &limits()), Some(Expiry::Silent));
}

#[test]
fn a_place_is_used_again_unless_a_body_still_holds_it() {
    let registry = Registry::<RequestTimers>::new();
    let first = Registered::new(&registry);
    first.answer_offered(1);
    let address = Rc::as_ptr(&first.share());
    drop(first);
    let second = Registered::new(&registry);
    assert_eq!(Rc::as_ptr(&second.share()), address);
    assert_eq!(second.check(Tick::MAX, &limits()), None, "notes are forgotten");
    let body = second.share();
    drop(second);
    let third = Registered::new(&registry);
    body.answer_offered(1);
    assert_eq!(third.check(Tick::MAX, &limits()), None, "notes of the old one");
}

#[test]
fn a_body_above_the_minimum_rate_may_take_for_ever() {
    let timers = RequestTimers::default();
    for second in 0..1_000 {
        timers.body_awaited(second * 1_000);
        assert_eq!(timers.check(second * 1_000 + 999, &limits()), None, "second {second}");
        timers.body_received(300, second * 1_000 + 1_000);
    }
}

#[test]
fn a_tunnel_was_quiet_once_nothing_has_moved_for_two_seconds_and_stays_so() {
    let timers = ConnTimers::default();
    timers.enter(Phase::Active, 0);
    timers.sweep(9_000, &limits());
    timers.becomes_tunnel(None, 10_000);
    for moved in [11_000, 12_999] {
        timers.sweep(moved, &limits());
        timers.enter(Phase::Tunnel, moved);
        assert!(!timers.was_quiet());
    }
    timers.sweep(14_999, &limits());
    timers.enter(Phase::Tunnel, 15_000);
    assert!(timers.was_quiet());
    timers.reset();
    assert!(!timers.was_quiet(), "another connection");
}

#[test]
fn a_pause_ends_nothing_and_what_was_sent_before_it_makes_it_no_longer() {
    for sent in [0, 10, 10_000_000] {
        let timers = RequestTimers::default();
        timers.body_awaited(0);
        timers.body_received(sent, 0);
        assert_eq!(timers.check(250, &limits()), None);
        timers.body_awaited(1_000);
        assert_eq!(timers.check(30_999, &limits()), None, "{sent} bytes before");
        assert_eq!(timers.check(31_000, &limits()), Some(Expiry::SlowBody), "{sent} bytes");
    }
    let any = Limits { body_rate: 0, ..limits() };
    let timers = RequestTimers::default();
    for start in [0, 29_000, 58_000, 87_000] {
        timers.body_awaited(start);
        assert_eq!(timers.check(start + 28_999, &any), None, "one byte in each pause");
        timers.body_received(1, start + 29_000);
    }
    timers.body_awaited(120_000);
    assert_eq!(timers.check(150_000, &any), Some(Expiry::SlowBody));
}

#[test]
fn a_client_that_has_ended_its_half_waits_no_longer_than_it_is_worth() {
    let timers = RequestTimers::default();
    timers.upstream_awaited(0, Expiry::Upstream);
    timers.client_ended(5_000);
    assert_eq!(timers.check(14_999, &limits()), None);
    assert_eq!(timers.check(15_000, &limits()), Some(Expiry::Gone));
    timers.upstream_delivered();
    timers.upstream_awaited(20_000, Expiry::Upstream);
    assert_eq!(timers.check(29_999, &limits()), None, "each part of the answer in its time");
}

#[test]
fn a_dripping_body_ends_after_the_grace() {
    let timers = RequestTimers::default();
    let mut now = 0;
    while timers.check(now, &limits()).is_none() {
        timers.body_awaited(now);
        now += 500;
        if timers.check(now, &limits()).is_none() {
            timers.body_received(1, now);
        }
    }
    // A byte in half a second, where 240 are due in a whole one, catches up 4 ms.
    assert_eq!(now, 30_500);
    assert_eq!(timers.check(now, &limits()), Some(Expiry::SlowBody));
}

#[test]
fn time_that_the_backend_takes_does_not_count_against_the_client() {
    let timers = RequestTimers::default();
    timers.body_awaited(0);
    timers.body_received(10, 100);
    assert_eq!(timers.check(50_000, &limits()), None);
    timers.body_awaited(50_000);
    assert_eq!(timers.check(79_000, &limits()), None);
    assert_eq!(timers.check(80_000, &limits()), Some(Expiry::SlowBody));
}

#[test]
fn a_client_that_takes_nothing_is_stalled_and_a_silent_backend_is_upstream() {
    let timers = RequestTimers::default();
    timers.answer_offered(0);
    assert_eq!(timers.check(29_999, &limits()), None);
    assert_eq!(timers.check(30_000, &limits()), Some(Expiry::Stalled));
    timers.answer_taken();
    for (expiry, limit) in
        [(Expiry::SlowConnect, 250), (Expiry::TryConnect, 750), (Expiry::Connect, 5_000)]
    {
        timers.upstream_awaited(30_000, expiry);
        assert_eq!(timers.check(29_999 + limit, &limits()), None);
        assert_eq!(timers.check(30_000 + limit, &limits()), Some(expiry));
    }
    timers.upstream_awaited(36_000, Expiry::Upstream);
    assert_eq!(timers.check(95_999, &limits()), None);
    assert_eq!(timers.check(96_000, &limits()), Some(Expiry::Upstream));
}
