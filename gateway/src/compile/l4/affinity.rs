//! `sessionAffinity: ClientIP`: who has which endpoint, and for how long.
//!
//! A hash of its address leads a client to its endpoint, on every worker and every node, without a word between them.
//! Endpoints that come or go lead some clients elsewhere; a client that was there within the Service's
//! `timeoutSeconds` keeps the endpoint that it had. That is what is remembered here. Time is an argument.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use foldhash::fast::RandomState;
use gatehouse_routes::{model::Transport, objects::ObjectKey};
use k8s_openapi::api::core::v1::ServiceSpec;

use super::{Forwarding, L4Plan};

/// What Kubernetes has where a Service does not say it (core/v1 ClientIPConfig.timeoutSeconds).
const DEFAULT: Duration = Duration::from_secs(10_800);
/// The longest that Kubernetes takes.
const LONGEST: Duration = Duration::from_secs(86_400);
/// Clients are dealt out among so many tables, so that workers do not wait for each other.
const TABLES: usize = 16;
/// Clients that a table remembers at most, so that a flood of them is bounded; others have the endpoint of their hash.
const CLIENTS: usize = 4096;
/// Between two looks for room in a table that is full, in milliseconds.
const AGAIN: u64 = 1000;

/// That clients keep their endpoints, and which ones.
#[derive(Clone, Debug)]
pub struct ClientAffinity {
    /// For how long after the last connection.
    pub time: Duration,
    /// Who has which; of one port of a Service, carried from compile to compile.
    pub pins: Arc<Pins>,
}

/// Who has which endpoint says nothing of what is configured.
impl PartialEq for ClientAffinity {
    fn eq(&self, other: &Self) -> bool {
        self.time == other.time
    }
}

impl ClientAffinity {
    /// What a Service asks for, with what is remembered of it.
    pub(super) fn of(spec: Option<&ServiceSpec>, known: Option<&Arc<Pins>>) -> Option<Self> {
        let spec = spec.filter(|spec| spec.session_affinity.as_deref() == Some("ClientIP"))?;
        let config = spec.session_affinity_config.as_ref().and_then(|it| it.client_ip.as_ref());
        let seconds = config.and_then(|config| config.timeout_seconds);
        let time = seconds.and_then(|seconds| u64::try_from(seconds).ok()).filter(|time| *time > 0);
        let time = time.map_or(DEFAULT, Duration::from_secs).min(LONGEST);
        Some(Self { time, pins: known.map(Arc::clone).unwrap_or_default() })
    }
}

/// A port of a Service, whatever its addresses are.
pub type ServicePort = (ObjectKey, Transport, u16);

/// A client, its endpoint, and for how many milliseconds it keeps that.
pub type Kept = (IpAddr, SocketAddr, u64);

/// Who has which endpoint, by port.
#[derive(Clone, Debug, Default)]
pub struct Affinities(BTreeMap<ServicePort, Arc<Pins>>);

impl Affinities {
    /// Adds those of the ports that this process passes on.
    pub fn add(&mut self, plan: &L4Plan) {
        let ours = plan.iter().filter(|(_, port)| port.forwarding == Forwarding::Gateway);
        let pinned = ours.filter_map(|(at, port)| {
            let pins = Arc::clone(&port.by_client.as_ref()?.pins);
            Some(((port.service.clone(), at.transport, at.address.port()), pins))
        });
        self.0.extend(pinned);
    }

    /// What is remembered, port by port.
    pub fn kept(&self, now: u64) -> BTreeMap<ServicePort, Vec<Kept>> {
        let kept = self.0.iter().map(|(port, pins)| (port.clone(), pins.kept(now)));
        kept.filter(|(_, kept)| !kept.is_empty()).collect()
    }

    /// Remembers what another process has remembered of a port. What is known here for longer stays.
    pub fn take_over(&mut self, port: ServicePort, kept: &[Kept], now: u64) {
        self.0.entry(port).or_default().take_over(kept, now);
    }

    /// What is remembered of a port.
    pub(super) fn get(&self, port: &ServicePort) -> Option<&Arc<Pins>> {
        self.0.get(port)
    }
}

/// Which endpoint each client has. Shared by all workers.
#[derive(Debug, Default)]
pub struct Pins([Mutex<Table>; TABLES]);

#[derive(Debug, Default)]
struct Table {
    pins: HashMap<IpAddr, Pin, RandomState>,
    /// Until then it is full.
    full: u64,
}

impl Table {
    /// Remembers a client, if there is room.
    fn put(&mut self, client: IpAddr, pin: Pin, now: u64) {
        if let Some(known) = self.pins.get_mut(&client) {
            *known = pin;
            return;
        }
        if self.pins.len() >= CLIENTS {
            if now < self.full {
                return;
            }
            self.pins.retain(|_, pin| now < pin.until);
            if self.pins.len() >= CLIENTS {
                self.full = now.saturating_add(AGAIN);
                return;
            }
        }
        self.pins.insert(client, pin);
    }
}

#[derive(Clone, Copy, Debug)]
struct Pin {
    endpoint: SocketAddr,
    until: u64,
}

impl Pins {
    /// The endpoint of a client. `now`: milliseconds, of one clock.
    pub fn get(&self, client: IpAddr, now: u64) -> Option<SocketAddr> {
        let client = client.to_canonical();
        let table = self.table(client).lock().unwrap_or_else(PoisonError::into_inner);
        table.pins.get(&client).filter(|pin| now < pin.until).map(|pin| pin.endpoint)
    }

