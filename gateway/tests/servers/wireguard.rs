//! WireGuard, whose datagrams go over a Service: by this process and by the kernel, over IPv4 and IPv6. In user space, so
//! that it takes no module of the kernel's.

use std::fs;

use gatehouse_testbed::{lan::Host, process::Process, wait};

use super::{Bed, vips};

const PORT: u16 = 51820;
/// The addresses of both ends within the tunnel.
const INSIDE: [&str; 2] = ["10.200.0.1", "10.200.0.2"];

/// Starts an end, with a key of its own; its public key.
fn start(bed: &Bed, host: &Host, name: &str, inside: &str) -> (Process, String) {
    let mut command = host.command("wireguard-go");
    command.args(["-f", name]);
    let process = bed.serve(name, command);
    wait::eventually(name, || {
        let (good, text) = host.output(&["wg", "show", name]).unwrap();
        if good { Ok(()) } else { Err(text) }
    });
    let secret = bed.folder.path().join(name);
    fs::write(&secret, host.run(&["wg", "genkey"]).unwrap()).unwrap();
    let secret = secret.display().to_string();
    host.run(&["wg", "set", name, "private-key", &secret]).unwrap();
    host.run(&["ip", "address", "add", &format!("{inside}/24"), "dev", name]).unwrap();
    host.run(&["ip", "link", "set", name, "up"]).unwrap();
    let public = host.run(&["wg", "show", name, "public-key"]).unwrap().trim().to_owned();
    (process, public)
}

#[test]
fn a_tunnel_of_wireguard_goes_over_every_address_of_a_service() {
    let bed = Bed::new(PORT, &["UDP"], "", "");
    // Its sockets have their names in one folder for all namespaces.
    let [near, far] = ["near", "far"].map(|end| format!("wg{end}{}", std::process::id() % 100_000));
    let (_near, client) = start(&bed, &bed.client, &near, INSIDE[0]);
    let (_far, server) = start(&bed, &bed.servers, &far, INSIDE[1]);
    let port = PORT.to_string();
    let allowed = INSIDE.map(|ip| format!("{ip}/32"));
    let listens = ["wg", "set", &far, "listen-port", &port, "peer", &client];
    bed.servers.run(&[&listens[..], &["allowed-ips", &allowed[0]]].concat()).unwrap();
    let mut iperf = bed.servers.command("iperf3");
    iperf.args(["-s", "-B", INSIDE[1]]);
    let _iperf = bed.serve("iperf3", iperf);
    for vip in vips() {
        let ip = if vip.contains(':') { format!("[{vip}]") } else { vip.to_owned() };
        let to = format!("{ip}:{PORT}");
        let asks = ["wg", "set", &near, "peer", &server, "endpoint", &to];
        bed.client.run(&[&asks[..], &["allowed-ips", &allowed[1]]].concat()).unwrap();
        for how in [&["-n", "4M"][..], &["-n", "4M", "-R"]] {
            let words = [&["timeout", "30", "iperf3", "-c", INSIDE[1], "-J"][..], how].concat();
            wait::eventually(vip, || {
                let (_, text) = bed.client.output(&words).unwrap();
                let report: serde_json::Value =
                    serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
                match report["end"]["sum_received"]["bytes"].as_u64() {
                    // It stops where all has been sent, and counts what has come by then.
                    Some(1..) => Ok(()),
                    _ => Err(format!("{how:?}: {text} {}", bed.gateway.output())),
                }
            });
        }
        let known = bed.client.run(&["wg", "show", &near, "endpoints"]).unwrap();
        assert_eq!(known.split_whitespace().last(), Some(&*to), "answers come from the address");
    }
}
