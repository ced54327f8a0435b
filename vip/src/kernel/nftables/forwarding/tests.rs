//! Real connections by the kernel between hosts in network namespaces: a client, a node with the virtual addresses, and
//! two backends behind the node. Needs root, iproute2 and nft.

#![expect(clippy::disallowed_methods, reason = "the lab is made of threads and sockets")]

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use gatehouse_testbed::namespace::Namespace;
use socket2::{Domain, Socket, Type};

use super::*;
use crate::forwarding::{Endpoint, Group, Transport};

mod changes;

const VIP4: &str = "10.9.0.200";
const VIP6: &str = "fd09::200";
const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for an answer that must not come; a test that waits for it does so once.
const SILENCE: Duration = Duration::from_millis(300);

struct Lab {
    client: Namespace,
    node: Namespace,
    backends: [Namespace; 2],
    table: ForwardingTable,
    rules: Rules,
}

/// The addresses of backend 0 and 1.
fn backend(n: usize, v6: bool) -> IpAddr {
    let text = if v6 { format!("fd1{n}::2") } else { format!("10.1{n}.0.2") };
    text.parse().unwrap()
}

impl Lab {
    /// Every backend listens on port 8080 and 8081, by TCP and UDP, and says its name and who its client is.
    fn new() -> Self {
        let host = |name| Namespace::new(name).unwrap();
        let (client, node) = (host("client"), host("node"));
        let backends = [host("b0"), host("b1")];
        let shell = |host: &Namespace, script: &str| {
            host.run(&["sh", "-ec", script]).unwrap();
        };
        client.cable("eth0", &node, "eth0").unwrap();
        shell(
            &client,
            "ip addr add 10.9.0.1/24 dev eth0; ip addr add fd09::1/64 dev eth0 nodad
            ip link set eth0 up",
        );
        shell(&node, "ip addr add 10.9.0.2/24 dev eth0; ip addr add fd09::2/64 dev eth0 nodad
            ip link set eth0 up
            ip addr add 10.9.0.200/32 dev eth0; ip addr add fd09::200/128 dev eth0 nodad
            echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
        for (n, backend) in backends.iter().enumerate() {
            let name = format!("b{n}");
            backend.cable("eth0", &node, &name).unwrap();
            shell(
                backend,
                &format!(
                    "ip addr add 10.1{n}.0.2/24 dev eth0
                ip addr add fd1{n}::2/64 dev eth0 nodad; ip link set eth0 up
                ip route add default via 10.1{n}.0.1; ip route add default via fd1{n}::1"
                ),
            );
            shell(
                &node,
                &format!(
                    "ip addr add 10.1{n}.0.1/24 dev {name}
                ip addr add fd1{n}::1/64 dev {name} nodad; ip link set {name} up"
                ),
            );
        }
        for (n, backend) in backends.iter().enumerate() {
            backend.enter(|| [8080, 8081].map(|port| serve(format!("b{n}"), port))).unwrap();
        }
        Self { client, node, backends, table: ForwardingTable::default(), rules: Rules::default() }
    }

    /// Adds a group of both backends, with ports of a virtual address that lead there.
    fn forward(
        &mut self,
        name: &str,
        vip: &str,
        transport: Transport,
        ports: &[u16],
    ) -> &mut Group {
        let ip: IpAddr = vip.parse().unwrap();
        let v6 = ip.is_ipv6();
        let endpoint = |n| Endpoint { ip: backend(n, v6), port: 8080, weight: 1 };
        let endpoints = [0, 1].map(endpoint).to_vec();
        let group = Group {
            transport,
            v6,
            endpoints,
            draining: Vec::new(),
            by_client: None,
            by_flow: true,
            keeps_client: false,
            keeps_port: false,
            sources: None,
        };
        for port in ports {
            self.rules.ports.insert((ip, transport, *port), name.into());
        }
        self.rules.groups.entry(name.into()).insert_entry(group).into_mut()
    }

    fn group(&mut self, name: &str) -> &mut Group {
        self.rules.groups.get_mut(name).unwrap()
    }

    fn apply(&mut self) {
        let Self { node, table, rules, .. } = self;
        node.enter(|| table.apply(rules)).unwrap().unwrap();
    }

    fn totals(&mut self) -> Totals {
        let Self { node, table, .. } = self;
        node.enter(|| table.totals()).unwrap().unwrap()
    }

    fn stands(&mut self, totals: &Totals) -> bool {
        let Self { node, table, .. } = self;
        node.enter(|| table.stands(totals)).unwrap().unwrap()
    }

    fn ruleset(&self) -> String {
        self.node.run(&["nft", "list", "ruleset"]).unwrap()
    }
}

fn serve(name: String, port: u16) {
    let listener = TcpListener::bind(("::", port)).unwrap();
    let datagrams = UdpSocket::bind(("::", port)).unwrap();
    let own = name.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (own, mut stream) = (own.clone(), stream.unwrap());
            thread::spawn(move || {
                let client = stream.peer_addr().unwrap().ip().to_canonical();
                let _ = writeln!(stream, "{own} {port} {client}");
                // Everything that is said comes back.
                let mut copy = stream.try_clone().unwrap();
                let _ = io::copy(&mut stream, &mut copy);
            });
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, client)) = datagrams.recv_from(&mut buffer) {
            let answer = format!("{name} {port} {}\n", client.ip().to_canonical());
            let _ = datagrams.send_to(answer.as_bytes(), client);
        }
    });
}

