//! Whether the tables fit, and the limits of processes.

use super::answers::Answers;
use super::finding::{Finding, Findings};
use super::host::Host;
use super::wanted::{Backend, Wanted};

/// Sockets of queues, netlink and clients, with room.
const LEAST_FILES: u64 = 1024;

/// What was seen; bytes.
#[derive(Debug)]
pub(super) struct Facts {
    total: Option<u64>,
    available: Option<u64>,
    swap_devices: usize,
    /// `None` inside: unlimited.
    locked_limit: Option<Option<u64>>,
    files_limit: Option<Option<u64>>,
    frame_bytes: Option<u64>,
    director_runs: bool,
}

pub(super) fn gather(host: &Host, answers: &Answers) -> Facts {
    let memory = host.text("/proc/meminfo").unwrap_or_default();
    let bytes = |name: &str| {
        let line = memory
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
    };
    let limits = host.text("/proc/self/limits").unwrap_or_default();
    let limit = |name: &str| {
        let soft = limits
            .lines()
            .find_map(|line| line.strip_prefix(name)?.split_whitespace().next())?;
        if soft == "unlimited" {
            return Some(None);
        }
        soft.parse().ok().map(Some)
    };
    Facts {
        total: bytes("MemTotal"),
        available: bytes("MemAvailable"),
        // Below a line of headings.
        swap_devices: host
            .text("/proc/swaps")
            .map_or(0, |text| text.lines().count().saturating_sub(1)),
        locked_limit: limit("Max locked memory"),
        files_limit: limit("Max open files"),
        frame_bytes: answers.frame_bytes,
        director_runs: answers.director_runs,
    }
}

pub(super) fn judge(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let mut memory = Findings::about("memory");
    judge_size(facts, wanted, &mut memory);
    if facts.swap_devices > 0 {
        memory.note(
            "swap is on: a part of the connection table that is written out stops a worker when it is read",
            "swapoff -a && sed -i '/\\sswap\\s/s/^[^#]/#&/' /etc/fstab",
        );
    } else {
        memory.ok("no swap");
    }
    let mut limits = Findings::about("limits");
    judge_limits(facts, wanted, &mut limits);
    [memory.list(), limits.list()].concat()
}

fn judge_size(facts: &Facts, wanted: &Wanted, findings: &mut Findings) {
    let (Some(total), Some(available)) = (facts.total, facts.available) else {
        return;
    };
    let (Some(table), Some(connections)) = (wanted.table_bytes(), wanted.connections) else {
        findings.ok(format!(
            "{} of {} available; --config FILE compares it with the connection table",
            mib(available),
            mib(total)
        ));
        return;
    };
    let frame_bytes = facts.frame_bytes.or(wanted.dpdk_bytes);
    let needed = table + frame_bytes.unwrap_or(0);
    let parts = format!(
        "{connections} connections take {}{}",
        mib(table),
        frame_bytes
            .map(|bytes| format!(", packet buffers {}", mib(bytes)))
            .unwrap_or_default()
    );
    if needed > total || (needed > available && !facts.director_runs) {
        let fits = (connections as u128 * u128::from(available / 2) / u128::from(needed.max(1))) as u64;
        findings.wrong(
            format!("{parts}, but {} of {} are available", mib(available), mib(total)),
            format!("free -m  # then set connections in [director] to {fits} or less, or add memory"),
        );
    } else {
        findings.ok(format!("{parts}; {} of {} are available", mib(available), mib(total)));
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

fn judge_limits(facts: &Facts, wanted: &Wanted, findings: &mut Findings) {
    if wanted.may_use(Backend::AfXdp) {
        match facts.locked_limit {
            Some(Some(bytes)) => findings.ok(format!(
                "{} may be locked from here; as root, and under config/ulvsd.service, the director has no such limit",
                mib(bytes)
            )),
            Some(None) => findings.ok("memory may be locked without limit"),
            None => {}
        }
    }
    match facts.files_limit {
        Some(Some(files)) if files < LEAST_FILES => findings.note(
            format!("{files} open files are allowed from here; each queue of each port takes one"),
            format!("ulimit -n {LEAST_FILES}"),
        ),
        Some(files) => findings.ok(format!(
            "{} open files are allowed",
            files.map_or("any number of".to_owned(), |files| files.to_string())
        )),
        None => {}
    }
}
