//! What it costs a node to pass traffic on: `gatehouse-loadtest forwarding`.
//!
//! A client, a node and a server are network namespaces on a bridge ([`lan`](gatehouse_testbed::lan)). The node has a virtual
//! address and passes on what comes there: gatehouse in the process and by the kernel, beside HAProxy, nginx and rules of
//! nf_tables written by hand as kube-proxy writes them. The kernel's work belongs to no process, so what is counted is
//! the time that all processors were busy, client and server included; the same without a node in between (`direct`) is
//! the floor. On a machine that does anything else the figures mean nothing.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use gatehouse_testbed::{
    guard,
    lan::{Host, Lan},
    process::{self, Process, find_program},
};

/// The virtual address.
const VIP: &str = "10.77.0.200";
/// HTTP, and iperf3; servers and virtual address have the same ports.
const PORTS: [u16; 2] = [8000, 5201];
/// How long somebody may take to be ready.
const PATIENCE: Duration = Duration::from_secs(20);

/// Flags of `gatehouse-loadtest forwarding`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Ways to pass on, all by default.
    #[arg(long, value_name = "WAY,…", value_delimiter = ',')]
    only: Vec<Way>,
    /// Seconds of each load.
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Rounds, of which the middle one counts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// The gateway's program.
    #[arg(long, value_name = "PROGRAM", default_value = "target/release/gatehouse")]
    gatehouse: PathBuf,
    /// Folder for forwarding.md.
    #[arg(long, value_name = "DIR", default_value = "loadtest/results")]
    results: PathBuf,
}

/// By what the node passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// Not at all: the client asks the server.
    Direct,
    /// Rules of nf_tables as kube-proxy has them.
    ByHand,
    /// `gatehouse.io/forwarding: kernel`.
    Kernel,
    /// `gatehouse.io/forwarding: gateway`.
    Gateway,
    /// HAProxy, by TCP alone.
    Haproxy,
    /// nginx.
    Nginx,
}

impl Way {
    fn title(self) -> &'static str {
        match self {
            Self::Direct => "nobody between",
            Self::ByHand => "rules by hand",
            Self::Kernel => "gatehouse, kernel",
            Self::Gateway => "gatehouse, process",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
        }
    }
}

/// What is asked of it, and what its cost is counted by.
#[derive(Clone, Copy, Debug)]
enum Load {
    Connections,
    Bytes,
    Datagrams,
}

const LOADS: [(Load, &str); 3] = [
    (Load::Connections, "µs/connection"),
    (Load::Bytes, "ms/GB"),
    (Load::Datagrams, "µs/datagram of 64 bytes"),
];

/// What one of a load has cost.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
struct Cost {
    /// Of all processors.
    machine: f64,
    /// Of the program that passes on, if there is one.
    program: Option<f64>,
}

/// Runs everything and writes the result.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    process::catch_signals()?;
    let ways = if options.only.is_empty() { Way::value_variants() } else { &options.only };
    let beds = ways.iter().map(|way| Ok((*way, Bed::start(*way, &options.gatehouse)?)));
    let beds = beds.collect::<anyhow::Result<Vec<_>>>()?;
    let mut costs: Vec<[Vec<Cost>; LOADS.len()]> = vec![Default::default(); beds.len()];
    // In turns: what else the machine does meets them alike.
    for _ in 0..options.rounds {
        for (at, (load, unit)) in LOADS.into_iter().enumerate() {
            for ((way, bed), costs) in beds.iter().zip(&mut costs) {
                process::check_stopping()?;
                if matches!((way, load), (Way::Haproxy, Load::Datagrams)) {
                    continue;
                }
                let cost = bed.cost(load, options.seconds)?;
                println!("{:<20} {:>10.2} {unit}", way.title(), cost.machine);
                costs[at].push(cost);
            }
        }
    }
    let mut text = "# Passing on\n".to_owned();
    let of_machine = |cost: &Cost| Some(cost.machine);
    text += "\nTime that all processors of the machine were busy, client and server included.\n\n";
    text += &table(&beds, &costs, of_machine);
    text += "\nOf it, the time of the program that passes on; what the kernel does for it on its way in is not in it.\n\n";
    text += &table(&beds, &costs, |cost| cost.program);
    println!("\n{text}");
    fs::create_dir_all(&options.results)?;
    let file = options.results.join("forwarding.md");
    fs::write(&file, text).with_context(|| file.display().to_string())
}

