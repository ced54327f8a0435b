//! The hosts of a table: all rules for one host, by age, together.
//!
//! [`all`] groups what all claimants ask for. Where a compile follows another, [`changed`] looks only at the hosts that an
//! object has asked for that came, went or changed: of a host that none of these asks for, the rules are the same in the
//! same order.

use std::{collections::BTreeMap, sync::Arc};

use foldhash::{HashMap, HashMapExt, HashSet};

use super::{
    by_age::{Changes, Claimant, Claimants},
    canaries::Replaced,
    remarks::{KeptHosts, Remarks},
};
use crate::{
    model::HostPattern,
    objects::ObjectRef,
    problem::Problem,
    rule::RouteRule,
    table::{Alias, HostRoutes, RouteTable},
};

/// What a table has besides the rules of its claimants.
#[derive(Clone, Copy)]
pub(super) struct Besides<'b> {
    /// Rules in the place of theirs.
    pub(super) replaced: &'b Replaced,
    /// Wildcards that Routes asked for and may not have, in order: requests for them get 503 as on any host of Routes.
    /// Other hosts that are refused are those of an older Route, which has an entry.
    pub(super) refused: &'b [HostPattern],
    /// What answers where there is no rule.
    pub(super) fallback: Option<&'b Arc<HostRoutes>>,
}

/// A table, and who did not get what was asked for.
pub(super) struct Built {
    pub(super) table: Arc<RouteTable>,
    /// Aliases that others have, and demands for client certificates that are not those of the host.
    pub(super) taken: Vec<Problem>,
    pub(super) kept: Arc<KeptHosts>,
}

/// All that is asked for under one host.
struct Group<'c> {
    host: &'c HostPattern,
    /// By age.
    rules: Vec<&'c Arc<RouteRule>>,
    /// Objects that ask for the host without a rule.
    without_rules: Vec<&'c ObjectRef>,
    no_fallthrough: bool,
    of_routes: bool,
}

/// The table of these claimants, oldest first. `plain` is the table of all gateways, with which most hosts
/// can be shared.
pub(super) fn all(
    claimants: &Claimants<'_>,
    besides: Besides<'_>,
    previous: Option<&Arc<RouteTable>>,
    plain: Option<&Arc<RouteTable>>,
) -> Built {
    let mut unchanged = true;
    let (mut hosts, mut remarks) = (Vec::new(), BTreeMap::new());
    for group in groups(claimants, besides.replaced, |_| true) {
        let in_plain = || plain.and_then(|table| table.host(group.host));
        let kept = previous.and_then(|table| table.host(group.host)).filter(|host| group.is(host));
        unchanged &= kept.is_some();
        let host = match kept.or_else(|| in_plain().filter(|host| group.is(host))) {
            Some(host) => Arc::clone(host),
            None => Arc::new(group.build()),
        };
        if let Some(said) = Remarks::of(&host) {
            remarks.insert(host.pattern().clone(), said);
        }
        hosts.push(host);
    }
    let same = |table: &&Arc<RouteTable>| unchanged && table.len() == hosts.len();
    let other = previous.filter(same).is_none().then(|| {
        let all = hosts.into_iter().map(|host| (host.pattern().clone(), Some(host)));
        RouteTable::default().edited(all)
    });
    let has_aliases = claimants.iter().any(|claimant| !claimant.translation.aliases.is_empty());
    let kept = KeptHosts { remarks, replaced: replaced_hosts(besides.replaced), has_aliases };
    finish(other, Arc::new(kept), claimants, besides, previous)
}

