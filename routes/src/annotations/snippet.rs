//! Snippets of nginx that say what has a setting here: read word by word, never executed.
//!
//! A snippet is understood in whole or not at all: what is left out of one could be what protects. A part that says
//! what this gateway does anyway (the fields of WebSockets, forwarding fields) asks for nothing.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::backend_text::BackendText;
use crate::filter::{
    Filter,
    answer_fields::{AnswerFields, may_be_set},
};

/// What a snippet asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snippet {
    /// Fields of answers.
    pub(super) answer: Vec<(HeaderName, HeaderValue)>,
    /// Fields of the backend's answers that clients do not get.
    pub(super) hide: Vec<HeaderName>,
    /// Fields of requests for the backend.
    pub(super) request: Vec<(HeaderName, BackendText)>,
    /// Annotations that say the same, by their names after the prefix.
    pub(super) annotations: Vec<(&'static str, String)>,
}

/// Whether a snippet speaks for the paths of its object alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Paths,
    /// For the host, with what others have there: then nothing of it may keep anybody out.
    Host,
}

/// Directives that say what happens anyway, or tune nginx.
const NOTHING: [&str; 12] = [
    "access_log",
    "chunked_transfer_encoding",
    "gzip",
    "keepalive_timeout",
    "log_not_found",
    "proxy_buffers",
    "proxy_busy_buffers_size",
    "proxy_cache",
    "proxy_http_version",
    "proxy_pass_request_headers",
    "server_tokens",
    "tcp_nodelay",
];

/// Directives that are an annotation by another name, with one value. (`limit_rate` is none of them: it counts
/// bytes, the annotation KiB.)
const SAME: [(&str, &str); 10] = [
    ("client_body_buffer_size", "client-body-buffer-size"),
    ("client_max_body_size", "proxy-body-size"),
    ("proxy_buffer_size", "proxy-buffer-size"),
    ("proxy_buffering", "proxy-buffering"),
    ("proxy_connect_timeout", "proxy-connect-timeout"),
    ("proxy_max_temp_file_size", "proxy-max-temp-file-size"),
    ("proxy_read_timeout", "proxy-read-timeout"),
    ("proxy_request_buffering", "proxy-request-buffering"),
    ("proxy_send_timeout", "proxy-send-timeout"),
    ("proxy_next_upstream_tries", "proxy-next-upstream-tries"),
];

/// Fields that backends get of this gateway itself, and the values that nginx' documents give them.
const FORWARDED: [(&str, &[&str]); 9] = [
    ("connection", &["upgrade", "$connection_upgrade"]),
    ("host", &["$host", "$http_host", "$best_http_host"]),
    ("upgrade", &["$http_upgrade"]),
    ("x-forwarded-for", &["$proxy_add_x_forwarded_for", "$remote_addr"]),
    ("x-forwarded-host", &["$host", "$http_host", "$best_http_host"]),
    ("x-forwarded-port", &["$server_port", "$pass_port"]),
    ("x-forwarded-proto", &["$scheme", "$pass_access_scheme"]),
    ("x-real-ip", &["$remote_addr"]),
    ("x-request-id", &["$req_id", "$request_id"]),
];

