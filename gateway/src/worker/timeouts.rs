//! The timeout table: since when each connection and each request waits, for what, and for how long it may.
//!
//! One timer per request would cost more than routing it. Instead each connection and each request notes in
//! a `Cell` since when it has been waiting (ticks of the worker's coarse clock). The worker's sweeper calls
//! [`ConnTimers::check`] and [`RequestTimers::check`] a few times a second: pure functions of the notes, the
//! time and the limits. The sweeper writes an expiry back and wakes the task; the task ends itself.

use std::{
    cell::{Cell, RefCell},
    ops::Deref,
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

use gatehouse_routes::policy::timeouts::Timeouts;

use crate::{
    config::Settings,
    worker::{
        clock::Tick,
        local_address::{Closed, LocalAddress},
    },
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
    /// How far a client may fall behind the rate of its body.
    pub(crate) body_grace: Tick,
    /// Bytes per second that a client sends of its body; 0: any byte will do.
    pub(crate) body_rate: u64,
    /// A backend that does not answer a client which has ended its half.
    pub(crate) client_ended: Tick,
    /// A client that takes nothing of an answer that waits for it.
    pub(crate) stall: Tick,
    /// TCP connect to an endpoint.
    pub(crate) connect: Tick,
    /// TCP connect to an endpoint after which others are preferred to it.
    pub(crate) connect_slow: Tick,
    /// TCP connect to an endpoint, from then on, where another one may be tried.
    pub(crate) connect_try: Tick,
    /// How long a request may go from one endpoint to the next.
    pub(crate) tries: Tick,
    /// Head of the backend's answer, and any pause within its body.
    pub(crate) upstream: Tick,
    /// An upgraded connection on which nothing moves.
    pub(crate) tunnel: Tick,
    /// A tunnel on which nothing moves, before its peers are asked whether they are still there.
    pub(crate) quiet: Tick,
    /// An idle upstream connection.
    pub(crate) upstream_idle: Tick,
    /// An endpoint whose connects fail gets no requests at first.
    pub(crate) ejection: Tick,
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
            body_grace: settings.scaled(settings.bodies.body_timeout).as_millis() as Tick,
            body_rate: (settings.bodies.body_rate as f64 / settings.time_scale) as u64,
            client_ended: ticks(10),
            stall: settings.scaled(settings.stall_timeout).as_millis() as Tick,
            connect: ticks(5),
            connect_slow: ticks(1) / 4,
            connect_try: ticks(1) * 3 / 4,
            tries: ticks(5),
            upstream: settings.upstream_timeout.as_millis() as Tick,
            tunnel: ticks(3600),
            quiet: ticks(2),
            upstream_idle: ticks(60),
            ejection: ticks(1),
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

/// Why a connection or a request is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// The client was silent, or too slow with a handshake or a head.
    Silent,
    /// The client sends its body too slowly.
    SlowBody,
    /// The client does not take the answer.
    Stalled,
    /// The client has ended its half, and the backend does not answer.
    Gone,
    /// The endpoint does not accept the connection at once.
    SlowConnect,
    /// The endpoint does not accept the connection while there are others.
    TryConnect,
    /// The endpoint does not accept the connection.
    Connect,
    /// The backend takes nothing of the request's body.
    Sending,
    /// The backend does not answer.
    Upstream,
}

/// The timers of one client connection.
#[derive(Debug, Default)]
pub(crate) struct ConnTimers {
    phase: Cell<Phase>,
    since: Cell<Tick>,
    streams: Cell<u32>,
    /// How long nothing may move in a tunnel, where an object says so.
    tunnel: Cell<Option<Tick>>,
    /// Nothing has moved in a tunnel for a while, at least once.
    quiet: Cell<bool>,
    address: RefCell<Option<Rc<LocalAddress>>>,
    listener: RefCell<Option<Rc<Closed>>>,
    expired: Cell<Option<Expiry>>,
    waker: RefCell<Option<Waker>>,
}

impl ConnTimers {
    /// Notes the local address of the connection, and its listener.
    pub(crate) fn came_in_on(&self, address: &Rc<LocalAddress>, listener: &Rc<Closed>) {
        self.address.replace(Some(Rc::clone(address)));
        self.listener.replace(Some(Rc::clone(listener)));
    }

    pub(crate) fn is_on(&self, address: &Rc<LocalAddress>) -> bool {
        self.address.borrow().as_ref().is_some_and(|own| Rc::ptr_eq(own, address))
    }

    /// Since when the connection is to end with what is under way.
    pub(crate) fn leaving(&self) -> Option<Tick> {
        let address = self.address.borrow().as_ref().and_then(|address| address.leaving());
        address.or_else(|| self.listener.borrow().as_ref()?.get())
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

    /// The connection becomes a tunnel, which ends where nothing moves for as long.
    pub(crate) fn becomes_tunnel(&self, idle: Option<Tick>, now: Tick) {
        self.tunnel.set(idle);
        self.enter(Phase::Tunnel, now);
    }

    /// Whether a tunnel has once been quiet. Most end before that.
    pub(crate) fn was_quiet(&self) -> bool {
        self.quiet.get()
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

    /// The deadline that has passed by `now`.
    fn check(&self, now: Tick, limits: &Limits) -> Option<Expiry> {
        let limit = match self.phase.get() {
            Phase::Handshake => limits.handshake,
            Phase::FirstByte => limits.first_byte,
            Phase::Head => limits.head,
            Phase::Idle => limits.idle,
            Phase::Tunnel => self.tunnel.get().unwrap_or(limits.tunnel),
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

/// The timers of one request and its answer.
#[derive(Debug, Default)]
pub(crate) struct RequestTimers {
    receiving_since: Cell<Option<Tick>>,
    /// How far the client is behind the rate of its body, but for what it has sent since then.
    behind: Cell<Tick>,
    caught_up: Cell<u64>,
    received: Cell<u64>,
    offering_since: Cell<Option<Tick>>,
    upstream_since: Cell<Option<(Tick, Expiry)>>,
    ended_since: Cell<Option<Tick>>,
    broken_off: Cell<Option<BrokenOff>>,
    body_held: Cell<bool>,
    /// What the object of the request says instead of the process.
    own: Cell<Option<Timeouts>>,
    /// Both sides send when they like: neither owes the other anything but a sign of life.
    both_ways: Cell<bool>,
    expired: Cell<Option<Expiry>>,
    waker: RefCell<Option<Waker>>,
}

/// Why a request's body ends before it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrokenOff {
    /// The client broke it off.
    ByClient,
    /// It is larger than its rule allows.
    TooLarge,
    /// What was kept of it cannot be read.
    Unread,
}

impl Timers for ConnTimers {
    fn sweep(&self, now: Tick, limits: &Limits) {
        if self.expired.get().is_none() && self.check(now, limits).is_some() {
            self.expire();
        }
        let quiet = now.saturating_sub(self.since.get()) >= limits.quiet;
        if quiet && self.phase.get() == Phase::Tunnel && !self.quiet.replace(true) {
            self.wake();
        }
    }

    fn reset(&self) {
        self.phase.set(Phase::Unused);
        self.streams.set(0);
        self.tunnel.set(None);
        self.quiet.set(false);
        self.address.take();
        self.expired.set(None);
        self.waker.take();
    }
}

impl Timers for RequestTimers {
    fn sweep(&self, now: Tick, limits: &Limits) {
        if self.expired.get().is_none()
            && let Some(expiry) = self.check(now, limits)
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

impl RequestTimers {
    /// Forgets the previous request of the connection.
    pub(crate) fn begin(&self) {
        self.receiving_since.set(None);
        self.behind.set(0);
        self.caught_up.set(0);
        self.received.set(0);
        self.offering_since.set(None);
        self.upstream_since.set(None);
        self.ended_since.set(None);
        self.broken_off.set(None);
        self.body_held.set(false);
        self.own.set(None);
        self.both_ways.set(false);
        self.expired.set(None);
    }

    /// From here on times are the object's, as far as it says any.
    pub(crate) fn own(&self, timeouts: Timeouts) {
        self.own.set(Some(timeouts));
    }

    /// How long nothing may move in the tunnel that the request becomes, if its object says so.
    pub(crate) fn tunnel(&self) -> Option<Tick> {
        self.own.get()?.tunnel.map(ticks)
    }

    /// A deadline that has passed does not count for what is asked now.
    pub(crate) fn go_on(&self) {
        self.upstream_since.set(None);
        self.expired.set(None);
    }

    /// We wait for more of the request's body.
    pub(crate) fn body_awaited(&self, now: Tick) {
        if self.receiving_since.get().is_none() && !self.both_ways.get() {
            self.receiving_since.set(Some(now));
        }
    }

    /// A part of the request's body came.
    pub(crate) fn body_received(&self, bytes: usize, now: Tick) {
        self.received.set(self.received.get() + bytes as u64);
        self.caught_up.set(self.caught_up.get() + bytes as u64);
        if let Some(since) = self.receiving_since.take() {
            self.behind.set(self.behind.get() + now.saturating_sub(since));
        }
        self.body_taken(now);
    }

    /// The backend took a part of the request's body.
    pub(crate) fn body_taken(&self, now: Tick) {
        if self.upstream_since.get().is_some() {
            self.upstream_since.set(Some((now, Expiry::Sending)));
        }
    }

    /// The request's body is a conversation with the answer: a client that waits is not too slow, and the backend is
    /// waited for from the last word on.
    pub(crate) fn go_both_ways(&self) {
        self.both_ways.set(true);
        self.receiving_since.set(None);
    }

    /// The body is not to be asked for before the backend wants it.
    pub(crate) fn hold_body(&self, held: bool) {
        self.body_held.set(held);
    }

    /// Whether the body is not to be asked for.
    pub(crate) fn body_held(&self) -> bool {
        self.body_held.get()
    }

    /// The request's body is complete, or nobody wants it any more: it is the backend's turn.
    pub(crate) fn body_over(&self, now: Tick) {
        self.receiving_since.set(None);
        if let Some((_, Expiry::Sending)) = self.upstream_since.get() {
            self.upstream_since.set(Some((now, Expiry::Upstream)));
        }
    }

    /// The client has ended its half: it may be gone.
    pub(crate) fn client_ended(&self, now: Tick) {
        self.ended_since.set(Some(now));
    }

    /// How far the client is behind the rate of its body. What it sends beyond the rate is no credit for later:
    /// who has sent much may not hold the connection for as long with nothing.
    fn falls_behind(&self, rate: u64) -> Tick {
        let sent = self.caught_up.take();
        let caught_up = match rate {
            0 if sent > 0 => Tick::MAX,
            0 => 0,
            rate => sent.saturating_mul(1000) / rate,
        };
        self.behind.set(self.behind.get().saturating_sub(caught_up));
        self.behind.get()
    }

    /// The request's body ends before it is complete.
    pub(crate) fn break_off(&self, why: BrokenOff) {
        self.broken_off.set(Some(why));
    }

    /// Why the request's body ended before it was complete, if it did.
    pub(crate) fn broken_off(&self) -> Option<BrokenOff> {
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

    /// The deadline that has passed by `now`.
    ///
    /// While a client still owes parts of its body, a silent backend is not to blame: it may be waiting
    /// for the same bytes.
    fn check(&self, now: Tick, limits: &Limits) -> Option<Expiry> {
        let own = self.own.get().unwrap_or_default();
        if let Some(since) = self.receiving_since.get() {
            let rate = own.body_rate.map_or(limits.body_rate, u64::from);
            let grace = own.body.map_or(limits.body_grace, ticks);
            if self.falls_behind(rate) + now.saturating_sub(since) >= grace {
                return Some(Expiry::SlowBody);
            }
        } else if let Some((since, expiry)) = self.upstream_since.get() {
            let connect = own.connect.map_or(limits.connect, ticks);
            let limit = match expiry {
                Expiry::SlowConnect => limits.connect_slow.min(connect),
                Expiry::TryConnect => limits.connect_try.min(connect),
                Expiry::Connect => connect,
                Expiry::Sending => own.send.map_or(limits.upstream, ticks),
                _ => own.read.map_or(limits.upstream, ticks),
            };
            if now.saturating_sub(since) >= limit {
                return Some(expiry);
            }
            if let Some(ended) = self.ended_since.get()
                && now.saturating_sub(ended.max(since)) >= limits.client_ended
            {
                return Some(Expiry::Gone);
            }
        }
        let since = self.offering_since.get()?;
        (now.saturating_sub(since) >= limits.stall).then_some(Expiry::Stalled)
    }

    pub(crate) fn expired(&self) -> Option<Expiry> {
        self.expired.get()
    }

    /// Forgets an expiry that was acted upon: the request goes on (a retry).
    pub(crate) fn clear(&self) {
        self.expired.set(None);
        self.upstream_since.set(None);
    }

    /// Notes which task to wake.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        register(&self.waker, cx);
    }
}

/// What the sweeper of a worker looks at.
pub(crate) trait Timers: Default {
    /// Writes the expiry back and wakes the task, if a deadline has passed.
    fn sweep(&self, now: Tick, limits: &Limits);
    /// Forgets everything: the next one begins.
    fn reset(&self);
}

/// All timers of one kind on one worker. Places are used again at once, so that a busy worker works
/// on the same few cache lines.
pub(crate) struct Registry<T> {
    all: Vec<Rc<T>>,
    free: Vec<usize>,
}

impl<T: Timers> Registry<T> {
    pub(crate) fn new() -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self { all: Vec::new(), free: Vec::new() }))
    }

    /// Looks at all of them.
    pub(crate) fn sweep(&self, now: Tick, limits: &Limits) {
        for timers in &self.all {
            timers.sweep(now, limits);
        }
    }

    /// All of them, places that are free included.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.all.iter().map(|timers| &**timers)
    }
}

/// Timers that the sweeper looks at for as long as this lives.
pub(crate) struct Registered<T: Timers> {
    timers: Rc<T>,
    place: usize,
    registry: Rc<RefCell<Registry<T>>>,
}

impl<T: Timers> Registered<T> {
    pub(crate) fn new(registry: &Rc<RefCell<Registry<T>>>) -> Self {
        let mut all = registry.borrow_mut();
        let place = all.free.pop().unwrap_or(all.all.len());
        if place == all.all.len() {
            all.all.push(Rc::default());
        }
        let timers = Rc::clone(&all.all[place]);
        Self { timers, place, registry: Rc::clone(registry) }
    }

    /// The timers themselves, for whatever notes its waiting in them.
    pub(crate) fn share(&self) -> Rc<T> {
        Rc::clone(&self.timers)
    }
}

impl<T: Timers> Deref for Registered<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.timers
    }
}

impl<T: Timers> Drop for Registered<T> {
    fn drop(&mut self) {
        let mut registry = self.registry.borrow_mut();
        // A body that the backend has not let go of still holds the timers: it keeps the old ones.
        if Rc::strong_count(&self.timers) > 2 {
            registry.all[self.place] = Rc::default();
        } else {
            self.timers.reset();
        }
        registry.free.push(self.place);
    }
}

/// A time of an object, which the translation has bounded.
fn ticks(time: Duration) -> Tick {
    time.as_millis() as Tick
}

fn register(slot: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    let mut slot = slot.borrow_mut();
    match &*slot {
        Some(waker) if waker.will_wake(cx.waker()) => (),
        _ => *slot = Some(cx.waker().clone()),
    }
}

#[cfg(test)]
mod tests;
