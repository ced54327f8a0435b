//! What clients of Routes have to show (`clientTLS` of an IngressController), with HAProxy beside the process: the fields
//! that the backend gets are held against those of the router's own configuration.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Child,
};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Backend, Request},
        client,
        curl::Curl,
        gateway::{Gateway, Plan, free_address},
        manifests::{ingress, prefix, service},
        pki::Authority,
        tls::Pair,
    },
    guard, wait,
};
use tempfile::TempDir;

/// As the template of OpenShift's router sets them (`frontend fe_sni`).
const ROUTER_FIELDS: &str = "\
  http-request set-header X-SSL                  %[ssl_fc]
  http-request set-header X-SSL-Client-Verify    %[ssl_c_verify]
  http-request set-header X-SSL-Client-Serial    %{+Q}[ssl_c_serial,hex]
  http-request set-header X-SSL-Client-Version   %{+Q}[ssl_c_version]
  http-request set-header X-SSL-Client-SHA1      %{+Q}[ssl_c_sha1,hex]
  http-request set-header X-SSL-Client-DN        %{+Q}[ssl_c_s_dn]
  http-request set-header X-SSL-Client-CN        %{+Q}[ssl_c_s_dn(cn)]
  http-request set-header X-SSL-Issuer           %{+Q}[ssl_c_i_dn]
  http-request set-header X-SSL-Client-NotBefore %{+Q}[ssl_c_notbefore]
  http-request set-header X-SSL-Client-NotAfter  %{+Q}[ssl_c_notafter]
  http-request set-header X-SSL-Client-DER       %{+Q}[ssl_c_der,base64]
";
/// Their names.
const NAMES: [&str; 11] = [
    "x-ssl",
    "x-ssl-client-verify",
    "x-ssl-client-serial",
    "x-ssl-client-version",
    "x-ssl-client-sha1",
    "x-ssl-client-dn",
    "x-ssl-client-cn",
    "x-ssl-issuer",
    "x-ssl-client-notbefore",
    "x-ssl-client-notafter",
    "x-ssl-client-der",
];

/// A Route of host `NAME.test` for the Service `web`.
fn route(name: &str, more: &str) -> String {
    format!(
        "apiVersion: route.openshift.io/v1\nkind: Route\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{host: {name}.test, to: {{kind: Service, name: web}}{more}}}\n---\n"
    )
}

struct Bed {
    ours: Authority,
    backend: Backend,
    gateway: Gateway,
    curl: Curl,
    folder: TempDir,
}

impl Bed {
    fn new(args: &[&str]) -> Self {
        let (ours, folder) = (Authority::new("ours"), guard::folder("route-clients-").unwrap());
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let authorities = file("ca.pem", &ours.pem());
        let lists = file("crl.pem", &ours.revoked(&[13]));
        let backend = Backend::echo("web");
        let renamed = ", tls: {termination: edge}, httpHeaders: {actions: {request: [\
             {name: X-Forwarded-Client-Cert, action: {type: Set, set: {value: \"%{+Q}[ssl_c_der,base64]\"}}}, \
             {name: X-SSL-Client-DER, action: {type: Delete}}]}}";
        let gateway = Plan::default()
            .manifest("web.yaml", service("web", &[backend.addr]))
            .manifest("edge.yaml", route("edge", ", tls: {termination: edge}"))
            .manifest("renamed.yaml", route("renamed", renamed))
            .manifest(
                "allow.yaml",
                route(
                    "allow",
                    ", tls: {termination: edge, insecureEdgeTerminationPolicy: Allow}, path: /tls",
                ) + &route("plain", ", path: /clear")
                    .replace("host: plain.test", "host: allow.test"),
            )
            .manifest(
                "redirect.yaml",
                route(
                    "redirect",
                    ", tls: {termination: edge, insecureEdgeTerminationPolicy: Redirect}",
                ),
            )
            .manifest("ingress.yaml", ingress("other", "", "", &[prefix("other.test", "/", "web")]))
            .args(&["--client-ca", &authorities, "--client-crl", &lists])
            .args(args)
            .start();
        let curl = Curl::of(gateway.https);
        Self { ours, backend, gateway, curl, folder }
    }

    fn status(&self, host: &str, shows: Option<&Pair>) -> u16 {
        self.curl.ask(shows, &[], &format!("https://{host}.test/")).status
    }

