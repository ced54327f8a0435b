//! Annotations about who may pass, put together: one alone says little.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Method};

use super::{
    gatehouse,
    nginx::{self, AUTH_SNIPPET},
    table::Found,
    value::{AuthenticationSetting, JwtSetting},
};
use crate::{
    filter::authentication::{
        external::Durations,
        jwt::{Algorithms, Claim, Place, Requirement},
    },
    policy::hash_by::HashKey,
    template::Template,
};

pub(crate) use super::value::{AuthUrl, Layout};

/// What the annotations of an object ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AuthenticationSettings {
    pub(crate) basic: bool,
    pub(crate) users: Option<Arc<str>>,
    pub(crate) layout: Layout,
    pub(crate) challenge: Option<HeaderValue>,
    pub(crate) any: bool,
    pub(crate) external: ExternalSettings,
    pub(crate) jwt: JwtSettings,
}

/// What they ask for about a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExternalSettings {
    pub(crate) url: Option<Box<AuthUrl>>,
    pub(crate) method: Option<Method>,
    pub(crate) signin: Option<Arc<str>>,
    pub(crate) signin_parameter: Option<Arc<str>>,
    pub(crate) redirect: Option<Template>,
    pub(crate) copy: Option<Arc<[HeaderName]>>,
    pub(crate) fields: Option<Arc<str>>,
    /// Fields of the question, as a snippet of nginx sets them.
    pub(crate) set: Vec<(HeaderName, Template)>,
    pub(crate) always_cookies: bool,
    pub(crate) authorities: Option<Arc<str>>,
    pub(crate) cache_key: Option<HashKey>,
    pub(crate) cache_durations: Option<Durations>,
}

/// What they ask for about tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JwtSettings {
    pub(crate) secret: Option<Arc<str>>,
    pub(crate) config_map: Option<Arc<str>>,
    pub(crate) url: Option<Arc<AuthUrl>>,
    pub(crate) authorities: Option<Arc<str>>,
    pub(crate) key: Option<Arc<str>>,
    pub(crate) issuer: Option<Arc<str>>,
    pub(crate) audiences: Option<Arc<[Box<str>]>>,
    pub(crate) algorithms: Option<Algorithms>,
    pub(crate) skew: Duration,
    pub(crate) place: Option<Place>,
    pub(crate) require: Option<Arc<[Requirement]>>,
    pub(crate) copy: Option<Arc<[(Claim, HeaderName)]>>,
}

/// An annotation that a problem is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Type,
    Secret,
    Url,
    Method,
    Signin,
    Copy,
    Fields,
    Snippet,
    Authorities,
    JwtAlgorithms,
    JwtAudiences,
    JwtAuthorities,
    JwtConfigMap,
    JwtCopy,
    JwtFrom,
    JwtIssuer,
    JwtKey,
    JwtRequire,
    JwtSecret,
    JwtUrl,
    LimitBy,
}

impl Part {
    /// Path of the annotation within its object.
    pub(crate) fn field(self) -> String {
        let (nginx, own) = (nginx::FAMILY.prefix, gatehouse::FAMILY.prefix);
        let (prefix, name) = match self {
            Self::Type => (nginx, "auth-type"),
            Self::Secret => (nginx, "auth-secret"),
            Self::Url => (nginx, "auth-url"),
            Self::Method => (nginx, "auth-method"),
            Self::Signin => (nginx, "auth-signin"),
            Self::Copy => (nginx, "auth-response-headers"),
            Self::Fields => (nginx, "auth-proxy-set-headers"),
            Self::Snippet => (nginx, AUTH_SNIPPET),
            Self::Authorities => (own, "auth-url-ca-secret"),
            Self::JwtAlgorithms => (own, "jwt-algorithms"),
            Self::JwtAudiences => (own, "jwt-audiences"),
            Self::JwtAuthorities => (own, "jwt-jwks-ca-secret"),
            Self::JwtConfigMap => (own, "jwt-jwks-config-map"),
            Self::JwtCopy => (own, "jwt-claims-to-headers"),
            Self::JwtFrom => (own, "jwt-from"),
            Self::JwtIssuer => (own, "jwt-issuer"),
            Self::JwtKey => (own, "jwt-jwks-key"),
            Self::JwtRequire => (own, "jwt-require"),
            Self::JwtSecret => (own, "jwt-jwks-secret"),
            Self::JwtUrl => (own, "jwt-jwks-url"),
            Self::LimitBy => (own, "limit-by"),
        };
        Found { name: &format!("{prefix}{name}"), value: "" }.field()
    }
}

impl AuthenticationSettings {
    pub(super) fn set(&mut self, setting: AuthenticationSetting) {
        match setting {
            AuthenticationSetting::Basic => self.basic = true,
            AuthenticationSetting::Users(secret) => self.users = Some(secret),
            AuthenticationSetting::Layout(layout) => self.layout = layout,
            AuthenticationSetting::Challenge(value) => self.challenge = Some(value),
            AuthenticationSetting::Any => self.any = true,
            AuthenticationSetting::Url(url) => self.external.url = Some(url),
            AuthenticationSetting::Method(method) => self.external.method = Some(method),
            AuthenticationSetting::Signin(url) => self.external.signin = Some(url),
            AuthenticationSetting::SigninParameter(name) => {
                self.external.signin_parameter = Some(name);
            }
            AuthenticationSetting::Redirect(to) => self.external.redirect = Some(to),
            AuthenticationSetting::Copy(names) => self.external.copy = Some(names),
            AuthenticationSetting::Fields(map) => self.external.fields = Some(map),
            AuthenticationSetting::AlwaysCookies(on) => self.external.always_cookies = on,
            AuthenticationSetting::Authorities(name) => self.external.authorities = Some(name),
            AuthenticationSetting::CacheKey(key) => self.external.cache_key = Some(key),
            AuthenticationSetting::CacheDurations(durations) => {
                self.external.cache_durations = Some(durations);
            }
            // The global settings have been checked already.
            AuthenticationSetting::Global(_) => {}
        }
    }
}

impl JwtSettings {
    pub(super) fn set(&mut self, setting: JwtSetting) {
        match setting {
            JwtSetting::Secret(name) => self.secret = Some(name),
            JwtSetting::ConfigMap(name) => self.config_map = Some(name),
            JwtSetting::Url(url) => self.url = Some(url),
            JwtSetting::Authorities(name) => self.authorities = Some(name),
            JwtSetting::Key(key) => self.key = Some(key),
            JwtSetting::Issuer(issuer) => self.issuer = Some(issuer),
            JwtSetting::Audiences(all) => self.audiences = Some(all),
            JwtSetting::Algorithms(all) => self.algorithms = Some(all),
            JwtSetting::Skew(time) => self.skew = time,
            JwtSetting::Place(place) => self.place = Some(place),
            JwtSetting::Require(all) => self.require = Some(all),
            JwtSetting::Copy(all) => self.copy = Some(all),
        }
    }

    /// An annotation that means nothing unless keys are named.
    pub(crate) fn alone(&self) -> Option<Part> {
        let given = [
            (self.issuer.is_some(), Part::JwtIssuer),
            (self.audiences.is_some(), Part::JwtAudiences),
            (self.require.is_some(), Part::JwtRequire),
            (self.copy.is_some(), Part::JwtCopy),
            (self.algorithms.is_some(), Part::JwtAlgorithms),
            (self.place.is_some(), Part::JwtFrom),
            (self.key.is_some(), Part::JwtKey),
            (self.authorities.is_some(), Part::JwtAuthorities),
        ];
        given.into_iter().find_map(|(given, part)| given.then_some(part))
    }
}
