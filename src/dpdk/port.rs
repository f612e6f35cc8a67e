//! One port: found, set up with a queue of each kind for every worker, started, closed.

use std::ffi::{CStr, CString};

use tracing::{debug, info, warn};

use super::error::{Error, reason};
use super::memory::DESCRIPTORS;
use super::offloads::{Common, Offloads};
use super::pool::Pool;
use super::rss::{self, Capability, RssFacts};
use super::{DeviceSettings, ffi};

/// What was found out about a port.
#[derive(Clone, Debug)]
pub struct PortFacts {
    /// Name for messages.
    pub name: String,
    /// Its driver, by DPDK's name.
    pub driver: String,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// The largest IP packet, in bytes.
    pub mtu: u16,
    /// Receive and send queues that are in use: one of each for every worker.
    pub queues: u16,
    /// Entries of a receive queue and of a send queue.
    pub descriptors: (u16, u16),
    /// How packets are spread over the queues.
    pub rss: RssFacts,
    /// What the driver offers and what the director uses of it, for people.
    pub offloads: String,
    /// Whether frames may come with unfinished checksums: from a sender on the same machine, or on the host of a virtual one.
    pub has_partial_checksums: bool,
    /// The NUMA node that it is attached to.
    pub node: Option<u32>,
    /// Warnings for the operator.
    pub warnings: Vec<String>,
}

/// A port of DPDK.
pub(super) struct Port {
    pub id: u16,
    pub facts: PortFacts,
    pub offloads: Offloads,
}

/// A port that DPDK knows and that is not set up yet.
pub(super) struct Found<'a> {
    id: u16,
    settings: &'a DeviceSettings,
    info: ffi::rte_eth_dev_info,
    driver: String,
    /// The NUMA node that it is attached to.
    pub node: Option<u32>,
}

impl<'a> Found<'a> {
    /// Looks the device up among DPDK's ports.
    pub fn find(settings: &'a DeviceSettings) -> Result<Found<'a>, Error> {
        let missing = || Error::NoSuchDevice {
            port: settings.name.clone(),
            device: settings.device.clone(),
            remedy: if settings.is_pci() {
                let name = settings.dpdk_name();
                format!(
                    "the card must be there and bound to vfio-pci (`dpdk-devbind.py --status` shows which are, `dpdk-devbind.py --bind=vfio-pci {name}` binds it)"
                )
            } else {
                "what its driver said stands above; if it said nothing, the driver is not installed (apt-get install libdpdk-dev has all of them)".to_owned()
            },
        };
        let name = CString::new(settings.dpdk_name()).map_err(|_| missing())?;
        let mut id = 0;
        // SAFETY: name and number live until the call returns.
        if unsafe { ffi::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut id) } != 0 {
            return Err(missing());
        }
        let mut found = Found {
            id,
            settings,
            info: ffi::rte_eth_dev_info::default(),
            driver: settings.dpdk_name(),
            node: None,
        };
        // SAFETY: the structure is DPDK's own and is filled by the call.
        let status = unsafe { ffi::rte_eth_dev_info_get(id, &mut found.info) };
        found.check("asking for its abilities", status)?;
        if !found.info.driver_name.is_null() {
            // SAFETY: a constant of the driver.
            let driver = unsafe { CStr::from_ptr(found.info.driver_name) };
            found.driver = driver.to_string_lossy().into_owned();
        }
        // SAFETY: a number in, a number out; negative when it belongs to no node.
        found.node = u32::try_from(unsafe { ffi::rte_eth_dev_socket_id(id) }).ok();
        Ok(found)
    }

    fn check(&self, action: &str, status: i32) -> Result<(), Error> {
        if status >= 0 {
            return Ok(());
        }
        Err(Error::Port {
            port: self.settings.name.clone(),
            driver: self.driver.clone(),
            action: action.to_owned(),
            reason: reason(status),
        })
    }