/// Opens a connection on a host; it and the backend's words.
fn connect(host: &Namespace, to: &str, port: u16) -> io::Result<(TcpStream, String)> {
    let to = SocketAddr::new(to.parse().unwrap(), port);
    words(host.enter(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap()?)
}

/// The backend's words on a connection from an address of a host.
fn ask_from(host: &Namespace, from: &str, to: &str, port: u16) -> String {
    let [from, to] =
        [(from, 0), (to, port)].map(|(ip, port)| SocketAddr::new(ip.parse().unwrap(), port));
    let open = || {
        let socket = Socket::new(Domain::for_address(from), Type::STREAM, None)?;
        socket.bind(&from.into())?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        io::Result::Ok(TcpStream::from(socket))
    };
    words(host.enter(open).unwrap().unwrap()).unwrap().1
}

fn words(mut stream: TcpStream) -> io::Result<(TcpStream, String)> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut words, mut byte) = (String::new(), [0]);
    while !words.ends_with('\n') {
        stream.read_exact(&mut byte)?;
        words.push(byte[0].into());
    }
    Ok((stream, words.trim().to_owned()))
}

fn ask(host: &Namespace, to: &str, port: u16) -> String {
    connect(host, to, port).unwrap().1
}

fn datagram_socket(host: &Namespace, to: &str, port: u16) -> UdpSocket {
    datagram_socket_from(host, 0, to, port)
}

fn datagram_socket_from(host: &Namespace, from: u16, to: &str, port: u16) -> UdpSocket {
    let to: SocketAddr = SocketAddr::new(to.parse().unwrap(), port);
    let any: IpAddr = if to.is_ipv6() { "::" } else { "0.0.0.0" }.parse().unwrap();
    let socket = host.enter(|| UdpSocket::bind((any, from))).unwrap().unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn exchange(socket: &UdpSocket) -> io::Result<String> {
    socket.send(b"?")?;
    let mut buffer = [0; 64];
    let len = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..len]).trim().to_owned())
}

/// Whether a stream goes on both ways.
fn goes_on(stream: &mut TcpStream) {
    stream.write_all(b"still there").unwrap();
    let mut back = [0; 11];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"still there");
}

