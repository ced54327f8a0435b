//! What is remembered of one request until its answer has left: for the log line and the counters.
//!
//! Lives in the answer's body; its drop is the one end of every request, however it comes about.

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use gatehouse_routes::{objects::ObjectKey, rule::RouteRule, table::HostRoutes};
use http::{
    HeaderMap, HeaderValue, Method, Uri, Version,
    header::{AUTHORIZATION, HOST, REFERER, USER_AGENT},
};

use crate::{
    access_log,
    admin::metrics::series::{Number, Totals},
    http::{
        client::ClientConn,
        error::ProxyErrorKind,
        headers::{client_address, random_id, request_id_of},
        upgrade::Flow,
    },
    upstream::{gates::Entry, loads::UnderWay, request_body::BodyError, sessions::PickContext},
    worker::{
        counters::Counts,
        in_flight::Counted,
        series::RuleSeries,
        timeouts::{Expiry, RequestTimers},
    },
};

/// One request, from its head to the end of its answer.
pub(crate) struct Record {
    pub(crate) conn: Rc<ClientConn>,
    pub(crate) timers: Rc<RequestTimers>,
    started: Instant,
    status: u16,
    bytes_out: u64,
    /// Bytes of a tunnel from the client.
    tunnelled: u64,
    /// It has been counted: only the log line is due.
    counted: bool,
    error: Option<ProxyErrorKind>,
    /// The rule that answers, and where its answers are counted.
    rule: Option<Rc<RuleSeries>>,
    /// Where answers of a host are counted whose rules did not match.
    host: Option<Rc<Counts<Totals>>>,
    /// Index among the backends of the rule.
    backend: Option<usize>,
    pub(crate) retries: u32,
    pub(crate) endpoint: Option<SocketAddr>,
    /// What it says of the endpoint that it belongs to.
    pub(crate) pick_context: PickContext,
    /// What the endpoint has under way with it.
    pub(crate) under_way: Option<UnderWay>,
    /// Its right to be under way there, where that is bounded.
    pub(crate) entry: Option<Entry>,
    log: Option<Box<LogFields>>,
    /// It counts as one under way.
    counted_in: Option<Box<Counted>>,
}

/// Where a request was sent.
pub(crate) struct Mark {
    backend: Option<usize>,
    endpoint: Option<SocketAddr>,
}

/// What only the access log needs.
struct LogFields {
    method: Method,
    uri: Uri,
    version: Version,
    host: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    authorization: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
    /// Who really asks, as far as trusted proxies tell.
    client: IpAddr,
    upstream: Option<Duration>,
    upstream_status: Option<u16>,
}

impl Record {
    pub(crate) fn begin(
        conn: &Rc<ClientConn>,
        timers: &Rc<RequestTimers>,
        parts: &http::request::Parts,
    ) -> Box<Self> {
        let worker = &conn.shared.worker;
        conn.shared.timers.request_begins(worker.now());
        let log = worker.logs_access().then(|| {
            Box::new(LogFields {
                method: parts.method.clone(),
                uri: parts.uri.clone(),
                version: parts.version,
                host: parts
                    .headers
                    .get(HOST)
                    .cloned()
                    .or_else(|| HeaderValue::from_str(parts.uri.authority()?.as_str()).ok()),
                user_agent: parts.headers.get(USER_AGENT).cloned(),
                referer: parts.headers.get(REFERER).cloned(),
                authorization: worker
                    .logs_users()
                    .then(|| parts.headers.get(AUTHORIZATION).cloned())
                    .flatten(),
                request_id: request_id_of(&parts.headers).cloned(),
                client: client_address(&parts.headers, &conn.forwarding),
                upstream: None,
                upstream_status: None,
            })
        });
        Box::new(Self {
            conn: Rc::clone(conn),
            timers: Rc::clone(timers),
            started: Instant::now(),
            status: 0,
            bytes_out: 0,
            tunnelled: 0,
            counted: false,
            error: None,
            rule: None,
            host: None,
            backend: None,
            retries: 0,
            endpoint: None,
            pick_context: PickContext::default(),
            under_way: None,
            entry: None,
            log,
            counted_in: None,
        })
    }

