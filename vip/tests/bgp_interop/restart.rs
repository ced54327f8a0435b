//! That routes outlive a restart which takes its time: the kernel of a router, watched all the while.

use std::{
    net::Ipv4Addr,
    process::{Child, Stdio},
};

use gatehouse_testbed::{
    hosts::run,
    routers::{Kind, lab::Lab},
    wait::eventually,
};

use crate::{
    node::Node,
    process::Desired,
    scene::{Asn, assert_up, hosts, routers},
};

/// So many that a session is up before they are on the interface.
const ADDRESSES: u32 = 3000;
/// Of these, so many are still there when the node starts again.
const LEFT: usize = 100;

/// `ip monitor route` on a host, with its output in a file; ended when it goes out of scope.
struct Watch {
    child: Child,
    file: std::path::PathBuf,
}

impl Watch {
    fn start(lab: &Lab, host: &str) -> Self {
        let file = lab.folder(host).join("monitor");
        let output = std::fs::File::create(&file).unwrap();
        let mut command = lab.command(host, "ip");
        command.args(["-o", "monitor", "route"]).stdin(Stdio::null()).stdout(output);
        let watch = Self { child: command.spawn().unwrap(), file };
        watch.hears(lab, host, "192.0.2.77");
        watch
    }

    /// Waits until it has printed whatever has happened on the host.
    fn hears(&self, lab: &Lab, host: &str, mark: &str) {
        eventually("the monitor listens", || {
            lab.ip(host, &format!("route replace blackhole {mark}"));
            lab.ip(host, &format!("route del blackhole {mark}"));
            std::thread::sleep(std::time::Duration::from_millis(50));
            let text = std::fs::read_to_string(&self.file).unwrap();
            if text.contains(mark) { Ok(()) } else { Err(text) }
        });
    }

    /// Prefixes that the kernel has lost a route to.
    fn lost(&self, lab: &Lab, host: &str) -> Vec<String> {
        self.hears(lab, host, "192.0.2.78");
        let text = std::fs::read_to_string(&self.file).unwrap();
        let lost = text.lines().filter_map(|line| line.strip_prefix("Deleted "));
        let prefixes = lost.filter_map(|line| line.split_whitespace().next());
        prefixes.filter(|prefix| prefix.starts_with("10.200.")).map(str::to_owned).collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Ended already if the host is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many routes of the node's the kernel of a host has.
fn kernel_routes(lab: &Lab, host: &str) -> usize {
    let text = lab.ip(host, "-4 route show proto bgp");
    text.lines().filter(|line| line.starts_with("10.200.")).count()
}

#[test]
fn no_route_goes_while_a_killed_node_gets_its_addresses_back_and_one_that_it_lost_goes_then() {
    let lab = hosts(&[Kind::Frr]);
    let routers = routers(&lab, &[Kind::Frr], Asn::External, |peer| {
        // Where both dial at one moment, FRR 8 ends the session that it has, and forgets what it kept.
        (peer.graceful_restart, peer.passive) = (true, true);
    });
    let mut node = Node::start(&lab, "node");
    let mut desired = Desired::new(&[Kind::Frr], Asn::External).with(|peer| {
        peer.enable_graceful_restart = true;
        peer.dual_stack_address_family = true;
    });
    let first = u32::from(Ipv4Addr::new(10, 200, 0, 0));
    desired.addresses = (first..first + ADDRESSES).map(|ip| Ipv4Addr::from(ip).into()).collect();
    node.plan(&desired);
    assert_up(&mut node, &routers);
    let has = |wanted| {
        eventually("routes in the router's kernel", || match kernel_routes(&lab, "frr") {
            has if has == wanted => Ok(()),
            has => Err(format!("{has} instead of {wanted}: {}", routers[0].log())),
        });
    };
    has(ADDRESSES as usize);

    let watch = Watch::start(&lab, "frr");
    node.kill();
    // The next one has to put most of them back.
    let batch = lab.folder("node").join("batch");
    let delete = |ip: &std::net::IpAddr| format!("addr del {ip}/32 dev lo\n");
    std::fs::write(&batch, desired.addresses[LEFT..].iter().map(delete).collect::<String>())
        .unwrap();
    run(lab.command("node", "ip").arg("-batch").arg(&batch));

    let mut next = Node::start(&lab, "node");
    let lost = desired.addresses.pop().unwrap();
    next.plan(&desired);
    assert_up(&mut next, &routers);
    has(desired.addresses.len());
    assert_eq!(watch.lost(&lab, "frr"), [lost.to_string()]);
}
