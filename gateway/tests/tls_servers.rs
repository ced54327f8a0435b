//! nginx and HAProxy as backends that end TLS themselves, behind Routes that pass TLS through and Routes that encrypt
//! again: what they are shown, whom the gateway believes, and connections that they end when it suits them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fmt::Write as _,
    fs,
    net::{SocketAddr, TcpStream},
};

use gatehouse_testbed::{
    gatehouse::{
        gateway::{Gateway, Plan, free_address},
        manifests::{ingress, prefix, service},
        pki::{Authority, secret},
    },
    guard,
    process::{Process, find_program},
    wait::comes_true,
};
use tempfile::TempDir;

/// The programs.
const PROGRAMS: [&str; 2] = ["nginx", "haproxy"];

/// A port of each program, and what it is there for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Port {
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 where the other side wants it.
    Http2,
    /// As that, without TLS 1.3.
    Tls12,
    /// Connections have to begin with a PROXY header.
    Proxied,
    /// Clients have to show a certificate.
    Shown,
    /// HTTP/1.1 connections end after a few requests.
    Few1,
    /// HTTP/2 connections end after a few requests.
    Few2,
    /// Its certificate is for another name.
    Misnamed,
}

impl Port {
    const ALL: [Self; 8] = [
        Self::Http1,
        Self::Http2,
        Self::Tls12,
        Self::Proxied,
        Self::Shown,
        Self::Few1,
        Self::Few2,
        Self::Misnamed,
    ];

    /// The name of its Service and of its hosts.
    fn name(self, program: &str) -> String {
        format!("{program}-{self:?}").to_lowercase()
    }

    fn speaks_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Tls12 | Self::Few2)
    }

    fn certificate(self) -> &'static str {
        if self == Self::Misnamed { "other.pem" } else { "server.pem" }
    }
}

/// Both programs, and one gateway before them.
struct Bed {
    gateway: Gateway,
    folder: TempDir,
    _servers: [Process; 2],
}

impl Bed {
    fn new() -> Self {
        let folder = guard::folder("tls-servers-").unwrap();
        let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
        let ports: Vec<_> = PROGRAMS
            .into_iter()
            .flat_map(|program| Port::ALL.map(|port| (program, port, free_address())))
            .collect();
        let services: Vec<String> = ports
            .iter()
            .flat_map(|(program, port, _)| {
                let name = port.name(program);
                [format!("{name}.default.svc"), format!("pass-{name}.test")]
            })
            .collect();
        let names: Vec<&str> = services.iter().map(String::as_str).collect();
        for (file, pair) in
            [("server.pem", ours.server(&names)), ("other.pem", ours.server(&["other.test"]))]
        {
            fs::write(folder.path().join(file), pair.certificate + &pair.key).unwrap();
        }
        fs::write(folder.path().join("ca.pem"), ours.pem()).unwrap();
        fs::write(folder.path().join("large"), "0123456789abcdef".repeat(1 << 18)).unwrap();
        let servers = PROGRAMS.map(|program| start(program, &ports, &folder));

        let shown = ours.client("gateway", 7);
        let fields =
            [("ca.crt", ours.pem()), ("tls.crt", shown.certificate), ("tls.key", shown.key)];
        let fields = fields.each_ref().map(|(name, text)| (*name, text.as_str()));
        let mut plan = Plan::default().manifest("secret.yaml", secret("shown", &fields));
        for (program, port, address) in &ports {
            let name = port.name(program);
            let mut objects = service(&name, &[*address]);
            for (kind, authority) in
                [("pass", None), ("again", Some(ours.pem())), ("astray", Some(theirs.pem()))]
            {
                let header = match (kind, port) {
                    ("pass", Port::Proxied) => "gatehouse.io/proxy-protocol: v2",
                    _ => "",
                };
                objects += &route(kind, &name, header, authority.as_deref());
            }
            let annotations = ["backend-protocol: HTTPS", "proxy-ssl-secret: default/shown"]
                .map(|it| format!("nginx.ingress.kubernetes.io/{it}"))
                .join(", ");
            let host = format!("showing-{name}.test");
            objects += &ingress(
                &format!("showing-{name}"),
                &annotations,
                "",
                &[prefix(&host, "/", &name)],
            );
            plan = plan.manifest(&format!("{name}.yaml"), objects);
        }
        let gateway = plan.start();
        Self { gateway, folder, _servers: servers }
    }

    /// What curl prints about requests for paths of a host over TLS, and the statuses.
    fn ask(&self, host: &str, paths: &str, more: &[&str]) -> (String, Vec<u16>) {
        let mut curl = guard::command("curl");
        curl.args([
            "--silent",
            "--no-progress-meter",
            "--insecure",
            "--noproxy",
            "*",
            "--max-time",
            "60",
        ])
        .args(["--connect-to", &format!("::{}", self.gateway.https)])
        .args(["--write-out", "%{stderr}%{http_code}\\n"])
        .args(more)
        .arg(format!("https://{host}.test{paths}"));
        let output = curl.output().expect("curl is installed (.ci/setup)");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let statuses = text(&output.stderr);
        let statuses = statuses.lines().map(|line| line.parse().unwrap_or_default()).collect();
        (text(&output.stdout), statuses)
    }

