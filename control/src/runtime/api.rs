//! The answers to what `ulvs` asks, out of the runtime's state and the workers' counters.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::time::timeout;
use ulvs_dataplane::conn::connection::flag;
use ulvs_dataplane::counters::{Counter, Counters, Event};
use ulvs_dataplane::io::PortIndex;
use ulvs_dataplane::service::{ForwardingMethod, GueChecksum, Server, ServerSlot, Service, TunnelType, protocol};
use ulvs_dataplane::snapshot::RouteLookup;
use ulvs_dataplane::verdict::{DropReason, PuntReason, ReplyKind};
use ulvs_dataplane::worker::ConnectionRow;

use super::workers::WorkerHandle;
use super::{Runtime, Shared};
use crate::api::changes::{Change, ChangesOutcome};
use crate::api::protocol::{ConnectionFilter, ConnectionsPage, Cursor, ErrorCode, ServiceSelector};
use crate::api::views::{
    ClientAddress, ConnectionView, CounterView, DirectorView, Method, NextHopView, PersistenceView, PortView, Protocol,
    ServerView, ServiceView, TimeoutsView, TotalsView, Traffic, TunnelChecksum, TunnelKind, TunnelView, WorkerView,
};
use crate::api::{Answer, Backend, Refusal};
use crate::config::{self, VirtualService};
use crate::origin::Origin;

/// How long a worker may take to read its mail. It does so every few microseconds, or every few milliseconds when idle.
const WORKER_PATIENCE: Duration = Duration::from_secs(2);

/// The runtime as [`Backend`].
pub(super) struct RuntimeBackend(pub(super) Shared);

