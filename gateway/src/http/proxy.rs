//! One request: validate, match, filter, pick, forward, answer. Reads from top to bottom.

use std::{
    borrow::Cow, convert::Infallible, future::poll_fn, ops::ControlFlow, pin::Pin, rc::Rc,
    time::Duration,
};

use gatehouse_routes::{
    action::{Action, Forward},
    encoded_slash,
    matcher::RequestView,
    policy::Policy,
    rule::RouteRule,
    table::Matched,
};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, header, request::Parts,
    uri::PathAndQuery,
};
use http_body::Body as _;
use hyper::body::Incoming;

mod errors;

use errors::{Asked, Via};

use crate::{
    http::{
        body::{Plan, ResponseBody},
        client::ClientConn,
        client_certificate,
        error::ProxyErrorKind,
        exchange::{Exchanged, exchange},
        filter::{self, FilterRequest, Kept, Own, authenticate::Gate},
        grpc,
        head::{Local, RequestHead},
        headers, keep_body,
        record::Record,
        respond, steer,
        upgrade::Tunnel,
    },
    snapshot::{GatewaySnapshot, Snapshot},
    tls::handshakes::Unfit,
    upstream::{joined::Joined, request_body::RequestBody},
};

/// Most bytes of an unwanted body that are read so that the answer arrives (P6).
const DRAIN_BYTES: usize = 64 * 1024;
/// Longest that an unwanted body is read.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Answers one request. Never fails: what goes wrong becomes an answer.
///
/// Every byte of the future is moved for every request, and an argument of an `async fn` is kept twice in
/// it; hence a function that returns a block, and references from here on.
pub(crate) fn handle(
    conn: Rc<ClientConn>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> {
    let (mut parts, incoming) = request.into_parts();
    let mut incoming = Some(incoming);
    async move { Ok(respond(&conn, &mut parts, &mut incoming).await) }
}

async fn respond(
    conn: &Rc<ClientConn>,
    parts: &mut Parts,
    incoming: &mut Option<Incoming>,
) -> Response<ResponseBody> {
    let timers = conn.begin_request();
    let mut record = Record::begin(conn, &timers, parts);
    // A client that waits for 100 Continue has sent no body: there is nothing to drain.
    let mut body = RequestBody::new(
        incoming.take().map(|incoming| Joined::new(incoming, conn.http2)),
        Rc::clone(&timers),
        Rc::clone(conn.shared.worker.clock()),
    );
    let version = parts.version;
    conn.shared.interim.begin(version == Version::HTTP_11);
    let call = conn.http2 && grpc::is_call(&parts.headers);
    let awaits = !body.is_end_stream() && parts.headers.contains_key(header::EXPECT);
    let answered = answer(conn, &mut record, parts, &mut body).await;
    let Answer { mut response, origin } = answered.unwrap_or_else(|kind| {
        let mut answer = Answer::error(kind, &mut record, &parts.headers);
        let snapshot = conn.shared.worker.pin();
        errors::word(&snapshot, &mut record, &parts.headers, &mut answer.response);
        answer
    });
    let error = match origin {
        Origin::Backend if timers.body_held() && !conn.http2 => {
            // It never asked for the body: whether that comes all the same, nobody can tell.
            conn.shared.half_closes.set(true);
            headers::end_connection(response.headers_mut());
            None
        }
        Origin::Backend => None,
        Origin::Gateway(error) => {
            let awaits = awaits && timers.received() == 0;
            drain(conn, awaits, &mut body, &mut response).await;
            error
        }
    };
    record.answered(response.status().as_u16(), error);
    if let Some(kind) = error.filter(|_| call) {
        grpc::fit(&mut response, kind);
    }
    if conn.http2 {
        response.headers_mut().remove(header::CONNECTION);
    } else {
        if conn.shared.timers.leaving().is_some()
            && response.status() != StatusCode::SWITCHING_PROTOCOLS
        {
            headers::end_connection(response.headers_mut());
        }
        if version == Version::HTTP_10 && ends_connection(&response) {
            // To an answer of another version hyper adds that the connection goes on, if the client asked for that.
            *response.version_mut() = Version::HTTP_10;
        }
        conn.shared.worker.options.header_case.answer(&mut response);
    }
    if !response.body().is_end_stream() {
        timers.answer_offered(conn.shared.worker.now());
    }
    match conn.tunnel.borrow_mut().as_mut() {
        Some(tunnel) => {
            record.becomes_tunnel();
            tunnel.tells(record);
        }
        None => response.body_mut().finishes(record),
    }
    response
}

/// Whether the connection of a client of HTTP/1.0 ends with an answer: it says so, or nothing else tells where it ends, as
/// that version knows no chunks.
fn ends_connection(response: &Response<ResponseBody>) -> bool {
    let headers = response.headers();
    headers.contains_key(header::CONNECTION)
        || (!headers.contains_key(header::CONTENT_LENGTH)
            && response.body().size_hint().exact().is_none())
}

struct Answer {
    response: Response<ResponseBody>,
    origin: Origin,
}

/// Who gives an answer.
enum Origin {
    Backend,
    /// Ourselves, and why if it is a failure; the request's body was not asked for.
    Gateway(Option<ProxyErrorKind>),
}

impl Answer {
    fn own(response: Response<ResponseBody>) -> Self {
        Self { response, origin: Origin::Gateway(None) }
    }

    /// What a filter says, with the id of the request if that is a failure.
    fn of(own: Own, rule: &RouteRule, record: &mut Record, headers: &HeaderMap) -> Self {
        match own {
            Own::Answer(response) => Self::own(response),
            Own::Failure(kind, fields) => {
                let mut answer = Self::failed(rule, kind, record, headers);
                answer.response.headers_mut().extend(fields);
                answer
            }
        }
    }

    fn failed(
        rule: &RouteRule,
        kind: ProxyErrorKind,
        record: &mut Record,
        headers: &HeaderMap,
    ) -> Self {
        let id = record.request_id(headers);
        let response = respond::error_of(rule, kind, id.as_ref());
        Self { response, origin: Origin::Gateway(Some(kind)) }
    }

    fn error(kind: ProxyErrorKind, record: &mut Record, headers: &HeaderMap) -> Self {
        let id = record.request_id(headers);
        Self { response: respond::error(kind, id.as_ref()), origin: Origin::Gateway(Some(kind)) }
    }
}

/// The request's way, in order.
async fn answer(
    conn: &Rc<ClientConn>,
    record: &mut Record,
    parts: &mut Parts,
    body: &mut RequestBody,
) -> Result<Answer, ProxyErrorKind> {
    let most = conn.shared.worker.options.max_target;
    let mut head = RequestHead::validate(parts, conn.shared.take_head_flags(), most)?;
    if conn.shared.worker.is_overloaded() {
        return Err(ProxyErrorKind::Overloaded);
    }
    if head.local == Some(Local::Options) {
        return Ok(Answer::own(respond::options()));
    }
    let snapshot = conn.shared.worker.pin();
    let gateway = snapshot.gateway(conn.listener.slot).ok_or(ProxyErrorKind::NoRoute)?;
    check_owner(conn, gateway, &head)?;
    if conn.tls_version.is_some()
        && gateway.passes_through()
        && gateway.passed_through(&head.host).is_some()
    {
        // A wildcard may have rules for this name, and the connection may be older than what passes it on.
        return Err(ProxyErrorKind::TlsPassedOn);
    }

    let scheme = headers::client_scheme(&parts.headers, head.seen, &conn.forwarding, conn.scheme);
    let view = RequestView { scheme, host: &head.host, path: &head.path, parts };
    let Some(matched) = gateway.routes.lookup(&view) else {
        let Some(host) = gateway.routes.host_for(&head.host) else {
            return Err(ProxyErrorKind::NoRoute);
        };
        record.unrouted(host);
        let of_routes = host.of_routes();
        return Err(if of_routes { ProxyErrorKind::Unserved } else { ProxyErrorKind::NoRoute });
    };
    record.routed(matched.rule);
    if matched.overrun {
        let object = &matched.rule.object;
        conn.shared.worker.warn(|| {
            tracing::warn!(rule = %object, host = %head.host, "an expression takes too many steps");
        });
        return Err(ProxyErrorKind::ExpressionOverrun);
    }

    if head.seen.hops && headers::hops(&parts.headers) >= headers::MAX_HOPS {
        let object = &matched.rule.object;
        conn.shared.worker.warn(|| {
            tracing::warn!(rule = %object, host = %head.host, "a request goes round: its backend leads back here");
        });
        return Err(ProxyErrorKind::Loop);
    }
    let rule = &**matched.rule;
    if head.encoded_slash && !encoded_slash::admits(&gateway.routes, &view, rule) {
        return Err(ProxyErrorKind::BadPath);
    }
    let asked = Asked::of(rule, &head, parts);
    let mut kept = Kept::default();
    // Lent and given back, so that what waits is in the box alone.
    let mut refused = None;
    if let Err(kind) = check_tls(conn, (&snapshot, gateway), &head.host, matched) {
        refused = Some(Box::new(Answer::failed(rule, kind, record, &parts.headers)));
    } else if gateway.routes.asks_certificates() {
        let via = (&*snapshot, gateway);
        match client_certificate::check(conn, via, &head.host, matched, scheme) {
            Ok(certified) => kept.certified = certified,
            Err(why) => {
                let answer = match why.answer() {
                    Ok(response) => Answer::own(response),
                    Err(kind) => Answer::failed(rule, kind, record, &parts.headers),
                };
                refused = Some(Box::new(answer));
            }
        }
    }
    if refused.is_none() && rule.filters.authentication().is_some() {
        let gate = Gate {
            conn,
            snapshot: &snapshot,
            gateway,
            timers: &record.timers,
            parts,
            rule,
            scheme,
        };
        let outcome;
        (head, outcome) = Box::pin(filter::authenticate::run(gate, head, &mut kept)).await;
        record.is_called(kept.request_id());
        refused = match outcome {
            Ok(ControlFlow::Continue(())) => None,
            Ok(ControlFlow::Break(own)) => {
                Some(Box::new(Answer::of(own, rule, record, &parts.headers)))
            }
            Err(kind) => Some(Box::new(Answer::failed(rule, kind, record, &parts.headers))),
        };
    }
    let view = RequestView { scheme, host: &head.host, path: &head.path, parts };
    let via = (&**conn, gateway);
    let passed = match refused {
        Some(answer) => Err(answer),
        None => Ok(before_backend(via, rule, &head, &view, body, &mut kept)),
    };
    let mut answer = match passed {
        Err(answer) => *answer,
        Ok(Ok(ControlFlow::Break(own))) => Answer::of(own, rule, record, &parts.headers),
        Ok(Ok(ControlFlow::Continue((forward, target)))) => 'forward: {
            let steers =
                forward.spec.policy.asks_requests() || steer::keeps_clients(&snapshot, forward);
            if steers {
                steer::read(conn, record, &snapshot, forward, &view);
            }
            let policy = &*forward.spec.policy;
            let upgrade = head.upgrade.filter(|name| policy.upgrades.admit(name.as_bytes()));
            // Kept until the answer is there, by what few ask for.
            let (upgrade, mut seen) = (upgrade.cloned().map(Box::new), head.seen);
            drop(head);
            if steers {
                headers::hide_session(policy, &mut parts.headers);
            }
            let mut later = None;
            if upgrade.is_none() && keep_body::is_wanted(policy, &parts.headers, body) {
                let headers = &mut parts.headers;
                let kept = keep_body::keep(conn, &record.timers, policy, headers, body);
                if let Err(kind) = Box::pin(kept).await {
                    break 'forward Answer::failed(rule, kind, record, &parts.headers);
                }
                later = keep_body::now(conn, &snapshot, forward);
            } else if seen.expect && !body.is_end_stream() && parts.version > Version::HTTP_10 {
                // RFC 9110 §10.1.1: whether the body is wanted is the backend's to say.
                seen.expect = false;
                record.timers.hold_body(true);
            }
            to_upstream_form(parts, body, target, |headers, authority| {
                let forwarding = (&conn.forwarding, policy.forwarded);
                let upgrade = upgrade.as_deref().cloned();
                headers::prepare_request(headers, seen, upgrade, authority, forwarding);
                if let Some(certified) = &kept.certified {
                    certified.tell(seen, headers);
                }
                filter::run_forward(&rule.filters, &kept, headers);
            });
            body.withhold(filter::own_names(&rule.filters));
            if let Some(copy) = kept.copy.take().filter(|_| upgrade.is_none()) {
                filter::mirror::begin(&copy, conn, &snapshot, parts, body);
            }
            let header_case = &conn.shared.worker.options.header_case;
            header_case.request(&parts.headers, &mut parts.extensions, policy.header_case);
            let via = later.as_deref().unwrap_or(&snapshot);
            let exchanged = exchange(conn, record, via, forward, parts, body).await;
            let finished = exchanged
                .and_then(|exchanged| finish_answer(conn, record, (upgrade, policy), exchanged));
            match finished {
                Ok(mut response) => {
                    if steers {
                        steer::answered(
                            conn,
                            record,
                            &snapshot,
                            (rule, forward),
                            scheme,
                            &mut response,
                        );
                    }
                    Answer { response, origin: Origin::Backend }
                }
                Err(kind) => Answer::failed(rule, kind, record, &parts.headers),
            }
        }
        Ok(Err(kind)) => Answer::failed(rule, kind, record, &parts.headers),
    };
    if let Some(status) = kept.limit_status {
        let id = record.request_id(&parts.headers);
        respond::restate(&mut answer.response, status, id.as_ref());
    }
    if let Origin::Gateway(Some(_)) = answer.origin {
        errors::word(&snapshot, record, &parts.headers, &mut answer.response);
    }
    if kept.counted.is_some() {
        record.holds(kept.counted.take());
    }
    kept.proxied = matches!(answer.origin, Origin::Backend);
    if let Some(asked) = asked {
        let via = Via { conn, snapshot: &snapshot };
        answer = Box::pin(asked.instead(via, record, answer)).await;
    }
    filter::run_response(&rule.filters, scheme, &kept, &mut answer.response);
    Ok(answer)
}

