use std::time::Duration;

use gatehouse_routes::model::{Scope, ScopeSlot};
use gatehouse_testbed::gatehouse::tls::hello_of_tls11;
use proptest::prelude::*;
use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;
use crate::tls::{certs::provider, config::TlsConfigs};

/// The first flight of a client that asks for `name`; its length grows with the protocols it offers.
fn hello(name: &str, protocols: usize) -> Vec<u8> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = (0..protocols).map(|n| format!("{n:0>200}").into_bytes()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// The same handshake message in records of at most `size` bytes (RFC 8446 §5.1 lets a client cut it so).
fn in_records_of(size: usize, flight: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    let mut rest = flight;
    while let [22, _, _, high, low, payload @ ..] = rest {
        let (record, next) = payload.split_at(usize::from(*high) << 8 | usize::from(*low));
        message.extend_from_slice(record);
        rest = next;
    }
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [[22, 3, 1, length[0], length[1]].as_slice(), part].concat()
    };
    message.chunks(size).flat_map(record).collect()
}

/// Writes `bytes` in pieces of `size` and reads the hello on the other side.
async fn read_in_pieces(bytes: Vec<u8>, size: usize) -> io::Result<StartHandshake<DuplexStream>> {
    let (mut client, server) = duplex(size);
    let writing = async {
        // Fails once the other side has what it wants, or wants no more.
        let _ = client.write_all(&bytes).await;
        client
    };
    tokio::join!(read(server), writing).0
}

fn policies() -> TlsPolicies {
    let mut configs = TlsConfigs::of_tests(Arc::default());
    configs.policies(ScopeSlot::PLAIN, &Scope::Plain)
}

/// The name that a connection is terminated under.
fn chosen(start: &StartHandshake<DuplexStream>) -> Option<Box<str>> {
    let policies = policies();
    let snapshot = Snapshot::empty();
    let chosen = choose(&policies, &snapshot, &start.client_hello());
    let Choice::Terminate { config, server_name, asks } = chosen.unwrap();
    let plain = policies.plain(snapshot.handshakes.base()).unwrap();
    assert!(Arc::ptr_eq(&config, &plain) && !asks);
    server_name
}

#[tokio::test]
async fn every_name_is_terminated_under_its_canonical_form() {
    for (asked, name) in [
        ("app.test", Some("app.test")),
        ("APP.Test", Some("app.test")),
        ("unknown.example", Some("unknown.example")),
        ("_acme.app.test", Some("_acme.app.test")),
        // A client sends no server name for an address.
        ("192.0.2.1", None),
        ("2001:db8::1", None),
    ] {
        let start = read_in_pieces(hello(asked, 1), 4096).await.unwrap();
        assert_eq!(chosen(&start).as_deref(), name, "{asked}");
    }
}

#[tokio::test]
async fn an_address_as_server_name_is_no_name() {
    let mut bytes = hello("nine.test", 1);
    let at = bytes.windows(9).position(|window| window == b"nine.test").unwrap();
    bytes[at..at + 9].copy_from_slice(b"192.0.2.1");
    let start = read_in_pieces(bytes, 4096).await.unwrap();
    assert_eq!(chosen(&start), None);
}

#[tokio::test]
async fn a_name_that_is_none_is_refused() {
    let mut bytes = hello("app.test", 1);
    let at = bytes.windows(8).position(|window| window == b"app.test").unwrap();
    bytes[at + 3] = b'/';
    assert!(read_in_pieces(bytes, 4096).await.is_err());
}

#[tokio::test]
async fn a_hello_may_come_byte_by_byte_and_in_many_records() {
    for (protocols, record, piece) in
        [(1, 1 << 14, 1), (1, 16, 4096), (1, 1, 7), (120, 1 << 14, 4096)]
    {
        let bytes = in_records_of(record, &hello("app.test", protocols));
        assert_eq!(bytes.len() > (1 << 14), protocols > 100, "one is longer than a record");
        let start = read_in_pieces(bytes, piece).await.unwrap();
        assert_eq!(chosen(&start).as_deref(), Some("app.test"), "{record} {piece}");
    }
}

#[tokio::test]
async fn what_is_no_hello_is_an_error_and_says_so_to_the_client() {
    let request = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n".as_slice();
    for bytes in [request, &[0; 64], &[22, 3, 1, 0x7f, 0xff, 1], &[22, 3, 1, 0, 4, 2, 0, 0, 0]] {
        let (mut client, server) = duplex(4096);
        client.write_all(bytes).await.unwrap();
        assert!(read(server).await.is_err());
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, 50], "decode_error for {}", bytes.escape_ascii());
    }
}

#[tokio::test]
async fn a_record_of_another_kind_is_an_error() {
    for bytes in [[23, 3, 3, 0, 2, 0, 0], [21, 3, 1, 0, 2, 2, 40]] {
        assert!(read_in_pieces(bytes.to_vec(), 4096).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn half_a_hello_is_waited_for_until_the_client_goes() {
    let bytes = hello("app.test", 1);
    let (mut client, server) = duplex(4096);
    client.write_all(&bytes[..bytes.len() / 2]).await.unwrap();
    let mut reading = Box::pin(read(server));
    assert!(tokio::time::timeout(Duration::from_secs(3600), &mut reading).await.is_err());
    drop(client);
    assert!(reading.await.is_err());
}

/// Two ends of a connection.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

#[tokio::test]
async fn a_hello_that_this_process_could_not_answer_goes_on_as_it_is() {
    for (bytes, name) in [
        (hello("App.test", 1), Some("app.test")),
        (hello("192.0.2.1", 1), None),
        (hello_of_tls11("APP.test"), Some("app.test")),
        (in_records_of(7, &hello_of_tls11("app.test")), Some("app.test")),
        (hello_of_tls11("a/b.test"), None),
    ] {
        let (mut client, server) = connection().await;
        client.write_all(&bytes).await.unwrap();
        let heard = hear(server).await.unwrap();
        assert_eq!((heard.name.as_deref(), &heard.bytes), (name, &bytes));
    }
}

#[tokio::test]
async fn a_client_whose_tls_cannot_end_here_is_told_so_where_it_was_to_end_here() {
    let (mut client, server) = connection().await;
    client.write_all(&hello_of_tls11("app.test")).await.unwrap();
    assert!(hear(server).await.unwrap().start().await.is_err());
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 40], "handshake_failure");

    let (mut client, server) = connection().await;
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(hear(server).await.is_err(), "no hello goes nowhere");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 50], "decode_error");
}

#[test]
fn the_name_of_a_hello_is_found_when_all_of_it_is_there_and_not_before() {
    for whole in [hello("app.test", 3), hello_of_tls11("app.test")] {
        for whole in [in_records_of(1 << 14, &whole), in_records_of(5, &whole)] {
            assert_eq!(server_name::of(&whole), Some(Some("app.test".into())));
            for end in 0..whole.len() {
                assert_eq!(server_name::of(&whole[..end]), None, "{end} of {}", whole.len());
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_comes_is_read_or_not(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        at in 0_usize..400,
        byte in any::<u8>(),
    ) {
        server_name::of(&bytes);
        let mut near = hello_of_tls11("app.test");
        let at = at % near.len();
        near[at] = byte;
        server_name::of(&near);
    }
}
