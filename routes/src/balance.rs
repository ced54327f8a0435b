//! Which backend and which endpoint gets the next request: pure arithmetic over the caller's counters.
//!
//! The data path calls this once per request, on every core, each of which counts for itself. Weights are
//! honoured in two steps, first the Service, then one of its endpoints, so that they are exact however many
//! endpoints each has. An endpoint is the next in turn, the better of two by chance, or the one of a key.

use std::{borrow::Borrow, sync::Arc};

use http::HeaderMap;

use crate::{
    action::{Forward, ForwardSpec, WeightedBackend},
    canary::{Canary, Share},
    model::{Backend, BackendTable, Endpoint},
};

mod chance;
mod hash;
#[cfg(test)]
mod simulation;

pub use chance::{expected, peak_ewma, pick_better};
pub use hash::{StableHash, pick_hashed, pick_own};

/// Index of the entry that the request at position `tick` belongs to; `None` if all weights are 0.
///
/// Over any `W` consecutive ticks (`W`: sum of the weights after dividing out what they have in common, 5
/// for 80 and 20), aligned or not, each entry is chosen exactly as often as its weight says; only the one window in 2³² ticks in which the counter wraps is off.
/// The choices are interleaved: tick × k mod W walks through all positions once if k and W have
/// no common divisor, and with k near W/φ it jumps far each time.
pub fn pick_weighted(tick: u32, weights: impl Iterator<Item = u32> + Clone) -> Option<usize> {
    let weights = weights.map(u64::from);
    let common = weights.clone().fold(0, gcd);
    if common == 0 {
        return None;
    }
    let weights = weights.map(|weight| weight / common);
    let sum: u64 = weights.clone().sum();
    // Both factors are below W: their product fits if W does not exceed 32 bits, else u128 keeps it exact.
    let position = u128::from(u64::from(tick) % sum) * u128::from(stride(sum)) % u128::from(sum);
    let mut position = position as u64;
    for (index, weight) in weights.enumerate() {
        match position.checked_sub(weight) {
            Some(rest) => position = rest,
            None => return Some(index),
        }
    }
    None
}

/// The canary's backend that a request is for, and its index in `forward.spec.backends`; `None`: the request
/// is for the rule's own backends, also where the canary has no endpoint.
///
/// What a request asks for counts before all shares. Of the other requests each canary gets its own share of all;
/// where the shares are more than everything, the older canary goes first. `random` is uniform over its type.
pub fn pick_canary<'t>(
    spec: &ForwardSpec,
    backends: &'t BackendTable,
    headers: &HeaderMap,
    random: impl FnOnce() -> u32,
) -> Option<(&'t Arc<Backend>, usize)> {
    let asked = |canary: &Canary| canary.share.asked(headers);
    let named = spec.canaries().find(|(canary, _)| asked(canary) == Some(true));
    let by_share = || {
        let mut open = spec.canaries().filter(|(canary, _)| canary.share.weight > 0).peekable();
        open.peek()?;
        // Of 2^32 parts of all requests.
        let mut position = u64::from(random());
        open.filter(|(canary, _)| asked(canary).is_none()).find(|(canary, _)| {
            let Share { weight, total, .. } = &canary.share;
            let part = (u64::from(*weight.min(total)) << 32) / u64::from(*total).max(1);
            let within = position < part;
            position = position.saturating_sub(part);
            within
        })
    };
    let (_, index) = named.or_else(by_share)?;
    let backend = backends.get(spec.backends.get(index)?.slot)?;
    (!backend.endpoints.is_empty()).then_some((backend, index))
}

/// The backend for the next request and its index in `forward.spec.backends`.
///
/// Backends of weight 0 and backends without endpoints drop out of the sum. `None`: nobody is left to
/// answer (503). The position of the request in the sequence is asked for only if there is a choice to make.
pub fn pick_service<'t>(
    forward: &Forward,
    backends: &'t BackendTable,
    tick: impl FnOnce() -> u32,
) -> Option<(&'t Arc<Backend>, usize)> {
    let weighted = forward.spec.main();
    let live = |index: usize| {
        let entry = weighted.get(index).filter(|entry| entry.weight > 0)?;
        backends.get(entry.slot).filter(|backend| !backend.endpoints.is_empty())
    };
    let mut candidates = (0..weighted.len()).filter(|&index| live(index).is_some());
    let first = candidates.next()?;
    let index = if candidates.next().is_none() {
        first
    } else {
        let weight = |(index, entry): (usize, &WeightedBackend)| {
            if live(index).is_some() { u32::from(entry.weight) } else { 0 }
        };
        pick_weighted(tick(), weighted.iter().enumerate().map(weight))?
    };
    Some((live(index)?, index))
}

/// Another backend than those that a request has `left` behind, and its index: by weight among those that have endpoints.
pub fn pick_other_service<'t>(
    weighted: &[WeightedBackend],
    backends: &'t BackendTable,
    left: &[usize],
    random: u32,
) -> Option<(&'t Arc<Backend>, usize)> {
    let other = |(index, entry): (usize, &WeightedBackend)| {
        let backend = backends.get(entry.slot).filter(|_| !left.contains(&index));
        match backend.is_some_and(|backend| !backend.endpoints.is_empty()) {
            true => u32::from(entry.weight),
            false => 0,
        }
    };
    let index = pick_weighted(random, weighted.iter().enumerate().map(other))?;
    Some((backends.get(weighted.get(index)?.slot)?, index))
}

/// The endpoint for the request at this position: the one whose turn it is, or else another one that `may`
/// have it. `None` if no endpoint may.
///
/// What those that may not leave over is shared evenly among the others, however many are left out.
pub fn pick_endpoint<E: Borrow<Endpoint>>(
    endpoints: &[E],
    tick: u32,
    may: impl Fn(&Endpoint) -> bool,
) -> Option<&E> {
    let (tick, count) = (tick as usize, endpoints.len());
    let in_turn = endpoints.get(tick.checked_rem(count)?)?;
    if may(in_turn.borrow()) {
        return Some(in_turn);
    }
    let others = || endpoints.iter().filter(|endpoint| may((*endpoint).borrow()));
    // By rounds: the turns of one endpoint alone may always hit the same remainder.
    others().nth((tick / count).checked_rem(others().count())?)
}

/// Whether an endpoint of this age takes part in a choice, where `share` is uniform below the time in which the part of a
/// new one grows: it grows evenly, and what it leaves over the others have.
pub fn is_warm(age: u64, share: u64) -> bool {
    age > share
}

/// Whether so few of all endpoints are fit that all of them are to get requests. 0 percent: never.
pub fn panics(fit: usize, all: usize, percent: u8) -> bool {
    fit * 100 < usize::from(percent) * all
}

/// A number near `sum`/φ that has no divisor in common with `sum`.
fn stride(sum: u64) -> u64 {
    let golden = (u128::from(sum) * 618 / 1000) as u64;
    // Ends at the latest at sum - 1 or, for sums 1 and 2, at 1: neighbours have no common divisor.
    (golden.max(1)..sum).find(|&k| gcd(k, sum) == 1).unwrap_or(1)
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests;
