use proptest::prelude::*;
use proptest::{collection::vec, option};

use super::*;

fn key() -> GroupKey {
    GroupKey::new(b"a secret of the wire tests").unwrap()
}

fn entry() -> impl Strategy<Value = (IpAddr, Entry)> {
    let flags = any::<[bool; 6]>();
    (any::<IpAddr>(), any::<[u32; 2]>(), any::<u8>(), flags).prop_map(
        |(ip, [preference, tenants], terms, flags)| {
            let [eligible, active, draining, routed, leaving, partial] = flags;
            let entry = Entry {
                preference,
                tenants,
                eligible,
                active,
                draining,
                routed,
                leaving,
                partial,
                terms,
            };
            (ip, entry)
        },
    )
}

fn chunk() -> impl Strategy<Value = Chunk> {
    (0..4_u16, vec(entry(), 0..45))
        .prop_map(|(index, entries)| Chunk { index, entries: entries.into() })
}

fn echo() -> impl Strategy<Value = Echo> {
    (any::<[u8; 7]>(), any::<u32>(), any::<u32>(), any::<bool>())
        .prop_map(|(prefix, sequence, known, follows)| Echo { prefix, sequence, known, follows })
}

fn facts() -> impl Strategy<Value = LinkFacts> {
    (any::<[u8; 6]>(), any::<Option<Ipv4Addr>>(), any::<Option<Ipv6Addr>>())
        .prop_map(|(mac, v4, v6)| LinkFacts { mac, v4, v6 })
}

fn message() -> impl Strategy<Value = Message> {
    let sender = (any::<[u8; 16]>(), any::<u64>(), any::<bool>(), any::<bool>());
    let table = (1..u32::MAX, 4..=MOST_CHUNKS as u16);
    let rest = (option::of(vec(echo(), 0..=MOST_ECHOES)), any::<bool>(), option::of(chunk()));
    (sender, facts(), "[a-z0-9.-]{1,253}", table, rest).prop_map(
        |(sender, facts, node, (version, chunks), (echoes, partial, chunk))| {
            let (incarnation, sequence, draining, serving) = sender;
            let node = node.into();
            Message {
                incarnation,
                sequence,
                draining,
                serving,
                facts,
                node,
                version,
                chunks,
                echoes,
                partial,
                chunk,
            }
        },
    )
}

/// Sealed with the right key, whatever it says.
fn open(mut bytes: Vec<u8>) -> Result<Message, &'static str> {
    key().seal(&mut bytes);
    Message::open(&bytes, &key())
}

fn example() -> Message {
    Message {
        incarnation: *b"0123456789abcdef",
        sequence: 258,
        draining: true,
        serving: false,
        facts: LinkFacts {
            mac: [2, 0, 0, 0, 0, 7],
            v4: Some(Ipv4Addr::new(192, 0, 2, 7)),
            v6: None,
        },
        node: "node-7".into(),
        version: 3,
        chunks: 2,
        echoes: Some(vec![Echo { prefix: *b"ABCDEFG", sequence: 9, known: 4, follows: true }]),
        partial: false,
        chunk: Some(Chunk {
            index: 1,
            entries: [(
                IpAddr::from([192, 0, 2, 200]),
                Entry {
                    preference: 50,
                    tenants: 0x0102_0304,
                    eligible: true,
                    active: false,
                    draining: true,
                    routed: true,
                    leaving: false,
                    partial: false,
                    terms: 3,
                },
            )]
            .into(),
        }),
    }
}

fn unsealed(message: &Message) -> Vec<u8> {
    let mut bytes = message.seal(&key());
    bytes.truncate(bytes.len() - SEAL);
    bytes
}

