//! Ingresses as Routes, and Routes as Ingresses: manifests that say the same for another kind of router.
//!
//! Behind `gatehouse convert`. Each object is converted by itself, but for canaries, which become a part of what they
//! are canaries of. What the other kind cannot say is a [`Problem`], never left out in silence; where it would keep
//! clients out, the object is not made, with an error.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    annotations::{self, Carried, Found, ObjectKind},
    objects::ObjectRef,
    problem::Problem,
};

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

/// The annotations that an object has as one of another kind, and what they do not say any more. `None` if one of
/// them protects: open it must not be, so it is not made at all.
fn carried(
    object: &ObjectRef,
    to: ObjectKind,
    given: Option<&BTreeMap<String, String>>,
    problems: &mut Vec<Problem>,
) -> Option<Map<String, Value>> {
    let from = ObjectKind::named(object.kind)?;
    let mut kept: Map<String, Value> = Map::new();
    let mut open = true;
    for (name, value) in given.into_iter().flatten() {
        match annotations::carry(from, to, name, value) {
            Carried::Said => {}
            Carried::As(list) => {
                list.into_iter().for_each(|(name, value)| keep(&mut kept, name, value))
            }
            Carried::Near(list, difference) => {
                list.into_iter().for_each(|(name, value)| keep(&mut kept, name, value));
                let field = Found { name, value: "" }.field();
                let hint = "add what that router reads if it is to serve the Route, too";
                problems.push(Problem::warning(object, "ConvertedNearly", field, difference, hint));
            }
            Carried::Lost { protects, why } => {
                open &= !protects;
                problems.push(lost(object, to, name, protects, &why));
            }
        }
    }
    open.then_some(kept)
}

/// Of two limits of one name the lower one counts, and of two lists both do.
fn keep(kept: &mut Map<String, Value>, name: String, mut value: String) {
    if annotations::is_list_of_exempt(&name)
        && let Some(before) = kept.get(&name).and_then(Value::as_str)
    {
        value = format!("{before},{value}");
    }
    let number = |value: &Value| value.as_str().and_then(|value| value.parse::<u64>().ok());
    let lower = kept
        .get(&name)
        .and_then(number)
        .filter(|before| value.parse::<u64>().is_ok_and(|value| *before < value));
    if lower.is_none() {
        kept.insert(name, value.into());
    }
}

fn lost(object: &ObjectRef, to: ObjectKind, name: &str, protects: bool, why: &str) -> Problem {
    let field = Found { name, value: "" }.field();
    let to = to.name();
    if protects {
        let message = format!("it protects, and {why}, so no {to} is made of the object");
        let hint = format!("write the {to} by hand, or remove the annotation if it may be open");
        return Problem::error(object, "NotConverted", field, message, hint);
    }
    let message = format!("{why}, so it is left out; it protects nothing");
    Problem::warning(
        object,
        "NotConverted",
        field,
        message,
        "see what the application does without it",
    )
}

#[cfg(test)]
mod tests;
