//! The XDP filter in the kernel, seen from the control side: loading, attaching, and keeping its maps in step.
//!
//! The program is `filter.bpf.c` beside this file; keys and values here have the layout that it declares.

use super::device::{Device, XdpMode};
use super::error::Error;
use aya::maps::{HashMap as KernelHashMap, MapData, PerCpuArray, XskMap};
use aya::programs::{ProgramError, Xdp, XdpFlags};
use aya::{Ebpf, EbpfLoader, Pod};
use std::collections::HashMap;
use std::hash::Hash;
use std::os::fd::RawFd;
use ulvs_dataplane::address::Address;

/// The filter for frames in several buffers.
const FRAGS_PROGRAM: &str = "filter_frags";
/// The filter for drivers without those.
const LINEAR_PROGRAM: &str = "filter_linear";
/// The names by which a director's filter is recognised.
pub(super) const FILTER_PROGRAMS: [&str; 2] = [FRAGS_PROGRAM, LINEAR_PROGRAM];

#[cfg(test)]
mod tests;

static PROGRAM: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/filter.bpf.o"));

/// Who an address of the director belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressClass {
    /// An address of the director's own kernel: everything sent to it is passed to the kernel.
    Kernel,
    /// A VIP or a local address of FullNAT that the kernel does not hold: everything sent to it, and ARP and neighbour
    /// solicitations for it, come to the director.
    Owned,
    /// A VIP that the kernel holds too, and answers ARP for: only what a service claims comes to the director.
    Shared,
}

/// A virtual service, or a real server whose replies pass through the director (NAT).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// VIP or address of the real server.
    pub address: Address,
    /// Port; 0 means every port.
    pub port: u16,
    /// IP protocol number (6, 17, 132).
    pub protocol: u8,
}

/// What the filter did with frames since it was loaded, on all devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterCounters {
    /// Frames handed to an AF_XDP socket (which may still drop them when its ring is full).
    pub redirected: u64,
    /// Frames left to the kernel.
    pub passed: u64,
    /// Frames of the director dropped because no socket is on their queue.
    pub no_socket: u64,
}

/// `struct endpoint`
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct EndpointKey {
    address: [u8; 16],
    port: [u8; 2],
    protocol: u8,
    zero: u8,
}

/// `struct port`
#[repr(C)]
#[derive(Clone, Copy)]
struct PortValue {
    first_socket: u32,
    queue_count: u32,
    vlans: [u64; 64],
}

// SAFETY: plain bytes without padding.
unsafe impl Pod for EndpointKey {}
// SAFETY: integers without padding.
unsafe impl Pod for PortValue {}

// enum address_class
const CLASS_KERNEL: u32 = 1;
const CLASS_OWNED: u32 = 2;
const CLASS_SHARED: u32 = 3;

// enum endpoint_class
const ENDPOINT_PORT: u32 = 1;
const ENDPOINT_FRAGMENT: u32 = 2;
const ENDPOINT_ANY_PORT: u32 = 3;

// enum counter
const REDIRECTED: u32 = 0;
const PASSED: u32 = 1;
const NO_SOCKET: u32 = 2;

/// How large the filter's maps are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct FilterLimits {
    pub devices: u32,
    pub sockets: u32,
    pub addresses: u32,
    pub endpoints: u32,
}

/// The loaded filter. Dropping it (also by the end of the process, however it ends) takes the program off every device.
pub struct Filter {
    ebpf: Ebpf,
    has_frags_program: bool,
    limits: FilterLimits,
    ports: KernelHashMap<MapData, u32, PortValue>,
    sockets: XskMap<MapData>,
    addresses: Mirror<[u8; 16]>,
    endpoints: Mirror<EndpointKey>,
    counters: PerCpuArray<MapData, u64>,
}

impl Filter {
    /// Loads the program; it is attached to nothing yet.
    pub(super) fn load(limits: FilterLimits) -> Result<Filter, Error> {
        let mut ebpf = EbpfLoader::new()
            .set_max_entries("ports", limits.devices.max(1))
            .set_max_entries("sockets", limits.sockets.max(1))
            // Twice the limit: a change adds everything new before it takes away what is old.
            .set_max_entries("addresses", limits.addresses.max(1).saturating_mul(2))
            // And twice again: each endpoint may bring an entry for its later fragments.
            .set_max_entries("endpoints", limits.endpoints.max(1).saturating_mul(4))
            .load(PROGRAM)
            .map_err(|error| load_error(&error))?;
        xdp(&mut ebpf, LINEAR_PROGRAM)?
            .load()
            .map_err(|error| load_error(&error))?;
        // Refused by kernels before 5.18, where a frame is always one buffer.
        let has_frags_program = xdp(&mut ebpf, FRAGS_PROGRAM)?.load().is_ok();

        Ok(Filter {
            ports: KernelHashMap::try_from(take_map(&mut ebpf, "ports")?).map_err(|error| load_error(&error))?,
            sockets: XskMap::try_from(take_map(&mut ebpf, "sockets")?).map_err(|error| load_error(&error))?,
            addresses: Mirror::new(&mut ebpf, "addresses")?,
            endpoints: Mirror::new(&mut ebpf, "endpoints")?,
            counters: PerCpuArray::try_from(take_map(&mut ebpf, "counters")?).map_err(|error| load_error(&error))?,
            ebpf,
            has_frags_program,
            limits,
        })
    }