/// The table that follows another, which had been made from what there was before these changes. `find` knows who is
/// served.
pub(super) fn changed<'c>(
    claimants: &Claimants<'_>,
    changes: &Changes<'c>,
    find: impl Fn(&ObjectRef) -> Option<Claimant<'c>>,
    besides: Besides<'c>,
    (previous, before): (&Arc<RouteTable>, &'c Arc<KeptHosts>),
) -> Built {
    let mut edits = Vec::new();
    let mut remarks = None;
    for (pattern, mut askers) in touched(changes, besides.replaced, before) {
        let old = previous.host(pattern);
        let mut known = HashSet::default();
        for object in old.into_iter().flat_map(|host| host.objects()) {
            if known.insert(object)
                && let Some(claimant) = find(object)
            {
                askers.push(claimant);
            }
        }
        askers.sort_by(|a, b| a.seniority.cmp(&b.seniority));
        askers.dedup_by(|a, b| std::ptr::eq(a.translation, b.translation));
        let group = groups(&askers, besides.replaced, |host| host == pattern).pop();
        if let Some((group, host)) = group.as_ref().zip(old)
            && group.is(host)
        {
            continue;
        }
        let host = group.map(|group| Arc::new(group.build()));
        let said = host.as_deref().and_then(Remarks::of);
        if said.is_some() || before.remarks.contains_key(pattern) {
            let remarks = remarks.get_or_insert_with(|| before.remarks.clone());
            match said {
                Some(said) => drop(remarks.insert(pattern.clone(), said)),
                None => drop(remarks.remove(pattern)),
            }
        }
        edits.push((pattern.clone(), host));
    }
    let asks = |claimant: &Claimant<'_>| !claimant.translation.aliases.is_empty();
    let has_aliases = before.has_aliases || changes.came.iter().any(asks);
    let replaced = replaced_hosts(besides.replaced);
    let same = (has_aliases, &replaced) == (before.has_aliases, &before.replaced);
    let kept = match remarks {
        None if same => Arc::clone(before),
        remarks => {
            let remarks = remarks.unwrap_or_else(|| before.remarks.clone());
            Arc::new(KeptHosts { remarks, replaced, has_aliases })
        }
    };
    let other = (!edits.is_empty()).then(|| previous.edited(edits));
    finish(other, kept, claimants, besides, Some(previous))
}

/// The hosts that may have other rules now, each with those that came and ask for it.
fn touched<'c>(
    changes: &Changes<'c>,
    replaced: &'c Replaced,
    before: &'c KeptHosts,
) -> HashMap<&'c HostPattern, Vec<Claimant<'c>>> {
    let mut askers: HashMap<&HostPattern, Vec<Claimant<'c>>> = HashMap::new();
    for claimant in &changes.came {
        for entry in &claimant.translation.entries {
            askers.entry(&entry.host).or_default().push(*claimant);
        }
    }
    let left = changes.went.iter().flat_map(|translation| &translation.entries);
    let replacing = replaced.values().map(|rule| &rule.host);
    let hosts = left.map(|entry| &entry.host).chain(replacing).chain(&before.replaced);
    for host in hosts {
        askers.entry(host).or_default();
    }
    askers
}

/// The table with its aliases and refused hosts: `other`, or where there is none the previous one's hosts.
fn finish(
    other: Option<RouteTable>,
    kept: Arc<KeptHosts>,
    claimants: &Claimants<'_>,
    Besides { refused, fallback, .. }: Besides<'_>,
    previous: Option<&Arc<RouteTable>>,
) -> Built {
    let hosts = other.as_ref().or_else(|| previous.map(|table| &**table));
    let (aliases, mut taken) = match hosts.filter(|_| kept.has_aliases) {
        Some(hosts) => aliases(claimants, hosts),
        None => (Vec::new(), Vec::new()),
    };
    taken.extend(kept.remarks.values().flat_map(|remarks| &remarks.problems).cloned());
    let same = |table: &&Arc<RouteTable>| {
        other.is_none()
            && table.aliases() == aliases
            && table.refused().eq(refused)
            && table.fallback().map(Arc::as_ptr) == fallback.map(Arc::as_ptr)
    };
    let table = match previous.filter(same) {
        Some(table) => Arc::clone(table),
        None => {
            let hosts = other.or_else(|| previous.map(|table| table.edited([])));
            Arc::new(hosts.unwrap_or_default().with(aliases, refused, fallback.cloned()))
        }
    };
    Built { table, taken, kept }
}

