//! The BFD session with one router (RFC 5880 §6.8), asynchronous mode.
//!
//! The speaker hands it packets by [`Session::receive`], calls [`Session::tick`] no later than
//! [`Session::deadline`], and does what comes out. Pure: no clock, no socket, chance only from the
//! seed. Names of state variables are the RFC's, without `bfd.`.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use super::{
    packet::{Diagnostic, Discard, LENGTH, Packet, State},
    settings::Settings,
};
use crate::bgp::jitter::Jitter;

/// §6.8.3: no session that is not up sends more often than this.
const SLOW: Duration = Duration::from_secs(1);

/// What a session wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this payload.
    Send([u8; LENGTH]),
    /// The router is there.
    Up,
    /// The router was there, and is not any more.
    Down(Diagnostic),
}

/// What may change the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// A packet whose sender is in this state.
    Heard(State),
    /// The detection time has passed.
    Expired,
}

/// The BFD session with one router.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    multi_hop: bool,
    jitter: Jitter,
    session_state: State,
    remote_state: State,
    local_discr: NonZeroU32,
    /// Zero if the router's is not known.
    remote_discr: u32,
    local_diag: Diagnostic,
    /// What is announced; while a poll is going on, `tx_interval` may still be the one before.
    desired_min_tx: Duration,
    tx_interval: Duration,
    /// In effect for the detection time, as `tx_interval` is for sending.
    rx_interval: Duration,
    remote_min_rx: Duration,
    remote_min_tx: Duration,
    remote_detect_mult: u8,
    remote_demand: bool,
    /// A poll sequence is going on.
    polling: bool,
    /// When the last packet came; `None` if none came for the detection time.
    heard: Option<Instant>,
    /// When to send the next periodic packet.
    next: Instant,
    /// When the last packet but for answers was sent.
    sent: Option<Instant>,
    /// The interval, before jitter, that `next` goes by.
    scheduled: Duration,
}

impl Session {
    /// A session that begins now. `discriminator` must not be that of another session on this node;
    /// `seed` should differ from session to session.
    pub fn new(
        settings: Settings,
        multi_hop: bool,
        discriminator: NonZeroU32,
        seed: u64,
        now: Instant,
    ) -> Self {
        let slow = settings.transmit_interval.max(SLOW);
        Self {
            settings,
            multi_hop,
            jitter: Jitter::new(seed),
            session_state: State::Down,
            remote_state: State::Down,
            local_discr: discriminator,
            remote_discr: 0,
            local_diag: Diagnostic::NONE,
            desired_min_tx: slow,
            tx_interval: slow,
            rx_interval: settings.receive_interval,
            // §6.8.1
            remote_min_rx: Duration::from_micros(1),
            remote_min_tx: Duration::ZERO,
            remote_detect_mult: 0,
            remote_demand: false,
            polling: false,
            heard: None,
            next: now,
            sent: None,
            scheduled: slow,
        }
    }

    /// The same, but taken down on purpose, which is the first thing that the router hears.
    pub fn held_down(mut self) -> Self {
        self.session_state = State::AdminDown;
        self.local_diag = Diagnostic::ADMINISTRATIVELY_DOWN;
        self
    }

