//! `gatehouse explain`: which rule answers a request, decided as the listener would that it comes to.
//!
//! The table of that listener is found here; what the table says is found in `gatehouse_routes::explain`.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use gatehouse_routes::{
    action::DENY_STATUS,
    explain::{self, Asked, Certificate, ExplainedRule, Explanation, Failure, Refused},
    host,
    matcher::RequestView,
    model::{HostPattern, Scheme, Scope},
    objects::ObjectKey,
    path,
};
use http::{HeaderName, header, request::Parts};
use serde_json::{Value, json};

use super::{Planned, json as rows, json_text, node_context, planned};
use crate::{
    cli::{ExplainArgs, Output},
    compile::{Compiled, ListenerPlan, Protocol},
    text_table::columns,
};

mod port;

/// An explanation, and what belongs around it.
struct Told {
    request: Request,
    /// The listeners that it is for.
    at: String,
    /// Why it is passed on, if it is.
    because: String,
    explanation: Explanation,
    /// Rules that are left out, as they are for other hosts.
    far: usize,
    refused: Vec<Refused>,
}

/// Explains the answer to a request.
///
/// # Errors
/// Manifests that cannot be read, what is no request, an address at which nothing listens.
pub(super) fn run(arguments: &ExplainArgs, out: &mut String) -> anyhow::Result<ExitCode> {
    let all = arguments.paths_and_url.split_last();
    let Some((url, paths)) = all.filter(|(_, paths)| !paths.is_empty()) else {
        bail!("name files or folders of manifests, and the URL of the request behind them");
    };
    let request = Request::parse(url, &arguments.headers, arguments.server_name.as_deref())?;
    let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    let planned = planned(&paths, node_context(&arguments.manifests)?)?;
    for line in &planned.unreadable {
        tracing::warn!("left out: {line}");
    }
    let told = match arrival(&planned.compiled, &request, arguments.gateway.as_ref())? {
        Arrival::Table(table, at) => of_table(&planned, request, (table, at), arguments)?,
        Arrival::Port(port) => {
            let (explanation, because, at) =
                port::explain(&planned.compiled, &request, arguments.client, port);
            Told { request, at, because, explanation, far: 0, refused: Vec::new() }
        }
    };
    let explanation = &told.explanation;
    let broken_off = explanation.passed_on.as_ref().is_some_and(|it| it.broken_off.is_some());
    let failed = explanation.error.is_some() || broken_off;
    match arguments.output {
        Output::Json => json_text(&told.json(), out),
        Output::Table => print(&told, out),
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What the rules of a table say.
fn of_table(
    planned: &Planned,
    request: Request,
    (table, at): (usize, String),
    arguments: &ExplainArgs,
) -> anyhow::Result<Told> {
    let routes = &planned.compiled.routes;
    let asked = Asked { table, ..request.asked(arguments.client) };
    let mut explanation = explain::explain(routes, &asked);
    check_client(&planned.compiled, &asked)?;
    if explanation.passed_on.is_none()
        && let Some(demand) = explain::demand(routes, &asked)
        && let Err(why) = planned.compiled.client_trust.get(demand)
    {
        let reason = format!("no client certificate can be judged: {why}");
        explanation.error = Some(Failure { status: DENY_STATUS, reason });
        // Where authorities are broken, nobody is asked.
        explanation.client_certificate = None;
    }
    let all = explanation.losers.len();
    if !arguments.all {
        explanation.losers.retain(|loser| loser.near);
    }
    let far = all - explanation.losers.len();
    let refused = explain::refused(routes, &planned.state.objects, table, &request.host);
    let because = "TLS of this server name does not end here".to_owned();
    Ok(Told { request, at, because, explanation, far, refused })
}

impl Told {
    fn json(&self) -> Value {
        json!({
            "request": {
                "scheme": self.request.scheme,
                "host": self.request.host,
                "path": self.request.path,
            },
            "listeners": self.at,
            "error": self.explanation.error,
            "passedOn": self.explanation.passed_on,
            "clientCertificate": self.explanation.client_certificate,
            "winner": self.explanation.winner,
            "losers": self.explanation.losers,
            "refused": self.refused,
        })
    }
}

/// The explanation for people.
fn print(told: &Told, out: &mut String) {
    let Told { request, at, because, explanation, far, refused } = told;
    let scheme = match request.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let _ = writeln!(out, "{scheme}://{}{}", request.host, request.path);
    let mut error = explanation.error.as_ref();
    match (&explanation.passed_on, &explanation.winner) {
        (Some(passed), _) => {
            let to = match &*passed.to {
                [] => "nobody".to_owned(),
                to => to.join(", "),
            };
            let object = &passed.object;
            let name = match &passed.host {
                HostPattern::Any => String::new(),
                name => format!(" ({name})"),
            };
            let _ = writeln!(out, "  is passed on as it is by {object}{name}: to {to}");
            let _ = writeln!(out, "  because {because}");
        }
        (None, Some(winner)) => {
            let _ = writeln!(out, "  is answered by {}: {}", rule(winner), winner.action);
            let _ = writeln!(out, "  because {}", winner.reason);
        }
        (None, None) => {
            // What 404 means need not be said.
            let status = error.map_or(404, |error| error.status);
            let _ = writeln!(out, "  is answered by no rule: {status}");
            error = error.filter(|_| status != 404);
        }
    }
    let _ = writeln!(out, "  at {at}");
    if let Some(asked) = &explanation.client_certificate {
        let _ = writeln!(out, "  its client {}", certificate(asked));
    }
    if let Some(error) = error {
        let _ = writeln!(out, "  with {}: {}", error.status, error.reason);
    }
    if let Some(why) = explanation.passed_on.as_ref().and_then(|passed| passed.broken_off) {
        let _ = writeln!(out, "  and broken off: {why}");
    }
    if !refused.is_empty() {
        let _ = writeln!(out, "\nrefused, or not all of it");
        let reasons = |one: &Refused| {
            one.reasons
                .iter()
                .map(|reason| [one.object.to_string(), reason.clone()])
                .collect::<Vec<_>>()
        };
        columns(out, &refused.iter().flat_map(reasons).collect::<Vec<_>>());
    }
    if !explanation.losers.is_empty() {
        let _ = writeln!(out, "\nnot answered by");
        let rows = explanation.losers.iter().map(|loser| [rule(loser), loser.reason.clone()]);
        columns(out, &rows.collect::<Vec<_>>());
    }
    if *far > 0 {
        let _ = writeln!(out, "\n{far} rules of other hosts with --all");
    }
}

/// What the handshake asks of a client. Of what it would show, nothing is known here.
fn certificate(asked: &Certificate) -> String {
    let Certificate { asked_by, verify, depth, subjects, revocation_lists, without } = asked;
    let by = asked_by.as_ref().map(|object| format!(" by {object}")).unwrap_or_default();
    let depth = format!(", at most {depth} between it and an authority");
    let subjects = subjects.as_ref().map(|it| format!(", subject {it}")).unwrap_or_default();
    let lists = if *revocation_lists { ", and not taken back" } else { "" };
    format!(
        "is asked for a certificate{by} ({verify}{depth}{subjects}{lists}); without one: {without}"
    )
}

fn rule(rule: &ExplainedRule) -> String {
    let ExplainedRule { object, host, path, match_kind, .. } = rule;
    format!("{object} ({host} {match_kind} {path})").replace(" )", ")")
}

/// Fails where a client gets no further than to connect.
fn check_client(compiled: &Compiled, asked: &Asked<'_>) -> anyhow::Result<()> {
    let scope = compiled.routes.tables.get(asked.table).map(|table| &table.scope);
    let (Some(Scope::Gateway(service)), Some(client)) = (scope, asked.client) else {
        return Ok(());
    };
    let sources = compiled.source_ranges.get(service);
    if sources.is_some_and(|sources| !sources.contains(client)) {
        bail!(
            "connections of {client} are reset: they are in none of the networks of Service {service}"
        );
    }
    Ok(())
}

/// Where a request comes in.
enum Arrival<'c> {
    /// A listener with this table, and which one that is in words.
    Table(usize, String),
    /// A port of a Service.
    Port(port::Port<'c>),
}

/// Where a request comes in.
fn arrival<'c>(
    compiled: &'c Compiled,
    request: &Request,
    gateway: Option<&ObjectKey>,
) -> anyhow::Result<Arrival<'c>> {
    let tables = &compiled.routes.tables;
    let at = |scope: &Scope| tables.iter().position(|table| table.scope == *scope);
    if let Some(key) = gateway {
        let table = at(&Scope::Gateway(key.clone()));
        let table = table.with_context(|| format!("no class of ours has {key} as its gateway"))?;
        return Ok(Arrival::Table(table, format!("gateway {key}")));
    }
    if let Some(ip) = request.address {
        let address = SocketAddr::new(ip, request.port);
        if let Some(port) = port::at(compiled, address) {
            return Ok(Arrival::Port(port));
        }
        let listener = listener(compiled, request, address)?;
        let table = at(&listener.scope).unwrap_or_default();
        return Ok(Arrival::Table(table, told(&listener.scope)));
    }
    let speaks = compiled.listeners.iter().filter(|one| one.protocol == request.protocol());
    let same_port = speaks.clone().filter(|one| one.address.port() == request.port);
    let has_name = |one: &ListenerPlan| {
        let table = at(&one.scope).and_then(|table| tables.get(table));
        table.is_some_and(|table| table.routes.has_name(&request.host))
    };
    let is_web = same_port.clone().next().is_some();
    let served = speaks.clone().any(has_name);
    if let Some(port) = port::by_name(compiled, request, (served, is_web)) {
        return Ok(Arrival::Port(port));
    }
    let mut scopes: Vec<&Scope> = Vec::new();
    for listener in if same_port.clone().next().is_some() {
        same_port.collect()
    } else {
        speaks.collect::<Vec<_>>()
    } {
        if !scopes.contains(&&listener.scope) {
            scopes.push(&listener.scope);
        }
    }
    // A name says of no address where it leads: to the gateway that knows it.
    let knows = |scope: &&&Scope| {
        let table = at(scope).and_then(|table| tables.get(table));
        **scope != &Scope::Plain
            && table.is_some_and(|table| table.routes.host_for(&request.host).is_some())
    };
    let knowing: Vec<_> = scopes.iter().filter(knows).collect();
    let chosen =
        knowing.first().copied().or_else(|| scopes.iter().find(|one| ***one == Scope::Plain));
    let Some(scope) = chosen.or_else(|| scopes.first()) else {
        return Ok(Arrival::Table(0, "no listener: there is none for this scheme".into()));
    };
    let others = match knowing.len() {
        0 | 1 => String::new(),
        many => format!(" ({} more know the host: choose with --gateway)", many - 1),
    };
    Ok(Arrival::Table(at(scope).unwrap_or_default(), told(scope) + &others))
}

