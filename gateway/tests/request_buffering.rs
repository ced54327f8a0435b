//! Bodies of requests that are read in whole before a backend gets them (`proxy-request-buffering`): intact whatever
//! their size, within bounds of memory and disk, and for another endpoint where one fails.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::Write as _,
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend, Request, echo_answer, ok},
        client::{Want, dial, listen, read_some, send},
        curl::Curl,
        gateway::{Gateway, Plan},
        manifests::{ingress, prefix, secret, service},
        tls::certificate,
    },
    guard, wait,
};

const ON: &str = "nginx.ingress.kubernetes.io/proxy-request-buffering: \"on\"";
const KIB: usize = 1024;

fn text(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 + at / 251) as u8).collect()
}

/// A gateway before these backends, with flags, and annotations beside the one that is tested.
fn gateway(backends: &[&Backend], annotations: &str, flags: &[&str]) -> Gateway {
    let addresses: Vec<_> = backends.iter().map(|backend| backend.addr).collect();
    let annotations = format!("{ON}, {annotations}");
    let rules = [prefix("a.test", "/", "app")];
    let tls = "{hosts: [tls.test], secretName: pair}";
    Plan::default()
        .manifest("app.yaml", service("app", &addresses))
        .manifest("secret.yaml", secret("pair", &certificate(&["a.test", "tls.test"])))
        .manifest("ingress.yaml", ingress("a", &annotations, tls, &rules))
        .args(flags)
        .start()
}

fn head(method: &str, fields: &str) -> Vec<u8> {
    format!("{method} /up HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n").into_bytes()
}

/// With its length.
fn sized(method: &str, body: &[u8]) -> Vec<u8> {
    [&head(method, &format!("Content-Length: {}\r\n", body.len())), body].concat()
}

fn chunk(part: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat()
}

/// In chunks of so many bytes.
fn chunked(method: &str, body: &[u8], size: usize) -> Vec<u8> {
    let chunks: Vec<u8> = body.chunks(size).flat_map(chunk).collect();
    [&head(method, "Transfer-Encoding: chunked\r\n"), &*chunks, b"0\r\n\r\n"].concat()
}

fn refused(gateway: &Gateway) -> u64 {
    gateway.count("gatehouse_errors_total{reason=\"body_unkept\"}")
}

/// An answer that says how the request was framed.
fn framing(request: &Request) -> Vec<Act> {
    let [length, coding] =
        ["content-length", "transfer-encoding"].map(|name| request.one(name).unwrap_or_default());
    vec![Act::Send(ok(&format!("{length}/{coding}"), false))]
}

#[test]
fn a_body_of_any_size_arrives_intact_with_its_length() {
    let app = Backend::scripted("app", framing);
    let memory = "nginx.ingress.kubernetes.io/client-body-buffer-size: 70k";
    let gateway = gateway(&[&app], memory, &["--body-memory", "96k"]);
    let mut spilled = 0;
    for bytes in [0, 1, 70 * KIB - 1, 70 * KIB, 70 * KIB + 1, 200 * KIB, 3 * KIB * KIB] {
        let body = text(bytes);
        for request in
            [sized("POST", &body), chunked("POST", &body, 1000), chunked("PUT", &body, 100 * KIB)]
        {
            let seen = send(gateway.http, &request);
            assert_eq!(seen.status(), 200, "{bytes}: {seen:?}");
            assert_eq!(seen.responses[0].text(), format!("{bytes}/"));
            let got = app.requests().remove(0);
            assert!(got.body == body, "{bytes}: {} bytes came", got.body.len());
            spilled += u64::from(bytes > 70 * KIB);
        }
    }
    assert_eq!(gateway.count("gatehouse_kept_body_files_total"), spilled);
    assert!(gateway.keeps_no_body());
}

#[test]
fn a_body_streams_unless_the_object_says_otherwise() {
    let app = Backend::scripted("app", framing);
    let body = text(100);
    for (annotations, expected) in [
        ("nginx.ingress.kubernetes.io/proxy-request-buffering: \"off\"", "/chunked"),
        ("gatehouse.io/body-memory: 1m", "/chunked"),
        ("gatehouse.io/request-buffering: \"on\"", "100/"),
    ] {
        let gateway = Plan::default()
            .manifest("app.yaml", service("app", &[app.addr]))
            .manifest("a.yaml", ingress("a", annotations, "", &[prefix("a.test", "/", "app")]))
            .start();
        let seen = send(gateway.http, &chunked("POST", &body, 10));
        assert_eq!(seen.responses[0].text(), expected, "{annotations}");
    }
}

