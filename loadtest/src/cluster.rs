//! A large cluster and one gateway: `gatehouse-loadtest cluster`.
//!
//! A real API server holds many Ingresses and Routes. Measured: start until `/readyz` says yes, memory, how
//! long statuses take, how soon Services of type LoadBalancer have addresses, and the time from a change
//! until traffic shows it while many are made. What is right is asserted: every host answers, every
//! status is written, no address is given twice, and requests to the API server are counted and bounded.
//! Everything is on one host, a network namespace: a cluster may not name loopback endpoints.

mod api;
mod churn;
mod objects;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use gatehouse_testbed::{
    client::{self, Target},
    cluster::Cluster,
    echo::{self, Listener},
    gatehouse::client::KeepAlive,
    guard,
    lan::{Host, Lan},
    ports,
    process::{self, Process},
};

use api::Api;
use objects::{PUBLISHED, Site};

/// Flags of `gatehouse-loadtest cluster`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Ingresses, each with a host of its own.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    ingresses: u32,
    /// Routes, each with a host of its own.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    routes: u32,
    /// Services that they lead to, each with an EndpointSlice.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    services: u32,
    /// Services of type LoadBalancer that are created at once.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=4000))]
    balancers: u32,
    /// Changes in one second.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Changes to measure.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    changes: u32,
    /// The gateway's program.
    #[arg(long, value_name = "PROGRAM", default_value = "target/release/gatehouse")]
    gatehouse: PathBuf,
    /// Folder for cluster.md.
    #[arg(long, value_name = "DIR", default_value = "loadtest/results")]
    results: PathBuf,
}

/// Longest time for any one thing.
const TIMEOUT: Duration = Duration::from_secs(300);
/// Where the gateway listens on the host.
const PORTS: [u16; 2] = [8080, 9090];

/// One gateway on a cluster.
struct Bed {
    site: Site,
    api: Api,
    gateway: Process,
    http: SocketAddr,
    admin: SocketAddr,
}

/// Fills a cluster, starts the gateway and writes the result.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    process::catch_signals()?;
    let (_lan, [host]) = Lan::new(["node"])?;
    host.move_in()?;
    let cluster = Cluster::start()?;
    let [first, second] = backends(&host)?;
    let site = Site {
        ingresses: options.ingresses,
        routes: options.routes,
        services: options.services,
        endpoints: [first, second],
    };
    let api = Api::connect(&cluster.kubeconfig())?;
    let begun = Instant::now();
    cluster.apply(&definitions(&options.gatehouse)?)?;
    cluster.kubectl(&["wait", "--for=condition=established", "crd", "--all", "--timeout=60s"])?;
    api.create(site.foundation())?;
    api.create(site.objects())?;
    api.publish()?;
    println!("{} objects created in {:.1?}", site.count(), begun.elapsed());

    let mut text = String::from("# A large cluster\n\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{} Ingresses, {} Routes and {} Services with an EndpointSlice each in {} namespaces of a real API \
         server; gateway, API server, etcd, backends and clients share one machine.\n\n\
         | what | figure |\n|---|--:|",
        options.ingresses,
        options.routes,
        options.services,
        site.namespaces(),
    );
    let mut row = |what: &str, figure: String| {
        println!("{what}: {figure}");
        let _ = writeln!(text, "| {what} | {figure} |");
    };
    let folder = guard::folder("gatehouse-cluster-")?;
    let (mut bed, ready) = Bed::start(site, api, &host, &cluster, options, folder.path())?;
    row("start until ready", seconds(ready));
    row("CPU time of that", seconds(bed.gateway.cpu()));
    row("memory when ready", mebibytes(bed.gateway.memory_kib()));
    bed.verify()?;
    let told = bed.wait_for_statuses()?;
    row("statuses of all of them are written after", seconds(told));
    row("memory then", mebibytes(bed.gateway.memory_kib()));
    let (last, all) = bed.balancers(options.balancers)?;
    row(&format!("{} Services of type LoadBalancer created in", options.balancers), seconds(last));
    row("all of them have addresses after", seconds(all));
    let cpu = bed.gateway.cpu();
    let mut times = churn::run(&bed.site, &bed.api, bed.http, options.rate, options.changes)?;
    let per_change = (bed.gateway.cpu() - cpu) / options.changes;
    row(
        &format!(
            "a change shows in traffic, {} a second: median, 99 of 100, slowest",
            options.rate
        ),
        spread(&mut times.shown),
    );
    row("of that the API server took to answer", spread(&mut times.answered));
    row("CPU time per change", format!("{:.1} ms", per_change.as_secs_f64() * 1e3));
    row("memory then", mebibytes(bed.gateway.memory_kib()));
    row("peak of resident memory", mebibytes(peak(&bed.gateway)?));
    let requests = bed.requests()?;
    let counts: Vec<_> = requests.iter().map(|(verb, count)| format!("{verb} {count}")).collect();
    row("requests to the API server", counts.join(", "));
    bed.assert_bounded(&requests, options)?;
    bed.gateway.end();

    text += "\nMade by `make bench-cluster`.\n";
    fs::create_dir_all(&options.results)?;
    let file = options.results.join("cluster.md");
    fs::write(&file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(())
}

