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

/// A value as the page lists it: path, what it holds, what is said of it.
struct Row<'v> {
    path: String,
    value: &'v Value,
    text: String,
}

/// The rows of the page by the conventions of helm-docs, in the order of the file: the comment from `# -- ` on
/// belongs to the value below it, and an object with one is not taken apart.
fn rows<'v>(file: &str, values: &'v Value) -> Vec<Row<'v>> {
    let (mut rows, mut text) = (Vec::<Row<'_>>::new(), String::new());
    // Names that lead to the line, each with its indentation.
    let mut place: Vec<(usize, &str)> = Vec::new();
    for line in file.lines() {
        let own = line.trim_start();
        let indentation = line.len() - own.len();
        if let Some(comment) = own.strip_prefix("# ") {
            match comment.strip_prefix("-- ") {
                Some(begin) => begin.clone_into(&mut text),
                None => text.extend([" ", comment]),
            }
            continue;
        }
        let Some((name, _)) = own.split_once(':') else { continue };
        place.retain(|(of, _)| *of < indentation);
        place.push((indentation, name));
        let names: Vec<&str> = place.iter().map(|(_, name)| *name).collect();
        let value = names.iter().fold(values, |value, name| &value[name]);
        let within = |row: &Row<'_>| names.join(".").starts_with(&format!("{}.", row.path));
        let is_parent = value.as_object().is_some_and(|fields| !fields.is_empty());
        let taken_apart = is_parent && text.is_empty();
        if !taken_apart && !rows.last().is_some_and(within) {
            rows.push(Row { path: names.join("."), value, text: std::mem::take(&mut text) });
        }
    }
    rows
}

impl Row<'_> {
    fn rendered(&self) -> String {
        let kind = match self.value {
            Value::Null | Value::String(_) => "string",
            Value::Bool(_) => "bool",
            Value::Number(_) => "int",
            Value::Array(_) => "list",
            Value::Object(_) => "object",
        };
        let default = if self.value.is_null() { "nil".to_owned() } else { self.value.to_string() };
        format!("| {} | {kind} | `{default}` | {} |\n", self.path, self.text)
    }
}

/// The page as helm-docs makes it of `README.md.gotmpl`.
#[test]
fn the_page_is_made_of_its_template_and_of_the_values() {
    let (file, about) = (chart_file("values.yaml"), yaml(&chart_file("Chart.yaml")));
    let values = yaml(&file);
    let rows = rows(&file, &values);
    let silent: Vec<_> = rows.iter().filter(|row| row.text.is_empty()).map(|it| &it.path).collect();
    assert!(silent.is_empty(), "values.yaml says nothing of {silent:?}");
    let table: String = rows.iter().map(Row::rendered).collect();
    let table = format!(
        "| Key | Type | Default | Description |\n|-----|------|---------|-------------|\n{table}"
    );
    let version = format!("Kubernetes: `{}`", about["kubeVersion"].as_str().unwrap());
    let page = [
        ("chart.description", about["description"].as_str().unwrap()),
        ("chart.kubeVersionLine", &version),
        ("chart.valuesTable", table.trim_end()),
    ];
    let page = page.iter().fold(chart_file("README.md.gotmpl"), |text, (name, made)| {
        text.replace(&format!("{{{{ template \"{name}\" . }}}}"), made)
    });
    assert!(!page.contains("{{"), "{page}");
    if std::env::var_os("GOLDEN_UPDATE").is_some() {
        std::fs::write(format!("{CHART}/README.md"), &page).unwrap();
    }
    let old = chart_file("README.md");
    let different = old.lines().zip(page.lines()).find(|(old, new)| old != new);
    assert!(old == page, "GOLDEN_UPDATE=1 writes README.md anew: {different:#?}");
}

#[test]
fn the_schema_knows_all_values_and_no_others() {
    let (values, schema) =
        (yaml(&chart_file("values.yaml")), yaml(&chart_file("values.schema.json")));
    let mut found = BTreeSet::new();
    paths(&values, "", &mut found);
    for path in &found {
        assert!(schema_of(&schema, path).is_some(), "values.schema.json does not know {path}");
    }
    let mut known = BTreeSet::new();
    schema_paths(&schema, "", &mut known);
    for path in known {
        // What an object of the user's own may hold.
        let free = ["resources.", "updateStrategy."].iter().any(|prefix| path.starts_with(prefix));
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
        ("traffic.proxyProtocolFrom[0]=10.0.0.0/8/8", "/traffic/proxyProtocolFrom/0"),
        ("image.digest=latest", "/image/digest"),
        ("nonRoot=true", "state.type has to be emptyDir"),
        (
            "state.type=emptyDir,updateStrategy.rollingUpdate.maxSurge=1",
            "a Pod does not find its predecessor",
        ),
        ("metrics.podMonitor.enabled=true", "metrics.enabled is false"),
        ("metrics.enabled=true,metrics.serviceMonitor.enabled=true", "metrics.service.enabled"),
    ] {
        let refusal = cluster().helm(&["template", "gatehouse", CHART, "--set", setting]);
        let refusal = format!("{:#}", refusal.expect_err(setting));
        assert!(refusal.contains(place), "{setting}: {refusal}");
    }
}