#[test]
fn a_slow_client_holds_no_connection_to_a_backend() {
    let app = Backend::echo("app");
    let gateway = gateway(&[&app], "", &[]);
    let body = text(10 * KIB);
    let mut client = dial(gateway.http);
    let (first, rest) = body.split_at(3 * KIB);
    client.write_all(&head("POST", "Content-Length: 10240\r\n")).unwrap();
    client.write_all(first).unwrap();
    assert!(wait::comes_true(|| gateway.kept("memory") >= 3 * KIB as u64));
    assert_eq!((app.connections(), app.arriving()), (0, 0));
    client.write_all(rest).unwrap();
    assert_eq!(listen(&mut client, Want::responses(1), false).status(), 200);
    assert!(app.requests()[0].body == body);
    // The connection goes on.
    client.write_all(&sized("POST", b"again")).unwrap();
    assert_eq!(listen(&mut client, Want::responses(1), false).status(), 200);
    assert_eq!(app.requests()[0].body, b"again");
}

#[test]
fn a_body_that_took_its_time_goes_to_an_endpoint_that_is_there_by_then() {
    let [before, after] = ["before", "after"].map(Backend::echo);
    let gateway = gateway(&[&before], "", &[]);
    let mut client = dial(gateway.http);
    client.write_all(&head("POST", "Content-Length: 5\r\n")).unwrap();
    client.write_all(b"hel").unwrap();
    assert!(wait::comes_true(|| gateway.kept("memory") > 0));
    gateway.save("app.yaml", &service("app", &[after.addr]));
    assert!(wait::comes_true(|| gateway.count("gatehouse_snapshot_generation") == 2));
    client.write_all(b"lo").unwrap();
    let seen = listen(&mut client, Want::responses(1), false);
    assert!(seen.responses[0].text().starts_with("after"), "{seen:?}");
    assert_eq!(before.connections(), 0);
}

#[test]
fn a_client_that_is_too_slow_is_told_so_and_nothing_is_left_of_its_body() {
    let app = Backend::echo("app");
    let own = "gatehouse.io/body-timeout: \"1\"";
    let gateway = gateway(&[&app], own, &[]);
    let mut client = dial(gateway.http);
    client.write_all(&head("POST", "Content-Length: 100000\r\n")).unwrap();
    client.write_all(&text(50_000)).unwrap();
    let seen = listen(&mut client, Want::responses(1), false);
    assert_eq!(seen.status(), 408, "{seen:?}");
    assert!(gateway.keeps_no_body());
    assert_eq!(app.connections(), 0);
}

/// Two backends of which the one that is asked first resets the connection.
fn resetting() -> [Backend; 2] {
    let asked = Arc::<AtomicUsize>::default();
    ["one", "two"].map(|name| {
        let asked = Arc::clone(&asked);
        Backend::scripted(name, move |request| match asked.fetch_add(1, Relaxed) {
            0 => vec![Act::Reset],
            _ => vec![Act::Send(echo_answer("second", request))],
        })
    })
}

#[test]
fn a_request_whose_body_is_kept_goes_to_another_endpoint_as_one_without_a_body_would() {
    let non_idempotent = "nginx.ingress.kubernetes.io/proxy-next-upstream: error non_idempotent";
    for (method, annotations, bytes, status) in [
        ("PUT", "", 5 * KIB, 200),
        ("PUT", "", 700 * KIB, 200),
        ("POST", "", 5 * KIB, 502),
        ("POST", non_idempotent, 300 * KIB, 200),
    ] {
        let backends = resetting();
        let gateway = gateway(&[&backends[0], &backends[1]], annotations, &[]);
        let body = text(bytes);
        let seen = send(gateway.http, &chunked(method, &body, 10 * KIB));
        assert_eq!(seen.status(), status, "{method} {bytes}: {seen:?}");
        let got: Vec<Request> = backends.iter().flat_map(Backend::requests).collect();
        assert_eq!(got.len(), if status == 200 { 2 } else { 1 });
        assert!(got.iter().all(|request| request.body == body), "{method} {bytes}");
        assert!(gateway.keeps_no_body());
    }
}

#[test]
fn a_body_that_is_too_large_is_refused_before_a_backend_hears_of_it() {
    let app = Backend::echo("app");
    let gateway = gateway(&[&app], "nginx.ingress.kubernetes.io/proxy-body-size: 100k", &[]);
    let body = text(150 * KIB);
    let expects = "Expect: 100-continue\r\nContent-Length: 153600\r\n";
    for request in [sized("POST", &body), chunked("POST", &body, 4 * KIB), head("POST", expects)] {
        let seen = send(gateway.http, &request);
        assert_eq!((seen.status(), seen.interim.len()), (413, 0), "{seen:?}");
    }
    assert!(gateway.keeps_no_body());
    assert_eq!(app.connections(), 0);
}

