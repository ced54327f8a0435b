//! The admin server: health, readiness, metrics, and what is live.
//!
//! Runs on the control runtime, away from traffic. It knows nothing of the rest of the process but four
//! functions ([`Admin`]). Everybody who reaches the address may read everything, so by default it is on
//! loopback; nothing can be changed here, and no key or Secret is shown.

use std::{
    collections::VecDeque, convert::Infallible, fmt, future::Future, io, pin::Pin, sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    rt::{Read, ReadBufCursor, Sleep, Timer, Write},
    server::conn::http1,
    service::service_fn,
};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

/// A client has this long for the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection ends after this time, whatever happens on it.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections at one time; a further one ends the oldest, so that clients that stay keep no probe waiting.
const CONNECTIONS: usize = 64;
/// Pause after a failed accept, so that a lack of descriptors does not spin a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the server shows.
#[derive(Clone)]
pub struct Admin {
    /// What the process waits for before it can serve; empty: ready.
    pub waiting: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// What the process has to say about itself, ready or not.
    pub notes: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Metrics in Prometheus' text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// What is live.
    pub snapshot: Arc<dyn Fn() -> Value + Send + Sync>,
    /// What this node does, as JSON.
    pub status: Arc<dyn Fn() -> String + Send + Sync>,
    /// Unique id of the Pod that this process is.
    pub pod_uid: Option<Arc<str>>,
}

/// Which pages a listener has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// All of them.
    All,
    /// Metrics and health.
    Metrics,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

/// Serves until the future is dropped. Must be called within a runtime; fails only if the listener
/// cannot be registered there.
pub async fn serve(listener: std::net::TcpListener, admin: Admin, pages: Pages) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut open: VecDeque<JoinHandle<()>> = VecDeque::with_capacity(CONNECTIONS);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                open.retain(|connection| !connection.is_finished());
                if open.len() == CONNECTIONS
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                let connection = connection(stream, admin.clone(), pages);
                open.push_back(tokio::spawn(async move {
                    // However it ended, the next connection is as good as this one.
                    let _ = timeout(CONNECTION_TIMEOUT, connection).await;
                }));
            }
            Err(error) => {
                tracing::warn!(%error, "the admin server cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, admin: Admin, pages: Pages) -> Result<(), hyper::Error> {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(&admin, pages, request.method(), request.uri());
        async move { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new()
        .timer(TokioTimer)
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(16 * 1024)
        .serve_connection(Io(stream), service)
        .await
}

fn respond(admin: &Admin, pages: Pages, method: &Method, uri: &Uri) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    if !matches!(*method, Method::GET | Method::HEAD) {
        return answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
    }
    let path = uri.path();
    if pages == Pages::Metrics && !matches!(path, "/metrics" | "/healthz") {
        return answer(StatusCode::NOT_FOUND, TEXT, "/healthz /metrics\n");
    }
    if matches!(path, "/healthz" | "/readyz") && !is_meant(admin, uri.query()) {
        let why = "another Pod is asked for\n";
        return answer(StatusCode::MISDIRECTED_REQUEST, TEXT, why);
    }
    match path {
        "/healthz" => answer(StatusCode::OK, TEXT, "ok\n"),
        "/readyz" => {
            let waiting = (admin.waiting)();
            let notes: String = (admin.notes)().iter().map(|note| format!("{note}\n")).collect();
            if waiting.is_empty() {
                return answer(StatusCode::OK, TEXT, format!("ready\n{notes}"));
            }
            let lines: String =
                waiting.iter().map(|what| format!("waiting for {what}\n")).collect();
            answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, lines + &notes)
        }
        "/metrics" => {
            answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", (admin.metrics)())
        }
        "/snapshot" => {
            let text = format!("{:#}\n", (admin.snapshot)());
            answer(StatusCode::OK, "application/json", text)
        }
        "/status" => answer(StatusCode::OK, "application/json", (admin.status)()),
        _ => answer(StatusCode::NOT_FOUND, TEXT, "/healthz /readyz /metrics /snapshot /status\n"),
    }
}

/// Whether a question about health is about this process: on the host's network another Pod's process may
/// have the address.
fn is_meant(admin: &Admin, query: Option<&str>) -> bool {
    let asked = query.and_then(|query| query.strip_prefix("pod="));
    asked.is_none_or(|asked| admin.pod_uid.as_deref() == Some(asked))
}

fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}

/// A tokio stream as hyper wants it; copies once through a small buffer, so that no unsafe code is
/// needed for a server that nobody hurries.
struct Io(TcpStream);

impl Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        let mut bytes = [0; 4096];
        let room = bytes.len().min(cursor.remaining());
        let mut buffer = tokio::io::ReadBuf::new(&mut bytes[..room]);
        std::task::ready!(Pin::new(&mut self.0).poll_read(context, &mut buffer))?;
        cursor.put_slice(buffer.filled());
        std::task::Poll::Ready(Ok(()))
    }
}

impl Write for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[derive(Clone, Copy, Debug)]
struct TokioTimer;

