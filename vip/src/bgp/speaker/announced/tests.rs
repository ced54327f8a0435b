//! Addresses on the loopback interface, with the kernel played by the test.

#![allow(clippy::disallowed_methods, reason = "tests need some instant to begin with")]

use super::*;
use crate::links::tests::{links, with_loopback};

const LO: u32 = 1;

/// A kernel that does as it is told, and the time.
struct Host {
    announced: AnnouncedAddresses,
    links: Links,
    start: Instant,
    now: Duration,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl Host {
    fn new(addresses: &[(u32, &str)]) -> Self {
        Self {
            announced: AnnouncedAddresses::default(),
            links: with_loopback(links(&[(2, true)], addresses)),
            start: Instant::now(),
            now: Duration::ZERO,
        }
    }

    fn now(&self) -> Instant {
        self.start + self.now
    }

    fn want(&mut self, ips: &[&str]) {
        self.announced.want(&ips.iter().map(|text| ip(text)).collect(), self.now());
    }

    /// One turn after so many milliseconds; what was done and what came of it.
    fn turn(&mut self, after: u64, result: &Result<(), Failure>) -> (Vec<Change>, Vec<Outcome>) {
        self.now += Duration::from_millis(after);
        let (changes, mut outcomes) = self.announced.due(&self.links, self.now());
        for change in &changes {
            if result.is_ok() {
                match *change {
                    Change::Delete { index, ip } => self.links.deleted(index, ip),
                    Change::Add { index, ip, .. } | Change::Renew { index, ip, .. } => {
                        self.links.added(index, ip);
                    }
                }
            }
            outcomes.extend(self.announced.done(change, result, self.now()));
        }
        (changes, outcomes)
    }
}

fn add(text: &str) -> Change {
    Change::Add { index: LO, ip: ip(text), lifetime: LIFETIME }
}

fn renew(text: &str) -> Change {
    Change::Renew { index: LO, ip: ip(text), lifetime: LIFETIME }
}

fn delete(text: &str) -> Change {
    Change::Delete { index: LO, ip: ip(text) }
}

#[test]
fn an_address_is_added_renewed_and_taken_off_a_while_after_its_withdrawal() {
    let mut host = Host::new(&[]);
    host.want(&["192.0.2.1"]);
    let added = (vec![add("192.0.2.1")], vec![Outcome::Added(ip("192.0.2.1"))]);
    assert_eq!(host.turn(0, &Ok(())), added);
    assert!(host.announced.has_within(&"192.0.2.0/24".parse().unwrap()));
    let first = first_renewal(ip("192.0.2.1")).as_micros().div_ceil(1000);
    let first = u64::try_from(first).unwrap();
    assert_eq!(host.turn(first - 1, &Ok(())), (vec![], vec![]));
    for after in [20_000, 20_000, 20_000] {
        assert_eq!(host.turn(1, &Ok(())), (vec![renew("192.0.2.1")], vec![]));
        assert_eq!(host.turn(after - 1, &Ok(())), (vec![], vec![]));
    }
    host.want(&[]);
    assert!(!host.announced.has_within(&"192.0.2.1/32".parse().unwrap()), "not to be announced");
    assert_eq!(host.turn(999, &Ok(())), (vec![], vec![]), "routers may not know yet");
    let gone = (vec![delete("192.0.2.1")], vec![Outcome::Removed(ip("192.0.2.1"))]);
    assert_eq!(host.turn(1, &Ok(())), gone);
    assert_eq!((host.announced.deadline(), host.announced.ours()), (None, 0));
}

#[test]
fn an_address_that_is_wanted_again_while_it_parts_stays() {
    let mut host = Host::new(&[]);
    host.want(&["192.0.2.1"]);
    host.turn(0, &Ok(()));
    host.want(&[]);
    host.turn(500, &Ok(()));
    host.want(&["192.0.2.1"]);
    assert_eq!(host.turn(0, &Ok(())), (vec![renew("192.0.2.1")], vec![]));
    assert_eq!(host.turn(1000, &Ok(())), (vec![], vec![]));
}

#[test]
fn what_a_killed_predecessor_left_is_taken_over_and_what_others_put_there_is_left_alone() {
    let mut host = Host::new(&[(LO, "192.0.2.1/32")]);
    host.links.added(LO, ip("192.0.2.2"));
    host.want(&["192.0.2.1", "192.0.2.2"]);
    let (changes, mut outcomes) = host.turn(0, &Ok(()));
    assert_eq!(changes, [renew("192.0.2.2")]);
    outcomes.sort_by_key(|outcome| format!("{outcome:?}"));
    assert_eq!(outcomes, [Outcome::Added(ip("192.0.2.1")), Outcome::Added(ip("192.0.2.2"))]);
    assert_eq!(host.announced.ours(), 1);
    host.announced.give_back(host.now());
    let (changes, _) = host.turn(0, &Ok(()));
    assert_eq!(changes, [delete("192.0.2.2")]);
    assert_eq!(host.announced.steady().count(), 0);
}

#[test]
fn an_address_that_somebody_takes_off_is_back_at_once() {
    let mut host = Host::new(&[]);
    host.want(&["2001:db8::1"]);
    host.turn(0, &Ok(()));
    host.turn(0, &Ok(()));
    host.links.deleted(LO, ip("2001:db8::1"));
    assert!(host.announced.look(&host.links, host.now()), "its route has to go");
    assert!(!host.announced.settled());
    assert!(!host.announced.has_within(&"2001:db8::1/128".parse().unwrap()));
    assert_eq!(host.turn(10, &Ok(())).0, [add("2001:db8::1")]);
}

#[test]
fn a_refusal_is_told_once_and_tried_again_every_second() {
    let denied =
        Err(Failure { kind: FailureKind::Denied, message: "operation not permitted".into() });
    let mut host = Host::new(&[]);
    host.want(&["192.0.2.1"]);
    let (_, outcomes) = host.turn(0, &denied);
    let [Outcome::Refused(_, refusal)] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert_eq!(
        (refusal.reason, &*refusal.hint),
        ("NotPermitted", "give the process CAP_NET_ADMIN")
    );
    assert_eq!(host.turn(999, &denied), (vec![], vec![]));
    assert_eq!(host.turn(1, &denied), (vec![add("192.0.2.1")], vec![]));
    assert_eq!(host.turn(1000, &Ok(())).1, [Outcome::Added(ip("192.0.2.1"))]);
}

#[test]
fn thousands_of_addresses_are_changed_some_at_a_time() {
    let mut host = Host::new(&[]);
    let many: Vec<String> = (0..1000_u32)
        .map(|n| IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + n)).to_string())
        .collect();
    host.want(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let counts: Vec<_> = (0..5).map(|_| host.turn(0, &Ok(())).0.len()).collect();
    assert_eq!(counts, [256, 256, 256, 232, 0]);
    assert_eq!(host.announced.steady().count(), 1000);
}

