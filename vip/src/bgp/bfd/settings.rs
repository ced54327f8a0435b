//! A `BFDProfile`, understood: how the BFD session to a router runs.
//!
//! The compile step of the gateway calls [`Settings::parse`]; every [`BGPPeer`](crate::bgp::Peer)
//! that names the profile gets a session with these settings.

use std::time::Duration;

use crate::{bgp::spec::BfdProfileSpec, problem::Problem};

/// How a BFD session runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `bfd.DesiredMinTxInterval` once up: shortest interval between sent packets, before jitter.
    pub transmit_interval: Duration,
    /// `bfd.RequiredMinRxInterval`: shortest interval between received packets.
    pub receive_interval: Duration,
    /// `bfd.DetectMult`: packets of ours that may be lost before the router takes us for down.
    pub detect_multiplier: u8,
    /// Whether to wait for the router's first packet.
    pub passive: bool,
    /// The lowest TTL or hop limit to accept on a multi-hop session; a single-hop one takes 255 only.
    pub minimum_ttl: u8,
}

impl Default for Settings {
    /// As MetalLB: 3 × 300 ms, active, at most one hop more than single-hop.
    fn default() -> Self {
        Self {
            transmit_interval: Duration::from_millis(300),
            receive_interval: Duration::from_millis(300),
            detect_multiplier: 3,
            passive: false,
            minimum_ttl: 254,
        }
    }
}

impl Settings {
    /// Reads a spec; returns as well what is not done as asked. `Err` holds at least one severe
    /// refusal: peers that name the profile have no BFD.
    pub fn parse(spec: &BfdProfileSpec) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let default = Self::default();
        let mut faults = Vec::new();
        let mut number = |field: &str, given: Option<u32>, default: u32, low: u32, high: u32| {
            let number = given.unwrap_or(default);
            if !(low..=high).contains(&number) {
                faults.push(Problem::refused(
                    "InvalidProfile",
                    format!("spec.{field}"),
                    format!("{number} is out of range"),
                    format!("use {low} to {high}"),
                ));
            }
            number
        };
        let receive = number("receiveInterval", spec.receive_interval, 300, 10, 60_000);
        let transmit = number("transmitInterval", spec.transmit_interval, 300, 10, 60_000);
        let multiplier = number("detectMultiplier", spec.detect_multiplier, 3, 2, 255);
        number("echoInterval", spec.echo_interval, 50, 10, 60_000);
        let ttl = number("minimumTtl", spec.minimum_ttl, 254, 1, 254);
        if !faults.is_empty() {
            return Err(faults);
        }
        let settings = Self {
            transmit_interval: Duration::from_millis(transmit.into()),
            receive_interval: Duration::from_millis(receive.into()),
            detect_multiplier: u8::try_from(multiplier).unwrap_or(default.detect_multiplier),
            passive: spec.passive_mode.unwrap_or(false),
            minimum_ttl: u8::try_from(ttl).unwrap_or(default.minimum_ttl),
        };
        let echo = (spec.echo_mode == Some(true)).then(|| {
            Problem::noted(
                "EchoUnsupported",
                "spec.echoMode",
                "there is no echo function; the session runs in asynchronous mode alone",
                "lower transmitInterval and receiveInterval instead",
            )
        });
        Ok((settings, echo.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_without_fields_is_metallbs_default() {
        let (settings, refusals) = Settings::parse(&BfdProfileSpec::default()).unwrap();
        assert_eq!(settings, Settings::default());
        assert_eq!(refusals, []);
    }

    #[test]
    fn every_field_is_honoured_and_echo_is_refused_in_words() {
        let spec = BfdProfileSpec {
            receive_interval: Some(10),
            transmit_interval: Some(60_000),
            detect_multiplier: Some(255),
            echo_interval: Some(10),
            echo_mode: Some(true),
            passive_mode: Some(true),
            minimum_ttl: Some(1),
        };
        let (settings, refusals) = Settings::parse(&spec).unwrap();
        let expected = Settings {
            transmit_interval: Duration::from_secs(60),
            receive_interval: Duration::from_millis(10),
            detect_multiplier: 255,
            passive: true,
            minimum_ttl: 1,
        };
        assert_eq!(settings, expected);
        assert_eq!(refusals.len(), 1);
        assert_eq!((refusals[0].reason, refusals[0].is_error()), ("EchoUnsupported", false));
    }

    #[test]
    fn a_number_out_of_range_is_named_with_the_range() {
        type Set = fn(&mut BfdProfileSpec, u32);
        let fields: [(Set, &str, [u32; 2]); 5] = [
            (|spec, n| spec.receive_interval = Some(n), "receiveInterval", [10, 60_000]),
            (|spec, n| spec.transmit_interval = Some(n), "transmitInterval", [10, 60_000]),
            (|spec, n| spec.detect_multiplier = Some(n), "detectMultiplier", [2, 255]),
            (|spec, n| spec.echo_interval = Some(n), "echoInterval", [10, 60_000]),
            (|spec, n| spec.minimum_ttl = Some(n), "minimumTtl", [1, 254]),
        ];
        for (set, field, [low, high]) in fields {
            for (number, good) in [(low - 1, false), (low, true), (high, true), (high + 1, false)] {
                let mut spec = BfdProfileSpec::default();
                set(&mut spec, number);
                match Settings::parse(&spec) {
                    Ok(_) => assert!(good, "{field} {number}"),
                    Err(faults) => {
                        assert!(!good, "{field} {number}");
                        assert_eq!(faults[0].field, format!("spec.{field}"));
                        assert_eq!(faults[0].hint, format!("use {low} to {high}"));
                    }
                }
            }
        }
    }
}
