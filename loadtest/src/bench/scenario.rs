//! The jobs that are measured. One table; everything else reads it.

use super::setup::{self, Serves, Setup};

/// Which load generator does the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    /// wrk: keep-alive connections over HTTP/1.1.
    Wrk,
    /// h2load: HTTP/2 over TLS, ten streams per connection.
    H2load,
    /// The same with calls of gRPC.
    Grpc,
    /// [`gatehouse_testbed::client::connect_storm`]: a connection for every request.
    ConnectStorm,
    /// Connections that have had one answer and stay open.
    Idle,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spread {
    /// Always the same.
    Same,
    /// The same path of many hosts.
    Hosts,
    /// Many hosts, and a path that was never asked for before.
    Urls,
}

/// What the figures of a job are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// CPU µs for a request.
    Request,
    /// CPU µs for a call of gRPC.
    Call,
    /// CPU µs for a connection.
    Connection,
    /// CPU ms for 10^9 bytes of answers' bodies.
    Gigabyte,
    /// Memory in KiB for an open connection.
    Memory,
}

impl Unit {
    /// Heads a column.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Request => "CPU µs/request",
            Self::Call => "CPU µs/call",
            Self::Connection => "CPU µs/connection",
            Self::Gigabyte => "CPU ms/GB",
            Self::Memory => "KiB/connection",
        }
    }
}

/// One job.
#[derive(Debug)]
pub(super) struct Scenario {
    /// Name on the command line.
    pub(super) name: &'static str,
    /// What it is, for the report.
    pub(super) title: &'static str,
    pub(super) setup: &'static Setup,
    pub(super) tool: Tool,
    /// HTTPS in place of HTTP.
    pub(super) tls: bool,
    pub(super) host: &'static str,
    /// Path and query that the backend is asked for.
    pub(super) path: &'static str,
    /// Further fields of the request.
    pub(super) headers: &'static [(&'static str, &'static str)],
    pub(super) spread: Spread,
    /// The cookie of a first answer is sent with all further requests.
    pub(super) session: bool,
    /// Length of the answer's body; none when any will do.
    pub(super) body_bytes: Option<usize>,
    /// What the answer must hold, head (in lower case) or body: that the job is done.
    pub(super) holds: &'static [&'static str],
    /// Status without those further fields, where they are what lets the request pass.
    pub(super) else_status: Option<u16>,
    /// Connections at a time.
    pub(super) connections: usize,
    pub(super) unit: Unit,
    /// The job that this one adds something to, and how many times its CPU time the gateway may take at most.
    pub(super) adds_to: Option<(&'static str, f64)>,
}

/// Host of most scenarios.
pub(super) const HOST: &str = "localhost";

