use gatehouse_routes::objects::SourceTrust;

use super::*;
use crate::{
    compile::{Compiled, NodeContext, Role},
    source::{Change, Event, Kind, Source, SourceId, manifest::Manifest},
    state::ClusterState,
};

mod pools;

const NOW: &str = "2026-11-29T10:00:00Z";

const CLUSTER: Source = Source {
    id: SourceId("cluster"),
    trust: SourceTrust { loopback_endpoints: false, standalone: false },
    kinds: Kind::ALL,
    by_name: &[],
    whole_batches: false,
};

const POOL: &str = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: metallb-system, resourceVersion: '1'}
spec: {addresses: [192.168.1.200-192.168.1.201, 'fd00:1::10-fd00:1::20']}
";

/// A Service; `spec` and `status` as they are to be, without braces.
fn service(name: &str, version: u32, spec: &str, status: &str) -> String {
    format!(
        "
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop, resourceVersion: '{version}'}}
spec: {{type: LoadBalancer, ports: [{{port: 80}}]{spec}}}
status: {{{status}}}
"
    )
}

fn address(ip: &str) -> String {
    format!("loadBalancer: {{ingress: [{{ip: '{ip}', ipMode: VIP}}]}}")
}

fn pending(reason: &str) -> String {
    format!(
        "conditions: [{{type: gatehouse.io/AddressPending, status: 'True', reason: {reason}, \
         message: old, lastTransitionTime: '2026-01-01T00:00:00Z'}}]"
    )
}

fn state(yaml: &str) -> ClusterState {
    let mut state = ClusterState::new([CLUSTER]);
    let manifest = Manifest::of(yaml);
    let changes = manifest.objects().map(|placed| Change::Apply(placed.object.clone(), 0));
    state.apply(Event::Batch(CLUSTER.id, changes.collect()));
    for &kind in CLUSTER.kinds {
        state.apply(Event::Synced(CLUSTER.id, kind));
    }
    state
}

fn node() -> NodeContext {
    NodeContext { node: "node-1".to_owned(), ..NodeContext::default() }
}

/// A leader over time.
#[derive(Default)]
struct Leader {
    node: Option<NodeContext>,
    before: Option<Compiled>,
    differ: Differ,
}

impl Leader {
    fn sees(&mut self, yaml: &str) -> Vec<Patch> {
        let state = state(yaml);
        let node = self.node.clone().unwrap_or_else(node);
        let compiled = compile::compile(&state, &node, Role::Allocate, self.before.as_ref());
        let patches = self.differ.diff(&Statuses::new(&state, &node, &compiled), NOW);
        self.before = Some(compiled);
        // How full pools are has a test of its own.
        patches.into_iter().filter(|patch| patch.object.kind != "IPAddressPool").collect()
    }
}

fn patches(yaml: &str) -> Vec<Patch> {
    Leader::default().sees(yaml)
}

/// The only patch of these, and what it says about the object.
fn one(patches: Vec<Patch>) -> Patch {
    let [patch] = <[Patch; 1]>::try_from(patches).unwrap_or_else(|all| panic!("{all:#?}"));
    patch
}

#[test]
fn a_service_gets_its_address_over_the_version_that_was_read() {
    let patch = one(patches(&format!("{POOL}{}", service("a", 7, "", ""))));
    assert_eq!(patch.object.to_string(), "Service shop/a");
    assert_eq!((patch.how, patch.seen.as_str()), (How::Apply, "7"));
    let expected = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "a", "namespace": "shop", "resourceVersion": "7" },
        "status": { "loadBalancer": { "ingress": [{ "ip": "192.168.1.200", "ipMode": "VIP" }] } },
    });
    assert_eq!(patch.says(), expected);
    assert_eq!(patch.assigned, Some(vec!["192.168.1.200".parse().unwrap()]));
    // And once it is there, nothing more.
    let there = service("a", 8, "", &address("192.168.1.200"));
    assert_eq!(patches(&format!("{POOL}{there}")), []);
}

