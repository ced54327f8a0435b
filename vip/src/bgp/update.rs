//! The UPDATE message of a router, checked (RFC 4271 §6.3 as revised by RFC 7606).
//!
//! Routes of others are none of this speaker's business: they are counted and forgotten, so that no
//! router can fill its memory. But a router that breaks the rules has to get the answer of the RFC,
//! and a router that only passes on another router's broken attribute must not lose the session for it.
//! [`check`] gives that answer: `Err` ends the session, everything else keeps it.

use super::{
    attribute::{self, Class, Terms},
    capability::{AFI_V4, AFI_V6, UNICAST},
    notification::Notification,
    peer::Families,
};

/// What an UPDATE says, once nothing of it ends the session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UpdateSummary {
    /// Prefixes that the router announces.
    pub(crate) announced: u32,
    /// Prefixes that it withdraws, or is taken to withdraw.
    pub(crate) withdrawn: u32,
    /// Families that cannot be read any more (RFC 7606 §2, "AFI/SAFI disable").
    pub(crate) disabled: Families,
    /// RFC 4724: the router has said everything it has to say of these.
    pub(crate) end_of_rib: Families,
    /// What was wrong, most severe first: attribute type, class, and why in words.
    pub(crate) faults: Vec<(u8, Class, &'static str)>,
}

/// The lists of one UPDATE.
struct Lists<'a> {
    withdrawn: &'a [u8],
    attributes: &'a [u8],
    announced: &'a [u8],
}

/// The prefixes that MP_REACH_NLRI or MP_UNREACH_NLRI hold.
#[derive(Default)]
struct Multiprotocol {
    announced: u32,
    withdrawn: u32,
}

/// Checks the body of an UPDATE message.
pub(crate) fn check(body: &[u8], terms: &Terms) -> Result<UpdateSummary, Notification> {
    let lists = split(body).ok_or_else(|| Notification::new(3, 1))?;
    // RFC 7606 §5.3: without the prefixes there is nothing that could be taken as withdrawn.
    let unreadable = || Notification::new(3, 10);
    let mut withdrawn = count(lists.withdrawn, 32).ok_or_else(unreadable)?;
    let mut announced = count(lists.announced, 32).ok_or_else(unreadable)?;
    if !terms.families.v4 {
        (withdrawn, announced) = (0, 0);
    }
    let mut summary = UpdateSummary::default();
    let walk = attributes(&lists, announced > 0, terms, &mut summary)?;
    summary.withdrawn = withdrawn.saturating_add(walk.withdrawn);
    summary.announced = announced.saturating_add(walk.announced);
    summary.faults.sort_by_key(|(_, class, _)| std::cmp::Reverse(*class));
    if summary.faults.first().is_some_and(|(_, class, _)| *class >= Class::TreatAsWithdraw) {
        summary.withdrawn = summary.withdrawn.saturating_add(summary.announced);
        summary.announced = 0;
    }
    if body.len() == 4 {
        summary.end_of_rib.v4 = true;
    }
    Ok(summary)
}

/// Finds the three lists; `None` if their lengths cannot be (RFC 4271 §6.3, first paragraph).
fn split(body: &[u8]) -> Option<Lists<'_>> {
    let list = |bytes: &'_ [u8]| -> Option<usize> {
        Some(u16::from_be_bytes(*bytes.first_chunk::<2>()?).into())
    };
    let (withdrawn, rest) = body.get(2..)?.split_at_checked(list(body)?)?;
    let (attributes, announced) = rest.get(2..)?.split_at_checked(list(rest)?)?;
    Some(Lists { withdrawn, attributes, announced })
}

/// Counts prefixes; `None` if they are not syntactically correct (RFC 7606 §5.3).
fn count(mut nlri: &[u8], longest: u8) -> Option<u32> {
    let mut count = 0_u32;
    while let Some((&length, rest)) = nlri.split_first() {
        let octets = usize::from(length.div_ceil(8));
        nlri = rest.get(octets..).filter(|_| length <= longest)?;
        count += 1;
    }
    Some(count)
}

