//! `migrate --shadow`: requests are sent to the controller that serves today, and its answers are laid beside what
//! this gateway would answer by its table.
//!
//! Only `GET` and `HEAD` are sent, only to the address that is given, so many and so fast at most; redirects are
//! compared, never followed. What the backends say is theirs, and not compared unless `--beside` names a gateway that
//! runs: then its answers are compared whole.

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use gatehouse_routes::{
    action::{Action, DENY_STATUS},
    filter::Filter,
    host,
    matcher::{PathMatch, RequestView},
    model::{HostPattern, Scheme},
    path,
    rule::RouteRule,
};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use serde::Serialize;

use super::{Planned, place::Place};
use crate::{cli::ShadowArgs, regular_file, text_table::columns};

/// Longest that one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of the head of an answer.
const MAX_HEAD: usize = 64 * 1024;
/// Requests in a row without an answer, before the first one, that show that nobody answers there.
const SILENT: usize = 3;
/// Fields of answers that are compared besides the status and `Location`.
const FIELDS: [HeaderName; 5] = [
    header::WWW_AUTHENTICATE,
    header::STRICT_TRANSPORT_SECURITY,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::CONTENT_ENCODING,
];
/// A label for hosts of which there are many.
const ANY: &str = "gatehouse-shadow";

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ask {
    host: String,
    target: String,
    method: &'static str,
}

/// What came of all requests.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shadowed {
    asked: usize,
    /// Requests that were not sent, as there were too many or no time was left.
    left_out: usize,
    pub(super) differences: Vec<Difference>,
}

/// A request that is answered otherwise.
#[derive(Debug, Serialize)]
pub(super) struct Difference {
    request: String,
    /// Which part of the answer.
    what: String,
    today: String,
    here: String,
}

/// The head of an answer.
struct Answer {
    status: u16,
    fields: HeaderMap,
}

/// What this gateway would answer.
enum Here {
    /// This, of itself.
    Own { status: u16, location: Option<String> },
    /// What the backend answers, or what cannot be told from the table.
    Backend,
}

impl std::fmt::Display for Here {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Own { status, .. } => write!(f, "{status}"),
            Self::Backend => f.write_str("that of the backend"),
        }
    }
}

