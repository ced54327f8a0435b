//! The status of a Pod, from what its containers do: pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use super::spec::Addresses;

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Not started, and why not.
    Waiting {
        /// `ContainerCreating` and the like.
        reason: &'static str,
        /// For a person.
        message: String,
    },
    /// Runs.
    Running {
        /// Its start.
        since: Timestamp,
        /// Requests may be sent.
        ready: bool,
        /// Its startup probe has succeeded.
        started: bool,
    },
    /// Has ended.
    Ended {
        /// Its start.
        since: Timestamp,
        /// Its end.
        at: Timestamp,
        /// What with.
        code: i32,
    },
}

/// What a container is to its Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Runs to its end before the next one.
    First,
    /// Is started before the next one, and runs until the main ones have ended.
    Sidecar,
    /// What the Pod is for.
    Main,
}

/// A container of a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// What it is there for.
    pub(super) role: Role,
    /// What it does.
    pub(super) state: State,
    /// How often it has been started anew.
    pub(super) restarts: u32,
}

/// A Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sight {
    /// Since when it is on its node.
    pub(super) since: Timestamp,
    /// Containers that run before the others, in order.
    pub(super) init: Vec<Seen>,
    /// The others, in order.
    pub(super) containers: Vec<Seen>,
}

impl Seen {
    /// Of one that comes before others: whether these may be started.
    pub(super) fn lets_others_start(&self) -> bool {
        match self.role {
            Role::Sidecar => self.has_started(),
            Role::First | Role::Main => self.has_succeeded(),
        }
    }

    fn has_started(&self) -> bool {
        matches!(self.state, State::Running { started: true, .. })
    }

    fn has_succeeded(&self) -> bool {
        matches!(self.state, State::Ended { code: 0, .. })
    }

    fn is_ready(&self) -> bool {
        matches!(self.state, State::Running { ready: true, .. })
    }
}

/// A patch of the Pod's status. Whatever is a list is whole: `podIPs` merged by its key would keep an old address.
pub(super) fn patch(pod: &Pod, sight: &Sight, addresses: &Addresses, now: Timestamp) -> Value {
    let phase = phase(pod, sight);
    let spec = pod.spec.as_ref();
    let containers = spec.map_or(&[][..], |spec| &spec.containers[..]);
    let init = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let over = matches!(phase, "Succeeded" | "Failed");
    let initialized = sight.init.iter().all(Seen::lets_others_start);
    let sidecars = sight.init.iter().filter(|seen| seen.role == Role::Sidecar);
    let all_ready = sight.containers.iter().chain(sidecars).all(Seen::is_ready);
    let ready = !over && initialized && all_ready;
    let conditions = [
        ("PodReadyToStartContainers", !addresses.pod.is_empty() && !over),
        ("Initialized", initialized),
        ("ContainersReady", ready),
        ("Ready", ready),
        ("PodScheduled", true),
    ];
    let conditions = conditions.map(|(kind, is)| condition(pod, kind, is, now));
    let mut status = json!({
        "phase": phase,
        "conditions": conditions,
        "hostIP": addresses.host,
        "hostIPs": [{"ip": addresses.host}],
        "startTime": sight.since.to_string(),
        "initContainerStatuses": statuses(init, &sight.init),
        "containerStatuses": statuses(containers, &sight.containers),
    });
    if !addresses.pod.is_empty() {
        status["podIP"] = json!(addresses.pod);
        status["podIPs"] = json!([{"ip": addresses.pod}]);
    }
    json!({"metadata": {"uid": pod.metadata.uid}, "status": status})
}

/// Whether a container that has ended with this code is started anew.
pub(super) fn restarts(pod: &Pod, code: i32) -> bool {
    match pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) {
        Some("Never") => false,
        Some("OnFailure") => code != 0,
        _ => true,
    }
}

fn phase(pod: &Pod, sight: &Sight) -> &'static str {
    let failed = |seen: &Seen| match seen.state {
        State::Ended { code, .. } => code != 0 && !restarts(pod, code),
        State::Waiting { .. } | State::Running { .. } => false,
    };
    let over = |seen: &Seen| match seen.state {
        State::Ended { code, .. } => !restarts(pod, code),
        State::Waiting { .. } | State::Running { .. } => false,
    };
    let fresh = |seen: &Seen| matches!(seen.state, State::Waiting { .. }) && seen.restarts == 0;
    let first = sight.init.iter().filter(|seen| seen.role == Role::First);
    if first.into_iter().any(failed) {
        "Failed"
    } else if sight.containers.iter().all(over) {
        if sight.containers.iter().any(failed) { "Failed" } else { "Succeeded" }
    } else if sight.containers.iter().all(fresh) {
        "Pending"
    } else {
        "Running"
    }
}

