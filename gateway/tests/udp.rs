//! Datagrams passed on to the endpoints of Services: real name servers and real clients, and what becomes of flows when
//! endpoints, clients or the process itself misbehave.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use gatehouse_testbed::{
    gatehouse::{
        client::get,
        gateway::{Gateway, Plan, free_address, signal},
    },
    namespace::Namespace,
    process::{Process, find_program},
    wait::{self, Until},
};

/// Addresses that the Service gets.
const VIPS: [&str; 2] = ["192.0.2.77", "2001:db8::77"];

/// Runs a test on a host of its own that has the addresses.
fn on_host(test: impl FnOnce() + Send) {
    let host = Namespace::new("udp").unwrap();
    host.run(&["ip", "address", "add", "192.0.2.77/32", "dev", "lo"]).unwrap();
    host.run(&["ip", "address", "add", "2001:db8::77/128", "dev", "lo", "nodad"]).unwrap();
    host.enter(test).unwrap();
}

/// A Service of type LoadBalancer at [`VIPS`], for UDP and TCP; an endpoint is an address and what is said of it.
fn balanced(port: u16, endpoints: &[(SocketAddr, &str)], annotations: &str, spec: &str) -> String {
    let [four, six] = VIPS;
    let mut text = format!(
        "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {{name: p, namespace: s}}\n\
         spec: {{addresses: [{four}/32, '{six}/128']}}\n---\n\
         apiVersion: v1\nkind: Service\n\
         metadata: {{name: dns, namespace: default, annotations: {{{annotations}}}}}\n\
         spec: {{type: LoadBalancer, ipFamilyPolicy: RequireDualStack, \
         ports: [{{name: u, port: {port}, protocol: UDP}}, {{name: t, port: {port}}}], {spec}}}\n---\n"
    );
    for (n, (endpoint, more)) in endpoints.iter().enumerate() {
        let family = if endpoint.is_ipv4() { "IPv4" } else { "IPv6" };
        text += &format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: dns-{n}, namespace: default, labels: {{kubernetes.io/service-name: dns}}}}\n\
             addressType: {family}\n\
             ports: [{{name: u, port: {port}, protocol: UDP}}, {{name: t, port: {port}}}]\n\
             endpoints: [{{addresses: ['{ip}'], nodeName: test-node{more}}}]\n---\n",
            port = endpoint.port(),
            ip = endpoint.ip(),
        );
    }
    text
}

/// A gateway in front of these endpoints.
struct Bed {
    gateway: Gateway,
    vips: [SocketAddr; 2],
}

impl Bed {
    fn start(plan: Plan, endpoints: &[SocketAddr], annotations: &str, spec: &str) -> Self {
        let port = free_address().port();
        let all: Vec<_> = endpoints.iter().map(|endpoint| (*endpoint, "")).collect();
        let plan = plan.manifest("dns.yaml", balanced(port, &all, annotations, spec));
        let vips = VIPS.map(|ip| SocketAddr::new(ip.parse().unwrap(), port));
        let bed = Self { gateway: plan.start(), vips };
        wait::eventually("the Service's ports are open", || {
            let open = bed.status()["listeners"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|listener| listener["protocol"] == "udp" && listener["open"] == true)
                .count();
            if open == 2 { Ok(()) } else { Err(bed.gateway.output()) }
        });
        bed
    }

    fn save(&self, endpoints: &[(SocketAddr, &str)], spec: &str) {
        let before = self.generation();
        self.gateway.save("dns.yaml", &balanced(self.vips[0].port(), endpoints, "", spec));
        wait::eventually("the change is live", || {
            if self.generation() > before { Ok(()) } else { Err(self.gateway.output()) }
        });
    }

    fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.gateway.page("/status")).unwrap()
    }

    fn generation(&self) -> u64 {
        self.status()["generation"].as_u64().unwrap()
    }

    /// A count of the Service's UDP.
    fn count(&self, name: &str) -> u64 {
        let status = self.status();
        let rows = status["l4"].as_array().unwrap();
        rows.iter().find(|row| row["protocol"] == "udp").unwrap()[name].as_u64().unwrap()
    }

    fn counts_to(&self, name: &str, wanted: impl Fn(u64) -> bool) {
        wait::eventually(name, || {
            if wanted(self.count(name)) { Ok(()) } else { Err(self.status()["l4"].to_string()) }
        });
    }
}

