//! What the rounds of a compile ask of an object that has not changed, without a look at it.
//!
//! Thousands of objects lie all over the memory, and each look at one is a cache miss or several. So the few facts that
//! decide whether there is anything to look for stand side by side, and are kept from compile to compile.

use std::{hash::BuildHasher as _, ops::BitOr};

use foldhash::quality::FixedState;

use crate::{
    admit,
    model::HostPattern,
    objects::{Age, Revision},
    translate::{
        Translation,
        ingress::Tls,
        openshift::{RouteTranslation, Verdict},
    },
};

/// What is known of an object by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) revision: Revision,
    pub(super) age: Age,
    pub(super) has: Has,
    /// Stands for the host that a Route claims, 0 for none; another host has another one, but for a rare chance.
    pub(super) host: u64,
    /// The same of the domain in which a wildcard and hosts that are spelled out can be in each other's way.
    pub(super) domain: u64,
}

impl Facts {
    /// Of a Route.
    pub(super) fn of_route(route: &RouteTranslation, age: Age, revision: Revision) -> Self {
        let claim = route.claim.as_ref();
        let host = claim.map_or(0, |host| FixedState::default().hash_one(host));
        let domain = claim.and_then(|host| admit::domain_of(host));
        let domain = domain.map_or(0, |domain| FixedState::default().hash_one(domain));
        Self { revision, age, has: Has::of_route(route), host, domain }
    }

    /// The same of an object that may stand elsewhere in its source.
    pub(super) fn of_order(self, order: u64) -> Self {
        Self { age: Age { order, ..self.age }, ..self }
    }
}

/// What there is to an object: any of some things that most objects have not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Has(u8);

impl Has {
    /// Shares of the rules of others.
    pub(super) const PROPOSALS: Self = Self(1);
    /// Something that is wrong with it.
    pub(super) const PROBLEMS: Self = Self(1 << 1);
    /// Objects that it refers to by their names.
    pub(super) const REFERENCES: Self = Self(1 << 2);
    /// Hosts with TLS.
    pub(super) const TLS_HOSTS: Self = Self(1 << 3);
    /// Rules for which it matters whether their host has TLS.
    pub(super) const ASKS_FOR_TLS: Self = Self(1 << 4);
    /// Such rules that were made for a host that has TLS.
    pub(super) const MADE_WITH_TLS: Self = Self(1 << 5);
    /// A reason not to be served as it stands.
    pub(super) const VERDICT: Self = Self(1 << 6);
    /// A claim on all hosts of a domain.
    pub(super) const WILDCARD_CLAIM: Self = Self(1 << 7);

    /// Of an Ingress.
    pub(super) fn of_ingress(tls: &Tls, translation: &Translation) -> Self {
        Self::of(translation) | Self::TLS_HOSTS.given(!tls.hosts.is_empty())
    }

    /// Of a Route.
    fn of_route(route: &RouteTranslation) -> Self {
        let usable = matches!(route.verdict, Verdict::Usable) && route.fault.is_none();
        let of_domain = matches!(route.claim, Some(HostPattern::OneLabel(_)));
        Self::of(&route.translation)
            | Self::VERDICT.given(!usable)
            | Self::WILDCARD_CLAIM.given(of_domain)
    }

    fn of(translation: &Translation) -> Self {
        let Translation { proposals, problems, references, entries, .. } = translation;
        let made = |with: fn(bool) -> bool| {
            entries.iter().filter_map(|entry| entry.made_with_tls).any(with)
        };
        Self::PROPOSALS.given(!proposals.is_empty())
            | Self::PROBLEMS.given(!problems.is_empty())
            | Self::REFERENCES.given(!references.is_empty())
            | Self::ASKS_FOR_TLS.given(made(|_| true))
            | Self::MADE_WITH_TLS.given(made(|with| with))
    }

    fn given(self, given: bool) -> Self {
        if given { self } else { Self::default() }
    }

    /// Whether it has any of these.
    pub(super) fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }
}

impl BitOr for Has {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