/// Where a request goes and the target that it has there, if not its own.
type Onward<'s> = (&'s Forward, Option<PathAndQuery>);

/// What a rule says to a request before a backend sees it; `Break`: an answer of our own.
fn before_backend<'s>(
    via: (&ClientConn, &GatewaySnapshot),
    rule: &'s RouteRule,
    head: &RequestHead<'_>,
    view: &RequestView<'_>,
    body: &mut RequestBody,
    kept: &mut Kept,
) -> Result<ControlFlow<Own, Onward<'s>>, ProxyErrorKind> {
    let mut request = FilterRequest::new(via, head, view);
    request.kept = std::mem::take(kept);
    let flow = filter::run_request(rule.filters.after_authentication(), &mut request);
    *kept = std::mem::take(&mut request.kept);
    if let ControlFlow::Break(own) = flow? {
        return Ok(ControlFlow::Break(own));
    }
    if let Some(bytes) = request.body_limit
        && !body.limit(bytes)
    {
        return Err(ProxyErrorKind::BodyTooLarge);
    }
    match &rule.action {
        Action::Deny { reason, .. } => {
            tracing::debug!(rule = %rule.object, reason, "denied");
            Err(ProxyErrorKind::Denied)
        }
        Action::Redirect(redirect) => {
            let response = filter::redirect::answer(redirect, view.scheme, head, view.parts)?;
            Ok(ControlFlow::Break(response.into()))
        }
        Action::Forward(forward) => {
            let target = upstream_target(head, &view.parts.uri, request.path)?;
            Ok(ControlFlow::Continue((forward, target)))
        }
    }
}

