//! Statuses that others write as well: a second gateway, another program, this gateway under another name.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    bed::{Bed, Gateway, eventually},
    statuses::{INGRESS, ROUTE, SERVICE, create, ingress, route, status},
};

/// A Service that stands for a name outside of the cluster.
fn named(bed: &Bed, name: &str) {
    let spec = json!({ "type": "ExternalName", "externalName": format!("{name}.example") });
    let metadata = json!({ "name": name });
    create(
        bed,
        SERVICE,
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec }),
    );
}

/// A gateway with a Lease of its own, which shows the name of a Service wherever it may.
fn second(bed: &Bed, name: &str, more: &[&str]) -> Gateway {
    let publish = format!("{}/{name}", bed.namespace);
    let own = ["--lease-name", name, "--claim-class", "ours", "--publish-service", &publish];
    bed.gateway(name, &[&own[..], more].concat())
}

fn shown(bed: &Bed) -> Value {
    status(bed, INGRESS, "web")["loadBalancer"]["ingress"][0]["hostname"].clone()
}

fn version(bed: &Bed, kind: (&str, &str, &str), name: &str) -> Option<String> {
    let api = bed.objects(kind.0, kind.1, kind.2);
    bed.runtime.block_on(api.get(name)).unwrap().metadata.resource_version
}

/// Waits until an object has not changed for some seconds.
fn settles(bed: &Bed, kind: (&str, &str, &str), name: &str) {
    let mut before = (version(bed, kind, name), Instant::now());
    eventually("nobody writes to it any more", || {
        let now = version(bed, kind, name);
        if now != before.0 {
            before = (now, Instant::now());
        }
        (before.1.elapsed() > Duration::from_secs(5)).then_some(())
    });
}

fn contested(bed: &Bed, name: &str) -> Vec<String> {
    let events = bed.events(name).into_iter();
    let contested = events.filter(|event| event.reason.as_deref() == Some("StatusContested"));
    contested.filter_map(|event| event.note).collect()
}

/// Both have a right to it, and the same name as a router: each would have the other's name replaced by its own.
#[test]
fn two_gateways_that_serve_the_same_objects_do_not_write_for_ever() {
    let bed = Bed::new("twice");
    named(&bed, "a");
    named(&bed, "b");
    ingress(&bed, "web", "ours");
    route(&bed, "r", "r.example.com");
    let b = second(&bed, "b", &[]);
    eventually("the Ingress shows a name", || (shown(&bed) == "b.example").then_some(()));
    let a = second(&bed, "a", &[]);
    let said = eventually("the other one is named", || {
        let mut notes = contested(&bed, "web");
        notes.retain(|note| note.contains("gatehouse:twice/a"));
        notes.pop()
    });
    assert!(said.contains("left as that one writes it"), "{said}");
    settles(&bed, INGRESS, "web");
    settles(&bed, ROUTE, "r");
    assert_eq!(shown(&bed), "a.example");
    let entries = status(&bed, ROUTE, "r")["ingress"].clone();
    assert_eq!(entries.as_array().map(Vec::len), Some(1));
    assert_eq!(entries[0]["routerCanonicalHostname"], "a.example");
    for gateway in [&a, &b] {
        let patches = gateway.requests().into_iter().find(|(verb, _)| verb == "patch");
        assert!(patches.is_some_and(|(_, count)| count < 40), "{:?}", gateway.requests());
    }
    let problems = b.status().unwrap()["problems"].clone();
    let of = |object: &str| {
        let problems = problems.as_array().unwrap();
        problems.iter().any(|it| it["reason"] == "StatusContested" && it["object"] == object)
    };
    assert!(of("Ingress twice/web") && of("Route twice/r"), "{problems}");
}

