//! The route table: from a request to the one rule that answers. Lookup allocates nothing, but where expressions
//! look at a path that holds an escape.
//!
//! [`crate::compile`] builds it out of admitted rules; the data path looks requests up in it, `plan` and
//! `explain` list it. Host first, then path: exact host, one-label wildcard, every host; within a host
//! exact paths, then the longest prefix or regular expression, then the default.
//!
//! Prefixes stand in a hash map that is asked from the longest element-wise prefix of the request's path
//! downwards, never deeper than the longest rule and only at lengths that some rule has: that keeps rules
//! apart that share a prefix (`/foo` and `/foo/`), and a rule that does not admit the request gives way to the
//! next one, at last to its parent.

use std::{borrow::Cow, sync::Arc};

use foldhash::{HashMap, HashMapExt};

use crate::{
    admit::{self, Lost},
    filter::{client_certificate::ClientCertificates, tls_terms::TlsTerms},
    matcher::{Overrun, PathMatch, PathRegex, RequestView},
    model::{HostPattern, Scheme},
    objects::ObjectRef,
    path,
    policy::Policy,
    rule::RouteRule,
};

mod hosts;

use hosts::Hosts;

/// All rules of one host pattern.
#[derive(Debug)]
pub struct HostRoutes {
    /// `foo.com`, `*.foo.com` or `*`: the metrics label.
    pub name: Arc<str>,
    pattern: HostPattern,
    no_fallthrough: bool,
    of_routes: bool,
    /// In precedence order; the maps below hold indices into it.
    rules: Box<[Entry]>,
    /// One rule each: a second one with the same claim loses in [`crate::admit`].
    exact: HashMap<Box<str>, u32>,
    /// Path without trailing slash, never empty → rules in precedence order.
    prefixes: HashMap<Box<str>, Box<[u32]>>,
    /// The prefixes that hold every path. Not in the map: glibc's `memcmp` was measured at 130 ns for
    /// the empty key, whose dangling pointer makes a masked AVX-512 load fault.
    roots: Box<[u32]>,
    /// Length in bytes of the longest key of `prefixes`.
    longest_prefix: usize,
    /// Bit `n` is set if a key of `prefixes` has a length of `n` modulo 64: where none has, nothing is asked.
    prefix_lengths: u64,
    regexes: Box<[(PathRegex, u32)]>,
    default: Option<u32>,
    /// Every rule that asked for this host, by age: what this value was built from.
    candidates: Box<[Arc<RouteRule>]>,
    /// Objects that asked for it without a rule, by age.
    without_rules: Box<[ObjectRef]>,
    lost: Box<[Lost]>,
    client_certificates: Option<Arc<ClientCertificates>>,
    tls_terms: Option<Arc<TlsTerms>>,
    /// A rule asks for checks of endpoints, or has their answers measured.
    watched: bool,
    /// Rules that are closed because they ask for other client certificates than the host, or for more of its TLS.
    differing: Box<[Arc<RouteRule>]>,
}

/// A rule and the text that canonical paths are compared with.
#[derive(Debug)]
struct Entry {
    rule: Arc<RouteRule>,
    /// Canonical spelling of the rule's path, with its trailing slash if it has one.
    path: Box<str>,
}

/// The answer to a lookup.
#[derive(Clone, Copy, Debug)]
pub struct Matched<'t> {
    /// The rule that answers.
    pub rule: &'t Arc<RouteRule>,
    /// The host entry the rule stands in.
    pub host: &'t Arc<HostRoutes>,
    /// Whether the rule is the one is not known: its expression takes too many steps to say.
    pub overrun: bool,
}

