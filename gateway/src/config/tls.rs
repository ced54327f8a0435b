//! What TLS clients may speak and what those of Routes have to show, as the command line says it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use gatehouse_routes::filter::client_certificate::Verify;

/// What TLS clients may speak.
#[derive(Args, Clone, Debug, Default)]
pub struct TlsSettings {
    /// Versions and ciphers that clients may speak, by the names of Mozilla and of OpenShift's `tlsSecurityProfile`:
    /// `modern` (TLS 1.3), `intermediate` (TLS 1.2 and 1.3), `old` (the same: what it has beyond that is not built in,
    /// and a Problem names it), or `custom` (what --tls-min-version and --tls-ciphers say).
    #[arg(
        long,
        value_name = "PROFILE",
        default_value = "intermediate",
        hide_possible_values = true,
        help_heading = "Traffic"
    )]
    pub tls_profile: TlsProfile,

    /// Lowest version of TLS that clients may speak: `1.2` or `1.3`, also written `TLSv1.2` or `VersionTLS12`. `1.0`
    /// and `1.1` mean `1.2`, with a Problem. Default: that of the profile.
    #[arg(long, value_name = "VERSION", hide_possible_values = true, help_heading = "Traffic")]
    pub tls_min_version: Option<TlsVersion>,

    /// Ciphers that clients may use, the preferred ones first, as OpenSSL lists them or by the names of the RFCs,
    /// separated by `:` or `,`. The names of ciphers of TLS 1.3 choose among those, others among ECDHE with AES-GCM or
    /// ChaCha20; no others are built in, and a Problem names what is left out. A list that leaves nothing is an error.
    /// Default: those of the profile, in the order of the client.
    #[arg(long, value_name = "CIPHERS", help_heading = "Traffic")]
    pub tls_ciphers: Option<String>,
}

/// What clients of Routes have to show over TLS (`clientTLS` of an IngressController).
#[derive(Args, Clone, Debug, Default)]
pub struct RouteClientSettings {
    /// File (PEM) with the authorities whose certificates clients of `edge` and `reencrypt` Routes have to show
    /// (`clientTLS.clientCA`). Read at the start. Default: nothing is asked for.
    #[arg(long, value_name = "FILE", help_heading = "Routes")]
    pub client_ca: Option<PathBuf>,

    /// File (PEM) with lists of the certificates that these authorities have taken back, one of each authority. Read
    /// at the start.
    #[arg(long, value_name = "FILE", requires = "client_ca", help_heading = "Routes")]
    pub client_crl: Option<PathBuf>,

    /// Whether a client without a certificate is refused (`required`, with 400) or passes (`optional`); one that shows
    /// another certificate is refused in any case (`clientTLS.clientCertificatePolicy`).
    #[arg(
        long,
        value_name = "POLICY",
        default_value = "required",
        hide_possible_values = true,
        requires = "client_ca",
        help_heading = "Routes"
    )]
    pub client_certificate_policy: ClientCertificatePolicy,

    /// Regular expression for subjects that may pass, such as `^/CN=example.com/O=Security$`; it need not begin where
    /// the subject does. Others get 403, as do clients without a certificate. May repeat: one that fits is enough
    /// (`clientTLS.allowedSubjectPatterns`). Default: every subject.
    #[arg(
        long = "client-subject-pattern",
        value_name = "REGEX",
        requires = "client_ca",
        help_heading = "Routes"
    )]
    pub client_subject_patterns: Vec<String>,
}

/// Whether clients without a certificate pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ClientCertificatePolicy {
    /// They do not.
    #[default]
    #[value(alias = "Required")]
    Required,
    /// They do.
    #[value(alias = "Optional")]
    Optional,
}

impl From<ClientCertificatePolicy> for Verify {
    fn from(policy: ClientCertificatePolicy) -> Self {
        match policy {
            ClientCertificatePolicy::Required => Self::Required,
            ClientCertificatePolicy::Optional => Self::Optional,
        }
    }
}

/// A profile of Mozilla and of OpenShift's `tlsSecurityProfile`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TlsProfile {
    /// TLS 1.0 and later.
    Old,
    /// TLS 1.2 and 1.3.
    #[default]
    Intermediate,
    /// TLS 1.3.
    Modern,
    /// What the other settings say.
    Custom,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum TlsVersion {
    /// RFC 2246; not built in.
    #[value(name = "1.0", aliases = ["TLSv1", "TLSv1.0", "VersionTLS10"])]
    Tls10,
    /// RFC 4346; not built in.
    #[value(name = "1.1", aliases = ["TLSv1.1", "VersionTLS11"])]
    Tls11,
    /// RFC 5246.
    #[value(name = "1.2", aliases = ["TLSv1.2", "VersionTLS12"])]
    Tls12,
    /// RFC 8446.
    #[value(name = "1.3", aliases = ["TLSv1.3", "VersionTLS13"])]
    Tls13,
}
