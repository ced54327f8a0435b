//! Changes to header fields that an object spells out one by one, with values made of text and of what the message
//! itself holds (`spec.httpHeaders.actions` of a Route).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};

/// What is done to a message, in this order.
pub type HeaderEdits = Box<[HeaderEdit]>;

/// What is done to one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderEdit {
    /// Its name.
    pub name: HeaderName,
    /// Its new value; `None`: it goes.
    pub value: Option<HeaderText>,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderText {
    /// The same for every message.
    Fixed(HeaderValue),
    /// Put together for each.
    Made(Box<[Part]>),
}

/// A part of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// As it stands.
    Text(Box<str>),
    /// What the message holds.
    Sample(Sample),
}

/// What is taken out of a message, and what is made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The field that it is taken of; `None`: the certificate that the client has shown, as DER.
    pub field: Option<HeaderName>,
    /// One after the other.
    pub converters: Box<[Converter]>,
}

/// What is made of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Converter {
    /// In lower case.
    Lower,
    /// In base64 (RFC 4648 §4).
    Base64,
}

/// Changes the fields of a message. A value that no field may have takes the field away.
pub fn apply(edits: &[HeaderEdit], certificate: &[u8], headers: &mut HeaderMap) {
    for edit in edits {
        let value = edit.value.as_ref().and_then(|value| value.of(headers, certificate));
        match value {
            Some(value) => drop(headers.insert(&edit.name, value)),
            None => drop(headers.remove(&edit.name)),
        }
    }
}

impl HeaderText {
    fn of(&self, headers: &HeaderMap, certificate: &[u8]) -> Option<HeaderValue> {
        let parts = match self {
            Self::Fixed(value) => return Some(value.clone()),
            Self::Made(parts) => parts,
        };
        let mut text = Vec::new();
        for part in parts {
            match part {
                Part::Text(part) => text.extend_from_slice(part.as_bytes()),
                Part::Sample(sample) => sample.append(headers, certificate, &mut text),
            }
        }
        HeaderValue::from_bytes(&text).ok()
    }
}

impl Sample {
    fn append(&self, headers: &HeaderMap, certificate: &[u8], out: &mut Vec<u8>) {
        let found = match &self.field {
            Some(name) => last(headers, name),
            None => certificate,
        };
        let mut value = found.to_vec();
        for converter in &self.converters {
            match converter {
                Converter::Lower => value.make_ascii_lowercase(),
                Converter::Base64 => value = STANDARD.encode(&value).into_bytes(),
            }
        }
        out.extend_from_slice(&value);
    }
}

/// The last of the values of a field that commas separate, as HAProxy's `req.hdr` takes it.
fn last<'m>(headers: &'m HeaderMap, name: &HeaderName) -> &'m [u8] {
    let field = headers.get_all(name).iter().next_back().map_or(&b""[..], HeaderValue::as_bytes);
    field.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(field: Option<&'static str>, converters: &[Converter]) -> Part {
        let field = field.map(HeaderName::from_static);
        Part::Sample(Sample { field, converters: converters.into() })
    }

    #[test]
    fn a_value_is_made_of_text_and_of_what_the_message_holds() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("One, TWO"));
        headers.append("x-a", HeaderValue::from_static("three,Fo\"ur"));
        for (part, expected) in [
            (Part::Text("plain".into()), "plain"),
            (sample(Some("x-a"), &[]), "Fo\"ur"),
            (sample(Some("x-a"), &[Converter::Lower]), "fo\"ur"),
            (sample(Some("x-none"), &[]), ""),
            (sample(None, &[Converter::Base64]), "AAH/"),
            (sample(None, &[]), "gone"),
        ] {
            let value = Some(HeaderText::Made([part].into()));
            let mut edited = headers.clone();
            edited.insert("x-b", HeaderValue::from_static("old"));
            let edit = HeaderEdit { name: HeaderName::from_static("x-b"), value };
            apply(&[edit], &[0, 1, 255], &mut edited);
            let found = edited.get("x-b").map_or("gone", |value| value.to_str().unwrap());
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn edits_see_what_those_before_them_did() {
        let name = HeaderName::from_static;
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_static("1"));
        let copy = HeaderText::Made([sample(Some("x-a"), &[])].into());
        let fixed = HeaderText::Fixed(HeaderValue::from_static("2"));
        let edits = [
            HeaderEdit { name: name("x-a"), value: Some(fixed) },
            HeaderEdit { name: name("x-b"), value: Some(copy) },
            HeaderEdit { name: name("x-a"), value: None },
        ];
        apply(&edits, b"", &mut headers);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["x-b"], "2");
    }
}
