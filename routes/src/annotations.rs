//! The annotations that objects are read for: one table, from which the parser and the docs are made.
//!
//! `translate` reads Ingresses and Routes by it, the gateway Services and pools. A row says how its value is
//! read, whether it protects and how far it is built. What protects and cannot be honoured closes every
//! path of its object, so that nothing is served with less protection than its author asked for; what else
//! has no effect is named in a [`Problem`].

use std::sync::{Arc, LazyLock};

use http::{HeaderName, HeaderValue, header::HOST};
use k8s_openapi::{
    api::networking::v1::IngressBackend, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    filter::{AddressRules, Filter, tls_terms::TlsTerms},
    model::HostPattern,
    objects::{ObjectKey, ObjectRef},
    options::EncodedSlashes,
    policy::{Policy, buffering::Buffering, timeouts::Timeouts},
    problem::Problem,
};

mod answers;
pub(crate) mod authentication;
mod backend_text;
mod buffers;
mod canary;
mod carried;
mod choice;
pub(crate) mod client_certificates;
mod cors;
mod defaults;
mod each;
mod ejection;
mod foreign;
pub mod gatehouse;
mod global;
mod haproxy_route;
pub(crate) mod kubernetes;
mod limits;
pub mod metallb;
pub(crate) mod mirror;
mod nginx;
pub mod nginx_config;
mod openshift;
mod reader;
mod redirects;
mod served;
mod service;
mod snippet;
mod table;
mod termination;
pub mod tls;
pub(crate) mod transport;
mod unknown;
mod value;
mod written;

use answers::AnswerSettings;
pub(crate) use answers::Named;
use authentication::AuthenticationSettings;
use backend_text::BackendText;
use buffers::AnswerBuffers;
pub(crate) use canary::CanarySettings;
pub(crate) use carried::{Carried, carry};
use choice::ChoiceSettings;
use client_certificates::ClientCertificateSettings;
use cors::CorsSettings;
pub(crate) use defaults::Defaults;
use defaults::Refused;
pub use each::{Judged, Verdict, each, protecting};
pub use foreign::PROGRAMS;
use global::Global;
use limits::Limits;
use mirror::MirrorSettings;
pub(crate) use openshift::termination;
use reader::Reader;
use redirects::Redirects;
pub use served::ServedBy;
pub use service::{of_inner_service, of_service};
use snippet::Snippet;
pub use table::{Annotation, Family, Found, ObjectKind, Status};
pub(crate) use termination::Termination;
use transport::TransportSettings;
pub use unknown::PROTECTING_WORDS;
use value::Setting;
pub(crate) use value::{SecurityHeaders, Target};
pub(crate) use written::{Written, is_class, is_list_of_exempt};

/// Every annotation that means something here, by prefix.
pub static FAMILIES: [&Family; 8] = [
    &nginx::FAMILY,
    &haproxy_route::HAPROXY,
    &haproxy_route::ROUTER,
    &openshift::FAMILY,
    &metallb::FAMILY,
    &gatehouse::FAMILY,
    &kubernetes::INGRESS,
    &kubernetes::INGRESS_CLASS,
];

/// What the annotations of one object ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) rewrite: Option<Target>,
    /// What stands in for the prefix that a path matches.
    pub(crate) prefix_target: Option<Arc<str>>,
    pub(crate) use_regex: bool,
    pub(crate) ssl_redirect: bool,
    pub(crate) force_ssl_redirect: bool,
    pub(crate) addresses: AddressRules,
    pub(crate) authentication: AuthenticationSettings,
    pub(crate) client_certificates: ClientCertificateSettings,
    /// What TLS clients of the hosts speak.
    tls: TlsTerms,
    /// Bytes.
    pub(crate) body_limit: Option<u64>,
    /// Whether something that cannot be read would have said whether paths are regular expressions.
    maybe_regex: bool,
    /// How backends are spoken to.
    pub(crate) transport: TransportSettings,
    /// TLS goes to the backends as it is.
    pub(crate) passthrough: bool,
    /// What becomes of TLS is what a Route of that termination does with it.
    pub(crate) termination: Option<Termination>,
    /// Secret of the namespace with the authorities of the pods, if the termination is `reencrypt`.
    pub(crate) destination_ca: Option<Arc<str>>,
    pub(crate) limits: Limits,
    pub(crate) mirror: MirrorSettings,
    pub(crate) canary: CanarySettings,
    pub(crate) redirects: Redirects,
    pub(crate) cors: CorsSettings,
    /// Services that share the requests of paths whose backend is one of them.
    pub(crate) weights: Arc<[(Arc<str>, u16)]>,
    /// More names of the hosts.
    pub(crate) aliases: Arc<[HostPattern]>,
    upstream_host: Option<BackendText>,
    pub(crate) forwarded_prefix: Option<HeaderValue>,
    pub(crate) hsts: Option<HeaderValue>,
    snippet: Snippet,
    pub(crate) global: Global,
    pub(crate) answers: AnswerSettings,
    /// What the object says about encoded slashes, if it does.
    pub(crate) encoded_slashes: Option<EncodedSlashes>,
    /// The way to the backends, but for what follows.
    policy: Policy,
    choice: ChoiceSettings,
    /// Bodies of requests are read in whole first.
    buffers: bool,
    /// How, if they are.
    buffering: Buffering,
    /// Answers wait here for their clients.
    answer_buffers: AnswerBuffers,
    /// The annotation that names a certificate, where nobody reads it: TLS is meant.
    tls_secret: Option<Arc<str>>,
    /// Every path is to be denied, for this reason.
    pub(crate) deny: Option<&'static str>,
    /// And what other objects of the namespace have on the same hosts.
    pub(crate) deny_host: bool,
}

