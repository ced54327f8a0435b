//! What only the raw bytes of an HTTP/1 request tell: framing twins that the parser resolves silently, and
//! fragments that it cuts off.
//!
//! A streaming scanner over what a client sends, fed by [`super::io::ClientIo`]. It never changes a byte and
//! decides nothing alone: it leaves [`HeadFlags`] for `RequestHead`.

use std::collections::VecDeque;

/// What the raw head of an HTTP/1 request holds that its parsed form no longer shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeadFlags {
    /// A `Content-Length` line.
    pub(crate) content_length: bool,
    /// A `Transfer-Encoding` line.
    pub(crate) transfer_encoding: bool,
    /// A length that cannot be read, or a stream whose framing was lost.
    pub(crate) unreadable: bool,
    /// A `#` in the request line (the URI parser cuts a fragment off).
    pub(crate) fragment: bool,
}

impl HeadFlags {
    const AMBIGUOUS: Self =
        Self { content_length: false, transfer_encoding: false, unreadable: true, fragment: false };

    /// Whether the head does not give one length.
    pub(crate) fn is_ambiguous(self) -> bool {
        self.unreadable || (self.content_length && self.transfer_encoding)
    }
}

/// Longest size line of a chunk, extension and all.
const MAX_CHUNK_LINE: usize = 1024 + 32;

/// Follows an HTTP/1 request stream, in however many pieces it comes, and keeps the flags of every head
/// until its request is handled: a client may send the next request along with this one.
///
/// It has to find the end of every body to know where the next head begins. Where it cannot follow, it
/// calls every further head ambiguous: better to refuse what hyper accepts than the other way round.
#[derive(Debug, Default)]
pub(crate) struct HeadScanner {
    /// Flags of heads that are complete, oldest first.
    complete: VecDeque<HeadFlags>,
    /// Flags of the head that is being read.
    flags: HeadFlags,
    place: Place,
    length: u64,
    line: Line,
}

/// Where in the stream the scanner stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Before or in the method.
    #[default]
    Method,
    /// Behind the method.
    Target,
    Fields,
    /// So many bytes of a body, or of a chunk and its line end, are left.
    Body(u64),
    Chunk(u64),
    ChunkSize,
    Trailers,
    /// Framing that hyper will refuse, too.
    Lost,
}

/// The beginning of the current line, as far as it matters, and the length of all of it.
#[derive(Debug)]
struct Line {
    start: [u8; 64],
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { start: [0; 64], length: 0 }
    }
}

impl Line {
    fn push(&mut self, piece: &[u8]) {
        if self.length < self.start.len() {
            let room = &mut self.start[self.length..];
            let taken = piece.len().min(room.len());
            room[..taken].copy_from_slice(&piece[..taken]);
        }
        self.length = self.length.saturating_add(piece.len());
    }

    fn text(&self) -> &[u8] {
        &self.start[..self.length.min(self.start.len())]
    }

    fn is_blank(&self) -> bool {
        matches!(self.text(), b"" | b"\r")
    }

    fn is_whole(&self) -> bool {
        self.length <= self.start.len()
    }
}

impl HeadScanner {
    /// The flags of the oldest request that was not taken yet.
    pub(crate) fn take(&mut self) -> HeadFlags {
        match self.complete.pop_front() {
            Some(flags) => flags,
            None if self.place == Place::Lost => HeadFlags::AMBIGUOUS,
            None => HeadFlags::default(),
        }
    }

    /// True while a head has begun and not ended.
    pub(crate) fn in_head(&self) -> bool {
        match self.place {
            Place::Method => self.line.length > 0,
            place => matches!(place, Place::Target | Place::Fields),
        }
    }

    /// True while heads are complete whose requests nobody has begun to handle.
    pub(crate) fn has_heads(&self) -> bool {
        !self.complete.is_empty()
    }

    /// True while every message that has begun is whole.
    pub(crate) fn is_between(&self) -> bool {
        self.place == Place::Method && self.line.length == 0
    }

