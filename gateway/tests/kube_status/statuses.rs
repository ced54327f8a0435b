//! What statuses and Events say, and whose entries are left alone.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::bed::{Bed, eventually};

pub(crate) const INGRESS: (&str, &str, &str) = ("networking.k8s.io/v1", "Ingress", "ingresses");
pub(crate) const ROUTE: (&str, &str, &str) = ("route.openshift.io/v1", "Route", "routes");
pub(crate) const SERVICE: (&str, &str, &str) = ("v1", "Service", "services");

pub(crate) fn status(bed: &Bed, (version, kind, plural): (&str, &str, &str), name: &str) -> Value {
    let api = bed.objects(version, kind, plural);
    let object = bed.runtime.block_on(api.get(name)).unwrap();
    object.data["status"].clone()
}

pub(crate) fn create(bed: &Bed, (version, kind, plural): (&str, &str, &str), object: Value) {
    bed.create(&bed.objects(version, kind, plural), object);
}

pub(crate) fn ingress(bed: &Bed, name: &str, class: &str) {
    let backend = json!({ "service": { "name": "web", "port": { "number": 80 } } });
    let path = json!({ "path": "/", "pathType": "Prefix", "backend": backend });
    let rule = json!({ "host": format!("{name}.example.com"), "http": { "paths": [path] } });
    let object = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": { "name": name },
        "spec": { "ingressClassName": class, "rules": [rule] },
    });
    create(bed, INGRESS, object);
}

pub(crate) fn route(bed: &Bed, name: &str, host: &str) {
    let object = json!({
        "apiVersion": "route.openshift.io/v1",
        "kind": "Route",
        "metadata": { "name": name },
        "spec": { "host": host, "to": { "kind": "Service", "name": "web" } },
    });
    create(bed, ROUTE, object);
}

#[test]
fn every_kind_says_what_became_of_it() {
    let bed = Bed::new("kinds");
    bed.pool("10.30.0.1-10.30.0.2");
    let gateway = format!("{}/gateway", bed.namespace);
    let _gateway = bed.gateway("node-1", &["--gateway-service", &gateway, "--claim-class", "ours"]);
    eventually("a node leads", || bed.leader());
    let begun = Instant::now();
    bed.service("gateway", json!({}));
    let entry = json!({
        "ip": "10.30.0.1", "ipMode": "Proxy", "ports": [{ "port": 80, "protocol": "TCP" }],
    });
    eventually("the gateway has an address", || {
        (status(&bed, SERVICE, "gateway")["loadBalancer"]["ingress"][0] == entry).then_some(())
    });
    println!("the address was in the status {:?} after the Service was created", begun.elapsed());
    ingress(&bed, "web", "ours");
    ingress(&bed, "foreign", "theirs");
    let expected = json!({ "ingress": [{ "ip": "10.30.0.1" }] });
    eventually("the Ingress has the address", || {
        (status(&bed, INGRESS, "web")["loadBalancer"] == expected).then_some(())
    });
    assert_eq!(status(&bed, INGRESS, "foreign")["loadBalancer"], json!({}));
    route(&bed, "first", "r.example.com");
    let entry = |name: &str| status(&bed, ROUTE, name)["ingress"][0].clone();
    let admitted = eventually("the Route is admitted", || {
        let entry = entry("first");
        (entry["conditions"][0]["status"] == "True").then_some(entry)
    });
    assert_eq!(
        (&admitted["routerName"], &admitted["host"]),
        (&json!("gatehouse"), &json!("r.example.com"))
    );
    // Of two Routes that were created in one second none is the older one.
    thread::sleep(Duration::from_millis(1100));
    route(&bed, "second", "r.example.com");
    let refused = eventually("the other Route is refused", || {
        let entry = entry("second");
        (entry["conditions"][0]["status"] == "False").then_some(entry)
    });
    assert_eq!(refused["conditions"][0]["reason"], "HostAlreadyClaimed");
    let pools = ("metallb.io/v1beta1", "IPAddressPool", "ipaddresspools");
    eventually("the pool counts", || {
        let status = status(&bed, pools, "pool");
        (status["assignedIPv4"] == 1 && status["availableIPv4"] == 1).then_some(())
    });
    // Not a gateway: kube-proxy forwards it.
    bed.service("other", json!({}));
    let other = json!({ "ip": "10.30.0.2", "ipMode": "VIP" });
    eventually("the other Service has an address", || {
        (status(&bed, SERVICE, "other")["loadBalancer"]["ingress"][0] == other).then_some(())
    });
    // None is left.
    bed.service("late", json!({}));
    eventually("the last one says why it has none", || {
        let status = status(&bed, SERVICE, "late");
        (status["conditions"][0]["reason"] == "PoolExhausted").then_some(())
    });
}