#[test]
fn what_is_dealt_stays_dealt_until_it_is_recorded() {
    let mut leader = Leader::default();
    let b = service("b", 1, "", "");
    let first = leader.sees(&format!("{POOL}{}{b}", service("a", 1, "", "")));
    assert_eq!(first.len(), 2);
    // Nothing has been written: the same again, though the Service that was served first is gone.
    let patch = one(leader.sees(&format!("{POOL}{b}")));
    assert_eq!(patch.says()["status"]["loadBalancer"]["ingress"][0]["ip"], "192.168.1.201");
}

#[test]
fn an_address_counts_when_it_is_recorded() {
    let mut leader = Leader::default();
    leader.sees(&format!("{POOL}{}", service("a", 1, "", "")));
    assert!(leader.before.as_ref().unwrap().addresses.is_empty());
    leader.sees(&format!("{POOL}{}", service("a", 2, "", &address("192.168.1.200"))));
    assert_eq!(leader.before.as_ref().unwrap().addresses.len(), 1);
}

#[test]
fn a_service_that_has_an_address_is_marked_before_it_gets_another() {
    let wish = ", loadBalancerIP: 192.168.1.201";
    let has = address("192.168.1.200");
    let patch = one(patches(&format!("{POOL}{}", service("a", 7, wish, &has))));
    let status = &patch.says()["status"];
    assert_eq!(status["loadBalancer"]["ingress"][0]["ip"], "192.168.1.200");
    assert_eq!(status["conditions"][0]["reason"], CHANGING);
    assert_eq!(status["conditions"][0]["lastTransitionTime"], NOW);
    assert_eq!(patch.assigned, None);
    let marked = format!("{has}, {}", pending(CHANGING));
    let patch = one(patches(&format!("{POOL}{}", service("a", 8, wish, &marked))));
    let status = &patch.says()["status"];
    assert_eq!(status["loadBalancer"]["ingress"][0]["ip"], "192.168.1.201");
    assert_eq!(status["conditions"], Value::Null);
    // The wish is gone before that: the mark goes, the address stays.
    let patch = one(patches(&format!("{POOL}{}", service("a", 8, "", &marked))));
    let status = &patch.says()["status"];
    assert_eq!(status["loadBalancer"]["ingress"][0]["ip"], "192.168.1.200");
    assert_eq!(status["conditions"], Value::Null);
}

#[test]
fn a_new_leader_touches_what_an_old_one_could_still_give_an_address() {
    let read = |yaml: &str| {
        let state = state(yaml);
        let stored = state.objects.services.values().next().unwrap();
        touch(&stored.object, "node-2", NOW)
    };
    let patch = read(&service("a", 7, "", "")).unwrap();
    assert_eq!(patch.says()["metadata"]["resourceVersion"], "7");
    let condition = &patch.says()["status"]["conditions"][0];
    assert_eq!(condition["reason"], ALLOCATING);
    assert_eq!(condition["message"], "node-2 allocates addresses");
    // The name of a cloud's balancer is no address of ours, but stays where it is.
    let named =
        read(&service("a", 7, "", "loadBalancer: {ingress: [{hostname: x.example}]}")).unwrap();
    let ingress = &named.says()["status"]["loadBalancer"]["ingress"];
    assert_eq!(*ingress, json!([{ "hostname": "x.example" }]));
    assert_eq!(read(&service("a", 7, "", &address("192.168.1.200"))), None);
    let marked = format!("{}, {}", address("192.168.1.200"), pending(CHANGING));
    let patch = read(&service("a", 7, "", &marked)).unwrap();
    assert_eq!(patch.says()["status"]["conditions"][0]["reason"], CHANGING);
    assert_eq!(
        patch.says()["status"]["conditions"][0]["lastTransitionTime"],
        "2026-01-01T00:00:00Z"
    );
    assert_eq!(patch.says()["status"]["loadBalancer"]["ingress"][0]["ip"], "192.168.1.200");
}

