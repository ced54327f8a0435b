//! The recording backend: a raw TCP server that keeps what it was sent, has it judged by
//! [`strict`], and answers by script.
//!
//! One thread per connection; everything ends when the [`Backend`] is dropped.

#![allow(clippy::unwrap_used, reason = "a bed that cannot be made fails its test")]

use std::{
    collections::HashMap,
    io::{Read, Write},
    mem,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    gatehouse::{
        show,
        strict::{self, Field, Head},
    },
    wait,
};

/// A request that arrived whole and well-formed.
#[derive(Clone, Debug)]
pub struct Request {
    /// Number of the connection at this backend, from 0.
    pub connection: u64,
    /// Number of the request on its connection, from 0.
    pub nth: usize,
    /// First word of the request line.
    pub method: String,
    /// Second word of the request line.
    pub target: String,
    /// In the order received.
    pub fields: Vec<Field>,
    /// Without its framing.
    pub body: Vec<u8>,
    /// Fields behind the last chunk.
    pub trailers: Vec<Field>,
    /// Fields that should not have been relayed.
    pub leaks: Vec<String>,
    /// All its bytes.
    pub raw: Vec<u8>,
}

impl Request {
    /// Every value of the fields with this name.
    pub fn all(&self, name: &str) -> Vec<String> {
        strict::all(&self.fields, name)
    }

    /// The value, when the field is there exactly once.
    pub fn one(&self, name: &str) -> Option<String> {
        let mut values = self.all(name);
        if values.len() == 1 { values.pop() } else { None }
    }
}

/// One thing that a backend was sent.
#[derive(Clone, Debug)]
pub enum Record {
    /// A request that is whole and well-formed.
    Request(Box<Request>),
    /// Bytes that a strict reader refuses; the connection was closed on them.
    Violation {
        /// Why.
        what: String,
        /// The bytes.
        raw: Vec<u8>,
    },
    /// The connection ended inside a message.
    Incomplete {
        /// The bytes that came.
        raw: Vec<u8>,
    },
}

/// One step of an answer.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Does nothing for a while.
    Wait(Duration),
    /// Does nothing until the test has opened the gate.
    Until(Gate),
    /// Sends back whatever comes, until the peer closes: the far end of a tunnel.
    Echo,
    /// Stops reading and sending for good but holds the connection open.
    Hang,
    /// Closes the connection.
    Close,
    /// Closes with a TCP reset.
    Reset,
}

/// What answers wait for that a test lets go: what comes before an event is told from what comes after
/// it without a clock. A backend that is dropped waits for none.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    /// Lets all answers go that wait for it, and those that will.
    pub fn open(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Chooses the answer to a request.
pub type Responder = dyn Fn(&Request) -> Vec<Act> + Send + Sync;

/// A running backend.
pub struct Backend {
    /// What it calls itself.
    pub name: String,
    /// Where it listens.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    responder: Box<Responder>,
    records: Mutex<Vec<Record>>,
    /// Bytes of messages that are still arriving, by connection.
    partial: Mutex<HashMap<u64, Vec<u8>>>,
    open: Mutex<HashMap<u64, TcpStream>>,
    accepted: AtomicU64,
    /// Answers that are being played.
    playing: AtomicUsize,
    stopped: AtomicBool,
}

impl Backend {
    /// A backend that names itself and the target of the request in its answer.
    pub fn echo(name: &str) -> Self {
        let own = name.to_owned();
        Self::scripted(name, move |request| vec![Act::Send(echo_answer(&own, request))])
    }

    /// A backend on a free loopback port that answers as `responder` says.
    pub fn scripted(
        name: &str,
        responder: impl Fn(&Request) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
        Self::on(name, listener, responder)
    }

    /// As [`Backend::scripted`] on a listener of the caller's.
    pub fn on(
        name: &str,
        listener: TcpListener,
        responder: impl Fn(&Request) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let addr = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            responder: Box::new(responder),
            records: Mutex::default(),
            partial: Mutex::default(),
            open: Mutex::default(),
            accepted: AtomicU64::new(0),
            playing: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let acceptor = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &acceptor));
        Self { name: name.into(), addr, shared }
    }

    /// Takes the records so far, once no message is arriving any more.
    pub fn take(&self) -> Vec<Record> {
        wait::comes_true(|| self.shared.partial.lock().unwrap().is_empty());
        let mut records = mem::take(&mut *self.shared.records.lock().unwrap());
        let partial = self.shared.partial.lock().unwrap();
        records.extend(partial.values().map(|raw| Record::Incomplete { raw: raw.clone() }));
        records
    }

    /// The whole requests among the records so far, taken once no message is arriving any more.
    pub fn requests(&self) -> Vec<Request> {
        whole(self.take())
    }

    /// The whole requests among the records so far, taken while others may be arriving.
    pub fn arrived(&self) -> Vec<Request> {
        whole(mem::take(&mut *self.shared.records.lock().unwrap()))
    }

    /// Whether nothing is being answered: all that was to be sent or closed has been.
    pub fn is_done(&self) -> bool {
        self.shared.playing.load(Ordering::Relaxed) == 0
    }

    /// Connections accepted since the start.
    pub fn connections(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.shared.open.lock().unwrap().len()
    }

    /// Messages that are still arriving.
    pub fn arriving_messages(&self) -> usize {
        self.shared.partial.lock().unwrap().len()
    }

    /// Bytes of a message that is still arriving on any connection.
    pub fn arriving(&self) -> usize {
        self.shared.partial.lock().unwrap().values().map(Vec::len).sum()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.addr));
        for stream in self.shared.open.lock().unwrap().values() {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

fn whole(records: Vec<Record>) -> Vec<Request> {
    let records = records.into_iter();
    records.filter_map(|r| if let Record::Request(r) = r { Some(*r) } else { None }).collect()
}

/// A 200 that says which backend answered which request line.
pub fn echo_answer(name: &str, request: &Request) -> Vec<u8> {
    ok(&format!("{name} {} {}\n", request.method, request.target), request.method == "HEAD")
}

/// A plain 200 with this text; without its bytes when it answers HEAD.
pub fn ok(text: &str, to_head: bool) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
        text.len()
    )
    .into_bytes();
    if !to_head {
        answer.extend_from_slice(text.as_bytes());
    }
    answer
}

