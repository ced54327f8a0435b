//! Rows of passwords and services that are asked.

use super::honoured;
use crate::annotations::{
    table::Annotation,
    value::{
        AUTH_ALWAYS_COOKIES, AUTH_CACHE_DURATION, AUTH_CACHE_KEY, AUTH_COPY, AUTH_FIELDS,
        AUTH_LAYOUT, AUTH_METHOD, AUTH_REALM, AUTH_REDIRECT, AUTH_SECRET, AUTH_SIGNIN,
        AUTH_SIGNIN_PARAMETER, AUTH_TYPE, AUTH_URL, GLOBAL_AUTH, IGNORED,
    },
};

pub(super) const ROWS: &[Annotation] = &[
    honoured("auth-always-set-cookie", AUTH_ALWAYS_COOKIES, "false", "Cookies of the answer of auth-url go to the client whatever the status.").protecting(),
    honoured("auth-cache-duration", AUTH_CACHE_DURATION, "", "How long an answer of auth-url counts, by its status: `200 202 10m, 401 5m`; without, `200 202 401 5m`. It needs auth-cache-key.").protecting(),
    honoured("auth-cache-key", AUTH_CACHE_KEY, "", "What requests have in common for which one answer of auth-url counts, such as `$cookie_session` or `$http_authorization`: variables, besides the object, host and path of the rule. Without, each request is asked about. An answer that sets a cookie or says `no-store`, `no-cache` or `private` counts once.").protecting(),
    honoured("auth-keepalive", IGNORED, "", "Not needed: connections to auth-url are kept as those to backends are.").protecting(),
    honoured("auth-keepalive-requests", IGNORED, "", "Not needed, as auth-keepalive.").protecting(),
    honoured("auth-keepalive-share-vars", IGNORED, "", "Not needed, as auth-keepalive.").protecting(),
    honoured("auth-keepalive-timeout", IGNORED, "", "Not needed, as auth-keepalive.").protecting(),
    honoured("auth-method", AUTH_METHOD, "", "Method of the request to auth-url; GET if there is none.").protecting(),
    honoured("auth-proxy-set-headers", AUTH_FIELDS, "", "ConfigMap of the same namespace with fields of the request to auth-url. One that is missing closes.").protecting(),
    honoured("auth-realm", AUTH_REALM, "Authentication Required", "What clients are told that they need a password for.").protecting(),
    honoured("auth-request-redirect", AUTH_REDIRECT, "", "X-Auth-Request-Redirect of the request to auth-url, if not the target of the client's.").protecting(),
    honoured("auth-response-headers", AUTH_COPY, "", "Fields of the answer of auth-url that the backend gets, separated by commas. A client's own never reach it.").protecting(),
    honoured("auth-secret", AUTH_SECRET, "", "Secret of the same namespace with the users of auth-type and their passwords, as `htpasswd` hashes them (bcrypt, apr1, SHA-1, SHA-256- and SHA-512-crypt). A Secret that is missing or holds no usable password closes.").protecting(),
    honoured("auth-secret-type", AUTH_LAYOUT, "auth-file", "`auth-file`: a file of htpasswd under the key `auth`; `auth-map`: a key for each user.").protecting(),
    honoured("auth-signin", AUTH_SIGNIN, "", "URL to which clients are redirected (302) that auth-url answers with 401.").protecting(),
    honoured("auth-signin-redirect-param", AUTH_SIGNIN_PARAMETER, "rd", "Parameter of auth-signin that names the way back, unless it is there already.").protecting(),
    honoured("auth-type", AUTH_TYPE, "", "`basic`: clients show a name and a password that auth-secret knows; others get 401. `digest` closes.").protecting(),
    honoured("auth-url", AUTH_URL, "", "URL that is asked about every request, without its body: 2xx lets it pass, 401 and 403 refuse it, anything else and no answer within 10 s are 500. Hosts of this gateway are asked directly; others over `https` with their certificate verified (gatehouse.io/auth-url-ca-secret).").protecting(),
    honoured("enable-global-auth", GLOBAL_AUTH, "true", "`false`: global-auth-url is not asked.").protecting(),
];
