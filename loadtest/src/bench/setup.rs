//! What peers are set up to do, each setup one value: for each there is one process of every peer that knows how.
//!
//! A [`Feature`] is what an object asks for beside being served, in the words of each peer. What all peers
//! are told beyond that is in [`config`](super::config).

use super::kind::Kind;

/// Everybody.
const ALL: &[Kind] = &[Kind::Gatehouse, Kind::Nginx, Kind::Haproxy, Kind::Envoy];
/// Those whose objects are Ingresses, and the proxy that other controllers of Ingresses are made of.
const INGRESS: &[Kind] = &[Kind::Gatehouse, Kind::Nginx, Kind::Haproxy];
/// Those of whom one has no such feature without a program of its own.
const WITH_NGINX: &[Kind] = &[Kind::Gatehouse, Kind::Nginx];
/// OpenShift's router is HAProxy.
const ROUTERS: &[Kind] = &[Kind::Gatehouse, Kind::Haproxy];

/// What a process is set up to do.
#[derive(Debug)]
pub(super) struct Setup {
    /// Names its folder.
    pub(super) name: &'static str,
    /// Who can do it.
    pub(super) peers: &'static [Kind],
    pub(super) serves: Serves,
}

/// What a process serves.
#[derive(Debug)]
pub(super) enum Serves {
    /// So many hosts, each an Ingress with this feature.
    Hosts { count: usize, feature: &'static Feature },
    /// OpenShift's Routes: one of each termination, and so many in clear text. HAProxy is told what the
    /// router's template tells it.
    Routes { clear: usize },
    /// A TCP port that is passed on as it is.
    Tcp,
}

/// Something that a rule does beside forwarding. `{auth}` and `{folder}` are filled in.
#[derive(Debug)]
pub(super) struct Feature {
    /// Annotations of the Ingress, YAML in flow style.
    pub(super) annotations: &'static str,
    /// Other objects that those name.
    pub(super) objects: &'static str,
    /// Path of the Ingress and its type.
    pub(super) path: (&'static str, &'static str),
    /// Files of the peer's folder, name and content.
    pub(super) files: &'static [(&'static str, &'static str)],
    /// nginx: lines in `http`, in `server` and in `location`, and what that matches.
    pub(super) nginx_http: &'static str,
    pub(super) nginx_server: &'static str,
    pub(super) nginx_location: &'static str,
    pub(super) nginx_match: &'static str,
    /// HAProxy: lines of the frontend.
    pub(super) haproxy: &'static str,
    /// The backend speaks gRPC.
    pub(super) grpc: bool,
}

/// Nothing but forwarding.
const PLAIN: Feature = Feature {
    annotations: "",
    objects: "",
    path: ("/", "Prefix"),
    files: &[],
    nginx_http: "",
    nginx_server: "",
    nginx_location: "",
    nginx_match: "/",
    haproxy: "",
    grpc: false,
};

pub(super) static ONE_HOST: Setup =
    Setup { name: "one-host", peers: ALL, serves: Serves::Hosts { count: 1, feature: &PLAIN } };

pub(super) static MANY_HOSTS: Setup = Setup {
    name: "many-hosts",
    peers: ALL,
    serves: Serves::Hosts { count: 1000, feature: &PLAIN },
};

/// Client networks, answers for another origin, headers of all answers.
pub(super) static ACCESS: Setup = Setup {
    name: "access",
    peers: INGRESS,
    serves: Serves::Hosts {
        count: 1,
        feature: &Feature {
            annotations: r#"nginx.ingress.kubernetes.io/whitelist-source-range: "10.0.0.0/8,192.168.0.0/16,127.0.0.0/8",
              nginx.ingress.kubernetes.io/enable-cors: "true",
              nginx.ingress.kubernetes.io/cors-allow-origin: "https://app.bench.test",
              nginx.ingress.kubernetes.io/custom-headers: default/bench-headers"#,
            objects: "apiVersion: v1
kind: ConfigMap
metadata: {name: bench-headers, namespace: default}
data: {X-Frame-Options: DENY, X-Content-Type-Options: nosniff, Referrer-Policy: no-referrer}
",
            nginx_http: r#"map $http_origin $allowed { default ""; "https://app.bench.test" $http_origin; }"#,
            nginx_location: r#"allow 10.0.0.0/8; allow 192.168.0.0/16; allow 127.0.0.0/8; deny all;
      add_header Access-Control-Allow-Origin $allowed always;
      add_header Access-Control-Allow-Credentials true always;
      add_header X-Frame-Options DENY always;
      add_header X-Content-Type-Options nosniff always;
      add_header Referrer-Policy no-referrer always;"#,
            haproxy: "  http-request deny unless { src 10.0.0.0/8 192.168.0.0/16 127.0.0.0/8 }
  http-request set-var(txn.origin) req.hdr(origin)
  acl allowed var(txn.origin) -m str https://app.bench.test
  http-response set-header Access-Control-Allow-Origin %[var(txn.origin)] if allowed
  http-response set-header Access-Control-Allow-Credentials true if allowed
  http-response set-header X-Frame-Options DENY
  http-response set-header X-Content-Type-Options nosniff
  http-response set-header Referrer-Policy no-referrer
",
            ..PLAIN
        },
    },
};

/// Requests of a client address are counted; the limit is beyond what a run can send.
pub(super) static RATE: Setup = Setup {
    name: "rate",
    peers: INGRESS,
    serves: Serves::Hosts {
        count: 1,
        feature: &Feature {
            annotations: r#"nginx.ingress.kubernetes.io/limit-rps: "1000000""#,
            nginx_http: "limit_req_zone $binary_remote_addr zone=clients:10m rate=1000000r/s;",
            nginx_location: "limit_req zone=clients burst=5000000 nodelay;",
            haproxy: "  stick-table type ip size 100k expire 10s store http_req_rate(1s)
  http-request track-sc0 src
  http-request deny deny_status 429 if { sc_http_req_rate(0) gt 1000000 }
",
            ..PLAIN
        },
    },
};

/// Another server is asked about every request.
pub(super) static EXTERNAL: Setup = Setup {
    name: "external",
    peers: WITH_NGINX,
    serves: Serves::Hosts {
        count: 1,
        feature: &Feature {
            annotations: r#"nginx.ingress.kubernetes.io/auth-url: "http://{auth}/check?bearer=bench""#,
            nginx_http: "upstream auth { server {auth}; keepalive 256; keepalive_requests 100000000; }",
            nginx_server: r#"location = /_auth {
      internal;
      proxy_pass http://auth/check?bearer=bench;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header Connection "";
      proxy_set_header Host {auth};
      proxy_set_header X-Original-URL $scheme://$http_host$request_uri;
      proxy_set_header X-Original-Method $request_method;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Request-ID $request_id;
    }"#,
            nginx_location: "auth_request /_auth;",
            ..PLAIN
        },
    },
};

