//! Persistence: which server a client stays with. A template in the connection table says so; it lives for as long as connections that came of it, and for its
//! timeout after the last one was opened.

use super::{Context, Pipeline};
use crate::conn::connection::{Connection, ConnectionIndex, flag};
use crate::conn::key::Key;
use crate::conn::state::{ConnectionState, TemplateState};
use crate::conn::wheel;
use crate::counters::Event;
use crate::io::Frame;
use crate::service::{Persistence, Server, Service, protocol};

/// What a persistent service says of a new connection.
pub(super) enum Stay<'a> {
    /// The server, and the template that says so.
    With(&'a Server, ConnectionIndex),
    /// No server can take the client.
    NoServer,
    /// There is no room for a template.
    TableFull,
}

/// The key of the template for a client's packet: what all packets of the client and its network have in common.
fn template_key(service: &Service, persistence: &Persistence, packet: &Key) -> Key {
    Key {
        source: packet.source.masked(persistence.prefix_length),
        source_port: 0,
        destination: packet.destination,
        destination_port: service.port,
        protocol: Connection::template_protocol(packet.protocol),
    }
}

impl<F: Frame> Pipeline<F> {
    /// The server that the client stays with; if it has none, or none that it can stay with, the one that the scheduler picks now.
    pub(super) fn stay<'a>(
        &mut self,
        context: &Context<'a>,
        service: &'a Service,
        persistence: &Persistence,
        key: &Key,
    ) -> Stay<'a> {
        let expires = wheel::tick_of(context.now).wrapping_add(wheel::ticks_of_seconds(persistence.timeout_s));
        let template_key = template_key(service, persistence, key);
        let found = self.table.find(self.table.hash(&template_key), &template_key);
        let found = found.map(|(index, _)| index);
        if let Some(index) = found {
            self.table.set_expiry(index, expires);
            if let Some(server) = self.kept(service, persistence, index) {
                return Stay::With(server, index);
            }
        }
        let Some(server) = self.pick(context.now, service, key) else {
            return Stay::NoServer;
        };
        let index = match found {
            Some(index) => self.move_template(index, service, server),
            None => {
                let template = template(service, server, &template_key, expires);
                let Ok(index) = self.table.insert(template) else {
                    return Stay::TableFull;
                };
                self.counters.event(Event::TemplatesOpened).add(1);
                index
            }
        };
        self.loads.get(server.slot).open_template();
        Stay::With(server, index)
    }

    /// The template's server, if clients still stay with it. As in the kernel an overloaded one keeps them.
    fn kept<'a>(&self, service: &'a Service, persistence: &Persistence, index: ConnectionIndex) -> Option<&'a Server> {
        let template = self.table.get(index);
        if template.service_slot != service.slot {
            return None;
        }
        let server = service.servers.iter().find(|own| own.slot == template.server_slot)?;
        (server.weight > 0 || persistence.keeps_quiesced).then_some(server)
    }

    /// Gives a template another server. Its place stays, since the connections of the server before know it by that.
    fn move_template(&mut self, index: ConnectionIndex, service: &Service, server: &Server) -> ConnectionIndex {
        let template = self.table.get_mut(index);
        let before = template.server_slot;
        template.server = server.address;
        template.server_port = server.port;
        template.server_slot = server.slot;
        template.service_slot = service.slot;
        template.method = server.method;
        self.loads.get(before).close_template();
        index
    }

    /// A connection that came of a template is established (the kernel's `ip_vs_control_assure_ct`).
    #[cold]
    pub(super) fn assure(&mut self, template: ConnectionIndex) {
        self.table.get_mut(template).state = TemplateState::Assured.into();
    }
}

fn template(service: &Service, server: &Server, key: &Key, expires: u32) -> Connection {
    // UDP has no packet by which a connection becomes established.
    let state = match service.protocol {
        protocol::UDP => TemplateState::Assured,
        _ => TemplateState::None,
    };
    Connection {
        client: key.source,
        virtual_address: key.destination,
        virtual_port: key.destination_port,
        server: server.address,
        server_port: server.port,
        protocol: key.protocol,
        method: server.method,
        state: ConnectionState::from(state),
        flags: flag::TEMPLATE,
        expires,
        server_slot: server.slot,
        service_slot: service.slot,
        control: 0,
        ..Connection::default()
    }
}
