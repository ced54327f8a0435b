//! The kinds that this process understands, and what it says about the others.

use gatehouse_vip::bgp::spec::BgpPeerSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Body, Custom, ManifestError, Object, document::Head};

/// API groups whose objects somebody may expect us to honour.
const OUR_GROUPS: [&str; 3] = ["gatehouse.io", "metallb.io", "route.openshift.io"];

/// An older version of BGPPeer, in which times of zero are times that were not given.
const BGP_PEER_OLD: &str = "metallb.io/v1beta1";

/// What to do with a document.
pub(super) enum Understood {
    /// Read it.
    Kind(Kind),
    /// One of ours by its group or kind, but not in this version of the program.
    NotYet,
    /// Somebody else's.
    Foreign,
}

/// A kind that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    name: &'static str,
    api_version: &'static str,
    namespaced: bool,
}

/// Kind, API version, whether it is namespaced.
const KINDS: [(&str, &str, bool); 16] = [
    ("BFDProfile", "metallb.io/v1beta1", true),
    ("BGPAdvertisement", "metallb.io/v1beta1", true),
    ("BGPPeer", "metallb.io/v1beta2", true),
    ("BGPPeer", BGP_PEER_OLD, true),
    ("Community", "metallb.io/v1beta1", true),
    ("ConfigMap", "v1", true),
    ("EndpointSlice", "discovery.k8s.io/v1", true),
    ("IPAddressPool", "metallb.io/v1beta1", true),
    ("Ingress", "networking.k8s.io/v1", true),
    ("IngressClass", "networking.k8s.io/v1", false),
    ("L2Advertisement", "metallb.io/v1beta1", true),
    ("Namespace", "v1", false),
    ("Node", "v1", false),
    ("Route", "route.openshift.io/v1", true),
    ("Secret", "v1", true),
    ("Service", "v1", true),
];

/// What a document is to us.
pub(super) fn understand(head: &Head) -> Understood {
    let (group, _) = head.api_version.split_once('/').unwrap_or_default();
    let of_kind = || KINDS.into_iter().filter(|(name, ..)| head.kind == *name);
    for (name, api_version, namespaced) in of_kind() {
        if head.api_version == api_version {
            return Understood::Kind(Kind { name, api_version, namespaced });
        }
    }
    for (name, api_version, _) in of_kind() {
        let (known_group, _) = api_version.split_once('/').unwrap_or_default();
        // An old version of a kind of ours; `extensions` is where Ingress came from.
        if group == known_group || (name == "Ingress" && group == "extensions") {
            return Understood::NotYet;
        }
    }
    if OUR_GROUPS.contains(&group) { Understood::NotYet } else { Understood::Foreign }
}

/// True for the list form that `kubectl get -o yaml` prints, of any kind.
pub(super) fn is_list(kind: &str) -> bool {
    kind == "List"
        || kind
            .strip_suffix("List")
            .is_some_and(|item| KINDS.iter().any(|(name, ..)| *name == item))
}

impl Kind {
    /// Reads an object of this kind, with the defaults that the API server would set.
    pub(super) fn read(self, body: &Body<'_>) -> Result<Object, ManifestError> {
        macro_rules! read {
            ($variant:ident: $ty:ty) => {{
                let mut object: $ty = body.typed(self.name)?;
                self.complete(&mut object.metadata)?;
                Object::$variant(object.into())
            }};
        }
        use k8s_openapi::api::{
            core::v1 as core, discovery::v1 as discovery, networking::v1 as net,
        };
        Ok(match self.name {
            "BFDProfile" => read!(BfdProfile: Custom<_>),
            "BGPAdvertisement" => read!(BgpAdvertisement: Custom<_>),
            "BGPPeer" => {
                let mut peer: Custom<BgpPeerSpec> = body.typed(self.name)?;
                self.complete(&mut peer.metadata)?;
                if self.api_version == BGP_PEER_OLD {
                    peer.spec = peer.spec.from_v1beta1();
                }
                Object::BgpPeer(peer.into())
            }
            "Community" => read!(Community: Custom<_>),
            "ConfigMap" => read!(ConfigMap: core::ConfigMap),
            "EndpointSlice" => read!(EndpointSlice: discovery::EndpointSlice),
            "IPAddressPool" => read!(IpAddressPool: Custom<_>),
            "Ingress" => read!(Ingress: net::Ingress),
            "IngressClass" => read!(IngressClass: net::IngressClass),
            "L2Advertisement" => read!(L2Advertisement: Custom<_>),
            "Namespace" => read!(Namespace: core::Namespace),
            "Node" => read!(Node: core::Node),
            "Route" => read!(Route: gatehouse_routes::openshift::Route),
            "Secret" => read!(Secret: core::Secret),
            _ => read!(Service: core::Service),
        })
    }

    fn complete(self, metadata: &mut ObjectMeta) -> Result<(), ManifestError> {
        let namespace = metadata.namespace.take().filter(|namespace| !namespace.is_empty());
        if self.namespaced {
            metadata.namespace = Some(namespace.unwrap_or_else(|| "default".to_owned()));
        }
        for (field, value) in
            [("metadata.namespace", &metadata.namespace), ("metadata.name", &metadata.name)]
        {
            let message = match value.as_deref() {
                Some(value) if is_dns_name(value) => continue,
                None if field == "metadata.namespace" => continue,
                None | Some("") => "is missing".to_owned(),
                Some(value) => {
                    format!("{value:?} is not a name of lower-case letters, digits, '-' and '.'")
                }
            };
            let name = metadata.name.as_deref().unwrap_or_default();
            let object = match (&metadata.namespace, name) {
                (_, "") => self.name.to_owned(),
                (Some(namespace), name) => format!("{} {namespace}/{name}", self.name),
                (None, name) => format!("{} {name}", self.name),
            };
            return Err(ManifestError { line: 0, object, field: field.to_owned(), message });
        }
        Ok(())
    }
}

/// RFC 1123 subdomain, as the API server asks of the names of all these kinds.
fn is_dns_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            let (first, last) = (label.bytes().next(), label.bytes().next_back());
            first.is_some_and(inner)
                && last.is_some_and(inner)
                && label.bytes().all(|byte| inner(byte) || byte == b'-')
        })
}
