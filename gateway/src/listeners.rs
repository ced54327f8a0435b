//! The sockets that clients connect to: opened and closed by the controller, accepted from by every worker.
//!
//! Each listener is one `SO_REUSEPORT` socket per worker, so that the kernel spreads connections and no
//! worker waits for another. Sockets are keyed by what they serve and outlive snapshots, and even the process: a
//! successor on this node gets them ([`Listeners::sockets`]), so that no connection in their queues is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use gatehouse_routes::{model::Transport, objects::ObjectRef, problem::Problem};
use socket2::{Domain, Socket, Type};

use crate::{
    compile::{L4Address, ListenerPlan, Protocol},
    config::overlap,
    l4::forward::keep_alive,
    tls::config::TlsConfigs,
    worker::{
        listener::{ListenerFacts, ListenerId, Opened, OpenedUdp},
        thread::{Command, WorkerHandle},
    },
};

/// Connections that the kernel keeps for a worker that is busy.
const BACKLOG: i32 = 4096;
/// Pauses between attempts to open a listener: doubling from the first to the last.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Listening sockets by their place.
pub(crate) type Sockets = BTreeMap<L4Address, Vec<OwnedFd>>;

/// An open listener.
struct Open {
    plan: ListenerPlan,
    id: ListenerId,
    /// The workers', once more.
    sockets: Vec<OwnedFd>,
    /// The workers have it, too.
    _in_use: Arc<()>,
}

/// The open listeners; belongs to the controller.
pub(crate) struct Listeners {
    tls: TlsConfigs,
    open: BTreeMap<L4Address, Open>,
    /// Sockets of a predecessor, for the first configuration.
    inherited: Sockets,
    /// Listeners for datagrams whose sockets a predecessor still reads: who would read them, too, would break the flows
    /// that it has. They are open, and are read when it is over.
    waiting: Vec<(usize, OpenedUdp)>,
    /// Another process of this gateway may listen on the same places: its predecessor or its successor.
    shared: bool,
    /// Where this process listens; once nobody has a socket there any more, which workers close in their time, the
    /// [`Weak`] leads nowhere.
    own: Vec<(L4Address, Weak<()>)>,
    /// Planned listeners that are not open.
    failed: BTreeMap<L4Address, Failed>,
    next_id: u64,
}

/// Why a planned listener is not open, and when that is tried again.
#[derive(Debug)]
pub(crate) struct Failed {
    plan: ListenerPlan,
    why: String,
    hint: &'static str,
    pause: Duration,
    due: Instant,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { why, hint, .. } = self;
        write!(f, "{why}; {hint}")
    }
}

impl Failed {
    fn new(
        plan: &ListenerPlan,
        error: &anyhow::Error,
        before: Option<&Self>,
        now: Instant,
    ) -> Self {
        let pause = before.map_or(AGAIN.0, |before| (before.pause * 2).min(AGAIN.1));
        let code = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        let (plan, why) = (plan.clone(), format!("{error:#}"));
        Self { hint: remedy(code, plan.protocol), plan, why, pause, due: now + pause }
    }

    fn problem(&self, node: &ObjectRef) -> Problem {
        let Self { plan, why, hint, .. } = self;
        let message = format!("cannot listen on {}: {why}", plan.address);
        Problem::error(node, "ListenerClosed", "", message, *hint)
    }
}

/// What helps against the failure of a bind.
fn remedy(code: Option<i32>, protocol: Protocol) -> &'static str {
    match code {
        Some(libc::EADDRINUSE) if matches!(protocol, Protocol::Tcp | Protocol::Udp) => {
            "another process listens there: end it, choose another port, or have the kernel pass it on, which takes no \
             port (gatehouse.io/forwarding: kernel)"
        }
        Some(libc::EACCES | libc::EPERM) => {
            "a port below 1024 needs the capability CAP_NET_BIND_SERVICE: setcap \
             cap_net_bind_service=+ep on the program, AmbientCapabilities= of its unit, \
             securityContext.capabilities.add of its Pod, or sysctl net.ipv4.ip_unprivileged_port_start"
        }
        Some(libc::EADDRINUSE) => "another process listens there: end it, or choose another port",
        Some(libc::EADDRNOTAVAIL) => {
            "no interface has this address: add it, or listen on another one"
        }
        Some(libc::EAFNOSUPPORT) => "this kernel has no IPv6: listen on an IPv4 address",
        Some(libc::EMFILE | libc::ENFILE) => "raise the limit of open files",
        _ => "it is tried again",
    }
}

