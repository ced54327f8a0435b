//! On which virtual addresses this node serves something, and on which all of it: what may be announced. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use gatehouse_routes::model::Scope;

use crate::compile::ListenerPlan;

/// The virtual addresses that are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Open {
    /// All of them.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Those on which some Service is not served here. Other nodes come before this one, if they can serve every one.
    pub(super) partial: BTreeSet<IpAddr>,
    /// Those that are not to be announced because their Services have no usable endpoint on any node: no other node takes
    /// them over.
    pub(super) without_endpoint: BTreeSet<IpAddr>,
}

/// The virtual addresses that are served: those that the cluster forwards, and those of which some Service has all
/// its listeners open.
///
/// A Service is served whole or not at all: another node may have the port that is closed here. But of Services that share
/// an address, one that cannot be served does not take the address from the others: it goes to a node that serves them all,
/// if there is one, and stays here else.
pub(super) fn open_addresses(
    plans: &[ListenerPlan],
    forwarded: &BTreeSet<IpAddr>,
    is_open: impl Fn(&ListenerPlan) -> bool,
) -> Open {
    let mut services: BTreeMap<(IpAddr, &Scope), bool> = BTreeMap::new();
    for plan in plans.iter().filter(|plan| plan.vip) {
        *services.entry((plan.address.ip(), &plan.scope)).or_insert(true) &= is_open(plan);
    }
    let (mut addresses, mut closed) = (forwarded.clone(), BTreeSet::new());
    for ((ip, _), serves) in services {
        if serves {
            addresses.insert(ip)
        } else {
            closed.insert(ip)
        };
    }
    let partial = closed.intersection(&addresses).copied().collect();
    Open { addresses, partial, without_endpoint: BTreeSet::new() }
}
