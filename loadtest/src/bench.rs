//! The side-by-side benchmark: `gatehouse-loadtest bench`.
//!
//! Every peer gets the same job (same certificate, same backend, same headers to add, keep-alive to the
//! backend, two threads, no access log) and they take turns, round by round, so that a noisy minute hits
//! all of them. The figure that counts is CPU time per request of the peer's own processes; requests per
//! second on a machine that also runs the load and the backend say little.
//!
//! This file runs the rounds. Jobs are in [`scenario`], peers in [`peer`] and [`config`], load in [`drive`].

mod chart;
mod config;
mod drive;
mod figures;
mod peer;
mod report;
mod scenario;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::ValueEnum as _;
use gatehouse_testbed::{
    certificate::Certificate,
    client::{self, Load, Target},
    guard, ports,
    process::{self, Process},
};

use config::Site;
use figures::{Row, Run};
use peer::{Kind, Peer};
use report::Report;
use scenario::{SCENARIOS, Scenario, Tool};

/// Host of all scenarios but the one with many hosts. It resolves to loopback, so that load tools can
/// send it as the TLS server name.
const HOST: &str = "localhost";

/// Hosts in the scenario with many.
const MANY_HOSTS: usize = 1000;

/// Longest time until a freshly started peer answers.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Flags of `gatehouse-loadtest bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Two rounds of one second: a smoke check, not figures to quote.
    #[arg(long)]
    quick: bool,
    /// Scenarios to run, by name; all by default.
    #[arg(long, value_name = "SCENARIO", value_delimiter = ',')]
    only: Vec<String>,
    /// Peers to run.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Kind::value_variants().to_vec())]
    peers: Vec<Kind>,
    /// Seconds that each scenario runs per peer and round.
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    duration: u64,
    /// Rounds.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// The gateway's program.
    #[arg(long, value_name = "PROGRAM", default_value = "target/release/gatehouse")]
    gatehouse: PathBuf,
    /// Folder where `.ci/setup bench` put Envoy.
    #[arg(long, value_name = "DIR", default_value = "target/tools")]
    tools: PathBuf,
    /// Folder for latest.md, latest.json and cpu.svg.
    #[arg(long, value_name = "DIR", default_value = "loadtest/results")]
    results: PathBuf,
}

/// Everything that is measured, started once and used by all rounds.
struct Bed {
    /// Running peers, by kind and whether they are configured with many hosts.
    peers: BTreeMap<(Kind, bool), Peer>,
    certificate: Certificate,
    folder: tempfile::TempDir,
    // Dropped last: peers end before their backend.
    _echo: Process,
}

/// Runs all chosen scenarios for all chosen peers and writes the results.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    process::catch_signals()?;
    let scenarios = chosen(&options.only)?;
    let (rounds, seconds) = if options.quick { (2, 1) } else { (options.rounds, options.duration) };
    let started = Instant::now();
    let mut bed = Bed::set_up(options, &scenarios)?;
    for scenario in &scenarios {
        for kind in &options.peers {
            bed.verify(*kind, scenario)?;
        }
    }
    let mut rows: BTreeMap<(&str, Kind), Row> = BTreeMap::new();
    for round in 0..rounds {
        for scenario in &scenarios {
            for turn in 0..options.peers.len() {
                process::check_stopping()?;
                // Whoever goes first meets a machine that has just rested, so the order rotates.
                let kind = options.peers[(turn + round as usize) % options.peers.len()];
                let run = bed.measure(kind, scenario, Duration::from_secs(seconds))?;
                eprintln!("round {}/{rounds}  {:<16} {kind:<10} {run}", round + 1, scenario.name);
                rows.entry((scenario.name, kind)).or_default().runs.push(run);
            }
        }
    }
    let memory = bed.peers.iter().map(|(key, peer)| (*key, peer.process.memory_kib())).collect();
    let report = Report::new(options, &scenarios, &rows, &memory, started.elapsed());
    drop(bed);
    report.write(&options.results)?;
    println!("{}", report.markdown());
    println!("Written to {} in {:.0?}.", options.results.display(), started.elapsed());
    let bad: u64 = rows.values().flat_map(|row| &row.runs).map(|run| run.load.bad).sum();
    if bad > 0 {
        bail!("{bad} requests failed; the figures above are not to be trusted");
    }
    Ok(())
}

fn chosen(only: &[String]) -> anyhow::Result<Vec<&'static Scenario>> {
    for name in only {
        if !SCENARIOS.iter().any(|scenario| scenario.name == name) {
            let known: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
            bail!("scenario `{name}` is unknown; known are {}", known.join(", "));
        }
    }
    let wanted =
        |scenario: &&Scenario| only.is_empty() || only.iter().any(|name| name == scenario.name);
    Ok(SCENARIOS.iter().filter(wanted).collect())
}

