//! The most naive proxy there is: it copies bytes to one backend. A corpus that finds no danger in
//! it cannot see any.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// A running tunnel.
pub struct Tunnel {
    /// Where clients connect.
    pub addr: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl Tunnel {
    /// A tunnel from a free loopback port to `backend`.
    pub fn to(backend: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let stopped = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stopped);
        thread::spawn(move || {
            for client in listener.incoming() {
                if until.load(Ordering::Relaxed) {
                    return;
                }
                if let (Ok(client), Ok(server)) = (client, TcpStream::connect(backend)) {
                    both_ways(&client, &server);
                }
            }
        });
        Self { addr, stopped }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.addr));
    }
}

fn both_ways(client: &TcpStream, server: &TcpStream) {
    for (from, to) in [(client, server), (server, client)] {
        let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
        thread::spawn(move || {
            let mut chunk = [0; 16 * 1024];
            while let Ok(n @ 1..) = from.read(&mut chunk) {
                if to.write_all(&chunk[..n]).is_err() {
                    break;
                }
            }
            drop(to.shutdown(Shutdown::Write));
        });
    }
}
