//! What the process on a host of the lab does: orders by lines, answers by lines that begin with `> `.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::Command,
    time::Duration,
};

use gatehouse_testbed::{hosts::run, wait};
use socket2::{Domain, Socket, Type};

use super::super::Nft;
use crate::{
    kernel::sockets::frames::FrameSocket,
    l2::{
        arp,
        forward_old::{ForwardPath, ForwardPaths, NextHop},
        ndp,
    },
};

const PORT: u16 = 7000;

#[derive(Default)]
pub(super) struct Host {
    nft: Nft,
    connections: BTreeMap<String, TcpStream>,
}

impl Host {
    /// Carries out one order; the answer.
    pub(super) fn obey(&mut self, order: &str) -> String {
        let words: Vec<&str> = order.split(' ').collect();
        match words[..] {
            ["hello"] => "ready".to_owned(),
            ["serve", word] => serve(word),
            ["announce", vip] => announce(vip.parse().unwrap()),
            ["open", id, vip] => self.open(id, vip, 0),
            ["open", id, vip, "from", port] => self.open(id, vip, port.parse().unwrap()),
            ["exchange", id, megabytes] => self.exchange(id, megabytes.parse().unwrap()),
            ["reset", id] => {
                // Leaves no TIME_WAIT, so that the port can be used again at once.
                socket2::SockRef::from(&self.connections.remove(id).unwrap())
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
                format!("{id} reset")
            }
            ["keep", vip] => self.keep(vip.parse().unwrap()),
            ["forward", ref paths @ ..] => self.forward("eth0", index("eth0"), paths),
            ["forward-on", device, index, ref paths @ ..] => {
                self.forward(device, index.parse().unwrap(), paths)
            }
            _ => format!("unknown order {order}"),
        }
    }

    /// Connects from a local port, or from any; the server says its name.
    fn open(&mut self, id: &str, vip: &str, port: u16) -> String {
        let to = SocketAddr::new(vip.parse().unwrap(), PORT);
        let from: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let opened = || -> std::io::Result<(TcpStream, String)> {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::new(from, port).into())?;
            socket.connect_timeout(&to.into(), wait::LIMIT)?;
            socket.set_read_timeout(Some(wait::LIMIT))?;
            socket.set_write_timeout(Some(wait::LIMIT))?;
            let stream = TcpStream::from(socket);
            let mut word = String::new();
            BufReader::new(stream.try_clone()?).read_line(&mut word)?;
            Ok((stream, word))
        };
        match opened() {
            Ok((stream, word)) => {
                self.connections.insert(id.to_owned(), stream);
                format!("{id} is with {}", word.trim())
            }
            Err(error) => format!("{id} failed: {:?}", error.kind()),
        }
    }

    /// Sends so much, and reads the same back at the same time.
    fn exchange(&mut self, id: &str, megabytes: usize) -> String {
        let pattern: Vec<u8> = (0..1 << 20).map(|at: usize| (at * 31 % 251) as u8).collect();
        let mut reader = self.connections[id].try_clone().unwrap();
        let mut writer = self.connections[id].try_clone().unwrap();
        let sent = pattern.clone();
        let sending =
            std::thread::spawn(move || (0..megabytes).try_for_each(|_| writer.write_all(&sent)));
        let mut buffer = vec![0; pattern.len()];
        let failed = |error: std::io::Error| format!("{id} failed: {:?}", error.kind());
        for _ in 0..megabytes {
            if let Err(error) = reader.read_exact(&mut buffer) {
                // The one that comes first takes the reset, the other sees a mere end.
                let end = error.kind() == std::io::ErrorKind::UnexpectedEof;
                let other = if end { sending.join().unwrap().err() } else { None };
                return failed(other.unwrap_or(error));
            }
            assert!(buffer == pattern, "the data of {id} came back changed");
        }
        match sending.join().unwrap() {
            Ok(()) => format!("{id} exchanged {megabytes} MB"),
            Err(error) => failed(error),
        }
    }

    fn keep(&mut self, vip: IpAddr) -> String {
        let connections = self.nft.connections(&[vip].into());
        match connections.and_then(|connections| self.nft.keep(&connections)) {
            Ok(()) => "kept".to_owned(),
            Err(error) => format!("refused {:?}: {error}", error.kind()),
        }
    }

    /// Paths given as `<via>=<vip>,<vip>`, those from a neighbour as `<mac>><via>=<vip>`; `here` is
    /// no next hop.
    fn forward(&mut self, device: &str, index: u32, paths: &[&str]) -> String {
        let mut wanted = ForwardPaths::new();
        for path in paths {
            let (via, vips) = path.split_once('=').unwrap();
            let (from, via) =
                via.split_once('>').map_or((None, via), |(mac, via)| (Some(mac), via));
            let from = from.map(|mac| {
                let octets: Vec<_> =
                    mac.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
                octets.try_into().unwrap()
            });
            let next_hop =
                (via != "here").then(|| NextHop { link: index, via: via.parse().unwrap() });
            let vips = vips.split(',').map(|vip| vip.parse::<IpAddr>().unwrap());
            let device = (index, device.to_owned());
            wanted.entry(ForwardPath { device, from, next_hop }).or_default().extend(vips);
        }
        match self.nft.apply(&wanted) {
            Ok(()) => "paths stand".to_owned(),
            Err(error) => format!("refused {:?}: {error}", error.kind()),
        }
    }
}

/// Greets every connection with a word and then sends back what it hears.
fn serve(word: &str) -> String {
    let listener = TcpListener::bind(("::", PORT)).unwrap();
    let greeting = format!("{word}\n");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, greeting) = (stream.unwrap(), greeting.clone());
            std::thread::spawn(move || {
                let mut heard = stream.try_clone().unwrap();
                // The client may reset it; then nothing can be sent.
                let _ = stream.write_all(greeting.as_bytes());
                let _ = std::io::copy(&mut heard, &mut stream);
            });
        }
    });
    "serving".to_owned()
}

/// Tells the neighbours that an address is here now.
fn announce(vip: IpAddr) -> String {
    let text = link("eth0");
    let mac = text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap();
    let mac: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let mac = mac.try_into().unwrap();
    let frames = match vip {
        IpAddr::V4(vip) => arp::gratuitous(mac, vip).to_vec(),
        IpAddr::V6(vip) => vec![ndp::unsolicited(mac, vip)],
    };
    let mut socket = FrameSocket::default();
    frames.iter().for_each(|frame| socket.send(index("eth0"), frame).unwrap());
    "announced".to_owned()
}

fn index(device: &str) -> u32 {
    link(device).split(':').next().unwrap().parse().unwrap()
}

/// What the kernel says of an interface, in one line.
fn link(device: &str) -> String {
    run(Command::new("ip").args(["-o", "link", "show", "dev", device]))
}