/// What external-dns has a name of a Service or an Ingress lead to.
fn targets(status: &Value) -> Vec<&str> {
    let entries = status["loadBalancer"]["ingress"].as_array().into_iter().flatten();
    entries.flat_map(|it| [it["ip"].as_str(), it["hostname"].as_str()]).flatten().collect()
}

/// The host of a Route and what external-dns makes it an alias of: an entry without that name is nothing to it.
fn alias(status: &Value) -> Option<(&str, &str)> {
    let admits =
        |condition: &Value| condition["type"] == "Admitted" && condition["status"] == "True";
    let entries = status["ingress"].as_array().into_iter().flatten();
    let mut admitted =
        entries.filter(|it| it["conditions"].as_array().is_some_and(|all| all.iter().any(admits)));
    admitted.find_map(|it| Some((it["host"].as_str()?, it["routerCanonicalHostname"].as_str()?)))
}

#[test]
fn external_dns_finds_where_every_name_leads() {
    let bed = Bed::new("names");
    bed.pool("10.35.0.1-10.35.0.2");
    let gateway = format!("{}/gateway", bed.namespace);
    let named = ["--router-canonical-hostname", "router.example.com"];
    let more = [&["--gateway-service", &gateway, "--claim-class", "ours"][..], &named].concat();
    let _gateway = bed.gateway("node-1", &more);
    bed.service("gateway", json!({}));
    eventually("the gateway has an address", || {
        (targets(&status(&bed, SERVICE, "gateway")) == ["10.35.0.1"]).then_some(())
    });
    bed.service("mail", json!({}));
    ingress(&bed, "web", "ours");
    route(&bed, "r", "r.example.com");
    eventually("the Service leads to its own address", || {
        (targets(&status(&bed, SERVICE, "mail")) == ["10.35.0.2"]).then_some(())
    });
    eventually("the Ingress leads to the gateway", || {
        (targets(&status(&bed, INGRESS, "web")) == ["10.35.0.1"]).then_some(())
    });
    eventually("the Route is an alias", || {
        (alias(&status(&bed, ROUTE, "r")) == Some(("r.example.com", "router.example.com")))
            .then_some(())
    });
}

