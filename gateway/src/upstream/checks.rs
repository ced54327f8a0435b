//! Active checks: asks the endpoints whose rules want it how they are, and notes the answer in their health.
//!
//! One task of the control runtime for the whole process; data threads only read what it notes. An endpoint that
//! nothing is known of counts as well. Endpoints that speak TLS are checked in TLS, by what requests trust. Names of `ExternalName` Services are not checked.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use gatehouse_proxy_protocol::own_header;
use gatehouse_routes::{
    action::Forward,
    model::{BackendSlot, Endpoint, Transport},
    policy::{
        check::{Check, CheckKind},
        proxy_protocol::ProxyProtocol,
    },
    stats::EndpointStats,
    transport::{Alpn, Speaks},
};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    snapshot::{GatewaySnapshot, Live, Snapshot},
    tls::backends::BackendTlsTable,
    upstream::health::{self, Health},
};

mod probe;

/// How often it is looked what is due.
const TICK: Duration = Duration::from_millis(100);
/// Within this time after an endpoint appears it is checked first.
const FIRST: Duration = Duration::from_secs(1);
/// A check that ends so long after its time ends late by this process' doing.
const LATE: Duration = Duration::from_millis(250);
/// Most checks at one time.
const MOST: usize = 64;

/// What is checked, and how it went.
struct Target {
    of: Checked,
    due: Instant,
    running: bool,
    streak: Streak,
}

/// An endpoint, and how it is checked.
struct Checked {
    address: SocketAddr,
    stats: Arc<EndpointStats>,
    check: Arc<Check>,
    to: To,
    /// Those of the same Service and address that take datagrams: they are as this one is.
    datagrams: Vec<Arc<EndpointStats>>,
}

impl Checked {
    /// Notes the result in the health of all.
    fn note(&self, well: bool) {
        health::checked(&self.stats, well);
        self.datagrams.iter().for_each(|stats| health::checked(stats, well));
    }
}

/// How an endpoint is spoken to.
#[derive(Clone)]
struct To {
    speaks: Speaks,
    slot: BackendSlot,
    tls: BackendTlsTable,
    /// What it hears before anything else, if its connections begin with a PROXY header.
    header: Option<ProxyProtocol>,
}

impl To {
    /// Whether the endpoint is well. The caller bounds the time.
    async fn probe(&self, address: SocketAddr, kind: &CheckKind) -> io::Result<()> {
        let Speaks::Tls(_) = self.speaks else {
            let header = self.header.map(own_header).unwrap_or_default();
            return probe::probe(address, &header, kind, None).await;
        };
        let ways = self.tls.get(self.slot).map_err(io::Error::other)?;
        let way = match kind {
            CheckKind::Tcp | CheckKind::Http { .. } => ways.of(Alpn::Http1, false, false),
            CheckKind::Grpc { .. } => ways.of(Alpn::Http2, true, false),
        };
        probe::probe(address, &[], kind, Some(way)).await
    }
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
            let Checked { address, check, to, .. } = &target.of;
            let (key, address, check, to) = (*key, *address, Arc::clone(check), to.clone());
            let room = Arc::clone(&room);
            running.spawn(async move {
                let _permit = room.acquire_owned().await;
                let (time, began) = (check.timeout.mul_f64(scale), Instant::now());
                let result = tokio::time::timeout(time, to.probe(address, &check.kind)).await;
                (key, judged(result.ok(), began.elapsed().saturating_sub(time)))
            });
        }
    }
}

/// Whether an endpoint is well by a check that came to this result, `late` after its time; `None`: that says nothing.
fn judged(result: Option<io::Result<()>>, late: Duration) -> Option<bool> {
    match result {
        Some(result) => Some(result.is_ok()),
        // This process got no time of the processor: the answer may have come meanwhile.
        None if late > LATE => None,
        None => Some(false),
    }
}

/// A check of an endpoint, named by the endpoint's handle, which [`Target`] keeps.
type Key = usize;

/// Takes up the endpoints of a new configuration. What it does not have any more is forgotten, and its
/// health is a matter of requests again.
fn follow(targets: &mut HashMap<Key, Target>, snapshot: &Snapshot, scale: f64) {
    let mut wanted = wanted(snapshot);
    targets.retain(|key, target| match wanted.remove(key) {
        Some(checked) => {
            target.of = checked;
            if target.streak.down {
                // One that takes datagrams may have come.
                let unknown = |stats: &&Arc<EndpointStats>| health::of(stats) != Health::Down;
                let new = target.of.datagrams.iter().filter(unknown);
                new.for_each(|stats| health::checked(stats, false));
            }
            true
        }
        None => {
            if target.streak.down {
                target.of.note(true);
            }
            false
        }
    });
    for (key, of) in wanted {
        let first = FIRST.min(of.check.interval).mul_f64(scale * fastrand::f64());
        let (due, running, streak) = (Instant::now() + first, false, Streak::default());
        targets.insert(key, Target { of, due, running, streak });
    }
}

