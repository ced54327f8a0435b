//! Pods of the test bed's nodes are real processes: with addresses, volumes, tokens, probes, logs and an end.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{fs, path::Path};

use gatehouse_testbed::{
    cluster::{Cluster, Node, eventually},
    lan::{Host, Lan},
};

const WEB: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: page}
data: {index.html: first}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: registry.test/tools:1
          command: [python3, -m, http.server, '8080', --directory, /page]
          env: [{name: PYTHONUNBUFFERED, value: '1'}]
          ports: [{name: http, containerPort: 8080}]
          readinessProbe: {httpGet: {port: http, path: /}, periodSeconds: 1}
          volumeMounts: [{name: page, mountPath: /page}]
      volumes: [{name: page, configMap: {name: page}}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
";

/// Asks the API server for what it may read, and for what it may not, as its ServiceAccount.
const READER: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [''], resources: [services], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: default}]
---
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  serviceAccountName: reader
  restartPolicy: Never
  hostNetwork: true
  nodeName: node-1
  initContainers:
    - {name: first, image: tools, command: ['true']}
    - name: beside
      image: tools
      restartPolicy: Always
      command: [sh, -c, 'trap exit TERM; echo here; while :; do sleep 0.1; done']
      startupProbe: {exec: {command: ['true']}, periodSeconds: 1}
  containers:
    - name: reader
      image: tools
      env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}]
      command: [sh, -c]
      args:
        - |
          cd /var/run/secrets/kubernetes.io/serviceaccount
          for kind in services secrets; do
            url=https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/api/v1/namespaces/$(cat namespace)/$kind
            curl -s -o /dev/null -w \"$kind %{http_code} from $(NODE)\\n\" --cacert ca.crt \\
              -H \"Authorization: Bearer $(cat token)\" $url
          done
";

const CHART: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: {{ .Release.Name }}}
spec:
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}}
    spec:
      hostNetwork: true
      terminationGracePeriodSeconds: 0
      containers:
        - name: wait
          image: tools
          command: [sh, -c, 'echo {{ .Values.word }} > /state/word; sleep 600']
          readinessProbe: {exec: {command: [test, -e, /state/word]}, periodSeconds: 1}
          volumeMounts: [{name: state, mountPath: /state}]
      volumes: [{name: state, hostPath: {path: /var/lib/state}}]
";

struct Bed {
    nodes: Vec<Node>,
    cluster: Cluster,
    client: Host,
    _lan: Lan,
}

impl Bed {
    fn new() -> Self {
        let (lan, [api, one, two, client]) =
            Lan::new(["api", "node-1", "node-2", "client"]).unwrap();
        let builder = Cluster::builder().host(&api).controllers(true).scheduler(true);
        let builder = builder.controller_flag("--node-monitor-grace-period=8s");
        let cluster = builder.controller_flag("--node-monitor-period=1s").start().unwrap();
        let nodes = cluster.add_nodes(&[&one, &two], &[&client], &[("tools", "")]).unwrap();
        Self { nodes, cluster, client, _lan: lan }
    }

    fn kubectl(&self, line: &str) -> String {
        self.cluster.kubectl(&line.split(' ').collect::<Vec<_>>()).unwrap()
    }

    /// What the Pods of the DaemonSet answer, by their addresses.
    fn pages(&self) -> Vec<(String, String)> {
        let addresses = self.kubectl("get pods -l app=web -o jsonpath={.items[*].status.podIP}");
        let ask = |address: &str| {
            let url = format!("http://{address}:8080/");
            let (_, page) = self.client.output(&["curl", "-s", "-m", "5", &url]).unwrap();
            (address.to_owned(), page)
        };
        addresses.split(' ').map(ask).collect()
    }

    /// How many endpoints of the Service are ready.
    fn ready(&self) -> usize {
        let query = "jsonpath={.items[*].endpoints[*].conditions.ready}";
        let line = "get endpointslices -l kubernetes.io/service-name=web -o";
        let words: Vec<_> = line.split(' ').chain([query]).collect();
        // It fails as long as there is no endpoint.
        let found = self.cluster.kubectl(&words).unwrap_or_default();
        found.split_whitespace().filter(|ready| *ready == "true").count()
    }
}

