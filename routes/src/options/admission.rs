//! Which Routes are served, and who may have which host: what an `IngressController` says in `routeAdmission`
//! and its selectors.

use std::str::FromStr;

use crate::selector::Selector;

/// Settings about the admission of Routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteAdmission {
    /// Whether namespaces may share a host.
    pub ownership: Ownership,
    /// Routes with `wildcardPolicy: Subdomain` are admitted; default no.
    pub wildcards: bool,
    /// Domains in which Routes may have hosts, themselves and all below them; empty: all.
    pub allowed_domains: Vec<String>,
    /// Domains in which they may not, whatever is allowed.
    pub denied_domains: Vec<String>,
    /// Labels of the Routes that are served here. Others do not exist.
    pub labels: Selector,
    /// Fields of the Routes that are served here: `metadata.name`, `metadata.namespace`, `spec.host`,
    /// `spec.path`, `spec.to.name`.
    pub fields: Selector,
}

/// Who may use a host that a Route of another namespace has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ownership {
    /// Nobody: the oldest Route of a host fixes its namespace.
    #[default]
    Strict,
    /// Everybody, with other paths: only where all namespaces trust each other.
    InterNamespaceAllowed,
}

impl FromStr for Ownership {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "Strict" => Ok(Self::Strict),
            "InterNamespaceAllowed" => Ok(Self::InterNamespaceAllowed),
            _ => Err(format!("{text:?} is not Strict or InterNamespaceAllowed")),
        }
    }
}

impl RouteAdmission {
    /// Why a host may not be had; the words are those of OpenShift's router.
    pub(crate) fn refusal(&self, host: &str) -> Option<&'static str> {
        let among = |domains: &[String]| domains.iter().any(|domain| is_in(host, domain));
        if among(&self.denied_domains) {
            return Some("host in list of denied domains");
        }
        let allowed = self.allowed_domains.is_empty() || among(&self.allowed_domains);
        (!allowed).then_some("host not in the allowed list of domains")
    }
}

/// Whether a host is a domain or below it.
fn is_in(host: &str, domain: &str) -> bool {
    let domain = domain.trim_start_matches("*.").trim_matches('.');
    let Some(rest) = host.len().checked_sub(domain.len()) else { return false };
    let ends = host.as_bytes()[rest..].eq_ignore_ascii_case(domain.as_bytes());
    ends && !domain.is_empty() && (rest == 0 || host.as_bytes()[rest - 1] == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_itself_and_all_below_it_and_what_is_denied_is_never_allowed() {
        let admission = RouteAdmission {
            allowed_domains: vec!["Foo.test".into(), "*.bar.test".into()],
            denied_domains: vec!["no.foo.test".into(), ".".into()],
            ..RouteAdmission::default()
        };
        for (host, admitted) in [
            ("foo.test", true),
            ("a.b.foo.test", true),
            ("xfoo.test", false),
            ("bar.test", true),
            ("no.foo.test", false),
            ("x.no.foo.test", false),
            ("yno.foo.test", true),
            ("test", false),
        ] {
            assert_eq!(admission.refusal(host).is_none(), admitted, "{host}");
        }
    }
}
