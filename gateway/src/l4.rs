//! Connections and datagrams that are passed on as they are: bytes in, the same bytes out, by this process or by the kernel.

pub(crate) mod forward;
pub(crate) mod kernel;
mod pick;
mod pipe;
pub(crate) mod proxy_protocol;
pub(crate) mod relay;
pub(crate) mod udp;
