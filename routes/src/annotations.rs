//! The annotations that objects are read for: one table, from which the parser and the docs are made.
//!
//! `translate` reads Ingresses and Routes by it, the gateway Services and pools. A row says how its value is
//! read, whether it protects and how far it is built. What protects and cannot be honoured closes every
//! path of its object, so that nothing is served with less protection than its author asked for; what else
//! has no effect is named in a [`Problem`].

use std::sync::{Arc, LazyLock};

use http::HeaderValue;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{
    filter::{AddressRules, Filter},
    model::HostPattern,
    objects::ObjectRef,
    options::EncodedSlashes,
    policy::{Policy, timeouts::Timeouts},
    problem::Problem,
    transport::Speaks,
};

mod answers;
pub(crate) mod authentication;
mod canary;
mod choice;
mod cors;
mod defaults;
mod each;
mod foreign;
pub mod gatehouse;
mod haproxy_route;
pub(crate) mod kubernetes;
mod limits;
pub mod metallb;
mod nginx;
pub mod nginx_config;
mod openshift;
mod redirects;
mod snippet;
mod table;
pub(crate) mod transport;
mod unknown;
mod value;
mod written;

use answers::AnswerSettings;
pub(crate) use answers::Named;
use authentication::AuthenticationSettings;
use canary::CanarySettings;
use choice::ChoiceSettings;
use cors::CorsSettings;
pub(crate) use defaults::Defaults;
use defaults::Refused;
pub use each::{Judged, Verdict, each};
pub use foreign::PROGRAMS;
use limits::Limits;
pub(crate) use openshift::termination;
use redirects::Redirects;
use snippet::{Reach, Snippet};
pub use table::{Annotation, Family, Found, ObjectKind, Status};
use transport::TransportSettings;
pub use unknown::PROTECTING_WORDS;
use value::{Fault, Setting};
pub(crate) use value::{SecurityHeaders, Target};
pub(crate) use written::{Written, is_class};

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

/// Why the paths of an object are closed that asks for a protection which is not built.
const NOT_SUPPORTED: &str = "ProtectionNotSupported";
/// Longest value that a message repeats, in characters.
const MAX_SHOWN: usize = 60;

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
    /// Bytes.
    pub(crate) body_limit: Option<u64>,
    /// Whether something that cannot be read would have said whether paths are regular expressions.
    maybe_regex: bool,
    /// How backends are spoken to.
    pub(crate) transport: TransportSettings,
    /// TLS goes to the backends as it is.
    pub(crate) passthrough: bool,
    pub(crate) limits: Limits,
    pub(crate) canary: CanarySettings,
    pub(crate) redirects: Redirects,
    pub(crate) cors: CorsSettings,
    /// Services that share the requests of paths whose backend is one of them.
    pub(crate) weights: Arc<[(Arc<str>, u16)]>,
    /// More names of the hosts.
    pub(crate) aliases: Arc<[HostPattern]>,
    pub(crate) upstream_host: Option<HeaderValue>,
    pub(crate) forwarded_prefix: Option<HeaderValue>,
    pub(crate) hsts: Option<HeaderValue>,
    snippet: Snippet,
    pub(crate) answers: AnswerSettings,
    /// What the object says about encoded slashes, if it does.
    pub(crate) encoded_slashes: Option<EncodedSlashes>,
    /// The way to the backends, but for what follows.
    policy: Policy,
    choice: ChoiceSettings,
    /// Every path is to be denied, for this reason.
    pub(crate) deny: Option<&'static str>,
    /// And what other objects of the namespace have on the same hosts.
    pub(crate) deny_host: bool,
}

