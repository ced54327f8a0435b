//! JSON Web Tokens (RFC 7519): what a token has to say, and what of it the backend gets to know.
//!
//! Whether a token is signed by one of the keys the gateway finds out (`jwt/` there); here is what its claims must be,
//! decided from values alone.

use std::{borrow::Cow, fmt, sync::Arc};

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use crate::{action::Forward, model::ExternalName};

/// What a token says.
pub type Claims = Map<String, Value>;

/// What a client's token has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwt {
    /// Where the keys are that may have signed it.
    pub keys: KeySource,
    /// Who must have made it (`iss`); `None`: anybody who has the key.
    pub issuer: Option<Box<str>>,
    /// Whom it must be for (`aud`): one of these. Empty: anybody.
    pub audiences: Box<[Box<str>]>,
    /// How it may be signed.
    pub algorithms: Algorithms,
    /// Seconds that its maker's clock may differ by.
    pub skew: u64,
    /// Where it stands.
    pub place: Place,
    /// What it has to say besides; all of it.
    pub require: Box<[Requirement]>,
    /// Fields of the request in which the backend gets its claims. A client's own never reach it.
    pub copy: Box<[(Claim, HeaderName)]>,
}

/// Where the keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// In an object: a JWK Set (RFC 7517 §5).
    Given(Arc<KeyText>),
    /// At a URL, which is asked for them; with the Service that has its host's name, where no name server knows it: one
    /// that is written in a file.
    Url(Arc<KeyUrl>, Option<Arc<Forward>>),
}

/// A URL of a JWK Set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyUrl {
    /// Name or address, and port.
    pub name: ExternalName,
    /// Both as they are written.
    pub authority: HeaderValue,
    /// TLS is spoken there.
    pub secure: bool,
    /// Path and query.
    pub target: Box<str>,
    /// The only authorities whose certificates are believed there, in PEM; `None`: those that this host believes.
    pub trust: Option<Arc<str>>,
}

/// The text of a JWK Set. It may hold what is secret.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText(pub Box<str>);

/// Where a request has its token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// `Authorization: Bearer …` (RFC 6750 §2.1).
    #[default]
    Bearer,
    /// The value of a field, whole or behind `Bearer`.
    Field(HeaderName),
    /// A cookie.
    Cookie(Box<str>),
}

/// Ways to sign (RFC 7518 §3.1, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in JSON")]
#[rustfmt::skip]
pub enum Algorithm { RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA, HS256, HS384, HS512 }

/// A set of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Algorithms(u16);

/// A claim: its name, or the names on the way to it within objects, with dots between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim(pub Box<str>);

/// What a claim must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Which claim.
    pub claim: Claim,
    /// It is one of these, or a list with one of these. Empty: it is there.
    pub one_of: Box<[Box<str>]>,
}

/// Why a token does not let a client pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is none.
    Missing,
    /// It is no token.
    Malformed,
    /// It is signed in a way that is not allowed.
    Algorithm,
    /// It is signed with a key that is not known.
    Key,
    /// It is not signed with the key that it names.
    Signature,
    /// Its time is over, or it has none.
    Expired,
    /// Its time has not come.
    Early,
    /// Another issuer has made it.
    Issuer,
    /// It is for another audience.
    Audience,
    /// It is right, and does not say what it must.
    Claims,
}

impl Algorithm {
    /// All of them.
    #[rustfmt::skip]
    pub const ALL: [Self; 12] = [
        Self::RS256, Self::RS384, Self::RS512, Self::PS256, Self::PS384, Self::PS512, Self::ES256, Self::ES384,
        Self::EdDSA, Self::HS256, Self::HS384, Self::HS512,
    ];

    /// As a token spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
        }
    }

    /// The key that verifies signs, too.
    pub fn is_symmetric(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }
}

impl Algorithms {
    /// Whether it is one of them.
    pub fn allow(self, algorithm: Algorithm) -> bool {
        self.0 & (1 << algorithm as u16) != 0
    }

    /// Whether one of them is symmetric.
    pub fn any_symmetric(self) -> bool {
        Algorithm::ALL.into_iter().any(|one| one.is_symmetric() && self.allow(one))
    }

    /// Those of which both keys differ.
    pub fn asymmetric() -> Self {
        Algorithm::ALL.into_iter().filter(|one| !one.is_symmetric()).collect()
    }
}

impl FromIterator<Algorithm> for Algorithms {
    fn from_iter<I: IntoIterator<Item = Algorithm>>(all: I) -> Self {
        Self(all.into_iter().fold(0, |set, one| set | 1 << one as u16))
    }
}

impl fmt::Debug for Algorithms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = Algorithm::ALL.into_iter().filter(|one| self.allow(*one));
        f.debug_set().entries(all.map(Algorithm::name)).finish()
    }
}

