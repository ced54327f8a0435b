//! What a canary asks for, part by part.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use crate::canary::{Share, ValueRegex, Wanted};

/// Which requests of another Ingress are taken, part by part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CanarySettings {
    pub(super) on: bool,
    pub(super) header: Option<HeaderName>,
    pub(super) value: Option<HeaderValue>,
    pub(super) pattern: Option<ValueRegex>,
    pub(super) cookie: Option<Arc<str>>,
    pub(super) weight: u32,
    pub(super) total: u32,
}

impl CanarySettings {
    /// Whether any is taken.
    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    pub(crate) fn share(&self) -> Share {
        let wanted = match (&self.value, &self.pattern) {
            (Some(value), _) => Wanted::Value(value.clone()),
            (None, Some(pattern)) => Wanted::Pattern(pattern.clone()),
            (None, None) => Wanted::Switch,
        };
        Share {
            header: self.header.clone().map(|name| (name, wanted)),
            cookie: self.cookie.clone(),
            weight: self.weight,
            total: self.total,
        }
    }
}
