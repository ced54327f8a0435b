//! Objects that change, come and go faster than anybody can look: what the statuses say when that is over.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::Duration,
};

use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::{
    bed::{Bed, eventually},
    statuses::{INGRESS, ROUTE, SERVICE, status},
};

const NAMES: u64 = 6;
const CHANGES: usize = 300;
const POOL: [&str; 5] = ["10.40.0.0", "10.40.0.1", "10.40.0.2", "10.40.0.3", "10.40.0.4"];

/// Numbers that are the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn service(dice: &mut Dice, name: &str) -> Value {
    let mut spec = json!({ "ports": [{ "port": 80 }], "allocateLoadBalancerNodePorts": false });
    let mut annotations = json!({});
    match dice.roll(6) {
        0 => {
            spec = json!({ "ports": [{ "port": 80 }], "type": "ClusterIP" });
        }
        1 => {
            annotations["metallb.io/loadBalancerIPs"] = format!("10.40.0.{}", dice.roll(10)).into();
            spec["type"] = "LoadBalancer".into();
        }
        2 => {
            spec["loadBalancerIP"] = format!("10.40.0.{}", dice.roll(10)).into();
            spec["type"] = "LoadBalancer".into();
        }
        _ => spec["type"] = "LoadBalancer".into(),
    }
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "annotations": annotations }, "spec": spec,
    })
}

fn ingress(dice: &mut Dice, name: &str) -> Value {
    let backend = json!({ "service": { "name": "s0", "port": { "number": 80 } } });
    let path = json!({ "path": "/", "pathType": "Prefix", "backend": backend });
    let host = format!("{}.example.com", dice.roll(3));
    let class = ["ours", "theirs"][usize::try_from(dice.roll(2)).unwrap()];
    json!({
        "apiVersion": INGRESS.0, "kind": "Ingress", "metadata": { "name": name },
        "spec": { "ingressClassName": class, "rules": [{ "host": host, "http": { "paths": [path] } }] },
    })
}

fn route(dice: &mut Dice, name: &str) -> Value {
    let host = format!("r{}.example.com", dice.roll(3));
    json!({
        "apiVersion": ROUTE.0, "kind": "Route", "metadata": { "name": name },
        "spec": { "host": host, "to": { "kind": "Service", "name": "s0" } },
    })
}

fn replace(bed: &Bed, kind: (&str, &str, &str), name: &str, mut object: Value) {
    let api = bed.objects(kind.0, kind.1, kind.2);
    bed.runtime.block_on(async {
        // As `kubectl replace`: what is not written is not there any more.
        if let Ok(Some(there)) = api.get_opt(name).await {
            object["metadata"]["resourceVersion"] = json!(there.metadata.resource_version);
            for field in ["clusterIP", "clusterIPs"] {
                if kind == SERVICE {
                    object["spec"][field] = there.data["spec"][field].clone();
                }
            }
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            let _ = api.replace(name, &PostParams::default(), &object).await;
        } else {
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            api.create(&PostParams::default(), &object).await.unwrap();
        }
    });
}

fn change(bed: &Bed, dice: &mut Dice) {
    let number = dice.roll(NAMES);
    let (kind, name) = match dice.roll(3) {
        0 => (SERVICE, format!("s{number}")),
        1 => (INGRESS, format!("i{number}")),
        _ => (ROUTE, format!("r{number}")),
    };
    let api = bed.objects(kind.0, kind.1, kind.2);
    if dice.roll(4) == 0 {
        let _ = bed.runtime.block_on(api.delete(&name, &DeleteParams::default()));
        return;
    }
    let object = match kind {
        SERVICE => service(dice, &name),
        INGRESS => ingress(dice, &name),
        _ => route(dice, &name),
    };
    replace(bed, kind, &name, object);
}

fn all(bed: &Bed, kind: (&str, &str, &str)) -> Vec<DynamicObject> {
    let api = bed.objects(kind.0, kind.1, kind.2);
    bed.runtime.block_on(api.list(&ListParams::default())).unwrap().items
}