/// All jobs, in the order of the report.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "plain", title: "HTTP/1.1 keep-alive", ..PLAIN },
    Scenario { name: "tls", title: "HTTP/1.1 over TLS", tls: true, ..PLAIN },
    Scenario {
        name: "h2",
        title: "HTTP/2 over TLS",
        tool: Tool::H2load,
        tls: true,
        connections: 16,
        ..PLAIN
    },
    Scenario {
        name: "body-64k",
        title: "64 KiB bodies",
        path: "/?size=65536",
        body_bytes: Some(64 << 10),
        ..PLAIN
    },
    Scenario {
        name: "body-1m",
        title: "1 MiB bodies",
        path: "/?size=1048576",
        body_bytes: Some(1 << 20),
        connections: 16,
        ..PLAIN
    },
    Scenario { name: "connection", title: "connection per request", ..CONNECTION },
    Scenario {
        name: "tls-connection",
        title: "TLS connection per request",
        tls: true,
        ..CONNECTION
    },
    Scenario {
        name: "hosts-1000",
        title: "1000 hosts",
        setup: &setup::MANY_HOSTS,
        spread: Spread::Hosts,
        ..PLAIN
    },
    Scenario {
        name: "access",
        title: "allow-list, CORS and headers",
        setup: &setup::ACCESS,
        headers: &[("Origin", "https://app.bench.test")],
        holds: &[
            "access-control-allow-origin: https://app.bench.test",
            "access-control-allow-credentials: true",
            "x-frame-options: deny",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
        ],
        adds_to: Some(("plain", 1.10)),
        ..PLAIN
    },
    Scenario {
        name: "rate",
        title: "rate limit by address",
        setup: &setup::RATE,
        adds_to: Some(("plain", 1.15)),
        ..PLAIN
    },
    Scenario {
        name: "external",
        title: "external authentication (auth-url)",
        setup: &setup::EXTERNAL,
        headers: &[("Authorization", "Bearer bench")],
        else_status: Some(401),
        adds_to: Some(("plain", 2.2)),
        ..PLAIN
    },
    Scenario {
        name: "basic",
        title: "name and password (apr1)",
        setup: &setup::BASIC,
        headers: &[("Authorization", "Basic YmVuY2g6b3BlbiBzZXNhbWU=")],
        else_status: Some(401),
        ..PLAIN
    },
    Scenario {
        name: "gzip",
        title: "gzip of 16 KiB",
        setup: &setup::GZIP,
        path: "/?size=16384",
        headers: &[("Accept-Encoding", "gzip")],
        holds: &["content-encoding: gzip"],
        ..PLAIN
    },
    Scenario {
        name: "rewrite",
        title: "rewrite by expression",
        setup: &setup::REWRITE,
        path: "/api/v1/items?page=2",
        holds: &[" path=/v1/items?page=2 "],
        ..PLAIN
    },
    Scenario {
        name: "grpc-unary",
        title: "gRPC, one message",
        setup: &setup::GRPC,
        tool: Tool::Grpc,
        tls: true,
        path: "/bench.Echo/Unary?messages=1&bytes=64",
        body_bytes: Some(64 + 5),
        connections: 16,
        unit: Unit::Call,
        ..PLAIN
    },
    Scenario {
        name: "grpc-stream",
        title: "gRPC, 100 messages",
        setup: &setup::GRPC,
        tool: Tool::Grpc,
        tls: true,
        path: "/bench.Echo/Stream?messages=100&bytes=128",
        body_bytes: Some(100 * (128 + 5)),
        connections: 16,
        unit: Unit::Call,
        ..PLAIN
    },
    Scenario {
        name: "edge-cookie",
        title: "Route edge, cookie",
        setup: &setup::ROUTES,
        tls: true,
        host: EDGE,
        session: true,
        ..PLAIN
    },
    Scenario {
        name: "reencrypt",
        title: "Route re-encrypt",
        setup: &setup::ROUTES,
        tls: true,
        host: REENCRYPT,
        holds: &["service=tls "],
        ..PLAIN
    },
    Scenario {
        name: "passthrough",
        title: "Route passthrough, connection per request",
        setup: &setup::ROUTES,
        tls: true,
        host: PASSTHROUGH,
        holds: &["service=tls "],
        unit: Unit::Connection,
        ..CONNECTION
    },
    Scenario {
        name: "passthrough-gb",
        title: "Route passthrough, 16 MiB bodies",
        setup: &setup::ROUTES,
        tls: true,
        host: PASSTHROUGH,
        ..LARGE
    },
    Scenario {
        name: "routes-10",
        title: "10 Routes, no URL twice",
        setup: &setup::FEW_ROUTES,
        spread: Spread::Urls,
        ..PLAIN
    },
    Scenario {
        name: "routes-10000",
        title: "10 000 Routes, no URL twice",
        setup: &setup::MANY_ROUTES,
        spread: Spread::Urls,
        adds_to: Some(("routes-10", 1.3)),
        ..PLAIN
    },
    Scenario {
        name: "tcp",
        title: "TCP, connection per request",
        setup: &setup::TCP,
        unit: Unit::Connection,
        ..CONNECTION
    },
    Scenario { name: "tcp-gb", title: "TCP, 16 MiB bodies", setup: &setup::TCP, ..LARGE },
    Scenario {
        name: "tcp-idle",
        title: "TCP, idle connections",
        setup: &setup::TCP_IDLE,
        tool: Tool::Idle,
        connections: 3000,
        unit: Unit::Memory,
        ..PLAIN
    },
];

/// Hosts of the Routes of each termination.
pub(super) const EDGE: &str = "edge.bench.test";
pub(super) const REENCRYPT: &str = "reencrypt.bench.test";
pub(super) const PASSTHROUGH: &str = "passthrough.bench.test";

const PLAIN: Scenario = Scenario {
    name: "",
    title: "",
    setup: &setup::ONE_HOST,
    tool: Tool::Wrk,
    tls: false,
    host: HOST,
    path: "/",
    headers: &[],
    spread: Spread::Same,
    session: false,
    body_bytes: None,
    holds: &[],
    else_status: None,
    connections: 64,
    unit: Unit::Request,
    adds_to: None,
};

const CONNECTION: Scenario = Scenario { tool: Tool::ConnectStorm, connections: 32, ..PLAIN };

const LARGE: Scenario = Scenario {
    path: "/?size=16777216",
    body_bytes: Some(16 << 20),
    connections: 16,
    unit: Unit::Gigabyte,
    ..PLAIN
};

impl Scenario {
    /// Hosts that the load is spread over, by their numbers; none for a single one.
    pub(super) fn hosts(&self) -> Option<usize> {
        match (self.spread, &self.setup.serves) {
            (Spread::Same, _) | (_, Serves::Tcp) => None,
            (_, Serves::Hosts { count, .. }) => Some(*count),
            (_, Serves::Routes { clear }) => Some(*clear),
        }
    }

    /// The job of this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_a_name_of_its_own_and_a_body_as_long_as_its_query_says() {
        for (at, scenario) in SCENARIOS.iter().enumerate() {
            assert!(!scenario.title.is_empty());
            assert!(SCENARIOS[..at].iter().all(|other| other.name != scenario.name));
            if let (Some(bytes), false) = (scenario.body_bytes, scenario.tool == Tool::Grpc) {
                assert_eq!(scenario.path, format!("/?size={bytes}"));
            }
        }
    }

    #[test]
    fn what_a_job_adds_to_comes_before_it() {
        for (at, scenario) in SCENARIOS.iter().enumerate() {
            if let Some((name, most)) = scenario.adds_to {
                assert!(SCENARIOS[..at].iter().any(|other| other.name == name), "{name}");
                assert!(most > 1.0);
            }
        }
    }

    #[test]
    fn per_gigabyte_takes_a_body_of_known_length() {
        let large = SCENARIOS.iter().filter(|scenario| scenario.unit == Unit::Gigabyte);
        assert!(large.clone().count() > 0 && large.clone().all(|one| one.body_bytes.is_some()));
    }
}
