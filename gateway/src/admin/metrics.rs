//! What is counted, and how it is shown to Prometheus.
//!
//! Every data thread writes its own [`WorkerMetrics`] (plain loads and stores, no shared cache line); the
//! admin server sums them up when somebody asks. [`METRICS`] is the one table of names: the exposition
//! and `docs/metrics.md` are made from it.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use gatehouse_routes::stats::HostStats;

use crate::source::kube::health;

mod addresses;
mod process;
mod routers;
mod source;

pub use addresses::AddressFacts;

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
    metric("gatehouse_requests_total", C, &["host", "code"], "Answers by host of the route table (empty for hosts that are in no table) and status class."),
    metric("gatehouse_request_duration_seconds", H, &[], "From the head of a request to the end of its answer."),
    metric("gatehouse_errors_total", C, &["reason"], "Answers that the gateway made itself, by the label of the access log."),
    metric("gatehouse_connections_accepted_total", C, &[], "Client connections accepted."),
    metric("gatehouse_connections", G, &[], "Client connections open."),
    metric("gatehouse_tls_handshakes_total", C, &["result"], "TLS handshakes with clients: `ok` or `failed`."),
    metric("gatehouse_upstream_connections_total", C, &["state"], "Backend connections that carried a request: `new` or `reused`."),
    metric("gatehouse_upstream_connect_failures_total", C, &[], "Connects to backends that failed."),
    metric("gatehouse_endpoint_ejected", G, &["service", "endpoint"], "Always 1: connects to the endpoint failed in a row, so that it gets no requests, unless all endpoints of its Service are like that, until one succeeds."),
    metric("gatehouse_endpoint_ejections_total", C, &[], "Times that an endpoint was ejected."),
    metric("gatehouse_retries_total", C, &[], "Requests sent a second time."),
    metric("gatehouse_access_log_dropped_total", C, &[], "Access log lines dropped because their reader was too slow."),
    metric("gatehouse_snapshot_generation", G, &[], "Generation of the configuration that is served."),
    metric("gatehouse_snapshots_alive", G, &[], "Generations that some request still uses."),
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
    metric("gatehouse_bgp_session_up", G, &["peer"], "1: the session with the router of the BGPPeer is up."),
    metric("gatehouse_bgp_session_uptime_seconds", G, &["peer"], "For how long it has been up."),
    metric("gatehouse_bgp_sessions_established_total", C, &["peer"], "Times that it came up."),
    metric("gatehouse_bgp_prefixes", G, &["peer", "family", "state"], "Prefixes that the router has been told (`announced`), or is to be told (`pending`), by family (`ipv4`, `ipv6`)."),
    metric("gatehouse_bgp_prefixes_received_total", C, &["peer"], "Prefixes that the router has told, repetitions counted; none is used."),
    metric("gatehouse_bgp_messages_total", C, &["peer", "direction", "type"], "BGP messages `sent` and `received`, by type."),
    metric("gatehouse_bfd_session_up", G, &["peer"], "1: the BFD session with the router is up."),
    metric("gatehouse_bfd_packets_total", C, &["result"], "BFD packets: `sent`, `received`, `unsent` (the kernel refused), and dropped ones, `strange` (not of a router that is watched) and `discarded` (from too far away, or without sense)."),
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
    /// A request was sent a second time.
    Retry,
}

const COUNTERS: usize = Counter::Retry as usize + 1;

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

    /// A client connection is open from now on.
    pub fn connection_opened(&self) {
        add(&self.connections, 1);
    }

    /// A client connection is no longer open.
    pub fn connection_closed(&self) {
        let open = self.connections.load(Relaxed);
        self.connections.store(open.saturating_sub(1), Relaxed);
    }

    /// A request took this long.
    pub fn observe(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|(bound, _)| nanoseconds <= *bound);
        add(&self.buckets[bucket.unwrap_or(BUCKETS.len())], 1);
        add(&self.nanoseconds, nanoseconds);
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
    /// Ejected endpoints and their Services.
    pub ejected: BTreeSet<(String, String)>,
    /// Addresses, group and pools.
    pub addresses: AddressFacts,
    /// The API server, if that is where the objects come from.
    pub source: Option<health::Facts>,
}

/// The counters of all workers.
#[derive(Debug)]
pub struct Metrics {
    workers: Box<[Arc<WorkerMetrics>]>,
    error_labels: &'static [&'static str],
}

