//! Answers that are taken from their backend at its own speed (`proxy-buffering`): a slow client holds no backend, within
//! bounds of memory and disk, and gets every byte or hears that there are more.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{io::Write as _, net::TcpStream, sync::LazyLock, time::Duration};

use gatehouse_testbed::{
    gatehouse::{
        backend::{Act, Backend, Gate},
        client::{End, Exchange, Want, dial, listen, read_some, send},
        gateway::{Gateway, Plan},
        manifests::{ingress, prefix, secret, service},
        tls::certificate,
    },
    guard, wait,
};

const ON: &str = "nginx.ingress.kubernetes.io/proxy-buffering: \"on\"";
const OFF: &str = "nginx.ingress.kubernetes.io/proxy-buffering: \"off\"";
const MIB: usize = 1024 * 1024;
/// More than all sockets on the way hold.
const LARGE: usize = 32 * MIB;

fn large() -> &'static [u8] {
    static LARGE_BODY: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..LARGE).map(|at| (at * 31 + at / 251) as u8).collect());
    &LARGE_BODY
}

fn gateway(backend: &Backend, annotations: &str, flags: &[&str]) -> Gateway {
    let rules = [prefix("a.test", "/", "app")];
    let tls = "{hosts: [tls.test], secretName: pair}";
    Plan::default()
        .manifest("app.yaml", service("app", &[backend.addr]))
        .manifest("secret.yaml", secret("pair", &certificate(&["a.test", "tls.test"])))
        .manifest("ingress.yaml", ingress("a", annotations, tls, &rules))
        .args(flags)
        .start()
}

/// A backend that answers `/large…` with a large body, in chunks at `/large-chunks`, and everything else with a few bytes.
fn backend(fields: &'static str) -> Backend {
    Backend::scripted("app", move |request| {
        vec![Act::Send(match &*request.target {
            "/large-chunks" => chunked(fields, large()),
            "/large" => sized(fields, large()),
            _ => sized(fields, b"small"),
        })]
    })
}

/// A backend that does something else than to end its large answer, after 20 MiB of it.
fn unfinished(then: Act) -> Backend {
    // Made before anybody waits for it.
    let mut answer = sized("", large());
    answer.truncate(20 * MIB);
    Backend::scripted("app", move |_| vec![Act::Send(answer.clone()), then.clone()])
}

/// The client gets what came of it, and hears that there is more.
fn is_cut(client: &mut TcpStream) {
    let seen = taken(client);
    let answer = &seen.responses[0];
    assert_eq!(answer.end, End::Cut);
    assert!(answer.body.len() > 19 * MIB && large().starts_with(&answer.body));
}

