//! A router spreads clients over two gateways, of which one dies, is unplugged, or leaves. In a group
//! the one that leaves breaks nothing.
//!
//! Linux forwards by what FRR has heard: equal routes, connections spread by their addresses and
//! ports. How long an outage lasts is printed. That it ends shows that somebody has noticed: the hold time
//! is longer than any test waits.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use gatehouse_testbed::{
    gatehouse::{
        backend::Backend,
        gateway::{Gateway, signal},
    },
    guard,
    hosts::run,
    prober::{Outage, Outcome, Pace, Prober, failed_since, failures, outage},
    routers::{Config, Kind, Peer, Router, lab::Lab},
    wait::{self, eventually},
};
use tempfile::TempDir;

use super::{BFD, BIG, MANIFEST, ROUTES, VIP, backend, gateway};

const NODES: [(&str, u8); 2] = [("left", 11), ("right", 12)];
/// Connections on which a client waits for nothing.
const IDLE: usize = 16;
/// Bytes that are uploaded.
const UPLOAD: usize = 6 << 20;
/// Clients are served when all attempts of this span were answered.
const QUIET: Duration = Duration::from_millis(500);
/// BFD that finds a dead node as fast as may be; a busy machine may look dead to it.
const FAST: (u16, u8) = (50, 3);

/// A client, the router, and two nodes with a backend each.
struct Site {
    backends: [Backend; 2],
    lab: Lab,
    /// With the key of the group, and what is uploaded.
    files: TempDir,
    grouped: bool,
    /// Interval in ms and multiplier.
    bfd: (u16, u8),
}

impl Site {
    /// With a gateway on each node, which share a key or do not know each other.
    fn new(grouped: bool, bfd: (u16, u8)) -> (Self, [Gateway; 2]) {
        let hosts: Vec<_> = [("router", 1)].into_iter().chain(NODES).collect();
        let lab = Lab::new(&hosts);
        lab.host("client");
        lab.veth(("client", "eth0"), ("router", "eth1"));
        lab.address("client", "eth0", "10.80.0.2/24");
        lab.address("router", "eth1", "10.80.0.1/24");
        lab.ip("client", "route add default via 10.80.0.1");
        for (host, _) in NODES {
            lab.ip(host, "route add 10.80.0.0/24 via 10.79.0.1");
        }
        let backends = NODES.map(|(host, _)| backend(&lab, host, host));
        let files = guard::folder("gatehouse-ecmp-").unwrap();
        std::fs::write(files.path().join("key"), "a shared key of some length").unwrap();
        std::fs::write(files.path().join("upload"), vec![b'x'; UPLOAD]).unwrap();
        let site = Self { backends, lab, files, grouped, bfd };
        let gateways = NODES.map(|(host, _)| site.start(host));
        (site, gateways)
    }

    fn start(&self, host: &str) -> Gateway {
        let profile = |(interval, multiplier): (u16, u8)| {
            format!(
                "transmitInterval: {interval}, receiveInterval: {interval}, \
                 detectMultiplier: {multiplier}"
            )
        };
        let manifest = MANIFEST.replace(&profile(BFD), &profile(self.bfd));
        let key = self.files.path().join("key");
        // Nothing here is to end because its time is up.
        let group = ["--group-key", key.to_str().unwrap(), "--linger-timeout", "600"];
        gateway(&self.lab, host, &manifest, if self.grouped { &group } else { &[] })
    }

