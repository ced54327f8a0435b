//! Whether a request goes on whose path holds an encoded slash (`%2F`, `%5C`).
//!
//! Rules take such a slash for a part of its segment (RFC 3986 §2.2). Many servers behind them decode it and
//! see a separator, and would answer for a path that the rules never looked at. The data path asks
//! [`admits`] once it has found the rule of such a request; `explain` asks the same.

use std::ptr;

use crate::{
    matcher::RequestView, options::EncodedSlashes, path, rule::RouteRule, table::RouteTable,
};

/// Whether a request whose path holds an encoded slash may go on to the rule that answers it.
pub fn admits(table: &RouteTable, request: &RequestView<'_>, rule: &RouteRule) -> bool {
    let keeps = match rule.encoded_slashes {
        EncodedSlashes::Reject => return false,
        EncodedSlashes::Keep => true,
        EncodedSlashes::Safe => false,
    };
    path::slash_readings(request.path).all(|reading| {
        let Ok(path) = reading else { return keeps };
        match table.lookup(&RequestView { path: &path, ..*request }) {
            Some(other) => {
                decide_alike(rule, other.rule)
                    || (keeps && other.rule.encoded_slashes == EncodedSlashes::Keep)
            }
            None => keeps,
        }
    })
}

/// Whether it makes no difference which of two rules answers.
fn decide_alike(a: &RouteRule, b: &RouteRule) -> bool {
    ptr::eq(a, b) || (a.filters == b.filters && a.action == b.action)
}

#[cfg(test)]
mod tests;
