//! Ingresses as well-known applications have them, for ingress-nginx: served as they stand.
//!
//! `migrated/NAME.yaml` holds what is asked and which Services there are, then the objects. Class `nginx` is claimed by
//! its name; hosts are the applications' own, so one gateway serves them all.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, fs, io::Write as _, path::Path};

use gatehouse_testbed::gatehouse::{
    backend::{Act, Backend, Request, echo_answer},
    client::{Exchange, Want, dial, listen},
    gateway::{Gateway, Plan},
    show,
    tls::Tls,
};
use serde::Deserialize;

/// The first document of a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Application {
    /// Services and their ports; port 80 is called `p80`.
    services: BTreeMap<String, Vec<u16>>,
    requests: Vec<Ask>,
}

/// A request and what must come of it.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Ask {
    url: String,
    method: Option<String>,
    /// Address of the client, as a trusted proxy tells it.
    from: Option<String>,
    headers: BTreeMap<String, String>,
    body: String,
    /// A body of so many bytes.
    body_of: usize,
    /// The client asks for a WebSocket.
    websocket: bool,
    status: u16,
    answer: BTreeMap<String, String>,
    /// The Service that answers.
    by: Option<String>,
    /// The target that it gets.
    target: Option<String>,
    /// Fields that it gets.
    backend: BTreeMap<String, String>,
}

impl Ask {
    fn bytes(&self, host: &str, target: &str) -> Vec<u8> {
        let method = self.method.as_deref().unwrap_or("GET");
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
        let mut field = |name: &str, value: &str| head += &format!("{name}: {value}\r\n");
        self.headers.iter().for_each(|(name, value)| field(name, value));
        self.from.iter().for_each(|from| field("X-Forwarded-For", from));
        if self.websocket {
            field("Connection", "Upgrade");
            field("Upgrade", "websocket");
            field("Sec-WebSocket-Version", "13");
            field("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        }
        let body = if self.body_of > 0 { "x".repeat(self.body_of) } else { self.body.clone() };
        if !body.is_empty() {
            field("Content-Length", &body.len().to_string());
        }
        (head + "\r\n" + &body).into_bytes()
    }

    /// Sends it; also the request that a backend got.
    fn send(
        &self,
        gateway: &Gateway,
        backends: &BTreeMap<String, Backend>,
    ) -> (Exchange, Option<Request>) {
        backends.values().for_each(|backend| drop(backend.arrived()));
        let (scheme, rest) = self.url.split_once("://").unwrap();
        let (host, path) = rest.split_once('/').unwrap();
        let bytes = self.bytes(host, &format!("/{path}"));
        let seen = if scheme == "https" {
            let mut wire = Tls::connect(gateway.https, host, &["http/1.1"]).unwrap();
            wire.write_all(&bytes).unwrap();
            listen(&mut wire, Want::responses(1), false)
        } else {
            let mut wire = dial(gateway.http);
            wire.write_all(&bytes).unwrap();
            listen(&mut wire, Want::responses(1), false)
        };
        let got = self.by.as_ref().and_then(|name| backends[name].requests().pop());
        (seen, got)
    }

    /// What is wrong with what came.
    fn judge(&self, seen: &Exchange, got: Option<&Request>) -> Vec<String> {
        let mut wrong = Vec::new();
        if seen.status() != self.status {
            wrong.push(format!("status {} instead of {}", seen.status(), self.status));
        }
        for (name, value) in &self.answer {
            let found = seen.responses.first().and_then(|response| response.one(name));
            if found.as_ref() != Some(value) {
                wrong.push(format!("{name} of the answer is {found:?} instead of {value:?}"));
            }
        }
        let Some(service) = &self.by else { return wrong };
        let Some(got) = got else {
            wrong.push(format!("{service} was not asked"));
            return wrong;
        };
        if self.target.as_ref().is_some_and(|target| *target != got.target) {
            wrong.push(format!("{service} got {} instead of {:?}", got.target, self.target));
        }
        for (name, value) in &self.backend {
            let found = got.one(name);
            if found.as_ref() != Some(value) {
                wrong.push(format!("{name} of the request is {found:?} instead of {value:?}"));
            }
        }
        wrong
    }
}

/// A backend that accepts WebSockets and answers everything else with what it was asked.
fn backend(name: &str) -> Backend {
    let own = name.to_owned();
    Backend::scripted(name, move |request| {
        if request.one("upgrade").as_deref() == Some("websocket") {
            let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
            return vec![Act::Send(answer.to_vec()), Act::Echo];
        }
        vec![Act::Send(echo_answer(&own, request))]
    })
}

/// A Service whose every port leads to one backend.
fn service(name: &str, ports: &[u16], backend: &Backend) -> String {
    let own = ports.iter().map(|port| format!("{{name: p{port}, port: {port}}}"));
    let own = own.collect::<Vec<_>>().join(", ");
    let there = backend.addr.port();
    let slices = ports.iter().map(|port| format!("{{name: p{port}, port: {there}}}"));
    let slices = slices.collect::<Vec<_>>().join(", ");
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{own}]}}\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}\naddressType: IPv4\n\
         ports: [{slices}]\nendpoints: [{{addresses: [{}]}}]\n",
        backend.addr.ip()
    )
}

#[test]
fn applications_are_served_with_the_ingresses_that_they_have_for_ingress_nginx() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/migrated");
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut applications = Vec::new();
    let (mut backends, mut plan) = (BTreeMap::new(), Plan::default());
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&file).unwrap();
        let (asked, objects) = text.split_once("\n---\n").unwrap();
        let application: Application =
            serde_saphyr::from_str(asked).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut objects = objects.to_owned() + "\n";
        for (service_name, ports) in &application.services {
            let backend = backend(service_name);
            objects += &service(service_name, ports, &backend);
            backends.insert(service_name.clone(), backend);
        }
        plan = plan.manifest(&format!("{name}.yaml"), objects);
        applications.push((name, application));
    }
    let gateway = plan.args(&["--claim-class", "nginx", "--trusted-proxy", "127.0.0.0/8"]).start();
    let mut failures = Vec::new();
    for (name, application) in &applications {
        for ask in &application.requests {
            let (seen, got) = ask.send(&gateway, &backends);
            for wrong in ask.judge(&seen, got.as_ref()) {
                failures.push(format!(
                    "{name}: {}: {wrong}\n    {}",
                    ask.url,
                    show(&seen.received)
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{}\n{}", failures.join("\n"), gateway.output());
    assert!(applications.len() >= 9, "{} applications", applications.len());
}
