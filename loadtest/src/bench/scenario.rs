//! The jobs that are measured. One table; everything else reads it.

/// Which load generator does the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    /// wrk: keep-alive connections over HTTP/1.1.
    Wrk,
    /// h2load: HTTP/2 over TLS, ten streams per connection.
    H2load,
    /// [`gatehouse_testbed::client::connect_storm`]: a connection for every request.
    ConnectStorm,
}

/// One job.
#[derive(Debug)]
pub(super) struct Scenario {
    /// Name on the command line.
    pub(super) name: &'static str,
    /// What it is, for the report.
    pub(super) title: &'static str,
    pub(super) tool: Tool,
    /// HTTPS in place of HTTP.
    pub(super) tls: bool,
    /// Path and query that the backend is asked for.
    pub(super) path: &'static str,
    /// Length of the answer's body; none when any will do.
    pub(super) body_bytes: Option<usize>,
    /// Connections at a time.
    pub(super) connections: usize,
    /// Spread over many hosts, on a peer that is configured with all of them.
    pub(super) many_hosts: bool,
}

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
    Scenario {
        name: "connection",
        title: "connection per request",
        tool: Tool::ConnectStorm,
        connections: 32,
        ..PLAIN
    },
    Scenario {
        name: "tls-connection",
        title: "TLS connection per request",
        tool: Tool::ConnectStorm,
        tls: true,
        connections: 32,
        ..PLAIN
    },
    Scenario { name: "hosts-1000", title: "1000 hosts", many_hosts: true, ..PLAIN },
];

const PLAIN: Scenario = Scenario {
    name: "",
    title: "",
    tool: Tool::Wrk,
    tls: false,
    path: "/",
    body_bytes: None,
    connections: 64,
    many_hosts: false,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_a_name_of_its_own_and_a_body_as_long_as_its_query_says() {
        for (at, scenario) in SCENARIOS.iter().enumerate() {
            assert!(!scenario.title.is_empty());
            assert!(SCENARIOS[..at].iter().all(|other| other.name != scenario.name));
            if let Some(bytes) = scenario.body_bytes {
                assert_eq!(scenario.path, format!("/?size={bytes}"));
            }
        }
    }
}
