//! Whether a container has started, is ready and is alive, as its probes say.

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::core::v1::{Container as Spec, HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{container::Container, network::Sandbox};
use crate::process::Process;

/// The three probes of a container that has just been started.
#[derive(Debug)]
pub(super) struct Probes {
    startup: Option<Course>,
    readiness: Option<Course>,
    liveness: Option<Course>,
}

/// What they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Findings {
    /// The startup probe has succeeded once.
    pub(super) started: bool,
    /// Requests may be sent.
    pub(super) ready: bool,
    /// It is not to be started anew.
    pub(super) alive: bool,
}

/// One probe over time.
#[derive(Debug)]
struct Course {
    probe: Probe,
    next: Instant,
    /// What it says until it has been asked often enough.
    good: bool,
    /// Answers in a row that say otherwise.
    against: i32,
    /// Bad answers in a row.
    failures: i32,
}

impl Course {
    fn new(probe: &Probe, good: bool, now: Instant) -> Self {
        let delay = seconds(probe.initial_delay_seconds, 0);
        Self { probe: probe.clone(), next: now + delay, good, against: 0, failures: 0 }
    }

    fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// Takes an answer; a change needs as many in a row as its threshold says.
    fn hear(&mut self, good: bool, now: Instant) {
        self.next = now + seconds(self.probe.period_seconds, 10);
        self.failures = if good { 0 } else { self.failures + 1 };
        if good == self.good {
            self.against = 0;
            return;
        }
        self.against += 1;
        let needed = if good { self.probe.success_threshold } else { Some(self.patience()) };
        if self.against >= needed.unwrap_or(1) {
            self.good = good;
            self.against = 0;
        }
    }

    /// Failures in a row until it is given up.
    fn patience(&self) -> i32 {
        self.probe.failure_threshold.unwrap_or(3)
    }
}

impl Probes {
    /// From now on.
    pub(super) fn new(spec: &Spec, now: Instant) -> Self {
        Self {
            startup: spec.startup_probe.as_ref().map(|probe| Course::new(probe, false, now)),
            readiness: spec.readiness_probe.as_ref().map(|probe| Course::new(probe, false, now)),
            liveness: spec.liveness_probe.as_ref().map(|probe| Course::new(probe, true, now)),
        }
    }

    /// Asks those that are due; may take as long as their timeouts say.
    pub(super) fn ask(
        &mut self,
        spec: &Spec,
        container: &Container,
        sandbox: &Sandbox,
        now: Instant,
    ) -> Findings {
        let ask = |course: &mut Option<Course>| {
            let Some(course) = course else { return true };
            if course.is_due(now) {
                course.hear(succeeds(&course.probe, spec, container, sandbox), now);
            }
            course.good
        };
        let has_started = self.startup.as_ref().is_some_and(|course| course.good);
        let started = has_started || ask(&mut self.startup);
        if !started {
            let given_up = |course: &Course| course.failures >= course.patience();
            let alive = !self.startup.as_ref().is_some_and(given_up);
            return Findings { started, ready: false, alive };
        }
        Findings { started, ready: ask(&mut self.readiness), alive: ask(&mut self.liveness) }
    }
}

fn succeeds(probe: &Probe, spec: &Spec, container: &Container, sandbox: &Sandbox) -> bool {
    let limit = seconds(probe.timeout_seconds, 1);
    if let Some(exec) = &probe.exec {
        let words = exec.command.clone().unwrap_or_default();
        return container.exec(&words, limit).unwrap_or(false);
    }
    let words = if let Some(get) = &probe.http_get {
        http_get(get, spec, sandbox)
    } else if let Some(socket) = &probe.tcp_socket {
        let host = socket.host.clone().unwrap_or_else(|| sandbox.address.to_string());
        let open = format!("exec 3<>/dev/tcp/{host}/{}", port(&socket.port, spec));
        ["bash", "-c", &open].map(str::to_owned).to_vec()
    } else {
        return false;
    };
    let mut starter = ["setpriv", "--pdeathsig", "KILL", "--"].map(str::to_owned).to_vec();
    starter.extend(sandbox.prefix());
    starter.extend(words);
    let mut command = std::process::Command::new(&starter[0]);
    command.args(&starter[1..]);
    let log = std::path::Path::new("/dev/null");
    let Ok(mut process) = Process::spawn("probe", command, Some(log)) else { return false };
    let ended = process.wait(limit);
    process.kill();
    ended.is_some_and(|status| status.success())
}

/// Any status from 200 to 399 is good: curl follows nothing, and fails from 400 on.
fn http_get(get: &HTTPGetAction, spec: &Spec, sandbox: &Sandbox) -> Vec<String> {
    let scheme = get.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
    let host = get.host.clone().unwrap_or_else(|| sandbox.address.to_string());
    let path = get.path.as_deref().unwrap_or("/");
    let mut words = ["curl", "-s", "-k", "-f"].map(str::to_owned).to_vec();
    for header in get.http_headers.iter().flatten() {
        words.extend(["-H".to_owned(), format!("{}: {}", header.name, header.value)]);
    }
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    words.push(format!("{scheme}://{host}:{}{path}", port(&get.port, spec)));
    words
}

fn port(port: &IntOrString, spec: &Spec) -> i32 {
    match port {
        IntOrString::Int(port) => *port,
        IntOrString::String(name) => {
            let ports = spec.ports.iter().flatten();
            let mut named = ports.filter(|port| port.name.as_ref() == Some(name));
            named.next().map_or(0, |port| port.container_port)
        }
    }
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(default))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_takes_as_many_answers_in_a_row_as_the_threshold_says() {
        let now = Instant::now();
        let probe = Probe {
            initial_delay_seconds: Some(5),
            period_seconds: Some(2),
            success_threshold: Some(1),
            failure_threshold: Some(2),
            ..Probe::default()
        };
        let mut course = Course::new(&probe, false, now);
        assert!(!course.is_due(now + Duration::from_secs(4)));
        assert!(course.is_due(now + Duration::from_secs(5)));
        let mut heard = Vec::new();
        for good in [true, false, true, false, false, true] {
            course.hear(good, now);
            heard.push(course.good);
        }
        assert_eq!(heard, [true, true, true, true, false, true]);
        assert!(course.is_due(now + Duration::from_secs(2)) && !course.is_due(now));
    }
}
