//! Changes from the command line, made to a configuration: [`apply`] takes a running configuration and a list of changes and gives the
//! next one; [`merge`](merge::merge) says what becomes of them when the file is read again. Nothing here touches a running director.
//!
//! What can be refused, in which words: [`error`]; what this director cannot do yet: [`missing`], and nowhere else.

pub mod error;
mod local_addresses;
pub mod merge;
pub mod missing;
mod table;

#[cfg(test)]
mod tests;

use std::time::Duration;

use ulvs_dataplane::scheduler::SchedulerKind;
use ulvs_dataplane::service::{ClientAddress, ForwardingMethod, GueChecksum, Persistence, SchedulerFlags, TunnelType};

use crate::api::changes::{Change, ChangeFailure, ServerKey, ServerSettings, ServiceKey, ServiceSettings};
use crate::api::views::{Method, Protocol, TunnelChecksum, TunnelKind};
use crate::config::{self, Config, RealServer, VirtualService};
use crate::origin::Origin;

pub use error::ChangeError;
pub use table::{Key, Table};

/// What a list of changes comes to.
#[derive(Debug)]
pub struct Applied {
    /// The next configuration; `None` where nothing of it changes.
    pub config: Option<Config>,
    /// Whose counters are to be zeroed then: a service's, or all.
    pub zeroed: Vec<Option<Key>>,
    /// What was not made. With `atomic` one failure means that nothing was.
    pub failures: Vec<ChangeFailure>,
}

/// Makes `changes` one after the other to a copy of `running`.
pub fn apply(running: &Config, changes: &[Change], atomic: bool) -> Applied {
    let mut table = Table::new(running);
    let mut differs = false;
    let mut applied = Applied {
        config: None,
        zeroed: Vec::new(),
        failures: Vec::new(),
    };
    for (index, change) in changes.iter().enumerate() {
        let made = match change {
            Change::Zero { service } => table.zeroed(service.as_ref()).map(|key| applied.zeroed.push(key)),
            change => make(&mut table, change).map(|()| differs = true),
        };
        let Err(error) = made else { continue };
        applied.failures.push(ChangeFailure {
            index: index as u32,
            code: error.code(),
            message: error.to_string(),
        });
        if atomic {
            applied.zeroed.clear();
            return applied;
        }
    }
    applied.config = differs.then(|| table.into_config());
    applied
}

fn make(table: &mut Table, change: &Change) -> Result<(), ChangeError> {
    match change {
        Change::AddService { service, settings } => add_service(table, service, settings),
        Change::EditService { service, settings } => edit_service(table, service, settings),
        Change::DeleteService { service } => table.remove_service(service),
        Change::Flush => {
            table.flush();
            Ok(())
        }
        Change::AddServer {
            service,
            server,
            settings,
        } => add_server(table, service, server, settings),
        Change::EditServer {
            service,
            server,
            settings,
        } => edit_server(table, service, server, settings),
        Change::DeleteServer { service, server } => {
            let (key, listed) = table.service_of_server(service)?;
            let place = place_of(listed, server, None).ok_or(ChangeError::NoSuchDestination)?;
            table.remove_server(&key, place);
            Ok(())
        }
        Change::SetTimeouts {
            tcp_seconds,
            tcp_fin_seconds,
            udp_seconds,
        } => set_timeouts(table, [*tcp_seconds, *tcp_fin_seconds, *udp_seconds]),
        Change::AddLocalAddress { service, address } => local_addresses::add(table, service, *address),
        Change::DeleteLocalAddress { service, address } => local_addresses::delete(table, service, *address),
        Change::StartDaemon { .. } => Err(missing::DAEMON),
        Change::StopDaemon { .. } => Err(ChangeError::NoDaemon),
        // Changes no configuration.
        Change::Zero { .. } => Ok(()),
    }
}

/// What the settings of a service say, as the configuration holds it.
struct Scheduling {
    scheduler: SchedulerKind,
    flags: SchedulerFlags,
    one_packet: bool,
    persistence: Option<Persistence>,
}

impl Scheduling {
    fn read(service: &ServiceKey, settings: &ServiceSettings) -> Result<Scheduling, ChangeError> {
        let scheduler: SchedulerKind = settings.scheduler.parse().map_err(|_| ChangeError::NoScheduler)?;
        let mut flags = SchedulerFlags::default();
        for flag in &settings.scheduler_flags {
            let Some(sets) = config::scheduler_flag(scheduler, flag) else {
                let message = format!("the scheduler {scheduler} has no flag \"{flag}\"");
                return Err(ChangeError::Invalid(message));
            };
            flags.fallback |= sets.fallback;
            flags.port |= sets.port;
        }
        let is_udp = matches!(
            service,
            ServiceKey::Address {
                protocol: Protocol::Udp,
                ..
            } | ServiceKey::Fwmark { .. }
        );
        if settings.one_packet && !is_udp {
            let message = "one-packet scheduling (--ops) is for UDP services only";
            return Err(ChangeError::Invalid(message.to_owned()));
        }
        Ok(Scheduling {
            scheduler,
            flags,
            one_packet: settings.one_packet,
            persistence: persistence(service, settings)?,
        })
    }
}