    /// FRR, whose routes are those of the kernel.
    fn router(&self) -> Router<'_> {
        let peers = NODES.map(|(_, number)| {
            let peer = Peer::new(&address(number), 64512).from("10.79.0.1");
            // A hold time that nobody waits for here.
            Peer { v6: true, bfd: Some(self.bfd), hold: 180, ..peer }
        });
        let peers = peers.map(|peer| Peer { password: Some("opensesame".into()), ..peer });
        let config = Config::new(64501, [10, 79, 0, 1], peers.into());
        self.lab.router(Kind::Frr, "router", Config { multipath: true, ..config })
    }

    /// Waits until the kernel of the router leads to so many nodes.
    fn wait_ways(&self, router: &Router<'_>, count: usize) {
        let hops = |count| move |text: &str| text.matches(" via ").count() == count;
        let leads = hops(count);
        router
            .wait_route(ROUTES[0], |route| route.map_or(0, |route| route.next_hops.len()) == count);
        eventually(&format!("{count} ways to {VIP}"), || {
            match self.lab.ip("router", &format!("route show {VIP}")) {
                text if leads(&text) => Ok(()),
                text => Err(text),
            }
        });
    }

    /// Waits until the router leads to both nodes and watches them.
    fn whole(&self, router: &Router<'_>) {
        self.wait_ways(router, 2);
        NODES.iter().for_each(|(_, number)| router.wait_bfd(&address(*number), true));
    }

    /// A client that is being served.
    fn client(&self) -> Prober {
        let server = SocketAddr::new(VIP.parse().unwrap(), 80);
        let client =
            Prober::start(&self.lab.namespace("client"), server, "app.test", Pace::TESTING)
                .unwrap();
        assert!(client.wait_quiet(Instant::now(), QUIET), "{}", self.describe(&client));
        client
    }

    /// What the client saw of something that happened at `event`, when it is served again.
    fn outage(&self, client: &Prober, event: Instant) -> Outage {
        assert!(client.wait_quiet(event, QUIET), "{}", self.describe(client));
        client.settle(Instant::now());
        outage(&client.attempts(), event)
    }

    /// A client whose answer takes the backend two and a half seconds.
    fn slow(&self) -> Child {
        self.curl(&["-m", "60"], "slow")
    }

    /// A client that takes its time to read an answer.
    fn download(&self) -> Child {
        let said = "%{http_code} %{size_download}";
        self.curl(&["-m", "90", "--limit-rate", "1500k", "-o", "/dev/null", "-w", said], "big")
    }

    /// A client that takes its time to send.
    fn upload(&self) -> Child {
        let file = self.files.path().join("upload");
        let file = file.to_str().unwrap();
        self.curl(&["-m", "90", "--limit-rate", "500k", "-H", "Expect:", "-T", file], "upload")
    }

    fn curl(&self, arguments: &[&str], path: &str) -> Child {
        let mut curl = self.lab.command("client", "curl");
        curl.args(["-sS", "-H", "Host: app.test"]).args(arguments);
        curl.arg(format!("http://{VIP}/{path}"));
        curl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Connections that have had an answer and wait for nothing, and which node each leads to.
    fn idle(&self) -> Vec<(String, TcpStream)> {
        let clients = self.lab.namespace("client").enter(|| {
            let open = |_| {
                let mut client = TcpStream::connect((VIP, 80)).unwrap();
                client.set_read_timeout(Some(wait::LIMIT)).unwrap();
                client.write_all(b"GET /idle HTTP/1.1\r\nHost: app.test\r\n\r\n").unwrap();
                let (mut answer, mut part) = (String::new(), [0; 1024]);
                while !answer.ends_with(" GET /idle\n") {
                    let read = client.read(&mut part).unwrap();
                    assert!(read > 0, "{answer}");
                    answer.push_str(std::str::from_utf8(&part[..read]).unwrap());
                }
                let node = answer.lines().last().and_then(|line| line.split(' ').next());
                (node.unwrap().to_owned(), client)
            };
            (0..IDLE).map(open).collect()
        });
        clients.unwrap()
    }

    /// Starts clients, at least so many, until some of them are under way on both nodes: the router may lead
    /// the first ones to one and the same. `count` says how many are on each.
    fn on_both(
        &self,
        least: usize,
        start: impl Fn() -> Child,
        mut count: impl FnMut() -> [usize; 2],
    ) -> Vec<Child> {
        let mut clients = Vec::new();
        loop {
            clients.extend((0..4).map(|_| start()));
            let on = eventually("requests under way", || match count() {
                on if on.iter().sum::<usize>() == clients.len() => Ok(on),
                on => Err(format!("{on:?} of {}", clients.len())),
            });
            if clients.len() >= least && !on.contains(&0) {
                return clients;
            }
        }
    }

    /// Counts the requests for a path that arrive at each node from now on.
    fn counter(&self, path: &'static str) -> impl FnMut() -> [usize; 2] {
        let mut asked = [0, 0];
        move || {
            for (asked, backend) in asked.iter_mut().zip(&self.backends) {
                let requests = backend.arrived().into_iter();
                *asked += requests.filter(|request| request.target == path).count();
            }
            asked
        }
    }

    fn describe(&self, client: &Prober) -> String {
        let Some(first) = client.attempts().iter().map(|attempt| attempt.started).min() else {
            return "not one attempt has ended".to_owned();
        };
        failures(&client.attempts(), first)
    }
}

