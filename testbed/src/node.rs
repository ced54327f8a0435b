//! The node agent: what the kubelet is to a node, for tests. It runs the Pods of its node as processes.
//!
//! The program `gatehouse-testbed-node` is started on a host (`cluster::Node`) and ends, with all its Pods, when it
//! is killed: that is a node that has lost its power. It keeps the node alive for the cluster, looks for its Pods
//! and gives each one a thread. No image is pulled: `--image` says which program an image's name stands for.

mod api;
mod container;
mod logs;
mod network;
mod pod;
mod probe;
mod spec;
mod status;
mod volumes;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::{List, api::core::v1::Pod};
use serde_json::{Value, json};

pub use self::api::Access;
use self::{
    api::{Api, Change},
    network::Range,
    pod::{Life, News},
    spec::Images,
};

/// Where a node answers the API server.
const PORT: u16 = 10250;
/// Between two looks at the node's Pods.
const POLL: Duration = Duration::from_millis(300);
/// Between two signs of life.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// Flags of the program.
#[derive(Debug, clap::Parser)]
#[command(name = "gatehouse-testbed-node")]
pub struct Options {
    /// The node's name.
    #[arg(long)]
    pub name: String,
    /// Its number, of which the addresses of its Pods are made: 10.78.N.0/24 or fd78:0:0:N::/64, as its own.
    #[arg(long)]
    pub number: u8,
    /// Its address.
    #[arg(long)]
    pub address: IpAddr,
    /// A folder of its own.
    #[arg(long)]
    pub folder: PathBuf,
    /// What an image runs, by the last part of its name: `gatehouse=/path/to/gatehouse`. May repeat.
    #[arg(long = "image", value_name = "NAME=PROGRAM")]
    pub images: Vec<String>,
    /// How to reach the API server.
    #[command(flatten)]
    pub access: Access,
}

/// What all Pods of a node share.
#[derive(Debug)]
pub(crate) struct Site {
    address: IpAddr,
    folder: PathBuf,
    images: Images,
    access: Access,
    range: Range,
    /// How a container finds the API server.
    service: BTreeMap<String, String>,
}

impl Site {
    /// Where a container's output is.
    fn log(&self, namespace: &str, pod: &str, container: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{namespace}_{pod}_{container}.log"))
    }
}

/// Keeps the node going until the process is killed.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let access = &options.access;
    let variables = [
        ("KUBERNETES_SERVICE_HOST", access.host()?.to_owned()),
        ("KUBERNETES_SERVICE_PORT", access.port().to_string()),
    ];
    let site = Arc::new(Site {
        address: options.address,
        folder: options.folder.clone(),
        images: Images::new(&options.images)?,
        access: options.access.clone(),
        range: Range::new(options.number, options.address),
        service: variables.map(|(name, value)| (name.to_owned(), value)).into(),
    });
    std::fs::create_dir_all(site.folder.join("logs"))?;
    logs::serve(Arc::clone(&site), PORT)?;
    let mut agent = Agent { options, api: Api::new(&options.access)?, site, pods: BTreeMap::new() };
    let mut heartbeat = Instant::now();
    loop {
        if Instant::now() >= heartbeat {
            heartbeat = Instant::now() + HEARTBEAT;
            report(agent.live());
        }
        report(agent.look());
        thread::sleep(POLL);
    }
}

/// While the API server is away the Pods go on.
fn report(result: anyhow::Result<()>) {
    if let Err(error) = result {
        eprintln!("{error:#}");
    }
}

struct Agent<'a> {
    options: &'a Options,
    api: Api,
    site: Arc<Site>,
    /// By uid: where to tell a Pod's thread what is new, and the version that it knows.
    pods: BTreeMap<String, (mpsc::Sender<News>, Option<String>)>,
}

impl Agent<'_> {
    /// Says that the node is there and ready, and renews its lease.
    fn live(&mut self) -> anyhow::Result<()> {
        let name = &self.options.name;
        let path = format!("/api/v1/nodes/{name}/status");
        if self.api.send(Change::Merge, &path, &self.node_status())?.is_none() {
            let labels = json!({
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
            });
            let node = json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
            });
            self.api.send(Change::Create, "/api/v1/nodes", &node)?;
            self.api.send(Change::Merge, &path, &self.node_status())?;
        }
        let now = format!("{:.6}", Timestamp::now());
        let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        let spec = json!({"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now});
        let patch = json!({"spec": spec});
        if self.api.send(Change::Merge, &format!("{leases}/{name}"), &patch)?.is_none() {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": spec,
            });
            self.api.send(Change::Create, leases, &lease)?;
        }
        Ok(())
    }

    fn node_status(&self) -> Value {
        let now = Timestamp::now().to_string();
        let condition = |kind: &str, status: &str, reason: &str| {
            json!({
                "type": kind, "status": status, "reason": reason, "message": "",
                "lastHeartbeatTime": now, "lastTransitionTime": now,
            })
        };
        let capacity =
            json!({"cpu": "16", "memory": "64Gi", "pods": "250", "ephemeral-storage": "64Gi"});
        json!({"status": {
            "addresses": [
                {"type": "InternalIP", "address": self.options.address},
                {"type": "Hostname", "address": self.options.name},
            ],
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": [
                condition("MemoryPressure", "False", "Enough"),
                condition("DiskPressure", "False", "Enough"),
                condition("PIDPressure", "False", "Enough"),
                condition("Ready", "True", "AgentReady"),
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": PORT}},
            "nodeInfo": {
                "machineID": self.options.name, "systemUUID": self.options.name, "bootID": self.options.name,
                "kernelVersion": "", "osImage": "a network namespace", "containerRuntimeVersion": "process://1",
                "kubeletVersion": "v1.37.2", "kubeProxyVersion": "", "operatingSystem": "linux",
                "architecture": "amd64",
            },
        }})
    }

    /// Tells the Pods' threads what is new, and starts those of new Pods.
    fn look(&mut self) -> anyhow::Result<()> {
        let path = format!("/api/v1/pods?fieldSelector=spec.nodeName={}", self.options.name);
        let list: List<Pod> = self.api.get(&path)?.context("no list of Pods")?;
        let mut seen = Vec::new();
        for pod in list.items {
            let (uid, version) = (pod.metadata.uid.clone(), pod.metadata.resource_version.clone());
            let uid = uid.context("a Pod without uid")?;
            seen.push(uid.clone());
            match self.pods.get_mut(&uid) {
                Some((_, known)) if *known == version => {}
                Some((thread, known)) => {
                    *known = version;
                    // One that has ended by itself has nothing to hear.
                    let _ = thread.send(News::Is(Box::new(pod)));
                }
                None if is_over(&pod) => {}
                None => {
                    let life = Life::new(pod, Arc::clone(&self.site))?;
                    let (sender, news) = mpsc::channel();
                    thread::spawn(move || life.run(&news));
                    self.pods.insert(uid, (sender, version));
                }
            }
        }
        self.pods.retain(|uid, (thread, _)| {
            let stays = seen.contains(uid);
            if !stays {
                let _ = thread.send(News::Gone);
            }
            stays
        });
        Ok(())
    }
}

/// Whether it has run to its end, before this agent.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed")) && pod.metadata.deletion_timestamp.is_none()
}
