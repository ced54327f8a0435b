use proptest::prelude::*;

use super::*;

/// The messages of a batch without its begin and end: type, flags, sequence and body.
fn messages(batch: Batch) -> Vec<(u16, u16, u32, Vec<u8>)> {
    let (bytes, _) = batch.finish();
    let (mut rest, mut messages) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        let len = u32::from_ne_bytes(*rest.first_chunk().unwrap()) as usize;
        let half = |at: usize| u16::from_ne_bytes([rest[at], rest[at + 1]]);
        let sequence = u32::from_ne_bytes(*rest[8..].first_chunk().unwrap());
        messages.push((half(4), half(6), sequence, rest[16..len].to_vec()));
        rest = &rest[len..];
    }
    assert_eq!(messages.remove(0), (16, 1, 0, vec![0, 0, 0, 10]), "begins for nf_tables");
    let end = messages.len() as u32;
    assert_eq!(messages.pop(), Some((17, 1, end, vec![0, 0, 0, 10])), "ends for nf_tables");
    messages
}

/// An attribute, written out: length and type in this machine's order.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = (value.len() as u16 + 4).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

const NEST: u16 = 0x8000;

#[test]
fn the_table_is_owned_by_its_socket_and_must_not_exist() {
    let mut batch = Batch::new("t");
    batch.create_table();
    let mut body = vec![5, 0, 0, 0]; // NFPROTO_NETDEV
    body.extend(attribute(1, b"t\0"));
    body.extend(attribute(2, &[0, 0, 0, 2])); // NFT_TABLE_F_OWNER
    // NFT_MSG_NEWTABLE; NLM_F_REQUEST, ACK, EXCL, CREATE.
    assert_eq!(messages(batch), [(0x0a00, 0x0001 | 0x0004 | 0x0200 | 0x0400, 1, body)]);
}

#[test]
fn only_the_last_message_asks_for_an_answer() {
    let mut batch = Batch::new("t");
    batch.create_table();
    batch.create_chain("c");
    batch.delete_table();
    let flags: Vec<_> = messages(batch).into_iter().map(|(_, flags, ..)| flags & 0x0004).collect();
    assert_eq!(flags, [0, 0, 0x0004]);
}

#[test]
fn a_set_of_connections_has_the_fields_that_nft_gives_it() {
    let mut batch = Batch::new("t");
    batch.create_set(&Set {
        name: "mine4",
        key: &[IPV4, PORT, IPV4, PORT],
        data: None,
        kind: Kind::Dynamic(Dynamic { size: 1 << 20, timeout: 3_600_000, gc_interval: 10_000 }),
        described: &[],
    });
    let mut body = vec![5, 0, 0, 0];
    body.extend(attribute(1, b"t\0"));
    body.extend(attribute(2, b"mine4\0"));
    body.extend(attribute(10, &[0, 0, 0, 1]));
    // The rest as recorded of `nft`, which was given the same set.
    body.extend(attribute(3, &[0, 0, 0, 0x30]));
    body.extend(attribute(4, &[0x00, 0x1c, 0xd1, 0xcd]));
    body.extend(attribute(5, &[0, 0, 0, 0x10]));
    body.extend(attribute(NEST | 9, &attribute(1, &[0x00, 0x10, 0x00, 0x00])));
    body.extend(attribute(11, &[0, 0, 0, 0, 0x00, 0x36, 0xee, 0x80]));
    body.extend(attribute(12, &[0x00, 0x00, 0x27, 0x10]));
    assert_eq!(messages(batch)[0].3, body);
}

#[test]
fn an_element_of_a_map_has_key_and_data() {
    let mut batch = Batch::new("t");
    batch.add_elements("via4", &[(vec![10, 0, 0, 1], Value::Data(vec![10, 0, 0, 2]))]);
    let key = attribute(NEST | 1, &attribute(1, &[10, 0, 0, 1]));
    let data = attribute(NEST | 2, &attribute(1, &[10, 0, 0, 2]));
    let mut body = vec![5, 0, 0, 0];
    body.extend(attribute(1, b"t\0"));
    body.extend(attribute(2, b"via4\0"));
    body.extend(attribute(NEST | 3, &attribute(NEST | 1, &[key, data].concat())));
    assert_eq!(messages(batch)[0].3, body);
}

