//! Which certificate a client has to show, and what becomes of one that shows another or none.
//!
//! What is asked for belongs to a host, as the handshake happens before anybody knows the path. Whether a chain leads
//! to an authority is found out where TLS lives; what that means for a request is decided here.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use http::HeaderValue;

use crate::{objects::ObjectRef, problem::Problem};

/// What a host asks of the certificates of its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// Who may pass.
    pub demand: Arc<Demand>,
    /// Where clients are sent (302) whose certificate is missing or not believed.
    pub error_page: Option<HeaderValue>,
    /// What tells the backend of the certificate.
    pub fields: CertificateFields,
}

/// The fields of a request that tell its backend of the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateFields {
    /// `ssl-client-*` of ingress-nginx.
    Nginx {
        /// The certificate itself, besides what it says.
        certificate: bool,
    },
    /// `X-SSL*` of OpenShift's router.
    Router,
}

/// Who may pass. Equal demands share their handshakes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Demand {
    /// Authorities (PEM).
    pub authorities: Arc<[u8]>,
    /// Lists of certificates that they have taken back (PEM). With them every authority of a chain needs one.
    pub revoked: Option<Arc<[u8]>>,
    /// What happens without a certificate that is believed.
    pub verify: Verify,
    /// Certificates between that of the client and that of the authority, at most.
    pub depth: u8,
    /// Subjects that may pass; `None`: all.
    pub subjects: Option<Subjects>,
}

/// The subject of a certificate, as two peers spell it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// As nginx has it: `CN=a,O=b`, the last part first (RFC 2253).
    pub rfc2253: String,
    /// As HAProxy has it: `/O=b/CN=a`. A slash within a value is written `\2F`.
    pub one_line: String,
}

/// Subjects that may pass.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subjects {
    /// Those with such a common name (`auth-tls-match-cn`).
    CommonName(CommonName),
    /// Those that fit one of these (`allowedSubjectPatterns` of an IngressController).
    Patterns(SubjectPatterns),
}

impl Subjects {
    fn admit(&self, subject: &Subject) -> bool {
        match self {
            Self::CommonName(name) => name.admits(&subject.rfc2253),
            Self::Patterns(patterns) => patterns.regexes.is_match(&subject.one_line),
        }
    }

    /// What they are written as, the same on every node.
    pub fn text(&self) -> String {
        match self {
            Self::CommonName(name) => name.text.to_string(),
            Self::Patterns(patterns) => patterns.regexes.patterns().join("\n"),
        }
    }
}

/// Regular expressions for subjects, which need not begin where the subject does.
#[derive(Clone, Debug)]
pub struct SubjectPatterns {
    regexes: regex::RegexSet,
}

impl PartialEq for SubjectPatterns {
    fn eq(&self, other: &Self) -> bool {
        self.regexes.patterns() == other.regexes.patterns()
    }
}

impl Eq for SubjectPatterns {}

impl Hash for SubjectPatterns {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.regexes.patterns().hash(state);
    }
}

impl SubjectPatterns {
    /// Reads expressions; any of them lets a subject pass.
    ///
    /// # Errors
    /// Text that says what is wrong, with the expression.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        let regexes = regex::RegexSetBuilder::new(texts).size_limit(1 << 20).build();
        regexes.map(|regexes| Self { regexes }).map_err(|error| error.to_string())
    }
}

/// What happens without a certificate that is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verify {
    /// Nobody passes without one.
    #[default]
    Required,
    /// A certificate, where one is shown, has to be believed.
    Optional,
    /// One that no authority answers for passes, too, and the backend is told.
    OptionalUnknown,
}

/// A regular expression that begins with `CN=`, compared with the subject of a certificate from a common name on.
#[derive(Clone, Debug)]
pub struct CommonName {
    text: Arc<str>,
    regex: regex::Regex,
}

impl PartialEq for CommonName {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for CommonName {}

impl Hash for CommonName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl CommonName {
    /// Reads an expression.
    ///
    /// # Errors
    /// Text that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if !text.starts_with("CN=") {
            return Err("does not begin with CN=");
        }
        // What the expression says of its own begin is about the common name.
        let regex = regex::RegexBuilder::new(&format!("^(?:{text})")).size_limit(1 << 20).build();
        let regex = regex.map_err(|_| "is not a regular expression")?;
        Ok(Self { text: text.into(), regex })
    }

    /// Whether a subject (RFC 4514) has such a common name. No other attribute of the subject counts, whatever its
    /// value looks like.
    pub fn admits(&self, subject: &str) -> bool {
        attributes(subject).any(|rest| rest.starts_with("CN=") && self.regex.is_match(rest))
    }
}

