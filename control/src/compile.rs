//! From the configuration to what the dataplane uses: services and servers get their places ("slots") and keep them for as long as they exist.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ulvs_dataplane::address::Address;
use ulvs_dataplane::conn::tcp_state::TcpState;
use ulvs_dataplane::conn::timeouts::Timeouts;
use ulvs_dataplane::scheduler::{TooManyServers, compile_table};
use ulvs_dataplane::service::{
    ForwardingMethod, Loads, Ownership, Server, ServerSlot, Service, ServiceSlot, SharedService,
};
use ulvs_dataplane::snapshot::OwnedAddress;

use crate::config::{self, Config, LocalPool, RealServer, VirtualService};

/// What tells virtual services apart: IP protocol number, address, port.
type ServiceIdentity = (u8, Address, u16);
/// What tells the servers of a service apart.
type ServerIdentity = (ServiceSlot, Address, u16);

/// Remembers which slot belongs to whom, from one configuration to the next.
#[derive(Debug)]
pub struct Compiler {
    loads: Arc<Loads>,
    services: Slots<ServiceIdentity>,
    servers: Slots<ServerIdentity>,
    compiled: BTreeMap<ServiceSlot, SharedService>,
    /// The name of each service in the configuration, for people.
    names: BTreeMap<ServiceSlot, String>,
}

/// Local pools by name.
type Pools<'a> = HashMap<&'a str, &'a LocalPool>;

/// Services that are not in force yet.
#[derive(Debug, Default)]
pub struct Compiled {
    services: BTreeMap<ServiceSlot, SharedService>,
    names: BTreeMap<ServiceSlot, String>,
}

impl Compiled {
    /// All of them, by slot.
    pub fn services(&self) -> Vec<SharedService> {
        self.services.values().cloned().collect()
    }
}

/// Why a valid configuration cannot be put to use.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// A scheduler's limit.
    #[error("service \"{service}\": {source}")]
    TooManyServers {
        /// Its name.
        service: String,
        /// The limit.
        source: TooManyServers,
    },
    /// No slot is left.
    #[error(
        "there is no room for another {what}: {limit} are in use or still named by connections; raise {key} in [director] and restart"
    )]
    NoSlot {
        /// "service" or "server".
        what: &'static str,
        /// How many fit.
        limit: usize,
        /// The key in the configuration file.
        key: &'static str,
    },
}

/// Numbered places, each kept for as long as its owner exists.
#[derive(Debug)]
struct Slots<K> {
    by_owner: BTreeMap<K, u32>,
    released: Vec<u32>,
    next: u32,
    limit: usize,
}

impl<K: Ord> Slots<K> {
    fn new(limit: usize) -> Slots<K> {
        Slots {
            by_owner: BTreeMap::new(),
            released: Vec::new(),
            next: 0,
            limit,
        }
    }

    /// The owner's slot, its old one where it had one; a released slot is used again only if `is_free` says so.
    fn claim(&mut self, owner: K, is_free: impl Fn(u32) -> bool) -> Option<u32> {
        if let Some(&slot) = self.by_owner.get(&owner) {
            return Some(slot);
        }
        let reused = self
            .released
            .iter()
            .position(|&slot| is_free(slot))
            .map(|at| self.released.swap_remove(at));
        let slot = match reused {
            Some(slot) => slot,
            None if (self.next as usize) < self.limit => {
                self.next += 1;
                self.next - 1
            }
            None => return None,
        };
        self.by_owner.insert(owner, slot);
        Some(slot)
    }

    fn release_others(&mut self, stays: impl Fn(u32) -> bool) {
        let released = &mut self.released;
        self.by_owner.retain(|_, slot| {
            let keep = stays(*slot);
            if !keep {
                released.push(*slot);
            }
            keep
        });
    }
}

