//! Starts and stops everything, in one readable order.

use std::{
    process::ExitCode,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use gatehouse_routes::{compile::Options, problem::Severity, stats::HostStats};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::{
    access_log::AccessLog,
    admin::{self, Admin},
    compile::NodeContext,
    config::Settings,
    controller::{Controller, Progress, Signal},
    http::error::ProxyErrorKind,
    listeners::Listeners,
    metrics::{ControlFacts, Metrics},
    plan, recorded,
    runtime::{CoreHandle, CoreOptions},
    snapshot::Live,
    source::{Event, files},
    state::ClusterState,
    tls::TlsConfigs,
    vips::Vips,
};

/// How long the access log may take to write what it has when everything else has ended.
const LOG_FLUSH: Duration = Duration::from_secs(1);

/// Runs the node process until a stop signal.
///
/// # Errors
/// What keeps it from starting: manifests that do not parse, an admin address that is taken, no threads.
pub fn run(settings: &Settings) -> anyhow::Result<ExitCode> {
    raise_descriptor_limit();
    let loaded = files::load(&settings.manifests)?;
    let (state_dir, recorded) = recorded_addresses(settings);
    let node = node_context(settings, recorded);

    let live = Arc::new(Live::default());
    let cores = settings.worker_threads().get();
    let metrics = Arc::new(Metrics::new(cores, ProxyErrorKind::LABELS));
    let log = match settings.no_access_log {
        true => None,
        false => Some(AccessLog::start(std::io::stdout()).context("cannot start the access log")?),
    };
    let options = CoreOptions::new(settings, Arc::clone(&live), cores);
    let unrouted = Arc::clone(&options.unrouted);
    let cores = (0..cores)
        .map(|index| {
            let logger = log.as_ref().map(AccessLog::logger);
            CoreHandle::start(index, options.clone(), metrics.core(index), logger)
        })
        .collect::<std::io::Result<Vec<_>>>()
        .context("cannot start the data threads")?;

    let (signals, received) = mpsc::channel();
    let speaker_signals = signals.clone();
    let vips = Vips::start(move |event| {
        // The controller outlives the speaker; at the very end nobody needs to know.
        let _ = speaker_signals.send(Signal::Speaker(event));
    })
    .context("cannot start the speaker")?;

    let progress = Arc::new(Progress::default());
    let (started, could_start) = oneshot::channel();
    let controller = Controller {
        state: ClusterState::default(),
        node,
        state_dir,
        drain_timeout: settings.drain_timeout,
        live: Arc::clone(&live),
        cores,
        listeners: Listeners::new(TlsConfigs::new(Arc::clone(&live))?),
        vips,
        progress: Arc::clone(&progress),
        compiled: None,
        quarantine: Default::default(),
        retired: Vec::new(),
        generation: 0,
        started: Some(started),
    };
    let admin_listener = std::net::TcpListener::bind(settings.admin)
        .with_context(|| format!("cannot listen on --admin {}", settings.admin))?;
    let admin = admin_of(&live, &progress, &metrics, unrouted, log.as_ref());
    let controller = thread::Builder::new()
        .name("compiler".to_owned())
        .spawn(move || controller.run(&received))
        .context("cannot start the compiler thread")?;
    let source = start_source(loaded, &signals)?;

    let control = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = control.block_on(until_stopped(admin_listener, admin, could_start));
    drop(source);
    let (done, finished) = mpsc::sync_channel(1);
    if signals.send(Signal::Stop(done)).is_ok() {
        // A second stop signal ends the wait at once.
        control.block_on(async {
            let waited = tokio::task::spawn_blocking(move || finished.recv());
            tokio::select! {
                _ = waited => (),
                () = stop_signal() => tracing::warn!("stopped without waiting"),
            }
        });
    }
    control.shutdown_background();
    drop(controller);
    if let Some(log) = log {
        log.finish(LOG_FLUSH);
    }
    ended.map(|()| ExitCode::SUCCESS)
}

/// Serves the admin address until a stop signal, or until it can no longer be served.
async fn until_stopped(
    listener: std::net::TcpListener,
    admin: Admin,
    could_start: oneshot::Receiver<Result<(), String>>,
) -> anyhow::Result<()> {
    let failed_start = async {
        match could_start.await {
            Ok(Err(why)) => anyhow::anyhow!(why),
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        why = failed_start => Err(why),
        served = admin::serve(listener, admin) => served.context("the admin server ended"),
        () = stop_signal() => {
            tracing::info!("stopping");
            Ok(())
        }
    }
}

async fn stop_signal() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => (),
        _ = interrupt.recv() => (),
    }
}

