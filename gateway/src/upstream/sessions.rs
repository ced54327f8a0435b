//! The values of session cookies: made, and told from forged ones.
//!
//! A value is 32 hexadecimal digits. It is the seal itself of one endpoint (`persistent`), or a key that
//! endpoints are chosen by and its seal (`balanced`): HMAC-SHA-256, cut off, over the object, the Service and what is
//! meant. It tells nothing of an endpoint, cannot be made by a client, and means nothing to other objects. The
//! secret is that of the node's group, so that all its nodes know each other's cookies, or else one of the
//! process.

use std::{cell::RefCell, collections::HashMap, net::SocketAddr, rc::Rc, sync::Arc};

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use gatehouse_routes::{
    action::Forward,
    cookie,
    model::{Backend, BackendTable, EndpointSet},
    policy::{
        Policy,
        affinity::{Affinity, Mode},
    },
};
use http::HeaderMap;

use crate::{
    compile::GroupPlan, snapshot::Snapshot, upstream::bound::KnownAt, worker::context::Worker,
};

/// Most cookies of one name that are looked at: paths and domains can give a browser more than one.
const MOST_VALUES: usize = 4;
/// What the secret of a group is used for here.
pub(crate) const PURPOSE: &str = "session cookies";

/// What a request says of the endpoint that it belongs to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PickContext {
    /// What its rule hashes requests by.
    pub(crate) key: Option<u64>,
    /// The address of its client, where a Service keeps clients by it.
    pub(crate) client: Option<u64>,
    pub(crate) session: Option<Session>,
    /// The endpoint that knows its user by the connection.
    pub(crate) known_at: Option<KnownAt>,
    /// Its browser takes `SameSite=None` for something else.
    pub(crate) old_browser: bool,
}

/// A client's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// Index of its backend in the rule; `None`: it is new.
    pub(crate) backend: Option<usize>,
    pub(crate) target: Target,
}

/// What a session leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Endpoint(SocketAddr),
    Key(u64),
}

/// The seals that one worker has made.
#[derive(Default)]
pub(crate) struct Sessions {
    sealer: RefCell<Option<Rc<Sealer>>>,
    known: RefCell<HashMap<Place, Rc<Seals>, foldhash::fast::RandomState>>,
}

/// A policy and a backend's endpoints, by address; [`Seals`] keeps both.
type Place = (*const Policy, *const EndpointSet);

/// The secret, and where it is from.
struct Sealer {
    key: hmac::Key,
    group: Option<Arc<GroupPlan>>,
}

/// The seals of a backend's endpoints.
struct Seals {
    policy: Arc<Policy>,
    set: Arc<EndpointSet>,
    /// In order.
    seals: Box<[(u128, SocketAddr)]>,
}

impl Sessions {
    /// The session that a request brings along, or a new one if its kind needs none of an answer.
    pub(crate) fn of(
        &self,
        worker: &Worker,
        snapshot: &Snapshot,
        forward: &Forward,
        headers: &HeaderMap,
    ) -> Option<Session> {
        let affinity = forward.spec.policy.affinity.as_ref()?;
        let mut values = cookie::values(headers, &affinity.name).take(MOST_VALUES).peekable();
        if values.peek().is_some() {
            let sealer = self.sealer(worker, snapshot);
            let held = values
                .filter_map(number)
                .find_map(|value| self.held(&sealer, &snapshot.backends, forward, affinity, value));
            if held.is_some() {
                return held;
            }
        }
        let new = || Session { backend: None, target: Target::Key(fastrand::u64(..)) };
        (affinity.mode == Mode::Balanced).then(new)
    }

    fn held(
        &self,
        sealer: &Sealer,
        backends: &BackendTable,
        forward: &Forward,
        affinity: &Affinity,
        value: u128,
    ) -> Option<Session> {
        forward.spec.backends.iter().enumerate().find_map(|(index, weighted)| {
            let backend = backends.get(weighted.slot)?;
            let target = match affinity.mode {
                Mode::Balanced => {
                    let key = (value >> 64) as u64;
                    let seal = sealer.key_seal(affinity, backend, key);
                    let same = verify_slices_are_equal(&seal.to_be_bytes(), &value.to_be_bytes());
                    same.ok().map(|()| Target::Key(key))?
                }
                Mode::Persistent => {
                    let known = self.seals(sealer, &forward.spec.policy, affinity, backend);
                    let at = known.seals.binary_search_by_key(&value, |(seal, _)| *seal).ok()?;
                    Target::Endpoint(known.seals[at].1)
                }
            };
            Some(Session { backend: Some(index), target })
        })
    }

