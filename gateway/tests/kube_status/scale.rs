//! A few hundred objects of each kind at once: everything has its status, every request is answered, and the API
//! server is asked no more often than that takes. Bounds are counts, never times.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use serde_json::{Value, json};

use crate::bed::{Bed, Gateway, assert_distinct, eventually};

/// Of each kind.
const COUNT: usize = 300;

/// An Ingress or a Route that leads to a Service without endpoints.
fn object(kind: &str, number: usize) -> Value {
    let name = format!("many-{number}");
    let service = json!({ "name": "web", "port": { "number": 80 } });
    let path = json!({ "path": "/", "pathType": "Prefix", "backend": { "service": service } });
    let spec = match kind {
        "Ingress" => json!({
            "ingressClassName": "ours",
            "rules": [{ "host": host(kind, number), "http": { "paths": [path] } }],
        }),
        _ => json!({ "host": host(kind, number), "to": { "kind": "Service", "name": "web" } }),
    };
    json!({ "metadata": { "name": name }, "spec": spec })
}

fn host(kind: &str, number: usize) -> String {
    format!("{}-{number}.example.com", kind.to_lowercase())
}

/// Whether the status of an object says that it is served, and where.
fn is_told(kind: &str, status: &Value, address: &str) -> bool {
    match kind {
        "Ingress" => status["loadBalancer"]["ingress"] == json!([{ "ip": address }]),
        _ => status["ingress"][0]["conditions"][0]["status"] == "True",
    }
}

/// Creates them, some of them at a time.
async fn create(api: Api<DynamicObject>, version: &str, kind: &str) {
    let all = futures_util::stream::iter(0..COUNT).map(|number| {
        let api = &api;
        async move {
            let mut object = object(kind, number);
            object["apiVersion"] = version.into();
            object["kind"] = kind.into();
            let object = serde_json::from_value(object).unwrap();
            api.create(&PostParams::default(), &object).await.unwrap();
        }
    });
    all.buffer_unordered(16).collect::<()>().await;
}

/// Waits until every object of a kind says that it is served.
fn told(bed: &Bed, api: &Api<DynamicObject>, kind: &str, address: &str) {
    eventually(&format!("every {kind} has its status"), || {
        let list = bed.runtime.block_on(api.list(&ListParams::default())).unwrap().items;
        let told = |object: &DynamicObject| is_told(kind, &object.data["status"], address);
        (list.len() == COUNT && list.iter().all(told)).then_some(())
    });
}

/// Requests to the API server since a count was taken.
fn since(gateway: &Gateway, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut requests = gateway.requests();
    for (verb, count) in &mut requests {
        *count -= before.get(verb).copied().unwrap_or(0);
    }
    requests
}

#[test]
fn hundreds_of_objects_of_each_kind_at_once_are_served_and_told_with_one_write_each() {
    let bed = Bed::new("scale");
    bed.pool("10.40.0.0/22");
    let service = format!("{}/gateway", bed.namespace);
    let gateway = bed.gateway("node-1", &["--gateway-service", &service, "--claim-class", "ours"]);
    bed.service("gateway", json!({}));
    let address =
        eventually("the gateway has an address", || bed.addresses()["gateway"].first().cloned());
    let before = gateway.requests();

    let ingresses = bed.objects("networking.k8s.io/v1", "Ingress", "ingresses");
    let routes = bed.objects("route.openshift.io/v1", "Route", "routes");
    bed.runtime.block_on(async {
        tokio::join!(
            bed.create_services((0..COUNT).map(|number| format!("many-{number}"))),
            create(ingresses.clone(), "networking.k8s.io/v1", "Ingress"),
            create(routes.clone(), "route.openshift.io/v1", "Route"),
        )
    });
    eventually("every Service has an address", || {
        let addresses = bed.addresses();
        let given = addresses.values().all(|ips| ips.len() == 1);
        (addresses.len() == COUNT + 1 && given).then(|| assert_distinct(&addresses))
    });
    for (kind, api) in [("Ingress", &ingresses), ("Route", &routes)] {
        told(&bed, api, kind, &address);
        for number in 0..COUNT {
            // There is a rule, and no Service behind it.
            assert_eq!(gateway.answer(&host(kind, number)), 503, "{kind} {number}");
        }
    }
    assert_eq!(gateway.answer("nobody.example.com"), 404);

    let statuses = 3 * COUNT as u64;
    // Events come after the statuses that they tell of.
    let requests = eventually("every Event is written", || {
        let requests = since(&gateway, &before);
        requests.get("create").is_some_and(|events| *events >= statuses).then_some(requests)
    });
    let of = |verb: &str| requests.get(verb).copied().unwrap_or(0);
    // Besides the statuses: the counts of the pool, and conflicts.
    let writes = statuses..statuses + statuses / 4;
    assert!(writes.contains(&of("patch")), "{requests:?} for {statuses} statuses");
    // An Event of each address, and of each name that leads to no Service.
    assert!(writes.contains(&of("create")), "{requests:?}");
    assert_eq!(of("list"), 0, "{requests:?}");
}
