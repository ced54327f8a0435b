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
mod kind;
mod peer;
mod readme;
mod report;
mod scenario;
mod setup;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::ValueEnum as _;
use gatehouse_testbed::{
    certificate::Certificate,
    client::{self, Target},
    guard,
    namespace::Namespace,
    ports,
    process::{self, Process},
};

use config::{Backends, Site};
use figures::{Row, Run};
use kind::Kind;
use peer::Peer;
use report::Report;
use scenario::{SCENARIOS, Scenario, Tool};
use setup::{Serves, Setup};

/// Address of the TCP port that is passed on: gatehouse gives it to a Service, which may have none of loopback.
const TCP_ADDRESS: [u8; 4] = [192, 0, 2, 77];

/// Name in the certificate of the backend's that the router verifies, beside those of the scenarios.
const SERVICE_NAME: &str = "tls.default.svc";

/// Longest time until a freshly started peer answers.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a peer is under the same load before it is measured: it has waited while others had their turns.
const WARM_UP: Duration = Duration::from_secs(1);

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
    /// A sentence for the report, such as what else ran on the machine.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Folder for latest.md, latest.json and cpu.svg.
    #[arg(long, value_name = "DIR", default_value = "loadtest/results")]
    results: PathBuf,
}

/// Everything that is measured, started once and used by all rounds.
struct Bed {
    /// Running peers, by kind and name of their setup.
    peers: BTreeMap<(Kind, &'static str), Peer>,
    certificate: Certificate,
    folder: tempfile::TempDir,
    // Dropped last: peers end before their backend.
    _echo: Process,
}

/// Runs all chosen scenarios for all chosen peers and writes the results.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    process::catch_signals()?;
    let scenarios = chosen(&options.only)?;
    if !scenarios.iter().any(|scenario| matches!(scenario.setup.serves, Serves::Tcp)) {
        return run_here(options, &scenarios);
    }
    let host = Namespace::new("bench").context("scenarios of TCP need an address of their own")?;
    let address = format!("{}/32", Ipv4Addr::from(TCP_ADDRESS));
    host.run(&["ip", "address", "add", &address, "dev", "lo"])?;
    host.enter(|| run_here(options, &scenarios))?
}

