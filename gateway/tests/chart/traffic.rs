//! Traffic through the Pods of an installation, with exactly the rights, volumes and capabilities that the chart asks
//! for, as a client on the link sees it.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use gatehouse_testbed::{
    cluster::{Node, eventually},
    prober::{Pace, Prober, failures, outage},
};

use super::{
    CHART, NAMESPACE,
    pages::{INSTALL, MIGRATION, ROUTER, Shell, TROUBLES},
    site::Site,
};

/// As a user has it who comes from MetalLB and ingress-nginx.
pub(super) const MIGRATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/migrate");
/// Answers over this time in a row are an address that is served.
const QUIET: Duration = Duration::from_secs(2);

/// A whole control plane starts on the machine meanwhile: what is answered late is answered.
const PATIENT: Pace = Pace { every: Duration::from_millis(50), timeout: Duration::from_secs(20) };

/// The Pods of one of the example's Services, on one node. `any`: the address that stands for all of their family.
fn backends(service: &str, app: &str, node: &Node, any: &str) -> String {
    format!(
        "\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {app}, namespace: default}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: {app}}}}}
  template:
    metadata: {{labels: {{app: {app}}}}}
    spec:
      nodeSelector: {{kubernetes.io/hostname: {}}}
      containers:
      - name: echo
        image: echo
        args: [echo, '--listen={any}:8080', --service={service}]
---
",
        node.name()
    )
}

/// What docs/install.md and the page about a migration say, command by command.
/// What the page about troubleshooting asks for.
const WWW: &str = "\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: www, namespace: default}
spec:
  ingressClassName: gatehouse
  rules:
  - host: www.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: nginx-service, port: {number: 80}}}}]}
";

#[test]
fn one_line_is_the_whole_installation() {
    let site = Site::new();
    let shell = Shell::new(&site);
    // Ends with `helm test`, so that the gateway has answered.
    shell.run(INSTALL, "kubectl create namespace");
    let address = site.address();
    assert_eq!(address, "192.168.1.200".parse::<IpAddr>().unwrap());
    installed_whole(&site, address);

    shell.run(INSTALL, "helm upgrade gatehouse");
    site.helm(&["uninstall", "gatehouse", "--namespace", NAMESPACE, "--wait"]);
    // The nodes have made one of their own.
    shell.sh("kubectl delete secret gatehouse-group -n gatehouse-system");
    shell.run(INSTALL, "kubectl create secret");
    let left = || Ok(site.nodes.iter().all(|node| !has(node, address)));
    eventually("the address is on no node", left).unwrap();

    // What is said of OpenShift is right where Routes come from the chart, too.
    shell.run(ROUTER, "oc get routes");
    shell.sh(
        "oc get routes -A -o yaml > routes.yaml; kubectl get services -A -o yaml > services.yaml",
    );
    shell.run(ROUTER, "gatehouse convert");
    shell.run(INSTALL, "helm install gatehouse");
    site.helm(&["uninstall", "gatehouse", "--namespace", NAMESPACE, "--wait"]);

    // Beside MetalLB, with a class of its own.
    shell.run(MIGRATION, "helm install gatehouse");
    assert_eq!(site.address(), "192.168.1.251".parse::<IpAddr>().unwrap());
}

/// One node holds the address and says so alone, interfaces are set up, and nothing was refused.
pub(super) fn installed_whole(site: &Site, address: IpAddr) {
    let mut owner = site.owner(address);
    let mut macs = Vec::new();
    let alone = eventually("its owner answers for it, and nobody else", || {
        owner = site.owner(address);
        macs = site.client.who_has(address)?.into_iter().collect();
        Ok(macs == [owner.host().mac()])
    });
    alone.unwrap_or_else(|error| panic!("{error:#}: {macs:?}\n{}", site.describe()));
    if address.is_ipv4() {
        let arp = owner.host().run(&["sysctl", "-n", "net.ipv4.conf.eth0.arp_ignore"]).unwrap();
        let why = "the settings of interfaces are not the host's";
        assert_eq!(arp.trim(), "1", "{why}:\n{}", site.logs());
    }

    for node in &site.nodes {
        assert!(node.disk().join("var/lib/gatehouse").is_dir(), "the state is not on the node");
    }
    let logs = site.logs();
    for wrong in ["forbidden", "NotPermitted", "ArpNotStrict", "GroupKeyExposed"] {
        assert!(!logs.contains(wrong), "{wrong}: {logs}");
    }
}

