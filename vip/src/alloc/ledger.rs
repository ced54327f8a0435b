//! Which claim holds what while an allocation is made, and what can still be had.
//!
//! [`allocate`](super::allocate) drives it. Addresses only ever become blocked here, never free again
//! (what is let go is quarantined), so every search goes on where the last one ended: an allocation costs
//! O(log n), whatever the number and size of the pools' ranges.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    net::IpAddr,
    ops::Bound,
    sync::Arc,
};

use super::{
    Allocation, Assignment, Claim, ClaimId, Quarantined, Sharing, TrafficPolicy,
    denial::{family_names, pool_names},
    sharing::Holders,
};
use crate::{
    pool::{
        Place, Pool,
        ranges::{AddressSet, Family, number},
    },
    problem::{Problem, Severity},
};

mod reasons;

/// The books of one allocation. Pools go by their index.
pub(super) struct Ledger<'a> {
    pools: &'a [Pool],
    by_name: HashMap<&'a str, usize>,
    /// Pools that assign by themselves, in the order in which they are tried.
    automatic: Vec<usize>,
    /// First number of each range of each pool → its last number, the pool, and which of its ranges it is.
    homes: BTreeMap<(Family, u128), (u128, usize, usize)>,
    /// Held or quarantined.
    blocked: AddressSet,
    /// The same, and what claims request that are still to be served.
    avoided: AddressSet,
    books: Vec<[Book; 2]>,
    holders: HashMap<IpAddr, Holders<'a>>,
    held: BTreeMap<&'a ClaimId, Vec<Given>>,
    quarantined: Quarantined,
    /// What hosts outside use.
    occupied: &'a BTreeSet<IpAddr>,
    /// What is quarantined for a claim, as it came in.
    returning: HashMap<&'a ClaimId, Vec<IpAddr>>,
    /// Addresses whose holders share them.
    shareable: HashMap<(&'a str, &'a TrafficPolicy, usize, Family), BTreeSet<Place>>,
    /// The same whatever the policy.
    by_key: BTreeMap<(usize, Family, &'a str), BTreeSet<Place>>,
    /// Up to here, no shareable address of that key has these ports to spare.
    scanned: HashMap<(usize, Family, &'a str), HashMap<&'a Sharing, Place>>,
    refused: BTreeMap<ClaimId, Vec<Problem>>,
    /// What the last attempt to serve a claim left open.
    open: HashMap<&'a ClaimId, Problem>,
    /// An attempt that failed may succeed now: an address was left, or got holders that share it.
    room: bool,
}

/// The addresses of one family of one pool.
#[derive(Clone, Copy)]
struct Book {
    /// None before this is free; `None`: none at all.
    next: Option<Place>,
    /// None before this is free and not requested by others; `None`: none at all.
    next_unrequested: Option<Place>,
    used: u128,
    blocked: u128,
}

/// An address for a claim.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Given {
    ip: IpAddr,
    pool: usize,
}

impl Default for Book {
    fn default() -> Self {
        let start = Some(Place::FIRST);
        Self { next: start, next_unrequested: start, used: 0, blocked: 0 }
    }
}

impl Given {
    fn family(self) -> Family {
        Family::of(self.ip)
    }
}

