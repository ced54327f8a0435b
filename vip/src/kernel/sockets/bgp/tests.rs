use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::connection::Received;
use super::*;
use crate::kernel::{
    tests::wire::{Wire, on_a_wire},
    wait::wait_to_write,
};

/// For anything that should happen at once; generous, as the machine may be busy.
const TIMEOUT: Duration = Duration::from_secs(20);
const PORT: u16 = 179;

fn key(text: &str) -> Option<Key> {
    Some(Key::new(text.as_bytes()).unwrap())
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Dials host `a` from host `b`.
fn to_a(to: &str) -> Dial {
    Dial { to: address(to), from: None, device: None, hops: Hops::Link, key: None }
}

/// The addresses by which `b` can dial `a`, and its own that it then has.
fn ways(wire: &Wire) -> [(SocketAddr, IpAddr); 3] {
    let scope = wire.scope("b");
    [
        (address("10.78.0.1:179"), "10.78.0.2".parse().unwrap()),
        (address("[2001:db8:78::1]:179"), "2001:db8:78::2".parse().unwrap()),
        (address(&format!("[fe80::1%{scope}]:179")), "fe80::2".parse().unwrap()),
    ]
}

fn listen(wire: &Wire, to: SocketAddr, keys: &[(&str, &str)]) -> Listener {
    wire.enter("a");
    let deadline = Instant::now() + TIMEOUT;
    let mut listener = loop {
        match Listener::open(Family::of(to.ip()), PORT) {
            // A program that another test is just starting still has a listener that was closed here.
            Err(ListenFailure::Taken(_)) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            opened => break opened.unwrap(),
        }
    };
    assert_eq!(listener.keys(&keys_of(keys)).len(), 0);
    listener
}

fn keys_of(keys: &[(&str, &str)]) -> BTreeMap<IpAddr, Key> {
    keys.iter().map(|(ip, text)| (ip.parse().unwrap(), key(text).unwrap())).collect()
}

/// Asks again and again for something that should come soon.
fn soon<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "it did not come: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Dials from `b`; what comes of it.
fn dialled(wire: &Wire, how: &Dial) -> io::Result<Connection> {
    wire.enter("b");
    let mut dialling = dial(how)?;
    wait_to_write(vec![(dialling.as_fd().unwrap(), true)], TIMEOUT);
    dialling.finish().unwrap_or_else(|| panic!("no end of {how:?}"))
}

/// Both ends of a new connection from `b` to `a`.
fn connect(wire: &Wire, listener: &Listener, how: &Dial, hops: Hops) -> (Connection, Connection) {
    let ours = dialled(wire, how).unwrap();
    let incoming = soon("a connection", || listener.accept().unwrap());
    (ours, incoming.admit(hops).unwrap())
}

/// Dials from `b` until a counter of a host says that the kernel has refused something.
fn assert_refused(wire: &Wire, listener: &Listener, how: &Dial, host: &str, counter: &str) {
    let before = wire.counter(host, counter);
    wire.enter("b");
    let mut dialling = dial(how).unwrap();
    soon(counter, || (wire.counter(host, counter) > before).then_some(()));
    assert!(dialling.finish().is_none(), "{how:?}");
    assert!(listener.accept().unwrap().is_none(), "{how:?}");
}

/// Waits, as the speaker does, until so many bytes have come or the peer has closed.
fn receive(connection: &mut Connection, len: usize, also: &mut [&mut Connection]) -> Vec<u8> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 65536]);
    soon(&format!("{len} bytes on {connection:?}"), || {
        for other in &mut *also {
            wait_to_write(vec![(other.as_fd(), other.queued() > 0)], Duration::from_millis(10));
            other.flush().unwrap();
        }
        match connection.receive(&mut buffer).unwrap() {
            Received::Bytes(len) => bytes.extend_from_slice(&buffer[..len]),
            Received::Nothing => return None,
            Received::Closed => return Some(()),
        }
        (bytes.len() >= len).then_some(())
    });
    bytes
}

fn assert_talk(one: &mut Connection, other: &mut Connection) {
    one.send(b"open").unwrap();
    assert_eq!(receive(other, 4, &mut [one]), b"open");
    other.send(b"keepalive").unwrap();
    assert_eq!(receive(one, 9, &mut [other]), b"keepalive");
}

