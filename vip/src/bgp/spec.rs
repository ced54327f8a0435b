//! The `metallb.io` specs about BGP and BFD, as plain serde structs.
//!
//! They read YAML written for MetalLB unchanged (field names and meaning: `api/v1beta1` and
//! `api/v1beta2` of metallb/metallb). As in Go, where these fields are not pointers, an empty text
//! and a zero mean "not given". This file decides nothing: meaning lives in
//! [`Peer::parse`](super::Peer::parse), [`Advertisement::parse`](super::Advertisement::parse),
//! [`Aliases::new`](super::Aliases::new) and [`bfd::Settings::parse`](crate::bgp::bfd::Settings::parse).

use serde::{Deserialize, Serialize};

use crate::api::LabelSelector;

/// `BGPPeer.spec`, `v1beta2`; `v1beta1` has a subset of the fields, see [`Self::from_v1beta1`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpPeerSpec {
    /// ASN of this end. Required.
    #[serde(rename = "myASN")]
    pub my_asn: u32,
    /// ASN that the router has to have; 0 if `dynamic_asn` says what is allowed.
    #[serde(rename = "peerASN", skip_serializing_if = "is_zero")]
    pub peer_asn: u32,
    /// `internal` (the router's ASN is ours) or `external` (it is another one).
    #[serde(rename = "dynamicASN", skip_serializing_if = "String::is_empty")]
    pub dynamic_asn: String,
    /// ASN to present to this router instead of `my_asn`, as `local-as … no-prepend replace-as`
    /// of FRR does; 0 for `my_asn`.
    #[serde(rename = "localASN", skip_serializing_if = "is_zero")]
    pub local_asn: u32,
    /// Address of the router. Exactly one of this and `interface`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub peer_address: String,
    /// Interface on which the one neighbour is the router (unnumbered).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface: String,
    /// Address to dial from. Default: whatever the routing table says.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source_address: String,
    /// TCP port of the router. Default (0): 179.
    #[serde(skip_serializing_if = "is_zero")]
    pub peer_port: u32,
    /// Hold time to ask for, as a Go duration (`90s`). 0s or at least 3s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_time: Option<String>,
    /// Keepalive interval, as a Go duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive_time: Option<String>,
    /// Longest time between attempts to connect, as a Go duration of whole seconds, 1 to 65535.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_time: Option<String>,
    /// BGP Identifier, as an IPv4 address. Default: an IPv4 address of the node.
    #[serde(rename = "routerID", skip_serializing_if = "String::is_empty")]
    pub router_id: String,
    /// Nodes that peer with the router; any one has to match. Default: all nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub node_selectors: Vec<LabelSelector>,
    /// Password for TCP MD5 signatures (RFC 2385).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// Secret of type `kubernetes.io/basic-auth` that holds the password.
    #[serde(skip_serializing_if = "SecretReference::is_unset")]
    pub password_secret: SecretReference,
    /// `BFDProfile` to watch the router with. Default: no BFD.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bfd_profile: String,
    /// The router keeps forwarding to this node while this process restarts (RFC 4724).
    #[serde(skip_serializing_if = "is_false")]
    pub enable_graceful_restart: bool,
    /// The router is more than one hop away. Only for routers of another ASN.
    #[serde(skip_serializing_if = "is_false")]
    pub ebgp_multi_hop: bool,
    /// VRF of the node to peer from. Default: none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub vrf: String,
    /// Deprecated in MetalLB and without effect there.
    #[serde(rename = "disableMP", skip_serializing_if = "is_false")]
    pub disable_mp: bool,
    /// Announce addresses of both families, not just those of `peer_address`'s family.
    #[serde(skip_serializing_if = "is_false")]
    pub dual_stack_address_family: bool,
}

/// `v1.SecretReference`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct SecretReference {
    /// Name of the Secret.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Namespace of the Secret. Default: that of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

