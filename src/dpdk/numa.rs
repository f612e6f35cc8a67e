//! Which memory is near which core.

use std::path::Path;

/// The NUMA node of a core; none where the kernel knows of no nodes.
pub(super) fn node_of_core(core: usize) -> Option<u32> {
    let folder = Path::new("/sys/devices/system/cpu").join(format!("cpu{core}"));
    let entries = std::fs::read_dir(folder).ok()?;
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("node")?.parse().ok())
        .next()
}

/// A sentence for each worker whose core is on another node than the port.
pub(super) fn warnings(port_node: Option<u32>, cores: &[usize], node_of: impl Fn(usize) -> Option<u32>) -> Vec<String> {
    let Some(port_node) = port_node else { return Vec::new() };
    let far = |(worker, core): (usize, &usize)| {
        let node = node_of(*core).filter(|node| *node != port_node)?;
        Some(format!(
            "it is on NUMA node {port_node}, but worker {worker} runs on core {core} of node {node}: every packet crosses between them; choose cores \
             of node {port_node} (`lscpu`)"
        ))
    };
    cores.iter().enumerate().filter_map(far).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_worker_on_another_node_is_told() {
        let node_of = |core| Some(core as u32 / 4);
        assert_eq!(warnings(Some(0), &[1, 2], node_of), Vec::<String>::new());
        let told = warnings(Some(1), &[1, 5], node_of);
        assert!(
            told.len() == 1 && told[0].contains("worker 0 runs on core 1 of node 0"),
            "{told:?}"
        );
        assert!(warnings(None, &[1], node_of).is_empty());
    }
}
