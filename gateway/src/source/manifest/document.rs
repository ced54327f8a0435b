//! One document of a manifest: where it begins, what it says it is, and typed values with a place for
//! every error.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::ManifestError;
use crate::source::{
    Kind,
    fields::{self, Unread, field_path},
};

/// What a text is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Yaml,
    Json,
}

/// The text of one document and its first line, counted from 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'t> {
    pub(super) text: &'t str,
    pub(super) line: u32,
    pub(super) format: Format,
}

/// What a document says it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Head {
    pub(super) api_version: String,
    pub(super) kind: String,
}

/// Splits a YAML stream at its markers (YAML 1.2 §9.1): `---` and `...` at the start of a line are
/// markers even inside block scalars, so no parser is needed. Documents without content are left out.
pub(super) fn split_yaml(text: &str) -> Vec<Text<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let (mut begin, mut first_line, mut offset) = (0, 1, 0);
    let mut push = |begin: usize, end: usize, line: u32| {
        let text = &text[begin..end];
        if has_content(text) {
            documents.push(Text { text, line, format: Format::Yaml });
        }
    };
    for (line, number) in text.split_inclusive('\n').zip(1u32..) {
        let end = offset + line.len();
        if is_marker(line, "---") {
            push(begin, offset, first_line);
            (begin, first_line) = (offset, number);
        } else if is_marker(line, "...") {
            push(begin, offset, first_line);
            (begin, first_line) = (end, number + 1);
        }
        offset = end;
    }
    push(begin, text.len(), first_line);
    documents
}

/// What is left of a stream that ends in the middle, and why.
pub(super) type Torn<'t> = (Text<'t>, ManifestError);

/// Splits a stream of JSON values; what is no JSON ends it, and comes with the error.
pub(super) fn split_json(text: &str) -> (Vec<Text<'_>>, Option<Torn<'_>>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>();
    let (mut begin, mut line) = (0, 1);
    while let Some(value) = stream.next() {
        if let Err(error) = value {
            let rest = Text { text: &text[begin..], line, format: Format::Json };
            let line = u32::try_from(error.line()).unwrap_or(u32::MAX).max(rest.line);
            let error = ManifestError::at(line - rest.line, without_place(&error.to_string()));
            return (documents, Some((rest, error)));
        }
        let end = stream.byte_offset();
        let skipped = text[begin..end].len() - text[begin..end].trim_start().len();
        line += newlines(&text[begin..begin + skipped]);
        let document = &text[begin + skipped..end];
        documents.push(Text { text: document, line, format: Format::Json });
        line += newlines(document);
        begin = end;
    }
    (documents, None)
}

/// Reads what a document says it is. Nearly every manifest names both fields at the start of a line,
/// which is found without parsing; everything else is parsed.
pub(super) fn head(text: &Text<'_>) -> Result<Head, ManifestError> {
    if let Some(head) = (text.format == Format::Yaml).then(|| quick_head(text.text)).flatten() {
        return Ok(head);
    }
    typed::<Head>(text, "").map_err(|error| match error.message.as_str() {
        "missing field `apiVersion`" | "missing field `kind`" => {
            let message = format!("{}: this is not a Kubernetes object", error.message);
            ManifestError { line: 0, field: String::new(), message, ..error }
        }
        _ => error,
    })
}

/// What a value says it is. One that does not say in which API may be meant in that which is read; the items of an
/// `IngressList` need not say anything.
pub(super) fn head_of(value: &Value, list: Option<&Head>) -> Option<Head> {
    let field = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    match (list, field("kind")) {
        (Some(list), _) => Some(item_head(value, list)),
        (None, Some(kind)) => {
            let known = || Kind::named(&kind).map(|kind| kind.api_version().to_owned());
            Some(Head { api_version: field("apiVersion").or_else(known)?, kind })
        }
        (None, None) => None,
    }
}

/// What an item of a list is, by its own words or those of the list.
pub(super) fn item_head(item: &Value, list: &Head) -> Head {
    let field = |name: &str| item.get(name).and_then(Value::as_str).map(str::to_owned);
    Head {
        api_version: field("apiVersion").unwrap_or_else(|| list.api_version.clone()),
        kind: field("kind").unwrap_or_else(|| list.kind.trim_end_matches("List").to_owned()),
    }
}

/// Fails if bytes of the document were no text.
pub(super) fn text(text: &Text<'_>) -> Result<(), ManifestError> {
    let Some((before, _)) = text.text.split_once(char::REPLACEMENT_CHARACTER) else {
        return Ok(());
    };
    let kind = quick_head(text.text).map(|head| head.kind).unwrap_or_default();
    let object = if kind.is_empty() { kind } else { name(&kind, metadata(text)) };
    Err(ManifestError {
        object,
        ..ManifestError::at(newlines(before), "not valid UTF-8".to_owned())
    })
}

/// Reads a document as a type; the line of an error counts from the first of the document, as 0.
pub(super) fn typed<T: DeserializeOwned>(text: &Text<'_>, kind: &str) -> Result<T, ManifestError> {
    watched(text, kind, &mut Vec::new())
}