    /// The value of a cookie that leads to where the session does.
    pub(crate) fn value(
        &self,
        worker: &Worker,
        snapshot: &Snapshot,
        policy: &Arc<Policy>,
        backend: &Backend,
        target: Target,
    ) -> Option<String> {
        let affinity = policy.affinity.as_ref()?;
        let sealer = self.sealer(worker, snapshot);
        let value = match target {
            Target::Key(key) => sealer.key_seal(affinity, backend, key),
            Target::Endpoint(address) => {
                let known = self.seals(&sealer, policy, affinity, backend);
                known.seals.iter().find(|(_, known)| *known == address)?.0
            }
        };
        Some(format!("{value:032x}"))
    }

    /// The secret that holds now.
    fn sealer(&self, worker: &Worker, snapshot: &Snapshot) -> Rc<Sealer> {
        let group = snapshot.compiled.as_ref().map(|compiled| &compiled.group);
        let mut sealer = self.sealer.borrow_mut();
        if let Some(sealer) = &*sealer
            && sealer.group.as_ref().map(Arc::as_ptr) == group.map(Arc::as_ptr)
        {
            return Rc::clone(sealer);
        }
        let of_group = group.and_then(|group| Some(group.key.as_ref()?.derive(PURPOSE)));
        let secret = of_group.unwrap_or(*worker.options.session_secret);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let new = Rc::new(Sealer { key, group: group.cloned() });
        self.known.borrow_mut().clear();
        *sealer = Some(Rc::clone(&new));
        new
    }

    fn seals(
        &self,
        sealer: &Sealer,
        policy: &Arc<Policy>,
        affinity: &Affinity,
        backend: &Backend,
    ) -> Rc<Seals> {
        let place = (Arc::as_ptr(policy), Arc::as_ptr(&backend.endpoints));
        let mut known = self.known.borrow_mut();
        let seals = known.entry(place).or_insert_with(|| {
            let all = backend.endpoints.all().map(|endpoint| endpoint.address);
            let mut seals: Box<[_]> = all
                .map(|address| (sealer.endpoint_seal(affinity, backend, address), address))
                .collect();
            seals.sort_unstable();
            let (policy, set) = (Arc::clone(policy), Arc::clone(&backend.endpoints));
            Rc::new(Seals { policy, set, seals })
        });
        Rc::clone(seals)
    }

    /// Forgets what no rule or no backend has any more.
    pub(super) fn forget(&self) {
        self.known.borrow_mut().retain(|_, seals| {
            Arc::strong_count(&seals.policy) > 1 && Arc::strong_count(&seals.set) > 1
        });
    }
}

impl Sealer {
    fn seal(&self, affinity: &Affinity, backend: &Backend, kind: &[u8], what: &[u8]) -> u128 {
        let service = &backend.key.service;
        let mut context = hmac::Context::with_key(&self.key);
        for part in [
            kind,
            affinity.scope.as_bytes(),
            service.namespace.as_bytes(),
            service.name.as_bytes(),
            what,
        ] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut cut = [0; 16];
        cut.copy_from_slice(&context.sign().as_ref()[..16]);
        u128::from_be_bytes(cut)
    }

    fn endpoint_seal(&self, affinity: &Affinity, backend: &Backend, address: SocketAddr) -> u128 {
        let mut what = [0; 18];
        let ip = match address.ip() {
            std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            std::net::IpAddr::V6(ip) => ip,
        };
        what[..16].copy_from_slice(&ip.octets());
        what[16..].copy_from_slice(&address.port().to_be_bytes());
        self.seal(affinity, backend, b"endpoint", &what)
    }

    /// The key, and its seal behind it.
    fn key_seal(&self, affinity: &Affinity, backend: &Backend, key: u64) -> u128 {
        let seal = self.seal(affinity, backend, b"key", &key.to_be_bytes());
        u128::from(key) << 64 | seal >> 64
    }
}

