//! A director that has two services and a few thousand connections; or one that starts with a configuration and takes changes.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::thread::JoinHandle;

use tempfile::TempDir;
use tokio::sync::oneshot;
use ulvs_control::api::changes::{Change, ChangesOutcome};
use ulvs_control::api::protocol::{ConnectionFilter, ConnectionsPage, Cursor, ErrorCode, ServiceSelector};
use ulvs_control::api::views::*;
use ulvs_control::api::{Answer, Backend, Refusal, Server};
use ulvs_control::change::apply;
use ulvs_control::config::{self, Config, RealServer, VirtualService};
use ulvs_dataplane::service::{ForwardingMethod, GueChecksum, TunnelType};

/// A director's API on a thread of its own, until it is dropped.
pub struct Running {
    pub directory: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub fn start() -> Running {
        Running::start_for_group(None)
    }

    /// One that takes changes.
    pub fn start_with(config: Config) -> Running {
        Running::start_director(None, move || Changing(RefCell::new(config)))
    }

    pub fn start_for_group(group: Option<String>) -> Running {
        Running::start_director(group, || Director)
    }

    fn start_director<B: Backend>(group: Option<String>, director: impl FnOnce() -> B + Send + 'static) -> Running {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("ulvs.sock");
        let (stop, stopped) = oneshot::channel::<()>();
        let (bound, is_bound) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let server = Server::bind(&path, group.as_deref()).await.unwrap();
                bound.send(()).unwrap();
                let shutdown = async {
                    // Dropping the other end stops the server too.
                    let _ = stopped.await;
                };
                server.run(&director(), shutdown).await;
            });
        });
        is_bound.recv().unwrap();
        Running {
            directory,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("ulvs.sock")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(
            std::thread::panicking() || matches!(ended, Some(Ok(()))),
            "the director lives until it is stopped"
        );
    }
}

/// Connections of [`Director`].
pub const CONNECTIONS: u64 = 3000;

struct Director;

fn service(name: &str, protocol: Protocol, port: u16, servers: Vec<ServerView>) -> ServiceView {
    ServiceView {
        name: name.into(),
        protocol,
        address: IpAddr::from([192, 0, 2, 1]),
        port,
        fwmark: None,
        scheduler: "wlc".into(),
        scheduler_flags: Vec::new(),
        persistence: None,
        persistence_engine: None,
        one_packet: false,
        client_address: ClientAddress::Toa,
        local_addresses: Vec::new(),
        origin: Origin::File,
        totals: Traffic {
            connections: 3,
            packets_in: 30,
            packets_out: 20,
            bytes_in: 3000,
            bytes_out: 2000,
        },
        rates: None,
        servers,
    }
}

fn server(last: u8, method: Method) -> ServerView {
    ServerView {
        address: IpAddr::from([10, 0, 0, last]),
        port: 80,
        method,
        tunnel: None,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
        overloaded: false,
        active: 1,
        inactive: 2,
        persistent: 0,
        totals: Traffic {
            connections: 3,
            packets_in: 30,
            packets_out: 20,
            bytes_in: 3000,
            bytes_out: 2000,
        },
        rates: None,
        origin: Origin::File,
        next_hop: Some(NextHopView {
            resolved: true,
            address: None,
            mac: Some("02:00:00:00:00:07".into()),
            interface: Some("eth1".into()),
        }),
    }
}

fn connection(number: u64) -> ConnectionView {
    let client = Ipv4Addr::from_bits(0xc633_6400 + (number % 250) as u32);
    ConnectionView {
        protocol: if number % 3 == 0 { Protocol::Udp } else { Protocol::Tcp },
        expires_in_seconds: 900,
        state: if number % 3 == 0 {
            "UDP".into()
        } else {
            "ESTABLISHED".into()
        },
        client: SocketAddr::new(client.into(), 1024 + number as u16),
        virtual_address: if number % 3 == 0 {
            "192.0.2.1:53"
        } else {
            "192.0.2.1:80"
        }
        .parse()
        .unwrap(),
        local: Some("198.18.0.1:1025".parse().unwrap()),
        server: "10.0.0.1:80".parse().unwrap(),
        worker: (number % 2) as u32,
        method: Method::Fullnat,
        persistence_engine: None,
    }
}

