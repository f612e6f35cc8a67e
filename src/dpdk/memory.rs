//! How much memory DPDK needs, and whether it comes from huge pages.

use std::path::Path;

use ulvs_dataplane::io::BURST;

use super::error::Error;
use super::{DeviceSettings, HugePages, Settings, ffi};

/// Descriptors of a receive or send queue of a network card, where its driver allows that many.
pub(super) const DESCRIPTORS: u16 = 1024;
/// Packet buffers that each worker's cache of free ones may hold.
pub(super) const CACHE: u32 = 256;
/// What a worker may hold outside of queues: frames that wait for a neighbour or a first fragment, spare frames, a burst for each port.
const HELD: u32 = 256 + 64;
/// Frames on the way between workers, for each of them.
const REDIRECTED: u32 = 2048;
/// A stock, so that a full queue does not leave the others without.
const STOCK: u32 = 1024;
/// Bytes that every packet buffer takes besides its data: mbuf, pool header, and padding that spreads buffers over memory channels.
const BUFFER_OVERHEAD: u64 = 128 + 64 + 192;
/// Bytes of an ordinary page.
const SMALL_PAGE: u64 = 4096;
/// DPDK's own tables, and the queues' descriptors.
const BASE_MIB: u64 = 32;

/// Data bytes of a packet buffer besides the headroom: what network cards like best.
const USUAL_ROOM: u16 = 2048;
/// Ethernet header, two VLAN tags and a frame check sequence that some drivers leave in.
const LINK_BYTES: u16 = 14 + 8 + 4;
/// The kernel keeps this much free in front of a frame that it copies into an AF_XDP buffer.
const XDP_HEADROOM: u16 = 256;

/// Entries of the rings of DPDK's AF_XDP driver, which it does not let anyone choose: it fills one ring to receive into and holds as many received frames.
const AF_XDP_RING: u32 = 2048;

/// What all ports together need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    /// Packet buffers.
    pub frames: u32,
    /// Bytes of data and headroom in each.
    pub data_room: u16,
}

impl Need {
    /// Computed from the configuration alone, before DPDK runs.
    pub fn of(settings: &Settings) -> Result<Need, Error> {
        Need::of_ports(settings, &settings.devices.iter().collect::<Vec<_>>())
    }

    /// What some of the ports need when they have a pool of their own.
    pub fn of_ports(settings: &Settings, devices: &[&DeviceSettings]) -> Result<Need, Error> {
        let data_room = data_room(&settings.devices)?;
        let workers = settings.workers as u32;
        let frames = match settings.frames {
            Some(each) => u64::from(each) * u64::from(workers) * devices.len() as u64,
            None => u64::from(computed_frames(devices, workers)),
        };
        let frames = u32::try_from(frames).map_err(|_| {
            Error::Setting(format!(
                "{frames} packet buffers are more than DPDK can count; lower frames in [director]"
            ))
        })?;
        Ok(Need { frames, data_room })
    }

    /// What the packet buffers take.
    pub fn pool_mib(self, huge_pages: bool) -> u64 {
        let own = u64::from(self.data_room).next_multiple_of(64) + BUFFER_OVERHEAD;
        // DPDK lets no buffer cross a page. On huge pages that wastes little, on small ones up to half.
        let each = match own {
            _ if huge_pages => own,
            0..=SMALL_PAGE => SMALL_PAGE / (SMALL_PAGE / own),
            _ => own.next_multiple_of(SMALL_PAGE),
        };
        (u64::from(self.frames) * each).div_ceil(1 << 20)
    }

    /// What DPDK takes in all.
    pub fn total_mib(self, huge_pages: bool) -> u64 {
        BASE_MIB + self.pool_mib(huge_pages)
    }
}

