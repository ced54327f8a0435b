//! Nodes of a cluster: on each host an agent that runs the Pods of its node there.

use std::{fs, path::Path, path::PathBuf};

use anyhow::{Context as _, bail};

use super::{Cluster, credentials::Identity, eventually, member::Member};
use crate::lan::{Family, Host};

/// A node. It ends, with all its Pods, when it is dropped.
#[derive(Debug)]
pub struct Node {
    host: Host,
    agent: Member,
    folder: PathBuf,
}

impl Node {
    /// Where its Pods run: those with the host's network on it, the others behind it.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its name, which is the host's.
    pub fn name(&self) -> &str {
        self.host.name()
    }

    /// The folder that stands for the disk of the node: a `hostPath` is below it.
    pub fn disk(&self) -> PathBuf {
        self.folder.join("host")
    }

    /// Ends the agent and all Pods at once, as a loss of power does. The host and its addresses stay.
    pub fn kill(&self) {
        self.agent.stop();
    }

    /// Starts the agent again; it starts all its Pods anew.
    pub fn start(&self) -> anyhow::Result<()> {
        self.agent.start()
    }

    /// The last lines of the agent's own log.
    pub fn log_tail(&self) -> String {
        self.agent.log_tail()
    }
}

impl Cluster {
    /// Makes nodes of `hosts`, which are on the link of the cluster's own host, and waits until they are ready.
    /// `others` are told the way to the Pods too. `images`: by the last part of an image's name, the program
    /// and first arguments that it stands for; without them, containers have this machine's programs.
    pub fn add_nodes(
        &self,
        hosts: &[&Host],
        others: &[&Host],
        images: &[(&str, &str)],
    ) -> anyhow::Result<Vec<Node>> {
        let Some(own) = &self.host else { bail!("nodes need a cluster that is on a host") };
        let all: Vec<&Host> = hosts.iter().chain(others).copied().chain([own]).collect();
        let mut nodes = Vec::with_capacity(hosts.len());
        for host in hosts {
            host.run(&["sysctl", "-q", "-w", forwarding(self.family)])?;
            let (pods, via) =
                (pod_network(host, self.family), host.address(self.family).to_string());
            for other in all.iter().filter(|other| other.name() != host.name()) {
                other.run(&["ip", "route", "replace", &pods, "via", &via])?;
            }
            let node = self.node(host, images)?;
            node.start()?;
            nodes.push(node);
        }
        for node in &nodes {
            let query =
                "--output=jsonpath={.status.conditions[?(@.type=='Ready')].status} {.spec.taints}";
            eventually(&format!("{} is ready", node.name()), || {
                node.agent.check()?;
                Ok(self.kubectl(&["get", "node", node.name(), query]).is_ok_and(|is| is == "True "))
            })
            .with_context(|| node.log_tail())?;
        }
        Ok(nodes)
    }

    fn node(&self, host: &Host, images: &[(&str, &str)]) -> anyhow::Result<Node> {
        let name = host.name();
        let folder = self.folder.path().join("nodes").join(name);
        fs::create_dir_all(folder.join("host"))?;
        let user = format!("system:node:{name}");
        let Identity { certificate, key } = self.authority.client(&user, "system:nodes")?;
        fs::write(folder.join("node.crt"), certificate)?;
        fs::write(folder.join("node.key"), key)?;
        let file = |name: &str| folder.join(name).display().to_string();
        let mut flags = vec![
            format!("--name={name}"),
            format!("--number={}", host.number()),
            format!("--address={}", host.address(self.family)),
            format!("--folder={}", folder.display()),
            format!("--server=https://{}", self.api_server.address()),
            format!("--authority={}", self.authority().display()),
            format!("--certificate={}", file("node.crt")),
            format!("--key={}", file("node.key")),
        ];
        flags.extend(images.iter().map(|(name, program)| format!("--image={name}={program}")));
        let agent = Member::new(name, &host.prefix(), &agent()?, flags, &folder);
        Ok(Node { host: host.clone(), agent, folder })
    }
}

/// What a node's Pods have their addresses from.
fn pod_network(host: &Host, family: Family) -> String {
    match family {
        Family::V4 => format!("10.78.{}.0/24", host.number()),
        Family::V6 => format!("fd78:0:0:{:x}::/64", host.number()),
    }
}

/// Makes a host pass on what comes for its Pods.
const fn forwarding(family: Family) -> &'static str {
    match family {
        Family::V4 => "net.ipv4.ip_forward=1",
        Family::V6 => "net.ipv6.conf.all.forwarding=1",
    }
}

/// The agent's program, which cargo builds beside the test that calls this.
fn agent() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join("gatehouse-testbed-node"));
    let Some(agent) = found.into_iter().find(|agent: &PathBuf| Path::is_file(agent)) else {
        bail!("gatehouse-testbed-node is missing: cargo build -p gatehouse-testbed");
    };
    Ok(agent)
}
