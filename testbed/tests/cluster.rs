//! The cluster of the test bed is a real one: it grants what RBAC says, its controllers work, it may be away for a
//! while, and it leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{path::Path, process::Command, sync::OnceLock};

use gatehouse_testbed::{
    cluster::{Cluster, eventually},
    program::{Program, own_test},
};

/// The cluster of all tests that leave it running.
fn shared() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::builder().controllers(true).start().unwrap())
}

const READER: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: access}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: access}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: access}
rules:
  - apiGroups: ['']
    resources: [services]
    verbs: [list]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: access}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects:
  - {kind: ServiceAccount, name: reader, namespace: access}
";

#[test]
fn a_service_account_may_do_what_its_role_says_and_nothing_else() {
    let cluster = shared();
    cluster.apply(READER).unwrap();
    let kubeconfig = cluster.kubeconfig_of("access", "reader").unwrap();
    let get = |path: &str| {
        cluster.kubectl(&["get", "--raw", path, "--kubeconfig", kubeconfig.to_str().unwrap()])
    };
    // The authorizer hears of a role by a watch of its own.
    eventually("services are listed", || Ok(get("/api/v1/namespaces/access/services").is_ok()))
        .unwrap();
    for path in ["/api/v1/services", "/api/v1/namespaces/access/secrets"] {
        let refused = get(path).unwrap_err().to_string();
        let reader = "User \"system:serviceaccount:access:reader\" cannot list";
        assert!(refused.contains("Forbidden") && refused.contains(reader), "{refused}");
    }
    assert_eq!(cluster.token("access", "reader").unwrap().split('.').count(), 3);
}

const POD_AND_SERVICE: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: slices}
---
apiVersion: v1
kind: Node
metadata: {name: nowhere}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: slices}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: slices, labels: {app: web}}
spec:
  nodeName: nowhere
  automountServiceAccountToken: false
  containers: [{name: web, image: web}]
";

#[test]
fn controllers_make_endpoint_slices_and_end_namespaces() {
    let cluster = shared();
    // A Pod needs its namespace's ServiceAccount, which a controller makes.
    eventually("the Pod is made", || Ok(cluster.apply(POD_AND_SERVICE).is_ok())).unwrap();
    let status = "{\"status\":{\"phase\":\"Running\",\"podIP\":\"10.1.2.3\",\"podIPs\":[{\"ip\":\"10.1.2.3\"}],\
                   \"conditions\":[{\"type\":\"Ready\",\"status\":\"True\"}]}}";
    let patch = ["patch", "pod", "web", "--namespace=slices", "--subresource=status", "--patch"];
    cluster.kubectl(&[&patch[..], &[status]].concat()).unwrap();
    let query = "jsonpath={.items[*].endpoints[*].addresses[0]} \
                 {.items[*].endpoints[*].conditions.ready} {.items[*].ports[*].port}";
    let slices = ["get", "endpointslices", "--namespace=slices", "--output", query];
    // It fails as long as there is no endpoint.
    let seen = || cluster.kubectl(&slices).unwrap_or_else(|error| error.to_string());
    eventually("its address is in a slice", || Ok(seen() == "10.1.2.3 true 8080"))
        .unwrap_or_else(|error| panic!("{error}: {}", seen()));
    // There is no kubelet that would confirm the Pod's end.
    let delete = ["delete", "pod", "web", "--namespace=slices", "--force", "--grace-period=0"];
    cluster.kubectl(&delete).unwrap();
    cluster.kubectl(&["delete", "namespace", "slices", "--wait", "--timeout=120s"]).unwrap();
    let gone = cluster.kubectl(&["get", "namespace", "slices"]).unwrap_err().to_string();
    assert!(gone.contains("NotFound"), "{gone}");
}

#[test]
fn a_restarted_api_server_keeps_objects_and_has_forgotten_old_watches() {
    let cluster = Cluster::start().unwrap();
    let version = ["get", "namespace", "default", "--output=jsonpath={.metadata.resourceVersion}"];
    let before = cluster.kubectl(&version).unwrap();
    cluster.kubectl(&["create", "configmap", "kept", "--from-literal=a=b"]).unwrap();
    let watch = format!(
        "/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=1&resourceVersion={before}"
    );
    let seen = cluster.kubectl(&["get", "--raw", &watch]).unwrap();
    assert!(seen.contains("\"type\":\"ADDED\"") && seen.contains("\"kept\""), "{seen}");

    cluster.api_server().stop();
    let refused = cluster.kubectl(&["get", "configmap", "kept"]).unwrap_err().to_string();
    assert!(refused.contains("refused"), "{refused}");
    cluster.api_server().start().unwrap();

    cluster.kubectl(&["get", "configmap", "kept"]).unwrap();
    let seen = cluster.kubectl(&["get", "--raw", &watch]).unwrap();
    assert!(seen.contains("\"type\":\"ERROR\"") && seen.contains("\"code\":410"), "{seen}");
}

/// Run by the test below in a process of its own, which is killed.
#[test]
#[ignore = "not a test of its own"]
fn start_a_cluster_and_wait() {
    let cluster = Cluster::builder().controllers(true).start().unwrap();
    println!("folder {}", cluster.kubeconfig().parent().unwrap().display());
    std::thread::sleep(std::time::Duration::from_secs(600));
}

#[test]
fn a_killed_test_leaves_neither_process_nor_folder() {
    let mut command = Command::new("env");
    own_test(&mut command, "start_a_cluster_and_wait");
    let mut test = Program::start(command);
    let line = test.expect(|line| line.contains("folder "));
    let (_, folder) = line.split_once("folder ").unwrap();
    assert!(Path::new(folder).is_dir() && !users_of(folder).is_empty());
    test.kill();
    eventually("all is gone", || Ok(!Path::new(folder).exists() && users_of(folder).is_empty()))
        .unwrap();
}

/// Command lines of the processes that name this folder.
fn users_of(folder: &str) -> Vec<String> {
    let lines = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(folder)).collect()
}
