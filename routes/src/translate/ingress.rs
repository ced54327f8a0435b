//! `networking.k8s.io/v1` Ingress into rules.
//!
//! [`crate::compile`] calls `tls` on every Ingress of ours first, because an Ingress' redirects depend on
//! the `tls` entries of all of them, and then `translate` on those that changed. What the API server
//! would refuse is refused here too, rule by rule, so that manifests mean the same without a cluster.

use std::sync::Arc;

use http::HeaderName;
use k8s_openapi::{
    api::networking::v1::{
        HTTPIngressPath, Ingress, IngressBackend, IngressRule, IngressSpec, ServiceBackendPort,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Translation, never_asked, openshift::reencrypt};
use crate::{
    action::{Action, Forward, ForwardSpec, Reach},
    annotations::{self, Defaults, Settings, Termination, gatehouse},
    class,
    filter::{Filter, Filters, Rewrite},
    host,
    matcher::{Matches, PathMatch, PathRegex, Schemes},
    model::{BackendKey, BackendPort, HostPattern},
    objects::{ObjectKey, ObjectRef, Objects},
    options::Options,
    path,
    policy::Policy,
    problem::Problem,
    rule::RouteRule,
    slots::Slots,
};

mod answers;
mod authentication;
mod beside;
mod canary;
mod client_certificates;
mod closing;
mod mirror;
mod passthrough;
mod termination;
mod tls;
mod weights;

pub(crate) use closing::has_expression;
pub(crate) use termination::{AUTHORITIES, authorities_in};
pub(crate) use tls::{Tls, tls};

const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// The reference to an Ingress.
pub(crate) fn reference(key: &ObjectKey) -> ObjectRef {
    ObjectRef::new("Ingress", key.clone())
}

/// What an Ingress is read by besides itself.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'a> {
    pub(crate) options: &'a Options,
    /// What holds where the Ingress says nothing.
    pub(crate) defaults: &'a Defaults,
    /// Those that an Ingress may refer to.
    pub(crate) objects: &'a Objects,
    /// An Ingress may name this host itself.
    pub(crate) loopback: bool,
    /// As ingress-nginx would: the class is claimed by its name.
    pub(crate) as_nginx: bool,
    /// Why its class cannot be read, if that is so.
    pub(crate) unread_class: Option<&'a Arc<str>>,
    /// Whether any Ingress of ours has a `tls` entry for a host.
    pub(crate) has_tls: &'a dyn Fn(&HostPattern) -> bool,
}

/// Translates an Ingress.
pub(crate) fn translate(
    key: &ObjectKey,
    ingress: &Ingress,
    tls: &Tls,
    reading: Reading<'_>,
    slots: &mut Slots<'_>,
) -> Translation {
    let object = reference(key);
    let (mut settings, mut problems) =
        annotations::parse_over(reading.defaults, &object, &ingress.metadata);
    if let Some(why) = reading.unread_class {
        settings.deny.get_or_insert(gatehouse::UNREADABLE_REASON);
        problems.push(class::unread(&object, why));
    }
    problems.extend(settings.close_without_tls(&object, tls.covers(ingress)));
    if let Some(fault) = settings.transport.fault(&object) {
        settings.deny.get_or_insert(fault.reason);
        problems.push(fault);
    }
    let mut out = Translation::new(object, problems);
    out.as_nginx = reading.as_nginx;
    out.unread_class = reading.unread_class.cloned();
    let authorities = termination::authorities(&mut settings, reading.objects, &mut out);
    if settings.canary.is_on() {
        return match (&ingress.spec, settings.deny) {
            // A canary that cannot be what it asks for takes nothing.
            (None, _) | (_, Some(_)) => out,
            (Some(spec), None) => {
                let (filters, policy) = (Vec::new(), Policy::of_the_process());
                let mut canary =
                    Translator { key, settings, authorities, filters, policy, reading, slots, out };
                canary.propose(spec);
                canary.out
            }
        };
    }
    if settings.termination == Some(Termination::Reencrypt)
        && settings.destination_ca.is_none()
        && reading.options.destination_ca.is_none()
        && !settings.transport.is_said_of_tls()
    {
        out.problems.push(reencrypt::not_verified(&out.object, termination::FIELD));
    }
    out.problems.extend(tls.problems.iter().cloned());
    out.certs = Arc::clone(&tls.certs);
    let Some(spec) = &ingress.spec else {
        return out;
    };
    let filters = settings.filters(&out.object);
    let policy = settings.policy(&out.object, None);
    let mut translator =
        Translator { key, settings, authorities, filters, policy, reading, slots, out };
    translator.answers();
    translator.mirror();
    translator.authentication();
    translator.client_certificates();
    translator.run(spec)
}

