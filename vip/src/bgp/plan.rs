//! What this node tells its routers: the meeting point of allocation, BGP objects and node.
//!
//! The compile step of the gateway calls [`plan`] and hands the [`BgpPlan`], as far as its listeners
//! are open, to the [`BgpSpeaker`](crate::BgpSpeaker). What an object asks for and does not get becomes
//! a refusal of that object and takes nothing else along; a session whose password or BFD profile is
//! missing is not run without it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    Advertisement, Aliases, Password, Peer, PoolFacts, Reachable, RibOut, peers_for, routes,
    spec::{BfdProfileSpec, BgpAdvertisementSpec, BgpPeerSpec, CommunitySpec},
};
use crate::{
    alloc::{Allocation, Assignment, ClaimId},
    bgp::bfd,
    plan::{NodeFacts, Wanted},
    problem::Problem,
};

/// What one node tells its routers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BgpPlan {
    /// Sessions, by the name of the `BGPPeer`.
    pub peers: BTreeMap<String, Arc<PeerConfig>>,
    /// What each of them is to hear of; a route counts as long as one of its addresses is in
    /// `addresses`.
    pub routes: BTreeMap<String, Arc<RibOut>>,
    /// Addresses that some router hears of, and the claims that are served on them. They belong on the loopback
    /// interface.
    pub addresses: BTreeMap<IpAddr, Vec<ClaimId>>,
}

/// Everything that one session depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerConfig {
    /// The router.
    pub peer: Peer,
    /// Key of the TCP MD5 signature (RFC 2385).
    pub password: Option<Secret>,
    /// How BFD watches the router; `None`: not at all.
    pub bfd: Option<bfd::Settings>,
}

/// A password; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

/// A kind of object that has a say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BgpObject {
    /// `BGPPeer`.
    Peer,
    /// `BGPAdvertisement`.
    Advertisement,
    /// `BFDProfile`.
    Profile,
    /// `Community`.
    Community,
}

/// The objects, each as (name, spec) in order of age, names unique within a kind.
#[derive(Clone, Debug, Default)]
pub struct BgpObjects {
    /// `BGPPeer`.
    pub peers: Vec<(String, BgpPeerSpec)>,
    /// `BGPAdvertisement`.
    pub advertisements: Vec<(String, BgpAdvertisementSpec)>,
    /// `BFDProfile`.
    pub profiles: Vec<(String, BfdProfileSpec)>,
    /// `Community`.
    pub communities: Vec<(String, CommunitySpec)>,
    /// The usable `IPAddressPool`s.
    pub pools: Vec<PoolFacts>,
    /// By name of the peer, the key that its `passwordSecret` leads to, or why it leads to none.
    pub secrets: BTreeMap<String, Result<Secret, Problem>>,
}

/// The result of [`plan`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BgpPlanned {
    /// What this node tells its routers.
    pub plan: BgpPlan,
    /// What is not done as asked, by object.
    pub refusals: Vec<(BgpObject, String, Problem)>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl BgpObject {
    /// `kind` of the object.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Peer => "BGPPeer",
            Self::Advertisement => "BGPAdvertisement",
            Self::Profile => "BFDProfile",
            Self::Community => "Community",
        }
    }
}

impl BgpPlan {
    /// The part of the plan that is about these addresses; sessions stay.
    pub fn only(&self, keep: impl Fn(&IpAddr) -> bool) -> Self {
        let mut plan = self.clone();
        plan.addresses.retain(|ip, _| keep(ip));
        plan
    }

    /// The same plan, with routers preferring other nodes for these addresses. A route to several addresses is as good as
    /// the best of them.
    pub fn deferring(&self, addresses: &BTreeSet<IpAddr>) -> Self {
        let defers = |prefix: &IpNet| {
            let mut within = self
                .addresses
                .range(prefix.network()..=prefix.broadcast())
                .map(|(ip, _)| ip)
                .peekable();
            within.peek().is_some() && within.all(|ip| addresses.contains(ip))
        };
        let mut plan = self.clone();
        for rib in plan.routes.values_mut().filter(|rib| rib.routes.keys().any(&defers)) {
            *rib = Arc::new(rib.deferring(defers));
        }
        plan
    }

