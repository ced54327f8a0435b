//! Adj-RIB-Out: which routes a router is to hear of, and what has to be said to get there.
//!
//! [`routes`] is a pure function of the addresses that this node serves, the advertisements and the
//! peer; [`delta`] is the least that leads from what was said to what is to be said. The speaker
//! keeps one [`RibOut`] per session and hands the delta to [`Outbound::encode`](super::Outbound).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use serde::Serialize;

use super::{
    advertisement::{Advertisement, PoolFacts},
    community::Community,
};
use crate::problem::Problem;

/// An address that this node serves, as far as advertisements look at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reachable {
    /// Name of the pool that the address is from.
    pub pool: String,
    /// Labels of each of the services on it.
    pub services: Vec<BTreeMap<String, String>>,
}

/// What is said of a route beyond what is the same for all routes of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Attributes {
    /// LOCAL_PREF towards a router of the same ASN; `None` for the usual 100.
    pub local_pref: Option<u32>,
    /// COMMUNITIES and LARGE_COMMUNITIES.
    pub communities: BTreeSet<Community>,
}

/// What one router is to hear of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RibOut {
    /// By prefix.
    pub routes: BTreeMap<IpNet, Arc<Attributes>>,
}

/// What has to be said to get from one [`RibOut`] to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Routes that are new or have changed, by what is said of them.
    pub announce: BTreeMap<Arc<Attributes>, Vec<IpNet>>,
    /// Routes that are gone.
    pub withdraw: Vec<IpNet>,
}

impl RibOut {
    /// Whether a router that has these routes knows the way to an address.
    pub fn leads_to(&self, ip: IpAddr) -> bool {
        let full = if ip.is_ipv4() { 32 } else { 128 };
        // Mostly it is announced by itself.
        (0..=full)
            .rev()
            .filter_map(|length| IpNet::new(ip, length).ok())
            .any(|net| self.routes.contains_key(&net.trunc()))
    }

    /// The same routes, about to go away (RFC 8326): routers are to prefer any other one to them.
    pub fn shutting_down(&self) -> Self {
        self.deferring(|_| true)
    }

    /// The same routes; routers are to prefer any other one to these of them, in the words of RFC 8326.
    pub fn deferring(&self, which: impl Fn(&IpNet) -> bool) -> Self {
        self.changed(which, |attributes| {
            attributes.communities.insert(Community::GRACEFUL_SHUTDOWN);
            // Within the ASN no router would lower it.
            attributes.local_pref = Some(0);
        })
    }

    /// The same routes for a router of another ASN, which gets no LOCAL_PREF (RFC 4271 §5.1.5), and so
    /// nothing when only that changes.
    pub fn for_external(&self) -> Self {
        self.changed(|_| true, |attributes| attributes.local_pref = None)
    }

    /// Routes with equal attributes go on sharing them.
    fn changed(&self, which: impl Fn(&IpNet) -> bool, change: impl Fn(&mut Attributes)) -> Self {
        let mut known: HashMap<&Arc<Attributes>, Arc<Attributes>> = HashMap::new();
        let mut routes = BTreeMap::new();
        for (prefix, attributes) in &self.routes {
            if !which(prefix) {
                routes.insert(*prefix, Arc::clone(attributes));
                continue;
            }
            let changed = known.entry(attributes).or_insert_with(|| {
                let mut changed = Attributes::clone(attributes);
                change(&mut changed);
                Arc::new(changed)
            });
            routes.insert(*prefix, Arc::clone(changed));
        }
        Self { routes }
    }
}

/// What the peer of this name is to hear of a node with these labels, and which advertisements are
/// not done as asked: (name, refusal).
///
/// Prefixes that several advertisements or addresses lead to are one route, with the communities of
/// all of them. If they ask for different LOCAL_PREFs, the older advertisement has its way, and the
/// newer one does not count for the prefix.
pub fn routes(
    addresses: &BTreeMap<IpAddr, Reachable>,
    pools: &[PoolFacts],
    advertisements: &[Advertisement],
    node: &BTreeMap<String, String>,
    peer: &str,
) -> (RibOut, Vec<(String, Problem)>) {
    let here: Vec<&Advertisement> =
        advertisements.iter().filter(|one| one.from_node(node) && one.for_peer(peer)).collect();
    // Pool by name, with the advertisements that are about it.
    let by_pool: HashMap<&str, (&PoolFacts, Vec<usize>)> = pools
        .iter()
        .map(|pool| {
            let about = (0..here.len()).filter(|index| here[*index].selects(pool)).collect();
            (pool.name.as_str(), (pool, about))
        })
        .collect();
    let mut asked: BTreeMap<IpNet, BTreeSet<usize>> = BTreeMap::new();
    for (&ip, reachable) in addresses {
        let Some((pool, about)) = by_pool.get(reachable.pool.as_str()) else { continue };
        for &index in about {
            let advertisement = here[index];
            if reachable.services.iter().any(|labels| advertisement.serves(labels))
                && let Some(prefix) = advertisement.prefix(ip, pool)
            {
                asked.entry(prefix).or_default().insert(index);
            }
        }
    }
    let mut conflicts = BTreeMap::new();
    let mut known: HashMap<BTreeSet<usize>, Arc<Attributes>> = HashMap::new();
    let mut rib = RibOut::default();
    for (prefix, indices) in asked {
        let attributes = match known.get(&indices) {
            Some(attributes) => Arc::clone(attributes),
            None => {
                let attributes = Arc::new(united(&here, &indices, prefix, &mut conflicts));
                known.insert(indices, Arc::clone(&attributes));
                attributes
            }
        };
        rib.routes.insert(prefix, attributes);
    }
    (rib, conflicts.into_values().collect())
}

/// The least that leads from `old` to `new`.
pub fn delta(old: &RibOut, new: &RibOut) -> Delta {
    let mut delta = Delta::default();
    for (prefix, attributes) in &new.routes {
        let same = |old: &Arc<Attributes>| Arc::ptr_eq(old, attributes) || old == attributes;
        if !old.routes.get(prefix).is_some_and(same) {
            delta.announce.entry(Arc::clone(attributes)).or_default().push(*prefix);
        }
    }
    let gone = old.routes.keys().filter(|prefix| !new.routes.contains_key(prefix));
    delta.withdraw.extend(gone);
    delta
}

/// What several advertisements, in order of age, say of a prefix together.
fn united(
    here: &[&Advertisement],
    indices: &BTreeSet<usize>,
    prefix: IpNet,
    conflicts: &mut BTreeMap<usize, (String, Problem)>,
) -> Attributes {
    let mut attributes = Attributes::default();
    let mut preferred_by = "";
    for &index in indices {
        let advertisement = here[index];
        match (attributes.local_pref, advertisement.local_pref()) {
            (Some(older), Some(newer)) if older != newer => {
                conflicts.entry(index).or_insert_with(|| {
                    let refusal = Problem::refused(
                        "ConflictingAdvertisements",
                        "spec.localPref",
                        format!(
                            "{prefix} is announced with localPref {older} by \"{preferred_by}\", \
                             so that {newer} does not count"
                        ),
                        "give both the same localPref, or different peers or nodes",
                    );
                    (advertisement.name().to_owned(), refusal)
                });
                continue;
            }
            (None, Some(newer)) => {
                attributes.local_pref = Some(newer);
                preferred_by = advertisement.name();
            }
            _ => {}
        }
        attributes.communities.extend(advertisement.communities());
    }
    attributes
}

#[cfg(test)]
pub(super) mod tests;
