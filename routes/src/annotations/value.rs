//! How the values of annotations are read: one [`Parser`] for each form of value.
//!
//! A parser sees the value alone, never the name of the annotation. Which values ask for nothing is the
//! parser's to say, so that a protection that is switched off closes no path.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, StatusCode};

use super::backend_text::BackendText;
use super::buffers::AnswerBuffer;
use super::choice::ChoiceSetting;
use super::termination::Termination;
use super::transport::Part;
use crate::{
    canary::ValueRegex,
    filter::{cors::Origins, limit_key::LimitKey, rate_limit::LimitScope, tls_terms::Versions},
    model::HostPattern,
    networks::{Network, Networks},
    options::EncodedSlashes,
    path,
    policy::{
        forwarded::ForwardedFields, proxy_protocol::ProxyProtocol, retries::Failures,
        upgrades::Upgrades,
    },
    template::Template,
};

mod answer;
mod answers;
mod authentication;
mod canary;
mod choice;
mod client_certificates;
mod ejection;
mod jwt;
mod limits;
mod mirror;
mod policy;
mod route;
mod tls;
mod transport;

pub(super) use answer::*;
pub(super) use answers::*;
pub(crate) use answers::{AnswerSetting, SecurityHeaders};
pub(super) use authentication::*;
pub(crate) use authentication::{AuthUrl, AuthenticationSetting, Layout};
pub(super) use canary::*;
pub(super) use choice::*;
pub(crate) use client_certificates::ClientCertificateSetting;
pub(super) use client_certificates::*;
pub(super) use ejection::*;
pub(crate) use jwt::JwtSetting;
pub(super) use jwt::*;
pub(super) use limits::*;
pub(super) use mirror::*;
pub(crate) use mirror::{MirrorSetting, MirrorUrl};
pub(super) use policy::*;
pub(super) use route::*;
pub(super) use tls::*;
pub(super) use transport::*;

