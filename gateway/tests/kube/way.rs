//! A way to the API server whose connections can be cut.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
};

use gatehouse_testbed::{cluster::Cluster, guard};
use tempfile::TempDir;

/// Passes bytes between a gateway and the API server.
pub struct Way {
    address: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
    folder: TempDir,
}

impl Way {
    /// To this cluster, until the program ends.
    pub fn to(cluster: &Cluster) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (to, open) = (cluster.api_server().address(), Arc::new(Mutex::new(Vec::new())));
        let folder = guard::folder("gatehouse-way-").unwrap();
        let text = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
        let text = text.replace(&to.to_string(), &address.to_string());
        std::fs::write(folder.path().join("kubeconfig"), text).unwrap();
        let passing = Arc::clone(&open);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                // An API server that is away refuses, and so do we.
                let Ok(far) = TcpStream::connect(to) else { continue };
                let ends = [&near, &far].map(|end| end.try_clone().unwrap());
                passing.lock().unwrap().extend(ends);
                pass(&near, &far);
                pass(&far, &near);
            }
        });
        Self { address, open, folder }
    }

    /// A kubeconfig that leads over here.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// Cuts all connections; says how many there were. New ones are possible at once.
    pub fn cut(&self) -> usize {
        let open = std::mem::take(&mut *self.open.lock().unwrap());
        // One of the sides may have closed it already.
        open.iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
        open.len() / 2
    }
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Way at {}", self.address)
    }
}

fn pass(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}
