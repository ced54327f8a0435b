//! Asks the name servers of this host, on a thread of its own, so that a silent one costs neither a thread
//! per question nor a data thread's time.
//!
//! `/etc/resolv.conf` and `/etc/hosts` count as they are when a name is asked for. Other sources of
//! `nsswitch.conf` are not asked, and nobody is asked for an address.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use hickory_resolver::{
    TokioResolver,
    config::{LookupIpStrategy, NameServerConfig, ResolverConfig},
    net::{DnsError, NetError, NoRecords, runtime::TokioRuntimeProvider},
    proto::op::ResponseCode,
};
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        oneshot,
    },
    task::JoinSet,
};

use super::{
    registry::NamedEndpoints,
    table::{Answer, Asked, Limits, Outcome, Table},
};

/// Longest that a name is asked for, over all servers, families and tries.
const DEADLINE: Duration = Duration::from_secs(5);
/// Longest that one server is waited for.
const TRY: Duration = Duration::from_secs(2);
/// How long a failure is remembered.
const KEEP_FAILURE: Duration = Duration::from_secs(5);
/// Bounds of an answer's time to live.
const KEEP: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// How long a request waits for name servers while the last addresses of its name are known.
const PATIENCE: Duration = Duration::from_millis(500);
/// Names remembered and asked for at the same time. While nobody can tell more, what a name had last holds for an hour.
const LIMITS: Limits = Limits {
    names: 4_096,
    flights: 256,
    stale: Duration::from_hours(1),
    keep_stale: Duration::from_secs(1),
};
/// Files that say how names are resolved here.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// The way to the resolver thread, which ends with the last of its handles.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    questions: UnboundedSender<Question>,
    endpoints: NamedEndpoints,
}

#[derive(Debug)]
struct Question {
    name: Arc<str>,
    answer: oneshot::Sender<Answer>,
}

impl Resolver {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread, or no runtime for it.
    pub(crate) fn start() -> io::Result<Self> {
        Self::start_with(System::default(), DEADLINE)
    }

    fn start_with(servers: impl Servers, deadline: Duration) -> io::Result<Self> {
        let (questions, receiver) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new()
            .name("names".to_owned())
            .spawn(move || runtime.block_on(run(receiver, servers, deadline)))?;
        Ok(Self { questions, endpoints: NamedEndpoints::default() })
    }

    /// What is known of the addresses of names.
    pub(crate) fn endpoints(&self) -> &NamedEndpoints {
        &self.endpoints
    }

    /// The addresses of a name; none if it has none or nobody could ever tell in time.
    pub(crate) async fn resolve(&self, name: &Arc<str>) -> Answer {
        if let Ok(address) = name.parse::<IpAddr>() {
            return Answer { addresses: [address].into(), keep: KEEP.1 };
        }
        let (answer, answered) = oneshot::channel();
        // A thread that is gone drops the question, and with it the sender.
        let _ = self.questions.send(Question { name: Arc::clone(name), answer });
        answered.await.unwrap_or_else(|_| nothing(Duration::ZERO))
    }
}

fn nothing(keep: Duration) -> Answer {
    Answer { addresses: Arc::default(), keep }
}

/// Where the resolver's name servers are named.
trait Servers: Send + 'static {
    /// A resolver of the servers that count now.
    fn resolver(&mut self) -> Result<TokioResolver, NetError>;
}

