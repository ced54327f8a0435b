//! Annotations of other controllers, on objects that are ours: what they ask for, judged by their names.
//!
//! Migrated objects bring them along, and nothing of them is read. One that limits, authenticates or verifies
//! was meant to keep clients out, so it closes the object; one that changes answers is an error, the rest is
//! tuning. A name that could be either is taken for a protection.

use std::collections::BTreeMap;

use super::{
    Status, nginx,
    transport::Part,
    unknown::PROTECTING_WORDS,
    value::{PROTOCOL, Setting, unknown},
};
use crate::transport::Speaks;

/// Prefixes and the programs that read them.
pub static PROGRAMS: [(&str, &str); 19] = [
    ("alb.ingress.kubernetes.io/", "the AWS Load Balancer Controller"),
    ("appgw.ingress.kubernetes.io/", "Azure's Application Gateway"),
    ("configuration.konghq.com/", "Kong"),
    ("contour.heptio.com/", "Contour"),
    ("getambassador.io/", "Emissary"),
    ("haproxy-ingress.github.io/", "HAProxy Ingress"),
    ("haproxy.org/", "the HAProxy Kubernetes Ingress Controller"),
    ("higress.io/", "Higress"),
    ("ingress.cilium.io/", "Cilium"),
    ("ingress.citrix.com/", "NetScaler"),
    ("ingress.kubernetes.io/", "Traefik, HAProxy Ingress and others of their time"),
    ("ingress.pomerium.io/", "Pomerium"),
    ("k8s.apisix.apache.org/", "APISIX"),
    ("konghq.com/", "Kong"),
    ("nginx.com/", "NGINX Plus"),
    ("nginx.org/", "the F5 NGINX Ingress Controller"),
    ("projectcontour.io/", "Contour"),
    ("traefik.ingress.kubernetes.io/", "Traefik"),
    ("zalando.org/", "Skipper"),
];

/// Parts of a name that change answers and keep nobody out. They are looked at first.
const ANSWERS: [&str; 9] = [
    "redirect",
    "rewrite",
    "cors",
    "hsts",
    "router.entrypoints",
    "router.tls.certresolver",
    "strip-path",
    "set-header",
    "headers",
];
/// Names that sound like a protection and are none: they say how the server shows who it is.
const OWN_TLS: [&str; 9] = [
    "certificate-arn",
    "certificate-name",
    "ssl-certificate",
    "ssl-ciphers",
    "ssl-cipher-suites",
    "ssl-options",
    "ssl-policy",
    "ssl-ports",
    "tls-minimum-protocol-version",
];
/// Parts of a name that say what is spoken to the backend.
const PROTOCOLS: [&str; 8] = [
    "backend-protocol",
    "grpc-services",
    "konghq.com/protocol",
    "server-proto",
    "serversscheme",
    "service.proto",
    "service-upstream-protocol",
    "upstream-protocol",
];
/// Parts of a name that protect, besides those of any name.
const PROTECTS: [&str; 17] = [
    "ambassador.io/config",
    "client-ca",
    "conditions.",
    "filter",
    "iap",
    "inbound",
    "ip-restriction",
    "maxconn",
    "middleware",
    "plugin",
    "polic",
    "predicate",
    "pass_identity",
    "ratelimit",
    "server-ca",
    "server-crt",
    "shield",
];
/// Parts of a name that change answers, looked at last.
const PERHAPS_ANSWERS: [&str; 8] =
    ["actions.", "affinity", "alias", "cookie", "host", "path", "session", "timeout-tunnel"];

/// What it does to an object that an annotation is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    /// Clients were to be kept out.
    Protects,
    /// Answers are not the same.
    Answers,
    /// Nothing that a client notices.
    Tuning,
}

/// What an object has of one program, with one effect.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Foreign<'m> {
    pub(super) program: &'static str,
    pub(super) effect: Effect,
    pub(super) names: Vec<&'m str>,
}

/// Judges the annotations of an object that belong to other programs. Charts say one thing to several controllers: what
/// an annotation of ingress-nginx, if those are `read` of the object, says in the same words loses nothing.
pub(super) fn judge<'m>(
    read: bool,
    annotations: impl Iterator<Item = (&'m String, &'m String)> + Clone,
) -> Vec<Foreign<'m>> {
    let said = |name: &str, value: &str| {
        let row = nginx::FAMILY.row(name).filter(|row| row.status == Status::Honoured);
        read && row.is_some()
            && annotations.clone().any(|(other, same)| {
                other.strip_prefix(nginx::FAMILY.prefix) == Some(name)
                    && same.trim() == value.trim()
            })
    };
    let mut found: BTreeMap<(&str, Effect), Foreign<'m>> = BTreeMap::new();
    for (name, value) in annotations.clone() {
        let program = PROGRAMS.iter().find(|(prefix, _)| name.starts_with(prefix));
        let Some((prefix, program)) = program else { continue };
        let effect = match said(&name[prefix.len()..], value) {
            true => Effect::Tuning,
            false => effect(&name.to_ascii_lowercase(), value),
        };
        let entry = found.entry((prefix, effect));
        let none = || Foreign { program, effect, names: Vec::new() };
        entry.or_insert_with(none).names.push(name);
    }
    found.into_values().collect()
}

/// By the name in lower case, unless the value asks for nothing.
fn effect(name: &str, value: &str) -> Effect {
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    let off = (unknown(name).read)(value) == Ok(Setting::Nothing);
    if off {
        return Effect::Tuning;
    }
    if has(&PROTOCOLS) {
        return match (PROTOCOL.read)(value) {
            Ok(Setting::Nothing | Setting::Transport(Part::Speaks(Speaks::Http1))) => {
                Effect::Tuning
            }
            _ => Effect::Protects,
        };
    }
    if has(&OWN_TLS) {
        return Effect::Tuning;
    }
    if has(&ANSWERS) || name.ends_with("router.tls") {
        return Effect::Answers;
    }
    if has(&PROTECTS) || has(&PROTECTING_WORDS) {
        return Effect::Protects;
    }
    if has(&PERHAPS_ANSWERS) { Effect::Answers } else { Effect::Tuning }
}

#[cfg(test)]
mod tests;
