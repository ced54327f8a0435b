//! The speaker's process, as the tests see it: started on a host, told lines, killed and held.

use std::{cell::RefCell, time::Duration};

use gatehouse_testbed::{
    program::{Program, own_test},
    routers::lab::Lab,
    wait::eventually,
};
use serde_json::Value;

use crate::process::Desired;

/// A speaker that runs. Ended by `kill -9` when it goes out of scope.
pub(crate) struct Node {
    program: Program,
    /// Peers whose session has ended, since it was last asked.
    downs: RefCell<Vec<String>>,
}

impl Node {
    /// Starts it on a host, with no plan.
    pub(crate) fn start(lab: &Lab, host: &str) -> Self {
        Self::start_with_grace(lab, host, Duration::from_secs(1))
    }

    /// The same; marked routes are withdrawn after `grace`.
    pub(crate) fn start_with_grace(lab: &Lab, host: &str, grace: Duration) -> Self {
        let mut command = lab.command(host, "env");
        own_test(&mut command, "node_process");
        command.env("GH_GRACE", grace.as_millis().to_string());
        let node = Self { program: Program::start(command), downs: RefCell::default() };
        node.expect("it is ready", |line| line == "node ready");
        node
    }

    /// Hands it other objects and addresses.
    pub(crate) fn plan(&mut self, desired: &Desired) {
        self.say(&format!("plan {}", serde_json::to_string(desired).unwrap()));
    }

    /// Writes a line to its input.
    pub(crate) fn say(&mut self, line: &str) {
        self.program.say(line);
    }

    /// Waits for a line; panics with everything that came instead.
    pub(crate) fn expect(&self, what: &str, mut wanted: impl FnMut(&str) -> bool) -> String {
        self.program.expect_that(what, |line| {
            if let Some(down) = line.strip_prefix("down ") {
                let peer = down.split(' ').next().unwrap_or_default();
                self.downs.borrow_mut().push(peer.to_owned());
            }
            wanted(line)
        })
    }

    /// Whose sessions have ended since it was last asked, in that order.
    pub(crate) fn downs(&mut self) -> Vec<String> {
        // Whatever has happened is printed before that.
        self.status();
        self.downs.take()
    }

    /// What it says of itself: the serialized `BgpStatus`.
    pub(crate) fn status(&mut self) -> Value {
        self.say("status");
        let line = self.expect("its status", |line| line.starts_with("status "));
        serde_json::from_str(&line["status ".len()..]).unwrap()
    }

    /// The same, once what has happened is in it: it is published a moment after a change. Then it says twice
    /// in a row that as many routes have been sent.
    pub(crate) fn settled(&mut self) -> Value {
        let sent = |status: &Value| {
            let peers = status["peers"].as_object().into_iter().flatten();
            let sent = |(name, peer): (&String, &Value)| {
                (name.clone(), peer["state"].clone(), peer["sent_messages"]["update"].clone())
            };
            peers.map(sent).collect::<Vec<_>>()
        };
        let mut before = self.status();
        eventually("the status settles", || {
            std::thread::sleep(Duration::from_millis(500));
            let now = self.status();
            let last = std::mem::replace(&mut before, now);
            if sent(&last) == sent(&before) { Ok(()) } else { Err(before.to_string()) }
        });
        before
    }

    /// What it says of one router.
    pub(crate) fn peer(&mut self, peer: &str) -> Value {
        self.status()["peers"][peer].clone()
    }

    /// Waits until it says so of one router.
    pub(crate) fn wait_peer(&mut self, peer: &str, what: &str, is: impl Fn(&Value) -> bool) {
        eventually(&format!("{peer}: {what}"), || {
            let status = self.peer(peer);
            if is(&status) { Ok(()) } else { Err(status.to_string()) }
        });
    }

    /// Waits until the session with a router is up, or no longer is.
    pub(crate) fn wait_up(&mut self, peer: &str, wanted: bool) {
        self.wait_peer(peer, &format!("up {wanted}"), |status| {
            (status["state"] == "established") == wanted
        });
    }

    /// Makes it fall silent with its connections open, as if it hung.
    pub(crate) fn hold(&self) {
        self.program.signal("STOP");
    }

    /// Ends [`hold`](Self::hold).
    pub(crate) fn release(&self) {
        self.program.signal("CONT");
    }

    /// `kill -9`: no goodbye, but the kernel closes its connections.
    pub(crate) fn kill(mut self) {
        self.program.kill();
    }

    /// Closes its input and waits for it to end by itself.
    pub(crate) fn finish(mut self) {
        self.program.finish();
    }
}
