//! A packet to a service without a connection: the start of one, in most cases.

use super::{Origin, Outcome, Pipeline};
use crate::conn::connection::{Connection, flag};
use crate::conn::key::Key;
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
use crate::verdict::DropReason;
use crate::wire::{get_u32, proxy_v2, tcp};

/// Local ports that are tried for a new FullNAT connection. With nine in ten ports taken towards one server, one in 800 attempts fails.
const LOCAL_PORT_TRIES: u32 = 64;
/// How long packets without a connection are taken for those of connections that found the table full: TCP's longest silence.
const STATELESS_MEMORY: Time = Time::from_secs(900);

impl<F: Frame> Pipeline<F> {
    pub(super) fn open(
        &mut self,
        now: Time,
        snapshot: &Snapshot,
        origin: Origin,
        frame: &mut F,
        packet: &mut Packet,
    ) -> Outcome {
        let Key {
            destination: address,
            destination_port: port,
            protocol,
            ..
        } = packet.key;
        let Some(service) = snapshot.services.find(&ServiceKey {
            protocol,
            address,
            port,
        }) else {
            return DropReason::NoService.into();
        };
        if packet.is_later_fragment() || !may_open(packet) {
            if now < self.stateless_until {
                return self.forward_stateless(now, snapshot, origin, frame, packet, service);
            }
            return DropReason::NotFirstPacket.into();
        }
        // Kernel: time to live is looked at after scheduling; before it, a traceroute would leave connections behind.
        if packet.ttl <= 1 {
            let (error, otherwise) = (OwnError::TimeExceeded, DropReason::TtlExceeded);
            return self.tell_sender(now, snapshot, origin, frame, packet, error, otherwise);
        }
        let Some(server) = self.pick(service, &packet.key) else {
            let (error, otherwise) = (OwnError::PortUnreachable, DropReason::NoServer);
            return self.tell_sender(now, snapshot, origin, frame, packet, error, otherwise);
        };
        let connection = match self.compose(now, snapshot, frame, packet, service, server) {
            Ok(connection) => connection,
            Err(reason) => return reason.into(),
        };
        let Ok(index) = self.table.insert(connection) else {
            return self.forward_stateless(now, snapshot, origin, frame, packet, service);
        };
        self.loads.get(server.slot).open(server, connection.is(flag::ACTIVE));
        self.counters.event(Event::ConnectionsOpened).add(1);
        self.counters.server(server.slot).connections.add(1);
        if packet.tcp_flags & tcp::SYN != 0 && server.method == ForwardingMethod::FullNat {
            self.clamp_offer(snapshot, frame, packet);
        }
        self.inbound(now, snapshot, origin, frame, packet, index)
    }

