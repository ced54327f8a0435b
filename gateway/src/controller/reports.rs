//! What the controller tells the cluster, and when it may deal addresses out.
//!
//! [`Reports`] stands between the controller and the status thread: it holds a new leader back until the
//! state knows every Service as well as the leader's own reading did, compares what was compiled with what
//! the objects say, and passes on what this node announces and what is wrong.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use gatehouse_routes::{
    objects::{ObjectKey, ObjectRef},
    problem::Problem,
};
use jiff::Timestamp;

use crate::{
    addresses::Announced,
    compile::{Compiled, NodeContext, Role, Statuses},
    source::{Kind, api_version},
    state::ClusterState,
    status::{
        self, Leadership, Status, Taken,
        announced::{Announcement, Announcements, Protocol},
        diff::Differ,
        events::Regarding,
    },
};

/// Least time between two comparisons, so that a storm of changes does not compare all objects each time,
/// and least multiple of the time that the last one took.
const PERIOD: (Duration, u32) = (Duration::from_millis(100), 10);
/// Time between two attempts to make the Secret of the group.
const MAKE_AGAIN: Duration = Duration::from_secs(5);

/// Problems of a Service that say what this node does, while another one may do better.
const OF_THIS_NODE: [&str; 2] = ["NoLocalEndpoint", "NotAdvertised"];

/// Problems that pass by themselves, and that may be wanted: a Service is scaled to nothing.
const NOT_TOLD: [&str; 1] = ["NoEndpoints"];

/// The controller's link to the status thread.
#[derive(Debug)]
pub(crate) struct Reports {
    status: Status,
    lead: Option<Lead>,
    /// In which role the live configuration was compiled; `None`: before the present term.
    compiled_as: Option<Role>,
    /// Something has changed since the last comparison.
    changed: bool,
    /// When the next one may be.
    due: Option<Instant>,
    announced: Announcements,
    told: Vec<Problem>,
    first: bool,
    /// When the Secret of the group was last to be made.
    made_key: Option<Instant>,
}

/// The time for which this process leads.
#[derive(Debug)]
struct Lead {
    term: u32,
    /// Services of which the state has yet to know these versions; `None`: it may deal addresses out.
    waits_for: Option<BTreeMap<ObjectKey, u64>>,
    differ: Differ,
}

impl Reports {
    /// Nothing has been told yet.
    pub(crate) fn new(status: Status) -> Self {
        Self {
            status,
            lead: None,
            compiled_as: None,
            changed: false,
            due: None,
            announced: BTreeMap::new(),
            told: Vec::new(),
            first: true,
            made_key: None,
        }
    }

    /// Takes note of what this process may do. True if there is to be a new configuration: what an earlier
    /// term dealt out and did not record is forgotten by following for once.
    pub(super) fn hear(&mut self, leadership: Leadership) -> bool {
        let Leadership::Lead(taken) = leadership else {
            self.lead = None;
            return false;
        };
        let Taken { term, services, written_before, routers_before } = taken;
        match &mut self.lead {
            Some(lead) if lead.term == term => {
                if let Some(waits_for) = &mut lead.waits_for {
                    *waits_for = services;
                }
                false
            }
            lead => {
                let differ = Differ::written_before(written_before, routers_before);
                *lead = Some(Lead { term, waits_for: Some(services), differ });
                (self.first, self.compiled_as) = (true, None);
                true
            }
        }
    }

    /// What to do about addresses, now that the state is this.
    pub(super) fn role(&mut self, state: &ClusterState) -> Role {
        let followed = self.compiled_as.is_some();
        self.lead.as_mut().filter(|_| followed).map_or(Role::Follow, |lead| lead.role(state))
    }

    /// A configuration is live that was compiled in this role.
    pub(super) fn published(&mut self, role: Role) {
        (self.changed, self.compiled_as) = (true, Some(role));
    }

    /// Statuses have changed, if `changed`: they are to be compared with what they should be.
    pub(super) fn compare(&mut self, changed: bool) {
        self.changed |= changed;
    }