fn address(number: u8) -> String {
    format!("10.79.0.{number}")
}

/// What a client got in the end, and what was wrong.
fn said(mut child: Child) -> String {
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    text
}

#[test]
fn clients_are_spread_over_two_nodes_and_one_that_dies_is_soon_forgotten() {
    let (site, mut gateways) = Site::new(false, FAST);
    let router = site.router();
    site.whole(&router);
    let client = site.client();
    site.backends.iter().for_each(|backend| drop(backend.arrived()));
    client.clear();
    // BFD this fast may take a node for dead on a busy machine: then the other one has more for a while.
    let mut count = site.counter("/");
    let asked = eventually("many answers of each node", || match count() {
        asked if asked.iter().all(|asked| *asked > 100) => Ok(asked),
        asked => Err(format!("{asked:?}")),
    });
    println!("requests of {} that each node answered: {asked:?}", asked[0] + asked[1]);

    // Its process: the kernel refuses connections until the router knows.
    let event = Instant::now();
    signal(gateways[0].pid(), "KILL");
    let killed = site.outage(&client, event);
    println!("killed: {killed:?}");
    site.wait_ways(&router, 1);

    gateways[0] = site.start("left");
    site.whole(&router);

    // The whole node: what is sent there is lost.
    let event = Instant::now();
    site.lab.ip("switch", "link set left down");
    let unplugged = site.outage(&client, event);
    println!("unplugged: {unplugged:?}");
    site.wait_ways(&router, 1);

    site.lab.ip("switch", "link set left up");
    site.whole(&router);
}

#[test]
fn without_a_group_a_node_that_is_asked_to_end_answers_what_is_under_way_while_clients_go_to_the_other_one()
 {
    let (site, mut gateways) = Site::new(false, BFD);
    let router = site.router();
    site.whole(&router);
    let client = site.client();
    site.backends.iter().for_each(|backend| drop(backend.arrived()));
    let slow = site.on_both(12, || site.slow(), site.counter("/slow"));

    let event = Instant::now();
    gateways[0].terminate();
    let answers: Vec<_> = slow.into_iter().map(said).collect();
    let ended = gateways[0].wait();
    assert!(ended.is_some_and(|status| status.success()), "{}", gateways[0].output());
    assert!(client.wait_quiet(event, QUIET), "{}", site.describe(&client));
    client.settle(Instant::now());
    let failed = failures(&client.attempts(), event);
    let broken: Vec<_> =
        answers.iter().filter(|answer| !answer.ends_with(" GET /slow\n")).collect();
    assert!(broken.is_empty(), "requests under way: {broken:#?}\nshort ones:\n{failed}");
    println!("short requests that failed:\n{failed}");
    // Those whose connection is just being opened when the router leads it elsewhere are reset there: all of
    // them were under way at that one moment.
    let lost = failed_since(&client.attempts(), event);
    let last_begun = lost.iter().map(|attempt| attempt.started).max();
    let first_ended = lost.iter().map(|attempt| attempt.started + attempt.took).min();
    assert!(last_begun <= first_ended, "{failed}");
    assert!(lost.iter().all(|attempt| attempt.outcome == Outcome::Broken), "{failed}");
    site.wait_ways(&router, 1);
}

