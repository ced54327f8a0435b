//! The io files on a real kernel: each test has a network namespace of its own, in which its thread
//! lives. Needs root and `ip`.

#![allow(
    unsafe_code,
    clippy::disallowed_methods,
    reason = "unshare(2) moves a test's thread into a namespace; tests wait"
)]

pub(crate) mod wire;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    kernel::{
        netlink::{Netlink, Notices},
        sockets::frames::{FrameSocket, FrameWatch, Resolution},
        sysctl::SharedSysctls,
        wait::{EventFd, wait},
    },
    l2::{arp, ndp},
    links::{
        OnLink, Origin,
        change::{Change, FailureKind},
        notice::Notice,
    },
};

const LIFETIME: Duration = Duration::from_secs(30);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

/// Runs a test where there are only `lo`, and `eth0` and `eth1` at the ends of one cable.
fn alone(test: impl FnOnce() + Send + 'static) {
    let lives = std::thread::spawn(move || {
        // SAFETY: changes nothing but the network namespace of this thread.
        let left = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(left, 0, "{} (needs root)", std::io::Error::last_os_error());
        ip("link set lo up");
        ip("link add eth0 type veth peer name eth1");
        ip("link set eth0 up");
        ip("link set eth1 up");
        test();
    });
    lives.join().unwrap();
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

fn index(name: &str) -> u32 {
    let shown = Command::new("ip").args(["-o", "link", "show", name]).output().unwrap().stdout;
    let shown = String::from_utf8(shown).unwrap();
    shown.split(':').next().unwrap().parse().unwrap_or_else(|_| panic!("no index in {shown}"))
}

fn vips(count: u16) -> Vec<IpAddr> {
    let vip = |n: u16| match n % 2 {
        0 => IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + u32::from(n) + 1)),
        _ => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, n)),
    };
    (0..count).map(vip).collect()
}

/// The notices that come within a second after the first, or within half a minute if none does.
fn notices(netlink: &mut Netlink) -> Vec<Notice> {
    let mut all = Vec::new();
    let deadline = Instant::now() + LIFETIME;
    while all.is_empty() && Instant::now() < deadline {
        wait(vec![netlink.watch()], Duration::from_millis(100));
        match netlink.notices().unwrap() {
            Notices::Changes(changes) => all.extend(changes),
            Notices::Lost => panic!("notices were lost"),
        }
    }
    all
}

#[test]
fn a_thousand_addresses_come_are_renewed_and_go_in_the_order_asked() {
    alone(|| {
        let mut netlink = Netlink::open().unwrap();
        let (index, vips) = (index("eth0"), vips(1000));
        let add = |ip| Change::Add { index, ip, lifetime: LIFETIME };
        let adds: Vec<_> = vips.iter().copied().map(add).collect();
        assert_eq!(netlink.change(&adds), vec![Ok(()); 1000]);
        let links = netlink.links().unwrap();
        for &ip in &vips {
            let entries: Vec<_> = links.on(index, ip).collect();
            assert_eq!(entries, [(OnLink::host(index, ip), Origin::Ours)]);
        }
        let renew = |&ip| Change::Renew { index, ip, lifetime: LIFETIME };
        let renewals: Vec<_> = vips.iter().map(renew).collect();
        assert_eq!(netlink.change(&renewals), vec![Ok(()); 1000]);
        assert_eq!(netlink.links().unwrap(), links, "a renewal changes nothing that shows");

        let mixed: Vec<_> =
            vips.iter().flat_map(|&ip| [Change::Delete { index, ip }, add(ip)]).collect();
        assert_eq!(netlink.change(&mixed), vec![Ok(()); 2000]);
        let deletions: Vec<_> = vips.iter().map(|&ip| Change::Delete { index, ip }).collect();
        assert_eq!(netlink.change(&deletions), vec![Ok(()); 1000]);
        let links = netlink.links().unwrap();
        assert!(vips.iter().all(|&ip| !links.has(index, ip)));
    });
}

#[test]
fn each_change_fails_for_itself_and_says_how() {
    alone(|| {
        let mut netlink = Netlink::open().unwrap();
        let index = index("eth0");
        let [first, second] = [vips(2)[0], vips(2)[1]];
        let add = |ip| Change::Add { index, ip, lifetime: LIFETIME };
        let outcomes = netlink.change(&[
            add(first),
            add(first),
            Change::Delete { index, ip: second },
            Change::Add { index: 4711, ip: second, lifetime: LIFETIME },
            add(second),
        ]);
        let kinds: Vec<_> =
            outcomes.into_iter().map(|outcome| outcome.map_err(|why| why.kind)).collect();
        let (exists, gone) = (Err(FailureKind::Exists), Err(FailureKind::Gone));
        assert_eq!(kinds, [Ok(()), exists, gone, gone, Ok(())]);
    });
}

