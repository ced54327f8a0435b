//! What was asked of the API server and what came back, counted by verb and code.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use tower::{BoxError, Layer, Service};

/// The counts of one process, and which watches the API server has accepted last. Shared by its clients.
#[derive(Debug, Default)]
pub struct Requests {
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    /// By verb, as in RBAC rules, and status code; 0: no answer at all.
    codes: BTreeMap<(&'static str, u16), u64>,
    /// By path.
    watches: BTreeMap<String, Instant>,
    answered: Option<Instant>,
}

impl Requests {
    /// How many requests there were by verb, as in RBAC rules, and status code; 0: no answer at all.
    pub fn counts(&self) -> BTreeMap<(&'static str, u16), u64> {
        self.counted().codes.clone()
    }

    /// When the API server last began to answer a watch of this path.
    pub(crate) fn watched(&self, path: &str) -> Option<Instant> {
        self.counted().watches.get(path).copied()
    }

    /// When the API server last answered at all, but with an error of its own.
    pub(crate) fn answered(&self) -> Option<Instant> {
        self.counted().answered
    }

    fn count(&self, request: &Asked, code: Option<StatusCode>) {
        let mut counted = self.counted();
        let number = code.map_or(0, |code| code.as_u16());
        *counted.codes.entry((request.verb, number)).or_default() += 1;
        if code.is_some_and(|code| !code.is_server_error()) {
            counted.answered = Some(Instant::now());
        }
        if request.verb == "watch" && code.is_some_and(|code| code.is_success()) {
            counted.watches.insert(request.path.clone(), Instant::now());
        }
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts what passes.
#[derive(Clone, Debug)]
pub(super) struct CountLayer(pub(super) Arc<Requests>);

impl<S> Layer<S> for CountLayer {
    type Service = Count<S>;

    fn layer(&self, inner: S) -> Count<S> {
        Count { inner, requests: Arc::clone(&self.0) }
    }
}

/// The service that [`CountLayer`] makes.
#[derive(Clone, Debug)]
pub(super) struct Count<S> {
    inner: S,
    requests: Arc<Requests>,
}

impl<S, A, B> Service<Request<A>> for Count<S>
where
    S: Service<Request<A>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let asked = Asked { verb: verb(&request), path: request.uri().path().to_owned() };
        let requests = Arc::clone(&self.requests);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            requests.count(&asked, answer.as_ref().ok().map(Response::status));
            answer
        })
    }
}

struct Asked {
    verb: &'static str,
    path: String,
}

/// True for a request whose answer does not end by itself.
pub(super) fn is_watch<B>(request: &Request<B>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|part| matches!(part, "watch=true" | "watch=1"))
}

/// The verb as RBAC rules have it.
fn verb<B>(request: &Request<B>) -> &'static str {
    match *request.method() {
        Method::GET if is_watch(request) => "watch",
        Method::GET if is_collection(request.uri().path()) => "list",
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    }
}

/// True for `/api/v1[/namespaces/NS]/PLURAL` and `/apis/GROUP/VERSION[/namespaces/NS]/PLURAL`.
fn is_collection(path: &str) -> bool {
    let mut parts = path.trim_matches('/').split('/');
    let prefix = match parts.next() {
        Some("api") => 1,
        Some("apis") => 2,
        _ => return false,
    };
    let rest: Vec<&str> = parts.skip(prefix).collect();
    matches!(*rest, [_] | ["namespaces", _, _])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: Method, uri: &str) -> Request<()> {
        Request::builder().method(method).uri(uri).body(()).unwrap()
    }

    #[test]
    fn verbs_are_those_of_rbac_rules() {
        for (uri, expected) in [
            ("/api/v1/services?limit=500", "list"),
            ("/api/v1/namespaces", "list"),
            ("/api/v1/namespaces/a", "get"),
            ("/api/v1/namespaces/a/secrets/b", "get"),
            ("/api/v1/namespaces/a/secrets?&watch=true&fieldSelector=metadata.name%3Db", "watch"),
            ("/apis/route.openshift.io/v1/routes", "list"),
            ("/apis/route.openshift.io/v1/namespaces/a/routes/b", "get"),
            ("/apis/route.openshift.io/v1/namespaces/a/routes?watch=1", "watch"),
            ("/version", "get"),
        ] {
            assert_eq!(verb(&asked(Method::GET, uri)), expected, "{uri}");
        }
        assert_eq!(verb(&asked(Method::PATCH, "/api/v1/namespaces/a/services/b/status")), "patch");
    }

    #[test]
    fn answers_are_counted_by_code_and_watches_by_path() {
        let requests = Requests::default();
        let watch = Asked { verb: "watch", path: "/api/v1/nodes".to_owned() };
        requests.count(&watch, None);
        requests.count(&watch, Some(StatusCode::SERVICE_UNAVAILABLE));
        assert!(requests.answered().is_none() && requests.watched("/api/v1/nodes").is_none());
        requests.count(&watch, Some(StatusCode::OK));
        assert!(requests.answered().is_some() && requests.watched("/api/v1/nodes").is_some());
        let counts = [(("watch", 0), 1), (("watch", 200), 1), (("watch", 503), 1)];
        assert_eq!(requests.counts(), counts.into());
    }
}
