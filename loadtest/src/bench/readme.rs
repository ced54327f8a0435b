//! The table in the project's README: the scenarios that say most, out of `results/latest.json`.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Context as _;
use serde_json::Value;

/// Where the table stands.
const BEGIN: &str = "<!-- by make bench -->\n";
const END: &str = "<!-- /by make bench -->\n";

const PEERS: [&str; 4] = ["gatehouse", "nginx", "haproxy", "envoy"];

/// Scenarios by name, and what a reader of the README calls them.
const ROWS: [(&str, &str); 17] = [
    ("plain", "HTTP/1.1 keep-alive"),
    ("tls", "HTTP/1.1 over TLS"),
    ("h2", "HTTP/2 over TLS"),
    ("body-64k", "64 KiB bodies"),
    ("body-1m", "1 MiB bodies"),
    ("connection", "connection per request"),
    ("tls-connection", "TLS connection per request"),
    ("hosts-1000", "1000 hosts"),
    ("external", "external authentication (`auth-url`)"),
    ("grpc-unary", "gRPC, one message"),
    ("gzip", "gzip of 16 KiB"),
    ("edge-cookie", "Route, edge with cookie"),
    ("reencrypt", "Route, re-encrypt"),
    ("passthrough", "Route, passthrough, per connection"),
    ("routes-10000", "10 000 Routes, no URL twice"),
    ("tcp", "TCP, per connection"),
    ("tcp-gb", "TCP, ms for 10⁹ bytes"),
];

/// Puts the table of a report into a README. A report that lacks one of the scenarios changes nothing.
///
/// # Errors
/// The README cannot be read or written, or has no place for the table.
pub(super) fn update(readme: &Path, report: &Value) -> anyhow::Result<()> {
    let Some(table) = table(report) else { return Ok(()) };
    let path = readme.display();
    let text = fs::read_to_string(readme).with_context(|| format!("cannot read {path}"))?;
    let parts = parts(&text).with_context(|| format!("{path} has no {}", BEGIN.trim()))?;
    let text = [parts.0, &table, parts.2].concat();
    fs::write(readme, text).with_context(|| format!("cannot write {path}"))
}

/// What is before the table, the table, and what is after it.
fn parts(text: &str) -> Option<(&str, &str, &str)> {
    let begin = text.find(BEGIN)? + BEGIN.len();
    let end = begin + text[begin..].find(END)?;
    Some((&text[..begin], &text[begin..end], &text[end..]))
}

/// The table of a report; `None` if the report lacks one of its scenarios.
fn table(report: &Value) -> Option<String> {
    let mut text =
        "\n| | gatehouse | nginx 1.22 | HAProxy 2.6 | Envoy 1.40 |\n|---|--:|--:|--:|--:|\n"
            .to_owned();
    let scenarios = report["scenarios"].as_array()?;
    for (name, title) in ROWS {
        let section = scenarios.iter().find(|section| section["scenario"] == name)?;
        let figures = section["figures"].as_array()?;
        let cost = |peer: &str| figures.iter().find(|one| one["peer"] == peer)?["cost"].as_f64();
        let costs = PEERS.map(cost);
        let least = costs.into_iter().flatten().fold(f64::INFINITY, f64::min);
        let _ = write!(text, "| {title} |");
        for cost in costs {
            let _ = match cost {
                None => write!(text, " – |"),
                Some(cost) if cost == least => write!(text, " **{}** |", short(cost)),
                Some(cost) => write!(text, " {} |", short(cost)),
            };
        }
        text.push('\n');
    }
    text.push('\n');
    Some(text)
}

/// Three digits say enough.
fn short(cost: f64) -> String {
    if cost < 100.0 { format!("{cost:.1}") } else { format!("{cost:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_shows_the_results_that_are_kept() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let report = fs::read_to_string(root.join("results/latest.json")).unwrap();
        let report = serde_json::from_str(&report).unwrap();
        let readme = fs::read_to_string(root.join("../README.md")).unwrap();
        let (_, shown, _) = parts(&readme).unwrap();
        assert_eq!(shown, table(&report).expect("a whole report is kept: make bench"));
    }
}
