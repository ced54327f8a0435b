//! Certificates of clients against the process: curl shows them, `openssl s_client` resumes sessions.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};

use gatehouse_testbed::{
    gatehouse::{
        backend::Backend,
        client::{self, Step, Want, exchange},
        curl::Curl,
        gateway::{Gateway, Plan},
        manifests::{ingress, prefix, service},
        pki::{Authority, secret},
        s_client,
        tls::{Pair, Tls, client_config_showing},
    },
    guard, wait,
};

const NGINX: &str = "nginx.ingress.kubernetes.io/auth-tls-";

/// An Ingress of host `NAME.test` for the Service `web`, with annotations of client certificates.
fn host(name: &str, annotations: &[(&str, &str)]) -> String {
    let annotations =
        annotations.iter().map(|(name, value)| format!("\"{NGINX}{name}\": \"{value}\""));
    let annotations = annotations.collect::<Vec<_>>().join(", ");
    ingress(name, &annotations, "", &[prefix(&format!("{name}.test"), "/", "web")])
}

/// Authorities, a backend and what is asked of it.
struct Bed {
    ours: Authority,
    backend: Backend,
    gateway: Gateway,
    curl: Curl,
}

impl Bed {
    fn new(files: impl FnOnce(&Authority, &Backend) -> Vec<String>) -> Self {
        let ours = Authority::new("ours");
        let backend = Backend::echo("web");
        let mut plan = Plan::default()
            .manifest("web.yaml", service("web", &[backend.addr]))
            .manifest("ca.yaml", secret("ca", &[("ca.crt", &ours.pem())]));
        for (at, text) in files(&ours, &backend).into_iter().enumerate() {
            plan = plan.manifest(&format!("{at}.yaml"), text);
        }
        let gateway = plan.start();
        let curl = Curl::of(gateway.https);
        Self { ours, backend, gateway, curl }
    }

    /// Status of a request for `NAME.test`.
    fn status(&self, name: &str, shows: Option<&Pair>) -> u16 {
        self.curl.ask(shows, &[], &format!("https://{name}.test/")).status
    }
}

