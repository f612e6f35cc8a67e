//! Settings of the kernel's own network stack, which has all that is not balanced.

use super::finding::{Finding, Findings};
use super::host::Host;
use super::wanted::Wanted;

/// rp_filter: the source must be reachable by the interface that it came in on (RFC 3704 section 2.2).
const STRICT: u32 = 1;
/// Connections below which a table of conntrack is that of a small host.
const SMALL_CONNTRACK: u64 = 1 << 18;

/// What was seen.
#[derive(Debug)]
pub(super) struct Facts {
    forwards: Option<u32>,
    /// Interfaces whose rp_filter is strict; `all` counts for every one.
    strict: Vec<String>,
    /// Connections now and at most; none: not loaded.
    conntrack: Option<(u64, u64)>,
}

pub(super) fn gather(host: &Host, wanted: &Wanted) -> Facts {
    let folder = "/proc/sys/net/ipv4/conf";
    let mut interfaces = host.names(folder);
    if !wanted.ports.is_empty() {
        let is_port = |name: &String| wanted.ports.iter().any(|port| port.interface.as_ref() == Some(name));
        interfaces.retain(|name| name == "all" || is_port(name));
    }
    // The larger of the interface's and that of all counts (Documentation/networking/ip-sysctl.rst).
    let value = |name: &str| host.number::<u32>(&format!("{folder}/{name}/rp_filter")).unwrap_or(0);
    let all = value("all");
    Facts {
        forwards: host.number("/proc/sys/net/ipv4/ip_forward"),
        strict: (interfaces.into_iter())
            .filter(|name| name != "lo" && name != "default" && value(name).max(all) == STRICT)
            .collect(),
        conntrack: host
            .number("/proc/sys/net/netfilter/nf_conntrack_count")
            .zip(host.number("/proc/sys/net/netfilter/nf_conntrack_max")),
    }
}

pub(super) fn judge(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let mut findings = Findings::about("sysctl");
    match facts.forwards {
        Some(0) => findings.note(
            "ip_forward is off: what is balanced does not need it, but nat servers reach nothing else through this box",
            "sysctl -w net.ipv4.ip_forward=1",
        ),
        Some(_) => findings.ok("ip_forward is on"),
        None => {}
    }
    if facts.strict.is_empty() {
        findings.ok("rp_filter is not strict");
    } else {
        let settings: Vec<String> = facts
            .strict
            .iter()
            .map(|name| format!("net.ipv4.conf.{name}.rp_filter=2"))
            .collect();
        findings.note(
            format!(
                "rp_filter is strict on {}: what comes in by another way than its answers take, and is not balanced, is dropped",
                facts.strict.join(", ")
            ),
            format!("sysctl -w {}", settings.join(" ")),
        );
    }
    if let Some((count, most)) = facts.conntrack {
        if most < SMALL_CONNTRACK || count > most / 10 * 8 {
            findings.note(
                format!("conntrack is loaded and has {count} of {most} connections; balanced packets never see it, all others do"),
                format!("sysctl -w net.netfilter.nf_conntrack_max={}", SMALL_CONNTRACK.max(most * 2)),
            );
        } else {
            findings.ok(format!(
                "conntrack has {count} of {most} connections; balanced packets never see it"
            ));
        }
    }
    if wanted.has_direct_answers {
        findings.note(
            "dr and tun servers must hold the virtual addresses (on lo, say) without answering ARP for them",
            "sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2  # on each of these servers, not here",
        );
    }
    findings.list()
}
