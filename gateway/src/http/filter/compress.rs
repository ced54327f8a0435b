//! Compressed answers (RFC 9110 §8.4): which ones, and the bodies on their way.
//!
//! What is held back for the sake of a better result leaves as soon as the backend pauses, so that streams of events
//! are not late. A body takes a bounded memory: windows are 32 KiB (gzip) and 256 KiB (brotli, zstd).

use std::io::{self, Write as _};

use bytes::Bytes;
use gatehouse_routes::filter::compress::{Coding, Compress, Levels};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use self::gzip::Gzip;
use super::{FilterRequest, Kept};
use crate::http::body::{BodyTransform, ResponseBody};

mod gzip;

const BROTLI_WINDOW: u32 = 18;
const ZSTD_LEVEL: i32 = 3;
/// Two to this power bytes; browsers take 8 MiB at most.
const ZSTD_WINDOW: u32 = 18;
/// Bytes that brotli collects before it works.
const BROTLI_BUFFER: usize = 4096;

/// Keeps the coding that the client takes.
pub(super) fn on_request(compress: &Compress, request: &mut FilterRequest<'_>) {
    if *request.method != Method::HEAD {
        let accepts = request.headers.get_all(header::ACCEPT_ENCODING).iter();
        request.kept.coding = compress.coding(accepts);
    }
}

/// Compresses an answer that it is for. Whether or not this client takes a coding, caches are told that it matters.
pub(super) fn on_response(
    compress: &Compress,
    kept: &Kept,
    response: &mut Response<ResponseBody>,
) -> Option<Box<dyn BodyTransform>> {
    if !is_meant(compress, response.status(), response.headers()) {
        return None;
    }
    let headers = response.headers_mut();
    super::cors::add_vary(headers, "Accept-Encoding");
    let encoder = Encoder::new(kept.coding?, compress.levels).ok()?;
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(kept.coding?.name()));
    for gone in [header::CONTENT_LENGTH, header::ACCEPT_RANGES] {
        headers.remove(gone);
    }
    // They are about other bytes than those that the client gets.
    for gone in ["content-md5", "content-digest", "digest"] {
        headers.remove(gone);
    }
    weaken(headers);
    Some(Box::new(Compressor { encoder: Some(encoder), held: false }))
}

fn is_meant(compress: &Compress, status: StatusCode, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    let whole = !status.is_informational()
        && ![StatusCode::NO_CONTENT, StatusCode::PARTIAL_CONTENT, StatusCode::NOT_MODIFIED]
            .contains(&status);
    // RFC 9110 §7.7.
    let control = headers.get_all(header::CACHE_CONTROL).iter();
    let untouchable = control
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case("no-transform")));
    whole
        && !untouchable
        && !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.contains_key(header::CONTENT_RANGE)
        && length.is_none_or(|length| length >= compress.minimum)
        && text(header::CONTENT_TYPE).is_some_and(|media| compress.takes(media))
}

/// A strong validator is about the very bytes (RFC 9110 §8.8.1).
fn weaken(headers: &mut HeaderMap) {
    let Some(etag) = headers.get(header::ETAG).filter(|etag| !etag.as_bytes().starts_with(b"W/"))
    else {
        return;
    };
    let weak = [b"W/", etag.as_bytes()].concat();
    match HeaderValue::from_maybe_shared(Bytes::from(weak)) {
        Ok(weak) => headers.insert(header::ETAG, weak),
        Err(_) => headers.remove(header::ETAG),
    };
}

