//! The speaker's part in the fence: which addresses it covers, and what to do when it does not stand.
//!
//! Part of the driver, which calls this in every turn. [`Keeper`] decides when something is due,
//! `fence::FenceRules` what the kernel has to do; this file gives both the addresses that are held.

use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use tracing::debug;

use super::Driver;
use crate::{
    event::SpeakerEvent,
    kernel::nftables::fence::FenceTable,
    l2::{
        fence::{Amiss, Fenced, Keeper},
        vips::Action,
    },
    problem::Problem,
};

/// Lifetime of addresses, and time from renewal to renewal, without a fence: the kernel of a node that hangs
/// answers for them this long, even if another node has them.
pub(super) const UNFENCED: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(1));
/// The same within a fence, where the lifetime only cleans up addresses that the fence hides. Seldom,
/// as for each IPv6 address that is renewed the kernel goes through all of its interface
/// (`ipv6_mc_up`): a thousand on three nodes take half a percent of a core for that even so.
const FENCED: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(12));

/// What the driver keeps of it.
#[derive(Debug)]
pub(super) struct Fence {
    table: FenceTable,
    keeper: Keeper,
    /// Interfaces may have come or gone.
    look: bool,
    /// Of the addresses that it is around.
    version: Option<u64>,
}

impl Fence {
    /// `port`: of the group. Another group's process on this host has its own fence.
    pub(super) fn new(port: u16, incarnation: [u8; 16]) -> Self {
        let [key @ .., _, _, _, _, _, _, _, _] = incarnation;
        Self {
            table: FenceTable::new(format!("gatehouse-fence-{port}"), key),
            keeper: Keeper::default(),
            look: true,
            version: None,
        }
    }

    /// Has it look at the interfaces again.
    pub(super) fn look(&mut self) {
        self.look = true;
    }
}

impl<E: Fn(SpeakerEvent)> Driver<E> {
    /// Has the fence stand around what is held and what is about to be, if anything of it is new.
    pub(super) fn enclose(&mut self, actions: &[Action], now: Instant) {
        let adds = |action: &Action| matches!(action, Action::Add { .. });
        if self.needs_no_fence() && !actions.iter().any(adds) {
            return;
        }
        let Some(fence) = &mut self.fence else { return };
        // What a predecessor left goes first, and its fence until then stays.
        let Some(version) = self.vips.version() else { return };
        let news = fence.look || fence.version != Some(version) || actions.iter().any(adds);
        let due = if fence.keeper.stands() { news } else { fence.keeper.build_due(now) };
        if !due {
            return;
        }
        let Some(loopback) = self.link_watch.links.loopback() else {
            return self.unfenced(&no_loopback(), now);
        };
        let added = actions.iter().filter_map(|action| match *action {
            Action::Add { ip, index, .. } => Some((index, ip)),
            _ => None,
        });
        let held = self.vips.on_interfaces().chain(added);
        let held: BTreeSet<(u32, IpAddr)> =
            held.filter(|(index, _)| *index != loopback.index).collect();
        let indices = self.links_in_use.keys().copied().chain(held.iter().map(|(index, _)| *index));
        let device = |index| Some((index, self.link_watch.links.link(index)?.name.clone()));
        let wanted = Fenced {
            loopback: loopback.name.clone(),
            devices: indices.filter_map(device).collect(),
            held: held.iter().map(|(_, ip)| *ip).collect(),
        };
        let outcome = fence.table.apply(&wanted);
        debug!(addresses = wanted.held.len(), devices = ?wanted.devices, ?outcome, "fence");
        match outcome {
            Ok(()) => {
                (fence.look, fence.version) = (false, Some(version));
                if !fence.keeper.stands() {
                    fence.keeper.built(now);
                    self.vips.pace(FENCED.0, FENCED.1, now);
                    self.publisher.unfenced(None);
                }
            }
            Err(error) => self.unfenced(&refusal(&error), now),
        }
    }

    /// Turns the key, if it is time to. `along`: a heartbeat is about to be sent.
    pub(super) fn turn_key(&mut self, along: bool, now: Instant) {
        if self.needs_no_fence() {
            return;
        }
        let Some(fence) = &mut self.fence else { return };
        if !fence.keeper.turn_due(along, self.settled, now) {
            return;
        }
        match fence.keeper.heard(&fence.table.echoes(), now) {
            None => {}
            Some(Amiss::Removed) => {
                fence.table.forget();
                self.enclose(&[], now);
            }
            Some(Amiss::Stuck) => self.unfenced(&stuck(), now),
        }
        let loopback = self.link_watch.links.loopback().map(|link| link.index);
        let Some(fence) = &mut self.fence else { return };
        fence.keeper.turned(now);
        let turned = loopback.map_or(Ok(()), |index| fence.table.turn(index));
        if fence.keeper.stands()
            && let Err(error) = turned
        {
            self.unfenced(&refusal(&error), now);
        }
    }

    /// Takes the fence away, unless there is something left that it has to be around.
    pub(super) fn raze(&mut self) {
        if let Some(fence) = &mut self.fence
            && self.vips.held() == 0
            && let Err(error) = fence.table.remove()
        {
            debug!(%error, "the fence is not removed; it opens by itself");
        }
    }

    /// When there is something to do about it.
    pub(super) fn fence_deadline(&self, now: Instant) -> Option<Instant> {
        self.vips.version()?;
        let keeper = &self.fence.as_ref()?.keeper;
        (!self.needs_no_fence()).then(|| keeper.deadline(now))
    }

    /// Whether this node has no address on a link and none in sight: perhaps it only tells routers.
    fn needs_no_fence(&self) -> bool {
        let stands = self.fence.as_ref().is_some_and(|fence| fence.keeper.stands());
        !stands && self.links_in_use.is_empty() && self.vips.held() == 0
    }

    /// There is no fence: addresses are kept by short lifetimes.
    fn unfenced(&mut self, refusal: &Problem, now: Instant) {
        let Some(fence) = &mut self.fence else { return };
        fence.keeper.failed(now);
        // One that stands and whose key is not turned would close.
        if let Err(error) = fence.table.remove() {
            debug!(%error, "the fence is not removed");
        }
        self.vips.pace(UNFENCED.0, UNFENCED.1, now);
        self.publisher.unfenced(Some(refusal.clone()));
    }
}

fn refusal(error: &io::Error) -> Problem {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => "give the process CAP_NET_ADMIN and CAP_NET_RAW",
        _ => "a kernel with nf_tables (netdev family) can do it: load nf_tables",
    };
    failed(&error.to_string(), hint)
}

fn stuck() -> Problem {
    let why = "fence: frames of type 0x88b5 on the loopback interface do not come through";
    failed(why, "look for rules on it that drop them (nft list ruleset, tc filter show)")
}

fn no_loopback() -> Problem {
    failed("fence: there is no loopback interface that is up", "ip link set lo up")
}

fn failed(why: &str, hint: &str) -> Problem {
    let what = format!(
        "if this process hangs or dies, its kernel answers for addresses for up to {} s after another \
         node has them: {why}",
        UNFENCED.0.as_secs()
    );
    Problem::noted("FenceFailed", "", what, hint)
}