impl<'a> Ledger<'a> {
    pub(super) fn new(
        pools: &'a [Pool],
        quarantined: &'a Quarantined,
        occupied: &'a BTreeSet<IpAddr>,
    ) -> Self {
        let mut automatic: Vec<usize> =
            (0..pools.len()).filter(|index| pools[*index].auto_assign()).collect();
        automatic.sort_by_key(|index| pools[*index].rank());
        let mut homes = BTreeMap::new();
        for (index, pool) in pools.iter().enumerate() {
            for (entry, &(family, first, last)) in pool.listed().iter().enumerate() {
                homes.insert((family, first), (last, index, entry));
            }
        }
        let mut ledger = Self {
            pools,
            by_name: pools.iter().enumerate().rev().map(|(at, pool)| (pool.name(), at)).collect(),
            automatic,
            homes,
            blocked: AddressSet::default(),
            avoided: AddressSet::default(),
            books: vec![[Book::default(); 2]; pools.len()],
            holders: HashMap::new(),
            held: BTreeMap::new(),
            quarantined: quarantined.clone(),
            occupied,
            returning: HashMap::new(),
            shareable: HashMap::new(),
            by_key: BTreeMap::new(),
            scanned: HashMap::new(),
            refused: BTreeMap::new(),
            open: HashMap::new(),
            room: false,
        };
        occupied.iter().for_each(|ip| ledger.block(*ip));
        for (ip, former) in quarantined {
            ledger.block(*ip);
            for id in former {
                ledger.returning.entry(id).or_default().push(*ip);
            }
        }
        ledger
    }

    /// Lets a claim keep of its recorded addresses what is still allowed: at most one of each family
    /// that it wants. The others are quarantined.
    pub(super) fn keep_recorded(&mut self, claim: &'a Claim) {
        let mut kept: Vec<Given> = Vec::new();
        let mut recorded = claim.recorded.clone();
        // Of several of one family, rather one that the claim asks for.
        recorded.sort_by_key(|ip| {
            let asked = self.home(*ip).is_some_and(|pool| claim.allows(self.pools[pool].name()));
            (!claim.requested.contains(ip), !asked)
        });
        for ip in recorded {
            let family = Family::of(ip);
            let surplus = kept.iter().any(|given| given.family() == family);
            if surplus || !claim.families.wanted().contains(&family) {
                self.quarantine(ip, &claim.id);
                continue;
            }
            match self.allowed(claim, ip) {
                Ok(pool) => kept.push(Given { ip, pool }),
                Err(why) => {
                    self.quarantine(ip, &claim.id);
                    let message = format!("{ip} is given up: {}", why.message);
                    let refusal = Problem::noted("AddressReleased", "", message, "");
                    self.refused.entry(claim.id.clone()).or_default().push(refusal);
                }
            }
        }
        if !kept.is_empty() {
            self.hold(claim, kept);
        }
    }

    /// Gives a claim back what it held before and what is quarantined since, unless it wants something else.
    pub(super) fn return_quarantined(&mut self, claim: &'a Claim) {
        let Some(ips) = self.returning.get(&claim.id).cloned() else { return };
        let mut given = self.held.get(&claim.id).cloned().unwrap_or_default();
        let before = given.len();
        for ip in ips {
            let asked = claim.requested.is_empty() || claim.requested.contains(&ip);
            let family = Family::of(ip);
            let open = claim.families.wanted().contains(&family)
                && given.iter().all(|given| given.family() != family);
            if asked
                && open
                && !self.is_lost_to_stranger(claim, ip)
                && let Ok(pool) = self.allowed(claim, ip)
                && claim.allows(self.pools[pool].name())
            {
                given.push(Given { ip, pool });
            }
        }
        if given.len() > before {
            self.hold(claim, given);
        }
    }

    /// Keeps what a claim requests, and may have, from those that would take any address.
    pub(super) fn reserve_requested(&mut self, claim: &Claim) {
        // A Service that may not have all of it gets nothing of it.
        let requested = self.requested(claim).unwrap_or_default();
        requested.iter().for_each(|given| self.avoided.insert(given.ip));
    }

    /// Whether a claim held an address of a family that it wants and has none of it now: its pool was
    /// renumbered, or is gone.
    pub(super) fn has_lost(&self, claim: &Claim) -> bool {
        let held = self.held.get(&claim.id).into_iter().flatten();
        let held: Vec<Family> = held.map(|given| given.family()).collect();
        let returning = self.returning.get(&claim.id).into_iter().flatten();
        let mut former = claim.recorded.iter().chain(returning).map(|ip| Family::of(*ip));
        former.any(|family| claim.families.wanted().contains(&family) && !held.contains(&family))
    }

