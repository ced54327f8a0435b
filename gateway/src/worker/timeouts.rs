//! Who is waiting for whom, on every connection and in every exchange, and when patience ends.
//!
//! One timer per request would cost more than routing it. Instead everybody notes in a `Cell` since when
//! he has been waiting (ticks of the worker's coarse clock), and the worker's sweeper asks each of them a few
//! times a second for its [`ConnWatch::verdict`] or [`Exchange::verdict`]: pure functions of the notes, the
//! time and the limits. A verdict is written back and the task woken; the task ends itself.

use std::{
    cell::{Cell, RefCell},
    ops::Deref,
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

use crate::{
    config::Settings,
    worker::{clock::Tick, local_address::LocalAddress},
};

/// Protective timeouts, in milliseconds, `--time-scale` applied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// TLS handshake, from accept.
    pub(crate) handshake: Tick,
    /// First byte of the first request, from accept (or end of the handshake).
    pub(crate) first_byte: Tick,
    /// Whole head of a request, from its first byte.
    pub(crate) head: Tick,
    /// Between two requests of a connection.
    pub(crate) idle: Tick,
    /// Time that a client may spend sending a body before its rate is looked at.
    pub(crate) body_grace: Tick,
    /// Bytes per second below which a body is too slow, once the grace is over.
    pub(crate) body_rate: u64,
    /// A client that takes nothing of an answer that waits for it.
    pub(crate) stall: Tick,
    /// TCP connect to an endpoint.
    pub(crate) connect: Tick,
    /// Head of the backend's answer, and any pause within its body.
    pub(crate) upstream: Tick,
    /// An upgraded connection on which nothing moves.
    pub(crate) tunnel: Tick,
    /// An idle upstream connection.
    pub(crate) upstream_idle: Tick,
}

impl Limits {
    /// The limits under these settings.
    pub(crate) fn new(settings: &Settings) -> Self {
        let ticks =
            |seconds: u64| settings.scaled(Duration::from_secs(seconds)).as_millis() as Tick;
        Self {
            handshake: ticks(10),
            first_byte: ticks(10),
            head: ticks(10),
            idle: ticks(75),
            body_grace: ticks(10),
            body_rate: (240.0 / settings.time_scale) as u64,
            stall: settings.scaled(settings.stall_timeout).as_millis() as Tick,
            connect: ticks(5),
            upstream: settings.upstream_timeout.as_millis() as Tick,
            tunnel: ticks(3600),
            upstream_idle: ticks(60),
        }
    }
}

/// What a client connection is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No connection.
    #[default]
    Unused,
    /// TLS handshake under way.
    Handshake,
    /// Nothing received yet.
    FirstByte,
    /// Part of a head received (h2: a header block is open).
    Head,
    /// At least one request under way.
    Active,
    /// Between two requests.
    Idle,
    /// Upgraded: bytes pass both ways.
    Tunnel,
}

/// Why a connection or an exchange is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// The client was silent, or too slow with a handshake or a head.
    Silent,
    /// The client sends its body too slowly.
    SlowBody,
    /// The client does not take the answer.
    Stalled,
    /// The endpoint does not accept the connection.
    Connect,
    /// The backend does not answer.
    Upstream,
}

/// One client connection, as the sweeper sees it.
#[derive(Debug, Default)]
pub(crate) struct ConnWatch {
    phase: Cell<Phase>,
    since: Cell<Tick>,
    streams: Cell<u32>,
    address: RefCell<Option<Rc<LocalAddress>>>,
    expired: Cell<Option<Expiry>>,
    waker: RefCell<Option<Waker>>,
}

impl ConnWatch {
    /// Notes the local address of the connection.
    pub(crate) fn came_in_on(&self, address: &Rc<LocalAddress>) {
        self.address.replace(Some(Rc::clone(address)));
    }

    pub(crate) fn is_on(&self, address: &Rc<LocalAddress>) -> bool {
        self.address.borrow().as_ref().is_some_and(|own| Rc::ptr_eq(own, address))
    }

    /// Since when the connection is to end with what is under way.
    pub(crate) fn leaving(&self) -> Option<Tick> {
        self.address.borrow().as_ref().and_then(|address| address.leaving())
    }