fn replaced_hosts(replaced: &Replaced) -> Vec<HostPattern> {
    let mut hosts: Vec<_> = replaced.values().map(|rule| rule.host.clone()).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// The names that the oldest claimants may give their hosts, and problems of those that may not: an object that has rules
/// for a host keeps it.
fn aliases(claimants: &[Claimant<'_>], hosts: &RouteTable) -> (Vec<Alias>, Vec<Problem>) {
    let (mut aliases, mut problems) = (Vec::new(), Vec::new());
    let asking = |claimant: &&Claimant<'_>| !claimant.translation.aliases.is_empty();
    let claimants = claimants.iter().filter(asking);
    let mut named = HashMap::new();
    for translation in claimants.map(|claimant| claimant.translation) {
        for alias in &translation.aliases {
            let Some(of) = hosts.host(&alias.of) else { continue };
            let why = match (hosts.host(&alias.name), named.get(&alias.name)) {
                (Some(_), _) => "has rules of its own".to_owned(),
                (None, Some(other)) if *other != alias.of => {
                    format!("is the alias of {other} already")
                }
                (None, Some(_)) => continue,
                (None, None) => {
                    named.insert(alias.name.clone(), alias.of.clone());
                    aliases.push(Alias { name: alias.name.clone(), of: Arc::clone(of) });
                    continue;
                }
            };
            problems.push(Problem::error(
                &translation.object,
                "AliasTaken",
                "metadata.annotations[nginx.ingress.kubernetes.io/server-alias]",
                format!("{} {why}, so it is no alias of {}", alias.name, alias.of),
                "remove one of the two",
            ));
        }
    }
    (aliases, problems)
}

/// What is asked for under each of these hosts.
fn groups<'c>(
    claimants: &[Claimant<'c>],
    replaced: &'c Replaced,
    wanted: impl Fn(&HostPattern) -> bool,
) -> Vec<Group<'c>> {
    let current = |rule: &'c Arc<RouteRule>| replaced.get(&Arc::as_ptr(rule)).unwrap_or(rule);
    let mut groups: Vec<Group<'c>> = Vec::with_capacity(claimants.len());
    let mut by_host = HashMap::with_capacity(claimants.len());
    let entries = claimants.iter().flat_map(|claimant| {
        let object = &claimant.translation.object;
        claimant.translation.entries.iter().map(move |entry| (entry, object))
    });
    for (entry, object) in entries.filter(|(entry, _)| wanted(&entry.host)) {
        let at = *by_host.entry(&entry.host).or_insert_with(|| {
            groups.push(Group {
                host: &entry.host,
                rules: Vec::with_capacity(entry.rules.len()),
                without_rules: Vec::new(),
                no_fallthrough: false,
                of_routes: true,
            });
            groups.len() - 1
        });
        let group = &mut groups[at];
        if entry.rules.is_empty() {
            group.without_rules.push(object);
        }
        group.rules.extend(entry.rules.iter().map(current));
        group.no_fallthrough |= entry.no_fallthrough;
        group.of_routes &= object.kind == "Route";
    }
    groups
}

impl Group<'_> {
    fn is(&self, host: &HostRoutes) -> bool {
        let candidates = host.candidates();
        self.no_fallthrough == host.no_fallthrough()
            && self.of_routes == host.of_routes()
            && self.rules.len() == candidates.len()
            && self.rules.iter().zip(candidates).all(|(a, b)| Arc::ptr_eq(a, b))
            && self.without_rules.iter().copied().eq(host.without_rules())
    }

    fn build(self) -> HostRoutes {
        let candidates = self.rules.into_iter().cloned().collect();
        let host = HostRoutes::build(self.host.clone(), candidates, self.no_fallthrough);
        host.with_routes_only(self.of_routes)
            .with_objects_without_rules(self.without_rules.into_iter().cloned().collect())
    }
}
