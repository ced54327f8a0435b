use proptest::prelude::*;

use super::{fuzzing::parse, *};

fn ends(client: &str, server: &str) -> Header {
    let (client, server) = (client.parse().unwrap(), server.parse().unwrap());
    Header { ends: Some(Ends { client, server }), tls: false }
}

const OWN: Header = Header { ends: None, tls: false };

fn v2(what: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = V2.to_vec();
    bytes.extend([what, family]);
    bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    bytes.extend(rest);
    bytes
}

const FOUR: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x30, 0x39, 0x01, 0xbb];

#[test]
fn what_load_balancers_say_is_understood_and_what_follows_is_left() {
    let mut six = [0; 36];
    six[..2].copy_from_slice(&[0x20, 0x01]);
    (six[15], six[31], six[33], six[35]) = (7, 1, 9, 80);
    let mut mapped = [0; 36];
    mapped[10..16].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 1]);
    let tls = [&FOUR[..], &[0x20, 0, 5, 1, 0, 0, 0, 0], &[0xe0, 0, 2, 1, 2]].concat();
    let resumed = [&FOUR[..], &[0x20, 0, 5, 0, 0, 0, 0, 0]].concat();
    let four = ends("192.0.2.7:12345", "198.51.100.1:443");
    let cases: Vec<(Vec<u8>, Header)> = vec![
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 443\r\n".to_vec(), four),
        (b"PROXY TCP6 2001::7 ::1 9 80\r\n".to_vec(), ends("[2001::7]:9", "[::1]:80")),
        (b"PROXY TCP6 ::ffff:10.0.0.1 ::1 9 80\r\n".to_vec(), ends("10.0.0.1:9", "[::1]:80")),
        (b"PROXY UNKNOWN\r\n".to_vec(), OWN),
        (b"PROXY UNKNOWN whatever it says\r\n".to_vec(), OWN),
        (v2(0x21, 0x11, &FOUR), four),
        (v2(0x21, 0x21, &six), ends("[2001::7]:9", "[::1]:80")),
        (v2(0x21, 0x21, &mapped), ends("10.0.0.1:0", "[::]:0")),
        (v2(0x21, 0x11, &tls), Header { tls: true, ..four }),
        (v2(0x21, 0x11, &resumed), four),
        (v2(0x21, 0x00, b"anything"), OWN),
        (v2(0x21, 0x31, &[0; 216]), OWN),
        (v2(0x20, 0x00, &[]), OWN),
        (v2(0x20, 0x11, &FOUR), OWN),
        (own_header(Version::V1), OWN),
        (own_header(Version::V2), OWN),
    ];
    for (header, wanted) in cases {
        for follows in [&b""[..], b"GET / HTTP/1.1\r\n", b"\r\n", b"\n"] {
            let bytes = [&header[..], follows].concat();
            assert_eq!(parse(&bytes), Ok(Some((wanted, header.len()))), "{bytes:?}");
        }
        for cut in 0..header.len() {
            assert_eq!(parse(&header[..cut]), Ok(None), "{cut} bytes of {header:?}");
        }
    }
}

