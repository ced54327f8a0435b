//! What is changed about the fields of answers.

use http::{HeaderName, HeaderValue, header};

use super::change::Change;

/// Changes to the fields of every answer that a rule gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerFields {
    /// Fields of the backend that clients do not get.
    pub hide: Vec<HeaderName>,
    /// What becomes of the `Domain` of the backend's cookies.
    pub cookie_domain: Option<Change>,
    /// What becomes of their `Path`.
    pub cookie_path: Option<Change>,
    /// What becomes of the backend's redirects.
    pub redirect: Option<Change>,
    /// Fields of answers that have none of the name.
    pub missing: &'static [(HeaderName, &'static str)],
    /// Fields that the answer has instead of its own ones of the same name.
    pub set: Vec<(HeaderName, HeaderValue)>,
}

impl AnswerFields {
    /// Whether what a request asked for matters to them.
    pub fn asks_request(&self) -> bool {
        self.cookie_domain.is_some() || self.cookie_path.is_some() || self.redirect.is_some()
    }
}

/// Fields that tell a browser to be careful, harmless to nearly every site.
pub(crate) static BASIC: [(HeaderName, &str); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "SAMEORIGIN"),
    (header::REFERRER_POLICY, "strict-origin-when-cross-origin"),
    (HeaderName::from_static("x-permitted-cross-domain-policies"), "none"),
];

/// The same for sites that load nothing of other origins and are framed by none.
pub(crate) static STRICT: [(HeaderName, &str); 8] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("x-permitted-cross-domain-policies"), "none"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    ),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Whether an object may set a field of answers: those that say how long a message is and what becomes of the
/// connection are the gateway's.
pub(crate) fn may_be_set(name: &HeaderName) -> bool {
    const OWN: [HeaderName; 9] = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::HOST,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    !OWN.contains(name)
}
