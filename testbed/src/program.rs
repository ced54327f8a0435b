//! Programs that are told lines and heard by lines: speakers, shells, tcpdump.
//!
//! Used by tests that say step by step what a process does. A [`Program`] is killed when dropped. What
//! writes to a log instead is a [`Process`](crate::process::Process).

#![allow(clippy::unwrap_used, reason = "a program that cannot be started or told fails its test")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use crate::{guard, hosts::run, wait};

/// Makes the command end in running one test of the calling test program, which is ignored otherwise: a
/// process of the test's own on a host.
pub fn own_test(command: &mut Command, test: &str) {
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]);
}

/// A running program whose lines (output and errors) can be waited for; killed at the end.
pub struct Program {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<(Instant, String)>,
}

impl Program {
    /// Starts it, with pipes for what it reads and writes.
    pub fn start(mut command: Command) -> Self {
        guard::mark(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (sender, lines) = channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let sender = sender.clone();
            thread::spawn(move || {
                let lines = BufReader::new(output).lines().map_while(Result::ok);
                lines.for_each(|line| drop(sender.send((Instant::now(), line))));
            });
        }
        let input = child.stdin.take();
        Self { child, input, lines }
    }

    /// Writes a line to its input.
    pub fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line; panics with everything that came instead.
    pub fn expect(&self, wanted: impl FnMut(&str) -> bool) -> String {
        self.expect_that("its line", wanted)
    }

    /// As [`Program::expect`], with a name for what is waited for.
    pub fn expect_that(&self, what: &str, mut wanted: impl FnMut(&str) -> bool) -> String {
        let deadline = Instant::now() + wait::LIMIT;
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((_, line)) if wanted(&line) => return line,
                Ok((_, line)) => seen.push(line),
                Err(RecvTimeoutError::Timeout) => panic!("not seen: {what}; but: {seen:#?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("ended before {what}: {seen:#?}"),
            }
        }
    }

    /// All lines until nothing has come for a while.
    pub fn rest(&self, quiet: Duration) -> Vec<String> {
        std::iter::from_fn(|| self.lines.recv_timeout(quiet).ok()).map(|(_, line)| line).collect()
    }

    /// All lines that come before `end`, for which it waits; lines after that are lost.
    pub fn before(&self, end: Instant) -> Vec<String> {
        thread::sleep(end.saturating_duration_since(Instant::now()));
        let lines = self.lines.try_iter().filter(|(at, _)| *at < end);
        lines.map(|(_, line)| line).collect()
    }

    /// `STOP` or `CONT`, which the process cannot help.
    pub fn signal(&self, signal: &str) {
        run(Command::new("kill").args([format!("-{signal}"), self.child.id().to_string()]));
    }

    /// Processor time that it has used so far, all threads, in milliseconds: its own, the kernel's.
    pub fn processor_time(&self) -> [u64; 2] {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let words: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        [words[11], words[12]].map(|ticks| ticks.parse::<u64>().unwrap() * 10)
    }

    /// `kill -9`, and waits for its end.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes its input and waits for it to end by itself.
    pub fn finish(&mut self) {
        drop(self.input.take());
        let status = wait::look(|| self.child.try_wait().unwrap()).expect("it ends");
        assert!(status.success(), "{status}: {:#?}", self.rest(Duration::ZERO));
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
