//! Who gets which address: a pure function of pools and claims.
//!
//! The compile step of the gateway calls [`allocate`] and records the result, which comes back as
//! `recorded` the next time. Nothing else hands out addresses. An address in use is never taken away
//! because of somebody else's wish, nor because of its own holder's mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::pool::Pool;
use crate::ranges::{AddressSet, Family};
use crate::refusal::Refusal;

/// Who wants addresses: `namespace/name`, opaque to this crate.
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
    /// One of each if one pool has both, else one of family `first`, else one of the other.
    PreferDual {
        /// The family that matters more (`spec.ipFamilies[0]`).
        first: Family,
    },
    /// One of each, from one pool.
    RequireDual {
        /// The family that is listed first (`spec.ipFamilies[0]`).
        first: Family,
    },
}

/// A wish for addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who wants them.
    pub id: ClaimId,
    /// How many, of which family.
    pub families: Families,
    /// Exactly these addresses, at most one of each family; empty: any.
    pub requested: Vec<IpAddr>,
    /// Only from this pool.
    pub pool: Option<String>,
    /// What the claim holds already (`status.loadBalancer`, state file).
    pub recorded: Vec<IpAddr>,
}

/// What one claim gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Assignment {
    /// The pool that all its addresses are from.
    pub pool: String,
    /// At most one of each family, the claim's first family first.
    pub ips: Vec<IpAddr>,
}

/// The result of [`allocate`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// Who got what.
    pub assigned: BTreeMap<ClaimId, Assignment>,
    /// Who did not get what was asked for. A claim may be in both maps: not severe then.
    pub refused: BTreeMap<ClaimId, Vec<Refusal>>,
}

/// How often claims that got nothing are tried again because a mover released addresses. What is
/// still open after that waits for the next call.
const PASSES: usize = 8;

/// Gives addresses of `pools` (oldest first, without the ones that [`overlaps`](crate::overlaps)
/// calls unusable) to `claims` (in the order in which new ones are to be served).
///
/// Recorded addresses that a pool still has stay, whatever the order of the claims. Then come
/// requested addresses, then claims that name a pool, then the lowest free address of the pools that
/// assign by themselves. A claim that cannot have what it newly asks for keeps what it has and gets
/// a refusal that is not severe. Of several claims with one id only the first counts.
pub fn allocate(pools: &[Pool], claims: &[Claim]) -> Allocation {
    let mut seen = BTreeSet::new();
    let claims: Vec<&Claim> = claims.iter().filter(|claim| seen.insert(&claim.id)).collect();
    let mut ledger = Ledger::new(pools);
    let mut by_id = claims.clone();
    by_id.sort_by(|a, b| a.id.cmp(&b.id));
    for claim in by_id {
        ledger.keep_recorded(claim);
    }
    let mut open: Vec<&Claim> =
        claims.iter().copied().filter(|claim| !ledger.satisfied(claim)).collect();
    open.sort_by_key(|claim| (claim.urgency(), !ledger.held.contains_key(&claim.id)));
    let mut failures = BTreeMap::new();
    for _ in 0..PASSES {
        let mut released = false;
        open.retain(|claim| match ledger.attempt(claim) {
            Ok(assignment) => {
                released |= ledger.hold(claim, assignment);
                failures.remove(&claim.id);
                // One that prefers two addresses and got one may get the second in the next pass.
                !ledger.satisfied(claim)
            }
            Err(failure) => {
                failures.insert(claim.id.clone(), failure);
                true
            }
        });
        if !released {
            break;
        }
    }
    ledger.finish(failures)
}

impl Claim {
    /// Requested addresses first, so that nobody gets them by accident; then named pools.
    fn urgency(&self) -> u8 {
        match (self.requested.is_empty(), &self.pool) {
            (false, _) => 0,
            (true, Some(_)) => 1,
            (true, None) => 2,
        }
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

    /// Combinations that would do, best first.
    fn acceptable(self) -> Vec<&'static [Family]> {
        let wanted = self.wanted();
        match self {
            Self::PreferDual { .. } => vec![wanted, &wanted[..1], &wanted[1..]],
            _ => vec![wanted],
        }
    }
}

/// Who holds what while the allocation is made.
struct Ledger<'a> {
    pools: &'a [Pool],
    by_name: BTreeMap<&'a str, &'a Pool>,
    /// Pools that assign by themselves, in the order in which they are tried.
    automatic: Vec<&'a Pool>,
    used: AddressSet,
    holder: BTreeMap<IpAddr, ClaimId>,
    held: BTreeMap<ClaimId, Assignment>,
    lost: BTreeMap<ClaimId, Vec<Refusal>>,
}

impl<'a> Ledger<'a> {
    fn new(pools: &'a [Pool]) -> Self {
        let mut automatic: Vec<&Pool> =
            pools.iter().filter(|pool| pool.auto_assign() && !pool.restricted()).collect();
        automatic.sort_by_key(|pool| pool.rank());
        Self {
            pools,
            by_name: pools.iter().rev().map(|pool| (pool.name(), pool)).collect(),
            automatic,
            used: AddressSet::default(),
            holder: BTreeMap::new(),
            held: BTreeMap::new(),
            lost: BTreeMap::new(),
        }
    }

