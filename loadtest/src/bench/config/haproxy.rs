//! `haproxy.cfg`: a frontend with a map from hosts to backends, or a TCP port.

use super::{IDLE_UPSTREAM, SERVICES, Site, service_of};
use crate::bench::setup::{Feature, Serves};

/// Of the process and of all its sides, behind the number of connections.
const BEGIN: &str = "
  nbthread 2
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  timeout connect 5s
  timeout client 65s
  timeout server 65s
  timeout http-request 30s
";

pub(super) fn configuration(site: &Site) -> anyhow::Result<String> {
    Ok(match site.setup.serves {
        Serves::Hosts { feature, .. } => {
            let mut map = String::new();
            for (number, host) in site.hosts().iter().enumerate() {
                map += &format!("{host} {}\n", service_of(number));
            }
            let map = site.write_file("hosts.map", &map)?;
            format!("global\n  maxconn 8192{BEGIN}{}", http(site, feature, &map))
        }
        // Pipes take descriptors, too.
        _ => format!("global\n  maxconn 6000{BEGIN}{}", tcp(site)),
    })
}

fn tcp(site: &Site) -> String {
    format!(
        "  mode tcp
  option splice-auto
listen tcp
  bind {} backlog 4096
  server endpoint {}
",
        site.tcp, site.backends.http
    )
}

fn http(site: &Site, feature: &Feature, map: &str) -> String {
    let mut backends = String::new();
    let protocol = if feature.grpc { " proto h2" } else { "" };
    for number in 0..SERVICES {
        backends += &format!(
            "backend {}\n  server endpoint {} pool-max-conn {IDLE_UPSTREAM}{protocol}\n",
            service_of(number),
            site.endpoint()
        );
    }
    format!(
        "  mode http
  http-reuse always
  option forwardfor
frontend site
  bind {http} backlog 4096
  bind {https} backlog 4096 ssl crt {bundle} alpn h2,http/1.1
{feature}  http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Port %[dst_port]
  http-request set-header X-Real-IP %[src]
  http-request set-header X-Request-ID %[uuid]
  use_backend %[req.hdr(host),field(1,:),lower,map_str({map})]
{backends}",
        http = site.http,
        https = site.https,
        bundle = site.certificate.bundle_file.display(),
        feature = site.fill(feature.haproxy),
    )
}
