//! Datagrams of Services, passed on to endpoints and back.
//!
//! What a client sends from one port to one listener is a flow. Its first datagram opens a session: an endpoint, and a
//! socket that talks with that endpoint alone, so that the kernel says whose an answer is and whether the endpoint
//! refuses. Everything of a session happens on one worker: the kernel gives all datagrams of a flow to one of the
//! sockets of a listener.
//!
//! [`Udp`] is what a worker has of all that. `worker::thread` opens and closes listeners and drives the clock.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use gatehouse_routes::model::Backend;
use tokio::{io::Interest, net::UdpSocket, sync::oneshot};

use self::{
    refuse::Refuser,
    session::Session,
    socket::Io,
    table::{Bounds, Flow, Table},
};
use crate::{
    compile::{L4Address, L4Port, L4Stats},
    worker::{
        clock::Tick,
        context::Worker,
        counters::Counts,
        listener::{ListenerId, OpenedUdp},
        local_address::LocalAddress,
    },
};

mod refuse;
mod session;
mod socket;
mod table;

/// Silence that ends a session whose client has not spoken after an answer, and one whose client has: those of the
/// kernel's own tables (`nf_conntrack_udp_timeout`, `nf_conntrack_udp_timeout_stream`), milliseconds.
const IDLE: (Tick, Tick) = (30_000, 120_000);
/// How long a client that has spoken last may wait for its answer when its address leaves, milliseconds.
const PATIENCE: Tick = 2_000;
/// The part of the table that one clock tick looks at for silent sessions.
const SWEEP: usize = 20;
/// Batches that one listener, or one session's answers, take before others have their turn.
const BATCHES: usize = 4;
/// New sessions after which a listener's turn ends, too: each costs more than all else that a datagram may.
const NEW: usize = 32;
/// Turns that a listener has at its end.
const LAST_TURNS: usize = 16;
/// Most sockets that wait to be closed, beside those of sessions.
const CLOSING: usize = 64;

/// All of a worker's UDP.
pub(crate) struct Udp {
    worker: Rc<Worker>,
    /// Made with the first listener: most processes have none.
    io: OnceCell<Io>,
    refuser: OnceCell<Refuser>,
    table: RefCell<Table<Session>>,
    /// Most sockets that wait to be closed: a session that had to go leaves its own to its task, which closes it when it has
    /// its turn.
    closing: usize,
    /// The sockets of sessions, with those that wait to be closed.
    sockets: Rc<Cell<usize>>,
    /// Sessions that the turn of a listener was spent on.
    opened: Cell<usize>,
    /// There are several of one id where the process before this one had more workers.
    listeners: RefCell<Vec<Rc<Listener>>>,
    /// Their addresses.
    own: RefCell<BTreeSet<SocketAddr>>,
}

/// One worker's end of a listener.
struct Listener {
    id: ListenerId,
    address: SocketAddr,
    socket: UdpSocket,
    local: Rc<LocalAddress>,
    target: RefCell<Target>,
    /// Ends the reading when it goes.
    reading: RefCell<Option<oneshot::Sender<()>>>,
    /// Its clients that wait for answers count as one connection of its address, which is leaving.
    awaited: Cell<bool>,
    /// After the socket.
    _in_use: Arc<()>,
}

/// Where a listener's datagrams go, as of a snapshot.
#[derive(Default)]
struct Target {
    /// Of the snapshot.
    generation: u64,
    /// Counts changes of the rest.
    epoch: u64,
    port: Option<Arc<L4Port>>,
    backend: Option<Arc<Backend>>,
    counts: Option<Rc<Counts<L4Stats>>>,
}

impl Udp {
    pub(crate) fn new(worker: &Rc<Worker>) -> Rc<Self> {
        let most = worker.options.max_udp_sessions;
        Rc::new(Self {
            worker: Rc::clone(worker),
            io: OnceCell::new(),
            refuser: OnceCell::new(),
            table: RefCell::new(Table::new(Bounds { all: most, source: most.div_ceil(4) })),
            closing: CLOSING.min(most / 2),
            sockets: Rc::default(),
            opened: Cell::new(0),
            listeners: RefCell::default(),
            own: RefCell::default(),
        })
    }

    /// Reads from a socket from now on.
    ///
    /// # Errors
    /// No descriptors are left.
    pub(crate) fn open(self: &Rc<Self>, opened: OpenedUdp) -> io::Result<()> {
        if self.io.get().is_none() {
            let _ = self.io.set(Io::new()?);
        }
        let OpenedUdp { id, address, socket, in_use } = opened;
        let (reading, closed) = oneshot::channel();
        let listener = Rc::new(Listener {
            id,
            address,
            socket: socket::listen(socket, address)?,
            local: self.worker.address(address.ip()),
            target: RefCell::default(),
            reading: RefCell::new(Some(reading)),
            awaited: Cell::new(false),
            _in_use: in_use,
        });
        self.own.borrow_mut().insert(address);
        self.listeners.borrow_mut().push(Rc::clone(&listener));
        tokio::task::spawn_local(Rc::clone(self).read(listener, closed));
        Ok(())
    }

