//! The one task that knows all that the watches hear: joins what comes together into one batch, tells it
//! to the owner of the cluster state, and keeps the cache.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc::Sender},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, JoinHandle},
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    cache::Cache,
    list::Watching,
    reference,
    world::{Heard, World},
};
use crate::source::{Event, Object, Reference, References};

/// Silence that ends a batch.
const QUIET: Duration = Duration::from_millis(4);
/// Longest that a batch is waited for.
const SETTLE: Duration = Duration::from_millis(25);
/// Period of everything that is not an answer to a watch.
const TICK: Duration = Duration::from_millis(250);
/// An API server that has not answered anything for so long after the start is away.
const AWAY: Duration = Duration::from_secs(1);
/// One that has not told everything for so long is not waited for any more.
const SLOW: Duration = Duration::from_secs(15);
/// If no answer has come for so long to anything that is asked for by name, none is waited for.
const SILENT: Duration = Duration::from_secs(2);
/// Least time between two writes of the cache, and its least multiple of the duration of the last one.
const STORE: (Duration, u32) = (Duration::from_secs(5), 50);

/// What the task is made of.
pub(super) struct Collector {
    pub(super) world: World,
    pub(super) watching: Watching,
    pub(super) wants: watch::Receiver<Arc<References>>,
    pub(super) cache: Option<Cache>,
    pub(super) events: Sender<Event>,
}

/// Collects until `stopped` ends or nobody listens.
pub(super) async fn run(
    collector: Collector,
    mut heard: mpsc::Receiver<Heard>,
    mut stopped: oneshot::Receiver<()>,
) {
    let Collector { world, watching, mut wants, cache, events } = collector;
    let keeper = Keeper { cache, stored: None, changed: false, writing: None };
    let mut task = Task {
        world,
        watching,
        events,
        keeper,
        followers: BTreeMap::new(),
        started: Instant::now(),
        answered: Instant::now(),
        asked_cache: false,
        remembering: false,
    };
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let told = tokio::select! {
            _ = &mut stopped => break,
            Some(first) = heard.recv() => {
                task.hear(first);
                task.settle(&mut heard).await;
                task.tell()
            }
            Ok(()) = wants.changed() => {
                let wanted = Arc::clone(&wants.borrow_and_update());
                task.want(wanted);
                task.tell()
            }
            _ = tick.tick() => task.tick().await,
        };
        if told.is_err() {
            break;
        }
    }
    task.keeper.finish(&task.world).await;
}

struct Task {
    world: World,
    watching: Watching,
    events: Sender<Event>,
    keeper: Keeper,
    /// Watches of single objects.
    followers: BTreeMap<Reference, AbortHandle>,
    started: Instant,
    /// When an object that is asked for by name was last answered, or one was asked for that was not before.
    answered: Instant,
    /// The cache has been looked at.
    asked_cache: bool,
    /// What an earlier process knew stands for what the API server has not told.
    remembering: bool,
}

/// Nobody listens any more.
struct Gone;

impl Task {
    /// Takes over what comes until it is quiet for a moment.
    async fn settle(&mut self, heard: &mut mpsc::Receiver<Heard>) {
        let until = Instant::now() + SETTLE;
        while let left = until.saturating_duration_since(Instant::now())
            && !left.is_zero()
            && let Ok(Some(next)) = timeout(QUIET.min(left), heard.recv()).await
        {
            self.hear(next);
        }
    }

    fn hear(&mut self, heard: Heard) {
        if matches!(heard, Heard::Answer(..)) {
            self.answered = Instant::now();
        }
        self.world.hear(heard);
    }

    /// Tells the differences.
    fn tell(&mut self) -> Result<(), Gone> {
        for event in self.world.events() {
            self.keeper.changed |= matches!(event, Event::Batch(..));
            self.events.send(event).map_err(|_| Gone)?;
        }
        if self.remembering && self.world.is_listed() {
            self.remembering = false;
            self.world.found();
            self.watching.health.remembered(None);
            tracing::info!("the API server has told everything");
        }
        self.watching.health.counted(self.world.census(), self.world.waiting());
        Ok(())
    }

    /// Watches the objects that are asked for by name, and no others any more.
    fn want(&mut self, wanted: Arc<References>) {
        self.followers.retain(|reference, follower| {
            let keep = wanted.contains(reference);
            if !keep {
                follower.abort();
            }
            keep
        });
        for reference in wanted.iter() {
            if !self.followers.contains_key(reference) {
                let follower = reference::follow(reference.clone(), self.watching.clone());
                self.followers.insert(reference.clone(), tokio::spawn(follower).abort_handle());
            }
        }
        self.answered = Instant::now();
        self.world.want(wanted);
    }

    async fn tick(&mut self) -> Result<(), Gone> {
        self.watching.health.settle();
        let waited = self.started.elapsed();
        let patience = if self.watching.health.has_answered() { SLOW } else { AWAY };
        if waited >= patience && !self.world.is_listed() && !self.asked_cache {
            self.asked_cache = true;
            self.remember();
            self.tell()?;
        }
        if self.world.is_listed() {
            if !self.world.is_answered() && self.answered.elapsed() >= SILENT {
                self.go_without_answers()?;
            }
            self.keeper.keep(&self.world).await;
        }
        Ok(())
    }

    /// The API server went away before it answered: what an earlier process knew of what is asked for by name
    /// has to do, or nothing.
    fn go_without_answers(&mut self) -> Result<(), Gone> {
        tracing::warn!("objects that others refer to cannot be read; going on without them");
        let known = self.keeper.load().map(|(objects, _)| objects).unwrap_or_default();
        self.world.remember(known);
        self.tell()?;
        if !self.remembering {
            self.world.found();
        }
        Ok(())
    }

    /// Begins with what an earlier process knew.
    fn remember(&mut self) {
        let Some((objects, written)) = self.keeper.load() else { return };
        tracing::warn!(
            objects = objects.len(),
            "the API server does not answer; what it told last is served"
        );
        self.remembering = true;
        self.world.remember(objects);
        self.watching.health.remembered(Some(written));
    }
}

/// Keeps the cache up to date, on other threads.
struct Keeper {
    cache: Option<Cache>,
    /// When it was last written, and how long that took.
    stored: Option<(Instant, Duration)>,
    changed: bool,
    writing: Option<JoinHandle<Duration>>,
}

impl Keeper {
    /// What an earlier process knew; asked once.
    fn load(&self) -> Option<(Vec<Object>, SystemTime)> {
        self.cache.as_ref()?.load()
    }

    /// Writes what has changed, but not all the time.
    async fn keep(&mut self, world: &World) {
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return;
        }
        self.join().await;
        let (least, factor) = STORE;
        let due = self.stored.is_none_or(|(at, took)| at.elapsed() >= least.max(took * factor));
        if self.changed && due {
            self.write(world);
        }
    }

    /// Writes what has not been written yet.
    async fn finish(&mut self, world: &World) {
        self.join().await;
        if self.changed && world.is_listed() {
            self.write(world);
            self.join().await;
        }
    }

    async fn join(&mut self) {
        if let Some(writing) = self.writing.take()
            && let Ok(took) = writing.await
        {
            self.stored = Some((Instant::now(), took));
        }
    }

    fn write(&mut self, world: &World) {
        let Some(cache) = self.cache.clone() else { return };
        self.changed = false;
        let objects = world.objects();
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            if let Err(error) = cache.store(&objects) {
                tracing::error!(%error, folder = %cache.folder.display(), "objects are not remembered");
            }
            begun.elapsed()
        }));
    }
}
