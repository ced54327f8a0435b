//! Active checks: asks the endpoints whose rules want it how they are, and notes the answer in their health.
//!
//! One task of the control runtime for the whole process; data threads only read what it notes. An endpoint that
//! nothing is known of counts as well. Names of `ExternalName` Services are not checked.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use gatehouse_routes::{policy::check::Check, stats::EndpointStats};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    snapshot::{Live, Snapshot},
    upstream::health,
};

mod probe;

/// How often it is looked what is due.
const TICK: Duration = Duration::from_millis(100);
/// Within this time after an endpoint appears it is checked first.
const FIRST: Duration = Duration::from_secs(1);
/// Most checks at one time.
const MOST: usize = 64;

/// What is checked, and how it went.
struct Target {
    address: SocketAddr,
    stats: Arc<EndpointStats>,
    check: Arc<Check>,
    due: Instant,
    running: bool,
    streak: Streak,
}

/// The last results of an endpoint's checks. Pure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Streak {
    down: bool,
    /// Results in a row that speak against what it is.
    against: u32,
}

impl Streak {
    /// One more result.
    fn with(self, well: bool, check: &Check) -> Self {
        if well != self.down {
            return Self { against: 0, ..self };
        }
        let against = self.against + 1;
        let enough = if self.down { check.rise } else { check.fall };
        match against >= enough {
            true => Self { down: !self.down, against: 0 },
            false => Self { against, ..self },
        }
    }
}

/// Checks for as long as the process runs. `scale` shortens times for tests.
pub(crate) async fn run(live: Arc<Live>, scale: f64) {
    let mut targets = HashMap::new();
    let (mut generation, mut running) = (0, JoinSet::new());
    let room = Arc::new(Semaphore::new(MOST));
    let mut ticker = tokio::time::interval(TICK.mul_f64(scale).max(Duration::from_millis(5)));
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = ticker.tick() => {
                let snapshot = live.current();
                if snapshot.generation != generation {
                    generation = snapshot.generation;
                    follow(&mut targets, &snapshot, scale);
                }
            }
            Some(Ok((key, well))) = running.join_next(), if !running.is_empty() => {
                ended(&mut targets, key, well, scale);
            }
        }
        let now = Instant::now();
        for (key, target) in
            targets.iter_mut().filter(|(_, target)| !target.running && target.due <= now)
        {
            target.running = true;
            let (key, address, check) = (*key, target.address, Arc::clone(&target.check));
            let room = Arc::clone(&room);
            running.spawn(async move {
                let _permit = room.acquire_owned().await;
                let time = check.timeout.mul_f64(scale);
                let well = tokio::time::timeout(time, probe::probe(address, &check.kind)).await;
                (key, matches!(well, Ok(Ok(()))))
            });
        }
    }
}

/// A check of an endpoint, named by the endpoint's handle, which [`Target`] keeps.
type Key = usize;

/// Takes up the endpoints of a new configuration. What it does not have any more is forgotten, and its
/// health is a matter of requests again.
fn follow(targets: &mut HashMap<Key, Target>, snapshot: &Snapshot, scale: f64) {
    let mut wanted = wanted(snapshot);
    targets.retain(|key, target| match wanted.remove(key) {
        Some((_, _, check)) => {
            target.check = check;
            true
        }
        None => {
            if target.streak.down {
                health::checked(&target.stats, true);
            }
            false
        }
    });
    for (key, (address, stats, check)) in wanted {
        let first = FIRST.min(check.interval).mul_f64(scale * fastrand::f64());
        let (due, running, streak) = (Instant::now() + first, false, Streak::default());
        targets.insert(key, Target { address, stats, check, due, running, streak });
    }
}

type Wanted = (SocketAddr, Arc<EndpointStats>, Arc<Check>);

/// The endpoints of all rules that want checks. Of several rules for one endpoint any one's check counts.
fn wanted(snapshot: &Snapshot) -> HashMap<Key, Wanted> {
    let mut all = HashMap::new();
    let tables = snapshot.gateways.iter().flatten().map(|gateway| &gateway.routes);
    let rules = tables.flat_map(|table| table.hosts()).flat_map(|(_, host)| host.rules());
    for forward in rules.filter_map(|rule| rule.forward()) {
        let Some(check) = &forward.spec.policy.check else { continue };
        for weighted in &forward.spec.backends {
            let Some(backend) = snapshot.backends.get(weighted.slot) else { continue };
            for endpoint in backend.endpoints.all() {
                let entry = all.entry(Arc::as_ptr(&endpoint.stats).addr());
                entry.or_insert_with(|| {
                    (endpoint.address, Arc::clone(&endpoint.stats), Arc::clone(check))
                });
            }
        }
    }
    all
}

fn ended(targets: &mut HashMap<Key, Target>, key: Key, well: bool, scale: f64) {
    let Some(target) = targets.get_mut(&key) else { return };
    target.running = false;
    target.due = Instant::now() + target.check.interval.mul_f64(scale);
    let before = target.streak;
    target.streak = before.with(well, &target.check);
    let address = target.address;
    match (before.down, target.streak.down) {
        (false, true) => {
            tracing::warn!(%address, "the endpoint is ejected: its checks fail");
            health::checked(&target.stats, false);
        }
        (true, false) => {
            tracing::info!(%address, "the endpoint's checks succeed again");
            health::checked(&target.stats, true);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use gatehouse_routes::policy::check::CheckKind;

    use super::*;

    #[test]
    fn only_results_in_a_row_turn_an_endpoint() {
        let check = Check {
            kind: CheckKind::Tcp,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            fall: 3,
            rise: 2,
        };
        let mut streak = Streak::default();
        for (result, down) in [
            (false, false),
            (false, false),
            (true, false),
            (false, false),
            (false, false),
            (false, true),
            (true, true),
            (false, true),
            (true, true),
            (true, false),
            (false, false),
        ] {
            streak = streak.with(result, &check);
            assert_eq!(streak.down, down);
        }
    }
}
