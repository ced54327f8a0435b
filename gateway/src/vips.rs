//! Between the snapshot and the speaker: what may be announced now, and what became of it.
//!
//! The plan says what should be announced; this file holds an address back until every listener on it is
//! open (bind, then announce) and remembers which addresses the speaker still holds, so that listeners
//! outlive them (withdraw, then unbind). Ownership among nodes will plug in here and in `vip::plan`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use gatehouse_routes::{
    objects::{ObjectKey, ObjectRef},
    problem::Problem,
};
use gatehouse_vip::{Speaker, SpeakerEvent, SpeakerOptions, VipPlan};

use crate::{compile::ListenerPlan, listeners::Listeners};

/// The addresses of this node.
pub(crate) struct Vips {
    speaker: Speaker,
    applied: VipPlan,
    /// Addresses on an interface by our doing.
    held: BTreeMap<IpAddr, String>,
    refused: BTreeMap<IpAddr, gatehouse_vip::Refusal>,
}

impl Vips {
    /// Starts the speaker's thread.
    pub(crate) fn start(events: impl Fn(SpeakerEvent) + Send + 'static) -> std::io::Result<Self> {
        let speaker = Speaker::start(SpeakerOptions { name: "speaker".to_owned() }, events)?;
        Ok(Self {
            speaker,
            applied: VipPlan::default(),
            held: BTreeMap::new(),
            refused: BTreeMap::new(),
        })
    }

    /// Hands the speaker what may be announced of the plan.
    pub(crate) fn apply(&mut self, plan: &VipPlan, plans: &[ListenerPlan], listeners: &Listeners) {
        let allowed = served(plan, plans, |plan| listeners.is_open(plan));
        self.refused.retain(|vip, _| allowed.vips.contains_key(vip));
        if allowed != self.applied {
            self.applied = allowed.clone();
            self.speaker.apply(allowed);
        }
    }

    /// Takes note of what the speaker did.
    pub(crate) fn heard(&mut self, event: SpeakerEvent) {
        match event {
            SpeakerEvent::Announced { vip, interface } => {
                tracing::info!(%vip, interface, "announced");
                self.refused.remove(&vip);
                self.held.insert(vip, interface);
            }
            SpeakerEvent::Withdrawn { vip } => {
                tracing::info!(%vip, "withdrawn");
                self.held.remove(&vip);
            }
            SpeakerEvent::Refused { vip, refusal } => {
                tracing::warn!(%vip, reason = refusal.reason, "{}", refusal.message);
                self.refused.insert(vip, refusal);
            }
        }
    }

    /// True while the address is wanted or still on an interface.
    pub(crate) fn holds(&self, vip: &IpAddr) -> bool {
        self.applied.vips.contains_key(vip) || self.held.contains_key(vip)
    }

    /// Announced addresses and their interfaces.
    pub(crate) fn held(&self) -> &BTreeMap<IpAddr, String> {
        &self.held
    }

    /// The speaker's refusals, as problems of the Services that hold the addresses.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (vip, refusal) in &self.refused {
            let claims = self.applied.vips.get(vip).map(|vip| &*vip.claims).unwrap_or_default();
            let services: BTreeSet<Arc<str>> =
                claims.iter().map(|claim| Arc::clone(&claim.0)).collect();
            for service in services {
                let (namespace, name) = service.split_once('/').unwrap_or(("", &service));
                let object = ObjectRef::new("Service", ObjectKey::new(namespace, name));
                let (message, hint) = (refusal.message.clone(), refusal.hint.clone());
                let field = refusal.field.clone();
                problems.push(if refusal.severe {
                    Problem::error(&object, refusal.reason, field, message, hint)
                } else {
                    Problem::warning(&object, refusal.reason, field, message, hint)
                });
            }
        }
        problems
    }

    /// Withdraws everything; true if the kernel and the neighbours know in time.
    pub(crate) fn withdraw(&self, timeout: Duration) -> bool {
        self.speaker.withdraw_all_and_wait(timeout)
    }

    /// Ends the speaker's thread.
    pub(crate) fn stop(self) {
        self.speaker.stop();
    }
}

/// The part of a plan whose every listener serves; an address without any listener is not announced.
fn served(
    plan: &VipPlan,
    plans: &[ListenerPlan],
    is_open: impl Fn(&ListenerPlan) -> bool,
) -> VipPlan {
    let mut allowed = plan.clone();
    allowed.vips.retain(|vip, _| {
        let mut on_vip =
            plans.iter().filter(|plan| plan.vip && plan.address.ip() == *vip).peekable();
        on_vip.peek().is_some() && on_vip.all(&is_open)
    });
    allowed
}

#[cfg(test)]
mod tests {
    use gatehouse_routes::model::Scope;
    use gatehouse_vip::{ClaimId, Interfaces, Vip};

    use super::*;
    use crate::compile::Protocol;

    #[test]
    fn an_address_is_held_back_until_every_listener_on_it_is_open() {
        let vip: IpAddr = "192.0.2.1".parse().unwrap();
        let plan = VipPlan {
            vips: BTreeMap::from([(
                vip,
                Vip {
                    claims: vec![ClaimId("a/b".into())],
                    interfaces: Interfaces::Any,
                    preference: 0,
                },
            )]),
        };
        let listener = |port, protocol| ListenerPlan {
            address: (vip, port).into(),
            scope: Scope::Plain,
            protocol,
            vip: true,
        };
        let both = [listener(80, Protocol::Http), listener(443, Protocol::Https)];
        assert_eq!(served(&plan, &both, |_| true), plan);
        assert_eq!(served(&plan, &both, |plan| plan.address.port() == 80), VipPlan::default());
        assert_eq!(served(&plan, &[], |_| true), VipPlan::default());
    }
}
