//! What one change costs beside many objects: a compile that follows another.
//!
//! `cargo bench -p gatehouse-routes --bench compile` prints, per kind of change, microseconds of one compile: the median
//! and the best of 60. `-- CASE COUNT` does COUNT of them and prints nothing, for a profiler.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a benchmark reads the clock and prints"
)]

use std::{env, sync::Arc, time::Instant};

use gatehouse_routes::{
    compile::{Compiled, compile},
    objects::{ObjectKey, Objects, SourceTrust, Special, Store, Stored},
    options::Options,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Ingresses, and as many Routes.
const OBJECTS: usize = 10_000;
/// Services that they lead to, each with an EndpointSlice.
const SERVICES: usize = 2_000;
/// Compiles that are measured.
const ROUNDS: usize = 60;
/// What changes.
const CASES: [&str; 5] = ["nothing", "EndpointSlice", "Ingress", "Route", "new Ingress"];

fn main() {
    let arguments: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    match &*arguments {
        [case, count] => {
            let count = count.parse().expect("a number of compiles");
            let _ = run(case, count);
        }
        _ => {
            for case in CASES {
                let mut times = run(case, ROUNDS);
                times.sort_by(f64::total_cmp);
                println!("{case:<16} {:8.0} (best {:8.0}) µs", times[ROUNDS / 2], times[0]);
            }
        }
    }
}

/// Microseconds of each compile.
fn run(case: &str, count: usize) -> Vec<f64> {
    let options = Options::default();
    let mut objects = objects();
    let mut last: Compiled = compile(&objects, &options, None);
    let mut times = Vec::with_capacity(count);
    for number in 0..count {
        let at = number * 97 % OBJECTS;
        match case {
            "EndpointSlice" => add(&mut objects.endpoint_slices, slice(at % SERVICES, 8081)),
            "Ingress" => add(&mut objects.ingresses, ingress(at, "/changed")),
            "Route" => add(&mut objects.routes, route(at, "/changed")),
            "new Ingress" => add(&mut objects.ingresses, ingress(OBJECTS + number, "/")),
            _ => (),
        }
        let begun = Instant::now();
        let next = compile(&objects, &options, Some(&last));
        drop(std::mem::replace(&mut last, next));
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    times
}

fn objects() -> Objects {
    let mut objects = Objects::default();
    for at in 0..SERVICES {
        let spec = json!({ "ports": [{ "port": 80, "targetPort": 8080 }] });
        add(&mut objects.services, object(at, "s", &spec));
        add(&mut objects.endpoint_slices, slice(at, 8080));
    }
    for at in 0..OBJECTS {
        add(&mut objects.ingresses, ingress(at, "/"));
        add(&mut objects.routes, route(at, "/"));
    }
    objects
}

/// Hundred namespaces; ages as of objects that were created some at a time.
fn object(at: usize, name: &str, spec: &Value) -> Value {
    let created = format!("2026-01-01T{:02}:{:02}:00Z", at / 3600 % 24, at / 60 % 60);
    json!({
        "metadata": {
            "name": format!("{name}{at}"), "namespace": format!("n{}", at % 100),
            "uid": format!("{name}-{at}"), "creationTimestamp": created,
        },
        "spec": spec,
    })
}

/// Services are in the namespaces of those that lead to them.
fn service(at: usize) -> String {
    format!("s{}", at % SERVICES)
}

fn ingress(at: usize, path: &str) -> Value {
    let backend = json!({ "service": { "name": service(at), "port": { "number": 80 } } });
    let paths = json!([{ "path": path, "pathType": "Prefix", "backend": backend }]);
    let rules = json!([{ "host": format!("i{at}.apps.example.com"), "http": { "paths": paths } }]);
    object(at, "i", &json!({ "rules": rules }))
}

fn route(at: usize, path: &str) -> Value {
    let host = format!("r{at}.apps.example.com");
    let to = json!({ "kind": "Service", "name": service(at), "weight": 100 });
    object(at, "r", &json!({ "host": host, "path": path, "to": to, "wildcardPolicy": "None" }))
}

fn slice(at: usize, port: u16) -> Value {
    let mut slice = object(at, "e", &Value::Null);
    slice["metadata"]["labels"] = json!({ "kubernetes.io/service-name": service(at) });
    slice["addressType"] = json!("IPv4");
    slice["ports"] = json!([{ "port": port }]);
    slice["endpoints"] = json!([{ "addresses": ["10.0.0.1"] }]);
    slice
}

fn add<T: DeserializeOwned + Special>(store: &mut Store<T>, object: Value) {
    let word = |name: &str| object["metadata"][name].as_str().expect("a word").to_owned();
    let key = ObjectKey::new(word("namespace"), word("name"));
    let object = serde_json::from_value(object).expect("an object");
    store.insert(key, Stored::new(Arc::new(object), 0, SourceTrust::default()));
}
