//! What clients notice of backends that fail: `gatehouse-loadtest chaos`.
//!
//! Clients, proxies and backends are hosts on a link of network namespaces. Gatehouse, HAProxy and Envoy stand
//! before the same ten backends, each under the same load at the same time, and three of the ten fail in one
//! way after the other. What gatehouse must not let clients notice is in [`fault`], and a run in which it does
//! fails. `--quick` is for tests: gatehouse alone, and so many requests instead of so many seconds.

mod backend;
mod client;
mod fault;
mod peers;
mod pods;
mod report;

use std::{
    panic,
    path::PathBuf,
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::ValueEnum as _;
use gatehouse_testbed::{
    guard,
    lan::Lan,
    process::{self, Process},
    wait,
};

pub(crate) use backend::Options as BackendOptions;
use client::{Clients, Seen, Span};
use fault::Fault;
use peers::{Kind, Patience};
use pods::Pods;
use report::Report;

/// Serves as one of the ten.
pub(crate) fn serve_backend(options: &BackendOptions) -> anyhow::Result<()> {
    backend::run(options)
}

/// Flags of `gatehouse-loadtest chaos`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Gatehouse alone, and for each fault so many requests instead of so many seconds; nothing is written.
    #[arg(long)]
    quick: bool,
    /// Faults to cause; all by default.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Fault::value_variants().to_vec())]
    only: Vec<Fault>,
    /// Seconds that each fault lasts.
    #[arg(long, value_name = "S", default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=600))]
    duration: u64,
    /// Program of gatehouse.
    #[arg(long, value_name = "FILE")]
    gatehouse: PathBuf,
    /// Folder with Envoy, as `.ci/setup bench` makes it.
    #[arg(long, value_name = "DIR", default_value = "target/tools")]
    tools: PathBuf,
    /// Folder for chaos.md.
    #[arg(long, value_name = "DIR", default_value = "loadtest/results")]
    results: PathBuf,
}

/// How long a backend that flaps is there, and how long it is away.
const FLAP: Duration = Duration::from_millis(250);

/// Requests for each fault in a quick run.
const QUICK_REQUESTS: usize = 400;

/// Causes the faults one after the other and says what clients saw.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    process::catch_signals()?;
    let kinds = if options.quick { &[Kind::Gatehouse][..] } else { Kind::ALL };
    let patience = if options.quick { Patience::TESTING } else { Patience::MEASURING };
    let span = if options.quick {
        Span::Requests(QUICK_REQUESTS)
    } else {
        Span::Time(Duration::from_secs(options.duration))
    };
    let folder = guard::folder("gatehouse-chaos-")?;
    let (_lan, [client, node, pods]) = Lan::new(["client", "gateway", "pods"])?;
    let mut pods = Pods::start(pods, folder.path())?;
    let mut proxies = Vec::new();
    for (kind, port) in kinds.iter().copied().zip(8080..) {
        let site = peers::Site {
            address: (node.v4(), port).into(),
            backends: pods.addresses(),
            folder: folder.path().join(kind.name()),
            patience,
        };
        let process = peers::start(kind, &site, &node, &options.gatehouse, &options.tools)
            .with_context(|| format!("cannot set up {}", kind.name()))?;
        proxies.push(Proxy { kind, process, clients: Clients::new(&client, site.address) });
    }

    let mut report = Report::new(kinds, patience, &options.gatehouse, &options.tools);
    for fault in &options.only {
        for proxy in &mut proxies {
            proxy.wait_well()?;
        }
        let seen = cause(*fault, &mut pods, &proxies, span)?;
        for (proxy, seen) in proxies.iter().zip(seen) {
            eprintln!("{:<12} {:<10} {seen}", fault.name(), proxy.kind.name());
            report.add(*fault, proxy.kind, seen);
        }
    }
    println!("{}", report.markdown());
    if !options.quick {
        report.write(&options.results)?;
    }
    let broken = report.broken_bounds();
    if !broken.is_empty() {
        bail!("gatehouse let clients notice more than it may:\n  {}", broken.join("\n  "));
    }
    Ok(())
}

/// A proxy under load.
struct Proxy {
    kind: Kind,
    process: Process,
    clients: Clients,
}

impl Proxy {
    /// Waits until all backends answer again.
    fn wait_well(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + wait::LIMIT;
        loop {
            process::check_stopping()?;
            self.process.check()?;
            let seen = self.clients.load(Span::Requests(5 * pods::COUNT))?;
            if seen.failed() == 0 && seen.backends.len() == pods::COUNT {
                return Ok(());
            }
            if Instant::now() > deadline {
                let (name, tail) = (self.kind.name(), self.process.log_tail());
                bail!("{name} does not come back to all backends: {seen}{tail}");
            }
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Strikes while all proxies are under load, repairs, and returns what the clients of each saw meanwhile.
fn cause(
    fault: Fault,
    pods: &mut Pods,
    proxies: &[Proxy],
    span: Span,
) -> anyhow::Result<Vec<Seen>> {
    thread::scope(|scope| {
        let mut loads = Vec::with_capacity(proxies.len());
        for proxy in proxies {
            loads.push(scope.spawn(move || proxy.clients.load(span)));
        }
        // Requests are under way when the blow falls.
        thread::sleep(Duration::from_millis(50));
        pods.strike(fault)?;
        while !loads.iter().all(ScopedJoinHandle::is_finished) {
            process::check_stopping()?;
            thread::sleep(FLAP);
            pods.go_on(fault)?;
        }
        pods.repair(fault)?;
        let seen = |load: ScopedJoinHandle<'_, anyhow::Result<Seen>>| {
            load.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
        };
        loads.into_iter().map(seen).collect()
    })
}
