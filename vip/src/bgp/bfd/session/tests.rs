//! BFD sessions in virtual time: alone against a script, and two of them over a bad link.

use proptest::prelude::*;

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

#[allow(clippy::disallowed_methods, reason = "tests need some instant to begin with")]
fn now() -> Instant {
    Instant::now()
}

fn settings() -> Settings {
    Settings {
        transmit_interval: MILLISECOND * 50,
        receive_interval: MILLISECOND * 50,
        ..Settings::default()
    }
}

fn session(settings: Settings, now: Instant) -> Session {
    Session::new(settings, false, NonZeroU32::new(7).unwrap(), 1, now)
}

/// A packet of a router that knows the session.
fn packet(state: State) -> Packet {
    Packet {
        diagnostic: Diagnostic::NONE,
        state,
        poll: false,
        final_: false,
        control_plane_independent: false,
        demand: false,
        detect_multiplier: 3,
        my_discriminator: 9,
        your_discriminator: 7,
        desired_min_tx: 50_000,
        required_min_rx: 50_000,
        required_min_echo_rx: 0,
    }
}

fn sent(actions: &[Action]) -> Vec<Packet> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Send(bytes) => Some(Packet::decode(bytes).unwrap()),
            _ => None,
        })
        .collect()
}

/// Lets time pass as a caller would. What was done, and when. What is due since before `from` is done at
/// `from`: no caller can go back in time.
fn pass(session: &mut Session, from: Instant, time: Duration) -> Vec<(Duration, Action)> {
    let (mut done, mut now) = (Vec::new(), from);
    while let Some(deadline) = session.deadline().filter(|deadline| *deadline <= from + time) {
        now = now.max(deadline);
        let actions = session.tick(now);
        assert!(session.deadline().is_none_or(|next| next > now), "due for ever");
        done.extend(actions.into_iter().map(|action| (now - from, action)));
    }
    done
}

fn up(now: Instant) -> Session {
    let mut session = session(settings(), now);
    session.receive(&packet(State::Down), 255, now).unwrap();
    let actions = session.receive(&packet(State::Init), 255, now).unwrap();
    assert_eq!(actions[0], Action::Up);
    session.receive(&Packet { final_: true, ..packet(State::Up) }, 255, now).unwrap();
    session
}

/// Every state × everything that can be heard, and silence. RFC 5880 §6.2, §6.8.6.
#[test]
fn every_state_goes_where_the_rfc_says() {
    use State::{AdminDown, Down, Init, Up};
    let columns = [
        Input::Heard(AdminDown),
        Input::Heard(Down),
        Input::Heard(Init),
        Input::Heard(Up),
        Input::Expired,
    ];
    let table = [
        (AdminDown, [AdminDown, AdminDown, AdminDown, AdminDown, AdminDown]),
        (Down, [Down, Init, Up, Down, Down]),
        (Init, [Down, Init, Up, Up, Down]),
        (Up, [Down, Down, Up, Up, Down]),
    ];
    for (from, row) in table {
        for (input, to) in columns.into_iter().zip(row) {
            assert_eq!(next(from, input), to, "{from:?} {input:?}");
        }
    }
}

#[test]
fn a_session_that_is_not_up_speaks_once_a_second_less_jitter() {
    let start = now();
    let mut session = session(settings(), start);
    let done = pass(&mut session, start, SECOND * 60);
    let times: Vec<_> = done.iter().map(|(time, _)| *time).collect();
    assert_eq!(times[0], Duration::ZERO);
    for pair in times.windows(2) {
        assert!((SECOND * 3 / 4..=SECOND).contains(&(pair[1] - pair[0])), "{pair:?}");
    }
    let Action::Send(bytes) = done[0].1 else { panic!("{done:?}") };
    let first = Packet::decode(&bytes).unwrap();
    assert_eq!(
        (first.state, first.my_discriminator, first.your_discriminator),
        (State::Down, 7, 0)
    );
    assert_eq!((first.desired_min_tx, first.required_min_rx), (1_000_000, 50_000));
}

