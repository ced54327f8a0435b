//! A cluster, two backends, and what a client sees of a gateway.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use gatehouse_testbed::{
    cluster::{Builder, Cluster},
    gatehouse::{
        backend::{Act, Backend, echo_answer},
        client,
        gateway::Gateway,
        manifests,
    },
    lan::{Host, Lan},
    wait::comes_true,
};

/// The host's own address: a cluster may not name loopback ones.
pub const HOST: &str = "10.77.0.1";

/// One host with a cluster and two backends, `one` and `two`.
pub struct Bed {
    pub cluster: Cluster,
    pub one: Backend,
    pub two: Backend,
    /// Another host of the link.
    pub client: Host,
    // Last: everything else is on it.
    _lan: Lan,
}

impl Bed {
    /// Starts everything. The calling thread, and what it starts, is on the host from now on.
    pub fn new() -> Self {
        Self::with(Cluster::builder())
    }

    /// The same with a cluster that has more.
    pub fn with(cluster: Builder) -> Self {
        let (lan, [host, client]) = Lan::new(["node", "client"]).unwrap();
        host.move_in().unwrap();
        let backend = |name: &'static str| {
            let listener = TcpListener::bind((HOST, 0)).unwrap();
            Backend::on(name, listener, move |request| vec![Act::Send(echo_answer(name, request))])
        };
        let [one, two] = ["one", "two"].map(backend);
        Self { cluster: cluster.start().unwrap(), one, two, client, _lan: lan }
    }

    /// Creates or changes objects, in a namespace.
    pub fn apply(&self, namespace: &str, yaml: &str) {
        let yaml = yaml.replace("namespace: default", &format!("namespace: {namespace}"));
        self.cluster.apply(&yaml).unwrap();
    }

    /// Runs kubectl.
    pub fn kubectl(&self, words: &str) -> String {
        let words: Vec<&str> = words.split_whitespace().collect();
        self.cluster.kubectl(&words).unwrap()
    }

    /// Makes a namespace with a Service `app` in it whose endpoint is the backend.
    pub fn namespace(&self, name: &str, backend: &Backend) {
        self.kubectl(&format!("create namespace {name}"));
        self.apply(name, &service(backend));
    }

    /// The kubeconfig of a service account that may read what a gateway reads, but Secrets in these
    /// namespaces only.
    pub fn account(&self, secrets_in: &[&str]) -> PathBuf {
        self.cluster.apply(ACCOUNT).unwrap();
        for namespace in secrets_in {
            self.cluster.apply(&SECRETS.replace("NAMESPACE", namespace)).unwrap();
        }
        self.cluster.kubeconfig_of("gateway", "gateway").unwrap()
    }
}

/// The Service `app` and its one endpoint.
pub fn service(backend: &Backend) -> String {
    manifests::service("app", &[backend.addr])
}

/// An Ingress that sends a host to the Service `app`.
pub fn ingress(name: &str, host: &str, tls: &str) -> String {
    manifests::ingress(name, "", tls, &[manifests::prefix(host, "/", "app")])
}

const ACCOUNT: &str = "\
{apiVersion: v1, kind: Namespace, metadata: {name: gateway}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: gateway, namespace: gateway}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: gateway}
rules:
- {apiGroups: [''], resources: [services, namespaces, nodes], verbs: [get, list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
- {apiGroups: [networking.k8s.io], resources: [ingresses, ingressclasses], verbs: [get, list, watch]}
- {apiGroups: [route.openshift.io], resources: [routes], verbs: [get, list, watch]}
- {apiGroups: [metallb.io], resources: ['*'], verbs: [get, list, watch]}
- {apiGroups: [apiextensions.k8s.io], resources: [customresourcedefinitions], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: gateway}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: gateway}
subjects: [{kind: ServiceAccount, name: gateway, namespace: gateway}]
";

const SECRETS: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: secrets, namespace: NAMESPACE}
rules: [{apiGroups: [''], resources: [secrets], verbs: [get, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: secrets, namespace: NAMESPACE}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: secrets}
subjects: [{kind: ServiceAccount, name: gateway, namespace: gateway}]
";

/// What one GET of `/` is answered with: the name of the backend, or the status.
pub fn answer(address: SocketAddr, host: &str) -> String {
    let seen = client::get(address, host, "/");
    let text = seen.responses.first().map(client::Response::text).unwrap_or_default();
    match seen.status() {
        200 => {
            ["one", "two"].into_iter().find(|name| text.contains(name)).unwrap_or("?").to_owned()
        }
        status => status.to_string(),
    }
}

/// Waits until a host is answered so.
#[track_caller]
pub fn answers(gateway: &Gateway, host: &str, expected: &str) {
    let right = comes_true(|| answer(gateway.http, host) == expected);
    assert!(right, "{host}: {} instead of {expected}", answer(gateway.http, host));
}

/// Waits until an admin page has this text.
#[track_caller]
pub fn shows(gateway: &Gateway, page: &str, text: &str) {
    let shown = comes_true(|| gateway.page(page).contains(text));
    assert!(shown, "{page} lacks {text:?}:\n{}", gateway.page(page));
}

/// Requests one after another, on a connection that stays and on fresh ones, until it is dropped.
pub struct Load {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    thread: Option<JoinHandle<Vec<String>>>,
}

impl Load {
    /// Begins.
    pub fn start(address: SocketAddr, host: &'static str) -> Self {
        let (stop, good) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&good));
        let thread = std::thread::spawn(move || {
            let mut kept = client::KeepAlive::to(address);
            let mut failures = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let seen = match kept.get(host, "/") {
                    Ok(response) => response.status.to_string(),
                    Err(error) => error.to_string(),
                };
                let fresh = client::get(address, host, "/").status().to_string();
                for seen in [seen, fresh] {
                    if seen == "200" {
                        counted.fetch_add(1, Ordering::Relaxed);
                    } else {
                        failures.push(seen);
                    }
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            failures
        });
        Self { stop, good, thread: Some(thread) }
    }

    /// Ends it; every request has to have been answered well.
    pub fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.thread.take().unwrap().join().unwrap();
        let good = self.good.load(Ordering::Relaxed);
        assert!(
            failures.is_empty(),
            "{} of {good}: {:?}",
            failures.len(),
            &failures[..failures.len().min(5)]
        );
        assert!(good > 100, "only {good} requests");
    }
}
