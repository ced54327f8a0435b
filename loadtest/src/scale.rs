//! Many hosts in one gateway: `gatehouse-loadtest scale`.
//!
//! Every host has its own Ingress, Service and EndpointSlice. Measured: start until `/readyz` says yes,
//! memory, and the time from saving one file until the changed answer comes, for a changed path and for
//! a moved endpoint. All on loopback, in a temporary folder.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::PathBuf,
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
    /// Hosts, each with an Ingress, a Service and an EndpointSlice.
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

/// The generated folder.
struct Site {
    folder: PathBuf,
    hosts: u32,
    per_file: u32,
    /// Where endpoints are, and where they move to.
    endpoints: [SocketAddr; 2],
}

/// Starts the gateway on the generated folder, changes it and writes the result.
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
    let site = Site {
        folder: folder.path().join("manifests"),
        hosts: options.hosts,
        per_file: options.per_file,
        endpoints: [first, second],
    };
    let bytes = site.write()?;

    let log = folder.path().join("log");
    let state = folder.path().join("state");
    #[rustfmt::skip]
    let arguments = [
        "run", "--manifests", &site.folder.to_string_lossy(), "--state-dir", &state.to_string_lossy(),
        "--http", &http.to_string(), "--admin", &admin.to_string(), "--threads", "2", "--no-access-log",
    ].map(str::to_owned);
    let mut gateway = Process::start("gatehouse", &options.gatehouse, arguments, Some(&log))?;
    let ready = Target {
        address: admin,
        host: "localhost".to_owned(),
        path: "/readyz".to_owned(),
        tls: None,
    };
    let ready_after = ports::wait_for(&ready, &mut gateway, TIMEOUT)?;
    let start_cpu = gateway.cpu();
    site.verify(http)?;
    let memory_at_start = gateway.memory_kib();

    let mut paths = Vec::new();
    let mut endpoints = Vec::new();
    for number in 0..options.changes {
        process::check_stopping()?;
        // Another file each time, spread over the folder.
        let host = (number * 2_654_435 + 1) % site.hosts;
        paths.push(site.time_change(host, Change::Path, http, &mut gateway)?);
        endpoints.push(site.time_change(host, Change::Endpoint, http, &mut gateway)?);
    }
    let mut text = String::from("# Scale\n\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{} hosts, each with an Ingress, a Service and an EndpointSlice, in {} YAML files ({:.1} MiB).\n\n\
         | what | figure |\n|---|--:|\n\
         | start until ready | {:.0} ms |\n\
         | CPU time of that | {:.0} ms |\n\
         | memory when ready | {:.1} MiB |\n\
         | memory after {} changes | {:.1} MiB |\n\
         | a saved path is live after | {} |\n\
         | a saved endpoint is live after | {} |\n\n\
         The last two are median and slowest of {} saves, from before the write until the changed answer \
         has arrived.\nMade by `make bench-scale`.",
        options.hosts,
        options.hosts.div_ceil(options.per_file),
        bytes as f64 / f64::from(1 << 20),
        ms(ready_after),
        ms(start_cpu),
        memory_at_start as f64 / 1024.0,
        options.changes * 4,
        gateway.memory_kib() as f64 / 1024.0,
        spread(&mut paths),
        spread(&mut endpoints),
        options.changes,
    );
    gateway.end();
    fs::create_dir_all(&options.results)?;
    let file = options.results.join("scale.md");
    fs::write(&file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    println!("{text}");
    Ok(())
}

/// What is changed about a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Its Ingress gets another path.
    Path,
    /// Its endpoint moves.
    Endpoint,
}

impl Site {
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
            Change::Path => answer.status == 404,
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
            text += &manifests::ingress(&object, &name(host), path, &object, None);
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
fn spread(times: &mut [Duration]) -> String {
    times.sort();
    match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(slowest)) => format!("{:.0} ms, {:.0} ms", ms(*median), ms(*slowest)),
        _ => "–".to_owned(),
    }
}