/// What every row says that is not there.
static DEFAULTS: LazyLock<Settings> = LazyLock::new(|| {
    let mut settings = Settings::default();
    for row in FAMILIES.into_iter().flat_map(|family| family.rows()) {
        if let Ok(setting) = (row.parser.read)(row.default) {
            settings.set(setting);
        }
    }
    settings
});

/// Reads the annotations of an object.
pub(crate) fn parse(object: &ObjectRef, metadata: &ObjectMeta) -> (Settings, Vec<Problem>) {
    parse_over(&Defaults::default(), object, metadata)
}

/// Reads the annotations of an object that does as the defaults say where it says nothing.
pub(crate) fn parse_over(
    defaults: &Defaults,
    object: &ObjectRef,
    metadata: &ObjectMeta,
) -> (Settings, Vec<Problem>) {
    let mut settings = DEFAULTS.clone();
    defaults.apply(metadata, &mut settings);
    let snippets = defaults.snippets;
    let mut reader = Reader::new(object, settings, snippets);
    if let Some(kind) = ObjectKind::named(object.kind) {
        reader.all(kind, metadata.annotations.iter().flatten());
    }
    reader.done()
}

/// What is wrong with the names of an object's annotations. Values that the owner of the object's kind
/// reads are its own business.
pub fn problems(object: &ObjectRef, metadata: &ObjectMeta) -> Vec<Problem> {
    parse(object, metadata).1
}

/// Why nothing of an object may be open: an annotation asks for a protection that cannot be given, or is not known and
/// may be meant as one.
pub fn closing(object: &ObjectRef, metadata: &ObjectMeta) -> Option<Problem> {
    let (settings, problems) = parse(object, metadata);
    settings.deny.and_then(|reason| problems.into_iter().find(|problem| problem.reason == reason))
}

/// What the annotations of an object say of the way to its backends. What is wrong with them [`problems`] says.
pub fn policy(object: &ObjectRef, metadata: &ObjectMeta) -> Arc<Policy> {
    let settings = parse(object, metadata).0;
    let choice = &settings.choice;
    let (balance, limits, check) = (choice.balance(), choice.limits(), choice.check());
    Policy { balance, limits, check, ..settings.policy }.shared()
}

impl Settings {
    /// The filters that are the same for every path of the object.
    pub(crate) fn filters(&self, object: &ObjectRef) -> Vec<Filter> {
        let rules = &self.addresses;
        let access =
            (*rules != AddressRules::default()).then(|| Filter::Access(Arc::new(rules.clone())));
        let cors = self.cors.policy().map(|cors| Filter::Cors(Arc::new(cors)));
        let host = self.upstream_host.as_ref().and_then(BackendText::fixed);
        let host = host.map(|host| Filter::SetHeader(HOST, host));
        access
            .into_iter()
            .chain(self.global.filters())
            .chain(self.tls_terms().map(|terms| Filter::Tls(Arc::new(terms))))
            .chain(self.limits.filters(object))
            .chain(cors)
            .chain(self.body_limit.map(Filter::BodyLimit))
            .chain(host)
            .chain(self.hsts.clone().map(Filter::Hsts))
            .chain(self.snippet.filters())
            .collect()
    }

    /// The filters that depend on the backend of a path of an Ingress.
    pub(crate) fn filters_of(&self, ingress: &ObjectKey, backend: &IngressBackend) -> Vec<Filter> {
        let host = self.upstream_host.iter().map(|host| (&HOST, host));
        let fields = host.chain(self.snippet.request());
        let set = |(name, text): (&HeaderName, &BackendText)| {
            Some(Filter::SetHeader(name.clone(), text.of(ingress, backend)?))
        };
        fields.filter_map(set).collect()
    }

