//! Services that the kernel passes on (`gatehouse.io/forwarding: kernel`), through the process: a client host, the
//! gateway host and a backend host are network namespaces on a bridge. Needs root, iproute2, nft, curl and util-linux.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    io::{BufRead as _, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use gatehouse_testbed::{
    gatehouse::gateway::{Gateway, Plan, signal},
    lan::{Host, Lan},
    wait::{self, Until, comes_true},
};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

const VIP: &str = "10.77.0.200";
const PATIENCE: Duration = Duration::from_secs(20);

/// Three hosts on one link. The backend listens on two addresses, says which, and repeats what it hears.
struct Bed {
    client: Host,
    gateway: Host,
    backend: Host,
    state: TempDir,
    _lan: Lan,
}

impl Bed {
    fn new() -> Self {
        let (lan, [client, gateway, backend]) = Lan::new(["client", "gateway", "backend"]).unwrap();
        backend.run(&["ip", "address", "add", "10.77.0.4/16", "dev", "eth0"]).unwrap();
        for (name, ip) in [("one", "10.77.0.3"), ("two", "10.77.0.4")] {
            let listener = backend.enter(|| TcpListener::bind((ip, 8000))).unwrap().unwrap();
            thread::spawn(move || {
                for mut stream in listener.incoming().map_while(Result::ok) {
                    thread::spawn(move || {
                        let client = stream.peer_addr().unwrap().ip();
                        let _ = writeln!(stream, "{name} {client}");
                        let mut copy = stream.try_clone().unwrap();
                        let _ = std::io::copy(&mut stream, &mut copy);
                    });
                }
            });
            let socket = backend.enter(|| UdpSocket::bind((ip, 8053))).unwrap().unwrap();
            thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok((_, client)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(name.as_bytes(), client);
                }
            });
        }
        let state = tempfile::tempdir().unwrap();
        Self { client, gateway, backend, state, _lan: lan }
    }

    /// The gateway on its host, ready.
    fn start(&self, endpoints: &[&str], args: &[&str]) -> Gateway {
        self.start_with(&manifest(endpoints), args)
    }

    fn start_with(&self, manifest: &str, args: &[&str]) -> Gateway {
        let prefix = self.gateway.prefix();
        let via: Vec<&str> = prefix.iter().map(String::as_str).collect();
        let plan = Plan::default().manifest("db.yaml", manifest);
        let gateway = plan.state_dir(self.state.path()).args(args).via(&via).spawn();
        let page = format!("http://{}/readyz", gateway.admin);
        let ready = || self.gateway.output(&["curl", "-fsS", "-m", "10", &page]).unwrap().0;
        assert!(comes_true(ready), "{}", gateway.output());
        gateway
    }

    fn page(&self, gateway: &Gateway, path: &str) -> String {
        let url = format!("http://{}{path}", gateway.admin);
        self.gateway.output(&["curl", "-sS", "-m", "60", &url]).unwrap().1
    }

    fn ruleset(&self) -> String {
        self.gateway.run(&["nft", "list", "ruleset"]).unwrap()
    }

    /// A connection of the client, once it is taken, and the backend's words.
    fn connect(&self, gateway: &Gateway) -> (TcpStream, String) {
        wait::eventually("the Service answers", || {
            self.dial().map_err(|error| format!("{error}: {}", gateway.output()))
        })
    }

    fn dial(&self) -> std::io::Result<(TcpStream, String)> {
        let to = SocketAddr::new(VIP.parse().unwrap(), 5432);
        let mut stream =
            self.client.enter(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let (mut words, mut byte) = (String::new(), [0]);
        while !words.ends_with('\n') {
            stream.read_exact(&mut byte)?;
            words.push(byte[0].into());
        }
        Ok((stream, words.trim().to_owned()))
    }

    /// A connection of the client from this port; the backend's words. Its end leaves the port free.
    fn dial_from(&self, port: u16) -> std::io::Result<String> {
        let new = || Socket::new(Domain::IPV4, Type::STREAM, None);
        let socket = self.client.enter(new).unwrap()?;
        socket.set_reuse_address(true)?;
        socket.set_linger(Some(Duration::ZERO))?;
        socket.bind(&SocketAddr::from(([0, 0, 0, 0], port)).into())?;
        let to = SocketAddr::new(VIP.parse().unwrap(), 5432);
        socket.connect_timeout(&to.into(), PATIENCE)?;
        let mut words = String::new();
        std::io::BufReader::new(TcpStream::from(socket)).read_line(&mut words)?;
        Ok(words.trim().to_owned())
    }

    /// The port from which the process has its only connection with a backend.
    fn port_of_process(&self) -> u16 {
        let listed =
            self.backend.run(&["ss", "-Htn", "state", "established", "sport", "=", ":8000"]);
        let listed = listed.unwrap();
        let [line] = &*listed.lines().collect::<Vec<_>>() else { panic!("{listed}") };
        line.rsplit_once(':').unwrap().1.trim().parse().unwrap()
    }

    /// A flow of its own.
    fn flow(&self) -> UdpSocket {
        let socket = self.client.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
        socket.connect((VIP, 53)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    fn datagram(&self) -> String {
        ask(&self.flow()).unwrap()
    }

    /// Has an endpoint not answer at all, or again.
    fn silence(&self, ip: &str, silent: bool) {
        let table = format!("table ip silent{} ", ip.rsplit('.').next().unwrap());
        let rules = match silent {
            true => {
                let hook = "type filter hook input priority 0;";
                format!("{table} {{\n chain c {{\n {hook}\n ip daddr {ip} drop\n }}\n}}\n")
            }
            false => format!("delete {table}\n"),
        };
        self.backend.feed(&["nft", "-f", "-"], &rules).unwrap();
    }

    /// The endpoints that the kernel has of TCP and UDP.
    fn endpoints(&self, gateway: &Gateway) -> [Option<u32>; 2] {
        let page = self.page(gateway, "/metrics");
        ["tcp", "udp"].map(|protocol| {
            let metric = format!(
                "gatehouse_kernel_endpoints{{service=\"default/db\",protocol=\"{protocol}\",family=\"ipv4\"}} "
            );
            page.lines().find_map(|line| line.strip_prefix(&metric))?.parse().ok()
        })
    }
}

/// The answer to a datagram, which is sent once.
fn ask(flow: &UdpSocket) -> std::io::Result<String> {
    flow.send(b"?")?;
    let mut buffer = [0; 64];
    let len = flow.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..len]).into_owned())
}

