//! DPDK's own forwarder on the same kind of port: what a packet costs that is received, at most gets its addresses swapped, and is sent.

use std::process::Command;

/// Its first second is warming up.
const SECONDS: u32 = 6;
const PROGRAM: &str = "dpdk-testpmd";

/// Nanoseconds per packet of one core that does nothing else, in the middle of several seconds. An error is a sentence.
pub fn ns_per_packet(device: &str, mode: &str, has_huge_pages: bool) -> Result<f64, String> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let [Some(control), Some(forwarder)] = [cores.first(), cores.last()].map(|core| core.map(|core| core.id)) else {
        return Err("the cores of this machine are not known".to_owned());
    };
    let memory: &[&str] = if has_huge_pages {
        &["--in-memory"]
    } else {
        &["--no-huge", "--no-shconf", "-m", "256"]
    };
    let output = Command::new("timeout")
        .args(["--signal=INT", &SECONDS.to_string(), PROGRAM])
        .arg(format!("--lcores=0@{control},1@{forwarder}"))
        .args(memory)
        .args(["--no-telemetry", "--no-pci", "--iova-mode=va"])
        .args([&format!("--vdev={device}"), "--"])
        .args(["--nb-cores=1", "--burst=64", "--total-num-mbufs=4096", "--tx-first"])
        .args([&format!("--forward-mode={mode}"), "--stats-period=1"])
        .output()
        .map_err(|error| format!("{PROGRAM} could not be run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = |line: &str| {
        line.split("Rx-pps:")
            .nth(1)?
            .split_whitespace()
            .next()?
            .parse::<f64>()
            .ok()
    };
    let mut rates: Vec<f64> = text
        .lines()
        .filter_map(rate)
        .skip(1)
        .filter(|rate| *rate > 0.0)
        .collect();
    rates.sort_by(f64::total_cmp);
    match rates.get(rates.len() / 2) {
        Some(packets_per_second) => Ok(1e9 / packets_per_second),
        None => Err(format!(
            "{PROGRAM} (apt-get install dpdk-dev) told no rate: {}",
            String::from_utf8_lossy(&output.stderr)
                .lines()
                .last()
                .unwrap_or("it said nothing")
        )),
    }
}
