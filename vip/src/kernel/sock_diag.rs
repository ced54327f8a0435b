//! The TCP connections of this network namespace, by sock_diag(7).
//!
//! Only `nftables::forward_old` calls this. Needs no privilege. One walk over all sockets of the kernel, whose cost is
//! that of their number.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use rtnetlink::sys::{self, Socket, protocols::NETLINK_SOCK_DIAG};
use socket2::SockRef;

use crate::l2::forward_old::Connection;

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// Bits of the states of `tcp_states.h`: SYN-RECEIVED (both kinds), ESTABLISHED and those in which
/// one end is still open. A connection in TIME-WAIT has nothing to lose.
const OPEN: u32 = 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11 | 1 << 12;
/// `struct nlmsghdr`, and the part of `struct inet_diag_msg` that tells the ends.
const HEADER_LEN: usize = 16;
const ENDS_LEN: usize = 40;
/// The kernel gives at most so much at a time.
const ANSWER_LEN: usize = 32 << 10;
const ANSWER_TIMEOUT: Duration = Duration::from_millis(200);

/// The open connections whose local address is one of these.
pub(crate) fn connections(local: &BTreeSet<IpAddr>) -> io::Result<Vec<Connection>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    SockRef::from(&socket).set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let mut connections = Vec::new();
    // IPv4 connections of a listener on `[::]` are listed as IPv6.
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        socket.send_to(&request(family), &sys::SocketAddr::new(0, 0), 0)?;
        let mut more = true;
        while more {
            let mut datagram = Vec::with_capacity(ANSWER_LEN);
            let (_, sender) = socket.recv_from(&mut datagram, 0)?;
            if sender.port_number() == 0 {
                more = read(&datagram, |connection| {
                    if local.contains(&connection.local.ip()) {
                        connections.push(connection);
                    }
                })?;
            }
        }
    }
    Ok(connections)
}

/// `struct inet_diag_req_v2`: all ports and addresses.
fn request(family: u8) -> Vec<u8> {
    const LEN: u32 = 72;
    let mut bytes = vec![0; HEADER_LEN];
    bytes[..4].copy_from_slice(&LEN.to_ne_bytes());
    bytes[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes.extend([family, libc::IPPROTO_TCP as u8, 0, 0]);
    bytes.extend(OPEN.to_ne_bytes());
    bytes.resize(LEN as usize, 0);
    bytes
}

/// Reads one datagram of the list; false if it ends the list.
fn read(mut datagram: &[u8], mut found: impl FnMut(Connection)) -> io::Result<bool> {
    while let Some((header, _)) = datagram.split_first_chunk::<HEADER_LEN>() {
        let len = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let body = datagram.get(HEADER_LEN..len).ok_or(io::ErrorKind::InvalidData)?;
        match u16::from_ne_bytes([header[4], header[5]]) {
            BY_FAMILY => {
                let ends = body.first_chunk().ok_or(io::ErrorKind::InvalidData)?;
                found(connection(ends));
            }
            kind if kind == libc::NLMSG_DONE as u16 => return Ok(false),
            kind if kind == libc::NLMSG_ERROR as u16 => {
                let errno = body.first_chunk().copied().unwrap_or_default();
                let errno = i32::from_ne_bytes(errno).saturating_neg();
                return Err(io::Error::from_raw_os_error(errno));
            }
            _ => {}
        }
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(true)
}

/// Family, state, timer, retransmissions; ports of both ends; addresses of both ends, 16 bytes each.
fn connection(ends: &[u8; ENDS_LEN]) -> Connection {
    let end = |port: usize, address: usize| {
        let bytes = &ends[address..];
        let ip = match (bytes.first_chunk::<4>(), bytes.first_chunk::<16>()) {
            (_, Some(ip)) if i32::from(ends[0]) == libc::AF_INET6 => {
                IpAddr::from(*ip).to_canonical()
            }
            (Some(ip), _) => IpAddr::from(*ip),
            (None, _) => IpAddr::from([0; 4]),
        };
        SocketAddr::new(ip, u16::from_be_bytes([ends[port], ends[port + 1]]))
    };
    Connection { local: end(4, 8), remote: end(6, 24) }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "makes connections to be found")]
    fn open_connections_are_found_by_their_local_address() {
        for (bound, to) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1")] {
            let listener = TcpListener::bind((bound, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect((to, port)).unwrap();
            let ends = Connection {
                local: SocketAddr::new(to.parse().unwrap(), port),
                remote: client.local_addr().unwrap(),
            };
            let accepted = listener.accept().unwrap();
            let found = connections(&BTreeSet::from([ends.local.ip()])).unwrap();
            assert!(found.contains(&ends), "{ends:?} not in {found:?}");
            let others = connections(&BTreeSet::from(["192.0.2.1".parse().unwrap()])).unwrap();
            assert_eq!(others, []);
            drop(accepted);
        }
    }

    #[test]
    fn a_list_that_is_cut_or_refused_is_an_error() {
        let mut refused = vec![0; 20];
        refused[..4].copy_from_slice(&20_u32.to_ne_bytes());
        refused[4..6].copy_from_slice(&2_u16.to_ne_bytes());
        refused[16..].copy_from_slice(&(-libc::ENOENT).to_ne_bytes());
        let error = read(&refused, |_| {}).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        refused[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        assert_eq!(read(&refused, |_| {}).unwrap_err().kind(), io::ErrorKind::InvalidData);
        refused[..4].copy_from_slice(&21_u32.to_ne_bytes());
        assert_eq!(read(&refused, |_| {}).unwrap_err().kind(), io::ErrorKind::InvalidData);
        refused[..4].copy_from_slice(&3_u32.to_ne_bytes());
        assert_eq!(read(&refused, |_| {}).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(read(&[], |_| {}).unwrap());
    }
}
