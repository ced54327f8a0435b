//! The cookies of a request (RFC 6265 §4.2, §5.4): found by name, and taken out.

use http::{HeaderMap, HeaderValue, header};

/// The values of a cookie, in the order of the request: the one of the longest path first.
pub fn values<'h>(headers: &'h HeaderMap, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    let fields = headers.get_all(header::COOKIE).iter();
    let pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| value_of(pair, name))
}

/// Takes every cookie of a name out of a request.
pub fn remove(headers: &mut HeaderMap, name: &str) {
    if values(headers, name).next().is_none() {
        return;
    }
    let mut kept: Vec<HeaderValue> = Vec::new();
    for field in headers.get_all(header::COOKIE) {
        let pairs = field.as_bytes().split(|byte| *byte == b';');
        let pairs = pairs.filter(|pair| value_of(pair, name).is_none()).map(<[u8]>::trim_ascii);
        let rest: Vec<&[u8]> = pairs.filter(|pair| !pair.is_empty()).collect();
        kept.extend(
            HeaderValue::from_bytes(&rest.join(&b"; "[..])).ok().filter(|it| !it.is_empty()),
        );
    }
    headers.remove(header::COOKIE);
    for field in kept {
        headers.append(header::COOKIE, field);
    }
}

fn value_of<'h>(pair: &'h [u8], name: &str) -> Option<&'h [u8]> {
    let pair = pair.trim_ascii();
    let at = pair.iter().position(|byte| *byte == b'=')?;
    (&pair[..at] == name.as_bytes()).then_some(&pair[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[&'static str]) -> HeaderMap {
        fields.iter().map(|field| (header::COOKIE, HeaderValue::from_static(field))).collect()
    }

    #[test]
    fn every_value_of_a_name_is_found_and_no_other() {
        let fields = headers(&["a=1; sid=x;sid=y ; xsid=no", "sid", "b=sid; sid=z=1"]);
        let found: Vec<_> = values(&fields, "sid").collect();
        assert_eq!(found, [&b"x"[..], b"y", b"z=1"]);
    }

    #[test]
    fn what_is_taken_out_leaves_the_rest_as_it_was() {
        for (before, after) in [
            (&["a=1; sid=x; b=2"][..], &["a=1; b=2"][..]),
            (&["sid=x"], &[]),
            (&["a=1", "sid=x; b"], &["a=1", "b"]),
            (&["a=1;b=2"], &["a=1;b=2"]),
        ] {
            let mut fields = headers(before);
            remove(&mut fields, "sid");
            assert_eq!(fields, headers(after), "{before:?}");
        }
    }
}
