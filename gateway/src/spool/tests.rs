use std::future::poll_fn;

use super::*;

pub(super) const KIB: usize = 1024;

/// Room of so many KiB in memory and on the disk.
pub(super) fn spool(memory: usize, disk: usize) -> (Spool, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Spool::new(folder.path().join("bodies"), (memory * KIB) as u64, (disk * KIB) as u64), folder)
}

pub(super) fn text(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 + at / 251) as u8).collect()
}

async fn keep(spool: &Spool, most: usize, body: &[u8], part: usize) -> Result<Kept, KeepError> {
    let mut keeping = spool.keep(most, None)?;
    for part in body.chunks(part) {
        keeping.add(Bytes::copy_from_slice(part)).await?;
    }
    Ok(keeping.done())
}

async fn read(kept: &Rc<Kept>) -> Vec<u8> {
    let mut reader = Reader::of(kept);
    let mut body = Vec::new();
    while let Some(part) = poll_fn(|cx| reader.poll(cx)).await {
        body.extend_from_slice(&part.unwrap());
    }
    assert_eq!(reader.left(), 0);
    body
}

/// Waits until all files are closed.
async fn closed(spool: &Spool) -> SpoolFacts {
    while spool.facts().disk > 0 {
        tokio::task::yield_now().await;
    }
    spool.facts()
}

#[tokio::test]
async fn a_body_that_fits_is_in_memory_and_a_larger_one_in_a_file() {
    let (spool, _folder) = spool(1024, 1024);
    for (bytes, part, in_file) in [
        (0, 1, false),
        (1, 1, false),
        (100 * KIB, 1000, false),
        (100 * KIB + 1, 1000, true),
        (300 * KIB, 7 * KIB, true),
        (300 * KIB, 128 * KIB, true),
    ] {
        let body = text(bytes);
        let kept = Rc::new(keep(&spool, 100 * KIB, &body, part).await.unwrap());
        assert_eq!((kept.len(), kept.file.is_some()), (bytes as u64, in_file), "{bytes} {part}");
        assert!(spool.facts().memory <= 100 * KIB as u64, "{:?}", spool.facts());
        // It can be sent again, and twice at once.
        for _ in 0..2 {
            assert!(read(&kept).await == body, "{bytes} {part}");
        }
        drop(kept);
        let facts = closed(&spool).await;
        assert_eq!((facts.memory, facts.files), (0, 0));
    }
    assert_eq!(spool.facts().spilled, 3);
}

#[tokio::test]
async fn what_has_no_room_in_memory_goes_to_a_file_as_it_comes() {
    let (spool, _folder) = spool(8, 1024);
    let held = keep(&spool, 8 * KIB, &text(8 * KIB), KIB).await.unwrap();
    assert_eq!((held.len(), spool.facts().memory), (8 * KIB as u64, 8 * KIB as u64));
    let body = text(100 * KIB);
    let kept = Rc::new(keep(&spool, 64 * KIB, &body, 9 * KIB).await.unwrap());
    assert_eq!((spool.facts().memory, spool.facts().disk), (8 * KIB as u64, 100 * KIB as u64));
    assert!(read(&kept).await == body);
}

#[tokio::test]
async fn a_body_for_which_the_disk_has_no_room_is_not_kept_and_leaves_nothing() {
    let (spool, _folder) = spool(1024, 100);
    assert!(matches!(spool.keep(16 * KIB, Some(101 * KIB as u64)), Err(KeepError::Full)));
    let full = keep(&spool, 16 * KIB, &text(200 * KIB), 10 * KIB).await;
    assert!(matches!(full, Err(KeepError::Full)));
    let facts = closed(&spool).await;
    assert_eq!(facts, SpoolFacts { spilled: 1, ..SpoolFacts::default() });
    assert!(keep(&spool, 16 * KIB, &text(90 * KIB), 10 * KIB).await.is_ok());
}

#[tokio::test]
async fn a_folder_that_takes_no_files_is_named() {
    let (spool, folder) = spool(1024, 1024);
    fs::write(folder.path().join("bodies"), "a file").unwrap();
    let error = keep(&spool, KIB, &text(70 * KIB), KIB).await.unwrap_err();
    assert!(error.to_string().ends_with("/bodies"), "{error}");
}
