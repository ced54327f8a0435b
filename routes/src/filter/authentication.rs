//! Who a client has to be.

use std::{collections::BTreeMap, sync::Arc};

use http::HeaderValue;

use super::{AddressRules, Filter};

pub mod external;
pub mod jwt;
pub mod password;

use external::External;
use jwt::Jwt;
use password::{PasswordFault, PasswordHash};

/// What a request has to show before it goes on. At least one method is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authentication {
    /// Clients of these addresses need show nothing, and nobody of another address need be refused that shows what
    /// one of the methods asks for (`satisfy any`). `None`: every method has to be satisfied.
    pub any: Option<AddressRules>,
    /// A name and a password.
    pub basic: Option<Basic>,
    /// A signed token.
    pub jwt: Option<Jwt>,
    /// What a service says.
    pub external: Option<External>,
}

impl Authentication {
    /// Adds itself to the filters of an object, if it asks for anything.
    pub(crate) fn join(self, filters: &mut Vec<Filter>) {
        if self.basic.is_none() && self.jwt.is_none() && self.external.is_none() {
            return;
        }
        if self.any.is_some() {
            // Only with the others can it be told whether an address is enough.
            filters.retain(|filter| !matches!(filter, Filter::Access(_)));
        }
        filters.push(Filter::Authenticate(Arc::new(self)));
    }
}

/// HTTP's Basic authentication (RFC 7617).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basic {
    /// `WWW-Authenticate` of a refusal.
    pub challenge: HeaderValue,
    /// Who may pass.
    pub users: Arc<Users>,
}

/// Users and what their passwords hash to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users(BTreeMap<Box<str>, PasswordHash>);

/// A user who cannot be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The user, or the number of the line.
    pub user: String,
    /// What is wrong.
    pub fault: PasswordFault,
}

impl Users {
    /// Reads a file of Apache's `htpasswd`: `user:hash` on each line. Of two lines for one user the first counts.
    /// A user that cannot be read is not let in.
    pub fn from_htpasswd(text: &str) -> (Self, Vec<Unreadable>) {
        let lines = text.lines().map(str::trim).zip(1..);
        let lines = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
        Self::collect(lines.map(|(line, number)| match line.split_once(':') {
            // What follows a second colon is a comment, as nginx reads it.
            Some((user, rest)) => Ok((user, rest.split(':').next().unwrap_or_default())),
            None => Err(format!("line {number}")),
        }))
    }

    /// Takes users and their hashes.
    pub fn from_pairs<'p>(
        pairs: impl Iterator<Item = (&'p str, &'p str)>,
    ) -> (Self, Vec<Unreadable>) {
        Self::collect(pairs.map(Ok))
    }

    fn collect<'p>(
        entries: impl Iterator<Item = Result<(&'p str, &'p str), String>>,
    ) -> (Self, Vec<Unreadable>) {
        let (mut users, mut unreadable) = (BTreeMap::new(), Vec::new());
        for entry in entries {
            let (user, hash) = match entry {
                Ok(entry) => entry,
                Err(user) => {
                    unreadable.push(Unreadable { user, fault: PasswordFault::NoColon });
                    continue;
                }
            };
            match PasswordHash::parse(hash.trim()) {
                Ok(hash) => {
                    users.entry(user.into()).or_insert(hash);
                }
                Err(fault) => unreadable.push(Unreadable { user: format!("user {user:?}"), fault }),
            }
        }
        (Self(users), unreadable)
    }

    /// What the password of a user hashes to.
    pub fn password_of(&self, user: &str) -> Option<&PasswordHash> {
        self.0.get(user)
    }

    /// Whether nobody can be let in.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_htpasswd_has_a_user_on_each_line_and_the_first_line_of_a_user_counts() {
        let (users, unreadable) = Users::from_htpasswd(
            "# staff\r\nann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n\nbob:$apr1$x$y:Bob\nbob:{SHA}x\nnobody\neve:secret\n",
        );
        assert_eq!(users.password_of("ann").unwrap().text(), "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=");
        assert!(users.password_of("bob").is_none(), "a hash of md5 is longer");
        let named: Vec<_> = unreadable.iter().map(|one| &*one.user).collect();
        assert_eq!(named, ["user \"bob\"", "user \"bob\"", "line 6", "user \"eve\""]);
        assert!(users.password_of("eve").is_none() && users.password_of("").is_none());
    }
}
