//! Three gateways on a link with a client, a backend and a stranger: what the fail-over tests and the
//! benchmark start, stop, cut off and look at.
//!
//! Owns the processes, their folders and their manifests. Looks at a node only as an operator can: the
//! addresses on its interfaces, its admin pages, its log. Start nodes from a thread that outlives them:
//! the kernel kills them with it.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitStatus,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

use crate::{
    client::{self, Target},
    echo::{self, Listener},
    guard,
    lan::{Host, Lan},
    manifests,
    process::{self, Process, Signal},
    wait,
};

/// Nodes of a site.
pub const NODES: usize = 3;
/// The port of heartbeats that the gateways use.
pub const GROUP_PORT: u16 = 7471;
/// The host name that the backend is served under.
pub const NAME: &str = "app.test";

/// An admin page is asked for at most this long.
const PAGE_LIMIT: Duration = Duration::from_secs(2);
/// Ownership is settled when it did not change for this long.
const STILL: Duration = Duration::from_secs(1);

/// The virtual addresses of a site's first gateway Service.
pub const VIPS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 77, 1, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 1, 1)),
];

/// How a site differs from the usual one.
#[derive(Debug, Clone)]
pub struct Options {
    /// The gateway's program.
    pub gatehouse: PathBuf,
    /// The shared key of each node; an empty one: the node is alone.
    pub keys: [&'static str; NODES],
    /// Nodes are told of each other by `--peer`.
    pub peers: bool,
    /// Further flags of all nodes.
    pub flags: Vec<String>,
    /// Further manifests, beside those of the first gateway Service.
    pub manifests: String,
}

impl Options {
    /// Three nodes with one key that find each other by multicast.
    pub fn new(gatehouse: impl Into<PathBuf>) -> Self {
        Self {
            gatehouse: gatehouse.into(),
            keys: ["a shared key of some length"; NODES],
            peers: false,
            flags: Vec::new(),
            manifests: String::new(),
        }
    }
}

/// A link with everything on it.
#[derive(Debug)]
pub struct Site {
    /// The gateways. Declared first: they end before their link goes.
    pub nodes: [Node; NODES],
    /// The link.
    pub lan: Lan,
    /// Where requests come from.
    pub client: Host,
    /// A host without any part in the group.
    pub stranger: Host,
    _folder: TempDir,
}

impl Site {
    /// Lays the link and starts the backend, but no node.
    pub fn new(options: &Options) -> anyhow::Result<Self> {
        let (lan, [one, two, three, client, backend, stranger]) =
            Lan::new(["node-1", "node-2", "node-3", "client", "backend", "stranger"])?;
        let folder = guard::folder("gatehouse-site-")?;
        let address = SocketAddr::new(backend.v4().into(), 8000);
        let listener =
            Listener { address, service: "app".to_owned(), endpoint: "backend".to_owned() };
        backend.enter(|| echo::spawn(&[listener], 1))??;
        let manifests = folder.path().join("manifests");
        fs::create_dir(&manifests)?;
        fs::write(manifests.join("site.yaml"), manifest(address))?;
        if !options.manifests.is_empty() {
            fs::write(manifests.join("more.yaml"), &options.manifests)?;
        }
        let hosts = [one, two, three];
        let mut nodes = Vec::with_capacity(NODES);
        for (host, key) in hosts.iter().zip(options.keys) {
            let others = hosts.iter().filter(|other| other.name() != host.name());
            let peers = options.peers.then(|| others.map(|other| other.v4().into()).collect());
            let node = Node::new(host, folder.path(), key, options, peers.unwrap_or_default())?;
            nodes.push(node);
        }
        let Ok(nodes) = nodes.try_into() else { bail!("as many nodes as hosts") };
        Ok(Self { nodes, lan, client, stranger, _folder: folder })
    }

    /// As [`Site::new`], then starts all nodes and waits until they are ready and each of [`VIPS`] has
    /// its owner.
    pub fn start(options: &Options) -> anyhow::Result<Self> {
        let mut site = Self::new(options)?;
        for node in &mut site.nodes {
            node.start()?;
        }
        site.settle()?;
        Ok(site)
    }

    /// The nodes on whose link `vip` is.
    pub fn holders(&self, vip: IpAddr) -> anyhow::Result<Vec<usize>> {
        let mut holders = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            if node.host.addresses("eth0")?.contains(&vip) {
                holders.push(number);
            }
        }
        Ok(holders)
    }

