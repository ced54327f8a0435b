//! Annotations about who may pass, put together: one alone says little.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};

use super::{nginx, table::Found, value::AuthenticationSetting};
use crate::template::Template;

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
    pub(crate) always_cookies: bool,
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
}

impl Part {
    /// Path of the annotation within its object.
    pub(crate) fn field(self) -> String {
        let name = match self {
            Self::Type => "auth-type",
            Self::Secret => "auth-secret",
            Self::Url => "auth-url",
            Self::Method => "auth-method",
            Self::Signin => "auth-signin",
            Self::Copy => "auth-response-headers",
            Self::Fields => "auth-proxy-set-headers",
        };
        Found { name: &format!("{}{name}", nginx::FAMILY.prefix), value: "" }.field()
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
            // Whoever puts in what holds for all has looked already.
            AuthenticationSetting::Global(_) => {}
        }
    }
}
