//! What is nobody's packet: new configurations, connections that end, what servers carry.

use std::sync::Arc;

use super::Pipeline;
use crate::address::Address;
use crate::conn::connection::{ConnectionIndex, flag};
use crate::conn::wheel;
use crate::counters::Event;
use crate::io::Frame;
use crate::scheduler::SchedulerState;
use crate::service::{ServerSlot, Service, TunnelType};
use crate::snapshot::Snapshot;
use crate::time::Time;
use crate::tunables::Tunables;

/// Entries that housekeeping looks at per call: bounds the time that a burst can be late.
const EXPIRY_BUDGET: u32 = 128;

/// What a worker knows of a server beside the snapshot, by slot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ServerFacts {
    pub(super) is_available: bool,
    /// Weight 0.
    pub(super) is_quiesced: bool,
    pub(super) tunnel: TunnelType,
    pub(super) address: Address,
    pub(super) upper_threshold: u32,
    pub(super) lower_threshold: u32,
}

impl<F: Frame> Pipeline<F> {
    /// Takes a new configuration over and returns the one before. Called between bursts.
    pub fn adopt(&mut self, now: Time, snapshot: Arc<Snapshot>) -> Option<Arc<Snapshot>> {
        let old = self.snapshot.take();
        let (worker, workers) = (self.settings.worker, self.settings.steering.workers());
        for slot in old.iter().flat_map(|old| old.services.server_slots()) {
            self.servers[slot.0 as usize].is_available = false;
        }
        // A service that is gone, or whose slot has another one, takes what its scheduler remembers with it.
        for service in old.iter().flat_map(|old| old.services.iter()) {
            let now = snapshot.services.get(service.slot);
            if now.is_none_or(|now| !is_same_service(service, now)) {
                self.schedulers[service.slot.0 as usize] = None;
            }
        }
        for service in snapshot.services.iter() {
            let before = old.as_ref().and_then(|old| old.services.get(service.slot));
            let state = &mut self.schedulers[service.slot.0 as usize];
            match (before, state.as_mut()) {
                (Some(before), Some(_)) if Arc::ptr_eq(before, service) => {}
                // The same slot can hold another service by now; then the algorithm starts anew.
                (Some(before), Some(state)) if is_same_service(before, service) => {
                    state.update(before, service);
                    if SchedulerState::begins_anew(service) {
                        state.go_ahead(service, &self.loads, worker, workers);
                    }
                }
                _ => {
                    let state = state.insert(SchedulerState::new(service));
                    state.go_ahead(service, &self.loads, worker, workers);
                }
            }
            for server in &service.servers {
                self.servers[server.slot.0 as usize] = ServerFacts {
                    is_available: true,
                    is_quiesced: server.weight == 0,
                    tunnel: server.tunnel,
                    address: server.address,
                    upper_threshold: server.upper_threshold,
                    lower_threshold: server.lower_threshold,
                };
            }
        }
        self.pmtu_disc = snapshot.tunables.pmtu_disc;
        self.counters.generation.set(snapshot.generation);
        self.counters.event(Event::SnapshotsAdopted).add(1);
        self.snapshot = Some(snapshot);
        self.look_at_defences();
        self.retry_waiting(now);
        old
    }

    /// A bounded slice of work that is nobody's packet: expired connections, frames that waited too long.
    pub fn housekeeping(&mut self, now: Time) {
        let mut budget = EXPIRY_BUDGET;
        let tick = wheel::tick_of(now);
        while let Some(connection) = self.table.next_expired(tick, &mut budget) {
            if connection.is(flag::TEMPLATE) {
                self.counters.event(Event::TemplatesExpired).add(1);
                self.loads.get(connection.server_slot).close_template();
                continue;
            }
            self.counters.event(Event::ConnectionsExpired).add(1);
            self.forget(connection.server_slot, connection.is(flag::ACTIVE));
        }
        self.counters.connections.set(self.table.len() as u64);
        self.look_at_defences();
        self.expire_waiting(now);
    }

    /// What is in force by how full the table is.
    fn look_at_defences(&mut self) {
        let Some(snapshot) = &self.snapshot else { return };
        let (used, capacity) = (self.table.len(), self.table.capacity());
        self.secure_tcp = Tunables::is_in_force(snapshot.tunables.secure_tcp, used, capacity);
    }

    /// Ends a connection before its time.
    pub(super) fn end(&mut self, index: ConnectionIndex, event: Event) {
        let connection = self.table.remove(index);
        self.counters.event(event).add(1);
        self.forget(connection.server_slot, connection.is(flag::ACTIVE));
    }

    /// Takes a connection off its server's load.
    pub(super) fn forget(&mut self, slot: ServerSlot, was_active: bool) {
        let facts = self.servers[slot.0 as usize];
        self.loads
            .get(slot)
            .close(facts.upper_threshold, facts.lower_threshold, was_active);
    }
}

fn is_same_service(a: &Service, b: &Service) -> bool {
    (a.protocol, a.address, a.port, a.scheduler) == (b.protocol, b.address, b.port, b.scheduler)
}
