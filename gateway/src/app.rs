//! Starts and stops everything, in one readable order.

use std::{
    process::ExitCode,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use gatehouse_routes::{filter::tls_terms, options::Options};
use gatehouse_vip::Health;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    access_log::{AccessLog, LogFile},
    addresses::{AddressOptions, Addresses},
    admin::metrics::Metrics,
    admin::{
        pages::AdminPages,
        server::{self, Pages},
    },
    compile::{GroupSecret, NodeContext, Role},
    config::Settings,
    controller::{Asking, Controller, Memory, Progress, Reports, Signal},
    handover::{self, Door, Handed},
    http::error::ProxyErrorKind,
    l4::kernel::KernelForwarding,
    listeners::Listeners,
    logging::Complaint,
    overload::{self, Gauge, Overload, Pressure},
    panics,
    passwords::Passwords,
    process::ProcessProblems,
    shares::{self, Shares},
    snapshot::Live,
    source::{
        Event, Source, files,
        kube::{self, KubeSource, client::Access},
    },
    spool::Spool,
    state::ClusterState,
    state_file,
    status::Status,
    tls::{
        config::TlsConfigs,
        profile::{self, Profile},
        tickets::{self, TicketSecret},
    },
    upstream::{Known, checks, outliers, sessions},
    worker::{clock, context::WorkerOptions, thread::WorkerHandle, watchdog},
};

mod authorities;
mod signals;
mod succession;

use signals::{Asked, Signals};
use succession::{follow, meeting, whose};

/// How long the access log may take to write what it has when everything else has ended.
const LOG_FLUSH: Duration = Duration::from_secs(1);

