//! Where to listen, as a person writes it: an address and a port, or a port of every address.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use super::Settings;

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

/// Whether two sockets would have connections in common. Those of IPv6 are for IPv6 only.
pub(crate) fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let every = |address: SocketAddr| address.ip().is_unspecified();
    let same = a.ip() == b.ip() || every(a) || every(b);
    a.port() == b.port() && a.port() != 0 && a.is_ipv4() == b.is_ipv4() && same
}

impl Settings {
    /// Fails if two flags name one place to listen: SO_REUSEPORT would let both in, and each would get a part of the
    /// connections.
    pub fn listens_once(&self) -> anyhow::Result<()> {
        let (http, https) = (self.http_addresses(), self.https_addresses());
        let pages = |address: SocketAddr| match address.ip() {
            // One socket of both families.
            IpAddr::V6(ip) if ip.is_unspecified() => {
                vec![address, SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()))]
            }
            _ => vec![address],
        };
        let flags = [("--http", http), ("--https", https), ("--admin", pages(self.admin))];
        let metrics = self.metrics.map(|address| ("--metrics", pages(address)));
        let flags: Vec<_> = flags.into_iter().chain(metrics).collect();
        for (at, (flag, addresses)) in flags.iter().enumerate() {
            for (other, others) in &flags[at + 1..] {
                let same =
                    |address: &&SocketAddr| others.iter().any(|other| overlap(**address, *other));
                if let Some(address) = addresses.iter().find(same) {
                    anyhow::bail!(
                        "{flag} {address} and {other} listen on the same port of the same address: choose another \
                         port for one of them"
                    );
                }
            }
        }
        Ok(())
    }
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
    use crate::cli::{Command, try_parse};

    fn settings(arguments: &str) -> Settings {
        let words = "gatehouse run --manifests x".split(' ').chain(arguments.split_whitespace());
        match try_parse(words).unwrap() {
            Command::Run(settings) => *settings,
            other => panic!("{other:?}"),
        }
    }

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

    #[test]
    fn two_flags_do_not_listen_on_one_port() {
        for (arguments, refused) in [
            ("--http 127.0.0.1:80 --https 127.0.0.1:443", ""),
            ("--http 127.0.0.1:80 --http 127.0.0.1:80", ""),
            ("--http 127.0.0.1:80 --https 127.0.0.2:80", ""),
            ("--http 127.0.0.1:0 --https 127.0.0.1:0", ""),
            ("--http 127.0.0.1:80 --https [::1]:80", ""),
            ("--http 127.0.0.1:80 --https 127.0.0.1:80", "--https"),
            ("--http :80 --https 10.0.0.1:80", "--https"),
            ("--http 127.0.0.1:9901", "--admin"),
            ("--http 127.0.0.1:80 --admin :80", "--admin"),
            ("--https 127.0.0.1:443 --metrics 127.0.0.1:443", "--metrics"),
            ("--metrics :9901", "--metrics"),
            ("--https 127.0.0.1:8443 --http 127.0.0.1:8080", ""),
        ] {
            let said = settings(arguments).listens_once().map_err(|error| error.to_string());
            match said {
                Ok(()) => assert_eq!(refused, "", "{arguments}"),
                Err(said) => {
                    assert!(!refused.is_empty() && said.contains(refused), "{arguments}: {said}")
                }
            }
        }
    }

    #[test]
    fn threads_are_a_number_that_a_machine_may_have() {
        assert_eq!(settings("--threads 1024").threads, 1024);
        for count in ["1025", "65536", "-1", "many"] {
            let words = ["gatehouse", "run", "--manifests", "x", "--threads", count];
            assert!(try_parse(words).unwrap_err().to_string().contains(count), "{count}");
        }
    }
}
