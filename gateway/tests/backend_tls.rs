//! TLS and HTTP/2 to backends: whom the gateway believes, what it shows and what it speaks, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use bytes::Bytes;
use gatehouse_testbed::{
    gatehouse::{
        call::{Caller, finish},
        client::{Step, Want, exchange},
        gateway::{Gateway, Plan},
        manifests::{ingress, prefix, service},
        pki::{Authority, secret},
        secure::Secure,
    },
    wait,
};

const NGINX: &str = "nginx.ingress.kubernetes.io/";

/// An Ingress of host `NAME.test` for a Service, with annotations of ingress-nginx.
fn host(name: &str, service: &str, annotations: &[(&str, &str)]) -> String {
    let annotations = annotations.iter().map(|(name, value)| format!("{NGINX}{name}: \"{value}\""));
    let annotations = annotations.collect::<Vec<_>>().join(", ");
    ingress(name, &annotations, "", &[prefix(&format!("{name}.test"), "/", service)])
}

/// A Route of host `NAME.test` with termination reencrypt and this authority.
fn route(name: &str, service: &str, authority: Option<&str>) -> String {
    let authority = authority.map(|pem| serde_json::to_string(pem).unwrap());
    let authority = authority.map(|it| format!(", destinationCACertificate: {it}"));
    format!(
        "apiVersion: route.openshift.io/v1\nkind: Route\nmetadata: {{name: {name}, namespace: \
         default}}\nspec:\n  host: {name}.test\n  to: {{kind: Service, name: {service}}}\n  tls: \
         {{termination: reencrypt, insecureEdgeTerminationPolicy: Allow{}}}\n---\n",
        authority.unwrap_or_default()
    )
}

/// Status and body of the answers to a request for `NAME.test`, asked so often on one connection.
fn ask(gateway: SocketAddr, name: &str, times: usize) -> Vec<(u16, String)> {
    let request = format!("GET /x HTTP/1.1\r\nHost: {name}.test\r\n\r\n").into_bytes();
    let steps: Vec<_> = (0..times).map(|_| Step::Send(request.clone())).collect();
    let seen = exchange(gateway, &steps, Want::responses(times));
    seen.responses.iter().map(|it| (it.status, it.text())).collect()
}

/// The only answer.
fn one(gateway: &Gateway, name: &str) -> (u16, String) {
    ask(gateway.http, name, 1).pop().unwrap_or_else(|| panic!("no answer of {name}"))
}

