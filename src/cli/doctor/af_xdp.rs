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
        let (sentence, found) = split_command(sentence);
        let command = found.or_else(|| link.error.as_ref().map(|_| "ip -brief link".to_owned()));
        trouble.add(status, sentence, command);
    }
    if link.error.is_none() {
        let (status, sentence) = mode(name, link, port, facts.answers.has_af_xdp == Some(true));
        let command = (status == Status::Wrong)
            .then(|| format!("ethtool -i {name}  # a newer driver may have it; else set mode = \"auto\""));
        findings.add(status, sentence, command);
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
    let filter = match link.has_own_filter {
        Some(true) => ", a director's filter is attached",
        Some(false) => "",
        None => ", an XDP program is attached whose name only root sees",
    };
    let text = format!("{name} (driver {}, {queues}, MTU {}{filter})", link.driver, link.mtu);
    let wants_native = port.is_some_and(|port| port.must_be_native);
    match (link.native, link.zero_copy) {
        _ if port.is_some_and(|port| port.must_be_generic) => {
            (Status::Note, format!("{text} is to run in generic mode, which is slow"))
        }
        (Some(false), _) if wants_native => (
            Status::Wrong,
            format!("{text}: the driver has no native XDP now, but mode = \"native\" asks for it"),
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

/// The backend's sentences name the command: at the end, in backquotes, or in parentheses up to a condition.
fn split_command(sentence: &str) -> (String, Option<String>) {
    let is_command = |text: &&str| text.starts_with("ethtool ") || text.starts_with("ip ");
    if let Some((sentence, command)) = sentence.rsplit_once(": ").filter(|(_, command)| is_command(command)) {
        return (sentence.to_owned(), Some(command.to_owned()));
    }
    let quoted = sentence.split('`').skip(1).step_by(2).find(is_command);
    let in_parentheses = || {
        let parts = sentence.split('(').skip(1);
        parts.filter_map(|part| part.split([')', ',']).next()).find(is_command)
    };
    (sentence.to_owned(), quoted.or_else(in_parentheses).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_in_the_backends_sentences() {
        for (sentence, command) in [
            (
                "eth0 strips tags: ethtool -K eth0 rxvlan off",
                "ethtool -K eth0 rxvlan off",
            ),
            (
                "too few (ethtool -L v rx 2 tx 2, if it was made so)",
                "ethtool -L v rx 2 tx 2",
            ),
            (
                "remove it with `ip link set dev e xdp off`",
                "ip link set dev e xdp off",
            ),
        ] {
            assert_eq!(split_command(sentence).1.as_deref(), Some(command));
        }
        assert_eq!(split_command("eth0 (driver veth): set mode").1, None);
    }
}
