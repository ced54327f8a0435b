//! The relays in the kernel: one netlink socket that owns one table of nf_tables.
//!
//! Only the speaker calls this. What to send is decided by [`crate::relay`]. The table goes with the
//! socket, so that a killed process leaves no relay behind. Needs `CAP_NET_ADMIN` in the network
//! namespace's user namespace, Linux 5.12, and nf_tables with the family netdev and `fwd`.

#![expect(unsafe_code, reason = "SO_SNDBUFFORCE, which neither socket2 nor netlink-sys sets")]

use std::collections::BTreeSet;
use std::io;
use std::mem::size_of_val;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr};
use socket2::SockRef;

use super::diag;
use crate::nftables::{Attempt, Batch, answers};
use crate::relay::{Connection, Relays, Ruleset};

/// The kernel answers before the message counts as sent; so this is long.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(200);
/// Answers are small: 20 bytes and a header.
const ANSWER_LEN: usize = 8192;

/// The kernel's relays; opened at the first need, in the network namespace of the calling thread.
#[derive(Debug, Default)]
pub(crate) struct Nft {
    table: Option<Table>,
}

impl Nft {
    /// Makes the kernel's relays those of `wanted`, in one transaction, and notes of own connections
    /// survive it while any relay stands. Does nothing if they are.
    ///
    /// Not quite without waiting: it waits for whoever is changing nf_tables at the moment. On an
    /// error the relays are those of before, or none if that is not certain. Kinds of errors:
    /// `PermissionDenied`; `Unsupported`, if this kernel cannot do it at all; `NotFound`, if a device
    /// is not there (before Linux 6.16); `InvalidInput`, if an address and its way are of different
    /// families.
    pub(crate) fn apply(&mut self, wanted: &Relays) -> io::Result<()> {
        match self.table {
            None if wanted.values().all(BTreeSet::is_empty) => return Ok(()),
            None => self.table = Some(Table::open()?),
            Some(_) => {}
        }
        self.with_table(|table| table.change(wanted))
    }

    /// The open connections of this node on those of the addresses that are relayed, which
    /// [`apply`](Self::apply) cannot know. Walks over all TCP sockets of the namespace.
    pub(crate) fn connections(&self, vips: &BTreeSet<IpAddr>) -> io::Result<Vec<Connection>> {
        let Some(table) = &self.table else { return Ok(Vec::new()) };
        let relayed = |vip: &IpAddr| table.rules.relays(*vip);
        let relayed: BTreeSet<_> = vips.iter().copied().filter(relayed).collect();
        if relayed.is_empty() {
            return Ok(Vec::new());
        }
        diag::connections(&relayed).map_err(|error| described("list TCP connections", error))
    }

    /// Keeps these connections here, though they began before their address was relayed.
    pub(crate) fn keep(&mut self, connections: &[Connection]) -> io::Result<()> {
        self.with_table(|table| table.keep(connections))
    }

    fn with_table(
        &mut self,
        action: impl FnOnce(&mut Table) -> Result<(), Failure>,
    ) -> io::Result<()> {
        let Some(table) = &mut self.table else { return Ok(()) };
        action(table).map_err(|failure| match failure {
            Failure::Refused(error) => error,
            Failure::Unknown(error) => {
                // Closing the socket leaves nothing, and that is certain.
                self.table = None;
                error
            }
        })
    }
}

#[derive(Debug)]
struct Table {
    socket: Socket,
    name: String,
    rules: Ruleset,
}

enum Failure {
    /// Nothing has changed.
    Refused(io::Error),
    /// Nobody knows.
    Unknown(io::Error),
}

impl Table {
    fn open() -> io::Result<Self> {
        let open = || {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            // The port number is the socket's alone in its namespace; the table is called after it,
            // so as not to meet that of another process, or one that is about to go.
            let port = socket.bind_auto()?.port_number();
            // Without it, a refusal repeats the message that is refused.
            socket.set_cap_ack(true)?;
            SockRef::from(&socket).set_read_timeout(Some(ANSWER_TIMEOUT))?;
            Ok(Self { socket, name: format!("gatehouse-{port}"), rules: Ruleset::default() })
        };
        open().map_err(|error: io::Error| described("open a netfilter socket", error))
    }

    fn change(&mut self, wanted: &Relays) -> Result<(), Failure> {
        let changed = self.rules.change(&self.name, wanted);
        let changed = changed.map_err(|mixed| {
            Failure::Refused(io::Error::new(io::ErrorKind::InvalidInput, mixed))
        })?;
        let Some((batch, rules)) = changed else { return Ok(()) };
        self.commit(batch)?;
        self.rules = rules;
        Ok(())
    }

