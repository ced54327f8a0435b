//! The TLS that a host speaks with its clients, where that is less than the process speaks.
//!
//! Terms only ever narrow what is left: the command line says what there is, the ConfigMap of ingress-nginx takes from
//! that, the annotations of a host from what is left. So no object can have weaker TLS than its cluster, and of two that
//! disagree about one host both get at least what they ask for.

use std::sync::Arc;

use crate::objects::ObjectRef;

/// Longest that sessions may be resumed, in seconds: for so long the keys of tickets are known (P27).
pub const LONGEST_SESSION: u32 = 6 * 3600;
/// The reason of the problem that not all that is asked for is built in.
pub const REDUCED: &str = "TlsProfileReduced";

/// Versions of TLS. No older ones are built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Versions {
    /// TLS 1.2 (RFC 5246).
    pub tls12: bool,
    /// TLS 1.3 (RFC 8446).
    pub tls13: bool,
}

impl Versions {
    /// All that are built in.
    pub const ALL: Self = Self { tls12: true, tls13: true };
    /// TLS 1.3 alone.
    pub const NEWEST: Self = Self { tls12: false, tls13: true };
    /// None.
    pub const NONE: Self = Self { tls12: false, tls13: false };

    fn both(self, other: Self) -> Self {
        Self { tls12: self.tls12 && other.tls12, tls13: self.tls13 && other.tls13 }
    }
}

/// What a host, or the whole process, leaves of versions and ciphers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsTerms {
    /// Versions that may be spoken.
    pub versions: Versions,
    /// Lists of ciphers as OpenSSL writes them: only what all of them name. The order is that of the first.
    pub ciphers: Vec<Arc<str>>,
    /// Whether our order of ciphers counts, not the client's. Default: it does where there is a list.
    pub own_order: Option<bool>,
}

impl Default for TlsTerms {
    fn default() -> Self {
        Self { versions: Versions::ALL, ciphers: Vec::new(), own_order: None }
    }
}

impl TlsTerms {
    /// What these leave all together; `None`: nobody says anything.
    pub(crate) fn of<'t>(all: impl Iterator<Item = &'t Arc<Self>>) -> Option<Arc<Self>> {
        let mut merged: Option<Arc<Self>> = None;
        for terms in all {
            match &mut merged {
                None => merged = Some(Arc::clone(terms)),
                Some(merged) if merged == terms => {}
                Some(merged) => Arc::make_mut(merged).narrow(terms),
            }
        }
        merged
    }

    fn narrow(&mut self, other: &Self) {
        self.versions = self.versions.both(other.versions);
        for list in &other.ciphers {
            if !self.ciphers.contains(list) {
                self.ciphers.push(Arc::clone(list));
            }
        }
        // Our order is the one that an attacker in between cannot choose.
        let orders = [self.own_order, other.own_order];
        self.own_order = orders.into_iter().flatten().reduce(|one, two| one || two);
    }

    /// Whether a client that asks for `other` gets that, too.
    pub(crate) fn includes(&self, other: &Self) -> bool {
        self.versions.both(other.versions) == self.versions
            && other.ciphers.iter().all(|list| self.ciphers.contains(list))
    }
}

/// What the ConfigMap of ingress-nginx says of TLS, for every host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlobalTls {
    /// The ConfigMap.
    pub object: ObjectRef,
    /// Versions and ciphers.
    pub terms: TlsTerms,
    /// Groups of key exchange, as OpenSSL names them. `None`: all.
    pub groups: Option<Arc<str>>,
    /// HTTP/2 is offered.
    pub http2: bool,
    /// Clients get tickets, by which every node resumes their sessions.
    pub tickets: bool,
    /// Without tickets: this process remembers sessions itself.
    pub cache: bool,
    /// Seconds for which a session may be resumed. `None`: as long as the keys of its ticket are known.
    pub lifetime: Option<u32>,
    /// A handshake for a name without a rule of its own fails.
    pub only_known_names: bool,
}

impl GlobalTls {
    /// Where it says nothing.
    pub(crate) fn new(object: ObjectRef) -> Self {
        Self {
            object,
            terms: TlsTerms::default(),
            groups: None,
            http2: true,
            tickets: true,
            cache: true,
            lifetime: None,
            only_known_names: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(versions: Versions, ciphers: &[&str], own_order: Option<bool>) -> Arc<TlsTerms> {
        let ciphers = ciphers.iter().map(|list| Arc::from(*list)).collect();
        Arc::new(TlsTerms { versions, ciphers, own_order })
    }

    #[test]
    fn terms_together_leave_what_each_of_them_leaves_whatever_their_order() {
        let all = [
            terms(Versions::ALL, &["HIGH"], Some(false)),
            terms(Versions::NEWEST, &[], None),
            terms(Versions::ALL, &["AES256", "HIGH"], Some(true)),
        ];
        let merged = TlsTerms::of(all.iter()).unwrap();
        assert_eq!(*merged, *terms(Versions::NEWEST, &["HIGH", "AES256"], Some(true)));
        assert!(all.iter().all(|one| merged.includes(one)));
        assert!(all.iter().all(|one| !one.includes(&merged)));
        let backwards = TlsTerms::of(all.iter().rev()).unwrap();
        assert!(backwards.includes(&merged) && merged.includes(&backwards));
        assert_eq!(TlsTerms::of([].iter()), None);
    }
}
