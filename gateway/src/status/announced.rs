//! What this node announces, as every node says it for itself: `ServiceL2Status` and `ServiceBGPStatus`
//! objects, as MetalLB's speakers write them.
//!
//! Every node has one object for each Service that it announces, and takes it away with the announcement. On
//! a link one node announces at a time, so that a node that begins also takes away what a dead one left.

use std::collections::{BTreeMap, BTreeSet};

use gatehouse_routes::objects::ObjectKey;
use kube::{
    Api, Client, Error, ResourceExt as _,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{MANAGER, digest::hash, queue::Outcome, requests};

const NODE: &str = "metallb.io/node";
const SERVICE_NAME: &str = "metallb.io/service-name";
const SERVICE_NAMESPACE: &str = "metallb.io/service-namespace";
const API_VERSION: &str = "metallb.io/v1beta1";

/// How an address is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    /// ARP and NDP.
    Layer2,
    /// BGP.
    Bgp,
}

/// The addresses of a Service are announced here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announcement {
    /// `metadata.uid` of the Service.
    pub(crate) uid: String,
    /// Interfaces, or names of BGPPeers; sorted.
    pub(crate) through: Vec<String>,
}

/// All that this node announces.
pub(crate) type Announcements = BTreeMap<(Protocol, ObjectKey), Announcement>;

/// Where the objects are, and whose.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Namespace of the objects.
    pub(super) namespace: String,
    /// This node.
    pub(super) node: String,
    /// The Pod that this process is, name and uid: its objects end with it.
    pub(super) pod: Option<(String, String)>,
}

/// What the API server has of this node: through what a Service is announced, and the name of the object.
pub(super) type Told = BTreeMap<(Protocol, ObjectKey), (Vec<String>, String)>;

impl Protocol {
    /// As MetalLB names it in Events.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Layer2 => "layer2",
            Self::Bgp => "bgp",
        }
    }

    fn kind(self) -> (&'static str, &'static str) {
        match self {
            Self::Layer2 => ("ServiceL2Status", "servicel2statuses"),
            Self::Bgp => ("ServiceBGPStatus", "servicebgpstatuses"),
        }
    }

    fn api(self, client: &Client, place: &Place) -> Api<DynamicObject> {
        let (kind, plural) = self.kind();
        let resource = requests::resource(API_VERSION, kind, plural);
        Api::namespaced_with(client.clone(), &place.namespace, &resource)
    }
}

/// Makes the objects what they are to be. `told` is what they were after the last time; without it they are
/// read first. Kinds that the API server does not have are left out.
pub(super) async fn tell(
    client: &Client,
    place: &Place,
    wanted: &Announcements,
    told: Option<Told>,
) -> Result<Told, String> {
    let mut told = match told {
        Some(told) => told,
        None => read(client, place).await.map_err(text)?,
    };
    let gone: Vec<_> = told.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
    for key in gone {
        if let Some((_, name)) = told.remove(&key) {
            delete(&key.0.api(client, place), &name).await?;
        }
    }
    let mut begun = BTreeSet::new();
    for (key, announcement) in wanted {
        if told.get(key).is_some_and(|(through, _)| *through == announcement.through) {
            continue;
        }
        let (protocol, service) = key;
        let api = protocol.api(client, place);
        let name = name(place, *protocol, service);
        if !told.contains_key(key) && !create(&api, place, *protocol, service, &name).await? {
            continue;
        }
        let status = status(place, *protocol, service, &announcement.through);
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..Default::default() };
        let patch = Patch::Merge(&status);
        requests::in_time(api.patch_status(&name, &params, &patch)).await.map_err(text)?;
        if *protocol == Protocol::Layer2 && !told.contains_key(key) {
            begun.insert(service);
        }
        told.insert(key.clone(), (announcement.through.clone(), name));
    }
    if !begun.is_empty() {
        inherit(client, place, &begun).await?;
    }
    Ok(told)
}

