//! From what the API server sends to the objects of the kinds table: read one by one, so that one that
//! makes no sense spoils no list, and without what nobody reads.

use std::{borrow::Cow, cell::RefCell};

use gatehouse_routes::{
    objects::{ObjectKey, ObjectRef},
    problem::Problem,
};
use k8s_openapi::{
    api::core::v1::{Node, NodeCondition, NodeStatus},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Resource,
    core::{ApiResource, DynamicResourceScope, GroupVersionKind},
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

use super::world::{Broken, Received};
use crate::source::{
    Kind, Object, Read,
    fields::{self, Unread},
    salvage::{self, Remains},
};

/// What `kubectl apply` leaves on an object: the object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Changes with every change of the Pods, and says nothing about them.
const LAST_CHANGE: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// How the API server calls a kind in one of its versions.
pub(super) fn resource(kind: Kind, api_version: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let named = GroupVersionKind::gvk(group, version, kind.name());
    ApiResource::from_gvk_with_plural(&named, kind.plural())
}

/// An object of any kind as it came, with as much metadata as watching needs.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    metadata: ObjectMeta,
    value: Value,
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        let mut metadata = ObjectMeta::default();
        if let Some(Value::Object(fields)) = value.get_mut("metadata") {
            fields.remove("managedFields");
            let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
            metadata.namespace = text("namespace");
            metadata.name = text("name");
            metadata.resource_version = text("resourceVersion");
        }
        Ok(Self { metadata, value })
    }
}

impl Resource for Raw {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Raw {
    /// Namespace and name.
    pub(super) fn key(&self) -> ObjectKey {
        crate::source::key_of(&self.metadata)
    }

    /// The object, without what nobody reads.
    pub(super) fn decode(&self, kind: Kind, api_version: &str) -> Received {
        let json = Json { value: &self.value, unread: RefCell::default() };
        let read = kind.read(api_version, &json).and_then(|mut object| {
            // The API server itself knows the fields of its own kinds, be they newer than this program.
            if api_version.split('/').next().is_some_and(|group| OUR_TYPES.contains(&group)) {
                fields::close(&mut object, &json.unread.take())?;
            }
            Ok(object)
        });
        match read {
            Ok(mut object) => {
                trim(&mut object);
                Ok(object)
            }
            Err(unreadable) => {
                let remains = Remains { readings: vec![self.value.clone()], cut: false };
                let why = format!("{}: {}", unreadable.field, unreadable.message);
                let stand_in = salvage::stand_in(kind, &remains, &why);
                let key = self.key();
                let problem = unreadable.problem(kind, key.clone());
                Err(Box::new(Broken { key, problem, stand_in }))
            }
        }
    }
}

/// API groups whose resource definitions may let fields pass that nobody reads.
const OUR_TYPES: [&str; 2] = ["metallb.io", "route.openshift.io"];

/// A value that holds one object.
struct Json<'v> {
    value: &'v Value,
    unread: RefCell<Vec<Unread>>,
}

impl Read for Json<'_> {
    type Error = Unreadable;

    fn read<T: DeserializeOwned>(&self, _kind: Kind) -> Result<T, Unreadable> {
        fields::read_value(self.value, &mut self.unread.borrow_mut())
            .map_err(|(field, error)| Unreadable { field, message: error.to_string() })
    }
}

/// Why an object cannot be read, and where.
struct Unreadable {
    field: String,
    message: String,
}

impl From<Unread> for Unreadable {
    fn from(unread: Unread) -> Self {
        let message =
            format!("the field is not known{}, and may limit who gets what", unread.advice());
        Self { field: unread.path, message }
    }
}

impl Unreadable {
    fn problem(self, kind: Kind, key: ObjectKey) -> Problem {
        let closed = match kind {
            Kind::Ingress | Kind::Route => {
                ", or its hosts and paths are closed (503) if there is none"
            }
            Kind::IngressClass => ", or its Ingresses are closed (503) if there is none",
            _ => "",
        };
        Problem::error(
            &ObjectRef::new(kind.name(), key),
            "ObjectUnreadable",
            self.field,
            format!("{}; the last version that could be read stays in use{closed}", self.message),
            "correct the field, or update the resource definition that let it pass",
        )
    }
}

