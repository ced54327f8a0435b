//! What routers are told: the BGP objects of `metallb.io` in, the plan of the sessions out.
//!
//! Only translates, as the file above: objects into the specs of the `vip` crate with the Secrets that
//! they name, its refusals into problems. What is told to whom is decided there.

use std::collections::{BTreeMap, BTreeSet};

use gatehouse_routes::{
    objects::{ObjectKey, ObjectRef, Objects, Store},
    problem::Problem,
};
use gatehouse_vip::{
    Allocation, ClaimId, NodeFacts, Pool, Problem as VipProblem, Wanted,
    bgp::{BgpObject, BgpObjects, BgpPlan, PoolFacts, Secret, password_trimmed, spec::BgpPeerSpec},
};

use super::by_age;
use crate::{source::Custom, state::ClusterState};

/// The type of a Secret that may hold a password, as MetalLB asks for.
const BASIC_AUTH: &str = "kubernetes.io/basic-auth";
/// The key of the password in it.
const PASSWORD: &str = "password";
/// `TCP_MD5SIG_MAXKEYLEN` of Linux, in bytes.
const LONGEST_PASSWORD: usize = 80;

/// What this node tells its routers.
pub(super) fn plan(
    state: &ClusterState,
    pools: &[Pool],
    allocation: &Allocation,
    wanted: &BTreeMap<ClaimId, Wanted>,
    node: &NodeFacts,
    problems: &mut Vec<Problem>,
) -> BgpPlan {
    let mut names = Names { objects: BTreeMap::new(), problems };
    let peers = names.unique(BgpObject::Peer, &state.bgp_peers);
    let mut secrets = BTreeMap::new();
    for (name, spec) in &peers {
        if let Some(key) = names.key(BgpObject::Peer, name)
            && !spec.password_secret.is_unset()
        {
            let found = password(&state.objects, key, spec).map(|(secret, note)| {
                let object = ObjectRef::new(BgpObject::Peer.kind(), key.clone());
                names.problems.extend(note.map(|open| open.about(object)));
                secret
            });
            secrets.insert(name.clone(), found);
        }
    }
    let objects = BgpObjects {
        peers,
        advertisements: names.unique(BgpObject::Advertisement, &state.bgp_advertisements),
        profiles: names.unique(BgpObject::Profile, &state.bfd_profiles),
        communities: names.unique(BgpObject::Community, &state.communities),
        pools: facts(state, pools),
        secrets,
    };
    let planned = gatehouse_vip::bgp::plan(&objects, allocation, wanted, node);
    for (kind, name, refusal) in planned.refusals {
        if let Some(key) = names.key(kind, &name) {
            let object = ObjectRef::new(kind.kind(), key.clone());
            names.problems.push(refusal.about(object));
        }
    }
    planned.plan
}

/// The Secrets that hold passwords of sessions, whether or not they exist.
pub(in crate::compile) fn passwords(state: &ClusterState) -> BTreeSet<ObjectKey> {
    let peers = state.bgp_peers.iter().map(|(key, stored)| (key, &stored.object.spec));
    let with_password = peers.filter(|(_, spec)| !spec.password_secret.is_unset());
    with_password.map(|(key, spec)| password_key(key, spec)).collect()
}

/// Objects refer to one another by name alone, so a name is one object's: the oldest one's.
struct Names<'p, 's> {
    objects: BTreeMap<(BgpObject, String), &'s ObjectKey>,
    problems: &'p mut Vec<Problem>,
}

impl<'s> Names<'_, 's> {
    /// Specs by name, oldest first.
    fn unique<S: Clone>(
        &mut self,
        kind: BgpObject,
        store: &'s Store<Custom<S>>,
    ) -> Vec<(String, S)> {
        let mut unique = Vec::with_capacity(store.len());
        for (key, stored) in by_age(store.iter(), |object| &object.metadata) {
            let name = key.name.to_string();
            if let Some(older) = self.objects.get(&(kind, name.clone())) {
                self.problems.push(Problem::error(
                    &ObjectRef::new(kind.kind(), key.clone()),
                    "DuplicateName",
                    "metadata.name",
                    format!("the older {} {older} has the same name", kind.kind()),
                    "rename one of them",
                ));
                continue;
            }
            self.objects.insert((kind, name.clone()), key);
            unique.push((name, stored.object.spec.clone()));
        }
        unique
    }

    fn key(&self, kind: BgpObject, name: &str) -> Option<&'s ObjectKey> {
        self.objects.get(&(kind, name.to_owned())).copied()
    }
}

