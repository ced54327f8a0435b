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
    MANY_HOSTS, host_name,
    peer::Peer,
    scenario::{Scenario, Tool},
};

/// Streams at a time on one HTTP/2 connection.
const STREAMS: &str = "10";

/// How much longer than asked for a load generator may run.
const OVERTIME: Duration = Duration::from_secs(15);

/// Puts the load of `scenario` on `peer` for `duration`. `scratch` takes temporary files.
pub(super) fn drive(
    scenario: &Scenario,
    peer: &Peer,
    host: &str,
    certificate: &Certificate,
    duration: Duration,
    scratch: &Path,
) -> anyhow::Result<Load> {
    let address = if scenario.tls { peer.https } else { peer.http };
    match scenario.tool {
        Tool::Wrk => wrk(scenario, address, host, duration, scratch),
        Tool::H2load => h2load(scenario, address, host, duration, scratch),
        Tool::ConnectStorm => {
            let target = Target {
                address,
                host: host.to_owned(),
                path: scenario.path.to_owned(),
                tls: scenario.tls.then(|| certificate.clone()),
            };
            client::connect_storm(&target, scenario.connections, duration)
        }
    }
}

/// Makes sure that the peer speaks HTTP/2 and answers well.
pub(super) fn verify_http2(
    address: SocketAddr,
    host: &str,
    scenario: &Scenario,
) -> anyhow::Result<()> {
    let mut command = h2load_command(address, host, scenario);
    let text = finish(command.args(["-n", "10", "-c", "1"]), Duration::ZERO)?;
    if !text.contains("Application protocol: h2") {
        bail!("{address} does not speak HTTP/2 over TLS: {}", text.trim());
    }
    let good = h2load_status(&text)?;
    if good != 10 {
        bail!("{address} answered {good} of 10 requests over HTTP/2 with 2xx");
    }
    Ok(())
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
    address: SocketAddr,
    host: &str,
    duration: Duration,
    scratch: &Path,
) -> anyhow::Result<Load> {
    let script = scratch.join("wrk.lua");
    fs::write(&script, wrk_script(scenario))?;
    let scheme = if scenario.tls { "https" } else { "http" };
    let url = format!("{scheme}://{host}:{}{}", address.port(), scenario.path);
    let mut command = Command::new("wrk");
    command.args(["-t1", "--timeout", "10s"]);
    command.arg(format!("-c{}", scenario.connections)).arg(format!("-d{}s", duration.as_secs()));
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

/// A summary in JSON; and, for many hosts, a request per host, prepared beforehand and taken in a
/// scattered order. Redirects do not count as errors for wrk; verification has excluded them.
fn wrk_script(scenario: &Scenario) -> String {
    let mut script = String::from(
        r#"
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'SUMMARY {"requests":%d,"duration_us":%d,"bad":%d,"p50_us":%f,"p99_us":%f}\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"#,
    );
    if scenario.many_hosts {
        let hosts: Vec<String> =
            (0..MANY_HOSTS).map(|number| format!("'{}'", host_name(number))).collect();
        script.push_str(&format!(
            r#"
local hosts = {{ {} }}
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
            hosts.join(", "),
            scenario.path
        ));
    }
    script
}

fn h2load_command(address: SocketAddr, host: &str, scenario: &Scenario) -> Command {
    let mut command = Command::new("h2load");
    command.args(["-t", "1", "-m", STREAMS]);
    command.arg(format!("--connect-to={address}"));
    command.arg(format!("https://{host}:{}{}", address.port(), scenario.path));
    command
}

fn h2load(
    scenario: &Scenario,
    address: SocketAddr,
    host: &str,
    duration: Duration,
    scratch: &Path,
) -> anyhow::Result<Load> {
    let log = scratch.join("h2load.log");
    // h2load appends to a log that is there.
    let _ = fs::remove_file(&log);
    let mut command = h2load_command(address, host, scenario);
    command.args(["-c", &scenario.connections.to_string()]);
    command.args(["-D", &duration.as_secs().to_string()]);
    command.arg(format!("--log-file={}", log.display()));
    let text = finish(&mut command, duration)?;
    let good = h2load_status(&text)?;
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

/// Requests with a 2xx status.
fn h2load_status(text: &str) -> anyhow::Result<u64> {
    h2load_number(text, "status codes: ", " 2xx")
        .with_context(|| format!("h2load said no status codes: {}", text.trim()))
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
        assert_eq!(h2load_status(text).unwrap(), 94009);
        assert_eq!(h2load_number(text, "requests: ", " total"), Some(94010));
        assert_eq!(h2load_number(text, "started, ", " done"), Some(94010));
        assert!(h2load_status("nothing").is_err());
    }

    #[test]
    fn the_script_for_many_hosts_names_each_of_them() {
        let scenario = super::super::SCENARIOS.iter().find(|one| one.many_hosts).unwrap();
        let script = wrk_script(scenario);
        assert!(
            script.contains("'host-0000.bench.test'") && script.contains("'host-0999.bench.test'")
        );
    }
}
