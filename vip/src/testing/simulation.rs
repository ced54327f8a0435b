//! Groups of 2 to 50 nodes in virtual time, on a network and on hosts that misbehave.
//!
//! Everything follows from a seed, so that what went wrong once can be seen again; `tests` says
//! which seeds run and how to run one. The real [`Group`](crate::l2::group::Group) decides; [`world`] is what it
//! lives in: hosts whose processes hang and die while their kernels go on answering, and a network
//! that loses, delays, reorders, doubles and cuts. [`story`] is what happens to them, and what has
//! to be true whatever happens.

mod story;
mod world;

mod tests;
