//! Saves while requests flow: one save is one generation, no request fails, and what cannot be read
//! changes nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::Write,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use gatehouse_testbed::{
    gatehouse::{
        backend::Backend,
        client::{KeepAlive, Step, Want, exchange, get, listen},
        gateway::{Gateway, Plan, replace},
        manifests::{ingress, prefix, route, secret, service},
        tls::{Pair, Tls, certificate, client_config},
    },
    wait::{self, Until, comes_true},
};

/// Requests that are made meanwhile, at least.
const REQUESTS: u64 = 1_000;

#[test]
fn two_hundred_saves_under_load_fail_no_request() {
    let [a, b] = ["a", "b"].map(Backend::echo);
    // Each version moves endpoints, weights and paths; `/` of both hosts is always there.
    let version = |n: usize| {
        let (first, second) = if n.is_multiple_of(2) { (a.addr, b.addr) } else { (b.addr, a.addr) };
        let spare = format!("/v{n}");
        [
            service("one", &[first]),
            service("two", &[first, second]),
            ingress("i", "", "", &[prefix("x.test", "/", "one"), prefix("x.test", &spare, "two")]),
            route("r", "y.test", &[("one", 1 + n as u32 % 50), ("two", 20)]),
        ]
        .concat()
    };
    let gateway = Plan::default().manifest("all.yaml", version(0)).threads(2).start();
    let done = AtomicBool::new(false);
    let served = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let until = Until::dropped(&done);
        let clients: Vec<_> = (0..8)
            .map(|n| {
                let host = if n % 2 == 0 { "x.test" } else { "y.test" };
                let (done, served, http) = (&done, &served, gateway.http);
                scope.spawn(move || load(http, host, done, served))
            })
            .collect();
        for n in 1..=200 {
            gateway.save("all.yaml", &version(n));
            std::thread::sleep(Duration::from_millis(25));
        }
        let live = comes_true(|| {
            get(gateway.http, "x.test", "/v200").status() == 200
                && gateway.page("/snapshot").contains("/v200")
        });
        let ended = || clients.iter().any(|client| client.is_finished());
        comes_true(|| served.load(Ordering::Relaxed) > REQUESTS || ended());
        drop(until);
        let failures: Vec<String> =
            clients.into_iter().filter_map(|c| c.join().unwrap().err()).collect();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        assert!(live, "the last save is not live: {}", gateway.output());
    });
    let served = served.load(Ordering::Relaxed);
    assert!(served > REQUESTS, "only {served} requests were made");
    let seen = a.requests().len() + b.requests().len();
    assert!(seen as u64 >= served, "{served} answers from {seen} requests at the backends");
}

