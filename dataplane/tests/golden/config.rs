//! What a case says of the director: its network (shared files in `networks/`), and services in the spelling of the director's own configuration file.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use ulvs_dataplane::address::Address;
use ulvs_dataplane::conn::timeouts::Timeouts;
use ulvs_dataplane::io::PortIndex;
use ulvs_dataplane::kernel::KernelSide;
use ulvs_dataplane::scheduler::{SchedulerKind, compile_table};
use ulvs_dataplane::service::{
    ClientAddress, ForwardingMethod, GueChecksum, Ownership, Persistence, SchedulerFlags, Server, ServerSlot, Service,
    ServiceSlot, TunnelType, protocol,
};
use ulvs_dataplane::snapshot::{
    HopIndex, Interface, InterfaceIndex, Interfaces, NextHop, OwnedAddress, Routes, Services, Snapshot, Via,
};
use ulvs_dataplane::tunables::Tunables;

use crate::words::Names;

/// `case.toml`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What the case shows, in words.
    pub description: String,
    /// A file of `networks/`.
    network: String,
    /// Workers of the director.
    #[serde(default = "one")]
    pub workers: u8,
    /// Size of the connection table of each worker.
    #[serde(default = "thousand")]
    pub connections: usize,
    /// Frames in the pool of each worker.
    #[serde(default = "five_hundred")]
    pub frames: usize,
    /// Whether the director has a configuration from the start.
    #[serde(default = "yes")]
    pub is_configured: bool,
    /// Largest packet by interface; 1500 where nothing is said.
    #[serde(default)]
    mtu: BTreeMap<String, u16>,
    /// Ports (by one of their interfaces) whose frames may carry unfinished checksums.
    #[serde(default)]
    partial_checksums: Vec<String>,
    /// Whether the ports have twins: all frames come to the workers, and the kernel holds the addresses of the interfaces.
    #[serde(default)]
    twin: bool,
    /// Virtual or local addresses that the kernel holds too, where ports have twins.
    #[serde(default)]
    shared: Vec<IpAddr>,
    /// Neighbours of the network that are not resolved at the start.
    #[serde(default)]
    unresolved: Vec<String>,
    /// MACs that are nobody's neighbours.
    #[serde(default)]
    stations: BTreeMap<String, String>,
    /// Whether the director has given its virtual addresses up.
    #[serde(default)]
    given_up: bool,
    /// Settings; what is not named is as in the kernel.
    #[serde(default)]
    ipvs: Ipvs,
    #[serde(default)]
    local_pool: Vec<LocalPool>,
    #[serde(default)]
    service: Vec<ServiceConfig>,
    /// Other configurations, taken over with `! NAME`.
    #[serde(default)]
    change: BTreeMap<String, Change>,
}

fn one() -> u8 {
    1
}

fn thousand() -> usize {
    1000
}

fn five_hundred() -> usize {
    500
}

fn yes() -> bool {
    true
}

/// What is different; what is not named stays.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    service: Option<Vec<ServiceConfig>>,
    unresolved: Option<Vec<String>>,
    route: Option<Vec<Route>>,
    given_up: Option<bool>,
    ipvs: Option<Ipvs>,
}

/// `[ipvs]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ipvs {
    conn_reuse_mode: Option<u8>,
    #[serde(default)]
    expire_nodest_conn: u8,
    #[serde(default)]
    sloppy_tcp: u8,
    #[serde(default)]
    sloppy_sctp: u8,
    #[serde(default)]
    schedule_icmp: u8,
    #[serde(default)]
    nat_icmp_send: u8,
    pmtu_disc: Option<u8>,
    #[serde(default)]
    secure_tcp: u8,
}

