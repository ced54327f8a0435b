//! A real API server takes what the chart renders, and an installation, an upgrade and a removal leave what
//! they should.

use std::{fs, path::Path};

use gatehouse_testbed::cluster::Cluster;

use super::{CHART, Case, NAMESPACE, cluster, documents};

/// Kinds of operators that the cluster does not have.
const FOREIGN: [&str; 2] =
    ["apiVersion: monitoring.coreos.com/", "apiVersion: security.openshift.io/"];

#[test]
fn an_api_server_takes_every_object_that_is_rendered() {
    for namespace in ["edge", "web", "shop"] {
        cluster().kubectl(&["create", "namespace", namespace]).unwrap();
    }
    // A Pod is asked for its ServiceAccount at once.
    let accounts = [(NAMESPACE, "gatehouse-test"), (NAMESPACE, "edge-test"), ("edge", "edge-test")];
    for (namespace, account) in accounts {
        let words = ["create", "serviceaccount", account, "--namespace", namespace];
        cluster().kubectl(&words).unwrap();
    }
    for case in Case::all() {
        let rendered = case.rendered();
        let known = documents(&rendered)
            .into_iter()
            .filter(|document| !FOREIGN.iter().any(|foreign| document.contains(foreign)));
        let text: String = known.map(|document| format!("---\n{document}\n")).collect();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("objects.yaml");
        fs::write(&file, text).unwrap();
        let file = file.to_string_lossy();
        let apply = ["apply", "--server-side", "--dry-run=server", "--force-conflicts"];
        let what = ["--validate=strict", "--filename", &file];
        if let Err(error) = cluster().kubectl(&[&apply[..], &what].concat()) {
            panic!("{}: {error:#}", case.name());
        }
    }
}

/// What is asked of an object, by kubectl's jsonpath.
fn field(cluster: &Cluster, object: &str, path: &str) -> String {
    let path = format!("jsonpath={path}");
    cluster.kubectl(&["get", object, "--namespace", NAMESPACE, "--output", &path]).unwrap()
}

#[test]
fn one_command_installs_all_an_upgrade_changes_it_and_a_removal_leaves_the_definitions() {
    let cluster = Cluster::start().unwrap();
    let pool = "addresses.pools[0]=192.168.1.200-192.168.1.250";
    let install = ["install", "gatehouse", CHART, "--create-namespace", "--namespace", NAMESPACE];
    let notes = cluster.helm(&[&install[..], &["--set", pool]].concat()).unwrap();
    assert!(notes.contains("OpenShift Routes were added"), "{notes}");
    assert!(!notes.contains("No addresses were given"), "{notes}");

    let range = field(&cluster, "ipaddresspool/gatehouse", "{.spec.addresses[*]}");
    assert_eq!(range, "192.168.1.200-192.168.1.250");
    assert_eq!(field(&cluster, "l2adv/gatehouse", "{.spec.ipAddressPools[*]}"), "gatehouse");
    assert_eq!(
        field(&cluster, "ingressclass/gatehouse", "{.spec.controller}"),
        "gatehouse.io/ingress"
    );
    assert_eq!(field(&cluster, "service/gatehouse", "{.spec.type}"), "LoadBalancer");
    // The key of the group is made by the nodes, of which there are none here.
    let role = field(&cluster, "role/gatehouse", "{.rules[*].resourceNames}");
    assert_eq!(role, r#"["gatehouse"] ["gatehouse-group"]"#);

    let upgrade = ["upgrade", "gatehouse", CHART, "--namespace", NAMESPACE, "--reuse-values"];
    let pools = "addresses.pools={192.168.1.200-192.168.1.250,2001:db8::/120}";
    let more = ["--set", pools, "--set", "traffic.drainTimeout=5"];
    cluster.helm(&[&upgrade[..], &more].concat()).unwrap();
    let range = field(&cluster, "ipaddresspool/gatehouse", "{.spec.addresses[*]}");
    assert_eq!(range, "192.168.1.200-192.168.1.250 2001:db8::/120");
    let grace = "{.spec.template.spec.terminationGracePeriodSeconds}";
    assert_eq!(field(&cluster, "daemonset/gatehouse", grace), "21");
    // The definition of Routes is the chart's own and stays under its care.
    let owner = "{.metadata.annotations.meta\\.helm\\.sh/release-name}";
    assert_eq!(field(&cluster, "crd/routes.route.openshift.io", owner), "gatehouse");

    cluster.helm(&["uninstall", "gatehouse", "--namespace", NAMESPACE]).unwrap();
    let left = cluster
        .kubectl(&[
            "get",
            "daemonset,service,secret,serviceaccount,role,rolebinding,ipaddresspool,l2advertisement",
            "--namespace",
            NAMESPACE,
            "--output=name",
            "--selector=app.kubernetes.io/instance=gatehouse",
        ])
        .unwrap();
    assert_eq!(left, "");
    let cluster_wide = "clusterrole,clusterrolebinding,ingressclass,validatingadmissionpolicy,crd";
    let selector = "--selector=app.kubernetes.io/instance=gatehouse";
    let left = cluster.kubectl(&["get", cluster_wide, "--output=name", selector]).unwrap();
    assert_eq!(
        left.trim(),
        "customresourcedefinition.apiextensions.k8s.io/routes.route.openshift.io"
    );
    let pools = cluster.kubectl(&["get", "crd/ipaddresspools.metallb.io", "--output=name"]);
    assert!(pools.is_ok(), "the definition of pools went with the chart");
}

/// The pod of `helm test` runs a script: a shell has to be able to read it.
#[test]
fn the_script_of_helm_test_is_one() {
    let rendered = Case::all().iter().find(|case| case.name() == "migrate").unwrap().rendered();
    let pod = documents(&rendered).into_iter().find(|text| text.contains("\nkind: Pod\n")).unwrap();
    let script = super::yaml(pod)["spec"]["containers"][0]["args"][0].as_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("script");
    fs::write(&file, &script).unwrap();
    let checked =
        std::process::Command::new("sh").arg("-n").arg(Path::new(&file)).status().unwrap();
    assert!(checked.success(), "{script}");
}