/// A condition; its time is that of its last change.
fn condition(pod: &Pod, kind: &str, is: bool, now: Timestamp) -> Value {
    let value = if is { "True" } else { "False" };
    let known = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut same = known.filter(|known| known.type_ == kind && known.status == value);
    let since = same.next().and_then(|known| known.last_transition_time.as_ref());
    let since = since.map_or(now, |since| since.0);
    json!({"type": kind, "status": value, "lastTransitionTime": since.to_string()})
}

fn statuses(specs: &[Container], seen: &[Seen]) -> Vec<Value> {
    let status = |(spec, seen): (&Container, &Seen)| {
        let state = match &seen.state {
            State::Waiting { reason, message } => {
                json!({"waiting": {"reason": reason, "message": message}})
            }
            State::Running { since, .. } => json!({"running": {"startedAt": since.to_string()}}),
            State::Ended { since, at, code } => json!({"terminated": {
                "exitCode": code,
                "reason": if *code == 0 { "Completed" } else { "Error" },
                "startedAt": since.to_string(),
                "finishedAt": at.to_string(),
            }}),
        };
        let image = spec.image.as_deref().unwrap_or_default();
        json!({
            "name": spec.name,
            "image": image,
            "imageID": image,
            "containerID": format!("process://{}", spec.name),
            "ready": seen.is_ready() || (seen.has_succeeded()),
            "started": seen.has_started(),
            "restartCount": seen.restarts,
            "state": state,
        })
    };
    specs.iter().zip(seen).map(status).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(policy: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "uid": "u"},
            "spec": {"restartPolicy": policy, "containers": [{"name": "a", "image": "a"}]},
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            ]},
        }))
        .unwrap()
    }

    fn patch_of(policy: &str, state: State) -> Value {
        let seen = Seen { role: Role::Main, state, restarts: 0 };
        let sight = Sight { since: Timestamp::UNIX_EPOCH, init: vec![], containers: vec![seen] };
        let addresses = Addresses { host: "10.77.0.2".into(), pod: "10.78.2.2".into() };
        patch(&pod(policy), &sight, &addresses, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_pod_is_ready_when_all_its_containers_are() {
        let since = Timestamp::UNIX_EPOCH;
        let running = |ready| State::Running { since, ready, started: true };
        let condition = |patch: &Value| {
            let all = patch["status"]["conditions"].as_array().unwrap();
            all.iter().find(|condition| condition["type"] == "Ready").unwrap().clone()
        };
        let ready = patch_of("Always", running(true));
        assert_eq!(ready["status"]["phase"], "Running");
        assert_eq!(ready["status"]["podIPs"], json!([{"ip": "10.78.2.2"}]));
        let since = "2026-01-01T00:00:00Z";
        let unchanged = json!({"type": "Ready", "status": "True", "lastTransitionTime": since});
        assert_eq!(condition(&ready), unchanged);
        let not_ready = condition(&patch_of("Always", running(false)));
        assert_eq!(not_ready["status"], "False");
        assert_eq!(not_ready["lastTransitionTime"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn the_phase_of_what_has_ended_depends_on_the_restart_policy() {
        let at = Timestamp::UNIX_EPOCH;
        let phase = |policy: &str, code| {
            patch_of(policy, State::Ended { since: at, at, code })["status"]["phase"].clone()
        };
        assert_eq!(phase("Never", 0), "Succeeded");
        assert_eq!(phase("Never", 1), "Failed");
        assert_eq!(phase("OnFailure", 0), "Succeeded");
        assert_eq!(phase("OnFailure", 1), "Running");
        assert_eq!(phase("Always", 0), "Running");
        let waiting = State::Waiting { reason: "ContainerCreating", message: String::new() };
        assert_eq!(patch_of("Always", waiting)["status"]["phase"], "Pending");
    }
}
