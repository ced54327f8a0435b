//! `openssl s_client` as a client of the gateway: what is agreed in a handshake, and sessions taken up again.

use std::{io::Write as _, net::SocketAddr, process::Stdio};

use crate::guard;

/// What `openssl s_client` prints about a request for a host in a handshake for a name, or for none.
///
/// # Panics
/// There is no openssl.
pub fn request(address: SocketAddr, name: &str, host: &str, more: &[&str]) -> String {
    let ask = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let more: Vec<&str> = ["-ign_eof"].iter().chain(more).copied().collect();
    run(address, name, ask.as_bytes(), &more)
}

/// Version and cipher that a handshake for a name agrees on, as `TLSv1.3 TLS_AES_128_GCM_SHA256`; `None`: it fails.
pub fn agreed(address: SocketAddr, name: &str, more: &[&str]) -> Option<String> {
    let output = run(address, name, b"", more);
    let line = output.lines().find_map(|line| line.strip_prefix("New, "))?;
    let (_, cipher) = line.split_once(", Cipher is ")?;
    let version = output.lines().find_map(|line| line.trim().strip_prefix("Protocol  : "));
    // Of TLS 1.3 it is only said in the line of the cipher.
    let version = version.or_else(|| line.split(',').next())?;
    (cipher != "(NONE)").then(|| format!("{version} {cipher}"))
}

fn run(address: SocketAddr, name: &str, input: &[u8], more: &[&str]) -> String {
    let mut openssl = guard::command("openssl");
    openssl
        .args(["s_client", "-connect", &address.to_string()])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    match name {
        "" => openssl.arg("-noservername"),
        name => openssl.args(["-servername", name]),
    };
    let mut child = openssl.spawn().expect("openssl is installed (.ci/setup)");
    // It may have ended before it read anything.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    let output = child.wait_with_output().expect("openssl ends");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
