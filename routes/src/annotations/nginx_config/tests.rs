use serde_json::json;

use super::*;
use crate::{
    compile::{Compiled, compile},
    filter::Filter,
    options::Options,
    testing,
};

/// Ingresses `own` (with annotations) and `bare` behind a ConfigMap of these data.
fn world(data: &serde_json::Value, own: &serde_json::Value) -> Compiled {
    let ingress = |name: &str, annotations: &serde_json::Value| {
        let path = json!({"path": "/", "pathType": "Prefix",
            "backend": {"service": {"name": "app", "port": {"number": 80}}}});
        json!({"kind": "Ingress",
            "metadata": {"name": name, "namespace": "d", "annotations": annotations},
            "spec": {"tls": [{"hosts": [format!("{name}.com")]}],
                     "rules": [{"host": format!("{name}.com"), "http": {"paths": [path]}}]}})
    };
    let objects = testing::from_values([
        json!({"kind": "IngressClass", "metadata": {"name": "g", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
               "spec": {"controller": "gatehouse.io/ingress"}}),
        ingress("own", own),
        ingress("bare", &json!({})),
        json!({"kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n"}, "data": data}),
    ]);
    compile(&objects, &options(), None)
}

fn options() -> Options {
    Options { nginx_config: Some(ObjectKey::new("n", "c")), ..Options::default() }
}

/// The filters of the one rule of a host.
fn filters(compiled: &Compiled, host: &str) -> Vec<Filter> {
    let host = compiled.tables[0].routes.host_for(host).expect("the host is there");
    host.rules().next().expect("it has a rule").filters.to_vec()
}

fn body_limit(compiled: &Compiled, host: &str) -> Option<u64> {
    filters(compiled, host).iter().find_map(|filter| match filter {
        Filter::BodyLimit(bytes) => Some(*bytes),
        _ => None,
    })
}

fn of_config(compiled: &Compiled) -> Vec<(&'static str, String)> {
    let problems = compiled.problems.iter().filter(|problem| problem.object.kind == "ConfigMap");
    problems.map(|problem| (problem.reason, problem.field.clone())).collect()
}

#[test]
fn a_key_holds_for_every_ingress_that_does_not_say_otherwise() {
    let size = "nginx.ingress.kubernetes.io/proxy-body-size";
    let compiled = world(&json!({"proxy-body-size": "8m"}), &json!({size: "2m"}));
    assert_eq!(body_limit(&compiled, "bare.com"), Some(8 << 20));
    assert_eq!(body_limit(&compiled, "own.com"), Some(2 << 20));
    // Zero is a word of its own: no limit.
    let compiled = world(&json!({"proxy-body-size": "8m"}), &json!({size: "0"}));
    assert_eq!(body_limit(&compiled, "own.com"), None);
    // What ingress-nginx does of itself, it does.
    let compiled = world(&json!({}), &json!({}));
    assert_eq!(body_limit(&compiled, "bare.com"), Some(1 << 20));
    assert_eq!(of_config(&compiled), []);
}

#[test]
fn a_list_of_an_ingress_replaces_the_global_one_by_either_name_and_blocked_clients_stay_out() {
    let lists = |compiled: &Compiled, host: &str| {
        let filters = filters(compiled, host);
        let rules = filters.iter().find_map(|filter| match filter {
            Filter::Access(rules) => Some((**rules).clone()),
            _ => None,
        });
        rules.unwrap_or_default()
    };
    let data = json!({"whitelist-source-range": "10.0.0.0/8", "block-cidrs": "10.6.6.0/24"});
    for name in ["whitelist-source-range", "allowlist-source-range"] {
        let own = json!({format!("nginx.ingress.kubernetes.io/{name}"): "192.0.2.0/24"});
        let compiled = world(&data, &own);
        for (host, client, passes) in [
            ("bare.com", "10.1.1.1", true),
            ("bare.com", "192.0.2.1", false),
            ("bare.com", "10.6.6.6", false),
            ("own.com", "10.1.1.1", false),
            ("own.com", "192.0.2.1", true),
            ("own.com", "10.6.6.6", false),
        ] {
            let admitted = lists(&compiled, host).admit(client.parse().unwrap());
            assert_eq!(admitted, passes, "{name} {host} {client}");
        }
    }
}

