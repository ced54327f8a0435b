//! Which backend a request is sent to, and the endpoints of it that the request tries.
//!
//! The rules of choice are [`balance`]'s; here they meet this worker's positions and loads, the health of
//! endpoints, and names that are resolved first. Round robin, the rule of who says nothing, is decided first and
//! looks at nothing else.

use std::{borrow::Borrow, net::SocketAddr, ops::Deref, rc::Rc, sync::Arc};

use gatehouse_routes::{
    action::Forward,
    balance,
    model::{Backend, BackendSlot, BackendTable, Endpoint},
    policy::{
        Policy,
        balance::{Algorithm, Balance},
    },
};
use http::HeaderMap;

use crate::{
    upstream::{
        Upstreams,
        connect::{trial_time, try_again},
        health::{self, Health},
        sessions::{Session, Target, Wish},
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
    /// Its client's session with this backend.
    session: Option<Session>,
    key: Option<u64>,
    turn: Option<u32>,
    tried: Vec<SocketAddr>,
    /// Endpoints that are left.
    left: usize,
}

impl<'b> Tries<'b> {
    /// None yet, of the backend of this index.
    pub(crate) fn of(backend: &'b Backend, forward: &'b Forward, index: usize, wish: Wish) -> Self {
        let policy = &*forward.spec.policy;
        let session = wish.session.filter(|session| session.backend.is_none_or(|of| of == index));
        let key = match session {
            Some(Session { target: Target::Key(key), .. }) => Some(key),
            _ => wish.key,
        };
        let plain = key.is_none() && policy.balance.is_plain() && policy.limits.is_none();
        Self {
            backend,
            slot: forward.spec.backends[index].slot,
            policy: (!plain).then_some(policy),
            session,
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

    /// The endpoint has failed this request.
    pub(crate) fn failed(&mut self, address: SocketAddr) {
        self.tried.push(address);
    }
}

impl Upstreams {
    /// The backend for a request of these fields, and its index in `forward.spec.backends`; `None` if none of
    /// them has an endpoint.
    ///
    /// A session stays with its backend, also where that gets no new ones.
    pub(crate) fn pick_backend<'t>(
        &self,
        forward: &Forward,
        table: &'t BackendTable,
        headers: &HeaderMap,
        wish: Wish,
    ) -> Option<(&'t Arc<Backend>, usize)> {
        let spec = &forward.spec;
        if let Some(index) = wish.session.and_then(|session| session.backend)
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
        if let Some(session) = tries.session.filter(|_| tries.tried.is_empty())
            && let Some(held) = held(worker, tries.backend, session)
        {
            tries.left = set.endpoints.iter().filter(|other| other.address != held.address).count();
            return Some(Picked::Listed(held));
        }
        self.pick(worker, tries, &set.endpoints).map(Picked::Listed)
    }

    fn pick<'e, E: Borrow<Endpoint>>(
        &self,
        worker: &Rc<Worker>,
        tries: &mut Tries<'_>,
        endpoints: &'e [E],
    ) -> Option<&'e E> {
        let picked = match endpoints {
            [only] if tries.tried.is_empty() => Some(only),
            [only] if tries.tried.contains(&only.borrow().address) => None,
            _ => match tries.policy {
                None => {
                    let turn = self.own_turn(tries);
                    let other = |endpoint: &Endpoint| !tries.tried.contains(&endpoint.address);
                    let fit = |endpoint: &Endpoint| other(endpoint) && is_fit(worker, endpoint);
                    balance::pick_endpoint(endpoints, turn, fit)
                        .or_else(|| balance::pick_endpoint(endpoints, turn, other))
                }
                Some(policy) => self.pick_by(policy, worker, tries, endpoints),
            },
        };
        tries.left = endpoints.len().saturating_sub(tries.tried.len() + 1);
        picked
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
        tries: &mut Tries<'_>,
        endpoints: &'e [E],
    ) -> Option<&'e E> {
        let rule = &policy.balance;
        let turn = match (&rule.algorithm, tries.key) {
            (Algorithm::RoundRobin | Algorithm::Hash { .. }, None) => self.own_turn(tries),
            _ => 0,
        };
        let other = |endpoint: &Endpoint| !tries.tried.contains(&endpoint.address);
        let among = |may: &dyn Fn(&Endpoint) -> bool| {
            self.among(rule, worker, tries.key, turn, endpoints, may)
        };
        let panics = || {
            let fit =
                endpoints.iter().filter(|endpoint| is_fit(worker, (*endpoint).borrow())).count();
            fit * 100 < usize::from(rule.panic_percent) * endpoints.len()
        };
        if rule.panic_percent > 0 && panics() {
            return among(&other);
        }
        let fit = |endpoint: &Endpoint| other(endpoint) && is_fit(worker, endpoint);
        let open = |endpoint: &Endpoint| {
            let gates = &self.gates;
            fit(endpoint)
                && policy.limits.is_none_or(|limits| gates.is_open(&endpoint.stats, limits))
        };
        let window = u64::try_from(rule.slow_start.as_millis()).unwrap_or(u64::MAX);
        if window > 0 && tries.key.is_none() {
            let (share, now) = (fastrand::u64(..window), worker.now());
            let age = |endpoint: &Endpoint| self.loads.of(&endpoint.stats, now).age(now);
            let warm = |endpoint: &Endpoint| open(endpoint) && age(endpoint) > share;
            if let Some(picked) = among(&warm) {
                return Some(picked);
            }
        }
        let free = policy.limits.and_then(|_| among(&open));
        free.or_else(|| among(&fit)).or_else(|| among(&other))
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

/// Whether an endpoint is to get requests. Has one tried again that it is time for.
pub(crate) fn is_fit(worker: &Rc<Worker>, endpoint: &Endpoint) -> bool {
    match health::of(&endpoint.stats) {
        Health::Good => true,
        Health::Slow { until } => until <= worker.now(),
        Health::Down => false,
        Health::Ejected { .. } => {
            if health::takes_trial(&endpoint.stats, worker.now(), trial_time(worker)) {
                try_again(worker, endpoint.address, &endpoint.stats);
            }
            false
        }
    }
}