#[test]
fn what_is_not_exactly_a_header_is_refused() {
    let lines = [
        "PROXY  TCP4 192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY TCP4  192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 \r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 +1 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 -1 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n",
        "PROXY TCP4 192.0.2.07 198.51.100.1 1 2\r\n",
        "PROXY TCP4 192.0.2.7/8 198.51.100.1 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "PROXY TCP4 host.example 198.51.100.1 1 2\r\n",
        "PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY tcp4 192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY TCP4\t192.0.2.7 198.51.100.1 1 2\r\n",
        "PROXY UNKNOWN\r\r\n",
        "PROXY UNKNOWN \0\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n      \r\n",
    ];
    for line in lines {
        assert_eq!(parse(line.as_bytes()), Err(Malformed::Line), "{line:?}");
    }
    for other in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\0",
        b"proxy TCP4 1",
        b"PROXY\tTCP4 1",
        b"\r\n\r\n\r\n\r\n\r\n\r\n",
    ] {
        assert_eq!(parse(other), Err(Malformed::NoHeader), "{other:?}");
    }
    let long = format!("PROXY UNKNOWN {}", "x".repeat(200));
    assert_eq!(parse(long.as_bytes()), Err(Malformed::TooLong));
    assert_eq!(parse(&v2(0x21, 0x00, &[0; 4097])), Err(Malformed::TooLong));
    for binary in [
        v2(0x11, 0x11, &FOUR),
        v2(0x22, 0x11, &FOUR),
        v2(0x21, 0x12, &FOUR),
        v2(0x21, 0x22, &[0; 36]),
        v2(0x21, 0x41, &FOUR),
        v2(0x21, 0x11, &FOUR[..11]),
        v2(0x21, 0x21, &FOUR),
        v2(0x21, 0x31, &[0; 215]),
        v2(0x21, 0x11, &[&FOUR[..], &[0x20, 0]].concat()),
        v2(0x21, 0x11, &[&FOUR[..], &[0x20, 0, 9, 1]].concat()),
        v2(0x21, 0x11, &[&FOUR[..], &[0x20, 0, 0]].concat()),
    ] {
        assert_eq!(parse(&binary), Err(Malformed::Binary), "{binary:?}");
    }
}

proptest! {
    /// Whatever comes, in whatever pieces: no panic, an end within bounds, and never a byte behind the header.
    #[test]
    fn any_bytes_come_to_an_end(
        begins in prop_oneof![Just(&b""[..]), Just(V1), Just(&V2[..]), Just(&b"PROXY TCP4 "[..])],
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = [begins, &rest].concat();
        if let Ok(Some((_, took))) = parse(&bytes) {
            prop_assert!(took <= bytes.len() && took <= V2_HEAD + MAX_V2);
        }
        prop_assert!(!matches!(step(&bytes), Ok(Step::Read(0) | Step::ReadLine(0))));
    }

    /// A header with one byte changed says something else or nothing, and never takes more than was there.
    #[test]
    fn a_changed_byte_is_never_misread_as_more(at in 0..28usize, byte: u8) {
        let mut bytes = v2(0x21, 0x11, &FOUR);
        bytes[at] = byte;
        if let Ok(Some((_, took))) = parse(&bytes) {
            prop_assert!(took <= bytes.len());
        }
    }

    #[test]
    fn every_pair_of_addresses_is_read_back(a: [u8; 4], b: [u8; 4], from: u16, to: u16) {
        let (client, server) = (Ipv4Addr::from(a), Ipv4Addr::from(b));
        let wanted = ends(&format!("{client}:{from}"), &format!("{server}:{to}"));
        let line = format!("PROXY TCP4 {client} {server} {from} {to}\r\n");
        prop_assert_eq!(parse(line.as_bytes()), Ok(Some((wanted, line.len()))));
        let rest = [&a[..], &b, &from.to_be_bytes(), &to.to_be_bytes()].concat();
        let binary = v2(0x21, 0x11, &rest);
        prop_assert_eq!(parse(&binary), Ok(Some((wanted, binary.len()))));
    }

    /// What is told here is understood by a reader as strict.
    #[test]
    fn what_is_told_is_read_back(
        client in any::<IpAddr>(),
        server in any::<IpAddr>(),
        from: u16,
        to: u16,
    ) {
        let wanted = Ends { client: end(client, from), server: end(server, to) };
        for version in [Version::V1, Version::V2] {
            let bytes = header(version, wanted);
            prop_assert!(version == Version::V2 || bytes.len() <= MAX_LINE);
            let told = Header { ends: Some(wanted), tls: false };
            prop_assert_eq!(parse(&bytes), Ok(Some((told, bytes.len()))), "{:?}", bytes);
        }
    }
}

proptest! {
    #[test]
    fn what_holds_of_every_beginning_holds(bytes in prop::collection::vec(any::<u8>(), 0..200), v2: bool) {
        fuzzing::beginning(&bytes);
        let begin: &[u8] = if v2 { V2 } else { V1 };
        fuzzing::beginning(&[begin, &bytes].concat());
    }
}
