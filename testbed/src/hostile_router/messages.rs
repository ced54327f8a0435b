//! What a hostile router says, message by message, and the answer that the RFC has for it.
//!
//! The rows expect a speaker of AS 64512 with the BGP Identifier 10.0.0.1, which takes the router for AS 64513.

/// Message type of RFC 4271 §4.1.
pub const UPDATE: u8 = 2;
/// Message type of RFC 4271 §4.1.
pub const NOTIFICATION: u8 = 3;
/// Message type of RFC 4271 §4.1.
pub const KEEPALIVE: u8 = 4;
/// Message type of RFC 2918 §3.
pub const ROUTE_REFRESH: u8 = 5;

/// How far a session is when something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The router's OPEN is awaited.
    OpenSent,
    /// Its first KEEPALIVE is awaited.
    OpenConfirm,
    /// The session is up.
    Established,
}

/// Code, subcode and data of a NOTIFICATION.
pub type NotificationParts = (u8, u8, Vec<u8>);

/// What the router's OPEN says.
pub struct Open {
    /// In the field of two octets.
    pub asn: u16,
    /// In the capability of four octets; `None`: the router does not know such ASNs.
    pub asn4: Option<u32>,
    /// Seconds.
    pub hold_time: u16,
    /// BGP Identifier.
    pub id: [u8; 4],
}

impl Open {
    /// The message, of a router that can do everything.
    pub fn encode(&self) -> Vec<u8> {
        let mut capabilities = vec![1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 2, 0, 6, 0];
        if let Some(asn) = self.asn4 {
            capabilities.extend([65, 4]);
            capabilities.extend(asn.to_be_bytes());
        }
        let length = u8::try_from(capabilities.len()).unwrap();
        let fixed = [&self.asn.to_be_bytes()[..], &self.hold_time.to_be_bytes(), &self.id].concat();
        frame(1, &[&[4][..], &fixed, &[length + 2, 2, length], &capabilities].concat())
    }
}

/// An OPEN that is all right.
pub fn open() -> Vec<u8> {
    open_like(|_| {})
}

/// An OPEN that says something else.
pub fn open_like(change: impl FnOnce(&mut Open)) -> Vec<u8> {
    let mut open = Open { asn: 64513, asn4: Some(64513), hold_time: 90, id: [10, 0, 0, 2] };
    change(&mut open);
    open.encode()
}

/// A message of this type.
pub fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    raw(u16::try_from(19 + body.len()).unwrap(), kind, body)
}

/// A KEEPALIVE.
pub fn keepalive() -> Vec<u8> {
    frame(KEEPALIVE, &[])
}

/// A message with any length and type in its header.
pub fn raw(length: u16, kind: u8, body: &[u8]) -> Vec<u8> {
    [&[0xff; 16][..], &length.to_be_bytes(), &[kind], body].concat()
}

/// An OPEN with these octets instead of the right ones.
fn open_with(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut body = open()[19..].to_vec();
    change(&mut body);
    frame(1, &body)
}

/// An OPEN with these optional parameters, length included.
fn open_of(parameters: &[u8]) -> Vec<u8> {
    let fixed = [4, 0xfc, 1, 0, 90, 10, 0, 0, 2];
    frame(1, &[&fixed[..], parameters].concat())
}

