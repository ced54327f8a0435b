//! How many requests, or connections that are passed on, an endpoint has under way where its rules bound them, and who waits.
//!
//! The bound holds over all workers, so the count is one for the process; rules without a bound never come here. A
//! gate is found by the endpoint's handle, which compiles carry over by address, and by the bound: where the bound is
//! changed, requests under the old one do not count for the new one.

use std::{
    cell::RefCell,
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use gatehouse_routes::{policy::limits::Limits, stats::EndpointStats};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::error::ProxyErrorKind;

/// All gates of the process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gates(Arc<Mutex<Known>>);

/// By the address of an endpoint's handle, which the gate keeps, and by the bound.
type Known = HashMap<(usize, NonZeroU32), Arc<Gate>>;

#[derive(Debug)]
struct Gate {
    /// Keeps the address its own.
    stats: Arc<EndpointStats>,
    free: Arc<Semaphore>,
    waiting: AtomicU32,
}

/// The gates that one worker has met.
pub(crate) struct LocalGates {
    all: Gates,
    known: RefCell<Known>,
}

/// The right to have one request under way at an endpoint.
pub(crate) type Entry = OwnedSemaphorePermit;

impl LocalGates {
    pub(super) fn new(all: Gates) -> Self {
        Self { all, known: RefCell::default() }
    }

    /// Whether one more request may be sent to an endpoint at once.
    pub(crate) fn is_open(&self, stats: &Arc<EndpointStats>, limits: Limits) -> bool {
        self.gate(stats, limits.connections).free.available_permits() > 0
    }

    /// Waits until one more request may be sent to an endpoint.
    ///
    /// # Errors
    /// Too many wait already, or none of those before it has ended in time.
    pub(crate) async fn enter(
        &self,
        stats: &Arc<EndpointStats>,
        limits: Limits,
        time: Duration,
    ) -> Result<Entry, ProxyErrorKind> {
        let gate = self.gate(stats, limits.connections);
        if let Ok(entry) = Arc::clone(&gate.free).try_acquire_owned() {
            return Ok(entry);
        }
        let _waiting = Waiting::at(&gate, limits.pending)?;
        let free = Arc::clone(&gate.free).acquire_owned();
        match tokio::time::timeout(time, free).await {
            Ok(Ok(entry)) => Ok(entry),
            // A gate is never closed.
            Ok(Err(_)) | Err(_) => Err(ProxyErrorKind::QueueTimeout),
        }
    }

    fn gate(&self, stats: &Arc<EndpointStats>, connections: NonZeroU32) -> Arc<Gate> {
        let key = (Arc::as_ptr(stats).addr(), connections);
        let mut known = self.known.borrow_mut();
        let gate = known.entry(key).or_insert_with(|| self.all.of(stats, connections));
        Arc::clone(gate)
    }

    /// Forgets endpoints that no backend has any more.
    pub(super) fn forget(&self) {
        let mut known = self.known.borrow_mut();
        if known.is_empty() {
            return;
        }
        known.retain(|_, gate| Arc::strong_count(&gate.stats) > 1);
        self.all.forget();
    }
}

impl Gates {
    fn of(&self, stats: &Arc<EndpointStats>, connections: NonZeroU32) -> Arc<Gate> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = known.entry((Arc::as_ptr(stats).addr(), connections)).or_insert_with(|| {
            let permits = usize::try_from(connections.get()).unwrap_or(usize::MAX);
            Arc::new(Gate {
                stats: Arc::clone(stats),
                free: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
                waiting: AtomicU32::new(0),
            })
        });
        Arc::clone(gate)
    }

    /// Forgets gates that no worker knows and whose endpoint no backend has.
    fn forget(&self) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, gate| Arc::strong_count(&gate.stats) > 1 || Arc::strong_count(gate) > 1);
    }
}

/// One that waits.
struct Waiting<'g>(&'g Gate);

impl<'g> Waiting<'g> {
    fn at(gate: &'g Gate, most: u32) -> Result<Self, ProxyErrorKind> {
        let taken = gate
            .waiting
            .fetch_update(Relaxed, Relaxed, |waiting| (waiting < most).then_some(waiting + 1));
        taken.map(|_| Self(gate)).map_err(|_| ProxyErrorKind::QueueFull)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn limits(connections: u32, pending: u32) -> Limits {
        Limits { connections: NonZeroU32::new(connections).unwrap(), pending }
    }

    #[tokio::test(start_paused = true)]
    async fn all_workers_share_the_bound_and_who_waits_comes_in_when_one_ends() {
        let all = Gates::default();
        let [a, b] = [LocalGates::new(all.clone()), LocalGates::new(all.clone())];
        let stats = Arc::default();
        let first = a.enter(&stats, limits(2, 1), LONG).await.unwrap();
        let _second = b.enter(&stats, limits(2, 1), LONG).await.unwrap();
        assert!(!a.is_open(&stats, limits(2, 1)) && !b.is_open(&stats, limits(2, 1)));
        let third = b.enter(&stats, limits(2, 1), LONG);
        let fourth = async {
            tokio::task::yield_now().await;
            let refused = a.enter(&stats, limits(2, 1), LONG).await;
            drop(first);
            refused
        };
        let (third, fourth) = tokio::join!(third, fourth);
        assert!(third.is_ok());
        assert_eq!(fourth.unwrap_err(), ProxyErrorKind::QueueFull);
        let late = a.enter(&stats, limits(2, 1), LONG).await;
        assert_eq!(late.unwrap_err(), ProxyErrorKind::QueueTimeout);
        drop(third);
        assert!(a.is_open(&stats, limits(2, 1)), "who gave up waits no longer");
    }

    #[tokio::test]
    async fn an_endpoint_that_nobody_has_is_forgotten() {
        let all = Gates::default();
        let local = LocalGates::new(all.clone());
        let stats = Arc::default();
        drop(local.enter(&stats, limits(1, 0), LONG).await.unwrap());
        local.forget();
        assert_eq!(all.0.lock().unwrap().len(), 1);
        drop(stats);
        local.forget();
        assert_eq!(all.0.lock().unwrap().len(), 0);
    }
}