    /// Takes what the annotation of this name says.
    fn put(&mut self, setting: Setting, full: &str) {
        match setting {
            Setting::Answer(setting) => self.answers.set(setting, full),
            setting => self.set(setting),
        }
    }

    fn set(&mut self, setting: Setting) {
        match setting {
            Setting::Nothing | Setting::Unbuilt | Setting::Text => {}
            Setting::UseRegex(on) => self.use_regex = on,
            Setting::SslRedirect(on) => self.ssl_redirect = on,
            Setting::ForceSslRedirect(on) => self.force_ssl_redirect = on,
            Setting::Rewrite(target) => self.rewrite = Some(target),
            Setting::Allow(networks) => self.addresses.allow.push(networks),
            Setting::DenyFrom(networks) => self.addresses.deny.push(networks),
            Setting::BodyLimit(limit) => self.body_limit = Some(limit),
            Setting::BufferRequests(on) => self.buffers = on,
            Setting::BodyMemory(memory) => self.buffering = Buffering { memory },
            Setting::AnswerBuffer(part) => self.answer_buffers.set(part),
            Setting::MaybeRegex => self.maybe_regex = true,
            Setting::Transport(part) => self.transport.set(part),
            Setting::PassThrough(on) => self.passthrough = on,
            Setting::Termination(termination) => self.termination = Some(termination),
            Setting::DestinationCa(secret) => self.destination_ca = Some(secret),
            Setting::Authentication(setting) => self.authentication.set(setting),
            Setting::Mirror(setting) => self.mirror.set(setting),
            Setting::Jwt(setting) => self.authentication.jwt.set(setting),
            Setting::ClientCertificate(setting) => self.client_certificates.set(setting),
            Setting::TlsVersions(versions) => self.tls.versions = versions,
            Setting::TlsCiphers(list) => self.tls.ciphers = vec![list],
            Setting::TlsOwnOrder(on) => self.tls.own_order = Some(on),
            Setting::PerSecond(count) => self.limits.per_second = Some(count),
            Setting::PerMinute(count) => self.limits.per_minute = Some(count),
            Setting::Connections(count) => self.limits.connections = Some(count),
            Setting::PaceRate(rate) => self.limits.pace = Some(rate),
            Setting::PaceAfter(bytes) => self.limits.pace_after = bytes,
            Setting::Burst(times) => self.limits.burst = times,
            Setting::LimitConnections(on) => self.limits.routes.on = on,
            Setting::RateHttp(count) => self.limits.routes.requests = Some(count),
            Setting::RateTcp(count) => self.limits.routes.connections = Some(count),
            Setting::ConcurrentTcp(count) => self.limits.routes.at_once = Some(count),
            Setting::LimitBy(key) => self.limits.by = key,
            Setting::LimitScope(scope) => self.limits.reach = scope,
            Setting::GroupRate(count) => self.limits.group.count = Some(count),
            Setting::GroupWindow(window) => self.limits.group.window = window,
            Setting::GroupKey(key) => self.limits.group.by = key,
            Setting::GroupExempt(networks) => self.limits.group.exempt.extend(networks),
            Setting::LimitStatus(status) => self.limits.status = Some(status),
            Setting::ConnectionsStatus(status) => self.limits.connections_status = Some(status),
            Setting::LimitShown(on) => self.limits.shown = on,
            Setting::PrefixTarget(target) => self.prefix_target = Some(target),
            Setting::Forwarded(mode) => self.policy.forwarded = Some(mode),
            Setting::HeaderCase(on) => self.policy.header_case = on,
            Setting::Upgrades(upgrades) => self.policy.upgrades = upgrades,
            Setting::LimitExempt(networks) => self.limits.exempt.extend(networks),
            Setting::Canary(on) => self.canary.on = on,
            Setting::CanaryHeader(name) => self.canary.header = Some(name),
            Setting::CanaryValue(value) => self.canary.value = Some(value),
            Setting::CanaryPattern(regex) => self.canary.pattern = Some(regex),
            Setting::CanaryCookie(name) => self.canary.cookie = Some(name),
            Setting::CanaryWeight(weight) => self.canary.weight = weight,
            Setting::CanaryTotal(total) => self.canary.total = total,
            Setting::Permanent(to) => self.redirects.permanent = Some(to),
            Setting::PermanentCode(code) => self.redirects.permanent_code = code,
            Setting::Temporal(to) => self.redirects.temporal = Some(to),
            Setting::TemporalCode(code) => self.redirects.temporal_code = code,
            Setting::AppRoot(path) => self.redirects.app_root = Some(path),
            Setting::FromToWww(on) => self.redirects.www = on,
            Setting::Weights(weights) => self.weights = weights,
            Setting::Aliases(hosts) => self.aliases = hosts,
            Setting::KeepSlash(on) => self.redirects.keep_slash = on,
            Setting::EnableCors(on) => self.cors.enabled = on,
            Setting::CorsOrigins(origins) => self.cors.origins = Some(origins),
            Setting::CorsMethods(names) => self.cors.methods = Some(names),
            Setting::CorsHeaders(names) => self.cors.headers = Some(names),
            Setting::CorsExpose(names) => self.cors.expose = Some(names),
            Setting::CorsCredentials(on) => self.cors.credentials = on,
            Setting::CorsMaxAge(seconds) => self.cors.max_age = Some(seconds),
            Setting::UpstreamHost(host) => self.upstream_host = Some(host),
            Setting::ForwardedPrefix(prefix) => self.forwarded_prefix = Some(prefix),
            Setting::Hsts(value) => self.hsts = Some(value),
            Setting::Answer(setting) => self.answers.set(setting, ""),
            Setting::EncodedSlashes(policy) => self.encoded_slashes = Some(policy),
            Setting::Choice(setting) => self.choice.set(setting),
            Setting::ConnectTimeout(time) => self.timeouts().connect = Some(time),
            Setting::ReadTimeout(time) => self.timeouts().read = Some(time),
            Setting::PauseTimeout(time) => {
                self.timeouts().read = Some(time);
                self.timeouts().tunnel.get_or_insert(time);
            }
            Setting::SendTimeout(time) => self.timeouts().send = Some(time),
            Setting::TunnelTimeout(time) => self.timeouts().tunnel = Some(time),
            Setting::BodyTimeout(time) => self.timeouts().body = Some(time),
            Setting::BodyRate(rate) => self.timeouts().body_rate = Some(rate),
            Setting::ProxyProtocol(version) => self.policy.proxy_protocol = Some(version),
            Setting::RetryOn(failures) => self.policy.retries.on = failures,
            Setting::Tries(tries) => self.policy.retries.tries = Some(tries),
            Setting::TriesTime(time) => self.policy.retries.time = Some(time),
            Setting::RetryBudget(percent) => self.policy.retries.budget.percent = percent,
            Setting::RetryMinimum(count) => self.policy.retries.budget.minimum = count,
        }
    }

