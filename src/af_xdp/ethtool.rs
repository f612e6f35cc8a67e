//! The few questions that only ethtool's ioctl answers: driver, channels, offloads.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

// linux/ethtool.h
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GGSO: u32 = 0x23;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETH_FLAG_TXVLAN: u32 = 1 << 7;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;

/// `struct ethtool_drvinfo`
#[repr(C)]
struct DriverInformation {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

/// `struct ethtool_channels`
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    maximum: [u32; 4],
    receive: u32,
    transmit: u32,
    other: u32,
    combined: u32,
}

/// `struct ethtool_value`
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// What can be asked with ethtool's ioctl; implemented by the structs above only.
///
/// # Safety
/// The implementing type is `repr(C)`, starts with the command and is as long as the kernel writes for it.
unsafe trait Question {}
// SAFETY: the layout is that of struct ethtool_drvinfo, 196 bytes.
unsafe impl Question for DriverInformation {}
// SAFETY: the layout is that of struct ethtool_channels, 36 bytes.
unsafe impl Question for Channels {}
// SAFETY: the layout is that of struct ethtool_value, 8 bytes.
unsafe impl Question for Value {}
const _: () = assert!(size_of::<DriverInformation>() == 196 && size_of::<Channels>() == 36);

fn ask<Q: Question>(device: &str, question: &mut Q) -> io::Result<()> {
    // SAFETY: socket(2) has no memory arguments.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just opened and that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if device.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = std::ptr::from_mut(question).cast();
    // SAFETY: `request` and what it points to are valid for the call, and `Question` promises the right layout.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The name of the driver, or `unknown`.
pub(super) fn driver(device: &str) -> String {
    let mut information = DriverInformation {
        command: ETHTOOL_GDRVINFO,
        driver: [0; 32],
        rest: [0; 160],
    };
    if ask(device, &mut information).is_err() {
        return "unknown".to_owned();
    }
    String::from_utf8_lossy(&information.driver)
        .trim_end_matches('\0')
        .to_owned()
}

/// RX and TX queues in use, if the driver tells.
pub(super) fn queues(device: &str) -> Option<(u32, u32)> {
    let mut channels = Channels {
        command: ETHTOOL_GCHANNELS,
        ..Channels::default()
    };
    ask(device, &mut channels).ok()?;
    let (receive, transmit) = (
        channels.combined + channels.receive,
        channels.combined + channels.transmit,
    );
    (receive > 0 && transmit > 0).then_some((receive, transmit))
}

fn value(device: &str, command: u32) -> u32 {
    let mut value = Value { command, data: 0 };
    ask(device, &mut value).map_or(0, |()| value.data)
}

/// Whether the device takes VLAN tags off what it receives.
pub(super) fn strips_vlan_tags(device: &str) -> bool {
    value(device, ETHTOOL_GFLAGS) & ETH_FLAG_RXVLAN != 0
}

/// Whether VLAN tags are handed to the device beside the frame instead of in it.
pub(super) fn sends_vlan_tags_aside(device: &str) -> bool {
    value(device, ETHTOOL_GFLAGS) & ETH_FLAG_TXVLAN != 0
}

/// Whether the device joins received segments (GRO).
pub(super) fn joins_segments(device: &str) -> bool {
    value(device, ETHTOOL_GGRO) != 0
}

/// Whether the device is sent segments larger than its MTU (GSO).
pub(super) fn is_sent_large_segments(device: &str) -> bool {
    value(device, ETHTOOL_GGSO) != 0
}
