//! What a cluster is told: statuses and Events, most of it by one leader; and which process that is.
//!
//! `leader` decides who leads, `diff` what has to be written, `queue` when, `contest` whether somebody else insists on
//! another status, `events` which Events there are: all pure. `writer` is the thread that talks to the API server for them, with `lease`, `takeover`,
//! `announced` and `requests`; `standing` is what the admin pages see of it. The controller hands over what it compiled and hears its role; nothing here
//! touches addresses or traffic.

use jiff::Timestamp;

use crate::config::Settings;

pub(crate) mod announced;
mod contest;
pub(crate) mod diff;
mod digest;
pub(crate) mod events;
pub(crate) mod leader;
mod lease;
mod leaving;
mod queue;
mod requests;
mod standing;
mod takeover;
mod writer;

use leader::Timing;
pub(crate) use standing::{Leader, Standing};
pub(crate) use takeover::Taken;
pub(crate) use writer::Status;

/// The field manager of what has a name of its own; those of statuses begin so.
const MANAGER: &str = "gatehouse";

/// How this process takes part.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Another one for every process that ever runs.
    pub(crate) identity: String,
    /// Name of this node.
    pub(crate) node: String,
    /// The Pod that this process is, name and uid.
    pub(crate) pod: Option<(String, String)>,
    /// Namespace of the Lease and of what this node says of its own.
    pub(crate) namespace: String,
    /// Name of the Lease.
    pub(crate) lease_name: String,
    /// Who owns the fields of statuses: see [`manager`].
    pub(crate) manager: String,
    /// Name of our router in the status of Routes.
    pub(crate) router: String,
    /// Times of the election.
    pub(crate) timing: Timing,
    /// Which Services matter.
    pub(crate) scope: Scope,
}

impl Options {
    /// `default_namespace` is that of this Pod, or of the kubeconfig's context.
    ///
    /// # Errors
    /// Times that make no election.
    pub(crate) fn new(settings: &Settings, default_namespace: &str) -> anyhow::Result<Self> {
        let cluster = &settings.cluster;
        let timing = Timing {
            lease: cluster.lease_duration,
            renew_deadline: cluster.renew_deadline,
            retry_period: cluster.retry_period,
        };
        timing.check().map_err(anyhow::Error::msg)?;
        let node = settings.node_name();
        let namespace = cluster.lease_namespace.clone();
        let namespace = namespace.unwrap_or_else(|| default_namespace.to_owned());
        let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        Ok(Self {
            // The old and the new process of a node are two.
            identity: format!("{node}_{:016x}", fastrand::u64(..)),
            node,
            pod: variable("POD_NAME").zip(variable("POD_UID")),
            manager: manager(&namespace, &cluster.lease_name),
            router: settings.routes.router_name.clone(),
            namespace,
            lease_name: cluster.lease_name.clone(),
            timing,
            scope: Scope {
                namespaces: settings.watch_namespaces.clone(),
                class: cluster.load_balancer_class.clone(),
            },
        })
    }
}

/// The field manager of the processes that compete for a Lease: they take away what one of them has written, and nothing of
/// another gateway in the same cluster, which serves other classes.
fn manager(namespace: &str, lease: &str) -> String {
    /// Bytes that the API server takes.
    const LONGEST: usize = 128;
    let whole = format!("{}:{namespace}/{lease}", MANAGER);
    match whole.len() <= LONGEST {
        true => whole,
        false => format!("{}:{:016x}", MANAGER, digest::hash(&[&whole])),
    }
}

/// Which Services may have an address of ours.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    /// Namespaces that are watched; empty: all.
    pub(crate) namespaces: Vec<String>,
    /// `--load-balancer-class`.
    pub(crate) class: Option<String>,
}

/// What this process may do, as the election has it.
#[derive(Debug)]
pub(crate) enum Leadership {
    /// Another process allocates, or none for now.
    Follow,
    /// This one may, once it knows all of this.
    Lead(Taken),
}

/// In RFC 3339 with seconds, as conditions have it.
pub(crate) fn seconds(time: Timestamp) -> String {
    format!("{time:.0}")
}

/// In RFC 3339 with microseconds, as Events have it.
fn micros(time: Timestamp) -> String {
    format!("{time:.6}")
}
