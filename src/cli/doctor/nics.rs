//! Network cards on the PCI bus: who has them, and whose side of the machine they are on.

use super::finding::{Finding, Findings, Status};
use super::host::{Host, list_text, number_list};
use super::lifelines::{self, Lifelines};
use super::wanted::{Backend, Wanted};

/// DPDK drives these through the kernel's driver, which stays.
const SHARED_DRIVERS: [&str; 2] = ["mlx5_core", "mlx4_core"];
const DPDK_DRIVERS: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];
/// Class 06 is bridges, which stay with the kernel in any IOMMU group.
const BRIDGE_CLASS: &str = "0x06";

/// One device of PCI class 02.
#[derive(Debug, Default)]
struct Nic {
    address: String,
    /// Maker and model, or their numbers.
    name: String,
    driver: Option<String>,
    node: Option<usize>,
    interfaces: Vec<String>,
    /// Mbit/s; none without a link, and where a virtual machine does not know it.
    speed: Option<u32>,
    has_link: bool,
    /// As `ip link` would say.
    is_up: bool,
    /// PCIe lanes in use and possible.
    lanes: Option<(u32, u32)>,
    /// Devices of the same IOMMU group that DPDK cannot have at the same time.
    in_the_way: Vec<String>,
}

/// What was seen.
#[derive(Debug)]
pub(super) struct Facts {
    nics: Vec<Nic>,
    lifelines: Lifelines,
    /// Cores of each NUMA node.
    nodes: Vec<(usize, Vec<usize>)>,
    driver_for_dpdk: &'static str,
}

pub(super) fn gather(host: &Host, driver_for_dpdk: &'static str) -> Facts {
    let models = ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids"];
    let models = host.first(&models).and_then(|path| host.text(path)).unwrap_or_default();
    let devices = host.names("/sys/bus/pci/devices");
    let is_network = |address: &&String| {
        let class = host.text(&format!("/sys/bus/pci/devices/{address}/class"));
        class.is_some_and(|class| class.starts_with("0x02"))
    };
    let nodes = host.names("/sys/devices/system/node");
    let cores = |name: &String| {
        let node = name.strip_prefix("node")?.parse().ok()?;
        let cores = host.text(&format!("/sys/devices/system/node/{name}/cpulist"))?;
        Some((node, number_list(&cores)))
    };
    Facts {
        nics: devices
            .iter()
            .filter(is_network)
            .map(|address| nic(host, address, &models))
            .collect(),
        lifelines: lifelines::gather(host),
        nodes: nodes.iter().filter_map(cores).collect(),
        driver_for_dpdk,
    }
}

fn nic(host: &Host, address: &str, models: &str) -> Nic {
    let folder = format!("/sys/bus/pci/devices/{address}");
    let id = |file: &str| {
        host.text(&format!("{folder}/{file}"))
            .unwrap_or_default()
            .replace("0x", "")
    };
    let mut interfaces = host.names(&format!("{folder}/net"));
    // virtio has a bus of its own in between.
    for entry in host.names(&folder).iter().filter(|entry| entry.starts_with("virtio")) {
        interfaces.extend(host.names(&format!("{folder}/{entry}/net")));
    }
    let first = interfaces.first().map(|name| format!("/sys/class/net/{name}"));
    let of_interface = |file: &str| host.text(&format!("{}/{file}", first.as_ref()?));
    let lanes = |file: &str| host.number::<u32>(&format!("{folder}/{file}"));
    // IFF_UP of linux/if.h
    let flags = of_interface("flags").and_then(|flags| u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok());
    Nic {
        address: address.to_owned(),
        name: model(models, &id("vendor"), &id("device")),
        driver: host.link(&format!("{folder}/driver")),
        node: host.number(&format!("{folder}/numa_node")),
        speed: of_interface("speed")
            .and_then(|speed| speed.parse().ok())
            .filter(|speed| *speed > 0),
        has_link: of_interface("carrier").as_deref() == Some("1"),
        is_up: flags.is_some_and(|flags| flags & 1 != 0),
        lanes: lanes("current_link_width").zip(lanes("max_link_width")),
        in_the_way: in_the_way(host, address),
        interfaces,
    }
}

