//! Many hosts in one gateway: `gatehouse-loadtest scale`.
//!
//! Every host has its own Service and EndpointSlice, and an Ingress or, in a second run, a Route. Measured: start until
//! `/readyz` says yes, memory, and the time from saving one file until the changed answer comes, for a changed path and
//! for a moved endpoint. All on loopback, in a temporary folder.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use gatehouse_testbed::{
    client::{self, Answer, Target},
    echo::{self, Listener},
    guard, manifests, ports,
    process::{self, Process},
};

/// Flags of `gatehouse-loadtest scale`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Hosts, each with an Ingress or a Route, a Service and an EndpointSlice.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    hosts: u32,
    /// Hosts per file.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    per_file: u32,
    /// Changes to measure of each sort.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    changes: u32,
    /// The gateway's program.
    #[arg(long, value_name = "PROGRAM", default_value = "target/release/gatehouse")]
    gatehouse: PathBuf,
    /// Folder for scale.md.
    #[arg(long, value_name = "DIR", default_value = "loadtest/results")]
    results: PathBuf,
}

/// Longest time until ready, and until a change is live.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What names the hosts.
#[derive(Clone, Copy)]
enum By {
    Ingress,
    Route,
}

/// The generated folder.
struct Site {
    folder: PathBuf,
    by: By,
    hosts: u32,
    per_file: u32,
    /// Where endpoints are, and where they move to.
    endpoints: [SocketAddr; 2],
}

/// What a gateway on a generated folder was measured at.
struct Figures {
    bytes: u64,
    ready_after: Duration,
    start_cpu: Duration,
    kib_when_ready: u64,
    kib_after_changes: u64,
    paths: Vec<Duration>,
    endpoints: Vec<Duration>,
}

/// Measures both kinds of objects, one after the other, and writes the result.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    process::catch_signals()?;
    let folder = guard::folder("gatehouse-scale-")?;
    let [first, second, http, admin] = ports::free()?;
    let listeners = [(first, "first"), (second, "second")].map(|(address, service)| Listener {
        address,
        service: service.to_owned(),
        endpoint: address.to_string(),
    });
    echo::spawn(&listeners, 1)?;
    let measure = |by: By, name: &str| {
        let folder = folder.path().join(name);
        let (hosts, per_file) = (options.hosts, options.per_file);
        let site = Site {
            folder: folder.join("manifests"),
            by,
            hosts,
            per_file,
            endpoints: [first, second],
        };
        site.measure(options, &folder, http, admin).with_context(|| name.to_owned())
    };
    let all = [measure(By::Ingress, "ingresses")?, measure(By::Route, "routes")?];
    let row = |what: &str, figure: &dyn Fn(&Figures) -> String| {
        let [ingresses, routes] = all.each_ref().map(figure);
        format!("| {what} | {ingresses} | {routes} |\n")
    };
    let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
    let after = format!("memory after {} changes", options.changes * 4);
    let rows = [
        row("size of the files", &|of| mib(of.bytes / 1024)),
        row("start until ready", &|of| format!("{:.0} ms", ms(of.ready_after))),
        row("CPU time of that", &|of| format!("{:.0} ms", ms(of.start_cpu))),
        row("memory when ready", &|of| mib(of.kib_when_ready)),
        row(&after, &|of| mib(of.kib_after_changes)),
        row("a saved path is live after", &|of| spread(&of.paths)),
        row("a saved endpoint is live after", &|of| spread(&of.endpoints)),
    ];
    let text = format!(
        "# Scale\n\n\
         {} hosts, each with a Service, an EndpointSlice, and an Ingress or a Route, in {} YAML files.\n\n\
         | | Ingress | Route |\n|---|--:|--:|\n{}\n\
         The last two are median and slowest of {} saves, from before the write until the changed answer \
         has arrived.\nMade by `make bench-scale`.\n",
        options.hosts,
        options.hosts.div_ceil(options.per_file),
        rows.concat(),
        options.changes,
    );
    fs::create_dir_all(&options.results)?;
    let file = options.results.join("scale.md");
    fs::write(&file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    println!("{text}");
    Ok(())
}

/// What is changed about a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Its Ingress or Route gets another path.
    Path,
    /// Its endpoint moves.
    Endpoint,
}

impl By {
    /// Status of requests that none of the objects is for: OpenShift's router says 503 where Routes name the host.
    fn no_rule(self) -> u16 {
        match self {
            Self::Ingress => 404,
            Self::Route => 503,
        }
    }
}

impl Site {
    /// Starts the gateway on the folder, and changes it.
    fn measure(
        &self,
        options: &Options,
        folder: &Path,
        http: SocketAddr,
        admin: SocketAddr,
    ) -> anyhow::Result<Figures> {
        let bytes = self.write()?;
        let (log, state) = (folder.join("log"), folder.join("state"));
        #[rustfmt::skip]
        let arguments = [
            "run", "--manifests", &self.folder.to_string_lossy(), "--state-dir", &state.to_string_lossy(),
            "--http", &http.to_string(), "--admin", &admin.to_string(), "--threads", "2", "--no-access-log",
        ].map(str::to_owned);
        let mut gateway = Process::start("gatehouse", &options.gatehouse, arguments, Some(&log))?;
        let (host, path) = ("localhost".to_owned(), "/readyz".to_owned());
        let ready = Target { address: admin, host, path, tls: None };
        let ready_after = ports::wait_for(&ready, &mut gateway, TIMEOUT)?;
        let start_cpu = gateway.cpu();
        self.verify(http)?;
        let kib_when_ready = gateway.memory_kib();
        let (mut paths, mut endpoints) = (Vec::new(), Vec::new());
        for number in 0..options.changes {
            process::check_stopping()?;
            // Another file each time, spread over the folder.
            let host = (number * 2_654_435 + 1) % self.hosts;
            paths.push(self.time_change(host, Change::Path, http, &mut gateway)?);
            endpoints.push(self.time_change(host, Change::Endpoint, http, &mut gateway)?);
        }
        let kib_after_changes = gateway.memory_kib();
        gateway.end();
        #[rustfmt::skip]
        let figures =
            Figures { bytes, ready_after, start_cpu, kib_when_ready, kib_after_changes, paths, endpoints };
        Ok(figures)
    }

