//! The life of one Pod on its node: from its volumes and network over its containers to its end.
//!
//! Each Pod has a thread, which starts all its processes: the kernel ends them with it. The agent tells it
//! what the API server says; it tells the API server what it sees. While the API server is away everything runs on.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as Spec, Pod};
use serde_json::{Value, json};

use super::{
    Site,
    api::{Api, Change},
    container::{Container, Mount},
    network::Sandbox,
    probe::Probes,
    spec::{self, Addresses},
    status::{self, Role, Seen, Sight, State},
    volumes::{Store, Volumes},
};

/// How often everything is looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often volumes are compared with what the API server has.
const REFRESH: Duration = Duration::from_secs(5);
/// Between attempts at what cannot be done yet, such as a volume of a `Secret` that does not exist.
const RETRY: Duration = Duration::from_secs(1);
/// Longest pause before a container that ends again and again is started anew.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What the API server says of the Pod.
#[derive(Debug)]
pub(super) enum News {
    /// It is so; it may be about to be deleted.
    Is(Box<Pod>),
    /// It is no longer there.
    Gone,
}

/// A container's place in its Pod.
struct Slot {
    spec: Spec,
    seen: Seen,
    running: Option<(Container, Probes)>,
    /// When it may be started.
    due: Instant,
    pause: Duration,
}

/// A Pod on this node.
pub(super) struct Life {
    pod: Pod,
    site: Arc<Site>,
    api: Api,
    folder: PathBuf,
    sandbox: Option<Sandbox>,
    volumes: Volumes,
    refresh: Instant,
    prepared: bool,
    init: Vec<Slot>,
    containers: Vec<Slot>,
    since: Timestamp,
    told: Option<Value>,
    /// Not before this the API server is told anything, as it did not answer.
    tell_from: Instant,
}

impl Slot {
    fn new(spec: &Spec, init: bool) -> Self {
        let role = match spec.restart_policy.as_deref() {
            Some("Always") if init => Role::Sidecar,
            _ if init => Role::First,
            _ => Role::Main,
        };
        let state = State::Waiting { reason: "ContainerCreating", message: String::new() };
        let seen = Seen { role, state, restarts: 0 };
        Self { spec: spec.clone(), seen, running: None, due: Instant::now(), pause: RETRY }
    }

    fn wait(&mut self, reason: &'static str, message: String, now: Instant) {
        self.seen.state = State::Waiting { reason, message };
        self.due = now + RETRY;
    }

    /// Looks at it while it runs.
    fn look(&mut self, sandbox: &Sandbox, now: Instant) {
        let Some((container, probes)) = &mut self.running else { return };
        if let Some(code) = container.exit_code() {
            self.note_end(code, now);
            return;
        }
        let found = probes.ask(&self.spec, container, sandbox, now);
        if let State::Running { ready, started, .. } = &mut self.seen.state {
            (*ready, *started) = (found.ready, found.started);
        }
        if !found.alive {
            // As a node does, but for its grace: what does not answer is not asked to end either.
            container.kill();
            self.note_end(128 + 9, now);
        }
    }

    /// Whether it is to be started, for the first time or anew.
    fn is_due(&self, pod: &Pod, now: Instant) -> bool {
        !self.has_ended_for_good(pod) && now >= self.due
    }

    fn has_ended_for_good(&self, pod: &Pod) -> bool {
        let State::Ended { code, .. } = self.seen.state else { return false };
        match self.seen.role {
            Role::Sidecar => false,
            Role::First if code == 0 => true,
            Role::First | Role::Main => !status::restarts(pod, code),
        }
    }

