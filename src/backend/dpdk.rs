//! The DPDK backend as the rest of the director sees it.

use std::sync::Arc;

use anyhow::{Context, Result};
use tracing::{info, warn};
use ulvs_control::capture::{BackendCounter, Capture, CaptureRules};
use ulvs_control::config::{self, Config, Port};
use ulvs_control::forwarding::OpenPort;
use ulvs_dataplane::worker::Wake;

use super::{Opened, layers_three};
use crate::dpdk::{
    self, DeviceSettings, DpdkIo, HugePages, PortCounters, PortFacts, PortStatistics, RssFacts, Settings,
};

/// Starts DPDK and opens all ports with it.
///
/// # Errors
/// A sentence that says what to do.
pub fn open(config: &Config) -> Result<Opened<DpdkIo>> {
    let opened = dpdk::open(&settings(config))?;
    info!(
        "{} packet buffers, {} MiB{}",
        opened.frames,
        opened.frame_memory_mib,
        if opened.huge_pages { " on huge pages" } else { "" }
    );
    let mut ports = Vec::new();
    for (port, facts) in config.ports.iter().zip(&opened.facts) {
        info!(
            "port {} ({}): {}, {} queues of {} and {} entries, MTU {}, {}",
            port.name,
            port.device.as_deref().unwrap_or_default(),
            facts.driver,
            facts.queues,
            facts.descriptors.0,
            facts.descriptors.1,
            facts.mtu,
            match facts.rss {
                RssFacts::OneQueue => "one queue, no RSS",
                RssFacts::Ours => "RSS by our key and table",
                RssFacts::Unknown => "RSS as the driver does it",
            }
        );
        info!("port {}: {}", port.name, facts.offloads);
        facts
            .warnings
            .iter()
            .for_each(|warning| warn!("port {}: {warning}", port.name));
        ports.push(describe(port, facts)?);
    }
    let with_waker = |io: DpdkIo| {
        let waker = io.waker();
        (io, Arc::new(move || waker.wake()) as Wake)
    };
    let dpdk = opened.ports;
    Ok(Opened {
        workers: opened.workers.into_iter().map(with_waker).collect(),
        ports,
        capture: Some(Box::new(PortWatch(opened.counters))),
        close: Box::new(move || dpdk.close()),
    })
}

fn settings(config: &Config) -> Settings {
    let device = |port: &Port| DeviceSettings {
        name: port.name.clone(),
        device: port.device.clone().unwrap_or_default(),
        mtu: port.mtu,
    };
    Settings {
        workers: config.director.worker_count(),
        cores: config.director.cores.clone(),
        frames: (config.director.frames != 0).then_some(config.director.frames),
        huge_pages: match config.dpdk.huge_pages {
            config::HugePages::Auto => HugePages::Auto,
            config::HugePages::On => HugePages::On,
            config::HugePages::Off => HugePages::Off,
        },
        memory_mib: (config.dpdk.memory_mib != 0).then_some(config.dpdk.memory_mib),
        eal_arguments: config.dpdk.eal_arguments.clone(),
        ..Settings::new(config.ports.iter().map(device).collect())
    }
}

fn describe(port: &Port, facts: &PortFacts) -> Result<OpenPort> {
    let ifindex = interface_number(&port.interface).with_context(|| {
        format!(
            "port {}: there is no network interface {} here, whose addresses and routes are the port's",
            port.name, port.interface
        )
    })?;
    Ok(OpenPort {
        name: port.name.clone(),
        interface: port.interface.clone(),
        ifindex,
        mac: facts.mac,
        queues: facts.queues.into(),
        mode: format!("dpdk, {}", facts.driver),
        has_partial_checksums: facts.has_partial_checksums,
        interfaces: layers_three(port),
    })
}

/// The kernel's number for an interface.
fn interface_number(name: &str) -> std::io::Result<u32> {
    let name = std::ffi::CString::new(name)?;
    // SAFETY: a C string that lives until the call returns.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(std::io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Under DPDK every frame comes to a worker, so there is no filter to be told; only counters and links.
struct PortWatch(PortCounters);

impl Capture for PortWatch {
    fn update(&mut self, _rules: &CaptureRules) -> Result<(), String> {
        Ok(())
    }

    fn counters(&self) -> Vec<BackendCounter> {
        let ports = self.0.read();
        let of_port = |(port, statistics): &(_, PortStatistics)| {
            let (port, statistics) = (*port, *statistics);
            PORT_COUNTERS.map(|(name, help, read)| BackendCounter {
                name,
                help,
                port: Some(port),
                values: vec![read(&statistics)],
            })
        };
        ports.iter().flat_map(of_port).collect()
    }

    fn watch(&mut self) {
        self.0.watch_links();
    }
}

/// What a port counts: name, meaning, where it stands.
type PortCounter = (&'static str, &'static str, fn(&PortStatistics) -> u64);

const PORT_COUNTERS: [PortCounter; 6] = [
    ("port_rx_frames", "Frames that the port received.", |port| port.received),
    ("port_tx_frames", "Frames that the port sent.", |port| port.sent),
    (
        "port_rx_missed",
        "Frames dropped because a queue was full: its worker is too slow.",
        |port| port.missed,
    ),
    ("port_rx_errors", "Frames that arrived damaged.", |port| {
        port.receive_errors
    }),
    ("port_tx_errors", "Frames that the port could not send.", |port| {
        port.send_errors
    }),
    (
        "port_rx_no_buffer",
        "Frames dropped because no packet buffer was free.",
        |port| port.no_buffer,
    ),
];