/// Runs the node process until a stop signal. `complaint` is what is wrong with the log; `give_back` has the allocator
/// return to the kernel what the calling thread has freed.
///
/// # Errors
/// What keeps it from starting: paths of manifests that are not there, no known API server, an admin address that is
/// taken, no threads.
pub fn run(
    settings: &Settings,
    complaint: Option<&Complaint>,
    give_back: fn(),
) -> anyhow::Result<ExitCode> {
    let control = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut asked = {
        let _within = control.enter();
        Signals::listen().context("cannot catch signals")?
    };
    raise_descriptor_limit();
    if !settings.memory.core_dumps {
        hide_memory().context("cannot forbid core dumps")?;
    }
    settings.listens_once()?;
    let mut address_options = AddressOptions::new(settings)?;
    let origin = Origin::open(settings)?;
    let problems = ProcessProblems::new(&settings.node_name());
    complaint.inspect(|complaint| complaint.raise(&problems));
    panics::watch(problems.clone());
    let recorded = recorded_addresses(settings, &problems);
    let memory = Memory::new(settings.state_dir.clone(), &recorded, &problems);
    let mut node = node_context(settings, recorded);
    node.tls = tls_profile(settings, &problems)?;
    node.options.destination_ca = authorities::destination(settings)?;
    node.options.route_clients = authorities::route_clients(&settings.route_clients)?;

    let live = Arc::new(Live::default());
    let workers = settings.worker_threads().get();
    let metrics = Metrics::new(workers, ProxyErrorKind::LABELS, settings.metrics_hosts);
    let metrics = Arc::new(metrics.in_names_of_nginx(settings.nginx_metrics));
    let log = access_log(settings, &problems)?;
    let passwords = Passwords::new().context("cannot verify passwords")?;
    let bodies = &settings.bodies;
    let folder = bodies.folder(settings.state_dir.as_deref());
    let spool = Spool::new(folder, bodies.body_memory, bodies.body_disk);
    if let Some(folder) = &bodies.body_dir {
        let context = || format!("cannot keep bodies in --body-dir {}", folder.display());
        spool.try_folder().with_context(context)?;
    }
    let shares = Shares::new(random()?);
    let (hear, heard) = shares::mailbox();
    let agreeing = shares.clone();
    let agree = move |secret: &[u8; 32]| agreeing.agree(secret);
    let in_group = address_options.share(shares::PURPOSE, agree, hear);
    let options = WorkerOptions::new(
        settings,
        Arc::clone(&live),
        metrics.series(),
        (passwords, spool.clone(), shares.clone()),
        Overload::new(give_back),
        workers,
        session_secret(settings, &address_options)?,
    );
    let tls = tls_configs(&node.tls, &live, &address_options)?;
    let tick = clock::period(options.time_scale);
    let known = Known::start().context("cannot start the resolver of names")?;
    let (checked, clock) = (Arc::clone(&live), options.clock());
    let (overload, shortage, kept) = (options.overload.clone(), problems.clone(), spool.clone());
    let workers = (0..workers)
        .map(|index| {
            let logger = log.as_ref().map(AccessLog::logger);
            WorkerHandle::start(
                index,
                options.clone(),
                known.clone(),
                metrics.worker(index),
                logger,
            )
        })
        .collect::<std::io::Result<Vec<_>>>()
        .context("cannot start the data threads")?;

    let (before, inherited) = match &settings.state_dir {
        Some(folder) => handover::meet(folder, &whose(settings))?.unzip(),
        None => (None, None),
    };
    let succeeding = before.is_some();
    let Handed { sockets, clients } = inherited.unwrap_or_default();
    let (signals, received) = mpsc::channel();
    let feed = origin.start(&signals)?;
    let status = match &feed.cluster {
        Some(cluster) => Some(start_status(settings, cluster, &signals)?),
        None => None,
    };
    let address_signals = signals.clone();
    let mut addresses = Addresses::new(address_options, health_of(&workers, tick), move |event| {
        // The controller outlives the speakers; at the very end nobody needs to know.
        let _ = address_signals.send(Signal::Addresses(event));
    });
    let door = Door::default();
    let meets = meeting(settings, &door, &signals);
    match before {
        Some(before) => follow(before, &signals)?,
        None => {
            addresses.start()?;
            meets();
        }
    }

    let progress = Arc::new(Progress::default());
    let admin = AdminPages {
        node: settings.node_name(),
        live: Arc::clone(&live),
        progress: Arc::clone(&progress),
        metrics,
        named: known.resolver.endpoints().clone(),
        log_dropped: log.as_ref().map(AccessLog::dropped_counter),
        addresses: addresses.status(),
        spool,
        shares: shares.clone(),
        issuers: known.issuers,
        source: feed.cluster.as_ref().map(KubeSource::health),
        problems: problems.clone(),
        standing: status.as_ref().map(Status::standing),
        pod_uid: settings.pod_uid.clone(),
    };
    let group = in_group.then(|| addresses.status());
    let (started, could_start) = oneshot::channel();
    let mut controller = Controller {
        state: ClusterState::new([feed.source]),
        node,
        role: feed.role,
        memory,
        door,
        meets,
        drain_timeout: settings.drain_timeout,
        live: Arc::clone(&live),
        workers,
        clock: options.clock(),
        listeners: Listeners::new(tls, sockets, succeeding),
        kernel: KernelForwarding::new(settings.leave_kernel_rules, succeeding, problems.clone()),
        addresses,
        progress,
        compiled: None,
        quarantine: Default::default(),
        strangers: Default::default(),
        retired: Vec::new(),
        generation: 0,
        references: feed.cluster.as_ref().map(|cluster| Asking::new(cluster.wants())),
        reports: status.map(Reports::new),
        problems,
        tls_failures: known.tls_failures,
        node_problems: Vec::new(),
        tidied: Instant::now(),
        started: Some(started),
    };
    controller.keep(clients);
    let admin_listener = handover::shared_listener(settings.admin, succeeding)
        .with_context(|| format!("cannot listen on --admin {}", settings.admin))?;
    let metrics_listener = settings
        .metrics
        .map(|address| {
            handover::shared_listener(address, succeeding)
                .with_context(|| format!("cannot listen on --metrics {address}"))
        })
        .transpose()?;
    let (alive, gone) = oneshot::channel();
    let controller = thread::Builder::new()
        .name("compiler".to_owned())
        .spawn(move || {
            let _alive: oneshot::Sender<()> = alive;
            controller.run(&received);
        })
        .context("cannot start the compiler thread")?;

    let ended = control.block_on(async {
        // Served to the very end: a node that drains has to say so.
        let pages = admin.pages();
        if let Some(listener) = metrics_listener {
            tokio::spawn(server::serve(listener, pages.clone(), Pages::Metrics));
        }
        if let Some(gauge) = Gauge::of(settings.memory.memory_limit) {
            let changed = move |pressure| kept.spare_memory(pressure > Pressure::None);
            tokio::spawn(overload::run(overload, gauge, shortage, changed));
        }
        tokio::spawn(outliers::run(Arc::clone(&checked), settings.time_scale, clock));
        tokio::spawn(checks::run(checked, settings.time_scale));
        if let Some(group) = group {
            tokio::spawn(shares::run(shares, heard, move |notes| group.tell(notes)));
        }
        let mut served = tokio::spawn(server::serve(admin_listener, pages, Pages::All));
        let act = |asked| act(asked, &feed, &signals, log.as_ref());
        let ended = until_stopped((&mut served, gone), could_start, &mut asked, act).await;
        drop(feed);
        until_drained(&signals, &mut asked).await;
        ended
    });
    control.shutdown_background();
    drop(controller);
    if let Some(log) = log {
        log.finish(LOG_FLUSH);
    }
    ended.map(|()| ExitCode::SUCCESS)
}

