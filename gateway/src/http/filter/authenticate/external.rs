//! Asks a service whether a request may pass, as nginx's `auth_request` does: 2xx lets it pass, 401 and 403 refuse
//! it, anything else is a failure, and a failure refuses.
//!
//! The question is sent over the worker's own connections, without the request's body, which stays where it is.
//! A service behind a host of this gateway is asked directly, by the rules of that host: the way over our own
//! listener would cost a connection and could go round.

use std::{
    borrow::Cow, future::poll_fn, net::SocketAddr, pin::pin, rc::Rc, sync::Arc, task::Poll,
    time::Duration,
};

use gatehouse_routes::{
    action::{Action, Forward},
    filter::{
        Filter,
        authentication::{
            Authentication,
            external::{AuthServer, Cache, External},
        },
    },
    matcher::RequestView,
    model::{BackendSlot, Endpoint, HostPattern, Scheme},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
    response, uri::PathAndQuery,
};
use hyper::body::Incoming;

use super::{Decision, FilterRequest, Gate, Kept, Own};
use crate::{
    http::{
        client_certificate::Certified, error::ProxyErrorKind, filter::redirect, head::RequestHead,
        head_scanner::HeadFlags, headers,
    },
    upstream::{
        connect::connect,
        connection::Upstream,
        discard::discard,
        key::{Asks, Target, Transport, UpstreamKey},
        permit::Most,
        pick::{Picked, Tries},
        request_body::RequestBody,
        sessions::PickContext,
    },
    verdicts::Said,
    worker::clock::Tick,
};

/// Longest that a service may take, from the first try to the head of its answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of an answer's body that are read so that its connection can be used again, and for how long.
const DRAIN: (usize, Duration) = (64 * 1024, Duration::from_secs(1));

static X_ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");
static X_ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
static X_ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
static X_AUTH_REQUEST_REDIRECT: HeaderName = HeaderName::from_static("x-auth-request-redirect");
static X_SENT_FROM: HeaderName = HeaderName::from_static("x-sent-from");
/// Other words for the target and method of a request, which this gateway does not use.
static FORWARDED_AS: [HeaderName; 2] =
    [HeaderName::from_static("x-forwarded-uri"), HeaderName::from_static("x-forwarded-method")];
pub(super) static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Fields that are about the body of the request, or about an answer that the client has already.
const NOT_ASKED: [HeaderName; 11] = [
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::TRANSFER_ENCODING,
    header::EXPECT,
    header::RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
];

/// What the question is.
struct Question {
    target: PathAndQuery,
    method: Method,
    headers: HeaderMap,
}

/// Asks, unless what was said before counts for this request, and tells what the answer means.
pub(super) async fn check(
    (external, asker): (&External, &Arc<Authentication>),
    gate: &Gate<'_>,
    request: &FilterRequest<'_>,
    kept: &mut Kept,
) -> Result<Decision, ProxyErrorKind> {
    let worker = &gate.conn.shared.worker;
    let key = external.cache.as_ref().map(|cache| key(cache, gate, request));
    if let Some(key) = &key
        && let Some(said) = worker.verdicts().of(asker, key, worker.now())
    {
        return decide(&said, external, gate, request, kept);
    }
    let question = question(external, gate, request, kept.certified.as_deref())?;
    let request_id = question.headers.get(&X_REQUEST_ID).cloned();
    if let Some(id) = request_id.clone() {
        // Whatever comes of it.
        kept.passed.get_or_insert_default().set.push((X_REQUEST_ID.clone(), id));
    }
    let asked =
        tokio::time::timeout(worker.scaled(TIMEOUT), ask(external, gate, request, question));
    let (answer, upstream) = match asked.await {
        Ok(answered) => answered?,
        Err(_) => return Err(failed(gate, "it has not answered in time")),
    };
    let (parts, body) = answer.into_parts();
    discard((worker, &gate.conn.upstreams.pool), (body, upstream), DRAIN).await;
    let said = Rc::new(said(&parts, external));
    if let (Some(cache), Some(key)) = (&external.cache, key)
        && let Some(time) = cache.durations.of(parts.status)
        && may_count_again(&parts)
    {
        let time = Tick::try_from(time.as_millis()).unwrap_or(Tick::MAX);
        let now = worker.now();
        worker.verdicts().learn(asker, key, &said, (now, now.saturating_add(time)));
    }
    let decision = decide(&said, external, gate, request, kept);
    if let (Some(id), Ok(Decision::Passes)) = (request_id, &decision) {
        kept.passed.get_or_insert_default().set.push((X_REQUEST_ID.clone(), id));
    }
    decision
}