impl Bed {
    /// Starts the gateway; also says how long it took until it was ready.
    fn start(
        site: Site,
        api: Api,
        host: &Host,
        cluster: &Cluster,
        options: &Options,
        folder: &Path,
    ) -> anyhow::Result<(Self, Duration)> {
        let [http, admin] = PORTS.map(|port| SocketAddr::from((host.v4(), port)));
        #[rustfmt::skip]
        let arguments = [
            "run", "--kubeconfig", &cluster.kubeconfig().to_string_lossy(), "--node", "node",
            "--state-dir", &folder.join("state").to_string_lossy(), "--publish-service", PUBLISHED,
            "--http", &http.to_string(), "--admin", &admin.to_string(), "--threads", "2", "--no-access-log",
            "--lease-namespace", "default",
        ].map(str::to_owned);
        let log = folder.join("log");
        let mut gateway = Process::start("gatehouse", &options.gatehouse, arguments, Some(&log))?;
        let ready = ports::wait_for(&page(admin, "/readyz"), &mut gateway, TIMEOUT)?;
        Ok((Self { site, api, gateway, http, admin }, ready))
    }

    /// Every host answers.
    fn verify(&self) -> anyhow::Result<()> {
        let mut kept = KeepAlive::to(self.http);
        for host in self.site.hosts() {
            process::check_stopping()?;
            let answer = kept.get(&host, "/")?;
            let body = answer.text();
            ensure!(answer.status == 200, "{host} answers {} {}", answer.status, body.trim());
        }
        Ok(())
    }

    /// Waits until every Ingress and Route says where it is served; returns how long it took from now.
    fn wait_for_statuses(&mut self) -> anyhow::Result<Duration> {
        let all = self.site.ingresses + self.site.routes;
        self.wait("statuses", |bed| {
            // A look at all of them is dear, so the count of writes says when it is worth one.
            let writes = bed.requests()?.get("patch").copied().unwrap_or(0);
            Ok(writes >= u64::from(all) && bed.api.told()? == all as usize)
        })
    }

    /// Creates Services of type LoadBalancer; returns when the last was created, and when all had an address.
    fn balancers(&mut self, count: u32) -> anyhow::Result<(Duration, Duration)> {
        let begun = Instant::now();
        self.api.create((0..count).map(objects::balancer))?;
        let created = begun.elapsed();
        let mut found = BTreeMap::new();
        let after = self.wait("addresses", |bed| {
            found = bed.api.addresses()?;
            Ok(found.len() == count as usize)
        })?;
        let distinct: BTreeSet<&String> = found.values().flatten().collect();
        ensure!(distinct.len() == count as usize, "{} addresses for {count}", distinct.len());
        Ok((created, created + after))
    }

    fn wait(
        &mut self,
        what: &str,
        mut is_so: impl FnMut(&mut Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        while !is_so(self)? {
            process::check_stopping()?;
            self.gateway.check()?;
            if begun.elapsed() > TIMEOUT {
                bail!("not within {TIMEOUT:?}: {what}{}", self.gateway.log_tail());
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(begun.elapsed())
    }

    /// Requests to the API server by verb, as the gateway counts them.
    fn requests(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let answer = client::get(&page(self.admin, "/metrics"), client::REQUEST_TIMEOUT)?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let mut counts = BTreeMap::new();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("gatehouse_api_requests_total{verb=\"") else {
                continue;
            };
            let (Some((verb, _)), Some((_, count))) = (rest.split_once('"'), rest.rsplit_once(' '))
            else {
                continue;
            };
            *counts.entry(verb.to_owned()).or_default() += count.parse().unwrap_or(0);
        }
        Ok(counts)
    }

    /// One write for each status, one Event for each address, and little else.
    fn assert_bounded(
        &self,
        requests: &BTreeMap<String, u64>,
        options: &Options,
    ) -> anyhow::Result<()> {
        let statuses = options.ingresses + options.routes + options.balancers;
        let of = |verb: &str| requests.get(verb).copied().unwrap_or(0);
        // The pool's usage, and what was asked again, comes on top.
        let most = u64::from(statuses) * 11 / 10 + 200;
        ensure!(of("patch") <= most, "{} patches for {statuses} statuses", of("patch"));
        let reads = of("list") + of("get") + of("watch");
        ensure!(reads <= 300, "{reads} reads");
        Ok(())
    }
}

/// Two backends, known as `first` and `second`.
fn backends(host: &Host) -> anyhow::Result<[SocketAddr; 2]> {
    let addresses = [7001, 7002].map(|port| SocketAddr::from((host.v4(), port)));
    let listener = |address: SocketAddr, service: &str| Listener {
        address,
        service: service.to_owned(),
        endpoint: address.to_string(),
    };
    echo::spawn(&[listener(addresses[0], "first"), listener(addresses[1], "second")], 1)?;
    Ok(addresses)
}

/// The resource definitions that the gateway brings with it, without the policies.
fn definitions(program: &Path) -> anyhow::Result<String> {
    let output = Command::new(program).arg("crds").output();
    let output = output.with_context(|| format!("cannot start {}", program.display()))?;
    let text = String::from_utf8(output.stdout)?;
    let kept = text.split("\n---\n").filter(|it| it.contains("kind: CustomResourceDefinition"));
    Ok(kept.collect::<Vec<_>>().join("\n---\n"))
}

fn page(admin: SocketAddr, path: &str) -> Target {
    Target {
        address: admin,
        host: Ipv4Addr::LOCALHOST.to_string(),
        path: path.to_owned(),
        tls: None,
    }
}

/// Most memory that the process has had at one time, in KiB.
fn peak(process: &Process) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).context("the kernel does not say VmHWM")
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn mebibytes(kib: u64) -> String {
    format!("{:.0} MiB", kib as f64 / 1024.0)
}

/// Median, 99th percentile and slowest.
fn spread(times: &mut [Duration]) -> String {
    times.sort();
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len() - 1));
    let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
    format!("{:.0}, {:.0}, {:.0} ms", ms(at(50)), ms(at(99)), ms(times.last()))
}
