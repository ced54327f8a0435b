//! Routers of our own: plain TCP, on which anything can be said.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use gatehouse_testbed::{
    hostile_router::messages::{ROUTE_REFRESH, UPDATE, frame},
    namespace::Namespace,
    routers::lab::Lab,
    wait::{self, eventually},
};

use crate::process::{Speaker, VIP, address};

/// The speaker on a node, and a host that has the addresses of all routers.
pub(crate) struct Scene {
    lab: Lab,
    pub(crate) speaker: Speaker,
    /// How many there are, the last of them being a good one.
    pub(crate) routers: usize,
}

/// A router, which is dialled.
pub(crate) struct Router {
    listener: TcpListener,
    host: Namespace,
}

/// A connection with the speaker.
pub(crate) struct Wire(TcpStream);

impl Scene {
    /// `internal` says of each router whether it is of the speaker's own ASN; a good one is added.
    pub(crate) fn new(internal: &[bool]) -> Self {
        let lab = Lab::new(&[("node", 1), ("router", 2)]);
        lab.ip("node", "route add 10.79.8.0/22 dev eth0");
        lab.ip("router", "route add local 10.79.8.0/22 dev lo");
        let internal = [internal, &[false]].concat();
        let speaker = Speaker::start(&lab, "node", &internal);
        Self { lab, speaker, routers: internal.len() }
    }

    /// The router of this number.
    pub(crate) fn router(&self, index: usize) -> Router {
        let (host, at) = (self.lab.namespace("router"), format!("{}:179", address(index)));
        let listener = host.enter(|| TcpListener::bind(at)).unwrap().unwrap();
        listener.set_nonblocking(true).unwrap();
        Router { listener, host }
    }
}

impl Router {
    /// Waits until the speaker dials.
    pub(crate) fn meet(&self, name: &str) -> Wire {
        let (stream, _) = eventually(&format!("{name}: the speaker dials"), || {
            self.listener.accept().map_err(|error| error.to_string())
        });
        Wire::new(stream)
    }

    /// Dials the speaker; `None` if it has hung up before this end knew that it was through.
    pub(crate) fn dial(&self) -> Option<Wire> {
        let from = self.listener.local_addr().unwrap().ip();
        let dialled = self.host.enter(|| {
            let to = SocketAddr::from(([10, 79, 0, 1], 179));
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
            let socket = socket.unwrap();
            socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
            match socket.connect_timeout(&to.into(), wait::LIMIT) {
                Ok(()) => Some(Wire::new(socket.into())),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
                Err(error) => panic!("the speaker does not listen: {error}"),
            }
        });
        dialled.unwrap()
    }
}

impl Wire {
    fn new(stream: TcpStream) -> Self {
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(wait::LIMIT)).unwrap();
        stream.set_write_timeout(Some(wait::LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// Says something; that the speaker has hung up shows when its answer is read.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        drop(self.0.write_all(bytes));
    }

    /// Says something long, and reads meanwhile what is said to it.
    pub(crate) fn floods(&mut self, bytes: &[u8]) {
        let mut writer = self.0.try_clone().unwrap();
        std::thread::scope(|scope| {
            let written = scope.spawn(move || writer.write_all(bytes));
            self.0.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            while !written.is_finished() {
                // Pieces of messages: the stream is in step again where the answers are read.
                self.try_next();
            }
            self.0.set_read_timeout(Some(wait::LIMIT)).unwrap();
            written.join().unwrap().unwrap();
        });
    }

    /// The next message: type and body; `None` if the connection has ended or nothing comes.
    fn try_next(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 19];
        // Nothing of a message is lost while nothing of it has come.
        self.0.peek(&mut header[..1]).ok().filter(|&some| some > 0)?;
        self.0.read_exact(&mut header).ok()?;
        assert_eq!(header[..16], [0xff; 16]);
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        let mut body = vec![0; length.checked_sub(19).unwrap()];
        self.0.read_exact(&mut body).ok()?;
        Some((header[18], body))
    }

    /// The next message: type and body.
    pub(crate) fn next(&mut self) -> (u8, Vec<u8>) {
        self.try_next().expect("a message")
    }

    /// All messages until the speaker closes the connection in good order.
    pub(crate) fn until_closed(&mut self) -> Vec<(u8, Vec<u8>)> {
        let messages = std::iter::from_fn(|| self.try_next()).collect();
        assert_eq!(self.0.peek(&mut [0]).map_err(|error| error.kind()), Ok(0), "{messages:?}");
        messages
    }

    /// Whether the speaker announces an address before it ends the connection.
    pub(crate) fn hears(&mut self, ip: &str) -> bool {
        let IpAddr::V4(ip) = ip.parse().unwrap() else { panic!("{ip}") };
        let prefix = [&[32][..], &ip.octets()].concat();
        std::iter::from_fn(|| self.try_next())
            .any(|(kind, body)| kind == UPDATE && body.ends_with(&prefix))
    }

    /// Waits until the speaker announces an address.
    pub(crate) fn hears_of(&mut self, ip: &str) {
        assert!(self.hears(ip), "{ip} is not announced");
    }

    /// Asks for all routes again and waits for them: whatever was said before has been dealt with,
    /// and the session is up.
    pub(crate) fn proves_alive(&mut self) {
        self.say(&frame(ROUTE_REFRESH, &[0, 1, 0, 1]));
        self.hears_of(VIP);
    }
}
