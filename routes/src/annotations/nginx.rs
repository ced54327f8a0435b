//! Rows of `nginx.ingress.kubernetes.io/`: every annotation that ingress-nginx publishes, and older ones that
//! are still about.
//!
//! What is not built closes the Ingress if it belongs to a protection, even where it would do nothing
//! alone: it shows that its author meant to be protected. Once a protection is built, its rows are
//! honoured; nothing else changes here.

use super::{
    table::{Annotation, Family, ObjectKind},
    value::{
        AFFINITY, AFFINITY_CANARY, AFFINITY_MODE, ALGORITHM, ALIASES, APP_ROOT,
        AUTH_ALWAYS_COOKIES, AUTH_COPY, AUTH_FIELDS, AUTH_LAYOUT, AUTH_METHOD, AUTH_REALM,
        AUTH_REDIRECT, AUTH_SECRET, AUTH_SIGNIN, AUTH_SIGNIN_PARAMETER, AUTH_TYPE, AUTH_URL,
        BODY_SIZE, BURST, CANARY, CANARY_COOKIE, CANARY_HEADER, CANARY_PATTERN, CANARY_TOTAL,
        CANARY_VALUE, CANARY_WEIGHT, CONNECT_TIMEOUT, CONNECTION_HEADER, CONNECTIONS,
        COOKIE_DOMAIN, COOKIE_PATH, CORS_CREDENTIALS, CORS_EXPOSE, CORS_HEADERS, CORS_MAX_AGE,
        CORS_METHODS, CORS_ORIGINS, CUSTOM_HEADERS, DEFAULT_BACKEND, DENIED_NETWORKS, ENABLE_CORS,
        FIREWALL, FLAG, FLAG_ON, FORCE_SSL_REDIRECT, FORWARDED_PREFIX, FROM_TO_WWW, GLOBAL_AUTH,
        HASH_BY, HASH_SUBSET, HASH_SUBSET_SIZE, HTTP_ERRORS, IGNORED, KEEP_SLASH, LEAVE_ERRORS,
        LIMIT, LIMIT_EXEMPT, NETWORKS, NEXT_TIME, NEXT_TRIES, NEXT_UPSTREAM, PACE, PACE_AFTER,
        PASS_THROUGH, PAUSE_TIMEOUT, PERMANENT, PERMANENT_CODE, PROTOCOL, PROXY_CIPHERS,
        PROXY_DEPTH, PROXY_NAME, PROXY_SECRET, PROXY_SERVER_NAME, PROXY_VERIFY, PROXY_VERSIONS,
        Parser, RATE_PER_MINUTE, RATE_PER_SECOND, REDIRECT_FROM, REDIRECT_TO, REWRITE, SATISFY,
        SEND_TIMEOUT, SESSION_CONDITIONAL, SESSION_DOMAIN, SESSION_EXPIRES, SESSION_MAX_AGE,
        SESSION_MOVES, SESSION_NAME, SESSION_PARTITIONED, SESSION_PATH, SESSION_SAME_SITE,
        SESSION_SECURE, SSL_REDIRECT, SWITCH, TEMPORAL, TEMPORAL_CODE, TEXT, UPSTREAM_HOST,
        USE_REGEX,
    },
};

const ON: &[ObjectKind] = &[ObjectKind::Ingress];

/// Annotations of ingress-nginx.
pub(super) static FAMILY: Family = Family::new("nginx.ingress.kubernetes.io/", ON, ROWS);

