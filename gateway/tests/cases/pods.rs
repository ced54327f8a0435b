//! The backends of the cases.

use gatehouse_testbed::gatehouse::backend::{Act, Backend, echo_answer};

/// A backend that names itself and what it was asked, unless fields of the request say otherwise.
pub(crate) fn app() -> Backend {
    Backend::scripted("app", |request| {
        let custom = request.one("x-answer").map(|text| text.replace('|', "\r\n"));
        let own = request.one("x-body").map(|text| text.repeat(100));
        let status = request.one("x-status").or_else(|| own.is_some().then(|| "200".to_owned()));
        if let Some(status) = status {
            let text = own.unwrap_or_else(|| format!("app {status}"));
            let fields = custom.map(|custom| custom + "\r\n").unwrap_or_default();
            let length = text.len();
            let answer =
                format!("HTTP/1.1 {status} -\r\nContent-Length: {length}\r\n{fields}\r\n{text}");
            return vec![Act::Send(answer.into_bytes())];
        }
        match custom {
            Some(fields) => {
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{fields}\r\n\r\n");
                vec![Act::Send(answer.into_bytes())]
            }
            None => vec![Act::Send(echo_answer("app", request))],
        }
    })
}

/// The Service for errors. As the reference does, it answers with the status that it is told.
pub(crate) fn errors() -> Backend {
    Backend::scripted("errors", |request| {
        let status = request.one("x-code").unwrap_or_else(|| "200".to_owned());
        let text = format!("errors {status}");
        let length = text.len();
        let answer =
            format!("HTTP/1.1 {status} -\r\nX-Page: 1\r\nContent-Length: {length}\r\n\r\n{text}");
        vec![Act::Send(answer.into_bytes())]
    })
}

/// What an authentication service says, and what it was asked.
pub(crate) fn authentication_service() -> Backend {
    Backend::scripted("auth", |request| {
        let cookies = request.one("cookie").unwrap_or_default();
        let session = cookies.strip_prefix("session=").unwrap_or_default();
        let status = match session {
            "ann" => "202 Accepted",
            "banned" => "403 Forbidden",
            "broken" => "500 Internal Server Error",
            "moved" => "302 Found",
            _ => "401 Unauthorized\r\nWWW-Authenticate: Bearer",
        };
        let field = |name: &str| request.one(name).unwrap_or_else(|| "-".to_owned());
        let fields = ["host", "x-original-method", "x-original-url", "x-auth-request-redirect"];
        let fields = fields.into_iter().chain(["content-length", "x-team"]).map(field);
        let mut asked = fields.collect::<Vec<_>>().join(" ");
        // Of these it believes a word too much.
        let names = request.fields.iter().map(|field| field.name.to_lowercase());
        for name in names.filter(|it| it.contains('_') || it.starts_with("x-forwarded-uri")) {
            asked += &format!(" and {name}");
        }
        let user = if session == "ann" { "X-Auth-Request-User: ann\r\n" } else { "" };
        let answer = format!(
            "HTTP/1.1 {status}\r\n{user}X-Asked: {} {} {asked}\r\nSet-Cookie: refreshed=1\r\n\
             Content-Length: 4\r\n\r\nauth",
            request.method, request.target
        );
        vec![Act::Send(answer.into_bytes())]
    })
}