/// Whether a host has TLS matters to the rules only as far as they redirect because of it.
struct Translator<'a, 'p> {
    key: &'a ObjectKey,
    settings: Settings,
    /// Those of the pods, in PEM, where OpenShift's annotations name them.
    authorities: Option<Arc<str>>,
    /// What every path of the object has in common.
    filters: Vec<Filter>,
    policy: Arc<Policy>,
    reading: Reading<'a>,
    slots: &'a mut Slots<'p>,
    out: Translation,
}

/// A path of a rule, judged.
struct Judged {
    matcher: PathMatch,
    rewrite: Option<Rewrite>,
    /// It cannot be served.
    broken: Option<&'static str>,
}

impl Translator<'_, '_> {
    fn run(mut self, spec: &IngressSpec) -> Translation {
        let rules = spec.rules.as_deref().unwrap_or_default();
        for (at, rule) in rules.iter().enumerate() {
            self.rule(at, rule);
        }
        self.own_redirects();
        self.aliases();
        if rules.is_empty() {
            if spec.default_backend.is_none() {
                self.out.problems.push(Problem::warning(
                    &self.out.object,
                    "NoRules",
                    "spec",
                    "neither rules nor a defaultBackend are given, so nothing is served",
                    "add spec.rules or spec.defaultBackend",
                ));
                return self.out;
            }
            self.entry(&HostPattern::Any);
        }
        if let Some(backend) = &spec.default_backend {
            self.default_backend(backend);
        }
        if self.settings.deny_host {
            let root = PathMatch::Prefix("/".into());
            let open = self
                .out
                .entries
                .iter()
                .filter(|entry| !entry.rules.iter().any(|rule| rule.matches.path == root));
            for host in open.map(|entry| entry.host.clone()).collect::<Vec<_>>() {
                self.close(&host, root.clone());
            }
        }
        self.pass_through();
        self.out
    }

    fn rule(&mut self, at: usize, rule: &IngressRule) {
        let text = rule.host.as_deref().unwrap_or_default();
        let deny = self.settings.deny;
        let host = match host::pattern(text) {
            Ok(host) => host,
            Err(error) => {
                let field = format!("spec.rules[{at}].host");
                let mut problem = closing::invalid_host(&self.out.object, field, text, error);
                let meant = if self.protects() { closing::host(text) } else { None };
                if let Some(host) = &meant {
                    problem.message.push_str(&format!("; {host} is closed (503)"));
                }
                self.out.problems.push(problem);
                let Some(host) = meant else { return };
                // For this rule alone.
                self.settings.deny.get_or_insert("InvalidHost");
                host
            }
        };
        self.entry(&host);
        for (index, path) in rule.http.iter().flat_map(|http| &http.paths).enumerate() {
            self.path(&host, path, &format!("spec.rules[{at}].http.paths[{index}]"));
        }
        self.settings.deny = deny;
    }

    fn path(&mut self, host: &HostPattern, path: &HTTPIngressPath, field: &str) {
        let judged = self.judge(path, field);
        match judged {
            Some(judged) if self.settings.deny.is_none() => {
                let action = match judged.broken {
                    Some(reason) => self.refused(reason),
                    None => self.action(&path.backend, &format!("{field}.backend")),
                };
                let own = self.own_filters(judged.rewrite, &path.backend);
                self.push(host, judged.matcher, own, action);
            }
            None if !self.protects() => {}
            _ => {
                let settings = &self.settings;
                for matcher in closing::paths(path, settings.expressions(), settings.use_regex) {
                    self.close(host, matcher);
                }
            }
        }
    }