/// The thread: answers what is known, asks once for what is not.
async fn run(
    mut questions: UnboundedReceiver<Question>,
    mut servers: impl Servers,
    deadline: Duration,
) {
    let mut table = Table::new(LIMITS);
    let mut flights = Flights::new();
    loop {
        tokio::select! {
            question = questions.recv() => {
                let Some(Question { name, answer }) = question else { return };
                match table.ask(&name, answer, Instant::now()) {
                    Asked::Known(waiter, answer) => tell(waiter, answer),
                    Asked::Refused(waiter) => {
                        tracing::warn!(%name, "too many names are being resolved at once");
                        tell(waiter, nothing(Duration::ZERO));
                    }
                    Asked::Joined => {}
                    Asked::Start => start(&mut flights, name, servers.resolver(), deadline),
                    Asked::StartBehind(waiter, answer) => {
                        tell(waiter, answer);
                        start(&mut flights, name, servers.resolver(), deadline);
                    }
                    Asked::StartSoon => {
                        start(&mut flights, Arc::clone(&name), servers.resolver(), deadline);
                        flights.spawn(async move {
                            tokio::time::sleep(PATIENCE).await;
                            (name, None)
                        });
                    }
                }
            }
            Some(landed) = flights.join_next() => {
                let told = match landed {
                    Ok((name, Some(outcome))) => {
                        Some(table.answered(&name, outcome, Instant::now()))
                    }
                    Ok((name, None)) => table.late(&name),
                    Err(error) => {
                        tracing::error!(%error, "a lookup ended without an answer");
                        None
                    }
                };
                if let Some((waiters, answer)) = told {
                    waiters.into_iter().for_each(|waiter| tell(waiter, answer.clone()));
                }
            },
        }
    }
}

/// What lands: a name and what came of asking for it, or that a request has waited for that long enough.
type Flights = JoinSet<(Arc<str>, Option<Outcome>)>;

fn start(
    flights: &mut Flights,
    name: Arc<str>,
    resolver: Result<TokioResolver, NetError>,
    deadline: Duration,
) {
    flights.spawn(async move {
        let outcome = look_up(resolver, &name, deadline).await;
        (name, Some(outcome))
    });
}

fn tell(waiter: oneshot::Sender<Answer>, answer: Answer) {
    // The client may have gone.
    let _ = waiter.send(answer);
}

async fn look_up(
    resolver: Result<TokioResolver, NetError>,
    name: &str,
    deadline: Duration,
) -> Outcome {
    let found = async { resolver?.lookup_ip(name).await };
    match tokio::time::timeout(deadline, found).await {
        Ok(Ok(found)) => Outcome::Told(Answer {
            addresses: found.iter().collect(),
            keep: found
                .valid_until()
                .saturating_duration_since(Instant::now())
                .clamp(KEEP.0, KEEP.1),
        }),
        Ok(Err(error)) => {
            tracing::debug!(name, %error, "name not resolved");
            match says_that_there_is_none(&error) {
                true => Outcome::Told(nothing(KEEP_FAILURE)),
                false => Outcome::Failed(KEEP_FAILURE),
            }
        }
        Err(_) => {
            tracing::debug!(name, ?deadline, "name not resolved in time");
            Outcome::Failed(KEEP_FAILURE)
        }
    }
}

/// Whether a name server answered, and knows of no address.
fn says_that_there_is_none(error: &NetError) -> bool {
    let NetError::Dns(DnsError::NoRecordsFound(NoRecords { response_code, .. })) = error else {
        return false;
    };
    matches!(response_code, ResponseCode::NXDomain | ResponseCode::NoError)
}

/// The name servers that this host is configured with.
#[derive(Default)]
struct System {
    made: Option<([Stamp; 2], TokioResolver)>,
}

/// What tells one version of a file from the next.
type Stamp = Option<(u64, SystemTime)>;

impl Servers for System {
    fn resolver(&mut self) -> Result<TokioResolver, NetError> {
        let stamps = FILES.map(|file| {
            let metadata = fs::metadata(file).ok()?;
            Some((metadata.len(), metadata.modified().ok()?))
        });
        if let Some((known, resolver)) = &self.made
            && *known == stamps
        {
            return Ok(resolver.clone());
        }
        let resolver = built(TokioResolver::builder_tokio().unwrap_or_else(|error| {
            // resolv.conf(5): without servers, the one on this host is asked.
            tracing::debug!(%error, "no usable /etc/resolv.conf: asking 127.0.0.1");
            let local = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
            let config = ResolverConfig::from_name_servers(vec![local]);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }))?;
        self.made = Some((stamps, resolver.clone()));
        Ok(resolver)
    }
}

fn built(
    mut builder: hickory_resolver::ResolverBuilder<TokioRuntimeProvider>,
) -> Result<TokioResolver, NetError> {
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.timeout = options.timeout.min(TRY);
    options.max_active_requests = 2 * LIMITS.flights;
    // The table remembers, for a time that has bounds.
    options.cache_size = 0;
    builder.build()
}

#[cfg(test)]
mod tests;