fn persistence(service: &ServiceKey, settings: &ServiceSettings) -> Result<Option<Persistence>, ChangeError> {
    let Some(wanted) = settings.persistence else {
        return match service {
            ServiceKey::Address { port: 0, .. } => Err(ChangeError::Invalid(
                "a service for all ports (port 0) needs persistence (-p)".to_owned(),
            )),
            _ => Ok(None),
        };
    };
    let longest = match service {
        ServiceKey::Address { address, .. } if address.is_ipv4() => 32,
        ServiceKey::Fwmark { ipv6: false, .. } => 32,
        _ => 128,
    };
    let most = ulvs_dataplane::conn::timeouts::TIMEOUT_MAX_S;
    if !(1..=most).contains(&wanted.timeout_seconds) || !(1..=longest).contains(&wanted.prefix_length) {
        return Err(ChangeError::OutOfRange);
    }
    Ok(Some(Persistence {
        timeout_s: wanted.timeout_seconds,
        prefix_length: wanted.prefix_length,
        keeps_quiesced: false,
    }))
}

fn add_service(table: &mut Table, service: &ServiceKey, settings: &ServiceSettings) -> Result<(), ChangeError> {
    if table.find(service).is_some() {
        return Err(ChangeError::ServiceExists);
    }
    let scheduling = Scheduling::read(service, settings)?;
    missing::check_service(service, settings)?;
    let key = table.new_key(service)?;
    table.insert_service(VirtualService {
        name: config::made_name(key.protocol, key.address, key.port),
        protocol: key.protocol,
        address: key.address,
        port: key.port,
        scheduler: scheduling.scheduler,
        scheduler_flags: scheduling.flags,
        one_packet: scheduling.one_packet,
        persistence: scheduling.persistence,
        local_pool: None,
        client_address: ClientAddress::Hidden,
        servers: Vec::new(),
        origin: Origin::CommandLine,
        line: 0,
    })
}

/// As in the kernel, what is not given goes back to its default. What ipvsadm has no option for stays.
fn edit_service(table: &mut Table, service: &ServiceKey, settings: &ServiceSettings) -> Result<(), ChangeError> {
    let (_, listed) = table.find_mut(service).ok_or(ChangeError::NoSuchService)?;
    let scheduling = Scheduling::read(service, settings)?;
    missing::check_service(service, settings)?;
    if scheduling.scheduler == SchedulerKind::Mh {
        table::check_mh(listed.servers.len())?;
    }
    listed.scheduler = scheduling.scheduler;
    listed.scheduler_flags = scheduling.flags;
    listed.one_packet = scheduling.one_packet;
    let keeps_quiesced = listed.persistence.is_some_and(|before| before.keeps_quiesced);
    listed.persistence = scheduling.persistence.map(|new| Persistence { keeps_quiesced, ..new });
    edited(&mut listed.origin);
    Ok(())
}

fn add_server(
    table: &mut Table,
    service: &ServiceKey,
    server: &ServerKey,
    settings: &ServerSettings,
) -> Result<(), ChangeError> {
    let (key, listed) = table.service_of_server(service)?;
    check_server(listed, server, settings)?;
    let method = method(settings)?;
    if place_of(listed, server, Some(method)).is_some() {
        return Err(ChangeError::DestinationExists);
    }
    let new = RealServer {
        address: server.address.into(),
        port: port_of(listed, server, Some(method)),
        weight: settings.weight,
        method,
        tunnel: tunnel(settings)?,
        upper_threshold: settings.upper_threshold,
        lower_threshold: settings.lower_threshold,
        origin: Origin::CommandLine,
        line: 0,
    };
    table.check_server(&key, &new)?;
    table.insert_server(&key, new)
}

