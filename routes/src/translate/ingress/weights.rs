//! Services that share the requests of a path (`gatehouse.io/backend-weights`).

use std::sync::Arc;

use super::Translator;
use crate::{action::WeightedBackend, model::BackendKey, objects::ObjectKey};

impl Translator<'_, '_> {
    /// The backends of a path that names one: that one, or all that share the requests with it.
    pub(super) fn shares(&mut self, key: BackendKey, field: &str) -> Box<[WeightedBackend]> {
        let field = format!("{field}.service");
        let weights = Arc::clone(&self.settings.weights);
        if !weights.iter().any(|(name, _)| **name == *key.service.name) {
            return Box::new([self.out.backend(key, 1, field, self.slots)]);
        }
        let shares = weights.iter().map(|(name, weight)| {
            let service = ObjectKey::new(Arc::clone(&key.service.namespace), Arc::clone(name));
            let key = BackendKey { service, ..key.clone() };
            self.out.backend(key, *weight, field.clone(), self.slots)
        });
        shares.collect()
    }
}