#[test]
fn a_client_that_expects_100_is_asked_for_its_body() {
    let app = Backend::echo("app");
    let gateway = gateway(&[&app], "", &[]);
    let mut client = dial(gateway.http);
    client.write_all(&head("POST", "Expect: 100-continue\r\nContent-Length: 5\r\n")).unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        assert!(read_some(&mut client, wait::LIMIT, &mut bytes).unwrap() > 0);
    }
    assert!(bytes.starts_with(b"HTTP/1.1 100 "));
    assert_eq!(app.connections(), 0);
    client.write_all(b"hello").unwrap();
    assert_eq!(listen(&mut client, Want::responses(1), false).status(), 200);
    let got = app.requests().remove(0);
    assert_eq!((&*got.body, got.one("expect")), (&b"hello"[..], None));
}

#[test]
fn bodies_for_which_the_disk_has_no_room_are_refused_and_counted() {
    let app = Backend::echo("app");
    let flags = ["--body-memory", "16k", "--body-disk", "500k"];
    let gateway = gateway(&[&app], "", &flags);
    // What says so itself is not even asked for.
    let seen =
        send(gateway.http, &head("POST", "Expect: 100-continue\r\nContent-Length: 600000\r\n"));
    assert_eq!((seen.status(), seen.interim.len()), (503, 0), "{seen:?}");
    let seen = send(gateway.http, &chunked("POST", &text(600 * KIB), 10 * KIB));
    assert_eq!(seen.status(), 503, "{seen:?}");
    assert!(seen.responses[0].text().contains("no room"), "{}", seen.responses[0].text());
    assert_eq!((refused(&gateway), app.connections()), (2, 0));
    assert!(gateway.keeps_no_body());
    // There is room for what fits, and for one body at a time.
    let mut holder = dial(gateway.http);
    holder.write_all(&head("POST", "Content-Length: 400000\r\n")).unwrap();
    holder.write_all(&text(399_999)).unwrap();
    assert!(wait::comes_true(|| gateway.kept("file") > 300_000));
    assert_eq!(send(gateway.http, &sized("POST", &text(300_000))).status(), 503);
    assert_eq!(send(gateway.http, &sized("POST", b"small")).status(), 200);
    holder.write_all(b"x").unwrap();
    assert_eq!(listen(&mut holder, Want::responses(1), false).status(), 200);
    assert!(gateway.keeps_no_body());
    assert_eq!(send(gateway.http, &sized("POST", &text(300_000))).status(), 200);
}

#[test]
fn a_folder_without_room_for_files_answers_503_and_small_bodies_pass() {
    let app = Backend::echo("app");
    let folder = tempfile::tempdir().unwrap();
    let bodies = folder.path().join("bodies");
    let gateway = gateway(&[&app], "", &["--body-dir", bodies.to_str().unwrap()]);
    std::fs::remove_dir_all(&bodies).unwrap();
    std::fs::write(&bodies, "no folder").unwrap();
    assert_eq!(send(gateway.http, &sized("POST", &text(100 * KIB))).status(), 503);
    assert_eq!(send(gateway.http, &sized("POST", &text(60 * KIB))).status(), 200);
    assert!(gateway.output().contains("/bodies"), "{}", gateway.output());
    assert!(gateway.keeps_no_body());
}

#[test]
fn a_client_that_breaks_off_leaves_nothing() {
    let app = Backend::echo("app");
    let gateway = gateway(&[&app], "", &[]);
    for framing in ["Content-Length: 400000\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut client = dial(gateway.http);
        client.write_all(&head("POST", framing)).unwrap();
        let part = text(300_000);
        let part = if framing.contains("chunked") { chunk(&part) } else { part };
        client.write_all(&part).unwrap();
        assert!(wait::comes_true(|| gateway.kept("file") > 200_000));
        client.shutdown(Shutdown::Both).unwrap();
        assert!(gateway.keeps_no_body(), "{framing}");
    }
    assert_eq!(app.connections(), 0);
}

#[test]
fn who_is_refused_is_refused_before_the_body_is_read() {
    let app = Backend::echo("app");
    let own = "nginx.ingress.kubernetes.io/whitelist-source-range: 192.0.2.0/24";
    let gateway = gateway(&[&app], own, &[]);
    let mut client = dial(gateway.http);
    client.write_all(&head("POST", "Expect: 100-continue\r\nContent-Length: 5\r\n")).unwrap();
    let seen = listen(&mut client, Want::responses(1), false);
    assert_eq!((seen.status(), seen.interim.len()), (403, 0), "{seen:?}");
}

#[test]
fn a_call_of_grpc_passes_as_it_comes() {
    let app = Backend::echo("app");
    let gateway = gateway(&[&app], "", &[]);
    let mut client = dial(gateway.http);
    let fields = "Content-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n";
    client.write_all(&head("POST", fields)).unwrap();
    client.write_all(&chunk(b"first")).unwrap();
    assert!(wait::comes_true(|| app.arriving() > 0));
    client.write_all(b"0\r\n\r\n").unwrap();
    assert_eq!(listen(&mut client, Want::responses(1), false).status(), 200);
}