/// What every row says that is not there.
static DEFAULTS: LazyLock<Settings> = LazyLock::new(|| {
    let mut settings = Settings::default();
    for row in FAMILIES.into_iter().flat_map(|family| family.rows) {
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
    let mut reader =
        Reader { object, settings, snippets, problems: Vec::new(), ignored: Vec::new() };
    if let Some(kind) = ObjectKind::named(object.kind) {
        for (name, value) in metadata.annotations.iter().flatten() {
            reader.annotation(kind, name, value);
        }
        if kind.has_paths() {
            reader.foreign(metadata.annotations.iter().flatten());
        }
        reader.ignored();
    }
    (reader.settings, reader.problems)
}

/// What is wrong with the names of an object's annotations. Values that the owner of the object's kind
/// reads are its own business.
pub fn problems(object: &ObjectRef, metadata: &ObjectMeta) -> Vec<Problem> {
    parse(object, metadata).1
}

/// What the annotations of an object say of the way to its backends. What is wrong with them [`problems`] says.
pub fn policy(object: &ObjectRef, metadata: &ObjectMeta) -> Arc<Policy> {
    parse(object, metadata).0.policy.shared()
}

/// An object under way.
struct Reader<'o> {
    object: &'o ObjectRef,
    settings: Settings,
    /// Snippets are read, those that are understood in whole.
    snippets: bool,
    problems: Vec<Problem>,
    /// Names that have no effect.
    ignored: Vec<String>,
}

impl Reader<'_> {
    fn annotation(&mut self, kind: ObjectKind, full: &str, value: &str) {
        let Some((family, name)) = family_of(full) else { return };
        if !family.objects.contains(&kind) {
            return;
        }
        match family.row(name) {
            Some(row) if row.objects.contains(&kind) => self.known(row, full, value),
            Some(row) => self.misplaced(row, full),
            None if family.exclusive => {
                let unknown = unknown::judge(name, family, kind);
                self.unknown(kind, &unknown, family, full, value);
            }
            None => {}
        }
        if !full.starts_with(family.prefix) && family.row(name).is_some() {
            let current = format!("{}{name}", family.prefix);
            self.warn(
                "DeprecatedAnnotation",
                full,
                format!("it is the old name of {current}"),
                "rename it: the new name wins where both are there".into(),
            );
        }
    }

    fn known(&mut self, row: &Annotation, full: &str, value: &str) {
        match (row.parser.read)(value) {
            Ok(Setting::Unbuilt) if row.name == gatehouse::UNREAD_FIELDS.name => self.unread(value),
            Ok(Setting::Unbuilt) if self.snippets && row.of_nginx() => {
                self.snippet(row, full, value);
            }
            Ok(Setting::Unbuilt) => self.unbuilt(row, full, value),
            Ok(setting) => self.settings.put(setting, full),
            Err(fault) => self.invalid(row, full, value, fault),
        }
    }

    /// Does what a snippet says, if all of it has settings here.
    fn snippet(&mut self, row: &Annotation, full: &str, value: &str) {
        let reach = if row.of_host { Reach::Host } else { Reach::Paths };
        let read = snippet::understand(value, reach);
        let same =
            |name: &str| nginx::FAMILY.row(name).filter(|row| row.status == Status::Honoured);
        let settings = read.and_then(|snippet| {
            let settings = snippet.annotations.iter().map(|(name, value)| {
                let read = same(name).map(|row| (row.parser.read)(value));
                read.and_then(Result::ok).ok_or_else(|| format!("{name} {value}"))
            });
            Ok((settings.collect::<Result<Vec<_>, _>>()?, snippet))
        });
        match settings {
            Ok((settings, snippet)) => {
                settings.into_iter().for_each(|setting| self.settings.put(setting, full));
                self.settings.snippet.answer.extend(snippet.answer);
                self.settings.snippet.request.extend(snippet.request);
            }
            Err(what) => {
                let what = format!("{} is not understood", shown(&what));
                self.close(full, &what, row.nothing(), Some(row));
            }
        }
    }

    /// The value asks for something that is not built.
    fn unbuilt(&mut self, row: &Annotation, full: &str, value: &str) {
        match row.status {
            _ if row.protects => {
                let what = format!("{} is not supported yet", shown(value));
                self.close(full, &what, row.nothing(), Some(row));
            }
            Status::Differs(instead) => self.differs(full, instead),
            _ => self.ignored.push(full.to_owned()),
        }
    }

    /// Fields that the reader of the object does not know.
    fn unread(&mut self, fields: &str) {
        self.settings.deny.get_or_insert("UnknownField");
        for field in fields.split_whitespace() {
            let (field, meant) = field.split_once('=').unwrap_or((field, ""));
            let meant = if meant.is_empty() { String::new() } else { format!(" ({meant}?)") };
            let message = format!(
                "the field is not known{meant} and may limit who is served, so every path is closed (503)"
            );
            let hint = "correct its name, or remove it";
            self.problems.push(Problem::error(self.object, "UnknownField", field, message, hint));
        }
    }

    fn invalid(&mut self, row: &Annotation, full: &str, value: &str, fault: Fault) {
        let Fault { reason, message, hint, leaves } = fault;
        let message = format!("value {} {message}", shown(value));
        let rest = match (&leaves, row.default) {
            (Setting::Nothing, "") => "; it has no effect".to_owned(),
            (Setting::Nothing, default) => format!("; {default:?} is used"),
            _ => String::new(),
        };
        self.settings.set(leaves);
        if row.protects {
            self.settings.deny.get_or_insert(reason);
            self.settings.deny_host |= row.of_host;
            self.error(reason, full, format!("{message}; every path is closed (503)"), hint.into());
        } else {
            self.warn(reason, full, message, format!("{hint}{rest}"));
        }
    }

    /// The row is read on other kinds of objects.
    fn misplaced(&mut self, row: &Annotation, full: &str) {
        let kinds: Vec<_> = row.objects.iter().map(|kind| kind.name()).collect();
        let message = format!("it has no effect on a {}", self.object.kind);
        self.warn(
            "AnnotationIgnored",
            full,
            message,
            format!("it belongs on {}", kinds.join(", ")),
        );
    }

    fn unknown(
        &mut self,
        kind: ObjectKind,
        unknown: &unknown::Unknown,
        family: &Family,
        full: &str,
        value: &str,
    ) {
        let meant = unknown.meant.map(|row| format!(": {}{} was meant?", family.prefix, row.name));
        let meant = meant.unwrap_or_default();
        match unknown.protects {
            Some(parser) if kind.has_paths() && asks(parser, value) => {
                let what = format!("{} is not known{meant}", shown(value));
                self.close(full, &what, parser.nothing, unknown.meant);
            }
            _ if meant.is_empty() => self.ignored.push(full.to_owned()),
            _ => {
                let message = format!("it is not known and has no effect{meant}");
                self.warn("AnnotationIgnored", full, message, "correct the name".into());
            }
        }
    }

    /// It has no effect, and the answers are not what they would be.
    fn differs(&mut self, full: &str, instead: &str) {
        let message = format!("it is not supported: {instead}");
        let hint = format!("remove it if the {} may do without", self.object.kind);
        self.error("AnnotationIgnored", full, message, hint);
    }

    /// What has no effect and changes no answer, in one problem.
    fn ignored(&mut self) {
        let one = match &*std::mem::take(&mut self.ignored) {
            [] => return,
            [one] => Some(one.clone()),
            many => {
                let message =
                    format!("{} annotations have no effect: {}", many.len(), many.join(", "));
                let hint = format!("remove them if the {} may do without", self.object.kind);
                let field = "metadata.annotations";
                let problem =
                    Problem::warning(self.object, "AnnotationIgnored", field, message, hint);
                self.problems.push(problem);
                None
            }
        };
        if let Some(full) = one {
            let hint = format!("remove it if the {} may do without", self.object.kind);
            self.warn("AnnotationIgnored", &full, "it has no effect".into(), hint);
        }
    }

    /// Closes every path; `nothing` are values that would not.
    fn close(&mut self, full: &str, what: &str, nothing: &[&str], row: Option<&Annotation>) {
        self.settings.deny.get_or_insert(NOT_SUPPORTED);
        let hint = match (row.map_or("", |row| row.remedy), nothing) {
            ("", []) => "remove the annotation if the paths may be open".to_owned(),
            ("", [value, ..]) => {
                format!("remove the annotation, or write {value:?}, if the paths may be open")
            }
            (remedy, _) => remedy.to_owned(),
        };
        let of_host = row.is_some_and(|row| row.of_host);
        self.settings.deny_host |= of_host;
        let reach = if of_host { " of its hosts" } else { "" };
        let message = format!("{what}, so every path{reach} is closed (503)");
        self.error(NOT_SUPPORTED, full, message, hint);
    }

    /// Annotations of other controllers: one problem for each prefix and effect.
    fn foreign<'m>(&mut self, annotations: impl Iterator<Item = (&'m String, &'m String)>) {
        for found in foreign::judge(annotations) {
            let (field, who) = match &*found.names {
                [one] => (Found { name: one, value: "" }.field(), String::new()),
                many => ("metadata.annotations".to_owned(), format!("{}: ", many.join(", "))),
            };
            let who = format!("{who}read by {} only", found.program);
            let problem = match found.effect {
                foreign::Effect::Protects => {
                    self.settings.deny.get_or_insert(NOT_SUPPORTED);
                    Problem::error(
                        self.object,
                        NOT_SUPPORTED,
                        field,
                        format!("{who}, and protects, so every path is closed (503)"),
                        "remove it if the paths may be open, or give the object a class of that controller",
                    )
                }
                foreign::Effect::Answers => Problem::error(
                    self.object,
                    "AnnotationIgnored",
                    field,
                    format!("{who}; the answers are not what it asks for"),
                    "remove it, or say the same with an annotation of ingress-nginx",
                ),
                foreign::Effect::Tuning => Problem::warning(
                    self.object,
                    "AnnotationIgnored",
                    field,
                    format!("{who}, without effect here"),
                    "remove it",
                ),
            };
            self.problems.push(problem);
        }
    }

    fn warn(&mut self, reason: &'static str, full: &str, message: String, hint: String) {
        let field = Found { name: full, value: "" }.field();
        self.problems.push(Problem::warning(self.object, reason, field, message, hint));
    }

    fn error(&mut self, reason: &'static str, full: &str, message: String, hint: String) {
        let field = Found { name: full, value: "" }.field();
        self.problems.push(Problem::error(self.object, reason, field, message, hint));
    }
}

