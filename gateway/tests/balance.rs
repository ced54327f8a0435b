//! Which endpoint gets a request, through the process on real sockets: the table `routes/tests/cases/balance.yaml`,
//! and sessions over changes of the configuration.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend, Gate, echo_answer},
        client::{Response, get, send},
        gateway::{Gateway, Plan},
        manifests::{ingress, prefix, route, service},
    },
    wait::comes_true,
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// Names without a prefix are ingress-nginx's.
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    /// Of the rule.
    #[serde(default)]
    path: Option<String>,
    /// A Route with this `tls` instead of an Ingress.
    #[serde(default)]
    route: Option<BTreeMap<String, String>>,
    steps: Vec<Step>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Step {
    client: Option<String>,
    /// `*` in what is asked stands for the number of the request.
    from: Option<String>,
    path: Option<String>,
    headers: BTreeMap<String, String>,
    /// Cookies in front of the client's own.
    before: Option<String>,
    times: Option<usize>,
    shares: Option<BTreeMap<String, usize>>,
    one: bool,
    all: bool,
    endpoints: Option<usize>,
    like: Option<String>,
    cookie: Option<String>,
    quiet: bool,
    private: bool,
    /// Cookies that the backend gets.
    sees: Option<String>,
}

/// What a client remembers.
#[derive(Default)]
struct Memory {
    cookie: Option<String>,
    by: String,
}

impl Step {
    fn bytes(&self, host: &str, number: usize, cookie: Option<&str>) -> Vec<u8> {
        let fill = |text: &str| text.replace('*', &number.to_string());
        let path = fill(self.path.as_deref().unwrap_or("/"));
        let mut head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
        if let Some(from) = &self.from {
            let _ = write!(head, "X-Forwarded-For: {}\r\n", fill(from));
        }
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {}\r\n", fill(value));
        }
        let cookies: Vec<_> = self.before.as_deref().into_iter().chain(cookie).collect();
        if !cookies.is_empty() {
            let _ = write!(head, "Cookie: {}\r\n", cookies.join("; "));
        }
        (head + "\r\n").into_bytes()
    }

    /// What is wrong with where the requests went.
    fn judge(&self, by: &[String], clients: &BTreeMap<String, Memory>) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut shares = BTreeMap::new();
        by.iter().for_each(|name| *shares.entry(name.clone()).or_insert(0) += 1);
        let mut expect = |right: bool, what: &str| {
            if !right {
                wrong.push(format!("{shares:?} instead of {what}"));
            }
        };
        if let Some(wanted) = &self.shares {
            expect(*wanted == shares, &format!("{wanted:?}"));
        }
        expect(!self.one || shares.len() == 1, "one endpoint");
        expect(!self.all || shares.len() == 3, "all endpoints");
        expect(self.endpoints.is_none_or(|count| count == shares.len()), "that many endpoints");
        if let Some(like) = &self.like {
            let of = &clients[like].by;
            expect(by.iter().all(|name| name == of), &format!("{of} alone"));
        }
        wrong
    }
}

/// The cookie that an answer sets, its value, and the field with `*` for the value.
fn set_cookie(response: &Response) -> Option<(String, String)> {
    let field = response.one("set-cookie")?;
    let (pair, rest) = field.split_once(';').unwrap_or((&field, ""));
    let (name, _) = pair.split_once('=')?;
    Some((pair.to_owned(), format!("{name}=*;{rest}")))
}

fn name_of(response: &Response) -> String {
    response.text().split_once(' ').unwrap_or_default().0.to_owned()
}

fn annotations(all: &BTreeMap<String, String>) -> String {
    let lines = all.iter().map(|(name, value)| {
        let prefix = if name.contains('/') { "" } else { "nginx.ingress.kubernetes.io/" };
        format!("{prefix}{name}: {}", serde_json::to_string(value).unwrap())
    });
    lines.collect::<Vec<_>>().join(", ")
}

