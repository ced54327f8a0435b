//! What stays the same `Arc` from compile to compile, and which counters go on.

use std::sync::atomic::Ordering;

use super::*;
use crate::{
    action::Forward,
    model::{Backend, Scheme},
    objects::Objects,
    rule::RouteRule,
    table::HostRoutes,
};

/// Ten hosts, each with an Ingress, a Service and an EndpointSlice of its own.
fn ten() -> Objects {
    let mut state = objects("");
    for n in 0..10 {
        add(&mut state, n, ingress(n, "/", json!({})));
        add(
            &mut state,
            n,
            json!({"kind": "Service", "metadata": {"name": format!("s{n}"), "namespace": "d"},
            "spec": {"ports": [{"port": 80}]}}),
        );
        add(&mut state, n, slice(n, &["10.0.0.1", "10.0.0.2"]));
    }
    state
}

fn ingress(n: u64, path: &str, labels: serde_json::Value) -> serde_json::Value {
    json!({"kind": "Ingress", "metadata": {"name": format!("i{n}"), "namespace": "d", "labels": labels},
        "spec": {"rules": [{"host": format!("h{n}.com"), "http": {"paths": [{"pathType": "Prefix", "path": path,
        "backend": {"service": {"name": format!("s{n}"), "port": {"number": 80}}}}]}}]}})
}

fn slice(n: u64, addresses: &[&str]) -> serde_json::Value {
    let endpoints: Vec<_> = addresses.iter().map(|a| json!({"addresses": [a]})).collect();
    json!({"kind": "EndpointSlice", "metadata": {"name": format!("s{n}"), "namespace": "d",
        "labels": {"kubernetes.io/service-name": format!("s{n}")}},
        "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": endpoints})
}

fn host(compiled: &Compiled, n: u64) -> &Arc<HostRoutes> {
    let pattern = HostPattern::Exact(format!("h{n}.com").into());
    compiled.tables[0].routes.host(&pattern).unwrap()
}

fn rule(compiled: &Compiled, n: u64) -> &Arc<RouteRule> {
    let name = format!("h{n}.com");
    testing::lookup(&compiled.tables[0].routes, Scheme::Http, &name, "/").unwrap().rule
}

fn backend(compiled: &Compiled, n: u64) -> &Arc<Backend> {
    let mut all = compiled.backends.slots.iter().flatten();
    all.find(|backend| *backend.key.service.name == *format!("s{n}")).unwrap()
}

fn recompile(state: &Objects, previous: &Compiled) -> Compiled {
    compile(state, &Options::default(), Some(previous))
}

#[test]
fn without_a_change_everything_is_shared() {
    let state = ten();
    let before = compile(&state, &Options::default(), None);
    let after = recompile(&state, &before);
    assert!(Arc::ptr_eq(&before.tables[0].routes, &after.tables[0].routes));
    assert!(Arc::ptr_eq(&before.tables[0].certs, &after.tables[0].certs));
    assert!(Arc::ptr_eq(&before.backends, &after.backends));
}

#[test]
fn a_changed_ingress_rebuilds_its_own_host_alone() {
    let mut state = ten();
    let before = compile(&state, &Options::default(), None);
    add(&mut state, 3, ingress(3, "/changed", json!({})));
    let after = recompile(&state, &before);
    for n in (0..10).filter(|n| *n != 3) {
        assert!(Arc::ptr_eq(host(&before, n), host(&after, n)));
    }
    assert!(!Arc::ptr_eq(host(&before, 3), host(&after, 3)));
    assert!(Arc::ptr_eq(&before.backends, &after.backends));
    assert_eq!(answer(&after, "http://h3.com/"), "404");
}

#[test]
fn a_change_that_says_the_same_keeps_the_rules() {
    let mut state = ten();
    let before = compile(&state, &Options::default(), None);
    add(&mut state, 3, ingress(3, "/", json!({"touched": "yes"})));
    let after = recompile(&state, &before);
    assert!(Arc::ptr_eq(rule(&before, 3), rule(&after, 3)));
    assert!(Arc::ptr_eq(&before.tables[0].routes, &after.tables[0].routes));
}

