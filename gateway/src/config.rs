//! The settings of `gatehouse run`: one struct, filled from the command line, read by everybody.
//!
//! Every field's doc is the flag's help text and its row in `docs/flags.md`; units and defaults belong
//! there. Nothing here touches the world but [`Settings::node_name`] and [`Settings::worker_threads`].

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use gatehouse_routes::{networks::Network, objects::ObjectKey, options::EncodedSlashes};
use gatehouse_vip::DEFAULT_GROUP_PORT;
use ipnet::IpNet;

use crate::access_log::{AccessLogOptions, Format, Share, Statuses};

mod bodies;
mod cluster;
mod header_case;
mod listen;
mod memory;
mod peer;
mod routes;
mod tls;

pub use bodies::BodySettings;
pub use cluster::ClusterSettings;
pub use header_case::{HeaderCaseSettings, Spelling};
pub use listen::Listen;
pub(crate) use listen::{listen, overlap, socket};
pub use memory::MemorySettings;
pub use peer::Peer;
pub use routes::RouteSettings;
pub use tls::{ClientCertificatePolicy, RouteClientSettings, TlsProfile, TlsSettings, TlsVersion};

/// Clear-text address used when the command line names no address and no gateway Service.
pub const DEFAULT_HTTP: SocketAddr = loopback(8080);
/// TLS address used when the command line names no address and no gateway Service.
pub const DEFAULT_HTTPS: SocketAddr = loopback(8443);