/// A value, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// It asks for nothing, or for what happens anyway.
    Nothing,
    /// It asks for something that is not built.
    Unbuilt,
    /// The owner of the object's kind looks at the text itself.
    Text,
    /// Paths of type ImplementationSpecific are regular expressions.
    UseRegex(bool),
    /// Redirect to https where the host has a `tls` entry.
    SslRedirect(bool),
    /// Redirect to https in any case.
    ForceSslRedirect(bool),
    /// Send this path to the backend.
    Rewrite(Target),
    /// Only clients of these networks may pass.
    Allow(Networks),
    /// Clients of these networks may not pass.
    DenyFrom(Networks),
    /// Bytes of a request's body at most.
    BodyLimit(u64),
    /// Bodies of requests are read in whole first.
    BufferRequests(bool),
    /// Bytes of such a body in memory.
    BodyMemory(u64),
    /// A part of how answers wait for their clients.
    AnswerBuffer(AnswerBuffer),
    /// Paths may be regular expressions: what would say so cannot be read.
    MaybeRegex,
    /// A part of what is said of the way to the backend.
    Transport(Part),
    /// TLS to the backend as it is.
    PassThrough(bool),
    /// What becomes of TLS, as a Route has it: clear text is redirected.
    Termination(Termination),
    /// Secret with the authorities of the pods.
    DestinationCa(Arc<str>),
    /// The header that connections to the backend begin with.
    ProxyProtocol(ProxyProtocol),
    /// Who may pass.
    Authentication(AuthenticationSetting),
    /// Which certificates clients show.
    ClientCertificate(ClientCertificateSetting),
    /// Versions of TLS that clients may speak.
    TlsVersions(Versions),
    /// Ciphers that they may use.
    TlsCiphers(Arc<str>),
    /// Our order of ciphers counts.
    TlsOwnOrder(bool),
    /// Copies of requests.
    Mirror(MirrorSetting),
    /// What a client's token has to be.
    Jwt(JwtSetting),
    /// Requests of a client within a second at most.
    PerSecond(u32),
    /// Requests of a client within a minute at most.
    PerMinute(u32),
    /// Requests of a client under way at most.
    Connections(u32),
    /// Bytes per second of an answer.
    PaceRate(u64),
    /// Bytes of an answer that leave at once.
    PaceAfter(u64),
    /// So many times the limit may come at once.
    Burst(u32),
    /// The limits of OpenShift's router count.
    LimitConnections(bool),
    /// Requests of a client within 10 s at most, all of which may come at once.
    RateHttp(u32),
    /// Connections of a client within 3 s at most.
    RateTcp(u32),
    /// Requests at once, by OpenShift's name.
    ConcurrentTcp(u32),
    /// What tells clients apart where limits count.
    LimitBy(LimitKey),
    /// Where limits count.
    LimitScope(LimitScope),
    /// Requests within a window at most, on all nodes together, and what belongs to that.
    GroupRate(u32),
    GroupWindow(Duration),
    GroupKey(LimitKey),
    GroupExempt(Networks),
    /// Status for what is too much.
    LimitStatus(StatusCode),
    /// The same for requests at once.
    ConnectionsStatus(StatusCode),
    /// Clients are told of their limits.
    LimitShown(bool),
    /// The prefix that a path matches becomes this one.
    PrefixTarget(Arc<str>),
    /// What becomes of the fields that say where a request comes from.
    Forwarded(ForwardedFields),
    /// Names of headers are spelled for the backends as the process lists them.
    HeaderCase(bool),
    /// What connections may become on request.
    Upgrades(Upgrades),
    /// Clients of these networks are not counted.
    LimitExempt(Networks),
    /// The Ingress takes requests of another one.
    Canary(bool),
    /// Which ones, part by part.
    CanaryHeader(HeaderName),
    CanaryValue(HeaderValue),
    CanaryPattern(ValueRegex),
    CanaryCookie(Arc<str>),
    CanaryWeight(u32),
    CanaryTotal(u32),
    /// All requests are sent there for good.
    Permanent(Template),
    /// With this status.
    PermanentCode(u16),
    /// All requests are sent there for now.
    Temporal(Template),
    /// With this status.
    TemporalCode(u16),
    /// Where requests of `/` are sent.
    AppRoot(Arc<str>),
    /// The host with or without `www.` is sent to this one.
    FromToWww(bool),
    /// Services of one namespace and their shares of the requests.
    Weights(Arc<[(Arc<str>, u16)]>),
    /// More names of the hosts.
    Aliases(Arc<[HostPattern]>),
    /// Redirects to https keep a slash at the end.
    KeepSlash(bool),
    /// There is a CORS policy.
    EnableCors(bool),
    /// What it says, part by part.
    CorsOrigins(Origins),
    CorsMethods(HeaderValue),
    CorsHeaders(HeaderValue),
    CorsExpose(HeaderValue),
    CorsCredentials(bool),
    CorsMaxAge(HeaderValue),
    /// `Host` for the backend.
    UpstreamHost(BackendText),
    /// `X-Forwarded-Prefix` for the backend, along with a rewrite.
    ForwardedPrefix(HeaderValue),
    /// `Strict-Transport-Security` of answers over TLS.
    Hsts(HeaderValue),
    /// Something about answers.
    Answer(AnswerSetting),
    /// What becomes of encoded slashes.
    EncodedSlashes(EncodedSlashes),
    /// Which endpoint gets a request, part by part.
    Choice(ChoiceSetting),
    /// How long an endpoint may take to accept a connection.
    ConnectTimeout(Duration),
    /// How long a backend may be silent.
    ReadTimeout(Duration),
    /// The same, and how long nothing may move in a tunnel.
    PauseTimeout(Duration),
    /// How long a backend may take nothing.
    SendTimeout(Duration),
    /// How long nothing may move in a tunnel.
    TunnelTimeout(Duration),
    /// How far a client may fall behind with its body.
    BodyTimeout(Duration),
    /// The rate of a client's body, in bytes per second.
    BodyRate(u32),
    /// Which failures are for another endpoint to mend.
    RetryOn(Failures),
    /// Endpoints that get a request at most.
    Tries(u32),
    /// How long a request goes from one to the next.
    TriesTime(Duration),
    /// Percent of the requests under way that may be second tries.
    RetryBudget(u8),
    /// Second tries that may be under way in any case.
    RetryMinimum(u32),
}

