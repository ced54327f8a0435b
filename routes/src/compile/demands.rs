//! What is wrong with what objects demand of the handshakes of a host, which has one for all of them.

use std::sync::Arc;

use crate::{
    annotations::tls, filter::client_certificate, problem::Problem, rule::RouteRule,
    table::HostRoutes,
};

/// Problems of the objects that ask for something else than what the host asks of its clients.
pub(super) fn problems(host: &HostRoutes) -> impl Iterator<Item = Problem> {
    certificates(host).chain(terms(host))
}

/// Problems of the objects whose demand for client certificates is not that of a host.
fn certificates(host: &HostRoutes) -> impl Iterator<Item = Problem> {
    let owner = host.certificates_asked_by().map(|rule| &rule.object);
    let demand = host.client_certificates().map(|asked| &asked.demand);
    let other = move |rule: &&Arc<RouteRule>| {
        rule.client_certificates().is_some_and(|own| Some(&own.demand) != demand)
    };
    let differing = host.differing().iter().filter(other);
    differing.map(move |rule| client_certificate::conflict(&rule.object, &host.name, owner))
}

/// Problems of the objects that ask for other TLS than is spoken of a host.
fn terms(host: &HostRoutes) -> impl Iterator<Item = Problem> {
    let terms = host.tls_terms();
    host.asking_of_tls().filter_map(move |rule| match terms {
        Some(terms) if rule.tls_terms() == Some(terms) => None,
        Some(terms) => {
            let stricter = rule.tls_terms().is_some_and(|own| terms.includes(own));
            Some(tls::differ(rule, stricter))
        }
        None => Some(tls::differ(rule, false)),
    })
}
