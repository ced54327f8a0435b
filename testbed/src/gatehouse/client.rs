//! Raw clients: send exactly these bytes, then read what comes with a strict eye.

#![allow(clippy::unwrap_used, reason = "a bed that cannot be made fails its test")]

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::{
    gatehouse::{
        show,
        strict::{self, Field, Framing},
    },
    wait,
};

/// How long a client listens for more once it has all that it expects.
const QUIET: Duration = Duration::from_millis(40);

/// One step of what a client does.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Does nothing for a while.
    Pause(Duration),
    /// Shuts down the sending side.
    Finish,
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As its framing said.
    Complete,
    /// By the end of the connection, which the framing allowed.
    Close,
    /// Too early: the receiver can tell that bytes are missing.
    Cut,
}

/// An answer as received.
#[derive(Clone, Debug)]
pub struct Response {
    /// Of the status line.
    pub status: u16,
    /// In the order received.
    pub fields: Vec<Field>,
    /// As much as came.
    pub body: Vec<u8>,
    /// How the body ended.
    pub end: End,
}

impl Response {
    /// The value, when the field is there exactly once.
    pub fn one(&self, name: &str) -> Option<String> {
        let mut values = strict::all(&self.fields, name);
        if values.len() == 1 { values.pop() } else { None }
    }

    /// The body, lossily as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// All that happened on one client connection.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// All bytes.
    pub received: Vec<u8>,
    /// Final responses, in order.
    pub responses: Vec<Response>,
    /// Statuses of 1xx responses, in order.
    pub interim: Vec<u16>,
    /// The gateway ended the connection.
    pub closed: bool,
    /// It ended it with a TCP reset, which on other systems takes away answers not read yet.
    pub reset: bool,
    /// The gateway sent what a strict client refuses.
    pub violation: Option<String>,
}

impl Exchange {
    /// The status of the first final response; 0 without one.
    pub fn status(&self) -> u16 {
        self.responses.first().map_or(0, |r| r.status)
    }
}

/// What a client waits for.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    /// So many final responses.
    pub responses: usize,
    /// And then the end of the connection.
    pub close: bool,
    /// The longest that it waits for all of this.
    pub limit: Duration,
}

impl Want {
    /// This many responses, the connection may stay open.
    pub const fn responses(responses: usize) -> Self {
        Self { responses, close: false, limit: wait::LIMIT }
    }
}

/// A byte stream whose reads can be bounded in time.
pub trait Wire: Read + Write {
    /// The connection under it.
    fn socket(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

/// Opens a plain connection.
pub fn dial(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, wait::LIMIT)
        .unwrap_or_else(|e| panic!("connect {addr}: {e}"));
    stream.set_nodelay(true).unwrap();
    stream
}

/// Plays `steps` on a fresh connection while reading the answers.
pub fn exchange(addr: SocketAddr, steps: &[Step], want: Want) -> Exchange {
    let mut stream = dial(addr);
    let mut writer = stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            for step in steps {
                let done = match step {
                    // The gateway may rightly close while a refused request is still being sent.
                    Step::Send(bytes) => writer.write_all(bytes),
                    Step::Finish => writer.shutdown(Shutdown::Write),
                    Step::Pause(time) => {
                        thread::sleep(*time);
                        Ok(())
                    }
                };
                if done.is_err() {
                    return;
                }
            }
        });
        let sent = steps.iter().filter_map(|s| if let Step::Send(b) = s { Some(b) } else { None });
        let to_head = sent.flatten().take(5).eq(b"HEAD ");
        let seen = listen(&mut stream, want, to_head);
        // Also unblocks a writer that the gateway no longer reads from.
        drop(stream.shutdown(Shutdown::Both));
        seen
    })
}

/// Sends these bytes on a fresh connection and reads one answer.
pub fn send(addr: SocketAddr, bytes: &[u8]) -> Exchange {
    exchange(addr, &[Step::Send(bytes.to_vec())], Want::responses(1))
}

