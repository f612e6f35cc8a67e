//! DPDK's environment abstraction layer: its start with our arguments, and its end. Once per process.

use std::ffi::{CStr, CString, c_char};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{info, warn};

use super::error::{Error, last_reason};
use super::memory::{self, FreeHugePages, Need, Source};
use super::{Settings, ffi, log};

/// DPDK runs. There is one at most in the life of a process.
pub(super) struct Eal {
    /// Whether its memory is on huge pages, and so on a NUMA node that can be chosen.
    pub huge_pages: bool,
}

static STARTED: AtomicBool = AtomicBool::new(false);

impl Eal {
    /// Starts it. Only the devices of `settings` are touched.
    pub fn start(settings: &Settings, need: Need) -> Result<Eal, Error> {
        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(Error::Setting("DPDK can be started only once in a process".to_owned()));
        }
        let configured_mib = settings.memory_mib.map(u64::from);
        let on_huge_pages_mib = memory::needed_bytes(settings)? >> 20;
        let source = memory::choose(settings.huge_pages, on_huge_pages_mib, FreeHugePages::find())?;
        let memory_mib = configured_mib.unwrap_or(need.total_mib(source.is_huge()));
        if let Source::Ordinary { warning: Some(warning) } = &source {
            warn!("{warning}");
        }
        log::capture()?;
        let arguments = arguments(settings, &source, memory_mib, &allowed_cores());
        let line = arguments.join(" ");
        // SAFETY: returns a constant text.
        let version = unsafe { CStr::from_ptr(ffi::ulvs_version()) }.to_string_lossy();
        info!("starting {version}: {line}");
        initialise(arguments).map_err(|reason| Error::Eal {
            reason,
            arguments: line,
        })?;
        Ok(Eal {
            huge_pages: source.is_huge(),
        })
    }

    /// Ends it. All ports must have been closed.
    pub fn clean_up(self) {
        // SAFETY: nothing of DPDK is used after this.
        if unsafe { ffi::rte_eal_cleanup() } != 0 {
            warn!("DPDK could not clean up after itself: {}", last_reason());
        }
    }
}

fn initialise(arguments: Vec<String>) -> Result<(), String> {
    let own = |argument: String| CString::new(argument).map_err(|_| "an argument holds a zero byte".to_owned());
    let arguments = arguments.into_iter().map(own).collect::<Result<Vec<_>, _>>()?;
    // DPDK keeps pointers to its arguments.
    let mut pointers: Vec<*mut c_char> = arguments.into_iter().map(CString::into_raw).collect();
    pointers.push(std::ptr::null_mut());
    let pointers = pointers.leak();
    // SAFETY: an array of C strings that stay for good, with a null at its end that is not counted.
    let status = unsafe { ffi::rte_eal_init(pointers.len() as i32 - 1, pointers.as_mut_ptr()) };
    if status < 0 { Err(last_reason()) } else { Ok(()) }
}

/// The cores that this process may use.
fn allowed_cores() -> Vec<usize> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    cores.into_iter().map(|core| core.id).collect()
}

fn arguments(settings: &Settings, source: &Source, memory_mib: u64, cores: &[usize]) -> Vec<String> {
    let mut all = vec!["ulvsd".to_owned()];
    let mut add = |argument: &str| all.push(argument.to_owned());
    // One lcore, ours, left to run on every core as before: workers are threads of our own, which register themselves.
    if !cores.is_empty() {
        let list: Vec<String> = cores.iter().map(usize::to_string).collect();
        add(&format!("--lcores=0@({})", list.join(",")));
    }
    match source {
        Source::Huge => {
            add("--in-memory");
            if let Some(mib) = settings.memory_mib {
                add("-m");
                add(&mib.to_string());
            }
        }
        Source::Ordinary { .. } => {
            // 22.11 refuses --in-memory together with --no-huge; this is what is left of it.
            add("--no-huge");
            add("--no-shconf");
            add("-m");
            add(&memory_mib.to_string());
        }
    }
    add("--no-telemetry");
    let is_pci = |device: &&super::DeviceSettings| device.is_pci();
    if settings.devices.iter().any(|device| device.is_pci()) {
        for device in settings.devices.iter().filter(is_pci) {
            add("-a");
            add(&device.device);
        }
    } else {
        add("--no-pci");
        // Without a card that asks for physical addresses there is no reason to need the rights for them.
        add("--iova-mode=va");
    }
    for device in settings.devices.iter().filter(|device| !device.is_pci()) {
        add(&format!("--vdev={}", device.device));
    }
    all.extend(settings.eal_arguments.iter().cloned());
    all
}

/// Gives the calling thread an lcore number of DPDK's, and with it a cache in every pool. False, with a warning, when DPDK has no number left: everything
/// works without, only slower.
pub(super) fn register_thread() -> bool {
    // SAFETY: DPDK has been started: there are ports.
    let is_registered = unsafe { ffi::rte_thread_register() } == 0;
    if !is_registered {
        warn!(
            "a worker goes without a cache of packet buffers: DPDK could not register its thread ({}), of which it takes at most {}",
            last_reason(),
            ffi::RTE_MAX_LCORE
        );
    }
    is_registered
}

/// Takes back what [`register_thread`] gave, on the same thread.
pub(super) fn unregister_thread() {
    // SAFETY: does nothing on a thread that is not registered.
    unsafe { ffi::rte_thread_unregister() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dpdk::DeviceSettings;

    fn line(devices: &[&str], source: &Source, more: &[&str]) -> String {
        let devices = devices.iter().map(|device| DeviceSettings::new("p", *device)).collect();
        let settings = Settings {
            eal_arguments: more.iter().map(|one| one.to_string()).collect(),
            ..Settings::new(devices)
        };
        arguments(&settings, source, 100, &[0, 1, 5]).join(" ")
    }

    #[test]
    fn only_named_devices_are_touched() {
        assert_eq!(
            line(&["0000:3b:00.0", "net_tap0,iface=t"], &Source::Huge, &["--log-level=8"]),
            "ulvsd --lcores=0@(0,1,5) --in-memory --no-telemetry -a 0000:3b:00.0 --vdev=net_tap0,iface=t --log-level=8"
        );
        assert_eq!(
            line(&["net_null0"], &Source::Ordinary { warning: None }, &[]),
            "ulvsd --lcores=0@(0,1,5) --no-huge --no-shconf -m 100 --no-telemetry --no-pci --iova-mode=va --vdev=net_null0"
        );
    }
}