#[test]
fn a_backend_that_is_a_name_of_another_service_changes_with_that() {
    let mut state = ten();
    let named = json!({"kind": "Service", "metadata": {"name": "s3", "namespace": "d"},
        "spec": {"type": "ExternalName", "externalName": "far.o.svc", "ports": [{"port": 80}]}});
    add(&mut state, 3, named);
    let standalone = |state: &mut Objects| {
        state.services.values_mut().for_each(|stored| stored.trust.standalone = true);
    };
    standalone(&mut state);
    let before = compile(&state, &Options::default(), None);
    let addresses = |compiled: &Compiled| {
        let endpoints = &backend(compiled, 3).endpoints;
        let listed = endpoints.endpoints.iter().map(|it| it.address.to_string());
        (listed.collect::<Vec<_>>(), endpoints.external.is_some())
    };
    assert_eq!(addresses(&before), (vec![], true), "nobody but a name server can know it");
    let mut slice = slice(3, &["10.0.0.9"]);
    slice["metadata"] =
        json!({"name": "far", "namespace": "o", "labels": {"kubernetes.io/service-name": "far"}});
    let far = json!({"kind": "Service", "metadata": {"name": "far", "namespace": "o"}, "spec": {"ports": [{"port": 80}]}});
    for object in [far, slice.clone()] {
        add(&mut state, 11, object);
    }
    standalone(&mut state);
    let came = recompile(&state, &before);
    assert_eq!(addresses(&came), (vec!["10.0.0.9:8080".into()], false));
    slice["endpoints"] = json!([{"addresses": ["10.0.0.8"]}]);
    add(&mut state, 11, slice);
    let moved = recompile(&state, &came);
    assert_eq!(addresses(&moved), (vec!["10.0.0.8:8080".into()], false));
    for n in (0..10).filter(|n| *n != 3) {
        assert!(Arc::ptr_eq(backend(&before, n), backend(&moved, n)));
    }
    state.services.remove(&ObjectKey::new("o", "far"));
    assert_eq!(addresses(&recompile(&state, &moved)), (vec![], true));
}

#[test]
fn a_moved_pod_rebuilds_its_own_backend_and_keeps_what_is_known_of_the_others() {
    let mut state = ten();
    let before = compile(&state, &Options::default(), None);
    let old = &backend(&before, 3).endpoints;
    old.endpoints[1].stats.requests.store(5, Ordering::Relaxed);
    add(&mut state, 3, slice(3, &["10.0.0.2", "10.0.0.3"]));
    let after = recompile(&state, &before);
    assert!(Arc::ptr_eq(&before.tables[0].routes, &after.tables[0].routes));
    for n in (0..10).filter(|n| *n != 3) {
        assert!(Arc::ptr_eq(backend(&before, n), backend(&after, n)));
    }
    let new = &backend(&after, 3).endpoints;
    assert!(Arc::ptr_eq(&old.endpoints[1].stats, &new.endpoints[0].stats));
    assert_eq!(new.endpoints[1].stats.requests.load(Ordering::Relaxed), 0);
}

#[test]
fn an_endpoint_slice_that_says_the_same_keeps_the_backend() {
    let mut state = ten();
    let before = compile(&state, &Options::default(), None);
    add(&mut state, 3, slice(3, &["10.0.0.2", "10.0.0.1"]));
    let after = recompile(&state, &before);
    assert!(Arc::ptr_eq(&before.backends, &after.backends));
}

#[test]
fn a_tls_entry_elsewhere_changes_the_redirects_of_its_host_only() {
    let mut state = ten();
    let before = compile(&state, &Options::default(), None);
    add(
        &mut state,
        99,
        json!({"kind": "Ingress", "metadata": {"name": "t", "namespace": "d"},
        "spec": {"tls": [{"hosts": ["h3.com"]}], "rules": [{"host": "t.com"}]}}),
    );
    let after = recompile(&state, &before);
    assert_eq!(answer(&after, "http://h3.com/"), "redirect 308");
    assert!(Arc::ptr_eq(host(&before, 4), host(&after, 4)));
    let back = recompile(&ten(), &after);
    assert_eq!(answer(&back, "http://h3.com/"), "s3:80");
}

