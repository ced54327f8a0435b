//! Runs a load generator against a peer and reads what it says.
//!
//! wrk and h2load are started here; they end by themselves after the given time and are ended when they
//! do not. Their output formats are known here and nowhere else.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use gatehouse_testbed::{
    certificate::Certificate,
    client::{self, Load, Target},
    process,
};
use serde::Deserialize;

use super::{
    peer::Peer,
    scenario::{Scenario, Spread, Tool},
    setup::host_name,
};

/// Streams at a time on one HTTP/2 connection.
const STREAMS: &str = "10";

/// How much longer than asked for a load generator may run.
const OVERTIME: Duration = Duration::from_secs(15);

/// What a load run did, and the memory of the peer while its connections were open, if that is what counts.
#[derive(Debug)]
pub(super) struct Driven {
    pub(super) load: Load,
    pub(super) memory_kib: Option<u64>,
}

/// Puts the load of `scenario` on `peer` for `duration`. `scratch` takes temporary files.
pub(super) fn drive(
    scenario: &Scenario,
    peer: &Peer,
    certificate: &Certificate,
    duration: Duration,
    scratch: &Path,
) -> anyhow::Result<Driven> {
    let target = target(scenario, peer, scenario.host, certificate);
    let load = match scenario.tool {
        Tool::Wrk => wrk(scenario, &target, duration, scratch)?,
        Tool::H2load | Tool::Grpc => h2load(scenario, &target, duration, scratch)?,
        Tool::ConnectStorm => client::connect_storm(&target, scenario.connections, duration)?,
        Tool::Idle => return idle(scenario, peer, &target),
    };
    Ok(Driven { load, memory_kib: None })
}

/// What is asked for of `host`.
pub(super) fn target(
    scenario: &Scenario,
    peer: &Peer,
    host: &str,
    certificate: &Certificate,
) -> Target {
    Target {
        address: if scenario.tls { peer.https } else { peer.http },
        host: host.to_owned(),
        path: scenario.path.to_owned(),
        tls: scenario.tls.then(|| certificate.clone()),
    }
}

/// Makes sure that the peer speaks HTTP/2 and answers well; calls of gRPC have to end well, too.
pub(super) fn verify_http2(peer: &Peer, scenario: &Scenario) -> anyhow::Result<()> {
    let address = peer.https;
    let message = tempfile::NamedTempFile::new()?;
    let mut command = h2load_command(address, scenario, message.path())?;
    let text = finish(command.args(["-n", "10", "-c", "1"]), Duration::ZERO)?;
    if !text.contains("Application protocol: h2") {
        bail!("{address} does not speak HTTP/2 over TLS: {}", text.trim());
    }
    let good = h2load_good(&text, scenario)?;
    if good != 10 {
        bail!("{address} answered {good} of 10 requests over HTTP/2 well");
    }
    if scenario.tool == Tool::Grpc {
        let url = format!("https://{}:{}{}", scenario.host, address.port(), scenario.path);
        let to = format!("{}:{}:{}", scenario.host, address.port(), address.ip());
        let mut command = Command::new("curl");
        command.args([
            "-sk",
            "--http2",
            "--stderr",
            "-",
            "-v",
            "-o",
            "/dev/null",
            "--resolve",
            &to,
        ]);
        command.args(GRPC_FIELDS.map(|field| ["-H", field]).as_flattened());
        command.arg("--data-binary").arg(format!("@{}", message.path().display())).arg(url);
        let text = finish(&mut command, Duration::ZERO)?;
        if !text.contains("grpc-status: 0") {
            bail!("{address}: a call does not end with `grpc-status: 0`: {text}");
        }
    }
    Ok(())
}

/// Opens the connections, each with one answer, and looks at the peer's memory while they are open.
fn idle(scenario: &Scenario, peer: &Peer, target: &Target) -> anyhow::Result<Driven> {
    let started = Instant::now();
    let mut open = Vec::with_capacity(scenario.connections);
    for _ in 0..scenario.connections {
        process::check_stopping()?;
        open.push(client::open(target, client::REQUEST_TIMEOUT)?);
    }
    let memory_kib = Some(peer.process.memory_kib());
    let load = Load { good: open.len() as u64, elapsed: started.elapsed(), ..Load::default() };
    Ok(Driven { load, memory_kib })
}

/// What [`wrk_script`] prints at the end. Latencies in microseconds.
#[derive(Debug, Deserialize)]
struct WrkSummary {
    requests: u64,
    duration_us: u64,
    bad: u64,
    p50_us: f64,
    p99_us: f64,
}

