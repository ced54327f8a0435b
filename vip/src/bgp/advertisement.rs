//! A `BGPAdvertisement`, understood: which addresses it turns into which routes, for which peers.
//!
//! The compile step of the gateway calls [`Advertisement::parse`] and [`Advertisement::mismatches`];
//! [`routes`](super::routes) applies the result to the addresses of a node. A community that
//! cannot be resolved refuses the whole advertisement: a route without its `no-export` would go
//! further than its owner allowed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use super::{
    community::{Aliases, Community},
    spec::BgpAdvertisementSpec,
};
use crate::{
    api::{IpAddressPoolSpec, LabelSelector},
    pool::selector_faults,
    problem::{Problem, duplicates},
};

/// A `BGPAdvertisement`, understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Advertisement {
    name: String,
    length_v4: u8,
    length_v6: u8,
    local_pref: Option<u32>,
    communities: BTreeSet<Community>,
    pools: BTreeSet<String>,
    pool_selectors: Vec<LabelSelector>,
    node_selectors: Vec<LabelSelector>,
    peers: BTreeSet<String>,
    service_selectors: Vec<LabelSelector>,
    refusals: Vec<Problem>,
}

/// What advertisements look at in an `IPAddressPool`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolFacts {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// The shortest aggregate that no IPv4 entry of the pool is too narrow for.
    shortest_v4: u8,
    /// The same for IPv6.
    shortest_v6: u8,
}

