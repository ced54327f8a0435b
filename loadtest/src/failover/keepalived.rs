//! Keepalived under the same strikes: VRRP for the addresses, the echo backend as the server on each node.
//!
//! To be fair, a strike hits the server as well where it would hit both in gatehouse (killed, hung), and
//! leaves it alone where it may finish its work (SIGTERM). Addresses that a killed keepalived leaves on its
//! interface are only taken off when the node is repaired: keepalived has no fence.

use std::{
    fs,
    net::IpAddr,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use gatehouse_testbed::{
    group::{NODES, VIPS},
    guard,
    lan::{Host, Lan},
    process::{self, Process, Signal},
    wait,
};
use tempfile::TempDir;

use super::{Strike, cluster::Cluster};

/// The owner must not change for this long before the group counts as whole.
const STILL: Duration = Duration::from_secs(1);

/// How keepalived is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tuning {
    /// Its defaults: an advertisement per second.
    Default,
    /// VRRP version 3 with an advertisement every 100 ms, as often as gatehouse's heartbeats.
    Fast,
}

/// Three nodes with keepalived and a server each.
pub(super) struct Group {
    // Declared first: processes end before their link goes.
    nodes: Vec<Node>,
    lan: Lan,
    client: Host,
    tuning: Tuning,
    _folder: TempDir,
}

struct Node {
    host: Host,
    keepalived: Option<Process>,
    server: Option<Process>,
    program: PathBuf,
    /// Configuration, log and pid files begin with this.
    files: PathBuf,
}

impl Group {
    /// Starts them; the first node is the one that keepalived prefers.
    pub(super) fn start(tuning: Tuning) -> anyhow::Result<Self> {
        let program = process::find_program("keepalived").context("keepalived is missing")?;
        let folder = guard::folder("gatehouse-vrrp-")?;
        let (lan, [one, two, three, client]) = Lan::new(["node-1", "node-2", "node-3", "client"])?;
        let mut nodes = Vec::with_capacity(NODES);
        for (number, host) in [one, two, three].into_iter().enumerate() {
            let files = folder.path().join(host.name());
            fs::write(files.with_extension("conf"), configuration(host.name(), number, tuning))?;
            let (program, keepalived, server) = (program.clone(), None, None);
            let mut node = Node { host, keepalived, server, program, files };
            node.start_server()?;
            node.start_keepalived()?;
            nodes.push(node);
        }
        Ok(Self { nodes, lan, client, tuning, _folder: folder })
    }

    fn owner(&self, vip: IpAddr) -> anyhow::Result<Option<usize>> {
        let mut owners = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            if node.host.addresses("eth0")?.contains(&vip) {
                owners.push(number);
            }
        }
        Ok(if let [owner] = owners[..] { Some(owner) } else { None })
    }
}

impl Node {
    fn start_server(&mut self) -> anyhow::Result<()> {
        let me = std::env::current_exe()?;
        let mut command = self.host.command(&me.to_string_lossy());
        command.args(["echo", "--threads", "1", "--service", "app", "--endpoint"]);
        command.args([self.host.name(), "--listen", "0.0.0.0:80", "--also", "[::]:80=app"]);
        let log = self.files.with_extension("server.log");
        self.server = Some(Process::spawn("echo", command, Some(&log))?);
        Ok(())
    }

    fn start_keepalived(&mut self) -> anyhow::Result<()> {
        // What a killed one left behind; it fails for what is not there.
        for vip in VIPS {
            self.host.output(&["ip", "address", "del", &vip.to_string(), "dev", "eth0"])?;
        }
        let file = |name| self.files.with_extension(name);
        // Another process may have the number by now; keepalived would take it for itself and end.
        for left in ["pid", "vrrp-pid"] {
            drop(fs::remove_file(file(left)));
        }
        let mut command = self.host.command(&self.program.to_string_lossy());
        command.args(["--dont-fork", "--log-console", "--vrrp", "--use-file"]);
        command.arg(file("conf")).arg("--pid").arg(file("pid"));
        command.arg("--vrrp_pid").arg(file("vrrp-pid"));
        self.keepalived = Some(Process::spawn("keepalived", command, Some(&file("log")))?);
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Its child would outlive it otherwise.
        for process in [&mut self.keepalived, &mut self.server].into_iter().flatten() {
            process.kill_tree();
        }
    }
}

