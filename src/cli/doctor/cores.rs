//! Kernel, processor, and the cores that workers run on.

use super::answers::Answers;
use super::finding::{Finding, Findings};
use super::host::{Host, boot_with, list_text, number_list};
use super::wanted::{Backend, Wanted};

/// Linux that runs the XDP filter for frames in several buffers (`README.md`, what AF_XDP needs).
const LEAST_KERNEL: (u32, u32) = (5, 18);
/// A core that needs longer than this to wake loses the time of many packets.
const SLOW_TO_WAKE_US: u32 = 10;

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Facts {
    release: String,
    architecture: String,
    flags: Vec<String>,
    clock_source: Option<String>,
    online: Vec<usize>,
    isolated: Vec<usize>,
    /// By option of the kernel command line: the cores it names.
    tickless: Vec<usize>,
    without_rcu: Vec<usize>,
    /// Per core that counts: its frequency governor, and its SMT siblings, itself among them.
    governors: Vec<(usize, String)>,
    siblings: Vec<(usize, Vec<usize>)>,
    irqbalance: bool,
    /// Name and microseconds to wake of the deepest state that is not switched off.
    deepest_sleep: Option<(String, u32)>,
}

pub(super) fn gather(host: &Host, wanted: &Wanted, answers: &Answers) -> Facts {
    let cpu = "/sys/devices/system/cpu";
    let list = |path: &str| number_list(&host.text(path).unwrap_or_default());
    let command_line = host.command_line();
    let option = |name: &str| {
        let values = command_line
            .iter()
            .filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        values.flat_map(number_list).collect::<Vec<_>>()
    };
    let online = list(&format!("{cpu}/online"));
    let counted = if wanted.cores.is_empty() {
        &online
    } else {
        &wanted.cores
    };
    let info = host.text("/proc/cpuinfo").unwrap_or_default();
    let flags = info.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        matches!(key.trim(), "flags" | "Features").then_some(value)
    });
    Facts {
        release: host.text("/proc/sys/kernel/osrelease").unwrap_or_default(),
        architecture: answers.architecture.clone(),
        flags: flags
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        clock_source: host.text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        isolated: list(&format!("{cpu}/isolated")),
        tickless: option("nohz_full"),
        without_rcu: option("rcu_nocbs"),
        governors: (counted.iter())
            .filter_map(|&core| Some((core, host.text(&format!("{cpu}/cpu{core}/cpufreq/scaling_governor"))?)))
            .collect(),
        siblings: (counted.iter())
            .map(|&core| (core, list(&format!("{cpu}/cpu{core}/topology/thread_siblings_list"))))
            .collect(),
        irqbalance: host.runs("irqbalance"),
        deepest_sleep: deepest_sleep(host, counted.first().copied().unwrap_or(0)),
        online,
    }
}

fn deepest_sleep(host: &Host, core: usize) -> Option<(String, u32)> {
    let folder = format!("/sys/devices/system/cpu/cpu{core}/cpuidle");
    let states = host.names(&folder);
    let of_state = |state: &String| {
        let is_off = host.number::<u32>(&format!("{folder}/{state}/disable")) == Some(1);
        let name = host.text(&format!("{folder}/{state}/name"))?;
        let latency_us = host.number(&format!("{folder}/{state}/latency"))?;
        (!is_off).then_some((name, latency_us))
    };
    states
        .iter()
        .filter_map(of_state)
        .max_by_key(|(_, latency_us)| *latency_us)
}

pub(super) fn judge(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let mut kernel = Findings::about("kernel");
    judge_kernel(facts, wanted, &mut kernel);
    let mut cpu = Findings::about("cpu");
    judge_cpu(facts, wanted, &mut cpu);
    let mut cores = Findings::about("cores");
    judge_cores(facts, wanted, &mut cores);
    judge_isolation(facts, wanted, &mut cores);
    judge_sleep(facts, wanted, &mut cores);
    [kernel.list(), cpu.list(), cores.list()].concat()
}