    /// How long the controller may wait before [`Reports::tell`] is due.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let due = self.changed.then(|| self.due.unwrap_or(now));
        due.map(|due| due.saturating_duration_since(now))
    }

    /// Tells what is to be told, if it is time.
    pub(super) fn tell(
        &mut self,
        state: &ClusterState,
        node: &NodeContext,
        compiled: &Compiled,
        now: Instant,
    ) {
        if self.wait(now) != Some(Duration::ZERO) {
            return;
        }
        let (least, multiple) = PERIOD;
        (self.changed, self.due) = (false, Some(now + least));
        let Some(lead) = &mut self.lead else { return };
        if lead.waits_for.is_some() || self.compiled_as != Some(Role::Allocate) {
            return;
        }
        let statuses = Statuses::new(state, node, compiled);
        let patches = lead.differ.diff(&statuses, &status::seconds(Timestamp::now()));
        self.due = Some(now + least.max(now.elapsed() * multiple));
        self.status.patches(lead.term, patches, lead.differ.cleared());
    }

    /// Makes the Secret of the group, if this process leads and there is none.
    pub(super) fn make_group_key(&mut self, node: &NodeContext, compiled: &Compiled, now: Instant) {
        let Some(secret) = node.group_secret.as_ref().filter(|_| compiled.group.missing) else {
            return;
        };
        let leads = self.compiled_as == Some(Role::Allocate);
        let Some(lead) = self.lead.as_ref().filter(|_| leads) else { return };
        if self.made_key.is_none_or(|last| now >= last + MAKE_AGAIN) {
            self.made_key = Some(now);
            self.status.make_group_key(lead.term, secret.clone());
        }
    }

    /// Tells what is wrong: with the objects, if this process leads, and with this node.
    pub(super) fn problems(&mut self, state: &ClusterState, all: &[Problem], own: &[Problem]) {
        let leads = self.lead.as_ref().is_some_and(|lead| lead.waits_for.is_none());
        let all: &[Problem] = if leads { all } else { &[] };
        let passing = |problem: &&Problem| problem.is_error() || problem.object.kind == "Node";
        let all = all.iter().filter(|it| is_told(it));
        let problems = all.chain(own.iter().filter(passing));
        if problems.clone().eq(&self.told) && !(self.first && leads) {
            return;
        }
        self.told = problems.cloned().collect();
        let known = self.told.iter();
        let known =
            known.filter_map(|problem| Some((problem.clone(), regarding(state, &problem.object)?)));
        self.status.problems(known.collect(), self.first);
        self.first = false;
    }

    /// Tells what this node announces.
    pub(super) fn announced(
        &mut self,
        state: &ClusterState,
        compiled: &Compiled,
        announced: &[Announced],
    ) {
        let announced = announcements(state, compiled, announced);
        if announced != self.announced {
            self.announced.clone_from(&announced);
            self.status.announced(announced);
        }
    }

    /// Lets another node lead.
    pub(super) fn stop(&self) {
        self.status.stop();
    }
}

impl Lead {
    fn role(&mut self, state: &ClusterState) -> Role {
        if let Some(waits_for) = &mut self.waits_for {
            waits_for.retain(|key, version| !knows(state, key, *version));
            if !waits_for.is_empty() || !state.synced() {
                return Role::Follow;
            }
            self.waits_for = None;
        }
        Role::Allocate
    }
}

/// Whether the leader makes an Event of a problem of the configuration.
fn is_told(problem: &Problem) -> bool {
    let reason = &problem.reason;
    problem.is_error() || !(OF_THIS_NODE.contains(reason) || NOT_TOLD.contains(reason))
}

fn knows(state: &ClusterState, key: &ObjectKey, version: u64) -> bool {
    let stored = state.objects.services.get(key);
    let known = stored.and_then(|stored| stored.object.metadata.resource_version.as_ref());
    known.and_then(|known| known.parse::<u64>().ok()).is_some_and(|known| known >= version)
}

/// The object as the API server knows it; `None` for what is not from there.
fn regarding(state: &ClusterState, object: &ObjectRef) -> Option<Regarding> {
    let (metadata, trust) = state.metadata(Kind::named(object.kind)?, &object.key)?;
    let uid = metadata.uid.clone().filter(|_| !trust.standalone)?;
    Some(Regarding { object: object.clone(), api_version: api_version(object.kind), uid })
}

/// Services by what is announced here of their addresses.
fn announcements(
    state: &ClusterState,
    compiled: &Compiled,
    announced: &[Announced],
) -> Announcements {
    let mut all = Announcements::new();
    for Announced { vip, interface } in announced {
        let on_link = compiled.vips.vips.get(vip).map(|vip| (Protocol::Layer2, &vip.claims));
        let by_bgp = compiled.bgp.addresses.get(vip).map(|claims| (Protocol::Bgp, claims));
        let found = if interface == "lo" { by_bgp } else { on_link };
        let Some((protocol, claims)) = found else { continue };
        let through: Vec<String> = match protocol {
            Protocol::Layer2 => vec![interface.clone()],
            Protocol::Bgp => {
                let routes = compiled.bgp.routes.iter();
                routes.filter(|(_, rib)| rib.leads_to(*vip)).map(|(peer, _)| peer.clone()).collect()
            }
        };
        for claim in claims {
            let Some((namespace, name)) = claim.0.split_once('/') else { continue };
            let key = ObjectKey::new(namespace, name);
            let Some(Regarding { uid, .. }) =
                regarding(state, &ObjectRef::new("Service", key.clone()))
            else {
                continue;
            };
            let entry = all.entry((protocol, key));
            let entry = entry.or_insert_with(|| Announcement { uid, through: Vec::new() });
            entry.through.extend(through.iter().cloned());
            entry.through.sort();
            entry.through.dedup();
        }
    }
    all
}

#[cfg(test)]
mod tests;
