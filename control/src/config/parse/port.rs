//! `[[port]]`

use ulvs_dataplane::steering::RssFields;

use super::name::parse_name;
use crate::config::error::Findings;
use crate::config::model::{Port, PortMode, Vlan, ZeroCopy};
use crate::config::names::{PORT_MODES, RSS_FIELDS, ZERO_COPIES};
use crate::config::section::{At, Section};
use crate::config::source::{Source, Span};

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
    pub mode: PortMode,
    pub zero_copy: ZeroCopy,
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
    let vlans = section.sections("vlans").iter().map(|vlan| VlanEntry {
        id: vlan.find_integer("id"),
        interface: vlan.text("interface").and_then(|name| interface_name(name, findings)),
    });
    PortEntry {
        vlans: vlans.collect(),
        span: section.span.clone(),
        name: given_name.or_else(|| interface.clone()),
        interface,
        mode: section.choice("mode", &PORT_MODES).value,
        zero_copy: section.choice("zero_copy", &ZERO_COPIES).value,
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

impl PortEntry {
    /// The port, when all of it could be read.
    pub fn build(&self, source: &Source) -> Option<Port> {
        let interface = self.interface.as_ref()?.value.clone();
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
            mode: self.mode,
            zero_copy: self.zero_copy,
            rss: self.rss,
            untagged: self.untagged,
            line: source.line_of(self.span.start),
        })
    }
}
