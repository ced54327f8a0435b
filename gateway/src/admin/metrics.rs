//! What is counted, and how it is shown to Prometheus.
//!
//! Every data thread writes its own [`WorkerMetrics`] (plain loads and stores, no shared cache line); the
//! admin server sums them up at each scrape. [`METRICS`] is the one table of names: the exposition
//! and `docs/metrics.md` are made from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{admin::l4::L4Row, l4::kernel::KernelFact, source::kube::health, spool::SpoolFacts};

mod addresses;
pub(crate) mod certs;
mod kernel;
mod l4;
pub mod nginx;
mod process;
mod routers;
pub(crate) mod series;
mod shares;
mod source;

pub use addresses::AddressFacts;
use series::{LATENCIES, Labels, SeriesRegistry, Totals};

/// Kind of a metric, in Prometheus' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Distribution over fixed buckets.
    Histogram,
}

impl Kind {
    /// Prometheus' name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One row of [`METRICS`].
#[derive(Debug)]
pub struct Metric {
    /// Name.
    pub name: &'static str,
    /// Kind.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

const fn metric(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind, labels, help }
}

use Kind::{Counter as C, Gauge as G, Histogram as H};

/// Every metric, in the order of the exposition.
#[rustfmt::skip]
pub const METRICS: &[Metric] = &[
    metric("gatehouse_requests_total", C, &["host", "namespace", "object", "service", "code"], "Answers by host of the route table (empty for hosts that are in no table, `(others)` for those beyond --metrics-hosts), by object (kind/name) and Service of the rule that answered (empty if no rule matched), and by status class."),
    metric("gatehouse_request_bytes_total", C, &["host", "namespace", "object", "service"], "Bytes of the bodies of requests, by the same labels."),
    metric("gatehouse_response_bytes_total", C, &["host", "namespace", "object", "service"], "Bytes of the bodies of answers, by the same labels."),
    metric("gatehouse_host_request_duration_seconds", H, &["host"], "From the head of a request to the end of its answer, by host as above."),
    metric("gatehouse_request_duration_seconds", H, &[], "From the head of a request to the end of its answer."),
    metric("gatehouse_errors_total", C, &["reason"], "Answers that the gateway made itself, by the label of the access log."),
    metric("gatehouse_connections_accepted_total", C, &[], "Client connections accepted."),
    metric("gatehouse_connections_refused_total", C, &["reason"], "Client connections ended unserved: `source` (not in loadBalancerSourceRanges) or `proxy_header` (no PROXY header that makes sense)."),
    metric("gatehouse_connections", G, &[], "Client connections open."),
    metric("gatehouse_tls_handshakes_total", C, &["result"], "TLS handshakes with clients: `ok` or `failed`."),
    metric("gatehouse_tcp_connections_total", C, &["result"], "Connections passed on as they are (TCP of Services, TLS passed through): `forwarded`, or `failed` because no endpoint took them."),
    metric("gatehouse_tcp_bytes_total", C, &["direction"], "Bytes of such connections, counted at their end: from clients (`in`) and to them (`out`)."),
    metric("gatehouse_l4_open", G, &["service", "protocol"], "Connections (`tcp`) and sessions (`udp`) that are open to the ports of a Service that this process forwards."),
    metric("gatehouse_l4_total", C, &["service", "protocol", "result"], "Connections and UDP sessions of such a Service: `forwarded`, `failed` (no endpoint took it, or a UDP endpoint refused), `denied` (not in loadBalancerSourceRanges), `evicted` (a UDP session that had to make room); `full` counts datagrams for which there was no room, or no time: of new flows that come faster than sessions are closed."),
    metric("gatehouse_l4_bytes_total", C, &["service", "protocol", "direction"], "Bytes from clients (`in`) and to them (`out`); of TCP counted at the end of a connection."),
    metric("gatehouse_upstream_connections_total", C, &["state"], "Backend connections that carried a request: `new` or `reused`."),
    metric("gatehouse_upstream_connect_failures_total", C, &[], "Connects to backends that failed."),
    metric("gatehouse_endpoint_ejected", G, &["service", "endpoint"], "Always 1: a connect to the endpoint failed, or its checks fail, so that it gets no requests while its Service has another one, until one succeeds."),
    metric("gatehouse_ejections_total", C, &["service", "endpoint"], "Times that an endpoint was ejected, for endpoints that were."),
    metric("gatehouse_endpoint_ejections_total", C, &[], "Times that an endpoint was ejected."),
    metric("gatehouse_endpoint_failures_total", C, &["service", "endpoint"], "Connects to the endpoint and exchanges with it that failed; endpoints without a failure are left out."),
    metric("gatehouse_mirrored_requests_total", C, &["result"], "Copies of requests for mirrors: `answered`, `dropped` (too many at once, or the mirror takes them too slowly) or `failed`."),
    metric("gatehouse_kept_body_bytes", G, &["place"], "Bytes of bodies of requests that are read in whole (`proxy-request-buffering`) and of answers that wait for their clients (`proxy-buffering`), in `memory` and in `file`s."),
    metric("gatehouse_kept_body_files", G, &[], "Files of such bodies that are open."),
    metric("gatehouse_kept_body_files_total", C, &[], "Such bodies that did not fit into memory. What there was no room for is in `gatehouse_errors_total`, reason `body_unkept`."),
    metric("gatehouse_retries_refused_total", C, &[], "Requests not sent a second time, because too many were under way that had been (retry budget)."),
    metric("gatehouse_retries_total", C, &[], "Requests sent a second time."),
    metric("gatehouse_access_log_dropped_total", C, &[], "Access log lines dropped because their reader was too slow."),
    metric("gatehouse_snapshot_generation", G, &[], "Generation of the configuration that is served."),
    metric("gatehouse_snapshots_alive", G, &[], "Generations that some request still uses."),
    metric("gatehouse_config_last_reload_timestamp_seconds", G, &[], "When the configuration was last compiled, seconds since 1970."),
    metric("gatehouse_config_last_reload_successful", G, &[], "1: all that was read made sense; 0: some file could not be read, and what was good before stays in use."),
    metric("gatehouse_certificate_expiry_timestamp_seconds", G, &["host"], "Until when the certificate of the server name is valid, seconds since 1970; of the 2000 names whose certificates end first."),
    metric("gatehouse_compile_seconds", G, &[], "Duration of the last compile."),
    metric("gatehouse_problems", G, &["severity"], "Problems of the configuration that is served: `error` or `warning`."),
    metric("gatehouse_node_problem", G, &["reason"], "Number of problems of the node and its process, such as a listener that cannot be opened, by reason."),
    metric("gatehouse_source_stale_seconds", G, &[], "For how long what the API server told may be out of date; 0: it is not."),
    metric("gatehouse_source_objects", G, &["kind"], "Objects that the API server has told, by kind."),
    metric("gatehouse_source_kind_missing", G, &["kind"], "Always 1: the API server does not know the kind."),
    metric("gatehouse_api_requests_total", C, &["verb", "code"], "Requests to the API server by verb and status code; 0: no answer."),
    metric("gatehouse_node_excluded", G, &[], "1: this node announces no address, for its label or its condition NetworkUnavailable says so."),
    metric("gatehouse_vip_owned", G, &["vip"], "1: this node holds and announces the address; 0: it could, or lets its last connections end."),
    metric("gatehouse_vip_transitions_total", C, &[], "Times that this node took an address over or let one go."),
    metric("gatehouse_vip_announcements_total", C, &[], "Gratuitous ARP and unsolicited neighbour advertisements sent."),
    metric("gatehouse_group_members", G, &["state"], "Other nodes of the group: `alive`, `dead` (not heard of for a while) or `unproven` (heard, but does not hear this node)."),
    metric("gatehouse_group_datagrams_total", C, &["direction", "reason"], "Heartbeats `sent`, `received`, and datagrams `refused` with the reason."),
    metric("gatehouse_shared_limit_nodes", G, &["state"], "Other nodes that limits of the group are shared with: `heard`, or `missing` (heard within the last minute, and not any more)."),
    metric("gatehouse_shared_limit_clients", G, &["state"], "Clients near a limit of the group: `watched` here, and those of them that other nodes serve as well (`shared`)."),
    metric("gatehouse_shared_limit_part", G, &[], "The part of every limit of the group that this node gives out, in percent: less than 100 while it is cut off from half of the others or more."),
    metric("gatehouse_shared_limit_reports_total", C, &["direction"], "What nodes told each other of clients near a limit: `sent` and `received`."),
    metric("gatehouse_shared_limit_dropped_total", C, &["reason"], "Notes of other nodes that could not be read (`unread`), and clients that were near a limit and counted by each node alone, because too many are (`unwatched`)."),
    metric("gatehouse_bgp_session_up", G, &["peer"], "1: the session with the router of the BGPPeer is up."),
    metric("gatehouse_bgp_session_uptime_seconds", G, &["peer"], "For how long it has been up."),
    metric("gatehouse_bgp_sessions_established_total", C, &["peer"], "Times that it came up."),
    metric("gatehouse_bgp_prefixes", G, &["peer", "family", "state"], "Prefixes that the router has been told (`announced`), or is to be told (`pending`), by family (`ipv4`, `ipv6`)."),
    metric("gatehouse_bgp_prefixes_received_total", C, &["peer"], "Prefixes that the router has told, repetitions counted; none is used."),
    metric("gatehouse_bgp_messages_total", C, &["peer", "direction", "type"], "BGP messages `sent` and `received`, by type."),
    metric("gatehouse_bfd_session_up", G, &["peer"], "1: the BFD session with the router is up."),
    metric("gatehouse_bfd_packets_total", C, &["result"], "BFD packets: `sent`, `received`, `unsent` (the kernel refused), and dropped ones, `strange` (not of a router that is watched) and `discarded` (from too far away, or without sense)."),
    metric("gatehouse_kernel_endpoints", G, &["service", "protocol", "family"], "Endpoints among which the kernel spreads the connections of a Service."),
    metric("gatehouse_kernel_connections_total", C, &["service", "protocol", "family"], "Connections, or UDP's equivalent of them, that the kernel has given an endpoint (`gatehouse.io/forwarding: kernel`)."),
    metric("gatehouse_kernel_received_bytes_total", C, &["service", "protocol", "family"], "Bytes from clients of these, IP headers included."),
    metric("gatehouse_kernel_sent_bytes_total", C, &["service", "protocol", "family"], "Bytes to clients of these, IP headers included."),
    metric("gatehouse_pool_addresses", G, &["pool", "family", "state"], "Addresses of a pool by family (`ipv4`, `ipv6`) and state: `assigned`, `available` or `resting` (let go, not given to others yet)."),
    metric("metallb_allocator_addresses_total", G, &["pool"], "Addresses of a pool, both families, as MetalLB has it."),
    metric("metallb_allocator_addresses_in_use_total", G, &["pool"], "Addresses of a pool that are assigned, as MetalLB has it."),
    metric("metallb_speaker_announced", G, &["service", "protocol", "node", "ip"], "Always 1: this node announces the address for the Service, as MetalLB has it."),
    metric("metallb_bgp_session_up", G, &["peer"], "As `gatehouse_bgp_session_up`, by address and port of the router, as MetalLB has it."),
    metric("metallb_bgp_updates_total", C, &["peer"], "UPDATE messages sent, as MetalLB has it."),
    metric("metallb_bgp_announced_prefixes_total", G, &["peer"], "Prefixes that the router has been told, as MetalLB has it."),
    metric("metallb_bgp_pending_prefixes_total", G, &["peer"], "Prefixes that the router is to be told, as MetalLB has it."),
    metric("metallb_bfd_session_up", G, &["peer"], "As `gatehouse_bfd_session_up`, by address and port of the router, as MetalLB has it."),
    metric("gatehouse_build_info", G, &["version"], "Always 1."),
    metric("process_cpu_seconds_total", C, &[], "CPU time of this process."),
    metric("process_resident_memory_bytes", G, &[], "Resident memory."),
    metric("process_open_fds", G, &[], "Open file descriptors."),
    metric("process_max_fds", G, &[], "Limit on open file descriptors."),
    metric("process_threads", G, &[], "Threads."),
    metric("process_start_time_seconds", G, &[], "Start of this process, seconds since 1970."),
];

/// Upper bounds of the latency buckets, in nanoseconds and as printed in seconds.
const BUCKETS: [(u64, &str); 14] = [
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5"),
    (10_000_000_000, "10"),
];

/// A plain counter of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// A client connection was accepted.
    ConnectionAccepted,
    /// A client connection was ended at once: its address may not come in.
    ConnectionRefused,
    /// A client connection was ended: what its sender says of the client makes no sense.
    ProxyHeaderInvalid,
    /// A TLS handshake with a client succeeded.
    TlsHandshake,
    /// A TLS handshake with a client failed.
    TlsHandshakeFailed,
    /// A request was sent over a new backend connection.
    UpstreamNew,
    /// A request was sent over a backend connection that had carried others.
    UpstreamReused,
    /// A connect to a backend failed.
    UpstreamConnectFailed,
    /// An endpoint was ejected.
    EndpointEjected,
    /// A connection was passed on to an endpoint.
    TcpForwarded,
    /// A connection was passed on to nobody.
    TcpFailed,
    /// Bytes of clients that were passed on.
    TcpBytesIn,
    /// Bytes that were passed on to clients.
    TcpBytesOut,
    /// A request was sent a second time.
    Retry,
    /// A mirror has answered a copy.
    MirrorSent,
    /// A copy was not sent, or not to its end: there are too many, or the mirror is too slow.
    MirrorDropped,
    /// A mirror has not answered a copy.
    MirrorFailed,
    /// A request was not sent a second time: too many were.
    RetryRefused,
}

