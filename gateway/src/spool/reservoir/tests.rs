//! What comes in leaves in its order and in whole, within the room that there is.

use std::{future::poll_fn, time::Duration};

use super::*;
use crate::spool::{
    SpoolFacts,
    tests::{KIB, spool, text},
};

/// What leaves next, in the order in which it came; `None` at the end.
async fn part(outlet: &mut Outlet<&'static str>) -> Option<Bytes> {
    match poll_fn(|cx| outlet.poll(cx)).await.unwrap() {
        Next::Part(part) => Some(part),
        Next::Over(end) => {
            assert_eq!(end, "end");
            None
        }
    }
}

/// Fills with parts of this size as fast as there is room.
fn filled(
    inlet: Inlet<&'static str>,
    body: Vec<u8>,
    size: usize,
) -> JoinHandle<Result<(), KeepError>> {
    tokio::task::spawn_local(async move {
        for part in body.chunks(size) {
            inlet.add(part).await?;
        }
        inlet.end("end");
        Ok(())
    })
}

async fn on_one_thread<T>(test: impl Future<Output = T>) -> T {
    let thread = tokio::task::LocalSet::new();
    tokio::time::timeout(Duration::from_secs(60), thread.run_until(test)).await.expect("it hangs")
}

/// Waits until nothing is in use any more.
async fn emptied(spool: &Spool) {
    while (SpoolFacts { spilled: 0, ..spool.facts() }) != SpoolFacts::default() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_waits_leaves_in_whole_and_in_its_order_wherever_it_waited() {
    on_one_thread(async {
        for (memory, disk, most, file) in [
            (1024, 4096, 64, 4096),
            (1024, 4096, 200, 100),
            (1024, 80, 64, 4096),
            (0, 4096, 64, 4096),
            (0, 0, 64, 4096),
            (1024, 4096, 64, 0),
        ] {
            let (spool, _folder) = spool(memory, disk);
            for (bytes, size, slowly) in [
                (0, 1, false),
                (1, 1, false),
                (64 * KIB, 1000, true),
                (1000 * KIB, 7 * KIB, true),
                (1000 * KIB, 300 * KIB, false),
                (1000 * KIB, 7 * KIB, false),
            ] {
                let case = format!("{memory} {disk} {most} {file}, {bytes} by {size}");
                let (inlet, mut outlet) = spool.reservoir((most * KIB) as u64, (file * KIB) as u64);
                let body = text(bytes);
                let filling = filled(inlet, body.clone(), size);
                let mut left = Vec::new();
                loop {
                    if slowly {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    let facts = spool.facts();
                    assert!(facts.disk <= (disk.min(file) * KIB) as u64, "{case}: {facts:?}");
                    assert!(facts.memory <= (memory * KIB) as u64, "{case}: {facts:?}");
                    let Some(part) = part(&mut outlet).await else { break };
                    left.extend_from_slice(&part);
                }
                assert!(left == body, "{case}: {} bytes left", left.len());
                filling.await.unwrap().unwrap();
                drop(outlet);
                emptied(&spool).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_comes_in_whole_though_nothing_leaves_as_far_as_there_is_room() {
    on_one_thread(async {
        let (spool, _folder) = spool(1024, 4096);
        let (inlet, mut outlet) = spool.reservoir((128 * KIB) as u64, (4096 * KIB) as u64);
        let body = text(3000 * KIB);
        filled(inlet, body.clone(), 10 * KIB).await.unwrap().unwrap();
        let facts = spool.facts();
        assert!(facts.memory <= 200 * KIB as u64 && facts.disk > 2700 * KIB as u64, "{facts:?}");
        assert_eq!((facts.files, facts.spilled), (1, 1));
        let mut left = Vec::new();
        while let Some(part) = part(&mut outlet).await {
            left.extend_from_slice(&part);
        }
        assert!(left == body);
    })
    .await;
}

#[tokio::test]
async fn without_room_the_body_waits_where_it_comes_from() {
    on_one_thread(async {
        let (spool, _folder) = spool(1024, 4096);
        let (inlet, mut outlet) = spool.reservoir(0, 0);
        let filling = filled(inlet, text(1000 * KIB), 10 * KIB);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!filling.is_finished());
        let facts = spool.facts();
        assert!(facts.memory <= 130 * KIB as u64 && facts.files == 0, "{facts:?}");
        let mut bytes = 0;
        while let Some(part) = part(&mut outlet).await {
            bytes += part.len();
        }
        assert_eq!(bytes, 1000 * KIB);
    })
    .await;
}

#[tokio::test]
async fn a_disk_that_fails_is_told_and_what_is_lost_is_not_passed_over() {
    on_one_thread(async {
        let (spool, folder) = spool(1024, 4096);
        std::fs::write(folder.path().join("bodies"), "no folder").unwrap();
        let (inlet, mut outlet) = spool.reservoir::<&str>(0, u64::MAX);
        let filling = filled(inlet, text(1000 * KIB), 10 * KIB);
        assert!(matches!(filling.await.unwrap(), Err(KeepError::File { .. })));
        let mut bytes = 0;
        let error = loop {
            match poll_fn(|cx| outlet.poll(cx)).await {
                Ok(Next::Part(part)) => bytes += part.len(),
                Ok(Next::Over(end)) => panic!("{end} after {bytes}"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(bytes < 1000 * KIB);
        drop(outlet);
        emptied(&spool).await;
    })
    .await;
}

#[tokio::test]
async fn what_nobody_takes_any_more_leaves_nothing() {
    on_one_thread(async {
        let (spool, _folder) = spool(1024, 4096);
        let (inlet, outlet) = spool.reservoir(0, u64::MAX);
        let filling = filled(inlet, text(2000 * KIB), 10 * KIB);
        while spool.facts().disk == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(outlet);
        filling.abort();
        emptied(&spool).await;
    })
    .await;
}
