//! The AF_XDP backend as the rest of the director sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, bail};
use tracing::{info, warn};
use ulvs_control::capture::{AddressClass, BackendCounter, Capture, CaptureRules};
use ulvs_control::config::{self, Config, Port, PortMode};
use ulvs_control::forwarding::OpenPort;
use ulvs_dataplane::io::PortIndex;
use ulvs_dataplane::worker::Wake;

use super::{Opened, layers_three};
use crate::af_xdp::{
    self, AttachMode, DeviceFacts, DeviceSettings, Endpoint, Filter, QueueCounters, SocketCounters, XdpMode, ZeroCopy,
};

/// Opens all ports over AF_XDP.
///
/// # Errors
/// A sentence that says what to do.
pub fn open(config: &Config) -> Result<Opened<af_xdp::AfXdpIo>> {
    let opened = af_xdp::open(&settings(config)?)?;
    info!(
        "{} frames, {} MiB of frame memory{}",
        opened.frames,
        opened.frame_memory_bytes >> 20,
        if opened.huge_pages { " on huge pages" } else { "" }
    );
    let ports: Vec<OpenPort> = config
        .ports
        .iter()
        .zip(&opened.devices)
        .map(|(port, facts)| describe(port, facts))
        .collect();
    for (port, facts) in ports.iter().zip(&opened.devices) {
        info!(
            "port {} ({}): {}, {} queues, MTU {}",
            port.name, port.interface, port.mode, port.queues, facts.mtu
        );
        facts
            .warnings
            .iter()
            .for_each(|warning| warn!("port {}: {warning}", port.name));
    }
    let with_waker = |io: af_xdp::AfXdpIo| {
        let waker = io.waker();
        (io, Arc::new(move || waker.wake()) as Wake)
    };
    Ok(Opened {
        workers: opened.workers.into_iter().map(with_waker).collect(),
        ports,
        capture: Some(Box::new(XdpCapture {
            filter: opened.filter,
            sockets: opened.counters,
            workers: config.director.worker_count(),
        })),
        close: Box::new(|| ()),
    })
}

fn settings(config: &Config) -> Result<af_xdp::Settings> {
    let device = |port: &Port| DeviceSettings {
        name: port.interface.clone(),
        mode: match port.mode {
            PortMode::Auto => AttachMode::Auto,
            PortMode::Native => AttachMode::Native,
            PortMode::Generic => AttachMode::Generic,
        },
        vlans: port
            .untagged
            .then_some(0)
            .into_iter()
            .chain(port.vlans.iter().map(|vlan| vlan.id))
            .collect(),
    };
    let mut settings = af_xdp::Settings::new(config.ports.iter().map(device).collect());
    settings.workers = config.director.worker_count();
    settings.frames = (config.director.frames != 0).then_some(config.director.frames);
    settings.zero_copy = zero_copy(&config.ports)?;
    // Virtual and local addresses, and room for the kernel's own.
    let limit = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    settings.max_addresses = limit(config.director.service_limit + 4096);
    settings.max_endpoints = limit(config.director.service_limit + config.director.server_limit);
    Ok(settings)
}

/// One answer for all ports: their frames lie in one memory.
fn zero_copy(ports: &[Port]) -> Result<ZeroCopy> {
    let has = |wanted| ports.iter().any(|port| port.zero_copy == wanted);
    match (has(config::ZeroCopy::On), has(config::ZeroCopy::Off)) {
        (true, true) => bail!(
            "zero_copy is \"on\" for one port and \"off\" for another, but all ports share their frames' memory; give all ports the same value"
        ),
        (true, false) => Ok(ZeroCopy::On),
        (false, true) => Ok(ZeroCopy::Off),
        (false, false) => Ok(ZeroCopy::Auto),
    }
}

