//! The echo backend over real sockets: what a client of the quickstart or of a test relies on.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use super::*;

/// An echo backend for services `alpha` and `beta` on free ports; its threads end with the test process.
fn start() -> (SocketAddr, SocketAddr) {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (alpha, beta) = (free(), free());
    let listeners = [(alpha, "alpha"), (beta, "beta")].map(|(address, service)| Listener {
        address,
        service: service.to_owned(),
        endpoint: format!("{service}-0"),
    });
    spawn(&listeners, 1).unwrap();
    (alpha, beta)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

/// Sends `request` with `Connection: close` added and returns the head and the body.
fn ask(address: SocketAddr, request: &str) -> (String, Vec<u8>) {
    let mut stream = connect(address);
    let request = request.replacen("\r\n", "\r\nHost: t.test\r\nConnection: close\r\n", 1);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    (String::from_utf8(answer[..end].to_vec()).unwrap().to_lowercase(), answer[end..].to_vec())
}

#[test]
fn the_plain_answer_names_service_endpoint_method_path_and_host() {
    let (alpha, beta) = start();
    let (head, body) = ask(alpha, "GET /a/b?c=d HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let expected = "service=alpha endpoint=alpha-0 method=GET path=/a/b?c=d host=t.test\n";
    assert_eq!(String::from_utf8(body).unwrap(), expected);
    let (_, body) = ask(beta, "DELETE / HTTP/1.1\r\n\r\n");
    assert!(body.starts_with(b"service=beta endpoint=beta-0 method=DELETE path=/ "));
}

#[test]
fn json_shows_every_received_header_and_repeats() {
    let (alpha, _) = start();
    let (_, body) = ask(alpha, "GET /?json HTTP/1.1\r\nX-A: 1\r\nX-A: 2\r\n\r\n");
    let report: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(report["headers"]["x-a"], serde_json::json!(["1", "2"]));
    assert_eq!(report["host"], "t.test");
    let (head, _) = ask(alpha, "GET / HTTP/1.1\r\nAccept: application/json\r\n\r\n");
    assert!(head.contains("application/json"), "{head}");
}

#[test]
fn size_status_delay_and_framing_follow_the_query() {
    let (alpha, _) = start();
    let (head, body) = ask(alpha, "GET /?size=300001 HTTP/1.1\r\n\r\n");
    assert!(head.contains("content-length: 300001"), "{head}");
    assert_eq!(body.len(), 300_001);
    let (head, _) = ask(alpha, "GET /?size=10&chunked HTTP/1.1\r\n\r\n");
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    let started = std::time::Instant::now();
    let (head, _) = ask(alpha, "GET /?status=503&delay=50 HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("http/1.1 503"), "{head}");
    assert!(started.elapsed() >= Duration::from_millis(50));
    let (head, body) = ask(alpha, "GET /?status=204 HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("http/1.1 204") && body.is_empty(), "{head}");
    let (head, _) = ask(alpha, "GET /?status=42 HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("http/1.1 400"), "{head}");
}

#[test]
fn a_request_body_is_read_to_its_end_and_counted() {
    let (alpha, _) = start();
    let request = format!("POST /?read=1 HTTP/1.1\r\nContent-Length: 9\r\n\r\n{}", "x".repeat(9));
    let (_, body) = ask(alpha, &request);
    assert_eq!(body, b"9\n");
    let chunked =
        "POST /?read=1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let (_, body) = ask(alpha, chunked);
    assert_eq!(body, b"5\n");
}

#[test]
fn a_websocket_gets_its_frames_back_and_a_clean_close() {
    let (alpha, _) = start();
    let mut stream = connect(alpha);
    let request = "GET /ws HTTP/1.1\r\nHost: t.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("sec-websocket-accept: s3pplm"));
    let payload: Vec<u8> = (0..70_000_u32).map(|n| (n % 251) as u8).collect();
    let mut frame = vec![0x82, 0x80 | 127];
    frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    frame.extend_from_slice(&[9, 8, 7, 6]);
    frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ [9, 8, 7, 6][at % 4]));
    // Then a ping with the payload `hi` and a close, all masked with zeros.
    frame.extend_from_slice(&[0x89, 0x82, 0, 0, 0, 0, b'h', b'i', 0x88, 0x80, 0, 0, 0, 0]);
    let mut writer = stream.try_clone().unwrap();
    let writing = thread::spawn(move || writer.write_all(&frame).unwrap());
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    writing.join().unwrap();
    let mut expected = vec![0x82, 127];
    expected.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    expected.extend_from_slice(&payload);
    expected.extend_from_slice(&[0x8A, 2, b'h', b'i', 0x88, 0]);
    assert!(answer == expected, "{} bytes came back", answer.len());
}

#[test]
fn an_unmasked_frame_and_a_wrong_handshake_are_refused() {
    let (alpha, _) = start();
    let (head, _) = ask(alpha, "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n");
    assert!(head.starts_with("http/1.1 426"), "{head}");
    let (head, body) = ask(alpha, "GET /ws HTTP/1.1\r\nUpgrade: h2c\r\n\r\n");
    assert!(head.starts_with("http/1.1 200") && body.starts_with(b"service=alpha"), "{head}");
}
