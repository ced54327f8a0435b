//! The hosts of a table by their patterns, in parts: a table that differs from its predecessor in a few hosts has a few
//! parts of its own and shares the others.

use std::{hash::BuildHasher as _, mem, sync::Arc};

use foldhash::{HashMap, HashMapExt, fast::RandomState};

use super::HostRoutes;
use crate::model::HostPattern;

/// Names of a part, on average, before there are twice as many parts.
const FULL: usize = 128;
/// Most parts: a change copies one pointer for each.
const MOST_PARTS: usize = 1024;

/// Hosts by pattern, each at most once.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts {
    exact: Names,
    /// By what follows `*.`.
    wildcard: Names,
    any: Option<Arc<HostRoutes>>,
}

impl Hosts {
    /// The entry of this pattern.
    pub(super) fn get(&self, pattern: &HostPattern) -> Option<&Arc<HostRoutes>> {
        match pattern {
            HostPattern::Exact(name) => self.exact.get(name),
            HostPattern::OneLabel(rest) => self.wildcard.get(rest),
            HostPattern::Any => self.any.as_ref(),
        }
    }

    /// Gives a pattern another entry, or none; returns the one that it had.
    pub(super) fn set(
        &mut self,
        pattern: &HostPattern,
        host: Option<Arc<HostRoutes>>,
    ) -> Option<Arc<HostRoutes>> {
        match pattern {
            HostPattern::Exact(name) => self.exact.set(name, host),
            HostPattern::OneLabel(rest) => self.wildcard.set(rest, host),
            HostPattern::Any => mem::replace(&mut self.any, host),
        }
    }

    /// Of a canonical name.
    #[inline]
    pub(super) fn exact(&self, name: &str) -> Option<&Arc<HostRoutes>> {
        self.exact.get(name)
    }

    /// Of the wildcard that a canonical name belongs to.
    #[inline]
    pub(super) fn wildcard(&self, name: &str) -> Option<&Arc<HostRoutes>> {
        if self.wildcard.count == 0 {
            return None;
        }
        self.wildcard.get(name.split_once('.')?.1)
    }

    /// Of all that have none of their own.
    #[inline]
    pub(super) fn any(&self) -> Option<&Arc<HostRoutes>> {
        self.any.as_ref()
    }

    /// All entries, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<HostRoutes>> {
        self.exact.all().chain(self.wildcard.all()).chain(&self.any)
    }

    pub(super) fn len(&self) -> usize {
        self.exact.count + self.wildcard.count + usize::from(self.any.is_some())
    }
}

type Part = HashMap<Arc<str>, Arc<HostRoutes>>;

/// Entries by name.
#[derive(Clone, Debug, Default)]
struct Names {
    /// None where there is no name; else a power of two.
    parts: Box<[Arc<Part>]>,
    /// Which part a name is in.
    hash: RandomState,
    count: usize,
}

impl Names {
    #[inline]
    fn get(&self, name: &str) -> Option<&Arc<HostRoutes>> {
        let part = match &*self.parts {
            [] => return None,
            // Few hosts are looked up as in any map.
            [only] => only,
            parts => parts.get(self.part_of(name))?,
        };
        part.get(name)
    }

    #[inline]
    fn part_of(&self, name: &str) -> usize {
        let mask = self.parts.len().wrapping_sub(1);
        self.hash.hash_one(name) as usize & mask
    }

    fn set(&mut self, name: &Arc<str>, host: Option<Arc<HostRoutes>>) -> Option<Arc<HostRoutes>> {
        if host.is_some() && self.count >= self.parts.len() * FULL && self.parts.len() < MOST_PARTS
        {
            self.split();
        }
        let at = self.part_of(name);
        let part = Arc::make_mut(self.parts.get_mut(at)?);
        let before = part.len();
        let old = match host {
            Some(host) => part.insert(Arc::clone(name), host),
            None => part.remove(name),
        };
        self.count = self.count + part.len() - before;
        old
    }

    /// Twice as many parts.
    fn split(&mut self) {
        let old = mem::take(&mut self.parts);
        let mut parts = vec![Part::new(); (old.len() * 2).max(1)];
        self.parts = parts.iter().map(|_| Arc::default()).collect();
        for part in old {
            for (name, host) in Arc::unwrap_or_clone(part) {
                parts[self.part_of(&name)].insert(name, host);
            }
        }
        self.parts = parts.into_iter().map(Arc::new).collect();
    }

    fn all(&self) -> impl Iterator<Item = &Arc<HostRoutes>> {
        self.parts.iter().flat_map(|part| part.values())
    }
}
