//! TLS towards clients: what a ClientHello asks for, the configurations of handshakes, and certificates.

pub mod certs;
pub(crate) mod client_hello;
pub(crate) mod config;