#[test]
fn tcp_and_udp_reach_both_backends_in_both_families() {
    let mut lab = Lab::new();
    for (vip, family) in [(VIP4, 4), (VIP6, 6)] {
        lab.forward(&format!("service/a/web/80/tcp/{family}"), vip, Transport::Tcp, &[80]);
        lab.forward(&format!("service/a/dns/53/udp/{family}"), vip, Transport::Udp, &[53]);
    }
    lab.apply();
    for vip in [VIP4, VIP6] {
        let v6 = vip.contains(':');
        // The node's own address on the backend's wire: the answer comes back by the node.
        let node = |n| if v6 { format!("fd1{n}::1") } else { format!("10.1{n}.0.1") };
        // A port of a socket that is closed may be given again, and be the same flow.
        let (mut seen, mut sockets) = (BTreeMap::<String, u32>::new(), Vec::new());
        for _ in 0..40 {
            *seen.entry(ask(&lab.client, vip, 80)).or_default() += 1;
            let socket = datagram_socket(&lab.client, vip, 53);
            *seen.entry(exchange(&socket).unwrap()).or_default() += 1;
            sockets.push(socket);
        }
        let wanted = [0, 1].map(|n| format!("b{n} 8080 {}", node(n)));
        assert!(seen.keys().eq(&wanted), "{seen:?}");
    }
    let totals = lab.totals();
    let web = totals["service/a/web/80/tcp/4"];
    assert_eq!(web.connections, 40);
    // A SYN, an ACK and a FIN of 40 bytes and more each; an answer of more than that.
    assert!(web.bytes_in > 40 * 120 && web.bytes_out > 40 * 120, "{web:?}");
    assert_eq!(totals["service/a/dns/53/udp/6"].connections, 40);
    let listed = lab.ruleset();
    for line in [
        "table inet gatehouse-l4",
        "ip daddr . meta l4proto . th dport vmap @services4",
        "10.9.0.200 . tcp . 80 : goto service/a/web/80/tcp/4",
        "numgen random mod 2147483648 map @service/a/web/80/tcp/4/endpoints4",
        "0-1073741823 : 10.10.0.2 . 8080",
    ] {
        assert!(listed.contains(line), "{line} is not in\n{listed}");
    }
}

#[test]
fn endpoints_get_connections_by_weight() {
    let mut lab = Lab::new();
    let group = lab.forward("web", VIP4, Transport::Tcp, &[80]);
    group.endpoints[1].weight = 3;
    lab.apply();
    const ASKED: u32 = 400;
    let first = (0..ASKED).filter(|_| ask(&lab.client, VIP4, 80).starts_with("b0")).count() as f64;
    // Three standard deviations of 400 draws with p = 1/4.
    let deviation = (f64::from(ASKED) * 0.25 * 0.75).sqrt();
    assert!((first - 100.0).abs() <= 3.0 * deviation, "{first} of 400");
}

#[test]
fn a_client_keeps_its_endpoint_while_that_is_there_and_a_restart_changes_nothing() {
    let mut lab = Lab::new();
    for transport in [Transport::Tcp, Transport::Udp] {
        lab.forward(&format!("{transport:?}"), VIP6, transport, &[80]).by_client = Some(HOUR);
    }
    lab.apply();
    let words = ask(&lab.client, VIP6, 80);
    for _ in 0..12 {
        assert_eq!(ask(&lab.client, VIP6, 80), words);
    }
    let datagrams = exchange(&datagram_socket(&lab.client, VIP6, 80)).unwrap();
    assert_eq!(exchange(&datagram_socket(&lab.client, VIP6, 80)).unwrap(), datagrams);
    lab.table = ForwardingTable::default();
    lab.apply();
    assert_eq!(ask(&lab.client, VIP6, 80), words);
    let chosen = usize::from(words.starts_with("b1"));
    lab.group("Tcp").endpoints.remove(chosen);
    lab.apply();
    assert_ne!(ask(&lab.client, VIP6, 80)[..2], words[..2]);
}