    /// Whether a claim holds anything.
    pub(super) fn holds(&self, claim: &Claim) -> bool {
        self.held.contains_key(&claim.id)
    }

    /// Whether what a claim holds is all that it asks for.
    pub(super) fn satisfied(&self, claim: &Claim) -> bool {
        let Some(held) = self.held.get(&claim.id) else { return false };
        held.len() == claim.families.wanted().len()
            && claim.requested.iter().all(|ip| held.iter().any(|given| given.ip == *ip))
            && held.iter().all(|given| {
                claim.allows(self.pools[given.pool].name())
                    && !self.is_lost_to_stranger(claim, given.ip)
            })
    }

    /// Gives a claim what it asks for in the place of what it holds, or notes why that cannot be.
    pub(super) fn serve(&mut self, claim: &'a Claim) {
        let refusal = match self.attempt(claim) {
            Ok((given, note)) => {
                self.hold(claim, given);
                note
            }
            Err(mut refusal) => {
                if let Some(held) = self.held.get(&claim.id) {
                    refusal.severity = Severity::Warning;
                    refusal.message += &format!("; {} stays in use", addresses(held));
                }
                Some(refusal)
            }
        };
        match refusal {
            Some(refusal) => self.open.insert(&claim.id, refusal),
            None => self.open.remove(&claim.id),
        };
    }

    /// Whether there is room since the last call that there was not before.
    pub(super) fn take_room(&mut self) -> bool {
        mem::take(&mut self.room)
    }

    /// Says what is open of what a claim asks for, and why it shares nothing.
    pub(super) fn note_open(&mut self, claim: &Claim) {
        let open = self.open.remove(&claim.id);
        let notes: Vec<Problem> = open.into_iter().chain(self.refused_to_share(claim)).collect();
        if !notes.is_empty() {
            self.refused.entry(claim.id.clone()).or_default().extend(notes);
        }
    }

    pub(super) fn finish(self) -> Allocation {
        let Self { pools, held, quarantined, refused, .. } = self;
        let names: Vec<Arc<str>> = pools.iter().map(Pool::shared_name).collect();
        let assigned = held.into_iter().map(|(id, given)| {
            let assignment =
                |given: Given| Assignment { ip: given.ip, pool: Arc::clone(&names[given.pool]) };
            (id.clone(), given.into_iter().map(assignment).collect())
        });
        Allocation { assigned: assigned.collect(), refused, quarantined }
    }

    /// What a claim could hold instead of what it holds, and what of its request stays open; or why it
    /// gets nothing new.
    fn attempt(&mut self, claim: &'a Claim) -> Result<(Vec<Given>, Option<Problem>), Problem> {
        let mut given = self.requested(claim)?;
        // What is not requested otherwise stays as it is, if it can.
        for &held in self.held.get(&claim.id).into_iter().flatten() {
            let replaced = given.iter().any(|given| given.family() == held.family());
            if !replaced
                && claim.allows(self.pools[held.pool].name())
                && !self.is_lost_to_stranger(claim, held.ip)
            {
                given.push(held);
            }
        }
        let candidates = self.candidates(claim, &given)?;
        let wanted = claim.families.wanted();
        let missing = |given: &[Given]| -> Vec<Family> {
            let has = |family: &Family| given.iter().any(|given| given.family() == *family);
            wanted.iter().copied().filter(|family| !has(family)).collect()
        };
        if missing(&given).len() > 1 {
            // Both from one pool, if there is one that has both.
            let both = candidates.iter().find_map(|pool| {
                wanted.iter().map(|family| self.pick(claim, *pool, *family)).collect()
            });
            given.extend(both.into_iter().flat_map(|both: Vec<Given>| both));
        }
        for family in missing(&given) {
            given.extend(candidates.iter().find_map(|pool| self.pick(claim, *pool, family)));
        }
        let lacking = missing(&given);
        if lacking.is_empty() {
            return Ok((given, None));
        }
        let mut refusal = self.denied(claim, &candidates, &lacking);
        if claim.families.strict() || given.is_empty() {
            return Err(refusal);
        }
        // That a family is unknown here is what "prefer" is for; that it ran out is worth a word.
        let noteworthy = matches!(refusal.reason, "PoolExhausted" | "PoolDraining");
        refusal.severity = Severity::Warning;
        refusal.message += &format!("; it has {} only", addresses(&given));
        Ok((given, noteworthy.then_some(refusal)))
    }

