//! A configuration in a form in which one change costs the same however many services there are, with the rules that concern more than
//! one service: limits, and that an address is only one of virtual, local and server.

use std::collections::HashMap;

use indexmap::IndexMap;
use ulvs_dataplane::address::Address;
use ulvs_dataplane::scheduler::SchedulerKind;
use ulvs_dataplane::service::ForwardingMethod;

use super::ChangeError;
use crate::api::changes::ServiceKey;
use crate::api::views;
use crate::config::{self, Config, LocalPool, MH_TABLE_SIZE, Protocol, RealServer, Timeouts, VirtualService};

/// What tells services apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Protocol.
    pub protocol: Protocol,
    /// Virtual address.
    pub address: Address,
    /// Virtual port.
    pub port: u16,
}

impl Key {
    /// The key of a service.
    pub fn of(service: &VirtualService) -> Key {
        Key {
            protocol: service.protocol,
            address: service.address,
            port: service.port,
        }
    }

    /// The key that the command line means; `None` where no service of this director can have it.
    pub fn read(service: &ServiceKey) -> Option<Key> {
        match *service {
            ServiceKey::Address {
                protocol,
                address,
                port,
            } => Some(Key {
                protocol: config_protocol(protocol)?,
                address: address.into(),
                port,
            }),
            ServiceKey::Fwmark { .. } => None,
        }
    }
}

/// The protocol, if this director balances it.
pub(super) fn config_protocol(protocol: views::Protocol) -> Option<Protocol> {
    match protocol {
        views::Protocol::Tcp => Some(Protocol::Tcp),
        views::Protocol::Udp => Some(Protocol::Udp),
        views::Protocol::Sctp => Some(Protocol::Sctp),
        views::Protocol::Ip => None,
    }
}

/// How often an address is used as what.
#[derive(Clone, Copy, Debug, Default)]
struct Uses {
    as_virtual: u32,
    as_server: u32,
    as_local: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Table {
    /// All but services and pools.
    rest: Config,
    services: IndexMap<Key, VirtualService>,
    pools: IndexMap<String, LocalPool>,
    uses: HashMap<Address, Uses>,
    servers: usize,
}

impl Table {
    /// The services and pools of a configuration.
    pub fn new(config: &Config) -> Table {
        let mut table = Table {
            rest: Config {
                services: Vec::new(),
                local_pools: Vec::new(),
                warnings: Vec::new(),
                director: config.director.clone(),
                timeouts: config.timeouts,
                ipvs: config.ipvs,
                dpdk: config.dpdk.clone(),
                ports: config.ports.clone(),
            },
            services: config.services.iter().map(|own| (Key::of(own), own.clone())).collect(),
            pools: config
                .local_pools
                .iter()
                .map(|own| (own.name.clone(), own.clone()))
                .collect(),
            uses: HashMap::new(),
            servers: 0,
        };
        table.count();
        table
    }

    fn count(&mut self) {
        self.uses.clear();
        self.servers = 0;
        for service in self.services.values() {
            self.uses.entry(service.address).or_default().as_virtual += 1;
            self.servers += service.servers.len();
            for server in &service.servers {
                self.uses.entry(server.address).or_default().as_server += 1;
            }
        }
        for local in self.pools.values().flat_map(|pool| &pool.addresses) {
            self.uses.entry(*local).or_default().as_local += 1;
        }
    }

    /// The configuration.
    pub fn into_config(self) -> Config {
        Config {
            services: self.services.into_values().collect(),
            local_pools: self.pools.into_values().collect(),
            ..self.rest
        }
    }

    /// Checks all rules, for a configuration that was put together from several. The error is a sentence.
    pub fn check(&self) -> Result<(), ChangeError> {
        let limits = &self.rest.director;
        if self.services.len() > limits.service_limit || self.servers > limits.server_limit {
            return Err(self.no_room());
        }
        for service in self.services.values() {
            self.check_virtual(service.address)?;
            if service.scheduler == SchedulerKind::Mh {
                check_mh(service.servers.len())?;
            }
            for server in &service.servers {
                self.check_server(&Key::of(service), server)?;
            }
        }
        Ok(())
    }

