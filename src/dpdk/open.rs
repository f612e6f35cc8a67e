//! Opens all ports in one go, and closes them.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{debug, warn};

use super::claim::Claim;
use super::counters::PortCounters;
use super::eal::Eal;
use super::error::Error;
use super::memory::Need;
use super::offloads::{self, Common};
use super::pool::Pool;
use super::port::{self, Found, Port, PortFacts};
use super::worker::{DpdkIo, OpenPort};
use super::{DeviceSettings, Settings, numa};
use crate::waker::Waker;

/// Everything that [`open`] made.
pub struct Opened {
    /// One for each worker, to be moved to its thread.
    pub workers: Vec<DpdkIo>,
    /// What was found out about each port, in order.
    pub facts: Vec<PortFacts>,
    /// The ports' own counters and links. Drop it before [`Ports::close`].
    pub counters: PortCounters,
    /// The ports themselves, to be closed in the end.
    pub ports: Ports,
    /// How many packet buffers there are.
    pub frames: u32,
    /// MiB of memory that they occupy.
    pub frame_memory_mib: u64,
    /// Whether that memory lies on huge pages.
    pub huge_pages: bool,
}

/// The open ports, their packet buffers and DPDK itself.
pub struct Ports {
    ports: Vec<Port>,
    pools: Vec<Pool>,
    eal: Eal,
    /// Until the ports are closed.
    _claims: Vec<Claim>,
    /// Whether a driver keeps packet buffers for good.
    drivers_keep_some: bool,
}

impl Ports {
    /// Stops and closes the ports, counts the packet buffers, and ends DPDK. All workers' [`DpdkIo`] and all frames must be gone.
    pub fn close(self) {
        for port in &self.ports {
            port::close(port.id, &port.facts.name);
        }
        for pool in self.pools {
            let (free, all) = (pool.free_frames(), pool.size());
            if free == all {
                debug!("all {all} packet buffers came back");
                // SAFETY: every frame is back, and the ports are closed.
                unsafe { pool.free() };
            } else if self.drivers_keep_some {
                debug!(
                    "{} of {all} packet buffers stay with DPDK's AF_XDP driver, which does not give back what its rings hold",
                    all - free
                );
            } else {
                // Not freed: somebody may still write into them. The memory ends with the process.
                warn!("{} of {all} packet buffers did not come back to their pool", all - free);
            }
        }
        self.eal.clean_up();
    }

    /// Free packet buffers, and all of them.
    pub fn frames(&self) -> (u32, u32) {
        let free = self.pools.iter().map(|pool| pool.free_frames()).sum();
        (free, self.pools.iter().map(|pool| pool.size()).sum())
    }
}

/// Starts DPDK and opens every port for `settings.workers` workers. Once in the life of a process.
///
/// # Errors
/// A sentence with its remedy. DPDK cannot be started again in this process then.
pub fn open(settings: &Settings) -> Result<Opened, Error> {
    check(settings)?;
    let need = Need::of(settings)?;
    let claims = settings.devices.iter().map(Claim::of).collect::<Result<Vec<_>, _>>()?;
    let eal = Eal::start(settings, need)?;
    let huge_pages = eal.huge_pages;
    let mut ports = Ports {
        ports: Vec::new(),
        pools: Vec::new(),
        eal,
        _claims: claims.into_iter().flatten().collect(),
        drivers_keep_some: settings.devices.iter().any(DeviceSettings::is_af_xdp),
    };
    match set_up(settings, &mut ports) {
        Ok(workers) => {
            let facts: Vec<PortFacts> = ports.ports.iter().map(|port| port.facts.clone()).collect();
            Ok(Opened {
                workers,
                facts,
                counters: PortCounters::new(ports.ports.iter().map(|port| (port.id, port.facts.name.clone()))),
                frames: ports.frames().1,
                frame_memory_mib: need.pool_mib(huge_pages),
                huge_pages,
                ports,
            })
        }
        Err(error) => {
            ports.close();
            Err(error)
        }
    }
}

fn check(settings: &Settings) -> Result<(), Error> {
    let refuse = |sentence: String| Err(Error::Setting(sentence));
    if settings.devices.is_empty() || settings.devices.len() > usize::from(u8::MAX) {
        return refuse(format!(
            "{} DPDK ports are configured; there must be 1 to 255",
            settings.devices.len()
        ));
    }
    if settings.workers == 0 {
        return refuse("there must be at least one worker".to_owned());
    }
    let mut names = BTreeSet::new();
    for device in &settings.devices {
        if !names.insert(device.dpdk_name()) {
            return refuse(format!(
                "the device {} is configured as a port twice; remove one of the two",
                device.dpdk_name()
            ));
        }
    }
    Ok(())
}

/// Pools, ports, and each worker's view of them. What was made before an error is in `made`.
fn set_up(settings: &Settings, made: &mut Ports) -> Result<Vec<DpdkIo>, Error> {
    let found = settings
        .devices
        .iter()
        .map(Found::find)
        .collect::<Result<Vec<_>, _>>()?;
    // Only huge pages belong to a node.
    let node_of = |found: &Found| found.node.filter(|_| made.eal.huge_pages);
    let nodes: Vec<Option<u32>> = found.iter().map(node_of).collect();
    let mut pools = BTreeMap::new();
    for &node in &nodes {
        if pools.contains_key(&node) {
            continue;
        }
        let on_node = settings.devices.iter().zip(&nodes).filter(|(_, own)| **own == node);
        let need = Need::of_ports(settings, &on_node.map(|(device, _)| device).collect::<Vec<_>>())?;
        let name = node.map_or("ulvs".to_owned(), |node| format!("ulvs-{node}"));
        let pool = Pool::create(&name, need, node, made.eal.huge_pages)?;
        made.pools.push(pool);
        pools.insert(node, pool);
    }
    let workers = settings.workers as u16;
    let common = Common {
        workers,
        pools: pools.len(),
        finish_checksums: found.iter().all(|port| port.offloads().finish_checksums()),
    };
    offloads::let_ports_finish_checksums(common.finish_checksums);
    for (found, node) in found.into_iter().zip(&nodes) {
        let mut port = found.start(common, pools[node])?;
        let far = numa::warnings(port.facts.node, &settings.cores, numa::node_of_core);
        port.facts.warnings.extend(far);
        made.ports.push(port);
    }
    let open = |port: &Port| OpenPort {
        id: port.id,
        distrusted_marks: port.offloads.distrusted_marks(),
    };
    let open: Vec<OpenPort> = made.ports.iter().map(open).collect();
    let all = made.frames().1;
    let worker = |queue: u16| {
        let waker = Waker::new().map_err(|source| Error::Call {
            action: "making a worker's eventfd".to_owned(),
            source,
        })?;
        Ok(DpdkIo::new(
            open.clone(),
            queue,
            settings.workers,
            pools[&nodes[0]],
            all as usize,
            waker,
        ))
    };
    (0..workers).map(worker).collect()
}
