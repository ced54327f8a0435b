//! What only the raw bytes tell: framing twins that the HTTP/1 parser resolves silently, and HTTP/2
//! frames that cost us without asking for anything.
//!
//! Both are streaming scanners over what a client sends, fed by [`super::io::ClientIo`]. They never change
//! a byte and never decide alone: the head scanner leaves [`HeadFlags`] for `RequestHead`, the frame guard
//! says when a connection has used up its allowance.

/// What the raw head of an HTTP/1 request holds that its parsed form no longer shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeadFlags {
    /// A `Content-Length` line.
    pub(crate) content_length: bool,
    /// A `Transfer-Encoding` line.
    pub(crate) transfer_encoding: bool,
    /// A `#` in the request line (the URI parser cuts a fragment off).
    pub(crate) fragment: bool,
}

/// Scans the head of one HTTP/1 request, in however many pieces it comes.
#[derive(Debug, Default)]
pub(crate) struct HeadScanner {
    flags: HeadFlags,
    /// Start of the current line, as far as it is needed to know the field's name.
    line: [u8; 18],
    /// Bytes of the current line so far (saturating); `line` holds the first of them.
    length: usize,
    past_request_line: bool,
    done: bool,
}

impl HeadScanner {
    /// Forgets the previous request.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    /// What was found in the head so far.
    pub(crate) fn flags(&self) -> HeadFlags {
        self.flags
    }

    /// Looks at more bytes; what comes after the blank line is ignored.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while !self.done && !bytes.is_empty() {
            let (piece, ended) = match memchr::memchr(b'\n', bytes) {
                Some(end) => (&bytes[..end], true),
                None => (bytes, false),
            };
            self.piece(piece);
            if ended {
                self.line_ended();
            }
            bytes = &bytes[(piece.len() + usize::from(ended)).min(bytes.len())..];
        }
    }

    fn piece(&mut self, piece: &[u8]) {
        if !self.past_request_line && memchr::memchr(b'#', piece).is_some() {
            self.flags.fragment = true;
        }
        if self.length < self.line.len() {
            let room = &mut self.line[self.length..];
            let taken = piece.len().min(room.len());
            room[..taken].copy_from_slice(&piece[..taken]);
        }
        self.length = self.length.saturating_add(piece.len());
    }

    fn line_ended(&mut self) {
        let line = &self.line[..self.length.min(self.line.len())];
        if self.length == 0 || line == b"\r" {
            // Blank lines before a request line are skipped by the parser, too.
            self.done = self.past_request_line;
        } else if !self.past_request_line {
            self.past_request_line = true;
        } else if starts_with(line, b"content-length:") {
            self.flags.content_length = true;
        } else if starts_with(line, b"transfer-encoding:") {
            self.flags.transfer_encoding = true;
        }
        self.length = 0;
    }
}

fn starts_with(line: &[u8], name: &[u8]) -> bool {
    line.len() >= name.len() && line[..name.len()].eq_ignore_ascii_case(name)
}

/// Control frames that a connection may send at once.
const BURST: u64 = 1_000;
/// Control frames per second that it earns by being there (`BURST` in ten seconds).
const PER_SECOND: u64 = 100;
/// Control frames that a request earns: priorities, window updates and a reset may come with it.
const PER_REQUEST: u64 = 4;
/// Bytes of body, in either direction, that earn one control frame: a client that takes a large answer
/// opens its window again every few KiB, one that sends pings along with its data.
const BYTES_PER_FRAME: u64 = 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PREFACE: usize = 24;

/// Cuts a byte stream into HTTP/2 frames (RFC 9113 §4.1) without keeping their payload.
#[derive(Debug)]
struct Frames {
    /// Bytes of preface or payload still to skip.
    skip: usize,
    header: [u8; 9],
    have: usize,
}

impl Frames {
    fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(u8, u8, usize)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (9 - self.have).min(bytes.len());
            self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == 9 {
                let [a, b, c, kind, flags, ..] = self.header;
                self.have = 0;
                self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                each(kind, flags, self.skip);
            }
        }
    }

    fn at_boundary(&self) -> bool {
        self.skip == 0 && self.have == 0
    }
}

/// Token bucket over the frames of a client that carry no request (P21).
#[derive(Debug)]
pub(crate) struct FrameGuard {
    inbound: Frames,
    outbound: Frames,
    tokens: u64,
    refilled_at: u64,
    bytes: u64,
    header_block_open: bool,
    requests: u64,
}