/// Sends the requests and compares.
///
/// # Errors
/// A URL that is no address, a list that cannot be read, or an address that answers nothing at all.
pub(super) fn run(arguments: &ShadowArgs, planned: &Planned) -> anyhow::Result<Option<Shadowed>> {
    let Some(url) = &arguments.shadow else { return Ok(None) };
    let today = Place::parse(url, arguments.insecure)?;
    let beside = arguments.beside.as_deref().map(|url| Place::parse(url, arguments.insecure));
    let beside = beside.transpose()?;
    let mut asks = match &arguments.requests {
        None => derived(planned),
        Some(file) => {
            let text = regular_file::read_to_string(file);
            listed(&text.with_context(|| format!("cannot read {}", file.display()))?)?
        }
    };
    let all = asks.len();
    asks.truncate(arguments.shadow_limit);
    let (mut shadowed, mut silent) = (Shadowed::default(), 0);
    let (began, pause) = (Instant::now(), Duration::from_secs(1) / arguments.shadow_rate.max(1));
    for ask in &asks {
        if began.elapsed() > Duration::from_secs(arguments.shadow_time) {
            break;
        }
        let next = Instant::now() + pause;
        let answer = match ask.send(&today) {
            Ok(answer) => answer,
            Err(why) => {
                silent += 1;
                if silent == shadowed.asked + 1 && (silent == SILENT || silent == asks.len()) {
                    return Err(why.context(format!("{url} does not answer {ask}")));
                }
                let (request, what) = (ask.to_string(), "answer".to_owned());
                let here = match &beside {
                    Some(_) => "see --beside".to_owned(),
                    None => here(planned, ask, today.scheme()).to_string(),
                };
                let today = format!("none: {why:#}");
                shadowed.differences.push(Difference { request, what, today, here });
                shadowed.asked += 1;
                thread::sleep(next.saturating_duration_since(Instant::now()));
                continue;
            }
        };
        let mut note = |what: &str, today: String, here: String| {
            if today != here {
                let (request, what) = (ask.to_string(), what.to_owned());
                shadowed.differences.push(Difference { request, what, today, here });
            }
        };
        match &beside {
            Some(beside) => {
                let here =
                    ask.send(beside).with_context(|| format!("--beside: no answer to {ask}"))?;
                note("status", answer.status.to_string(), here.status.to_string());
                for name in [header::LOCATION].iter().chain(&FIELDS) {
                    note(name.as_str(), answer.text(name), here.text(name));
                }
            }
            None => match here(planned, ask, today.scheme()) {
                Here::Own { status, location } => {
                    note("status", answer.status.to_string(), status.to_string());
                    if let Some(location) = location {
                        note("location", answer.text(&header::LOCATION), location);
                    }
                }
                Here::Backend if answer.is_the_controllers() => {
                    note("status", answer.status.to_string(), "that of the backend".to_owned());
                }
                Here::Backend => {}
            },
        }
        shadowed.asked += 1;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    shadowed.left_out = all - shadowed.asked;
    Ok(Some(shadowed))
}

/// The comparison for people.
pub(super) fn print(shadowed: &Shadowed, out: &mut String) {
    let Shadowed { asked, left_out, differences } = shadowed;
    let _ = writeln!(out, "\nshadow: {asked} requests, {} answered otherwise", differences.len());
    if *left_out > 0 {
        let _ = writeln!(out, "{left_out} more were not sent: --shadow-limit, --shadow-time");
    }
    let row = |it: &Difference| {
        [
            it.request.clone(),
            it.what.clone(),
            format!("today {}", it.today),
            format!("here {}", it.here),
        ]
    };
    columns(out, &differences.iter().map(row).collect::<Vec<_>>());
}

/// Every path of every host, and one that no rule has.
fn derived(planned: &Planned) -> Vec<Ask> {
    let mut asks = Vec::new();
    for (pattern, routes) in planned.compiled.routes.tables.iter().flat_map(|it| it.routes.hosts())
    {
        let host = match &pattern {
            HostPattern::Exact(host) => host.to_string(),
            HostPattern::OneLabel(rest) => format!("{ANY}.{rest}"),
            HostPattern::Any => format!("{ANY}.invalid"),
        };
        let mut ask = |target: String| {
            asks.push(Ask { host: host.clone(), target, method: "GET" });
        };
        ask("/".to_owned());
        ask(format!("/{ANY}"));
        for rule in routes.rules() {
            let path = &rule.matches.path;
            let text = path.text();
            let literal = text.split(['(', '[', '.', '*', '+', '?', '\\', '$', '|', '{']).next();
            let path = match path {
                PathMatch::Regex(_) => literal.unwrap_or_default().trim_start_matches('^'),
                _ => text,
            };
            if path.starts_with('/') {
                ask(path.to_owned());
                ask(format!("{}/{ANY}?a=b", path.trim_end_matches('/')));
            }
        }
    }
    asks.sort();
    asks.dedup();
    asks
}

/// A list of requests: `[METHOD] HOST/PATH` or a URL in each line. Only its host and its path count.
fn listed(text: &str) -> anyhow::Result<Vec<Ask>> {
    let lines = text.lines().map(str::trim).zip(1..);
    let lines = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(line, number)| ask(line).with_context(|| format!("line {number}: {line:?}")))
        .collect()
}

fn ask(line: &str) -> anyhow::Result<Ask> {
    let (method, url) = match line.split_once(char::is_whitespace) {
        Some(("HEAD", url)) => ("HEAD", url.trim()),
        Some(("GET", url)) => ("GET", url.trim()),
        Some((other, _)) => bail!("method {other:?} is not sent: write GET or HEAD"),
        None => ("GET", line),
    };
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (host, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let target = if target.is_empty() { "/" } else { target };
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    ensure!(!host.is_empty() && plain(host) && plain(target), "it is no request");
    Ok(Ask { host: host.to_owned(), target: target.to_owned(), method })
}

impl std::fmt::Display for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}{}", self.method, self.host, self.target)
    }
}

