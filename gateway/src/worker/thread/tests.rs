//! A worker told to leave one of its two addresses, with real sockets on both.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    time::{Duration, Instant},
};

use gatehouse_routes::model::{Scope, ScopeSlot};
use http::{Request, Version};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio_rustls::TlsConnector;

use super::*;
use crate::{
    admin::metrics::Metrics,
    app,
    compile::{ListenerPlan, Protocol},
    http::error::ProxyErrorKind,
    listeners::Listeners,
    overload::Overload,
    passwords::Passwords,
    plan,
    shares::Shares,
    snapshot::{Live, Snapshot},
    spool::Spool,
    tls::{certs::provider, config::TlsConfigs},
};

/// A wait for what has to come; only a failing test waits so long.
const DEADLINE: Duration = Duration::from_secs(20);

/// One worker that serves `app.test` on two addresses, each with HTTP and HTTPS.
struct Bed {
    worker: Option<WorkerHandle>,
    moves: [SocketAddr; 2],
    stays: [SocketAddr; 2],
    /// Lets the backend finish one answer that it has begun.
    finish: mpsc::Sender<()>,
    /// Hears of every answer that was begun.
    begun: mpsc::Receiver<()>,
}

impl Bed {
    fn new() -> Self {
        let (backend, finish, begun) = backend();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("app.yaml"), manifest(backend)).unwrap();
        let words = ["gatehouse", "run", "--threads", "1", "--manifests"];
        let words = words.into_iter().chain(folder.path().to_str());
        let crate::cli::Command::Run(settings) = crate::cli::try_parse(words).unwrap() else {
            panic!()
        };
        let node = app::node_context(&settings, Default::default());
        let planned = plan::planned(&settings.manifests, node).unwrap();
        let live = Arc::new(Live::default());
        live.publish(Arc::new(Snapshot::new(1, Arc::new(planned.compiled))));
        let metrics = Metrics::new(1, ProxyErrorKind::LABELS, 100);
        let options = WorkerOptions::new(
            &settings,
            Arc::clone(&live),
            metrics.series(),
            (
                Passwords::new().unwrap(),
                Spool::new(folder.path().join("bodies"), 0, 0),
                Shares::new([7; 16]),
            ),
            Overload::new(|| ()),
            1,
            [7; 32],
        );
        let workers =
            [WorkerHandle::start(0, options, Known::start().unwrap(), metrics.worker(0), None)
                .unwrap()];
        let addresses = ["127.0.0.1", "127.0.0.2"].map(|ip| [free(ip), free(ip)]);
        let listeners: Vec<_> = addresses
            .iter()
            .flat_map(|[http, https]| [(*http, Protocol::Http), (*https, Protocol::Https)])
            .map(|(address, protocol)| ListenerPlan {
                address,
                scope: Scope::Plain,
                slot: ScopeSlot::PLAIN,
                protocol,
                vip: false,
            })
            .collect();
        let mut open = Listeners::new(TlsConfigs::of_tests(live), Default::default(), false);
        open.open(&listeners, &workers, Instant::now());
        assert!(open.failed().is_empty(), "{:?}", open.failed());
        let [moves, stays] = addresses;
        Self { worker: workers.into_iter().next(), moves, stays, finish, begun }
    }

    fn worker(&self) -> &WorkerHandle {
        self.worker.as_ref().unwrap()
    }

    /// Tells the worker something of the address that moves, and waits until it has heard.
    fn tell(&self, command: fn(Arc<[IpAddr]>) -> Command, heard: impl Fn(Option<usize>) -> bool) {
        self.worker().send(command(Arc::new([self.moves[0].ip()])));
        self.until(heard);
    }

    /// Waits until so many connections are left on the address that moves.
    fn until(&self, wanted: impl Fn(Option<usize>) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !wanted(self.worker().left(self.moves[0].ip())) {
            assert!(Instant::now() < deadline, "{:?} left", self.worker().left(self.moves[0].ip()));
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.take() {
            worker.stop();
        }
    }
}

/// A backend that answers at once, but for `/slow`: there the second half of the body waits for a word.
fn backend() -> (SocketAddr, mpsc::Sender<()>, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (finish, finishes) = mpsc::channel::<()>();
    let (begins, begun) = mpsc::channel();
    let finishes = Arc::new(Mutex::new(finishes));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (finishes, begins) = (Arc::clone(&finishes), begins.clone());
            thread::spawn(move || answer(stream.unwrap(), &finishes, &begins));
        }
    });
    (address, finish, begun)
}

/// Serves one connection of the gateway; ends with it, or with the test.
fn answer(
    stream: TcpStream,
    finishes: &Mutex<mpsc::Receiver<()>>,
    begins: &mpsc::Sender<()>,
) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut lines = BufReader::new(stream).lines();
    loop {
        let head: Vec<_> =
            lines.by_ref().map_while(Result::ok).take_while(|l| !l.is_empty()).collect();
        let slow = head.first()?.contains("/slow");
        writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhal").ok()?;
        if slow {
            begins.send(()).ok()?;
            finishes.lock().unwrap().recv().ok()?;
        }
        writer.write_all(b"ves").ok()?;
    }
}

fn manifest(backend: SocketAddr) -> String {
    let port = backend.port();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: app, namespace: default}}\n\
         spec: {{ports: [{{name: http, port: 80}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: app, namespace: default, labels: {{kubernetes.io/service-name: app}}}}\n\
         addressType: IPv4\nports: [{{name: http, port: {port}}}]\n\
         endpoints: [{{addresses: [127.0.0.1]}}]\n---\n\
         apiVersion: networking.k8s.io/v1\nkind: Ingress\n\
         metadata: {{name: app, namespace: default}}\nspec:\n  rules:\n  - host: app.test\n    \
         http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: app, port: \
         {{number: 80}}}}}}}}]}}\n"
    )
}

