//! The three proxies, told the same: ten endpoints in turns, checked over HTTP every half second, out after two
//! failures and back after two successes; a connect may take a second, an answer as long as [`Patience`] says; a
//! request that failed without an answer is tried at up to three others. All else is their default.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use gatehouse_testbed::{
    lan::Host,
    manifests,
    process::{Process, find_program},
};
use serde_json::json;

use super::backend::CHECK;

/// A proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Gatehouse,
    Haproxy,
    Envoy,
}

impl Kind {
    pub(super) const ALL: &[Self] = &[Self::Gatehouse, Self::Haproxy, Self::Envoy];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Gatehouse => "gatehouse",
            Self::Haproxy => "HAProxy",
            Self::Envoy => "Envoy",
        }
    }

    /// Its program.
    pub(super) fn program(self, gatehouse: &Path, tools: &Path) -> anyhow::Result<PathBuf> {
        let program = match self {
            Self::Gatehouse => Some(gatehouse.to_owned()),
            Self::Haproxy => find_program("haproxy"),
            Self::Envoy => {
                let bundled = tools.join("envoy/envoy/_bin/envoy");
                bundled.is_file().then_some(bundled).or_else(|| find_program("envoy"))
            }
        };
        let program = program.context("not installed; `make chaos` does that")?;
        fs::canonicalize(&program).with_context(|| format!("program {}", program.display()))
    }
}

/// How long a backend may take to answer, in whole seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience(u64);

impl Patience {
    pub(super) const MEASURING: Self = Self(1);
    /// A busy machine is not taken for a backend that hangs.
    pub(super) const TESTING: Self = Self(4);

    pub(super) const fn seconds(self) -> u64 {
        self.0
    }
}

/// What a proxy is to serve.
pub(super) struct Site {
    pub(super) address: SocketAddr,
    pub(super) backends: Vec<SocketAddr>,
    /// Its own, made by [`start`].
    pub(super) folder: PathBuf,
    pub(super) patience: Patience,
}

/// Starts a proxy on `host`.
pub(super) fn start(
    kind: Kind,
    site: &Site,
    host: &Host,
    gatehouse: &Path,
    tools: &Path,
) -> anyhow::Result<Process> {
    fs::create_dir(&site.folder)?;
    let program = kind.program(gatehouse, tools)?;
    let write = |name: &str, text: String| {
        let file = site.folder.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        anyhow::Ok(file.to_string_lossy().into_owned())
    };
    let arguments: Vec<String> = match kind {
        Kind::Gatehouse => {
            let (file, state) = (write("site.yaml", objects(site))?, site.folder.join("state"));
            #[rustfmt::skip]
            let arguments = [
                "run", "--manifests", &file, "--state-dir", &state.to_string_lossy(),
                "--http", &site.address.to_string(), "--threads", "2", "--no-access-log",
            ].map(str::to_owned);
            arguments.to_vec()
        }
        Kind::Haproxy => {
            ["-db", "-f", &write("haproxy.cfg", haproxy(site))?].map(str::to_owned).to_vec()
        }
        Kind::Envoy => {
            let file = write("envoy.json", envoy(site))?;
            #[rustfmt::skip]
            let arguments = [
                "-c", &file, "--concurrency", "2", "--disable-hot-restart", "--log-level", "error",
            ].map(str::to_owned);
            arguments.to_vec()
        }
    };
    let mut command = host.command(&program.to_string_lossy());
    command.args(arguments);
    Process::spawn(kind.name(), command, Some(&site.folder.join("log")))
}