fn manifest(at: usize, case: &Case) -> String {
    let (host, own) = (format!("case-{at}.test"), annotations(&case.annotations));
    match &case.route {
        None => {
            let path = case.path.as_deref().unwrap_or("/");
            ingress(&format!("case-{at}"), &own, "", &[prefix(&host, path, "app")])
        }
        Some(tls) => {
            let tls = if tls.is_empty() {
                String::new()
            } else {
                format!("  tls: {}\n", serde_json::to_string(tls).unwrap())
            };
            let plain = route(&format!("case-{at}"), &host, &[("app", 1)]);
            plain
                .replace(
                    "namespace: default}",
                    &format!("namespace: default, annotations: {{{own}}}}}"),
                )
                .replace("---\n", "")
                + &tls
                + "---\n"
        }
    }
}

/// Asks as a step says; what is wrong with the answers.
fn run(
    gateway: &Gateway,
    backends: &[Backend],
    host: &str,
    step: &Step,
    clients: &mut BTreeMap<String, Memory>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut by = Vec::new();
    for number in 0..step.times.unwrap_or(1) {
        let known = step.client.as_ref().and_then(|name| clients.get(name)?.cookie.clone());
        let seen = send(gateway.http, &step.bytes(host, number, known.as_deref()));
        let Some(response) = seen.responses.first().filter(|response| response.status == 200)
        else {
            return vec![format!("{seen:?}")];
        };
        let set = set_cookie(response);
        if number == 0
            && let Some(wanted) = &step.cookie
        {
            // printf ' default:case' | md5sum: only that it is one is looked at.
            let found = set.as_ref().map(|(_, shown)| shown.clone()).unwrap_or_default();
            let (name, rest) = found.split_once('=').unwrap_or_default();
            let hashed = name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
            let shown = if hashed { format!("{{md5}}={rest}") } else { found };
            if shown != *wanted {
                wrong.push(format!("sets {shown:?} instead of {wanted:?}"));
            }
            if step.private && response.one("cache-control").as_deref() != Some("private") {
                wrong.push("shared caches may keep it".to_owned());
            }
        }
        if step.quiet && set.is_some() {
            wrong.push(format!("request {number} sets {set:?}"));
        }
        by.push(name_of(response));
        if let Some(client) = &step.client {
            let memory = clients.entry(client.clone()).or_default();
            memory.by = name_of(response);
            memory.cookie = set.map(|(pair, _)| pair).or(known);
        }
    }
    if let Some(wanted) = &step.sees {
        let own = backends
            .iter()
            .zip(["a", "b", "c"])
            .find(|(_, name)| by.last().is_some_and(|by| by == name));
        let got = own.map(|(backend, _)| backend.requests()).unwrap_or_default();
        let saw = got.last().and_then(|request| request.one("cookie"));
        if saw.as_ref() != Some(wanted) {
            wrong.push(format!("the backend sees {saw:?} instead of {wanted:?}"));
        }
    }
    // `like` compares with what was before this step, unless it names the same client.
    wrong.extend(step.judge(&by, clients));
    wrong
}

