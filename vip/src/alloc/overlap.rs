//! Pools that have addresses in common: each of these is of one pool nevertheless, so that nobody loses any.
//!
//! Which of two pools was edited by mistake cannot be known, and must not matter to those who hold addresses.

use std::{collections::BTreeMap, net::IpAddr};

use super::Claim;
use crate::pool::{Pool, ranges::AddressSet};

/// Has every address be of one pool only, of pools in order of age. Says which pools have addresses that are in an older
/// one as well: (newer, older, such a range).
///
/// What pools share is the oldest one's, but for what is held: that is of the pool that its holder names, if it lets the
/// holder in, else of the oldest one that does. The newer of two pools gives nothing new.
pub fn part(pools: &mut [Pool], claims: &[Claim]) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for (at, newer) in pools.iter().enumerate() {
        let shared = pools[..at].iter().find_map(|older| Some((older, newer.shares(older)?)));
        if let Some((older, range)) = shared {
            found.push((newer.name().to_owned(), older.name().to_owned(), range));
        }
    }
    if found.is_empty() {
        return found;
    }
    let owners = owners(pools, claims);
    let mut older = AddressSet::default();
    for (at, pool) in pools.iter_mut().enumerate() {
        let mut others = older.clone();
        let mut own = Vec::new();
        for (ip, owner) in &owners {
            if *owner != at {
                others.insert(*ip);
            } else if older.contains(*ip) {
                own.push(*ip);
            }
        }
        for &(family, first, last) in pool.listed() {
            older.of_mut(family).insert(first, last);
        }
        pool.keep(&others, &own);
        if found.iter().any(|(newer, ..)| newer == pool.name()) {
            *pool = pool.clone().drained(true);
        }
    }
    found
}

/// The pools of addresses that are held and in several of them, by index.
fn owners(pools: &[Pool], claims: &[Claim]) -> BTreeMap<IpAddr, usize> {
    let mut owners = BTreeMap::new();
    for claim in claims {
        for &ip in &claim.recorded {
            let lets_in = |pool: &Pool| pool.contains(ip) && pool.admits(&claim.tenant).is_ok();
            let mut open = (0..pools.len()).filter(|at| lets_in(&pools[*at]));
            let named = |at: &usize| claim.pool.as_deref() == Some(pools[*at].name());
            if let Some(owner) = open.clone().find(named).or_else(|| open.next()) {
                // Of several that share it, the oldest one decides.
                owners.entry(ip).or_insert(owner);
            }
        }
    }
    owners
}
