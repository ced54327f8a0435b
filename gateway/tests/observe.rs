//! What an operator sees: the access log, the metrics and the admin pages.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use gatehouse_testbed::{
    gatehouse::{
        backend::Backend,
        client::{get, send},
        gateway::{Gateway, Plan},
        manifests::{ingress, prefix, service},
    },
    wait::comes_true,
};
use serde_json::Value;

fn start(app: &Backend) -> Gateway {
    let text =
        service("app", &[app.addr]) + &ingress("site", "", "", &[prefix("x.test", "/", "app")]);
    Plan::default().manifest("a.yaml", text).access_log().start()
}

fn lines(gateway: &Gateway) -> Vec<Value> {
    let output = gateway.output();
    output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn each_request_is_one_line_of_json_whatever_it_holds() {
    let app = Backend::echo("app");
    let gateway = start(&app);
    assert_eq!(get(gateway.http, "x.test", "/a?b=%22c%22").status(), 200);
    assert_eq!(get(gateway.http, "unknown.test", "/").status(), 404);
    // A quote in the path, and bytes that are no UTF-8 in a field that is logged.
    let odd = b"GET /odd\"}{ HTTP/1.1\r\nHost: x.test\r\nX-Request-ID: a\"b\\\xff\r\n\r\n";
    let odd = send(gateway.http, odd).status();
    let tidy = b"GET /tidy HTTP/1.1\r\nHost: x.test\r\nX-Request-ID: id-42\r\n\r\n";
    assert_eq!(send(gateway.http, tidy).status(), 200);
    let logged = |status: u16| lines(&gateway).iter().any(|l| l["status"] == status);
    let all = || lines(&gateway).iter().any(|l| l["path"] == "/tidy");
    assert!(comes_true(all), "{}", gateway.output());
    assert!(logged(200) && logged(404) && logged(odd), "{}", gateway.output());
    let lines = lines(&gateway);
    let first = lines.iter().find(|l| l["host"] == "x.test").unwrap();
    assert_eq!(first["method"], "GET", "{first}");
    assert_eq!(first["client"], "127.0.0.1", "{first}");
    assert_eq!(first["endpoint"], app.addr.to_string(), "{first}");
    let tidy = lines.iter().find(|l| l["path"] == "/tidy").unwrap();
    assert_eq!(tidy["request_id"], "id-42", "{tidy}");
}

#[test]
fn metrics_count_what_was_served() {
    let app = Backend::echo("app");
    let gateway = start(&app);
    for _ in 0..5 {
        get(gateway.http, "x.test", "/");
    }
    get(gateway.http, "unknown.test", "/");
    let value = |needle: &str| -> Option<f64> {
        let page = gateway.page("/metrics");
        let line = page
            .lines()
            .find(|l| !l.starts_with('#') && needle.split('&').all(|n| l.contains(n)))?;
        line.rsplit(' ').next()?.parse().ok()
    };
    let counted = || value("gatehouse_requests_total{&x.test&2xx") == Some(5.0);
    assert!(comes_true(counted), "{}", gateway.page("/metrics"));
    assert!(value("gatehouse_requests_total{&4xx").is_some_and(|n| n >= 1.0));
    assert!(value("gatehouse_snapshot_generation").is_some_and(|n| n >= 1.0));
    assert!(value("gatehouse_upstream_connections_total{&reused").is_some_and(|n| n >= 3.0));
    assert!(value("process_resident_memory_bytes").is_some_and(|n| n > 1e6));
}

#[test]
fn hosts_that_strangers_make_up_do_not_grow_the_metrics() {
    let app = Backend::echo("app");
    let gateway = start(&app);
    let before = gateway.page("/metrics").lines().count();
    for n in 0..200 {
        get(gateway.http, &format!("made-up-{n}.test"), "/");
    }
    let after = gateway.page("/metrics").lines().count();
    assert!(after < before + 20, "{before} lines became {after}");
}

#[test]
fn admin_pages_say_what_is_live() {
    let app = Backend::echo("app");
    let gateway = start(&app);
    assert_eq!(get(gateway.admin, "localhost", "/healthz").status(), 200);
    assert_eq!(get(gateway.admin, "localhost", "/readyz").status(), 200);
    assert_eq!(get(gateway.admin, "localhost", "/nowhere").status(), 404);
    let snapshot: Value = serde_json::from_str(&gateway.page("/snapshot")).unwrap();
    assert!(snapshot["generation"].as_u64().is_some_and(|n| n >= 1), "{snapshot}");
    let text = snapshot.to_string();
    for wanted in ["x.test", &app.addr.to_string(), &gateway.http.to_string()] {
        assert!(text.contains(wanted), "{wanted} is not in {text}");
    }
}