#[test]
fn why_a_service_has_no_address_is_not_what_else_is_wrong_with_it() {
    let reason = |annotations: &str| {
        let wish = service("a", 5, ", loadBalancerIP: 10.9.9.9", "");
        let annotated = wish.replace("shop,", &format!("shop, annotations: {{{annotations}}},"));
        let patch = one(patches(&format!("{POOL}{annotated}")));
        patch.says()["status"]["conditions"][0]["reason"].as_str().map(str::to_owned)
    };
    let why = reason("");
    assert!(why.is_some());
    for annotation in ["tls-secret: x", "source-ranges: 10.0.0.0/8", "forwarding: nobody"] {
        assert_eq!(reason(&format!("gatehouse.io/{annotation}")), why, "{annotation}");
    }
}

#[test]
fn a_service_that_gets_no_address_says_why_once() {
    let all = format!(
        "{}{}",
        service("a", 1, "", &address("192.168.1.200")),
        service("b", 1, "", &address("192.168.1.201"))
    );
    let c = |status: &str| service("c", 5, "", status);
    let patch = one(patches(&format!("{POOL}{all}{}", c(""))));
    let condition = &patch.says()["status"]["conditions"][0];
    assert_eq!(
        (condition["type"].as_str(), condition["reason"].as_str()),
        (Some(PENDING), Some("PoolExhausted"))
    );
    assert_eq!(patch.assigned, None);
    // Another message of the same reason is no news.
    assert_eq!(patches(&format!("{POOL}{all}{}", c(&pending("PoolExhausted")))), []);
    // It gets one: the condition goes.
    let patch = one(patches(&format!("{POOL}{}", c(&pending("PoolExhausted")))));
    assert_eq!(patch.says()["status"]["conditions"], Value::Null);
}

#[test]
fn foreign_services_are_left_alone() {
    let cloud = "loadBalancer: {ingress: [{hostname: a.elb.example}]}";
    let foreign = service("a", 1, ", loadBalancerClass: example.com/lb", cloud);
    assert_eq!(patches(&format!("{POOL}{foreign}")), []);
    // Without any pool, a Service without a class is another controller's.
    let all = format!("{}{}", service("a", 1, "", cloud), service("b", 1, "", ""));
    assert_eq!(patches(&all), []);
    // With a class of our own by flag, every other one is.
    let node = NodeContext { load_balancer_class: Some("example.com/lb".to_owned()), ..node() };
    let mut leader = Leader { node: Some(node), ..Leader::default() };
    let mine = service("b", 1, ", loadBalancerClass: example.com/lb", "");
    let patch = one(leader.sees(&format!("{POOL}{}{mine}", service("a", 1, "", ""))));
    assert_eq!(patch.object.to_string(), "Service shop/b");
}

#[test]
fn a_service_that_is_not_ours_any_more_is_given_up_as_far_as_it_was_ours() {
    let mut leader = Leader::default();
    let has = address("192.168.1.200");
    assert_eq!(leader.sees(&format!("{POOL}{}", service("a", 1, "", &has))), []);
    // The last pool goes, and does not come back: a controller that gives addresses without one may have it.
    assert_eq!(leader.sees(&service("a", 1, "", &has)), []);
    let patch = one(leader.sees(&service("a", 1, "", &has)));
    assert_eq!((patch.how, &patch.says()["status"]), (How::GiveUp, &json!({})));
    let again = one(leader.sees(&service("a", 1, "", &has)));
    assert_eq!(again, patch, "until it is done");
    assert_eq!(leader.sees(&service("a", 2, "", "")), []);
    assert_eq!(leader.sees(&service("a", 3, "", "loadBalancer: {ingress: [{hostname: x}]}")), []);
}

#[test]
fn a_service_that_waits_for_no_address_any_more_does_not_say_so() {
    let others = format!(
        "{POOL}{}{}",
        service("a", 1, "", &address("192.168.1.200")),
        service("b", 1, "", &address("192.168.1.201"))
    );
    let c = |kind: &str| {
        let waits = service("c", 5, "", &pending("PoolExhausted"));
        format!("{others}{}", waits.replace("type: LoadBalancer", &format!("type: {kind}")))
    };
    let mut leader = Leader::default();
    assert_eq!(leader.sees(&c("LoadBalancer")), []);
    let patch = one(leader.sees(&c("ClusterIP")));
    assert_eq!((patch.how, &patch.says()["status"]), (How::GiveUp, &json!({})));
}