/// Reads one object that [`Object::to_json`] has written.
pub(super) fn from_json(kind: Kind, value: &Value) -> Option<Object> {
    kind.read(kind.api_version(), &Json { value, unread: RefCell::default() }).ok()
}

/// Kinds whose status is written by this process.
const HAS_STATUS: [Kind; 4] = [Kind::Ingress, Kind::IpAddressPool, Kind::Route, Kind::Service];

/// Takes off what nobody reads: memory, and changes that change nothing.
fn trim(object: &mut Object) {
    let kind = object.kind();
    let metadata = object.metadata_mut();
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
        annotations.remove(LAST_CHANGE);
    }
    metadata.annotations = metadata.annotations.take().filter(|all| !all.is_empty());
    metadata.managed_fields = None;
    metadata.owner_references = None;
    metadata.generate_name = None;
    metadata.self_link = None;
    metadata.finalizers = None;
    // It says which of the writes to a status the object has seen, and guards the addresses of a Service.
    if !HAS_STATUS.contains(&kind) {
        metadata.resource_version = None;
    }
    match object {
        Object::Node(node) => trim_node(std::sync::Arc::make_mut(node)),
        Object::EndpointSlice(slice) => {
            for endpoint in &mut std::sync::Arc::make_mut(slice).endpoints {
                endpoint.target_ref = None;
            }
        }
        _ => (),
    }
}

