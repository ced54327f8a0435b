//! `haproxy.cfg` for Routes, as the template of OpenShift's router (openshift/router,
//! `haproxy-config.template`) writes it with its defaults: maps of expressions that are tried in order, TLS
//! by server name through a second frontend on a Unix socket, a backend for each Route.
//!
//! Left out is what costs a request nothing: statistics, logs, checks (one endpoint has none there either). It may
//! have fewer connections than there, as the limit of open files is lower where tests run.

use std::net::SocketAddr;

use super::{Site, service_of};
use crate::bench::{
    scenario::{EDGE, PASSTHROUGH, REENCRYPT},
    setup::host_name,
};

pub(super) fn configuration(site: &Site, clear: usize) -> anyhow::Result<String> {
    let backends = &site.backends;
    let names = Maps::write(site, clear)?;
    let mut text = frontends(site, &names);
    let ca = site.certificate.authority_file.display();
    let two = [server("pod-1", backends.http, ""), server("pod-2", backends.http_too, "")].concat();
    text += &http_backend("be_edge_http:default:edge", &two);
    let tls = server("pod-1", backends.tls, &format!(" ssl verify required ca-file {ca}"));
    text += &http_backend("be_secure:default:reencrypt", &tls);
    text += &format!(
        "backend be_tcp:default:passthrough\n  mode tcp\n  balance source\n  hash-type consistent\n  \
         server pod-1 {} weight 1\n",
        backends.tls
    );
    for number in 0..clear {
        let pod = server("pod-1", backends.http, "");
        // The services share an address; their names say which is meant.
        let name = format!("be_http:default:{}-{number}", service_of(number));
        text += &http_backend(&name, &pod);
    }
    Ok(text)
}

/// Files of expressions and what they stand for.
struct Maps {
    redirect: String,
    clear: String,
    passthrough: String,
    tcp: String,
    terminated: String,
}

impl Maps {
    fn write(site: &Site, clear: usize) -> anyhow::Result<Self> {
        let url = |host: &str| format!(r"^{}\.?(:[0-9]+)?(/.*)?$", host.replace('.', r"\."));
        let name = |host: &str| format!(r"^{}$", host.replace('.', r"\."));
        let (mut http, mut redirect) = (String::new(), String::new());
        // The router sorts by the expression's text, in reverse.
        for number in (0..clear).rev() {
            let (url, service) = (url(&host_name(number)), service_of(number));
            http += &format!("{url} be_http:default:{service}-{number}\n");
            // All Routes are in this table, also those that are never redirected.
            redirect += &format!("{url} 0\n");
        }
        let terminated = format!(
            "{} be_secure:default:reencrypt\n{} be_edge_http:default:edge\n",
            url(REENCRYPT),
            url(EDGE)
        );
        Ok(Self {
            redirect: site.write_file("os_route_http_redirect.map", &redirect)?,
            clear: site.write_file("os_http_be.map", &http)?,
            passthrough: site
                .write_file("os_sni_passthrough.map", &format!("{} 1\n", name(PASSTHROUGH)))?,
            tcp: site.write_file(
                "os_tcp_be.map",
                &format!("{} be_tcp:default:passthrough\n", name(PASSTHROUGH)),
            )?,
            terminated: site.write_file("os_edge_reencrypt_be.map", &terminated)?,
        })
    }
}

fn frontends(site: &Site, maps: &Maps) -> String {
    format!(
        "global
  nbthread 2
  maxconn 8192
  tune.maxrewrite 8192
  tune.bufsize 32768
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  maxconn 8192
  timeout connect 5s
  timeout client 30s
  timeout client-fin 1s
  timeout server 30s
  timeout server-fin 1s
  timeout http-request 10s
  timeout http-keep-alive 300s
  timeout tunnel 1h
  mode http
frontend public
  bind {http} backlog 4096
  tcp-request inspect-delay 5s
  tcp-request content accept if HTTP
  http-request del-header Proxy
  http-request set-header Host %[req.hdr(Host),lower]
  acl secure_redirect base,map_reg_int({redirect}) -m bool
  redirect scheme https if secure_redirect
  use_backend %[base,map_reg({clear})]
frontend public_ssl
  mode tcp
  bind {https} backlog 4096
  tcp-request inspect-delay 5s
  tcp-request content accept if {{ req_ssl_hello_type 1 }}
  acl sni req.ssl_sni -m found
  acl sni_passthrough req.ssl_sni,lower,map_reg({passthrough}) -m found
  use_backend %[req.ssl_sni,lower,map_reg({tcp})] if sni sni_passthrough
  default_backend be_sni
backend be_sni
  mode tcp
  server fe_sni unix@{folder}/sni.sock weight 1 send-proxy
frontend fe_sni
  bind unix@{folder}/sni.sock ssl crt {bundle} accept-proxy alpn h2,http/1.1
  http-request del-header Proxy
  http-request set-header Host %[req.hdr(Host),lower]
  use_backend %[base,map_reg({terminated})]
",
        http = site.http,
        https = site.https,
        redirect = maps.redirect,
        clear = maps.clear,
        passthrough = maps.passthrough,
        tcp = maps.tcp,
        terminated = maps.terminated,
        folder = site.folder.display(),
        bundle = site.certificate.bundle_file.display(),
    )
}

/// A backend of the template: forwarded fields, a cookie for the endpoint.
fn http_backend(name: &str, servers: &str) -> String {
    format!(
        "backend {name}
  option redispatch
  option forwardfor
  balance random
  http-request add-header X-Forwarded-Host %[req.hdr(host)]
  http-request add-header X-Forwarded-Port %[dst_port]
  http-request add-header X-Forwarded-Proto http if !{{ ssl_fc }}
  http-request add-header X-Forwarded-Proto https if {{ ssl_fc }}
  http-request add-header X-Forwarded-Proto-Version h2 if {{ ssl_fc_alpn -i h2 }}
  http-request add-header Forwarded for=%[src];host=%[req.hdr(host)];proto=%[req.hdr(X-Forwarded-Proto)]
  cookie 1e2670d92730b515ce3a1bb65da45062 insert indirect nocache httponly
{servers}"
    )
}

fn server(name: &str, address: SocketAddr, tls: &str) -> String {
    format!("  server {name} {address} cookie {name} weight 1{tls}\n")
}
