//! Notices when custom resource definitions come, change and go, so that a kind which the API server did
//! not know is asked for at once. A process that may not watch them asks once in a while instead.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use futures_util::StreamExt as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt as _,
    core::PartialObjectMeta,
    runtime::watcher::{self, Event, watcher},
};
use tokio::{sync::watch, time::sleep};

use super::pause::Pause;
use crate::source::Kind;

/// How often it is tried whether definitions may be watched now.
const REFUSED: Duration = Duration::from_secs(600);

/// How often each custom resource definition has been seen to change, by name.
pub(super) type Definitions = BTreeMap<String, u64>;

/// Watches until nobody waits for a definition any more.
pub(super) async fn follow(client: Client, seen: watch::Sender<Definitions>) {
    let ours: Vec<String> = Kind::ALL.iter().filter_map(|kind| name_of(*kind)).collect();
    let mut pause = Pause::default();
    let api = Api::<PartialObjectMeta<CustomResourceDefinition>>::all(client);
    let mut events = pin!(watcher(api, watcher::Config::default()));
    while let Some(event) = events.next().await {
        let definition = match event {
            Ok(
                Event::Apply(definition) | Event::Delete(definition) | Event::InitApply(definition),
            ) => definition.name_any(),
            Ok(Event::Init) => continue,
            Ok(Event::InitDone) => {
                pause.reset();
                continue;
            }
            Err(error) if is_refused(&error) => {
                sleep(REFUSED).await;
                continue;
            }
            Err(_) => {
                pause.wait().await;
                continue;
            }
        };
        if ours.contains(&definition) {
            seen.send_modify(|seen| *seen.entry(definition).or_default() += 1);
        }
        if seen.is_closed() {
            return;
        }
    }
}

/// Name of the definition of a kind, if it may have one.
pub(super) fn name_of(kind: Kind) -> Option<String> {
    let (group, _) = kind.api_version().split_once('/')?;
    Some(format!("{}.{group}", kind.plural()))
}

fn is_refused(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) =
        error
    else {
        return false;
    };
    matches!(error, kube::Error::Api(status) if matches!(status.code, 401 | 403))
}
