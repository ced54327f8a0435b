//! What must hold of a BFD session whatever comes, and whenever: the target `bfd` of
//! [`fuzzing`](crate::testing::fuzzing).

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use crate::{
    bgp::bfd::{Action, Discard, LENGTH, Packet, Session, Settings, State},
    testing::fuzzing::Input,
};

const MS: Duration = Duration::from_millis(1);
const DISCRIMINATOR: NonZeroU32 = NonZeroU32::MIN;

/// What the owner of a session knows.
struct Ledger {
    session: Session,
    settings: Settings,
    multi_hop: bool,
    now: Instant,
    up: bool,
}

/// Settings and a script of packets and times.
pub(crate) fn session(data: &[u8], now: Instant) {
    let mut input = Input::new(data);
    let multi_hop = input.octet() & 1 != 0;
    let settings = settings(&mut input);
    let session = Session::new(settings, multi_hop, DISCRIMINATOR, 1, now);
    let mut ledger = Ledger { session, settings, multi_hop, now, up: false };
    while !input.is_empty() {
        ledger.step(&mut input);
    }
    // However it was left: without packets it goes down.
    ledger.does(|session, now| session.set_admin_down(false, now));
    if let Some(time) = ledger.session.detection_time() {
        ledger.now += time;
        ledger.ticks();
    }
    assert!(!ledger.up && ledger.session.detection_time().is_none());
}

/// As a profile may have them.
fn settings(input: &mut Input<'_>) -> Settings {
    let [transmit, receive, multiplier, flags] = input.octets();
    Settings {
        transmit_interval: MS * (10 + u32::from(transmit) * 235),
        receive_interval: MS * (10 + u32::from(receive) * 235),
        detect_multiplier: multiplier.max(2),
        passive: flags & 1 != 0,
        minimum_ttl: (flags / 2).max(1),
    }
}

impl Ledger {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.octet() % 8 {
            0..=2 => {
                let ttl = input.octet();
                self.hears(input.piece(), ttl);
            }
            3 => {
                // One that this end would send, but for a few fields.
                let [state, my, your, multiplier, flags] = input.octets();
                let packet = Packet {
                    diagnostic: crate::bgp::bfd::Diagnostic::NONE,
                    state: [State::AdminDown, State::Down, State::Init, State::Up]
                        [usize::from(state % 4)],
                    poll: flags & 1 != 0,
                    final_: flags & 2 != 0,
                    control_plane_independent: false,
                    demand: flags & 4 != 0,
                    detect_multiplier: multiplier,
                    my_discriminator: my.into(),
                    your_discriminator: (your % 3).into(),
                    desired_min_tx: u32::from_be_bytes(input.octets()),
                    required_min_rx: u32::from_be_bytes(input.octets()),
                    required_min_echo_rx: 0,
                };
                self.hears(&packet.encode(), 255);
            }
            4 => {
                let until = self.now + MS * 10 * input.octet().into();
                for _ in 0..1000 {
                    let due = self.session.deadline().filter(|deadline| *deadline <= until);
                    let Some(deadline) = due else { break };
                    self.now = self.now.max(deadline);
                    self.ticks();
                }
                self.now = self.now.max(until);
            }
            5 => {
                self.now += MS * 1000 * input.octet().into();
                self.ticks();
            }
            6 => {
                let down = input.octet() & 1 != 0;
                self.does(|session, now| session.set_admin_down(down, now));
            }
            _ => {
                self.settings = settings(input);
                self.session.reconfigure(self.settings, self.now);
            }
        }
    }

    fn hears(&mut self, payload: &[u8], ttl: u8) {
        let Ok(packet) = Packet::decode(payload) else { return };
        assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
        let before = format!("{:?}", self.session);
        let lowest = if self.multi_hop { self.settings.minimum_ttl } else { 255 };
        let stranger = ![0, DISCRIMINATOR.get()].contains(&packet.your_discriminator);
        match self.session.receive(&packet, ttl, self.now) {
            Ok(actions) => {
                assert!(ttl >= lowest && !stranger);
                self.note(actions);
            }
            Err(Discard::AdminDown) => assert_eq!(self.session.state(), State::AdminDown),
            Err(discard) => {
                assert!(if ttl < lowest { discard == Discard::Ttl } else { stranger });
                assert_eq!(format!("{:?}", self.session), before, "a discarded packet counts");
            }
        }
        self.check();
    }

    fn ticks(&mut self) {
        self.does(Session::tick);
        let next = self.session.deadline();
        assert!(next.is_none_or(|next| next > self.now), "due for ever: {:?}", self.session);
    }

    fn does(&mut self, what: impl FnOnce(&mut Session, Instant) -> Vec<Action>) {
        let actions = what(&mut self.session, self.now);
        self.note(actions);
        self.check();
    }

    fn note(&mut self, actions: Vec<Action>) {
        let mut sent = 0;
        for action in actions {
            match action {
                Action::Send(bytes) => {
                    sent += 1;
                    self.sent(&bytes);
                }
                Action::Up => assert!(!std::mem::replace(&mut self.up, true), "up twice"),
                Action::Down(_) => assert!(std::mem::take(&mut self.up), "down twice"),
            }
        }
        // One because something has changed, one because it was due or asked for.
        assert!(sent <= 2, "{sent} packets at a time");
    }

    fn sent(&self, bytes: &[u8; LENGTH]) {
        let packet = Packet::decode(bytes);
        let Ok(packet) = packet else { panic!("{bytes:?} is no packet: {packet:?}") };
        assert_eq!(packet.my_discriminator, DISCRIMINATOR.get());
        assert!(!(packet.poll && packet.final_), "question and answer in one");
        assert!(packet.state == State::Up || packet.desired_min_tx >= 1_000_000, "{packet:?}");
        assert!(!self.settings.passive || packet.your_discriminator != 0, "a passive end begins");
    }

    fn check(&self) {
        assert_eq!(self.session.state() == State::Up, self.up);
        // RFC 5880 §6.8.4: a router that cannot be missed would never be.
        assert!(!self.up || self.session.detection_time().is_some_and(|time| !time.is_zero()));
        assert!(!self.up || self.session.deadline().is_some());
    }
}
