//! Puts the filter onto devices, and explains why a device refuses it.

use super::device::{Device, XdpMode};
use super::error::Error;
use super::filter::{FILTER_PROGRAMS, Filter, os_error};
use super::{AttachMode, DeviceSettings};
use std::io;

/// How the program got onto a device.
pub(super) struct Attached {
    pub mode: XdpMode,
    /// Why it is not the best mode.
    pub warning: Option<String>,
}

/// Attaches the filter to every device, in the mode that its settings ask for.
pub(super) fn attach_all(
    filter: &mut Filter,
    devices: &[Device],
    settings: &[DeviceSettings],
) -> Result<Vec<Attached>, Error> {
    let mut first_socket = 0;
    let mut attached = Vec::new();
    for (device, device_settings) in devices.iter().zip(settings) {
        filter.set_port(
            device.ifindex,
            first_socket,
            device.receive_queues,
            &device_settings.vlans,
        )?;
        attached.push(attach(filter, device, device_settings.mode)?);
        first_socket += device.receive_queues;
    }
    Ok(attached)
}

fn attach(filter: &mut Filter, device: &Device, wanted: AttachMode) -> Result<Attached, Error> {
    let mut warning = None;
    if wanted != AttachMode::Generic {
        match filter.attach(device, XdpMode::Native) {
            Ok(()) => {
                return Ok(Attached {
                    mode: XdpMode::Native,
                    warning: None,
                });
            }
            Err(error) => {
                let error = native_error(device, os_error(&error));
                if wanted == AttachMode::Native
                    || matches!(error, Error::NotPermitted { .. } | Error::ProgramAttached { .. })
                {
                    return Err(error);
                }
                warning = Some(format!(
                    "{} runs XDP in generic mode, which is much slower: {error}",
                    device.name
                ));
            }
        }
    }
    match filter.attach(device, XdpMode::Generic) {
        Ok(()) => Ok(Attached {
            mode: XdpMode::Generic,
            warning,
        }),
        Err(error) => Err(attach_error(
            device,
            "generic",
            os_error(&error),
            "use another kind of port for this interface",
        )),
    }
}

/// The kernel explains a refusal in words only to netlink; a BPF link gets no more than the error number.
fn native_error(device: &Device, error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOSPC) if device.is_veth() => Error::VethQueues {
            device: device.name.clone(),
            receive_queues: device.receive_queues,
        },
        Some(libc::ERANGE | libc::EINVAL) if device.link.mtu > 1500 => Error::MtuRefused {
            device: device.name.clone(),
            driver: device.driver.clone(),
            mtu: device.link.mtu,
        },
        _ => attach_error(device, "native", error, "set mode = \"generic\" for this interface"),
    }
}

fn attach_error(device: &Device, mode: &'static str, source: io::Error, remedy: &'static str) -> Error {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => Error::NotPermitted {
            action: format!("attaching the XDP filter to {}", device.name),
        },
        // Somebody was faster than us.
        Some(libc::EBUSY | libc::EEXIST) => Device::find(&device.name)
            .ok()
            .and_then(|device| foreign_program(&device))
            .unwrap_or_else(|| Error::call("attaching the XDP filter", &device.name, source)),
        _ => Error::NotAttached {
            device: device.name.clone(),
            driver: device.driver.clone(),
            mode,
            source,
            remedy,
        },
    }
}

/// Somebody's XDP program on the device. We never replace it: it may be a firewall.
pub(super) fn foreign_program(device: &Device) -> Option<Error> {
    let (mode, id) = device.link.program?;
    // XDP_ATTACHED_DRV, _SKB, _HW, _MULTI (linux/if_link.h)
    let (mode, remedy) = match mode {
        1 => ("native", "xdpdrv"),
        2 => ("generic", "xdpgeneric"),
        3 => ("offloaded", "xdpoffload"),
        _ => ("several", "xdp"),
    };
    let program = program_name(id).unwrap_or_else(|| "unknown".to_owned());
    Some(Error::ProgramAttached {
        device: device.name.clone(),
        program,
        id,
        mode,
        remedy,
    })
}

/// Whether a director's filter is on the device, as far as its name tells; none when there is a program whose name may not be asked for.
pub(super) fn has_own_filter(device: &Device) -> Option<bool> {
    let Some((_, id)) = device.link.program else {
        return Some(false);
    };
    program_name(id).map(|name| FILTER_PROGRAMS.contains(&name.as_str()))
}

/// The name of a loaded program; none when there is none, or without the right to ask.
fn program_name(id: u32) -> Option<String> {
    let program = aya::programs::loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id)?;
    program.name_as_str().map(str::to_owned)
}