/// The listener of an address: the one for it alone before the one for all.
fn listener<'c>(
    compiled: &'c Compiled,
    request: &Request,
    address: SocketAddr,
) -> anyhow::Result<&'c ListenerPlan> {
    let everywhere = |ip: IpAddr| ip.is_unspecified() && ip.is_ipv4() == address.is_ipv4();
    let listeners = || compiled.listeners.iter().filter(|one| one.protocol != Protocol::Udp);
    let own = listeners().find(|one| one.address == address);
    let any = || {
        let port = |one: &&ListenerPlan| one.address.port() == address.port();
        listeners().filter(port).find(|one| everywhere(one.address.ip()))
    };
    let Some(listener) = own.or_else(any) else {
        let all: Vec<_> = listeners().map(|one| one.address.to_string()).collect();
        bail!("nothing listens on {address}; there is {}", all.join(", "));
    };
    if listener.protocol != request.protocol() {
        let (other, scheme) = match listener.protocol {
            Protocol::Http => ("clear text", "http"),
            Protocol::Https => ("TLS", "https"),
            // Of a port of a Service, which is found above.
            Protocol::Tcp | Protocol::Tls | Protocol::Udp => {
                bail!("connections to {address} are passed on, whatever is asked")
            }
        };
        bail!("the listener of {address} speaks {other}: write {scheme}://");
    }
    Ok(listener)
}

