use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last)
}

/// A link in virtual time.
struct Link {
    discovery: Discovery,
    start: Instant,
    now: Instant,
    /// When what was sent.
    sent: Vec<(Duration, Kind)>,
    /// Routers that answer solicitations at once.
    answer: Vec<Ipv6Addr>,
}

#[allow(clippy::disallowed_methods, reason = "tests need some instant to begin with")]
fn link(seed: u64) -> Link {
    let now = Instant::now();
    let discovery = Discovery::new(at(10), seed, now);
    Link { discovery, start: now, now, sent: Vec::new(), answer: Vec::new() }
}

impl Link {
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.discovery.deadline() <= end {
            self.now = self.now.max(self.discovery.deadline());
            for kind in self.discovery.tick(self.now) {
                self.sent.push((self.now - self.start, kind));
                if kind == Kind::Solicitation {
                    for router in self.answer.clone() {
                        self.hear(router, Kind::Advertisement);
                    }
                }
            }
            assert!(self.discovery.deadline() > self.now, "a tick leaves nothing due");
        }
        self.now = end;
    }

    fn hear(&mut self, from: Ipv6Addr, kind: Kind) {
        self.discovery.heard(from, kind, self.now);
    }

    fn session(&mut self, with: Option<Ipv6Addr>) {
        self.discovery.set_session(with, self.now);
    }

    fn times(&self, kind: Kind) -> Vec<Duration> {
        self.sent.iter().filter(|(_, sent)| *sent == kind).map(|(time, _)| *time).collect()
    }

    fn routers(&self) -> Vec<Ipv6Addr> {
        self.discovery.routers().collect()
    }
}

