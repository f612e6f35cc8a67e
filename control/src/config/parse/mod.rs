//! From checked sections to entries: what each part of the file says, every value with its place. The forms of values that are
//! more than a word or a number (addresses, port ranges, interface names) are checked here.

mod director;
mod endpoint;
mod ipvs;
mod local_pool;
mod name;
mod port;
mod service;
mod tunnel;

pub use endpoint::{show_endpoint, usable_address};
pub use local_pool::LocalPoolEntry;
pub use port::PortEntry;
pub use service::{ServerEntry, ServiceEntry, made_name};

use ulvs_dataplane::tunables::Tunables;

use super::error::Findings;
use super::model::{Backend, Config, Director, Dpdk, Timeouts};
use super::names::BACKENDS;
use super::section::{At, Section};
use super::source::Source;

/// Everything that the file says.
#[derive(Debug)]
pub struct Entries {
    /// `[director]`, complete.
    pub director: Director,
    /// Where `server_limit` stands.
    pub server_limit: At<u32>,
    /// Where `service_limit` stands.
    pub service_limit: At<u32>,
    /// The backend; none when its word could not be read.
    pub backend: Option<Backend>,
    /// `[timeouts]`, complete.
    pub timeouts: Timeouts,
    /// `[ipvs]`, complete.
    pub ipvs: Tunables,
    /// `[dpdk]`, complete.
    pub dpdk: Dpdk,
    /// Every `[[port]]`.
    pub ports: Vec<PortEntry>,
    /// False when `port` is there but is not a list of tables.
    pub ports_readable: bool,
    /// Every `[[local_pool]]`.
    pub local_pools: Vec<LocalPoolEntry>,
    /// False when `local_pool` is there but is not a list of tables.
    pub local_pools_readable: bool,
    /// Every `[[service]]`.
    pub services: Vec<ServiceEntry>,
}

/// Reads all parts of the file.
pub fn parse(root: &Section, findings: &mut Findings) -> Entries {
    let empty = Section::new(0..0);
    let director = root.sections("director").first().unwrap_or(&empty);
    let timeouts = root.sections("timeouts").first().unwrap_or(&empty);
    let ipvs = root.sections("ipvs").first().unwrap_or(&empty);
    let dpdk = root.sections("dpdk").first().unwrap_or(&empty);
    Entries {
        director: director::parse_director(director, findings),
        backend: director.find_choice("backend", &BACKENDS).map(|backend| backend.value),
        dpdk: director::parse_dpdk(dpdk),
        server_limit: director.integer("server_limit"),
        service_limit: director.integer("service_limit"),
        timeouts: director::parse_timeouts(timeouts),
        ipvs: ipvs::parse(ipvs),
        ports: root
            .sections("port")
            .iter()
            .map(|section| port::parse(section, findings))
            .collect(),
        local_pools: root
            .sections("local_pool")
            .iter()
            .map(|section| local_pool::parse(section, findings))
            .collect(),
        ports_readable: root.is_readable("port"),
        local_pools_readable: root.is_readable("local_pool"),
        services: root
            .sections("service")
            .iter()
            .map(|section| service::parse(section, findings))
            .collect(),
    }
}

impl Entries {
    /// The configuration, for entries without errors. Warnings are still to be added.
    pub fn into_config(self, source: &Source) -> Config {
        Config {
            director: self.director,
            timeouts: self.timeouts,
            ipvs: self.ipvs,
            dpdk: self.dpdk,
            ports: self.ports.iter().filter_map(|port| port.build(source)).collect(),
            local_pools: self.local_pools.iter().filter_map(|pool| pool.build(source)).collect(),
            services: self.services.iter().flat_map(|service| service.build(source)).collect(),
            warnings: Vec::new(),
        }
    }
}