/// An endpoint that says its name, whom it sees, and what it heard.
struct Echo {
    address: SocketAddr,
    ends: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Echo {
    fn start(ip: &str, name: &'static str) -> Self {
        Self::at((ip.parse::<IpAddr>().unwrap(), 0).into(), name)
    }

    fn at(address: SocketAddr, name: &'static str) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        let ends = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok((read, from)) = socket.recv_from(&mut buffer) {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                // What is too long for an answer with a name goes back as it came.
                let answer = match read {
                    0..1000 => {
                        [format!("{name} {} ", from.port()).as_bytes(), &buffer[..read]].concat()
                    }
                    _ => buffer[..read].to_vec(),
                };
                let _ = socket.send_to(&answer, from);
            }
        });
        Self { address, ends, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = UdpSocket::bind((self.address.ip(), 0)).unwrap().send_to(b"end", self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

/// A client of its own port.
fn client_from(from: &str, to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((from.parse::<IpAddr>().unwrap(), 0)).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(wait::LIMIT)).unwrap();
    socket
}

fn client(to: SocketAddr) -> UdpSocket {
    client_from(if to.is_ipv4() { "127.0.0.1" } else { "::1" }, to)
}

/// The answer to a question: name of the endpoint and the port that it sees.
fn ask(socket: &UdpSocket) -> (String, String) {
    try_ask(socket).unwrap()
}

fn try_ask(socket: &UdpSocket) -> std::io::Result<(String, String)> {
    socket.send(b"hello")?;
    let mut buffer = [0; 100];
    let read = socket.recv(&mut buffer)?;
    let text = String::from_utf8(buffer[..read].to_vec()).unwrap();
    let words: Vec<_> = text.split(' ').collect();
    assert_eq!(words[2], "hello");
    Ok((words[0].to_owned(), words[1].to_owned()))
}

/// A name server of Debian, with a short answer and one that is larger than a packet.
fn unbound(folder: &std::path::Path, address: SocketAddr, more: &str) -> Process {
    let long: String = (0..14)
        .map(|n| format!("  local-data: 'long.test. TXT \"{n:02}{}\"'\n", "x".repeat(240)))
        .collect();
    let config = format!(
        "server:\n  interface: {ip}@{port}\n  port: {port}\n  do-daemonize: no\n  username: ''\n  chroot: ''\n  \
         pidfile: ''\n  directory: '{folder}'\n  use-syslog: no\n  logfile: ''\n  edns-buffer-size: 4096\n  \
         max-udp-size: 4096\n  access-control: 0.0.0.0/0 allow\n  access-control: ::0/0 allow\n  \
         local-zone: 'test.' static\n  local-data: 'short.test. A 192.0.2.1'\n{long}{more}",
        ip = address.ip(),
        port = address.port(),
        folder = folder.display(),
    );
    let file = folder.join("unbound.conf");
    fs::write(&file, config).unwrap();
    let program = find_program("unbound").expect("unbound is installed by .ci/setup");
    let log = folder.join("unbound.log");
    let words = ["-d", "-c", file.to_str().unwrap()];
    let server = Process::start("unbound", &program, words, Some(&log)).unwrap();
    wait::eventually("the name server answers", || {
        let answer = dig(address, &["short.test"]);
        if answer.contains("192.0.2.1") || !more.is_empty() && log_says_started(&log) {
            Ok(())
        } else {
            Err(answer)
        }
    });
    server
}

fn log_says_started(log: &std::path::Path) -> bool {
    fs::read_to_string(log).is_ok_and(|text| text.contains("start of service"))
}

/// What dig says, over UDP alone.
fn dig(server: SocketAddr, words: &[&str]) -> String {
    let done = Command::new("dig")
        .args([&format!("@{}", server.ip()), "-p", &server.port().to_string()])
        .args(["+short", "+ignore", "+notcp", "+tries=1", "+timeout=5"])
        .args(words)
        .output()
        .unwrap();
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

#[test]
fn names_are_resolved_over_both_families_and_long_answers_come_whole() {
    on_host(|| {
        let folder = tempfile::tempdir().unwrap();
        let address = SocketAddr::new("127.0.0.1".parse().unwrap(), free_address().port());
        let _server = unbound(folder.path(), address, "");
        let bed = Bed::start(Plan::default(), &[address], "", "");
        for vip in bed.vips {
            assert_eq!(dig(vip, &["short.test"]), "192.0.2.1\n");
            let long = dig(vip, &["+bufsize=4096", "long.test", "TXT"]);
            assert_eq!(long.lines().count(), 14, "{long}");
        }
        bed.counts_to("forwarded", |count| count >= 4);
        bed.counts_to("bytes_out", |bytes| bytes > 2 * 14 * 240);
    });
}

#[test]
fn a_name_server_is_told_who_its_clients_are() {
    on_host(|| {
        let folder = tempfile::tempdir().unwrap();
        let address = SocketAddr::new("127.0.0.1".parse().unwrap(), free_address().port());
        let more = format!(
            "  proxy-protocol-port: {}\n  access-control: 127.0.0.3/32 refuse\n",
            address.port()
        );
        let _server = unbound(folder.path(), address, &more);
        let annotations = "gatehouse.io/proxy-protocol: v2";
        let bed = Bed::start(Plan::default(), &[address], annotations, "");
        assert_eq!(dig(bed.vips[0], &["-b", "127.0.0.2", "short.test"]), "192.0.2.1\n");
        let refused = dig(bed.vips[0], &["-b", "127.0.0.3", "+noshort", "+comments", "short.test"]);
        assert!(refused.contains("REFUSED"), "{refused}");
        assert_eq!(dig(bed.vips[1], &["short.test"]), "192.0.2.1\n");
    });
}

#[test]
fn datagrams_of_every_size_go_both_ways_and_bulk_arrives() {
    on_host(|| {
        let echo = Echo::start("127.0.0.1", "a");
        let bed = Bed::start(Plan::default(), &[echo.address], "", "");
        for vip in bed.vips {
            let socket = client(vip);
            let mut buffer = vec![0; 65_536];
            for size in [0, 1, 999, 1000, 1472, 1473, 9000, 65_000, 65_507] {
                if vip.is_ipv6() && size > 65_487 {
                    continue;
                }
                let sent: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
                assert_eq!(socket.send(&sent).unwrap(), size);
                let read = socket.recv(&mut buffer).unwrap();
                let heard = &buffer[..read];
                assert!(heard.ends_with(&sent) && (size < 1000 || read == size), "{size}: {read}");
            }
        }
        // iperf3 speaks TCP of the same port to agree on a test, and counts what is lost.
        let server = SocketAddr::new("127.0.0.1".parse().unwrap(), free_address().port());
        let program = find_program("iperf3").expect("iperf3 is installed by .ci/setup");
        let port = server.port().to_string();
        let words = ["-s", "-B", "127.0.0.1", "-p", &port];
        let _iperf = Process::start("iperf3", &program, words, None).unwrap();
        bed.save(&[(server, "")], "");
        let port = bed.vips[0].port().to_string();
        // A server that does not listen yet refuses, and its client says so.
        let told = wait::eventually("a test is made", || {
            let done = Command::new(&program)
                .args(["-c", VIPS[0], "-p", &port, "-u", "-b", "20M", "-n", "4M", "-J"])
                .output()
                .unwrap();
            let told: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
            if told["error"].is_null() { Ok(told) } else { Err(told["error"].to_string()) }
        });
        let sum = &told["end"]["sum"];
        let (packets, lost) = (sum["packets"].as_u64(), sum["lost_packets"].as_u64());
        assert!(packets.unwrap() > 60 && lost.unwrap() * 10 < packets.unwrap(), "{told}");
    });
}

#[test]
fn a_flow_keeps_its_endpoint_while_that_is_there_and_its_client_may_come_in() {
    on_host(|| {
        let [a, b] = [Echo::start("127.0.0.1", "a"), Echo::start("::1", "b")];
        let all = [a.address, b.address];
        let bed = Bed::start(Plan::default(), &all, "", "");
        let clients: Vec<_> = (0..40).map(|_| client(bed.vips[0])).collect();
        let first: Vec<_> = clients.iter().map(ask).collect();
        let names: BTreeSet<_> = first.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names.len(), 2, "flows of one client are spread");
        assert_eq!(clients.iter().map(ask).collect::<Vec<_>>(), first, "same endpoint, same port");
        // One that is going away keeps the flows that it has, and gets no other.
        let going = ", conditions: {ready: false, serving: true, terminating: true}";
        bed.save(&[(a.address, going), (b.address, "")], "");
        assert_eq!(clients.iter().map(ask).collect::<Vec<_>>(), first);
        let later: BTreeSet<_> = (0..40).map(|_| ask(&client(bed.vips[0])).0).collect();
        assert_eq!(later, BTreeSet::from(["b".to_owned()]));
        // One that has gone has none, and the others stay.
        bed.save(&[(b.address, "")], "");
        for (socket, before) in clients.iter().zip(&first) {
            let now = ask(socket);
            assert_eq!(now.0, "b");
            assert_eq!(now == *before, before.0 == "b");
        }
        // A client that may come in no more is not heard.
        bed.save(&[(b.address, "")], "loadBalancerSourceRanges: [127.0.0.2/32]");
        clients[0].send(b"hello").unwrap();
        bed.counts_to("denied", |count| count == 1);
        assert_eq!(ask(&client_from("127.0.0.2", bed.vips[0])).0, "b");
        // And a client's port does not count where the Service says so.
        let spec = "sessionAffinity: ClientIP";
        bed.save(&[(a.address, ""), (b.address, "")], spec);
        // (A client that has no flow yet: a flow whose port is taken again would go on where it was.)
        let asked = (0..20).map(|_| ask(&client_from("127.0.0.3", bed.vips[0])).0);
        assert_eq!(asked.collect::<BTreeSet<_>>().len(), 1);
    });
}

#[test]
fn an_endpoint_that_refuses_loses_its_flows_and_its_clients_hear_of_it() {
    on_host(|| {
        let (a, b) = (Echo::start("127.0.0.1", "a"), Echo::start("127.0.0.1", "b"));
        let bed = Bed::start(Plan::default(), &[a.address, b.address], "", "");
        let clients: Vec<_> = (0..20).map(|_| client(bed.vips[0])).collect();
        let first: Vec<_> = clients.iter().map(ask).collect();
        let at = a.address;
        drop(a);
        let mut told = 0;
        for (socket, before) in clients.iter().zip(&first) {
            let now = wait::eventually("another endpoint answers", || {
                try_ask(socket).map_err(|error| {
                    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                    told += 1;
                    error.to_string()
                })
            });
            assert_eq!(now.0, "b");
            assert_eq!(now == *before, before.0 == "b");
        }
        assert!(told >= 1, "a client whose endpoint refused has heard of it");
        bed.counts_to("failed", |count| count >= 1);
        wait::eventually("it is ejected", || {
            let ejected = bed.status()["ejected"].clone();
            let so = ejected[0]["endpoint"] == at.to_string();
            if so { Ok(()) } else { Err(ejected.to_string()) }
        });
        // Nobody is there: clients hear that, too.
        drop(b);
        let lost = client(bed.vips[1]);
        wait::eventually("the client hears that nobody is there", || match try_ask(&lost) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            other => Err(format!("{other:?}")),
        });
        // One comes back and has new flows again.
        let _a = Echo::at(at, "a");
        wait::eventually("it gets flows again", || match try_ask(&client(bed.vips[0])) {
            Ok((name, _)) if name == "a" => Ok(()),
            other => Err(format!("{other:?}")),
        });
        wait::eventually("it is well again", || {
            let _ = try_ask(&client(bed.vips[0]));
            let ejected = bed.status()["ejected"].to_string();
            if ejected.contains(&at.to_string()) { Err(ejected) } else { Ok(()) }
        });
    });
}

