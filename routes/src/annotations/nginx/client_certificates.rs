//! Rows of certificates of clients.

use super::honoured;
use crate::annotations::{
    table::Annotation,
    value::{
        AUTH_TLS_DEPTH, AUTH_TLS_ERROR_PAGE, AUTH_TLS_NAME, AUTH_TLS_PASS, AUTH_TLS_SECRET,
        AUTH_TLS_VERIFY,
    },
};

pub(super) const ROWS: &[Annotation] = &[
    honoured("auth-tls-error-page", AUTH_TLS_ERROR_PAGE, "", "URL to which clients are redirected (302) whose certificate is missing or not believed, instead of 400.").protecting().of_host(),
    honoured("auth-tls-match-cn", AUTH_TLS_NAME, "", "`CN=` and a regular expression for the common name of the certificate; others get 403.").protecting().of_host(),
    honoured("auth-tls-pass-certificate-to-upstream", AUTH_TLS_PASS, "false", "The backend gets the certificate in `ssl-client-cert` (PEM, percent-encoded).").protecting(),
    honoured("auth-tls-secret", AUTH_TLS_SECRET, "", "Secret of the same namespace with the authorities (`ca.crt`) that certificates of clients must chain to, and what these have taken back (`ca.crl`). It holds for the whole host. A Secret that is missing or broken closes it.").protecting().of_host(),
    honoured("auth-tls-verify-client", AUTH_TLS_VERIFY, "", "`on` (the default): no request without a certificate that is believed. `optional`: nor one with another. `optional_no_ca`: also one that no authority answers for. `off`: no certificate is asked for.").protecting().of_host(),
    honoured("auth-tls-verify-depth", AUTH_TLS_DEPTH, "", "Certificates between that of the client and that of the authority, at most; 1 if there is none.").protecting().of_host(),
];
