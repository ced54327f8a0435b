//! `nginx.conf`: one `server` per host, or a TCP port.

use super::{IDLE_UPSTREAM, SERVICES, Site, service_of};
use crate::bench::setup::{Feature, Serves};

/// Where Debian puts the module for TCP.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

pub(super) fn configuration(site: &Site) -> String {
    let (module, serves) = match site.setup.serves {
        Serves::Hosts { feature, .. } => (String::new(), http(site, feature)),
        Serves::Tcp => (format!("load_module {STREAM_MODULE};\n"), stream(site)),
        Serves::Routes { .. } => unreachable!("nginx serves no Routes"),
    };
    format!(
        "{module}daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
{serves}",
        folder = site.folder.display()
    )
}

fn stream(site: &Site) -> String {
    format!(
        "stream {{
  server {{
    listen {} reuseport backlog=4096;
    proxy_pass {};
  }}
}}
",
        site.tcp, site.backends.http
    )
}

fn http(site: &Site, feature: &Feature) -> String {
    let mut upstreams = String::new();
    for number in 0..SERVICES {
        upstreams += &format!(
            "  upstream {} {{ server {}; keepalive {IDLE_UPSTREAM}; keepalive_requests 100000000; }}\n",
            service_of(number),
            site.endpoint()
        );
    }
    let pass = if feature.grpc { "grpc_pass grpc" } else { "proxy_pass http" };
    let fields = |directive: &str| {
        let fields = [
            ("X-Forwarded-For", "$proxy_add_x_forwarded_for"),
            ("X-Forwarded-Proto", "$scheme"),
            ("X-Forwarded-Host", "$http_host"),
            ("X-Forwarded-Port", "$server_port"),
            ("X-Real-IP", "$remote_addr"),
            ("X-Request-ID", "$request_id"),
        ];
        fields.map(|(name, value)| format!("  {directive} {name} {value};\n")).concat()
    };
    let fields = if feature.grpc { fields("grpc_set_header") } else { fields("proxy_set_header") };
    let [of_http, of_server, of_location] =
        [feature.nginx_http, feature.nginx_server, feature.nginx_location].map(|it| site.fill(it));
    let mut servers = String::new();
    for (number, host) in site.hosts().iter().enumerate() {
        // Socket options may be given once per address.
        let reuse = if number == 0 { " reuseport backlog=4096" } else { "" };
        servers += &format!(
            "  server {{
    listen {http}{reuse};
    listen {https} ssl http2{reuse};
    server_name {host};
    {of_server}
    location {matched} {{
      {of_location}
      {pass}://{service};
    }}
  }}\n",
            http = site.http,
            https = site.https,
            matched = feature.nginx_match,
            service = service_of(number),
        );
    }
    format!(
        "http {{
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
{fields}  ssl_certificate {certificate};
  ssl_certificate_key {key};
  ssl_protocols TLSv1.2 TLSv1.3;
  {of_http}
{upstreams}{servers}}}
",
        folder = site.folder.display(),
        certificate = site.certificate.certificate_file.display(),
        key = site.certificate.key_file.display(),
    )
}
