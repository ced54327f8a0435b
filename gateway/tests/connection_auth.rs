//! Backends that authenticate connections and not requests (NTLM, Negotiate): a connection that one user has proved its
//! identity on serves that user's client connection alone, and ends with it (P32).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpStream},
    sync::Mutex,
};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend, Request, ok},
        client::{Response, Want, dial, listen, send},
        gateway::{Gateway, Plan},
        manifests::{ingress, prefix, route, service},
    },
    guard,
    wait::comes_true,
};

/// First message of a client (MS-NLMP §2.2.1.1), cut off.
const NEGOTIATE: &str = "TlRMTVNTUAABAAAA";
/// A server's answer (§2.2.1.2): no target, Unicode, NTLM, and a challenge of eight octets.
const CHALLENGE: &str = "TlRMTVNTUAACAAAAAAAAACgAAAABAgAAAQIDBAUGBwgAAAAAAAAAAA==";
/// The proof (§2.2.1.3), cut off: which user it is stands behind it in these tests.
const AUTHENTICATE: &str = "TlRMTVNTUAADAAAA";

/// A server that knows a user by the connection, and tells everybody who that is.
fn server(name: &'static str, scheme: &'static str) -> Backend {
    let known: Mutex<HashMap<u64, String>> = Mutex::default();
    Backend::scripted(name, move |request| {
        let mut known = known.lock().unwrap();
        let said = request.one("authorization").unwrap_or_default();
        let token = said.strip_prefix(scheme).map(str::trim).unwrap_or_default();
        let begun = known.get(&request.connection).is_some_and(String::is_empty);
        if token.starts_with(NEGOTIATE) {
            known.insert(request.connection, String::new());
            return vec![Act::Send(refusal(&format!("{scheme} {CHALLENGE}")))];
        }
        if let Some(user) = token.strip_prefix(AUTHENTICATE).filter(|_| begun) {
            known.insert(request.connection, format!("user{user}"));
        }
        match known.get(&request.connection).filter(|user| !user.is_empty()) {
            Some(user) => vec![Act::Send(ok(&format!("{name} {user}"), false))],
            None => vec![Act::Send(refusal(scheme))],
        }
    })
}

fn refusal(challenge: &str) -> Vec<u8> {
    let fields = format!("WWW-Authenticate: {challenge}\r\nContent-Length: 2\r\n");
    format!("HTTP/1.1 401 Unauthorized\r\n{fields}\r\nno").into_bytes()
}

fn ask(client: &mut TcpStream, credentials: &str) -> Response {
    use std::io::Write as _;
    let line = match credentials {
        "" => String::new(),
        credentials => format!("Authorization: {credentials}\r\n"),
    };
    let request = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{line}\r\n");
    client.write_all(request.as_bytes()).unwrap();
    listen(client, Want::responses(1), false).responses.remove(0)
}

/// Proves who it is by the two requests of the handshake; what the server says then.
fn log_in(client: &mut TcpStream, scheme: &str, user: &str) -> Response {
    let challenged = ask(client, &format!("{scheme} {NEGOTIATE}"));
    let challenge = format!("{scheme} {CHALLENGE}");
    assert_eq!(challenged.one("www-authenticate").as_deref(), Some(&*challenge));
    ask(client, &format!("{scheme} {AUTHENTICATE}{user}"))
}

