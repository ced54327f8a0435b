//! The Helm chart and the custom resource definitions: what the chart renders and refuses, and that a real API
//! server takes it. helm, kubectl and the API server come from `testbed/cluster/build`, promtool from Debian.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use gatehouse_testbed::cluster::{Cluster, eventually};
use serde_json::Value;

mod custom_resources;
mod install;
mod ipv6;
mod monitoring;
mod pages;
mod render;
mod site;
mod traffic;
mod values;

/// Where the chart is.
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/gatehouse");
/// Where it is installed.
const NAMESPACE: &str = "gatehouse-system";

/// A cluster that knows the custom resources, shared by the tests that install nothing.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let cluster = Cluster::start().unwrap();
        cluster.kubectl(&["create", "namespace", NAMESPACE]).unwrap();
        cluster.apply(&gatehouse::crds::yaml(None)).unwrap();
        let kinds = ["ipaddresspools", "bgppeers", "routes"];
        for kind in kinds {
            let served = || Ok(cluster.kubectl(&["get", kind, "--all-namespaces"]).is_ok());
            eventually(&format!("{kind} are served"), served).unwrap();
        }
        cluster
    })
}

/// A file of the chart.
fn chart_file(name: &str) -> String {
    fs::read_to_string(Path::new(CHART).join(name)).unwrap()
}

/// What a YAML file or document holds.
fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// The documents of YAML text that are not empty.
fn documents(text: &str) -> Vec<&str> {
    let parts = text.split("\n---\n").map(|part| part.trim_start_matches("---\n"));
    parts
        .filter(|part| part.lines().any(|line| !line.is_empty() && !line.starts_with('#')))
        .collect()
}

/// One set of values, and what it is rendered to.
struct Case {
    folder: PathBuf,
    /// Further arguments of `helm template`, from the line `# arguments:` of the values.
    arguments: Vec<String>,
}

impl Case {
    fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chart/cases");
        let mut folders: Vec<PathBuf> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.sort();
        assert!(folders.len() >= 8, "the cases are missing");
        let case = |folder: PathBuf| {
            let values = fs::read_to_string(folder.join("values.yaml")).unwrap();
            let arguments = values.lines().find_map(|line| line.strip_prefix("# arguments: "));
            let arguments = arguments.unwrap_or_default().split_whitespace().map(str::to_owned);
            Self { folder, arguments: arguments.collect() }
        };
        folders.into_iter().map(case).collect()
    }

    fn name(&self) -> String {
        self.folder.file_name().unwrap().to_string_lossy().into_owned()
    }

    fn values(&self) -> String {
        self.folder.join("values.yaml").to_string_lossy().into_owned()
    }

    /// What helm makes of it.
    fn rendered(&self) -> String {
        let values = self.values();
        let mut words = vec!["template", CHART, "--namespace", NAMESPACE];
        if !self.arguments.iter().any(|argument| argument == "--name-template") {
            words.insert(1, "gatehouse");
        }
        words.extend(["--values", &values]);
        words.extend(self.arguments.iter().map(String::as_str));
        cluster().helm(&words).unwrap()
    }
}
