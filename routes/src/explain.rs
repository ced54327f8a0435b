//! Which rule answers a request, and why the others do not.
//!
//! Behind `gatehouse explain`. The winner comes from the very lookup that the data path does; the rest of
//! this file only finds words for the losers. Rules that an older object keeps out are among them.

use std::{net::IpAddr, sync::Arc};

use serde::Serialize;

use crate::{
    action::{Action, DENY_STATUS, WeightedBackend},
    canary::Canary,
    compile::Compiled,
    encoded_slash,
    filter::{Filter, cases::Answer},
    host,
    matcher::{PathMatch, RequestView},
    model::{HostPattern, Scheme},
    objects::ObjectRef,
    rule::RouteRule,
    table::{HostRoutes, Matched, RouteTable},
};

mod besides;
mod connection;
mod refused;

pub use besides::{besides, requires};
pub use connection::{Certificate, PassedOn, demand};
pub use refused::{Refused, refused};

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'r> {
    /// Which table of the compile is asked: that of the listener that the request comes to.
    pub table: usize,
    /// The request.
    pub view: RequestView<'r>,
    /// Its path holds an encoded slash.
    pub encoded_slash: bool,
    /// Where it comes from, if that is to count.
    pub client: Option<IpAddr>,
    /// The canonical name that its handshake is made for.
    pub server_name: Option<&'r str>,
}

/// An answer of our own that says that something is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Of the answer.
    pub status: u16,
    /// Why.
    pub reason: String,
}

/// The rules that a request may meet.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// What the client gets instead of an answer.
    pub error: Option<Failure>,
    /// Its connection is passed on, and no rule is asked.
    pub passed_on: Option<PassedOn>,
    /// What its client is asked for.
    pub client_certificate: Option<Certificate>,
    /// The rule that answers; none: 404 or 503.
    pub winner: Option<ExplainedRule>,
    /// All other rules of the table, the nearest first.
    pub losers: Vec<ExplainedRule>,
}

/// One rule and its part in the answer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedRule {
    /// The object it comes from.
    pub object: ObjectRef,
    /// Its host.
    pub host: HostPattern,
    /// Its path as the object spells it.
    pub path: String,
    /// How the path is compared.
    pub match_kind: &'static str,
    /// What it does, in a few words.
    pub action: String,
    /// Why it answers or does not.
    pub reason: String,
    /// It is for this host.
    #[serde(skip)]
    pub near: bool,
}

/// Explains the answer to a request.
pub fn explain(compiled: &Compiled, asked: &Asked<'_>) -> Explanation {
    let view = asked.view;
    let Some(table) = compiled.tables.get(asked.table).map(|table| &*table.routes) else {
        return Explanation { error: Some(no_rule()), ..Explanation::default() };
    };
    if let Some(passed_on) = connection::passed_on(compiled, asked) {
        let losers = table.hosts().flat_map(|(_, host)| host.rules()).map(|rule| {
            let reason = "TLS of the host is passed on as it is".to_owned();
            explained(rule, &view, reason)
        });
        let losers = losers.collect();
        return Explanation { passed_on: Some(passed_on), losers, ..Explanation::default() };
    }
    let request = Request { view, table, winner: table.lookup(&view) };
    let mut hosts: Vec<&Arc<HostRoutes>> = table.hosts().map(|(_, host)| host).collect();
    hosts.sort_by_key(|entry| request.distance(entry.pattern()));
    let losers = hosts.into_iter().flat_map(|entry| request.losers(entry)).collect();
    let winner = request.winner.map(|winner| {
        let why = request.why_it_answers(&winner);
        let instead = request.stand_in(compiled, winner.rule).map(|(standing, _)| standing);
        let mut told = explained(winner.rule, &view, why + &instead.unwrap_or_default());
        told.action.push_str(connection::required(table, &view, winner));
        told
    });
    let found = request.winner;
    let client_certificate = found.and_then(|found| connection::certificate(table, &view, found));
    let error = request.error(compiled, asked);
    Explanation { error, passed_on: None, client_certificate, winner, losers }
}

/// Whether one of them gets requests and has an endpoint.
fn answers(compiled: &Compiled, backends: &[WeightedBackend]) -> bool {
    backends.iter().any(|one| {
        let backend = compiled.backends.get(one.slot);
        one.weight > 0 && backend.is_some_and(|backend| !backend.endpoints.is_empty())
    })
}

fn no_rule() -> Failure {
    Failure { status: 404, reason: "no rule is for this host and path".into() }
}

fn unserved() -> Failure {
    let reason = "only Routes name this host, and none of them is for this path and scheme";
    Failure { status: 503, reason: reason.into() }
}

struct Request<'t> {
    view: RequestView<'t>,
    table: &'t RouteTable,
    winner: Option<Matched<'t>>,
}