/// The number that a value spells, if it is one of ours by its form.
fn number(value: &[u8]) -> Option<u128> {
    if value.len() != 32 || !value.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u128::from_str_radix(std::str::from_utf8(value).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use gatehouse_routes::{
        model::{BackendKey, BackendPort, BackendProtocol, Endpoint},
        objects::ObjectKey,
        transport::Speaks,
    };

    use super::*;

    fn sealer(secret: u8) -> Sealer {
        Sealer { key: hmac::Key::new(hmac::HMAC_SHA256, &[secret; 32]), group: None }
    }

    fn affinity(scope: &str, mode: Mode) -> Affinity {
        Affinity { mode, ..Affinity::new(scope.into(), "id".into()) }
    }

    fn address(n: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], 8_000 + n))
    }

    fn backend(service: &str, endpoints: u16) -> Backend {
        let endpoint =
            |n| Endpoint { address: address(n), speaks: Speaks::Http1, stats: Arc::default() };
        let key = BackendKey {
            service: ObjectKey::new("d", service),
            port: BackendPort::Number(80),
            protocol: BackendProtocol::Declared,
            whole: false,
        };
        let endpoints = (0..endpoints).map(endpoint).collect();
        Backend { key, endpoints: Arc::new(EndpointSet { endpoints, ..EndpointSet::default() }) }
    }

    #[test]
    fn a_value_is_that_of_one_secret_one_object_and_one_service() {
        let (own, app) = (affinity("Ingress d/a", Mode::Persistent), backend("app", 1));
        let seal = |secret, affinity: &Affinity, backend: &Backend| {
            sealer(secret).endpoint_seal(affinity, backend, address(0))
        };
        let value = seal(1, &own, &app);
        assert_eq!(value, seal(1, &own, &backend("app", 9)), "other endpoints change nothing");
        let other = affinity("Ingress d/b", Mode::Persistent);
        for (what, forged) in [
            ("another secret", seal(2, &own, &app)),
            ("another object", seal(1, &other, &app)),
            ("another Service", seal(1, &own, &backend("other", 1))),
            ("another port", sealer(1).endpoint_seal(&own, &app, address(1))),
            ("a key", sealer(1).key_seal(&own, &app, 0)),
        ] {
            assert_ne!(value, forged, "{what}");
        }
    }

    #[test]
    fn a_key_stands_before_its_seal_and_no_other_key_has_the_same_one() {
        let (own, app) = (affinity("Route d/a", Mode::Balanced), backend("app", 1));
        let value = sealer(1).key_seal(&own, &app, 0x0123_4567_89ab_cdef);
        assert_eq!((value >> 64) as u64, 0x0123_4567_89ab_cdef);
        let next = sealer(1).key_seal(&own, &app, 0x0123_4567_89ab_cdee);
        assert_ne!(value as u64, next as u64, "the key cannot be changed under its seal");
    }

    #[test]
    fn seals_are_made_once_for_a_set_of_endpoints_and_forgotten_with_it() {
        let (sessions, sealer) = (Sessions::default(), sealer(1));
        let policy = Arc::new(Policy {
            affinity: Some(affinity("Route d/a", Mode::Persistent)),
            ..Policy::default()
        });
        let own = policy.affinity.as_ref().unwrap();
        let app = backend("app", 50);
        let seals = sessions.seals(&sealer, &policy, own, &app);
        assert_eq!(seals.seals.len(), 50);
        assert!(seals.seals.is_sorted(), "they are found by a binary search");
        assert!(Rc::ptr_eq(&seals, &sessions.seals(&sealer, &policy, own, &app)));
        drop(seals);
        sessions.forget();
        assert_eq!(sessions.known.borrow().len(), 1);
        drop(app);
        sessions.forget();
        assert_eq!(sessions.known.borrow().len(), 0);
    }

    #[test]
    fn only_32_hexadecimal_digits_are_a_value() {
        let digits = "0123456789abcdef0123456789abcdef";
        assert_eq!(number(digits.as_bytes()), u128::from_str_radix(digits, 16).ok());
        for other in [
            "",
            "0123456789abcdef",
            "+123456789abcdef0123456789abcdef",
            "0123456789abcdef0123456789abcdeg",
            "0123456789abcdef0123456789abcdef0",
            "0123456789abcdef0123456789abcd\u{e9}",
        ] {
            assert_eq!(number(other.as_bytes()), None, "{other}");
        }
    }
}