impl fmt::Display for KeyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority.to_str().unwrap_or_default(), self.target)
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText")
    }
}

impl Jwt {
    /// Whether the claims of a token whose signature is right let its client pass. `now`: seconds since 1970.
    ///
    /// # Errors
    /// Why they do not.
    pub fn admits(&self, claims: &Claims, now: u64) -> Result<(), Fault> {
        let time = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or(Fault::Malformed),
        };
        // Seconds have room in a float for millions of years.
        let (now, skew) = (now as f64, self.skew as f64);
        match time("exp")? {
            Some(end) if now < end + skew => {}
            Some(_) | None => return Err(Fault::Expired),
        }
        if time("nbf")?.is_some_and(|begin| now + skew < begin) {
            return Err(Fault::Early);
        }
        let issuer = claims.get("iss").and_then(Value::as_str);
        if self.issuer.as_deref().is_some_and(|wanted| issuer != Some(wanted)) {
            return Err(Fault::Issuer);
        }
        let audience = claims.get("aud").unwrap_or(&Value::Null);
        let is_for = |wanted: &str| match audience {
            Value::String(one) => one == wanted,
            Value::Array(all) => all.iter().any(|one| one.as_str() == Some(wanted)),
            _ => false,
        };
        if !self.audiences.is_empty() && !self.audiences.iter().any(|wanted| is_for(wanted)) {
            return Err(Fault::Audience);
        }
        match self.require.iter().all(|requirement| requirement.holds(claims)) {
            true => Ok(()),
            false => Err(Fault::Claims),
        }
    }

    /// The fields by which the backend gets to know the claims. One that no field can hold is left out.
    pub fn fields(&self, claims: &Claims) -> impl Iterator<Item = (&HeaderName, HeaderValue)> {
        self.copy.iter().filter_map(|(claim, name)| {
            let text = claim.text(claims)?;
            Some((name, HeaderValue::from_bytes(text.as_bytes()).ok()?))
        })
    }
}

impl Claim {
    /// What it is in a token. A claim of the whole name comes before one within an object.
    pub fn of<'c>(&self, claims: &'c Claims) -> Option<&'c Value> {
        claims.get(&*self.0).or_else(|| {
            let mut names = self.0.split('.');
            let first = claims.get(names.next()?)?;
            names.try_fold(first, |within, name| within.get(name))
        })
    }

    /// The same as one text; `None` where it has none.
    pub fn text<'c>(&self, claims: &'c Claims) -> Option<Cow<'c, str>> {
        text(self.of(claims)?)
    }
}

impl Requirement {
    fn holds(&self, claims: &Claims) -> bool {
        let Some(value) = self.claim.of(claims).filter(|value| !value.is_null()) else {
            return false;
        };
        let wanted = |text: &str| self.one_of.iter().any(|one| **one == *text);
        let is = |value: &Value| text_of_one(value).is_some_and(|text| wanted(&text));
        match value {
            _ if self.one_of.is_empty() => true,
            Value::Array(all) => all.iter().any(is),
            // A list in one text (RFC 8693 §4.2).
            Value::String(words) if matches!(&*self.claim.0, "scope" | "scp") => {
                words.split(' ').any(wanted)
            }
            value => is(value),
        }
    }
}

impl Fault {
    /// Code and description as RFC 6750 §3 has them; `None` where nothing was shown.
    pub fn described(self) -> Option<(&'static str, &'static str)> {
        let invalid = |why| Some(("invalid_token", why));
        match self {
            Self::Missing => None,
            Self::Malformed => invalid("the token is malformed"),
            Self::Algorithm => invalid("the token is signed in a way that is not allowed"),
            Self::Key => invalid("the token is signed with a key that is not known"),
            Self::Signature => invalid("the signature of the token is wrong"),
            Self::Expired => invalid("the token has expired"),
            Self::Early => invalid("the token is not valid yet"),
            Self::Issuer => invalid("the token is of another issuer"),
            Self::Audience => invalid("the token is for another audience"),
            Self::Claims => {
                Some(("insufficient_scope", "the token lacks a claim that is required"))
            }
        }
    }

    /// Whether the client is known and may not pass (403), rather than not known (401).
    pub fn forbids(self) -> bool {
        self == Self::Claims
    }
}