impl<'t> Request<'t> {
    /// What goes wrong once the winner is found, in the order of the data path.
    fn error(&self, compiled: &Compiled, asked: &Asked<'_>) -> Option<Failure> {
        if connection::is_passed_on(compiled, asked.table, &self.view) {
            let reason =
                "TLS of the host is passed on as it is, and that of this server name ends here"
                    .into();
            return Some(Failure { status: 421, reason });
        }
        let Some(winner) = &self.winner else {
            let host = self.table.host_for(self.view.host);
            return Some(if host.is_some_and(|host| host.of_routes()) {
                unserved()
            } else {
                no_rule()
            });
        };
        if winner.overrun {
            let reason = "the expression takes too many steps to say whether it matches".into();
            return Some(Failure { status: 500, reason });
        }
        let rule = &**winner.rule;
        let failure = |status, reason: &str| Some(Failure { status, reason: reason.to_owned() });
        if asked.encoded_slash && !encoded_slash::admits(self.table, &self.view, rule) {
            return failure(
                400,
                "a server that decodes the encoded slash would see the path of another rule",
            );
        }
        if connection::lacks_certificate(self.table, &self.view, *winner) {
            return failure(
                400,
                "the host asks for a client certificate, and in clear text nobody has one",
            );
        }
        if connection::is_misdirected(self.table, (&self.view, asked.server_name), *winner) {
            return failure(
                421,
                "the handshake is made for another server name, of which other client certificates are asked",
            );
        }
        let refuses = |filter: &Filter| match filter {
            Filter::Access(rules) => asked.client.is_some_and(|client| !rules.admit(client)),
            _ => false,
        };
        let case = rule.answer_of_case(&self.view, asked.client);
        match &rule.action {
            _ if rule.redirect(self.view.scheme).is_some() => None,
            _ if rule.filters.iter().any(refuses) => {
                failure(403, "the addresses that may pass do not hold the client's")
            }
            Action::Deny { reason, .. } => failure(DENY_STATUS, reason),
            _ if case.is_some() => match case {
                Some(Answer::Refuse(status)) => {
                    failure(*status, "it meets a condition of the object's snippet")
                }
                _ => None,
            },
            Action::Redirect(_) => None,
            Action::Forward(forward) if answers(compiled, &forward.spec.backends) => None,
            Action::Forward(forward) => match self.stand_in(compiled, rule) {
                Some((_, true)) => None,
                Some((_, false)) => failure(
                    503,
                    "neither a backend of it nor what stands in for them has a ready endpoint",
                ),
                None if forward.spec.backends.iter().all(|one| one.weight == 0) => {
                    failure(503, "no backend of it has a weight")
                }
                None => failure(503, "no backend of it has a ready endpoint"),
            },
        }
    }

    /// Who stands in for the backends of a rule, which have no endpoint, and whether it has one; `None`: nobody has
    /// to, or there is nobody.
    fn stand_in(&self, compiled: &Compiled, rule: &RouteRule) -> Option<(String, bool)> {
        let forward = rule.forward().filter(|_| rule.redirect(self.view.scheme).is_none())?;
        let stand_in = rule.stand_in().filter(|_| !answers(compiled, &forward.spec.backends))?;
        let ready = answers(compiled, std::slice::from_ref(stand_in));
        let standing = match ready {
            true => {
                format!("; as none of its backends has a ready endpoint, {} answers", stand_in.key)
            }
            false => String::new(),
        };
        Some((standing, ready))
    }

    /// 0 for the host's own entry, more the farther away.
    fn distance(&self, pattern: &HostPattern) -> usize {
        let mut nearest = self.table.entries_for(self.view.host);
        nearest.position(|entry| entry.pattern() == pattern).unwrap_or(usize::MAX)
    }

    fn losers(&self, entry: &'t HostRoutes) -> Vec<ExplainedRule> {
        let answers =
            |rule: &Arc<RouteRule>| self.winner.is_some_and(|w| Arc::ptr_eq(w.rule, rule));
        let served = entry
            .rules()
            .filter(|rule| !answers(rule))
            .map(|rule| explained(rule, &self.view, self.why_not(entry, rule)));
        let lost = entry.lost().iter().map(|lost| {
            let owner = &lost.owner.object;
            let reason = if *owner == lost.rule.object {
                "the same object has this host and path already".to_owned()
            } else if lost.owner.guards().is_some() {
                format!("{owner} has this host and path, and a protection that is not in force")
            } else {
                format!("{owner} has this host and path and is older")
            };
            explained(&lost.rule, &self.view, reason)
        });
        served.chain(lost).collect()
    }

    fn why_it_answers(&self, winner: &Matched<'_>) -> String {
        let host = match &winner.rule.host {
            named if !host::matches(named, self.view.host) => "the host is an alias of its host",
            HostPattern::Exact(_) => "the host is named",
            HostPattern::OneLabel(_) => "the wildcard covers the host, which has no nearer rule",
            HostPattern::Any => "the host has no rule of its own",
        };
        let path = match &winner.rule.matches.path {
            PathMatch::Exact(_) => "the path is exactly this",
            PathMatch::Prefix(_) | PathMatch::RoutePrefix(_) => {
                "it is the longest prefix of the path"
            }
            PathMatch::Regex(_) => "it is the longest expression that matches the path",
            PathMatch::Default => "no path of the host matches",
        };
        format!("{host}, and {path}")
    }