    /// The rule that answers.
    pub(crate) fn routed(&mut self, rule: &Arc<RouteRule>) {
        self.rule = Some(self.conn.shared.worker.series().of_rule(rule));
    }

    /// The host whose rules did not match.
    pub(crate) fn unrouted(&mut self, host: &Arc<HostRoutes>) {
        self.host = Some(self.conn.shared.worker.series().of_host(host));
    }

    /// Which backend of the rule was chosen.
    pub(crate) fn forwarded(&mut self, backend: usize, headers: &HeaderMap) {
        self.backend = Some(backend);
        if let Some(log) = &mut self.log {
            log.request_id = request_id_of(headers).cloned();
        }
    }

    /// Others have been told what the request is called.
    pub(crate) fn is_called(&mut self, id: Option<&HeaderValue>) {
        if let (Some(log), Some(id)) = (&mut self.log, id) {
            log.request_id.get_or_insert_with(|| id.clone());
        }
    }

    /// The id of the request as its backend and its log line have it; `None` if nobody keeps one.
    pub(crate) fn request_id(&mut self, headers: &HeaderMap) -> Option<HeaderValue> {
        let given = request_id_of(headers).cloned();
        let Some(log) = &mut self.log else { return given };
        if log.request_id.is_none() {
            log.request_id = given.or_else(|| HeaderValue::from_bytes(&random_id()).ok());
        }
        log.request_id.clone()
    }

    /// Counts as one under way until the answer has left.
    pub(crate) fn holds(&mut self, counted: Option<Box<Counted>>) {
        self.counted_in = counted;
    }

    /// Where the request was sent, while something else is asked about it.
    pub(crate) fn mark(&self) -> Mark {
        Mark { backend: self.backend, endpoint: self.endpoint }
    }

    /// Forgets what was asked since.
    pub(crate) fn restore(&mut self, mark: Mark) {
        Mark { backend: self.backend, endpoint: self.endpoint } = mark;
    }

    /// Index of that backend.
    pub(crate) fn backend(&self) -> Option<usize> {
        self.backend
    }

    /// The endpoint answered so long after it had got the request.
    pub(crate) fn answered_after(&self, time: Duration) {
        if let Some(under_way) = &self.under_way {
            under_way.answered(time, self.conn.shared.worker.now());
        }
    }

    /// The head of the answer is there.
    pub(crate) fn answered(&mut self, status: u16, error: Option<ProxyErrorKind>) {
        self.status = status;
        self.error = error;
        self.timers.upstream_delivered();
        if let Some(log) = &mut self.log
            && self.backend.is_some()
        {
            log.upstream = Some(self.started.elapsed());
            log.upstream_status = error.is_none().then_some(status);
        }
    }

    /// The connection is a tunnel from now on: the request has been answered, and the log line waits for the
    /// end.
    pub(crate) fn becomes_tunnel(&mut self) {
        self.count(self.started.elapsed());
        self.conn.shared.request_ends();
    }

