//! `[[service]]` and `[[service.server]]`

use ulvs_dataplane::address::{Address, Family};
use ulvs_dataplane::scheduler::SchedulerKind;
use ulvs_dataplane::service::{ClientAddress, ForwardingMethod, Persistence, SchedulerFlags, TunnelType};

use super::endpoint::{Endpoint, parse_endpoint, show_endpoint};
use super::name::parse_name;
use super::tunnel::parse_tunnel;
use crate::config::error::Findings;
use crate::config::model::{Protocol, RealServer, VirtualService};
use crate::config::names::{CLIENT_ADDRESSES, FlagWord, METHODS, PROTOCOLS, SCHEDULER_FLAGS, SCHEDULERS};
use crate::config::section::{At, Section};
use crate::config::source::{Source, Span};
use crate::origin::Origin;

/// A `[[service]]`, as far as it could be read.
#[derive(Debug)]
pub struct ServiceEntry {
    pub span: Span,
    /// False when something in it or in its servers could not be read.
    pub complete: bool,
    pub name: Option<At<String>>,
    pub protocol: Option<At<Protocol>>,
    /// The virtual addresses; each has a port.
    pub addresses: Vec<At<Endpoint>>,
    /// Whether that is all of them.
    pub addresses_readable: bool,
    pub scheduler: At<SchedulerKind>,
    pub flags: Vec<At<FlagWord>>,
    /// The default of its servers.
    pub method: Option<At<ForwardingMethod>>,
    pub local_pool: Option<At<String>>,
    /// False when `local_pool` is there but could not be read.
    pub local_pool_readable: bool,
    pub client_address: At<ClientAddress>,
    pub persistence_timeout: Option<At<u32>>,
    pub persistence_prefix_v4: At<u32>,
    pub persistence_prefix_v6: At<u32>,
    pub persistence_keeps_quiesced: bool,
    /// Where `one_packet = true` stands.
    pub one_packet: Option<Span>,
    pub servers: Vec<ServerEntry>,
}

/// A `[[service.server]]` whose address and method could be read.
#[derive(Debug)]
pub struct ServerEntry {
    pub span: Span,
    pub address: At<Endpoint>,
    pub weight: At<u32>,
    pub method: At<ForwardingMethod>,
    pub tunnel: TunnelType,
    pub upper_threshold: At<u32>,
    pub lower_threshold: At<u32>,
}

pub fn parse(section: &Section, findings: &mut Findings) -> ServiceEntry {
    let found_before = findings.len();
    let name = parse_name(section, findings);
    let texts = section.texts("address");
    let persistence_timeout = section.find_integer("persistence_timeout");
    let addresses: Vec<_> = texts
        .iter()
        .filter_map(|text| virtual_address(text, persistence_timeout.is_some(), findings))
        .collect();
    if let Some(list) = section
        .place("address")
        .filter(|list| list.given && section.complete && texts.is_empty())
    {
        findings
            .error(&list.span, "this service has no address")
            .help("write at least one: \"192.0.2.10:80\"");
    }
    let method = section.find_choice("method", &METHODS);
    let any_port = addresses.iter().find(|own: &&At<Endpoint>| own.value.port == Some(0));
    let any_port = any_port.map(|own| &own.span);
    let servers = section.sections("server").iter();
    let servers = servers
        .filter_map(|server| parse_server(server, section, method.as_ref(), any_port, findings))
        .collect();
    ServiceEntry {
        span: section.span.clone(),
        name,
        protocol: section.find_choice("protocol", &PROTOCOLS),
        addresses_readable: section.is_readable("address") && addresses.len() == texts.len(),
        addresses,
        scheduler: section.choice("scheduler", &SCHEDULERS),
        flags: section.texts("scheduler_flags").iter().filter_map(flag_word).collect(),
        method,
        local_pool: section.text("local_pool"),
        local_pool_readable: section.is_readable("local_pool"),
        client_address: section.choice("client_address", &CLIENT_ADDRESSES),
        persistence_timeout,
        persistence_prefix_v4: section.integer("persistence_prefix_v4"),
        persistence_prefix_v6: section.integer("persistence_prefix_v6"),
        persistence_keeps_quiesced: section.flag("persistence_keeps_quiesced"),
        one_packet: section
            .place("one_packet")
            .filter(|_| section.flag("one_packet"))
            .map(|at| at.span.clone()),
        servers,
        complete: section.complete && findings.len() == found_before,
    }
}

fn flag_word(text: &At<String>) -> Option<At<FlagWord>> {
    let (_, flag) = SCHEDULER_FLAGS.iter().find(|(word, _)| *word == text.value)?;
    Some(text.clone().map(|_| *flag))
}