const COUNTERS: usize = Counter::RetryRefused as usize + 1;

/// What one data thread counts. Only that thread writes; everybody may read. On cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerMetrics {
    counters: [AtomicU64; COUNTERS],
    connections: AtomicU64,
    buckets: [AtomicU64; BUCKETS.len() + 1],
    nanoseconds: AtomicU64,
    errors: Box<[AtomicU64]>,
}

impl WorkerMetrics {
    fn new(error_labels: usize) -> Self {
        Self {
            counters: Default::default(),
            connections: AtomicU64::new(0),
            buckets: Default::default(),
            nanoseconds: AtomicU64::new(0),
            errors: (0..error_labels).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Counts one.
    pub fn add(&self, counter: Counter) {
        add(&self.counters[counter as usize], 1);
    }

    /// Counts so many.
    pub fn add_amount(&self, counter: Counter, amount: u64) {
        add(&self.counters[counter as usize], amount);
    }

    /// A client connection is open from now on.
    pub fn connection_opened(&self) {
        add(&self.connections, 1);
    }

    /// A client connection is no longer open.
    pub fn connection_closed(&self) {
        let open = self.connections.load(Relaxed);
        self.connections.store(open.saturating_sub(1), Relaxed);
    }

    /// A request took this long; returns its bucket.
    pub fn observe(&self, duration: Duration) -> usize {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|(bound, _)| nanoseconds <= *bound);
        let bucket = bucket.unwrap_or(BUCKETS.len());
        add(&self.buckets[bucket], 1);
        add(&self.nanoseconds, nanoseconds);
        bucket
    }

    /// The gateway answered by itself; `label` is the index in the labels given to [`Metrics::new`].
    pub fn error(&self, label: usize) {
        if let Some(counter) = self.errors.get(label) {
            add(counter, 1);
        }
    }
}

/// One writer: a load and a store cost less than an atomic addition.
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}