fn facts(state: &ClusterState, pools: &[Pool]) -> Vec<PoolFacts> {
    let named = super::pools::named(&state.pools);
    let facts = pools.iter().filter_map(|pool| {
        let stored = state.pools.get(*named.get(pool.name())?)?;
        Some(PoolFacts::new(pool.name(), pool.labels(), &stored.object.spec))
    });
    facts.collect()
}

/// The Secret that a peer names.
fn password_key(peer: &ObjectKey, spec: &BgpPeerSpec) -> ObjectKey {
    let named = &spec.password_secret;
    let namespace = match named.namespace.as_str() {
        "" => &*peer.namespace,
        namespace => namespace,
    };
    ObjectKey::new(namespace, named.name.as_str())
}

/// The password that a peer's Secret holds, and what is to be noticed about it.
fn password(
    objects: &Objects,
    peer: &ObjectKey,
    spec: &BgpPeerSpec,
) -> Result<(Secret, Option<VipProblem>), VipProblem> {
    let key = password_key(peer, spec);
    let refused = |reason, message: String, hint: &str| {
        let message = format!("{message}, so there is no session");
        Err(VipProblem::refused(reason, "spec.passwordSecret", message, hint))
    };
    if let Some(why) = objects.refused.get(&ObjectRef::new("Secret", key.clone())) {
        let message = format!("the Secret {key} may not be read ({why})");
        return refused("PasswordForbidden", message, "allow the gateway to get and watch it");
    }
    let Some(secret) = objects.secrets.get(&key).map(|stored| &*stored.object) else {
        let elsewhere = objects.secrets.keys().find(|other| other.name == key.name);
        let hint = match elsewhere {
            Some(other) => format!(
                "write passwordSecret.namespace: {}, where there is one of this name",
                other.namespace
            ),
            None => format!(
                "create it in namespace {}, of type {BASIC_AUTH} with the key password",
                key.namespace
            ),
        };
        return refused("PasswordNotFound", format!("there is no Secret {key}"), &hint);
    };
    let kind = secret.type_.as_deref().unwrap_or("Opaque");
    if kind != BASIC_AUTH {
        let message = format!("the Secret {key} is of type {kind}");
        // The type of a Secret cannot be changed.
        let hint = "delete it and create it again with type: kubernetes.io/basic-auth";
        return refused("PasswordInvalid", message, hint);
    }
    let text = secret.string_data.as_ref().and_then(|data| data.get(PASSWORD));
    let data = secret.data.as_ref().and_then(|data| data.get(PASSWORD));
    let bytes = match (text, data) {
        (Some(text), _) => text.as_bytes(),
        (None, Some(data)) => &data.0,
        (None, None) => {
            let message = format!("the Secret {key} has no key password");
            let text = secret.string_data.iter().flat_map(|data| data.keys());
            let known = secret.data.iter().flat_map(|data| data.keys()).chain(text);
            let known: BTreeSet<&str> = known.map(String::as_str).collect();
            let hint = match known.into_iter().collect::<Vec<_>>().as_slice() {
                [] => "add the key password to it".to_owned(),
                known => format!("name the key password; the Secret has: {}", known.join(", ")),
            };
            return refused("PasswordInvalid", message, &hint);
        }
    };
    // `echo secret | base64` has encoded a newline too, which no router's operator would type.
    let trimmed = bytes.trim_ascii();
    let note = (trimmed.len() < bytes.len())
        .then(|| password_trimmed("spec.passwordSecret", &format!("the password in Secret {key}")));
    match trimmed.len() {
        1..=LONGEST_PASSWORD => Ok((Secret(trimmed.to_vec()), note)),
        0 => refused(
            "PasswordInvalid",
            format!("the password in Secret {key} is empty"),
            "write one",
        ),
        length => refused(
            "PasswordInvalid",
            format!("the password in Secret {key} has {length} bytes"),
            "use 1 to 80 bytes, which is what TCP MD5 allows",
        ),
    }
}
