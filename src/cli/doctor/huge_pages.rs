//! Huge pages: the pools of each NUMA node, hugetlbfs, and transparent ones.

use super::answers::Answers;
use super::finding::{Finding, Findings, Status};
use super::host::Host;
use super::wanted::{Backend, Wanted};

const MIB: u64 = 1 << 20;
/// DPDK with a few ports and workers fits into this many MiB per node, and Debian's packet pools do not get by with much less.
const DPDK_MIB: u64 = 1024;
const PERSIST: &str = "/etc/sysctl.d/80-ulvs-huge-pages.conf";

/// One node's pool of one size.
#[derive(Debug, PartialEq, Eq)]
struct Pool {
    /// None: this kernel has no nodes.
    node: Option<usize>,
    page_mib: u64,
    total: u64,
    free: u64,
}

/// What was seen.
#[derive(Debug)]
pub(super) struct Facts {
    pools: Vec<Pool>,
    mounted: Option<String>,
    transparent: Option<String>,
    frame_bytes: Option<u64>,
    director_runs: bool,
}

pub(super) fn gather(host: &Host, answers: &Answers) -> Facts {
    let nodes = host.names("/sys/devices/system/node");
    let nodes: Vec<usize> = nodes
        .iter()
        .filter_map(|name| name.strip_prefix("node")?.parse().ok())
        .collect();
    let mut pools = Vec::new();
    if nodes.is_empty() {
        pools.extend(pools_below(host, "/sys/kernel/mm/hugepages", None));
    }
    for node in nodes {
        pools.extend(pools_below(
            host,
            &format!("/sys/devices/system/node/node{node}/hugepages"),
            Some(node),
        ));
    }
    let mounts = host.text("/proc/mounts").unwrap_or_default();
    let mounted = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let folder = words.next()?;
        (words.next()? == "hugetlbfs").then(|| folder.to_owned())
    });
    let transparent = host.text("/sys/kernel/mm/transparent_hugepage/enabled");
    Facts {
        pools,
        mounted,
        transparent: transparent.and_then(|text| Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())),
        frame_bytes: answers.frame_bytes,
        director_runs: answers.director_runs,
    }
}

fn pools_below(host: &Host, folder: &str, node: Option<usize>) -> Vec<Pool> {
    let pool = |name: &String| {
        let page_kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        Some(Pool {
            node,
            page_mib: page_kib >> 10,
            total: host.number(&format!("{folder}/{name}/nr_hugepages"))?,
            free: host.number(&format!("{folder}/{name}/free_hugepages"))?,
        })
    };
    let mut pools: Vec<Pool> = host.names(folder).iter().filter_map(pool).collect();
    pools.sort_by_key(|pool| pool.page_mib);
    pools
}

pub(super) fn judge(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let mut findings = Findings::about("huge pages");
    judge_pools(facts, wanted, &mut findings);
    judge_nodes(facts, wanted, &mut findings);
    judge_mount(facts, wanted, &mut findings);
    match facts.transparent.as_deref() {
        Some("never") => findings.note(
            "transparent huge pages are off, so the connection table lies on pages of 4 KiB, which makes large tables slow",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        ),
        Some(mode) => findings.ok(format!("transparent huge pages are set to {mode}: the connection table gets some")),
        None => findings.remark("this kernel has no transparent huge pages: the connection table lies on small ones"),
    }
    findings.list()
}

fn judge_pools(facts: &Facts, wanted: &Wanted, findings: &mut Findings) {
    let lists: Vec<String> = facts
        .pools
        .iter()
        .filter(|pool| pool.total > 0)
        .map(pool_text)
        .collect();
    let free_mib: u64 = facts.pools.iter().map(|pool| pool.free * pool.page_mib).sum();
    // The frames of AF_XDP are mapped from the pool of the kernel's own huge page size, 2 MiB.
    let free_small_mib: u64 = facts
        .pools
        .iter()
        .filter(|pool| pool.page_mib == 2)
        .map(|pool| pool.free * 2)
        .sum();
    if facts.pools.is_empty() {
        findings.remark("this kernel has no huge pages");
    } else if let Some(bytes) = wanted.dpdk_bytes {
        judge_dpdk(facts, wanted, bytes.div_ceil(MIB), free_mib, &lists, findings);
    } else if wanted.may_use(Backend::Dpdk) && free_mib == 0 && (lists.is_empty() || !facts.director_runs) {
        let status = if wanted.must_use(Backend::Dpdk) {
            Status::Wrong
        } else {
            Status::Note
        };
        let sentence = if lists.is_empty() {
            "none are reserved, and DPDK starts with none only when told to".to_owned()
        } else {
            format!("none are free for DPDK: {}", lists.join("; "))
        };
        findings.add(status, sentence, Some(reserve(facts, DPDK_MIB / 2 * nodes(facts))));
    } else if let Some(bytes) = facts.frame_bytes
        && wanted.must_use(Backend::AfXdp)
        && !facts.director_runs
        && free_small_mib < bytes.div_ceil(MIB)
    {
        let pages = bytes.div_ceil(2 * MIB);
        findings.note(
            format!("{} of 2 MiB are free; the frame memory of this configuration wants {pages}, and lies on small pages otherwise", free_small_mib / 2),
            reserve(facts, pages),
        );
    } else if lists.is_empty() {
        findings.ok("none are reserved; AF_XDP does without");
    } else {
        findings.ok(lists.join("; "));
    }
}