impl Ipvs {
    fn tunables(&self) -> Tunables {
        let kernel = Tunables::default();
        Tunables {
            conn_reuse_mode: self.conn_reuse_mode.unwrap_or(kernel.conn_reuse_mode),
            expire_nodest_conn: self.expire_nodest_conn != 0,
            sloppy_tcp: self.sloppy_tcp != 0,
            sloppy_sctp: self.sloppy_sctp != 0,
            schedule_icmp: self.schedule_icmp != 0,
            nat_icmp_send: self.nat_icmp_send != 0,
            pmtu_disc: self.pmtu_disc != Some(0),
            secure_tcp: self.secure_tcp,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LocalPool {
    name: String,
    addresses: Vec<IpAddr>,
    ports: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceConfig {
    protocol: String,
    address: SocketAddr,
    #[serde(default = "rr")]
    scheduler: String,
    method: String,
    local_pool: Option<String>,
    #[serde(default)]
    client_address: String,
    #[serde(default)]
    one_packet: bool,
    persistence_timeout: Option<u32>,
    #[serde(default = "whole")]
    persistence_prefix_v4: u8,
    #[serde(default = "whole")]
    persistence_prefix_v6: u8,
    #[serde(default)]
    persistence_keeps_quiesced: bool,
    #[serde(default)]
    server: Vec<ServerConfig>,
}

fn whole() -> u8 {
    128
}

fn rr() -> String {
    "rr".to_owned()
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerConfig {
    address: SocketAddr,
    weight: Option<u32>,
    method: Option<String>,
    tunnel: Option<String>,
    #[serde(default)]
    tunnel_checksum: bool,
    #[serde(default)]
    upper_threshold: u32,
    #[serde(default)]
    lower_threshold: u32,
}

/// A file of `networks/`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Network {
    interface: Vec<InterfaceConfig>,
    #[serde(default)]
    route: Vec<Route>,
    #[serde(default)]
    neighbour: Vec<Neighbour>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InterfaceConfig {
    name: String,
    port: u8,
    vlan: Option<u16>,
    mac: String,
    addresses: Vec<IpAddr>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Route {
    to: String,
    via: Option<IpAddr>,
    interface: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Neighbour {
    name: String,
    addresses: Vec<IpAddr>,
    mac: String,
    interface: String,
}

/// Makes snapshots of a case, as the director's control side would.
pub struct Director {
    case: Case,
    network: Network,
    generation: u64,
    service_slots: HashMap<(u8, SocketAddr), ServiceSlot>,
    ownerships: HashMap<ServiceSlot, Ownership>,
    server_slots: HashMap<(ServiceSlot, SocketAddr), ServerSlot>,
    last_weights: HashMap<ServerSlot, u32>,
}

/// Names that never change during a case.
impl Director {
    /// Reads `case.toml` in `folder`, and its network beside it.
    pub fn read(folder: &Path) -> Result<Director, String> {
        let case: Case = read_toml(&folder.join("case.toml"))?;
        let network = folder.with_file_name("networks").join(format!("{}.toml", case.network));
        Ok(Director {
            network: read_toml(&network)?,
            case,
            generation: 0,
            service_slots: HashMap::new(),
            ownerships: HashMap::new(),
            server_slots: HashMap::new(),
            last_weights: HashMap::new(),
        })
    }

    /// The case.
    pub fn case(&self) -> &Case {
        &self.case
    }

    /// All stations by name: our own interfaces, neighbours, others.
    pub fn names(&self) -> Result<Names, String> {
        let mut names = Names::default();
        names.add("broadcast", [0xff; 6]);
        let own = self
            .network
            .interface
            .iter()
            .map(|interface| (&interface.name, &interface.mac));
        let neighbours = self
            .network
            .neighbour
            .iter()
            .map(|neighbour| (&neighbour.name, &neighbour.mac));
        for (name, mac) in own.chain(neighbours).chain(&self.case.stations) {
            let mac = Names::default().mac(mac)?;
            names.add(name, mac);
        }
        Ok(names)
    }

    /// How many ports there are.
    pub fn port_count(&self) -> usize {
        self.network
            .interface
            .iter()
            .map(|interface| usize::from(interface.port) + 1)
            .max()
            .unwrap_or(0)
    }

    /// The port that `name` (an interface on it) lies on.
    pub fn port(&self, name: &str) -> Result<PortIndex, String> {
        let interface = self.network.interface.iter().find(|interface| interface.name == name);
        interface
            .map(|interface| PortIndex(interface.port))
            .ok_or_else(|| format!("`{name}` is no interface"))
    }

    /// The name of a port: that of its first interface.
    pub fn port_name(&self, port: usize) -> &str {
        let interface = self
            .network
            .interface
            .iter()
            .find(|interface| usize::from(interface.port) == port);
        interface.map_or("?", |interface| &interface.name)
    }

    /// The name of an interface.
    pub fn interface_name(&self, index: InterfaceIndex) -> &str {
        &self.network.interface[usize::from(index.0)].name
    }

    /// Servers by slot, as `PROTOCOL ADDRESS:PORT`.
    pub fn servers(&self) -> Vec<(ServerSlot, String)> {
        let mut all: Vec<_> = self
            .server_slots
            .iter()
            .map(|((_, address), slot)| (*slot, address.to_string()))
            .collect();
        all.sort();
        all
    }

    /// Takes `[change.NAME]` over.
    pub fn change(&mut self, name: &str) -> Result<(), String> {
        let change = self
            .case
            .change
            .get(name)
            .cloned()
            .ok_or_else(|| format!("no [change.{name}]"))?;
        if let Some(services) = change.service {
            self.case.service = services;
        }
        if let Some(given_up) = change.given_up {
            self.case.given_up = given_up;
        }
        if let Some(ipvs) = change.ipvs {
            self.case.ipvs = ipvs;
        }
        if let Some(unresolved) = change.unresolved {
            self.case.unresolved = unresolved;
        }
        if let Some(routes) = change.route {
            self.network.route = routes;
        }
        Ok(())
    }

    /// The next snapshot.
    pub fn compile(&mut self) -> Result<Arc<Snapshot>, String> {
        self.generation += 1;
        let services = self.case.service.clone();
        let services = services.iter().map(|service| self.service(service).map(Arc::new));
        let services: Vec<_> = services.collect::<Result<_, _>>()?;
        let interfaces = self.interfaces()?;
        let own = self.network.interface.iter().flat_map(|own| &own.addresses);
        let addresses = own.chain(&self.case.shared).map(|address| (*address).into());
        let side = || Arc::new(KernelSide::new(addresses, services.iter().map(AsRef::as_ref)));
        let kernel = self.case.twin.then(side);
        Ok(Arc::new(Snapshot {
            generation: self.generation,
            routes: Arc::new(self.routes(&interfaces)?),
            interfaces: Arc::new(self.owned(interfaces, &services)?),
            services: Arc::new(Services::new(services)),
            timeouts: Timeouts::default(),
            tunables: self.case.ipvs.tunables(),
            has_given_up: self.case.given_up,
            kernel,
        }))
    }

    fn interface(&self, name: &str) -> Result<InterfaceIndex, String> {
        let at = self
            .network
            .interface
            .iter()
            .position(|interface| interface.name == name);
        at.map(|at| InterfaceIndex(at as u16))
            .ok_or_else(|| format!("`{name}` is no interface"))
    }

    fn interfaces(&self) -> Result<Vec<Interface>, String> {
        let made = self.network.interface.iter().map(|config| {
            let address = |v4: bool| {
                config
                    .addresses
                    .iter()
                    .find(|own| own.is_ipv4() == v4)
                    .map(|own| (*own).into())
            };
            Ok(Interface {
                port: PortIndex(config.port),
                vlan: config.vlan,
                mac: Names::default().mac(&config.mac)?,
                mtu: self.case.mtu.get(&config.name).copied().unwrap_or(1500),
                address_v4: address(true),
                address_v6: address(false),
            })
        });
        made.collect()
    }

    fn owned(&self, interfaces: Vec<Interface>, services: &[Arc<Service>]) -> Result<Interfaces, String> {
        let mut partial = vec![false; self.port_count()];
        for name in &self.case.partial_checksums {
            partial[usize::from(self.port(name)?.0)] = true;
        }
        let local = self.case.local_pool.iter().flat_map(|pool| &pool.addresses);
        let local = local.map(|address| ((*address).into(), OwnedAddress::Local));
        let own = local.chain(services.iter().map(|service| (service.address, OwnedAddress::Virtual)));
        Ok(Interfaces::new(interfaces, own, partial))
    }

    fn routes(&self, interfaces: &[Interface]) -> Result<Routes, String> {
        let mut routes = Routes::new(self.generation as u32);
        let mut hops = 0;
        for neighbour in &self.network.neighbour {
            if self.case.unresolved.contains(&neighbour.name) {
                continue;
            }
            let index = self.interface(&neighbour.interface)?;
            let interface = &interfaces[usize::from(index.0)];
            let hop = NextHop::new(index, interface, Names::default().mac(&neighbour.mac)?, interface.mtu);
            for address in &neighbour.addresses {
                routes.set_neighbour(HopIndex(hops), index, (*address).into(), hop);
                hops += 1;
            }
        }
        for route in &self.network.route {
            let bad = || format!("`{}` is no prefix", route.to);
            let (prefix, length) = route.to.split_once('/').ok_or_else(bad)?;
            let (prefix, length): (IpAddr, u8) =
                (prefix.parse().map_err(|_| bad())?, length.parse().map_err(|_| bad())?);
            let via = match (route.via, route.interface.as_str()) {
                (_, "nowhere") => Via::Nowhere,
                (None, name) => Via::OnLink(self.interface(name)?),
                (Some(gateway), name) => Via::Gateway(self.interface(name)?, gateway.into()),
            };
            routes.add_prefix(prefix.into(), length, via);
        }
        Ok(routes)
    }

    fn service(&mut self, config: &ServiceConfig) -> Result<Service, String> {
        let number = match config.protocol.as_str() {
            "tcp" => protocol::TCP,
            "udp" => protocol::UDP,
            "sctp" => protocol::SCTP,
            other => return Err(format!("`{other}` is no protocol")),
        };
        let free = ServiceSlot(self.service_slots.len() as u32);
        let slot = *self.service_slots.entry((number, config.address)).or_insert(free);
        let pool = match &config.local_pool {
            Some(name) => self.case.local_pool.iter().find(|pool| pool.name == *name).cloned(),
            None => None,
        };
        let addresses = pool.iter().flat_map(|pool| &pool.addresses);
        let (local_v4, local_v6) = addresses.map(|own| Address::from(*own)).partition(Address::is_v4);
        let ports = pool
            .as_ref()
            .and_then(|pool| pool.ports.as_deref())
            .unwrap_or("1025-65535");
        let ports = ports
            .split_once('-')
            .and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        // The kernel puts each new server in front.
        let servers = config
            .server
            .iter()
            .rev()
            .map(|server| self.server(slot, config, server));
        let servers: Vec<Server> = servers.collect::<Result<_, _>>()?;
        let persistence = config.persistence_timeout.map(|timeout_s| Persistence {
            timeout_s,
            prefix_length: match config.address.is_ipv4() {
                true => config.persistence_prefix_v4.min(32),
                false => config.persistence_prefix_v6,
            },
            keeps_quiesced: config.persistence_keeps_quiesced,
        });
        let ownership = Ownership::after(self.ownerships.get(&slot).copied(), persistence.as_ref(), &servers);
        self.ownerships.insert(slot, ownership);
        let scheduler: SchedulerKind = config
            .scheduler
            .parse()
            .map_err(|_| format!("`{}` is no scheduler", config.scheduler))?;
        Ok(Service {
            slot,
            revision: self.generation,
            protocol: number,
            address: config.address.ip().into(),
            port: config.address.port(),
            scheduler,
            scheduler_flags: SchedulerFlags::default(),
            scheduler_table: compile_table(scheduler, &servers).map_err(|_| "too many servers")?,
            servers,
            client_address: match config.client_address.as_str() {
                "" | "hidden" => ClientAddress::Hidden,
                "toa" => ClientAddress::Toa,
                "proxy_v2" => ClientAddress::ProxyV2,
                other => return Err(format!("`{other}` is no way to tell the client's address")),
            },
            local_v4,
            local_v6,
            local_ports: ports.ok_or("bad range of ports")?,
            one_packet: config.one_packet,
            persistence,
            ownership,
        })
    }

    fn server(&mut self, service: ServiceSlot, of: &ServiceConfig, config: &ServerConfig) -> Result<Server, String> {
        let free = ServerSlot(self.server_slots.len() as u32);
        let slot = *self.server_slots.entry((service, config.address)).or_insert(free);
        let weight = config.weight.unwrap_or(1);
        let last = self.last_weights.entry(slot).or_insert(weight);
        if weight != 0 {
            *last = weight;
        }
        Ok(Server {
            slot,
            address: config.address.ip().into(),
            port: config.address.port(),
            weight,
            last_weight: *last,
            method: match config.method.as_ref().unwrap_or(&of.method).as_str() {
                "nat" => ForwardingMethod::Nat,
                "dr" => ForwardingMethod::DirectRouting,
                "tunnel" => ForwardingMethod::Tunnel,
                "fullnat" => ForwardingMethod::FullNat,
                other => return Err(format!("`{other}` is no method")),
            },
            tunnel: match (config.tunnel.as_deref(), config.tunnel_checksum) {
                (None | Some("ipip"), _) => TunnelType::Ipip,
                // The port by which the reader of frames knows it.
                (Some("gue"), checksum) => TunnelType::Gue {
                    port: 6080,
                    checksum: if checksum { GueChecksum::Full } else { GueChecksum::None },
                },
                (Some("gre"), checksum) => TunnelType::Gre { checksum },
                (Some(other), _) => return Err(format!("`{other}` is no tunnel")),
            },
            upper_threshold: config.upper_threshold,
            lower_threshold: config.lower_threshold,
        })
    }
}

fn read_toml<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}