    /// The one answer.
    fn one(&self, host: &str, more: &[&str]) -> (String, u16) {
        let (text, statuses) = self.ask(host, "/x?y=z", more);
        assert_eq!(statuses.len(), 1, "{host}: {statuses:?}");
        (text, statuses[0])
    }
}

/// A Route of host `KIND-NAME.test` for the Service `NAME`, which encrypts again where it names an authority.
fn route(kind: &str, name: &str, annotations: &str, authority: Option<&str>) -> String {
    let tls = match authority.map(|pem| serde_json::to_string(pem).unwrap()) {
        None => "termination: passthrough".to_owned(),
        Some(pem) => format!("termination: reencrypt, destinationCACertificate: {pem}"),
    };
    format!(
        "apiVersion: route.openshift.io/v1\nkind: Route\nmetadata: {{name: {kind}-{name}, namespace: default, \
         annotations: {{{annotations}}}}}\nspec:\n  host: {kind}-{name}.test\n  to: {{kind: Service, name: {name}}}\n  tls: {{{tls}}}\n---\n"
    )
}

/// Starts a program on its ports. Each answers with its name, the server name that it was asked for, version of TLS and
/// HTTP, whether it was shown a certificate, target, and the address of the client.
fn start(program: &str, ports: &[(&str, Port, SocketAddr)], folder: &TempDir) -> Process {
    let ports: Vec<_> = ports.iter().filter(|(of, ..)| *of == program).collect();
    let path = folder.path().display();
    let mut text = match program {
        "nginx" => format!(
            "daemon off;\nuser root;\npid {path}/nginx.pid;\nerror_log stderr notice;\nevents {{}}\nhttp {{\n\
             access_log off;\nclient_body_temp_path {path}/body;\nproxy_temp_path {path}/proxy;\n\
             fastcgi_temp_path {path}/fastcgi;\nuwsgi_temp_path {path}/uwsgi;\nscgi_temp_path {path}/scgi;\n\
             client_max_body_size 0;\nssl_client_certificate {path}/ca.pem;\n"
        ),
        _ => "global\n  maxconn 100\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  \
              timeout server 30s\n"
            .to_owned(),
    };
    for (_, port, address) in &ports {
        let certificate = format!("{path}/{}", port.certificate());
        let only = |if_so: &'static str, which: Port| if *port == which { if_so } else { "" };
        let text = &mut text;
        if program == "nginx" {
            let http2 = if port.speaks_http2() { " http2" } else { "" };
            let proxied = only(" proxy_protocol", Port::Proxied);
            let tls12 = "ssl_protocols TLSv1.2;";
            let few = matches!(port, Port::Few1 | Port::Few2);
            let few = if few { "keepalive_requests 5;" } else { "" };
            write!(
                text,
                "server {{ listen {address} ssl{http2}{proxied}; ssl_certificate {certificate}; \
                 ssl_certificate_key {certificate}; {few} {} {}\n\
                 location /large {{ root {path}; }}\n\
                 location / {{ return 200 \"nginx sni=$ssl_server_name $ssl_protocol $server_protocol \
                 shown=$ssl_client_verify $request_uri from=$proxy_protocol_addr\\n\"; }} }}\n",
                if *port == Port::Tls12 { tls12 } else { "ssl_protocols TLSv1.2 TLSv1.3;" },
                only("ssl_verify_client on;", Port::Shown),
            )
        } else {
            let alpn = if port.speaks_http2() { "h2,http/1.1" } else { "http/1.1" };
            let shown = format!(" verify required ca-file {path}/ca.pem");
            let (proxied, shown) = match port {
                Port::Proxied => (" accept-proxy", ""),
                Port::Shown => ("", &*shown),
                _ => ("", ""),
            };
            write!(
                text,
                "frontend {port:?}\n  bind {address} ssl crt {certificate} alpn {alpn}{proxied}{shown}{}\n{}{}  \
                 http-request return status 200 content-type text/plain lf-string \"haproxy \
                 sni=%[ssl_fc_sni] %[ssl_fc_protocol] HTTP/%[req.ver] shown=%[ssl_c_used] %[pathq] \
                 from=%[src]\\n\"\n",
                only(" ssl-max-ver TLSv1.2", Port::Tls12),
                only("  option httpclose\n", Port::Few1),
                only("  http-after-response set-header Connection close\n", Port::Few2),
            )
        }
        .unwrap();
    }
    if program == "nginx" {
        text += "}\n";
    }
    let file = folder.path().join(format!("{program}.conf"));
    fs::write(&file, text).unwrap();
    let found = find_program(program).expect("installed (.ci/setup)");
    let file = file.display().to_string();
    let arguments: &[&str] = match program {
        "nginx" => &["-p", &folder.path().display().to_string(), "-c", &file],
        _ => &["-db", "-f", &file],
    };
    let log = folder.path().join(format!("{program}.log"));
    let process = Process::start(program, &found, arguments, Some(&log)).unwrap();
    let listens = |address: &SocketAddr| comes_true(|| TcpStream::connect(address).is_ok());
    let all = ports.iter().all(|(.., address)| listens(address));
    assert!(all, "{program}: {}", process.log_tail());
    process
}

