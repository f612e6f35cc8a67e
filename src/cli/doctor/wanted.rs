//! What the box is wanted for: the configuration, as far as it matters here.

use std::path::PathBuf;

use ulvs_control::config::{self, Config};
use ulvs_dataplane::conn::table::Table;
use ulvs_dataplane::service::ForwardingMethod;

/// What receives and sends frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Backend {
    /// AF_XDP sockets, on interfaces of the kernel.
    AfXdp,
    /// DPDK, on PCI devices that the kernel has given away.
    Dpdk,
}

/// One port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WantedPort {
    /// Its kernel interface (AF_XDP).
    pub interface: Option<String>,
    /// Its PCI address, as 0000:3b:00.0 (DPDK).
    pub device: Option<String>,
    /// Whether native XDP is asked for by name.
    pub must_be_native: bool,
    /// Whether generic XDP is asked for by name.
    pub must_be_generic: bool,
    /// VLAN ids; 0 is untagged.
    pub vlans: Vec<u16>,
}

/// What is wanted. Without a configuration file nearly nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// None: either will do, and what one of them lacks is no more than a note.
    pub backend: Option<Backend>,
    /// Cores that workers are pinned to.
    pub cores: Vec<usize>,
    /// How many workers.
    pub workers: usize,
    /// Empty: whatever there is.
    pub ports: Vec<WantedPort>,
    /// Connections, all workers together.
    pub connections: Option<usize>,
    /// Packet buffers per worker and port; 0: computed.
    pub frames: u32,
    /// Bytes that DPDK takes from huge pages; none: not known, or it shall have none of them.
    pub dpdk_bytes: Option<u64>,
    /// Whether the director does not start without those.
    pub must_have_huge_pages: bool,
    /// Whether servers answer clients themselves.
    pub has_direct_answers: bool,
    /// The control socket.
    pub control_socket: PathBuf,
    /// Who may use it.
    pub control_group: Option<String>,
}

impl Wanted {
    /// Without a configuration.
    pub fn unknown(backend: Option<Backend>, control_socket: PathBuf) -> Wanted {
        Wanted {
            backend,
            workers: 1,
            control_socket,
            ..Wanted::default()
        }
    }

    /// What a configuration asks for.
    pub fn from_config(config: &Config) -> Wanted {
        let director = &config.director;
        let servers = || config.services.iter().flat_map(|service| &service.servers);
        Wanted {
            backend: Some(match director.backend {
                config::Backend::AfXdp => Backend::AfXdp,
                config::Backend::Dpdk => Backend::Dpdk,
            }),
            cores: director.cores.clone(),
            workers: director.worker_count(),
            ports: config.ports.iter().map(port).collect(),
            connections: Some(director.connections),
            frames: director.frames,
            dpdk_bytes: dpdk_bytes(config),
            must_have_huge_pages: config.dpdk.huge_pages == config::HugePages::On,
            has_direct_answers: servers().any(|server| {
                matches!(
                    server.method,
                    ForwardingMethod::DirectRouting | ForwardingMethod::Tunnel
                )
            }),
            control_socket: director.control_socket.clone(),
            control_group: Some(director.control_group.clone()),
        }
    }

    /// Whether this backend is, or may be, the one.
    pub fn may_use(&self, backend: Backend) -> bool {
        self.backend.is_none_or(|wanted| wanted == backend)
    }

    /// Whether this backend must work.
    pub fn must_use(&self, backend: Backend) -> bool {
        self.backend == Some(backend)
    }

    /// Bytes of the connection tables of all workers.
    pub fn table_bytes(&self) -> Option<u64> {
        let each = self.connections?.div_ceil(self.workers.max(1));
        Some((Table::memory_for(each) * self.workers.max(1)) as u64)
    }
}

#[cfg(feature = "dpdk")]
fn dpdk_bytes(config: &Config) -> Option<u64> {
    let is_on_huge_pages =
        config.director.backend == config::Backend::Dpdk && config.dpdk.huge_pages != config::HugePages::Off;
    let settings = is_on_huge_pages.then(|| crate::backend::dpdk::settings(config))?;
    crate::dpdk::needed_bytes(&settings).ok()
}

#[cfg(not(feature = "dpdk"))]
fn dpdk_bytes(_config: &Config) -> Option<u64> {
    None
}

fn port(port: &config::Port) -> WantedPort {
    WantedPort {
        // Under DPDK it is the port's twin, which the director makes itself.
        interface: port.device.is_none().then(|| port.interface.clone()),
        device: port.device.clone(),
        must_be_native: port.mode == config::PortMode::Native,
        must_be_generic: port.mode == config::PortMode::Generic,
        vlans: (port.untagged.then_some(0).into_iter())
            .chain(port.vlans.iter().map(|vlan| vlan.id))
            .collect(),
    }
}
