//! Nodes of a cluster form a group by themselves: the Secret is made by one of them, the others are known from
//! the API server, and what it has told once is enough when it is away.
//!
//! Real processes in network namespaces on one link, with the API server on a host of the same link. Multicast
//! between the nodes is dropped, so that they find each other by what the API server says or not at all.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use gatehouse_testbed::{
    cluster::Cluster,
    group::GROUP_PORT,
    lan::{Host, Lan},
    process::{Process, Signal},
    wait::{self, comes_true},
};
use tempfile::TempDir;

const VIP: &str = "10.77.1.1";
const OBJECTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: gh}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: gh}
spec: {addresses: [10.77.1.1/32]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: pool, namespace: gh}
---
apiVersion: v1
kind: Service
metadata: {name: gateway, namespace: gh}
spec: {type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{name: http, port: 80}]}
";

struct Bed {
    nodes: Vec<Node>,
    client: Host,
    cluster: Cluster,
    _lan: Lan,
    _folder: TempDir,
}

struct Node {
    host: Host,
    folder: PathBuf,
    kubeconfig: PathBuf,
    process: Option<Process>,
}

impl Node {
    fn start(&mut self) {
        let name = self.host.name();
        let mut command = self.host.command(env!("CARGO_BIN_EXE_gatehouse"));
        command
            .args([
                "run",
                "--node",
                name,
                "--threads",
                "1",
                "--no-access-log",
                "--drain-timeout",
                "1",
            ])
            .args(["--gateway-service", "gh/gateway", "--lease-namespace", "gh"])
            .args(["--lease-duration", "4", "--renew-deadline", "3", "--retry-period", "0.5"])
            .args(["--group-secret", "gh/group", "--kubeconfig"])
            .arg(&self.kubeconfig)
            .arg("--state-dir")
            .arg(self.state());
        let log = self.folder.join(format!("{name}.log"));
        self.process = Some(Process::spawn(name, command, Some(&log)).unwrap());
    }

    fn holds(&self) -> bool {
        self.host.addresses("eth0").unwrap().contains(&VIP.parse::<IpAddr>().unwrap())
    }