/// Waits for a stop signal, or until the admin address can no longer be served, or nothing leads the process any more: one
/// that goes on without its controller would serve an old configuration for ever. Another one is started in its place.
async fn until_stopped(
    (served, gone): (&mut JoinHandle<std::io::Result<()>>, oneshot::Receiver<()>),
    could_start: oneshot::Receiver<Result<(), String>>,
    asked: &mut Signals,
    act: impl Fn(Asked),
) -> anyhow::Result<()> {
    let failed_start = async {
        match could_start.await {
            Ok(Err(why)) => anyhow::anyhow!(why),
            _ => std::future::pending().await,
        }
    };
    let mut failed_start = std::pin::pin!(failed_start);
    let mut gone = std::pin::pin!(gone);
    loop {
        tokio::select! {
            why = &mut failed_start => return Err(why),
            _ = &mut gone => anyhow::bail!("the compiler thread has ended: a fault of this program"),
            served = &mut *served => return served
                .map_err(anyhow::Error::from)
                .and_then(|served| served.map_err(anyhow::Error::from))
                .context("the admin server ended"),
            asked = asked.next() => match asked {
                Asked::Stop(signal) => {
                    tracing::info!(signal, "stopping");
                    return Ok(());
                }
                other => act(other),
            }
        }
    }
}

/// Does what a signal asks for that does not end the process.
fn act(asked: Asked, feed: &Feed, signals: &mpsc::Sender<Signal>, log: Option<&AccessLog>) {
    match asked {
        Asked::Reload => {
            tracing::info!(signal = "SIGHUP", "reloading");
            feed.reload();
            log.iter().for_each(|log| log.reopen());
            // The controller outlives the wait for signals.
            let _ = signals.send(Signal::Reload);
        }
        Asked::ReopenLogs => {
            tracing::info!(signal = "SIGUSR1", "opening the access log anew");
            log.iter().for_each(|log| log.reopen());
        }
        Asked::Nothing | Asked::Stop(_) => tracing::info!(signal = "SIGUSR2", "ignored"),
    }
}

/// Tells the controller to stop and waits for it; a second stop signal ends the wait at once.
async fn until_drained(signals: &mpsc::Sender<Signal>, asked: &mut Signals) {
    let (done, finished) = mpsc::sync_channel(1);
    if signals.send(Signal::Stop(done)).is_err() {
        return;
    }
    let waited = tokio::task::spawn_blocking(move || finished.recv());
    tokio::select! {
        _ = waited => (),
        () = asked.stop() => tracing::warn!("stopped without waiting"),
    }
}

/// Where objects come from, found to be usable.
enum Origin {
    Manifests(Box<files::Loaded>),
    Cluster(kube::Options),
}

