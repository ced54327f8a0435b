//! FRR 8: zebra, bgpd and bfdd, with everything that they write in a folder of their own.

use std::fmt::Write;
use std::process::Command;

use serde_json::Value;

use super::{Config, Route, Router, community};

pub(super) fn start(router: &mut Router<'_>) {
    let log = format!(
        "log timestamp precision 3\nlog file {}\n",
        router.folder.join("frr.log").display()
    );
    let (bgp, bfd) = config(&router.config);
    // One file each: in a file for all, a daemon leaves the configuration at the first `exit` from a
    // mode that it does not have.
    for (daemon, text) in [("zebra", ""), ("bgpd", &bgp), ("bfdd", &bfd)] {
        router.write(&format!("{daemon}.conf"), &format!("hostname {}\n{log}{text}", router.host));
    }
    let folder = router.folder.clone();
    // bgpd connects to zebra once; a socket of an earlier life would be taken for the new one.
    let zserv = folder.join("zserv");
    let _ = std::fs::remove_file(&zserv);
    for daemon in ["zebra", "bgpd", "bfdd"] {
        // FRR leaves files in /var/tmp/frr, which here is its own and gone with it.
        let start = "mkdir -p /var/tmp/frr && mount -t tmpfs none /var/tmp/frr && \
            chown frr /var/tmp/frr && exec \"$@\"";
        let mut command = router.lab.command(&router.host, "unshare");
        command.args(["--mount", "--", "sh", "-c", start, daemon]);
        command.arg(format!("/usr/lib/frr/{daemon}"));
        command.args(["-u", "frr", "-g", "frr", "-A", "127.0.0.1", "-P", "0"]);
        command.arg("-f").arg(folder.join(format!("{daemon}.conf")));
        command.arg("-i").arg(folder.join(format!("{daemon}.pid")));
        command.arg("--vty_socket").arg(&folder).arg("-z").arg(&zserv);
        if daemon == "bfdd" {
            command.arg("--bfdctl").arg(folder.join("bfdd.ctl"));
        }
        router.spawn(daemon, &mut command);
        match daemon {
            "zebra" => router.wait_ready(|_| zserv.exists()),
            _ => router.wait_ready(|_| folder.join(format!("{daemon}.vty")).exists()),
        }
    }
    router.wait_ready(|router| try_vtysh(router, "show bgp summary json").is_some());
}

/// The configurations of bgpd and of bfdd.
fn config(config: &Config) -> (String, String) {
    let mut bgp = format!(
        "debug bgp neighbor-events\nrouter bgp {}\n bgp router-id {}\n \
         no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n \
         no bgp network import-check\n",
        config.asn, config.id
    );
    if config.multipath {
        bgp.push_str(" bgp bestpath as-path multipath-relax\n");
    }
    // Otherwise a neighbour's address has to be on a link until `ebgp-multihop`, a line later, says
    // that it need not, which zebra sometimes misses.
    if config.peers.iter().any(|peer| peer.multi_hop.is_some()) {
        bgp.push_str(" bgp disable-ebgp-connected-route-check\n");
    }
    let mut profiles = String::new();
    for (index, peer) in config.peers.iter().enumerate() {
        let interface = if peer.unnumbered() { "interface " } else { "" };
        let asn = match peer.asn {
            0 => "external".to_owned(),
            asn => asn.to_string(),
        };
        writeln!(bgp, " neighbor {} {interface}remote-as {asn}", peer.at).unwrap();
        let mut lines = vec![
            format!("timers {} {}", peer.hold / 3, peer.hold),
            "timers connect 1".to_owned(),
            "advertisement-interval 0".to_owned(),
        ];
        lines.extend(peer.local.map(|local| format!("update-source {local}")));
        lines.extend(peer.password.as_ref().map(|password| format!("password {password}")));
        lines.extend(peer.multi_hop.map(|hops| format!("ebgp-multihop {hops}")));
        lines.extend(peer.gtsm.then(|| "ttl-security hops 1".to_owned()));
        lines.extend(peer.passive.then(|| "passive".to_owned()));
        lines.extend(peer.graceful_restart.then(|| "graceful-restart".to_owned()));
        if let Some((interval, multiplier)) = peer.bfd {
            lines.push(format!("bfd profile p{index}"));
            write!(
                profiles,
                " profile p{index}\n  detect-multiplier {multiplier}\n  transmit-interval {interval}\n  \
                 receive-interval {interval}\n exit\n"
            )
            .unwrap();
        }
        lines.iter().for_each(|line| writeln!(bgp, " neighbor {} {line}", peer.at).unwrap());
    }
    for (family, v6) in [("ipv4", false), ("ipv6", true)] {
        writeln!(bgp, " address-family {family} unicast").unwrap();
        config.announced(v6).for_each(|prefix| writeln!(bgp, "  network {prefix}").unwrap());
        for peer in config.peers.iter().filter(|peer| if v6 { peer.v6 } else { peer.v4 }) {
            writeln!(bgp, "  neighbor {} activate", peer.at).unwrap();
        }
        bgp.push_str(" exit-address-family\n");
    }
    (bgp, format!("bfd\n{profiles}"))
}

