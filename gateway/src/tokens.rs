//! Whether a token (RFC 7519) is signed by a key that a rule believes.
//!
//! A signature is verified where its request is, as that takes less time than to ask another thread. What a worker has
//! found right it remembers for a minute, so that a client pays for each of its tokens once; times, issuer, audience
//! and all else that a rule demands are looked at with every request.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{Arc, Weak},
};

use foldhash::HashMap;
use gatehouse_routes::filter::authentication::jwt::{Algorithms, Claims, Fault, KeyText};

use crate::worker::clock::Tick;

mod keys;

pub(crate) use keys::KeySet;

/// How long a right token is remembered, in milliseconds.
const KEEP: Tick = 60_000;
/// Tokens remembered, and bytes of them.
const KNOWN: (usize, usize) = (4_096, 4 * 1024 * 1024);
/// Texts of keys remembered before those that no rule has any more are looked for.
const TEXTS: usize = 64;
/// Longest token.
const LONGEST: usize = 16 * 1024;

/// What one worker knows of keys and tokens.
#[derive(Default)]
pub(crate) struct Tokens {
    /// By the address of their text, which the weak reference keeps from being used again.
    given: RefCell<HashMap<usize, Given>>,
    right: RefCell<Right>,
}

/// A text of keys, and what it says.
type Given = (Weak<KeyText>, Arc<KeySet>);

/// Tokens that were right.
#[derive(Default)]
struct Right {
    tokens: HashMap<Box<[u8]>, Known>,
    bytes: usize,
}

struct Known {
    /// What it was verified by, which is not forgotten as long as this is not.
    keys: Arc<KeySet>,
    signed: keys::Signed,
    until: Tick,
}

impl Tokens {
    /// What a token says that one of these keys has signed.
    ///
    /// # Errors
    /// Why it does not count.
    pub(crate) fn verified(
        &self,
        keys: &Arc<KeySet>,
        algorithms: Algorithms,
        token: &[u8],
        now: Tick,
    ) -> Result<Rc<Claims>, Fault> {
        if token.len() > LONGEST {
            return Err(Fault::Malformed);
        }
        if let Some(known) = self.right.borrow().tokens.get(token)
            && Arc::ptr_eq(&known.keys, keys)
            && algorithms.allow(known.signed.algorithm)
            && now < known.until
        {
            return Ok(Rc::clone(&known.signed.claims));
        }
        let signed = keys.verify(token, algorithms)?;
        let claims = Rc::clone(&signed.claims);
        let known = Known { keys: Arc::clone(keys), signed, until: now + KEEP };
        self.right.borrow_mut().learn(token, known, now);
        Ok(claims)
    }

    /// The keys of a text.
    pub(crate) fn given(&self, text: &Arc<KeyText>) -> Arc<KeySet> {
        let at = Arc::as_ptr(text).addr();
        let mut given = self.given.borrow_mut();
        if let Some((_, keys)) = given.get(&at) {
            return Arc::clone(keys);
        }
        if given.len() >= TEXTS {
            given.retain(|_, (text, _)| text.strong_count() > 0);
        }
        let keys = Arc::new(KeySet::parse(&text.0));
        given.insert(at, (Arc::downgrade(text), Arc::clone(&keys)));
        keys
    }
}

impl Right {
    fn learn(&mut self, token: &[u8], known: Known, now: Tick) {
        let (count, bytes) = KNOWN;
        if self.tokens.len() >= count || self.bytes + token.len() > bytes {
            self.tokens.retain(|_, known| now < known.until);
            self.bytes = self.tokens.keys().map(|token| token.len()).sum();
        }
        if self.tokens.len() < count && self.bytes + token.len() <= bytes {
            let before = self.tokens.insert(token.into(), known);
            self.bytes += if before.is_none() { token.len() } else { 0 };
        }
    }
}

#[cfg(test)]
mod tests;