fn wrk(
    scenario: &Scenario,
    target: &Target,
    duration: Duration,
    scratch: &Path,
) -> anyhow::Result<Load> {
    let script = scratch.join("wrk.lua");
    fs::write(&script, wrk_script(scenario, target))?;
    let scheme = if scenario.tls { "https" } else { "http" };
    let url = format!("{scheme}://{}:{}{}", scenario.host, target.address.port(), scenario.path);
    let mut command = Command::new("wrk");
    command.args(["-t1", "--timeout", "10s"]);
    command.arg(format!("-c{}", scenario.connections)).arg(format!("-d{}s", duration.as_secs()));
    for (name, value) in scenario.headers {
        command.arg("-H").arg(format!("{name}: {value}"));
    }
    if scenario.session {
        command.arg("-H").arg(format!("Cookie: {}", session(target)?));
    }
    command.arg("-s").arg(&script).arg(url);
    let text = finish(&mut command, duration)?;
    let line = text.lines().find_map(|line| line.strip_prefix("SUMMARY "));
    let line = line.with_context(|| format!("wrk said no summary: {}", text.trim()))?;
    let summary: WrkSummary =
        serde_json::from_str(line).with_context(|| format!("wrk's summary `{line}`"))?;
    let micros = |value: f64| Duration::from_secs_f64(value.max(0.0) / 1e6);
    Ok(Load {
        good: summary.requests.saturating_sub(summary.bad),
        bad: summary.bad,
        elapsed: Duration::from_micros(summary.duration_us),
        p50: micros(summary.p50_us),
        p99: micros(summary.p99_us),
    })
}

/// The cookie that a first answer sets, as `name=value`.
fn session(target: &Target) -> anyhow::Result<String> {
    let head = client::get(target, client::REQUEST_TIMEOUT)?.head;
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: "));
    let cookie = cookie.and_then(|cookie| cookie.split(';').next());
    Ok(cookie.with_context(|| format!("no cookie is set: {head}"))?.to_owned())
}

