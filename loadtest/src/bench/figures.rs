//! The figures of a benchmark: what was measured, and what it comes to over all rounds.
//!
//! CPU per request is total CPU by total requests, all else the median round.

use std::{fmt, time::Duration};

use gatehouse_testbed::client::Load;
use serde::Serialize;

use super::{
    kind::Kind,
    scenario::{Scenario, Unit},
};

/// One measured turn.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) load: Load,
    /// CPU time of the peer's processes during the load.
    pub(super) cpu: Duration,
    /// What its memory has grown by since its start, if that is what counts.
    pub(super) grown_kib: Option<u64>,
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
    /// In the section's unit.
    pub(super) cost: f64,
    pub(super) cost_by_round: Vec<f64>,
    /// The cost, that of the section's measure being 1; none without it.
    pub(super) relative: Option<f64>,
    /// The cost, that of the same peer in the scenario that this one adds something to being 1.
    pub(super) relative_to_without: Option<f64>,
    pub(super) memory_mib: f64,
    pub(super) requests: u64,
    pub(super) failed: u64,
}

/// Figures of one scenario.
#[derive(Debug, Serialize)]
pub(super) struct Section {
    pub(super) scenario: &'static str,
    pub(super) title: &'static str,
    /// What costs are counted in.
    pub(super) unit: &'static str,
    /// Whom costs are compared with.
    pub(super) measure: Option<Kind>,
    /// Name of the scenario that this one adds something to, and the gateway's most times its cost.
    pub(super) adds_to: Option<(&'static str, f64)>,
    pub(super) figures: Vec<Figures>,
}

impl Section {
    /// The figures of a scenario, compared with nginx where it has run, else with HAProxy.
    pub(super) fn new(scenario: &Scenario, mut figures: Vec<Figures>) -> Self {
        let of = |kind| figures.iter().find(|one| one.peer == kind).map(|one| (kind, one.cost));
        let measure = of(Kind::Nginx).or_else(|| of(Kind::Haproxy));
        for one in &mut figures {
            one.relative = measure.map(|(_, cost)| round(one.cost / cost, 3));
        }
        Self {
            scenario: scenario.name,
            title: scenario.title,
            unit: scenario.unit.title(),
            measure: measure.map(|(kind, _)| kind),
            adds_to: scenario.adds_to,
            figures,
        }
    }

