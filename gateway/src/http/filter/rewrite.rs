//! The path that the backend gets instead of the one received, or the URL that the client is sent to.
//!
//! What a client writes is put together anew here, so that the outcome is looked at as the path was that came in: pieces
//! of names that were harmless may be dot segments side by side.

use std::{borrow::Cow, ops::ControlFlow};

use gatehouse_routes::{
    filter::{Rewrite, leads_away},
    matcher::Overrun,
    path::canonical,
};
use http::{HeaderValue, header};

use super::{FilterRequest, Outcome};
use crate::http::{error::ProxyErrorKind, respond};

/// Leaves the new path for `proxy`, which puts the client's query behind it unless it ends in `?`.
pub(super) fn on_request<'r>(rewrite: &'r Rewrite, request: &mut FilterRequest<'r>) -> Outcome {
    let path = rewritten(rewrite, &request.head.path)?;
    if leads_away(rewrite.target()) {
        let query = request
            .uri
            .query()
            .map(|query| format!("{}{query}", if path.contains('?') { '&' } else { '?' }));
        let to = format!("{path}{}", query.unwrap_or_default());
        let to = HeaderValue::try_from(to).map_err(|_| ProxyErrorKind::BadPath)?;
        let mut response = respond::text(302, "");
        response.headers_mut().insert(header::LOCATION, to);
        return Ok(ControlFlow::Break(response.into()));
    }
    request.path = Some(match rewrite {
        // As the object spells it.
        Rewrite::Replace(_) => path,
        Rewrite::Captures { target, .. } => without_end(cleaned(path)?, target),
        Rewrite::Prefix { .. } => cleaned(path)?,
    });
    Ok(ControlFlow::Continue(()))
}

fn rewritten<'r>(rewrite: &'r Rewrite, path: &'r str) -> Result<Cow<'r, str>, ProxyErrorKind> {
    Ok(match rewrite {
        Rewrite::Replace(target) => Cow::Borrowed(&**target),
        Rewrite::Captures { regex, target } => {
            let mut out = String::with_capacity(path.len());
            let expanded = regex.expand(path, target, &mut out);
            expanded.map_err(|Overrun| ProxyErrorKind::ExpressionOverrun)?;
            if !out.starts_with('/') && !leads_away(target) {
                out.insert(0, '/');
            }
            Cow::Owned(out)
        }
        Rewrite::Prefix { prefix, target } => {
            let rest = path.strip_prefix(&**prefix).unwrap_or(path);
            match target.strip_suffix('/').unwrap_or(target) {
                _ if rest.is_empty() => Cow::Borrowed(target),
                "" => Cow::Borrowed(rest),
                target => Cow::Owned(format!("{target}{rest}")),
            }
        }
    })
}

/// A query that turned out to be empty is none; only the object itself leaves the client's out.
fn without_end<'p>(path: Cow<'p, str>, target: &str) -> Cow<'p, str> {
    match path.strip_suffix('?') {
        Some(bare) if !target.ends_with('?') => Cow::Owned(bare.to_owned()),
        _ => path,
    }
}