/// `BGPAdvertisement.spec`: which pools are announced, from which nodes, to which peers and how.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpAdvertisementSpec {
    /// IPv4 addresses are announced as prefixes of this length, 1 to 32. Default 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregation_length: Option<i32>,
    /// IPv6 addresses are announced as prefixes of this length, 1 to 128. Default 128.
    #[serde(rename = "aggregationLengthV6", skip_serializing_if = "Option::is_none")]
    pub aggregation_length_v6: Option<i32>,
    /// LOCAL_PREF towards routers of the same ASN. Default (0): 100.
    #[serde(skip_serializing_if = "is_zero")]
    pub local_pref: u32,
    /// `65000:1`, `large:65000:1:2`, or the name of an alias.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<String>,
    /// Pools by name. Without names and selectors: all pools.
    #[serde(rename = "ipAddressPools", skip_serializing_if = "Vec::is_empty")]
    pub ip_address_pools: Vec<String>,
    /// Pools by label; any one has to match.
    #[serde(rename = "ipAddressPoolSelectors", skip_serializing_if = "Vec::is_empty")]
    pub ip_address_pool_selectors: Vec<LabelSelector>,
    /// Nodes that announce; any one has to match. Default: all nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub node_selectors: Vec<LabelSelector>,
    /// `BGPPeer`s to announce to, by name. Default: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<String>,
    /// Services to announce, by label; any one has to match. Default: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service_selectors: Vec<LabelSelector>,
}

/// `BFDProfile.spec`: how the BFD session to a router runs. Intervals are in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BfdProfileSpec {
    /// Shortest interval between received packets, 10 to 60000. Default 300.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive_interval: Option<u32>,
    /// Shortest interval between sent packets, 10 to 60000. Default 300.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transmit_interval: Option<u32>,
    /// Packets that may be lost before the session is down, 2 to 255. Default 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detect_multiplier: Option<u32>,
    /// Interval of echo packets, 10 to 60000. Default 50. Not used: there is no echo function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub echo_interval: Option<u32>,
    /// Send echo packets. Default false. Refused: there is no echo function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub echo_mode: Option<bool>,
    /// Wait for the router's first packet. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passive_mode: Option<bool>,
    /// Multi-hop only: the lowest TTL to accept, 1 to 254. Default 254.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_ttl: Option<u32>,
}

/// `Community.spec`: names for communities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct CommunitySpec {
    /// The names.
    pub communities: Vec<CommunityAlias>,
}

/// One name for a community.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct CommunityAlias {
    /// The name that a `BGPAdvertisement` may use.
    pub name: String,
    /// `65000:1` or `large:65000:1:2`.
    pub value: String,
}

impl BgpPeerSpec {
    /// What a `v1beta1` object means.
    ///
    /// Its durations are not optional in Go, so that every client writes `0s` for "not given",
    /// which in `v1beta2` would turn the hold timer off.
    pub fn from_v1beta1(mut self) -> Self {
        for time in [&mut self.hold_time, &mut self.keepalive_time] {
            time.take_if(|text| go_duration_nanos(text) == Some(0));
        }
        self
    }
}

impl SecretReference {
    /// Whether no Secret is named.
    pub fn is_unset(&self) -> bool {
        self.name.is_empty()
    }
}

/// Nanoseconds of a Go duration (`1h30m`, `1.5s`, `300ms`); `None` if it is none, or negative.
pub(crate) fn go_duration_nanos(text: &str) -> Option<u64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, after) = rest.split_at(digits(rest));
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(digits(after)),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        // The longer name of a unit first: "m" is the beginning of "ms".
        let (unit, nanos) = [
            ("ns", 1),
            ("us", 1_000),
            ("µs", 1_000),
            ("μs", 1_000),
            ("ms", 1_000_000),
            ("s", 1_000_000_000),
            ("m", 60_000_000_000),
            ("h", 3_600_000_000_000_u64),
        ]
        .into_iter()
        .find(|(unit, _)| after.starts_with(unit))?;
        let mut value = match whole {
            "" => 0,
            whole => whole.parse::<u64>().ok()?.checked_mul(nanos)?,
        };
        let mut place = nanos;
        for digit in fraction.bytes() {
            place /= 10;
            value = value.checked_add(u64::from(digit - b'0') * place)?;
        }
        total = total.checked_add(value)?;
        rest = &after[unit.len()..];
    }
    Some(total)
}

// `skip_serializing_if` asks for functions of a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(flag: &bool) -> bool {
    !*flag
}

#[cfg(test)]
mod tests;
