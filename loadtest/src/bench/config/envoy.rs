//! Envoy's bootstrap: one virtual host per host.

use std::{net::SocketAddr, path::Path};

use serde_json::{Value, json};

use super::{SERVICES, Site, service_of};
use crate::bench::setup::Serves;

/// Where Envoy's extension types live.
const ENVOY: &str = "type.googleapis.com/envoy.extensions";

pub(super) fn bootstrap(site: &Site) -> Value {
    let grpc = matches!(site.setup.serves, Serves::Hosts { feature, .. } if feature.grpc);
    let clusters: Vec<Value> = (0..SERVICES)
        .map(|number| {
            let limits = json!({ "max_connections": 65536, "max_pending_requests": 65536,
                "max_requests": 65536 });
            let mut cluster = json!({
                "name": service_of(number),
                "type": "STATIC",
                "connect_timeout": "5s",
                "circuit_breakers": { "thresholds": [limits] },
                "load_assignment": {
                    "cluster_name": service_of(number),
                    "endpoints": [{ "lb_endpoints": [
                        { "endpoint": { "address": address_of(site.endpoint()) } }
                    ] }],
                },
            });
            if grpc {
                let options = format!("{ENVOY}.upstreams.http.v3.HttpProtocolOptions");
                cluster["typed_extension_protocol_options"] = json!({
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                        "@type": options,
                        "explicit_http_config": { "http2_protocol_options": {} },
                    },
                });
            }
            cluster
        })
        .collect();
    json!({ "static_resources": {
        "listeners": [
            listener("http", site.http, site, false),
            listener("https", site.https, site, true),
        ],
        "clusters": clusters,
    } })
}

fn address_of(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

fn listener(name: &str, address: SocketAddr, site: &Site, tls: bool) -> Value {
    let hosts: Vec<Value> = site
        .hosts()
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
        "address": address_of(address),
        "filter_chains": [chain],
        "tcp_backlog_size": 4096,
    })
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
