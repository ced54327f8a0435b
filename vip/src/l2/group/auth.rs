//! The key that makes nodes a group: it seals every datagram and opens those of the others.
//!
//! HMAC-SHA-256 (RFC 2104) over the whole datagram, its 32 bytes at the end. A host without the key
//! can neither forge nor change a heartbeat; that old ones may be sent again is the business of
//! [`super::member`]. Nothing is encrypted: addresses and node names are no secrets on their link.
//!
//! When the key is changed, members hear of the new one at different moments, so each seals what it sends with
//! both and takes both, for [`OVERLAP`] ([`Keys`]): a change of the key costs nobody an address.

use std::{
    fmt,
    time::{Duration, Instant},
};

use aws_lc_rs::{digest, hmac};

/// Bytes that [`GroupKey::seal`] appends.
pub(super) const SEAL: usize = 32;

/// Shortest secret, bytes: 128 bits if they are random.
const SHORTEST: usize = 16;
/// Keeps a secret that is used elsewhere from being the same key here.
const PURPOSE: &[u8] = b"gatehouse group key 1\0";
/// For this long a key that has been replaced is still good. Longer than an API server is away for an
/// upgrade: a member that has not heard of the new key by then is out of the group.
const OVERLAP: Duration = Duration::from_secs(600);
/// Most replaced keys that are good at one time.
const MOST_FORMER: usize = 2;

/// The secret that the members of a group share.
#[derive(Clone)]
pub struct GroupKey {
    key: hmac::Key,
    /// Tells one key from another.
    digest: [u8; 32],
}

impl PartialEq for GroupKey {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for GroupKey {}

/// The key of the group, and those before it for as long as some member may have no other.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    current: GroupKey,
    /// Until when each is good.
    former: Vec<(GroupKey, Instant)>,
}

impl Keys {
    pub(super) fn new(current: GroupKey) -> Self {
        Self { current, former: Vec::new() }
    }

    /// From now on it is this one.
    pub(super) fn replace(&mut self, key: GroupKey, now: Instant) {
        if key == self.current {
            return;
        }
        self.former.retain(|(former, until)| *former != key && now < *until);
        let former = std::mem::replace(&mut self.current, key);
        self.former.insert(0, (former, now + OVERLAP));
        self.former.truncate(MOST_FORMER);
    }

    /// Those that are good, the present one first.
    pub(super) fn good(&self, now: Instant) -> impl Iterator<Item = &GroupKey> {
        let former = self.former.iter().filter(move |(_, until)| now < *until);
        std::iter::once(&self.current).chain(former.map(|(key, _)| key))
    }
}

impl GroupKey {
    /// Makes a key of a secret, such as the content of a key file. ASCII whitespace at its end does
    /// not count, so that an editor's newline makes no second group. At least 16 bytes; all bytes
    /// count, however many there are.
    pub fn new(secret: &[u8]) -> Result<Self, String> {
        let secret = secret.trim_ascii_end();
        if secret.len() < SHORTEST {
            return Err(format!(
                "the group key has {} bytes, at least {SHORTEST} are needed; \
                 make one with: head -c 32 /dev/urandom | base64",
                secret.len()
            ));
        }
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(PURPOSE);
        hash.update(secret);
        let hash = hash.finish();
        let mut digest = [0; 32];
        digest.copy_from_slice(hash.as_ref());
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &digest), digest })
    }

    /// A new secret, as text: 32 random bytes in hexadecimal digits.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new_secret() -> std::io::Result<String> {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).map_err(std::io::Error::other)?;
        Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// A secret of its own for another purpose, which does not give the key away.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut secret = [0; 32];
        secret.copy_from_slice(hmac::sign(&self.key, purpose.as_bytes()).as_ref());
        secret
    }

    /// Appends the proof that the sender has the key.
    pub(crate) fn seal(&self, bytes: &mut Vec<u8>) {
        let tag = hmac::sign(&self.key, bytes);
        bytes.extend_from_slice(tag.as_ref());
    }

    /// What was sealed, if it was sealed with this key. Takes the same time wherever the seal is
    /// wrong.
    pub(super) fn open<'a>(&self, datagram: &'a [u8]) -> Option<&'a [u8]> {
        let (bytes, tag) = datagram.split_at_checked(datagram.len().checked_sub(SEAL)?)?;
        hmac::verify(&self.key, bytes, tag).ok().map(|()| bytes)
    }
}

