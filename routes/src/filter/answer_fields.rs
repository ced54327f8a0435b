//! What is changed about the fields of answers.

use http::{HeaderName, HeaderValue, header};

/// Changes to the fields of every answer that a rule gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerFields {
    /// Fields that the answer has instead of its own ones of the same name.
    pub set: Vec<(HeaderName, HeaderValue)>,
}

/// Whether an object may set a field of answers: those that say how long a message is and what becomes of the
/// connection are the gateway's.
pub(crate) fn may_be_set(name: &HeaderName) -> bool {
    const OWN: [HeaderName; 9] = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::HOST,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    !OWN.contains(name)
}