pub(super) fn established(router: &Router<'_>, peer: &str) -> bool {
    let neighbours = vtysh(router, "show bgp neighbors json");
    neighbours[peer]["bgpState"] == "Established"
}

pub(super) fn bfd_up(router: &Router<'_>, peer: &str) -> bool {
    let sessions = vtysh(router, "show bfd peers json");
    let of_peer = |session: &&Value| session["peer"] == peer || session["interface"] == peer;
    sessions.as_array().is_some_and(|sessions| {
        sessions.iter().find(of_peer).is_some_and(|session| session["status"] == "up")
    })
}

pub(super) fn route(router: &Router<'_>, prefix: &str) -> Option<Route> {
    let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
    let answer = vtysh(router, &format!("show bgp {family} unicast {prefix} json"));
    let paths = answer["paths"].as_array()?;
    let used = |path: &&Value| path["bestpath"]["overall"] == true || path["multipath"] == true;
    let best = paths.iter().find(|path| path["bestpath"]["overall"] == true)?;
    let next_hops = paths.iter().filter(used).flat_map(|path| path["nexthops"].as_array().unwrap());
    let number = |value: &Value| value.as_u64().map(|number| u32::try_from(number).unwrap());
    let texts = |value: &Value| {
        let list = value["list"].as_array().cloned().unwrap_or_default();
        list.iter().map(|text| community(text.as_str().unwrap())).collect()
    };
    let segments = best["aspath"]["segments"].as_array().cloned().unwrap_or_default();
    Some(Route {
        next_hops: next_hops.map(|hop| hop["ip"].as_str().unwrap().parse().unwrap()).collect(),
        local_pref: number(&best["locPrf"]),
        med: number(&best["metric"]),
        as_path: segments
            .iter()
            .flat_map(|segment| segment["list"].as_array().unwrap())
            .filter_map(number)
            .collect(),
        communities: texts(&best["community"]),
        large: texts(&best["largeCommunity"]),
    })
}

pub(super) fn refresh(router: &Router<'_>, peer: &str) {
    assert!(try_vtysh(router, &format!("clear bgp {peer} soft in")).is_some());
}

/// What it thinks of all routes and next hops, for people.
pub(super) fn state(router: &Router<'_>) -> String {
    let commands =
        ["show bgp ipv4 unicast", "show bgp ipv6 unicast", "show ip route", "show ip nht"];
    commands.iter().filter_map(|command| try_vtysh(router, command)).collect()
}

/// How often a peer has asked for all routes again.
pub(super) fn refreshes(router: &Router<'_>, peer: &str) -> u64 {
    let neighbours = vtysh(router, "show bgp neighbors json");
    neighbours[peer]["messageStats"]["routeRefreshRecv"].as_u64().unwrap_or_default()
}

fn vtysh(router: &Router<'_>, command: &str) -> Value {
    let text = try_vtysh(router, command).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn try_vtysh(router: &Router<'_>, command: &str) -> Option<String> {
    let output = Command::new("vtysh")
        .arg("--vty_socket")
        .arg(&router.folder)
        .args(["-c", command])
        .output()
        .unwrap_or_else(|error| panic!("vtysh: {error}; is frr installed?"));
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