fn has(node: &Node, address: IpAddr) -> bool {
    node.host().addresses("eth0").unwrap().contains(&address)
}

#[test]
fn what_metallb_and_ingress_nginx_served_is_served_through_outage_upgrade_and_death() {
    let site = Site::new();
    site.install("ingressClass.claim[0]=nginx");
    site.cluster.kubectl(&["create", "namespace", "metallb-system"]).unwrap();
    site.cluster.kubectl(&["apply", "--filename", MIGRATE]).unwrap();
    let address = site.address();
    assert_eq!(address, "192.168.1.200".parse::<IpAddr>().unwrap());
    let node = example(&site, address);
    // The page says how to see beforehand what will differ: nothing that the example has.
    let shell = Shell::new(&site);
    let said = shell.run(MIGRATION, "kubectl get ingresses");
    assert!(said.contains("\n0 errors"), "{said}");
    site.cluster.apply(WWW).unwrap();
    let said = shell.run(TROUBLES, "kubectl exec");
    let answers = "is answered by Ingress default/www";
    assert!(said.contains("192.168.1.200") && said.contains(answers), "{said}");

    let server = SocketAddr::new(address, 80);
    outage_upgrade_and_death(&site, server);

    let client = Prober::start(&site.client, server, "nginx.example.com", PATIENT).unwrap();
    assert!(client.wait_quiet(Instant::now(), QUIET), "{}", site.describe());
    upgrade(&site, &client, 1, &format!("nodeSelector.kubernetes\\.io/hostname={}", node.name()));
    assert_eq!(site.owner(address).name(), node.name());
    upgrade(&site, &client, 1, "traffic.upstreamTimeout=20");
}

/// Runs the backends of the example, which is applied, until they answer: on a node that is not the address' owner, whose
/// end is watched.
pub(super) fn example(site: &Site, address: IpAddr) -> &Node {
    let owner = site.owner(address);
    let node = site.nodes.iter().find(|node| node.name() != owner.name()).unwrap();
    let any = if address.is_ipv6() { "[::]" } else { "0.0.0.0" };
    let apps = [("nginx-service", "nginx"), ("other-service", "other")];
    let pods = apps.iter().map(|(service, app)| backends(service, app, node, any));
    site.cluster.apply(&pods.collect::<String>()).unwrap();
    answers(site, address);
    node
}

/// No client of the example notices that the API server is away, nor an upgrade; a node's death, for a while.
pub(super) fn outage_upgrade_and_death(site: &Site, server: SocketAddr) {
    let client = Prober::start(&site.client, server, "nginx.example.com", PATIENT).unwrap();
    assert!(client.wait_quiet(Instant::now(), QUIET), "{}", site.describe());
    outage_of_the_api_server(site, &client);
    upgrade(site, &client, 3, "traffic.upstreamTimeout=30");
    drop(client);
    death_of_the_owner(site, server);
}

/// Both paths and both subdomains lead where the Ingresses say, and the Ingresses tell of the address.
fn answers(site: &Site, address: IpAddr) {
    for (host, path, service, seen) in [
        ("example.com", "/nginx", "nginx-service", "/"),
        ("example.com", "/other", "other-service", "/"),
        ("nginx.example.com", "/a", "nginx-service", "/a"),
        ("other.example.com", "/a", "other-service", "/a"),
    ] {
        let wanted = format!("service={service} ");
        let path_seen = format!(" path={seen} ");
        let mut answer = String::new();
        let good = eventually("it is answered", || {
            answer = site.get(address, host, path);
            Ok(answer.contains(&wanted) && answer.contains(&path_seen))
        });
        if let Err(error) = good {
            panic!("{host}{path}: {answer} {error:#}\n{}", site.describe());
        }
    }
    let get =
        ["get", "ingresses", "--output=jsonpath={.items[*].status.loadBalancer.ingress[0].ip}"];
    let told = || Ok(site.cluster.kubectl(&get)? == format!("{address} {address}"));
    eventually("the Ingresses tell of the address", told).unwrap();
}

