//! The rules of choice at work: endpoints that serve one request after the other, one of them ten times slower, with
//! fixed numbers for chance.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
};

use super::{is_warm, panics, peak_ewma, pick_better, pick_endpoint};
use crate::{balance::expected, model::Endpoint, transport::Speaks};

fn endpoints(count: u16) -> Vec<Endpoint> {
    let endpoint = |n: u16| Endpoint {
        address: SocketAddr::from(([10, 0, 0, 1], 8_000 + n)),
        speaks: Speaks::Http1,
        stats: Default::default(),
    };
    (0..count).map(endpoint).collect()
}

fn index(endpoint: &Endpoint) -> usize {
    usize::from(endpoint.address.port() - 8_000)
}

/// SplitMix64, for the same numbers in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

/// Requests that wait at one endpoint, the first of them under way.
#[derive(Default)]
struct Queue {
    /// When each came.
    waiting: VecDeque<u64>,
    /// When the first is over.
    done: u64,
    /// What is known of its last answers.
    ewma: u64,
    measured: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Rule {
    Turns,
    Chance,
    LeastRequest,
    LeastTime,
}

/// How long requests took: the median, one of a hundred, and how many the slow endpoint got.
struct Seen {
    median: u64,
    slowest: u64,
    at_slow: usize,
}

/// Ten thousand requests, one each 35 units, for four endpoints that need 100 and one that needs 1 000: together they
/// could serve one each 24.
fn run(rule: Rule) -> Seen {
    const REQUESTS: u64 = 10_000;
    let (all, need) = (endpoints(5), [1_000, 100, 100, 100, 100]);
    let mut queues: Vec<Queue> = (0..5).map(|_| Queue::default()).collect();
    let mut chance = Chance(7);
    let (mut took, mut at_slow) = (Vec::new(), 0);
    for request in 0..REQUESTS {
        let now = request * 35;
        for (queue, need) in queues.iter_mut().zip(need) {
            while queue.done <= now
                && let Some(came) = queue.waiting.pop_front()
            {
                took.push(queue.done - came);
                let passed = queue.done - queue.measured;
                queue.ewma = peak_ewma(queue.ewma, queue.done - came, passed, 5_000);
                queue.measured = queue.done;
                if !queue.waiting.is_empty() {
                    queue.done += need;
                }
            }
        }
        let cost = |endpoint: &Endpoint| {
            let queue = &queues[index(endpoint)];
            let waiting = queue.waiting.len();
            match rule {
                Rule::LeastRequest => waiting as u64,
                Rule::LeastTime => {
                    let ewma = peak_ewma(queue.ewma, 0, now - queue.measured, 5_000);
                    expected(ewma, waiting as u32)
                }
                Rule::Turns | Rule::Chance => 0,
            }
        };
        let picked = match rule {
            Rule::Turns => pick_endpoint(&all, request as u32, |_| true),
            _ => pick_better(&all, chance.next(), cost, |_| true),
        };
        let at = index(picked.unwrap());
        at_slow += usize::from(at == 0);
        let queue = &mut queues[at];
        if queue.waiting.is_empty() {
            queue.done = now + need[at];
        }
        queue.waiting.push_back(now);
    }
    took.sort_unstable();
    let at = |part: usize| took[took.len() * part / 1_000];
    Seen { median: at(500), slowest: at(990), at_slow }
}

#[test]
fn a_slow_endpoint_gets_what_it_can_serve_by_load_and_a_fifth_of_all_otherwise() {
    let (turns, chance) = (run(Rule::Turns), run(Rule::Chance));
    assert_eq!(turns.at_slow, 2_000);
    assert!((1_850..2_150).contains(&chance.at_slow), "{}", chance.at_slow);
    // It could serve 350 of them in that time.
    let (requests, time) = (run(Rule::LeastRequest), run(Rule::LeastTime));
    for (name, seen) in [("requests", &requests), ("time", &time)] {
        assert!(seen.at_slow <= 450, "{name}: {} at the slow one", seen.at_slow);
        assert!(seen.median <= 300, "{name}: median {}", seen.median);
        assert!(seen.slowest * 4 < turns.slowest, "{name}: {} of {}", seen.slowest, turns.slowest);
    }
    assert!(time.at_slow < requests.at_slow, "{} and {}", time.at_slow, requests.at_slow);
    assert!(time.at_slow > 20, "it is tried again now and then: {}", time.at_slow);
}

#[test]
fn the_share_of_a_new_endpoint_grows_from_nothing_to_a_full_one() {
    const WINDOW: u64 = 1_000;
    let (all, mut chance) = (endpoints(4), Chance(3));
    let mut by_quarter = BTreeMap::<u64, u64>::new();
    for request in 0..8_000u64 {
        // Endpoint 0 came when the others had long been there; eight requests each unit.
        let now = request / 8;
        let share = chance.next() % WINDOW;
        let age = |endpoint: &Endpoint| if index(endpoint) == 0 { now } else { 9 * WINDOW };
        let warm = |endpoint: &Endpoint| is_warm(age(endpoint), share);
        let picked = pick_endpoint(&all, request as u32, warm).unwrap();
        *by_quarter.entry(now / 250).or_default() += u64::from(index(picked) == 0);
    }
    // A full share of a quarter are 500; on average an eighth, three, five and seven eighths of it.
    for (quarter, expected) in [(0, 62), (1, 187), (2, 312), (3, 437)] {
        let got = by_quarter[&quarter];
        assert!(got.abs_diff(expected) <= 60, "quarter {quarter}: {got} instead of {expected}");
    }
    assert!(!is_warm(0, 0), "one that has just come has no share");
}

#[test]
fn few_fit_endpoints_are_not_left_alone_where_the_threshold_says_so() {
    for (fit, all, percent, expected) in [
        (2, 10, 50, true),
        (5, 10, 50, false),
        (4, 10, 50, true),
        (0, 10, 1, true),
        (0, 10, 0, false),
        (1, 3, 33, false),
        (1, 3, 34, true),
        (0, 0, 50, false),
    ] {
        assert_eq!(panics(fit, all, percent), expected, "{fit} of {all}, {percent} %");
    }
}