impl Timer for TokioTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(TokioSleep(Box::pin(sleep(duration))))
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(TokioSleep(Box::pin(tokio::time::sleep_until(Instant::from_std(deadline)))))
    }
}

struct TokioSleep(Pin<Box<tokio::time::Sleep>>);

impl Future for TokioSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        self.0.as_mut().poll(context)
    }
}

impl Sleep for TokioSleep {}

#[cfg(test)]
mod tests {
    use std::{
        net::SocketAddr,
        sync::atomic::{AtomicBool, Ordering},
    };

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct Server {
        address: SocketAddr,
        ready: Arc<AtomicBool>,
    }

    fn start(pages: Pages) -> Server {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ready = Arc::new(AtomicBool::new(false));
        let shown = Arc::clone(&ready);
        let admin = Admin {
            waiting: Arc::new(move || match shown.load(Ordering::Relaxed) {
                true => Vec::new(),
                false => vec!["the first snapshot".to_owned(), "listener 127.0.0.1:80".to_owned()],
            }),
            notes: Arc::new(|| vec!["stale".to_owned()]),
            metrics: Arc::new(|| "up 1\n".to_owned()),
            snapshot: Arc::new(|| serde_json::json!({ "generation": 7 })),
            status: Arc::new(|| "{}\n".to_owned()),
            pod_uid: Some("1-2".into()),
        };
        tokio::spawn(serve(listener, admin, pages));
        Server { address, ready }
    }

    async fn exchange(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get(address: SocketAddr, path: &str) -> (u16, String) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let answer = exchange(address, &request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    #[tokio::test]
    async fn readiness_names_everything_it_waits_for() {
        let server = start(Pages::All);
        assert_eq!(get(server.address, "/healthz").await, (200, "ok\n".to_owned()));
        let (status, body) = get(server.address, "/readyz").await;
        assert_eq!(status, 503);
        assert_eq!(
            body,
            "waiting for the first snapshot\nwaiting for listener 127.0.0.1:80\nstale\n"
        );
        server.ready.store(true, Ordering::Relaxed);
        assert_eq!(get(server.address, "/readyz").await, (200, "ready\nstale\n".to_owned()));
    }

    #[tokio::test]
    async fn metrics_and_the_snapshot_are_shown() {
        let server = start(Pages::All);
        assert_eq!(get(server.address, "/metrics").await, (200, "up 1\n".to_owned()));
        let (status, body) = get(server.address, "/snapshot").await;
        assert_eq!(status, 200);
        let shown: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(shown["generation"], 7);
        assert_eq!(get(server.address, "/status").await, (200, "{}\n".to_owned()));
        assert_eq!(get(server.address, "/other").await.0, 404);
        let post = "POST /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        assert!(exchange(server.address, post).await.starts_with("HTTP/1.1 405"));
    }

    #[tokio::test]
    async fn a_probe_of_another_pod_is_told_so() {
        let server = start(Pages::All);
        server.ready.store(true, Ordering::Relaxed);
        for page in ["/healthz", "/readyz"] {
            assert_eq!(get(server.address, &format!("{page}?pod=1-2")).await.0, 200);
            let (status, body) = get(server.address, &format!("{page}?pod=1-3")).await;
            assert_eq!((status, body.as_str()), (421, "another Pod is asked for\n"));
        }
    }

    #[tokio::test]
    async fn a_listener_for_metrics_shows_nothing_else() {
        let server = start(Pages::Metrics);
        assert_eq!(get(server.address, "/metrics").await, (200, "up 1\n".to_owned()));
        assert_eq!(get(server.address, "/healthz").await.0, 200);
        for page in ["/readyz", "/status", "/snapshot", "/"] {
            assert_eq!(get(server.address, page).await.0, 404, "{page}");
        }
    }

    #[tokio::test]
    async fn clients_that_stay_keep_no_probe_waiting() {
        let server = start(Pages::All);
        let mut staying = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            let mut first = [0; 12];
            stream.read_exact(&mut first).await.unwrap();
            assert_eq!(&first, b"HTTP/1.1 200");
            staying.push(stream);
        }
        for _ in 0..3 {
            assert_eq!(get(server.address, "/healthz").await.0, 200);
        }
        let mut rest = Vec::new();
        staying[0].read_to_end(&mut rest).await.expect("the oldest was ended for it");
        staying.last_mut().unwrap().write_all(b"GET /").await.expect("and no other one");
    }

    #[tokio::test]
    async fn a_client_that_sends_no_request_is_cut_off_and_disturbs_nobody() {
        let server = start(Pages::All);
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS - 1 {
            idle.push(TcpStream::connect(server.address).await.unwrap());
        }
        idle[0].write_all(b"GET /healthz HT").await.unwrap();
        assert_eq!(get(server.address, "/healthz").await.0, 200);
        let mut rest = Vec::new();
        let ended = timeout(HEADER_TIMEOUT * 3, idle[0].read_to_end(&mut rest)).await;
        ended.expect("cut off in time").unwrap();
    }
}