    fn no_room(&self) -> ChangeError {
        let limits = &self.rest.director;
        ChangeError::NoRoom(format!(
            "the director has room for {} services and {} servers; raise service_limit or server_limit in [director] and restart",
            limits.service_limit, limits.server_limit
        ))
    }

    /// The timeouts.
    pub fn timeouts(&mut self) -> &mut Timeouts {
        &mut self.rest.timeouts
    }

    /// The service of that key.
    pub fn find(&self, service: &ServiceKey) -> Option<(Key, &VirtualService)> {
        let key = Key::read(service)?;
        Some((key, self.services.get(&key)?))
    }

    /// The same, to be changed in what no other service depends on.
    pub(super) fn find_mut(&mut self, service: &ServiceKey) -> Option<(Key, &mut VirtualService)> {
        let key = Key::read(service)?;
        Some((key, self.services.get_mut(&key)?))
    }

    /// The service that a server is in, or should be.
    pub(super) fn service_of_server(&self, service: &ServiceKey) -> Result<(Key, &VirtualService), ChangeError> {
        self.find(service).ok_or(ChangeError::ServiceNotDefined)
    }

    /// Whose counters `-Z` means: a service's that there is, or all.
    pub(super) fn zeroed(&self, service: Option<&ServiceKey>) -> Result<Option<Key>, ChangeError> {
        match service {
            None => Ok(None),
            Some(service) => match self.find(service) {
                Some((key, _)) => Ok(Some(key)),
                None => Err(ChangeError::NoSuchService),
            },
        }
    }

    /// The key for a service that is not there yet.
    pub(super) fn new_key(&self, service: &ServiceKey) -> Result<Key, ChangeError> {
        let key = Key::read(service).ok_or(ChangeError::NoSuchService)?;
        config::usable_address(key.address.into(), "a virtual address").map_err(ChangeError::Invalid)?;
        self.check_virtual(key.address)?;
        Ok(key)
    }

    pub(super) fn insert_service(&mut self, service: VirtualService) -> Result<(), ChangeError> {
        if self.services.len() >= self.rest.director.service_limit {
            return Err(self.no_room());
        }
        self.uses.entry(service.address).or_default().as_virtual += 1;
        self.services.insert(Key::of(&service), service);
        Ok(())
    }

    pub(super) fn remove_service(&mut self, service: &ServiceKey) -> Result<(), ChangeError> {
        let key = Key::read(service).ok_or(ChangeError::NoSuchService)?;
        let service = self.services.swap_remove(&key).ok_or(ChangeError::NoSuchService)?;
        self.uses.entry(key.address).or_default().as_virtual -= 1;
        self.servers -= service.servers.len();
        for server in &service.servers {
            self.uses.entry(server.address).or_default().as_server -= 1;
        }
        if let Some(name) = service.local_pool {
            self.forget_own_pool(&name);
        }
        Ok(())
    }

    /// Removes every service, and the pools that were made for them.
    pub(super) fn flush(&mut self) {
        self.services.clear();
        self.pools.retain(|_, pool| pool.line != 0);
        self.count();
    }

    pub(super) fn insert_server(&mut self, key: &Key, server: RealServer) -> Result<(), ChangeError> {
        if self.servers >= self.rest.director.server_limit {
            return Err(self.no_room());
        }
        let service = self.services.get_mut(key).ok_or(ChangeError::ServiceNotDefined)?;
        if service.scheduler == SchedulerKind::Mh {
            check_mh(service.servers.len() + 1)?;
        }
        self.servers += 1;
        self.uses.entry(server.address).or_default().as_server += 1;
        service.servers.push(server);
        Ok(())
    }

    /// Puts a server, changed in all but its address, in its old place.
    pub(super) fn replace_server(&mut self, key: &Key, place: usize, server: RealServer) {
        if let Some(service) = self.services.get_mut(key) {
            service.servers[place] = server;
        }
    }