    /// Whether there is nothing to do for it.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty() && self.addresses.is_empty()
    }
}

/// What this node tells its routers, and what the objects ask for in vain.
///
/// `wanted` are the claims whose traffic this node can take; a claim whose traffic policy is `Local`
/// counts only with a ready endpoint here. A node that is excluded keeps its sessions and tells
/// nothing.
pub fn plan(
    objects: &BgpObjects,
    allocation: &Allocation,
    wanted: &BTreeMap<ClaimId, Wanted>,
    node: &NodeFacts,
) -> BgpPlanned {
    let mut refusals = Vec::new();
    let peers = sessions(objects, node, &mut refusals);
    let advertisements = advertisements(objects, &mut refusals);
    let mut addresses = BTreeMap::new();
    let mut claims: BTreeMap<IpAddr, Vec<ClaimId>> = BTreeMap::new();
    if node.exclusion().is_none() {
        (addresses, claims) = reachable(allocation, wanted);
    }
    let mut ribs = BTreeMap::new();
    let mut conflicts = BTreeSet::new();
    for (name, config) in &peers {
        let families = config.peer.families;
        let (mut rib, found) =
            routes(&addresses, &objects.pools, &advertisements, &node.labels, name);
        for (advertisement, refusal) in found {
            // The same for every router.
            if conflicts.insert(advertisement.clone()) {
                refusals.push((BgpObject::Advertisement, advertisement, refusal));
            }
        }
        // The other family is for another session, as with MetalLB.
        rib.routes.retain(|prefix, _| match prefix {
            IpNet::V4(_) => families.v4,
            IpNet::V6(_) => families.v6,
        });
        if !config.peer.remote_asn.is_internal(config.peer.local_asn) {
            rib = rib.for_external();
        }
        ribs.insert(name.clone(), Arc::new(rib));
    }
    claims.retain(|ip, _| ribs.values().any(|rib| rib.leads_to(*ip)));
    BgpPlanned { plan: BgpPlan { peers, routes: ribs, addresses: claims }, refusals }
}

fn sessions(
    objects: &BgpObjects,
    node: &NodeFacts,
    refusals: &mut Vec<(BgpObject, String, Problem)>,
) -> BTreeMap<String, Arc<PeerConfig>> {
    let mut parsed = Vec::new();
    for (name, spec) in &objects.peers {
        let notes = match Peer::parse(name, spec) {
            Ok(peer) => {
                let notes = peer.refusals().to_vec();
                parsed.push(peer);
                notes
            }
            Err(faults) => faults,
        };
        refusals.extend(of(BgpObject::Peer, name, notes));
    }
    let mut profiles = BTreeMap::new();
    for (name, spec) in &objects.profiles {
        let notes = match bfd::Settings::parse(spec) {
            Ok((settings, notes)) => {
                profiles.insert(name.as_str(), settings);
                notes
            }
            Err(faults) => faults,
        };
        refusals.extend(of(BgpObject::Profile, name, notes));
    }
    let (chosen, duplicates) = peers_for(&node.labels, &parsed);
    refusals.extend(duplicates.into_iter().map(|(name, why)| (BgpObject::Peer, name, why)));
    let mut sessions = BTreeMap::new();
    for peer in chosen {
        match session(peer, &profiles, objects) {
            Ok(config) => drop(sessions.insert(peer.name.clone(), Arc::new(config))),
            Err(found) => refusals.extend(of(BgpObject::Peer, &peer.name, found)),
        }
    }
    sessions
}

fn session(
    peer: &Peer,
    profiles: &BTreeMap<&str, bfd::Settings>,
    objects: &BgpObjects,
) -> Result<PeerConfig, Vec<Problem>> {
    match (password(peer, &objects.secrets), bfd(peer, profiles, objects)) {
        (Ok(password), Ok(bfd)) => Ok(PeerConfig { peer: peer.for_session(), password, bfd }),
        (password, bfd) => Err(password.err().into_iter().chain(bfd.err()).collect()),
    }
}