fn run_here(options: &Options, scenarios: &[&'static Scenario]) -> anyhow::Result<()> {
    let (rounds, seconds) = if options.quick { (2, 1) } else { (options.rounds, options.duration) };
    let started = Instant::now();
    let mut bed = Bed::set_up(options, scenarios)?;
    for scenario in scenarios {
        for kind in peers_of(options, scenario) {
            bed.verify(kind, scenario)?;
        }
    }
    for peer in bed.peers.values_mut() {
        peer.memory_at_start = peer.process.memory_kib();
    }
    let mut rows: BTreeMap<(&str, Kind), Row> = BTreeMap::new();
    for round in 0..rounds {
        for scenario in scenarios {
            let peers = peers_of(options, scenario);
            for turn in 0..peers.len() {
                process::check_stopping()?;
                // Whoever goes first meets a machine that has just rested, so the order rotates.
                let kind = peers[(turn + round as usize) % peers.len()];
                if scenario.tool != Tool::Idle {
                    bed.measure(kind, scenario, WARM_UP)?;
                }
                let run = bed.measure(kind, scenario, Duration::from_secs(seconds))?;
                eprintln!("round {}/{rounds}  {:<16} {kind:<10} {run}", round + 1, scenario.name);
                rows.entry((scenario.name, kind)).or_default().runs.push(run);
            }
        }
    }
    let memory = bed.peers.iter().map(|(key, peer)| (*key, peer.process.memory_kib())).collect();
    let report = Report::new(options, scenarios, &rows, &memory, started.elapsed());
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

/// The scenarios of these names, and those that they add something to.
fn chosen(only: &[String]) -> anyhow::Result<Vec<&'static Scenario>> {
    let mut wanted = only.to_vec();
    for name in only {
        let Some(scenario) = Scenario::named(name) else {
            let known: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
            bail!("scenario `{name}` is unknown; known are {}", known.join(", "));
        };
        wanted.extend(scenario.adds_to.map(|(name, _)| name.to_owned()));
    }
    let wanted =
        |scenario: &&Scenario| only.is_empty() || wanted.iter().any(|name| name == scenario.name);
    Ok(SCENARIOS.iter().filter(wanted).collect())
}

/// Those of the chosen peers that can do the job.
fn peers_of(options: &Options, scenario: &Scenario) -> Vec<Kind> {
    let can = scenario.setup.peers;
    options.peers.iter().copied().filter(|kind| can.contains(kind)).collect()
}

impl Bed {
    fn set_up(options: &Options, scenarios: &[&Scenario]) -> anyhow::Result<Self> {
        let folder = guard::folder("gatehouse-bench-")?;
        // Some peers give up root after they have read their configuration.
        open_to_all(folder.path())?;
        let mut names = vec![SERVICE_NAME];
        names.extend(SCENARIOS.iter().map(|scenario| scenario.host));
        names.sort_unstable();
        names.dedup();
        let certificate = Certificate::make(folder.path(), &names)?;
        let [http, http_too, tls, grpc, auth] = ports::free()?;
        let backends = Backends { http, http_too, tls, grpc, auth };
        let echo = start_echo(&backends, &certificate, folder.path())?;
        let mut bed = Self { peers: BTreeMap::new(), certificate, folder, _echo: echo };
        for scenario in scenarios {
            for kind in peers_of(options, scenario) {
                if !bed.peers.contains_key(&(kind, scenario.setup.name)) {
                    bed.start(kind, scenario.setup, backends, options)?;
                }
            }
        }
        Ok(bed)
    }

    fn start(
        &mut self,
        kind: Kind,
        setup: &'static Setup,
        backends: Backends,
        options: &Options,
    ) -> anyhow::Result<()> {
        let folder = self.folder.path().join(format!("{kind}-{}", setup.name));
        std::fs::create_dir(&folder)?;
        open_to_all(&folder)?;
        let [http, https, admin, tcp] = ports::free()?;
        let tcp = SocketAddr::from((TCP_ADDRESS, tcp.port()));
        let certificate = self.certificate.clone();
        let site = Site { setup, http, https, admin, tcp, backends, certificate, folder };
        let mut peer = Peer::start(kind, &site, &options.gatehouse, &options.tools)
            .with_context(|| format!("cannot set up {kind} for {}", setup.name))?;
        // Whatever it answers: not every setup serves this host and path.
        ports::wait_open(peer.http, &mut peer.process, START_LIMIT)?;
        if kind == Kind::Gatehouse {
            let (host, path) = (scenario::HOST.to_owned(), "/readyz".to_owned());
            let ready = Target { address: admin, host, path, tls: None };
            ports::wait_for(&ready, &mut peer.process, START_LIMIT)?;
        }
        self.peers.insert((kind, setup.name), peer);
        Ok(())
    }

    fn peer(&mut self, kind: Kind, scenario: &Scenario) -> anyhow::Result<&mut Peer> {
        self.peers
            .get_mut(&(kind, scenario.setup.name))
            .with_context(|| format!("{kind} was not set up for scenario {}", scenario.name))
    }

    /// Makes sure that the peer does the whole job before it is measured.
    fn verify(&mut self, kind: Kind, scenario: &Scenario) -> anyhow::Result<()> {
        let certificate = self.certificate.clone();
        let peer = self.peer(kind, scenario)?;
        let checked = if matches!(scenario.tool, Tool::H2load | Tool::Grpc) {
            drive::verify_http2(peer, scenario)
        } else {
            verify_answers(peer, scenario, &certificate)
        };
        checked.with_context(|| {
            format!("{kind}, scenario {}{}", scenario.name, peer.process.log_tail())
        })
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
        let driven = drive::drive(scenario, peer, &certificate, duration, &scratch)
            .with_context(|| format!("{kind}, scenario {}", scenario.name))?;
        let cpu = peer.process.cpu().saturating_sub(before);
        peer.process.check()?;
        let grown_kib = driven.memory_kib.map(|kib| kib.saturating_sub(peer.memory_at_start));
        Ok(Run { load: driven.load, cpu, grown_kib })
    }
}

/// Status, body and what else the scenario asks for, of the first, the middle and the last host.
fn verify_answers(
    peer: &Peer,
    scenario: &Scenario,
    certificate: &Certificate,
) -> anyhow::Result<()> {
    let hosts = match scenario.hosts() {
        Some(count) => [0, count / 2, count - 1].map(setup::host_name).to_vec(),
        None => vec![scenario.host.to_owned()],
    };
    for host in hosts {
        let target = drive::target(scenario, peer, &host, certificate);
        let answer = client::get_with(&target, scenario.headers, client::REQUEST_TIMEOUT)?;
        let expected = scenario.body_bytes.unwrap_or(answer.body.len());
        if answer.status != 200 || answer.body.len() != expected || answer.body.is_empty() {
            bail!(
                "{host}: status {} with {} bytes where 200 with {expected} is due",
                answer.status,
                answer.body.len()
            );
        }
        let text = format!("{}\n{}", answer.head, String::from_utf8_lossy(&answer.body));
        for held in scenario.holds {
            if !text.contains(held) {
                bail!("{host}: the answer does not hold `{held}`: {}", answer.head);
            }
        }
        if let Some(due) = scenario.else_status {
            let answer = client::get(&target, client::REQUEST_TIMEOUT)?;
            if answer.status != due {
                bail!("{host}: status {} where {due} is due: nothing is protected", answer.status);
            }
        }
    }
    Ok(())
}

fn start_echo(
    backends: &Backends,
    certificate: &Certificate,
    folder: &Path,
) -> anyhow::Result<Process> {
    let program = std::env::current_exe().context("cannot find my own program")?;
    let Backends { http, http_too, tls, grpc, auth } = backends;
    let bundle = certificate.bundle_file.to_string_lossy();
    #[rustfmt::skip]
    let arguments = [
        "echo", "--threads", "2", "--service", "echo", "--listen", &http.to_string(),
        "--also", &format!("{http_too}=echo"), "--also", &format!("{auth}=auth"),
        "--tls", &format!("{tls}=tls"), "--certificate", &bundle, "--grpc", &format!("{grpc}=grpc"),
    ].map(str::to_owned);
    let mut echo = Process::start("echo", &program, arguments, Some(&folder.join("echo.log")))?;
    let (host, path) = (scenario::HOST.to_owned(), "/".to_owned());
    let target = Target { address: *http, host, path, tls: None };
    ports::wait_for(&target, &mut echo, START_LIMIT)?;
    Ok(echo)
}

fn open_to_all(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot open {} to the peers", folder.display()))
}
