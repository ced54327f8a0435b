//! Why a claim did not get an address, or has one to itself: what the ledger knows, for the words of
//! `denial` and `sharing`. Nothing is booked here.

use std::net::IpAddr;

use super::Ledger;
use crate::{
    alloc::{
        Claim,
        denial::{self, Denial},
        sharing::ShareRefusal,
    },
    pool::{Pool, ranges::Family},
    problem::Problem,
};

impl Ledger<'_> {
    /// Why a claim that may share has an address to itself, next to an earlier one of the same key.
    pub(super) fn refused_to_share(&self, claim: &Claim) -> Option<Problem> {
        let (sharing, held) = (claim.sharing.as_ref()?, self.held.get(&claim.id)?);
        held.iter().find_map(|given| {
            let alone = self.holders.get(&given.ip).is_some_and(|holders| holders.number() == 1);
            if !alone || claim.requested.contains(&given.ip) {
                return None;
            }
            let (pool, place) = self.place(given.ip)?;
            let places = self.by_key.get(&(pool, given.family(), &*sharing.key))?;
            let earlier = places.range(..place).find(|place| self.in_use(place.ip))?.ip;
            let why = self.holders.get(&earlier)?.admit(claim).err()?;
            let message = format!("{} is not shared: {earlier} {why}", given.ip);
            Some(Problem::noted("ShareRefused", "sharing", message, why.remedy()))
        })
    }

    /// Why none of the pools gives an address of the lacking families.
    pub(super) fn denied(
        &self,
        claim: &Claim,
        candidates: &[usize],
        lacking: &[Family],
    ) -> Problem {
        let why = |index: usize| -> (&Pool, Vec<Denial>) {
            let pool = &self.pools[index];
            let restricted = pool.admits(&claim.tenant).err();
            let denial = |family: &Family| match &restricted {
                Some(why) => Denial::Restricted(why.clone()),
                None if pool.size(*family) == 0 => Denial::NoFamily(*family),
                None if pool.draining() => Denial::Draining,
                None if !candidates.contains(&index) => Denial::Manual,
                None => {
                    let book = self.books[index][*family as usize];
                    let strangers = self.occupied.iter().filter(|ip| {
                        Family::of(**ip) == *family
                            && self.home(**ip) == Some(index)
                            && !self.in_use(**ip)
                    });
                    let strangers = strangers.count() as u128;
                    let quarantined = (book.blocked - book.used).saturating_sub(strangers);
                    let anycast = match family {
                        Family::V4 => 0,
                        Family::V6 => pool.size(Family::V6).saturating_sub(book.blocked),
                    };
                    let unshared = self.refused_share(claim, index, *family);
                    Denial::Full {
                        family: *family,
                        used: book.used,
                        quarantined,
                        strangers,
                        anycast,
                        unshared,
                    }
                }
            };
            (pool, lacking.iter().map(denial).collect())
        };
        // In the order in which they are tried for a claim that has nothing yet.
        let tried: Vec<usize> = if claim.pool.is_some() {
            candidates.to_vec()
        } else {
            let manual = (0..self.pools.len()).filter(|index| !self.pools[*index].auto_assign());
            self.automatic.iter().copied().chain(manual).collect()
        };
        let tried: Vec<_> = tried.into_iter().map(why).collect();
        denial::refusal(claim, lacking, &tried)
    }

    /// Why a claim that may share cannot join the holders of an address of a pool: rather of one of the
    /// same key.
    fn refused_share(
        &self,
        claim: &Claim,
        pool: usize,
        family: Family,
    ) -> Option<(IpAddr, ShareRefusal)> {
        let key = &*claim.sharing.as_ref()?.key;
        let of_key = self.by_key.get_key_value(&(pool, family, key));
        let others = self.by_key.range((pool, family, "")..);
        let others = others.take_while(|((of, which, _), _)| (*of, *which) == (pool, family));
        let mut places = of_key.into_iter().chain(others).flat_map(|(_, places)| places);
        let ip = places.find(|place| self.in_use(place.ip))?.ip;
        Some((ip, self.holders.get(&ip)?.admit(claim).err()?))
    }
}