    /// Takes a packet of the router's that came with this TTL or hop limit.
    pub fn receive(
        &mut self,
        packet: &Packet,
        ttl: u8,
        now: Instant,
    ) -> Result<Vec<Action>, Discard> {
        // RFC 5881 §5: no host beyond the link can send with 255.
        let lowest = if self.multi_hop { self.settings.minimum_ttl } else { u8::MAX };
        if ttl < lowest {
            return Err(Discard::Ttl);
        }
        if ![0, self.local_discr.get()].contains(&packet.your_discriminator) {
            return Err(Discard::Discriminator);
        }
        self.remote_discr = packet.my_discriminator;
        self.remote_state = packet.state;
        self.remote_demand = packet.demand;
        self.remote_min_rx = Duration::from_micros(packet.required_min_rx.into());
        self.remote_min_tx = Duration::from_micros(packet.desired_min_tx.into());
        self.remote_detect_mult = packet.detect_multiplier;
        if self.polling && packet.final_ {
            self.end_poll();
        }
        if self.session_state == State::AdminDown {
            return Err(Discard::AdminDown);
        }
        self.heard = Some(now);
        let mut out = Vec::new();
        let diagnostic = Diagnostic::NEIGHBOR_SIGNALED_DOWN;
        self.enter(next(self.session_state, Input::Heard(packet.state)), diagnostic, now, &mut out);
        if packet.poll {
            // §6.8.7: at once, whatever the timers say.
            out.push(self.packet(false, true));
        }
        // §6.8.2: the router may have asked for another interval.
        self.reschedule(now);
        Ok(out)
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) -> Vec<Action> {
        let mut out = Vec::new();
        if self.detection_deadline().is_some_and(|deadline| deadline <= now) {
            // §6.8.1: the router has to introduce itself again.
            self.heard = None;
            self.remote_discr = 0;
            self.remote_min_rx = Duration::from_micros(1);
            self.remote_demand = false;
            let expired = Diagnostic::DETECTION_TIME_EXPIRED;
            self.enter(next(self.session_state, Input::Expired), expired, now, &mut out);
            // The interval that the router asked for is forgotten with the router.
            self.reschedule(now);
        }
        if self.periodic() && self.next <= now {
            self.send(now, &mut out);
        }
        out
    }

    /// When [`Session::tick`] is due at the latest; `None`: not until a packet comes.
    pub fn deadline(&self) -> Option<Instant> {
        let next = self.periodic().then_some(self.next);
        [self.detection_deadline(), next].into_iter().flatten().min()
    }

    /// Takes the session down on purpose, which tells the router that nothing is wrong (§6.8.16), or
    /// lets it come up again. The caller goes on sending for a detection time before it forgets it.
    pub fn set_admin_down(&mut self, down: bool, now: Instant) -> Vec<Action> {
        let mut out = Vec::new();
        let held = self.session_state == State::AdminDown;
        if down && !held {
            self.enter(State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN, now, &mut out);
        } else if !down && held {
            self.enter(State::Down, Diagnostic::NONE, now, &mut out);
        }
        out
    }

    /// Changes the settings without letting the session go down (§6.8.3).
    pub fn reconfigure(&mut self, settings: Settings, now: Instant) {
        let up = self.session_state == State::Up;
        self.settings = settings;
        self.desired_min_tx = self.wanted_tx();
        // A slower interval holds once the router knows of it; a faster one, or one that the router does
        // not rely on yet, holds at once.
        if !up || self.desired_min_tx < self.tx_interval {
            self.tx_interval = self.desired_min_tx;
        }
        if !up || settings.receive_interval > self.rx_interval {
            self.rx_interval = settings.receive_interval;
        }
        self.polling |= up;
        self.reschedule(now);
    }

    /// State of this end.
    pub fn state(&self) -> State {
        self.session_state
    }

    /// State that the router last said it was in.
    pub fn remote_state(&self) -> State {
        self.remote_state
    }

    /// Why this end last went down.
    pub fn diagnostic(&self) -> Diagnostic {
        self.local_diag
    }

    /// This end's name for the session.
    pub fn discriminator(&self) -> NonZeroU32 {
        self.local_discr
    }

    /// How long the router may be silent (§6.8.4); `None` before it has said anything.
    pub fn detection_time(&self) -> Option<Duration> {
        self.heard?;
        let interval = self.rx_interval.max(self.remote_min_tx);
        Some(interval * u32::from(self.remote_detect_mult))
    }

    fn detection_deadline(&self) -> Option<Instant> {
        Some(self.heard? + self.detection_time()?)
    }

