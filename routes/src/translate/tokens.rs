//! Tokens that an object asks for, and the objects of its namespace that its authentication is read from.
//!
//! What cannot be had is a problem that closes the object: a path that asked for authentication is never served
//! without.

use std::{net::IpAddr, sync::Arc};

use serde_json::{Map, Value};

use super::Translation;
use crate::{
    annotations::authentication::{AuthUrl, AuthenticationSettings, JwtSettings, Part},
    endpoints,
    filter::authentication::jwt::{Algorithms, Jwt, KeySource, KeyText, KeyUrl, Place},
    model::ExternalName,
    objects::{ObjectKey, ObjectRef, Objects},
    problem::Problem,
    references::Reference,
    slots::Slots,
    transport::Speaks,
};

/// What comes of a reference that leads nowhere.
pub(super) const CLOSED: &str = "every path is closed (503)";
/// Where a JWK Set is, if its object does not say.
const KEY: &str = "jwks.json";

/// The object of the same namespace that an annotation names.
pub(super) fn own_key(
    object: &ObjectRef,
    part: Part,
    value: &str,
) -> Result<ObjectKey, Box<Problem>> {
    let namespace = &object.key.namespace;
    match value.split_once('/') {
        Some((other, _)) if *other != **namespace => Err(Box::new(Problem::error(
            object,
            "OtherNamespace",
            part.field(),
            format!("{value} is in another namespace than the {}, so {CLOSED}", object.kind),
            format!(
                "copy the object to the namespace of the {0}: whoever writes an {0} must not read what is another's",
                object.kind
            ),
        ))),
        Some((_, name)) => Ok(ObjectKey::new(Arc::clone(namespace), name)),
        None => Ok(ObjectKey::new(Arc::clone(namespace), value)),
    }
}

/// Notes the Service that keys are asked of, if its URL says one by the name that it has in a cluster.
pub(super) fn find_service(jwt: &mut Jwt, out: &mut Translation, slots: &mut Slots<'_>) {
    if let KeySource::Url(url, service) = &mut jwt.keys {
        *service = out.named(&url.name, Part::JwtUrl.field(), slots);
    }
}

/// What an object is read by.
pub(super) struct Reader<'r> {
    pub(super) object: &'r ObjectRef,
    pub(super) objects: &'r Objects,
    /// It may name this host itself.
    pub(super) loopback: bool,
    /// Takes what is looked into.
    pub(super) references: &'r mut Vec<Reference>,
}

