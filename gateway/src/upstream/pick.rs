//! Which backend and which endpoint a request is sent to.
//!
//! The rules of choice are [`balance`]'s; here they meet this worker's positions, the health of endpoints, and
//! names that are resolved first.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use gatehouse_routes::{
    action::Forward,
    balance,
    model::{Backend, BackendSlot, BackendTable, Endpoint},
    stats::EndpointStats,
};
use http::HeaderMap;

use crate::{
    upstream::{
        Upstreams,
        connect::{trial_time, try_again},
        health,
    },
    worker::context::Worker,
};

/// An address that a request is sent to.
#[derive(Clone, Copy)]
pub(crate) struct Picked<'b> {
    pub(crate) address: SocketAddr,
    /// What is known of the endpoint; nothing of the addresses of names.
    pub(crate) stats: Option<&'b Arc<EndpointStats>>,
}

impl<'b> From<&'b Endpoint> for Picked<'b> {
    fn from(endpoint: &'b Endpoint) -> Self {
        Self { address: endpoint.address, stats: Some(&endpoint.stats) }
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

    /// The endpoint for the next request to the backend in a slot, another one than `failed` if there is one.
    ///
    /// Ejected endpoints are passed over while there is one that is not.
    pub(crate) async fn pick_endpoint<'b>(
        &self,
        worker: &Rc<Worker>,
        (backend, slot): (&'b Backend, BackendSlot),
        failed: Option<SocketAddr>,
    ) -> Option<Picked<'b>> {
        if let Some(external) = &backend.endpoints.external {
            let turn = self.turns.of_endpoints(slot);
            let address = Box::pin(self.names.pick(worker, external, turn, failed)).await?;
            return Some(Picked { address, stats: None });
        }
        let endpoint = match &*backend.endpoints.endpoints {
            [only] => Some(only),
            _ => {
                let turn = self.turns.of_endpoints(slot);
                let other = |endpoint: &Endpoint| Some(endpoint.address) != failed;
                let fit = |endpoint: &Endpoint| other(endpoint) && is_fit(worker, endpoint);
                balance::pick_endpoint(&backend.endpoints, turn, fit)
                    .or_else(|| balance::pick_endpoint(&backend.endpoints, turn, other))
            }
        };
        endpoint.map(Picked::from)
    }
}

/// Whether an endpoint is to get requests. Has one tried again that it is time for.
fn is_fit(worker: &Rc<Worker>, endpoint: &Endpoint) -> bool {
    if !health::is_ejected(&endpoint.stats) {
        return true;
    }
    if health::takes_trial(&endpoint.stats, worker.now(), trial_time(worker)) {
        try_again(worker, endpoint.address, &endpoint.stats);
    }
    false
}