    /// Keeps a path closed, as the protection of its Ingress is not in force there.
    fn close(&mut self, host: &HostPattern, path: PathMatch) {
        let reason = self.settings.deny.unwrap_or("InvalidPath");
        let reach = if self.settings.deny_host { Reach::Host } else { Reach::Path };
        self.push(host, path, Vec::new(), Action::Deny { reason, reach });
    }

    /// A rule that makes no sense; nothing else of the namespace answers for it with less protection.
    fn refused(&self, reason: &'static str) -> Action {
        let reach = if self.protects() { Reach::Path } else { Reach::Rule };
        Action::Deny { reason, reach }
    }

    /// Whether the Ingress keeps anybody out, or would if it could. The size of bodies that every Ingress has is no wish
    /// of its own: whoever else answers for its paths has it, too.
    fn protects(&self) -> bool {
        let nothing = ObjectMeta::default();
        let every = || annotations::parse_over(self.reading.defaults, &self.out.object, &nothing).0;
        let own = |filter: &Filter| match filter {
            Filter::BodyLimit(limit) => every().body_limit != Some(*limit),
            filter => filter.protects(),
        };
        self.settings.deny.is_some() || self.filters.iter().any(own)
    }

    fn default_backend(&mut self, backend: &IngressBackend) {
        let hosts: Vec<_> = self.out.entries.iter().map(|entry| entry.host.clone()).collect();
        for host in hosts {
            if self.settings.deny.is_some() {
                self.close(&host, PathMatch::Default);
                continue;
            }
            // Each host gets a forwarding of its own: its place in the sequence is its own, too.
            let action = self.action(backend, "spec.defaultBackend");
            let own = self.own_filters(None, backend);
            self.push(&host, PathMatch::Default, own, action);
        }
    }

    fn entry(&mut self, host: &HostPattern) {
        self.out.entry(host, true);
    }

    /// The filters of a path besides those that all have.
    fn own_filters(&self, rewrite: Option<Rewrite>, backend: &IngressBackend) -> Vec<Filter> {
        // Without a rewrite there is no prefix that the backend could miss.
        let prefix = self.settings.forwarded_prefix.clone().filter(|_| rewrite.is_some());
        let prefix = prefix.map(|prefix| Filter::SetHeader(X_FORWARDED_PREFIX, prefix));
        let of_backend = self.settings.filters_of(self.key, backend);
        rewrite.map(Filter::Rewrite).into_iter().chain(prefix).chain(of_backend).collect()
    }

    /// Adds a rule; `own` are the filters that it has besides those of all.
    fn push(&mut self, host: &HostPattern, path: PathMatch, own: Vec<Filter>, action: Action) {
        let settings = &self.settings;
        let exempt = path::is_acme(path.text());
        let has_tls = settings.ssl_redirect.then(|| (self.reading.has_tls)(host));
        let redirect = self.https_redirect(has_tls == Some(true)).filter(|_| !exempt);
        let filters = match action {
            // A closed path is closed in clear text, too.
            Action::Deny { .. } => Filters::default(),
            Action::Forward(_) | Action::Redirect(_) => redirect
                .map(Filter::HttpsRedirect)
                .into_iter()
                .chain(self.filters.iter().filter_map(|filter| match exempt {
                    true => authentication::for_solver(filter),
                    false => Some(filter.clone()),
                }))
                .chain(own)
                .collect(),
        };
        let rule = RouteRule {
            object: self.out.object.clone(),
            host: host.clone(),
            matches: Matches { path, schemes: Schemes::BOTH },
            encoded_slashes: settings
                .encoded_slashes
                .unwrap_or(self.reading.options.encoded_slashes),
            filters,
            action,
        };
        let entry = self.out.entry(host, true);
        entry.made_with_tls = has_tls;
        entry.rules.push(Arc::new(rule));
    }

