//! Redirects that an object asks for, part by part.

use std::sync::Arc;

use crate::{action::Redirect, template::Template};

/// Redirects other than the one to https.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Redirects {
    pub(super) permanent: Option<Template>,
    pub(super) permanent_code: u16,
    pub(super) temporal: Option<Template>,
    pub(super) temporal_code: u16,
    /// Where requests of `/` are sent.
    pub(crate) app_root: Option<Arc<str>>,
    /// The host with or without `www.` is sent to this one.
    pub(crate) www: bool,
    /// The redirect to https keeps a slash at the end.
    pub(crate) keep_slash: bool,
}

impl Redirects {
    /// Where all requests are sent instead of a backend.
    pub(crate) fn everywhere(&self) -> Option<Redirect> {
        let temporal = self.temporal.iter().map(|to| (self.temporal_code, to));
        let mut all = temporal.chain(self.permanent.iter().map(|to| (self.permanent_code, to)));
        all.next().map(|(status, to)| Redirect { status, to: to.clone() })
    }
}
