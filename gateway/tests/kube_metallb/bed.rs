//! A cluster on a host, and what its Services say.

use std::{collections::BTreeSet, path::Path};

use gatehouse_testbed::{
    cluster::Cluster,
    lan::Host,
    process::{Process, Signal},
    wait,
};
use serde_json::Value;

/// The node of every cluster.
pub(crate) const NODE: &str = "node-1";

/// Services of both families.
const BOTH_FAMILIES: &str = "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112";

/// A cluster with MetalLB's kinds and one node, which is the host.
pub(crate) struct Bed {
    pub(crate) cluster: Cluster,
    host: Host,
}

impl Bed {
    pub(crate) fn new(host: &Host) -> Self {
        let cluster = Cluster::builder().host(host).api_flag(BOTH_FAMILIES).start().unwrap();
        cluster.define_metallb().unwrap();
        let bed = Self { cluster, host: host.clone() };
        bed.apply(&format!("{{apiVersion: v1, kind: Node, metadata: {{name: {NODE}}}}}"));
        let status = format!(
            r#"{{"status":{{"addresses":[{{"type":"InternalIP","address":"{}"}}]}}}}"#,
            host.v4()
        );
        bed.kubectl(&[
            "patch",
            "node",
            NODE,
            "--subresource=status",
            "--type=merge",
            "-p",
            &status,
        ]);
        bed
    }

    pub(crate) fn apply(&self, yaml: &str) {
        self.cluster.apply(yaml).unwrap();
    }

    pub(crate) fn kubectl(&self, words: &[&str]) -> String {
        self.cluster.kubectl(words).unwrap()
    }

    /// Objects of a kind, of all namespaces, or one.
    pub(crate) fn get(&self, words: &[&str]) -> Value {
        let words: Vec<&str> =
            ["get", "-o=json", "--show-managed-fields"].iter().chain(words).copied().collect();
        serde_json::from_str(&self.kubectl(&words)).unwrap()
    }

    pub(crate) fn all(&self, kind: &str) -> Vec<Value> {
        self.get(&[kind, "--all-namespaces"])["items"].as_array().cloned().unwrap_or_default()
    }

    /// One Service.
    pub(crate) fn service(&self, name: &Name) -> Value {
        self.get(&["service", &name.name, "--namespace", &name.namespace])
    }

    /// Whether an Event says that a Service does not get what it asks for.
    pub(crate) fn is_refused(&self, name: &Name) -> bool {
        const OTHERS: [&str; 3] = ["deprecatedAnnotation", "DeprecatedAnnotation", "NotAdvertised"];
        let events = self.events(name);
        let mut warnings = events.iter().filter(|event| event["type"] == "Warning");
        warnings
            .any(|event| event["reason"].as_str().is_none_or(|reason| !OTHERS.contains(&reason)))
    }

    /// Events about a Service, of the old kind, which holds those of the new one as well.
    pub(crate) fn events(&self, name: &Name) -> Vec<Value> {
        let about = format!("involvedObject.kind=Service,involvedObject.name={}", name.name);
        let words = ["events", "--namespace", &*name.namespace, "--field-selector", &about];
        self.get(&words)["items"].as_array().cloned().unwrap_or_default()
    }

    /// Starts Gatehouse on the host, with quick elections.
    pub(crate) fn gatehouse(&self, folder: &Path, more: &[&str]) -> Process {
        let mut command = self.host.command(env!("CARGO_BIN_EXE_gatehouse"));
        command
            .args([
                "run",
                "--node",
                NODE,
                "--threads",
                "1",
                "--no-access-log",
                "--drain-timeout",
                "1",
            ])
            .args(["--http", "127.0.0.1:8080", "--https", "127.0.0.1:8443"])
            .args(["--lease-namespace", "default", "--lease-duration", "4"])
            .args(["--renew-deadline", "3", "--retry-period", "0.5", "--kubeconfig"])
            .arg(self.cluster.kubeconfig())
            .arg("--state-dir")
            .arg(folder.join("state"))
            .args(more);
        Process::spawn("gatehouse", command, Some(&folder.join("gatehouse.log"))).unwrap()
    }
}

/// Ends a process as its node would.
pub(crate) fn end(mut process: Process) {
    process.signal(Signal::TERM);
    assert!(process.wait(wait::LIMIT).is_some(), "it ends");
}

/// A Service's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Name {
    /// Of `NAME`, which is in the namespace `default`, or of `NAMESPACE/NAME`.
    pub(crate) fn parse(text: &str) -> Self {
        let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// The addresses in the status of a Service, sorted, with commas between.
pub(crate) fn addresses(service: &Value) -> String {
    let entries = service["status"]["loadBalancer"]["ingress"].as_array();
    let ips: BTreeSet<&str> =
        entries.into_iter().flatten().filter_map(|entry| entry["ip"].as_str()).collect();
    ips.into_iter().collect::<Vec<_>>().join(",")
}