fn told(scope: &Scope) -> String {
    match scope {
        Scope::Plain => "plain addresses".to_owned(),
        Scope::Gateway(key) => format!("gateway {key}"),
    }
}

/// A request as the router would see it.
struct Request {
    scheme: Scheme,
    /// The address that the URL names, if it names one.
    address: Option<IpAddr>,
    port: u16,
    /// Canonical.
    host: String,
    /// Canonical; of a handshake that is not for the host of the URL.
    handshake: Option<String>,
    /// Canonical.
    path: String,
    encoded_slash: bool,
    /// As it would come in.
    parts: Parts,
}

impl Request {
    fn parse(url: &str, headers: &[String], handshake: Option<&str>) -> anyhow::Result<Self> {
        let shape = "write it as http://host/path or https://host/path";
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
            _ if Path::new(url).exists() => anyhow::bail!("{url} is a file, the URL comes last"),
            _ => anyhow::bail!("\"{url}\" is not a URL: {shape}"),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (mut parts, ()) = http::Request::new(()).into_parts();
        let (url_host, port) = split_port(authority, scheme)?;
        let bare = url_host.trim_start_matches('[').trim_end_matches(']');
        let address = bare.parse::<IpAddr>().ok();
        let mut name = authority;
        for line in headers {
            let refused = || format!("header \"{line}\" is not NAME: VALUE");
            let (field, value) = line.split_once(':').with_context(refused)?;
            let field: HeaderName = field.trim().parse().with_context(refused)?;
            if field == header::HOST {
                name = value.trim();
            }
            parts.headers.append(field, value.trim().parse().with_context(refused)?);
        }
        let host = host::canonical(without_port(name))
            .with_context(|| format!("\"{name}\" is not a host name: {shape}"))?;
        let handshake = handshake.map(|name| {
            let canonical = host::canonical(name).map(|name| name.into_owned());
            canonical.with_context(|| format!("\"{name}\" is no server name"))
        });
        let target = target.split('#').next().unwrap_or_default();
        let (raw, query) = target.split_once('?').map_or((target, None), |(a, b)| (a, Some(b)));
        let raw = if raw.is_empty() { "/" } else { raw };
        let path = path::canonical(raw).with_context(|| format!("\"{raw}\" would be refused"))?;
        let target = query.map_or_else(|| raw.to_owned(), |query| format!("{raw}?{query}"));
        parts.uri = target.parse().with_context(|| format!("\"{target}\" would be refused"))?;
        Ok(Self {
            scheme,
            address,
            port,
            host: host.into_owned(),
            handshake: handshake.transpose()?,
            encoded_slash: path.encoded_slash,
            path: path.matched.into_owned(),
            parts,
        })
    }