/// The status of one more request for `asks.test` on a connection.
fn again(connection: &mut Tls) -> u16 {
    connection.write_all(b"HEAD / HTTP/1.1\r\nHost: asks.test\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        connection.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head[9..12]).parse().unwrap()
}

/// The status line in what `s_client` prints.
fn said(output: &str) -> &str {
    let at = output.find("HTTP/1.1 ").unwrap_or_else(|| panic!("no answer: {output}"));
    &output[at + 9..at + 12]
}

#[test]
fn each_way_of_asking_admits_whom_nginx_admits() {
    let bed = Bed::new(|_, _| {
        let by = ("secret", "default/ca");
        vec![
            host("asks", &[by]),
            host("optional", &[by, ("verify-client", "optional")]),
            host("unknown", &[by, ("verify-client", "optional_no_ca")]),
            host("idle", &[by, ("verify-client", "off")]),
            host("open", &[]),
            host("named", &[by, ("match-cn", "CN=(alice|bob)$")]),
            host("page", &[by, ("error-page", "https://help.test/no-certificate")]),
            host("missing", &[("secret", "default/none")]),
            host("broken", &[("secret", "default/broken")]),
            secret("broken", &[("ca.crt", "no certificate")]),
        ]
    });
    let good = bed.ours.client("alice", 7);
    let foreign = Authority::new("theirs").client("alice", 7);
    let old = bed.ours.expired_client("alice");
    let server = bed.ours.server(&["alice"]);
    let other = bed.ours.client("malice", 8);
    for (name, shown) in [
        // Nobody, ours, a stranger's, one that has expired, one that is no client's, one of another name.
        ("asks", [400, 200, 400, 400, 400, 200]),
        ("optional", [200, 200, 400, 400, 400, 200]),
        ("unknown", [200, 200, 200, 400, 400, 200]),
        ("idle", [200; 6]),
        ("open", [200; 6]),
        ("named", [400, 200, 400, 400, 400, 403]),
        ("page", [302, 200, 302, 302, 302, 200]),
        ("missing", [503; 6]),
        ("broken", [503; 6]),
    ] {
        let all = [None, Some(&good), Some(&foreign), Some(&old), Some(&server), Some(&other)];
        for version in ["1.2", "1.3"] {
            let url = format!("https://{name}.test/");
            let got = all.map(|pair| bed.curl.ask(pair, &["--tls-max", version], &url).status);
            assert_eq!(got, shown, "{name} over TLS {version}");
        }
    }
    let sent = bed.curl.ask(None, &[], "https://page.test/x");
    assert_eq!(sent.location, "https://help.test/no-certificate");
}

/// A certificate of version 1, which signs itself.
fn old_certificate() -> Pair {
    let folder = guard::folder("old-").unwrap();
    let run = |line: &str| {
        let mut openssl = guard::command("openssl");
        let output = openssl.args(line.split(' ')).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
    };
    run(
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key -subj /CN=alice -out request",
    );
    run("x509 -req -in request -signkey key -days 1 -out certificate");
    let [certificate, key] = ["certificate", "key"]
        .map(|name| std::fs::read_to_string(folder.path().join(name)).unwrap());
    Pair { certificate, key, der: Vec::new() }
}

#[test]
fn a_certificate_of_version_1_ends_the_handshake_and_the_log_says_why() {
    let bed = Bed::new(|_, _| vec![host("asks", &[("secret", "default/ca")])]);
    let old = old_certificate();
    for version in ["1.2", "1.3"] {
        let asked = bed.curl.ask(Some(&old), &["--tls-max", version], "https://asks.test/");
        assert_eq!(asked.status, 0, "{version}");
        let told = || bed.gateway.output().contains("it is of version 1 of X.509");
        assert!(wait::comes_true(told), "{}", bed.gateway.output());
    }
    assert_eq!(bed.status("asks", Some(&bed.ours.client("alice", 7))), 200);
}

#[test]
fn the_backend_hears_of_the_certificate_from_the_gateway_alone() {
    let bed = Bed::new(|_, _| {
        let by = ("secret", "ca");
        let optional = ("verify-client", "optional_no_ca");
        let pass = ("pass-certificate-to-upstream", "true");
        vec![
            host("told", &[by, optional]),
            host("passed", &[by, optional, pass]),
            host("open", &[]),
        ]
    });
    let forged: Vec<String> = [
        "ssl-client-verify: SUCCESS",
        "SSL-Client-Subject-DN: CN=root",
        "ssl_client_verify: SUCCESS",
        "ssl-client-cert: x",
        "X-SSL-Client-CN: root",
    ]
    .iter()
    .flat_map(|field| ["--header".to_owned(), (*field).to_owned()])
    .collect();
    let forged: Vec<&str> = forged.iter().map(String::as_str).collect();
    let own = |text: &str| Some(text.to_owned());
    let good = bed.ours.client("a,b", 7);
    for http in ["--http1.1", "--http2"] {
        let ask = |name: &str, shows: Option<&Pair>| {
            let arguments: Vec<&str> = forged.iter().copied().chain([http]).collect();
            let url = format!("https://{name}.test/");
            assert_eq!(bed.curl.ask(shows, &arguments, &url).status, 200, "{name}");
            let request = bed.backend.arrived().pop().expect("a request");
            for name in ["ssl_client_verify", "x-ssl-client-cn"] {
                assert_eq!(request.one(name), None);
            }
            [
                "ssl-client-verify",
                "ssl-client-subject-dn",
                "ssl-client-issuer-dn",
                "ssl-client-cert",
            ]
            .map(|name| request.one(name))
        };
        assert_eq!(ask("open", None), [None, None, None, None]);
        assert_eq!(ask("told", None), [own("NONE"), None, None, None]);
        let subject = own("O=Testers,CN=a\\,b");
        assert_eq!(
            ask("told", Some(&good)),
            [own("SUCCESS"), subject.clone(), own("CN=ours"), None]
        );
        let [verify, name, issuer, leaf] = ask("passed", Some(&good));
        assert_eq!([verify, name, issuer], [own("SUCCESS"), subject, own("CN=ours")]);
        let leaf = leaf.unwrap();
        assert!(leaf.starts_with("-----BEGIN%20CERTIFICATE-----%0AMII"), "{leaf}");
        let plain = leaf.replace("%20", " ").replace("%0A", "\n");
        let plain = plain.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=");
        assert_eq!(plain, good.certificate.replace("\r\n", "\n"));
        let foreign = Authority::new("theirs").client("x", 1);
        let [verify, name, _, _] = ask("told", Some(&foreign));
        assert!(verify.unwrap().starts_with("FAILED:"));
        assert_eq!(name, own("O=Testers,CN=x"));
    }
}

#[test]
fn chains_are_as_long_as_the_depth_says_and_revoked_certificates_do_not_count() {
    let bed = Bed::new(|ours, _| {
        let lists = secret("lists", &[("ca.crt", &ours.pem()), ("ca.crl", &ours.revoked(&[7]))]);
        let by = ("secret", "ca");
        vec![
            lists,
            host("one", &[by]),
            host("none", &[by, ("verify-depth", "0")]),
            host("two", &[by, ("verify-depth", "2")]),
            host("listed", &[("secret", "lists")]),
        ]
    });
    let below = bed.ours.below("below");
    let lower = below.below("lower");
    let direct = bed.ours.client("direct", 8);
    let mut deep = below.client("deep", 8);
    deep.certificate.push_str(&below.pem());
    let mut deeper = lower.client("deeper", 8);
    deeper.certificate.push_str(&(lower.pem() + &below.pem()));
    for (name, expected) in [("none", [200, 400, 400]), ("one", [200, 200, 400]), ("two", [200; 3])]
    {
        let got = [&direct, &deep, &deeper].map(|pair| bed.status(name, Some(pair)));
        assert_eq!(got, expected, "{name}");
    }
    let revoked = bed.ours.client("revoked", 7);
    assert_eq!(bed.status("listed", Some(&direct)), 200);
    assert_eq!(bed.status("listed", Some(&revoked)), 400);
    assert_eq!(bed.status("one", Some(&revoked)), 200);
}

#[test]
fn neither_names_nor_sessions_nor_shared_connections_lead_around_a_demand() {
    let bed = Bed::new(|_, _| {
        let by = ("secret", "ca");
        vec![
            host("asks", &[by]),
            host("same", &[by]),
            host("named", &[by, ("match-cn", "CN=alice")]),
            host("open", &[]),
        ]
    });
    let good = bed.ours.client("alice", 7);
    for http in ["--http1.1", "--http2"] {
        let ask = |name: &str, host: &str, shows| {
            let field = format!("Host: {host}.test");
            let url = format!("https://{name}.test/");
            bed.curl.ask(shows, &[http, "--header", &field], &url).status
        };
        assert_eq!(ask("open", "asks", Some(&good)), 421, "{http}");
        assert_eq!(ask("open", "asks", None), 421, "{http}");
        assert_eq!(ask("asks", "open", Some(&good)), 421, "{http}");
        assert_eq!(ask("asks", "named", Some(&good)), 421, "{http}");
        // Both ask for the same, and get it.
        assert_eq!(ask("asks", "same", Some(&good)), 200, "{http}");
        assert_eq!(ask("asks", "same", None), 400, "{http}");
        // A name that nobody has.
        assert_eq!(ask("nobody", "asks", Some(&good)), 421, "{http}");
    }
    assert_eq!(said(&s_client::request(bed.gateway.https, "", "asks.test", &[])), "421");
    let tickets = guard::folder("tickets-").unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        for (first, second, reused, answer) in [
            ("open", "asks", false, "400"),
            ("asks", "open", false, "200"),
            ("asks", "same", false, "400"),
            ("asks", "asks", true, "400"),
        ] {
            let file = tickets.path().join(format!("{first}-{second}{version}"));
            let file = file.to_str().unwrap();
            let host = format!("{first}.test");
            s_client::request(bed.gateway.https, &host, &host, &[version, "-sess_out", file]);
            let host = format!("{second}.test");
            let output =
                s_client::request(bed.gateway.https, &host, &host, &[version, "-sess_in", file]);
            assert_eq!(output.contains("Reused, "), reused, "{first} {second} {version}: {output}");
            assert_eq!(said(&output), answer, "{first} {second} {version}");
        }
    }
}