fn objects(site: &Site) -> String {
    let mut text = manifests::CLASS.to_owned();
    text += "---
apiVersion: v1
kind: Service
metadata: {name: app, namespace: default}
spec: {ports: [{name: http, port: 80}]}
";
    for (number, backend) in site.backends.iter().enumerate() {
        let (ip, port) = (backend.ip(), backend.port());
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: app-{number}, namespace: default, labels: {{kubernetes.io/service-name: app}}}}
addressType: IPv4
ports: [{{name: http, protocol: TCP, port: {port}}}]
endpoints: [{{addresses: [{ip}], conditions: {{ready: true}}}}]
"
        );
    }
    let _ = write!(
        text,
        "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: app
  namespace: default
  annotations:
    nginx.ingress.kubernetes.io/proxy-connect-timeout: \"1\"
    nginx.ingress.kubernetes.io/proxy-read-timeout: \"{patience}\"
    nginx.ingress.kubernetes.io/proxy-next-upstream: error timeout
    nginx.ingress.kubernetes.io/proxy-next-upstream-tries: \"4\"
    nginx.ingress.kubernetes.io/proxy-next-upstream-timeout: \"0\"
    gatehouse.io/health-check: http
    gatehouse.io/health-check-path: {CHECK}
    gatehouse.io/health-check-interval: 500ms
    gatehouse.io/health-check-unhealthy: \"2\"
    gatehouse.io/health-check-healthy: \"2\"
spec:
  ingressClassName: gatehouse
  rules:
    - host: chaos.test
      http:
        paths:
          - path: /
            pathType: Prefix
            backend: {{service: {{name: app, port: {{number: 80}}}}}}
",
        patience = site.patience.0
    );
    text
}

fn haproxy(site: &Site) -> String {
    let mut text = format!(
        "global
  nbthread 2
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server {patience}s
  timeout check 500ms
  retries 3
  option redispatch 1
  retry-on conn-failure empty-response response-timeout
frontend site
  bind {address}
  default_backend app
backend app
  balance roundrobin
  option httpchk GET {CHECK}
  default-server check inter 500ms fall 2 rise 2
",
        patience = site.patience.0,
        address = site.address
    );
    for (number, backend) in site.backends.iter().enumerate() {
        let _ = writeln!(text, "  server pod-{number} {backend}");
    }
    text
}

fn envoy(site: &Site) -> String {
    let address = |address: &SocketAddr| {
        json!({ "socket_address": {
            "address": address.ip().to_string(), "port_value": address.port(),
        } })
    };
    let endpoint = |backend| json!({ "endpoint": { "address": address(backend) } });
    let endpoints: Vec<_> = site.backends.iter().map(endpoint).collect();
    let seconds = |duration: Duration| format!("{}s", duration.as_secs_f64());
    let half = seconds(Duration::from_millis(500));
    let patience = seconds(Duration::from_secs(site.patience.0));
    let envoy = "type.googleapis.com/envoy.extensions";
    let retry = json!({
        "retry_on": "connect-failure,refused-stream,reset,gateway-error",
        "num_retries": 3,
        "per_try_timeout": patience,
        "retry_host_predicate": [{
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": format!("{envoy}.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
            },
        }],
        "host_selection_retry_max_attempts": 5,
    });
    let manager = json!({
        "@type": format!("{envoy}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "site",
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": format!("{envoy}.filters.http.router.v3.Router") },
        }],
        "route_config": { "virtual_hosts": [{ "name": "site", "domains": ["*"], "routes": [{
            "match": { "prefix": "/" },
            "route": { "cluster": "app", "timeout": "60s", "retry_policy": retry },
        }] }] },
    });
    json!({ "static_resources": {
        "listeners": [{
            "name": "site",
            "address": address(&site.address),
            "filter_chains": [{ "filters": [{
                "name": "envoy.filters.network.http_connection_manager", "typed_config": manager,
            }] }],
        }],
        "clusters": [{
            "name": "app",
            "type": "STATIC",
            "connect_timeout": "1s",
            "lb_policy": "ROUND_ROBIN",
            "outlier_detection": {},
            "health_checks": [{
                "timeout": half, "interval": half, "no_traffic_interval": half,
                "unhealthy_threshold": 2, "healthy_threshold": 2,
                "http_health_check": { "path": CHECK },
            }],
            "load_assignment": {
                "cluster_name": "app", "endpoints": [{ "lb_endpoints": endpoints }],
            },
        }],
    } })
    .to_string()
}
