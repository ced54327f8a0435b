//! A signed token with every request (RFC 7519), shown as RFC 6750 has it or elsewhere.

use std::{rc::Rc, sync::Arc, time::SystemTime};

use gatehouse_routes::{
    cookie,
    filter::authentication::jwt::{Claims, Fault, Jwt, KeySource, Place},
    model::BackendTable,
};
use http::{HeaderMap, HeaderValue, header};

use super::{FilterRequest, Own};
use crate::{http::error::ProxyErrorKind, tokens::KeySet};

/// What the token of a request says, or what its client is told.
pub(super) async fn check(
    jwt: &Jwt,
    request: &FilterRequest<'_>,
    backends: &BackendTable,
) -> Result<Result<Rc<Claims>, Own>, ProxyErrorKind> {
    let judged = judge(jwt, request, backends).await?;
    Ok(judged.map_err(|fault| refusal(fault, request)))
}

async fn judge(
    jwt: &Jwt,
    request: &FilterRequest<'_>,
    backends: &BackendTable,
) -> Result<Result<Rc<Claims>, Fault>, ProxyErrorKind> {
    let token = match token(&jwt.place, request.headers) {
        Ok(token) => token,
        Err(fault) => return Ok(Err(fault)),
    };
    let (worker, issuers) = (&request.conn.shared.worker, &request.conn.upstreams.issuers);
    let verified =
        |keys: &Arc<KeySet>| worker.tokens().verified(keys, jwt.algorithms, token, worker.now());
    let verified = match &jwt.keys {
        KeySource::Given(text) => verified(&worker.tokens().given(text)),
        KeySource::Url(url, service) => {
            let service = || {
                let slot = service.as_ref()?.spec.backends.first()?.slot;
                backends.get(slot).map(|backend| Arc::clone(&backend.endpoints))
            };
            let Some(keys) = issuers.keys(url, service).await else {
                return Err(ProxyErrorKind::KeysMissing);
            };
            match verified(&keys) {
                // The issuer may have a new one.
                Err(Fault::Key) => match issuers.other_keys(url, service, &keys).await {
                    Some(others) => verified(&others),
                    None => Err(Fault::Key),
                },
                verdict => verdict,
            }
        }
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // A clock before 1970 knows of no token that has expired: none passes.
    let now = now.map_or(u64::MAX, |now| now.as_secs());
    Ok(verified.and_then(|claims| jwt.admits(&claims, now).map(|()| claims)))
}

/// The token of a request, which has one and not several.
fn token<'h>(place: &'h Place, headers: &'h HeaderMap) -> Result<&'h [u8], Fault> {
    let bearer = |field: &'h HeaderValue| {
        let (scheme, token) = field.as_bytes().split_at_checked("Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
    };
    match place {
        Place::Bearer => only(headers.get_all(header::AUTHORIZATION).iter().filter_map(bearer)),
        Place::Field(name) => {
            let fields = headers.get_all(name).iter();
            only(fields.map(|field| bearer(field).unwrap_or_else(|| field.as_bytes())))
        }
        Place::Cookie(name) => only(cookie::values(headers, name)),
    }
}

fn only<'h>(mut all: impl Iterator<Item = &'h [u8]>) -> Result<&'h [u8], Fault> {
    match (all.next(), all.next()) {
        (None, _) => Err(Fault::Missing),
        (Some(one), None) if !one.is_empty() => Ok(one),
        (Some(_), _) => Err(Fault::Malformed),
    }
}

fn refusal(fault: Fault, request: &FilterRequest<'_>) -> Own {
    let kind = match fault.forbids() {
        true => ProxyErrorKind::AuthenticationRefused,
        false => ProxyErrorKind::Unauthorized,
    };
    let host = &request.head.host;
    let challenge = match fault.described() {
        None => format!("Bearer realm=\"{host}\""),
        Some((code, why)) => {
            format!("Bearer realm=\"{host}\", error=\"{code}\", error_description=\"{why}\"")
        }
    };
    let challenge = HeaderValue::try_from(challenge).ok();
    let fields = challenge.map(|challenge| (header::WWW_AUTHENTICATE, challenge));
    Own::Failure(kind, fields.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    #[test]
    fn a_request_has_one_token_where_it_should_be() {
        let headers = |fields: &[(&'static str, &'static str)]| {
            let field = |(name, value): &(&'static str, &'static str)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            };
            fields.iter().map(field).collect::<HeaderMap>()
        };
        let field = Place::Field(HeaderName::from_static("x-token"));
        let cookie = Place::Cookie("sid".into());
        for (place, fields, found) in [
            (&Place::Bearer, &[("authorization", "Bearer a.b.c")][..], Ok(&b"a.b.c"[..])),
            (&Place::Bearer, &[("authorization", "bEARER  a.b.c ")], Ok(b"a.b.c")),
            (&Place::Bearer, &[("authorization", "Basic YTpi")], Err(Fault::Missing)),
            (&Place::Bearer, &[("authorization", "Bearer")], Err(Fault::Missing)),
            (&Place::Bearer, &[("authorization", "Bearer ")], Err(Fault::Malformed)),
            (&Place::Bearer, &[("x-token", "a.b.c"), ("cookie", "sid=a.b.c")], Err(Fault::Missing)),
            (
                &Place::Bearer,
                &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
                Err(Fault::Malformed),
            ),
            (&field, &[("x-token", "a.b.c")], Ok(b"a.b.c")),
            (&field, &[("x-token", "Bearer a.b.c")], Ok(b"a.b.c")),
            (&field, &[("authorization", "Bearer a.b.c")], Err(Fault::Missing)),
            (&cookie, &[("cookie", "a=1; sid=a.b.c")], Ok(b"a.b.c")),
            (&cookie, &[("cookie", "sid=a; sid=b")], Err(Fault::Malformed)),
        ] {
            assert_eq!(token(place, &headers(fields)), found, "{place:?} {fields:?}");
        }
    }
}