/// The same, and what the type does not know.
pub(super) fn watched<T: DeserializeOwned>(
    text: &Text<'_>,
    kind: &str,
    unread: &mut Vec<Unread>,
) -> Result<T, ManifestError> {
    let (line, field, message) = match text.format {
        Format::Yaml => {
            let mut path = String::new();
            let read = serde_saphyr::with_deserializer_from_str_with_options(
                text.text,
                options(),
                |deserializer| {
                    let mut track = serde_path_to_error::Track::new();
                    let tracked = serde_path_to_error::Deserializer::new(deserializer, &mut track);
                    fields::read(tracked, unread).inspect_err(|_| path = field_path(&track.path()))
                },
            );
            let error = match read {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let line = error.location().map_or(1, |location| location.line().max(1));
            let message = without_place(&error.without_snippet().to_string());
            (line, path, in_our_words(&message))
        }
        Format::Json => {
            let mut deserializer = serde_json::Deserializer::from_str(text.text);
            let mut track = serde_path_to_error::Track::new();
            let tracked = serde_path_to_error::Deserializer::new(&mut deserializer, &mut track);
            let error = match fields::read(tracked, unread) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let path = field_path(&track.path());
            (error.line().max(1) as u64, path, without_place(&error.to_string()))
        }
    };
    let line = u32::try_from(line - 1).unwrap_or(u32::MAX);
    let object = if kind.is_empty() { String::new() } else { name(kind, metadata(text)) };
    Err(ManifestError { object, field, ..ManifestError::at(line, message) })
}

/// `Kind namespace/name` from whatever can be read of the metadata.
pub(super) fn name(kind: &str, metadata: Option<Value>) -> String {
    let part = |name: &str| {
        let value = metadata.as_ref().and_then(|metadata| metadata.get(name));
        value.and_then(Value::as_str).map(str::to_owned)
    };
    match (part("namespace"), part("name")) {
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
        (None, Some(name)) => format!("{kind} {name}"),
        _ => kind.to_owned(),
    }
}

/// Kubernetes reads `on`, `yes` and numbers as what they look like, and so do we: a text field that
/// holds one without quotes is an error there and here.
pub(super) fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        emit_comments: false,
        no_schema: true,
        with_snippet: false,
        // Manifests are the operator's own; a list of ten thousand objects is fine. What stays limited
        // is what aliases can blow up.
        budget: serde_saphyr::budget! {
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            max_depth: 200,
        },
    }
}

/// The metadata of a document, whatever else it is.
pub(super) fn metadata(text: &Text<'_>) -> Option<Value> {
    #[derive(Deserialize)]
    struct Named {
        metadata: Value,
    }
    let named: Named = match text.format {
        Format::Yaml => {
            let mut options = options();
            // Good enough for a name; the error that is being reported may be this very one.
            options.duplicate_keys = serde_saphyr::options::DuplicateKeyPolicy::LastWins;
            serde_saphyr::from_str_with_options(text.text, options).ok()?
        }
        Format::Json => serde_json::from_str(text.text).ok()?,
    };
    Some(named.metadata)
}

/// `apiVersion` and `kind` of a block mapping whose keys stand at the start of the line. `None` if there
/// is any doubt.
fn quick_head(text: &str) -> Option<Head> {
    let (mut api_version, mut kind) = (None, None);
    for line in text.lines() {
        let found = if let Some(rest) = line.strip_prefix("apiVersion:") {
            (&mut api_version, rest)
        } else if let Some(rest) = line.strip_prefix("kind:") {
            (&mut kind, rest)
        } else {
            continue;
        };
        let value = found.1.split(" #").next().unwrap_or_default().trim();
        let plain = !value.is_empty()
            && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./-".contains(&byte));
        if !plain || found.0.replace(value.to_owned()).is_some() {
            return None;
        }
    }
    Some(Head { api_version: api_version?, kind: kind? })
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn has_content(text: &str) -> bool {
    text.lines().any(|line| {
        let line = if is_marker(line, "---") { &line[3..] } else { line };
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#') && !line.starts_with('%')
    })
}

fn newlines(text: &str) -> u32 {
    u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX)
}

/// Without what the parser says to programmers.
fn in_our_words(message: &str) -> String {
    if let Some(value) = message
        .strip_prefix("The string value [")
        .and_then(|rest| rest.strip_suffix("] must be quoted"))
    {
        return format!(
            "{value} reads as a boolean or a number, so as a text it must be quoted: \"{value}\""
        );
    }
    if message.starts_with("cannot deserialize null into string") {
        return "nothing stands where a text is meant: write it, or \"\" if it is empty".to_owned();
    }
    let advice = [", set DuplicateKeyPolicy in Options if acceptable", "; use Option<String>"];
    advice.iter().fold(message.to_owned(), |message, advice| message.replace(advice, ""))
}

/// Both parsers end their messages with the place, which is told in another way here.
fn without_place(message: &str) -> String {
    let end = message.rfind(" at line ").unwrap_or(message.len());
    message[..end].to_owned()
}