#[test]
fn entries_of_others_stay_as_they_are() {
    let bed = Bed::new("others");
    bed.pool("10.31.0.0/24");
    bed.service("cloud", json!({ "loadBalancerClass": "example.com/cloud" }));
    let services = bed.objects(SERVICE.0, SERVICE.1, SERVICE.2);
    let cloud = json!({ "loadBalancer": { "ingress": [{ "hostname": "x.elb.example" }] } });
    bed.patch_status(&services, "cloud", cloud.clone());
    route(&bed, "r", "r.example.com");
    let routes = bed.objects(ROUTE.0, ROUTE.1, ROUTE.2);
    let foreign = json!({
        "host": "r.example.com", "routerName": "default", "wildcardPolicy": "None",
        "conditions": [{ "type": "Admitted", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" }],
    });
    bed.patch_status(&routes, "r", json!({ "ingress": [foreign] }));
    ingress(&bed, "web", "ours");
    let more = ["--claim-class", "ours", "--publish-service", "others/cloud"];
    let _gateway = bed.gateway("node-1", &more);
    let entries = eventually("our entry is there", || {
        let entries = status(&bed, ROUTE, "r")["ingress"].clone();
        (entries.as_array().is_some_and(|all| all.len() == 2)).then_some(entries)
    });
    assert_eq!(entries[0], foreign);
    assert_eq!(entries[1]["routerName"], "gatehouse");
    assert_eq!(entries[1]["routerCanonicalHostname"], "x.elb.example");
    eventually("the Ingress shows the published name", || {
        let shown = status(&bed, INGRESS, "web")["loadBalancer"]["ingress"].clone();
        (shown == json!([{ "hostname": "x.elb.example" }])).then_some(())
    });
    // The other router changes its mind: both entries are as their owners wrote them.
    let mut changed = entries;
    changed[0]["conditions"][0]["status"] = "False".into();
    bed.patch_status(&routes, "r", json!({ "ingress": changed }));
    thread::sleep(Duration::from_secs(2));
    assert_eq!(status(&bed, ROUTE, "r")["ingress"], changed);
    assert_eq!(status(&bed, SERVICE, "cloud")["loadBalancer"], cloud["loadBalancer"]);
}

#[test]
fn an_ingress_of_another_class_is_given_up() {
    let bed = Bed::new("given-up");
    bed.pool("10.32.0.0/24");
    let gateway = format!("{}/gateway", bed.namespace);
    let more = ["--gateway-service", &*gateway, "--claim-class", "ours"];
    let first = bed.gateway("node-1", &more);
    bed.service("gateway", json!({}));
    ingress(&bed, "now", "ours");
    ingress(&bed, "later", "ours");
    let shown = |name: &str| status(&bed, INGRESS, name)["loadBalancer"]["ingress"].clone();
    let is_shown = |name: &str| shown(name).is_array().then_some(());
    eventually("both have an address", || is_shown("now").and_then(|()| is_shown("later")));
    let class = |name: &str| {
        let api = bed.objects(INGRESS.0, INGRESS.1, INGRESS.2);
        let patch = kube::api::Patch::Merge(json!({ "spec": { "ingressClassName": "theirs" } }));
        bed.runtime.block_on(api.patch(name, &Default::default(), &patch)).unwrap();
    };
    class("now");
    eventually("its status is empty", || shown("now").is_null().then_some(()));
    // While nobody leads; the next leader finds what the last one wrote.
    drop(first);
    class("later");
    let _second = bed.gateway("node-2", &more);
    eventually("its status is empty", || shown("later").is_null().then_some(()));
}

/// Routes of this gateway are those with a label, in namespaces with another one.
#[test]
fn what_is_selected_no_more_is_given_up() {
    let bed = Bed::new("selected");
    bed.pool("10.36.0.0/24");
    let gateway = format!("{}/gateway", bed.namespace);
    let more = ["--gateway-service", &*gateway, "--claim-class", "ours"];
    let start = |node: &str, shard: &str| {
        let selectors = ["--namespace-selector", "zone=in", "--route-selector", shard];
        bed.gateway(node, &[&more[..], &selectors].concat())
    };
    let label = |object: &str, name: &str, label: &str| {
        let (version, kind) = match object {
            "Route" => (ROUTE.0, "Route"),
            _ => ("v1", "Namespace"),
        };
        let namespace = if kind == "Route" { ", namespace: selected" } else { "" };
        bed.apply(&format!(
            "{{apiVersion: {version}, kind: {kind}, metadata: {{name: {name}{namespace}, labels: {{{label}}}}}}}"
        ));
    };
    label("Namespace", "selected", "zone: in");
    let names = ["label", "later", "namespace"];
    for name in names.iter().chain(&["foreign"]) {
        route(&bed, name, &format!("{name}.example.com"));
    }
    ingress(&bed, "web", "ours");
    bed.service("gateway", json!({}));
    names.iter().for_each(|name| label("Route", name, "shard: a"));
    // An entry of somebody who has our name, against all advice.
    let foreign = json!({ "host": "foreign.example.com", "routerName": "gatehouse" });
    let routes = bed.objects(ROUTE.0, ROUTE.1, ROUTE.2);
    bed.patch_status(&routes, "foreign", json!({ "ingress": [foreign] }));
    let router = json!({ "host": "label.example.com", "routerName": "default" });
    bed.patch_status(&routes, "label", json!({ "ingress": [router] }));
    let entries = |name: &str| status(&bed, ROUTE, name)["ingress"].clone();
    let count = |name: &str| entries(name).as_array().map_or(0, Vec::len);
    let shown = || status(&bed, INGRESS, "web")["loadBalancer"]["ingress"].clone();

    let first = start("node-1", "shard=a");
    let all = || names.iter().map(|name| count(name)).eq([2, 1, 1]);
    eventually("every Route is admitted", || all().then_some(()));
    eventually("the Ingress has an address", || shown().is_array().then_some(()));
    // A label of the Route.
    label("Route", "label", "shard: b");
    eventually("our entry is gone", || (entries("label") == json!([router])).then_some(()));
    // The selector, while nobody leads; the next leader finds what the last one wrote.
    drop(first);
    label("Route", "namespace", "shard: c");
    let _second = start("node-2", "shard=c");
    eventually("our entry is gone", || (count("later") == 0).then_some(()));
    assert_eq!(count("namespace"), 1);
    // A label of the namespace.
    label("Namespace", "selected", "zone: out");
    eventually("our entry is gone", || (count("namespace") == 0).then_some(()));
    eventually("the Ingress has no address", || shown().is_null().then_some(()));
    assert_eq!(entries("foreign"), json!([foreign]));
    assert_eq!(entries("label"), json!([router]));
    // And back.
    label("Namespace", "selected", "zone: in");
    eventually("the Route is admitted", || (count("namespace") == 1).then_some(()));
    eventually("the Ingress has an address", || shown().is_array().then_some(()));
}

#[test]
fn an_event_is_written_once_whoever_leads() {
    let bed = Bed::new("events");
    bed.pool("10.33.0.1/32");
    let mut gateways: Vec<_> = ["a", "b"].map(|node| bed.gateway(node, &[])).into();
    bed.service("one", json!({}));
    let assigned = eventually("an Event of the address", || {
        bed.events("one").into_iter().find(|it| it.reason.as_deref() == Some("IPAllocated"))
    });
    assert_eq!(assigned.note.as_deref(), Some("Assigned IP [\"10.33.0.1\"]"));
    assert_eq!(assigned.type_.as_deref(), Some("Normal"));
    bed.service("two", json!({}));
    let failed = |event: &k8s_openapi::api::events::v1::Event| {
        event.reason.as_deref() == Some("AllocationFailed")
    };
    eventually("an Event of the problem", || bed.events("two").into_iter().find(failed));
    let first = bed.leader().unwrap();
    gateways.retain(|gateway| gateway.node != first);
    eventually("the other one leads", || bed.leader().filter(|it| *it != first));
    // It has told all that it has to tell when it has served another Service.
    bed.service("three", json!({}));
    eventually("an Event of the problem", || bed.events("three").into_iter().find(failed));
    let events: Vec<_> = bed.events("two").into_iter().filter(failed).collect();
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].series.is_none(), "{events:?}");
    let mut events = bed.events("one");
    events.retain(|event| event.reason.as_deref() == Some("IPAllocated"));
    assert_eq!(events.len(), 1, "{events:?}");
}

