//! Which Ingresses are ours, and on which gateway they are served.
//!
//! Ownership goes by the controller of the `IngressClass`, not by the name of the class; names listed by
//! the operator (`--claim-class`) are ours in any case, so that manifests written for another controller
//! work unchanged.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::networking::v1::{Ingress, IngressClass, IngressClassParametersReference};

use crate::{
    annotations::{gatehouse, kubernetes},
    objects::{ObjectKey, ObjectRef, Objects},
    options::Options,
    problem::Problem,
};

/// All classes, judged.
pub(crate) struct Classes<'o> {
    named: BTreeMap<&'o str, Class>,
    claimed: &'o [String],
    default_gateway: Option<&'o ObjectKey>,
    /// Class of the Ingresses that name none.
    unnamed: Option<Class>,
    /// One whose own name cannot be read: it may be any that nothing else defines.
    nameless: Option<Class>,
}

#[derive(Clone)]
enum Class {
    Ours {
        gateway: Option<ObjectKey>,
    },
    /// It cannot be read and may be ours: so are its Ingresses, closed. `why`: what is wrong with it.
    Unread {
        gateway: Option<ObjectKey>,
        why: Arc<str>,
    },
    Foreign,
}

/// Whose Ingress it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim<'c> {
    /// Ours, served on plain addresses and on those of this gateway Service; `unread`: closed, as nobody can tell what
    /// its class asks for.
    Ours { class: Option<&'c str>, gateway: Option<&'c ObjectKey>, unread: Option<&'c Arc<str>> },
    /// Another controller's: not a word about it.
    Foreign,
    /// It names a class that nobody has made.
    Unknown { class: &'c str, field: String },
}

impl<'o> Classes<'o> {
    /// Judges all `IngressClass` objects.
    pub(crate) fn new(objects: &'o Objects, options: &'o Options) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut classes = Self {
            named: BTreeMap::new(),
            claimed: &options.claim_classes,
            default_gateway: options.default_gateway.as_ref(),
            // Without any class in sight there is nobody else whose Ingress it could be.
            unnamed: objects
                .ingress_classes
                .is_empty()
                .then(|| Class::Ours { gateway: options.default_gateway.clone() }),
            nameless: None,
        };
        for (key, stored) in &objects.ingress_classes {
            let class = judge(key, &stored.object, options, &mut problems);
            let default = kubernetes::INGRESS_CLASS
                .find(&kubernetes::IS_DEFAULT_CLASS, &stored.object.metadata)
                .is_some_and(|found| found.value == "true");
            // One that can be read goes before one that cannot.
            let free = match classes.unnamed {
                None => !matches!(class, Class::Foreign),
                Some(Class::Unread { .. }) => matches!(class, Class::Ours { .. }),
                Some(_) => false,
            };
            if default && free {
                classes.unnamed = Some(class.clone());
            }
            if is_nameless(&stored.object)
                && let Class::Unread { gateway, why } = &class
            {
                let why = format!("nothing else defines the class, and {why}").into();
                let all = Class::Unread { gateway: gateway.clone(), why };
                classes.nameless.get_or_insert(all);
            }
            classes.named.insert(&key.name, class);
        }
        (classes, problems)
    }

    /// Whose Ingress it is. The field beats the annotation.
    pub(crate) fn claim<'c>(&'c self, ingress: &'c Ingress) -> Claim<'c> {
        let field = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
        let legacy = match field {
            Some(_) => None,
            None => kubernetes::INGRESS.find(&kubernetes::CLASS, &ingress.metadata),
        };
        let named = field.or_else(|| legacy.map(|found| found.value));
        let Some(name) = named.filter(|name| !name.is_empty()) else {
            return self.unnamed.as_ref().map_or(Claim::Foreign, |class| class.claim(None));
        };
        match self.named.get(name) {
            Some(class) => class.claim(Some(name)),
            None if self.claimed.iter().any(|claimed| claimed == name) => {
                Claim::Ours { class: Some(name), gateway: self.default_gateway, unread: None }
            }
            None => {
                let unknown = || {
                    let annotation = legacy.map(|found| found.field());
                    let field = annotation.unwrap_or_else(|| "spec.ingressClassName".to_owned());
                    Claim::Unknown { class: name, field }
                };
                self.nameless.as_ref().map_or_else(unknown, |class| class.claim(Some(name)))
            }
        }
    }

    /// The gateway Services of all classes of ours and the default one, by key.
    pub(crate) fn gateways(&self) -> BTreeSet<ObjectKey> {
        let of_classes = self.named.values().filter_map(|class| match class {
            Class::Ours { gateway } | Class::Unread { gateway, .. } => gateway.as_ref(),
            Class::Foreign => None,
        });
        of_classes.chain(self.default_gateway).cloned().collect()
    }
}

