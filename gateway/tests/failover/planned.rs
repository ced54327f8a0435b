//! Moves that somebody wants: nobody may notice.

use std::{
    io::Read as _,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use gatehouse_testbed::{
    group::{NAME, VIPS},
    process::Signal,
};

use super::{Bed, options};

/// Body of the download, in bytes; at the client's pace it takes three seconds.
const DOWNLOAD: u64 = 6 << 20;

/// A curl on the client host that writes its answer's status and size to stdout.
fn curl(bed: &Bed, vip: std::net::IpAddr, path: &str, more: &[&str]) -> Child {
    let url = format!("http://{}{path}", std::net::SocketAddr::new(vip, 80));
    let mut command = bed.site.client.command("curl");
    command
        .args(["-gsS", "-m", "60", "-o", "/dev/null", "-w", "%{http_code} %{size_download}"])
        .args(["-H", &format!("Host: {NAME}")])
        .args(more)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command.spawn().unwrap()
}

fn said(mut curl: Child) -> String {
    let mut text = String::new();
    curl.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    let status = curl.wait().unwrap();
    format!("{status}: {text}")
}

#[test]
fn an_owner_that_is_asked_to_end_hands_over_without_one_failed_request() {
    let mut bed = Bed::start(&options());
    for vip in VIPS {
        let owner = bed.owner(vip);
        let client = bed.client(vip);
        let slow = curl(&bed, vip, "/?delay=1500", &[]);
        let download = curl(&bed, vip, &format!("/?size={DOWNLOAD}"), &["--limit-rate", "2M"]);
        std::thread::sleep(Duration::from_millis(500));

        let event = Instant::now();
        bed.site.nodes[owner].signal(Signal::TERM);
        let text = said(slow);
        assert!(text.starts_with("exit status: 0: 200 "), "slow answer over {vip}: {text}");
        let whole = format!("exit status: 0: 200 {DOWNLOAD}");
        assert_eq!(said(download), whole, "download over {vip}");
        let ended = bed.site.nodes[owner].wait();
        let log = bed.site.nodes[owner].log();
        assert!(ended.is_some_and(|status| status.success()), "{vip}: {ended:?}\n{log}");
        let next = bed.owner(vip);
        assert_ne!(next, owner, "{vip} has moved");
        bed.assert_unnoticed(&client, event, &format!("{vip}, moved away"));
        bed.assert_sole_owner(vip, next);

        // And back, when it has been there for a while.
        let event = Instant::now();
        bed.site.nodes[owner].start().unwrap();
        bed.site.nodes[owner].wait_ready().unwrap();
        bed.whole();
        bed.assert_unnoticed(&client, event, &format!("{vip}, moved back"));
        bed.assert_sole_owner(vip, owner);
    }
}

#[test]
fn nodes_are_replaced_one_after_the_other_without_one_failed_request() {
    let mut bed = Bed::start(&options());
    let clients = VIPS.map(|vip| bed.client(vip));
    let event = Instant::now();
    for node in 0..bed.site.nodes.len() {
        bed.site.nodes[node].signal(Signal::TERM);
        assert!(bed.site.nodes[node].wait().is_some(), "{}", bed.site.describe());
        bed.site.nodes[node].start().unwrap();
        bed.settle();
    }
    for (client, vip) in clients.iter().zip(VIPS) {
        bed.assert_unnoticed(client, event, &vip.to_string());
    }
}