/// Settings of one node process. They do not change while it runs.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// The same as --manifests.
    #[arg(
        value_name = "PATH",
        conflicts_with_all = ["kubeconfig", "context", "watch_namespaces", "namespace_selector"],
        help_heading = "Sources"
    )]
    pub paths: Vec<PathBuf>,

    /// Files and folders of manifests (`.yaml`, `.yml`, `.json`; folders recursively), watched and
    /// reloaded as one when any of them changes. Default: none, the objects are those of the API server.
    #[arg(long, value_name = "PATH", num_args = 1.., help_heading = "Sources")]
    pub manifests: Vec<PathBuf>,

    /// Do not start if a manifest cannot be read in whole. Default: what can be read is served, and what
    /// cannot is a problem in /readyz, the status and the log.
    #[arg(long, requires = "manifests", help_heading = "Sources")]
    pub strict: bool,

    /// File that says how to reach the API server. Default: the service account where this is a Pod, else
    /// $KUBECONFIG, else ~/.kube/config.
    #[arg(long, value_name = "FILE", conflicts_with = "manifests", help_heading = "Sources")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig to use. Default: its current context.
    #[arg(long, value_name = "NAME", conflicts_with = "manifests", help_heading = "Sources")]
    pub context: Option<String>,

    /// Namespace whose objects are read; those of others do not exist for this gateway, nor do their
    /// pools and gateway Services. May repeat. Default: all namespaces.
    #[arg(long = "watch-namespace", value_name = "NAME", num_args = 1.., conflicts_with = "manifests", help_heading = "Sources")]
    pub watch_namespaces: Vec<String>,

    /// Labels of the namespaces in which Ingresses and Routes are served, such as `shard=a`. Default: all
    /// namespaces.
    #[arg(long, value_name = "SELECTOR", conflicts_with = "manifests", help_heading = "Sources")]
    pub namespace_selector: Option<String>,

    /// Do not keep private keys in --state-dir. Then a start while the API server is away, or a manifest
    /// cannot be read, serves the default certificate until it is back.
    #[arg(long, help_heading = "Process")]
    pub no_cached_secrets: bool,

    /// Name of an IngressClass that is served whatever its controller, and even if no such class
    /// exists; `nginx` takes over what ingress-nginx served. May repeat. Default: none.
    #[arg(long = "claim-class", value_name = "NAME", num_args = 1.., help_heading = "Sources")]
    pub claim_classes: Vec<String>,

    /// The ConfigMap of ingress-nginx that says what holds for every Ingress; what it does not say is as ingress-nginx
    /// has it. Where it is missing every Ingress is closed (503). Default: none.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = object_key, help_heading = "Sources")]
    pub nginx_config: Option<ObjectKey>,

    /// The ConfigMap with texts for errors of the gateway itself, where no object has texts of its own. Entries are
    /// `404.html`, `503.json`, `5xx` and the like, or whole answers, as OpenShift has them: `error-page-503.http`,
    /// `error-page-404.http`. Default: none, they are told in a few words.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = object_key, help_heading = "Sources")]
    pub error_pages: Option<ObjectKey>,

    /// The Service that answers requests which no rule is for, at its first port, as ingress-nginx has it by
    /// --default-backend-service. Default: none, they get 404.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = object_key, help_heading = "Sources")]
    pub default_backend: Option<ObjectKey>,

    /// Read `configuration-snippet`, `server-snippet` and `auth-snippet` of Ingresses: one that says only what has a setting
    /// here (fields, redirects, `allow` and `deny`, `if` with a `return`, sizes, times) does that; any other closes its
    /// Ingress, as all do without this flag. Nothing is ever executed.
    #[arg(long, help_heading = "Sources")]
    pub understand_snippets: bool,

    /// Domain of the hosts that are made for Routes without one: NAME-NAMESPACE.DOMAIN, or the Route's
    /// own subdomain in front of it. Default: none, such a Route is refused.
    #[arg(long, value_name = "DOMAIN", help_heading = "Sources")]
    pub route_domain: Option<String>,

    /// Which Routes are served, and who may have which host.
    #[command(flatten)]
    pub routes: RouteSettings,

    /// File (PEM) with the authorities that sign the certificates of pods, such as OpenShift's service CA: those of
    /// a Route with termination reencrypt and without a destinationCACertificate must chain to one and name
    /// the Service (`SERVICE.NAMESPACE.svc`). Read at the start. Default: none, they are not verified.
    #[arg(long, value_name = "FILE", help_heading = "Sources")]
    pub destination_ca: Option<PathBuf>,

    /// The Service whose addresses serve every IngressClass without parameters. Default: none.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = object_key, help_heading = "Addresses")]
    pub gateway_service: Option<ObjectKey>,

    /// Address and port for clear-text HTTP, besides the virtual addresses; `:80` is that port of every
    /// address, IPv4 and IPv6. May repeat. IPv6 sockets are v6-only. Default: 127.0.0.1:8080 if neither
    /// --http, --https nor --gateway-service is given.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen, help_heading = "Addresses")]
    pub http: Vec<Listen>,

    /// Address and port for HTTPS (HTTP/1.1 and HTTP/2), in the same form. May repeat. Default:
    /// 127.0.0.1:8443 if neither --http, --https nor --gateway-service is given.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen, help_heading = "Addresses")]
    pub https: Vec<Listen>,

    /// Address and port for health, metrics and what is live. Everybody who reaches it may read it.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:9901",
        value_parser = socket,
        help_heading = "Addresses"
    )]
    pub admin: SocketAddr,

    /// Address and port for metrics alone, where a monitoring system reaches them. Default: none, only
    /// --admin has them.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = socket, help_heading = "Addresses")]
    pub metrics: Option<SocketAddr>,

    /// Hosts that have metrics of their own, in the order in which they are first asked for; the others
    /// are counted together as `(others)`.
    #[arg(long, value_name = "COUNT", default_value_t = 2000, help_heading = "Process")]
    pub metrics_hosts: usize,

    /// Show what is counted in the names of ingress-nginx, too (`nginx_ingress_controller_requests` and others), for
    /// dashboards and alerts that were made for it.
    #[arg(long, help_heading = "Process")]
    pub nginx_metrics: bool,

    /// File with the secret that the nodes of a group share (at least 16 bytes, white space at its end
    /// not counted). Nodes with the same secret share the virtual addresses: each is held by one of them,
    /// and by another when that one fails. Default: none, this node holds every address alone.
    #[arg(long, value_name = "FILE", group = "membership", help_heading = "Group")]
    pub group_key: Option<PathBuf>,

    /// Secret that holds the key of the group, in place of --group-key. In a cluster the node that allocates
    /// addresses makes it if there is none, and a new key is taken over while everything runs. Default: none.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = object_key, group = "membership", help_heading = "Group")]
    pub group_secret: Option<ObjectKey>,

    /// Name of the key in the data of --group-secret.
    #[arg(long, value_name = "NAME", default_value = "key", help_heading = "Group")]
    pub group_secret_entry: String,

    /// Address of another node of the group that multicast does not reach. May repeat. Default: the
    /// InternalIPs of the other Nodes, if there are no more than 64; nodes on one link find each other anyway.
    #[arg(long = "peer", value_name = "ADDRESS[:PORT]", num_args = 1.., requires = "membership", help_heading = "Group")]
    pub peers: Vec<Peer>,

    /// UDP port of the group's heartbeats, the same on every node.
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_GROUP_PORT, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Group")]
    pub group_port: u16,

    /// Seconds for which connections that are open on an address go on here after another node has
    /// taken it over, or its Services have lost their last endpoint. Default: --drain-timeout.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = "Group")]
    pub linger_timeout: Option<Duration>,

    /// Networks in which `spec.externalIPs` of Services may be. A user who may write a Service may take the traffic to
    /// any address of them that this node has. They are served, and never claimed or announced. Default: none.
    #[arg(long = "external-ips", value_name = "CIDR", num_args = 1.., value_parser = str::parse::<Network>, help_heading = "Addresses")]
    pub external_ips: Vec<Network>,

    /// Leave the rules by which the kernel forwards (`gatehouse.io/forwarding: kernel`) behind at a stop: open
    /// connections go on, and the next start takes the rules over. Default: they are removed.
    #[arg(long, help_heading = "Addresses")]
    pub leave_kernel_rules: bool,

    /// Seconds for which routers are asked to prefer other ways (GRACEFUL_SHUTDOWN, RFC 8326) before what
    /// they were told by BGP is withdrawn when this node stops.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds, help_heading = "Addresses")]
    pub bgp_grace: Duration,

    /// What is about addresses and statuses in a cluster.
    #[command(flatten)]
    pub cluster: ClusterSettings,

    /// Name of this node, as node selectors know it, and unique in its group. Default: the host name.
    #[arg(long, value_name = "NAME", help_heading = "Process")]
    pub node: Option<String>,

    /// Unique id of the Pod that this process is. A probe of another Pod (`/readyz?pod=UID`) gets 421. Default: the
    /// environment variable POD_UID, or none.
    #[arg(
        long,
        value_name = "UID",
        env = "POD_UID",
        hide_env_values = true,
        help_heading = "Process"
    )]
    pub pod_uid: Option<String>,

    /// Folder for what has to survive a restart: which Service holds which address, the last known
    /// objects of the API server, which are served while it does not answer at the start, and what
    /// manifests said that cannot be read any more. They hold private keys; only the owner may read
    /// them. Default: none, so that a restart may deal addresses out anew and waits for the API server.
    #[arg(long, value_name = "FOLDER", help_heading = "Process")]
    pub state_dir: Option<PathBuf>,

    /// How much memory there may be, and who may see it.
    #[command(flatten)]
    pub memory: MemorySettings,

    /// Data threads, at most 1024; 0 means one per CPU that this process may use (affinity and cgroup quota counted).
    #[arg(long, value_name = "COUNT", default_value_t = 0, help_heading = "Process")]
    #[arg(value_parser = clap::value_parser!(u16).range(..=1024))]
    pub threads: u16,

    /// What the process says of itself on standard error: a level (error, warn, info, debug, trace, off),
    /// or a list of levels by part of the program, such as `warn,gatehouse::status=debug`. Default: the
    /// environment variable GATEHOUSE_LOG, else RUST_LOG, else `info`.
    #[arg(long, value_name = "FILTER", help_heading = "Logs")]
    pub log: Option<String>,

    /// How it says it.
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "text",
        env = "GATEHOUSE_LOG_FORMAT",
        hide_env_values = true,
        help_heading = "Logs"
    )]
    pub log_format: LogFormat,

    /// Do not write one line per request.
    #[arg(long, help_heading = "Logs")]
    pub no_access_log: bool,

    /// File that one line per request is added to; opened anew on SIGHUP and SIGUSR1. Default, and `-`: standard
    /// output.
    #[arg(long, value_name = "FILE", help_heading = "Logs")]
    pub access_log: Option<PathBuf>,

    /// How such a line is written: `json`, `combined` (as nginx and Apache have it), `ecs` (Elastic Common
    /// Schema), `envoy` (as Envoy has it), `ingress-nginx` (as that has it by default), or a pattern such as
    /// `$client $status ${duration_ms}ms`.
    #[arg(long, value_name = "FORMAT", default_value = "json", value_parser = str::parse::<Format>, help_heading = "Logs")]
    pub access_log_format: Format,

    /// Statuses of the answers that are written: codes, classes and ranges, such as `404,5xx,300-308`. A
    /// client that left before its answer counts as 499. Default: all.
    #[arg(long, value_name = "STATUSES", value_parser = str::parse::<Statuses>, help_heading = "Logs")]
    pub access_log_statuses: Option<Statuses>,

    /// Share of them that is written, such as `0.1`; those of 500 and above are written always.
    #[arg(long, value_name = "SHARE", default_value = "1", value_parser = str::parse::<Share>, help_heading = "Logs")]
    pub access_log_share: Share,

    /// Peers whose X-Forwarded-* headers are believed; those of other peers are overwritten. May repeat.
    /// Default: none.
    #[arg(long = "trusted-proxy", value_name = "CIDR", num_args = 1.., value_parser = network, help_heading = "Traffic")]
    pub trusted_proxies: Vec<IpNet>,

    /// Load balancers in front that say who their client is by the PROXY protocol (version 1 or 2), on every
    /// listener. Each of their connections has to begin with its header; without one that makes sense it is ended.
    /// May repeat. Default: none, no header is expected.
    #[arg(long = "proxy-protocol-from", value_name = "CIDR", num_args = 1.., value_parser = str::parse::<Network>, help_heading = "Traffic")]
    pub proxy_protocol_from: Vec<Network>,

    /// What becomes of requests whose path holds an encoded slash (`%2F`, `%5C`), where an object does not
    /// say (`gatehouse.io/encoded-slashes`). `safe`: they go on unless a server that decodes it would see the
    /// path of another rule; then the answer is 400. `keep`: they go on. `reject`: 400.
    #[arg(
        long,
        value_name = "POLICY",
        default_value = "safe",
        hide_possible_values = true,
        help_heading = "Traffic"
    )]
    pub encoded_slashes: EncodedSlashes,

    /// Port at which clients find HTTPS, for redirects: where something in front of this process maps
    /// ports. Default: the port of the listener for HTTPS where the client names the one it came by,
    /// otherwise 443.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..), help_heading = "Traffic")]
    pub public_https_port: Option<u16>,

    /// How names of headers are spelled in HTTP/1.
    #[command(flatten)]
    pub header_case: HeaderCaseSettings,

    /// What TLS clients may speak.
    #[command(flatten)]
    pub tls: TlsSettings,

    /// What clients of Routes have to show over TLS.
    #[command(flatten)]
    pub route_clients: RouteClientSettings,

    /// Seconds that requests under way have to finish after a stop signal.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, help_heading = "Traffic")]
    pub drain_timeout: Duration,

    /// Seconds that a backend may take from the end of the request to the head of its answer, where an object does not
    /// say.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds, help_heading = "Traffic")]
    pub upstream_timeout: Duration,

    /// Bytes of a request's target (path and query) at most, up to 32 KiB; a longer one gets 414.
    #[arg(long, value_name = "BYTES", default_value_t = 8192, value_parser = clap::value_parser!(u16).range(1024..=32768), help_heading = "Traffic")]
    pub max_uri: u16,

    /// How fast bodies have to come, and where those wait that are read in whole.
    #[command(flatten)]
    pub bodies: BodySettings,

    /// Most connections to one endpoint; each data thread has its share of them. Requests beyond them go to other
    /// endpoints, or get 503. Default: three quarters of those that the limit of open files allows.
    #[arg(long, value_name = "COUNT", help_heading = "Traffic")]
    pub max_endpoint_connections: Option<NonZeroU32>,

    /// Seconds without any progress after which a stalled exchange is ended.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, hide = true)]
    pub stall_timeout: Duration,

    /// Factor on every protective timeout, so that tests need not wait for minutes.
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = factor, hide = true)]
    pub time_scale: f64,
}

