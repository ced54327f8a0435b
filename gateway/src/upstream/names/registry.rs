//! What all workers know of the addresses of names.
//!
//! The data path asks once per name and time to live, and keeps what it got; `admin` shows it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use gatehouse_routes::stats::EndpointStats;

/// Most addresses remembered.
const MAX_ADDRESSES: usize = 4_096;

/// The addresses of all names that were resolved.
#[derive(Clone, Debug, Default)]
pub(crate) struct NamedEndpoints(Arc<Mutex<Known>>);

type Known = HashMap<(Arc<str>, SocketAddr), Arc<EndpointStats>>;

impl NamedEndpoints {
    /// What is known of an address of a name, which all who ask share.
    pub(super) fn of(&self, name: &Arc<str>, address: SocketAddr) -> Arc<EndpointStats> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_ADDRESSES {
            known.retain(|_, stats| Arc::strong_count(stats) > 1);
        }
        if known.len() >= MAX_ADDRESSES {
            return Arc::default();
        }
        Arc::clone(known.entry((Arc::clone(name), address)).or_default())
    }

    /// The addresses of a name at a port, and what is known of them.
    pub(crate) fn at(&self, name: &str, port: u16) -> Vec<(SocketAddr, Arc<EndpointStats>)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_name =
            known.iter().filter(|((known, address), _)| **known == *name && address.port() == port);
        let mut all: Vec<_> =
            of_name.map(|((_, address), stats)| (*address, Arc::clone(stats))).collect();
        all.sort_unstable_by_key(|(address, _)| *address);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_ask_share_what_is_known_and_what_nobody_uses_is_forgotten_when_there_is_no_room() {
        let (named, name): (_, Arc<str>) = (NamedEndpoints::default(), "a.test".into());
        let at = |port| SocketAddr::from(([192, 0, 2, 1], port));
        let kept = named.of(&name, at(1));
        assert!(Arc::ptr_eq(&kept, &named.of(&name, at(1))));
        for port in 2..u16::try_from(MAX_ADDRESSES).unwrap() + 2 {
            named.of(&name, at(port));
        }
        assert_eq!(named.at("a.test", 1).len(), 1, "a holder uses it");
        assert!(named.at("a.test", 2).is_empty());
        assert!(named.at("b.test", 1).is_empty());
    }
}
