//! The Lease in the API server: what [`leader`](super::leader) asks for, carried out.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};

use super::{
    Options,
    leader::{Record, Write, Written},
    queue::Outcome,
    requests,
};

/// Annotation with the names that our router has, or had, in the status of Routes, separated by line feeds.
const ROUTER_NAMES: &str = "gatehouse.io/router-names";

/// The Lease that the processes compete for.
#[derive(Clone, Debug)]
pub(super) struct LeaseApi {
    api: Api<Lease>,
    namespace: String,
    name: String,
    duration: Duration,
    /// Time for one request.
    timeout: Duration,
    /// The name of our router.
    router: String,
    /// Names that it had before, and that no Route has an entry of any more.
    pub(super) cleared: BTreeSet<String>,
}

/// What became of a request about the Lease.
#[derive(Debug)]
pub(super) enum Answer {
    /// What it says; `Err`: that is not known.
    Read(Result<Option<Lease>, Outcome>),
    /// What was asked for when, what became of it, and what it says since; `Err`: why that is not known.
    Wrote(Write, Instant, Written, Result<Lease, Outcome>),
}

impl LeaseApi {
    /// `timeout`: time for one request.
    pub(super) fn new(client: &Client, options: &Options, timeout: Duration) -> Self {
        Self {
            api: Api::namespaced(client.clone(), &options.namespace),
            namespace: options.namespace.clone(),
            name: options.lease_name.clone(),
            duration: options.timing.lease,
            timeout,
            router: options.router.clone(),
            cleared: BTreeSet::new(),
        }
    }

    /// Names under which processes that led before stand in the status of Routes, unless that is known to be past.
    pub(super) fn routers_before(&self, lease: Option<&Lease>) -> BTreeSet<String> {
        let mut names = lease.map(routers).unwrap_or_default();
        names.retain(|name| *name != self.router && !self.cleared.contains(name));
        names
    }

    pub(super) async fn read(self) -> Answer {
        let asked = requests::read_lease(&self.api, &self.name);
        Answer::Read(match tokio::time::timeout(self.timeout, asked).await {
            Ok(answer) => answer.map_err(requests::failure),
            Err(late) => Err(Outcome::Failed(late.to_string(), None)),
        })
    }

    /// `known` is the Lease that it is written over.
    pub(super) async fn write(self, write: Write, known: Option<Lease>, asked: Instant) -> Answer {
        let lease = self.lease(&write, known, Timestamp::now());
        let params = PostParams::default();
        let request = async {
            match &write.over {
                None => self.api.create(&params, &lease).await,
                Some(_) => self.api.replace(&self.name, &params, &lease).await,
            }
        };
        let (outcome, lease) = match tokio::time::timeout(self.timeout, request).await {
            Err(late) => (Written::Failed, Err(Outcome::Failed(late.to_string(), None))),
            Ok(Ok(lease)) => {
                let version = lease.metadata.resource_version.clone().unwrap_or_default();
                (Written::Done(version), Ok(lease))
            }
            Ok(Err(error)) => match requests::failure(error) {
                outcome @ (Outcome::Conflict | Outcome::Gone) => (Written::Conflict, Err(outcome)),
                outcome => {
                    tracing::warn!(?outcome, lease = self.name, "the Lease was not written");
                    (Written::Failed, Err(outcome))
                }
            },
        };
        Answer::Wrote(write, asked, outcome, lease)
    }

    fn lease(&self, write: &Write, known: Option<Lease>, now: Timestamp) -> Lease {
        let mut lease = known.unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        let mut names = self.routers_before(Some(&lease));
        names.insert(self.router.clone());
        let names = names.into_iter().collect::<Vec<_>>().join("\n");
        lease.metadata.annotations.get_or_insert_default().insert(ROUTER_NAMES.to_owned(), names);
        lease.metadata.resource_version.clone_from(&write.over);
        let released = write.holder.is_empty();
        let seconds = if released { 1 } else { self.duration.as_secs() };
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        spec.holder_identity = Some(write.holder.clone());
        spec.lease_duration_seconds = Some(i32::try_from(seconds).unwrap_or(i32::MAX));
        spec.lease_transitions = Some(i32::try_from(write.transitions).unwrap_or(i32::MAX));
        spec.renew_time = Some(MicroTime(now));
        if write.begins {
            spec.acquire_time = Some(MicroTime(now));
        }
        lease
    }
}

fn routers(lease: &Lease) -> BTreeSet<String> {
    let annotations = lease.metadata.annotations.as_ref();
    let names = annotations.and_then(|all| all.get(ROUTER_NAMES)).map_or("", String::as_str);
    names.lines().filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// What matters of a Lease.
pub(super) fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|it| u64::try_from(it).ok());
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        lease: Duration::from_secs(seconds.unwrap_or(0)),
        transitions: spec.lease_transitions.and_then(|it| u32::try_from(it).ok()).unwrap_or(0),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}
