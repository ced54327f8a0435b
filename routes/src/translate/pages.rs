//! Texts for errors in ConfigMaps that objects name, and the objects that their annotations name in general.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;

use super::Translation;
use crate::{
    annotations::Named,
    filter::error_pages::ErrorPage,
    objects::{ObjectKey, ObjectRef, Objects},
    problem::Problem,
    references::Reference,
};

/// What becomes of errors whose texts cannot be had.
pub(super) const WORDED: &str = "errors are worded here";

/// The object of the same namespace that an annotation names.
///
/// # Errors
/// It is another one's; `outcome` is what comes of it.
pub(super) fn own_key(
    object: &ObjectRef,
    Named { name, field }: &Named,
    outcome: &str,
) -> Result<ObjectKey, Box<Problem>> {
    let own = Arc::clone(&object.key.namespace);
    match name.split_once('/') {
        Some((namespace, _)) if namespace != &*own => Err(Box::new(Problem::error(
            object,
            "OtherNamespace",
            field,
            format!("value {name:?} names an object of another namespace; {outcome}"),
            "name one of the same namespace",
        ))),
        Some((_, name)) => Ok(ObjectKey::new(own, name)),
        None => Ok(ObjectKey::new(own, &**name)),
    }
}

impl Translation {
    /// A ConfigMap that an annotation names.
    ///
    /// # Errors
    /// It cannot be had; `outcome` is what comes of it.
    pub(super) fn config_map(
        &mut self,
        named: &Named,
        outcome: &str,
        objects: &Objects,
    ) -> Result<Arc<ConfigMap>, Box<Problem>> {
        let key = own_key(&self.object, named, outcome)?;
        let reference = Reference::config_map(objects, key);
        let found = reference.as_config_map(&self.object, &named.field, outcome);
        self.references.push(reference);
        found
    }

    /// Texts for errors. What cannot be read is left out: an error is shown in any case.
    pub(super) fn pages(&mut self, named: &Named, objects: &Objects) -> Box<[ErrorPage]> {
        let map = match self.config_map(named, WORDED, objects) {
            Ok(map) => map,
            Err(problem) => {
                self.problems.push(*problem);
                return Box::default();
            }
        };
        let mut pages = Vec::new();
        for (name, text) in map.data.iter().flatten() {
            match ErrorPage::parse(name, text) {
                Some(page) => pages.push(page),
                None => self.problems.push(Problem::warning(
                    &self.object,
                    "InvalidErrorPage",
                    &named.field,
                    format!("the ConfigMap holds {name:?}, which is not the name of a page"),
                    "name pages 404.html, 503.json, 4xx.txt, 5xx and the like",
                )),
            }
        }
        pages.into()
    }
}
