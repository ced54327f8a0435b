//! Socket options that neither the standard library nor socket2 has: TCP MD5 signatures, minimum
//! TTL, the saved SYN.
//!
//! `bgp` and `bfd` call this. It passes bytes to the kernel and decides nothing.

#![expect(unsafe_code, reason = "getsockopt and setsockopt of options that socket2 lacks")]

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
    os::fd::AsRawFd,
};

use libc::c_int;

/// `TCP_MD5SIG` with flags (Linux 4.13), and the flag for a prefix instead of an address; libc lacks
/// them.
const TCP_MD5SIG_EXT: c_int = 32;
const TCP_MD5SIG_FLAG_PREFIX: u8 = 1;

/// DSCP CS6, network control (RFC 4594 §3.1), as TOS or traffic class.
pub(super) const NETWORK_CONTROL: u32 = 0xc0;
/// `struct tcp_md5sig`: `sockaddr_storage`, flags, prefix length, key length, interface, key.
const MD5SIG_LEN: usize = 216;
const MD5SIG_FLAGS: usize = 128;
const MD5SIG_PREFIXLEN: usize = 129;
const MD5SIG_KEYLEN: usize = 130;
const MD5SIG_KEY: usize = 136;

/// `fe80::/10` (RFC 4291 §2.5.6).
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
const LINK_LOCAL_LEN: u8 = 10;

/// Sets an option to the bytes of its value.
pub(super) fn set(
    socket: &impl AsRawFd,
    level: c_int,
    option: c_int,
    value: &[u8],
) -> io::Result<()> {
    let len = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length are those of a slice that outlives the call, and the kernel
    // only reads from it.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value.as_ptr().cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets an option whose value is a number.
pub(super) fn set_number(
    socket: &impl AsRawFd,
    level: c_int,
    option: c_int,
    value: c_int,
) -> io::Result<()> {
    set(socket, level, option, &value.to_ne_bytes())
}

/// Gets an option into a buffer; the part of it that the kernel has filled.
pub(super) fn get<'a>(
    socket: &impl AsRawFd,
    level: c_int,
    option: c_int,
    value: &'a mut [u8],
) -> io::Result<&'a [u8]> {
    let mut len = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length are those of a slice that is ours to write for the time of
    // the call; the kernel writes at most `len` bytes and says how many.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, value.as_mut_ptr().cast(), &raw mut len)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value.get(..len as usize).unwrap_or_default())
}

/// From now on, drops packets of the connection that arrive with a lower TTL or hop limit.
pub(super) fn set_minimum_ttl(socket: &impl AsRawFd, v6: bool, ttl: u8) -> io::Result<()> {
    let (level, option) = match v6 {
        false => (libc::IPPROTO_IP, libc::IP_MINTTL),
        true => (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT),
    };
    set_number(socket, level, option, ttl.into())
}

/// Signs segments to a peer with a key, and takes only such as are signed with it (RFC 2385);
/// without a key: no longer. To forget a key that there is not is an error, `NotFound`.
pub(super) fn set_md5_key(socket: &impl AsRawFd, peer: IpAddr, key: &[u8]) -> io::Result<()> {
    let value = md5sig(peer, key).ok_or(io::ErrorKind::InvalidInput)?;
    set(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG, &value)
}

/// As [`set_md5_key`], for all link-local IPv6 addresses. The kernel does not tell interfaces apart here
/// (`TCP_MD5SIG_FLAG_IFINDEX` is for VRFs), so the socket has to be bound to one.
pub(super) fn set_link_md5_key(socket: &impl AsRawFd, key: &[u8]) -> io::Result<()> {
    let mut value = md5sig(LINK_LOCAL.into(), key).ok_or(io::ErrorKind::InvalidInput)?;
    value[MD5SIG_FLAGS] = TCP_MD5SIG_FLAG_PREFIX;
    value[MD5SIG_PREFIXLEN] = LINK_LOCAL_LEN;
    set(socket, libc::IPPROTO_TCP, TCP_MD5SIG_EXT, &value)
}

fn md5sig(peer: IpAddr, key: &[u8]) -> Option<[u8; MD5SIG_LEN]> {
    let mut value = [0; MD5SIG_LEN];
    match peer {
        IpAddr::V4(ip) => {
            value[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            value[4..8].copy_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            value[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            value[8..24].copy_from_slice(&ip.octets());
        }
    }
    let len = u16::try_from(key.len()).ok()?;
    value[MD5SIG_KEYLEN..MD5SIG_KEYLEN + 2].copy_from_slice(&len.to_ne_bytes());
    value.get_mut(MD5SIG_KEY..MD5SIG_KEY + key.len())?.copy_from_slice(key);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_longer_than_the_kernel_takes_is_no_request() {
        let peer = "192.0.2.1".parse().unwrap();
        assert!(md5sig(peer, &[b'x'; libc::TCP_MD5SIG_MAXKEYLEN]).is_some());
        assert!(md5sig(peer, &[b'x'; libc::TCP_MD5SIG_MAXKEYLEN + 1]).is_none());
        assert!(md5sig(peer, &[b'x'; 70_000]).is_none());
    }
}