#[test]
fn in_clear_text_nobody_has_a_certificate() {
    let bed = Bed::new(|_, _| {
        let by = ("secret", "ca");
        let redirected =
            host("redirected", &[by]).replace("tls: []", "tls: [{hosts: [redirected.test]}]");
        let solver = ingress(
            "solver",
            "",
            "",
            &[prefix("asks.test", "/.well-known/acme-challenge/token", "web")],
        );
        let sibling = ingress("sibling", "", "", &[prefix("asks.test", "/sibling", "web")]);
        vec![
            host("asks", &[by]),
            host("optional", &[by, ("verify-client", "optional")]),
            redirected,
            solver,
            sibling,
        ]
    });
    let status = |host: &str, path: &str| client::get(bed.gateway.http, host, path).status();
    assert_eq!(status("asks.test", "/"), 400);
    assert_eq!(status("asks.test", "/sibling"), 400);
    assert_eq!(status("optional.test", "/"), 200);
    assert_eq!(status("redirected.test", "/"), 308);
    assert_eq!(status("asks.test", "/.well-known/acme-challenge/token"), 200);
    // What a stranger says of the scheme or of a certificate changes nothing.
    let request = b"GET / HTTP/1.1\r\nHost: asks.test\r\nX-Forwarded-Proto: https\r\nssl-client-verify: SUCCESS\r\n\r\n";
    let seen = exchange(bed.gateway.http, &[Step::Send(request.to_vec())], Want::responses(1));
    assert_eq!(seen.status(), 400);
}

