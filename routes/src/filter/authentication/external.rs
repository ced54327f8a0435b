//! A service that is asked whether a request may pass, as nginx's `auth_request` asks it.
//!
//! One mechanism for whatever names such a service: an Ingress today, Gateway API's `ExternalAuth` as well.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::{action::Forward, model::ExternalName, policy::hash_by::HashKey, template::Template};

/// Whom to ask, what to say, and what becomes of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct External {
    /// Where it is.
    pub server: AuthServer,
    /// Path and query of the question.
    pub target: Template,
    /// Its method.
    pub method: Method,
    /// Where clients are sent that the service answers with 401; it names the way back itself.
    pub signin: Option<Template>,
    /// `X-Auth-Request-Redirect` of the question, if not the target of the request.
    pub redirect: Option<Template>,
    /// More fields of the question.
    pub set: Box<[(HeaderName, Template)]>,
    /// Fields of the answer that the backend gets. A client's own never reach it.
    pub copy: Box<[HeaderName]>,
    /// Cookies of the answer go to the client whatever the status.
    pub always_cookies: bool,
    /// Which answers count for more than one request; `None`: every request is asked about.
    pub cache: Option<Cache>,
}

/// Answers that count for other requests, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// What such requests have in common, besides object, host and path of the rule.
    pub key: HashKey,
    /// For how long.
    pub durations: Durations,
}

/// How long answers count, by status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durations(pub Box<[(Statuses, Duration)]>);

/// Statuses of answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statuses {
    /// All of them.
    Any,
    /// These.
    These(Box<[u16]>),
}

impl Durations {
    /// How long an answer of this status counts.
    pub fn of(&self, status: StatusCode) -> Option<Duration> {
        let is = |statuses: &Statuses| match statuses {
            Statuses::Any => true,
            Statuses::These(all) => all.contains(&status.as_u16()),
        };
        self.0.iter().find_map(|(statuses, time)| is(statuses).then_some(*time))
    }
}

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthServer {
    /// Behind the host that the client asks for: the rules of this gateway say where.
    SameHost,
    /// Behind a host of its own, which may be one of this gateway's, too.
    Host {
        /// Name or address, and port.
        name: ExternalName,
        /// The Service that has this name, where no name server knows it: one that is written in a file.
        service: Option<Arc<Forward>>,
        /// `Host` of the question.
        authority: HeaderValue,
        /// TLS is spoken there.
        secure: bool,
        /// The only authorities whose certificates are believed there, in PEM; `None`: those that this host believes.
        trust: Option<Arc<str>>,
    },
}
