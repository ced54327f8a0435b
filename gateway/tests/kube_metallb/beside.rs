//! Both in one cluster, each with Services of its own: neither writes to those of the other, whatever happens.

use std::{collections::BTreeMap, thread, time::Duration};

use gatehouse_testbed::{
    lan::{Host, Lan},
    process::Process,
    wait::eventually,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::bed::{Bed, NODE, Name, addresses, end};

/// MetalLB reads the pools of its namespace, Gatehouse those of all: its own come first, by their priority.
const POOLS: &str = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: theirs, namespace: metallb-system}
spec: {addresses: [10.77.1.1-10.77.1.9]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: theirs, namespace: metallb-system}
spec: {ipAddressPools: [theirs]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: ours, namespace: default}
spec: {addresses: [10.77.2.1-10.77.2.9], serviceAllocation: {priority: 1}}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: ours, namespace: default}
spec: {ipAddressPools: [ours]}
";

/// Who serves Services of which `spec.loadBalancerClass`.
struct Classes {
    gatehouse: Option<&'static str>,
    metallb: Option<&'static str>,
}

/// Who serves a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Gatehouse,
    MetalLb,
    Neither,
}

impl Side {
    /// By the name that it has here.
    fn of(service: &str) -> Self {
        match service.split_once('-') {
            Some(("ours", _)) => Self::Gatehouse,
            Some(("theirs", _)) => Self::MetalLb,
            _ => Self::Neither,
        }
    }
}

struct World<'b> {
    bed: &'b Bed,
    classes: Classes,
    folder: TempDir,
    gatehouse: Option<Process>,
    metallb: gatehouse_testbed::cluster::MetalLb,
}

impl World<'_> {
    fn start(&mut self) {
        let class = self.classes.gatehouse.map(|class| ["--load-balancer-class", class]);
        let flags: Vec<&str> = class.into_iter().flatten().collect();
        self.gatehouse = Some(self.bed.gatehouse(self.folder.path(), &flags));
        self.metallb.start().unwrap();
    }

    fn stop(&mut self) {
        end(self.gatehouse.take().unwrap());
        self.metallb.stop();
    }

    /// Creates or changes a Service with an endpoint.
    fn apply(&self, name: &str, class: Option<&str>, port: u16, kind: &str) {
        let class = class.map(|class| format!("loadBalancerClass: {class}, ")).unwrap_or_default();
        let class = if kind == "LoadBalancer" { &*class } else { "" };
        self.bed.apply(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
             spec: {{type: {kind}, {class}selector: {{app: x}}, ports: [{{port: {port}}}]}}\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
             metadata: {{name: {name}, namespace: default, labels: {{kubernetes.io/service-name: {name}}}}}\n\
             ports: [{{port: {port}}}]\n\
             endpoints: [{{addresses: [10.77.0.1], nodeName: {NODE}, conditions: {{ready: true}}}}]\n"
        ));
    }

    fn has(&self, name: &str, ip: &str) {
        eventually(name, || match addresses(&self.bed.service(&Name::parse(name))) {
            right if right == ip => Ok(()),
            other => Err(format!("{other}\n{}", self.metallb.log_tail())),
        });
    }

    /// What was written to Services, told of them or made for them is from the side that serves them.
    fn each_keeps_to_its_own(&self) {
        for service in self.bed.all("services") {
            let name = service["metadata"]["name"].as_str().unwrap();
            let side = Side::of(name);
            assert_eq!(service["metadata"]["finalizers"], Value::Null, "{name}");
            let managers = service["metadata"]["managedFields"].as_array().unwrap();
            for manager in managers.iter().map(|entry| entry["manager"].as_str().unwrap()) {
                let by = match manager {
                    "kubectl" | "kube-apiserver" => continue,
                    ours if ours.starts_with("gatehouse:") => Side::Gatehouse,
                    "controller" | "speaker" => Side::MetalLb,
                    other => panic!("{other} has written to {name}"),
                };
                assert_eq!(by, side, "{manager} has written to {name}: {service:#}");
            }
            for event in self.bed.events(&Name::parse(name)) {
                // The API server repairs its notes of cluster addresses now and then, and says so.
                if event["metadata"]["managedFields"][0]["manager"] == "kube-apiserver" {
                    continue;
                }
                let from = [&event["source"]["component"], &event["reportingComponent"]];
                let from = from.map(|it| it.as_str().unwrap_or_default());
                let by = match from.iter().find(|it| !it.is_empty()) {
                    Some(from) if from.contains("gatehouse") => Side::Gatehouse,
                    Some(from) if from.contains("metallb") => Side::MetalLb,
                    _ => panic!("an Event from nobody: {event:#}"),
                };
                assert_eq!(by, side, "{name}: {event:#}");
            }
        }
        // Each makes the object first and says in a second write whose it is.
        let statuses = eventually("every status says of which Service it is", || {
            let all = self.bed.all("servicel2statuses");
            match all.iter().find(|status| status["status"]["serviceName"].is_null()) {
                Some(empty) => Err(format!("{empty:#}")),
                None => Ok(all),
            }
        });
        for status in statuses {
            let name = status["status"]["serviceName"].as_str().unwrap_or_default();
            let metallb = status["metadata"]["namespace"] == "metallb-system";
            let side = if metallb { Side::MetalLb } else { Side::Gatehouse };
            assert_eq!(Side::of(name), side, "{status:#}");
        }
    }

    /// The version of every object of a kind, once nobody has written for a while.
    fn versions(&self, kind: &str) -> BTreeMap<String, String> {
        let look = || -> BTreeMap<String, String> {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let of = |object: Value| {
                (text(&object["metadata"]["name"]), text(&object["metadata"]["resourceVersion"]))
            };
            self.bed.all(kind).into_iter().map(of).collect()
        };
        let mut before = look();
        eventually("nobody writes", || {
            thread::sleep(Duration::from_millis(1500));
            let now = look();
            let quiet = now == before;
            let seen = std::mem::replace(&mut before, now);
            if quiet { Ok(seen) } else { Err(format!("{seen:?}, then {before:?}")) }
        })
    }
}

