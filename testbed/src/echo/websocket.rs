//! WebSocket echo (RFC 6455): every data frame goes back as it came.
//!
//! Called by [`super::answer`] for requests that ask for an upgrade. Payloads are streamed, not
//! collected, so a frame of any length costs one buffer. Extensions and subprotocols are not offered.

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE},
};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// RFC 6455 section 1.3: hashed after the client's key.
const HANDSHAKE_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Opcodes of RFC 6455 section 5.2 that this end treats specially.
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// A `Close` frame with code 1002, protocol error (RFC 6455 section 7.4.1).
const CLOSE_PROTOCOL_ERROR: [u8; 4] = [0x80 | CLOSE, 2, 0x03, 0xEA];

/// The answer to an upgrade request: `101`, a `400`/`426` for a handshake that is wrong, or none when
/// the request asks for another protocol and is to be served as plain HTTP.
pub(super) fn upgrade(request: &Request<Incoming>) -> Option<Response<Bytes>> {
    let headers = request.headers();
    if !lists(headers, UPGRADE.as_str(), "websocket") {
        return None;
    }
    let mut response = Response::new(Bytes::new());
    let version_13 = headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    let accept = headers.get(SEC_WEBSOCKET_KEY).and_then(accept_value);
    *response.status_mut() = match accept {
        _ if !version_13 => {
            let version = HeaderValue::from_static("13");
            response.headers_mut().insert(SEC_WEBSOCKET_VERSION, version);
            StatusCode::UPGRADE_REQUIRED
        }
        Some(accept)
            if request.method() == Method::GET
                && lists(headers, CONNECTION.as_str(), "upgrade") =>
        {
            let headers = response.headers_mut();
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
            StatusCode::SWITCHING_PROTOCOLS
        }
        _ => StatusCode::BAD_REQUEST,
    };
    Some(response)
}

/// Echoes frames once the `101` is out. Only for a request that [`upgrade`] answers with `101`.
pub(super) fn spawn_echo(request: Request<Incoming>) {
    tokio::task::spawn_local(async move {
        if let Ok(stream) = hyper::upgrade::on(request).await {
            // A peer that goes away ends the task; there is nobody to tell.
            let _ = echo(TokioIo::new(stream)).await;
        }
    });
}

/// One frame's head.
#[derive(Debug, PartialEq, Eq)]
struct FrameHead {
    /// FIN and reserved bits as they came, and the opcode.
    first: u8,
    length: u64,
    mask: [u8; 4],
}

impl FrameHead {
    fn opcode(&self) -> u8 {
        self.first & 0x0F
    }
}

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Some(head) = read_head(&mut stream).await? else {
            stream.write_all(&CLOSE_PROTOCOL_ERROR).await?;
            return stream.shutdown().await;
        };
        let answer = match head.opcode() {
            PING => Some(0x80 | PONG),
            PONG => None,
            _ => Some(head.first),
        };
        if let Some(first) = answer {
            write_head(&mut stream, first, head.length).await?;
        }
        let mut done = 0;
        while done < head.length {
            let want = (head.length - done).min(buffer.len() as u64);
            let chunk = &mut buffer[..usize::try_from(want).unwrap_or(1)];
            let count = stream.read(chunk).await?;
            if count == 0 {
                return Ok(());
            }
            let chunk = &mut chunk[..count];
            unmask(chunk, head.mask, done);
            if answer.is_some() {
                stream.write_all(chunk).await?;
            }
            done += count as u64;
        }
        stream.flush().await?;
        if head.opcode() == CLOSE {
            return stream.shutdown().await;
        }
    }
}

/// None for a frame that a server must refuse: unmasked, reserved bits set, or a long control frame.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<FrameHead>> {
    let first = stream.read_u8().await?;
    let second = stream.read_u8().await?;
    let length = match second & 0x7F {
        126 => u64::from(stream.read_u16().await?),
        127 => stream.read_u64().await?,
        short => u64::from(short),
    };
    let control = first & 0x08 != 0;
    if second & 0x80 == 0 || first & 0x70 != 0 || (control && length > 125) {
        return Ok(None);
    }
    let mut mask = [0; 4];
    stream.read_exact(&mut mask).await?;
    Ok(Some(FrameHead { first, length, mask }))
}

/// Writes the head of an unmasked frame, as a server must (RFC 6455 section 5.1).
async fn write_head(
    stream: &mut (impl AsyncWrite + Unpin),
    first: u8,
    length: u64,
) -> std::io::Result<()> {
    let mut head = Vec::with_capacity(10);
    head.push(first);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => head.push(short),
        (_, Ok(medium)) => {
            head.push(126);
            head.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            head.push(127);
            head.extend_from_slice(&length.to_be_bytes());
        }
    }
    stream.write_all(&head).await
}

fn unmask(chunk: &mut [u8], mask: [u8; 4], offset: u64) {
    for (byte, at) in chunk.iter_mut().zip(offset..) {
        *byte ^= mask[usize::from((at % 4) as u8)];
    }
}

fn accept_value(key: &HeaderValue) -> Option<HeaderValue> {
    let mut text = key.as_bytes().to_vec();
    text.extend_from_slice(HANDSHAKE_GUID.as_bytes());
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &text);
    HeaderValue::from_str(&STANDARD.encode(hash)).ok()
}

/// Whether a comma-separated header holds `token`.
fn lists(headers: &HeaderMap, name: &str, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_value_is_the_one_of_rfc_6455_section_1_3() {
        let accept = accept_value(&HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        assert_eq!(accept.unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn unmasking_continues_where_the_chunk_before_ended() {
        let (mask, plain) = ([1, 2, 3, 4], *b"gatehouse");
        let mut whole = plain;
        unmask(&mut whole, mask, 0);
        let mut parts = plain;
        unmask(&mut parts[..3], mask, 0);
        unmask(&mut parts[3..], mask, 3);
        assert_eq!(whole, parts);
        unmask(&mut whole, mask, 0);
        assert_eq!(whole, plain);
    }
}
