//! What an operator may ask of a running node: health, readiness, metrics, status, what is live.
//!
//! [`server`] answers requests by functions that it is given; `pages` puts the answers together from what
//! the parts of the process know; [`status`] and [`metrics`] are their forms. Nothing here changes anything.

pub mod l4;
pub mod metrics;
pub(crate) mod pages;
pub mod server;
pub mod status;
