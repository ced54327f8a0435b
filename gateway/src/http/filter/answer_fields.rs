//! Fields of answers that an object changes: hidden, rewritten, added, set.

use gatehouse_routes::filter::{
    answer_fields::AnswerFields,
    change::{Change, Facts},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{FilterRequest, Kept};

/// What the answer's redirects and cookies are rewritten with.
pub(crate) struct Named {
    host: Box<str>,
    http_host: Box<str>,
    scheme: &'static str,
}

/// Keeps what the request named, if it matters to its answer.
pub(super) fn on_request(fields: &AnswerFields, request: &mut FilterRequest<'_>) {
    if !fields.asks_request() {
        return;
    }
    let field = || request.headers.get(header::HOST)?.to_str().ok();
    let http_host = request.uri.authority().map(|authority| authority.as_str()).or_else(field);
    request.kept.named = Some(Box::new(Named {
        host: (*request.head.host).into(),
        http_host: http_host.unwrap_or(&request.head.host).into(),
        scheme: super::scheme_name(request.scheme),
    }));
}

/// Changes the fields of an answer.
pub(super) fn on_response(fields: &AnswerFields, kept: &Kept, headers: &mut HeaderMap) {
    if kept.proxied {
        for name in &fields.hide {
            headers.remove(name);
        }
        if let Some(named) = &kept.named {
            let facts =
                Facts { host: &named.host, http_host: &named.http_host, scheme: named.scheme };
            if let Some(change) = &fields.redirect {
                redirects(change, facts, headers);
            }
            if fields.cookie_domain.is_some() || fields.cookie_path.is_some() {
                cookies(fields, facts, headers);
            }
        }
    }
    for (name, value) in fields.missing {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    for (name, value) in &fields.set {
        headers.insert(name, value.clone());
    }
}

/// `Location`, and the URL in `Refresh`.
fn redirects(change: &Change, facts: Facts<'_>, headers: &mut HeaderMap) {
    let changed = |name: &HeaderName, headers: &HeaderMap| {
        let value = headers.get(name)?.to_str().ok()?;
        let (before, url) = match *name == header::REFRESH {
            true => value.split_at(value.find("url=")? + "url=".len()),
            false => ("", value),
        };
        HeaderValue::try_from(format!("{before}{}", change.apply(url, facts)?)).ok()
    };
    for name in [header::LOCATION, header::REFRESH] {
        if let Some(value) = changed(&name, headers) {
            headers.insert(name, value);
        }
    }
}

fn cookies(fields: &AnswerFields, facts: Facts<'_>, headers: &mut HeaderMap) {
    let all = headers.get_all(header::SET_COOKIE);
    let changed: Vec<_> = all.iter().map(|cookie| self::cookie(fields, facts, cookie)).collect();
    if changed.iter().all(Option::is_none) {
        return;
    }
    let cookies: Vec<_> = all.iter().cloned().collect();
    headers.remove(header::SET_COOKIE);
    for (cookie, changed) in cookies.into_iter().zip(changed) {
        headers.append(header::SET_COOKIE, changed.unwrap_or(cookie));
    }
}

/// A cookie with other attributes, if a change is about them.
fn cookie(fields: &AnswerFields, facts: Facts<'_>, cookie: &HeaderValue) -> Option<HeaderValue> {
    let text = cookie.to_str().ok()?;
    let mut parts = text.split(';');
    let mut out = parts.next()?.to_owned();
    let mut any = false;
    let mut besides: &[Box<str>] = &[];
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let change = match name.trim() {
            name if name.eq_ignore_ascii_case("domain") => fields.cookie_domain.as_ref(),
            name if name.eq_ignore_ascii_case("path") => fields.cookie_path.as_ref(),
            _ => None,
        };
        out.push(';');
        match change.and_then(|change| change.apply(value.trim(), facts)) {
            Some(value) => {
                any = true;
                out.push_str(&format!("{name}={value}"));
                besides = change.map_or(besides, Change::attributes);
            }
            None => out.push_str(part),
        }
    }
    // Behind those of the backend: of two of a name the last one counts (RFC 6265 §5.3).
    for attribute in besides {
        out.push_str(&format!("; {attribute}"));
    }
    if any { HeaderValue::try_from(out).ok() } else { None }
}
