//! Who comes in: clients by the networks of a gateway Service, and those of whom a load balancer in front tells.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
};

use gatehouse_testbed::{
    gatehouse::{
        backend::Backend,
        client::{Want, dial, exchange, listen, send},
        gateway::{Gateway, Plan, free_address},
        manifests::{ingress, prefix, service},
        tls::Tls,
    },
    namespace::Namespace,
    wait,
};
use socket2::{Domain, Socket, Type};

const HOST: &str = "x.test";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x.test\r\nConnection: close\r\n\r\n";

/// A connection from this address.
fn dial_from(from: &str, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    let from: IpAddr = from.parse().unwrap();
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), wait::LIMIT)?;
    Ok(socket.into())
}

/// The status of an answer to a client at this address; `None`: no answer but an end.
fn asks_from(from: &str, to: SocketAddr) -> Option<u16> {
    let mut wire = dial_from(from, to).ok()?;
    let _ = wire.write_all(GET);
    let seen = listen(&mut wire, Want { close: true, ..Want::responses(1) }, false);
    (seen.status() != 0).then_some(seen.status())
}

/// Runs a test on a host of its own that has the address 192.0.2.77.
fn on_host(test: impl FnOnce() + Send) {
    let host = Namespace::new("entrance").unwrap();
    host.run(&["ip", "address", "add", "192.0.2.77/32", "dev", "lo"]).unwrap();
    host.enter(test).unwrap();
}

/// A gateway Service on 192.0.2.77 that lets these networks in.
fn gateway_service(port: u16, ranges: &str) -> String {
    format!(
        "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {{name: p, namespace: s}}\n\
         spec: {{addresses: [192.0.2.77/32]}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: gw, namespace: default}}\n\
         spec: {{type: LoadBalancer, ports: [{{name: http, port: {port}}}], \
         loadBalancerSourceRanges: [{ranges}]}}\n---\n"
    )
}

#[test]
fn a_gateway_service_lets_in_those_whom_it_names_and_changes_its_mind_while_it_runs() {
    on_host(a_gateway_service_that_names_its_clients);
}

fn a_gateway_service_that_names_its_clients() {
    let app = Backend::echo("app");
    let address = SocketAddr::new("192.0.2.77".parse().unwrap(), free_address().port());
    let gateway = Plan::default()
        .manifest("app.yaml", service("app", &[app.addr]))
        .manifest("site.yaml", ingress("x", "", "", &[prefix(HOST, "/", "app")]))
        .manifest("gw.yaml", gateway_service(address.port(), "127.0.0.2/32"))
        .args(&["--gateway-service", "default/gw"])
        .start();
    wait::eventually("a client that may come in is served", || {
        asks_from("127.0.0.2", address)
            .filter(|status| *status == 200)
            .ok_or_else(|| gateway.output())
    });
    let mut stays = dial_from("127.0.0.2", address).unwrap();
    assert_eq!(asks_from("127.0.0.3", address), None);
    assert_eq!(app.requests().len(), 1, "the other client's request came to nobody");
    assert_eq!(asks_from("127.0.0.3", gateway.http), Some(200), "a plain address names nobody");
    let refused = "gatehouse_connections_refused_total{reason=\"source\"} 1";
    assert!(wait::comes_true(|| gateway.page("/metrics").contains(refused)));

    gateway.save("gw.yaml", &gateway_service(address.port(), "127.0.0.3/32, '::1/128'"));
    wait::eventually("the other client is served", || {
        asks_from("127.0.0.3", address)
            .filter(|status| *status == 200)
            .ok_or_else(|| gateway.output())
    });
    assert_eq!(asks_from("127.0.0.2", address), None);
    stays.write_all(GET).unwrap();
    let seen = listen(&mut stays, Want::responses(1), false);
    assert_eq!(seen.status(), 200, "who was let in before stays");

    gateway.save("gw.yaml", &gateway_service(address.port(), "127.0.0.0"));
    wait::eventually("nobody is served", || match asks_from("127.0.0.3", address) {
        None => Ok(()),
        Some(status) => Err(status.to_string()),
    });
}

