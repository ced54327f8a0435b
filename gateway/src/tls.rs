//! TLS: what a ClientHello asks for, the configurations of handshakes with clients and with backends, certificates.

pub mod backends;
pub mod certs;
pub mod chain;
pub(crate) mod client_hello;
pub(crate) mod config;
mod port;