/// A source at work; it ends when this is dropped.
struct Feed {
    source: Source,
    /// What this node may do about the addresses of what comes from there.
    role: Role,
    manifests: Option<files::FileSource>,
    cluster: Option<KubeSource>,
}

impl Feed {
    /// Reads again what is not watched for every change anyhow.
    fn reload(&self) {
        self.manifests.iter().for_each(files::FileSource::reload);
    }
}

impl Origin {
    fn open(settings: &Settings) -> anyhow::Result<Self> {
        if !settings.manifests.is_empty() {
            let memory = settings.state_dir.as_deref();
            let memory = memory.map(|it| files::Memory::new(it, !settings.no_cached_secrets));
            let loaded = files::load_after(&settings.manifests, memory)?;
            let unreadable = loaded.unreadable();
            anyhow::ensure!(!settings.strict || unreadable.is_empty(), unreadable.join("\n"));
            return Ok(Self::Manifests(Box::new(loaded)));
        }
        Ok(Self::Cluster(kube::Options {
            access: access(settings),
            namespaces: settings.watch_namespaces.clone(),
            namespace_selector: settings.namespace_selector.clone(),
            state_dir: settings.state_dir.clone(),
            cache_secrets: !settings.no_cached_secrets,
        }))
    }

    fn start(self, signals: &mpsc::Sender<Signal>) -> anyhow::Result<Feed> {
        let events = relay(signals)?;
        match self {
            Self::Manifests(loaded) => {
                let manifests = files::FileSource::start(*loaded, events);
                Ok(Feed {
                    source: files::SOURCE,
                    // Manifests are this node's own, so nobody else deals out what is in them.
                    role: Role::Allocate,
                    manifests: Some(manifests.context("cannot watch the manifests")?),
                    cluster: None,
                })
            }
            Self::Cluster(options) => Ok(Feed {
                source: kube::SOURCE,
                role: Role::Follow,
                manifests: None,
                cluster: Some(KubeSource::start(options, events)?),
            }),
        }
    }
}

/// Which API server, and as whom.
fn access(settings: &Settings) -> Access {
    Access { kubeconfig: settings.kubeconfig.clone(), context: settings.context.clone() }
}

/// What tells the cluster, and hears whether this node leads.
fn start_status(
    settings: &Settings,
    cluster: &KubeSource,
    signals: &mpsc::Sender<Signal>,
) -> anyhow::Result<Status> {
    let signals = signals.clone();
    let requests = cluster.health().requests();
    Status::start(settings, &access(settings), &requests, move |leadership| {
        // At the very end nobody needs to know.
        let _ = signals.send(Signal::Leadership(leadership));
    })
}

/// A channel whose events become signals of the controller.
fn relay(signals: &mpsc::Sender<Signal>) -> anyhow::Result<mpsc::Sender<Event>> {
    let (events, relayed) = mpsc::channel::<Event>();
    let signals = signals.clone();
    thread::Builder::new()
        .name("source".to_owned())
        .spawn(move || {
            for event in relayed {
                if signals.send(Signal::Source(event)).is_err() {
                    break;
                }
            }
        })
        .context("cannot start the source thread")?;
    Ok(events)
}

/// The access log that was asked for.
fn access_log(
    settings: &Settings,
    problems: &ProcessProblems,
) -> anyhow::Result<Option<AccessLog>> {
    if settings.no_access_log {
        return Ok(None);
    }
    let options = settings.access_log_options();
    let started = match &settings.access_log {
        None => AccessLog::start(std::io::stdout(), options, problems),
        Some(path) => {
            let file = LogFile::open(path);
            let file =
                file.with_context(|| format!("cannot open --access-log {}", path.display()))?;
            AccessLog::start(file, options, problems)
        }
    };
    started.map(Some).context("cannot start the access log")
}

