//! The DPDK backend as the rest of the director sees it.

use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result};
use tracing::{info, warn};
use ulvs_control::capture::{BackendCounter, Capture, CaptureRules};
use ulvs_control::config::{self, Config, Port};
use ulvs_control::forwarding::OpenPort;
use ulvs_dataplane::io::PortIndex;
use ulvs_dataplane::worker::Wake;

use super::{Opened, layers_three};
use crate::dpdk::{self, DeviceSettings, DpdkIo, HugePages, PortCounters, PortFacts, PortStatistics, Settings};
use crate::slow_path::{self, SlowPath, Twin};

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
    for (port, facts) in config.ports.iter().zip(&opened.facts) {
        introduce(port, facts);
    }
    let dpdk = opened.ports;
    match connect_kernel(config, &opened.facts, opened.workers) {
        Ok(kernel) => Ok(Opened {
            workers: kernel.workers,
            ports: kernel.ports,
            capture: Some(Box::new(PortWatch {
                ports: opened.counters,
                slow_path: Rc::clone(&kernel.slow_path),
            })),
            close: Box::new(move || {
                // The twins first: what the kernel sends has no way any more.
                drop(kernel.slow_path);
                dpdk.close();
            }),
        }),
        Err(error) => {
            dpdk.close();
            Err(error)
        }
    }
}

/// Says what a port is.
fn introduce(port: &Port, facts: &PortFacts) {
    info!(
        "port {} ({}): {}, {} queues of {} and {} entries, MTU {}, {}",
        port.name,
        port.device.as_deref().unwrap_or_default(),
        facts.driver,
        facts.queues,
        facts.descriptors.0,
        facts.descriptors.1,
        facts.mtu,
        facts.rss
    );
    info!("port {}: {}", port.name, facts.offloads);
    for warning in &facts.warnings {
        warn!("port {}: {warning}", port.name);
    }
}

/// Workers and ports with their twins in the kernel.
struct WithKernel {
    workers: Vec<(DpdkIo, Wake)>,
    ports: Vec<OpenPort>,
    slow_path: Rc<slow_path::Running>,
}

/// Makes the twins and the way between them and the workers. The first worker sends what the kernel sends.
fn connect_kernel(config: &Config, facts: &[PortFacts], mut workers: Vec<DpdkIo>) -> Result<WithKernel> {
    let twin = |(port, facts): (&Port, &PortFacts)| slow_path::PortSettings {
        name: port.interface.clone(),
        mac: facts.mac,
        mtu: facts.mtu.into(),
    };
    let twins: Vec<_> = config.ports.iter().zip(facts).map(twin).collect();
    let mut slow_path = SlowPath::open(&twins, slow_path::Limits::from(&config.director))?;
    for worker in &mut workers {
        worker.set_way_to_kernel(slow_path.sender());
    }
    for port in (0..config.ports.len()).map(|port| PortIndex(port as u8)) {
        if let (Some(first), Some(injected)) = (workers.first_mut(), slow_path.injected(port)) {
            first.set_way_from_kernel(port, injected);
        }
    }
    let with_waker = |io: DpdkIo| {
        let waker = io.waker();
        (io, Arc::new(move || waker.wake()) as Wake)
    };
    let workers: Vec<(DpdkIo, Wake)> = workers.into_iter().map(with_waker).collect();
    let first = workers.first().map(|(_, wake)| Arc::clone(wake));
    let running = slow_path.start(first.context("there is no worker")?)?;
    let ports = config.ports.iter().zip(facts).zip(running.twins());
    Ok(WithKernel {
        ports: ports.map(|((port, facts), twin)| describe(port, facts, twin)).collect(),
        workers,
        slow_path: Rc::new(running),
    })
}

/// What the configuration asks of DPDK.
pub fn settings(config: &Config) -> Settings {
    let device = |port: &Port| DeviceSettings {
        name: port.name.clone(),
        device: port.device.clone().unwrap_or_default(),
        mtu: port.mtu,
        rss: port.rss,
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

fn describe(port: &Port, facts: &PortFacts, twin: &Twin) -> OpenPort {
    OpenPort {
        name: port.name.clone(),
        interface: twin.name().to_owned(),
        ifindex: twin.ifindex(),
        mac: facts.mac,
        queues: facts.queues.into(),
        mode: format!("dpdk, {}", facts.driver),
        has_partial_checksums: facts.has_partial_checksums,
        interfaces: layers_three(port),
    }
}

/// Under DPDK every frame comes to a worker, so there is no filter to be told; only counters and links.
struct PortWatch {
    ports: PortCounters,
    slow_path: Rc<slow_path::Running>,
}

impl Capture for PortWatch {
    fn update(&mut self, _rules: &CaptureRules) -> Result<(), String> {
        Ok(())
    }

    fn is_left_to_workers(&self) -> bool {
        true
    }

    fn counters(&self) -> Vec<BackendCounter> {
        let ports = self.ports.read();
        let of_port = |(port, statistics): &(_, PortStatistics)| {
            let (port, statistics) = (*port, *statistics);
            PORT_COUNTERS.map(|(name, help, read)| BackendCounter {
                name,
                help,
                port: Some(port),
                values: vec![read(&statistics)],
            })
        };
        let mut all: Vec<BackendCounter> = ports.iter().flat_map(of_port).collect();
        all.extend(self.slow_path.counters().read());
        all
    }

    /// A twin has a link when its port has, so that the kernel's routes and routing programs see what is the case.
    fn watch(&mut self) {
        for (port, is_up) in self.ports.watch_links() {
            let Some(twin) = self.slow_path.twins().get(usize::from(port.0)) else {
                continue;
            };
            if let Err(error) = twin.set_carrier(is_up) {
                warn!(
                    "the kernel could not be told about the link of {}: {error}",
                    twin.name()
                );
            }
        }
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
