//! Looks at an interface without opening it: what would stand in the way of AF_XDP.

use super::attach::{foreign_program, has_own_filter};
use super::device::{Device, XdpMode, largest_single_buffer_mtu};
use super::error::Error;
use super::open::{check_queues, frame_count};
use super::xdp_features::{XdpFeatures, xdp_features};
use super::{DeviceSettings, Settings};
use std::io;

/// What was seen of one interface.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Name of its driver.
    pub driver: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// RX queues in use.
    pub receive_queues: u32,
    /// TX queues in use.
    pub transmit_queues: u32,
    /// What its XDP can do; none: the kernel does not say (before 6.3).
    pub features: Option<XdpFeatures>,
    /// Whether a director's filter is attached; none: some XDP program is, and without root its name is not seen.
    pub has_own_filter: Option<bool>,
    /// Why the director could not start on it, with the remedy.
    pub obstacles: Vec<String>,
    /// What works but should be changed, each with the command: in native mode, or in generic mode where native mode is known to be missing.
    pub warnings: Vec<String>,
}

/// Looks at the interface that `device` names, for a number of workers.
///
/// # Errors
/// `NoSuchDevice`, or a failed call.
pub fn inspect(device: &DeviceSettings, workers: usize) -> Result<Inspection, Error> {
    let found = Device::find(&device.name)?;
    let features = xdp_features(found.ifindex).ok();
    let has_own_filter = has_own_filter(&found);
    let mut obstacles = Vec::new();
    if has_own_filter == Some(false) {
        obstacles.extend(foreign_program(&found));
    }
    obstacles.extend(check_queues(&found, workers).err());
    let mode = match device.mode {
        super::AttachMode::Generic => XdpMode::Generic,
        _ if features.is_some_and(|features| !features.native()) => XdpMode::Generic,
        _ => XdpMode::Native,
    };
    let has_vlans = device.vlans.iter().any(|vlan| *vlan != 0);
    Ok(Inspection {
        warnings: found.warnings(mode, has_vlans),
        mtu: found.link.mtu,
        receive_queues: found.receive_queues,
        transmit_queues: found.transmit_queues,
        driver: found.driver,
        features,
        has_own_filter,
        obstacles: obstacles.iter().map(ToString::to_string).collect(),
    })
}

/// The largest MTU in bytes that works without multi-buffer.
pub fn largest_mtu() -> u32 {
    largest_single_buffer_mtu(Settings::new(Vec::new()).frame_size)
}

/// Bytes of frame memory that ports with `queues` receive queues in all will take.
///
/// # Errors
/// A number of frames that is not possible.
pub fn frame_memory_bytes(queues: u32, settings: &Settings) -> Result<u64, Error> {
    Ok(u64::from(frame_count(queues, settings)?) * u64::from(settings.frame_size))
}

/// Whether this kernel has AF_XDP sockets. A refusal for want of rights comes from a kernel that has them.
pub fn kernel_has_af_xdp() -> bool {
    // SAFETY: socket(2) has no memory arguments.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd >= 0 {
        // SAFETY: a descriptor that was just opened and that nobody else owns.
        unsafe { libc::close(fd) };
        return true;
    }
    io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_inspected_without_root() {
        let seen = inspect(&DeviceSettings::new("lo"), 1).unwrap();
        assert_eq!((seen.mtu, seen.has_own_filter), (65536, Some(false)));
        let seen = inspect(&DeviceSettings::new("lo"), 200).unwrap();
        assert!(seen.obstacles[0].contains("200 workers"), "{:?}", seen.obstacles);
    }

    #[test]
    fn frame_memory_is_that_of_the_frames() {
        let settings = Settings::new(vec![DeviceSettings::new("a")]);
        // Three rings of 2048 for the queue, twice 2048 for the worker, 4096 bytes each.
        assert_eq!(frame_memory_bytes(1, &settings).unwrap(), 5 * 2048 * 4096);
    }
}