fn in_the_way(host: &Host, address: &str) -> Vec<String> {
    let mates = host.names(&format!("/sys/bus/pci/devices/{address}/iommu_group/devices"));
    let stays = |mate: &String| {
        let folder = format!("/sys/bus/pci/devices/{mate}");
        let class = host.text(&format!("{folder}/class")).unwrap_or_default();
        let driver = host.link(&format!("{folder}/driver"));
        let has_kernel_driver = driver.is_some_and(|driver| driver != "vfio-pci");
        mate != address && !class.starts_with(BRIDGE_CLASS) && has_kernel_driver
    };
    mates.into_iter().filter(stays).collect()
}

/// `Intel Corporation 82599ES`, by the list of PCI ids: makers start a line, their models follow behind a tab.
fn model(models: &str, vendor: &str, device: &str) -> String {
    let unknown = || format!("{vendor}:{device}");
    let mut lines = models.lines().skip_while(|line| !line.starts_with(vendor));
    let Some(maker) = lines
        .next()
        .and_then(|line| line.strip_prefix(vendor))
        .filter(|_| !vendor.is_empty())
    else {
        return unknown();
    };
    let mut own = lines.take_while(|line| line.starts_with('\t') || line.starts_with('#'));
    let model = own.find_map(|line| line.strip_prefix('\t')?.strip_prefix(device)?.strip_prefix("  "));
    format!(
        "{} {}",
        maker.trim(),
        model.map_or_else(|| device.to_owned(), str::to_owned)
    )
}

impl Nic {
    fn text(&self) -> String {
        let mut parts = vec![
            self.driver
                .clone()
                .map_or("no driver".to_owned(), |driver| format!("driver {driver}")),
        ];
        parts.extend(self.interfaces.iter().cloned());
        parts.extend(self.speed.map(|speed| format!("{speed} Mbit/s")));
        if !self.interfaces.is_empty() && !self.has_link {
            parts.push("no link".to_owned());
        }
        parts.extend(self.node.map(|node| format!("node {node}")));
        format!("{} {} ({})", self.address, self.name, parts.join(", "))
    }

    fn is_ready(&self) -> bool {
        let driver = self.driver.as_deref().unwrap_or_default();
        DPDK_DRIVERS.contains(&driver) || SHARED_DRIVERS.contains(&driver)
    }

    fn is_wanted(&self, wanted: &Wanted) -> bool {
        wanted.ports.iter().any(|port| {
            port.device.as_ref() == Some(&self.address)
                || port
                    .interface
                    .as_ref()
                    .is_some_and(|name| self.interfaces.contains(name))
        })
    }

    fn bind(&self, driver: &str) -> String {
        let down: Vec<String> = (self.interfaces.iter().filter(|_| self.is_up))
            .map(|name| format!("ip link set dev {name} down && "))
            .collect();
        format!("{}dpdk-devbind.py --bind={driver} {}", down.concat(), self.address)
    }
}

pub(super) fn judge(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let mut findings = Findings::about("nic");
    if facts.nics.is_empty() {
        findings.ok("no network card on the PCI bus");
    }
    for nic in &facts.nics {
        judge_owner(nic, facts, wanted, &mut findings);
        if let Some((current, most)) = nic.lanes
            && current < most
        {
            findings.remark(format!(
                "{} runs on {current} PCIe lanes of {most}: a slot with more would give it its full speed",
                nic.address
            ));
        }
    }
    for device in wanted.ports.iter().filter_map(|port| port.device.as_ref()) {
        if !facts.nics.iter().any(|nic| nic.address == *device) {
            findings.wrong(
                format!("there is no network card {device}, which the configuration names"),
                "dpdk-devbind.py --status-dev net  # then correct device in the configuration",
            );
        }
    }
    let mut numa = Findings::about("numa");
    judge_nodes(facts, wanted, &mut numa);
    [findings.list(), numa.list()].concat()
}

