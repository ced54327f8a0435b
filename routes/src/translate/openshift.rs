//! `route.openshift.io/v1` Route into rules.
//!
//! The order of checks is that of OpenShift's router: host, domain and wildcard policy first (`host`; a Route that
//! fails there claims nothing), then everything else (a Route that fails there still holds its host). What is
//! not supported yet is refused with a [`Problem`], never served in another way than asked for: the path of
//! such a Route answers 503, so that no Route for a shorter path answers in its place with less protection.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Translation, never_asked, tokens};
use crate::{
    action::{Action, Forward, ForwardSpec, Reach, WeightedBackend},
    admit::Lane,
    annotations::{self, Settings},
    filter::{
        Filter, Filters, HttpsRedirect, Rewrite, authentication::Authentication,
        error_pages::ErrorPages,
    },
    matcher::{Matches, PathMatch, Schemes},
    model::{BackendKey, BackendPort, CertBinding, CertSource, HostPattern},
    objects::{ObjectKey, ObjectRef, Objects},
    openshift::{Route, RouteSpec, RouteTargetReference, TlsConfig},
    options::{EncodedSlashes, Options},
    path,
    policy::Policy,
    problem::{Problem, Severity},
    rule::RouteRule,
    slots::Slots,
};

mod headers;
mod host;
pub(super) mod passthrough;
pub(super) mod reencrypt;

/// `spec.alternateBackends` at most (`route/v1` RouteSpec).
const MAX_ALTERNATES: usize = 3;

/// A translated Route and what admission needs to know of it.
#[derive(Debug)]
pub(crate) struct RouteTranslation {
    pub(crate) translation: Translation,
    /// Effective host; empty if there is none.
    pub(crate) host: Arc<str>,
    /// The hosts that it claims, if it may.
    pub(crate) claim: Option<HostPattern>,
    /// `spec.path` as it stands.
    pub(crate) path: Box<str>,
    /// Which connections it claims.
    pub(crate) lane: Lane,
    /// What is wrong with its certificate, as it was told.
    pub(crate) fault: Option<Box<CertificateFault>>,
    pub(crate) verdict: Verdict,
}

/// What a Route comes to, looked at alone.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Served if it gets its host.
    Usable,
    /// Not served, but it holds its host against younger Routes. If it gets its host, its path answers 503.
    Closed(Box<Refusal>),
    /// Not served, and it claims nothing.
    Void(Box<Refusal>),
}

/// Why a Route is not admitted.
type Refusal = gatehouse_problem::Problem;
/// What is wrong with the certificate of a Route.
pub type CertificateFault = Refusal;