/// Facts that the control threads know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ControlFacts {
    /// Generation of the snapshot that is served.
    pub generation: u64,
    /// Snapshots that are still in use, the served one included.
    pub snapshots_alive: u64,
    /// Duration of the last compile.
    pub compile: Duration,
    /// Problems of severity error.
    pub errors: u64,
    /// Problems of severity warning.
    pub warnings: u64,
    /// How many problems the node itself has, by reason.
    pub node_problems: BTreeMap<&'static str, u64>,
    /// Access log lines dropped.
    pub access_log_dropped: u64,
    /// When the configuration was last compiled, seconds since 1970.
    pub reloaded: f64,
    /// Whether all of it could be read.
    pub reload_successful: bool,
    /// When the certificates of server names end, seconds since 1970.
    pub certificates: Vec<(String, i64)>,
    /// Failures by Service and endpoint.
    pub failures: BTreeMap<(String, String), u64>,
    /// Ejections by Service and endpoint.
    pub ejections: BTreeMap<(String, String), u64>,
    /// What goes through Services that are passed on.
    pub l4: Vec<L4Row>,
    /// Ejected endpoints and their Services.
    pub ejected: BTreeSet<(String, String)>,
    /// Addresses, group and pools.
    pub addresses: AddressFacts,
    /// What is kept of bodies that are read in whole.
    pub spool: SpoolFacts,
    /// Limits of the group, if some count.
    pub(crate) shares: Option<Arc<crate::shares::SharesStatus>>,
    /// What the kernel passes on.
    pub kernel: Vec<KernelFact>,
    /// The API server, if that is where the objects come from.
    pub source: Option<health::Facts>,
}

