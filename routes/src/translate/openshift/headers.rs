//! `spec.httpHeaders.actions` of a Route: what the API allows, and the same as edits.

use std::collections::HashSet;

use http::{HeaderName, HeaderValue};

use super::{Refusal, invalid};
use crate::{
    filter::{
        Filter, answer_fields,
        header_edits::{Converter, HeaderEdit, HeaderEdits, HeaderText, Part, Sample},
    },
    openshift::{RouteHttpHeader, RouteHttpHeaders, TlsConfig},
};

/// Actions for each way at most.
const MAX_ACTIONS: usize = 20;
/// Longest name and longest value, in bytes.
const MAX_NAME: usize = 255;
const MAX_VALUE: usize = 16384;
/// Fields that other settings are about.
const RESERVED: [&str; 4] = ["strict-transport-security", "proxy", "cookie", "set-cookie"];

/// Which way a message goes.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Request,
    Response,
}

/// The filters that do what the actions say.
pub(super) fn filters(
    headers: Option<&RouteHttpHeaders>,
    tls: Option<&TlsConfig>,
) -> Result<Vec<Filter>, Refusal> {
    let Some(RouteHttpHeaders { actions }) = headers else { return Ok(Vec::new()) };
    if actions.request.is_empty() && actions.response.is_empty() {
        return Ok(Vec::new());
    }
    let termination = tls.and_then(|tls| tls.termination.as_deref()).unwrap_or_default();
    if termination.eq_ignore_ascii_case("passthrough") {
        let message =
            "Invalid value: header actions are not permitted when tls termination is passthrough";
        return Err(invalid("spec.httpHeaders.actions", message, "remove them"));
    }
    let request = edits(&actions.request, Way::Request)?;
    let response = edits(&actions.response, Way::Response)?;
    let request = (!request.is_empty()).then(|| Filter::EditRequest(request.into()));
    let response = (!response.is_empty()).then(|| Filter::EditResponse(response.into()));
    Ok(request.into_iter().chain(response).collect())
}

fn edits(actions: &[RouteHttpHeader], way: Way) -> Result<HeaderEdits, Refusal> {
    let list = match way {
        Way::Request => "spec.httpHeaders.actions.request",
        Way::Response => "spec.httpHeaders.actions.response",
    };
    if actions.len() > MAX_ACTIONS {
        let message = format!("Too many: {}: must have at most {MAX_ACTIONS} items", actions.len());
        return Err(invalid(list, message, "remove some"));
    }
    let mut names = HashSet::new();
    let edits = actions.iter().enumerate().map(|(at, action)| {
        let field = format!("{list}[{at}]");
        let edit = edit(action, way, &field)?;
        if !names.insert(edit.name.clone()) {
            let message = format!("Duplicate value: {:?}", action.name);
            return Err(invalid(format!("{field}.name"), message, "name each header once"));
        }
        Ok(edit)
    });
    edits.collect()
}

fn edit(action: &RouteHttpHeader, way: Way, field: &str) -> Result<HeaderEdit, Refusal> {
    let wrong = |part: &str, message: String, hint: &str| {
        Err(invalid(format!("{field}.{part}"), message, hint))
    };
    let text = &action.name;
    let name = HeaderName::from_bytes(text.as_bytes()).ok().filter(|_| text.len() <= MAX_NAME);
    let Some(name) = name else {
        let message = format!("Invalid value: {text:?}: is no name of a header");
        return wrong("name", message, "write a token of RFC 9110 of at most 255 characters");
    };
    if RESERVED.contains(&name.as_str()) {
        let message = format!(
            "Forbidden: the following headers may not be modified using this API: {}",
            RESERVED.join(", ")
        );
        return wrong("name", message, "remove the action");
    }
    if !answer_fields::may_be_set(&name) || name.as_str() == "gatehouse-hops" {
        let message = format!("Forbidden: {text} says where a message goes or ends");
        return wrong("name", message, "remove the action");
    }
    match (&*action.action.kind, &action.action.set) {
        ("Delete", None) => Ok(HeaderEdit { name, value: None }),
        ("Set", Some(set)) => match value(&set.value, way) {
            Ok(value) => Ok(HeaderEdit { name, value: Some(value) }),
            Err(why) => {
                let message = format!("Invalid value: {:?}: {why}", set.value);
                let hint = "write text with %% for a percent sign, and %[req.hdr(NAME)], %[res.hdr(NAME)] or \
                            %[ssl_c_der,base64]";
                wrong("action.set.value", message, hint)
            }
        },
        ("Set", None) => {
            let message =
                "Required value: set is required when type is Set, and forbidden otherwise";
            wrong("action.set", message.to_owned(), "say what the value is")
        }
        ("Delete", Some(_)) => {
            let message = "Forbidden: set is required when type is Set, and forbidden otherwise";
            wrong("action.set", message.to_owned(), "remove it")
        }
        (other, _) => {
            let message =
                format!("Unsupported value: {other:?}: supported values: \"Set\", \"Delete\"");
            wrong("action.type", message, "write Set or Delete")
        }
    }
}

