//! Groups of nodes in virtual time, on a network that delays and loses notes: how exactly they keep a limit together.
//!
//! The figures are those of docs/limits.md.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc::Receiver},
    time::{Duration, Instant},
};

use super::{
    ledger::{Heard, Ledger},
    table::SharedTable,
};

/// From look to look: as heartbeats.
const LOOK: u64 = 100;
const LONGEST: usize = 1300;

/// Nodes, their network, and what they have let through.
struct Group {
    nodes: Vec<Node>,
    begun: Instant,
    /// Milliseconds.
    now: u64,
    random: fastrand::Rng,
    /// Of a hundred notes so many are lost.
    loss: u32,
    /// Longest that a note is under way, milliseconds.
    delay: u64,
    /// Notes under way: when they come, to whom, from whom.
    network: BTreeMap<(u64, u64), (usize, usize, Vec<u8>)>,
    serial: u64,
    /// By client, when requests were let through.
    passed: BTreeMap<u64, Vec<u64>>,
    limit: Limit,
}

#[derive(Clone, Copy)]
struct Limit {
    interval: Duration,
    burst: u32,
}

struct Node {
    name: Arc<str>,
    table: SharedTable,
    nominated: Receiver<u64>,
    ledger: Ledger,
    /// When it looks, within a hundred milliseconds.
    phase: u64,
    up: bool,
    /// Which part of the network it is on.
    part: u8,
    leaving: bool,
}

impl Limit {
    fn per_second(count: u32, factor: u32) -> Self {
        Self { interval: Duration::from_secs(1) / count, burst: count * factor }
    }
}

impl Group {
    fn new(nodes: usize, limit: Limit, seed: u64) -> Self {
        let (begun, mut random) = (Instant::now(), fastrand::Rng::with_seed(seed));
        let node = |index| {
            let (table, nominated) = SharedTable::new(1 << 10, begun);
            Node {
                name: format!("node-{index}").into(),
                table,
                nominated,
                ledger: Ledger::new(random.u8(..)),
                phase: random.u64(..LOOK),
                up: true,
                part: 0,
                leaving: false,
            }
        };
        Self {
            nodes: (0..nodes).map(node).collect(),
            begun,
            now: 0,
            random,
            loss: 0,
            delay: 2,
            network: BTreeMap::new(),
            serial: 0,
            passed: BTreeMap::new(),
            limit,
        }
    }

    fn instant(&self) -> Instant {
        self.begun + Duration::from_millis(self.now)
    }

    /// One request of a client to a node.
    fn ask(&mut self, node: usize, client: u64) -> bool {
        let Limit { interval, burst } = self.limit;
        let key = client.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
        let passes = self.nodes[node].table.take(key, interval, burst, self.instant()).is_ok();
        if passes {
            self.passed.entry(client).or_default().push(self.now);
        }
        passes
    }

    /// Lets a millisecond pass.
    fn pass(&mut self) {
        self.now += 1;
        let now = self.instant();
        while let Some(first) = self.network.first_entry().filter(|it| it.key().0 <= self.now) {
            let (to, from, note) = first.remove();
            if !self.nodes[to].up {
                continue;
            }
            let node = Arc::clone(&self.nodes[from].name);
            let (incarnation, leaving) = ([from as u8; 16], self.nodes[from].leaving);
            let heard = Heard { node: &node, incarnation, leaving, note: &note };
            let Node { ledger, table, .. } = &mut self.nodes[to];
            ledger.hear(&heard, table, now);
        }
        for from in 0..self.nodes.len() {
            let node = &mut self.nodes[from];
            if !node.up || self.now % LOOK != node.phase {
                continue;
            }
            let notes = node.ledger.look(node.nominated.try_iter(), &node.table, LONGEST, now);
            for to in 0..self.nodes.len() {
                let reachable = to != from && self.nodes[to].part == self.nodes[from].part;
                for note in notes.iter().filter(|_| reachable) {
                    if self.random.u32(..100) < self.loss {
                        continue;
                    }
                    let at = self.now + 1 + self.random.u64(..self.delay);
                    self.serial += 1;
                    self.network.insert((at, self.serial), (to, from, note.clone()));
                }
            }
        }
    }

