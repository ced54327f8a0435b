//! `gatehouse migrate --shadow` beside a real nginx, configured as ingress-nginx would for the same objects.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Command, Output},
};

use gatehouse_testbed::{
    gatehouse::{
        backend::Backend,
        gateway::{Plan, free_address},
        manifests::{ingress, prefix, service},
        pki::Authority,
    },
    program::Program,
    wait,
};
use tempfile::TempDir;

/// What ingress-nginx makes of the objects below. A slash at the end of `/api/` is asked for by a redirect there.
fn nginx(folder: &Path, backend: &Backend) -> (Program, SocketAddr, SocketAddr) {
    let (address, tls) = (free_address(), free_address());
    let authority = Authority::new("the authority");
    let pair = authority.server(&["app.test", "tls.test"]);
    for (name, text) in
        [("ca.pem", authority.pem()), ("tls.pem", pair.certificate), ("tls.key", pair.key)]
    {
        fs::write(folder.join(name), text).unwrap();
    }
    let config = format!(
        "daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;
         events {{ worker_connections 64; }}
         http {{
           access_log {folder}/access.log; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
           proxy_http_version 1.1; proxy_set_header Connection \"\";
           fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
           server {{ listen {address} default_server; return 404; }}
           ssl_certificate {folder}/tls.pem; ssl_certificate_key {folder}/tls.key;
           server {{ listen {address}; listen {tls} ssl; server_name app.test;
             location / {{ proxy_set_header Host $host; proxy_set_header Connection \"\"; proxy_pass http://{backend}; }}
             location = /silent {{ return 444; }}
             location /old {{ return 301 https://new.test/; }} }}
           server {{ listen {address}; server_name tls.test;
             location = / {{ return 308 https://$host; }}
             location / {{ return 308 https://$host$request_uri; }} }}
           server {{ listen {tls} ssl; server_name tls.test; location / {{ proxy_pass http://{backend}; }} }}
           server {{ listen {address}; server_name slow.test; location /api/ {{ proxy_pass http://{backend}; }} }}
         }}",
        folder = folder.display(),
        backend = backend.addr,
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, config).unwrap();
    let mut command = Command::new("nginx");
    command.args(["-p", folder.to_str().unwrap(), "-c", file.to_str().unwrap()]);
    let program = Program::start(command);
    assert!(wait::comes_true(|| TcpStream::connect(address).is_ok()), "nginx does not listen");
    (program, address, tls)
}

fn objects(folder: &Path, backend: &Backend) {
    let redirect = "nginx.ingress.kubernetes.io/permanent-redirect: \"https://new.test/\"";
    let tls = "{hosts: [tls.test], secretName: absent}";
    let all = [
        service("app", &[backend.addr]),
        ingress("app", "", "", &[prefix("app.test", "/", "app")]),
        ingress("old", redirect, "", &[prefix("app.test", "/old", "app")]),
        ingress("tls", "", tls, &[prefix("tls.test", "/", "app")]),
        ingress("slow", "", "", &[prefix("slow.test", "/api/", "app")]),
    ];
    fs::write(folder.join("objects.yaml"), all.join("\n---\n")).unwrap();
}

fn migrate(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
    command.arg("migrate").args(["--claim-class", "nginx", "--shadow-rate", "1000"]).args(words);
    command.arg(folder.join("objects.yaml")).output().unwrap()
}

fn text(output: &Output) -> String {
    let all = [&*output.stdout, &*output.stderr].concat();
    String::from_utf8_lossy(&all).into_owned()
}

struct Bed {
    folder: TempDir,
    backend: Backend,
    url: String,
    tls_url: String,
    _nginx: Program,
}

fn bed() -> Bed {
    let (folder, backend) = (tempfile::tempdir().unwrap(), Backend::echo("app"));
    objects(folder.path(), &backend);
    let (nginx, address, tls) = nginx(folder.path(), &backend);
    let (url, tls_url) = (format!("http://{address}"), format!("https://{tls}"));
    Bed { folder, backend, url, tls_url, _nginx: nginx }
}

#[test]
fn answers_that_differ_are_told_and_all_others_are_not() {
    let bed = bed();
    let output = migrate(bed.folder.path(), &["--shadow", &bed.url]);
    let text = text(&output);
    let told: Vec<_> = text.lines().filter(|line| line.contains(" today ")).collect();
    // Without the slash nginx redirects to it (in clear text: that may be the backend's), and what no rule has is 404 on
    // both sides. Where TLS is asked for, both say so.
    assert!(told.iter().all(|line| !line.contains("tls.test")), "{text}");
    assert!(told.iter().all(|line| !line.contains("app.test/old")), "{text}");
    assert!(text.contains("answered otherwise"), "{text}");
    // The backend has heard of nothing but GET.
    assert!(bed.backend.requests().iter().all(|request| request.method == "GET"));
}

#[test]
fn a_list_of_requests_is_sent_as_far_as_bounds_allow_and_differences_end_with_an_error() {
    let bed = bed();
    let list = bed.folder.path().join("list");
    // The rule of the table and nginx disagree about a host that only nginx redirects.
    fs::write(&list, "http://tls.test/a/\nGET app.test/old\nHEAD nobody.test/\napp.test/x\n")
        .unwrap();
    let words = ["--shadow", &bed.url, "--requests", list.to_str().unwrap()];
    let output = migrate(bed.folder.path(), &words);
    let all = text(&output);
    assert!(all.contains("4 requests"), "{all}");
    // ingress-nginx cuts the slash at the end; this nginx was not told to.
    assert!(all.contains("GET tls.test/a/") && all.contains("location"), "{all}");
    assert!(!output.status.success());
    let output = migrate(bed.folder.path(), &[&words[..], &["--shadow-limit", "1"]].concat());
    assert!(text(&output).contains("3 more were not sent"), "{}", text(&output));
    fs::write(&list, "POST app.test/\n").unwrap();
    let output = migrate(bed.folder.path(), &words);
    assert!(text(&output).contains("is not sent"), "{}", text(&output));
    assert!(bed.backend.requests().iter().all(|request| request.method == "GET"));
}

#[test]
fn a_gateway_that_runs_is_compared_by_the_whole_heads_of_its_answers() {
    let bed = bed();
    let objects = fs::read_to_string(bed.folder.path().join("objects.yaml")).unwrap();
    let gateway =
        Plan::default().args(&["--claim-class", "nginx"]).manifest("objects.yaml", objects).start();
    let list = bed.folder.path().join("list");
    fs::write(&list, "app.test/x\napp.test/old\nnobody.test/\n").unwrap();
    let beside = format!("http://{}", gateway.http);
    let words = ["--shadow", &bed.url, "--beside", &beside, "--requests", list.to_str().unwrap()];
    let output = migrate(bed.folder.path(), &words);
    assert!(text(&output).contains("3 requests, 0 answered otherwise"), "{}", text(&output));
}

#[test]
fn an_https_address_is_asked_by_tls_under_the_names_of_hosts_and_verified_unless_told_otherwise() {
    let bed = bed();
    let list = bed.folder.path().join("list");
    // What is redirected in clear text is served there.
    fs::write(&list, "app.test/x\napp.test/old\ntls.test/a\n").unwrap();
    let words = ["--shadow", &bed.tls_url, "--requests", list.to_str().unwrap()];
    let ask = |more: &[&str], trust: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
        command.args(["migrate", "--claim-class", "nginx"]).args(words).args(more);
        command.env("SSL_CERT_FILE", bed.folder.path().join(trust));
        text(&command.arg(bed.folder.path().join("objects.yaml")).output().unwrap())
    };
    let verified = ask(&[], "ca.pem");
    assert!(verified.contains("3 requests, 0 answered otherwise"), "{verified}");
    let stranger = Authority::new("another authority").pem();
    fs::write(bed.folder.path().join("other.pem"), stranger).unwrap();
    let refused = ask(&[], "other.pem");
    assert!(refused.contains("certificate") && !refused.contains("otherwise"), "{refused}");
    let unverified = ask(&["--insecure"], "other.pem");
    assert!(unverified.contains("3 requests, 0 answered otherwise"), "{unverified}");
}

#[test]
fn a_request_that_gets_no_answer_is_told_and_the_others_are_compared() {
    let bed = bed();
    let list = bed.folder.path().join("list");
    let words = ["--shadow", &bed.url, "--requests", list.to_str().unwrap()];
    fs::write(&list, "app.test/silent\napp.test/old\nother.test/\n").unwrap();
    let told = text(&migrate(bed.folder.path(), &words));
    assert!(told.contains("3 requests, 1 answered otherwise"), "{told}");
    let line = told.lines().find(|line| line.contains("GET app.test/silent")).unwrap();
    assert!(line.contains("closes the connection") && line.contains("of the backend"), "{told}");
    fs::write(&list, "app.test/silent\n").unwrap();
    let told = text(&migrate(bed.folder.path(), &words));
    assert!(told.contains("does not answer GET app.test/silent"), "{told}");
}

#[test]
fn nothing_but_a_plain_address_is_asked() {
    let bed = bed();
    for url in ["ftp://127.0.0.1:1", "http://127.0.0.1:1/path", "127.0.0.1:1"] {
        let output = migrate(bed.folder.path(), &["--shadow", url]);
        assert!(!output.status.success() && !text(&output).contains("answered otherwise"), "{url}");
    }
    assert!(bed.backend.requests().is_empty());
}
