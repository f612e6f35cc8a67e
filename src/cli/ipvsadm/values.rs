//! What the values of options may be, and which values go together. What ipvsadm accepts is accepted, even where it is odd.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ulvs_control::api::protocol::ServiceSelector;
use ulvs_control::api::views::Protocol;

use super::arguments::{Arguments, UsageError, rules};
use super::names;
use super::options::{Command, Opt};

/// A timeout is at most 31 days.
const TIMEOUT_SECONDS: RangeInclusive<u32> = 1..=31 * 24 * 3600;
/// `DEF_SCHED`
pub const SCHEDULER: &str = "wlc";

const INT_MAX: u32 = i32::MAX as u32;
/// The largest UDP payload in IPv4.
const SYNC_MESSAGE_BYTES: RangeInclusive<u32> = 1..=65_507;

/// Checks what `--start-daemon` and `--stop-daemon` are told to be.
pub fn check_role(command: Command, role: Option<&str>) -> Result<(), UsageError> {
    match (command, role) {
        (_, None | Some("master" | "backup")) => Ok(()),
        (Command::StopDaemon, _) => Err(rules("illegal start_daemon specified")),
        _ => Err(rules("illegal start-daemon parameter specified")),
    }
}

/// Checks a timeout of `--set`, where 0 leaves the timeout as it is.
pub fn check_timeout(value: &str) -> Result<(), UsageError> {
    let fits = value
        .parse()
        .is_ok_and(|seconds: u32| seconds <= *TIMEOUT_SECONDS.end());
    if fits {
        Ok(())
    } else {
        Err(rules(format!("invalid timeout value `{value}' specified")))
    }
}

/// Checks the value of one option, given the service that was named before it.
pub fn check(option: Opt, value: Option<&str>, service: Option<&ServiceSelector>) -> Result<(), UsageError> {
    let Some(value) = value else { return Ok(()) };
    let within = |range: RangeInclusive<u32>, name: &str| {
        let fits = value.parse().is_ok_and(|number: u32| range.contains(&number));
        if fits {
            Ok(())
        } else {
            Err(rules(format!("illegal {name} specified")))
        }
    };
    match option {
        Opt::Weight => within(0..=INT_MAX, "weight"),
        Opt::UpperThreshold => within(0..=INT_MAX, "u_threshold"),
        Opt::LowerThreshold => within(0..=INT_MAX, "l_threshold"),
        Opt::SyncId => within(0..=255, "syncid"),
        Opt::McastPort => within(1..=65_535, "mcast-port"),
        Opt::McastTtl => within(1..=255, "mcast-ttl"),
        Opt::SyncMaxLength => within(SYNC_MESSAGE_BYTES, "sync-maxlen"),
        Opt::TunPort => within(1..=65_535, "tunnel port"),
        Opt::TunType if !["ipip", "gue", "gre"].contains(&value) => Err(rules("illegal tunnel type specified")),
        Opt::Persistent if !value.parse().is_ok_and(|seconds| TIMEOUT_SECONDS.contains(&seconds)) => {
            Err(rules(format!("invalid timeout value `{value}' specified")))
        }
        Opt::Netmask if service.is_some_and(is_ipv6) => within(1..=128, "ipv6 netmask"),
        Opt::Netmask if ipv4_number(value).is_none() => Err(rules("illegal virtual server persistent mask specified")),
        _ => Ok(()),
    }
}

/// The server that `-r` names, given the service that was named before it.
pub fn server(value: &str, service: Option<&ServiceSelector>) -> Result<(IpAddr, u16), UsageError> {
    let protocol = match service {
        Some(ServiceSelector::Address {
            protocol: Some(protocol),
            ..
        }) => *protocol,
        _ => Protocol::Tcp,
    };
    endpoint(value, protocol).ok_or_else(|| rules("illegal real server address[:port] specified"))
}

/// The address that `-z` names.
pub fn local_address(value: &str) -> Result<IpAddr, UsageError> {
    names::host_address(value).ok_or_else(|| rules("illegal local address specified"))
}

/// Whether the service is one of IPv6.
pub fn is_ipv6(service: &ServiceSelector) -> bool {
    match service {
        ServiceSelector::Address { address, .. } => address.is_ipv6(),
        ServiceSelector::Fwmark { ipv6, .. } => *ipv6,
        ServiceSelector::Name(_) => false,
    }
}

/// An address as inet_aton(3) reads it: up to four decimal, octal or hexadecimal numbers, of which the last fills what is left.
pub fn ipv4_number(text: &str) -> Option<u32> {
    let parts: Vec<Option<u64>> = text.split('.').map(c_number).collect();
    let (last, first) = parts.split_last()?;
    let last_bits = 8 * 4_u32.checked_sub(first.len() as u32).filter(|bytes| *bytes > 0)?;
    let mut address = last.filter(|number| *number < 1 << last_bits)? as u32;
    for (part, shift) in first.iter().zip([24, 16, 8]) {
        address |= (part.filter(|number| *number < 256)? as u32) << shift;
    }
    Some(address)
}