    /// A part of the answer's body leaves.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.bytes_out += bytes as u64;
    }

    /// The answer broke off.
    pub(crate) fn cut(&mut self, error: &BodyError) {
        self.error = Some(match error {
            BodyError::Expired(
                Expiry::Upstream
                | Expiry::Sending
                | Expiry::SlowConnect
                | Expiry::TryConnect
                | Expiry::Connect,
            ) => ProxyErrorKind::UpstreamTimeout,
            BodyError::Expired(Expiry::SlowBody) => ProxyErrorKind::SlowRequest,
            BodyError::Expired(Expiry::Stalled | Expiry::Silent) => ProxyErrorKind::ClientStalled,
            BodyError::Expired(Expiry::Gone) => ProxyErrorKind::ClientGone,
            BodyError::Trailers(_) => ProxyErrorKind::ClientGone,
            BodyError::TooLarge => ProxyErrorKind::BodyTooLarge,
            BodyError::Unkept(_) => ProxyErrorKind::BodyUnkept,
            BodyError::Broken(_)
            | BodyError::Copy(_)
            | BodyError::Cut
            | BodyError::Kept(_)
            | BodyError::Transform(_) => ProxyErrorKind::UpstreamCut,
        });
    }

    /// Counts the request, once.
    fn count(&mut self, elapsed: Duration) {
        if std::mem::replace(&mut self.counted, true) {
            return;
        }
        let worker = &self.conn.shared.worker;
        let (metrics, series) = (worker.metrics(), worker.series());
        let bucket = metrics.observe(elapsed);
        if let Some(error) = self.fate() {
            metrics.error(error as usize);
        }
        if let Some(class) = (usize::from(self.status) / 100).checked_sub(1) {
            let counts = match (&self.rule, &self.host) {
                (Some(rule), _) => rule.counts(self.backend.unwrap_or_default()),
                (None, Some(host)) => host,
                (None, None) => series.of_strangers(),
            };
            let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
            series.add(counts, Number::Class(class), 1);
            series.add(counts, Number::Latency(bucket), 1);
            series.add(counts, Number::Micros, micros);
            series.add(counts, Number::BytesIn, self.timers.received());
            series.add(counts, Number::BytesOut, self.bytes_out);
        }
    }

    /// The Service that the request was sent to.
    fn service(&self) -> Option<&ObjectKey> {
        let backends = &self.rule.as_ref()?.rule.forward()?.spec.backends;
        Some(&backends.get(self.backend?)?.key.service)
    }

    /// Writes the log line.
    fn write(&self, log: &LogFields, elapsed: Duration) {
        let (conn, path) = (&self.conn, log.uri.path_and_query());
        let made_up;
        let request_id = match &log.request_id {
            Some(request_id) => request_id.as_bytes(),
            None => {
                made_up = random_id();
                &made_up
            }
        };
        conn.shared.worker.log_access(&access_log::Entry {
            time: SystemTime::now(),
            client: SocketAddr::new(log.client, conn.peer.port()),
            local: conn.local,
            method: log.method.as_str(),
            scheme: conn.scheme_name(),
            host: log.host.as_ref().map_or(b"".as_slice(), HeaderValue::as_bytes),
            path: path.map_or("", |path| path.path()).as_bytes(),
            query: path.and_then(|path| path.query()).map(str::as_bytes),
            version: log.version,
            tls: conn.tls_version,
            server_name: conn.server_name.as_deref(),
            status: self.status,
            upstream_status: log.upstream_status,
            bytes_in: self.timers.received() + self.tunnelled,
            bytes_out: self.bytes_out,
            duration: elapsed,
            route: self.rule.as_ref().map(|series| &series.rule.object),
            backend: self.service(),
            endpoint: self.endpoint,
            upstream: log.upstream,
            retries: self.retries,
            error: self.fate().map_or("", ProxyErrorKind::label),
            request_id,
            user_agent: log.user_agent.as_ref().map(HeaderValue::as_bytes),
            referer: log.referer.as_ref().map(HeaderValue::as_bytes),
            authorization: log.authorization.as_ref().map(HeaderValue::as_bytes),
        });
    }

    /// What ended the request from outside, or that the client left before its answer.
    fn fate(&self) -> Option<ProxyErrorKind> {
        match self.timers.expired() {
            Some(Expiry::Stalled) => Some(ProxyErrorKind::ClientStalled),
            _ if self.status == 0 => Some(ProxyErrorKind::ClientGone),
            _ => self.error,
        }
    }
}

/// A request that became a tunnel.
impl Flow for Record {
    fn took(&mut self, bytes: usize) {
        self.tunnelled += bytes as u64;
    }

    fn sent(&mut self, bytes: usize) {
        self.bytes_out += bytes as u64;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        let ends = !self.counted;
        self.count(elapsed);
        if let Some(log) = &self.log {
            self.write(log, elapsed);
        }
        if ends {
            self.conn.shared.request_ends();
        }
    }
}