    /// For so many milliseconds, a client asks nodes at these rates a second, by chance.
    fn load(&mut self, milliseconds: u64, client: u64, rates: &[u32]) {
        for _ in 0..milliseconds {
            for (node, rate) in rates.iter().enumerate() {
                let (whole, rest) = (rate / 1000, rate % 1000);
                for _ in 0..whole + u32::from(self.random.u32(..1000) < rest) {
                    if self.nodes[node].up {
                        self.ask(node, client);
                    }
                }
            }
            self.pass();
        }
    }

    /// Requests that were let through from one millisecond on and before another.
    fn passed(&self, client: u64, from: u64, to: u64) -> usize {
        let times = self.passed.get(&client).map_or(&[][..], |times| times);
        times.partition_point(|at| *at < to) - times.partition_point(|at| *at < from)
    }

    /// Most requests that were let through within any second from a time on.
    fn most_in_a_second(&self, client: u64, from: u64) -> usize {
        (from..self.now.saturating_sub(999))
            .map(|at| self.passed(client, at, at + 1000))
            .max()
            .unwrap_or(0)
    }
}

/// How exactly a group keeps a limit of 100 a second and a burst of 500, in percent of the limit; the last half of forty
/// seconds, when the burst is over.
#[derive(Debug, PartialEq, Eq)]
struct Accuracy {
    mean: usize,
    busiest_second: usize,
    /// Requests beyond what the limit lets through from the beginning, with its burst.
    excess: i64,
}

fn measure(nodes: usize, rates: &[u32], loss: u32) -> Accuracy {
    let mut group = Group::new(nodes, Limit::per_second(100, 5), 7);
    (group.loss, group.delay) = (loss, 5);
    group.load(40_000, 1, rates);
    Accuracy {
        mean: group.passed(1, 20_000, 40_000) / 20,
        busiest_second: group.most_in_a_second(1, 20_000),
        excess: group.passed(1, 0, 40_000) as i64 - 4501,
    }
}

#[test]
fn a_client_that_asks_for_too_much_gets_its_limit_from_all_nodes_together() {
    for nodes in [3, 10, 50] {
        let even = vec![300 / nodes as u32; nodes];
        let mut one = vec![0; nodes];
        one[0] = 300;
        let mut mixed = vec![150 / nodes as u32; nodes];
        mixed[0] = 300;
        for loss in [0, 20] {
            for (load, rates) in [("even", &even), ("one node", &one), ("mixed", &mixed)] {
                let found = measure(nodes, rates, loss);
                println!("{nodes} nodes, {loss} % lost, {load}: {found:?}");
                let Accuracy { mean, busiest_second, excess } = found;
                assert!((97..=102).contains(&mean), "{mean}");
                assert!(busiest_second <= 140, "{busiest_second}");
                assert!(excess <= 100, "{excess}");
                if load == "one node" {
                    assert!(mean >= 99 && busiest_second <= 105);
                }
            }
        }
    }
}

#[test]
fn what_a_flood_on_all_nodes_at_once_gets_too_much_is_made_up_for() {
    let limit = Limit::per_second(10, 5);
    let mut group = Group::new(5, limit, 3);
    group.load(1000, 9, &[20; 5]); // the nodes know each other
    group.load(100, 1, &[10_000; 5]);
    let flood = group.passed(1, 0, group.now);
    // Each node lets through no more than its burst before it hears of the others.
    assert!((51..=5 * 51).contains(&flood), "{flood}");
    group.load(60_000, 1, &[20; 5]);
    let all = group.passed(1, 0, group.now);
    assert!(all <= 51 + 10 * 61 + 10, "{all}");
    assert!(all >= 51 + 10 * 61 - 30, "{all}");
}

