//! Connections passed on as they are: to the ports of Services, and TLS that ends at the backend.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use gatehouse_testbed::{
    gatehouse::{
        backend::Backend,
        client::get,
        gateway::{Gateway, Plan, free_address},
        manifests::{ingress, prefix, route, secret, service},
        tls::{Pair, Tls, certificate},
    },
    namespace::Namespace,
    wait,
};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use socket2::{Domain, SockRef, Socket, Type};

/// Address that Services get.
const VIP: &str = "192.0.2.77";

/// Runs a test on a host of its own that has the address.
fn on_host(test: impl FnOnce() + Send) {
    let host = Namespace::new("l4").unwrap();
    host.run(&["ip", "address", "add", &format!("{VIP}/32"), "dev", "lo"]).unwrap();
    host.enter(test).unwrap();
}

/// Does this with every connection.
fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    server_at("127.0.0.1", serve)
}

fn server_at(ip: &str, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    let (address, serve) = (listener.local_addr().unwrap(), Arc::new(serve));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Says its name, then what it hears.
fn echo(name: &'static str) -> SocketAddr {
    echo_at("127.0.0.1", name)
}

fn echo_at(ip: &str, name: &'static str) -> SocketAddr {
    server_at(ip, move |mut stream| {
        let _ = stream.write_all(name.as_bytes());
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..read]).is_err() {
                return;
            }
        }
        let _ = stream.shutdown(Shutdown::Write);
    })
}

/// A Service of type LoadBalancer at [`VIP`].
fn balanced(port: u16, endpoints: &[SocketAddr], annotations: &str, spec: &str) -> String {
    let mut text = format!(
        "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {{name: p, namespace: s}}\n\
         spec: {{addresses: [{VIP}/32]}}\n---\n\
         apiVersion: v1\nkind: Service\n\
         metadata: {{name: db, namespace: default, annotations: {{{annotations}}}}}\n\
         spec: {{type: LoadBalancer, ports: [{{name: tcp, port: {port}}}], {spec}}}\n---\n"
    );
    for (n, endpoint) in endpoints.iter().enumerate() {
        text += &format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: db-{n}, namespace: default, labels: {{kubernetes.io/service-name: db}}}}\n\
             addressType: IPv4\nports: [{{name: tcp, port: {}}}]\n\
             endpoints: [{{addresses: [{}], nodeName: test-node}}]\n---\n",
            endpoint.port(),
            endpoint.ip()
        );
    }
    text
}

/// A gateway in front of these endpoints, and the address that it passes on.
fn start(
    endpoints: &[SocketAddr],
    annotations: &str,
    spec: &str,
    args: &[&str],
) -> (Gateway, SocketAddr) {
    let address = SocketAddr::new(VIP.parse().unwrap(), free_address().port());
    let plan =
        Plan::default().manifest("db.yaml", balanced(address.port(), endpoints, annotations, spec));
    let gateway = plan.args(args).start();
    wait::eventually("the Service's port is open", || {
        TcpStream::connect(address).map(drop).map_err(|_| gateway.output())
    });
    (gateway, address)
}

fn dial(to: SocketAddr) -> TcpStream {
    dial_from("127.0.0.1", to).unwrap()
}

fn dial_from(from: &str, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from.parse::<IpAddr>().unwrap(), 0).into())?;
    socket.connect_timeout(&to.into(), wait::LIMIT)?;
    socket.set_read_timeout(Some(wait::LIMIT))?;
    Ok(socket.into())
}

/// So many bytes from a stream, as text.
fn read_text(stream: &mut impl Read, bytes: usize) -> String {
    let mut buffer = vec![0; bytes];
    match stream.read_exact(&mut buffer) {
        Ok(()) => String::from_utf8(buffer).unwrap(),
        Err(error) => format!("{error}"),
    }
}

/// Bytes that repeat after a length that no buffer has.
fn block() -> Arc<[u8]> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..1_000_003).map(|_| next()).collect()
}