impl Reader<'_> {
    /// The tokens that the object asks for; `limits`: its limits count by them.
    pub(super) fn jwt(
        &mut self,
        all: &AuthenticationSettings,
        limits: bool,
    ) -> Result<Option<Jwt>, Box<Problem>> {
        let settings = &all.jwt;
        let Some(keys) = self.keys(settings)? else {
            if limits {
                return Err(self.error(
                    "IncompleteAuthentication",
                    Part::LimitBy,
                    "its limits count by a claim, and no token is asked for",
                    "name the keys of tokens by jwt-jwks-url, jwt-jwks-secret or jwt-jwks-config-map, or count by address, \
                     header or cookie",
                ));
            }
            let Some(alone) = settings.alone() else { return Ok(None) };
            return Err(self.error(
                "IncompleteAuthentication",
                alone,
                "it has no effect without keys",
                "name them by jwt-jwks-url, jwt-jwks-secret or jwt-jwks-config-map, or remove the annotation if the paths \
                 may be open",
            ));
        };
        let place = settings.place.clone().unwrap_or_default();
        if all.basic && !all.any && place == Place::Bearer {
            return Err(self.error(
                "ConflictingAuthentication",
                Part::Type,
                "a request cannot have both a password and a token in its Authorization field",
                "write satisfy: any if one of them is enough, or have the token elsewhere by jwt-from",
            ));
        }
        Ok(Some(Jwt {
            keys,
            issuer: settings.issuer.as_deref().map(Into::into),
            audiences: settings.audiences.iter().flat_map(|all| all.iter().cloned()).collect(),
            algorithms: settings.algorithms.unwrap_or_else(Algorithms::asymmetric),
            skew: settings.skew.as_secs(),
            place,
            require: settings.require.iter().flat_map(|all| all.iter().cloned()).collect(),
            copy: settings.copy.iter().flat_map(|all| all.iter().cloned()).collect(),
        }))
    }

    /// The keys that the object names.
    fn keys(&mut self, settings: &JwtSettings) -> Result<Option<KeySource>, Box<Problem>> {
        let (part, text) = match (&settings.url, &settings.secret, &settings.config_map) {
            (None, None, None) => return Ok(None),
            (Some(url), None, None) => return self.url(url, settings).map(Some),
            (None, Some(name), None) => (Part::JwtSecret, self.secret(settings, name)?),
            (None, None, Some(name)) => (Part::JwtConfigMap, self.config_map(settings, name)?),
            (_, secret, _) => {
                let part = if secret.is_some() { Part::JwtSecret } else { Part::JwtConfigMap };
                let message = "keys are named in several ways";
                let hint = "leave one of jwt-jwks-url, jwt-jwks-secret and jwt-jwks-config-map";
                return Err(self.error("ConflictingAuthentication", part, message, hint));
            }
        };
        let symmetric = settings.algorithms.is_some_and(Algorithms::any_symmetric);
        self.symmetric(settings, part)?;
        match judge(&text, symmetric) {
            Ok(()) => Ok(Some(KeySource::Given(Arc::new(KeyText(text))))),
            Err(why) => Err(self.error(
                "InvalidKeys",
                part,
                &why,
                "put the JWK Set of the issuer there: {\"keys\": [{\"kty\": \"RSA\", …}]}",
            )),
        }
    }

    /// A key that verifies by HMAC signs as well, so it has to be in a Secret.
    fn symmetric(&self, settings: &JwtSettings, part: Part) -> Result<(), Box<Problem>> {
        if part == Part::JwtSecret || !settings.algorithms.is_some_and(Algorithms::any_symmetric) {
            return Ok(());
        }
        Err(self.error(
            "InvalidKeys",
            Part::JwtAlgorithms,
            "whoever can read the keys could sign with them",
            "put keys of HS256, HS384 and HS512 into a Secret, or allow other algorithms",
        ))
    }

    /// The authorities in a Secret, in PEM.
    pub(super) fn authorities(&mut self, part: Part, name: &str) -> Result<Arc<str>, Box<Problem>> {
        self.of_secret(part, name, "ca.crt").map(Arc::from)
    }

    fn secret(&mut self, settings: &JwtSettings, name: &str) -> Result<Box<str>, Box<Problem>> {
        self.of_secret(Part::JwtSecret, name, settings.key.as_deref().unwrap_or(KEY))
    }

    fn of_secret(&mut self, part: Part, name: &str, key: &str) -> Result<Box<str>, Box<Problem>> {
        let reference = Reference::secret(self.objects, own_key(self.object, part, name)?);
        self.references.push(reference.clone());
        let secret = reference.as_secret(self.object, &part.field(), CLOSED)?;
        let given = secret.string_data.as_ref().and_then(|data| data.get(key)).cloned();
        let data = secret.data.as_ref().and_then(|data| data.get(key));
        let text = given.or_else(|| data.map(|it| String::from_utf8_lossy(&it.0).into_owned()));
        text.map(Into::into).ok_or_else(|| self.no_key(part, &reference, key))
    }

    fn config_map(&mut self, settings: &JwtSettings, name: &str) -> Result<Box<str>, Box<Problem>> {
        let (part, key) = (Part::JwtConfigMap, settings.key.as_deref().unwrap_or(KEY));
        let reference = Reference::config_map(self.objects, own_key(self.object, part, name)?);
        self.references.push(reference.clone());
        let map = reference.as_config_map(self.object, &part.field(), CLOSED)?;
        let text = map.data.as_ref().and_then(|data| data.get(key)).cloned();
        text.map(Into::into).ok_or_else(|| self.no_key(part, &reference, key))
    }

    fn url(&mut self, url: &AuthUrl, settings: &JwtSettings) -> Result<KeySource, Box<Problem>> {
        self.symmetric(settings, Part::JwtUrl)?;
        let Some((host, port, authority)) = url.host.clone() else {
            return Err(self.error("InvalidKeys", Part::JwtUrl, "it names no host", "write one"));
        };
        if let Ok(ip) = host.parse::<IpAddr>()
            && let Some(why) = endpoints::refusal(ip)
            && !(self.loopback && ip.is_loopback())
        {
            let message = format!("{host} is {why}, which no gateway asks");
            let hint = "name the host of the issuer, or put its keys into a ConfigMap";
            return Err(self.error("InvalidKeys", Part::JwtUrl, &message, hint));
        }
        let trust = match &settings.authorities {
            None => None,
            Some(name) => Some(self.authorities(Part::JwtAuthorities, name)?),
        };
        let (speaks, loopback) = (Speaks::Http1, self.loopback);
        let url = KeyUrl {
            name: ExternalName { host, port, speaks, loopback },
            authority,
            secure: url.secure,
            target: url.target.text().into(),
            trust,
        };
        Ok(KeySource::Url(Arc::new(url), None))
    }

    fn no_key(&self, part: Part, reference: &Reference, key: &str) -> Box<Problem> {
        let message = format!("{} has no key {key:?}", reference.object());
        self.error("InvalidKeys", part, &message, "put it there, or correct the name of the key")
    }

    fn error(&self, reason: &'static str, part: Part, message: &str, hint: &str) -> Box<Problem> {
        let message = format!("{message}, so {CLOSED}");
        Box::new(Problem::error(self.object, reason, part.field(), message, hint))
    }
}