/// All rules of the listeners of one scope.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    own: Hosts,
    /// More names; none of them is a host's own.
    aliased: Hosts,
    aliases: Box<[Alias]>,
    /// Hosts that have no rule: Routes asked for them, and none may have them.
    refused: Box<[Arc<HostRoutes>]>,
    /// What answers where no rule is for a request.
    fallback: Option<Arc<HostRoutes>>,
    /// How many hosts ask something of the certificates of their clients, and of TLS.
    ask_certificates: usize,
    have_tls_terms: usize,
    /// How many hosts have a rule that asks for checks of endpoints or has their answers measured.
    watched: usize,
}

/// Another name of a host.
#[derive(Clone, Debug)]
pub struct Alias {
    /// Under which its rules answer, too.
    pub name: HostPattern,
    /// The host.
    pub of: Arc<HostRoutes>,
}

impl PartialEq for Alias {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.of, &other.of)
    }
}

impl RouteTable {
    /// The same table with other entries, or none, for some patterns, and without other names for hosts and refused ones.
    pub(crate) fn edited(
        &self,
        edits: impl IntoIterator<Item = (HostPattern, Option<Arc<HostRoutes>>)>,
    ) -> Self {
        let mut table = self.clone();
        (table.aliased, table.aliases) = (Hosts::default(), Box::default());
        table.refused = Box::default();
        for (pattern, host) in edits {
            if let Some(new) = &host {
                table.ask_certificates += usize::from(new.client_certificates.is_some());
                table.have_tls_terms += usize::from(new.tls_terms.is_some());
                table.watched += usize::from(new.watched);
            }
            if let Some(old) = table.own.set(&pattern, host) {
                table.ask_certificates -= usize::from(old.client_certificates.is_some());
                table.have_tls_terms -= usize::from(old.tls_terms.is_some());
                table.watched -= usize::from(old.watched);
            }
        }
        table
    }

    /// The same table with other names for hosts, with hosts that Routes asked for in vain, and with what answers where
    /// there is no rule.
    pub(crate) fn with(
        self,
        aliases: Vec<Alias>,
        refused: &[HostPattern],
        fallback: Option<Arc<HostRoutes>>,
    ) -> Self {
        let mut aliased = Hosts::default();
        let refused: Box<[_]> = refused
            .iter()
            .map(|pattern| {
                let host = HostRoutes::build(pattern.clone(), Vec::new(), false);
                Arc::new(host.with_routes_only(true))
            })
            .collect();
        for host in &refused {
            aliased.set(&host.pattern, Some(Arc::clone(host)));
        }
        for alias in &aliases {
            aliased.set(&alias.name, Some(Arc::clone(&alias.of)));
        }
        Self { aliased, aliases: aliases.into(), refused, fallback, ..self }
    }