/// Sends so many bytes of the block over and over, then ends.
fn pour(mut stream: TcpStream, block: &[u8], mut left: usize) {
    while left > 0 {
        let part = &block[..left.min(block.len())];
        stream.write_all(part).unwrap();
        left -= part.len();
    }
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Reads to the end and compares every byte; returns how many there were.
fn drain(mut stream: TcpStream, block: &[u8]) -> usize {
    let (mut total, mut buffer) = (0, vec![0; 256 * 1024]);
    loop {
        let read = stream.read(&mut buffer).unwrap();
        if read == 0 {
            return total;
        }
        let mut seen = &buffer[..read];
        while !seen.is_empty() {
            let at = total % block.len();
            let part = seen.len().min(block.len() - at);
            assert!(seen[..part] == block[at..at + part], "different bytes from {total} on");
            (total, seen) = (total + part, &seen[part..]);
        }
    }
}

#[test]
fn bulk_goes_both_ways_at_once_and_arrives_as_it_was_sent() {
    const BYTES: usize = 200 << 20;
    on_host(|| {
        let block = block();
        let (counted, counts) = mpsc::channel();
        let of_server = Arc::clone(&block);
        let end = server(move |stream| {
            let (block, writer) = (Arc::clone(&of_server), stream.try_clone().unwrap());
            let pouring = thread::spawn(move || pour(writer, &block, BYTES + 1));
            let _ = counted.send(drain(stream, &of_server));
            pouring.join().unwrap();
        });
        // A first connection, which `start` makes, sends nothing and takes nothing.
        let (gateway, address) = start(&[end], "", "", &[]);
        let stream = dial(address);
        let (writer, sent) = (stream.try_clone().unwrap(), Arc::clone(&block));
        let pouring = thread::spawn(move || pour(writer, &sent, BYTES));
        assert_eq!(drain(stream, &block), BYTES + 1);
        pouring.join().unwrap();
        let got = counts.iter().find(|count| *count > 0).unwrap();
        assert_eq!(got, BYTES);
        let counted = format!("gatehouse_tcp_bytes_total{{direction=\"in\"}} {BYTES}");
        wait::eventually("bytes are counted", || {
            let page = gateway.page("/metrics");
            if page.contains(&counted) { Ok(()) } else { Err(page) }
        });
    });
}

#[test]
fn a_side_that_has_ended_still_hears_the_other_and_one_that_breaks_off_breaks_off_both() {
    on_host(|| {
        let (told, hears) = mpsc::channel();
        let end = server(move |mut stream| {
            let mut all = Vec::new();
            match stream.read_to_end(&mut all) {
                Ok(_) if all == b"break" => {
                    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                }
                Ok(read) => stream.write_all(format!("{read} bytes").as_bytes()).unwrap(),
                Err(error) => told.send(error.kind()).unwrap(),
            }
        });
        let (_gateway, address) = start(&[end], "", "", &[]);
        let mut stream = dial(address);
        stream.write_all(b"hello").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "5 bytes");

        let mut stream = dial(address);
        stream.write_all(b"hello").unwrap();
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(stream);
        assert_eq!(hears.recv_timeout(wait::LIMIT), Ok(ErrorKind::ConnectionReset));

        let mut stream = dial(address);
        stream.write_all(b"break").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let error = stream.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn endpoints_take_turns_and_those_that_refuse_are_passed_over() {
    on_host(|| {
        // Nobody listens there.
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let all = [echo("one"), echo("two"), gone];
        let (gateway, address) = start(&all, "", "", &[]);
        let names: Vec<_> = (0..20).map(|_| read_text(&mut dial(address), 3)).collect();
        let seen: BTreeSet<_> = names.iter().map(String::as_str).collect();
        assert_eq!(seen, BTreeSet::from(["one", "two"]), "{names:?}");

        gateway.save("db.yaml", &balanced(address.port(), &[gone], "", ""));
        // A reset may come as early as while the client still connects.
        let ask = || dial_from("127.0.0.1", address).and_then(|mut stream| stream.read(&mut [0]));
        wait::eventually("no endpoint is left", || match ask() {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
            other => Err(format!("{other:?}")),
        });
        assert!(!gateway.page("/metrics").contains("tcp_connections_total{result=\"failed\"} 0"));
    });
}

#[test]
fn a_client_keeps_its_endpoint_where_the_service_says_so_and_only_its_clients_come_in() {
    on_host(|| {
        let all = [echo("one"), echo("two"), echo("six"), echo("ten")];
        let spec = "sessionAffinity: ClientIP, externalTrafficPolicy: Local, \
                    loadBalancerSourceRanges: [127.0.0.0/24, 192.0.2.0/24]";
        let (_gateway, address) = start(&all, "", spec, &[]);
        let mut seen = BTreeSet::new();
        for host in 1..30 {
            let from = format!("127.0.0.{host}");
            let ask = || read_text(&mut dial_from(&from, address).unwrap(), 3);
            let name = ask();
            assert!((0..3).all(|_| ask() == name), "{from}");
            seen.insert(name);
        }
        assert!(seen.len() > 1, "{seen:?}");
        let stranger = dial_from("127.0.1.1", address);
        let refused = stranger.and_then(|mut stream| stream.read(&mut [0])).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_client_keeps_its_endpoint_over_an_upgrade_though_others_have_come() {
    on_host(|| {
        let all = [echo("one"), echo("two"), echo("six"), echo("ten")];
        let spec = "sessionAffinity: ClientIP";
        let folder = tempfile::tempdir().unwrap();
        let address = SocketAddr::new(VIP.parse().unwrap(), free_address().port());
        let start = |endpoints: &[SocketAddr]| {
            let text = balanced(address.port(), endpoints, "", spec);
            Plan::default().state_dir(folder.path()).manifest("db.yaml", text).start()
        };
        let mut gateway = start(&all[..2]);
        let ask = |client: u32| {
            let from = format!("127.0.{}.{}", client / 250, 1 + client % 250);
            wait::eventually("a connection is taken", || {
                let text = dial_from(&from, address).map(|mut stream| read_text(&mut stream, 3));
                text.ok().filter(|text| text.len() == 3).ok_or_else(|| from.clone())
            })
        };
        let before: Vec<String> = (0..30).map(ask).collect();
        let kept = || (0..30).map(ask).collect::<Vec<_>>() == before;
        gateway.save("db.yaml", &balanced(address.port(), &all, "", spec));
        // Others find the new ones.
        let mut others = (250..20_000).map(ask);
        assert!(others.any(|name| ["six", "ten"].contains(&&*name)));
        assert!(kept());
        let successor = start(&all);
        assert!(kept(), "while both serve: {}", successor.output());
        gateway.terminate();
        assert!(gateway.wait().unwrap().success(), "{}", gateway.output());
        assert!(kept(), "{}", successor.output());
    });
}

#[test]
fn endpoints_of_other_nodes_get_nothing_of_a_local_service() {
    on_host(|| {
        let port = free_address().port();
        let address = SocketAddr::new(VIP.parse().unwrap(), port);
        let here = balanced(
            port,
            &[echo_at("127.0.0.2", "one"), echo("two")],
            "",
            "externalTrafficPolicy: Local",
        );
        let elsewhere = here.replacen("test-node", "other-node", 1);
        let gateway = Plan::default().manifest("db.yaml", elsewhere).start();
        wait::eventually("the port is open", || {
            TcpStream::connect(address).map(drop).map_err(|_| gateway.output())
        });
        let names: BTreeSet<_> = (0..8).map(|_| read_text(&mut dial(address), 3)).collect();
        assert_eq!(names, BTreeSet::from(["two".to_owned()]));
    });
}

#[test]
fn a_backend_is_told_who_its_client_is_where_its_service_asks_for_that() {
    on_host(|| {
        for version in ["v1", "v2"] {
            let (told, hears) = mpsc::channel();
            let end = server(move |mut stream| {
                let mut all = Vec::new();
                let _ = stream.read_to_end(&mut all);
                told.send(all).unwrap();
            });
            let annotations = format!("gatehouse.io/proxy-protocol: {version}");
            let (_gateway, address) = start(&[end], &annotations, "", &[]);
            let mut stream = dial_from("127.0.0.7", address).unwrap();
            let (from, to) = (stream.local_addr().unwrap().port(), address.port());
            stream.write_all(b"hello").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let wanted = match version {
                "v1" => format!("PROXY TCP4 127.0.0.7 {VIP} {from} {to}\r\nhello").into_bytes(),
                _ => [
                    &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x07\xc0\0\x02\x4d"[..],
                    &from.to_be_bytes(),
                    &to.to_be_bytes(),
                    b"hello",
                ]
                .concat(),
            };
            let got = hears.iter().find(|got| got.ends_with(b"hello")).unwrap();
            assert_eq!(got, wanted, "{version}");
        }
    });
}

#[test]
fn a_connection_on_which_nothing_moves_ends_when_its_service_says_and_others_stay() {
    on_host(|| {
        let (_gateway, address) =
            start(&[echo("one")], "gatehouse.io/idle-timeout: \"2\"", "", &[]);
        let (mut idle, mut busy) = (dial(address), dial(address));
        assert_eq!([read_text(&mut idle, 3), read_text(&mut busy, 3)], ["one", "one"]);
        let waits = thread::spawn(move || idle.read(&mut [0]));
        while !waits.is_finished() {
            busy.write_all(b"x").unwrap();
            assert_eq!(read_text(&mut busy, 1), "x");
            thread::sleep(Duration::from_millis(50));
        }
        assert!(!matches!(waits.join().unwrap(), Ok(1..)));
        busy.write_all(b"y").unwrap();
        assert_eq!(read_text(&mut busy, 1), "y");
    });
}

#[test]
fn a_process_that_stops_lets_its_connections_end() {
    on_host(|| {
        let (mut gateway, address) = start(&[echo("one")], "", "", &["--drain-timeout", "600"]);
        let mut stream = dial(address);
        assert_eq!(read_text(&mut stream, 3), "one");
        gateway.terminate();
        wait::eventually("the port is closed", || match TcpStream::connect(address) {
            Err(_) => Ok(()),
            Ok(_) => Err("open".to_owned()),
        });
        stream.write_all(b"still there").unwrap();
        assert_eq!(read_text(&mut stream, 11), "still there");
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        drop(stream);
        assert!(gateway.wait().unwrap().success());
    });
}

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