    /// Waits until all running nodes are ready and each of [`VIPS`] has had one and the same holder for a
    /// second, and is on the loopback interface of nobody; returns the holders.
    pub fn settle(&mut self) -> anyhow::Result<[usize; VIPS.len()]> {
        let deadline = Instant::now() + wait::LIMIT;
        for node in self.nodes.iter_mut().filter(|node| node.runs()) {
            node.wait_ready()?;
        }
        let mut since: Option<(Instant, [usize; VIPS.len()])> = None;
        loop {
            process::check_stopping()?;
            let seen = self.owners()?;
            let now = Instant::now();
            since = match (since, seen) {
                (Some((from, before)), Some(owners)) if owners == before => {
                    if now.duration_since(from) > STILL {
                        return Ok(owners);
                    }
                    Some((from, before))
                }
                (_, Some(owners)) => Some((now, owners)),
                (_, None) => None,
            };
            if now > deadline {
                bail!("not settled within {:?}:\n{}", wait::LIMIT, self.describe());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The one holder of each of [`VIPS`]; none while one has another number of holders or drains.
    fn owners(&self) -> anyhow::Result<Option<[usize; VIPS.len()]>> {
        let mut owners = [0; VIPS.len()];
        for (owner, vip) in owners.iter_mut().zip(VIPS) {
            let [holder] = self.holders(vip)?[..] else { return Ok(None) };
            *owner = holder;
        }
        for node in &self.nodes {
            if VIPS.iter().any(|vip| node.drains(*vip)) {
                return Ok(None);
            }
        }
        Ok(Some(owners))
    }

    /// Waits until the holders of `vip` are these nodes and no others.
    pub fn wait_holders(&self, vip: IpAddr, nodes: &[usize]) -> anyhow::Result<()> {
        let there = wait::look(|| match self.holders(vip) {
            Ok(holders) if holders != nodes => None,
            Ok(_) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        });
        let Some(there) = there else {
            bail!("{vip} is not on {nodes:?} within {:?}:\n{}", wait::LIMIT, self.describe());
        };
        there
    }

    /// Everything about the nodes that helps to understand a failure.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for node in &self.nodes {
            let on = |interface| node.host.addresses(interface).unwrap_or_default();
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{}: eth0 {:?}, lo {:?}, ready: {}{}",
                node.host.name(),
                on("eth0"),
                on("lo"),
                node.page("/readyz").unwrap_or_else(|error| format!("{error:#}")).trim(),
                node.process.as_ref().map(Process::log_tail).unwrap_or_default()
            );
        }
        text
    }
}

/// A host that runs a gateway.
#[derive(Debug)]
pub struct Node {
    /// Its place on the link.
    pub host: Host,
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    /// Processes so far.
    lives: u32,
    process: Option<Process>,
}

impl Node {
    fn new(
        host: &Host,
        folder: &Path,
        key: &str,
        options: &Options,
        peers: Vec<IpAddr>,
    ) -> anyhow::Result<Self> {
        let file = |name: &str| folder.join(format!("{}.{name}", host.name()));
        fs::write(file("key"), key)?;
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let mut arguments = vec!["run".to_owned()];
        let pairs = [
            ("--manifests", text(folder.join("manifests"))),
            ("--state-dir", text(file("state"))),
            ("--node", host.name().to_owned()),
            ("--admin", admin().to_string()),
            ("--threads", "1".to_owned()),
        ];
        for (flag, value) in
            pairs.into_iter().chain(peers.into_iter().map(|ip| ("--peer", ip.to_string())))
        {
            arguments.extend([flag.to_owned(), value]);
        }
        if !key.is_empty() {
            arguments.extend(["--group-key".to_owned(), text(file("key"))]);
        }
        arguments.push("--no-access-log".to_owned());
        arguments.extend(options.flags.iter().cloned());
        let program = options.gatehouse.canonicalize();
        let program =
            program.with_context(|| format!("no program {}", options.gatehouse.display()))?;
        Ok(Self {
            host: host.clone(),
            program,
            arguments,
            log: file("log"),
            lives: 0,
            process: None,
        })
    }

    /// Starts the gateway; does not wait.
    pub fn start(&mut self) -> anyhow::Result<()> {
        // As many listeners as may be: 1 000 addresses take 1 000.
        let mut command = self.host.command("sh");
        command.args(["-c", "ulimit -Sn \"$(ulimit -Hn)\"; exec \"$@\"", "sh"]);
        command.arg(&self.program).args(&self.arguments);
        self.lives += 1;
        command.args(["--pod-uid", &self.pod_uid()]);
        let log = self.log_file();
        self.process = Some(Process::spawn(self.host.name(), command, Some(&log))?);
        Ok(())
    }

    /// Starts another process beside the one that runs, which is returned, and waits until the new one is ready.
    pub fn start_beside(&mut self) -> anyhow::Result<Option<Process>> {
        let before = self.process.take();
        self.start()?;
        let path = format!("/readyz?pod={}", self.pod_uid());
        // Both answer at one address.
        let ready = || self.page(&path).ok().filter(|page| page.starts_with("ready\n"));
        if wait::look(ready).is_none() {
            bail!("{} is not ready beside its predecessor: {}", self.host.name(), self.log());
        }
        Ok(before)
    }

