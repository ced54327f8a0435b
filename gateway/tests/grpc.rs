//! gRPC with Google's own client and server (`testbed/grpc/`): calls of every kind to backends in clear text and over TLS.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use gatehouse_testbed::{
    gatehouse::{
        gateway::{Gateway, Plan, free_address},
        manifests::{ingress, prefix, secret, service},
        pki::Authority,
        tls::Pair,
    },
    guard,
    program::Program,
};

const NGINX: &str = "nginx.ingress.kubernetes.io/";

/// One of the two programs, by the Python whose packages the library belongs to.
fn peer(name: &str) -> Command {
    let mut command = guard::command("/usr/bin/python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../testbed/grpc").join(name));
    command
}

/// A server, in clear text unless it shows a certificate.
fn server(folder: &Path, pair: Option<&Pair>) -> (SocketAddr, Program) {
    let address = free_address();
    let mut command = peer("server.py");
    command.arg(address.port().to_string());
    if let Some(pair) = pair {
        for (name, text) in [("server.crt", &pair.certificate), ("server.key", &pair.key)] {
            fs::write(folder.join(name), text).unwrap();
            command.arg(folder.join(name));
        }
    }
    let program = Program::start(command);
    program.expect(|line| line == "ready");
    (address, program)
}

/// A gateway with these servers behind it, and who signed its certificate.
struct Bed {
    gateway: Gateway,
    authority: PathBuf,
    _servers: [Program; 2],
    _folder: tempfile::TempDir,
}

impl Bed {
    /// Hosts have their annotations, their path and their Service.
    fn of(hosts: &[(&str, &str, &str, &str)]) -> Self {
        let folder = guard::folder("grpc-").unwrap();
        let signer = Authority::new("gateway");
        let (clear, plain) = server(folder.path(), None);
        let (tls, secure) = server(folder.path(), Some(&signer.server(&["backend.test"])));
        let names: Vec<_> = hosts.iter().map(|(host, ..)| *host).collect();
        let ingresses = hosts.iter().map(|(host, annotations, path, to)| {
            let own = format!("{{hosts: [{host}], secretName: pair}}");
            ingress(host, annotations, &own, &[prefix(host, path, to)])
        });
        let gateway = Plan::default()
            .manifest("clear.yaml", service("clear", &[clear]) + &service("nobody", &[]))
            .manifest("tls.yaml", service("tls", &[tls]))
            .manifest("secret.yaml", secret("pair", &signer.server(&names)))
            .manifest("ingresses.yaml", ingresses.collect::<String>())
            .start();
        let authority = folder.path().join("authority.crt");
        fs::write(&authority, signer.pem()).unwrap();
        Self { gateway, authority, _servers: [plain, secure], _folder: folder }
    }

    /// Has the client make a check at a host.
    fn check(&self, check: &str, host: &str) {
        let mut client = peer("client.py");
        client.args([check, &self.gateway.https.to_string(), host]).arg(&self.authority);
        let output = client.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{check} at {host}: {said}");
    }
}

#[test]
fn calls_of_every_kind_reach_backends_in_clear_text_and_over_tls() {
    let (clear, tls) =
        (format!("{NGINX}backend-protocol: GRPC"), format!("{NGINX}backend-protocol: GRPCS"));
    // Which have no say about conversations.
    let buffering =
        format!("{NGINX}proxy-request-buffering: \"on\", {NGINX}proxy-buffering: \"on\"");
    let kept = format!("{clear}, {buffering}");
    let bed = Bed::of(&[
        ("clear.test", &clear, "/", "clear"),
        ("tls.test", &tls, "/", "tls"),
        ("kept.test", &kept, "/test.Service", "clear"),
    ]);
    for host in ["clear.test", "tls.test", "kept.test"] {
        for check in [
            "unary",
            "requests",
            "answers",
            "both_ways",
            "large",
            "many_at_once",
            "status",
            "deadline",
            "cancelling",
        ] {
            bed.check(check, host);
        }
    }
}

#[test]
fn what_the_gateway_refuses_has_the_code_that_grpc_has_for_it() {
    let grpc = format!("{NGINX}backend-protocol: GRPC");
    let with = |more: &str| format!("{grpc}, {NGINX}{more}");
    let [small, shut] = ["proxy-body-size: 10k", "whitelist-source-range: 192.0.2.0/24"].map(with);
    let bed = Bed::of(&[
        ("nobody.test", &grpc, "/", "nobody"),
        ("shut.test", &shut, "/", "clear"),
        ("small.test", &small, "/", "clear"),
        ("other.test", &grpc, "/other.Service", "clear"),
    ]);
    bed.check("no_backend", "nobody.test");
    bed.check("forbidden", "shut.test");
    bed.check("too_large", "small.test");
    bed.check("unknown", "other.test");
}
