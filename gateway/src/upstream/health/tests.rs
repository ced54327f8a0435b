//! Every state against everything that can happen, and workers that see the same endpoint.

use proptest::prelude::*;

use super::*;

const PAUSE: Tick = 1_000;
/// Longest that a trial takes.
const TRIAL: Tick = 6_000;

fn slow(until: Tick) -> Health {
    Health::Slow { until }
}

fn ejected(pauses: u8, due: Tick) -> Health {
    Health::Ejected { pauses, due }
}

#[test]
fn every_state_against_everything_that_happens_at_50_seconds() {
    let now = 50_000;
    for (state, failed, slowed, trial, trial_failed) in [
        (Health::Good, ejected(1, 51_000), slow(55_000), None, Health::Good),
        (slow(50_001), ejected(1, 51_000), slow(55_000), None, slow(50_001)),
        (slow(49_000), ejected(1, 51_000), slow(55_000), None, slow(49_000)),
        (
            ejected(1, now),
            ejected(1, now),
            ejected(1, now),
            Some(ejected(1, 56_000)),
            ejected(2, 52_000),
        ),
        (ejected(1, 50_001), ejected(1, 50_001), ejected(1, 50_001), None, ejected(2, 52_000)),
        (
            ejected(6, 9),
            ejected(6, 9),
            ejected(6, 9),
            Some(ejected(6, 56_000)),
            ejected(7, 114_000),
        ),
        (
            ejected(7, 9),
            ejected(7, 9),
            ejected(7, 9),
            Some(ejected(7, 56_000)),
            ejected(8, 114_000),
        ),
        (
            ejected(127, 9),
            ejected(127, 9),
            ejected(127, 9),
            Some(ejected(127, 56_000)),
            ejected(127, 114_000),
        ),
    ] {
        assert_eq!(state.failed(now, PAUSE), failed, "{state:?}, a connect fails");
        assert_eq!(state.slow(now, 5_000), slowed, "{state:?}, a connect takes long");
        assert_eq!(state.trial(now, TRIAL), trial, "{state:?}, a trial is asked for");
        assert_eq!(state.trial_failed(now, PAUSE), trial_failed, "{state:?}, a trial fails");
    }
}

#[test]
fn an_endpoint_is_ejected_once_tried_by_one_worker_at_a_time_and_good_after_a_connect() {
    let stats = EndpointStats::default();
    assert!(why_ejected(&stats).is_none());
    assert!(connect_failed(&stats, 30, PAUSE), "the first is enough");
    assert!(!connect_failed(&stats, 40, PAUSE), "others that were under way");
    assert_eq!(of(&stats), ejected(1, 1_030));

    assert!(!takes_trial(&stats, 1_029, TRIAL), "not yet");
    assert!(takes_trial(&stats, 1_030, TRIAL));
    assert!(!takes_trial(&stats, 1_031, TRIAL), "one is being made");
    trial_failed(&stats, 1_050, PAUSE);
    assert_eq!(of(&stats), ejected(2, 3_050));
    assert!(takes_trial(&stats, 3_050, TRIAL));
    assert!(connected(&stats), "it is back");
    assert_eq!(of(&stats), Health::Good);
    assert!(!connected(&stats), "said once");
    trial_failed(&stats, 3_060, PAUSE);
    assert_eq!(of(&stats), Health::Good, "a request got through while the trial was made");
}

#[test]
fn a_connect_that_takes_long_ejects_nothing_and_is_forgotten_when_it_succeeds() {
    let stats = EndpointStats::default();
    connect_slow(&stats, 100, 5_000);
    assert_eq!(of(&stats), slow(5_100));
    assert!(why_ejected(&stats).is_none());
    assert!(!connected(&stats), "nobody was told that it is away");
    assert_eq!(of(&stats), Health::Good);
}

#[test]
fn a_trial_of_which_nothing_is_heard_gives_way_to_another() {
    let stats = EndpointStats::default();
    assert!(connect_failed(&stats, 0, PAUSE));
    assert!(takes_trial(&stats, 5_000, TRIAL));
    assert!(!takes_trial(&stats, 10_999, TRIAL));
    assert!(takes_trial(&stats, 11_000, TRIAL));
}

#[test]
fn of_workers_that_fail_at_the_same_time_one_ejects_and_one_makes_the_trial() {
    let stats = EndpointStats::default();
    let count = |ask: fn(&EndpointStats) -> bool| {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8).map(|_| scope.spawn(|| ask(&stats))).collect();
            workers.into_iter().filter_map(|worker| worker.join().ok()).filter(|it| *it).count()
        })
    };
    assert_eq!(count(|stats| connect_failed(stats, 7, PAUSE)), 1);
    assert_eq!(count(|stats| takes_trial(stats, 1_007, TRIAL)), 1);
}

#[test]
fn answers_that_fail_eject_until_one_request_is_answered_well() {
    const PAUSES: Pause = Pause { first: 30_000, longest: 100_000 };
    let stats = EndpointStats::default();
    assert!(answers_failed(&stats, 0, PAUSES));
    assert!(!answers_failed(&stats, 1, PAUSES), "others that were under way");
    assert_eq!(why_ejected(&stats), Some("answers"));
    connected(&stats);
    connect_failed(&stats, 2, PAUSE);
    connect_slow(&stats, 2, 5_000);
    assert_eq!(of(&stats), Health::Failing { pauses: 1, due: 30_000 }, "connects say nothing");
    assert!(!takes_probe(&stats, 29_999, 30_000), "not yet");
    assert!(takes_probe(&stats, 30_000, 30_000));
    assert!(!takes_probe(&stats, 31_000, 30_000), "one is on its way");
    for (failed_at, due) in [(31_000, 91_000), (91_000, 191_000), (191_000, 291_000)] {
        assert!(!probed(&stats, false, failed_at, PAUSES));
        assert!(!takes_probe(&stats, due - 1, 30_000));
        assert!(
            takes_probe(&stats, due, 30_000),
            "twice as long each time, but no longer than the longest"
        );
    }
    assert!(probed(&stats, true, 300_000, PAUSES));
    assert_eq!(of(&stats), Health::Good);
    assert!(!probed(&stats, true, 300_000, PAUSES), "said once");
}

proptest! {
    #[test]
    fn a_word_says_what_was_put_into_it(count: u8, time in 0..=TIME) {
        let count = count & MOST_PAUSES;
        let failing = Health::Failing { pauses: count, due: time };
        for health in [Health::Good, slow(time), ejected(count, time), failing, Health::Down] {
            prop_assert_eq!(Health::of_word(health.word()), health);
        }
    }

    #[test]
    fn any_word_is_a_state(word: u64) {
        let health = Health::of_word(word);
        prop_assert_eq!(Health::of_word(health.word()), health);
    }
}
