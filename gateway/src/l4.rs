//! Connections that are passed on as they are: bytes in, the same bytes out.

pub(crate) mod proxy_protocol;