#[test]
fn a_flood_from_many_addresses_ends_no_flow_that_talks() {
    on_host(|| {
        let echo = Echo::start("127.0.0.1", "a");
        // An eighth of the descriptors is for sessions: 120.
        let plan = Plan::default().via(&["prlimit", "--nofile=1024:1024"]);
        let bed = Bed::start(plan, &[echo.address], "", "");
        let talking: Vec<_> = (0..20).map(|_| client(bed.vips[0])).collect();
        let before: Vec<_> = talking
            .iter()
            .map(|socket| {
                ask(socket);
                ask(socket)
            })
            .collect();
        for n in 0..3000u32 {
            let from = format!("127.1.{}.{}", n / 250, 1 + n % 250);
            let socket = UdpSocket::bind((from.parse::<IpAddr>().unwrap(), 0)).unwrap();
            socket.send_to(b"lie", bed.vips[0]).unwrap();
            // An answer says that all before it have been taken.
            if n.is_multiple_of(50) {
                ask(&talking[(n / 50 % 20) as usize]);
            }
        }
        bed.counts_to("evicted", |count| count > 500);
        assert!(bed.count("open") <= 120, "{}", bed.status()["l4"]);
        assert_eq!(talking.iter().map(ask).collect::<Vec<_>>(), before);
        assert_eq!(bed.count("full"), 0);
    });
}