/// The middle of all rounds.
fn table(
    beds: &[(Way, Bed)],
    costs: &[[Vec<Cost>; LOADS.len()]],
    of: impl Fn(&Cost) -> Option<f64>,
) -> String {
    let mut table = "| |".to_owned();
    for (_, unit) in LOADS {
        let _ = write!(table, " {unit} |");
    }
    table += "\n|---|--:|--:|--:|\n";
    for ((way, _), costs) in beds.iter().zip(costs) {
        let middles = costs.each_ref().map(|rounds| {
            let mut rounds: Vec<_> = rounds.iter().filter_map(&of).collect();
            rounds.sort_by(f64::total_cmp);
            rounds.get(rounds.len() / 2).copied()
        });
        if middles.iter().all(Option::is_none) {
            continue;
        }
        let _ = write!(table, "| {} |", way.title());
        for middle in middles {
            let _ = match middle {
                Some(middle) => write!(table, " {middle:.2} |"),
                None => write!(table, " – |"),
            };
        }
        table += "\n";
    }
    table
}

/// Hosts, servers, and the program that passes on.
struct Bed {
    client: Host,
    /// Where the client asks.
    target: String,
    /// Rules go with their host.
    _node: Host,
    passes_on: Option<Process>,
    _servers: [Process; 2],
    _folder: tempfile::TempDir,
    _lan: Lan,
}

impl Bed {
    fn start(way: Way, gatehouse: &Path) -> anyhow::Result<Self> {
        let (lan, [client, node, server]) = Lan::new(["client", "node", "server"])?;
        let folder = guard::folder("forwarding-")?;
        let own = std::env::current_exe()?;
        let ip = server.v4().to_string();
        let at = format!("{ip}:{}", PORTS[0]);
        let servers = [
            spawn(&server, &own, &["echo", "--listen", &at, "--service", "s"], folder.path())?,
            spawn(&server, Path::new("iperf3"), &["-s", "-B", &ip], folder.path())?,
        ];
        let passes_on = match way {
            Way::Direct => None,
            Way::ByHand => {
                by_hand(&node, &ip)?;
                None
            }
            Way::Kernel | Way::Gateway => Some(gateway(way, &node, &ip, gatehouse, folder.path())?),
            Way::Haproxy | Way::Nginx => Some(proxy(way, &node, &ip, folder.path())?),
        };
        let target = if way == Way::Direct { ip } else { VIP.to_owned() };
        let bed = Self {
            client,
            target,
            _node: node,
            passes_on,
            _servers: servers,
            _folder: folder,
            _lan: lan,
        };
        bed.wait()?;
        Ok(bed)
    }

