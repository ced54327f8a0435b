//! The EndpointSlices of Services, found without a look at those of all others.

use std::cell::OnceCell;

use foldhash::{HashMap, HashMapExt as _};
use gatehouse_routes::objects::ObjectKey;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::state::ClusterState;

/// Label of an EndpointSlice: the Service that it belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// By namespace and name of their Service.
type Sorted<'s> = HashMap<(&'s str, &'s str), Vec<&'s EndpointSlice>>;

/// All of them, sorted when one is asked for: mostly nobody asks.
pub(super) struct Slices<'s> {
    state: &'s ClusterState,
    sorted: OnceCell<Sorted<'s>>,
}

impl<'s> Slices<'s> {
    pub(super) fn new(state: &'s ClusterState) -> Self {
        Self { state, sorted: OnceCell::new() }
    }

    /// Those of a Service, in the order of their names.
    pub(super) fn of<'a>(&'a self, service: &'a ObjectKey) -> &'a [&'s EndpointSlice] {
        let sorted = self.sorted.get_or_init(|| sort(self.state));
        sorted.get(&(&*service.namespace, &*service.name)).map_or(&[], Vec::as_slice)
    }
}

fn sort(state: &ClusterState) -> Sorted<'_> {
    let mut sorted = Sorted::new();
    for (key, stored) in &state.objects.endpoint_slices {
        let labels = stored.object.metadata.labels.as_ref();
        if let Some(service) = labels.and_then(|labels| labels.get(SERVICE_NAME)) {
            sorted.entry((&*key.namespace, service)).or_default().push(&stored.object);
        }
    }
    sorted
}
