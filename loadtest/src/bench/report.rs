//! What a benchmark says: Markdown for people, JSON for programs, a chart for both.
//!
//! Figures over rounds: CPU per request is total CPU by total requests, all else the median round.

use std::{
    collections::BTreeMap,
    fmt,
    fmt::Write as _,
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use serde::Serialize;

use super::{Options, chart, peer, peer::Kind, scenario::Scenario};
use crate::client::Load;

/// One measured turn.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) load: Load,
    /// CPU time of the peer's processes during the load.
    pub(super) cpu: Duration,
}

impl Run {
    fn per_second(&self) -> f64 {
        self.load.good as f64 / self.load.elapsed.as_secs_f64().max(1e-9)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.cpu.as_secs_f64() * 1e6 / self.load.good.max(1) as f64;
        write!(formatter, "{:>8.0} req/s  {micros:>8.1} µs CPU/request", self.per_second())?;
        if self.load.bad > 0 {
            write!(formatter, "  {} FAILED", self.load.bad)?;
        }
        Ok(())
    }
}

/// All turns of one peer in one scenario.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) runs: Vec<Run>,
}

/// Figures of one peer in one scenario.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Figures {
    pub(super) peer: Kind,
    pub(super) requests_per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) cpu_us_per_request: f64,
    pub(super) cpu_us_per_request_by_round: Vec<f64>,
    /// CPU per request, nginx being 1; none without nginx.
    pub(super) cpu_relative_to_nginx: Option<f64>,
    pub(super) memory_mib: f64,
    pub(super) requests: u64,
    pub(super) failed: u64,
}

/// Figures of one scenario.
#[derive(Debug, Serialize)]
pub(super) struct Section {
    pub(super) scenario: &'static str,
    pub(super) title: &'static str,
    pub(super) figures: Vec<Figures>,
}

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
                    figures(kind, row, memory)
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

fn figures(peer: Kind, row: &Row, memory_kib: u64) -> Figures {
    let requests: u64 = row.runs.iter().map(|run| run.load.good).sum();
    let cpu: Duration = row.runs.iter().map(|run| run.cpu).sum();
    let per_request =
        |cpu: Duration, requests: u64| round(cpu.as_secs_f64() * 1e6 / requests.max(1) as f64, 2);
    let by_round = row.runs.iter().map(|run| per_request(run.cpu, run.load.good)).collect();
    let ms = |latency: Duration| latency.as_secs_f64() * 1e3;
    Figures {
        peer,
        requests_per_second: round(median(row.runs.iter().map(Run::per_second)), 1),
        p50_ms: round(median(row.runs.iter().map(|run| ms(run.load.p50))), 3),
        p99_ms: round(median(row.runs.iter().map(|run| ms(run.load.p99))), 3),
        cpu_us_per_request: per_request(cpu, requests),
        cpu_us_per_request_by_round: by_round,
        cpu_relative_to_nginx: None,
        memory_mib: round(memory_kib as f64 / 1024.0, 1),
        requests,
        failed: row.runs.iter().map(|run| run.load.bad).sum(),
    }
}

/// The middle value, the lower one of two.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

fn machine() -> String {
    let text = read_trimmed("/proc/cpuinfo");
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| "unknown CPU".to_owned(), |(_, model)| model.trim().to_owned())
}

fn read_trimmed(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(good: u64, cpu_ms: u64) -> Run {
        let elapsed = Duration::from_secs(1);
        let load = Load { good, bad: 1, elapsed, ..Load::default() };
        Run { load, cpu: Duration::from_millis(cpu_ms) }
    }

    #[test]
    fn cpu_per_request_weighs_rounds_by_their_requests_and_rates_take_the_median() {
        let row = Row { runs: vec![run(1000, 20), run(3000, 30), run(2000, 40)] };
        let figures = figures(Kind::Nginx, &row, 2048);
        assert_eq!(figures.cpu_us_per_request, 15.0);
        assert_eq!(figures.cpu_us_per_request_by_round, [20.0, 10.0, 20.0]);
        assert_eq!(figures.requests_per_second, 2000.0);
        assert_eq!((figures.requests, figures.failed), (6000, 3));
        assert_eq!(figures.memory_mib, 2.0);
    }
}