/// A value as the edits have it; `Err`: why it is none.
fn value(text: &str, way: Way) -> Result<HeaderText, &'static str> {
    if text.is_empty() || text.len() > MAX_VALUE {
        return Err("must have 1 to 16384 characters");
    }
    let mut parts: Vec<Part> = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        plain.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            plain.push('%');
            rest = after;
            continue;
        }
        let (sample, after) = sample(after, way)?;
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain).into()));
        }
        parts.push(Part::Sample(sample));
        rest = after;
    }
    plain.push_str(rest);
    if plain.chars().any(char::is_control) || text.chars().any(char::is_control) {
        return Err("holds a control character");
    }
    if parts.is_empty() {
        let fixed = HeaderValue::from_str(&plain).map_err(|_| "is no value of a header")?;
        return Ok(HeaderText::Fixed(fixed));
    }
    if !plain.is_empty() {
        parts.push(Part::Text(plain.into()));
    }
    Ok(HeaderText::Made(parts.into()))
}

/// The sample behind a percent sign, and what follows it.
fn sample(text: &str, way: Way) -> Result<(Sample, &str), &'static str> {
    let unknown = "holds a percent sign that begins no permitted expression";
    let text = match text.strip_prefix('{') {
        None => text,
        Some(text) => {
            let (flags, text) = text.split_once('}').ok_or(unknown)?;
            for flag in flags.split(',') {
                // Quotation marks, hexadecimal numbers, escapes: HAProxy has them in logs, not in messages.
                if !matches!(flag.strip_prefix(['+', '-']).unwrap_or(flag), "Q" | "X" | "E") {
                    return Err("holds a flag that is none of Q, X and E");
                }
            }
            text
        }
    };
    let text = text.strip_prefix('[').ok_or(unknown)?;
    let (expression, rest) = text.split_once(']').ok_or("holds a '[' without its ']'")?;
    let mut words = expression.split(',');
    let fetch = words.next().unwrap_or_default();
    let converters = words.map(|word| match word {
        "lower" => Ok(Converter::Lower),
        "base64" => Ok(Converter::Base64),
        _ => Err("holds a converter that is neither lower nor base64"),
    });
    let converters = converters.collect::<Result<_, _>>()?;
    let (own, other) = match way {
        Way::Request => ("req.hdr(", "only req.hdr(NAME) and ssl_c_der can be used in a request"),
        Way::Response => ("res.hdr(", "only res.hdr(NAME) and ssl_c_der can be used in a response"),
    };
    let field = match fetch {
        "ssl_c_der" => None,
        _ => {
            let name =
                fetch.strip_prefix(own).and_then(|name| name.strip_suffix(')')).ok_or(other)?;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            let name = Some(name).filter(|name| name.bytes().all(plain));
            let name = name.and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok());
            Some(name.ok_or("names a header of other characters than letters, digits and hyphens")?)
        }
    };
    Ok((Sample { field, converters }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permitted_expressions_are_read_and_nothing_else_is() {
        for (text, request, response) in [
            ("DENY", true, true),
            ("a if b \"quoted\" 'x' {y} [z] # ; \\", true, true),
            ("100%%", true, true),
            ("%[req.hdr(Host)]", true, false),
            ("%[res.hdr(X-Value),lower]", false, true),
            ("%{+Q}[ssl_c_der,base64]", true, true),
            ("a %[req.hdr(a)] b %[req.hdr(b),base64,lower] %%", true, false),
            ("%{-Q,+X}[ssl_c_der]", true, true),
            ("%", false, false),
            ("%[src]", false, false),
            ("%[req.hdr(a b)]", false, false),
            ("%[req.hdr(a)", false, false),
            ("%[req.hdr(a),upper]", false, false),
            ("%{+R}[ssl_c_der]", false, false),
            ("%ci", false, false),
            ("a\nb", false, false),
            ("", false, false),
        ] {
            assert_eq!(value(text, Way::Request).is_ok(), request, "{text:?}");
            assert_eq!(value(text, Way::Response).is_ok(), response, "{text:?}");
        }
        assert_eq!(
            value("100%%", Way::Request),
            Ok(HeaderText::Fixed(HeaderValue::from_static("100%")))
        );
        assert!(value(&"x".repeat(MAX_VALUE + 1), Way::Request).is_err());
    }

    #[test]
    fn names_are_tokens_given_once_and_not_reserved() {
        let actions = |names: &[&str]| -> Vec<RouteHttpHeader> {
            let delete = |name: &&str| RouteHttpHeader {
                name: (*name).to_owned(),
                action: crate::openshift::RouteHttpHeaderAction {
                    kind: "Delete".into(),
                    set: None,
                },
            };
            names.iter().map(delete).collect()
        };
        let field =
            |names: &[&str]| edits(&actions(names), Way::Request).err().map(|one| one.field);
        assert_eq!(field(&["X-One", "x-two"]), None);
        for (names, at) in [
            (&["X-One", "x-one"][..], "[1].name"),
            (&["a b"], "[0].name"),
            (&[""], "[0].name"),
            (&["Cookie"], "[0].name"),
            (&["Strict-Transport-Security"], "[0].name"),
            (&["Content-Length"], "[0].name"),
            (&["Connection"], "[0].name"),
        ] {
            assert_eq!(
                field(names),
                Some(format!("spec.httpHeaders.actions.request{at}")),
                "{names:?}"
            );
        }
        let many: Vec<String> = (0..=MAX_ACTIONS).map(|n| format!("x-{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(field(&many).as_deref(), Some("spec.httpHeaders.actions.request"));
    }
}
