//! What an Ingress asks of its answers, with the objects that it refers to for that.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use k8s_openapi::api::core::v1::ConfigMap;

use super::Translator;
use crate::{
    annotations::Named,
    filter::{
        Filter,
        answer_fields::{AnswerFields, may_be_set},
    },
    objects::ObjectKey,
    problem::Problem,
    references::Reference,
};

/// What becomes of an Ingress whose ConfigMap is not there and must be.
const CLOSED: &str = "every path is closed (503)";

impl Translator<'_, '_> {
    /// Adds the filters of answers to those of every path.
    pub(super) fn answers(&mut self) {
        let mut fields = AnswerFields::default();
        if let Some(named) = self.settings.answers.custom_headers.clone() {
            match self.custom_headers(&named) {
                Ok(set) => fields.set = set,
                Err(problem) => {
                    self.settings.deny.get_or_insert(problem.reason);
                    self.out.problems.push(*problem);
                }
            }
        }
        if fields != AnswerFields::default() {
            self.filters.push(Filter::AnswerFields(Arc::new(fields)));
        }
    }

    /// The fields in a ConfigMap. What is wrong with one of them is wrong with all: they may protect.
    fn custom_headers(
        &mut self,
        named: &Named,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, Box<Problem>> {
        let map = self.config_map(named, CLOSED)?;
        let entry = |(name, value): (&String, &String)| {
            let field = HeaderName::try_from(name).ok().filter(may_be_set);
            field.zip(HeaderValue::try_from(value.trim()).ok()).ok_or_else(|| name.clone())
        };
        map.data.iter().flatten().map(entry).collect::<Result<_, _>>().map_err(|name| {
            Box::new(Problem::error(
                &self.out.object,
                "InvalidHeader",
                &named.field,
                format!("the ConfigMap holds {name:?}, which cannot be set; {CLOSED}"),
                "write names of fields and plain values; those of the connection and of the length of a \
                 message cannot be set",
            ))
        })
    }

    /// A ConfigMap that an annotation names.
    ///
    /// # Errors
    /// It cannot be had; `outcome` is what comes of it.
    pub(super) fn config_map(
        &mut self,
        named: &Named,
        outcome: &str,
    ) -> Result<Arc<ConfigMap>, Box<Problem>> {
        let Named { name, field } = named;
        let key = match name.split_once('/') {
            Some((namespace, _)) if *namespace != *self.key.namespace => {
                return Err(Box::new(Problem::error(
                    &self.out.object,
                    "OtherNamespace",
                    field,
                    format!("value {name:?} names an object of another namespace; {outcome}"),
                    "name one of the same namespace",
                )));
            }
            Some((_, name)) => ObjectKey::new(Arc::clone(&self.key.namespace), name),
            None => ObjectKey::new(Arc::clone(&self.key.namespace), &**name),
        };
        let reference = Reference::config_map(self.reading.objects, key);
        let found = reference.as_config_map(&self.out.object, field, outcome);
        self.out.references.push(reference);
        found
    }
}
