//! Watches one object by its name: what others refer to, and nothing beside it.
//!
//! The object is read once, so that there is an answer in any case, then watched. This takes the verbs
//! `get` and `watch`, and never a list.

use std::{pin::pin, time::Duration};

use futures_util::StreamExt as _;
use kube::{
    Api, Resource as _,
    api::{WatchEvent, WatchParams},
};
use tokio::time::sleep;

use super::{
    decode::{Raw, resource},
    list::{Watching, in_words},
    pause::Pause,
    world::{Answer, Heard},
};
use crate::source::{Kind, Reference};

/// How often an object is asked for that may not be read, or not be watched.
const REFUSED: Duration = Duration::from_secs(30);
/// The server ends a watch after this time, in seconds.
const WATCH: u32 = 290;

/// Watches until the receiver is gone.
pub(super) async fn follow(reference: Reference, watching: Watching) {
    let (kind, key) = reference.clone();
    let resource = resource(kind, kind.api_version());
    let path = Raw::url_path(&resource, Some(&key.namespace));
    let api = Api::namespaced_with(watching.client.clone(), &key.namespace, &resource);
    let mut follower = Follower { reference, kind, api, path, watching, pause: Pause::default() };
    while follower.round().await.is_ok() {}
}

struct Follower {
    reference: Reference,
    kind: Kind,
    api: Api<Raw>,
    path: String,
    watching: Watching,
    pause: Pause,
}

/// Nobody listens any more.
struct Gone;

impl Follower {
    /// Reads the object, then watches it until the watch breaks.
    async fn round(&mut self) -> Result<(), Gone> {
        let (answer, mut version) = match self.api.get(&self.reference.1.name).await {
            Ok(raw) => {
                let version = raw.meta().resource_version.clone();
                (self.object(&raw), version.unwrap_or_default())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => (Answer::Absent, String::new()),
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => {
                self.tell(Answer::Refused(status.message)).await?;
                // Mostly the rights are missing; rarely the API server does not know them yet.
                if self.pause.is_long() {
                    sleep(REFUSED.mul_f64(1.0 + fastrand::f64())).await;
                } else {
                    self.pause.wait().await;
                }
                return Ok(());
            }
            Err(error) => return self.failed(&error).await,
        };
        self.tell(answer).await?;
        while self.watch(&mut version).await? {}
        Ok(())
    }

    /// One watch from that version on; without one, from what is there now. False if it is not known
    /// what happened meanwhile.
    async fn watch(&mut self, version: &mut String) -> Result<bool, Gone> {
        let name = format!("metadata.name={}", self.reference.1.name);
        let parameters = WatchParams::default().fields(&name).timeout(WATCH);
        let mut events = match self.api.watch(&parameters, version).await {
            Ok(events) => pin!(events),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                sleep(REFUSED.mul_f64(1.0 + fastrand::f64())).await;
                return Ok(false);
            }
            Err(error) => return self.failed(&error).await.map(|()| false),
        };
        while let Some(event) = events.next().await {
            match event {
                Ok(WatchEvent::Added(raw) | WatchEvent::Modified(raw)) => {
                    *version = raw.meta().resource_version.clone().unwrap_or_default();
                    self.tell(self.object(&raw)).await?;
                }
                Ok(WatchEvent::Deleted(raw)) => {
                    *version = raw.meta().resource_version.clone().unwrap_or_default();
                    self.tell(Answer::Absent).await?;
                }
                Ok(WatchEvent::Bookmark(mark)) => *version = mark.metadata.resource_version,
                // Mostly: too old a version.
                Ok(WatchEvent::Error(_)) => return Ok(false),
                Err(error) => return self.failed(&error).await.map(|()| false),
            }
            self.watching.health.works(&self.path);
            self.pause.reset();
        }
        Ok(true)
    }

    fn object(&self, raw: &Raw) -> Answer {
        Answer::Object(raw.decode(self.kind, self.kind.api_version()))
    }

    async fn failed(&mut self, error: &kube::Error) -> Result<(), Gone> {
        self.watching.health.failing(&self.path, self.kind, in_words(error));
        self.pause.wait().await;
        if self.watching.heard.is_closed() { Err(Gone) } else { Ok(()) }
    }

    async fn tell(&self, answer: Answer) -> Result<(), Gone> {
        let heard = Heard::Answer(self.reference.clone(), answer);
        self.watching.heard.send(heard).await.map_err(|_| Gone)
    }
}