impl Backend for RuntimeBackend {
    async fn director(&self) -> Answer<DirectorView> {
        let runtime = self.0.borrow();
        let health = runtime.health.borrow().clone();
        let mac = |mac: [u8; 6]| mac.map(|octet| format!("{octet:02x}")).join(":");
        Ok(DirectorView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            generation: runtime.snapshot.generation,
            uptime_seconds: runtime.started.elapsed().as_secs(),
            connection_table_size: runtime.config.director.connections as u64,
            given_up: (!health.holds_addresses()).then(|| health.to_string()),
            ports: runtime
                .ports
                .iter()
                .map(|port| PortView {
                    name: port.name.clone(),
                    mode: port.mode.clone(),
                    mac: Some(mac(port.mac)),
                    queues: port.queues,
                })
                .collect(),
        })
    }

    async fn services(&self, selector: Option<&ServiceSelector>) -> Answer<Vec<ServiceView>> {
        let runtime = self.0.borrow();
        let listed: HashMap<_, _> = runtime
            .config
            .services
            .iter()
            .map(|own| ((own.protocol.number(), own.address, own.port), own))
            .collect();
        let views = runtime.services.iter().map(|service| {
            let listed = listed.get(&(service.protocol, service.address, service.port));
            runtime.service_view(service, listed.copied())
        });
        Ok(views
            .filter(|view| selector.is_none_or(|selector| selector.matches(view)))
            .collect())
    }

    async fn connections(
        &self,
        filter: &ConnectionFilter,
        cursor: Option<Cursor>,
        limit: u32,
    ) -> Answer<ConnectionsPage> {
        let cursor = cursor.unwrap_or(Cursor { part: 0, position: 0 });
        let worker = cursor.part as usize;
        let position = u32::try_from(cursor.position).unwrap_or(u32::MAX);
        let asked = self.0.borrow_mut().workers.list(worker, position);
        let Some(page) = asked else {
            return Ok(ConnectionsPage::default());
        };
        let Ok(Ok((rows, next))) = timeout(WORKER_PATIENCE, page).await else {
            return Err(Refusal::new(
                ErrorCode::Unavailable,
                format!(
                    "worker {worker} did not answer within {} s; see `ulvs workers`",
                    WORKER_PATIENCE.as_secs()
                ),
            ));
        };
        // A page may have more rows than were asked for: the next one then begins at the first that did not fit.
        let mut connections = Vec::new();
        let mut cut = None;
        for row in &rows {
            let view = connection_view(row, worker);
            if filter.matches(&view) {
                if connections.len() == limit as usize {
                    cut = Some(u64::from(row.place));
                    break;
                }
                connections.push(view);
            }
        }
        let next = match (cut, next) {
            (Some(place), _) => Some(Cursor {
                part: cursor.part,
                position: place,
            }),
            (None, Some(position)) => Some(Cursor {
                part: cursor.part,
                position: u64::from(position),
            }),
            (None, None) if worker + 1 < self.0.borrow().workers.handles().len() => Some(Cursor {
                part: cursor.part + 1,
                position: 0,
            }),
            (None, None) => None,
        };
        Ok(ConnectionsPage { connections, next })
    }

    async fn counters(&self) -> Answer<Vec<CounterView>> {
        let runtime = self.0.borrow();
        let workers: Vec<&Counters> = runtime.workers.handles().map(|worker| &*worker.counters).collect();
        let view = |name: String, help: &str, read: &dyn Fn(&Counters) -> &Counter| CounterView {
            name,
            help: help.to_owned(),
            values: workers.iter().map(|counters| read(counters).get()).collect(),
        };
        let mut all = Vec::new();
        for &event in Event::ALL {
            all.push(view(event.name().to_owned(), event.help(), &|counters| {
                counters.event(event)
            }));
        }
        for &kind in ReplyKind::ALL {
            all.push(view(format!("reply_{}", kind.name()), kind.help(), &|counters| {
                counters.reply(kind)
            }));
        }
        for &reason in PuntReason::ALL {
            all.push(view(format!("punt_{}", reason.name()), reason.help(), &|counters| {
                counters.punt(reason)
            }));
        }
        for &reason in DropReason::ALL {
            all.push(view(format!("drop_{}", reason.name()), reason.help(), &|counters| {
                counters.dropped(reason)
            }));
        }
        // Frames that never came to a worker, or got lost behind it.
        let backend = runtime.capture.iter().flat_map(|capture| capture.counters());
        all.extend(backend.map(|counter| CounterView {
            name: match counter.port.and_then(|port| runtime.ports.get(usize::from(port.0))) {
                Some(port) => format!("{}[{}]", counter.name, port.name),
                None => counter.name.to_owned(),
            },
            help: counter.help.to_owned(),
            values: counter.values,
        }));
        Ok(all)
    }

    async fn workers(&self) -> Answer<Vec<WorkerView>> {
        let runtime = self.0.borrow();
        let now = Instant::now();
        Ok(runtime
            .workers
            .handles()
            .enumerate()
            .map(|(index, worker)| worker_view(index, worker, runtime.watchdog.stuck_for(index, now)))
            .collect())
    }

    async fn timeouts(&self) -> Answer<TimeoutsView> {
        let runtime = self.0.borrow();
        let timeouts = &runtime.config.timeouts;
        Ok(TimeoutsView {
            tcp_seconds: timeouts.tcp.as_secs(),
            tcp_fin_seconds: timeouts.tcp_fin.as_secs(),
            udp_seconds: timeouts.udp.as_secs(),
        })
    }

    async fn totals(&self) -> Answer<TotalsView> {
        let runtime = self.0.borrow();
        let mut workers = runtime.counted_by_worker();
        for (worker, before) in workers.iter_mut().zip(&runtime.totals_before) {
            *worker = worker.since(before);
        }
        Ok(TotalsView {
            workers,
            rates: runtime.estimators.all(),
        })
    }

    async fn configuration(&self) -> Answer<String> {
        Ok(config::to_toml(&self.0.borrow().config))
    }

    async fn change(&self, changes: Vec<Change>, atomic: bool) -> Answer<ChangesOutcome> {
        super::change::change(&self.0, changes, atomic).await
    }
}

