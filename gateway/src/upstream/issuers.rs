//! Keys of issuers of tokens, asked for at their URLs.
//!
//! One thread of the process asks, started with the first question. Requests wait for it only where nothing is known
//! yet, or where a token names a key that is not known; keys that were had once count until better ones are there.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use gatehouse_routes::{filter::authentication::jwt::KeyUrl, model::EndpointSet};
use tokio::sync::{
    mpsc::{UnboundedSender, unbounded_channel},
    oneshot,
};

use super::names::resolver::Resolver;
use crate::tokens::KeySet;

mod fetch;

/// Age at which keys are asked for again.
const FRESH: Duration = Duration::from_secs(300);
/// From one question to the next, if that had an answer: tokens of keys that nobody knows cause no more.
const PAUSE: Duration = Duration::from_secs(10);
/// After a first failure; doubled with each further one.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Longest that a request waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// Issuers known to a worker before those that no rule has any more are looked for.
const KNOWN: usize = 64;

/// All issuers of the process.
#[derive(Clone)]
pub(crate) struct Issuers(Arc<Shared>);

struct Shared {
    resolver: Resolver,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The way to the thread, once there is one.
    jobs: Option<UnboundedSender<Job>>,
    issuers: HashMap<Arc<KeyUrl>, Weak<Issuer>>,
}

/// A question.
struct Job {
    issuer: Arc<Issuer>,
    /// Where the Service is that the issuer is, if no name server knows it.
    service: Option<Arc<EndpointSet>>,
}

/// What is known of one.
pub(crate) struct Issuer {
    url: Arc<KeyUrl>,
    keys: ArcSwapOption<Loaded>,
    asking: Mutex<Asking>,
}

/// What is known of one, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IssuerFact {
    /// Age of its keys; `None`: there are none.
    pub(crate) age: Option<Duration>,
    /// Questions without an answer since.
    pub(crate) failures: u32,
}

/// Keys, and since when.
struct Loaded {
    keys: Arc<KeySet>,
    since: Instant,
}

#[derive(Default)]
struct Asking {
    under_way: bool,
    /// Not before.
    next: Option<Instant>,
    failures: u32,
    waiting: Vec<oneshot::Sender<()>>,
}

/// What one worker knows: the same, without a lock.
pub(crate) struct LocalIssuers {
    all: Issuers,
    /// By the address of the URL, which the weak reference keeps from being used again.
    known: RefCell<HashMap<usize, (Weak<KeyUrl>, Local)>>,
}

/// The count of an issuer's `Arc` is shared by all workers; that of the `Rc` is not.
type Local = Rc<Arc<Issuer>>;

impl Issuers {
    /// None so far.
    pub(crate) fn new(resolver: Resolver) -> Self {
        Self(Arc::new(Shared { resolver, state: Mutex::default() }))
    }

    /// What is known of the issuers in use, by their URLs.
    pub(crate) fn facts(&self) -> BTreeMap<String, IssuerFact> {
        let issuers: Vec<_> = self.0.lock().issuers.values().filter_map(Weak::upgrade).collect();
        let fact = |issuer: Arc<Issuer>| {
            let age = issuer.keys.load().as_ref().map(|loaded| loaded.since.elapsed());
            (issuer.url.to_string(), IssuerFact { age, failures: issuer.asking().failures })
        };
        issuers.into_iter().map(fact).collect()
    }

    fn issuer(&self, url: &Arc<KeyUrl>) -> Arc<Issuer> {
        let mut state = self.0.lock();
        if let Some(issuer) = state.issuers.get(url).and_then(Weak::upgrade) {
            return issuer;
        }
        state.issuers.retain(|_, issuer| issuer.strong_count() > 0);
        let (url, keys, asking) = (Arc::clone(url), ArcSwapOption::empty(), Mutex::default());
        let issuer = Arc::new(Issuer { url: Arc::clone(&url), keys, asking });
        state.issuers.insert(url, Arc::downgrade(&issuer));
        issuer
    }