fn start_source(
    loaded: files::Loaded,
    signals: &mpsc::Sender<Signal>,
) -> anyhow::Result<files::FileSource> {
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
    files::FileSource::start(loaded, events).context("cannot watch the manifests")
}

fn recorded_addresses(settings: &Settings) -> (Option<std::path::PathBuf>, recorded::Recorded) {
    let Some(state_dir) = settings.state_dir.clone() else {
        return (None, recorded::Recorded::default());
    };
    let (recorded, complaint) = recorded::load(&state_dir);
    if let Some(complaint) = complaint {
        tracing::warn!("{complaint}");
    }
    (Some(state_dir), recorded)
}

/// What the compiler has to know about this node.
pub(crate) fn node_context(settings: &Settings, recorded: recorded::Recorded) -> NodeContext {
    NodeContext {
        node: settings.node_name(),
        options: Options {
            claim_classes: settings.claim_classes.clone(),
            default_gateway: settings.gateway_service.clone(),
            route_domain: settings.route_domain.clone(),
            allow_loopback_endpoints: true,
            ..Options::default()
        },
        http: settings.http_addresses(),
        https: settings.https_addresses(),
        recorded: recorded.addresses,
        resting: recorded.resting,
        standalone: true,
        ..NodeContext::default()
    }
}

fn admin_of(
    live: &Arc<Live>,
    progress: &Arc<Progress>,
    metrics: &Arc<Metrics>,
    unrouted: Arc<HostStats>,
    log: Option<&AccessLog>,
) -> Admin {
    let dropped = log.map(AccessLog::dropped_counter);
    let (for_waiting, for_metrics, for_snapshot) =
        (Arc::clone(progress), Arc::clone(progress), Arc::clone(progress));
    let (live, metrics, shown) = (Arc::clone(live), Arc::clone(metrics), Arc::clone(live));
    Admin {
        waiting: Arc::new(move || waiting(&for_waiting)),
        metrics: Arc::new(move || {
            let facts = for_metrics.facts();
            let count = |severity| {
                facts.problems.iter().filter(|problem| problem.severity == severity).count() as u64
            };
            let snapshot = live.current();
            let hosts = snapshot.gateways.iter().flat_map(|gateway| {
                gateway.routes.hosts().map(|(_, host)| (&*host.name, &*host.stats))
            });
            let hosts = hosts.chain([("", &*unrouted)]);
            metrics.render(
                hosts,
                &ControlFacts {
                    generation: snapshot.generation,
                    snapshots_alive: facts.snapshots_alive,
                    compile: facts.compile,
                    errors: count(Severity::Error),
                    warnings: count(Severity::Warning),
                    access_log_dropped: dropped
                        .as_ref()
                        .map_or(0, |dropped| dropped.load(std::sync::atomic::Ordering::Relaxed)),
                },
            )
        }),
        snapshot: Arc::new(move || {
            let snapshot = shown.current();
            let facts = for_snapshot.facts();
            let mut json = match &snapshot.compiled {
                Some(compiled) => plan::snapshot_json(compiled, snapshot.generation),
                None => serde_json::json!({ "generation": 0 }),
            };
            json["listeners"] = serde_json::json!(facts.listeners);
            json["announced"] = serde_json::json!(facts.announced);
            json["problems"] = serde_json::json!(facts.problems);
            json
        }),
    }
}

/// What a node that is not ready waits for.
fn waiting(progress: &Progress) -> Vec<String> {
    let facts = progress.facts();
    if facts.stopping {
        return vec!["stopping".to_owned()];
    }
    if !facts.published {
        return vec!["first snapshot".to_owned()];
    }
    let closed = facts.listeners.iter().filter(|listener| !listener.open);
    closed
        .map(|listener| {
            let error = listener.error.as_deref().unwrap_or("not open yet");
            format!("listener {}: {error}", listener.address)
        })
        .collect()
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
