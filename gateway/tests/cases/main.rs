//! Annotations and TLS through the process on real sockets: objects in, requests, answers out.
//!
//! The cases are the YAML tables of `routes/tests/cases/`, one gateway for each table. Each case is one
//! Ingress (or Route) with a host of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
};

use gatehouse_testbed::gatehouse::{
    backend::{Backend, Request},
    call::Caller,
    client::{End, Exchange, Response, Step, Want, exchange, listen},
    gateway::{Gateway, Plan},
    manifests::service,
    pki::Authority,
    show,
    strict::Field,
    tls::{Tls, client_config, client_config_showing},
};
use serde::Deserialize;

use crate::{
    certificates::Certificates,
    objects::{Case, manifest},
    pods::{app, authentication_service},
};

mod certificates;
mod objects;
mod pods;

/// A request and what must come of it.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Ask {
    method: Option<String>,
    path: Option<String>,
    /// Instead of the case's own host; `{host}` stands for that.
    host: Option<String>,
    /// The client's address, as a trusted proxy tells it.
    from: Option<String>,
    headers: BTreeMap<String, String>,
    /// Asked over TLS.
    secure: bool,
    /// The name in the certificate that the client shows there, and whether the authority has signed it.
    shows: Option<(String, bool)>,
    /// The server name that it asks for there instead of the case's own host; an address: it asks for none.
    sni: Option<String>,
    /// What the certificate that it is shown there is called: see [`certificates`].
    shown: Option<String>,
    /// Asked by HTTP/2, over TLS.
    http2: bool,
    /// No answer comes, neither in TLS.
    closed: bool,
    body: Option<String>,
    /// A body of so many bytes.
    body_of: Option<usize>,
    /// A body without a length, in these parts.
    chunks: Option<Vec<String>>,
    status: u16,
    /// Fields of the answer; `null`: must not be there. `{host}` stands for the case's host, `…` for any text.
    answer: BTreeMap<String, Option<String>>,
    /// Fields of the request that the backend gets; `null`: must not be there.
    backend: BTreeMap<String, Option<String>>,
    /// The target that the backend gets.
    target: Option<String>,
    /// Fields of the request that the Service for errors gets; `null`: must not be there.
    errors: BTreeMap<String, Option<String>>,
    /// The target that it gets.
    errors_target: Option<String>,
    /// The backend that answers.
    by: Option<String>,
    /// What the backend's answer says behind its name.
    says: Option<String>,
    /// What a pod that speaks TLS says that it heard; `{host}` and `…` as above.
    heard: Option<String>,
    /// Asked so often.
    times: Option<u32>,
    /// Of these, so many parts of 1 are answered by `canary` (or by whom `shown` says), and the others by `app`.
    share: Option<f64>,
}

impl Ask {
    fn bytes(&self, own: &str) -> Vec<u8> {
        let method = self.method.as_deref().unwrap_or("GET");
        let path = self.path.as_deref().unwrap_or("/");
        let host = self.host.as_deref().unwrap_or("{host}").replace("{host}", own);
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
        let mut body = Vec::new();
        if let Some(from) = &self.from {
            head += &format!("X-Forwarded-For: {from}\r\n");
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {}\r\n", value.replace("{host}", own));
        }
        let text = self.body.clone().or_else(|| self.body_of.map(|bytes| "x".repeat(bytes)));
        if let Some(text) = text {
            head += &format!("Content-Length: {}\r\n", text.len());
            body = text.into_bytes();
        } else if let Some(chunks) = &self.chunks {
            head += "Transfer-Encoding: chunked\r\n";
            let chunks = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len()));
            body = (chunks.collect::<String>() + "0\r\n\r\n").into_bytes();
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.append(&mut body);
        bytes
    }

    /// What is wrong with an answer, and with what the backend got.
    fn judge(&self, own: &str, response: &Response, [got, errors]: [&[Request]; 2]) -> Vec<String> {
        let mut wrong = Vec::new();
        if response.status != self.status {
            wrong.push(format!("status {} instead of {}", response.status, self.status));
        }
        let mut field =
            |place: &str, name: &str, found: Option<String>, wanted: &Option<String>| {
                let wanted = wanted.as_ref().map(|value| value.replace("{host}", own));
                if !fits(found.as_deref(), wanted.as_deref()) {
                    wrong.push(format!("{place} {name} is {found:?} instead of {wanted:?}"));
                }
            };
        for (name, wanted) in &self.answer {
            field("answer's", name, response.one(name), wanted);
        }
        for (name, wanted) in &self.backend {
            let found = got.last().and_then(|request| request.one(name));
            field("backend's", name, found, wanted);
        }
        for (name, wanted) in &self.errors {
            let found = errors.last().and_then(|request| request.one(name));
            field("errors'", name, found, wanted);
        }
        if self.errors_target.is_some() {
            let found = errors.last().map(|request| request.target.clone());
            field("errors'", "target", found, &self.errors_target);
        }
        if self.target.is_some() {
            let found = got.last().map(|request| request.target.clone());
            field("backend's", "target", found, &self.target);
        }
        let text = decoded(response);
        let (name, said) = text.trim_end().split_once(' ').unwrap_or_default();
        for (wanted, found) in [(&self.by, name), (&self.says, said)] {
            if wanted.as_ref().is_some_and(|wanted| wanted != found) {
                wrong.push(format!("{found:?} answers instead of {wanted:?}"));
            }
        }
        if let Some(wanted) = self.heard.as_ref().map(|wanted| wanted.replace("{host}", own))
            && !fits(Some(text.trim_end()), Some(&wanted))
        {
            wrong.push(format!("the pod heard {text:?} instead of {wanted:?}"));
        }
        if self.status != 200 && !got.is_empty() && !self.headers.contains_key("X-Status") {
            wrong.push("the backend got it".to_owned());
        }
        wrong
    }
}

