//! The OPEN message (RFC 4271 §4.2, §6.2) and what two of them agree on.
//!
//! [`Open::decode`] finds what no speaker may send; [`Open::negotiate`] what this one does not
//! accept. Both say so with the NOTIFICATION that the router is to get.

use std::{net::Ipv4Addr, time::Duration};

use super::{
    capability::{Capabilities, GracefulRestart},
    notification::Notification,
    peer::Families,
};
use crate::bgp::{
    header::{self, Kind},
    settings::Settings,
};

/// RFC 6793: what an ASN of more than two octets is in the fields that have only two.
pub(crate) const AS_TRANS: u16 = 23456;
/// Version of the protocol.
const VERSION: u8 = 4;
/// Optional parameter that holds capabilities (RFC 5492).
const CAPABILITIES: u8 = 2;
/// How long routers are asked to keep routes while this process restarts, in seconds. MetalLB's.
pub(crate) const RESTART_SECONDS: u16 = 120;

/// An OPEN message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    /// The ASN, from the capability if there is one.
    pub(crate) asn: u32,
    /// Seconds.
    pub(crate) hold_time: u16,
    pub(crate) id: Ipv4Addr,
    pub(crate) capabilities: Capabilities,
}

/// What both sides of a session have agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The router's ASN.
    pub remote_asn: u32,
    /// The router's BGP Identifier.
    pub remote_id: Ipv4Addr,
    /// Whether both are of one ASN (iBGP).
    pub internal: bool,
    /// Hold time: the lower of the two; zero for none.
    pub hold_time: Duration,
    /// Longest time between keepalives; zero for none.
    pub keepalive_time: Duration,
    /// Families that both speak.
    pub families: Families,
    /// Families that the router speaks.
    pub remote_families: Families,
    /// Whether the router knows ASNs of four octets (RFC 6793).
    pub four_octet_asn: bool,
    /// Whether IPv4 routes may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
    /// Whether messages may have 65535 octets (RFC 8654).
    pub extended_message: bool,
    /// Whether the router may be asked for its routes again (RFC 2918).
    pub route_refresh: bool,
    /// Whether the router understands End-of-RIB and keeps routes over a restart (RFC 4724).
    pub graceful_restart: bool,
}

impl Open {
    /// What this end says.
    pub(crate) fn ours(settings: &Settings, restarting: bool) -> Self {
        let families = settings.families;
        let graceful_restart = settings.graceful_restart.then_some(GracefulRestart {
            restarting,
            seconds: RESTART_SECONDS,
            families,
            // The addresses stay on the node and the router's path to it as well.
            preserved: if restarting { families } else { Families::default() },
        });
        Self {
            asn: settings.local_asn,
            hold_time: u16::try_from(settings.hold_time.as_secs()).unwrap_or(u16::MAX),
            id: settings.router_id,
            capabilities: Capabilities {
                families: Some(families),
                route_refresh: true,
                extended_next_hop: families.v4 && settings.over_v6,
                extended_message: true,
                graceful_restart,
                asn: Some(settings.local_asn),
            },
        }
    }

