//! What annotations ask of answers on their way back.

use std::sync::Arc;

use http::HeaderName;

use super::{
    Settings,
    table::Found,
    value::{AnswerSetting, SecurityHeaders},
};
use crate::filter::{
    Filter,
    change::Change,
    compress::{Coding, Compress},
};

/// What an object asks of its answers, part by part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AnswerSettings {
    /// The ConfigMap with fields of answers.
    pub(crate) custom_headers: Option<Named>,
    /// The ConfigMap with texts for errors.
    pub(crate) error_pages: Option<Named>,
    /// The Service that words errors.
    pub(crate) default_backend: Option<Named>,
    /// Statuses of errors that are worded anew, ascending.
    pub(crate) statuses: Arc<[u16]>,
    /// Errors of the backend are not.
    pub(crate) leaves_backend: bool,
    pub(crate) cookie_domain: Option<Change>,
    pub(crate) cookie_path: Option<Change>,
    /// Begin of redirects that is changed.
    pub(crate) redirect_from: Option<Named>,
    /// What it becomes.
    pub(crate) redirect_to: Option<Named>,
    /// Fields that clients do not get.
    pub(crate) hide: Arc<[HeaderName]>,
    pub(crate) security: Option<SecurityHeaders>,
    /// The connection to the backend is not kept.
    pub(crate) closes_upstream: bool,
    /// Codings of answers, the best liked first.
    pub(crate) codings: Arc<[Coding]>,
    pub(crate) compress_types: Arc<[Box<str>]>,
    pub(crate) compress_minimum: u64,
}

/// What an annotation names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// As the annotation spells it; of an object `name` or `namespace/name`.
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
            AnswerSetting::ErrorPages(name) => self.error_pages = named(name),
            AnswerSetting::DefaultBackend(name) => self.default_backend = named(name),
            AnswerSetting::Statuses(statuses) => self.statuses = statuses,
            AnswerSetting::LeavesBackend(on) => self.leaves_backend = on,
            AnswerSetting::CookieDomain(change) => {
                self.cookie_domain = change.map(|change| *change)
            }
            AnswerSetting::CookiePath(change) => self.cookie_path = change.map(|change| *change),
            AnswerSetting::RedirectFrom(text) => self.redirect_from = named(text),
            AnswerSetting::RedirectTo(text) => self.redirect_to = named(text),
            AnswerSetting::Hide(names) => self.hide = names,
            AnswerSetting::Security(preset) => self.security = preset,
            AnswerSetting::ClosesUpstream(on) => self.closes_upstream = on,
            AnswerSetting::Codings(codings) => self.codings = codings,
            AnswerSetting::CompressTypes(types) => self.compress_types = types,
            AnswerSetting::CompressMinimum(bytes) => self.compress_minimum = bytes,
        }
    }
}

impl Settings {
    /// Whether answers are compressed, and how.
    pub(crate) fn compress(&self) -> Option<Filter> {
        let settings = &self.answers;
        (!settings.codings.is_empty()).then(|| {
            Filter::Compress(Arc::new(Compress {
                codings: settings.codings.to_vec().into(),
                types: settings.compress_types.to_vec().into(),
                minimum: settings.compress_minimum,
                levels: self.global.levels,
            }))
        })
    }
}
