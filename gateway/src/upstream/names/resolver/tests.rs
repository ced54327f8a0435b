#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    net::{IpAddr, UdpSocket},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use hickory_resolver::config::ConnectionConfig;
use tokio::task::JoinSet as Tasks;

use super::*;

const SILENT: &str = "silent.test.";
const DNS_A: u16 = 1;

/// What the name server says of names other than [`SILENT`].
#[derive(Clone, Copy, PartialEq)]
enum Says {
    /// One IPv4 address.
    Address,
    Nothing,
    /// That it cannot tell.
    Failure,
    /// That there is no such name.
    NoSuchName,
}

/// A name server on loopback, silent about [`SILENT`].
struct NameServer {
    port: u16,
    says: Arc<Mutex<Says>>,
    /// The names of the questions so far, one per datagram.
    asked: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
}

impl NameServer {
    fn start(ttl: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let port = socket.local_addr().unwrap().port();
        let (asked, stop) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
        let says = Arc::new(Mutex::new(Says::Address));
        let (seen, ends, mood) = (Arc::clone(&asked), Arc::clone(&stop), Arc::clone(&says));
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while !ends.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let (name, question) = question(&buffer[..length]);
                seen.lock().unwrap().push(name.clone());
                let says = *mood.lock().unwrap();
                if name != SILENT && says != Says::Nothing {
                    socket.send_to(&answer(&buffer[..2], question, ttl, says), from).unwrap();
                }
            }
        });
        Self { port, says, asked, stop }
    }

    fn says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == name).count()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The name of a message's question and the octets of the question.
fn question(message: &[u8]) -> (String, &[u8]) {
    let (mut name, mut at) = (String::new(), 12);
    while message[at] != 0 {
        let end = at + 1 + usize::from(message[at]);
        name += &String::from_utf8_lossy(&message[at + 1..end]);
        name.push('.');
        at = end;
    }
    (name, &message[12..at + 5])
}

/// An answer with the address 192.0.2.7 to a question for type A, an empty one to any other.
fn answer(id: &[u8], question: &[u8], ttl: u32, says: Says) -> Vec<u8> {
    let is_a = question[question.len() - 4..question.len() - 2] == DNS_A.to_be_bytes();
    let found = is_a && says == Says::Address;
    let code = match says {
        Says::Failure => 2,
        Says::NoSuchName => 3,
        Says::Address | Says::Nothing => 0,
    };
    let flags = [0x81, 0x80 | code, 0, 1, 0, u8::from(found), 0, 0, 0, 0];
    let mut message = [id, &flags, question].concat();
    if found {
        message.extend([0xc0, 12, 0, 1, 0, 1]);
        message.extend(ttl.to_be_bytes());
        message.extend([0, 4, 192, 0, 2, 7]);
    }
    message
}

struct On(u16);

impl Servers for On {
    fn resolver(&mut self) -> Result<TokioResolver, NetError> {
        self.within(&[])
    }
}

impl On {
    /// The same with domains in which names are searched, as in a Pod.
    fn within(&self, search: &[&str]) -> Result<TokioResolver, NetError> {
        let mut connection = ConnectionConfig::udp();
        connection.port = self.0;
        let server = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![connection]);
        let mut config = ResolverConfig::from_name_servers(vec![server]);
        search.iter().for_each(|domain| config.add_search(domain.parse().unwrap()));
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        if !search.is_empty() {
            builder.options_mut().ndots = 5;
        }
        built(builder)
    }
}

struct InPod(u16);

impl Servers for InPod {
    fn resolver(&mut self) -> Result<TokioResolver, NetError> {
        On(self.0).within(&["default.svc.cluster.local.", "svc.cluster.local."])
    }
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

#[tokio::test]
async fn a_silent_name_server_costs_one_question_and_no_thread_and_delays_no_other_name() {
    let server = NameServer::start(60);
    let resolver = Resolver::start_with(On(server.port), Duration::from_secs(1)).unwrap();
    let mut waiting = Tasks::new();
    let before = threads();
    for _ in 0..300 {
        let resolver = resolver.clone();
        waiting.spawn(async move { resolver.resolve(&SILENT.into()).await });
    }
    let other = resolver.resolve(&"other.test.".into()).await;
    assert_eq!(*other.addresses, [IpAddr::from([192, 0, 2, 7])]);
    assert!(!waiting.is_empty(), "nobody has given the silent one up yet");
    // Other tests start and end threads of their own meanwhile.
    assert!(threads() < before + 100, "{before} threads before, {} now", threads());
    while let Some(answer) = waiting.join_next().await {
        assert_eq!(answer.unwrap(), nothing(KEEP_FAILURE));
    }
    let asked = server.asked(SILENT);
    assert!((1..=8).contains(&asked), "{asked} datagrams for 300 requests");
    assert!(resolver.resolve(&SILENT.into()).await.addresses.is_empty(), "a failure is remembered");
    assert_eq!(server.asked(SILENT), asked);
}

#[tokio::test]
async fn an_answer_lives_as_long_as_its_records_say_within_bounds() {
    for (ttl, keep) in [(0, KEEP.0), (100_000, KEEP.1)] {
        let server = NameServer::start(ttl);
        let resolver = Resolver::start_with(On(server.port), DEADLINE).unwrap();
        assert_eq!(resolver.resolve(&"name.test.".into()).await.keep, keep, "TTL {ttl}");
    }
    let server = NameServer::start(60);
    let resolver = Resolver::start_with(On(server.port), DEADLINE).unwrap();
    let keep = resolver.resolve(&"name.test.".into()).await.keep;
    assert!(keep <= Duration::from_secs(60) && keep > Duration::from_secs(30), "{keep:?}");
    let asked = server.asked("name.test.");
    resolver.resolve(&"name.test.".into()).await;
    assert_eq!(server.asked("name.test."), asked, "what is known is not asked for");
}

#[tokio::test]
async fn what_a_name_had_last_holds_while_its_name_server_is_silent_or_fails() {
    for trouble in [Says::Nothing, Says::Failure] {
        let server = NameServer::start(0);
        let resolver =
            Resolver::start_with(InPod(server.port), Duration::from_millis(700)).unwrap();
        let name = "name.test".into();
        // The search domains have the name, too, as a wildcard would.
        let found = resolver.resolve(&name).await;
        assert_eq!(*found.addresses, [IpAddr::from([192, 0, 2, 7])]);
        server.says(trouble);
        let asked = server.asked("name.test.default.svc.cluster.local.");
        while server.asked("name.test.default.svc.cluster.local.") < asked + 2 {
            let answer = resolver.resolve(&name).await;
            assert_eq!(answer.addresses, found.addresses);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(resolver.resolve(&name).await.addresses, found.addresses);
        server.says(Says::NoSuchName);
        while !resolver.resolve(&name).await.addresses.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn addresses_and_the_hosts_file_need_no_name_server() {
    let server = NameServer::start(60);
    server.says(Says::Nothing);
    let in_pod = Resolver::start_with(InPod(server.port), Duration::from_millis(200)).unwrap();
    for address in ["192.0.2.1", "2001:db8::1"] {
        let answer = in_pod.resolve(&address.into()).await;
        assert_eq!(*answer.addresses, [address.parse::<IpAddr>().unwrap()]);
    }
    assert!(server.asked.lock().unwrap().is_empty());
    let resolver = Resolver::start().unwrap();
    let localhost = resolver.resolve(&"localhost".into()).await;
    assert!(!localhost.addresses.is_empty() && localhost.addresses.iter().all(IpAddr::is_loopback));
}