/// Reads a snippet.
///
/// # Errors
/// The first thing that has no setting here.
pub(super) fn understand(text: &str, reach: Reach) -> Result<Snippet, String> {
    let mut snippet = Snippet::default();
    let mut clients = Clients::default();
    let mut of_grpc = Vec::new();
    for directive in directives(text)? {
        let words: Vec<&str> = directive.iter().map(String::as_str).collect();
        let Some((name, values)) = words.split_first() else { continue };
        let plain = |value: &str| !value.contains('$');
        let known = match (*name, values) {
            ("more_set_headers", fields) => {
                all(fields, |field| snippet.answer_field(field.split_once(':')?))
            }
            ("add_header", [name, value] | [name, value, "always"]) => {
                snippet.answer_field((name, value))
            }
            ("proxy_set_header", [name, value]) if says_nothing(name, value) => Some(()),
            ("proxy_set_header", [name, value]) => snippet.request_field((name, value)),
            ("proxy_hide_header" | "grpc_hide_header", [name]) => snippet.hide(name),
            ("more_clear_headers", names) => all(names, |name| snippet.hide(name)),
            ("grpc_set_header", [name, value]) => {
                of_grpc.push([*name, *value].map(str::to_owned));
                Some(())
            }
            ("more_set_input_headers", fields) => {
                all(fields, |field| snippet.request_field(field.split_once(':')?))
            }
            ("return", [code @ ("301" | "302" | "303" | "307" | "308"), url])
                if reach == Reach::Paths =>
            {
                snippet.redirect(code, url)
            }
            ("allow" | "deny", [network]) if reach == Reach::Paths => clients.rule(name, network),
            ("proxy_cookie_path", [from, to]) => {
                let quoted = [from, to].map(|word| format!("{word:?}"));
                snippet.annotations.push(("proxy-cookie-path", quoted.join(" ")));
                Some(())
            }
            ("proxy_next_upstream", values) if !values.is_empty() => {
                snippet.annotations.push(("proxy-next-upstream", values.join(" ")));
                Some(())
            }
            (name, [value]) if plain(value) && SAME.iter().any(|(same, _)| *same == name) => {
                let same = SAME.iter().find(|(same, _)| *same == name);
                snippet.annotations.extend(same.map(|(_, row)| (*row, (*value).to_owned())));
                Some(())
            }
            (name, _) => NOTHING.contains(&name).then_some(()),
        };
        known.ok_or_else(|| words.join(" "))?;
    }
    // Here a field is for every protocol.
    if let Some([name, value]) =
        of_grpc.into_iter().find(|[name, value]| !snippet.sets(name, value))
    {
        return Err(format!("grpc_set_header {name} {value}"));
    }
    snippet.annotations.extend(clients.annotation()?);
    Ok(snippet)
}

impl Snippet {
    /// What it asks for beside annotations.
    pub(super) fn filters(&self) -> impl Iterator<Item = Filter> {
        let mut answer = AnswerFields::default();
        answer.set.clone_from(&self.answer);
        answer.hide.clone_from(&self.hide);
        let answer =
            (answer != AnswerFields::default()).then(|| Filter::AnswerFields(Arc::new(answer)));
        let fixed = |(name, text): &(HeaderName, BackendText)| {
            Some(Filter::SetHeader(name.clone(), text.fixed()?))
        };
        self.request.iter().filter_map(fixed).chain(answer)
    }

    /// The fields of requests.
    pub(super) fn request(&self) -> impl Iterator<Item = (&HeaderName, &BackendText)> {
        self.request.iter().map(|(name, text)| (name, text))
    }

    fn answer_field(&mut self, field: (&str, &str)) -> Option<()> {
        let (name, value) = read_field(field)?;
        // Nothing is filled in.
        let value = HeaderValue::try_from(value).ok().filter(|_| !field.1.contains('$'))?;
        self.answer.push((name, value));
        Some(())
    }

    fn hide(&mut self, name: &str) -> Option<()> {
        // `*` at the end of a name stands for more than one.
        let name = HeaderName::try_from(name.trim()).ok()?;
        let one = !name.as_str().contains('*') && !name.as_str().starts_with('-');
        (may_be_set(&name) && one).then(|| self.hide.push(name))
    }

    fn request_field(&mut self, field: (&str, &str)) -> Option<()> {
        let (name, value) = read_field(field)?;
        let field = (name, BackendText::new(value)?);
        // Who the client is, and how it came, is not an object's to say.
        let own =
            FORWARDED.iter().any(|(name, _)| field.0 == *name) && field.0 != http::header::HOST;
        (!own).then(|| self.request.push(field))
    }

    fn sets(&self, name: &str, value: &str) -> bool {
        says_nothing(name, value)
            || read_field((name, value)).is_some_and(|(name, value)| {
                let text = BackendText::new(value);
                self.request.iter().any(|(set, to)| *set == name && text.as_ref() == Some(to))
            })
    }

    fn redirect(&mut self, code: &str, url: &str) -> Option<()> {
        let [target, status] = match code {
            "301" | "308" => ["permanent-redirect", "permanent-redirect-code"],
            _ => ["temporal-redirect", "temporal-redirect-code"],
        };
        let first = self.annotations.iter().all(|(name, _)| !name.contains("redirect"));
        first.then(|| {
            self.annotations.extend([(target, url.to_owned()), (status, code.to_owned())]);
        })
    }
}

/// The `allow` and `deny` of a snippet: the first one that holds a client counts.
#[derive(Default)]
struct Clients {
    allowed: Vec<String>,
    denied: Vec<String>,
    /// Everybody else is told.
    rest: Option<bool>,
    mixed: bool,
}