/// Bytes that DPDK takes from huge pages for these ports and workers: what must be free when the director starts. Computed from the settings alone; DPDK is not
/// started.
///
/// # Errors
/// A setting that no memory fits.
pub fn needed_bytes(settings: &Settings) -> Result<u64, Error> {
    match settings.memory_mib {
        Some(mib) => Ok(u64::from(mib) << 20),
        None => Ok(Need::of(settings)?.total_mib(true) << 20),
    }
}

fn computed_frames(devices: &[&DeviceSettings], workers: u32) -> u32 {
    let in_queues = |device: &&DeviceSettings| {
        if device.is_af_xdp() {
            3 * AF_XDP_RING
        } else {
            2 * u32::from(DESCRIPTORS)
        }
    };
    let queues: u32 = devices.iter().map(in_queues).sum();
    // DPDK lets a cache grow to half as much again.
    let held = CACHE * 3 / 2 + HELD + (1 + devices.len() as u32) * BURST as u32;
    let redirected = if workers > 1 { REDIRECTED } else { 0 };
    workers * (queues + held + redirected) + STOCK
}

/// Room for the largest frame of any port in one buffer. Buffers are shared by all ports, and not every driver can chain them.
fn data_room(devices: &[DeviceSettings]) -> Result<u16, Error> {
    let mut room = USUAL_ROOM;
    for device in devices {
        let in_front = if device.is_af_xdp() { XDP_HEADROOM } else { 0 };
        let frame = device
            .mtu
            .checked_add(LINK_BYTES + in_front + ffi::ULVS_HEADROOM as u16);
        let frame = frame.ok_or_else(|| {
            Error::Setting(format!(
                "port {}: an MTU of {} does not fit into a packet buffer",
                device.name, device.mtu
            ))
        })?;
        room = room.max(frame.next_multiple_of(64) - ffi::ULVS_HEADROOM as u16);
    }
    Ok(room + ffi::ULVS_HEADROOM as u16)
}

/// Free huge pages of this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FreeHugePages {
    /// All sizes together.
    pub mib: u64,
    /// The size of the most plentiful, in KiB.
    pub page_kib: u64,
    /// How many there are of these, free or not.
    pub pages: u64,
}

impl FreeHugePages {
    /// What the kernel says in `/sys/kernel/mm/hugepages`.
    pub fn find() -> FreeHugePages {
        FreeHugePages::find_in(Path::new("/sys/kernel/mm/hugepages"))
    }

    fn find_in(folder: &Path) -> FreeHugePages {
        let number = |path: &Path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let mut all = FreeHugePages {
            mib: 0,
            page_kib: 2048,
            pages: 0,
        };
        let mut largest = 0;
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let size = name
                .to_str()
                .and_then(|name| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok());
            let Some(page_kib) = size else { continue };
            let free = number(&entry.path().join("free_hugepages")).unwrap_or(0);
            let pages = number(&entry.path().join("nr_hugepages")).unwrap_or(0);
            all.mib += free * page_kib / 1024;
            if pages * page_kib > largest {
                largest = pages * page_kib;
                (all.page_kib, all.pages) = (page_kib, pages);
            }
        }
        all
    }

    /// The command that makes `needed_mib` free.
    pub fn remedy(self, needed_mib: u64) -> String {
        let missing = (needed_mib.saturating_sub(self.mib) * 1024).div_ceil(self.page_kib);
        let pages = self.pages + missing;
        format!(
            "echo {pages} > /sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages",
            self.page_kib
        )
    }
}

/// Where DPDK's memory comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Huge pages, taken as they are needed.
    Huge,
    /// Ordinary pages, with a reason to warn about unless they were asked for.
    Ordinary { warning: Option<String> },
}

impl Source {
    pub fn is_huge(&self) -> bool {
        *self == Source::Huge
    }
}