    /// Goes to a state, and tells both the router and the caller if it is another one.
    fn enter(&mut self, to: State, diagnostic: Diagnostic, now: Instant, out: &mut Vec<Action>) {
        let from = std::mem::replace(&mut self.session_state, to);
        if from == to {
            return;
        }
        if to <= State::Down {
            self.local_diag = diagnostic;
            self.polling = false;
        }
        self.desired_min_tx = self.wanted_tx();
        self.tx_interval = self.desired_min_tx;
        self.rx_interval = self.settings.receive_interval;
        // §6.8.3: another interval is agreed on by a poll.
        self.polling |= to == State::Up;
        match (from, to) {
            (_, State::Up) => out.push(Action::Up),
            (State::Up, _) => out.push(Action::Down(diagnostic)),
            _ => {}
        }
        // §6.8.7: the router should know now, not at the next interval.
        if self.may_send() {
            self.send(now, out);
        }
    }

    fn end_poll(&mut self) {
        self.polling = false;
        self.tx_interval = self.desired_min_tx;
        self.rx_interval = self.settings.receive_interval;
    }

    fn wanted_tx(&self) -> Duration {
        let wanted = self.settings.transmit_interval;
        if self.session_state == State::Up { wanted } else { wanted.max(SLOW) }
    }

    /// §6.8.7: a passive end does not speak until it is spoken to.
    fn may_send(&self) -> bool {
        !self.settings.passive || self.remote_discr != 0
    }

    /// Whether packets are sent periodically.
    fn periodic(&self) -> bool {
        let quiet = self.remote_demand
            && self.session_state == State::Up
            && self.remote_state == State::Up
            && !self.polling;
        self.may_send() && !self.remote_min_rx.is_zero() && !quiet
    }

    /// §6.8.7: the interval from packet to packet, before jitter.
    fn interval(&self) -> Duration {
        self.tx_interval.max(self.remote_min_rx)
    }

    /// The same, shortened by chance.
    fn jittered(&mut self) -> Duration {
        let highest = if self.settings.detect_multiplier == 1 { 90 } else { 100 };
        self.scheduled = self.interval();
        self.jitter.percent(self.scheduled, 75, highest)
    }

    fn send(&mut self, now: Instant, out: &mut Vec<Action>) {
        out.push(self.packet(self.polling, false));
        self.sent = Some(now);
        self.next = now + self.jittered();
    }

    /// §6.8.2, §6.8.3: an interval that has changed counts from the last packet on.
    fn reschedule(&mut self, now: Instant) {
        if self.interval() != self.scheduled {
            let interval = self.jittered();
            self.next = self.sent.map_or(now, |sent| sent + interval);
        }
    }

    /// A packet that says how things are; never a question and an answer in one (§6.5).
    fn packet(&self, poll: bool, final_: bool) -> Action {
        let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        let packet = Packet {
            diagnostic: self.local_diag,
            state: self.session_state,
            poll,
            final_,
            control_plane_independent: false,
            demand: false,
            detect_multiplier: self.settings.detect_multiplier,
            my_discriminator: self.local_discr.get(),
            your_discriminator: self.remote_discr,
            desired_min_tx: micros(self.desired_min_tx),
            required_min_rx: micros(self.settings.receive_interval),
            required_min_echo_rx: 0,
        };
        Action::Send(packet.encode())
    }
}

/// The state machine of §6.2 and §6.8.6.
fn next(state: State, input: Input) -> State {
    match (state, input) {
        (State::AdminDown, _) => State::AdminDown,
        (_, Input::Heard(State::AdminDown) | Input::Expired) => State::Down,
        (State::Down, Input::Heard(State::Down)) => State::Init,
        (State::Down, Input::Heard(State::Init)) => State::Up,
        (State::Down, Input::Heard(State::Up)) => State::Down,
        (State::Init, Input::Heard(State::Down)) => State::Init,
        (State::Init, Input::Heard(State::Init | State::Up)) => State::Up,
        (State::Up, Input::Heard(State::Down)) => State::Down,
        (State::Up, Input::Heard(State::Init | State::Up)) => State::Up,
    }
}

#[cfg(test)]
mod tests;
