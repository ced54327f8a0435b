//! An adversarial corpus over HTTP/1.1: raw bytes in, judged by what a recording backend may see
//! and by whether the gateway still answers honest requests right (promises P1 to P17).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod corpus;

use std::{collections::BTreeMap, time::Duration};

use gatehouse_testbed::{gatehouse::bed::Bed, wait};

/// For cases that wait for a protective timeout.
const SHORT: &str = "--time-scale=0.2";
/// For the others: a busy machine is late, and no client of theirs is to be taken for a slow one.
const LONG: &str = "--time-scale=10";

#[test]
fn no_request_is_read_differently_by_gateway_and_backend() {
    judge(corpus::all());
}

#[test]
fn nor_is_one_that_comes_in_pieces() {
    judge(corpus::all_in_pieces());
}

#[test]
fn nor_is_one_behind_an_honest_request() {
    judge(corpus::all_after_an_honest_one());
}

/// Runs the cases; `CORPUS_ONLY=te/` in the environment leaves those whose name holds it.
fn judge(mut cases: Vec<corpus::Case>) {
    let only = std::env::var("CORPUS_ONLY").unwrap_or_default();
    cases.retain(|case| case.name.contains(&only));
    let count = cases.len();
    let (waiting, others) = cases.into_iter().partition(corpus::Case::may_time_out);
    let run = |scale: &str, cases: Vec<corpus::Case>| {
        let beds: Vec<Bed> = (0..4).map(|_| Bed::gateway(&[scale])).collect();
        corpus::run(&beds, &cases, wait::LIMIT)
    };
    let failures = [run(SHORT, waiting), run(LONG, others)].concat();
    let text: String = failures.iter().map(|(name, why)| format!("\n{name}: {why}")).collect();
    assert!(failures.is_empty(), "{} of {} cases failed:\n{text}", failures.len(), count);
}

#[test]
fn the_corpus_sees_the_danger_of_a_byte_tunnel_in_every_class() {
    let beds: Vec<Bed> = (0..8).map(|_| Bed::tunnel()).collect();
    let cases = corpus::all();
    assert!(cases.len() >= 150, "{} cases", cases.len());
    let failures = corpus::run(&beds, &cases, Duration::from_millis(300));
    let class = |name: &str| name.split('/').next().unwrap_or_default().to_owned();
    let mut seen: BTreeMap<String, usize> =
        cases.iter().map(|case| (class(&case.name), 0)).collect();
    for (name, _) in &failures {
        *seen.entry(class(name)).or_default() += 1;
    }
    let blind: Vec<_> = seen.iter().filter(|(_, n)| **n == 0).map(|(class, _)| class).collect();
    assert!(blind.is_empty(), "no case fails for a byte tunnel in {blind:?}");
    let (failed, total) = (failures.len(), cases.len());
    assert!(failed * 2 > total, "only {failed} of {total} cases fail for a byte tunnel");
}

#[test]
fn every_case_has_a_name_of_its_own() {
    let mut names: Vec<String> = corpus::all().into_iter().map(|case| case.name).collect();
    names.sort();
    let twice: Vec<_> = names.windows(2).filter(|w| w[0] == w[1]).map(|w| &w[0]).collect();
    assert!(twice.is_empty(), "used twice: {twice:?}");
}