enum Encoder {
    Gzip(Gzip),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(Box<zstd::Encoder<'static, Vec<u8>>>),
}

impl Encoder {
    fn new(coding: Coding, levels: Levels) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(Gzip::new(levels.gzip)),
            Coding::Brotli => Self::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                BROTLI_BUFFER,
                u32::from(levels.brotli),
                BROTLI_WINDOW,
            ))),
            Coding::Zstd => {
                let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(ZSTD_WINDOW)?;
                Self::Zstd(Box::new(encoder))
            }
        })
    }

    fn write(&mut self, part: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write(part),
            Self::Brotli(encoder) => encoder.write_all(part),
            Self::Zstd(encoder) => encoder.write_all(part),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.flush(),
            Self::Brotli(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }

    /// What has come of it so far.
    fn take(&mut self) -> Bytes {
        match self {
            Self::Gzip(encoder) => encoder.take(),
            Self::Brotli(encoder) => std::mem::take(encoder.get_mut()),
            Self::Zstd(encoder) => std::mem::take(encoder.get_mut()),
        }
        .into()
    }

    fn finish(self) -> io::Result<Bytes> {
        Ok(match self {
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Brotli(encoder) => encoder.into_inner(),
            Self::Zstd(encoder) => encoder.finish()?,
        }
        .into())
    }
}

struct Compressor {
    /// `None` once the end has come.
    encoder: Option<Encoder>,
    /// Something has been taken in that has not left.
    held: bool,
}

impl BodyTransform for Compressor {
    fn part(&mut self, part: Bytes) -> io::Result<Bytes> {
        let Some(encoder) = &mut self.encoder else { return Ok(Bytes::new()) };
        encoder.write(&part)?;
        self.held = true;
        Ok(encoder.take())
    }

    fn pause(&mut self) -> io::Result<Bytes> {
        match &mut self.encoder {
            Some(encoder) if std::mem::take(&mut self.held) => {
                encoder.flush()?;
                Ok(encoder.take())
            }
            _ => Ok(Bytes::new()),
        }
    }

    fn end(&mut self) -> io::Result<Bytes> {
        self.encoder.take().map_or(Ok(Bytes::new()), Encoder::finish)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut out).unwrap(),
            Coding::Brotli => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out).unwrap(),
            Coding::Zstd => zstd::Decoder::new(bytes).unwrap().read_to_end(&mut out).unwrap(),
        };
        out
    }

    #[test]
    fn every_coding_gives_back_what_it_got_however_that_came() {
        let text: Vec<u8> =
            (0..200_000u64).map(|n| b"abcdefgh"[(n * n / 7 % 8) as usize]).collect();
        for coding in Coding::ALL {
            for size in [1, 7, 1000, 65_536, 200_000] {
                let text = &text[..text.len().min(size * 300)];
                let mut body = Compressor {
                    encoder: Encoder::new(coding, Levels::default()).ok(),
                    held: false,
                };
                let mut out = Vec::new();
                for (at, part) in text.chunks(size).enumerate() {
                    out.extend(body.part(Bytes::copy_from_slice(part)).unwrap());
                    if at % 3 == 0 {
                        out.extend(body.pause().unwrap());
                    }
                }
                out.extend(body.end().unwrap());
                assert_eq!(decoded(coding, &out), text, "{coding:?} {size}");
                assert_eq!(body.end().unwrap(), "");
            }
        }
    }

    #[test]
    fn what_came_before_a_pause_leaves_with_it_and_nothing_twice() {
        for coding in Coding::ALL {
            let mut body =
                Compressor { encoder: Encoder::new(coding, Levels::default()).ok(), held: false };
            let mut out = body.part(Bytes::from_static(b"data: 1\n\n")).unwrap().to_vec();
            out.extend(body.pause().unwrap());
            let end = body.pause().unwrap();
            assert_eq!(end, "", "{coding:?}");
            // A decoder that has no more than this can show the event.
            let mut seen = [0; 9];
            match coding {
                Coding::Gzip => flate2::read::GzDecoder::new(&*out).read_exact(&mut seen).unwrap(),
                Coding::Brotli => {
                    brotli::Decompressor::new(&*out, 4096).read_exact(&mut seen).unwrap();
                }
                Coding::Zstd => zstd::Decoder::new(&*out).unwrap().read_exact(&mut seen).unwrap(),
            }
            assert_eq!(&seen, b"data: 1\n\n", "{coding:?}");
        }
    }
}
