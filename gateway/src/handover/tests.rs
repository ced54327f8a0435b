use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::mpsc,
};

use super::*;

const WHOSE: &str = "a/gatehouse";

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
        let mut all = Sockets::from([(address, vec![socket.try_clone().unwrap()])]);
        all.extend(more.iter().map(|(address, it)| (*address, vec![it.try_clone().unwrap()])));
        Some(all)
    };
    serve(folder.path(), WHOSE, &door, sockets).unwrap();
    let (_before, mut sockets) = meet(folder.path(), WHOSE).unwrap().unwrap();
    assert_eq!(sockets.len(), 201);
    let (mut stream, _) = sockets.remove(&address).unwrap()[0].accept().unwrap();
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
    serve(folder.path(), WHOSE, &door, || Some(Sockets::new())).unwrap();
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
        thread::spawn(move || assert!(after.prepare([7; 16], 1).is_err()));
    };
    assert_eq!(steps(prepare), ["prepare 7", "over None"]);
}

#[test]
fn a_successor_that_has_gone_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let door = Door::default();
    serve(folder.path(), WHOSE, &door, || Some(Sockets::new())).unwrap();
    drop(meet(folder.path(), WHOSE).unwrap().unwrap());
    thread::sleep(Duration::from_millis(50));
    assert!(door.take().is_none());
}

#[test]
fn the_state_folder_of_another_gateway_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let door = Door::default();
    serve(folder.path(), WHOSE, &door, || Some(Sockets::new())).unwrap();
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
