//! Connections to endpoints: opened, kept and reused by one worker alone.

pub(crate) mod connect;
pub(crate) mod pool;
pub(crate) mod resolve;
