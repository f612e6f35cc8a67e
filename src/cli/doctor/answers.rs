//! What no file shows: the kernel's answers to system calls. Asked for here; for a made-up box they are read from a file.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use super::host::Host;
use super::wanted::Wanted;

/// All of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Answers {
    /// As in `uname -m`.
    pub architecture: String,
    /// Whether AF_XDP sockets exist; none: this program was built without that backend.
    pub has_af_xdp: Option<bool>,
    /// The largest MTU in bytes that AF_XDP takes in one buffer.
    pub largest_mtu: u32,
    /// The interfaces that AF_XDP is, or could be, used on.
    pub links: BTreeMap<String, Link>,
    /// Bytes of AF_XDP's frame memory on those, when they are known by configuration. (DPDK's follow from the configuration alone.)
    pub frame_bytes: Option<u64>,
    /// Whether a director answers on the control socket.
    pub director_runs: bool,
    /// Seconds since 1970, by this box's clock.
    pub now_s: u64,
    /// When this program's file was written, in seconds since 1970.
    pub program_s: u64,
}

/// One interface as AF_XDP finds it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Link {
    /// Why nothing else is known.
    pub error: Option<String>,
    pub driver: String,
    pub mtu: u32,
    pub receive_queues: u32,
    pub transmit_queues: u32,
    /// None: the kernel does not say.
    pub native: Option<bool>,
    pub zero_copy: Option<bool>,
    pub multi_buffer: Option<bool>,
    /// None: there is an XDP program, and without root its name is not seen.
    pub has_own_filter: Option<bool>,
    /// Sentences with their remedy.
    pub obstacles: Vec<String>,
    /// Sentences that end in a command.
    pub warnings: Vec<String>,
}

impl Answers {
    /// Of the machine that this runs on.
    pub fn ask(host: &Host, wanted: &Wanted) -> Answers {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let program = std::env::current_exe().and_then(|path| path.metadata()?.modified());
        let mut answers = Answers {
            architecture: std::env::consts::ARCH.to_owned(),
            director_runs: host
                .seen(
                    &wanted.control_socket.to_string_lossy(),
                    UnixStream::connect(&wanted.control_socket),
                )
                .is_some(),
            now_s: seconds(SystemTime::now()),
            program_s: program.map_or(0, seconds),
            ..Answers::default()
        };
        ask_af_xdp(host, wanted, &mut answers);
        answers
    }
}

#[cfg(not(feature = "af_xdp"))]
fn ask_af_xdp(_host: &Host, _wanted: &Wanted, _answers: &mut Answers) {}

#[cfg(feature = "af_xdp")]
fn ask_af_xdp(host: &Host, wanted: &Wanted, answers: &mut Answers) {
    use super::wanted::WantedPort;
    use crate::af_xdp::{self, AttachMode, DeviceSettings, Settings};

    let device = |port: &WantedPort| {
        let name = port.interface.as_ref()?;
        Some(DeviceSettings {
            mode: match (port.must_be_native, port.must_be_generic) {
                (true, _) => AttachMode::Native,
                (_, true) => AttachMode::Generic,
                _ => AttachMode::Auto,
            },
            vlans: port.vlans.clone(),
            ..DeviceSettings::new(name)
        })
    };
    let mut devices: Vec<DeviceSettings> = wanted.ports.iter().filter_map(device).collect();
    let is_configured = !devices.is_empty();
    if wanted.ports.is_empty() {
        devices = host
            .names("/sys/class/net")
            .into_iter()
            .map(DeviceSettings::new)
            .collect();
    }
    for device in &devices {
        let link = match af_xdp::inspect(device, wanted.workers) {
            Ok(seen) => Link {
                error: None,
                driver: seen.driver,
                mtu: seen.mtu,
                receive_queues: seen.receive_queues,
                transmit_queues: seen.transmit_queues,
                native: seen.features.map(|features| features.native()),
                zero_copy: seen.features.map(|features| features.zero_copy()),
                multi_buffer: seen.features.map(|features| features.multi_buffer()),
                has_own_filter: seen.has_own_filter,
                obstacles: seen.obstacles,
                warnings: seen.warnings,
            },
            Err(error) => Link {
                error: Some(error.to_string()),
                ..Link::default()
            },
        };
        let is_hardware = host.has(&format!("/sys/class/net/{}/device", device.name));
        if is_configured || is_hardware || link.driver == "veth" {
            answers.links.insert(device.name.clone(), link);
        }
    }
    answers.has_af_xdp = Some(af_xdp::kernel_has_af_xdp());
    answers.largest_mtu = af_xdp::largest_mtu();
    if is_configured {
        let queues = answers.links.values().map(|link| link.receive_queues).sum();
        let mut settings = Settings::new(devices);
        settings.workers = wanted.workers;
        settings.frames = (wanted.frames != 0).then_some(wanted.frames);
        answers.frame_bytes = af_xdp::frame_memory_bytes(queues, &settings).ok();
    }
}