/// Chooses.
pub(super) fn choose(wanted: HugePages, needed_mib: u64, free: FreeHugePages) -> Result<Source, Error> {
    let remedy = free.remedy(needed_mib);
    match wanted {
        HugePages::Off => Ok(Source::Ordinary { warning: None }),
        _ if free.mib >= needed_mib => Ok(Source::Huge),
        HugePages::On => Err(Error::HugePages {
            needed_mib,
            free_mib: free.mib,
            remedy,
        }),
        HugePages::Auto => Ok(Source::Ordinary {
            warning: Some(format!(
                "DPDK runs on ordinary pages, which is slower: it needs {needed_mib} MiB of huge pages and {} MiB are free: `{remedy}`",
                free.mib
            )),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(names: &[&str]) -> Vec<DeviceSettings> {
        names.iter().map(|name| DeviceSettings::new(*name, *name)).collect()
    }

    fn need(names: &[&str], workers: usize) -> Need {
        let settings = Settings {
            workers,
            ..Settings::new(devices(names))
        };
        Need::of(&settings).expect("it can be computed")
    }

    #[test]
    fn two_ports_start_with_64_pages_of_2_mib() {
        for names in [
            ["0000:3b:00.0", "0000:3b:00.1"],
            ["net_af_xdp0,iface=a", "net_af_xdp1,iface=b"],
        ] {
            for workers in [1, 2] {
                let total = need(&names, workers).total_mib(true);
                assert!(total <= 128, "{names:?}, {workers} workers: {total} MiB");
            }
        }
    }

    #[test]
    fn a_jumbo_frame_fits_into_one_buffer() {
        let mut devices = devices(&["net_tap0", "net_af_xdp0,iface=b"]);
        devices[0].mtu = 9000;
        let room = need(&["net_tap0"], 1).data_room;
        assert_eq!(room, 2048 + 128);
        assert!(data_room(&devices).expect("it fits") >= 9000 + 26 + 128);
        devices[1].mtu = u16::MAX;
        assert!(data_room(&devices).is_err());
    }

    #[test]
    fn a_configured_number_of_frames_is_per_worker_and_port() {
        let settings = Settings {
            workers: 2,
            frames: Some(10_000),
            ..Settings::new(devices(&["net_null0", "net_null1"]))
        };
        assert_eq!(Need::of(&settings).map(|need| need.frames).ok(), Some(40_000));
    }

    #[test]
    fn too_few_huge_pages_are_told_with_the_command() {
        let free = FreeHugePages {
            mib: 64,
            page_kib: 2048,
            pages: 40,
        };
        assert_eq!(choose(HugePages::Auto, 64, free).ok(), Some(Source::Huge));
        let told = choose(HugePages::On, 71, free).unwrap_err().to_string();
        assert!(
            told.contains("needs 71 MiB of huge pages and 64 MiB are free"),
            "{told}"
        );
        // 40 pages, 8 of which are in use: 4 more make 36 of 2 MiB free.
        assert!(
            told.contains("echo 44 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"),
            "{told}"
        );
        let Ok(Source::Ordinary { warning: Some(warning) }) = choose(HugePages::Auto, 71, free) else {
            panic!("auto does without")
        };
        assert!(warning.contains("echo 44"), "{warning}");
        assert_eq!(
            choose(HugePages::Off, 71, free).ok(),
            Some(Source::Ordinary { warning: None })
        );
    }

    #[test]
    fn pages_of_all_sizes_count() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, free, all) in [
            ("hugepages-2048kB", 3, 8),
            ("hugepages-1048576kB", 1, 1),
            ("other", 9, 9),
        ] {
            let folder = folder.path().join(name);
            std::fs::create_dir(&folder).expect("a folder");
            std::fs::write(folder.join("free_hugepages"), format!("{free}\n")).expect("a file");
            std::fs::write(folder.join("nr_hugepages"), format!("{all}\n")).expect("a file");
        }
        let found = FreeHugePages::find_in(folder.path());
        assert_eq!(
            found,
            FreeHugePages {
                mib: 6 + 1024,
                page_kib: 1_048_576,
                pages: 1
            }
        );
        let none = FreeHugePages::find_in(&folder.path().join("none"));
        assert_eq!(
            none.remedy(128),
            "echo 64 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
        );
    }
}
