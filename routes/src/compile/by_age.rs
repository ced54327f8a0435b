//! Everything that is served, the oldest first.
//!
//! Who is older decides who keeps what. The order of the previous compile is where the sort begins: where little has
//! changed it compares each object with its neighbour and is done.

use std::{cell::LazyCell, sync::Arc};

use super::{
    facts::{Facts, Has},
    kept::Cache,
    served::{JudgedRoute, ServedIngress},
};
use crate::{
    admit::Seniority,
    objects::{Age, ObjectKey, ObjectRef},
    translate::Translation,
};

/// An object with rules in the tables.
#[derive(Clone, Copy)]
pub(super) struct Claimant<'c> {
    pub(super) seniority: Seniority<'c>,
    pub(super) translation: &'c Translation,
    pub(super) gateway: Option<&'c ObjectKey>,
}

/// All that is served. Places of Routes stand behind those of the Ingresses.
#[derive(Clone, Copy)]
pub(super) struct Served<'c> {
    pub(super) ingresses: &'c [ServedIngress<'c>],
    pub(super) routes: &'c [JudgedRoute<'c>],
    /// The gateway of all Routes.
    pub(super) default_gateway: Option<&'c ObjectKey>,
}

/// Claimants by age, put together where something looks at all of them.
pub(super) type Claimants<'c> =
    LazyCell<Vec<Claimant<'c>>, Box<dyn FnOnce() -> Vec<Claimant<'c>> + 'c>>;

/// The claimants by age, with their places.
pub(super) struct ByAge<'c> {
    pub(super) claimants: Claimants<'c>,
    pub(super) places: Arc<[usize]>,
    /// What differs from the previous compile; `None` if there is none, or others are the older ones than there.
    pub(super) changes: Option<Changes<'c>>,
}

/// What differs in the tables from the previous compile.
#[derive(Default)]
pub(super) struct Changes<'c> {
    /// Objects that were not there, or were others.
    pub(super) came: Vec<Claimant<'c>>,
    /// What they were, and what is gone.
    pub(super) went: Vec<&'c Translation>,
}

impl Changes<'_> {
    /// Whether something holds for anything that came or went.
    pub(super) fn any(&self, holds: impl Fn(&Translation) -> bool) -> bool {
        let came = self.came.iter().map(|claimant| claimant.translation);
        came.chain(self.went.iter().copied()).any(holds)
    }
}

