//! The values of the chart, their schema, and the page that lists them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{CHART, chart_file, cluster, yaml};

/// Paths of the values that hold no others, or that may hold anything.
fn paths(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value.as_object().filter(|fields| !fields.is_empty()) {
        Some(fields) => {
            for (name, value) in fields {
                paths(value, &below(path, name), found);
            }
        }
        None => {
            found.insert(path.to_owned());
        }
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// What the schema says of a value; `None` if it does not know it. An object without named properties may hold
/// anything.
fn schema_of<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(schema, |schema, name| match schema.get("properties") {
        Some(properties) => properties.get(name),
        None => schema.get("additionalProperties").or(Some(schema)),
    })
}

/// Paths of all values that the schema names.
fn schema_paths(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let path = below(path, name);
        schema_paths(schema, &path, found);
        found.insert(path);
    }
}

#[test]
fn the_schema_and_the_page_know_all_values_and_the_schema_no_others() {
    let (values, schema) =
        (yaml(&chart_file("values.yaml")), yaml(&chart_file("values.schema.json")));
    let page = chart_file("README.md");
    let mut found = BTreeSet::new();
    paths(&values, "", &mut found);
    for path in &found {
        assert!(schema_of(&schema, path).is_some(), "values.schema.json does not know {path}");
        let listed = page.contains(&format!("| {path} |"))
            || path
                .rsplit_once('.')
                .is_some_and(|(parent, _)| page.contains(&format!("| {parent} |")));
        assert!(listed, "README.md does not list {path}: run helm-docs --sort-values-order file");
    }
    let mut known = BTreeSet::new();
    schema_paths(&schema, "", &mut known);
    for path in known {
        // What an object of the user's own may hold.
        let free = ["resources."].iter().any(|prefix| path.starts_with(prefix));
        let is_there = path.split('.').try_fold(&values, |value, name| value.get(name)).is_some();
        assert!(free || is_there, "values.yaml does not know {path}");
    }
}

#[test]
fn values_that_make_no_sense_are_refused_with_their_place() {
    for (setting, place) in [
        ("gateway.servise.httpPort=80", "/gateway"),
        ("adresses.pools={}", "adresses"),
        ("addresses.pools[0]=192.168.1.200-", "/addresses/pools/0"),
        ("addresses.pools[0]=192.168.1.200", "/addresses/pools/0"),
        ("addresses.pools[0].name=a", "/addresses/pools/0"),
        ("addresses.peers[0].peerASN=1", "/addresses/peers/0"),
        ("routes.crd=yes", "/routes/crd"),
        ("gateway.service.httpPort=65536", "/gateway/service/httpPort"),
        ("metrics.host=eth0", "/metrics/host"),
        ("traffic.trustedProxies[0]=all", "/traffic/trustedProxies/0"),
        ("image.digest=latest", "/image/digest"),
        ("nonRoot=true", "state.type has to be emptyDir"),
        ("metrics.podMonitor.enabled=true", "metrics.enabled is false"),
        ("metrics.enabled=true,metrics.serviceMonitor.enabled=true", "metrics.service.enabled"),
    ] {
        let refusal = cluster().helm(&["template", "gatehouse", CHART, "--set", setting]);
        let refusal = format!("{:#}", refusal.expect_err(setting));
        assert!(refusal.contains(place), "{setting}: {refusal}");
    }
}
