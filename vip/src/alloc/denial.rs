//! Why pools gave nothing: the words for it, and the one reason among them that helps most.
//!
//! The ledger collects a [`Denial`] per pool and family and turns them into one [`Problem`] here.

use std::net::IpAddr;

use super::{Claim, sharing::ShareRefusal};
use crate::{
    pool::{Pool, ranges::Family},
    problem::Problem,
};

/// Pools that a message names one by one; there may be thousands.
const NAMED: usize = 8;

/// Why one pool gives no address of one family. The greatest is what could most likely be helped, and
/// gives the refusal its reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Denial {
    /// `autoAssign: false`, and the claim does not name the pool.
    Manual,
    /// It never had such an address.
    NoFamily(Family),
    /// `serviceAllocation` keeps the claim out; the value says how.
    Restricted(String),
    /// `gatehouse.io/drain`.
    Draining,
    /// All are used, quarantined or in the hands of strangers, but for anycast ones; and, for a claim that may share, why it cannot join the holders of the
    /// lowest one that could be shared.
    Full {
        family: Family,
        used: u128,
        quarantined: u128,
        strangers: u128,
        anycast: u128,
        unshared: Option<(IpAddr, ShareRefusal)>,
    },
}

impl Denial {
    fn text(&self) -> String {
        match self {
            Self::Manual => "gives addresses on request only".to_owned(),
            Self::NoFamily(family) => format!("no {family} addresses"),
            Self::Restricted(why) => why.clone(),
            Self::Draining => "draining".to_owned(),
            Self::Full { family, used, quarantined, strangers, anycast, unshared } => {
                let rest = match quarantined {
                    0 => String::new(),
                    quarantined => format!(", {quarantined} rest"),
                };
                let anycast = match anycast {
                    0 => String::new(),
                    anycast => format!(", {anycast} anycast, on request only"),
                };
                let strangers = match strangers {
                    0 => String::new(),
                    strangers => format!(", {strangers} in the hands of strangers"),
                };
                let text =
                    format!("no free {family} address ({used} used{rest}{strangers}{anycast})");
                match unshared {
                    Some((ip, why)) => format!("{text}, and {ip} {why}"),
                    None => text,
                }
            }
        }
    }

    /// Reason and hint.
    fn remedy(&self, lacking: &str) -> (&'static str, String) {
        match self {
            Self::Manual => (
                "NoPool",
                "create an IPAddressPool with autoAssign, or name one of the pools".to_owned(),
            ),
            Self::NoFamily(_) => (
                "NoPool",
                format!("add {lacking} addresses to a pool, or change the families of the service"),
            ),
            Self::Restricted(_) => (
                "PoolRestricted",
                "use another pool, or let the service in by serviceAllocation".to_owned(),
            ),
            Self::Draining => (
                "PoolDraining",
                "use another pool, or have this one give again: no gatehouse.io/drain, no overlap"
                    .to_owned(),
            ),
            Self::Full { unshared: Some((_, why)), .. } => {
                ("ShareRefused", format!("{}, or add addresses to a pool", why.remedy()))
            }
            Self::Full { unshared: None, .. } => (
                "PoolExhausted",
                "add addresses to a pool, or delete services that hold some".to_owned(),
            ),
        }
    }
}

/// The refusal of a claim that got no address of the `lacking` families from the pools tried.
pub(super) fn refusal(
    claim: &Claim,
    lacking: &[Family],
    tried: &[(&Pool, Vec<Denial>)],
) -> Problem {
    let families = family_names(lacking);
    let reasons = tried.iter().take(NAMED).map(|(pool, denials)| {
        let mut texts: Vec<String> = denials.iter().map(Denial::text).collect();
        texts.dedup();
        format!("pool \"{}\": {}", pool.name(), texts.join(", "))
    });
    let mut reasons: Vec<String> = reasons.collect();
    match tried.len() {
        0 => reasons.push("there is none".to_owned()),
        count if count > NAMED => reasons.push(format!("and {} more", count - NAMED)),
        _ => (),
    }
    let worst = tried.iter().flat_map(|(_, denials)| denials).max().unwrap_or(&Denial::Manual);
    let (reason, hint) = worst.remedy(&families);
    let field = match (&claim.pool, worst) {
        (Some(_), _) => "pool",
        (None, Denial::NoFamily(_)) => "families",
        (None, Denial::Full { unshared: Some(_), .. }) => "sharing",
        _ => "",
    };
    let message = format!("no pool gives an {families} address: {}", reasons.join("; "));
    Problem::refused(reason, field, message, hint)
}

/// Names of pools for a message.
pub(super) fn pool_names(pools: &[Pool]) -> String {
    let mut names: Vec<_> = pools.iter().take(NAMED).map(|pool| pool.name().to_owned()).collect();
    match pools.len() {
        0 => names.push("none".to_owned()),
        count if count > NAMED => names.push(format!("and {} more", count - NAMED)),
        _ => (),
    }
    names.join(", ")
}

pub(super) fn family_names(families: &[Family]) -> String {
    families.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}