/// Major and minor number of a release as `6.1.0-18-amd64`.
pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn judge_kernel(facts: &Facts, wanted: &Wanted, findings: &mut Findings) {
    let name = format!("Linux {} on {}", facts.release, facts.architecture);
    let is_too_old = version(&facts.release).is_some_and(|version| version < LEAST_KERNEL);
    let (major, minor) = LEAST_KERNEL;
    if is_too_old && wanted.must_use(Backend::AfXdp) {
        findings.wrong(
            format!("{name} is too old for AF_XDP as it is used here, which is that of {major}.{minor}"),
            "apt-get install linux-image-amd64  # of Debian 12 or later, then reboot",
        );
    } else if is_too_old && wanted.may_use(Backend::AfXdp) {
        findings.remark(format!(
            "{name}: for AF_XDP it would have to be {major}.{minor} or later"
        ));
    } else if matches!(facts.architecture.as_str(), "x86_64" | "aarch64") {
        findings.ok(name);
    } else {
        findings.remark(format!("{name}: nobody has tried this architecture"));
    }
}

fn judge_cpu(facts: &Facts, wanted: &Wanted, findings: &mut Findings) {
    let has = |flag: &str| facts.flags.iter().any(|found| found == flag);
    if facts.architecture == "x86_64" && wanted.may_use(Backend::Dpdk) && !has("sse4_2") {
        let sentence = "the processor has no SSE4.2, which Debian's DPDK is compiled for; in a virtual machine, give it the host's processor";
        let command = "virsh edit NAME  # on the host: <cpu mode='host-passthrough'/>";
        if wanted.must_use(Backend::Dpdk) {
            findings.wrong(sentence, command);
        } else {
            findings.note(sentence, command);
        }
    }
    // Every burst reads the clock once; the TSC is read without a system call. arm64 has nothing else.
    match facts.clock_source.as_deref() {
        Some(clock @ ("tsc" | "kvm-clock" | "hyperv_clocksource_tsc_page" | "arch_sys_counter")) => {
            findings.ok(format!("the clock is {clock}, read without a system call"));
        }
        Some(clock) => findings.note(
            format!("the clock is {clock}, and each reading of it a system call; the TSC would not be"),
            "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource  # dmesg says why, if it is refused",
        ),
        None => {}
    }
    if facts.architecture == "x86_64" && wanted.must_use(Backend::Dpdk) && !has("pdpe1gb") {
        findings.remark("the processor has no pages of 1 GiB; those of 2 MiB do");
    }
}

fn judge_cores(facts: &Facts, wanted: &Wanted, findings: &mut Findings) {
    let online = list_text(&facts.online);
    let missing: Vec<usize> = (wanted.cores.iter().copied())
        .filter(|core| !facts.online.contains(core))
        .collect();
    if !missing.is_empty() {
        findings.wrong(
            format!(
                "[director] cores names {}, but the cores here are {online}",
                list_text(&missing)
            ),
            "lscpu --extended  # then correct cores in the configuration",
        );
    } else if wanted.workers > facts.online.len() {
        findings.note(
            format!(
                "{} workers share the cores {online}: they wait for each other",
                wanted.workers
            ),
            format!("lscpu --extended  # then set workers to {} at most", facts.online.len()),
        );
    } else if wanted.cores.is_empty() {
        findings.ok(format!("{} cores: {online}", facts.online.len()));
    } else {
        findings.ok(format!("workers on {} of the cores {online}", list_text(&wanted.cores)));
    }

    let slow: Vec<usize> = (facts.governors.iter())
        .filter(|(_, governor)| governor != "performance")
        .map(|(core, _)| *core)
        .collect();
    if let Some((_, governor)) = facts.governors.iter().find(|(core, _)| slow.contains(core)) {
        findings.note(
            format!(
                "the frequency governor is {governor} on {}, which lowers the clock between bursts",
                list_text(&slow)
            ),
            format!(
                "cpupower --cpu {} frequency-set --governor performance  # apt-get install linux-cpupower",
                list_text(&slow)
            ),
        );
    } else if !facts.governors.is_empty() {
        findings.ok("the frequency governor is performance");
    }

    let shared = (facts.siblings.iter()).find(|(core, all)| {
        wanted.cores.contains(core) && all.iter().any(|other| other > core && wanted.cores.contains(other))
    });
    if let Some((_, all)) = shared {
        findings.note(
            format!("two workers share a physical core: {} are its threads", list_text(all)),
            "lscpu --extended  # then choose cores with different numbers in the column CORE",
        );
    }
}

