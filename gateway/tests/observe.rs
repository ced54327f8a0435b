//! What an operator sees: the access log, the metrics and the admin pages.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read as _, Write as _},
    time::Duration,
};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend},
        client::{Want, dial, get, listen, send},
        gateway::{Gateway, Plan, signal},
        manifests::{ingress, prefix, secret, service},
        tls::{Tls, certificate},
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
    let tidy = b"GET /tidy?a=b HTTP/1.1\r\nHost: x.test\r\nX-Request-ID: id-42\r\n\
        User-Agent: curl/8\r\nReferer: http://there.test/\r\n\r\n";
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
    for (key, value) in [
        ("request_id", "id-42"),
        ("query", "a=b"),
        ("user_agent", "curl/8"),
        ("referer", "http://there.test/"),
        ("local", &*gateway.http.to_string()),
    ] {
        assert_eq!(tidy[key], value, "{tidy}");
    }
    assert_eq!(tidy["upstream_status"], 200, "{tidy}");
    let of_unknown = lines.iter().find(|l| l["host"] == "unknown.test").unwrap();
    assert_eq!(of_unknown["request_id"].as_str().map(str::len), Some(32), "{of_unknown}");
    assert!(of_unknown.get("upstream_status").is_none(), "{of_unknown}");
}

#[test]
fn a_client_that_is_not_let_in_is_an_error_in_the_log_and_hears_how_its_request_is_called() {
    let app = Backend::echo("app");
    let users = "kind: Secret\napiVersion: v1\nmetadata: {name: users, namespace: default}\n\
                 stringData: {auth: 'ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g='}\n---\n";
    let basic = "nginx.ingress.kubernetes.io/auth-type: basic, nginx.ingress.kubernetes.io/auth-secret: users";
    let text = users.to_owned()
        + &service("app", &[app.addr])
        + &ingress("site", basic, "", &[prefix("x.test", "/", "app")]);
    let gateway = Plan::default().manifest("a.yaml", text).access_log().start();
    let answer = get(gateway.http, "x.test", "/");
    assert_eq!(answer.status(), 401);
    assert!(comes_true(|| !lines(&gateway).is_empty()), "{}", gateway.output());
    let line = lines(&gateway).remove(0);
    assert_eq!(line["error"], "unauthorized", "{line}");
    let id = line["request_id"].as_str().unwrap();
    let text = answer.responses[0].text();
    assert!(text.contains(&format!("request id: {id}")), "{text}");
    let counted = "gatehouse_errors_total{reason=\"unauthorized\"} 1";
    assert!(
        comes_true(|| gateway.page("/metrics").contains(counted)),
        "{}",
        gateway.page("/metrics")
    );
}