fn invalid(
    field: impl Into<String>,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> Refusal {
    Refusal::refused("ExtendedValidationFailed", field, message, hint)
}

/// Translates a Route; whether it gets its host is decided in [`crate::admit`].
pub(crate) fn translate(
    key: &ObjectKey,
    route: &Route,
    (options, objects): (&Options, &Objects),
    fault: Option<&CertificateFault>,
    slots: &mut Slots<'_>,
) -> RouteTranslation {
    let object = ObjectRef::new("Route", key.clone());
    let mut out = RouteTranslation {
        translation: Translation::new(object.clone(), Vec::new()),
        host: "".into(),
        claim: None,
        lane: lane(route.spec.tls.as_ref()),
        fault: fault.cloned().map(Box::new),
        path: route.spec.path.as_deref().unwrap_or_default().into(),
        verdict: Verdict::Usable,
    };
    let (name, claimed) = host::claimed(key, route, options);
    out.host = name;
    let host = match claimed {
        Ok(host) => host,
        Err(refusal) => {
            // Its clients learn that there is an application, and that it is not available.
            if !out.host.is_empty() {
                out.translation.entry(&HostPattern::Exact(Arc::clone(&out.host)), false);
            }
            out.verdict = Verdict::Void(Box::new(refusal));
            return out;
        }
    };
    out.claim = Some(host.clone());
    let (mut settings, mut problems) = annotations::parse(&object, &route.metadata);
    problems.extend(host::two(&object, &route.spec));
    problems.extend(settings.close_without_tls(&object, route.spec.tls.is_some()));
    let mut references = Vec::new();
    let loopback = objects.routes.get(key).is_some_and(|it| it.trust.loopback_endpoints);
    let references_to = &mut references;
    let mut reader =
        tokens::Reader { object: &object, objects, loopback, references: references_to };
    let limits = settings.limits.need_tokens();
    let jwt = match reader.jwt(&settings.authentication, limits) {
        Ok(mut jwt) => {
            if let Some(jwt) = &mut jwt {
                tokens::find_service(jwt, &mut out.translation, slots);
            }
            jwt
        }
        Err(problem) => {
            settings.deny.get_or_insert(problem.reason);
            problems.push(*problem);
            None
        }
    };
    let rule = match settings.deny {
        None => {
            let secure = Some(tls_only(&route.spec));
            let policy = settings.policy(&object, secure);
            let mut filters = settings.filters(&object);
            let any = settings.authentication.any.then(|| settings.addresses.clone());
            Authentication { any, jwt, ..Authentication::default() }.join(&mut filters);
            filters.extend(settings.compress());
            if let Some(named) = &settings.answers.error_pages {
                let pages = out.translation.pages(named, objects);
                if !pages.is_empty() {
                    let pages = ErrorPages { pages, ..ErrorPages::default() };
                    filters.push(Filter::ErrorPages(Arc::new(pages)));
                }
            }
            let own = Own { filters, policy, settings: &settings };
            let out = &mut out.translation;
            served(route, &object, &host, options, own, out, slots)
        }
        Some(reason) => Err(protection(reason, &mut problems)),
    };
    let rule = rule.and_then(|rule| fault.map_or(Ok(rule), |fault| Err(fault.clone())));
    match rule {
        Ok(mut rule) => {
            rule.encoded_slashes = settings.encoded_slashes.unwrap_or(options.encoded_slashes);
            out.translation.entry(&host, false).rules.push(Arc::new(rule));
        }
        Err(mut refusal) => {
            let reason = settings.deny.unwrap_or(refusal.reason);
            // What is said of TLS keeps clear text out, and strangers.
            let protects = settings.deny.is_some() || refusal.field.starts_with("spec.tls");
            let reach = if protects { Reach::Path } else { Reach::Rule };
            out.translation = closed(route, Action::Deny { reason, reach }, object, &host);
            // OpenShift's router knows nothing of what it refuses; a protection that is broken it serves.
            out.translation.refused = settings.deny.is_none();
            // The message of a protection says so already.
            let closes = out.translation.entries.iter().any(|entry| !entry.rules.is_empty());
            if settings.deny.is_none() && closes {
                refusal.message.push_str(", so its path is closed (503)");
            }
            out.verdict = Verdict::Closed(Box::new(refusal));
        }
    }
    out.translation.problems.extend(problems);
    out.translation.references.extend(references);
    out
}

/// What the annotations of a Route ask for.
struct Own<'s> {
    filters: Vec<Filter>,
    policy: Arc<Policy>,
    settings: &'s Settings,
}

/// The rule of a Route that asks only for what can be done.
fn served(
    route: &Route,
    object: &ObjectRef,
    host: &HostPattern,
    options: &Options,
    own: Own<'_>,
    translation: &mut Translation,
    slots: &mut Slots<'_>,
) -> Result<RouteRule, Refusal> {
    let spec = &route.spec;
    let Own { filters, policy, settings } = own;
    let edits = headers::filters(spec.http_headers.as_ref(), spec.tls.as_ref())?;
    if passthrough::is_asked(spec.tls.as_ref()) {
        let own = Own { filters, policy, settings };
        return passthrough::served(route, (object, host), options, own, translation, slots);
    }
    let text = spec.path.as_deref().unwrap_or_default();
    let path = route_path(text)?;
    translation.problems.extend(never_asked(object, "spec.path".into(), text));
    let rewrite =
        settings.prefix_target.as_ref().and_then(|target| Rewrite::of_prefix(&path, target));
    let (clear, secure) = schemes(spec.tls.as_ref())?;
    if let Some(tls) = &spec.tls {
        translation.certs = certificate(tls, object, host)?.into_iter().collect();
    }
    let backends = backends(&object.key, route, options, translation, slots)?;
    translation.problems.extend(reencrypt::unverified(spec.tls.as_ref(), object, options));
    let schemes = Schemes { http: !matches!(clear, Clear::Closed), https: secure };
    let clients = options.route_clients.iter().filter(|_| secure).cloned();
    let redirect = matches!(clear, Clear::Redirected)
        .then_some(Filter::HttpsRedirect(HttpsRedirect { status: 302, trim_slash: false }));
    Ok(RouteRule {
        object: object.clone(),
        host: host.clone(),
        matches: Matches { path, schemes },
        encoded_slashes: EncodedSlashes::default(),
        filters: redirect
            .into_iter()
            .chain(clients.map(Filter::ClientCertificate))
            .chain(filters)
            .chain(rewrite.map(Filter::Rewrite))
            .chain(edits)
            .collect(),
        action: Action::Forward(Forward::new(ForwardSpec::of(backends, policy))),
    })
}

