//! Many addresses on three nodes: how long until all have moved off a dead one, and what holding them
//! costs when nothing happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use gatehouse_testbed::{
    capture::Capture,
    group::{self, NODES, Site},
    process, wait,
};

use super::{Options, report};

/// Deaths that are measured; a node has many addresses, so few are enough.
const DEATHS: usize = 5;
/// The idle nodes are looked at for this long.
const IDLE: Duration = Duration::from_secs(10);
/// Longest time until all addresses have moved.
const MOVED_WITHIN: Duration = Duration::from_secs(30);

/// Longest time until all addresses are back: a node that was dead is watched for a while first.
const HOME_WITHIN: Duration = Duration::from_secs(180);

/// What one death gave.
struct Death {
    /// Of each address, from the death to its first announcement by a survivor; sorted.
    moved: Vec<f64>,
}

/// Runs all and returns the page.
pub(super) fn run(options: &Options, vips: u32) -> anyhow::Result<String> {
    let (manifests, vips) = group::many(vips);
    let mut site =
        Site::start(&group::Options { manifests, ..group::Options::new(&options.gatehouse) })?;
    let vips: BTreeSet<IpAddr> = vips.into_iter().collect();
    let homes = whole(&mut site, &vips)?;
    let idle = idle(&site)?;
    let capture = Capture::start(&site.client)?;
    let mut deaths = Vec::new();
    for number in 0..DEATHS {
        // As it is on an ordinary day: a third of the addresses on each node.
        let deadline = Instant::now() + HOME_WITHIN;
        while whole(&mut site, &vips)? != homes {
            if Instant::now() > deadline {
                bail!("not every address is back on its first owner");
            }
        }
        let death = death(&mut site, &homes[number % NODES], &capture, number % NODES)?;
        let (count, last) = (death.moved.len(), death.moved.last().copied().unwrap_or_default());
        eprintln!("death {number}: {count} addresses moved, the last after {last:.0} ms");
        deaths.push(death);
    }
    Ok(markdown(vips.len(), &idle, &deaths))
}

/// Waits until all nodes are ready and every address is on exactly one; says on which.
fn whole(site: &mut Site, vips: &BTreeSet<IpAddr>) -> anyhow::Result<[BTreeSet<IpAddr>; NODES]> {
    site.settle()?;
    let deadline = Instant::now() + wait::LIMIT;
    loop {
        process::check_stopping()?;
        let mut held: [BTreeSet<IpAddr>; NODES] = Default::default();
        for (held, node) in held.iter_mut().zip(&site.nodes) {
            *held = &node.host.addresses("eth0")? & vips;
        }
        let total: usize = held.iter().map(BTreeSet::len).sum();
        let different = held.iter().flatten().collect::<BTreeSet<_>>().len();
        if total == vips.len() && different == vips.len() {
            return Ok(held);
        }
        if Instant::now() > deadline {
            bail!("{different} of {} addresses are held, {total} times in all", vips.len());
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// The share of a core that the speaker's thread of each node takes while nothing happens.
fn idle(site: &Site) -> anyhow::Result<[f64; NODES]> {
    let spent = || -> anyhow::Result<[Duration; NODES]> {
        let mut spent = [Duration::ZERO; NODES];
        for (spent, node) in spent.iter_mut().zip(&site.nodes) {
            *spent = node.thread_cpu("speaker").context("no thread is named `speaker`")?;
        }
        Ok(spent)
    };
    let (before, since) = (spent()?, Instant::now());
    while since.elapsed() < IDLE {
        process::check_stopping()?;
        thread::sleep(Duration::from_millis(100));
    }
    let (after, elapsed) = (spent()?, since.elapsed().as_secs_f64());
    let mut shares = [0.0; NODES];
    for ((share, before), after) in shares.iter_mut().zip(before).zip(after) {
        *share = after.saturating_sub(before).as_secs_f64() / elapsed;
    }
    Ok(shares)
}

/// Kills a node, waits until a survivor has announced each of its addresses, and starts it again.
fn death(
    site: &mut Site,
    lost: &BTreeSet<IpAddr>,
    capture: &Capture,
    victim: usize,
) -> anyhow::Result<Death> {
    let mac = site.nodes[victim].host.mac();
    capture.clear();
    let event = Instant::now();
    site.nodes[victim].kill();
    let mut first: BTreeMap<IpAddr, Instant> = BTreeMap::new();
    while first.len() < lost.len() {
        process::check_stopping()?;
        for claim in capture.claims() {
            if claim.at >= event && claim.mac != mac && lost.contains(&claim.address) {
                first.entry(claim.address).or_insert(claim.at);
            }
        }
        if event.elapsed() > MOVED_WITHIN {
            bail!("{} of {} addresses have moved\n{}", first.len(), lost.len(), site.describe());
        }
        thread::sleep(Duration::from_millis(20));
    }
    let mut held = BTreeSet::new();
    for (number, node) in site.nodes.iter().enumerate() {
        if number != victim {
            held.append(&mut node.host.addresses("eth0")?);
        }
    }
    if let Some(missing) = lost.iter().find(|vip| !held.contains(vip)) {
        bail!("{missing} was announced, but is on no survivor's link");
    }
    site.nodes[victim].start()?;
    let mut moved: Vec<f64> =
        first.values().map(|at| report::ms(at.duration_since(event))).collect();
    moved.sort_by(f64::total_cmp);
    Ok(Death { moved })
}

fn markdown(vips: usize, idle: &[f64; NODES], deaths: &[Death]) -> String {
    let mut text = format!(
        "# {vips} addresses on three nodes\n\n\
         The speaker's thread of an idle node takes {:.2} % of a core ({} over {} s).\n\n\
         A node is killed; an address has moved when the client's host hears a survivor announce it. In ms.\n\n\
         | death | addresses moved | p50 | p99 | all |\n|--:|--:|--:|--:|--:|\n",
        100.0 * idle.iter().copied().fold(0.0, f64::max),
        idle.map(|share| format!("{:.2} %", 100.0 * share)).join(", "),
        IDLE.as_secs(),
    );
    for (number, death) in deaths.iter().enumerate() {
        let at = |share| report::percentile(&death.moved, share).unwrap_or(f64::NAN);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {:.0} | {:.0} |",
            number + 1,
            death.moved.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
    text.push_str("\nMade by `make bench-failover FAILOVER_ARGS='--vips 1000'`.\n");
    text
}