#[test]
fn two_packets_bring_it_up_and_each_change_is_told_at_once() {
    let now = now();
    let mut session = session(settings(), now);
    let actions = session.receive(&packet(State::Down), 255, now).unwrap();
    assert_eq!(session.state(), State::Init);
    assert_eq!(sent(&actions)[0].state, State::Init);
    assert_eq!(sent(&actions)[0].your_discriminator, 9);
    let actions = session.receive(&packet(State::Init), 255, now).unwrap();
    assert_eq!(actions[0], Action::Up);
    let said = sent(&actions)[0];
    // §6.8.3: the faster interval is agreed on by a poll.
    assert_eq!((said.state, said.poll, said.desired_min_tx), (State::Up, true, 50_000));
    session.receive(&Packet { final_: true, ..packet(State::Up) }, 255, now).unwrap();
    let quiet = pass(&mut session, now, MILLISECOND * 60);
    let said = sent(&[quiet[0].1])[0];
    assert_eq!((said.state, said.poll), (State::Up, false));
}

#[test]
fn a_router_that_falls_silent_is_down_after_the_detection_time() {
    let start = now();
    let mut session = up(start);
    assert_eq!(session.detection_time(), Some(MILLISECOND * 150));
    let done = pass(&mut session, start, SECOND);
    let down: Vec<_> =
        done.iter().filter(|(_, action)| matches!(action, Action::Down(_))).collect();
    let expired = Diagnostic::DETECTION_TIME_EXPIRED;
    assert_eq!(down, [&(MILLISECOND * 150, Action::Down(expired))]);
    let packets = sent(&done.iter().map(|(_, action)| *action).collect::<Vec<_>>());
    let last = packets.last().unwrap();
    assert_eq!((last.state, last.diagnostic, last.your_discriminator), (State::Down, expired, 0));
    assert_eq!(session.detection_time(), None);
}

/// §6.8.4: the slower of what we can receive and what the router sends, times its multiplier.
#[test]
fn the_detection_time_follows_the_router() {
    let now = now();
    for (multiplier, interval, expected) in [(3, 50_000, 150), (5, 10_000, 250), (2, 400_000, 800)]
    {
        let mut session = up(now);
        let slower =
            Packet { detect_multiplier: multiplier, desired_min_tx: interval, ..packet(State::Up) };
        session.receive(&slower, 255, now).unwrap();
        assert_eq!(session.detection_time(), Some(MILLISECOND * expected));
    }
}

#[test]
fn a_router_that_says_it_is_down_is_down_at_once() {
    let now = now();
    for state in [State::Down, State::AdminDown] {
        let mut session = up(now);
        let actions = session.receive(&packet(state), 255, now).unwrap();
        let why = Diagnostic::NEIGHBOR_SIGNALED_DOWN;
        assert_eq!(actions[0], Action::Down(why));
        assert_eq!((sent(&actions)[0].state, session.diagnostic()), (State::Down, why));
        assert_eq!(session.remote_state(), state);
    }
}

#[test]
fn a_question_is_answered_at_once_and_the_answer_asks_nothing() {
    let now = now();
    let mut session = up(now);
    let actions = session.receive(&Packet { poll: true, ..packet(State::Up) }, 255, now).unwrap();
    let packets = sent(&actions);
    assert_eq!(packets.len(), 1);
    assert!(packets[0].final_ && !packets[0].poll);
}

#[test]
fn packets_that_come_from_too_far_or_for_another_session_are_discarded() {
    let now = now();
    let mut near = up(now);
    for ttl in [0, 1, 64, 254] {
        assert_eq!(near.receive(&packet(State::Down), ttl, now), Err(Discard::Ttl), "{ttl}");
    }
    let other = Packet { your_discriminator: 8, ..packet(State::Down) };
    assert_eq!(near.receive(&other, 255, now), Err(Discard::Discriminator));
    assert_eq!(near.state(), State::Up);
    let far = Settings { minimum_ttl: 250, ..settings() };
    let mut far = Session::new(far, true, NonZeroU32::new(7).unwrap(), 1, now);
    assert_eq!(far.receive(&packet(State::Down), 249, now), Err(Discard::Ttl));
    assert!(far.receive(&packet(State::Down), 250, now).is_ok());
}

