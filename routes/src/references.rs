//! Objects that others refer to by their names, as a translation finds them.
//!
//! A translation that reads one remembers what it saw, so that the next compile can tell whether the
//! translation still holds; what was looked for in vain is remembered as well.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use crate::{
    objects::{ObjectKey, ObjectRef, Objects},
    problem::Problem,
};

/// Kind of a ConfigMap.
pub(crate) const CONFIG_MAP: &str = "ConfigMap";
/// Kind of a Secret.
pub(crate) const SECRET: &str = "Secret";

/// An object that was looked for, and what was found.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    object: ObjectRef,
    found: Found,
}

#[derive(Clone, Debug)]
enum Found {
    ConfigMap(Arc<ConfigMap>),
    Secret(Arc<Secret>),
    /// It may not be read, for this reason.
    Refused(Arc<str>),
    Missing,
}

impl Reference {
    /// The ConfigMap of this name.
    pub(crate) fn config_map(objects: &Objects, key: ObjectKey) -> Self {
        let object = ObjectRef::new(CONFIG_MAP, key);
        let found = Found::of(&object, objects);
        Self { object, found }
    }

    /// The Secret of this name.
    pub(crate) fn secret(objects: &Objects, key: ObjectKey) -> Self {
        let object = ObjectRef::new(SECRET, key);
        let found = Found::of(&object, objects);
        Self { object, found }
    }

    /// What was looked for.
    pub(crate) fn object(&self) -> &ObjectRef {
        &self.object
    }

    /// Whether these objects hold the same.
    pub(crate) fn is_current(&self, objects: &Objects) -> bool {
        match (&self.found, &Found::of(&self.object, objects)) {
            (Found::ConfigMap(a), Found::ConfigMap(b)) => Arc::ptr_eq(a, b),
            (Found::Secret(a), Found::Secret(b)) => Arc::ptr_eq(a, b),
            (Found::Refused(a), Found::Refused(b)) => a == b,
            (Found::Missing, Found::Missing) => true,
            _ => false,
        }
    }

    /// The ConfigMap, or why there is none.
    ///
    /// # Errors
    /// A problem of `user`, whose `field` names the ConfigMap; `outcome` is what comes of it.
    pub(crate) fn as_config_map(
        &self,
        user: &ObjectRef,
        field: &str,
        outcome: &str,
    ) -> Result<Arc<ConfigMap>, Box<Problem>> {
        match &self.found {
            Found::ConfigMap(map) => Ok(Arc::clone(map)),
            _ => Err(self.absent(user, field, outcome)),
        }
    }

    /// The Secret, or why there is none.
    ///
    /// # Errors
    /// As for a ConfigMap.
    pub(crate) fn as_secret(
        &self,
        user: &ObjectRef,
        field: &str,
        outcome: &str,
    ) -> Result<Arc<Secret>, Box<Problem>> {
        match &self.found {
            Found::Secret(secret) => Ok(Arc::clone(secret)),
            _ => Err(self.absent(user, field, outcome)),
        }
    }

    fn absent(&self, user: &ObjectRef, field: &str, outcome: &str) -> Box<Problem> {
        let object = &self.object;
        let secret = object.kind == SECRET;
        Box::new(match &self.found {
            Found::Refused(why) => Problem::error(
                user,
                if secret { "SecretForbidden" } else { "ConfigMapForbidden" },
                field,
                format!("{object} may not be read: {why}; {outcome}"),
                format!(
                    "allow the service account of the gateway to get and watch {}s in that namespace",
                    object.kind
                ),
            ),
            _ => Problem::error(
                user,
                if secret { "SecretNotFound" } else { "ConfigMapNotFound" },
                field,
                format!("{object} does not exist; {outcome}"),
                format!("create the {} in the same namespace, or correct its name", object.kind),
            ),
        })
    }
}

impl Found {
    fn of(object: &ObjectRef, objects: &Objects) -> Self {
        let found = if object.kind == SECRET {
            objects.secrets.get(&object.key).map(|secret| Self::Secret(Arc::clone(&secret.object)))
        } else {
            objects.config_maps.get(&object.key).map(|map| Self::ConfigMap(Arc::clone(&map.object)))
        };
        let refused = || objects.refused.get(object).map(|why| Self::Refused(Arc::clone(why)));
        found.or_else(refused).unwrap_or(Self::Missing)
    }
}