/// What TLS clients may speak.
fn tls_profile(settings: &Settings, problems: &ProcessProblems) -> anyhow::Result<Arc<Profile>> {
    let (profile, absent) = Profile::new(&settings.tls)?;
    if let Some(absent) = absent {
        let message = profile::reduced(&absent);
        let hint = "clients need TLS 1.2 with ECDHE and AES-GCM or ChaCha20, or TLS 1.3";
        problems.warning(tls_terms::REDUCED, "--tls-profile", message, hint);
    }
    Ok(Arc::new(profile))
}

/// The TLS of clients. Tickets come from the key of the group, never from the state folder: what was said yesterday
/// must not be readable by what a disk holds.
fn tls_configs(
    profile: &Arc<Profile>,
    live: &Arc<Live>,
    addresses: &AddressOptions,
) -> anyhow::Result<TlsConfigs> {
    let given = addresses.group_secret(tickets::PURPOSE);
    let tickets = TicketSecret { live: Arc::clone(live), given };
    TlsConfigs::new(Arc::clone(live), Arc::clone(profile), tickets)
}

fn random() -> anyhow::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).ok().context("the system has no random numbers")?;
    Ok(bytes)
}

/// What session cookies are sealed with: the key of the group where the command line has it, else a secret of the
/// state folder, else one of this process.
fn session_secret(settings: &Settings, addresses: &AddressOptions) -> anyhow::Result<[u8; 32]> {
    if let Some(secret) = addresses.group_secret(sessions::PURPOSE) {
        return Ok(secret);
    }
    let kept = settings.state_dir.as_deref().and_then(|folder| state_file::secret(folder).ok());
    match kept {
        Some(secret) => Ok(secret),
        None => state_file::new_secret().context("the system has no random numbers"),
    }
}

fn recorded_addresses(settings: &Settings, problems: &ProcessProblems) -> state_file::Recorded {
    let Some(state_dir) = &settings.state_dir else { return state_file::Recorded::default() };
    let (recorded, complaint) = state_file::load(state_dir);
    if let Some(complaint) = complaint {
        let hint = "nothing needs to be done: it is written anew with the next address";
        problems.warning(state_file::IGNORED, "--state-dir", complaint, hint);
    }
    recorded
}

/// A node whose data path hangs holds no address.
fn health_of(workers: &[WorkerHandle], tick: Duration) -> Health {
    Arc::new(watchdog::watch(workers.iter().map(WorkerHandle::report).collect(), tick))
}

/// What the compiler has to know about this node.
pub(crate) fn node_context(settings: &Settings, recorded: state_file::Recorded) -> NodeContext {
    NodeContext {
        node: settings.node_name(),
        options: settings.routes.applied_to(Options {
            claim_classes: settings.claim_classes.clone(),
            default_gateway: settings.gateway_service.clone(),
            route_domain: settings.route_domain.clone(),
            encoded_slashes: settings.encoded_slashes,
            nginx_config: settings.nginx_config.clone(),
            error_pages: settings.error_pages.clone(),
            default_backend: settings.default_backend.clone(),
            understand_snippets: settings.understand_snippets,
            listeners: [settings.http_addresses(), settings.https_addresses()].concat(),
            ..Options::default()
        }),
        http: settings.http_addresses(),
        https: settings.https_addresses(),
        recorded: recorded.addresses,
        quarantined: recorded.quarantined,
        external_ips: settings.external_ips.iter().copied().collect(),
        load_balancer_class: settings.cluster.load_balancer_class.clone(),
        ignore_exclude_label: settings.cluster.ignore_exclude_lb,
        publish_service: settings.cluster.publish_service.clone(),
        canonical_hostname: settings.cluster.router_canonical_hostname.clone(),
        group_secret: settings.group_secret.clone().map(|object| {
            let entry = settings.group_secret_entry.clone();
            GroupSecret { object, entry }
        }),
        ..NodeContext::default()
    }
}

/// Keeps private keys and passwords out of core dumps, and from other programs of the same user (P30).
fn hide_memory() -> rustix::io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

/// As many descriptors as the hard limit allows: every proxied connection takes two.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    #[expect(unsafe_code, reason = "rlimits have no safe wrapper in std")]
    // SAFETY: `limit` is a valid, exclusive `rlimit` for both calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}