/// Whether anything but workers runs on their cores.
fn judge_isolation(facts: &Facts, wanted: &Wanted, findings: &mut Findings) {
    let busy = busy_siblings(facts, wanted);
    let with_siblings = |cores: &[usize]| isolate(&[cores, &busy].concat());
    let chosen = if wanted.cores.is_empty() {
        &facts.isolated
    } else {
        &wanted.cores
    };
    let lacks = |set: &[usize]| chosen.iter().any(|core| !set.contains(core));
    if chosen.is_empty() {
        // All but the first, with a sibling of the first left to the kernel too.
        let kernels = facts.siblings.first().map(|(_, all)| all.clone()).unwrap_or_default();
        let free: Vec<usize> = (facts.online.iter().copied())
            .filter(|core| *core != 0 && !kernels.contains(core))
            .collect();
        if free.is_empty() {
            findings.remark(
                "no core is isolated, and there are too few to isolate one: workers share theirs with all else",
            );
        } else {
            findings.note(
                "no core is isolated: workers share theirs with all else that runs here",
                isolate(&free),
            );
        }
    } else if lacks(&facts.isolated) || lacks(&facts.tickless) || lacks(&facts.without_rcu) {
        let missing: Vec<&str> = [
            ("isolcpus", &facts.isolated),
            ("nohz_full", &facts.tickless),
            ("rcu_nocbs", &facts.without_rcu),
        ]
        .into_iter()
        .filter(|(_, set)| lacks(set))
        .map(|(name, _)| name)
        .collect();
        findings.note(
            format!(
                "the kernel does its own work on the workers' cores ({}) too: not in {}",
                list_text(chosen),
                missing.join(", ")
            ),
            with_siblings(chosen),
        );
    } else if !busy.is_empty() {
        findings.note(
            "the workers' cores are isolated, but not all threads of the same physical cores",
            with_siblings(chosen),
        );
    } else {
        findings.ok(format!(
            "isolated, without ticks and RCU callbacks: {}",
            list_text(chosen)
        ));
    }
    if !busy.is_empty() {
        findings.remark(format!(
            "what runs on {} slows the workers: these are threads of the same physical cores",
            list_text(&busy)
        ));
    }
    // It leaves isolated cores alone by itself.
    if facts.irqbalance && lacks(&facts.isolated) {
        findings.note(
            "irqbalance runs and may move interrupts onto the workers' cores",
            "systemctl disable --now irqbalance",
        );
    }
}

/// Cores that are threads of a worker's physical core and free for anything to run on.
fn busy_siblings(facts: &Facts, wanted: &Wanted) -> Vec<usize> {
    (facts.siblings.iter())
        .filter(|(core, _)| wanted.cores.contains(core))
        .flat_map(|(_, all)| all.iter().copied())
        .filter(|other| !wanted.cores.contains(other) && !facts.isolated.contains(other))
        .collect()
}

fn isolate(cores: &[usize]) -> String {
    let cores = list_text(cores);
    boot_with(&format!("isolcpus={cores} nohz_full={cores} rcu_nocbs={cores}"))
}

fn judge_sleep(facts: &Facts, wanted: &Wanted, findings: &mut Findings) {
    if let Some((state, latency_us)) = &facts.deepest_sleep
        && *latency_us > SLOW_TO_WAKE_US
    {
        let cpus = if wanted.cores.is_empty() {
            String::new()
        } else {
            format!(" --cpu {}", list_text(&wanted.cores))
        };
        findings.note(
            format!("an idle core sleeps as deep as {state} and takes {latency_us} microseconds to wake (with idle = \"poll\", workers are never idle)"),
            format!("cpupower{cpus} idle-set --disable-by-latency {SLOW_TO_WAKE_US}  # apt-get install linux-cpupower"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("5.18-rc1"), Some((5, 18)));
        assert_eq!(version("linux"), None);
        assert!(version("5.9.1") < Some(LEAST_KERNEL));
    }
}
