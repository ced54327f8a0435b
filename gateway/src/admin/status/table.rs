//! A node's status for people: aligned columns, what matters first.

use std::fmt::Write as _;

use super::{L4Row, LeaderRow, NodeStatus, PoolRow, RouterRow, SharesRow, SourceRow};
use crate::text_table::section;

/// One line about the API server.
fn api_server(source: &SourceRow) -> String {
    let objects: usize = source.objects.values().sum();
    let state = source.stale.as_deref().unwrap_or("watched");
    let missing = match source.missing.as_slice() {
        [] => String::new(),
        kinds => format!("; it does not know {}", kinds.join(", ")),
    };
    format!("API SERVER {state}, {objects} objects{missing}")
}

/// One line about who allocates addresses.
fn leader(leader: Option<&LeaderRow>) -> String {
    let Some(LeaderRow { node, here, since }) = leader else { return "LEADER none".to_owned() };
    let here = if *here { " (this process)" } else { "" };
    let since = since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
    format!("LEADER {node}{here}{since}")
}

/// One line about the limits of the group.
fn limits(shares: &SharesRow) -> String {
    let SharesRow { nodes, missing, percent, watched, shared } = shares;
    let with = if nodes.is_empty() { "nobody".to_owned() } else { nodes.join(", ") };
    let missing = match missing.as_slice() {
        [] => String::new(),
        missing => format!(", missing {}", missing.join(", ")),
    };
    let clients = format!("{watched} clients near a limit, {shared} of them on other nodes too");
    format!("LIMITS shared with {with}{missing}; this node gives out {percent} %; {clients}")
}

/// The whole status as text.
pub(super) fn render(status: &NodeStatus) -> String {
    let mut out = String::new();
    let ready = match (status.draining, status.waiting.as_slice()) {
        (true, _) => "handing its addresses over".to_owned(),
        (false, []) => "ready".to_owned(),
        (false, waiting) => format!("waiting for {}", waiting.join(", ")),
    };
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        out,
        "NODE {} (gatehouse {}), generation {}: {ready}\n",
        status.node, status.version, status.generation
    );
    if let Some(why) = &status.excluded {
        let _ = writeln!(out, "ANNOUNCES NOTHING: {why}\n");
    }
    if let Some(source) = &status.source {
        let _ = writeln!(out, "{}", api_server(source));
        let _ = writeln!(out, "{}\n", leader(status.leader.as_ref()));
    }
    let vips = status.vips.iter().map(|vip| {
        [
            vip.address.to_string(),
            vip.here.clone(),
            dash(vip.owner.as_deref()),
            dash(vip.interface.as_deref()),
            joined(&vip.eligible),
            joined(&vip.services),
        ]
    });
    let head = ["ADDRESS", "HERE", "OWNER", "INTERFACE", "ELIGIBLE", "SERVICES"];
    section(&mut out, "ADDRESSES", head, vips.collect());
    let members = status.members.iter().map(|member| {
        let mut state = member.state.clone();
        if !member.serving {
            state.push_str(", not serving");
        }
        if member.draining {
            state.push_str(", draining");
        }
        let holds = member.holds.to_string();
        [member.node.clone(), state, holds, member.interface.clone(), member.address.clone()]
    });
    let head = ["NODE", "STATE", "HOLDS", "INTERFACE", "HEARD FROM"];
    section(&mut out, "GROUP", head, members.collect());
    if let Some(shares) = &status.shares {
        let _ = writeln!(out, "{}\n", limits(shares));
    }
    if !status.routers.is_empty() {
        routers(&mut out, status);
    }
    let listeners = status.listeners.iter().map(|listener| {
        let open = match (listener.open, &listener.error) {
            (true, _) => "open".to_owned(),
            (false, Some(error)) => error.clone(),
            (false, None) => "not open yet".to_owned(),
        };
        [listener.address.clone(), listener.protocol.clone(), open]
    });
    section(&mut out, "LISTENERS", ["ADDRESS", "PROTOCOL", "STATE"], listeners.collect());
    if !status.l4.is_empty() {
        let head = [
            "SERVICE",
            "PROTOCOL",
            "BY",
            "OPEN",
            "FORWARDED",
            "FAILED",
            "DENIED",
            "EVICTED",
            "FULL",
            "BYTES IN",
            "OUT",
        ];
        section(&mut out, "FORWARDED", head, status.l4.iter().map(forwarded).collect());
    }
    if !status.kernel.is_empty() {
        let kernel = status.kernel.iter().map(|fact| {
            let [ports, endpoints] = [fact.ports, fact.endpoints].map(|count| count.to_string());
            let protocol = format!("{} {}", fact.protocol, fact.family);
            [fact.service.clone(), protocol, ports, endpoints, fact.connections.to_string()]
        });
        let head = ["SERVICE", "PROTOCOL", "PORTS", "ENDPOINTS", "CONNECTIONS"];
        section(&mut out, "FORWARDED BY THE KERNEL", head, kernel.collect());
    }
    if !status.ejected.is_empty() {
        let ejected = status
            .ejected
            .iter()
            .map(|row| [row.endpoint.clone(), row.service.clone(), row.why.clone()]);
        section(&mut out, "EJECTED ENDPOINTS", ["ENDPOINT", "SERVICE", "WHY"], ejected.collect());
    }
    if !status.protected.is_empty() {
        let protected = status.protected.iter().map(|row| {
            let keys = row.keys.as_ref().map(|keys| format!(" (keys: {keys})")).unwrap_or_default();
            let requires = format!("{}{keys}", row.requires);
            [row.object.clone(), row.paths.to_string(), some_of(&row.hosts), requires]
        });
        let head = ["OBJECT", "PATHS", "HOSTS", "REQUIRES"];
        section(&mut out, "PROTECTED", head, protected.collect());
    }
    let head = ["POOL", "IPV4 USED", "FREE", "RESTING", "IPV6 USED", "FREE", "RESTING", ""];
    section(&mut out, "POOLS", head, status.pools.iter().map(pool).collect());
    let _ = writeln!(out, "PROBLEMS");
    for problem in &status.problems {
        let _ = write!(out, "  {}: {}: ", problem.severity, problem.object);
        if !problem.field.is_empty() {
            let _ = write!(out, "{}: ", problem.field);
        }
        let _ = write!(out, "{} [{}]", problem.message, problem.reason);
        let hint = if problem.hint.is_empty() { "" } else { "; " };
        let _ = writeln!(out, "{hint}{}", problem.hint);
    }
    if status.problems.is_empty() {
        let _ = writeln!(out, "  none");
    }
    out
}