    /// The requested addresses, if the claim may have all of them.
    fn requested(&self, claim: &Claim) -> Result<Vec<Given>, Problem> {
        let wanted = claim.families.wanted();
        for (index, &ip) in claim.requested.iter().enumerate() {
            let family = Family::of(ip);
            if !wanted.contains(&family) {
                let families = family_names(wanted);
                return Err(Problem::refused(
                    "FamilyMismatch",
                    "requested",
                    format!("the requested address {ip} is not {families}"),
                    format!("request {families}, or change the families of the service"),
                ));
            }
            if claim.requested[..index].iter().any(|other| Family::of(*other) == family) {
                return Err(Problem::refused(
                    "TooManyAddresses",
                    "requested",
                    format!("{ip} is the second {family} address requested"),
                    "request at most one address of each family",
                ));
            }
        }
        let mut given = Vec::with_capacity(claim.requested.len());
        for &ip in &claim.requested {
            let pool = self.obtainable(claim, ip)?;
            let name = self.pools[pool].name();
            if !claim.allows(name) {
                return Err(Problem::refused(
                    "PoolMismatch",
                    "requested",
                    format!("the requested address {ip} is of pool \"{name}\""),
                    format!("name pool \"{name}\", or none"),
                ));
            }
            given.push(Given { ip, pool });
        }
        Ok(given)
    }

    /// Pools to look in: the named one; else those that the claim is in already, then all that assign by
    /// themselves.
    fn candidates(&self, claim: &Claim, given: &[Given]) -> Result<Vec<usize>, Problem> {
        let Some(name) = &claim.pool else {
            let mut candidates: Vec<usize> = given.iter().map(|given| given.pool).collect();
            candidates.dedup();
            let more = self.automatic.iter().filter(|pool| !candidates.contains(pool));
            let more: Vec<usize> = more.copied().collect();
            candidates.extend(more);
            return Ok(candidates);
        };
        match self.by_name.get(name.as_str()) {
            Some(pool) => Ok(vec![*pool]),
            None => Err(Problem::refused(
                "PoolNotFound",
                "pool",
                format!("there is no usable pool \"{name}\""),
                format!("pools: {}", pool_names(self.pools)),
            )),
        }
    }

    /// The address of a pool that a claim may have: one that is quarantined for it, else the first that is free
    /// or can be shared.
    fn pick(&mut self, claim: &'a Claim, pool: usize, family: Family) -> Option<Given> {
        if self.pools[pool].draining() || self.pools[pool].admits(&claim.tenant).is_err() {
            return None;
        }
        let former = self.returning.get(&claim.id).into_iter().flatten().copied().find(|ip| {
            Family::of(*ip) == family
                && !self.is_lost_to_stranger(claim, *ip)
                && self.obtainable(claim, *ip).is_ok_and(|home| home == pool)
        });
        if let Some(ip) = former {
            return Some(Given { ip, pool });
        }
        let free = self.first_free(pool, family);
        let sharing = claim.sharing.as_ref();
        let place = sharing.and_then(|it| self.joinable(claim, it, (pool, family), free));
        Some(Given { ip: place.or(free)?.ip, pool })
    }