impl Ask {
    /// Sends it on a connection of its own and reads the head of the answer.
    fn send(&self, to: &Place) -> anyhow::Result<Answer> {
        let Self { host, target, method } = self;
        let name = host.rsplit_once(':').map_or(&**host, |(name, _)| name);
        let mut stream = to.open(name, PATIENCE)?;
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {ANY}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        let until = Instant::now() + PATIENCE;
        let (mut read, mut part) = (Vec::new(), [0; 4096]);
        loop {
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                // What comes before the answer is not the answer (RFC 9110 §15.2).
                if matches!(read.get(8..12), Some([b' ', b'1', ..])) {
                    read.drain(..end + 4);
                    continue;
                }
                read.truncate(end);
                break;
            }
            ensure!(
                read.len() <= MAX_HEAD && Instant::now() < until,
                "the head of its answer does not end"
            );
            match stream.read(&mut part)? {
                0 => bail!("it closes the connection"),
                bytes => read.extend_from_slice(&part[..bytes]),
            }
        }
        let text = String::from_utf8_lossy(&read);
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let fields = lines.filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value.trim()).ok()?))
        });
        Ok(Answer { status: status.context("it does not speak HTTP")?, fields: fields.collect() })
    }
}

impl Answer {
    fn text(&self, name: &HeaderName) -> String {
        let values =
            self.fields.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        let values = values.collect::<Vec<_>>();
        if values.is_empty() { "-".to_owned() } else { values.join(", ") }
    }

    /// Whether it is probably not a backend's: a redirect to https, or an error without a word of its sender's own.
    fn is_the_controllers(&self) -> bool {
        let redirect = matches!(self.status, 301 | 302 | 307 | 308)
            && self.text(&header::LOCATION).starts_with("https://");
        redirect || matches!(self.status, 503 | 413)
    }
}

/// What the table says: that of the gateway that has the host, if there are several.
fn here(planned: &Planned, ask: &Ask, scheme: Scheme) -> Here {
    let own = |status| Here::Own { status, location: None };
    let name = ask.host.rsplit_once(':').map_or(&*ask.host, |(name, _)| name);
    let (Some(host), Ok(uri)) = (host::canonical(name), ask.target.parse::<Uri>()) else {
        return own(400);
    };
    let tables = &planned.compiled.routes.tables;
    let has_host = tables.iter().find(|table| table.routes.host_for(&host).is_some());
    let Some(table) = has_host.or_else(|| tables.first()) else { return own(404) };
    let Ok(path) = path::canonical(uri.path()) else { return own(400) };
    let mut request = http::Request::new(());
    *request.uri_mut() = uri.clone();
    let (parts, ()) = request.into_parts();
    let view = RequestView { scheme, host: &host, path: &path.matched, parts: &parts };
    match table.routes.lookup(&view) {
        Some(matched) => of_rule(matched.rule, ask, scheme),
        None => {
            let routes_only = table.routes.host_for(&host).is_some_and(|host| host.of_routes());
            own(if routes_only { 503 } else { 404 })
        }
    }
}

fn of_rule(rule: &RouteRule, ask: &Ask, scheme: Scheme) -> Here {
    if let Some(redirect) = rule.redirect(scheme) {
        let name = ask.host.rsplit_once(':').map_or(&*ask.host, |(name, _)| name);
        let target = match redirect.trim_slash {
            true => ask.target.strip_suffix('/').unwrap_or(&ask.target),
            false => &ask.target,
        };
        let location = Some(format!("https://{name}{target}"));
        return Here::Own { status: redirect.status, location };
    }
    for filter in rule.filters.iter() {
        match filter {
            Filter::Authenticate(it) if it.any.is_none() && it.basic.is_some() => {
                return Here::Own { status: 401, location: None };
            }
            // Who asks, or another service, says what comes of it.
            Filter::Authenticate(_)
            | Filter::Access(_)
            | Filter::Cases(_)
            | Filter::ErrorPages(_) => return Here::Backend,
            _ => {}
        }
    }
    match &rule.action {
        Action::Deny { .. } => Here::Own { status: DENY_STATUS, location: None },
        Action::Redirect(redirect) => Here::Own { status: redirect.status, location: None },
        Action::Forward(_) => Here::Backend,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_holds_requests_that_change_nothing() {
        let asks = listed("# a\n\nHEAD https://a.test/x?y\n b.test \nGET c.test/z\n").unwrap();
        let asks: Vec<_> = asks.iter().map(Ask::to_string).collect();
        assert_eq!(asks, ["HEAD a.test/x?y", "GET b.test/", "GET c.test/z"]);
        for line in ["POST a.test/", "/path", "GET a.test/x y", "a.test/\u{7f}"] {
            assert!(listed(line).is_err(), "{line}");
        }
    }
}
