//! What a closed Ingress keeps closed: its paths in every way in which they can be meant, and its hosts.
//!
//! The translator asks for an Ingress whose protection is not in force. What cannot be read as it stands is read
//! as the nearest thing that a request could be: nothing else on the host may answer for it.

use k8s_openapi::api::networking::v1::HTTPIngressPath;

use super::literal_fault;
use crate::{
    host,
    matcher::{EXPRESSION, PathMatch, PathRegex, literal_directory},
    model::HostPattern,
    objects::ObjectRef,
    path,
    problem::Problem,
};

/// Whether a path holds what only means something in an expression.
pub(crate) fn has_expression(text: &str) -> bool {
    text.contains(EXPRESSION)
}

/// All requests that a path may be meant for. `expressions`: its Ingress asks for them in one way or another.
pub(super) fn paths(path: &HTTPIngressPath, expressions: bool, use_regex: bool) -> Vec<PathMatch> {
    let text = path.path.as_deref().unwrap_or_default();
    let text = if text.starts_with('/') { text.to_owned() } else { format!("/{text}") };
    let own = path.path_type == "ImplementationSpecific";
    let mut all = Vec::new();
    if expressions && (has_expression(&text) || (own && use_regex)) {
        all.push(match PathRegex::new(&text) {
            Ok(regex) => PathMatch::Regex(regex),
            // What cannot be told from the rest of the host closes with it.
            Err(_) => PathMatch::Prefix(literal_head(&text).unwrap_or("/").into()),
        });
        if own {
            return all;
        }
    }
    match path::pattern(&text) {
        Ok(_) if path.path_type == "Exact" => all.push(PathMatch::Exact(text.into())),
        Ok(_) => all.push(PathMatch::Prefix(text.into())),
        Err(_) if all.is_empty() => all.push(PathMatch::Prefix(parent(&text).into())),
        Err(_) => {}
    }
    all
}

/// The host that is meant by one that a rule may not have: with a port, in capitals, an address.
pub(super) fn host(text: &str) -> Option<HostPattern> {
    let without_port = match text.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => text,
    };
    let name = host::canonical(without_port.trim())?;
    Some(HostPattern::Exact((&*name).into()))
}

/// The problem of a host that is none.
pub(super) fn invalid_host(
    object: &ObjectRef,
    field: String,
    text: &str,
    error: host::HostError,
) -> Problem {
    let message = format!("host {text:?} {error}");
    Problem::error(
        object,
        "InvalidHost",
        field,
        message,
        "write a DNS name such as www.example.com",
    )
}

/// The directory that every match of an expression begins with; `None` if there is none but the root.
pub(super) fn literal_head(text: &str) -> Option<&str> {
    let head = literal_directory(text)?;
    (head.len() > 1 && literal_fault(head).is_none() && path::pattern(head).is_ok()).then_some(head)
}

/// The nearest directory above a path that a request can be in.
fn parent(text: &str) -> &str {
    let ends = text.match_indices('/').map(|(at, _)| at);
    ends.rev().map(|end| &text[..=end]).find(|head| path::pattern(head).is_ok()).unwrap_or("/")
}
