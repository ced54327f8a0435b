//! Endpoints whose answers are failures: ejected where an object asks for it, tried by one request, back after one
//! that is answered well; and second tries that a budget bounds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend, Gate, echo_answer},
        client::get,
        gateway::{Gateway, Plan},
        manifests::{ingress, prefix, service},
    },
    wait::comes_true,
};

const FAILURE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

/// A backend that fails while it is told to.
fn moody(name: &str) -> (Backend, Arc<AtomicBool>) {
    let ill = Arc::new(AtomicBool::new(false));
    let (own, told) = (name.to_owned(), Arc::clone(&ill));
    let answer = move |request: &_| {
        vec![Act::Send(match told.load(Relaxed) {
            true => FAILURE.to_vec(),
            false => echo_answer(&own, request),
        })]
    };
    (Backend::scripted(name, answer), ill)
}

fn start(annotations: &str, backends: &[&Backend], args: &[&str]) -> Gateway {
    let all: Vec<_> = backends.iter().map(|backend| backend.addr).collect();
    Plan::default()
        .manifest("app.yaml", service("app", &all))
        .manifest("site.yaml", ingress("x", annotations, "", &[prefix("x.test", "/", "app")]))
        .threads(2)
        .args(args)
        .start()
}

/// So many requests; how many of them failed.
fn failed(gateway: &Gateway, requests: usize) -> usize {
    (0..requests).filter(|_| get(gateway.http, "x.test", "/").status() == 503).count()
}

fn why_ejected(gateway: &Gateway) -> Vec<(String, String)> {
    let status: serde_json::Value = serde_json::from_str(&gateway.page("/status")).unwrap();
    let rows = status["ejected"].as_array().unwrap().iter();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    rows.map(|row| (text(&row["endpoint"]), text(&row["why"]))).collect()
}

#[test]
fn failures_in_a_row_eject_an_endpoint_until_one_request_is_answered_well() {
    let (a, b, (c, ill)) = (Backend::echo("a"), Backend::echo("b"), moody("c"));
    let own = "gatehouse.io/eject-errors: \"3\", gatehouse.io/eject-time: 1s";
    let gateway = start(own, &[&a, &b, &c], &[]);
    assert_eq!(failed(&gateway, 30), 0);
    let before = c.requests().len();
    assert!(before > 0);

    ill.store(true, Relaxed);
    // Three failures over all threads, then a probe every now and then.
    let many = failed(&gateway, 120);
    assert!((3..=5).contains(&many), "{many} of 120: {}", gateway.output());
    assert_eq!(why_ejected(&gateway), [(c.addr.to_string(), "answers".to_owned())]);
    assert!(gateway.metric("gatehouse_endpoint_ejections_total").unwrap_or_default() >= 1.0);

    ill.store(false, Relaxed);
    c.requests();
    let back = || failed(&gateway, 3) == 0 && !c.requests().is_empty();
    assert!(comes_true(back), "no request comes to it: {}", gateway.output());
    assert!(comes_true(|| failed(&gateway, 3) == 0 && why_ejected(&gateway).is_empty()));
}

#[test]
fn part_of_the_endpoints_stays_when_all_of_them_fail_and_without_the_annotation_all_do() {
    for (own, most) in [("gatehouse.io/eject-errors: \"2\"", 1), ("", 0)] {
        let all = ["a", "b", "c"].map(moody);
        let gateway = start(own, &[&all[0].0, &all[1].0, &all[2].0], &[]);
        all.iter().for_each(|(_, ill)| ill.store(true, Relaxed));
        assert_eq!(failed(&gateway, 60), 60);
        assert_eq!(why_ejected(&gateway).len(), most, "{}", gateway.output());
    }
}

#[test]
fn an_endpoint_below_the_rate_of_success_is_ejected() {
    let (a, b) = (Backend::echo("a"), Backend::echo("b"));
    let turn = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    // Every second answer: never two in a row.
    let c = Backend::scripted("c", move |request| {
        vec![Act::Send(match turn.fetch_add(1, Relaxed) % 2 {
            0 => FAILURE.to_vec(),
            _ => echo_answer("c", request),
        })]
    });
    let own = "gatehouse.io/eject-success-rate: \"90\", gatehouse.io/eject-interval: 500ms, \
               gatehouse.io/eject-requests: \"5\", gatehouse.io/eject-errors: \"2\"";
    let gateway = start(own, &[&a, &b, &c], &[]);
    let ejected = || {
        failed(&gateway, 30);
        why_ejected(&gateway) == [(c.addr.to_string(), "answers".to_owned())]
    };
    assert!(comes_true(ejected), "{}", gateway.output());
    assert_eq!(failed(&gateway, 30), 0);
}

/// Clients that all wait at once for a backend whose endpoints then fail every one of them, as they did before.
#[test]
fn second_tries_are_bounded_where_a_whole_backend_fails() {
    const CLIENTS: usize = 40;
    const EARLIER: &str = "/earlier";
    for (own, least, most) in [
        ("proxy-next-upstream: http_503", 1, 8 * 2),
        (
            "proxy-next-upstream: http_503, gatehouse.io/retry-budget: \"100\"",
            2 * CLIENTS,
            2 * CLIENTS,
        ),
        (
            "proxy-next-upstream: http_503, gatehouse.io/retry-budget: \"0\", \
             gatehouse.io/retry-budget-minimum: \"0\"",
            0,
            0,
        ),
    ] {
        let gate = Gate::default();
        let failing = |name: &str| {
            let held = gate.clone();
            Backend::scripted(name, move |request| match &*request.target {
                EARLIER => vec![Act::Send(FAILURE.to_vec())],
                _ => vec![Act::Until(held.clone()), Act::Send(FAILURE.to_vec())],
            })
        };
        let all = ["a", "b", "c"].map(failing);
        let own = own.replace("proxy-", "nginx.ingress.kubernetes.io/proxy-");
        let gateway = start(&own, &[&all[0], &all[1], &all[2]], &[]);
        let http = gateway.http;
        // Each data thread finds that second tries are of no use.
        let asks = || thread::spawn(move || get(http, "x.test", EARLIER).status());
        let earlier: Vec<_> = (0..CLIENTS).map(|_| asks()).collect();
        assert!(earlier.into_iter().all(|client| client.join().unwrap() == 503));
        all.iter().for_each(|backend| drop(backend.arrived()));
        let asks = || thread::spawn(move || get(http, "x.test", "/").status());
        let clients: Vec<_> = (0..CLIENTS).map(|_| asks()).collect();
        let arrived = || all.iter().map(|backend| backend.arrived().len()).sum::<usize>();
        let mut first = 0;
        let all_wait = || {
            first += arrived();
            first == CLIENTS
        };
        assert!(comes_true(all_wait), "{first} arrived");
        gate.open();
        assert!(clients.into_iter().all(|client| client.join().unwrap() == 503));
        let again = arrived();
        assert!((least..=most).contains(&again), "{own}: {again} second tries");
        let refused = gateway.metric("gatehouse_retries_refused_total").unwrap_or_default();
        assert_eq!(refused > 0.0, again < 2 * CLIENTS, "{refused} refused");
    }
}
