//! Statuses that another program writes as well: another gateway that serves the same object or has our router's name,
//! or any other controller.
//!
//! Two writers that put each other right do so for ever, as fast as the API server takes it. So what
//! was undone a few times in a short while is not written again before the API server has said who did it
//! ([`rival`]). Of two gateways that of the lower name goes on, the other one leaves the object to it, and looks again
//! after [`YIELDED`]; any other program is left alone for as long. So both come to the same end without a word to each
//! other, and a gateway that was removed is not obeyed for ever.
//!
//! Pure: [`queue`](super::queue) asks before it sends, `requests` reads the object for it.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use gatehouse_routes::objects::ObjectRef;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use serde_json::Value;

use super::{
    MANAGER,
    diff::{PENDING, Patch},
};

/// How often a status is put right without a question: a hand that errs once or twice is no rival.
const QUICK: u32 = 3;
/// What is undone later than this after our write is no contest. Controllers that insist do so once a minute.
const WINDOW: Duration = Duration::from_secs(180);
/// For how long a rival is remembered after it was last seen.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// For how long an object is left to a rival.
const YIELDED: Duration = Duration::from_secs(600);
/// Wait before the first answer to a rival that should yield; doubles up to [`PATIENT`].
const FIRST: Duration = Duration::from_millis(200);
/// Longest wait before such an answer.
const PATIENT: Duration = Duration::from_secs(60);
/// Period of forgetting.
const TIDY: Duration = Duration::from_secs(60);

/// Another program that has written what is ours to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rival {
    /// Its field manager.
    pub(crate) manager: String,
    /// The status is left to it.
    pub(crate) prevails: bool,
}

/// What became of our last writes, while they are young.
#[derive(Debug)]
pub(super) struct Contests {
    told: HashMap<ObjectRef, Told>,
    tidied: Instant,
}

#[derive(Debug)]
struct Told {
    /// Digest of what we said.
    said: u64,
    /// The version that it made.
    version: u64,
    /// When that was, or was last seen to be undone.
    at: Instant,
    /// How often it was.
    undone: u32,
}

impl Told {
    fn is_over(&self, now: Instant) -> bool {
        let kept = if self.undone > QUICK { REMEMBERED } else { WINDOW };
        now.saturating_duration_since(self.at) > kept
    }
}

impl Contests {
    pub(super) fn new(now: Instant) -> Self {
        Self { told: HashMap::new(), tidied: now }
    }

    /// The patch is about to be sent. True if our last one has been undone, and that too often.
    pub(super) fn is_contested(&mut self, patch: &Patch, now: Instant) -> bool {
        let Some(told) = self.told.get_mut(&patch.object).filter(|told| !told.is_over(now)) else {
            return false;
        };
        // It is as we left it, or as it was before that: something else is to be said now.
        if patch.leaves.is_none()
            || patch.finds == told.said
            || patch.seen_version() <= told.version
        {
            return false;
        }
        told.at = now;
        told.undone = told.undone.saturating_add(1);
        told.undone > QUICK
    }

    /// It has been written.
    pub(super) fn written(&mut self, patch: &Patch, version: u64, now: Instant) {
        if now.saturating_duration_since(self.tidied) >= TIDY {
            self.tidied = now;
            self.told.retain(|_, told| !told.is_over(now));
            self.told.shrink_to_fit();
        }
        match patch.leaves {
            None => drop(self.told.remove(&patch.object)),
            Some(said) => {
                let known = self.told.get(&patch.object).filter(|told| !told.is_over(now));
                let undone = known.map_or(0, |told| told.undone);
                let told = Told { said, version, at: now, undone };
                self.told.insert(patch.object.clone(), told);
            }
        }
    }

    /// How long the object is to be left as the rival has it.
    pub(super) fn pause(&self, object: &ObjectRef, rival: &Rival) -> Duration {
        if rival.prevails {
            return YIELDED;
        }
        let undone = self.told.get(object).map_or(0, |told| told.undone);
        let doubled = undone.saturating_sub(QUICK + 1).min(16);
        PATIENT.min(FIRST * 2u32.pow(doubled))
    }
}

/// The manager of what we want to write; `None`: it has none, or we are one, perhaps beside others that say the same.
pub(super) fn rival(metadata: &ObjectMeta, kind: &str, ours: &str) -> Option<Rival> {
    let all = metadata.managed_fields.as_deref().unwrap_or_default();
    let status: Vec<_> =
        all.iter().filter(|entry| entry.subresource.as_deref() == Some("status")).collect();
    let condition = format!("k:{{\"type\":\"{PENDING}\"}}");
    let (entries, condition) =
        (["f:loadBalancer", "f:ingress"], ["f:conditions", condition.as_str()]);
    let paths = match kind {
        "Route" => vec![&entries[1..]],
        _ => vec![&entries[..], &condition[..]],
    };
    let mut lost = paths.into_iter().filter_map(|path| {
        let owners = status.iter().filter(|entry| owns(entry, path));
        let mut owners: Vec<_> = owners.map(|it| (&it.time, it.manager.as_deref())).collect();
        owners.sort_unstable_by_key(|(time, manager)| (time.as_ref().map(|time| time.0), *manager));
        let is_ours = owners.iter().any(|(_, manager)| *manager == Some(ours));
        if is_ours { None } else { owners.pop()?.1 }
    });
    let manager = lost.next()?.to_owned();
    let prevails = !is_gateway(&manager) || *manager < *ours;
    Some(Rival { manager, prevails })
}