/// One address and port after another, as long as it lives: what a flood of lies looks like.
struct Flood {
    sent: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Flood {
    fn start(to: SocketAddr) -> Self {
        let (sent, ends) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, end) = (Arc::clone(&sent), Arc::clone(&ends));
        let thread = thread::spawn(move || {
            for n in 0u32.. {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let from = Ipv4Addr::from_bits(0x7f01_0001 + n % 0xf_0000);
                let Ok(socket) = UdpSocket::bind((from, 0)) else { continue };
                if socket.send_to(b"lie", to).is_ok() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { sent, ends, thread: Some(thread) }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

/// The most of something that changes all the time.
struct Watch {
    ends: Arc<AtomicBool>,
    thread: thread::JoinHandle<usize>,
}

impl Watch {
    fn start(of: impl Fn() -> usize + Send + 'static) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let mut most = 0;
            while !end.load(Ordering::Relaxed) {
                most = most.max(of());
                thread::sleep(Duration::from_millis(1));
            }
            most
        });
        Self { ends, thread }
    }

    fn end(self) -> usize {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[test]
fn a_flood_of_flows_takes_no_more_descriptors_than_sessions_may_and_leaves_a_turn_to_all_else() {
    on_host(|| {
        let echo = Echo::start("127.0.0.1", "a");
        // An eighth of the descriptors is for sessions: 504. 64 more may wait to be closed.
        let plan = Plan::default().via(&["prlimit", "--nofile=4096:4096"]);
        let bed = Bed::start(plan, &[echo.address], "", "");
        let talking: Vec<_> = (0..10).map(|_| client(bed.vips[0])).collect();
        let twice = |socket| [ask(socket), ask(socket)];
        let before: Vec<_> = talking.iter().map(twice).collect();
        let folder = format!("/proc/{}/fd", bed.gateway.pid());
        let descriptors = move || fs::read_dir(&folder).map_or(0, Iterator::count);
        let own = descriptors();
        let most = Watch::start(descriptors);
        let flood = Flood::start(bed.vips[0]);
        let mut round = 0;
        while round < 10
            || flood.sent.load(Ordering::Relaxed) < 30_000
            || bed.count("evicted") < 1_000
        {
            // All of a queue that has filled up is there at once.
            let sent = flood.sent.load(Ordering::Relaxed);
            signal(bed.gateway.pid(), "STOP");
            wait::eventually("the queue is full", || {
                let more = flood.sent.load(Ordering::Relaxed) - sent;
                if more > 1_000 { Ok(()) } else { Err(more.to_string()) }
            });
            signal(bed.gateway.pid(), "CONT");
            // What HTTP is asked meanwhile is answered,
            let answer = get(bed.gateway.http, "nobody.test", "/");
            assert_eq!(answer.status(), 404, "{}", bed.gateway.output());
            // and who talks with a backend goes on with it. The queue of the port is the flood's, too, so some are lost.
            let at = round % talking.len();
            let socket = &talking[at];
            socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            wait::eventually("a flow goes on", || match try_ask(socket) {
                Ok(answer) if answer == before[at][1] => Ok(()),
                other => Err(format!("{other:?}, before {:?}", before[at])),
            });
            round += 1;
        }
        drop(flood);
        let most = most.end();
        // Ten for what HTTP and this test's questions take.
        assert!(most <= own + 504 + 64 + 10, "{most} descriptors, {own} of them without the flood");
        bed.counts_to("open", |count| count <= 504);
    });
}

#[test]
fn a_successor_reads_what_its_predecessor_does_not_and_nothing_is_lost() {
    on_host(|| {
        let echo = Echo::start("127.0.0.1", "a");
        let folder = tempfile::tempdir().unwrap();
        let plan = || Plan::default().state_dir(folder.path());
        let bed = Bed::start(plan(), &[echo.address], "", "");
        let socket = client(bed.vips[0]);
        let before = ask(&socket);
        let all = [(echo.address, "")];
        let successor =
            plan().manifest("dns.yaml", balanced(bed.vips[0].port(), &all, "", "")).start();
        for _ in 0..50 {
            assert_eq!(ask(&socket), before, "the predecessor's flows are its own");
        }
        bed.gateway.terminate();
        let (mut gateway, over) = (bed.gateway, AtomicBool::new(false));
        thread::scope(|scope| {
            let until = Until::dropped(&over);
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(ask(&socket).0, "a");
                }
            });
            let ended = gateway.wait();
            drop(until);
            assert!(ended.unwrap().success(), "{}", gateway.output());
        });
        assert_ne!(ask(&socket), before, "the successor has a socket of its own");
        drop(successor);
    });
}