#[test]
fn what_is_not_renewed_is_removed_by_the_kernel_and_that_is_noticed() {
    alone(|| {
        let mut netlink = Netlink::open().unwrap();
        let (index, vips) = (index("eth0"), vips(2));
        // Whole seconds, rounded up.
        let lifetime = Duration::from_millis(1500);
        let add = |&ip| Change::Add { index, ip, lifetime };
        assert_eq!(netlink.change(&vips.iter().map(add).collect::<Vec<_>>()), [Ok(()), Ok(())]);
        let mut gone = BTreeSet::new();
        while gone.len() < 2 {
            for notice in notices(&mut netlink) {
                // The links' own addresses come meanwhile.
                if let Notice::AddressGone(address) = notice {
                    gone.insert(address.ip);
                }
            }
        }
        assert_eq!(gone, vips.into_iter().collect());
    });
}

#[test]
fn the_changes_of_others_are_noticed_and_our_own_are_not() {
    alone(|| {
        // Duplicate address detection of the links' own addresses ends in notices as well.
        std::thread::sleep(Duration::from_secs(3));
        let mut netlink = Netlink::open().unwrap();
        let (index, vips) = (index("eth0"), vips(2));
        for &ip in &vips {
            let add = Change::Add { index, ip, lifetime: LIFETIME };
            let renew = Change::Renew { index, ip, lifetime: LIFETIME };
            assert_eq!(netlink.change(&[add, renew, renew]), [Ok(()), Ok(()), Ok(())]);
        }
        ip("addr add 10.1.0.1/24 dev eth0");
        let subnet = OnLink { index, ip: "10.1.0.1".parse().unwrap(), prefix: 24 };
        assert_eq!(notices(&mut netlink), [Notice::Address(subnet, Origin::Unknown)]);
        ip("addr del 10.0.0.1/32 dev eth0");
        let vip = OnLink::host(index, vips[0]);
        assert_eq!(notices(&mut netlink), [Notice::AddressGone(vip)]);
        ip("link set eth0 name renamed");
        let noticed = notices(&mut netlink);
        assert!(
            matches!(&noticed[..], [Notice::Link(link), ..] if link.name == "renamed"),
            "{noticed:?}"
        );
        ip("link del renamed");
        let noticed: Vec<_> = std::iter::repeat_with(|| notices(&mut netlink))
            .take_while(|noticed| !noticed.is_empty())
            .flatten()
            .take_while(|notice| notice != &Notice::LinkGone(index))
            .collect();
        assert!(
            noticed.contains(&Notice::AddressGone(OnLink::host(index, vips[1]))),
            "{noticed:?}"
        );
    });
}

#[test]
fn frames_that_claim_addresses_come_in_and_others_do_not() {
    alone(|| {
        let (from, to) = (index("eth0"), index("eth1"));
        let mut watch = FrameWatch::default();
        watch.follow(&[(to, Resolution::Arp), (to, Resolution::Ndp)].into()).unwrap();
        let (v4, v6) = (Ipv4Addr::new(10, 0, 0, 9), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9));
        let [request, reply] = arp::gratuitous(MAC, v4);
        let mut ordinary = request.clone();
        ordinary[41] = 1; // the last byte of the target's address
        let solicitation = ndp::probe(MAC, v6);
        let mut resolving = solicitation.clone();
        resolving[14 + 8] = 0xfe; // the source is no longer ::
        let claims =
            vec![request, reply, arp::probe(MAC, v4), ndp::unsolicited(MAC, v6), solicitation];
        let mut sender = FrameSocket::default();
        for frame in [&vec![ordinary, resolving], &claims].into_iter().flatten() {
            sender.send(from, frame).unwrap();
        }
        let mut heard = BTreeSet::new();
        let deadline = Instant::now() + LIFETIME;
        while heard.len() < claims.len() && Instant::now() < deadline {
            wait(watch.sockets().collect(), Duration::from_millis(100));
            watch.receive(|index, frame| {
                assert_eq!(index, to);
                // The kernel itself advertises what it has.
                if frame[6..12] == MAC {
                    heard.insert(frame.to_vec());
                }
            });
        }
        assert_eq!(heard, claims.into_iter().collect());
    });
}

