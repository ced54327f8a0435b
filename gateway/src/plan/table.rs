//! The same for people: aligned columns, problems below the objects that they are about.

use std::fmt::Write as _;

use gatehouse_routes::objects::ObjectKey;
use gatehouse_vip::PoolUsage;

use super::{Planned, json};
use crate::{
    compile::{Compiled, L4Address, L4Port},
    text_table::section,
};

/// `plan` for people.
pub(super) fn plan(planned: &Planned, out: &mut String) {
    let compiled = &planned.compiled;
    let addresses = compiled.addresses.iter().map(|(service, assigned)| {
        let mut pools = assigned.pools.clone();
        pools.dedup();
        [service.to_string(), joined(&pools), joined(&assigned.ips)]
    });
    section(out, "ADDRESSES", ["SERVICE", "POOL", "IPS"], addresses.collect());
    let pools = compiled.pools.iter().map(|usage| {
        let PoolUsage { assigned_v4, assigned_v6, available_v4, available_v6, .. } = usage;
        let quarantined = usage.quarantined_v4 + usage.quarantined_v6;
        let state = if usage.draining { "draining" } else { "open" };
        let counts = [assigned_v4, available_v4, assigned_v6, available_v6, &quarantined];
        let [a, b, c, d, e] = counts.map(ToString::to_string);
        [usage.pool.clone(), a, b, c, d, e, state.to_owned()]
    });
    let head = ["POOL", "IPV4 USED", "FREE", "IPV6 USED", "FREE", "RESTING", "STATE"];
    section(out, "POOLS", head, pools.collect());
    let told = compiled.bgp.routes.iter().flat_map(|(peer, rib)| {
        rib.routes.iter().map(move |(prefix, attributes)| {
            let communities: Vec<_> = attributes.communities.iter().collect();
            let preference = attributes.local_pref.map(|preference| preference.to_string());
            let preference = preference.unwrap_or_else(|| "-".to_owned());
            [peer.clone(), prefix.to_string(), preference, joined(&communities)]
        })
    });
    let told: Vec<_> = told.collect();
    if !told.is_empty() {
        section(out, "BGP", ["PEER", "PREFIX", "LOCAL PREF", "COMMUNITIES"], told);
    }
    let listeners = compiled.listeners.iter().map(|plan| {
        let protocol = format!("{:?}", plan.protocol).to_lowercase();
        [plan.address.to_string(), protocol, json::scope(&plan.scope)]
    });
    section(out, "LISTENERS", ["ADDRESS", "PROTOCOL", "GATEWAY"], listeners.collect());
    let forwarded: Vec<_> =
        compiled.l4.iter().flat_map(|(at, port)| forwarded(compiled, at, port)).collect();
    if !forwarded.is_empty() {
        let head = ["ADDRESS", "SERVER NAME", "PROTOCOL", "BY", "SERVICE", "ENDPOINTS"];
        section(out, "FORWARDED", head, forwarded);
    }
    section(
        out,
        "ROUTES",
        ["HOST", "PATH", "MATCH", "HTTP", "HTTPS", "BACKENDS", "OBJECT"],
        routes(planned),
    );
    let aliases: Vec<_> = json::alias_rows(compiled).collect();
    if !aliases.is_empty() {
        section(out, "ALIASES", ["NAME", "HOST"], aliases);
    }
    let objects = json::judged(planned);
    let problems: Vec<_> = objects.values().flat_map(|(_, problems)| problems).collect();
    let _ = writeln!(out, "PROBLEMS");
    for problem in &problems {
        let _ = writeln!(out, "  {problem}");
    }
    if problems.is_empty() {
        let _ = writeln!(out, "  none");
    }
}

/// A port of a Service, then the server names that lead elsewhere.
fn forwarded(compiled: &Compiled, at: &L4Address, port: &L4Port) -> Vec<[String; 6]> {
    let row = |name: String, service: &ObjectKey, endpoints: Vec<String>| {
        [
            at.address.to_string(),
            name,
            at.transport.name().to_lowercase(),
            port.forwarding.name().to_owned(),
            service.to_string(),
            if endpoints.is_empty() { "none".to_owned() } else { joined(&endpoints) },
        ]
    };
    let endpoints = json::forwarded_to(compiled, &port.forward, port.here.as_deref());
    let mut rows = vec![row("-".to_owned(), &port.service, endpoints)];
    rows.extend(json::named(port).map(|named| {
        let endpoints = json::forwarded_to(compiled, &named.forward, named.here.as_deref());
        row(named.host.to_string(), &named.service, endpoints)
    }));
    rows
}

fn routes(planned: &Planned) -> Vec<[String; 7]> {
    let table = &planned.compiled.routes.backends;
    let rows = json::route_rows(&planned.compiled).into_iter();
    rows.map(|row| {
        let backends = row.forward.map_or(&[][..], |forward| &forward.spec.backends);
        let main = row.forward.map_or(0, |forward| forward.spec.main().len());
        let backends = backends.iter().enumerate().map(|(at, backend)| {
            let endpoints = json::endpoints(table.get(backend.slot).map(|backend| &**backend));
            let weight = match at {
                _ if at >= main => " canary".to_owned(),
                _ if main == 1 => String::new(),
                _ => format!(" x{}", backend.weight),
            };
            match endpoints.as_slice() {
                [] => format!("{}{weight} (no endpoints)", backend.key),
                [one] => format!("{}{weight} ({one})", backend.key),
                many => format!("{}{weight} ({} endpoints)", backend.key, many.len()),
            }
        });
        let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        [
            row.rule.host.to_string(),
            row.rule.matches.path.text().to_owned(),
            row.rule.matches.path.kind().to_owned(),
            dash(row.http),
            dash(row.https),
            backends.collect::<Vec<_>>().join(", "),
            row.rule.object.to_string(),
        ]
    })
    .collect()
}

fn joined<T: ToString>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
