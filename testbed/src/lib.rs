//! What the tests of all crates and the load runs are made of: network namespaces on a bridge, processes,
//! echo backends, clients, real routers, a real Kubernetes API and nodes for it.
//!
//! Used by the tests of `vip` and `gateway` and by `loadtest`; never by the product. It links against neither
//! of the other crates: a gateway or a speaker is a program that it starts. All traffic stays on loopback or
//! in namespaces that a run has made, and nothing of a run is left behind, also when it is killed ([`guard`]).

#![forbid(unsafe_code)]

pub mod capture;
pub mod certificate;
pub mod client;
pub mod cluster;
pub mod echo;
pub mod gatehouse;
pub mod group;
pub mod guard;
pub mod hostile_router;
pub mod hosts;
pub mod lan;
pub mod manifests;
pub mod namespace;
pub mod node;
pub mod ports;
pub mod prober;
pub mod process;
pub mod program;
pub mod routers;
pub mod switch;
pub mod wait;