#[test]
fn a_pool_that_is_missing_for_a_moment_changes_nothing() {
    let mut leader = Leader::default();
    let a = service("a", 1, ", ipFamilies: [IPv4]", &address("192.168.1.200"));
    assert_eq!(leader.sees(&format!("{POOL}{a}")), []);
    let other =
        POOL.replace("192.168.1.200-192.168.1.201, ", "").replace("name: pool", "name: other");
    assert_eq!(leader.sees(&format!("{other}{a}")), [], "the address rests");
    // It does not come back.
    let patch = one(leader.sees(&format!("{other}{a}")));
    assert_eq!(patch.says()["status"]["loadBalancer"]["ingress"], json!([]));
    assert_eq!(patch.says()["status"]["conditions"][0]["type"], PENDING);
    assert_eq!(one(leader.sees(&format!("{other}{a}"))), patch, "until it is done");
    // Or it does, before that is done.
    assert_eq!(leader.sees(&format!("{POOL}{a}")), []);
}

const INGRESS: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: gateway, namespace: gatehouse, resourceVersion: '3'}
spec: {type: LoadBalancer, ports: [{name: http, port: 80}, {port: 22}]}
status: {loadBalancer: {ingress: [{ip: 192.168.1.200, ipMode: Proxy, ports: [{port: 80, protocol: TCP}, {port: 22, protocol: TCP, error: gatehouse.io/PortNotServed}]}]}}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: gatehouse, resourceVersion: '3'}
spec:
  controller: gatehouse.io/ingress
  parameters: {kind: Service, scope: Namespace, namespace: gatehouse, name: gateway}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop, resourceVersion: '5'}
