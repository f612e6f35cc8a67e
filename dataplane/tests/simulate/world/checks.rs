//! What must always hold, whatever the packets are.

use std::collections::BTreeSet;

use ulvs_dataplane::conn::connection::flag;
use ulvs_dataplane::conn::key::Key;
use ulvs_dataplane::counters::Event;
use ulvs_dataplane::service::{ForwardingMethod, ServerSlot};
use ulvs_dataplane::time::Time;

use super::{Checked, SECOND, World, ensure};
use crate::plan::SERVERS;

impl World {
    /// Every frame ends in exactly one verdict.
    pub(super) fn check_verdicts(&mut self, number: usize) -> Checked {
        let counters = &self.counters[number];
        let received = counters.event(Event::Received).get() + counters.event(Event::RedirectedIn).get();
        let settled = counters.verdicts() + counters.held.get();
        ensure!(
            received == settled,
            "worker {number}: {received} frames, {settled} verdicts"
        );
        Ok(())
    }

    /// Loads and local ports agree with the tables.
    pub fn check_tables(&mut self) -> Checked {
        let slots = self.plan.services.len() * SERVERS;
        let mut active = vec![0; slots];
        let mut inactive = vec![0; slots];
        let mut keys = BTreeSet::new();
        let mut duplicate = None;
        let mut misplaced = None;
        for (number, worker) in self.workers.iter_mut().enumerate() {
            let table = worker.pipeline().table();
            let mut count = 0;
            let mut cursor = Some(0);
            while let Some(at) = cursor {
                cursor = table.scan(at, 7, |_place, connection| {
                    count += 1;
                    let slot = connection.server_slot.0 as usize;
                    let reply = connection.outbound_key();
                    let is_full_nat = connection.method == ForwardingMethod::FullNat;
                    if is_full_nat && usize::from(self.steering.owner_of_reply(&reply)) != number {
                        misplaced = Some((number, reply));
                    }
                    let side = if connection.is(flag::ACTIVE) {
                        &mut active
                    } else {
                        &mut inactive
                    };
                    side[slot] += 1;
                    let key = |key: Key| {
                        (
                            key.source,
                            key.destination,
                            key.source_port,
                            key.destination_port,
                            key.protocol,
                        )
                    };
                    let mut add = |own| {
                        if !keys.insert(key(own)) {
                            duplicate = Some(own);
                        }
                    };
                    add(connection.inbound_key());
                    if connection.has_outbound() {
                        add(connection.outbound_key());
                    }
                });
            }
            ensure!(count == table.len(), "{count} connections listed of {}", table.len());
        }
        ensure!(misplaced.is_none(), "replies that are another worker's: {misplaced:?}");
        ensure!(duplicate.is_none(), "two connections for one tuple: {duplicate:?}");
        for slot in 0..slots {
            let load = self.loads.get(ServerSlot(slot as u32));
            let counted = (load.active(), load.inactive());
            ensure!(
                counted == (active[slot], inactive[slot]),
                "server {slot}: load {counted:?}, connections {:?}",
                (active[slot], inactive[slot])
            );
        }
        Ok(())
    }

    /// No more frames from anybody: what is on the wire is lost, the workers empty their rings, and no frame is missing anywhere.
    pub fn check_pools(&mut self) -> Checked {
        self.wire.clear();
        for _ in 0..6 {
            for number in 0..self.workers.len() {
                self.turn(number)?;
            }
            self.wire.clear();
        }
        let mut owned = Vec::new();
        let mut is_any_empty = false;
        for (number, worker) in self.workers.iter_mut().enumerate() {
            let spare = worker.pipeline().output.spare.len();
            let held = self.counters[number].held.get() as usize;
            let pool = worker.io().pool_size();
            is_any_empty |= pool == 0;
            owned.push(pool + spare + held);
        }
        let (sum, all) = (owned.iter().sum::<usize>(), owned.len() * self.pool);
        ensure!(sum == all, "{sum} frames of {all}: {owned:?}");
        // A worker that holds all it has may still owe the others.
        let is_even = owned.iter().all(|&own| own == self.pool);
        ensure!(
            is_even || is_any_empty,
            "workers have {owned:?} frames of {} each",
            self.pool
        );
        Ok(())
    }

    /// All traffic stops and time passes: nothing is left.
    pub fn check_end(&mut self) -> Checked {
        self.check_pools()?;
        for _ in 0..30 {
            self.now = Time(self.now.0 + 61 * SECOND);
            for number in 0..self.workers.len() {
                self.turn(number)?;
            }
        }
        self.check_tables()?;
        for worker in &mut self.workers {
            let left = worker.pipeline().table().len();
            ensure!(left == 0, "{left} connections never ended");
        }
        self.check_pools()?;
        for (number, counters) in self.counters.iter().enumerate() {
            ensure!(counters.held.get() == 0, "worker {number} holds frames for ever");
            self.tally.stateless += counters.event(Event::StatelessForwarded).get();
            self.tally.redirected += counters.event(Event::RedirectedIn).get();
            self.tally.reused += counters.event(Event::ConnectionsReused).get();
            self.tally.expired += counters.event(Event::ConnectionsExpired).get();
        }
        let sum = |event| self.counters.iter().map(|own| own.event(event).get()).sum::<u64>();
        let (out, refused, taken) = (
            sum(Event::Redirected),
            sum(Event::RedirectFailed),
            sum(Event::RedirectedIn),
        );
        ensure!(
            out == refused + taken,
            "{out} frames redirected, {taken} taken over, {refused} refused"
        );
        Ok(())
    }
}