/// The text of a value that has one.
fn text_of_one(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Bool(_) | Value::Number(_) => Some(Cow::Owned(value.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A value as a field has it: lists with commas between their entries, and no objects.
fn text(value: &Value) -> Option<Cow<'_, str>> {
    let Value::Array(all) = value else { return text_of_one(value) };
    let all: Option<Vec<_>> = all.iter().map(text_of_one).collect();
    Some(Cow::Owned(all?.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt() -> Jwt {
        let text = |text: &str| Box::<str>::from(text);
        Jwt {
            keys: KeySource::Given(Arc::new(KeyText(text("{}")))),
            issuer: Some(text("https://a.test")),
            audiences: [text("shop"), text("api")].into(),
            algorithms: Algorithms::asymmetric(),
            skew: 60,
            place: Place::Bearer,
            require: Box::default(),
            copy: Box::default(),
        }
    }

    fn claims(text: &str) -> Claims {
        let mut claims: Claims = serde_json::from_str(text).unwrap();
        for (name, value) in
            [("exp", Value::from(1_000)), ("iss", "https://a.test".into()), ("aud", "api".into())]
        {
            claims.entry(name).or_insert(value);
        }
        claims.retain(|_, value| *value != "none");
        claims
    }

    #[test]
    fn times_issuer_and_audience_are_judged_with_the_skew_of_clocks() {
        for (text, now, verdict) in [
            ("{}", 1_000, Ok(())),
            ("{}", 1_059, Ok(())),
            ("{}", 1_060, Err(Fault::Expired)),
            (r#"{"exp": 999.5}"#, 1_059, Ok(())),
            (r#"{"exp": "none"}"#, 0, Err(Fault::Expired)),
            (r#"{"exp": "1000"}"#, 0, Err(Fault::Malformed)),
            (r#"{"exp": -1e300}"#, 0, Err(Fault::Expired)),
            (r#"{"nbf": 500}"#, 440, Ok(())),
            (r#"{"nbf": 500}"#, 439, Err(Fault::Early)),
            (r#"{"nbf": null}"#, 439, Err(Fault::Malformed)),
            (r#"{"iss": "https://b.test"}"#, 0, Err(Fault::Issuer)),
            (r#"{"iss": ["https://a.test"]}"#, 0, Err(Fault::Issuer)),
            (r#"{"iss": "none"}"#, 0, Err(Fault::Issuer)),
            (r#"{"aud": ["x", "shop"]}"#, 0, Ok(())),
            (r#"{"aud": ["x"]}"#, 0, Err(Fault::Audience)),
            (r#"{"aud": "shop api"}"#, 0, Err(Fault::Audience)),
            (r#"{"aud": "none"}"#, 0, Err(Fault::Audience)),
        ] {
            assert_eq!(jwt().admits(&claims(text), now), verdict, "{text} at {now}");
        }
    }

    #[test]
    fn a_required_claim_is_a_value_a_member_of_a_list_or_a_word_of_a_scope() {
        let holds = |claim: &str, one_of: &[&str], text: &str| {
            let one_of = one_of.iter().map(|one| Box::from(*one)).collect();
            Requirement { claim: Claim(claim.into()), one_of }.holds(&claims(text))
        };
        for (claim, one_of, text) in [
            ("role", &["admin"][..], r#"{"role": "admin"}"#),
            ("role", &["root", "admin"], r#"{"role": ["x", "admin"]}"#),
            ("level", &["3"], r#"{"level": 3}"#),
            ("ok", &["true"], r#"{"ok": true}"#),
            ("email", &[], r#"{"email": "a@b"}"#),
            ("realm.roles", &["dev"], r#"{"realm": {"roles": ["dev"]}}"#),
            ("https://a.test/roles", &["dev"], r#"{"https://a.test/roles": "dev"}"#),
            ("scope", &["write"], r#"{"scope": "read write"}"#),
        ] {
            assert!(holds(claim, one_of, text), "{claim} {text}");
        }
        for (claim, one_of, text) in [
            ("role", &["admin"][..], "{}"),
            ("role", &["admin"], r#"{"role": "administrator"}"#),
            ("role", &["admin"], r#"{"role": "user admin"}"#),
            ("role", &["admin"], r#"{"role": {"admin": true}}"#),
            ("role", &["admin"], r#"{"role": [["admin"]]}"#),
            ("email", &[], r#"{"email": null}"#),
            ("realm.roles.x", &[], r#"{"realm": {"roles": ["dev"]}}"#),
            ("scope", &["write"], r#"{"scope": "read writer"}"#),
        ] {
            assert!(!holds(claim, one_of, text), "{claim} {text}");
        }
    }

    #[test]
    fn claims_become_fields_unless_no_field_can_hold_them() {
        let mut jwt = jwt();
        let name = HeaderName::from_static("x-a");
        jwt.copy =
            ["a", "b", "c", "d", "e", "f"].map(|claim| (Claim(claim.into()), name.clone())).into();
        let claims = claims(
            r#"{"a": "é", "b": ["x", 1], "c": {"x": 1}, "d": "x\r\nY: 1", "e": false, "f": [["x"]]}"#,
        );
        let fields: Vec<_> = jwt.fields(&claims).map(|(_, value)| value).collect();
        assert_eq!(
            fields,
            ["é".as_bytes(), b"x,1", b"false"].map(|it| HeaderValue::from_bytes(it).unwrap())
        );
    }
}
