//! The kinds that this process understands: one table. All that differs from kind to kind follows from it:
//! [`Kind`], [`Object`], reading, and one store for each kind ([`Stores`]).
//!
//! A new kind is one line here; one that routing depends on is also a field of
//! [`Objects`], which the compiler asks for.

use std::sync::Arc;

use gatehouse_routes::{
    objects::{ObjectKey, ObjectRef, Objects, SourceTrust, Special, Store, Stored},
    openshift::Route,
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
use serde::{Deserialize, Serialize, de::DeserializeOwned};

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

impl<S> Special for Custom<S> {}

/// Reads the one object that it stands for, as whatever type is asked for.
pub(crate) trait Read {
    /// Why it cannot be read as that.
    type Error;

    /// The object; `kind` is for the error.
    fn read<T: DeserializeOwned>(&self, kind: Kind) -> Result<T, Self::Error>;
}

/// Takes the table apart: the fields of [`Stores`] are made of the second part of it only.
macro_rules! kinds {
    (
        routing {
            $($variant:ident $kind:literal $plural:literal $version:literal $scope:ident $type:ty => $store:ident;)*
        }
        addresses {
            $($own:ident $own_kind:literal $own_plural:literal $own_version:literal $own_scope:ident
                $own_type:ty => $own_store:ident $(, or $old:literal by $convert:path)*;)*
        }
    ) => {
        /// Every object that matters, one store for each kind.
        #[derive(Clone, Debug, Default)]
        pub struct Stores {
            /// What routing depends on, and Services for addresses.
            pub objects: Objects,
            $(
                #[doc = concat!("`", $own_version, "` ", $own_kind, ".")]
                pub $own_store: Store<$own_type>,
            )*
        }

        rows! {
            $($variant $kind $plural $version $scope $type => [objects.$store] [];)*
            $($own $own_kind $own_plural $own_version $own_scope $own_type
                => [$own_store] [$(($old, $convert))*];)*
        }
    };
}

/// Everything that follows from a row in the same way for all of them.
macro_rules! rows {
    ($(
        $variant:ident $kind:literal $plural:literal $version:literal $scope:ident $type:ty
            => [$($store:ident).+] [$(($old:literal, $convert:path))*];
    )*) => {
        /// A kind that this process understands.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(
                #[doc = concat!("`", $version, "` ", $kind, ".")]
                $variant,
            )*
        }

        /// An object of a kind that this process understands.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Object {
            $(
                #[doc = concat!("`", $version, "` ", $kind, ".")]
                $variant(Arc<$type>),
            )*
        }

        impl Kind {
            /// All of them, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// `kind` as in the manifest.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $kind,)*
                }
            }

            /// The name in the addresses of the API server (`resource` in RBAC rules).
            pub fn plural(self) -> &'static str {
                match self {
                    $(Self::$variant => $plural,)*
                }
            }

            /// `apiVersion` of the objects, the current one first, then older ones that are read too.
            pub fn api_versions(self) -> &'static [&'static str] {
                match self {
                    $(Self::$variant => &[$version $(, $old)*],)*
                }
            }

            /// Whether objects of this kind live in a namespace.
            pub fn is_namespaced(self) -> bool {
                match self {
                    $(Self::$variant => Scope::$scope == Scope::Namespaced,)*
                }
            }

            /// Reads an object of this kind, written in one of [`Kind::api_versions`].
            pub(crate) fn read<R: Read>(self, api_version: &str, from: &R) -> Result<Object, R::Error> {
                Ok(match self {
                    $(Self::$variant => {
                        let object: $type = from.read(self)?;
                        $(let object = if api_version == $old { $convert(object) } else { object };)*
                        Object::$variant(Arc::new(object))
                    })*
                })
            }
        }

        impl Object {
            /// Its kind.
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$variant(_) => Kind::$variant,)*
                }
            }

            /// `metadata` of the object.
            pub fn metadata(&self) -> &ObjectMeta {
                match self {
                    $(Self::$variant(object) => &object.metadata,)*
                }
            }

            /// The same, to be completed before anybody else knows the object.
            pub(crate) fn metadata_mut(&mut self) -> &mut ObjectMeta {
                match self {
                    $(Self::$variant(object) => &mut Arc::make_mut(object).metadata,)*
                }
            }

            /// The object as the API server has it.
            pub(crate) fn to_json(&self) -> serde_json::Result<serde_json::Value> {
                match self {
                    $(Self::$variant(object) => serde_json::to_value(&**object),)*
                }
            }

            /// Whether both are one and the same object in memory.
            pub(crate) fn is_same(&self, other: &Self) -> bool {
                match (self, other) {
                    $((Self::$variant(a), Self::$variant(b)) => Arc::ptr_eq(a, b),)*
                    _ => false,
                }
            }
        }

        impl Stores {
            /// Puts an object in its place; says how it differs from the one there.
            pub(crate) fn put(&mut self, object: Object, order: u64, trust: SourceTrust) -> Put {
                let key = object.key();
                match &object {
                    $(Object::$variant(new) => {
                        let mut new = Stored::new(Arc::clone(new), order, trust);
                        let mut put = Put::Other;
                        let store = &mut self.$($store).+;
                        if let Some(old) = store.get(&key).filter(|old| old.trust == trust) {
                            let before = Object::$variant(Arc::clone(&old.object));
                            let same = before.is_same(&object);
                            if same || differ_in_status(&before, &object) {
                                new.revision = old.revision;
                                put = match same {
                                    _ if old.order != order => Put::Other,
                                    true => Put::Same,
                                    false => Put::Status,
                                };
                            }
                        }
                        store.insert(key, new);
                        put
                    })*
                }
            }

            /// Metadata of an object and the trust of its source.
            pub(crate) fn metadata(
                &self,
                kind: Kind,
                key: &ObjectKey,
            ) -> Option<(&ObjectMeta, SourceTrust)> {
                match kind {
                    $(Kind::$variant => {
                        let stored = self.$($store).+.get(key)?;
                        Some((&stored.object.metadata, stored.trust))
                    })*
                }
            }

            /// Takes an object out; true if it was there.
            pub(crate) fn remove(&mut self, kind: Kind, key: &ObjectKey) -> bool {
                match kind {
                    $(Kind::$variant => self.$($store).+.remove(key).is_some(),)*
                }
            }
        }
    };
}

