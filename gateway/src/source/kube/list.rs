//! Watches one list of the API server for as long as the process runs.
//!
//! Lists come as streams where the server can do that, in pages elsewhere. A watch that breaks goes on
//! where it was; if the server has forgotten where that is, the list is told anew. A kind that the server
//! does not know is told as empty and asked for again when its definition appears, or once in a while.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use kube::{
    Api, Client, Resource as _,
    runtime::watcher::{self, Event, watcher},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    decode::{Raw, resource},
    definitions::{self, Definitions},
    health::Health,
    pause::Pause,
    world::{Heard, List},
};

/// Times that a kind has to be unknown, one after another, before objects that were there are given up.
const CERTAIN: u32 = 3;
/// Pause between these.
const DOUBT: Duration = Duration::from_secs(1);
/// How often a kind is asked for that the server does not know.
const MISSING: Duration = Duration::from_secs(60);
/// For how long a kind is asked for again and again after its definition has changed.
const EAGER: Duration = Duration::from_secs(15);
/// Pause between these.
const EAGER_PAUSE: Duration = Duration::from_millis(200);

/// What all watches share.
#[derive(Clone)]
pub(super) struct Watching {
    pub(super) client: Client,
    pub(super) heard: mpsc::Sender<Heard>,
    pub(super) health: Arc<Health>,
    pub(super) definitions: watch::Receiver<Definitions>,
}

/// Watches until the receiver is gone.
pub(super) async fn follow(list: List, selector: Option<String>, watching: Watching) {
    let versions = list.kind.api_versions();
    let mut follower = Follower {
        definition: watching.definitions.clone(),
        list,
        selector,
        watching,
        streaming: true,
        pause: Pause::default(),
        listed: false,
        eager: None,
    };
    let (mut version, mut unknown) = (0, 0);
    loop {
        match follower.watch(versions[version]).await {
            End::Gone => return,
            End::NoStreaming => follower.streaming = false,
            End::NoSuchKind => {
                version = (version + 1) % versions.len();
                if version != 0 {
                    continue;
                }
                unknown = if follower.listed { unknown + 1 } else { CERTAIN };
                if unknown < CERTAIN {
                    sleep(DOUBT).await;
                    continue;
                }
                follower.listed = false;
                if follower.tell(Heard::NoSuchKind(follower.list.clone())).await.is_err() {
                    return;
                }
                unknown = 0;
                follower.wait_for_definition().await;
            }
        }
    }
}

struct Follower {
    list: List,
    selector: Option<String>,
    watching: Watching,
    /// Changes of definitions that have not been reacted to.
    definition: watch::Receiver<Definitions>,
    /// The server is believed to send lists as streams.
    streaming: bool,
    pause: Pause,
    /// The list has been told in whole.
    listed: bool,
    /// Until when it is worth asking again and again for a kind that is missing.
    eager: Option<Instant>,
}

impl std::ops::Deref for Follower {
    type Target = Watching;

    fn deref(&self) -> &Watching {
        &self.watching
    }
}

/// Why a watch cannot go on by itself.
enum End {
    /// Nobody listens any more.
    Gone,
    /// The server does not know the kind, in this version.
    NoSuchKind,
    /// The server does not send lists as streams.
    NoStreaming,
}

impl Follower {
    /// Watches the kind in one version of it.
    async fn watch(&mut self, api_version: &str) -> End {
        let resource = resource(self.list.kind, api_version);
        let namespace = self.list.namespace.clone();
        let path = Raw::url_path(&resource, namespace.as_deref());
        let api: Api<Raw> = match &namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let mut events = pin!(watcher(api, self.config()));
        let mut listing = false;
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => match fault(&error, self.streaming && listing) {
                    Fault::Expired => continue,
                    Fault::End(end) => {
                        // It has answered.
                        self.health.works(&path);
                        return end;
                    }
                    Fault::Passing(why) => {
                        self.health.failing(&path, self.list.kind, why);
                        self.pause.wait().await;
                        continue;
                    }
                },
            };
            // What is asked for first is known before the server has said anything.
            if !matches!(event, Event::Init) {
                self.health.works(&path);
                self.pause.reset();
            }
            listing = match event {
                Event::Init => true,
                Event::InitDone => {
                    self.listed = true;
                    false
                }
                _ => listing,
            };
            if self.tell(self.heard(event, api_version)).await.is_err() {
                return End::Gone;
            }
        }
        End::Gone
    }

    fn config(&self) -> watcher::Config {
        let config =
            watcher::Config { label_selector: self.selector.clone(), ..watcher::Config::default() };
        if self.streaming { config.streaming_lists() } else { config }
    }

    fn heard(&self, event: Event<Raw>, api_version: &str) -> Heard {
        let list = self.list.clone();
        match event {
            Event::Init => Heard::Begin(list),
            Event::InitDone => Heard::End(list),
            Event::Delete(raw) => Heard::Gone(list, raw.key()),
            Event::Apply(raw) | Event::InitApply(raw) => {
                let received = raw.decode(list.kind, api_version);
                Heard::Object(list, received)
            }
        }
    }

    async fn tell(&self, heard: Heard) -> Result<(), ()> {
        self.watching.heard.send(heard).await.map_err(|_| ())
    }

    /// Waits until it is worth asking for the kind again.
    async fn wait_for_definition(&mut self) {
        if self.eager.is_some_and(|until| Instant::now() < until) {
            return sleep(EAGER_PAUSE).await;
        }
        let name = definitions::name_of(self.list.kind).unwrap_or_default();
        let seen = self.definition.borrow_and_update().get(&name).copied();
        let changed = self.definition.wait_for(|now| now.get(&name).copied() != seen);
        // Nodes that wait for the same do not ask at the same moment.
        let patience = MISSING.mul_f64(1.0 + fastrand::f64() / 2.0);
        let changed = timeout(patience, changed).await.map(|changed| changed.is_ok());
        match changed {
            Ok(true) => self.eager = Some(Instant::now() + EAGER),
            // Definitions cannot be watched.
            Ok(false) => sleep(patience).await,
            Err(_) => (),
        }
    }
}

enum Fault {
    /// The list will be told anew.
    Expired,
    /// The watch goes on after a pause.
    Passing(String),
    End(End),
}

/// What to do about an error; `opening`: of a list that is being streamed.
fn fault(error: &watcher::Error, opening: bool) -> Fault {
    let (status, event) = match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => (&**status, false),
        watcher::Error::WatchError(status) => (&**status, true),
        other => return Fault::Passing(in_words(other)),
    };
    match status.code {
        404 => Fault::End(End::NoSuchKind),
        410 => Fault::Expired,
        // 1.26 and older, or the feature is switched off; then etcd that is too old for it.
        400 | 422 if !event && matches!(error, watcher::Error::WatchStartFailed(_)) => {
            Fault::End(End::NoStreaming)
        }
        code if event && opening && code != 429 => Fault::End(End::NoStreaming),
        _ => Fault::Passing(status.message.clone()),
    }
}

/// What is at the bottom of an error: what is around it says no more than that a request failed.
pub(super) fn in_words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut chain = std::iter::successors(Some(error), |error| error.source());
    let connecting = chain.clone().any(|error| error.to_string().contains("(Connect)"));
    let last = chain.by_ref().last().map(ToString::to_string).unwrap_or_default();
    if connecting { format!("cannot connect: {last}") } else { last }
}
