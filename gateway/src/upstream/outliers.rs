//! Endpoints whose answers to clients are failures: when they are ejected, and when they are back.
//!
//! `exchange` tells how requests end ([`Judge::answered`]); failures in a row are counted there, over all workers. The
//! part of failures within an interval is looked at by one task of the control runtime ([`run`]), from counts
//! that workers add up at their ticks. An ejected endpoint gets one request when its time is over: half-open, in the
//! words of circuit breakers. Addresses of names (`ExternalName`) are not judged.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use gatehouse_routes::{
    model::{Backend, Endpoint},
    policy::ejection::{Ejection, LONGEST, SuccessRate},
    stats::EndpointStats,
};

use crate::{
    admin::metrics::Counter,
    snapshot::{Live, Snapshot},
    upstream::health::{self, Health, Pause},
    worker::{
        clock::{Clock, Tick},
        context::Worker,
        counters::{FAULT, JUDGED},
    },
};

/// How often it is looked what is due.
const TICK: Duration = Duration::from_millis(100);

/// Held while one more endpoint is ejected for its answers, so that the bound holds over all threads. That is rare,
/// and no request waits for it in an orderly state.
static EJECTING: Mutex<()> = Mutex::new(());

/// What the answers of a backend's endpoints are judged by.
#[derive(Clone, Copy)]
pub(crate) struct Judge<'b> {
    pub(crate) rule: &'b Ejection,
    /// All endpoints of the backend.
    pub(crate) endpoints: &'b [Endpoint],
}

impl Judge<'_> {
    /// An endpoint has answered, or has failed to.
    pub(crate) fn answered(self, worker: &Worker, endpoint: &Endpoint, well: bool) {
        let stats = &endpoint.stats;
        let counters = worker.endpoint_counters();
        let counts = counters.of(stats);
        counters.add(&counts, JUDGED);
        if well {
            // Mostly it is zero: then nothing that others read is written.
            if stats.faults_in_a_row.load(Relaxed) != 0 {
                stats.faults_in_a_row.store(0, Relaxed);
            }
            return;
        }
        counters.add(&counts, FAULT);
        let in_a_row = stats.faults_in_a_row.fetch_add(1, Relaxed).saturating_add(1);
        let Some(most) = self.rule.errors else { return };
        // Where the bound kept it in, it is looked at again after as many.
        if in_a_row % most == 0 && self.eject(endpoint, worker.now(), worker.options.time_scale) {
            let address = endpoint.address;
            tracing::warn!(%address, in_a_row, "the endpoint is ejected: its answers are failures");
            worker.metrics().add(Counter::EndpointEjected);
        }
    }

    /// Ejects an endpoint, if as many may be. Others must be left.
    fn eject(self, endpoint: &Endpoint, now: Tick, scale: f64) -> bool {
        let _one_at_a_time = EJECTING.lock().unwrap_or_else(PoisonError::into_inner);
        let states = self.endpoints.iter().map(|endpoint| health::of(&endpoint.stats));
        let (mut failing, mut fit) = (0, 0);
        for state in states {
            match state {
                Health::Failing { .. } => failing += 1,
                Health::Good | Health::Slow { .. } => fit += 1,
                Health::Ejected { .. } | Health::Down => {}
            }
        }
        let room = failing < self.rule.most(self.endpoints.len()) && fit > 1;
        let ejected =
            room && health::answers_failed(&endpoint.stats, now, pause(self.rule.time, scale));
        if ejected {
            endpoint.stats.faults_in_a_row.store(0, Relaxed);
        }
        ejected
    }
}

/// Makes a request the one that finds out whether an endpoint is well again, if one is due. `time`: that of the rule's
/// first ejection.
pub(crate) fn takes_probe(worker: &Worker, stats: &EndpointStats, time: Duration) -> bool {
    let pause = pause(time, worker.options.time_scale);
    health::takes_probe(stats, worker.now(), pause.first)
}

/// How that request ended.
pub(crate) fn probed(worker: &Worker, endpoint: &Endpoint, well: bool, time: Duration) {
    let pause = pause(time, worker.options.time_scale);
    if health::probed(&endpoint.stats, well, worker.now(), pause) {
        endpoint.stats.faults_in_a_row.store(0, Relaxed);
        tracing::info!(address = %endpoint.address, "the endpoint answers well again");
    }
}

fn pause(first: Duration, scale: f64) -> Pause {
    let ticks = |time: Duration| (time.mul_f64(scale).as_millis() as Tick).max(1);
    Pause { first: ticks(first), longest: ticks(LONGEST) }
}