    fn pick<'a>(&mut self, service: &'a Service, key: &Key) -> Option<&'a Server> {
        let state = self.schedulers[service.slot.0 as usize].as_mut()?;
        let client = Client {
            address: key.source,
            port: key.source_port,
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
            server_port: server.port,
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

    /// A local address and port whose tuple towards the server is free. The worker takes every n-th port, so that the port alone tells who owns the reply; going
    /// round keeps a port unused for as long as possible after its connection.
    fn choose_local(&mut self, service: &Service, connection: &mut Connection) -> Result<(), DropReason> {
        let pool = if connection.server.is_v4() {
            &service.local_v4
        } else {
            &service.local_v6
        };
        let (first, last) = service.local_ports;
        let workers = u32::from(self.settings.workers);
        let own = u32::from(self.settings.worker);
        // The lowest port of the range that is ours, and how many there are.
        let lowest = u32::from(first) + (own + workers - u32::from(first) % workers) % workers;
        if pool.is_empty() || lowest > u32::from(last) {
            return Err(DropReason::NoLocalPort);
        }
        let ports = (u32::from(last) - lowest) / workers + 1;
        let all = ports.saturating_mul(pool.len() as u32);
        for _ in 0..LOCAL_PORT_TRIES.min(all) {
            self.local_port_cursor = self.local_port_cursor.wrapping_add(1);
            let at = self.local_port_cursor % all;
            connection.local = pool[(at % pool.len() as u32) as usize];
            connection.local_port = (lowest + at / pool.len() as u32 * workers) as u16;
            let reply = connection.outbound_key();
            if self.table.find(self.table.hash(&reply), &reply).is_none() {
                return Ok(());
            }
        }
        Err(DropReason::NoLocalPort)
    }

    /// The client's SYN tells the server how long its segments may be: no longer than what reaches the client.
    fn clamp_offer(&mut self, snapshot: &Snapshot, frame: &mut F, packet: &Packet) {
        let Some(mtu) = snapshot.mtu_towards(&packet.key.source) else {
            return;
        };
        let taken = tunnel::overhead(&packet.key.source) + tcp::HEADER;
        self.clamp(frame, packet, usize::from(mtu).saturating_sub(taken));
    }

    /// The table is full: a server that needs no entry is chosen by the client's tuple alone (rendezvous hashing), so that every packet of the connection, and a
    /// restarted or second director, chooses the same one.
    fn forward_stateless(
        &mut self,
        now: Time,
        snapshot: &Snapshot,
        origin: Origin,
        frame: &mut F,
        packet: &mut Packet,
        service: &Service,
    ) -> Outcome {
        let needs_no_entry = |server: &&Server| {
            matches!(
                server.method,
                ForwardingMethod::DirectRouting | ForwardingMethod::Tunnel
            )
        };
        let usable = service
            .servers
            .iter()
            .filter(needs_no_entry)
            .filter(|server| server.weight > 0);
        let Some(server) = usable.max_by(|a, b| score(a, &packet.key).total_cmp(&score(b, &packet.key))) else {
            return DropReason::TableFull.into();
        };
        self.stateless_until = now + STATELESS_MEMORY.0;
        let hop = match snapshot.routes.find(&server.address) {
            RouteLookup::Hop(hop) => hop,
            RouteLookup::Unresolved(interface, address) => return Outcome::AwaitNeighbour(interface, address),
            RouteLookup::Nowhere => return DropReason::NoRoute.into(),
        };
        self.forward_untracked(now, snapshot, origin, frame, packet, hop, server)
    }

    #[allow(clippy::too_many_arguments, reason = "one call, on the path for a full table")]
    fn forward_untracked(
        &mut self,
        now: Time,
        snapshot: &Snapshot,
        origin: Origin,
        frame: &mut F,
        packet: &mut Packet,
        hop: HopIndex,
        server: &Server,
    ) -> Outcome {
        let tunnel_to = (server.method == ForwardingMethod::Tunnel).then_some(server.address);
        let growth = tunnel_to.map_or(0, |server| tunnel::overhead(&server) as isize);
        if let Some(outcome) = self.refuse_to_forward(now, snapshot, origin, frame, packet, hop, growth) {
            return outcome;
        }
        self.counters.event(Event::StatelessForwarded).add(1);
        let traffic = self.counters.server(server.slot);
        traffic.packets_in.add(1);
        traffic.bytes_in.add(packet.ip_length as u64);
        edit::decrement_ttl(frame, packet);
        edit::finish_checksum(frame, packet, false);
        self.send_unchanged(snapshot, frame, packet, hop, tunnel_to)
    }
}

/// Whether the packet can be the first of a connection: for TCP one with SYN and without RST.
fn may_open(packet: &Packet) -> bool {
    packet.key.protocol != protocol::TCP || tcp_state::may_open(packet.tcp_flags, false)
}

/// Weighted rendezvous: the server with the largest `weight / -ln(u)` wins, where u is uniform by the hash of client and server. Removing a server moves only its own
/// clients. The hash is fixed, not secret: all directors must agree.
fn score(server: &Server, key: &Key) -> f64 {
    use std::hash::Hasher;
    let mut hasher = siphasher::sip::SipHasher13::new_with_keys(0x756c_7673, 0x7374_6174_656c_6573);
    hasher.write(key.source.octets());
    hasher.write_u16(key.source_port);
    hasher.write(key.destination.octets());
    hasher.write_u16(key.destination_port);
    hasher.write(server.address.octets());
    let uniform = (hasher.finish() >> 11) as f64 / (1u64 << 53) as f64;
    f64::from(server.weight) / -(uniform.max(f64::MIN_POSITIVE)).ln()
}