impl Class {
    fn claim<'c>(&'c self, class: Option<&'c str>) -> Claim<'c> {
        let (gateway, unread) = match self {
            Self::Ours { gateway } => (gateway.as_ref(), None),
            Self::Unread { gateway, why } => (gateway.as_ref(), Some(why)),
            Self::Foreign => return Claim::Foreign,
        };
        Claim::Ours { class, gateway, unread }
    }
}

/// The problem of an Ingress whose class cannot be read.
pub(crate) fn unread(object: &ObjectRef, why: &str) -> Problem {
    Problem::error(
        object,
        "ClassUnreadable",
        "spec.ingressClassName",
        format!("{why}; so every path is closed (503)"),
        "mend the IngressClass where it is written",
    )
}

/// The problem of an Ingress whose class does not exist.
pub(crate) fn unknown(object: &ObjectRef, class: &str, field: &str, options: &Options) -> Problem {
    Problem::warning(
        object,
        "UnknownClass",
        field,
        format!("IngressClass {class} does not exist, so the Ingress is not served"),
        format!(
            "create the IngressClass with controller {}, or claim its name with --claim-class {class}",
            options.controller
        ),
    )
}

fn judge(
    key: &ObjectKey,
    class: &IngressClass,
    options: &Options,
    problems: &mut Vec<Problem>,
) -> Class {
    let spec = class.spec.as_ref();
    let controller = spec.and_then(|spec| spec.controller.as_deref());
    let annotations = class.metadata.annotations.as_ref();
    let unread = annotations.and_then(|annotations| annotations.get(&gatehouse::unreadable()));
    if let Some(why) = unread
        && controller.is_none_or(|controller| controller == &*options.controller)
    {
        // Of its gateway, what can be read.
        let given = spec.and_then(|spec| spec.parameters.as_ref());
        let gateway = given.and_then(|given| gateway_service(given).ok());
        let gateway = gateway.or_else(|| options.default_gateway.clone());
        let called = match is_nameless(class) {
            true => "an IngressClass whose name is not known".to_owned(),
            false => format!("IngressClass {}", key.name),
        };
        let why = format!("{called} cannot be read: {why}").into();
        return Class::Unread { gateway, why };
    }
    if controller != Some(&*options.controller) {
        // A foreign class claimed by name: its parameters are meant for its own controller.
        let claimed = options.claim_classes.iter().any(|name| **name == *key.name);
        let gateway = options.default_gateway.clone();
        return if claimed { Class::Ours { gateway } } else { Class::Foreign };
    }
    let gateway = match spec.and_then(|spec| spec.parameters.as_ref()) {
        None => options.default_gateway.clone(),
        Some(parameters) => match gateway_service(parameters) {
            Ok(service) => Some(service),
            Err((field, message)) => {
                problems.push(Problem::error(
                    &ObjectRef::new("IngressClass", key.clone()),
                    "InvalidParameters",
                    format!("spec.parameters.{field}"),
                    format!("{message}; its Ingresses are served on plain addresses only"),
                    "name a gateway Service: kind Service, scope Namespace, namespace and name",
                ));
                None
            }
        },
    };
    Class::Ours { gateway }
}

/// Whether it stands in for a class that may have any name.
fn is_nameless(class: &IngressClass) -> bool {
    let annotations = class.metadata.annotations.as_ref();
    annotations.is_some_and(|annotations| annotations.contains_key(&gatehouse::unnamed()))
}

fn gateway_service(
    parameters: &IngressClassParametersReference,
) -> Result<ObjectKey, (&'static str, String)> {
    let group = parameters.api_group.as_deref().unwrap_or_default();
    if !group.is_empty() {
        return Err(("apiGroup", format!("API group {group:?} is not the core group")));
    }
    if parameters.kind != "Service" {
        return Err(("kind", format!("kind {:?} is not Service", parameters.kind)));
    }
    if parameters.scope.as_deref() != Some("Namespace") {
        let scope = parameters.scope.as_deref().unwrap_or("Cluster");
        return Err(("scope", format!("scope {scope:?} is not Namespace")));
    }
    let namespace = parameters.namespace.as_deref().unwrap_or_default();
    if namespace.is_empty() || parameters.name.is_empty() {
        return Err(("namespace", "namespace or name is empty".into()));
    }
    Ok(ObjectKey::new(namespace, &*parameters.name))
}

#[cfg(test)]
mod tests;