    /// Waits until all these words are in the file that a process which starts without an API server reads. Changes
    /// are not written at once.
    fn has_kept(&self, words: &[&str]) {
        let file = self.state().join("objects.jsonl");
        let kept = || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            words.iter().all(|word| text.contains(word))
        };
        assert!(comes_true(kept), "{} lacks one of {words:?}", file.display());
    }

    fn state(&self) -> PathBuf {
        self.folder.join(format!("{}.state", self.host.name()))
    }

    /// What `gatehouse status` says there.
    fn status(&self) -> String {
        let mut command = self.host.command(env!("CARGO_BIN_EXE_gatehouse"));
        let output = command.arg("status").output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Bed {
    fn new() -> Self {
        let (lan, [api, one, two, three, client]) =
            Lan::new(["api", "node-1", "node-2", "node-3", "client"]).unwrap();
        lan.drop_multicast(GROUP_PORT).unwrap();
        let cluster = Cluster::builder().host(&api).start().unwrap();
        cluster.apply(&gatehouse::crds::yaml(None)).unwrap();
        wait::look(|| cluster.apply(OBJECTS).ok()).expect("the kinds are known");
        let folder = TempDir::new().unwrap();
        let node = |host| Node {
            host,
            folder: folder.path().to_owned(),
            kubeconfig: cluster.kubeconfig(),
            process: None,
        };
        let nodes = [one, two, three].map(node).into();
        Self { nodes, client, cluster, _lan: lan, _folder: folder }
    }

    /// A node joins the cluster and runs a gateway.
    fn join(&mut self, number: usize) {
        let host = &self.nodes[number].host;
        let (name, address) = (host.name().to_owned(), host.v4());
        self.cluster
            .apply(&format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n"))
            .unwrap();
        let status = format!(
            "{{\"status\":{{\"addresses\":[{{\"type\":\"InternalIP\",\"address\":\"{address}\"}}]}}}}"
        );
        let words = ["patch", "node", &name, "--subresource=status", "--type=merge", "-p", &status];
        self.cluster.kubectl(&words).unwrap();
        self.nodes[number].start();
    }

    fn holders(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|number| self.nodes[*number].holds()).collect()
    }

    /// Waits for one holder among these nodes that stays the only one for a while.
    fn one_holder(&self, among: &[usize]) -> usize {
        let one = || match self.holders()[..] {
            [holder] if among.contains(&holder) => Some(holder),
            _ => None,
        };
        let stays = |holder: &usize| self.stays(*holder, Duration::from_secs(2));
        wait::look(|| one().filter(stays)).unwrap_or_else(|| panic!("{}", self.describe()))
    }

    /// Whether for this long this node holds the address and no other one does. On a busy machine an owner may be late and
    /// be taken for dead, so a look that finds otherwise says nothing by itself.
    fn stays(&self, holder: usize, duration: Duration) -> bool {
        let until = Instant::now() + duration;
        while Instant::now() < until {
            if self.holders() != [holder] {
                return false;
            }
            thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// All these nodes know each other.
    fn know_each_other(&self, numbers: &[usize]) {
        let known = || {
            numbers.iter().all(|number| {
                let status = self.nodes[*number].status();
                status.matches(" alive ").count() == numbers.len() - 1
            })
        };
        assert!(comes_true(known), "{}", self.describe());
    }

    fn key(&self) -> Option<String> {
        let words = ["get", "secret", "group", "--namespace=gh", "-o=jsonpath={.data.key}"];
        self.cluster.kubectl(&words).ok().filter(|key| !key.is_empty())
    }

    fn describe(&self) -> String {
        let of = |node: &Node| {
            let log = node.folder.join(format!("{}.log", node.host.name()));
            format!("{}\n{}\n{}", node.host.name(), node.status(), tail(&log))
        };
        self.nodes.iter().filter(|node| node.process.is_some()).map(of).collect()
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

#[test]
fn nodes_of_a_cluster_share_an_address_without_being_told_of_each_other() {
    let mut bed = Bed::new();
    assert_eq!(bed.key(), None);
    bed.join(0);
    bed.join(1);
    bed.one_holder(&[0, 1]);
    bed.know_each_other(&[0, 1]);
    let key = bed.key().expect("the leader has made it");
    assert_eq!(bed.client.who_has(VIP.parse().unwrap()).unwrap().len(), 1);

    // Another key is taken over while everything goes on; whoever comes later has that one only.
    let unnoticed = |number: u32| {
        let holder = bed.one_holder(&[0, 1]);
        let patch = format!("{{\"stringData\":{{\"key\":\"key {number} of this group\"}}}}");
        let words = ["patch", "secret", "group", "--namespace=gh", "--type=merge", "-p", &patch];
        bed.cluster.kubectl(&words).unwrap();
        assert_ne!(bed.key().unwrap(), key, "nobody writes over it");
        bed.stays(holder, Duration::from_secs(3))
    };
    assert!((1..4).any(unnoticed), "{}", bed.describe());
    bed.join(2);
    bed.know_each_other(&[0, 1, 2]);
    let holder = bed.one_holder(&[0, 1, 2]);

    // Without the API server the group goes on: an owner that dies has a successor, and a process that
    // starts finds the others, by what was kept of them.
    bed.nodes[holder].has_kept(&[&bed.key().unwrap(), bed.nodes[2].host.name()]);
    bed.cluster.api_server().stop();
    bed.nodes[holder].process.take().unwrap().kill();
    let others: Vec<usize> = (0..3).filter(|number| *number != holder).collect();
    let gone = || !bed.holders().contains(&holder) && bed.holders().len() == 1;
    assert!(comes_true(gone), "{}", bed.describe());
    let next = bed.one_holder(&others);
    bed.nodes[holder].start();
    bed.know_each_other(&[0, 1, 2]);
    let last = bed.one_holder(&[holder, next]);
    assert_eq!(bed.client.who_has(VIP.parse().unwrap()).unwrap().len(), 1);
    for node in &mut bed.nodes {
        let process = node.process.as_mut().unwrap();
        process.signal(Signal::TERM);
        assert!(process.wait(wait::LIMIT).is_some(), "node {last} holds it");
    }
}
