//! What requests of one worker keep of the live snapshot, counted by this thread alone.
//!
//! To clone an `Arc` is to write a cache line that all cores share, and a request that kept the whole snapshot
//! would keep it for as long as its answer takes. A request that has to remember a part takes a [`Handle`].

use std::{cell::RefCell, collections::HashMap, ops::Deref, rc::Rc, sync::Arc};

/// A worker's hold on something shared.
#[expect(
    clippy::redundant_allocation,
    reason = "the Rc is this thread's own count, so that workers do not share one"
)]
pub(crate) struct Handle<T>(Rc<Arc<T>>);

impl<T> Deref for Handle<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// The handles of one worker.
pub(crate) struct Handles<T> {
    known: RefCell<HashMap<*const T, Handle<T>, foldhash::fast::RandomState>>,
}

impl<T> Default for Handles<T> {
    fn default() -> Self {
        Self { known: RefCell::default() }
    }
}

impl<T> Handles<T> {
    /// This worker's handle of it.
    pub(crate) fn of(&self, shared: &Arc<T>) -> Handle<T> {
        let mut known = self.known.borrow_mut();
        let handle =
            known.entry(Arc::as_ptr(shared)).or_insert_with(|| Handle(Rc::new(Arc::clone(shared))));
        Handle(Rc::clone(&handle.0))
    }

    /// Lets go of what no request uses now: part of a retired snapshot, or soon found again.
    pub(super) fn forget(&self) {
        self.known.borrow_mut().retain(|_, handle| Rc::strong_count(&handle.0) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_share_one_count_and_what_none_of_them_uses_is_let_go() {
        let (shared, handles) = (Arc::new(7), Handles::default());
        let requests = [handles.of(&shared), handles.of(&shared)];
        assert_eq!((*requests[1], Arc::strong_count(&shared)), (7, 2), "one for the worker");
        handles.forget();
        assert_eq!(Arc::strong_count(&shared), 2, "a request uses it");
        drop(requests);
        handles.forget();
        assert_eq!(Arc::strong_count(&shared), 1);
    }
}