    /// Tells the program about a device: its queues and the VLAN ids (0 is untagged) in which it serves the director.
    pub(super) fn set_port(
        &mut self,
        ifindex: u32,
        first_socket: u32,
        queue_count: u32,
        vlans: &[u16],
    ) -> Result<(), Error> {
        let mut value = PortValue {
            first_socket,
            queue_count,
            vlans: [0; 64],
        };
        for vlan in vlans.iter().map(|vlan| usize::from(*vlan & 0x0fff)) {
            value.vlans[vlan >> 6] |= 1 << (vlan & 63);
        }
        self.ports
            .insert(ifindex, value, 0)
            .map_err(|error| map_error("ports", &error))
    }

    /// Puts a socket where the program finds it.
    pub(super) fn set_socket(&mut self, index: u32, fd: RawFd) -> Result<(), Error> {
        self.sockets
            .set(index, fd, 0)
            .map_err(|error| map_error("sockets", &error))
    }

    /// Attaches the program to a device, for multi-buffer frames if the driver takes that.
    pub(super) fn attach(&mut self, device: &Device, mode: XdpMode) -> Result<(), ProgramError> {
        let flags = match mode {
            XdpMode::Native => XdpFlags::DRV_MODE,
            XdpMode::Generic => XdpFlags::SKB_MODE,
        };
        let mut result = Err(ProgramError::NotLoaded);
        if self.has_frags_program {
            result = self.attach_program(FRAGS_PROGRAM, device.ifindex, flags);
        }
        result.or_else(|_| self.attach_program(LINEAR_PROGRAM, device.ifindex, flags))
    }

    fn attach_program(&mut self, name: &str, ifindex: u32, flags: XdpFlags) -> Result<(), ProgramError> {
        let program: &mut Xdp = self.ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?.try_into()?;
        program.attach_to_if_index(ifindex, flags).map(drop)
    }

    /// Replaces the addresses that the filter knows. What stays is never absent for a moment.
    ///
    /// # Errors
    /// `MapFull` (nothing was changed), or `Map`.
    pub fn set_addresses(&mut self, addresses: &HashMap<Address, AddressClass>) -> Result<(), Error> {
        let wanted = self.wanted_addresses(addresses)?;
        self.addresses.add(&wanted)?;
        self.addresses.remove_others(&wanted)
    }

    /// Replaces the services and real servers that the filter knows. What stays is never absent for a moment. Later fragments
    /// carry no ports, so those from an endpoint's address and protocol count as its own.
    ///
    /// # Errors
    /// `MapFull` (nothing was changed), or `Map`.
    pub fn set_endpoints(&mut self, endpoints: impl IntoIterator<Item = Endpoint>) -> Result<(), Error> {
        let wanted = self.wanted_endpoints(endpoints)?;
        self.endpoints.add(&wanted)?;
        self.endpoints.remove_others(&wanted)
    }

    /// Both at once, in the order in which a change of both leaves no gap: first everything is added, then what is no longer
    /// wanted goes away.
    ///
    /// # Errors
    /// As [`Filter::set_addresses`] and [`Filter::set_endpoints`].
    pub fn update(
        &mut self,
        addresses: &HashMap<Address, AddressClass>,
        endpoints: impl IntoIterator<Item = Endpoint>,
    ) -> Result<(), Error> {
        let endpoints = self.wanted_endpoints(endpoints)?;
        let addresses = self.wanted_addresses(addresses)?;
        self.endpoints.add(&endpoints)?;
        self.addresses.add(&addresses)?;
        self.addresses.remove_others(&addresses)?;
        self.endpoints.remove_others(&endpoints)
    }