impl Settings {
    /// Plain clear-text addresses, defaults filled in.
    pub fn http_addresses(&self) -> Vec<SocketAddr> {
        self.plain_addresses().http()
    }

    /// Plain TLS addresses, defaults filled in.
    pub fn https_addresses(&self) -> Vec<SocketAddr> {
        self.plain_addresses().https()
    }

    /// `--node`, or the host name, or `localhost` if the kernel has none.
    pub fn node_name(&self) -> String {
        self.node.clone().unwrap_or_else(host_name)
    }

    /// Number of data threads, never 0.
    pub fn worker_threads(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.threads.into())
            .or_else(|| std::thread::available_parallelism().ok())
            .unwrap_or(NonZeroUsize::MIN)
    }

    /// How long connections go on that are open on an address which has moved: `--linger-timeout`, or
    /// `--drain-timeout`.
    pub fn address_drain_time(&self) -> Duration {
        self.linger_timeout.unwrap_or(self.drain_timeout)
    }

    /// What the access log is to be.
    pub fn access_log_options(&self) -> AccessLogOptions {
        AccessLogOptions {
            format: self.access_log_format.clone(),
            statuses: self.access_log_statuses.unwrap_or_default(),
            share: self.access_log_share,
        }
    }

    /// A protective timeout under `--time-scale`.
    pub fn scaled(&self, timeout: Duration) -> Duration {
        timeout.mul_f64(self.time_scale)
    }

    fn plain_addresses(&self) -> PlainAddresses<'_> {
        let Self { http, https, gateway_service, .. } = self;
        PlainAddresses { http, https, gateway_service: gateway_service.as_ref() }
    }
}