#[test]
fn a_long_list_of_elements_is_dealt_out_as_attributes_are_short() {
    let mut batch = Batch::new("t");
    let element = (vec![1; 40], Value::Data(vec![2; 16]));
    batch.add_elements("s", &vec![element; 1201]);
    let (_, attempts) = batch.clone().finish();
    let whats: Vec<_> = attempts.iter().map(|attempt| attempt.what.as_str()).collect();
    let parts = ["500", "500", "201"].map(|count| format!("add {count} elements of set s"));
    assert_eq!(whats[1..], parts);
    for (.., body) in messages(batch) {
        let list = 4 + attribute(1, b"t\0").len() + attribute(2, b"s\0").len();
        let len = u16::from_ne_bytes([body[list], body[list + 1]]);
        assert_eq!(usize::from(len), body.len() - list, "the list's length did not overflow");
    }
}

#[test]
fn a_rule_is_a_list_of_named_expressions() {
    let mut batch = Batch::new("t");
    batch.append_rule("c", &[Expression::Goto { chain: "d" }]);
    let verdict = [attribute(1, &(-4_i32).to_be_bytes()), attribute(2, b"d\0")].concat();
    let data =
        [attribute(1, &[0, 0, 0, 0]), attribute(NEST | 2, &attribute(NEST | 2, &verdict))].concat();
    let expression = [attribute(1, b"immediate\0"), attribute(NEST | 2, &data)].concat();
    let mut body = vec![5, 0, 0, 0];
    body.extend(attribute(1, b"t\0"));
    body.extend(attribute(2, b"c\0"));
    body.extend(attribute(NEST | 4, &attribute(NEST | 1, &expression)));
    let messages = messages(batch);
    // NFT_MSG_NEWRULE; NLM_F_REQUEST, ACK, CREATE, APPEND.
    assert_eq!(messages, [(0x0a06, 0x0001 | 0x0004 | 0x0400 | 0x0800, 1, body)]);
}

/// An NLMSG_ERROR message as the kernel writes it, with the header of what it answers.
fn answer(sequence: u32, errno: i32) -> Vec<u8> {
    let mut bytes = 36_u32.to_ne_bytes().to_vec();
    bytes.extend(2_u16.to_ne_bytes());
    bytes.extend(0x0100_u16.to_ne_bytes()); // NLM_F_CAPPED
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend((-errno).to_ne_bytes());
    bytes.extend([0; 16]);
    bytes
}

#[test]
fn answers_are_refusals_and_successes() {
    assert_eq!(answers(&answer(7, 0)), [(7, 0)]);
    let both = [answer(3, libc::ENOENT), answer(9, 0)].concat();
    assert_eq!(answers(&both), [(3, libc::ENOENT), (9, 0)]);
    assert_eq!(answers(&both[..40]), [(3, libc::ENOENT)], "the second one is cut off");
    assert_eq!(answers(&[]), []);
    let mut other = answer(3, 1);
    other[4] = 1; // NLMSG_NOOP
    assert_eq!(answers(&[other, answer(9, 0)].concat()), [(9, 0)]);
}

#[test]
fn a_list_of_elements_is_what_was_added_to_the_set() {
    let mut batch = Batch::of(TableFamily::Inet, "t");
    let added =
        [(vec![10, 9, 0, 1], Value::Expires(5)), (vec![10, 9, 0, 2], Value::Expires(90_000))];
    batch.add_elements("s", &added);
    // The kernel lists elements in the form in which they are added.
    let (bytes, attempts) = batch.finish();
    assert_eq!(attempts.len(), 2);
    let (listed, end) = elements(&bytes);
    assert_eq!((listed, end), (vec![(vec![10, 9, 0, 1], 5), (vec![10, 9, 0, 2], 90_000)], None));
    assert_eq!(elements(&answer(1, libc::ENOENT)), (Vec::new(), Some(libc::ENOENT)));
}

proptest! {
    #[test]
    fn no_datagram_is_too_strange(mut datagram in prop::collection::vec(any::<u8>(), 0..80), len: u32) {
        answers(&datagram);
        if let Some(first) = datagram.first_chunk_mut() {
            *first = (len % 96).to_ne_bytes();
        }
        prop_assert!(answers(&datagram).len() <= 5);
        elements(&datagram);
    }
}