/// The counters of all workers.
#[derive(Debug)]
pub struct Metrics {
    workers: Box<[Arc<WorkerMetrics>]>,
    error_labels: &'static [&'static str],
    series: Arc<SeriesRegistry>,
    /// Everything is shown in the names of ingress-nginx, too.
    nginx: bool,
}

impl Metrics {
    /// Counters for so many workers, these labels of [`WorkerMetrics::error`] and so many hosts with series
    /// of their own.
    pub fn new(workers: usize, error_labels: &'static [&'static str], hosts: usize) -> Self {
        let worker = |_| Arc::new(WorkerMetrics::new(error_labels.len()));
        let workers = (0..workers).map(worker).collect();
        let series = Arc::new(SeriesRegistry::new(hosts));
        Self { workers, error_labels, series, nginx: false }
    }

    /// The same counters, shown in the names of ingress-nginx, too, or not.
    #[must_use]
    pub fn in_names_of_nginx(self, nginx: bool) -> Self {
        Self { nginx, ..self }
    }

    /// Where workers count answers.
    pub(crate) fn series(&self) -> Arc<SeriesRegistry> {
        Arc::clone(&self.series)
    }

    /// The counters of one worker; panics if there are not so many.
    pub fn worker(&self, index: usize) -> Arc<WorkerMetrics> {
        Arc::clone(&self.workers[index])
    }

    /// Client connections that are open.
    pub fn connections(&self) -> u64 {
        self.sum(|worker| &worker.connections)
    }

    /// Client connections accepted.
    fn accepted(&self) -> u64 {
        self.sum(|worker| &worker.counters[Counter::ConnectionAccepted as usize])
    }

    /// Everything in Prometheus' text format (0.0.4).
    pub fn render(&self, facts: &ControlFacts) -> String {
        let series = self.series.all();
        let process = process::Facts::read();
        let mut out = Exposition::default();
        for metric in METRICS {
            out.head(metric);
            self.values(metric, &series, facts, &process, &mut out);
        }
        if self.nginx {
            nginx::render(self, &series, (facts, &process), &mut out);
        }
        out.text
    }

    fn values(
        &self,
        metric: &Metric,
        series: &[(Labels, Arc<Totals>)],
        facts: &ControlFacts,
        process: &process::Facts,
        out: &mut Exposition,
    ) {
        let counter = |counter: Counter| self.sum(|worker| &worker.counters[counter as usize]);
        match metric.name {
            "gatehouse_request_duration_seconds" => self.histogram(metric, out),
            "gatehouse_errors_total" => {
                for (index, label) in self.error_labels.iter().enumerate() {
                    out.value(metric, &[label], self.sum(|worker| &worker.errors[index]));
                }
            }
            "gatehouse_connections_accepted_total" => {
                out.value(metric, &[], self.accepted());
            }
            "gatehouse_connections" => out.value(metric, &[], self.connections()),
            "gatehouse_connections_refused_total" => {
                out.value(metric, &["source"], counter(Counter::ConnectionRefused));
                out.value(metric, &["proxy_header"], counter(Counter::ProxyHeaderInvalid));
            }
            "gatehouse_tls_handshakes_total" => {
                out.value(metric, &["ok"], counter(Counter::TlsHandshake));
                out.value(metric, &["failed"], counter(Counter::TlsHandshakeFailed));
            }
            "gatehouse_tcp_connections_total" => {
                out.value(metric, &["forwarded"], counter(Counter::TcpForwarded));
                out.value(metric, &["failed"], counter(Counter::TcpFailed));
            }
            "gatehouse_tcp_bytes_total" => {
                out.value(metric, &["in"], counter(Counter::TcpBytesIn));
                out.value(metric, &["out"], counter(Counter::TcpBytesOut));
            }
            "gatehouse_upstream_connections_total" => {
                out.value(metric, &["new"], counter(Counter::UpstreamNew));
                out.value(metric, &["reused"], counter(Counter::UpstreamReused));
            }
            "gatehouse_upstream_connect_failures_total" => {
                out.value(metric, &[], counter(Counter::UpstreamConnectFailed));
            }
            "gatehouse_endpoint_ejected" => {
                for (service, endpoint) in &facts.ejected {
                    out.value(metric, &[service, endpoint], 1);
                }
            }
            "gatehouse_endpoint_ejections_total" => {
                out.value(metric, &[], counter(Counter::EndpointEjected));
            }
            "gatehouse_ejections_total" => {
                for ((service, endpoint), count) in &facts.ejections {
                    out.value(metric, &[service, endpoint], *count);
                }
            }
            "gatehouse_endpoint_failures_total" => {
                for ((service, endpoint), count) in &facts.failures {
                    out.value(metric, &[service, endpoint], *count);
                }
            }
            "gatehouse_config_last_reload_timestamp_seconds" => {
                out.value(metric, &[], facts.reloaded);
            }
            "gatehouse_config_last_reload_successful" => {
                out.value(metric, &[], u8::from(facts.reload_successful));
            }
            "gatehouse_certificate_expiry_timestamp_seconds" => {
                for (host, end) in &facts.certificates {
                    out.value(metric, &[host], *end);
                }
            }
            "gatehouse_mirrored_requests_total" => {
                out.value(metric, &["answered"], counter(Counter::MirrorSent));
                out.value(metric, &["dropped"], counter(Counter::MirrorDropped));
                out.value(metric, &["failed"], counter(Counter::MirrorFailed));
            }
            "gatehouse_kept_body_bytes" => {
                out.value(metric, &["memory"], facts.spool.memory);
                out.value(metric, &["file"], facts.spool.disk);
            }
            "gatehouse_kept_body_files" => out.value(metric, &[], facts.spool.files),
            "gatehouse_kept_body_files_total" => out.value(metric, &[], facts.spool.spilled),
            "gatehouse_retries_refused_total" => {
                out.value(metric, &[], counter(Counter::RetryRefused));
            }
            "gatehouse_retries_total" => out.value(metric, &[], counter(Counter::Retry)),
            "gatehouse_access_log_dropped_total" => {
                out.value(metric, &[], facts.access_log_dropped);
            }
            "gatehouse_snapshot_generation" => out.value(metric, &[], facts.generation),
            "gatehouse_snapshots_alive" => out.value(metric, &[], facts.snapshots_alive),
            "gatehouse_compile_seconds" => out.value(metric, &[], facts.compile.as_secs_f64()),
            "gatehouse_problems" => {
                out.value(metric, &["error"], facts.errors);
                out.value(metric, &["warning"], facts.warnings);
            }
            "gatehouse_node_problem" => {
                for (reason, count) in &facts.node_problems {
                    out.value(metric, &[reason], *count);
                }
            }
            "gatehouse_build_info" => out.value(metric, &[env!("CARGO_PKG_VERSION")], 1),
            _ if l4::values(&facts.l4, metric, out) => (),
            _ if series::values(series, metric, out) => (),
            _ if source::values(facts.source.as_ref(), metric, out) => (),
            _ if facts.addresses.values(metric, out) => (),
            _ if kernel::values(&facts.kernel, metric, out) => (),
            _ if shares::values(facts.shares.as_deref(), metric, out) => (),
            name => {
                if let Some(value) = process.get(name) {
                    out.value(metric, &[], value);
                }
            }
        }
    }

    fn histogram(&self, metric: &Metric, out: &mut Exposition) {
        let count = |index| self.sum(|worker| &worker.buckets[index]);
        let buckets: Vec<_> = (0..LATENCIES).map(count).zip(bounds()).collect();
        let seconds = self.sum(|worker| &worker.nanoseconds) as f64 / 1e9;
        out.distribution(metric, &[], &buckets, seconds);
    }

    fn sum(&self, field: impl Fn(&WorkerMetrics) -> &AtomicU64) -> u64 {
        self.workers.iter().map(|worker| field(worker).load(Relaxed)).fold(0, u64::wrapping_add)
    }
}