#[test]
fn an_upgrade_passes_as_it_comes() {
    let app = Backend::scripted("app", |_| {
        let answer =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        vec![Act::Send(answer.into()), Act::Echo]
    });
    let gateway = gateway(&[&app], "", &[]);
    let mut client = dial(gateway.http);
    client.write_all(&head("GET", "Connection: upgrade\r\nUpgrade: websocket\r\n")).unwrap();
    client.write_all(b"through the tunnel").unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"through the tunnel") {
        assert!(read_some(&mut client, wait::LIMIT, &mut bytes).unwrap() > 0);
    }
    assert!(bytes.starts_with(b"HTTP/1.1 101 "));
}

#[test]
fn a_mirror_gets_the_body_once_however_often_it_is_sent() {
    let (backends, mirror) = (resetting(), Backend::echo("mirror"));
    let target = format!("nginx.ingress.kubernetes.io/mirror-target: \"http://{}\"", mirror.addr);
    let gateway = gateway(&[&backends[0], &backends[1]], &target, &[]);
    let body = text(500 * KIB);
    assert_eq!(send(gateway.http, &sized("PUT", &body)).status(), 200);
    let mut copies = Vec::new();
    assert!(wait::comes_true(|| {
        copies.append(&mut mirror.arrived());
        !copies.is_empty()
    }));
    assert!(copies[0].body == body && gateway.keeps_no_body());
    assert_eq!(mirror.arrived().len(), 0);
}

/// curl as a client of HTTP/2.
fn curl(gateway: &Gateway, more: &[&str]) -> u16 {
    let arguments = [&["--http2"], more].concat();
    Curl::of(gateway.https).ask(None, &arguments, "https://a.test/up").status
}

#[test]
fn uploads_over_http2_are_kept_as_well() {
    let app = Backend::scripted("app", framing);
    let gateway = gateway(&[&app], "nginx.ingress.kubernetes.io/proxy-body-size: 8m", &[]);
    let file = tempfile::NamedTempFile::new().unwrap();
    for bytes in [0, 10, 300 * KIB] {
        let body = text(bytes);
        std::fs::write(file.path(), &body).unwrap();
        let data = format!("@{}", file.path().display());
        assert_eq!(curl(&gateway, &["--data-binary", &data]), 200, "{bytes}");
        // Without a length.
        let upload = file.path().to_str().unwrap();
        let piped = ["--upload-file", upload, "--header", "Content-Length:"];
        assert_eq!(curl(&gateway, &piped), 200, "{bytes}");
        let got = app.requests();
        assert!(got.len() == 2 && got.iter().all(|request| request.body == body), "{bytes}");
        let lengths = got.iter().map(|request| request.one("content-length"));
        assert!(lengths.flatten().all(|length| length == bytes.to_string()));
    }
    // Older versions of curl take the end of an upload that was answered early for an error (RFC 9113 §8.1).
    std::fs::write(file.path(), text(9 * KIB * KIB)).unwrap();
    let mut nghttp = guard::command("nghttp");
    nghttp.args(["-v", "-H", ":authority: a.test", "-d"]).arg(file.path());
    let output = nghttp.arg(format!("https://{}/up", gateway.https)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(":status: 413"), "{said}");
    assert_eq!(app.requests().len(), 0);
    assert!(gateway.keeps_no_body());
}

#[test]
fn many_clients_that_wait_take_no_more_memory_than_they_may() {
    const CLIENTS: usize = 40;
    let app = Backend::echo("app");
    let memory = "gatehouse.io/body-memory: 1m";
    let gateway = gateway(&[&app], memory, &["--body-memory", "2m"]);
    let body = text(600 * KIB);
    let mut clients: Vec<TcpStream> = (0..CLIENTS)
        .map(|_| {
            let mut client = dial(gateway.http);
            client.write_all(&head("PUT", "Content-Length: 614400\r\n")).unwrap();
            client.write_all(&body[1..]).unwrap();
            client
        })
        .collect();
    let all = (CLIENTS * (body.len() - 1)) as u64;
    let held = || (gateway.kept("memory"), gateway.kept("file"));
    // Memory is counted by what is set aside for a body that says its length.
    assert!(wait::comes_true(|| held().0 + held().1 >= all - 2 * 1024 * 1024));
    assert!(held().0 <= 2 * 1024 * 1024, "{:?}", held());
    assert_eq!(app.connections(), 0);
    for client in &mut clients {
        client.write_all(&body[..1]).unwrap();
        assert_eq!(listen(client, Want::responses(1), false).status(), 200);
    }
    let got = app.requests();
    let whole = [&body[1..], &body[..1]].concat();
    assert!(got.len() == CLIENTS && got.iter().all(|request| request.body == whole));
    assert!(gateway.keeps_no_body());
}