/// A role for everything that is read, and one each for the Lease and for the status of Services.
const ROLES: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reads, namespace: NAMESPACE}
rules: [{apiGroups: ['*'], resources: ['*'], verbs: [get, list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: leases, namespace: NAMESPACE}
rules: [{apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, create, update]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: statuses, namespace: NAMESPACE}
rules: [{apiGroups: [''], resources: [services/status], verbs: [patch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: refused-lists}
rules: [{apiGroups: ['*'], resources: [nodes, namespaces, ingressclasses, ipaddresspools], verbs: [get, list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: refused-lists}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: refused-lists}
subjects: [{kind: ServiceAccount, name: gateway, namespace: NAMESPACE}]
";

#[test]
fn what_the_api_server_refuses_is_shown_by_the_node() {
    let bed = Bed::new("refused");
    bed.pool("10.34.0.1/32");
    let account = bed.account("gateway");
    let grant = |role: &str| {
        let binding = format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n\
             metadata: {{name: {role}, namespace: refused}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {role}}}\n\
             subjects: [{{kind: ServiceAccount, name: gateway, namespace: refused}}]\n"
        );
        bed.apply(&binding);
    };
    bed.apply(&ROLES.replace("NAMESPACE", "refused"));
    grant("reads");
    let gateway = bed.gateway_as(&account, "node-1", &[]);
    let has = |status: &Value, reason: &str, object: &str| {
        let problems = status["problems"].as_array().cloned().unwrap_or_default();
        problems.iter().any(|it| it["reason"] == reason && it["object"] == object)
    };
    let shows = |what: &str, is_so: &dyn Fn(&Value) -> bool| {
        eventually(what, || gateway.status().filter(|status| is_so(status)));
    };
    let lease = "Lease refused/gatehouse";
    shows("the Lease is refused", &|it| has(it, "LeaseRefused", lease) && it["leader"].is_null());
    assert!(gateway.status_table().contains("LEADER none"), "{}", gateway.status_table());
    grant("leases");
    shows("this node leads", &|it| {
        it["leader"]["node"] == "node-1"
            && it["leader"]["here"] == true
            && !has(it, "LeaseRefused", lease)
    });
    let table = gateway.status_table();
    assert!(table.contains("LEADER node-1 (this process) since 20"), "{table}");
    bed.service("web", json!({}));
    shows("the status is refused", &|it| has(it, "StatusRefused", "Service refused/web"));
    grant("statuses");
    eventually("it has an address", || {
        let entry = status(&bed, SERVICE, "web")["loadBalancer"]["ingress"][0].clone();
        (entry["ip"] == "10.34.0.1").then_some(())
    });
    shows("nothing is refused", &|it| !has(it, "StatusRefused", "Service refused/web"));
    // Its Service has no endpoints, and may be meant to have none.
    let warnings =
        bed.events("web").into_iter().filter(|it| it.type_.as_deref() == Some("Warning"));
    assert_eq!(warnings.map(|it| it.reason).collect::<Vec<_>>(), []);
}
