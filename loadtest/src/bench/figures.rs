//! The figures of a benchmark: what was measured, and what it comes to over all rounds.
//!
//! CPU per request is total CPU by total requests, all else the median round.

use std::{fmt, time::Duration};

use gatehouse_testbed::client::Load;
use serde::Serialize;

use super::peer::Kind;

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

impl Figures {
    /// The figures of one peer's turns; `memory_kib` is the memory of its processes after them.
    pub(super) fn new(peer: Kind, row: &Row, memory_kib: u64) -> Self {
        let requests: u64 = row.runs.iter().map(|run| run.load.good).sum();
        let cpu: Duration = row.runs.iter().map(|run| run.cpu).sum();
        let per_request = |cpu: Duration, requests: u64| {
            round(cpu.as_secs_f64() * 1e6 / requests.max(1) as f64, 2)
        };
        let by_round = row.runs.iter().map(|run| per_request(run.cpu, run.load.good)).collect();
        let ms = |latency: Duration| latency.as_secs_f64() * 1e3;
        Self {
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
}

/// The middle value, the lower one of two.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

/// A value with so many decimal digits.
pub(super) fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
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
        let figures = Figures::new(Kind::Nginx, &row, 2048);
        assert_eq!(figures.cpu_us_per_request, 15.0);
        assert_eq!(figures.cpu_us_per_request_by_round, [20.0, 10.0, 20.0]);
        assert_eq!(figures.requests_per_second, 2000.0);
        assert_eq!((figures.requests, figures.failed), (6000, 3));
        assert_eq!(figures.memory_mib, 2.0);
    }
}
