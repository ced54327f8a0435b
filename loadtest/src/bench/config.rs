//! What each peer is told, in its own language: the same job for all.
//!
//! HTTP and HTTPS (TLS 1.2 and 1.3, HTTP/2 by ALPN) on loopback, every host to its service, ten services,
//! keep-alive to the backend, `X-Forwarded-*`, `X-Real-IP` and `X-Request-ID` added, two threads, no
//! access log. All else is the server's default, but for limits that would end a connection or a burst
//! in the middle of a run.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use gatehouse_testbed::{certificate::Certificate, manifests};
use serde_json::{Value, json};

/// Services that the hosts are spread over.
const SERVICES: usize = 10;

/// Idle connections to the backend that a peer may keep per thread and service.
const IDLE_UPSTREAM: usize = 256;

/// Where Envoy's extension types live.
const ENVOY: &str = "type.googleapis.com/envoy.extensions";

/// What a peer is to serve.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) hosts: Vec<String>,
    pub(super) backend: SocketAddr,
    pub(super) certificate: Certificate,
    /// The peer's own folder, for configuration and log.
    pub(super) folder: PathBuf,
}

/// Manifests: one Ingress per host.
pub(super) fn gatehouse(site: &Site) -> String {
    let mut text = manifests::CLASS.to_owned();
    let certificate = &site.certificate;
    text += &manifests::tls_secret("bench", &certificate.certificate_pem, &certificate.key_pem);
    for number in 0..SERVICES {
        text += &manifests::service(&service_of(number), site.backend);
    }
    for (number, host) in site.hosts.iter().enumerate() {
        let name = format!("site-{number}");
        text += &manifests::ingress(&name, host, "/", &service_of(number), Some("bench"));
    }
    text
}

/// `nginx.conf`: one `server` per host.
pub(super) fn nginx(site: &Site, http: SocketAddr, https: SocketAddr) -> String {
    let mut upstreams = String::new();
    for number in 0..SERVICES {
        upstreams += &format!(
            "  upstream {} {{ server {}; keepalive {IDLE_UPSTREAM}; keepalive_requests 100000000; }}\n",
            service_of(number),
            site.backend
        );
    }
    let mut servers = String::new();
    for (number, host) in site.hosts.iter().enumerate() {
        // Socket options may be given once per address.
        let reuse = if number == 0 { " reuseport backlog=4096" } else { "" };
        servers += &format!(
            "  server {{
    listen {http}{reuse};
    listen {https} ssl http2{reuse};
    server_name {host};
    location / {{ proxy_pass http://{}; }}
  }}\n",
            service_of(number)
        );
    }
    format!(
        "daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server_names_hash_bucket_size 128;
  server_names_hash_max_size 8192;
  keepalive_timeout 65s;
  keepalive_requests 100000000;
  proxy_http_version 1.1;
  proxy_max_temp_file_size 0;
  proxy_set_header Connection \"\";
  proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Forwarded-Host $http_host;
  proxy_set_header X-Forwarded-Port $server_port;
  proxy_set_header X-Real-IP $remote_addr;
  proxy_set_header X-Request-ID $request_id;
  ssl_certificate {certificate};
  ssl_certificate_key {key};
  ssl_protocols TLSv1.2 TLSv1.3;
{upstreams}{servers}}}
",
        folder = site.folder.display(),
        certificate = site.certificate.certificate_file.display(),
        key = site.certificate.key_file.display(),
    )
}

/// Host to backend, looked up by [`haproxy`].
pub(super) fn haproxy_map(site: &Site) -> String {
    let mut map = String::new();
    for (number, host) in site.hosts.iter().enumerate() {
        map += &format!("{host} {}\n", service_of(number));
    }
    map
}

/// `haproxy.cfg`.
pub(super) fn haproxy(site: &Site, http: SocketAddr, https: SocketAddr) -> String {
    let mut backends = String::new();
    for number in 0..SERVICES {
        backends += &format!(
            "backend {}\n  server endpoint {} pool-max-conn {IDLE_UPSTREAM}\n",
            service_of(number),
            site.backend
        );
    }
    format!(
        "global
  nbthread 2
  maxconn 8192
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout connect 5s
  timeout client 65s
  timeout server 65s
  timeout http-request 30s
  http-reuse always
  option forwardfor
frontend site
  bind {http} backlog 4096
  bind {https} backlog 4096 ssl crt {bundle} alpn h2,http/1.1
  http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Port %[dst_port]
  http-request set-header X-Real-IP %[src]
  http-request set-header X-Request-ID %[uuid]
  use_backend %[req.hdr(host),field(1,:),lower,map_str({map})]
{backends}",
        bundle = site.certificate.bundle_file.display(),
        map = site.folder.join("hosts.map").display(),
    )
}

/// The bootstrap: one virtual host per host.
pub(super) fn envoy(site: &Site, http: SocketAddr, https: SocketAddr) -> Value {
    let clusters: Vec<Value> = (0..SERVICES)
        .map(|number| {
            let limits = json!({ "max_connections": 65536, "max_pending_requests": 65536,
                "max_requests": 65536 });
            json!({
                "name": service_of(number),
                "type": "STATIC",
                "connect_timeout": "5s",
                "circuit_breakers": { "thresholds": [limits] },
                "load_assignment": {
                    "cluster_name": service_of(number),
                    "endpoints": [{ "lb_endpoints": [
                        { "endpoint": { "address": envoy_address(site.backend) } }
                    ] }],
                },
            })
        })
        .collect();
    json!({ "static_resources": {
        "listeners": [
            envoy_listener("http", http, site, false),
            envoy_listener("https", https, site, true),
        ],
        "clusters": clusters,
    } })
}

fn envoy_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

fn envoy_listener(name: &str, address: SocketAddr, site: &Site, tls: bool) -> Value {
    let hosts: Vec<Value> = site
        .hosts
        .iter()
        .enumerate()
        .map(|(number, host)| {
            json!({
                "name": format!("site-{number}"),
                "domains": [host],
                "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": service_of(number) } }],
            })
        })
        .collect();
    let add = |name: &str, value: &str| {
        json!({ "header": { "key": name, "value": value },
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD" })
    };
    let manager = json!({
        "@type": format!("{ENVOY}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": name,
        "use_remote_address": true,
        "append_x_forwarded_port": true,
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": format!("{ENVOY}.filters.http.router.v3.Router") },
        }],
        "route_config": {
            "virtual_hosts": hosts,
            "ignore_port_in_host_matching": true,
            "request_headers_to_add": [
                add("x-forwarded-host", "%REQ(:AUTHORITY)%"),
                add("x-real-ip", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
            ],
        },
    });
    let mut chain = json!({ "filters": [
        { "name": "envoy.filters.network.http_connection_manager", "typed_config": manager },
    ] });
    if tls {
        chain["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": format!("{ENVOY}.transport_sockets.tls.v3.DownstreamTlsContext"),
                "common_tls_context": {
                    "alpn_protocols": ["h2", "http/1.1"],
                    "tls_params": { "tls_minimum_protocol_version": "TLSv1_2",
                        "tls_maximum_protocol_version": "TLSv1_3" },
                    "tls_certificates": [{
                        "certificate_chain": { "filename": text(&site.certificate.certificate_file) },
                        "private_key": { "filename": text(&site.certificate.key_file) },
                    }],
                },
            },
        });
    }
    json!({
        "name": name,
        "address": envoy_address(address),
        "filter_chains": [chain],
        "tcp_backlog_size": 4096,
    })
}

fn service_of(number: usize) -> String {
    format!("service-{}", number % SERVICES)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
