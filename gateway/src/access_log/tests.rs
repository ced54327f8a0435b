use std::{
    fs,
    io::Write,
    sync::{Condvar, Mutex},
    time::UNIX_EPOCH,
};

use super::*;

/// A sink that keeps what it is given, and stands still while `blocked`.
#[derive(Clone, Default)]
struct Pipe(Arc<Shared>);

#[derive(Default)]
struct Shared {
    content: Mutex<(Vec<u8>, bool)>,
    changed: Condvar,
}

impl Pipe {
    fn block(&self, blocked: bool) {
        self.0.content.lock().unwrap().1 = blocked;
        self.0.changed.notify_all();
    }

    fn lines(&self) -> Vec<serde_json::Value> {
        let content = self.0.content.lock().unwrap();
        let lines = content.0.split_inclusive(|byte| *byte == b'\n');
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut content = self.0.content.lock().unwrap();
        while content.1 {
            content = self.0.changed.wait(content).unwrap();
        }
        content.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Pipe {}

/// A sink that has no room.
struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::from_raw_os_error(libc::ENOSPC))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Full {}

fn started(sink: impl Sink + 'static, options: AccessLogOptions) -> (AccessLog, ProcessProblems) {
    let problems = ProcessProblems::new("n");
    (AccessLog::start(sink, options, &problems).unwrap(), problems)
}

fn entry(path: &[u8], status: u16) -> Entry<'_> {
    Entry {
        time: UNIX_EPOCH + Duration::from_millis(1_700_000_000_042),
        client: "192.0.2.1:40000".parse().unwrap(),
        local: "198.51.100.7:443".parse().unwrap(),
        method: "GET",
        scheme: "https",
        host: b"example.com",
        path,
        query: None,
        version: http::Version::HTTP_2,
        tls: None,
        server_name: None,
        status,
        upstream_status: None,
        bytes_in: 0,
        bytes_out: 12,
        duration: Duration::from_micros(1234),
        route: None,
        backend: None,
        endpoint: None,
        upstream: None,
        retries: 0,
        error: "",
        request_id: b"abc",
        user_agent: None,
        referer: None,
        authorization: None,
    }
}

/// Looks until it is so.
fn until(is_so: impl Fn() -> bool) -> bool {
    (0..3000).any(|_| {
        let so = is_so();
        if !so {
            thread::sleep(Duration::from_millis(10));
        }
        so
    })
}

#[test]
fn a_quiet_log_is_handed_over_at_the_next_tick() {
    let pipe = Pipe::default();
    let (log, _) = started(pipe.clone(), AccessLogOptions::default());
    let mut logger = log.logger();
    logger.write(&entry(b"/", 200));
    logger.tick();
    assert!(until(|| !pipe.lines().is_empty()), "the line never arrived");
}

#[test]
fn what_was_handed_over_is_written_before_the_end() {
    let pipe = Pipe::default();
    let (log, _) = started(pipe.clone(), AccessLogOptions::default());
    let mut logger = log.logger();
    for _ in 0..1000 {
        logger.write(&entry(b"/", 200));
    }
    drop(logger);
    assert!(log.finish(Duration::from_secs(30)));
    assert_eq!(pipe.lines().len(), 1000);
}

#[test]
fn a_reader_that_stands_still_costs_lines_but_never_stalls_a_request() {
    let pipe = Pipe::default();
    pipe.block(true);
    let (log, _) = started(pipe.clone(), AccessLogOptions::default());
    let mut logger = log.logger();
    let total = 60_000;
    for _ in 0..total {
        logger.write(&entry(b"/with/a/path", 200));
    }
    logger.flush();
    assert!(log.dropped() > 0, "the queue is bounded");
    drop(logger);
    let dropped = log.dropped();
    pipe.block(false);
    assert!(log.finish(Duration::from_secs(60)));
    assert_eq!(pipe.lines().len() as u64 + dropped, total, "every line is written or counted");
}

#[test]
fn only_what_was_asked_for_is_written() {
    for (statuses, share, expected) in [
        ("100-599", "1", vec![200, 404, 502, 200]),
        ("4xx,5xx", "1", vec![404, 502]),
        ("100-599", "0.5", vec![404, 502]),
        ("2xx", "0.5", vec![200]),
    ] {
        let pipe = Pipe::default();
        let options = AccessLogOptions {
            statuses: statuses.parse().unwrap(),
            share: share.parse().unwrap(),
            ..AccessLogOptions::default()
        };
        let (log, _) = started(pipe.clone(), options);
        let mut logger = log.logger();
        for status in [200, 404, 502, 200] {
            logger.write(&entry(b"/", status));
        }
        drop(logger);
        assert!(log.finish(Duration::from_secs(30)));
        let written: Vec<_> = pipe.lines().iter().map(|line| line["status"].clone()).collect();
        assert_eq!(written, expected, "{statuses} {share}");
    }
}

#[test]
fn a_file_that_was_moved_away_is_made_anew_when_it_is_reopened() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let (log, problems) = started(LogFile::open(&path).unwrap(), AccessLogOptions::default());
    let mut logger = log.logger();
    let lines = |path| fs::read_to_string(path).unwrap_or_default().lines().count();
    logger.write(&entry(b"/one", 200));
    logger.flush();
    assert!(until(|| lines(&path) == 1));
    fs::rename(&path, &moved).unwrap();
    logger.write(&entry(b"/two", 200));
    logger.flush();
    assert!(until(|| lines(&moved) == 2), "the old file until it is told");
    log.reopen();
    assert!(until(|| path.exists()), "a quiet log is reopened at once");
    logger.write(&entry(b"/three", 200));
    logger.flush();
    assert!(until(|| lines(&path) == 1) && lines(&moved) == 2);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    log.reopen();
    assert!(until(|| problems.all().len() == 1), "a folder in its place");
    fs::remove_dir(&path).unwrap();
    log.reopen();
    assert!(until(|| problems.all().is_empty()));
}

#[test]
fn lines_that_cannot_be_written_are_counted_and_a_problem() {
    let (log, problems) = started(Full, AccessLogOptions::default());
    let mut logger = log.logger();
    logger.write(&entry(b"/", 200));
    logger.write(&entry(b"/", 200));
    logger.flush();
    assert!(until(|| log.dropped() == 2));
    assert!(until(|| problems.all().len() == 1));
    let text = problems.all()[0].to_string();
    assert!(text.contains("--access-log") && text.contains("lines are lost"), "{text}");
}