    /// Ends the connection, whatever is under way.
    pub(crate) fn expire(&self) {
        self.expired.set(Some(Expiry::Silent));
        self.wake();
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub(crate) fn enter(&self, phase: Phase, now: Tick) {
        self.phase.set(phase);
        self.since.set(now);
    }

    /// A request begins; the connection is active until as many ended.
    pub(crate) fn request_begins(&self, now: Tick) {
        self.streams.set(self.streams.get() + 1);
        self.enter(Phase::Active, now);
    }

    /// A request and its answer are over.
    pub(crate) fn request_ends(&self, now: Tick) {
        let left = self.streams.get().saturating_sub(1);
        self.streams.set(left);
        if left == 0 && self.phase.get() != Phase::Tunnel {
            self.enter(Phase::Idle, now);
        }
    }

    /// True while a request is under way.
    pub(crate) fn busy(&self) -> bool {
        self.streams.get() > 0
    }

    /// Whether patience has ended by `now`.
    fn verdict(&self, now: Tick, limits: &Limits) -> Option<Expiry> {
        let limit = match self.phase.get() {
            Phase::Handshake => limits.handshake,
            Phase::FirstByte => limits.first_byte,
            Phase::Head => limits.head,
            Phase::Idle => limits.idle,
            Phase::Tunnel => limits.tunnel,
            Phase::Unused | Phase::Active => return None,
        };
        (now.saturating_sub(self.since.get()) >= limit).then_some(Expiry::Silent)
    }

    pub(crate) fn expired(&self) -> Option<Expiry> {
        self.expired.get()
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Notes which task to wake.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        register(&self.waker, cx);
    }
}

/// One request and its answer, as the sweeper sees them.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    receiving_since: Cell<Option<Tick>>,
    receiving_total: Cell<Tick>,
    received: Cell<u64>,
    offering_since: Cell<Option<Tick>>,
    upstream_since: Cell<Option<(Tick, Expiry)>>,
    broken_off: Cell<bool>,
    expired: Cell<Option<Expiry>>,
    waker: RefCell<Option<Waker>>,
}

impl Watched for ConnWatch {
    fn sweep(&self, now: Tick, limits: &Limits) {
        if self.expired.get().is_none() && self.verdict(now, limits).is_some() {
            self.expire();
        }
    }

    fn reset(&self) {
        self.phase.set(Phase::Unused);
        self.streams.set(0);
        self.address.take();
        self.expired.set(None);
        self.waker.take();
    }
}

impl Watched for Exchange {
    fn sweep(&self, now: Tick, limits: &Limits) {
        if self.expired.get().is_none()
            && let Some(expiry) = self.verdict(now, limits)
        {
            self.expired.set(Some(expiry));
            if let Some(waker) = &*self.waker.borrow() {
                waker.wake_by_ref();
            }
        }
    }

    fn reset(&self) {
        self.begin();
        self.waker.take();
    }
}

impl Exchange {
    /// Forgets the previous exchange of the connection.
    pub(crate) fn begin(&self) {
        self.receiving_since.set(None);
        self.receiving_total.set(0);
        self.received.set(0);
        self.offering_since.set(None);
        self.upstream_since.set(None);
        self.broken_off.set(false);
        self.expired.set(None);
    }

    /// We wait for more of the request's body.
    pub(crate) fn body_awaited(&self, now: Tick) {
        if self.receiving_since.get().is_none() {
            self.receiving_since.set(Some(now));
        }
    }

    /// A part of the request's body came.
    pub(crate) fn body_received(&self, bytes: usize, now: Tick) {
        self.received.set(self.received.get() + bytes as u64);
        if let Some(since) = self.receiving_since.take() {
            self.receiving_total.set(self.receiving_total.get() + now.saturating_sub(since));
        }
    }

    /// The request's body is complete, or nobody wants it any more.
    pub(crate) fn body_over(&self) {
        self.receiving_since.set(None);
    }

    /// The client broke its body off.
    pub(crate) fn break_off(&self) {
        self.broken_off.set(true);
    }

    /// Whether the client broke its body off.
    pub(crate) fn broken_off(&self) -> bool {
        self.broken_off.get()
    }

    /// Body bytes received so far.
    pub(crate) fn received(&self) -> u64 {
        self.received.get()
    }

    /// A part of the answer is ready; from now on the client is the one who is waited for.
    pub(crate) fn answer_offered(&self, now: Tick) {
        if self.offering_since.get().is_none() {
            self.offering_since.set(Some(now));
        }
    }

