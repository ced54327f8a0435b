//! Transactions of nf_tables: one netlink socket that sends batches and hears what came of them.
//!
//! `forwarding`, `forward_old` and `fence` have one each. What is in a batch is not looked at here. Needs `CAP_NET_ADMIN` in
//! the network namespace's user namespace.

#![expect(unsafe_code, reason = "SO_SNDBUFFORCE, which neither socket2 nor netlink-sys sets")]

pub(crate) mod fence;
pub(crate) mod forward_old;
pub(crate) mod forwarding;

use std::{
    collections::BTreeSet,
    io,
    mem::size_of_val,
    net::{self, IpAddr},
    os::fd::AsRawFd,
    time::Duration,
};

use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use socket2::SockRef;

use crate::nftables::{
    Attempt, Batch, Listed, TableFamily, answers, conntrack, list_counters, objects,
};

/// The kernel answers before the message counts as sent; so this is long.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(200);
/// Answers are small: 20 bytes and a header.
const ANSWER_LEN: usize = 8192;
/// Pieces of lists are as long as there is room, up to this (`NLMSG_GOODSIZE` and what grew from it).
const LIST_LEN: usize = 32_768;

/// What came of a batch that failed.
pub(super) enum Failure {
    /// Nothing has changed.
    Refused(io::Error),
    /// Whether anything has changed is not known.
    Unknown(io::Error),
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) | Failure::Unknown(error) => error,
        }
    }
}

/// A socket to nf_tables of the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Transactions {
    socket: Socket,
    port: u32,
    whose: &'static str,
    needs: &'static str,
}

impl Transactions {
    /// `whose` and `needs` (of the kernel) are for errors.
    pub(super) fn open(whose: &'static str, needs: &'static str) -> io::Result<Self> {
        let open = || {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            let port = socket.bind_auto()?.port_number();
            // Without it, a refusal repeats the message that is refused.
            socket.set_cap_ack(true)?;
            SockRef::from(&socket).set_read_timeout(Some(ANSWER_TIMEOUT))?;
            Ok(Self { socket, port, whose, needs })
        };
        open().map_err(|error: io::Error| {
            let kind = kind_of(&error);
            explained(whose, needs, kind, "open a netfilter socket", &error)
        })
    }

    /// The socket's number, its own in its namespace.
    pub(super) fn port(&self) -> u32 {
        self.port
    }

    /// Carries all of a batch out, or nothing. Kinds of errors: `PermissionDenied`; `Unsupported`, if
    /// this kernel cannot do it at all; `NotFound`, if something that is named is not there.
    pub(super) fn commit(&self, batch: Batch) -> Result<(), Failure> {
        let (bytes, attempts) = batch.finish();
        self.send(&bytes).map_err(Failure::Refused)?;
        self.receive(&attempts)
    }

    fn send(&self, batch: &[u8]) -> io::Result<()> {
        let described = |error| self.described("send a batch to nf_tables", error);
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
                    refused.get_or_insert_with(|| self.refusal(attempt, errno));
                }
                // Sequence 0 is the batch: it was not even looked into.
                if sequence == last || (sequence == 0 && errno != 0) {
                    return refused.map_or(Ok(()), |error| Err(Failure::Refused(error)));
                }
            }
        }
        let flood = io::Error::other("it answers too much");
        Err(Failure::Unknown(self.described("understand nf_tables", flood)))
    }

    fn answer(&self) -> io::Result<Vec<(u32, i32)>> {
        let mut datagram = Vec::with_capacity(ANSWER_LEN);
        self.datagram(&mut datagram)?;
        Ok(answers(&datagram))
    }

    /// The kernel's next datagram.
    fn datagram(&self, datagram: &mut Vec<u8>) -> io::Result<()> {
        loop {
            datagram.clear();
            match self.socket.recv_from(datagram, 0) {
                // Others may write to this socket's port as well.
                Ok((_, sender)) if sender.port_number() == 0 => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.described("hear from netfilter", error)),
            }
        }
    }

    /// Sends a request that is no transaction and reads its answer, a datagram at a time, until `read` says with which
    /// errno it ends.
    pub(super) fn list(
        &self,
        request: &[u8],
        what: &str,
        mut read: impl FnMut(&[u8]) -> Option<i32>,
    ) -> io::Result<()> {
        let sent = self.socket.send_to(request, &SocketAddr::new(0, 0), 0);
        sent.map_err(|error| self.described(what, error))?;
        let mut datagram = Vec::with_capacity(LIST_LEN);
        loop {
            self.datagram(&mut datagram)?;
            match read(&datagram) {
                None => {}
                Some(0) => return Ok(()),
                Some(errno) => {
                    return Err(self.described(what, io::Error::from_raw_os_error(errno)));
                }
            }
        }
    }

    /// The counters of a table of the family `inet`. There are none if it is not there.
    pub(super) fn counters(&self, table: &str) -> io::Result<Vec<Listed>> {
        let mut counters = Vec::new();
        let request = list_counters(TableFamily::Inet, table);
        self.list(&request, "list counters", |datagram| {
            let listing = objects(datagram);
            counters.extend(listing.counters);
            listing.end
        })?;
        Ok(counters)
    }

    /// The open TCP connections to these addresses that the kernel passes on to other destinations: where they were sent,
    /// and by whom. Walks over all that the kernel tracks.
    pub(super) fn passed_on(
        &self,
        to: &BTreeSet<IpAddr>,
    ) -> io::Result<Vec<(net::SocketAddr, net::SocketAddr)>> {
        let mut connections = Vec::new();
        for v6 in [false, true] {
            if !to.iter().any(|ip| ip.is_ipv6() == v6) {
                continue;
            }
            self.list(&conntrack::list_tracked(v6), "list tracked connections", |datagram| {
                let (some, end) = conntrack::passed_on(datagram);
                connections.extend(some.into_iter().filter(|(local, _)| to.contains(&local.ip())));
                end
            })?;
        }
        Ok(connections)
    }

    /// The kernel's refusal of one message.
    fn refusal(&self, attempt: &Attempt, errno: i32) -> io::Error {
        refusal(self.whose, self.needs, attempt, errno)
    }

    /// A failure of a socket.
    pub(super) fn described(&self, what: &str, error: io::Error) -> io::Error {
        explained(self.whose, self.needs, kind_of(&error), what, &error)
    }
}