/// What is wrong with the statuses of all Services.
fn wrong_services(bed: &Bed) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut holders: BTreeMap<String, String> = BTreeMap::new();
    let mut wishes: BTreeMap<String, String> = BTreeMap::new();
    for service in all(bed, SERVICE) {
        let name = service.metadata.name.clone().unwrap();
        let (spec, status) = (&service.data["spec"], &service.data["status"]);
        let ip = status["loadBalancer"]["ingress"][0]["ip"].as_str();
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let pending = conditions.iter().any(|it| it["type"] == "gatehouse.io/AddressPending");
        if spec["type"] != "LoadBalancer" {
            if ip.is_some() || pending {
                wrong.push(format!("{name} is no LoadBalancer: {status}"));
            }
            continue;
        }
        if ip.is_some() == pending {
            wrong.push(format!("{name} has an address or says why not: {status}"));
        }
        let annotated = &service.metadata.annotations.clone().unwrap_or_default();
        let wish = annotated.get("metallb.io/loadBalancerIPs").map(String::as_str);
        let wish = wish.or_else(|| spec["loadBalancerIP"].as_str());
        if let Some(ip) = ip {
            wishes.extend(
                wish.filter(|wish| *wish != ip).map(|wish| (name.clone(), wish.to_owned())),
            );
            if let Some(other) = holders.insert(ip.to_owned(), name.clone()) {
                wrong.push(format!("{name} and {other} have {ip}"));
            }
        }
    }
    // What somebody else has, or no pool, nobody gets; he keeps what he has.
    for (name, wish) in wishes {
        if POOL.contains(&&*wish) && !holders.contains_key(&wish) {
            wrong.push(format!("{name} wants {wish}, and nobody has it"));
        }
    }
    let pool = status(bed, ("metallb.io/v1beta1", "IPAddressPool", "ipaddresspools"), "pool");
    if pool["assignedIPv4"] != holders.len() {
        wrong.push(format!("{} addresses are taken, the pool says {pool}", holders.len()));
    }
    wrong
}

fn wrong_others(bed: &Bed, gateway: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for ingress in all(bed, INGRESS) {
        let name = ingress.metadata.name.clone().unwrap();
        let is_ours = ingress.data["spec"]["ingressClassName"] == "ours";
        let shown = &ingress.data["status"]["loadBalancer"]["ingress"][0]["ip"];
        if *shown != (if is_ours { gateway.clone() } else { Value::Null }) {
            wrong.push(format!("{name} (ours: {is_ours}) shows {shown}"));
        }
    }
    let mut admitted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut hosts = BTreeSet::new();
    for route in all(bed, ROUTE) {
        let name = route.metadata.name.clone().unwrap();
        let host = route.data["spec"]["host"].as_str().unwrap().to_owned();
        let entries = route.data["status"]["ingress"].as_array().cloned().unwrap_or_default();
        if entries.len() != 1 || entries[0]["host"] != *host {
            wrong.push(format!("{name} of {host} says {entries:?}"));
            continue;
        }
        if entries[0]["conditions"][0]["status"] == "True" {
            admitted.entry(host.clone()).or_default().push(name);
        }
        hosts.insert(host);
    }
    for host in hosts {
        let of = admitted.get(&host).cloned().unwrap_or_default();
        if of.len() != 1 {
            wrong.push(format!("{host} is that of {of:?}"));
        }
    }
    wrong
}

#[test]
fn after_a_storm_of_changes_every_status_is_right_and_nothing_is_written() {
    let bed = Bed::new("storm");
    bed.pool("10.40.0.0-10.40.0.4");
    let gateway =
        bed.gateway("node-1", &["--gateway-service", "storm/gateway", "--claim-class", "ours"]);
    bed.service("gateway", json!({ "loadBalancerIP": "10.40.0.4" }));
    let address = eventually("the gateway has an address", || {
        let ip = status(&bed, SERVICE, "gateway")["loadBalancer"]["ingress"][0]["ip"].clone();
        ip.is_string().then_some(ip)
    });
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..3 {
        (0..CHANGES / 3).for_each(|_| change(&bed, &mut dice));
        let mut wrong = Vec::new();
        // Addresses of deleted Services rest for half a minute.
        for _ in 0..120 {
            thread::sleep(Duration::from_millis(500));
            wrong = wrong_services(&bed);
            wrong.extend(wrong_others(&bed, &address));
            if wrong.is_empty() {
                break;
            }
        }
        assert_eq!(wrong, [] as [String; 0], "in round {round}");
    }
    thread::sleep(Duration::from_secs(35));
    let patches = || gateway.requests().into_iter().find(|(verb, _)| verb == "patch");
    let before = patches();
    thread::sleep(Duration::from_secs(5));
    assert_eq!(patches(), before);
}

