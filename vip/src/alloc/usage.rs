//! How full the pools are: a pure function of an allocation, for status, metrics and dry runs.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

use super::Allocation;
use crate::pool::{Pool, ranges::Family};

/// How full one pool is. Assigned, available and quarantined addresses are all that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolUsage {
    /// `metadata.name` of the pool.
    pub pool: String,
    /// IPv4 addresses that claims hold; a shared one counts once.
    pub assigned_v4: u128,
    /// IPv6 addresses that claims hold.
    pub assigned_v6: u128,
    /// IPv4 addresses that are free; a draining pool does not give them.
    pub available_v4: u128,
    /// IPv6 addresses that are free.
    pub available_v6: u128,
    /// IPv4 addresses that were let go and are not given to others yet.
    pub quarantined_v4: u128,
    /// IPv6 addresses that were let go and are not given to others yet.
    pub quarantined_v6: u128,
    /// The pool gives nothing new.
    pub draining: bool,
}

/// How full each of `pools` is after `allocation`, in their order.
pub fn usage(pools: &[Pool], allocation: &Allocation) -> Vec<PoolUsage> {
    let mut held: HashMap<&str, BTreeSet<IpAddr>> = HashMap::new();
    for assignment in allocation.assigned.values().flatten() {
        held.entry(&assignment.pool).or_default().insert(assignment.ip);
    }
    pools
        .iter()
        .map(|pool| {
            let held = held.get(pool.name());
            let assigned = |family| {
                let ips = held.into_iter().flatten();
                ips.filter(|ip| Family::of(**ip) == family).count() as u128
            };
            let quarantined = |family| {
                let ips = allocation.quarantined.keys();
                ips.filter(|ip| Family::of(**ip) == family && pool.contains(**ip)).count() as u128
            };
            let [v4, v6] = [Family::V4, Family::V6].map(|family| {
                let (assigned, quarantined) = (assigned(family), quarantined(family));
                (assigned, pool.size(family).saturating_sub(assigned + quarantined), quarantined)
            });
            PoolUsage {
                pool: pool.name().to_owned(),
                assigned_v4: v4.0,
                assigned_v6: v6.0,
                available_v4: v4.1,
                available_v6: v6.1,
                quarantined_v4: v4.2,
                quarantined_v6: v6.2,
                draining: pool.draining(),
            }
        })
        .collect()
}
