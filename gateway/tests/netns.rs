//! The whole on a real network: a client host, the gateway host and a backend host are network
//! namespaces on a bridge. Needs root, iproute2, arping, curl and setpriv; fails without them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::backend::{Act, Backend, echo_answer};
use support::eventually;
use support::gateway::{Gateway, Plan, signal};
use support::manifests::service;

/// Where the backend's process is told to listen; without it, it is not that process.
const BACKEND_LISTEN: &str = "GATEHOUSE_TEST_BACKEND_LISTEN";
const VIP: &str = "10.77.0.200";
const VIP6: &str = "fd77::200";

/// Three hosts on one link. Removed when dropped, also by a failing test.
struct Lan {
    id: String,
    backend: Option<Child>,
}

impl Lan {
    fn new(name: &str) -> Self {
        let lan = Self { id: format!("gh{}{name}", std::process::id()), backend: None };
        run(&["ip", "netns", "add", &lan.host("lan")]);
        run(&["ip", "-n", &lan.host("lan"), "link", "add", "br0", "type", "bridge"]);
        run(&["ip", "-n", &lan.host("lan"), "link", "set", "br0", "up"]);
        for (n, host) in ["client", "gateway", "backend"].iter().enumerate() {
            lan.plug(host, n + 1);
        }
        lan
    }

    /// The namespace of a host.
    fn host(&self, host: &str) -> String {
        format!("{}-{host}", self.id)
    }

    /// Connects a new host with addresses 10.77.0.N and fd77::N.
    fn plug(&self, host: &str, n: usize) {
        let (name, lan) = (self.host(host), self.host("lan"));
        run(&["ip", "netns", "add", &name]);
        let port = format!("p{n}");
        run(&[
            "ip", "-n", &lan, "link", "add", &port, "type", "veth", "peer", "name", "eth0",
            "netns", &name,
        ]);
        run(&["ip", "-n", &lan, "link", "set", &port, "master", "br0", "up"]);
        // Duplicate address detection would keep fd77::N tentative for the first second.
        let quick = "net.ipv6.conf.eth0.accept_dad=0";
        run(&["ip", "netns", "exec", &name, "sysctl", "-qw", quick]);
        run(&["ip", "-n", &name, "link", "set", "lo", "up"]);
        run(&["ip", "-n", &name, "address", "add", &format!("10.77.0.{n}/24"), "dev", "eth0"]);
        run(&["ip", "-n", &name, "address", "add", &format!("fd77::{n}/64"), "dev", "eth0"]);
        run(&["ip", "-n", &name, "link", "set", "eth0", "up"]);
    }

    /// Runs a command on a host; returns success and output.
    fn on(&self, host: &str, words: &[&str]) -> (bool, String) {
        let host = self.host(host);
        output(&[&["ip", "netns", "exec", &host], words].concat())
    }

    /// The body of `url` as the client host gets it for `app.test`, or what curl says.
    fn fetch(&self, url: &str) -> String {
        self.on("client", &["curl", "-gsS", "-m", "5", "-H", "Host: app.test", url]).1
    }

    /// Starts a backend on the backend host, in a process of its own.
    fn serve(&mut self) {
        let me = std::env::current_exe().unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", &self.host("backend")])
            .arg(me)
            .args(["--exact", "the_backend_host_answers", "--nocapture"])
            .env(BACKEND_LISTEN, "10.77.0.3:8000")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.backend = Some(child);
        let up = || self.on("client", &["curl", "-sS", "-m", "1", "http://10.77.0.3:8000/"]).0;
        assert!(eventually(Duration::from_secs(10), up), "the backend host answers");
    }

    /// The gateway on the gateway host, ready.
    fn gateway(&self, wrap: &[&str]) -> Gateway {
        let host = self.host("gateway");
        let via = [&["ip", "netns", "exec", &host], wrap].concat();
        let gateway = Plan::default().manifest("vip.yaml", manifest()).via(&via).spawn();
        let page = format!("http://{}/readyz", gateway.admin);
        let ready = || self.on("gateway", &["curl", "-fsS", "-m", "1", &page]).0;
        let up = eventually(Duration::from_secs(20), ready);
        assert!(up, "ready: {}\n{}", self.page(&gateway, "/readyz"), gateway.output());
        gateway
    }

    /// An admin page, asked for on the gateway host.
    fn page(&self, gateway: &Gateway, path: &str) -> String {
        let url = format!("http://{}{path}", gateway.admin);
        self.on("gateway", &["curl", "-sS", "-m", "2", &url]).1
    }

    /// The addresses of the gateway host.
    fn addresses(&self) -> String {
        self.on("gateway", &["ip", "-br", "address", "show", "dev", "eth0"]).1
    }

    fn has_vips(&self) -> [bool; 2] {
        let text = self.addresses();
        [text.contains(&format!("{VIP}/")), text.contains(&format!("{VIP6}/"))]
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        if let Some(mut backend) = self.backend.take() {
            drop(backend.kill());
            drop(backend.wait());
        }
        for host in ["client", "gateway", "backend", "lan"] {
            drop(Command::new("ip").args(["netns", "del", &self.host(host)]).status());
        }
    }
}