impl Listeners {
    /// None is open; `inherited` are sockets that are open already. `shared`: a predecessor may open some, too.
    pub(crate) fn new(tls: TlsConfigs, inherited: Sockets, shared: bool) -> Self {
        Self {
            tls,
            open: BTreeMap::new(),
            inherited,
            waiting: Vec::new(),
            shared,
            own: Vec::new(),
            failed: BTreeMap::new(),
            next_id: 1,
        }
    }

    /// The sockets of all listeners, for a successor. What waits in their queues is served as long as one
    /// process has them.
    pub(crate) fn sockets(&mut self) -> io::Result<Sockets> {
        self.shared = true;
        let cloned = |(at, open): (&L4Address, &Open)| {
            let sockets = open.sockets.iter().map(OwnedFd::try_clone);
            Ok((*at, sockets.collect::<io::Result<_>>()?))
        };
        self.open.iter().map(cloned).collect()
    }

    /// Keeps no socket open any more that the workers close.
    pub(crate) fn let_go(&mut self) {
        self.open.values_mut().for_each(|open| open.sockets.clear());
    }

    /// Opens what is planned and not open yet. What cannot be opened is noted in [`Self::failed`] and
    /// tried again by a later call, after a pause that grows.
    pub(crate) fn open(&mut self, plans: &[ListenerPlan], workers: &[WorkerHandle], now: Instant) {
        let mut before = std::mem::take(&mut self.failed);
        for plan in plans {
            if self.is_open(plan) {
                continue;
            }
            let before = match before.remove(&plan.at()) {
                Some(waits) if waits.plan == *plan && now < waits.due => {
                    self.failed.insert(plan.at(), waits);
                    continue;
                }
                before => before.filter(|before| before.plan == *plan),
            };
            match self.open_one(plan, workers) {
                Ok(open) => {
                    tracing::info!(address = %plan.address, protocol = plan.protocol.name(), "listening");
                    // Same address, other service: the new socket is there before the old one goes.
                    if let Some(old) = self.open.insert(plan.at(), open) {
                        self.waiting.retain(|(_, opened)| opened.id != old.id);
                        unlisten(old.id, workers);
                    }
                }
                Err(error) => {
                    let failed = Failed::new(plan, &error, before.as_ref(), now);
                    self.failed.insert(plan.at(), failed);
                }
            }
        }
        // Nobody would accept on the others.
        self.inherited.clear();
    }

    /// Closes what is no longer planned, except on addresses to `keep`: those that have yet to be withdrawn.
    pub(crate) fn close(
        &mut self,
        plans: &[ListenerPlan],
        workers: &[WorkerHandle],
        keep: impl Fn(&SocketAddr) -> bool,
    ) {
        let planned: BTreeSet<_> = plans.iter().map(ListenerPlan::at).collect();
        self.open.retain(|at, open| {
            let stays = planned.contains(at) || keep(&at.address);
            if !stays {
                let protocol = open.plan.protocol.name();
                tracing::info!(address = %at.address, protocol, "no longer listening");
                self.waiting.retain(|(_, opened)| opened.id != open.id);
                unlisten(open.id, workers);
            }
            stays
        });
    }

    /// Whether this listener is open just as planned.
    pub(crate) fn is_open(&self, plan: &ListenerPlan) -> bool {
        self.open.get(&plan.at()).is_some_and(|open| open.plan == *plan)
    }

    /// Planned listeners that could not be opened, and why.
    pub(crate) fn failed(&self) -> &BTreeMap<L4Address, Failed> {
        &self.failed
    }

    /// Reads the sockets that the predecessor has read so far.
    pub(crate) fn predecessor_is_over(&mut self, workers: &[WorkerHandle]) {
        self.shared = false;
        for (worker, opened) in self.waiting.drain(..) {
            workers[worker].send(Command::ListenUdp(Box::new(opened)));
        }
    }

    /// The same as problems of the node.
    pub(crate) fn problems(&self, node: &ObjectRef) -> Vec<Problem> {
        self.failed.values().map(|failed| failed.problem(node)).collect()
    }

