//! One cluster that is always there: what kubectl creates, changes and deletes is live.

use std::{path::Path, process::Command};

use gatehouse_testbed::{
    gatehouse::{
        gateway::{Gateway, Plan},
        manifests, tls,
    },
    wait::comes_true,
};

use crate::bed::{Bed, answer, answers, ingress, service, shows};

/// A definition of Routes that lets anything pass, as one without a schema does.
const ROUTES: &str = "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: routes.route.openshift.io}
spec:
  group: route.openshift.io
  scope: Namespaced
  names: {kind: Route, listKind: RouteList, plural: routes, singular: route}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

#[test]
fn what_kubectl_does_is_live() {
    let bed = Bed::new();
    bed.namespace("secrets", &bed.one);
    let account = bed.account(&["secrets"]);
    let gateway = Plan::default().kubeconfig(account.clone()).start();
    services_and_ingresses(&bed, &gateway);
    classes(&bed, &gateway);
    definitions_that_come_late(&bed, &gateway);
    objects_that_make_no_sense(&bed, &gateway);
    definitions_that_go(&bed, &gateway);
    every_kind_of_metallb(&bed, &gateway);
    secrets_that_change(&bed, &gateway);
    secrets_that_may_not_be_read(&bed, &gateway);
    objects_that_are_being_deleted(&bed, &gateway);
    endpoints_that_are_not_allowed(&bed, &gateway);
    a_report_for_who_migrates(&bed, &account);
    drop(gateway);
    namespaces_that_are_watched(&bed);
    namespaces_that_are_selected(&bed);
}

fn services_and_ingresses(bed: &Bed, gateway: &Gateway) {
    bed.namespace("basic", &bed.one);
    bed.apply("basic", &ingress("web", "basic.test", ""));
    answers(gateway, "basic.test", "one");
    bed.apply("basic", &service(&bed.two));
    answers(gateway, "basic.test", "two");
    bed.apply("basic", &ingress("web", "other.test", ""));
    answers(gateway, "other.test", "two");
    answers(gateway, "basic.test", "404");
    bed.kubectl("--namespace basic delete endpointslice app-0");
    answers(gateway, "other.test", "503");
    bed.apply("basic", &service(&bed.one));
    answers(gateway, "other.test", "one");
    bed.kubectl("--namespace basic delete ingress web");
    answers(gateway, "other.test", "404");
}

fn classes(bed: &Bed, gateway: &Gateway) {
    bed.namespace("class", &bed.one);
    let text = ingress("web", "class.test", "");
    bed.apply("class", &text.replace("spec:\n", "spec:\n  ingressClassName: edge\n"));
    bed.apply("class", &ingress("marker", "marker.test", ""));
    answers(gateway, "marker.test", "one");
    assert_eq!(answer(gateway.http, "class.test"), "404", "there is no such class");
    let class = "{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: edge}, \
                 spec: {controller: gatehouse.io/ingress}}";
    bed.apply("class", class);
    answers(gateway, "class.test", "one");
    bed.kubectl("delete ingressclass edge");
    answers(gateway, "class.test", "404");
}

fn definitions_that_come_late(bed: &Bed, gateway: &Gateway) {
    shows(gateway, "/metrics", "gatehouse_source_kind_missing{kind=\"Route\"} 1");
    bed.cluster.apply(ROUTES).unwrap();
    bed.kubectl("wait --for condition=established crd/routes.route.openshift.io --timeout=60s");
    bed.namespace("routes", &bed.one);
    bed.apply("routes", &manifests::route("web", "route.test", &[("app", 1)]));
    answers(gateway, "route.test", "one");
    assert!(!gateway.page("/metrics").contains("kind_missing{kind=\"Route\"}"));
}

fn objects_that_make_no_sense(bed: &Bed, gateway: &Gateway) {
    let strange = manifests::route("strange", "strange.test", &[("app", 1)]);
    bed.apply("routes", &strange.replace("weight: 1", "weight: much"));
    shows(gateway, "/snapshot", "ObjectUnreadable");
    bed.apply("routes", &manifests::route("good", "good.test", &[("app", 1)]));
    answers(gateway, "good.test", "one");
    // The last version that made sense stays in use.
    let patch = "--type=merge --patch {\"spec\":{\"to\":{\"weight\":\"much\"}}}";
    bed.kubectl(&format!("--namespace routes patch route good {patch}"));
    shows(gateway, "/snapshot", "Route routes/good");
    assert_eq!(answer(gateway.http, "good.test"), "one");
    bed.apply("routes", &strange);
    answers(gateway, "strange.test", "one");
    bed.kubectl("--namespace routes delete route good");
    answers(gateway, "good.test", "404");
    let solved = comes_true(|| !gateway.page("/snapshot").contains("ObjectUnreadable"));
    assert!(solved, "{}", gateway.page("/snapshot"));
}

