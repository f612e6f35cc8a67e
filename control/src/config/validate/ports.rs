//! Ports and VLANs.

use super::each_repeat;
use crate::config::error::Findings;
use crate::config::parse::{Entries, PortEntry};
use crate::config::section::At;

pub fn check(entries: &Entries, findings: &mut Findings) {
    if entries.ports.is_empty() && entries.ports_readable && findings.file_is_whole() {
        findings
            .error(
                &(0..0),
                "this file has no [[port]], so there is nothing to receive packets on",
            )
            .help("add a [[port]] with the interface to work on, for example: interface = \"eth0\"");
    }
    repeated_names(&entries.ports, findings);
    repeated_interfaces(&entries.ports, findings);
    for port in &entries.ports {
        check_vlans(port, findings);
    }
}

fn repeated_names(ports: &[PortEntry], findings: &mut Findings) {
    let names: Vec<_> = ports.iter().filter_map(|port| port.name.as_ref()).collect();
    // Two ports of one interface without names of their own: the repeated interface is told, that is enough.
    let same_interface = |again: &At<String>| {
        let place = |port: &&PortEntry| port.interface.as_ref().is_some_and(|at| at.span == again.span);
        ports.iter().any(|port| place(&port))
    };
    each_repeat(
        names.iter().copied(),
        |name| Some(name.value.clone()),
        |again, first| {
            if !(same_interface(again) && same_interface(first)) {
                let message = format!("two ports are named \"{}\"", again.value);
                findings
                    .error(&again.span, message)
                    .see(&first.span, "the first one is here");
            }
        },
    );
}

fn repeated_interfaces(ports: &[PortEntry], findings: &mut Findings) {
    let mut all = Vec::new();
    for port in ports {
        all.extend(&port.interface);
        // A VLAN may use the interface of its own port: that is its default.
        let own = port.interface.as_ref().map(|interface| &interface.value);
        let of_vlans = port.vlans.iter().filter_map(|vlan| vlan.interface.as_ref());
        all.extend(of_vlans.filter(|interface| Some(&interface.value) != own));
    }
    each_repeat(
        all.iter().copied(),
        |interface| Some(interface.value.clone()),
        |again, first| {
            let message = format!("the interface {} is used twice", again.value);
            findings
                .error(&again.span, message)
                .see(&first.span, "it is used here first")
                .help("an interface belongs to one port, or to one VLAN of one port");
        },
    );
}

fn check_vlans(port: &PortEntry, findings: &mut Findings) {
    let ids: Vec<_> = port.vlans.iter().filter_map(|vlan| vlan.id.as_ref()).collect();
    each_repeat(
        ids.iter().copied(),
        |id| Some(id.value),
        |again, first| {
            let message = format!("VLAN {} is listed twice", again.value);
            findings
                .error(&again.span, message)
                .see(&first.span, "it is listed here first");
        },
    );
    if !port.untagged && port.vlans.is_empty() && port.complete && findings.file_is_whole() {
        findings
            .error(
                &port.span,
                "this port takes no frames: neither untagged ones nor those of any VLAN",
            )
            .help("set untagged = true, or list VLANs");
    }
}
