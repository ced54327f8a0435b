//! ExaBGP 4: writes what it hears into a file, line by line, and holds no table.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, File, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::{Config, Route, Router};

pub(super) fn start(router: &mut Router<'_>) {
    let heard = router.folder.join("heard.json");
    File::create(&heard).unwrap();
    // ExaBGP takes a process whose output is closed for dead.
    let script = format!("#!/bin/sh\nexec 3>&1 cat >> {}\n", heard.display());
    let script = router.write("hear.sh", &script);
    fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    let file = router.write("exabgp.conf", &config(&router.config, &script.display().to_string()));
    let mut command = router.lab.command(&router.host, "env");
    let log = router.folder.join("exabgp.log").display().to_string();
    let mut locals: Vec<_> =
        router.config.peers.iter().filter_map(|peer| peer.local).map(|ip| ip.to_string()).collect();
    locals.dedup();
    let settings = [
        ("daemon.user", "root"),
        ("daemon.drop", "false"),
        ("daemon.daemonize", "false"),
        ("api.cli", "false"),
        ("log.destination", &log),
        ("tcp.bind", &locals.join(" ")),
        ("tcp.port", "179"),
    ];
    command.args(settings.map(|(name, value)| format!("exabgp.{name}={value}")));
    command.arg("exabgp").arg(file);
    router.spawn("exabgp", &mut command);
    router.wait_ready(|router| router.log().contains("new configuration successfully"));
}

fn config(config: &Config, script: &str) -> String {
    let mut text = format!("process hear {{ run {script}; encoder json; }}\n");
    for peer in &config.peers {
        assert!(!peer.unnumbered() && peer.bfd.is_none(), "not with ExaBGP: {peer:?}");
        let local = peer.local.unwrap_or_else(|| panic!("ExaBGP needs its own address: {peer:?}"));
        write!(
            text,
            "neighbor {} {{ router-id {}; local-address {local}; local-as {}; peer-as {}; \
             hold-time {};",
            peer.at, config.id, config.asn, peer.asn, peer.hold
        )
        .unwrap();
        let mut option = |text_of: Option<String>| text.extend(text_of);
        option(peer.password.as_ref().map(|password| format!(" md5-password \"{password}\";")));
        option(peer.multi_hop.map(|hops| format!(" outgoing-ttl {hops};")));
        option(peer.gtsm.then(|| " outgoing-ttl 255; incoming-ttl 255;".to_owned()));
        option(peer.passive.then(|| " passive true;".to_owned()));
        let restart = if peer.graceful_restart { "graceful-restart 60; " } else { "" };
        option(Some(format!(" capability {{ {restart}route-refresh enable; }} family {{")));
        option(peer.v4.then(|| " ipv4 unicast;".to_owned()));
        option(peer.v6.then(|| " ipv6 unicast;".to_owned()));
        option(Some(
            " } api { processes [ hear ]; neighbor-changes; receive { parsed; update; } } static {"
                .to_owned(),
        ));
        for prefix in &config.announce {
            option(Some(format!(" route {prefix} next-hop self {};", config.attributes)));
        }
        text.push_str(" } }\n");
    }
    text
}

pub(super) fn established(router: &Router<'_>, peer: &str) -> bool {
    let mut states =
        heard(router).into_iter().rev().filter(|line| line["type"] == "state" && is_of(line, peer));
    states.next().is_some_and(|line| line["neighbor"]["state"] == "up")
}

pub(super) fn route(router: &Router<'_>, prefix: &str) -> Option<Route> {
    let family = if prefix.contains(':') { "ipv6 unicast" } else { "ipv4 unicast" };
    let has = |list: &Value| {
        list.as_array().is_some_and(|list| list.iter().any(|item| item["nlri"] == prefix))
    };
    let mut paths: BTreeMap<String, Route> = BTreeMap::new();
    for line in heard(router) {
        let peer = line["neighbor"]["address"]["peer"].as_str().unwrap_or_default().to_owned();
        if line["neighbor"]["state"] == "down" {
            paths.remove(&peer);
        }
        let update = &line["neighbor"]["message"]["update"];
        if has(&update["withdraw"][family]) {
            paths.remove(&peer);
        }
        let hops = update["announce"][family].as_object();
        for (hop, _) in hops.into_iter().flatten().filter(|(_, list)| has(list)) {
            paths.insert(peer.clone(), path(&update["attribute"], hop.parse().unwrap()));
        }
    }
    let next_hops = paths.values().flat_map(|route| route.next_hops.clone()).collect();
    Some(Route { next_hops, ..paths.into_values().next()? })
}

fn path(attributes: &Value, next_hop: IpAddr) -> Route {
    let number = |value: &Value| value.as_u64().map(|number| u32::try_from(number).unwrap());
    let list = |field: &str| attributes[field].as_array().cloned().unwrap_or_default();
    let tuple = |tuple: &Value| {
        let parts = tuple.as_array().cloned().unwrap_or_default();
        parts.iter().map(Value::to_string).collect::<Vec<_>>().join(":")
    };
    Route {
        next_hops: [next_hop].into(),
        local_pref: number(&attributes["local-preference"]),
        med: number(&attributes["med"]),
        as_path: list("as-path").iter().filter_map(number).collect(),
        communities: list("community").iter().map(tuple).collect(),
        large: list("large-community").iter().map(tuple).collect(),
    }
}

fn is_of(line: &Value, peer: &str) -> bool {
    line["neighbor"]["address"]["peer"] == peer
}

fn heard(router: &Router<'_>) -> Vec<Value> {
    let text = fs::read_to_string(router.folder.join("heard.json")).unwrap();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