#[test]
fn neither_touches_the_services_of_the_other() {
    let (_lan, [host, client]) = Lan::new(["node", "client"]).unwrap();
    let bed = Bed::new(&host);
    bed.apply(POOLS);
    let ways = [
        Classes { gatehouse: Some("gatehouse.io/vip"), metallb: None },
        Classes { gatehouse: None, metallb: Some("example.com/metallb") },
    ];
    for classes in ways {
        let metallb = bed.cluster.start_metallb(NODE, classes.metallb).unwrap();
        let folder = TempDir::new().unwrap();
        let mut world = World { bed: &bed, classes, folder, gatehouse: None, metallb };
        world.start();
        go_through(&mut world, &client);
        world.stop();
    }
}

fn go_through(world: &mut World<'_>, client: &Host) {
    let (ours, theirs) = (world.classes.gatehouse, world.classes.metallb);
    world.apply("ours-1", ours, 80, "LoadBalancer");
    world.apply("theirs-1", theirs, 80, "LoadBalancer");
    // MetalLB takes Services that wait in no order of theirs.
    world.has("theirs-1", "10.77.1.1");
    world.apply("inside", None, 80, "ClusterIP");
    world.apply("foreign", Some("example.com/other"), 80, "LoadBalancer");
    world.apply("theirs-2", theirs, 80, "LoadBalancer");
    world.apply("ours-2", ours, 80, "LoadBalancer");
    world.has("ours-1", "10.77.2.1");
    world.has("ours-2", "10.77.2.2");
    world.has("theirs-2", "10.77.1.2");
    for ip in ["10.77.1.1", "10.77.2.1"] {
        let answered = || match client.who_has(ip.parse().unwrap()).unwrap().len() {
            1 => Ok(()),
            number => Err(format!("{number} answers\n{}", world.metallb.log_tail())),
        };
        eventually(ip, answered);
    }
    world.each_keeps_to_its_own();

    // Edits: each sees what becomes of its own.
    world.apply("ours-1", ours, 81, "LoadBalancer");
    world.apply("theirs-1", theirs, 81, "LoadBalancer");
    world.apply("ours-2", None, 80, "ClusterIP");
    world.apply("theirs-2", None, 80, "ClusterIP");
    world.has("ours-2", "");
    world.has("theirs-2", "");
    world.each_keeps_to_its_own();

    // Restarts: nobody has a reason to write anything.
    let before = world.versions("services");
    world.stop();
    world.start();
    world.apply("ours-3", ours, 80, "LoadBalancer");
    world.apply("theirs-3", theirs, 80, "LoadBalancer");
    eventually("ours-3", || {
        let got = addresses(&world.bed.service(&Name::parse("ours-3")));
        if got.starts_with("10.77.2.") { Ok(()) } else { Err(got) }
    });
    // The address of theirs-2 was free at once.
    world.has("theirs-3", "10.77.1.2");
    let mut after = world.versions("services");
    after.retain(|name, _| before.contains_key(name));
    assert_eq!(after, before);
    world.each_keeps_to_its_own();
    // Both count what a pool has; neither writes because the other has written.
    world.versions("ipaddresspools");

    let names =
        ["ours-1", "ours-2", "ours-3", "theirs-1", "theirs-2", "theirs-3", "inside", "foreign"];
    world.bed.kubectl(&[&["delete", "services", "--namespace=default"], &names[..]].concat());
    world.bed.kubectl(&["delete", "events,endpointslices", "--all", "--namespace=default"]);
    let left = || {
        let left = world.bed.all("servicel2statuses");
        if left.is_empty() { Ok(()) } else { Err(format!("{left:#?}")) }
    };
    eventually("no status of a Service that is gone", left);
}
