//! `[[port]]`

use ulvs_dataplane::steering::RssFields;

use super::name::parse_name;
use crate::config::error::Findings;
use crate::config::model::{Port, PortMode, Vlan, ZeroCopy};
use crate::config::names::{PORT_MODES, RSS_FIELDS, ZERO_COPIES};
use crate::config::section::{At, Section};
use crate::config::source::{Source, Span, printable};

/// IFNAMSIZ is 16 with the terminating zero.
const INTERFACE_NAME_LIMIT: usize = 15;

/// A `[[port]]`, as far as it could be read.
#[derive(Debug)]
pub struct PortEntry {
    pub span: Span,
    /// False when something in it could not be read.
    pub complete: bool,
    /// The given name, or the interface's.
    pub name: Option<At<String>>,
    pub interface: Option<At<String>>,
    /// False when a wrong value stands there.
    pub interface_readable: bool,
    pub device: Option<At<String>>,
    /// False when a wrong value stands there.
    pub device_readable: bool,
    pub mtu: At<u32>,
    pub mode: At<PortMode>,
    pub zero_copy: At<ZeroCopy>,
    pub rss: RssFields,
    pub untagged: bool,
    pub vlans: Vec<VlanEntry>,
}

/// A VLAN of a port, as far as it could be read.
#[derive(Debug)]
pub struct VlanEntry {
    pub id: Option<At<u32>>,
    pub interface: Option<At<String>>,
}

pub fn parse(section: &Section, findings: &mut Findings) -> PortEntry {
    let found_before = findings.len();
    let interface = section
        .text("interface")
        .and_then(|name| interface_name(name, findings));
    let given_name = parse_name(section, findings);
    let vlans: Vec<VlanEntry> = section
        .sections("vlans")
        .iter()
        .map(|vlan| VlanEntry {
            id: vlan.find_integer("id"),
            interface: vlan.text("interface").and_then(|name| interface_name(name, findings)),
        })
        .collect();
    let given_device = section.text("device");
    let device = given_device.clone().and_then(|device| device_name(device, findings));
    PortEntry {
        interface_readable: section.is_readable("interface")
            && section.text("interface").is_some() == interface.is_some(),
        device_readable: section.is_readable("device") && given_device.is_some() == device.is_some(),
        device,
        mtu: section.integer("mtu"),
        vlans,
        span: section.span.clone(),
        name: given_name.or_else(|| interface.clone()),
        interface,
        mode: section.choice("mode", &PORT_MODES),
        zero_copy: section.choice("zero_copy", &ZERO_COPIES),
        rss: section.choice("rss", &RSS_FIELDS).value,
        untagged: section.flag("untagged"),
        complete: section.complete && findings.len() == found_before,
    }
}

/// Refuses names that the kernel refuses (`dev_valid_name`).
fn interface_name(name: At<String>, findings: &mut Findings) -> Option<At<String>> {
    let text = &name.value;
    let problem = if text.is_empty() || text == "." || text == ".." {
        Some("this is not the name of an interface".to_string())
    } else if text.len() > INTERFACE_NAME_LIMIT {
        Some(format!(
            "an interface's name has at most {INTERFACE_NAME_LIMIT} bytes; this one has {}",
            text.len()
        ))
    } else {
        let wrong = text
            .chars()
            .find(|c| *c == '/' || *c == ':' || c.is_whitespace() || c.is_control());
        wrong.map(|c| format!("an interface's name cannot hold '{}'", c.escape_debug()))
    };
    match problem {
        None => Some(name),
        Some(message) => {
            findings
                .error(&name.span, message)
                .help("\"ip link\" lists the interfaces of this machine");
            None
        }
    }
}

/// Takes what DPDK takes: a PCI address, or a virtual device by the name of its driver; either with arguments after a comma.
fn device_name(device: At<String>, findings: &mut Findings) -> Option<At<String>> {
    let text = &device.value;
    let name = text.split(',').next().unwrap_or_default();
    let is_driver = ["net_", "virtio_user"].iter().any(|driver| name.starts_with(driver))
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let message = if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        "a device holds no spaces or control characters".to_string()
    } else if is_pci_address(name) || is_driver {
        return Some(device);
    } else {
        format!(
            "\"{}\" is neither a PCI address nor a virtual device of DPDK",
            printable(name)
        )
    };
    findings.error(&device.span, message).help(
        "\"dpdk-devbind.py --status\" lists PCI addresses such as 0000:3b:00.0; the device of a kernel interface is net_af_xdp0,iface=NAME",
    );
    None
}

/// `domain:bus:device.function` in hexadecimal digits; the domain may be left out.
fn is_pci_address(text: &str) -> bool {
    let hex = |part: &str, most: usize| (1..=most).contains(&part.len()) && part.chars().all(|c| c.is_ascii_hexdigit());
    let is_place = |bus: &str, rest: &str| {
        let function = |function: &str| matches!(function.as_bytes(), [b'0'..=b'7']);
        hex(bus, 2)
            && rest
                .split_once('.')
                .is_some_and(|(device, last)| hex(device, 2) && function(last))
    };
    match text.split(':').collect::<Vec<_>>()[..] {
        [bus, rest] => is_place(bus, rest),
        [domain, bus, rest] => hex(domain, 8) && is_place(bus, rest),
        _ => false,
    }
}

impl PortEntry {
    /// The port, when all of it could be read.
    pub fn build(&self, source: &Source) -> Option<Port> {
        // Under DPDK the twin is called as the port when nothing else is said.
        let interface = self.interface.as_ref().or(self.name.as_ref())?.value.clone();
        let vlan = |entry: &VlanEntry| {
            let own = entry.interface.as_ref().map(|name| name.value.clone());
            Some(Vlan {
                id: u16::try_from(entry.id.as_ref()?.value).ok()?,
                interface: own.unwrap_or(interface.clone()),
            })
        };
        Some(Port {
            name: self.name.as_ref()?.value.clone(),
            vlans: self.vlans.iter().filter_map(vlan).collect(),
            interface: interface.clone(),
            device: self.device.as_ref().map(|device| device.value.clone()),
            mtu: u16::try_from(self.mtu.value).unwrap_or(u16::MAX),
            mode: self.mode.value,
            zero_copy: self.zero_copy.value,
            rss: self.rss,
            untagged: self.untagged,
            line: source.line_of(self.span.start),
        })
    }
}