/// Another controller, which was not told that the class is another one's now.
#[test]
fn a_program_that_insists_on_another_status_has_it() {
    let bed = Bed::new("insists");
    named(&bed, "a");
    ingress(&bed, "web", "ours");
    let _gateway = second(&bed, "a", &[]);
    eventually("the Ingress shows a name", || (shown(&bed) == "a.example").then_some(()));
    let ingresses = bed.objects(INGRESS.0, INGRESS.1, INGRESS.2);
    let (begun, mut written) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(10) {
        if shown(&bed) != "other.example" {
            let entries = json!([{ "hostname": "other.example" }]);
            bed.patch_status(&ingresses, "web", json!({ "loadBalancer": { "ingress": entries } }));
            written += 1;
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert!((2..=8).contains(&written), "{written} times");
    assert!(contested(&bed, "web").iter().any(|note| note.contains("\"other\"")));
    assert_eq!(shown(&bed), "other.example");
}

/// Each has a gateway Service of its own, and both serve Services of no class.
#[test]
fn two_gateways_that_serve_the_same_services_agree_on_their_addresses() {
    let bed = Bed::new("shared");
    bed.pool("10.37.0.0/24");
    let start = |name: &str| {
        let service = format!("shared/{name}");
        bed.gateway(name, &["--lease-name", name, "--gateway-service", &service])
    };
    let _gateways = ["a", "b"].map(start);
    let names = ["a", "b", "other"];
    names.iter().for_each(|name| bed.service(name, json!({})));
    let entry = |name: &str| status(&bed, SERVICE, name)["loadBalancer"]["ingress"][0].clone();
    for name in names {
        eventually("it has an address", || entry(name)["ip"].as_str().map(str::to_owned));
    }
    names.iter().for_each(|name| settles(&bed, SERVICE, name));
    crate::bed::assert_distinct(&bed.addresses());
    // Of what they differ about the first one has the last word.
    assert_eq!(names.map(|name| entry(name)["ipMode"].clone()), ["Proxy", "VIP", "VIP"]);
}

#[test]
fn a_router_that_gets_another_name_takes_the_entries_by_its_old_one_out() {
    let bed = Bed::new("renamed");
    let other = json!({ "host": "r.example.com", "routerName": "default" });
    let routes = bed.objects(ROUTE.0, ROUTE.1, ROUTE.2);
    for name in ["r", "left"] {
        route(&bed, name, &format!("{name}.example.com"));
    }
    bed.patch_status(&routes, "r", json!({ "ingress": [other] }));
    let names = |name: &str| {
        let entries = status(&bed, ROUTE, name)["ingress"].as_array().cloned().unwrap_or_default();
        entries.iter().map(|it| it["routerName"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let noted = || {
        let lease = bed.runtime.block_on(bed.leases().get("gatehouse")).unwrap();
        lease.metadata.annotations.and_then(|mut all| all.remove("gatehouse.io/router-names"))
    };
    let old = bed.gateway("node-1", &["--router-name", "old"]);
    eventually("it is admitted", || (names("r") == ["default", "old"]).then_some(()));
    eventually("it is admitted", || (names("left") == ["old"]).then_some(()));
    drop(old);
    // One of them is not served under the new name.
    let more = ["--router-name", "new", "--route-field-selector", "metadata.name!=left"];
    let _new = bed.gateway("node-1", &more);
    eventually("the old entry is gone", || (names("r") == ["default", "new"]).then_some(()));
    eventually("and of what is not served", || names("left").is_empty().then_some(()));
    eventually("that is done", || (noted().as_deref() == Some("new")).then_some(()));
    // Whoever has that name next is somebody else.
    let entry = json!({ "host": "left.example.com", "routerName": "old" });
    bed.patch_status(&routes, "left", json!({ "ingress": [entry] }));
    thread::sleep(Duration::from_secs(2));
    assert_eq!(names("left"), ["old"]);
    // By hand it is taken out all the same.
    let docs = include_str!("../../../docs/STATUS.md");
    let script =
        docs.split_once("```sh\nkubectl get routes").and_then(|(_, it)| it.split_once("```"));
    let script = format!("kubectl get routes{}", script.unwrap().0);
    assert!(script.contains("\"NAME\""));
    bed.script(&script.replace("NAME", "old"));
    assert!(names("left").is_empty());
    assert_eq!(names("r"), ["default", "new"]);
}

/// As after an installation under another name: nobody is left who would take out what was written before.
#[test]
fn a_gateway_of_another_lease_takes_over_what_the_one_before_wrote() {
    let bed = Bed::new("inherits");
    bed.pool("10.44.0.1/32");
    let old = bed.gateway("node-1", &["--lease-name", "old"]);
    let ip = |name: &str| status(&bed, SERVICE, name)["loadBalancer"]["ingress"][0]["ip"].clone();
    let reason = |name: &str| status(&bed, SERVICE, name)["conditions"][0]["reason"].clone();
    bed.service("has", json!({}));
    eventually("it has an address", || ip("has").is_string().then_some(()));
    bed.service("waits", json!({}));
    eventually("it says why not", || (reason("waits") == "PoolExhausted").then_some(()));
    drop(old);
    let _new = bed.gateway("node-1", &["--lease-name", "new"]);
    let services = bed.objects(SERVICE.0, SERVICE.1, SERVICE.2);
    for name in ["has", "waits"] {
        eventually("the status is that of the new one alone", || {
            let metadata = bed.runtime.block_on(services.get(name)).unwrap().metadata;
            let mut all = metadata.managed_fields.unwrap_or_default();
            all.retain(|entry| entry.subresource.as_deref() == Some("status"));
            let managers: Vec<_> =
                all.iter().filter_map(|entry| entry.manager.as_deref()).collect();
            (managers == ["gatehouse:inherits/new"]).then_some(())
        });
    }
    assert_eq!(ip("has"), "10.44.0.1");
    // What one waits for comes.
    let pools = bed.objects("metallb.io/v1beta1", "IPAddressPool", "ipaddresspools");
    let patch =
        kube::api::Patch::Merge(json!({ "spec": { "addresses": ["10.44.0.1-10.44.0.2"] } }));
    bed.runtime.block_on(pools.patch("pool", &Default::default(), &patch)).unwrap();
    eventually("it has an address, and does not wait", || {
        (ip("waits") == "10.44.0.2" && reason("waits").is_null()).then_some(())
    });
    assert_eq!(ip("has"), "10.44.0.1");
    // And goes: there is no pool any more.
    bed.runtime.block_on(pools.delete("pool", &Default::default())).unwrap();
    eventually("neither has an address", || {
        (ip("has").is_null() && ip("waits").is_null()).then_some(())
    });
}
