//! What claims hold by their records: for a node that does not deal addresses out.

use super::{Allocation, Assignment, Claim, Quarantined};
use crate::pool::{Pool, ranges::Family};

/// Gives every claim its recorded addresses, at most one of each family, and nothing else.
///
/// An address that is in no pool is left out, for nothing says how to announce it. Claims without a record
/// are absent from the result: they wait. Nothing is refused: the node that deals addresses out says whether
/// a record still fits. What is quarantined stays so until it is recorded again.
pub fn follow(pools: &[Pool], claims: &[Claim], quarantined: &Quarantined) -> Allocation {
    let mut allocation = Allocation { quarantined: quarantined.clone(), ..Allocation::default() };
    for claim in claims {
        let mut given: Vec<Assignment> = Vec::new();
        for &ip in &claim.recorded {
            let known = given.iter().any(|known| Family::of(known.ip) == Family::of(ip));
            let pool = pools.iter().find(|pool| pool.contains(ip)).filter(|_| !known);
            if let Some(pool) = pool {
                given.push(Assignment { ip, pool: pool.name().into() });
                allocation.quarantined.remove(&ip);
            }
        }
        if !given.is_empty() {
            allocation.assigned.entry(claim.id.clone()).or_insert(given);
        }
    }
    allocation
}