/// A usable rewrite target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// As a request path spells it, references kept.
    pub(crate) text: Arc<str>,
    /// Whether it refers to `$1` … `$9`.
    pub(crate) captures: bool,
}

/// Why a value cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Reason of the problem.
    pub(super) reason: &'static str,
    /// What is wrong, to stand after the value.
    pub(super) message: String,
    pub(super) hint: &'static str,
    /// What holds for the object nevertheless.
    pub(super) leaves: Setting,
}

impl Fault {
    fn new(reason: &'static str, message: impl Into<String>, hint: &'static str) -> Self {
        Self { reason, message: message.into(), hint, leaves: Setting::Nothing }
    }
}

/// Reads values of one form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parser {
    pub(super) read: fn(&str) -> Result<Setting, Fault>,
    /// Values that ask for nothing, for docs and hints; the empty one is not named.
    pub(super) nothing: &'static [&'static str],
}

/// Texts that their reader looks into.
pub(super) const READ_BY_OWNER: Parser = Parser { read: |_| Ok(Setting::Text), nothing: &[] };
/// Texts of which nothing matters.
pub(super) const IGNORED: Parser = Parser { read: |_| Ok(Setting::Nothing), nothing: &[] };

pub(super) const USE_REGEX: Parser = Parser { read: use_regex, nothing: &[] };
pub(super) const SSL_REDIRECT: Parser =
    Parser { read: |value| flag(value).map(Setting::SslRedirect), nothing: &[] };
pub(super) const PASS_THROUGH: Parser =
    Parser { read: |value| switch(value).map(Setting::PassThrough), nothing: &["false"] };
pub(super) const FORCE_SSL_REDIRECT: Parser =
    Parser { read: |value| flag(value).map(Setting::ForceSslRedirect), nothing: &[] };
pub(super) const REWRITE: Parser = Parser { read: rewrite, nothing: &[] };
/// What becomes of encoded slashes.
pub(super) const ENCODED_SLASHES: Parser = Parser {
    read: |value| match value.trim() {
        "" => Ok(Setting::Nothing),
        value => value.parse().map(Setting::EncodedSlashes).map_err(|_| Fault {
            reason: "InvalidAnnotation",
            message: "is not safe, keep or reject".into(),
            hint: "write one of the three",
            leaves: Setting::Nothing,
        }),
    },
    nothing: &[],
};
/// How OpenShift terminates the TLS of an Ingress: clear text is redirected always.
pub(super) const TERMINATION: Parser = Parser {
    read: |value| {
        Ok(match value.trim() {
            "" => Setting::Nothing,
            "edge" => Setting::Termination(Termination::Edge),
            "reencrypt" => Setting::Termination(Termination::Reencrypt),
            "passthrough" => Setting::Termination(Termination::PassThrough),
            _ => Setting::Unbuilt,
        })
    },
    nothing: &[],
};

/// Networks that may pass, separated by commas.
pub(super) const NETWORKS: Parser = Parser { read: allowed, nothing: &["0.0.0.0/0,::/0"] };
/// Networks that may pass, separated by spaces, as OpenShift's router reads them.
pub(super) const SPACED_NETWORKS: Parser = Parser { read: allowed, nothing: &["0.0.0.0/0 ::/0"] };
/// Networks that may not pass, separated by commas.
pub(super) const DENIED_NETWORKS: Parser = Parser {
    read: |value| {
        let denied = listed(value)?;
        Ok(if denied.is_empty() { Setting::Nothing } else { Setting::DenyFrom(denied) })
    },
    nothing: &[],
};
/// The size of a body, in nginx's units; zero stands for no limit.
pub(super) const BODY_SIZE: Parser = Parser {
    read: |value| match value.trim() {
        value if is_off(value) => Ok(Setting::Nothing),
        value => size(value).map(|size| match size {
            0 => Setting::Nothing,
            size => Setting::BodyLimit(size),
        }),
    },
    nothing: &["0"],
};

// Parsers of what is not built tell only whether something is asked for.

/// Any text.
pub(super) const TEXT: Parser =
    Parser { read: |value| unless(value.trim().is_empty()), nothing: &[] };
