//! Claims that may live on one address: same key, other ports, same traffic policy.
//!
//! The rules are MetalLB's for `metallb.io/allow-shared-ip` (`internal/allocator/allocator.go`,
//! `checkSharing`; `controller/service.go`, `backendKey`); the key counts in the whole cluster, not per
//! namespace. The ledger asks this file whether a claim may join the holders of an address.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

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

impl TrafficPolicy {
    fn name(&self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Local(_) => "Local",
        }
    }
}

/// Why a claim cannot share an address with one that holds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ShareRefusal {
    holder: ClaimId,
    cause: Cause,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    /// The holder shares with nobody.
    Alone,
    /// The claim shares with nobody.
    NoKey,
    /// The holder has this other key.
    Key(String),
    /// The traffic policies of the claim and of the holder differ.
    Policy(&'static str, &'static str),
    /// Both are `Local`, and their selectors differ.
    Selector,
    /// The holder needs this port as well.
    Port((String, u16)),
}

impl fmt::Display for ShareRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "is in use by {}", self.holder)?;
        match &self.cause {
            Cause::Alone => f.write_str(", which shares it with nobody"),
            Cause::NoKey => Ok(()),
            Cause::Key(key) => write!(f, ", which shares it under the key \"{key}\""),
            Cause::Policy(mine, theirs) => write!(
                f,
                ", whose externalTrafficPolicy is {theirs}, while this Service's is {mine}"
            ),
            Cause::Selector => {
                f.write_str(", which has another selector, with externalTrafficPolicy Local")
            }
            Cause::Port((protocol, port)) => write!(f, ", on {protocol} port {port} too"),
        }
    }
}

impl ShareRefusal {
    /// What would let both share the address.
    pub(super) fn remedy(&self) -> String {
        match &self.cause {
            Cause::Alone | Cause::NoKey => {
                "to share it, give both the same metallb.io/allow-shared-ip".to_owned()
            }
            Cause::Key(key) => {
                format!("to share it, write metallb.io/allow-shared-ip: \"{key}\"")
            }
            Cause::Policy(..) => {
                "to share it, give both Services externalTrafficPolicy Cluster".to_owned()
            }
            Cause::Selector => {
                "to share it, give both externalTrafficPolicy Cluster, or the same selector"
                    .to_owned()
            }
            Cause::Port(_) => "to share it, use other ports".to_owned(),
        }
    }
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

    pub(super) fn number(&self) -> usize {
        self.claims.len()
    }

    /// Why a claim cannot be one of the holders; `Ok` if it can, or is.
    pub(super) fn admit(&self, claim: &Claim) -> Result<(), ShareRefusal> {
        let Some(other) = self.claims.iter().find(|other| other.id != claim.id) else {
            return Ok(());
        };
        let refused = |cause| Err(ShareRefusal { holder: other.id.clone(), cause });
        let (Some(mine), Some(theirs)) = (&claim.sharing, &other.sharing) else {
            return refused(match &claim.sharing {
                Some(_) => Cause::Alone,
                None => Cause::NoKey,
            });
        };
        if mine.key != theirs.key {
            return refused(Cause::Key(theirs.key.clone()));
        }
        match (&mine.policy, &theirs.policy) {
            (mine, theirs) if mine == theirs => {}
            (TrafficPolicy::Local(_), TrafficPolicy::Local(_)) => return refused(Cause::Selector),
            (mine, theirs) => return refused(Cause::Policy(mine.name(), theirs.name())),
        }
        match self.conflict(mine, &claim.id) {
            Some((port, other)) => {
                Err(ShareRefusal { holder: other.clone(), cause: Cause::Port(port.clone()) })
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