fn proxied(extra: &[&str]) -> (Gateway, Backend) {
    let app = Backend::echo("app");
    let plan = Plan::default()
        .manifest("app.yaml", service("app", &[app.addr]))
        .manifest("site.yaml", ingress("x", "", "{hosts: [x.test]}", &[prefix(HOST, "/", "app")]));
    let args = ["--proxy-protocol-from", "127.0.0.0/30"];
    (plan.args(&args).args(extra).start(), app)
}

fn v2(rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &length[..], rest].concat()
}

#[test]
fn the_client_is_whom_a_trusted_load_balancer_names_on_both_listeners() {
    let (gateway, app) = proxied(&[]);
    let four = [192, 0, 2, 9, 198, 51, 100, 1, 0, 7];
    let over_tls = [&four[..], &[0, 80], &[0x20, 0, 5, 1, 0, 0, 0, 0]].concat();
    let to_443 = [&four[..], &[1, 0xbb]].concat();
    for header in
        [b"PROXY TCP4 192.0.2.9 198.51.100.1 7 443\r\n".to_vec(), v2(&over_tls), v2(&to_443)]
    {
        let seen = send(gateway.http, &[&header[..], GET].concat());
        assert_eq!(seen.status(), 200, "{header:?}: {seen:?}");
        let got = app.requests().pop().unwrap();
        let told = ["x-forwarded-for", "x-real-ip", "x-forwarded-proto"].map(|name| got.one(name));
        let told = told.map(Option::unwrap_or_default);
        assert_eq!(told, ["192.0.2.9", "192.0.2.9", "https"], "{header:?}");
    }
    let clear = b"PROXY TCP6 2001:db8::9 2001:db8::1 7 80\r\n";
    assert_eq!(
        send(gateway.http, &[&clear[..], GET].concat()).status(),
        308,
        "clear text is told to use TLS"
    );

    let mut wire = dial(gateway.https);
    wire.write_all(clear).unwrap();
    let mut tls = Tls::over(wire, HOST, &[]).unwrap();
    tls.write_all(GET).unwrap();
    let mut answer = String::new();
    tls.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(app.requests().pop().unwrap().one("x-forwarded-for").unwrap(), "2001:db8::9");

    // A look at whether the port is open names nobody.
    let local = b"PROXY UNKNOWN\r\n";
    assert_eq!(send(gateway.http, &[&local[..], GET].concat()).status(), 308);
}

#[test]
fn without_a_header_that_makes_sense_a_load_balancer_is_not_served_and_others_need_none() {
    let (gateway, app) = proxied(&["--time-scale", "0.2"]);
    for first in [
        &b""[..],
        b"PROXY TCP4 192.0.2.9 198.51.100.1 7 443\n",
        b"PROXY TCP4 999.0.2.9 198.51.100.1 7 443\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\0",
        b"PROXY TCP4 192.0.2.9 198.51.",
    ] {
        // The last one waits for its end until it is out of time.
        let bytes = if first.ends_with(b".") { first.to_vec() } else { [first, GET].concat() };
        let want = Want { close: true, ..Want::responses(1) };
        let steps = [gatehouse_testbed::gatehouse::client::Step::Send(bytes)];
        let seen = exchange(gateway.http, &steps, want);
        assert!(seen.closed && seen.received.is_empty(), "{first:?}: {seen:?}");
    }
    assert!(app.requests().is_empty());
    let counted = || gateway.page("/metrics").contains("_refused_total{reason=\"proxy_header\"} 5");
    assert!(wait::comes_true(counted), "{}", gateway.page("/metrics"));
    // Another client that claims to be a load balancer is no such thing.
    let claims = [&b"PROXY TCP4 192.0.2.9 198.51.100.1 7 443\r\n"[..], GET].concat();
    let mut wire = dial_from("127.0.0.9", gateway.http).unwrap();
    wire.write_all(&claims).unwrap();
    assert_eq!(listen(&mut wire, Want::responses(1), false).status(), 400);
    assert_eq!(asks_from("127.0.0.9", gateway.http), Some(308));
    assert!(app.requests().is_empty());
}
