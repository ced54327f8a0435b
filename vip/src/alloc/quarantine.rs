//! Addresses that were let go are quarantined for a while before another claim may have them.
//!
//! Caches out there, of DNS and of neighbours, still lead the former holder's clients to such an
//! address. Its former holder may have it again at once: a Service that is deleted and applied again, or
//! a pool that was missing for one save, changes nothing. The caller of [`allocate`](crate::allocate)
//! keeps one [`Quarantine`] and feeds it every result; the time comes from outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use super::ClaimId;

/// How long an address is quarantined.
pub const QUARANTINE: Duration = Duration::from_secs(30);

/// Addresses that no claim holds, and the claims that may have them: the last holders.
pub type Quarantined = BTreeMap<IpAddr, BTreeSet<ClaimId>>;

/// Which addresses are quarantined, and until when.
#[derive(Clone, Debug, Default)]
pub struct Quarantine {
    until: BTreeMap<IpAddr, Instant>,
    quarantined: Quarantined,
}

impl Quarantine {
    /// What is quarantined, for the next [`allocate`](crate::allocate).
    pub fn quarantined(&self) -> &Quarantined {
        &self.quarantined
    }

    /// Takes over what an allocation left quarantined: an address that is new here is quarantined from now on, one
    /// that is not there any more has a holder.
    pub fn observe(&mut self, quarantined: &Quarantined, now: Instant) {
        self.until.retain(|ip, _| quarantined.contains_key(ip));
        for ip in quarantined.keys() {
            self.until.entry(*ip).or_insert(now + QUARANTINE);
        }
        self.quarantined.clone_from(quarantined);
    }

    /// Frees the addresses whose quarantine is over; true if there were any, so that claims that wait for
    /// an address should be served again.
    pub fn expire(&mut self, now: Instant) -> bool {
        let before = self.until.len();
        self.until.retain(|_, until| *until > now);
        let Self { until, quarantined } = self;
        quarantined.retain(|ip, _| until.contains_key(ip));
        until.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an Instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    fn quarantined(of: &[(&str, &str)]) -> Quarantined {
        let mut quarantined = Quarantined::new();
        for (ip, holder) in of {
            quarantined.entry(ip.parse().unwrap()).or_default().insert(ClaimId((*holder).into()));
        }
        quarantined
    }

    #[test]
    fn an_address_rests_half_a_minute_from_when_it_was_let_go() {
        let start = start();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut quarantine = Quarantine::default();
        quarantine.observe(&quarantined(&[("10.0.0.1", "a/b")]), at(0));
        // Later results that repeat it do not prolong the quarantine.
        quarantine.observe(&quarantined(&[("10.0.0.1", "a/b"), ("10.0.0.2", "a/c")]), at(20));
        assert!(!quarantine.expire(at(29)));
        assert!(quarantine.expire(at(30)));
        assert_eq!(quarantine.quarantined(), &quarantined(&[("10.0.0.2", "a/c")]));
        assert!(!quarantine.expire(at(49)));
        assert!(quarantine.expire(at(50)));
        assert_eq!(quarantine.quarantined(), &Quarantined::new());
        assert!(!quarantine.expire(at(99)));
    }

    #[test]
    fn an_address_that_its_holder_took_again_starts_a_new_rest_when_it_is_let_go_again() {
        let start = start();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut quarantine = Quarantine::default();
        let again = quarantined(&[("10.0.0.1", "a/b")]);
        quarantine.observe(&again, at(0));
        quarantine.observe(&Quarantined::new(), at(10));
        quarantine.observe(&again, at(20));
        assert!(!quarantine.expire(at(49)));
        assert!(quarantine.expire(at(50)));
    }
}