#[test]
fn peers_with_the_same_key_talk_on_every_kind_of_address() {
    on_a_wire(|wire| {
        for (to, from) in ways(&wire) {
            for secret in [None, Some("s3cret")] {
                let keys: Vec<_> =
                    secret.map(|text| (from.to_string(), text)).into_iter().collect();
                let keys: Vec<_> = keys.iter().map(|(ip, text)| (ip.as_str(), *text)).collect();
                let listener = listen(&wire, to, &keys);
                let mut how = to_a("10.78.0.1:179");
                (how.to, how.from) = (to, Some(from));
                how.key = secret.and_then(key);
                let (mut ours, mut theirs) = connect(&wire, &listener, &how, Hops::Link);
                assert_eq!((ours.remote, ours.local.ip()), (to, from));
                assert_eq!((theirs.remote.ip(), theirs.local.ip()), (from, to.ip()));
                if let SocketAddr::V6(remote) = theirs.remote {
                    let on_link = remote.ip().is_unicast_link_local();
                    assert_eq!(remote.scope_id(), if on_link { wire.scope("a") } else { 0 });
                }
                assert_talk(&mut ours, &mut theirs);
                for (hold, timeout) in [(9, Some(Duration::from_secs(9))), (0, None)] {
                    ours.set_user_timeout(Duration::from_secs(hold)).unwrap();
                    assert_eq!(ours.user_timeout(), timeout);
                }
            }
        }
    });
}

#[test]
fn a_wrong_a_missing_and_an_unexpected_key_are_all_kept_out_by_the_kernel() {
    on_a_wire(|wire| {
        for (to, from) in ways(&wire) {
            let from_text = from.to_string();
            let cases: [(Option<&str>, Option<&str>, &str); 3] = [
                (Some("right"), Some("wrong"), "TCPMD5Failure"),
                (Some("right"), None, "TCPMD5NotFound"),
                (None, Some("right"), "TCPMD5Unexpected"),
            ];
            for (listens, dials, counter) in cases {
                let keys: Vec<_> =
                    listens.map(|text| (from_text.as_str(), text)).into_iter().collect();
                let listener = listen(&wire, to, &keys);
                let mut how = to_a("10.78.0.1:179");
                (how.to, how.from, how.key) = (to, Some(from), dials.and_then(key));
                assert_refused(&wire, &listener, &how, "a", counter);
                how.key = listens.and_then(key);
                connect(&wire, &listener, &how, Hops::Link);
            }
        }
    });
}

#[test]
fn a_listener_has_a_key_for_each_peer_and_takes_changes_without_touching_open_connections() {
    on_a_wire(|wire| {
        let to = address("10.78.0.1:179");
        let mut listener = listen(&wire, to, &[("10.78.0.2", "two"), ("10.78.0.3", "three")]);
        let from = |ip: &str, secret: Option<&str>| {
            let (from, key) = (Some(ip.parse().unwrap()), secret.and_then(key));
            Dial { from, key, ..to_a("10.78.0.1:179") }
        };
        let two = from("10.78.0.2", Some("two"));
        let (mut ours, mut theirs) = connect(&wire, &listener, &two, Hops::Link);
        connect(&wire, &listener, &from("10.78.0.3", Some("three")), Hops::Link);
        connect(&wire, &listener, &from("10.78.0.4", None), Hops::Link);
        let crossed = from("10.78.0.3", Some("two"));
        assert_refused(&wire, &listener, &crossed, "a", "TCPMD5Failure");

        // One changes, one goes, one comes; that of an IPv6 peer is not this listener's.
        let changed = [("10.78.0.2", "new"), ("10.78.0.4", "four"), ("2001:db8:78::2", "six")];
        assert_eq!(listener.keys(&keys_of(&changed)).len(), 0);
        assert_refused(&wire, &listener, &two, "a", "TCPMD5Failure");
        connect(&wire, &listener, &from("10.78.0.2", Some("new")), Hops::Link);
        connect(&wire, &listener, &from("10.78.0.3", None), Hops::Link);
        connect(&wire, &listener, &from("10.78.0.4", Some("four")), Hops::Link);
        let bare = from("10.78.0.4", None);
        assert_refused(&wire, &listener, &bare, "a", "TCPMD5NotFound");
        assert_talk(&mut ours, &mut theirs);
    });
}

#[test]
fn a_secured_link_takes_ttl_255_alone_from_the_first_packet_on() {
    on_a_wire(|wire| {
        for (to, _) in ways(&wire) {
            let listener = listen(&wire, to, &[]);
            let mut how = Dial { to, hops: Hops::Within(254), ..to_a("10.78.0.1:179") };
            let mut far = dialled(&wire, &how).unwrap();
            let incoming = soon("the far one", || listener.accept().unwrap());
            let refused = incoming.admit(Hops::SecuredLink).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
            assert!(refused.to_string().ends_with("with TTL 254, not 255"), "{refused}");
            let ended = soon("the end", || far.receive(&mut [0; 16]).err());
            assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset);

            how.hops = Hops::SecuredLink;
            let (mut ours, mut theirs) = connect(&wire, &listener, &how, Hops::SecuredLink);
            assert_talk(&mut ours, &mut theirs);

            // A host further away that sends into the connection is not heard.
            let before = wire.counter("a", "TCPMinTTLDrop");
            ours.hops(Hops::Within(254));
            ours.send(b"forged").unwrap();
            soon("a drop", || (wire.counter("a", "TCPMinTTLDrop") > before).then_some(()));
            assert_eq!(theirs.receive(&mut [0; 16]).unwrap(), Received::Nothing);
        }
    });
}