#[test]
fn backends_are_believed_as_their_rule_says_and_shown_what_it_names() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let below = ours.below("below");
    let mut deep = below.server(&["pod.test"]);
    deep.certificate.push_str(&below.pem());
    let good = Secure::tls(&ours.server(&["pod.test", "web.default.svc"]), &["http/1.1"]);
    let old = Secure::tls(&ours.expired_server(&["pod.test"]), &[]);
    let foreign = Secure::tls(&theirs.server(&["pod.test"]), &[]);
    let chained = Secure::tls(&deep, &[]);
    let client = ours.client("gateway", 7);
    let name = ("proxy-ssl-name", "pod.test");
    let https = ("backend-protocol", "HTTPS");
    let by = ("proxy-ssl-secret", "default/ours");
    let verify = ("proxy-ssl-verify", "on");
    let declared = service("declared", &[good.addr])
        .replace("name: http, port: 80,", "name: http, port: 80, appProtocol: https,");
    let gateway = Plan::default()
        .manifest("web.yaml", service("web", &[good.addr]) + &service("old", &[old.addr]))
        .manifest("foreign.yaml", service("foreign", &[foreign.addr]) + &declared)
        .manifest("chained.yaml", service("chained", &[chained.addr]))
        .manifest("secret.yaml", secret("ours", &[("ca.crt", &ours.pem())]))
        .manifest(
            "shown.yaml",
            secret(
                "shown",
                &[
                    ("ca.crt", &ours.pem()),
                    ("tls.crt", &client.certificate),
                    ("tls.key", &client.key),
                ],
            ),
        )
        .manifest("empty.yaml", secret("empty", &[("other", "x")]))
        .manifest("any.yaml", host("any", "foreign", &[https]))
        .manifest("said.yaml", host("said", "declared", &[]))
        .manifest(
            "named.yaml",
            host("named", "web", &[https, by, verify, name, ("proxy-ssl-server-name", "on")]),
        )
        .manifest("service-name.yaml", host("service-name", "web", &[https, by, verify]))
        .manifest(
            "wrong-name.yaml",
            host("wrong-name", "web", &[https, by, verify, ("proxy-ssl-name", "other.test")]),
        )
        .manifest("old.yaml", host("old", "old", &[https, by, verify, name]))
        .manifest("foreign-ca.yaml", host("foreign-ca", "foreign", &[https, by, verify, name]))
        .manifest("deep.yaml", host("deep", "chained", &[https, by, verify, name]))
        .manifest(
            "too-deep.yaml",
            host(
                "too-deep",
                "chained",
                &[https, by, verify, name, ("proxy-ssl-verify-depth", "0")],
            ),
        )
        .manifest(
            "showing.yaml",
            host("showing", "web", &[https, ("proxy-ssl-secret", "shown"), verify, name]),
        )
        .manifest(
            "empty-secret.yaml",
            host("empty-secret", "web", &[https, ("proxy-ssl-secret", "empty"), verify]),
        )
        .manifest(
            "no-secret.yaml",
            host("no-secret", "web", &[https, ("proxy-ssl-secret", "none")]),
        )
        .manifest(
            "tls12.yaml",
            host(
                "tls12",
                "web",
                &[
                    https,
                    ("proxy-ssl-protocols", "TLSv1.2"),
                    ("proxy-ssl-ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256"),
                ],
            ),
        )
        .manifest(
            "routes.yaml",
            route("trusting", "foreign", None)
                + &route("ca", "web", Some(&ours.pem()))
                + &route("wrong-ca", "web", Some(&theirs.pem()))
                + &route("bad-ca", "web", Some("text")),
        )
        .start();
    for (name, status, words) in [
        ("any", 200, "sni=- client=- alpn=- "),
        ("said", 200, "sni=- client=- alpn=- "),
        ("named", 200, "sni=pod.test client=- alpn=- "),
        ("service-name", 200, "sni=- client=- alpn=- "),
        ("wrong-name", 503, "certificate is not believed"),
        ("old", 503, "certificate is not believed"),
        ("foreign-ca", 503, "certificate is not believed"),
        ("deep", 200, "sni=- "),
        ("too-deep", 503, "certificate is not believed"),
        ("showing", 200, "client=certificate "),
        ("empty-secret", 503, "cannot be honoured"),
        ("no-secret", 503, "cannot be honoured"),
        ("tls12", 200, "sni=- "),
        ("trusting", 200, "sni=- "),
        ("ca", 200, "sni=- client=- "),
        ("wrong-ca", 503, "certificate is not believed"),
        ("bad-ca", 503, "not available"),
    ] {
        let (found, text) = one(&gateway, name);
        assert!(found == status && text.contains(words), "{name}: {found} {text}");
    }
    let output = gateway.output();
    // Such lines are written once a second at most.
    assert!(output.contains("no TLS to the endpoint") && output.contains("other.test"), "{output}");
    for broken in ["Ingress default/empty-secret", "Ingress default/no-secret"] {
        assert!(
            output.contains(broken) && output.contains("BackendTlsBroken"),
            "{broken}: {output}"
        );
    }
}