#[test]
fn a_client_keeps_its_endpoint_for_a_while_though_its_hash_leads_to_a_new_one() {
    let mut lab = Lab::new();
    let clients: Vec<String> = (10..18).map(|n| format!("10.9.0.{n}")).collect();
    for client in &clients {
        lab.client.run(&["ip", "addr", "add", &format!("{client}/24"), "dev", "eth0"]).unwrap();
    }
    let name = "web";
    for transport in [Transport::Tcp, Transport::Udp] {
        lab.forward(&format!("{name}{transport:?}"), VIP4, transport, &[80]).by_client = Some(HOUR);
    }
    // Each client's endpoint, by TCP and by UDP.
    let all = |lab: &Lab| {
        let of = |client: &String| {
            let tcp = ask_from(&lab.client, client, VIP4, 80)[..2].to_owned();
            let socket = lab.client.enter(|| UdpSocket::bind((&**client, 0))).unwrap().unwrap();
            socket.connect((VIP4, 80)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            [tcp, exchange(&socket).unwrap()[..2].to_owned()]
        };
        clients.iter().map(of).collect::<Vec<_>>()
    };
    let both = ["webTcp", "webUdp"];
    lab.apply();
    let hashed = all(&lab);
    assert!(hashed.iter().any(|of| of[0] == "b1") && hashed.iter().any(|of| of[0] == "b0"));
    assert!(hashed.iter().all(|[tcp, udp]| tcp == udp));

    let endpoints = lab.group(both[0]).endpoints.clone();
    let set = |lab: &mut Lab, endpoints: &[Endpoint]| {
        both.iter().for_each(|name| lab.group(name).endpoints = endpoints.to_vec());
        lab.apply();
    };
    set(&mut lab, &endpoints[..1]);
    assert!(all(&lab).iter().flatten().all(|endpoint| endpoint == "b0"), "b1 is gone");
    set(&mut lab, &endpoints);
    assert!(all(&lab).iter().flatten().all(|endpoint| endpoint == "b0"), "they keep theirs");
    lab.table = ForwardingTable::default();
    lab.apply();
    assert!(all(&lab).iter().flatten().all(|endpoint| endpoint == "b0"), "after a restart as well");

    // With a life that ends, the hash decides again.
    for name in both {
        lab.group(name).by_client = Some(Duration::from_secs(1));
    }
    set(&mut lab, &endpoints[..1]);
    assert!(all(&lab).iter().flatten().all(|endpoint| endpoint == "b0"));
    set(&mut lab, &endpoints);
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(all(&lab), hashed);
    let listed = lab.ruleset();
    for line in [
        "set webTcp/10.10.0.2/8080 {",
        "ip saddr @webTcp/10.10.0.2/8080 goto webTcp/10.10.0.2/8080",
        "update @webTcp/10.10.0.2/8080 { ip saddr timeout 1s }",
        "dnat ip to 10.10.0.2:8080",
    ] {
        assert!(listed.contains(line), "{line} is not in\n{listed}");
    }
    // What remembers goes with what it is for.
    both.iter().for_each(|name| lab.group(name).by_client = None);
    lab.apply();
    assert!(!lab.ruleset().contains("/10.10.0.2/"));
    all(&lab);
    both.iter().for_each(|name| lab.group(name).by_client = Some(HOUR));
    lab.apply();
    lab.rules = Rules::default();
    lab.apply();
    assert!(!lab.ruleset().contains("/10.10.0.2/"));
}

#[test]
fn without_an_endpoint_no_other_program_of_the_node_answers() {
    let mut lab = Lab::new();
    lab.node.enter(|| serve("node".to_owned(), 80)).unwrap();
    assert_eq!(ask(&lab.client, VIP4, 80), "node 80 10.9.0.1");
    for transport in [Transport::Tcp, Transport::Udp] {
        for vip in [VIP4, VIP6] {
            lab.forward(&format!("{vip}/{transport:?}"), vip, transport, &[80]).endpoints.clear();
        }
    }
    lab.apply();
    for vip in [VIP4, VIP6] {
        let refused = connect(&lab.client, vip, 80).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "{vip}");
        let refused = exchange(&datagram_socket(&lab.client, vip, 80)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "{vip}");
    }
    assert_eq!(ask(&lab.client, "10.9.0.2", 80), "node 80 10.9.0.1", "the node's own address");
}

