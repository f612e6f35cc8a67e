//! A packet to a service without a connection: the start of one, in most cases.

use super::persist::Stay;
use super::{Context, Outcome, Pipeline};
use crate::conn::connection::{Connection, ConnectionIndex, NONE, flag};
use crate::conn::key::{Key, KeyHasher};
use crate::conn::sctp_state::SctpEvent;
use crate::conn::state::ConnectionState;
use crate::conn::tcp_state;
use crate::conn::timeouts::NEW_CONNECTION_TIMEOUT_S;
use crate::conn::wheel;
use crate::counters::Event;
use crate::forward::reply::OwnError;
use crate::forward::{edit, tunnel};
use crate::io::Frame;
use crate::parse::Packet;
use crate::scheduler::{self, Client};
use crate::service::{ClientAddress, ForwardingMethod, Server, Service, protocol};
use crate::snapshot::{HopIndex, RouteLookup, ServiceKey, Snapshot};
use crate::time::Time;
use crate::tunables::Tunables;
use crate::verdict::DropReason;
use crate::wire::{get_u32, proxy_v2, tcp};

/// How long packets without a connection are taken for those of connections that found the table full: TCP's longest silence.
const STATELESS_MEMORY: Time = Time::from_secs(900);

impl<F: Frame> Pipeline<F> {
    /// `over`: the client's connection of before with the same ports, which is over and makes room for the new one.
    pub(super) fn open(
        &mut self,
        context: &Context<'_>,
        frame: &mut F,
        packet: &mut Packet,
        over: Option<ConnectionIndex>,
    ) -> Outcome {
        // One that is over makes room for the new one.
        let is_full = over.is_none() && self.table.is_full();
        let chosen = self.choose(context, frame, packet, is_full);
        // The kernel takes the old connection out by its timer, after the new server was picked: until then it counts, and keeps its local port.
        if let Some(over) = over {
            self.end(over, Event::ConnectionsReused);
        }
        let (service, server, connection) = match chosen {
            Ok(chosen) => chosen,
            Err(outcome) => return outcome,
        };
        if service.one_packet {
            return self.forward_once(context, frame, packet, server, connection);
        }
        self.end_namesake(&connection);
        let Ok(index) = self.table.insert(connection) else {
            return self.forward_stateless(context, frame, packet, service);
        };
        self.loads.get(server.slot).open(server, connection.is(flag::ACTIVE));
        self.counters.event(Event::ConnectionsOpened).add(1);
        self.compare_hash(frame, packet);
        self.counters.server(server.slot).connections.add(1);
        if packet.tcp_flags & tcp::SYN != 0 && server.method == ForwardingMethod::FullNat {
            self.clamp_offer(context.snapshot, frame, packet);
        }
        self.inbound(context, frame, packet, index)
    }

    /// schedule_icmp: an ICMP error about a packet of no connection (it went through another director, with the same address) opens one, so that it comes to a
    /// server that may know. `key`: as the client's packets of that connection have it. FullNAT servers know connections from here only.
    pub(super) fn open_for_error(
        &mut self,
        context: &Context<'_>,
        frame: &F,
        packet: &Packet,
        key: &Key,
    ) -> Option<ConnectionIndex> {
        let snapshot = context.snapshot;
        if !snapshot.tunables.schedule_icmp || packet.ttl <= 1 || self.table.is_full() {
            return None;
        }
        let service = snapshot.services.find(&ServiceKey {
            protocol: key.protocol,
            address: key.destination,
            port: key.destination_port,
        })?;
        let server = self.pick(context.now, service, key)?;
        if server.method == ForwardingMethod::FullNat {
            return None;
        }
        let opening = Packet {
            key: *key,
            tcp_flags: 0,
            ..*packet
        };
        let connection = self
            .compose(context.now, snapshot, frame, &opening, service, server)
            .ok()?;
        self.end_namesake(&connection);
        let index = self.table.insert(connection).ok()?;
        self.loads.get(server.slot).open(server, connection.is(flag::ACTIVE));
        self.counters.event(Event::ConnectionsOpened).add(1);
        self.counters.server(server.slot).connections.add(1);
        Some(index)
    }

    /// One-packet scheduling, as in the kernel: the entry is there for this packet only. Replies of NAT servers find none, and go on as they are.
    fn forward_once(
        &mut self,
        context: &Context<'_>,
        frame: &mut F,
        packet: &mut Packet,
        server: &Server,
        connection: Connection,
    ) -> Outcome {
        let Ok(index) = self.table.insert(connection) else {
            return DropReason::TableFull.into();
        };
        self.loads.get(server.slot).open(server, false);
        let outcome = self.inbound(context, frame, packet, index);
        self.table.remove(index);
        self.forget(server.slot, false);
        // One that waits for a neighbour comes again from the top, and is counted then.
        if !matches!(outcome, Outcome::AwaitNeighbour(..)) {
            self.counters.event(Event::PacketsScheduledAlone).add(1);
            self.counters.server(server.slot).connections.add(1);
        }
        outcome
    }