#[test]
fn a_connection_serves_only_what_trusts_the_same_and_not_what_trusted_it_before() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let pod = Secure::tls(&ours.server(&["pod.test"]), &[]);
    let https = ("backend-protocol", "HTTPS");
    let verified = [
        https,
        ("proxy-ssl-secret", "ours"),
        ("proxy-ssl-verify", "on"),
        ("proxy-ssl-name", "pod.test"),
    ];
    let gateway = Plan::default()
        .manifest("web.yaml", service("web", &[pod.addr]))
        .manifest("secret.yaml", secret("ours", &[("ca.crt", &ours.pem())]))
        .manifest("a.yaml", host("a", "web", &verified))
        .manifest("b.yaml", host("b", "web", &[https]))
        .start();
    let twice = ask(gateway.http, "a", 2);
    assert!(twice.iter().all(|(_, text)| text.contains("connection=0 ")), "{twice:?}");
    let (_, other) = one(&gateway, "b");
    assert!(other.contains("connection=1 "), "{other}");
    let (_, again) = one(&gateway, "a");
    assert!(again.contains("connection=0 "), "{again}");

    gateway.save("secret.yaml", &secret("ours", &[("ca.crt", &theirs.pem())]));
    let closed = wait::comes_true(|| one(&gateway, "a").0 == 503);
    assert!(closed, "what is no longer trusted serves no request");
    assert_eq!(one(&gateway, "b").0, 200);
    gateway.save("secret.yaml", &secret("ours", &[("ca.crt", &ours.pem())]));
    assert!(wait::comes_true(|| one(&gateway, "a").0 == 200));
}

/// Runs what a client does on this thread.
fn on_a_runtime(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(wait::LIMIT, test).await }).unwrap();
}

/// One gateway before backends that speak HTTP/2 in clear text and in TLS.
fn http2_bed() -> (Gateway, [Secure; 2]) {
    let ours = Authority::new("ours");
    let clear = Secure::h2c();
    let tls = Secure::tls(&ours.server(&["pod.test"]), &["h2", "http/1.1"]);
    let declared = service("declared", &[clear.addr])
        .replace("name: http, port: 80,", "name: http, port: 80, appProtocol: kubernetes.io/h2c,");
    let grpc = ("backend-protocol", "GRPC");
    let gateway = Plan::default()
        .manifest(
            "clear.yaml",
            service("clear", &[clear.addr]) + &declared + &service("nobody", &[]),
        )
        .manifest("tls.yaml", service("tls", &[tls.addr]))
        .manifest("grpc.yaml", host("grpc", "clear", &[grpc]) + &host("declared", "declared", &[]))
        .manifest("grpcs.yaml", host("grpcs", "tls", &[("backend-protocol", "GRPCS")]))
        .manifest("empty.yaml", host("empty", "nobody", &[grpc]))
        .manifest("route.yaml", route("route", "tls", Some(&ours.pem())))
        .start();
    (gateway, [clear, tls])
}

#[test]
fn calls_go_both_ways_and_end_with_trailers() {
    let (gateway, _backends) = http2_bed();
    on_a_runtime(async {
        for name in ["grpc", "grpcs", "declared", "route"] {
            let mut caller = Caller::connect(gateway.https, &format!("{name}.test")).await;
            let called = caller.call("/echo", b"hello", Some("7")).await;
            assert_eq!(called.text(), "hello", "{name}: {called:?}");
            assert_eq!(called.grpc_status(), Some("0"), "{name}: {called:?}");
            assert_eq!(called.trailers.get("got").unwrap(), "7", "{name}");

            let only = caller.call("/only", b"x", None).await;
            assert_eq!((only.status, only.grpc_status()), (200, Some("5")), "{name}: {only:?}");
            assert!(only.trailers.is_empty() && only.body.is_empty());

            let broken = caller.call("/reset", b"x", None).await;
            assert!(broken.broken.is_some(), "{name}: {broken:?}");

            // What one side says is heard before the other ends.
            let (response, mut send) =
                caller.begin("POST", "/echo", "application/grpc", true).await;
            let response = response.await.unwrap();
            let mut body = response.into_body();
            for word in ["one", "two", "three"] {
                send.send_data(Bytes::from(word), false).unwrap();
                let heard = body.data().await.unwrap().unwrap();
                body.flow_control().release_capacity(heard.len()).unwrap();
                assert_eq!(heard, word, "{name}");
            }
            send.send_data(Bytes::new(), true).unwrap();
            assert!(body.data().await.is_none());
            assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0", "{name}");
        }
    });
}