spec:
  ingressClassName: CLASS
  rules: [{host: example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]
status: {STATUS}
";

fn ingress(class: &str, status: &str) -> String {
    format!("{POOL}{}", INGRESS.replace("CLASS", class).replace("STATUS", status))
}

#[test]
fn an_ingress_has_the_addresses_of_its_gateway_until_it_is_not_ours() {
    let mut leader = Leader::default();
    let patch = one(leader.sees(&ingress("gatehouse", "")));
    assert_eq!(patch.object.to_string(), "Ingress shop/web");
    let status = json!({ "loadBalancer": { "ingress": [{ "ip": "192.168.1.200" }] } });
    assert_eq!((patch.how, &patch.says()["status"]), (How::Apply, &status));
    let there = "loadBalancer: {ingress: [{ip: 192.168.1.200}]}";
    assert_eq!(leader.sees(&ingress("gatehouse", there)), []);
    let patch = one(leader.sees(&ingress("other", there)));
    assert_eq!((patch.how, &patch.says()["status"]), (How::GiveUp, &json!({})));
    assert_eq!(patches(&ingress("other", there)), [], "never ours");
    // A new leader that knows what was written before.
    let before = [ObjectRef::new("Ingress", ObjectKey::new("shop", "web"))].into();
    let mut next =
        Leader { differ: Differ::written_before(before, BTreeSet::new()), ..Leader::default() };
    assert_eq!(one(next.sees(&ingress("other", there))).how, How::GiveUp);
}

#[test]
fn a_published_service_is_what_ingresses_and_routes_show() {
    let key = ObjectKey::new("ingress", "lb");
    let node = NodeContext { publish_service: Some(key), ..node() };
    let published = "
---
apiVersion: v1
kind: Service
metadata: {name: lb, namespace: ingress, resourceVersion: '3'}
spec: {type: LoadBalancer, loadBalancerClass: cloud.example/lb}
status: {loadBalancer: {ingress: [{hostname: x.elb.example}, {ip: 203.0.113.9}]}}
";
    let yaml = format!("{}{published}{}", ingress("gatehouse", ""), route("", ""));
    let mut leader = Leader { node: Some(node), ..Leader::default() };
    let patches = leader.sees(&yaml);
    let of = |kind: &str| patches.iter().find(|it| it.object.kind == kind).unwrap();
    let entries = &of("Ingress").says()["status"]["loadBalancer"]["ingress"];
    assert_eq!(*entries, json!([{ "hostname": "x.elb.example" }, { "ip": "203.0.113.9" }]));
    let entry = &of("Route").says()["status"]["ingress"][0];
    assert_eq!(entry["routerCanonicalHostname"], "x.elb.example");
    let missing = leader.sees(&yaml.replace("name: lb,", "name: other,"));
    assert!(
        missing.iter().any(|it| it.object.kind == "Ingress" && it.how == How::GiveUp)
            || missing.len() == 1
    );
    let problems = &leader.before.as_ref().unwrap().problems;
    assert!(problems.iter().any(|problem| problem.reason == "PublishServiceNotFound"));
}

fn route(spec: &str, status: &str) -> String {
    format!(
        "
---
apiVersion: route.openshift.io/v1
kind: Route
metadata: {{name: r, namespace: shop, resourceVersion: '5'}}
spec: {{host: r.example.com, to: {{kind: Service, name: web}}{spec}}}
status: {{{status}}}
"
    )
}

#[test]
fn a_route_has_one_entry_of_ours_among_those_of_others() {
    let other = "{host: r.example.com, routerName: default, conditions: [{type: Admitted, status: 'True'}]}";
    let patch = one(patches(&route("", &format!("ingress: [{other}]"))));
    assert_eq!(
        (patch.how, patch.says()["metadata"]["resourceVersion"].as_str()),
        (How::Merge, Some("5"))
    );
    let expected = json!([
        { "host": "r.example.com", "routerName": "default", "conditions": [{ "type": "Admitted", "status": "True" }] },
        {
            "host": "r.example.com",
            "routerName": "gatehouse",
            "conditions": [{ "type": "Admitted", "status": "True", "lastTransitionTime": NOW }],
            "wildcardPolicy": "None",
        },
    ]);
    assert_eq!(patch.says()["status"]["ingress"], expected);
    let own = "{host: r.example.com, routerName: gatehouse, wildcardPolicy: None, conditions: \
               [{type: Admitted, status: 'True', lastTransitionTime: '2026-01-01T00:00:00Z'}]}";
    assert_eq!(patches(&route("", &format!("ingress: [{own}, {other}]"))), []);
    // Another host, no transition.
    let moved = own.replace("host: r.", "host: old.");
    let patch = one(patches(&route("", &format!("ingress: [{moved}, {other}]"))));
    let entries = &patch.says()["status"]["ingress"];
    assert_eq!(entries[0]["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:00Z");
    assert_eq!(entries[1]["routerName"], "default");
    // A transition.
    let refused = route(", path: no-slash", &format!("ingress: [{own}]"));
    let patch = one(patches(&refused));
    let condition = &patch.says()["status"]["ingress"][0]["conditions"][0];
    assert_eq!(
        (condition["status"].as_str(), condition["lastTransitionTime"].as_str()),
        (Some("False"), Some(NOW))
    );
    assert!(condition["reason"].is_string() && condition["message"].is_string());
}

#[test]
fn a_route_that_was_right_is_looked_at_again_when_anything_about_it_changes() {
    let own = "ingress: [{host: r.example.com, routerName: gatehouse, wildcardPolicy: None, conditions: \
               [{type: Admitted, status: 'True', lastTransitionTime: '2026-01-01T00:00:00Z'}]}]";
    let mut differ = Differ::default();
    let mut diff = |yaml: &str, node: &NodeContext| {
        let state = state(yaml);
        let compiled = compile::compile(&state, node, Role::Allocate, None);
        differ.diff(&Statuses::new(&state, node, &compiled), NOW).len()
    };
    let same = state(&route("", own));
    let right = compile::compile(&same, &node(), Role::Allocate, None);
    let mut kept = Differ::default();
    for _ in 0..2 {
        assert_eq!(kept.diff(&Statuses::new(&same, &node(), &right), NOW), []);
        assert_eq!(kept.told.len(), 1);
    }
    assert_eq!(diff(&route("", own), &node()), 0);
    assert_eq!(diff(&route("", ""), &node()), 1, "another hand took the status away");
    assert_eq!(diff(&route("", own), &node()), 0);
    assert_eq!(diff(&route(", path: no-slash", own), &node()), 1, "it is refused now");
    assert_eq!(diff(&route("", own), &node()), 0);
    let mut other = node();
    other.options.router_name = "other".to_owned();
    assert_eq!(diff(&route("", own), &other), 1, "this router has another name");
    // What is gone is forgotten.
    let none = state("");
    let compiled = compile::compile(&none, &node(), Role::Allocate, None);
    assert_eq!(kept.diff(&Statuses::new(&none, &node(), &compiled), NOW), []);
    assert!(kept.told.is_empty());
}

#[test]
fn a_route_that_is_selected_no_more_loses_the_entry_that_we_wrote() {
    let other = "{host: r.example.com, routerName: default}";
    let own = |second: u32| {
        format!(
            "{{host: r.example.com, routerName: gatehouse, wildcardPolicy: None, conditions: [{{type: Admitted, \
             status: 'True', lastTransitionTime: '2026-01-01T00:00:0{second}Z'}}]}}"
        )
    };
    let of = |shard: &str, version: u32, entries: &str| {
        let route = route("", &format!("ingress: [{entries}]"));
        let labels = format!("namespace: shop, labels: {{shard: {shard}}},");
        route.replace("namespace: shop,", &labels).replace("'5'", &format!("'{version}'"))
    };
    let both = format!("{other}, {}", own(1));
    let mut node = node();
    node.options.route_admission.labels = "shard=a".parse().unwrap();
    let leader = |before: BTreeSet<ObjectRef>| {
        let differ = Differ::written_before(before, BTreeSet::new());
        Leader { node: Some(node.clone()), differ, ..Leader::default() }
    };
    let before = || BTreeSet::from([ObjectRef::new("Route", ObjectKey::new("shop", "r"))]);
    let taken_out = |patches: Vec<Patch>, version: &str| {
        let patch = one(patches);
        assert_eq!((patch.how, &*patch.seen), (How::Merge, version));
        let expected = json!({
            "metadata": { "resourceVersion": version },
            "status": { "ingress": [{ "host": "r.example.com", "routerName": "default" }] },
        });
        assert_eq!(patch.says(), expected);
    };

    // Its label is another one now.
    let mut running = leader(BTreeSet::new());
    assert_eq!(running.sees(&of("a", 5, &both)), []);
    taken_out(running.sees(&of("b", 6, &both)), "6");
    taken_out(running.sees(&of("b", 7, &both)), "7");
    assert_eq!(running.sees(&of("b", 8, other)), []);
    assert_eq!(running.sees(&of("b", 9, &both)), [], "that is not ours");
    // Another gateway of our name serves it before we have looked.
    assert_eq!(running.sees(&of("a", 10, &both)), []);
    taken_out(running.sees(&of("b", 11, &both)), "11");
    assert_eq!(running.sees(&of("b", 12, &format!("{other}, {}", own(2)))), []);
    // A write arrives late: when nothing but its namespace has changed, the version is the one that it is about.
    assert_eq!(running.sees(&of("a", 13, other)).len(), 1);
    assert_eq!(running.sees(&of("b", 13, other)), []);
    taken_out(running.sees(&of("b", 14, &both)), "14");

    // The selector is another one since the last leader.
    taken_out(leader(before()).sees(&of("b", 5, &both)), "5");
    assert_eq!(leader(BTreeSet::new()).sees(&of("b", 5, &both)), [], "nobody knows who wrote it");
    assert_eq!(leader(before()).sees(&of("a", 5, &both)), []);
    assert_eq!(leader(before()).sees(&of("b", 5, other)), []);
    assert_eq!(leader(before()).sees(""), []);
}

#[test]
fn entries_by_a_name_that_our_router_had_before_are_taken_out_once() {
    let entry = |name: &str, status: &str| {
        format!(
            "{{host: r.example.com, routerName: {name}, wildcardPolicy: None, conditions: [{{type: Admitted, \
             status: '{status}', lastTransitionTime: '2026-01-01T00:00:01Z'}}]}}"
        )
    };
    let of = |version: u32, entries: &[String]| {
        let route = route("", &format!("ingress: [{}]", entries.join(", ")));
        route.replace("'5'", &format!("'{version}'"))
    };
    let [old, own, other] = ["old", "gatehouse", "default"].map(|name| entry(name, "True"));
    let mut leader = Leader {
        differ: Differ::written_before(BTreeSet::new(), BTreeSet::from(["old".to_owned()])),
        ..Leader::default()
    };
    let names = |patches: Vec<Patch>| {
        let said = one(patches).says();
        let entries = said["status"]["ingress"].as_array().unwrap().iter();
        entries.map(|entry| entry["routerName"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let both = leader.sees(&of(1, &[old.clone(), other.clone()]));
    assert_eq!(both.len(), 2, "one after the other: the last one counts");
    assert_eq!(
        names(leader.sees(&of(2, &[old.clone(), other.clone(), own.clone()]))),
        ["default", "gatehouse"]
    );
    assert_eq!(leader.differ.cleared(), [] as [&str; 0]);
    assert_eq!(leader.sees(&of(3, &[other.clone(), own.clone()])), []);
    assert_eq!(leader.differ.cleared(), ["old"]);
    // Another router has that name now.
    assert_eq!(leader.sees(&of(4, &[other, own.clone(), old.clone()])), []);
    assert_eq!(leader.differ.cleared(), [] as [&str; 0]);

    // Another router has had it all the time, against all advice: it has the last word.
    let mut leader = Leader {
        differ: Differ::written_before(BTreeSet::new(), BTreeSet::from(["old".to_owned()])),
        ..Leader::default()
    };
    assert_eq!(leader.sees(&of(1, &[own.clone(), old])).len(), 1);
    assert_eq!(leader.sees(&of(3, &[own, entry("old", "False")])), []);
    assert_eq!(leader.differ.cleared(), ["old"]);
}

#[test]
fn pools_say_how_full_they_are() {
    let yaml = format!("{POOL}{}", service("a", 1, "", &address("192.168.1.200")));
    let state = state(&yaml);
    let compiled = compile::compile(&state, &node(), Role::Allocate, None);
    let patches = Differ::default().diff(&Statuses::new(&state, &node(), &compiled), NOW);
    let patch = one(patches);
    assert_eq!(patch.object.to_string(), "IPAddressPool metallb-system/pool");
    let expected = json!({
        "assignedIPv4": 1, "assignedIPv6": 0, "availableIPv4": 1, "availableIPv6": 17,
    });
    assert_eq!(patch.says()["status"], expected);
}

#[test]
fn manifests_of_this_node_are_no_objects_of_the_api_server() {
    let source = Source { trust: SourceTrust { standalone: true, ..CLUSTER.trust }, ..CLUSTER };
    let mut state = ClusterState::new([source]);
    let yaml = format!("{}{}{}", ingress("gatehouse", ""), service("a", 1, "", ""), route("", ""));
    let manifest = Manifest::of(&yaml);
    let changes = manifest.objects().map(|placed| Change::Apply(placed.object.clone(), 0));
    state.apply(Event::Batch(source.id, changes.collect()));
    source.kinds.iter().for_each(|kind| {
        state.apply(Event::Synced(source.id, *kind));
    });
    let compiled = compile::compile(&state, &node(), Role::Allocate, None);
    assert_eq!(Differ::default().diff(&Statuses::new(&state, &node(), &compiled), NOW), []);
}