/// A password, hashed as `htpasswd` does by default. It is `open sesame`.
pub(super) static BASIC: Setup = Setup {
    name: "basic",
    peers: WITH_NGINX,
    serves: Serves::Hosts {
        count: 1,
        feature: &Feature {
            annotations: "nginx.ingress.kubernetes.io/auth-type: basic,
              nginx.ingress.kubernetes.io/auth-secret: bench-users",
            objects: r#"apiVersion: v1
kind: Secret
metadata: {name: bench-users, namespace: default}
stringData: {auth: "bench:$apr1$bench123$oxj5.guTKzfVWruFCeEnf."}
"#,
            files: &[("users", "bench:$apr1$bench123$oxj5.guTKzfVWruFCeEnf.\n")],
            nginx_location: "auth_basic bench; auth_basic_user_file {folder}/users;",
            ..PLAIN
        },
    },
};

/// Answers are compressed; all at the gateway's level, but HAProxy, whose library has one of its own.
pub(super) static GZIP: Setup = Setup {
    name: "gzip",
    peers: INGRESS,
    serves: Serves::Hosts {
        count: 1,
        feature: &Feature {
            annotations: "gatehouse.io/compress: gzip",
            nginx_location: "gzip on; gzip_types text/plain; gzip_proxied any; gzip_min_length 256; gzip_comp_level 1;",
            haproxy: "  compression algo gzip\n  compression type text/plain\n",
            ..PLAIN
        },
    },
};

/// The path is taken apart by an expression and put together again.
pub(super) static REWRITE: Setup = Setup {
    name: "rewrite",
    peers: INGRESS,
    serves: Serves::Hosts {
        count: 1,
        feature: &Feature {
            annotations: r#"nginx.ingress.kubernetes.io/use-regex: "true",
              nginx.ingress.kubernetes.io/rewrite-target: "/$2""#,
            path: ("/api(/|$)(.*)", "ImplementationSpecific"),
            nginx_match: r#"~* "^/api(/|$)(.*)""#,
            nginx_location: r#"rewrite "(?i)/api(/|$)(.*)" /$2 break;"#,
            haproxy: "  http-request replace-path /api(/|$)(.*) /\\2\n",
            ..PLAIN
        },
    },
};

pub(super) static GRPC: Setup = Setup {
    name: "grpc",
    peers: ALL,
    serves: Serves::Hosts {
        count: 1,
        feature: &Feature {
            annotations: "nginx.ingress.kubernetes.io/backend-protocol: GRPC",
            grpc: true,
            ..PLAIN
        },
    },
};

pub(super) static ROUTES: Setup =
    Setup { name: "routes", peers: ROUTERS, serves: Serves::Routes { clear: 100 } };

pub(super) static FEW_ROUTES: Setup =
    Setup { name: "few-routes", peers: ROUTERS, serves: Serves::Routes { clear: 10 } };

pub(super) static MANY_ROUTES: Setup =
    Setup { name: "many-routes", peers: ROUTERS, serves: Serves::Routes { clear: 10_000 } };

pub(super) static TCP: Setup = Setup { name: "tcp", peers: INGRESS, serves: Serves::Tcp };

/// A process of its own: what other load leaves in the memory of one would count.
pub(super) static TCP_IDLE: Setup = Setup { name: "tcp-idle", peers: INGRESS, serves: Serves::Tcp };

/// The host of Route `number` in clear text, or of Ingress `number` of many.
pub(super) fn host_name(number: usize) -> String {
    format!("host-{number:05}.bench.test")
}
