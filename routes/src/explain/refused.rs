//! Objects that claim a host and do not serve it, or not all that they ask for: an operator who looks for the rule of a
//! request looks for these first.

use std::collections::HashSet;

use k8s_openapi::api::networking::v1::Ingress;
use serde::Serialize;

use crate::{
    compile::Compiled,
    host,
    model::HostPattern,
    objects::{ObjectRef, Objects},
    openshift::RouteSpec,
    problem::{Problem, Severity},
};

/// An object that claims a host without effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Which one.
    pub object: ObjectRef,
    /// Why, one line each.
    pub reasons: Vec<String>,
}

/// The objects that claim a canonical host and have no rule for it in a table, or have errors.
pub fn refused(compiled: &Compiled, objects: &Objects, table: usize, host: &str) -> Vec<Refused> {
    let known = objects_of(compiled, table, host);
    // The first table has the rules of all gateways.
    let served = objects_of(compiled, 0, host);
    let place = |object: &ObjectRef| match (known.contains(object), served.contains(object)) {
        (true, _) => Place::Here,
        (false, true) => Place::Elsewhere,
        (false, false) => Place::Nowhere,
    };
    let ingresses = objects.ingresses.iter().filter(|(_, stored)| claims(&stored.object, host));
    let ingresses = ingresses.map(|(key, stored)| {
        let object = ObjectRef::new("Ingress", key.clone());
        let elsewhere = || ingress_elsewhere(compiled, &object, &stored.object);
        let reasons = reasons(compiled, &object, place(&object), &elsewhere);
        Refused { object, reasons }
    });
    let routes = compiled.routes.iter().filter(|outcome| {
        let spec = objects.routes.get(&outcome.object).map(|stored| &stored.object.spec);
        outcome.host == host || spec.is_some_and(|spec| asks_for(spec, host))
    });
    let routes = routes.map(|outcome| {
        let object = ObjectRef::new("Route", outcome.object.clone());
        let elsewhere = || "it is served on the addresses of another gateway".to_owned();
        let reasons = reasons(compiled, &object, place(&object), &elsewhere);
        Refused { object, reasons }
    });
    ingresses.chain(routes).filter(|refused| !refused.reasons.is_empty()).collect()
}

/// Where an object has rules for a host.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Here,
    Elsewhere,
    Nowhere,
}

/// The objects that have rules for a host in a table.
fn objects_of<'c>(compiled: &'c Compiled, table: usize, host: &str) -> HashSet<&'c ObjectRef> {
    let table = compiled.tables.get(table).into_iter();
    let entries = table.flat_map(|table| table.routes.entries_for(host));
    entries.flat_map(|entry| entry.candidates()).map(|rule| &rule.object).collect()
}

/// Whether an Ingress names the host or a wildcard that covers it.
fn claims(ingress: &Ingress, host: &str) -> bool {
    let rules = ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten());
    rules.filter_map(|rule| rule.host.as_deref()).any(|text| match host::pattern(text) {
        Ok(HostPattern::Any) => false,
        Ok(pattern) => host::matches(&pattern, host),
        // It is refused for its host.
        Err(_) => text.to_ascii_lowercase().starts_with(host),
    })
}

/// Whether a Route is written for the host, admitted or not: by its name or with a wildcard.
fn asks_for(route: &RouteSpec, host: &str) -> bool {
    let own = route.host.as_deref().unwrap_or_default();
    let domain =
        |host: &'_ str| host.split_once('.').map(|(_, domain)| domain.to_ascii_lowercase());
    let wildcard = route.wildcard_policy.as_deref() == Some("Subdomain");
    own.eq_ignore_ascii_case(host)
        || (wildcard && domain(own).is_some_and(|own| domain(host) == Some(own)))
}

/// What is wrong with an object: the errors of one that has rules in the table, all problems of one that has
/// none in any. One that is served elsewhere is not here whatever else is wrong with it.
fn reasons(
    compiled: &Compiled,
    object: &ObjectRef,
    place: Place,
    elsewhere: &dyn Fn() -> String,
) -> Vec<String> {
    if place == Place::Elsewhere {
        return vec![elsewhere()];
    }
    let known = place == Place::Here;
    let problems = compiled.problems.iter().filter(|problem| problem.object == *object);
    let told = problems.filter(|problem| !known || problem.severity == Severity::Error);
    let line = |problem: &Problem| match &*problem.field {
        "" => problem.message.clone(),
        field => format!("{field}: {}", problem.message),
    };
    let mut reasons: Vec<String> = told.map(line).collect();
    reasons.dedup();
    if reasons.is_empty() && !known {
        reasons.push(elsewhere());
    }
    reasons
}

/// Why an Ingress that nothing is wrong with has no rule in a table.
fn ingress_elsewhere(compiled: &Compiled, object: &ObjectRef, ingress: &Ingress) -> String {
    let outcome = compiled.ingresses.iter().find(|outcome| outcome.object == object.key);
    let Some(outcome) = outcome else {
        let class = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
        return match class {
            Some(class) => format!("its class {class} is not ours"),
            None => "it names no class, and the default class is not ours".to_owned(),
        };
    };
    match &outcome.gateway {
        None => "it is served on plain addresses only".to_owned(),
        Some(gateway) => format!("it is served on the addresses of gateway {gateway} only"),
    }
}