/// Whether a value is the wanted one, in which `…` stands for any text.
fn fits(found: Option<&str>, wanted: Option<&str>) -> bool {
    let (Some(found), Some(wanted)) = (found, wanted) else { return found == wanted };
    let mut parts = wanted.split('…');
    let Some(mut rest) = found.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

/// The text of an answer, whatever its coding.
fn decoded(response: &Response) -> String {
    let mut text = String::new();
    let read = match response.one("content-encoding").as_deref() {
        Some("gzip") => flate2::read::GzDecoder::new(&*response.body).read_to_string(&mut text),
        Some("zstd") => zstd::Decoder::new(&*response.body).unwrap().read_to_string(&mut text),
        Some("br") => brotli::Decompressor::new(&*response.body, 4096).read_to_string(&mut text),
        _ => return response.text(),
    };
    read.map_or_else(|error| error.to_string(), |_| text)
}

/// Sends a request, in clear text or over TLS; the answers, and the certificate that was shown.
fn exchanged(bed: &Bed, own: &str, ask: &Ask) -> io::Result<(Exchange, Option<String>)> {
    let (bytes, want) = (ask.bytes(own), Want::responses(1));
    let sni = ask.sni.as_deref().unwrap_or("{host}").replace("{host}", own);
    if ask.http2 {
        return Ok((by_http2(bed.gateway.https, &sni, ask), None));
    }
    let config = match &ask.shows {
        Some((name, signed)) => {
            let other = Authority::new("another");
            let signer = if *signed { &bed.certificates.authority } else { &other };
            client_config_showing(&signer.client(name, 1))
        }
        None if ask.secure || ask.sni.is_some() || ask.shown.is_some() => client_config(&[]),
        None => return Ok((exchange(bed.gateway.http, &[Step::Send(bytes)], want), None)),
    };
    let mut client = Tls::connect_with(config, bed.gateway.https, &sni)?;
    let shown = bed.certificates.name(&client.peer(), own);
    client.write_all(&bytes)?;
    Ok((listen(&mut client, want, false), Some(shown)))
}

/// A GET of HTTP/2.
fn by_http2(gateway: SocketAddr, host: &str, ask: &Ask) -> Exchange {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let called = runtime.block_on(async {
        let mut caller = Caller::connect(gateway, host).await;
        caller.get(ask.path.as_deref().unwrap_or("/")).await
    });
    let fields = called.fields.iter();
    let fields = fields
        .map(|(name, value)| Field { name: name.to_string(), value: value.as_bytes().into() });
    let end = if called.broken.is_some() { End::Cut } else { End::Complete };
    let response =
        Response { status: called.status, fields: fields.collect(), body: called.body, end };
    Exchange { responses: vec![response], ..Exchange::default() }
}

fn ask(bed: &Bed, [app, errors]: [&Backend; 2], own: &str, ask: &Ask) -> Vec<String> {
    let _ = (app.arrived(), errors.arrived());
    let seen = exchanged(bed, own, ask);
    let got = if ask.status == 200 && ask.heard.is_none() { app.requests() } else { app.arrived() };
    let (seen, shown) = match seen {
        Ok(seen) => seen,
        Err(_) if ask.closed => return Vec::new(),
        Err(error) => return vec![format!("no TLS: {error}")],
    };
    let mut wrong = match seen.responses.first() {
        Some(_) if ask.closed => vec![format!("there is an answer: {seen:?}")],
        Some(response) => ask.judge(own, response, [&got, &errors.arrived()]),
        None if ask.closed => Vec::new(),
        None => vec![format!("no answer: {seen:?}")],
    };
    if ask.shown.is_some() && ask.shown != shown {
        wrong.push(format!("{shown:?} is shown instead of {:?}", ask.shown));
    }
    wrong
}

/// A gateway, and the certificates around it.
struct Bed {
    gateway: Gateway,
    certificates: Certificates,
}

/// Whether a share of many requests is taken, within what chance leaves.
fn share(bed: &Bed, own: &str, ask: &Ask, times: u32, share: f64) -> Vec<String> {
    let mut taken = 0;
    for _ in 0..times {
        let Ok((seen, shown)) = exchanged(bed, own, ask) else { continue };
        let by_canary = |it: &Response| it.text().starts_with("canary");
        taken += u32::from(match &ask.shown {
            Some(_) => ask.shown == shown,
            None => seen.responses.first().is_some_and(by_canary),
        });
    }
    let (times, taken) = (f64::from(times), f64::from(taken));
    let deviation = (share * (1.0 - share) * times).sqrt();
    match (taken - share * times).abs() > 6.0 * deviation {
        true => vec![format!("{taken} of {times} are taken instead of {share} of all")],
        false => Vec::new(),
    }
}

/// The authorities as Secrets.
const AUTHORITIES: &str = r#"
{apiVersion: v1, kind: Secret, metadata: {name: authority, namespace: default}, stringData: {ca.crt: "{authority}"}}
---
{apiVersion: v1, kind: Secret, metadata: {name: stranger, namespace: default}, stringData: {ca.crt: "{stranger}"}}
---
"#;

fn run(table: &str) {
    run_with(table, &[]);
}

fn run_with(table: &str, flags: &[&str]) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../routes/tests/cases").join(table);
    let auth = authentication_service();
    let certificates = Certificates::new();
    let text = fs::read_to_string(file).unwrap().replace("{auth}", &auth.addr.to_string());
    let cases: Vec<Case> = serde_saphyr::from_str(&text).unwrap();
    let app = app();
    let [canary, other] = ["canary", "other"].map(Backend::echo);
    let errors = pods::errors();
    // Nobody listens there once the listener is gone.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_pods, secure_services) = certificates.pods();
    let manifests = cases
        .iter()
        .enumerate()
        .map(|(at, case)| certificates.fill(&format!("case-{at}.test"), &manifest(at, case)));
    let manifests = manifests.collect::<String>();
    let gateway = Plan::default()
        .manifest(
            "app.yaml",
            service("app", &[app.addr])
                + &service("nobody", &[])
                + &service("refusing", &[closed])
                + &service("auth", &[auth.addr]),
        )
        .manifest(
            "canary.yaml",
            service("canary", &[canary.addr])
                + &service("other", &[other.addr])
                + &service("errors", &[errors.addr])
                + &service("app", &[other.addr]).replace("namespace: default", "namespace: theirs"),
        )
        .manifest("pods.yaml", certificates.fill("", AUTHORITIES) + &secure_services)
        .manifest("cases.yaml", manifests)
        .args(&["--trusted-proxy", "127.0.0.0/8"])
        .args(flags)
        .start();
    let bed = Bed { gateway, certificates };
    let mut failures = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        let own = format!("case-{at}.test");
        for (number, request) in case.requests.iter().enumerate() {
            let wrong = match request.times.zip(request.share) {
                Some((times, part)) => share(&bed, &own, request, times, part),
                None => ask(&bed, [&app, &errors], &own, request),
            };
            for wrong in wrong {
                let bytes = show(&request.bytes(&own));
                failures.push(format!(
                    "{}: request {}: {wrong}\n    {bytes}",
                    case.name,
                    number + 1
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

/// A test for each table that needs no flags.
macro_rules! tables {
    ($($table:ident),*) => { $(
        #[test]
        fn $table() {
            run(concat!(stringify!($table), ".yaml"));
        }
    )* };
}

tables!(
    bodies,
    client_certificates,
    matching,
    settings,
    combinations,
    access,
    redirects,
    hosts,
    paths,
    errors,
    compression,
    headers,
    canary,
    limits,
    routes,
    routes_proxy,
    routes_together,
    authentication,
    authentication_external,
    ingress_tls
);

#[test]
fn snippets() {
    run_with("snippets.yaml", &["--understand-snippets"]);
}

#[test]
fn routes_claims() {
    run_with("routes_claims.yaml", &["--allow-wildcard-routes"]);
}

#[test]
fn routes_tls() {
    run_with("routes_tls.yaml", &["--allow-wildcard-routes"]);
}

#[test]
fn nginx_config() {
    let flags = ["--nginx-config", "default/global", "--default-backend", "default/canary"];
    run_with("nginx_config.yaml", &flags);
}

#[test]
fn authentication_global() {
    run_with("authentication_global.yaml", &["--nginx-config", "default/global"]);
}