/// A batch is one datagram, which has to fit into the send buffer, and the usual 200 KiB are enough
/// for 2 000 addresses only. `SO_SNDBUFFORCE` may exceed the administrator's limit; a process that may
/// change nf_tables may do this.
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

fn refusal(whose: &str, needs: &str, attempt: &Attempt, errno: i32) -> io::Error {
    let error = io::Error::from_raw_os_error(errno);
    let kind = match errno {
        libc::EPERM => io::ErrorKind::PermissionDenied,
        // A rule's steps are modules of their own; a table's flags came with time.
        libc::ENOENT if attempt.message == libc::NFT_MSG_NEWRULE => io::ErrorKind::Unsupported,
        libc::EINVAL if attempt.message == libc::NFT_MSG_NEWTABLE => io::ErrorKind::Unsupported,
        libc::EOPNOTSUPP | libc::EAFNOSUPPORT => io::ErrorKind::Unsupported,
        _ => error.kind(),
    };
    explained(whose, needs, kind, &attempt.what, &error)
}

fn kind_of(error: &io::Error) -> io::ErrorKind {
    match error.raw_os_error() {
        Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => io::ErrorKind::Unsupported,
        _ => error.kind(),
    }
}

fn explained(
    whose: &str,
    needs: &str,
    kind: io::ErrorKind,
    what: &str,
    error: &io::Error,
) -> io::Error {
    let hint = match kind {
        io::ErrorKind::PermissionDenied => "; it needs CAP_NET_ADMIN".to_owned(),
        io::ErrorKind::Unsupported => format!("; it needs {needs}"),
        _ => String::new(),
    };
    io::Error::new(kind, format!("{whose}: cannot {what}: {error}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_cannot_do_it_is_told_from_one_that_refuses() {
        use io::ErrorKind;
        for (message, errno, kind) in [
            (-1, libc::EPERM, ErrorKind::PermissionDenied),
            (-1, libc::EOPNOTSUPP, ErrorKind::Unsupported), // no nf_tables
            (libc::NFT_MSG_NEWTABLE, libc::EOPNOTSUPP, ErrorKind::Unsupported), // no netdev, no owner
            (libc::NFT_MSG_NEWTABLE, libc::EINVAL, ErrorKind::Unsupported), // no owner, before 5.12
            (libc::NFT_MSG_NEWRULE, libc::ENOENT, ErrorKind::Unsupported),  // no fwd
            (libc::NFT_MSG_NEWCHAIN, libc::ENOENT, ErrorKind::NotFound),    // no such device
            (libc::NFT_MSG_NEWSETELEM, libc::EEXIST, ErrorKind::AlreadyExists),
        ] {
            let refused =
                refusal("forwarding", "fwd", &Attempt { what: "try".to_owned(), message }, errno);
            assert_eq!(refused.kind(), kind, "{message} {errno}");
            assert!(refused.to_string().contains("cannot try: "), "{refused}");
        }
    }
}