#[test]
fn a_passive_session_speaks_when_it_is_spoken_to() {
    let start = now();
    let mut session = session(Settings { passive: true, ..settings() }, start);
    assert_eq!(session.deadline(), None);
    let actions = session.receive(&packet(State::Down), 255, start).unwrap();
    assert_eq!(sent(&actions).len(), 1);
    let done = pass(&mut session, start, SECOND * 10);
    // The router falls silent again, and so does this end: 3 × 50 ms is less than an interval.
    assert_eq!(done, []);
    assert_eq!((session.state(), session.deadline()), (State::Down, None));
}

#[test]
fn a_router_that_can_receive_nothing_or_wants_nothing_is_sent_nothing() {
    let start = now();
    type Change = fn(&mut Packet);
    let changes: [Change; 2] = [|packet| packet.required_min_rx = 0, |packet| packet.demand = true];
    for change in changes {
        let mut session = up(start);
        let mut quiet = packet(State::Up);
        change(&mut quiet);
        session.receive(&quiet, 255, start).unwrap();
        assert_eq!(pass(&mut session, start, MILLISECOND * 149), []);
    }
    // But not more often than it asks for.
    let mut session = up(start);
    let slow = Packet { required_min_rx: 400_000, desired_min_tx: 10_000_000, ..packet(State::Up) };
    session.receive(&slow, 255, start).unwrap();
    let done = pass(&mut session, start, SECOND * 4);
    assert!((10..=13).contains(&done.len()), "{}", done.len());
}

#[test]
fn a_session_that_is_held_down_from_the_start_says_so_first_and_comes_up_when_it_is_let() {
    let now = now();
    let discriminator = NonZeroU32::new(7).unwrap();
    let mut session = Session::new(Settings::default(), false, discriminator, 1, now).held_down();
    let [Action::Send(packet)] = session.tick(now)[..] else { panic!("nothing is said") };
    let packet = Packet::decode(&packet).unwrap();
    assert_eq!(packet.state, State::AdminDown);
    assert_eq!(packet.diagnostic, Diagnostic::ADMINISTRATIVELY_DOWN);
    let [Action::Send(packet)] = session.set_admin_down(false, now)[..] else { panic!("silence") };
    assert_eq!(Packet::decode(&packet).unwrap().state, State::Down);
}

#[test]
fn an_operator_takes_it_down_and_lets_it_come_up_again() {
    let start = now();
    let mut session = up(start);
    let actions = session.set_admin_down(true, start);
    let why = Diagnostic::ADMINISTRATIVELY_DOWN;
    assert_eq!(actions[0], Action::Down(why));
    assert_eq!((sent(&actions)[0].state, sent(&actions)[0].diagnostic), (State::AdminDown, why));
    assert_eq!(session.receive(&packet(State::Down), 255, start), Err(Discard::AdminDown));
    let done = pass(&mut session, start, SECOND * 10);
    assert!(done.len() >= 9, "it goes on telling the router");
    assert!(done.iter().all(|(_, action)| matches!(action, Action::Send(_))));
    let later = start + SECOND * 10;
    assert_eq!(session.set_admin_down(true, later), []);
    assert_eq!(sent(&session.set_admin_down(false, later))[0].state, State::Down);
    session.receive(&packet(State::Down), 255, later).unwrap();
    assert_eq!(session.state(), State::Init);
}

