//! What every Ingress controller is expected to do, after the scenarios of the Ingress conformance suite of
//! Kubernetes: hosts, paths, classes, the default backend, many endpoints. And the solver Ingresses of an
//! ACME client, as cert-manager makes them.

use std::{collections::BTreeSet, net::TcpListener};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend, echo_answer},
        client,
        gateway::{Gateway, Plan},
        manifests::{self, Rule},
        tls,
    },
    wait::eventually,
};

use crate::bed::{Bed, HOST, answers};

/// Rules of one Ingress as (host, path, type, Service), and requests with what answers them. `@` is a domain
/// of the case's own.
type Case = (&'static [(&'static str, &'static str, &'static str, &'static str)], &'static [Asked]);
type Asked = (&'static str, &'static str, &'static str);

const CASES: &[Case] = &[
    // Hosts: exact, case and port do not matter, one label for the star.
    (
        &[("@", "/", "Prefix", "one"), ("*.@", "/", "Prefix", "two")],
        &[
            ("@", "/", "one"),
            ("@:8080", "/", "one"),
            ("a.@", "/", "two"),
            ("A.@", "/", "two"),
            ("a.b.@", "/", "404"),
            ("x@", "/", "404"),
        ],
    ),
    (
        &[("*.@", "/", "Prefix", "one"), ("exact.@", "/", "Prefix", "two")],
        &[("exact.@", "/", "two"), ("other.@", "/", "one"), ("@", "/", "404")],
    ),
    // Exact paths.
    (
        &[("@", "/foo", "Exact", "one")],
        &[
            ("@", "/foo", "one"),
            ("@", "/foo?a=/b", "one"),
            ("@", "/FOO", "404"),
            ("@", "/foo/", "404"),
            ("@", "/foo/bar", "404"),
            ("@", "/bar", "404"),
            ("@", "/", "404"),
        ],
    ),
    (&[("@", "/foo/", "Exact", "one")], &[("@", "/foo/", "one"), ("@", "/foo", "404")]),
    // Prefixes, element by element.
    (&[("@", "/", "Prefix", "one")], &[("@", "/", "one"), ("@", "/any/path", "one")]),
    (
        &[("@", "/foo", "Prefix", "one")],
        &[
            ("@", "/foo", "one"),
            ("@", "/foo/", "one"),
            ("@", "/foo/bar", "one"),
            ("@", "/foobar", "404"),
            ("@", "/FOO", "404"),
            ("@", "/", "404"),
        ],
    ),
    (
        &[("@", "/foo/", "Prefix", "one")],
        &[
            ("@", "/foo", "one"),
            ("@", "/foo/", "one"),
            ("@", "/foo/bar", "one"),
            ("@", "/food", "404"),
        ],
    ),
    (
        &[("@", "/aaa/bb", "Prefix", "one")],
        &[
            ("@", "/aaa/bb", "one"),
            ("@", "/aaa/bb/ccc", "one"),
            ("@", "/aaa/bbb", "404"),
            ("@", "/aaa", "404"),
        ],
    ),
    // The longest one wins, and an exact one before a prefix.
    (
        &[("@", "/", "Prefix", "one"), ("@", "/aaa", "Prefix", "two")],
        &[("@", "/aaa/ccc", "two"), ("@", "/aaa", "two"), ("@", "/ccc", "one")],
    ),
    (
        &[
            ("@", "/aaa/bbb", "Prefix", "two"),
            ("@", "/aaa", "Prefix", "one"),
            ("@", "/", "Prefix", "two"),
        ],
        &[("@", "/aaa/bbb", "two"), ("@", "/aaa/x", "one"), ("@", "/x", "two")],
    ),
    (
        &[("@", "/foo", "Prefix", "one"), ("@", "/foo", "Exact", "two")],
        &[("@", "/foo", "two"), ("@", "/foo/", "one"), ("@", "/foo/bar", "one")],
    ),
    (
        &[("@", "/foo", "Prefix", "one"), ("@", "/foo/", "Prefix", "two")],
        &[("@", "/foo", "two"), ("@", "/foo/bar", "two")],
    ),
    // What the class makes of it: here a prefix.
    (
        &[("@", "/impl", "ImplementationSpecific", "one")],
        &[("@", "/impl", "one"), ("@", "/impl/x", "one"), ("@", "/other", "404")],
    ),
    // A host that matches keeps its requests, even where another one would have the path.
    (
        &[("*.@", "/wide", "Prefix", "one"), ("a.@", "/narrow", "Prefix", "two")],
        &[("a.@", "/narrow", "two"), ("b.@", "/wide", "one"), ("b.@", "/narrow", "404")],
    ),
];

#[test]
fn an_ingress_does_what_every_controller_does() {
    let bed = Bed::new();
    let gateway = Plan::default().kubeconfig(bed.cluster.kubeconfig()).start();
    bed.kubectl("create namespace conformance");
    for (name, backend) in [("one", &bed.one), ("two", &bed.two)] {
        bed.apply("conformance", &manifests::service(name, &[backend.addr]));
    }
    hosts_and_paths(&bed, &gateway);
    ten_endpoints(&bed, &gateway);
    another_class(&bed, &gateway);
    solvers(&bed, &gateway);
    default_backend(&bed, &gateway);
}

fn hosts_and_paths(bed: &Bed, gateway: &Gateway) {
    let domain = |case: usize, text: &str| text.replace('@', &format!("case-{case}.example"));
    let mut all = String::new();
    for (case, (rules, _)) in CASES.iter().enumerate() {
        let hosts: Vec<String> = rules.iter().map(|rule| domain(case, rule.0)).collect();
        let rules = rules.iter().zip(&hosts).map(|(&(_, path, kind, service), host)| Rule {
            host: Some(host),
            path,
            kind,
            service,
        });
        let rules: Vec<_> = rules.collect();
        all += &manifests::ingress(&format!("case-{case}"), "", "", &rules);
    }
    bed.apply("conformance", &all);
    for (case, (rules, asked)) in CASES.iter().enumerate() {
        for (host, path, expected) in *asked {
            let host = domain(case, host);
            eventually(&format!("{rules:?}: {host}{path} is answered {expected}"), || {
                let answer = ask(gateway, &host, path);
                if answer == *expected { Ok(()) } else { Err(answer) }
            });
        }
    }
}

fn ten_endpoints(bed: &Bed, gateway: &Gateway) {
    const NAMES: [&str; 10] =
        ["p0-", "p1-", "p2-", "p3-", "p4-", "p5-", "p6-", "p7-", "p8-", "p9-"];
    let pods = NAMES.map(|name| {
        let listener = TcpListener::bind((HOST, 0)).unwrap();
        Backend::on(name, listener, move |request| vec![Act::Send(echo_answer(name, request))])
    });
    let addresses: Vec<_> = pods.iter().map(|pod| pod.addr).collect();
    bed.apply("conformance", &manifests::service("many", &addresses));
    let rule = manifests::prefix("many.example", "/", "many");
    bed.apply("conformance", &manifests::ingress("many", "", "", &[rule]));
    eventually("the host is there", || {
        match client::get(gateway.http, "many.example", "/").status() {
            200 => Ok(()),
            status => Err(status.to_string()),
        }
    });
    // Endpoints come in slices of their own, one after another.
    eventually("a hundred requests reach all ten", || {
        let mut reached = BTreeSet::new();
        for _ in 0..100 {
            let seen = client::get(gateway.http, "many.example", "/");
            assert_eq!(seen.status(), 200);
            let text = seen.responses[0].text();
            reached.extend(NAMES.into_iter().find(|name| text.contains(name)));
        }
        if reached.len() == NAMES.len() { Ok(()) } else { Err(format!("{reached:?}")) }
    });
}

fn another_class(bed: &Bed, gateway: &Gateway) {
    let of = |name: &str, class: &str| {
        let host = format!("{name}.example");
        let text = manifests::ingress(name, "", "", &[manifests::prefix(&host, "/", "one")]);
        of_class(&text, class)
    };
    bed.apply(
        "conformance",
        "{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: theirs}, \
         spec: {controller: example.com/other}}\n---\n\
         {apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: ours}, \
         spec: {controller: gatehouse.io/ingress}}",
    );
    bed.apply("conformance", &format!("{}{}", of("theirs", "theirs"), of("ours", "ours")));
    answers(gateway, "ours.example", "one");
    assert_eq!(ask(gateway, "theirs.example", "/"), "404");
}

/// An Ingress names its class.
fn of_class(ingress: &str, class: &str) -> String {
    ingress.replace("spec:\n", &format!("spec:\n  ingressClassName: {class}\n"))
}

/// cert-manager adds an Ingress for the token of a host that redirects to https already, and an ACME server
/// asks for it in clear text.
fn solvers(bed: &Bed, gateway: &Gateway) {
    let pair = tls::certificate(&["acme.example"]);
    bed.apply("conformance", &manifests::secret("acme", &pair));
    let site = manifests::prefix("acme.example", "/", "one");
    let tls = "{hosts: [acme.example], secretName: acme}";
    let site = manifests::ingress("acme", "", tls, &[site]);
    bed.apply("conformance", &of_class(&site, "ours"));
    answers(gateway, "acme.example", "308");
    let shown = tls::Tls::connect(gateway.https, "acme.example", &[]).unwrap().peer();
    assert_eq!(shown, pair.der);
    // The first as cert-manager before 1.18 makes it, the second as later ones do.
    for (name, kind) in [("token-1", "ImplementationSpecific"), ("token-2", "Exact")] {
        let token = format!("/.well-known/acme-challenge/{name}");
        let solver = Rule { host: Some("acme.example"), path: &token, kind, service: "two" };
        let open = "nginx.ingress.kubernetes.io/whitelist-source-range: '0.0.0.0/0,::/0'";
        let object = format!("cm-acme-http-solver-{name}");
        let solver = manifests::ingress(&object, open, "", &[solver]);
        bed.apply("conformance", &of_class(&solver, "ours"));
        eventually("the token is served in clear text", || {
            match ask(gateway, "acme.example", &token) {
                answer if answer == "two" => Ok(()),
                answer => Err(answer),
            }
        });
        assert_eq!(ask(gateway, "acme.example", "/"), "308", "everything else still redirects");
        bed.kubectl(&format!("--namespace conformance delete ingress {object}"));
        eventually("the token is gone", || match ask(gateway, "acme.example", &token) {
            answer if answer == "308" => Ok(()),
            answer => Err(answer),
        });
    }
}

/// Last, as it takes what no other Ingress wants.
fn default_backend(bed: &Bed, gateway: &Gateway) {
    let unknown = client::get(gateway.http, "nobody.example", "/");
    assert_eq!(unknown.status(), 404);
    assert_eq!(unknown.responses[0].one("server").as_deref(), Some("gatehouse"));
    bed.apply(
        "conformance",
        "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: default, namespace: default}, \
         spec: {ingressClassName: ours, defaultBackend: {service: {name: two, port: {number: 80}}}}}",
    );
    for (host, path) in [
        ("nobody.example", "/"),
        ("nobody.example", "/some/path?query"),
        ("another.example:8080", "/"),
        ("10.77.0.1", "/"),
    ] {
        eventually(&format!("{host}{path} goes to the default backend"), || {
            let answer = ask(gateway, host, path);
            if answer == "two" { Ok(()) } else { Err(answer) }
        });
    }
    for method in ["GET", "PUT", "POST", "DELETE"] {
        let request =
            format!("{method} /any HTTP/1.1\r\nHost: nobody.example\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client::send(gateway.http, request.as_bytes()).status(), 200, "{method}");
    }
}

/// The name of the backend that answers, or the status.
fn ask(gateway: &Gateway, host: &str, path: &str) -> String {
    let seen = client::get(gateway.http, host, path);
    let text = seen.responses.first().map(client::Response::text).unwrap_or_default();
    match seen.status() {
        200 => text.split(' ').next().unwrap_or_default().to_owned(),
        status => status.to_string(),
    }
}
