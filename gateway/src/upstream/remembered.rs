//! What has passed of a body, so that an endpoint after the first can have it, too.
//!
//! An endpoint that ends a connection of HTTP/2 refuses the requests that are on their way, whatever of their bodies has
//! left already (RFC 9113 §6.8, §8.7): nginx does so after every `keepalive_requests`. A client sends its body once.
//! Belongs to one worker.

use std::{
    cell::{Cell, RefCell},
    task::{Context, Poll},
};

use bytes::Bytes;

/// Of a body that is longer nothing is remembered, bytes.
const MOST: usize = 64 * 1024;

/// A body `B` that passes, and its beginning. Its readers have turns, of which the latest one counts.
pub(super) struct Remembered<B> {
    body: RefCell<B>,
    parts: RefCell<Vec<Bytes>>,
    /// Bytes of the parts.
    bytes: Cell<usize>,
    /// Parts that the present reader has got.
    at: Cell<usize>,
    turn: Cell<u32>,
    forgotten: Cell<bool>,
}

impl<B> Remembered<B> {
    pub(super) fn new(body: B) -> Self {
        Self {
            body: RefCell::new(body),
            parts: RefCell::default(),
            bytes: Cell::new(0),
            at: Cell::new(0),
            turn: Cell::new(0),
            forgotten: Cell::new(false),
        }
    }

    /// The body itself, when nobody reads it any more.
    pub(super) fn into_body(self) -> B {
        self.body.into_inner()
    }

    /// Whether a reader has the word.
    pub(super) fn is_turn(&self, turn: u32) -> bool {
        self.turn.get() == turn
    }

    /// Begins anew, for another reader. False: not all that has passed is remembered.
    pub(super) fn begin(&self, turn: u32) -> bool {
        let can = !self.forgotten.get();
        if can {
            self.turn.set(turn);
            self.at.set(0);
        }
        can
    }

    /// The next part that has passed before.
    pub(super) fn passed(&self) -> Option<Bytes> {
        let part = self.parts.borrow().get(self.at.get()).cloned()?;
        self.at.set(self.at.get() + 1);
        Some(part)
    }

    /// Bytes that have passed before and are to come again.
    pub(super) fn left(&self) -> u64 {
        let parts = self.parts.borrow();
        let left = parts.get(self.at.get()..).unwrap_or_default();
        left.iter().map(|part| part.len() as u64).sum()
    }

    /// What comes of the body itself.
    pub(super) fn poll<P>(
        &self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut B, &mut Context<'_>) -> Poll<P>,
    ) -> Poll<P> {
        poll(&mut self.body.borrow_mut(), cx)
    }

    /// What is to be known of the body.
    pub(super) fn ask<T>(&self, ask: impl FnOnce(&B) -> T) -> T {
        ask(&self.body.borrow())
    }

    /// A part has passed for the first time.
    pub(super) fn remember(&self, part: &Bytes) {
        if self.forgotten.get() {
            return;
        }
        self.bytes.set(self.bytes.get() + part.len());
        if self.bytes.get() > MOST {
            return self.forget();
        }
        self.parts.borrow_mut().push(part.clone());
        self.at.set(self.at.get() + 1);
    }

    /// More than data has passed.
    pub(super) fn forget(&self) {
        self.forgotten.set(true);
        self.parts.take();
        self.at.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(body: &Remembered<()>) -> Vec<Bytes> {
        std::iter::from_fn(|| body.passed()).collect()
    }

    #[test]
    fn a_reader_that_begins_anew_gets_what_has_passed() {
        let body = Remembered::new(());
        body.remember(&Bytes::from_static(b"one "));
        body.remember(&Bytes::from_static(b"two"));
        assert_eq!((again(&body), body.left()), (Vec::new(), 0), "the first reader has it");
        assert!(body.begin(1));
        assert!(!body.is_turn(0) && body.is_turn(1));
        assert_eq!(body.left(), 7);
        assert_eq!(body.passed().unwrap(), "one ");
        assert!(body.begin(2));
        assert_eq!(again(&body), ["one ", "two"]);
        body.remember(&Bytes::from_static(b" three"));
        assert!(body.begin(3));
        assert_eq!(again(&body), ["one ", "two", " three"]);
    }

    #[test]
    fn nobody_begins_anew_behind_a_long_body_or_trailers() {
        let long = Remembered::new(());
        long.remember(&Bytes::from(vec![0; MOST]));
        long.remember(&Bytes::from_static(b"x"));
        assert!(!long.begin(1) && long.is_turn(0) && again(&long).is_empty());
        let trailed = Remembered::new(());
        trailed.remember(&Bytes::from_static(b"x"));
        trailed.forget();
        trailed.remember(&Bytes::from_static(b"y"));
        assert!(!trailed.begin(1) && again(&trailed).is_empty());
    }
}