/// Messages that end the session, and what the router is told.
pub fn fatal() -> Vec<(&'static str, Stage, Vec<u8>, NotificationParts)> {
    use Stage::{Established, OpenConfirm, OpenSent};
    let answer = |code, subcode, data: &[u8]| (code, subcode, data.to_vec());
    let update = || frame(UPDATE, &[0; 4]);
    let refresh = || frame(ROUTE_REFRESH, &[0, 1, 0, 1]);
    let v4_vpn_only = [1, 4, 0, 1, 0, 128];
    let missing = [1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1];
    let bad_update = |body: &[u8]| frame(UPDATE, body);
    let mut cases = vec![
        // RFC 4271 §6.1
        ("HTTP", OpenSent, b"GET / HTTP/1.1\r\n\r\n".to_vec(), answer(1, 1, &[])),
        ("marker of zeros", OpenSent, vec![0; 19], answer(1, 1, &[])),
        (
            "marker with one bit wrong",
            Established,
            [&[0xff; 15][..], &[0xfe, 0, 19, 4]].concat(),
            answer(1, 1, &[]),
        ),
        ("length 0", OpenSent, raw(0, 1, &[]), answer(1, 2, &[0, 0])),
        ("length 18", OpenSent, raw(18, 4, &[]), answer(1, 2, &[0, 18])),
        ("OPEN of 28", OpenSent, raw(28, 1, &[0; 9]), answer(1, 2, &[0, 28])),
        ("OPEN of 4097", OpenSent, raw(4097, 1, &[]), answer(1, 2, &[16, 1])),
        ("long message before OPEN", OpenSent, raw(65535, 2, &[]), answer(1, 2, &[255, 255])),
        ("KEEPALIVE of 20", Established, raw(20, 4, &[0]), answer(1, 2, &[0, 20])),
        ("KEEPALIVE of 65535", Established, raw(65535, 4, &[]), answer(1, 2, &[255, 255])),
        ("UPDATE of 22", Established, raw(22, 2, &[0; 3]), answer(1, 2, &[0, 22])),
        ("NOTIFICATION of 20", Established, raw(20, 3, &[6]), answer(1, 2, &[0, 20])),
        ("ROUTE-REFRESH of 22", Established, raw(22, 5, &[0; 3]), answer(1, 2, &[0, 22])),
        ("ROUTE-REFRESH of 24", Established, raw(24, 5, &[0; 5]), answer(1, 2, &[0, 24])),
        ("type 0", OpenSent, raw(19, 0, &[]), answer(1, 3, &[0])),
        ("type 6 before KEEPALIVE", OpenConfirm, raw(19, 6, &[]), answer(1, 3, &[6])),
        ("type 99", Established, raw(19, 99, &[]), answer(1, 3, &[99])),
        ("type 255, long", Established, raw(4096, 255, &[]), answer(1, 3, &[255])),
        // §6.2
        ("version 3", OpenSent, open_with(|body| body[0] = 3), answer(2, 1, &[0, 4])),
        ("version 5", OpenSent, open_with(|body| body[0] = 5), answer(2, 1, &[0, 4])),
        ("version 0", OpenSent, open_with(|body| body[0] = 0), answer(2, 1, &[0, 4])),
        (
            "wrong ASN",
            OpenSent,
            open_like(|open| (open.asn, open.asn4) = (64514, Some(64514))),
            answer(2, 2, &[0, 0, 0xfc, 2]),
        ),
        (
            "our ASN",
            OpenSent,
            open_like(|open| (open.asn, open.asn4) = (64512, Some(64512))),
            answer(2, 2, &[0, 0, 0xfc, 0]),
        ),
        (
            "AS 0",
            OpenSent,
            open_like(|open| (open.asn, open.asn4) = (0, Some(0))),
            answer(2, 2, &[0; 4]),
        ),
        (
            "AS 0 in two octets",
            OpenSent,
            open_like(|open| (open.asn, open.asn4) = (0, None)),
            answer(2, 2, &[0; 4]),
        ),
        ("two ASNs", OpenSent, open_like(|open| open.asn = 64999), answer(2, 2, &[0, 0, 0xfc, 1])),
        (
            "only AS_TRANS",
            OpenSent,
            open_like(|open| (open.asn, open.asn4) = (23456, None)),
            answer(2, 2, &[0, 0, 0x5b, 0xa0]),
        ),
        ("identifier 0", OpenSent, open_like(|open| open.id = [0; 4]), answer(2, 3, &[0; 4])),
        ("hold time 1", OpenSent, open_like(|open| open.hold_time = 1), answer(2, 6, &[0, 1])),
        ("hold time 2", OpenSent, open_like(|open| open.hold_time = 2), answer(2, 6, &[0, 2])),
        ("authentication parameter", OpenSent, open_of(&[3, 1, 1, 0]), answer(2, 4, &[])),
        ("unknown parameter", OpenSent, open_of(&[2, 77, 0]), answer(2, 4, &[])),
        ("parameters too long", OpenSent, open_of(&[9, 2, 0]), answer(2, 0, &[])),
        ("parameters too short", OpenSent, open_of(&[0, 2, 0]), answer(2, 0, &[])),
        ("parameter cut", OpenSent, open_of(&[1, 2]), answer(2, 0, &[])),
        ("parameter overruns", OpenSent, open_of(&[2, 2, 9]), answer(2, 0, &[])),
        ("longer format cut", OpenSent, open_of(&[255, 255, 0, 9, 2, 0]), answer(2, 0, &[])),
        (
            "longer format, parameter cut",
            OpenSent,
            open_of(&[255, 255, 0, 2, 2, 0]),
            answer(2, 0, &[]),
        ),
        ("capability overruns", OpenSent, open_of(&[4, 2, 2, 65, 9]), answer(2, 0, &[65, 9])),
        ("capability cut", OpenSent, open_of(&[3, 2, 1, 65]), answer(2, 0, &[65])),
        (
            "ASN of two octets",
            OpenSent,
            open_of(&[6, 2, 4, 65, 2, 0xfc, 1]),
            answer(2, 0, &[65, 2, 0xfc, 1]),
        ),
        (
            "family of three octets",
            OpenSent,
            open_of(&[7, 2, 5, 1, 3, 0, 1, 0]),
            answer(2, 0, &[1, 3, 0, 1, 0]),
        ),
        (
            "no family of ours",
            OpenSent,
            open_of(&[&[8, 2, 6][..], &v4_vpn_only].concat()),
            answer(2, 7, &missing),
        ),
        // §6.5, RFC 6608
        ("KEEPALIVE before OPEN", OpenSent, keepalive(), answer(5, 1, &[])),
        ("UPDATE before OPEN", OpenSent, update(), answer(5, 1, &[])),
        ("ROUTE-REFRESH before OPEN", OpenSent, refresh(), answer(5, 1, &[])),
        ("UPDATE before KEEPALIVE", OpenConfirm, update(), answer(5, 2, &[])),
        ("broken UPDATE before KEEPALIVE", OpenConfirm, bad_update(&[0xff; 4]), answer(5, 2, &[])),
        ("ROUTE-REFRESH before KEEPALIVE", OpenConfirm, refresh(), answer(5, 2, &[])),
        ("second OPEN", OpenConfirm, open(), answer(5, 2, &[])),
        ("OPEN once established", Established, open(), answer(5, 3, &[])),
        (
            "broken OPEN once established",
            Established,
            open_with(|body| body[0] = 9),
            answer(5, 3, &[]),
        ),
        // §6.3; the rest of it has a table of its own.
        ("UPDATE overruns", Established, bad_update(&[0, 9, 0, 0]), answer(3, 1, &[])),
        (
            "prefix /33",
            Established,
            bad_update(&[0, 6, 33, 1, 2, 3, 4, 5, 0, 0]),
            answer(3, 10, &[]),
        ),
        (
            "unknown well-known",
            Established,
            bad_update(&[0, 0, 0, 3, 0x40, 99, 0]),
            answer(3, 2, &[0x40, 99, 0]),
        ),
    ];
    // Good messages before a bad one change nothing.
    let flood = [vec![keepalive(); 5000].concat(), raw(19, 7, &[])].concat();
    cases.push(("bad message after a flood", Established, flood, answer(1, 3, &[7])));
    cases
}

