//! What annotations say about requests of pages of other origins.

use http::HeaderValue;

use crate::filter::cors::{Cors, Origins};

/// A CORS policy, part by part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CorsSettings {
    pub(super) enabled: bool,
    pub(super) origins: Option<Origins>,
    pub(super) credentials: bool,
    pub(super) methods: Option<HeaderValue>,
    pub(super) headers: Option<HeaderValue>,
    pub(super) expose: Option<HeaderValue>,
    pub(super) max_age: Option<HeaderValue>,
}

impl CorsSettings {
    pub(super) fn policy(&self) -> Option<Cors> {
        let Self { enabled: true, origins, credentials, methods, headers, expose, max_age } = self
        else {
            return None;
        };
        let origins = origins.clone()?;
        Some(Cors {
            credentials: *credentials && origins != Origins::Any,
            origins,
            methods: methods.clone()?,
            headers: headers.clone()?,
            expose: expose.clone(),
            max_age: max_age.clone()?,
        })
    }
}