/// A flag that is off by default.
pub(super) const FLAG: Parser = Parser { read: |value| unless(is_off(value)), nothing: &["false"] };
/// A flag whose `true` is what happens anyway.
pub(super) const FLAG_ON: Parser = Parser {
    read: |value| unless(value.trim().is_empty() || go_bool(value.trim()) == Some(true)),
    nothing: &["true"],
};
/// The mode of a firewall.
pub(super) const FIREWALL: Parser = Parser {
    read: |value| unless(is_off(value) || value.trim().eq_ignore_ascii_case("inactive")),
    nothing: &["inactive"],
};
/// The value of a protection that only its name is known of.
const UNKNOWN: Parser = Parser {
    read: |value| unless(is_off(value) || allowed(value) == Ok(Setting::Nothing)),
    nothing: &["false"],
};
/// The same of those who may not pass: a list of everybody is one.
const UNKNOWN_DENIAL: Parser = Parser { read: |value| unless(is_off(value)), nothing: &["false"] };

/// How a value is read of whose name nothing is known but its words.
pub(super) fn unknown(name: &str) -> Parser {
    let denies = ["deny", "denied", "black", "block", "forbid", "exclu", "reject"];
    match denies.iter().any(|word| name.contains(word)) {
        true => UNKNOWN_DENIAL,
        false => UNKNOWN,
    }
}

fn unless(nothing: bool) -> Result<Setting, Fault> {
    Ok(if nothing { Setting::Nothing } else { Setting::Unbuilt })
}

/// A flag, for which any word will do that switches off.
fn switch(value: &str) -> Result<bool, Fault> {
    if is_off(value) { Ok(false) } else { flag(value) }
}

fn flag(value: &str) -> Result<bool, Fault> {
    go_bool(value).ok_or_else(|| {
        let message = "is neither true nor false";
        Fault::new("InvalidAnnotation", message, "write \"true\" or \"false\"")
    })
}

fn use_regex(value: &str) -> Result<Setting, Fault> {
    let fault = |fault| Fault { leaves: Setting::MaybeRegex, ..fault };
    flag(value).map(Setting::UseRegex).map_err(fault)
}

/// `name` or `namespace/name`; whether the namespace may be another one is the reader's to say.
fn named(value: &str, setting: impl FnOnce(Arc<str>) -> Setting) -> Result<Setting, Fault> {
    let value = value.trim();
    if value.is_empty() {
        return Ok(Setting::Nothing);
    }
    let is_name = |part: &str| {
        let known =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        !part.is_empty() && part.len() <= 253 && part.bytes().all(known)
    };
    let (namespace, name) = value.split_once('/').unwrap_or(("default", value));
    match is_name(namespace) && is_name(name) {
        true => Ok(setting(value.into())),
        false => Err(Fault::new(
            "InvalidAnnotation",
            "is not the name of an object",
            "write the name of an object of the same namespace",
        )),
    }
}

/// Nothing, or a word that switches off.
fn is_off(value: &str) -> bool {
    let value = value.trim();
    let words = ["", "off", "no", "none", "disabled"];
    go_bool(value) == Some(false) || words.iter().any(|word| word.eq_ignore_ascii_case(value))
}

/// Go's `strconv.ParseBool`, which ingress-nginx uses.
fn go_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A list of networks that may pass, unless it holds every address of both families.
fn allowed(value: &str) -> Result<Setting, Fault> {
    let allowed = networks(value)?;
    let nothing = allowed.is_empty() || allowed.is_everybody();
    Ok(if nothing { Setting::Nothing } else { Setting::Allow(allowed) })
}

/// Networks of a list for which none at all is as good as no list.
fn listed(value: &str) -> Result<Networks, Fault> {
    if is_off(value) { Ok(Networks::default()) } else { networks(value) }
}

