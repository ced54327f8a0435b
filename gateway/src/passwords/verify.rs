//! Whether a password is the one that a hash was made of.

use aws_lc_rs::{constant_time, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use gatehouse_routes::filter::authentication::password::{PasswordForm, PasswordHash};
use md5::{Digest as _, Md5};
use sha_crypt::{PasswordVerifier as _, ShaCrypt};

/// Bytes of SHA-1.
const SHA1: usize = 20;
/// The digits of crypt(3).
const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Verifies a password; takes as long as the hash asks for.
pub(super) fn verify(hash: &PasswordHash, password: &[u8]) -> bool {
    let text = hash.text();
    match hash.form() {
        PasswordForm::Bcrypt => bcrypt::verify(password, text).unwrap_or(false),
        PasswordForm::Sha256 | PasswordForm::Sha512 => {
            ShaCrypt::default().verify_password(password, text).is_ok()
        }
        PasswordForm::Apr1 => md5_crypt("$apr1$", text, password),
        PasswordForm::Md5 => md5_crypt("$1$", text, password),
        PasswordForm::Sha1 => sha1("{SHA}", text, password),
        PasswordForm::SaltedSha1 => sha1("{SSHA}", text, password),
    }
}

/// A digest in Base64, with the salt behind it if there is one.
fn sha1(begin: &str, text: &str, password: &[u8]) -> bool {
    let encoded = text.strip_prefix(begin).unwrap_or_default();
    let Ok(decoded) = STANDARD.decode(encoded) else { return false };
    let Some((expected, salt)) = decoded.split_at_checked(SHA1) else { return false };
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(password);
    context.update(salt);
    constant_time::verify_slices_are_equal(context.finish().as_ref(), expected).is_ok()
}

/// Poul-Henning Kamp's crypt, as Apache took it over: `MAGIC salt $ digest`.
fn md5_crypt(magic: &str, text: &str, password: &[u8]) -> bool {
    let rest = text.strip_prefix(magic).unwrap_or_default();
    let Some((salt, expected)) = rest.split_once('$') else { return false };
    let salt = &salt.as_bytes()[..salt.len().min(8)];
    let digest = md5_rounds(magic.as_bytes(), salt, password);
    let mut encoded = Vec::with_capacity(22);
    let mut put = |bytes: [u8; 3], digits: usize| {
        let mut value = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        for _ in 0..digits {
            encoded.push(DIGITS[(value & 63) as usize]);
            value >>= 6;
        }
    };
    for [a, b, c] in [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]] {
        put([digest[a], digest[b], digest[c]], 4);
    }
    put([0, 0, digest[11]], 2);
    constant_time::verify_slices_are_equal(&encoded, expected.as_bytes()).is_ok()
}

fn md5_rounds(magic: &[u8], salt: &[u8], password: &[u8]) -> [u8; 16] {
    let mut inner = Md5::new();
    [password, salt, password].iter().for_each(|part| inner.update(part));
    let inner = inner.finalize();
    let mut context = Md5::new();
    [password, magic, salt].iter().for_each(|part| context.update(part));
    for chunk in password.chunks(16) {
        context.update(&inner[..chunk.len()]);
    }
    let mut length = password.len();
    while length > 0 {
        context.update(if length & 1 == 1 { &[0][..] } else { &password[..1] });
        length >>= 1;
    }
    let mut digest: [u8; 16] = context.finalize().into();
    for round in 0..1_000 {
        let mut context = Md5::new();
        let odd = round % 2 == 1;
        context.update(if odd { password } else { &digest });
        if round % 3 != 0 {
            context.update(salt);
        }
        if round % 7 != 0 {
            context.update(password);
        }
        context.update(if odd { &digest[..] } else { password });
        digest = context.finalize().into();
    }
    digest
}