impl Backend for Director {
    async fn director(&self) -> Answer<DirectorView> {
        Ok(DirectorView {
            version: "0.1.0".into(),
            pid: 77,
            generation: 5,
            uptime_seconds: 3 * 86_400 + 3_723,
            connection_table_size: 65_536,
            given_up: None,
            ports: vec![PortView {
                name: "eth0".into(),
                mode: "af_xdp, copy".into(),
                mac: None,
                queues: 2,
            }],
        })
    }

    async fn services(&self, selector: Option<&ServiceSelector>) -> Answer<Vec<ServiceView>> {
        let web = service(
            "web",
            Protocol::Tcp,
            80,
            vec![server(2, Method::Dr), server(1, Method::Fullnat)],
        );
        let mut services = vec![web, service("dns", Protocol::Udp, 53, Vec::new())];
        services.retain(|service| selector.is_none_or(|selector| selector.matches(service)));
        Ok(services)
    }

    async fn connections(
        &self,
        filter: &ConnectionFilter,
        cursor: Option<Cursor>,
        limit: u32,
    ) -> Answer<ConnectionsPage> {
        let start = cursor.map_or(0, |cursor| cursor.position);
        let end = start.saturating_add(u64::from(limit)).min(CONNECTIONS);
        let next = (end < CONNECTIONS).then_some(Cursor { part: 0, position: end });
        let connections = (start..end)
            .map(connection)
            .filter(|connection| filter.matches(connection))
            .collect();
        Ok(ConnectionsPage { connections, next })
    }

    async fn counters(&self) -> Answer<Vec<CounterView>> {
        let counter = |name: &str, help: &str, values| CounterView {
            name: name.into(),
            help: help.into(),
            values,
        };
        Ok(vec![
            counter("packets_received", "Packets received.", vec![10, 20]),
            counter("drop_table_full", "Dropped: the table was full.", vec![0, 0]),
        ])
    }

    async fn workers(&self) -> Answer<Vec<WorkerView>> {
        let worker = |index| WorkerView {
            index,
            core: Some(index + 2),
            connections: 1500,
            connection_capacity: 65_536,
            packets_received: 10,
            packets_transmitted: 9,
            packets_dropped: 1,
            busy_share: 0.25,
            generation: 5,
            frames_free: 4000,
            frames_total: 4096,
            table_full: 0,
            stuck_milliseconds: (index == 1).then_some(2345),
        };
        Ok(vec![worker(0), worker(1)])
    }

    async fn timeouts(&self) -> Answer<TimeoutsView> {
        Ok(TimeoutsView {
            tcp_seconds: 900,
            tcp_fin_seconds: 120,
            udp_seconds: 300,
        })
    }

    async fn totals(&self) -> Answer<TotalsView> {
        Ok(TotalsView::default())
    }

    async fn configuration(&self) -> Answer<String> {
        Err(not_here())
    }

    async fn change(&self, _: Vec<Change>, _: bool) -> Answer<ChangesOutcome> {
        Err(not_here())
    }
}

fn not_here() -> Refusal {
    Refusal::new(ErrorCode::Unavailable, "this director only shows itself")
}

/// A director of a configuration, without workers: what it is changed to is in force at once.
struct Changing(RefCell<Config>);

impl Changing {
    fn view(&self, listed: &VirtualService) -> ServiceView {
        let config = self.0.borrow();
        let pool = listed.local_pool.as_deref().and_then(|name| config.local_pool(name));
        let flags = config::scheduler_flag_names(listed.scheduler, listed.scheduler_flags);
        let protocol = match listed.protocol {
            config::Protocol::Tcp => Protocol::Tcp,
            config::Protocol::Udp => Protocol::Udp,
            config::Protocol::Sctp => Protocol::Sctp,
        };
        ServiceView {
            address: listed.address.into(),
            scheduler: listed.scheduler.name().into(),
            scheduler_flags: flags.into_iter().map(str::to_owned).collect(),
            one_packet: listed.one_packet,
            persistence: listed.persistence.map(|own| PersistenceView {
                timeout_seconds: own.timeout_s,
                prefix_length: own.prefix_length,
            }),
            local_addresses: pool
                .iter()
                .flat_map(|pool| &pool.addresses)
                .map(|own| (*own).into())
                .collect(),
            origin: listed.origin,
            totals: Traffic::default(),
            rates: Some(Rates::default()),
            ..service(
                &listed.name,
                protocol,
                listed.port,
                listed.servers.iter().rev().map(changed_server).collect(),
            )
        }
    }
}