    /// Makes it time to try again.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.failed.values_mut().for_each(|failed| (failed.pause, failed.due) = (AGAIN.0, now));
    }

    fn open_one(&mut self, plan: &ListenerPlan, workers: &[WorkerHandle]) -> anyhow::Result<Open> {
        let mut sockets = self.inherited.remove(&plan.at()).unwrap_or_default();
        let inherited = !sockets.is_empty();
        if !inherited && !self.shared && !self.has_beside(plan) {
            free(plan)?;
        }
        // One more socket of UDP would have the kernel give flows to other sockets than before.
        while sockets.len() < workers.len() && !(inherited && plan.protocol == Protocol::Udp) {
            sockets.push(bind(plan)?);
        }
        let kept = sockets.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
        let in_use = Arc::new(());
        let id = ListenerId(self.next_id);
        self.next_id += 1;
        // The process before may have had more workers.
        let sockets = (0..workers.len()).cycle().zip(sockets);
        if plan.protocol == Protocol::Udp {
            for (worker, socket) in sockets {
                let (address, in_use) = (plan.address, Arc::clone(&in_use));
                let opened = OpenedUdp { id, address, socket: socket.into(), in_use };
                match inherited {
                    true => self.waiting.push((worker, opened)),
                    false => workers[worker].send(Command::ListenUdp(Box::new(opened))),
                }
            }
            return Ok(self.opened(plan, id, kept, in_use));
        }
        let facts = Arc::new(self.facts(plan)?);
        for (worker, socket) in sockets {
            let (facts, in_use, socket) = (Arc::clone(&facts), Arc::clone(&in_use), socket.into());
            workers[worker].send(Command::Listen(Box::new(Opened { id, facts, socket, in_use })));
        }
        Ok(self.opened(plan, id, kept, in_use))
    }

    fn opened(
        &mut self,
        plan: &ListenerPlan,
        id: ListenerId,
        sockets: Vec<OwnedFd>,
        in_use: Arc<()>,
    ) -> Open {
        self.own.push((plan.at(), Arc::downgrade(&in_use)));
        Open { plan: plan.clone(), id, sockets, _in_use: in_use }
    }

    /// Whether a listener of this process would be in the way of another one without `SO_REUSEPORT`.
    fn has_beside(&mut self, plan: &ListenerPlan) -> bool {
        let plan = plan.at();
        self.own.retain(|(_, in_use)| in_use.strong_count() > 0);
        let mut own = self.own.iter().map(|(at, _)| at);
        own.any(|at| at.transport == plan.transport && overlap(at.address, plan.address))
    }

    /// What connections of a listener have to know of it.
    fn facts(&mut self, plan: &ListenerPlan) -> anyhow::Result<ListenerFacts> {
        let tls = match plan.protocol {
            Protocol::Http | Protocol::Tcp | Protocol::Tls | Protocol::Udp => None,
            Protocol::Https => Some(self.tls.policies(plan.slot, &plan.scope)),
        };
        let port_tls = match plan.protocol {
            Protocol::Tls => Some(self.tls.port(plan.address)?),
            Protocol::Http | Protocol::Https | Protocol::Tcp | Protocol::Udp => None,
        };
        Ok(ListenerFacts {
            address: plan.address,
            slot: plan.slot,
            tls,
            passes_on: matches!(plan.protocol, Protocol::Tcp | Protocol::Tls),
            port_tls,
        })
    }
}

fn unlisten(id: ListenerId, workers: &[WorkerHandle]) {
    for worker in workers {
        worker.send(Command::Unlisten(id));
    }
}

/// Fails if another process has the place. `SO_REUSEPORT` would let this one in beside any other of the same user
/// that asks for it, too, and each would get a part of the connections.
fn free(plan: &ListenerPlan) -> io::Result<()> {
    let socket = unbound(plan)?;
    // Connections of a process that has ended are not in the way. With UDP it would let anybody in.
    socket.set_reuse_address(plan.protocol.transport() == Transport::Tcp)?;
    socket.bind(&plan.address.into())
}

