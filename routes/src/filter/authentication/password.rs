//! The forms in which Apache's `htpasswd` and crypt(3) keep a password.
//!
//! Told apart here, verified where there is time for it. A form that costs a verifier more than a second is refused
//! with the object: its author could stop the verifier with it.

use std::sync::Arc;

/// Highest cost of bcrypt: 2^14 rounds take about a second.
const MAX_COST: u32 = 14;
/// Most rounds of SHA-crypt: about a second.
const MAX_ROUNDS: u32 = 1_000_000;

/// What a password hashes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordHash {
    form: PasswordForm,
    text: Arc<str>,
}

/// How a password is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordForm {
    /// `$2y$`: bcrypt.
    Bcrypt,
    /// `$apr1$`: Apache's 1000 rounds of MD5.
    Apr1,
    /// `$1$`: the same with another beginning.
    Md5,
    /// `$5$`: SHA-crypt of SHA-256.
    Sha256,
    /// `$6$`: SHA-crypt of SHA-512.
    Sha512,
    /// `{SHA}`: SHA-1, without salt.
    Sha1,
    /// `{SSHA}`: SHA-1 with salt.
    SaltedSha1,
}

/// Why a hash is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordFault {
    /// No user is named.
    #[error("has no colon between user and hash")]
    NoColon,
    /// Of no form that is known.
    #[error("has a hash of a form that is not supported")]
    Form,
    /// Of a known form, but not whole.
    #[error("has a hash that is not whole")]
    Broken,
    /// It costs too much.
    #[error(
        "has a hash that takes too long to verify (bcrypt beyond cost 14, SHA-crypt beyond 1000000 rounds)"
    )]
    Cost,
}

impl PasswordHash {
    /// Tells the form of a hash.
    ///
    /// # Errors
    /// It is none, or too dear.
    pub fn parse(text: &str) -> Result<Self, PasswordFault> {
        let form = form_of(text)?;
        Ok(Self { form, text: text.into() })
    }

    /// How the password is hashed.
    pub fn form(&self) -> PasswordForm {
        self.form
    }

    /// The whole hash, as `htpasswd` writes it.
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn form_of(text: &str) -> Result<PasswordForm, PasswordFault> {
    let whole = |whole: bool, form| if whole { Ok(form) } else { Err(PasswordFault::Broken) };
    if let Some(digest) = text.strip_prefix("{SHA}") {
        return whole(digest.len() == 28, PasswordForm::Sha1);
    }
    if let Some(digest) = text.strip_prefix("{SSHA}") {
        return whole(digest.len() > 28, PasswordForm::SaltedSha1);
    }
    let mut parts = text.split('$');
    let (Some(""), Some(id)) = (parts.next(), parts.next()) else {
        return Err(PasswordFault::Form);
    };
    let rest: Vec<&str> = parts.collect();
    let digest = |length: usize| rest.last().is_some_and(|digest| digest.len() == length);
    match id {
        "2a" | "2b" | "2x" | "2y" => {
            let cost = rest.first().and_then(|cost| cost.parse::<u32>().ok());
            match cost.filter(|cost| *cost >= 4) {
                Some(cost) if cost > MAX_COST => Err(PasswordFault::Cost),
                cost => {
                    whole(cost.is_some() && rest.len() == 2 && digest(53), PasswordForm::Bcrypt)
                }
            }
        }
        "apr1" => whole(rest.len() == 2 && digest(22), PasswordForm::Apr1),
        "1" => whole(rest.len() == 2 && digest(22), PasswordForm::Md5),
        "5" | "6" => {
            let rounds = rest.first().and_then(|first| first.strip_prefix("rounds="));
            let known = rounds.map(str::parse::<u32>);
            let (length, form) = match id {
                "5" => (43, PasswordForm::Sha256),
                _ => (86, PasswordForm::Sha512),
            };
            match known {
                Some(Err(_)) => Err(PasswordFault::Broken),
                Some(Ok(rounds)) if rounds > MAX_ROUNDS => Err(PasswordFault::Cost),
                rounds => {
                    whole(rest.len() == 2 + usize::from(rounds.is_some()) && digest(length), form)
                }
            }
        }
        _ => Err(PasswordFault::Form),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_known_by_its_beginning_and_refused_if_it_is_not_whole_or_too_dear() {
        let (bcrypt, md5) = ("a".repeat(53), "b".repeat(22));
        let (sha256, sha512) = ("c".repeat(43), "d".repeat(86));
        for (text, form) in [
            (format!("$2y$05${bcrypt}"), Ok(PasswordForm::Bcrypt)),
            (format!("$2a$14${bcrypt}"), Ok(PasswordForm::Bcrypt)),
            (format!("$2y$15${bcrypt}"), Err(PasswordFault::Cost)),
            (format!("$2y$03${bcrypt}"), Err(PasswordFault::Broken)),
            ("$2y$10$short".into(), Err(PasswordFault::Broken)),
            (format!("$apr1$salt${md5}"), Ok(PasswordForm::Apr1)),
            (format!("$1$salt${md5}"), Ok(PasswordForm::Md5)),
            (format!("$5$salt${sha256}"), Ok(PasswordForm::Sha256)),
            (format!("$6$rounds=5000$salt${sha512}"), Ok(PasswordForm::Sha512)),
            (format!("$6$rounds=1000001$salt${sha512}"), Err(PasswordFault::Cost)),
            (format!("$6$rounds=x$salt${sha512}"), Err(PasswordFault::Broken)),
            ("{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=".into(), Ok(PasswordForm::Sha1)),
            ("{SHA}".into(), Err(PasswordFault::Broken)),
            ("{PLAIN}secret".into(), Err(PasswordFault::Form)),
            ("rl.3StKT.4T8M".into(), Err(PasswordFault::Form)),
            ("$7$x$y".into(), Err(PasswordFault::Form)),
            (String::new(), Err(PasswordFault::Form)),
        ] {
            assert_eq!(form_of(&text), form, "{text}");
        }
    }
}
