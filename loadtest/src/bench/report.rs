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
    figures::{Figures, Row, Section, round},
    peer,
    peer::Kind,
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
    pub(super) scenarios: Vec<Section>,
}

impl Report {
    pub(super) fn new(
        options: &Options,
        scenarios: &[&'static Scenario],
        rows: &BTreeMap<(&str, Kind), Row>,
        memory: &BTreeMap<(Kind, bool), u64>,
        took: Duration,
    ) -> Self {
        let mut sections = Vec::with_capacity(scenarios.len());
        for scenario in scenarios {
            let row = |kind: &Kind| Some((*kind, rows.get(&(scenario.name, *kind))?));
            let mut figures: Vec<Figures> = options
                .peers
                .iter()
                .filter_map(row)
                .map(|(kind, row)| {
                    let memory = memory.get(&(kind, scenario.many_hosts)).copied().unwrap_or(0);
                    Figures::new(kind, row, memory)
                })
                .collect();
            let nginx = figures.iter().find(|one| one.peer == Kind::Nginx);
            if let Some(nginx) = nginx.map(|nginx| nginx.cpu_us_per_request) {
                for one in &mut figures {
                    one.cpu_relative_to_nginx = Some(round(one.cpu_us_per_request / nginx, 3));
                }
            }
            sections.push(Section { scenario: scenario.name, title: scenario.title, figures });
        }
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
            scenarios: sections,
        }
    }

    /// Writes `latest.md`, `latest.json` and `cpu.svg`.
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
        Ok(())
    }

    /// The report as a page.
    pub(super) fn markdown(&self) -> String {
        let mut text = String::from("# Side by side\n\n");
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{}. {} with {} cores, Linux {}. {} rounds of {} s per peer and scenario, in turns; load, \
             peer and backend share the cores, so **CPU µs per request** of the peer's own processes is \
             the figure to compare; below 1.00× is less than nginx.\n\n\
             ![CPU per request relative to nginx](cpu.svg)\n",
            self.versions.join(", "),
            self.machine,
            self.cores,
            self.kernel,
            self.rounds,
            self.seconds_per_turn,
        );
        self.overview(&mut text);
        for section in &self.scenarios {
            let _ = writeln!(
                text,
                "\n## {}\n\n| peer | CPU µs/request | of nginx | req/s | p50 ms | p99 ms | memory MiB | \
                 failed |\n|---|--:|--:|--:|--:|--:|--:|--:|",
                section.title
            );
            for one in &section.figures {
                let _ = writeln!(
                    text,
                    "| {} | {:.1} | {} | {:.0} | {:.2} | {:.2} | {:.1} | {} |",
                    one.peer,
                    one.cpu_us_per_request,
                    relative(one),
                    one.requests_per_second,
                    one.p50_ms,
                    one.p99_ms,
                    one.memory_mib,
                    one.failed
                );
            }
        }
        text.push_str(
            "\nMemory is the proportional set size after the load, all processes of the peer together.\n\
             Made by `make bench`.\n",
        );
        text
    }

    /// CPU per request of all peers in all scenarios.
    fn overview(&self, text: &mut String) {
        let Some(first) = self.scenarios.first() else { return };
        text.push_str("| CPU µs per request |");
        for one in &first.figures {
            let _ = write!(text, " {} |", one.peer);
        }
        text.push_str("\n|---|");
        text.push_str(&"--:|".repeat(first.figures.len()));
        text.push('\n');
        for section in &self.scenarios {
            let _ = write!(text, "| {} |", section.title);
            for one in &section.figures {
                let _ = write!(text, " {:.1} |", one.cpu_us_per_request);
            }
            text.push('\n');
        }
    }
}

fn relative(figures: &Figures) -> String {
    figures.cpu_relative_to_nginx.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}×"))
}

fn machine() -> String {
    let text = read_trimmed("/proc/cpuinfo");
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| "unknown CPU".to_owned(), |(_, model)| model.trim().to_owned())
}

fn read_trimmed(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default().trim().to_owned()
}