/// What claimants are.
pub(super) fn of(claimants: Vec<Claimant<'_>>) -> Claimants<'_> {
    LazyCell::new(Box::new(|| claimants))
}

impl<'c> Served<'c> {
    /// All of it, the oldest first.
    pub(super) fn by_age(self, kept: Option<&'c Cache>) -> ByAge<'c> {
        if let Some(kept) = kept.filter(|kept| self.is_of_same_ages(kept)) {
            let (places, came) = (Arc::clone(&kept.by_age), Vec::new());
            let mut changes = Changes { came, went: Vec::new() };
            for place in 0..self.count() {
                if !self.is_same(place) && self.is_in_table(place) {
                    changes.came.push(self.claimant(place));
                    changes.went.extend(kept.translation(place));
                }
            }
            let of_places = Arc::clone(&places);
            let all = move || of_places.iter().map(|place| self.claimant(*place)).collect();
            return ByAge {
                claimants: LazyCell::new(Box::new(all)),
                places,
                changes: Some(changes),
            };
        }
        let mut order = self.begin(kept);
        order.retain(|at| self.is_in_table(*at));
        let mut all: Vec<_> = order.into_iter().map(|at| (self.claimant(at), at)).collect();
        all.sort_by(|(a, _), (b, _)| a.seniority.cmp(&b.seniority));
        let (claimants, places): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let changes = kept.and_then(|kept| self.changes(kept, &claimants, &places));
        ByAge { claimants: of(claimants), places: places.into(), changes }
    }

    /// What those mean for which this holds of what they have, and of whether they are in the tables; in the order of
    /// their keys.
    pub(super) fn translations(
        self,
        which: impl Fn(Has, bool) -> bool + Copy,
    ) -> impl Iterator<Item = &'c Translation> {
        let ingresses = self.ingresses.iter().filter(move |it| which(it.facts.has, true));
        let routes = self.routes.iter().filter(move |it| which(it.facts.has, it.in_table));
        let ingresses = ingresses.map(|ingress| &ingress.kept.result.translation);
        ingresses.chain(routes.map(|route| &route.kept.result.translation))
    }

    /// Whether all of it is of this gateway.
    pub(super) fn are_of(self, gateway: &ObjectKey) -> bool {
        let mut routes = self.routes.iter().filter(|route| route.in_table);
        (routes.next().is_none() || self.default_gateway == Some(gateway))
            && self.ingresses.iter().all(|ingress| ingress.gateway() == Some(gateway))
    }

    /// The facts of every place.
    pub(super) fn facts(self) -> Vec<Facts> {
        let ingresses = self.ingresses.iter().map(|ingress| ingress.facts);
        ingresses.chain(self.routes.iter().map(|route| route.facts)).collect()
    }

    /// The claimant that an object is.
    pub(super) fn find(self, object: &ObjectRef) -> Option<Claimant<'c>> {
        let key = &object.key;
        let at = match object.kind {
            "Ingress" => self.ingresses.binary_search_by(|it| it.kept.key.cmp(key)).ok()?,
            _ => {
                let at = self.routes.binary_search_by(|it| it.kept.key.cmp(key)).ok()?;
                self.ingresses.len() + at
            }
        };
        self.is_in_table(at).then(|| self.claimant(at))
    }

    /// The objects that were not there, or are others now, and those that they were or that are gone; whether or not
    /// they are in the tables.
    pub(super) fn differences<'k>(
        self,
        kept: &'k Cache,
    ) -> (Vec<&'c Translation>, Vec<&'k Translation>) {
        let mut stays = vec![false; kept.ingresses.len() + kept.routes.len()];
        let mut came = Vec::new();
        for (place, was_at) in self.was_at(kept).enumerate() {
            match was_at.filter(|_| self.is_same(place)) {
                Some(was_at) => stays[was_at] = true,
                None => came.push(self.translation(place)),
            }
        }
        let went = stays.iter().enumerate().filter(|(_, stays)| !**stays);
        (came, went.filter_map(|(was_at, _)| kept.translation(was_at)).collect())
    }

    fn translation(self, place: usize) -> &'c Translation {
        match self.ingresses.get(place) {
            Some(ingress) => &ingress.kept.result.translation,
            None => &self.routes[place - self.ingresses.len()].kept.result.translation,
        }
    }

    fn count(self) -> usize {
        self.ingresses.len() + self.routes.len()
    }

    /// Whether there are the same objects in the same tables, each as old as it was.
    fn is_of_same_ages(self, kept: &Cache) -> bool {
        if (self.ingresses.len(), self.routes.len()) != (kept.ingresses.len(), kept.routes.len()) {
            return false;
        }
        let mut stood = vec![false; self.count()];
        kept.by_age.iter().for_each(|place| stood[*place] = true);
        let is = |(place, was_at): (usize, Option<usize>)| {
            was_at == Some(place)
                && stood[place] == self.is_in_table(place)
                && kept.facts[place].age == self.age(place)
                && (self.is_same(place) || kept.uid(place) == self.seniority(place).uid)
        };
        self.was_at(kept).enumerate().all(is)
    }

    fn age(self, place: usize) -> Age {
        match self.ingresses.get(place) {
            Some(ingress) => ingress.facts.age,
            None => self.routes[place - self.ingresses.len()].facts.age,
        }
    }

    fn seniority(self, place: usize) -> Seniority<'c> {
        match self.ingresses.get(place) {
            Some(ingress) => ingress.seniority(),
            None => self.routes[place - self.ingresses.len()].seniority(),
        }
    }

    fn is_in_table(self, at: usize) -> bool {
        let count = self.ingresses.len();
        at < count || self.routes[at - count].in_table
    }

    fn claimant(self, at: usize) -> Claimant<'c> {
        match self.ingresses.get(at) {
            Some(ingress) => Claimant {
                seniority: ingress.seniority(),
                translation: &ingress.kept.result.translation,
                gateway: ingress.gateway(),
            },
            None => {
                let route = &self.routes[at - self.ingresses.len()];
                Claimant {
                    seniority: route.seniority(),
                    translation: &route.kept.result.translation,
                    gateway: self.default_gateway,
                }
            }
        }
    }

    /// Where each stood in the previous compile, by place.
    fn was_at(self, kept: &Cache) -> impl Iterator<Item = Option<usize>> {
        let before = kept.ingresses.len();
        let of_ingresses = self.ingresses.iter().map(|ingress| ingress.was_at);
        of_ingresses.chain(self.routes.iter().map(move |route| Some(before + route.was_at?)))
    }

    /// All places: of what was there before in the order that it had, then of all others.
    fn begin(self, kept: Option<&Cache>) -> Vec<usize> {
        let Some(kept) = kept else {
            return (0..self.count()).collect();
        };
        let mut now = vec![None; kept.ingresses.len() + kept.routes.len()];
        let mut new = Vec::new();
        for (at, was_at) in self.was_at(kept).enumerate() {
            match was_at {
                Some(was_at) => now[was_at] = Some(at),
                None => new.push(at),
            }
        }
        let mut order: Vec<_> =
            kept.by_age.iter().filter_map(|was_at| now[*was_at].take()).collect();
        // What was in no table.
        order.extend(now.into_iter().flatten());
        order.extend(new);
        order
    }

    /// What differs from the previous compile, if of all others the same ones are the older ones.
    fn changes(
        self,
        kept: &'c Cache,
        claimants: &[Claimant<'c>],
        places: &[usize],
    ) -> Option<Changes<'c>> {
        // By place there: its turn there, if it stood in the tables and stands here as it was.
        let mut turns = vec![None; kept.ingresses.len() + kept.routes.len()];
        for (turn, was_at) in kept.by_age.iter().enumerate() {
            turns[*was_at] = Some(turn);
        }
        let was_at: Vec<_> = self.was_at(kept).collect();
        let mut changes = Changes::default();
        let mut last = None;
        for (claimant, place) in claimants.iter().zip(places) {
            let same = was_at[*place].filter(|_| self.is_same(*place));
            let Some(turn) = same.and_then(|was_at| turns[was_at].take()) else {
                changes.came.push(*claimant);
                continue;
            };
            if last > Some(turn) {
                return None;
            }
            last = Some(turn);
        }
        let left = turns.iter().enumerate().filter(|(_, turn)| turn.is_some());
        changes.went.extend(left.filter_map(|(was_at, _)| kept.translation(was_at)));
        Some(changes)
    }

    /// Whether it is what it was, be it elsewhere.
    fn is_same(self, place: usize) -> bool {
        match self.ingresses.get(place) {
            Some(ingress) => ingress.kept.is_same(),
            None => self.routes[place - self.ingresses.len()].kept.is_same(),
        }
    }
}

impl Cache {
    /// What stood at a place.
    fn translation(&self, place: usize) -> Option<&Translation> {
        match self.ingresses.get(place) {
            Some(ingress) => Some(&ingress.result.translation),
            None => Some(&self.routes.get(place - self.ingresses.len())?.result.translation),
        }
    }

    fn uid(&self, place: usize) -> Option<&str> {
        let uid = match self.ingresses.get(place) {
            Some(ingress) => &ingress.uid,
            None => &self.routes.get(place - self.ingresses.len())?.uid,
        };
        uid.as_deref()
    }
}