impl Bed {
    fn set_up(options: &Options, scenarios: &[&Scenario]) -> anyhow::Result<Self> {
        let folder = guard::folder("gatehouse-bench-")?;
        // Some peers give up root after they have read their configuration.
        open_to_all(folder.path())?;
        let certificate = Certificate::make(folder.path(), &[HOST])?;
        let [backend] = ports::free()?;
        let echo = start_echo(backend, folder.path())?;
        let mut bed = Self { peers: BTreeMap::new(), certificate, folder, _echo: echo };
        for kind in &options.peers {
            for many in [false, true] {
                if scenarios.iter().any(|scenario| scenario.many_hosts == many) {
                    bed.start(*kind, many, backend, options)?;
                }
            }
        }
        Ok(bed)
    }

    fn start(
        &mut self,
        kind: Kind,
        many: bool,
        backend: SocketAddr,
        options: &Options,
    ) -> anyhow::Result<()> {
        let name = format!("{kind}-{}", if many { "many" } else { "one" });
        let folder = self.folder.path().join(&name);
        std::fs::create_dir(&folder)?;
        open_to_all(&folder)?;
        let site = Site {
            hosts: if many { (0..MANY_HOSTS).map(host_name).collect() } else { vec![HOST.into()] },
            backend,
            certificate: self.certificate.clone(),
            folder,
        };
        let mut peer = Peer::start(kind, &site, &options.gatehouse, &options.tools)
            .with_context(|| format!("cannot set up {kind}"))?;
        let target = Target {
            address: peer.http,
            host: site.hosts[0].clone(),
            path: "/".to_owned(),
            tls: None,
        };
        ports::wait_for(&target, &mut peer.process, START_LIMIT)?;
        self.peers.insert((kind, many), peer);
        Ok(())
    }

    fn peer(&mut self, kind: Kind, scenario: &Scenario) -> anyhow::Result<&mut Peer> {
        self.peers
            .get_mut(&(kind, scenario.many_hosts))
            .with_context(|| format!("{kind} was not set up for scenario {}", scenario.name))
    }

    /// Makes sure that the peer does the whole job before it is measured: status and body size.
    fn verify(&mut self, kind: Kind, scenario: &Scenario) -> anyhow::Result<()> {
        let certificate = self.certificate.clone();
        let peer = self.peer(kind, scenario)?;
        let hosts =
            if scenario.many_hosts { vec![0, MANY_HOSTS / 2, MANY_HOSTS - 1] } else { vec![0] };
        for number in hosts {
            let target = Target {
                address: if scenario.tls { peer.https } else { peer.http },
                host: if scenario.many_hosts { host_name(number) } else { HOST.to_owned() },
                path: scenario.path.to_owned(),
                tls: scenario.tls.then(|| certificate.clone()),
            };
            let answer = client::get(&target, client::REQUEST_TIMEOUT)
                .with_context(|| format!("{kind}, scenario {}", scenario.name))?;
            let expected = scenario.body_bytes.unwrap_or(answer.body.len());
            if answer.status != 200 || answer.body.len() != expected || answer.body.is_empty() {
                bail!(
                    "{kind}, scenario {}: status {} with {} bytes where 200 with {expected} is due",
                    scenario.name,
                    answer.status,
                    answer.body.len()
                );
            }
        }
        if scenario.tool == Tool::H2load {
            drive::verify_http2(peer.https, HOST, scenario)
                .with_context(|| format!("{kind}, scenario {}", scenario.name))?;
        }
        Ok(())
    }

    fn measure(
        &mut self,
        kind: Kind,
        scenario: &Scenario,
        duration: Duration,
    ) -> anyhow::Result<Run> {
        let certificate = self.certificate.clone();
        let scratch = self.folder.path().to_owned();
        let peer = self.peer(kind, scenario)?;
        peer.process.check()?;
        let before = peer.process.cpu();
        let load: Load = drive::drive(scenario, peer, HOST, &certificate, duration, &scratch)
            .with_context(|| format!("{kind}, scenario {}", scenario.name))?;
        let cpu = peer.process.cpu().saturating_sub(before);
        peer.process.check()?;
        Ok(Run { load, cpu })
    }
}

/// Name of host `number` in the scenario with many hosts.
fn host_name(number: usize) -> String {
    format!("host-{number:04}.bench.test")
}

fn start_echo(address: SocketAddr, folder: &Path) -> anyhow::Result<Process> {
    let program = std::env::current_exe().context("cannot find my own program")?;
    let address_text = address.to_string();
    let arguments = ["echo", "--listen", &address_text, "--service", "echo", "--threads", "2"];
    let mut echo = Process::start("echo", &program, arguments, Some(&folder.join("echo.log")))?;
    let target = Target { address, host: HOST.to_owned(), path: "/".to_owned(), tls: None };
    ports::wait_for(&target, &mut echo, START_LIMIT)?;
    Ok(echo)
}

fn open_to_all(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot open {} to the peers", folder.display()))
}