    /// The client took what was offered.
    pub(crate) fn answer_taken(&self) {
        self.offering_since.set(None);
    }

    /// We wait for the backend; `expiry` says for what.
    pub(crate) fn upstream_awaited(&self, now: Tick, expiry: Expiry) {
        match self.upstream_since.get() {
            Some((_, old)) if old == expiry => (),
            _ => self.upstream_since.set(Some((now, expiry))),
        }
    }

    /// The backend delivered.
    pub(crate) fn upstream_delivered(&self) {
        self.upstream_since.set(None);
    }

    /// Whether somebody's patience has ended by `now`.
    ///
    /// While a client still owes parts of its body, a silent backend is not to blame: it may be waiting
    /// for the same bytes.
    fn verdict(&self, now: Tick, limits: &Limits) -> Option<Expiry> {
        if let Some(since) = self.receiving_since.get() {
            let spent = self.receiving_total.get() + now.saturating_sub(since);
            if spent >= limits.body_grace && self.received.get() * 1000 < limits.body_rate * spent {
                return Some(Expiry::SlowBody);
            }
        } else if let Some((since, expiry)) = self.upstream_since.get() {
            let limit = if expiry == Expiry::Connect { limits.connect } else { limits.upstream };
            if now.saturating_sub(since) >= limit {
                return Some(expiry);
            }
        }
        let since = self.offering_since.get()?;
        (now.saturating_sub(since) >= limits.stall).then_some(Expiry::Stalled)
    }

    pub(crate) fn expired(&self) -> Option<Expiry> {
        self.expired.get()
    }

    /// Takes note that the expiry was acted upon and the exchange goes on (a retry).
    pub(crate) fn pardon(&self) {
        self.expired.set(None);
        self.upstream_since.set(None);
    }

    /// Notes which task to wake.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        register(&self.waker, cx);
    }
}

/// What the sweeper of a worker looks after.
pub(crate) trait Watched: Default {
    /// Writes a verdict back and wakes the task, if patience has ended.
    fn sweep(&self, now: Tick, limits: &Limits);
    /// Forgets everything: the next one begins.
    fn reset(&self);
}

/// All watched things of one kind on one worker. Places are used again at once, so that a busy worker works
/// on the same few cache lines.
pub(crate) struct Registry<T> {
    all: Vec<Rc<T>>,
    free: Vec<usize>,
}

impl<T: Watched> Registry<T> {
    pub(crate) fn new() -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self { all: Vec::new(), free: Vec::new() }))
    }

    /// Looks at all of them.
    pub(crate) fn sweep(&self, now: Tick, limits: &Limits) {
        for watched in &self.all {
            watched.sweep(now, limits);
        }
    }

    /// All of them, places that are free included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.all.iter().map(|watched| &**watched)
    }
}

/// A watched thing, for as long as this lives.
pub(crate) struct Registered<T: Watched> {
    watched: Rc<T>,
    place: usize,
    registry: Rc<RefCell<Registry<T>>>,
}

impl<T: Watched> Registered<T> {
    pub(crate) fn new(registry: &Rc<RefCell<Registry<T>>>) -> Self {
        let mut all = registry.borrow_mut();
        let place = all.free.pop().unwrap_or(all.all.len());
        if place == all.all.len() {
            all.all.push(Rc::default());
        }
        let watched = Rc::clone(&all.all[place]);
        Self { watched, place, registry: Rc::clone(registry) }
    }

    /// The thing itself, to be shared by those who leave notes.
    pub(crate) fn share(&self) -> Rc<T> {
        Rc::clone(&self.watched)
    }
}

impl<T: Watched> Deref for Registered<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.watched
    }
}

impl<T: Watched> Drop for Registered<T> {
    fn drop(&mut self) {
        let mut registry = self.registry.borrow_mut();
        // Whoever still holds on to it (a body that the backend has not let go of) keeps the old one.
        if Rc::strong_count(&self.watched) > 2 {
            registry.all[self.place] = Rc::default();
        } else {
            self.watched.reset();
        }
        registry.free.push(self.place);
    }
}