/// What the command line says about plain addresses, and the defaults that follow from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainAddresses<'a> {
    pub(crate) http: &'a [Listen],
    pub(crate) https: &'a [Listen],
    pub(crate) gateway_service: Option<&'a ObjectKey>,
}

impl PlainAddresses<'_> {
    pub(crate) fn http(self) -> Vec<SocketAddr> {
        if self.unsaid() { vec![DEFAULT_HTTP] } else { addresses(self.http) }
    }

    pub(crate) fn https(self) -> Vec<SocketAddr> {
        if self.unsaid() { vec![DEFAULT_HTTPS] } else { addresses(self.https) }
    }

    fn unsaid(self) -> bool {
        self.http.is_empty() && self.https.is_empty() && self.gateway_service.is_none()
    }
}

/// Each address once, in the order in which they were given.
fn addresses(values: &[Listen]) -> Vec<SocketAddr> {
    let mut all = Vec::new();
    for address in values.iter().flat_map(Listen::addresses) {
        if !all.contains(address) {
            all.push(*address);
        }
    }
    all
}

/// How the operational log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Name of this host as the kernel has it.
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" | "(none)" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}

/// Reads `namespace/name`.
pub(crate) fn object_key(text: &str) -> Result<ObjectKey, String> {
    match text.split_once('/') {
        Some((namespace, name))
            if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
        {
            Ok(ObjectKey::new(namespace, name))
        }
        _ => Err(format!("\"{text}\" is not NAMESPACE/NAME, such as default/gateway")),
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("\"{text}\" is neither a network, such as 10.0.0.0/8, nor an address"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| format!("\"{text}\" is not a number of seconds"))?;
    match Duration::try_from_secs_f64(number) {
        Ok(duration) if duration <= MAX_TIMEOUT => Ok(duration),
        _ => Err(format!("\"{text}\" is not between 0 and {} seconds", MAX_TIMEOUT.as_secs())),
    }
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if (0.001..=1000.0).contains(&factor) => Ok(factor),
        _ => Err(format!("\"{text}\" is not a factor between 0.001 and 1000")),
    }
}

