//! How many connections to endpoints one worker has open, and how many it may have.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
};

/// How many connections are open, idle ones included.
#[derive(Default)]
pub(super) struct Open {
    all: Cell<usize>,
    by_address: RefCell<HashMap<SocketAddr, usize, foldhash::fast::RandomState>>,
}

/// The right to have one connection open.
pub(crate) struct Permit {
    open: Rc<Open>,
    address: SocketAddr,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.open.all.set(self.open.all.get().saturating_sub(1));
        let mut by_address = self.open.by_address.borrow_mut();
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// Most connections of one worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Most {
    /// To all endpoints.
    pub(crate) all: usize,
    /// To one endpoint.
    pub(crate) each: usize,
}

impl Open {
    /// Connections that are open.
    pub(super) fn count(&self) -> usize {
        self.all.get()
    }

    /// Connections to an address that are open.
    pub(super) fn to(&self, address: SocketAddr) -> usize {
        self.by_address.borrow().get(&address).copied().unwrap_or(0)
    }

    /// One more connection to an address, if that is within bounds.
    pub(super) fn permit(self: &Rc<Self>, address: SocketAddr, most: Most) -> Option<Permit> {
        let here = self.to(address);
        if self.all.get() >= most.all || here >= most.each {
            return None;
        }
        self.all.set(self.all.get() + 1);
        *self.by_address.borrow_mut().entry(address).or_default() += 1;
        Some(Permit { open: Rc::clone(self), address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn connections_are_bounded_for_each_endpoint_and_in_all_until_they_end() {
        let (open, most) = (Rc::<Open>::default(), Most { all: 3, each: 2 });
        let mut held: Vec<_> = (0..2).map(|_| open.permit(at(1), most).unwrap()).collect();
        assert!(open.permit(at(1), most).is_none(), "no third one to the same endpoint");
        assert_eq!((open.to(at(1)), open.to(at(2))), (2, 0));
        held.push(open.permit(at(2), most).unwrap());
        assert!(open.permit(at(3), most).is_none(), "no fourth one in all");
        drop(held.remove(0));
        held.push(open.permit(at(1), most).unwrap());
        drop(held);
        assert_eq!((open.count(), open.by_address.borrow().len()), (0, 0));
    }
}
