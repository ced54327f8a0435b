//! What annotations ask of answers on their way back.

use std::sync::Arc;

use super::{table::Found, value::AnswerSetting};

/// What an object asks of its answers, part by part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AnswerSettings {
    /// The ConfigMap with fields of answers.
    pub(crate) custom_headers: Option<Named>,
}

/// An object that an annotation names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// As the annotation spells it: `name` or `namespace/name`.
    pub(crate) name: Arc<str>,
    /// Path of the annotation within its object.
    pub(crate) field: String,
}

impl AnswerSettings {
    /// Takes what the annotation of this name says.
    pub(super) fn set(&mut self, setting: AnswerSetting, annotation: &str) {
        let named = |name| {
            let field = Found { name: annotation, value: "" }.field();
            Some(Named { name, field })
        };
        match setting {
            AnswerSetting::CustomHeaders(name) => self.custom_headers = named(name),
        }
    }
}
