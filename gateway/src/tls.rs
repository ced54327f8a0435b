//! TLS towards clients: certificates by server name, and the configurations that handshakes use.

pub mod certs;
pub(crate) mod config;
