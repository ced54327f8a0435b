//! What the fence is made of, when its key is turned, and what follows from what is heard of it.

#![expect(clippy::disallowed_methods, reason = "tests start somewhere in time")]

use super::*;
use crate::l2::group::Timing;

const KEY: Key = *b"a secret";

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn fenced(held: &[&str]) -> Fenced {
    Fenced {
        loopback: "lo".to_owned(),
        devices: [(3, "eth0".to_owned())].into(),
        held: held.iter().map(|ip| ip.parse().unwrap()).collect(),
    }
}

fn attempts(change: Option<(Batch, FenceRules)>) -> (Vec<String>, FenceRules) {
    let (batch, rules) = change.unwrap();
    let (_, attempts) = batch.finish();
    (attempts.into_iter().skip(1).map(|attempt| attempt.what).collect(), rules)
}

#[test]
fn the_kernel_falls_silent_before_others_take_the_node_for_dead() {
    let timing = Timing::default();
    // A tick of the slowest clock, and rounding.
    assert!(KEY_LIFE + ms(20) <= timing.dead);
    assert!(KEY_LIFE > 2 * timing.heartbeat + timing.heartbeat / 2);
    assert_eq!(TURN_EVERY, timing.heartbeat);
}

#[test]
fn a_first_fence_replaces_whatever_has_its_name() {
    let (tried, _) =
        attempts(FenceRules::default().change("f", KEY, &fenced(&["192.0.2.1", "2001:db8::1"])));
    let expected = [
        "create table netdev f",
        "delete table netdev f",
        "create table netdev f",
        "create set held4",
        "create set held6",
        "create set alive",
        "create set armed",
        "create chain gate",
        "append a rule to chain gate",
        "append a rule to chain gate",
        "append a rule to chain gate",
        "create chain key-lo",
        "append a rule to chain key-lo",
        "create chain in-3-eth0",
        "append a rule to chain in-3-eth0",
        "append a rule to chain in-3-eth0",
        "add 1 elements of set held4",
        "add 1 elements of set held6",
    ];
    assert_eq!(tried, expected);
}

#[test]
fn a_fence_that_stands_changes_only_by_what_is_new_or_gone() {
    let none = FenceRules::default();
    let (_, rules) = attempts(none.change("f", KEY, &fenced(&["192.0.2.1", "2001:db8::1"])));
    assert_eq!(rules.change("f", KEY, &fenced(&["192.0.2.1", "2001:db8::1"])), None);
    let mut wanted = fenced(&["192.0.2.2", "192.0.2.3", "2001:db8::1"]);
    let (tried, rules) = attempts(rules.change("f", KEY, &wanted));
    assert_eq!(tried, ["delete 1 elements of set held4", "add 2 elements of set held4"]);
    wanted.devices = [(4, "eth1".to_owned())].into();
    let (tried, rules) = attempts(rules.change("f", KEY, &wanted));
    let rule = "append a rule to chain in-4-eth1";
    assert_eq!(tried, ["create chain in-4-eth1", rule, rule]);
    // The rules of the first one are still there.
    wanted.devices = [(3, "eth0".to_owned())].into();
    assert_eq!(rules.change("f", KEY, &wanted), None);
    assert!(rules.removal("f").is_some());
    assert!(none.removal("f").is_none());
}

#[test]
fn only_frames_with_the_own_key_are_heard() {
    let mut frame = turn(KEY);
    assert_eq!(frame[12..14], [0x88, 0xb5]);
    assert_eq!(echo(KEY, &frame), Some(Echo::Untouched));
    assert_eq!(echo(*b"another.", &frame), None);
    frame[14 + 8] = 1;
    assert_eq!(echo(KEY, &frame), Some(Echo::Turned));
    for length in 0..22 {
        assert_eq!(echo(KEY, &frame[..length]), None, "{length}");
    }
}

#[test]
fn the_key_is_turned_along_with_heartbeats_or_by_itself_ten_times_a_second() {
    let (mut keeper, start) = (Keeper::default(), Instant::now());
    assert!(keeper.turn_due(false, false, start));
    keeper.turned(start);
    for (along, after, due) in [
        (true, 5, false),
        (true, 49, false),
        (true, 50, true),
        (false, 99, false),
        (false, 100, true),
        (true, 299, true),
    ] {
        assert_eq!(keeper.turn_due(along, false, start + ms(after)), due, "{along} {after}");
    }
    assert_eq!(keeper.deadline(start), start, "it has not been built");
    keeper.built(start);
    assert_eq!(keeper.deadline(start), start + ms(100));
}

#[test]
fn a_closed_fence_opens_only_after_the_others_have_been_heard_and_followed() {
    let (mut keeper, start) = (Keeper::default(), Instant::now());
    keeper.built(start);
    keeper.turned(start);
    for after in [300, 5000] {
        assert!(!keeper.turn_due(true, false, start + ms(after)));
        assert!(keeper.turn_due(true, true, start + ms(after)));
    }
}

#[test]
fn a_fence_that_was_removed_is_built_again_at_once_but_not_in_a_race() {
    let (mut keeper, start) = (Keeper::default(), Instant::now());
    assert!(keeper.build_due(start));
    keeper.turned(start);
    keeper.built(start);
    assert_eq!(keeper.heard(&[Echo::Untouched], start), None, "it was sent before");
    keeper.turned(start + ms(100));
    let echoes = [Echo::Untouched, Echo::Turned];
    assert_eq!(keeper.heard(&echoes, start + ms(200)), None);
    keeper.turned(start + ms(2000));
    assert_eq!(keeper.heard(&[Echo::Untouched], start + ms(2100)), Some(Amiss::Removed));
    assert!(!keeper.stands() && keeper.build_due(start + ms(2100)));
    keeper.built(start + ms(2100));
    keeper.turned(start + ms(2100));
    assert_eq!(keeper.heard(&[Echo::Untouched], start + ms(2200)), Some(Amiss::Removed));
    assert!(!keeper.build_due(start + ms(2200)) && keeper.build_due(start + ms(3100)));
}

#[test]
fn a_key_that_is_not_heard_of_three_times_gives_the_fence_up_for_a_while() {
    let (mut keeper, start) = (Keeper::default(), Instant::now());
    keeper.built(start);
    for turn in 0..3 {
        assert_eq!(keeper.heard(&[], start + ms(100 * turn)), None);
        keeper.turned(start + ms(100 * turn));
    }
    assert_eq!(keeper.heard(&[], start + ms(300)), Some(Amiss::Stuck));
    assert!(!keeper.stands());
    assert!(!keeper.build_due(start + ms(5299)) && keeper.build_due(start + ms(5300)));
    // Whatever comes late says nothing about a fence that is not there.
    assert_eq!(keeper.heard(&[Echo::Untouched], start + ms(400)), None);
    // One that is heard of counts anew.
    keeper.built(start);
    for turn in 0..10 {
        keeper.turned(start + ms(100 * turn));
        let echoes: &[Echo] = if turn % 3 == 2 { &[Echo::Turned] } else { &[] };
        assert_eq!(keeper.heard(echoes, start + ms(100 * turn)), None);
    }
}
