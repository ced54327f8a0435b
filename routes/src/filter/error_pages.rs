//! What clients get instead of errors: pages of the object's own, or what a Service says about them.

use std::{cmp::Reverse, sync::Arc};

use http::{HeaderName, HeaderValue};

use super::answer_fields::may_be_set;
use crate::action::Forward;

/// What an object wants done about errors.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ErrorPages {
    /// Statuses of answers that clients do not get, ascending.
    pub statuses: Arc<[u16]>,
    /// Answers of the backend are left as they are, whatever their status.
    pub leaves_backend: bool,
    /// The Service that words errors, and answers where the backend has no endpoint.
    pub backend: Option<Forward>,
    /// Texts, in the order of their names.
    pub pages: Box<[ErrorPage]>,
}

/// The text for one status, or for all of a hundred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorPage {
    first: u16,
    last: u16,
    form: Form,
    /// More fields of the answer.
    fields: Box<[(HeaderName, HeaderValue)]>,
    parts: Box<[Part]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Html,
    Json,
    Text,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Status,
    Reason,
    RequestId,
}

impl ErrorPages {
    /// The page for a status that a client likes best who accepts this.
    pub fn page(&self, status: u16, accept: Option<&HeaderValue>) -> Option<&ErrorPage> {
        let accept = accept.and_then(|value| value.to_str().ok());
        let fit = self.pages.iter().filter(|page| (page.first..=page.last).contains(&status));
        // The nearest, of these the best liked, of these the first.
        fit.min_by_key(|page| (page.last - page.first, Reverse(liking(accept, page.form.media()))))
    }
}

impl ErrorPage {
    /// A page by its name, such as `404.html`, `5xx.json` or `503`, or an answer with its head as HAProxy has them,
    /// such as `error-page-503.http`; `None`: that is no name of one, or no such answer.
    pub fn parse(name: &str, text: &str) -> Option<Self> {
        if let Some(status) =
            name.strip_prefix("error-page-").and_then(|it| it.strip_suffix(".http"))
        {
            return Self::whole(status.parse().ok()?, text);
        }
        let (statuses, extension) = match name.split_once('.') {
            Some((statuses, extension)) => (statuses, Some(extension)),
            None => (name, None),
        };
        let form = match (extension, text.trim_start().as_bytes().first()) {
            (Some("html" | "htm"), _) | (None, Some(b'<')) => Form::Html,
            (Some("json"), _) | (None, Some(b'{' | b'[')) => Form::Json,
            (Some("txt"), _) | (None, _) => Form::Text,
            (Some(_), _) => return None,
        };
        let (first, last) = match statuses {
            "4xx" => (400, 499),
            "5xx" => (500, 599),
            one => {
                let status = one.parse().ok().filter(|status| (300..=599).contains(status))?;
                (status, status)
            }
        };
        Some(Self { first, last, form, fields: Box::default(), parts: parts(text) })
    }

    /// An answer with its head. Fields of the connection and of the length are left out, and the status is that of its
    /// name.
    fn whole(status: u16, text: &str) -> Option<Self> {
        if !(300..=599).contains(&status) {
            return None;
        }
        let text = text.replace("\r\n", "\n");
        let (head, body) = text.trim_start().split_once("\n\n")?;
        let (first, fields) = head.split_once('\n').unwrap_or((head, ""));
        first.strip_prefix("HTTP/1.")?;
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            let name = HeaderName::try_from(name.trim()).ok()?;
            Some((name, HeaderValue::try_from(value.trim()).ok()?))
        };
        let fields: Option<Vec<_>> = fields.lines().map(field).collect();
        let fields = fields?.into_iter().filter(|(name, _)| may_be_set(name)).collect();
        let parts = [Part::Text(body.into())].into();
        Some(Self { first: status, last: status, form: Form::Html, fields, parts })
    }

    /// Fields of the answer, beside `Content-Type` or instead of it.
    pub fn fields(&self) -> &[(HeaderName, HeaderValue)] {
        &self.fields
    }

    /// `Content-Type` of the page.
    pub fn content_type(&self) -> HeaderValue {
        HeaderValue::from_static(match self.form {
            Form::Html => "text/html; charset=utf-8",
            Form::Json => "application/json",
            Form::Text => "text/plain; charset=utf-8",
        })
    }

    /// The page for one answer. What a client may have written cannot become markup.
    pub fn fill(&self, status: u16, reason: &str, request_id: &str) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Status => out.push_str(&status.to_string()),
                Part::Reason => out.push_str(reason),
                Part::RequestId => self.form.escape(request_id, &mut out),
            }
        }
        out
    }
}

impl Form {
    fn media(self) -> &'static str {
        match self {
            Self::Html => "text/html",
            Self::Json => "application/json",
            Self::Text => "text/plain",
        }
    }

    fn escape(self, text: &str, out: &mut String) {
        for letter in text.chars() {
            let plain = letter.is_ascii_alphanumeric() || "-_.:/ ".contains(letter);
            match self {
                Self::Html if !plain => out.push_str(&format!("&#{};", u32::from(letter))),
                Self::Json if !plain => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
                _ => out.push(letter),
            }
        }
    }
}

