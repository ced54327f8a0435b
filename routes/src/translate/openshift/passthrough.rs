//! Termination `passthrough`: TLS goes to the pods as it is, and clear text nowhere, or to https.

use std::sync::Arc;

use super::{Own, Refusal, backends, invalid};
use crate::{
    action::{Action, Forward, ForwardSpec},
    filter::{AddressRules, Filter, Filters, HttpsRedirect},
    matcher::{Matches, PathMatch, Schemes},
    model::{BackendProtocol, HostPattern},
    objects::ObjectRef,
    openshift::{Route, TlsConfig},
    options::{EncodedSlashes, Options},
    passthrough::{ClientLimits, PassThrough},
    policy::{Policy, timeouts::Timeouts},
    problem::Problem,
    rule::RouteRule,
    slots::Slots,
    translate::Translation,
};

/// Whether a Route asks for it.
pub(super) fn is_asked(tls: Option<&TlsConfig>) -> bool {
    let termination = tls.and_then(|tls| tls.termination.as_deref()).unwrap_or_default();
    termination.eq_ignore_ascii_case("passthrough")
}

/// How the backends of a Route are spoken to where its termination decides that.
pub(super) fn protocol(tls: Option<&TlsConfig>) -> Option<BackendProtocol> {
    is_asked(tls).then_some(BackendProtocol::Bytes)
}

/// What is passed on, and the rule for clear text. Without a redirect that rule is for no request at all: it
/// stands for the host.
pub(super) fn served(
    route: &Route,
    (object, host): (&ObjectRef, &HostPattern),
    options: &Options,
    Own { filters, policy, settings }: Own<'_>,
    translation: &mut Translation,
    slots: &mut Slots<'_>,
) -> Result<RouteRule, Refusal> {
    let redirected = allowed(route)?;
    let (access, limits, unseen) = access(&filters)?;
    let of_policy = policy.forwarded.is_some() || policy.header_case;
    if unseen || of_policy || settings.prefix_target.is_some() {
        translation.problems.push(Problem::warning(
            object,
            "AnnotationIgnored",
            "metadata.annotations",
            "what they say of requests and answers has no effect, as nobody sees them where TLS is passed through",
            "remove it, or terminate TLS at the edge",
        ));
    }
    let policy = in_bytes(policy);
    let backends = backends(&object.key, route, options, translation, slots)?;
    let several = backends.iter().filter(|backend| backend.weight > 0).count() > 1;
    let spec = ForwardSpec::of(backends, policy);
    translation.passthrough.push(Arc::new(PassThrough {
        object: object.clone(),
        host: host.clone(),
        forward: Some(Forward::new(spec.clone())),
        // `ROUTER_TCP_BALANCE_SCHEME` is `source` unless it is set; of several Services each has its share.
        by_client: settings.keeps_clients().unwrap_or(!several),
        access,
        limits,
    }));
    let redirect = Filter::HttpsRedirect(HttpsRedirect { status: 302, trim_slash: false });
    Ok(RouteRule {
        object: object.clone(),
        host: host.clone(),
        matches: Matches {
            path: PathMatch::RoutePrefix("".into()),
            schemes: Schemes { http: redirected, https: false },
        },
        encoded_slashes: EncodedSlashes::default(),
        filters: if redirected { [redirect].into_iter().collect() } else { Filters::default() },
        action: Action::Forward(Forward::new(spec)),
    })
}

/// What a policy says of connections that are passed on: without a time for tunnels, that for the backend's silence
/// bounds them, as in the router.
pub(in crate::translate) fn in_bytes(policy: Arc<Policy>) -> Arc<Policy> {
    match policy.timeouts {
        Some(Timeouts { tunnel: None, read: read @ Some(_), .. }) => {
            let timeouts = policy.timeouts.map(|timeouts| Timeouts { tunnel: read, ..timeouts });
            Arc::new(Policy { timeouts, ..Policy::clone(&policy) })
        }
        _ => policy,
    }
}

/// Refuses what cannot go with it; true if clear text is redirected.
fn allowed(route: &Route) -> Result<bool, Refusal> {
    let Some(tls) = &route.spec.tls else { return Ok(false) };
    if route.spec.path.as_deref().is_some_and(|path| !path.is_empty()) {
        let message = "passthrough termination does not support paths";
        return Err(invalid("spec.path", message, "remove it, or terminate TLS at the edge"));
    }
    let texts = [
        ("certificate", &tls.certificate),
        ("key", &tls.key),
        ("caCertificate", &tls.ca_certificate),
        ("destinationCACertificate", &tls.destination_ca_certificate),
    ];
    let given = texts.iter().find(|(_, text)| text.as_ref().is_some_and(|text| !text.is_empty()));
    let external = tls.external_certificate.is_some().then_some("externalCertificate");
    if let Some(name) = given.map(|(name, _)| *name).or(external) {
        let message = "passthrough termination does not support certificates";
        return Err(invalid(
            format!("spec.tls.{name}"),
            message,
            "remove it: the pods have their own",
        ));
    }
    match tls.insecure_edge_termination_policy.as_deref().unwrap_or_default() {
        "" | "None" => Ok(false),
        "Redirect" => Ok(true),
        other => Err(invalid(
            "spec.tls.insecureEdgeTerminationPolicy",
            format!("policy {other:?} is not None or Redirect"),
            "use one of the two",
        )),
    }
}

/// Which clients may come in, and how often; any other protection needs requests, which nobody sees here. The last value
/// says whether there is something else that does, and protects nothing.
fn access(filters: &[Filter]) -> Result<(Option<AddressRules>, ClientLimits, bool), Refusal> {
    let (mut access, mut limits, mut unseen) = (None, ClientLimits::default(), false);
    for filter in filters {
        match filter {
            Filter::Access(rules) => access = Some((**rules).clone()),
            filter if limits.take(filter) => {}
            other if other.protects() => {
                return Err(invalid(
                    "metadata.annotations",
                    "a protection of requests cannot be in force where TLS is passed through",
                    "remove it, or terminate TLS at the edge",
                ));
            }
            _ => unseen = true,
        }
    }
    Ok((access, limits, unseen))
}
