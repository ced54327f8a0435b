//! Ties the two ends of a [`handover`] to the controller.

use std::sync::mpsc;

use anyhow::Context as _;

use crate::{
    config::Settings,
    controller::Signal,
    handover::{self, Before, Door},
};

/// Which gateway this process is one of, so that two releases that were given one state folder by mistake do not
/// take each other for an upgrade.
pub(super) fn whose(settings: &Settings) -> String {
    let pod = || std::env::var("POD_NAMESPACE").unwrap_or_default();
    let namespace = settings.cluster.lease_namespace.clone().unwrap_or_else(pod);
    format!("{namespace}/{}", settings.cluster.lease_name)
}

/// What lets a successor in: to be called when this process has the addresses.
pub(super) fn meeting(
    settings: &Settings,
    door: &Door,
    signals: &mpsc::Sender<Signal>,
) -> Box<dyn Fn() + Send> {
    let Some(folder) = settings.state_dir.clone() else { return Box::new(|| ()) };
    let (door, signals, whose) = (door.clone(), signals.clone(), whose(settings));
    Box::new(move || {
        let signals = signals.clone();
        let hand = move || {
            let (answer, answered) = mpsc::sync_channel(1);
            signals.send(Signal::HandOver(answer)).ok()?;
            answered.recv().ok().flatten()
        };
        if let Err(error) = handover::serve(&folder, &whose, &door, hand) {
            tracing::warn!(%error, "no successor can start beside this process");
        }
    })
}

/// Passes on what the predecessor says.
pub(super) fn follow(before: Before, signals: &mpsc::Sender<Signal>) -> anyhow::Result<()> {
    let signals = signals.clone();
    let tell = move |step| {
        // At the very end nobody needs to know.
        let _ = signals.send(Signal::Before(step));
    };
    before.follow(tell).context("cannot start the thread that follows the predecessor")
}
