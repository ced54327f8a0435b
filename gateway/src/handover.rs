//! Two processes on one node: an upgrade starts the successor beside its predecessor, and nothing is lost.
//!
//! They meet at a socket in `--state-dir`, so two processes that share no state folder know nothing of each other.
//! At its start the successor gets the listening sockets and hears which endpoints clients keep, and serves beside its
//! predecessor when it is ready. At
//! its stop the predecessor has the successor take the addresses over where they are, lets its open connections
//! end, and goes. `docs/ARCHITECTURE.md` says what each socket does meanwhile.
//!
//! `app` calls [`meet`] at the start and [`serve`] when this process has the addresses; the controller does what
//! the messages ask for. What is not said in time, or by a process that has gone, is as if there were no other
//! process: the predecessor withdraws, the successor begins anew.

mod wire;

use std::{
    collections::BTreeMap,
    io,
    net::TcpListener,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use gatehouse_routes::objects::ObjectKey;
use gatehouse_vip::Speaker;

use crate::{
    compile::{Kept, L4Address, ServicePort},
    listeners::Sockets,
};
use wire::{Line, Message};

const SOCKET: &str = "handover.sock";
/// Sockets in one message; the kernel allows 253.
const AT_ONCE: usize = 128;
/// Clients in one message, each of up to a hundred bytes.
const CLIENTS_AT_ONCE: usize = 500;
/// Longest wait for an answer that takes no time.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest that a successor may take until it could take the addresses over.
const PREPARE: Duration = Duration::from_secs(8);
/// More heartbeats than a process sends while its successor prepares.
const LAST_WORDS: u64 = 1 << 16;

/// The process before this one, which still serves.
pub(crate) struct Before {
    line: Line,
}

/// The process after this one, which serves already.
pub(crate) struct After {
    line: Line,
}

/// Which endpoints clients keep (`sessionAffinity: ClientIP`).
pub(crate) type Clients = BTreeMap<ServicePort, Vec<Kept>>;

/// What a process gives to its successor while both serve.
#[derive(Default)]
pub(crate) struct Handed {
    /// Its listening sockets.
    pub(crate) sockets: Sockets,
    pub(crate) clients: Clients,
}

/// What the process before this one says to the controller.
pub(crate) enum Step {
    /// These have come to it meanwhile.
    Clients(Clients),
    /// Start the L2 speaker for this incarnation, and answer with it.
    Prepare([u8; 16], std::sync::mpsc::SyncSender<Option<Arc<Speaker>>>),
    /// It has left its addresses, if it says so, and will not come back.
    Over(Option<u64>),
}

/// Where successors are met.
#[derive(Clone, Default)]
pub(crate) struct Door(Arc<Mutex<Option<After>>>);

/// Asks the process that runs with this state folder for what it hands over; `None`: there is none. `whose`
/// names the gateway that both are processes of.
///
/// # Errors
/// There is one, and it does not give them, or is one of another gateway.
pub(crate) fn meet(folder: &Path, whose: &str) -> anyhow::Result<Option<(Before, Handed)>> {
    let path = folder.join(SOCKET);
    let Ok(line) = Line::connect(&path) else { return Ok(None) };
    let handed = receive(&line, whose).map_err(|error| {
        anyhow::anyhow!(
            "the process that runs with --state-dir {} does not hand its listeners over: {error}; stop it \
             first",
            folder.display()
        )
    })?;
    tracing::info!(listeners = handed.sockets.len(), "starts beside its predecessor");
    Ok(Some((Before { line }, handed)))
}

fn receive(line: &Line, whose: &str) -> io::Result<Handed> {
    let Handed { mut sockets, mut clients } = Handed::default();
    line.patience(Some(PATIENCE))?;
    loop {
        let (message, descriptors) = receive_after(line, &mut clients)?;
        let Message::Listeners { whose: theirs, at, more } = message else {
            return Err(io::Error::other("it says something else"));
        };
        if theirs != whose {
            let why = format!("it is one of the gateway {theirs}, this one of {whose}");
            return Err(io::Error::other(why));
        }
        if at.len() != descriptors.len() {
            return Err(io::Error::other("it sends other sockets than it says"));
        }
        for ((transport, address), descriptor) in at.into_iter().zip(descriptors) {
            sockets.entry(L4Address { transport, address }).or_default().push(descriptor);
        }
        if !more {
            return Ok(Handed { sockets, clients });
        }
    }
}

/// The next message but for those of clients, which are added.
fn receive_after(line: &Line, clients: &mut Clients) -> io::Result<(Message, Vec<OwnedFd>)> {
    loop {
        match line.receive()? {
            (Message::Clients { of: (namespace, name, transport, port), kept }, _) => {
                let port = (ObjectKey::new(namespace, name), transport, port);
                clients.entry(port).or_default().extend(kept);
            }
            other => return Ok(other),
        }
    }
}

fn send_clients(line: &Line, clients: &Clients) -> io::Result<()> {
    for ((service, transport, port), kept) in clients {
        let of = (service.namespace.to_string(), service.name.to_string(), *transport, *port);
        for kept in kept.chunks(CLIENTS_AT_ONCE) {
            line.send(&Message::Clients { of: of.clone(), kept: kept.to_vec() }, &[])?;
        }
    }
    Ok(())
}

impl Before {
    /// Follows the predecessor to its end, on a thread of its own. `tell` hands its words to the controller.
    ///
    /// # Errors
    /// No thread.
    pub(crate) fn follow(self, tell: impl Fn(Step) + Send + 'static) -> io::Result<()> {
        let follow = move || tell(Step::Over(self.left(&tell)));
        thread::Builder::new().name("predecessor".to_owned()).spawn(follow).map(drop)
    }

    /// The sequence of the last heartbeat of a predecessor that has left its addresses here.
    fn left(&self, tell: &impl Fn(Step)) -> Option<u64> {
        let gone = |error: io::Error| {
            tracing::warn!(%error, "the predecessor has ended without handing over");
        };
        let (clients, incarnation, sequence) = self.asked().map_err(gone).ok()?;
        tell(Step::Clients(clients));
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        tell(Step::Prepare(incarnation, answer));
        let speaker = answered.recv().ok().flatten()?;
        if !speaker.prepared_and_wait(PREPARE) {
            tracing::warn!("the addresses of the predecessor are not all here after {PREPARE:?}");
        }
        drop(speaker);
        // Should it die at this moment, its addresses are here already.
        Some(self.take().map_err(gone).unwrap_or(sequence + LAST_WORDS))
    }

    fn asked(&self) -> io::Result<(Clients, [u8; 16], u64)> {
        self.line.patience(None)?;
        let mut clients = Clients::new();
        match receive_after(&self.line, &mut clients)?.0 {
            Message::Prepare { incarnation, sequence } => Ok((clients, incarnation, sequence)),
            _ => Err(io::Error::other("it says something else")),
        }
    }

    fn take(&self) -> io::Result<u64> {
        self.line.patience(Some(PREPARE))?;
        self.line.send(&Message::Prepared, &[])?;
        match self.line.receive()?.0 {
            Message::Left { sequence } => Ok(sequence),
            _ => Err(io::Error::other("it says something else")),
        }
    }
}

impl Door {
    /// The successor that has come, if it is still there.
    pub(crate) fn take(&self) -> Option<After> {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        place.take().filter(|after| after.line.is_open())
    }

    fn put(&self, after: After) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(after);
    }
}