    fn why_not(&self, entry: &HostRoutes, rule: &RouteRule) -> String {
        if let Some(reason) = self.why_not_the_host(entry) {
            return reason;
        }
        if !rule.serves(self.view.scheme) {
            return match self.view.scheme {
                Scheme::Http => "not served in clear text".into(),
                Scheme::Https => "not served over TLS".into(),
            };
        }
        // Whether the path matches is asked of a table that holds nothing else.
        if !entry.alone_matches(rule, self.view.path) {
            return match &rule.matches.path {
                PathMatch::Exact(_) => "the path is not exactly this".into(),
                PathMatch::Prefix(_) => "not a prefix of the path, element by element".into(),
                PathMatch::RoutePrefix(_) => "not a prefix of the path".into(),
                PathMatch::Regex(_) => "the expression does not match the path".into(),
                PathMatch::Default => "only for paths that no rule matches".into(),
            };
        }
        match &self.winner {
            Some(winner) => format!(
                "matches, but {} {} of {} is more specific",
                winner.rule.matches.path.kind(),
                winner.rule.matches.path.text(),
                winner.rule.object
            ),
            None => "matches, but a nearer host keeps the request".into(),
        }
    }

    /// Why no rule of this entry answers, if so.
    fn why_not_the_host(&self, entry: &HostRoutes) -> Option<String> {
        let pattern = entry.pattern();
        if self.distance(pattern) == usize::MAX {
            return Some(match pattern {
                HostPattern::OneLabel(rest) if self.view.host.ends_with(&format!(".{rest}")) => {
                    format!("host does not match: {pattern} covers exactly one label")
                }
                _ => "host does not match".into(),
            });
        }
        let nearest = self.table.entries_for(self.view.host);
        for nearer in nearest.take_while(|nearer| nearer.pattern() != pattern) {
            let name = &nearer.name;
            if self.winner.is_some_and(|winner| Arc::ptr_eq(winner.host, nearer)) {
                return Some(format!("host {name} is more specific and answers"));
            }
            if nearer.no_fallthrough() {
                return Some(format!("host {name} has an Ingress, which keeps its requests"));
            }
        }
        None
    }
}

fn explained(rule: &RouteRule, view: &RequestView<'_>, reason: String) -> ExplainedRule {
    ExplainedRule {
        object: rule.object.clone(),
        host: rule.host.clone(),
        path: rule.matches.path.text().to_owned(),
        match_kind: rule.matches.path.kind(),
        action: describe(rule, view),
        reason,
        near: host::matches(&rule.host, view.host),
    }
}

/// What becomes of a request, in a few words.
fn describe(rule: &RouteRule, view: &RequestView<'_>) -> String {
    let scheme = view.scheme;
    if !rule.serves(scheme) {
        return "not served".into();
    }
    if let Some(redirect) = rule.redirect(scheme) {
        return format!("redirect to https ({})", redirect.status);
    }
    match rule.answer_of_case(view, None) {
        Some(Answer::Redirect(redirect)) => {
            let (to, status) = (redirect.to.text(), redirect.status);
            return format!("redirect to {to} ({status}), as a condition of its snippet says");
        }
        Some(Answer::Rewritten(rewritten)) => {
            return format!("redirect ({}) by its path, as its snippet says", rewritten.status);
        }
        Some(Answer::Refuse(_)) | None => {}
    }
    match &rule.action {
        Action::Deny { reason, .. } => format!("deny with {DENY_STATUS} ({reason})"),
        Action::Redirect(redirect) => {
            format!("redirect to {} ({})", redirect.to.text(), redirect.status)
        }
        Action::Forward(forward) => {
            let backends = forward.spec.main();
            let alone = backends.len() == 1;
            let backends = backends.iter().map(|backend| match alone {
                true => backend.key.to_string(),
                false => format!("{} (weight {})", backend.key, backend.weight),
            });
            let asked = |canary: &Canary| canary.share.asked(&view.parts.headers);
            if let Some((canary, index)) =
                forward.spec.canaries().find(|(canary, _)| asked(canary) == Some(true))
            {
                let backend = &forward.spec.backends[index];
                return format!(
                    "forward to {}, the canary that it asks for ({})",
                    backend.key, canary.object
                );
            }
            let open = forward.spec.canaries().filter(|(canary, _)| asked(canary).is_none());
            let canaries = open.map(|(canary, index)| {
                let backend = &forward.spec.backends[index];
                format!("as canary {} ({}, {})", backend.key, canary.share, canary.object)
            });
            let to = backends.chain(canaries).collect::<Vec<_>>().join(", ");
            let besides = besides(rule);
            match rule.rewrite() {
                None => format!("forward to {to}{besides}"),
                Some(rewrite) => format!("forward to {to} as {}{besides}", rewrite.target()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
