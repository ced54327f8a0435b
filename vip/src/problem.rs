//! What is not done as asked, why, and what to do about it.
//!
//! The object is left open: the caller knows whether a claim is a Service. `field` is a path in the spec for
//! pools, peers and advertisements (`spec.addresses[1]`), or the name of a field of [`Claim`](crate::Claim)
//! (`requested`, `pool`, `families`) that the caller translates.

pub use gatehouse_problem::Problem;
pub(crate) use gatehouse_problem::Severity;