/// What an answer says, as far as it matters.
fn said(parts: &response::Parts, external: &External) -> Said {
    let all = |name: &HeaderName| parts.headers.get_all(name).iter().cloned().collect();
    let copied = external.copy.iter().flat_map(|name| {
        parts.headers.get_all(name).iter().map(move |value| (name.clone(), value.clone()))
    });
    Said {
        status: parts.status,
        copied: copied.collect(),
        challenges: all(&header::WWW_AUTHENTICATE),
        cookies: all(&header::SET_COOKIE),
    }
}

/// Whether an answer may count for other requests: one that sets a cookie is meant for one client alone, however
/// little the key tells clients apart.
fn may_count_again(parts: &response::Parts) -> bool {
    let alone = |value: &HeaderValue| {
        let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        ["no-store", "no-cache", "private"].iter().any(|word| text.contains(word))
    };
    let usual = parts.status.is_success()
        || matches!(parts.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    usual
        && !parts.headers.contains_key(header::SET_COOKIE)
        && !parts.headers.get_all(header::CACHE_CONTROL).iter().any(alone)
}

/// What requests have in common that an answer counts for; the object is known apart from it.
fn key(cache: &Cache, gate: &Gate<'_>, request: &FilterRequest<'_>) -> Vec<u8> {
    let mut key = Vec::with_capacity(128);
    for part in [&*request.head.host, gate.rule.matches.path.text()] {
        key.extend_from_slice(part.as_bytes());
        key.push(0);
    }
    let view = RequestView {
        scheme: gate.scheme,
        host: &request.head.host,
        path: &request.head.path,
        parts: gate.parts,
    };
    cache.key.append(&view, || request.client(), &mut key);
    key
}

/// What an answer means for a request.
fn decide(
    said: &Said,
    external: &External,
    gate: &Gate<'_>,
    request: &FilterRequest<'_>,
    kept: &mut Kept,
) -> Result<Decision, ProxyErrorKind> {
    let mut with_cookies = external.always_cookies;
    let mut refusal = match said.status {
        status if status.is_success() => {
            let passed = kept.passed.get_or_insert_default();
            passed.set = said.copied.clone();
            passed.cookies = said.cookies.clone();
            passed.always = external.always_cookies;
            return Ok(Decision::Passes);
        }
        StatusCode::UNAUTHORIZED => {
            with_cookies |= external.signin.is_some();
            let mut refusal = match &external.signin {
                Some(signin) => {
                    let to = redirect::filled(signin, gate.scheme, request.head, gate.parts);
                    redirect::to(302, to)?.into()
                }
                None => Own::Failure(ProxyErrorKind::Unauthorized, HeaderMap::new()),
            };
            for value in &said.challenges {
                refusal.fields_mut().append(header::WWW_AUTHENTICATE, value.clone());
            }
            refusal
        }
        StatusCode::FORBIDDEN => {
            Own::Failure(ProxyErrorKind::AuthenticationRefused, HeaderMap::new())
        }
        status => return Err(failed(gate, status.as_str())),
    };
    for value in said.cookies.iter().filter(|_| with_cookies) {
        refusal.fields_mut().append(header::SET_COOKIE, value.clone());
    }
    Ok(Decision::Refuses(refusal))
}

/// What the service gets: the request's own fields but those of its body, and what it needs to know about it.
fn question(
    external: &External,
    gate: &Gate<'_>,
    request: &FilterRequest<'_>,
    certified: Option<&Certified>,
) -> Result<Question, ProxyErrorKind> {
    let fill = |template| redirect::filled(template, gate.scheme, request.head, gate.parts);
    let target = PathAndQuery::try_from(fill(&external.target))
        .map_err(|_| failed(gate, "its path cannot be sent"))?;
    let mut headers = request.headers.clone();
    let authority = request.uri.authority();
    let authority = authority.and_then(|it| HeaderValue::from_str(it.as_str()).ok());
    headers::prepare_request(
        &mut headers,
        request.head.seen,
        None,
        authority,
        (
            &gate.conn.forwarding,
            gate.rule.forward().and_then(|forward| forward.spec.policy.forwarded),
        ),
    );
    if let Some(certified) = certified {
        certified.tell(request.head.seen, &mut headers);
    }
    for name in NOT_ASKED {
        headers.remove(name);
    }
    if let Some(forward) = gate.rule.forward() {
        headers::hide_session(&forward.spec.policy, &mut headers);
    }
    for name in &FORWARDED_AS {
        headers::remove_spellings(&mut headers, name);
    }
    // A field of the answer may be one of the question, too, but only as it is spelled.
    for name in &external.copy {
        headers::remove_aliases(&mut headers, name, |_| false);
    }
    if let Some((_, authentication)) = gate.rule.filters.authentication() {
        for (_, name) in authentication.jwt.iter().flat_map(|jwt| &jwt.copy) {
            headers::remove_spellings(&mut headers, name);
        }
    }
    let asked = headers.get(header::HOST).cloned();
    let uri = &*request.head.target(request.uri);
    let scheme = match gate.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let host = asked.as_ref().and_then(|host| host.to_str().ok()).unwrap_or(&request.head.host);
    let mut put = |name: &HeaderName, value: Cow<'_, str>| match HeaderValue::from_str(&value) {
        Ok(value) => {
            headers::remove_spellings(&mut headers, name);
            // As in nginx, a field without a value is not sent.
            if !value.is_empty() {
                headers.insert(name.clone(), value);
            }
            Ok(())
        }
        Err(_) => Err(ProxyErrorKind::BadPath),
    };
    put(&X_ORIGINAL_URL, format!("{scheme}://{host}{uri}").into())?;
    put(&X_ORIGINAL_URI, uri.into())?;
    put(&X_ORIGINAL_METHOD, request.method.as_str().into())?;
    put(&X_SENT_FROM, "gatehouse".into())?;
    let back = match &external.redirect {
        Some(to) => Cow::Owned(fill(to)),
        None => Cow::Borrowed(uri),
    };
    put(&X_AUTH_REQUEST_REDIRECT, back)?;
    for (name, value) in &external.set {
        put(name, fill(value).into())?;
    }
    if let AuthServer::Host { authority, .. } = &external.server {
        headers.insert(header::HOST, authority.clone());
    }
    let method = external.method.clone();
    if matches!(method, Method::POST | Method::PUT | Method::PATCH) {
        // RFC 9110 §8.6: it says that there is no body.
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    Ok(Question { target, method, headers })
}

/// Finds the service and has it answer.
async fn ask(
    external: &External,
    gate: &Gate<'_>,
    request: &FilterRequest<'_>,
    question: Question,
) -> Result<(Response<Incoming>, Upstream), ProxyErrorKind> {
    let (conn, worker) = (gate.conn, &gate.conn.shared.worker);
    match &external.server {
        AuthServer::SameHost => ask_own(&request.head.host, gate, request, question).await,
        AuthServer::Host { name, .. } if serves(gate, &name.host) => {
            ask_own(&name.host, gate, request, question).await
        }
        AuthServer::Host { name, service, secure, trust, .. } => {
            let endpoint = match service {
                Some(service) => Some(picked((service, gate), &question.headers).await?.1),
                None => {
                    let endpoints = conn.upstreams.names.endpoints(worker, name).await;
                    let at = fastrand::usize(..endpoints.len().max(1));
                    endpoints.get(at).map(|endpoint| Picked::Named(Rc::clone(endpoint)))
                }
            };
            let Some(endpoint) = endpoint else {
                return Err(failed(gate, "its name has no address that may be asked"));
            };
            let way = match secure {
                true => Some(conn.upstreams.outside.way(&name.host, trust.as_ref())),
                false => None,
            };
            let way = way.transpose().map_err(|why| failed(gate, &why))?;
            let transport = way.as_ref().map_or(Transport::Clear, |way| Transport::Tls(way.id));
            let key = UpstreamKey { address: endpoint.address, transport };
            send(gate, &endpoint, Target { key, way: way.as_deref() }, question).await
        }
    }
}

/// Asks a service behind a host of this gateway: the endpoint that a rule of that host leads to.
async fn ask_own(
    host: &str,
    gate: &Gate<'_>,
    request: &FilterRequest<'_>,
    question: Question,
) -> Result<(Response<Incoming>, Upstream), ProxyErrorKind> {
    let mut asked = Request::new(());
    *asked.method_mut() = question.method.clone();
    *asked.uri_mut() = Uri::from(question.target.clone());
    *asked.headers_mut() = question.headers.clone();
    let (parts, ()) = asked.into_parts();
    let most = gate.conn.shared.worker.options.max_target;
    let head = RequestHead::validate(&parts, HeadFlags::default(), most)
        .map_err(|_| failed(gate, "its path is not clean"))?;
    let view = RequestView { scheme: gate.scheme, host, path: &head.path, parts: &parts };
    let Some(matched) = gate.gateway.routes.lookup(&view) else {
        return Err(failed(gate, "no rule of this gateway has its host and path"));
    };
    let rule = &**matched.rule;
    if matched.host.client_certificates().is_some() && *host != *request.head.host {
        return Err(failed(gate, "its own host asks for client certificates"));
    }
    for filter in rule.filters.iter() {
        match filter {
            Filter::Access(rules) if !rules.admit(request.client()) => {
                return Err(ProxyErrorKind::AddressRefused);
            }
            Filter::Authenticate(_) => {
                return Err(failed(gate, "its own path asks for authentication"));
            }
            Filter::Rewrite(_) => {
                return Err(failed(gate, "its own path is rewritten, which is not supported here"));
            }
            _ => {}
        }
    }
    let Action::Forward(forward) = &rule.action else {
        return Err(failed(gate, "its own path leads to no backend"));
    };
    let (slot, endpoint) = picked((forward, gate), &parts.headers).await?;
    // As for a tunnel: the question is put into HTTP/1.1.
    let asks = || Asks { http2: false, http1: true };
    let target = Target::of(&endpoint, slot, &gate.snapshot.backend_tls, asks);
    let target = target.map_err(|why| failed(gate, why))?;
    send(gate, &endpoint, target, question).await
}

/// The endpoint that is asked, and of which backend it is.
async fn picked<'g>(
    (forward, gate): (&'g Forward, &Gate<'g>),
    headers: &HeaderMap,
) -> Result<(BackendSlot, Picked<'g>), ProxyErrorKind> {
    let nobody = || failed(gate, "it has no ready endpoint");
    let (upstreams, context) = (&gate.conn.upstreams, PickContext::default);
    let table = &gate.snapshot.backends;
    let picked = upstreams.pick_backend(forward, table, headers, context());
    let (backend, index) = picked.ok_or_else(nobody)?;
    let slot = forward.spec.backends[index].slot;
    let mut tries = Tries::of(backend, forward, index, context());
    let endpoint = upstreams.pick_endpoint(&gate.conn.shared.worker, &mut tries).await;
    Ok((slot, endpoint.ok_or_else(nobody)?))
}