fn changed_server(listed: &RealServer) -> ServerView {
    let method = match listed.method {
        ForwardingMethod::Nat => Method::Nat,
        ForwardingMethod::DirectRouting => Method::Dr,
        ForwardingMethod::Tunnel => Method::Tun,
        ForwardingMethod::FullNat => Method::Fullnat,
    };
    ServerView {
        address: listed.address.into(),
        port: listed.port,
        tunnel: (method == Method::Tun).then(|| tunnel_view(listed.tunnel)),
        weight: listed.weight,
        upper_threshold: listed.upper_threshold,
        lower_threshold: listed.lower_threshold,
        active: 0,
        inactive: 0,
        origin: listed.origin,
        totals: Traffic::default(),
        ..server(0, method)
    }
}

fn tunnel_view(tunnel: TunnelType) -> TunnelView {
    let of = |kind, port, checksum| TunnelView { kind, port, checksum };
    match tunnel {
        TunnelType::Ipip => of(TunnelKind::Ipip, 0, TunnelChecksum::None),
        TunnelType::Gue { port, checksum } => of(
            TunnelKind::Gue,
            port,
            match checksum {
                GueChecksum::None => TunnelChecksum::None,
                GueChecksum::Full => TunnelChecksum::Full,
                GueChecksum::Remote => TunnelChecksum::Remote,
            },
        ),
        TunnelType::Gre { checksum: true } => of(TunnelKind::Gre, 0, TunnelChecksum::Full),
        TunnelType::Gre { checksum: false } => of(TunnelKind::Gre, 0, TunnelChecksum::None),
    }
}

impl Backend for Changing {
    async fn director(&self) -> Answer<DirectorView> {
        Director.director().await
    }

    async fn services(&self, selector: Option<&ServiceSelector>) -> Answer<Vec<ServiceView>> {
        let listed = self.0.borrow().services.clone();
        let mut services: Vec<_> = listed.iter().map(|listed| self.view(listed)).collect();
        services.retain(|service| selector.is_none_or(|selector| selector.matches(service)));
        Ok(services)
    }

    async fn connections(&self, _: &ConnectionFilter, _: Option<Cursor>, _: u32) -> Answer<ConnectionsPage> {
        Ok(ConnectionsPage::default())
    }

    async fn counters(&self) -> Answer<Vec<CounterView>> {
        Ok(Vec::new())
    }

    async fn workers(&self) -> Answer<Vec<WorkerView>> {
        Ok(Vec::new())
    }

    async fn timeouts(&self) -> Answer<TimeoutsView> {
        let timeouts = self.0.borrow().timeouts;
        Ok(TimeoutsView {
            tcp_seconds: timeouts.tcp.as_secs(),
            tcp_fin_seconds: timeouts.tcp_fin.as_secs(),
            udp_seconds: timeouts.udp.as_secs(),
        })
    }

    async fn totals(&self) -> Answer<TotalsView> {
        Ok(TotalsView::default())
    }

    async fn configuration(&self) -> Answer<String> {
        Ok(config::to_toml(&self.0.borrow()))
    }

    async fn change(&self, changes: Vec<Change>, atomic: bool) -> Answer<ChangesOutcome> {
        let applied = apply(&self.0.borrow(), &changes, atomic);
        if let Some(config) = applied.config {
            *self.0.borrow_mut() = config;
        }
        Ok(ChangesOutcome {
            generation: 1,
            failures: applied.failures,
        })
    }
}
