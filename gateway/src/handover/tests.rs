use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::mpsc,
};

use gatehouse_routes::model::Transport;

use super::*;

const WHOSE: &str = "a/gatehouse";

/// So many clients of a port, with their endpoint.
fn clients(count: u16) -> Clients {
    let port = (ObjectKey::new("a", "db"), Transport::Udp, 53);
    let client = |n: u16| ([&[10, 9][..], &n.to_be_bytes()].concat(), n);
    let kept = (0..count).map(client).map(|(ip, n)| {
        let ip: [u8; 4] = ip.try_into().unwrap();
        (ip.into(), SocketAddr::from(([192, 0, 2, 1], n)), 10_800_000)
    });
    [(port, kept.collect())].into()
}

fn listener() -> (SocketAddr, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (listener.local_addr().unwrap(), listener)
}

#[test]
fn nobody_there_is_no_error_and_neither_is_a_socket_that_was_left() {
    let folder = tempfile::tempdir().unwrap();
    assert!(meet(folder.path(), WHOSE).unwrap().is_none());
    drop(wire::listen(&folder.path().join(SOCKET)).unwrap());
    assert!(meet(folder.path(), WHOSE).unwrap().is_none());
}

#[test]
fn a_successor_serves_what_came_in_on_its_predecessors_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let (address, socket) = listener();
    // More than go along with one message.
    let more: Vec<_> = (0..200).map(|_| listener()).collect();
    let mut client = TcpStream::connect(address).unwrap();
    let door = Door::default();
    let sockets = move || {
        let one = |address: SocketAddr, socket: &TcpListener| {
            (L4Address::tcp(address), vec![socket.try_clone().unwrap().into()])
        };
        let mut all = Sockets::from([one(address, &socket)]);
        all.extend(more.iter().map(|(address, it)| one(*address, it)));
        Some(Handed { sockets: all, clients: clients(20_000) })
    };
    serve(folder.path(), WHOSE, &door, sockets).unwrap();
    let (_before, handed) = meet(folder.path(), WHOSE).unwrap().unwrap();
    let mut sockets = handed.sockets;
    assert_eq!(sockets.len(), 201);
    assert_eq!(handed.clients, clients(20_000), "and hears who has which endpoint");
    let socket = sockets.remove(&L4Address::tcp(address)).unwrap().remove(0);
    let (mut stream, _) = TcpListener::from(socket).accept().unwrap();
    stream.write_all(b"served").unwrap();
    drop(stream);
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "served");
}

/// What a successor tells its controller, when the predecessor does this with it.
fn steps(predecessor: impl FnOnce(After)) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let door = Door::default();
    serve(folder.path(), WHOSE, &door, || Some(Handed::default())).unwrap();
    let (before, _) = meet(folder.path(), WHOSE).unwrap().unwrap();
    let (told, tells) = mpsc::channel();
    before.follow(move |step| drop(told.send(step))).unwrap();
    let find = || loop {
        if let Some(after) = door.take() {
            return after;
        }
        thread::sleep(Duration::from_millis(1));
    };
    predecessor(find());
    let text = |step: Step| match step {
        Step::Clients(clients) => {
            format!("clients {:?}", clients.values().map(Vec::len).sum::<usize>())
        }
        Step::Prepare([first, ..], answer) => {
            answer.send(None).unwrap();
            format!("prepare {first}")
        }
        Step::Over(left) => format!("over {left:?}"),
    };
    tells.iter().map(text).collect()
}

#[test]
fn a_predecessor_that_dies_is_succeeded_without_its_addresses() {
    assert_eq!(steps(drop), ["over None"]);
}

#[test]
fn a_successor_that_cannot_take_over_says_so_by_going_on_alone() {
    let prepare = |after: After| {
        thread::spawn(move || assert!(after.prepare(&clients(1200), [7; 16], 1).is_err()));
    };
    assert_eq!(steps(prepare), ["clients 1200", "prepare 7", "over None"]);
}

#[test]
fn a_successor_that_has_gone_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let door = Door::default();
    serve(folder.path(), WHOSE, &door, || Some(Handed::default())).unwrap();
    drop(meet(folder.path(), WHOSE).unwrap().unwrap());
    thread::sleep(Duration::from_millis(50));
    assert!(door.take().is_none());
}

#[test]
fn the_state_folder_of_another_gateway_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let door = Door::default();
    serve(folder.path(), WHOSE, &door, || Some(Handed::default())).unwrap();
    let error = meet(folder.path(), "b/gatehouse").err().unwrap().to_string();
    assert!(error.contains("gateway a/gatehouse, this one of b/gatehouse"), "{error}");
}

#[test]
fn pages_are_shared_with_a_predecessor_and_with_nobody_else() {
    let (address, held) = listener();
    assert!(shared_listener(address, false).is_err());
    drop(held);
    let first = shared_listener(address, false).unwrap();
    assert!(shared_listener(address, false).is_err());
    let second = shared_listener(address, true).unwrap();
    drop((first, second));
}