/// The endpoints of all that wants checks: rules, names whose TLS is passed through, Services. Of several for one endpoint
/// any one's check counts.
fn wanted(snapshot: &Snapshot) -> HashMap<Key, Checked> {
    let mut all = HashMap::new();
    let gateways = snapshot.gateways.iter().flatten();
    let rules = gateways.clone().flat_map(|gateway| gateway.routes.watched_rules());
    let rules = rules.filter_map(|rule| rule.forward());
    let passed = gateways.flat_map(GatewaySnapshot::all_passed_through);
    let ports = |of| snapshot.l4.iter().filter(move |(at, _)| at.transport == of);
    let tcp = ports(Transport::Tcp).flat_map(|(_, port)| port.forwards());
    // Requests come over connections of this process, which begin with no header.
    let rules = rules.map(|forward| (forward, None));
    let as_they_are =
        passed.chain(tcp).map(|forward| (forward, forward.spec.policy.proxy_protocol));
    for (forward, header) in rules.chain(as_they_are) {
        for (check, slot, endpoint) in endpoints(snapshot, forward) {
            let entry = all.entry(Arc::as_ptr(&endpoint.stats).addr());
            entry.or_insert_with(|| {
                let tls = snapshot.backend_tls.clone();
                Checked {
                    address: endpoint.address,
                    stats: Arc::clone(&endpoint.stats),
                    check: Arc::clone(check),
                    to: To { speaks: endpoint.speaks, slot, tls, header },
                    datagrams: Vec::new(),
                }
            });
        }
    }
    // The first TCP port of a Service speaks for the UDP ports of the same endpoint.
    let mut speaks_for = HashMap::new();
    for (_, port) in ports(Transport::Tcp) {
        for (.., endpoint) in endpoints(snapshot, &port.forward) {
            let key = Arc::as_ptr(&endpoint.stats).addr();
            speaks_for.entry((&port.service, endpoint.address.ip())).or_insert(key);
        }
    }
    let udp: HashMap<_, _> = ports(Transport::Udp)
        .map(|(at, port)| ((&port.service, at.address.port()), port))
        .collect();
    for port in udp.values() {
        for (.., endpoint) in endpoints(snapshot, &port.forward) {
            let key = speaks_for.get(&(&port.service, endpoint.address.ip()));
            if let Some(checked) = key.and_then(|key| all.get_mut(key)) {
                checked.datagrams.push(Arc::clone(&endpoint.stats));
            }
        }
    }
    all
}

/// The endpoints of all backends, if they are to be checked.
fn endpoints<'s>(
    snapshot: &'s Snapshot,
    forward: &'s Forward,
) -> impl Iterator<Item = (&'s Arc<Check>, BackendSlot, &'s Endpoint)> {
    let all = forward.spec.policy.check.iter();
    let all = all.flat_map(|check| forward.spec.backends.iter().map(move |one| (check, one.slot)));
    all.flat_map(|(check, slot)| {
        let backend = snapshot.backends.get(slot).into_iter();
        backend.flat_map(move |backend| backend.endpoints.all().map(move |one| (check, slot, one)))
    })
}

fn ended(targets: &mut HashMap<Key, Target>, key: Key, well: Option<bool>, scale: f64) {
    let Some(target) = targets.get_mut(&key) else { return };
    target.running = false;
    target.due = Instant::now() + target.of.check.interval.mul_f64(scale);
    let Some(well) = well else { return };
    let before = target.streak;
    target.streak = before.with(well, &target.of.check);
    let address = target.of.address;
    match (before.down, target.streak.down) {
        (false, true) => {
            tracing::warn!(%address, "the endpoint is ejected: its checks fail");
            target.of.note(false);
        }
        (true, false) => {
            tracing::info!(%address, "the endpoint's checks succeed again");
            target.of.note(true);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_this_process_had_no_time_for_says_nothing() {
        let late = |millis| Duration::from_millis(millis);
        assert_eq!(judged(None, late(3)), Some(false), "a silent endpoint");
        assert_eq!(judged(None, late(400)), None, "nobody was looking");
        assert_eq!(judged(Some(Ok(())), late(400)), Some(true));
        let refused = Err(io::ErrorKind::ConnectionRefused.into());
        assert_eq!(judged(Some(refused), late(400)), Some(false));
    }

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
