//! Connections that the kernel passes on (`gatehouse.io/forwarding: kernel`), in moves that somebody wants.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use gatehouse_testbed::{process::Signal, wait};

use super::{Bed, options};

/// The addresses of the Service, and those of its endpoint: the host that has no part in the group.
const KERNEL_VIPS: [&str; 2] = ["10.77.1.9", "fd77::1:9"];
const ENDPOINT: [&str; 2] = ["10.77.0.6", "fd77::6"];
const PORT: u16 = 7000;

fn manifest() -> String {
    let [four, six] = KERNEL_VIPS;
    let mut text = format!(
        "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\n\
         metadata: {{name: kernel, namespace: metallb-system}}\n\
         spec: {{autoAssign: false, addresses: [{four}/32, '{six}/128']}}\n---\n\
         apiVersion: metallb.io/v1beta1\nkind: L2Advertisement\n\
         metadata: {{name: kernel, namespace: metallb-system}}\nspec: {{ipAddressPools: [kernel]}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata:\n  name: kernel\n  namespace: default\n  \
         annotations: {{gatehouse.io/forwarding: kernel, metallb.io/loadBalancerIPs: '{four},{six}'}}\n\
         spec: {{type: LoadBalancer, ipFamilyPolicy: RequireDualStack, ports: [{{name: t, port: {PORT}}}]}}\n"
    );
    for (kind, ip) in ["IPv4", "IPv6"].into_iter().zip(ENDPOINT) {
        text += &format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: kernel-{}, namespace: default, labels: {{kubernetes.io/service-name: kernel}}}}\n\
             addressType: {kind}\nports: [{{name: t, port: {PORT}}}]\nendpoints: [{{addresses: ['{ip}']}}]\n",
            kind.to_lowercase()
        );
    }
    text
}

/// A server of the endpoint's host repeats what it hears.
fn serve(bed: &Bed) {
    let listen = || TcpListener::bind(("::", PORT));
    let listener = bed.site.stranger.enter(listen).unwrap().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut copy = stream.try_clone().unwrap();
                let _ = io::copy(&mut stream, &mut copy);
            });
        }
    });
}

/// A connection of the client's that goes on.
fn connect(bed: &Bed, vip: IpAddr) -> TcpStream {
    wait::eventually("a connection is taken", || {
        let to = SocketAddr::new(vip, PORT);
        let connect = || TcpStream::connect_timeout(&to, wait::LIMIT);
        let stream = bed.site.client.enter(connect).unwrap();
        let mut stream = stream.map_err(|error| format!("{error}: {}", bed.site.describe()))?;
        stream.set_read_timeout(Some(wait::LIMIT)).unwrap();
        goes_on(bed, &mut stream);
        Ok(stream)
    })
}

fn goes_on(bed: &Bed, stream: &mut TcpStream) {
    let mut back = [0; 11];
    let said = stream.write_all(b"still there").and_then(|()| stream.read_exact(&mut back));
    assert!(said.is_ok() && &back == b"still there", "{said:?}:\n{}", bed.site.describe());
}

/// Waits until such a node alone has the address, while these connections go on. Which one.
fn moves(
    bed: &Bed,
    vip: IpAddr,
    to: impl Fn(usize) -> bool,
    streams: &mut [&mut TcpStream],
) -> usize {
    let holder = wait::look_for(3 * wait::LIMIT, || {
        streams.iter_mut().for_each(|stream| goes_on(bed, stream));
        match bed.site.holders(vip).unwrap()[..] {
            [node] if to(node) => Some(node),
            _ => None,
        }
    });
    let holder = holder.unwrap_or_else(|| panic!("{vip} moves:\n{}", bed.site.describe()));
    // Neighbours hear of it again and again.
    for _ in 0..20 {
        streams.iter_mut().for_each(|stream| goes_on(bed, stream));
        thread::sleep(Duration::from_millis(100));
    }
    holder
}

#[test]
fn connections_that_the_kernel_passes_on_go_on_where_they_began_when_their_address_moves() {
    // So long that who ends before it ends because its connections have.
    let flags = ["--drain-timeout", "300"].map(str::to_owned).to_vec();
    let mut bed = Bed::empty(&gatehouse_testbed::group::Options {
        manifests: manifest(),
        flags,
        ..options()
    });
    assert_eq!(bed.site.stranger.v4().to_string(), ENDPOINT[0]);
    for node in &mut bed.site.nodes {
        node.host.run(&["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"]).unwrap();
        node.start().unwrap();
    }
    serve(&bed);
    bed.homes = bed.settle();
    let vips = KERNEL_VIPS.map(|vip| vip.parse::<IpAddr>().unwrap());
    let homes = vips.map(|vip| moves(&bed, vip, |_| true, &mut []));
    for (vip, owner) in vips.into_iter().zip(homes) {
        moves(&bed, vip, |node| node == owner, &mut []);
        let mut first = connect(&bed, vip);
        bed.site.nodes[owner].signal(Signal::TERM);
        let next = moves(&bed, vip, |node| node != owner, &mut [&mut first]);
        let mut second = connect(&bed, vip);
        assert!(bed.site.nodes[owner].runs(), "it waits:\n{}", bed.site.describe());
        goes_on(&bed, &mut first);
        drop(first);
        let ended = bed.site.nodes[owner].wait();
        assert!(ended.is_some_and(|status| status.success()), "{}", bed.site.describe());
        goes_on(&bed, &mut second);

        // And back, where the other node does not end.
        bed.site.nodes[owner].start().unwrap();
        moves(&bed, vip, |node| node == owner, &mut [&mut second]);
        let mut third = connect(&bed, vip);
        assert!(bed.site.nodes[next].drains(vip), "{}", bed.site.describe());

        // And again to the other node, which still has a connection of its own.
        bed.site.nodes[owner].signal(Signal::TERM);
        let both = &mut [&mut second, &mut third];
        moves(&bed, vip, |node| node == next, both);
        both.iter_mut().for_each(|stream| goes_on(&bed, stream));
        drop(third);
        assert!(bed.site.nodes[owner].wait().is_some(), "{}", bed.site.describe());
        goes_on(&bed, &mut second);
        drop(second);
        bed.whole();
    }
}