/// Whether rules of this gateway name a host.
fn serves(gate: &Gate<'_>, host: &str) -> bool {
    let found = gate.gateway.routes.host_for(host);
    found.is_some_and(|found| *found.pattern() != HostPattern::Any)
}

/// Sends the question over a connection that was kept, or else over a new one.
async fn send(
    gate: &Gate<'_>,
    endpoint: &Endpoint,
    target: Target<'_>,
    question: Question,
) -> Result<(Response<Incoming>, Upstream), ProxyErrorKind> {
    let pool = &gate.conn.upstreams.pool;
    if let Some(upstream) = pool.checkout(&target.key)
        && let Ok(answered) = exchange(gate, upstream, &question).await
    {
        return Ok(answered);
    }
    let upstream = open(gate, endpoint, target).await?;
    exchange(gate, upstream, &question).await
}

async fn open(
    gate: &Gate<'_>,
    endpoint: &Endpoint,
    target: Target<'_>,
) -> Result<Upstream, ProxyErrorKind> {
    let (worker, address): (_, SocketAddr) = (&gate.conn.shared.worker, endpoint.address);
    if worker.is_own(address) {
        return Err(failed(gate, "it is this gateway itself"));
    }
    let options = &worker.options;
    let most = Most { all: options.max_connections, each: options.max_endpoint_connections };
    let permit = gate.conn.upstreams.pool.permit(address, most);
    let permit = permit.ok_or_else(|| failed(gate, "too many connections are open"))?;
    let on = (&**worker, &*gate.conn.upstreams);
    let opened = connect(on, gate.timers, target, (&endpoint.stats, permit), false).await;
    opened.map_err(|_| failed(gate, "it accepts no connections"))
}