/// §6.8.3: an interval does not grow before the other end knows of it.
#[test]
fn slower_settings_hold_once_the_router_knows_of_them() {
    let start = now();
    let mut session = up(start);
    let slower = Settings {
        transmit_interval: MILLISECOND * 500,
        receive_interval: MILLISECOND * 20,
        ..settings()
    };
    session.reconfigure(slower, start);
    // The router still sends as slowly as this end said that it may.
    assert_eq!(session.detection_time(), Some(MILLISECOND * 150));
    let fast = pass(&mut session, start, MILLISECOND * 149);
    assert!(fast.len() >= 2, "{fast:?}");
    let said = sent(&[fast[0].1])[0];
    assert_eq!((said.poll, said.desired_min_tx, said.required_min_rx), (true, 500_000, 20_000));
    let later = start + MILLISECOND * 149;
    let answer = Packet { final_: true, desired_min_tx: 20_000, ..packet(State::Up) };
    session.receive(&answer, 255, later).unwrap();
    assert_eq!(session.detection_time(), Some(MILLISECOND * 60));
    assert!(session.deadline().unwrap() > later, "the next packet is not due at once");
    let slow = pass(&mut session, later, MILLISECOND * 59);
    assert_eq!(slow, []);
    assert_eq!(session.state(), State::Up);
}

/// Two sessions and a link that delays and, with some chance, loses packets.
struct Link {
    ends: [Session; 2],
    wire: Vec<(Instant, usize, Packet)>,
    chance: Jitter,
    now: Instant,
    /// One packet in so many is lost; zero for none, one for all.
    lost: u64,
    events: Vec<(Instant, usize, Action)>,
}

impl Link {
    fn new(seed: u64, settings: [Settings; 2]) -> Self {
        let now = now();
        let end = |index: usize| {
            let discriminator = NonZeroU32::new(u32::try_from(index).unwrap() + 1).unwrap();
            Session::new(settings[index], false, discriminator, seed + index as u64, now)
        };
        Self {
            ends: [end(0), end(1)],
            wire: Vec::new(),
            chance: Jitter::new(!seed),
            now,
            lost: 0,
            events: Vec::new(),
        }
    }

    fn act(&mut self, from: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(bytes) => {
                    let lost = self.lost != 0 && self.chance.next().is_multiple_of(self.lost);
                    if !lost {
                        let delay = self.chance.percent(MILLISECOND * 2, 1, 100);
                        let packet = Packet::decode(&bytes).unwrap();
                        self.wire.push((self.now + delay, 1 - from, packet));
                    }
                }
                event => self.events.push((self.now, from, event)),
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let arrival = self.wire.iter().map(|(time, ..)| *time).min();
            let timer = (0..2).filter_map(|end| Some((self.ends[end].deadline()?, end))).min();
            match (arrival, timer) {
                (Some(time), timer)
                    if time <= until && timer.is_none_or(|(timer, _)| time <= timer) =>
                {
                    let index = self.wire.iter().position(|(one, ..)| *one == time).unwrap();
                    let (time, to, packet) = self.wire.remove(index);
                    self.now = self.now.max(time);
                    let actions = self.ends[to].receive(&packet, 255, self.now).unwrap_or_default();
                    self.act(to, actions);
                }
                (_, Some((time, end))) if time <= until => {
                    self.now = self.now.max(time);
                    let actions = self.ends[end].tick(self.now);
                    self.act(end, actions);
                }
                _ => break,
            }
        }
        self.now = until;
    }

    fn states(&self) -> [State; 2] {
        self.ends.each_ref().map(Session::state)
    }
}

#[test]
fn two_ends_find_each_other_stay_up_and_notice_a_cut_within_the_detection_time() {
    let slow =
        Settings { transmit_interval: MILLISECOND * 300, detect_multiplier: 5, ..settings() };
    let passive = Settings { passive: true, ..settings() };
    for seed in 0..50 {
        for (other, detection) in [(settings(), 150), (slow, 1500), (passive, 150)] {
            let mut link = Link::new(seed, [settings(), other]);
            link.run(SECOND * 3);
            assert_eq!(link.states(), [State::Up; 2], "seed {seed}");
            assert_eq!(link.ends[0].detection_time(), Some(MILLISECOND * detection));
            link.events.clear();
            link.run(SECOND * 120);
            assert_eq!(link.events, [], "seed {seed}: nothing was lost");
            let cut = link.now;
            link.lost = 1;
            link.run(SECOND * 5);
            assert_eq!(link.states(), [State::Down; 2]);
            let (time, _, _) = link.events.iter().find(|(_, end, _)| *end == 0).unwrap();
            assert!(*time - cut <= MILLISECOND * (detection + 2), "seed {seed}: {:?}", *time - cut);
            link.lost = 0;
            link.run(SECOND * 5);
            assert_eq!(link.states(), [State::Up; 2], "seed {seed}");
        }
    }
}