    fn wanted_addresses(&self, addresses: &HashMap<Address, AddressClass>) -> Result<HashMap<[u8; 16], u32>, Error> {
        check_limit("addresses", addresses.len(), self.limits.addresses)?;
        let class = |class: &AddressClass| match class {
            AddressClass::Kernel => CLASS_KERNEL,
            AddressClass::Owned => CLASS_OWNED,
            AddressClass::Shared => CLASS_SHARED,
        };
        Ok(addresses
            .iter()
            .map(|(address, of)| (*address.octets(), class(of)))
            .collect())
    }

    fn wanted_endpoints(
        &self,
        endpoints: impl IntoIterator<Item = Endpoint>,
    ) -> Result<HashMap<EndpointKey, u32>, Error> {
        let mut wanted = HashMap::new();
        let mut fragments = Vec::new();
        for Endpoint {
            address,
            port,
            protocol,
        } in endpoints
        {
            let key = EndpointKey {
                address: *address.octets(),
                port: port.to_be_bytes(),
                protocol,
                zero: 0,
            };
            wanted.insert(key, if port == 0 { ENDPOINT_ANY_PORT } else { ENDPOINT_PORT });
            fragments.push(EndpointKey { port: [0; 2], ..key });
        }
        check_limit("endpoints", wanted.len(), self.limits.endpoints)?;
        for key in fragments {
            wanted.entry(key).or_insert(ENDPOINT_FRAGMENT);
        }
        Ok(wanted)
    }

    /// What the filter did so far, summed over all CPUs.
    ///
    /// # Errors
    /// `Map`.
    pub fn counters(&self) -> Result<FilterCounters, Error> {
        let sum = |counter: u32| -> Result<u64, Error> {
            let values = self
                .counters
                .get(&counter, 0)
                .map_err(|error| map_error("counters", &error))?;
            Ok(values.iter().sum())
        };
        Ok(FilterCounters {
            redirected: sum(REDIRECTED)?,
            passed: sum(PASSED)?,
            no_socket: sum(NO_SOCKET)?,
        })
    }
}

/// A hash map in the kernel and what we know to be in it.
struct Mirror<K> {
    name: &'static str,
    kernel: KernelHashMap<MapData, K, u32>,
    known: HashMap<K, u32>,
}

impl<K: Pod + Eq + Hash> Mirror<K> {
    fn new(ebpf: &mut Ebpf, name: &'static str) -> Result<Mirror<K>, Error> {
        let kernel = KernelHashMap::try_from(take_map(ebpf, name)?).map_err(|error| load_error(&error))?;
        Ok(Mirror {
            name,
            kernel,
            known: HashMap::new(),
        })
    }

    /// Writes what is new or different. On failure the mirror still tells what is in the kernel, so the next change mends it.
    fn add(&mut self, wanted: &HashMap<K, u32>) -> Result<(), Error> {
        for (key, value) in wanted {
            if self.known.get(key) != Some(value) {
                self.kernel
                    .insert(key, value, 0)
                    .map_err(|error| map_error(self.name, &error))?;
                self.known.insert(*key, *value);
            }
        }
        Ok(())
    }

    /// Takes away what is not wanted.
    fn remove_others(&mut self, wanted: &HashMap<K, u32>) -> Result<(), Error> {
        let unwanted: Vec<K> = self
            .known
            .keys()
            .filter(|key| !wanted.contains_key(*key))
            .copied()
            .collect();
        for key in unwanted {
            self.kernel.remove(&key).map_err(|error| map_error(self.name, &error))?;
            self.known.remove(&key);
        }
        Ok(())
    }
}

fn check_limit(map: &'static str, wanted: usize, limit: u32) -> Result<(), Error> {
    if wanted > limit as usize {
        return Err(Error::MapFull { map, wanted, limit });
    }
    Ok(())
}

fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map, Error> {
    ebpf.take_map(name)
        .ok_or_else(|| Error::NotLoaded(format!("it has no map {name}")))
}

fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, Error> {
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| Error::NotLoaded(format!("it has no program {name}")))?;
    program.try_into().map_err(|error: ProgramError| load_error(&error))
}

/// The system call's error at the bottom of one of aya's.
pub(super) fn os_error(error: &(dyn std::error::Error + 'static)) -> std::io::Error {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(code) = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::raw_os_error)
        {
            return std::io::Error::from_raw_os_error(code);
        }
        cause = error.source();
    }
    std::io::Error::other(error.to_string())
}

fn load_error(error: &(dyn std::error::Error + 'static)) -> Error {
    match os_error(error).raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => Error::NotPermitted {
            action: "loading the XDP filter".to_owned(),
        },
        _ => Error::NotLoaded(error.to_string()),
    }
}

fn map_error(map: &'static str, error: &(dyn std::error::Error + 'static)) -> Error {
    Error::Map {
        map,
        reason: os_error(error).to_string(),
    }
}
