//! What a benchmark says: Markdown for people, JSON for programs, a chart for both.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use serde::Serialize;

use super::{
    Options, chart,
    figures::{Figures, Row, Section, compare_with_without},
    kind::Kind,
    peer, readme,
    scenario::Scenario,
};

/// The whole result.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Seconds since 1970.
    at: u64,
    machine: String,
    kernel: String,
    cores: usize,
    versions: Vec<String>,
    rounds: usize,
    seconds_per_turn: u64,
    took_seconds: u64,
    /// A sentence about the circumstances, or nothing.
    note: String,
    peers: Vec<Kind>,
    pub(super) scenarios: Vec<Section>,
}

impl Report {
    pub(super) fn new(
        options: &Options,
        scenarios: &[&'static Scenario],
        rows: &BTreeMap<(&str, Kind), Row>,
        memory: &BTreeMap<(Kind, &str), u64>,
        took: Duration,
    ) -> Self {
        let mut sections = Vec::with_capacity(scenarios.len());
        for scenario in scenarios {
            let row = |kind: &Kind| Some((*kind, rows.get(&(scenario.name, *kind))?));
            let figures = options.peers.iter().filter_map(row).map(|(kind, row)| {
                let memory = memory.get(&(kind, scenario.setup.name)).copied().unwrap_or(0);
                Figures::new(kind, scenario, row, memory)
            });
            sections.push(Section::new(scenario, figures.collect()));
        }
        compare_with_without(&mut sections);
        let versions = options
            .peers
            .iter()
            .map(|kind| peer::version(*kind, &options.gatehouse, &options.tools));
        Self {
            at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            machine: machine(),
            kernel: read_trimmed("/proc/sys/kernel/osrelease"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            versions: versions.collect(),
            rounds: rows.values().map(|row| row.runs.len()).max().unwrap_or(0),
            seconds_per_turn: if options.quick { 1 } else { options.duration },
            took_seconds: took.as_secs(),
            note: options.note.as_ref().map_or_else(String::new, |note| format!(" {note}")),
            peers: options.peers.clone(),
            scenarios: sections,
        }
    }

    /// Writes `latest.md`, `latest.json` and `cpu.svg`, and the table of the README above them.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        let json = serde_json::to_string_pretty(self)? + "\n";
        for (name, text) in [
            ("latest.md", self.markdown()),
            ("latest.json", json),
            ("cpu.svg", chart::svg(&self.scenarios)),
        ] {
            let file = folder.join(name);
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        // Results that are written elsewhere have none.
        let page = folder.join("../../README.md");
        if page.is_file() { readme::update(&page, &serde_json::to_value(self)?) } else { Ok(()) }
    }

    /// The report as a page.
    pub(super) fn markdown(&self) -> String {
        let mut text = String::from("# Side by side\n\n");
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{}. {} with {} cores, Linux {}. {} rounds of {} s per peer and scenario, in turns; load, \
             peer and backend share the cores, so **CPU time of the peer's own processes** is the figure to \
             compare.{}\n\n![CPU per request relative to nginx](cpu.svg)\n",
            self.versions.join(", "),
            self.machine,
            self.cores,
            self.kernel,
            self.rounds,
            self.seconds_per_turn,
            self.note,
        );
        self.overview(&mut text);
        self.features(&mut text);
        for section in &self.scenarios {
            let of = section.measure.map_or_else(|| "–".to_owned(), |kind| format!("of {kind}"));
            let _ = writeln!(
                text,
                "\n## {}\n\n| peer | {} | {of} | by round | req/s | p50 ms | p99 ms | memory MiB | \
                 failed |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|",
                section.title, section.unit
            );
            for one in &section.figures {
                let by_round: Vec<String> =
                    one.cost_by_round.iter().map(|cost| format!("{cost:.1}")).collect();
                let _ = writeln!(
                    text,
                    "| {} | {:.1} | {} | {} | {:.0} | {:.2} | {:.2} | {:.1} | {} |",
                    one.peer,
                    one.cost,
                    times(one.relative),
                    by_round.join(" "),
                    one.requests_per_second,
                    one.p50_ms,
                    one.p99_ms,
                    one.memory_mib,
                    one.failed
                );
            }
        }
        text.push_str(
            "\nMemory is the proportional set size after the load, all processes of the peer together; that of an \
             idle connection is what it grew by while they were open. Of the kernel's (sockets, pipes) it has \
             nothing.\nMade by `make bench`.\n",
        );
        text
    }

    /// What all peers cost in all scenarios.
    fn overview(&self, text: &mut String) {
        text.push_str("| | unit |");
        for kind in &self.peers {
            let _ = write!(text, " {kind} |");
        }
        text.push_str("\n|---|---|");
        text.push_str(&"--:|".repeat(self.peers.len()));
        text.push('\n');
        for section in &self.scenarios {
            let _ = write!(text, "| {} | {} |", section.title, section.unit);
            for kind in &self.peers {
                let cost =
                    section.cost(*kind).map_or_else(|| "–".to_owned(), |it| format!("{it:.1}"));
                let _ = write!(text, " {cost} |");
            }
            text.push('\n');
        }
    }

    /// What features cost each peer, against its own requests without them.
    fn features(&self, text: &mut String) {
        if !self.scenarios.iter().any(|section| section.adds_to.is_some()) {
            return;
        }
        text.push_str("\nWhat a feature costs: CPU time of a request with it by that of one without, same peer.\n\n");
        text.push_str("| | at most |");
        for kind in &self.peers {
            let _ = write!(text, " {kind} |");
        }
        text.push_str("\n|---|--:|");
        text.push_str(&"--:|".repeat(self.peers.len()));
        text.push('\n');
        for section in &self.scenarios {
            let Some((_, most)) = section.adds_to else { continue };
            let _ = write!(text, "| {} | {most:.2}× |", section.title);
            for kind in &self.peers {
                let figures = section.figures.iter().find(|one| one.peer == *kind);
                let ratio = figures.and_then(|one| one.relative_to_without);
                let missed = *kind == Kind::Gatehouse && ratio.is_some_and(|ratio| ratio > most);
                let _ =
                    write!(text, " {}{} |", times(ratio), if missed { " (missed)" } else { "" });
            }
            text.push('\n');
        }
    }
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}×"))
}

fn machine() -> String {
    let text = read_trimmed("/proc/cpuinfo");
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| "unknown CPU".to_owned(), |(_, model)| model.trim().to_owned())
}

fn read_trimmed(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default().trim().to_owned()
}
