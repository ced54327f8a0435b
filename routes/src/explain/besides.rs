//! What a rule demands before it answers, and who answers in its place, in a few words.

use crate::{
    filter::{
        Filter,
        authentication::{
            Authentication,
            external::{AuthServer, External},
            jwt::KeySource,
        },
        client_certificate::Verify,
    },
    rule::RouteRule,
};

/// What stands behind the action of a rule; empty: nothing.
pub fn besides(rule: &RouteRule) -> String {
    let mut text = String::new();
    for filter in rule.filters.iter() {
        match filter {
            Filter::Authenticate(authentication) => {
                text.push_str(&format!("; requires {}", required(authentication)));
            }
            Filter::Cases(_) => {
                text.push_str("; what meets a condition of its snippet is answered at once")
            }
            Filter::ErrorPages(pages) => {
                let Some(backend) = &pages.backend else { continue };
                let statuses = pages.statuses.iter().map(u16::to_string).collect::<Vec<_>>();
                for backend in backend.spec.main() {
                    let key = &backend.key;
                    text.push_str(&format!("; {key} answers where there is no endpoint"));
                    if !statuses.is_empty() {
                        text.push_str(&format!(", and instead of {}", statuses.join(", ")));
                    }
                }
            }
            _ => {}
        }
    }
    text
}

/// What a client has to show before the rule answers; `None`: nothing.
pub fn requires(rule: &RouteRule) -> Option<String> {
    let required = rule.filters.iter().filter_map(|filter| match filter {
        Filter::Authenticate(authentication) => Some(required(authentication)),
        Filter::ClientCertificate(certificates) => Some(match certificates.demand.verify {
            Verify::Required => "a client certificate".to_owned(),
            Verify::Optional => "a client certificate that is believed, if it shows one".to_owned(),
            Verify::OptionalUnknown => return None,
        }),
        _ => None,
    });
    let all: Vec<_> = required.collect();
    (!all.is_empty()).then(|| all.join(" and "))
}

fn required(authentication: &Authentication) -> String {
    let Authentication { any, basic, jwt, external } = authentication;
    let address = any.as_ref().filter(|rules| **rules != Default::default()).map(|_| "an address");
    let token = jwt.as_ref().map(|jwt| match &jwt.keys {
        KeySource::Given(_) => "a token".to_owned(),
        KeySource::Url(url, _) => format!("a token by keys of {url}"),
    });
    let all = address
        .map(str::to_owned)
        .into_iter()
        .chain(basic.as_ref().map(|_| "a password".to_owned()))
        .chain(token)
        .chain(external.as_ref().map(|external| format!("a yes of {}", server(external))));
    all.collect::<Vec<_>>().join(if any.is_some() { " or " } else { " and " })
}

fn server(external: &External) -> String {
    let target = external.target.text();
    match &external.server {
        AuthServer::SameHost => format!("its own host at {target}"),
        AuthServer::Host { authority, secure, .. } => {
            let scheme = if *secure { "https" } else { "http" };
            format!("{scheme}://{}{target}", authority.to_str().unwrap_or_default())
        }
    }
}