    /// The rule for a request; `None` is a 404, or a 503 where only Routes name the host.
    ///
    /// A host that an `Ingress` names keeps its requests; one that only `Route`s name falls through to
    /// the wildcard and then to the rules without a host.
    pub fn lookup(&self, request: &RequestView<'_>) -> Option<Matched<'_>> {
        for entry in self.entries_for(request.host) {
            if let Some((rule, overrun)) = entry.find(request) {
                return Some(Matched { rule, host: entry, overrun });
            }
            if entry.no_fallthrough {
                break;
            }
        }
        let entry = self.fallback.as_ref()?;
        entry.find(request).map(|(rule, overrun)| Matched { rule, host: entry, overrun })
    }

    /// What answers where no rule is for a request.
    pub fn fallback(&self) -> Option<&Arc<HostRoutes>> {
        self.fallback.as_ref()
    }

    /// The entry of exactly this pattern, which is not another host's name.
    pub fn host(&self, pattern: &HostPattern) -> Option<&Arc<HostRoutes>> {
        self.own.get(pattern)
    }

    /// Whether any host asks its clients for a certificate.
    pub fn asks_certificates(&self) -> bool {
        self.ask_certificates > 0
    }

    /// What a handshake for a canonical host asks of its client, or one that names none: what any rule asks that may
    /// answer for the host.
    pub fn client_certificates(&self, host: Option<&str>) -> Option<&Arc<ClientCertificates>> {
        if !self.asks_certificates() {
            return None;
        }
        let Some(host) = host else { return self.own.any()?.client_certificates.as_ref() };
        for entry in self.entries_for(host) {
            if entry.no_fallthrough || entry.client_certificates.is_some() {
                return entry.client_certificates.as_ref();
            }
        }
        None
    }

    /// Whether any host asks something of TLS.
    pub fn has_tls_terms(&self) -> bool {
        self.have_tls_terms > 0
    }

    /// What a handshake for a canonical host, or one that names none, agrees on: what the most specific entry asks that
    /// may answer for the host and asks something.
    pub fn tls_terms(&self, host: Option<&str>) -> Option<&Arc<TlsTerms>> {
        if !self.has_tls_terms() {
            return None;
        }
        let Some(host) = host else { return self.own.any()?.tls_terms.as_ref() };
        for entry in self.entries_for(host) {
            if entry.no_fallthrough || entry.tls_terms.is_some() {
                return entry.tls_terms.as_ref();
            }
        }
        None
    }

    /// More names of hosts, in the order in which they were claimed.
    pub fn aliases(&self) -> &[Alias] {
        &self.aliases
    }

    /// The hosts that Routes asked for in vain, in the order of their patterns. Where other objects have rules for one,
    /// theirs count.
    pub(crate) fn refused(&self) -> impl Iterator<Item = &HostPattern> {
        self.refused.iter().map(|host| &host.pattern)
    }

    /// All entries: exact hosts by name, then wildcards by name, then the rules without a host.
    pub fn hosts(&self) -> impl Iterator<Item = (HostPattern, &Arc<HostRoutes>)> {
        sorted(self.own.all()).into_iter().map(|host| (host.pattern.clone(), host))
    }

    /// The rules, host by host in the same order, of those hosts of which a rule asks for checks of endpoints or has
    /// their answers measured: mostly there are none, whatever the number of hosts.
    pub fn watched_rules(&self) -> impl Iterator<Item = &Arc<RouteRule>> {
        let hosts = if self.watched == 0 { None } else { Some(self.own.all()) };
        let hosts = hosts.into_iter().flatten().filter(|host| host.watched);
        sorted(hosts).into_iter().flat_map(|host| host.rules())
    }

    /// The most specific entry that a canonical host belongs to, whether or not a path of it matches.
    pub fn host_for(&self, host: &str) -> Option<&Arc<HostRoutes>> {
        self.entries_for(host).next()
    }

    /// Whether a canonical host is one that a rule names, or belongs to a wildcard that one does.
    pub fn has_name(&self, host: &str) -> bool {
        self.entries_for(host).any(|entry| entry.pattern != HostPattern::Any)
    }

    /// Number of hosts.
    pub(crate) fn len(&self) -> usize {
        self.own.len()
    }

    /// The entries that a canonical host belongs to, from the most specific to the least.
    pub(crate) fn entries_for(&self, host: &str) -> impl Iterator<Item = &Arc<HostRoutes>> {
        let (own, aliased) = (&self.own, &self.aliased);
        let levels = [
            own.exact(host).or_else(|| aliased.exact(host)),
            own.wildcard(host).or_else(|| aliased.wildcard(host)),
            own.any(),
        ];
        levels.into_iter().flatten()
    }
}

/// By pattern.
fn sorted<'t>(hosts: impl Iterator<Item = &'t Arc<HostRoutes>>) -> Vec<&'t Arc<HostRoutes>> {
    let mut hosts: Vec<_> = hosts.collect();
    hosts.sort_unstable_by(|a, b| a.pattern.cmp(&b.pattern));
    hosts
}

