//! What is agreed on in handshakes with clients: a profile for all hosts, and for each that asks for less.
//!
//! The compile step builds [`Handshakes`]; a ClientHello chooses by its server name. A name and a host need not agree, a
//! connection may be older than the terms: so a request is judged by the cipher that its connection has
//! (`Handshakes::admit`), not by the name that the handshake was made for.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Weak},
};

use arc_swap::ArcSwap;
use gatehouse_routes::{
    annotations::{
        nginx_config::tls::{CIPHERS, GROUPS, VERSIONS},
        tls,
    },
    compile::GatewayTable,
    filter::tls_terms::{GlobalTls, REDUCED, TlsTerms, Versions},
    model::ScopeSlot,
    problem::Problem,
    table::{HostRoutes, RouteTable},
};
use rustls::ServerConfig;

use super::{
    ciphers::listed,
    profile::{CipherSet, Profile, Sessions},
};

/// Configurations by scope, made by the first client that needs one.
pub(crate) type Configs = ArcSwap<Vec<(ScopeSlot, Arc<ServerConfig>)>>;
/// The same by kind of handshake, too.
pub(crate) type ConfigsByKind = ArcSwap<Vec<(ScopeSlot, Weak<Handshake>, Arc<ServerConfig>)>>;

/// One kind of handshake.
pub struct Handshake {
    pub(crate) profile: Profile,
    /// Tells the sessions of hosts with terms of their own from those of others; empty: there are none.
    pub(crate) audience: String,
    allowed: CipherSet,
    /// Those that ask for a certificate are elsewhere.
    pub(crate) configs: Configs,
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handshake").field(&self.profile).finish()
    }
}

impl Handshake {
    fn new(profile: Profile, audience: String) -> Arc<Self> {
        let allowed = profile.allowed();
        Arc::new(Self { profile, audience, allowed, configs: ArcSwap::default() })
    }
}

/// Why a request may not come on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// Its cipher, or the version of TLS, is none of the host's: another handshake may do.
    Misdirected,
    /// What is asked of the host leaves no cipher.
    Closed,
}

/// A kind, or why there is none.
type Made = Result<Arc<Handshake>, &'static str>;

/// The handshakes of all hosts.
#[derive(Clone, Debug, Default)]
pub struct Handshakes(Arc<Table>);

#[derive(Debug)]
struct Table {
    /// Ciphers of hosts without terms of their own; none where all hosts are closed.
    allowed: CipherSet,
    base: Made,
    /// What is agreed on where nothing could be: nothing is served in it.
    closed: Arc<Handshake>,
    /// By the address of the terms, which are held here.
    by_address: HashMap<usize, (Arc<TlsTerms>, Made), foldhash::fast::RandomState>,
    problems: Vec<Problem>,
    /// What it was made from.
    flags: Arc<Profile>,
    global: Option<GlobalTls>,
    routes: Vec<Arc<RouteTable>>,
}

impl Default for Table {
    fn default() -> Self {
        Self::new(&Arc::default(), None)
    }
}

impl Handshakes {
    /// The handshake of hosts without terms of their own, and of those that are closed.
    pub(crate) fn base(&self) -> &Arc<Handshake> {
        self.0.base.as_ref().unwrap_or(&self.0.closed)
    }

    /// The handshake of a host of the same snapshot.
    pub(crate) fn of_host(&self, terms: Option<&Arc<TlsTerms>>) -> &Arc<Handshake> {
        let made = terms.and_then(|terms| self.0.made(terms)?.as_ref().ok());
        made.unwrap_or_else(|| self.base())
    }

    /// Whether a connection that has agreed on a cipher may carry a request to a host with these terms. None is agreed
    /// on in clear text.
    #[inline]
    pub(crate) fn admit(
        &self,
        terms: Option<&Arc<TlsTerms>>,
        cipher: CipherSet,
    ) -> Result<(), Unfit> {
        let made = match terms {
            None if self.0.allowed.contains(cipher) => return Ok(()),
            None => Some(&self.0.base),
            Some(terms) => self.0.made(terms),
        };
        match made {
            _ if cipher == CipherSet::default() => Ok(()),
            Some(Ok(handshake)) if handshake.allowed.contains(cipher) => Ok(()),
            Some(Ok(_)) => Err(Unfit::Misdirected),
            Some(Err(_)) | None => Err(Unfit::Closed),
        }
    }

    /// The handshakes of all hosts, of what the command line leaves and the ConfigMap of ingress-nginx; the previous
    /// ones if nothing has changed. Equal terms share one.
    pub(crate) fn of(
        flags: &Arc<Profile>,
        global: Option<&GlobalTls>,
        tables: &[GatewayTable],
        previous: Option<&Self>,
    ) -> Self {
        let previous = previous.filter(|previous| {
            *previous.0.flags == **flags && previous.0.global.as_ref() == global
        });
        let same = |known: &&Self| GatewayTable::are_of(tables, &known.0.routes);
        if let Some(previous) = previous.filter(same) {
            return previous.clone();
        }
        let mut table = Table::new(flags, global);
        let mut known = HashMap::new();
        if let Some(Self(previous)) = previous {
            table.base.clone_from(&previous.base);
            known.extend(previous.by_address.values().cloned());
        }
        for routes in tables.iter().map(|table| &table.routes) {
            table.routes.push(Arc::clone(routes));
            if !routes.has_tls_terms() {
                continue;
            }
            for (_, host) in routes.hosts() {
                let Some(terms) = host.tls_terms() else { continue };
                let made = known.entry(Arc::clone(terms)).or_insert_with(|| table.host(terms));
                let found = table.problems_of(host, terms, made);
                table.problems.extend(found);
                let entry = (Arc::clone(terms), made.clone());
                table.by_address.insert(Arc::as_ptr(terms).addr(), entry);
            }
        }
        Self(Arc::new(table))
    }

