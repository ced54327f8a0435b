//! Which endpoint gets a request, as annotations say it part by part: balancing and sessions.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use super::{
    Settings,
    ejection::{EjectionSetting, EjectionSettings},
};
use crate::{
    objects::ObjectRef,
    policy::{
        Policy,
        affinity::{Affinity, Mode, SameSite, Secure},
        balance::{Algorithm, Balance},
        check::{Check, CheckKind},
        hash_by::HashKey,
        limits::{self, Limits},
        md5,
    },
};

/// Endpoints that share the requests of a key, where the object does not say how many.
const SUBSET: u32 = 3;
/// Times of checks where an object does not say more: those of HAProxy and of OpenShift's router.
const INTERVAL: Duration = Duration::from_secs(5);
/// Shortest time for a check where no object says it: a host that is busy for a moment is not down.
const TIMEOUT: Duration = Duration::from_secs(2);
const FALL: u32 = 3;
const RISE: u32 = 2;

/// One annotation's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChoiceSetting {
    Algorithm(Algorithm),
    HashBy(HashKey),
    Subset(bool),
    SubsetSize(u32),
    SlowStart(Duration),
    PanicPercent(u8),
    /// There is a cookie.
    Affinity,
    Mode(Mode),
    CookieName(Arc<str>),
    CookiePath(Arc<str>),
    CookieDomain(Arc<str>),
    CookieSameSite(SameSite),
    ConditionalNone(bool),
    CookieSecure(bool),
    Partitioned(bool),
    MaxAge(u32),
    Expires(u32),
    Moves(bool),
    StickyCanary(bool),
    /// The cookie that OpenShift's router sets without being asked.
    NoRouterCookie(bool),
    RouterCookieName(Arc<str>),
    RouterSameSite(SameSite),
    MaxConnections(NonZeroU32),
    MaxPending(u32),
    /// Endpoints are checked.
    Check(CheckedBy),
    CheckPath(Arc<str>),
    CheckHost(Arc<str>),
    CheckService(Arc<str>),
    CheckInterval(Duration),
    /// The same, which OpenShift's router always does by connects.
    RouterCheckInterval(Duration),
    CheckTimeout(Duration),
    CheckFall(u32),
    CheckRise(u32),
    Ejection(EjectionSetting),
}

/// What is spoken to check an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckedBy {
    Tcp,
    Http,
    Grpc,
}

/// What all annotations of an object say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChoiceSettings {
    algorithm: Option<Algorithm>,
    hash_by: Option<HashKey>,
    subset: bool,
    subset_size: Option<u32>,
    slow_start: Duration,
    panic_percent: u8,
    cookie: CookieSettings,
    router: RouterSettings,
    connections: Option<NonZeroU32>,
    pending: Option<u32>,
    check: CheckSettings,
    ejection: EjectionSettings,
}

/// How endpoints are checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct CheckSettings {
    by: Option<CheckedBy>,
    path: Option<Arc<str>>,
    host: Option<Arc<str>>,
    service: Option<Arc<str>>,
    interval: Option<Duration>,
    timeout: Option<Duration>,
    fall: Option<u32>,
    rise: Option<u32>,
}

/// The cookie of ingress-nginx.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct CookieSettings {
    on: bool,
    mode: Mode,
    name: Option<Arc<str>>,
    path: Option<Arc<str>>,
    domain: Option<Arc<str>>,
    same_site: Option<SameSite>,
    conditional_none: bool,
    secure: Option<bool>,
    partitioned: bool,
    max_age: Option<u32>,
    expires: Option<u32>,
    moves: bool,
    sticky_canary: bool,
}

/// The cookie of OpenShift's router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct RouterSettings {
    off: bool,
    name: Option<Arc<str>>,
    same_site: Option<SameSite>,
}

impl Settings {
    /// Whether connections of a client that are passed on go to one endpoint, if the object says.
    pub(crate) fn keeps_clients(&self) -> Option<bool> {
        self.choice.algorithm.as_ref().map(|one| matches!(one, Algorithm::Hash { .. }))
    }

    /// The way to the backends. `secure`: whether the cookie of a Route is for TLS only; `None` on an Ingress.
    pub(crate) fn policy(&self, object: &ObjectRef, secure: Option<bool>) -> Arc<Policy> {
        let (balance, affinity) = (self.choice.balance(), self.choice.affinity(object, secure));
        let (limits, check) = (self.choice.limits(), self.choice.check());
        let ejection = self.choice.ejection.ejection();
        let buffering = self.buffers.then_some(self.buffering);
        let answers = self.answer_buffers.buffering();
        let own = self.policy.clone();
        Policy { balance, affinity, limits, buffering, answers, check, ejection, ..own }.shared()
    }
}

