//! The process as those who operate it meet it: signals, logs, and what is wrong with the process itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    net::TcpListener,
    os::unix::process::ExitStatusExt as _,
    process::{Command, Stdio},
    time::Duration,
};

use gatehouse_testbed::{
    gatehouse::{
        backend::Backend,
        client::get,
        gateway::{Gateway, Plan, free_address, signal},
        manifests::{ingress, prefix, service},
    },
    guard,
    wait::comes_true,
};
use serde_json::Value;

fn plan(app: &Backend) -> Plan {
    let text =
        service("app", &[app.addr]) + &ingress("site", "", "", &[prefix("x.test", "/", "app")]);
    Plan::default().manifest("a.yaml", text)
}

fn says(gateway: &Gateway, words: &str) -> bool {
    comes_true(|| gateway.output().contains(words))
}

/// Reasons of the problems that `/status` shows of the node.
fn reasons(gateway: &Gateway) -> Vec<String> {
    if std::net::TcpStream::connect(gateway.admin).is_err() {
        return Vec::new();
    }
    let status: Value = serde_json::from_str(&gateway.page("/status")).unwrap_or_default();
    let problems = status["problems"].as_array().cloned().unwrap_or_default();
    let of_node =
        problems.iter().filter(|it| it["object"].as_str().unwrap_or("").starts_with("Node "));
    of_node.map(|it| it["reason"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn signals_that_ask_for_no_end_do_not_end_the_process() {
    let app = Backend::echo("app");
    let gateway = plan(&app).start();
    for (name, words) in [
        ("HUP", "reloading"),
        ("USR1", "SIGUSR1"),
        ("USR2", "ignored"),
        ("PIPE", ""),
        ("HUP", "reloading"),
    ] {
        signal(gateway.pid(), name);
        assert!(says(&gateway, words), "{name}: {}", gateway.output());
        assert_eq!(get(gateway.http, "x.test", "/").status(), 200, "after {name}");
    }
}

#[test]
fn a_reload_reads_what_no_watch_could_notice() {
    let (one, two) = (Backend::echo("one"), Backend::echo("two"));
    let gateway = plan(&one).start();
    let file = gateway.manifests().join("a.yaml");
    let before = std::fs::metadata(&file).unwrap().modified().unwrap();
    // The same size and time, and written through a mapping as it were: the stamp tells nothing.
    let text = std::fs::read_to_string(&file).unwrap();
    let port = |app: &Backend| app.addr.port().to_string();
    assert_eq!(port(&one).len(), port(&two).len(), "the size stays");
    std::fs::write(&file, text.replace(&port(&one), &port(&two))).unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(before).unwrap();
    signal(gateway.pid(), "HUP");
    let moved = comes_true(|| get(gateway.http, "x.test", "/").responses[0].text().contains("two"));
    assert!(moved, "{}", gateway.output());
}

#[test]
fn every_signal_that_asks_for_the_end_drains_first() {
    for name in ["TERM", "INT", "QUIT"] {
        let app = Backend::echo("app");
        let mut gateway = plan(&app).start();
        signal(gateway.pid(), name);
        let status = gateway.wait().expect("it ends");
        assert_eq!((status.code(), status.signal()), (Some(0), None), "{name}");
        assert!(gateway.output().contains(&format!("SIG{name}")), "{}", gateway.output());
    }
}

#[test]
fn a_log_that_nobody_reads_any_more_harms_nothing() {
    let app = Backend::echo("app");
    let plan = plan(&app).args(&["--log", "debug"]);
    let (mut command, _folder) = plan.command();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    let (http, _) = plan.addresses();
    let serves =
        || std::net::TcpStream::connect(http).is_ok() && get(http, "x.test", "/").status() == 200;
    assert!(comes_true(serves));
    for name in ["USR2", "HUP", "PIPE"] {
        signal(child.id(), name);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(get(http, "x.test", "/").status(), 200, "after {name}");
    }
    signal(child.id(), "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_listener_that_cannot_open_is_a_problem_until_it_can() {
    let blocker = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = blocker.local_addr().unwrap().port();
    let text = format!(
        "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\n\
         metadata: {{name: pool, namespace: metallb-system}}\nspec: {{addresses: [198.51.100.7/32]}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: gateway, namespace: default}}\n\
         spec: {{type: LoadBalancer, ports: [{{name: http, port: {port}}}]}}\n"
    );
    let gateway = Plan::default()
        .args(&["--gateway-service", "default/gateway"])
        .manifest("a.yaml", text)
        .spawn();
    let raised = comes_true(|| reasons(&gateway).iter().any(|it| it == "ListenerClosed"));
    assert!(raised, "{}\n{}", gateway.page("/status"), gateway.output());
    let ready = gateway.page("/readyz");
    assert!(ready.contains(&format!("198.51.100.7:{port}")), "{ready}");
    assert!(ready.contains("[ListenerClosed]") && ready.contains("another process"), "{ready}");
    let metrics = gateway.page("/metrics");
    assert!(metrics.contains("gatehouse_node_problem{reason=\"ListenerClosed\"} 1"), "{metrics}");
    drop(blocker);
    signal(gateway.pid(), "HUP");
    let cleared = comes_true(|| reasons(&gateway).iter().all(|it| it != "ListenerClosed"));
    assert!(cleared, "{}\n{}", gateway.page("/status"), gateway.output());
    let lines = gateway.output();
    let lines = lines.lines().filter(|line| line.contains("ListenerClosed")).count();
    assert_eq!(lines, 1, "said once, not at every attempt: {}", gateway.output());
}

#[test]
fn a_start_that_lacks_the_right_to_a_port_names_the_capability() {
    let drop = ["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"];
    let mut gateway = Plan::default().via(&drop).args(&["--http", "127.0.0.1:81"]).spawn();
    let status = gateway.wait().expect("it ends");
    assert_eq!(status.code(), Some(1), "{}", gateway.output());
    let output = gateway.output();
    assert!(output.contains("127.0.0.1:81") && output.contains("CAP_NET_BIND_SERVICE"), "{output}");
}

#[test]
fn a_state_folder_that_cannot_be_written_is_a_problem_of_a_node_that_serves() {
    let place = tempfile::tempdir().unwrap();
    let state = place.path().join("state");
    std::fs::write(&state, "in the way").unwrap();
    let app = Backend::echo("app");
    let gateway = plan(&app).state_dir(&state).start();
    assert!(comes_true(|| reasons(&gateway).iter().any(|it| it == "StateNotWritable")));
    let ready = gateway.page("/readyz");
    assert!(ready.starts_with("ready\n") && ready.contains("[StateNotWritable]"), "{ready}");
    assert!(
        gateway.page("/metrics").contains("gatehouse_node_problem{reason=\"StateNotWritable\"} 1")
    );
    std::fs::remove_file(&state).unwrap();
    signal(gateway.pid(), "HUP");
    assert!(comes_true(|| !reasons(&gateway).iter().any(|it| it == "StateNotWritable")));
}

#[test]
fn a_process_that_crashes_leaves_no_core_dump_unless_it_may() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().to_str().unwrap();
    let limited = ["prlimit", "--core=65536:65536", "env", "-C", folder];
    let crashes = |args: &[&str]| {
        let mut gateway = Plan::default().via(&limited).args(args).start();
        signal(gateway.pid(), "ABRT");
        gateway.wait().expect("it ends").core_dumped()
    };
    // Where a core dump goes is the host's to say; here a shell's does as well.
    let mut shell = guard::command(limited[0]);
    let shell = shell.args(&limited[1..]).args(["sh", "-c", "kill -ABRT $$"]).status().unwrap();
    assert!(!crashes(&[]));
    assert_eq!(crashes(&["--core-dumps"]), shell.core_dumped());
}

#[test]
fn a_log_filter_that_makes_no_sense_is_a_problem_and_the_default_applies() {
    let app = Backend::echo("app");
    for (variable, value) in [("RUST_LOG", "debgu"), ("GATEHOUSE_LOG", "gatehouse=loud")] {
        let gateway = plan(&app).via(&[&format!("{variable}={value}")]).start();
        assert!(
            comes_true(|| reasons(&gateway) == ["LogFilterInvalid"]),
            "{}",
            gateway.page("/status")
        );
        let ready = gateway.page("/readyz");
        assert!(ready.contains(variable) && ready.contains(value), "{ready}");
        assert!(says(&gateway, "published"), "{}", gateway.output());
    }
}

#[test]
fn the_operational_log_can_be_json_and_says_no_level_twice() {
    let app = Backend::echo("app");
    let broken = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: lost, namespace: default}\n\
         spec: {rules: [{host: y.test, http: {paths: [{path: /, \
         pathType: Prefix, backend: {service: {name: nowhere, port: {number: 80}}}}]}}]}\n";
    let json = plan(&app).manifest("b.yaml", broken).args(&["--log-format", "json"]).start();
    assert!(says(&json, "nowhere"), "{}", json.output());
    let output = json.output();
    for line in output.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
        let message = line["message"].as_str().unwrap();
        assert!(!message.starts_with("warning") && !message.starts_with("error"), "{line}");
    }
    let listening = output.lines().find(|line| line.contains("\"listening\"")).unwrap();
    let listening: Value = serde_json::from_str(listening).unwrap();
    assert_eq!(listening["protocol"], "http", "{listening}");
    let text = plan(&app).manifest("b.yaml", broken).start();
    assert!(says(&text, "nowhere"), "{}", text.output());
    let output = text.output();
    let line = output.lines().find(|line| line.contains("nowhere")).unwrap();
    assert!(!line.contains("warning:") && !line.contains("error:"), "{line}");
}

#[test]
fn a_folder_and_a_port_are_all_that_a_run_needs() {
    let app = Backend::echo("app");
    let admin = free_address();
    let port = free_address().port();
    let folder = tempfile::tempdir().unwrap();
    let text =
        service("app", &[app.addr]) + &ingress("site", "", "", &[prefix("x.test", "/", "app")]);
    std::fs::write(folder.path().join("a.yaml"), text).unwrap();
    let mut child = Command::new(gatehouse_testbed::process::built("gatehouse"))
        .arg("run")
        .arg(folder.path())
        .args(["--http", &format!(":{port}"), "--admin", &admin.to_string(), "--no-access-log"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let address = |ip: &str| format!("{ip}:{port}").parse().unwrap();
    let serves = comes_true(|| {
        std::net::TcpStream::connect(admin).is_ok()
            && get(admin, "localhost", "/readyz").status() == 200
            && get(address("127.0.0.1"), "x.test", "/").status() == 200
    });
    let serves_v6 = !std::path::Path::new("/proc/net/if_inet6").exists()
        || get(address("[::1]"), "x.test", "/").status() == 200;
    drop(child.kill());
    drop(child.wait());
    assert!(serves && serves_v6);
}
