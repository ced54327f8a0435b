//! Ingresses as Routes, and Routes as Ingresses: manifests that say the same for another kind of router.
//!
//! Behind `gatehouse convert`. Each object is converted by itself; what the other kind cannot say is a [`Problem`],
//! never left out in silence.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{annotations, problem::Problem};

mod to_ingress;
mod to_route;

pub use to_ingress::ingresses;
pub use to_route::routes;

/// Manifests, and what they do not say of what was asked for.
#[derive(Debug, Default)]
pub struct Converted {
    /// In the order of the objects that they are made of.
    pub manifests: Vec<Value>,
    /// About those objects.
    pub problems: Vec<Problem>,
}

/// Annotations that go along: all but those that other programs left for themselves.
fn carried(given: Option<&BTreeMap<String, String>>) -> Map<String, Value> {
    let own =
        |name: &str| name.starts_with("kubectl.kubernetes.io/") || annotations::is_class(name);
    let kept = given.into_iter().flatten().filter(|(name, _)| !own(name));
    kept.map(|(name, value)| (name.clone(), value.as_str().into())).collect()
}

#[cfg(test)]
mod tests;
