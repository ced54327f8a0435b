//! Names without a row: whether they protect, and which name was meant.
//!
//! A name that nobody has judged is judged by its words: one that limits, authenticates, verifies or holds
//! a snippet closes the object, as does a slip of the pen in the name of a row that protects.

use super::{
    table::{Annotation, Family, ObjectKind},
    value::{Parser, unknown},
};

/// Parts of a name that say that it protects.
pub static PROTECTING_WORDS: [&str; 31] = [
    "acl",
    "allow",
    "auth",
    "blacklist",
    "block",
    "body-size",
    "cert",
    "cidr",
    "concurrent",
    "csrf",
    "deny",
    "firewall",
    "forbid",
    "jwt",
    "limit",
    "modsec",
    "oidc",
    "protect",
    "proxy-protocol",
    "quota",
    "restrict",
    "secret",
    "secur",
    "snippet",
    "source-range",
    "ssl",
    "throttle",
    "tls",
    "verify",
    "waf",
    "whitelist",
];

/// Longest name that is compared with those of the rows: Kubernetes allows 63 bytes.
const MAX_NAME: usize = 63;
/// Edits that turn one name into another at most, for the other to be the one that was meant.
const MAX_EDITS: usize = 2;

/// What can be said about a name without a row.
pub(super) struct Unknown {
    /// How to tell whether the value asks for something, if the name protects.
    pub(super) protects: Option<Parser>,
    /// The name that was probably meant.
    pub(super) meant: Option<&'static Annotation>,
}

/// Judges a name without a row on an object of this kind.
pub(super) fn judge(name: &str, family: &'static Family, kind: ObjectKind) -> Unknown {
    let name = plain(name);
    let meant = nearest(&name, family, kind);
    let protects = match meant {
        Some(row) => row.protects.then_some(row.parser),
        None => PROTECTING_WORDS.iter().any(|word| name.contains(word)).then(|| unknown(&name)),
    };
    Unknown { protects, meant }
}

/// Of rows that are equally near, one that protects.
fn nearest(name: &str, family: &'static Family, kind: ObjectKind) -> Option<&'static Annotation> {
    if name.len() > MAX_NAME {
        return None;
    }
    let rows = family.rows().filter(|row| row.objects.contains(&kind));
    let edits = rows.map(|row| (strsim::osa_distance(name, &plain(row.name)), row));
    // Of a short name, two letters are too much to be a slip.
    let near = edits.filter(|(edits, row)| *edits <= MAX_EDITS && edits * 4 <= row.name.len());
    near.min_by_key(|(edits, row)| (*edits, !row.protects)).map(|(_, row)| row)
}

/// Whether one name is a slip of the pen for another.
pub(super) fn is_near(name: &str, meant: &str) -> bool {
    let edits = || strsim::osa_distance(&plain(name), &plain(meant));
    name.len() <= MAX_NAME && edits() <= MAX_EDITS && edits() * 4 <= meant.len()
}

/// A name without the differences that most slips consist of.
fn plain(name: &str) -> String {
    name.trim().to_ascii_lowercase().replace(['_', '.'], "-")
}
