//! One router: the session with it, its connections, and what was advertised to it.
//!
//! The driver owns a [`PeerDriver`] per peer of the plan, tells it what happens and what the router is to
//! hear of. It carries out what the [`Session`] wants and keeps the Adj-RIB-Out: after a change only
//! the difference is sent.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{debug, info};

use super::{
    next_hop,
    status::{BfdStatus, PeerFacts, PeerStatus, Prefixes},
    unnumbered::Unnumbered,
};
use crate::{
    bgp::{
        Action, Cease, ConnectionId, EndOfRib, Event, Families, Outbound, PeerAddress, PeerConfig,
        RibOut, Session, Settings, delta,
    },
    event::BgpEvent,
    kernel::sockets::bgp::{
        Dial, Dialling, Hops, Incoming, Key,
        connection::{Closing, Connection, Received},
        dial,
    },
    links::Links,
    problem::Problem,
};

/// For the last word to a router, and its goodbye.
const LAST_WORD: Duration = Duration::from_secs(1);
/// Of one connection, before the others have their turn.
const READS: usize = 8;

/// What all peers of a node share.
pub(super) struct Context<'d> {
    pub(super) links: &'d Links,
    pub(super) unnumbered: &'d Unnumbered,
    pub(super) now: Instant,
}

/// One router.
pub(super) struct PeerDriver {
    name: String,
    pub(super) config: Arc<PeerConfig>,
    session: Session,
    connections: BTreeMap<ConnectionId, Connection>,
    dials: BTreeMap<ConnectionId, Dialling>,
    /// To be dialled as soon as it is known where the router is.
    pending: Option<ConnectionId>,
    /// Connections on which the last word is being said, and until when they may take for it.
    closing: Vec<(Instant, Closing)>,
    /// While the session is up.
    up: Option<Up>,
    /// What the router is to hear of.
    wanted: Arc<RibOut>,
    /// Why the last attempt to dial failed.
    dial_error: Option<String>,
    events: Vec<BgpEvent>,
}

/// A session that is up.
struct Up {
    outbound: Outbound,
    said: Arc<RibOut>,
    /// Routes that cannot be said on this session.
    unsent: Vec<ipnet::IpNet>,
    end_of_rib: EndOfRib,
    local: IpAddr,
    /// `local` was on an interface when the session came up.
    on_link: bool,
    remote: SocketAddr,
}

