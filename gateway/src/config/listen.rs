//! Where to listen, as a person writes it: an address and a port, or a port of every address.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

/// The value of `--http` or `--https`: `10.0.0.1:80`, `[::1]:80`, or `:80` for every address of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen(Vec<SocketAddr>);

impl Listen {
    /// What it stands for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.0
    }
}

/// Reads the value of `--http` or `--https`.
pub(crate) fn listen(text: &str) -> Result<Listen, String> {
    read(text, has_ipv6()).map(Listen)
}

/// Reads the value of `--admin` or `--metrics`: one socket, that of both families where a port stands alone.
pub(crate) fn socket(text: &str) -> Result<SocketAddr, String> {
    read(text, has_ipv6()).map(|addresses| addresses[addresses.len() - 1])
}

/// Never empty; IPv4 first.
fn read(text: &str, ipv6: bool) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    let refusal = || {
        format!(
            "\"{text}\" is not an address and a port, such as 192.0.2.1:80 or [2001:db8::1]:80, nor a port \
             of every address, such as :80"
        )
    };
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port: u16 = port.parse().map_err(|_| refusal())?;
    let (v4, v6) = match host {
        "" | "*" => (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
        "localhost" => (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
        _ => return Err(refusal()),
    };
    let ips = [Some(IpAddr::V4(v4)), ipv6.then_some(IpAddr::V6(v6))];
    Ok(ips.into_iter().flatten().map(|ip| SocketAddr::new(ip, port)).collect())
}

/// Whether the kernel has IPv6: without it, nothing can be opened there.
fn has_ipv6() -> bool {
    Path::new("/proc/net/if_inet6").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str, ipv6: bool) -> String {
        let addresses = read(text, ipv6).unwrap();
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_port_alone_is_that_of_every_address() {
        for (text, expected) in [
            (":80", "0.0.0.0:80 [::]:80"),
            ("*:443", "0.0.0.0:443 [::]:443"),
            ("8080", "0.0.0.0:8080 [::]:8080"),
            ("localhost:80", "127.0.0.1:80 [::1]:80"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
        ] {
            assert_eq!(addresses(text, true), expected, "{text}");
        }
        assert_eq!(addresses(":80", false), "0.0.0.0:80", "a kernel without IPv6");
    }

    #[test]
    fn what_is_neither_is_refused_with_what_would_do() {
        for text in ["", ":", ":http", ":65536", "example.test:80", "10.0.0.1", "::1", "[::1]"] {
            let refusal = read(text, true).unwrap_err();
            assert!(
                refusal.contains(&format!("\"{text}\"")) && refusal.contains(":80"),
                "{refusal}"
            );
        }
    }
}
