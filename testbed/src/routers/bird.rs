//! BIRD 2: one process, asked by birdc.

use std::fmt::Write;
use std::process::Command;

use super::{Config, Route, Router};

pub(super) fn start(router: &mut Router<'_>) {
    let log = router.folder.join("bird.log").display().to_string();
    let file = router.write("bird.conf", &config(&router.config, &log));
    let mut command = router.lab.command(&router.host, "bird");
    command.args(["-f", "-c"]).arg(file).arg("-s").arg(router.folder.join("bird.ctl"));
    router.spawn("bird", &mut command);
    router.wait_ready(|router| birdc(router, "show status").contains("up and running"));
}

fn config(config: &Config, log: &str) -> String {
    let mut text = format!(
        "router id {};\nlog \"{log}\" all;\nprotocol device {{ scan time 1; }}\n",
        config.id
    );
    for (family, v6) in [("ipv4", false), ("ipv6", true)] {
        let routes: String =
            config.announced(v6).map(|prefix| format!(" route {prefix} blackhole;")).collect();
        writeln!(text, "protocol static {{ {family};{routes} }}").unwrap();
        if config.multipath {
            let learn = "merge paths on;";
            let export = "export where source = RTS_BGP;";
            writeln!(text, "protocol kernel {{ {learn} {family} {{ import none; {export} }}; }}")
                .unwrap();
        }
    }
    if let Some((interval, multiplier)) = config.peers.iter().find_map(|peer| peer.bfd) {
        let timers = format!("{{ interval {interval} ms; multiplier {multiplier}; }}");
        writeln!(text, "protocol bfd {{ interface \"*\" {timers}; multihop {timers}; }}").unwrap();
    }
    for (index, peer) in config.peers.iter().enumerate() {
        // It advertises itself, and waits for whoever dials.
        let neighbour = match peer.unnumbered() {
            true => format!("range fe80::/10 as {}; interface \"{}\"", peer.asn, peer.at),
            false => format!("{} as {}", peer.at, peer.asn),
        };
        if peer.unnumbered() {
            let times = "min ra interval 3; max ra interval 4; default lifetime 0;";
            writeln!(text, "protocol radv {{ interface \"{}\" {{ {times} }}; }}", peer.at).unwrap();
        }
        let local = peer.local.map(|local| local.to_string()).unwrap_or_default();
        write!(
            text,
            "protocol bgp p{index} {{ local {local} as {}; neighbor {neighbour}; hold time {}; \
             keepalive time {}; connect retry time 1; connect delay time 1; error wait time 1, 2;",
            config.asn,
            peer.hold,
            peer.hold / 3
        )
        .unwrap();
        let mut option = |text_of: Option<String>| text.extend(text_of);
        option(peer.password.as_ref().map(|password| format!(" password \"{password}\";")));
        option(Some(match peer.multi_hop {
            Some(hops) => format!(" multihop {hops};"),
            None => " direct;".to_owned(),
        }));
        option(peer.gtsm.then(|| " ttl security on;".to_owned()));
        option(peer.bfd.map(|_| " bfd on;".to_owned()));
        option(peer.passive.then(|| " passive on;".to_owned()));
        option(Some(format!(
            " graceful restart {};",
            if peer.graceful_restart { "on" } else { "aware" }
        )));
        for (family, on) in [("ipv4", peer.v4), ("ipv6", peer.v6)] {
            option(on.then(|| {
                let wide = if family == "ipv4" { " extended next hop on;" } else { "" };
                format!(" {family} {{ import all; export where source = RTS_STATIC;{wide} }};")
            }));
        }
        text.push_str(" }\n");
    }
    text
}

pub(super) fn established(router: &Router<'_>, peer: &str) -> bool {
    let answer = birdc(router, &format!("show protocols all {}", protocol(router, peer)));
    let mut states = answer.lines().filter_map(|line| line.trim().strip_prefix("BGP state:"));
    states.next().is_some_and(|state| state.trim() == "Established")
}

pub(super) fn bfd_up(router: &Router<'_>, peer: &str) -> bool {
    let answer = birdc(router, "show bfd sessions");
    let mut lines = answer.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.any(|words| words.first() == Some(&peer) && words.get(2) == Some(&"Up"))
}

pub(super) fn route(router: &Router<'_>, prefix: &str) -> Option<Route> {
    let answer = birdc(router, &format!("show route {prefix} all"));
    let (mut route, mut paths) = (Route::default(), 0);
    for line in answer.lines() {
        // A path of a prefix begins in the first column, or with its protocol in brackets.
        let begins = line.contains(" [p") || line.contains(" [dynbgp");
        paths += usize::from(begins && line.contains("] "));
        let Some((name, value)) = line.trim().split_once(": ") else { continue };
        match name {
            "BGP.next_hop" => {
                route.next_hops.extend(
                    value.split_whitespace().map(|ip| ip.parse::<std::net::IpAddr>().unwrap()),
                );
            }
            _ if paths > 1 => {} // the first one is the best
            "BGP.local_pref" => route.local_pref = value.parse().ok(),
            "BGP.med" => route.med = value.parse().ok(),
            "BGP.as_path" => {
                route.as_path =
                    value.split_whitespace().filter_map(|asn| asn.parse().ok()).collect();
            }
            "BGP.community" => route.communities = tuples(value),
            "BGP.large_community" => route.large = tuples(value),
            _ => {}
        }
    }
    (paths > 0).then_some(route)
}

/// `(64500,1) (65535,0)` or `(64500, 1, 2)`.
fn tuples(text: &str) -> std::collections::BTreeSet<String> {
    let tuples = text.split(')').filter_map(|tuple| tuple.split_once('('));
    tuples.map(|(_, tuple)| tuple.replace(", ", ":").replace(',', ":")).collect()
}

pub(super) fn refresh(router: &Router<'_>, peer: &str) {
    birdc(router, &format!("reload in {}", protocol(router, peer)));
}

fn protocol(router: &Router<'_>, peer: &str) -> String {
    if router.config.peers.iter().any(|known| known.at == peer && known.unnumbered()) {
        // One for everybody who has dialled; here that is one.
        return "\"dynbgp*\"".to_owned();
    }
    let index = router.config.peers.iter().position(|known| known.at == peer);
    format!("p{}", index.unwrap_or_else(|| panic!("{} has no peer {peer}", router.host)))
}

fn birdc(router: &Router<'_>, command: &str) -> String {
    let output = Command::new("birdc")
        .arg("-s")
        .arg(router.folder.join("bird.ctl"))
        .args(command.split(' '))
        .output()
        .unwrap_or_else(|error| panic!("birdc: {error}; is bird2 installed?"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