    /// Has the thread ask, which is started if there is none.
    fn send(&self, issuer: &Arc<Issuer>, service: Option<Arc<EndpointSet>>) {
        let mut state = self.0.lock();
        if state.jobs.is_none() {
            let (jobs, receiver) = unbounded_channel();
            match fetch::start(receiver, self.0.resolver.clone()) {
                Ok(()) => state.jobs = Some(jobs),
                Err(error) => tracing::error!(%error, "no thread that asks for keys of tokens"),
            }
        }
        let job = Job { issuer: Arc::clone(issuer), service };
        let sent = state.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        drop(state);
        if !sent {
            issuer.failed(Instant::now());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Issuer {
    fn asking(&self) -> MutexGuard<'_, Asking> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes new keys.
    fn learned(&self, keys: KeySet, now: Instant) {
        self.keys.store(Some(Arc::new(Loaded { keys: Arc::new(keys), since: now })));
        let mut asking = self.asking();
        let waiting = asking.told();
        *asking = Asking { next: Some(now + PAUSE), waiting, ..Asking::default() };
        asking.wake();
    }

    /// Nobody has answered; what was known goes on counting.
    fn failed(&self, now: Instant) {
        let (first, longest) = BACK_OFF;
        let mut asking = self.asking();
        let wait = first.saturating_mul(1 << asking.failures.min(10)).min(longest);
        asking.failures = asking.failures.saturating_add(1);
        asking.next = Some(now + wait);
        asking.under_way = false;
        asking.wake();
    }
}

impl Asking {
    /// Whether the caller is to ask now.
    fn begins(&mut self, now: Instant) -> bool {
        let may = !self.under_way && self.next.is_none_or(|next| next <= now);
        self.under_way |= may;
        may
    }

    fn told(&mut self) -> Vec<oneshot::Sender<()>> {
        std::mem::take(&mut self.waiting)
    }

    fn wake(&mut self) {
        for waiting in self.told() {
            // The client may have gone.
            let _ = waiting.send(());
        }
    }
}

impl LocalIssuers {
    pub(super) fn new(all: Issuers) -> Self {
        Self { all, known: RefCell::default() }
    }

    /// The keys at a URL; none if it never had an answer. `service` finds the Service that has its name, if that is
    /// not for name servers to say.
    pub(crate) async fn keys(
        &self,
        url: &Arc<KeyUrl>,
        service: impl Fn() -> Option<Arc<EndpointSet>>,
    ) -> Option<Arc<KeySet>> {
        let issuer = self.issuer(url);
        let now = Instant::now();
        if let Some(loaded) = &*issuer.keys.load() {
            if now.saturating_duration_since(loaded.since) >= FRESH {
                // The request does not wait for it.
                drop(self.ask(&issuer, service, now));
            }
            return Some(Arc::clone(&loaded.keys));
        }
        self.wait(&issuer, service, now).await
    }

    /// The keys at a URL, asked for because a token names one that these do not have. None if there are no others.
    pub(crate) async fn other_keys(
        &self,
        url: &Arc<KeyUrl>,
        service: impl Fn() -> Option<Arc<EndpointSet>>,
        than: &Arc<KeySet>,
    ) -> Option<Arc<KeySet>> {
        let issuer = self.issuer(url);
        let keys = self.wait(&issuer, service, Instant::now()).await;
        keys.filter(|keys| !Arc::ptr_eq(keys, than))
    }

    /// What is known once a question that is under way, or may be asked now, has its answer.
    async fn wait(
        &self,
        issuer: &Arc<Issuer>,
        service: impl Fn() -> Option<Arc<EndpointSet>>,
        now: Instant,
    ) -> Option<Arc<KeySet>> {
        if let Some(receiver) = self.ask(issuer, service, now) {
            // What is known then counts, whatever became of it.
            let _ = tokio::time::timeout(PATIENCE, receiver).await;
        }
        issuer.keys.load().as_ref().map(|loaded| Arc::clone(&loaded.keys))
    }

    /// Asks, if nobody does and it is not too early; the end of the question, if one is under way then.
    fn ask(
        &self,
        issuer: &Arc<Issuer>,
        service: impl Fn() -> Option<Arc<EndpointSet>>,
        now: Instant,
    ) -> Option<oneshot::Receiver<()>> {
        let mut asking = issuer.asking();
        let begins = asking.begins(now);
        if !asking.under_way {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        asking.waiting.push(sender);
        drop(asking);
        if begins {
            self.all.send(issuer, service());
        }
        Some(receiver)
    }

    fn issuer(&self, url: &Arc<KeyUrl>) -> Local {
        let at = Arc::as_ptr(url).addr();
        let mut known = self.known.borrow_mut();
        if let Some((_, issuer)) = known.get(&at) {
            return Rc::clone(issuer);
        }
        if known.len() >= KNOWN {
            known.retain(|_, (url, _)| url.strong_count() > 0);
        }
        let issuer = Rc::new(self.all.issuer(url));
        known.insert(at, (Arc::downgrade(url), Rc::clone(&issuer)));
        issuer
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_routes::{model::ExternalName, transport::Speaks};
    use http::HeaderValue;

    use super::*;

    #[test]
    fn one_question_is_under_way_and_the_next_waits_longer_with_each_failure() {
        let second = Duration::from_secs(1);
        let url = Arc::new(KeyUrl {
            name: ExternalName {
                host: "keys.test".into(),
                port: 80,
                speaks: Speaks::Http1,
                loopback: false,
            },
            authority: HeaderValue::from_static("keys.test"),
            secure: false,
            target: "/".into(),
            trust: None,
        });
        let (keys, asking) = (ArcSwapOption::empty(), Mutex::default());
        let issuer = Issuer { url, keys, asking };
        let mut now = Instant::now();
        let begins = |now| issuer.asking().begins(now);
        assert!(begins(now) && !begins(now), "one at a time");
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            issuer.failed(now);
            assert!(!begins(now + second * wait - Duration::from_millis(1)), "{wait} s");
            now += second * wait;
            assert!(begins(now), "{wait} s");
        }
        issuer.learned(KeySet::default(), now);
        assert!(!begins(now + second * 9));
        now += PAUSE;
        assert!(begins(now));
        issuer.failed(now);
        assert!(issuer.keys.load().is_some(), "what was known goes on counting");
        assert!(begins(now + second), "an answer ends the doubling");
    }
}