    /// Writes all files; returns their total size in bytes.
    fn write(&self) -> anyhow::Result<u64> {
        fs::create_dir_all(&self.folder)?;
        fs::write(self.folder.join("class.yaml"), manifests::CLASS)?;
        let mut bytes = 0;
        for file in 0..self.hosts.div_ceil(self.per_file) {
            process::check_stopping()?;
            let text = self.file_text(file, None);
            bytes += text.len() as u64;
            fs::write(self.file(file), text)?;
        }
        Ok(bytes)
    }

    /// The first, the middle and the last host must answer before anything is measured.
    fn verify(&self, http: SocketAddr) -> anyhow::Result<()> {
        for host in [0, self.hosts / 2, self.hosts - 1] {
            let answer = get(&self.target(host, "/", http))?;
            if answer.status != 200 || !answer.body.starts_with(b"service=first ") {
                let body = String::from_utf8_lossy(&answer.body);
                bail!("{} answers {} {}", name(host), answer.status, body.trim());
            }
        }
        Ok(())
    }

    /// Saves a changed file and waits for the changed answer; then puts it back. Returns the time from
    /// before the save.
    fn time_change(
        &self,
        host: u32,
        change: Change,
        http: SocketAddr,
        gateway: &mut Process,
    ) -> anyhow::Result<Duration> {
        let file = host / self.per_file;
        let target = self.target(host, "/", http);
        let started = Instant::now();
        self.save(file, Some((host, change)))?;
        wait_until(&target, gateway, |answer| match change {
            Change::Path => answer.status == self.by.no_rule(),
            Change::Endpoint => answer.body.starts_with(b"service=second "),
        })?;
        let took = started.elapsed();
        if change == Change::Path {
            // The new path must be there with the same save.
            let new = get(&self.target(host, "/changed/x", http))?;
            if new.status != 200 {
                bail!("{} answers {} on its new path", name(host), new.status);
            }
        }
        self.save(file, None)?;
        wait_until(&target, gateway, |answer| {
            answer.status == 200 && answer.body.starts_with(b"service=first ")
        })?;
        Ok(took)
    }

    /// Replaces a file as most editors do: write another one, then rename.
    fn save(&self, file: u32, changed: Option<(u32, Change)>) -> anyhow::Result<()> {
        let scratch = self.folder.with_extension("saving");
        fs::write(&scratch, self.file_text(file, changed))?;
        fs::rename(&scratch, self.file(file))?;
        Ok(())
    }

    fn file(&self, number: u32) -> PathBuf {
        self.folder.join(format!("hosts-{number:06}.yaml"))
    }

    fn file_text(&self, file: u32, changed: Option<(u32, Change)>) -> String {
        let from = file * self.per_file;
        let to = from.saturating_add(self.per_file).min(self.hosts);
        let mut text = String::new();
        for host in from..to {
            let change = changed.filter(|(changed, _)| *changed == host).map(|(_, change)| change);
            let path = if change == Some(Change::Path) { "/changed" } else { "/" };
            let endpoint = self.endpoints[usize::from(change == Some(Change::Endpoint))];
            let object = format!("site-{host:06}");
            text += &manifests::service(&object, endpoint);
            text += &match self.by {
                By::Ingress => manifests::ingress(&object, &name(host), path, &object, None),
                By::Route => manifests::route(&object, &name(host), path, &object),
            };
        }
        text
    }

    fn target(&self, host: u32, path: &str, address: SocketAddr) -> Target {
        Target { address, host: name(host), path: path.to_owned(), tls: None }
    }
}

fn name(host: u32) -> String {
    format!("host-{host:06}.scale.test")
}

/// Asks until `good` says yes. The pause is short against what is measured.
fn wait_until(
    target: &Target,
    gateway: &mut Process,
    good: impl Fn(&Answer) -> bool,
) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        if good(&get(target)?) {
            return Ok(());
        }
        process::check_stopping()?;
        gateway.check()?;
        if started.elapsed() > TIMEOUT {
            bail!(
                "{} {}: the change does not come{}",
                target.host,
                target.path,
                gateway.log_tail()
            );
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

fn get(target: &Target) -> anyhow::Result<Answer> {
    client::get(target, client::REQUEST_TIMEOUT)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Median and slowest.
fn spread(times: &[Duration]) -> String {
    let mut times = times.to_owned();
    times.sort();
    match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(slowest)) => format!("{:.0} ms, {:.0} ms", ms(*median), ms(*slowest)),
        _ => "–".to_owned(),
    }
}
