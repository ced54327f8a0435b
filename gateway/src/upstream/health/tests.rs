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
            ejected(255, 9),
            ejected(255, 9),
            ejected(255, 9),
            Some(ejected(255, 56_000)),
            ejected(255, 114_000),
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
    assert!(!is_ejected(&stats));
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
    assert!(!is_ejected(&stats));
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

proptest! {
    #[test]
    fn a_word_says_what_was_put_into_it(count: u8, time in 0..=TIME) {
        for health in [Health::Good, slow(time), ejected(count, time)] {
            prop_assert_eq!(Health::of_word(health.word()), health);
        }
    }

    #[test]
    fn any_word_is_a_state(word: u64) {
        let health = Health::of_word(word);
        prop_assert_eq!(Health::of_word(health.word()), health);
    }
}
