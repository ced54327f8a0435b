//! A PROXY header off a socket, and not one byte more.

use std::io;

use gatehouse_proxy_protocol::{Header, MAX_LINE, Malformed, Step, step};
use tokio::{io::AsyncReadExt as _, net::TcpStream};

/// Reads the header that a connection begins with. What is behind it stays on the socket. The caller sets the
/// time that this may take.
///
/// # Errors
/// The connection ended, or what came is no header.
pub(crate) async fn read(stream: &mut TcpStream) -> io::Result<Header> {
    let mut got = Vec::with_capacity(MAX_LINE);
    loop {
        let more = match step(&got).map_err(invalid)? {
            Step::Done(header) => return Ok(header),
            Step::Read(more) => more,
            Step::ReadLine(more) => {
                let mut ahead = [0; MAX_LINE];
                let ahead = &mut ahead[..more];
                let seen = stream.peek(ahead).await?;
                if seen == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                memchr::memchr(b'\n', &ahead[..seen]).map_or(seen, |end| end + 1)
            }
        };
        let from = got.len();
        got.resize(from + more, 0);
        stream.read_exact(&mut got[from..]).await?;
    }
}

fn invalid(error: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