const ROWS: &[Annotation] = &[
    honoured("affinity", AFFINITY, "", "`cookie`: clients are kept on one endpoint by a cookie, which is sealed."),
    honoured("affinity-canary-behavior", AFFINITY_CANARY, "sticky", "`sticky`: clients are kept on a canary, or off it; `legacy`: the canary decides with each request."),
    honoured("affinity-mode", AFFINITY_MODE, "balanced", "`balanced`: a new endpoint takes its part of all clients; `persistent`: clients stay."),
    honoured(
        "allowlist-source-range",
        NETWORKS,
        "",
        "Client networks that may pass, separated by commas; others get 403.",
    )
    .protecting()
    .but("beside whitelist-source-range both must let a client pass"),
    honoured("app-root", APP_ROOT, "", "Path to which requests of `/` are redirected (302)."),
    honoured("auth-always-set-cookie", AUTH_ALWAYS_COOKIES, "false", "Cookies of the answer of auth-url go to the client whatever the status.").protecting(),
    honoured("auth-cache-duration", IGNORED, "", "Not needed: auth-url is asked about every request, so a session that ends is not served any more.").protecting(),
    honoured("auth-cache-key", IGNORED, "", "Not needed, as auth-cache-duration.").protecting(),
    honoured("auth-keepalive", IGNORED, "", "Not needed: connections to auth-url are kept as those to backends are.").protecting(),
    honoured("auth-keepalive-requests", IGNORED, "", "Not needed, as auth-keepalive.").protecting(),
    honoured("auth-keepalive-share-vars", IGNORED, "", "Not needed, as auth-keepalive.").protecting(),
    honoured("auth-keepalive-timeout", IGNORED, "", "Not needed, as auth-keepalive.").protecting(),
    honoured("auth-method", AUTH_METHOD, "", "Method of the request to auth-url; GET if there is none.").protecting(),
    honoured("auth-proxy-set-headers", AUTH_FIELDS, "", "ConfigMap of the same namespace with fields of the request to auth-url. One that is missing closes.").protecting(),
    honoured("auth-realm", AUTH_REALM, "Authentication Required", "What clients are told that they need a password for.").protecting(),
    honoured("auth-request-redirect", AUTH_REDIRECT, "", "X-Auth-Request-Redirect of the request to auth-url, if not the target of the client's.").protecting(),
    honoured("auth-response-headers", AUTH_COPY, "", "Fields of the answer of auth-url that the backend gets, separated by commas. A client's own never reach it.").protecting(),
    honoured("auth-secret", AUTH_SECRET, "", "Secret of the same namespace with the users of auth-type and their passwords, as `htpasswd` hashes them (bcrypt, apr1, SHA-1, SHA-256- and SHA-512-crypt). A Secret that is missing or lets nobody in closes.").protecting(),
    honoured("auth-secret-type", AUTH_LAYOUT, "auth-file", "`auth-file`: a file of htpasswd under the key `auth`; `auth-map`: a key for each user.").protecting(),
    honoured("auth-signin", AUTH_SIGNIN, "", "URL to which clients are redirected (302) that auth-url answers with 401.").protecting(),
    honoured("auth-signin-redirect-param", AUTH_SIGNIN_PARAMETER, "rd", "Parameter of auth-signin that names the way back, unless it is there already.").protecting(),
    closes("auth-snippet", TEXT, "Configuration of nginx about auth-url."),
    closes("auth-tls-error-page", TEXT, "Where clients without certificate are sent.").of_host(),
    closes("auth-tls-match-cn", TEXT, "Name that a client certificate must have.").of_host(),
    closes(
        "auth-tls-pass-certificate-to-upstream",
        FLAG,
        "Whether the backend sees the certificate.",
    ),
    closes("auth-tls-secret", TEXT, "Authorities that client certificates must chain to.").of_host(),
    closes("auth-tls-verify-client", SWITCH, "Whether a client certificate is asked for.").of_host(),
    closes("auth-tls-verify-depth", TEXT, "How long the chain of a client certificate may be.").of_host(),
    honoured("auth-type", AUTH_TYPE, "", "`basic`: clients show a name and a password that auth-secret knows; others get 401. `digest` closes.").protecting(),
    honoured("auth-url", AUTH_URL, "", "URL that is asked about every request, without its body: 2xx lets it pass, 401 and 403 refuse it, anything else and no answer within 10 s are 500. `https` is for hosts of this gateway only, which it asks directly.").protecting(),
    honoured(
        "backend-protocol",
        PROTOCOL,
        "",
        "What is spoken to the backend: `HTTP`, `HTTPS`, `GRPC` (HTTP/2 in clear text) or `GRPCS`. It goes before `appProtocol`, which holds where nothing is said.",
    )
    .protecting()
    .but("AUTO_HTTP, FCGI and unknown words close the path"),
    honoured(
        "canary",
        CANARY,
        "false",
        "Take requests of the Ingress of this namespace that has the same host, path and pathType.",
    ),
    honoured(
        "canary-by-cookie",
        CANARY_COOKIE,
        "",
        "Cookie that chooses the canary (`always`) or not (`never`).",
    ),
    honoured(
        "canary-by-header",
        CANARY_HEADER,
        "",
        "Header that chooses the canary (`always`) or not (`never`).",
    ),
    honoured(
        "canary-by-header-pattern",
        CANARY_PATTERN,
        "",
        "Expression for that header's value instead, if no value is given.",
    ),
    honoured(
        "canary-by-header-value",
        CANARY_VALUE,
        "",
        "Value of that header that chooses the canary instead.",
    ),
    honoured(
        "canary-weight",
        CANARY_WEIGHT,
        "0",
        "Requests of canary-weight-total that the canary gets of all others.",
    ),
    honoured(
        "canary-weight-total",
        CANARY_TOTAL,
        "100",
        "What the weight is of.",
    ),
    harmless("client-body-buffer-size", TEXT, "Buffer for the body of a request: it passes as it comes."),
    closes(
        "configuration-snippet",
        TEXT,
        "Configuration of nginx, which may refuse requests. With `--understand-snippets` one that says only what has a \
         setting here does that.",
    )
    .remedy("say it with annotations; with --understand-snippets many a snippet is read as it stands"),
    honoured(
        "connection-proxy-header",
        CONNECTION_HEADER,
        "keep-alive",
        "Connection header for the backend: `close` keeps no connection, `keep-alive` does. WebSockets are upgraded whatever it says.",
    ),
    honoured(
        "cors-allow-credentials",
        CORS_CREDENTIALS,
        "true",
        "Whether other origins may send cookies; never said to all origins.",
    )
    .but("with the origin `*` cookies are not allowed, as browsers demand"),
    honoured(
        "cors-allow-headers",
        CORS_HEADERS,
        "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization",
        "Headers that other origins may send.",
    ),
    honoured(
        "cors-allow-methods",
        CORS_METHODS,
        "GET, PUT, POST, DELETE, PATCH, OPTIONS",
        "Methods that other origins may use.",
    ),
    honoured(
        "cors-allow-origin",
        CORS_ORIGINS,
        "*",
        "Origins whose pages may send requests, separated by commas; `https://*.example.com` is any one label.",
    )
    .but("origins match whole; one that cannot be read lets nobody in"),
    honoured(
        "cors-expose-headers",
        CORS_EXPOSE,
        "",
        "Headers of answers that other origins may see.",
    ),
    honoured(
        "cors-max-age",
        CORS_MAX_AGE,
        "1728000",
        "Seconds for which browsers remember what is allowed.",
    ),
    honoured(
        "custom-headers",
        CUSTOM_HEADERS,
        "",
        "ConfigMap of the same namespace whose entries are headers of all answers; without it every path is closed (503).",
    )
    .protecting(),
    honoured(
        "custom-http-errors",
        HTTP_ERRORS,
        "",
        "Statuses from 300 to 599, separated by commas, of answers that clients do not get: default-backend, or `gatehouse.io/error-pages`, or a short text stands in.",
    ),
    honoured(
        "default-backend",
        DEFAULT_BACKEND,
        "",
        "Service of the same namespace (its first port) that words the errors of custom-http-errors, and answers where the backend has no endpoint.",
    ),
    honoured(
        "denylist-source-range",
        DENIED_NETWORKS,
        "",
        "Client networks that may not pass, separated by commas; they get 403.",
    )
    .protecting(),
    honoured(
        "disable-proxy-intercept-errors",
        LEAVE_ERRORS,
        "false",
        "Whether custom-http-errors leaves answers of the backend as they are.",
    ),
    harmless("enable-access-log", FLAG_ON, "Whether requests are logged: they are."),
    honoured(
        "enable-cors",
        ENABLE_CORS,
        "false",
        "Whether preflights are answered (204) and CORS headers are set.",
    )
    .but("only preflights are answered here; other OPTIONS requests are the backend's"),
    honoured("enable-global-auth", GLOBAL_AUTH, "true", "`false`: global-auth-url is not asked.").protecting(),
    closes("enable-modsecurity", FLAG, "Whether ModSecurity looks at requests."),
    harmless("enable-opentelemetry", FLAG, "Whether requests are traced."),
    harmless("enable-opentracing", FLAG, "Whether requests are traced, in an older form."),
    closes("enable-owasp-core-rules", FLAG, "Whether ModSecurity uses the OWASP rules."),
    harmless("enable-rewrite-log", FLAG, "Whether nginx writes down its rewrites."),
    harmless("fastcgi-index", TEXT, "With backend-protocol `FCGI` only."),
    harmless("fastcgi-params-configmap", TEXT, "With backend-protocol `FCGI` only."),
    honoured(
        "force-ssl-redirect",
        FORCE_SSL_REDIRECT,
        "false",
        "Redirect to https also if the host has no `tls` entry.",
    ),
    honoured(
        "from-to-www-redirect",
        FROM_TO_WWW,
        "false",
        "Redirect the host with `www.`, or without, to this one (308).",
    ),
    closes("global-rate-limit", LIMIT, "Requests within a window at most, over all replicas."),
    closes("global-rate-limit-ignored-cidrs", TEXT, "Client networks that are not counted."),
    closes("global-rate-limit-key", TEXT, "What is counted by."),
    closes("global-rate-limit-window", TEXT, "Length of that window."),
    closes("grpc-backend", FLAG, "Older form of backend-protocol `GRPC`.")
        .remedy("write backend-protocol: GRPC"),
    harmless("http2-push-preload", FLAG, "Whether `Link` headers become HTTP/2 pushes."),
    honoured(
        "limit-allowlist",
        LIMIT_EXEMPT,
        "",
        "Client networks that no limit is for, separated by commas.",
    )
    .protecting(),
    honoured(
        "limit-burst-multiplier",
        BURST,
        "5",
        "How many times its limit a client may send at once.",
    )
    .protecting(),
    honoured(
        "limit-connections",
        CONNECTIONS,
        "0",
        "Requests of a client address under way at most; others get 429. Each stream of HTTP/2 counts.",
    )
    .protecting(),
    honoured("limit-rate", PACE, "0", "KiB per second of an answer at most.").protecting(),
    honoured(
        "limit-rate-after",
        PACE_AFTER,
        "0",
        "KiB of an answer that leave at once before limit-rate counts.",
    )
    .protecting(),
    honoured(
        "limit-rpm",
        RATE_PER_MINUTE,
        "0",
        "Requests per minute and client address at most; others get 429.",
    )
    .protecting()
    .but("who sends too much gets 429 instead of 503, and an IPv6 client is counted as its /64"),
    honoured(
        "limit-rps",
        RATE_PER_SECOND,
        "0",
        "Requests per second and client address at most; others get 429.",
    )
    .protecting()
    .but("who sends too much gets 429 instead of 503, and an IPv6 client is counted as its /64"),
    honoured(
        "limit-whitelist",
        LIMIT_EXEMPT,
        "",
        "Older name of limit-allowlist; both count.",
    )
    .protecting(),
    honoured("load-balance", ALGORITHM, "", "How the endpoint is chosen: `round_robin` (the default), `ewma`, `least_request`, `random` or `ip_hash`."),
    closes("lua-resty-waf", FIREWALL, "Mode of an older firewall."),
    harmless("mirror-host", TEXT, "Host of mirrored requests."),
    harmless("mirror-request-body", TEXT, "Whether bodies are mirrored."),
    differs("mirror-target", TEXT, "Where copies of requests are sent.", "no copy is sent"),
    closes("modsecurity-snippet", TEXT, "Rules of ModSecurity."),
    closes("modsecurity-transaction-id", TEXT, "Name of a request in the log of ModSecurity."),
    harmless("opentelemetry-operation-name", TEXT, "What traces are called."),
    harmless("opentelemetry-trust-incoming-span", TEXT, "Whether traces of clients go on."),
    harmless(
        "opentracing-trust-incoming-span",
        TEXT,
        "Whether traces of clients go on, in an older form.",
    ),
    honoured(
        "permanent-redirect",
        PERMANENT,
        "",
        "URL to which all requests are redirected for good; `$request_uri` and the like are filled in.",
    )
    .but("a client that the lists of addresses keep out gets 403 and no redirect"),
    honoured("permanent-redirect-code", PERMANENT_CODE, "301", "Status of that redirect."),
    honoured(
        "preserve-trailing-slash",
        KEEP_SLASH,
        "false",
        "Whether the redirect to https keeps a slash at the end.",
    ),
    honoured(
        "proxy-body-size",
        BODY_SIZE,
        "0",
        "Size of a request body at most, such as `8m`; larger ones get 413.",
    )
    .protecting(),
    harmless("proxy-buffer-size", TEXT, "Buffer for the head of an answer: 256 KiB of fields pass."),
    harmless("proxy-buffering", SWITCH, "Whether answers are read ahead: they pass as they come."),
    harmless("proxy-buffers-number", TEXT, "Buffers for an answer."),
    harmless("proxy-busy-buffers-size", TEXT, "How much of them may be on its way."),
    honoured(
        "proxy-connect-timeout",
        CONNECT_TIMEOUT,
        "",
        "How long a connection to an endpoint may take: seconds, or a time such as `500ms`.",
    ),
    honoured(
        "proxy-cookie-domain",
        COOKIE_DOMAIN,
        "off",
        "Domain of the backend's cookies and the one that stands there instead, such as `localhost example.com`.",
    ),
    honoured(
        "proxy-cookie-path",
        COOKIE_PATH,
        "off",
        "Begin of the path of the backend's cookies and what stands there instead, such as `/app /`.",
    ),
    harmless("proxy-http-version", TEXT, "Version of HTTP towards the backend."),
    harmless("proxy-max-temp-file-size", TEXT, "How much of an answer may be in a file."),
    honoured(
        "proxy-next-upstream",
        NEXT_UPSTREAM,
        "",
        "Failures after which another endpoint is tried; a request with a body, or of a method that should not \
         be repeated, only if no endpoint has seen it (`non_idempotent`: any method).",
    )
    .but("a request with a body goes on only if no endpoint has seen it; without a word, no answer in time is 504 at once"),
    honoured(
        "proxy-next-upstream-timeout",
        NEXT_TIME,
        "",
        "How long other endpoints are tried, in seconds; `0`: as long as it takes.",
    ),
    honoured(
        "proxy-next-upstream-tries",
        NEXT_TRIES,
        "",
        "How many endpoints get a request at most; `0`: all there are.",
    ),
    honoured(
        "proxy-read-timeout",
        PAUSE_TIMEOUT,
        "",
        "How long the backend may be silent (504), and nothing move in a WebSocket: seconds, or a time such as \
         `1h`.",
    ),
    honoured(
        "proxy-redirect-from",
        REDIRECT_FROM,
        "off",
        "Begin of `Location` and `Refresh` of the backend that is changed, or an expression behind `~`.",
    ),
    honoured(
        "proxy-redirect-to",
        REDIRECT_TO,
        "off",
        "What that is changed to; `$1` to `$9`, `$host`, `$http_host` and `$scheme` are filled in.",
    ),
    harmless(
        "proxy-request-buffering",
        SWITCH,
        "Whether requests are read ahead: they pass as they come.",
    ),
    honoured(
        "proxy-send-timeout",
        SEND_TIMEOUT,
        "",
        "How long the backend may take nothing of a request's body (504): seconds, or a time such as `5m`.",
    ),
    honoured(
        "proxy-ssl-ciphers",
        PROXY_CIPHERS,
        "",
        "Ciphers of TLS 1.2 towards the backend, as OpenSSL lists them; those that are not built in do not count.",
    )
    .protecting()
    .but("ECDHE with AES-GCM or ChaCha20 only"),
    honoured(
        "proxy-ssl-name",
        PROXY_NAME,
        "",
        "Name that the backend's certificate must have where it is verified, `SERVICE.NAMESPACE.svc` by default.",
    )
    .protecting()
    .but("names stand in the subject alternative names only"),
    honoured(
        "proxy-ssl-protocols",
        PROXY_VERSIONS,
        "",
        "Versions of TLS towards the backend: `TLSv1.2`, `TLSv1.3` or both, which is the default.",
    )
    .protecting()
    .but("older versions are not spoken"),
    honoured(
        "proxy-ssl-secret",
        PROXY_SECRET,
        "",
        "Secret of the same namespace: `tls.crt` and `tls.key` are shown to the backend, `ca.crt` verifies it.",
    )
    .protecting(),
    honoured(
        "proxy-ssl-server-name",
        PROXY_SERVER_NAME,
        "off",
        "Whether that name is sent to the backend (SNI).",
    )
    .protecting(),
    honoured(
        "proxy-ssl-verify",
        PROXY_VERIFY,
        "off",
        "Whether the backend's certificate is verified by `ca.crt` of proxy-ssl-secret. Off, any certificate will do.",
    )
    .protecting()
    .but("without proxy-ssl-secret it closes the path"),
    honoured(
        "proxy-ssl-verify-depth",
        PROXY_DEPTH,
        "1",
        "Certificates between the backend's own and that of the authority at most.",
    )
    .protecting(),
    harmless("relative-redirects", FLAG, "Whether redirects leave out scheme and host."),
    honoured(
        "rewrite-target",
        REWRITE,
        "",
        "Path to send to the backend instead of the one received; a URL: where the client is sent (302).",
    )
    .protecting(),
    honoured("satisfy", SATISFY, "all", "`any`: clients pass whose address may, or who authenticate; `all`: they need both.").protecting(),
    closes("secure-backends", FLAG, "Older form of backend-protocol `HTTPS`.")
        .remedy("write backend-protocol: HTTPS"),
    closes("secure-verify-ca-secret", TEXT, "Older form of proxy-ssl-secret.")
        .remedy("write proxy-ssl-secret and proxy-ssl-verify"),
    honoured(
        "server-alias",
        ALIASES,
        "",
        "More names of the Ingress' hosts, separated by commas; a host that any object has rules for is nobody's alias.",
    ),
    closes("server-snippet", TEXT, "Configuration of nginx for the host.").of_host(),
    harmless(
        "service-upstream",
        FLAG,
        "Whether the address of the Service stands for its endpoints.",
    ),
    honoured("session-cookie-change-on-failure", SESSION_MOVES, "false", "Whether a client stays where it was sent when its endpoint failed."),
    honoured("session-cookie-conditional-samesite-none", SESSION_CONDITIONAL, "false", "Leaves `SameSite=None` out for browsers that do not know it."),
    honoured("session-cookie-domain", SESSION_DOMAIN, "", "Domain of the cookie."),
    honoured("session-cookie-expires", SESSION_EXPIRES, "", "Seconds that it lasts, as a date for old browsers."),
    honoured("session-cookie-max-age", SESSION_MAX_AGE, "", "Seconds that it lasts; without, as long as the browser is open."),
    honoured("session-cookie-name", SESSION_NAME, "INGRESSCOOKIE", "Name of the cookie for affinity."),
    honoured("session-cookie-partitioned", SESSION_PARTITIONED, "false", "Whether it is for one site only."),
    honoured("session-cookie-path", SESSION_PATH, "", "Path of the cookie; without, the path of the rule."),
    honoured("session-cookie-samesite", SESSION_SAME_SITE, "", "SameSite of the cookie: `None`, `Lax` or `Strict`."),
    honoured("session-cookie-secure", SESSION_SECURE, "", "Whether it is for https only; without, that of a request over https is."),
    differs("ssl-ciphers", TEXT, "Ciphers of the host.", "the built-in ones are used"),
    honoured(
        "ssl-passthrough",
        PASS_THROUGH,
        "false",
        "Whether TLS goes to the backend of `/` as it is, for every host of the Ingress.",
    )
    .protecting()
    .of_host(),
    differs(
        "ssl-prefer-server-ciphers",
        TEXT,
        "Whether our order of ciphers counts.",
        "the built-in order counts",
    ),
    honoured(
        "ssl-redirect",
        SSL_REDIRECT,
        "true",
        "Redirect to https (308) if the host has a `tls` entry.",
    ),
    closes("stream-snippet", TEXT, "Configuration of nginx for TCP and UDP."),
    honoured(
        "temporal-redirect",
        TEMPORAL,
        "",
        "URL to which all requests are redirected for now; it goes before permanent-redirect.",
    )
    .but("a client that the lists of addresses keep out gets 403 and no redirect"),
    honoured("temporal-redirect-code", TEMPORAL_CODE, "302", "Status of that redirect."),
    honoured("upstream-hash-by", HASH_BY, "", "Text with variables of nginx that chooses the endpoint, the same one for the same text."),
    honoured("upstream-hash-by-subset", HASH_SUBSET, "false", "Whether a group of endpoints shares the requests of a text."),
    honoured("upstream-hash-by-subset-size", HASH_SUBSET_SIZE, "3", "Size of such a group."),
    honoured("upstream-vhost", UPSTREAM_HOST, "", "Host header for the backend."),
    harmless("use-port-in-redirects", FLAG, "Whether redirects name the port."),
    honoured(
        "use-regex",
        USE_REGEX,
        "false",
        "Read paths of type ImplementationSpecific as regular expressions.",
    ),
    honoured(
        "whitelist-source-range",
        NETWORKS,
        "",
        "Older name of allowlist-source-range; where both are there, both must let a client pass.",
    )
    .protecting(),
    honoured(
        "x-forwarded-prefix",
        FORWARDED_PREFIX,
        "",
        "X-Forwarded-Prefix for the backend, along with a rewrite.",
    ),
];

const fn honoured(
    name: &'static str,
    parser: Parser,
    default: &'static str,
    doc: &'static str,
) -> Annotation {
    Annotation::honoured(name, ON, parser, default, doc)
}

const fn harmless(name: &'static str, parser: Parser, doc: &'static str) -> Annotation {
    Annotation::harmless(name, ON, parser, doc)
}

const fn closes(name: &'static str, parser: Parser, doc: &'static str) -> Annotation {
    Annotation::closes(name, ON, parser, doc)
}

const fn differs(
    name: &'static str,
    parser: Parser,
    doc: &'static str,
    instead: &'static str,
) -> Annotation {
    Annotation::differs(name, ON, parser, doc, instead)
}
