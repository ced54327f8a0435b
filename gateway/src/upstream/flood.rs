//! Why a connection to an endpoint is ended: what it sends has no end, and answers nothing.

use std::{error::Error as _, io};

/// Most interim answers before one answer.
pub(super) const MOST: usize = 64;
/// Most bytes of them.
pub(super) const MOST_BYTES: usize = 64 * 1024;

/// An endpoint sends more than its requests are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flood {
    /// Interim answers; of HTTP/2, header blocks of any kind.
    #[error("more than {MOST} interim answers, or {MOST_BYTES} bytes of them, before an answer")]
    Interim,
    /// Frames of HTTP/2 that carry nothing.
    #[error(
        "HTTP/2 frames without end that carry nothing (PING, SETTINGS, WINDOW_UPDATE, empty DATA and the like)"
    )]
    Frames,
}

impl Flood {
    /// That of which an exchange over HTTP/1.1 has failed. The library of HTTP/2 keeps no more than the words of it:
    /// there [`super::connection::Upstream::flood`] knows.
    pub(super) fn cause_of(error: &hyper::Error) -> Option<Self> {
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        cause.and_then(io::Error::get_ref).and_then(|cause| cause.downcast_ref::<Self>()).copied()
    }
}
