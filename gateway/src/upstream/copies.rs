//! Copies of request bodies: what passes on to the backend is passed to a second reader as well, within bounds.
//!
//! The first reader is never held up. A second one that falls too far behind is broken off. Belongs to one worker;
//! `http/filter/mirror.rs` begins copies, a [`RequestBody`](super::request_body::RequestBody) has one of the two ends.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

/// Most copies of one worker that are under way.
pub(crate) const MAX_COPIES: usize = 256;
/// Most bytes that the reader of one copy may be behind.
const MAX_BEHIND: usize = 1024 * 1024;
/// The same for all copies of a worker.
const MAX_HELD: usize = 32 * 1024 * 1024;

/// What the copies of one worker take.
#[derive(Default)]
pub(crate) struct Copies {
    under_way: Cell<usize>,
    held: Cell<usize>,
}

/// The right to one copy, and how that has ended if it has before it was complete.
pub(crate) struct Place {
    copies: Rc<Copies>,
    ended: Rc<Cell<Option<CopyError>>>,
}

impl Copies {
    /// One more copy, if there are fewer than `most`.
    pub(crate) fn enter(self: &Rc<Self>, most: usize) -> Option<Place> {
        let under_way = self.under_way.get();
        (under_way < most.min(MAX_COPIES)).then(|| {
            self.under_way.set(under_way + 1);
            Place { copies: Rc::clone(self), ended: Rc::default() }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let under_way = &self.copies.under_way;
        under_way.set(under_way.get().saturating_sub(1));
    }
}

impl Place {
    /// The two ends of a body's copy.
    pub(super) fn channel(&self) -> (Tee, Copied) {
        let channel = Rc::new(Channel {
            copies: Rc::clone(&self.copies),
            ended: Rc::clone(&self.ended),
            parts: RefCell::default(),
            held: Cell::new(0),
            state: Cell::new(State::Open),
            waker: RefCell::default(),
        });
        (Tee(Rc::clone(&channel)), Copied(channel))
    }

    /// How the copy has ended, if it has before it was complete. Its reader may not get to know: who cannot write
    /// does not read.
    pub(crate) fn ended(&self) -> Option<CopyError> {
        self.ended.get()
    }
}

/// How a copy ends before it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CopyError {
    /// Its reader takes it too slowly.
    #[error("the reader of the copy is too slow")]
    Behind,
    /// The body itself has ended before it was complete.
    #[error("the body that is copied broke off")]
    BrokenOff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Complete,
    Ended(CopyError),
}

struct Channel {
    copies: Rc<Copies>,
    ended: Rc<Cell<Option<CopyError>>>,
    parts: RefCell<VecDeque<Bytes>>,
    held: Cell<usize>,
    state: Cell<State>,
    waker: RefCell<Option<Waker>>,
}

impl Channel {
    /// Bytes that come and go.
    fn hold(&self, bytes: usize) {
        self.held.set(self.held.get() + bytes);
        self.copies.held.set(self.copies.held.get() + bytes);
    }

    fn let_go(&self, bytes: usize) {
        self.held.set(self.held.get().saturating_sub(bytes));
        self.copies.held.set(self.copies.held.get().saturating_sub(bytes));
    }

    fn clear(&self) {
        self.parts.borrow_mut().clear();
        self.let_go(self.held.get());
    }

