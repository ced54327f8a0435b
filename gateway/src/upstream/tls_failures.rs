//! Endpoints that no TLS is had with, and why: problems of the objects whose requests lead there.
//!
//! Workers note failures, and the first success after one; the controller asks what they mean for the
//! objects. What has not failed for [`FORGOTTEN`] is forgotten, as nobody may have asked again.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use gatehouse_routes::{
    model::{Backend, BackendSlot},
    objects::ObjectRef,
    problem::Problem,
};

use crate::{
    snapshot::Snapshot,
    tls::backends::WayId,
    upstream::key::{Transport, UpstreamKey},
};

/// How long a failure counts that no other one follows.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// Endpoints that are remembered at most.
const MOST: usize = 1024;

/// The failures of all workers; a clone has the same ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsFailures(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// There is at least one.
    any: AtomicBool,
    known: Mutex<Known>,
}

/// By endpoint, and by the way in which TLS is done there.
type Known = BTreeMap<(SocketAddr, WayId), Failure>;

#[derive(Debug)]
struct Failure {
    /// Of the first one: later texts differ in the time that they name.
    why: String,
    last: Instant,
}

impl TlsFailures {
    /// The handshake with an endpoint has failed.
    pub(crate) fn failed(&self, key: UpstreamKey, why: &dyn std::error::Error) {
        let Transport::Tls(way) = key.transport else { return };
        let (mut known, last) = (self.known(), Instant::now());
        if known.len() < MOST || known.contains_key(&(key.address, way)) {
            let new = || Failure { why: why.to_string(), last };
            known.entry((key.address, way)).or_insert_with(new).last = last;
            self.0.any.store(true, Ordering::Relaxed);
        }
    }

    /// An endpoint has answered over TLS.
    pub(crate) fn succeeded(&self, key: UpstreamKey) {
        if !self.0.any.load(Ordering::Relaxed) {
            return;
        }
        let Transport::Tls(way) = key.transport else { return };
        let mut known = self.known();
        known.remove(&(key.address, way));
        self.0.any.store(!known.is_empty(), Ordering::Relaxed);
    }

    /// What that means for the objects of a configuration: one problem for each object and Service.
    pub(crate) fn problems(&self, snapshot: &Snapshot, now: Instant) -> Vec<Problem> {
        if !self.0.any.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut known = self.known();
        known.retain(|_, failure| now.saturating_duration_since(failure.last) < FORGOTTEN);
        self.0.any.store(!known.is_empty(), Ordering::Relaxed);
        let slots = snapshot.backends.slots.iter().zip(0..);
        let failing: BTreeMap<BackendSlot, Problem> = slots
            .filter_map(|(backend, slot)| {
                let (backend, slot) = (backend.as_ref()?, BackendSlot(slot));
                let ways = snapshot.backend_tls.get(slot).ok()?;
                let of_slot = known.iter().filter(|((_, way), _)| ways.has(*way));
                Some((slot, problem(backend, of_slot.map(|((at, _), it)| (*at, &*it.why)))?))
            })
            .collect();
        drop(known);
        of_objects(snapshot, &failing)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is wrong with a backend some of whose endpoints have failed; `None`: they are none of its endpoints any more.
fn problem<'f>(
    backend: &Backend,
    failures: impl Iterator<Item = (SocketAddr, &'f str)>,
) -> Option<Problem> {
    let listed: BTreeSet<SocketAddr> =
        backend.endpoints.endpoints.iter().map(|endpoint| endpoint.address).collect();
    let named = backend.endpoints.external.is_some();
    let failed: BTreeMap<_, _> = failures.filter(|(at, _)| named || listed.contains(at)).collect();
    let (first, why) = failed.first_key_value()?;
    let service = &backend.key.service;
    let others = match failed.len() {
        1 => String::new(),
        number => format!(" and {} more", number - 1),
    };
    let message = format!("no TLS to {first}{others} of Service {service}: {why}");
    let object = ObjectRef::new("Service", service.clone());
    let hint = "see whom the certificate of the pod is for, who has signed it and until when it is valid, and what the \
                object trusts";
    Some(if named || failed.len() < listed.len() {
        let message = format!("{message}; requests go to the others");
        Problem::warning(&object, "BackendTlsFailed", "", message, hint)
    } else {
        let message = format!("{message}; requests get 503");
        Problem::error(&object, "BackendTlsFailed", "", message, hint)
    })
}

/// The same for the objects whose requests lead there.
fn of_objects(snapshot: &Snapshot, failing: &BTreeMap<BackendSlot, Problem>) -> Vec<Problem> {
    if failing.is_empty() {
        return Vec::new();
    }
    let mut problems = Vec::new();
    let tables = snapshot.compiled.iter().flat_map(|compiled| &compiled.routes.tables);
    let hosts = tables.take(1).flat_map(|table| table.routes.hosts());
    let rules = hosts.flat_map(|(_, host)| host.rules());
    let mut seen = BTreeSet::new();
    for rule in rules {
        for backend in rule.forward().into_iter().flat_map(|forward| &forward.spec.backends) {
            if let Some(problem) = failing.get(&backend.slot)
                && seen.insert((rule.object.clone(), backend.slot))
            {
                problems.push(Problem { object: rule.object.clone(), ..problem.clone() });
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_answers_is_forgotten_and_others_are_not() {
        let failures = TlsFailures::default();
        let (one, two) = (WayId::new(), WayId::new());
        let key = |port, way| UpstreamKey {
            address: SocketAddr::from(([10, 0, 0, 1], port)),
            transport: Transport::Tls(way),
        };
        let error = std::io::Error::other("first");
        for key in [key(1, one), key(1, two), key(2, one)] {
            failures.failed(key, &error);
        }
        failures.failed(key(1, one), &std::io::Error::other("second"));
        failures.failed(UpstreamKey { transport: Transport::Clear, ..key(3, one) }, &error);
        let whys: Vec<_> = failures.known().values().map(|it| it.why.clone()).collect();
        assert_eq!(whys, ["first", "first", "first"]);
        failures.succeeded(key(1, one));
        failures.succeeded(key(9, one));
        let left: Vec<_> = failures.known().keys().map(|(at, way)| (at.port(), *way)).collect();
        assert_eq!(left, [(1, two), (2, one)]);
        failures.succeeded(key(1, two));
        failures.succeeded(key(2, one));
        assert!(!failures.0.any.load(Ordering::Relaxed));
    }

    #[test]
    fn no_more_endpoints_are_remembered_than_fit() {
        let failures = TlsFailures::default();
        let way = WayId::new();
        for port in 0..=u16::try_from(MOST).unwrap() {
            let address = SocketAddr::from(([10, 0, 0, 1], port));
            let key = UpstreamKey { address, transport: Transport::Tls(way) };
            failures.failed(key, &std::io::Error::other("x"));
        }
        assert_eq!(failures.known().len(), MOST);
    }
}
