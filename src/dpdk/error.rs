//! What can go wrong while DPDK is set up: each error is a sentence with its remedy.

use std::ffi::CStr;

use super::ffi;

/// Why the DPDK backend could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that cannot be.
    #[error("{0}")]
    Setting(String),

    /// Too few huge pages, and nothing else allowed.
    #[error(
        "DPDK needs {needed_mib} MiB of huge pages and {free_mib} MiB are free: `{remedy}`, or set huge_pages = \"auto\" in [dpdk] to do without"
    )]
    HugePages {
        /// What was computed.
        needed_mib: u64,
        /// What there is.
        free_mib: u64,
        /// The command.
        remedy: String,
    },

    /// `rte_eal_init` failed.
    #[error(
        "DPDK could not be started: {reason}. Its own messages stand above; ULVS_LOG=debug shows them all. It was asked with: {arguments}"
    )]
    Eal {
        /// DPDK's word for it.
        reason: String,
        /// The whole line.
        arguments: String,
    },

    /// A configured device has no port.
    #[error("port {port}: DPDK has no network port {device}: {remedy}")]
    NoSuchDevice {
        /// The port's name.
        port: String,
        /// As configured.
        device: String,
        /// What to do.
        remedy: String,
    },

    /// More workers than queues.
    #[error(
        "port {port} ({driver}) has {receive_queues} receive and {transmit_queues} send queue(s) for {workers} workers, but each worker needs one of \
         each on every port: set the number of workers to {most}{remedy}"
    )]
    TooFewQueues {
        /// The port's name.
        port: String,
        /// Its driver.
        driver: String,
        /// Receive queues.
        receive_queues: u16,
        /// Send queues.
        transmit_queues: u16,
        /// The configured number.
        workers: usize,
        /// What is possible.
        most: u16,
        /// How to get more queues, where that is known.
        remedy: &'static str,
    },

    /// The MTU is not one that the driver can do.
    #[error("port {port} ({driver}) takes an MTU from {least} to {most}, not {mtu}: change mtu in its [[port]]")]
    Mtu {
        /// The port's name.
        port: String,
        /// Its driver.
        driver: String,
        /// The configured one.
        mtu: u16,
        /// The smallest.
        least: u16,
        /// The largest.
        most: u16,
    },

    /// A pool could not be made.
    #[error(
        "the pool of {frames} packet buffers ({needed_mib} MiB) could not be made: {reason}. Give DPDK more memory: {remedy}"
    )]
    Pool {
        /// How many.
        frames: u32,
        /// What they take.
        needed_mib: u64,
        /// DPDK's word for it.
        reason: String,
        /// What to do.
        remedy: String,
    },

    /// A call about a port failed.
    #[error("port {port} ({driver}): {action} failed: {reason}")]
    Port {
        /// The port's name.
        port: String,
        /// Its driver.
        driver: String,
        /// What was tried ("starting it").
        action: String,
        /// DPDK's word for it.
        reason: String,
    },

    /// A system call failed.
    #[error("{action} failed: {source}")]
    Call {
        /// What was tried.
        action: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// DPDK's text for an errno, without its sign.
pub(super) fn reason(errno: i32) -> String {
    // SAFETY: returns a text that stays valid for this thread until the next call; it is copied at once.
    let text = unsafe { CStr::from_ptr(ffi::rte_strerror(errno.abs())) };
    text.to_string_lossy().into_owned()
}

/// The reason that DPDK left in its own errno on this thread.
pub(super) fn last_reason() -> String {
    // SAFETY: reads a thread-local integer.
    reason(unsafe { ffi::ulvs_errno() })
}