impl Clients {
    fn rule(&mut self, name: &str, network: &str) -> Option<()> {
        if self.rest.is_some() || network.contains('$') {
            return None;
        }
        let allows = name == "allow";
        match network {
            "all" => self.rest = Some(allows),
            _ if allows => self.allowed.push(network.to_owned()),
            _ => self.denied.push(network.to_owned()),
        }
        self.mixed = !self.allowed.is_empty() && !self.denied.is_empty();
        Some(())
    }

    /// The list that says the same.
    fn annotation(self) -> Result<Option<(&'static str, String)>, String> {
        match (&*self.allowed, &*self.denied, self.rest) {
            ([], [], None | Some(true)) => Ok(None),
            (allowed, [], Some(false)) if !allowed.is_empty() => {
                Ok(Some(("whitelist-source-range", allowed.join(","))))
            }
            (_, [], None | Some(true)) => Ok(None),
            ([], denied, None | Some(true)) => {
                Ok(Some(("denylist-source-range", denied.join(","))))
            }
            _ => Err("deny".to_owned()),
        }
    }
}

/// A field that an object may set: none of those that say how long a message is.
fn read_field<'f>((name, value): (&str, &'f str)) -> Option<(HeaderName, &'f str)> {
    let (name, value) = (name.trim(), value.trim());
    let given = !value.is_empty() && !name.starts_with('-');
    let name = HeaderName::try_from(name).ok().filter(|_| given)?;
    let own = may_be_set(&name) || name == http::header::HOST;
    own.then_some((name, value))
}

fn says_nothing(name: &str, value: &str) -> bool {
    let known = FORWARDED.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    known.is_some_and(|(_, values)| values.iter().any(|known| known.eq_ignore_ascii_case(value)))
}

/// Does something for each; none of nothing.
fn all(values: &[&str], mut each: impl FnMut(&str) -> Option<()>) -> Option<()> {
    (!values.is_empty()).then_some(())?;
    values.iter().try_for_each(|value| each(value))
}

/// The words of a value that nginx reads as those of one directive.
///
/// # Errors
/// What makes it another thing than words.
pub(super) fn words(value: &str) -> Result<Vec<String>, String> {
    let mut all = directives(&format!("{value}\n;"))?;
    match (all.pop(), &*all) {
        (Some(words), []) => Ok(words),
        _ => Err("a semicolon outside of quotes".to_owned()),
    }
}