#[test]
fn who_dials_a_secured_link_does_not_hear_an_answer_from_further_away() {
    on_a_wire(|wire| {
        for (to, _) in ways(&wire) {
            let listener = listen(&wire, to, &[]);
            let listening = SockRef::from(&listener.socket);
            Hops::Within(254).apply(&listening, to.is_ipv6()).unwrap();
            let how = Dial { to, hops: Hops::SecuredLink, ..to_a("10.78.0.1:179") };
            assert_refused(&wire, &listener, &how, "b", "TCPMinTTLDrop");
            Hops::Link.apply(&listening, to.is_ipv6()).unwrap();
            connect(&wire, &listener, &how, Hops::SecuredLink);
        }
    });
}

#[test]
fn packets_are_network_control_from_the_first_one_on() {
    on_a_wire(|wire| {
        for (to, _) in ways(&wire) {
            let listener = listen(&wire, to, &[]);
            let _ours = dialled(&wire, &Dial { to, ..to_a("10.78.0.1:179") }).unwrap();
            let (stream, _) = soon("a connection", || listener.socket.accept().ok());
            let mut syn = [0; 256];
            let syn =
                options::get(&stream, libc::IPPROTO_TCP, libc::TCP_SAVED_SYN, &mut syn).unwrap();
            let class = match to.is_ipv6() {
                false => syn[1],
                true => syn[0] << 4 | syn[1] >> 4,
            };
            assert_eq!(class, 0xc0);
        }
    });
}

#[test]
fn a_port_that_another_speaker_has_is_told_in_words() {
    on_a_wire(|wire| {
        for to in ["10.78.0.1:179", "[2001:db8:78::1]:179"].map(address) {
            let listener = listen(&wire, to, &[]);
            assert_eq!(listener.local().unwrap().port(), PORT);
            let taken = Listener::open(Family::of(to.ip()), PORT).err().unwrap();
            assert!(matches!(taken, ListenFailure::Taken(PORT)), "{taken:?}");
            assert!(taken.to_string().contains("TCP port 179 is taken"), "{taken}");
            drop(listener);
            listen(&wire, to, &[]);
        }
    });
}

#[test]
fn a_connection_can_be_bound_to_an_interface() {
    on_a_wire(|wire| {
        for (to, _) in ways(&wire) {
            let listener = listen(&wire, to, &[]);
            let mut how = Dial { to, device: Some("eth0".to_owned()), ..to_a("10.78.0.1:179") };
            connect(&wire, &listener, &how, Hops::Link);
            how.device = Some("eth9".to_owned());
            let error = dialled(&wire, &how).unwrap_err();
            assert!(error.to_string().starts_with("cannot bind to interface eth9: "), "{error}");
        }
    });
}

#[test]
fn a_dial_that_fails_says_what_and_where() {
    on_a_wire(|wire| {
        let error = dialled(&wire, &to_a("10.78.0.1:179")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().starts_with("cannot connect to 10.78.0.1:179: "), "{error}");
        let foreign = Dial { from: "10.78.0.9".parse().ok(), ..to_a("10.78.0.1:179") };
        let error = dialled(&wire, &foreign).unwrap_err();
        assert!(error.to_string().starts_with("cannot dial from 10.78.0.9: "), "{error}");
        let error = dialled(&wire, &to_a("192.0.2.1:179")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NetworkUnreachable);
    });
}

#[test]
fn what_waits_for_a_peer_that_does_not_read_is_bounded_and_arrives_in_order() {
    on_a_wire(|wire| {
        let listener = listen(&wire, address("10.78.0.1:179"), &[]);
        let (mut ours, mut theirs) = connect(&wire, &listener, &to_a("10.78.0.1:179"), Hops::Link);
        let mut sent = Vec::new();
        let refused = loop {
            let message = u32::try_from(sent.len()).unwrap().to_be_bytes().repeat(1024);
            match ours.send(&message) {
                Ok(()) => sent.extend(message),
                Err(error) => break error,
            }
            assert!(sent.len() < 64 << 20, "no limit");
        };
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert!(refused.to_string().contains("10.78.0.1:179 does not read"), "{refused}");
        let heard = receive(&mut theirs, sent.len(), &mut [&mut ours]);
        assert!(heard == sent, "{} bytes of {}", heard.len(), sent.len());
        assert_eq!(ours.queued(), 0);
        assert_talk(&mut ours, &mut theirs);
    });
}

