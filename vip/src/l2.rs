//! Addresses that nodes of one link share: which of them holds an address, how its neighbours hear of
//! it by ARP and NDP, and what happens to connections that are open when it moves.
//!
//! [`group`] elects one node for each address, [`vips`] says what that takes on the interfaces,
//! [`announce`] when to tell the neighbours, [`fence`] what keeps a kernel from answering for a process
//! that hangs, [`forward_old`] what becomes of connections that began on another node. All of it is pure
//! but for [`speaker`], the thread that carries it out.

pub(crate) mod announce;
pub(crate) mod arp;
pub(crate) mod claim;
pub(crate) mod fence;
pub(crate) mod forward_old;
pub(crate) mod group;
pub(crate) mod local_state;
pub(crate) mod ndp;
pub(crate) mod neighbour;
pub(crate) mod speaker;
pub(crate) mod vips;
