//! Which stories are told. `GATEHOUSE_SEED=n` tells one of them in full:
//! `GATEHOUSE_SEED=4711 cargo test -p gatehouse-vip one_seed -- --nocapture`
//! `GATEHOUSE_FIRST_SEED=n` runs 10 000 others than those from 0.

#![allow(clippy::disallowed_methods, reason = "virtual time needs some instant to begin with")]

use std::time::Instant;

use super::story::Story;

/// What a seed stands for.
fn story(seed: u64) -> Story {
    let (hosts, addresses) = match seed % 1000 {
        0 => (50, 20),
        1..=10 => (12, 8),
        11..=100 => (5, 5),
        _ => (2 + seed as usize % 3, 1 + (seed / 3) as u32 % 3),
    };
    let big = hosts > 5;
    Story {
        seed,
        hosts,
        addresses,
        chaos: if big { 3000 } else { 4000 },
        moves: if big { 2 } else { 1 + seed % 4 },
        long: seed % 50 == 17,
        wire: seed % 20 == 3,
        talk: false,
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn run_quarter(quarter: u64) {
    if number("GATEHOUSE_SEED").is_none() {
        let (base, first) = (Instant::now(), number("GATEHOUSE_FIRST_SEED").unwrap_or(0));
        for seed in (first..first + 10_000).filter(|seed| seed % 4 == quarter) {
            story(seed).run(base);
        }
    }
}

#[test]
fn of_a_group_in_chaos_every_address_has_one_owner_again_soon_first_quarter() {
    run_quarter(0);
}

#[test]
fn of_a_group_in_chaos_every_address_has_one_owner_again_soon_second_quarter() {
    run_quarter(1);
}

#[test]
fn of_a_group_in_chaos_every_address_has_one_owner_again_soon_third_quarter() {
    run_quarter(2);
}

#[test]
fn of_a_group_in_chaos_every_address_has_one_owner_again_soon_fourth_quarter() {
    run_quarter(3);
}

#[test]
fn one_seed_is_told_in_full() {
    let seed = number("GATEHOUSE_SEED");
    let story = story(seed.unwrap_or(17));
    Story { talk: seed.is_some(), ..story }.run(Instant::now());
}