/// As in IPVS, port 0 is "any port", for persistent services only.
fn virtual_address(text: &At<String>, is_persistent: bool, findings: &mut Findings) -> Option<At<Endpoint>> {
    let endpoint = parse_endpoint(text, "a virtual address", is_persistent, findings)?;
    if endpoint.value.port.is_none() {
        let message = format!("the virtual address {} has no port", endpoint.value.address);
        let example = show_endpoint(endpoint.value.address, 80);
        findings
            .error(&endpoint.span, message)
            .help(format!("write it with one: \"{example}\""));
        return None;
    }
    Some(endpoint)
}

fn parse_server(
    section: &Section,
    service: &Section,
    default_method: Option<&At<ForwardingMethod>>,
    any_port: Option<&Span>,
    findings: &mut Findings,
) -> Option<ServerEntry> {
    let address = parse_endpoint(&section.text("address")?, "a real server", any_port.is_some(), findings)?;
    if let (Some(any_port), Some(1..)) = (any_port, address.value.port) {
        findings
            .error(
                &address.span,
                "the servers of a service for all ports are sent to at the port that the client called",
            )
            .see(any_port, "port 0 stands for all ports")
            .help("leave the server's port out");
    }
    let method = section
        .find_choice("method", &METHODS)
        .or_else(|| default_method.cloned())?;
    let tunnel = parse_tunnel(section, service, &method, findings);
    Some(ServerEntry {
        span: section.span.clone(),
        address,
        weight: section.integer("weight"),
        method,
        tunnel,
        upper_threshold: section.integer("upper_threshold"),
        lower_threshold: section.integer("lower_threshold"),
    })
}

impl ServerEntry {
    /// Whether the server can serve a virtual address: one of its own family, and with TUN and FullNAT, where the packet to the
    /// server gets a header of its own, one of the other family as well.
    pub fn serves(&self, vip: Address) -> bool {
        let any_family = matches!(self.method.value, ForwardingMethod::Tunnel | ForwardingMethod::FullNat);
        any_family || self.address.value.address.family() == vip.family()
    }

    /// Its port for a virtual port.
    pub fn port_for(&self, virtual_port: u16) -> u16 {
        self.address
            .value
            .port
            .filter(|port| *port != 0)
            .unwrap_or(virtual_port)
    }

    fn build(&self, virtual_port: u16, source: &Source) -> RealServer {
        RealServer {
            address: self.address.value.address,
            port: self.port_for(virtual_port),
            weight: self.weight.value,
            method: self.method.value,
            tunnel: self.tunnel,
            upper_threshold: self.upper_threshold.value,
            lower_threshold: self.lower_threshold.value,
            origin: Origin::File,
            line: source.line_of(self.address.span.start),
        }
    }
}

/// The name of a service that was given none.
pub fn made_name(protocol: Protocol, address: Address, port: u16) -> String {
    format!("{protocol} {}", show_endpoint(address, port))
}

impl ServiceEntry {
    /// The virtual addresses with their ports and places.
    pub fn virtual_endpoints(&self) -> impl Iterator<Item = (Address, u16, &Span)> {
        self.addresses
            .iter()
            .map(|at| (at.value.address, at.value.port.unwrap_or(0), &at.span))
    }

    fn persistence(&self, address: Address) -> Option<Persistence> {
        let timeout = self.persistence_timeout.as_ref()?;
        let prefix_length = match address.family() {
            Family::V4 => self.persistence_prefix_v4.value,
            Family::V6 => self.persistence_prefix_v6.value,
        };
        Some(Persistence {
            timeout_s: timeout.value,
            prefix_length: prefix_length as u8,
            keeps_quiesced: self.persistence_keeps_quiesced,
        })
    }

    /// One service per virtual address, each with the servers that can serve it.
    pub fn build(&self, source: &Source) -> Vec<VirtualService> {
        let Some(protocol) = self.protocol.as_ref().map(|at| at.value) else {
            return Vec::new();
        };
        let scheduler_flags = self
            .flags
            .iter()
            .fold(SchedulerFlags::default(), |all, flag| SchedulerFlags {
                fallback: all.fallback || flag.value.sets.fallback,
                port: all.port || flag.value.sets.port,
            });
        let build_one = |(address, port, span): (Address, u16, &Span)| {
            let servers = self.servers.iter().filter(|server| server.serves(address));
            let made_name = || made_name(protocol, address, port);
            VirtualService {
                name: self.name.as_ref().map_or_else(made_name, |name| name.value.clone()),
                protocol,
                address,
                port,
                scheduler: self.scheduler.value,
                scheduler_flags,
                persistence: self.persistence(address),
                one_packet: self.one_packet.is_some(),
                local_pool: self.local_pool.as_ref().map(|pool| pool.value.clone()),
                client_address: self.client_address.value,
                servers: servers.map(|server| server.build(port, source)).collect(),
                origin: Origin::File,
                line: source.line_of(span.start),
            }
        };
        self.virtual_endpoints().map(build_one).collect()
    }
}
