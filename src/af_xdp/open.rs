//! Opens all ports in one go.

use super::attach::{Attached, attach_all, foreign_program};
use super::bind::BindMode;
use super::counters::SocketCounters;
use super::device::{Device, DeviceFacts, XdpMode, largest_single_buffer_mtu};
use super::error::Error;
use super::filter::{Filter, FilterLimits};
use super::pool::Pool;
use super::socket::Socket;
use super::umem::Umem;
use super::worker::{AfXdpIo, WorkerPort};
use super::{Settings, ZeroCopy};
use crate::waker::Waker;
use std::collections::HashSet;
use ulvs_dataplane::io::PortIndex;

/// Everything that [`open`] made.
pub struct Opened {
    /// One for each worker, to be moved to its thread.
    pub workers: Vec<AfXdpIo>,
    /// The filter on all devices. It knows no address yet, so all traffic still goes to the kernel. Keep it: dropping it detaches.
    /// Drop it before the workers, or it drops what it has no socket for until then.
    pub filter: Filter,
    /// What was found out about each device, in order.
    pub devices: Vec<DeviceFacts>,
    /// The kernel's counters of each socket.
    pub counters: SocketCounters,
    /// How many frames there are.
    pub frames: u32,
    /// Bytes of memory that they occupy.
    pub frame_memory_bytes: usize,
    /// Whether that memory lies on huge pages.
    pub huge_pages: bool,
}

/// Opens every device for `settings.workers` workers: loads the filter, attaches it, binds a socket to every queue.
///
/// The frame memory stays allocated until the process ends. All else is undone by dropping the result, and by the kernel however
/// the process ends.
///
/// # Errors
/// A sentence with its remedy; nothing stays attached then.
pub fn open(settings: &Settings) -> Result<Opened, Error> {
    check(settings)?;
    let devices: Vec<Device> = settings
        .devices
        .iter()
        .map(|device| Device::find(&device.name))
        .collect::<Result<_, _>>()?;
    for device in &devices {
        check_device(device, settings.workers)?;
    }
    raise_memory_lock_limit();

    let queues: u32 = devices.iter().map(|device| device.receive_queues).sum();
    let mut filter = Filter::load(FilterLimits {
        devices: devices.len() as u32,
        sockets: queues,
        addresses: settings.max_addresses,
        endpoints: settings.max_endpoints,
    })?;
    let attached = attach_all(&mut filter, &devices, &settings.devices)?;

    let frames = frame_count(queues, settings)?;
    let umem = Umem::allocate(frames, settings.frame_size)?;
    let (mode, parts) = bind_all(umem, &devices, &attached, settings)?;
    check_mtu(&devices, settings.frame_size, mode)?;

    let mut workers = Vec::new();
    for (pool, ports) in parts {
        let waker = Waker::new().map_err(|error| Error::call("eventfd", "a worker", error))?;
        workers.push(AfXdpIo::new(umem, pool, ports, waker));
    }
    let counters = register_sockets(&mut filter, &devices, &workers)?;
    let facts = devices
        .iter()
        .zip(attached)
        .zip(&settings.devices)
        .map(|((device, attached), settings)| {
            let has_vlans = settings.vlans.iter().any(|vlan| *vlan != 0);
            let mut warnings = device.warnings(attached.mode, has_vlans);
            warnings.extend(attached.warning);
            facts(device, attached.mode, mode, warnings)
        });
    Ok(Opened {
        devices: facts.collect(),
        workers,
        filter,
        counters,
        frames,
        frame_memory_bytes: umem.mapped_bytes(),
        huge_pages: umem.huge_pages(),
    })
}

fn check(settings: &Settings) -> Result<(), Error> {
    let refuse = |sentence: String| Err(Error::Setting(sentence));
    let mut names = HashSet::new();
    if settings.devices.is_empty() || settings.devices.len() > usize::from(u8::MAX) {
        return refuse(format!(
            "{} AF_XDP ports are configured; there must be 1 to 255",
            settings.devices.len()
        ));
    }
    for device in &settings.devices {
        if !names.insert(&device.name) {
            return refuse(format!(
                "{} is configured as a port twice; remove one of the two",
                device.name
            ));
        }
        if let Some(vlan) = device.vlans.iter().find(|vlan| **vlan > 4094) {
            return refuse(format!(
                "VLAN {vlan} of {} does not exist; VLAN ids are 1 to 4094, 0 means untagged",
                device.name
            ));
        }
        if device.vlans.is_empty() {
            return refuse(format!(
                "{} serves no VLAN; give it at least 0, which means untagged",
                device.name
            ));
        }
    }
    if settings.workers == 0 {
        return refuse("there must be at least one worker".to_owned());
    }
    if ![2048, 4096].contains(&settings.frame_size) {
        return refuse(format!(
            "a frame size of {} bytes is not possible; it must be 2048 or 4096",
            settings.frame_size
        ));
    }
    if !settings.ring_size.is_power_of_two() || !(64..=16384).contains(&settings.ring_size) {
        return refuse(format!(
            "a ring size of {} is not possible; it must be a power of two from 64 to 16384",
            settings.ring_size
        ));
    }
    Ok(())
}

