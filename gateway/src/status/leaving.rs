//! Routes that this gateway served and serves no more, though they exist: a label or a selector is another one now, or
//! the router's name (`--router-name`), so that it serves them under a new one. Our entry is taken out of their status, as the operator of OpenShift does it for a router that admits them no more.
//!
//! Pure. An entry is known by the router's name alone, which two gateways may share against all advice: so
//! nothing is taken out but what we know to have written; later writes of others are not ours.

use std::{collections::BTreeMap, sync::Arc};

use gatehouse_routes::{objects::ObjectKey, openshift::Route};
use serde_json::Value;

/// The Routes that have still to be looked at.
#[derive(Debug, Default)]
pub(super) struct Leaving(BTreeMap<ObjectKey, Left>);

/// One of them.
#[derive(Debug)]
struct Left {
    /// Its version when a write was asked for that may still arrive.
    asked: Option<String>,
    /// Our entry, once it was seen.
    entry: Option<Value>,
}

impl Leaving {
    /// A Route is not served any more. `asked`: its status was wrong when it had this version, so that a write may be
    /// under way.
    pub(super) fn left(&mut self, route: ObjectKey, asked: Option<String>) {
        self.0.insert(route, Left { asked, entry: None });
    }

    /// All of these may have an entry of ours.
    pub(super) fn all(routes: impl Iterator<Item = ObjectKey>) -> Self {
        Self(routes.map(|route| (route, Left { asked: None, entry: None })).collect())
    }

    /// Those that have still to be looked at.
    pub(super) fn routes(&self) -> impl Iterator<Item = &ObjectKey> {
        self.0.keys()
    }

    /// Whether nothing is left to look at.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A Route is served.
    pub(super) fn is_back(&mut self, route: &ObjectKey) {
        if !self.0.is_empty() {
            self.0.remove(route);
        }
    }

    /// The Routes that have our entry, and the entries of others, which are to stay. `find` gives those that exist.
    pub(super) fn entries<'r>(
        &mut self,
        router: &str,
        find: impl Fn(&ObjectKey) -> Option<&'r Arc<Route>>,
    ) -> Vec<(ObjectKey, &'r Arc<Route>, Vec<Value>)> {
        let mut found = Vec::new();
        self.0.retain(|key, left| {
            let Some(route) = find(key) else { return false };
            let (mut entries, own) = in_route(route, router);
            let Some(own) = own else {
                return left.asked.is_some() && left.asked == route.metadata.resource_version;
            };
            let entry = entries.remove(own);
            if left.entry.get_or_insert_with(|| entry.clone()) != &entry {
                return false;
            }
            found.push((key.clone(), route, entries));
            true
        });
        found
    }
}

/// The entries of a Route, and where that of a router is.
pub(super) fn in_route(route: &Route, router: &str) -> (Vec<Value>, Option<usize>) {
    let mut status = route.status.as_ref().map(|status| status.value()).unwrap_or_default();
    let entries = match status.get_mut("ingress").map(Value::take) {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    };
    let own = entries.iter().position(|entry| entry["routerName"] == router);
    (entries, own)
}
