//! What a user relies on from the first day: weights, rewrites, redirects, certificates, forwarded
//! fields, error answers, IPv6, exit codes and a clean stop.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::Write,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Socket, Type};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend, Gate, echo_answer},
        bed::Bed,
        client::{KeepAlive, Step, Want, dial, exchange, get, listen, read_some, send},
        gateway::{Plan, free_address},
        h2raw::{self, H2},
        manifests::{Rule, ingress, prefix, route, secret, service},
        tls::{Tls, certificate},
    },
    wait::{self, comes_true},
};

#[test]
fn weights_are_exact_over_a_hundred_requests() {
    let (alpha, beta) = (Backend::echo("alpha"), Backend::echo("beta"));
    let text = service("alpha", &[alpha.addr])
        + &service("beta", &[beta.addr])
        + &route("split", "split.test", &[("alpha", 80), ("beta", 20)]);
    let gateway = Plan::default().manifest("a.yaml", text).start();
    let mut client = KeepAlive::to(gateway.http);
    for _ in 0..3 {
        let hits = (0..100)
            .filter(|_| client.get("split.test", "/").unwrap().text().starts_with("alpha"))
            .count();
        assert_eq!(hits, 80, "of 100 requests at alpha");
    }
}

#[test]
fn endpoints_of_a_service_take_turns() {
    let backends: Vec<Backend> = ["a", "b", "c"].map(Backend::echo).into();
    let addrs: Vec<SocketAddr> = backends.iter().map(|b| b.addr).collect();
    let text = service("app", &addrs) + &ingress("i", "", "", &[prefix("x.test", "/", "app")]);
    let gateway = Plan::default().manifest("a.yaml", text).start();
    let mut client = KeepAlive::to(gateway.http);
    for _ in 0..30 {
        assert_eq!(client.get("x.test", "/").unwrap().status, 200);
    }
    for backend in &backends {
        assert_eq!(backend.requests().len(), 10, "requests at {}", backend.name);
    }
}

#[test]
fn paths_hosts_and_rewrites_route_as_the_manifests_say() {
    let [nginx, other, any] = ["nginx", "other", "any"].map(Backend::echo);
    let text = [
        service("nginx", &[nginx.addr]),
        service("other", &[other.addr]),
        service("any", &[any.addr]),
        ingress(
            "multi",
            "nginx.ingress.kubernetes.io/rewrite-target: /",
            "",
            &[prefix("example.test", "/nginx", "nginx"), prefix("example.test", "/other", "other")],
        ),
        ingress(
            "capture",
            "nginx.ingress.kubernetes.io/rewrite-target: /$2, nginx.ingress.kubernetes.io/use-regex: \"true\"",
            "",
            &[Rule { host: Some("re.test"), path: "/api(/|$)(.*)", kind: "ImplementationSpecific", service: "other" }],
        ),
        ingress(
            "sub",
            "",
            "",
            &[
                prefix("nginx.example.test", "/", "nginx"),
                prefix("*.wild.test", "/", "other"),
                Rule { host: Some("exact.test"), path: "/one", kind: "Exact", service: "nginx" },
                Rule { host: None, path: "/any", kind: "Prefix", service: "any" },
            ],
        ),
    ]
    .concat();
    let gateway = Plan::default().manifest("a.yaml", text).start();
    for (host, path, answer) in [
        ("example.test", "/nginx", Some("nginx GET /\n")),
        ("example.test", "/nginx/deep", Some("nginx GET /\n")),
        ("example.test", "/nginx?q=1", Some("nginx GET /?q=1\n")),
        ("example.test", "/other", Some("other GET /\n")),
        ("example.test", "/nginxed", None),
        ("example.test", "/", None),
        ("re.test", "/api/v1/x?q", Some("other GET /v1/x?q\n")),
        ("re.test", "/api", Some("other GET /\n")),
        ("nginx.example.test", "/deep/path", Some("nginx GET /deep/path\n")),
        ("a.wild.test", "/", Some("other GET /\n")),
        ("a.b.wild.test", "/", None),
        ("wild.test", "/", None),
        ("exact.test", "/one", Some("nginx GET /one\n")),
        ("exact.test", "/one/", None),
        ("exact.test", "/one/two", None),
        ("nobody.test", "/any/thing", Some("any GET /any/thing\n")),
        ("nobody.test", "/", None),
    ] {
        let seen = get(gateway.http, host, path);
        match answer {
            Some(text) => assert_eq!(seen.responses[0].text(), text, "{host}{path}"),
            None => assert_eq!(seen.status(), 404, "{host}{path}"),
        }
    }
}