fn definitions_that_go(bed: &Bed, gateway: &Gateway) {
    answers(gateway, "route.test", "one");
    bed.kubectl("delete crd routes.route.openshift.io --wait=false");
    answers(gateway, "route.test", "404");
    shows(gateway, "/metrics", "gatehouse_source_kind_missing{kind=\"Route\"} 1");
    assert_eq!(answer(gateway.http, "marker.test"), "one");
}

/// Kinds that do not show in traffic are counted.
fn every_kind_of_metallb(bed: &Bed, gateway: &Gateway) {
    let definitions = Command::new(env!("CARGO_BIN_EXE_gatehouse")).arg("crds").output().unwrap();
    let definitions = String::from_utf8(definitions.stdout).unwrap();
    bed.cluster.apply(&definitions).unwrap();
    bed.kubectl("wait --for condition=established crd --all --timeout=60s");
    bed.kubectl("create namespace metallb-system");
    for (kind, plural, version, spec) in [
        ("IPAddressPool", "ipaddresspools", "v1beta1", "{addresses: [10.77.9.0/24]}"),
        ("L2Advertisement", "l2advertisements", "v1beta1", "{ipAddressPools: [x]}"),
        (
            "BGPPeer",
            "bgppeers",
            "v1beta2",
            "{myASN: 64500, peerASN: 64501, peerAddress: 10.77.0.99}",
        ),
        ("BGPAdvertisement", "bgpadvertisements", "v1beta1", "{ipAddressPools: [x]}"),
        ("BFDProfile", "bfdprofiles", "v1beta1", "{receiveInterval: 300}"),
        ("Community", "communities", "v1beta1", "{communities: [{name: a, value: '64500:1'}]}"),
    ] {
        let count = |count: u32| format!("gatehouse_source_objects{{kind=\"{kind}\"}} {count}\n");
        shows(gateway, "/metrics", &count(0));
        let object = format!(
            "{{apiVersion: metallb.io/{version}, kind: {kind}, \
             metadata: {{name: x, namespace: metallb-system}}, spec: {spec}}}"
        );
        bed.cluster.apply(&object).unwrap();
        shows(gateway, "/metrics", &count(1));
        bed.kubectl(&format!("--namespace metallb-system delete {plural}.metallb.io x"));
        shows(gateway, "/metrics", &count(0));
    }
}

fn secrets_that_change(bed: &Bed, gateway: &Gateway) {
    let shown = || tls::Tls::connect(gateway.https, "tls.test", &[]).map(|tls| tls.peer());
    let [first, second] = [(); 2].map(|()| tls::certificate(&["tls.test"]));
    bed.apply("secrets", &manifests::secret("pair", &first));
    bed.apply("secrets", &ingress("web", "tls.test", "{hosts: [tls.test], secretName: pair}"));
    // A host is not there before its certificate is.
    answers(gateway, "tls.test", "308");
    assert_eq!(shown().unwrap(), first.der);
    bed.apply("secrets", &manifests::secret("pair", &second));
    let changed = || shown().is_ok_and(|leaf| leaf == second.der);
    assert!(comes_true(changed));
    bed.kubectl("--namespace secrets delete secret pair");
    shows(gateway, "/snapshot", "SecretNotFound");
}

fn secrets_that_may_not_be_read(bed: &Bed, gateway: &Gateway) {
    bed.namespace("hidden", &bed.one);
    bed.apply("hidden", &manifests::secret("pair", &tls::certificate(&["hidden.test"])));
    bed.apply("hidden", &ingress("web", "hidden.test", "{hosts: [hidden.test], secretName: pair}"));
    shows(gateway, "/snapshot", "SecretForbidden");
    let metrics = gateway.page("/metrics");
    assert!(
        metrics.contains("gatehouse_api_requests_total{verb=\"get\",code=\"403\"}"),
        "{metrics}"
    );
    // The account may list everything else, so a refused list would be one of Secrets.
    for verb in ["list", "watch"] {
        let refused = format!("gatehouse_api_requests_total{{verb=\"{verb}\",code=\"403\"}}");
        assert!(!metrics.contains(&refused), "{metrics}");
    }
    bed.kubectl("--namespace hidden delete ingress web");
}