/// What strangers are told, so many of them one after the other and each on a connection of its own.
fn strangers(gateway: SocketAddr, number: usize) {
    for n in 0..number {
        let seen = send(gateway, b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(seen.status(), 401, "stranger {n} is taken for another user: {seen:?}");
    }
}

fn in_front_of(servers: &[&Backend], annotations: &str) -> Gateway {
    let all: Vec<_> = servers.iter().map(|server| server.addr).collect();
    Plan::default()
        .manifest("app.yaml", service("app", &all))
        .manifest("ingress.yaml", ingress("a", annotations, "", &[prefix("a.test", "/", "app")]))
        .start()
}

#[test]
fn a_connection_that_a_user_is_known_by_serves_no_other_client() {
    for scheme in ["NTLM", "Negotiate"] {
        let server = server("a", scheme);
        let gateway = in_front_of(&[&server], "");
        let mut alice = dial(gateway.http);
        assert_eq!(ask(&mut alice, "").status, 401);
        assert_eq!(log_in(&mut alice, scheme, "=alice").text(), "a user=alice");
        let mut bob = dial(gateway.http);
        assert_eq!(ask(&mut bob, "").status, 401, "bob comes while alice's connection idles");
        strangers(gateway.http, 10);
        assert_eq!(log_in(&mut bob, scheme, "=bob").text(), "a user=bob");
        for _ in 0..5 {
            assert_eq!(ask(&mut alice, "").text(), "a user=alice");
            assert_eq!(ask(&mut bob, "").text(), "a user=bob");
        }
        // With the clients their connections end, and none of them comes to a stranger's hands.
        let open = server.open();
        drop((alice, bob));
        assert!(comes_true(|| server.open() == open - 2), "{} of {open}", server.open());
        strangers(gateway.http, 10);
    }
}

#[test]
fn a_handshake_stays_at_the_endpoint_that_it_began_at() {
    let servers = ["a", "b", "c"].map(|name| server(name, "NTLM"));
    let [a, b, c] = &servers;
    let cookie = "nginx.ingress.kubernetes.io/affinity: cookie";
    let least = "nginx.ingress.kubernetes.io/load-balance: ewma";
    for annotations in ["", cookie, least] {
        let gateway = in_front_of(&[a, b, c], annotations);
        for n in 0..12 {
            let mut client = dial(gateway.http);
            ask(&mut client, "");
            let user = format!("={n}");
            let first = log_in(&mut client, "NTLM", &user).text();
            assert!(first.ends_with(&format!(" user{user}")), "{annotations}: {first}");
            assert_eq!(ask(&mut client, "").text(), first, "{annotations}");
        }
    }
}

#[test]
fn a_handshake_stays_at_the_service_of_a_route_that_it_began_at() {
    let (blue, green) = (server("blue", "NTLM"), server("green", "NTLM"));
    let gateway = Plan::default()
        .manifest("blue.yaml", service("blue", &[blue.addr]))
        .manifest("green.yaml", service("green", &[green.addr]))
        .manifest("route.yaml", route("r", "a.test", &[("blue", 1), ("green", 1)]))
        .start();
    let mut seen = HashMap::new();
    for n in 0..12 {
        let mut client = dial(gateway.http);
        let first = log_in(&mut client, "NTLM", &format!("={n}")).text();
        let name = first.strip_suffix(&format!(" user={n}"));
        *seen.entry(name.unwrap_or_else(|| panic!("{first}")).to_owned()).or_insert(0) += 1;
        assert_eq!(ask(&mut client, "").text(), first);
    }
    assert_eq!(seen.len(), 2, "each Service gets its share of new clients: {seen:?}");
}

#[test]
fn a_copy_with_credentials_of_a_connection_leaves_it_to_no_other_copy() {
    let (app, mirror) = (Backend::echo("app"), Backend::echo("mirror"));
    let to = format!("nginx.ingress.kubernetes.io/mirror-target: \"http://{}\"", mirror.addr);
    let gateway = in_front_of(&[&app], &to);
    let mut copies: Vec<Request> = Vec::new();
    for credentials in ["", "NTLM TlRMTVNTUAADAAAA", ""] {
        ask(&mut dial(gateway.http), credentials);
        let before = copies.len();
        assert!(comes_true(|| {
            copies.append(&mut mirror.arrived());
            copies.len() > before
        }));
    }
    let [_, known, stranger] = &copies[..] else { panic!("{copies:?}") };
    assert_eq!(known.all("authorization").len(), 1, "{known:?}");
    assert_ne!(known.connection, stranger.connection);
}

#[test]
fn curl_logs_in_by_ntlm_through_several_endpoints() {
    let servers = ["a", "b", "c"].map(|name| server(name, "NTLM"));
    let [a, b, c] = &servers;
    let gateway = in_front_of(&[a, b, c], "");
    for _ in 0..3 {
        let mut curl = guard::command("curl");
        curl.args(["--silent", "--noproxy", "*", "--max-time", "30", "--ntlm", "--user", "u:p"])
            .args(["--connect-to", &format!("::{}", gateway.http), "http://a.test/"]);
        let output = curl.output().expect("curl is installed (.ci/setup)");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains(" user"), "{said} {}", gateway.output());
    }
    strangers(gateway.http, 9);
}
