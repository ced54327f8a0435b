//! Much of it: a gibibyte each way with a half-close between, and iperf3 by TCP and UDP.

use std::{
    io::{Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use gatehouse_testbed::wait;

use super::{Bed, SERVERS, vips};

const MIB: usize = 1 << 20;
/// No buffer has this length, so that a piece which is lost, doubled or exchanged shows.
const BLOCK: usize = 1_000_003;

/// The same bytes for whoever asks, without a period that a buffer could have.
fn block() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..BLOCK).map(|_| next()).collect()
}

/// Sends so many bytes, then nothing more.
fn pour(stream: &mut TcpStream, block: &[u8], mut left: usize) {
    while left > 0 {
        let part = &block[..left.min(block.len())];
        stream.write_all(part).unwrap();
        left -= part.len();
    }
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Reads to the end; how many bytes there were, all of them as they should be.
fn drain(stream: &mut TcpStream, block: &[u8]) -> usize {
    let (mut got, mut buffer) = (0, vec![0; 256 * 1024]);
    loop {
        let read = stream.read(&mut buffer).unwrap();
        if read == 0 {
            return got;
        }
        let mut seen = &buffer[..read];
        while !seen.is_empty() {
            let wanted = &block[got % BLOCK..];
            let part = seen.len().min(wanted.len());
            assert!(seen[..part] == wanted[..part], "byte {got} or soon after it");
            got += part;
            seen = &seen[part..];
        }
    }
}

#[test]
fn a_gibibyte_each_way_arrives_as_it_was_sent_with_one_side_closed_meanwhile() {
    const PORT: u16 = 7000;
    let bed = Bed::new(PORT, &["TCP"], "", "");
    let block = block();
    for ip in SERVERS.as_flattened() {
        let address = SocketAddr::new(ip.parse::<IpAddr>().unwrap(), PORT);
        let listener = bed.servers.enter(|| TcpListener::bind(address)).unwrap().unwrap();
        let block = block.clone();
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let block = block.clone();
                // Answers when it has heard everything, and as much.
                thread::spawn(move || {
                    let got = drain(&mut stream, &block);
                    pour(&mut stream, &block, got);
                });
            }
        });
    }
    // A gibibyte over each way of passing on, and less over the other family.
    for (vip, bytes) in vips().zip([1024 * MIB, 48 * MIB, 48 * MIB, 1024 * MIB]) {
        let to = SocketAddr::new(vip.parse().unwrap(), PORT);
        let mut stream = wait::eventually(vip, || {
            let connect = || TcpStream::connect_timeout(&to, wait::LIMIT);
            bed.client
                .enter(connect)
                .unwrap()
                .map_err(|why| format!("{why} {}", bed.gateway.output()))
        });
        pour(&mut stream, &block, bytes);
        assert_eq!(drain(&mut stream, &block), bytes, "{vip}");
    }
}

#[test]
fn iperf3_finds_its_server_again_by_tcp_and_udp() {
    const PORT: u16 = 5201;
    // Its control connection, its data and its datagrams have to meet one server.
    let bed = Bed::new(PORT, &["TCP", "UDP"], "", ", sessionAffinity: ClientIP");
    let servers: Vec<_> = SERVERS
        .as_flattened()
        .iter()
        .map(|ip| {
            let mut command = bed.servers.command("iperf3");
            command.args(["-s", "-B", ip, "-p", &PORT.to_string()]);
            bed.serve(&format!("iperf3-{ip}"), command)
        })
        .collect();
    for vip in vips() {
        let port = PORT.to_string();
        for how in [&["-n", "32M"][..], &["-n", "32M", "-R"], &["-u", "-b", "8M", "-n", "1M"]] {
            let words = [&["iperf3", "-c", vip, "-p", &port, "-J"][..], how].concat();
            // It fails where a packet of its control is late, and is asked again.
            wait::eventually(vip, || {
                let (_, text) = bed.client.output(&words).unwrap();
                let report: serde_json::Value =
                    serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
                let end = &report["end"];
                let count = |field: &serde_json::Value| field.as_u64().unwrap_or_default();
                let received = match how[0] {
                    "-u" => count(&end["sum"]["packets"])
                        .saturating_sub(count(&end["sum"]["lost_packets"])),
                    _ => count(&end["sum_received"]["bytes"]),
                };
                match received {
                    0 => Err(format!("{how:?}: {text} {}", bed.gateway.output())),
                    _ => Ok(()),
                }
            });
        }
    }
    drop(servers);
}