    /// Notes its end, and when it is started anew.
    fn note_end(&mut self, code: i32, now: Instant) {
        let since = match self.seen.state {
            State::Running { since, .. } => since,
            _ => Timestamp::now(),
        };
        self.seen.state = State::Ended { since, at: Timestamp::now(), code };
        self.running = None;
        self.due = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

impl Life {
    /// A Pod that is new to this node.
    pub(super) fn new(pod: Pod, site: Arc<Site>) -> anyhow::Result<Self> {
        let uid = pod.metadata.uid.clone().context("a Pod without uid")?;
        let folder = site.folder.join("pods").join(uid);
        fs::create_dir_all(&folder)?;
        let spec = pod.spec.clone().unwrap_or_default();
        let slots = |specs: &[Spec], init| specs.iter().map(|spec| Slot::new(spec, init)).collect();
        Ok(Self {
            api: Api::new(&site.access)?,
            volumes: Volumes::new(&folder, &site.folder.join("host")),
            init: slots(&spec.init_containers.unwrap_or_default(), true),
            containers: slots(&spec.containers, false),
            since: Timestamp::now(),
            sandbox: None,
            refresh: Instant::now(),
            told: None,
            tell_from: Instant::now(),
            prepared: false,
            folder,
            pod,
            site,
        })
    }

    /// Until it is gone.
    pub(super) fn run(mut self, news: &Receiver<News>) {
        loop {
            match news.recv_timeout(TICK) {
                Ok(News::Is(pod)) => self.pod = *pod,
                Ok(News::Gone) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.pod.metadata.deletion_timestamp.is_some() {
                self.end();
                break;
            }
            self.step();
            self.tell();
        }
        drop(self.containers);
        drop(self.init);
        // What is left in it belongs to nobody.
        let _ = fs::remove_dir_all(&self.folder);
    }

    /// Does what is due.
    fn step(&mut self) {
        let now = Instant::now();
        if now >= self.refresh {
            self.refresh = now + REFRESH;
            if let Err(error) = self.prepare() {
                self.refresh = now + RETRY;
                let message = format!("{error:#}");
                let slots = self.init.iter_mut().chain(&mut self.containers);
                for slot in slots.filter(|slot| slot.running.is_none()) {
                    if matches!(slot.seen.state, State::Waiting { .. }) {
                        slot.wait("ContainerCreating", message.clone(), now);
                    }
                }
            }
        }
        if !self.prepared {
            return;
        }
        if self.containers.iter().all(|slot| slot.has_ended_for_good(&self.pod)) {
            self.end_sidecars(now);
            return;
        }
        for at in 0..self.init.len() {
            self.turn(true, at, now);
            if !self.init[at].seen.lets_others_start() {
                return;
            }
        }
        for at in 0..self.containers.len() {
            self.turn(false, at, now);
        }
    }

    /// Ends those that run only for the sake of the others.
    fn end_sidecars(&mut self, now: Instant) {
        let Some(sandbox) = &self.sandbox else { return };
        for slot in &mut self.init {
            slot.look(sandbox, now);
            if let Some((container, _)) = &slot.running {
                container.terminate();
            }
        }
    }

    /// Network, then volumes, which may name its address.
    fn prepare(&mut self) -> anyhow::Result<()> {
        if self.sandbox.is_none() {
            let spec = self.pod.spec.as_ref();
            let on_node = spec.is_some_and(|spec| spec.host_network == Some(true));
            self.sandbox = Some(if on_node {
                Sandbox::of_node(self.site.address)
            } else {
                Sandbox::new(&self.site.range)?
            });
        }
        self.write_volumes()?;
        self.prepared = true;
        Ok(())
    }

    fn write_volumes(&mut self) -> anyhow::Result<()> {
        let addresses = self.addresses();
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        let mut store = Store { api: &mut self.api, namespace };
        self.volumes.write(&self.pod, &addresses, &mut store)
    }

    /// Starts, looks at or starts anew one container.
    fn turn(&mut self, init: bool, at: usize, now: Instant) {
        let Some(sandbox) = &self.sandbox else { return };
        let slot = if init { &mut self.init[at] } else { &mut self.containers[at] };
        if slot.running.is_some() {
            slot.look(sandbox, now);
            return;
        }
        if !slot.is_due(&self.pod, now) {
            return;
        }
        let again = matches!(slot.seen.state, State::Ended { .. });
        let started = self.start(init, at);
        let slot = if init { &mut self.init[at] } else { &mut self.containers[at] };
        match started {
            Err(error) => slot.wait("CreateContainerError", format!("{error:#}"), now),
            Ok(()) if again => slot.seen.restarts += 1,
            Ok(()) => {}
        }
    }

    fn start(&mut self, init: bool, at: usize) -> anyhow::Result<()> {
        let addresses = self.addresses();
        let slot = if init { &mut self.init[at] } else { &mut self.containers[at] };
        let sandbox = self.sandbox.as_ref().context("no network")?;
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        let mut store = Store { api: &mut self.api, namespace };
        let (images, service) = (&self.site.images, &self.site.service);
        let command =
            spec::command(&self.pod, &slot.spec, images, &addresses, service, &mut store)?;
        let Some(command) = command else {
            let image = slot.spec.image.as_deref().unwrap_or_default();
            let message = format!("no program is known for the image `{image}`");
            slot.wait("ErrImagePull", message, Instant::now());
            return Ok(());
        };
        let mounts = mounts(&self.pod, &slot.spec, &self.volumes)?;
        let folder = self.folder.join("containers").join(&slot.spec.name);
        fs::create_dir_all(&folder)?;
        let log = self.site.log(namespace, &spec::hostname(&self.pod), &slot.spec.name);
        let name = &slot.spec.name;
        let container = Container::start(name, &sandbox.prefix(), command, &mounts, &folder, &log)?;
        slot.running = Some((container, Probes::new(&slot.spec, Instant::now())));
        let started = slot.spec.startup_probe.is_none();
        let ready = started && slot.spec.readiness_probe.is_none();
        slot.seen.state = State::Running { since: Timestamp::now(), ready, started };
        Ok(())
    }

    /// Ends all containers within the Pod's grace, then tells that the Pod is gone.
    fn end(&mut self) {
        let grace = self.pod.metadata.deletion_grace_period_seconds.unwrap_or(30);
        let deadline = Instant::now() + Duration::from_secs(grace.unsigned_abs());
        for slot in &self.containers {
            let hook = slot.spec.lifecycle.as_ref().and_then(|hooks| hooks.pre_stop.as_ref());
            let Some((container, _)) = &slot.running else { continue };
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(words) = hook.and_then(|hook| hook.exec.as_ref()?.command.as_ref()) {
                // A hook that fails delays nothing.
                let _ = container.exec(words, left);
            }
            if let Some(sleep) = hook.and_then(|hook| hook.sleep.as_ref()) {
                thread::sleep(Duration::from_secs(sleep.seconds.unsigned_abs()).min(left));
            }
            container.terminate();
        }
        loop {
            if let Some(sandbox) = &self.sandbox {
                let now = Instant::now();
                self.containers.iter_mut().for_each(|slot| slot.look(sandbox, now));
            }
            self.tell();
            let runs = self.containers.iter().any(|slot| slot.running.is_some());
            if !runs || Instant::now() > deadline {
                break;
            }
            thread::sleep(TICK);
        }
        self.containers.clear();
        self.init.clear();
        self.delete();
    }

    /// Takes the Pod from the API server: nothing of it runs any more.
    fn delete(&mut self) {
        let options = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": self.pod.metadata.uid},
        });
        let path = self.path();
        while let Err(error) = self.api.send(Change::Delete, &path, &options) {
            eprintln!("{path}: {error:#}");
            thread::sleep(RETRY);
        }
    }

    /// Tells the API server what has changed.
    fn tell(&mut self) {
        let look = |slots: &[Slot]| slots.iter().map(|slot| slot.seen.clone()).collect();
        let (init, containers) = (look(&self.init), look(&self.containers));
        let sight = Sight { since: self.since, init, containers };
        let patch = status::patch(&self.pod, &sight, &self.addresses(), Timestamp::now());
        if self.told.as_ref() == Some(&patch) || Instant::now() < self.tell_from {
            return;
        }
        let path = format!("{}/status", self.path());
        match self.api.send(Change::Merge, &path, &patch) {
            Ok(Some(pod)) => {
                // What the API server has now, times of conditions included.
                if let Ok(pod) = serde_json::from_value::<Pod>(pod) {
                    self.pod.status = pod.status;
                }
                self.told =
                    Some(status::patch(&self.pod, &sight, &self.addresses(), Timestamp::now()));
            }
            // It is gone, which the agent hears soon.
            Ok(None) => self.told = Some(patch),
            Err(error) => {
                eprintln!("{path}: {error:#}");
                self.tell_from = Instant::now() + RETRY;
            }
        }
    }

    fn addresses(&self) -> Addresses {
        let pod = self.sandbox.as_ref().map(|sandbox| sandbox.address.to_string());
        Addresses { host: self.site.address.to_string(), pod: pod.unwrap_or_default() }
    }

    fn path(&self) -> String {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        format!("/api/v1/namespaces/{namespace}/pods/{}", spec::hostname(&self.pod))
    }
}

/// What a container sees of the Pod's volumes.
fn mounts(pod: &Pod, container: &Spec, volumes: &Volumes) -> anyhow::Result<Vec<Mount>> {
    let known: BTreeMap<_, _> = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten())
        .map(|volume| (volume.name.as_str(), volume))
        .collect();
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let volume =
            known.get(mount.name.as_str()).with_context(|| format!("no volume {}", mount.name))?;
        let mut source = volumes.source(volume);
        if let Some(path) = &mount.sub_path {
            source = source.join(path);
            if !source.exists() {
                fs::create_dir_all(&source)?;
            }
        }
        let writable = volume.empty_dir.is_some() || volume.host_path.is_some();
        let read_only = mount.read_only == Some(true) || !writable;
        mounts.push(Mount { source, target: mount.mount_path.clone(), read_only });
    }
    Ok(mounts)
}