impl After {
    /// Has the successor get ready to take the addresses over; `incarnation` and `sequence` are how the group
    /// knows this process. `clients`: as they are now.
    pub(crate) fn prepare(
        &self,
        clients: &Clients,
        incarnation: [u8; 16],
        sequence: u64,
    ) -> io::Result<()> {
        self.line.patience(Some(PREPARE + PATIENCE))?;
        send_clients(&self.line, clients)?;
        self.line.send(&Message::Prepare { incarnation, sequence }, &[])?;
        match self.line.receive()?.0 {
            Message::Prepared => Ok(()),
            _ => Err(io::Error::other("it says something else")),
        }
    }

    /// Says that the addresses are the successor's now.
    pub(crate) fn left(&self, sequence: u64) -> io::Result<()> {
        self.line.send(&Message::Left { sequence }, &[])
    }
}

/// Meets successors from now on. `hand` asks the controller for what they get.
///
/// # Errors
/// The socket cannot be made, or no thread.
pub(crate) fn serve(
    folder: &Path,
    whose: &str,
    door: &Door,
    hand: impl Fn() -> Option<Handed> + Send + 'static,
) -> io::Result<()> {
    let path: PathBuf = folder.join(SOCKET);
    std::fs::create_dir_all(folder)?;
    let entrance = wire::listen(&path)?;
    let (door, whose) = (door.clone(), whose.to_owned());
    let serve = move || {
        loop {
            match wire::accept(&entrance).and_then(|line| welcome(line, &whose, &hand)) {
                Ok(after) => door.put(after),
                Err(error) => {
                    tracing::warn!(%error, "a successor did not get the listeners");
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
    };
    thread::Builder::new().name("handover".to_owned()).spawn(serve).map(drop)
}

fn welcome(line: Line, whose: &str, hand: &impl Fn() -> Option<Handed>) -> io::Result<After> {
    line.patience(Some(PATIENCE))?;
    let handed = hand().ok_or_else(|| io::Error::other("this process is stopping"))?;
    let Handed { sockets, clients } = handed;
    send_clients(&line, &clients)?;
    let all: Vec<_> = sockets
        .iter()
        .flat_map(|(at, sockets)| sockets.iter().map(move |socket| (*at, socket)))
        .collect();
    let mut parts: Vec<_> = all.chunks(AT_ONCE).collect();
    if parts.is_empty() {
        parts.push(&[]);
    }
    for (number, part) in parts.iter().enumerate() {
        let at = part.iter().map(|(at, _)| (at.transport, at.address)).collect();
        let descriptors: Vec<_> = part.iter().map(|(_, socket)| socket.as_fd()).collect();
        let more = number + 1 < parts.len();
        let whose = whose.to_owned();
        line.send(&Message::Listeners { whose, at, more }, &descriptors)?;
    }
    tracing::info!(listeners = sockets.len(), "a successor has the listeners");
    Ok(After { line })
}

/// A listening socket for pages that two processes of a node may show at one time. Without a predecessor it is an
/// error if the address is taken.
///
/// # Errors
/// The address cannot be bound.
pub(crate) fn shared_listener(
    address: std::net::SocketAddr,
    predecessor: bool,
) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    if !predecessor {
        // By itself SO_REUSEPORT would let a second process in that nobody meant to start.
        drop(TcpListener::bind(address)?);
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    Ok(OwnedFd::from(socket).into())
}

#[cfg(test)]
mod tests;