fn parts(text: &str) -> Box<[Part]> {
    const NAMES: [(&str, Part); 3] = [
        ("{{status}}", Part::Status),
        ("{{reason}}", Part::Reason),
        ("{{request_id}}", Part::RequestId),
    ];
    let mut parts = Vec::new();
    let mut rest = text;
    let next = |rest: &str| {
        let found =
            NAMES.iter().filter_map(|(name, part)| Some((rest.find(name)?, name.len(), part)));
        found.min_by_key(|(at, ..)| *at)
    };
    while let Some((at, length, part)) = next(rest) {
        parts.push(Part::Text(rest[..at].into()));
        parts.push(part.clone());
        rest = &rest[at + length..];
    }
    parts.push(Part::Text(rest.into()));
    parts.into()
}

/// How much a client wants a medium, in thousandths (RFC 9110 §12.5.1): as its nearest range says.
fn liking(accept: Option<&str>, media: &str) -> u16 {
    let Some(accept) = accept else { return 1000 };
    let kind = media.split('/').next().unwrap_or_default();
    let ranges = accept.split(',').filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next()?;
        let near = match name {
            "*/*" => 0,
            name if name.eq_ignore_ascii_case(media) => 2,
            name if name.strip_suffix("/*").is_some_and(|it| it.eq_ignore_ascii_case(kind)) => 1,
            _ => return None,
        };
        let quality = parts.find_map(|part| part.strip_prefix("q=")).unwrap_or("1");
        let quality = quality.parse::<f32>().unwrap_or(0.0).clamp(0.0, 1.0);
        Some((near, (quality * 1000.0) as u16))
    });
    ranges.max_by_key(|(near, _)| *near).map_or(0, |(_, quality)| quality)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_its_head_is_a_page_with_fields_but_those_of_the_connection() {
        let text = "HTTP/1.0 503 Service Unavailable\r\nPragma: no-cache\r\nConnection: close\r\n\
                    Content-Type: text/html; charset=latin1\r\n\r\n<p>{{status}}\r\n\r\n</p>\n";
        let page = ErrorPage::parse("error-page-503.http", text).unwrap();
        assert_eq!((page.first, page.last), (503, 503));
        let fields: Vec<_> = page.fields().iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(fields, ["pragma", "content-type"]);
        assert_eq!(
            page.fill(503, "", ""),
            "<p>{{status}}\n\n</p>\n",
            "its author knows no such word"
        );
        for (name, text) in [
            ("error-page-503.http", "<p>no head</p>"),
            ("error-page-503.http", "HTTP/1.0 503 Service Unavailable\nPragma: no-cache"),
            ("error-page-503.http", "HTTP/1.0 503 Service Unavailable\nno field\n\nbody"),
            ("error-page-200.http", "HTTP/1.0 200 OK\n\nbody"),
            ("error-page-.http", "HTTP/1.0 503 Service Unavailable\n\nbody"),
        ] {
            assert_eq!(ErrorPage::parse(name, text), None, "{name} {text:?}");
        }
    }

    #[test]
    fn a_page_is_found_by_status_and_by_what_the_client_accepts() {
        let pages = ["404.html", "404.json", "4xx.txt", "503"]
            .map(|name| ErrorPage::parse(name, name).unwrap());
        let pages = ErrorPages { pages: pages.into(), ..ErrorPages::default() };
        for (status, accept, found) in [
            (404, None, Some("404.html")),
            (404, Some("application/json"), Some("404.json")),
            (404, Some("text/html, application/json;q=0.9"), Some("404.html")),
            (404, Some("text/html;q=0.1, application/*"), Some("404.json")),
            (404, Some("*/*;q=0.5, text/html;q=0"), Some("404.json")),
            (404, Some("image/png"), Some("404.html")),
            (410, Some("text/html"), Some("4xx.txt")),
            (503, None, Some("503")),
            (502, None, None),
        ] {
            let accept = accept.map(HeaderValue::from_static);
            let page = pages.page(status, accept.as_ref());
            let text = page.map(|page| page.fill(status, "", ""));
            assert_eq!(text.as_deref(), found, "{status} {accept:?}");
        }
        for name in ["html", "404.php", "40x.html", "200.html", "600", ".html"] {
            assert_eq!(ErrorPage::parse(name, ""), None, "{name}");
        }
    }

    #[test]
    fn what_a_client_wrote_is_no_markup() {
        let id = "<b>'\\1";
        let fill = |name: &str| {
            ErrorPage::parse(name, "{{status}} {{reason}}: {{request_id}}{{no}}").unwrap().fill(
                404,
                "Not Found",
                id,
            )
        };
        assert_eq!(fill("404.html"), "404 Not Found: &#60;b&#62;&#39;&#92;1{{no}}");
        assert_eq!(fill("404.json"), "404 Not Found: \\u003cb\\u003e\\u0027\\u005c1{{no}}");
        assert_eq!(fill("404.txt"), "404 Not Found: <b>'\\1{{no}}");
    }
}