/// Why a Route is refused whose annotations ask for a protection that is not built: the first of the
/// problems that say so, which becomes the Route's own.
fn protection(reason: &'static str, problems: &mut Vec<Problem>) -> Refusal {
    let errors = || problems.iter().enumerate().filter(|(_, one)| one.severity == Severity::Error);
    let of_reason = errors().find(|(_, problem)| problem.reason == reason);
    let at = of_reason.or_else(|| errors().next()).map(|(at, _)| at);
    match at.map(|at| problems.remove(at)) {
        Some(Problem { field, message, hint, .. }) => invalid(field, message, hint),
        None => invalid("metadata.annotations", reason, "remove the annotation"),
    }
}

/// What a refused Route puts into the table: a rule that closes its path, in clear text and over TLS.
fn closed(route: &Route, action: Action, object: ObjectRef, host: &HostPattern) -> Translation {
    let mut translation = Translation::new(object.clone(), Vec::new());
    translation.entry(host, false);
    // A path that no request can have needs no closing.
    let Ok(path) = route_path(route.spec.path.as_deref().unwrap_or_default()) else {
        return translation;
    };
    // The Secret is waited for that the Route is refused for.
    let binding = |tls| certificate(tls, &object, host).ok().flatten();
    let cert = route.spec.tls.as_ref().and_then(binding);
    translation.certs = cert.into_iter().collect();
    let rule = RouteRule {
        object,
        host: host.clone(),
        matches: Matches { path, schemes: Schemes::BOTH },
        encoded_slashes: EncodedSlashes::default(),
        filters: Filters::default(),
        action,
    };
    translation.entry(host, false).rules.push(Arc::new(rule));
    translation
}

fn route_path(text: &str) -> Result<PathMatch, Refusal> {
    let fault = if text.is_empty() {
        None
    } else if !text.starts_with('/') {
        Some("does not begin with '/'".to_owned())
    } else if text.contains(['#', ' ']) {
        Some("holds '#' or a space".to_owned())
    } else {
        path::pattern(text).err().map(|error| format!("can match no request: {error}"))
    };
    match fault {
        None => Ok(PathMatch::RoutePrefix(text.into())),
        Some(fault) => Err(invalid(
            "spec.path",
            format!("path {text:?} {fault}"),
            "write a path that a client could send",
        )),
    }
}

fn lane(tls: Option<&TlsConfig>) -> Lane {
    let termination = tls.map(|tls| tls.termination.as_deref().unwrap_or_default());
    match termination {
        None => Lane::Clear,
        Some(text) if text.eq_ignore_ascii_case("passthrough") => Lane::PassedThrough,
        Some(_) => Lane::Terminated,
    }
}

/// What becomes of requests in clear text.
enum Clear {
    Closed,
    Served,
    Redirected,
}

/// Whether nothing of the Route is served in clear text.
fn tls_only(spec: &RouteSpec) -> bool {
    let policy = |tls: &TlsConfig| tls.insecure_edge_termination_policy.as_deref() != Some("Allow");
    spec.tls.as_ref().is_some_and(policy)
}

/// Termination and insecure policy; the second value says whether requests over TLS are served.
fn schemes(tls: Option<&TlsConfig>) -> Result<(Clear, bool), Refusal> {
    let Some(tls) = tls else { return Ok((Clear::Served, false)) };
    let termination = tls.termination.as_deref().unwrap_or_default();
    // `oc` and older clients write the words in capitals; OpenShift's defaulting folds them.
    match termination.to_ascii_lowercase().as_str() {
        "" | "edge" | "reencrypt" | "passthrough" => {}
        _ => {
            let message =
                format!("termination {termination:?} is not edge, reencrypt or passthrough");
            return Err(invalid("spec.tls.termination", message, "write one of the three"));
        }
    }
    match tls.insecure_edge_termination_policy.as_deref().unwrap_or_default() {
        "" | "None" => Ok((Clear::Closed, true)),
        "Allow" => Ok((Clear::Served, true)),
        "Redirect" => Ok((Clear::Redirected, true)),
        other => Err(invalid(
            "spec.tls.insecureEdgeTerminationPolicy",
            format!("policy {other:?} is not None, Allow or Redirect"),
            "use one of the three",
        )),
    }
}

/// The certificate that an edge Route brings along; none: the default certificate.
fn certificate(
    tls: &TlsConfig,
    object: &ObjectRef,
    host: &HostPattern,
) -> Result<Option<CertBinding>, Refusal> {
    if let Some(secret) = &tls.external_certificate {
        return external(tls, &secret.name, object, host).map(Some);
    }
    if given(&tls.destination_ca_certificate).is_some() && !reencrypt::is_asked(tls) {
        let message = "a destination CA certificate needs termination reencrypt";
        return Err(invalid("spec.tls.destinationCACertificate", message, "remove it"));
    }
    pair(tls, object, host)
}