impl Compiler {
    /// With room for the configured numbers of services and servers.
    pub fn new(director: &config::Director, loads: Arc<Loads>) -> Compiler {
        Compiler {
            loads,
            services: Slots::new(director.service_limit),
            servers: Slots::new(director.server_limit),
            compiled: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }

    /// Compiles all services and puts them in force: [`Compiler::prepare`] and [`Compiler::commit`].
    ///
    /// # Errors
    /// A sentence; the services compiled before stay in force.
    pub fn compile(&mut self, config: &Config) -> Result<Vec<SharedService>, CompileError> {
        let compiled = self.prepare(config)?;
        let services = compiled.services();
        self.commit(compiled);
        Ok(services)
    }

    /// Compiles all services. What did not change is the same object as the one in force. To be followed by [`Compiler::commit`] or
    /// [`Compiler::discard`].
    ///
    /// # Errors
    /// A sentence; the services compiled before stay in force.
    pub fn prepare(&mut self, config: &Config) -> Result<Compiled, CompileError> {
        let mut compiled = Compiled::default();
        let pools: Pools = config
            .local_pools
            .iter()
            .map(|pool| (pool.name.as_str(), pool))
            .collect();
        for service in &config.services {
            match self.service(&pools, service) {
                Ok(shared) => {
                    compiled.names.insert(shared.slot, service.name.clone());
                    compiled.services.insert(shared.slot, shared);
                }
                Err(error) => {
                    self.discard();
                    return Err(error);
                }
            }
        }
        Ok(compiled)
    }

    /// Puts what was prepared in force.
    pub fn commit(&mut self, compiled: Compiled) {
        for (slot, service) in &compiled.services {
            let Some(before) = self.compiled.get(slot).filter(|before| !Arc::ptr_eq(before, service)) else {
                continue;
            };
            let new: HashMap<ServerSlot, &Server> = service.servers.iter().map(|new| (new.slot, new)).collect();
            for old in &before.servers {
                if let Some(new) = new.get(&old.slot) {
                    let load = self.loads.get(old.slot);
                    load.upper_threshold_edited(old.upper_threshold, new.upper_threshold);
                }
            }
        }
        self.compiled = compiled.services;
        self.names = compiled.names;
        self.release_unused();
    }

    /// Forgets what was prepared.
    pub fn discard(&mut self) {
        self.release_unused();
    }

    fn release_unused(&mut self) {
        let compiled = &self.compiled;
        self.services
            .release_others(|slot| compiled.contains_key(&ServiceSlot(slot)));
        let servers = compiled.values().flat_map(|service| &service.servers);
        let used: BTreeSet<u32> = servers.map(|server| server.slot.0).collect();
        self.servers.release_others(|slot| used.contains(&slot));
    }

    /// All server slots that were ever given out.
    pub fn server_slots(&self) -> impl Iterator<Item = ServerSlot> + Clone + use<> {
        (0..self.servers.next).map(ServerSlot)
    }

    /// The name of a service in the configuration.
    pub fn name(&self, slot: ServiceSlot) -> &str {
        self.names.get(&slot).map_or("", String::as_str)
    }

    fn service(&mut self, pools: &Pools, service: &VirtualService) -> Result<SharedService, CompileError> {
        let identity = (service.protocol.number(), service.address, service.port);
        let slot = self.services.claim(identity, |_| true).ok_or(CompileError::NoSlot {
            what: "service",
            limit: self.services.limit,
            key: "service_limit",
        })?;
        let slot = ServiceSlot(slot);
        let before = self.compiled.get(&slot).cloned();
        let old = before.iter().flat_map(|before| &before.servers);
        let old: HashMap<ServerSlot, &Server> = old.map(|server| (server.slot, server)).collect();
        let mut servers = Vec::with_capacity(service.servers.len());
        for server in &service.servers {
            servers.push(self.server(slot, server, &old)?);
        }
        // The kernel links a new server at the head of its list, and schedulers walk the list from there.
        servers.reverse();
        let scheduler_table =
            compile_table(service.scheduler, &servers).map_err(|source| CompileError::TooManyServers {
                service: service.name.clone(),
                source,
            })?;
        let pool = service.local_pool.as_deref().and_then(|name| pools.get(name));
        // A service without servers has no connections that could be somewhere else.
        let earlier = before.as_ref().filter(|before| !before.servers.is_empty());
        let ownership = Ownership::after(
            earlier.map(|before| before.ownership),
            service.persistence.as_ref(),
            &servers,
        );
        let of_family = |v4: bool| -> Vec<Address> {
            pool.iter()
                .flat_map(|pool| pool.addresses.iter().copied().filter(|own| own.is_v4() == v4))
                .collect()
        };
        let mut new = Service {
            slot,
            revision: before.as_ref().map_or(0, |before| before.revision),
            protocol: service.protocol.number(),
            address: service.address,
            port: service.port,
            scheduler: service.scheduler,
            scheduler_flags: service.scheduler_flags,
            scheduler_table,
            servers,
            client_address: service.client_address,
            local_v4: of_family(true),
            local_v6: of_family(false),
            local_ports: pool.map_or((1, 0), |pool| pool.ports),
            one_packet: service.one_packet,
            persistence: service.persistence,
            ownership,
        };
        match before {
            Some(before) if is_equal(&before, &new) => Ok(before),
            _ => {
                new.revision += 1;
                Ok(Arc::new(new))
            }
        }
    }

    fn server(
        &mut self,
        service: ServiceSlot,
        server: &RealServer,
        before: &HashMap<ServerSlot, &Server>,
    ) -> Result<Server, CompileError> {
        let loads = Arc::clone(&self.loads);
        let is_free = |slot: u32| loads.get(ServerSlot(slot)).is_unused();
        let identity = (service, server.address, server.port);
        let slot = self.servers.claim(identity, is_free).ok_or(CompileError::NoSlot {
            what: "server",
            limit: self.servers.limit,
            key: "server_limit",
        })?;
        let slot = ServerSlot(slot);
        let before = before.get(&slot);
        // The kernel keeps the last weight that was not 0, so that mh's table survives a drain.
        let last_weight = match before {
            Some(before) if server.weight == 0 => before.last_weight,
            _ => server.weight,
        };
        Ok(Server {
            slot,
            address: server.address,
            port: server.port,
            weight: server.weight,
            last_weight,
            method: server.method,
            tunnel: server.tunnel,
            upper_threshold: server.upper_threshold,
            lower_threshold: server.lower_threshold,
        })
    }
}

fn is_equal(a: &Service, b: &Service) -> bool {
    // The scheduler's table follows from the rest.
    a.servers == b.servers
        && a.scheduler == b.scheduler
        && a.scheduler_flags == b.scheduler_flags
        && a.client_address == b.client_address
        && a.local_v4 == b.local_v4
        && a.local_v6 == b.local_v6
        && a.local_ports == b.local_ports
        && a.one_packet == b.one_packet
        && a.persistence == b.persistence
        && a.ownership == b.ownership
}

/// The dataplane's timeouts.
pub fn timeouts(from: &config::Timeouts) -> Timeouts {
    let seconds = |duration: std::time::Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    let mut timeouts = Timeouts::default();
    timeouts.set(seconds(from.tcp), seconds(from.tcp_fin), seconds(from.udp));
    for (state, duration) in [
        (TcpState::SynSent, from.tcp_syn_sent),
        (TcpState::SynRecv, from.tcp_syn_recv),
        (TcpState::TimeWait, from.tcp_time_wait),
        (TcpState::Close, from.tcp_close),
        (TcpState::CloseWait, from.tcp_close_wait),
        (TcpState::LastAck, from.tcp_last_ack),
    ] {
        timeouts.set_tcp(state, seconds(duration));
    }
    timeouts
}

/// The addresses that the director answers for: virtual addresses, and local addresses of pools that FullNAT servers use.
pub fn owned_addresses<'a>(services: impl Iterator<Item = &'a SharedService>) -> BTreeMap<Address, OwnedAddress> {
    let mut owned = BTreeMap::new();
    for service in services {
        owned.insert(service.address, OwnedAddress::Virtual);
        let used = |v4: bool| {
            service
                .servers
                .iter()
                .any(|server| server.method == ForwardingMethod::FullNat && server.address.is_v4() == v4)
        };
        let locals = [(true, &service.local_v4), (false, &service.local_v6)];
        for local in locals
            .iter()
            .filter(|(v4, _)| used(*v4))
            .flat_map(|(_, pool)| pool.iter())
        {
            owned.entry(*local).or_insert(OwnedAddress::Local);
        }
    }
    owned
}

