//! How long sessions of TLS may be resumed (`ssl-session-timeout`): each is kept with the time at which it was made.

use std::sync::Arc;

use rustls::{
    pki_types::UnixTime,
    server::{ServerSessionMemoryCache, StoresServerSessions},
};

/// Seconds for which a session may be resumed; `None`: as long as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lifetime(pub(super) Option<u32>);

impl Lifetime {
    /// A session, if it is not too old.
    pub(super) fn fresh(self, stamped: &[u8], now: UnixTime) -> Option<Vec<u8>> {
        let (made, session) = stamped.split_first_chunk::<8>()?;
        // The clock of the node that has made it may be ahead.
        let age = now.as_secs().saturating_sub(u64::from_be_bytes(*made));
        self.0.is_none_or(|most| age <= u64::from(most)).then(|| session.to_vec())
    }
}

/// A session with its time.
pub(super) fn stamped(session: &[u8], now: UnixTime) -> Vec<u8> {
    [&now.as_secs().to_be_bytes()[..], session].concat()
}

/// Sessions that the process remembers.
#[derive(Debug)]
pub(super) struct Remembered {
    sessions: Arc<ServerSessionMemoryCache>,
    lifetime: Lifetime,
}

impl Remembered {
    /// So many at most.
    pub(super) fn new(most: usize, lifetime: Lifetime) -> Self {
        Self { sessions: ServerSessionMemoryCache::new(most), lifetime }
    }
}

impl StoresServerSessions for Remembered {
    fn put(&self, key: Vec<u8>, session: Vec<u8>) -> bool {
        self.sessions.put(key, stamped(&session, UnixTime::now()))
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.lifetime.fresh(&self.sessions.get(key)?, UnixTime::now())
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.lifetime.fresh(&self.sessions.take(key)?, UnixTime::now())
    }

    fn can_cache(&self) -> bool {
        self.sessions.can_cache()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_session_counts_until_it_is_too_old() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let session = stamped(b"session", at(1000));
        for (lifetime, now, counts) in [
            (Some(60), 1000, true),
            (Some(60), 1060, true),
            (Some(60), 1061, false),
            (Some(60), 990, true),
            (None, 1_000_000, true),
        ] {
            let fresh = Lifetime(lifetime).fresh(&session, at(now));
            assert_eq!(fresh.as_deref(), counts.then_some(&b"session"[..]), "{lifetime:?} {now}");
        }
        assert_eq!(Lifetime(None).fresh(b"short", at(0)), None);
    }
}