    /// Looks at more bytes. A chunk's size line that is not fit to be read (P3: hyper skips an extension
    /// without looking) makes its request ambiguous; false if that one is being handled already.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if let Place::Body(left) | Place::Chunk(left) = self.place {
                let skipped = left.min(bytes.len() as u64);
                bytes = &bytes[usize::try_from(skipped).unwrap_or(bytes.len())..];
                self.place = match (self.place, left - skipped) {
                    (Place::Body(_), 0) => Place::Method,
                    (Place::Body(_), left) => Place::Body(left),
                    (_, 0) => Place::ChunkSize,
                    (_, left) => Place::Chunk(left),
                };
                continue;
            }
            if self.place == Place::Lost {
                return true;
            }
            let (piece, ended) = match memchr::memchr(b'\n', bytes) {
                Some(end) => (&bytes[..end], true),
                None => (bytes, false),
            };
            self.request_line(piece);
            self.line.push(piece);
            if self.place == Place::ChunkSize && !self.is_fit(piece) {
                self.place = Place::Lost;
                let waiting = self.complete.back_mut();
                return waiting.map(|flags| flags.unreadable = true).is_some();
            }
            bytes = &bytes[piece.len() + usize::from(ended)..];
            if ended {
                self.place = self.line_ended();
                self.line.length = 0;
            }
        }
        true
    }

    /// No control characters, and not more than anybody needs.
    fn is_fit(&self, piece: &[u8]) -> bool {
        self.line.length <= MAX_CHUNK_LINE
            && !piece.iter().any(|byte| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\r'))
    }

    /// A `#` counts behind the method only, which may hold one.
    fn request_line(&mut self, piece: &[u8]) {
        let target = match self.place {
            Place::Target => piece,
            Place::Method => {
                let Some(space) = memchr::memchr(b' ', piece) else { return };
                self.place = Place::Target;
                &piece[space..]
            }
            _ => return,
        };
        self.flags.fragment |= memchr::memchr(b'#', target).is_some();
    }

    fn line_ended(&mut self) -> Place {
        match self.place {
            // Blank lines before a request line are skipped by the parser, too.
            Place::Method if self.line.is_blank() => Place::Method,
            Place::Method | Place::Target => Place::Fields,
            Place::Fields if self.line.is_blank() => self.head_ended(),
            Place::Fields => {
                self.field();
                Place::Fields
            }
            Place::ChunkSize => self.chunk_size(),
            Place::Trailers if self.line.is_blank() => Place::Method,
            place => place,
        }
    }

    fn field(&mut self) {
        const LENGTH: &[u8] = b"content-length:";
        const CODING: &[u8] = b"transfer-encoding:";
        let line = self.line.text();
        if starts_with(line, LENGTH) {
            self.flags.content_length = true;
            let digits = std::str::from_utf8(line[LENGTH.len()..].trim_ascii()).ok();
            let digits = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            match digits.and_then(|digits| digits.parse().ok()).filter(|_| self.line.is_whole()) {
                Some(length) => self.length = length,
                None => self.flags.unreadable = true,
            }
        } else if starts_with(line, CODING) {
            self.flags.transfer_encoding = true;
        }
    }

    fn head_ended(&mut self) -> Place {
        let flags = std::mem::take(&mut self.flags);
        let length = std::mem::take(&mut self.length);
        self.complete.push_back(flags);
        if flags.is_ambiguous() {
            Place::Lost
        } else if flags.transfer_encoding {
            Place::ChunkSize
        } else if length > 0 {
            Place::Body(length)
        } else {
            Place::Method
        }
    }

    fn chunk_size(&self) -> Place {
        let line = self.line.text();
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let size = std::str::from_utf8(&line[..digits])
            .ok()
            .filter(|_| digits < line.len() || self.line.is_whole())
            .and_then(|digits| u64::from_str_radix(digits, 16).ok());
        match size {
            Some(0) => Place::Trailers,
            // The chunk and its CRLF.
            Some(size) => size.checked_add(2).map_or(Place::Lost, Place::Chunk),
            None => Place::Lost,
        }
    }
}

fn starts_with(line: &[u8], name: &[u8]) -> bool {
    line.len() >= name.len() && line[..name.len()].eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags_of(head: &str, piece: usize) -> HeadFlags {
        let mut scanner = HeadScanner::default();
        for part in head.as_bytes().chunks(piece) {
            scanner.feed(part);
        }
        scanner.take()
    }

    #[test]
    fn the_next_request_in_the_same_segment_is_seen_behind_any_body() {
        let twins = "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        for first in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n\n\n\n\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\n\r\n\r\n\n\r\n0\r\nT: 1\r\n\r\n",
        ] {
            let both = format!("{first}{twins}");
            for piece in 1..both.len() {
                let mut scanner = HeadScanner::default();
                for part in both.as_bytes().chunks(piece) {
                    scanner.feed(part);
                }
                assert!(!scanner.take().is_ambiguous(), "{first:?} by {piece}");
                assert!(scanner.take().is_ambiguous(), "{first:?} by {piece}");
                assert!(scanner.take().is_ambiguous(), "lost behind twins");
            }
        }
    }

    #[test]
    fn a_chunk_extension_is_short_and_clean() {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let long = format!("5;{}\r\n", "x".repeat(2_000));
        for (line, fit) in [("5;a=b\r\n", true), ("5;\0\r\n", false), (&*long, false)] {
            let mut scanner = HeadScanner::default();
            assert!(scanner.feed(head.as_bytes()));
            scanner.take();
            assert_eq!(line.as_bytes().chunks(7).all(|part| scanner.feed(part)), fit, "{line:?}");
        }
    }

    #[test]
    fn a_request_that_waits_is_refused_for_its_chunks_and_leaves_the_one_before_alone() {
        let mut scanner = HeadScanner::default();
        let stream =
            "GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;\0\r\n";
        assert!(scanner.feed(stream.as_bytes()));
        assert!(!scanner.take().is_ambiguous());
        assert!(scanner.take().is_ambiguous());
    }

    #[test]
    fn a_size_with_more_zeros_than_are_kept_is_not_taken_for_the_last_chunk() {
        let mut scanner = HeadScanner::default();
        let zeros = "0".repeat(70);
        let stream = format!(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{zeros}5\r\n\r\nA B\r\n\r\n"
        );
        assert!(scanner.feed(stream.as_bytes()));
        assert!(!scanner.take().is_ambiguous());
        assert!(scanner.take().is_ambiguous(), "lost, so refused");
    }

    #[test]
    fn an_unfinished_head_behind_a_request_is_known_as_such() {
        let mut scanner = HeadScanner::default();
        scanner.feed(b"GET / HTTP/1.1\r\n\r\n");
        assert!(!scanner.in_head());
        scanner.feed(b"GET / HTTP/1.1\r\nA:");
        assert!(scanner.in_head());
    }

    #[test]
    fn a_length_too_long_to_be_read_is_refused_rather_than_followed() {
        let head = format!("POST / HTTP/1.1\r\nContent-Length:{}5\r\n\r\n", " ".repeat(80));
        assert!(flags_of(&head, 9).is_ambiguous());
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
        for piece in 1..20 {
            assert!(flags_of("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", piece).fragment);
            assert!(!flags_of("G#T /ab HTTP/1.1\r\nHost: a\r\n\r\n", piece).fragment);
        }
    }
}
