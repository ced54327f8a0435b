//! Tells a client that nobody is at the port that it asked, as the host of an endpoint told this process: a resolver asks
//! its next server at once then. The kernel sends this by itself only for ports that nobody listens on.
//!
//! That takes a raw socket (`CAP_NET_RAW`, which ARP needs as well); without it clients hear nothing.

use std::{
    cell::Cell,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::worker::clock::Tick;

/// Most messages of a worker in a second (RFC 1812, section 4.3.2.8; RFC 4443, section 2.4 f).
const MOST: u32 = 100;
/// Protocol number of UDP.
const UDP: u8 = 17;
/// Time to live of the datagram that is quoted; nobody looks at it.
const TTL: u8 = 64;

/// How many messages were sent.
#[derive(Debug, Default)]
pub(super) struct Refuser {
    second: Cell<Tick>,
    sent: Cell<u32>,
    /// The kernel does not let this process.
    barred: Cell<bool>,
}

impl Refuser {
    /// Tells a client that the port it sent to cannot be reached.
    pub(super) fn refuse(&self, client: SocketAddr, server: SocketAddr, now: Tick) {
        if !self.may(now) {
            return;
        }
        match send(client, server) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.barred.set(true);
                tracing::info!(
                    "clients do not hear of UDP endpoints that refuse: that needs CAP_NET_RAW"
                );
            }
            Err(error) => tracing::debug!(%client, %error, "a client is not told"),
            Ok(()) => (),
        }
    }

    fn may(&self, now: Tick) -> bool {
        if self.second.replace(now / 1_000) != now / 1_000 {
            self.sent.set(0);
        }
        self.sent.set(self.sent.get().saturating_add(1));
        !self.barred.get() && self.sent.get() <= MOST
    }
}

fn send(client: SocketAddr, server: SocketAddr) -> io::Result<()> {
    let Some(message) = message(client, server) else { return Ok(()) };
    let protocol = if client.is_ipv4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
    let socket = Socket::new(Domain::for_address(client), Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(server.ip(), 0).into())?;
    let mut to = client;
    to.set_port(0);
    socket.send_to(&message, &to.into()).map(drop)
}

/// "Port unreachable", with the beginning of a datagram from the client to the server: what the client's kernel finds its
/// socket by. The checksum of ICMPv6 is the kernel's to fill in.
fn message(client: SocketAddr, server: SocketAddr) -> Option<Vec<u8>> {
    let udp = [
        &client.port().to_be_bytes()[..],
        &server.port().to_be_bytes(),
        &8u16.to_be_bytes(),
        &[0; 2],
    ]
    .concat();
    match (client.ip(), server.ip()) {
        (IpAddr::V4(client), IpAddr::V4(server)) => Some(message_v4(client, server, &udp)),
        (IpAddr::V6(client), IpAddr::V6(server)) => Some(message_v6(client, server, &udp)),
        _ => None,
    }
}

/// RFC 792, destination unreachable; RFC 791, section 3.1, for what it quotes.
fn message_v4(client: Ipv4Addr, server: Ipv4Addr, udp: &[u8]) -> Vec<u8> {
    let length = (20 + udp.len() as u16).to_be_bytes();
    let mut ip = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, TTL, UDP, 0, 0];
    ip.extend(client.octets());
    ip.extend(server.octets());
    let sum = checksum(&ip).to_be_bytes();
    ip[10..12].copy_from_slice(&sum);
    let mut message = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &ip, udp].concat();
    let sum = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    message
}

/// RFC 4443, section 3.1; RFC 8200, section 3, for what it quotes.
fn message_v6(client: Ipv6Addr, server: Ipv6Addr, udp: &[u8]) -> Vec<u8> {
    let length = (udp.len() as u16).to_be_bytes();
    let ip =
        [&[0x60, 0, 0, 0, length[0], length[1], UDP, TTL][..], &client.octets(), &server.octets()];
    [&[1, 4, 0, 0, 0, 0, 0, 0][..], &ip.concat(), udp].concat()
}

/// RFC 1071, of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.as_chunks::<2>().0.iter().map(|word| u32::from(u16::from_be_bytes(*word)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_quotes_the_client_and_its_sums_are_right() {
        let (client, server) =
            ("192.0.2.7:4000".parse().unwrap(), "198.51.100.1:53".parse().unwrap());
        let message = message(client, server).unwrap();
        assert_eq!((message.len(), &message[..2]), (36, &[3, 3][..]));
        assert_eq!((checksum(&message), checksum(&message[8..28])), (0, 0));
        assert_eq!(message[20..28], [192, 0, 2, 7, 198, 51, 100, 1]);
        assert_eq!(message[28..32], [0x0f, 0xa0, 0, 53]);
    }

    #[test]
    fn there_are_no_more_messages_in_a_second_than_hosts_send() {
        let refuser = Refuser::default();
        assert_eq!((0..500).filter(|_| refuser.may(999)).count(), MOST as usize);
        assert!(refuser.may(1_000));
    }
}
