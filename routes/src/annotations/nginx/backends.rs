//! Rows of which endpoint gets a request, and what is spoken to it.

use super::{closes, harmless, honoured};
use crate::annotations::{
    table::Annotation,
    value::{
        ALGORITHM, CONNECTION_HEADER, FLAG, HASH_BY, HASH_SUBSET, HASH_SUBSET_SIZE, OF_SERVICE,
        PROTOCOL, PROXY_CIPHERS, PROXY_DEPTH, PROXY_NAME, PROXY_SECRET, PROXY_SERVER_NAME,
        PROXY_VERIFY, PROXY_VERSIONS, TEXT, UPSTREAM_HOST,
    },
};

pub(super) const ROWS: &[Annotation] = &[
    honoured(
        "backend-protocol",
        PROTOCOL,
        "",
        "What is spoken to the backend: `HTTP`, `HTTPS`, `GRPC` (HTTP/2 in clear text) or `GRPCS`. It goes before `appProtocol`, which holds where nothing is said.",
    )
    .protecting()
    .but("AUTO_HTTP, FCGI and unknown words close the path"),
    honoured(
        "connection-proxy-header",
        CONNECTION_HEADER,
        "keep-alive",
        "Connection header for the backend: `close` keeps no connection, `keep-alive` does. WebSockets are upgraded whatever it says.",
    ).tuning(),
    harmless("fastcgi-index", TEXT, "With backend-protocol `FCGI` only."),
    harmless("fastcgi-params-configmap", TEXT, "With backend-protocol `FCGI` only."),
    closes("grpc-backend", FLAG, "Older form of backend-protocol `GRPC`.")
        .remedy("write backend-protocol: GRPC"),
    honoured("load-balance", ALGORITHM, "", "How the endpoint is chosen: `round_robin` (the default), `ewma`, `least_request`, `random` or `ip_hash`.").tuning(),
    harmless("proxy-http-version", TEXT, "Version of HTTP towards the backend."),
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
    closes("secure-backends", FLAG, "Older form of backend-protocol `HTTPS`.")
        .remedy("write backend-protocol: HTTPS"),
    closes("secure-verify-ca-secret", TEXT, "Older form of proxy-ssl-secret.")
        .remedy("write proxy-ssl-secret and proxy-ssl-verify"),
    honoured(
        "service-upstream",
        OF_SERVICE,
        "false",
        "Whether requests are sent to the address of the Service, so that the cluster chooses among its endpoints. A Service without one is reached by its endpoints.",
    ).tuning(),
    honoured("upstream-hash-by", HASH_BY, "", "Text with variables of nginx that chooses the endpoint, the same one for the same text."),
    honoured("upstream-hash-by-subset", HASH_SUBSET, "false", "Whether a group of endpoints shares the requests of a text.").tuning(),
    honoured("upstream-hash-by-subset-size", HASH_SUBSET_SIZE, "3", "Size of such a group.").tuning(),
    honoured("upstream-vhost", UPSTREAM_HOST, "", "Host header for the backend; `$service_name`, `$service_port`, `$namespace` and `$ingress_name` are filled in."),
];