    /// The cost of a peer.
    pub(super) fn cost(&self, peer: Kind) -> Option<f64> {
        self.figures.iter().find(|one| one.peer == peer).map(|one| one.cost)
    }
}

/// Tells each scenario that adds something to another what that costs.
pub(super) fn compare_with_without(sections: &mut [Section]) {
    for at in 0..sections.len() {
        let (before, rest) = sections.split_at_mut(at);
        let section = &mut rest[0];
        let Some((name, _)) = section.adds_to else { continue };
        let Some(without) = before.iter().find(|other| other.scenario == name) else { continue };
        for one in &mut section.figures {
            let cost = without.cost(one.peer);
            one.relative_to_without = cost.map(|cost| round(one.cost / cost, 3));
        }
    }
}

impl Figures {
    /// The figures of one peer's turns; `memory_kib` is the memory of its processes after them.
    pub(super) fn new(peer: Kind, scenario: &Scenario, row: &Row, memory_kib: u64) -> Self {
        let cost = |runs: &[Run]| round(cost(scenario, runs), 2);
        let by_round = row.runs.iter().map(|run| cost(std::slice::from_ref(run))).collect();
        let ms = |latency: Duration| latency.as_secs_f64() * 1e3;
        Self {
            peer,
            requests_per_second: round(median(row.runs.iter().map(Run::per_second)), 1),
            p50_ms: round(median(row.runs.iter().map(|run| ms(run.load.p50))), 3),
            p99_ms: round(median(row.runs.iter().map(|run| ms(run.load.p99))), 3),
            cost: cost(&row.runs),
            cost_by_round: by_round,
            relative: None,
            relative_to_without: None,
            memory_mib: round(memory_kib as f64 / 1024.0, 1),
            requests: row.runs.iter().map(|run| run.load.good).sum(),
            failed: row.runs.iter().map(|run| run.load.bad).sum(),
        }
    }
}

/// What so many turns cost in the scenario's unit, all together.
fn cost(scenario: &Scenario, runs: &[Run]) -> f64 {
    let count = runs.iter().map(|run| run.load.good).sum::<u64>().max(1) as f64;
    let cpu: Duration = runs.iter().map(|run| run.cpu).sum();
    match scenario.unit {
        Unit::Request | Unit::Call | Unit::Connection => cpu.as_secs_f64() * 1e6 / count,
        Unit::Gigabyte => {
            let bytes = scenario.body_bytes.unwrap_or(0).max(1) as f64;
            cpu.as_secs_f64() * 1e3 / (count * bytes / 1e9)
        }
        // A process keeps what it once got for the next turn.
        Unit::Memory => {
            let grown = runs.iter().filter_map(|run| run.grown_kib).max().unwrap_or(0);
            let connections = runs.iter().map(|run| run.load.good).max().unwrap_or(0).max(1);
            grown as f64 / connections as f64
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
        Run { load, cpu: Duration::from_millis(cpu_ms), grown_kib: None }
    }

    fn plain() -> &'static Scenario {
        Scenario::named("plain").unwrap()
    }

    #[test]
    fn cpu_per_request_weighs_rounds_by_their_requests_and_rates_take_the_median() {
        let row = Row { runs: vec![run(1000, 20), run(3000, 30), run(2000, 40)] };
        let figures = Figures::new(Kind::Nginx, plain(), &row, 2048);
        assert_eq!(figures.cost, 15.0);
        assert_eq!(figures.cost_by_round, [20.0, 10.0, 20.0]);
        assert_eq!(figures.requests_per_second, 2000.0);
        assert_eq!((figures.requests, figures.failed), (6000, 3));
        assert_eq!(figures.memory_mib, 2.0);
    }

    #[test]
    fn a_gigabyte_is_counted_in_bodies_and_memory_by_its_largest_growth() {
        // 64 answers of 16 MiB are a GiB; 1.0737 GB in 107.37 ms are 100 ms for each.
        let large = Scenario::named("tcp-gb").unwrap();
        let exact = Run { cpu: Duration::from_micros(107_374), ..run(64, 0) };
        assert_eq!(round(cost(large, &[exact]), 1), 100.0);
        let idle = Scenario::named("tcp-idle").unwrap();
        let grown = |kib| Run { grown_kib: Some(kib), ..run(100, 0) };
        assert_eq!(cost(idle, &[grown(800), grown(20)]), 8.0);
    }

    #[test]
    fn a_job_is_compared_with_the_measure_and_with_itself_without() {
        let figures = |scenario: &Scenario, kind, cpu_ms| {
            Figures::new(kind, scenario, &Row { runs: vec![run(1000, cpu_ms)] }, 0)
        };
        let rate = Scenario::named("rate").unwrap();
        let of = |scenario, ours, theirs| {
            let all = [(Kind::Gatehouse, ours), (Kind::Nginx, theirs)];
            Section::new(scenario, all.map(|(kind, ms)| figures(scenario, kind, ms)).to_vec())
        };
        let mut sections = [of(plain(), 20, 10), of(rate, 22, 20)];
        compare_with_without(&mut sections);
        let [without, with] = &sections;
        assert_eq!(without.figures[0].relative, Some(2.0));
        assert_eq!(without.figures[0].relative_to_without, None);
        assert_eq!(with.figures[0].relative_to_without, Some(1.1));
        assert_eq!(with.figures[1].relative_to_without, Some(2.0));
        let alone = Section::new(rate, vec![figures(rate, Kind::Envoy, 5)]);
        assert_eq!((alone.measure, alone.figures[0].relative), (None, None));
    }
}
