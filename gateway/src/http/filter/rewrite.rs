//! The path that the backend gets instead of the one received.

use std::{borrow::Cow, ops::ControlFlow};

use gatehouse_routes::filter::Rewrite;
use http::Response;

use super::FilterRequest;
use crate::http::body::ResponseBody;

/// Leaves the new path for `proxy`, which puts the query behind it.
pub(super) fn on_request<'r>(
    rewrite: &'r Rewrite,
    request: &mut FilterRequest<'r>,
) -> ControlFlow<Response<ResponseBody>> {
    request.path = Some(rewritten(rewrite, &request.head.path));
    ControlFlow::Continue(())
}

fn rewritten<'r>(rewrite: &'r Rewrite, path: &str) -> Cow<'r, str> {
    match rewrite {
        Rewrite::Replace(target) => Cow::Borrowed(&**target),
        Rewrite::Captures { regex, target } => {
            let mut out = String::with_capacity(path.len());
            regex.expand(path, target, &mut out);
            if !out.starts_with('/') {
                out.insert(0, '/');
            }
            Cow::Owned(out)
        }
    }
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
            assert_eq!(rewritten(&rewrite, path), expected, "{target} {path}");
        }
        assert_eq!(rewritten(&Rewrite::Replace("/new".into()), "/old/x"), "/new");
    }
}