fn sized(fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn chunk(part: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat()
}

fn chunked(fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{fields}\r\n");
    let chunks: Vec<u8> = body.chunks(100_000).flat_map(chunk).collect();
    [head.as_bytes(), &chunks, b"0\r\n\r\n"].concat()
}

/// A client that has asked and takes nothing yet.
fn ask(gateway: &Gateway, path: &str) -> TcpStream {
    let mut client = dial(gateway.http);
    client.write_all(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n").as_bytes()).unwrap();
    client
}

fn get(gateway: &Gateway, path: &str) -> Exchange {
    send(gateway.http, format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n").as_bytes())
}

/// All that is left of the answer.
fn taken(client: &mut TcpStream) -> Exchange {
    listen(client, Want::responses(1), false)
}

/// Waits until the gateway has all of an answer that its client does not take. The backend is done sooner: much is on its way.
fn all_has_come(gateway: &Gateway, app: &Backend) -> bool {
    let mut last = 0;
    wait::comes_true(|| {
        std::thread::sleep(Duration::from_millis(300));
        let before = std::mem::replace(&mut last, gateway.kept("file") + gateway.kept("memory"));
        app.is_done() && gateway.kept("file") > 4 * MIB as u64 && last == before
    })
}

#[test]
fn a_slow_client_holds_no_backend_and_gets_everything() {
    let app = backend("");
    let own = "nginx.ingress.kubernetes.io/proxy-buffers-number: \"8\", nginx.ingress.kubernetes.io/proxy-buffer-size: 32k";
    let gateway = gateway(&app, &format!("{ON}, {own}"), &[]);
    for (nth, path) in ["/large", "/large-chunks"].into_iter().enumerate() {
        let mut client = ask(&gateway, path);
        assert!(all_has_come(&gateway, &app), "{path}");
        assert!(gateway.kept("memory") <= 512 * 1024, "{}", gateway.kept("memory"));
        // The connection serves others meanwhile.
        assert_eq!(get(&gateway, "/small").responses[0].text(), "small");
        assert_eq!(app.connections(), 1);
        let seen = taken(&mut client);
        assert!(seen.responses[0].body == large(), "{path}");
        assert_eq!(seen.responses[0].end, End::Complete);
        assert!(gateway.keeps_no_body());
        assert_eq!(gateway.count("gatehouse_kept_body_files_total"), nth as u64 + 1);
        // The client's connection goes on as well.
        client.write_all(b"GET /small HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
        assert_eq!(taken(&mut client).responses[0].text(), "small");
    }
}

#[test]
fn the_object_says_whether_an_answer_waits_here_and_its_backend_has_the_last_word() {
    const YES: &str = "X-Accel-Buffering: yes\r\n";
    const NO: &str = "X-Accel-Buffering: No\r\n";
    for (annotations, fields, waits, passed) in [
        (ON, "", true, None),
        (ON, NO, false, None),
        (OFF, "", false, None),
        (OFF, YES, true, None),
        ("", "", false, None),
        ("", YES, false, Some("yes")),
    ] {
        let app = backend(fields);
        let gateway = gateway(&app, annotations, &[]);
        let mut client = ask(&gateway, "/large");
        let case = format!("{annotations:?} {fields:?}");
        if waits {
            assert!(wait::comes_true(|| gateway.kept("file") > 0 && app.is_done()), "{case}");
        } else {
            assert!(wait::comes_true(|| !app.is_done()), "{case}");
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!((gateway.kept("file"), app.is_done()), (0, false), "{case}");
        }
        let seen = taken(&mut client);
        assert!(seen.responses[0].body == large(), "{case}");
        assert_eq!(seen.responses[0].one("x-accel-buffering").as_deref(), passed, "{case}");
    }
}

#[test]
fn what_has_come_leaves_at_once() {
    let gate = Gate::default();
    let go = gate.clone();
    let app = Backend::scripted("app", move |_| {
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let until = || Act::Until(go.clone());
        vec![
            Act::Send([&head[..], &chunk(b"data: 1\n\n")].concat()),
            Act::Wait(Duration::from_millis(20)),
            Act::Send(chunk(b"data: 2\n\n")),
            until(),
            Act::Send([&chunk(b"data: 3\n\n")[..], b"0\r\n\r\n"].concat()),
        ]
    });
    let gateway = gateway(&app, ON, &[]);
    let mut client = ask(&gateway, "/events");
    let mut bytes = Vec::new();
    while !bytes.windows(9).any(|part| part == b"data: 2\n\n") {
        assert!(read_some(&mut client, wait::LIMIT, &mut bytes).unwrap() > 0);
    }
    gate.open();
    while !bytes.ends_with(b"0\r\n\r\n") {
        assert!(read_some(&mut client, wait::LIMIT, &mut bytes).unwrap() > 0);
    }
    assert!(bytes.windows(9).any(|part| part == b"data: 3\n\n"));
    assert_eq!(gateway.count("gatehouse_kept_body_files_total"), 0);
}

#[test]
fn an_answer_takes_no_more_of_the_disk_than_it_may_and_waits_in_its_backend_beyond() {
    let app = backend("");
    let none = "nginx.ingress.kubernetes.io/proxy-max-temp-file-size: \"0\"";
    let own = "nginx.ingress.kubernetes.io/proxy-max-temp-file-size: 1m";
    for (annotations, flags, most) in [
        (none, &[][..], 0),
        (own, &[], MIB),
        ("", &["--body-disk", "2m"], 2 * MIB),
        ("", &["--body-disk", "2m", "--body-memory", "0"], 2 * MIB),
    ] {
        let gateway = gateway(&app, &format!("{ON}, {annotations}"), flags);
        let mut clients = [(); 3].map(|()| ask(&gateway, "/large"));
        assert!(wait::comes_true(|| !app.is_done() && gateway.kept("file") >= most as u64 / 2));
        std::thread::sleep(Duration::from_millis(200));
        let all = if flags.is_empty() { 3 * most } else { most };
        assert!(gateway.kept("file") <= all as u64, "{annotations} {flags:?}");
        assert!(!app.is_done(), "{annotations} {flags:?}");
        for client in &mut clients {
            assert!(taken(client).responses[0].body == large(), "{annotations} {flags:?}");
        }
        assert!(gateway.keeps_no_body());
    }
}

#[test]
fn an_answer_that_the_disk_fails_is_broken_off_and_told() {
    let app = backend("");
    let folder = tempfile::tempdir().unwrap();
    let bodies = folder.path().join("bodies");
    let gateway = gateway(&app, ON, &["--body-dir", bodies.to_str().unwrap()]);
    std::fs::remove_dir_all(&bodies).unwrap();
    std::fs::write(&bodies, "no folder").unwrap();
    for path in ["/large", "/large-chunks"] {
        let mut client = ask(&gateway, path);
        assert!(wait::comes_true(|| gateway.output().contains("/bodies")), "{}", gateway.output());
        let seen = taken(&mut client);
        let answer = &seen.responses[0];
        assert_eq!(answer.end, End::Cut, "{path}");
        // Of chunks the client shows the frames, too.
        assert!(path != "/large" || large().starts_with(&answer.body));
    }
    let refused = || gateway.count("gatehouse_errors_total{reason=\"body_unkept\"}");
    assert!(wait::comes_true(|| refused() == 2), "{}", refused());
    assert_eq!(get(&gateway, "/small").responses[0].text(), "small");
    assert!(gateway.keeps_no_body());
}

#[test]
fn an_answer_that_its_backend_breaks_off_is_cut_behind_what_came() {
    let app = unfinished(Act::Close);
    let gateway = gateway(&app, ON, &[]);
    let mut client = ask(&gateway, "/large");
    assert!(wait::comes_true(|| app.is_done() && gateway.kept("file") > 0));
    is_cut(&mut client);
    assert!(gateway.keeps_no_body());
}

#[test]
fn a_backend_that_hangs_within_its_answer_is_let_go_of_though_the_client_takes_nothing() {
    let app = unfinished(Act::Hang);
    let timeout = "nginx.ingress.kubernetes.io/proxy-read-timeout: \"1\"";
    let gateway = gateway(&app, &format!("{ON}, {timeout}"), &[]);
    let mut client = ask(&gateway, "/large");
    assert!(wait::comes_true(|| gateway.kept("file") > 0));
    assert!(wait::comes_true(|| app.open() == 0), "the connection stays open");
    is_cut(&mut client);
    assert!(gateway.keeps_no_body());
}

#[test]
fn a_client_that_leaves_leaves_nothing() {
    let app = backend("");
    let gateway = gateway(
        &app,
        &format!("{ON}, nginx.ingress.kubernetes.io/proxy-max-temp-file-size: 8m"),
        &[],
    );
    let client = ask(&gateway, "/large");
    assert!(wait::comes_true(|| gateway.kept("file") > 4 * MIB as u64));
    drop(client);
    assert!(gateway.keeps_no_body());
    assert!(wait::comes_true(|| app.open() == 0), "the backend writes on");
}

#[test]
fn answers_over_http2_wait_as_well_and_may_be_paced_and_compressed() {
    let app = backend("Content-Type: text/plain\r\n");
    let own = "gatehouse.io/compress: gzip, nginx.ingress.kubernetes.io/limit-rate: \"40000\"";
    let gateway = gateway(&app, &format!("{ON}, {own}"), &[]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answer");
    for more in [&["--http2"][..], &["--http2", "--compressed"], &["--compressed"]] {
        let mut curl = guard::command("curl");
        curl.args(["--silent", "--insecure", "--fail", "--noproxy", "*", "--max-time", "50"])
            .args(["--connect-to", &format!("::{}", gateway.https)])
            .args(["--output", path.to_str().unwrap()]);
        let status = curl.args(more).arg("https://a.test/large-chunks").status().unwrap();
        assert!(status.success(), "{more:?}: {status}");
        assert!(std::fs::read(&path).unwrap() == large(), "{more:?}");
    }
    assert!(gateway.keeps_no_body());
}