fn pauses(times: &[Duration]) -> Vec<Duration> {
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[test]
fn a_node_advertises_itself_at_once_then_often_and_seldom_once_the_session_is_there() {
    for seed in 0..50 {
        let mut link = link(seed);
        link.run(60 * SECOND);
        let times = link.times(Kind::Advertisement);
        assert_eq!(times[0], Duration::ZERO);
        let often = pauses(&times);
        assert!(often.iter().all(|pause| (3 * SECOND..=4 * SECOND).contains(pause)), "{often:?}");
        link.session(Some(at(1)));
        link.run(4 * SECOND);
        link.sent.clear();
        link.run(300 * SECOND);
        let seldom = pauses(&link.times(Kind::Advertisement));
        let range = SECOND * 15 / 2..=10 * SECOND;
        assert!(seldom.iter().all(|pause| range.contains(pause)), "{seldom:?}");
        assert!(seldom.iter().any(|pause| *pause != seldom[0]), "jitter");
    }
}

#[test]
fn solicitations_are_answered_soon_but_a_flood_of_them_every_three_seconds_alone() {
    for seed in 0..50 {
        let mut link = link(seed);
        link.session(Some(at(1)));
        link.run(14 * SECOND);
        let before = link.times(Kind::Advertisement).len();
        link.run(4 * SECOND);
        let asked = link.now - link.start;
        link.hear(at(7), Kind::Solicitation);
        link.run(4 * SECOND);
        let times = link.times(Kind::Advertisement);
        let answer = times[before..].iter().find(|time| **time >= asked).unwrap();
        assert!(*answer <= asked + 3 * SECOND + SECOND / 2, "asked at {asked:?}: {times:?}");
        link.sent.clear();
        for _ in 0..3000 {
            link.hear(Ipv6Addr::UNSPECIFIED, Kind::Solicitation);
            link.run(SECOND / 100);
        }
        let pauses = pauses(&link.times(Kind::Advertisement));
        assert!(pauses.len() >= 7, "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause >= 3 * SECOND), "{pauses:?}");
    }
}

#[test]
fn the_router_is_solicited_three_times_then_ever_less_often_and_not_while_there_is_a_session() {
    let mut link = link(3);
    link.run(400 * SECOND);
    let times = link.times(Kind::Solicitation);
    assert!(times[0] <= SECOND, "{times:?}");
    let pauses = pauses(&times);
    for (pause, wanted) in pauses.iter().zip([4, 4, 8, 16, 32, 60, 60]) {
        let wanted = wanted * SECOND;
        assert!((wanted..=wanted * 11 / 10).contains(pause), "{pauses:?}");
    }
    link.hear(at(1), Kind::Advertisement);
    link.session(Some(at(1)));
    link.run(61 * 66 * SECOND / 60);
    link.sent.clear();
    link.run(1000 * SECOND);
    assert!(link.times(Kind::Solicitation).is_empty());
    link.session(None);
    let ended = link.now - link.start;
    link.run(4 * SECOND);
    assert!(link.times(Kind::Solicitation)[0] <= ended + SECOND);
    assert!(link.times(Kind::Advertisement).iter().any(|time| *time >= ended));
}

#[test]
fn whoever_advertises_itself_first_is_the_router_and_a_second_one_is_noticed() {
    let mut link = link(1);
    assert_eq!((link.discovery.router(), link.routers()), (None, vec![]));
    link.hear(at(10), Kind::Advertisement);
    link.hear(at(5), Kind::Solicitation);
    assert_eq!(link.discovery.router(), None, "neither this node itself nor a host");
    link.answer = vec![at(1)];
    link.run(20 * SECOND);
    assert_eq!((link.discovery.router(), link.routers()), (Some(at(1)), vec![at(1)]));
    link.answer.push(at(2));
    link.run(120 * SECOND);
    assert_eq!(link.discovery.router(), Some(at(1)));
    assert_eq!(link.routers(), [at(1), at(2)]);
    link.session(Some(at(2)));
    link.run(200 * SECOND);
    assert_eq!(link.discovery.router(), Some(at(2)), "the session says who");
    assert_eq!(link.routers(), [at(1), at(2)]);
    link.answer = vec![at(2)];
    link.run(300 * SECOND);
    assert_eq!(link.routers(), [at(2)], "the other one has left");
}

#[test]
fn a_router_that_was_replaced_makes_room_for_its_successor_and_a_silent_one_alone_is_kept() {
    for seed in 0..50 {
        let mut link = link(seed);
        link.answer = vec![at(1)];
        link.run(10 * SECOND);
        link.session(Some(at(1)));
        link.run(100 * SECOND);
        link.session(None);
        link.answer.clear();
        link.run(600 * SECOND);
        assert_eq!(link.discovery.router(), Some(at(1)), "there is nobody else to dial");
        link.answer = vec![at(2)];
        link.hear(at(2), Kind::Advertisement);
        link.run(15 * SECOND);
        assert_eq!(link.discovery.router(), Some(at(2)), "seed {seed}");
        assert_eq!(link.routers(), [at(2)]);
    }
}

#[test]
fn a_router_that_was_never_heard_again_is_forgotten_unless_the_session_is_with_it() {
    let mut link = link(1);
    link.hear(at(1), Kind::Advertisement);
    link.run(1799 * SECOND);
    assert_eq!(link.discovery.router(), Some(at(1)));
    link.run(20 * SECOND);
    assert_eq!(link.discovery.router(), None);
    link.hear(at(1), Kind::Advertisement);
    link.session(Some(at(1)));
    link.run(4000 * SECOND);
    assert_eq!((link.discovery.router(), link.routers()), (Some(at(1)), vec![at(1)]));
}

#[test]
fn a_crowd_of_routers_takes_no_more_memory_than_a_few() {
    let mut link = link(1);
    for number in 100..2000 {
        link.hear(at(number), Kind::Advertisement);
        link.run(SECOND / 1000);
    }
    assert_eq!(link.discovery.router(), Some(at(100)));
    assert_eq!(link.routers(), [100, 101, 102, 103].map(at));
}
