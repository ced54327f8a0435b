//! Connections that are passed on as they are: bytes in, the same bytes out.

pub(crate) mod forward;
mod pick;
mod pipe;
pub(crate) mod proxy_protocol;
pub(crate) mod relay;