/// The endpoints below the rate, the worst first: what they had and failed within the interval, by index. Pure.
fn below(rate: &SuccessRate, counts: &[(u64, u64)]) -> Vec<usize> {
    let missed = |at: &usize| rate.is_missed(counts[*at].0, counts[*at].1);
    let mut missed: Vec<usize> = (0..counts.len()).filter(missed).collect();
    // Parts of a million: an endpoint without requests has missed nothing.
    let part = |at: &usize| counts[*at].1.saturating_mul(1_000_000) / counts[*at].0.max(1);
    missed.sort_by_key(|at| std::cmp::Reverse(part(at)));
    missed
}

/// A backend whose endpoints are measured.
struct Watched {
    backend: Arc<Backend>,
    rule: Ejection,
    rate: SuccessRate,
    due: Instant,
    /// Totals at the last look, by the endpoint's handle, which `backend` keeps.
    seen: HashMap<usize, (u64, u64)>,
}

/// Measures for as long as the process runs. `scale` shortens times for tests; `clock` is that of the workers.
pub(crate) async fn run(live: Arc<Live>, scale: f64, clock: Clock) {
    let mut watched: Vec<Watched> = Vec::new();
    let mut generation = 0;
    let mut ticker = tokio::time::interval(TICK.mul_f64(scale).max(Duration::from_millis(5)));
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticker.tick().await;
        clock.tick();
        let (now, tick) = (Instant::now(), clock.now());
        let snapshot = live.current();
        if snapshot.generation != generation {
            generation = snapshot.generation;
            watched = follow(watched, &snapshot, now, scale);
        }
        for one in watched.iter_mut().filter(|one| one.due <= now) {
            one.due = now + one.rate.interval.mul_f64(scale);
            one.look(tick, scale);
        }
    }
}

/// The backends of a new configuration whose rules ask for a rate; what is known of endpoints goes on.
fn follow(before: Vec<Watched>, snapshot: &Snapshot, now: Instant, scale: f64) -> Vec<Watched> {
    let mut known: HashMap<_, _> = before
        .into_iter()
        .map(|one| ((one.backend.key.clone(), one.rate), (one.due, one.seen, one.backend)))
        .collect();
    let mut watched: Vec<Watched> = Vec::new();
    let tables = snapshot.gateways.iter().flatten().map(|gateway| &gateway.routes);
    let rules = tables.flat_map(|table| table.watched_rules());
    for forward in rules.filter_map(|rule| rule.forward()) {
        let Some(rule) = forward.spec.policy.ejection else { continue };
        let Some(rate) = rule.success else { continue };
        for weighted in &forward.spec.backends {
            let Some(backend) = snapshot.backends.get(weighted.slot) else { continue };
            let same = |one: &Watched| Arc::ptr_eq(&one.backend, backend) && one.rate == rate;
            if watched.iter().any(same) {
                continue;
            }
            let known = known.remove(&(backend.key.clone(), rate));
            let due = known.as_ref().map(|(due, ..)| *due);
            let mut one = Watched {
                backend: Arc::clone(backend),
                rule,
                rate,
                due: due.unwrap_or_else(|| now + rate.interval.mul_f64(scale)),
                seen: HashMap::new(),
            };
            for endpoint in backend.endpoints.all() {
                let key = Arc::as_ptr(&endpoint.stats).addr();
                let seen = known.as_ref().and_then(|(_, seen, _)| seen.get(&key).copied());
                one.seen.insert(key, seen.unwrap_or_else(|| totals(&endpoint.stats)));
            }
            watched.push(one);
        }
    }
    watched
}

fn totals(stats: &EndpointStats) -> (u64, u64) {
    (stats.judged.load(Relaxed), stats.faults.load(Relaxed))
}

impl Watched {
    /// Ejects those whose answers since the last look are below the rate.
    fn look(&mut self, now: Tick, scale: f64) {
        let endpoints = &self.backend.endpoints.endpoints;
        let seen = &mut self.seen;
        let counts: Vec<_> = endpoints
            .iter()
            .map(|endpoint| {
                let total = totals(&endpoint.stats);
                let before = seen.insert(Arc::as_ptr(&endpoint.stats).addr(), total);
                let (judged, faults) = before.unwrap_or(total);
                (total.0.wrapping_sub(judged), total.1.wrapping_sub(faults))
            })
            .collect();
        let judge = Judge { rule: &self.rule, endpoints };
        for at in below(&self.rate, &counts) {
            let (endpoint, (judged, faults)) = (&endpoints[at], counts[at]);
            if judge.eject(endpoint, now, scale) {
                let address = endpoint.address;
                tracing::warn!(%address, judged, faults, "the endpoint is ejected: too many of its answers are failures");
            }
        }
    }
}

#[cfg(test)]
mod tests;
