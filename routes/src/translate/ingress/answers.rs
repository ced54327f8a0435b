//! What an Ingress asks of its answers, with the objects that it refers to for that.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, header};
use k8s_openapi::api::core::v1::ConfigMap;

use super::{
    super::pages::{WORDED, own_key},
    Translator,
};
use crate::{
    action::{Forward, ForwardSpec},
    annotations::{Named, SecurityHeaders},
    filter::{
        Filter,
        answer_fields::{AnswerFields, BASIC, STRICT, may_be_set},
        change::Change,
        error_pages::ErrorPages,
    },
    model::{BackendKey, BackendPort, BackendProtocol},
    problem::Problem,
};

/// What becomes of an Ingress whose ConfigMap is not there and must be.
const CLOSED: &str = "every path is closed (503)";

impl Translator<'_, '_> {
    /// Adds the filters of answers to those of every path.
    pub(super) fn answers(&mut self) {
        if let Some(fields) = self.answer_fields() {
            self.filters.push(Filter::AnswerFields(Arc::new(fields)));
        }
        if let Some(pages) = self.error_pages() {
            self.filters.push(Filter::ErrorPages(Arc::new(pages)));
        }
        self.filters.extend(self.settings.compress());
        if self.settings.answers.closes_upstream {
            let close = HeaderValue::from_static("close");
            self.filters.push(Filter::SetHeader(header::CONNECTION, close));
        }
    }

    fn answer_fields(&mut self) -> Option<AnswerFields> {
        let settings = self.settings.answers.clone();
        let mut fields = AnswerFields {
            hide: settings.hide.to_vec(),
            cookie_domain: settings.cookie_domain,
            cookie_path: settings.cookie_path,
            redirect: self.redirect(settings.redirect_from, settings.redirect_to),
            missing: match settings.security {
                None => &[],
                Some(SecurityHeaders::Basic) => &BASIC,
                Some(SecurityHeaders::Strict) => &STRICT,
            },
            set: Vec::new(),
        };
        if let Some(named) = settings.custom_headers {
            match self.custom_headers(&named) {
                Ok(set) => fields.set = set,
                Err(problem) => {
                    self.settings.deny.get_or_insert(problem.reason);
                    self.out.problems.push(*problem);
                }
            }
        }
        (fields != AnswerFields::default()).then_some(fields)
    }

    /// What becomes of redirects, which two annotations say together.
    fn redirect(&mut self, from: Option<Named>, to: Option<Named>) -> Option<Change> {
        let (field, fault) = match (from, to) {
            (None, None) => return None,
            (Some(from), Some(to)) => match Change::of_begin(&from.name, &to.name) {
                Ok(change) => return Some(change),
                Err(fault) => (from.field, fault),
            },
            (Some(half), None) | (None, Some(half)) => {
                (half.field, "the other half of the pair is missing".to_owned())
            }
        };
        self.out.problems.push(Problem::error(
            &self.out.object,
            "InvalidAnnotation",
            field,
            format!("{fault}; redirects are passed on as they are"),
            "write proxy-redirect-from and proxy-redirect-to, in each text, $host, $http_host and $scheme",
        ));
        None
    }

    fn error_pages(&mut self) -> Option<ErrorPages> {
        let settings = self.settings.answers.clone();
        let backend = settings.default_backend.as_ref().and_then(|named| self.error_backend(named));
        let objects = self.reading.objects;
        let pages = settings.error_pages.as_ref().map(|named| self.out.pages(named, objects));
        let pages = ErrorPages {
            statuses: settings.statuses,
            leaves_backend: settings.leaves_backend,
            backend,
            pages: pages.unwrap_or_default(),
        };
        let any = !pages.statuses.is_empty() || pages.backend.is_some() || !pages.pages.is_empty();
        any.then_some(pages)
    }

    /// The Service that words errors.
    fn error_backend(&mut self, named: &Named) -> Option<Forward> {
        let key = match own_key(&self.out.object, named, WORDED) {
            Ok(service) => {
                let (port, protocol) = (BackendPort::First, BackendProtocol::Declared);
                BackendKey { service, port, protocol, whole: false }
            }
            Err(problem) => {
                self.out.problems.push(*problem);
                return None;
            }
        };
        let backend = self.out.backend(key, 1, named.field.clone(), self.slots);
        let policy = Arc::clone(&self.policy);
        Some(Forward::new(ForwardSpec::of(Box::new([backend]), policy)))
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
        self.out.config_map(named, outcome, self.reading.objects)
    }
}