#[test]
fn addresses_that_came_together_are_renewed_some_at_a_time_and_all_within_their_lifetime() {
    let mut host = Host::new(&[]);
    let many: Vec<String> = (0..1000_u32)
        .map(|n| IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + n)).to_string())
        .collect();
    host.want(&many.iter().map(String::as_str).collect::<Vec<_>>());
    (0..4).for_each(|_| drop(host.turn(0, &Ok(()))));
    let mut renewed: BTreeMap<IpAddr, Duration> =
        many.iter().map(|text| (ip(text), host.now)).collect();
    let mut turns = 0;
    while host.now < Duration::from_secs(120) {
        let next = host.announced.deadline().unwrap() - host.now();
        let after = u64::try_from(next.as_micros().div_ceil(1000)).unwrap();
        let (changes, outcomes) = host.turn(after, &Ok(()));
        assert_eq!(outcomes, []);
        assert!((1..=100).contains(&changes.len()), "{} at once", changes.len());
        for change in &changes {
            let before = renewed.insert(change.ip(), host.now).unwrap();
            assert!(host.now - before <= RENEWAL, "{change:?}");
        }
        turns += 1;
    }
    assert!(turns < 120 * 5, "{turns} turns are more than four a second");
}

#[test]
fn it_is_settled_when_each_address_is_there_or_refused() {
    let denied =
        Err(Failure { kind: FailureKind::Denied, message: "operation not permitted".into() });
    let mut host = Host::new(&[(LO, "192.0.2.3/32")]);
    assert!(host.announced.settled(), "there is nothing to wait for");
    host.want(&["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    assert!(!host.announced.settled());
    host.turn(0, &denied);
    assert!(host.announced.settled(), "two were refused, and one was there");
    host.want(&["192.0.2.1", "192.0.2.4"]);
    assert!(!host.announced.settled());
    host.turn(1000, &Ok(()));
    assert!(host.announced.settled());
    host.want(&["192.0.2.5"]);
    host.want(&[]);
    assert!(host.announced.settled(), "nobody waits for what is not wanted any more");
}

#[test]
fn an_address_that_was_there_without_being_seen_is_looked_at_again_and_not_refused() {
    let exists = Err(Failure { kind: FailureKind::Exists, message: "file exists".into() });
    let mut host = Host::new(&[]);
    host.want(&["192.0.2.1"]);
    assert_eq!(host.turn(0, &exists), (vec![add("192.0.2.1")], vec![]));
    assert!(!host.announced.settled());
    host.links.added(LO, ip("192.0.2.1"));
    let added = (vec![renew("192.0.2.1")], vec![Outcome::Added(ip("192.0.2.1"))]);
    assert_eq!(host.turn(50, &Ok(())), added);
}

#[test]
fn an_address_that_vanishes_while_it_parts_is_gone_for_the_owner_too() {
    let mut host = Host::new(&[]);
    host.want(&["192.0.2.1"]);
    host.turn(0, &Ok(()));
    host.want(&[]);
    host.links.deleted(LO, ip("192.0.2.1"));
    host.announced.look(&host.links, host.now());
    assert_eq!(host.turn(0, &Ok(())), (vec![], vec![Outcome::Removed(ip("192.0.2.1"))]));
    assert_eq!(host.announced.ours(), 0);
}
