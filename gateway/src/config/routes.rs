//! The settings about OpenShift Routes: which ones are served here, and who may have which host.
//!
//! What an `IngressController` of OpenShift says in `routeAdmission`, `routeSelector`, `defaultCertificate`; `run` reads them,
//! and so do the commands that only look at manifests.

use gatehouse_routes::{
    objects::ObjectKey,
    options::{
        Options,
        admission::{Ownership, RouteAdmission},
    },
    selector::Selector,
};

use super::object_key;

/// Fields by which Routes can be selected.
const FIELDS: [&str; 5] =
    ["metadata.name", "metadata.namespace", "spec.host", "spec.path", "spec.to.name"];

/// Which Routes are served, and who may have which host.
#[derive(Clone, Debug, clap::Args)]
pub struct RouteSettings {
    /// Name under which this gateway stands in the status of Routes. Each of several that serve Routes of one
    /// cluster has a name of its own.
    #[arg(long, value_name = "NAME", default_value = "gatehouse", help_heading = "Routes")]
    pub router_name: String,

    /// The Secret (`tls.crt`, `tls.key`) with the certificate for server names that no object has one for, such as
    /// `*.apps.example.com`, as OpenShift has it by `defaultCertificate`, and ingress-nginx by --default-ssl-certificate.
    /// Default: one that nobody trusts.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = object_key, help_heading = "Sources")]
    pub default_certificate: Option<ObjectKey>,

    /// Labels of the Routes that are served, such as `shard=a` or `tier in (web,api)`; others do not exist for this
    /// gateway. Default: all.
    #[arg(long, value_name = "SELECTOR", value_parser = str::parse::<Selector>, help_heading = "Routes")]
    pub route_selector: Option<Selector>,

    /// Fields of the Routes that are served, such as `metadata.namespace!=test`: of metadata.name,
    /// metadata.namespace, spec.host, spec.path and spec.to.name. Default: all.
    #[arg(long, value_name = "SELECTOR", value_parser = fields, help_heading = "Routes")]
    pub route_field_selector: Option<Selector>,

    /// Who may use a host that a Route of another namespace has: with `Strict` no Route, the oldest Route of a host
    /// fixes its namespace; with `InterNamespaceAllowed` everybody, for other paths. The latter only where all
    /// namespaces trust each other.
    #[arg(
        long,
        value_name = "POLICY",
        default_value = "Strict",
        value_parser = str::parse::<Ownership>,
        help_heading = "Routes"
    )]
    pub route_ownership: Ownership,

    /// Admit Routes with `wildcardPolicy: Subdomain`, which are for every host of a domain.
    #[arg(long, help_heading = "Routes")]
    pub allow_wildcard_routes: bool,

    /// Domain in which Routes may have hosts: itself, and all below it. May repeat. Default: all.
    #[arg(long = "route-allowed-domain", value_name = "DOMAIN", help_heading = "Routes")]
    pub route_allowed_domains: Vec<String>,

    /// Domain in which Routes may have no host, whatever is allowed. May repeat. Default: none.
    #[arg(long = "route-denied-domain", value_name = "DOMAIN", help_heading = "Routes")]
    pub route_denied_domains: Vec<String>,
}

impl RouteSettings {
    /// The options that these settings make of others.
    pub(crate) fn applied_to(&self, options: Options) -> Options {
        Options {
            router_name: self.router_name.clone(),
            default_certificate: self.default_certificate.clone(),
            route_admission: RouteAdmission {
                ownership: self.route_ownership,
                wildcards: self.allow_wildcard_routes,
                allowed_domains: self.route_allowed_domains.clone(),
                denied_domains: self.route_denied_domains.clone(),
                labels: self.route_selector.clone().unwrap_or_default(),
                fields: self.route_field_selector.clone().unwrap_or_default(),
            },
            ..options
        }
    }
}

fn fields(text: &str) -> Result<Selector, String> {
    let selector: Selector = text.parse()?;
    if let Some(key) = selector.keys().find(|key| !FIELDS.contains(key)) {
        return Err(format!("{key:?} is none of {}", FIELDS.join(", ")));
    }
    Ok(selector)
}
