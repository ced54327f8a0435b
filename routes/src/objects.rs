//! The objects that routes are made from, as the cluster or a folder of manifests holds them.
//!
//! [`Objects`] is what the owner of the cluster state fills and what [`crate::compile`] reads. Objects are
//! behind `Arc`: an unchanged pointer, or an unchanged [`Revision`], is how the compiler knows that nothing about an
//! object changed.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    fmt,
    hash::{Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Namespace, Node, Secret, Service},
        discovery::v1::EndpointSlice,
        networking::v1::{Ingress, IngressClass},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::{Serialize, Serializer};

use crate::openshift::{Route, TlsConfig};

/// Namespace and name; the namespace is empty for cluster-scoped objects.
///
/// Keys of one object mostly share their memory: then they are equal without a look at it.
#[derive(Clone, Debug, Eq)]
pub struct ObjectKey {
    /// `metadata.namespace`, empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// The key of `namespace/name`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl PartialEq for ObjectKey {
    fn eq(&self, other: &Self) -> bool {
        let same = |a: &Arc<str>, b: &Arc<str>| Arc::ptr_eq(a, b) || a == b;
        // Names differ more often.
        same(&self.name, &other.name) && same(&self.namespace, &other.namespace)
    }
}

impl Ord for ObjectKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let order = |a: &Arc<str>, b: &Arc<str>| match Arc::ptr_eq(a, b) {
            true => Ordering::Equal,
            false => a.cmp(b),
        };
        order(&self.namespace, &other.namespace).then_with(|| order(&self.name, &other.name))
    }
}

impl PartialOrd for ObjectKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for ObjectKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.namespace.hash(state);
        self.name.hash(state);
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

impl Serialize for ObjectKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a Secret holds under a name; `None` also if that is empty.
pub fn secret_field<'s>(secret: &'s Secret, name: &str) -> Option<&'s [u8]> {
    let text = secret.string_data.as_ref();
    // `stringData` overwrites `data` when the API server writes the object.
    text.and_then(|text| text.get(name).map(String::as_bytes))
        .or_else(|| secret.data.as_ref()?.get(name).map(|bytes| bytes.0.as_slice()))
        .filter(|bytes| !bytes.is_empty())
}

/// Names one object of any kind, for diagnostics, `plan` and status.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Kind as in the manifest (`Ingress`); `File` for a manifest that could not be read at all.
    pub kind: &'static str,
    /// Which one.
    pub key: ObjectKey,
}

impl ObjectRef {
    /// The reference `kind namespace/name`.
    pub fn new(kind: &'static str, key: ObjectKey) -> Self {
        Self { kind, key }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.key)
    }
}

impl Serialize for ObjectRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Age of an object, which decides who keeps a contested host and path: the smaller one.
///
/// `metadata.creationTimestamp` where it is given; objects without one are younger than all that have
/// one, and among themselves keep the order in which the source lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// `metadata.creationTimestamp` in nanoseconds since the epoch.
    pub created: Option<i128>,
    /// Position in the source; meaningful only where `created` is missing or equal.
    pub order: u64,
}

impl Ord for Age {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.created, other.created) {
            (Some(a), Some(b)) => a.cmp(&b).then(self.order.cmp(&other.order)),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => self.order.cmp(&other.order),
        }
    }
}

impl PartialOrd for Age {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What a source may ask for with its objects, and what is true of the world that they describe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceTrust {
    /// Endpoints may be on loopback addresses: only where the author of the objects owns the host anyway.
    pub loopback_endpoints: bool,
    /// There is no cluster behind the objects: nobody else forwards what this process does not, and
    /// nobody's allocation is recorded in their status.
    pub standalone: bool,
}

/// Tells the versions of an object apart, for as long as the process runs. Two that differ only in what nothing is
/// compiled from have the same one: a status that is written does not have the object translated anew, nor its
/// former version kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision(u64);

impl Revision {
    /// One that no other object has.
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Relaxed))
    }
}

/// An object, where it stood in its source, and what that source may ask for.
#[derive(Debug)]
pub struct Stored<T> {
    /// The object itself; a new `Arc` if and only if the object changed.
    pub object: Arc<T>,
    /// The same as before if nothing has changed that anything is compiled from.
    pub revision: Revision,
    /// Position in the source (file order; 0 for objects from an API server).
    pub order: u64,
    /// That of the source.
    pub trust: SourceTrust,
    /// Whether it [`is_special`](Special::is_special).
    pub special: bool,
}

/// Kinds of objects, some of which every compile looks at, changed or not. Whether one is of these stands beside the
/// pointer to it: a look at the object itself is a cache miss, and there are thousands of others.
pub trait Special {
    /// True for Services of type `LoadBalancer` and for Routes with certificates.
    fn is_special(&self) -> bool {
        false
    }
}

impl Special for ConfigMap {}
impl Special for EndpointSlice {}
impl Special for Ingress {}
impl Special for IngressClass {}
impl Special for Namespace {}
impl Special for Node {}
impl Special for Secret {}

impl Special for Service {
    fn is_special(&self) -> bool {
        let spec = self.spec.as_ref();
        spec.is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer"))
    }
}

impl Special for Route {
    fn is_special(&self) -> bool {
        self.spec.tls.as_ref().is_some_and(TlsConfig::has_certificates)
    }
}

impl<T> Clone for Stored<T> {
    fn clone(&self) -> Self {
        Self { object: Arc::clone(&self.object), ..*self }
    }
}

impl<T: Special> Stored<T> {
    /// An object that is new, or not what it was.
    pub fn new(object: Arc<T>, order: u64, trust: SourceTrust) -> Self {
        let special = object.is_special();
        Self { object, revision: Revision::new(), order, trust, special }
    }
}

impl<T> Stored<T> {
    /// Age of the object, given its metadata.
    pub fn age(&self, metadata: &ObjectMeta) -> Age {
        let created = metadata.creation_timestamp.as_ref().map(|time| time.0.as_nanosecond());
        Age { created, order: self.order }
    }
}

/// All objects of one kind, in the order of their keys.
pub type Store<T> = BTreeMap<ObjectKey, Stored<T>>;

/// Every object that routing depends on.
#[derive(Debug, Default, Clone)]
pub struct Objects {
    /// `networking.k8s.io/v1` Ingress.
    pub ingresses: Store<Ingress>,
    /// `networking.k8s.io/v1` IngressClass (cluster-scoped).
    pub ingress_classes: Store<IngressClass>,
    /// `route.openshift.io/v1` Route.
    pub routes: Store<Route>,
    /// `v1` Service.
    pub services: Store<Service>,
    /// `discovery.k8s.io/v1` EndpointSlice.
    pub endpoint_slices: Store<EndpointSlice>,
    /// `v1` Secret.
    pub secrets: Store<Secret>,
    /// `v1` ConfigMap.
    pub config_maps: Store<ConfigMap>,
    /// Objects that others refer to and that may not be read, and why.
    pub refused: BTreeMap<ObjectRef, Arc<str>>,
    /// `v1` Namespace (cluster-scoped).
    pub namespaces: Store<Namespace>,
    /// `v1` Node (cluster-scoped).
    pub nodes: Store<Node>,
}