#[test]
fn the_table() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../routes/tests/cases/balance.yaml");
    let cases: Vec<Case> = serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let backends = ["a", "b", "c"].map(Backend::echo);
    let all = backends.each_ref().map(|backend| backend.addr);
    let manifests = cases.iter().enumerate().map(|(at, case)| manifest(at, case));
    let gateway = Plan::default()
        .manifest("app.yaml", service("app", &all))
        .manifest("cases.yaml", manifests.collect::<String>())
        .args(&["--trusted-proxy", "127.0.0.0/8"])
        .threads(1)
        .start();
    let mut failures = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        let mut clients = BTreeMap::new();
        for (number, step) in case.steps.iter().enumerate() {
            let before: Option<String> =
                step.like.as_ref().map(|like: &String| clients_by(&clients, like));
            let wrong = run(&gateway, &backends, &format!("case-{at}.test"), step, &mut clients);
            if let (Some(before), Some(like)) = (before, &step.like)
                && step.client.as_ref() == Some(like)
                && clients_by(&clients, like) != before
            {
                failures.push(format!("{}: step {}: moved", case.name, number + 1));
            }
            failures.extend(
                wrong.iter().map(|wrong| format!("{}: step {}: {wrong}", case.name, number + 1)),
            );
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

fn clients_by(clients: &BTreeMap<String, Memory>, name: &str) -> String {
    clients.get(name).map(|memory| memory.by.clone()).unwrap_or_default()
}

/// A client with a cookie, and the endpoint that it has.
struct Client {
    pair: String,
    by: String,
}

fn ask(gateway: &Gateway, host: &str, cookie: Option<&str>) -> (String, Option<String>) {
    let cookie = cookie.map(|pair| format!("Cookie: {pair}\r\n")).unwrap_or_default();
    let seen =
        send(gateway.http, format!("GET / HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\n").as_bytes());
    let response = seen.responses.first().unwrap_or_else(|| panic!("no answer: {seen:?}"));
    assert_eq!(response.status, 200, "{seen:?}");
    (name_of(response), set_cookie(response).map(|(pair, _)| pair))
}

/// So many new clients.
fn clients(gateway: &Gateway, host: &str, count: usize) -> Vec<Client> {
    let new = || {
        let (by, pair) = ask(gateway, host, None);
        Client { pair: pair.expect("a cookie for a new client"), by }
    };
    (0..count).map(|_| new()).collect()
}

/// Replaces a manifest and waits until it is served.
fn save(gateway: &Gateway, name: &str, text: &str) {
    let generation = || {
        let page = gateway.page("/metrics");
        let value =
            page.lines().find_map(|line| line.strip_prefix("gatehouse_snapshot_generation "));
        value.unwrap().parse::<f64>().unwrap()
    };
    let before = generation();
    gateway.save(name, text);
    assert!(comes_true(|| generation() > before), "{name} is not taken: {}", gateway.output());
}

fn ejections(gateway: &Gateway, addr: SocketAddr) -> f64 {
    let name = format!("gatehouse_ejections_total{{service=\"default/app\",endpoint=\"{addr}\"}}");
    gateway.metric(&name).unwrap_or_default()
}

#[test]
fn an_endpoint_has_so_many_requests_at_a_time_others_wait_and_the_rest_is_told_so() {
    let gate = Gate::default();
    let held = gate.clone();
    let busy = Backend::scripted("busy", move |request| {
        vec![Act::Until(held.clone()), Act::Send(echo_answer("busy", request))]
    });
    let own = "gatehouse.io/max-connections: \"2\", gatehouse.io/max-pending: \"1\"";
    let gateway = Plan::default()
        .manifest("app.yaml", service("app", &[busy.addr]))
        .manifest("site.yaml", ingress("x", own, "", &[prefix("x.test", "/", "app")]))
        .threads(2)
        .start();
    let http = gateway.http;
    let asks = || thread::spawn(move || get(http, "x.test", "/").status());
    let first = [asks(), asks()];
    assert!(comes_true(|| busy.connections() == 2));
    // One of the next two waits, the other one is told at once.
    let mut next = vec![asks(), asks()];
    assert!(comes_true(|| next.iter().any(thread::JoinHandle::is_finished)));
    let refused = next.remove(usize::from(next[1].is_finished()));
    assert_eq!(refused.join().unwrap(), 503);
    assert_eq!(gateway.metric("gatehouse_errors_total{reason=\"queue_full\"}"), Some(1.0));
    assert_eq!(busy.connections(), 2, "no third one is sent");
    gate.open();
    let all: Vec<_> = first.into_iter().chain(next).map(|it| it.join().unwrap()).collect();
    assert_eq!(all, [200; 3]);
}

#[test]
fn an_endpoint_whose_checks_fail_gets_no_requests_until_they_succeed() {
    let ill = Arc::new(AtomicBool::new(true));
    let (shown, echo) = (Arc::clone(&ill), Backend::echo("a"));
    let sick = Backend::scripted("b", move |request| {
        let checked =
            request.target == "/healthz" && request.one("host").as_deref() == Some("check.test");
        match checked && shown.load(Relaxed) {
            true => vec![Act::Send(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_vec())],
            false => vec![Act::Send(echo_answer("b", request))],
        }
    });
    let own = [
        "path: /healthz",
        "host: check.test",
        "interval: 50ms",
        "healthy: \"2\"",
        "unhealthy: \"2\"",
    ]
    .map(|part| format!("gatehouse.io/health-check-{part}"));
    let gateway = Plan::default()
        .manifest("app.yaml", service("app", &[echo.addr, sick.addr]))
        .manifest("site.yaml", ingress("x", &own.join(", "), "", &[prefix("x.test", "/", "app")]))
        .start();
    assert!(comes_true(|| ejections(&gateway, sick.addr) > 0.0), "{}", gateway.output());
    let by: BTreeSet<_> = (0..30).map(|_| ask(&gateway, "x.test", None).0).collect();
    assert_eq!(by, ["a".to_owned()].into());
    let status: serde_json::Value = serde_json::from_str(&gateway.page("/status")).unwrap();
    let endpoint = sick.addr.to_string();
    let row =
        serde_json::json!([{"service": "default/app", "endpoint": endpoint, "why": "checks"}]);
    assert_eq!(status["ejected"], row);
    ill.store(false, Relaxed);
    assert!(comes_true(|| ask(&gateway, "x.test", None).0 == "b"), "{}", gateway.output());
    assert_eq!(ejections(&gateway, sick.addr), 1.0);
    // Without checks it is requests that find out.
    ill.store(true, Relaxed);
    assert!(comes_true(|| ejections(&gateway, sick.addr) == 2.0));
    save(&gateway, "site.yaml", &ingress("x", "", "", &[prefix("x.test", "/", "app")]));
    assert!(comes_true(|| ask(&gateway, "x.test", None).0 == "b"), "{}", gateway.output());
}

/// The Service with endpoints that are going away.
fn draining(ready: &[SocketAddr], leaving: &[SocketAddr]) -> String {
    let leaves = |text: String| {
        text.replace("{ready: true}", "{ready: false, serving: true, terminating: true}")
            .replace("name: app-", "name: leaving-")
    };
    let slices = leaves(service("app", leaving));
    let (_, slices) = slices.split_once("---\n").unwrap();
    service("app", ready) + slices
}

#[test]
fn a_session_outlives_changes_and_ends_with_its_endpoint() {
    let backends = ["a", "b", "c", "d"].map(Backend::echo);
    let [a, b, c, d] = backends.each_ref().map(|backend| backend.addr);
    let sites = |mode: &str, host: &str| {
        let own = format!(
            "nginx.ingress.kubernetes.io/affinity: cookie, nginx.ingress.kubernetes.io/affinity-mode: {mode}"
        );
        ingress(host, &own, "", &[prefix(host, "/", "app")])
    };
    let state = tempfile::tempdir().unwrap();
    let plan = |endpoints: &str| {
        Plan::default()
            .manifest("app.yaml", endpoints)
            .manifest("sites.yaml", sites("persistent", "p.test") + &sites("balanced", "b.test"))
            .state_dir(state.path())
            .threads(2)
    };
    let gateway = plan(&service("app", &[a, b, c])).start();
    let [stays, balanced] = ["p.test", "b.test"].map(|host| clients(&gateway, host, 60));
    for one in [&stays, &balanced] {
        let names: BTreeSet<_> = one.iter().map(|client| &*client.by).collect();
        assert_eq!(names.len(), 3, "{names:?}");
    }

    // A new endpoint: nobody leaves who is to stay, and a part of the others moves, to it alone.
    save(&gateway, "app.yaml", &service("app", &[a, b, c, d]));
    for client in &stays {
        assert_eq!(ask(&gateway, "p.test", Some(&client.pair)), (client.by.clone(), None));
    }
    let now: Vec<_> =
        balanced.iter().map(|client| ask(&gateway, "b.test", Some(&client.pair))).collect();
    let moved = |(client, (by, _)): &(&Client, &(String, Option<String>))| client.by != *by;
    let moved: Vec<_> = balanced.iter().zip(&now).filter(moved).collect();
    assert!(moved.iter().all(|(_, (by, cookie))| by == "d" && cookie.is_none()), "{now:?}");
    assert!((1..=35).contains(&moved.len()), "{} of 60 moved", moved.len());

    // An endpoint that drains keeps its clients and gets no new one.
    save(&gateway, "app.yaml", &draining(&[b, c, d], &[a]));
    for client in &stays {
        assert_eq!(ask(&gateway, "p.test", Some(&client.pair)), (client.by.clone(), None));
    }
    for (client, (by, _)) in balanced.iter().zip(&now) {
        assert_eq!(ask(&gateway, "b.test", Some(&client.pair)).0, *by);
    }
    assert!(clients(&gateway, "p.test", 30).iter().all(|client| client.by != "a"));
    assert!(clients(&gateway, "b.test", 30).iter().all(|client| client.by != "a"));

    // One that is gone does not, and its clients stay where they are sent then.
    save(&gateway, "app.yaml", &service("app", &[b, c, d]));
    for client in &stays {
        let (by, cookie) = ask(&gateway, "p.test", Some(&client.pair));
        assert_eq!(cookie.is_some(), client.by == "a");
        assert!(by == client.by || client.by == "a");
        if let Some(cookie) = cookie {
            assert_eq!(ask(&gateway, "p.test", Some(&cookie)), (by, None));
        }
    }

    // Cookies of one object mean nothing to another, nor do those of another mode.
    let strange = stays.iter().find(|client| client.by == "b").unwrap();
    let (_, cookie) = ask(&gateway, "b.test", Some(&strange.pair));
    assert!(cookie.is_some(), "the cookie of another Ingress was taken");

    // A restart with the same state folder knows its cookies.
    drop(gateway);
    let gateway = plan(&service("app", &[b, c, d])).start();
    for client in stays.iter().filter(|client| client.by != "a") {
        assert_eq!(ask(&gateway, "p.test", Some(&client.pair)), (client.by.clone(), None));
    }
}

#[test]
fn a_session_with_a_service_of_weight_nothing_goes_on_and_new_ones_go_elsewhere() {
    let [old, new] = ["old", "new"].map(Backend::echo);
    let weights = |old, new| route("r", "r.test", &[("old", old), ("new", new)]);
    let gateway = Plan::default()
        .manifest("app.yaml", service("old", &[old.addr]) + &service("new", &[new.addr]))
        .manifest("route.yaml", weights(100, 0))
        .start();
    let before = clients(&gateway, "r.test", 5);
    assert!(before.iter().all(|client| client.by == "old"));
    save(&gateway, "route.yaml", &weights(0, 100));
    for client in &before {
        assert_eq!(ask(&gateway, "r.test", Some(&client.pair)), ("old".to_owned(), None));
    }
    assert!(clients(&gateway, "r.test", 5).iter().all(|client| client.by == "new"));
    // All of weight nothing: new clients get 503, the others are served.
    save(&gateway, "route.yaml", &weights(0, 0));
    assert_eq!(ask(&gateway, "r.test", Some(&before[0].pair)).0, "old");
    let seen = send(gateway.http, b"GET / HTTP/1.1\r\nHost: r.test\r\n\r\n");
    assert_eq!(seen.status(), 503);
}

#[test]
fn a_client_whose_endpoint_refuses_is_moved_if_its_object_says_so() {
    let backends = ["a", "b", "c"].map(Backend::echo);
    let all = backends.each_ref().map(|backend| backend.addr);
    let own = |moves: &str, mode: &str, host: &str| {
        let prefixed = |name: &str| format!("nginx.ingress.kubernetes.io/{name}");
        let annotations = format!(
            "{}: cookie, {}: {mode}, {}: \"{moves}\"",
            prefixed("affinity"),
            prefixed("affinity-mode"),
            prefixed("session-cookie-change-on-failure")
        );
        ingress(host, &annotations, "", &[prefix(host, "/", "app")])
    };
    let hosts = [
        ("moves.test", "true", "persistent"),
        ("returns.test", "false", "persistent"),
        ("moves-b.test", "true", "balanced"),
        ("returns-b.test", "false", "balanced"),
    ];
    let sites = hosts.map(|(host, moves, mode)| own(moves, mode, host)).concat();
    let gateway = Plan::default()
        .manifest("app.yaml", service("app", &all))
        .manifest("sites.yaml", sites)
        .start();
    let of_a = |host: &str| {
        let all = clients(&gateway, host, 60);
        all.into_iter().find(|client| client.by == "a").expect("one of 60 has it")
    };
    let before: Vec<_> = hosts.iter().map(|(host, ..)| of_a(host)).collect();
    let [a, _b, _c] = backends;
    drop(a);
    for ((host, moves, _), client) in hosts.iter().zip(&before) {
        let (by, cookie) = ask(&gateway, host, Some(&client.pair));
        assert_ne!(by, "a");
        assert_eq!(cookie.is_some(), *moves == "true", "{host}");
        if let Some(cookie) = cookie {
            assert_eq!(ask(&gateway, host, Some(&cookie)), (by, None), "{host}");
        }
    }
}
