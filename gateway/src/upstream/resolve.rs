//! Names of `ExternalName` Services, resolved when a request needs them and remembered for a moment.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use gatehouse_routes::{endpoints, model::ExternalName};

use crate::{
    http::error::ProxyErrorKind,
    worker::{clock::Tick, context::Worker},
};

/// How long an answer is used, in milliseconds: the resolver does not tell us its time to live.
const KEEP: Tick = 5_000;
/// Most names remembered per worker.
const MAX_NAMES: usize = 4_096;

/// What one worker has resolved.
#[derive(Default)]
pub(crate) struct Resolved {
    names: RefCell<HashMap<(Arc<str>, u16), Known>>,
}

/// When a name was resolved, whose turn it is, and the addresses.
type Known = (Tick, usize, Arc<[SocketAddr]>);

impl Resolved {
    /// An address of the name, in turns; another one than `failed` if there is one.
    ///
    /// Addresses that an EndpointSlice may not name either (link-local, multicast …) are left out.
    pub(crate) async fn pick(
        &self,
        worker: &Worker,
        name: &ExternalName,
        failed: Option<SocketAddr>,
    ) -> Result<SocketAddr, ProxyErrorKind> {
        let key = (Arc::clone(&name.host), name.port);
        let now = worker.now();
        let known = {
            let mut names = self.names.borrow_mut();
            names.get_mut(&key).filter(|(at, ..)| now.saturating_sub(*at) < KEEP).map(|entry| {
                entry.1 = entry.1.wrapping_add(1);
                (entry.1, Arc::clone(&entry.2))
            })
        };
        let (turn, addresses) = match known {
            Some(known) => known,
            None => {
                let found = tokio::net::lookup_host((&*name.host, name.port))
                    .await
                    .map_err(|_| ProxyErrorKind::NoEndpoints)?;
                let addresses: Arc<[SocketAddr]> = found
                    .filter(|address| is_allowed(address.ip(), worker.allows_loopback()))
                    .collect();
                let mut names = self.names.borrow_mut();
                if names.len() >= MAX_NAMES {
                    names.clear();
                }
                names.insert(key, (now, 0, Arc::clone(&addresses)));
                (0, addresses)
            }
        };
        let usable = || addresses.iter().filter(|address| Some(**address) != failed);
        let count = usable().count();
        if count == 0 {
            return addresses.first().copied().ok_or(ProxyErrorKind::NoEndpoints);
        }
        usable().nth(turn % count).copied().ok_or(ProxyErrorKind::NoEndpoints)
    }
}

fn is_allowed(ip: IpAddr, loopback: bool) -> bool {
    endpoints::refusal(ip).is_none() || (loopback && ip.is_loopback())
}
