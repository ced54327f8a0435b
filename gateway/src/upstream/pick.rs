//! Which backend a request is sent to, and the endpoints of it that the request tries.
//!
//! The rules of choice are [`balance`]'s; here they meet this worker's positions and loads, the health of
//! endpoints, and names that are resolved first. Round robin, the rule of who says nothing, is decided first and
//! looks at nothing else.

use std::{borrow::Borrow, net::SocketAddr, ops::Deref, rc::Rc, sync::Arc, time::Duration};

use gatehouse_routes::{
    action::Forward,
    balance,
    model::{Backend, BackendSlot, BackendTable, Endpoint},
    policy::{
        Policy,
        balance::{Algorithm, Balance},
        ejection::{Ejection, TIME},
    },
};
use http::HeaderMap;

use crate::{
    upstream::{
        Upstreams,
        bound::KnownAt,
        connect::{trial_time, try_again},
        health::{self, Health},
        outliers::{self, Judge},
        sessions::{PickContext, Session, Target},
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
    /// The rule of choice, unless that is round robin among all.
    policy: Option<&'b Policy>,
    /// The endpoint that knows its user by the connection.
    known_at: Option<SocketAddr>,
    /// Its client's session with this backend.
    session: Option<Session>,
    /// By what its answers are judged, if they are.
    ejection: Option<&'b Ejection>,
    /// Its next answer says whether the endpoint is well again.
    probe: bool,
    key: Option<u64>,
    turn: Option<u32>,
    tried: Vec<SocketAddr>,
    /// Endpoints that are left.
    left: usize,
}

impl<'b> Tries<'b> {
    /// None yet, of the backend of this index.
    pub(crate) fn of(
        backend: &'b Backend,
        forward: &'b Forward,
        index: usize,
        context: PickContext,
    ) -> Self {
        let policy = &*forward.spec.policy;
        let session =
            context.session.filter(|session| session.backend.is_none_or(|of| of == index));
        let key = match session {
            Some(Session { target: Target::Key(key), .. }) => Some(key),
            _ => context.key.or_else(|| context.client.filter(|_| backend.endpoints.by_client)),
        };
        let plain = key.is_none() && policy.balance.is_plain() && policy.limits.is_none();
        Self {
            backend,
            slot: forward.spec.backends[index].slot,
            policy: (!plain).then_some(policy),
            known_at: context.known_at.filter(|known| known.backend == index).map(|it| it.address),
            session,
            ejection: policy.ejection.as_ref(),
            probe: false,
            key,
            turn: None,
            tried: Vec::new(),
            left: 0,
        }
    }

    /// Whether there are others than the one that is being tried.
    pub(crate) fn has_others(&self) -> bool {
        self.left > 0
    }

    /// How the exchange with an endpoint ended, where that is the endpoint's doing.
    pub(crate) fn answered(&mut self, worker: &Worker, endpoint: &Endpoint, well: bool) {
        if std::mem::take(&mut self.probe) {
            outliers::probed(worker, endpoint, well, self.ejection_time());
        }
        let endpoints = &*self.backend.endpoints.endpoints;
        if let Some(rule) = self.ejection
            && !endpoints.is_empty()
        {
            Judge { rule, endpoints }.answered(worker, endpoint, well);
        }
    }

    /// Whether anybody asks how exchanges end.
    pub(crate) fn is_judged(&self) -> bool {
        self.probe || self.ejection.is_some()
    }

    fn ejection_time(&self) -> Duration {
        self.ejection.map_or(TIME, |rule| rule.time)
    }

    /// The endpoint has failed this request.
    pub(crate) fn failed(&mut self, address: SocketAddr) {
        self.tried.push(address);
    }
}

impl Upstreams {
    /// The backend for a request of these fields, and its index in `forward.spec.backends`; `None` if none of
    /// them has an endpoint.
    ///
    /// A user that is known there, and a session, stay with their backend, also where that gets no new ones.
    pub(crate) fn pick_backend<'t>(
        &self,
        forward: &Forward,
        table: &'t BackendTable,
        headers: &HeaderMap,
        context: PickContext,
    ) -> Option<(&'t Arc<Backend>, usize)> {
        let spec = &forward.spec;
        if let Some(KnownAt { backend: index, .. }) = context.known_at
            && let Some(backend) = table.get(spec.backends[index].slot)
        {
            return Some((backend, index));
        }
        if let Some(index) = context.session.and_then(|session| session.backend)
            && let Some(affinity) = &spec.policy.affinity
            && (affinity.canaries || spec.canaries.is_empty())
            && let Some(weighted) = spec.backends.get(index)
            && let Some(backend) = table.get(weighted.slot)
            && backend.endpoints.all().next().is_some()
        {
            return Some((backend, index));
        }
        if !spec.canaries.is_empty() {
            let random = || fastrand::u32(..);
            let picked = balance::pick_canary(spec, table, headers, random);
            if picked.is_some() {
                return picked;
            }
        }
        balance::pick_service(forward, table, || self.turns.of_weights(&forward.sequence))
    }

    /// Another backend of the object's own, by weight, for a request that none of the endpoints of those `left` behind has
    /// got; `None` if there is no other. A canary's requests are for it alone.
    pub(crate) fn pick_other_backend<'t>(
        &self,
        forward: &Forward,
        table: &'t BackendTable,
        left: &[usize],
    ) -> Option<(&'t Arc<Backend>, usize)> {
        let own = forward.spec.main();
        if own.len() < 2 || left.iter().any(|index| *index >= own.len()) {
            return None;
        }
        balance::pick_other_service(own, table, left, fastrand::u32(..))
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
            let known = tries.known_at.take();
            let known = known.and_then(|at| named.iter().find(|endpoint| endpoint.address == at));
            let picked = known.or_else(|| self.pick(worker, tries, (&[], &named)));
            tries.left = named.len().saturating_sub(tries.tried.len() + 1);
            return picked.map(|endpoint| Picked::Named(Rc::clone(endpoint)));
        }
        loop {
            let picked = self.pick_listed(worker, tries)?;
            // Where another request has become the one that finds out, the endpoint is none for this one.
            let due = matches!(health::of(&picked.stats), Health::Failing { due, .. } if due <= worker.now());
            tries.probe =
                due && outliers::takes_probe(worker, &picked.stats, tries.ejection_time());
            if !due || tries.probe {
                return Some(Picked::Listed(picked));
            }
        }
    }

    fn pick_listed<'b>(&self, worker: &Rc<Worker>, tries: &mut Tries<'b>) -> Option<&'b Endpoint> {
        let set = &tries.backend.endpoints;
        let known = tries.known_at.take();
        let known = known.and_then(|at| set.all().find(|endpoint| endpoint.address == at));
        let session = tries.session.filter(|_| tries.tried.is_empty());
        let held = || session.and_then(|session| held(worker, tries.backend, session));
        if let Some(held) = known.filter(|known| is_fit(worker, known)).or_else(held) {
            tries.left = set.endpoints.iter().filter(|other| other.address != held.address).count();
            return Some(held);
        }
        let picked = self.pick(worker, tries, (&set.near, &set.endpoints));
        tries.left = set.endpoints.len().saturating_sub(tries.tried.len() + 1);
        picked
    }

    /// One of the endpoints. Those that are near come first while one of them is fit, except where the endpoint is that
    /// of a key, which is the same one on every node.
    fn pick<'e, E: Borrow<Endpoint>>(
        &self,
        worker: &Rc<Worker>,
        tries: &mut Tries<'_>,
        (near, endpoints): (&'e [E], &'e [E]),
    ) -> Option<&'e E> {
        match endpoints {
            [only] if tries.tried.is_empty() => return Some(only),
            [only] if tries.tried.contains(&only.borrow().address) => return None,
            _ => {}
        }
        match tries.policy {
            None => {
                let turn = self.own_turn(tries);
                let other = |endpoint: &Endpoint| !tries.tried.contains(&endpoint.address);
                let fit = |endpoint: &Endpoint| other(endpoint) && is_fit(worker, endpoint);
                balance::pick_endpoint(near, turn, fit)
                    .or_else(|| balance::pick_endpoint(endpoints, turn, fit))
                    .or_else(|| balance::pick_endpoint(endpoints, turn, other))
            }
            Some(policy) => {
                let turn = match (&policy.balance.algorithm, tries.key) {
                    (Algorithm::RoundRobin | Algorithm::Hash { .. }, None) => self.own_turn(tries),
                    _ => 0,
                };
                let near = if tries.key.is_none() { near } else { &[] };
                self.pick_open(policy, worker, (&*tries, turn), near)
                    .or_else(|| self.pick_by(policy, worker, (&*tries, turn), endpoints))
            }
        }
    }

    /// The request's position in the round of its backend.
    fn own_turn(&self, tries: &mut Tries<'_>) -> u32 {
        let slot = tries.slot;
        *tries.turn.get_or_insert_with(|| self.turns.of_endpoints(slot))
    }

    /// The endpoint by another rule than round robin among all: of those that are fit, have room and are no longer
    /// new; else of those that are fit and have room; else of those that are fit; else of all.
    fn pick_by<'e, E: Borrow<Endpoint>>(
        &self,
        policy: &Policy,
        worker: &Rc<Worker>,
        (tries, turn): (&Tries<'_>, u32),
        endpoints: &'e [E],
    ) -> Option<&'e E> {
        let rule = &policy.balance;
        let other = |endpoint: &Endpoint| !tries.tried.contains(&endpoint.address);
        let among = |may: &dyn Fn(&Endpoint) -> bool| {
            self.among(rule, worker, tries.key, turn, endpoints, may)
        };
        let panics = || {
            let fit = endpoints.iter().filter(|endpoint| is_fit(worker, (*endpoint).borrow()));
            balance::panics(fit.count(), endpoints.len(), rule.panic_percent)
        };
        if rule.panic_percent > 0 && panics() {
            return among(&other);
        }
        let fit = |endpoint: &Endpoint| other(endpoint) && is_fit(worker, endpoint);
        self.pick_open(policy, worker, (tries, turn), endpoints)
            .or_else(|| among(&fit))
            .or_else(|| among(&other))
    }

    /// The same of those that are fit and have room, those that are no longer new first.
    fn pick_open<'e, E: Borrow<Endpoint>>(
        &self,
        policy: &Policy,
        worker: &Rc<Worker>,
        (tries, turn): (&Tries<'_>, u32),
        endpoints: &'e [E],
    ) -> Option<&'e E> {
        if endpoints.is_empty() {
            return None;
        }
        let rule = &policy.balance;
        let among = |may: &dyn Fn(&Endpoint) -> bool| {
            self.among(rule, worker, tries.key, turn, endpoints, may)
        };
        let fit = |endpoint: &Endpoint| {
            !tries.tried.contains(&endpoint.address) && is_fit(worker, endpoint)
        };
        let open = |endpoint: &Endpoint| {
            let gates = &self.gates;
            fit(endpoint)
                && policy.limits.is_none_or(|limits| gates.is_open(&endpoint.stats, limits))
        };
        let window = u64::try_from(rule.slow_start.as_millis()).unwrap_or(u64::MAX);
        if window > 0 && tries.key.is_none() {
            let (share, now) = (fastrand::u64(..window), worker.now());
            let age = |endpoint: &Endpoint| self.loads.of(&endpoint.stats, now).age(now);
            let warm =
                |endpoint: &Endpoint| open(endpoint) && balance::is_warm(age(endpoint), share);
            if let Some(picked) = among(&warm) {
                return Some(picked);
            }
        }
        among(&open)
    }

    fn among<'e, E: Borrow<Endpoint>>(
        &self,
        rule: &Balance,
        worker: &Worker,
        key: Option<u64>,
        turn: u32,
        endpoints: &'e [E],
        may: &dyn Fn(&Endpoint) -> bool,
    ) -> Option<&'e E> {
        let load = |endpoint: &Endpoint| self.loads.of(&endpoint.stats, worker.now());
        let better = |cost: &dyn Fn(&Endpoint) -> u64| {
            balance::pick_better(endpoints, fastrand::u64(..), cost, may)
        };
        match (&rule.algorithm, key) {
            (algorithm, Some(key)) => {
                let subset = match algorithm {
                    Algorithm::Hash { subset, .. } => *subset,
                    _ => 1,
                };
                balance::pick_hashed(endpoints, key, subset, || fastrand::u32(..), may)
            }
            (Algorithm::RoundRobin | Algorithm::Hash { .. }, None) => {
                balance::pick_endpoint(endpoints, turn, may)
            }
            (Algorithm::Random, None) => better(&|_| 0),
            (Algorithm::LeastRequest, None) => better(&|endpoint| load(endpoint).in_flight()),
            (Algorithm::LeastTime, None) => {
                better(&|endpoint| load(endpoint).expected(worker.now()))
            }
        }
    }
}

/// The endpoint that a session has had, if requests get through to it.
fn held<'b>(worker: &Rc<Worker>, backend: &'b Backend, session: Session) -> Option<&'b Endpoint> {
    session.backend?;
    let endpoint = match session.target {
        Target::Endpoint(address) => {
            backend.endpoints.all().find(|endpoint| endpoint.address == address)
        }
        Target::Key(key) => balance::pick_own(backend.endpoints.all(), key),
    };
    endpoint.filter(|endpoint| is_fit(worker, endpoint))
}

/// Whether an endpoint is to get requests. Has one tried again that it is time for; where answers are to show it, the
/// caller sends one request only.
pub(crate) fn is_fit(worker: &Rc<Worker>, endpoint: &Endpoint) -> bool {
    match health::of(&endpoint.stats) {
        Health::Good => true,
        Health::Slow { until } => until <= worker.now(),
        Health::Down => false,
        Health::Failing { due, .. } => due <= worker.now(),
        Health::Ejected { .. } => {
            if health::takes_trial(&endpoint.stats, worker.now(), trial_time(worker)) {
                try_again(worker, endpoint.address, &endpoint.stats);
            }
            false
        }
    }
}
