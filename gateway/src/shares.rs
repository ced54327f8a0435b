//! Limits that the nodes of a group share: what a client may do on all of them together.
//!
//! A filter counts a request by [`Shares::take`], which looks at nothing but this node's [`SharedTable`]. Ten times a
//! second [`run`] has the [`Ledger`] look at the clients that are near their limits, tells the other nodes of the group
//! what they used here and charges them what they used there; notes travel beside the heartbeats, sealed by the group's
//! key. A node without a group counts for itself. Only what limits share is here: those of each node are in
//! `worker/rate_table`.

mod ledger;
mod table;
mod wire;

#[cfg(test)]
mod simulation;

use std::{
    hash::Hasher as _,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use gatehouse_routes::filter::limit_key::Client;
use gatehouse_vip::{LONGEST_NOTE, Note};
use siphasher::sip::SipHasher24;
use tokio::time::{MissedTickBehavior, interval};

use crate::worker::rate_table::Left;
use ledger::{Heard, Ledger};
use table::SharedTable;

pub(crate) use ledger::SharesStatus;

/// What the key of a group is used for here.
pub(crate) const PURPOSE: &str = "limits that nodes share";
/// From look to look: the pace of heartbeats.
const PACE: Duration = Duration::from_millis(100);
/// Notes that wait for the next look. A group of 64 sends 25 in that time, unless many clients are at their limits.
const MOST_NOTES: usize = 512;

/// Handle to what limits share, for all threads.
#[derive(Clone)]
pub(crate) struct Shares(Arc<Shared>);

struct Shared {
    /// Made with the first request that a shared limit is for.
    made: OnceLock<Made>,
    /// Keys are made with it: the same on all nodes of a group, and nobody else's.
    secret: [AtomicU64; 2],
    status: Mutex<Option<Arc<SharesStatus>>>,
}

struct Made {
    table: SharedTable,
    /// Of the one who looks.
    nominated: Mutex<Receiver<u64>>,
}

impl Shares {
    /// `secret` is random; it counts until the group's is known.
    pub(crate) fn new(secret: [u8; 16]) -> Self {
        let shared = Shared {
            made: OnceLock::new(),
            secret: halves(secret).map(AtomicU64::new),
            status: Mutex::default(),
        };
        Self(Arc::new(shared))
    }

    /// The secret of the group. Clients that were counted by another one begin anew.
    pub(crate) fn agree(&self, secret: &[u8; 32]) {
        let mut half = [0; 16];
        half.copy_from_slice(&secret[..16]);
        for (here, new) in self.0.secret.iter().zip(halves(half)) {
            here.store(new, Relaxed);
        }
    }

    /// Counts a request of a client against the limit `scope` of one request each `interval` and `burst` ones at once,
    /// on all nodes together.
    ///
    /// # Errors
    /// The request is too much, and does not count; as far as this node knows it would not be after this time.
    pub(crate) fn take(
        &self,
        scope: u64,
        client: &Client<'_>,
        (interval, burst): (Duration, u32),
        now: Instant,
    ) -> Result<Left, Duration> {
        let made = self.0.made.get_or_init(|| {
            let (table, nominated) = SharedTable::new(table::SETS, now);
            Made { table, nominated: Mutex::new(nominated) }
        });
        made.table.take(self.key(scope, client), interval, burst, now)
    }

    /// What is shared now; `None`: nothing is, or there is nobody to share with.
    pub(crate) fn status(&self) -> Option<Arc<SharesStatus>> {
        self.0.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What stands for a client of a limit, on every node of the group alike.
    fn key(&self, scope: u64, client: &Client<'_>) -> u64 {
        let [first, second] = self.0.secret.each_ref().map(|half| half.load(Relaxed));
        let mut hasher = SipHasher24::new_with_keys(first, second);
        hasher.write(&scope.to_le_bytes());
        match client {
            Client::Network(network) => hasher.write(&network.to_le_bytes()),
            Client::Named(name) => {
                hasher.write(&[1]);
                hasher.write(name);
            }
        }
        hasher.finish()
    }
}

/// What other nodes say goes in at the first one, which never blocks, and comes out at the other.
pub(crate) fn mailbox() -> (impl Fn(Note) + Send + Sync + Clone, Receiver<Note>) {
    let (hears, heard): (SyncSender<Note>, _) = sync_channel(MOST_NOTES);
    // What there is no room for is lost, as on the way.
    (move |note| drop(hears.try_send(note)), heard)
}

/// Shares limits with the nodes of the group until it is dropped: `tell` tells them something.
pub(crate) async fn run(shares: Shares, heard: Receiver<Note>, tell: impl Fn(Vec<Vec<u8>>)) {
    let mut ledger = Ledger::new(fastrand::u8(..));
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        let Some(made) = shares.0.made.get() else {
            // Nobody is limited here, so nothing is said; what others say is of no use.
            heard.try_iter().for_each(drop);
            continue;
        };
        let now = Instant::now();
        for note in heard.try_iter().take(MOST_NOTES) {
            let Note { node, incarnation, draining: leaving, bytes } = &note;
            let (incarnation, leaving) = (*incarnation, *leaving);
            ledger.hear(&Heard { node, incarnation, leaving, note: bytes }, &made.table, now);
        }
        let nominated = made.nominated.lock().unwrap_or_else(PoisonError::into_inner);
        tell(ledger.look(nominated.try_iter(), &made.table, LONGEST_NOTE, now));
        let status = Some(Arc::new(ledger.status()));
        *shares.0.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

fn halves(secret: [u8; 16]) -> [u64; 2] {
    let secret = u128::from_le_bytes(secret);
    [secret as u64, (secret >> 64) as u64]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_agree_on_a_secret_have_the_same_key_for_a_client_and_others_have_not() {
        let [here, there] = [[1; 16], [2; 16]].map(Shares::new);
        let client = Client::Network(7);
        assert_ne!(here.key(1, &client), there.key(1, &client));
        for shares in [&here, &there] {
            shares.agree(&[9; 32]);
        }
        assert_eq!(here.key(1, &client), there.key(1, &client));
        let bytes = 7_u64.to_le_bytes();
        let named = Client::Named(bytes[..].into());
        let keys = [here.key(1, &client), here.key(2, &client), here.key(1, &named)];
        assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
    }
}