/// P14: a connection that was opened for one owner's name carries no request for another owner's host, unless
/// the certificate that it was shown covers that host, too: then a client may take one connection for both
/// (RFC 9113 §9.1.1).
fn check_owner(
    conn: &ClientConn,
    gateway: &GatewaySnapshot,
    head: &RequestHead<'_>,
) -> Result<(), ProxyErrorKind> {
    let Some(name) = conn.server_name.as_deref() else { return Ok(()) };
    if name == head.host {
        return Ok(());
    }
    match (gateway.owner(name), gateway.owner(&head.host)) {
        (Some(named), Some(asked)) if named != asked && !gateway.certs.covers(name, &head.host) => {
            Err(ProxyErrorKind::Misdirected)
        }
        _ => Ok(()),
    }
}

/// A connection carries no request to a host whose handshakes agree on something else: its server name may be that of
/// another host, and the terms may be younger than the connection. Another connection then shows what client and host
/// have in common.
#[inline]
fn check_tls(
    conn: &ClientConn,
    (snapshot, gateway): (&Snapshot, &GatewaySnapshot),
    host: &str,
    matched: Matched<'_>,
) -> Result<(), ProxyErrorKind> {
    let own = || gateway.routes.tls_terms(Some(host));
    let terms = matched.host.tls_terms().or_else(own);
    snapshot.handshakes.admit(terms, conn.cipher).map_err(|unfit| match unfit {
        Unfit::Misdirected => ProxyErrorKind::TlsMisdirected,
        Unfit::Closed => ProxyErrorKind::Denied,
    })
}

