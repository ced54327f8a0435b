//! Where requests of `migrate --shadow` go, and how: in clear text, or by TLS under the name of each request's host.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use gatehouse_routes::model::Scheme;
use http::Uri;
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

use crate::tls::backends::outside;

/// The one address that requests go to.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    /// Whom to believe; `None`: clear text.
    tls: Option<Arc<ClientConfig>>,
}

/// A connection.
pub(super) trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

impl Place {
    /// Reads `http://HOST:PORT` or `https://HOST:PORT`. The certificates of an insecure one are not verified.
    ///
    /// # Errors
    /// Another URL, or one that is no address; no authorities to verify by.
    pub(super) fn parse(url: &str, insecure: bool) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("{url:?} is not a URL"))?;
        let (port, secure) = match uri.scheme_str() {
            Some("http") => (80, false),
            Some("https") => (443, true),
            _ => anyhow::bail!(
                "{url:?} does not begin with http:// or https://, and no other is spoken"
            ),
        };
        ensure!(
            matches!(uri.path(), "" | "/") && uri.query().is_none(),
            "{url:?} has a path: name the address alone"
        );
        let authority = uri.authority().with_context(|| format!("{url:?} names no host"))?;
        let name = authority.host().trim_start_matches('[').trim_end_matches(']');
        let found = (name, authority.port_u16().unwrap_or(port)).to_socket_addrs();
        let found = found.with_context(|| format!("{name} has no address"))?.next();
        let address = found.with_context(|| format!("{name} has no address"))?;
        let tls = secure.then(|| outside::client(insecure).map_err(anyhow::Error::msg));
        Ok(Self { address, tls: tls.transpose()? })
    }

    /// What requests come by there.
    pub(super) fn scheme(&self) -> Scheme {
        if self.tls.is_some() { Scheme::Https } else { Scheme::Http }
    }

    /// A connection for a request to `host`, which takes no longer than `patience` for each step.
    ///
    /// # Errors
    /// Nobody listens, or a host that TLS can have no name of. A certificate is looked at with the first byte.
    pub(super) fn open(&self, host: &str, patience: Duration) -> anyhow::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect_timeout(&self.address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(host.to_owned())
            .with_context(|| format!("{host:?} is no name that a server can have"))?;
        let connection = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
        Ok(Box::new(StreamOwned::new(connection, stream)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_address_is_ever_asked() {
        let address =
            |url: &str| Place::parse(url, true).map(|place| (place.address, place.scheme()));
        let is = |text: &str, scheme| (text.parse().unwrap(), scheme);
        assert_eq!(address("http://127.0.0.1:8080").unwrap(), is("127.0.0.1:8080", Scheme::Http));
        assert_eq!(address("http://[::1]/").unwrap(), is("[::1]:80", Scheme::Http));
        assert_eq!(address("https://127.0.0.1").unwrap(), is("127.0.0.1:443", Scheme::Https));
        for url in
            ["127.0.0.1:80", "ftp://127.0.0.1", "http://127.0.0.1/path", "http://127.0.0.1?q", ""]
        {
            assert!(address(url).is_err(), "{url}");
        }
    }
}