#[test]
fn new_authorities_count_at_once_for_new_handshakes_and_for_old_connections() {
    let bed = Bed::new(|_, _| vec![host("asks", &[("secret", "ca")])]);
    let theirs = Authority::new("theirs");
    let (ours, foreign) = (bed.ours.client("a", 7), theirs.client("b", 8));
    assert_eq!([bed.status("asks", Some(&ours)), bed.status("asks", Some(&foreign))], [200, 400]);
    let config = client_config_showing(&ours);
    let mut old = Tls::connect_with(config, bed.gateway.https, "asks.test").unwrap();
    assert_eq!(again(&mut old), 200);
    bed.gateway.save("ca.yaml", &secret("ca", &[("ca.crt", &theirs.pem())]));
    assert!(wait::comes_true(|| bed.status("asks", Some(&foreign)) == 200));
    assert_eq!(bed.status("asks", Some(&ours)), 400);
    assert_eq!(again(&mut old), 400);
}

#[test]
fn a_tenant_asks_nothing_of_the_clients_of_another_one() {
    let theirs = |text: String| text.replace("namespace: default", "namespace: theirs");
    let bed = Bed::new(|ours, backend| {
        let younger = host("open", &[("secret", "ca")]).replace("path: \"/\"", "path: \"/theirs\"");
        vec![
            host("open", &[]),
            theirs(younger.replace(
                "name: open
",
                "name: younger
",
            )),
            theirs(service("web", &[backend.addr])),
            theirs(secret("ca", &[("ca.crt", &ours.pem())])),
        ]
    });
    let good = bed.ours.client("a", 7);
    assert_eq!(bed.status("open", None), 200);
    let closed = bed.curl.ask(Some(&good), &[], "https://open.test/theirs");
    assert_eq!(closed.status, 503);
    assert!(bed.gateway.output().contains("ClientCertificatesDiffer"));
}