    async fn read(self: Rc<Self>, listener: Rc<Listener>, mut closed: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                biased;
                _ = &mut closed => break,
                ready = listener.socket.ready(Interest::READABLE | Interest::ERROR) => {
                    if ready.is_err() {
                        break;
                    }
                }
            }
            // A socket that always has more must not keep the thread from all else: nothing here waits but for that.
            if self.turn(&listener) {
                tokio::task::yield_now().await;
            }
        }
        // What waits in the queue would be lost with the socket, unless a successor has it, too.
        for _ in 0..LAST_TURNS {
            if !self.turn(&listener) {
                break;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Passes some batches of clients' datagrams on; false if nothing is left.
    fn turn(self: &Rc<Self>, listener: &Rc<Listener>) -> bool {
        self.opened.set(0);
        for _ in 0..BATCHES {
            if !self.take(listener) {
                return false;
            }
            if self.opened.get() >= NEW {
                break;
            }
        }
        true
    }

    /// Passes a batch of clients' datagrams on; false if there was none.
    fn take(self: &Rc<Self>, listener: &Rc<Listener>) -> bool {
        let Some(io) = self.io.get() else { return false };
        self.refresh(listener);
        let taken = io.receive(&listener.socket, |datagrams| {
            self.from_client(io, listener, &datagrams);
        });
        match taken {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            // What the network says of an answer to a client that has gone.
            _ => true,
        }
    }

    /// Looks whether there is a new configuration of the listener's port.
    fn refresh(&self, listener: &Listener) {
        let snapshot = self.worker.pin();
        let mut target = listener.target.borrow_mut();
        if target.generation == snapshot.generation && target.epoch > 0 {
            return;
        }
        target.generation = snapshot.generation;
        let port = snapshot.l4.get(&L4Address::udp(listener.address));
        let backends = port.map(|port| &port.forward.spec.backends);
        let slot = backends.and_then(|backends| Some(backends.first()?.slot));
        let backend = slot.and_then(|slot| snapshot.backends.get(slot));
        let same = target.port.as_ref().map(Arc::as_ptr) == port.map(Arc::as_ptr)
            && target.backend.as_ref().map(Arc::as_ptr) == backend.map(Arc::as_ptr);
        if same && target.epoch > 0 {
            return;
        }
        target.epoch += 1;
        target.counts = port.map(|port| self.worker.l4_counters().of(&port.stats.0));
        (target.port, target.backend) = (port.cloned(), backend.cloned());
    }

    /// Whether datagrams to this address would come back to this worker.
    fn is_own(&self, address: SocketAddr) -> bool {
        self.own.borrow().contains(&address)
    }

    /// One clock tick: ends sessions in which nothing moves, counts what happened.
    pub(crate) fn tick(&self) {
        if self.listeners.borrow().is_empty() {
            return;
        }
        // Nothing of an old configuration is held where nobody speaks.
        self.listeners.borrow().iter().for_each(|listener| self.refresh(listener));
        let now = self.worker.now();
        let mut table = self.table.borrow_mut();
        let places = table.share(SWEEP);
        let ended = table.sweep(now, places, |session: &Session, stage| session.idle(stage));
        ended.iter().for_each(|session| self.count(&session.counts, L4Stats::ENDED, 1));
        drop(table);
        self.await_answers(now);
    }

    /// Has addresses that are to be left wait for answers that clients wait for.
    fn await_answers(&self, now: Tick) {
        let listeners = self.listeners.borrow();
        let leaving = |one: &&Rc<Listener>| one.local.leaving().is_some() || one.awaited.get();
        if !listeners.iter().any(|one| leaving(&one)) {
            return;
        }
        let patience = (PATIENCE as f64 * self.worker.options.time_scale) as Tick;
        let awaiting = self.table.borrow().awaiting(now, patience);
        for listener in listeners.iter().filter(leaving) {
            let awaited = awaiting.contains(&listener.id) && listener.local.leaving().is_some();
            match (listener.awaited.replace(awaited), awaited) {
                (false, true) => self.worker.connection_opened(&listener.local),
                (true, false) => self.worker.connection_closed(&listener.local),
                _ => (),
            }
        }
    }

    /// Closes a listener and ends its sessions.
    pub(crate) fn close(&self, id: ListenerId) {
        for listener in self.listeners.borrow_mut().extract_if(.., |one| one.id == id) {
            if listener.awaited.take() {
                self.worker.connection_closed(&listener.local);
            }
            listener.reading.take();
        }
        *self.own.borrow_mut() = self.listeners.borrow().iter().map(|one| one.address).collect();
        self.end(|flow| flow.listener == id);
    }

    /// Reads no more but on these addresses; answers still go to clients.
    pub(crate) fn drain(&self, kept: &[IpAddr]) {
        for listener in self.listeners.borrow().iter() {
            if !kept.contains(&listener.address.ip()) {
                listener.reading.take();
            }
        }
    }

    /// Ends the sessions on addresses that are gone.
    pub(crate) fn cut(&self, ips: &[IpAddr]) {
        let listeners = self.listeners.borrow();
        let gone: Vec<_> = listeners
            .iter()
            .filter(|listener| ips.contains(&listener.address.ip()))
            .map(|listener| listener.id)
            .collect();
        self.end(|flow| gone.contains(&flow.listener));
    }

    fn end(&self, which: impl Fn(&Flow) -> bool) {
        let ended = self.table.borrow_mut().remove_all(which);
        ended.iter().for_each(|session| self.count(&session.counts, L4Stats::ENDED, 1));
    }

    fn count(&self, counts: &Rc<Counts<L4Stats>>, kind: usize, amount: u64) {
        self.worker.l4_counters().add_amount(counts, kind, amount);
    }
}
