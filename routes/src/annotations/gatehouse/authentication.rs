//! Rows of JSON Web Tokens, and of services that are asked.

use super::{INGRESS, ROUTED};
use crate::annotations::{
    table::Annotation,
    value::{
        AUTH_AUTHORITIES, JWT_ALGORITHMS, JWT_AUDIENCES, JWT_AUTHORITIES, JWT_CONFIG_MAP, JWT_COPY,
        JWT_FROM, JWT_ISSUER, JWT_KEY, JWT_REQUIRE, JWT_SECRET, JWT_SKEW, JWT_URL, Parser, SATISFY,
    },
};

#[rustfmt::skip]
pub(super) const ROWS: &[Annotation] = &[
    Annotation::honoured("auth-url-ca-secret", INGRESS, AUTH_AUTHORITIES, "", "Secret of the same namespace with the only authorities (`ca.crt`) whose certificates are believed at an auth-url of `https`; without, those that the host of the gateway believes.").protecting(),
    row("jwt-algorithms", JWT_ALGORITHMS, "", "Ways in which tokens may be signed, separated by commas; without, all that have a public key: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA. HS256, HS384 and HS512 need keys from a Secret. `none` is never one."),
    row("jwt-audiences", JWT_AUDIENCES, "", "Audiences, separated by commas: the `aud` claim has to be one of them, or a list with one of them."),
    row("jwt-claims-to-headers", JWT_COPY, "", "Claims and the fields of the request in which the backend gets them, such as `sub=X-User,realm_access.roles=X-Roles`. A client's own fields of these names never reach it."),
    row("jwt-clock-skew", JWT_SKEW, "60s", "By how much the clock of the issuer may differ, 10 minutes at most."),
    row("jwt-from", JWT_FROM, "", "Where a request has its token: `bearer` (`Authorization: Bearer …`), if it is not given, `cookie:NAME` or `header:NAME`."),
    row("jwt-issuer", JWT_ISSUER, "", "What the `iss` claim has to be."),
    row("jwt-jwks-ca-secret", JWT_AUTHORITIES, "", "Secret of the same namespace with the only authorities (`ca.crt`) whose certificates are believed at jwt-jwks-url; without, those that the host of the gateway believes."),
    row("jwt-jwks-config-map", JWT_CONFIG_MAP, "", "ConfigMap of the same namespace with the keys of the issuer (a JWK Set, RFC 7517): only requests with a token that one of them has signed may pass, others get 401. One that is missing or has no key closes."),
    row("jwt-jwks-key", JWT_KEY, "", "Key of the Secret or ConfigMap under which the JWK Set is, `jwks.json` if it is not given."),
    row("jwt-jwks-secret", JWT_SECRET, "", "Secret of the same namespace with the keys of the issuer, as jwt-jwks-config-map."),
    row("jwt-jwks-url", JWT_URL, "", "URL of the keys of the issuer, which is asked when a request first needs them, every 5 minutes, and when a token names a key that is not known (every 10 s at most). What was had once counts until there is better; a URL that never answered closes (503)."),
    row("jwt-require", JWT_REQUIRE, "", "Claims that a token must have, all of them, separated by commas: `role=admin` (or a list with it), `groups=` and several values with a vertical bar between them (one of these), `email` (it is there), `realm_access.roles=dev` (within objects). Others get 403."),
    row("satisfy", SATISFY, "all", "`any`: a client that passes by address need not authenticate, and others may pass by any one way that is asked for."),
];

const fn row(
    name: &'static str,
    parser: Parser,
    default: &'static str,
    doc: &'static str,
) -> Annotation {
    Annotation::honoured(name, ROUTED, parser, default, doc).protecting()
}
