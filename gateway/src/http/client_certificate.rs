//! The certificate that a client has shown, held against what the host of a request asks for.
//!
//! `proxy` asks once it knows the rule, before any filter. Nothing here believes a handshake for longer than the
//! demand that it was made for: another demand, or new authorities, and the chain is judged again.

use std::rc::Rc;

use gatehouse_routes::{
    filter::client_certificate::{CertificateFields, Refusal, Shown},
    model::Scheme,
    table::{Matched, RouteTable},
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};

use crate::{
    http::{
        body::ResponseBody, client::ClientConn, client_identity::Judged, error::ProxyErrorKind,
        head::Seen, headers::remove_certificate, respond, router_fields,
    },
    snapshot::{GatewaySnapshot, Snapshot},
    tls::client_certificates::Standing,
};

static CERTIFICATE: HeaderName = HeaderName::from_static("ssl-client-cert");
static VERIFY: HeaderName = HeaderName::from_static("ssl-client-verify");
static SUBJECT: HeaderName = HeaderName::from_static("ssl-client-subject-dn");
static ISSUER: HeaderName = HeaderName::from_static("ssl-client-issuer-dn");

/// What the backend is told of a client that passes.
pub(crate) struct Certified {
    /// `None`: it has shown no certificate.
    judged: Option<Rc<Judged>>,
    fields: CertificateFields,
    /// The certificate itself, where a field of nginx tells it.
    leaf: Option<HeaderValue>,
}

/// Why a request does not go on.
pub(crate) enum Refused {
    Failed(ProxyErrorKind),
    /// It is sent there.
    Redirected(Box<HeaderValue>),
}

impl Refused {
    /// The answer, or the failure that is to be worded.
    pub(crate) fn answer(self) -> Result<Response<ResponseBody>, ProxyErrorKind> {
        match self {
            Self::Failed(kind) => Err(kind),
            Self::Redirected(to) => {
                let mut response = respond::text(302, "");
                response.headers_mut().insert(header::LOCATION, *to);
                Ok(response)
            }
        }
    }
}

/// Judges the client of a request for a canonical host. `None`: its host asks for no certificate.
///
/// # Errors
/// The request may not go on.
pub(crate) fn check(
    conn: &ClientConn,
    (snapshot, gateway): (&Snapshot, &GatewaySnapshot),
    host: &str,
    matched: Matched<'_>,
    scheme: Scheme,
) -> Result<Option<Box<Certified>>, Refused> {
    let rule = matched.rule;
    // Neither leads to a backend that is protected.
    if rule.is_solver() || rule.redirect(scheme).is_some() {
        return Ok(None);
    }
    // A default backend answers for hosts that are not its own: theirs is the demand.
    let own = || gateway.routes.client_certificates(Some(host));
    let asked = matched.host.client_certificates().or_else(own);
    let trust = asked.map(|asked| snapshot.client_trust.get(&asked.demand));
    let trust = trust.transpose().map_err(|why| {
        tracing::debug!(rule = %rule.object, why, "no client certificate can be judged");
        Refused::Failed(ProxyErrorKind::Denied)
    })?;
    if conn.tls_version.is_some() {
        check_name(conn, &gateway.routes, host).map_err(Refused::Failed)?;
    }
    let Some((asked, trust)) = asked.zip(trust) else { return Ok(None) };
    // What OpenShift's router asks is the affair of TLS: a Route without it stays open beside one that has it.
    let own = rule.client_certificates();
    if asked.fields == CertificateFields::Router && own.is_none() && conn.tls_version.is_none() {
        return Ok(None);
    }
    let demand = &asked.demand;
    let identity = conn.identity.as_ref();
    let judged = identity.and_then(|identity| identity.judged(demand, trust));
    // The demand of the rule is that of the host, or the rule is closed; what else it asks for is its own.
    let asked = own.unwrap_or(asked);
    match demand.admit(judged.as_ref().map_or(Shown::None, |judged| judged.shown())) {
        Ok(()) => {
            let fields = asked.fields;
            let pass = fields == CertificateFields::Nginx { certificate: true };
            let leaf = identity.filter(|_| pass).and_then(|identity| identity.leaf());
            Ok(Some(Box::new(Certified { judged, fields, leaf })))
        }
        Err(Refusal::OtherName) => Err(Refused::Failed(ProxyErrorKind::CertificateForbidden)),
        Err(refusal) => Err(match (&asked.error_page, refusal) {
            (Some(page), _) => Refused::Redirected(Box::new(page.clone())),
            (None, Refusal::Missing) => Refused::Failed(ProxyErrorKind::CertificateMissing),
            (None, _) => Refused::Failed(ProxyErrorKind::CertificateInvalid),
        }),
    }
}

/// The handshake was made for a name. A request for another host needs one that asks for the same, and one for a host
/// that asks needs one that has asked (P14).
fn check_name(conn: &ClientConn, routes: &RouteTable, host: &str) -> Result<(), ProxyErrorKind> {
    let demand = |name| routes.client_certificates(name).map(|asked| &asked.demand);
    let wanted = demand(Some(host));
    let name = conn.server_name.as_deref();
    let same = name == Some(host) || demand(name) == wanted;
    let asked = wanted.is_none() || conn.identity.is_some();
    if same && asked { Ok(()) } else { Err(ProxyErrorKind::CertificateMisdirected) }
}

impl Certified {
    /// The certificate itself (DER); empty if there is none.
    pub(crate) fn der(&self) -> &[u8] {
        self.judged.as_ref().map_or(&[], |judged| &judged.leaf)
    }

    /// Tells the backend who the client is, whatever the client or a proxy in front says of that.
    pub(crate) fn tell(&self, seen: Seen, headers: &mut HeaderMap) {
        if seen.certificate {
            remove_certificate(headers);
        }
        if self.fields == CertificateFields::Router {
            router_fields::tell(self.judged.as_ref().map(|judged| judged.router_fields()), headers);
            return;
        }
        let verify = match self.judged.as_ref().map(|judged| &judged.standing) {
            None => "NONE",
            Some(Standing::Believed) => "SUCCESS",
            Some(Standing::Unknown | Standing::Invalid(_)) => {
                "FAILED:unable to get local issuer certificate"
            }
        };
        headers.insert(&VERIFY, HeaderValue::from_static(verify));
        if let Some(judged) = &self.judged {
            for (name, whose) in [(&SUBJECT, &judged.subject), (&ISSUER, &judged.issuer)] {
                if let Ok(value) = HeaderValue::from_str(&whose.rfc2253) {
                    headers.insert(name, value);
                }
            }
        }
        if let Some(leaf) = &self.leaf {
            headers.insert(&CERTIFICATE, leaf.clone());
        }
    }
}
