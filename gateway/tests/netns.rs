//! The whole on a real network: a client host, the gateway host and a backend host are network
//! namespaces on a bridge. Needs root, iproute2, arping, ndisc6, curl and util-linux; fails
//! without them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend, echo_answer},
        gateway::{Gateway, Plan, signal},
        manifests::service,
    },
    lan::{Host, Lan},
    wait::{self, comes_true},
};

const VIP: &str = "10.77.0.200";
const VIP6: &str = "fd77::200";

/// Three hosts on one link, and the backend.
struct Bed {
    client: Host,
    gateway: Host,
    backend: Backend,
    _lan: Lan,
}

impl Bed {
    fn new() -> Self {
        let (lan, [client, gateway, backend]) = Lan::new(["client", "gateway", "backend"]).unwrap();
        let listener = backend.enter(|| TcpListener::bind("10.77.0.3:8000")).unwrap().unwrap();
        let backend = Backend::on("app", listener, |request| {
            let pause = Duration::from_millis(if request.target == "/slow" { 1500 } else { 0 });
            vec![Act::Wait(pause), Act::Send(echo_answer("app", request))]
        });
        Self { client, gateway, backend, _lan: lan }
    }

    /// The body of `url` as the client host gets it for `app.test`, or what curl says.
    fn fetch(&self, url: &str) -> String {
        self.client.output(&["curl", "-gsS", "-m", "60", "-H", "Host: app.test", url]).unwrap().1
    }

    /// The gateway on the gateway host, ready.
    fn start(&self, wrap: &[&str]) -> Gateway {
        self.start_with(&manifest(), wrap)
    }

    /// The same with other objects.
    fn start_with(&self, manifest: &str, wrap: &[&str]) -> Gateway {
        let prefix = self.gateway.prefix();
        let via: Vec<&str> =
            prefix.iter().map(String::as_str).chain(wrap.iter().copied()).collect();
        let gateway = Plan::default().manifest("vip.yaml", manifest).via(&via).spawn();
        let page = format!("http://{}/readyz", gateway.admin);
        let ready = || self.gateway.output(&["curl", "-fsS", "-m", "10", &page]).unwrap().0;
        let up = comes_true(ready);
        assert!(up, "ready: {}\n{}", self.page(&gateway, "/readyz"), gateway.output());
        gateway
    }

    /// An admin page, asked for on the gateway host.
    fn page(&self, gateway: &Gateway, path: &str) -> String {
        let url = format!("http://{}{path}", gateway.admin);
        self.gateway.output(&["curl", "-sS", "-m", "60", &url]).unwrap().1
    }

    /// The addresses of the gateway host.
    fn addresses(&self) -> String {
        self.gateway.run(&["ip", "-br", "address", "show", "dev", "eth0"]).unwrap()
    }

    fn has_vips(&self) -> [bool; 2] {
        let held = self.gateway.addresses("eth0").unwrap();
        [VIP, VIP6].map(|vip| held.contains(&vip.parse::<IpAddr>().unwrap()))
    }
}