    /// What becomes of the requests for a backend.
    fn action(&mut self, backend: &IngressBackend, field: &str) -> Action {
        if let Some(redirect) = self.settings.redirects.everywhere() {
            return Action::Redirect(redirect);
        }
        if backend.resource.is_some() {
            const REASON: &str = "ResourceBackendNotSupported";
            self.out.problems.push(Problem::error(
                &self.out.object,
                REASON,
                format!("{field}.resource"),
                "backends that are not a Service are not supported; requests get 503",
                "name a Service",
            ));
            return self.refused(REASON);
        }
        match self.backend_key(backend) {
            Ok(backend) => {
                let backends = self.shares(backend, field);
                let policy = Arc::clone(&self.policy);
                Action::Forward(Forward::new(ForwardSpec::of(backends, policy)))
            }
            Err((message, hint)) => {
                self.invalid_backend(field, &format!("{message}; requests get 503"), hint);
                self.refused("InvalidBackend")
            }
        }
    }

    fn invalid_backend(&mut self, field: &str, message: &str, hint: &'static str) {
        let problem = Problem::error(&self.out.object, "InvalidBackend", field, message, hint);
        self.out.problems.push(problem);
    }

    /// The backend that a path names.
    fn backend_key(&self, backend: &IngressBackend) -> Result<BackendKey, (String, &'static str)> {
        const HINT: &str = "give service.name and one of service.port.number and service.port.name";
        let Some(service) = backend.service.as_ref().filter(|service| !service.name.is_empty())
        else {
            return Err(("the backend names no Service".into(), HINT));
        };
        let Some(port) = &service.port else {
            return Err((format!("the backend names no port of Service {}", service.name), HINT));
        };
        let service = ObjectKey::new(Arc::clone(&self.key.namespace), &*service.name);
        Ok(BackendKey {
            port: backend_port(port).map_err(|message| (message, HINT))?,
            protocol: self.protocol(&service),
            whole: self.settings.transport.whole,
            service,
        })
    }

    fn judge(&mut self, path: &HTTPIngressPath, field: &str) -> Option<Judged> {
        let text = path.path.as_deref().unwrap_or_default();
        let problem = match &*path.path_type {
            "Exact" | "Prefix" if self.reading.as_nginx && self.means_expression(text) => {
                return self.regex(text, field);
            }
            "Exact" | "Prefix" => match literal_fault(text) {
                None => {
                    self.misplaced_expression(&path.path_type, text, field);
                    return self.literal(path.path_type == "Exact", text, field);
                }
                Some(fault) => (format!("{field}.path"), format!("path {text:?} {fault}")),
            },
            "ImplementationSpecific" if !text.is_empty() && !text.starts_with('/') => {
                (format!("{field}.path"), format!("path {text:?} does not begin with '/'"))
            }
            "ImplementationSpecific" if self.is_regex(text) => return self.regex(text, field),
            "ImplementationSpecific" => {
                return self.literal(false, if text.is_empty() { "/" } else { text }, field);
            }
            other => (
                format!("{field}.pathType"),
                format!("path type {other:?} is not Exact, Prefix or ImplementationSpecific"),
            ),
        };
        let outcome = if self.protects() { "closed (503)" } else { "not served" };
        self.invalid_path(problem.0, format!("{}, so it is {outcome}", problem.1));
        None
    }

    fn invalid_path(&mut self, field: String, message: String) {
        let hint = "write a path as the Ingress API allows it";
        let problem = Problem::error(&self.out.object, "InvalidPath", field, message, hint);
        self.out.problems.push(problem);
    }

    /// Tells of an expression that its path type takes literally.
    fn misplaced_expression(&mut self, path_type: &str, text: &str, field: &str) {
        if self.settings.deny.is_some() || !self.means_expression(text) {
            return;
        }
        self.out.problems.push(Problem::error(
            &self.out.object,
            "ExpressionNotRead",
            format!("{field}.pathType"),
            format!(
                "path {text:?} is meant as an expression, but pathType {path_type} is compared literally, \
                 and no client sends such a path: requests get 404"
            ),
            "set pathType: ImplementationSpecific; or claim the class by its name (--claim-class), which \
             reads it as ingress-nginx does",
        ));
    }

    fn is_regex(&self, text: &str) -> bool {
        let rewrite = self.settings.rewrite.as_ref();
        self.settings.use_regex
            || rewrite.is_some_and(|target| target.captures || has_expression(text))
    }