/// A path with a client's words in it. It is refused if they make dot segments, which lead out of the folder that the
/// object names, also if only a server sees them that takes an encoded slash for a separator.
fn cleaned(path: Cow<'_, str>) -> Result<Cow<'_, str>, ProxyErrorKind> {
    let end = path.find('?').unwrap_or(path.len());
    let leads_elsewhere = match canonical(&path[..end]) {
        Ok(clean) if clean.encoded_slash => {
            let read = clean.matched.replace("%2F", "/").replace("%5C", "/");
            clean.rewritten || canonical(&read).map_or(true, |read| read.rewritten)
        }
        Ok(clean) => clean.rewritten,
        Err(_) => true,
    };
    if leads_elsewhere {
        return Err(ProxyErrorKind::BadPath);
    }
    // Behind two slashes stands a host (RFC 3986 §4.2).
    let spare = path.bytes().take_while(|byte| *byte == b'/').count().saturating_sub(1);
    Ok(match path {
        path if spare == 0 => path,
        Cow::Borrowed(path) => Cow::Borrowed(&path[spare..]),
        Cow::Owned(path) => Cow::Owned(path[spare..].to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use gatehouse_routes::matcher::PathRegex;

    use super::*;

    #[test]
    fn captures_are_filled_in_and_the_path_begins_with_a_slash() {
        let regex = PathRegex::new("/api(/|$)(.*)").unwrap();
        for (target, path, expected) in [
            ("/$2", "/api/v1/x", "/v1/x"),
            ("/$2", "/API/v1", "/v1"),
            ("/$2", "/api", "/"),
            ("$2", "/api/v1", "/v1"),
            ("$2", "/api/", "/"),
            ("/$2_x", "/api/caf%C3%A9", "/caf%C3%A9_x"),
            ("/$2", "/api/a%2Fb", "/a%2Fb"),
        ] {
            let rewrite = Rewrite::Captures { regex: regex.clone(), target: target.into() };
            assert_eq!(rewritten(&rewrite, path).unwrap(), expected, "{target} {path}");
        }
        for (prefix, target, path, expected) in [
            ("/foo", "/", "/foo", "/"),
            ("/foo", "/", "/foo/", "/"),
            ("/foo", "/", "/foo/bar/", "/bar/"),
            ("/foo", "/bar", "/foo", "/bar"),
            ("/foo", "/bar", "/foo/", "/bar/"),
            ("/foo", "/baz", "/foo/bar", "/baz/bar"),
            ("/foo", "/baz/", "/foo/bar", "/baz/bar"),
            ("", "/baz", "/x", "/baz/x"),
            ("", "/", "/x", "/x"),
        ] {
            let rewrite = Rewrite::Prefix { prefix: prefix.into(), target: target.into() };
            assert_eq!(rewritten(&rewrite, path).unwrap(), expected, "{prefix} {target} {path}");
        }
        assert_eq!(rewritten(&Rewrite::Replace("/new".into()), "/old/x").unwrap(), "/new");
    }

    #[test]
    fn what_is_put_together_leads_nowhere_that_its_pieces_did_not() {
        for (regex, target, path, expected) in [
            ("/x(.*)", "/$1", "/x../secret", None),
            ("/x(.*)", "$1", "/x../secret", None),
            ("/x(.*)", "/app/$1", "/x../secret", None),
            ("/x(.*)", "/app/$1?a=/../b", "/xsecret", Some("/app/secret?a=/../b")),
            ("/x(.*)", "/app/$1", "/x../../secret", None),
            ("/x(.*)", "/app/$1", "/x.", None),
            ("/x(.*)", "/app/$1", "/x...", Some("/app/...")),
            ("/(.)-(.)/(.*)", "/a/$1$2/$3", "/.-./b", None),
            // The pieces of an escape.
            ("/([^-]*)-([^-]*)-(.*)", "/a/%$1%$2/$3", "/2e-2E-b", None),
            ("/(.*)x(.*)", "/a/$1%$2", "/bxc", None),
            // Encoded slashes stay what they are, unless a server would be led elsewhere by them.
            ("/x(.*)", "/app/$1", "/xa%2Fb", Some("/app/a%2Fb")),
            ("/x(.*)", "/app/$1", "/x..%2Fsecret", None),
            ("/x(.*)", "/app/$1", "/x..%5Csecret", None),
            ("/x(.*)", "/app/$1", "/xa%2F..%2Fb", None),
            // A path that begins with two slashes may be taken for a host.
            ("/x(.*)", "/$1", "/x/evil.test/a", Some("/evil.test/a")),
            ("/x(.*)", "//$1?b", "/x/evil.test/a", Some("/evil.test/a?b")),
            ("/x(.*)", "/a/https://$1", "/xb.test", Some("/a/https://b.test")),
            ("/x(.*)", "/caf%C3%A9/$1", "/xy", Some("/caf%C3%A9/y")),
        ] {
            let regex = PathRegex::new(regex).unwrap();
            let rewrite = Rewrite::Captures { regex, target: target.into() };
            let out = rewritten(&rewrite, path).and_then(cleaned).ok();
            assert_eq!(out.as_deref(), expected, "{target} {path}");
        }
        let plain = cleaned(Cow::Borrowed("/a/b?c=/../d")).unwrap();
        assert!(matches!(plain, Cow::Borrowed("/a/b?c=/../d")), "nothing is copied");
    }
}
