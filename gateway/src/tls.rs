//! TLS: what a ClientHello asks for, the configurations of handshakes with clients and with backends, certificates.

pub mod backends;
pub mod certs;
pub mod chain;
pub(crate) mod ciphers;
pub mod client_certificates;
pub(crate) mod client_hello;
pub(crate) mod config;
pub mod handshakes;
mod lifetime;
pub(crate) mod port;
pub mod profile;
pub(crate) mod tickets;