/// The certificate of a Secret in the namespace of the Route.
fn external(
    tls: &TlsConfig,
    name: &str,
    object: &ObjectRef,
    host: &HostPattern,
) -> Result<CertBinding, Refusal> {
    let field = "spec.tls.externalCertificate";
    if name.is_empty() {
        return Err(invalid(field, "the Secret has no name", "name it"));
    }
    if given(&tls.certificate).is_some() {
        let message = "cannot specify both tls.certificate and tls.externalCertificate";
        return Err(invalid(field, message, "remove one of the two"));
    }
    let secret = ObjectKey::new(Arc::clone(&object.key.namespace), name);
    Ok(CertBinding {
        host: host.clone(),
        if_named: false,
        source: CertSource::Secret(secret),
        object: object.clone(),
        field: field.into(),
    })
}

/// The certificate and the key that stand in the Route itself.
fn pair(
    tls: &TlsConfig,
    object: &ObjectRef,
    host: &HostPattern,
) -> Result<Option<CertBinding>, Refusal> {
    let Some((certificate, key)) = tls.pair() else { return Ok(None) };
    let Some(key) = key else {
        let message = "a certificate is given without its key";
        return Err(invalid("spec.tls.key", message, "add the private key in PEM"));
    };
    Ok(Some(CertBinding {
        host: host.clone(),
        if_named: false,
        source: CertSource::Inline { certificate: certificate.into(), key: key.into() },
        object: object.clone(),
        field: "spec.tls.certificate".into(),
    }))
}

fn given(text: &Option<String>) -> Option<String> {
    text.clone().filter(|text| !text.trim().is_empty())
}

fn backends(
    key: &ObjectKey,
    route: &Route,
    options: &Options,
    translation: &mut Translation,
    slots: &mut Slots<'_>,
) -> Result<Box<[WeightedBackend]>, Refusal> {
    let spec = &route.spec;
    if spec.alternate_backends.len() > MAX_ALTERNATES {
        let count = spec.alternate_backends.len();
        let message = format!("{count} alternate backends are more than {MAX_ALTERNATES}");
        return Err(invalid("spec.alternateBackends", message, "remove some"));
    }
    let port = target_port(route)?;
    let mut backends: Vec<WeightedBackend> = Vec::new();
    for (at, target) in std::iter::once(&spec.to).chain(&spec.alternate_backends).enumerate() {
        let field = match at {
            0 => "spec.to".to_owned(),
            _ => format!("spec.alternateBackends[{}]", at - 1),
        };
        let weight = weight(target, &field)?;
        let service = ObjectKey::new(Arc::clone(&key.namespace), &*target.name);
        // The same Service twice: the last weight holds, as in OpenShift's router.
        backends.retain(|backend| backend.key.service != service);
        let object = &translation.object;
        let protocol = passthrough::protocol(spec.tls.as_ref())
            .unwrap_or_else(|| reencrypt::protocol(spec.tls.as_ref(), object, &service, options));
        let backend = BackendKey { service, port: port.clone(), protocol, whole: false };
        backends.push(translation.backend(backend, weight, field, slots));
    }
    Ok(backends.into())
}

fn weight(target: &RouteTargetReference, field: &str) -> Result<u16, Refusal> {
    if !matches!(&*target.kind, "" | "Service") {
        let message = format!("kind {:?} is not Service", target.kind);
        return Err(invalid(format!("{field}.kind"), message, "name a Service"));
    }
    if target.name.is_empty() {
        let message = "the backend has no name";
        return Err(invalid(format!("{field}.name"), message, "name a Service"));
    }
    let weight = target.weight.unwrap_or(100);
    u16::try_from(weight).ok().filter(|weight| *weight <= 256).ok_or_else(|| {
        let message = format!("weight {weight} is not between 0 and 256");
        invalid(format!("{field}.weight"), message, "scale the weights")
    })
}

fn target_port(route: &Route) -> Result<BackendPort, Refusal> {
    let text: Arc<str> = match route.spec.port.as_ref().map(|port| &port.target_port) {
        None => return Ok(BackendPort::All),
        Some(IntOrString::Int(number)) => number.to_string().into(),
        Some(IntOrString::String(text)) => text.as_str().into(),
    };
    if matches!(&*text, "" | "0") {
        let message = format!("target port {text:?} is not a port");
        let hint = "give the number or the name of a port of the pods";
        return Err(invalid("spec.port.targetPort", message, hint));
    }
    Ok(BackendPort::Target(text))
}

#[cfg(test)]
mod tests;
