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
        ("block-user-agents", "~("),
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
        "proxy-body-sise": "8m", "worker-processes": "4", "ssl-session-ticket-key": "x", "proxy-read-timeout": "soon",
        "ssl-session-cache": "true", "something": "else", "use-proxy-protocol": "false",
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
            ("SettingIgnored", field("ssl-session-ticket-key")),
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

#[test]
fn fields_of_messages_come_from_config_maps_and_what_cannot_be_set_is_told() {
    let config = |data: &serde_json::Value, fields: &serde_json::Value| {
        let objects = testing::from_values([
            json!({"kind": "IngressClass", "metadata": {"name": "g"}, "spec": {"controller": "gatehouse.io/ingress"}}),
            json!({"kind": "Ingress", "metadata": {"name": "a", "namespace": "d"},
                "spec": {"ingressClassName": "g", "rules": [{"host": "bare.com", "http": {"paths": [
                    {"path": "/", "pathType": "Prefix",
                     "backend": {"service": {"name": "app", "port": {"number": 80}}}}]}}]}}),
            json!({"kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n"}, "data": data}),
            json!({"kind": "ConfigMap", "metadata": {"name": "fields", "namespace": "n"}, "data": fields}),
        ]);
        compile(&objects, &options(), None)
    };
    let compiled = config(
        &json!({"add-headers": "n/fields", "proxy-set-headers": "n/fields", "hsts": "false"}),
        &json!({"X-One": "1", "X-Gone": "", "X-Variable": "$remote_addr", "Content-Length": "3"}),
    );
    let edits = |wanted: fn(&Filter) -> bool| {
        let filters = filters(&compiled, "bare.com");
        let edits =
            filters.iter().filter(|filter| wanted(filter)).flat_map(|filter| match filter {
                Filter::EditRequest(edits) | Filter::EditResponse(edits) => edits.to_vec(),
                _ => Vec::new(),
            });
        edits.map(|edit| (edit.name.to_string(), edit.value.is_some())).collect::<Vec<_>>()
    };
    let (one, gone) = (("x-one".to_owned(), true), ("x-gone".to_owned(), false));
    assert_eq!(
        edits(|filter| matches!(filter, Filter::EditRequest(_))),
        [gone.clone(), one.clone()]
    );
    let variable = ("x-variable".to_owned(), true);
    assert_eq!(edits(|filter| matches!(filter, Filter::EditResponse(_))), [gone, one, variable]);
    let told = of_config(&compiled);
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told.iter().all(|(reason, _)| *reason == "SettingIgnored"));
    assert!(compiled.wanted_config_maps.contains(&ObjectKey::new("n", "fields")));
    // A ConfigMap that is away costs its fields, and is asked for.
    let compiled = config(&json!({"add-headers": "n/away"}), &json!({}));
    assert!(compiled.wanted_config_maps.contains(&ObjectKey::new("n", "away")));
    assert_eq!(of_config(&compiled).len(), 1);
}

#[test]
fn blocked_clients_stay_out_and_a_broken_expression_closes() {
    let block = |compiled: &Compiled| {
        filters(compiled, "bare.com").into_iter().find_map(|filter| match filter {
            Filter::Block(block) => Some(block),
            _ => None,
        })
    };
    let data = json!({"block-user-agents": "BadBot, ~*scan", "block-referers": "~spam"});
    let compiled = world(&data, &json!({}));
    let found = block(&compiled).expect("a filter");
    assert_eq!((found.user_agents.len(), found.referers.len()), (2, 1));
    assert_eq!(of_config(&compiled), []);
    let compiled = world(&json!({"block-user-agents": "~("}), &json!({}));
    assert!(block(&compiled).is_none());
    assert_eq!(testing::answer(&compiled, "https://bare.com/"), "503 ProtectionNotSupported");
}

#[test]
fn compression_is_what_its_keys_say_together() {
    let compress = |data: serde_json::Value| {
        let compiled = world(&data, &json!({}));
        assert_eq!(of_config(&compiled), [], "{data}");
        filters(&compiled, "bare.com").into_iter().find_map(|filter| match filter {
            Filter::Compress(compress) => Some(compress),
            _ => None,
        })
    };
    assert_eq!(compress(json!({"use-gzip": "false", "gzip-level": "9"})), None);
    let gzip = compress(json!({
        "use-gzip": "true", "gzip-types": "application/json text/css", "gzip-min-length": "10", "gzip-level": "9"
    }));
    let gzip = gzip.expect("a filter");
    assert_eq!(gzip.codings.len(), 1);
    assert!(gzip.takes("text/html") && gzip.takes("text/css") && !gzip.takes("text/plain"));
    assert_eq!((gzip.minimum, gzip.levels.gzip, gzip.levels.brotli), (10, 9, 4));
    let both = compress(
        json!({"use-gzip": "true", "enable-brotli": "true", "brotli-types": "*", "brotli-level": "6"}),
    );
    let both = both.expect("a filter");
    assert_eq!((both.codings.len(), both.levels.brotli), (2, 6));
    assert!(both.takes("image/x-anything"));
}

#[test]
fn the_status_of_redirects_is_the_configs_to_say_and_values_that_hold_anyway_are_no_problem() {
    let compiled = world(&json!({"http-redirect-code": "301"}), &json!({}));
    assert_eq!(testing::answer(&compiled, "http://bare.com/"), "redirect 301");
    let compiled = world(&json!({"http-redirect-code": "200"}), &json!({}));
    assert_eq!(testing::answer(&compiled, "http://bare.com/"), "redirect 308");
    assert_eq!(of_config(&compiled), [("InvalidSetting", "data[http-redirect-code]".to_owned())]);
    for (value, told) in [("429", 0), ("503", 0), ("200", 1)] {
        let compiled = world(&json!({"limit-req-status-code": value}), &json!({}));
        assert_eq!(of_config(&compiled).len(), told, "{value}");
    }
}
