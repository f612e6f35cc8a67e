//! `[director]`, `[timeouts]` and `[dpdk]`.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::error::Findings;
use crate::config::model::{Director, Dpdk, MOST_WORKERS, Timeouts};
use crate::config::names::{BACKENDS, HUGE_PAGES, IDLES};
use crate::config::section::{At, Section};
use crate::config::validate::each_repeat;

/// `sun_path` of a unix socket holds 108 bytes, the last of which is zero (unix(7)).
const SOCKET_PATH_LIMIT: usize = 107;
/// What the rings of one queue hold. A card with more queues than workers needs more; how many it has is only known when it is opened.
const FEWEST_FRAMES: u32 = 6144;

pub fn parse_director(section: &Section, findings: &mut Findings) -> Director {
    let size = |key: &str| section.integer(key).value as usize;
    let cores = section.integers("cores");
    each_repeat(
        cores,
        |core| Some(core.value),
        |again, first| {
            let message = format!("core {} is listed twice; a core runs one worker", again.value);
            findings
                .error(&again.span, message)
                .see(&first.span, "it is listed here first");
        },
    );
    if let Some(core) = cores.get(MOST_WORKERS) {
        let message = format!(
            "cores lists {} cores; there can be at most {MOST_WORKERS} workers",
            cores.len()
        );
        findings
            .error(&core.span, message)
            .help(format!("list at most {MOST_WORKERS}; this is the first one too many"));
    }
    let workers = section.integer("workers");
    if workers.given && !cores.is_empty() && cores.len() as u32 != workers.value {
        let message = format!("workers is ignored: cores asks for {} pinned workers", cores.len());
        findings
            .warning(&workers.span, message)
            .help("leave workers out, or empty cores");
    }
    let frames = section.integer("frames");
    if frames.value != 0 && frames.value < FEWEST_FRAMES {
        let message = format!(
            "frames is {}; the rings of one queue alone hold {FEWEST_FRAMES}",
            frames.value
        );
        findings
            .error(&frames.span, message)
            .help(format!("write at least {FEWEST_FRAMES}, or 0 to have it computed"));
    }
    Director {
        backend: section.choice("backend", &BACKENDS).value,
        cores: cores.iter().map(|core| core.value as usize).collect(),
        workers: workers.value as usize,
        connections: size("connections"),
        service_limit: size("service_limit"),
        server_limit: size("server_limit"),
        frames: frames.value,
        idle: section.choice("idle", &IDLES).value,
        worker_timeout: Duration::from_millis(section.integer("worker_timeout_ms").value.into()),
        control_socket: section
            .text("control_socket")
            .map(|path| control_socket(path, findings))
            .unwrap_or_default(),
        control_group: section
            .text("control_group")
            .map(|group| control_group(group, findings))
            .unwrap_or_default(),
        slow_path_pps: section.integer("slow_path_pps").value,
        slow_path_neighbour_pps: section.integer("slow_path_neighbour_pps").value,
        slow_path_routing_pps: section.integer("slow_path_routing_pps").value,
    }
}

fn control_socket(path: At<String>, findings: &mut Findings) -> PathBuf {
    if !path.value.starts_with('/') {
        let message = "control_socket is not an absolute path";
        findings
            .error(&path.span, message)
            .help("begin it with \"/\": the director may be started from any directory");
    } else if path.value.ends_with('/') {
        findings
            .error(&path.span, "control_socket is a directory")
            .help("end it with the name of the socket");
    } else if path.value.len() > SOCKET_PATH_LIMIT {
        let message = format!("control_socket is {} bytes long", path.value.len());
        findings
            .error(&path.span, message)
            .help(format!("a socket's path has at most {SOCKET_PATH_LIMIT} bytes"));
    } else if path.value.chars().any(char::is_control) {
        findings.error(&path.span, "control_socket holds a control character");
    }
    PathBuf::from(path.value)
}

/// The characters of a portable group name (useradd(8)).
fn control_group(group: At<String>, findings: &mut Findings) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
    if group.value.is_empty() || !group.value.chars().all(allowed) {
        let message = "control_group is not the name of a unix group";
        findings
            .error(&group.span, message)
            .help("\"root\" lets only root use the control socket");
    }
    group.value
}

pub fn parse_dpdk(section: &Section) -> Dpdk {
    let arguments = section.texts("eal_arguments").iter();
    Dpdk {
        huge_pages: section.choice("huge_pages", &HUGE_PAGES).value,
        memory_mib: section.integer("memory_mib").value,
        eal_arguments: arguments.map(|argument| argument.value.clone()).collect(),
    }
}

pub fn parse_timeouts(section: &Section) -> Timeouts {
    let seconds = |key: &str| Duration::from_secs(section.integer(key).value.into());
    Timeouts {
        tcp: seconds("tcp"),
        tcp_fin: seconds("tcp_fin"),
        udp: seconds("udp"),
        tcp_syn_sent: seconds("tcp_syn_sent"),
        tcp_syn_recv: seconds("tcp_syn_recv"),
        tcp_time_wait: seconds("tcp_time_wait"),
        tcp_close: seconds("tcp_close"),
        tcp_close_wait: seconds("tcp_close_wait"),
        tcp_last_ack: seconds("tcp_last_ack"),
    }
}
