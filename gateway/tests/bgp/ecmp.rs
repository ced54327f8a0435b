//! A router spreads clients over two gateways, of which one dies, is unplugged, or leaves.
//!
//! Linux forwards by what FRR has heard: equal routes, connections spread by their addresses and
//! ports. How long an outage lasts is printed; its end is only bounded, generously, because a test
//! machine is busy.

use std::io::Read as _;
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use gatehouse_loadtest::prober::{Outage, Prober, failures, outage};

use super::lab::{Lab, enter, eventually};
use super::router::{Config, Kind, Peer, Router};
use super::support::backend::Backend;
use super::support::gateway::{Gateway, signal};
use super::{MANIFEST, ROUTES, VIP, backend, gateway};

const NODES: [(&str, u8); 2] = [("left", 11), ("right", 12)];
/// Clients are served when all attempts of this span were answered.
const QUIET: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(30);
/// No outage may last longer, even on a busy machine. 300 ms is the aim on a quiet one.
const BOUND: Duration = Duration::from_secs(5);

/// A client, the router, and two nodes with a backend each.
struct Site {
    backends: [Backend; 2],
    lab: Lab,
}

impl Site {
    /// With a gateway on each node.
    fn new() -> (Self, [Gateway; 2]) {
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
        let gateways = NODES.map(|(host, _)| start(&lab, host));
        (Self { backends, lab }, gateways)
    }

    /// FRR, whose routes are those of the kernel.
    fn router(&self) -> Router<'_> {
        let peers = NODES.map(|(_, number)| {
            let peer = Peer::new(&address(number), 64512).from("10.79.0.1");
            // A hold time that nobody waits for here.
            Peer { v6: true, bfd: Some((50, 3)), hold: 180, ..peer }
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
        let netns = self.lab.netns("client");
        let server = SocketAddr::new(VIP.parse().unwrap(), 80);
        let move_in = move || {
            enter(&netns);
            Ok(())
        };
        let client = Prober::start_in(move_in, server, "app.test").unwrap();
        assert!(client.wait_quiet(Instant::now(), QUIET, PATIENCE), "{}", self.describe(&client));
        client
    }

    /// What the client saw of something that happened at `event`, when it is served again.
    fn outage(&self, client: &Prober, event: Instant) -> Outage {
        assert!(client.wait_quiet(event, QUIET, PATIENCE), "{}", self.describe(client));
        client.settle(Instant::now());
        outage(&client.attempts(), event)
    }

    /// A client whose answer takes the backend two and a half seconds.
    fn slow(&self) -> Child {
        let mut curl = self.lab.command("client", "curl");
        curl.args(["-sS", "-m", "20", "-H", "Host: app.test", &format!("http://{VIP}/slow")]);
        curl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
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

fn start(lab: &Lab, host: &str) -> Gateway {
    let fast = "transmitInterval: 50, receiveInterval: 50";
    gateway(lab, host, &MANIFEST.replace("transmitInterval: 100, receiveInterval: 100", fast))
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
    let (site, mut gateways) = Site::new();
    let router = site.router();
    site.whole(&router);
    let client = site.client();
    site.backends.iter().for_each(|backend| drop(backend.take()));
    client.clear();
    eventually("many answers", || match client.attempts().len() {
        1000.. => Ok(()),
        some => Err(some.to_string()),
    });
    let asked = site.backends.each_ref().map(|backend| backend.take().len());
    println!("requests of {} that each node answered: {asked:?}", asked[0] + asked[1]);
    assert!(asked.iter().all(|asked| *asked > 200), "not spread: {asked:?}");

    // Its process: the kernel refuses connections until the router knows.
    let event = Instant::now();
    signal(gateways[0].pid(), "KILL");
    let killed = site.outage(&client, event);
    println!("killed: {killed:?}");
    site.wait_ways(&router, 1);
    assert!(killed.lasted.is_some_and(|lasted| lasted < BOUND), "{killed:?}");

    gateways[0] = start(&site.lab, "left");
    site.whole(&router);

    // The whole node: what is sent there is lost.
    let event = Instant::now();
    site.lab.ip("switch", "link set left down");
    let unplugged = site.outage(&client, event);
    println!("unplugged: {unplugged:?}");
    site.wait_ways(&router, 1);
    assert!(unplugged.lasted.is_some_and(|lasted| lasted < BOUND), "{unplugged:?}");

    site.lab.ip("switch", "link set left up");
    site.whole(&router);
}

#[test]
fn a_node_that_is_asked_to_end_answers_what_is_under_way_while_clients_go_to_the_other_one() {
    let (site, mut gateways) = Site::new();
    let router = site.router();
    site.whole(&router);
    let client = site.client();
    site.backends.iter().for_each(|backend| drop(backend.take()));
    let slow: Vec<_> = (0..12).map(|_| site.slow()).collect();
    let mut asked = [0, 0];
    eventually("slow requests under way on both nodes", || {
        for (asked, backend) in asked.iter_mut().zip(&site.backends) {
            let requests = backend.requests().into_iter();
            *asked += requests.filter(|request| request.target == "/slow").count();
        }
        let all = asked.iter().sum::<usize>() == slow.len() && !asked.contains(&0);
        if all { Ok(()) } else { Err(format!("{asked:?}")) }
    });

    let event = Instant::now();
    gateways[0].terminate();
    let answers: Vec<_> = slow.into_iter().map(said).collect();
    let ended = gateways[0].wait(PATIENCE);
    assert!(ended.is_some_and(|status| status.success()), "{}", gateways[0].output());
    assert!(client.wait_quiet(event, QUIET, PATIENCE), "{}", site.describe(&client));
    client.settle(Instant::now());
    let failed = failures(&client.attempts(), event);
    let broken: Vec<_> =
        answers.iter().filter(|answer| !answer.ends_with(" GET /slow\n")).collect();
    assert!(broken.is_empty(), "requests under way: {broken:#?}\nshort ones:\n{failed}");
    println!("short requests that failed:\n{failed}");
    // One whose connection is just being opened when the router leads it elsewhere is reset there.
    let lines = || failed.lines();
    assert!(lines().count() <= 2 && lines().all(|line| line.contains("Broken")), "{failed}");
    site.wait_ways(&router, 1);
}