/// Opens a socket of a listener. A virtual address is bound before it is on any interface, so that nothing is
/// announced that does not answer.
fn bind(plan: &ListenerPlan) -> io::Result<OwnedFd> {
    let (address, transport) = (plan.address, plan.protocol.transport());
    let socket = unbound(plan)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    if transport == Transport::Udp {
        socket.bind(&address.into())?;
        return Ok(socket.into());
    }
    // Accepted sockets inherit both, which saves calls for each. Heads and last frames are written whole; waiting
    // for more would only add latency.
    socket.set_tcp_nodelay(true)?;
    keep_alive(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A socket of the address family and the transport of a listener.
fn unbound(plan: &ListenerPlan) -> io::Result<Socket> {
    let address = plan.address;
    let kind = match plan.protocol.transport() {
        Transport::Tcp => Type::STREAM,
        Transport::Udp => Type::DGRAM,
    };
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if plan.vip {
        if address.is_ipv6() {
            socket.set_freebind_v6(true)?;
        } else {
            socket.set_freebind_v4(true)?;
        }
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use gatehouse_routes::{
        model::{Scope, ScopeSlot},
        objects::ObjectKey,
    };

    use super::*;
    use crate::snapshot::Live;

    #[test]
    fn a_port_of_another_process_is_not_shared_unless_it_is_one_of_this_gateway() {
        for protocol in [Protocol::Http, Protocol::Udp] {
            let plan = |address| {
                let (scope, slot) = (Scope::Plain, ScopeSlot::PLAIN);
                ListenerPlan { address, scope, slot, protocol, vip: false }
            };
            // A program that shares the port with any other.
            let theirs = bind(&plan("127.0.0.1:0".parse().unwrap())).unwrap();
            let at = Socket::from(theirs.try_clone().unwrap()).local_addr().unwrap();
            let taken = plan(at.as_socket().unwrap());
            assert!(bind(&taken).is_ok(), "which is why it is tried first");
            let code = free(&taken).unwrap_err().raw_os_error();
            assert_eq!(code, Some(libc::EADDRINUSE), "{protocol:?}");
            drop(theirs);
            assert!(free(&taken).is_ok());
        }
    }

    #[test]
    fn a_port_that_was_one_of_this_gateway_is_not_shared_with_who_has_it_since() {
        for protocol in [Protocol::Http, Protocol::Udp] {
            let plan = |address| {
                let (scope, slot) = (Scope::Plain, ScopeSlot::PLAIN);
                ListenerPlan { address, scope, slot, protocol, vip: false }
            };
            let first = Socket::from(bind(&plan("127.0.0.1:0".parse().unwrap())).unwrap());
            let plan = plan(first.local_addr().unwrap().as_socket().unwrap());
            drop(first);
            let live = Arc::new(Live::default());
            let mut listeners = Listeners::new(TlsConfigs::of_tests(live), Sockets::new(), false);
            let open = |listeners: &mut Listeners| {
                listeners.hurry(Instant::now());
                listeners.open(std::slice::from_ref(&plan), &[], Instant::now());
                listeners.is_open(&plan)
            };
            assert!(open(&mut listeners), "{:?}", listeners.failed());
            // A worker may have its socket a little longer.
            let closing = listeners.own[0].1.upgrade().unwrap();
            listeners.close(&[], &[], |_| false);
            let theirs = bind(&plan).unwrap();
            assert!(open(&mut listeners), "as far as is known it is the own one");
            listeners.close(&[], &[], |_| false);
            drop(closing);
            assert!(!open(&mut listeners), "{protocol:?}");
            let problems = listeners.problems(&ObjectRef::new("Node", ObjectKey::new("", "n")));
            assert_eq!(problems[0].reason, "ListenerClosed");
            drop(theirs);
            assert!(open(&mut listeners), "{:?}", listeners.failed());
        }
    }

    fn failed(code: i32, before: Option<&Failed>, now: Instant) -> Failed {
        let plan = ListenerPlan {
            address: "192.0.2.1:80".parse().unwrap(),
            scope: Scope::Plain,
            slot: ScopeSlot::PLAIN,
            protocol: Protocol::Http,
            vip: true,
        };
        Failed::new(&plan, &io::Error::from_raw_os_error(code).into(), before, now)
    }

    #[test]
    fn a_failure_names_its_remedy() {
        let node = ObjectRef::new("Node", ObjectKey::new("", "n"));
        for (code, words) in [
            (libc::EACCES, "CAP_NET_BIND_SERVICE"),
            (libc::EADDRINUSE, "another process"),
            (libc::EADDRNOTAVAIL, "no interface has this address"),
            (libc::EAFNOSUPPORT, "no IPv6"),
            (libc::EMFILE, "open files"),
        ] {
            let text = failed(code, None, Instant::now()).problem(&node).to_string();
            assert!(text.contains(words) && text.contains("192.0.2.1:80"), "{text}");
            assert!(!text.contains("forwarding: kernel"), "no kernel ends requests: {text}");
        }
        let of_service = remedy(Some(libc::EADDRINUSE), Protocol::Tcp);
        assert!(of_service.contains("forwarding: kernel"), "{of_service}");
    }

    #[test]
    fn pauses_between_attempts_grow_up_to_a_limit() {
        let now = Instant::now();
        let mut last = failed(libc::EADDRINUSE, None, now);
        let mut pauses = vec![last.due - now];
        for _ in 0..8 {
            last = failed(libc::EADDRINUSE, Some(&last), now);
            pauses.push(last.due - now);
        }
        assert!(pauses.is_sorted() && pauses[0] == AGAIN.0 && pauses[1] == AGAIN.0 * 2);
        assert_eq!(pauses[8], AGAIN.1);
    }
}
