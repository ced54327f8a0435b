//! The fence: it stops the kernel from answering for the addresses of a process that hangs or was killed.
//!
//! When a process hangs, its addresses stay on the interface, and the kernel goes on answering ARP and
//! neighbour solicitations for them, even if another node holds them by then. The lifetimes of the
//! addresses end that only after whole seconds. So rules of nf_tables drop the requests for held
//! addresses unless a timeout, the key, was renewed lately. The key runs out as soon as the other nodes
//! may take this node for dead; then no request is answered any more, for one address or for thousands,
//! and no code has to run for that.
//!
//! The process turns the key by a frame that it sends to itself on the loopback interface: a rule
//! recognises the frame and renews the timeout of an element. Changing a rule instead would work too, but
//! ten changes a second, each a new generation of all rules of the host, would keep other programs from
//! ever listing a large ruleset. The rule also marks the frame, and the process receives it. Marked: the
//! key has been turned. Unmarked: the fence is gone. Not received: something on the way drops it.
//!
//! The fence drops only requests for the Ethernet address. It lets packets to the address pass: a client
//! that does not know the new owner yet learns soonest from a reset that its connection is gone. It also
//! lets the announcements of other nodes pass, so that a process that runs again finds them in its
//! sockets.
//!
//! A fence whose process is gone opens by itself after [`ARMED`], when the kernel has taken the addresses
//! off; it does not concern another program on this host that has them afterwards.
//!
//! Pure: [`FenceRules`] says what has to change in the kernel, [`Keeper`] when. `kernel::nftables` does it
//! for the speaker of a group; a node without a group needs no fence, as no other node can have its
//! addresses.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::nftables::{
    Batch, Dynamic, ETHERTYPE, Element, Expression, IPV4, IPV6, Kind, Register, Set, Value,
};

/// From turning the key until the kernel falls silent. Less than the time after which other nodes take
/// this one for dead (320 ms after its last heartbeat, before which the key is turned) by more than a
/// tick of any kernel's clock (10 ms); more than two heartbeats, so that one that is late does no harm.
pub(crate) const KEY_LIFE: Duration = Duration::from_millis(300);
/// From turning the key until the fence has no effect any more: longer than the kernel keeps an address
/// that is not renewed.
pub(crate) const ARMED: Duration = Duration::from_secs(20);
/// From turn to turn. One that can be made along with a heartbeat is made up to half of this before.
const TURN_EVERY: Duration = Duration::from_millis(100);
/// Turns of which nothing is heard until the fence is given up: it would be closed.
const UNHEARD: u32 = 3;
/// Until a fence that could not be built is tried again.
const REBUILD_AFTER: Duration = Duration::from_secs(5);
/// A fence that is gone so soon after it was built is not built again at once.
const REBUILD_INTERVAL: Duration = Duration::from_secs(1);

/// Ethertype of the frame: local experiments (IEEE Std 802, 9.2.3). It never leaves the host.
pub(crate) const ETHERTYPE_OF_KEY: u16 = 0x88b5;
/// What tells this process' frames from those of others.
pub(crate) type Key = [u8; 8];
/// Where the rule marks the frame, behind the key.
const MARK_AT: usize = size_of::<Key>();
const MARK: [u8; 1] = [1];
/// Of an Ethernet header.
const HEADER: usize = 14;
/// Least length of a frame without its check sum.
const FRAME: usize = 60;

/// What was heard of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    /// The key has been turned.
    Turned,
    /// No rule has seen the frame.
    Untouched,
}

/// The frame that turns the key.
pub(crate) fn turn(key: Key) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    frame[12..HEADER].copy_from_slice(&ETHERTYPE_OF_KEY.to_be_bytes());
    frame[HEADER..HEADER + MARK_AT].copy_from_slice(&key);
    frame
}

/// What a frame that came in on the loopback interface says; `None`: it is not this process'.
pub(crate) fn echo(key: Key, frame: &[u8]) -> Option<Echo> {
    let (theirs, rest) = frame.get(HEADER..)?.split_at_checked(MARK_AT)?;
    let marked = rest.first() == Some(&MARK[0]);
    (theirs == key).then_some(if marked { Echo::Turned } else { Echo::Untouched })
}

/// What the fence is to be around.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fenced {
    /// Name of the loopback interface.
    pub(crate) loopback: String,
    /// Index and name of each interface that has addresses, or could.
    pub(crate) devices: BTreeSet<(u32, String)>,
    /// The addresses on them.
    pub(crate) held: BTreeSet<IpAddr>,
}

/// The rules that stand in the kernel, in one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FenceRules {
    /// `None`: no table.
    standing: Option<Fenced>,
}