impl HostRoutes {
    /// Rules that are served, in precedence order: exact paths, then by length downwards, default last.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<RouteRule>> {
        self.rules.iter().map(|entry| &entry.rule)
    }

    /// The hosts this is for.
    pub fn pattern(&self) -> &HostPattern {
        &self.pattern
    }

    /// True if requests whose path no rule matches end here with 404 instead of falling through to the
    /// wildcard and the rules without a host.
    pub fn no_fallthrough(&self) -> bool {
        self.no_fallthrough
    }

    /// True if only Routes name the host: requests that no rule matches get 503 and the page of OpenShift's router.
    pub fn of_routes(&self) -> bool {
        self.of_routes
    }

    /// The same host, named by Routes only or by others, too.
    pub(crate) fn with_routes_only(self, of_routes: bool) -> Self {
        Self { of_routes, ..self }
    }

    /// The same host, asked for by these objects, too.
    pub(crate) fn with_objects_without_rules(self, without_rules: Box<[ObjectRef]>) -> Self {
        Self { without_rules, ..self }
    }

    /// Objects that asked for the host without a rule, by age.
    pub(crate) fn without_rules(&self) -> &[ObjectRef] {
        &self.without_rules
    }

    /// Every object that asked for the host, some of them more than once.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &ObjectRef> {
        self.candidates.iter().map(|rule| &rule.object).chain(&self.without_rules)
    }

    /// Rules that asked for a path that an older object has.
    pub fn lost(&self) -> &[Lost] {
        &self.lost
    }

    /// What is asked of the certificates of clients, whatever the path.
    pub fn client_certificates(&self) -> Option<&Arc<ClientCertificates>> {
        self.client_certificates.as_ref()
    }

    /// What is asked of TLS, whatever the path.
    pub fn tls_terms(&self) -> Option<&Arc<TlsTerms>> {
        self.tls_terms.as_ref()
    }

    /// Rules that ask something of TLS, the oldest first.
    pub fn asking_of_tls(&self) -> impl Iterator<Item = &Arc<RouteRule>> {
        self.candidates.iter().filter(|rule| rule.tls_terms().is_some())
    }

    /// Rules that are closed because they ask for other client certificates than the host, or for more of its TLS.
    pub(crate) fn differing(&self) -> &[Arc<RouteRule>] {
        &self.differing
    }

    /// The rule whose demand for client certificates is that of the host.
    pub fn certificates_asked_by(&self) -> Option<&Arc<RouteRule>> {
        let asked = self.client_certificates.as_ref()?;
        let asks = |rule: &&Arc<RouteRule>| {
            rule.client_certificates().is_some_and(|own| Arc::ptr_eq(own, asked))
        };
        self.candidates.iter().find(asks)
    }

    /// Every rule that asked for this host, the oldest first.
    pub(crate) fn candidates(&self) -> &[Arc<RouteRule>] {
        &self.candidates
    }

    /// Builds the entry of a host. `candidates` are in order of age; rules that collide with an older one
    /// are left out and kept in [`Self::lost`].
    pub(crate) fn build(
        pattern: HostPattern,
        candidates: Vec<Arc<RouteRule>>,
        no_fallthrough: bool,
    ) -> Self {
        let (winners, lost) = admit::owners(&candidates);
        let client_certificates = admit::client_certificates(&candidates).cloned();
        let demand = client_certificates.as_ref().map(|asked| &asked.demand);
        let tls_terms = admit::tls_terms(&candidates);
        let includes = |own: Option<&Arc<TlsTerms>>| {
            own.is_none_or(|own| tls_terms.as_ref().is_some_and(|terms| terms.includes(own)))
        };
        let mut differing = Vec::new();
        let winners = winners.into_iter().map(|rule| {
            let asked = rule.client_certificates();
            let reason = if asked.is_some_and(|own| Some(&own.demand) != demand) {
                "ClientCertificatesDiffer"
            } else if !includes(rule.tls_terms()) {
                "TlsTermsDiffer"
            } else {
                return rule;
            };
            let closed = rule.closed(reason);
            differing.push(rule);
            Arc::new(closed)
        });
        let mut rules: Vec<Entry> = winners.filter_map(Entry::new).collect();
        rules.sort_by(Entry::precedence);
        let mut policies =
            rules.iter().filter_map(|entry| Some(&entry.rule.forward()?.spec.policy));
        let measured = |policy: &Policy| policy.ejection.is_some_and(|rule| rule.success.is_some());
        let watched = policies.any(|policy| policy.check.is_some() || measured(policy));
        let mut host = Self {
            name: pattern.to_string().into(),
            pattern,
            no_fallthrough,
            of_routes: false,
            rules: rules.into(),
            exact: HashMap::new(),
            prefixes: HashMap::new(),
            roots: Box::default(),
            longest_prefix: 0,
            prefix_lengths: 0,
            regexes: Box::default(),
            default: None,
            candidates: candidates.into(),
            without_rules: Box::default(),
            lost: lost.into(),
            client_certificates,
            tls_terms,
            watched,
            differing: differing.into(),
        };
        host.index();
        host
    }

    fn index(&mut self) {
        let mut prefixes: HashMap<&str, Vec<u32>> = HashMap::new();
        let (mut roots, mut regexes) = (Vec::new(), Vec::new());
        for (index, entry) in (0u32..).zip(&self.rules) {
            match &entry.rule.matches.path {
                PathMatch::Exact(_) => drop(self.exact.insert(entry.path.clone(), index)),
                PathMatch::Prefix(_) | PathMatch::RoutePrefix(_) => match entry.key() {
                    "" => roots.push(index),
                    key => prefixes.entry(key).or_default().push(index),
                },
                PathMatch::Regex(regex) => regexes.push((regex.clone(), index)),
                PathMatch::Default => self.default = Some(index),
            }
        }
        self.longest_prefix = prefixes.keys().map(|key| key.len()).max().unwrap_or_default();
        self.prefix_lengths = prefixes.keys().fold(0, |bits, key| bits | length_bit(key.len()));
        self.prefixes =
            prefixes.into_iter().map(|(key, rules)| (key.into(), rules.into())).collect();
        self.roots = roots.into();
        self.regexes = regexes.into();
    }

    /// The rule for a request, and whether that is not certain.
    fn find(&self, request: &RequestView<'_>) -> Option<(&Arc<RouteRule>, bool)> {
        let admits = |index: u32| {
            let rule = &self.rules.get(index as usize)?.rule;
            rule.matches.admits(request).then_some(rule)
        };
        if !self.exact.is_empty()
            && let Some(found) = self.exact.get(request.path).and_then(|&index| admits(index))
        {
            return Some((found, false));
        }
        let prefix = self.find_prefix(request);
        let length = prefix.map_or(0, |entry| entry.rule.matches.path.text().len());
        let mut readable: Option<Cow<'_, str>> = None;
        for (regex, index) in &self.regexes {
            let Some(found) = admits(*index) else { continue };
            if prefix.is_some() && found.matches.path.text().len() <= length {
                break;
            }
            let readable = readable.get_or_insert_with(|| path::readable(request.path));
            match regex.is_match_readable(readable) {
                Ok(true) => return Some((found, false)),
                Ok(false) => {}
                // No rule that comes after may answer for it.
                Err(Overrun) => return Some((found, true)),
            }
        }
        let rule = match prefix {
            Some(entry) => &entry.rule,
            None => admits(self.default?)?,
        };
        (!self.is_anothers_redirect(rule, request)).then_some((rule, false))
    }

    /// Whether a Route would redirect to https what another Route of a longer path answers there: that one decides, as on
    /// OpenShift, and wants no clear text.
    fn is_anothers_redirect(&self, rule: &Arc<RouteRule>, request: &RequestView<'_>) -> bool {
        let of_route = |rule: &RouteRule| matches!(rule.matches.path, PathMatch::RoutePrefix(_));
        of_route(rule)
            && rule.redirect(request.scheme).is_some()
            && self
                .find_prefix(&RequestView { scheme: Scheme::Https, ..*request })
                .is_some_and(|there| !Arc::ptr_eq(&there.rule, rule) && of_route(&there.rule))
    }

    /// Whether a served rule, looked at alone, matches a canonical path.
    pub(crate) fn alone_matches(&self, rule: &RouteRule, path: &str) -> bool {
        let of_rule = |entry: &&Entry| std::ptr::eq(&*entry.rule, rule);
        let Some(entry) = self.rules.iter().find(of_rule) else { return false };
        match &rule.matches.path {
            PathMatch::Exact(_) => *entry.path == *path,
            PathMatch::Prefix(_) | PathMatch::RoutePrefix(_) => {
                let rest = path.strip_prefix(entry.key());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                    && entry.holds(path)
            }
            PathMatch::Regex(regex) => regex.is_match(path).unwrap_or(true),
            PathMatch::Default => false,
        }
    }

    fn find_prefix(&self, request: &RequestView<'_>) -> Option<&Entry> {
        let path = request.path;
        let first = |rules: &[u32]| {
            rules.iter().find_map(|&index| {
                let entry = self.rules.get(index as usize)?;
                (entry.holds(path) && entry.rule.matches.admits(request)).then_some(entry)
            })
        };
        let mut end = element_end(path, self.longest_prefix);
        while end > 0 {
            let key = path.get(..end)?;
            if self.prefix_lengths & length_bit(end) != 0
                && let Some(found) = self.prefixes.get(key).and_then(|rules| first(rules))
            {
                return Some(found);
            }
            end = key.rfind('/')?;
        }
        first(&self.roots)
    }
}