impl Cluster for Group {
    fn name(&self) -> &'static str {
        match self.tuning {
            Tuning::Default => "keepalived",
            Tuning::Fast => "keepalived 100ms",
        }
    }

    fn client(&self) -> &Host {
        &self.client
    }

    /// Keepalived takes an address back as soon as its first node is there again.
    fn whole(&mut self, vip: IpAddr) -> anyhow::Result<usize> {
        let deadline = Instant::now() + wait::LIMIT;
        let mut since = None;
        loop {
            process::check_stopping()?;
            for node in &mut self.nodes {
                for process in [&mut node.keepalived, &mut node.server].into_iter().flatten() {
                    process.check()?;
                }
            }
            since = match (self.owner(vip)?, since) {
                (Some(0), None) => Some(Instant::now()),
                (Some(0), since) => since,
                _ => None,
            };
            if since.is_some_and(|since| since.elapsed() > STILL) {
                return Ok(0);
            }
            if Instant::now() > deadline {
                bail!("{vip} does not come back to the first node:\n{}", self.describe());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn strike(&mut self, node: usize, strike: Strike) -> anyhow::Result<()> {
        let node = &mut self.nodes[node];
        let both = || [&node.keepalived, &node.server].into_iter().flatten();
        match strike {
            Strike::Kill => {
                for mut process in
                    [node.keepalived.take(), node.server.take()].into_iter().flatten()
                {
                    process.kill_tree();
                }
            }
            Strike::Stop => both().for_each(|process| process.signal_tree(Signal::STOP)),
            Strike::Unplug => self.lan.unplug(&node.host)?,
            Strike::Term => node.keepalived.iter().for_each(|one| one.signal(Signal::TERM)),
        }
        Ok(())
    }

    fn repair(&mut self, node: usize, strike: Strike) -> anyhow::Result<()> {
        let node = &mut self.nodes[node];
        match strike {
            Strike::Kill => {
                node.start_server()?;
                node.start_keepalived()
            }
            Strike::Stop => {
                for process in [&node.keepalived, &node.server].into_iter().flatten() {
                    process.signal_tree(Signal::CONT);
                }
                Ok(())
            }
            Strike::Unplug => self.lan.plug(&node.host),
            Strike::Term => {
                if let Some(mut keepalived) = node.keepalived.take() {
                    keepalived.end();
                }
                node.start_keepalived()
            }
        }
    }

    fn describe(&self) -> String {
        let one = |node: &Node| {
            let on = node.host.addresses("eth0").unwrap_or_default();
            let log = node.keepalived.as_ref().map(Process::log_tail).unwrap_or_default();
            format!("{}: {on:?}{log}\n", node.host.name())
        };
        self.nodes.iter().map(one).collect()
    }
}

/// A `vrrp_instance` per family; all nodes start as backup and the first has the highest priority.
fn configuration(name: &str, number: usize, tuning: Tuning) -> String {
    let (version, interval) = match tuning {
        Tuning::Default => ("", ""),
        Tuning::Fast => ("  vrrp_version 3\n", "  advert_int 0.1\n"),
    };
    let mut text = format!("global_defs {{\n  router_id {name}\n{version}}}\n");
    for (vip, id) in VIPS.iter().zip(51..) {
        let length = if vip.is_ipv4() { 16 } else { 64 };
        text += &format!(
            "vrrp_instance vip{id} {{\n  state BACKUP\n  interface eth0\n  virtual_router_id {id}\n  \
             priority {}\n{interval}  virtual_ipaddress {{\n    {vip}/{length} dev eth0\n  }}\n}}\n",
            150 - 20 * number
        );
    }
    text
}
