//! What two speakers tell each other they can do (RFC 5492), as far as this one cares.
//!
//! Multiprotocol (RFC 4760), route refresh (RFC 2918), extended next hops (RFC 8950), extended
//! messages (RFC 8654), graceful restart (RFC 4724) and four-octet ASNs (RFC 6793). Others are
//! skipped unread. [`open`](super::open) carries them.

use super::{notification::Notification, peer::Families};

/// Address family identifiers.
pub(crate) const AFI_V4: u16 = 1;
pub(crate) const AFI_V6: u16 = 2;
/// Subsequent address family identifier of unicast.
pub(crate) const UNICAST: u8 = 1;

const MULTIPROTOCOL: u8 = 1;
const ROUTE_REFRESH: u8 = 2;
const EXTENDED_NEXT_HOP: u8 = 5;
const EXTENDED_MESSAGE: u8 = 6;
const GRACEFUL_RESTART: u8 = 64;
const FOUR_OCTET_ASN: u8 = 65;

/// The Restart State bit of graceful restart.
const RESTARTING: u16 = 0x8000;
/// The Forwarding State bit of a family in graceful restart.
const FORWARDING: u8 = 0x80;

/// Capabilities of one speaker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// `None`: the speaker does not know of families, so that it has IPv4 unicast.
    pub(crate) families: Option<Families>,
    pub(crate) route_refresh: bool,
    /// IPv4 unicast with an IPv6 next hop.
    pub(crate) extended_next_hop: bool,
    pub(crate) extended_message: bool,
    pub(crate) graceful_restart: Option<GracefulRestart>,
    pub(crate) asn: Option<u32>,
}

/// The graceful restart capability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GracefulRestart {
    /// The speaker has restarted just now.
    pub(crate) restarting: bool,
    /// How long it may take to come back, in seconds; 12 bits.
    pub(crate) seconds: u16,
    /// Families that can be preserved.
    pub(crate) families: Families,
    /// Families whose forwarding state has been preserved over the restart.
    pub(crate) preserved: Families,
}

impl Capabilities {
    /// Adds what the value of one optional parameter of type 2 says.
    pub(crate) fn read(&mut self, mut value: &[u8]) -> Result<(), Notification> {
        while let [code, length, rest @ ..] = value {
            let Some((capability, rest)) = rest.split_at_checked(usize::from(*length)) else {
                return Err(malformed(value));
            };
            self.add(*code, capability).ok_or_else(|| malformed(value))?;
            value = rest;
        }
        if value.is_empty() { Ok(()) } else { Err(malformed(value)) }
    }

    /// One after the other, as they stand in an optional parameter.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |code: u8, value: &[u8]| {
            out.extend_from_slice(&[code, u8::try_from(value.len()).unwrap_or(0)]);
            out.extend_from_slice(value);
        };
        for afi in self.families.unwrap_or_default().afis() {
            put(MULTIPROTOCOL, &[0, afi, 0, UNICAST]);
        }
        if self.route_refresh {
            put(ROUTE_REFRESH, &[]);
        }
        if self.extended_next_hop {
            put(EXTENDED_NEXT_HOP, &[0, 1, 0, UNICAST, 0, 2]);
        }
        if self.extended_message {
            put(EXTENDED_MESSAGE, &[]);
        }
        if let Some(restart) = self.graceful_restart {
            put(GRACEFUL_RESTART, &restart.write());
        }
        if let Some(asn) = self.asn {
            put(FOUR_OCTET_ASN, &asn.to_be_bytes());
        }
        out
    }

    /// `None` if a capability that is understood has a value that is not.
    fn add(&mut self, code: u8, value: &[u8]) -> Option<()> {
        match code {
            MULTIPROTOCOL => {
                let &[high, low, _, safi] = value else { return None };
                let families = self.families.get_or_insert_default();
                if safi == UNICAST {
                    families.add(u16::from_be_bytes([high, low]));
                }
            }
            ROUTE_REFRESH if value.is_empty() => self.route_refresh = true,
            EXTENDED_MESSAGE if value.is_empty() => self.extended_message = true,
            EXTENDED_NEXT_HOP => {
                let (tuples, []) = value.as_chunks::<6>() else { return None };
                self.extended_next_hop |= tuples.contains(&[0, 1, 0, UNICAST, 0, 2]);
            }
            GRACEFUL_RESTART => self.graceful_restart = Some(GracefulRestart::read(value)?),
            FOUR_OCTET_ASN => self.asn = Some(u32::from_be_bytes(value.try_into().ok()?)),
            ROUTE_REFRESH | EXTENDED_MESSAGE => return None,
            _ => {}
        }
        Some(())
    }
}

