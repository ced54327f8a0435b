//! TLS on the ports of Services: that which ends here, and that which ends at the backend.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use gatehouse_testbed::{
    gatehouse::{
        backend::Backend,
        client::get,
        gateway::{Gateway, Plan, free_address},
        manifests::{ingress, prefix, route, secret, service},
        tls::{Pair, Tls, certificate, hello_of_tls11},
    },
    wait,
};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use socket2::{Domain, Socket, Type};

use crate::{VIP, balanced, dial, echo, on_host, read_text, server, start};

#[test]
fn tls_of_a_service_ends_here_where_it_names_a_certificate() {
    on_host(|| {
        let (pair, other) = (certificate(&["db.test"]), certificate(&["db.test"]));
        let (gateway, address) = start(&[echo("one")], "gatehouse.io/tls-secret: db", "", &[]);
        assert!(Tls::connect(address, "db.test", &[]).is_err(), "there is no certificate yet");
        for pair in [&pair, &other] {
            gateway.save("secret.yaml", &secret("db", pair));
            let mut tls = wait::eventually("the certificate is shown", || {
                let tls =
                    Tls::connect(address, "db.test", &[]).map_err(|error| error.to_string())?;
                if tls.peer() == pair.der { Ok(tls) } else { Err("another one".to_owned()) }
            });
            assert_eq!(read_text(&mut tls, 3), "one");
            let long = "x".repeat(100_000);
            thread::scope(|scope| {
                let mut wire = tls;
                let long = &long;
                scope.spawn(move || {
                    for part in long.as_bytes().chunks(1000) {
                        wire.write_all(part).unwrap();
                        wire.flush().unwrap();
                        assert_eq!(read_text(&mut wire, part.len()).as_bytes(), part);
                    }
                });
            });
        }
    });
}