fn c_number(text: &str) -> Option<u64> {
    let (digits, base) = if let Some(hexadecimal) = text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        (hexadecimal, 16)
    } else if text.len() > 1 && text.starts_with('0') {
        (text, 8)
    } else {
        (text, 10)
    };
    if digits.starts_with('+') {
        None
    } else {
        u64::from_str_radix(digits, base).ok()
    }
}

/// `host`, `host:port` or `[host]:port`, where a port may be a service's name and is 0 when it is left out.
pub fn endpoint(text: &str, protocol: Protocol) -> Option<(IpAddr, u16)> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some((address, 0));
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once("]:").map(|(host, port)| (host, Some(port)))?,
        None => text
            .split_once(':')
            .map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if port.is_none() && is_number(host) {
        // A port without a host, rather than the host 0.0.0.80.
        return None;
    }
    let port = port.map_or(Some(0), |port| names::port_number(port, protocol))?;
    // A name in brackets is that of an IPv6 address: `-S` writes it so.
    let address = match text.starts_with('[') {
        true => names::host_address_v6(host)?,
        false => names::host_address(host)?,
    };
    Some((address, port))
}

/// The flags of `-b`, given the scheduler of `-s`.
pub fn check_scheduler_flags(arguments: &Arguments) -> Result<(), UsageError> {
    let scheduler = arguments.value(Opt::Scheduler).unwrap_or(SCHEDULER);
    for flag in arguments
        .value(Opt::SchedulerFlags)
        .unwrap_or_default()
        .split(',')
        .filter(|flag| !flag.is_empty())
    {
        let of = match flag {
            "sh-fallback" | "sh-port" => "sh",
            "mh-fallback" | "mh-port" => "mh",
            "conhash-port" => "conhash",
            "flag-1" | "flag-2" | "flag-3" => scheduler,
            _ => return Err(rules(format!("invalid scheduler flag `{flag}'"))),
        };
        if of != scheduler {
            return Err(rules(format!("incompatible scheduler flag `{flag}'")));
        }
    }
    Ok(())
}

/// What must fit together beyond the table of options.
pub fn check_together(arguments: &Arguments) -> Result<(), UsageError> {
    match arguments.command {
        Command::AddService | Command::EditService => check_service(arguments),
        Command::AddServer | Command::EditServer => check_server(arguments),
        _ => Ok(()),
    }
}

fn check_service(arguments: &Arguments) -> Result<(), UsageError> {
    let Some(ServiceSelector::Address { protocol, port, .. }) = &arguments.service else {
        return Ok(());
    };
    if *port == Some(0) && !arguments.has(Opt::Persistent) {
        return Err(rules("Zero port specified for non-persistent service"));
    }
    if arguments.has(Opt::OnePacket) && *protocol != Some(Protocol::Udp) {
        return Err(rules("One-Packet Scheduling is only for UDP virtual services"));
    }
    Ok(())
}

const TUNNEL_OPTIONS: [Opt; 5] = [
    Opt::TunType,
    Opt::TunPort,
    Opt::TunNoChecksum,
    Opt::TunChecksum,
    Opt::TunRemoteChecksum,
];

fn check_server(arguments: &Arguments) -> Result<(), UsageError> {
    let method = arguments.value(Opt::ForwardingMethod);
    let tunnelled = method == Some("ipip");
    let any_family = tunnelled || method == Some("fullnat");
    let server_is_ipv6 = arguments.server.is_some_and(|(address, _)| address.is_ipv6());
    if !any_family
        && arguments
            .service
            .as_ref()
            .is_some_and(|service| is_ipv6(service) != server_is_ipv6)
    {
        return Err(rules("Different address family is allowed only for tunneling servers"));
    }
    if !tunnelled && TUNNEL_OPTIONS.iter().any(|option| arguments.has(*option)) {
        return Err(rules("Tunnel options conflict with forward method"));
    }
    check_tunnel(arguments, arguments.value(Opt::TunType).unwrap_or("ipip"))
}

/// GUE needs its port; GUE and GRE take at most one way of checksumming, and GRE has no remote one.
fn check_tunnel(arguments: &Arguments, kind: &str) -> Result<(), UsageError> {
    let checksums: &[Opt] = match kind {
        "gue" => &[Opt::TunNoChecksum, Opt::TunChecksum, Opt::TunRemoteChecksum],
        "gre" => &[Opt::TunNoChecksum, Opt::TunChecksum],
        _ => &[],
    };
    let mut chosen = None;
    for option in &TUNNEL_OPTIONS[1..] {
        let name = option.name();
        let has_port = *option == Opt::TunPort && kind == "gue";
        if !arguments.has(*option) {
            if has_port {
                return Err(rules(format!(
                    "You need to supply the '{name}' option for the '{kind}' tunnel type"
                )));
            }
        } else if checksums.contains(option) {
            if let Some(first) = chosen.replace(name) {
                let message =
                    format!("The option '{name}' conflicts with the '{first}' option in the '{kind}' tunnel type");
                return Err(rules(message));
            }
        } else if !has_port {
            return Err(rules(format!("Illegal '{name}' option with the '{kind}' tunnel type")));
        }
    }
    Ok(())
}
