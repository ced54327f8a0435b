//! Whether a backend is told by the PROXY protocol who its client is.

pub use gatehouse_proxy_protocol::Version as ProxyProtocol;