fn load(
    http: std::net::SocketAddr,
    host: &str,
    done: &AtomicBool,
    served: &AtomicU64,
) -> Result<(), String> {
    let mut client = KeepAlive::to(http);
    while !done.load(Ordering::Relaxed) {
        let count = served.load(Ordering::Relaxed);
        let response = client.get(host, "/").map_err(|e| format!("{host} after {count}: {e}"))?;
        let text = response.text();
        if response.status != 200 || !text.ends_with(" GET /\n") {
            return Err(format!("{host} after {count}: {} {text}", response.status));
        }
        served.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Pools, Services and routes of generation `n`, none of whose names the next one has.
fn generation(n: usize, backend: &Backend) -> String {
    let pool = format!(
        "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\n\
         metadata: {{name: pool, namespace: metallb-system}}\n\
         spec: {{addresses: [\"192.0.2.{n}/32\"]}}\n---\n\
         apiVersion: metallb.io/v1beta1\nkind: L2Advertisement\n\
         metadata: {{name: l2, namespace: metallb-system}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: balanced-{n}, namespace: default}}\n\
         spec: {{type: LoadBalancer, ports: [{{name: http, port: 80}}]}}\n---\n"
    );
    let rules = [prefix(&format!("gen-{n}.test"), "/", &format!("app-{n}"))]
        .map(|r| ingress("i", "", "", &[r]))
        .concat();
    pool + &service(&format!("app-{n}"), &[backend.addr]) + &rules
}

#[test]
fn one_save_of_pools_services_and_routes_is_one_generation() {
    let app = Backend::echo("app");
    let gateway = Plan::default().manifest("all.yaml", generation(1, &app)).start();
    let seen = gateway.page("/snapshot");
    assert!(seen.contains("192.0.2.1") && seen.contains("gen-1.test"), "{seen}");
    for n in 1..20usize {
        gateway.save("all.yaml", &generation(n + 1, &app));
        let deadline = Instant::now() + wait::LIMIT;
        loop {
            let page = gateway.page("/snapshot");
            let has = |n: usize| {
                let quoted = |text: String| page.contains(&text);
                [
                    quoted(format!("192.0.2.{n}\"")) || quoted(format!("192.0.2.{n}/")),
                    quoted(format!("gen-{n}.test\"")),
                    quoted(format!("app-{n}\"")),
                ]
            };
            let (old, new) = (has(n), has(n + 1));
            assert!(
                (old == [true; 3] && new == [false; 3]) || (old == [false; 3] && new == [true; 3]),
                "generations {n} and {} are mixed (address, route, backend): {old:?} {new:?}\n{page}",
                n + 1
            );
            ask_both(gateway.http, n);
            if new == [true; 3] {
                break;
            }
            assert!(Instant::now() < deadline, "the save is not live: {}", gateway.output());
        }
    }
}

/// On one connection, old host then new and new then old: there is never neither, never both.
fn ask_both(http: std::net::SocketAddr, n: usize) {
    let request = |n: usize| format!("GET / HTTP/1.1\r\nHost: gen-{n}.test\r\n\r\n");
    for (first, second, impossible) in [(n, n + 1, [404, 404]), (n + 1, n, [200, 200])] {
        let steps = [Step::Send((request(first) + &request(second)).into_bytes())];
        let seen = exchange(http, &steps, Want::responses(2));
        let statuses = [seen.responses[0].status, seen.responses[1].status];
        assert!(statuses.iter().all(|s| [200, 404].contains(s)), "{statuses:?}");
        assert_ne!(statuses, impossible, "gen-{first}.test then gen-{second}.test");
    }
}

#[test]
fn a_start_serves_what_can_be_read_and_says_what_cannot() {
    let app = Backend::echo("app");
    let good = service("app", &[app.addr]) + &ingress("i", "", "", &[prefix("x.test", "/", "app")]);
    let bad = ingress("z", "", "", &[prefix("z.test", "/", "app")])
        .replace("number: 80", "number: eighty");
    assert!(bad.contains("eighty"), "{bad}");
    let plan = || {
        Plan::default()
            .manifest("good.yaml", good.clone())
            // Another team's file, and one in which a good document follows.
            .manifest("bad.yaml", bad.clone())
            .manifest(
                "both.yaml",
                format!("a: [\n---\n{}", ingress("b", "", "", &[prefix("b.test", "/", "app")])),
            )
    };
    let gateway = plan().start();
    for (host, expected) in [("x.test", 200), ("b.test", 200), ("z.test", 503)] {
        assert_eq!(get(gateway.http, host, "/").status(), expected, "{host}");
    }
    let ready = gateway.page("/readyz");
    for place in ["bad.yaml:", "both.yaml:1: "] {
        assert!(ready.contains(place), "{ready}");
    }
    // A save beside them is live, and a mended file is.
    gateway.save("new.yaml", &ingress("new", "", "", &[prefix("n.test", "/", "app")]));
    assert!(comes_true(|| get(gateway.http, "n.test", "/").status() == 200), "another file");
    gateway.save("bad.yaml", &ingress("z", "", "", &[prefix("z.test", "/", "app")]));
    assert!(comes_true(|| get(gateway.http, "z.test", "/").status() == 200), "mended");
    assert!(!gateway.page("/readyz").contains("bad.yaml"), "{}", gateway.page("/readyz"));
    drop(gateway);

    let mut refused = plan().args(&["--strict"]).spawn();
    assert!(refused.wait().is_some_and(|status| !status.success()), "{}", refused.output());
    assert!(refused.output().contains("bad.yaml:"), "{}", refused.output());
}

#[test]
fn a_file_that_breaks_keeps_its_last_good_objects_and_says_where() {
    let app = Backend::echo("app");
    let good = service("app", &[app.addr]) + &ingress("i", "", "", &[prefix("x.test", "/", "app")]);
    let gateway = Plan::default()
        .manifest("good.yaml", good)
        .manifest("other.yaml", ingress("o", "", "", &[prefix("o.test", "/", "app")]))
        .start();
    assert_eq!(get(gateway.http, "o.test", "/").status(), 200);
    gateway.save(
        "other.yaml",
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: [o\n",
    );
    let says = || {
        let page = gateway.page("/snapshot");
        page.contains("other.yaml:") && page.contains("ManifestUnreadable")
    };
    assert!(comes_true(says), "{}\n{}", gateway.page("/snapshot"), gateway.output());
    for host in ["x.test", "o.test"] {
        assert_eq!(get(gateway.http, host, "/").status(), 200, "{host}");
    }
    // The rest of the world moves on, and a repaired file is taken.
    gateway.save("new.yaml", &ingress("new", "", "", &[prefix("n.test", "/", "app")]));
    assert!(comes_true(|| get(gateway.http, "n.test", "/").status() == 200), "another file");
    gateway.save("other.yaml", &ingress("o", "", "", &[prefix("fixed.test", "/", "app")]));
    assert!(comes_true(|| get(gateway.http, "fixed.test", "/").status() == 200), "repaired");
    assert_eq!(get(gateway.http, "o.test", "/").status(), 404, "the old object is gone");
    assert!(!gateway.page("/snapshot").contains("ManifestUnreadable"), "and so is the problem");
}

#[test]
fn what_a_broken_file_said_before_is_served_by_a_successor_too() {
    let app = Backend::echo("app");
    let (state, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let shared = folder.path().join("shared.yaml");
    std::fs::write(&shared, ingress("o", "", "", &[prefix("o.test", "/", "app")])).unwrap();
    let plan = || {
        let own = service("app", &[app.addr]);
        let args = ["--manifests", shared.to_str().unwrap()];
        Plan::default().state_dir(state.path()).manifest("app.yaml", own).args(&args)
    };
    let mut gateway = plan().start();
    std::fs::write(&shared, "kind: Ingress\nmetadata: {name: [o\n").unwrap();
    assert!(comes_true(|| gateway.page("/snapshot").contains("ManifestUnreadable")));
    let successor = plan().start();
    let status = |gateway: &Gateway| get(gateway.http, "o.test", "/").status();
    assert_eq!((status(&gateway), status(&successor)), (200, 200), "{}", successor.output());
    gateway.terminate();
    assert!(gateway.wait().is_some_and(|status| status.success()), "{}", gateway.output());
    assert!(successor.page("/readyz").contains("shared.yaml:"), "it says so, too");
    drop(successor);
    let restarted = plan().start();
    assert_eq!(status(&restarted), 200, "{}", restarted.output());
}

#[test]
fn files_come_and_go() {
    let app = Backend::echo("app");
    let gateway = Plan::default().manifest("app.yaml", service("app", &[app.addr])).start();
    let status = |host: &str| get(gateway.http, host, "/").status();
    assert_eq!(status("x.test"), 404);
    gateway.save("x.yaml", &ingress("ex", "", "", &[prefix("x.test", "/", "app")]));
    assert!(comes_true(|| status("x.test") == 200), "a new file");
    let folder = gateway.manifests().join("deep");
    std::fs::create_dir(&folder).unwrap();
    replace(&folder, "y.yml", &ingress("why", "", "", &[prefix("y.test", "/", "app")]));
    assert!(comes_true(|| status("y.test") == 200), "a new folder");
    std::fs::remove_file(gateway.manifests().join("x.yaml")).unwrap();
    assert!(comes_true(|| status("x.test") == 404), "a removed file");
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(comes_true(|| status("y.test") == 404), "a removed folder");
}

#[test]
fn a_renewed_certificate_is_shown_to_the_next_and_disturbs_nobody() {
    let app = Backend::echo("app");
    let routes = service("app", &[app.addr])
        + &ingress("i", "", "{hosts: [x.test], secretName: pair}", &[prefix("x.test", "/", "app")]);
    let (old, new) = (certificate(&["x.test"]), certificate(&["x.test"]));
    let gateway = Plan::default()
        .manifest("routes.yaml", routes)
        .manifest("secret.yaml", secret("pair", &old))
        .start();
    let connect = || Tls::connect(gateway.https, "x.test", &["http/1.1"]).unwrap();
    let ask = |tls: &mut Tls| {
        tls.write_all(b"GET / HTTP/1.1\r\nHost: x.test\r\n\r\n").unwrap();
        listen(tls, Want::responses(1), false).status()
    };
    let mut early = connect();
    assert!(early.peer() == old.der && ask(&mut early) == 200);
    gateway.save("secret.yaml", &secret("pair", &new));
    assert!(comes_true(|| connect().peer() == new.der), "the new certificate");
    assert_eq!(ask(&mut early), 200, "a connection from before");
    // A pair that does not fit together keeps the good one and says so.
    let broken = Pair { key: old.key, ..certificate(&["x.test"]) };
    gateway.save("secret.yaml", &secret("pair", &broken));
    let says = || gateway.page("/snapshot").contains("CertificateInvalid");
    assert!(comes_true(says), "{}", gateway.page("/snapshot"));
    assert!(connect().peer() == new.der, "the last good certificate");
}

/// P27: one ticket key for as long as the process runs, for all data threads.
#[test]
fn a_tls_session_is_resumed_on_every_thread_and_after_a_reload() {
    let app = Backend::echo("app");
    let routes = |paths: &[&str]| {
        let paths: Vec<_> = paths.iter().map(|path| prefix("x.test", path, "app")).collect();
        service("app", &[app.addr])
            + &ingress("i", "", "{hosts: [x.test], secretName: pair}", &paths)
    };
    let gateway = Plan::default()
        .manifest("routes.yaml", routes(&["/"]))
        .manifest("secret.yaml", secret("pair", &certificate(&["x.test"])))
        .threads(2)
        .start();
    let config = client_config(&["http/1.1"]);
    let ask = |path: &str| {
        let mut tls =
            Tls::connect_with(std::sync::Arc::clone(&config), gateway.https, "x.test").unwrap();
        tls.write_all(format!("GET {path} HTTP/1.1\r\nHost: x.test\r\n\r\n").as_bytes()).unwrap();
        // The answer is read to its end: tickets come before it.
        let status = listen(&mut tls, Want::responses(1), false).status();
        (status, tls.resumed())
    };
    assert_eq!(ask("/"), (200, false), "a first visit");
    // The kernel spreads these over both data threads.
    (0..16).for_each(|n| assert_eq!(ask("/"), (200, true), "visit {n}"));
    gateway.save("routes.yaml", &routes(&["/", "/new"]));
    assert!(comes_true(|| gateway.page("/snapshot").contains("/new")), "the reload");
    assert_eq!(ask("/new"), (200, true), "after the reload");
}