    fn enter(&self, state: State) {
        if self.state.get() == State::Open {
            self.state.set(state);
            if let State::Ended(error) = state {
                self.ended.set(Some(error));
                self.clear();
            }
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// The end of a body that passes on: it tells what has passed.
pub(super) struct Tee(Rc<Channel>);

impl Tee {
    /// A part has passed. The copy gets bytes of its own: a part may be a small piece of a large buffer.
    pub(super) fn pass(&self, part: &Bytes) {
        let channel = &self.0;
        // Without a reader there is no copy any more.
        if channel.state.get() != State::Open || Rc::strong_count(channel) == 1 {
            return;
        }
        let bytes = part.len();
        let behind = channel.held.get() + bytes > MAX_BEHIND;
        if behind || channel.copies.held.get() + bytes > MAX_HELD {
            return channel.enter(State::Ended(CopyError::Behind));
        }
        channel.hold(bytes);
        channel.parts.borrow_mut().push_back(Bytes::copy_from_slice(part));
        channel.wake();
    }

    /// All has passed.
    pub(super) fn end(&self) {
        self.0.enter(State::Complete);
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        self.0.enter(State::Ended(CopyError::BrokenOff));
    }
}

/// The end that reads the copy.
pub(crate) struct Copied(Rc<Channel>);

impl Copied {
    /// The next part, or the end.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<Option<Result<Bytes, CopyError>>> {
        let mut waker = self.0.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        if let Some(part) = self.0.parts.borrow_mut().pop_front() {
            self.0.let_go(part.len());
            return Poll::Ready(Some(Ok(part)));
        }
        match self.0.state.get() {
            State::Complete => Poll::Ready(None),
            State::Ended(error) => Poll::Ready(Some(Err(error))),
            State::Open => Poll::Pending,
        }
    }

    /// Whether all has been read.
    pub(super) fn is_end(&self) -> bool {
        self.0.state.get() == State::Complete && self.0.parts.borrow().is_empty()
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(copies: &Rc<Copies>) -> (Place, Tee, Copied) {
        let place = copies.enter(usize::MAX).unwrap();
        let (tee, copied) = place.channel();
        (place, tee, copied)
    }

    fn read(copied: &Copied) -> Poll<Option<Result<Bytes, CopyError>>> {
        copied.poll(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_copy_has_what_has_passed_and_ends_with_it() {
        let copies = Rc::default();
        let (_place, tee, copied) = begin(&copies);
        assert_eq!(read(&copied), Poll::Pending);
        tee.pass(&Bytes::from_static(b"one"));
        tee.pass(&Bytes::from_static(b"two"));
        tee.end();
        assert_eq!(read(&copied), Poll::Ready(Some(Ok(Bytes::from_static(b"one")))));
        assert!(!copied.is_end());
        drop(tee);
        assert_eq!(read(&copied), Poll::Ready(Some(Ok(Bytes::from_static(b"two")))));
        assert!(copied.is_end());
        assert_eq!((read(&copied), copies.held.get()), (Poll::Ready(None), 0));
    }

    #[test]
    fn a_reader_that_is_too_far_behind_is_broken_off_and_holds_nothing_any_more() {
        let copies = Rc::default();
        let (_place, tee, copied) = begin(&copies);
        let part = Bytes::from(vec![0; MAX_BEHIND / 2]);
        tee.pass(&part);
        tee.pass(&part);
        assert_eq!(copies.held.get(), MAX_BEHIND);
        tee.pass(&Bytes::from_static(b"x"));
        assert_eq!(
            (read(&copied), copies.held.get()),
            (Poll::Ready(Some(Err(CopyError::Behind))), 0)
        );
        tee.pass(&part);
        tee.end();
        assert_eq!(
            (read(&copied), copies.held.get()),
            (Poll::Ready(Some(Err(CopyError::Behind))), 0)
        );
    }

    #[test]
    fn all_copies_of_a_worker_share_one_bound() {
        let copies = Rc::default();
        let part = Bytes::from(vec![0; MAX_BEHIND]);
        let all: Vec<_> = (0..=MAX_HELD / MAX_BEHIND).map(|_| begin(&copies)).collect();
        all.iter().for_each(|(_, tee, _)| tee.pass(&part));
        let last = all.last().unwrap();
        assert_eq!(read(&last.2), Poll::Ready(Some(Err(CopyError::Behind))));
        assert_eq!(copies.held.get(), MAX_HELD);
        drop(all);
        assert_eq!((copies.held.get(), copies.under_way.get()), (0, 0));
    }

    #[test]
    fn a_body_that_breaks_off_breaks_its_copy_off_and_a_copy_without_a_reader_holds_nothing() {
        let copies = Rc::default();
        let (_place, tee, copied) = begin(&copies);
        tee.pass(&Bytes::from_static(b"half"));
        drop(tee);
        assert_eq!(read(&copied), Poll::Ready(Some(Err(CopyError::BrokenOff))));
        let (_place, tee, copied) = begin(&copies);
        drop(copied);
        tee.pass(&Bytes::from_static(b"x"));
        assert_eq!(copies.held.get(), 0);
    }

    #[test]
    fn there_are_as_many_copies_as_places() {
        let copies = Rc::<Copies>::default();
        let places: Vec<_> = (0..3).map_while(|_| copies.enter(2)).collect();
        assert_eq!(places.len(), 2);
        drop(places);
        assert!(copies.enter(2).is_some());
    }
}
