//! Which claim gets which address: a pure function of pools and claims.
//!
//! The compile step of the gateway calls [`allocate`] and records the result, which comes back as
//! `recorded` the next time. Nothing else hands out addresses; a node that may not
//! deal addresses out takes what is recorded ([`follow()`]). An address in use is never taken away
//! because of the request of another claim, nor because of its own holder's mistake; an address that its
//! holder let go is quarantined before another claim may have it ([`Quarantined`], [`Quarantine`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    sync::Arc,
};

use serde::Serialize;

use crate::{
    pool::{Pool, Tenant, ranges::Family},
    problem::Problem,
};

mod denial;
mod follow;
mod ledger;
mod overlap;
mod quarantine;
mod sharing;
mod strangers;
mod usage;

pub use follow::follow;
use ledger::Ledger;
pub use overlap::part;
pub use quarantine::{QUARANTINE, Quarantine, Quarantined};
pub use sharing::{Sharing, TrafficPolicy};
pub use strangers::Strangers;
pub use usage::{PoolUsage, usage};

/// The name of a claim: `namespace/name`, opaque to this crate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(pub Arc<str>);

impl Serialize for ClaimId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The address families that a claim wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// One IPv4 address.
    V4,
    /// One IPv6 address.
    V6,
    /// One of each if they can be had, else one of family `first`, else one of the other.
    PreferDual {
        /// The family that matters more (`spec.ipFamilies[0]`).
        first: Family,
    },
    /// One of each, or none.
    RequireDual {
        /// The family that is listed first (`spec.ipFamilies[0]`).
        first: Family,
    },
}

/// A request for addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its name.
    pub id: ClaimId,
    /// What pools may ask about the claim before they serve it.
    pub tenant: Tenant,
    /// How many, of which family.
    pub families: Families,
    /// Exactly these addresses, at most one of each family; empty: any.
    pub requested: Vec<IpAddr>,
    /// Only from this pool.
    pub pool: Option<String>,
    /// With which claims it may share an address; `None`: with none.
    pub sharing: Option<Sharing>,
    /// What the claim holds already (`status.loadBalancer`, state file).
    pub recorded: Vec<IpAddr>,
}

/// One address that a claim got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The address.
    pub ip: IpAddr,
    /// The pool that it is from.
    pub pool: Arc<str>,
}

/// The result of [`allocate`] or [`follow()`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// What each claim got: at most one address of each family, the claim's first family first.
    pub assigned: BTreeMap<ClaimId, Vec<Assignment>>,
    /// The claims that did not get what they asked for. A claim may be in both maps: not severe then.
    pub refused: BTreeMap<ClaimId, Vec<Problem>>,
    /// Addresses that no claim holds and only their former holders could have had: those that came in as
    /// quarantined, and those that were let go now.
    pub quarantined: Quarantined,
}

/// Gives addresses of `pools` (oldest first, sharing nothing: [`part`]) to `claims` (in the order in which new ones are to be served).
///
/// Recorded addresses that a pool still allows stay, whatever the order of the claims; then former
/// holders get back what is quarantined. Then come requested addresses, then claims that name a pool,
/// then the first address that is free, or that the claim may share, of the pools that assign by
/// themselves, in the order of their lists. A claim that held an address and can keep none comes before all that wait for their first one,
/// and is not given what another one requests, as long as there is anything else. A Service that could have more when all
/// have been served is served again, so that the result, recorded, is the result of the next time too. A claim that cannot have
/// what it newly asks for keeps what it has and gets a refusal that is not severe. What a claim lets go is quarantined. Of several claims with one id only the first counts.
///
/// A claim that did not ask for an address which hosts outside use (`occupied`) gets another one instead,
/// if there is one; nobody gets an occupied address without asking for it.
pub fn allocate(
    pools: &[Pool],
    claims: &[Claim],
    quarantined: &Quarantined,
    occupied: &BTreeSet<IpAddr>,
) -> Allocation {
    let mut seen = BTreeSet::new();
    let claims: Vec<&Claim> = claims.iter().filter(|claim| seen.insert(&claim.id)).collect();
    let mut ledger = Ledger::new(pools, quarantined, occupied);
    let mut by_id = claims.clone();
    by_id.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    for claim in &by_id {
        ledger.keep_recorded(claim);
    }
    for claim in &by_id {
        ledger.return_quarantined(claim);
    }
    let mut open: Vec<&Claim> = claims;
    open.retain(|claim| !ledger.satisfied(claim));
    open.iter().for_each(|claim| ledger.reserve_requested(claim));
    open.sort_by_cached_key(|claim| {
        (!ledger.has_lost(claim), claim.urgency(), !ledger.holds(claim))
    });
    for claim in &open {
        ledger.serve(claim);
    }
    // What one claim left another one may have asked for, and what one got others may share. It ends: of each
    // family a claim moves once at most, to what it asks for.
    while ledger.take_room() {
        open.retain(|claim| !ledger.satisfied(claim));
        for claim in &open {
            ledger.serve(claim);
        }
    }
    by_id.into_iter().for_each(|claim| ledger.note_open(claim));
    ledger.finish()
}

impl Claim {
    /// Requested addresses first, so that no other claim gets them by accident; then named pools.
    fn urgency(&self) -> u8 {
        match (self.requested.is_empty(), &self.pool) {
            (false, _) => 0,
            (true, Some(_)) => 1,
            (true, None) => 2,
        }
    }

    /// Whether the claim asks for no pool, or for this one.
    fn allows(&self, pool: &str) -> bool {
        self.pool.as_ref().is_none_or(|name| name == pool)
    }
}

impl Families {
    /// The families that the claim can make use of, the first one first.
    pub fn wanted(self) -> &'static [Family] {
        match self {
            Self::V4 => &[Family::V4],
            Self::V6 => &[Family::V6],
            Self::PreferDual { first: Family::V4 } | Self::RequireDual { first: Family::V4 } => {
                &[Family::V4, Family::V6]
            }
            Self::PreferDual { first: Family::V6 } | Self::RequireDual { first: Family::V6 } => {
                &[Family::V6, Family::V4]
            }
        }
    }

    /// Whether less than all the wanted families is nothing.
    fn strict(self) -> bool {
        !matches!(self, Self::PreferDual { .. })
    }
}

#[cfg(test)]
mod tests;
