//! Where objects come from, and the one event type in which they arrive.
//!
//! A source runs on its own thread and sends [`Event`]s over a channel to the owner of the
//! [`ClusterState`](crate::state::ClusterState); it never touches that state, and it decides nothing
//! about what an object means. Today there is one source: [`files`].

use std::sync::Arc;

use gatehouse_routes::{
    objects::{ObjectKey, ObjectRef},
    openshift::Route,
    problem::Problem,
};
use gatehouse_vip::{
    api::{IpAddressPoolSpec, L2AdvertisementSpec},
    bgp::spec::{BfdProfileSpec, BgpAdvertisementSpec, BgpPeerSpec, CommunitySpec},
};
use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Namespace, Node, Secret, Service},
        discovery::v1::EndpointSlice,
        networking::v1::{Ingress, IngressClass},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::{Deserialize, Serialize};

pub mod files;
pub mod manifest;

/// What a source tells the owner of the cluster state.
#[derive(Debug)]
pub enum Event {
    /// Differences that belong together: they become visible as one generation.
    Batch(Vec<Change>),
    /// All problems that this source has now; they replace the ones it reported before.
    Problems {
        /// Name of the source (`files`).
        source: &'static str,
        /// What is wrong with the source or with single objects in it.
        problems: Vec<Problem>,
    },
    /// Everything that existed when the source started has been sent.
    Synced,
}

/// One object that appeared, changed or went.
#[derive(Clone, Debug)]
pub enum Change {
    /// The object as it is now, and its position in the source (0 where the source has no order).
    Apply(Object, u64),
    /// The object is gone.
    Delete(ObjectRef),
}

/// A custom resource of which only metadata and spec matter here.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Custom<S> {
    /// Standard object metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What the object asks for.
    #[serde(default)]
    pub spec: S,
}

/// An object of a kind that this process understands.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "every variant is the kind of its name, see `Object::api_version`")]
pub enum Object {
    BfdProfile(Arc<Custom<BfdProfileSpec>>),
    BgpAdvertisement(Arc<Custom<BgpAdvertisementSpec>>),
    BgpPeer(Arc<Custom<BgpPeerSpec>>),
    Community(Arc<Custom<CommunitySpec>>),
    ConfigMap(Arc<ConfigMap>),
    EndpointSlice(Arc<EndpointSlice>),
    Ingress(Arc<Ingress>),
    IngressClass(Arc<IngressClass>),
    IpAddressPool(Arc<Custom<IpAddressPoolSpec>>),
    L2Advertisement(Arc<Custom<L2AdvertisementSpec>>),
    Namespace(Arc<Namespace>),
    Node(Arc<Node>),
    Route(Arc<Route>),
    Secret(Arc<Secret>),
    Service(Arc<Service>),
}

impl Object {
    /// `kind` as in the manifest.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::BfdProfile(_) => "BFDProfile",
            Self::BgpAdvertisement(_) => "BGPAdvertisement",
            Self::BgpPeer(_) => "BGPPeer",
            Self::Community(_) => "Community",
            Self::ConfigMap(_) => "ConfigMap",
            Self::EndpointSlice(_) => "EndpointSlice",
            Self::Ingress(_) => "Ingress",
            Self::IngressClass(_) => "IngressClass",
            Self::IpAddressPool(_) => "IPAddressPool",
            Self::L2Advertisement(_) => "L2Advertisement",
            Self::Namespace(_) => "Namespace",
            Self::Node(_) => "Node",
            Self::Route(_) => "Route",
            Self::Secret(_) => "Secret",
            Self::Service(_) => "Service",
        }
    }

    /// `metadata` of the object.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::BfdProfile(object) => &object.metadata,
            Self::BgpAdvertisement(object) => &object.metadata,
            Self::BgpPeer(object) => &object.metadata,
            Self::Community(object) => &object.metadata,
            Self::ConfigMap(object) => &object.metadata,
            Self::EndpointSlice(object) => &object.metadata,
            Self::Ingress(object) => &object.metadata,
            Self::IngressClass(object) => &object.metadata,
            Self::IpAddressPool(object) => &object.metadata,
            Self::L2Advertisement(object) => &object.metadata,
            Self::Namespace(object) => &object.metadata,
            Self::Node(object) => &object.metadata,
            Self::Route(object) => &object.metadata,
            Self::Secret(object) => &object.metadata,
            Self::Service(object) => &object.metadata,
        }
    }

    /// Namespace and name; sources make sure that namespaced objects have a namespace.
    pub fn key(&self) -> ObjectKey {
        key_of(self.metadata())
    }

    /// Kind and key.
    pub fn object_ref(&self) -> ObjectRef {
        ObjectRef::new(self.kind(), self.key())
    }
}

/// `apiVersion` of a kind that this process understands; empty for other kinds (`File`).
pub fn api_version(kind: &str) -> &'static str {
    match kind {
        "ConfigMap" | "Namespace" | "Node" | "Secret" | "Service" => "v1",
        "EndpointSlice" => "discovery.k8s.io/v1",
        "Ingress" | "IngressClass" => "networking.k8s.io/v1",
        "BGPPeer" => "metallb.io/v1beta2",
        "BFDProfile" | "BGPAdvertisement" | "Community" | "IPAddressPool" | "L2Advertisement" => {
            "metallb.io/v1beta1"
        }
        "Route" => "route.openshift.io/v1",
        _ => "",
    }
}

/// Key of an object by its metadata.
pub fn key_of(metadata: &ObjectMeta) -> ObjectKey {
    ObjectKey::new(
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}