impl FenceRules {
    /// What has to happen so that the fence is as `wanted`, and the rules after that; nothing if it is.
    /// Devices that are no longer wanted keep their rules, which do no harm there.
    pub(crate) fn change(&self, table: &str, key: Key, wanted: &Fenced) -> Option<(Batch, Self)> {
        let mut batch = Batch::new(table);
        let mut next = wanted.clone();
        match &self.standing {
            Some(standing) => {
                next.loopback.clone_from(&standing.loopback);
                next.devices.extend(standing.devices.iter().cloned());
                if next == *standing {
                    return None;
                }
                add_devices(&mut batch, next.devices.difference(&standing.devices));
                let gone = families(standing.held.difference(&next.held));
                gone.iter().for_each(|(set, elements)| batch.delete_elements(set, elements));
                let new = families(next.held.difference(&standing.held));
                new.iter().for_each(|(set, elements)| batch.add_elements(set, elements));
            }
            None => {
                batch.replace_table();
                create_sets(&mut batch);
                create_chains(&mut batch, key, &next.loopback);
                add_devices(&mut batch, next.devices.iter());
                let new = families(next.held.iter());
                new.iter().for_each(|(set, elements)| batch.add_elements(set, elements));
            }
        }
        Some((batch, Self { standing: Some(next) }))
    }

    /// Removes the table, if there is one.
    pub(crate) fn removal(&self, table: &str) -> Option<Batch> {
        self.standing.as_ref()?;
        let mut batch = Batch::new(table);
        batch.delete_table();
        Some(batch)
    }
}

const HELD: [&str; 2] = ["held4", "held6"];
const ALIVE: &str = "alive";
const ARMED_SET: &str = "armed";
const GATE: &str = "gate";

/// EtherTypes of ARP and IPv6, as on the wire.
const ARP: [u8; 2] = [0x08, 0x06];
const IP6: [u8; 2] = [0x86, 0xdd];
/// RFC 826: `ar$op`, request.
const REQUEST: [u8; 2] = [0, 1];
/// RFC 4861 §4.3.
const SOLICITATION: [u8; 1] = [135];
const ICMPV6: [u8; 1] = [libc::IPPROTO_ICMPV6 as u8];

fn families<'a>(held: impl Iterator<Item = &'a IpAddr>) -> Vec<(&'static str, Vec<Element>)> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for ip in held {
        match ip {
            IpAddr::V4(ip) => v4.push((ip.octets().to_vec(), Value::None)),
            IpAddr::V6(ip) => v6.push((ip.octets().to_vec(), Value::None)),
        }
    }
    HELD.into_iter().zip([v4, v6]).filter(|(_, elements)| !elements.is_empty()).collect()
}

fn create_sets(batch: &mut Batch) {
    for (name, key) in HELD.into_iter().zip([IPV4, IPV6]) {
        batch.create_set(&Set {
            name,
            key: &[key],
            data: None,
            kind: Kind::Single,
            described: &[],
        });
    }
    for (name, timeout) in [(ALIVE, KEY_LIFE), (ARMED_SET, ARMED)] {
        // Elements that have expired count until they are swept; there are two, one per protocol.
        let dynamic =
            Dynamic { size: 256, timeout: timeout.as_millis() as u64, gc_interval: 10_000 };
        batch.create_set(&Set {
            name,
            key: &[ETHERTYPE],
            data: None,
            kind: Kind::Dynamic(dynamic),
            described: &[],
        });
    }
}

fn create_chains(batch: &mut Batch, key: Key, loopback: &str) {
    batch.create_chain(GATE);
    batch.append_rule(GATE, &[protocol(), lookup(ALIVE), Expression::Accept]);
    // From a sender with a held address: a rival's announcement. No kernel answers its own address.
    let [is, arp] = is_protocol(&ARP);
    batch.append_rule(GATE, &[is, arp, network(14, 4), lookup(HELD[0]), Expression::Accept]);
    batch.append_rule(GATE, &[protocol(), lookup(ARMED_SET), Expression::Drop]);
    let ingress = format!("key-{loopback}");
    batch.create_ingress_chain(&ingress, loopback);
    // The key alone is enough, and nft 1.0 could not list a rule that looks at the EtherType, which it
    // does not know, and then writes.
    let mut rule = vec![network(0, MARK_AT as u32), equal(&key)];
    for protocol in [&ARP, &IP6] {
        rule.push(Expression::Immediate { value: protocol, to: REGISTER });
        for set in [ALIVE, ARMED_SET] {
            rule.push(Expression::Update { set, key: REGISTER, timeout: None });
        }
    }
    rule.push(Expression::Immediate { value: &MARK, to: REGISTER });
    rule.push(Expression::Store {
        base: libc::NFT_PAYLOAD_NETWORK_HEADER,
        offset: MARK_AT as u32,
        len: 1,
        from: REGISTER,
    });
    batch.append_rule(&ingress, &rule);
}