impl fmt::Debug for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupKey(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str) -> GroupKey {
        GroupKey::new(secret.as_bytes()).unwrap()
    }

    fn sealed(secret: &str, text: &[u8]) -> Vec<u8> {
        let mut bytes = text.to_vec();
        key(secret).seal(&mut bytes);
        bytes
    }

    #[test]
    fn only_the_same_secret_opens_and_every_byte_of_it_counts() {
        let long = "x".repeat(100);
        let datagram = sealed(&long, b"hello");
        assert_eq!(key(&long).open(&datagram), Some(&b"hello"[..]));
        assert_eq!(key(&format!("{long}\r\n \t")).open(&datagram), Some(&b"hello"[..]));
        assert_eq!(key(&format!("{long}y")).open(&datagram), None);
        assert_eq!(key(&format!(" {long}")).open(&datagram), None);
        assert_eq!(key(&"x".repeat(99)).open(&datagram), None);
    }

    #[test]
    fn the_seal_is_hmac_sha_256_under_the_hash_of_purpose_and_secret() {
        // python3: hmac.new(sha256(b"gatehouse group key 1\0" + b"0123456789abcdef").digest(),
        // b"hello", "sha256").hexdigest()
        let seal = sealed("0123456789abcdef", b"hello").split_off(5);
        let hex: String = seal.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "4440503d23d736ec8eaea8012367f8d9b93a4a9ff7c87d81d6c045d7f3313da8");
    }

    #[test]
    fn what_is_changed_anywhere_or_cut_does_not_open() {
        let datagram = sealed("0123456789abcdef", b"hello");
        for bit in 0..datagram.len() * 8 {
            let mut changed = datagram.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key("0123456789abcdef").open(&changed), None, "bit {bit}");
        }
        for length in 0..datagram.len() {
            assert_eq!(key("0123456789abcdef").open(&datagram[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn a_replaced_key_is_good_for_a_while_beside_the_present_one() {
        #[expect(clippy::disallowed_methods, reason = "tests start somewhere in time")]
        let start = Instant::now();
        let named = ["1", "2", "3"].map(|it| key(&it.repeat(16)));
        let mut keys = Keys::new(named[0].clone());
        let good = |keys: &Keys, at| {
            let number = |key| named.iter().position(|it| it == key).unwrap() + 1;
            keys.good(at).map(number).collect::<Vec<_>>()
        };
        keys.replace(named[0].clone(), start);
        assert_eq!(good(&keys, start), [1]);
        keys.replace(named[1].clone(), start);
        assert_eq!(good(&keys, start), [2, 1]);
        let soon = start + OVERLAP / 2;
        keys.replace(named[2].clone(), soon);
        assert_eq!(good(&keys, soon), [3, 2, 1]);
        assert_eq!(good(&keys, start + OVERLAP), [3, 2]);
        keys.replace(named[1].clone(), start + OVERLAP);
        assert_eq!(good(&keys, start + OVERLAP), [2, 3], "back again");
        assert_eq!(good(&keys, start + OVERLAP * 2), [2]);
    }

    #[test]
    fn a_new_secret_is_another_one_each_time() {
        let [one, other] = [(), ()].map(|()| GroupKey::new_secret().unwrap());
        assert!(one.len() == 64 && one != other && key(&one) != key(&other));
    }

    #[test]
    fn a_short_secret_is_refused_and_no_key_is_shown() {
        let error = GroupKey::new(b"0123456789abcde\n\n").unwrap_err();
        assert!(error.starts_with("the group key has 15 bytes, at least 16 are needed"), "{error}");
        assert_eq!(format!("{:?}", key("0123456789abcdef")), "GroupKey(hidden)");
    }
}
