//! Objects that others refer to by their names, as a translation finds them.
//!
//! A translation that reads one remembers what it saw, so that the next compile can tell whether the
//! translation still holds; what was looked for in vain is remembered as well.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;

use crate::{
    objects::{ObjectKey, ObjectRef, Objects},
    problem::Problem,
};

/// Kind of a ConfigMap.
pub(crate) const CONFIG_MAP: &str = "ConfigMap";

/// An object that was looked for, and what was found.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    object: ObjectRef,
    found: Found,
}

#[derive(Clone, Debug)]
enum Found {
    ConfigMap(Arc<ConfigMap>),
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

    /// What was looked for.
    pub(crate) fn object(&self) -> &ObjectRef {
        &self.object
    }

    /// Whether these objects hold the same.
    pub(crate) fn is_current(&self, objects: &Objects) -> bool {
        match (&self.found, &Found::of(&self.object, objects)) {
            (Found::ConfigMap(a), Found::ConfigMap(b)) => Arc::ptr_eq(a, b),
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
        let object = &self.object;
        match &self.found {
            Found::ConfigMap(map) => Ok(Arc::clone(map)),
            Found::Refused(why) => Err(Box::new(Problem::error(
                user,
                "ConfigMapForbidden",
                field,
                format!("{object} may not be read: {why}; {outcome}"),
                "allow the service account of the gateway to get and watch ConfigMaps in that namespace",
            ))),
            Found::Missing => Err(Box::new(Problem::error(
                user,
                "ConfigMapNotFound",
                field,
                format!("{object} does not exist; {outcome}"),
                "create the ConfigMap in the same namespace, or correct its name",
            ))),
        }
    }
}

impl Found {
    fn of(object: &ObjectRef, objects: &Objects) -> Self {
        match (objects.config_maps.get(&object.key), objects.refused.get(object)) {
            (Some(map), _) => Self::ConfigMap(Arc::clone(&map.object)),
            (None, Some(why)) => Self::Refused(Arc::clone(why)),
            (None, None) => Self::Missing,
        }
    }
}