// Columns: name in the program, `kind`, plural, `apiVersion`, scope, type of the objects, where they are stored;
// then older versions, and what makes an object of the current one of them.
kinds! {
    routing {
        ConfigMap       "ConfigMap"         "configmaps"         "v1"                    Namespaced  ConfigMap => config_maps;
        EndpointSlice   "EndpointSlice"     "endpointslices"     "discovery.k8s.io/v1"   Namespaced  EndpointSlice => endpoint_slices;
        Ingress         "Ingress"           "ingresses"          "networking.k8s.io/v1"  Namespaced  Ingress => ingresses;
        IngressClass    "IngressClass"      "ingressclasses"     "networking.k8s.io/v1"  Cluster     IngressClass => ingress_classes;
        Namespace       "Namespace"         "namespaces"         "v1"                    Cluster     Namespace => namespaces;
        Node            "Node"              "nodes"              "v1"                    Cluster     Node => nodes;
        Route           "Route"             "routes"             "route.openshift.io/v1" Namespaced  Route => routes;
        Secret          "Secret"            "secrets"            "v1"                    Namespaced  Secret => secrets;
        Service         "Service"           "services"           "v1"                    Namespaced  Service => services;
    }
    addresses {
        BfdProfile      "BFDProfile"        "bfdprofiles"        "metallb.io/v1beta1"    Namespaced  Custom<BfdProfileSpec> => bfd_profiles;
        BgpAdvertisement "BGPAdvertisement" "bgpadvertisements"  "metallb.io/v1beta1"    Namespaced  Custom<BgpAdvertisementSpec> => bgp_advertisements;
        BgpPeer         "BGPPeer"           "bgppeers"           "metallb.io/v1beta2"    Namespaced  Custom<BgpPeerSpec> => bgp_peers,
            or "metallb.io/v1beta1" by peer_of_v1beta1;
        Community       "Community"         "communities"        "metallb.io/v1beta1"    Namespaced  Custom<CommunitySpec> => communities;
        IpAddressPool   "IPAddressPool"     "ipaddresspools"     "metallb.io/v1beta1"    Namespaced  Custom<IpAddressPoolSpec> => pools;
        L2Advertisement "L2Advertisement"   "l2advertisements"   "metallb.io/v1beta1"    Namespaced  Custom<L2AdvertisementSpec> => l2_advertisements;
    }
}

impl Kind {
    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// The `apiVersion` in which objects of this kind are written.
    pub fn api_version(self) -> &'static str {
        self.api_versions()[0]
    }
}

impl Object {
    /// Namespace and name; sources make sure that namespaced objects have a namespace.
    pub fn key(&self) -> ObjectKey {
        key_of(self.metadata())
    }

    /// Kind and key.
    pub fn object_ref(&self) -> ObjectRef {
        ObjectRef::new(self.kind().name(), self.key())
    }
}

/// `apiVersion` of a kind that this process understands; empty for other kinds (`File`).
pub fn api_version(kind: &str) -> &'static str {
    Kind::named(kind).map_or("", Kind::api_version)
}

/// Key of an object by its metadata.
pub fn key_of(metadata: &ObjectMeta) -> ObjectKey {
    ObjectKey::new(
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

/// How an object differs from the one whose place it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// It is the same, at the same position, of the same trust.
    Same,
    /// In a status that nothing is compiled from.
    Status,
    /// In what objects are compiled from; or there was none.
    Other,
}

/// Whether two versions of an Ingress or a Route differ at most in their status: that is written by this
/// program and its like, and compiled by none. (Addresses are read from the status of Services.)
fn differ_in_status(a: &Object, b: &Object) -> bool {
    let bare = |metadata: &ObjectMeta| {
        let metadata = metadata.clone();
        ObjectMeta { resource_version: None, managed_fields: None, ..metadata }
    };
    match (a, b) {
        (Object::Ingress(a), Object::Ingress(b)) => {
            a.spec == b.spec && bare(&a.metadata) == bare(&b.metadata)
        }
        (Object::Route(a), Object::Route(b)) => {
            a.spec == b.spec && bare(&a.metadata) == bare(&b.metadata)
        }
        _ => false,
    }
}

/// Where the objects of a kind live.
#[derive(PartialEq)]
enum Scope {
    Cluster,
    Namespaced,
}

/// In the older version, times of zero are times that were not given.
fn peer_of_v1beta1(peer: Custom<BgpPeerSpec>) -> Custom<BgpPeerSpec> {
    Custom { spec: peer.spec.from_v1beta1(), ..peer }
}