    /// What the backend gets of a request by way of the gateway.
    fn request(&self, host: &str, shows: Option<&Pair>, more: &[&str]) -> Request {
        let answered = self.curl.ask(shows, more, &format!("https://{host}.test/"));
        assert_eq!(answered.status, 200, "{host}");
        self.backend.requests().pop().expect("a request")
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// HAProxy as the router configures it, for the same authorities and the same backend.
    fn router(&self) -> (Kill, SocketAddr) {
        let server = self.ours.server(&["edge.test"]);
        let pair = self.file("server.pem", &(server.certificate + &server.key));
        let at = free_address();
        let authorities = self.folder.path().join("ca.pem");
        let text = format!(
            "global\n  maxconn 50\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  \
             timeout server 30s\nfrontend sni\n  bind {at} ssl crt {} verify optional ca-file {}\n{ROUTER_FIELDS}  \
             default_backend web\nbackend web\n  server web {}\n",
            pair.display(),
            authorities.display(),
            self.backend.addr
        );
        let file = self.file("haproxy.cfg", &text);
        let haproxy = guard::command("haproxy").arg("-db").arg("-f").arg(file).spawn();
        let haproxy = Kill(haproxy.expect("haproxy is installed (.ci/setup)"));
        assert!(wait::comes_true(|| TcpStream::connect(at).is_ok()));
        (haproxy, at)
    }
}

struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

#[test]
fn routes_over_tls_ask_for_a_certificate_and_nothing_else_does() {
    let required = Bed::new(&["--client-subject-pattern", "/CN=alice/O=Testers$"]);
    let ours = &required.ours;
    let shown = [
        None,
        Some(ours.client("alice", 7)),
        Some(Authority::new("theirs").client("alice", 7)),
        Some(ours.expired_client("alice")),
        // Another subject, one that is revoked, one that looks like another attribute.
        Some(ours.client("bob", 8)),
        Some(ours.client("alice", 13)),
        Some(ours.client("x/CN=alice", 9)),
    ];
    let statuses = |bed: &Bed, host: &str| {
        shown.iter().map(|pair| bed.status(host, pair.as_ref())).collect::<Vec<_>>()
    };
    assert_eq!(statuses(&required, "edge"), [400, 200, 400, 400, 403, 400, 403]);
    assert_eq!(statuses(&required, "other"), [200; 7]);
    let clear = |host: &str, path: &str| client::get(required.gateway.http, host, path).status();
    // In clear text nobody has a certificate.
    assert_eq!(clear("allow.test", "/tls"), 400);
    assert_eq!(clear("allow.test", "/clear"), 200);
    assert_eq!(clear("redirect.test", "/"), 302);
    assert_eq!(clear("other.test", "/"), 200);
}

#[test]
fn an_optional_certificate_is_one_that_is_believed() {
    let bed = Bed::new(&["--client-certificate-policy", "Optional"]);
    let (good, foreign) = (bed.ours.client("a", 7), Authority::new("theirs").client("a", 7));
    assert_eq!(
        [None, Some(&good), Some(&foreign)].map(|pair| bed.status("edge", pair)),
        [200, 200, 400]
    );
}

#[test]
fn the_backend_hears_what_openshifts_router_tells_and_nothing_that_a_client_says() {
    let bed = Bed::new(&["--client-certificate-policy", "optional"]);
    let (_haproxy, at) = bed.router();
    let router = Curl::of(at);
    let forged: Vec<String> =
        NAMES.iter().flat_map(|name| ["--header".to_owned(), format!("{name}: forged")]).collect();
    let forged: Vec<&str> = forged.iter().map(String::as_str).collect();
    let mut long = bed.ours.client("with an intermediate", 0xf7a1);
    long.certificate.push_str(&bed.ours.pem());
    for pair in [None, Some(bed.ours.client("alice", 7)), Some(long)] {
        let fields = |request: Request| NAMES.map(|name| request.all(name));
        let got = fields(bed.request("edge", pair.as_ref(), &forged));
        assert_eq!(router.ask(pair.as_ref(), &forged, "https://edge.test/").status, 200);
        let expected = fields(bed.backend.requests().pop().unwrap());
        assert_eq!(got, expected);
        assert_eq!(got[0], ["1"]);
    }
    // Whom nobody asks is not told about.
    let other = bed.request("other", None, &forged);
    assert_eq!(NAMES.map(|name| other.one(name)), [const { None }; 11]);
}

#[test]
fn an_action_of_a_route_has_the_certificate_and_the_last_word() {
    let bed = Bed::new(&[]);
    let good = bed.ours.client("alice", 7);
    let encoded = bed.request("edge", Some(&good), &[]).one("x-ssl-client-der").unwrap();
    let renamed = bed.request("renamed", Some(&good), &[]);
    assert_eq!(renamed.one("x-forwarded-client-cert"), Some(encoded));
    assert_eq!(renamed.one("x-ssl-client-der"), None);
}

#[test]
fn files_and_patterns_that_cannot_be_used_end_the_start() {
    let folder = guard::folder("broken-").unwrap();
    let junk = folder.path().join("junk.pem");
    fs::write(&junk, "no certificate").unwrap();
    let good = folder.path().join("ca.pem");
    fs::write(&good, Authority::new("ours").pem()).unwrap();
    let (junk, good) = (junk.to_str().unwrap(), good.to_str().unwrap());
    for (args, reason) in [
        (&["--client-ca", "/nowhere.pem"][..], "/nowhere.pem"),
        (&["--client-ca", junk], "--client-ca"),
        (&["--client-ca", good, "--client-crl", junk], "--client-crl"),
        (&["--client-ca", good, "--client-subject-pattern", "("], "--client-subject-pattern"),
        (&["--client-subject-pattern", "x"], "--client-ca"),
    ] {
        let (mut command, _folder) = Plan::default().args(args).command();
        let output = command.output().unwrap();
        assert!(!output.status.success(), "{args:?}");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(said.contains(reason), "{args:?}: {said}");
    }
}