impl FrameGuard {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            inbound: Frames { skip: PREFACE, header: [0; 9], have: 0 },
            outbound: Frames { skip: 0, header: [0; 9], have: 0 },
            tokens: BURST,
            refilled_at: now_ms,
            bytes: 0,
            header_block_open: false,
            requests: 0,
        }
    }

    /// Looks at bytes from the client; false once the allowance is used up.
    pub(crate) fn received(&mut self, bytes: &[u8], now_ms: u64) -> bool {
        let earned = now_ms.saturating_sub(self.refilled_at) * PER_SECOND / 1000;
        if earned > 0 {
            self.tokens = (self.tokens + earned).min(BURST);
            self.refilled_at = now_ms;
        }
        let mut spent = 0;
        let Self { inbound, tokens, bytes: moved, header_block_open, requests, .. } = self;
        inbound.feed(bytes, |kind, flags, length| match kind {
            DATA if length > 0 => earn_bytes(tokens, moved, length),
            DATA if flags & END_STREAM != 0 => (),
            HEADERS => {
                *requests += 1;
                *header_block_open = flags & END_HEADERS == 0;
                *tokens = (*tokens + PER_REQUEST).min(BURST);
            }
            kind => {
                if kind == CONTINUATION {
                    *header_block_open = flags & END_HEADERS == 0;
                }
                spent += 1;
            }
        });
        let within = spent <= self.tokens;
        self.tokens = self.tokens.saturating_sub(spent);
        within
    }

    /// Looks at bytes to the client.
    pub(crate) fn sent(&mut self, bytes: &[u8]) {
        let Self { outbound, tokens, bytes: moved, .. } = self;
        outbound.feed(bytes, |kind, _, length| {
            if kind == DATA {
                earn_bytes(tokens, moved, length);
            }
        });
    }

    /// True while a header block waits for its CONTINUATION.
    pub(crate) fn header_block_open(&self) -> bool {
        self.header_block_open
    }

    /// Requests begun so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    /// True if a frame of our own may be put on the wire now.
    pub(crate) fn may_interject(&self) -> bool {
        self.outbound.at_boundary()
    }
}

fn earn_bytes(tokens: &mut u64, moved: &mut u64, length: usize) {
    *moved += length as u64;
    *tokens = (*tokens + *moved / BYTES_PER_FRAME).min(BURST);
    *moved %= BYTES_PER_FRAME;
}

/// GOAWAY with ENHANCE_YOUR_CALM (RFC 9113 §6.8, §7), last stream 0.
pub(crate) const GOAWAY_CALM: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];

#[cfg(test)]
mod tests {
    use super::*;

    fn flags_of(head: &str, piece: usize) -> HeadFlags {
        let mut scanner = HeadScanner::default();
        for part in head.as_bytes().chunks(piece) {
            scanner.feed(part);
        }
        scanner.flags()
    }

    #[test]
    fn length_twins_are_seen_in_any_order_case_and_segmentation() {
        let heads = [
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-ENCODING:chunked\r\nHost: a\r\nCONTENT-length:5\r\n\r\n",
            "\r\nPOST / HTTP/1.1\nContent-Length: 5\nTransfer-Encoding: chunked\n\n",
        ];
        for head in heads {
            for piece in 1..head.len() {
                let flags = flags_of(head, piece);
                assert!(flags.content_length && flags.transfer_encoding, "{head:?} by {piece}");
            }
        }
    }

    #[test]
    fn what_follows_the_blank_line_is_not_looked_at() {
        let head = "POST / HTTP/1.1\r\nContent-Length: 40\r\n\r\nTransfer-Encoding: chunked\r\n";
        assert!(!flags_of(head, 7).transfer_encoding);
        let similar = "GET / HTTP/1.1\r\nX-Content-Length: 5\r\nContent-Lengthy: 5\r\nA: #\r\n\r\n";
        assert_eq!(flags_of(similar, 3), HeadFlags::default());
    }

    #[test]
    fn a_fragment_in_the_request_line_is_seen() {
        assert!(flags_of("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 4).fragment);
    }

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = (payload as u32).to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        bytes.resize(9 + payload, 0);
        bytes
    }

    fn guard() -> FrameGuard {
        let mut guard = FrameGuard::new(0);
        assert!(guard.received(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0));
        guard
    }

    #[test]
    fn every_kind_of_idle_frame_ends_the_connection_within_the_burst() {
        for (kind, payload) in [(6, 8), (4, 0), (2, 5), (8, 4), (99, 1), (0, 0)] {
            let mut guard = guard();
            let sent = (0..5_000).take_while(|_| guard.received(&frame(kind, 0, payload), 0)).count();
            assert_eq!(sent, BURST as usize, "frame type {kind}");
        }
    }

    #[test]
    fn a_download_earns_its_window_updates() {
        let mut guard = guard();
        for _ in 0..50_000 {
            guard.sent(&frame(DATA, 0, 4096));
            assert!(guard.received(&frame(8, 0, 4), 0));
            assert!(guard.received(&frame(8, 0, 4), 0));
        }
    }

    #[test]
    fn frames_are_found_whatever_the_segmentation() {
        let mut stream = Vec::new();
        for _ in 0..100 {
            stream.extend(frame(HEADERS, END_HEADERS, 33));
            stream.extend(frame(DATA, END_STREAM, 700));
        }
        for piece in [1, 2, 9, 10, 743, 5_000] {
            let mut guard = guard();
            for part in stream.chunks(piece) {
                assert!(guard.received(part, 0));
            }
            assert_eq!(guard.requests(), 100, "by {piece}");
        }
    }

    #[test]
    fn an_open_header_block_is_known_as_such() {
        let mut guard = guard();
        guard.received(&frame(HEADERS, 0, 3), 0);
        assert!(guard.header_block_open());
        guard.received(&frame(CONTINUATION, END_HEADERS, 3), 0);
        assert!(!guard.header_block_open());
    }
}