#[test]
fn pods_are_processes_with_all_that_pods_have() {
    let bed = Bed::new();
    serves_a_daemon_set_on_each_node(&bed);
    runs_as_its_service_account(&bed);
    installs_a_chart(&bed);
    loses_a_node(&bed);
    // The scheduler tolerates a lost node for a while, so both are there again.
    bed.kubectl("delete daemonset web --wait");
    eventually("its Pods are gone", || Ok(bed.kubectl("get pods -l app=web -o name").is_empty()))
        .unwrap();
}

fn serves_a_daemon_set_on_each_node(bed: &Bed) {
    bed.cluster.apply(WEB).unwrap();
    bed.kubectl("rollout status daemonset/web --timeout=120s");
    let pages = bed.pages();
    assert_eq!(pages.len(), 2);
    assert!(pages.iter().all(|(_, page)| page == "first"), "{pages:?}");
    let own: Vec<_> = pages.iter().map(|(address, _)| &address[..8]).collect();
    assert!(own.contains(&"10.78.2.") && own.contains(&"10.78.3."), "{own:?}");
    eventually("both are endpoints", || Ok(bed.ready() == 2)).unwrap();
    let log = bed.kubectl("logs daemonset/web --tail=1");
    assert!(log.contains("GET / HTTP"), "{log}");
    let patch = "{\"data\":{\"index.html\":\"second\"}}";
    bed.kubectl(&format!("patch configmap page --patch {patch}"));
    eventually("the page has changed", || Ok(bed.pages().iter().all(|(_, page)| page == "second")))
        .unwrap();
}

fn runs_as_its_service_account(bed: &Bed) {
    bed.cluster.apply(READER).unwrap();
    bed.kubectl("wait --for=jsonpath={.status.phase}=Succeeded pod/reader --timeout=120s");
    let log = bed.kubectl("logs reader");
    let node = bed.nodes[0].host().v4();
    assert_eq!(log, format!("services 200 from {node}\nsecrets 403 from {node}\n"));
    assert_eq!(bed.kubectl("logs reader -c beside"), "here\n");
    let address = bed.kubectl("get pod reader -o jsonpath={.status.podIP}");
    assert_eq!(address, node.to_string());
}

fn installs_a_chart(bed: &Bed) {
    let folder = bed.cluster.kubeconfig().with_file_name("chart");
    let write = |name: &str, text: &str| {
        let file = folder.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    write("Chart.yaml", "apiVersion: v2\nname: waiter\nversion: 1.0.0\n");
    write("values.yaml", "word: none\n");
    write("templates/set.yaml", CHART);
    let chart = folder.to_str().unwrap();
    let helm = |arguments: &[&str]| bed.cluster.helm(arguments).unwrap();
    helm(&["install", "waiter", chart, "--set", "word=one", "--wait", "--timeout=120s"]);
    let word = |node: &Node| fs::read_to_string(node.disk().join("var/lib/state/word")).unwrap();
    assert_eq!(bed.nodes.iter().map(word).collect::<String>(), "one\none\n");
    helm(&["upgrade", "waiter", chart, "--set", "word=two", "--wait", "--timeout=120s"]);
    assert_eq!(bed.nodes.iter().map(word).collect::<String>(), "two\ntwo\n");
    helm(&["uninstall", "waiter", "--wait"]);
    assert!(!Path::new("/var/lib/state").exists(), "this machine's own disk is none of a Pod's");
}

fn loses_a_node(bed: &Bed) {
    bed.nodes[1].kill();
    let answers = bed.pages().iter().filter(|(_, page)| page == "second").count();
    assert_eq!(answers, 1, "a Pod of a node without power answers");
    eventually("the node's endpoint is not ready", || Ok(bed.ready() == 1)).unwrap();
    bed.nodes[1].start().unwrap();
    eventually("it serves again", || Ok(bed.ready() == 2)).unwrap();
    assert!(bed.pages().iter().all(|(_, page)| page == "second"));
}
