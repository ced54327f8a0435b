//! A name and a password with every request (RFC 7617).

use std::time::{Duration, Instant};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use gatehouse_routes::filter::{authentication::Basic, limit_key};
use http::{HeaderMap, HeaderValue, header};

use super::{Decision, FilterRequest, Own};
use crate::{
    http::error::ProxyErrorKind,
    passwords::{self, Asked},
};

/// Longest that a request waits for its password to be looked at.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of name and password.
const LONGEST: usize = 1_024;
/// Base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Lets users pass whose password is right.
pub(super) async fn check(
    basic: &Basic,
    request: &FilterRequest<'_>,
) -> Result<Decision, ProxyErrorKind> {
    let Some((user, password)) = credentials(request.headers) else {
        return Ok(Decision::Refuses(challenge(basic)));
    };
    let Some(hash) = basic.users.password_of(&user) else {
        return Ok(Decision::Refuses(challenge(basic)));
    };
    let worker = &request.conn.shared.worker;
    let mark = worker.options.passwords.mark(hash, &password);
    if worker.passwords().knows(&mark, worker.now()) {
        return Ok(Decision::Passes);
    }
    let client = limit_key::network(request.client());
    let asked = worker.options.passwords.ask(mark, client, hash, &password, Instant::now());
    let verdict = match asked {
        Asked::Known(verdict) => verdict,
        Asked::Wait(receiver) => match tokio::time::timeout(PATIENCE, receiver).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(_)) | Err(_) => passwords::Verdict::Late,
        },
        Asked::TooMany => {
            let fields = [(header::RETRY_AFTER, HeaderValue::from(1))].into_iter().collect();
            return Ok(Decision::Refuses(Own::Failure(ProxyErrorKind::TooManyRequests, fields)));
        }
        Asked::Full => passwords::Verdict::Late,
    };
    match verdict {
        passwords::Verdict::Right => {
            worker.passwords().learn(mark, worker.now());
            Ok(Decision::Passes)
        }
        passwords::Verdict::Wrong => Ok(Decision::Refuses(challenge(basic))),
        passwords::Verdict::Late => {
            worker.warn(|| tracing::warn!("more passwords are tried than can be looked at"));
            Err(ProxyErrorKind::AuthenticationBusy)
        }
    }
}

fn challenge(basic: &Basic) -> Own {
    let fields = [(header::WWW_AUTHENTICATE, basic.challenge.clone())].into_iter().collect();
    Own::Failure(ProxyErrorKind::Unauthorized, fields)
}

/// Name and password of a request; none if it shows anything but one of each.
fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    let (scheme, encoded) = field.as_bytes().split_at_checked("Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") || encoded.len() > LONGEST * 4 / 3 {
        return None;
    }
    let mut decoded = BASE64.decode(encoded.trim_ascii()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    // Some hashes end at a NUL: what is behind it would not count.
    if decoded.contains(&0) {
        return None;
    }
    let password = decoded.split_off(colon + 1);
    decoded.truncate(colon);
    Some((String::from_utf8(decoded).ok()?, password))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[&'static str]) -> Option<(String, String)> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::AUTHORIZATION, HeaderValue::from_static(field));
        }
        let (user, password) = credentials(&headers)?;
        Some((user, String::from_utf8(password).unwrap()))
    }

    #[test]
    fn a_name_ends_at_the_first_colon_and_anything_odd_is_no_name() {
        let known = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(read(&["Basic YW5uOnNlY3JldA=="]), known("ann", "secret"));
        assert_eq!(read(&["bAsIc YW5uOnNlY3JldA"]), known("ann", "secret"));
        assert_eq!(read(&["Basic YW5uOmE6Yg=="]), known("ann", "a:b"));
        assert_eq!(read(&["Basic OnNlY3JldA=="]), known("", "secret"));
        for fields in [
            &[][..],
            &["Basic"],
            &["Basic YW5u"],
            &["Basic !"],
            &["Bearer YW5uOnNlY3JldA=="],
            &["Basic YW5uOgBh"],
            &["Basic YW5uOnNlY3JldA==", "Basic YW5uOnNlY3JldA=="],
        ] {
            assert_eq!(read(fields), None, "{fields:?}");
        }
    }
}