#[test]
fn however_many_packets_are_lost_both_ends_come_up_once_the_link_is_good() {
    for seed in 0..50 {
        let mut link = Link::new(seed, [settings(), settings()]);
        link.lost = 2;
        link.run(SECOND * 60);
        link.lost = 0;
        link.run(SECOND * 5);
        assert_eq!(link.states(), [State::Up; 2], "seed {seed}");
        for end in 0..2 {
            let mut up = false;
            for (_, _, event) in link.events.iter().filter(|(_, one, _)| *one == end) {
                assert_ne!(std::mem::replace(&mut up, *event == Action::Up), up, "{event:?}");
            }
            assert!(up);
        }
    }
}

/// Checks what a session sends against §6.8.7: a packet that says nothing new comes no sooner after the one
/// before than the interval allows, less 25 % of jitter. Answers to a poll do not count, on either side.
struct Pacing {
    transmit_interval: Duration,
    /// What the router said last.
    required_min_rx: Duration,
    last: Option<(Instant, State)>,
}

impl Pacing {
    fn new(settings: Settings) -> Self {
        let transmit_interval = settings.transmit_interval;
        Self { transmit_interval, required_min_rx: Duration::ZERO, last: None }
    }

    fn check(&mut self, packet: &Packet, now: Instant) -> Result<(), String> {
        if packet.final_ {
            return Ok(());
        }
        let interval = match packet.state {
            State::Up => self.transmit_interval.max(self.required_min_rx),
            _ => self.transmit_interval.max(SECOND),
        };
        match self.last.replace((now, packet.state)) {
            Some((before, state)) if state == packet.state && now - before < interval * 3 / 4 => {
                Err(format!("{:?} after the last one: {packet:?}", now - before))
            }
            _ => Ok(()),
        }
    }
}

/// A router in demand mode, or one that can receive nothing, makes the periodic packets pause. What was due
/// meanwhile is not caught up on: one packet goes out at once, the next one an interval later.
#[test]
fn packets_that_paused_are_not_caught_up_on() {
    type Change = fn(&mut Packet);
    let changes: [Change; 2] = [|packet| packet.required_min_rx = 0, |packet| packet.demand = true];
    for change in changes {
        let start = now();
        let mut session = up(start);
        let mut pacing = Pacing::new(settings());
        // The router is not missed for as long as the pause lasts.
        let lasting = Packet { desired_min_tx: 10_000_000, ..packet(State::Up) };
        let mut pause = lasting;
        change(&mut pause);
        session.receive(&pause, 255, start).unwrap();
        assert_eq!(pass(&mut session, start, SECOND * 5), []);
        let later = start + SECOND * 5;
        session.receive(&lasting, 255, later).unwrap();
        let done = pass(&mut session, later, MILLISECOND * 95);
        assert_eq!(done[0].0, Duration::ZERO, "one is due at once (§6.8.2)");
        assert!((2..=3).contains(&done.len()), "{done:?}");
        for (time, action) in done {
            pacing.check(&sent(&[action])[0], later + time).unwrap();
        }
    }
}