impl Metrics {
    /// Counters for so many workers and these labels of [`WorkerMetrics::error`].
    pub fn new(workers: usize, error_labels: &'static [&'static str]) -> Self {
        let worker = |_| Arc::new(WorkerMetrics::new(error_labels.len()));
        Self { workers: (0..workers).map(worker).collect(), error_labels }
    }

    /// The counters of one worker; panics if there are not so many.
    pub fn worker(&self, index: usize) -> Arc<WorkerMetrics> {
        Arc::clone(&self.workers[index])
    }

    /// Client connections that are open.
    pub fn connections(&self) -> u64 {
        self.sum(|worker| &worker.connections)
    }

    /// Everything in Prometheus' text format (0.0.4). `hosts` names the hosts of the live tables; a host
    /// that several tables share is counted once.
    pub fn render<'h>(
        &self,
        hosts: impl IntoIterator<Item = (&'h str, &'h HostStats)>,
        facts: &ControlFacts,
    ) -> String {
        let requests = by_host(hosts);
        let process = process::Facts::read();
        let mut out = Exposition::default();
        for metric in METRICS {
            out.head(metric);
            self.values(metric, &requests, facts, &process, &mut out);
        }
        out.text
    }

    fn values(
        &self,
        metric: &Metric,
        requests: &BTreeMap<&str, [u64; 5]>,
        facts: &ControlFacts,
        process: &process::Facts,
        out: &mut Exposition,
    ) {
        let counter = |counter: Counter| self.sum(|worker| &worker.counters[counter as usize]);
        match metric.name {
            "gatehouse_requests_total" => {
                for (host, classes) in requests {
                    for (class, count) in
                        classes.iter().enumerate().filter(|(_, count)| **count > 0)
                    {
                        let code = ["1xx", "2xx", "3xx", "4xx", "5xx"][class];
                        out.value(metric, &[host, code], *count);
                    }
                }
            }
            "gatehouse_request_duration_seconds" => self.histogram(metric.name, out),
            "gatehouse_errors_total" => {
                for (index, label) in self.error_labels.iter().enumerate() {
                    out.value(metric, &[label], self.sum(|worker| &worker.errors[index]));
                }
            }
            "gatehouse_connections_accepted_total" => {
                out.value(metric, &[], counter(Counter::ConnectionAccepted));
            }
            "gatehouse_connections" => out.value(metric, &[], self.connections()),
            "gatehouse_tls_handshakes_total" => {
                out.value(metric, &["ok"], counter(Counter::TlsHandshake));
                out.value(metric, &["failed"], counter(Counter::TlsHandshakeFailed));
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
            _ if source::values(facts.source.as_ref(), metric, out) => (),
            _ if facts.addresses.values(metric, out) => (),
            name => {
                if let Some(value) = process.get(name) {
                    out.value(metric, &[], value);
                }
            }
        }
    }

    fn histogram(&self, name: &str, out: &mut Exposition) {
        let mut total = 0;
        let bounds = BUCKETS.iter().map(|(_, bound)| *bound).chain(["+Inf"]);
        for (index, bound) in bounds.enumerate() {
            total += self.sum(|worker| &worker.buckets[index]);
            out.line(format_args!("{name}_bucket{{le=\"{bound}\"}} {total}"));
        }
        let seconds = self.sum(|worker| &worker.nanoseconds) as f64 / 1e9;
        out.line(format_args!("{name}_sum {seconds}"));
        out.line(format_args!("{name}_count {total}"));
    }

    fn sum(&self, field: impl Fn(&WorkerMetrics) -> &AtomicU64) -> u64 {
        self.workers.iter().map(|worker| field(worker).load(Relaxed)).fold(0, u64::wrapping_add)
    }
}

fn by_host<'h>(
    hosts: impl IntoIterator<Item = (&'h str, &'h HostStats)>,
) -> BTreeMap<&'h str, [u64; 5]> {
    let mut seen = HashSet::new();
    let mut sums: BTreeMap<&str, [u64; 5]> = BTreeMap::new();
    for (host, stats) in
        hosts.into_iter().filter(|(_, stats)| seen.insert(std::ptr::from_ref(*stats)))
    {
        let sum = sums.entry(host).or_default();
        for (sum, count) in sum.iter_mut().zip(&stats.responses) {
            *sum += count.load(Relaxed);
        }
    }
    sums
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
        self.text.push_str(metric.name);
        let mut open = '{';
        for (name, label) in metric.labels.iter().zip(labels) {
            self.text.push(open);
            open = ',';
            self.text.push_str(name);
            self.text.push_str("=\"");
            for char in label.chars() {
                match char {
                    '\\' | '"' => self.text.extend(['\\', char]),
                    '\n' => self.text.push_str("\\n"),
                    _ => self.text.push(char),
                }
            }
            self.text.push('"');
        }
        if open == ',' {
            self.text.push('}');
        }
        self.line(format_args!(" {value}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

#[cfg(test)]
mod tests;