impl ChoiceSettings {
    pub(super) fn set(&mut self, setting: ChoiceSetting) {
        let (cookie, router, check) = (&mut self.cookie, &mut self.router, &mut self.check);
        match setting {
            ChoiceSetting::Algorithm(algorithm) => self.algorithm = Some(algorithm),
            ChoiceSetting::HashBy(key) => self.hash_by = Some(key),
            ChoiceSetting::Subset(on) => self.subset = on,
            ChoiceSetting::SubsetSize(size) => self.subset_size = Some(size),
            ChoiceSetting::SlowStart(time) => self.slow_start = time,
            ChoiceSetting::PanicPercent(percent) => self.panic_percent = percent,
            ChoiceSetting::Affinity => cookie.on = true,
            ChoiceSetting::Mode(mode) => cookie.mode = mode,
            ChoiceSetting::CookieName(name) => cookie.name = Some(name),
            ChoiceSetting::CookiePath(path) => cookie.path = Some(path),
            ChoiceSetting::CookieDomain(domain) => cookie.domain = Some(domain),
            ChoiceSetting::CookieSameSite(same_site) => cookie.same_site = Some(same_site),
            ChoiceSetting::ConditionalNone(on) => cookie.conditional_none = on,
            ChoiceSetting::CookieSecure(on) => cookie.secure = Some(on),
            ChoiceSetting::Partitioned(on) => cookie.partitioned = on,
            ChoiceSetting::MaxAge(seconds) => cookie.max_age = Some(seconds),
            ChoiceSetting::Expires(seconds) => cookie.expires = Some(seconds),
            ChoiceSetting::Moves(on) => cookie.moves = on,
            ChoiceSetting::StickyCanary(on) => cookie.sticky_canary = on,
            ChoiceSetting::NoRouterCookie(off) => router.off = off,
            ChoiceSetting::RouterCookieName(name) => router.name = Some(name),
            ChoiceSetting::RouterSameSite(same_site) => router.same_site = Some(same_site),
            ChoiceSetting::MaxConnections(count) => self.connections = Some(count),
            ChoiceSetting::MaxPending(count) => self.pending = Some(count),
            ChoiceSetting::Check(by) => check.by = Some(by),
            ChoiceSetting::CheckPath(path) => check.path = Some(path),
            ChoiceSetting::CheckHost(host) => check.host = Some(host),
            ChoiceSetting::CheckService(service) => check.service = Some(service),
            ChoiceSetting::CheckInterval(time) => check.interval = Some(time),
            ChoiceSetting::RouterCheckInterval(time) => {
                check.interval.get_or_insert(time);
                check.by.get_or_insert(CheckedBy::Tcp);
            }
            ChoiceSetting::CheckTimeout(time) => check.timeout = Some(time),
            ChoiceSetting::CheckFall(count) => check.fall = Some(count),
            ChoiceSetting::CheckRise(count) => check.rise = Some(count),
            ChoiceSetting::Ejection(setting) => self.ejection.set(setting),
        }
    }

    /// How endpoints are checked.
    pub(super) fn check(&self) -> Option<Arc<Check>> {
        self.check.check().map(Arc::new)
    }

    /// How endpoints are chosen. What requests are hashed by counts before all other rules of choice.
    pub(super) fn balance(&self) -> Balance {
        let subset = match (self.subset, self.subset_size) {
            (true, size) => size.unwrap_or(SUBSET),
            (false, _) => 1,
        };
        let hash = self.hash_by.clone().map(|key| Algorithm::Hash { key, subset });
        Balance {
            algorithm: hash.or_else(|| self.algorithm.clone()).unwrap_or_default(),
            slow_start: self.slow_start,
            panic_percent: self.panic_percent,
        }
    }

    pub(super) fn limits(&self) -> Option<Limits> {
        let pending = self.pending.unwrap_or(limits::PENDING);
        Some(Limits { connections: self.connections?, pending })
    }

    /// How clients are kept. `secure`: what a Route says of its TLS; `None` on an Ingress.
    fn affinity(&self, object: &ObjectRef, secure: Option<bool>) -> Option<Affinity> {
        let scope = || Arc::from(object.to_string());
        let CookieSettings { mode, conditional_none, partitioned, moves, .. } = self.cookie;
        if self.cookie.on {
            return Some(Affinity {
                mode,
                path: self.cookie.path.clone(),
                domain: self.cookie.domain.clone(),
                secure: match self.cookie.secure {
                    None => Secure::OverTls,
                    Some(true) => Secure::Always,
                    Some(false) => Secure::Never,
                },
                same_site: self.cookie.same_site,
                conditional_none,
                partitioned,
                max_age: self.cookie.max_age,
                expires: self.cookie.expires,
                moves,
                canaries: self.cookie.sticky_canary,
                ..Affinity::new(scope(), self.cookie.name.clone()?)
            });
        }
        // On an Ingress they say what the Routes would do that OpenShift makes of it.
        let asked = secure.is_some() || self.router.name.is_some();
        if !asked || self.router.off {
            return None;
        }
        let key = &object.key;
        let name = || md5::hex(&format!(" {}:{}", key.namespace, key.name)).into();
        let secure = match secure {
            None => Secure::OverTls,
            Some(true) => Secure::Always,
            Some(false) => Secure::Never,
        };
        Some(Affinity {
            mode: Mode::Persistent,
            path: Some("/".into()),
            secure,
            same_site: (secure == Secure::Always)
                .then(|| self.router.same_site.unwrap_or(SameSite::None)),
            moves: true,
            hidden: true,
            ..Affinity::new(scope(), self.router.name.clone().unwrap_or_else(name))
        })
    }
}

impl CheckSettings {
    fn check(&self) -> Option<Check> {
        // Who says what is asked for says that it is.
        let by = match (self.by, &self.path, &self.service) {
            (Some(by), ..) => by,
            (None, Some(_), _) => CheckedBy::Http,
            (None, None, Some(_)) => CheckedBy::Grpc,
            (None, None, None) => return None,
        };
        let kind = match by {
            CheckedBy::Tcp => CheckKind::Tcp,
            CheckedBy::Http => CheckKind::Http {
                path: self.path.clone().unwrap_or_else(|| "/".into()),
                host: self.host.clone(),
            },
            CheckedBy::Grpc => {
                CheckKind::Grpc { service: self.service.clone().unwrap_or_default() }
            }
        };
        let interval = self.interval.unwrap_or(INTERVAL);
        Some(Check {
            kind,
            interval,
            timeout: self.timeout.unwrap_or_else(|| interval.clamp(TIMEOUT, INTERVAL)),
            fall: self.fall.unwrap_or(FALL),
            rise: self.rise.unwrap_or(RISE),
        })
    }
}