    fn wait(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let url = format!("http://{}:{}/", self.target, PORTS[0]);
        loop {
            let http = self.client.output(&["curl", "-fsS", "-m", "2", "-o", "/dev/null", &url])?;
            let bytes = self.iperf(&["-n", "1K"]);
            match (http, bytes) {
                ((true, _), Ok(_)) => return Ok(()),
                ((_, text), bytes) if begun.elapsed() > PATIENCE => {
                    bail!("{} does not answer: {text} {bytes:?}", self.target)
                }
                _ => thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    fn iperf(&self, words: &[&str]) -> anyhow::Result<serde_json::Value> {
        let port = PORTS[1].to_string();
        let words = [&["iperf3", "-c", &self.target, "-p", &port, "-J"][..], words].concat();
        Ok(serde_json::from_str(&self.client.run(&words)?)?)
    }

    /// What one of what is counted costs, in its unit.
    fn cost(&self, load: Load, seconds: u32) -> anyhow::Result<Cost> {
        let time = seconds.to_string();
        let program = || self.passes_on.as_ref().map(Process::cpu);
        let before = (busy()?, program());
        let count = match load {
            Load::Connections => {
                let url = format!("http://{}:{}/", self.target, PORTS[0]);
                let (closes, time) = ("Connection: close", format!("{seconds}s"));
                let report = self
                    .client
                    .run(&["wrk", "-t", "1", "-c", "16", "-d", &time, "-H", closes, &url])?;
                let words = report.split_whitespace().collect::<Vec<_>>();
                let at = words.iter().position(|word| *word == "requests");
                let count = at.and_then(|at| words.get(at.checked_sub(1)?)?.parse::<f64>().ok());
                count.with_context(|| format!("no count of requests: {report}"))? / 1e6
            }
            Load::Bytes => {
                let report = self.iperf(&["-t", &time])?;
                let bytes = report["end"]["sum_received"]["bytes"].as_f64();
                bytes.context("iperf3 counts no bytes")? / 1e9 / 1e3
            }
            Load::Datagrams => {
                // As many as the way takes would be as many as are lost.
                let report = self.iperf(&["-u", "-l", "64", "-b", "20M", "-t", &time])?;
                let sum = &report["end"]["sum"];
                let sent = sum["packets"].as_f64().context("iperf3 counts no datagrams")?;
                (sent - sum["lost_packets"].as_f64().unwrap_or_default()) / 1e6
            }
        };
        if count <= 0.0 {
            bail!("nothing came through at {}", self.target);
        }
        let per_one = |time: Duration| time.as_secs_f64() / count;
        let program = program().zip(before.1).map(|(after, before)| per_one(after - before));
        Ok(Cost { machine: per_one(busy()? - before.0), program })
    }
}

/// The time that the processors of this machine were not idle so far (proc(5), `/proc/stat`).
fn busy() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let ticks = line.split_whitespace().skip(1).map(|word| word.parse::<u64>().unwrap_or_default());
    // User, nice, system, then idle and waiting for IO, interrupts and what the host has taken; the rest is in user.
    let busy = ticks.enumerate().filter(|(at, _)| !matches!(at, 3 | 4 | 8..));
    let ticks: u64 = busy.map(|(_, ticks)| ticks).sum();
    // USER_HZ is 100 on every architecture that we ship for.
    Ok(Duration::from_millis(ticks * 10))
}

fn spawn(host: &Host, program: &Path, words: &[&str], folder: &Path) -> anyhow::Result<Process> {
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut command = host.command(&program.display().to_string());
    command.args(words);
    Process::spawn(&name, command, Some(&folder.join(format!("{name}-{}.log", words.len()))))
}

fn has_address(node: &Host) -> anyhow::Result<()> {
    node.run(&["ip", "address", "add", &format!("{VIP}/32"), "dev", "eth0"]).map(drop)
}

/// One Service of one endpoint, as kube-proxy writes it: a map of Services, a chain for each, another for its endpoint.
fn by_hand(node: &Host, server: &str) -> anyhow::Result<()> {
    has_address(node)?;
    node.run(&["sysctl", "-qw", "net.ipv4.ip_forward=1"])?;
    let mut elements = Vec::new();
    let mut chains = String::new();
    for (protocol, port) in [("tcp", PORTS[0]), ("tcp", PORTS[1]), ("udp", PORTS[1])] {
        elements.push(format!("{VIP} . {protocol} . {port} : goto service-{protocol}-{port}"));
        let _ = write!(
            chains,
            "chain endpoint-{protocol}-{port} {{\n meta l4proto {protocol} dnat to {server}:{port}\n}}\n\
             chain service-{protocol}-{port} {{\n ip daddr {VIP} meta mark set meta mark or 0x4000\n \
             numgen random mod 1 vmap {{ 0 : goto endpoint-{protocol}-{port} }}\n}}\n"
        );
    }
    let rules = format!(
        "table ip by-hand {{\n{chains}\
         map services {{\n type ipv4_addr . inet_proto . inet_service : verdict\n elements = {{ {} }}\n}}\n\
         chain services {{\n ip daddr . meta l4proto . th dport vmap @services\n}}\n\
         chain prerouting {{\n type nat hook prerouting priority dstnat\n jump services\n}}\n\
         chain postrouting {{\n type nat hook postrouting priority srcnat\n meta mark & 0x4000 == 0 return\n \
         masquerade fully-random\n}}\n}}\n",
        elements.join(", ")
    );
    node.feed(&["nft", "-f", "-"], &rules)
}

fn gateway(
    way: Way,
    node: &Host,
    server: &str,
    program: &Path,
    folder: &Path,
) -> anyhow::Result<Process> {
    let mode = if way == Way::Kernel { "kernel" } else { "gateway" };
    let [http, iperf] = PORTS;
    let ports = format!(
        "[{{name: h, port: {http}}}, {{name: t, port: {iperf}}}, {{name: u, port: {iperf}, protocol: UDP}}]"
    );
    let text = format!(
        "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\n\
         metadata: {{name: pool, namespace: metallb-system}}\nspec: {{addresses: [{VIP}/32]}}\n---\n\
         apiVersion: metallb.io/v1beta1\nkind: L2Advertisement\n\
         metadata: {{name: l2, namespace: metallb-system}}\nspec: {{ipAddressPools: [pool]}}\n---\n\
         apiVersion: v1\nkind: Service\n\
         metadata: {{name: s, namespace: default, annotations: {{gatehouse.io/forwarding: {mode}}}}}\n\
         spec: {{type: LoadBalancer, ports: {ports}}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: s-1, namespace: default, labels: {{kubernetes.io/service-name: s}}}}\n\
         addressType: IPv4\nports: {ports}\nendpoints: [{{addresses: [{server}]}}]\n"
    );
    let (manifests, state) = (folder.join("manifests"), folder.join("state"));
    fs::create_dir_all(&manifests)?;
    fs::write(manifests.join("s.yaml"), text)?;
    let program = fs::canonicalize(program).with_context(|| program.display().to_string())?;
    let [manifests, state] = [manifests, state].map(|path| path.display().to_string());
    spawn(node, &program, &["run", "--manifests", &manifests, "--state-dir", &state], folder)
}

fn proxy(way: Way, node: &Host, server: &str, folder: &Path) -> anyhow::Result<Process> {
    has_address(node)?;
    let [http, iperf] = PORTS;
    let (name, flag, text) = match way {
        Way::Haproxy => {
            let listen = |name: &str, port: u16| {
                format!(
                    "listen {name}\n  bind {VIP}:{port} backlog 4096\n  server s {server}:{port}\n"
                )
            };
            let text = format!(
                "global\n  maxconn 6000\n  nbthread 2\ndefaults\n  mode tcp\n  option splice-auto\n  \
                 timeout connect 5s\n  timeout client 65s\n  timeout server 65s\n{}{}",
                listen("h", http),
                listen("t", iperf)
            );
            ("haproxy", "-f", text)
        }
        _ => {
            let serve = |port: u16, udp: &str| {
                format!(
                    "  server {{ listen {VIP}:{port}{udp} reuseport; proxy_pass {server}:{port}; }}\n"
                )
            };
            let text = format!(
                "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\nworker_processes 2;\n\
                 pid {}/nginx.pid;\nerror_log stderr;\nevents {{ worker_connections 8192; }}\n\
                 stream {{\n  access_log off;\n{}{}{}}}\n",
                folder.display(),
                serve(http, ""),
                serve(iperf, ""),
                serve(iperf, " udp")
            );
            ("nginx", "-c", text)
        }
    };
    let file = folder.join(name);
    fs::write(&file, text)?;
    let program = find_program(name).with_context(|| format!("{name} is not installed"))?;
    spawn(node, &program, &[flag, &file.display().to_string()], folder)
}
