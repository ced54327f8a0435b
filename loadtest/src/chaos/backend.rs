//! One of the ten backends: `gatehouse-loadtest chaos-backend`, a process, so that it can be killed and stopped.
//!
//! Answers `GET /PATH` with [`body`], after a while, so that requests are under way when something happens to it.
//! How it fails is said on its standard input, a [`Mode`] a line. `/healthz` is always answered well: a fault
//! that shows only in requests is not seen by checks, as is common.

use std::{io::BufRead as _, net::SocketAddr, str::FromStr, thread, time::Duration};

use anyhow::bail;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime, select,
    sync::watch,
    task::LocalSet,
    time::sleep,
};

/// How long a good backend takes to answer.
const WORK: Duration = Duration::from_millis(20);

/// How long a slow one takes.
const SLOW: Duration = Duration::from_millis(300);

/// Path of the checks.
pub(super) const CHECK: &str = "/healthz";

/// Field of answers that says which backend it was, by its port.
pub(super) const NAME: &str = "x-backend";

/// Flags of `gatehouse-loadtest chaos-backend`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Address to listen on.
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
}

/// How a backend treats requests and connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Serve,
    Refuse,
    Slow,
    Reset,
    LieShort,
    LieLong,
}

impl Mode {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Serve, "serve"),
        (Self::Refuse, "refuse"),
        (Self::Slow, "slow"),
        (Self::Reset, "reset"),
        (Self::LieShort, "lie-short"),
        (Self::LieLong, "lie-long"),
    ];

    /// The line that asks for it.
    pub(super) fn line(self) -> &'static str {
        Self::ALL.iter().find(|(mode, _)| *mode == self).map_or("", |(_, line)| line)
    }
}

impl FromStr for Mode {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> anyhow::Result<Self> {
        match Self::ALL.iter().find(|(_, known)| *known == line) {
            Some((mode, _)) => Ok(*mode),
            None => bail!("`{line}` is no way to serve"),
        }
    }
}

/// The right answer to `path`: long enough to be cut, and no other's.
pub(super) fn body(path: &str) -> Vec<u8> {
    format!("{path}\n").into_bytes().repeat(64)
}

/// Serves until the process ends; it ends with its standard input.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let (say, mode) = watch::channel(Mode::Serve);
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match line.parse() {
                Ok(mode) => {
                    let _ = say.send(mode);
                }
                Err(error) => eprintln!("chaos-backend: {error}"),
            }
        }
        std::process::exit(0);
    });
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, listen(options.listen, mode))
}

async fn listen(address: SocketAddr, mut mode: watch::Receiver<Mode>) -> anyhow::Result<()> {
    loop {
        mode.wait_for(|mode| *mode != Mode::Refuse).await?;
        let listener = TcpListener::bind(address).await?;
        loop {
            select! {
                Ok((stream, _)) = listener.accept() => {
                    let mode = mode.clone();
                    // However it ends, it is the proxy that is tested.
                    tokio::task::spawn_local(async move { drop(serve(stream, mode).await) });
                }
                refuses = refuses(&mode) => { refuses?; break }
            }
        }
    }
}

async fn refuses(mode: &watch::Receiver<Mode>) -> anyhow::Result<()> {
    mode.clone().wait_for(|mode| *mode == Mode::Refuse).await?;
    Ok(())
}

async fn serve(mut stream: TcpStream, mode: watch::Receiver<Mode>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let port = stream.local_addr()?.port();
    let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        select! {
            read = stream.read(&mut buffer) => match read? {
                0 => return Ok(()),
                read => head.extend_from_slice(&buffer[..read]),
            },
            refuses = refuses(&mode), if head.is_empty() => return refuses,
        }
        let Some(end) = head.windows(4).position(|it| it == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&head[..end]).into_owned();
        head.drain(..end + 4);
        let path = text.split(' ').nth(1).unwrap_or_default();
        let now = if path == CHECK { Mode::Serve } else { *mode.borrow() };
        sleep(match now {
            _ if path == CHECK => Duration::ZERO,
            Mode::Slow => SLOW,
            _ => WORK,
        })
        .await;
        let body = body(path);
        let close = if now == Mode::Refuse { "Connection: close\r\n" } else { "" };
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\n{NAME}: {port}\r\nContent-Length: {}\r\n{close}\r\n",
            body.len()
        )
        .into_bytes();
        match now {
            Mode::Reset => {
                stream.set_zero_linger()?;
                return Ok(());
            }
            Mode::LieShort => answer.extend_from_slice(&body[..body.len() / 2]),
            Mode::LieLong => {
                answer.extend_from_slice(&[&body[..], b"HTTP/1.1 200 OK\r\n"].concat())
            }
            Mode::Serve | Mode::Refuse | Mode::Slow => answer.extend_from_slice(&body),
        }
        stream.write_all(&answer).await?;
        if matches!(now, Mode::LieShort | Mode::Refuse) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_is_understood_by_its_line() {
        for (mode, line) in Mode::ALL {
            assert_eq!((mode.line(), line.parse::<Mode>().unwrap()), (line, mode));
        }
        assert!("serv".parse::<Mode>().is_err());
    }
}