/// What a configuration with DPDK needs is known to the MiB, so no more is advised.
fn judge_dpdk(
    facts: &Facts,
    wanted: &Wanted,
    needed_mib: u64,
    free_mib: u64,
    lists: &[String],
    findings: &mut Findings,
) {
    let have = if lists.is_empty() {
        "none are reserved".to_owned()
    } else {
        lists.join("; ")
    };
    if facts.director_runs || free_mib >= needed_mib {
        return findings.ok(format!("{have}; this configuration takes {needed_mib} MiB"));
    }
    let (status, otherwise) = if wanted.must_have_huge_pages {
        (Status::Wrong, "does not start without (huge_pages = \"on\")")
    } else {
        (Status::Note, "runs on small pages otherwise, which is slower")
    };
    findings.add(
        status,
        format!("{have}; this configuration takes {needed_mib} MiB, and {otherwise}"),
        Some(reserve(facts, needed_mib.div_ceil(2))),
    );
}

/// A worker's packet buffers come from its own node, or not at all.
fn judge_nodes(facts: &Facts, wanted: &Wanted, findings: &mut Findings) {
    let has_some = |node: usize| facts.pools.iter().any(|pool| pool.node == Some(node) && pool.total > 0);
    let mut nodes: Vec<usize> = facts.pools.iter().filter_map(|pool| pool.node).collect();
    nodes.dedup();
    if !wanted.may_use(Backend::Dpdk) || !nodes.iter().any(|node| has_some(*node)) {
        return;
    }
    for node in nodes.into_iter().filter(|node| !has_some(*node)) {
        let pages = DPDK_MIB / 2;
        findings.note(
            format!("node {node} has none: with DPDK, cards and workers there get no packet buffers"),
            format!("echo {pages} > /sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/nr_hugepages"),
        );
    }
}

fn nodes(facts: &Facts) -> u64 {
    let count = facts.pools.iter().filter(|pool| pool.page_mib == 2).count();
    count.max(1) as u64
}

fn pool_text(pool: &Pool) -> String {
    let size = match pool.page_mib {
        1024 => "1 GiB".to_owned(),
        mib => format!("{mib} MiB"),
    };
    let node = pool.node.map(|node| format!("node {node}: ")).unwrap_or_default();
    format!("{node}{} of {size}, {} free", pool.total, pool.free)
}

/// As many more of 2 MiB as shall be free, beside those that somebody has.
fn reserve(facts: &Facts, free: u64) -> String {
    let small = facts.pools.iter().filter(|pool| pool.page_mib == 2);
    let pages: u64 = free + small.map(|pool| pool.total.saturating_sub(pool.free)).sum::<u64>();
    format!("echo vm.nr_hugepages={pages} > {PERSIST} && sysctl -p {PERSIST}")
}

fn judge_mount(facts: &Facts, wanted: &Wanted, findings: &mut Findings) {
    match &facts.mounted {
        Some(folder) => findings.ok(format!("hugetlbfs is mounted on {folder}")),
        None if wanted.may_use(Backend::Dpdk) => {
            let status = if wanted.must_use(Backend::Dpdk) {
                Status::Wrong
            } else {
                Status::Note
            };
            let command = "mkdir -p /dev/hugepages && mount -t hugetlbfs hugetlbfs /dev/hugepages";
            findings.add(
                status,
                "hugetlbfs is not mounted; DPDK looks for one",
                Some(command.to_owned()),
            );
        }
        None => {}
    }
}
