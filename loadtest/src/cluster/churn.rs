//! Many changes, one after another at a steady rate, and when traffic shows each.
//!
//! One thread writes, at moments that do not depend on how fast anything is; another asks the gateway for
//! everything that has been changed and is not seen yet, round and round.

use std::{
    net::SocketAddr,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use gatehouse_testbed::{gatehouse::client::KeepAlive, process};
use serde_json::{Value, json};

use super::{
    api::{self, Api},
    objects::{Site, ingress_host, ports, route_host},
};

/// Changes that wait for an answer of the API server at one time.
const AT_ONCE: usize = 64;
/// Pause between two rounds of looking: short against what is measured.
const PAUSE: Duration = Duration::from_millis(1);
/// Longest that a change may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A change, and how it shows.
struct Change {
    kind: (&'static str, &'static str),
    key: (String, String),
    patch: Value,
    sight: Sight,
}

/// How the path `/` of a host is answered when a change is live.
struct Sight {
    host: String,
    status: u16,
    /// How the body begins.
    body: &'static str,
    /// A path that is there then.
    also: &'static str,
}

/// How long each change took, from before the request to the API server.
pub(super) struct Times {
    /// Until that has answered.
    pub(super) answered: Vec<Duration>,
    /// Until traffic showed it.
    pub(super) shown: Vec<Duration>,
}

/// Makes the changes.
pub(super) fn run(
    site: &Site,
    api: &Api,
    http: SocketAddr,
    rate: u32,
    count: u32,
) -> anyhow::Result<Times> {
    let fewest = site.services.min(site.ingresses).min(site.routes);
    ensure!(
        count.div_ceil(3) <= fewest,
        "so many changes need more --services, --ingresses, --routes"
    );
    let (made, seen) = channel();
    let watching = thread::spawn(move || watch(http, &seen));
    let (runtime, client) = api.parts();
    let begun = tokio::time::Instant::from_std(Instant::now());
    let period = Duration::from_secs(1) / rate;
    let changes = stream::iter(0..count).then(|number| {
        let made = made.clone();
        async move {
            tokio::time::sleep_until(begun + period * number).await;
            let Change { kind, key, patch, sight } = change(site, number);
            // An error means that the other thread has given up, and says why.
            let _ = made.send((Instant::now(), sight));
            (kind, key, patch)
        }
    });
    let sent = changes
        .map(|(kind, key, patch)| {
            let (client, begun) = (client.clone(), Instant::now());
            async move { api::patch(client, kind, key, patch).await.map(|()| begun.elapsed()) }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect();
    let answered = runtime.block_on(sent)?;
    drop(made);
    let shown = watching.join();
    let shown = shown.unwrap_or_else(|_| bail!("the thread that looks has failed"))?;
    Ok(Times { answered, shown })
}

/// Endpoints, Ingresses and Routes in turn, another object each time.
fn change(site: &Site, number: u32) -> Change {
    let (turn, at) = (number % 3, number / 3);
    match turn {
        0 => Change {
            kind: ("discovery.k8s.io/v1", "EndpointSlice"),
            key: site.key(at),
            patch: json!({ "ports": ports(site.endpoints[1]) }),
            sight: Sight {
                host: ingress_host(at),
                status: 200,
                body: "service=second ",
                also: "/",
            },
        },
        1 => {
            let at = site.ingresses - 1 - at;
            let service = site.key(site.service_of(at)).1;
            let backend = json!({ "service": { "name": service, "port": { "number": 80 } } });
            let paths = json!([{ "path": "/changed", "pathType": "Prefix", "backend": backend }]);
            let host = ingress_host(at);
            let rules = json!([{ "host": host, "http": { "paths": paths } }]);
            Change {
                kind: ("networking.k8s.io/v1", "Ingress"),
                key: site.key(at),
                patch: json!({ "spec": { "rules": rules } }),
                sight: Sight { host, status: 404, body: "", also: "/changed" },
            }
        }
        _ => {
            let at = site.routes - 1 - at;
            Change {
                kind: ("route.openshift.io/v1", "Route"),
                key: site.key(at),
                patch: json!({ "spec": { "path": "/changed" } }),
                sight: Sight { host: route_host(at), status: 503, body: "", also: "/changed" },
            }
        }
    }
}

/// Looks until the other side is gone and everything has been seen.
fn watch(http: SocketAddr, made: &Receiver<(Instant, Sight)>) -> anyhow::Result<Vec<Duration>> {
    let mut kept = KeepAlive::to(http);
    let (mut waiting, mut times) = (Vec::new(), Vec::new());
    let mut open = true;
    while open || !waiting.is_empty() {
        process::check_stopping()?;
        match made.recv_timeout(PAUSE) {
            Ok(next) => {
                waiting.push(next);
                waiting.extend(made.try_iter());
            }
            Err(RecvTimeoutError::Timeout) => (),
            Err(RecvTimeoutError::Disconnected) => {
                open = false;
                thread::sleep(PAUSE);
            }
        }
        let mut left = Vec::new();
        for (since, sight) in waiting {
            let answer = kept.get(&sight.host, "/")?;
            let (body, took) = (answer.text(), since.elapsed());
            if answer.status == sight.status && body.starts_with(sight.body) {
                times.push(took);
                // What a change takes away and what it brings come together.
                let status = kept.get(&sight.host, sight.also)?.status;
                ensure!(status == 200, "{}{} answers {status}", sight.host, sight.also);
            } else if took > LIMIT {
                bail!("{} still answers {} {body}", sight.host, answer.status);
            } else {
                left.push((since, sight));
            }
        }
        waiting = left;
    }
    Ok(times)
}