/// Networks, whatever stands between them; empty entries, as behind the last comma, do not count.
fn networks(value: &str) -> Result<Networks, Fault> {
    // `none` is not among the words: of a list of those who may pass it could mean that nobody may.
    if ["off", "false", "disabled"].iter().any(|off| off.eq_ignore_ascii_case(value.trim())) {
        return Ok(Networks::default());
    }
    let entries = value.split([',', ' ', '\t', '\r', '\n']).filter(|entry| !entry.is_empty());
    let networks = entries.map(|entry| {
        entry.parse::<Network>().map_err(|error| {
            let message = format!("holds {entry:?}, which {error}");
            Fault::new("InvalidNetwork", message, "write addresses and networks only")
        })
    });
    networks.collect()
}

/// A number of bytes, with `k`, `m` or `g` behind it as nginx reads them.
fn size(value: &str) -> Result<u64, Fault> {
    let (digits, shift) = match value.as_bytes().last().map(u8::to_ascii_lowercase) {
        Some(b'b') => (&value[..value.len() - 1], 0),
        Some(b'k') => (&value[..value.len() - 1], 10),
        Some(b'm') => (&value[..value.len() - 1], 20),
        Some(b'g') => (&value[..value.len() - 1], 30),
        _ => (value, 0),
    };
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u64>());
    let size = number.and_then(Result::ok).and_then(|number| number.checked_mul(1 << shift));
    size.ok_or_else(|| {
        Fault::new(
            "InvalidAnnotation",
            "is not a size",
            "write a number of bytes such as 1048576, 1024k, 8m or 1g",
        )
    })
}

fn rewrite(value: &str) -> Result<Setting, Fault> {
    let value = value.trim();
    if value.is_empty() {
        return Ok(Setting::Nothing);
    }
    let leaves = Setting::MaybeRegex;
    let fault = |(message, hint)| Fault { reason: "InvalidRewriteTarget", message, hint, leaves };
    target(value).map(Setting::Rewrite).map_err(fault)
}

/// Checks a rewrite target; `Err` holds what is wrong and what to do.
fn target(value: &str) -> Result<Target, (String, &'static str)> {
    let away = crate::filter::leads_away(value);
    let at = value.find('?').filter(|_| !away).unwrap_or(value.len());
    let (value, query) = value.split_at(at);
    if let Some(bad) = query.bytes().find(|b| !b.is_ascii_graphic() || b"#\\\"<>".contains(b)) {
        return Err((format!("holds the byte 0x{bad:02x} in its query"), "percent-encode it"));
    }
    if !away && !value.starts_with(['/', '$']) {
        return Err(("does not begin with '/'".into(), "begin the path with '/'"));
    }
    let mut captures = false;
    for behind in [value, query].iter().flat_map(|part| part.split('$').skip(1)) {
        if !behind.starts_with(|next| ('1'..='9').contains(&next)) {
            let message = "holds a '$' that is not followed by a digit from 1 to 9".into();
            return Err((message, "only $1 to $9 can be filled in"));
        }
        captures = true;
    }
    if captures || away {
        // The parts between the references are checked once they are put together.
        if let Some(bad) = value.bytes().find(|b| b.is_ascii_control() || b"#\\".contains(b)) {
            return Err((format!("holds the byte 0x{bad:02x}"), "percent-encode it"));
        }
        let text = if away { value.to_owned() } else { path::escaped(value).into_owned() };
        if away && !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err((
                "cannot be sent".into(),
                "write a URL such as https://www.example.com/$1",
            ));
        }
        return Ok(Target { text: (text + query).into(), captures });
    }
    match path::pattern(value) {
        Ok(text) => Ok(Target { text: (text.into_owned() + query).into(), captures }),
        Err(error) => {
            Err((format!("cannot be sent: {error}"), "write a path that a client could send"))
        }
    }
}

/// One word of a few, or one that switches off.
fn one_of<T: Copy>(value: &str, known: &[(&str, T)]) -> Result<Option<T>, Fault> {
    let value = value.trim();
    match known.iter().find(|(word, _)| word.eq_ignore_ascii_case(value)) {
        Some((_, meant)) => Ok(Some(*meant)),
        None if is_off(value) => Ok(None),
        None => {
            let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
            let message = format!("is none of {} and off", words.join(", "));
            Err(Fault::new("InvalidAnnotation", message, "write one of these words"))
        }
    }
}

#[cfg(test)]
mod tests;
