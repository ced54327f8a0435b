//! Another node of the group, as the command line names it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

/// A node that multicast does not reach: `ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    address: IpAddr,
    port: Option<u16>,
}

impl Peer {
    /// Where its heartbeats go.
    pub(crate) fn socket(self, default_port: u16) -> SocketAddr {
        SocketAddr::new(self.address, self.port.unwrap_or(default_port))
    }
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let address = bare.parse::<IpAddr>().map(|address| Self { address, port: None });
        let peer = address.or_else(|_| {
            let socket = text.parse::<SocketAddr>();
            socket.map(|socket| Self { address: socket.ip(), port: Some(socket.port()) })
        });
        match peer {
            Ok(Self { address, port })
                if port != Some(0) && !address.is_unspecified() && !address.is_multicast() =>
            {
                Ok(Self { address: address.to_canonical(), port })
            }
            _ => Err(format!(
                "\"{text}\" is not the address of a node, such as 192.0.2.11, 192.0.2.11:7471 or \
                 [2001:db8::11]:7471"
            )),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_of_a_node_is_no_peer() {
        for text in
            ["", "node-2", "192.0.2.1:0", "192.0.2.1:x", "0.0.0.0", "ff02::1", "224.0.0.1:9"]
        {
            let refusal = text.parse::<Peer>().unwrap_err();
            assert!(refusal.starts_with(&format!("\"{text}\" is not the address")), "{refusal}");
        }
        assert_eq!("[fd00::1]".parse::<Peer>().unwrap().to_string(), "fd00::1");
        assert_eq!("::ffff:192.0.2.1".parse::<Peer>().unwrap().to_string(), "192.0.2.1");
    }
}