#[test]
fn an_interface_answers_strictly_until_it_is_put_back() {
    alone(|| {
        let path = |setting| format!("/proc/sys/net/ipv4/conf/eth0/{setting}");
        let read = |setting| std::fs::read_to_string(path(setting)).unwrap().trim().to_owned();
        std::fs::write(path("arp_ignore"), "2").unwrap();
        let sysctls = SharedSysctls::default();
        let (l2, bgp) = (sysctls.user(), sysctls.user());
        l2.apply("eth0").unwrap();
        bgp.apply("eth0").unwrap();
        assert_eq!([read("arp_ignore"), read("arp_announce")], ["2", "2"], "stricter stays");
        let error = l2.apply("eth9").unwrap_err();
        assert!(error.to_string().contains("/eth9/arp_ignore: No such file"), "{error}");
        l2.restore();
        assert_eq!(read("arp_announce"), "2", "the other speaker needs it");
        bgp.restore();
        assert_eq!([read("arp_ignore"), read("arp_announce")], ["2", "0"]);
    });
}

#[test]
fn the_last_of_several_processes_puts_an_interface_back_as_the_first_found_it() {
    alone(|| {
        let path = |setting| format!("/proc/sys/net/ipv4/conf/eth0/{setting}");
        let read = |setting| std::fs::read_to_string(path(setting)).unwrap().trim().to_owned();
        let both = || [read("arp_ignore"), read("arp_announce")];
        let folder = tempfile::tempdir().unwrap();
        let process = || SharedSysctls::noted_in(folder.path());

        // Leaves everything to its successor, or was killed.
        process().user().apply("eth0").unwrap();
        let second = process().user();
        second.apply("eth0").unwrap();
        assert_eq!(both(), ["1", "2"]);
        second.restore();
        assert_eq!(both(), ["0", "0"], "not what the second process has found");
        assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "the note has gone");

        // The next one has no use for the interface: it is put back all the same.
        process().user().apply("eth0").unwrap();
        process().user().restore();
        assert_eq!(both(), ["0", "0"]);

        // What the operator has set meanwhile is the operator's, and so is what was there before the note.
        process().user().apply("eth0").unwrap();
        std::fs::write(path("arp_ignore"), "2").unwrap();
        process().user().restore();
        assert_eq!(both(), ["2", "0"]);

        // Of another boot, or nobody's: names and values that no process has written lead nowhere.
        let note = folder.path().join("sysctls");
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        std::fs::write(path("arp_announce"), "2").unwrap();
        for text in [
            "another-boot\neth0 arp_announce 0\n".to_owned(),
            format!("{boot}../eth0 arp_announce 0\neth0 arp_announce -1\neth0 forwarding 0\n"),
        ] {
            std::fs::write(&note, text).unwrap();
            process().user().restore();
            assert_eq!(read("arp_announce"), "2");
        }
    });
}

#[test]
fn a_bell_ends_the_present_wait_or_the_next_until_it_is_hushed() {
    use std::os::fd::AsFd;
    let wake = EventFd::new().unwrap();
    let rings = |longest| {
        let since = Instant::now();
        wait(vec![wake.as_fd()], longest);
        since.elapsed() < longest
    };
    wake.notify();
    wake.notify();
    assert!(rings(LIFETIME) && rings(LIFETIME));
    wake.clear();
    wake.clear();
    assert!(!rings(Duration::from_millis(200)));
}

#[test]
fn an_address_takes_packets_when_it_was_added_and_while_it_moves_to_loopback() {
    alone(|| {
        let mut netlink = Netlink::open().unwrap();
        let (link, lo) = (index("eth0"), index("lo"));
        // Only an address with a local route is reached from itself.
        let taken = |ip: IpAddr| {
            let socket = std::net::UdpSocket::bind("[::]:0").unwrap();
            socket.connect((ip, 9)).is_ok() && socket.local_addr().unwrap().ip() == ip
        };
        let vips: Vec<IpAddr> = vips(600).into_iter().filter(IpAddr::is_ipv6).collect();
        for ip in &vips {
            let add = Change::Add { index: link, ip: *ip, lifetime: LIFETIME };
            assert!(netlink.change(&[add])[0].is_ok());
            assert!(taken(*ip), "{ip} was added");
        }
        for ip in vips {
            let moves = [
                Change::Add { index: lo, ip, lifetime: LIFETIME },
                Change::Delete { index: link, ip },
            ];
            assert!(netlink.change(&moves).iter().all(Result::is_ok));
            assert!(taken(ip), "{ip} moved to the loopback interface");
        }
    });
}