async fn exchange(
    gate: &Gate<'_>,
    mut upstream: Upstream,
    question: &Question,
) -> Result<(Response<Incoming>, Upstream), ProxyErrorKind> {
    let clock = Rc::clone(gate.conn.shared.worker.clock());
    let mut request = Request::new(RequestBody::new(None, Rc::clone(gate.timers), clock));
    *request.method_mut() = question.method.clone();
    *request.uri_mut() = Uri::from(question.target.clone());
    *request.headers_mut() = question.headers.clone();
    let mut sent = pin!(upstream.send(request));
    let answered = poll_fn(|cx| {
        gate.timers.register(cx);
        if gate.timers.expired().is_some() {
            return Poll::Ready(Err(ProxyErrorKind::ClientGone));
        }
        let alive = upstream.drive(cx);
        // What comes before the answer is not for the client.
        while upstream.next_interim().is_some() {}
        match sent.as_mut().poll(cx) {
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
            Poll::Pending if alive => Poll::Pending,
            Poll::Ready(Err(_)) | Poll::Pending => {
                Poll::Ready(Err(failed(gate, "it has closed the connection without an answer")))
            }
        }
    })
    .await?;
    Ok((answered, upstream))
}

/// The service cannot be asked, or has not said what it may say.
fn failed(gate: &Gate<'_>, why: &str) -> ProxyErrorKind {
    let rule = &gate.rule.object;
    gate.conn.shared.worker.warn(|| {
        tracing::warn!(%rule, why, "the authentication service of a rule lets nobody pass");
    });
    ProxyErrorKind::AuthenticationFailed
}
