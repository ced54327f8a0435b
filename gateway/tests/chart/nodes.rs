//! The chart on nodes that run its Pods as processes, with the rights, volumes and capabilities that it asks for.

use gatehouse_testbed::{
    cluster::{Cluster, Node, eventually},
    lan::Lan,
};

use super::{CHART, NAMESPACE};

fn logs(cluster: &Cluster, node: &Node) -> String {
    let field = format!("--field-selector=spec.nodeName={}", node.name());
    let get = ["get", "pods", "--namespace", NAMESPACE, "--output=name", &field];
    let pod = cluster.kubectl(&get).unwrap();
    cluster.kubectl(&["logs", "--namespace", NAMESPACE, pod.trim()]).unwrap()
}

#[test]
fn an_installation_is_ready_on_every_node_and_no_right_is_missing() {
    let (_lan, [api, one, two]) = Lan::new(["api", "node-1", "node-2"]).unwrap();
    let cluster = Cluster::builder().host(&api).controllers(true).scheduler(true).start().unwrap();
    let images = [("gatehouse", env!("CARGO_BIN_EXE_gatehouse"))];
    let nodes = cluster.add_nodes(&[&one, &two], &[], &images).unwrap();
    let install = ["install", "gatehouse", CHART, "--create-namespace", "--namespace", NAMESPACE];
    // The settings of interfaces are not part of a node's disk here.
    let set = "addresses.pools[0]=10.77.0.200-10.77.0.210,hostSysctls=false,metrics.enabled=true";
    // Returns when the probes of all Pods have said that they are ready.
    cluster.helm(&[&install[..], &["--set", set, "--wait", "--timeout=180s"]].concat()).unwrap();

    for node in &nodes {
        assert!(node.disk().join("var/lib/gatehouse").is_dir(), "the state is not on the node");
        let url = format!("http://{}:9902/metrics", node.host().v4());
        // Without a pool that can be read, its gateway Service would be one.
        eventually("everything is read and nothing is wrong", || {
            let (_, page) = api.output(&["curl", "-s", "-m", "5", &url])?;
            let served = !page.lines().any(|line| line == "gatehouse_snapshot_generation 0");
            Ok(served
                && page.lines().any(|line| line == "gatehouse_problems{severity=\"error\"} 0"))
        })
        .unwrap();
    }
    for node in &nodes {
        let log = logs(&cluster, node);
        assert!(!log.contains("forbidden") && !log.contains("NotPermitted"), "{log}");
    }
    cluster.helm(&["uninstall", "gatehouse", "--namespace", NAMESPACE, "--wait"]).unwrap();
}