    /// The message.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let capabilities = self.capabilities.write();
        let asn = u16::try_from(self.asn).unwrap_or(AS_TRANS);
        let mut body = vec![VERSION];
        body.extend_from_slice(&asn.to_be_bytes());
        body.extend_from_slice(&self.hold_time.to_be_bytes());
        body.extend_from_slice(&self.id.octets());
        // At most 44 octets: what `Capabilities` can hold.
        let length = u8::try_from(capabilities.len()).unwrap_or(0);
        body.extend_from_slice(&[length + 2, CAPABILITIES, length]);
        body.extend_from_slice(&capabilities);
        header::frame(Kind::Open, &body)
    }

    /// Reads the body of a message that the header check has let through.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, Notification> {
        let Some((&fixed, parameters)) = body.split_first_chunk::<9>() else {
            return Err(Notification::new(2, 0));
        };
        let [version, as_high, as_low, hold_high, hold_low, id @ ..] = fixed;
        if version != VERSION {
            return Err(Notification::with(2, 1, &[0, VERSION]));
        }
        let hold_time = u16::from_be_bytes([hold_high, hold_low]);
        let short_asn = u16::from_be_bytes([as_high, as_low]);
        let capabilities = read_parameters(parameters)?;
        let asn = capabilities.asn.unwrap_or_else(|| short_asn.into());
        // RFC 6793 §4.1: the two octets hold the ASN, or AS_TRANS; RFC 7607: no router is AS 0.
        let consistent = short_asn == AS_TRANS || u32::from(short_asn) == asn;
        if asn == 0 || !consistent {
            return Err(Notification::with(2, 2, &asn.to_be_bytes()));
        }
        if id == [0; 4] {
            return Err(Notification::with(2, 3, &id));
        }
        if matches!(hold_time, 1 | 2) {
            return Err(Notification::with(2, 6, &hold_time.to_be_bytes()));
        }
        Ok(Self { asn, hold_time, id: id.into(), capabilities })
    }

    /// What this end and the router, which says this, agree on.
    pub(crate) fn negotiate(&self, settings: &Settings) -> Result<Negotiated, Notification> {
        if !settings.remote_asn.allows(self.asn, settings.local_asn) {
            return Err(Notification::with(2, 2, &self.asn.to_be_bytes()));
        }
        let internal = self.asn == settings.local_asn;
        // RFC 6286 §2.2: different ASNs may have the same Identifier.
        if internal && self.id == settings.router_id {
            return Err(Notification::with(2, 3, &self.id.octets()));
        }
        let theirs = self.capabilities.families.unwrap_or(Families { v4: true, v6: false });
        let families = settings.families.and(theirs);
        if families.is_empty() {
            // RFC 5492 §3: the data are the capabilities that are missing.
            let missing =
                Capabilities { families: Some(settings.families), ..Capabilities::default() };
            return Err(Notification::with(2, 7, &missing.write()));
        }
        let hold_time = settings.hold_time.min(Duration::from_secs(self.hold_time.into()));
        let capabilities = &self.capabilities;
        Ok(Negotiated {
            remote_asn: self.asn,
            remote_id: self.id,
            internal,
            hold_time,
            keepalive_time: settings.keepalive_time.min(hold_time / 3),
            families,
            remote_families: theirs,
            four_octet_asn: capabilities.asn.is_some(),
            extended_next_hop: capabilities.extended_next_hop && families.v4 && settings.over_v6,
            extended_message: capabilities.extended_message,
            route_refresh: capabilities.route_refresh,
            graceful_restart: capabilities.graceful_restart.is_some(),
        })
    }
}

/// Reads the optional parameters, which begin with their length, in either of two formats.
fn read_parameters(bytes: &[u8]) -> Result<Capabilities, Notification> {
    let malformed = || Notification::new(2, 0);
    // RFC 9072 §2: a type of 255 cannot be, so that it tells the longer format.
    let (extended, mut rest) = match bytes {
        [length, 255, high, low, rest @ ..] if *length != 0 => {
            (true, exactly(rest, u16::from_be_bytes([*high, *low])).ok_or_else(malformed)?)
        }
        [length, rest @ ..] => (false, exactly(rest, (*length).into()).ok_or_else(malformed)?),
        [] => return Err(malformed()),
    };
    let mut capabilities = Capabilities::default();
    while let Some((&kind, after)) = rest.split_first() {
        let (length, after) = match after {
            [high, low, after @ ..] if extended => (u16::from_be_bytes([*high, *low]), after),
            [length, after @ ..] if !extended => (u16::from(*length), after),
            _ => return Err(malformed()),
        };
        let (value, after) = after.split_at_checked(length.into()).ok_or_else(malformed)?;
        if kind != CAPABILITIES {
            return Err(Notification::new(2, 4));
        }
        capabilities.read(value)?;
        rest = after;
    }
    Ok(capabilities)
}

fn exactly(bytes: &[u8], length: u16) -> Option<&[u8]> {
    (bytes.len() == usize::from(length)).then_some(bytes)
}

#[cfg(test)]
mod tests;
