//! From a command line to what the director is asked to change.

use std::net::IpAddr;

use ulvs_control::api::changes::{Change, DaemonRole, ServerKey, ServerSettings, ServiceKey, ServiceSettings};
use ulvs_control::api::views::{Method, PersistenceView, TunnelChecksum, TunnelKind, TunnelView};

use super::arguments::Arguments;
use super::options::{Command, Opt};
use super::values;

/// `IP_VS_PERSISTENT_TIMEOUT`
const PERSISTENT_SECONDS: u32 = 360;

/// The change that a command line asks for; `None` for a command that changes nothing.
pub fn change(arguments: &Arguments) -> Option<Change> {
    let service = arguments.service.as_ref().and_then(ServiceKey::of);
    Some(match arguments.command {
        Command::AddService => Change::AddService {
            service: service?,
            settings: service_settings(arguments),
        },
        Command::EditService => Change::EditService {
            service: service?,
            settings: service_settings(arguments),
        },
        Command::DeleteService => Change::DeleteService { service: service? },
        Command::Clear => Change::Flush,
        Command::AddServer => Change::AddServer {
            service: service?,
            server: server(arguments)?,
            settings: server_settings(arguments),
        },
        Command::EditServer => Change::EditServer {
            service: service?,
            server: server(arguments)?,
            settings: server_settings(arguments),
        },
        Command::DeleteServer => Change::DeleteServer {
            service: service?,
            server: server(arguments)?,
        },
        Command::Zero => Change::Zero { service },
        Command::Set => {
            let mut seconds = arguments.plain.iter().map(|word| word.parse().unwrap_or(0));
            Change::SetTimeouts {
                tcp_seconds: seconds.next()?,
                tcp_fin_seconds: seconds.next()?,
                udp_seconds: seconds.next()?,
            }
        }
        Command::StartDaemon => Change::StartDaemon { role: role(arguments) },
        Command::StopDaemon => Change::StopDaemon { role: role(arguments) },
        Command::AddLocalAddress => Change::AddLocalAddress {
            service: service?,
            address: arguments.local_address?,
        },
        Command::DeleteLocalAddress => Change::DeleteLocalAddress {
            service: service?,
            address: arguments.local_address?,
        },
        Command::List
        | Command::Restore
        | Command::Save
        | Command::Help
        | Command::Version
        | Command::GetLocalAddresses => return None,
    })
}

fn role(arguments: &Arguments) -> DaemonRole {
    match arguments.role.as_deref() {
        Some("backup") => DaemonRole::Backup,
        _ => DaemonRole::Master,
    }
}

/// What is not given is what it is for a new service, also with `-E`.
fn service_settings(arguments: &Arguments) -> ServiceSettings {
    let flags = arguments.value(Opt::SchedulerFlags).unwrap_or_default();
    let flags = flags.split(',').filter(|flag| !flag.is_empty()).map(str::to_owned);
    ServiceSettings {
        scheduler: arguments.value(Opt::Scheduler).unwrap_or(values::SCHEDULER).to_owned(),
        scheduler_flags: flags.collect(),
        persistence: arguments.has(Opt::Persistent).then(|| persistence(arguments)),
        persistence_engine: arguments.value(Opt::PersistenceEngine).map(str::to_owned),
        one_packet: arguments.has(Opt::OnePacket),
    }
}

fn persistence(arguments: &Arguments) -> PersistenceView {
    let seconds = arguments.value(Opt::Persistent).and_then(|text| text.parse().ok());
    let is_ipv6 = arguments.service.as_ref().is_some_and(values::is_ipv6);
    let prefix_length = match arguments.value(Opt::Netmask) {
        Some(length) if is_ipv6 => length.parse().unwrap_or(128),
        Some(mask) => values::ipv4_number(mask).map_or(32, |mask| mask.leading_ones() as u8),
        None if is_ipv6 => 128,
        None => 32,
    };
    PersistenceView {
        timeout_seconds: seconds.unwrap_or(PERSISTENT_SECONDS),
        prefix_length,
    }
}

fn server(arguments: &Arguments) -> Option<ServerKey> {
    let (address, port): (IpAddr, u16) = arguments.server?;
    Some(ServerKey { address, port })
}

fn server_settings(arguments: &Arguments) -> ServerSettings {
    let number = |option, default| {
        let given = arguments.value(option).and_then(|text| text.parse().ok());
        given.unwrap_or(default)
    };
    let method = match arguments.value(Opt::ForwardingMethod) {
        Some("masquerading") => Method::Nat,
        Some("ipip") => Method::Tun,
        Some("fullnat") => Method::Fullnat,
        // As in ipvsadm, which has a default here.
        _ => Method::Dr,
    };
    ServerSettings {
        method,
        tunnel: (method == Method::Tun).then(|| tunnel(arguments)),
        weight: number(Opt::Weight, 1),
        upper_threshold: number(Opt::UpperThreshold, 0),
        lower_threshold: number(Opt::LowerThreshold, 0),
    }
}

fn tunnel(arguments: &Arguments) -> TunnelView {
    TunnelView {
        kind: match arguments.value(Opt::TunType) {
            Some("gue") => TunnelKind::Gue,
            Some("gre") => TunnelKind::Gre,
            _ => TunnelKind::Ipip,
        },
        port: arguments
            .value(Opt::TunPort)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0),
        checksum: if arguments.has(Opt::TunChecksum) {
            TunnelChecksum::Full
        } else if arguments.has(Opt::TunRemoteChecksum) {
            TunnelChecksum::Remote
        } else {
            TunnelChecksum::None
        },
    }
}
