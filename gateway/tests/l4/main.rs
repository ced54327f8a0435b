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
    gatehouse::gateway::{Gateway, Plan, free_address},
    guard,
    namespace::Namespace,
    wait,
};
use socket2::{Domain, SockRef, Socket, Type};

mod tls;

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
        // The client may hear of it before it is counted.
        wait::eventually("it is counted", || {
            let page = gateway.page("/metrics");
            let none = page.contains("tcp_connections_total{result=\"failed\"} 0");
            if none { Err(page) } else { Ok(()) }
        });
    });
}

#[test]
fn connections_go_to_the_endpoint_with_fewer_open_ones_where_the_service_says_so() {
    on_host(|| {
        let endpoints = [echo("one"), echo("two")];
        let by_load = "gatehouse.io/load-balance: leastconn";
        let (gateway, address) = start(&endpoints, by_load, "", &[]);
        let mut open: Vec<(String, TcpStream)> = Vec::new();
        let connect = |open: &mut Vec<(String, TcpStream)>| {
            let mut stream = dial(address);
            open.push((read_text(&mut stream, 3), stream));
        };
        let becomes = |count: usize, of: usize| {
            wait::eventually("the gateway has noticed which connections are open", || {
                let status = gateway.page("/status");
                let wanted = [format!("\"open\": {count},"), format!("\"forwarded\": {of},")];
                if wanted.iter().all(|one| status.contains(one)) { Ok(()) } else { Err(status) }
            });
        };
        // That which found the port open.
        becomes(0, 1);
        (0..6).for_each(|_| connect(&mut open));
        assert_eq!(open.iter().filter(|(name, _)| name == "one").count(), 3);
        // Others would take turns.
        open.retain(|(name, _)| name == "two");
        becomes(3, 7);
        (0..3).for_each(|_| connect(&mut open));
        assert!(open[3..].iter().all(|(name, _)| name == "one"), "{open:?}");
    });
}

#[test]
fn an_endpoint_has_no_more_connections_than_its_service_says() {
    on_host(|| {
        let end = echo("one");
        let bounds = |pending: &str| {
            format!("gatehouse.io/max-connections: \"1\", gatehouse.io/max-pending: \"{pending}\"")
        };
        for pending in ["0", "9"] {
            let (_gateway, address) = start(&[end], &bounds(pending), "", &[]);
            // Who is reset may be so before it knows that it is connected.
            let ask = move || match dial_from("127.0.0.1", address) {
                Ok(mut stream) => (read_text(&mut stream, 3), Some(stream)),
                Err(error) => (error.to_string(), None),
            };
            // That which found the port open has to end first.
            let (_, first) = wait::eventually("there is room", || {
                Some(ask()).filter(|(text, _)| text == "one").ok_or_else(String::new)
            });
            if pending == "0" {
                assert_ne!(ask().0, "one", "nobody may wait");
                continue;
            }
            let second = thread::spawn(move || ask().0);
            drop(first);
            assert_eq!(second.join().unwrap(), "one", "it has waited");
        }
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

/// What is ready on another node is of no use to a client that came to this one.
#[test]
fn a_local_service_is_served_by_endpoints_that_terminate_where_no_other_is_here() {
    on_host(|| {
        let going =
            "nodeName: test-node, conditions: {ready: false, serving: true, terminating: true}";
        let [one, two] = [echo("one"), echo_at("127.0.0.2", "two")];
        let address = SocketAddr::new(VIP.parse().unwrap(), free_address().port());
        let manifest = |one_is: &str| {
            let text = balanced(address.port(), &[one, two], "", "externalTrafficPolicy: Local");
            let text = text.replacen("nodeName: test-node", one_is, 1);
            text.replacen("127.0.0.2], nodeName: test-node", "127.0.0.2], nodeName: other-node", 1)
        };
        let gateway = Plan::default().manifest("db.yaml", manifest(going)).start();
        wait::eventually("the port is open", || {
            TcpStream::connect(address).map(drop).map_err(|_| gateway.output())
        });
        for _ in 0..4 {
            assert_eq!(read_text(&mut dial(address), 3), "one");
        }
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
fn a_backend_that_waits_for_a_header_hears_one_from_checks_too() {
    on_host(|| {
        for (version, header) in
            [("v1", &b"PROXY UNKNOWN\r\n"[..]), ("v2", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")]
        {
            let (told, hears) = mpsc::channel();
            let end = server(move |mut stream| {
                let (mut all, mut byte) = (Vec::new(), [0]);
                while all.len() <= header.len() || !all.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut byte) {
                        Ok(1) => all.extend(byte),
                        _ => return,
                    }
                }
                let _ = told.send(all);
            });
            let annotations = format!(
                "gatehouse.io/proxy-protocol: {version}, gatehouse.io/health-check: http, \
                 gatehouse.io/health-check-interval: 100ms"
            );
            let (_gateway, _) = start(&[end], &annotations, "", &[]);
            let got = hears.recv_timeout(wait::LIMIT).expect("the backend is checked");
            let wanted = [header, b"GET / HTTP/1.1\r\n"].concat();
            assert!(got.starts_with(&wanted), "{version}: {}", got.escape_ascii());
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
fn an_endpoint_that_is_quiet_is_asked_whether_it_is_still_there() {
    on_host(|| {
        let endpoint = echo("one");
        let (_gateway, address) = start(&[endpoint], "", "", &[]);
        let mut client = dial(address);
        assert_eq!(read_text(&mut client, 3), "one");
        let filter = endpoint.to_string();
        wait::eventually("the kernel asks both peers", || {
            let ss = |side: &str, at: &str| {
                let mut ss = guard::command("ss");
                let output = ss.args(["-Htno", "state", "established", side, at]).output();
                String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
            };
            let (to_endpoint, to_client) = (ss("dst", &filter), ss("src", &address.to_string()));
            let asks = |sockets: &str| sockets.contains("timer:(keepalive");
            match asks(&to_endpoint) && asks(&to_client) {
                true => Ok(()),
                false => Err(format!("{to_endpoint}{to_client}")),
            }
        });
        client.write_all(b"x").unwrap();
        assert_eq!(read_text(&mut client, 1), "x");
    });
}

#[test]
fn both_sides_hear_the_end_and_all_that_came_before_it() {
    on_host(|| {
        let (told, ends) = mpsc::channel();
        let told = std::sync::Mutex::new(told);
        let endpoint = server(move |mut stream| {
            let _ = stream.write_all(b"hello");
            let _ = stream.shutdown(Shutdown::Write);
            let mut heard = Vec::new();
            let end = stream.read_to_end(&mut heard).map_err(|error| error.kind());
            let _ = told.lock().unwrap().send((heard, end));
        });
        let (_gateway, address) = start(&[endpoint], "", "", &[]);
        // The connection by which the test has waited for the port.
        let _probe = ends.recv_timeout(wait::LIMIT).unwrap();
        // The backend ends first, then the client, who has more to say than sockets hold.
        let mut client = dial(address);
        let mut heard = Vec::new();
        assert_eq!(client.read_to_end(&mut heard).unwrap(), 5);
        let much = vec![b'x'; 8 * 1024 * 1024];
        client.write_all(&much).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let (heard, end) = ends.recv_timeout(wait::LIMIT).unwrap();
        assert_eq!((heard.len(), end), (much.len(), Ok(much.len())));
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
