//! What can be read of a document that cannot be read as an object: everything but what is wrong with it.

use serde_json::Value;
use serde_saphyr::options::DuplicateKeyPolicy;

use super::document::{Format, Text, options};
use crate::source::salvage::Remains;

/// Lines that are given up one by one, before the part that can be read is searched for in halves.
const NEAR: usize = 40;

/// What can be read of a document; `line` is the one, counted from 0, at which the parser gave up.
pub(super) fn of(text: &Text<'_>, line: u32) -> Option<Remains> {
    match text.format {
        Format::Yaml => whole(text.text).or_else(|| cut(text.text, line)),
        Format::Json => match serde_json::from_str(text.text) {
            Ok(value) => Some(Remains { readings: vec![value], cut: false }),
            Err(_) => {
                let value = serde_json::from_str(&closed(text.text)).ok()?;
                Some(Remains { readings: vec![value], cut: true })
            }
        },
    }
}

/// A document without a fault of its syntax, whatever is said twice.
fn whole(text: &str) -> Option<Remains> {
    let mut readings = vec![lenient(text, DuplicateKeyPolicy::FirstWins)?];
    let last = lenient(text, DuplicateKeyPolicy::LastWins)?;
    if last != readings[0] {
        readings.push(last);
    }
    Some(Remains { readings, cut: false })
}

/// The longest part from the beginning that can be read.
fn cut(text: &str, line: u32) -> Option<Remains> {
    let ends = text.split_inclusive('\n').scan(0, |end, line| {
        *end += line.len();
        Some(*end)
    });
    let ends: Vec<usize> = ends.collect();
    let read = |lines: usize| {
        let end = *ends.get(lines.checked_sub(1)?)?;
        let part = whole(&text[..end])?;
        part.readings[0].is_object().then_some(part.readings)
    };
    let last = usize::try_from(line).map_or(ends.len(), |line| line.saturating_add(1));
    let last = last.min(ends.len());
    let near = last.saturating_sub(NEAR);
    let mut found = (near + 1..=last).rev().find_map(read);
    // A quote that is never closed is found at the end only: what comes before it can be read at any length.
    let (mut good, mut bad) = (0, near);
    while found.is_none() && good < bad {
        let middle = (good + bad).div_ceil(2);
        match read(middle) {
            Some(_) => good = middle,
            None => bad = middle - 1,
        }
    }
    if found.is_none() {
        found = read(good);
    }
    found.map(|readings| Remains { readings, cut: true })
}

/// A document as it looks, numbers and all.
fn lenient(text: &str, duplicate_keys: DuplicateKeyPolicy) -> Option<Value> {
    let mut options = options();
    options.duplicate_keys = duplicate_keys;
    options.no_schema = false;
    // A Service may be called `y`.
    options.strict_booleans = true;
    serde_saphyr::from_str_with_options(text, options).ok()
}

/// JSON that ends in the middle, closed after the last value that is there in whole.
fn closed(text: &str) -> String {
    let mut open: Vec<char> = Vec::new();
    let (mut end, mut closers) = (0, String::new());
    let (mut quoted, mut escaped) = (false, false);
    for (at, char) in text.char_indices() {
        if quoted {
            quoted = escaped || char != '"';
            escaped = char == '\\' && !escaped;
            continue;
        }
        let whole = match char {
            '"' => {
                quoted = true;
                continue;
            }
            '{' => {
                open.push('}');
                continue;
            }
            '[' => {
                open.push(']');
                continue;
            }
            '}' | ']' if open.last() == Some(&char) => {
                open.pop();
                at + 1
            }
            // What does not belong here is where it ends.
            '}' | ']' => break,
            ',' => at,
            _ => continue,
        };
        end = whole;
        closers = open.iter().rev().collect();
    }
    format!("{}{closers}", &text[..end])
}