fn edit_server(
    table: &mut Table,
    service: &ServiceKey,
    server: &ServerKey,
    settings: &ServerSettings,
) -> Result<(), ChangeError> {
    let (key, listed) = table.service_of_server(service)?;
    check_server(listed, server, settings)?;
    let method = method(settings)?;
    let place = place_of(listed, server, Some(method)).ok_or(ChangeError::NoSuchDestination)?;
    let mut new = RealServer {
        weight: settings.weight,
        method,
        tunnel: tunnel(settings)?,
        upper_threshold: settings.upper_threshold,
        lower_threshold: settings.lower_threshold,
        ..listed.servers[place].clone()
    };
    edited(&mut new.origin);
    table.check_server(&key, &new)?;
    table.replace_server(&key, place, new);
    Ok(())
}

/// From the file, but no longer as it stands there.
fn edited(origin: &mut Origin) {
    if *origin == Origin::File {
        *origin = Origin::Edited;
    }
}

/// What needs no look at other services.
fn check_server(service: &VirtualService, server: &ServerKey, settings: &ServerSettings) -> Result<(), ChangeError> {
    // As `ip_vs_add_dest` and `ip_vs_edit_dest` do.
    if settings.lower_threshold > settings.upper_threshold {
        return Err(ChangeError::OutOfRange);
    }
    if settings.weight > config::MOST_WEIGHT {
        let message = format!("a weight is at most {} here", config::MOST_WEIGHT);
        return Err(ChangeError::Invalid(message));
    }
    let any_family = matches!(settings.method, Method::Tun | Method::Fullnat);
    if !any_family && server.address.is_ipv4() != service.address.is_v4() {
        let message = "only tun and fullnat forward between IPv4 and IPv6";
        return Err(ChangeError::Invalid(message.to_owned()));
    }
    config::usable_address(server.address, "a real server").map_err(ChangeError::Invalid)?;
    Ok(())
}

fn method(settings: &ServerSettings) -> Result<ForwardingMethod, ChangeError> {
    match settings.method {
        Method::Nat => Ok(ForwardingMethod::Nat),
        Method::Dr => Ok(ForwardingMethod::DirectRouting),
        Method::Tun => Ok(ForwardingMethod::Tunnel),
        Method::Fullnat => Ok(ForwardingMethod::FullNat),
        Method::Local => Err(missing::LOCAL),
    }
}

fn tunnel(settings: &ServerSettings) -> Result<TunnelType, ChangeError> {
    let Some(tunnel) = settings.tunnel.filter(|_| settings.method == Method::Tun) else {
        return Ok(TunnelType::Ipip);
    };
    let invalid = |sentence: &str| Err(ChangeError::Invalid(sentence.to_owned()));
    match (tunnel.kind, tunnel.checksum) {
        (TunnelKind::Ipip, _) => Ok(TunnelType::Ipip),
        (TunnelKind::Gue, _) if tunnel.port == 0 => invalid("gue needs the UDP port of the server's tunnel"),
        (TunnelKind::Gue, checksum) => Ok(TunnelType::Gue {
            port: tunnel.port,
            checksum: match checksum {
                TunnelChecksum::None => GueChecksum::None,
                TunnelChecksum::Full => GueChecksum::Full,
                TunnelChecksum::Remote => GueChecksum::Remote,
            },
        }),
        (TunnelKind::Gre, TunnelChecksum::Remote) => invalid("gre has no remote checksum"),
        (TunnelKind::Gre, checksum) => Ok(TunnelType::Gre {
            checksum: checksum == TunnelChecksum::Full,
        }),
    }
}

/// With DR and TUN the destination stays as the client wrote it: ipvsadm takes the service's port, whatever was given.
fn port_of(service: &VirtualService, server: &ServerKey, method: Option<ForwardingMethod>) -> u16 {
    let keeps_port = matches!(method, Some(ForwardingMethod::DirectRouting | ForwardingMethod::Tunnel));
    // A service for all ports leaves the client's.
    if keeps_port || server.port == 0 || service.port == 0 {
        service.port
    } else {
        server.port
    }
}

fn place_of(service: &VirtualService, server: &ServerKey, method: Option<ForwardingMethod>) -> Option<usize> {
    let (address, port) = (server.address.into(), port_of(service, server, method));
    let mut servers = service.servers.iter();
    servers.position(|own| own.address == address && own.port == port)
}

fn set_timeouts(table: &mut Table, seconds: [u32; 3]) -> Result<(), ChangeError> {
    let most = ulvs_dataplane::conn::timeouts::TIMEOUT_MAX_S;
    if seconds.iter().any(|seconds| *seconds > most) {
        return Err(ChangeError::OutOfRange);
    }
    let timeouts = table.timeouts();
    let places = [&mut timeouts.tcp, &mut timeouts.tcp_fin, &mut timeouts.udp];
    for (place, seconds) in places.into_iter().zip(seconds) {
        if seconds != 0 {
            *place = Duration::from_secs(seconds.into());
        }
    }
    Ok(())
}