#[test]
fn trailers_tell_a_backend_nothing_that_heads_may_not() {
    let clear = Secure::h2c();
    let declared = service("declared", &[clear.addr])
        .replace("name: http, port: 80,", "name: http, port: 80, appProtocol: kubernetes.io/h2c,");
    let route = "apiVersion: route.openshift.io/v1\nkind: Route\nmetadata: {name: own, namespace: \
                 default}\nspec:\n  host: own.test\n  to: {kind: Service, name: declared}\n  tls: \
                 {termination: edge}\n  httpHeaders: {actions: {request: [{name: X-Tenant, action: \
                 {type: Set, set: {value: ours}}}, {name: X-Role, action: {type: Delete}}]}}\n---\n";
    let gateway = Plan::default()
        .manifest("declared.yaml", declared + route + &host("plain", "declared", &[]))
        .start();
    on_a_runtime(async {
        for (name, expected) in [("own", "x-sum"), ("plain", "x-sum x-tenant x_tenant x-role")] {
            let mut caller = Caller::connect(gateway.https, &format!("{name}.test")).await;
            let trailers = [
                "x-sum",
                "x-forwarded-for",
                "x_forwarded_proto",
                "x-real-ip",
                "ssl-client-verify",
                "gatehouse-hops",
                "authorization",
                "content_length",
                "x-tenant",
                "x_tenant",
                "x-role",
            ];
            let trailers = trailers.map(|name| {
                (name.parse::<http::HeaderName>().unwrap(), http::HeaderValue::from_static("x"))
            });
            let trailers = trailers.into_iter().collect();
            let called = caller.call_with("/echo", b"hello", Some(trailers)).await;
            assert_eq!(called.text(), "hello", "{name}: {called:?}");
            assert_eq!(called.trailers.get("heard").unwrap(), expected, "{name}");
        }
    });
}

#[test]
fn requests_share_connections_and_leave_those_that_take_no_more() {
    let (gateway, [clear, tls]) = http2_bed();
    on_a_runtime(async {
        let mut caller = Caller::connect(gateway.https, "grpc.test").await;
        let first = caller.get("/a").await;
        assert!(first.text().contains("host=grpc.test path=/a"), "{first:?}");
        for _ in 0..20 {
            assert_eq!(caller.get("/a").await.text(), first.text());
        }
        assert_eq!(clear.connections(), 1);
        // One that is refused is asked elsewhere, though it may not be repeated.
        let (response, _) = caller.begin("POST", "/refuse", "text/plain", false).await;
        assert_eq!(finish(response.await).await.status, 200);
        assert_eq!(caller.get("/leave").await.status, 200);
        for _ in 0..3 {
            let after = caller.get("/a").await;
            assert!(after.status == 200 && after.text() != first.text(), "{after:?}");
        }

        let mut caller = Caller::connect(gateway.https, "route.test").await;
        let spoken = caller.get("/a").await;
        assert!(spoken.text().contains("alpn=h2 "), "{spoken:?}");
    });
    // A client of HTTP/1.1 gets there by HTTP/1.1, if the endpoint speaks both.
    let (status, text) = one(&gateway, "route");
    assert!(status == 200 && text.contains("alpn=- "), "{text}");
    let (status, text) = one(&gateway, "grpcs");
    assert!(status == 200 && text.contains("alpn=h2 "), "{text}");
    assert!(tls.connections() >= 2);
}

#[test]
fn failures_of_our_own_are_told_to_calls_in_their_own_terms() {
    let (gateway, _backends) = http2_bed();
    on_a_runtime(async {
        for (host, status) in [("empty.test", "14"), ("unknown.test", "12")] {
            let mut caller = Caller::connect(gateway.https, host).await;
            let called = caller.call("/x", b"x", None).await;
            assert_eq!((called.status, called.grpc_status()), (200, Some(status)), "{called:?}");
            assert_eq!(called.fields["content-type"], "application/grpc");
            let plain = caller.get("/x").await;
            assert!(plain.status >= 400 && plain.grpc_status().is_none(), "{plain:?}");
        }
    });
}