    /// The first free address of a pool, rather one that no claim requests.
    fn first_free(&mut self, pool: usize, family: Family) -> Option<Place> {
        let Self { pools, books, blocked, avoided, .. } = self;
        let (pool, book) = (&pools[pool], &mut books[pool][family as usize]);
        book.next_unrequested =
            book.next_unrequested.and_then(|from| pool.first_free(avoided, family, from));
        if book.next_unrequested.is_none() {
            book.next = book.next.and_then(|from| pool.first_free(blocked, family, from));
            return book.next;
        }
        book.next_unrequested
    }

    /// The first address, before the free one, whose holders a claim may join.
    fn joinable(
        &mut self,
        claim: &Claim,
        sharing: &'a Sharing,
        (pool, family): (usize, Family),
        free: Option<Place>,
    ) -> Option<Place> {
        let places = self.shareable.get(&(&*sharing.key, &sharing.policy, pool, family))?;
        let key = (pool, family, &*sharing.key);
        let from = self.scanned.get(&key).and_then(|scanned| scanned.get(sharing));
        let range =
            (from.map_or(Bound::Unbounded, |from| Bound::Excluded(*from)), Bound::Unbounded);
        let mut taken = None;
        let before = places.range(range).take_while(|it| free.is_none_or(|free| **it < free));
        let found = before.copied().find(|place| {
            let open = self.in_use(place.ip)
                && !self.occupied.contains(&place.ip)
                && self.obtainable(claim, place.ip).is_ok();
            if !open {
                taken = Some(*place);
            }
            open
        });
        if let Some(taken) = taken {
            self.scanned.entry(key).or_default().insert(sharing, taken);
        }
        found
    }

    /// Whether a host outside uses an address that the claim did not ask for.
    fn is_lost_to_stranger(&self, claim: &Claim, ip: IpAddr) -> bool {
        self.occupied.contains(&ip) && !claim.requested.contains(&ip)
    }

    /// Whether some claim holds an address.
    fn in_use(&self, ip: IpAddr) -> bool {
        self.holders.get(&ip).is_some_and(|holders| !holders.is_empty())
    }

    /// The pool that an address is of, if this claim may have the address now. That others had it a moment
    /// ago is no obstacle: a claim gets here by asking for the address, or by having had it.
    fn obtainable(&self, claim: &Claim, ip: IpAddr) -> Result<usize, Problem> {
        let pool = self.allowed(claim, ip)?;
        let held = self.held.get(&claim.id).into_iter().flatten().any(|given| given.ip == ip);
        let former = self.quarantined.get(&ip).is_some_and(|former| former.contains(&claim.id));
        if held || former {
            return Ok(pool);
        }
        if self.pools[pool].draining() {
            return Err(Problem::refused(
                "PoolDraining",
                "requested",
                format!("{ip} is of pool \"{}\", which is draining", self.pools[pool].name()),
                "use another pool, or have this one give again: no gatehouse.io/drain, no overlap",
            ));
        }
        Ok(pool)
    }

    /// The pool that an address is of, if this claim may keep the address.
    fn allowed(&self, claim: &Claim, ip: IpAddr) -> Result<usize, Problem> {
        let Some(pool) = self.home(ip) else {
            let hint = if self.pools.is_empty() { "create an IPAddressPool" } else { "" };
            return Err(Problem::refused(
                "AddressNotInPool",
                "requested",
                format!("{ip} is in no pool; looked in: {}", pool_names(self.pools)),
                hint,
            ));
        };
        let name = self.pools[pool].name();
        if self.pools[pool].leaves_out(ip) {
            return Err(Problem::refused(
                "AddressNotInPool",
                "requested",
                format!("avoidBuggyIPs leaves {ip} out of pool \"{name}\""),
                "request an address that does not end in .0 or .255",
            ));
        }
        if let Err(why) = self.pools[pool].admits(&claim.tenant) {
            return Err(Problem::refused(
                "PoolRestricted",
                "requested",
                format!("{ip} is of pool \"{name}\": {why}"),
                "use another pool, or let the service in by serviceAllocation",
            ));
        }
        match self.holders.get(&ip).map(|holders| holders.admit(claim)) {
            Some(Err(why)) => Err(Problem::refused(
                "AddressInUse",
                "requested",
                format!("{ip} {why}"),
                format!("request another address, or none; {}", why.remedy()),
            )),
            _ => Ok(pool),
        }
    }

