//! The path that the backend gets instead of the one received, or the URL that the client is sent to.

use std::{borrow::Cow, ops::ControlFlow};

use gatehouse_routes::{
    filter::{Rewrite, leads_away},
    matcher::Overrun,
};
use http::{HeaderValue, header};

use super::{FilterRequest, Outcome};
use crate::http::{error::ProxyErrorKind, respond};

/// Leaves the new path for `proxy`, which puts the query behind it.
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
        return Ok(ControlFlow::Break(response));
    }
    request.path = Some(path);
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
}