#[test]
fn answers_over_tls_have_hsts_as_ingress_nginx_has_it_unless_it_is_off() {
    let hsts = |data: serde_json::Value| {
        filters(&world(&data, &json!({})), "bare.com").iter().find_map(|filter| match filter {
            Filter::Hsts(value) => Some(value.to_str().unwrap().to_owned()),
            _ => None,
        })
    };
    assert_eq!(hsts(json!({})).as_deref(), Some("max-age=31536000; includeSubDomains"));
    let data =
        json!({"hsts-max-age": "60", "hsts-include-subdomains": "false", "hsts-preload": "true"});
    assert_eq!(hsts(data).as_deref(), Some("max-age=60; preload"));
    assert_eq!(hsts(json!({"hsts": "false"})), None);
}

#[test]
fn what_protects_and_cannot_be_honoured_closes_every_ingress() {
    for (name, value) in [
        ("whitelist-source-range", "10.0.0.0/8,nonsense"),
        ("enable-modsecurity", "true"),
        ("block-user-agents", "curl"),
        ("server-snippet", "deny all;"),
        ("http-snippet", "limit_req_zone $x zone=y:1m rate=1r/s;"),
    ] {
        let compiled = world(&json!({name: value}), &json!({}));
        let answer = testing::answer(&compiled, "https://bare.com/");
        assert!(answer.starts_with("503"), "{name}: {answer}");
        assert_eq!(of_config(&compiled).len(), 1, "{name}");
    }
    for (name, value) in [
        ("enable-modsecurity", "false"),
        ("block-user-agents", ""),
        ("http-snippet", "map $a $b { default 1; }"),
        ("whitelist-source-range", "0.0.0.0/0,::/0"),
    ] {
        let compiled = world(&json!({name: value}), &json!({}));
        let answer = testing::answer(&compiled, "https://bare.com/");
        assert!(!answer.starts_with("503 P"), "{name}: {answer}");
    }
}

#[test]
fn a_config_that_is_not_there_closes_every_ingress_and_opens_them_when_it_comes() {
    let with = world(&json!({}), &json!({}));
    let mut objects = testing::from_values([]);
    objects.config_maps.clear();
    let without = compile(&objects, &options(), Some(&with));
    assert_eq!(of_config(&without), [("ConfigMapNotFound", String::new())]);
}

#[test]
fn keys_are_told_apart_and_unknown_ones_are_named() {
    let data = json!({
        "proxy-body-sise": "8m", "worker-processes": "4", "use-gzip": "true", "proxy-read-timeout": "soon",
        "ssl-session-cache": "true", "something": "else",
    });
    let compiled = world(&data, &json!({}));
    let mut got = of_config(&compiled);
    got.sort();
    let field = |name: &str| format!("data[{name}]");
    assert_eq!(
        got,
        [
            ("InvalidAnnotation", field("proxy-read-timeout")),
            ("SettingElsewhere", field("worker-processes")),
            ("SettingIgnored", field("use-gzip")),
            ("UnknownKey", field("proxy-body-sise")),
            ("UnknownKey", field("something")),
        ]
    );
    let meant = compiled.problems.iter().find(|problem| problem.field == field("proxy-body-sise"));
    assert!(meant.unwrap().hint.contains("proxy-body-size"));
}

#[test]
fn every_key_has_a_name_of_its_own_and_stands_for_an_annotation_that_is_there() {
    assert!(KEYS.is_sorted_by(|a, b| a.name < b.name));
    for key in KEYS {
        let (Means::Annotation(full) | Means::Always(full)) = key.means else { continue };
        assert!(super::super::is_known(full), "{} stands for {full}", key.name);
    }
}
