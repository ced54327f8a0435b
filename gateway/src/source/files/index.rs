//! From files to changes: which object wins under a name, and what the receiver does not know yet.
//!
//! Work is proportional to the files that changed: the claims of all other files stay as they are.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};

use gatehouse_routes::{objects::ObjectRef, problem::Problem};

use super::{Change, Object};
use crate::source::manifest::Manifest;

/// All objects of all files by name.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: HashMap<ObjectRef, Entry>,
    /// Names whose claims changed since the last [`Index::take_changes`].
    touched: BTreeSet<ObjectRef>,
    /// Names that more than one document claims.
    contested: BTreeSet<ObjectRef>,
}

#[derive(Debug, Default)]
struct Entry {
    claims: Vec<Claim>,
    /// What the receiver knows.
    published: Option<(Object, u64)>,
}

#[derive(Debug)]
struct Claim {
    order: u64,
    line: u32,
    object: Object,
}

impl Index {
    /// Replaces what a file claims; `names` holds what it claimed so far, and then what it claims now.
    pub(super) fn replace(
        &mut self,
        file: u32,
        names: &mut Vec<ObjectRef>,
        manifest: Option<&Manifest>,
    ) {
        let order = |position: usize| u64::from(file) << 32 | position as u64;
        let mut placed = manifest.into_iter().flat_map(Manifest::objects).enumerate().peekable();
        // Mostly the same names stand at the same positions.
        while let Some((position, one)) =
            placed.next_if(|(position, one)| names.get(*position) == Some(one.name))
        {
            let entry = self.entries.get_mut(one.name);
            let claims = entry.map_or(&mut [][..], |entry| &mut entry.claims);
            for claim in claims.iter_mut().filter(|claim| claim.order == order(position)) {
                claim.line = one.line;
                if !claim.object.is_same(one.object) {
                    claim.object = one.object.clone();
                    self.touched.insert(one.name.clone());
                }
            }
        }
        let kept = placed.peek().map_or_else(|| manifest.map_or(0, Manifest::len), |(at, _)| *at);
        for name in names.drain(kept.min(names.len())..) {
            if let Some(entry) = self.entries.get_mut(&name) {
                let removed =
                    |claim: &Claim| file_of(claim.order) == file && claim.order >= order(kept);
                entry.claims.retain(|claim| !removed(claim));
            }
            self.touched.insert(name);
        }
        for (position, one) in placed {
            let claim =
                Claim { order: order(position), line: one.line, object: one.object.clone() };
            let claims = &mut self.entries.entry(one.name.clone()).or_default().claims;
            // Mostly the only one.
            claims.reserve_exact(1);
            claims.push(claim);
            self.touched.insert(one.name.clone());
            names.push(one.name.clone());
        }
    }

    /// The differences since the last call: what is gone first, then what is new or another, by order.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        let mut gone = Vec::new();
        let mut applied: Vec<(u64, Object)> = Vec::new();
        for name in std::mem::take(&mut self.touched) {
            let Some(entry) = self.entries.get_mut(&name) else { continue };
            if entry.claims.len() > 1 {
                entry.claims.sort_unstable_by_key(|claim| claim.order);
                self.contested.insert(name.clone());
            } else {
                self.contested.remove(&name);
            }
            // Of several objects with one name the last one wins.
            let Some(winner) = entry.claims.last() else {
                let known = self.entries.remove(&name).and_then(|entry| entry.published);
                gone.extend(known.map(|(object, _)| Change::Delete(object.kind(), name.key)));
                continue;
            };
            let (object, changed) = match &entry.published {
                // An equal object keeps the pointer that everybody downstream knows.
                Some((known, order)) if same(known, &winner.object) => {
                    (known.clone(), *order != winner.order)
                }
                _ => (winner.object.clone(), true),
            };
            if changed {
                applied.push((winner.order, object.clone()));
                entry.published = Some((object, winner.order));
            }
        }
        applied.sort_unstable_by_key(|(order, _)| *order);
        let applied = applied.into_iter().map(|(order, object)| Change::Apply(object, order));
        gone.into_iter().chain(applied).collect()
    }

    /// Where the objects that count stand: number of the file, and line.
    pub(super) fn places(&self) -> impl Iterator<Item = (&ObjectRef, u32, u32)> {
        self.entries.iter().filter_map(|(name, entry)| {
            let winner = entry.claims.iter().max_by_key(|claim| claim.order)?;
            Some((name, file_of(winner.order), winner.line))
        })
    }

    /// A problem for every claim that another one overrides.
    pub(super) fn duplicates<'p>(&self, path: impl Fn(u32) -> Option<&'p Path>) -> Vec<Problem> {
        let place = |claim: &Claim| {
            let path = path(file_of(claim.order)).unwrap_or_else(|| Path::new("?"));
            format!("{}:{}", path.display(), claim.line)
        };
        let contested =
            self.contested.iter().filter_map(|name| Some((name, self.entries.get(name)?)));
        let overridden = contested.flat_map(|(name, entry)| {
            entry.claims.windows(2).map(move |pair| (name, &pair[0], &pair[1]))
        });
        overridden
            .map(|(name, loser, winner)| {
                Problem::warning(
                    name,
                    "DuplicateObject",
                    "",
                    format!("{} is overridden by {}", place(loser), place(winner)),
                    "remove one of them",
                )
            })
            .collect()
    }
}

fn file_of(order: u64) -> u32 {
    // The upper half always fits.
    (order >> 32) as u32
}

fn same(a: &Object, b: &Object) -> bool {
    a.is_same(b) || a == b
}