impl PeerDriver {
    pub(super) fn start(
        seed: u64,
        name: &str,
        config: Arc<PeerConfig>,
        settings: Settings,
        context: &Context<'_>,
    ) -> Self {
        let mut peer = Self {
            name: name.to_owned(),
            config,
            session: Session::new(settings, seed),
            connections: BTreeMap::new(),
            dials: BTreeMap::new(),
            pending: None,
            closing: Vec::new(),
            up: None,
            wanted: Arc::default(),
            dial_error: None,
            events: Vec::new(),
        };
        peer.handle(Event::Start, context);
        peer
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The interface of an unnumbered peer.
    pub(super) fn interface(&self) -> Option<&str> {
        match &self.config.peer.address {
            PeerAddress::Ip(_) => None,
            PeerAddress::Interface(name) => Some(name),
        }
    }

    /// Whether a connection can only be this router's. A connection without the password that it should
    /// have, or of another neighbour than the session on an unnumbered link is with, is not.
    pub(super) fn expects(&self, incoming: &Incoming, links: &Links) -> bool {
        let there = match (&self.config.peer.address, incoming.from) {
            (PeerAddress::Ip(ip), from) => *ip == from.ip(),
            (PeerAddress::Interface(name), SocketAddr::V6(from)) => {
                let index = links.named(name).map(|link| link.index);
                from.ip().is_unicast_link_local()
                    && index == Some(from.scope_id())
                    && self.link_local().is_none_or(|router| router == *from.ip())
            }
            _ => false,
        };
        there && (incoming.signed || self.key().is_none())
    }

    /// The router that the session of an unnumbered peer is with, while it is up.
    pub(super) fn link_local(&self) -> Option<Ipv6Addr> {
        match (self.interface(), self.up.as_ref()?.remote) {
            (Some(_), SocketAddr::V6(router)) => Some(*router.ip()),
            _ => None,
        }
    }

    /// The interface of an unnumbered peer, or the router on it, is another one than before.
    pub(super) fn look(&mut self, context: &Context<'_>) {
        let Some(interface) = self.interface() else { return };
        let index = context.unnumbered.index(interface);
        let elsewhere = |connection: &Connection| match connection.remote {
            SocketAddr::V6(remote) => Some(remote.scope_id()) != index,
            SocketAddr::V4(_) => true,
        };
        let lost = self.connections.iter().filter(|(_, connection)| elsewhere(connection));
        for id in lost.map(|(id, _)| *id).collect::<Vec<_>>() {
            debug!(peer = self.name, "connection lost with its interface");
            self.connections.remove(&id);
            self.handle(Event::Failed(id), context);
        }
        if let Some(id) = self.pending.take() {
            let actions = self.connect(id, context);
            self.perform(actions, None, context);
        }
    }

    /// The node has other addresses than before: connections from one that is gone end, and the router
    /// hears of the next hops that count now.
    pub(super) fn follow_links(&mut self, context: &Context<'_>) {
        // An address that no interface ever had, such as one of 127.0.0.0/8, is not gone.
        let on_link = self.up.as_ref().filter(|up| up.on_link).map(|up| up.local);
        let gone = on_link.filter(|local| context.links.with(*local).is_none());
        let gone = |connection: &Connection| gone == Some(connection.local.ip());
        let lost = self.connections.iter().filter(|(_, connection)| gone(connection));
        for id in lost.map(|(id, _)| *id).collect::<Vec<_>>() {
            info!(peer = self.name, "connection lost with the address of this end");
            self.connections.remove(&id);
            self.handle(Event::Failed(id), context);
        }
        let (Some(up), Some(agreed)) = (&mut self.up, self.session.negotiated()) else { return };
        let next_hops = next_hop::of(up.local, context.links, agreed.extended_next_hop);
        let outbound = Outbound::new(agreed, self.config.peer.local_asn, next_hops);
        if outbound == up.outbound {
            return;
        }
        let mut messages = up.outbound.no_longer(&outbound, &up.said);
        let again = outbound.encode(&delta(&RibOut::default(), &up.said));
        messages.extend(again.messages);
        (up.outbound, up.unsent) = (outbound, again.unsent);
        up.unsent.sort_unstable();
        up.unsent.dedup();
        info!(peer = self.name, "the next hops are other ones");
        let actions = self.session.send_updates(messages, context.now);
        self.perform(actions, None, context);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let end_of_rib = self.up.as_ref().and_then(|up| up.end_of_rib.deadline());
        [self.session.deadline(), end_of_rib].into_iter().flatten().min()
    }

    pub(super) fn tick(&mut self, context: &Context<'_>) {
        if self.deadline().is_some_and(|deadline| deadline <= context.now) {
            self.handle(Event::Tick, context);
        }
    }

    pub(super) fn bfd_down(&mut self, context: &Context<'_>) {
        self.handle(Event::BfdDown, context);
    }

    /// Ends the session; the text is for the router's operator.
    pub(super) fn stop(&mut self, cease: Cease, text: &str, context: &Context<'_>) {
        self.handle(Event::Stop(cease, text), context);
    }

    /// Files to wait for, and whether they can have something written to them as well.
    pub(super) fn sources(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let dials = self.dials.values().filter_map(|dial| Some((dial.as_fd()?, true)));
        let open = self.connections.values();
        dials.chain(open.map(|connection| (connection.as_fd(), connection.queued() > 0)))
    }

    /// Takes what has come and sends what can be sent. `buffer` is scratch space.
    pub(super) fn move_bytes(&mut self, buffer: &mut [u8], context: &Context<'_>) {
        for id in self.dials.keys().copied().collect::<Vec<_>>() {
            if let Some(outcome) = self.dials.get_mut(&id).and_then(Dialling::finish) {
                self.dials.remove(&id);
                self.dialled(id, outcome, context);
            }
        }
        for id in self.connections.keys().copied().collect::<Vec<_>>() {
            // A router that talks without end keeps no other router waiting.
            for _ in 0..READS {
                if !self.move_some(id, buffer, context) {
                    break;
                }
            }
        }
    }

    /// Whether there may be more to move on the connection.
    fn move_some(&mut self, id: ConnectionId, buffer: &mut [u8], context: &Context<'_>) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        let moved = connection.flush().and_then(|sent| {
            let flushed = sent && connection.queued() == 0;
            connection.receive(buffer).map(|received| (flushed, received))
        });
        if let Ok((true, _)) = moved {
            self.handle(Event::Flushed(id), context);
        }
        match moved {
            Ok((_, Received::Bytes(len))) => {
                self.handle(Event::Bytes(id, &buffer[..len]), context);
                len == buffer.len()
            }
            Ok((_, Received::Nothing)) => false,
            outcome @ (Ok((_, Received::Closed)) | Err(_)) => {
                debug!(peer = self.name, ?outcome, "connection lost");
                self.connections.remove(&id);
                self.handle(Event::Failed(id), context);
                false
            }
        }
    }

    fn dialled(
        &mut self,
        id: ConnectionId,
        outcome: io::Result<Connection>,
        context: &Context<'_>,
    ) {
        match outcome {
            Ok(connection) => {
                self.dial_error = None;
                self.connections.insert(id, connection);
                self.handle(Event::Opened(id), context);
            }
            Err(error) => {
                debug!(peer = self.name, %error, "no connection");
                self.dial_error = Some(error.to_string());
                self.handle(Event::Failed(id), context);
            }
        }
    }

    /// Connections that were closed since the last call.
    pub(super) fn closing(&mut self) -> Vec<(Instant, Closing)> {
        std::mem::take(&mut self.closing)
    }

    /// Closes all connections, with no more than what is queued already; they last until the router has closed them as well,
    /// for a while at most.
    pub(super) fn hang_up(self, now: Instant) -> impl Iterator<Item = (Instant, Closing)> {
        let open = self.connections.into_values();
        let closing = open.map(move |connection| (now + LAST_WORD, connection.close()));
        closing.chain(self.closing)
    }

    /// The router has dialled in.
    pub(super) fn incoming(&mut self, incoming: Incoming, context: &Context<'_>) {
        let actions = self.session.handle(Event::Incoming, context.now);
        self.perform(actions, Some(incoming), context);
    }

    /// The router is to hear of these routes and no others.
    pub(super) fn advertise(&mut self, routes: Arc<RibOut>, context: &Context<'_>) {
        if Arc::ptr_eq(&self.wanted, &routes) || self.wanted == routes {
            return;
        }
        self.wanted = routes;
        self.say_difference(context);
    }

    /// Says, once, that the router has heard all routes, when it has. `complete`: those that it is to hear
    /// of are all that it will hear of for the time being.
    pub(super) fn end_rib(&mut self, complete: bool, context: &Context<'_>) {
        let Some(up) = &mut self.up else { return };
        if up.end_of_rib.due(complete, context.now) {
            let said = up.outbound.end_of_rib();
            let actions = self.session.send_updates(said, context.now);
            self.perform(actions, None, context);
        }
    }

    /// Whether the session is up.
    pub(super) fn is_up(&self) -> bool {
        self.up.is_some()
    }

    /// Between which addresses BFD is to watch: from the first time that the session is up.
    pub(super) fn ends(&self) -> Option<(IpAddr, SocketAddr)> {
        self.up.as_ref().map(|up| (up.local, up.remote))
    }

    pub(super) fn events(&mut self) -> Vec<BgpEvent> {
        std::mem::take(&mut self.events)
    }

    /// What there is to tell.
    pub(super) fn status(
        &self,
        bfd: Option<BfdStatus>,
        problems: Vec<Problem>,
        context: &Context<'_>,
    ) -> PeerStatus {
        let router = self.interface().map(|name| (name, context.unnumbered.router(name)));
        let (neighbour, waits) = match (router, self.link_local()) {
            (Some((name, _)), Some(router)) => (Some(format!("{router}%{name}")), None),
            (Some((name, Ok(found))), None) => (Some(format!("{}%{name}", found.router)), None),
            (Some((_, Err(why))), None) => (None, Some(why)),
            (None, _) => (None, None),
        };
        let up = self.up.as_ref();
        let unsent = up.map_or(&[][..], |up| &up.unsent);
        let said = up.into_iter().flat_map(|up| up.said.routes.keys());
        let facts = PeerFacts {
            announced: Prefixes::of(said.filter(|prefix| unsent.binary_search(prefix).is_err())),
            wanted: Prefixes::of(self.wanted.routes.keys()),
            unsent,
            dial_error: self.dial_error.as_deref(),
            ends: self.ends(),
            neighbour,
            waits,
            problems,
        };
        PeerStatus::new(&self.config, &self.session, facts, bfd, context.now)
    }

    fn handle(&mut self, event: Event<'_>, context: &Context<'_>) {
        let actions = self.session.handle(event, context.now);
        self.perform(actions, None, context);
    }

    fn perform(
        &mut self,
        actions: Vec<Action>,
        mut incoming: Option<Incoming>,
        context: &Context<'_>,
    ) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Connect(id) => actions.extend(self.connect(id, context)),
                Action::Accept(id) => {
                    match incoming.take().map(|incoming| incoming.admit(self.hops())) {
                        Some(Ok(connection)) => drop(self.connections.insert(id, connection)),
                        outcome => {
                            debug!(peer = self.name, ?outcome, "not admitted");
                            actions.extend(self.session.handle(Event::Failed(id), context.now));
                        }
                    }
                }
                Action::Reject => drop(incoming.take()),
                Action::Send(id, bytes) => {
                    let Some(connection) = self.connections.get_mut(&id) else { continue };
                    let event = match connection.send(&bytes) {
                        Ok(()) if connection.queued() == 0 => Event::Flushed(id),
                        Ok(()) => continue,
                        Err(error) => {
                            debug!(peer = self.name, %error, "connection lost");
                            self.connections.remove(&id);
                            Event::Failed(id)
                        }
                    };
                    actions.extend(self.session.handle(event, context.now));
                }
                Action::Close(id) => {
                    self.dials.remove(&id);
                    self.pending.take_if(|pending| *pending == id);
                    if let Some(connection) = self.connections.remove(&id) {
                        self.closing.push((context.now + LAST_WORD, connection.close()));
                    }
                }
                Action::Up(id, negotiated) => {
                    let Some(wire) = self.connections.get(&id) else { continue };
                    // Only a shortcut: the hold timer finds out as well.
                    let _ = wire.set_user_timeout(negotiated.hold_time);
                    let next_hops =
                        next_hop::of(wire.local.ip(), context.links, negotiated.extended_next_hop);
                    info!(
                        peer = self.name,
                        local = %wire.local,
                        remote = %wire.remote,
                        asn = negotiated.remote_asn,
                        "BGP session up"
                    );
                    self.events.push(BgpEvent::Up { peer: self.name.clone() });
                    let asn = self.config.peer.local_asn;
                    self.up = Some(Up {
                        outbound: Outbound::new(&negotiated, asn, next_hops),
                        said: Arc::default(),
                        unsent: Vec::new(),
                        end_of_rib: EndOfRib::new(negotiated.graceful_restart, context.now),
                        local: wire.local.ip(),
                        on_link: context.links.with(wire.local.ip()).is_some(),
                        remote: wire.remote,
                    });
                    self.say_difference(context);
                }
                Action::Down(reason) => {
                    let reason = reason.to_string();
                    info!(peer = self.name, reason, "BGP session down");
                    self.events.push(BgpEvent::Down { peer: self.name.clone(), reason });
                    self.up = None;
                }
                Action::Refresh(families) => self.say_again(families, context),
            }
        }
    }

    /// Advertises to the router what has changed since the last time.
    fn say_difference(&mut self, context: &Context<'_>) {
        let Some(up) = &mut self.up else { return };
        let encoded = up.outbound.encode(&delta(&up.said, &self.wanted));
        up.said = Arc::clone(&self.wanted);
        up.unsent.retain(|prefix| self.wanted.routes.contains_key(prefix));
        up.unsent.extend(encoded.unsent);
        up.unsent.sort_unstable();
        up.unsent.dedup();
        let actions = self.session.send_updates(encoded.messages, context.now);
        self.perform(actions, None, context);
    }

    /// Tells the router all routes of some families again.
    fn say_again(&mut self, families: Families, context: &Context<'_>) {
        let Some(up) = &self.up else { return };
        let asked = |prefix: &ipnet::IpNet| match prefix {
            ipnet::IpNet::V4(_) => families.v4,
            ipnet::IpNet::V6(_) => families.v6,
        };
        let mut routes = RibOut::clone(&up.said);
        routes.routes.retain(|prefix, _| asked(prefix));
        let encoded = up.outbound.encode(&delta(&RibOut::default(), &routes));
        let actions = self.session.send_updates(encoded.messages, context.now);
        self.perform(actions, None, context);
    }

    fn hops(&self) -> Hops {
        if self.config.peer.multi_hop { Hops::Within(u8::MAX) } else { Hops::Link }
    }

    /// Dials, or waits until the router is known; what the session says to a failure.
    fn connect(&mut self, id: ConnectionId, context: &Context<'_>) -> Vec<Action> {
        let Some(way) = self.way(context.unnumbered) else {
            self.pending = Some(id);
            return Vec::new();
        };
        match dial(&way) {
            Ok(dialling) => {
                self.dials.insert(id, dialling);
                Vec::new()
            }
            Err(error) => {
                self.dial_error = Some(error.to_string());
                self.session.handle(Event::Failed(id), context.now)
            }
        }
    }

    /// How to dial the router; `None` while it has not been found.
    fn way(&self, unnumbered: &Unnumbered) -> Option<Dial> {
        let peer = &self.config.peer;
        let (to, from) = match &peer.address {
            PeerAddress::Ip(ip) => (SocketAddr::new(*ip, peer.port), peer.source),
            PeerAddress::Interface(name) => {
                let found = unnumbered.router(name).ok()?;
                let to = SocketAddrV6::new(found.router, peer.port, 0, found.index);
                // The router takes no connection but from the address that it has heard.
                (to.into(), Some(found.own.into()))
            }
        };
        let device = peer.vrf.clone();
        let key = self.key();
        Some(Dial { to, from, device, hops: self.hops(), key })
    }

    /// What segments to and from the router are signed with.
    pub(super) fn key(&self) -> Option<Key> {
        self.config.password.as_ref().and_then(|secret| Key::new(&secret.0))
    }
}

#[cfg(test)]
mod tests;