    /// Lets a claim keep of its recorded addresses what is still allowed: at most one of each family
    /// that it wants, all from one pool, held by nobody else.
    fn keep_recorded(&mut self, claim: &Claim) {
        let mut kept: Option<(&Pool, Vec<IpAddr>)> = None;
        for &ip in &claim.recorded {
            let family = Family::of(ip);
            let surplus = kept.as_ref().is_some_and(|(pool, ips)| {
                !pool.contains(ip) || ips.iter().any(|kept| Family::of(*kept) == family)
            });
            if surplus || !claim.families.wanted().contains(&family) {
                continue;
            }
            match self.available(claim, ip) {
                Ok(pool) => kept.get_or_insert((pool, Vec::new())).1.push(ip),
                Err(why) => self.lost.entry(claim.id.clone()).or_default().push(Refusal::warning(
                    "AddressReleased",
                    "",
                    format!("{ip} is given up: {}", why.message),
                    "",
                )),
            }
        }
        if let Some((pool, ips)) = kept {
            self.hold(claim, Assignment { pool: pool.name().to_owned(), ips });
        }
    }

    /// Whether what a claim holds is all that it asks for.
    fn satisfied(&self, claim: &Claim) -> bool {
        let Some(held) = self.held.get(&claim.id) else { return false };
        held.ips.len() == claim.families.wanted().len()
            && claim.requested.iter().all(|ip| held.ips.contains(ip))
            && claim.pool.as_ref().is_none_or(|pool| *pool == held.pool)
    }

    /// What a claim could hold instead of what it holds, or why it cannot.
    fn attempt(&self, claim: &Claim) -> Result<Assignment, Refusal> {
        if !claim.requested.is_empty() {
            return self.attempt_requested(claim);
        }
        let held = self.held.get(&claim.id);
        let settled = held.filter(|held| claim.pool.as_ref().is_none_or(|pool| *pool == held.pool));
        let candidates = match (&settled, &claim.pool) {
            // It has an address that it may keep, so the second family can only join it there.
            (Some(held), _) => vec![self.named(&held.pool)?],
            (None, Some(name)) => vec![self.named(name)?],
            (None, None) if self.automatic.is_empty() => return Err(self.no_automatic_pool()),
            (None, None) => self.automatic.clone(),
        };
        let keep = settled.map_or(&[][..], |held| &held.ips);
        let found = claim.families.acceptable().into_iter().find_map(|families| {
            let all_kept = keep.iter().all(|ip| families.contains(&Family::of(*ip)));
            let pool = candidates.iter().filter(|_| all_kept);
            pool.into_iter().find_map(|pool| self.fill(pool, families, keep))
        });
        found.ok_or_else(|| {
            let mut failure = exhausted(claim, &candidates);
            if settled.is_some() {
                "name a pool that has free addresses of both families to move the service there"
                    .clone_into(&mut failure.hint);
            }
            failure
        })
    }

    fn attempt_requested(&self, claim: &Claim) -> Result<Assignment, Refusal> {
        let wanted = claim.families.wanted();
        for (index, &ip) in claim.requested.iter().enumerate() {
            let family = Family::of(ip);
            if !wanted.contains(&family) {
                let families = family_names(wanted);
                return Err(Refusal::error(
                    "FamilyMismatch",
                    "requested",
                    format!("the requested address {ip} is not {families}"),
                    format!("request {families}, or change the families of the service"),
                ));
            }
            if claim.requested[..index].iter().any(|other| Family::of(*other) == family) {
                return Err(Refusal::error(
                    "TooManyAddresses",
                    "requested",
                    format!("{ip} is the second {family} address requested"),
                    "request at most one address of each family",
                ));
            }
        }
        let mut pool = None;
        for &ip in &claim.requested {
            let home = self.available(claim, ip)?;
            if pool.is_some_and(|pool: &Pool| pool.name() != home.name()) {
                return Err(Refusal::error(
                    "DifferentPools",
                    "requested",
                    format!("the requested address {ip} is of another pool than the one before"),
                    "request addresses of one pool",
                ));
            }
            if claim.pool.as_ref().is_some_and(|name| name != home.name()) {
                return Err(Refusal::error(
                    "PoolMismatch",
                    "requested",
                    format!("the requested address {ip} is of pool \"{}\"", home.name()),
                    format!("name pool \"{}\", or none", home.name()),
                ));
            }
            pool = Some(home);
        }
        // The caller has made sure that there is at least one requested address.
        let Some(pool) = pool else { return Err(self.no_automatic_pool()) };
        let requested: Vec<_> = claim.requested.iter().map(|ip| Family::of(*ip)).collect();
        // What is not requested stays as it is, if it can.
        let held = self.held.get(&claim.id).into_iter().flat_map(|held| &held.ips);
        let keep = claim.requested.iter().chain(held.filter(|ip| pool.contains(**ip)));
        let keep: Vec<IpAddr> = keep.copied().collect();
        claim
            .families
            .acceptable()
            .into_iter()
            .filter(|families| requested.iter().all(|family| families.contains(family)))
            .find_map(|families| self.fill(pool, families, &keep))
            .ok_or_else(|| exhausted(claim, &[pool]))
    }

