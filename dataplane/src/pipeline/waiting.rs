//! Frames that wait: for a neighbour's MAC, or for the first fragment of their datagram. Few and not for long; each goes through from the top again.

use super::Pipeline;
use crate::address::Address;
use crate::conn::fragments::DatagramKey;
use crate::counters::Event;
use crate::io::{BURST, Frame, PortIndex};
use crate::snapshot::{InterfaceIndex, RouteLookup};
use crate::time::Time;
use crate::verdict::{DropReason, Verdict};

/// Frames of each kind that can wait at once.
pub const HELD_LIMIT: usize = 256;
/// Frames that can wait for one neighbour, so that a dead one does not take all places.
const PER_NEIGHBOUR: usize = 32;
/// The kernel gives up on a neighbour after three requests a second apart.
const NEIGHBOUR_PATIENCE: Time = Time::from_secs(3);
/// A first fragment that was only reordered comes within this.
const FRAGMENT_PATIENCE: Time = Time::from_millis(500);

#[derive(Debug)]
struct Held<F, K> {
    frame: F,
    port: PortIndex,
    key: K,
    deadline: Time,
    is_ready: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Waiting<F> {
    neighbours: Vec<Held<F, (InterfaceIndex, Address)>>,
    fragments: Vec<Held<F, DatagramKey>>,
    has_ready: bool,
    again: Vec<F>,
}

impl<F> Waiting<F> {
    pub(super) fn new() -> Waiting<F> {
        Waiting {
            neighbours: Vec::with_capacity(HELD_LIMIT),
            fragments: Vec::with_capacity(HELD_LIMIT),
            has_ready: false,
            again: Vec::with_capacity(BURST),
        }
    }

    /// Marks the datagram's later fragments as ready to go.
    pub(super) fn first_fragment_came(&mut self, datagram: &DatagramKey) {
        for held in self.fragments.iter_mut().filter(|held| held.key == *datagram) {
            held.is_ready = true;
            self.has_ready = true;
        }
    }

    fn len(&self) -> usize {
        self.neighbours.len() + self.fragments.len()
    }
}

impl<F: Frame> Pipeline<F> {
    pub(super) fn await_neighbour(
        &mut self,
        frame: F,
        port: PortIndex,
        interface: InterfaceIndex,
        address: Address,
        now: Time,
    ) {
        let key = (interface, address);
        let waiting = &mut self.waiting.neighbours;
        let ahead = waiting.iter().filter(|held| held.key == key).count();
        if waiting.len() >= HELD_LIMIT || ahead >= PER_NEIGHBOUR {
            self.counters.count(Verdict::Drop(DropReason::UnresolvedQueueFull));
            return self.output.free.push(frame);
        }
        waiting.push(Held {
            frame,
            port,
            key,
            deadline: now + NEIGHBOUR_PATIENCE.0,
            is_ready: false,
        });
        self.counters.held.set(self.waiting.len() as u64);
        if ahead == 0 {
            self.ask_for(key);
        }
    }

    /// Has control ask the kernel to resolve a neighbour.
    fn ask_for(&mut self, key: (InterfaceIndex, Address)) {
        if self.output.resolve.len() < BURST {
            self.output.resolve.push(key);
            self.counters.event(Event::NeighbourRequests).add(1);
        }
    }

    pub(super) fn await_first_fragment(&mut self, frame: F, port: PortIndex, datagram: DatagramKey, now: Time) {
        if self.waiting.fragments.len() >= HELD_LIMIT {
            self.counters.count(Verdict::Drop(DropReason::FragmentQueueFull));
            return self.output.free.push(frame);
        }
        let deadline = now + FRAGMENT_PATIENCE.0;
        self.waiting.fragments.push(Held {
            frame,
            port,
            key: datagram,
            deadline,
            is_ready: false,
        });
        self.counters.held.set(self.waiting.len() as u64);
    }

    /// Sends what waited for a neighbour that the new routes know, or for one that is not the way any more.
    pub(super) fn retry_waiting(&mut self, now: Time) {
        let Some(snapshot) = self.snapshot.as_ref() else { return };
        let routes = &snapshot.routes;
        for held in &mut self.waiting.neighbours {
            let (interface, address) = held.key;
            let is_known = routes.neighbour(interface, &address).is_some();
            let is_elsewhere = !matches!(routes.find(&address), RouteLookup::Unresolved(own, _) if own == interface);
            held.is_ready = is_known || is_elsewhere;
            self.waiting.has_ready |= held.is_ready;
        }
        self.release_ready(now);
    }

    /// Lets frames that are ready through again, each by itself: they come from different ports.
    pub fn release_ready(&mut self, now: Time) {
        if !self.waiting.has_ready {
            return;
        }
        self.waiting.has_ready = false;
        let mut again = std::mem::take(&mut self.waiting.again);
        // Nothing ready is added while this runs: what has to wait again is pushed with `is_ready` false, behind `at`.
        let mut at = 0;
        while at < self.waiting.neighbours.len() {
            if self.waiting.neighbours[at].is_ready {
                let held = self.waiting.neighbours.remove(at);
                again.push(held.frame);
                self.run(now, held.port, &mut again);
            } else {
                at += 1;
            }
        }
        let mut at = 0;
        while at < self.waiting.fragments.len() {
            if self.waiting.fragments[at].is_ready {
                let held = self.waiting.fragments.remove(at);
                again.push(held.frame);
                self.run(now, held.port, &mut again);
            } else {
                at += 1;
            }
        }
        self.waiting.again = again;
        self.counters.held.set(self.waiting.len() as u64);
    }

    /// Drops what waited too long.
    pub(super) fn expire_waiting(&mut self, now: Time) {
        self.release_ready(now);
        // Both queues are in order of arrival, so the first one is the oldest.
        while self.waiting.neighbours.first().is_some_and(|held| held.deadline <= now) {
            let held = self.waiting.neighbours.remove(0);
            // The kernel has given up too. While packets go on coming the queue never empties, so this is where it is asked again.
            let is_wanted = self.waiting.neighbours.iter().any(|other| other.key == held.key);
            if is_wanted && !self.output.resolve.contains(&held.key) {
                self.ask_for(held.key);
            }
            self.give_up(held.frame, DropReason::Unresolved);
        }
        while self.waiting.fragments.first().is_some_and(|held| held.deadline <= now) {
            let held = self.waiting.fragments.remove(0);
            self.give_up(held.frame, DropReason::FragmentTimeout);
        }
    }

    fn give_up(&mut self, frame: F, reason: DropReason) {
        self.counters.count(Verdict::Drop(reason));
        self.output.free.push(frame);
        self.counters.held.set(self.waiting.len() as u64);
    }
}
