//! The fail-over benchmark's result as a page.

use std::{fmt::Write as _, fs, path::Path, process::Command, time::Duration};

use clap::ValueEnum as _;
use gatehouse_testbed::prober::Outage;

use super::Strike;

/// All outages of a run.
#[derive(Debug)]
pub(super) struct Report {
    versions: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    cluster: &'static str,
    strike: Strike,
    v6: bool,
    outages: Vec<Outage>,
}

/// Durations in milliseconds and counts, from the sorted values of all trials.
#[derive(Debug, PartialEq)]
struct Figures {
    trials: usize,
    /// Median, 99th percentile, longest.
    outage: [f64; 3],
    /// Failed attempts: median, most.
    failed: [usize; 2],
}

impl Report {
    pub(super) fn new(gatehouse: &Path) -> Self {
        let version = |program: &Path| {
            let output = Command::new(program).arg("--version").output().ok()?;
            // Keepalived says it on stderr.
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            Some(text.lines().next()?.split(" (").next()?.trim().to_owned())
        };
        let keepalived = gatehouse_testbed::process::find_program("keepalived");
        let programs = [Some(gatehouse.to_owned()), keepalived].into_iter().flatten();
        Self { versions: programs.filter_map(|path| version(&path)).collect(), rows: Vec::new() }
    }

    pub(super) fn add(
        &mut self,
        cluster: &'static str,
        strike: Strike,
        v6: bool,
        outages: Vec<Outage>,
    ) {
        self.rows.push(Row { cluster, strike, v6, outages });
    }

    pub(super) fn markdown(&self) -> String {
        let mut text = String::from("# Fail-over, side by side\n\n");
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{}, Linux {}. Three nodes on a bridge of network namespaces; a client begins a new connection \
             with one HTTP request every 5 ms and gives each up after 1 s. The owner of the address is \
             struck; the **outage**, in ms, lasts from then until the start of the first attempt that is \
             answered after the last one that failed.\n\n\
             `keepalived` has its defaults (an advertisement per second), `keepalived 100ms` VRRP version 3 \
             with `advert_int 0.1`. Where its processes are killed or stopped, so is the server beside it.\n",
            self.versions.join(", "),
            kernel.trim()
        );
        for strike in Strike::value_variants() {
            let rows = || self.rows.iter().filter(|row| row.strike == *strike);
            if rows().next().is_none() {
                continue;
            }
            let _ = write!(
                text,
                "\n## {}\n\n| who | family | trials | outage p50 | p99 | max | failed p50 | max |\n\
                 |---|---|--:|--:|--:|--:|--:|--:|\n",
                title(*strike)
            );
            for row in rows() {
                let Figures { trials, outage: [p50, p99, max], failed } = figures(&row.outages);
                let family = if row.v6 { "IPv6" } else { "IPv4" };
                let _ = writeln!(
                    text,
                    "| {} | {family} | {trials} | {p50:.0} | {p99:.0} | {max:.0} | {} | {} |",
                    row.cluster, failed[0], failed[1]
                );
            }
        }
        text.push_str("\nMade by `make bench-failover`.\n");
        text
    }
}

const fn title(strike: Strike) -> &'static str {
    match strike {
        Strike::Kill => "The owner is killed (SIGKILL)",
        Strike::Stop => "The owner hangs (SIGSTOP)",
        Strike::Unplug => "The owner's cable is pulled",
        Strike::Term => "The owner is asked to end (SIGTERM): a planned move",
    }
}

fn figures(outages: &[Outage]) -> Figures {
    let mut lasted: Vec<f64> =
        outages.iter().map(|one| one.lasted.map_or(f64::INFINITY, ms)).collect();
    lasted.sort_by(f64::total_cmp);
    let mut failed: Vec<usize> = outages.iter().map(|one| one.failed).collect();
    failed.sort_unstable();
    let at = |share| percentile(&lasted, share).unwrap_or(f64::NAN);
    Figures {
        trials: outages.len(),
        outage: [at(0.5), at(0.99), at(1.0)],
        failed: [0.5, 1.0].map(|share| percentile(&failed, share).unwrap_or_default()),
    }
}

/// The smallest of the sorted values that at least this share of all does not exceed (nearest rank).
pub(super) fn percentile<T: Copy>(sorted: &[T], share: f64) -> Option<T> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// A duration in milliseconds.
pub(super) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_nearest_ranks_over_all_trials() {
        let one = |n: u64| Outage { lasted: Some(Duration::from_millis(n)), failed: n as usize };
        let outages: Vec<Outage> = (1..=200).rev().map(one).collect();
        let expected = Figures { trials: 200, outage: [100.0, 198.0, 200.0], failed: [100, 200] };
        assert_eq!(figures(&outages), expected);
        assert_eq!(figures(&outages[..1]).outage, [200.0; 3]);
    }

    #[test]
    fn an_address_that_never_came_back_is_not_hidden() {
        let lost = Outage { lasted: None, failed: 9 };
        assert_eq!(figures(&[lost]).outage, [f64::INFINITY; 3]);
    }
}
