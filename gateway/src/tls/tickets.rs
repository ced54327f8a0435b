//! Session tickets (RFC 5077, RFC 8446 §4.6.1) that every node of a group understands without a word between them.
//!
//! Their keys come from the key of the group and from the clock. What a ticket was made for is part of its key: a
//! session is never resumed in another scope, nor where clients are asked for another certificate. Without a group
//! keys are random and leave the memory of the process as they grow old.

use std::{fmt, sync::Arc};

use anyhow::Context as _;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    digest::{SHA256, digest},
    hkdf::{HKDF_SHA256, Salt},
};
use gatehouse_routes::filter::tls_terms::LONGEST_SESSION;
use rustls::{crypto::aws_lc_rs::Ticketer, pki_types::UnixTime, server::ProducesTickets};

use super::lifetime::{self, Lifetime};
use crate::snapshot::Live;

/// What the secret for tickets is derived from the key of the group for.
pub(crate) const PURPOSE: &str = "gatehouse tls session tickets with their time";
/// Seconds for which a key makes tickets; for as many more it understands them (P27).
const PERIOD: u64 = LONGEST_SESSION as u64;
const SALT: usize = 16;

/// The secret that tickets of the group are made with.
pub(crate) struct TicketSecret {
    /// Whose snapshot has the key of the group where an object holds it.
    pub(crate) live: Arc<Live>,
    /// Where the command line has the key.
    pub(crate) given: Option<[u8; 32]>,
}

impl TicketSecret {
    fn current(&self) -> Option<[u8; 32]> {
        let snapshot = self.live.current();
        let key = snapshot.compiled.as_ref().and_then(|compiled| compiled.group.key.as_ref());
        key.map(|key| key.derive(PURPOSE)).or(self.given)
    }
}

/// The tickets of one configuration of handshakes.
pub(crate) struct Tickets {
    group: Arc<TicketSecret>,
    /// What they are made for.
    audience: [u8; 32],
    lifetime: Lifetime,
    /// Those of this process alone.
    own: Arc<dyn ProducesTickets>,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets(hidden)")
    }
}

impl Tickets {
    /// Tickets for what these texts describe, the same on every node.
    pub(crate) fn new(
        group: Arc<TicketSecret>,
        audience: &[&[u8]],
        lifetime: Lifetime,
    ) -> anyhow::Result<Self> {
        // Each by its digest, so that none can run into the next.
        let each: Vec<u8> = audience.iter().flat_map(|text| sha256(text)).collect();
        let own = Ticketer::new().context("no session ticket key")?;
        Ok(Self { group, audience: sha256(&each), lifetime, own })
    }

    fn seal(&self, secret: &[u8; 32], plain: &[u8], now: UnixTime) -> Option<Vec<u8>> {
        let mut salt = [0; SALT];
        aws_lc_rs::rand::fill(&mut salt).ok()?;
        let key = self.key(secret, &salt, now.as_secs() / PERIOD)?;
        let mut ticket = plain.to_vec();
        key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut ticket).ok()?;
        ticket.extend_from_slice(&salt);
        Some(ticket)
    }

    fn open(&self, secret: &[u8; 32], ticket: &[u8], now: UnixTime) -> Option<Vec<u8>> {
        let (sealed, salt) = ticket.split_last_chunk::<SALT>()?;
        let period = now.as_secs() / PERIOD;
        // The next one, too: another node's clock may be ahead.
        [period, period.saturating_sub(1), period + 1].into_iter().find_map(|period| {
            let mut plain = sealed.to_vec();
            let key = self.key(secret, salt, period)?;
            let length = key.open_in_place(nonce(), Aad::empty(), &mut plain).ok()?.len();
            plain.truncate(length);
            Some(plain)
        })
    }

    /// The key of one ticket.
    fn key(&self, secret: &[u8; 32], salt: &[u8; SALT], period: u64) -> Option<LessSafeKey> {
        let secret = Salt::new(HKDF_SHA256, salt).extract(secret);
        let period = period.to_be_bytes();
        let info = [PURPOSE.as_bytes(), &self.audience, &period];
        Some(LessSafeKey::new(UnboundKey::from(secret.expand(&info, &AES_256_GCM).ok()?)))
    }
}

/// The only one: a key seals one ticket.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn sha256(text: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, text).as_ref());
    out
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.lifetime.0.unwrap_or(LONGEST_SESSION)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let now = UnixTime::now();
        let plain = lifetime::stamped(plain, now);
        match self.group.current() {
            Some(secret) => self.seal(&secret, &plain, now),
            None => self.own.encrypt(&plain),
        }
    }

    /// A ticket of this process counts also after the node has joined a group.
    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let now = UnixTime::now();
        let of_group = |secret| self.open(&secret, ticket, now);
        let plain = self.group.current().and_then(of_group).or_else(|| self.own.decrypt(ticket))?;
        self.lifetime.fresh(&plain, now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECRET: [u8; 32] = [1; 32];

    fn tickets(given: Option<[u8; 32]>, audience: &[&str]) -> Tickets {
        let group = TicketSecret { live: Arc::default(), given };
        let audience: Vec<&[u8]> = audience.iter().map(|text| text.as_bytes()).collect();
        Tickets::new(Arc::new(group), &audience, Lifetime::default()).unwrap()
    }

    fn at(hours: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(hours * 3600))
    }

    #[test]
    fn nodes_with_one_secret_understand_each_other_and_nobody_else_does() {
        let ticket = tickets(Some(SECRET), &["plain", "a"]).encrypt(b"session").unwrap();
        let open = |given, audience: &[&str]| tickets(given, audience).decrypt(&ticket);
        assert_eq!(open(Some(SECRET), &["plain", "a"]).as_deref(), Some(&b"session"[..]));
        for (given, audience) in [
            (Some([2; 32]), &["plain", "a"][..]),
            (None, &["plain", "a"]),
            (Some(SECRET), &["plain", "b"]),
            (Some(SECRET), &["plain"]),
            (Some(SECRET), &["plai", "na"]),
        ] {
            assert_eq!(open(given, audience), None, "{given:?} {audience:?}");
        }
    }

    #[test]
    fn without_a_group_tickets_are_those_of_the_process() {
        let alone = tickets(None, &["plain"]);
        let ticket = alone.encrypt(b"session").unwrap();
        assert_eq!(alone.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_eq!(tickets(None, &["plain"]).decrypt(&ticket), None);
        // It still counts when the key of a group has come.
        let joined = Tickets { group: tickets(Some(SECRET), &[]).group, ..alone };
        assert_eq!(joined.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
    }

    #[test]
    fn a_ticket_is_understood_in_the_period_after_its_own_and_one_ahead_of_the_clock() {
        let tickets = tickets(None, &[]);
        let ticket = tickets.seal(&SECRET, b"session", at(600)).unwrap();
        for (hours, understood) in
            [(588, false), (593, false), (594, true), (605, true), (611, true), (612, false)]
        {
            let opened = tickets.open(&SECRET, &ticket, at(hours));
            assert_eq!(opened.is_some(), understood, "{hours}");
        }
    }

    #[test]
    fn what_was_changed_or_cut_is_none() {
        let tickets = tickets(None, &[]);
        let seal = || tickets.seal(&SECRET, b"session", at(600)).unwrap();
        let ticket = seal();
        assert_ne!(ticket, seal());
        for at_byte in 0..ticket.len() {
            let mut other = ticket.clone();
            other[at_byte] ^= 1;
            assert_eq!(tickets.open(&SECRET, &other, at(600)), None);
            assert_eq!(tickets.open(&SECRET, &ticket[..at_byte], at(600)), None);
        }
    }
}