/// A summary in JSON, and the address for a name that resolves nowhere, so that it can be the server name of
/// TLS; and, for many hosts, a request per host, prepared beforehand and taken in a scattered order.
/// Redirects do not count as errors for wrk; verification has excluded them.
fn wrk_script(scenario: &Scenario, target: &Target) -> String {
    let mut script = format!(
        r#"
local lookup = wrk.lookup
wrk.lookup = function(_, service) return lookup('{}', service) end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'SUMMARY {{"requests":%d,"duration_us":%d,"bad":%d,"p50_us":%f,"p99_us":%f}}\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"#,
        target.address.ip()
    );
    let Some(count) = scenario.hosts() else { return script };
    let hosts: Vec<String> = (0..count).map(|number| format!("'{}'", host_name(number))).collect();
    script += &format!("local hosts = {{ {} }}\n", hosts.join(", "));
    // 617 is prime to every count of hosts in use.
    script += &match scenario.spread {
        Spread::Urls => "local at = 0
request = function()
  at = at + 1
  return string.format('GET /items/%d HTTP/1.1\\r\\nHost: %s\\r\\n\\r\\n', at, hosts[at * 617 % #hosts + 1])
end
"
        .to_owned(),
        Spread::Hosts | Spread::Same => format!(
            r#"
local requests, at = {{}}, 0
init = function(args)
  for i, host in ipairs(hosts) do
    requests[i] = wrk.format('GET', '{}', {{ Host = host }})
  end
end
request = function()
  at = (at + 617) % #requests
  return requests[at + 1]
end
"#,
            scenario.path
        ),
    };
    script
}

/// Fields of every call of gRPC.
const GRPC_FIELDS: [&str; 2] = ["content-type: application/grpc", "te: trailers"];

/// `message`: a file for what a call sends.
fn h2load_command(
    address: SocketAddr,
    scenario: &Scenario,
    message: &Path,
) -> anyhow::Result<Command> {
    let mut command = Command::new("h2load");
    command.args(["-t", "1", "-m", STREAMS]);
    command.arg(format!("--connect-to={address}"));
    if scenario.tool == Tool::Grpc {
        // Not compressed, 64 octets long.
        fs::write(message, [&[0, 0, 0, 0, 64][..], &[b'x'; 64]].concat())?;
        command.args(GRPC_FIELDS.map(|field| ["-H", field]).as_flattened());
        command.arg("-d").arg(message);
    }
    command.arg(format!("https://{}:{}{}", scenario.host, address.port(), scenario.path));
    Ok(command)
}

fn h2load(
    scenario: &Scenario,
    target: &Target,
    duration: Duration,
    scratch: &Path,
) -> anyhow::Result<Load> {
    let log = scratch.join("h2load.log");
    // h2load appends to a log that is there.
    let _ = fs::remove_file(&log);
    let mut command = h2load_command(target.address, scenario, &scratch.join("h2load.message"))?;
    command.args(["-c", &scenario.connections.to_string()]);
    command.args(["-D", &duration.as_secs().to_string()]);
    command.arg(format!("--log-file={}", log.display()));
    let text = finish(&mut command, duration)?;
    let good = h2load_good(&text, scenario)?;
    let all = h2load_number(&text, "requests: ", " total").unwrap_or(good);
    // Requests still on their way at the end are started but neither good nor bad.
    let done = h2load_number(&text, "started, ", " done").unwrap_or(all);
    let mut latencies = h2load_latencies(&log)?;
    Ok(Load {
        good,
        bad: done.saturating_sub(good),
        elapsed: duration,
        p50: client::percentile(&mut latencies, 50),
        p99: client::percentile(&mut latencies, 99),
    })
}

/// Requests that succeeded. An error when their bodies are shorter than they are to be: a call that fails has
/// a status of 200, too.
fn h2load_good(text: &str, scenario: &Scenario) -> anyhow::Result<u64> {
    let good = h2load_succeeded(text)?;
    let (_, data) = text.split_once("space savings").unwrap_or_default();
    let data = h2load_number(data, "(", ") data").unwrap_or(0);
    if let Some(bytes) = scenario.body_bytes
        && data < good * bytes as u64
    {
        bail!("{data} bytes in {good} answers of {bytes} bytes");
    }
    Ok(good)
}

/// Requests that were answered to the end, with a 2xx status. Its count of statuses has those, too, that were under
/// way at the end of a run.
fn h2load_succeeded(text: &str) -> anyhow::Result<u64> {
    h2load_number(text, " done, ", " succeeded")
        .with_context(|| format!("h2load said nothing of success: {}", text.trim()))
}

/// The number between two pieces of h2load's summary.
fn h2load_number(text: &str, before: &str, after: &str) -> Option<u64> {
    let (_, rest) = text.split_once(before)?;
    let (number, _) = rest.split_once(after)?;
    number.trim().parse().ok()
}

/// Third column of h2load's log: microseconds until the end of each answer.
fn h2load_latencies(log: &Path) -> anyhow::Result<Vec<u32>> {
    let text = fs::read_to_string(log).with_context(|| format!("log {}", log.display()))?;
    Ok(text.lines().filter_map(|line| line.split('\t').nth(2)?.parse().ok()).collect())
}

/// Waits for a load generator and returns its standard output.
fn finish(command: &mut Command, duration: Duration) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}; .ci/setup bench installs it"))?;
    let deadline = Instant::now() + duration + OVERTIME;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if process::stopping() || Instant::now() > deadline {
            end(&mut child);
            process::check_stopping()?;
            bail!("{name} did not end in time");
        }
        thread::sleep(Duration::from_millis(10));
    };
    // Both print far less than a pipe holds, so nothing was lost by waiting first.
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !status.success() {
        bail!(
            "{name}: {status}: {}{}",
            text.trim(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(text)
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h2load_s_summary_is_read() {
        let text = "finished in 3.00s, 31336.67 req/s, 3.11MB/s
requests: 94010 total, 94170 started, 94010 done, 94009 succeeded, 1 failed, 0 errored, 0 timeout
status codes: 94009 2xx, 0 3xx, 1 4xx, 0 5xx";
        assert_eq!(h2load_succeeded(text).unwrap(), 94009);
        assert_eq!(h2load_number(text, "requests: ", " total"), Some(94010));
        assert_eq!(h2load_number(text, "started, ", " done"), Some(94010));
        assert!(h2load_succeeded("nothing").is_err());
    }

    #[test]
    fn a_call_that_fails_is_no_good_one_for_all_its_status() {
        let call = Scenario::named("grpc-unary").unwrap();
        let text = |data: u64| {
            format!(
                "requests: 10 total, 10 started, 10 done, 10 succeeded, 0 failed\n\
                 traffic: 1.34KB (1373) total, 168B (168) headers (space savings 95.12%), 690B ({data}) data"
            )
        };
        assert_eq!(h2load_good(&text(690), call).unwrap(), 10);
        assert!(h2load_good(&text(621), call).is_err());
    }

    #[test]
    fn the_script_for_many_hosts_names_each_of_them() {
        let scenario = Scenario::named("hosts-1000").unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let target = Target { address, host: String::new(), path: String::new(), tls: None };
        let script = wrk_script(scenario, &target);
        assert!(script.contains("lookup('127.0.0.1', service)"));
        assert!(
            script.contains("'host-00000.bench.test'")
                && script.contains("'host-00999.bench.test'")
        );
    }
}