#[test]
fn http_is_redirected_where_the_host_has_tls() {
    let bed = Bed::gateway(&[]);
    let seen = get(bed.http, "redirect.test", "/a?b=c");
    assert_eq!(seen.status(), 308);
    let location = seen.responses[0].one("location").unwrap();
    assert!(location.starts_with("https://redirect.test"), "{location}");
    assert!(location.ends_with("/a?b=c"), "{location}");
    let mut tls = Tls::connect(bed.https, "redirect.test", &["http/1.1"]).unwrap();
    tls.write_all(b"GET /a HTTP/1.1\r\nHost: redirect.test\r\n\r\n").unwrap();
    assert_eq!(listen(&mut tls, Want::responses(1), false).status(), 200, "over TLS it is served");
}

#[test]
fn a_redirect_to_https_leads_to_a_port_that_answers() {
    let location = |flags: &[&str], host: &str, target: &str| {
        let bed = Bed::gateway(flags);
        let host = host.replace("HTTP", &bed.http.port().to_string());
        let location = get(bed.http, &host, target).responses[0].one("location").unwrap();
        location.replace(&format!(":{}/", bed.https.port()), ":HTTPS/")
    };
    for (flags, host, target, expected) in [
        (&[][..], "redirect.test", "/login?next=/home/", "https://redirect.test/login?next=/home/"),
        (&[], "redirect.test:HTTP", "/a", "https://redirect.test:HTTPS/a"),
        (&[], "redirect.test:80", "/a", "https://redirect.test/a"),
        (&["--public-https-port=444"], "redirect.test:HTTP", "/a", "https://redirect.test:444/a"),
        (&["--public-https-port=443"], "redirect.test:HTTP", "/a", "https://redirect.test/a"),
    ] {
        assert_eq!(location(flags, host, target), expected, "{flags:?} {host}{target}");
    }
}

#[test]
fn no_client_is_redirected_that_came_over_tls_to_a_trusted_proxy() {
    let asked = |flags: &[&str], proto: &str| {
        let bed = Bed::gateway(flags);
        let request =
            format!("GET /a HTTP/1.1\r\nHost: redirect.test\r\nX-Forwarded-Proto: {proto}\r\n\r\n");
        send(bed.http, request.as_bytes()).status()
    };
    let trusted = &["--trusted-proxy=127.0.0.0/8"];
    assert_eq!(asked(trusted, "https"), 200);
    assert_eq!(asked(trusted, "https, http"), 200);
    assert_eq!(asked(trusted, "http"), 308);
    assert_eq!(asked(&[], "https"), 308, "anybody can say so");
}

#[test]
fn each_name_is_shown_its_own_certificate_and_strangers_the_default() {
    let app = Backend::echo("app");
    let (one, wild) = (certificate(&["one.test"]), certificate(&["*.wild.test"]));
    let text = [
        service("app", &[app.addr]),
        secret("one", &one),
        secret("wild", &wild),
        ingress("a", "", "{hosts: [one.test], secretName: one}", &[prefix("one.test", "/", "app")]),
        ingress(
            "b",
            "",
            "{hosts: [\"*.wild.test\"], secretName: wild}",
            &[prefix("*.wild.test", "/", "app")],
        ),
    ]
    .concat();
    let gateway = Plan::default().manifest("a.yaml", text).start();
    let shown = |sni: &str| Tls::connect(gateway.https, sni, &["http/1.1"]).unwrap().peer();
    assert!(shown("one.test") == one.der, "one.test");
    assert!(shown("ONE.test") == one.der, "ONE.test");
    assert!(shown("a.wild.test") == wild.der, "a.wild.test");
    for stranger in ["a.b.wild.test", "wild.test", "nobody.test"] {
        let der = shown(stranger);
        assert!(!der.is_empty() && der != one.der && der != wild.der, "{stranger}");
    }
}

