//! The host of a Route: given, made of its subdomain, or of its name and namespace; and whether it may be had.

use std::sync::Arc;

use super::Refusal;
use crate::{
    host,
    model::HostPattern,
    objects::{ObjectKey, ObjectRef},
    openshift::{Route, RouteSpec},
    options::Options,
    problem::Problem,
};

/// The effective host and, if the Route may claim it, the hosts that it stands for.
pub(super) fn claimed(
    key: &ObjectKey,
    route: &Route,
    options: &Options,
) -> (Arc<str>, Result<HostPattern, Refusal>) {
    let (field, text) = match effective(key, &route.spec, options) {
        Ok(found) => found,
        Err(refusal) => return ("".into(), Err(refusal)),
    };
    let invalid = |message, hint| {
        let refusal = Refusal::refused("InvalidHost", field, message, hint);
        (Arc::from(""), Err(refusal))
    };
    let host = match host::pattern(&text) {
        Ok(HostPattern::Exact(host)) => host,
        Ok(_) => {
            let hint = "name one host, and set wildcardPolicy: Subdomain for all of its domain";
            return invalid(format!("host {text:?} is a wildcard"), hint);
        }
        Err(error) => {
            let hint = "write a DNS name such as www.example.com";
            return invalid(format!("host {text:?} {error}"), hint);
        }
    };
    let found = pattern(route, &host, options);
    (host, found)
}

/// Of a Route that says its host in two ways, which one counts, in the words of OpenShift's API.
pub(super) fn two(object: &ObjectRef, spec: &RouteSpec) -> Option<Problem> {
    let given = |field: &Option<String>| field.as_ref().is_some_and(|text| !text.is_empty());
    (given(&spec.host) && given(&spec.subdomain)).then(|| {
        let message = "spec.host is set; spec.subdomain may be ignored";
        let hint = "remove one of the two";
        Problem::warning(object, "SubdomainIgnored", "spec.subdomain", message, hint)
    })
}

/// The host as a text, and the field that it comes from.
fn effective(
    key: &ObjectKey,
    spec: &RouteSpec,
    options: &Options,
) -> Result<(&'static str, String), Refusal> {
    let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    let wildcard = spec.wildcard_policy.as_deref() == Some("Subdomain");
    let none = |hint| {
        let message = "no host value was defined for the route";
        Err(Refusal::refused("NoHostValue", "spec.host", message, hint))
    };
    match (given(&spec.host), given(&spec.subdomain), &options.route_domain) {
        (Some(host), _, _) => Ok(("spec.host", host)),
        (None, _, _) if wildcard => none("set spec.host: wildcardPolicy is about its domain"),
        (None, Some(subdomain), Some(domain)) => {
            Ok(("spec.subdomain", format!("{subdomain}.{domain}")))
        }
        (None, None, Some(domain)) => {
            let name = key.name.replace('.', "-");
            Ok(("spec.host", format!("{name}-{}.{domain}", key.namespace)))
        }
        (None, _, None) => none("set spec.host, or start with --route-domain"),
    }
}

fn pattern(route: &Route, host: &Arc<str>, options: &Options) -> Result<HostPattern, Refusal> {
    let admission = &options.route_admission;
    let refused = |field, message: String, hint| {
        Err(Refusal::refused("RouteNotAdmitted", field, message, hint))
    };
    if let Some(why) = admission.refusal(host) {
        let hint =
            "choose a host of another domain; see --route-allowed-domain and --route-denied-domain";
        return refused("spec.host", why.to_owned(), hint);
    }
    let policy = route.spec.wildcard_policy.as_deref().unwrap_or_default();
    match (policy, host.split_once('.')) {
        ("" | "None", _) => Ok(HostPattern::Exact(Arc::clone(host))),
        ("Subdomain", _) if !admission.wildcards => {
            let hint = "use one Route per host, or start with --allow-wildcard-routes";
            refused("spec.wildcardPolicy", "wildcard routes are not allowed".to_owned(), hint)
        }
        ("Subdomain", Some((_, domain))) => Ok(HostPattern::OneLabel(domain.into())),
        ("Subdomain", None) => {
            let message = format!("host {host:?} is in no domain that a wildcard could be for");
            refused("spec.wildcardPolicy", message, "write a host such as www.example.com")
        }
        (other, _) => {
            let message = format!("unknown wildcard policy {other}");
            refused("spec.wildcardPolicy", message, "write None or Subdomain")
        }
    }
}
