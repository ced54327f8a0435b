//! What is done to a request before its rule's action, and to the answer after it.
//!
//! The translations compile settings into filters, the data path runs them (`http/filter/` of the
//! gateway, one file per filter). Here is only what a filter is told; nothing of it counts or waits.
//!
//! A filter that holds more than a few words (a list of addresses, a set of keys) holds it in an `Arc`,
//! which the rules of one object share.

use std::{borrow::Cow, net::IpAddr, ops::Deref, sync::Arc};

use http::{HeaderName, HeaderValue};

use crate::{
    matcher::{PathMatch, PathRegex},
    model::Scheme,
    networks::Networks,
    path,
};

pub mod answer_fields;
pub mod authentication;
pub mod block;
pub mod cases;
pub mod change;
pub mod client_certificate;
pub mod compress;
pub mod connection_limit;
pub mod cors;
pub mod error_pages;
pub mod header_edits;
pub mod limit_key;
pub mod mirror;
pub mod rate_limit;
pub mod tls_terms;

use answer_fields::AnswerFields;
use authentication::Authentication;
use block::Block;
use cases::Case;
use client_certificate::ClientCertificates;
use compress::Compress;
use connection_limit::ConnectionLimit;
use cors::Cors;
use error_pages::ErrorPages;
use header_edits::HeaderEdit;
use mirror::Mirror;
use rate_limit::RateLimit;
use tls_terms::TlsTerms;

/// One step on a request's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Sends a client that asked in clear text to `https`.
    HttpsRedirect(HttpsRedirect),
    /// Lets clients of certain addresses pass, and nobody else.
    Access(Arc<AddressRules>),
    /// Refuses clients by what they say of themselves.
    Block(Arc<Block>),
    /// Answers requests that meet a condition, the first one that they meet.
    Cases(Arc<[Case]>),
    /// Asks clients of the host for a certificate, which is looked at before all filters. A rule has one at most.
    ClientCertificate(Arc<ClientCertificates>),
    /// Narrows the TLS of the host, which is agreed on before there is a request. A rule has one at most.
    Tls(Arc<TlsTerms>),
    /// Refuses requests of a client that sends too many.
    RateLimit(Arc<RateLimit>),
    /// Answers what browsers ask before a request of another origin, and tells them what they may do.
    Cors(Arc<Cors>),
    /// Asks clients to show who they are. A rule has one at most.
    Authenticate(Arc<Authentication>),
    /// Refuses requests whose body has more bytes than this.
    BodyLimit(u64),
    /// Changes the path that the backend gets.
    Rewrite(Rewrite),
    /// Sets a field of the request that the backend gets.
    SetHeader(HeaderName, HeaderValue),
    /// Changes fields of the request that the backend gets, one by one.
    EditRequest(Arc<[HeaderEdit]>),
    /// Sends copies of requests elsewhere.
    Mirror(Arc<Mirror>),
    /// Changes fields of the answer, one by one.
    EditResponse(Arc<[HeaderEdit]>),
    /// `Strict-Transport-Security` of answers over TLS (RFC 6797).
    Hsts(HeaderValue),
    /// Changes the fields of answers.
    AnswerFields(Arc<AnswerFields>),
    /// Puts other answers in the place of errors.
    ErrorPages(Arc<ErrorPages>),
    /// Refuses requests of a client that has too many under way.
    Connections(Arc<ConnectionLimit>),
    /// Compresses answers.
    Compress(Arc<Compress>),
    /// Lets answers leave no faster than this.
    Pace(Pace),
}

/// How fast an answer leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Its rate.
    pub bytes_per_second: u64,
    /// Bytes that leave at once.
    pub after: u64,
}

/// When a filter has its turn, whatever order an object's settings are written in. A filter that refuses
/// stands before all that a refused request must not reach or learn:
///
/// redirect → access → limit by address → CORS preflight → authentication → limit by identity → body
/// size → backend choice → rewrite, request headers → mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// To `https`, first of all: nobody is asked for a password in clear text.
    Redirect,
    /// By client address, and by what clients say of themselves.
    Access,
    /// By client address, before anything that costs more.
    Limit,
    /// Before authentication: browsers send these requests without it.
    Preflight,
    /// The only one that may wait.
    Authentication,
    /// By what authentication has found out.
    LimitIdentity,
    /// Before any of the body is read.
    BodySize,
    /// What the backend gets is changed last, once nothing looks at what the client asked for any more.
    Rewrite,
    /// A copy of what the backend gets.
    Mirror,
    /// Only with the answer.
    Answer,
    /// Once the answer says what it will.
    Compress,
    /// What leaves in the end.
    Pace,
}

impl Filter {
    /// When it has its turn.
    pub fn phase(&self) -> Phase {
        match self {
            Self::HttpsRedirect(_) => Phase::Redirect,
            Self::Access(_)
            | Self::Block(_)
            | Self::Cases(_)
            | Self::ClientCertificate(_)
            | Self::Tls(_) => Phase::Access,
            Self::BodyLimit(_) => Phase::BodySize,
            Self::RateLimit(limit) if limit.by.needs_authentication() => Phase::LimitIdentity,
            Self::Connections(limit) if limit.by.needs_authentication() => Phase::LimitIdentity,
            Self::RateLimit(_) | Self::Connections(_) => Phase::Limit,
            Self::Cors(_) => Phase::Preflight,
            Self::Authenticate(_) => Phase::Authentication,
            Self::Rewrite(_) | Self::SetHeader(..) | Self::EditRequest(_) => Phase::Rewrite,
            Self::Mirror(_) => Phase::Mirror,
            Self::EditResponse(_) | Self::Hsts(_) | Self::AnswerFields(_) | Self::ErrorPages(_) => {
                Phase::Answer
            }
            Self::Compress(_) => Phase::Compress,
            Self::Pace(_) => Phase::Pace,
        }
    }