#[test]
fn head_is_answered_without_a_body() {
    let bed = Bed::gateway(&[]);
    for host in ["good.test", "unknown.test", "empty.test", "redirect.test"] {
        let request = format!(
            "HEAD / HTTP/1.1\r\nHost: {host}\r\n\r\nGET /next HTTP/1.1\r\nHost: good.test\r\n\r\n"
        );
        let mut stream = dial(bed.http);
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        let heads = |bytes: &[u8]| bytes.windows(4).filter(|four| four == b"\r\n\r\n").count();
        while heads(&bytes) < 2 {
            assert!(read_some(&mut stream, wait::LIMIT, &mut bytes).unwrap() > 0, "{host}: closed");
        }
        let text = String::from_utf8_lossy(&bytes);
        let (_, rest) = text.split_once("\r\n\r\n").unwrap();
        assert!(rest.starts_with("HTTP/1.1 200 OK"), "{host}: body after HEAD? {text}");
    }
}

#[test]
fn answers_of_the_gateway_itself_say_what_is_wrong() {
    let app = Backend::scripted("app", |_| vec![Act::Close]);
    let bed = Bed::around(app, Backend::echo("other"), Backend::echo("secret"), &[]);
    for (host, status) in [("unknown.test", 404), ("empty.test", 503), ("good.test", 502)] {
        let seen = get(bed.http, host, "/");
        assert_eq!(seen.status(), status, "{host}");
        let response = &seen.responses[0];
        assert!(!response.text().trim().is_empty(), "{host}: no text");
        assert!(response.body.len() < 400, "{host}: {} bytes", response.body.len());
        assert!(
            response.one("content-type").is_some_and(|t| t.starts_with("text/plain")),
            "{host}"
        );
        let mut client = H2::connect(bed.https, host);
        let answer = client.request(1, &h2raw::get(host, "/"), None);
        assert_eq!(answer.status, status, "{host} over h2");
        // The last line is the id of the request.
        let text = |body: &[u8]| {
            let text = String::from_utf8_lossy(body).into_owned();
            text.split("request id").next().map(str::to_owned)
        };
        assert_eq!(text(&answer.body), text(&response.body), "{host} over h2");
    }
}

#[test]
fn a_backend_learns_who_asked_and_how() {
    let bed = Bed::gateway(&[]);
    assert_eq!(get(bed.http, "good.test", "/plain").status(), 200);
    let mut tls = Tls::connect(bed.https, "good.test", &["http/1.1"]).unwrap();
    tls.write_all(b"GET /tls HTTP/1.1\r\nHost: good.test\r\n\r\n").unwrap();
    assert_eq!(listen(&mut tls, Want::responses(1), false).status(), 200);
    let requests = bed.app.requests();
    for (request, scheme, port) in
        [(&requests[0], "http", bed.http.port()), (&requests[1], "https", bed.https.port())]
    {
        let field = |name| request.one(name).unwrap_or_else(|| panic!("no single {name}"));
        assert_eq!(field("x-forwarded-for"), "127.0.0.1");
        assert_eq!(field("x-real-ip"), "127.0.0.1");
        assert_eq!(field("x-forwarded-proto"), scheme);
        assert_eq!(field("x-forwarded-host"), "good.test");
        assert_eq!(field("x-forwarded-port"), port.to_string());
        assert_eq!(field("host"), "good.test");
        assert!(field("x-request-id").len() >= 16);
    }
    assert_ne!(requests[0].one("x-request-id"), requests[1].one("x-request-id"));
}