#[test]
fn tls_of_a_service_agrees_on_the_protocols_that_it_names() {
    on_host(|| {
        let said = "gatehouse.io/tls-secret: db, gatehouse.io/tls-alpn: 'postgresql, h2'";
        let (gateway, address) = start(&[echo("one")], said, "", &[]);
        drop(dial_tls(&gateway, address, &certificate(&["db.test"])));
        let agreed = |offers: &[&str]| {
            let mut tls = Tls::connect(address, "db.test", offers).ok()?;
            assert_eq!(read_text(&mut tls, 3), "one");
            Some(tls.0.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()))
        };
        for (offers, answer) in [
            (&["h2", "postgresql"][..], Some(Some("postgresql"))),
            (&["http/1.1", "h2"], Some(Some("h2"))),
            (&[], Some(None)),
            (&["imap"], None),
        ] {
            let answer = answer.map(|name| name.map(str::to_owned));
            assert_eq!(agreed(offers), answer, "{offers:?}");
        }
        // The next connection sees what the Service says now.
        let text = balanced(address.port(), &[echo("one")], "gatehouse.io/tls-secret: db", "");
        gateway.save("db.yaml", &text);
        wait::eventually("nothing is agreed on", || match agreed(&["imap"]) {
            Some(None) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    });
}

/// A connection to a port whose TLS ends at the gateway, once that has the certificate.
fn dial_tls(gateway: &Gateway, address: SocketAddr, pair: &Pair) -> Tls {
    gateway.save("secret.yaml", &secret("db", pair));
    wait::eventually("the certificate is shown", || {
        Tls::connect(address, "db.test", &[]).map_err(|error| error.to_string())
    })
}

#[test]
fn all_that_came_before_a_client_left_without_a_word_arrives() {
    on_host(|| {
        const BYTES: usize = 4 << 20;
        let (come, came) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let may_go = Mutex::new(may_go);
        let end = server(move |mut stream| {
            // Reads only when the client has gone, so that much waits on the way.
            let Ok(1) = stream.peek(&mut [0]) else { return };
            let _ = may_go.lock().unwrap().recv_timeout(wait::LIMIT);
            let mut all = Vec::new();
            let ended = stream.read_to_end(&mut all).map(drop).map_err(|error| error.kind());
            let _ = stream.write_all(b"thanks");
            let _ = come.send((all.len(), ended));
        });
        let (gateway, address) = start(&[end], "gatehouse.io/tls-secret: db", "", &[]);
        let mut tls = dial_tls(&gateway, address, &certificate(&["db.test"]));
        // The end is that of the connection: no close_notify.
        let said = thread::spawn(move || {
            tls.write_all(&vec![b'x'; BYTES]).unwrap();
            tls.flush().unwrap();
            tls.0.sock.shutdown(Shutdown::Write).unwrap();
            let mut rest = String::new();
            tls.read_to_string(&mut rest).map(|_| rest).map_err(|error| error.kind())
        });
        let _ = wait::look_for(Duration::from_millis(500), || said.is_finished().then_some(()));
        go.send(()).unwrap();
        assert_eq!(came.recv_timeout(wait::LIMIT).unwrap(), (BYTES, Ok(())));
        assert_eq!(said.join().unwrap().as_deref(), Ok("thanks"), "it still hears the backend");
    });
}

#[test]
fn a_backend_that_takes_no_more_still_says_why_over_tls() {
    on_host(|| {
        const WHY: usize = 1 << 20;
        let (go, gone) = mpsc::channel();
        let end = server(move |mut stream| {
            // It hears the beginning, says at length what is wrong and is gone: what comes then is reset.
            if stream.read_exact(&mut [0; 4]).is_ok() {
                let _ = stream.write_all(&vec![b'w'; WHY]);
                drop(stream);
                let _ = go.send(());
            }
        });
        let (gateway, address) = start(&[end], "gatehouse.io/tls-secret: db", "", &[]);
        let _ = dial_tls(&gateway, address, &certificate(&["db.test"]));
        // Most of it waits in the gateway, as this client takes it late.
        let wire = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        wire.set_recv_buffer_size(4096).unwrap();
        wire.connect(&address.into()).unwrap();
        let mut tls = Tls::over(wire.into(), "db.test", &[]).unwrap();
        for part in ["long", "more", "still more"] {
            tls.write_all(part.as_bytes()).unwrap();
            tls.flush().unwrap();
            if part == "long" {
                gone.recv_timeout(wait::LIMIT).expect("the backend has said why");
            }
            thread::sleep(Duration::from_millis(200));
        }
        let mut why = Vec::new();
        let ended = tls.read_to_end(&mut why).map_err(|error| error.kind());
        assert_eq!((why.len(), ended), (WHY, Ok(WHY)));
    });
}

/// A server that speaks TLS with this certificate and says its name over it.
fn tls_server(pair: &Pair, name: &'static str, header: usize) -> SocketAddr {
    let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    server(move |mut stream| {
        let mut told = vec![0; header];
        if stream.read_exact(&mut told).is_err() {
            return;
        }
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut tls = StreamOwned::new(connection, stream);
        let _ = tls.write_all(name.as_bytes());
        let _ = tls.write_all(&told);
        tls.conn.send_close_notify();
        let _ = tls.flush();
        // What the client sends is of no interest, but its end is awaited.
        let _ = tls.sock.read_to_end(&mut Vec::new());
    })
}

fn hear(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut heard = vec![0; bytes];
    let _ = stream.read_exact(&mut heard);
    heard
}

/// Who answers for a server name and with which certificate.
fn tls_answer(gateway: &Gateway, name: &str) -> Option<(String, Vec<u8>)> {
    tls_answer_at(gateway.https, name)
}

fn tls_answer_at(address: SocketAddr, name: &str) -> Option<(String, Vec<u8>)> {
    let mut tls = Tls::connect(address, name, &[]).ok()?;
    let mut bytes = Vec::new();
    let _ = tls.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    tls.read_to_end(&mut bytes).ok()?;
    Some((String::from_utf8_lossy(&bytes).into_owned(), tls.peer()))
}

#[test]
fn tls_of_a_route_goes_to_its_pods_as_it_is_and_clear_text_to_whom_it_belongs() {
    let (deep, edge) = (certificate(&["deep.test"]), certificate(&["edge.w.test", "x.w.test"]));
    let pods = tls_server(&deep, "pods", 0);
    let told = tls_server(&certificate(&["told.test"]), "told ", 16 + 12);
    let app = Backend::echo("app");
    let pass = |name: &str, host: &str| {
        route(name, host, &[(name, 1)]).replacen(
            "spec:\n",
            "spec:\n  tls: {termination: passthrough}\n",
            1,
        )
    };
    let told_route = pass("told", "told.test").replacen(
        "namespace: default",
        "namespace: default, annotations: {gatehouse.io/proxy-protocol: v2}",
        1,
    );
    let ssl_passthrough = "nginx.ingress.kubernetes.io/ssl-passthrough: \"true\"";
    let gateway = Plan::default()
        .manifest("pods.yaml", service("pods", &[pods]) + &service("told", &[told]))
        .manifest("app.yaml", service("app", &[app.addr]))
        .manifest("deep.yaml", pass("pods", "deep.test"))
        .manifest("told.yaml", told_route)
        .manifest("clear.yaml", route("clear", "deep.test", &[("app", 1)]))
        .manifest(
            "wild.yaml",
            ingress("wild", ssl_passthrough, "", &[prefix("*.w.test", "/", "pods")]),
        )
        .manifest("secret.yaml", secret("edge", &edge))
        .manifest(
            "edge.yaml",
            ingress(
                "edge",
                "",
                "{hosts: [edge.w.test], secretName: edge}",
                &[prefix("edge.w.test", "/", "app")],
            ),
        )
        .args(&["--claim-class", "nginx"])
        .start();
    for name in ["deep.test", "DEEP.test", "any.w.test"] {
        let (text, shown) = tls_answer(&gateway, name).unwrap();
        assert_eq!(text, "pods", "{name}");
        assert!(shown == deep.der, "{name} shows the pods' own certificate");
    }
    let (text, shown) = tls_answer(&gateway, "edge.w.test").unwrap();
    assert!(text.starts_with("HTTP/1.1 ") && shown == edge.der, "a host of its own: {text}");
    let (text, shown) = tls_answer(&gateway, "nobody.test").unwrap();
    assert!(text.starts_with("HTTP/1.1 404") && shown != deep.der, "{text}");
    let (text, _) = tls_answer(&gateway, "told.test").unwrap();
    assert!(text.starts_with("told \r\n\r\n\0\r\nQUIT\n"), "{text:?}");

    let clear = get(gateway.http, "deep.test", "/");
    assert_eq!((clear.status(), clear.responses[0].text().contains("app")), (200, true));
    assert_eq!(app.requests().len(), 1);
}

#[test]
fn tls_that_is_older_than_the_gateway_s_own_goes_on_to_whom_its_server_name_leads() {
    // It says how much it has heard, and ends.
    let count = |name: &'static str, bytes: usize| {
        server(move |mut stream| {
            let heard = hear(&mut stream, bytes);
            let _ =
                stream.write_all(format!("{name} {}", heard == hello_of_tls11(name)).as_bytes());
        })
    };
    let length = |name| hello_of_tls11(name).len();
    let asks = |to: SocketAddr, name: &str| {
        let mut wire = dial(to);
        wire.write_all(&hello_of_tls11(name)).unwrap();
        let mut said = Vec::new();
        let _ = wire.read_to_end(&mut said);
        said
    };
    let alert = [21, 3, 3, 0, 2, 2, 40];
    // A Route that is passed through, beside hosts whose TLS ends here.
    let pass = route("old", "old.test", &[("old", 1)]).replacen(
        "spec:\n",
        "spec:\n  tls: {termination: passthrough}\n",
        1,
    );
    let pods = count("old.test", length("old.test"));
    let gateway =
        Plan::default().manifest("old.yaml", service("old", &[pods]) + "---\n" + &pass).start();
    assert_eq!(asks(gateway.https, "old.test"), b"old.test true");
    assert_eq!(asks(gateway.https, "other.test"), alert);
    drop(gateway);
    // Names of a Service.
    on_host(|| {
        let servers = ["own.test", "a.test"].map(|name| count(name, length(name)));
        let names = "gatehouse.io/tls-server-names: \"a.test=a\"";
        let address = SocketAddr::new(VIP.parse().unwrap(), free_address().port());
        let a = balanced(address.port(), &servers[1..], "", "");
        let a = a.split_once("---\n").unwrap().1.replace("name: db", "name: a");
        let a =
            a.replace("service-name: db", "service-name: a").replace("type: LoadBalancer, ", "");
        let manifest = balanced(address.port(), &servers[..1], names, "") + &a;
        let gateway = Plan::default().manifest("db.yaml", manifest).start();
        wait::eventually("the Service's port is open", || {
            TcpStream::connect(address).map(drop).map_err(|_| gateway.output())
        });
        assert_eq!(asks(address, "a.test"), b"a.test true", "{}", gateway.output());
        assert_eq!(asks(address, "own.test"), b"own.test true");
    });
}