/// The only pool, as `kubectl replace --force` does it.
#[test]
fn a_pool_that_is_deleted_and_made_again_leaves_every_service_its_address() {
    let bed = Bed::new("replaced");
    let pool = |addresses: &str| bed.pool(addresses);
    pool("10.41.0.0/28");
    let _gateway =
        bed.gateway("node-1", &["--gateway-service", "replaced/web", "--claim-class", "ours"]);
    for name in ["web", "gone", "b", "a"] {
        bed.service(name, json!({}));
        eventually("it has an address", || (!bed.addresses()[name].is_empty()).then_some(()));
    }
    crate::statuses::ingress(&bed, "i", "ours");
    let shown = || status(&bed, INGRESS, "i")["loadBalancer"]["ingress"][0]["ip"].clone();
    eventually("the Ingress has an address", || shown().is_string().then_some(()));
    let services = bed.services();
    bed.runtime.block_on(services.delete("gone", &DeleteParams::default())).unwrap();
    let before = (bed.addresses(), shown());
    let pools = bed.objects("metallb.io/v1beta1", "IPAddressPool", "ipaddresspools");
    bed.runtime.block_on(pools.delete("pool", &DeleteParams::default())).unwrap();
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(100));
        assert_eq!((bed.addresses(), shown()), before);
    }
    pool("10.41.0.0/28");
    thread::sleep(Duration::from_secs(3));
    assert_eq!((bed.addresses(), shown()), before);
    // It is made smaller: what is left without an address gets another one, or says why not.
    let patch = Patch::Merge(json!({ "spec": { "addresses": ["10.41.0.0-10.41.0.1"] } }));
    bed.runtime.block_on(pools.patch("pool", &PatchParams::default(), &patch)).unwrap();
    eventually("nobody has an address outside of it", || {
        let inside = |ip: &String| ["10.41.0.0", "10.41.0.1"].contains(&ip.as_str());
        bed.addresses().values().flatten().all(inside).then_some(())
    });
    crate::bed::assert_distinct(&bed.addresses());
}

/// It starts while the only pool is being replaced, and knows of what was dealt only what the statuses say.
#[test]
fn a_gateway_that_starts_without_pools_leaves_every_service_its_address_for_a_while() {
    let bed = Bed::new("poolless");
    bed.pool("10.42.0.0/28");
    let start =
        || bed.gateway("node-1", &["--gateway-service", "poolless/web", "--claim-class", "ours"]);
    let first = start();
    for name in ["gone", "web", "a"] {
        bed.service(name, json!({}));
        eventually("it has an address", || (!bed.addresses()[name].is_empty()).then_some(()));
    }
    crate::statuses::ingress(&bed, "i", "ours");
    let shown = || status(&bed, INGRESS, "i")["loadBalancer"]["ingress"][0]["ip"].clone();
    eventually("the Ingress has an address", || shown().is_string().then_some(()));
    drop(first);
    // Whoever is dealt an address anew would get that one.
    let services = bed.services();
    bed.runtime.block_on(services.delete("gone", &DeleteParams::default())).unwrap();
    let pools = bed.objects("metallb.io/v1beta1", "IPAddressPool", "ipaddresspools");
    let delete = || bed.runtime.block_on(pools.delete("pool", &DeleteParams::default())).unwrap();
    delete();
    let before = (bed.addresses(), shown());
    let leads = |gateway: &crate::bed::Gateway| {
        let here = || Some(gateway.status()?["leader"]["here"] == true);
        eventually("it leads", || here().filter(|here| *here));
    };
    for _ in 0..2 {
        let gateway = start();
        leads(&gateway);
        for _ in 0..30 {
            thread::sleep(Duration::from_millis(100));
            assert_eq!((bed.addresses(), shown()), before);
        }
    }
    let gateway = start();
    leads(&gateway);
    bed.pool("10.42.0.0/28");
    thread::sleep(Duration::from_secs(3));
    assert_eq!((bed.addresses(), shown()), before);
    drop(gateway);
    // It does not come back.
    delete();
    let _gateway = start();
    eventually("nobody has an address", || {
        let none = bed.addresses().values().all(BTreeSet::is_empty);
        (none && shown().is_null()).then_some(())
    });
}