#[test]
fn a_trusted_proxy_is_believed() {
    let bed = Bed::gateway(&["--trusted-proxy=127.0.0.0/8"]);
    let seen = send(
        bed.http,
        b"GET / HTTP/1.1\r\nHost: good.test\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\
          X-Forwarded-Host: shop.test\r\nX-Forwarded-Port: 443\r\n\r\n",
    );
    assert_eq!(seen.status(), 200);
    let request = bed.app.requests().remove(0);
    assert_eq!(request.all("x-forwarded-for").join(", "), "192.0.2.7, 127.0.0.1");
    assert_eq!(request.one("x-real-ip").as_deref(), Some("192.0.2.7"));
    assert_eq!(request.one("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(request.one("x-forwarded-host").as_deref(), Some("shop.test"));
    assert_eq!(request.one("x-forwarded-port").as_deref(), Some("443"));
}

#[test]
fn ipv6_serves_on_both_sides() {
    let app = Backend::on("app", TcpListener::bind("[::1]:0").unwrap(), |request| {
        vec![Act::Send(echo_answer("app", request))]
    });
    let text = service("app", &[app.addr]) + &ingress("i", "", "", &[prefix("x.test", "/", "app")]);
    let six: SocketAddr = format!("[::1]:{}", free_address().port()).parse().unwrap();
    let gateway =
        Plan::default().manifest("a.yaml", text).args(&["--http", &six.to_string()]).start();
    for addr in [six, gateway.http] {
        assert_eq!(get(addr, "x.test", "/").status(), 200, "{addr}");
    }
    assert_eq!(app.requests()[0].one("x-forwarded-for").as_deref(), Some("::1"));
}

#[test]
fn a_stop_finishes_what_is_in_flight_and_refuses_the_rest() {
    let gate = Gate::default();
    let until = gate.clone();
    let app = Backend::scripted("app", move |request| {
        let answer = Act::Send(echo_answer("app", request));
        if request.target == "/slow" {
            vec![Act::Until(until.clone()), answer]
        } else {
            vec![answer]
        }
    });
    // Longer than anybody waits here.
    let (other, secret) = (Backend::echo("other"), Backend::echo("secret"));
    let mut bed = Bed::around(app, other, secret, &["--drain-timeout=600"]);
    let http = bed.http;
    let mut h2 = H2::connect(bed.https, "good.test");
    h2.write(&h2raw::frame(1, 5, 1, &h2raw::block(&h2raw::get("good.test", "/slow"))));
    let slow = std::thread::spawn(move || get(http, "good.test", "/slow"));
    // An idle connection must not hold up the stop.
    let mut idle = KeepAlive::to(http);
    idle.get("good.test", "/idle").unwrap();
    let mut slow_ones = 0;
    assert!(comes_true(|| {
        slow_ones += bed.app.arrived().iter().filter(|one| one.target == "/slow").count();
        slow_ones == 2
    }));
    let gateway = bed.gateway.as_mut().unwrap();
    gateway.terminate();
    let refuses = || get(gateway.admin, "localhost", "/readyz").status() == 503;
    assert!(comes_true(refuses), "{}", gateway.output());
    gate.open();
    assert_eq!(slow.join().unwrap().responses[0].text(), "app GET /slow\n");
    let answer = h2.answer(1);
    assert!(answer.status == 200 && answer.ended, "over h2: {answer:?}");
    // It answers the ping by which the gateway learns that no more streams are on their way.
    assert!(h2.answer(3).closed, "the gateway ends the connection");
    let status = gateway.wait().expect("the gateway ends after the last request");
    assert_eq!(status.code(), Some(0), "{}", gateway.output());
    assert!(std::net::TcpStream::connect(http).is_err(), "the port is free");
}

#[test]
fn a_stop_does_not_wait_longer_than_it_was_told() {
    let app = Backend::scripted("app", |_| vec![Act::Hang]);
    let mut bed =
        Bed::around(app, Backend::echo("other"), Backend::echo("secret"), &["--drain-timeout=1"]);
    let http = bed.http;
    let stuck = std::thread::spawn(move || get(http, "good.test", "/"));
    assert!(comes_true(|| bed.app.open() == 1));
    let gateway = bed.gateway.as_mut().unwrap();
    gateway.terminate();
    let status = gateway.wait().expect("the hard deadline holds");
    assert_eq!(status.code(), Some(0));
    stuck.join().unwrap();
}

#[test]
fn a_start_that_cannot_work_says_why_and_exits_with_a_code() {
    let run = |plan: Plan| {
        let mut gateway = plan.spawn();
        let status = gateway.wait();
        let status = status.unwrap_or_else(|| panic!("still running: {}", gateway.output()));
        (status.code(), gateway.output())
    };
    let (code, text) = run(Plan::default().args(&["--no-such-flag"]));
    assert_eq!(code, Some(64), "{text}");
    let (code, text) = run(Plan::default().args(&["--drain-timeout=soon"]));
    assert_eq!(code, Some(64), "{text}");
    let bad = Plan::default().manifest("bad.yaml", "kind: Service\nmetadata:\n  name: [a\n");
    let (code, text) = run(bad.args(&["--strict"]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("bad.yaml:"), "{text}");
    let (code, text) = run(Plan::default().args(&["--manifests", "/nowhere/at/all"]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("/nowhere/at/all"), "{text}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let (code, text) = run(Plan::default().args(&["--http", &addr]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&addr), "{text}");
    // Nor beside somebody who would share the port with it.
    let sharing = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    sharing.set_reuse_address(true).unwrap();
    sharing.set_reuse_port(true).unwrap();
    sharing.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    sharing.listen(1).unwrap();
    let addr = sharing.local_addr().unwrap().as_socket().unwrap().to_string();
    for flag in ["--http", "--https"] {
        let (code, text) = run(Plan::default().args(&[flag, &addr]));
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(&addr) && text.contains("another process listens there"), "{text}");
    }
    drop(sharing);
    let (code, text) = run(Plan::default().args(&["--http", &addr, "--https", &addr]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("listen on the same port"), "{text}");
    let (code, text) = run(Plan::default().args(&["--body-dir", "/proc/none"]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("--body-dir /proc/none"), "{text}");
}

#[test]
fn an_answer_is_passed_on_as_it_comes() {
    let gate = Gate::default();
    let until = gate.clone();
    let app = Backend::scripted("app", move |_| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        vec![
            Act::Send([&head[..], b"6\r\nfirst\n\r\n"].concat()),
            Act::Until(until.clone()),
            Act::Send(b"5\r\nlast\n\r\n0\r\n\r\n".to_vec()),
        ]
    });
    let bed = Bed::around(app, Backend::echo("other"), Backend::echo("secret"), &[]);
    let mut stream = dial(bed.http);
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: good.test\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    let mut read_until = |word: &[u8]| {
        while !bytes.windows(word.len()).any(|w| w == word) {
            assert!(read_some(&mut stream, wait::LIMIT, &mut bytes).unwrap() > 0);
        }
    };
    // The rest has not been sent: what came did not wait for it.
    read_until(b"first");
    gate.open();
    read_until(b"last");
}

#[test]
fn a_request_over_a_hundred_connections_at_once_is_answered_on_each() {
    let bed = Bed::gateway(&[]);
    let http = bed.http;
    let clients: Vec<_> = (0..100)
        .map(|n| {
            std::thread::spawn(move || {
                let steps =
                    [Step::Send(format!("GET /{n} HTTP/1.1\r\nHost: good.test\r\n\r\n").into())];
                let seen = exchange(http, &steps, Want::responses(1));
                assert_eq!(seen.responses[0].text(), format!("app GET /{n}\n"));
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn a_hundred_streams_of_one_h2_connection_get_each_its_own_answer() {
    let bed = Bed::gateway(&[]);
    let mut client = H2::connect(bed.https, "good.test");
    let paths: Vec<String> = (0..100).map(|n| format!("/stream-{n}")).collect();
    for (n, path) in (0u32..).zip(&paths) {
        let block = h2raw::block(&h2raw::get("good.test", path));
        assert!(client.write(&h2raw::frame(1, 5, 2 * n + 1, &block)));
    }
    let mut bodies = vec![Vec::new(); paths.len()];
    let mut ended = 0;
    while ended < paths.len() {
        let frame = client.read(wait::LIMIT).expect("every stream ends");
        assert!(!frame.is_reset() && !frame.is_goaway_for_cause(), "{frame:?}");
        if frame.stream == 0 || frame.kind > 1 {
            continue;
        }
        if frame.kind == 0 {
            bodies[frame.stream as usize / 2].extend_from_slice(&frame.payload);
        }
        ended += usize::from(frame.flags & h2raw::END_STREAM != 0);
    }
    for (path, body) in paths.iter().zip(bodies) {
        assert_eq!(String::from_utf8_lossy(&body), format!("app GET {path}\n"));
    }
}

#[test]
fn an_external_name_leads_to_whatever_address_it_has_now() {
    let app = Backend::echo("outside");
    let port = app.addr.port();
    let external = format!(
        "---\n{{apiVersion: v1, kind: Service, metadata: {{name: outside, namespace: default}}, spec: {{\
         type: ExternalName, externalName: localhost, ports: [{{port: {port}}}]}}}}\n"
    );
    let rule = format!(
        "---\n{{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {{name: i, namespace: default}}, \
         spec: {{rules: [{{host: x.test, http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: \
         {{name: outside, port: {{number: {port}}}}}}}}}]}}}}]}}}}\n"
    );
    let gateway = Plan::default().manifest("all.yaml", external + &rule).start();
    for n in 0..4 {
        assert_eq!(get(gateway.http, "x.test", "/").status(), 200, "request {n}");
    }
}