/// Gateways of other Leases that have a part in the status.
pub(super) fn other_gateways(metadata: &ObjectMeta, ours: &str) -> BTreeSet<String> {
    let all = metadata.managed_fields.as_deref().unwrap_or_default().iter();
    let of_status = all.filter(|entry| entry.subresource.as_deref() == Some("status"));
    let managers = of_status.filter_map(|entry| entry.manager.clone());
    managers.filter(|manager| is_gateway(manager) && *manager != ours).collect()
}

fn is_gateway(manager: &str) -> bool {
    manager.strip_prefix(MANAGER).is_some_and(|rest| rest.starts_with(':'))
}

fn owns(entry: &ManagedFieldsEntry, path: &[&str]) -> bool {
    let fields = entry.fields_v1.as_ref().map(|fields| &fields.0["f:status"]);
    let found = path.iter().try_fold(fields.unwrap_or(&Value::Null), |at, name| at.get(name));
    found.is_some()
}

#[cfg(test)]
mod tests {
    use gatehouse_routes::objects::ObjectKey;
    use serde_json::json;

    use super::*;
    use crate::status::diff::How;

    fn patch(seen: u64, finds: u64, leaves: u64) -> Patch {
        Patch {
            object: ObjectRef::new("Ingress", ObjectKey::new("shop", "web")),
            api_version: "networking.k8s.io/v1",
            seen: seen.to_string(),
            uid: String::new(),
            how: How::Apply,
            body: "{}".into(),
            assigned: None,
            finds,
            leaves: Some(leaves),
            asks: false,
        }
    }

    #[test]
    fn what_is_undone_again_and_again_in_a_short_while_is_contested() {
        let start = Instant::now();
        let mut contests = Contests::new(start);
        // Ours makes the next version, the other one's the one after.
        let mut undone = |at: u64, now| {
            let patch = patch(2 * at, 7, 1);
            let contested = contests.is_contested(&patch, now);
            contests.written(&patch, 2 * at + 1, now);
            contested
        };
        let soon = |at: u64| start + Duration::from_secs(at);
        let found: Vec<_> = (1..=6).map(|at| undone(at, soon(at))).collect();
        assert_eq!(found, [false, false, false, false, true, true]);
        // It is remembered for an hour, and no longer.
        assert!(undone(7, soon(6) + YIELDED));
        assert!(!undone(8, soon(7) + YIELDED + REMEMBERED));
    }

    #[test]
    fn what_we_change_ourselves_is_not_contested_however_often() {
        let now = Instant::now();
        let mut contests = Contests::new(now);
        for at in 1..20 {
            let patch = patch(at, at, at + 1);
            assert!(!contests.is_contested(&patch, now));
            contests.written(&patch, at + 1, now);
        }
        // Nor is what was seen before our write came back.
        for _ in 0..20 {
            assert!(!contests.is_contested(&patch(19, 3, 4), now));
        }
    }

    #[test]
    fn a_program_that_insists_once_an_hour_is_no_rival() {
        let mut now = Instant::now();
        let mut contests = Contests::new(now);
        for at in 1..20 {
            let patch = patch(2 * at, 7, 1);
            assert!(!contests.is_contested(&patch, now));
            contests.written(&patch, 2 * at + 1, now);
            now += Duration::from_secs(3600);
        }
    }

    /// Managers with what they have of the status.
    fn managed(managers: &[(&str, Value)]) -> ObjectMeta {
        let entries = managers.iter().map(|(manager, fields)| {
            json!({
                "manager": manager, "operation": "Apply", "subresource": "status",
                "fieldsType": "FieldsV1", "fieldsV1": { "f:status": fields },
            })
        });
        let entries: Vec<_> = entries.collect();
        serde_json::from_value(json!({ "managedFields": entries })).unwrap()
    }

    #[test]
    fn of_two_gateways_that_of_the_lower_name_prevails_and_any_other_program_does() {
        let ours = "gatehouse:b/gatehouse";
        let list = || json!({ "f:loadBalancer": { "f:ingress": {} } });
        let other = |manager: &str| rival(&managed(&[(manager, list())]), "Ingress", ours);
        for (manager, prevails) in [
            ("gatehouse:a/gatehouse", true),
            ("gatehouse:c/gatehouse", false),
            ("nginx-ingress-controller", true),
            ("gatehouse-of-another", true),
        ] {
            let expected = Rival { manager: manager.to_owned(), prevails };
            assert_eq!(other(manager), Some(expected), "{manager}");
        }
        let both = managed(&[("gatehouse:a/gatehouse", list()), (ours, list()), ("a", list())]);
        assert_eq!(other_gateways(&both, ours), ["gatehouse:a/gatehouse".to_owned()].into());
        assert_eq!(other(ours), None);
        assert_eq!(rival(&ObjectMeta::default(), "Ingress", ours), None);
        // Both say the same.
        assert_eq!(rival(&managed(&[("a", list()), (ours, list())]), "Ingress", ours), None);
    }

    #[test]
    fn the_manager_of_another_part_of_the_status_is_no_rival() {
        let ours = "gatehouse:b/gatehouse";
        let of = |kind: &str, fields: Value| {
            rival(&managed(&[("other", fields)]), kind, ours).map(|rival| rival.manager)
        };
        let condition =
            |name: &str| json!({ "f:conditions": { (format!("k:{{\"type\":\"{name}\"}}")): {} } });
        assert_eq!(of("Service", condition("LoadBalancerPortsError")), None);
        assert_eq!(of("Service", condition(PENDING)).as_deref(), Some("other"));
        assert_eq!(of("Route", json!({ "f:ingress": {} })).as_deref(), Some("other"));
        assert_eq!(of("Ingress", json!({ "f:ingress": {} })), None);
    }
}