/// Goes on both ways.
fn goes_on(stream: &mut TcpStream) {
    stream.write_all(b"still there").unwrap();
    let mut back = [0; 11];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"still there");
}

fn manifest(endpoints: &[&str]) -> String {
    let endpoints: Vec<String> =
        endpoints.iter().map(|ip| format!("{{addresses: [{ip}], nodeName: test-node}}")).collect();
    format!(
        "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\n\
         metadata: {{name: pool, namespace: metallb-system}}\nspec: {{addresses: [\"{VIP}/32\"]}}\n---\n\
         apiVersion: metallb.io/v1beta1\nkind: L2Advertisement\n\
         metadata: {{name: l2, namespace: metallb-system}}\nspec: {{ipAddressPools: [pool]}}\n---\n\
         apiVersion: v1\nkind: Service\n\
         metadata: {{name: db, namespace: default, annotations: {{gatehouse.io/forwarding: kernel}}}}\n\
         spec:\n  type: LoadBalancer\n  ports:\n  - {{name: sql, port: 5432}}\n  \
         - {{name: dns, port: 53, protocol: UDP}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: db-1, namespace: default, labels: {{kubernetes.io/service-name: db}}}}\n\
         addressType: IPv4\nports:\n- {{name: sql, port: 8000}}\n- {{name: dns, port: 8053, protocol: UDP}}\n\
         endpoints: [{}]\n",
        endpoints.join(", ")
    )
}

const BOTH: &[&str] = &["10.77.0.3", "10.77.0.4"];