    /// Whether the path of a type that knows no expressions was meant as one.
    fn means_expression(&self, text: &str) -> bool {
        text.starts_with('/') && has_expression(text) && self.is_regex(text)
    }

    fn literal(&mut self, exact: bool, text: &str, field: &str) -> Option<Judged> {
        if let Err(error) = path::pattern(text) {
            let mut message = format!("path {text:?} can match no request: {error}");
            if self.protects() {
                message.push_str("; what it may be meant for is closed (503)");
            }
            self.invalid_path(format!("{field}.path"), message);
            return None;
        }
        if !self.means_expression(text) {
            let never_asked = never_asked(&self.out.object, format!("{field}.path"), text);
            self.out.problems.extend(never_asked);
        }
        let matcher =
            if exact { PathMatch::Exact(text.into()) } else { PathMatch::Prefix(text.into()) };
        let rewrite = self.settings.rewrite.clone().and_then(|target| {
            // A literal path captures nothing: every reference is filled in with nothing.
            let text_to =
                if target.captures { without_references(&target.text) } else { target.text };
            (*text_to != *text).then_some(Rewrite::Replace(text_to))
        });
        let prefix = self.settings.prefix_target.as_ref();
        let prefix = || prefix.and_then(|target| Rewrite::of_prefix(&matcher, target));
        let rewrite = rewrite.or_else(prefix);
        Some(Judged { matcher, rewrite, broken: None })
    }

    fn regex(&mut self, text: &str, field: &str) -> Option<Judged> {
        // An empty path means every path.
        let text = if text.is_empty() { "/" } else { text };
        match PathRegex::new(text) {
            Ok(regex) => {
                let rewrite = self.settings.rewrite.clone().map(|target| match target.captures {
                    true => Rewrite::Captures { regex: regex.clone(), target: target.text },
                    false => Rewrite::Replace(target.text),
                });
                Some(Judged { matcher: PathMatch::Regex(regex), rewrite, broken: None })
            }
            Err(error) => {
                // Under a protection, what cannot be told from the rest of the host closes with it.
                let head = closing::literal_head(text).or_else(|| self.protects().then_some("/"));
                let outcome = match head {
                    Some(head) => format!("everything under {head} is closed (503)"),
                    None => "the path is not served".into(),
                };
                self.out.problems.push(Problem::error(
                    &self.out.object,
                    "InvalidRegex",
                    format!("{field}.path"),
                    format!("expression {text:?} is not supported: {error}; {outcome}"),
                    "write an expression as PCRE reads it",
                ));
                let matcher = PathMatch::Prefix(head?.into());
                Some(Judged { matcher, rewrite: None, broken: Some("InvalidRegex") })
            }
        }
    }
}

fn backend_port(port: &ServiceBackendPort) -> Result<BackendPort, String> {
    match (port.name.as_deref().filter(|name| !name.is_empty()), port.number.filter(|n| *n != 0)) {
        (Some(name), None) => Ok(BackendPort::Name(name.into())),
        (None, Some(number)) => match u16::try_from(number) {
            Ok(number) => Ok(BackendPort::Number(number)),
            Err(_) => Err(format!("port {number} is not between 1 and 65535")),
        },
        (Some(name), Some(number)) => {
            Err(format!("the backend names port {name:?} and port {number}"))
        }
        (None, None) => Err("the backend names no port".into()),
    }
}

/// What the API server refuses in paths of type Exact and Prefix (`networking/v1` validation).
fn literal_fault(text: &str) -> Option<&'static str> {
    if !text.starts_with('/') {
        return Some("does not begin with '/'");
    }
    let held = ["//", "/./", "/../", "%2f", "%2F"].iter().any(|part| text.contains(part));
    let ended = ["/..", "/."].iter().any(|end| text.ends_with(end));
    (held || ended).then_some("holds '//', '/./', '/../' or '%2F'")
}

fn without_references(target: &str) -> Arc<str> {
    let mut out = String::with_capacity(target.len());
    let mut rest = target;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    out.push_str(rest);
    if out.starts_with('/') { out.into() } else { format!("/{out}").into() }
}

#[cfg(test)]
mod tests;