#[test]
fn a_datagram_has_the_bytes_that_the_table_says() {
    let mut expected = b"GHG\x020123456789abcdef".to_vec();
    expected.extend([0, 0, 0, 0, 0, 0, 1, 2]); // sequence
    expected.push(1 | 4 | 16 | 32); // draining, IPv4, echoes, chunk
    expected.extend([0, 0, 0, 3, 0, 2]); // version, chunks
    expected.extend([2, 0, 0, 0, 0, 7, 192, 0, 2, 7]);
    expected.extend(b"\x06node-7");
    expected.extend(b"\x01ABCDEFG\x01\0\0\0\x09\0\0\0\x04");
    expected.extend([0, 1, 1, 1 | 4 | 16, 0, 0, 0, 50, 1, 2, 3, 4, 3, 192, 0, 2, 200]);
    assert_eq!(unsealed(&example()), expected);
    // Of a member that hears more than one datagram can name: older releases count it as of an unknown version.
    expected[3] = 3;
    assert_eq!(unsealed(&Message { partial: true, ..example() }), expected);
}

#[test]
fn nothing_of_a_datagram_is_read_before_its_seal() {
    let other = GroupKey::new(b"the secret of another group").unwrap();
    assert_eq!(Message::open(&example().seal(&other), &key()), Err("NotAuthentic"));
    assert_eq!(Message::open(b"", &key()), Err("NotAuthentic"));
    assert_eq!(Message::open(&[0; 1400], &key()), Err("NotAuthentic"));
}

#[test]
fn another_version_of_the_protocol_is_told_from_nonsense() {
    let mut bytes = unsealed(&example());
    bytes[3] = 1;
    assert_eq!(open(bytes), Err("UnknownVersion"));
    assert_eq!(open(b"HELO".to_vec()), Err("Malformed"));
}

#[test]
fn what_is_cut_short_too_long_or_out_of_bounds_is_refused_though_the_seal_is_good() {
    let good = unsealed(&example());
    assert_eq!(open(good.clone()), Ok(example()));
    for length in 4..good.len() {
        assert_eq!(open(good[..length].to_vec()), Err("Malformed"), "{length} bytes");
    }
    let name = good.windows(7).position(|bytes| bytes == b"\x06node-7").unwrap();
    let cases: [(&str, usize, &[u8]); 10] = [
        ("unknown flag", 28, &[0x80 | 1 | 4 | 16 | 32]),
        ("version 0 of a table", 29, &[0, 0, 0, 0]),
        ("more chunks than any table has", 33, &[4, 1]),
        ("a chunk beyond the last", 33, &[0, 1]),
        ("no name", name, &[0]),
        ("a name with a control character", name, b"\x06node\n7"),
        ("a name that is not UTF-8", name, b"\x06node-\xff"),
        ("more echoes than members", name + 7, &[65]),
        ("unknown flag of an echo", name + 15, &[2]),
        ("unknown flag of an entry", good.len() - 14, &[0x80 | 5]),
    ];
    for (what, at, bytes) in cases {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(open(bad), Err("Malformed"), "{what}");
    }
    assert_eq!(open([good, vec![0]].concat()), Err("Malformed"), "a byte too many");
}

proptest! {
    #[test]
    fn what_is_written_is_read(message in message()) {
        let datagram = message.seal(&key());
        prop_assert_eq!(datagram.len(), message.length());
        prop_assert_eq!(Message::open(&datagram, &key()), Ok(message));
    }

    #[test]
    fn whatever_is_changed_or_cut_is_refused(message in message(), at: prop::sample::Index, bit in 0..8_u32) {
        let mut datagram = message.seal(&key());
        let at = at.index(datagram.len());
        prop_assert_eq!(Message::open(&datagram[..at], &key()), Err("NotAuthentic"));
        datagram[at] ^= 1_u8 << bit;
        prop_assert_eq!(Message::open(&datagram, &key()), Err("NotAuthentic"));
    }

    #[test]
    fn whatever_a_member_seals_is_read_or_refused(bytes in vec(any::<u8>(), 0..400)) {
        let mut whole = b"GHG\x02".to_vec();
        whole.extend(bytes);
        if let Ok(message) = open(whole.clone()) {
            prop_assert_eq!(unsealed(&message), whole);
        }
    }
}
