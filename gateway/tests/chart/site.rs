//! A small network as a user has it: a cluster, its nodes and a client, with addresses to give away.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use gatehouse_testbed::{
    cluster::{Cluster, Node, eventually},
    lan::{Family, Host, Lan},
};

use super::{CHART, NAMESPACE};

/// Three nodes on a link, `192.168.1.0/24` or `2001:db8:1::/64`, beside the addresses that hosts of a link have.
pub(crate) struct Site {
    pub(crate) nodes: Vec<Node>,
    pub(crate) cluster: Cluster,
    pub(crate) client: Host,
    // Last: everything else is on it.
    _lan: Lan,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::of(Family::V4)
    }

    /// With addresses of one family. Where that is IPv6, no host has an IPv4 address but loopback's.
    pub(crate) fn of(family: Family) -> Self {
        let (lan, hosts) = Lan::new(["api", "node-1", "node-2", "node-3", "client"]).unwrap();
        for host in &hosts {
            let own = match family {
                Family::V4 => format!("192.168.1.{}/24", host.number()),
                Family::V6 => {
                    host.forget_v4().unwrap();
                    format!("2001:db8:1::{:x}/64", host.number())
                }
            };
            // Nobody else has it, and a wait for that to be found out is none of the tests' business.
            let nodad: &[&str] = if family == Family::V6 { &["nodad"] } else { &[] };
            host.run(&[&["ip", "address", "add", &own, "dev", "eth0"], nodad].concat()).unwrap();
        }
        let [api, one, two, three, client] = hosts;
        let cluster =
            Cluster::builder().host(&api).family(family).controllers(true).scheduler(true);
        let cluster = cluster.start().unwrap();
        let gatehouse = env!("CARGO_BIN_EXE_gatehouse");
        let echo = echo().to_string_lossy().into_owned();
        let images = [("gatehouse", gatehouse), ("echo", &echo), ("curl", "")];
        let nodes = cluster.add_nodes(&[&one, &two, &three], &[], &images).unwrap();
        Self { nodes, cluster, client, _lan: lan }
    }

    /// `helm install --wait`: returns when the probes of all Pods have said that they are ready.
    pub(crate) fn install(&self, set: &str) {
        let install = ["install", "gatehouse", CHART, "--namespace", NAMESPACE];
        let more = ["--create-namespace", "--set", set, "--wait", "--timeout=300s"];
        self.helm(&[&install[..], &more].concat());
    }

    pub(crate) fn helm(&self, words: &[&str]) -> String {
        let said = self.cluster.helm(words);
        said.unwrap_or_else(|error| panic!("{error:#}\n{}", self.describe()))
    }

    /// The address that the gateway's Service has got.
    pub(crate) fn address(&self) -> IpAddr {
        let path = "--output=jsonpath={.status.loadBalancer.ingress[0].ip}";
        let get = ["get", "service", "gatehouse", "--namespace", NAMESPACE, path];
        let mut found = None;
        let address = eventually("the Service has an address", || {
            found = self.cluster.kubectl(&get)?.parse().ok();
            Ok(found.is_some())
        });
        address.unwrap_or_else(|error| panic!("{error:#}\n{}", self.describe()));
        found.unwrap()
    }

    /// The node that has an address on its interface, once exactly one has.
    pub(crate) fn owner(&self, address: IpAddr) -> &Node {
        let holds = |node: &&Node| node.host().addresses("eth0").unwrap().contains(&address);
        let mut holders = Vec::new();
        let held = eventually("one node has the address", || {
            holders = self.nodes.iter().filter(holds).collect();
            Ok(holders.len() == 1)
        });
        held.unwrap_or_else(|error| panic!("{error:#}\n{}", self.describe()));
        holders[0]
    }

    /// What the client gets at a path of a host.
    pub(crate) fn get(&self, address: IpAddr, host: &str, path: &str) -> String {
        let resolve = format!("{host}:80:[{address}]");
        let url = format!("http://{host}{path}");
        self.client.output(&["curl", "-sS", "-m", "5", "--resolve", &resolve, &url]).unwrap().1
    }

    /// Logs of all Pods of the gateway.
    pub(crate) fn logs(&self) -> String {
        let get = ["get", "pods", "--namespace", NAMESPACE, "--output=name"];
        let selector = "--selector=app.kubernetes.io/component=gateway";
        let pods = self.cluster.kubectl(&[&get[..], &[selector]].concat()).unwrap_or_default();
        let log = |pod: &str| {
            let words = ["logs", "--namespace", NAMESPACE, "--tail=60", pod];
            let log = self.cluster.kubectl(&words).unwrap_or_else(|error| format!("{error:#}"));
            format!("--- {pod}\n{log}\n")
        };
        pods.lines().map(log).collect()
    }

    /// For a test that fails: objects and logs.
    pub(crate) fn describe(&self) -> String {
        let kinds = "pods,services,ingresses,endpointslices,leases,events,ipaddresspools";
        let words = ["get", kinds, "--all-namespaces", "--output=wide"];
        let objects = self.cluster.kubectl(&words).unwrap_or_else(|error| format!("{error:#}"));
        let agents =
            self.nodes.iter().map(|node| format!("{}: {}\n", node.name(), node.log_tail()));
        format!("{objects}\n{}\n{}", self.logs(), agents.collect::<String>())
    }
}

/// The echo backend, which cargo builds beside this program.
fn echo() -> PathBuf {
    let echo = Path::new(env!("CARGO_BIN_EXE_gatehouse")).with_file_name("gatehouse-loadtest");
    assert!(echo.is_file(), "cargo build -p gatehouse-loadtest -p gatehouse-testbed");
    echo
}