/// Who answers for an address, once somebody does.
fn answering(client: &Host, vip: IpAddr) -> BTreeSet<String> {
    wait::look(|| Some(client.who_has(vip).unwrap()).filter(|macs| !macs.is_empty()))
        .unwrap_or_default()
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

#[test]
fn a_vip_is_claimed_served_and_given_back() {
    let bed = Bed::new();
    let mut gateway = bed.start(&[]);
    let claimed = comes_true(|| bed.has_vips() == [true; 2]);
    assert!(claimed, "{}\n{}", bed.addresses(), gateway.output());

    let mac = bed.gateway.mac();
    for vip in [VIP, VIP6] {
        let answering = answering(&bed.client, vip.parse().unwrap());
        assert_eq!(answering, BTreeSet::from([mac.clone()]), "who answers for {vip}");
    }

    let urls = [format!("http://{VIP}/"), format!("http://[{VIP6}]/")];
    for url in &urls {
        assert_eq!(bed.fetch(url), "app GET /\n", "{url}\n{}", gateway.output());
    }
    let text = bed.client.run(&["ip", "neighbour", "show"]).unwrap();
    for vip in [VIP, VIP6] {
        let line = text.lines().find(|l| l.starts_with(&format!("{vip} "))).unwrap_or_default();
        assert!(line.to_ascii_lowercase().contains(&mac), "neighbour {vip} is {mac}: {text}");
    }

    let slow = std::thread::scope(|scope| {
        let slow = scope.spawn(|| bed.fetch(&format!("http://{VIP}/slow")));
        let asked = || bed.backend.arrived().iter().any(|request| request.target == "/slow");
        assert!(comes_true(asked), "the request is under way");
        gateway.terminate();
        slow.join().unwrap()
    });
    assert_eq!(slow, "app GET /slow\n", "in flight at SIGTERM: {}", gateway.output());
    let status = gateway.wait().expect("the gateway ends");
    assert_eq!(status.code(), Some(0), "{}", gateway.output());
    assert_eq!(bed.has_vips(), [false; 2], "given back: {}", bed.addresses());
    assert!(bed.addresses().contains("10.77.0.2/16"), "the host keeps its own address");
}

#[test]
fn a_port_that_a_service_gives_up_is_closed_while_its_address_stays() {
    let bed = Bed::new();
    let shared = "annotations: {metallb.io/allow-shared-ip: one}";
    let with = |web: &str, names: &str| {
        let ports = "  - {name: http, port: 80}\n  - {name: https, port: 443}\n";
        let web = manifest().replace(ports, web).replace(
            "{name: gateway, namespace: default}",
            &format!("{{name: gateway, namespace: default, {shared}}}"),
        );
        let names = format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: names, namespace: default, {shared}}}\n\
             spec: {{type: LoadBalancer, loadBalancerIP: {VIP}, ports: [{names}]}}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: names-1, namespace: default, labels: {{kubernetes.io/service-name: names}}}}\n\
             addressType: IPv4\nports: [{{name: tcp, port: 53}}, {{name: udp, port: 53, protocol: UDP}}]\n\
             endpoints: [{{addresses: [10.77.0.3]}}]\n"
        );
        web + &names
    };
    let [http, https] = ["  - {name: http, port: 80}\n", "  - {name: https, port: 443}\n"];
    let [tcp, udp] = ["{name: tcp, port: 53}", "{name: udp, port: 53, protocol: UDP}"];
    let gateway = bed.start_with(&with(&[http, https].concat(), &[tcp, udp].join(", ")), &[]);
    let open = || {
        let lines = bed.gateway.run(&["ss", "-Hlntu", "src", VIP]).unwrap();
        let open = lines.lines().map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            format!("{} {}", words[0], words[4].rsplit_once(':').unwrap().1)
        });
        open.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
    };
    let becomes = |wanted: &str| {
        assert!(comes_true(|| open() == wanted), "{} for {wanted}: {}", open(), gateway.output());
    };
    becomes("tcp 443, tcp 53, tcp 80, udp 53");
    assert!(comes_true(|| bed.has_vips() == [true; 2]), "{}", gateway.output());
    let at_80 = SocketAddr::new(VIP.parse().unwrap(), 80);
    let connect = || TcpStream::connect_timeout(&at_80, wait::LIMIT);
    let mut stays = bed.client.enter(connect).unwrap().unwrap();
    stays.set_read_timeout(Some(wait::LIMIT)).unwrap();
    let mut ask = || {
        let mut answer = [0; 12];
        stays.write_all(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").unwrap();
        stays.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    };
    ask();
    // The gateway serves no clear text any more, the other Service no datagrams.
    gateway.save("vip.yaml", &with(https, tcp));
    becomes("tcp 443, tcp 53");
    let ended = stays.read_to_end(&mut Vec::new());
    assert!(ended.is_ok(), "who came in by the port leaves: {ended:?}");
    // Another protocol on the same port.
    gateway.save("vip.yaml", &with(https, udp));
    becomes("tcp 443, udp 53");
    assert_eq!(bed.has_vips(), [true; 2], "it has stayed");
}

#[test]
fn a_killed_gateway_leaves_its_vip_to_the_next_one() {
    let bed = Bed::new();
    let mut gateway = bed.start(&[]);
    let url = format!("http://{VIP}/");
    assert!(comes_true(|| bed.fetch(&url) == "app GET /\n"), "{}", gateway.output());
    signal(gateway.pid(), "KILL");
    assert!(gateway.wait().is_some());
    // Without a process nobody takes the address off: the kernel keeps answering ARP for it.
    assert_eq!(bed.has_vips(), [true; 2], "{}", bed.addresses());

    let mut next = bed.start(&[]);
    assert!(comes_true(|| bed.fetch(&url) == "app GET /\n"), "{}", next.output());
    next.terminate();
    assert!(next.wait().is_some_and(|s| s.success()), "{}", next.output());
    assert_eq!(bed.has_vips(), [false; 2], "adopted, so given back: {}", bed.addresses());
}

#[test]
fn without_the_privilege_it_says_so_and_serves_its_plain_address() {
    let bed = Bed::new();
    let lowered =
        ["setpriv", "--bounding-set=-net_admin,-net_raw", "--inh-caps=-net_admin,-net_raw"];
    let gateway = bed.start(&lowered);
    let says = || bed.page(&gateway, "/snapshot").contains("NotPermitted");
    assert!(comes_true(says), "{}", bed.page(&gateway, "/snapshot"));
    assert_eq!(bed.has_vips(), [false; 2]);
    let url = format!("http://{}/", gateway.http);
    let words = ["curl", "-sS", "-m", "60", "-H", "Host: app.test", &url];
    let (_, text) = bed.gateway.output(&words).unwrap();
    assert_eq!(text, "app GET /\n", "{}", gateway.output());
}

#[test]
fn an_address_that_another_host_has_is_replaced_for_a_service_that_did_not_ask_for_it() {
    let (pair, next) = ("10.77.0.200-10.77.0.201", "10.77.0.201");
    let bed = Bed::new();
    let stranger = format!("{VIP}/32");
    bed.client.run(&["ip", "address", "add", &stranger, "dev", "eth0"]).unwrap();
    let single = manifest()
        .replace("RequireDualStack", "SingleStack")
        .replace("[IPv4, IPv6]", "[IPv4]")
        .replace(&format!("\"{VIP}/32\", \"{VIP6}/128\""), pair);
    let mut gateway = bed.start_with(&single, &[]);
    let url = format!("http://{next}/");
    assert!(comes_true(|| bed.fetch(&url) == "app GET /\n"), "{}", gateway.output());
    let held = bed.gateway.addresses("eth0").unwrap();
    assert!(!held.contains(&VIP.parse::<IpAddr>().unwrap()), "{}", bed.addresses());
    gateway.terminate();
    assert!(gateway.wait().is_some_and(|status| status.success()), "{}", gateway.output());
}