#[test]
fn a_websocket_goes_to_a_backend_of_tls_by_http_1() {
    let (gateway, _backends) = http2_bed();
    let request = "GET /x HTTP/1.1\r\nHost: route.test\r\nConnection: upgrade\r\nUpgrade: \
                   websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \
                   dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let seen = exchange(gateway.http, &[Step::Send(request.into())], Want::responses(1));
    assert_eq!(seen.status(), 101, "{seen:?}");
    let text = String::from_utf8_lossy(&seen.received).into_owned();
    assert!(text.contains("alpn=- "), "{text}");
}

#[test]
fn an_endpoint_that_asks_for_http1_gets_the_request_over_http1_with_its_body() {
    let (gateway, _backends) = http2_bed();
    on_a_runtime(async {
        let mut caller = Caller::connect(gateway.https, "route.test").await;
        let other = caller.get("/a").await.text();
        assert!(other.contains("alpn=h2"), "{other}");
        let answer = caller.get("/old").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.text().contains("alpn=- "), "{answer:?}");

        let (response, mut send) = caller.begin("POST", "/old", "text/plain", true).await;
        send.send_data(Bytes::from("hello"), true).unwrap();
        let answer = finish(response.await).await;
        assert!(
            answer.text().contains("alpn=- ") && answer.text().contains("\nhello\r\n"),
            "{answer:?}"
        );
        // Its connection of HTTP/2 goes on.
        assert_eq!(caller.get("/a").await.text(), other);
    });
}

/// What is said of endpoints that no TLS is had with: object, severity and message.
fn said(gateway: &Gateway) -> Vec<[String; 3]> {
    let status: serde_json::Value = serde_json::from_str(&gateway.page("/status")).unwrap();
    let problems = status["problems"].as_array().unwrap().iter();
    let of_tls = problems.filter(|problem| problem["reason"] == "BackendTlsFailed");
    let text = |problem: &serde_json::Value, field| problem[field].as_str().unwrap().to_owned();
    of_tls.map(|it| ["object", "severity", "message"].map(|field| text(it, field))).collect()
}

#[test]
fn endpoints_that_no_tls_is_had_with_are_problems_of_the_objects_that_lead_there() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let good = Secure::tls(&ours.server(&["pod.test"]), &[]);
    let old = Secure::tls(&ours.expired_server(&["pod.test"]), &[]);
    let foreign = Secure::tls(&theirs.server(&["pod.test"]), &[]);
    let demanding = Secure::demanding(&ours.server(&["pod.test"]));
    let of = |name| route(name, name, Some(&ours.pem()));
    let gateway = Plan::default()
        .manifest("old.yaml", service("old", &[old.addr]))
        .manifest("mixed.yaml", service("mixed", &[good.addr, foreign.addr]))
        .manifest("demanding.yaml", service("demanding", &[demanding.addr]))
        .manifest("routes.yaml", of("old") + &of("mixed") + &of("demanding"))
        .start();
    assert_eq!(said(&gateway), Vec::<[String; 3]>::new());
    for (name, status) in [("old", 503), ("mixed", 200), ("mixed", 200), ("demanding", 503)] {
        assert_eq!(one(&gateway, name).0, status, "{name}");
    }
    assert!(wait::comes_true(|| said(&gateway).len() == 3), "{:?}", said(&gateway));
    let expected = [
        ("demanding", "error", demanding.addr, "CertificateRequired", "requests get 503"),
        ("mixed", "warning", foreign.addr, "UnknownIssuer", "requests go to the others"),
        ("old", "error", old.addr, "Expired", "requests get 503"),
    ];
    for ([object, severity, message], (name, how, endpoint, why, so)) in
        said(&gateway).iter().zip(expected)
    {
        assert_eq!((&**object, &**severity), (&*format!("Route default/{name}"), how), "{message}");
        for part in [&*format!("no TLS to {endpoint} of Service default/{name}"), why, so] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    gateway.save("old.yaml", &service("old", &[good.addr]));
    assert!(wait::comes_true(|| one(&gateway, "old").0 == 200));
    assert!(wait::comes_true(|| said(&gateway).len() == 2), "{:?}", said(&gateway));
}