#[test]
fn a_flow_of_datagrams_whose_endpoint_goes_gets_another_one() {
    let mut lab = Lab::new();
    lab.forward("dns", VIP4, Transport::Udp, &[53]);
    lab.forward("dns6", VIP6, Transport::Udp, &[53]);
    lab.apply();
    for (name, vip) in [("dns", VIP4), ("dns6", VIP6)] {
        let socket = datagram_socket(&lab.client, vip, 53);
        let words = exchange(&socket).unwrap();
        assert_eq!(exchange(&socket).unwrap(), words);
        lab.group(name).endpoints.remove(usize::from(words.starts_with("b1")));
        lab.apply();
        assert_eq!(exchange(&socket).unwrap(), words, "the kernel still knows the old one");
        let Lab { node, table, rules, .. } = &mut lab;
        assert_eq!(node.enter(|| table.flush_datagrams(rules)).unwrap().unwrap(), 1);
        let moved = exchange(&socket).unwrap();
        assert_ne!(moved[..2], words[..2]);
        assert_eq!(node.enter(|| table.flush_datagrams(rules)).unwrap().unwrap(), 0);
        assert_eq!(exchange(&socket).unwrap(), moved);
    }
}

/// A router may send a flow to another node at any time.
#[test]
fn two_nodes_choose_the_same_endpoint_for_a_flow_of_datagrams() {
    let chosen = || {
        let mut lab = Lab::new();
        lab.forward("dns", VIP4, Transport::Udp, &[53]);
        lab.forward("dns6", VIP6, Transport::Udp, &[53]);
        lab.forward("range", VIP4, Transport::Udp, &[8080, 8081]).keeps_port = true;
        lab.apply();
        let ask = |(vip, port): (&str, u16), from: u16| {
            let socket = datagram_socket_from(&lab.client, from, vip, port);
            exchange(&socket).unwrap()[..2].to_owned()
        };
        let to = [(VIP4, 53), (VIP6, 53), (VIP4, 8080), (VIP4, 8081)];
        to.map(|to| (20_000..20_020).map(|from| ask(to, from)).collect::<Vec<_>>())
    };
    let [one, other] = [chosen(), chosen()];
    assert_eq!(one, other);
    for flows in &one {
        assert!(flows.iter().any(|words| *words != flows[0]), "flows are spread: {flows:?}");
    }
    assert_ne!(one[2], one[3], "each port for itself");
}

#[test]
fn clients_keep_their_addresses_where_asked_and_hairpins_work() {
    let mut lab = Lab::new();
    for (vip, client) in [(VIP4, "10.9.0.1"), (VIP6, "fd09::1")] {
        let name = format!("local{vip}");
        lab.forward(&name, vip, Transport::Tcp, &[80]).keeps_client = true;
        lab.forward(&format!("cluster{vip}"), vip, Transport::Tcp, &[81]);
        lab.apply();
        assert!(ask(&lab.client, vip, 80).ends_with(&format!(" {client}")));
        assert!(!ask(&lab.client, vip, 81).ends_with(&format!(" {client}")));
        for port in [80, 81] {
            // The node itself, and each backend, which may reach the other one or itself.
            let mut seen = BTreeMap::<String, u32>::new();
            for host in [&lab.node, &lab.backends[0], &lab.backends[1]] {
                for _ in 0..8 {
                    *seen.entry(ask(host, vip, port)[..2].to_owned()).or_default() += 1;
                }
            }
            assert_eq!(seen.len(), 2, "{seen:?}");
        }
    }
}

