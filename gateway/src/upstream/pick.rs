//! Which backend a request is sent to, and the endpoints of it that the request tries.
//!
//! The rules of choice are [`balance`]'s; here they meet this worker's positions, the health of endpoints, and
//! names that are resolved first.

use std::{net::SocketAddr, ops::Deref, rc::Rc, sync::Arc};

use gatehouse_routes::{
    action::Forward,
    balance,
    model::{Backend, BackendSlot, BackendTable, Endpoint},
};
use http::HeaderMap;

use crate::{
    upstream::{
        Upstreams,
        connect::{trial_time, try_again},
        health::{self, Health},
    },
    worker::context::Worker,
};

/// An endpoint that a request is sent to.
pub(crate) enum Picked<'b> {
    /// The backend lists it.
    Listed(&'b Endpoint),
    /// One of the addresses of a name.
    Named(Rc<Endpoint>),
}

impl Deref for Picked<'_> {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        match self {
            Self::Listed(endpoint) => endpoint,
            Self::Named(endpoint) => endpoint,
        }
    }
}

/// What one request has tried of its backend. It has one turn, however many endpoints it tries: what one
/// endpoint fails to do must not move the round for others.
pub(crate) struct Tries<'b> {
    backend: &'b Backend,
    slot: BackendSlot,
    turn: Option<u32>,
    tried: Vec<SocketAddr>,
    /// Endpoints that are left.
    left: usize,
}

impl<'b> Tries<'b> {
    /// None yet, of the backend in a slot.
    pub(crate) fn of(backend: &'b Backend, slot: BackendSlot) -> Self {
        Self { backend, slot, turn: None, tried: Vec::new(), left: 0 }
    }

    /// Whether there are others than the one that is being tried.
    pub(crate) fn has_others(&self) -> bool {
        self.left > 0
    }

    /// The endpoint has failed this request.
    pub(crate) fn failed(&mut self, address: SocketAddr) {
        self.tried.push(address);
    }
}

impl Upstreams {
    /// The backend for a request of these fields, and its index in `forward.spec.backends`; `None` if none of
    /// them has an endpoint.
    pub(crate) fn pick_backend<'t>(
        &self,
        forward: &Forward,
        table: &'t BackendTable,
        headers: &HeaderMap,
    ) -> Option<(&'t Arc<Backend>, usize)> {
        if !forward.spec.canaries.is_empty() {
            let random = || fastrand::u32(..);
            let picked = balance::pick_canary(&forward.spec, table, headers, random);
            if picked.is_some() {
                return picked;
            }
        }
        balance::pick_service(forward, table, || self.turns.of_weights(&forward.sequence))
    }

    /// The endpoint that the request tries next; `None` if it has tried all.
    ///
    /// Ejected endpoints come last.
    pub(crate) async fn pick_endpoint<'b>(
        &self,
        worker: &Rc<Worker>,
        tries: &mut Tries<'b>,
    ) -> Option<Picked<'b>> {
        let set = &tries.backend.endpoints;
        if let Some(external) = &set.external {
            let named = Box::pin(self.names.endpoints(worker, external)).await;
            let picked = self.pick(worker, tries, &named);
            return picked.map(|endpoint| Picked::Named(Rc::clone(endpoint)));
        }
        self.pick(worker, tries, &set.endpoints).map(Picked::Listed)
    }

    fn pick<'e, E: std::borrow::Borrow<Endpoint>>(
        &self,
        worker: &Rc<Worker>,
        tries: &mut Tries<'_>,
        endpoints: &'e [E],
    ) -> Option<&'e E> {
        let picked = match endpoints {
            [only] if tries.tried.is_empty() => Some(only),
            [_] => None,
            _ => {
                let slot = tries.slot;
                let turn = *tries.turn.get_or_insert_with(|| self.turns.of_endpoints(slot));
                let other = |endpoint: &Endpoint| !tries.tried.contains(&endpoint.address);
                let fit = |endpoint: &Endpoint| other(endpoint) && is_fit(worker, endpoint);
                balance::pick_endpoint(endpoints, turn, fit)
                    .or_else(|| balance::pick_endpoint(endpoints, turn, other))
            }
        };
        tries.left = endpoints.len().saturating_sub(tries.tried.len() + 1);
        picked
    }
}

/// Whether an endpoint is to get requests. Has one tried again that it is time for.
pub(crate) fn is_fit(worker: &Rc<Worker>, endpoint: &Endpoint) -> bool {
    match health::of(&endpoint.stats) {
        Health::Good => true,
        Health::Slow { until } => until <= worker.now(),
        Health::Ejected { .. } => {
            if health::takes_trial(&endpoint.stats, worker.now(), trial_time(worker)) {
                try_again(worker, endpoint.address, &endpoint.stats);
            }
            false
        }
    }
}
