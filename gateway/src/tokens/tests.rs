use gatehouse_routes::filter::authentication::jwt::Algorithm;

use super::*;

/// RFC 7515 §A.1: a key for HMAC and what it has signed.
const KEY: &str = r#"{"keys": [{"kty": "oct", "k":
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}]}"#;
const TOKEN: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly\
                     9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

fn hs256() -> Algorithms {
    [Algorithm::HS256].into_iter().collect()
}

#[test]
fn a_token_is_remembered_with_the_keys_that_it_was_verified_by() {
    let tokens = Tokens::default();
    let [keys, same] = [(); 2].map(|()| Arc::new(KeySet::parse(KEY)));
    let none = Arc::new(KeySet::default());
    let verified = |keys, algorithms, now| {
        tokens.verified(keys, algorithms, TOKEN.as_bytes(), now).map(|claims| claims.len())
    };
    assert_eq!(verified(&keys, hs256(), 0), Ok(3));
    assert_eq!(verified(&keys, hs256(), 1), Ok(3));
    assert_eq!(verified(&keys, Algorithms::asymmetric(), 1), Err(Fault::Algorithm));
    assert_eq!(verified(&none, hs256(), 1), Err(Fault::Key));
    assert_eq!(verified(&same, hs256(), KEEP), Ok(3));
    assert_eq!(tokens.right.borrow().tokens.len(), 1);
    assert_eq!(tokens.right.borrow().bytes, TOKEN.len());
}

#[test]
fn critical_fields_that_are_not_known_and_other_tokens_are_refused() {
    let keys = KeySet::parse(KEY);
    let refused = |token: &str| keys.verify(token.as_bytes(), hs256()).err();
    assert_eq!(refused(TOKEN), None);
    assert_eq!(refused(&TOKEN.replace(".dB", ".dC")), Some(Fault::Signature));
    // {"alg":"HS256","crit":["exp"],"exp":1}
    let (_, rest) = TOKEN.split_once('.').unwrap();
    let critical = format!("eyJhbGciOiJIUzI1NiIsImNyaXQiOlsiZXhwIl0sImV4cCI6MX0.{rest}");
    assert_eq!(refused(&critical), Some(Fault::Malformed));
    for token in ["", ".", "..", "a.b", "a.b.c.d", "a.b.c", "\u{e9}.b.c"] {
        assert_eq!(refused(token), Some(Fault::Malformed), "{token:?}");
    }
}

#[test]
fn what_is_no_key_is_left_out_and_the_others_count() {
    let text = KEY.replace(r#"{"kty""#, r#"1, {"kty": "x"}, {"kty": "RSA", "n": "!"}, {"kty""#);
    assert!(KeySet::parse(&text).verify(TOKEN.as_bytes(), hs256()).is_ok());
    for text in ["", "[]", "{}", r#"{"keys": 1}"#] {
        assert!(
            matches!(KeySet::parse(text).verify(TOKEN.as_bytes(), hs256()), Err(Fault::Key)),
            "{text}"
        );
    }
}