/// Requests for held addresses go through the gate.
fn add_devices<'a>(batch: &mut Batch, devices: impl Iterator<Item = &'a (u32, String)>) {
    for (index, name) in devices {
        let ingress = format!("in-{index}-{name}");
        batch.create_ingress_chain(&ingress, name);
        let [is, arp] = is_protocol(&ARP);
        let gate = Expression::Goto { chain: GATE };
        let request = [is, arp, network(6, 2), equal(&REQUEST)];
        let of_held = [network(24, 4), lookup(HELD[0]), gate.clone()];
        batch.append_rule(&ingress, &[&request[..], &of_held].concat());
        let [is, ip6] = is_protocol(&IP6);
        let next_header = Expression::Meta { key: libc::NFT_META_L4PROTO, to: REGISTER };
        let solicitation =
            [is, ip6, next_header, equal(&ICMPV6), transport(0, 1), equal(&SOLICITATION)];
        let of_held = [transport(8, 16), lookup(HELD[1]), gate];
        batch.append_rule(&ingress, &[&solicitation[..], &of_held].concat());
    }
}

/// The one register that is used.
const REGISTER: Register = 1;

fn protocol() -> Expression<'static> {
    Expression::Meta { key: libc::NFT_META_PROTOCOL, to: REGISTER }
}

fn is_protocol(value: &[u8; 2]) -> [Expression<'_>; 2] {
    [protocol(), equal(value)]
}

fn equal(value: &[u8]) -> Expression<'_> {
    Expression::Equal { register: REGISTER, value }
}

fn lookup(set: &str) -> Expression<'_> {
    Expression::Lookup { set, key: REGISTER, to: None }
}

fn network(offset: u32, len: u32) -> Expression<'static> {
    Expression::Payload { base: libc::NFT_PAYLOAD_NETWORK_HEADER, offset, len, to: REGISTER }
}

fn transport(offset: u32, len: u32) -> Expression<'static> {
    Expression::Payload { base: libc::NFT_PAYLOAD_TRANSPORT_HEADER, offset, len, to: REGISTER }
}

/// When the fence is built and its key turned.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keeper {
    state: State,
    /// The last turn.
    turned: Option<Instant>,
    /// Turns since the last that was heard of.
    unheard: u32,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Not there, to be built.
    #[default]
    Missing,
    Standing {
        since: Instant,
    },
    /// Not there; nothing is tried before.
    Fallen {
        retry_at: Instant,
    },
}

/// What is amiss with a fence that stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amiss {
    /// Another program has removed it; it is to be built anew.
    Removed,
    /// The key does not turn: it has to go, or it would close.
    Stuck,
}

impl Keeper {
    /// Whether addresses may rely on it.
    pub(crate) fn stands(&self) -> bool {
        matches!(self.state, State::Standing { .. })
    }

    /// Whether it is time to build it.
    pub(crate) fn build_due(&self, now: Instant) -> bool {
        match self.state {
            State::Missing => true,
            State::Standing { .. } => false,
            State::Fallen { retry_at } => retry_at <= now,
        }
    }

    /// It has been built. It has no effect before the first turn.
    pub(crate) fn built(&mut self, now: Instant) {
        (self.state, self.unheard) = (State::Standing { since: now }, 0);
    }

    /// It could not be built or changed, or its key cannot be turned.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.state = State::Fallen { retry_at: now + REBUILD_AFTER };
    }

    /// Takes note of what was heard of the last turns; whether something is amiss.
    pub(crate) fn heard(&mut self, echoes: &[Echo], now: Instant) -> Option<Amiss> {
        let State::Standing { since } = self.state else { return None };
        // The last one counts: before it, the fence may not have been there yet.
        match echoes.last() {
            Some(Echo::Turned) => self.unheard = 0,
            // Of a turn before it was built.
            Some(Echo::Untouched) if self.unheard == 0 => {}
            Some(Echo::Untouched) => {
                let soon = now < since + REBUILD_INTERVAL;
                let retry_at = since + REBUILD_INTERVAL;
                self.state = if soon { State::Fallen { retry_at } } else { State::Missing };
                return Some(Amiss::Removed);
            }
            None if self.unheard >= UNHEARD => {
                self.failed(now);
                return Some(Amiss::Stuck);
            }
            None => {}
        }
        None
    }

    /// Whether the key is to be turned now. `along`: a heartbeat is about to be sent. `settled`: whatever
    /// others had to say has been heard and followed. Once the kernel has fallen silent, another node may
    /// have the addresses, so it must not answer again before that.
    pub(crate) fn turn_due(&self, along: bool, settled: bool, now: Instant) -> bool {
        let Some(turned) = self.turned else { return true };
        let early = if along { TURN_EVERY / 2 } else { Duration::ZERO };
        let closed = now >= turned + KEY_LIFE;
        now + early >= turned + TURN_EVERY && (settled || !closed)
    }

    /// The frame has been sent.
    pub(crate) fn turned(&mut self, now: Instant) {
        self.turned = Some(now);
        self.unheard += 1;
    }

    /// When there is something to do.
    pub(crate) fn deadline(&self, now: Instant) -> Instant {
        let turn = self.turned.map_or(now, |turned| turned + TURN_EVERY);
        match self.state {
            State::Missing => now,
            State::Standing { .. } => turn,
            State::Fallen { retry_at } => retry_at.min(turn),
        }
    }
}

#[cfg(test)]
mod tests;