/// What is odd, or broken, but does not end the session.
pub fn harmless() -> Vec<(&'static str, Stage, Vec<u8>)> {
    use Stage::{Established, OpenSent};
    let update = |body: &[u8]| frame(UPDATE, body);
    vec![
        ("no parameters", OpenSent, open_of(&[0])),
        ("longer format", OpenSent, open_of(&[255, 255, 0, 9, 2, 0, 6, 65, 4, 0, 0, 0xfc, 1])),
        ("longer format without need", OpenSent, open_of(&[1, 255, 0, 0])),
        ("unknown capability", OpenSent, open_of(&[5, 2, 3, 250, 1, 9])),
        ("capability of nothing", OpenSent, open_of(&[2, 2, 0])),
        ("family said twice", OpenSent, open_of(&[14, 2, 12, 1, 4, 0, 1, 0, 1, 1, 4, 0, 1, 0, 1])),
        ("hold time 3", OpenSent, open_like(|open| open.hold_time = 3)),
        ("hold time 65535", OpenSent, open_like(|open| open.hold_time = 65535)),
        ("half a message", Established, raw(4096, 2, &[0; 99])),
        ("flood of KEEPALIVEs", Established, vec![keepalive(); 10_000].concat()),
        ("flood of End-of-RIBs", Established, vec![update(&[0; 4]); 10_000].concat()),
        ("unknown family to refresh", Established, frame(ROUTE_REFRESH, &[0x40, 4, 0, 71])),
        ("prefix without attributes", Established, update(&[0, 0, 0, 0, 24, 1, 2, 3])),
        ("broken COMMUNITIES", Established, update(&[0, 0, 0, 4, 0xc0, 8, 1, 9])),
        ("broken MP_REACH_NLRI", Established, update(&[0, 0, 0, 6, 0x80, 14, 3, 0, 2, 1])),
    ]
}

/// NOTIFICATIONs, in whatever state of things; they are not answered.
pub fn notifications() -> Vec<NotificationParts> {
    vec![(6, 2, vec![]), (2, 1, vec![]), (255, 255, vec![0; 100]), (6, 2, vec![255])]
}
