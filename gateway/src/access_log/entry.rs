//! What is said about one request: the values that formats choose from.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use gatehouse_routes::objects::{ObjectKey, ObjectRef};

/// One request and its answer.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// When it was over.
    pub time: SystemTime,
    /// Who sent it, as far as it can be believed; the port is that of the connection.
    pub client: SocketAddr,
    /// Where it came in.
    pub local: SocketAddr,
    /// Method.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Host as received, without port.
    pub host: &'a [u8],
    /// Raw path.
    pub path: &'a [u8],
    /// Raw query, without question mark.
    pub query: Option<&'a [u8]>,
    /// HTTP version of the request.
    pub version: http::Version,
    /// Version of TLS, such as `TLSv1.3`, if it came over TLS.
    pub tls: Option<&'static str>,
    /// Name that the client asked for in the TLS handshake.
    pub server_name: Option<&'a str>,
    /// Status of the answer; 0 if the client went away before one.
    pub status: u16,
    /// Status of the backend's answer, if it gave one.
    pub upstream_status: Option<u16>,
    /// Bytes of the request's body, or from the client of a tunnel.
    pub bytes_in: u64,
    /// Bytes of the answer's body, or to the client of a tunnel.
    pub bytes_out: u64,
    /// From the head of the request to the end of the answer.
    pub duration: Duration,
    /// The object whose rule answered.
    pub route: Option<&'a ObjectRef>,
    /// The Service that it was sent to.
    pub backend: Option<&'a ObjectKey>,
    /// The address that it was sent to.
    pub endpoint: Option<SocketAddr>,
    /// From sending it on to the head of the backend's answer.
    pub upstream: Option<Duration>,
    /// How often it was sent again.
    pub retries: u32,
    /// Why we answered ourselves; empty if the backend answered.
    pub error: &'static str,
    /// Value of `X-Request-ID`.
    pub request_id: &'a [u8],
    /// Value of `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// Value of `Referer`.
    pub referer: Option<&'a [u8]>,
    /// Value of `Authorization`, if a format names its user.
    pub authorization: Option<&'a [u8]>,
}