#[test]
fn a_client_that_has_used_its_burst_on_one_node_has_none_left_on_another() {
    let mut group = Group::new(3, Limit::per_second(10, 5), 4);
    assert_eq!((0..100).filter(|_| group.ask(0, 1)).count(), 51);
    (0..2 * LOOK + 5).for_each(|_| group.pass());
    let more = (0..100).filter(|_| group.ask(1, 1)).count();
    assert!(more <= 4, "{more}: what has become due meanwhile");
}

#[test]
fn the_shares_of_the_others_grow_when_a_node_dies_and_they_are_the_majority() {
    let mut group = Group::new(3, Limit::per_second(100, 1), 5);
    group.load(20_000, 1, &[100; 3]);
    let of_all = group.passed(1, 10_000, 20_000);
    assert!((970..=1030).contains(&of_all), "{of_all}");
    group.nodes[0].up = false;
    group.load(20_000, 1, &[100; 3]);
    let of_two = group.passed(1, 25_000, 35_000);
    assert!((970..=1030).contains(&of_two), "{of_two}");
    let status = group.nodes[1].ledger.status();
    assert_eq!((status.nodes.len(), status.missing.len(), status.percent), (1, 1, 100));
}

#[test]
fn a_node_that_is_cut_off_gives_out_its_part_for_a_minute_and_then_the_whole() {
    let mut group = Group::new(3, Limit::per_second(30, 1), 6);
    group.load(5000, 1, &[50; 3]);
    group.nodes[0].part = 1;
    group.load(5000, 1, &[0; 3]);
    assert_eq!(group.nodes[0].ledger.status().percent, 33);
    assert_eq!(group.nodes[1].ledger.status().percent, 100);
    // A client that only the lone node serves.
    group.load(30_000, 2, &[90, 0, 0]);
    let alone = group.passed(2, group.now - 20_000, group.now) / 20;
    assert!((9..=11).contains(&alone), "{alone}");
    group.load(40_000, 2, &[90, 0, 0]);
    let later = group.passed(2, group.now - 10_000, group.now) / 10;
    assert!((29..=31).contains(&later), "{later}");
    assert!(group.nodes[0].ledger.status().missing.is_empty());
}

#[test]
fn a_node_that_says_goodbye_leaves_the_whole_limit_to_the_one_that_stays() {
    let mut group = Group::new(2, Limit::per_second(30, 1), 6);
    group.load(5000, 1, &[50; 2]);
    group.nodes[0].leaving = true;
    group.load(500, 1, &[50; 2]);
    group.nodes[0].up = false;
    group.load(5000, 1, &[50; 2]);
    assert_eq!(group.nodes[1].ledger.status().percent, 100);
}

#[test]
fn nodes_that_come_later_learn_what_has_been_used() {
    let mut group = Group::new(3, Limit::per_second(10, 60), 8);
    group.nodes[2].up = false;
    group.load(5000, 1, &[500, 500, 0]);
    group.nodes[2].up = true;
    group.load(1000, 1, &[20, 20, 0]);
    let more = (0..1000).filter(|_| group.ask(2, 1)).count();
    assert!(more <= 30, "{more} of a burst of 601 that has been used up");
}

#[test]
fn a_spray_of_clients_takes_no_memory_and_no_more_notes_and_hides_nobody() {
    let mut group = Group::new(3, Limit::per_second(10, 5), 9);
    let mut client = 1 << 32;
    for _ in 0..10_000 {
        for node in 0..3 {
            for _ in 0..20 {
                client += 1;
                group.ask(node, client);
            }
            if group.now % 100 < 2 {
                group.ask(node, 1);
            }
        }
        group.pass();
    }
    assert!(group.network.len() <= 3 * 2 * 4 * 2, "{} notes under way", group.network.len());
    let passed = group.passed(1, 5000, group.now);
    assert!((40..=70).contains(&passed), "{passed} of about 50, of 300 that were asked for");
}