    /// One address of `pool` for each family: of `keep`, or the lowest free one.
    fn fill(&self, pool: &Pool, families: &[Family], keep: &[IpAddr]) -> Option<Assignment> {
        let ips = families.iter().map(|family| {
            let kept = keep.iter().copied().find(|ip| Family::of(*ip) == *family);
            kept.or_else(|| pool.lowest_free(&self.used, *family))
        });
        Some(Assignment { pool: pool.name().to_owned(), ips: ips.collect::<Option<_>>()? })
    }

    /// The pool that an address is of, if this claim may have the address.
    fn available(&self, claim: &Claim, ip: IpAddr) -> Result<&'a Pool, Refusal> {
        let Some(pool) = self.pools.iter().find(|pool| pool.contains(ip)) else {
            let hint = if self.pools.is_empty() { "create an IPAddressPool" } else { "" };
            return Err(Refusal::error(
                "AddressNotInPool",
                "requested",
                format!("{ip} is in no pool; looked in: {}", names(self.pools.iter())),
                hint,
            ));
        };
        if pool.restricted() {
            return Err(restricted("requested", pool));
        }
        match self.holder.get(&ip) {
            Some(holder) if *holder != claim.id => Err(Refusal::error(
                "AddressInUse",
                "requested",
                format!("{ip} is in use by {holder}"),
                "request another address, or none",
            )),
            _ => Ok(pool),
        }
    }

    fn named(&self, name: &str) -> Result<&'a Pool, Refusal> {
        match self.by_name.get(name) {
            Some(pool) if pool.restricted() => Err(restricted("pool", pool)),
            Some(pool) => Ok(pool),
            None => Err(Refusal::error(
                "PoolNotFound",
                "pool",
                format!("there is no usable pool \"{name}\""),
                format!("pools: {}", names(self.pools.iter())),
            )),
        }
    }

    fn no_automatic_pool(&self) -> Refusal {
        Refusal::error(
            "NoPool",
            "",
            format!("no pool assigns addresses by itself; pools: {}", names(self.pools.iter())),
            "create an IPAddressPool with autoAssign, or name one of the pools",
        )
    }

    /// Books an assignment in the place of the former one; true if an address became free by that.
    fn hold(&mut self, claim: &Claim, assignment: Assignment) -> bool {
        let former = self.held.remove(&claim.id).map_or_else(Vec::new, |former| former.ips);
        for ip in &former {
            self.used.remove(*ip);
            self.holder.remove(ip);
        }
        for &ip in &assignment.ips {
            self.used.insert(ip);
            self.holder.insert(ip, claim.id.clone());
        }
        let released = former.iter().any(|ip| !assignment.ips.contains(ip));
        let mut assignment = assignment;
        let wanted = claim.families.wanted();
        assignment
            .ips
            .sort_by_key(|ip| wanted.iter().position(|family| *family == Family::of(*ip)));
        self.held.insert(claim.id.clone(), assignment);
        released
    }

    fn finish(self, failures: BTreeMap<ClaimId, Refusal>) -> Allocation {
        let mut refused = self.lost;
        for (id, mut failure) in failures {
            if let Some(held) = self.held.get(&id) {
                failure.severe = false;
                let kept: Vec<_> = held.ips.iter().map(ToString::to_string).collect();
                failure.message += &format!("; {} stays in use", kept.join(" and "));
            }
            refused.entry(id).or_default().push(failure);
        }
        Allocation { assigned: self.held, refused }
    }
}

fn exhausted(claim: &Claim, tried: &[&Pool]) -> Refusal {
    let families = family_names(claim.families.wanted());
    let tried_names = names(tried.iter().copied());
    let wanted = claim.families.wanted();
    let lacking = wanted.iter().find(|family| tried.iter().all(|pool| pool.size(**family) == 0));
    match (lacking, claim.families) {
        (Some(family), Families::V4 | Families::V6 | Families::RequireDual { .. }) => {
            Refusal::error(
                "NoPool",
                "families",
                format!("no pool with {family} addresses; looked in: {tried_names}"),
                format!("add {family} addresses to a pool, or change the families of the service"),
            )
        }
        _ => Refusal::error(
            "PoolExhausted",
            if claim.pool.is_some() { "pool" } else { "" },
            format!("no free {families} address; looked in: {tried_names}"),
            "add addresses to a pool, or delete services that hold some",
        ),
    }
}

fn restricted(field: &str, pool: &Pool) -> Refusal {
    Refusal::error(
        "PoolRestricted",
        field,
        format!("pool \"{}\" is limited by serviceAllocation, not supported yet", pool.name()),
        "use another pool, or remove the limits of this one",
    )
}

fn names<'a>(pools: impl Iterator<Item = &'a Pool>) -> String {
    let names: Vec<_> = pools.map(Pool::name).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn family_names(families: &[Family]) -> String {
    families.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
#[path = "alloc_tests.rs"]
mod tests;