    /// A card that hashes otherwise than it was told shows nowhere else but in workers that hand over nearly all they get.
    #[inline]
    fn compare_hash(&self, frame: &F, packet: &Packet) {
        // Cards hash fragments and other protocols by their addresses only.
        let has_ports = matches!(packet.key.protocol, protocol::TCP | protocol::UDP) && packet.fragment.is_none();
        if let Some(hash) = frame.rss_hash()
            && has_ports
            && hash != self.settings.steering.hash_of_client(&packet.key)
        {
            self.counters.event(Event::RssDiffers).add(1);
        }
    }

    /// The service, the server and the entry for a new connection.
    fn choose<'a>(
        &mut self,
        context: &Context<'a>,
        frame: &mut F,
        packet: &mut Packet,
        is_full: bool,
    ) -> Result<(&'a Service, &'a Server, Connection), Outcome> {
        let Key {
            destination: address,
            destination_port: port,
            protocol,
            ..
        } = packet.key;
        let Some(service) = context.snapshot.services.find(&ServiceKey {
            protocol,
            address,
            port,
        }) else {
            return Err(DropReason::NoService.into());
        };
        if packet.is_later_fragment() || !may_open(packet, &context.snapshot.tunables) {
            if context.now < self.stateless_until {
                return Err(self.forward_stateless(context, frame, packet, service));
            }
            return Err(DropReason::NotFirstPacket.into());
        }
        // Nobody else sends from an address of ours: the kernel calls such a source martian too.
        if context.snapshot.interfaces.owned(&packet.key.source).is_some() {
            return Err(DropReason::MartianSource.into());
        }
        // Kernel: time to live is looked at after scheduling; before it, a traceroute would leave connections behind.
        if packet.ttl <= 1 {
            let (error, otherwise) = (OwnError::TimeExceeded, DropReason::TtlExceeded);
            return Err(self.tell_sender(context, frame, packet, error, otherwise));
        }
        // First of all: in a flood, scheduling for nothing would be most of the work.
        if is_full {
            return Err(self.forward_stateless(context, frame, packet, service));
        }
        let stay = match &service.persistence {
            Some(persistence) => self.stay(context, service, persistence, &packet.key),
            None => match self.pick(context.now, service, &packet.key) {
                Some(server) => Stay::With(server, NONE),
                None => Stay::NoServer,
            },
        };
        let (server, template) = match stay {
            Stay::With(server, template) => (server, template),
            Stay::NoServer => {
                let (error, otherwise) = (OwnError::PortUnreachable, DropReason::NoServer);
                return Err(self.tell_sender(context, frame, packet, error, otherwise));
            }
            Stay::TableFull => return Err(self.forward_stateless(context, frame, packet, service)),
        };
        let mut connection = self.compose(context.now, context.snapshot, frame, packet, service, server)?;
        connection.control = template;
        Ok((service, server, connection))
    }

    /// With NAT, a client that uses one port for two services which share a server looks to that server like one and the same. Its replies can belong to one
    /// connection only: the new one, as in the kernel, where the newest is found first.
    fn end_namesake(&mut self, connection: &Connection) {
        if connection.method != ForwardingMethod::Nat {
            return;
        }
        let reply = connection.outbound_key();
        if let Some((namesake, _)) = self.table.find(self.table.hash(&reply), &reply) {
            self.end(namesake, Event::ConnectionsReused);
        }
    }

    pub(super) fn pick<'a>(&mut self, now: Time, service: &'a Service, key: &Key) -> Option<&'a Server> {
        let state = self.schedulers[service.slot.0 as usize].as_mut()?;
        let client = Client {
            address: key.source,
            port: key.source_port,
            called: key.destination,
            now,
        };
        service
            .servers
            .get(scheduler::pick(state, service, &self.loads, &client)?)
    }

    /// The entry for a new connection.
    fn compose(
        &mut self,
        now: Time,
        snapshot: &Snapshot,
        frame: &F,
        packet: &Packet,
        service: &Service,
        server: &Server,
    ) -> Result<Connection, DropReason> {
        let key = &packet.key;
        let no_output = matches!(
            server.method,
            ForwardingMethod::DirectRouting | ForwardingMethod::Tunnel
        );
        let state = ConnectionState::before_first_packet(key.protocol).ok_or(DropReason::NoService)?;
        // The packet itself sets state and timeout when it goes on as the connection's first.
        let timeout = wheel::ticks_of_seconds(NEW_CONNECTION_TIMEOUT_S);
        let mut connection = Connection {
            client: key.source,
            virtual_address: key.destination,
            server: server.address,
            client_port: key.source_port,
            virtual_port: key.destination_port,
            server_port: if service.port == 0 {
                key.destination_port
            } else {
                server.port
            },
            protocol: key.protocol,
            method: server.method,
            state,
            flags: if no_output { flag::NO_OUTPUT } else { 0 },
            expires: wheel::tick_of(now).wrapping_add(timeout),
            server_slot: server.slot,
            service_slot: service.slot,
            route_version: snapshot.routes.version,
            ..Connection::default()
        };
        if server.method == ForwardingMethod::FullNat {
            connection.client_address = service.client_address;
            if key.protocol == protocol::TCP {
                let sequence = get_u32(frame.head(), packet.transport + tcp::SEQUENCE);
                connection.first_sequence = sequence.wrapping_add(1);
                if service.client_address == ClientAddress::ProxyV2 {
                    connection.shift = proxy_v2::length(&key.source) as u8;
                }
            }
            self.choose_local(service, &mut connection)?;
        }
        Ok(connection)
    }

    /// The client's SYN tells the server how long its segments may be: no longer than what reaches the client.
    fn clamp_offer(&mut self, snapshot: &Snapshot, frame: &mut F, packet: &Packet) {
        let Some(mtu) = snapshot.mtu_towards(&packet.key.source) else {
            return;
        };
        let taken = tunnel::ip_header(&packet.key.source) + tcp::HEADER;
        self.clamp(frame, packet, usize::from(mtu).saturating_sub(taken));
    }

    /// The table is full: a server that needs no entry is chosen by the client's tuple alone (rendezvous hashing), so that every packet of the connection, and a
    /// restarted or second director, chooses the same one.
    fn forward_stateless(
        &mut self,
        context: &Context<'_>,
        frame: &mut F,
        packet: &mut Packet,
        service: &Service,
    ) -> Outcome {
        // What has no place in the table for its template goes where all of its client's connections go.
        let key = match &service.persistence {
            Some(persistence) => Key {
                source: packet.key.source.masked(persistence.prefix_length),
                source_port: 0,
                ..packet.key
            },
            None => packet.key,
        };
        let Some(server) = rendezvous(service, &key) else {
            return DropReason::TableFull.into();
        };
        self.stateless_until = context.now + STATELESS_MEMORY.0;
        let hop = match context.snapshot.routes.find(&server.address) {
            RouteLookup::Hop(hop) => hop,
            RouteLookup::Unresolved(interface, address) => return Outcome::AwaitNeighbour(interface, address),
            RouteLookup::Nowhere => return DropReason::NoRoute.into(),
        };
        self.forward_untracked(context, frame, packet, hop, server)
    }

    fn forward_untracked(
        &mut self,
        context: &Context<'_>,
        frame: &mut F,
        packet: &mut Packet,
        hop: HopIndex,
        server: &Server,
    ) -> Outcome {
        let Some(hop) = context.snapshot.routes.hop(hop) else {
            return DropReason::NoRoute.into();
        };
        let tunnel_to = (server.method == ForwardingMethod::Tunnel).then_some((server.address, server.tunnel));
        let growth = tunnel_to.map_or(0, |(server, kind)| tunnel::overhead(&server, kind) as isize);
        if let Some(outcome) = self.refuse_to_forward(context, frame, packet, hop, growth) {
            return outcome;
        }
        self.counters.event(Event::StatelessForwarded).add(1);
        let traffic = self.counters.server(server.slot);
        traffic.packets_in.add(1);
        traffic.bytes_in.add(packet.ip_length as u64);
        edit::decrement_ttl(frame, packet);
        edit::finish_checksum(frame, packet, false);
        self.send_unchanged(frame, packet, hop, tunnel_to)
    }
}