impl Runtime {
    fn service_view(&self, service: &Service, listed: Option<&VirtualService>) -> ServiceView {
        let origins: HashMap<_, _> = listed
            .iter()
            .flat_map(|listed| &listed.servers)
            .map(|own| ((own.address, own.port), own.origin))
            .collect();
        let origin = |server: &Server| origins.get(&(server.address, server.port)).copied().unwrap_or_default();
        let servers = service
            .servers
            .iter()
            .map(|server| self.server_view(server, origin(server)));
        let servers: Vec<ServerView> = servers.collect();
        let totals = servers
            .iter()
            .fold(Traffic::default(), |sum, server| sum.plus(&server.totals));
        let flags = config::scheduler_flag_names(service.scheduler, service.scheduler_flags);
        ServiceView {
            name: self.compiler.name(service.slot).to_owned(),
            protocol: protocol_view(service.protocol),
            address: service.address.into(),
            port: service.port,
            fwmark: None,
            scheduler: service.scheduler.name().to_owned(),
            scheduler_flags: flags.into_iter().map(str::to_owned).collect(),
            persistence: service.persistence.map(|own| PersistenceView {
                timeout_seconds: own.timeout_s,
                prefix_length: own.prefix_length,
            }),
            persistence_engine: None,
            one_packet: service.one_packet,
            client_address: match service.client_address {
                ulvs_dataplane::service::ClientAddress::Hidden => ClientAddress::Hidden,
                ulvs_dataplane::service::ClientAddress::Toa => ClientAddress::Toa,
                ulvs_dataplane::service::ClientAddress::ProxyV2 => ClientAddress::ProxyV2,
            },
            local_addresses: service
                .local_v4
                .iter()
                .chain(&service.local_v6)
                .map(|own| (*own).into())
                .collect(),
            origin: listed.map(|own| own.origin).unwrap_or_default(),
            totals,
            rates: Some(self.estimators.service(service.slot)),
            servers,
        }
    }

    fn server_view(&self, server: &Server, origin: Origin) -> ServerView {
        let load = self.loads.get(server.slot);
        ServerView {
            address: server.address.into(),
            port: server.port,
            method: method_view(server.method),
            tunnel: (server.method == ForwardingMethod::Tunnel).then(|| tunnel_view(server.tunnel)),
            weight: server.weight,
            upper_threshold: server.upper_threshold,
            lower_threshold: server.lower_threshold,
            overloaded: load.is_overloaded(),
            active: load.active(),
            inactive: load.inactive(),
            persistent: load.templates(),
            totals: self.traffic(server.slot),
            rates: Some(self.estimators.server(server.slot)),
            origin,
            next_hop: self.next_hop_view(server),
        }
    }

    /// All workers together, since the server came or its counters were zeroed.
    fn traffic(&self, slot: ServerSlot) -> Traffic {
        let before = self.counted_before.get(&slot).copied().unwrap_or_default();
        self.counted(slot).since(&before)
    }

    /// All workers together, since the director started.
    pub(super) fn counted(&self, slot: ServerSlot) -> Traffic {
        let workers = self.workers.handles().map(|worker| traffic_of(worker, slot));
        workers.fold(Traffic::default(), |sum, traffic| sum.plus(&traffic))
    }

    fn next_hop_view(&self, server: &Server) -> Option<NextHopView> {
        let port_name = |port: PortIndex| self.ports.get(usize::from(port.0)).map(|port| port.interface.clone());
        match self.snapshot.routes.find(&server.address) {
            RouteLookup::Hop(index) => {
                let hop = self.snapshot.routes.hop(index)?;
                Some(NextHopView {
                    resolved: true,
                    address: None,
                    mac: Some(hop.mac().map(|octet| format!("{octet:02x}")).join(":")),
                    interface: port_name(hop.port),
                })
            }
            RouteLookup::Unresolved(index, address) => Some(NextHopView {
                resolved: false,
                address: Some(address.into()),
                mac: None,
                interface: port_name(self.snapshot.interfaces.get(index).port),
            }),
            RouteLookup::Nowhere => None,
        }
    }
}