async fn read(client: &Client, place: &Place) -> Result<Told, Error> {
    let mut told = Told::new();
    let labels = requests::selector(&[(NODE, place.node.as_str())].into());
    let params = ListParams::default().labels(&labels);
    for protocol in [Protocol::Layer2, Protocol::Bgp] {
        let list = match requests::in_time(protocol.api(client, place).list(&params)).await {
            Ok(list) => list,
            Err(Error::Api(status)) if status.code == 404 => continue,
            Err(error) => return Err(error),
        };
        for object in list.items {
            let Some(service) = of_service(&object) else { continue };
            let through = through(protocol, &object.data["status"]);
            told.insert((protocol, service), (through, object.name_any()));
        }
    }
    Ok(told)
}

/// False if there is no such kind.
async fn create(
    api: &Api<DynamicObject>,
    place: &Place,
    protocol: Protocol,
    service: &ObjectKey,
    name: &str,
) -> Result<bool, String> {
    let mut body = json!({
        "apiVersion": API_VERSION,
        "kind": protocol.kind().0,
        "metadata": {
            "name": name,
            "namespace": place.namespace,
            "labels": {
                NODE: place.node,
                SERVICE_NAME: &*service.name,
                SERVICE_NAMESPACE: &*service.namespace,
            },
        },
        "spec": {},
    });
    if let Some((pod, uid)) = &place.pod {
        let owner = json!({ "apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid });
        body["metadata"]["ownerReferences"] = json!([owner]);
    }
    let object = serde_json::from_value(body).map_err(|error| error.to_string())?;
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    match requests::in_time(api.create(&params, &object)).await.map_err(requests::failure) {
        Ok(_) | Err(Outcome::Conflict) => Ok(true),
        Err(Outcome::Gone | Outcome::Contested(_)) => Ok(false),
        Err(Outcome::Refused(why) | Outcome::Failed(why, _)) => Err(why),
        Err(Outcome::Done(_)) => Ok(true),
    }
}

/// Takes away what other nodes still say of Services that this one announces on a link.
async fn inherit(
    client: &Client,
    place: &Place,
    services: &BTreeSet<&ObjectKey>,
) -> Result<(), String> {
    let api = Protocol::Layer2.api(client, place);
    for object in requests::all(&api).await.map_err(text)? {
        let other = object.labels().get(NODE).is_some_and(|node| *node != place.node);
        if other && of_service(&object).is_some_and(|service| services.contains(&service)) {
            delete(&api, &object.name_any()).await?;
        }
    }
    Ok(())
}

async fn delete(api: &Api<DynamicObject>, name: &str) -> Result<(), String> {
    match requests::in_time(api.delete(name, &DeleteParams::default())).await {
        Ok(_) => Ok(()),
        Err(Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(text(error)),
    }
}

fn of_service(object: &DynamicObject) -> Option<ObjectKey> {
    let labels = object.labels();
    let (namespace, name) = (labels.get(SERVICE_NAMESPACE)?, labels.get(SERVICE_NAME)?);
    Some(ObjectKey::new(namespace.as_str(), name.as_str()))
}

fn status(place: &Place, protocol: Protocol, service: &ObjectKey, through: &[String]) -> Value {
    let mut status = json!({
        "node": place.node,
        "serviceName": &*service.name,
        "serviceNamespace": &*service.namespace,
    });
    match protocol {
        Protocol::Layer2 => {
            let names = through.iter().map(|name| json!({ "name": name }));
            status["interfaces"] = names.collect();
        }
        Protocol::Bgp => status["peers"] = json!(through),
    }
    json!({ "status": status })
}

fn through(protocol: Protocol, status: &Value) -> Vec<String> {
    let names = match protocol {
        Protocol::Layer2 => status["interfaces"].as_array(),
        Protocol::Bgp => status["peers"].as_array(),
    };
    let name = |entry: &Value| match protocol {
        Protocol::Layer2 => entry["name"].as_str().map(str::to_owned),
        Protocol::Bgp => entry.as_str().map(str::to_owned),
    };
    names.into_iter().flatten().filter_map(name).collect()
}

fn name(place: &Place, protocol: Protocol, service: &ObjectKey) -> String {
    let prefix = match protocol {
        Protocol::Layer2 => "l2",
        Protocol::Bgp => "bgp",
    };
    format!("{prefix}-{:016x}", hash(&[&place.node, &service.namespace, &service.name]))
}

fn text(error: Error) -> String {
    error.to_string()
}