#[test]
fn the_kernel_passes_on_what_a_service_asks_it_to_until_the_process_stops() {
    let bed = Bed::new();
    bed.gateway
        .feed(
            &["nft", "-f", "-"],
            "table ip other {\n chain c {\n ip daddr 10.77.0.200 accept\n }\n}\n",
        )
        .unwrap();
    let before = bed.ruleset();
    let mut gateway = bed.start(BOTH, &[]);
    let (mut stream, words) = bed.connect(&gateway);
    // The answer comes back by the gateway, whose address the backend sees.
    assert!(words.ends_with(" 10.77.0.2"), "{words}");
    assert!(["one", "two"].contains(&&*bed.datagram()));
    assert!(
        bed.ruleset().contains("10.77.0.200 . tcp . 5432 : goto service/default/db/5432/tcp/4")
    );

    // The endpoint of an open connection goes.
    let (gone, left) = if words.starts_with("one") { (0, "two") } else { (1, "one") };
    gateway.save("db.yaml", &manifest(&[BOTH[1 - gone]]));
    let page = || bed.page(&gateway, "/metrics");
    let endpoints =
        "gatehouse_kernel_endpoints{service=\"default/db\",protocol=\"tcp\",family=\"ipv4\"} 1";
    assert!(comes_true(|| page().contains(endpoints)), "{}", page());
    for _ in 0..6 {
        assert!(bed.connect(&gateway).1.starts_with(left));
        assert_eq!(bed.datagram(), left);
    }
    goes_on(&mut stream);
    let counted = "gatehouse_kernel_connections_total{service=\"default/db\",protocol=\"tcp\",family=\"ipv4\"} 7";
    assert!(comes_true(|| page().contains(counted)), "{}", page());
    let status = bed.page(&gateway, "/status");
    assert!(status.contains("\"service\": \"default/db\""), "{status}");

    gateway.terminate();
    assert_eq!(gateway.wait().expect("the gateway ends").code(), Some(0), "{}", gateway.output());
    assert_eq!(bed.ruleset(), before, "the table is gone, and nothing else has changed");
}

#[test]
fn an_open_connection_outlives_the_last_endpoint_in_the_process_and_in_the_kernel() {
    for forwarding in ["gateway", "kernel"] {
        let bed = Bed::new();
        let manifest = |endpoints: &[&str]| {
            manifest(endpoints).replace("forwarding: kernel", &format!("forwarding: {forwarding}"))
        };
        let gateway = bed.start_with(&manifest(BOTH), &[]);
        let (mut stream, _) = bed.connect(&gateway);
        gateway.save("db.yaml", &manifest(&[]));
        let refused = || bed.dial().is_err_and(|error| error.kind() != ErrorKind::TimedOut);
        assert!(comes_true(refused), "{forwarding}: {}", gateway.output());
        let has = || bed.gateway.run(&["ip", "-o", "address", "show"]).unwrap().contains(VIP);
        goes_on(&mut stream);
        assert!(has(), "{forwarding}: its clients go on asking where it is");
        // An endpoint that comes back finds the address where it was.
        gateway.save("db.yaml", &manifest(BOTH));
        bed.connect(&gateway);
        goes_on(&mut stream);
        gateway.save("db.yaml", &manifest(&[]));
        assert!(comes_true(refused), "{forwarding}: {}", gateway.output());
        goes_on(&mut stream);
        drop(stream);
        assert!(comes_true(|| !has()), "{forwarding}: {}", gateway.output());
    }
}

/// What `docs/kernel-forwarding.md` says, on the hosts of the bed.
#[test]
fn an_address_leads_to_the_servers_of_a_control_plane_that_listen_on_all_addresses_of_their_nodes()
{
    let bed = Bed::new();
    for (host, ip, name) in [
        (&bed.gateway, "0.0.0.0", "own"),
        (&bed.backend, "10.77.0.3", "second"),
        (&bed.backend, "10.77.0.4", "third"),
    ] {
        let listener = host.enter(|| TcpListener::bind((ip, 6443))).unwrap().unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.write_all(name.as_bytes());
            }
        });
    }
    let page = include_str!("../../docs/kernel-forwarding.md");
    let (_, yaml) = page.split_once("```yaml\n").unwrap();
    let (yaml, _) = yaml.split_once("```").unwrap();
    let yaml = [("10/32", "200/32"), ("11", "2"), ("12", "3"), ("13", "4")].into_iter().fold(
        yaml.to_owned(),
        |yaml, (theirs, ours)| {
            yaml.replace(&format!("192.0.2.{theirs}"), &format!("10.77.0.{ours}"))
        },
    );
    let gateway = bed.start_with(&yaml, &[]);
    let dial = |host: &Host| {
        let mut said = String::new();
        let to = SocketAddr::new(VIP.parse().unwrap(), 6443);
        let mut stream = host.enter(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read_to_string(&mut said).map(|_| said)
    };
    // Another node, and the one that has the address.
    for host in [&bed.client, &bed.gateway] {
        let mut answered = BTreeSet::new();
        let all = || {
            answered.extend(dial(host).ok());
            answered.len() == 3
        };
        assert!(comes_true(all), "{answered:?}: {}", gateway.output());
    }
    assert!(!bed.page(&gateway, "/status").contains("ListenerClosed"));
}