    /// It has connected to this one.
    pub fn keep(&self, client: IpAddr, endpoint: SocketAddr, now: u64, time: Duration) {
        let client = client.to_canonical();
        let until = now.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let mut table = self.table(client).lock().unwrap_or_else(PoisonError::into_inner);
        table.put(client, Pin { endpoint, until }, now);
    }

    fn kept(&self, now: u64) -> Vec<Kept> {
        let mut kept = Vec::new();
        for table in &self.0 {
            let table = table.lock().unwrap_or_else(PoisonError::into_inner);
            let known = table.pins.iter().filter(|(_, pin)| now < pin.until);
            kept.extend(known.map(|(client, pin)| (*client, pin.endpoint, pin.until - now)));
        }
        kept
    }

    fn take_over(&self, kept: &[Kept], now: u64) {
        for (client, endpoint, left) in kept {
            let until = now.saturating_add(*left);
            let mut table = self.table(*client).lock().unwrap_or_else(PoisonError::into_inner);
            if table.pins.get(client).is_none_or(|known| known.until < until) {
                table.put(*client, Pin { endpoint: *endpoint, until }, now);
            }
        }
    }

    fn table(&self, client: IpAddr) -> &Mutex<Table> {
        let bytes = match client {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            IpAddr::V6(ip) => (ip.to_bits() >> 64 ^ ip.to_bits()) as u64,
        };
        // The multiplier of Fibonacci hashing (Knuth, volume 3, 6.4).
        &self.0[(bytes.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as usize % TABLES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(10);

    fn client(n: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + n).to_be_bytes())
    }

    #[test]
    fn a_client_keeps_its_endpoint_until_it_was_away_for_so_long() {
        let (pins, [a, b]) =
            (Pins::default(), [1, 2].map(|n| SocketAddr::from(([10, 9, 0, n], 80))));
        assert_eq!(pins.get(client(1), 0), None);
        pins.keep(client(1), a, 0, TIME);
        assert_eq!((pins.get(client(1), 9_999), pins.get(client(2), 0)), (Some(a), None));
        assert_eq!(pins.get(client(1), 10_000), None);
        // Each connection counts anew.
        pins.keep(client(1), a, 9_000, TIME);
        assert_eq!(pins.get(client(1), 18_999), Some(a));
        pins.keep(client(1), b, 18_000, TIME);
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(pins.get(mapped, 20_000), Some(b));
    }

    #[test]
    fn a_flood_of_clients_is_forgotten_and_takes_no_more_than_there_is() {
        let (pins, endpoint) = (Pins::default(), SocketAddr::from(([10, 9, 0, 1], 80)));
        let count =
            |pins: &Pins| pins.0.iter().map(|it| it.lock().unwrap().pins.len()).sum::<usize>();
        (0..200_000).for_each(|n| pins.keep(client(n), endpoint, 0, TIME));
        assert_eq!(count(&pins), TABLES * CLIENTS);
        assert_eq!(pins.get(client(0), 1), Some(endpoint), "who was first stays");
        (0..200_000).for_each(|n| pins.keep(client(n + 500_000), endpoint, 10_000, TIME));
        assert_eq!(count(&pins), TABLES * CLIENTS);
        assert_eq!(pins.get(client(500_000), 10_001), Some(endpoint), "there is room again");
    }

    #[test]
    fn a_process_takes_over_who_had_which_endpoint_for_as_long_as_that_was() {
        let port = |number| (ObjectKey::new("a", "db"), Transport::Tcp, number);
        let [a, b] = [1, 2].map(|n| SocketAddr::from(([10, 9, 0, n], 80)));
        let mut before = Affinities::default();
        // Its clock has run for a while.
        before.take_over(port(1), &[(client(1), a, 9_000), (client(2), a, 10)], 1_000_000);
        before.take_over(port(2), &[(client(1), b, 9_000)], 1_000_000);
        let handed = before.kept(1_001_000);
        assert_eq!(handed[&port(1)], [(client(1), a, 8_000)], "one was away for too long");
        let mut after = Affinities::default();
        // One of them has come to the successor already, another one to the predecessor again.
        after.take_over(port(1), &[(client(1), b, 10_000), (client(3), b, 5)], 0);
        after.take_over(port(1), &[(client(3), a, 20)], 0);
        for (port, kept) in handed {
            after.take_over(port, &kept, 100);
        }
        let get = |number, n, now| after.get(&port(number)).unwrap().get(client(n), now);
        assert_eq!((get(1, 1, 9_999), get(2, 1, 8_099)), (Some(b), Some(b)));
        assert_eq!((get(2, 1, 8_100), get(1, 3, 19), get(1, 2, 100)), (None, Some(a), None));
    }

    #[test]
    fn a_service_says_how_long() {
        let spec = |affinity: &str, config: serde_json::Value| -> ServiceSpec {
            let spec =
                serde_json::json!({"sessionAffinity": affinity, "sessionAffinityConfig": config});
            serde_json::from_value(spec).unwrap()
        };
        let time =
            |spec: &ServiceSpec| ClientAffinity::of(Some(spec), None).map(|it| it.time.as_secs());
        let config = |seconds: i32| serde_json::json!({"clientIP": {"timeoutSeconds": seconds}});
        assert_eq!(time(&spec("ClientIP", serde_json::json!({}))), Some(10_800));
        assert_eq!(time(&spec("ClientIP", config(60))), Some(60));
        assert_eq!(time(&spec("ClientIP", config(1_000_000))), Some(86_400));
        assert_eq!(time(&spec("ClientIP", config(-1))), Some(10_800));
        assert_eq!(time(&spec("None", config(60))), None);
    }
}