/// Leaves labels, addresses and conditions, without the times of the node's heartbeats.
fn trim_node(node: &mut Node) {
    node.spec = None;
    node.metadata.annotations = None;
    node.status = node.status.take().map(|status| NodeStatus {
        addresses: status.addresses,
        conditions: status.conditions.map(|conditions| {
            let only = |one: NodeCondition| NodeCondition {
                status: one.status,
                type_: one.type_,
                ..NodeCondition::default()
            };
            conditions.into_iter().map(only).collect()
        }),
        ..NodeStatus::default()
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn raw(value: Value) -> Raw {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_api_server_calls_kinds_by_their_plural() {
        let path =
            |kind: Kind, namespace| Raw::url_path(&resource(kind, kind.api_version()), namespace);
        assert_eq!(path(Kind::Service, None), "/api/v1/services");
        assert_eq!(path(Kind::Secret, Some("a")), "/api/v1/namespaces/a/secrets");
        assert_eq!(path(Kind::Ingress, None), "/apis/networking.k8s.io/v1/ingresses");
        assert_eq!(path(Kind::BgpPeer, None), "/apis/metallb.io/v1beta2/bgppeers");
    }

    #[test]
    fn what_nobody_reads_is_left_out() {
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {
                "name": "n", "resourceVersion": "7", "labels": { "zone": "a" },
                "annotations": { "csi": "…" }, "managedFields": [{ "manager": "kubelet" }],
            },
            "spec": { "podCIDR": "10.0.0.0/24" },
            "status": {
                "images": [{ "names": ["a"], "sizeBytes": 1 }],
                "addresses": [{ "type": "InternalIP", "address": "10.0.0.1" }],
                "conditions": [{
                    "type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z",
                }],
            },
        });
        let mut later = node.clone();
        later["metadata"]["resourceVersion"] = json!("8");
        later["status"]["conditions"][0]["lastHeartbeatTime"] = json!("2026-01-01T00:05:00Z");
        let [node, later] = [node, later].map(|value| raw(value).decode(Kind::Node, "v1").unwrap());
        assert_eq!(node, later, "a heartbeat is no change");
        let shown = serde_json::to_value(match node {
            Object::Node(node) => node,
            other => panic!("{other:?}"),
        });
        assert_eq!(
            shown.unwrap(),
            json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": { "name": "n", "labels": { "zone": "a" } },
                "status": {
                    "addresses": [{ "type": "InternalIP", "address": "10.0.0.1" }],
                    "conditions": [{ "type": "Ready", "status": "True" }],
                },
            }),
        );
    }

    #[test]
    fn a_service_keeps_its_version_and_loses_its_copy_of_itself() {
        let service = raw(json!({
            "metadata": {
                "namespace": "a", "name": "b", "resourceVersion": "7",
                "annotations": { LAST_APPLIED: "{}", "metallb.io/address-pool": "p" },
            },
        }));
        let service = service.decode(Kind::Service, "v1").unwrap();
        let metadata = service.metadata();
        assert_eq!(metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(metadata.annotations.as_ref().unwrap().len(), 1);
    }

    #[test]
    fn an_object_that_lacks_a_limit_for_a_slip_of_the_pen_is_refused_or_closed() {
        let pool = |field: &str| {
            raw(json!({
                "metadata": { "namespace": "m", "name": "p" },
                "spec": { "addresses": ["10.0.0.0/24"], field: false },
            }))
            .decode(Kind::IpAddressPool, "metallb.io/v1beta1")
        };
        assert!(pool("autoAssign").is_ok() && pool("colour").is_ok());
        let problem = pool("autoassign").unwrap_err().problem;
        assert_eq!((problem.reason, &*problem.field), ("ObjectUnreadable", "spec.autoassign"));
        let route = raw(json!({
            "metadata": { "namespace": "a", "name": "r" },
            "spec": { "host": "a.example", "to": { "name": "s" }, "Tls": {} },
        }));
        let route = route.decode(Kind::Route, "route.openshift.io/v1").unwrap();
        assert_eq!(route.metadata().annotations.as_ref().unwrap().len(), 1);
        let service = raw(json!({
            "metadata": { "namespace": "a", "name": "s" }, "spec": { "loadBalancerSourceRange": [] },
        }));
        assert!(service.decode(Kind::Service, "v1").is_ok(), "it is of a newer API server");
    }

    #[test]
    fn a_class_that_makes_no_sense_leaves_one_that_closes_its_ingresses() {
        for (annotations, default) in [
            (json!({ "ingressclass.kubernetes.io/is-default-class": true }), "true"),
            (json!({ "ingressclass.kubernetes.io/is-default-class": false }), "false"),
            (json!({ "a": 5 }), "false"),
            (json!(["ingressclass.kubernetes.io/is-default-class"]), "true"),
        ] {
            let class = raw(json!({
                "metadata": { "name": "web", "annotations": annotations },
                "spec": { "controller": "gatehouse.io/ingress", "parameters": 5 },
            }));
            let broken = *class.decode(Kind::IngressClass, "networking.k8s.io/v1").unwrap_err();
            assert_eq!(broken.problem.object.to_string(), "IngressClass web");
            assert!(broken.problem.message.contains("Ingresses are closed"), "{}", broken.problem);
            let Some(Object::IngressClass(class)) = broken.stand_in else {
                panic!("{annotations}")
            };
            let spec = class.spec.as_ref().unwrap();
            assert_eq!(spec.controller.as_deref(), Some("gatehouse.io/ingress"));
            let said = class.metadata.annotations.as_ref().unwrap();
            assert_eq!(said["ingressclass.kubernetes.io/is-default-class"], default);
            assert!(said.contains_key("gatehouse.io/unreadable"));
        }
    }

    #[test]
    fn an_object_that_makes_no_sense_is_a_problem_with_its_field() {
        let route = raw(json!({
            "metadata": { "namespace": "a", "name": "b" },
            "spec": { "to": { "kind": "Service", "name": "x", "weight": "much" } },
        }));
        let Broken { key, problem, stand_in } =
            *route.decode(Kind::Route, "route.openshift.io/v1").unwrap_err();
        assert_eq!(stand_in.unwrap().key(), key);
        assert_eq!(key, ObjectKey::new("a", "b"));
        assert_eq!(problem.field, "spec.to.weight");
        assert_eq!(problem.object.to_string(), "Route a/b");
        assert!(problem.message.contains("much"), "{problem}");
    }
}