    /// What cannot be honoured, to the objects that ask for it.
    pub(crate) fn problems(&self) -> impl Iterator<Item = Problem> {
        self.0.problems.iter().cloned()
    }
}

impl Table {
    /// Without hosts.
    fn new(flags: &Arc<Profile>, global: Option<&GlobalTls>) -> Self {
        let mut problems = Vec::new();
        let base = match global {
            None => Ok((**flags).clone()),
            Some(global) => for_all(flags, global, &mut problems),
        };
        let base = base.map(|profile| Handshake::new(profile, String::new()));
        Self {
            allowed: base.as_ref().map(|base| base.allowed).unwrap_or_default(),
            base,
            closed: Handshake::new((**flags).clone(), String::new()),
            by_address: HashMap::default(),
            problems,
            flags: Arc::clone(flags),
            global: global.cloned(),
            routes: Vec::new(),
        }
    }

    fn made(&self, terms: &Arc<TlsTerms>) -> Option<&Made> {
        self.by_address.get(&Arc::as_ptr(terms).addr()).map(|(_, made)| made)
    }

    fn host(&self, terms: &TlsTerms) -> Made {
        let base = self.base.as_ref().map_err(|why| *why)?;
        let profile = base.profile.narrowed(terms)?;
        let audience = format!("{profile:?}");
        Ok(Handshake::new(profile, audience))
    }

    /// What of the terms of a host is not what its objects ask for.
    fn problems_of(&self, host: &HostRoutes, terms: &TlsTerms, made: &Made) -> Vec<Problem> {
        let mut problems = Vec::new();
        let tls12 = |base: &Arc<Handshake>| base.profile.tls12() && terms.versions.tls12;
        for rule in host.asking_of_tls() {
            match made {
                Err(why) => {
                    let what = format!("{why}; requests get 503");
                    problems.push(tls::impossible(rule, &what));
                }
                Ok(made) if !made.profile.tls12() && self.base.as_ref().is_ok_and(tls12) => {
                    let what = "no cipher of TLS 1.2 is left, so TLS 1.3 alone is spoken";
                    problems.push(tls::impossible(rule, what));
                }
                Ok(_) => {}
            }
            let lists = rule.tls_terms().into_iter().flat_map(|terms| &terms.ciphers);
            let absent: Vec<_> = lists.flat_map(|list| listed(list).absent).collect();
            if !absent.is_empty() {
                problems.push(tls::reduced(&rule.object, &absent.join(", ")));
            }
        }
        problems
    }
}

/// What the ConfigMap leaves of what the command line says.
fn for_all(
    flags: &Profile,
    global: &GlobalTls,
    problems: &mut Vec<Problem>,
) -> Result<Profile, &'static str> {
    let terms = &global.terms;
    let hint = "name what is built in and the command line leaves, or remove the key";
    let closed = |key: &str, why: &str| {
        let message = format!("{why}, so hosts are closed over TLS (503)");
        Problem::error(&global.object, "TlsTermsImpossible", format!("data[{key}]"), message, hint)
    };
    let reduced = |key: &str, absent: &[&str]| {
        let message = format!("clients cannot use {}: not built in", absent.join(", "));
        let field = format!("data[{key}]");
        Problem::warning(&global.object, REDUCED, field, message, hint)
    };
    let mut profile = flags.narrowed(terms).inspect_err(|why| {
        // Where it names no version at all, that has been said.
        if terms.versions != Versions::NONE {
            problems.push(closed(VERSIONS, why));
        }
    })?;
    let absent: Vec<_> = terms.ciphers.iter().flat_map(|list| listed(list).absent).collect();
    if !absent.is_empty() {
        problems.push(reduced(CIPHERS, &absent));
    }
    if !profile.tls12() && flags.tls12() && terms.versions.tls12 {
        let message = "no cipher of TLS 1.2 is left, so TLS 1.3 alone is spoken";
        let field = format!("data[{CIPHERS}]");
        problems.push(Problem::error(
            &global.object,
            "TlsTermsImpossible",
            field,
            message,
            "name ciphers such as ECDHE-RSA-AES128-GCM-SHA256 or HIGH",
        ));
    }
    if let Some(list) = &global.groups {
        let absent;
        (profile, absent) =
            profile.with_groups(list).inspect_err(|why| problems.push(closed(GROUPS, why)))?;
        if !absent.is_empty() {
            problems.push(reduced(GROUPS, &absent));
        }
    }
    profile.http2 = global.http2;
    profile.only_known_names = global.only_known_names;
    profile.lifetime = global.lifetime;
    profile.sessions = match (global.tickets, global.cache) {
        _ if global.lifetime == Some(0) => Sessions::Never,
        (true, _) => Sessions::Tickets,
        (false, true) => Sessions::Remembered,
        (false, false) => Sessions::Never,
    };
    Ok(profile)
}

#[cfg(test)]
mod tests;
