//! Who is in the group of nodes that share addresses: so far, only what its members have in common.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};

/// The shortest secret that is taken, in bytes.
const SHORTEST_SECRET: usize = 16;

/// The secret that the nodes of a group share.
#[derive(Clone, PartialEq, Eq)]
pub struct GroupKey([u8; 32]);

impl GroupKey {
    /// Takes a secret, as read from a file: white space at its end does not count. Fails if fewer
    /// than 16 bytes are left.
    pub fn new(secret: &[u8]) -> Result<Self, String> {
        let secret = secret.trim_ascii_end();
        if secret.len() < SHORTEST_SECRET {
            return Err(format!(
                "the group key has {} bytes, at least {SHORTEST_SECRET} are needed; make one with \
                 `openssl rand -base64 32`",
                secret.len()
            ));
        }
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, secret).as_ref());
        Ok(Self(key))
    }
}

impl fmt::Debug for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupKey(…)")
    }
}