/// The request target that the backend gets: the client's own unless a filter or a dot segment changes
/// it.
fn upstream_target(
    head: &RequestHead<'_>,
    uri: &Uri,
    path: Option<Cow<'_, str>>,
) -> Result<Option<PathAndQuery>, ProxyErrorKind> {
    let Some(path) = path else {
        let own = head.path_rewritten.then(|| head.path_and_query(uri));
        return own.map(|own| own.ok_or(ProxyErrorKind::BadPath)).transpose();
    };
    let target = match uri.query() {
        _ if path.ends_with('?') => path.trim_end_matches('?').to_owned(),
        Some(query) => format!("{path}{}{query}", if path.contains('?') { '&' } else { '?' }),
        None => path.into_owned(),
    };
    PathAndQuery::try_from(target).map(Some).map_err(|_| ProxyErrorKind::BadPath)
}

/// Makes of the request what the backend gets: origin form, HTTP/1.1, our fields.
fn to_upstream_form(
    parts: &mut Parts,
    body: &RequestBody,
    target: Option<PathAndQuery>,
    prepare: impl FnOnce(&mut HeaderMap, Option<HeaderValue>),
) {
    let authority =
        parts.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if target.is_some() || authority.is_some() {
        let path = target.or_else(|| parts.uri.path_and_query().cloned());
        parts.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    }
    parts.version = Version::HTTP_11;
    prepare(&mut parts.headers, authority);
    if !body.is_end_stream() && body.size_hint().exact().is_none() {
        // hyper would send a GET without a body rather than guess.
        parts.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Checks a backend's answer (P8, P9) and makes it fit for the client.
fn finish_answer(
    conn: &Rc<ClientConn>,
    record: &mut Record,
    (upgrade, policy): (Option<Box<HeaderValue>>, &Policy),
    (response, upstream): Exchanged,
) -> Result<Response<ResponseBody>, ProxyErrorKind> {
    let (mut parts, incoming) = response.into_parts();
    check_framing(&parts.headers)?;
    // hyper sees to that of HTTP/1 itself.
    if upstream.is_http2() && !headers::one_length(&mut parts.headers) {
        return Err(ProxyErrorKind::UpstreamInvalid);
    }
    let upgraded = parts.status == StatusCode::SWITCHING_PROTOCOLS;
    if upgraded {
        // What nobody has asked for, or something else than that, is no answer.
        let named = parts.headers.get(header::UPGRADE).map(HeaderValue::as_bytes);
        if !upgrade.is_some_and(|asked| {
            named.is_some_and(|named| named.eq_ignore_ascii_case(asked.as_bytes()))
        }) {
            return Err(ProxyErrorKind::UpstreamInvalid);
        }
    }
    // RFC 9110 §15.5.22: who is refused for its protocol is told which are taken. HTTP/2 has no way to change.
    let required = parts.status == StatusCode::UPGRADE_REQUIRED && !conn.http2;
    headers::prepare_response(&mut parts.headers, upgraded || required);
    // RFC 9112 §2.3: an intermediary sends its own version, and with it comes a framing of our own.
    parts.version = Version::HTTP_11;
    let body = if upgraded {
        conn.tunnel.replace(Some(Tunnel::new(upstream, record.timers.tunnel())));
        ResponseBody::empty()
    } else {
        // A call is a conversation.
        let waits = policy.answers.filter(|_| !grpc::is_call(&parts.headers));
        let plan = waits.and_then(|_| Plan::of(policy, &mut parts.headers, record));
        let mut body = ResponseBody::upstream(incoming, upstream, record);
        if let Some(plan) = plan {
            body.buffer(plan);
        }
        body
    };
    Ok(Response::from_parts(parts, body))
}

/// P8: an answer has one length, too. hyper prefers the coding and would pass both on.
fn check_framing(headers: &HeaderMap) -> Result<(), ProxyErrorKind> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    if codings.next().is_some()
        || !coding.as_bytes().eq_ignore_ascii_case(b"chunked")
        || headers.contains_key(header::CONTENT_LENGTH)
    {
        return Err(ProxyErrorKind::UpstreamInvalid);
    }
    Ok(())
}

/// P6: reads what is left of a request that was answered without its body, within bounds, so that the
/// client gets to see the answer; beyond them the connection ends with it.
async fn drain(
    conn: &ClientConn,
    awaits: bool,
    body: &mut RequestBody,
    response: &mut Response<ResponseBody>,
) {
    if conn.http2 || awaits || body.is_end_stream() {
        return;
    }
    let mut left = DRAIN_BYTES;
    let emptied = tokio::time::timeout(conn.shared.worker.scaled(DRAIN_TIME), async {
        loop {
            match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
                None => return true,
                Some(Err(_)) => return false,
                Some(Ok(frame)) => {
                    let bytes = frame.data_ref().map_or(0, bytes::Bytes::len);
                    let Some(rest) = left.checked_sub(bytes) else { return false };
                    left = rest;
                }
            }
        }
    })
    .await;
    if emptied != Ok(true) {
        conn.shared.half_closes.set(true);
        headers::end_connection(response.headers_mut());
    }
}