/// Takes nginx' syntax apart: words, quoted or not, up to a semicolon; comments up to the end of the line.
///
/// # Errors
/// A block, a quote without an end, or a directive without a semicolon.
fn directives(text: &str) -> Result<Vec<Vec<String>>, String> {
    let (mut all, mut words) = (Vec::new(), Vec::new());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            ';' => all.push(std::mem::take(&mut words)),
            '#' => drop(chars.by_ref().find(|char| *char == '\n')),
            '{' | '}' => return Err(format!("{} {char}", words.join(" ")).trim().to_owned()),
            quote @ ('"' | '\'') => {
                let mut word = String::new();
                loop {
                    match chars.next() {
                        Some(end) if end == quote => break,
                        Some('\\') => match chars.next() {
                            Some(same @ ('"' | '\'' | '\\')) => word.push(same),
                            Some('t') => word.push('\t'),
                            Some('r') => word.push('\r'),
                            Some('n') => word.push('\n'),
                            // The escape is an expression's.
                            other => word.extend(std::iter::once('\\').chain(other)),
                        },
                        Some(char) => word.push(char),
                        None => return Err("a quote without an end".to_owned()),
                    }
                }
                words.push(word);
            }
            space if space.is_whitespace() => {}
            first => {
                let mut word = String::from(first);
                let goes_on = |word: &str, char: char| match char {
                    // A brace begins a block, but where it holds the name of a variable.
                    '{' => word.ends_with('$'),
                    char => char != ';' && !char.is_whitespace(),
                };
                while let Some(char) = chars.next_if(|char| goes_on(&word, *char)) {
                    word.push(char);
                }
                words.push(word);
            }
        }
    }
    if words.is_empty() { Ok(all) } else { Err(words.join(" ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(fields: &[(HeaderName, HeaderValue)]) -> String {
        let fields =
            fields.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        fields.collect::<Vec<_>>().join(", ")
    }

    fn annotations(text: &str, reach: Reach) -> Result<String, String> {
        let all = understand(text, reach)?.annotations.into_iter();
        Ok(all.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn fields_of_answers_and_of_requests_are_read_where_their_values_are_written_out() {
        let text = r#"
            # who may frame us
            more_set_headers "X-Frame-Options: DENY" 'X-Robots-Tag: none';
            add_header Content-Security-Policy "default-src 'self'; img-src *" always;
            proxy_set_header X-Tenant blue;
            proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
            proxy_set_header X-Real-IP $remote_addr;
        "#;
        let snippet = understand(text, Reach::Paths).unwrap();
        assert_eq!(
            fields(&snippet.answer),
            "x-frame-options: DENY, x-robots-tag: none, content-security-policy: default-src 'self'; img-src *"
        );
        let request =
            snippet.request.iter().filter_map(|(name, text)| Some((name.clone(), text.fixed()?)));
        assert_eq!(fields(&request.collect::<Vec<_>>()), "x-tenant: blue");
        assert!(snippet.annotations.is_empty());
    }

    #[test]
    fn what_has_an_annotation_of_its_own_is_that_annotation() {
        for (text, same) in [
            (
                "client_max_body_size 10m; proxy_read_timeout 60s;",
                "proxy-body-size=10m proxy-read-timeout=60s",
            ),
            (
                "return 301 https://b.test$request_uri;",
                "permanent-redirect=https://b.test$request_uri permanent-redirect-code=301",
            ),
            (
                "return 302 https://b.test;",
                "temporal-redirect=https://b.test temporal-redirect-code=302",
            ),
            ("allow 10.0.0.0/8; allow ::1; deny all;", "whitelist-source-range=10.0.0.0/8,::1"),
            ("deny 10.0.0.1; deny 10.0.0.2;", "denylist-source-range=10.0.0.1,10.0.0.2"),
            ("deny 10.0.0.1; allow all;", "denylist-source-range=10.0.0.1"),
            ("allow all;", ""),
            ("proxy_buffering off; proxy_http_version 1.1;", "proxy-buffering=off"),
            (
                r#"proxy_cookie_path ~^/(\w+)$ '/$1; Secure';"#,
                r#"proxy-cookie-path="~^/(\\w+)$" "/$1; Secure""#,
            ),
            ("", ""),
        ] {
            assert_eq!(annotations(text, Reach::Paths).as_deref(), Ok(same), "{text}");
        }
    }

    #[test]
    fn a_snippet_is_understood_in_whole_or_not_at_all() {
        for (text, first) in [
            ("more_set_headers \"X-A: 1\"; auth_basic on;", "auth_basic on"),
            ("if ($http_x) { return 403; }", "if ($http_x) {"),
            ("return 403;", "return 403"),
            ("deny all;", "deny"),
            ("allow 10.0.0.0/8; deny 10.1.0.0/16; deny all;", "deny"),
            ("deny all; allow 10.0.0.0/8;", "allow 10.0.0.0/8"),
            ("more_set_headers \"X-A: $host\";", "more_set_headers X-A: $host"),
            ("proxy_set_header X-A $remote_user;", "proxy_set_header X-A $remote_user"),
            ("proxy_set_header X-A ${};", "proxy_set_header X-A ${}"),
            ("grpc_set_header X-A 1; proxy_set_header X-A 2;", "grpc_set_header X-A 1"),
            ("more_set_headers -s 404 \"X-A: 1\";", "more_set_headers -s 404 X-A: 1"),
            ("add_header X-A \"\";", "add_header X-A "),
            ("proxy_hide_header Content-Length;", "proxy_hide_header Content-Length"),
            ("more_clear_headers \"X-*\";", "more_clear_headers X-*"),
            ("more_clear_headers -s 404 X-A;", "more_clear_headers -s 404 X-A"),
            ("add_header Content-Length 0;", "add_header Content-Length 0"),
            (
                "proxy_set_header X-Forwarded-For 10.0.0.1;",
                "proxy_set_header X-Forwarded-For 10.0.0.1",
            ),
            ("proxy_set_header Authorization $http_x;", "proxy_set_header Authorization $http_x"),
            ("return 301 https://a.test; return 302 https://b.test;", "return 302 https://b.test"),
            ("proxy_read_timeout 60s", "proxy_read_timeout 60s"),
            ("add_header X \"a;", "a quote without an end"),
        ] {
            assert_eq!(annotations(text, Reach::Paths), Err(first.to_owned()), "{text}");
        }
        for text in ["allow 10.0.0.0/8; deny all;", "return 301 https://a.test;"] {
            assert!(annotations(text, Reach::Host).is_err(), "{text}");
        }
    }
}