#[test]
fn only_the_networks_of_a_service_may_come_in_and_none_if_there_are_none() {
    let mut lab = Lab::new();
    lab.client.run(&["ip", "addr", "add", "10.9.0.9/24", "dev", "eth0"]).unwrap();
    let range = |first: &str, last: &str| (first.parse().unwrap(), last.parse().unwrap());
    let networks: Vec<(IpAddr, IpAddr)> = vec![
        range("10.9.0.1", "10.9.0.1"),
        range("192.0.2.0", "192.0.3.255"),
        range("fd09::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ];
    for vip in [VIP4, VIP6] {
        let name = format!("udp{vip}");
        lab.forward(&name, vip, Transport::Udp, &[53]).sources = Some(networks.clone());
    }
    lab.apply();
    for vip in [VIP4, VIP6] {
        exchange(&datagram_socket(&lab.client, vip, 53)).unwrap();
    }
    let stranger = lab.client.enter(|| UdpSocket::bind("10.9.0.9:0")).unwrap().unwrap();
    stranger.connect((VIP4, 53)).unwrap();
    stranger.set_read_timeout(Some(SILENCE)).unwrap();
    assert_eq!(exchange(&stranger).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    // A flow that is open ends with its client's right to come in.
    let [open, other] = [VIP4, VIP6].map(|vip| datagram_socket(&lab.client, vip, 53));
    for flow in [&open, &other] {
        exchange(flow).unwrap();
    }
    lab.group(&format!("udp{VIP4}")).sources = Some(Vec::new());
    lab.apply();
    let Lab { node, table, rules, .. } = &mut lab;
    assert!(node.enter(|| table.flush_datagrams(rules)).unwrap().unwrap() >= 1);
    open.set_read_timeout(Some(SILENCE)).unwrap();
    assert_eq!(exchange(&open).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    exchange(&other).unwrap();
    let socket = datagram_socket(&lab.client, VIP4, 53);
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    assert_eq!(exchange(&socket).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    lab.group(&format!("udp{VIP4}")).sources = None;
    lab.apply();
    exchange(&datagram_socket(&lab.client, VIP4, 53)).unwrap();
}

#[test]
fn a_range_of_ports_is_one_group_and_comes_and_goes_as_one() {
    let mut lab = Lab::new();
    let ports: Vec<u16> = (8000..9000).collect();
    lab.forward("range", VIP4, Transport::Udp, &ports).keeps_port = true;
    lab.apply();
    for port in [8080, 8081] {
        let words = exchange(&datagram_socket(&lab.client, VIP4, port)).unwrap();
        assert!(words[3..].starts_with(&port.to_string()), "{words}");
    }
    let listed = lab.ruleset();
    assert_eq!(listed.matches("dnat ip to").count(), 1);
    lab.rules.ports.retain(|(.., port), _| *port < 8081);
    lab.apply();
    exchange(&datagram_socket(&lab.client, VIP4, 8080)).unwrap();
    let refused = exchange(&datagram_socket(&lab.client, VIP4, 8081)).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn an_address_that_is_not_on_this_host_is_not_touched() {
    let mut lab = Lab::new();
    lab.node.run(&["ip", "addr", "del", "10.9.0.200/32", "dev", "eth0"]).unwrap();
    // The backend's address is forwarded, as a stranger could ask for by spec.externalIPs.
    lab.forward("web", "10.11.0.2", Transport::Tcp, &[8081]).endpoints.truncate(1);
    lab.apply();
    lab.client.run(&["ip", "route", "add", "10.11.0.0/24", "via", "10.9.0.2"]).unwrap();
    assert_eq!(ask(&lab.client, "10.11.0.2", 8081), "b1 8081 10.9.0.1");
}