#[test]
fn a_request_is_called_the_same_by_the_service_that_refuses_it_and_by_the_log() {
    let auth = Backend::scripted("auth", |_| {
        vec![Act::Send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".into())]
    });
    let app = Backend::echo("app");
    let url = format!("nginx.ingress.kubernetes.io/auth-url: \"http://{}/\"", auth.addr);
    let text =
        service("app", &[app.addr]) + &ingress("site", &url, "", &[prefix("x.test", "/", "app")]);
    let gateway = Plan::default().manifest("a.yaml", text).access_log().start();
    let answer = get(gateway.http, "x.test", "/");
    assert_eq!(answer.status(), 401);
    let told = auth.requests()[0].one("x-request-id").unwrap();
    let text = answer.responses[0].text();
    assert!(text.contains(&told), "{told}: {text}");
    assert!(comes_true(|| !lines(&gateway).is_empty()), "{}", gateway.output());
    assert_eq!(lines(&gateway)[0]["request_id"], told);
}

#[test]
fn the_version_and_the_name_of_tls_are_logged() {
    let app = Backend::echo("app");
    let gateway = start(&app);
    let mut tls = Tls::connect(gateway.https, "x.test", &["http/1.1"]).unwrap();
    tls.write_all(b"GET /secure HTTP/1.1\r\nHost: x.test\r\n\r\n").unwrap();
    assert_eq!(listen(&mut tls, Want::responses(1), false).status(), 200);
    assert!(comes_true(|| lines(&gateway).iter().any(|line| line["path"] == "/secure")));
    let line = lines(&gateway).remove(0);
    assert_eq!(line["tls_version"], "1.3", "{line}");
    assert_eq!(line["tls_name"], "x.test", "{line}");
    assert_eq!(line["local"], gateway.https.to_string(), "{line}");
}

#[test]
fn a_websocket_is_one_line_when_it_is_over() {
    let app = Backend::scripted("app", |_| {
        let accept = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        vec![Act::Send(accept.into()), Act::Echo]
    });
    let gateway = start(&app);
    let mut client = dial(gateway.http);
    let hello = "GET /chat HTTP/1.1\r\nHost: x.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.write_all(hello.as_bytes()).unwrap();
    assert_eq!(listen(&mut client, Want::responses(1), false).status(), 101);
    client.write_all(b"\x81\x05hello").unwrap();
    let mut echoed = [0; 7];
    client.read_exact(&mut echoed).unwrap();
    let counted = || gateway.page("/metrics").contains("code=\"1xx\"");
    assert!(comes_true(counted), "counted when it was answered: {}", gateway.page("/metrics"));
    assert!(lines(&gateway).is_empty(), "{}", gateway.output());
    std::thread::sleep(Duration::from_millis(300));
    drop(client);
    assert!(comes_true(|| !lines(&gateway).is_empty()), "{}", gateway.output());
    let line = lines(&gateway).remove(0);
    assert_eq!((&line["status"], &line["path"]), (&101.into(), &"/chat".into()), "{line}");
    assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&7.into(), &7.into()), "{line}");
    assert!(line["duration_us"].as_u64().is_some_and(|micros| micros >= 300_000), "{line}");
}

