//! GoBGP 3: gobgpd, asked by gobgp.

use std::fmt::Write;

use serde_json::Value;

use super::{Config, Route, Router};

/// Of its API, on the host's loopback.
const PORT: &str = "50051";

pub(super) fn start(router: &mut Router<'_>) {
    let file = router.write("gobgpd.toml", &config(&router.config));
    let mut command = router.lab.command(&router.host, "gobgpd");
    command.args(["--api-hosts", &format!("127.0.0.1:{PORT}"), "--pprof-disable", "-f"]).arg(file);
    router.spawn("gobgpd", &mut command);
    router.wait_ready(|router| gobgp(router, "global").is_some());
    for v6 in [false, true] {
        for prefix in router.config.announced(v6) {
            let (family, next_hop) = if v6 { ("ipv6", "::") } else { ("ipv4", "0.0.0.0") };
            let added =
                gobgp(router, &format!("global rib add {prefix} -a {family} nexthop {next_hop}"));
            assert!(added.is_some(), "GoBGP does not announce {prefix}: {}", router.log());
        }
    }
}

fn config(config: &Config) -> String {
    let mut text = format!(
        "[global.config]\nas = {}\nrouter-id = \"{}\"\nport = 179\n\
         [global.use-multiple-paths.config]\nenabled = {}\n",
        config.asn, config.id, config.multipath
    );
    for peer in &config.peers {
        assert!(peer.bfd.is_none(), "not with GoBGP: {peer:?}");
        // It takes whom the kernel knows on the interface when it starts, and sends no advertisements.
        let named = if peer.unnumbered() { "interface" } else { "address" };
        let password = peer.password.as_deref().unwrap_or_default();
        let local = peer.local.map(|local| format!("local-address = \"{local}\"\n"));
        write!(
            text,
            "[[neighbors]]\n[neighbors.config]\nneighbor-{named} = \"{}\"\npeer-as = {}\n\
             auth-password = \"{password}\"\n[neighbors.timers.config]\nconnect-retry = 1\n\
             hold-time = {}\nkeepalive-interval = {}\nidle-hold-time-after-reset = 1\n\
             [neighbors.transport.config]\npassive-mode = {}\n{}\
             [neighbors.graceful-restart.config]\nenabled = {}\nrestart-time = 60\n",
            peer.at,
            peer.asn,
            peer.hold,
            peer.hold / 3,
            peer.passive,
            local.unwrap_or_default(),
            peer.graceful_restart
        )
        .unwrap();
        if let Some(hops) = peer.multi_hop {
            writeln!(
                text,
                "[neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = {hops}"
            )
            .unwrap();
        }
        if peer.gtsm {
            text.push_str("[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255\n");
        }
        for (family, on) in [("ipv4-unicast", peer.v4), ("ipv6-unicast", peer.v6)] {
            if on {
                write!(
                    text,
                    "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}\"\n\
                     [neighbors.afi-safis.mp-graceful-restart.config]\nenabled = {}\n",
                    peer.graceful_restart
                )
                .unwrap();
            }
        }
    }
    text
}

pub(super) fn established(router: &Router<'_>, peer: &str) -> bool {
    // SessionState of its API: ESTABLISHED is 6.
    let up = |neighbour: &Value| neighbour["state"]["session_state"] == 6;
    let all = || json(router, "neighbor").as_array().is_some_and(|all| all.iter().all(up));
    match router.config.peers.iter().find(|one| one.at == peer) {
        Some(one) if one.unnumbered() => all(),
        _ => up(&json(router, &format!("neighbor {peer}"))),
    }
}

pub(super) fn route(router: &Router<'_>, prefix: &str) -> Option<Route> {
    let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
    let answer = json(router, &format!("global rib -a {family}"));
    let paths = answer[prefix].as_array()?;
    let mut route = Route::default();
    for (index, path) in paths.iter().enumerate() {
        let number = |value: &Value| u32::try_from(value.as_u64().unwrap_or_default()).unwrap();
        for attribute in path["attrs"].as_array()? {
            if let Some(hop) = attribute["nexthop"].as_str() {
                route.next_hops.insert(hop.parse().unwrap());
            }
            let list = |field: &str| attribute[field].as_array().cloned().unwrap_or_default();
            match attribute["type"].as_u64() {
                _ if index > 0 => {} // the first one is the best
                Some(2) => {
                    let segments = list("as_paths");
                    let asns =
                        segments.iter().flat_map(|segment| segment["asns"].as_array().unwrap());
                    route.as_path = asns.map(number).collect();
                }
                Some(4) => route.med = Some(number(&attribute["metric"])),
                Some(5) => route.local_pref = Some(number(&attribute["value"])),
                Some(8) => {
                    let numbers = list("communities").iter().map(number).collect::<Vec<_>>();
                    let text = |number: u32| format!("{}:{}", number >> 16, number & 0xffff);
                    route.communities = numbers.into_iter().map(text).collect();
                }
                Some(32) => {
                    let text = |large: &Value| {
                        let parts = ["ASN", "LocalData1", "LocalData2"];
                        parts.map(|part| number(&large[part]).to_string()).join(":")
                    };
                    route.large = list("value").iter().map(text).collect();
                }
                _ => {}
            }
        }
    }
    Some(route)
}

fn json(router: &Router<'_>, command: &str) -> Value {
    let text = gobgp(router, &format!("-j {command}")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn gobgp(router: &Router<'_>, command: &str) -> Option<String> {
    let mut gobgp = router.lab.command(&router.host, "gobgp");
    let output = gobgp.args(["-p", PORT]).args(command.split(' ')).output().unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
