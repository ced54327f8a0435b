//! Three gateways of a group keep one limit together: what a client that asks all of them gets, by counts.
//!
//! Real processes in network namespaces ([`gatehouse_testbed::group`]); needs root, iproute2 and nftables. How exactly
//! larger groups keep limits, and over time, is simulated (`gateway/src/shares/simulation.rs`).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{net::SocketAddr, thread, time::Duration};

use gatehouse_testbed::{
    client::{self, Target},
    group::{NODES, Options, Site},
    wait,
};

const GATEHOUSE: &str = env!("CARGO_BIN_EXE_gatehouse");
/// Plain listener of every node, so that clients can choose one.
const PORT: u16 = 8080;
/// Ten looks at what the others say.
const HEARD: Duration = Duration::from_secs(1);

/// 60 at once, and another one each minute: what is due again while a slow test runs does not matter.
const LIMITED: &str = r#"---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: limited
  namespace: default
  annotations:
    nginx.ingress.kubernetes.io/global-rate-limit: "60"
    nginx.ingress.kubernetes.io/global-rate-limit-window: 1h
    nginx.ingress.kubernetes.io/global-rate-limit-key: $http_x_api_key
spec:
  ingressClassName: gatehouse
  rules:
    - host: limited.test
      http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: app, port: {number: 80}}}}]}
"#;

/// How many of so many requests with this key a node lets through; the others get 429.
fn ask(site: &Site, node: usize, key: &str, requests: usize) -> usize {
    let target = Target {
        address: SocketAddr::new(site.nodes[node].host.v4().into(), PORT),
        host: "limited.test".to_owned(),
        path: "/".to_owned(),
        tls: None,
    };
    let statuses = site.client.enter(|| {
        let one = |_| {
            let answer = client::get_with(&target, &[("X-Api-Key", key)], wait::LIMIT).unwrap();
            answer.status
        };
        (0..requests).map(one).collect::<Vec<_>>()
    });
    let statuses = statuses.unwrap();
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    statuses.iter().filter(|status| **status == 200).count()
}

/// What `/status` of a node says of shared limits, when it is as it should be.
fn shares(site: &Site, node: usize, what: &str, is: impl Fn(&serde_json::Value) -> bool) {
    let mut last = String::new();
    let there = wait::look(|| {
        last = site.nodes[node].page("/status").ok()?;
        let status: serde_json::Value = serde_json::from_str(&last).ok()?;
        is(&status["shares"]).then_some(())
    });
    assert!(there.is_some(), "{what}:\n{last}\n{}", site.describe());
}

/// Waits for ten looks at what the others say, and until the first of the nodes have had news: on a busy machine they come
/// late.
fn hear(site: &Site, nodes: usize) {
    let received = |node: usize| {
        wait::eventually("the metrics of a node", || {
            let page = site.nodes[node].page("/metrics").map_err(|error| format!("{error:#}"))?;
            let name = "gatehouse_shared_limit_reports_total{direction=\"received\"} ";
            let count = page.lines().find_map(|line| line.strip_prefix(name)?.parse::<u64>().ok());
            count.ok_or(page)
        })
    };
    let before: Vec<_> = (0..nodes).map(received).collect();
    thread::sleep(HEARD);
    // Nothing is said of what rests for long, so there may be no more to come.
    let more = |node: usize| received(node) > before[node];
    let _ = wait::look_for(3 * HEARD, || (0..nodes).all(more).then_some(()));
}

fn names(value: &serde_json::Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(serde_json::Value::as_str).collect()
}

#[test]
fn three_nodes_keep_one_limit_and_those_that_are_left_go_on() {
    let mut options = Options::new(GATEHOUSE);
    options.flags = vec!["--http".to_owned(), format!("0.0.0.0:{PORT}")];
    options.manifests = LIMITED.to_owned();
    let mut site = Site::start(&options).unwrap();

    // Nodes tell each other of limits from the first request on that has one.
    for node in 0..NODES {
        assert_eq!(ask(&site, node, "greeting", 1), 1);
    }
    for node in 0..NODES {
        shares(&site, node, "all three share", |it| names(&it["nodes"]).len() == 2);
    }

    // What one node has let through, no other one lets through again.
    assert_eq!(ask(&site, 0, "one by one", 60), 60);
    hear(&site, NODES);
    let more: usize = (1..NODES).map(|node| ask(&site, node, "one by one", 30)).sum();
    assert!(more <= 3, "{more} of 60 more, though all were used up");
    assert!(ask(&site, 0, "another client", 30) == 30);

    // A client that asks all of them in turn, and no more than five times before they have heard of it.
    let (mut passed, rounds, each) = (0, 8, 5);
    for _ in 0..rounds {
        passed += (0..NODES).map(|node| ask(&site, node, "in turn", each)).sum::<usize>();
        hear(&site, NODES);
    }
    // A round may be too much, or two where notes came late.
    assert!(
        (58..=60 + 2 * NODES * each).contains(&passed),
        "{passed} of {}",
        rounds * NODES * each
    );
    let metrics =
        ["gatehouse_shared_limit_nodes{state=\"heard\"} 2", "gatehouse_shared_limit_part 100"];
    wait::eventually("the metrics say so", || {
        match site.nodes[1].page("/metrics").unwrap_or_default() {
            page if metrics.iter().all(|metric| page.contains(metric)) => Ok(()),
            page => Err(page),
        }
    });

    // A node dies: the others are the majority, and give out all of the limit.
    site.nodes[2].kill();
    for node in 0..2 {
        shares(&site, node, "one is missing", |it| names(&it["missing"]) == ["node-3"]);
        shares(&site, node, "the whole limit", |it| it["percent"] == 100);
    }
    assert_eq!(ask(&site, 0, "after a death", 40), 40);
    hear(&site, 2);
    let rest = ask(&site, 1, "after a death", 40);
    assert!((19..=24).contains(&rest), "{rest}: what the other one has left over");

    // The last one cannot know whether the others are dead or it is cut off: it gives out its third.
    site.nodes[1].kill();
    shares(&site, 0, "cut off", |it| it["percent"] == 33 && names(&it["missing"]).len() == 2);
    let third = ask(&site, 0, "alone", 60);
    assert!((19..=23).contains(&third), "{third}");
    let text = site.nodes[0].page("/readyz").unwrap();
    assert!(text.starts_with("ready\n"), "that is no outage: {text}");
}
