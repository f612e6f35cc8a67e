//! Ports and VLANs.

use super::each_repeat;
use crate::config::error::Findings;
use crate::config::model::Backend;
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
        match entries.backend {
            Some(Backend::AfXdp) => check_for_af_xdp(port, findings),
            Some(Backend::Dpdk) => check_for_dpdk(port, findings),
            None => {}
        }
    }
    if entries.backend == Some(Backend::Dpdk) {
        repeated_devices(&entries.ports, findings);
    }
}

fn check_for_af_xdp(port: &PortEntry, findings: &mut Findings) {
    if port.interface.is_none() && port.interface_readable && findings.file_is_whole() {
        findings
            .error(&port.span, "[[port]] has no interface, which it needs")
            .help("for example: interface = \"eth0\"");
    }
    if let Some(device) = &port.device {
        findings
            .error(
                &device.span,
                "device is DPDK's word for a port; the backend is \"af_xdp\"",
            )
            .help("write backend = \"dpdk\" below [director], or remove device and keep interface");
    }
    if port.mtu.given {
        findings
            .warning(&port.mtu.span, "mtu is ignored: with af_xdp the MTU is the interface's")
            .help("ip link set dev INTERFACE mtu N");
    }
}

fn check_for_dpdk(port: &PortEntry, findings: &mut Findings) {
    if port.device.is_none() && port.device_readable && findings.file_is_whole() {
        findings
            .error(&port.span, "[[port]] has no device, which the backend \"dpdk\" needs")
            .help("for example: device = \"0000:3b:00.0\" (\"dpdk-devbind.py --status\" lists them), or \"net_af_xdp0,iface=eth0\"");
    }
    if port.interface.is_none() && port.name.is_none() && port.interface_readable && findings.file_is_whole() {
        findings
            .error(&port.span, "[[port]] has neither a name nor an interface")
            .help("for example: name = \"outside\"; the port's interface in the kernel is then called so too");
    }
    for (key, span, given) in [
        ("mode", &port.mode.span, port.mode.given),
        ("zero_copy", &port.zero_copy.span, port.zero_copy.given),
    ] {
        if given {
            findings
                .warning(span, format!("{key} is ignored: the backend is \"dpdk\""))
                .help("it is for af_xdp");
        }
    }
}

fn repeated_devices(ports: &[PortEntry], findings: &mut Findings) {
    let devices: Vec<_> = ports.iter().filter_map(|port| port.device.as_ref()).collect();
    let name = |device: &At<String>| {
        let name = device.value.split(',').next().unwrap_or_default().to_ascii_lowercase();
        // A PCI address without its domain is in domain 0.
        Some(if name.matches(':').count() == 1 {
            format!("0000:{name}")
        } else {
            name
        })
    };
    each_repeat(devices.iter().copied(), name, |again, first| {
        findings
            .error(&again.span, "two ports have the same device")
            .see(&first.span, "the first one is here")
            .help("virtual devices of one driver are told apart by a number: net_af_xdp0, net_af_xdp1");
    });
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
