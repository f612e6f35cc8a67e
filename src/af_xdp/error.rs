//! What can go wrong while AF_XDP is set up: each error is a sentence with its remedy.

use std::io;

/// Why the AF_XDP backend could not start, or its filter could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configured interface is not there.
    #[error(
        "there is no network interface {name} here; there are: {existing}. Correct the name, or create the interface first"
    )]
    NoSuchDevice {
        /// As configured.
        name: String,
        /// The names that exist, separated by commas.
        existing: String,
    },

    /// A capability is missing.
    #[error(
        "{action} is not permitted: run as root, or give the program the capabilities CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_PERFMON"
    )]
    NotPermitted {
        /// What was tried ("loading the XDP filter").
        action: String,
    },

    /// The kernel was built without AF_XDP.
    #[error(
        "this kernel has no AF_XDP sockets; use Linux 5.11 or newer built with CONFIG_XDP_SOCKETS, or another kind of port than af_xdp"
    )]
    NoAfXdp,

    /// More workers than queues.
    #[error(
        "{device} has {queues} queue(s) for {workers} workers, but each worker needs a queue of its own on every port: set the number \
         of workers to {queues}, or give the interface more queues ({remedy})"
    )]
    TooFewQueues {
        /// The interface.
        device: String,
        /// Its queues that can receive and send.
        queues: u32,
        /// The configured number of workers.
        workers: usize,
        /// The command.
        remedy: String,
    },

    /// veth refuses native XDP when its peer may send on more queues than it receives on.
    #[error(
        "the veth {device} cannot run XDP natively: it receives on {receive_queues} queue(s), fewer than its peer sends on; create the pair \
         with as many on both sides (ip link add {device} numrxqueues N numtxqueues N type veth peer name PEER numrxqueues N numtxqueues \
         N), or run `ethtool -L {device} rx N`, or `ethtool -L PEER tx {receive_queues}` on the other side, or set mode = \"generic\""
    )]
    VethQueues {
        /// The interface.
        device: String,
        /// Its RX queues.
        receive_queues: u32,
    },

    /// Frames of this MTU do not fit and the kernel or driver has no multi-buffer.
    #[error(
        "the MTU of {device} is {mtu}, but without multi-buffer, which is off or which this kernel or driver lacks, a frame of {frame_size} bytes \
         carries at most {largest}: ip link set dev {device} mtu {largest}"
    )]
    MtuTooLarge {
        /// The interface.
        device: String,
        /// Its MTU in bytes.
        mtu: u32,
        /// Size of a frame buffer in bytes.
        frame_size: u32,
        /// The largest MTU in bytes that works.
        largest: u32,
    },

    /// The driver refuses the program with an error that only the MTU explains.
    #[error(
        "the driver {driver} of {device} refuses native XDP with an MTU of {mtu} bytes: lower it (ip link set dev {device} mtu 1500), or set \
         mode = \"generic\""
    )]
    MtuRefused {
        /// The interface.
        device: String,
        /// Its driver.
        driver: String,
        /// Its MTU in bytes.
        mtu: u32,
    },

    /// The memory of the frames may not be locked.
    #[error(
        "the kernel refused to lock {bytes} bytes of frame memory: raise the limit (LimitMEMLOCK=infinity in the systemd unit, ulimit -l \
         unlimited in a shell), or give the program CAP_IPC_LOCK"
    )]
    LockedMemory {
        /// Size of the frame memory.
        bytes: usize,
    },

    /// There is not enough memory for the frames.
    #[error(
        "there is no room for {bytes} bytes of frame memory ({source}): lower frames in [director], give the ports fewer queues, or add memory"
    )]
    OutOfMemory {
        /// Size of the frame memory.
        bytes: usize,
        /// The kernel's answer.
        source: io::Error,
    },

    /// Somebody else's XDP program is on the interface.
    #[error(
        "{device} already runs the XDP program {program:?} (id {id}, {mode} mode): stop the program that attached it, or remove it with \
         `ip link set dev {device} {remedy} off`"
    )]
    ProgramAttached {
        /// The interface.
        device: String,
        /// Name of the program, as `bpftool prog` shows it.
        program: String,
        /// Its id.
        id: u32,
        /// native, generic or offloaded.
        mode: &'static str,
        /// The keyword of `ip link`.
        remedy: &'static str,
    },

    /// Another AF_XDP socket is bound to the queue.
    #[error(
        "queue {queue} of {device} is bound by another AF_XDP socket: stop the other program that uses this interface (`ss --xdp -ap` names it)"
    )]
    QueueInUse {
        /// The interface.
        device: String,
        /// The queue.
        queue: u32,
    },

    /// The driver cannot do zero-copy although `zero_copy = "on"` asks for it.
    #[error(
        "zero_copy = \"on\", but {device} (driver {driver}) cannot receive without copying, at least not with these settings ({source}): set \
         zero_copy = \"auto\" or \"off\""
    )]
    NoZeroCopy {
        /// The interface.
        device: String,
        /// Its driver.
        driver: String,
        /// The kernel's answer.
        source: io::Error,
    },

    /// The program cannot be attached in any allowed mode.
    #[error("{device} (driver {driver}) does not accept an XDP program in {mode} mode ({source}): {remedy}")]
    NotAttached {
        /// The interface.
        device: String,
        /// Its driver.
        driver: String,
        /// The last mode tried.
        mode: &'static str,
        /// The kernel's answer.
        source: io::Error,
        /// What to change.
        remedy: &'static str,
    },

    /// The kernel does not load the filter.
    #[error("the kernel does not load the XDP filter ({0}); Linux 5.18 or newer with CONFIG_BPF_SYSCALL is needed")]
    NotLoaded(String),

    /// More entries than the map has room for.
    #[error(
        "{wanted} {map} do not fit into the XDP filter, which was started with room for {limit}: raise the limit in the configuration and restart"
    )]
    MapFull {
        /// `addresses` or `endpoints`.
        map: &'static str,
        /// How many there should be.
        wanted: usize,
        /// How many there can be.
        limit: u32,
    },

    /// A map operation failed.
    #[error("the map {map} of the XDP filter cannot be changed: {reason}; the earlier entries are still in force")]
    Map {
        /// The map.
        map: &'static str,
        /// The kernel's answer.
        reason: String,
    },

    /// A setting is out of range.
    #[error("{0}")]
    Setting(String),

    /// Any other call.
    #[error("{action} failed for {device}: {source}; the kernel's log (dmesg) may say more")]
    Call {
        /// What was tried.
        action: &'static str,
        /// The interface, or what else it was about.
        device: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// Wraps a failed call, telling apart what has a remedy of its own.
    pub(super) fn call(action: &'static str, device: &str, source: io::Error) -> Error {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Error::NotPermitted {
                action: format!("{action} for {device}"),
            },
            Some(libc::EAFNOSUPPORT) => Error::NoAfXdp,
            _ => Error::Call {
                action,
                device: device.to_owned(),
                source,
            },
        }
    }
}