    fn keep(&self, connections: &[Connection]) -> Result<(), Failure> {
        self.rules.keep(&self.name, connections).map_or(Ok(()), |batch| self.commit(batch))
    }

    fn commit(&self, batch: Batch) -> Result<(), Failure> {
        let (bytes, attempts) = batch.finish();
        self.send(&bytes).map_err(Failure::Refused)?;
        self.receive(&attempts)
    }

    fn send(&self, batch: &[u8]) -> io::Result<()> {
        let described = |error| described("send a batch to nf_tables", error);
        make_room(&self.socket, batch.len()).map_err(described)?;
        let sent = self.socket.send_to(batch, &SocketAddr::new(0, 0), 0).map_err(described)?;
        if sent < batch.len() {
            return Err(described(io::ErrorKind::WriteZero.into()));
        }
        Ok(())
    }

    /// Reads answers up to that of the last message, or of the whole batch; at most one for each.
    fn receive(&self, attempts: &[Attempt]) -> Result<(), Failure> {
        let mut refused = None;
        let last = attempts.len() - 1;
        for _ in attempts {
            for (sequence, errno) in self.answer().map_err(Failure::Unknown)? {
                let sequence = sequence as usize;
                if let Some(attempt) = attempts.get(sequence).filter(|_| errno != 0) {
                    refused.get_or_insert_with(|| refusal(attempt, errno));
                }
                // Sequence 0 is the batch: it was not even looked into.
                if sequence == last || (sequence == 0 && errno != 0) {
                    return refused.map_or(Ok(()), |error| Err(Failure::Refused(error)));
                }
            }
        }
        Err(Failure::Unknown(io::Error::other("relays: nf_tables answers too much")))
    }

    fn answer(&self) -> io::Result<Vec<(u32, i32)>> {
        let mut datagram = Vec::with_capacity(ANSWER_LEN);
        loop {
            datagram.clear();
            match self.socket.recv_from(&mut datagram, 0) {
                // Others may write to this socket's port as well.
                Ok((_, sender)) if sender.port_number() == 0 => return Ok(answers(&datagram)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(described("hear from nf_tables", error)),
            }
        }
    }
}

/// A batch is one datagram, which has to fit into the send buffer, and the usual 200 KiB are enough
/// for 2 000 addresses only. `SO_SNDBUFFORCE` may exceed the administrator's limit; who may change
/// nf_tables may do this.
fn make_room(socket: &Socket, len: usize) -> io::Result<()> {
    let wanted = libc::c_int::try_from(len + 4096).map_err(io::Error::other)?;
    if SockRef::from(socket).send_buffer_size()? >= len + 4096 {
        return Ok(());
    }
    // SAFETY: the option's value is a c_int that lives through the call, and its length is right.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDBUFFORCE,
            (&raw const wanted).cast(),
            size_of_val(&wanted) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The kernel's refusal of one message.
fn refusal(attempt: &Attempt, errno: i32) -> io::Error {
    let error = io::Error::from_raw_os_error(errno);
    let kind = match errno {
        libc::EPERM => io::ErrorKind::PermissionDenied,
        // A rule's steps are modules of their own; a table's flags came with time.
        libc::ENOENT if attempt.message == libc::NFT_MSG_NEWRULE => io::ErrorKind::Unsupported,
        libc::EINVAL if attempt.message == libc::NFT_MSG_NEWTABLE => io::ErrorKind::Unsupported,
        libc::EOPNOTSUPP | libc::EAFNOSUPPORT => io::ErrorKind::Unsupported,
        _ => error.kind(),
    };
    explained(kind, &attempt.what, &error)
}

/// A failure of the socket.
fn described(what: &str, error: io::Error) -> io::Error {
    let kind = match error.raw_os_error() {
        Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => io::ErrorKind::Unsupported,
        _ => error.kind(),
    };
    explained(kind, what, &error)
}

fn explained(kind: io::ErrorKind, what: &str, error: &io::Error) -> io::Error {
    let hint = match kind {
        io::ErrorKind::PermissionDenied => "; it needs CAP_NET_ADMIN",
        io::ErrorKind::Unsupported => "; it needs Linux 5.12 with nf_tables, netdev and fwd",
        _ => "",
    };
    io::Error::new(kind, format!("relays: cannot {what}: {error}{hint}"))
}

#[cfg(test)]
#[path = "nft_tests.rs"]
mod tests;