/// A plain GET of `path` at `host` on a fresh connection.
pub fn get(addr: SocketAddr, host: &str, path: &str) -> Exchange {
    send(addr, format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
}

/// A client that keeps its connection, for loads of honest requests.
pub struct KeepAlive {
    addr: SocketAddr,
    stream: Option<TcpStream>,
}

impl KeepAlive {
    /// Connects at the first request.
    pub const fn to(addr: SocketAddr) -> Self {
        Self { addr, stream: None }
    }

    /// One GET; connects again only after a response that announced the end of the connection.
    pub fn get(&mut self, host: &str, path: &str) -> std::io::Result<Response> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect_timeout(&self.addr, wait::LIMIT)?;
                stream.set_nodelay(true)?;
                self.stream.insert(stream)
            }
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut seen = Exchange::default();
        let mut at = 0;
        while seen.responses.is_empty() {
            if read_some(stream, wait::LIMIT, &mut seen.received)? == 0 {
                let got = show(&seen.received);
                return Err(std::io::Error::other(format!("closed after {got:?}")));
            }
            advance(&mut seen, &mut at, false).map_err(std::io::Error::other)?;
        }
        let response = seen.responses.swap_remove(0);
        if response.one("connection").is_some_and(|v| v.eq_ignore_ascii_case("close")) {
            self.stream = None;
        }
        Ok(response)
    }
}

/// Reads responses as `want` says.
pub fn listen(stream: &mut impl Wire, want: Want, to_head: bool) -> Exchange {
    let deadline = Instant::now() + want.limit;
    let mut seen = Exchange::default();
    let mut at = 0;
    loop {
        let enough = seen.responses.len() >= want.responses;
        let limit = if enough && !want.close {
            QUIET
        } else {
            match deadline.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => left,
                _ => break,
            }
        };
        match read_some(stream, limit, &mut seen.received) {
            Ok(0) => {
                seen.closed = true;
                break;
            }
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if enough {
                    break;
                }
            }
            Err(e) => {
                seen.closed = true;
                seen.reset = e.kind() == ErrorKind::ConnectionReset;
                break;
            }
        }
        if let Err(what) = advance(&mut seen, &mut at, to_head) {
            seen.violation = Some(what);
            break;
        }
    }
    finish(&mut seen, at, to_head);
    seen
}

/// Reads once into `buf`, waiting at most `limit`.
pub fn read_some(
    stream: &mut impl Wire,
    limit: Duration,
    buf: &mut Vec<u8>,
) -> std::io::Result<usize> {
    stream.socket().set_read_timeout(Some(limit.max(Duration::from_millis(1))))?;
    let mut chunk = [0; 32 * 1024];
    let n = stream.read(&mut chunk)?;
    buf.extend_from_slice(&chunk[..n]);
    Ok(n)
}

/// Parses every response that is whole; 1xx are kept apart.
fn advance(seen: &mut Exchange, at: &mut usize, to_head: bool) -> Result<(), String> {
    while *at < seen.received.len() {
        let Some((head, used)) = strict::head(&seen.received[*at..])? else { return Ok(()) };
        let (status, framing) = strict::response_framing(&head, to_head)?;
        if status < 200 && status != 101 {
            seen.interim.push(status);
            *at += used;
            continue;
        }
        let rest = &seen.received[*at + used..];
        if status == 101 {
            let body = rest.to_vec();
            seen.responses.push(Response { status, fields: head.fields, body, end: End::Close });
            *at = seen.received.len();
            return Ok(());
        }
        let Some((body, length)) = strict::body(framing, rest)? else { return Ok(()) };
        let body = body.data;
        seen.responses.push(Response { status, fields: head.fields, body, end: End::Complete });
        *at += used + length;
    }
    Ok(())
}

/// Judges what was left over when the connection or the time ended.
fn finish(seen: &mut Exchange, at: usize, to_head: bool) {
    let rest = &seen.received[at..];
    if rest.is_empty() || seen.violation.is_some() {
        return;
    }
    let Ok(Some((head, used))) = strict::head(rest) else {
        seen.violation = Some("bytes that are no response".into());
        return;
    };
    match strict::response_framing(&head, to_head) {
        Ok((status, framing)) => {
            let end =
                if framing == Framing::UntilClose && seen.closed { End::Close } else { End::Cut };
            let body = rest[used..].to_vec();
            seen.responses.push(Response { status, fields: head.fields, body, end });
        }
        Err(what) => seen.violation = Some(what),
    }
}
