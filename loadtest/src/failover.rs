//! How long an address is away when its owner dies: `gatehouse-loadtest failover`.
//!
//! Three nodes, a client and a backend are network namespaces on a bridge ([`lan`](gatehouse_testbed::lan)); the client opens
//! a new connection every 5 ms. A trial strikes the owner of an address, waits until clients are served
//! again and makes the group whole. Gatehouse and keepalived take the same strikes on the same bed in one
//! run. Everything started here ends with the run, also with one that fails or is interrupted.

mod cluster;
mod gatehouse;
mod keepalived;
mod many;
mod report;

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use gatehouse_testbed::{
    group::{NAME, VIPS},
    prober::{self, Outage, Pace, Prober},
    process,
};

use cluster::Cluster;
use report::Report;

/// Flags of `gatehouse-loadtest failover`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Trials of each strike on gatehouse, half of them for IPv4 and half for IPv6; 0 leaves it out.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    trials: u32,
    /// Trials of each strike on keepalived; 0 leaves it out.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    peer_trials: u32,
    /// Strikes; all by default.
    #[arg(long, value_name = "STRIKE,…", value_delimiter = ',')]
    only: Vec<Strike>,
    /// Instead of the trials: so many addresses on the three nodes, moved by the death of one node.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    vips: Option<u32>,
    /// The gateway's program.
    #[arg(long, value_name = "PROGRAM", default_value = "target/release/gatehouse")]
    gatehouse: PathBuf,
    /// Folder for failover.md, or failover-many.md with --vips.
    #[arg(long, value_name = "DIR", default_value = "loadtest/results")]
    results: PathBuf,
}

/// What happens to the owner of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Strike {
    /// Its processes are killed (SIGKILL).
    Kill,
    /// Its processes hang (SIGSTOP).
    Stop,
    /// Its cable is pulled.
    Unplug,
    /// It is asked to end (SIGTERM): a planned move.
    Term,
}

/// Clients are served again when all attempts of this span were answered.
const QUIET: Duration = Duration::from_millis(500);

/// Runs all trials and writes the result.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    process::catch_signals()?;
    let (file, text) = match options.vips {
        Some(vips) => ("failover-many.md", many::run(options, vips)?),
        None => ("failover.md", trials(options)?),
    };
    println!("{text}");
    fs::create_dir_all(&options.results)?;
    let file = options.results.join(file);
    fs::write(&file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(())
}

fn trials(options: &Options) -> anyhow::Result<String> {
    let strikes = match &options.only[..] {
        [] => Strike::value_variants(),
        only => only,
    };
    let mut report = Report::new(&options.gatehouse);
    if options.trials > 0 {
        let mut gatehouse = gatehouse::Group::start(&options.gatehouse)?;
        all_of(&mut gatehouse, strikes, options.trials, &mut report)?;
    }
    if options.peer_trials > 0 {
        for tuning in [keepalived::Tuning::Default, keepalived::Tuning::Fast] {
            let mut peer = keepalived::Group::start(tuning)?;
            all_of(&mut peer, strikes, options.peer_trials, &mut report)?;
        }
    }
    Ok(report.markdown())
}

/// Every strike on one cluster, family by family: addresses of the other family may be on their way back
/// to a node that was struck before, and that is not what a trial looks at.
fn all_of(
    cluster: &mut impl Cluster,
    strikes: &[Strike],
    trials: u32,
    report: &mut Report,
) -> anyhow::Result<()> {
    for strike in strikes {
        for (vip, trials) in VIPS.into_iter().zip([trials.div_ceil(2), trials / 2]) {
            let mut outages = Vec::new();
            for number in 0..trials {
                let outage = trial(cluster, *strike, vip, phase(number)).with_context(|| {
                    format!("{} {strike:?} {vip} trial {number}", cluster.name())
                })?;
                outages.push(outage);
            }
            if !outages.is_empty() {
                report.add(cluster.name(), *strike, vip.is_ipv6(), outages);
            }
        }
    }
    Ok(())
}

/// A pause before the strike of a trial. Without it strikes would be in step with the heartbeats that began
/// with the last repair; steps of the golden ratio spread any number of trials evenly over a second.
fn phase(trial: u32) -> Duration {
    Duration::from_secs_f64((f64::from(trial) * 0.618_034).fract())
}

/// Strikes the owner of `vip` once. The group is whole before and after.
fn trial(
    cluster: &mut impl Cluster,
    strike: Strike,
    vip: IpAddr,
    pause: Duration,
) -> anyhow::Result<Outage> {
    let owner = cluster.whole(vip)?;
    let prober = Prober::start(cluster.client(), SocketAddr::new(vip, 80), NAME, Pace::MEASURING)?;
    if !prober.wait_quiet(Instant::now(), QUIET) {
        bail!("{vip} is not served before the strike:\n{}", cluster.describe());
    }
    thread::sleep(pause);
    let event = Instant::now();
    cluster.strike(owner, strike)?;
    if !prober.wait_quiet(event, QUIET) {
        process::check_stopping()?;
        bail!("{vip} is not served after the strike:\n{}", cluster.describe());
    }
    prober.settle(Instant::now());
    let outage = prober::outage(&prober.attempts(), event);
    drop(prober);
    eprintln!(
        "{:<16} {strike:?} {vip}: {:>6.0} ms, {} failed",
        cluster.name(),
        outage.lasted.map_or(f64::INFINITY, report::ms),
        outage.failed
    );
    cluster.repair(owner, strike)?;
    Ok(outage)
}