impl Settings {
    /// The filters that are the same for every path of the object.
    pub(crate) fn filters(&self, object: &ObjectRef) -> Vec<Filter> {
        let rules = &self.addresses;
        let access =
            (*rules != AddressRules::default()).then(|| Filter::Access(Arc::new(rules.clone())));
        let cors = self.cors.policy().map(|cors| Filter::Cors(Arc::new(cors)));
        let host =
            self.upstream_host.clone().map(|host| Filter::SetHeader(http::header::HOST, host));
        access
            .into_iter()
            .chain(self.limits.filters(object))
            .chain(cors)
            .chain(self.body_limit.map(Filter::BodyLimit))
            .chain(host)
            .chain(self.hsts.clone().map(Filter::Hsts))
            .chain(self.snippet.filters())
            .collect()
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
            Setting::MaybeRegex => self.maybe_regex = true,
            Setting::Transport(part) => self.transport.set(part),
            Setting::PassThrough(on) => self.passthrough = on,
            Setting::Authentication(setting) => self.authentication.set(setting),
            Setting::PerSecond(count) => self.limits.per_second = Some(count),
            Setting::PerMinute(count) => self.limits.per_minute = Some(count),
            Setting::Connections(count) => self.limits.connections = Some(count),
            Setting::PaceRate(rate) => self.limits.pace = Some(rate),
            Setting::PaceAfter(bytes) => self.limits.pace_after = bytes,
            Setting::Burst(times) => self.limits.burst = times,
            Setting::LimitConnections(on) => self.limits.routes.on = on,
            Setting::RateHttp(count) => self.limits.routes.requests = Some(count),
            Setting::RateTcp(count) => self.limits.routes.connections = Some(count),
            Setting::PrefixTarget(target) => self.prefix_target = Some(target),
            Setting::Forwarded(mode) => self.policy.forwarded = Some(mode),
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
        }
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

/// Whether there is a row of this whole name.
#[cfg(test)]
pub(crate) fn is_known(full: &str) -> bool {
    family_of(full).is_some_and(|(family, name)| family.row(name).is_some())
}

/// Whether a value asks for anything but what happens anyway.
fn asks(parser: value::Parser, value: &str) -> bool {
    let clear_text = Setting::Transport(transport::Part::Speaks(Speaks::Http1));
    !matches!((parser.read)(value), Ok(Setting::Nothing)) && (parser.read)(value) != Ok(clear_text)
}

/// A value as messages repeat it.
fn shown(value: &str) -> String {
    match value.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{:?}…", &value[..end]),
        None => format!("{value:?}"),
    }
}

#[cfg(test)]
mod tests;
