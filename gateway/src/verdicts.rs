//! What authentication services have said, where it counts for more than one request (`auth-cache-key`).
//!
//! Each worker remembers for itself: it holds nothing that another one waits for. What is remembered of an object dies
//! with its settings.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{Arc, Weak},
};

use foldhash::HashMap;
use gatehouse_routes::filter::authentication::Authentication;
use http::{HeaderName, HeaderValue, StatusCode};

use crate::worker::clock::Tick;

/// Answers remembered of one object, and of objects before those that are gone are looked for.
const KNOWN: usize = 4_096;
const OBJECTS: usize = 256;
/// Longest key and longest answer, in bytes.
const LONGEST: usize = 8 * 1024;

/// An answer, as far as it matters.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: StatusCode,
    /// Fields for the backend.
    pub(crate) copied: Vec<(HeaderName, HeaderValue)>,
    /// `WWW-Authenticate`.
    pub(crate) challenges: Vec<HeaderValue>,
    /// `Set-Cookie`.
    pub(crate) cookies: Vec<HeaderValue>,
}

/// What one worker remembers.
#[derive(Default)]
pub(crate) struct Verdicts {
    /// By the address of the settings, which the weak reference keeps from being used again.
    objects: RefCell<HashMap<usize, (Weak<Authentication>, Known)>>,
}

type Known = HashMap<Box<[u8]>, (Tick, Rc<Said>)>;

impl Verdicts {
    /// What was said about requests with this key.
    pub(crate) fn of(
        &self,
        asker: &Arc<Authentication>,
        key: &[u8],
        now: Tick,
    ) -> Option<Rc<Said>> {
        let objects = self.objects.borrow();
        let (_, known) = objects.get(&Arc::as_ptr(asker).addr())?;
        known.get(key).filter(|(until, _)| now < *until).map(|(_, said)| Rc::clone(said))
    }

    /// Remembers what was said.
    pub(crate) fn learn(
        &self,
        asker: &Arc<Authentication>,
        key: Vec<u8>,
        said: &Rc<Said>,
        (now, until): (Tick, Tick),
    ) {
        if key.len() > LONGEST || said.bytes() > LONGEST {
            return;
        }
        let mut objects = self.objects.borrow_mut();
        if objects.len() >= OBJECTS {
            objects.retain(|_, (asker, _)| asker.strong_count() > 0);
        }
        let new = || (Arc::downgrade(asker), Known::default());
        let (_, known) = objects.entry(Arc::as_ptr(asker).addr()).or_insert_with(new);
        if known.len() >= KNOWN {
            known.retain(|_, (until, _)| now < *until);
        }
        if known.len() < KNOWN {
            known.insert(key.into(), (until, Rc::clone(said)));
        }
    }
}

impl Said {
    fn bytes(&self) -> usize {
        let copied = self.copied.iter().map(|(name, value)| name.as_str().len() + value.len());
        copied.chain(self.challenges.iter().map(HeaderValue::len)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_for_its_object_and_key_until_its_time_is_over() {
        let said = |status| {
            let (copied, challenges, cookies) = Default::default();
            Rc::new(Said { status, copied, challenges, cookies })
        };
        let verdicts = Verdicts::default();
        let [one, other] = [(); 2].map(|()| Arc::new(Authentication::default()));
        verdicts.learn(&one, b"ann".to_vec(), &said(StatusCode::OK), (0, 10));
        let status =
            |asker, key: &str, now| verdicts.of(asker, key.as_bytes(), now).map(|said| said.status);
        assert_eq!(status(&one, "ann", 9), Some(StatusCode::OK));
        assert_eq!(status(&one, "ann", 10), None);
        assert_eq!(status(&one, "bob", 9), None);
        assert_eq!(status(&other, "ann", 9), None);
        verdicts.learn(&one, vec![0; LONGEST + 1], &said(StatusCode::OK), (0, 10));
        for number in 0..2 * KNOWN {
            verdicts.learn(&one, number.to_string().into_bytes(), &said(StatusCode::OK), (0, 10));
        }
        assert_eq!(
            verdicts.objects.borrow().values().map(|(_, known)| known.len()).sum::<usize>(),
            KNOWN
        );
        verdicts.learn(&one, b"new".to_vec(), &said(StatusCode::UNAUTHORIZED), (10, 20));
        assert_eq!(
            status(&one, "new", 11),
            Some(StatusCode::UNAUTHORIZED),
            "room is made for what counts"
        );
    }
}
