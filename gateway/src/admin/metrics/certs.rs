//! Until when the certificates of the live configuration are valid.

use std::{collections::HashMap, sync::Arc};

use crate::{snapshot::Snapshot, tls::certs::der};

/// Most names that are shown, so that a page stays one that can be read: the first to end.
const MOST: usize = 2000;

/// When the certificate of each server name ends, in seconds since 1970, the first to end first.
pub(crate) fn expiries(snapshot: &Snapshot) -> Vec<(String, i64)> {
    let mut known = HashMap::new();
    let mut all = Vec::new();
    for table in snapshot.gateways.iter().flatten().map(|gateway| &gateway.certs) {
        let exact = table.exact.iter().map(|(name, pair)| (name.to_string(), pair));
        let wildcard = table.wildcard.iter().map(|(rest, pair)| (format!("*.{rest}"), pair));
        let any = table.any.iter().map(|pair| ("*".to_owned(), pair));
        for (name, pair) in exact.chain(wildcard).chain(any) {
            let leaf = || pair.cert.first().and_then(|leaf| Some(der::validity(leaf)?.1));
            if let Some(end) = *known.entry(Arc::as_ptr(pair)).or_insert_with(leaf) {
                all.push((end, name));
            }
        }
    }
    all.sort_unstable();
    all.dedup();
    // One name may be served by several gateways with certificates of their own: the first to end counts.
    let mut seen = std::collections::HashSet::new();
    all.retain(|(_, name)| seen.insert(name.clone()));
    all.truncate(MOST);
    all.into_iter().map(|(end, name)| (name, end)).collect()
}
