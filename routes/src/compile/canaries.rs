//! Puts what canaries ask for on the rules of their main Ingresses.
//!
//! A canary takes nothing of another namespace, of another gateway, or of a path that is closed, and never makes a
//! host or a path. A rule that a canary was put on stays the same `Arc` while nothing about it changes.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Compiled, facts::Has, served::ServedIngress};
use crate::{
    action::{Action, Forward, ForwardSpec},
    annotations::protecting,
    objects::{ObjectKey, ObjectRef, Objects},
    problem::Problem,
    rule::RouteRule,
    translate::Proposal,
};

/// Rules with canaries, by the rules that they stand for.
pub(super) type Replaced = HashMap<*const RouteRule, Arc<RouteRule>>;

/// What canaries become, and those that have no rule to take requests from.
pub(super) fn merge(
    ingresses: &[ServedIngress<'_>],
    objects: &Objects,
    previous: Option<&Compiled>,
) -> (Replaced, Vec<Problem>) {
    let mut replaced = Replaced::new();
    let mut problems = Vec::new();
    let asking = |ingress: &&ServedIngress<'_>| ingress.facts.has.any(Has::PROPOSALS);
    let mut canaries: Vec<_> = ingresses.iter().filter(asking).collect();
    canaries.sort_by(|a, b| a.seniority().cmp(&b.seniority()));
    let mut wanted: HashMap<*const RouteRule, (&Arc<RouteRule>, Vec<&Proposal>)> = HashMap::new();
    for canary in canaries {
        let beside = of_namespace(ingresses, &canary.kept.key.namespace);
        for proposal in &canary.kept.result.translation.proposals {
            let mut mains = beside
                .iter()
                .filter(|main| main.gateway() == canary.gateway())
                .flat_map(|main| &main.kept.result.translation.entries)
                .filter(|entry| entry.host == proposal.host)
                .flat_map(|entry| &entry.rules)
                .filter(|rule| rule.forward().is_some() && proposal.is_for(&rule.matches.path))
                .peekable();
            if mains.peek().is_none() {
                problems.push(unused(proposal));
            }
            for main in mains {
                let told = unguarded(&canary.kept.key, &main.object, objects);
                problems.extend(told.filter(|told| !problems.contains(told)));
                let entry = wanted.entry(Arc::as_ptr(main)).or_insert_with(|| (main, Vec::new()));
                entry.1.push(proposal);
            }
        }
    }
    for (key, (main, proposals)) in wanted {
        let Some(forward) = main.forward() else { continue };
        let rule = merged(main, forward, &proposals);
        replaced.insert(key, known(&rule, previous).unwrap_or_else(|| Arc::new(rule)));
    }
    (replaced, problems)
}

/// Those of a namespace; all are in the order of their keys.
fn of_namespace<'i, 'p>(
    ingresses: &'i [ServedIngress<'p>],
    namespace: &str,
) -> &'i [ServedIngress<'p>] {
    let from = ingresses.partition_point(|it| *it.kept.key.namespace < *namespace);
    let beside = &ingresses[from..];
    &beside[..beside.partition_point(|it| *it.kept.key.namespace == *namespace)]
}

fn merged(main: &RouteRule, forward: &Forward, proposals: &[&Proposal]) -> RouteRule {
    let takers = proposals.iter().map(|proposal| proposal.backend.clone());
    let spec = ForwardSpec {
        backends: forward.spec.backends.iter().cloned().chain(takers).collect(),
        canaries: proposals.iter().map(|proposal| proposal.canary.clone()).collect(),
        policy: Arc::clone(&forward.spec.policy),
    };
    let mut with_canaries = Forward::new(spec);
    with_canaries.resume(forward);
    RouteRule {
        object: main.object.clone(),
        host: main.host.clone(),
        matches: main.matches.clone(),
        encoded_slashes: main.encoded_slashes,
        filters: main.filters.clone(),
        action: Action::Forward(with_canaries),
    }
}

/// The same rule of the previous compile.
fn known(rule: &RouteRule, previous: Option<&Compiled>) -> Option<Arc<RouteRule>> {
    // The first table has the rules of all gateways.
    let host = previous?.tables.first()?.routes.host(&rule.host)?;
    let same = |old: &&Arc<RouteRule>| old.object == rule.object && ***old == *rule;
    host.candidates().iter().find(same).cloned()
}

/// Tells of what a canary alone asks for to keep somebody out: whoever its main Ingress lets in may get the canary.
fn unguarded(canary: &ObjectKey, main: &ObjectRef, objects: &Objects) -> Option<Problem> {
    let metadata = |key| objects.ingresses.get(key).map(|stored| &stored.object.metadata);
    let said = metadata(&main.key)?.annotations.as_ref();
    let mut own = ObjectMeta::default();
    let only_here = |(name, value): &(&String, &String)| {
        said.and_then(|said| said.get(*name)) != Some(value) && !name.contains("/canary")
    };
    let all = metadata(canary)?.annotations.iter().flatten().filter(only_here);
    own.annotations = Some(all.map(|(name, value)| (name.clone(), value.clone())).collect());
    let object = ObjectRef::new("Ingress", canary.clone());
    let names: Vec<_> = protecting(&object, &own).collect();
    let (field, who, them) = match &*names {
        [] => return None,
        [name] => (format!("metadata.annotations[{name}]"), "it has".to_owned(), "it"),
        all => ("metadata.annotations".to_owned(), format!("{} have", all.join(", ")), "them"),
    };
    Some(Problem::error(
        &object,
        "AnnotationIgnored",
        field,
        format!("{who} no effect on a canary, which is protected as {main} is"),
        format!("write {them} on the main Ingress as well, or remove {them}"),
    ))
}

fn unused(proposal: &Proposal) -> Problem {
    let Proposal { host, path, path_type, canary, field, .. } = proposal;
    Problem::error(
        &canary.object,
        "CanaryUnused",
        field.clone(),
        format!(
            "no Ingress of this namespace has path {path:?} ({path_type}) of host {host} with a backend, so \
             nothing is sent to the canary"
        ),
        "give the canary the host, the path and the pathType of its main Ingress",
    )
}