/// Walks over the path attributes. RFC 7606 §3 (c) to (h), §4.
fn attributes(
    lists: &Lists,
    has_nlri: bool,
    terms: &Terms,
    summary: &mut UpdateSummary,
) -> Result<Multiprotocol, Notification> {
    let mut seen = [false; 256];
    let mut found = Multiprotocol::default();
    let mut rest = lists.attributes;
    while !rest.is_empty() {
        let Some((attribute, after)) = attribute::next(rest) else {
            // §4: the prefixes are where the total length says, so that they can be withdrawn.
            summary.faults.push((
                rest.get(1).copied().unwrap_or(0),
                Class::TreatAsWithdraw,
                "it is longer than the list of attributes",
            ));
            break;
        };
        rest = after;
        let kind = attribute.kind;
        let again = std::mem::replace(&mut seen[usize::from(kind)], true);
        let multiprotocol = matches!(kind, attribute::MP_REACH | attribute::MP_UNREACH);
        if again && multiprotocol {
            return Err(Notification::new(3, 1));
        }
        if again {
            summary.faults.push((kind, Class::Discard, "it is there more than once"));
        } else if let Some((class, why)) = attribute::fault(&attribute, terms)? {
            summary.faults.push((kind, class, why));
        } else if multiprotocol {
            let alone = lists.withdrawn.is_empty()
                && lists.announced.is_empty()
                && attribute.whole.len() == lists.attributes.len();
            routes(&attribute, alone, terms, &mut found, summary)?;
        }
    }
    let mut mandatory = vec![];
    if has_nlri || found.announced > 0 {
        mandatory.extend([attribute::ORIGIN, attribute::AS_PATH]);
    }
    if has_nlri {
        mandatory.push(attribute::NEXT_HOP);
    }
    for kind in mandatory.into_iter().filter(|kind| !seen[usize::from(*kind)]) {
        summary.faults.push((kind, Class::TreatAsWithdraw, "it is missing"));
    }
    Ok(found)
}

/// Reads MP_REACH_NLRI or MP_UNREACH_NLRI (RFC 4760 §3, §4).
fn routes(
    attribute: &attribute::Attribute,
    alone: bool,
    terms: &Terms,
    found: &mut Multiprotocol,
    summary: &mut UpdateSummary,
) -> Result<(), Notification> {
    let Some((&[high, low, safi], value)) = attribute.value.split_first_chunk::<3>() else {
        // It does not even say which family has become unreadable.
        return Err(Notification::with(3, 9, attribute.whole));
    };
    let afi = u16::from_be_bytes([high, low]);
    let (known, longest) = match (afi, safi) {
        (AFI_V4, UNICAST) => (terms.families.v4, 32),
        (AFI_V6, UNICAST) => (terms.families.v6, 128),
        _ => (false, 0),
    };
    if !known {
        return Ok(());
    }
    let reach = attribute.kind == attribute::MP_REACH;
    let nlri = if reach { after_next_hop(afi, value, terms) } else { Some(value) };
    match nlri.and_then(|nlri| count(nlri, longest)) {
        Some(prefixes) if reach => found.announced = prefixes,
        Some(0) if alone => summary.end_of_rib.add(afi),
        Some(prefixes) => found.withdrawn = prefixes,
        None => {
            // RFC 7606 §5.3, §7.11: end the session, or the family. The family is worth nothing
            // here, and the session carries the addresses of this node.
            summary.disabled.add(afi);
            let why = "its next hop or prefixes cannot be read";
            summary.faults.push((attribute.kind, Class::Disable, why));
        }
    }
    Ok(())
}

/// What follows the next hop and the reserved octet; `None` if the next hop's length cannot be.
fn after_next_hop<'a>(afi: u16, value: &'a [u8], terms: &Terms) -> Option<&'a [u8]> {
    let (&length, rest) = value.split_first()?;
    let fits = match length {
        4 => afi == AFI_V4,
        16 | 32 => afi == AFI_V6 || terms.extended_next_hop,
        _ => false,
    };
    rest.get(usize::from(length) + 1..).filter(|_| fits)
}

#[cfg(test)]
mod tests;