    pub(super) fn remove_server(&mut self, key: &Key, place: usize) {
        if let Some(service) = self.services.get_mut(key) {
            let server = service.servers.remove(place);
            self.servers -= 1;
            self.uses.entry(server.address).or_default().as_server -= 1;
        }
    }

    /// Checks what a server may not be besides, and that FullNAT can reach it.
    pub(super) fn check_server(&self, key: &Key, server: &RealServer) -> Result<(), ChangeError> {
        let uses = self.uses.get(&server.address).copied().unwrap_or_default();
        if uses.as_virtual > 0 {
            let message = format!("the server address {} is also a virtual address", server.address);
            return Err(ChangeError::Invalid(message));
        }
        if uses.as_local > 0 {
            let message = format!(
                "the server address {} is also a local address of the director",
                server.address
            );
            return Err(ChangeError::Invalid(message));
        }
        if server.method != ForwardingMethod::FullNat {
            return Ok(());
        }
        let pool = self.services.get(key).and_then(|service| self.pool_of(service));
        let reaches = |pool: &LocalPool| pool.addresses.iter().any(|own| own.is_v4() == server.address.is_v4());
        if pool.is_some_and(reaches) {
            return Ok(());
        }
        Err(ChangeError::Invalid(format!(
            "fullnat reaches the server {} from a local address of its family, and the service has none; add one first, with --add-laddr (-P) or a \
             [[local_pool]] in the file",
            server.address
        )))
    }

    fn check_virtual(&self, address: Address) -> Result<(), ChangeError> {
        let uses = self.uses.get(&address).copied().unwrap_or_default();
        let also = match (uses.as_server, uses.as_local) {
            (0, 0) => return Ok(()),
            (0, _) => "a local address of the director",
            _ => "the address of a real server",
        };
        let message = format!("the virtual address {address} is also {also}");
        Err(ChangeError::Invalid(message))
    }

    /// The local addresses of a service.
    pub(super) fn pool_of(&self, service: &VirtualService) -> Option<&LocalPool> {
        self.pools.get(service.local_pool.as_deref()?)
    }

    /// Whether an address can become a local one. The error is a sentence.
    pub(super) fn check_local(&self, address: Address) -> Result<(), ChangeError> {
        let uses = self.uses.get(&address).copied().unwrap_or_default();
        let also = match (uses.as_virtual, uses.as_server) {
            (0, 0) => return Ok(()),
            (0, _) => "the address of a real server",
            _ => "a virtual address",
        };
        let message = format!("the local address {address} is also {also}");
        Err(ChangeError::Invalid(message))
    }

    /// Gives a service a pool of its own with these addresses; none of them: no pool.
    pub(super) fn set_own_pool(&mut self, key: &Key, pool: LocalPool) {
        let name = pool.name.clone();
        self.forget_own_pool(&name);
        let Some(service) = self.services.get_mut(key) else {
            return;
        };
        service.local_pool = (!pool.addresses.is_empty()).then(|| name.clone());
        super::edited(&mut service.origin);
        if !pool.addresses.is_empty() {
            for local in &pool.addresses {
                self.uses.entry(*local).or_default().as_local += 1;
            }
            self.pools.insert(name, pool);
        }
    }

    /// Removes a pool that was made for one service; those of the file are shared, and stay.
    fn forget_own_pool(&mut self, name: &str) {
        if self.pools.get(name).is_none_or(|pool| pool.line != 0) {
            return;
        }
        let pool = self.pools.swap_remove(name);
        for local in pool.iter().flat_map(|pool| &pool.addresses) {
            self.uses.entry(*local).or_default().as_local -= 1;
        }
    }
}

/// The kernel refuses more servers for mh than its table has places.
pub(super) fn check_mh(servers: usize) -> Result<(), ChangeError> {
    if servers <= MH_TABLE_SIZE {
        return Ok(());
    }
    let message = format!("mh takes at most {MH_TABLE_SIZE} servers");
    Err(ChangeError::Invalid(message))
}
