//! Settings of the process that routing depends on.

use std::{net::SocketAddr, str::FromStr, sync::Arc};

use crate::{filter::client_certificate::ClientCertificates, objects::ObjectKey};

pub mod admission;

use admission::RouteAdmission;

/// Settings of the process that routing depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// An `IngressClass` with this `spec.controller` is ours; default `gatehouse.io/ingress`.
    pub controller: String,
    /// Class names that are ours whatever their controller, whether or not the class exists.
    pub claim_classes: Vec<String>,
    /// The gateway Service of classes without parameters (`--gateway-service`); default none.
    pub default_gateway: Option<ObjectKey>,
    /// Domain under which Routes without host get one; default none: such Routes are refused.
    pub route_domain: Option<String>,
    /// Which Routes are served, and who may have which host.
    pub route_admission: RouteAdmission,
    /// Name of this router in a Route's status; default `gatehouse`.
    pub router_name: String,
    /// What becomes of requests whose path holds an encoded slash, where an object does not say.
    pub encoded_slashes: EncodedSlashes,
    /// The ConfigMap of ingress-nginx that says what holds for every Ingress; default none.
    pub nginx_config: Option<ObjectKey>,
    /// The ConfigMap whose entries are the texts of errors, where no object has texts of its own; default none.
    pub error_pages: Option<ObjectKey>,
    /// The Secret with the certificate for server names that no object has one for; default none: one that nobody trusts.
    pub default_certificate: Option<ObjectKey>,
    /// The Service that answers what no rule is for; default none.
    pub default_backend: Option<ObjectKey>,
    /// Snippets of nginx are read, those that have settings for all they say.
    pub understand_snippets: bool,
    /// Plain addresses that this process listens on, besides those of gateway Services; default none.
    pub listeners: Vec<SocketAddr>,
    /// Authorities (PEM) that the pods' certificates of `reencrypt` Routes without any of their own must chain to;
    /// default none: they are not verified.
    pub destination_ca: Option<Arc<str>>,
    /// What clients of `edge` and `reencrypt` Routes have to show; default none: nothing.
    pub route_clients: Option<Arc<ClientCertificates>>,
    /// Where this process runs, for Services that want traffic kept near.
    pub place: Place,
}

/// Where a process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Name of the node.
    pub node: String,
    /// Its `topology.kubernetes.io/zone`, if it is known.
    pub zone: Option<String>,
}

impl Options {
    /// Whether classes of this name are ours whatever their controller.
    pub fn claims(&self, class: &str) -> bool {
        self.claim_classes.iter().any(|claimed| claimed == class)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            controller: "gatehouse.io/ingress".into(),
            claim_classes: Vec::new(),
            default_gateway: None,
            route_domain: None,
            route_admission: RouteAdmission::default(),
            router_name: "gatehouse".into(),
            encoded_slashes: EncodedSlashes::default(),
            nginx_config: None,
            error_pages: None,
            default_certificate: None,
            default_backend: None,
            understand_snippets: false,
            listeners: Vec::new(),
            destination_ca: None,
            route_clients: None,
            place: Place::default(),
        }
    }
}

/// What becomes of requests whose path holds an encoded slash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncodedSlashes {
    /// They go on where the rules decide the same whether or not the slash is taken for a separator; where
    /// they do not, the answer is 400.
    #[default]
    Safe,
    /// They go on, unless a server that decodes the slash would see the path of a rule that says otherwise.
    Keep,
    /// The answer is 400.
    Reject,
}

impl FromStr for EncodedSlashes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "safe" => Ok(Self::Safe),
            "keep" => Ok(Self::Keep),
            "reject" => Ok(Self::Reject),
            _ => Err(format!("{text:?} is not safe, keep or reject")),
        }
    }
}