/// What one worker counted for a server, since the director started.
pub(super) fn traffic_of(worker: &WorkerHandle, slot: ServerSlot) -> Traffic {
    let traffic = worker.counters.server(slot);
    Traffic {
        connections: traffic.connections.get(),
        packets_in: traffic.packets_in.get(),
        packets_out: traffic.packets_out.get(),
        bytes_in: traffic.bytes_in.get(),
        bytes_out: traffic.bytes_out.get(),
    }
}

fn worker_view(index: usize, worker: &WorkerHandle, stuck_for: Option<Duration>) -> WorkerView {
    let counters = &worker.counters;
    let loops = counters.loops.get();
    WorkerView {
        index: index as u32,
        core: worker.core.map(|core| core as u32),
        connections: counters.connections.get(),
        connection_capacity: worker.capacity as u64,
        packets_received: counters.event(Event::Received).get() + counters.event(Event::RedirectedIn).get(),
        packets_transmitted: counters.event(Event::Transmitted).get() + counters.event(Event::Generated).get(),
        packets_dropped: DropReason::ALL
            .iter()
            .map(|&reason| counters.dropped(reason).get())
            .sum(),
        busy_share: if loops == 0 {
            0.0
        } else {
            counters.busy_loops.get() as f64 / loops as f64
        },
        generation: counters.generation.get(),
        frames_free: counters.frames_free.get(),
        frames_total: counters.frames_total.get(),
        table_full: counters.dropped(DropReason::TableFull).get() + counters.event(Event::StatelessForwarded).get(),
        stuck_milliseconds: stuck_for.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
    }
}

fn connection_view(row: &ConnectionRow, worker: usize) -> ConnectionView {
    let connection = &row.connection;
    let socket = |address, port| SocketAddr::new(IpAddr::from(address), port);
    let is_full_nat = connection.method == ForwardingMethod::FullNat && !connection.is(flag::TEMPLATE);
    ConnectionView {
        protocol: protocol_view(connection.ip_protocol()),
        expires_in_seconds: u64::from(row.expires_in_s),
        state: connection.state.name().to_owned(),
        client: socket(connection.client, connection.client_port),
        virtual_address: socket(connection.virtual_address, connection.virtual_port),
        local: is_full_nat.then(|| socket(connection.local, connection.local_port)),
        server: socket(connection.server, connection.server_port),
        worker: worker as u32,
        method: method_view(connection.method),
        persistence_engine: None,
    }
}

fn protocol_view(number: u8) -> Protocol {
    match number {
        protocol::UDP => Protocol::Udp,
        protocol::SCTP => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
}

fn tunnel_view(tunnel: TunnelType) -> TunnelView {
    let (kind, port, checksum) = match tunnel {
        TunnelType::Ipip => (TunnelKind::Ipip, 0, GueChecksum::None),
        TunnelType::Gue { port, checksum } => (TunnelKind::Gue, port, checksum),
        TunnelType::Gre { checksum: true } => (TunnelKind::Gre, 0, GueChecksum::Full),
        TunnelType::Gre { checksum: false } => (TunnelKind::Gre, 0, GueChecksum::None),
    };
    TunnelView {
        kind,
        port,
        checksum: match checksum {
            GueChecksum::None => TunnelChecksum::None,
            GueChecksum::Full => TunnelChecksum::Full,
            GueChecksum::Remote => TunnelChecksum::Remote,
        },
    }
}

fn method_view(method: ForwardingMethod) -> Method {
    match method {
        ForwardingMethod::Nat => Method::Nat,
        ForwardingMethod::DirectRouting => Method::Dr,
        ForwardingMethod::Tunnel => Method::Tun,
        ForwardingMethod::FullNat => Method::Fullnat,
    }
}