/// The bit of [`HostRoutes::prefix_lengths`] that a key of this length sets.
fn length_bit(length: usize) -> u64 {
    1 << (length % 64)
}

/// End of the longest element-wise prefix of a canonical path that is at most `longest` bytes long.
fn element_end(path: &str, longest: usize) -> usize {
    let bytes = path.as_bytes();
    let whole = bytes.len() - usize::from(bytes.last() == Some(&b'/'));
    if whole <= longest {
        return whole;
    }
    // The element that ends at or before `longest`: the last slash at an offset up to it.
    bytes[..=longest].iter().rposition(|&b| b == b'/').unwrap_or_default()
}

impl Entry {
    /// `None` if no canonical path can match; the translators have reported it then.
    fn new(rule: Arc<RouteRule>) -> Option<Self> {
        let path = match &rule.matches.path {
            PathMatch::Exact(text) | PathMatch::Prefix(text) => path::pattern(text).ok()?.into(),
            PathMatch::RoutePrefix(text) if text.is_empty() => "/".into(),
            PathMatch::RoutePrefix(text) => path::pattern(text).ok()?.into(),
            PathMatch::Regex(regex) => regex.text().into(),
            PathMatch::Default => "".into(),
        };
        Some(Self { rule, path })
    }

    /// Path without trailing slash: what prefixes are found by.
    fn key(&self) -> &str {
        self.path.strip_suffix('/').unwrap_or(&self.path)
    }

    /// Given that the key is an element-wise prefix of `path`, whether the rule matches it. Only a Route
    /// insists on the slash that it ends with.
    fn holds(&self, path: &str) -> bool {
        !matches!(self.rule.matches.path, PathMatch::RoutePrefix(_))
            || path.starts_with(&*self.path)
    }

    fn precedence(&self, other: &Self) -> std::cmp::Ordering {
        let rank = |entry: &Self| match entry.rule.matches.path {
            PathMatch::Exact(_) => 0,
            PathMatch::Default => 2,
            _ => 1,
        };
        let length = |entry: &Self| entry.rule.matches.path.text().len();
        rank(self)
            .cmp(&rank(other))
            .then(length(other).cmp(&length(self)))
            .then_with(|| self.rule.matches.path.cmp(&other.rule.matches.path))
    }
}

#[cfg(test)]
mod tests;