#[test]
fn servers_of_routes_end_tls_themselves_or_are_asked_again_and_only_the_right_ones_are_believed() {
    let bed = Bed::new();
    for program in PROGRAMS {
        // Passed through, the server sees the client's own TLS.
        for (port, asked, words) in [
            (Port::Http1, "--http1.1", "TLSv1.3 HTTP/1.1"),
            (Port::Http1, "--http2", "TLSv1.3 HTTP/1.1"),
            (Port::Http2, "--http1.1", "TLSv1.3 HTTP/1.1"),
            (Port::Http2, "--http2", "TLSv1.3 HTTP/2.0"),
            (Port::Tls12, "--http2", "TLSv1.2 HTTP/2.0"),
        ] {
            let name = format!("pass-{}", port.name(program));
            let (text, status) = bed.one(&name, &[asked]);
            let expected = format!("{program} sni={name}.test {words}");
            assert!(
                status == 200 && text.starts_with(&expected),
                "{name} {asked}: {status} {text}"
            );
        }
        let authority = bed.folder.path().join("ca.pem").display().to_string();
        let name = format!("pass-{}", Port::Proxied.name(program));
        let (text, status) = bed.one(&name, &["--cacert", &authority]);
        assert!(status == 200 && text.ends_with("from=127.0.0.1\n"), "{name}: {status} {text}");

        // Encrypted again, it sees the gateway's.
        for (port, asked, words) in [
            (Port::Http1, "--http1.1", "TLSv1.3 HTTP/1.1"),
            (Port::Http1, "--http2", "TLSv1.3 HTTP/1.1"),
            (Port::Http2, "--http2", "TLSv1.3 HTTP/2.0"),
            (Port::Tls12, "--http2", "TLSv1.2 HTTP/2.0"),
        ] {
            let name = format!("again-{}", port.name(program));
            let (text, status) = bed.one(&name, &[asked]);
            assert!(
                status == 200 && text.contains(words) && text.contains(" /x?y=z "),
                "{name} {asked}: {status} {text}"
            );
        }
        // The router does not compare names where the Route has an authority of its own.
        let name = format!("again-{}", Port::Misnamed.name(program));
        assert_eq!(bed.one(&name, &[]).1, 200, "{name}");
        for name in [Port::Http1, Port::Http2, Port::Misnamed] {
            let name = format!("astray-{}", name.name(program));
            let (text, status) = bed.one(&name, &[]);
            assert!(status == 503 && !text.contains("sni="), "{name}: {status} {text}");
        }
        // It wants to be shown a certificate.
        let name = Port::Shown.name(program);
        let (text, status) = bed.one(&format!("showing-{name}"), &[]);
        let shown = ["shown=SUCCESS", "shown=1"].iter().any(|it| text.contains(it));
        assert!(status == 200 && shown, "{name}: {status} {text}");
        let (text, status) = bed.one(&format!("again-{name}"), &[]);
        assert!(status >= 400 && !text.contains("sni="), "{name}: {status} {text}");
    }
}

/// As servers do for every few hundred requests: `Connection: close`, and GOAWAY.
#[test]
fn servers_that_end_their_connections_cost_no_request() {
    let bed = Bed::new();
    for program in PROGRAMS {
        for port in [Port::Few1, Port::Few2] {
            let name = format!("again-{}", port.name(program));
            for way in [&["--http1.1"][..], &["--http2"], &["--http2", "--parallel"]] {
                for (requests, sent) in [(60, &[][..]), (20, &["--data", "x=1"])] {
                    let (text, statuses) =
                        bed.ask(&name, &format!("/[1-{requests}]"), &[way, sent].concat());
                    assert_eq!(statuses, vec![200; requests], "{name} {way:?} {sent:?}: {text}");
                    for n in 1..=requests {
                        assert!(text.contains(&format!(" /{n} ")), "{name} {way:?}: {n}: {text}");
                    }
                }
            }
        }
    }
}

#[test]
fn large_bodies_come_whole_from_a_server_that_ends_tls() {
    let bed = Bed::new();
    let expected = fs::read_to_string(bed.folder.path().join("large")).unwrap();
    for kind in ["again", "pass"] {
        for port in [Port::Http1, Port::Http2, Port::Tls12, Port::Few1, Port::Few2] {
            let name = format!("{kind}-{}", port.name("nginx"));
            for way in ["--http1.1", "--http2"] {
                let (text, statuses) = bed.ask(&name, "/large", &[way]);
                assert_eq!(statuses, [200], "{name} {way}");
                assert!(text == expected, "{name} {way}: {} bytes", text.len());
                // An answer comes before the server has read what it is sent; curl 7 does not take that by HTTP/2.
                if way == "--http2" {
                    continue;
                }
                let file = format!("@{}", bed.folder.path().join("large").display());
                let (text, statuses) = bed.ask(&name, "/up", &[way, "--data-binary", &file]);
                assert_eq!(statuses, [200], "{name} {way}: {text}");
            }
        }
    }
}