/// The case that the property below once found: a router that asked for a long interval asks for a shorter
/// one, which has passed since the last packet. One packet goes out at once (§6.8.2), not one per interval.
#[test]
fn a_router_that_shortens_its_interval_gets_one_packet_at_once() {
    let mut time = now();
    let mut session = Session::new(settings(), false, NonZeroU32::new(7).unwrap(), 0, time);
    let (init, question) = (packet(State::Init), Packet { poll: true, ..packet(State::Up) });
    let script = [
        (init, 1, 1_130_001, 1_380_352, 554),
        (init, 1, 2_585_088, 3_414_784, 629 + 977 + 979),
        (init, 1, 810_001, 4_063_232, 810),
        (question, 105, 1_522_573_398, 674_254, 95),
    ];
    let mut done = Vec::new();
    for (packet, detect_multiplier, desired_min_tx, required_min_rx, milliseconds) in script {
        let packet = Packet { detect_multiplier, desired_min_tx, required_min_rx, ..packet };
        session.receive(&packet, 255, time).unwrap();
        done = pass(&mut session, time, MILLISECOND * milliseconds);
        time += MILLISECOND * milliseconds;
    }
    assert_eq!(done.len(), 1, "{done:?}");
    assert_eq!((done[0].0, sent(&[done[0].1]).len()), (Duration::ZERO, 1));
}

/// A session that was down already when the router fell silent goes back to its own interval as well.
#[test]
fn the_interval_that_a_router_asked_for_ends_when_the_router_is_forgotten() {
    let start = now();
    let mut session = session(settings(), start);
    assert_eq!(sent(&session.tick(start)).len(), 1);
    let slow = Packet { required_min_rx: u32::MAX, ..packet(State::Up) };
    assert_eq!(session.receive(&slow, 255, start), Ok(vec![]));
    let done = pass(&mut session, start, SECOND * 10);
    assert!((9..=14).contains(&done.len()), "{done:?}");
}

/// §6.8.7: a router that misses one packet takes this end for down, so no interval is longer than 90 %.
#[test]
fn with_a_multiplier_of_one_the_jitter_leaves_time_for_the_packet_to_arrive() {
    let start = now();
    for (multiplier, longest) in [(1, 900), (2, 1000)] {
        let settings = Settings { detect_multiplier: multiplier, ..settings() };
        let done = pass(&mut session(settings, start), start, SECOND * 600);
        let gaps: Vec<_> = done.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        let most = *gaps.iter().max().unwrap();
        assert!(gaps.iter().all(|gap| *gap >= MILLISECOND * 750));
        assert!(most <= MILLISECOND * longest && most > MILLISECOND * (longest - 20), "{most:?}");
    }
}

proptest! {
    /// Whatever packets come, and whenever: no panic, never stuck, never faster than allowed.
    #[test]
    fn a_session_survives_any_router(
        seed in any::<u64>(),
        script in proptest::collection::vec(
            (proptest::array::uniform24(any::<u8>()), any::<bool>(), 0..2000_u32), 1..80),
    ) {
        let mut time = now();
        let mut session =
            Session::new(settings(), false, NonZeroU32::new(7).unwrap(), seed, time);
        let mut pacing = Pacing::new(settings());
        for (mut bytes, ours, milliseconds) in script {
            (bytes[0], bytes[1], bytes[3]) = (bytes[0] & 0x1f | 0x20, bytes[1] & 0xfa, 24);
            if ours {
                bytes[8..12].copy_from_slice(&[0, 0, 0, 7]);
            }
            if let Ok(packet) = Packet::decode(&bytes)
                && let Ok(actions) = session.receive(&packet, 255, time)
            {
                prop_assert!(actions.len() <= 3, "{actions:?}");
                pacing.required_min_rx = Duration::from_micros(packet.required_min_rx.into());
                for packet in sent(&actions) {
                    prop_assert_eq!(pacing.check(&packet, time), Ok(()));
                }
            }
            for (after, action) in pass(&mut session, time, MILLISECOND * milliseconds) {
                for packet in sent(&[action]) {
                    prop_assert_eq!(pacing.check(&packet, time + after), Ok(()));
                }
            }
            time += MILLISECOND * milliseconds;
        }
    }
}
