//! The group of nodes that share addresses, as far as objects say who is in it: its key is in a Secret, and the
//! other nodes are those of the cluster.
//!
//! What the command line says about either wins; `addresses` sees to that. A key that cannot be used leaves the
//! one before in use.

use std::{collections::BTreeSet, net::IpAddr};

use gatehouse_routes::{
    objects::{ObjectKey, ObjectRef},
    problem::Problem,
};
use gatehouse_vip::GroupKey;

use super::NodeContext;
use crate::state::ClusterState;

/// With more nodes than a group may have members, most of them run no gateway; multicast alone finds those that
/// do.
const MOST_PEERS: usize = 64;

/// Where the key of the group is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSecret {
    /// The Secret.
    pub object: ObjectKey,
    /// The name of the key in its data.
    pub entry: String,
}

/// What objects say of the group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupPlan {
    /// The secret of all its nodes; `None`: there is no usable one.
    pub key: Option<GroupKey>,
    /// There is no Secret of the name, so that one has to be made.
    pub missing: bool,
    /// Addresses of the other nodes.
    pub peers: BTreeSet<IpAddr>,
}

/// What the objects say of the group.
pub(super) fn plan(
    state: &ClusterState,
    node: &NodeContext,
    problems: &mut Vec<Problem>,
) -> GroupPlan {
    let mut plan = GroupPlan { peers: peers(state, node), ..GroupPlan::default() };
    let Some(secret) = &node.group_secret else { return plan };
    let this = ObjectRef::new("Node", ObjectKey::new("", &*node.node));
    match key(state, secret) {
        Ok(key) => plan.key = Some(key),
        Err(Unusable::Missing) => {
            plan.missing = true;
            let message =
                format!("the Secret {} with the key of the group does not exist", secret.object);
            let hint = "the node that allocates addresses makes it; until there is one, nodes that have had no \
                        key yet hold no address";
            problems.push(Problem::warning(&this, "GroupKeyMissing", "", message, hint));
        }
        Err(Unusable::Bad(message, hint)) => {
            problems.push(Problem::error(&this, "GroupKeyUnusable", "", message, hint));
        }
    }
    plan
}

/// Why there is no key.
enum Unusable {
    Missing,
    /// What is wrong, and what to do.
    Bad(String, String),
}

fn key(state: &ClusterState, secret: &GroupSecret) -> Result<GroupKey, Unusable> {
    let GroupSecret { object, entry } = secret;
    if let Some(why) = state.objects.refused.get(&ObjectRef::new("Secret", object.clone())) {
        let message = format!("the key of the group, Secret {object}, cannot be read: {why}");
        return Err(Unusable::Bad(
            message,
            "allow the ServiceAccount to get and watch it".to_owned(),
        ));
    }
    let stored = state.objects.secrets.get(object).ok_or(Unusable::Missing)?;
    let data = stored.object.data.as_ref().and_then(|data| data.get(entry));
    let text = stored.object.string_data.as_ref().and_then(|data| data.get(entry));
    let value = data.map(|value| &*value.0).or_else(|| text.map(String::as_bytes));
    let remedy =
        || format!("put at least 16 random bytes under \"{entry}\", the same for all nodes");
    let value = value.ok_or_else(|| {
        let message =
            format!("the Secret {object} has no \"{entry}\", which would be the key of the group");
        Unusable::Bad(message, remedy())
    })?;
    GroupKey::new(value).map_err(|why| Unusable::Bad(format!("Secret {object}: {why}"), remedy()))
}

/// The addresses of the other nodes in the network of the cluster.
fn peers(state: &ClusterState, node: &NodeContext) -> BTreeSet<IpAddr> {
    let others = state.objects.nodes.iter().filter(|(key, _)| *key.name != *node.node);
    let statuses = others.filter_map(|(_, stored)| stored.object.status.as_ref());
    let addresses = statuses.flat_map(|status| status.addresses.as_deref().unwrap_or_default());
    let internal = addresses.filter(|address| address.type_ == "InternalIP");
    let peers: BTreeSet<IpAddr> =
        internal.filter_map(|address| address.address.parse().ok()).collect();
    if peers.len() > MOST_PEERS { BTreeSet::new() } else { peers }
}

#[cfg(test)]
mod tests;
