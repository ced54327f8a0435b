//! One page of a running node's admin server, by a blocking HTTP/1.0 request.
//!
//! Only `gatehouse status` uses it: one request to an address that the caller named, no TLS, no redirect.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, bail};

/// Longest wait for the connection, and for each part of the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most that is read of an answer: more is not a node's status.
const LONGEST: u64 = 256 << 20;

/// The process that answers is another Pod than the one that is asked for.
#[derive(Debug, thiserror::Error)]
#[error("{0} answers for another Pod")]
pub(super) struct AnotherPod(SocketAddr);

/// The body of a page.
///
/// # Errors
/// Nothing listens, another program does, or the node refuses; the message says which and what to do.
pub(super) fn page(admin: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE).map_err(|error| {
        let why = match error.kind() {
            ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
            ErrorKind::TimedOut => "nobody answers there".to_owned(),
            _ => error.to_string(),
        };
        anyhow::anyhow!(
            "cannot ask the node at {admin}: {why}; is `gatehouse run` running, and is this its --admin \
             address?"
        )
    })?;
    let answer = exchange(&mut stream, admin, path)
        .with_context(|| format!("cannot ask the node at {admin}"))?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("{admin} does not speak HTTP; is this the --admin address of a gatehouse node?");
    };
    let status = head.split(' ').nth(1).unwrap_or_default();
    match (head.starts_with("HTTP/1."), status) {
        (true, "200") => Ok(body.to_owned()),
        (true, "404") => {
            bail!("{admin} has no page {path}; is this the --admin address of a gatehouse node?")
        }
        (true, "421") => Err(AnotherPod(admin).into()),
        (true, _) => bail!("{admin} answers {status}: {}", body.trim_end()),
        (false, _) => {
            bail!("{admin} does not speak HTTP; is this the --admin address of a gatehouse node?")
        }
    }
}

fn exchange(stream: &mut TcpStream, admin: SocketAddr, path: &str) -> std::io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // One segment: another program there may judge by the first that it reads.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {admin}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// What is said when the listener on that address answers so.
    fn asked(answer: &'static [u8]) -> anyhow::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /status HTTP/1.0\r\nHost: 127.0.0.1:"));
            stream.write_all(answer).unwrap();
        });
        let page = page(address, "/status");
        server.join().unwrap();
        page
    }

    #[test]
    fn the_body_of_a_good_answer_is_the_page() {
        let answer = b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{}\n";
        assert_eq!(asked(answer).unwrap(), "{}\n");
    }

    #[test]
    fn an_answer_that_is_none_is_named_with_the_address() {
        for (answer, message) in [
            (&b"HTTP/1.1 404 Not Found\r\n\r\n"[..], "has no page /status"),
            (b"HTTP/1.1 503 Service Unavailable\r\n\r\nbusy\n", "answers 503: busy"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
            (b"220 mail\r\n\r\nHELO", "does not speak HTTP"),
            (b"", "does not speak HTTP"),
        ] {
            let error = format!("{:#}", asked(answer).unwrap_err());
            assert!(error.contains(message) && error.contains("127.0.0.1:"), "{error}");
        }
    }

    #[test]
    fn an_address_without_a_node_is_said_to_be_one() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = format!("{:#}", page(free, "/status").unwrap_err());
        assert!(error.contains(&format!("{free}: nothing listens there")), "{error}");
        assert!(error.contains("--admin"), "{error}");
    }
}
