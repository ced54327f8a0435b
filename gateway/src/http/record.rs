//! What is remembered of one request until its answer has left: for the log line and the counters.
//!
//! Lives in the answer's body; its drop is the one end of every request, however it comes about.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use gatehouse_routes::{objects::ObjectKey, rule::RouteRule, stats::HostStats};
use http::{HeaderMap, HeaderValue, Method, Uri, Version, header::HOST};

use crate::{
    access_log::Entry,
    http::{client::ClientConn, error::ProxyErrorKind, headers::request_id_of},
    upstream::request_body::BodyError,
    worker::{
        counters::Counts,
        handles::Handle,
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
    error: Option<ProxyErrorKind>,
    host_counts: Option<Rc<Counts<HostStats>>>,
    pub(crate) retries: u32,
    pub(crate) endpoint: Option<SocketAddr>,
    log: Option<Box<LogFields>>,
}

/// What only the access log needs.
struct LogFields {
    method: Method,
    uri: Uri,
    version: Version,
    host: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
    rule: Option<Handle<RouteRule>>,
    /// Index among the backends of the rule.
    backend: Option<usize>,
    upstream: Option<Duration>,
}

impl LogFields {
    /// The Service that the request was sent to.
    fn service(&self) -> Option<&ObjectKey> {
        let backends = &self.rule.as_ref()?.forward()?.spec.backends;
        Some(&backends.get(self.backend?)?.key.service)
    }
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
                request_id: None,
                rule: None,
                backend: None,
                upstream: None,
            })
        });
        Box::new(Self {
            conn: Rc::clone(conn),
            timers: Rc::clone(timers),
            started: Instant::now(),
            status: 0,
            bytes_out: 0,
            error: None,
            host_counts: None,
            retries: 0,
            endpoint: None,
            log,
        })
    }

    /// The rule that answers.
    pub(crate) fn routed(&mut self, rule: &Arc<RouteRule>, stats: &Arc<HostStats>) {
        self.unrouted(stats);
        if let Some(log) = &mut self.log {
            log.rule = Some(self.conn.shared.worker.rules().of(rule));
        }
    }

    /// The host whose rules did not match.
    pub(crate) fn unrouted(&mut self, stats: &Arc<HostStats>) {
        self.host_counts = Some(self.conn.shared.worker.host_counters().of(stats));
    }

    /// Which backend of the rule was chosen.
    pub(crate) fn forwarded(&mut self, backend: usize, headers: &HeaderMap) {
        if let Some(log) = &mut self.log {
            log.backend = Some(backend);
            log.request_id = request_id_of(headers).cloned();
        }
    }

    /// The head of the answer is there.
    pub(crate) fn answered(&mut self, status: u16, error: Option<ProxyErrorKind>) {
        self.status = status;
        self.error = error;
        self.timers.upstream_delivered();
        if let Some(log) = &mut self.log
            && log.backend.is_some()
        {
            log.upstream = Some(self.started.elapsed());
        }
    }

    /// A part of the answer's body leaves.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.bytes_out += bytes as u64;
    }

    /// The answer broke off.
    pub(crate) fn cut(&mut self, error: &BodyError) {
        self.error = Some(match error {
            BodyError::Expired(Expiry::Upstream | Expiry::Connect) => {
                ProxyErrorKind::UpstreamTimeout
            }
            BodyError::Expired(Expiry::SlowBody) => ProxyErrorKind::SlowRequest,
            BodyError::Expired(Expiry::Stalled | Expiry::Silent) => ProxyErrorKind::ClientStalled,
            BodyError::Trailers(_) => ProxyErrorKind::ClientGone,
            BodyError::TooLarge => ProxyErrorKind::BodyTooLarge,
            BodyError::Broken(_) | BodyError::Cut => ProxyErrorKind::UpstreamCut,
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

impl Drop for Record {
    fn drop(&mut self) {
        let worker = &self.conn.shared.worker;
        let error = self.fate();
        let elapsed = self.started.elapsed();
        let metrics = worker.metrics();
        metrics.observe(elapsed);
        if let Some(error) = error {
            metrics.error(error as usize);
        }
        if let Some(class) = (usize::from(self.status) / 100).checked_sub(1) {
            let counters = worker.host_counters();
            match &self.host_counts {
                Some(counts) => counters.add(counts, class),
                None => counters.add(&counters.of(&worker.options.unrouted), class),
            }
        }
        if let Some(log) = &self.log {
            worker.log_access(&Entry {
                time: SystemTime::now(),
                client: self.conn.peer.ip(),
                method: log.method.as_str(),
                scheme: self.conn.scheme_name(),
                host: log.host.as_ref().map_or(b"".as_slice(), HeaderValue::as_bytes),
                path: log.uri.path_and_query().map_or("", |path| path.as_str()).as_bytes(),
                version: log.version,
                tls: self.conn.tls,
                status: self.status,
                bytes_in: self.timers.received(),
                bytes_out: self.bytes_out,
                duration: elapsed,
                route: log.rule.as_ref().map(|rule| &rule.object),
                backend: log.service(),
                endpoint: self.endpoint,
                upstream: log.upstream,
                retries: self.retries,
                error: error.map_or("", ProxyErrorKind::label),
                request_id: log.request_id.as_ref().map_or(b"".as_slice(), HeaderValue::as_bytes),
            });
        }
        self.conn.shared.request_ends();
    }
}