#[test]
fn a_filter_that_changed_is_in_force_at_once_and_one_that_did_not_keeps_the_rule() {
    let mut state = ten();
    let asks = |rewrite: &str, force: &str, order: &str| {
        let mut object = ingress(3, "/", json!({ "order": order }));
        object["metadata"]["annotations"] = json!({
            "nginx.ingress.kubernetes.io/rewrite-target": rewrite,
            "nginx.ingress.kubernetes.io/force-ssl-redirect": force,
        });
        object
    };
    add(&mut state, 3, asks("/one", "false", ""));
    let one = compile(&state, &Options::default(), None);
    assert_eq!(answer(&one, "http://h3.com/"), "s3:80 as /one");
    add(&mut state, 3, asks("/two", "false", ""));
    let two = recompile(&state, &one);
    assert_eq!(answer(&two, "http://h3.com/"), "s3:80 as /two");
    add(&mut state, 3, asks("/two", "true", ""));
    let forced = recompile(&state, &two);
    assert_eq!(answer(&forced, "http://h3.com/"), "redirect 308");
    assert_eq!(answer(&forced, "https://h3.com/"), "s3:80 as /two");
    add(&mut state, 3, asks("/two", "true", "another label"));
    let same = recompile(&state, &forced);
    assert!(Arc::ptr_eq(rule(&forced, 3), rule(&same, 3)));
    assert!(Arc::ptr_eq(&forced.tables[0].routes, &same.tables[0].routes));
}

#[test]
fn new_weights_go_on_where_the_old_ones_were_in_the_sequence() {
    let route = |weight: u32| {
        json!({"kind": "Route", "metadata": {"name": "r", "namespace": "d"}, "spec": {"host": "r.com",
            "to": {"name": "a", "weight": weight}, "alternateBackends": [{"name": "b", "weight": 20}]}})
    };
    fn forward(compiled: &Compiled) -> &Forward {
        let table = &compiled.tables[0].routes;
        let matched = testing::lookup(table, Scheme::Http, "r.com", "/").unwrap();
        matched.rule.forward().unwrap()
    }
    let mut state = ten();
    add(&mut state, 50, route(80));
    let before = compile(&state, &Options::default(), None);
    add(&mut state, 50, route(30));
    let after = recompile(&state, &before);
    assert_ne!(forward(&after), forward(&before));
    assert!(Arc::ptr_eq(&forward(&after).sequence, &forward(&before).sequence));
    assert_eq!(forward(&after).spec.backends[0].slot, forward(&before).spec.backends[0].slot);
}

#[test]
fn other_options_translate_everything_anew() {
    let state = objects("kind: Route\nmetadata: {name: r, namespace: d}\nspec: {to: {name: s}}");
    let domain = |name: &str| Options { route_domain: Some(name.into()), ..Options::default() };
    let before = compile(&state, &domain("one"), None);
    let after = compile(&state, &domain("two"), Some(&before));
    assert_eq!(answer(&after, "http://r-d.two/"), "s:*");
    assert_eq!(answer(&after, "http://r-d.one/"), "404");
}

#[test]
fn a_secret_that_comes_or_goes_changes_the_certificates_and_nothing_else() {
    let mut state = ten();
    let secret = json!({"kind": "Secret", "metadata": {"name": "s", "namespace": "d"}});
    add(
        &mut state,
        99,
        json!({"kind": "Ingress", "metadata": {"name": "t", "namespace": "d"},
        "spec": {"tls": [{"hosts": ["t.com"], "secretName": "s"}], "rules": [{"host": "t.com"}]}}),
    );
    let without = compile(&state, &Options::default(), None);
    assert_eq!((without.tables[0].certs.len(), without.problems.len()), (0, 1));
    // Said again as long as it is so.
    assert_eq!(recompile(&state, &without).problems, without.problems);
    add(&mut state, 0, secret.clone());
    let with = recompile(&state, &without);
    assert_eq!((with.tables[0].certs.len(), with.problems.len()), (1, 0));
    assert!(Arc::ptr_eq(&without.tables[0].routes, &with.tables[0].routes));
    // Its content is no business of this crate.
    add(&mut state, 0, secret);
    assert!(Arc::ptr_eq(&with.tables[0].certs, &recompile(&state, &with).tables[0].certs));
    state.secrets.clear();
    assert_eq!(recompile(&state, &with).problems, without.problems);
}