/// Whether the packet can be the first of a connection: for TCP one with SYN and without RST, for SCTP an INIT, unless the settings are sloppy.
fn may_open(packet: &Packet, tunables: &Tunables) -> bool {
    match packet.key.protocol {
        protocol::TCP => tcp_state::may_open(packet.tcp_flags, tunables.sloppy_tcp),
        protocol::SCTP => SctpEvent::from_flags(packet.tcp_flags).may_open(tunables.sloppy_sctp),
        _ => true,
    }
}

/// Not secret, unlike that of the connection table: all directors must agree.
const STATELESS_HASHER: KeyHasher = KeyHasher::new([
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7344,
    0xa409_3822_299f_31d0,
    0x082e_fa98_ec4e_6c89,
    0x4528_21e6_38d0_1377,
]);

/// Weighted rendezvous: of the servers that need no entry, the one with the largest `weight / -ln(u)` wins, where u is uniform by the hash of client and server.
/// Removing a server moves only its own clients. With equal weights the largest u wins, so that no logarithm is taken for each packet of a flood.
fn rendezvous<'a>(service: &'a Service, key: &Key) -> Option<&'a Server> {
    let usable = service
        .servers
        .iter()
        .filter(|server| needs_no_entry(server) && server.weight > 0);
    let hash = |server: &Server| {
        STATELESS_HASHER.hash(&Key {
            destination: server.address,
            ..*key
        })
    };
    let weight = usable.clone().next()?.weight;
    if usable.clone().all(|server| server.weight == weight) {
        return usable.max_by_key(|server| hash(server));
    }
    let score = |server: &Server| {
        let uniform = ((hash(server) >> 11) as f64 / (1u64 << 53) as f64).max(f64::MIN_POSITIVE);
        f64::from(server.weight) / -uniform.ln()
    };
    usable.max_by(|a, b| score(a).total_cmp(&score(b)))
}

fn needs_no_entry(server: &Server) -> bool {
    matches!(
        server.method,
        ForwardingMethod::DirectRouting | ForwardingMethod::Tunnel
    )
}
