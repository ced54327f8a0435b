//! A JWK Set (RFC 7517) and what it says of a token.

use std::{collections::HashSet, rc::Rc};

use gatehouse_routes::filter::authentication::jwt::{Algorithm, Algorithms, Claims, Fault};
use jsonwebtoken::{
    Algorithm as Jwa, DecodingKey, Validation, decode, decode_header,
    errors::ErrorKind,
    jwk::{Jwk, PublicKeyUse},
};
use serde::Deserialize;

/// Keys that are tried for a token that names none.
const TRIED: usize = 8;

/// Keys of an issuer.
#[derive(Debug, Default)]
pub(crate) struct KeySet(Box<[Key]>);

#[derive(Debug)]
struct Key {
    id: Option<Box<str>>,
    /// The only one that it may be used for, if it says so.
    algorithm: Option<Box<str>>,
    key: DecodingKey,
}

/// A token whose signature is right.
pub(crate) struct Signed {
    pub(crate) claims: Rc<Claims>,
    pub(crate) algorithm: Algorithm,
}

#[derive(Deserialize)]
struct Set {
    #[serde(default)]
    keys: Vec<serde_json::Value>,
}

impl KeySet {
    /// Reads a JWK Set. What is no key that can verify is left out, as RFC 7517 §5 says.
    pub(crate) fn parse(text: &str) -> Self {
        let set: Set = serde_json::from_str(text).unwrap_or(Set { keys: Vec::new() });
        Self(set.keys.into_iter().filter_map(Key::read).collect())
    }

    /// Whether it has no key.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads a token and verifies its signature. Of its claims nothing is judged.
    ///
    /// # Errors
    /// `Malformed`, `Algorithm`, `Key` or `Signature`.
    pub(super) fn verify(&self, token: &[u8], allowed: Algorithms) -> Result<Signed, Fault> {
        let header = decode_header(token).map_err(|_| Fault::Malformed)?;
        let mut known = Algorithm::ALL.into_iter();
        let algorithm = known.find(|one| jwa(*one) == header.alg && allowed.allow(*one));
        let algorithm = algorithm.ok_or(Fault::Algorithm)?;
        let named = |key: &&Key| match (&header.kid, &key.id) {
            (Some(wanted), Some(id)) => **wanted == **id,
            (None, _) | (_, None) => true,
        };
        let fits = |key: &&Key| {
            let own = key.algorithm.as_deref().is_none_or(|own| own == algorithm.name());
            own && key.key.family() == header.alg.family()
        };
        let mut validation = Validation::new(header.alg);
        validation.required_spec_claims = HashSet::new();
        (validation.validate_exp, validation.validate_aud) = (false, false);
        let mut fault = Fault::Key;
        for key in self.0.iter().filter(named).filter(fits).take(TRIED) {
            match decode::<Claims>(token, &key.key, &validation) {
                Ok(token) => return Ok(Signed { claims: Rc::new(token.claims), algorithm }),
                Err(error) if *error.kind() == ErrorKind::InvalidSignature => {
                    fault = Fault::Signature;
                }
                Err(_) => return Err(Fault::Malformed),
            }
        }
        Err(fault)
    }
}

impl Key {
    fn read(value: serde_json::Value) -> Option<Self> {
        let algorithm = value.get("alg").and_then(serde_json::Value::as_str).map(Box::from);
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let signs =
            jwk.common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature);
        let key = DecodingKey::from_jwk(&jwk).ok().filter(|_| signs)?;
        Some(Self { id: jwk.common.key_id.map(Into::into), algorithm, key })
    }
}

fn jwa(algorithm: Algorithm) -> Jwa {
    match algorithm {
        Algorithm::RS256 => Jwa::RS256,
        Algorithm::RS384 => Jwa::RS384,
        Algorithm::RS512 => Jwa::RS512,
        Algorithm::PS256 => Jwa::PS256,
        Algorithm::PS384 => Jwa::PS384,
        Algorithm::PS512 => Jwa::PS512,
        Algorithm::ES256 => Jwa::ES256,
        Algorithm::ES384 => Jwa::ES384,
        Algorithm::EdDSA => Jwa::EdDSA,
        Algorithm::HS256 => Jwa::HS256,
        Algorithm::HS384 => Jwa::HS384,
        Algorithm::HS512 => Jwa::HS512,
    }
}