#[cfg(test)]
mod tests {
    use ulvs_dataplane::service::OwnedBy;

    use super::*;

    fn config(servers: &[(&str, u32)]) -> Config {
        let mut text = String::from(
            "[[port]]\nname = \"a\"\ninterface = \"eth0\"\n[[service]]\nprotocol = \"tcp\"\naddress = \"192.0.2.1:80\"\nscheduler = \"mh\"\nmethod = \"nat\"\n",
        );
        for (address, weight) in servers {
            text += &format!("[[service.server]]\naddress = \"{address}\"\nweight = {weight}\n");
        }
        config::parse(&text, "test").unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    #[test]
    fn what_is_prepared_and_discarded_takes_no_slots_and_changes_nothing() {
        let mut base = config(&[("10.0.0.1:80", 1), ("10.0.0.2:80", 1)]);
        base.director.server_limit = 3;
        let loads = Arc::new(Loads::new(3));
        let mut compiler = Compiler::new(&base.director, Arc::clone(&loads));
        let first = compiler.compile(&base).unwrap();
        for last in 3..10 {
            let third = format!("10.0.0.{last}:80");
            let three = config(&[("10.0.0.1:80", 1), ("10.0.0.2:80", 1), (&third, 1)]);
            assert_eq!(compiler.prepare(&three).unwrap().services()[0].servers.len(), 3);
            compiler.discard();
            // One too many: the third server's slot is taken, the fourth finds none.
            let four = config(&[("10.0.0.1:80", 1), ("10.0.0.2:80", 1), (&third, 1), ("10.0.1.1:80", 1)]);
            assert!(matches!(compiler.prepare(&four), Err(CompileError::NoSlot { .. })));
        }
        assert!(Arc::ptr_eq(&compiler.compile(&base).unwrap()[0], &first[0]));
    }

    #[test]
    fn a_service_that_ever_had_a_nat_server_stays_with_the_clients() {
        let with_methods = |methods: &[&str]| {
            let mut text = String::from(
                "[[port]]\ninterface = \"eth0\"\n[[service]]\nprotocol = \"tcp\"\naddress = \"192.0.2.1:80\"\nmethod = \"dr\"\n",
            );
            for (at, method) in methods.iter().enumerate() {
                text += &format!(
                    "[[service.server]]\naddress = \"10.0.0.{}:80\"\nmethod = \"{method}\"\n",
                    at + 1
                );
            }
            config::parse(&text, "test").unwrap_or_else(|errors| panic!("{errors:?}"))
        };
        let base = with_methods(&[]);
        let loads = Arc::new(Loads::new(base.director.server_limit));
        let mut compiler = Compiler::new(&base.director, loads);
        let mut ownership = |methods: &[&str]| compiler.compile(&with_methods(methods)).unwrap()[0].ownership;
        let by = |by, formerly| Ownership { by, formerly };
        let (by_tuple, by_client) = (by(OwnedBy::Tuple, None), by(OwnedBy::Client, None));
        let once_tuple = by(OwnedBy::Client, Some(OwnedBy::Tuple));
        assert_eq!(ownership(&[]), by_tuple);
        // As `ipvsadm -A` and `ipvsadm -a -m` would do it.
        assert_eq!(ownership(&["nat"]), by_client);
        assert_eq!(ownership(&["nat", "dr"]), by_client);
        assert_eq!(
            ownership(&["dr"]),
            by_client,
            "the NAT server's connections stay where they are"
        );
        assert_eq!(ownership(&[]), by_client);
        assert_eq!(ownership(&["dr"]), by_tuple, "no connection was left");
        assert_eq!(ownership(&["dr", "nat"]), once_tuple);
        assert_eq!(ownership(&["dr"]), once_tuple);
    }

    #[test]
    fn unchanged_services_are_the_same_object_and_slots_stay() {
        let base = config(&[("10.0.0.1:80", 1), ("10.0.0.2:80", 1)]);
        let loads = Arc::new(Loads::new(base.director.server_limit));
        let mut compiler = Compiler::new(&base.director, Arc::clone(&loads));
        let first = compiler.compile(&base).unwrap();
        let again = compiler.compile(&base).unwrap();
        assert!(Arc::ptr_eq(&first[0], &again[0]));

        let drained = compiler
            .compile(&config(&[("10.0.0.1:80", 0), ("10.0.0.2:80", 1)]))
            .unwrap();
        let server = drained[0].servers.iter().find(|server| server.weight == 0).unwrap();
        assert_eq!((server.last_weight, drained[0].revision), (1, first[0].revision + 1));
        assert_eq!(drained[0].servers[1].slot, first[0].servers[1].slot);

        // The slot of a removed server is not given away while a connection counts there.
        let removed = first[0].servers[1].clone();
        loads.get(removed.slot).open(&removed, true);
        let replaced = compiler
            .compile(&config(&[("10.0.0.3:80", 1), ("10.0.0.2:80", 1)]))
            .unwrap();
        assert!(replaced[0].servers.iter().all(|server| server.slot != removed.slot));
        loads.get(removed.slot).close(0, 0, true);
        let reused = compiler
            .compile(&config(&[("10.0.0.4:80", 1), ("10.0.0.3:80", 1), ("10.0.0.2:80", 1)]))
            .unwrap();
        assert!(reused[0].servers.iter().any(|server| server.slot == removed.slot));
    }
}