/// The rest of a subject from each of its attributes on.
fn attributes(subject: &str) -> impl Iterator<Item = &str> {
    let bytes = subject.as_bytes();
    let mut begins = std::iter::once(0).chain(bytes.iter().enumerate().filter_map(|(at, byte)| {
        let escapes = bytes[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
        (matches!(byte, b',' | b'+') && escapes % 2 == 0).then_some(at + 1)
    }));
    std::iter::from_fn(move || begins.next()).map(|at| &subject[at..])
}

/// What a client has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown<'c> {
    /// No certificate.
    None,
    /// One that an authority answers for, with this subject.
    Believed(&'c Subject),
    /// One that no authority answers for, with this subject; nothing else is wrong with it.
    Unknown(&'c Subject),
    /// One with which something else is wrong.
    Invalid,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No certificate was shown.
    Missing,
    /// It is not believed.
    NotBelieved,
    /// It has another name.
    OtherName,
}

impl Demand {
    /// Whether a request may pass, by what its client has shown.
    ///
    /// # Errors
    /// Why it may not.
    pub fn admit(&self, shown: Shown<'_>) -> Result<(), Refusal> {
        let subject = match (shown, self.verify) {
            (Shown::None, Verify::Required) => return Err(Refusal::Missing),
            (Shown::None, Verify::Optional | Verify::OptionalUnknown) => None,
            (Shown::Believed(subject), _) | (Shown::Unknown(subject), Verify::OptionalUnknown) => {
                Some(subject)
            }
            (Shown::Unknown(_) | Shown::Invalid, _) => return Err(Refusal::NotBelieved),
        };
        let admits = |subjects: &Subjects| subject.is_some_and(|subject| subjects.admit(subject));
        match &self.subjects {
            Some(subjects) if !admits(subjects) => Err(Refusal::OtherName),
            _ => Ok(()),
        }
    }
}

/// The problem of an object whose demand is not the one of its host.
pub(crate) fn conflict(object: &ObjectRef, host: &str, owner: Option<&ObjectRef>) -> Problem {
    let (what, hint) = match owner {
        Some(owner) => (
            format!("{owner} asks for other client certificates of {host}"),
            "a host has one demand: name the same Secret, verify-client, verify-depth and match-cn in both",
        ),
        None => (
            format!("{host} belongs to another namespace, which asks for no client certificates"),
            "ask for them in the namespace that has the host, or use a host of your own",
        ),
    };
    Problem::error(
        object,
        "ClientCertificatesDiffer",
        "metadata.annotations",
        format!("{what}, so the paths of this object are closed there (503)"),
        hint,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(rfc2253: &str) -> Subject {
        Subject { rfc2253: rfc2253.to_owned(), one_line: format!("/{rfc2253}") }
    }

    fn demand(verify: Verify, name: Option<&str>) -> Demand {
        Demand {
            authorities: Arc::default(),
            revoked: None,
            verify,
            depth: 1,
            subjects: name.map(|name| Subjects::CommonName(CommonName::parse(name).unwrap())),
        }
    }

    #[test]
    fn what_a_client_shows_decides_by_what_is_asked_for() {
        use Refusal::{Missing, NotBelieved};
        let a = subject("CN=a");
        let shown = [Shown::None, Shown::Believed(&a), Shown::Unknown(&a), Shown::Invalid];
        for (verify, expected) in [
            (Verify::Required, [Err(Missing), Ok(()), Err(NotBelieved), Err(NotBelieved)]),
            (Verify::Optional, [Ok(()), Ok(()), Err(NotBelieved), Err(NotBelieved)]),
            (Verify::OptionalUnknown, [Ok(()), Ok(()), Ok(()), Err(NotBelieved)]),
        ] {
            let demand = demand(verify, None);
            assert_eq!(shown.map(|shown| demand.admit(shown)), expected, "{verify:?}");
        }
    }

    #[test]
    fn a_name_is_compared_from_its_begin_and_with_common_names_only() {
        let admits = |name, text| {
            let subject = subject(text);
            demand(Verify::Required, Some(name)).admit(Shown::Believed(&subject)).is_ok()
        };
        assert!(admits("CN=alice", "CN=alice,O=x"));
        assert!(admits("CN=alice", "O=x,CN=alice"));
        assert!(admits("CN=alice,O=x$", "CN=alice,O=x"));
        assert!(admits("CN=(alice|bob)", "OU=a+CN=bob"));
        // As in nginx: only an end that is written is an end.
        assert!(admits("CN=alice", "CN=alice2"));
        assert!(!admits("CN=alice$", "CN=alice2"));
        assert!(!admits("CN=alice", "CN=malice"));
        for forged in
            ["O=CN=alice", "O=x\\,CN=alice", "CN=x\\,CN=alice", "OU=x\\+CN=alice,CN=b", ""]
        {
            assert!(!admits("CN=alice", forged), "{forged}");
        }
        assert!(admits("CN=alice", "O=x\\\\,CN=alice"));
        assert!(!admits("CN=a|O=b", "O=b"));
    }

    #[test]
    fn any_of_the_patterns_lets_a_subject_pass_and_none_does_without_a_certificate() {
        let patterns = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            SubjectPatterns::parse(&texts)
        };
        let subjects = patterns(&["^/CN=alice/O=x$", "legacy"]).map(Subjects::Patterns).ok();
        let demand = Demand { subjects, ..demand(Verify::Optional, None) };
        for (one_line, passes) in [
            ("/CN=alice/O=x", true),
            ("/C=US/CN=alice/O=x", false),
            ("/CN=a legacy one", true),
            ("/CN=bob", false),
        ] {
            let subject = Subject { rfc2253: String::new(), one_line: one_line.to_owned() };
            assert_eq!(demand.admit(Shown::Believed(&subject)).is_ok(), passes, "{one_line}");
        }
        assert_eq!(demand.admit(Shown::None), Err(Refusal::OtherName));
        assert!(patterns(&["("]).is_err());
        assert_eq!(patterns(&["a"]).unwrap(), patterns(&["a"]).unwrap());
        assert_ne!(patterns(&["a"]).unwrap(), patterns(&["a", "b"]).unwrap());
    }

    #[test]
    fn without_a_certificate_there_is_no_name() {
        let demand = demand(Verify::Optional, Some("CN=.*"));
        assert_eq!(demand.admit(Shown::None), Err(Refusal::OtherName));
        assert_eq!(CommonName::parse("alice"), Err("does not begin with CN="));
        assert_eq!(CommonName::parse("CN=("), Err("is not a regular expression"));
    }
}
