//! `gatehouse status` and the flags of a group, as an operator meets them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    net::SocketAddr,
    process::{Command, Output},
};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend, Gate, echo_answer},
        client::get,
        gateway::{Gateway, Plan, free_address},
        manifests::{ingress, prefix, service},
        show,
    },
    guard,
    wait::comes_true,
};
use serde_json::Value;

/// A pool, an advertisement and a gateway Service on an address that no interface here has room for.
const VIP: &str = "\
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool, namespace: metallb-system}
spec: {addresses: [\"203.0.113.8/30\"]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: l2, namespace: metallb-system}
---
apiVersion: v1
kind: Service
metadata: {name: gateway, namespace: default}
spec: {type: LoadBalancer, ports: [{name: http, port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata:
  name: gatehouse
  annotations: {ingressclass.kubernetes.io/is-default-class: \"true\"}
spec:
  controller: gatehouse.io/ingress
  parameters: {kind: Service, scope: Namespace, namespace: default, name: gateway}
";

fn status(admin: SocketAddr, more: &[&str]) -> Output {
    let admin = admin.to_string();
    Command::new(env!("CARGO_BIN_EXE_gatehouse"))
        .args(["status", "--admin", &admin])
        .args(more)
        .output()
        .unwrap()
}

fn start(app: &Backend, more: &[&str]) -> Gateway {
    let text =
        service("app", &[app.addr]) + &ingress("site", "", "", &[prefix("x.test", "/", "app")]);
    Plan::default().manifest("app.yaml", text).manifest("vip.yaml", VIP).args(more).start()
}

#[test]
fn a_running_node_tells_what_it_does_for_people_and_for_programs() {
    let app = Backend::echo("app");
    let gateway = start(&app, &[]);
    let status = |more: &[&str]| {
        let output = status(gateway.admin, more);
        assert!(output.status.success(), "{}", show(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let listens = format!("{}  http      open", gateway.http);
    let text = status(&[]);
    assert!(text.starts_with("NODE test-node (gatehouse "), "{text}");
    for wanted in ["203.0.113.8", "default/gateway", &listens] {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }
    let json: Value = serde_json::from_str(&status(&["-o", "json"])).unwrap();
    assert_eq!(json["node"], "test-node");
    assert!(json["generation"].as_u64().is_some_and(|n| n >= 1), "{json}");
    assert_eq!(json["waiting"], serde_json::json!([]), "{json}");
    assert_eq!(json["vips"][0]["services"], serde_json::json!(["default/gateway"]), "{json}");
    let says = || status(&[]).contains("[NoInterface]");
    assert!(comes_true(says), "{}", status(&[]));
}

#[test]
fn who_asks_where_no_node_is_learns_what_to_look_for() {
    let nowhere = free_address();
    let output = status(nowhere, &[]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains(&format!("{nowhere}: nothing listens there")), "{error}");
    let app = Backend::echo("app");
    let error = String::from_utf8(status(app.addr, &[]).stderr).unwrap();
    assert!(error.contains(&format!("{} answers 400", app.addr)), "{error}");
}

#[test]
fn a_group_that_cannot_be_formed_ends_the_start() {
    let run = |args: &[&str]| {
        let mut gateway = Plan::default().args(args).spawn();
        let status = gateway.wait();
        let status = status.unwrap_or_else(|| panic!("still running: {}", gateway.output()));
        (status.code(), gateway.output())
    };
    let folder = guard::folder("gatehouse-key-").unwrap();
    let key = folder.path().join("key");
    let key = key.to_str().unwrap();
    let (code, text) = run(&["--group-key", key]);
    assert!(code == Some(1) && text.contains("cannot read --group-key"), "{code:?} {text}");
    std::fs::write(key, "too short\n").unwrap();
    let (code, text) = run(&["--group-key", key]);
    assert!(code == Some(1) && text.contains("at least 16"), "{code:?} {text}");
    assert!(text.contains(key), "{text}");
    let (code, text) = run(&["--peer", "192.0.2.1"]);
    assert!(code == Some(64) && text.contains("--group-key"), "{code:?} {text}");
    let (code, text) = run(&["--group-key", key, "--peer", "node-2"]);
    assert!(code == Some(64) && text.contains("\"node-2\" is not the address"), "{code:?} {text}");
}

#[test]
fn a_key_that_everybody_may_read_is_told_and_never_shown() {
    let folder = guard::folder("gatehouse-key-").unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "a-secret-of-the-group\n").unwrap();
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&key, readable).unwrap();
    let app = Backend::echo("app");
    let gateway = start(&app, &["--group-key", key.to_str().unwrap()]);
    let pages = ["/status", "/snapshot", "/metrics"].map(|path| gateway.page(path));
    assert!(pages[0].contains("GroupKeyExposed"), "{}", pages[0]);
    assert!(pages[0].contains("Node test-node"), "{}", pages[0]);
    for text in pages.into_iter().chain([gateway.output()]) {
        assert!(!text.contains("a-secret-of-the-group"), "{text}");
    }
}

#[test]
fn a_node_that_stops_says_so_until_it_has_ended() {
    let gate = Gate::default();
    let until = gate.clone();
    let app = Backend::scripted("app", move |request| {
        vec![Act::Until(until.clone()), Act::Send(echo_answer("app", request))]
    });
    let mut gateway = start(&app, &["--drain-timeout=600"]);
    let http = gateway.http;
    let slow = std::thread::spawn(move || get(http, "x.test", "/slow"));
    let begun = || app.arrived().iter().any(|request| request.target == "/slow");
    assert!(comes_true(begun), "it is under way");
    gateway.terminate();
    let stopping = || get(gateway.admin, "localhost", "/readyz").status() == 503;
    assert!(comes_true(stopping));
    gate.open();
    assert_eq!(slow.join().unwrap().responses[0].text(), "app GET /slow\n");
    let status = gateway.wait().expect("the gateway ends");
    assert_eq!(status.code(), Some(0), "{}", gateway.output());
}
