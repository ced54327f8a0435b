//! Fields of answers that an object sets.

use gatehouse_routes::filter::answer_fields::AnswerFields;
use http::HeaderMap;

/// Changes the fields of an answer.
pub(super) fn on_response(fields: &AnswerFields, headers: &mut HeaderMap) {
    for (name, value) in &fields.set {
        headers.insert(name, value.clone());
    }
}