    fn pod_uid(&self) -> String {
        format!("{}-{}", self.host.name(), self.lives)
    }

    fn log_file(&self) -> PathBuf {
        self.log.with_extension(format!("log.{}", self.lives))
    }

    /// Waits until the gateway says that it is ready.
    pub fn wait_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + wait::LIMIT;
        loop {
            process::check_stopping()?;
            let Some(process) = &mut self.process else {
                bail!("{} was not started", self.host.name())
            };
            process.check()?;
            let page = self.page("/readyz");
            if page.as_ref().is_ok_and(|page| page.starts_with("ready\n")) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let tail = self.process.as_ref().map(Process::log_tail).unwrap_or_default();
                let limit = wait::LIMIT;
                bail!("{} is not ready within {limit:?}: {page:?}{tail}", self.host.name());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// True when it was started and neither killed nor seen to end.
    pub const fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// The gateway's process id.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Kills the gateway (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Sends a signal to the gateway.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// Waits for the end of the gateway.
    pub fn wait(&mut self) -> Option<ExitStatus> {
        let status = self.process.as_mut()?.wait(wait::LIMIT);
        if status.is_some() {
            self.process = None;
        }
        status
    }

    /// True while `vip` is on its loopback interface: open connections go on, nothing is announced.
    pub fn drains(&self, vip: IpAddr) -> bool {
        self.host.addresses("lo").is_ok_and(|addresses| addresses.contains(&vip))
    }

    /// The body of an admin page, whatever its status.
    pub fn page(&self, path: &str) -> anyhow::Result<String> {
        let target = Target {
            address: admin(),
            host: "localhost".to_owned(),
            path: path.to_owned(),
            tls: None,
        };
        let answer = self.host.enter(|| client::get(&target, PAGE_LIMIT))??;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// What it wrote since it was started last.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// CPU time of the thread of this name.
    pub fn thread_cpu(&self, name: &str) -> Option<Duration> {
        process::thread_cpu(self.pid()?).get(name).copied()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may be stopped, and then SIGTERM would not reach it.
        self.kill();
    }
}

/// Where every node has its admin pages: in its own namespace.
fn admin() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 9901))
}

/// A pool, its announcement, the gateway Service with [`VIPS`] and the Ingress of `app.test`.
fn manifest(backend: SocketAddr) -> String {
    let vips = VIPS.map(|vip| vip.to_string());
    pool(
        "site",
        &vips.each_ref().map(|vip| format!("{vip}/{}", if vip.contains(':') { 128 } else { 32 })),
    ) + &gateway("gateway", &vips.join(","), true)
        + &class("gatehouse", "gateway")
        + &manifests::service("app", backend)
        + &manifests::ingress("app", NAME, "/", "app", None)
}

/// Many gateway Services with one IPv4 address each, of a pool of their own: `10.77.4.0` and on.
pub fn many(count: u32) -> (String, Vec<IpAddr>) {
    let first = u32::from(Ipv4Addr::new(10, 77, 4, 0));
    let vips: Vec<IpAddr> = (0..count).map(|n| IpAddr::V4((first + n).into())).collect();
    let mut text = match vips.last() {
        Some(last) => pool("many", &[format!("{}-{last}", vips[0])]),
        None => String::new(),
    };
    for (n, vip) in vips.iter().enumerate() {
        let name = format!("many-{n:04}");
        text += &gateway(&name, &vip.to_string(), false);
        text += &class(&name, &name);
    }
    (text, vips)
}

/// A pool that gives only what is asked for, and its announcement from everywhere.
fn pool(name: &str, ranges: &[String]) -> String {
    format!(
        "---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {{name: {name}, namespace: metallb-system}}
spec:
  autoAssign: false
  addresses: {ranges:?}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {{name: {name}, namespace: metallb-system}}
spec: {{ipAddressPools: [{name}]}}
"
    )
}

fn gateway(name: &str, addresses: &str, dual: bool) -> String {
    let families = if dual {
        "ipFamilyPolicy: RequireDualStack\n  ipFamilies: [IPv4, IPv6]"
    } else {
        "ipFamilyPolicy: SingleStack\n  ipFamilies: [IPv4]"
    };
    format!(
        "---
apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: default
  annotations: {{metallb.io/loadBalancerIPs: \"{addresses}\"}}
spec:
  type: LoadBalancer
  {families}
  ports:
    - {{name: http, port: 80}}
"
    )
}

fn class(name: &str, service: &str) -> String {
    format!(
        "---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: {name}}}
spec:
  controller: gatehouse.io/ingress
  parameters: {{kind: Service, scope: Namespace, namespace: default, name: {service}}}
"
    )
}