/// Short requests all the time, and others that last longer than routers take to lead elsewhere: none
/// of them fails when `leave` makes the first node leave, on both of which some were open.
fn nothing_breaks(site: &Site, router: &Router<'_>, leave: impl FnOnce()) {
    site.whole(router);
    let client = site.client();
    site.backends.iter().for_each(|backend| drop(backend.arrived()));
    let downloads = site.on_both(12, || site.download(), site.counter("/big"));
    let arriving = || site.backends.each_ref().map(Backend::arriving_messages);
    let uploads = site.on_both(8, || site.upload(), arriving);
    let slow = site.on_both(12, || site.slow(), site.counter("/slow"));

    let event = Instant::now();
    leave();
    let slow: Vec<_> = slow.into_iter().map(said).collect();
    site.wait_ways(router, 1);
    let routed = event.elapsed();
    let downloads: Vec<_> = downloads.into_iter().map(said).collect();
    let uploads: Vec<_> = uploads.into_iter().map(said).collect();
    println!("the router knew after {routed:?}, the last was done after {:?}", event.elapsed());
    assert!(client.wait_quiet(event, QUIET), "{}", site.describe(&client));
    client.settle(Instant::now());
    let failed = failures(&client.attempts(), event);
    assert!(failed.is_empty(), "short requests that failed:\n{failed}");
    let whole = format!("200 {BIG}");
    for (what, answers, end) in [
        ("slow answers", slow, " GET /slow\n"),
        ("downloads", downloads, &*whole),
        ("uploads", uploads, " PUT /upload\n"),
    ] {
        let broken: Vec<_> = answers.iter().filter(|answer| !answer.ends_with(end)).collect();
        assert!(broken.is_empty(), "{what} that broke: {broken:#?}");
    }
    assert!(event.elapsed() > routed + Duration::from_secs(1), "nothing lasted long enough");
}

#[test]
fn in_a_group_a_node_that_is_asked_to_end_breaks_no_connection() {
    let (site, mut gateways) = Site::new(true, BFD);
    let router = site.router();
    let pid = gateways[0].pid();
    nothing_breaks(&site, &router, || signal(pid, "TERM"));
    let ended = gateways[0].wait();
    assert!(ended.is_some_and(|status| status.success()), "{}", gateways[0].output());
    eventually("the relay is gone", || {
        let mut nft = site.lab.command("right", "nft");
        match run(nft.args(["list", "ruleset"])) {
            rules if rules.is_empty() => Ok(()),
            rules => Err(rules),
        }
    });
}

#[test]
fn in_a_group_a_node_that_is_excluded_breaks_no_connection_and_may_come_back() {
    let (site, gateways) = Site::new(true, BFD);
    let router = site.router();
    let node = "{apiVersion: v1, kind: Node, metadata: {name: left, labels: {\
        node.kubernetes.io/exclude-from-external-load-balancers: \"\"}}}";
    let mut idle = Vec::new();
    nothing_breaks(&site, &router, || {
        idle = site.idle();
        gateways[0].save("node.yaml", node);
    });
    // What waits for nothing does not keep the address there until its time is up.
    idle.retain(|(node, _)| node == "left");
    assert!(!idle.is_empty(), "none of {IDLE} connections led there");
    for (_, mut client) in idle {
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "closed, not reset");
    }
    eventually("the address leaves the node", || {
        match site.lab.ip("left", "-br address show dev lo") {
            text if text.contains(VIP) => Err(text),
            _ => Ok(()),
        }
    });
    gateways[0].save("node.yaml", "{apiVersion: v1, kind: Node, metadata: {name: left}}");
    site.whole(&router);
}
