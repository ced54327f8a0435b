//! Claims that may live on one address: same key, other ports, same traffic policy.
//!
//! The rules are MetalLB's for `metallb.io/allow-shared-ip` (`internal/allocator/allocator.go`,
//! `checkSharing`; `controller/service.go`, `backendKey`); the key counts in the whole cluster, not per
//! namespace. The ledger asks this file whether a claim may join the holders of an address.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Claim, ClaimId};

/// With which claims a claim may share its addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sharing {
    /// Claims share with those of the same key only (`metallb.io/allow-shared-ip`).
    pub key: String,
    /// Where the traffic of the service may go.
    pub policy: TrafficPolicy,
    /// Protocol (`TCP`) and port that the claim needs for itself on the address.
    pub ports: BTreeSet<(String, u16)>,
}

/// `spec.externalTrafficPolicy`, as far as sharing depends on it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrafficPolicy {
    /// Any node will do.
    Cluster,
    /// Only nodes with an endpoint: the same nodes only for services with this same `spec.selector`.
    Local(BTreeMap<String, String>),
}

/// The claims on one address.
#[derive(Debug, Default)]
pub(super) struct Holders<'a> {
    claims: Vec<&'a Claim>,
    ports: HashMap<&'a (String, u16), &'a ClaimId>,
}

impl<'a> Holders<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    pub(super) fn add(&mut self, claim: &'a Claim) {
        self.claims.push(claim);
        for port in claim.sharing.iter().flat_map(|sharing| &sharing.ports) {
            self.ports.insert(port, &claim.id);
        }
    }

    pub(super) fn remove(&mut self, id: &ClaimId) {
        self.claims.retain(|claim| claim.id != *id);
        self.ports.retain(|_, holder| *holder != id);
    }

    /// Why a claim cannot be one of the holders; `Ok` if it can, or is.
    pub(super) fn admit(&self, claim: &Claim) -> Result<(), String> {
        let Some(other) = self.claims.iter().find(|other| other.id != claim.id) else {
            return Ok(());
        };
        let holder = format!("is in use by {}", other.id);
        let (Some(mine), Some(theirs)) = (&claim.sharing, &other.sharing) else {
            return Err(match &claim.sharing {
                Some(_) => format!("{holder}, which shares it with nobody"),
                None => holder,
            });
        };
        if mine.key != theirs.key {
            return Err(format!("{holder}, which shares it under the key \"{}\"", theirs.key));
        }
        if mine.policy != theirs.policy {
            return Err(format!(
                "{holder}, of another externalTrafficPolicy, or of another selector with Local"
            ));
        }
        match self.conflict(mine, &claim.id) {
            Some(((protocol, port), other)) => {
                Err(format!("is in use by {other}, on {protocol} port {port} too"))
            }
            None => Ok(()),
        }
    }

    fn conflict<'s>(
        &'s self,
        sharing: &'s Sharing,
        id: &ClaimId,
    ) -> Option<(&'s (String, u16), &'s ClaimId)> {
        let taken = sharing.ports.iter().filter_map(|port| Some((port, *self.ports.get(port)?)));
        taken.into_iter().find(|(_, holder)| *holder != id)
    }
}
