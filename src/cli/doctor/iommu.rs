//! How the kernel gives PCI devices away to DPDK: IOMMU, VFIO, UIO.

use super::finding::{Finding, Findings, Status};
use super::host::{Host, boot_with};
use super::wanted::{Backend, Wanted};

const LOAD_VFIO: &str = "echo vfio-pci > /etc/modules-load.d/vfio-pci.conf && modprobe vfio-pci";

/// What was seen.
#[derive(Debug)]
pub(super) struct Facts {
    groups: usize,
    is_virtual: bool,
    is_intel: bool,
    command_line: Vec<String>,
    vfio_is_loaded: bool,
    vfio_is_available: bool,
    noiommu: bool,
    uio_is_loaded: bool,
}

pub(super) fn gather(host: &Host) -> Facts {
    let release = host.text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let info = host.text("/proc/cpuinfo").unwrap_or_default();
    let lists = ["modules.dep", "modules.builtin"].map(|list| {
        let name = format!("/lib/modules/{release}/{list}");
        host.text(&name).unwrap_or_default()
    });
    let noiommu = host.text("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode");
    Facts {
        groups: host.names("/sys/kernel/iommu_groups").len(),
        is_virtual: info
            .lines()
            .any(|line| line.starts_with("flags") && line.contains(" hypervisor")),
        is_intel: info.contains("GenuineIntel"),
        command_line: host.command_line(),
        vfio_is_loaded: host.has("/sys/bus/pci/drivers/vfio-pci"),
        vfio_is_available: lists.iter().any(|list| list.contains("/vfio-pci.ko")),
        noiommu: matches!(noiommu.as_deref(), Some("Y" | "1")),
        uio_is_loaded: host.has("/sys/bus/pci/drivers/uio_pci_generic"),
    }
}

pub(super) fn judge(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    if !wanted.may_use(Backend::Dpdk) {
        return Vec::new();
    }
    let missing = if wanted.must_use(Backend::Dpdk) {
        Status::Wrong
    } else {
        Status::Note
    };
    let mut findings = Findings::about("iommu");
    judge_groups(facts, missing, &mut findings);
    if facts.driver_for_dpdk() == "vfio-pci" {
        judge_vfio(facts, missing, &mut findings);
    }
    findings.list()
}

fn judge_vfio(facts: &Facts, missing: Status, findings: &mut Findings) {
    if facts.vfio_is_loaded {
        findings.ok("vfio-pci is loaded");
    } else if facts.vfio_is_available {
        findings.add(
            missing,
            "vfio-pci, which gives PCI devices to DPDK, is not loaded",
            Some(LOAD_VFIO.to_owned()),
        );
    } else {
        let sentence = "this kernel has no vfio-pci, which gives PCI devices to DPDK";
        let command = "apt-get install linux-image-amd64  # not the -cloud one, which lacks drivers; then reboot";
        findings.add(missing, sentence, Some(command.to_owned()));
    }
}

fn judge_groups(facts: &Facts, missing: Status, findings: &mut Findings) {
    let has = |word: &str| facts.command_line.iter().any(|found| found == word);
    if facts.groups > 0 {
        findings.ok(format!("the IOMMU is on: {} groups", facts.groups));
        if !has("iommu=pt") && !has("iommu.passthrough=1") && !facts.is_virtual {
            findings.note(
                "the IOMMU also translates for the kernel's own devices, which slows them",
                boot_with("iommu=pt"),
            );
        }
    } else if facts.noiommu {
        findings.remark(
            "there is no IOMMU, and VFIO runs in its unsafe mode without: a device can write anywhere in memory",
        );
    } else if facts.is_virtual && facts.uio_is_loaded {
        findings.remark(
            "there is no IOMMU in this virtual machine; with uio_pci_generic a device can write anywhere in its memory",
        );
    } else if facts.is_virtual {
        let sentence = "there is no IOMMU in this virtual machine, which vfio-pci needs: give it one on the host (QEMU: -device intel-iommu), \
                        or use uio_pci_generic, with which a device can write anywhere in its memory";
        findings.add(missing, sentence, Some("modprobe uio_pci_generic".to_owned()));
    } else if facts.is_intel && !has("intel_iommu=on") {
        // AMD's and arm64's are on by themselves where the firmware offers them.
        findings.add(
            missing,
            "the IOMMU, which vfio-pci needs, is off",
            Some(boot_with("intel_iommu=on iommu=pt")),
        );
    } else {
        let sentence =
            "there is no IOMMU, which vfio-pci needs: it is off in the firmware's setup (VT-d, AMD-Vi, SMMU)";
        findings.add(missing, sentence, Some("systemctl reboot --firmware-setup".to_owned()));
    }
}

impl Facts {
    /// The driver under which DPDK can have a device on this box.
    pub fn driver_for_dpdk(&self) -> &'static str {
        if self.groups == 0 && self.is_virtual && !self.noiommu {
            "uio_pci_generic"
        } else {
            "vfio-pci"
        }
    }
}