fn register(slot: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    let mut slot = slot.borrow_mut();
    match &*slot {
        Some(waker) if waker.will_wake(cx.waker()) => (),
        _ => *slot = Some(cx.waker().clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            handshake: 10_000,
            first_byte: 10_000,
            head: 10_000,
            idle: 75_000,
            body_grace: 10_000,
            body_rate: 240,
            stall: 30_000,
            connect: 5_000,
            upstream: 60_000,
            tunnel: 3_600_000,
            upstream_idle: 60_000,
        }
    }

    #[test]
    fn each_phase_of_a_connection_has_its_own_patience() {
        for (phase, limit) in [
            (Phase::Handshake, 10_000),
            (Phase::FirstByte, 10_000),
            (Phase::Head, 10_000),
            (Phase::Idle, 75_000),
            (Phase::Tunnel, 3_600_000),
        ] {
            let watch = ConnWatch::default();
            watch.enter(phase, 500);
            assert_eq!(watch.verdict(499 + limit, &limits()), None, "{phase:?}");
            assert_eq!(watch.verdict(500 + limit, &limits()), Some(Expiry::Silent), "{phase:?}");
        }
    }

    #[test]
    fn a_connection_with_a_request_under_way_is_left_to_the_exchange() {
        let watch = ConnWatch::default();
        watch.enter(Phase::FirstByte, 0);
        watch.request_begins(0);
        watch.request_begins(0);
        watch.request_ends(5);
        assert_eq!(watch.verdict(Tick::MAX, &limits()), None);
        watch.request_ends(1_000);
        assert_eq!(watch.verdict(76_000, &limits()), Some(Expiry::Silent));
    }

    #[test]
    fn a_place_is_used_again_unless_somebody_still_holds_on_to_it() {
        let registry = Registry::<Exchange>::new();
        let first = Registered::new(&registry);
        first.answer_offered(1);
        let address = Rc::as_ptr(&first.share());
        drop(first);
        let second = Registered::new(&registry);
        assert_eq!(Rc::as_ptr(&second.share()), address);
        assert_eq!(second.verdict(Tick::MAX, &limits()), None, "notes are forgotten");
        let body = second.share();
        drop(second);
        let third = Registered::new(&registry);
        body.answer_offered(1);
        assert_eq!(third.verdict(Tick::MAX, &limits()), None, "notes of the old one");
    }

    #[test]
    fn a_body_above_the_minimum_rate_may_take_for_ever() {
        let exchange = Exchange::default();
        for second in 0..1_000 {
            exchange.body_awaited(second * 1_000);
            assert_eq!(exchange.verdict(second * 1_000 + 999, &limits()), None, "second {second}");
            exchange.body_received(300, second * 1_000 + 1_000);
        }
    }

    #[test]
    fn a_dripping_body_ends_after_the_grace() {
        let exchange = Exchange::default();
        let mut now = 0;
        while exchange.verdict(now, &limits()).is_none() {
            exchange.body_awaited(now);
            now += 500;
            if exchange.verdict(now, &limits()).is_none() {
                exchange.body_received(1, now);
            }
        }
        assert_eq!(now, 10_000);
        assert_eq!(exchange.verdict(now, &limits()), Some(Expiry::SlowBody));
    }

    #[test]
    fn time_that_the_backend_takes_does_not_count_against_the_client() {
        let exchange = Exchange::default();
        exchange.body_awaited(0);
        exchange.body_received(10, 100);
        assert_eq!(exchange.verdict(50_000, &limits()), None);
        exchange.body_awaited(50_000);
        assert_eq!(exchange.verdict(59_000, &limits()), None);
        assert_eq!(exchange.verdict(60_000, &limits()), Some(Expiry::SlowBody));
    }

    #[test]
    fn a_client_that_takes_nothing_is_stalled_and_a_silent_backend_is_upstream() {
        let exchange = Exchange::default();
        exchange.answer_offered(0);
        assert_eq!(exchange.verdict(29_999, &limits()), None);
        assert_eq!(exchange.verdict(30_000, &limits()), Some(Expiry::Stalled));
        exchange.answer_taken();
        exchange.upstream_awaited(30_000, Expiry::Connect);
        assert_eq!(exchange.verdict(35_000, &limits()), Some(Expiry::Connect));
        exchange.upstream_awaited(36_000, Expiry::Upstream);
        assert_eq!(exchange.verdict(95_999, &limits()), None);
        assert_eq!(exchange.verdict(96_000, &limits()), Some(Expiry::Upstream));
    }
}