    fn protocol(&self) -> Protocol {
        match self.scheme {
            Scheme::Http => Protocol::Http,
            Scheme::Https => Protocol::Https,
        }
    }

    /// The request as the first table would be asked.
    fn asked(&self, client: Option<IpAddr>) -> Asked<'_> {
        let (view, server_name) = (self.view(), self.server_name());
        Asked { table: 0, view, encoded_slash: self.encoded_slash, client, server_name }
    }

    /// The name that its handshake is made for.
    fn server_name(&self) -> Option<&str> {
        // An address is no server name.
        let of_url = || self.address.is_none().then_some(&*self.host);
        let is_tls = self.scheme == Scheme::Https;
        is_tls.then(|| self.handshake.as_deref().or_else(of_url)).flatten()
    }

    /// Whether the port is the one that a URL of its scheme need not name.
    fn is_default_port(&self) -> bool {
        matches!((self.scheme, self.port), (Scheme::Http, 80) | (Scheme::Https, 443))
    }

    fn view(&self) -> RequestView<'_> {
        RequestView { scheme: self.scheme, host: &self.host, path: &self.path, parts: &self.parts }
    }
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Host and port of the authority of a URL.
fn split_port(authority: &str, scheme: Scheme) -> anyhow::Result<(&str, u16)> {
    let host = without_port(authority);
    let port = authority[host.len()..].trim_start_matches(':');
    match (port, scheme) {
        ("", Scheme::Http) => Ok((host, 80)),
        ("", Scheme::Https) => Ok((host, 443)),
        (port, _) => Ok((host, port.parse().with_context(|| format!("\"{port}\" is not a port"))?)),
    }
}