fn check_device(device: &Device, workers: usize) -> Result<(), Error> {
    if let Some(error) = foreign_program(device) {
        return Err(error);
    }
    check_queues(device, workers)
}

/// Each worker needs a queue of its own that both receives and sends.
pub(super) fn check_queues(device: &Device, workers: usize) -> Result<(), Error> {
    let queues = device.paired_queues();
    if (queues as usize) < workers {
        return Err(Error::TooFewQueues {
            device: device.name.clone(),
            queues,
            workers,
            remedy: device.queue_remedy(workers),
        });
    }
    Ok(())
}

/// Old kernels count maps and frame memory against this limit. Without the right to raise it, the call that needs memory fails
/// with a sentence of its own.
fn raise_memory_lock_limit() {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: a valid pointer to a limit, which the kernel only reads.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
}

/// As many frames as configured, or for the worst case: all rings full, and each worker's own stock.
pub(super) fn frame_count(queues: u32, settings: &Settings) -> Result<u32, Error> {
    // What the completion ring holds is taken back on every loop.
    let in_rings = u64::from(queues) * 3 * u64::from(settings.ring_size);
    let Some(frames) = settings.frames else {
        let stocks = settings.workers as u64 * 2 * u64::from(stock(settings));
        return to_count(in_rings + stocks);
    };
    let shares = settings.workers as u64 * settings.devices.len() as u64;
    let wanted = u64::from(frames) * shares;
    if wanted < in_rings {
        return Err(Error::Setting(format!(
            "frames = {frames} per worker and port makes {wanted} packet buffers, but the rings of the {queues} queue(s) hold {in_rings}: \
             set frames in [director] to at least {}, or to 0 to have it computed",
            in_rings.div_ceil(shares)
        )));
    }
    to_count(wanted)
}

/// Frames are numbered in 32 bits.
fn to_count(frames: u64) -> Result<u32, Error> {
    u32::try_from(frames).map_err(|_| {
        Error::Setting(format!(
            "{frames} packet buffers are more than there can be ({}): lower frames in [director], or give the ports fewer queues",
            u32::MAX
        ))
    })
}

/// Free frames that a worker wants at hand.
fn stock(settings: &Settings) -> u32 {
    settings.ring_size.max(512)
}

/// A worker's free list and its queues.
type WorkerPart = (Pool, Vec<WorkerPort>);