/// Text under construction.
#[derive(Default)]
struct Exposition {
    text: String,
}

impl Exposition {
    fn head(&mut self, metric: &Metric) {
        let Metric { name, kind, help, .. } = metric;
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {}", kind.name()));
    }

    fn value(&mut self, metric: &Metric, labels: &[&str], value: impl std::fmt::Display) {
        let labels = braced(&named(metric, labels));
        self.line(format_args!("{}{labels} {value}", metric.name));
    }

    /// A distribution: how many in each bucket, and its upper bound.
    fn distribution(
        &mut self,
        metric: &Metric,
        labels: &[&str],
        buckets: &[(u64, &str)],
        sum: f64,
    ) {
        let (name, labels) = (metric.name, named(metric, labels));
        let comma = if labels.is_empty() { "" } else { "," };
        let mut total = 0;
        for (count, bound) in buckets {
            total += count;
            self.line(format_args!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {total}"));
        }
        let labels = braced(&labels);
        self.line(format_args!("{name}_sum{labels} {sum}"));
        self.line(format_args!("{name}_count{labels} {total}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

/// Upper bounds of the latency buckets, in seconds.
fn bounds() -> impl Iterator<Item = &'static str> {
    BUCKETS.iter().map(|(_, bound)| *bound).chain(["+Inf"])
}

/// Labels with their names, without braces.
fn named(metric: &Metric, labels: &[&str]) -> String {
    let named = metric.labels.iter().zip(labels);
    let named = named.map(|(name, label)| format!("{name}=\"{}\"", escaped(label)));
    named.collect::<Vec<_>>().join(",")
}

fn braced(labels: &str) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{labels}}}") }
}

/// The value of a label, as the format wants it.
fn escaped(label: &str) -> String {
    let mut text = String::with_capacity(label.len());
    for char in label.chars() {
        match char {
            '\\' | '"' => text.extend(['\\', char]),
            '\n' => text.push_str("\\n"),
            _ => text.push(char),
        }
    }
    text
}

#[cfg(test)]
mod tests;
