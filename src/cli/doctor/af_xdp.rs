//! AF_XDP: the kernel's side, and each interface.

use super::answers::{Answers, Link};
use super::cores::version;
use super::finding::{Finding, Findings, Status};
use super::host::Host;
use super::wanted::{Backend, Wanted, WantedPort};

/// Linux with frames in several buffers on AF_XDP sockets.
const MULTI_BUFFER_KERNEL: (u32, u32) = (6, 6);

/// What was seen.
#[derive(Debug)]
pub(super) struct Facts {
    answers: Answers,
    release: String,
    /// `net.core.bpf_jit_enable`
    compiler: Option<u32>,
}

pub(super) fn gather(host: &Host, answers: &Answers) -> Facts {
    Facts {
        answers: answers.clone(),
        release: host.text("/proc/sys/kernel/osrelease").unwrap_or_default(),
        compiler: host.number("/proc/sys/net/core/bpf_jit_enable"),
    }
}

pub(super) fn judge(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    if !wanted.may_use(Backend::AfXdp) {
        return Vec::new();
    }
    let mut findings = Findings::about("af_xdp");
    match facts.answers.has_af_xdp {
        Some(true) => findings.ok("the kernel has AF_XDP sockets"),
        Some(false) => {
            let status = if wanted.must_use(Backend::AfXdp) {
                Status::Wrong
            } else {
                Status::Note
            };
            let command = "grep CONFIG_XDP_SOCKETS /boot/config-$(uname -r)  # must be y: apt-get install linux-image-amd64, then reboot";
            findings.add(status, "the kernel has no AF_XDP sockets", Some(command.to_owned()));
        }
        None => findings.remark("this ulvs was built without AF_XDP and cannot look at interfaces"),
    }
    match facts.compiler {
        Some(0) => findings.note(
            "the kernel interprets BPF programs, which makes the XDP filter slow",
            "sysctl -w net.core.bpf_jit_enable=1",
        ),
        Some(_) => findings.ok("the kernel compiles BPF programs"),
        None => {}
    }
    for (name, link) in &facts.answers.links {
        let port = wanted.ports.iter().find(|port| port.interface.as_ref() == Some(name));
        judge_link(name, link, port, facts, &mut findings);
    }
    findings.list()
}

fn judge_link(name: &str, link: &Link, port: Option<&WantedPort>, facts: &Facts, findings: &mut Findings) {
    // An interface that nobody asked for is not wrong.
    let missing = if port.is_some() { Status::Wrong } else { Status::Note };
    let mut trouble = Findings::about("af_xdp");
    let obstacles = link.error.iter().chain(&link.obstacles);
    for (status, sentence) in obstacles
        .map(|sentence| (missing, sentence))
        .chain(link.warnings.iter().map(|sentence| (Status::Note, sentence)))
    {
        let (sentence, command) = split_command(sentence);
        trouble.add(status, sentence, command);
    }
    if link.error.is_none() {
        let (status, sentence) = mode(name, link, port, facts.answers.has_af_xdp == Some(true));
        findings.add(status, sentence, None);
        judge_mtu(name, link, missing, facts, &mut trouble);
    }
    findings.extend(trouble);
}

/// How the filter would run, and on how many queues.
fn mode(name: &str, link: &Link, port: Option<&WantedPort>, has_af_xdp: bool) -> (Status, String) {
    let queues = match (link.receive_queues, link.transmit_queues) {
        (1, 1) => "1 queue".to_owned(),
        (receive, transmit) if receive == transmit => format!("{receive} queues"),
        (receive, transmit) => format!("{receive} receive and {transmit} send queues"),
    };
    let filter = if link.has_own_filter {
        ", a director's filter is attached"
    } else {
        ""
    };
    let text = format!("{name} (driver {}, {queues}, MTU {}{filter})", link.driver, link.mtu);
    let wants_native = port.is_some_and(|port| port.must_be_native);
    match (link.native, link.zero_copy) {
        _ if port.is_some_and(|port| port.must_be_generic) => {
            (Status::Note, format!("{text} is to run in generic mode, which is slow"))
        }
        (Some(false), _) if wants_native => (
            Status::Wrong,
            format!("{text}: the driver has no native XDP now, but mode = \"native\" asks for it; set mode = \"auto\""),
        ),
        (Some(false), _) => (
            Status::Note,
            format!("{text}: the driver offers no native XDP now; generic mode works, slowly"),
        ),
        (Some(true), Some(true)) => (Status::Ok, format!("{text}: native XDP, zero copy")),
        (Some(true), _) => (Status::Ok, format!("{text}: native XDP, each frame is copied once")),
        // Before 6.3 kernels do not say; on a kernel without AF_XDP it does not matter.
        (None, _) if has_af_xdp => (
            Status::Ok,
            format!("{text}: this kernel does not tell whether the driver has native XDP; the start will show"),
        ),
        (None, _) => (Status::Ok, text),
    }
}

fn judge_mtu(name: &str, link: &Link, missing: Status, facts: &Facts, trouble: &mut Findings) {
    let largest = facts.answers.largest_mtu;
    let kernel_can = version(&facts.release).is_none_or(|version| version >= MULTI_BUFFER_KERNEL);
    if link.mtu > largest && (!kernel_can || link.multi_buffer == Some(false)) {
        let who = if kernel_can { "its driver" } else { "this kernel" };
        trouble.add(
            missing,
            format!(
                "the MTU of {name} is {}, but {who} has no frames in several buffers: at most {largest}",
                link.mtu
            ),
            Some(format!("ip link set dev {name} mtu {largest}")),
        );
    }
}

/// The backend's sentences end in the command, where there is just one.
fn split_command(sentence: &str) -> (String, Option<String>) {
    match sentence.rsplit_once(": ") {
        Some((sentence, command)) if command.starts_with("ethtool ") || command.starts_with("ip ") => {
            (sentence.to_owned(), Some(command.to_owned()))
        }
        _ => (sentence.to_owned(), None),
    }
}
