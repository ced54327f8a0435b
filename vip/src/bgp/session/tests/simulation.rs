//! Two sessions and a bad network between them: they find each other, on one connection.

use std::collections::{BTreeMap, VecDeque};

use super::*;

/// How long the network is bad.
const TROUBLE: Duration = Duration::from_secs(120);
/// How long two sessions may take to find each other once it is good.
const RECOVERY: Duration = Duration::from_secs(60);

/// One end of a connection: which speaker, and what it calls the connection.
type End = (usize, ConnectionId);

enum Packet {
    /// A dial arrives at the other speaker.
    Dial,
    /// The dial has been answered.
    Answer(Option<ConnectionId>),
    Bytes(Vec<u8>),
    Closed,
}

struct Network {
    speakers: [Session; 2],
    up: [Option<ConnectionId>; 2],
    /// The other end of each connection.
    pipes: BTreeMap<End, End>,
    /// What arrives at an end, and when: in order on one connection, in none between two.
    wire: BTreeMap<End, VecDeque<(Instant, Packet)>>,
    chance: Jitter,
    now: Instant,
    good_from: Instant,
}

impl Network {
    fn new(seed: u64) -> Self {
        let other = Settings {
            local_asn: 64513,
            remote_asn: RemoteAsn::Exactly(64512),
            router_id: Ipv4Addr::new(10, 0, 0, 2),
            ..settings()
        };
        let now = now();
        Self {
            speakers: [Session::new(settings(), seed), Session::new(other, !seed)],
            up: [None; 2],
            pipes: BTreeMap::new(),
            wire: BTreeMap::new(),
            chance: Jitter::new(seed.wrapping_mul(31)),
            now,
            good_from: now + TROUBLE,
        }
    }

    /// One time in so many, while the network is bad.
    fn bad_luck(&mut self, one_in: u64) -> bool {
        self.now < self.good_from && self.chance.next().is_multiple_of(one_in)
    }

    fn put(&mut self, to: End, packet: Packet) {
        let delay = self.chance.percent(Duration::from_millis(200), 1, 100);
        let queue = self.wire.entry(to).or_default();
        let last = queue.back().map_or(self.now, |(time, _)| *time);
        queue.push_back((last.max(self.now + delay), packet));
    }

    fn act(&mut self, speaker: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Connect(id) => {
                    if !self.bad_luck(3) {
                        self.put((speaker, id), Packet::Dial);
                    }
                }
                Action::Send(id, bytes) => {
                    if let Some(to) = self.pipes.get(&(speaker, id)).copied() {
                        let half = bytes.len() / 2;
                        self.put(to, Packet::Bytes(bytes[..half].to_vec()));
                        self.put(to, Packet::Bytes(bytes[half..].to_vec()));
                    }
                }
                Action::Close(id) => self.close((speaker, id)),
                Action::Up(id, _) => {
                    assert_eq!(self.up[speaker].replace(id), None, "up twice");
                }
                Action::Down(_) => {
                    assert!(self.up[speaker].take().is_some(), "down without up");
                }
                Action::Accept(_) | Action::Reject | Action::Refresh(_) => {}
            }
        }
    }

    fn close(&mut self, end: End) {
        self.wire.remove(&end);
        if let Some(other) = self.pipes.remove(&end)
            && self.pipes.contains_key(&other)
        {
            self.put(other, Packet::Closed);
        }
    }

    fn deliver(&mut self, to: End, packet: Packet) {
        let (speaker, id) = to;
        let event = match &packet {
            Packet::Dial => {
                let actions = self.speakers[1 - speaker].handle(Event::Incoming, self.now);
                let accepted = actions.iter().find_map(|action| match action {
                    Action::Accept(id) => Some(*id),
                    _ => None,
                });
                if let Some(accepted) = accepted {
                    self.pipes.insert((1 - speaker, accepted), to);
                    self.pipes.insert(to, (1 - speaker, accepted));
                }
                // Before the first octets of the one that accepted.
                let queue = self.wire.entry(to).or_default();
                queue.push_back((self.now, Packet::Answer(accepted)));
                self.act(1 - speaker, actions);
                return;
            }
            Packet::Answer(Some(_)) => Event::Opened(id),
            Packet::Answer(None) => Event::Failed(id),
            Packet::Closed => {
                self.pipes.remove(&to);
                Event::Failed(id)
            }
            Packet::Bytes(_) if self.bad_luck(40) => {
                // The connection breaks off, and both ends come to know of it.
                let other = self.pipes.remove(&to);
                if let Some(other) = other {
                    self.put(other, Packet::Closed);
                }
                self.wire.remove(&to);
                Event::Failed(id)
            }
            Packet::Bytes(bytes) => Event::Bytes(id, bytes),
        };
        let actions = self.speakers[speaker].handle(event, self.now);
        self.act(speaker, actions);
    }

    /// Lets happen what is next. False: nothing is before that time.
    fn step(&mut self, until: Instant) -> bool {
        let packet = self
            .wire
            .iter()
            .filter_map(|(end, queue)| queue.front().map(|(time, _)| (*time, *end)))
            .min();
        let timer = (0..2).filter_map(|one| Some((self.speakers[one].deadline()?, one))).min();
        let packet_first = match (packet, timer) {
            (Some((packet, _)), Some((timer, _))) => packet <= timer,
            (packet, _) => packet.is_some(),
        };
        match (packet, timer) {
            (Some((time, end)), _) if packet_first && time <= until => {
                self.now = self.now.max(time);
                let packet = self.wire.get_mut(&end).and_then(VecDeque::pop_front);
                if let Some((_, packet)) = packet {
                    self.deliver(end, packet);
                }
                true
            }
            (_, Some((time, speaker))) if !packet_first && time <= until => {
                self.now = self.now.max(time);
                let actions = self.speakers[speaker].handle(Event::Tick, self.now);
                self.act(speaker, actions);
                true
            }
            _ => false,
        }
    }
}

#[test]
fn two_speakers_that_both_dial_over_a_bad_network_end_up_on_one_connection() {
    for seed in 0..300 {
        let mut network = Network::new(seed);
        for speaker in 0..2 {
            let actions = network.speakers[speaker].handle(Event::Start, network.now);
            network.act(speaker, actions);
        }
        let end = network.good_from + RECOVERY;
        let mut steps = 0;
        while network.step(end) {
            steps += 1;
            assert!(steps < 100_000, "seed {seed}: no end");
        }
        let states = network.speakers.each_ref().map(Session::state);
        assert_eq!(states, [State::Established; 2], "seed {seed}");
        let [one, other] = network.up.map(Option::unwrap);
        assert_eq!(network.pipes.get(&(0, one)), Some(&(1, other)), "seed {seed}: not the same");
        assert_eq!(network.pipes.len(), 2, "seed {seed}: another connection is left");
        let [one, other] = network.speakers.each_ref().map(|one| one.negotiated().unwrap());
        assert_eq!((one.hold_time, one.families), (other.hold_time, other.families));
    }
}
