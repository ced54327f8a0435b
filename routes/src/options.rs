//! Settings of the process that routing depends on.

use std::net::SocketAddr;

use crate::objects::ObjectKey;

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
    /// Name of this router in a Route's status; default `gatehouse`.
    pub router_name: String,
    /// Plain addresses that this process listens on, besides those of gateway Services; default none.
    pub listeners: Vec<SocketAddr>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            controller: "gatehouse.io/ingress".into(),
            claim_classes: Vec::new(),
            default_gateway: None,
            route_domain: None,
            router_name: "gatehouse".into(),
            listeners: Vec::new(),
        }
    }
}
