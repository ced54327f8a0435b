//! How names of headers are spelled in messages of HTTP/1: names have no case (RFC 9110 §5.1), but there are programs
//! that look for one spelling.
//!
//! hyper writes names in lower case unless a message carries a map of spellings, whose type is hyper's own: it
//! makes such a map of what it parses, and of nothing else. Listed spellings are therefore parsed once, at the start.

use std::{
    cell::RefCell,
    convert::Infallible,
    pin::pin,
    task::{Context, Waker},
};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName, Request, Response, header};
use http_body_util::Empty;
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;

use crate::config::{HeaderCaseSettings, Spelling};

/// Fields of one name in one message that get the listed spelling; further ones are in lower case.
const MOST_FIELDS: usize = 32;

/// How names of headers are spelled.
pub(crate) enum HeaderCase {
    /// In lower case, as HTTP/2 has them.
    Lower,
    /// Those that are listed as they are listed.
    Listed(Listed),
    /// As they came in.
    Preserved,
}

/// Maps of spellings, as messages carry them.
pub(crate) struct Listed {
    /// For messages in which no name stands twice.
    single: Extensions,
    repeated: Extensions,
}

impl HeaderCase {
    pub(crate) fn new(settings: &HeaderCaseSettings) -> Self {
        match &*settings.header_case {
            _ if settings.preserve_header_case => Self::Preserved,
            [] => Self::Lower,
            names => Self::Listed(Listed::new(names)),
        }
    }

    /// Whether connections are to note how names are spelled.
    pub(crate) fn is_preserved(&self) -> bool {
        matches!(self, Self::Preserved)
    }

    /// Prepares a request for its backend: what came with it from the client goes, but for the spelling of names where
    /// that is preserved. Listed spellings hold for objects that ask for them.
    pub(crate) fn request(&self, headers: &HeaderMap, extensions: &mut Extensions, asked: bool) {
        if self.is_preserved() {
            // The client's upgrade is no business of the backend's connection.
            extensions.remove::<OnUpgrade>();
            return;
        }
        extensions.clear();
        if asked && let Self::Listed(listed) = self {
            extensions.extend(listed.of(headers));
        }
    }

    /// Prepares an answer for a client of HTTP/1. Listed spellings hold for all of them.
    pub(crate) fn answer<B>(&self, answer: &mut Response<B>) {
        if let Self::Listed(listed) = self {
            let map = listed.of(answer.headers());
            answer.extensions_mut().extend(map);
        }
    }
}

impl Listed {
    fn new(names: &[Spelling]) -> Self {
        Self { single: parsed(names, 1), repeated: parsed(names, MOST_FIELDS) }
    }

    fn of(&self, headers: &HeaderMap) -> Extensions {
        if headers.len() == headers.keys_len() { &self.single } else { &self.repeated }.clone()
    }
}

/// What hyper makes of a request with these names, each so many times.
fn parsed(names: &[Spelling], times: usize) -> Extensions {
    let mut head = String::from("GET / HTTP/1.1\r\n");
    // A length behind a coding is not kept, nor is its spelling.
    let (lengths, others): (Vec<_>, _) =
        names.iter().partition(|name| *name.name() == header::CONTENT_LENGTH);
    for name in lengths.iter().chain::<&Vec<_>>(&others) {
        for _ in 0..times {
            head.push_str(&format!("{}: {}\r\n", name.text(), harmless_value(name.name())));
        }
    }
    head.push_str("\r\n");
    let map = RefCell::<Extensions>::default();
    {
        let service = service_fn(|request: Request<Incoming>| {
            map.replace(request.into_parts().0.extensions);
            async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) }
        });
        let connection = http1::Builder::new()
            .header_read_timeout(None)
            .preserve_header_case(true)
            .keep_alive(false)
            .max_headers(names.len() * times + 1)
            .max_header_size(head.len() + 1024)
            .max_buf_size(head.len() + 64 * 1024)
            .serve_connection(
                TokioIo::new(tokio::io::join(head.as_bytes(), tokio::io::sink())),
                service,
            );
        // All is in memory: nothing is waited for.
        let _ = pin!(connection).poll(&mut Context::from_waker(Waker::noop()));
    }
    let mut map = map.into_inner();
    map.remove::<OnUpgrade>();
    map
}

fn harmless_value(name: &HeaderName) -> &'static str {
    match *name {
        header::CONTENT_LENGTH => "0",
        header::TRANSFER_ENCODING => "chunked",
        _ => "",
    }
}