/// Records as text for a failure.
pub fn describe(records: &[Record]) -> String {
    if records.is_empty() {
        return "    nothing\n".into();
    }
    records
        .iter()
        .map(|record| match record {
            Record::Request(r) => {
                format!("    request {}/{}: {}\n", r.connection, r.nth, show(&r.raw))
            }
            Record::Violation { what, raw } => format!("    VIOLATION {what}: {}\n", show(raw)),
            Record::Incomplete { raw } => format!("    incomplete: {}\n", show(raw)),
        })
        .collect()
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopped.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let id = shared.accepted.fetch_add(1, Ordering::Relaxed);
        if let Ok(handle) = stream.try_clone() {
            shared.open.lock().unwrap().insert(id, handle);
        }
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            let left = serve(&stream, id, &shared);
            shared.partial.lock().unwrap().remove(&id);
            if !left.is_empty() {
                shared.records.lock().unwrap().push(Record::Incomplete { raw: left });
            }
            shared.open.lock().unwrap().remove(&id);
        });
    }
}

/// Serves one connection; returns the bytes that never became a message.
fn serve(mut stream: &TcpStream, id: u64, shared: &Shared) -> Vec<u8> {
    drop(stream.set_nodelay(true));
    let mut buf = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    let mut nth = 0;
    loop {
        match next_request(&buf, id, nth) {
            Ok(Some((request, used))) => {
                nth += 1;
                buf.drain(..used);
                shared.partial.lock().unwrap().remove(&id);
                let acts = (shared.responder)(&request);
                shared.playing.fetch_add(1, Ordering::Relaxed);
                shared.records.lock().unwrap().push(Record::Request(Box::new(request)));
                let goes_on = perform(stream, acts, shared);
                shared.playing.fetch_sub(1, Ordering::Relaxed);
                if !goes_on {
                    return buf;
                }
                continue;
            }
            Ok(None) => {}
            Err(what) => {
                shared.records.lock().unwrap().push(Record::Violation { what, raw: buf });
                let refusal =
                    b"HTTP/1.1 400 Judged\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                drop(stream.write_all(refusal));
                return Vec::new();
            }
        }
        if !buf.is_empty() {
            shared.partial.lock().unwrap().insert(id, buf.clone());
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return buf,
            Ok(n) => buf.extend_from_slice(&chunk[..n]),
        }
    }
}

fn next_request(
    buf: &[u8],
    connection: u64,
    nth: usize,
) -> Result<Option<(Request, usize)>, String> {
    let Some((head, at)) = strict::head(buf)? else { return Ok(None) };
    let framing = strict::request_framing(&head)?;
    let Some((body, used)) = strict::body(framing, &buf[at..])? else { return Ok(None) };
    let mut leaks = strict::leaks(&head);
    if body.extensions {
        leaks.push("chunk extension".into());
    }
    let Head { start, fields } = head;
    let mut words = start.split(' ').map(str::to_owned);
    let request = Request {
        connection,
        nth,
        method: words.next().unwrap_or_default(),
        target: words.next().unwrap_or_default(),
        fields,
        body: body.data,
        trailers: body.trailers,
        leaks,
        raw: buf[..at + used].to_vec(),
    };
    Ok(Some((request, at + used)))
}

/// Plays an answer; false when the connection is over.
fn perform(mut stream: &TcpStream, acts: Vec<Act>, shared: &Shared) -> bool {
    for act in acts {
        match act {
            Act::Send(bytes) => {
                if stream.write_all(&bytes).is_err() {
                    return false;
                }
            }
            Act::Wait(time) => thread::sleep(time),
            Act::Until(gate) => {
                while !gate.is_open() && !shared.stopped.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            Act::Echo => {
                let mut chunk = [0; 16 * 1024];
                while let Ok(n @ 1..) = stream.read(&mut chunk) {
                    if stream.write_all(&chunk[..n]).is_err() {
                        break;
                    }
                }
                return false;
            }
            Act::Hang => {
                while !shared.stopped.load(Ordering::Relaxed) && peer_is_there(stream) {
                    thread::sleep(Duration::from_millis(20));
                }
                return false;
            }
            Act::Close => {
                drop(stream.shutdown(Shutdown::Both));
                return false;
            }
            Act::Reset => {
                // With a linger of zero the close, once the last handle is dropped, is a reset.
                drop(socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)));
                return false;
            }
        }
    }
    true
}

fn peer_is_there(stream: &TcpStream) -> bool {
    drop(stream.set_read_timeout(Some(Duration::from_millis(1))));
    let mut byte = [0];
    !matches!(stream.peek(&mut byte), Ok(0))
}