#[test]
fn a_connection_outlives_a_kill_and_a_restart_that_leaves_the_rules() {
    let bed = Bed::new();
    let mut killed = bed.start(BOTH, &[]);
    let (mut stream, _) = bed.connect(&killed);
    signal(killed.pid(), "KILL");
    assert!(killed.wait().is_some());
    goes_on(&mut stream);
    // The address lives on in the kernel for a while, and so does what it is forwarded by.
    bed.dial().unwrap();

    let mut next = bed.start(BOTH, &["--leave-kernel-rules"]);
    goes_on(&mut stream);
    let (mut second, _) = bed.connect(&next);
    next.terminate();
    assert_eq!(next.wait().expect("the gateway ends").code(), Some(0), "{}", next.output());
    assert!(bed.ruleset().contains("gatehouse-l4"), "left behind");
    for stream in [&mut stream, &mut second] {
        goes_on(stream);
    }
    let last = bed.start(BOTH, &[]);
    bed.connect(&last);
    for stream in [&mut stream, &mut second] {
        goes_on(stream);
    }
    let counted = "gatehouse_kernel_connections_total{service=\"default/db\",protocol=\"tcp\",family=\"ipv4\"}";
    let count = || {
        let page = bed.page(&last, "/metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(counted)).map(str::trim);
        line.and_then(|count| count.parse::<u32>().ok()).unwrap_or_default()
    };
    assert!(comes_true(|| count() >= 4), "what was counted before is counted: {}", count());
}

#[test]
fn endpoints_whose_checks_fail_leave_the_kernel_s_maps_and_come_back() {
    let bed = Bed::new();
    let checks = "gatehouse.io/forwarding: kernel, gatehouse.io/health-check: tcp, \
                  gatehouse.io/health-check-interval: 100ms, \
                  gatehouse.io/health-check-timeout: 1s, gatehouse.io/health-check-unhealthy: \"2\"";
    let checked = manifest(BOTH).replace("gatehouse.io/forwarding: kernel", checks);
    let gateway = bed.start_with(&checked, &[]);
    let becomes = |wanted: [u32; 2]| {
        let wanted = wanted.map(Some);
        assert!(comes_true(|| bed.endpoints(&gateway) == wanted), "{}", gateway.output());
    };
    becomes([2, 2]);
    let (mut stream, words) = bed.connect(&gateway);
    let flow = bed.flow();
    let served_by = ask(&flow).unwrap();

    bed.silence("10.77.0.3", true);
    becomes([1, 1]);
    for _ in 0..8 {
        assert!(bed.dial().unwrap().1.starts_with("two"), "new connections go to the other one");
        assert_eq!(bed.datagram(), "two");
    }
    assert_eq!(ask(&flow).unwrap(), "two", "a flow of datagrams moves, wherever it was");
    if words.starts_with("two") {
        goes_on(&mut stream);
    }

    bed.silence("10.77.0.4", true);
    // Where the checks of all fail, all are tried.
    becomes([2, 2]);
    let flow = bed.flow();
    flow.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    assert_eq!(ask(&flow).unwrap_err().kind(), ErrorKind::WouldBlock, "not refused");

    bed.silence("10.77.0.4", false);
    becomes([1, 1]);
    assert!(bed.dial().unwrap().1.starts_with("two"));
    bed.silence("10.77.0.3", false);
    becomes([2, 2]);
    goes_on(&mut stream);
    let seen: BTreeSet<String> = (0..40).map(|_| bed.datagram()).collect();
    assert_eq!(seen.len(), 2, "{served_by} {seen:?}");
}

#[test]
fn an_endpoint_that_terminates_keeps_its_connections_and_flows_and_gets_no_new_ones() {
    let bed = Bed::new();
    let gateway = bed.start(BOTH, &[]);
    let (mut stream, words) = bed.connect(&gateway);
    let its = &words[..3];
    let flows = (0..64).map(|_| bed.flow());
    let flow = flows.into_iter().find(|flow| ask(flow).unwrap() == its).expect("one of many");

    let (ip, other) = if its == "one" { (BOTH[0], "two") } else { (BOTH[1], "one") };
    let ready = format!("{{addresses: [{ip}], nodeName: test-node}}");
    let conditions = "conditions: {ready: false, serving: true, terminating: true}";
    let leaving = format!("{{addresses: [{ip}], nodeName: test-node, {conditions}}}");
    gateway.save("db.yaml", &manifest(BOTH).replace(&ready, &leaving));
    assert!(comes_true(|| bed.endpoints(&gateway) == [Some(1); 2]), "{}", gateway.output());
    for _ in 0..8 {
        assert!(bed.dial().unwrap().1.starts_with(other));
        assert_eq!(bed.datagram(), other);
        goes_on(&mut stream);
        assert_eq!(ask(&flow).unwrap(), its, "a flow stays while its endpoint serves");
    }
    // It has gone.
    gateway.save("db.yaml", &manifest(&[BOTH[usize::from(its == "one")]]));
    // The kernel forgets its flows: an answer that is on its way at that instant finds no way back.
    flow.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut lost = 0;
    let moves = || match ask(&flow) {
        Ok(by) => by == other,
        Err(_) => {
            lost += 1;
            false
        }
    };
    assert!(comes_true(moves), "its flows go elsewhere");
    assert!(lost <= 1, "{lost} datagrams were not answered");
    goes_on(&mut stream);
}

#[test]
fn in_an_upgrade_no_packet_is_lost_and_one_table_is_left() {
    let bed = Bed::new();
    let mut gateway = bed.start(BOTH, &[]);
    let (mut stream, _) = bed.connect(&gateway);
    let flow = bed.flow();
    ask(&flow).unwrap();
    let over = AtomicBool::new(false);
    let (asked, last) = thread::scope(|scope| {
        let until = Until::dropped(&over);
        // Every datagram is sent once. One of a new flow, or of a new connection, asks the rules.
        let traffic = scope.spawn(|| {
            let mut asked = 0;
            while !over.load(Ordering::Relaxed) {
                ask(&flow).expect("a datagram of an old flow is answered");
                ask(&bed.flow()).expect("the first datagram of a flow is answered");
                bed.dial().expect("a new connection is taken");
                goes_on(&mut stream);
                asked += 1;
            }
            asked
        });
        let next = bed.start(BOTH, &[]);
        gateway.terminate();
        let ended = gateway.wait().expect("the predecessor ends");
        assert_eq!(ended.code(), Some(0), "{}", gateway.output());
        let succeeds = || next.output().contains("the predecessor is over");
        assert!(comes_true(succeeds), "{}", next.output());
        // Its own rules, and a look at them.
        thread::sleep(Duration::from_secs(3));
        drop(until);
        (traffic.join().unwrap(), next)
    });
    assert!(asked > 0);
    let tables = bed.gateway.run(&["nft", "list", "tables"]).unwrap();
    assert_eq!(tables.matches("gatehouse-l4").count(), 1, "{tables}");
    let counted = "gatehouse_kernel_connections_total{service=\"default/db\",protocol=\"tcp\",family=\"ipv4\"}";
    let count = || {
        let page = bed.page(&last, "/metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(counted)).map(str::trim);
        line.and_then(|count| count.parse::<u32>().ok()).unwrap_or_default()
    };
    assert!(
        comes_true(|| count() > asked),
        "{} of {asked}: what was counted before is counted",
        count()
    );
    let mut last = last;
    last.terminate();
    assert_eq!(last.wait().expect("it ends").code(), Some(0), "{}", last.output());
    assert!(!bed.ruleset().contains("gatehouse-l4"), "removed at the end");
}

/// First by the process, then by the kernel, then by the process again.
#[test]
fn connections_and_flows_go_on_when_another_one_of_both_passes_their_service_on() {
    let bed = Bed::new();
    let by =
        |who: &str| manifest(BOTH).replace("forwarding: kernel", &format!("forwarding: {who}"));
    let gateway = bed.start_with(&by("gateway"), &[]);
    let (mut first, _) = bed.connect(&gateway);
    let flow = bed.flow();
    ask(&flow).unwrap();
    let over = AtomicBool::new(false);
    let asked = thread::scope(|scope| {
        let until = Until::dropped(&over);
        let traffic = scope.spawn(|| {
            let (mut asked, mut lost) = (0, Vec::new());
            while !over.load(Ordering::Relaxed) {
                lost.extend(bed.dial().err().map(|error| format!("connection {asked}: {error}")));
                lost.extend(ask(&bed.flow()).err().map(|error| format!("flow {asked}: {error}")));
                asked += 1;
            }
            (asked, lost)
        });
        let mut end = || {
            let becomes = |wanted| comes_true(|| bed.endpoints(&gateway) == wanted);
            gateway.save("db.yaml", &by("kernel"));
            if !becomes([Some(2); 2]) {
                return Err("the kernel does not pass it on".to_owned());
            }
            thread::sleep(Duration::from_secs(1));
            said(&mut first).map_err(|error| format!("the first connection: {error}"))?;
            let (mut second, _) = bed.dial().map_err(|error| error.to_string())?;
            gateway.save("db.yaml", &by("gateway"));
            if !becomes([None; 2]) {
                return Err("the kernel still passes it on".to_owned());
            }
            thread::sleep(Duration::from_secs(1));
            said(&mut first).map_err(|error| format!("the first connection at last: {error}"))?;
            said(&mut second).map_err(|error| format!("the second connection: {error}"))?;
            // Those of the traffic end as well.
            over.store(true, Ordering::Relaxed);
            bed.gateway.run(&["nft", "flush", "ruleset"]).map_err(|error| error.to_string())?;
            if !comes_true(|| bed.ruleset().contains("gatehouse-l4")) {
                return Err("what another program has removed is not made anew".to_owned());
            }
            said(&mut second).map_err(|error| format!("after that: {error}"))?;
            drop(second);
            match comes_true(|| !bed.ruleset().contains("gatehouse-l4")) {
                true => said(&mut first).map_err(|error| format!("without a table: {error}")),
                false => Err("the table stays, though it forwards nothing any more".to_owned()),
            }
        };
        let end = end();
        drop(until);
        let (asked, lost) = traffic.join().unwrap();
        assert_eq!(end, Ok(()), "{lost:?} {}", gateway.output());
        assert_eq!(lost, Vec::<String>::new(), "of {asked}: {}", gateway.output());
        asked
    });
    assert!(asked > 0);
    // The kernel has forgotten its flows: they are the process's, which knows when an endpoint goes.
    let its = ask(&flow).unwrap();
    let (left, other) = if its == "one" { (BOTH[1], "two") } else { (BOTH[0], "one") };
    gateway
        .save("db.yaml", &manifest(&[left]).replace("forwarding: kernel", "forwarding: gateway"));
    assert!(comes_true(|| ask(&flow).unwrap() == other), "{}", gateway.output());
}

#[test]
fn a_client_with_the_port_of_a_connection_of_the_process_does_not_break_that() {
    let bed = Bed::new();
    let by =
        |who: &str| manifest(BOTH).replace("forwarding: kernel", &format!("forwarding: {who}"));
    let gateway = bed.start_with(&by("gateway"), &[]);
    let (mut first, endpoint) = bed.connect(&gateway);
    let port = bed.port_of_process();
    gateway.save("db.yaml", &by("kernel"));
    assert!(comes_true(|| bed.endpoints(&gateway) == [Some(2); 2]), "{}", gateway.output());
    // The kernel chooses at random. A port may still be taken by the connection before.
    let same = (0..40).any(|_| bed.dial_from(port).is_ok_and(|words| words == endpoint));
    assert!(same, "{}", gateway.output());
    said(&mut first).unwrap();
}

/// Says something and hears it.
fn said(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"still there")?;
    let mut back = [0; 11];
    stream.read_exact(&mut back)?;
    assert_eq!(&back, b"still there");
    Ok(())
}
