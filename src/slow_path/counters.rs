//! What became of frames on the slow path, by port and class.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ulvs_control::capture::BackendCounter;
use ulvs_dataplane::io::PortIndex;

use super::classify::Class;
use super::shared::Shared;

/// One class of one port.
#[derive(Debug, Default)]
pub(super) struct ClassCounters {
    pub(super) punted: AtomicU64,
    pub(super) punt_ring_full: AtomicU64,
    pub(super) punt_rate_limited: AtomicU64,
    pub(super) punt_too_long: AtomicU64,
    pub(super) punt_refused: AtomicU64,
    pub(super) injected: AtomicU64,
    pub(super) inject_ring_full: AtomicU64,
}

/// A counter's name and meaning, and where it stands.
type Row = (&'static str, &'static str, fn(&ClassCounters) -> &AtomicU64);

/// The rows of one class.
macro_rules! rows {
    ($class:literal, $what:literal) => {
        [
            (
                concat!("slow_path_punted_", $class),
                concat!("Frames handed to the kernel: ", $what),
                |of| &of.punted,
            ),
            (
                concat!("slow_path_punt_ring_full_", $class),
                concat!(
                    "Frames for the kernel dropped because the thread that hands them over is too slow: ",
                    $what
                ),
                |of| &of.punt_ring_full,
            ),
            (
                concat!("slow_path_punt_rate_limited_", $class),
                concat!(
                    "Frames for the kernel dropped because there were more than their limit per second: ",
                    $what
                ),
                |of| &of.punt_rate_limited,
            ),
            (
                concat!("slow_path_punt_too_long_", $class),
                concat!(
                    "Frames for the kernel dropped because they are longer than the port's MTU: ",
                    $what
                ),
                |of| &of.punt_too_long,
            ),
            (
                concat!("slow_path_punt_refused_", $class),
                concat!("Frames that the kernel did not take, as when the twin is down: ", $what),
                |of| &of.punt_refused,
            ),
            (
                concat!("slow_path_injected_", $class),
                concat!("Frames of the kernel's that a worker took to send: ", $what),
                |of| &of.injected,
            ),
            (
                concat!("slow_path_inject_ring_full_", $class),
                concat!(
                    "Frames of the kernel's dropped because the worker that sends them is too slow: ",
                    $what
                ),
                |of| &of.inject_ring_full,
            ),
        ]
    };
}

const ROWS: [[Row; 7]; Class::ALL.len()] = [
    rows!("urgent", "VRRP, BFD, OSPF, LACP and the like, from this link."),
    rows!("routing", "BGP and other routing protocols."),
    rows!("neighbour", "ARP, neighbour discovery, IGMP."),
    rows!("rest", "everything else."),
];

/// Reads the counters from any thread.
#[derive(Clone)]
pub struct Counters(Arc<Shared>);

impl Counters {
    pub(super) fn new(shared: Arc<Shared>) -> Counters {
        Counters(shared)
    }

    /// All of them, as the backend's `Capture::counters` shows them.
    pub fn read(&self) -> Vec<BackendCounter> {
        let mut all = Vec::new();
        for (port, lanes) in self.0.ports.iter().enumerate() {
            for (counters, rows) in lanes.counters.iter().zip(ROWS) {
                all.extend(rows.into_iter().map(|(name, help, read)| BackendCounter {
                    name,
                    help,
                    port: Some(PortIndex(port as u8)),
                    values: vec![read(counters).load(Ordering::Relaxed)],
                }));
            }
        }
        all
    }
}