fn assert_unnoticed(site: &Site, client: &Prober, event: Instant, what: &str) {
    client.settle(Instant::now());
    let failures = failures(&client.attempts(), event);
    assert!(failures.is_empty(), "{what}:\n{failures}{}", site.describe());
    client.clear();
}

fn outage_of_the_api_server(site: &Site, client: &Prober) {
    let event = Instant::now();
    site.cluster.api_server().stop();
    std::thread::sleep(Duration::from_secs(10));
    site.cluster.api_server().start().unwrap();
    assert!(client.wait_quiet(Instant::now(), QUIET));
    assert_unnoticed(site, client, event, "the API server was away");
}

/// A change replaces the Pods of all nodes, of which so many have one afterwards.
fn upgrade(site: &Site, client: &Prober, nodes: usize, change: &str) {
    let pods = || {
        let get = ["get", "pods", "--namespace", NAMESPACE, "--output=name"];
        site.cluster.kubectl(&get).unwrap()
    };
    let (before, event) = (pods(), Instant::now());
    let upgrade = ["upgrade", "gatehouse", CHART, "--namespace", NAMESPACE, "--reuse-values"];
    let set = ["--set", change, "--wait", "--timeout=300s"];
    site.helm(&[&upgrade[..], &set].concat());
    let others = || {
        let after = pods();
        Ok(after.lines().count() == nodes && after.lines().all(|pod| !before.contains(pod)))
    };
    let replaced = eventually("all Pods are others", others);
    replaced.unwrap_or_else(|error| panic!("{change}: {error:#}\n{}", site.describe()));
    println!("{change}: Pods of {nodes} nodes are replaced in {:?}", event.elapsed());
    assert!(client.wait_quiet(Instant::now(), QUIET));
    assert_unnoticed(site, client, event, change);
}

/// A node loses its power, and comes back.
fn death_of_the_owner(site: &Site, server: SocketAddr) {
    let address = server.ip();
    let pace = Pace::TESTING;
    let client = Prober::start(&site.client, server, "nginx.example.com", pace).unwrap();
    assert!(client.wait_quiet(Instant::now(), QUIET), "{}", site.describe());
    let pods = site.cluster.kubectl(&["get", "pods", "--output=wide"]).unwrap();
    let owner = site.owner(address);
    assert!(!pods.contains(owner.name()), "the backends would die as well:\n{pods}");
    let event = Instant::now();
    owner.kill();
    assert!(client.wait_quiet(event, QUIET), "{}", site.describe());
    client.settle(Instant::now());
    let outage = outage(&client.attempts(), event);
    println!("a node's death: {outage:?}");
    let lasted = outage.lasted.expect("it is served again");
    assert!(lasted < Duration::from_secs(30), "{lasted:?}\n{}", site.describe());
    assert_ne!(site.owner(address).name(), owner.name());
    owner.start().unwrap();
}

/// `kubectl apply --filename FOLDER` reads no folders within it: what a cluster makes itself is in one.
#[test]
fn what_only_runs_without_a_cluster_is_apart() {
    let text = |file: &Path| std::fs::read_to_string(file).unwrap();
    let entries = std::fs::read_dir(MIGRATE).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = entries.filter(|path| path.is_file()).collect();
    assert!(files.len() >= 3 && files.iter().all(|file| !text(file).contains("EndpointSlice")));
    let apart = Path::new(MIGRATE).join("without-a-cluster/10-endpoints.yaml");
    assert!(text(&apart).contains("kind: EndpointSlice"));
}