/// Whether a JWK Set has a key that can verify; `symmetric`: one that can sign, too, is meant.
fn judge(text: &str, symmetric: bool) -> Result<(), String> {
    let set: Value =
        serde_json::from_str(text).map_err(|error| format!("the keys are not JSON: {error}"))?;
    let keys = set.get("keys").and_then(Value::as_array).ok_or("the keys are no JWK Set")?;
    let usable = |key: &Map<String, Value>| {
        let has =
            |names: &[&str]| names.iter().all(|name| key.get(*name).is_some_and(Value::is_string));
        let is = |name: &str, known: &[&str]| {
            key.get(name).and_then(Value::as_str).is_some_and(|value| known.contains(&value))
        };
        let signs = !key.contains_key("use") || is("use", &["sig"]);
        signs
            && match key.get("kty").and_then(Value::as_str) {
                Some("RSA") => has(&["n", "e"]),
                Some("EC") => is("crv", &["P-256", "P-384"]) && has(&["x", "y"]),
                Some("OKP") => is("crv", &["Ed25519"]) && has(&["x"]),
                Some("oct") => symmetric && has(&["k"]),
                _ => false,
            }
    };
    match keys.iter().filter_map(Value::as_object).any(usable) {
        true => Ok(()),
        false => Err("none of the keys can verify a signature".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_needs_one_key_that_can_verify_and_symmetric_ones_must_be_asked_for() {
        for (text, symmetric, usable) in [
            (r#"{"keys": [{"kty": "RSA", "n": "x", "e": "AQAB"}]}"#, false, true),
            (
                r#"{"keys": [{"kty": "x"}, {"kty": "EC", "crv": "P-256", "x": "x", "y": "y"}]}"#,
                false,
                true,
            ),
            (
                r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "x", "use": "sig"}]}"#,
                false,
                true,
            ),
            (r#"{"keys": [{"kty": "OKP", "crv": "X25519", "x": "x"}]}"#, false, false),
            (r#"{"keys": [{"kty": "RSA", "n": "x", "e": "AQAB", "use": "enc"}]}"#, false, false),
            (r#"{"keys": [{"kty": "oct", "k": "x"}]}"#, false, false),
            (r#"{"keys": [{"kty": "oct", "k": "x"}]}"#, true, true),
            (r#"{"keys": []}"#, true, false),
            (r#"{"kty": "RSA", "n": "x", "e": "AQAB"}"#, false, false),
            ("-----BEGIN PUBLIC KEY-----", false, false),
        ] {
            assert_eq!(judge(text, symmetric).is_ok(), usable, "{text}");
        }
    }
}
