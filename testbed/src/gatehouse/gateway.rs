//! The gateway under test as a process: started on free ports with manifests in a temporary folder,
//! killed when dropped.

#![allow(clippy::unwrap_used, reason = "a bed that cannot be made fails its test")]

use std::{
    ffi::OsStr,
    io::Read,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    thread::{self, JoinHandle},
};

use tempfile::TempDir;

use crate::{gatehouse::client, guard, process, wait};

/// How to start a gateway.
pub struct Plan {
    /// Words before the command, such as those of a namespace.
    via: Vec<String>,
    node: String,
    args: Vec<String>,
    access_log: bool,
    threads: usize,
    files: Vec<(String, String)>,
    /// Asks the API server of this kubeconfig, instead of reading manifests.
    kubeconfig: Option<PathBuf>,
    /// Asks the API server that its Pod knows, without a flag that says so.
    in_pod: bool,
    /// Instead of a folder of its own.
    state_dir: Option<PathBuf>,
    http: SocketAddr,
    https: SocketAddr,
    admin: SocketAddr,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            via: Vec::new(),
            node: "test-node".to_owned(),
            args: Vec::new(),
            access_log: false,
            threads: 1,
            files: Vec::new(),
            kubeconfig: None,
            in_pod: false,
            state_dir: None,
            http: free_address(),
            https: free_address(),
            admin: free_address(),
        }
    }
}

impl Plan {
    /// Adds a file to the folder of manifests.
    pub fn manifest(mut self, name: &str, text: impl Into<String>) -> Self {
        self.files.push((name.into(), text.into()));
        self
    }

    /// Takes its objects from an API server.
    pub fn kubeconfig(mut self, kubeconfig: PathBuf) -> Self {
        self.kubeconfig = Some(kubeconfig);
        self
    }

    /// Takes its objects from the API server that a Pod is told of: `via` words make it one.
    pub const fn in_pod(mut self) -> Self {
        self.in_pod = true;
        self
    }

    /// Keeps its state in this folder, so that a later process finds it.
    pub fn state_dir(mut self, folder: &Path) -> Self {
        self.state_dir = Some(folder.to_owned());
        self
    }

    /// Calls the node so.
    pub fn node(mut self, name: &str) -> Self {
        name.clone_into(&mut self.node);
        self
    }

    /// Adds flags.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|a| (*a).to_owned()));
        self
    }

    /// Writes the access log, which ends up in [`Gateway::output`].
    pub const fn access_log(mut self) -> Self {
        self.access_log = true;
        self
    }

    /// Uses so many data threads instead of one.
    pub const fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Runs the gateway by another command that ends in executing it.
    pub fn via(mut self, words: &[&str]) -> Self {
        self.via = words.iter().map(|w| (*w).to_owned()).collect();
        self
    }

    /// Its plain listener and its admin pages.
    pub const fn addresses(&self) -> (SocketAddr, SocketAddr) {
        (self.http, self.admin)
    }

    /// The command that [`Plan::start`] runs, and the folder of its manifests.
    pub fn command(&self) -> (Command, TempDir) {
        let dir = guard::folder("gatehouse-").unwrap();
        std::fs::create_dir(dir.path().join("manifests")).expect("a folder for manifests");
        for (name, text) in &self.files {
            std::fs::write(dir.path().join("manifests").join(name), text).expect("a manifest");
        }
        let program = process::built("gatehouse");
        let mut command = guard::command("env");
        let source = match &self.kubeconfig {
            Some(kubeconfig) => Some(("--kubeconfig", kubeconfig.clone())),
            None if self.in_pod => None,
            None => Some(("--manifests", dir.path().join("manifests"))),
        };
        let state_dir = self.state_dir.clone().unwrap_or_else(|| dir.path().join("state"));
        command
            .args(&self.via)
            .arg(program)
            .arg("run")
            .args(source.iter().flat_map(|(flag, source)| [OsStr::new(flag), source.as_os_str()]))
            .args(["--http", &self.http.to_string(), "--https", &self.https.to_string()])
            .args(["--admin", &self.admin.to_string(), "--node", &self.node])
            .args(["--threads", &self.threads.to_string()])
            .arg("--state-dir")
            .arg(state_dir)
            .args(&self.args);
        if !self.access_log {
            command.arg("--no-access-log");
        }
        (command, dir)
    }

    /// Starts the gateway and waits until it is ready.
    pub fn start(self) -> Gateway {
        let mut gateway = self.spawn();
        gateway.wait_ready();
        gateway
    }

    /// Starts the gateway and does not wait.
    pub fn spawn(self) -> Gateway {
        let (mut command, dir) = self.command();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let output = Arc::new(Mutex::new(Vec::new()));
        let readers = [
            capture(child.stdout.take().expect("stdout is piped"), &output),
            capture(child.stderr.take().expect("stderr is piped"), &output),
        ];
        let (http, https, admin) = (self.http, self.https, self.admin);
        Gateway { child, http, https, admin, dir, output, readers: readers.into() }
    }
}