fn describe(port: &Port, facts: &DeviceFacts) -> OpenPort {
    let mode = match facts.mode {
        XdpMode::Native => "driver mode",
        XdpMode::Generic => "generic mode",
    };
    let copy = if facts.zero_copy { "zero copy" } else { "copy" };
    OpenPort {
        name: port.name.clone(),
        interface: port.interface.clone(),
        ifindex: facts.ifindex,
        mac: facts.mac,
        queues: facts.receive_queues,
        mode: format!("af_xdp, {mode}, {copy}"),
        // A sender on this machine (veth), or a virtual machine's on its host (virtio), leaves checksums to hardware that is not there. In generic
        // mode any driver can hand over such a packet.
        has_partial_checksums: facts.is_veth || facts.mode == XdpMode::Generic || facts.driver.contains("virtio"),
        interfaces: layers_three(port),
    }
}

struct XdpCapture {
    filter: Filter,
    sockets: SocketCounters,
    workers: usize,
}

impl Capture for XdpCapture {
    fn update(&mut self, rules: &CaptureRules) -> Result<(), String> {
        let class = |class: AddressClass| match class {
            AddressClass::Kernel => af_xdp::AddressClass::Kernel,
            AddressClass::Owned => af_xdp::AddressClass::Owned,
            AddressClass::Shared => af_xdp::AddressClass::Shared,
        };
        let addresses = rules
            .addresses
            .iter()
            .map(|(address, own)| (*address, class(*own)))
            .collect();
        let endpoints = rules.endpoints.iter().map(|own| Endpoint {
            address: own.address,
            port: own.port,
            protocol: own.protocol,
        });
        self.filter
            .update(&addresses, endpoints)
            .map_err(|error| error.to_string())
    }

    fn counters(&self) -> Vec<BackendCounter> {
        let mut all = Vec::new();
        if let Ok(filter) = self.filter.counters() {
            for (name, help, value) in [
                (
                    "xdp_redirected",
                    "Frames that the filter gave to a worker's queue.",
                    filter.redirected,
                ),
                (
                    "xdp_passed",
                    "Frames that the filter left to the kernel.",
                    filter.passed,
                ),
                (
                    "xdp_no_socket",
                    "Frames dropped by the filter: no worker serves their queue.",
                    filter.no_socket,
                ),
            ] {
                all.push(BackendCounter {
                    name,
                    help,
                    port: None,
                    values: vec![value],
                });
            }
        }
        all.extend(self.socket_counters());
        all
    }
}

/// What the kernel counts on a queue's socket: name, meaning, where it stands.
type SocketCounter = (&'static str, &'static str, fn(&QueueCounters) -> u64);

const SOCKET_COUNTERS: [SocketCounter; 5] = [
    (
        "port_rx_ring_full",
        "Frames dropped because a queue was full: its worker is too slow.",
        |queue| queue.rx_ring_full,
    ),
    (
        "port_rx_dropped",
        "Frames that the kernel dropped on the way to a worker for other reasons.",
        |queue| queue.rx_dropped,
    ),
    (
        "port_fill_ring_empty",
        "Times that the kernel found no packet buffer to receive into.",
        |queue| queue.fill_ring_empty,
    ),
    (
        "port_rx_invalid",
        "Packet buffers for receiving that the kernel refused.",
        |queue| queue.rx_invalid,
    ),
    ("port_tx_invalid", "Frames to send that the kernel refused.", |queue| {
        queue.tx_invalid
    }),
];

impl XdpCapture {
    /// By port and worker; worker `i` of `n` serves the queues `i`, `i + n`, ...
    fn socket_counters(&self) -> impl Iterator<Item = BackendCounter> {
        let mut by_port: BTreeMap<u8, [Vec<u64>; SOCKET_COUNTERS.len()]> = BTreeMap::new();
        for queue in self.sockets.read() {
            let zeros = || std::array::from_fn(|_| vec![0; self.workers]);
            let port = by_port.entry(queue.port.0).or_insert_with(zeros);
            for (values, (_, _, read)) in port.iter_mut().zip(SOCKET_COUNTERS) {
                values[queue.queue as usize % self.workers] += read(&queue);
            }
        }
        by_port.into_iter().flat_map(|(port, counters)| {
            let named = SOCKET_COUNTERS.into_iter().zip(counters);
            named.map(move |((name, help, _), values)| BackendCounter {
                name,
                help,
                port: Some(PortIndex(port)),
                values,
            })
        })
    }
}