#[test]
fn the_last_word_is_heard_by_a_peer_whose_own_words_were_not_read() {
    on_a_wire(|wire| {
        let listener = listen(&wire, address("10.78.0.1:179"), &[]);
        let (mut ours, mut theirs) = connect(&wire, &listener, &to_a("10.78.0.1:179"), Hops::Link);
        theirs.send(&[7; 60_000]).unwrap();
        soon("all is sent", || {
            theirs.flush().map(|_| (theirs.queued() == 0).then_some(())).unwrap()
        });
        ours.send(b"cease").unwrap();
        let mut closing = ours.close();
        assert!(!closing.done(), "the other end is open");
        assert!(!closing.writes());
        let heard = receive(&mut theirs, usize::MAX, &mut []);
        drop(theirs);
        soon("the end", || closing.done().then_some(()));
        assert_eq!(heard, b"cease");
    });
}

#[test]
fn each_interface_has_a_key_of_its_own_for_one_link_local_address_on_all_of_them() {
    on_a_wire(|wire| {
        // A second wire, with the same addresses at its ends.
        wire.second();
        wire.enter("a");
        let mut any = listen(&wire, address("[2001:db8:78::1]:179"), &[]);
        let on = |interface: &str, secret: &str| {
            any.share(true).unwrap();
            let opened =
                Listener::open_on(wire.scope_of("a", interface), PORT, key(secret).unwrap());
            any.share(false).unwrap();
            opened.unwrap()
        };
        let doors = [on("eth0", "zero"), on("eth1", "one")];
        let way = |interface: &str, secret: Option<&str>| {
            let to = address(&format!("[fe80::1%{}]:179", wire.scope_of("b", interface)));
            let (from, key) = ("fe80::2".parse().ok(), secret.and_then(key));
            Dial { to, from, key, ..to_a("10.78.0.1:179") }
        };
        for (door, interface, right, wrong) in
            [(&doors[0], "eth0", "zero", "one"), (&doors[1], "eth1", "one", "zero")]
        {
            let how = way(interface, Some(wrong));
            assert_refused(&wire, door, &how, "a", "TCPMD5Failure");
            assert_refused(&wire, door, &way(interface, None), "a", "TCPMD5NotFound");
            let _ours = dialled(&wire, &way(interface, Some(right))).unwrap();
            let incoming = soon("a connection", || door.accept().unwrap());
            assert!(incoming.signed, "on {interface}");
        }
        // A router with a global address on the same interface meets the same listener.
        let [mut first, second] = doors;
        let global = Dial { from: "2001:db8:78::2".parse().ok(), ..to_a("[2001:db8:78::1]:179") };
        let _ours = dialled(&wire, &global).unwrap();
        assert!(!soon("a connection", || first.accept().unwrap()).signed);
        assert_eq!(first.keys(&keys_of(&[("2001:db8:78::2", "six")])).len(), 0);
        assert_refused(&wire, &first, &global, "a", "TCPMD5NotFound");
        let _ours = dialled(&wire, &Dial { key: key("six"), ..global }).unwrap();
        assert!(soon("a connection", || first.accept().unwrap()).signed);
        // Without the listener of the interface nothing is signed, which shows.
        drop(second);
        assert_eq!(any.keys(&BTreeMap::new()).len(), 0);
        let _ours = dialled(&wire, &way("eth1", None)).unwrap();
        assert!(!soon("a connection", || any.accept().unwrap()).signed);
        wire.enter("a");
        let taken = Listener::open(Family::V6, PORT).err().unwrap();
        assert!(matches!(taken, ListenFailure::Taken(PORT)), "the port is not shared any more");
    });
}

#[test]
fn who_dialled_before_the_key_was_known_has_to_dial_again() {
    on_a_wire(|wire| {
        let mut listener = listen(&wire, address("10.78.0.1:179"), &[]);
        let mut early = dialled(&wire, &to_a("10.78.0.1:179")).unwrap();
        wait_to_write(vec![(listener.as_fd(), false)], TIMEOUT);
        assert_eq!(listener.keys(&keys_of(&[("10.78.0.2", "two")])).len(), 0);
        assert!(listener.accept().unwrap().is_none());
        let ended = soon("the end", || early.receive(&mut [0; 16]).err());
        assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_key_is_from_1_to_80_bytes_and_never_shown() {
    assert!(Key::new(b"").is_none());
    assert!(Key::new(&[b'x'; 81]).is_none());
    assert_eq!(format!("{:?}", Key::new(&[b'x'; 80]).unwrap()), "Key(…)");
}