    /// Whether it keeps anybody or anything out.
    pub(crate) fn protects(&self) -> bool {
        match self {
            Self::Access(_)
            | Self::Block(_)
            | Self::Cases(_)
            | Self::ClientCertificate(_)
            | Self::Tls(_)
            | Self::RateLimit(_)
            | Self::Authenticate(_)
            | Self::Connections(_)
            | Self::BodyLimit(_) => true,
            Self::HttpsRedirect(_)
            | Self::Cors(_)
            | Self::Rewrite(_)
            | Self::SetHeader(..)
            | Self::EditRequest(_)
            | Self::Mirror(_)
            | Self::EditResponse(_)
            | Self::Hsts(_)
            | Self::AnswerFields(_)
            | Self::ErrorPages(_)
            | Self::Compress(_)
            | Self::Pace(_) => false,
        }
    }
}

/// The filters of a rule, in the order of their phases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    all: Box<[Filter]>,
    authentication: Option<usize>,
}

impl FromIterator<Filter> for Filters {
    fn from_iter<I: IntoIterator<Item = Filter>>(filters: I) -> Self {
        let mut filters: Box<[Filter]> = filters.into_iter().collect();
        filters.sort_by_key(Filter::phase);
        let authenticates = |filter: &Filter| matches!(filter, Filter::Authenticate(_));
        let authentication = filters.iter().position(authenticates);
        Self { all: filters, authentication }
    }
}

impl Deref for Filters {
    type Target = [Filter];

    fn deref(&self) -> &[Filter] {
        &self.all
    }
}

impl Filters {
    /// Those that have their turn once a client may pass; all of them where nobody is asked.
    #[inline]
    pub fn after_authentication(&self) -> &[Filter] {
        &self.all[self.authentication.map_or(0, |at| at + 1)..]
    }

    /// What asks who a client is, and which of the filters that is.
    #[inline]
    pub fn authentication(&self) -> Option<(usize, &Arc<Authentication>)> {
        let at = self.authentication?;
        match self.all.get(at) {
            Some(Filter::Authenticate(authentication)) => Some((at, authentication)),
            _ => None,
        }
    }
}

/// A redirect to the same place over `https`, for requests in clear text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpsRedirect {
    /// 301, 302, 307 or 308.
    pub status: u16,
    /// Cut one trailing slash off the request target (what ingress-nginx does on its 308).
    pub trim_slash: bool,
}

impl HttpsRedirect {
    /// Whether requests of this scheme are redirected.
    pub fn applies(&self, scheme: Scheme) -> bool {
        scheme == Scheme::Http
    }
}

/// Which client addresses pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRules {
    /// Every one of these must hold the address.
    pub allow: Vec<Networks>,
    /// None of these may.
    pub deny: Vec<Networks>,
}

impl AddressRules {
    /// Whether a client of this address passes.
    pub fn admit(&self, client: IpAddr) -> bool {
        !self.deny.iter().any(|denied| denied.contains(client))
            && self.allow.iter().all(|allowed| allowed.contains(client))
    }
}

/// Whether the target of a rewrite is a URL: then the client is sent there.
pub fn leads_away(target: &str) -> bool {
    target.starts_with("http://") || target.starts_with("https://")
}

/// How the path is rewritten before it is sent on; a target that [leads away](leads_away) is where the client is
/// sent (302) instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// The whole path becomes this text (`rewrite-target` without captures).
    Replace(Arc<str>),
    /// The regular expression of the rule is matched again and `$1`…`$9` are filled in.
    Captures {
        /// The rule's own expression.
        regex: PathRegex,
        /// Template with `$n` references.
        target: Arc<str>,
    },
    /// The prefix that the rule matches becomes another one (`rewrite-target` of OpenShift's router).
    Prefix {
        /// In canonical form, without a slash at its end.
        prefix: Arc<str>,
        /// What stands in its place.
        target: Arc<str>,
    },
}

impl Rewrite {
    /// The new path as the object spells it.
    pub fn target(&self) -> &str {
        match self {
            Self::Replace(target) | Self::Captures { target, .. } | Self::Prefix { target, .. } => {
                target
            }
        }
    }

    /// The replacement of the prefix that a rule matches; `None` where it matches none.
    pub(crate) fn of_prefix(matcher: &PathMatch, target: &Arc<str>) -> Option<Self> {
        let (PathMatch::Prefix(text) | PathMatch::RoutePrefix(text)) = matcher else { return None };
        let prefix = path::pattern(text).unwrap_or(Cow::Borrowed(text));
        let prefix = prefix.trim_end_matches('/').into();
        Some(Self::Prefix { prefix, target: Arc::clone(target) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_stand_in_the_order_of_their_phases_however_they_are_given() {
        let redirect = Filter::HttpsRedirect(HttpsRedirect { status: 308, trim_slash: true });
        let rewrite = |to: &str| Filter::Rewrite(Rewrite::Replace(to.into()));
        let filters: Filters =
            [rewrite("/b"), redirect.clone(), rewrite("/a")].into_iter().collect();
        assert_eq!(*filters, [redirect, rewrite("/b"), rewrite("/a")]);
    }
}