#[test]
fn an_endpoint_has_no_more_connections_of_a_route_that_is_passed_through_than_that_says() {
    let pods = server(|mut stream| {
        let _ = stream.write_all(b"pods");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let bounds = "haproxy.router.openshift.io/pod-concurrent-connections: \"1\", gatehouse.io/max-pending: \"0\"";
    let pass = route("pods", "deep.test", &[("pods", 1)])
        .replacen("spec:\n", "spec:\n  tls: {termination: passthrough}\n", 1)
        .replacen(
            "namespace: default",
            &format!("namespace: default, annotations: {{{bounds}}}"),
            1,
        );
    let gateway =
        Plan::default().manifest("a.yaml", service("pods", &[pods]) + "---\n" + &pass).start();
    let ask = || {
        let mut wire = dial(gateway.https);
        wire.write_all(&hello_of_tls11("deep.test")).unwrap();
        (read_text(&mut wire, 4), wire)
    };
    let (text, first) = ask();
    assert_eq!(text, "pods");
    assert_ne!(ask().0, "pods", "one has all that there is");
    drop(first);
    wait::eventually("there is room again", || {
        Some(ask()).filter(|(text, _)| text == "pods").ok_or_else(|| gateway.output())
    });
}

#[test]
fn a_client_has_no_more_connections_that_are_passed_through_than_their_route_says() {
    let pods = server(|mut stream| {
        let _ = stream.write_all(b"pods");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let prefix = "haproxy.router.openshift.io/rate-limit-connections";
    let bounds = format!("{prefix}: \"true\", {prefix}.concurrent-tcp: \"2\"");
    let pass = route("pods", "deep.test", &[("pods", 1)])
        .replacen("spec:\n", "spec:\n  tls: {termination: passthrough}\n", 1)
        .replacen(
            "namespace: default",
            &format!("namespace: default, annotations: {{{bounds}}}"),
            1,
        );
    let gateway =
        Plan::default().manifest("a.yaml", service("pods", &[pods]) + "---\n" + &pass).start();
    let ask = || {
        let mut wire = dial(gateway.https);
        wire.write_all(&hello_of_tls11("deep.test")).unwrap();
        (read_text(&mut wire, 4), wire)
    };
    let (first, second) = (ask(), ask());
    assert_eq!([&*first.0, &*second.0], ["pods"; 2]);
    assert_ne!(ask().0, "pods", "the client has all that it may have");
    drop(first);
    wait::eventually("there is room again", || {
        Some(ask()).filter(|(text, _)| text == "pods").ok_or_else(|| gateway.output())
    });
}

#[test]
fn server_names_of_one_port_lead_to_other_services_with_tls_as_it_is() {
    on_host(|| {
        let pair = |name: &str| certificate(&[name]);
        let (a, b, own) = (pair("a.db.test"), pair("b.db.test"), pair("own.db.test"));
        let servers = [tls_server(&a, "a", 0), tls_server(&b, "b", 0), tls_server(&own, "own", 0)];
        let names =
            "gatehouse.io/tls-server-names: \"a.db.test=a, *.db.test=b:7777, gone.test=gone\"";
        let address = SocketAddr::new(VIP.parse().unwrap(), free_address().port());
        let named = |name: &str, port: u16, to: SocketAddr| {
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
                 spec: {{ports: [{{port: {port}}}]}}\n---\n\
                 apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                 metadata: {{name: {name}-1, namespace: default, labels: {{kubernetes.io/service-name: {name}}}}}\n\
                 addressType: IPv4\nports: [{{port: {}}}]\nendpoints: [{{addresses: [{}]}}]\n---\n",
                to.port(),
                to.ip()
            )
        };
        let manifest = balanced(address.port(), &servers[2..], names, "")
            + &named("a", address.port(), servers[0])
            + &named("b", 7777, servers[1]);
        let gateway = Plan::default().manifest("db.yaml", manifest).start();
        wait::eventually("the Service's port is open", || {
            TcpStream::connect(address).map(drop).map_err(|_| gateway.output())
        });
        // The certificate is the backend's own: nothing was terminated on the way.
        for (name, wanted, certificate) in
            [("a.db.test", "a", &a), ("x.db.test", "b", &b), ("other.test", "own", &own)]
        {
            let (said, shown) = tls_answer_at(address, name).unwrap();
            assert_eq!(said, wanted, "{name}");
            assert!(shown == certificate.der, "{name} shows the backend's own certificate");
        }
        assert!(tls_answer_at(address, "gone.test").is_none(), "its Service does not exist");
        // What is no TLS has no name.
        let mut clear = dial(address);
        clear.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut rest = Vec::new();
        let ended = clear.read_to_end(&mut rest);
        assert!(rest.is_empty() || rest[0] == 21, "at most an alert: {ended:?} {rest:?}");
        let problems = gateway.page("/status");
        assert!(problems.contains("BackendNotFound"), "{problems}");
    });
}