    /// Sets it up and starts it. What it receives is of `pool`.
    pub fn start(self, common: Common, pool: Pool) -> Result<Port, Error> {
        let workers = common.workers;
        self.check_queues(workers)?;
        self.check_mtu()?;
        let capability = Capability {
            key_bytes: self.info.hash_key_size,
            table_entries: self.info.reta_size,
            hash_types: self.info.flow_type_rss_offloads,
        };
        let offloads = self.offloads().choose(common, self.may_be_partial());
        self.configure(workers, capability, offloads)?;
        let descriptors = self.set_queues_up(workers, pool, offloads)?;
        // SAFETY: configured, with all queues set up.
        let status = unsafe { ffi::rte_eth_dev_start(self.id) };
        self.check("starting it", status)?;
        let started = || -> Result<Port, Error> {
            self.leave_tags_in_frames();
            self.take_all_frames();
            let rss = rss::program(self.id, &self.settings.name, self.settings.rss, capability, workers);
            let facts = self.facts(workers, descriptors, rss, offloads)?;
            Ok(Port {
                id: self.id,
                facts,
                offloads,
            })
        };
        started().inspect_err(|_| close(self.id, &self.settings.name))
    }

    fn check_queues(&self, workers: u16) -> Result<(), Error> {
        let (receive_queues, transmit_queues) = (self.info.max_rx_queues, self.info.max_tx_queues);
        let most = receive_queues.min(transmit_queues);
        if most >= workers {
            return Ok(());
        }
        Err(Error::TooFewQueues {
            port: self.settings.name.clone(),
            driver: self.driver.clone(),
            receive_queues,
            transmit_queues,
            workers: workers.into(),
            most,
            remedy: if self.settings.is_af_xdp() {
                ", or give the driver more: `queue_count=N` in the device (and `ethtool -L` for the interface)"
            } else {
                ""
            },
        })
    }

    /// Some drivers (TAP) name a largest frame only. Around the packet, DPDK counts a header and a check sequence unless a driver says otherwise.
    fn largest_mtu(&self) -> u16 {
        match self.info.max_mtu {
            u16::MAX => u16::try_from(self.info.max_rx_pktlen.saturating_sub(14 + 4)).unwrap_or(u16::MAX),
            named => named,
        }
    }

    fn check_mtu(&self) -> Result<(), Error> {
        let (mtu, least, most) = (self.settings.mtu, self.info.min_mtu, self.largest_mtu());
        if (least..=most).contains(&mtu) {
            return Ok(());
        }
        Err(Error::Mtu {
            port: self.settings.name.clone(),
            driver: self.driver.clone(),
            mtu,
            least,
            most,
        })
    }

    /// What its driver offers.
    pub fn offloads(&self) -> Offloads {
        Offloads {
            receive: self.info.rx_offload_capa,
            send: self.info.tx_offload_capa,
        }
    }

    /// Whether senders on the same machine, or on the host of a virtual one, may leave checksums unfinished.
    fn may_be_partial(&self) -> bool {
        let is_paravirtual = || ["virtio", "vmxnet3"].iter().any(|name| self.driver.contains(name));
        !self.settings.is_pci() || is_paravirtual()
    }

    fn configure(&self, workers: u16, capability: Capability, offloads: Offloads) -> Result<(), Error> {
        let mut config = ffi::rte_eth_conf::default();
        config.rxmode.mtu = u32::from(self.settings.mtu);
        config.rxmode.offloads = offloads.receive;
        config.txmode.offloads = offloads.send;
        let hash_types = capability.types(self.settings.rss);
        if workers > 1 && hash_types != 0 {
            config.rxmode.mq_mode = ffi::ULVS_MQ_RX_RSS;
            config.rx_adv_conf.rss_conf.rss_hf = hash_types;
        }
        // SAFETY: the structure lives until the call returns and holds no pointers.
        let status = unsafe { ffi::rte_eth_dev_configure(self.id, workers, workers, &config) };
        self.check("configuring it", status)
    }