#[test]
fn the_format_the_place_and_the_choice_are_the_operators() {
    let app = Backend::echo("app");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let text =
        service("app", &[app.addr]) + &ingress("site", "", "", &[prefix("x.test", "/", "app")]);
    let args = ["--access-log", file.to_str().unwrap(), "--access-log-statuses", "4xx"];
    let pattern = ["--access-log-format", "$status $namespace $request_uri"];
    let gateway = Plan::default()
        .manifest("a.yaml", text)
        .access_log()
        .args(&[args.as_slice(), &pattern].concat())
        .start();
    let read = || std::fs::read_to_string(&file).unwrap_or_default();
    for path in ["/a?b", "/c"] {
        get(gateway.http, "x.test", path);
        get(gateway.http, "unknown.test", path);
    }
    assert!(comes_true(|| read().lines().count() == 2), "{}", read());
    assert_eq!(read(), "404 - /a?b\n404 - /c\n");
    std::fs::rename(&file, folder.path().join("access.log.1")).unwrap();
    signal(gateway.pid(), "USR1");
    assert!(comes_true(|| file.exists()), "{}", gateway.output());
    get(gateway.http, "unknown.test", "/d");
    assert!(comes_true(|| read() == "404 - /d\n"), "{}", read());
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

/// The value of the series that has all of these words.
fn number(gateway: &Gateway, words: &[&str]) -> Option<f64> {
    let page = gateway.page("/metrics");
    let has_all =
        |line: &&str| !line.starts_with('#') && words.iter().all(|word| line.contains(word));
    page.lines().find(has_all)?.rsplit(' ').next()?.parse().ok()
}

#[test]
fn answers_are_counted_by_object_and_service_also_of_one_that_comes_back() {
    let app = Backend::echo("app");
    let rules = ingress("site", "", "", &[prefix("x.test", "/", "app")]);
    let gateway = Plan::default()
        .manifest("a.yaml", service("app", &[app.addr]))
        .manifest("b.yaml", rules.clone())
        .start();
    let names = "host=\"x.test\",namespace=\"default\",object=\"Ingress/site\",service=\"app\"";
    let requests = ["gatehouse_requests_total{", names, "code=\"2xx\""];
    for _ in 0..4 {
        assert_eq!(get(gateway.http, "x.test", "/").status(), 200);
    }
    let counted = || number(&gateway, &requests) == Some(4.0);
    assert!(comes_true(counted), "{}", gateway.page("/metrics"));
    std::fs::remove_file(gateway.manifests().join("b.yaml")).unwrap();
    assert!(comes_true(|| get(gateway.http, "x.test", "/").status() == 404));
    gateway.save("b.yaml", &rules);
    assert!(comes_true(|| get(gateway.http, "x.test", "/").status() == 200));
    let counted = || number(&gateway, &requests).is_some_and(|count| count >= 5.0);
    assert!(comes_true(counted), "{}", gateway.page("/metrics"));
    let histogram = ["gatehouse_host_request_duration_seconds_count{", "x.test"];
    assert!(number(&gateway, &histogram).is_some_and(|count| count >= 5.0));
    let bytes = ["gatehouse_response_bytes_total{", names];
    assert!(number(&gateway, &bytes).is_some_and(|bytes| bytes > 20.0));
}

#[test]
fn the_last_reload_and_failing_endpoints_are_in_the_metrics() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = service("app", &[dead]) + &ingress("site", "", "", &[prefix("x.test", "/", "app")]);
    let gateway = Plan::default().manifest("a.yaml", text).start();
    let name = "gatehouse_config_last_reload_timestamp_seconds ";
    let before = number(&gateway, &[name]).unwrap();
    assert!(before > 1.7e9, "{before}");
    let successful =
        |gateway: &Gateway| number(gateway, &["gatehouse_config_last_reload_successful "]);
    assert_eq!(successful(&gateway), Some(1.0));
    gateway.save("b.yaml", "kind: [");
    assert!(comes_true(|| successful(&gateway) == Some(0.0)), "{}", gateway.page("/metrics"));
    std::fs::remove_file(gateway.manifests().join("b.yaml")).unwrap();
    assert!(comes_true(|| successful(&gateway) == Some(1.0)), "{}", gateway.page("/metrics"));
    assert!(number(&gateway, &[name]).unwrap() > before);
    assert!(get(gateway.http, "x.test", "/").status() >= 500);
    let failed = || {
        let endpoint = format!("endpoint=\"{dead}\"");
        let series = ["gatehouse_endpoint_failures_total{service=\"default/app\"", &endpoint];
        number(&gateway, &series).is_some_and(|count| count >= 1.0)
    };
    assert!(comes_true(failed), "{}", gateway.page("/metrics"));
}

#[test]
fn the_end_of_a_certificate_is_in_the_metrics() {
    let app = Backend::echo("app");
    let pair = certificate(&["x.test"]);
    let text = service("app", &[app.addr])
        + &secret("pair", &pair)
        + &ingress(
            "site",
            "",
            "{hosts: [x.test], secretName: pair}",
            &[prefix("x.test", "/", "app")],
        );
    let gateway = Plan::default().manifest("a.yaml", text).start();
    let end = number(&gateway, &["gatehouse_certificate_expiry_timestamp_seconds{", "x.test"]);
    assert!(end.is_some_and(|end| end > 1.7e9), "{}", gateway.page("/metrics"));
}

#[test]
fn hosts_beyond_the_limit_are_counted_together() {
    let app = Backend::echo("app");
    let hosts = ["a.test", "b.test", "c.test"];
    let rules: Vec<_> = hosts.iter().map(|host| prefix(host, "/", "app")).collect();
    let text = service("app", &[app.addr]) + &ingress("site", "", "", &rules);
    let gateway = Plan::default().manifest("a.yaml", text).args(&["--metrics-hosts", "2"]).start();
    hosts.iter().for_each(|host| drop(get(gateway.http, host, "/")));
    let others =
        || number(&gateway, &["gatehouse_requests_total{host=\"(others)\"", "2xx"]).is_some();
    assert!(comes_true(others), "{}", gateway.page("/metrics"));
    assert!(!gateway.page("/metrics").contains("host=\"c.test\""), "{}", gateway.page("/metrics"));
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