fn output(words: &[&str]) -> (bool, String) {
    let output = Command::new(words[0])
        .args(&words[1..])
        .output()
        .unwrap_or_else(|e| panic!("{words:?} cannot be run: {e}"));
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn run(words: &[&str]) {
    let (good, text) = output(words);
    assert!(good, "{}: {text}", words.join(" "));
}

fn manifest() -> String {
    let backend: SocketAddr = "10.77.0.3:8000".parse().unwrap();
    format!(
        "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\n\
         metadata: {{name: pool, namespace: metallb-system}}\n\
         spec: {{addresses: [\"{VIP}/32\", \"{VIP6}/128\"]}}\n---\n\
         apiVersion: metallb.io/v1beta1\nkind: L2Advertisement\n\
         metadata: {{name: l2, namespace: metallb-system}}\nspec: {{ipAddressPools: [pool]}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: gateway, namespace: default}}\n\
         spec:\n  type: LoadBalancer\n  ipFamilyPolicy: RequireDualStack\n  \
         ipFamilies: [IPv4, IPv6]\n  ports:\n  - {{name: http, port: 80}}\n  - {{name: https, port: 443}}\n---\n\
         apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {{name: gatehouse}}\n\
         spec:\n  controller: gatehouse.io/ingress\n  parameters: \
         {{kind: Service, scope: Namespace, namespace: default, name: gateway}}\n---\n\
         apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: app, namespace: default}}\n\
         spec:\n  ingressClassName: gatehouse\n  rules:\n  - host: app.test\n    http: {{paths: \
         [{{path: /, pathType: Prefix, backend: {{service: {{name: app, port: {{number: 80}}}}}}}}]}}\n---\n{}",
        service("app", &[backend])
    )
}

/// Not a claim about the gateway: the process that [`Lan::serve`] starts on the backend host.
#[test]
fn the_backend_host_answers() {
    let Ok(listen) = std::env::var(BACKEND_LISTEN) else { return };
    let _backend = Backend::on("app", TcpListener::bind(listen).unwrap(), |request| {
        let wait = Duration::from_millis(if request.target == "/slow" { 1500 } else { 0 });
        vec![Act::Wait(wait), Act::Send(echo_answer("app", request))]
    });
    // Ended by its parent, or by itself when the parent is long gone.
    std::thread::sleep(Duration::from_secs(120));
}

#[test]
fn a_vip_is_claimed_served_and_given_back() {
    let mut lan = Lan::new("v");
    lan.serve();
    let mut gateway = lan.gateway(&[]);
    let claimed = eventually(Duration::from_secs(5), || lan.has_vips() == [true; 2]);
    assert!(claimed, "{}\n{}", lan.addresses(), gateway.output());

    let (_, link) = lan.on("gateway", &["cat", "/sys/class/net/eth0/address"]);
    let mac = link.trim().to_ascii_lowercase();
    let (good, text) = lan.on("client", &["arping", "-c", "2", "-w", "5", "-I", "eth0", VIP]);
    assert!(good && text.to_ascii_lowercase().contains(&mac), "ARP answered by {mac}: {text}");

    let urls = [format!("http://{VIP}/"), format!("http://[{VIP6}]/")];
    for url in &urls {
        assert_eq!(lan.fetch(url), "app GET /\n", "{url}\n{}", gateway.output());
    }
    let (_, text) = lan.on("client", &["ip", "neighbour", "show"]);
    for vip in [VIP, VIP6] {
        let line = text.lines().find(|l| l.starts_with(&format!("{vip} "))).unwrap_or_default();
        assert!(line.to_ascii_lowercase().contains(&mac), "neighbour {vip} is {mac}: {text}");
    }

    let slow = std::thread::scope(|scope| {
        let slow = scope.spawn(|| lan.fetch(&format!("http://{VIP}/slow")));
        std::thread::sleep(Duration::from_millis(400));
        gateway.terminate();
        slow.join().unwrap()
    });
    assert_eq!(slow, "app GET /slow\n", "in flight at SIGTERM: {}", gateway.output());
    let status = gateway.wait(Duration::from_secs(10)).expect("the gateway ends");
    assert_eq!(status.code(), Some(0), "{}", gateway.output());
    assert_eq!(lan.has_vips(), [false; 2], "given back: {}", lan.addresses());
    assert!(lan.addresses().contains("10.77.0.2/24"), "the host keeps its own address");
}

#[test]
fn a_killed_gateway_leaves_its_vip_to_the_next_one() {
    let mut lan = Lan::new("k");
    lan.serve();
    let mut gateway = lan.gateway(&[]);
    let url = format!("http://{VIP}/");
    assert!(
        eventually(Duration::from_secs(5), || lan.fetch(&url) == "app GET /\n"),
        "{}",
        gateway.output()
    );
    signal(gateway.pid(), "KILL");
    assert!(gateway.wait(Duration::from_secs(5)).is_some());
    // Without a process nobody takes the address off: the kernel keeps answering ARP for it.
    assert_eq!(lan.has_vips(), [true; 2], "{}", lan.addresses());

    let mut next = lan.gateway(&[]);
    assert!(
        eventually(Duration::from_secs(5), || lan.fetch(&url) == "app GET /\n"),
        "{}",
        next.output()
    );
    next.terminate();
    assert!(next.wait(Duration::from_secs(10)).is_some_and(|s| s.success()), "{}", next.output());
    assert_eq!(lan.has_vips(), [false; 2], "adopted, so given back: {}", lan.addresses());
}

#[test]
fn without_the_privilege_it_says_so_and_serves_its_plain_address() {
    let mut lan = Lan::new("p");
    lan.serve();
    let lowered =
        ["setpriv", "--bounding-set=-net_admin,-net_raw", "--inh-caps=-net_admin,-net_raw"];
    let gateway = lan.gateway(&lowered);
    let says = || lan.page(&gateway, "/snapshot").contains("NotPermitted");
    assert!(eventually(Duration::from_secs(5), says), "{}", lan.page(&gateway, "/snapshot"));
    assert_eq!(lan.has_vips(), [false; 2]);
    let url = format!("http://{}/", gateway.http);
    let (_, text) = lan.on("gateway", &["curl", "-sS", "-m", "5", "-H", "Host: app.test", &url]);
    assert_eq!(text, "app GET /\n", "{}", gateway.output());
}