/// Binds all queues in the first way that the kernel and the drivers allow.
fn bind_all(
    umem: &'static Umem,
    devices: &[Device],
    attached: &[Attached],
    settings: &Settings,
) -> Result<(BindMode, Vec<WorkerPart>), Error> {
    let largest_mtu = largest_single_buffer_mtu(settings.frame_size);
    let jumbo = devices.iter().any(|device| device.link.mtu > largest_mtu);
    let all_native = attached.iter().all(|attached| attached.mode == XdpMode::Native);
    let modes = bind_modes(settings, all_native, jumbo);
    for (i, mode) in modes.iter().enumerate() {
        match bind_all_as(umem, devices, settings, *mode) {
            Ok(parts) => return Ok((*mode, parts)),
            Err(Error::Call { .. }) if i + 1 < modes.len() => {}
            Err(Error::Call { device, source, .. }) if mode.zero_copy => {
                let driver = devices
                    .iter()
                    .find(|found| found.name == device)
                    .map(|device| device.driver.clone());
                return Err(Error::NoZeroCopy {
                    device,
                    driver: driver.unwrap_or_default(),
                    source,
                });
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::Setting(
        "zero_copy = \"on\" needs native XDP on every port, but one runs in generic mode: set zero_copy = \"auto\""
            .to_owned(),
    ))
}

/// The ways to bind, the best first. Multi-buffer costs zero-copy on many drivers, so there it is only asked for when needed.
fn bind_modes(settings: &Settings, all_native: bool, jumbo: bool) -> Vec<BindMode> {
    let mut modes = Vec::new();
    if settings.zero_copy != ZeroCopy::Off && all_native {
        modes.push(BindMode {
            zero_copy: true,
            multi_buffer: jumbo && settings.multi_buffer,
        });
    }
    if settings.zero_copy != ZeroCopy::On {
        if settings.multi_buffer {
            modes.push(BindMode {
                zero_copy: false,
                multi_buffer: true,
            });
        }
        modes.push(BindMode {
            zero_copy: false,
            multi_buffer: false,
        });
    }
    modes
}

fn bind_all_as(
    umem: &'static Umem,
    devices: &[Device],
    settings: &Settings,
    mode: BindMode,
) -> Result<Vec<WorkerPart>, Error> {
    let shared = Pool::share(umem.chunk_count());
    let total = umem.chunk_count() as usize;
    let mut parts: Vec<WorkerPart> = (0..settings.workers)
        .map(|_| (Pool::new(shared.clone(), total, stock(settings) as usize), Vec::new()))
        .collect();
    let mut first = None;
    for device in devices {
        for (_, ports) in &mut parts {
            ports.push(WorkerPort {
                sockets: Vec::new(),
                sender: 0,
                next: 0,
            });
        }
        for queue in 0..device.receive_queues {
            let (pool, ports) = &mut parts[queue as usize % settings.workers];
            let socket = Socket::open(umem, first, device, queue, settings.ring_size, mode, pool)?;
            first = first.or(Some(socket.raw_fd()));
            if let Some(port) = ports.last_mut() {
                port.sockets.push(socket);
            }
        }
        for port in parts.iter_mut().filter_map(|(_, ports)| ports.last_mut()) {
            // There is one: each worker's first queue both receives and sends, see check_device.
            port.sender = port.sockets.iter().position(Socket::sends).unwrap_or(0);
        }
    }
    Ok(parts)
}

fn check_mtu(devices: &[Device], frame_size: u32, mode: BindMode) -> Result<(), Error> {
    let largest = largest_single_buffer_mtu(frame_size);
    match devices.iter().find(|device| device.link.mtu > largest) {
        Some(device) if !mode.multi_buffer => Err(Error::MtuTooLarge {
            device: device.name.clone(),
            mtu: device.link.mtu,
            frame_size,
            largest,
        }),
        _ => Ok(()),
    }
}

/// Tells the filter where each queue's socket is.
fn register_sockets(filter: &mut Filter, devices: &[Device], workers: &[AfXdpIo]) -> Result<SocketCounters, Error> {
    let mut sockets = Vec::new();
    let mut first_socket = 0;
    for (index, device) in devices.iter().enumerate() {
        for queue in 0..device.receive_queues {
            let (worker, position) = (queue as usize % workers.len(), queue as usize / workers.len());
            let socket = &workers[worker].ports()[index].sockets[position];
            filter.set_socket(first_socket + queue, socket.raw_fd())?;
            sockets.push((PortIndex(index as u8), queue, socket.weak_fd()));
        }
        first_socket += device.receive_queues;
    }
    Ok(SocketCounters { sockets })
}

fn facts(device: &Device, xdp_mode: XdpMode, bind_mode: BindMode, warnings: Vec<String>) -> DeviceFacts {
    DeviceFacts {
        name: device.name.clone(),
        ifindex: device.ifindex,
        mac: device.link.mac,
        mtu: device.link.mtu,
        receive_queues: device.receive_queues,
        transmit_queues: device.transmit_queues,
        driver: device.driver.clone(),
        is_veth: device.is_veth(),
        mode: xdp_mode,
        zero_copy: bind_mode.zero_copy,
        multi_buffer: bind_mode.multi_buffer,
        warnings,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::af_xdp::DeviceSettings;

    fn frames(of: u32, queues: u32) -> Result<u32, String> {
        let settings = Settings {
            workers: 2,
            frames: Some(of),
            ..Settings::new(vec![DeviceSettings::new("a"), DeviceSettings::new("b")])
        };
        frame_count(queues, &settings).map_err(|error| error.to_string())
    }

    #[test]
    fn configured_frames_must_fill_the_rings() {
        // One queue for each of two workers on each of two devices: what the configuration's check promises to be enough.
        assert_eq!(frames(6144, 4), Ok(4 * 6144));
        assert_eq!(frames(20_000, 4), Ok(80_000));
        let told = frames(6143, 4).unwrap_err();
        assert!(told.contains("to at least 6144"), "{told}");
        let told = frames(6144, 5).unwrap_err();
        assert!(
            told.contains("5 queue(s)") && told.contains("to at least 7680"),
            "{told}"
        );
        assert_eq!(frames(7680, 5), Ok(4 * 7680));
        let told = frames(u32::MAX, 4).unwrap_err();
        assert!(told.contains("lower frames"), "{told}");
    }
}