impl Advertisement {
    /// Reads a spec. `Err` holds at least one severe refusal: it announces nothing.
    pub fn parse(
        name: &str,
        spec: &BgpAdvertisementSpec,
        aliases: &Aliases,
    ) -> Result<Self, Vec<Problem>> {
        let mut faults = Vec::new();
        let length_v4 = length("aggregationLength", spec.aggregation_length, 32, &mut faults);
        let length_v6 = length("aggregationLengthV6", spec.aggregation_length_v6, 128, &mut faults);
        let mut communities = BTreeSet::new();
        for (index, text) in spec.communities.iter().enumerate() {
            match aliases.resolve(text) {
                Ok(community) => {
                    communities.insert(community);
                }
                Err(message) => faults.push(Problem::refused(
                    "InvalidCommunity",
                    format!("spec.communities[{index}]"),
                    message,
                    "write 65000:1 or large:65000:1:2, or name the alias in a Community",
                )),
            }
        }
        for (field, length, full) in
            [("aggregationLength", length_v4, 32), ("aggregationLengthV6", length_v6, 128)]
        {
            // The aggregate would attract traffic for services that were not selected.
            if !spec.service_selectors.is_empty() && length < full {
                faults.push(Problem::refused(
                    "InvalidAggregation",
                    format!("spec.{field}"),
                    format!("serviceSelectors does not go with {field} {length}"),
                    "remove one of them",
                ));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let selectors = [
            ("spec.ipAddressPoolSelectors", &spec.ip_address_pool_selectors),
            ("spec.nodeSelectors", &spec.node_selectors),
            ("spec.serviceSelectors", &spec.service_selectors),
        ];
        let lists = [
            ("spec.communities", &spec.communities),
            ("spec.ipAddressPools", &spec.ip_address_pools),
            ("spec.peers", &spec.peers),
        ];
        let refusals =
            selectors.iter().flat_map(|(field, selectors)| selector_faults(field, selectors));
        let refusals =
            refusals.chain(lists.into_iter().flat_map(|(field, list)| duplicates(field, list)));
        Ok(Self {
            name: name.to_owned(),
            length_v4,
            length_v6,
            local_pref: (spec.local_pref != 0).then_some(spec.local_pref),
            communities,
            pools: spec.ip_address_pools.iter().cloned().collect(),
            pool_selectors: spec.ip_address_pool_selectors.clone(),
            node_selectors: spec.node_selectors.clone(),
            peers: spec.peers.iter().cloned().collect(),
            service_selectors: spec.service_selectors.clone(),
            refusals: refusals.collect(),
        })
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `spec.localPref`; `None` if it says nothing.
    pub fn local_pref(&self) -> Option<u32> {
        self.local_pref
    }

    /// `spec.communities`, resolved.
    pub fn communities(&self) -> &BTreeSet<Community> {
        &self.communities
    }

    /// What of the spec is not done as asked, though it announces something.
    pub fn refusals(&self) -> &[Problem] {
        &self.refusals
    }

    /// Whether a node with these labels announces it.
    pub fn from_node(&self, labels: &BTreeMap<String, String>) -> bool {
        any_matches(&self.node_selectors, labels)
    }

    /// Whether it is for the `BGPPeer` of this name.
    pub fn for_peer(&self, name: &str) -> bool {
        self.peers.is_empty() || self.peers.contains(name)
    }

    /// Whether it is about a pool.
    pub fn selects(&self, pool: &PoolFacts) -> bool {
        (self.pools.is_empty() && self.pool_selectors.is_empty())
            || self.pools.contains(&pool.name)
            || self.pool_selectors.iter().any(|selector| selector.matches(&pool.labels))
    }

    /// Whether it is about a service with these labels.
    pub fn serves(&self, labels: &BTreeMap<String, String>) -> bool {
        any_matches(&self.service_selectors, labels)
    }

    /// The prefix that an address of a pool is announced as; `None` if that would reach beyond the
    /// pool.
    pub fn prefix(&self, ip: IpAddr, pool: &PoolFacts) -> Option<IpNet> {
        let (length, shortest) = match ip {
            IpAddr::V4(_) => (self.length_v4, pool.shortest_v4),
            IpAddr::V6(_) => (self.length_v6, pool.shortest_v6),
        };
        (length >= shortest).then(|| IpNet::new(ip, length).ok().map(|net| net.trunc()))?
    }

    /// What of it cannot work with these pools and peers: names of no pool or peer, and aggregates
    /// that reach beyond a pool, which is not announced then.
    pub fn mismatches(&self, pools: &[PoolFacts], peers: &[&str]) -> Vec<Problem> {
        let mut refusals = Vec::new();
        let known: Vec<_> = pools.iter().map(|pool| pool.name.as_str()).collect();
        for name in self.pools.iter().filter(|name| !known.contains(&name.as_str())) {
            refusals.push(unknown("PoolNotFound", "ipAddressPools", "usable pool", name, &known));
        }
        for name in self.peers.iter().filter(|name| !peers.contains(&name.as_str())) {
            refusals.push(unknown("PeerNotFound", "peers", "usable BGPPeer", name, peers));
        }
        for pool in pools.iter().filter(|pool| self.selects(pool)) {
            for (field, length, shortest) in [
                ("aggregationLength", self.length_v4, pool.shortest_v4),
                ("aggregationLengthV6", self.length_v6, pool.shortest_v6),
            ] {
                if length < shortest {
                    refusals.push(Problem::refused(
                        "InvalidAggregation",
                        format!("spec.{field}"),
                        format!("/{length} is wider than an entry of pool \"{}\"", pool.name),
                        format!("use at least {shortest}, or leave the pool out"),
                    ));
                }
            }
        }
        refusals
    }
}

impl PoolFacts {
    /// Looks at a pool. Entries that are not addresses are left to
    /// [`Pool::parse`](crate::Pool::parse) to complain about.
    pub fn new(name: &str, labels: &BTreeMap<String, String>, spec: &IpAddressPoolSpec) -> Self {
        let mut facts = Self { name: name.to_owned(), labels: labels.clone(), ..Self::default() };
        for entry in &spec.addresses {
            match widest(entry.trim()) {
                Some(IpNet::V4(net)) => facts.shortest_v4 = facts.shortest_v4.max(net.prefix_len()),
                Some(IpNet::V6(net)) => facts.shortest_v6 = facts.shortest_v6.max(net.prefix_len()),
                None => {}
            }
        }
        facts
    }
}

/// The widest block of an entry of a pool.
fn widest(entry: &str) -> Option<IpNet> {
    let Some((start, end)) = entry.split_once('-') else {
        return entry.parse().ok();
    };
    let blocks: Box<dyn Iterator<Item = IpNet>> =
        match (start.trim().parse().ok()?, end.trim().parse().ok()?) {
            (IpAddr::V4(start), IpAddr::V4(end)) if start <= end => {
                Box::new(Ipv4Subnets::new(start, end, 0).map(IpNet::V4))
            }
            (IpAddr::V6(start), IpAddr::V6(end)) if start <= end => {
                Box::new(Ipv6Subnets::new(start, end, 0).map(IpNet::V6))
            }
            _ => return None,
        };
    blocks.min_by_key(IpNet::prefix_len)
}

fn any_matches(selectors: &[LabelSelector], labels: &BTreeMap<String, String>) -> bool {
    selectors.is_empty() || selectors.iter().any(|selector| selector.matches(labels))
}

fn length(field: &str, given: Option<i32>, full: u8, faults: &mut Vec<Problem>) -> u8 {
    let Some(given) = given else { return full };
    match u8::try_from(given) {
        Ok(length) if (1..=full).contains(&length) => length,
        _ => {
            faults.push(Problem::refused(
                "InvalidAggregation",
                format!("spec.{field}"),
                format!("{given} is not the length of a prefix"),
                format!("use 1 to {full}"),
            ));
            full
        }
    }
}

fn unknown(reason: &'static str, field: &str, what: &str, name: &str, known: &[&str]) -> Problem {
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Problem::noted(
        reason,
        format!("spec.{field}"),
        format!("there is no {what} \"{name}\""),
        format!("there are: {known}"),
    )
}

#[cfg(test)]
mod tests;