fn objects_that_are_being_deleted(bed: &Bed, gateway: &Gateway) {
    bed.namespace("older", &bed.one);
    bed.apply("older", &ingress("web", "claimed.test", ""));
    answers(gateway, "claimed.test", "one");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    bed.namespace("younger", &bed.two);
    bed.apply("younger", &ingress("web", "claimed.test", ""));
    bed.apply("younger", &ingress("marker", "younger.test", ""));
    answers(gateway, "younger.test", "two");
    assert_eq!(answer(gateway.http, "claimed.test"), "one", "the older one keeps the host");
    // Without its finalizer's owner it stays for ever.
    let patch = "--type=merge --patch {\"metadata\":{\"finalizers\":[\"test.example/wait\"]}}";
    bed.kubectl(&format!("--namespace older patch ingress web {patch}"));
    bed.kubectl("--namespace older delete ingress web --wait=false");
    answers(gateway, "claimed.test", "two");
    // Nor does this cluster have what would end a namespace.
    bed.apply("basic", &ingress("web", "younger.test", ""));
    bed.kubectl("delete namespace younger --wait=false");
    answers(gateway, "claimed.test", "404");
    answers(gateway, "younger.test", "one");
}

/// Loopback and link-local addresses are refused by the API server itself.
fn endpoints_that_are_not_allowed(bed: &Bed, gateway: &Gateway) {
    bed.kubectl("create namespace strange");
    let metadata = "168.63.129.16:80".parse().unwrap();
    bed.apply("strange", &manifests::service("app", &[metadata]));
    bed.apply("strange", &ingress("web", "strange.example", ""));
    answers(gateway, "strange.example", "503");
    shows(gateway, "/snapshot", "the address of a cloud's metadata service");
}

/// What ingress-nginx serves in a cluster is judged without a manifest, and with the rights to read alone.
fn a_report_for_who_migrates(bed: &Bed, account: &Path) {
    bed.namespace("migrate", &bed.one);
    let snippet = "nginx.ingress.kubernetes.io/configuration-snippet: deny all";
    let rule = manifests::prefix("migrate.test", "/", "app");
    bed.apply("migrate", &manifests::ingress("web", snippet, "", &[rule]));
    let kubeconfig = account.to_str().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_gatehouse"))
        .args(["migrate", "-o", "json", "--kubeconfig", kubeconfig, "--context", "testbed"])
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let mut objects = report["objects"].as_array().unwrap().iter();
    let web = objects.find(|object| object["object"] == "Ingress migrate/web").unwrap();
    assert_eq!(web["verdict"], "closed", "{report:#}");
    assert_eq!(output.status.code(), Some(1));
    bed.kubectl("delete namespace migrate --wait=false");
}

fn namespaces_that_are_watched(bed: &Bed) {
    for name in ["watched-a", "watched-b", "unwatched"] {
        bed.namespace(name, &bed.one);
        bed.apply(name, &ingress("web", &format!("{name}.test"), ""));
    }
    let plan = Plan::default().kubeconfig(bed.cluster.kubeconfig());
    let gateway =
        plan.args(&["--watch-namespace", "watched-a", "--watch-namespace", "watched-b"]).start();
    for name in ["watched-a", "watched-b"] {
        answers(&gateway, &format!("{name}.test"), "one");
        bed.apply(name, &service(&bed.two));
        answers(&gateway, &format!("{name}.test"), "two");
    }
    assert_eq!(answer(gateway.http, "unwatched.test"), "404");
    // An object of a namespace that is not watched claims nothing.
    bed.apply("unwatched", &ingress("claim", "later.test", ""));
    bed.apply("watched-b", &ingress("claim", "later.test", ""));
    answers(&gateway, "later.test", "two");
    bed.kubectl("--namespace watched-a delete ingress web");
    answers(&gateway, "watched-a.test", "404");
}

fn namespaces_that_are_selected(bed: &Bed) {
    for name in ["red", "blue"] {
        bed.namespace(name, &bed.one);
        bed.apply(name, &ingress("web", &format!("{name}.test"), ""));
    }
    bed.kubectl("label namespace red shard=a");
    let plan = Plan::default().kubeconfig(bed.cluster.kubeconfig());
    let gateway = plan.args(&["--namespace-selector", "shard=a"]).start();
    answers(&gateway, "red.test", "one");
    assert_eq!(answer(gateway.http, "blue.test"), "404");
    bed.kubectl("label namespace blue shard=a");
    answers(&gateway, "blue.test", "one");
    bed.kubectl("label namespace red shard=b --overwrite");
    answers(&gateway, "red.test", "404");
    assert_eq!(answer(gateway.http, "blue.test"), "one");
    bed.kubectl("label namespace red shard=a --overwrite");
    answers(&gateway, "red.test", "one");
}
