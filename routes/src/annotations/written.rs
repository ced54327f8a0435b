//! The annotations that conversions write, and the one that they leave out: no name is spelled anywhere else.

use super::{Found, gatehouse, haproxy_route, kubernetes, nginx};

/// What a conversion says of an Ingress.
#[derive(Clone, Copy)]
pub(crate) enum Written {
    BackendProtocol,
    Canary,
    CanaryWeight,
    CanaryWeightTotal,
    ProxySslSecret,
    ProxySslVerify,
    SslPassthrough,
    SslRedirect,
}

impl Written {
    /// The whole name of what a Route says of the path that the backend gets.
    pub(crate) fn rewrite_of_routes() -> String {
        format!("{}rewrite-target", haproxy_route::HAPROXY.prefix)
    }

    /// The whole name of how much of an answer that waits a Route has in memory.
    pub(crate) fn response_memory() -> String {
        format!("{}response-memory", gatehouse::FAMILY.prefix)
    }

    /// Path of the annotation within its object.
    pub(crate) fn field(self) -> String {
        Found { name: &self.name(), value: "" }.field()
    }

    /// The whole name.
    pub(crate) fn name(self) -> String {
        let name = match self {
            Self::BackendProtocol => "backend-protocol",
            Self::Canary => "canary",
            Self::CanaryWeight => "canary-weight",
            Self::CanaryWeightTotal => "canary-weight-total",
            Self::ProxySslSecret => "proxy-ssl-secret",
            Self::ProxySslVerify => "proxy-ssl-verify",
            Self::SslPassthrough => "ssl-passthrough",
            Self::SslRedirect => "ssl-redirect",
        };
        format!("{}{name}", nginx::FAMILY.prefix)
    }
}

/// Whether it holds the clients that limits are not for, of which there may be two lists.
pub(crate) fn is_list_of_exempt(name: &str) -> bool {
    let families = [&nginx::FAMILY, &gatehouse::FAMILY];
    families.iter().any(|family| family.strip(name) == Some("limit-allowlist"))
}

/// Whether it names the class of an Ingress, which a Route has not.
pub(crate) fn is_class(name: &str) -> bool {
    kubernetes::INGRESS.strip(name) == Some(kubernetes::CLASS.name)
}
