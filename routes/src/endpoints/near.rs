//! Which endpoints are near this process, for Services that want traffic kept there.
//!
//! The rules are kube-proxy's: hints of the EndpointSlice controller count if every endpoint has one and one of them is for
//! this zone or node (KEP-2433, KEP-4444, KEP-3015). Slices without any hint, as they are written by hand, are judged
//! by where their endpoints are, if `trafficDistribution` of the Service asks for it.

use k8s_openapi::api::discovery::v1::Endpoint;

use crate::options::Place;

/// What a Service wants (`spec.trafficDistribution`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Distribution {
    /// Nothing.
    #[default]
    Anywhere,
    /// `PreferClose`, `PreferSameZone`.
    SameZone,
    /// `PreferSameNode`: then the same zone.
    SameNode,
}

impl Distribution {
    /// What is not known asks for nothing, as with kube-proxy.
    pub(super) fn of(text: Option<&str>) -> Self {
        match text {
            Some("PreferClose" | "PreferSameZone") => Self::SameZone,
            Some("PreferSameNode") => Self::SameNode,
            _ => Self::Anywhere,
        }
    }
}

/// How near an endpoint is, and how that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Nearness {
    hinted_zone: bool,
    hinted_node: bool,
    for_zone: bool,
    for_node: bool,
    in_zone: bool,
    on_node: bool,
}

impl Nearness {
    pub(super) fn of(endpoint: &Endpoint, place: &Place) -> Self {
        let hints = endpoint.hints.as_ref();
        let zones = hints.and_then(|hints| hints.for_zones.as_deref()).unwrap_or_default();
        let nodes = hints.and_then(|hints| hints.for_nodes.as_deref()).unwrap_or_default();
        let zone = place.zone.as_deref();
        Self {
            hinted_zone: !zones.is_empty(),
            hinted_node: !nodes.is_empty(),
            for_zone: zones.iter().any(|hint| Some(&*hint.name) == zone),
            for_node: nodes.iter().any(|hint| *hint.name == *place.node),
            in_zone: zone.is_some() && endpoint.zone.as_deref() == zone,
            on_node: endpoint.node_name.as_deref() == Some(&*place.node),
        }
    }
}

/// Which of these endpoints are near, if only some are and that matters.
pub(super) fn among(all: &[Nearness], wanted: Distribution) -> Option<fn(&Nearness) -> bool> {
    let every = |has: fn(&Nearness) -> bool| all.iter().all(has);
    let hinted = all.iter().any(|one| one.hinted_zone || one.hinted_node);
    let mut choices: Vec<fn(&Nearness) -> bool> = Vec::new();
    if hinted {
        if every(|one| one.hinted_node) {
            choices.push(|one| one.for_node);
        }
        if every(|one| one.hinted_zone) {
            choices.push(|one| one.for_zone);
        }
    } else {
        match wanted {
            Distribution::Anywhere => {}
            Distribution::SameZone => choices.push(|one| one.in_zone),
            Distribution::SameNode => {
                choices.extend([(|one| one.on_node) as fn(&Nearness) -> bool, |one| one.in_zone])
            }
        }
    }
    let near = choices.into_iter().find(|near| all.iter().any(near))?;
    (!all.iter().all(near)).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `zone/node` of an endpoint, behind `=` the zone and behind `@` the node that it is hinted for.
    fn endpoint(text: &str) -> Endpoint {
        let (text, node) = text.split_once('@').map_or((text, None), |(a, b)| (a, Some(b)));
        let (text, zone) = text.split_once('=').map_or((text, None), |(a, b)| (a, Some(b)));
        let (own_zone, own_node) = text.split_once('/').unwrap();
        let hint = |name: &str| serde_json::json!([{ "name": name }]);
        serde_json::from_value(serde_json::json!({
            "addresses": ["10.0.0.1"], "zone": own_zone, "nodeName": own_node,
            "hints": {"forZones": zone.map(hint), "forNodes": node.map(hint)},
        }))
        .unwrap()
    }

    #[test]
    fn the_endpoints_near_zone_a_and_node_1() {
        use Distribution::{Anywhere, SameNode, SameZone};
        for (wanted, endpoints, expected) in [
            (Anywhere, "a/1 b/2", ""),
            (SameZone, "a/1 a/2 b/3", "a/1 a/2"),
            (SameNode, "a/1 a/2 b/3", "a/1"),
            (SameNode, "a/3 a/2 b/3", "a/3 a/2"),
            (SameNode, "b/3 c/4", ""),
            (SameZone, "b/3 c/4", ""),
            // All are near.
            (SameZone, "a/1 a/2", ""),
            // Hints count whatever the Service says, and before where endpoints are.
            (Anywhere, "a/1=a b/2=b", "a/1=a"),
            (SameZone, "a/1=b b/2=a", "b/2=a"),
            // Not every endpoint has one: a hint is on its way.
            (Anywhere, "a/1=a b/2", ""),
            (SameZone, "a/1=a b/2", ""),
            // None for this zone.
            (SameZone, "a/1=b b/2=c", ""),
            (SameNode, "a/1=a@1 a/2=a@2 b/3=b@3", "a/1=a@1"),
            (SameNode, "a/2=a@2 b/3=b@3", "a/2=a@2"),
        ] {
            let place = Place { node: "1".into(), zone: Some("a".into()) };
            let all: Vec<_> = endpoints
                .split(' ')
                .map(|text| (text, Nearness::of(&endpoint(text), &place)))
                .collect();
            let nearness: Vec<_> = all.iter().map(|(_, nearness)| *nearness).collect();
            let near = among(&nearness, wanted);
            let near = all.iter().filter(|(_, one)| near.is_some_and(|near| near(one)));
            let near: Vec<_> = near.map(|(text, _)| *text).collect();
            assert_eq!(near.join(" "), expected, "{wanted:?} among {endpoints}");
        }
    }

    #[test]
    fn a_process_that_does_not_know_its_zone_is_near_nothing() {
        let place = Place { node: "9".into(), zone: None };
        let one = |text: &str| Nearness::of(&endpoint(text), &place);
        for all in [[one("a/1"), one("b/2")], [one("a/1=a"), one("b/2=b")]] {
            assert!(among(&all, Distribution::SameNode).is_none());
        }
    }
}
