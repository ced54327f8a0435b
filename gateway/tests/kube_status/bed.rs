//! A namespace of the cluster, and gateways that serve it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use gatehouse_testbed::{cluster::Cluster, gatehouse::client};
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Namespace, Service},
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// Longest that anything is waited for; a busy machine may need some of it.
const PATIENCE: Duration = Duration::from_secs(120);

/// The cluster of this program, with the kinds that it lacks.
static CLUSTER: LazyLock<Mutex<Option<Cluster>>> = LazyLock::new(Mutex::default);

const KINDS: &str = include_str!("kinds.yaml");

/// A namespace.
pub(crate) struct Bed {
    pub(crate) runtime: Runtime,
    pub(crate) client: Client,
    pub(crate) namespace: String,
    kubeconfig: PathBuf,
}

/// A running gateway; killed when dropped.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) node: String,
    admin: SocketAddr,
    http: SocketAddr,
}

impl Bed {
    /// An empty namespace.
    pub(crate) fn new(namespace: &str) -> Self {
        let kubeconfig = {
            let mut cluster = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
            let cluster = cluster.get_or_insert_with(|| {
                let cluster = Cluster::start().expect("a cluster");
                cluster.apply(KINDS).expect("the kinds");
                cluster
            });
            cluster.kubeconfig()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            let read = Kubeconfig::read_from(&kubeconfig).unwrap();
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(read, &options).await.unwrap();
            Client::try_from(config).unwrap()
        });
        let bed = Self { runtime, client, namespace: namespace.to_owned(), kubeconfig };
        let object = Namespace {
            metadata: ObjectMeta { name: Some(namespace.to_owned()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        let api: Api<Namespace> = Api::all(bed.client.clone());
        bed.runtime.block_on(api.create(&PostParams::default(), &object)).unwrap();
        bed
    }

    /// A kubeconfig of a service account of this namespace, which may do nothing yet.
    pub(crate) fn account(&self, name: &str) -> PathBuf {
        self.apply(&format!(
            "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {name}, namespace: {}}}}}",
            self.namespace
        ));
        let cluster = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
        cluster.as_ref().unwrap().kubeconfig_of(&self.namespace, name).unwrap()
    }

    /// Creates or changes objects.
    pub(crate) fn apply(&self, yaml: &str) {
        let cluster = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
        cluster.as_ref().unwrap().apply(yaml).unwrap();
    }

    /// Runs a script that calls kubectl.
    pub(crate) fn script(&self, script: &str) {
        let cluster = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let kubectl = Cluster::program("kubectl").unwrap();
        std::os::unix::fs::symlink(kubectl, folder.path().join("kubectl")).unwrap();
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let mut shell = cluster.as_ref().unwrap().command("sh");
        let shell = shell.args(["-e", "-c", script]).env("PATH", path).current_dir(folder.path());
        let ran = shell.env("KUBECONFIG", &self.kubeconfig).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }

    /// A gateway on a node, with quick elections.
    pub(crate) fn gateway(&self, node: &str, more: &[&str]) -> Gateway {
        self.gateway_as(&self.kubeconfig, node, more)
    }

    /// The same, as somebody who may do less than everything.
    pub(crate) fn gateway_as(&self, kubeconfig: &Path, node: &str, more: &[&str]) -> Gateway {
        let (admin, http) = (free_address(), free_address());
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
        command
            .args(["run", "--kubeconfig"])
            .arg(kubeconfig)
            .args(["--node", node, "--watch-namespace", &self.namespace])
            .args(["--lease-namespace", &self.namespace])
            .args(["--http", &http.to_string(), "--https", &free_address().to_string()])
            .args(["--admin", &admin.to_string(), "--threads", "1", "--no-access-log"])
            .args(["--retry-period", "0.5"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if !more.contains(&"--lease-duration") {
            command.args(["--lease-duration", "4", "--renew-deadline", "3"]);
        }
        if std::env::var_os("GATEWAY_LOG").is_none() {
            command.stderr(Stdio::null());
        }
        Gateway { child: command.spawn().expect("a gateway"), node: node.to_owned(), admin, http }
    }

    pub(crate) fn services(&self) -> Api<Service> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn objects(
        &self,
        api_version: &str,
        kind: &str,
        plural: &str,
    ) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        };
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Creates an object.
    pub(crate) fn create(&self, api: &Api<DynamicObject>, object: Value) {
        let object = serde_json::from_value(object).unwrap();
        self.runtime.block_on(api.create(&PostParams::default(), &object)).unwrap();
    }

    /// A pool of this namespace.
    pub(crate) fn pool(&self, addresses: &str) {
        let api = self.objects("metallb.io/v1beta1", "IPAddressPool", "ipaddresspools");
        self.create(
            &api,
            json!({
                "apiVersion": "metallb.io/v1beta1",
                "kind": "IPAddressPool",
                "metadata": { "name": "pool" },
                "spec": { "addresses": [addresses] },
            }),
        );
    }

    /// Creates a Service of type LoadBalancer.
    pub(crate) fn service(&self, name: &str, spec: Value) {
        self.runtime.block_on(create_service(self.services(), name.to_owned(), spec));
    }

    /// Creates many Services, some of them at a time.
    pub(crate) fn many_services(&self, names: impl Iterator<Item = String>) {
        self.runtime.block_on(self.create_services(names));
    }

    /// The same, beside other things.
    pub(crate) async fn create_services(&self, names: impl Iterator<Item = String>) {
        use futures_util::StreamExt as _;
        let all = futures_util::stream::iter(names)
            .map(|name| create_service(self.services(), name, json!({})))
            .buffer_unordered(32);
        all.collect::<()>().await;
    }

    /// Writes another hand's status.
    pub(crate) fn patch_status(&self, api: &Api<DynamicObject>, name: &str, status: Value) {
        let patch = json!({ "status": status });
        let params = PatchParams { field_manager: Some("other".to_owned()), ..Default::default() };
        self.runtime.block_on(api.patch_status(name, &params, &Patch::Merge(&patch))).unwrap();
    }

    /// The addresses of all Services.
    pub(crate) fn addresses(&self) -> BTreeMap<String, BTreeSet<String>> {
        let list = self.runtime.block_on(self.services().list(&ListParams::default())).unwrap();
        list.items
            .iter()
            .map(|service| (service.metadata.name.clone().unwrap(), ips(service)))
            .collect()
    }

    /// Events about an object.
    pub(crate) fn events(&self, name: &str) -> Vec<Event> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let list = self.runtime.block_on(api.list(&ListParams::default())).unwrap();
        let about = |event: &Event| {
            event.regarding.as_ref().and_then(|it| it.name.as_deref()) == Some(name)
        };
        list.items.into_iter().filter(about).collect()
    }

    pub(crate) fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The node that leads, if one does.
    pub(crate) fn leader(&self) -> Option<String> {
        let lease = self.runtime.block_on(self.leases().get_opt("gatehouse")).unwrap()?;
        let holder = lease.spec?.holder_identity.filter(|holder| !holder.is_empty())?;
        holder.rsplit_once('_').map(|(node, _)| node.to_owned())
    }
}

impl Gateway {
    /// The page `/status`; none while it does not answer.
    pub(crate) fn status(&self) -> Option<Value> {
        TcpStream::connect(self.admin).ok()?;
        let seen = client::get(self.admin, "localhost", "/status");
        serde_json::from_str(&seen.responses.first()?.text()).ok()
    }

    /// What a client that asks for `/` of a host is answered.
    pub(crate) fn answer(&self, host: &str) -> u16 {
        client::get(self.http, host, "/").status()
    }

    /// Requests to the API server so far by verb, whatever became of them.
    pub(crate) fn requests(&self) -> BTreeMap<String, u64> {
        let seen = client::get(self.admin, "localhost", "/metrics");
        let mut requests = BTreeMap::new();
        for line in seen.responses[0].text().lines() {
            let of_verb = line.strip_prefix("gatehouse_api_requests_total{verb=\"");
            let Some((verb, rest)) = of_verb.and_then(|rest| rest.split_once('"')) else {
                continue;
            };
            let count: u64 = rest.rsplit_once(' ').unwrap().1.parse().unwrap();
            *requests.entry(verb.to_owned()).or_default() += count;
        }
        requests
    }

    /// What `gatehouse status` prints.
    pub(crate) fn status_table(&self) -> String {
        let admin = self.admin.to_string();
        let output = Command::new(env!("CARGO_BIN_EXE_gatehouse"))
            .args(["status", "--admin", &admin])
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }

    /// CPU time of the thread that talks to the API server about statuses.
    pub(crate) fn status_cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let stats =
            tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
        let stat = stats
            .into_iter()
            .find(|stat| stat.contains("(status)"))
            .expect("a thread named status");
        // After the name: state is the first field, utime the 12th, stime the 13th; in 1/100 s.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks = fields.split_whitespace().skip(11).take(2).map(|it| it.parse::<u64>().unwrap());
        Duration::from_millis(10 * ticks.sum::<u64>())
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: i32) {
        let pid = libc::pid_t::try_from(self.child.id()).unwrap();
        #[expect(unsafe_code, reason = "signals have no safe wrapper in std")]
        // SAFETY: the child has not been waited for, so that the id is still its own.
        let sent = unsafe { libc::kill(pid, signal) };
        assert_eq!(sent, 0);
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ends(&mut self) {
        eventually("the gateway ends", || self.child.try_wait().unwrap());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until there is something.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn ips(service: &Service) -> BTreeSet<String> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
    entries.iter().filter_map(|entry| entry.ip.clone()).collect()
}

/// Asserts that no two Services share an address.
pub(crate) fn assert_distinct(all: &BTreeMap<String, BTreeSet<String>>) {
    let mut seen = BTreeMap::new();
    for (name, ips) in all {
        for ip in ips {
            if let Some(other) = seen.insert(ip, name) {
                panic!("{ip} is that of {other} and of {name}");
            }
        }
    }
}

async fn create_service(api: Api<Service>, name: String, mut spec: Value) {
    spec["type"] = "LoadBalancer".into();
    spec["allocateLoadBalancerNodePorts"] = false.into();
    spec["ports"] = json!([{ "port": 80 }]);
    let service = json!({ "metadata": { "name": name }, "spec": spec });
    let service: Service = serde_json::from_value(service).unwrap();
    api.create(&PostParams::default(), &service).await.unwrap();
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}