fn free(ip: &str) -> SocketAddr {
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}

/// An HTTP/1.1 client that keeps its connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn ask(&mut self, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: app.test\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
    }

    /// Whether the answer says that it is the last one.
    fn last_answer(&mut self) -> bool {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.0.read_line(&mut head).unwrap(), 0, "no answer but {head:?}");
        }
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let mut body = [0; 6];
        self.0.read_exact(&mut body).unwrap();
        assert_eq!(&body, b"halves");
        head.to_ascii_lowercase().contains("connection: close")
    }

    /// Whether the connection ends without another byte.
    fn ends(&mut self) -> bool {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).is_ok() && rest.is_empty()
    }
}

#[test]
fn whoever_asks_on_the_address_that_moves_is_told_with_the_answer_and_others_are_not() {
    let bed = Bed::new();
    let [mut moved, mut stayed] = [bed.moves[0], bed.stays[0]].map(Client::to);
    for client in [&mut moved, &mut stayed] {
        client.ask("/");
        assert!(!client.last_answer());
    }
    bed.tell(Command::Leave, |left| left == Some(1));
    for client in [&mut moved, &mut stayed] {
        client.ask("/");
    }
    assert!(moved.last_answer() && moved.ends());
    assert!(!stayed.last_answer());
    // One whose neighbour table is late comes here still.
    let mut late = Client::to(bed.moves[0]);
    late.ask("/");
    assert!(late.last_answer() && late.ends());
    bed.until(|left| left == Some(0));
    stayed.ask("/");
    assert!(!stayed.last_answer());
}

#[test]
fn an_idle_client_leaves_and_one_with_an_answer_under_way_gets_all_of_it() {
    let bed = Bed::new();
    let [mut idle, mut busy] = [bed.moves[0]; 2].map(Client::to);
    idle.ask("/");
    assert!(!idle.last_answer());
    busy.ask("/slow");
    bed.begun.recv_timeout(DEADLINE).unwrap();
    bed.tell(Command::Leave, |left| left == Some(2));
    assert!(idle.ends(), "it did not ask again");
    let mut late = Client::to(bed.moves[0]);
    late.ask("/");
    assert!(late.last_answer() && late.ends());
    bed.until(|left| left == Some(1));
    bed.finish.send(()).unwrap();
    // The head was sent before the address moved.
    busy.last_answer();
    assert!(busy.ends());
    bed.until(|left| left == Some(0));
}

#[test]
fn an_address_that_comes_back_keeps_its_clients_again() {
    let bed = Bed::new();
    bed.tell(Command::Leave, |left| left == Some(0));
    bed.tell(Command::Stay, |left| left.is_none());
    let mut client = Client::to(bed.moves[0]);
    for _ in 0..2 {
        client.ask("/");
        assert!(!client.last_answer());
    }
}

#[test]
fn an_address_that_is_gone_takes_its_connections_along_and_no_others() {
    let bed = Bed::new();
    let [mut cut, mut kept] = [bed.moves[0], bed.stays[0]].map(Client::to);
    for client in [&mut cut, &mut kept] {
        client.ask("/slow");
        bed.begun.recv_timeout(DEADLINE).unwrap();
    }
    bed.tell(Command::Leave, |left| left == Some(1));
    bed.tell(Command::Cut, |left| left.is_none());
    let mut rest = Vec::new();
    // Half an answer, then the end or a reset.
    let _ = cut.0.read_to_end(&mut rest);
    assert!(rest.ends_with(b"\r\n\r\nhal"), "{}", rest.escape_ascii());
    bed.finish.send(()).unwrap();
    bed.finish.send(()).unwrap();
    assert!(!kept.last_answer());
    let mut next = Client::to(bed.moves[0]);
    next.ask("/");
    assert!(!next.last_answer(), "should it come back, it is served as before");
}

/// Runs the tasks of an HTTP/2 connection beside the test.
#[derive(Clone)]
struct Beside;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Beside {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

type Requests = http2::SendRequest<Empty<bytes::Bytes>>;

/// An HTTP/2 connection, and its end.
async fn http2(address: SocketAddr) -> (Requests, tokio::task::JoinHandle<()>) {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("app.test").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let (requests, connection) = http2::handshake(Beside, TokioIo::new(stream)).await.unwrap();
    (requests, tokio::task::spawn_local(async { drop(connection.await) }))
}

async fn get(requests: &mut Requests, path: &str) -> bytes::Bytes {
    let request = Request::get(format!("https://app.test{path}")).version(Version::HTTP_2);
    let answer = requests.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.into_body().collect().await.unwrap().to_bytes()
}

#[test]
fn over_http2_streams_under_way_end_and_the_connection_after_them() {
    let bed = Bed::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (mut moved, ended) = http2(bed.moves[1]).await;
        let (mut stayed, _) = http2(bed.stays[1]).await;
        assert_eq!(get(&mut stayed, "/").await, "halves");
        let (mut late, _) = http2(bed.moves[1]).await;
        let slow = tokio::task::spawn_local(async move { get(&mut moved, "/slow").await });
        while bed.begun.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        bed.tell(Command::Leave, |left| left == Some(2));
        assert_eq!(get(&mut late, "/").await, "halves", "it had not asked yet");
        bed.finish.send(()).unwrap();
        assert_eq!(slow.await.unwrap(), "halves");
        tokio::time::timeout(DEADLINE, ended).await.unwrap().unwrap();
        assert_eq!(get(&mut stayed, "/").await, "halves");
    });
    bed.until(|left| left == Some(0));
}

/// Trusts every certificate: these tests are not about that.
#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