fn judge_owner(nic: &Nic, facts: &Facts, wanted: &Wanted, findings: &mut Findings) {
    let text = nic.text();
    let lifeline = nic.interfaces.iter().find_map(|name| facts.lifelines.get(name));
    let is_configured = wanted
        .ports
        .iter()
        .any(|port| port.device.as_ref() == Some(&nic.address));
    // Without a configuration every card may be meant.
    let is_meant = is_configured || (wanted.ports.is_empty() && wanted.may_use(Backend::Dpdk));
    let missing = if is_configured { Status::Wrong } else { Status::Note };
    if nic.driver.as_deref() == Some("vfio-pci") && !nic.in_the_way.is_empty() {
        let others = nic.in_the_way.join(" ");
        findings.add(
            missing,
            format!("{text}: DPDK cannot open it while the kernel has {others}, of the same IOMMU group"),
            Some(format!(
                "dpdk-devbind.py --bind=vfio-pci {others}  # or move the card to another slot"
            )),
        );
    } else if nic.is_ready() {
        findings.ok(format!("{text}: ready for DPDK"));
    } else if let (true, Some(why)) = (is_configured, lifeline) {
        findings.wrong(
            format!("{text}: it carries {why}; bound to DPDK, as the configuration wants it, it would cut you off"),
            "ip route  # reach the box by another card first, or name another one in the configuration",
        );
    } else if let (true, Some(why)) = (is_meant, lifeline) {
        findings.ok(format!("{text}: not for DPDK, it carries {why}"));
    } else if is_meant {
        let sentence =
            format!("{text}: the kernel has it; DPDK would have to be given it, which takes it from the kernel");
        findings.add(missing, sentence, Some(nic.bind(facts.driver_for_dpdk)));
    } else {
        findings.ok(text);
    }
}

/// Packets that cross from one node's memory to the other's take a detour each time.
fn judge_nodes(facts: &Facts, wanted: &Wanted, findings: &mut Findings) {
    if facts.nodes.len() < 2 {
        findings.ok("one node: every core is near every card");
        return;
    }
    let cores_of = |node: usize| {
        facts
            .nodes
            .iter()
            .find(|(number, _)| *number == node)
            .map(|(_, cores)| cores)
    };
    let mut all_near = true;
    for nic in facts.nics.iter().filter(|nic| nic.is_wanted(wanted)) {
        let Some((node, near)) = nic.node.and_then(|node| Some((node, cores_of(node)?))) else {
            continue;
        };
        let far: Vec<usize> = wanted
            .cores
            .iter()
            .copied()
            .filter(|core| !near.contains(core))
            .collect();
        if !far.is_empty() {
            all_near = false;
            findings.note(
                format!(
                    "{} is on node {node}, the workers' cores {} are not: each packet crosses between the nodes",
                    nic.address,
                    list_text(&far)
                ),
                format!(
                    "lscpu --extended  # then choose cores in the configuration from node {node}: {}",
                    list_text(near)
                ),
            );
        }
    }
    if wanted.cores.is_empty() {
        let list: Vec<String> = (facts.nodes.iter())
            .map(|(node, cores)| format!("node {node} has the cores {}", list_text(cores)))
            .collect();
        findings.remark(format!(
            "{}: choose the workers' from the node of their card (cores in [director])",
            list.join(", ")
        ));
    } else if all_near {
        findings.ok("the workers' cores are on the node of their cards");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_looked_up_below_its_maker() {
        let models = "# comment\n8085  Other\n\t10fb  Not this\n8086  Intel Corporation\n\t10fa  X\n\t10fb  82599ES\n\t\t103c 17d0  Sub\n8087  Next\n\t1572  Y\n";
        assert_eq!(model(models, "8086", "10fb"), "Intel Corporation 82599ES");
        assert_eq!(model(models, "8086", "1572"), "Intel Corporation 1572");
        assert_eq!(model(models, "1af4", "1000"), "1af4:1000");
        assert_eq!(model("", "", ""), ":");
    }
}