/// A day: longer is a typing mistake.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Command, try_parse};

    fn settings(arguments: &str) -> Settings {
        let words = "gatehouse run --manifests x".split(' ').chain(arguments.split_whitespace());
        match try_parse(words).unwrap() {
            Command::Run(settings) => *settings,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(arguments: &str) -> String {
        let words = "gatehouse run --manifests x".split(' ').chain(arguments.split_whitespace());
        try_parse(words).unwrap_err().to_string()
    }

    #[test]
    fn plain_addresses_default_to_loopback_only_if_nothing_else_is_asked_for() {
        let addresses = |arguments: &str| {
            let settings = settings(arguments);
            let all = settings.http_addresses().into_iter().chain(settings.https_addresses());
            all.map(|address| address.to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(addresses(""), "127.0.0.1:8080 127.0.0.1:8443");
        assert_eq!(addresses("--http 0.0.0.0:80 --http [::]:80"), "0.0.0.0:80 [::]:80");
        assert_eq!(addresses("--https 10.0.0.1:443"), "10.0.0.1:443");
        assert_eq!(addresses("--http 0.0.0.0:80 --http 0.0.0.0:80"), "0.0.0.0:80");
        assert!(addresses("--http :80 --https :443").contains("0.0.0.0:80"));
        assert_eq!(addresses("--gateway-service default/gateway"), "");
    }

    #[test]
    fn every_setting_has_the_documented_default() {
        let settings = settings("");
        assert_eq!(settings.admin, "127.0.0.1:9901".parse().unwrap());
        assert_eq!(settings.drain_timeout, Duration::from_secs(30));
        assert_eq!(settings.upstream_timeout, Duration::from_secs(60));
        assert_eq!(settings.stall_timeout, Duration::from_secs(30));
        assert_eq!(settings.bodies.body_timeout, Duration::from_secs(30));
        assert_eq!(settings.bodies.body_rate, 240);
        assert_eq!(settings.scaled(Duration::from_secs(3)), Duration::from_secs(3));
        assert!(settings.trusted_proxies.is_empty() && settings.claim_classes.is_empty());
        assert!(!settings.no_access_log && settings.state_dir.is_none());
        assert!(settings.group_key.is_none() && settings.peers.is_empty());
        assert_eq!(settings.group_port, 7471);
        assert_eq!(settings.address_drain_time(), settings.drain_timeout);
        assert_eq!(settings.node_name(), host_name());
        assert!(settings.worker_threads().get() >= 1);
    }

    #[test]
    fn values_are_read_as_documented() {
        let settings = settings(
            "more --trusted-proxy 10.0.0.0/8 192.0.2.1 --trusted-proxy fd00::/8 --threads 3 --node n \
             --gateway-service a/b --claim-class nginx --time-scale 0.1 --drain-timeout 1.5 \
             --linger-timeout 2.5",
        );
        assert_eq!(settings.manifests, [PathBuf::from("x"), PathBuf::from("more")]);
        let trusted: Vec<_> = settings.trusted_proxies.iter().map(ToString::to_string).collect();
        assert_eq!(trusted, ["10.0.0.0/8", "192.0.2.1/32", "fd00::/8"]);
        assert_eq!(settings.gateway_service, Some(ObjectKey::new("a", "b")));
        assert_eq!(settings.worker_threads().get(), 3);
        assert_eq!(settings.node_name(), "n");
        assert_eq!(settings.drain_timeout, Duration::from_millis(1500));
        assert_eq!(settings.address_drain_time(), Duration::from_millis(2500));
        assert_eq!(settings.scaled(Duration::from_secs(10)), Duration::from_secs(1));
    }

    #[test]
    fn a_value_that_makes_no_sense_is_refused_with_the_value_and_what_would_do() {
        for (arguments, message) in [
            ("--gateway-service gateway", "\"gateway\" is not NAMESPACE/NAME"),
            ("--gateway-service a/b/c", "\"a/b/c\" is not NAMESPACE/NAME"),
            ("--trusted-proxy 10.0.0.0/33", "\"10.0.0.0/33\" is neither a network"),
            ("--drain-timeout -1", "-1"),
            ("--drain-timeout=-1", "\"-1\" is not between 0 and 86400 seconds"),
            ("--drain-timeout inf", "\"inf\" is not between 0 and 86400 seconds"),
            ("--drain-timeout 1m", "\"1m\" is not a number of seconds"),
            ("--time-scale 0", "\"0\" is not a factor between 0.001 and 1000"),
            ("--http example.test:80", "\"example.test:80\" is not an address and a port"),
            ("--group-key k --peer node-2", "\"node-2\" is not the address of a node"),
            ("--peer 192.0.2.1", "--group-key <FILE>"),
            ("--access-log-format jsn", "\"jsn\" is not json, combined, ecs, envoy"),
            ("--access-log-statuses 4x", "\"4x\" is not a status"),
            ("--access-log-share 2", "\"2\" is not a share"),
            ("--route-selector a:b", "is not a selector"),
            ("--route-field-selector spec.tls=x", "\"spec.tls\" is none of"),
            ("--route-ownership Loose", "\"Loose\" is not Strict"),
            ("--group-port 0", "0 is not in 1..=65535"),
        ] {
            let refusal = refusal(arguments);
            assert!(refusal.contains(message), "{arguments}: {refusal}");
        }
    }
}