fn forwarded(row: &L4Row) -> [String; 11] {
    let counts = [row.open, row.forwarded, row.failed, row.denied, row.evicted, row.full];
    let [open, forwarded, failed, denied, evicted, full] = counts.map(|count| count.to_string());
    let [came, went] = [row.bytes_in, row.bytes_out].map(|count| count.to_string());
    let (service, protocol, by) =
        (row.service.clone(), row.protocol.clone(), row.forwarding.clone());
    [service, protocol, by, open, forwarded, failed, denied, evicted, full, came, went]
}

/// Routers, and the addresses that they hear of.
fn routers(out: &mut String, status: &NodeStatus) {
    let head = ["PEER", "ROUTER", "ASN", "STATE", "UP FOR", "TOLD", "BFD", "LAST ERROR"];
    section(out, "ROUTERS", head, status.routers.iter().map(router).collect());
    let routed = status.routed.iter().map(|row| {
        [row.address.to_string(), row.here.clone(), joined(&row.peers), joined(&row.services)]
    });
    section(out, "ROUTED", ["ADDRESS", "HERE", "PEERS", "SERVICES"], routed.collect());
}

fn router(row: &RouterRow) -> [String; 8] {
    [
        row.peer.clone(),
        row.router.clone(),
        row.asn.to_string(),
        row.state.clone(),
        row.up_seconds.map_or_else(|| dash(None), |seconds| format!("{seconds}s")),
        format!("{} of {}", row.announced, row.wanted),
        dash(row.bfd.as_deref()),
        dash(row.last_error.as_deref()),
    ]
}

fn pool(row: &PoolRow) -> [String; 8] {
    [
        row.pool.clone(),
        row.assigned_v4.to_string(),
        row.available_v4.to_string(),
        row.resting_v4.to_string(),
        row.assigned_v6.to_string(),
        row.available_v6.to_string(),
        row.resting_v6.to_string(),
        if row.draining { "draining".to_owned() } else { String::new() },
    ]
}

fn dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

/// The first three, and that there are more.
fn some_of(texts: &[String]) -> String {
    let (some, more) = texts.split_at(texts.len().min(3));
    match more.len() {
        0 => joined(some),
        count => format!("{} and {count} more", joined(some)),
    }
}

fn joined(texts: &[String]) -> String {
    if texts.is_empty() { dash(None) } else { texts.join(", ") }
}
