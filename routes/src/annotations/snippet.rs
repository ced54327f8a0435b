//! Snippets of nginx that say what has a setting here: read word by word, never executed.
//!
//! A snippet is understood in whole or not at all: what is left out of one could be what protects. A part that says
//! what this gateway does anyway (the fields of WebSockets, forwarding fields) asks for nothing.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::backend_text::BackendText;
use crate::{
    filter::{
        Filter,
        answer_fields::{AnswerFields, may_be_set},
        cases::Case,
        header_edits::HeaderEdit,
    },
    template::Template,
};

mod condition;
mod syntax;

pub(super) use syntax::words;
use syntax::{Directive, directives};

/// What a snippet asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snippet {
    /// Fields of answers.
    pub(super) answer: Vec<(HeaderName, HeaderValue)>,
    /// Fields of the backend's answers that clients do not get.
    pub(super) hide: Vec<HeaderName>,
    /// Fields of requests for the backend.
    pub(super) request: Vec<(HeaderName, BackendText)>,
    /// Fields of requests that the backend does not get.
    pub(super) remove: Vec<HeaderName>,
    /// Requests that are answered at once.
    pub(super) cases: Vec<Case>,
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

/// Most conditions of a snippet: every request of its paths is held against all of them.
const MOST_CASES: usize = 64;

/// Directives that say what happens anyway, or tune nginx.
const NOTHING: [&str; 17] = [
    "access_log",
    "chunked_transfer_encoding",
    "gzip",
    "gzip_comp_level",
    "gzip_min_length",
    "gzip_proxied",
    "gzip_types",
    "gzip_vary",
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
    ("connection", &["", "upgrade", "$connection_upgrade"]),
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
        let words: Vec<&str> = directive.words.iter().map(String::as_str).collect();
        let Some((name, values)) = words.split_first() else { continue };
        if let Some(block) = &directive.block {
            let case = (*name == "if" && reach == Reach::Paths && !snippet.redirects())
                .then(|| condition::case(values, block))
                .flatten();
            snippet.cases.push(case.ok_or_else(|| format!("{} {{", words.join(" ")))?);
            continue;
        }
        let plain = |value: &str| !value.contains('$');
        let known = match (*name, values) {
            ("more_set_headers", fields) => {
                all(fields, |field| snippet.answer_field(field.split_once(':')?))
            }
            ("add_header", [name, value] | [name, value, "always"]) => {
                snippet.answer_field((name, value))
            }
            ("proxy_set_header", [name, value]) if says_nothing(name, value) => Some(()),
            ("proxy_set_header", [name, ""]) => snippet.removed(name),
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
            // Backends are not verified unless somebody asks for it.
            ("proxy_ssl_verify", ["off"]) => Some(()),
            ("proxy_ssl_verify", ["on"]) if reach == Reach::Paths => {
                snippet.annotations.push(("proxy-ssl-verify", "on".to_owned()));
                Some(())
            }
            ("rewrite", values) if reach == Reach::Paths && !snippet.redirects() => {
                condition::rewrite(values).map(|case| snippet.cases.push(case))
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
    if snippet.cases.len() > MOST_CASES {
        return Err(format!("more than {MOST_CASES} conditions"));
    }
    snippet.annotations.extend(clients.annotation()?);
    Ok(snippet)
}

/// Reads a snippet about the question that a service is asked (`auth-snippet`): the fields that it sets there, those left
/// out that are set anyhow. One without a value is not sent.
///
/// # Errors
/// The first thing that has no setting here.
pub(super) fn question(text: &str) -> Result<Vec<(HeaderName, Template)>, String> {
    let mut fields = Vec::new();
    for Directive { words, block } in directives(text)? {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let known = match *words {
            [] if block.is_none() => Some(()),
            ["proxy_set_header", name, value] if block.is_none() => {
                if says_nothing(name, value) && !name.eq_ignore_ascii_case("host") {
                    continue;
                }
                question_field(name, value).map(|field| fields.push(field))
            }
            _ => None,
        };
        known.ok_or_else(|| words.join(" "))?;
    }
    Ok(fields)
}

fn question_field(name: &str, value: &str) -> Option<(HeaderName, Template)> {
    let name = HeaderName::try_from(name.trim()).ok()?;
    let plain = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let own = !may_be_set(&name) || is_forwarded(&name);
    Some((name, Template::parse(value.trim()).ok()?)).filter(|_| plain && !own)
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
        let removed = self.remove.iter().map(|name| HeaderEdit { name: name.clone(), value: None });
        let removed: Arc<[HeaderEdit]> = removed.collect();
        let removed = (!removed.is_empty()).then_some(Filter::EditRequest(removed));
        let cases = (!self.cases.is_empty()).then(|| Filter::Cases(self.cases.clone().into()));
        self.request.iter().filter_map(fixed).chain(removed).chain(answer).chain(cases)
    }

    /// Takes what another one asks for, but for its annotations.
    pub(super) fn extend(&mut self, other: Self) {
        let Self { answer, hide, request, remove, cases, annotations: _ } = other;
        self.answer.extend(answer);
        self.hide.extend(hide);
        self.request.extend(request);
        self.remove.extend(remove);
        self.cases.extend(cases);
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
        let own = is_forwarded(&field.0) && field.0 != http::header::HOST;
        (!own).then(|| self.request.push(field))
    }

    /// The backend does not get the field, whoever sends it.
    fn removed(&mut self, name: &str) -> Option<()> {
        let name = HeaderName::try_from(name.trim()).ok()?;
        (may_be_set(&name) && !is_forwarded(&name)).then(|| self.remove.push(name))
    }

    fn sets(&self, name: &str, value: &str) -> bool {
        says_nothing(name, value)
            || read_field((name, value)).is_some_and(|(name, value)| {
                let text = BackendText::new(value);
                self.request.iter().any(|(set, to)| *set == name && text.as_ref() == Some(to))
            })
    }

    /// Whether every request is sent elsewhere already.
    fn redirects(&self) -> bool {
        self.annotations.iter().any(|(name, _)| name.contains("redirect"))
    }

    fn redirect(&mut self, code: &str, url: &str) -> Option<()> {
        let [target, status] = match code {
            "301" | "308" => ["permanent-redirect", "permanent-redirect-code"],
            _ => ["temporal-redirect", "temporal-redirect-code"],
        };
        (!self.redirects()).then(|| {
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

/// Whether a field says who the client is, or how it came: that is not an object's to say.
fn is_forwarded(name: &HeaderName) -> bool {
    FORWARDED.iter().any(|(known, _)| name == known)
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

#[cfg(test)]
mod tests;