/// A running gateway.
pub struct Gateway {
    child: Child,
    /// Its plain listener.
    pub http: SocketAddr,
    /// Its TLS listener.
    pub https: SocketAddr,
    /// Its admin pages.
    pub admin: SocketAddr,
    dir: TempDir,
    output: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Gateway {
    /// The folder of manifests that it watches.
    pub fn manifests(&self) -> PathBuf {
        self.dir.path().join("manifests")
    }

    /// Replaces a manifest in one step, as an editor or a symlink swap does.
    pub fn save(&self, name: &str, text: &str) {
        replace(&self.manifests(), name, text);
    }

    /// All that it wrote to stdout and stderr.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory of its own in KiB: without pages of the binary, which come in as they are used.
    pub fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|l| l.starts_with("RssAnon:")).expect("the kernel says RSS");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number of KiB")
    }

    /// The body of an admin page.
    pub fn page(&self, path: &str) -> String {
        let answer = client::get(self.admin, "localhost", path);
        answer.responses.first().map(client::Response::text).unwrap_or_default()
    }

    /// The value of a metric, by its name and labels, if there is one.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let page = self.page("/metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.parse().ok()
    }

    /// The value of a metric that counts and is always there.
    ///
    /// # Panics
    /// There is none.
    pub fn count(&self, name: &str) -> u64 {
        self.metric(name).unwrap_or_else(|| panic!("no {name} at /metrics")) as u64
    }

    /// Bytes of bodies that wait in `memory`, or in `file`s.
    pub fn kept(&self, place: &str) -> u64 {
        self.count(&format!("gatehouse_kept_body_bytes{{place=\"{place}\"}}"))
    }

    /// Whether nothing of any body is left, at last.
    pub fn keeps_no_body(&self) -> bool {
        wait::comes_true(|| {
            let files = self.count("gatehouse_kept_body_files");
            (self.kept("memory"), self.kept("file"), files) == (0, 0, 0)
        })
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        signal(self.pid(), "TERM");
    }

    /// Waits for the end of the process and of its words; none when it goes on.
    pub fn wait(&mut self) -> Option<ExitStatus> {
        let status = wait::look(|| self.child.try_wait().expect("our own child"))?;
        for reader in self.readers.drain(..) {
            drop(reader.join());
        }
        Some(status)
    }

    fn wait_ready(&mut self) {
        let is_ready = wait::comes_true(|| {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                self.wait();
                panic!("the gateway ended at start: {status}\n{}", self.output());
            }
            TcpStream::connect(self.admin).is_ok()
                && client::get(self.admin, "localhost", "/readyz").status() == 200
        });
        assert!(is_ready, "not ready: {}\n{}", self.page("/readyz"), self.output());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            let output = self.output();
            let from = output.len().saturating_sub(4000);
            let from = (from..).find(|n| output.is_char_boundary(*n)).unwrap_or(0);
            eprintln!("--- gateway output ---\n{}", &output[from..]);
        }
    }
}

/// Replaces a file by rename.
pub fn replace(folder: &Path, name: &str, text: &str) {
    let draft = folder.join(format!(".{name}.draft"));
    std::fs::write(&draft, text).expect("a draft");
    std::fs::rename(&draft, folder.join(name)).expect("a rename");
}

/// Sends a signal by name to one process.
pub fn signal(pid: u32, name: &str) {
    let done = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(done.is_ok_and(|s| s.success()), "kill -{name} {pid}");
}

/// A loopback address outside of the range of ephemeral ports, so that no client takes it first.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let start = (std::process::id() % 200) as u16 * 100;
        let port = 10_000 + (start + n) % 22_000;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
}

fn capture(mut from: impl Read + Send + 'static, into: &Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    let into = Arc::clone(into);
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut chunk) {
            into.lock().unwrap().extend_from_slice(&chunk[..n]);
        }
    })
}
