//! An issuer of tokens: keys of openssl, as a JWK Set has them, and what they sign.

#![allow(clippy::unwrap_used, reason = "a bed that cannot be made fails its test")]

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::SystemTime,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tempfile::TempDir;

/// How tokens are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RS256.
    Rsa,
    /// ES256.
    Ec,
    /// EdDSA.
    Ed,
}

/// One key, and who signs with it.
#[derive(Debug)]
pub struct Issuer {
    kind: Kind,
    id: String,
    folder: TempDir,
}

impl Kind {
    /// The algorithm.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rsa => "RS256",
            Self::Ec => "ES256",
            Self::Ed => "EdDSA",
        }
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// As tokens have their parts.
pub fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    /// With a new key.
    pub fn new(kind: Kind, id: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let new = Self { kind, id: id.to_owned(), folder };
        let options: &[&str] = match kind {
            Kind::Rsa => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
            Kind::Ec => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            Kind::Ed => &["-algorithm", "ed25519"],
        };
        let file = new.key();
        openssl(&[&["genpkey", "-out", file.to_str().unwrap()], options].concat(), b"");
        new
    }

    /// A JWK Set (RFC 7517 §5) of several.
    pub fn set<'i>(all: impl IntoIterator<Item = &'i Self>) -> String {
        let all: Vec<String> = all.into_iter().map(Self::jwk).collect();
        format!(r#"{{"keys": [{}]}}"#, all.join(", "))
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &str) -> String {
        let header = format!(r#"{{"typ":"JWT","alg":"{}","kid":"{}"}}"#, self.kind.name(), self.id);
        let signed = format!("{}.{}", encoded(header), encoded(claims));
        let key = self.key();
        let key = key.to_str().unwrap();
        let signature = match self.kind {
            Kind::Rsa => openssl(&["dgst", "-sha256", "-sign", key], signed.as_bytes()),
            Kind::Ec => raw(&openssl(&["dgst", "-sha256", "-sign", key], signed.as_bytes())),
            Kind::Ed => {
                let text = self.folder.path().join("text");
                fs::write(&text, &signed).unwrap();
                let text = text.to_str().unwrap();
                openssl(&["pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", text], b"")
            }
        };
        format!("{signed}.{}", encoded(signature))
    }

    /// A token that is signed by HMAC with the public key in PEM, as a forger who knows nothing else would.
    pub fn sign_with_public_key_as_secret(&self, claims: &str) -> String {
        let header = format!(r#"{{"alg":"HS256","kid":"{}"}}"#, self.id);
        let signed = format!("{}.{}", encoded(header), encoded(claims));
        let public = openssl(&["pkey", "-pubout", "-in", self.key().to_str().unwrap()], b"");
        let secret: String = public.iter().map(|byte| format!("{byte:02x}")).collect();
        let key = format!("hexkey:{secret}");
        let options = ["dgst", "-sha256", "-mac", "HMAC", "-macopt", &key, "-binary"];
        format!("{signed}.{}", encoded(openssl(&options, signed.as_bytes())))
    }

    fn jwk(&self) -> String {
        let key = self.key();
        let der =
            openssl(&["pkey", "-pubout", "-outform", "DER", "-in", key.to_str().unwrap()], b"");
        let of = match self.kind {
            Kind::Rsa => {
                let text =
                    openssl(&["rsa", "-noout", "-modulus", "-in", key.to_str().unwrap()], b"");
                let text = String::from_utf8(text).unwrap();
                let hex = text.trim().strip_prefix("Modulus=").unwrap();
                let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
                let modulus: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
                format!(r#""kty": "RSA", "e": "AQAB", "n": "{}""#, encoded(modulus))
            }
            Kind::Ec => {
                let (x, y) = der[der.len() - 64..].split_at(32);
                format!(
                    r#""kty": "EC", "crv": "P-256", "x": "{}", "y": "{}""#,
                    encoded(x),
                    encoded(y)
                )
            }
            Kind::Ed => {
                let x = &der[der.len() - 32..];
                format!(r#""kty": "OKP", "crv": "Ed25519", "x": "{}""#, encoded(x))
            }
        };
        format!(r#"{{"kid": "{}", "alg": "{}", "use": "sig", {of}}}"#, self.id, self.kind.name())
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }
}

/// The two numbers of a signature in DER, of 32 bytes each (RFC 7518 §3.4).
fn raw(der: &[u8]) -> Vec<u8> {
    let number = |der: &[u8]| {
        let length = usize::from(der[1]);
        let digits = &der[2..2 + length];
        let digits = digits.strip_prefix(&[0]).unwrap_or(digits);
        let mut number = vec![0; 32 - digits.len()];
        number.extend_from_slice(digits);
        (number, 2 + length)
    };
    let (first, end) = number(&der[2..]);
    let (second, _) = number(&der[2 + end..]);
    [first, second].concat()
}

fn openssl(args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("openssl");
    let command =
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
