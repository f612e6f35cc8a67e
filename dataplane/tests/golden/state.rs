//! Everything that a director shows of itself, and what of it changed.

use std::collections::BTreeMap;

use ulvs_dataplane::conn::connection::{Connection, flag};
use ulvs_dataplane::conn::state::ProtocolState;
use ulvs_dataplane::conn::wheel;
use ulvs_dataplane::counters::{Counters, Event};
use ulvs_dataplane::pipeline::Pipeline;
use ulvs_dataplane::service::{ForwardingMethod, Loads, protocol};
use ulvs_dataplane::time::Time;
use ulvs_dataplane::verdict::{DropReason, PuntReason, ReplyKind};

use crate::config::Director;

/// One look at all workers.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// By name, all workers together.
    counters: BTreeMap<(usize, String), u64>,
    /// By server: counters and connections.
    servers: BTreeMap<(String, &'static str), u64>,
    /// Tuple, and the rest of the entry.
    connections: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    text: String,
    expires: u32,
    shown: String,
}

impl State {
    /// Takes a worker's part in.
    pub fn add<F: ulvs_dataplane::io::Frame>(&mut self, director: &Director, pipeline: &Pipeline<F>, now: Time) {
        let counters = pipeline.counters();
        self.add_counters(counters);
        for (slot, name) in director.servers() {
            let traffic = counters.server(slot);
            let fields = [
                ("connections", &traffic.connections),
                ("packets_in", &traffic.packets_in),
                ("packets_out", &traffic.packets_out),
                ("bytes_in", &traffic.bytes_in),
                ("bytes_out", &traffic.bytes_out),
            ];
            for (field, counter) in fields {
                *self.servers.entry((name.clone(), field)).or_default() += counter.get();
            }
        }
        pipeline.table().scan(0, usize::MAX / 64, |_, connection| {
            let left = wheel::seconds_until(connection.expires, wheel::tick_of(now));
            let text = describe(connection);
            let shown = format!("{text}, {left} s");
            let entry = Entry {
                text,
                expires: connection.expires,
                shown,
            };
            self.connections.insert(tuple(connection), entry);
        });
    }

    /// Takes the loads in, which workers share.
    pub fn add_loads(&mut self, director: &Director, loads: &Loads) {
        for (slot, name) in director.servers() {
            let load = loads.get(slot);
            *self.servers.entry((name.clone(), "active")).or_default() += u64::from(load.active());
            *self.servers.entry((name.clone(), "inactive")).or_default() += u64::from(load.inactive());
            *self.servers.entry((name.clone(), "templates")).or_default() += u64::from(load.templates());
            *self.servers.entry((name, "overloaded")).or_default() += u64::from(load.is_overloaded());
        }
    }

    fn add_counters(&mut self, counters: &Counters) {
        let mut add = |group: usize, name: String, value: u64| {
            *self.counters.entry((group, name)).or_default() += value;
        };
        for (at, event) in Event::ALL.iter().enumerate() {
            add(at, event.name().to_owned(), counters.event(*event).get());
        }
        for reason in DropReason::ALL {
            add(100, format!("drop.{}", reason.name()), counters.dropped(*reason).get());
        }
        for reason in PuntReason::ALL {
            add(101, format!("punt.{}", reason.name()), counters.punt(*reason).get());
        }
        for kind in ReplyKind::ALL {
            add(102, format!("reply.{}", kind.name()), counters.reply(*kind).get());
        }
        add(103, "connections".to_owned(), counters.connections.get());
        add(104, "held".to_owned(), counters.held.get());
    }

    /// The lines that tell what is different now.
    pub fn changes_since(&self, before: &State) -> Vec<String> {
        let mut lines = Vec::new();
        for (tuple, entry) in &self.connections {
            let old = before.connections.get(tuple);
            if old.is_none_or(|old| (&old.text, old.expires) != (&entry.text, entry.expires)) {
                lines.push(format!("connection {tuple}: {}", entry.shown));
            }
        }
        for tuple in before
            .connections
            .keys()
            .filter(|tuple| !self.connections.contains_key(*tuple))
        {
            lines.push(format!("connection {tuple}: gone"));
        }
        let mut servers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for ((server, field), value) in &self.servers {
            let old = before.servers.get(&(server.clone(), *field)).copied().unwrap_or(0);
            if old != *value {
                servers
                    .entry(server)
                    .or_default()
                    .push(format!("{field} {}", change(old, *value)));
            }
        }
        for (server, fields) in servers {
            lines.push(format!("server {server}: {}", fields.join(", ")));
        }
        let mut counted = Vec::new();
        for (key, value) in &self.counters {
            let old = before.counters.get(key).copied().unwrap_or(0);
            if old != *value {
                counted.push(format!("{} {}", key.1, change(old, *value)));
            }
        }
        if !counted.is_empty() {
            lines.push(format!("counted {}", counted.join(", ")));
        }
        lines
    }
}

fn change(old: u64, new: u64) -> String {
    if new >= old {
        format!("+{}", new - old)
    } else {
        format!("-{}", old - new)
    }
}

fn at(address: &ulvs_dataplane::address::Address, port: u16) -> std::net::SocketAddr {
    std::net::SocketAddr::new((*address).into(), port)
}

fn tuple(connection: &Connection) -> String {
    let name = match connection.ip_protocol() {
        protocol::TCP => "tcp",
        protocol::SCTP => "sctp",
        _ => "udp",
    };
    let client = at(&connection.client, connection.client_port);
    format!(
        "{name} {client} > {}",
        at(&connection.virtual_address, connection.virtual_port)
    )
}

fn describe(connection: &Connection) -> String {
    let local = match connection.method {
        ForwardingMethod::FullNat => format!("{} > ", at(&connection.local, connection.local_port)),
        _ => String::new(),
    };
    let method = match connection.method {
        ForwardingMethod::Nat => "nat",
        ForwardingMethod::DirectRouting => "dr",
        ForwardingMethod::Tunnel => "tunnel",
        ForwardingMethod::FullNat => "fullnat",
    };
    let state = match connection.state.protocol_state() {
        ProtocolState::Tcp(state) => state.name(),
        ProtocolState::Udp(state) => state.name(),
        ProtocolState::Sctp(state) => state.name(),
        ProtocolState::Template(state) => state.name(),
    };
    let known = if connection.is(flag::CLIENT_ADDRESS_KNOWN) {
        ", client address known"
    } else {
        ""
    };
    if connection.is(flag::TEMPLATE) {
        let server = at(&connection.server, connection.server_port);
        return format!("template of {} {method} {server}, {state}", connection.control);
    }
    format!(
        "{method} {local}{}, {state}{known}",
        at(&connection.server, connection.server_port)
    )
}