fn password(
    peer: &Peer,
    secrets: &BTreeMap<String, Result<Secret, Problem>>,
) -> Result<Option<Secret>, Problem> {
    match &peer.password {
        None => Ok(None),
        Some(Password::Text(text)) => Ok(Some(Secret(text.clone().into_bytes()))),
        Some(Password::Secret { name, .. }) => match secrets.get(&peer.name) {
            Some(found) => found.clone().map(Some),
            None => Err(Problem::refused(
                "PasswordNotFound",
                "spec.passwordSecret",
                format!("there is no Secret \"{name}\", so there is no session"),
                "create it, of type kubernetes.io/basic-auth with the key password",
            )),
        },
    }
}

/// A profile that has an error is not an error of every peer that names it as well.
fn bfd(
    peer: &Peer,
    profiles: &BTreeMap<&str, bfd::Settings>,
    objects: &BgpObjects,
) -> Result<Option<bfd::Settings>, Problem> {
    let Some(profile) = &peer.bfd_profile else { return Ok(None) };
    if let Some(settings) = profiles.get(profile.as_str()) {
        return Ok(Some(*settings));
    }
    if objects.profiles.iter().any(|(name, _)| name == profile) {
        return Err(Problem::noted(
            "ProfileUnusable",
            "spec.bfdProfile",
            format!("BFDProfile \"{profile}\" has an error, so there is no session"),
            "mend the BFDProfile; it says what is wrong with it",
        ));
    }
    let known: Vec<_> = profiles.keys().copied().collect();
    Err(Problem::refused(
        "ProfileNotFound",
        "spec.bfdProfile",
        format!("there is no BFDProfile \"{profile}\", so there is no session"),
        match known.as_slice() {
            [] => "create it, or remove the field".to_owned(),
            known => format!("there are: {}", known.join(", ")),
        },
    ))
}

fn advertisements(
    objects: &BgpObjects,
    refusals: &mut Vec<(BgpObject, String, Problem)>,
) -> Vec<Advertisement> {
    let (aliases, faults) = Aliases::new(&objects.communities);
    refusals.extend(faults.into_iter().map(|(name, why)| (BgpObject::Community, name, why)));
    let peers: Vec<&str> = objects.peers.iter().map(|(name, _)| name.as_str()).collect();
    let mut parsed = Vec::new();
    for (name, spec) in &objects.advertisements {
        let notes = match Advertisement::parse(name, spec, &aliases) {
            Ok(advertisement) => {
                let mut notes = advertisement.refusals().to_vec();
                notes.extend(advertisement.mismatches(&objects.pools, &peers));
                parsed.push(advertisement);
                notes
            }
            Err(faults) => faults,
        };
        refusals.extend(of(BgpObject::Advertisement, name, notes));
    }
    parsed
}

/// The addresses that this node can take traffic for, and the claims on them.
fn reachable(
    allocation: &Allocation,
    wanted: &BTreeMap<ClaimId, Wanted>,
) -> (BTreeMap<IpAddr, Reachable>, BTreeMap<IpAddr, Vec<ClaimId>>) {
    let mut addresses: BTreeMap<IpAddr, Reachable> = BTreeMap::new();
    let mut claims: BTreeMap<IpAddr, Vec<ClaimId>> = BTreeMap::new();
    for (id, claim) in wanted.iter().filter(|(_, claim)| claim.local != Some(false)) {
        for Assignment { ip, pool } in allocation.assigned.get(id).into_iter().flatten() {
            let reachable = addresses.entry(*ip).or_default();
            reachable.pool = pool.to_string();
            reachable.services.push(claim.labels.clone());
            claims.entry(*ip).or_default().push(id.clone());
        }
    }
    (addresses, claims)
}

fn of(
    object: BgpObject,
    name: &str,
    refusals: Vec<Problem>,
) -> impl Iterator<Item = (BgpObject, String, Problem)> {
    refusals.into_iter().map(move |refusal| (object, name.to_owned(), refusal))
}

#[cfg(test)]
mod tests;