    fn set_queues_up(&self, workers: u16, pool: Pool, offloads: Offloads) -> Result<(u16, u16), Error> {
        let (mut receive, mut transmit) = (DESCRIPTORS, DESCRIPTORS);
        // SAFETY: both numbers live until the call returns.
        let status = unsafe { ffi::rte_eth_dev_adjust_nb_rx_tx_desc(self.id, &mut receive, &mut transmit) };
        self.check("choosing the length of its queues", status)?;
        let near = self.node.map_or(ffi::ULVS_ANY_SOCKET as u32, |node| node);
        let receive_config = self.info.default_rxconf;
        let mut transmit_config = self.info.default_txconf;
        transmit_config.offloads = offloads.send;
        for queue in 0..workers {
            // SAFETY: the configuration is copied by the driver; the pool outlives the port.
            let status =
                unsafe { ffi::rte_eth_rx_queue_setup(self.id, queue, receive, near, &receive_config, pool.as_ptr()) };
            self.check(&format!("setting receive queue {queue} up"), status)?;
            // SAFETY: as above.
            let status = unsafe { ffi::rte_eth_tx_queue_setup(self.id, queue, transmit, near, &transmit_config) };
            self.check(&format!("setting send queue {queue} up"), status)?;
        }
        Ok((receive, transmit))
    }

    /// Tags stay where the packet path reads them. A driver that takes them out nevertheless marks each frame, and the worker puts them back.
    fn leave_tags_in_frames(&self) {
        // SAFETY: numbers in, a number out.
        let now = unsafe { ffi::rte_eth_dev_get_vlan_offload(self.id) };
        if now > 0 && now & ffi::ULVS_VLAN_STRIP != 0 {
            // SAFETY: as above.
            let status = unsafe { ffi::rte_eth_dev_set_vlan_offload(self.id, now & !ffi::ULVS_VLAN_STRIP) };
            debug!(
                "port {}: asked to leave VLAN tags in frames, status {status}",
                self.settings.name
            );
        }
    }

    /// Virtual addresses answer to the port's own MAC, but the kernel's side wants all multicast (neighbour discovery, VRRP, routing protocols).
    fn take_all_frames(&self) {
        // SAFETY: a number in, a number out.
        let status = unsafe { ffi::rte_eth_allmulticast_enable(self.id) };
        if status == 0 {
            return;
        }
        // SAFETY: as above.
        let status = unsafe { ffi::rte_eth_promiscuous_enable(self.id) };
        if status != 0 {
            debug!(
                "port {}: {} takes neither all multicast nor all frames",
                self.settings.name, self.driver
            );
        }
    }

    fn facts(
        &self,
        workers: u16,
        descriptors: (u16, u16),
        rss: RssFacts,
        offloads: Offloads,
    ) -> Result<PortFacts, Error> {
        let mut address = ffi::rte_ether_addr::default();
        // SAFETY: the structure is filled by the call.
        let status = unsafe { ffi::rte_eth_macaddr_get(self.id, &mut address) };
        self.check("asking for its Ethernet address", status)?;
        let mut mtu = 0;
        // SAFETY: as above.
        let status = unsafe { ffi::rte_eth_dev_get_mtu(self.id, &mut mtu) };
        self.check("asking for its MTU", status)?;
        let warnings = rss.warning(&self.driver, self.settings.rss).into_iter().collect();
        Ok(PortFacts {
            name: self.settings.name.clone(),
            driver: self.driver.clone(),
            mac: address.addr_bytes,
            mtu,
            queues: workers,
            descriptors,
            rss,
            offloads: format!("offers {}; uses {offloads}", self.offloads()),
            has_partial_checksums: self.may_be_partial(),
            node: self.node,
            warnings,
        })
    }
}

/// Stops and closes a port. No queue of it may be in use.
pub(super) fn close(id: u16, name: &str) {
    // A virtual device's interface outlives the port. SAFETY: a number in, a number out.
    unsafe { ffi::rte_eth_promiscuous_disable(id) };
    // SAFETY: the caller's promise: no thread polls the port.
    let status = unsafe { ffi::rte_eth_dev_stop(id) };
    if status != 0 {
        warn!("port {name} could not be stopped: {}", reason(status));
    }
    // SAFETY: as above.
    let status = unsafe { ffi::rte_eth_dev_close(id) };
    if status != 0 {
        warn!("port {name} could not be closed: {}", reason(status));
    }
    info!("port {name} is closed");
}