    /// Bytes of an answer that wait in memory, if the object says so.
    pub(crate) fn response_memory(&self) -> Option<u64> {
        self.answer_buffers.memory_said()
    }

    fn tls_terms(&self) -> Option<TlsTerms> {
        Some(self.tls.clone()).filter(|terms| *terms != TlsTerms::default())
    }

    /// Closes an object that means to be served over TLS, by an annotation which names a certificate and is not read there,
    /// if its hosts have none: nobody is to send in clear text what TLS was to protect.
    pub(crate) fn close_without_tls(
        &mut self,
        object: &ObjectRef,
        has_tls: bool,
    ) -> Option<Problem> {
        let name = self.tls_secret.take().filter(|_| !has_tls)?;
        self.deny.get_or_insert(reader::NOT_SUPPORTED);
        Some(Problem::error(
            object,
            reader::NOT_SUPPORTED,
            Found { name: &name, value: "" }.field(),
            "TLS is meant, and spec.tls has none of all its hosts, so every path is closed (503)",
            "write spec.tls, and remove the annotation",
        ))
    }

    fn timeouts(&mut self) -> &mut Timeouts {
        self.policy.timeouts.get_or_insert_default()
    }

    /// Whether paths are regular expressions, or may be.
    pub(crate) fn expressions(&self) -> bool {
        self.use_regex || self.rewrite.is_some() || self.maybe_regex
    }
}

/// The family of a whole name, and the name after the prefix.
fn family_of(full: &str) -> Option<(&'static Family, &str)> {
    FAMILIES.into_iter().find_map(|family| Some((family, family.strip(full)?)))
}

/// The whole name of the annotation that marks the class of Ingresses that name none.
pub fn is_default_class() -> String {
    format!("{}{}", kubernetes::INGRESS_CLASS.prefix, kubernetes::IS_DEFAULT_CLASS.name)
}

/// Whether there is a row of this whole name.
#[cfg(test)]
pub(crate) fn is_known(full: &str) -> bool {
    family_of(full).is_some_and(|(family, name)| family.row(name).is_some())
}

#[cfg(test)]
mod tests;