    /// The pool whose ranges hold an address.
    fn home(&self, ip: IpAddr) -> Option<usize> {
        self.place(ip).map(|(pool, _)| pool)
    }

    /// The pool whose ranges hold an address, and where the address stands there.
    fn place(&self, ip: IpAddr) -> Option<(usize, Place)> {
        let (family, number) = (Family::of(ip), number(ip));
        let (&(of, _), &(last, pool, entry)) = self.homes.range(..=(family, number)).next_back()?;
        (of == family && number <= last).then_some((pool, Place { entry, ip }))
    }

    /// Books what a claim holds from now on; what it held besides is let go.
    fn hold(&mut self, claim: &'a Claim, mut given: Vec<Given>) {
        let wanted = claim.families.wanted();
        given.sort_by_key(|given| wanted.iter().position(|family| *family == given.family()));
        let former = self.held.insert(&claim.id, given.clone()).unwrap_or_default();
        for gone in former.iter().filter(|former| !given.contains(former)) {
            self.room = true;
            if let Some(holders) = self.holders.get_mut(&gone.ip) {
                holders.remove(&claim.id);
                if holders.is_empty() {
                    self.books[gone.pool][gone.family() as usize].used -= 1;
                }
                self.quarantine(gone.ip, &claim.id);
            }
            self.scan_again(claim, *gone);
        }
        for new in given.iter().filter(|given| !former.contains(given)) {
            self.block(new.ip);
            self.quarantined.remove(&new.ip);
            let holders = self.holders.entry(new.ip).or_default();
            let first = holders.is_empty();
            if first {
                self.books[new.pool][new.family() as usize].used += 1;
            }
            holders.add(claim);
            if first {
                self.scan_again(claim, *new);
            }
            if let Some(sharing) = &claim.sharing
                && let Some((_, place)) = self.place(new.ip)
            {
                self.room = true;
                let group = (&*sharing.key, &sharing.policy, new.pool, new.family());
                self.shareable.entry(group).or_default().insert(place);
                let key = (new.pool, new.family(), &*sharing.key);
                self.by_key.entry(key).or_default().insert(place);
            }
        }
    }

    /// Has an address looked at again by all that may share it: `claim` has come first, or has left.
    fn scan_again(&mut self, claim: &'a Claim, given: Given) {
        let Some(sharing) = &claim.sharing else { return };
        let Some((pool, place)) = self.place(given.ip) else { return };
        if let Some(scanned) = self.scanned.get_mut(&(pool, given.family(), &*sharing.key)) {
            scanned.retain(|_, up_to| *up_to < place);
        }
    }

    /// Quarantines an address that a claim no longer holds, unless another claim holds it.
    fn quarantine(&mut self, ip: IpAddr, former: &ClaimId) {
        if self.holders.get(&ip).is_some_and(|holders| !holders.is_empty()) {
            return;
        }
        self.quarantined.entry(ip).or_default().insert(former.clone());
        self.block(ip);
    }

    fn block(&mut self, ip: IpAddr) {
        if self.blocked.contains(ip) {
            return;
        }
        self.blocked.insert(ip);
        self.avoided.insert(ip);
        if let Some(pool) = self.home(ip).filter(|pool| !self.pools[*pool].leaves_out(ip)) {
            self.books[pool][Family::of(ip) as usize].blocked += 1;
        }
    }
}

fn addresses(given: &[Given]) -> String {
    given.iter().map(|given| given.ip.to_string()).collect::<Vec<_>>().join(" and ")
}
