use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        atomic::AtomicBool,
        mpsc::{Receiver as Events, RecvTimeoutError, channel},
    },
};

use gatehouse_testbed::wait::Until;
use socket2::SockRef;

use super::*;
use crate::kernel::tests::wire::{Wire, on_a_wire};

/// For anything that should happen at once; generous, as the machine may be busy.
const TIMEOUT: Duration = Duration::from_secs(20);
const PERIOD: Duration = Duration::from_millis(20);

/// A session without meaning: says its number and the other's each period, hears the same.
struct Beat {
    number: u32,
    other: u32,
    next: Instant,
    period: Duration,
    minimum_ttl: u8,
    /// Taken for dead if nothing is heard for so many periods; 0 for never.
    multiplier: u32,
    heard: Option<Instant>,
    /// The method that panics.
    broken: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Beaten {
    /// From a session of this number.
    Heard(u32),
    Dead,
}

impl Beat {
    fn new(number: u32, other: u32) -> Self {
        let (next, period) = (Instant::now(), PERIOD);
        Self {
            number,
            other,
            next,
            period,
            minimum_ttl: 255,
            multiplier: 0,
            heard: None,
            broken: "",
        }
    }

    fn dead_at(&self) -> Option<Instant> {
        self.heard.filter(|_| self.multiplier > 0).map(|at| at + self.period * self.multiplier)
    }
}

impl Session for Beat {
    type Event = Beaten;

    fn discriminator(&self) -> u32 {
        self.number
    }

    fn receive(&mut self, payload: &[u8], ttl: u8, now: Instant) -> Option<Outputs<Self>> {
        assert_ne!(self.broken, "receive");
        if ttl < self.minimum_ttl {
            return None;
        }
        self.heard = Some(now);
        let number = payload[4..8].try_into().unwrap();
        Some(vec![Output::Event(Beaten::Heard(u32::from_be_bytes(number)))])
    }

    fn tick(&mut self, now: Instant) -> Outputs<Self> {
        let mut out = Vec::new();
        assert_ne!(self.broken, "tick");
        if self.dead_at().is_some_and(|at| at <= now) {
            self.heard = None;
            out.push(Output::Event(Beaten::Dead));
        }
        if self.next <= now {
            self.next += self.period;
            out.push(Output::Send(packet(self.number, self.other)));
        }
        out
    }

    fn deadline(&self) -> Option<Instant> {
        assert_ne!(self.broken, "deadline");
        self.dead_at().into_iter().chain([self.next]).min()
    }
}

fn packet(number: u32, other: u32) -> [u8; PACKET_LEN] {
    let mut packet = [0; PACKET_LEN];
    packet[4..8].copy_from_slice(&number.to_be_bytes());
    packet[8..12].copy_from_slice(&other.to_be_bytes());
    packet
}

type Heard = Events<(u32, News<Beaten>)>;

fn start(wire: &Wire, host: &str) -> (Bfd<Beat>, Heard) {
    wire.enter(host);
    let (sender, events) = channel();
    let news = move |number, news| drop(sender.send((number, news)));
    (Bfd::start("gh-bfd", news).unwrap(), events)
}

fn path(local: &str, remote: &str) -> Path {
    let (local, remote) = (local.parse().ok(), remote.parse().unwrap());
    Path { remote, local, interface: None, hops: Hops::Single }
}

/// Waits for some news.
fn expect(events: &Heard, wanted: (u32, News<Beaten>)) {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(event) if event == wanted => return,
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => panic!("no {wanted:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("the thread ended before {wanted:?}"),
        }
    }
}

fn heard(number: u32, other: u32) -> (u32, News<Beaten>) {
    (number, News::Session(Beaten::Heard(other)))
}

fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !is() {
        assert!(Instant::now() < deadline, "it did not come: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn sessions_hear_each_other_on_every_kind_of_address_and_number_of_hops() {
    on_a_wire(|wire| {
        let (a, at_a) = start(&wire, "a");
        let (b, at_b) = start(&wire, "b");
        let ways = [
            ("10.78.0.1", "10.78.0.2", None),
            ("2001:db8:78::1", "2001:db8:78::2", None),
            ("fe80::1", "fe80::2", Some(())),
        ];
        let hops = [Hops::Single, Hops::Multi];
        let mut number = 0;
        for (one, other, scoped) in ways {
            for hops in hops {
                number += 2;
                let interface = |host| scoped.map(|()| wire.scope(host));
                let path_of = |local, remote, host| Path {
                    hops,
                    interface: interface(host),
                    ..path(local, remote)
                };
                // One knows the other's number; the other has to be found by its address.
                a.add(path_of(one, other, "a"), Beat::new(number, number + 1));
                // What comes before the thread knows of it would be a stranger's.
                a.change(number, |_, _| vec![Output::Event(Beaten::Dead)]);
                expect(&at_a, (number, News::Session(Beaten::Dead)));
                b.add(path_of(other, one, "b"), Beat::new(number + 1, 0));
                expect(&at_a, heard(number, number + 1));
                expect(&at_b, heard(number + 1, number));
            }
        }
        assert_eq!(a.counters().strange.load(Relaxed), 0);
        assert_eq!(a.counters().discarded.load(Relaxed), 0);
        assert_eq!(a.counters().unsent.load(Relaxed), 0);
        assert!(a.counters().sent.load(Relaxed) >= 6);
    });
}

#[test]
fn a_session_that_panics_ends_alone_and_can_be_started_again() {
    on_a_wire(|wire| {
        let (a, at_a) = start(&wire, "a");
        let (b, at_b) = start(&wire, "b");
        let (one, other) = ("2001:db8:78::1", "2001:db8:78::2");
        a.add(path(one, other), Beat::new(10, 0));
        b.add(path(other, one), Beat::new(11, 10));
        b.add(path("10.78.0.2", "10.78.0.1"), Beat::new(2, 1));
        for broken in ["tick", "receive", "deadline", "change"] {
            a.add(path("10.78.0.1", "10.78.0.2"), Beat::new(1, 2));
            expect(&at_a, heard(1, 2));
            a.change(1, move |beat, _| {
                assert_ne!(broken, "change");
                beat.broken = broken;
                vec![]
            });
            wait_until("the end of the session", || {
                at_a.try_iter().any(|(number, news)| {
                    let News::Broken(words) = news else { return false };
                    assert!(number == 1 && words.contains(broken), "{number}: {words}");
                    true
                })
            });
            // The others go on.
            expect(&at_a, heard(10, 11));
            expect(&at_b, heard(11, 10));
            a.change(1, |_, _| panic!("a session that is no more is not changed"));
            expect(&at_a, heard(10, 11));
        }
    });
}

/// A socket of `b` that sends what it likes to a session of `a`.
fn forger(wire: &Wire, from: &str, ttl: u32) -> UdpSocket {
    wire.enter("b");
    let forger = UdpSocket::bind((from, 0)).unwrap();
    match forger.local_addr().unwrap() {
        SocketAddr::V4(_) => SockRef::from(&forger).set_ttl_v4(ttl).unwrap(),
        SocketAddr::V6(_) => SockRef::from(&forger).set_unicast_hops_v6(ttl).unwrap(),
    }
    forger
}

#[test]
fn a_packet_from_too_far_away_or_from_a_stranger_is_counted_and_not_heard() {
    on_a_wire(|wire| {
        let (a, at_a) = start(&wire, "a");
        for (base, one, other, third) in [
            (10, "10.78.0.1", "10.78.0.2", "10.78.0.3"),
            (20, "2001:db8:78::1", "2001:db8:78::2", "2001:db8:78::3"),
        ] {
            a.add(
                Path { interface: Some(wire.scope("a")), ..path(one, other) },
                Beat::new(base, 0),
            );
            let far = Beat { minimum_ttl: 100, ..Beat::new(base + 1, 0) };
            a.add(Path { hops: Hops::Multi, ..path(one, other) }, far);
            let (near, far, nearer) =
                (forger(&wire, other, 255), forger(&wire, other, 99), forger(&wire, other, 100));
            let stranger = forger(&wire, third, 255);
            let single = SocketAddr::new(one.parse().unwrap(), 3784);
            let multi = SocketAddr::new(single.ip(), 4784);
            // Heard; the beat names its sender.
            let good = [
                (&near, single, base, base),
                (&near, single, 0, base),
                (&nearer, multi, 0, base + 1),
            ];
            for (number, (from, to, named, session)) in (1000..).zip(good) {
                wait_until("a packet that is heard", || {
                    from.send_to(&packet(number, named), to).unwrap();
                    at_a.try_iter().any(|event| event == heard(session, number))
                });
            }
            let counts = || {
                let counters = a.counters();
                [&counters.discarded, &counters.strange].map(|counter| counter.load(Relaxed))
            };
            let forged: [(&UdpSocket, SocketAddr, &[u8], usize); 9] = [
                (&far, single, &packet(66, base), 0),
                (&nearer, single, &packet(66, 0), 0),
                (&far, multi, &packet(66, 0), 0),
                (&stranger, single, &packet(66, base), 1),
                (&stranger, single, &packet(66, 0), 1),
                (&near, single, &packet(66, 77), 1),
                (&near, single, &packet(66, base + 1), 1),
                (&near, single, &packet(66, base)[..23], 1),
                (&near, single, &[0; 65], 1),
            ];
            for (from, to, bytes, counter) in forged {
                let mut wanted = counts();
                wanted[counter] += 1;
                from.send_to(bytes, to).unwrap();
                wait_until(&format!("{bytes:?} counted"), || counts() == wanted);
            }
            assert!(at_a.try_iter().all(|(_, news)| news != News::Session(Beaten::Heard(66))));
        }
    });
}

#[test]
fn each_session_sends_from_one_high_port_of_its_own_marked_as_network_control() {
    on_a_wire(|wire| {
        for (one, other) in [("10.78.0.2", "10.78.0.1"), ("2001:db8:78::2", "2001:db8:78::1")] {
            wire.enter("a");
            let router = UdpSocket::bind((other, 3784)).unwrap();
            let (b, _events) = start(&wire, "b");
            b.add(path(one, other), Beat::new(1, 0));
            b.add(path(one, other), Beat::new(2, 0));
            let mut ports = BTreeMap::<u32, Vec<u16>>::new();
            wait_until("packets of both sessions", || {
                let mut bytes = [0; 64];
                let (len, from) = router.recv_from(&mut bytes).unwrap();
                assert_eq!(len, PACKET_LEN);
                let number = u32::from_be_bytes(bytes[4..8].try_into().unwrap());
                ports.entry(number).or_default().push(from.port());
                ports.len() == 2 && ports.values().all(|ports| ports.len() > 5)
            });
            for ports in ports.values() {
                let first = ports[0];
                assert!(first >= 49152 && ports.iter().all(|port| *port == first), "{ports:?}");
            }
            assert_ne!(ports[&1][0], ports[&2][0]);

            let sender = Sender::open(Port::of(&path(one, other)), &path(one, other), 1).unwrap();
            let class = match one.contains(':') {
                false => SockRef::from(&sender).tos_v4().unwrap(),
                true => SockRef::from(&sender).tclass_v6().unwrap(),
            };
            assert_eq!(class, 0xc0);
        }
    });
}

#[test]
fn a_port_that_another_program_has_is_told_once_and_taken_as_soon_as_it_is_free() {
    on_a_wire(|wire| {
        wire.enter("a");
        let other = UdpSocket::bind("0.0.0.0:3784").unwrap();
        let (a, at_a) = start(&wire, "a");
        let (b, _at_b) = start(&wire, "b");
        a.add(path("10.78.0.1", "10.78.0.2"), Beat::new(1, 0));
        b.add(path("10.78.0.2", "10.78.0.1"), Beat::new(2, 0));
        let (number, News::Fault(fault)) = at_a.recv_timeout(TIMEOUT).unwrap() else {
            panic!("no fault");
        };
        assert_eq!(number, 1);
        assert!(fault.starts_with("UDP port 3784 cannot be had: "), "{fault}");
        wait_until("packets that cannot be sent", || a.counters().unsent.load(Relaxed) > 60);
        assert!(at_a.try_recv().is_err(), "reported once");
        drop(other);
        assert_eq!(at_a.recv_timeout(TIMEOUT).unwrap(), heard(1, 2));

        // No session needs it any more.
        a.remove(1);
        wire.enter("a");
        wait_until("the port is free", || UdpSocket::bind("0.0.0.0:3784").is_ok());
    });
}

#[test]
fn an_interface_or_an_address_that_is_not_there_is_told() {
    on_a_wire(|wire| {
        let (a, at_a) = start(&wire, "a");
        let gone = Path { interface: Some(4711), ..path("10.78.0.1", "10.78.0.2") };
        a.add(gone, Beat::new(1, 0));
        a.add(path("10.78.0.77", "10.78.0.2"), Beat::new(2, 0));
        let mut faults: Vec<_> = (0..2).map(|_| at_a.recv_timeout(TIMEOUT).unwrap()).collect();
        faults.sort_by_key(|(number, _)| *number);
        let said = |index: usize, text: &str| matches!(&faults[index].1, News::Fault(fault) if fault.contains(text));
        assert!(
            said(0, "to 10.78.0.2 cannot be sent: ") && said(1, "from 10.78.0.77: "),
            "{faults:?}"
        );
    });
}

#[test]
fn a_session_can_be_changed_replaced_and_removed_while_it_runs() {
    on_a_wire(|wire| {
        let (a, _at_a) = start(&wire, "a");
        let (b, at_b) = start(&wire, "b");
        b.add(path("10.78.0.2", "10.78.0.1"), Beat { multiplier: 10, ..Beat::new(9, 0) });
        a.add(path("10.78.0.1", "10.78.0.2"), Beat::new(1, 0));
        expect(&at_b, heard(9, 1));
        a.change(1, |beat, now| {
            beat.next = now + TIMEOUT * 10;
            vec![Output::Send(packet(2, 0))]
        });
        expect(&at_b, heard(9, 2));
        expect(&at_b, (9, News::Session(Beaten::Dead)));
        a.add(path("10.78.0.1", "10.78.0.2"), Beat::new(1, 9));
        expect(&at_b, heard(9, 1));
        a.remove(1);
        expect(&at_b, (9, News::Session(Beaten::Dead)));
    });
}

/// For one of a few spans of time: a machine that is not ours alone may stop as a whole for longer than 60 ms.
#[test]
fn sessions_at_3_times_20_ms_stay_up_while_all_cores_are_busy() {
    on_a_wire(|wire| {
        let (a, at_a) = start(&wire, "a");
        let (b, at_b) = start(&wire, "b");
        let stop = AtomicBool::new(false);
        let cores = std::thread::available_parallelism().unwrap().get();
        let spans = std::thread::scope(|scope| {
            let until = Until::dropped(&stop);
            for _ in 0..cores * 4 {
                scope.spawn(|| {
                    while !stop.load(Relaxed) {
                        std::hint::black_box(0);
                    }
                });
            }
            let beat = |number, other| Beat { multiplier: 3, ..Beat::new(number, other) };
            a.add(path("10.78.0.1", "10.78.0.2"), beat(1, 2));
            b.add(path("10.78.0.2", "10.78.0.1"), beat(2, 1));
            let mut spans = Vec::new();
            for _ in 0..5 {
                std::thread::sleep(Duration::from_secs(3));
                let span = [(&at_a, heard(1, 2)), (&at_b, heard(2, 1))]
                    .map(|(at, beat)| (at.try_iter().collect::<Vec<_>>(), beat));
                let up = |(events, beat): &(Vec<_>, _)| {
                    events.len() > 100 && events.iter().all(|event| event == beat)
                };
                spans.push(span.iter().all(up));
                if spans.ends_with(&[true]) {
                    break;
                }
            }
            drop(until);
            spans
        });
        assert_eq!(spans.last(), Some(&true), "spans of 3 s: {spans:?}");
        b.remove(2);
    });
}