impl GracefulRestart {
    fn read(value: &[u8]) -> Option<Self> {
        let (&[high, low], families) = value.split_first_chunk::<2>()?;
        let flags = u16::from_be_bytes([high, low]);
        let mut restart = Self {
            restarting: flags & RESTARTING != 0,
            seconds: flags & 0x0fff,
            ..Self::default()
        };
        let (families, []) = families.as_chunks::<4>() else { return None };
        for &[high, low, safi, flags] in families {
            if safi == UNICAST {
                restart.families.add(u16::from_be_bytes([high, low]));
                if flags & FORWARDING != 0 {
                    restart.preserved.add(u16::from_be_bytes([high, low]));
                }
            }
        }
        Some(restart)
    }

    fn write(self) -> Vec<u8> {
        let flags = (self.seconds & 0x0fff) | if self.restarting { RESTARTING } else { 0 };
        let mut out = flags.to_be_bytes().to_vec();
        for (afi, preserved) in [(1, self.preserved.v4), (2, self.preserved.v6)] {
            if self.families.afis().any(|known| known == afi) {
                out.extend_from_slice(&[0, afi, UNICAST, if preserved { FORWARDING } else { 0 }]);
            }
        }
        out
    }
}

impl Families {
    /// Address family identifiers, which all fit into an octet.
    pub(crate) fn afis(self) -> impl Iterator<Item = u8> {
        [(self.v4, 1), (self.v6, 2)].into_iter().filter_map(|(has, afi)| has.then_some(afi))
    }

    /// Adds a family, if it is one of the two.
    pub(crate) fn add(&mut self, afi: u16) {
        self.v4 |= afi == AFI_V4;
        self.v6 |= afi == AFI_V6;
    }
}

/// RFC 4271 §6.2: a parameter that is recognized, but malformed, is an unspecific OPEN error.
fn malformed(data: &[u8]) -> Notification {
    Notification::with(2, 0, &data[..data.len().min(64)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_reads_back_as_it_was_written() {
        let restart = GracefulRestart {
            restarting: true,
            seconds: 120,
            families: Families::BOTH,
            preserved: Families { v4: true, v6: false },
        };
        let all = Capabilities {
            families: Some(Families::BOTH),
            route_refresh: true,
            extended_next_hop: true,
            extended_message: true,
            graceful_restart: Some(restart),
            asn: Some(4_200_000_000),
        };
        for capabilities in [all, Capabilities::default()] {
            let mut read = Capabilities::default();
            read.read(&capabilities.write()).unwrap();
            assert_eq!(read, capabilities);
        }
    }

    #[test]
    fn families_that_are_not_unicast_are_known_of_but_not_spoken() {
        let mut vpn_only = Capabilities::default();
        vpn_only.read(&[1, 4, 0, 1, 0, 128, 1, 4, 0x40, 4, 0, 71]).unwrap();
        assert_eq!(vpn_only.families, Some(Families::default()));
    }

    #[test]
    fn a_capability_with_a_value_that_cannot_be_is_an_open_error() {
        let cases: &[&[u8]] = &[
            &[1],
            &[1, 4, 0, 1, 0],
            &[1, 3, 0, 1, 0],
            &[1, 5, 0, 1, 0, 1, 0],
            &[2, 1, 0],
            &[5, 5, 0, 1, 0, 1, 0],
            &[6, 1, 0],
            &[64, 1, 0],
            &[64, 3, 0, 120, 0],
            &[65, 2, 0, 1],
            &[65, 0],
            &[99, 9, 0],
        ];
        for bytes in cases {
            let error = Capabilities::default().read(bytes).unwrap_err();
            assert_eq!((error.code, error.subcode), (2, 0), "{bytes:?}");
        }
    }
}
